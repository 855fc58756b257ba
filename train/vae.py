"""Train an autoencoder: python -m train.vae --help"""

from jaxgen.commands.train import script

if __name__ == "__main__":
    script("vae")
