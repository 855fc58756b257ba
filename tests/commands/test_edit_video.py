"""python -m jaxgen edit-video, and the commands for images given a video."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxgen.data.video_folder import open_clip
from jaxgen.media import marks
from jaxgen.media.inspection import facts
from tests.helpers.data_samples import own_cache as own_cache  # for every test here
from tests.helpers.untrained import untrained

av = pytest.importorskip("av")

RATE, SECONDS, SOUND = 24, 1, 16_000


def drawn(number: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Return a frame of a brightness by its number."""
    return np.full((height, width, 3), 40 + 5 * number, np.uint8)


def film(path: Path, sound: bool = True, pixels: str = "yuv420p", stamps=None, rotation: int = 0, draw=drawn) -> Path:
    """Write a clip of a second at 24 frames per second, with a tone."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=RATE, options={"crf": "8"})
        stream.height, stream.width, stream.pix_fmt = *draw(0).shape[:2], pixels
        stream.codec_context.time_base = Fraction(1, 24_000)
        if rotation:
            stream.set_display_rotation(rotation)
        track = file.add_stream("aac", rate=SOUND, layout="mono") if sound else None
        for number in range(RATE * SECONDS):
            frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
            frame.pts, frame.time_base = (stamps[number] if stamps else 1000 * number), Fraction(1, 24_000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
        if track is not None:
            wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(SOUND * SECONDS) / SOUND)
            block = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), "fltp", "mono")
            block.sample_rate, block.pts = SOUND, 0
            file.mux([*track.encode(block), *track.encode()])
    return path


def packets(path: Path) -> list[bytes]:
    """Return the sound of a file as it is stored."""
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(audio=0) if packet.size]


def heard(path: Path) -> float:
    """Return how long the sound of a file is, in seconds."""
    with av.open(str(path)) as file:
        return sum(frame.samples for frame in file.decode(audio=0)) / file.streams.audio[0].codec_context.sample_rate


def levels(path: Path) -> list[int]:
    """Return the numbers of the frames of a clip, by their brightness."""
    clip = open_clip(path)
    return [round((float(frame.mean()) - 40) / 5) for frame in clip.frames(range(len(clip)))]


def test_more_frames_per_second_last_as_long_as_before(tmp_path, cli):
    clip = film(tmp_path / "clip.mp4")
    said = cli(0, "edit-video", clip, "--fps", "60")
    made = tmp_path / "clip-edited.mp4"
    assert f"{made}: 48x32, 1 s, 60 frames" in said
    times = open_clip(made).index.times
    np.testing.assert_allclose(times, np.arange(60) / 60, atol=1e-4)
    assert packets(made) == packets(clip), "the sound is copied"
    assert facts(made)["mark"] is None, "no net had a part in it"


def test_edits_are_chained(tmp_path, cli):
    clip, out = film(tmp_path / "clip.mp4"), tmp_path / "out.mkv"
    cli(
        0,
        "edit-video",
        clip,
        "--cut",
        "0:0.5",
        "0.75:1",
        "--fade",
        "0.125",
        "--text",
        "O",
        "--text-size",
        "0.9",
        "--out",
        out,
    )
    shown = levels(out)
    assert len(shown) == 15 and next(iter(open_clip(out).frames([0]))).max() > 240  # the text is white
    assert heard(out) == pytest.approx(0.625, abs=0.01)
    cli(0, "edit-video", out, clip, "--speed", "2", "--out", tmp_path / "fast.mp4")
    assert heard(tmp_path / "fast.mp4") == pytest.approx((0.625 + 1) / 2, abs=0.1)
    assert open_clip(tmp_path / "fast.mp4").index.times[-1] == pytest.approx(1.625 / 2, abs=0.1)


@pytest.mark.parametrize("kind", ["odd", "deep", "variable", "turned", "silent", "gif"])
def test_clips_of_every_kind(tmp_path, cli, kind):
    clip, out = (
        tmp_path / ("clip.gif" if kind == "gif" else "clip.mkv" if kind == "odd" else "clip.mp4"),
        tmp_path / "out.mp4",
    )
    stamps = [1000 * n + 9000 * (n > 10) for n in range(RATE)]
    if kind == "gif":
        images = [Image.fromarray(drawn(number)[:, :, 0]) for number in range(8)]
        images[0].save(clip, save_all=True, append_images=images[1:], duration=[100] * 4 + [300] * 4)
    elif kind == "odd":
        film(clip, pixels="yuv444p", draw=lambda number: drawn(number, 31, 47))
    else:
        more = {"deep": {"pixels": "yuv422p10le"}, "variable": {"stamps": stamps}, "turned": {"rotation": 90}}
        film(clip, sound=kind != "silent", **more.get(kind, {}))
    cli(0, "edit-video", clip, "--text", "A", "--text-time", "90:" if kind == "none" else "0:0.05", "--out", out)
    before, after = open_clip(clip), open_clip(out)
    np.testing.assert_allclose(after.index.times, before.index.times, atol=1e-3)
    height, width = (32, 48) if kind == "gif" else before.index.size
    assert after.index.size == (height + height % 2, width + width % 2)
    bright = [[float(frame.mean()) for frame in clip.frames(range(8))] for clip in (before, after)]
    np.testing.assert_allclose(*np.array(bright)[:, 2:], atol=2)
    if kind == "turned":
        assert after.index.size == (48, 32)


def test_a_cut_off_file_is_used_as_far_as_it_goes(tmp_path, cli):
    clip = film(
        tmp_path / "clip.mkv",
        sound=False,
        draw=lambda n: np.random.default_rng(n).integers(0, 255, (64, 64, 3), np.uint8),
    )
    short = tmp_path / "short.mkv"
    short.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    said = cli(0, "edit-video", short, "--cut", ":9")
    assert "is used in part, only its first" in said


def test_mistakes_are_one_sentence(tmp_path, cli, monkeypatch):
    clip, still = film(tmp_path / "clip.mp4"), tmp_path / "still.png"
    Image.fromarray(drawn(3)).save(still)
    (tmp_path / "mask.png").write_bytes(still.read_bytes())
    (tmp_path / "words.mp4").write_text("no video")
    edit = lambda *how: cli(2, "edit-video", *how)  # noqa: E731
    assert "There is no file or folder" in edit(tmp_path / "none.mp4")
    assert "is a still image" in edit(still)
    assert "is no video that FFmpeg reads" in edit(tmp_path / "words.mp4")
    assert "must end in .mp4, .webm or .mkv" in edit(clip, "--out", tmp_path / "x.avi")
    assert "lasts 1 s: it has no frames from 3 to" in edit(clip, "--cut", "3:8")
    assert "two times in seconds" in edit(clip, "--cut", "8")
    assert "--upscale must be from 2 to 8, not 1" in edit(clip, "--upscale", "1")
    assert "give one of them" in edit(clip, "--fps", "30", "--interpolate", "2")
    assert "add --no-net" in edit(clip, "--upscale", "7")
    assert "is all black" in edit(clip, "--remove", tmp_path / "mask.png")
    assert "There is no mask" in edit(clip, "--remove", tmp_path / "none.png")
    Image.fromarray(drawn(3)[:9]).save(tmp_path / "mask.png")
    assert "is 9x48, the clip 32x48" in edit(clip, "--remove", tmp_path / "mask.png")
    assert "--text-time must begin before" in edit(clip, "--text", "A", "--text-time", "9:")
    assert "from 1/16 to 16" in edit(clip, "--speed", "100")
    assert "replaced by its own output" in edit(clip, "--out", clip, "--overwrite")
    existing = tmp_path / "clip-edited.mp4"
    existing.write_bytes(b"kept")
    assert "exists already" in edit(clip)
    assert "has no --sheet" in cli(2, "restore", clip, "--with", "nearest", "--sheet")

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxgen.media.video_edits.text.captioned", lambda *_: stopped)
    assert "Stopped." in cli(130, "edit-video", clip, "--text", "A", "--overwrite")
    assert existing.read_bytes() == b"kept" and not list(tmp_path.glob(".*"))


def test_restore_takes_a_video(tmp_path, cli):
    clip = film(tmp_path / "clip.mp4")
    cli(0, "restore", clip, "--with", "nearest", "--scale", "2")
    made = tmp_path / "clip-restored.mp4"
    assert open_clip(made).index.size == (64, 96) and levels(made) == list(range(24))
    assert packets(made) == packets(clip)
    np.testing.assert_allclose(open_clip(made).index.times, open_clip(clip).index.times, atol=1e-4)


def test_a_net_leaves_its_mark(tmp_path, cli, monkeypatch):
    clip = film(tmp_path / "clip.mp4", sound=False)
    cli(0, "edit-video", clip, "--cut", ":0.1", "--denoise", "--out", tmp_path / "out.mp4")
    mark = facts(tmp_path / "out.mp4")["mark"]
    assert (mark["source"], mark["preset"]) == (marks.EDITED, "nafnet")
    cli(0, "edit-video", tmp_path / "out.mp4", "--cut", ":0.1", "--out", tmp_path / "again.mp4")
    assert facts(tmp_path / "again.mp4")["mark"]["source"] == marks.EDITED, "a cut keeps it"


def test_a_model_makes_the_frames_between(tmp_path, cli):
    """A run of rife, and one of mcvd with a frame on each side; the number of frames, the mark, and mistakes."""
    clip, grey = film(tmp_path / "clip.mp4"), film(tmp_path / "grey.mp4", draw=lambda n: drawn(n, 16, 16))
    rife = untrained(tmp_path / "rife", "video", "rife")
    small = ["--model.image", "16", "16", "1", "--model.past", "1", "--model.frames", "1", "--model.future", "1"]
    mcvd = untrained(tmp_path / "mcvd", "video", "mcvd", *small)
    many = untrained(tmp_path / "many", "video", "mcvd")
    for given, run, more, count, preset in (
        (clip, rife, ["--interpolate", "2", "--cut", ":0.25"], 12, "rife"),
        (grey, mcvd, ["--fps", "48", "--cut", ":0.125"], 6, "mcvd"),
    ):
        said = cli(0, "edit-video", given, *more, "--with", run, "--out", tmp_path / f"{preset}.mp4")
        assert f"{count} frames" in said
        assert levels(tmp_path / f"{preset}.mp4")[::2] == list(range(count // 2)), "the clip's own frames are kept"
        assert facts(tmp_path / f"{preset}.mp4")["mark"]["preset"] == preset
    edit = lambda *how: cli(2, "edit-video", *how, "--overwrite")  # noqa: E731
    assert "makes no frames between frames" in edit(clip, "--interpolate", "2", "--with", "bicubic")
    assert "connects 2 frames with 1" in edit(clip, "--interpolate", "2", "--with", many)
    assert "makes frames of 16x16, and the clip's are 48x32" in edit(clip, "--fps", "30", "--with", mcvd)
    assert "add one of them" in edit(clip, "--with", rife)
