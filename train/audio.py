"""Train a model of sound: python -m train.audio --help"""

from jaxgen.commands.train import script

if __name__ == "__main__":
    script("audio")
