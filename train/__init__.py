"""The training scripts: python -m train.gan, and so on."""

import sys

from jaxgen.training.huge_pages import use_huge_pages

if sys.argv[0] == "-m":  # Python is looking for the script that it was asked for
    use_huge_pages()
