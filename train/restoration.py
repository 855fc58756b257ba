"""Train an image restoration model: python -m train.restoration --help"""

from jaxgen.commands.train import script

if __name__ == "__main__":
    script("restoration")
