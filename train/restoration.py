"""Train a restorer of pictures: python -m train.restoration --help"""

from jaxgen.commands.train import script

if __name__ == "__main__":
    script("restoration")
