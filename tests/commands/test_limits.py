"""Images that are too large are refused from their headers: --max-pixels, and --memory of commands."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxgen.commands.translate import ImageTranslator
from jaxgen.core.errors import InputError
from tests.helpers.photo_samples import save, smooth


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # set back at the end
    monkeypatch.chdir(tmp_path)
    return save(tmp_path / "a.png", smooth(20, 30))


COMMANDS = {
    "restore": ("restore", "a.png", "--with", "bicubic"),
    "compose": ("compose", "a.png", "a.png", "--how", "paste", "--out", "o.png"),
    "extend": ("extend", "a.png", "--tile"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_memory_is_checked_from_the_header(file, cli, monkeypatch, command):
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("pixels were decoded"))
    printed = cli(2, *COMMANDS[command], "--memory", "1e-6")
    assert "a.png is 20x30: it needs" in printed and "more than --memory 1e-06." in printed


def test_a_translation_checks_its_memory_from_the_header(file, monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda *_: pytest.fail("pixels were decoded"))
    few: Any = SimpleNamespace(memory=1e-6)
    with pytest.raises(InputError, match=r"a\.png is 20x30: it needs .* more than --memory 1e-06\."):
        ImageTranslator.process(few, file, file)


@pytest.mark.parametrize("given", [("--max-pixels", "599"), ("--max-pixels=599",), ("--max_pixels", "599")])
def test_pixels_are_limited_by_an_option_of_all_commands(file, cli, given):
    words = "a.png can't be read: it has more than 599 pixels, and only a larger --max-pixels allows them."
    assert words in cli(2, *COMMANDS["extend"], *given)
    cli(0, *COMMANDS["compose"], "--max-pixels", "600")
    assert np.asarray(Image.open("o.png")).shape == (20, 30, 3)


@pytest.mark.parametrize("value", ["0", "-1", "many", "1e9", ""])
def test_a_limit_is_a_number(file, cli, value):
    assert "--max-pixels must be a number of pixels" in cli(2, *COMMANDS["extend"], "--max-pixels", value)
    assert "--max-pixels must be a number of pixels" in cli(2, "train.gan", "--max-pixels", value)
