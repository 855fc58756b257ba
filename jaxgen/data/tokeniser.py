"""Text as numbers: a byte-pair tokeniser made of the training set's own captions.

The vocabulary is a list of strings, and all that a run keeps: entry 0 is no text, entry 1 an unknown character, then
come the characters and the merged pairs in the order in which they were found (Sennrich et al. 2016, "Neural Machine
Translation of Rare Words with Subword Units"). A word is merged as its pairs come first in that list, so that frequent
words are one token. Words are lower case; a token that begins a word begins with a space.
"""

import functools
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from jaxgen.core.errors import InputError

PAD, UNKNOWN = "<pad>", "<unknown>"  # tokens 0 and 1; no text is all 0
WORD = re.compile(r"[^\W_]+|[^\w\s]|_")  # a word, or one sign


def words_of(text: str) -> list[str]:
    """Return the words and signs of a text, lower case, each with the space before it."""
    return [f" {word}" for word in WORD.findall(unicodedata.normalize("NFKC", text).lower())]


def vocabulary_of(texts: Iterable[str], count: int) -> tuple[str, ...]:
    """Return at most `count` tokens for texts: all their characters, and pairs merged by their frequency.

    The most frequent characters come first; a pair must occur twice. Equal texts in another order give an equal
    vocabulary. Raises InputError where there is no text at all.
    """
    frequency = Counter(word for text in texts for word in words_of(text))
    if not frequency:
        raise InputError("All captions are empty: there is no text to learn.")
    characters: Counter[str] = Counter()
    for word, times in frequency.items():
        for symbol in word:
            characters[symbol] += times
    known = [PAD, UNKNOWN, *sorted(characters, key=lambda symbol: (-characters[symbol], symbol))][: max(count, 2)]
    split = {word: list(word) for word in frequency}
    while len(known) < count:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, symbols in split.items():
            for pair in itertools.pairwise(symbols):
                pairs[pair] += frequency[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair), default=None)
        if best is None or pairs[best] < 2:
            break
        split = {word: _merged(symbols, best) for word, symbols in split.items()}
        if (new := "".join(best)) not in known:
            known.append(new)
    return tuple(known)


class Tokeniser:
    """Texts to tokens and back, by a vocabulary."""

    def __init__(self, vocabulary: Sequence[str]):
        self.vocabulary = tuple(vocabulary)
        self.number = {token: i for i, token in enumerate(self.vocabulary)}
        self._of_word = functools.lru_cache(maxsize=65536)(self._merge)

    def numbers(self, text: str) -> list[int]:
        """Return the tokens of a text, as many as it needs."""
        return [number for word in words_of(text) for number in self._of_word(word)]

    def row(self, text: str, length: int) -> np.ndarray:
        """Return the tokens of a text i32[length], cut or filled up with 0."""
        found = self.numbers(text)[:length]
        return np.asarray(found + [0] * (length - len(found)), np.int32)

    def text(self, tokens: Sequence[int] | np.ndarray) -> str:
        """Return the text of tokens; the inverse of `row` but for case, spaces and unknown characters."""
        kept = [int(token) for token in tokens if token]
        return "".join(self.vocabulary[i] if i < len(self.vocabulary) else UNKNOWN for i in kept).strip()

    def unknown(self, text: str) -> list[str]:
        """Return the characters of a text that no training text had, in order, each once."""
        return list(dict.fromkeys(symbol for symbol in "".join(words_of(text)) if symbol not in self.number))

    def _merge(self, word: str) -> tuple[int, ...]:
        symbols, number = list(word), self.number
        while len(symbols) > 1:
            pairs = itertools.pairwise(symbols)
            rank, i = min((number.get(a + b, len(number)), i) for i, (a, b) in enumerate(pairs))
            if rank == len(number):
                break
            symbols = [*symbols[:i], symbols[i] + symbols[i + 1], *symbols[i + 2 :]]
        return tuple(number.get(symbol, 1) for symbol in symbols)


def _merged(symbols: list[str], pair: tuple[str, str]) -> list[str]:
    found, i = [], 0
    while i < len(symbols):
        if i + 1 < len(symbols) and (symbols[i], symbols[i + 1]) == pair:
            found.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            found.append(symbols[i])
            i += 1
    return found
