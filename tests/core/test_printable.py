"""No text of a file reaches a terminal as an instruction to it."""

import io
import sys

from rich.console import Console

from jaxgen.core.printable import Printable, printable


def test_hidden_characters_are_shown_as_escapes():
    assert printable("a\x1b[2J\r\n\x9b\u202e\u2028\udcff") == r"a\x1b[2J\r\n\x9b\u202e\u2028\udcff"
    for text in ("plain", "Grün und 日本", "no\xa0break", "\U0001f600"):
        assert printable(text) == text
    assert printable("a\n\tb\r", "\n\t") == "a\n\tb\\r"


def test_what_is_printed_is_printable_in_the_streams_encoding(monkeypatch):
    for code, shown in (("utf-8", "ü"), ("ascii", r"\xfc")):
        raw = io.TextIOWrapper(io.BytesIO(), code, newline="")
        monkeypatch.setattr(sys, "stdout", Printable(raw))
        print("ü\x1b]0;title\x07", "\udcff", sep="\n", flush=True)
        sys.stdout.writelines(["\x1b"])
        sys.stdout.flush()
        raw.seek(0)
        assert raw.read() == shown + r"\x1b]0;title\x07" + "\n" + r"\udcff" + "\n" + r"\x1b", code


def test_rich_keeps_its_colours(monkeypatch):
    raw = io.StringIO()
    monkeypatch.setattr(sys, "stdout", Printable(raw))
    Console(force_terminal=True, color_system="standard").print("[red]x")
    assert "\x1b[31m" in raw.getvalue()
