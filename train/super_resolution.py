"""Train a net that enlarges pictures: python -m train.super_resolution --help"""

from jaxgen.commands.train import train

if __name__ == "__main__":
    train("super_resolution")
