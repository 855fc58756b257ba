"""Train an image classifier: python -m train.classifier --help"""

from jaxgen.commands.train import train

if __name__ == "__main__":
    train("classifier")
