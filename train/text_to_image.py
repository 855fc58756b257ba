"""Train a text-to-image model: python -m train.text_to_image --help"""

from jaxgen.commands.train import script

if __name__ == "__main__":
    script("text_to_image")
