"""Train a super-resolution model: python -m train.super_resolution --help"""

from jaxgen.commands.train import script

if __name__ == "__main__":
    script("super_resolution")
