"""Text that a terminal can be trusted with: names in archives, folders and weight files come from strangers."""

import unicodedata
from typing import Any

# Control and format characters, such as terminal escapes and changes of direction; halves of characters, which stand
# for bytes that are no UTF-8; separators of lines and paragraphs.
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def printable(text: str, keep: str = "") -> str:
    """Return a text with hidden characters as escapes such as \\x1b, except those to keep."""
    if text.isprintable():
        return text
    return "".join(x if x in keep or unicodedata.category(x) not in HIDDEN else ascii(x)[1:-1] for x in text)


class Printable:
    """A text stream that shows hidden characters as escapes, and so those that its encoding lacks.

    Rich's tables and progress bars go to the stream itself, in colours: Rich looks for `rich_proxied_file`.
    """

    def __init__(self, stream: Any):
        self.rich_proxied_file = stream

    def write(self, text: str) -> int:
        """Write a text, and return its length."""
        stream = self.rich_proxied_file
        code = getattr(stream, "encoding", None) or "utf-8"
        stream.write(printable(text, "\n\t").encode(code, "backslashreplace").decode(code))
        return len(text)

    def writelines(self, lines: Any):
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)
