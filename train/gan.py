"""Train a generative adversarial network: python -m train.gan --help"""

from jaxgen.commands.train import script

if __name__ == "__main__":
    script("gan")
