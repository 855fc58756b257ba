"""Editing of streams of frames and of sound: jaxgen/media/video_edits, and the optical flow."""

import itertools
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jaxgen.core.errors import InputError
from jaxgen.media.video_edits import interpolation, removal, sound, stabilisation, timeline
from jaxgen.media.video_edits.consistency import steadily
from jaxgen.media.video_edits.denoising import denoised
from jaxgen.media.video_edits.footage import Footage, Frame, to_float
from jaxgen.media.video_edits.sound import Sound
from jaxgen.nn.optical_flow import optical_flow, warped

HEIGHT, WIDTH = 48, 64  # of all frames here: each function is compiled once


def wall() -> np.ndarray:
    """Return a texture u8[160 176 3]."""
    x = ndimage.gaussian_filter(np.random.default_rng(0).random((160, 176, 3)), (2, 2, 0))
    return np.rint(255 * (x - x.min()) / np.ptp(x)).astype(np.uint8)


WALL = wall()


def seen(down: float, right: float, time: float = 0.0) -> Frame:
    """Return a frame that shows the texture from a place on."""
    x = ndimage.shift(WALL.astype(float), (-down, -right, 0), order=3)
    return Frame(time, np.clip(np.rint(x[:HEIGHT, :WIDTH]), 0, 255).astype(np.uint8))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(a.astype(float) - b).mean()))


def footage(frames: list[Frame], rate: float = 25.0, heard: Sound | None = None) -> Footage:
    return Footage(iter(frames), len(frames), len(frames) / rate, (HEIGHT, WIDTH), heard)


def tone(seconds: float, rate: int = 8000, pitch: float = 440) -> Sound:
    wave = np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate).astype(np.float32)
    return Sound(rate, 1, iter(np.array_split(wave[None], 7, 1)))


def samples(one: Sound | None) -> np.ndarray:
    assert one is not None
    return np.concatenate(list(one.blocks), 1)


@pytest.mark.parametrize("shift", [(0, 0), (1, 2), (2.5, -3.25)])
def test_the_flow_of_a_translation_is_the_translation(shift):
    first, second = (jnp.asarray(to_float(seen(*place).pixels)) for place in ((8, 8), (8 - shift[0], 8 - shift[1])))
    flow = np.asarray(optical_flow(first, second))
    assert np.abs(flow - np.array(shift))[8:-8, 8:-8].max() < 0.15  # in pixels
    inner = np.asarray(warped(second, jnp.broadcast_to(jnp.asarray(shift, jnp.float32), flow.shape), cubic=True))
    np.testing.assert_allclose(inner[8:-8, 8:-8], first[8:-8, 8:-8], atol=0.02)


def test_a_frame_between_two_is_where_things_are_then():
    frames = [seen(8 + 2 * t, 8 + 3 * t, t / 10) for t in range(3)]
    made = list(interpolation.multiplied(footage(frames, 10), 2).frames)
    assert [round(frame.time, 3) for frame in made] == [0, 0.05, 0.1, 0.15, 0.2, 0.25]
    truth, mean = seen(9, 9.5).pixels, (frames[0].pixels.astype(float) + frames[1].pixels) / 2
    assert psnr(made[1].pixels[4:-4, 4:-4], truth[4:-4, 4:-4]) > 34 > 5 + psnr(mean, truth)
    np.testing.assert_array_equal(made[2].pixels, frames[1].pixels)
    steady = list(interpolation.at_rate(footage(frames, 10), 25, lambda a, b, shares: [a] * len(shares)).frames)
    np.testing.assert_allclose([frame.time for frame in steady], np.arange(8) / 25)  # for 0.3 s
    cut = [seen(8, 8), Frame(0.1, 255 - seen(100, 90).pixels)]  # another scene: nothing moves across it
    between = list(interpolation.multiplied(footage(cut, 10), 3).frames)
    np.testing.assert_array_equal(between[1].pixels, cut[0].pixels)
    np.testing.assert_array_equal(between[2].pixels, cut[1].pixels)


