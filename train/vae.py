"""Train an autoencoder: python -m train.vae --help"""

from jaxgen.commands.train import train

if __name__ == "__main__":
    train("vae")
