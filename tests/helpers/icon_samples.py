"""Small sets of icons in the iconify format, and what they show by value."""

import json
import lzma
from pathlib import Path
from typing import Any

import pytest

RED, BLUE, WHITE, BLACK = (255, 0, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
LEFT_RED = '<path fill="red" d="M0 0h8v16H0z"/>'  # the left half of a box of 16x16
CORNER = '<path fill="red" d="M0 0h8v8H0z"/><path fill="#00f" d="M8 0h8v4H8z"/>'  # equal to none of its turns and flips

needs_resvg = pytest.mark.skipif(
    not __import__("importlib.util").util.find_spec("resvg_py"), reason="resvg-py is not installed"
)


def filled(colour: str) -> str:
    """Return the body of an icon whose box of 16x16 is filled."""
    return f'<path fill="{colour}" d="M0 0h16v16H0z"/>'


def write_set(path: Path, icons: dict[str, Any], **more: Any) -> Path:
    """Write a set of icons, given as bodies or as objects, with boxes of 16x16; packed if the path ends in .xz."""
    entries = {name: {"body": icon} if isinstance(icon, str) else icon for name, icon in icons.items()}
    data = json.dumps({"prefix": "x", "icons": entries, "width": 16, "height": 16, **more}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lzma.compress(data) if path.suffix == ".xz" else data)
    return path
