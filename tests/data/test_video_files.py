"""Clips of video files, animations and folders of frames: the index, exact seeking, bad files, training on them."""

from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jaxgen.core.config import Data
from jaxgen.core.spec import ArraySpec, label_spec
from jaxgen.data import batches, check_source, fingerprint, open_source
from jaxgen.data.frame_files import Animation
from jaxgen.data.video_files import VideoFile, slots
from jaxgen.data.video_folder import open_clip
from jaxgen.media.animation import save_animation
from tests.helpers.data_samples import equal_example, message
from tests.helpers.data_samples import own_cache as own_cache  # for every test here

av = pytest.importorskip("av")

CLIP = {"video": ArraySpec("video", (4, 16, 16, 3))}


def drawn(number: int, height: int = 32, width: int = 48) -> np.ndarray:
    """Return a frame of a brightness by its number, with something that moves."""
    frame = np.full((height, width, 3), 5 * number, np.uint8)
    frame[4:12, number % width : number % width + 6] = (255, 40, 90)
    return frame


def write(path: Path, count: int = 40, codec: str = "libx264", pixels: str = "yuv420p", stamps=None, **more) -> Path:
    """Write a video at 25 frames per second; H.264 has a key frame every 12 frames and 3 B-frames between others."""
    options = {"g": "12", "bf": "3", "crf": "20"} if codec == "libx264" else {}
    rotation, ratio, draw = more.get("rotation"), more.get("ratio"), more.get("draw", drawn)
    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.height, stream.width, stream.pix_fmt = *draw(0).shape[:2], pixels
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        if ratio:
            stream.codec_context.sample_aspect_ratio = ratio
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(count):
            frame = av.VideoFrame.from_ndarray(draw(number), format="rgb24")
            frame.pts, frame.time_base = (stamps[number] if stamps else 40 * number), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def numbers(frames) -> list[int]:
    """Return the numbers of frames, by their brightness."""
    return [round(float(frame[-8:, :, 0].mean()) / 5) for frame in frames]


