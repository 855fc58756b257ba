"""Texts that a user gives to a model, as its tokens."""

import sys
from collections.abc import Sequence

import numpy as np

from jaxgen.core import paths
from jaxgen.core.capabilities import Transform
from jaxgen.core.class_names import listed
from jaxgen.core.errors import InputError
from jaxgen.core.spec import ArraySpec
from jaxgen.core.task import Task
from jaxgen.data.tokeniser import Tokeniser
from jaxgen.tasks.denoising import NEGATIVE

MOST = 100_000  # texts in a file


def text_input(task: Task) -> tuple[str, ArraySpec] | None:
    """Return the name and the spec of the text that a model makes images of; None where it takes none."""
    transform = task.find(Transform)
    inputs = {name: transform.inputs[name] for name in transform.required} if transform else {}
    return next(((name, spec) for name, spec in inputs.items() if spec.kind == "tokens" and spec.names), None)


def text_tokens(task: Task, texts: Sequence[str], negative: str | None = None) -> dict[str, np.ndarray]:
    """Return texts as the inputs of a model: {name: i32[k n]}, and `negative` as i32[1 n].

    Prints a sentence on texts that are cut and on unknown characters. Raises InputError for a model without texts.
    """
    if (found := text_input(task)) is None:
        raise InputError("This model takes no text: it needs one that was trained with captions (train.text_to_image).")
    name, spec = found
    made = {name: tokens_of(texts, spec)} if texts else {}
    if negative is None:
        return made
    if f"{NEGATIVE}{name}" not in task.get(Transform).inputs:
        raise InputError("This model takes no negative text.")
    return {**made, f"{NEGATIVE}{name}": tokens_of([negative], spec)}


def tokens_of(texts: Sequence[str], spec: ArraySpec) -> np.ndarray:
    """Return the tokens of texts, i32[k n], by the vocabulary of a spec."""
    tokeniser, (length,) = Tokeniser(spec.names), spec.shape
    assert isinstance(length, int)
    counts = [len(tokeniser.numbers(text)) for text in texts]
    if longer := [text for text, count in zip(texts, counts, strict=True) if count > length]:
        first = Tokeniser(spec.names).text(tokeniser.row(longer[0], length))
        more = f", and {len(longer) - 1} more" if len(longer) > 1 else ""
        print(f"The text is longer than the model's {length} tokens; it sees {first!r}{more}.", file=sys.stderr)
    strange = list(dict.fromkeys(character for text in texts for character in tokeniser.unknown(text)))
    if strange:
        print(f"No caption that the model learned from has the characters {listed(strange)}.", file=sys.stderr)
    return np.stack([tokeniser.row(text, length) for text in texts])


def lines_of(texts: Sequence[str]) -> list[str]:
    """Return texts, the lines of a file in place of its name if it ends in .txt. Raises InputError for one without."""
    found = []
    for text in texts:
        path = paths.path(text)
        if not text.endswith(".txt"):
            found.append(text)
            continue
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"The texts {path} can't be read: {getattr(error, 'strerror', None) or error}.") from error
        if not any(line.strip() for line in lines):
            raise InputError(f"{path} has no lines.")
        if len(lines) > MOST:
            raise InputError(f"{path} has {len(lines):,} lines; at most {MOST:,} can be drawn at once.")
        found += [line for line in lines if line.strip()]
    return found
