"""Train an autoregressive model: python -m train.autoregressive --help"""

from jaxgen.commands.train import script

if __name__ == "__main__":
    script("autoregressive")
