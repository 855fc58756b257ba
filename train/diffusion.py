"""Train a diffusion or flow model: python -m train.diffusion --help"""

from jaxgen.commands.train import script

if __name__ == "__main__":
    script("diffusion")
