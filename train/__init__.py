"""The training scripts, such as python -m train.gan. `python -m jaxgen train gan` does the same."""

import sys

if sys.argv[:1] == ["-m"]:  # a script is about to start, and its imports take seconds
    from jaxgen.core.interruption import stop_in_words

    stop_in_words()