@pytest.mark.parametrize("made_at_once", [1, 3])
def test_frames_of_a_net_are_asked_for_at_the_times_that_it_has(made_at_once):
    """A net that mixes two frames linearly: a frame at a time t has the brightness t, or nearly."""
    asked = []

    def make(first, second):
        asked.append((float(first[0, 0, 0]), float(second[0, 0, 0])))
        parts = np.arange(1, made_at_once + 1) / (made_at_once + 1)
        return [first + part * (second - first) for part in parts]

    texture = to_float(seen(8, 8).pixels)
    first, second = (np.asarray(0.9 * texture + share, np.float32) for share in (0.0, 0.02))
    origin = float(first[0, 0, 0])
    shares = [0.25, 0.5, 0.75, 1 / 3]
    frames = interpolation.by_net(make)(first, second, shares)
    found = [(float(frame[0, 0, 0]) - origin) / 0.02 for frame in frames]
    np.testing.assert_allclose(found[:3], shares[:3], atol=1e-4)
    assert abs(found[3] - 1 / 3) <= interpolation.NEAR + 1e-4
    assert len(asked) == len(set(asked)) <= 6, "nothing is made twice"


def test_noise_is_averaged_along_the_motion():
    clean = [seen(8 + t, 8 + 2 * t, t / 25) for t in range(5)]
    noise = np.random.default_rng(1).normal(0, 15, (5, HEIGHT, WIDTH, 3))
    noisy = [
        Frame(f.time, np.clip(np.rint(f.pixels + n), 0, 255).astype(np.uint8))
        for f, n in zip(clean, noise, strict=True)
    ]
    made = list(denoised()(iter(noisy)))
    assert [frame.time for frame in made] == [frame.time for frame in clean]
    assert psnr(made[2].pixels, clean[2].pixels) > 3.5 + psnr(noisy[2].pixels, clean[2].pixels)  # of 7 at most


def test_a_shaken_camera_comes_to_rest():
    shake = np.random.default_rng(2).normal(0, 1.5, (16, 2))
    frames = [seen(20 + down, 20 + right, t / 25) for t, (down, right) in enumerate(shake)]
    log: list[np.ndarray] = []
    made = list(stabilisation.stabilised(5, border="fill", log=log)(iter(frames)))
    assert len(made) == len(frames)
    # A point of the wall is at -shake, and is shown where the correction moves it to.
    before = -shake[:, ::-1] + (WIDTH / 2, HEIGHT / 2)
    after = np.array([stabilisation.moved(matrix, place[None])[0] for matrix, place in zip(log, before, strict=True)])
    jitter = lambda places: np.diff(places, axis=0).std()  # noqa: E731
    assert jitter(after) < 0.35 * jitter(before)
    cropped = list(stabilisation.stabilised(5)(iter(frames)))
    assert all((frame.pixels.sum(2) > 0).all() for frame in cropped), "no black border"


def test_motions_are_found_among_wrong_ones():
    rng = np.random.default_rng(3)
    before = rng.uniform(0, 300, (200, 2))
    turn = np.array([[1.02, -0.03, 4], [0.03, 1.02, -7], [0, 0, 1]])
    after = stabilisation.moved(turn, before)
    after[:80] += rng.uniform(-60, 60, (80, 2))  # of things that move themselves
    found, inliers = stabilisation.similarity(stabilisation.Motion(before, after))
    np.testing.assert_allclose(found, turn, atol=1e-3)
    tilt = turn + np.array([[0, 0, 0], [0, 0, 0], [1e-4, -5e-5, 0]])
    motion = stabilisation.Motion(before, stabilisation.moved(tilt, before))
    np.testing.assert_allclose(stabilisation.homography(motion, inliers | True), tilt, atol=1e-6)


def test_what_is_hidden_is_seen_in_other_frames():
    clean = [seen(8, 8 + 3 * t, t / 25) for t in range(12)]
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[18:30, 28:38] = True
    hidden = [Frame(f.time, np.where(mask[..., None], 255, f.pixels).astype(np.uint8)) for f in clean]
    made = list(removal.removed(itertools.repeat(mask))(iter(hidden)))
    for frame, truth in zip(made, clean, strict=True):
        plain = removal.spread(to_float(truth.pixels), mask)[mask] * 255
        assert psnr(frame.pixels[mask], truth.pixels[mask]) > 6 + psnr(plain, truth.pixels[mask])
        outside = np.logical_not(ndimage.binary_dilation(mask, iterations=removal.GROWN))
        assert np.abs(frame.pixels[outside].astype(int) - truth.pixels[outside]).max() <= 1


