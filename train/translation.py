"""Train a translator of pictures into pictures: python -m train.translation --help"""

from jaxgen.command import train

if __name__ == "__main__":
    train("translation")
