"""Train a diffusion or flow model: python -m train.diffusion --help"""

from jaxgen.commands.train import train

if __name__ == "__main__":
    train("diffusion")
