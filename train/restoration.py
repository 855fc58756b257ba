"""Train a restorer of pictures: python -m train.restoration --help"""

from jaxgen.commands.train import train

if __name__ == "__main__":
    train("restoration")