def test_changed_frames_flicker_less():
    frames = [seen(8, 8, t / 25) for t in range(6)]
    lights = iter([0, 40, 0, 40, 0, 40])
    made = list(steadily(lambda pixels: pixels // 2 + np.uint8(next(lights)), 0.7)(iter(frames)))
    jumps = [np.abs(a.pixels.astype(float) - b.pixels).mean() for a, b in zip(made[1:], made[:-1], strict=True)]
    assert max(jumps[2:]) < 0.6 * 40


def test_clips_are_joined_with_a_fade_and_kept_in_sync():
    dark, light = (
        [Frame(t / 10, np.full((HEIGHT, WIDTH, 3), value, np.uint8)) for t in range(10)] for value in (0, 200)
    )
    whole = timeline.join([footage(dark, 10, tone(0.9)), footage(light, 10, tone(1.0))], 0.4)
    frames = list(whole.frames)
    assert whole.seconds == pytest.approx(1.6) and whole.count == len(frames) == 16
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(16) / 10)
    assert [int(frame.pixels[0, 0, 0]) for frame in frames[5:11]] == [0, 0, 50, 100, 150, 200]
    assert samples(whole.sound).shape == (1, 12800)  # that of the first clip was shorter than its frames
    silent = timeline.join([footage(dark, 10), footage(light, 10, tone(1.0))], 0.0)
    heard = samples(silent.sound)
    assert heard.shape == (1, 16000) and not heard[:, :8000].any() and heard[:, 8000:].any()
    with pytest.raises(InputError, match="part 1 lasts 1 s"):
        timeline.join([footage(dark, 10), footage(light, 10)], 2)


@pytest.mark.parametrize("speed", [2.0, 0.4])
def test_a_faster_clip_has_the_same_pitch(speed):
    pytest.importorskip("av")
    frames = [Frame(t / 20, np.zeros((HEIGHT, WIDTH, 3), np.uint8)) for t in range(20)]
    made = timeline.paced(footage(frames, 20, tone(1.0)), speed)
    times = [frame.time for frame in made.frames]
    assert len(times) == made.count == 20 / max(speed, 1) and times[-1] < made.seconds == pytest.approx(1 / speed)
    heard = samples(made.sound)[0]
    assert len(heard) == pytest.approx(8000 / speed, rel=0.06)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert spectrum.argmax() * 8000 / len(heard) == pytest.approx(440, abs=8)


def test_a_part_of_a_sound():
    whole = samples(tone(1.0))
    part = samples(tone(1.0).cut(0.25, 0.5))
    np.testing.assert_array_equal(part, whole[:, 2000:4000])
    assert samples(tone(1.0).cut(0.75, 1.25)).shape == (1, 4000)
    taken = sound.Samples(iter([whole[:, :10], whole[:, 10:15]]), 1)
    assert [taken.take(4).shape[1] for _ in range(5)] == [4, 4, 4, 3, 0]


def test_times_that_cannot_be():
    for wrong in ("3", "8:3", "a:b", "-1:2", "nan:", "3:3"):
        with pytest.raises(InputError, match="two times in seconds"):
            timeline.span(wrong, "--cut")
    assert timeline.span("1.5:", "--cut") == (1.5, None) and timeline.span(":2", "--cut") == (0, 2)
    with pytest.raises(InputError):
        timeline.paced(footage([seen(8, 8)]), 99)


def test_no_clip_is_held_whole(monkeypatch):
    """Each stage asks for a bounded number of frames before it gives one."""
    given = [0]
    monkeypatch.setattr(removal, "REACH", 3)

    def endless() -> Iterator[Frame]:
        frames = [seen(20, 20).pixels, seen(20, 21).pixels]
        while True:
            given[0] += 1
            yield Frame(given[0] / 25, frames[given[0] % 2])

    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[20:24, 20:24] = True
    stages = [stabilisation.stabilised(4), denoised(), removal.removed(itertools.repeat(mask)), steadily(lambda x: x)]
    frames = endless()
    for stage in stages:
        frames = stage(frames)
    most = 0
    for shown in range(4):
        next(frames)
        most = max(most, given[0] - shown)
    assert most <= 4 + 2 + removal.REACH + len(stages)
