"""Train a restorer of pictures: python -m train.restoration --help"""

from jaxgen.command import train

if __name__ == "__main__":
    train("restoration")
