"""Train an image classifier: python -m train.classifier --help"""

from jaxgen.commands.train import script

if __name__ == "__main__":
    script("classifier")
