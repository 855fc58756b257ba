"""Train a model of motion: python -m train.motion --help"""

from jaxgen.commands.train import script

if __name__ == "__main__":
    script("motion")
