"""Train a video model: python -m train.video --help"""

from jaxgen.commands.train import script

if __name__ == "__main__":
    script("video")
