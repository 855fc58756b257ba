"""The training scripts: python -m train.gan, and so on. `python -m jaxgen train gan` is the same."""
