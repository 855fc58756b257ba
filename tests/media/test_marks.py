"""Marks and XMP in every format: written without a change of pixels, read by Pillow, merged with a photo's own."""

import ast
import io
import zlib
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

import jaxgen
from jaxgen.media import containers, frames, image_grid, marks, photo, xmp
from jaxgen.media.animation import save_animation
from jaxgen.media.audio import save_wav
from jaxgen.media.marks import Mark
from tests.helpers.image_formats import chunk

MARK = Mark(marks.DRAWN, "dcgan", "ab" * 32, 3)
WHOLE = [suffix for suffix in photo.WRITTEN if suffix not in (".bmp", ".jpeg", ".tiff")]
SAID = {
    marks.SOURCE: marks.TERMS + marks.DRAWN,
    "xmp:CreatorTool": marks.SOFTWARE,
    "jaxgen:Software": marks.SOFTWARE,
    "jaxgen:Preset": "dcgan",
    "jaxgen:WeightsSHA256": "ab" * 32,
    "jaxgen:Seed": "3",
}


@pytest.fixture(autouse=True)
def marks_are_wanted(monkeypatch):
    monkeypatch.setattr(marks, "wanted", True)  # set back at the end


def noise(*shape: int, bits: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 2**bits, shape).astype(np.uint16 if bits == 16 else np.uint8)


def packet_in(path: Path) -> bytes | None:
    with path.open("rb") as file:
        return containers.read_xmp(file)


def said(path: Path) -> dict[str, str]:
    packet = packet_in(path)
    return {} if packet is None else xmp.texts(packet)


def by_pillow(path: Path) -> dict:
    """Return the properties that Pillow's parser finds, by their names without namespaces."""
    with Image.open(path) as image:
        image.load()
        return image.getxmp()["xmpmeta"]["RDF"]["Description"]


@pytest.mark.parametrize("suffix", WHOLE)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_mark_changes_no_pixel(suffix, bits, channels, tmp_path):
    values, like = noise(37, 41, channels, bits=bits), photo.Photo(np.zeros((4, 4, 3), np.float32))
    colour, alpha = (values[..., :-1], values[..., -1:]) if channels in (2, 4) else (values, None)
    a, b = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    photo.write(a, colour, like, alpha, mark=None)
    photo.write(b, colour, like, alpha, mark=MARK)
    ours, theirs = photo.read(b), photo.read(a)
    np.testing.assert_array_equal(ours.pixels, theirs.pixels)
    np.testing.assert_array_equal(ours.alpha, theirs.alpha) if alpha is not None else None
    with Image.open(a) as plain, Image.open(b) as marked:
        assert plain.mode == marked.mode and plain.size == marked.size
        np.testing.assert_array_equal(np.asarray(plain), np.asarray(marked))
    assert 0 < b.stat().st_size - a.stat().st_size < 2000
    assert said(b) == SAID and not said(a)
    found = by_pillow(b)
    assert found["DigitalSourceType"] == marks.TERMS + marks.DRAWN and found["WeightsSHA256"] == "ab" * 32
    first = b.read_bytes()
    photo.write(b, colour, like, alpha, mark=MARK)
    assert b.read_bytes() == first, "no date, no random name"


