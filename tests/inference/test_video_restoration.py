"""Clips of any length in windows of frames and in tiles."""

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.capabilities import Transform
from jaxgen.core.errors import InputError
from jaxgen.core.spec import ArraySpec
from jaxgen.inference.restoration import Model
from jaxgen.inference.video_restoration import in_windows, restored_frames


@pytest.mark.parametrize("count", [1, 5, 6, 7, 10, 11, 23])
def test_each_frame_comes_once_with_its_neighbours(count):
    window, context, seen = 6, 2, []

    def restore(clip: np.ndarray) -> np.ndarray:
        seen.append(clip.tolist())
        return np.stack([np.arange(len(clip)), clip], 1)  # the place in the window, the frame

    made = list(in_windows(restore, iter(np.arange(count)), window, context))
    assert [frame for _, frame in made] == list(range(count))
    assert {len(clip) for clip in seen} == {min(window, count)}, "one program"
    for place, frame in made:
        assert min(frame, context) <= place <= window - 1 - min(context, count - 1 - frame)


def average(params, context, given, keys, scale):
    """Enlarge by 2, and add the mean of each frame and the next one."""
    del params, context, keys, scale
    x = given["degraded"]
    x = (x + jnp.concatenate([x[:, 1:], x[:, -1:]], 1)) / 2
    return {"video": jnp.repeat(jnp.repeat(x, 2, 2), 2, 3)}


def model_of(multiple: int = 1) -> Model:
    clip = ArraySpec("video", ("t", "h", "w", 3), multiple=multiple)
    return Model(Transform(average, {"degraded": clip}, {"video": clip}, "degraded", (2,)), len, {}, None, 2.0, "it")


def test_tiles_and_windows_make_the_whole_clip():
    clip = np.random.default_rng(0).uniform(-1, 1, (5, 41, 39, 3)).astype(np.float32)
    whole = (clip + np.concatenate([clip[1:], clip[-1:]])) / 2
    model = model_of(multiple=4)
    for tile, window in ((0, 5), (32, 4)):
        made = np.stack(list(restored_frames(model, clip, tile, 8, window, 1)))
        np.testing.assert_allclose(made, whole.repeat(2, 1).repeat(2, 2), atol=1e-6)
    grey = np.stack(list(restored_frames(model, clip[..., :1], 0, 8, 5, 1)))
    np.testing.assert_allclose(grey, whole[..., :1].repeat(2, 1).repeat(2, 2), atol=1e-6)


def test_mistakes_give_one_sentence():
    frames = [np.zeros((8, 8, 3), np.float32), np.zeros((8, 9, 3), np.float32)]
    cases: Any = (
        (frames, {}, "one size, not 8x8x3 and 8x9x3"),
        ([], {}, "no frames"),
        (frames[:1], {"window": 4, "context": 2}, "longer than its context"),
        ([np.zeros((8, 8, 4), np.float32)], {}, "restores frames of 3 channels, not of 4"),
    )
    for clip, how, sentence in cases:
        with pytest.raises(InputError, match=sentence):
            list(itertools.islice(restored_frames(model_of(), clip, 0, **how), 3))
