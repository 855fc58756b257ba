"""Drawing of SVGs that strangers made: no file is read, a crash or a long drawing costs one image."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxgen.core.errors import InputError
from jaxgen.data import svg
from jaxgen.data.icon_sets import BOX, svg_of
from tests.helpers.icon_samples import BLACK, BLUE, CORNER, LEFT_RED, RED, WHITE, filled, needs_resvg

pytestmark = needs_resvg


def drawn(*bodies: str) -> list:
    """Return the images u8[16 16 3] of icons, or why they can't be drawn."""
    found = svg.draw([svg_of({"body": body, **BOX}, 16, 16) for body in bodies])
    return [x.fault or np.asarray(Image.open(io.BytesIO(x.png))) for x in found]


def test_colours_transparency_and_grounds_by_value():
    half, clear, own, grey = drawn(
        LEFT_RED, '<path fill="#00f" fill-opacity=".5" d="M0 0h16v16H0z"/>', filled("currentColor"), filled("#808080")
    )
    assert half.shape == (16, 16, 3) and half.dtype == np.uint8
    assert (half[:, :8] == RED).all() and (half[:, 8:] == WHITE).all()
    assert (clear[..., 2] == 255).all() and (abs(clear[..., :2].astype(int) - 127.5) < 1).all()
    assert (own == BLACK).all() and (grey == 128).all()


def test_the_aspect_ratio_is_kept_and_the_icon_centred():
    icon = {"body": '<path fill="red" d="M2 3h16v8H2z"/>', "left": 2, "top": 3, "width": 16, "height": 8}
    image, wide = (
        np.asarray(Image.open(io.BytesIO(x.png))) for x in svg.draw([svg_of(icon, 16, 16), svg_of(icon, 8, 32)])
    )
    assert (image[4:12] == RED).all() and (image[:4] == WHITE).all() and (image[12:] == WHITE).all()
    assert wide.shape == (8, 32, 3) and (wide[:, 8:24] == RED).all() and (wide[:, :8] == WHITE).all()


@pytest.mark.parametrize("left", [0, -3])
def test_flips_come_before_turns(left):
    moves = [(h, v, r) for h in (0, 1) for v in (0, 1) for r in (0, 1, 2, 3, 5)]
    box = {**BOX, "left": left, "top": 2}
    icon = {"body": f'<g transform="translate({left} 2)">{CORNER}</g>', **box}
    svgs = [svg_of({**icon, "hFlip": bool(h), "vFlip": bool(v), "rotate": r}, 16, 16) for h, v, r in moves]
    images = [np.asarray(Image.open(io.BytesIO(x.png))) for x in svg.draw(svgs)]
    plain = images[0]
    assert (plain[:8, :8] == RED).all() and (plain[:4, 8:] == BLUE).all() and (plain[8:] == WHITE).all()
    for (h, v, r), image in zip(moves, images, strict=True):
        moved = plain[:, ::-1] if h else plain
        moved = moved[::-1] if v else moved
        assert np.array_equal(image, np.rot90(moved, -r)), f"hFlip {h}, vFlip {v}, rotate {r}: clockwise"


def test_a_turned_icon_keeps_its_aspect_ratio():
    icon = {"body": '<path fill="red" d="M1 2h16v4H1z"/>', "left": 1, "top": 2, "width": 16, "height": 8}
    for turns, columns in ((1, slice(8, 12)), (3, slice(4, 8))):
        [one] = svg.draw([svg_of({**icon, "rotate": turns}, 16, 16)])
        image = np.asarray(Image.open(io.BytesIO(one.png)))
        assert (image[:, columns] == RED).all() and (image == RED).all(2).sum() == 64


def test_no_file_is_read(tmp_path):
    import resvg_py

    path = tmp_path / "secret.png"
    Image.new("RGB", (4, 4), "red").save(path)
    frame = 'width="16" height="16"'
    direct = f'<image href="{path}" {frame}/>'
    icon = svg_of({"body": direct, **BOX}, 16, 16)
    with Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=icon)))) as image:
        assert image.convert("RGB").getpixel((8, 8)) == RED, "resvg itself does read it: what follows can fail"
    bodies = {
        "plain": direct,
        "address": f'<image xlink:href="file://{path}" {frame}/>',
        "prefix": f'<s:image xmlns:s="http://www.w3.org/2000/svg" href="{path}" {frame}/>',
        "filter": f'<filter id="f"><feImage href="{path}"/></filter><path filter="url(#f)" d="M0 0h16v16H0z"/>',
    }
    for name, fault in zip(bodies, drawn(*(body + LEFT_RED for body in bodies.values())), strict=True):
        assert isinstance(fault, str) and "could read files" in fault, name
    style = f'<style>@import url("{path}");</style><use href="{path}#a"/>'
    [image, plain] = drawn(style + LEFT_RED, LEFT_RED)
    assert np.array_equal(image, plain), "neither a style nor <use> reads it"


def test_faults_are_sentences_and_cost_one_image():
    bodies = [
        "<path",
        "</svg><svg>",
        "&e;",
        "<g/>",
        '<text y="9">words</text>',
        "<g>" * 1000 + LEFT_RED + "</g>" * 1000,
    ]
    *faults, image = drawn(*bodies, LEFT_RED)
    words = ["not XML", "not XML", "not XML", "draws nothing", "draws nothing", "the renderer crashes"]
    for fault, part in zip(faults, words, strict=True):
        assert part in fault and "\n" not in fault
    assert (image[:, :8] == RED).all(), "after a crash the process is started again"


def test_an_svg_that_takes_too_long_is_given_up(monkeypatch):
    monkeypatch.setattr(svg, "SECONDS", 1)
    noise = '<filter id="f"><feTurbulence baseFrequency=".1" numOctaves="100000000"/></filter>'
    slow, quick = drawn(f'{noise}<path filter="url(#f)" d="M0 0h16v16H0z"/>', LEFT_RED)
    assert slow == "drawing it takes too long" and not isinstance(quick, str)


def test_a_renderer_that_is_missing_or_does_not_start_is_named(monkeypatch, tmp_path):
    broken = tmp_path / "resvg_py.py"
    broken.write_text("raise ImportError('no such symbol')")
    with monkeypatch.context() as patched:
        patched.setenv("PYTHONPATH", str(tmp_path))
        with pytest.raises(InputError, match="does not work: its process ended with status 1"):
            drawn(LEFT_RED)

    def missing(name):
        raise svg.importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(svg.importlib.metadata, "version", missing)
    with pytest.raises(InputError, match=r"pip install jaxgen\[emoji\]"):
        drawn(LEFT_RED)
