"""Train a translator of pictures into pictures: python -m train.translation --help"""

from jaxgen.commands.train import train

if __name__ == "__main__":
    train("translation")
