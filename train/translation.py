"""Train an image-to-image translation model: python -m train.translation --help"""

from jaxgen.commands.train import script

if __name__ == "__main__":
    script("translation")
