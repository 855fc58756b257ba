"""Train a generative adversarial network: python -m train.gan --help"""

from jaxgen.commands.train import train

if __name__ == "__main__":
    train("gan")