def by_itself(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_seeking_is_exact(tmp_path, name):
    path = write(tmp_path / name)
    types = {str(frame.pict_type) for frame in av.open(str(path)).decode(video=0)}
    assert len(types) == 3, "there are B-frames"
    clip, whole = VideoFile.open(path), by_itself(path)
    assert len(clip) == len(whole) == 40 and numbers(whole) == list(range(40))
    np.testing.assert_allclose(clip.index.times, np.arange(40) / 25, atol=1e-3)
    assert len(clip.index.keys) > 2
    for wanted in ([0], [1, 2, 3], [11, 12, 13], [23], [25, 25, 38], [39], range(40), [2, 39]):
        found = list(clip.frames(list(wanted)))
        assert len(found) == len(wanted)
        assert all(np.array_equal(a, whole[i]) for a, i in zip(found, wanted, strict=True)), wanted


def test_the_index_is_kept_until_the_file_changes(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4")
    first = VideoFile.open(path).index
    with monkeypatch.context() as patched:
        patched.setattr("jaxgen.data.video_files.make_index", lambda path: 1 / 0)
        again = VideoFile.open(path).index
        assert first.stamps is not None and again.stamps is not None
        assert np.array_equal(first.stamps, again.stamps) and first.size == again.size == (32, 48)
    write(path, 13)
    assert len(VideoFile.open(path)) == 13


def test_frames_are_upright_and_have_square_pixels(tmp_path):
    (turned,) = VideoFile.open(write(tmp_path / "turned.mp4", 1, rotation=90)).frames([0])
    plain = by_itself(tmp_path / "turned.mp4")[0]
    assert turned.shape == (48, 32, 3) and np.array_equal(turned, np.rot90(plain))
    (wide,) = VideoFile.open(write(tmp_path / "wide.mkv", 1, ratio=Fraction(4, 3))).frames([0])
    assert wide.shape == (32, 64, 3)


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [("a.mkv", "ffv1", "yuv422p10le"), ("a.mov", "prores_ks", "yuv422p10le"), ("a.avi", "ffv1", "yuv420p")],
)
def test_other_codecs_and_depths(tmp_path, name, codec, pixels):
    clip = VideoFile.open(write(tmp_path / name, 9, codec, pixels))
    assert len(clip) == 9
    for found, number in zip(clip.frames([3, 8]), (3, 8), strict=True):
        assert abs(found.astype(int) - drawn(number)).mean() < 4


def test_a_grey_clip_and_one_with_alpha(tmp_path):
    odd = lambda number: drawn(number, 31, 47)  # noqa: E731
    (grey,) = VideoFile.open(write(tmp_path / "grey.mkv", 3, "ffv1", "gray", draw=odd)).frames([2])
    (clear,) = VideoFile.open(write(tmp_path / "clear.mkv", 3, "ffv1", "bgra", draw=odd)).frames([2])
    assert grey.shape == (31, 47, 1) and clear.shape == (31, 47, 4)
    assert np.array_equal(clear[..., :3], odd(2)) and (clear[..., 3] == 255).all()


@pytest.mark.parametrize(("height", "space"), [(720, "ITU709"), (576, "ITU601")])
def test_a_clip_that_does_not_say_its_colours_has_those_of_its_size(tmp_path, height, space):
    """The colours are put into Y, Cb and Cr by the matrix of the size, and neither the frames nor the file say so."""
    path, colours = tmp_path / "a.mp4", [(200, 30, 60), (20, 160, 40)]
    wanted = np.repeat(np.asarray(colours, np.uint8)[None], height, 0).repeat(32, 1)  # [h 64 3]
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = height, 64, "yuv420p"
        frame = av.VideoFrame.from_ndarray(wanted, format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=space, dst_color_range="MPEG")
        frame.colorspace, frame.color_range, frame.pts = 2, 0, 0
        file.mux([*stream.encode(frame), *stream.encode()])
    with av.open(str(path)) as file:
        assert next(file.decode(video=0)).colorspace == 2, "it says nothing"
    found = next(iter(VideoFile.open(path).frames([0]))).astype(int)
    assert np.abs(found - wanted)[:, [8, 56]].max() <= 4
    edited = tmp_path / "b.mp4"
    save_animation(edited, [wanted], 25, None)
    with av.open(str(edited)) as file:
        assert next(file.decode(video=0)).colorspace == {"ITU709": 1, "ITU601": 6}[space], "what is written says it"
    assert np.abs(next(iter(VideoFile.open(edited).frames([0]))).astype(int) - wanted)[:, [8, 56]].max() <= 4


def test_steps_are_of_equal_time_where_the_rate_varies(tmp_path):
    stamps = [0, 40, 80, 240, 280, 320, 400, 440]  # the third frame lasts for four steps, the sixth for two
    clip = VideoFile.open(write(tmp_path / "a.mkv", 8, stamps=stamps))
    assert slots(clip.index.times).tolist() == [0, 1, 2, 2, 2, 2, 3, 4, 5, 5, 6, 7]
    assert slots(np.arange(6) / 30 + np.array([0, 0.001, 0, 0.001, 0, 0])).tolist() == list(range(6))
    shifted = VideoFile.open(write(tmp_path / "late.mkv", 4, stamps=[5000, 5040, 5080, 5120]))
    assert numbers(shifted.frames([1, 3])) == [1, 3] and shifted.index.times[0] == 0


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_animations(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    images = [Image.fromarray(drawn(number)) for number in range(5)]
    how: Any = {".webp": {"lossless": True}}.get(suffix, {})
    images[0].save(path, save_all=True, append_images=images[1:], duration=[100, 100, 300, 100, 100], **how)
    clip = open_clip(path)
    assert isinstance(clip, Animation) and len(clip) == 5 and clip.index.size == (32, 48)
    assert slots(clip.index.times).tolist() == [0, 1, 2, 2, 2, 3, 4] and numbers(clip.frames([1, 4])) == [1, 4]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_truncated_file_is_used_as_far_as_it_can_be_read(tmp_path, capsys, suffix):
    path = write(tmp_path / f"a{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    clip = open_clip(path)
    assert 5 < len(clip) < 40  # without a frame that others were decoded for
    assert numbers(clip.frames(range(len(clip)))) == np.rint(clip.index.times * 25).astype(int).tolist()
    said = capsys.readouterr().err
    assert f"{path} is used in part, only its first {len(clip)} frames: " in said and said.count("\n") == 1


def test_bad_files_are_named_in_one_sentence(tmp_path, capsys):
    for sub in ("empty", "noise", "short", "photo", "sound", "several"):
        (tmp_path / sub).mkdir()
    (tmp_path / "empty" / "a.mp4").write_bytes(b"")
    (tmp_path / "noise" / "a.mp4").write_bytes(bytes(range(256)) * 20)
    write(tmp_path / "short" / "a.mp4", 3)
    Image.fromarray(drawn(1)).save(tmp_path / "photo" / "a.jpg")
    with av.open(str(tmp_path / "sound" / "a.mkv"), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=8000)
        stream.layout = "mono"
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        silence.sample_rate = 8000
        file.mux(stream.encode(silence))
    said = {"empty": "the file is empty", "noise": "no video that FFmpeg reads", "sound": "it has no video stream"}
    said |= {"short": "it has 3 frames, and the model takes clips of 4"}
    for sub, why in said.items():
        path = next((tmp_path / sub).iterdir())
        message(lambda path=path: open_source(Data(f"video:{path}"), CLIP), path, why)
    message(lambda: open_source(Data(f"video:{tmp_path}/photo/a.jpg"), CLIP), "is a still image")
    message(lambda: open_source(Data(f"video:{tmp_path}/photo"), CLIP), "it has 1 frame,")
    message(lambda: open_source(Data(f"video:{tmp_path}/none"), CLIP), "There is no file or folder")
    message(lambda: open_source(Data(f"video:{tmp_path}/several"), CLIP), "holds no clips")
    (tmp_path / "several" / "b.mp4").write_bytes(b"")
    write(tmp_path / "several" / "a.mp4", 9)
    message(lambda: open_source(Data(f"video:{tmp_path}/several"), CLIP), "b.mp4 can't be used, the file is empty")
    assert len(open_source(Data(f"video:{tmp_path}/several", skip_bad=True), CLIP)) == 2
    assert "Skipped 1 of 2 clips" in capsys.readouterr().err
    Image.fromarray(drawn(1)).save(tmp_path / "several" / "c.png")
    message(lambda: open_source(Data(f"video:{tmp_path}/several"), CLIP), "still image c.png beside the clip a.mp4")


def test_a_folder_of_clips_is_trained_on(tmp_path):
    for name in ("train/walk/a.mkv", "train/run/b.mkv", "test/walk/c.mkv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / name, 21, "ffv1", "bgr0")
    frames = tmp_path / "train" / "run" / "frames"
    frames.mkdir()
    for number in range(12):
        Image.fromarray(drawn(number)).save(frames / f"f{number}.png")
    example = {"past": ArraySpec("video", (2, 32, 48, 3)), "future": ArraySpec("video", (2, 32, 48, 3))}
    example |= {"label": label_spec(2)}
    data = Data(f"video:{tmp_path}", stride=2)
    source = open_source(data, example)
    check_source(source, data, example)
    # Clips of 7 frames from first to last, one after 8 of the other: 2 of the file b, 1 of the frames, 2 of a.
    assert source.classes == ("run", "walk") and len(source) == 5
    assert [source[i]["label"] for i in range(5)] == [0, 0, 0, 1, 1]
    assert numbers(source[1]["past"]) == [8, 10] and numbers(source[1]["future"]) == [12, 14]
    assert numbers(source[2]["past"]) == [0, 2], "frames by number: f2 before f10"
    assert fingerprint(source)["files"] == 15
    with closing(batches(source, data, example, batch=5, seed=0)) as stream:
        first, second = next(stream), next(stream)
    with closing(batches(source, data, example, batch=5, seed=0, start=1)) as stream:
        assert equal_example(next(stream), second)
    starts = [numbers((x[:1] + 1) * 127.5)[0] for x in (*first["past"], *second["past"])]
    assert len(set(starts)) > 3 and max(starts) > 9, "clips begin anywhere in training"
    for batch in (first, second):  # lossless, at their own size
        steps = [
            numbers((np.concatenate([p, f]) + 1) * 127.5) for p, f in zip(batch["past"], batch["future"], strict=True)
        ]
        assert all(np.diff(each).tolist() == [2, 2, 2] for each in steps)
    held = open_source(data.at("test"), example)
    with closing(batches(held, data, example, batch=2, seed=7, train=False)) as stream:
        assert numbers((x[0] + 1) * 127.5 for x in next(stream)["past"]) == [0, 8]
