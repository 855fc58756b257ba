"""Train a model of a scene: python -m train.rendering --help"""

from jaxgen.commands.train import script

if __name__ == "__main__":
    script("rendering")