def test_animations_keep_their_frames(tmp_path):
    values = [noise(20, 30, 3) // (i + 1) for i in range(3)]
    a, b = tmp_path / "a.gif", tmp_path / "b.gif"
    save_animation(a, values, 10, None)
    save_animation(b, values, 10, MARK)
    assert said(b) == SAID and not said(a)
    with Image.open(a) as plain, Image.open(b) as marked:
        assert getattr(marked, "n_frames", 1) == 3 and marked.info["loop"] == plain.info["loop"] == 0
        for i in range(3):
            plain.seek(i)
            marked.seek(i)
            assert marked.info["duration"] == plain.info["duration"]
            np.testing.assert_array_equal(np.asarray(marked.convert("RGB")), np.asarray(plain.convert("RGB")))


@pytest.mark.parametrize("suffix", frames.SUFFIXES.values())
def test_an_animated_photo_is_marked_as_a_whole(suffix, tmp_path):
    first, *rest = [Image.fromarray(noise(20, 30, 3) // (i + 1)) for i in range(3)]
    given, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    more: dict[str, Any] = {"lossless": True} if suffix == ".webp" else {}
    first.save(given, save_all=True, append_images=rest, duration=50, **more)

    def work(file: Path, out: Path):
        read = photo.read(file)
        photo.write(out, photo.quantised(read.pixels, 8), read, mark=MARK)

    frames.by_frames(given, target, lambda path: [path], work)
    assert said(target) == SAID
    with Image.open(given) as before, Image.open(target) as after:
        assert getattr(after, "n_frames", 1) == 3
        for i in range(3):
            before.seek(i)
            after.seek(i)
            np.testing.assert_array_equal(np.asarray(after.convert("RGB")), np.asarray(before.convert("RGB")))
    again = tmp_path / f"c{suffix}"
    frames.by_frames(target, again, lambda path: [path], lambda file, out: rewritten(file, out))
    assert said(again) == SAID, "the source's own mark is kept where no net has a part"


def rewritten(file: Path, out: Path, mark: Mark | None = None):
    read = photo.read(file)
    photo.write(out, photo.quantised(read.pixels, 8), read, mark=mark)


def test_videos_sounds_and_arrays(tmp_path):
    import av

    save_animation(tmp_path / "a.mp4", [noise(16, 16, 3)] * 3, 10, MARK)
    save_wav(tmp_path / "a.wav", np.zeros((1, 101), np.float32), 8000, MARK)
    image_grid.save_npz(tmp_path / "a.npz", MARK, x=np.arange(3))
    for name in ("a.mp4", "a.wav", "a.npz"):
        assert said(tmp_path / name) == SAID, name
    with av.open(str(tmp_path / "a.mp4")) as video:
        assert len(list(video.decode(video=0))) == 3
    import wave

    with wave.open(str(tmp_path / "a.wav")) as sound:
        assert sound.getnframes() == 101 + 800
    with np.load(tmp_path / "a.npz") as arrays:
        assert list(arrays) == ["x"] and (arrays["x"] == np.arange(3)).all()


def test_a_format_without_a_place_says_so(tmp_path, capsys):
    like = photo.Photo(np.zeros((4, 4, 3), np.float32))
    photo.write(tmp_path / "a.bmp", noise(8, 8, 3), like, mark=MARK)
    assert capsys.readouterr().err == f"{tmp_path / 'a.bmp'} has no mark: a .bmp can't hold one.\n"
    photo.write(tmp_path / "b.bmp", noise(8, 8, 3), like, mark=None)
    assert not capsys.readouterr().err


OWN = {
    "dc:title": "Ein <Tag> & ü",
    "xmp:CreatorTool": "Camera 1",
    "photoshop:ICCProfile": "P3",
    marks.SOURCE: marks.TERMS + "digitalCapture",
}


def own_packet(**changes: str) -> bytes:
    values = {**OWN, **{name.replace("_", ":"): value for name, value in changes.items()}}
    return xmp.packet_of(xmp.element(xmp.tag_of(name), text) for name, text in values.items())


def save_with(path: Path, packet: bytes) -> Path:
    """Save an image with a packet by Pillow, not by us."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", packet.decode("utf-8", "surrogateescape"), zip=True)
    own: dict[str, Any] = {"pnginfo": info} if path.suffix == ".png" else {"xmp": packet}
    Image.fromarray(noise(8, 8, 3)).save(path, **own)
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_photos_own_xmp_is_kept(suffix, tmp_path):
    given = save_with(tmp_path / f"a{suffix}", own_packet())
    for ending in WHOLE:
        rewritten(given, out := tmp_path / f"b{ending}", Mark(marks.EDITED, "imdn"))
        found = said(out)
        assert found["dc:title"] == OWN["dc:title"] and found["xmp:CreatorTool"] == "Camera 1"
        assert found[marks.SOURCE] == marks.TERMS + marks.EDITED and found["jaxgen:Software"] == marks.SOFTWARE
        assert "photoshop:ICCProfile" not in found, "of the file, not of the photo"
        assert str(by_pillow(out)["CreatorTool"]) == "Camera 1"
        rewritten(given, out)
        assert said(out) == {name: value for name, value in OWN.items() if name != "photoshop:ICCProfile"}


def test_lists_and_structures_are_kept():
    packet = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
    <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:a="urn:a" a:one="1" dc:format="x">
     <dc:subject><rdf:Bag><rdf:li>a</rdf:li><rdf:li>b</rdf:li></rdf:Bag></dc:subject></rdf:Description>
    <rdf:Description xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" rdf:about="">
     <Iptc4xmpExt:LocationShown><rdf:Bag><rdf:li><rdf:Description Iptc4xmpExt:City="Ulm"/></rdf:li></rdf:Bag>
     </Iptc4xmpExt:LocationShown></rdf:Description></rdf:RDF></x:xmpmeta>"""
    kept = xmp.described(packet)
    assert kept is not None and xmp.texts(kept)["dc:subject"] == "a, b"
    assert b"Ulm" in kept and b"urn:a" not in kept and b"dc:format>x" in kept
    assert xmp.described(kept) == kept


def test_sources_of_several_steps():
    def source(mark: Mark, own: str) -> str:
        packet = xmp.packet_of([xmp.element(xmp.tag_of(marks.SOURCE), marks.TERMS + own)])
        return marks.source_of(marks.packet_for(mark, packet))

    edited, composed = Mark(marks.EDITED), Mark(marks.COMPOSED)
    assert source(edited, "digitalCapture") == marks.EDITED and source(edited, marks.EDITED) == marks.EDITED
    assert source(edited, marks.DRAWN) == marks.DRAWN, "no part of it was ever a photo"
    assert source(composed, "digitalCapture") == marks.COMPOSED
    assert source(composed, marks.DRAWN) == marks.COMPOSED_WITH_DRAWN
    assert marks.packet_for(None) is None and marks.packet_for(None, b"x") == b"x"


def test_without_marks(monkeypatch):
    monkeypatch.setattr(marks, "wanted", False)
    assert marks.packet_for(MARK) is None
    found = xmp.texts(marks.packet_for(MARK, own_packet()) or b"")
    assert found["dc:title"] == OWN["dc:title"] and "jaxgen:Software" not in found
    assert marks.SOURCE not in found, "it is no capture any more"
    drawn = own_packet(**{marks.SOURCE: marks.TERMS + marks.DRAWN})
    assert marks.source_of(marks.packet_for(MARK, drawn)) == marks.DRAWN, "another's mark stays"


LAUGHS = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
SECRET = b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>'
BODY = own_packet().partition(b"?>")[2].rpartition(b"<?")[0]
HOSTILE = {
    "entities": LAUGHS + BODY.replace(b"Camera 1", b"&b;"),
    "files": SECRET + BODY.replace(b"Camera 1", b"&a;"),
    "a document type in UTF-16": (LAUGHS + BODY).decode().encode("utf-16"),
    "deep nesting": BODY.replace(b"Camera 1", b"<a>" * 100_000 + b"</a>" * 100_000),
    "a cut": BODY[:-30],
    "no XML": b"\xff\xfe\0garbage",
    "nothing": b"",
}


@pytest.mark.parametrize("packet", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_packet_is_left_out(packet):
    with pytest.raises(ValueError):
        xmp.properties(packet)
    assert xmp.described(packet) is None and marks.source_of(packet) == ""


def test_a_packet_that_fits_nowhere_is_left_out(tmp_path):
    assert xmp.described(own_packet(dc_title="x" * xmp.LARGEST)) is None
    nearly = own_packet(dc_title="x" * (xmp.LARGEST - len(own_packet())))
    assert xmp.texts(marks.packet_for(MARK, nearly) or b"") == SAID, "the mark alone"
    bomb = b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(bytes(2**24))
    data = io.BytesIO()
    Image.new("L", (8, 8)).save(data, "PNG")
    png = data.getvalue()[:33] + chunk(b"iTXt", bomb) + data.getvalue()[33:]
    assert len(containers.read_xmp(io.BytesIO(png)) or b"") <= containers.LONGEST


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".gif", ".mp4", ".wav", ".npz"])
def test_a_cut_file_is_read_up_to_its_end(suffix, tmp_path):
    path, like = tmp_path / f"a{suffix}", photo.Photo(np.zeros((4, 4, 3), np.float32))
    writers = {
        ".gif": lambda: save_animation(path, [noise(8, 8)], 10, MARK),
        ".mp4": lambda: save_animation(path, [noise(8, 8)], 10, MARK),
        ".wav": lambda: save_wav(path, np.zeros((1, 9), np.float32), 8000, MARK),
        ".npz": lambda: image_grid.save_npz(path, MARK, x=np.zeros(2)),
    }
    writers.get(suffix, lambda: photo.write(path, noise(8, 8, 3), like, mark=MARK))()
    data = path.read_bytes()
    for end in range(0, len(data), 7):
        file = io.BytesIO(data[:end])
        containers.read_xmp(file)
        assert not containers.has_c2pa(file)
        damaged = bytearray(data)
        damaged[end] ^= 0x55
        containers.read_xmp(io.BytesIO(damaged))


# The files that write other things than images, by `output_files.whole`, and the calls that write images.
OTHERS = {
    "interop/programs.py",
    "interop/write.py",
    "training/metric_writers.py",
    "evaluation/html_report.py",  # a page of plots and samples, which have their marks
    "interop/onnx_programs.py",  # no image
    "media/plots.py",
    "commands/score.py",
}
OTHERS |= {"pretrained/fetching.py"}
# svg_worker.py draws icons of a data set into the cache.
ENCODERS = {
    "video_frames.py",
    "data/svg_worker.py",
    "animation.py",
    "frames.py",
    "image_grid.py",
    "image_writing.py",
    "plots.py",
}


def is_text(node: ast.expr) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def test_no_file_is_written_but_through_marked():
    """A new writer of images goes through `marks.marked`; one of other files has a row here."""
    root, whole, encoders = Path(jaxgen.__file__).parent, set(), set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            call, name = ast.unparse(node.func), path.relative_to(root).as_posix()
            if call == "output_files.whole":
                whole.add(name)
            values = [each.value for each in (*node.args, *(k.value for k in node.keywords)) if is_text(each)]
            how = {k.arg for k in node.keywords} & {"format", "quality", "save_all"}
            if node.func.attr == "savefig" or (
                node.func.attr == "save" and (how or {"PNG", "GIF", "JPEG"} & {*values})
            ):
                encoders.add(name)
    assert whole == OTHERS | {"media/marks.py", "media/frames.py", "media/video_frames.py"}
    assert {name.removeprefix("media/") for name in encoders} <= ENCODERS
