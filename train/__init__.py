"""The training scripts, such as python -m train.gan. `python -m jaxgen train gan` does the same."""
