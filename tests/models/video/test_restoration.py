"""Parts of video restoration: pairs with a known flow, frames damaged one by one, a part that learns slower."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.capabilities import Degradation as DegradationOf
from jaxgen.core.errors import InputError
from jaxgen.data.degradations import Degradation
from jaxgen.models.video.basicvsr import TINY, BasicVSR, slower
from jaxgen.models.video.spynet import TINY as SPYNET
from jaxgen.models.video.spynet import SPyNet, moving_pairs
from jaxgen.nn.warping import identity_flow, warp


def test_the_first_frame_is_the_second_one_warped_by_the_true_flow():
    """Of a smooth image, where both frames show the same layer, and the layer is inside of both."""
    x, y = np.moveaxis(np.asarray(identity_flow(2, 64, 64)), -1, 0)
    image = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 8)], -1).astype(np.float32)

    @jax.jit
    def run(image, key):
        first, second, flow = moving_pairs(image, jax.random.split(key, 2), 0.03)
        return first, warp(second, flow), flow

    first, again, flow = map(np.asarray, run(image, jax.random.key(0)))
    assert np.abs(flow).mean() > 0.5 and len(np.unique(np.round(flow, 3)[0, ..., 0])) > 100, "affine motions"
    same = np.abs(first - again).max(-1)[:, 8:-8, 8:-8] < 0.05
    assert same.mean() > 0.7, f"{same.mean():.2f} of the pixels; the others are covered by the other layer"


def test_each_frame_is_damaged_as_an_image_is():
    """Bicubic downsampling is the same for all frames; noise differs from frame to frame."""
    model = replace(TINY, degradation=Degradation(noise=(25, 25)))
    degrade = model.task(1).get(DegradationOf).degrade
    clean = jnp.zeros((2, 3, 32, 32, 3))
    noisy = np.asarray(jax.jit(degrade)(clean, jax.random.split(jax.random.key(0), 2))["degraded"])
    assert noisy.shape == (2, 3, 8, 8, 3)
    assert np.abs(noisy[0, 0] - noisy[0, 1]).max() > 0.1 and np.abs(noisy[0, 0] - noisy[1, 0]).max() > 0.1
    plain = TINY.task(1).get(DegradationOf).degrade
    clip = np.random.default_rng(0).uniform(-1, 1, (1, 3, 32, 32, 3)).astype(np.float32)
    keys = jax.random.split(jax.random.key(0), 1)

    @jax.jit
    def run(clip):
        one_by_one = [Degradation()(clip[:, i], keys, 4)["degraded"] for i in range(3)]
        return plain(clip, keys)["degraded"], jnp.stack(one_by_one, 1)

    np.testing.assert_array_equal(*run(clip))


def test_the_flow_net_learns_later_and_slower():
    optimizer = slower("spynet", 0.125, 3)
    updates = {"spynet": {"kernel": 8.0}, "fusion": {"kernel": 8.0}}
    for step, share in ((0, 0), (2, 0), (3, 1), (10, 1)):
        found, _ = optimizer.update(updates, optimizer.init(updates), step=step)  # pyright: ignore
        assert found == {"spynet": {"kernel": share}, "fusion": {"kernel": 8}}


def test_mistakes_in_settings():
    for model, sentence in (
        (BasicVSR(image=(62, 64, 3)), "multiples of 4, not 62 64 3"),
        (BasicVSR(image=(64, 64, 1)), "3 channels"),
        (BasicVSR(degradation=Degradation(noise=(3, 1))), "degradation.noise"),
        (SPyNet(image=(48, 64, 3)), "multiples of 32"),
        (replace(SPYNET, image=(16, 16, 1)), "3 channels"),
    ):
        with pytest.raises(InputError, match=sentence):
            model.task(1)
