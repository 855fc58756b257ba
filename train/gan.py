"""Train a generative adversarial network: python -m train.gan --help"""

from jaxgen.command import train

if __name__ == "__main__":
    train("gan")
