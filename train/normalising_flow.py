"""Train a normalising flow: python -m train.normalising_flow --help"""

from jaxgen.commands.train import script

if __name__ == "__main__":
    script("normalising_flow")
