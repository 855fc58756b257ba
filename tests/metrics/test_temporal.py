"""Flicker and the warping error in closed form, the mask of occlusions by its definition, metrics by a net."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.errors import InputError
from jaxgen.core.spec import ArraySpec
from jaxgen.evaluation import net_scores
from jaxgen.evaluation.held_out import known
from jaxgen.inference.optical_flow import FlowNet, open_flow
from jaxgen.metrics.pairs import pair_metric
from jaxgen.metrics.temporal import not_occluded, warping_error
from jaxgen.nn.warping import warp
from tests.helpers.untrained import untrained

SHAPE = (4, 12, 14, 3)
SPEC = ArraySpec("video", SHAPE)
FLICKER = np.asarray([0.1, -0.1, 0.1, -0.1], np.float32).reshape(1, 4, 1, 1, 1)


def test_flicker_is_the_mean_change():
    rng = np.random.default_rng(0)
    true = rng.uniform(-0.4, 0.4, (2, *SHAPE)).astype(np.float32)
    made = true + FLICKER
    valid = np.ones(2, bool)

    def value(name: str, made: np.ndarray) -> float:
        metric = pair_metric(name, SPEC)
        return metric.result(jax.jit(metric.update)(metric.empty(), true, made, valid))[name]

    levels = 127.5 * np.abs(np.diff(made.astype(np.float64), axis=1)).mean()
    assert value("flicker", made) == pytest.approx(levels, rel=1e-5)
    assert value("flicker_error", made) == pytest.approx(0.2 * 127.5, rel=1e-4)
    assert value("flicker_error", true + np.float32(0.3)) == pytest.approx(0, abs=1e-4), "a constant error is steady"
    with pytest.raises(InputError, match="metric of video, not of image"):
        pair_metric("flicker", ArraySpec("image", (8, 8, 3)))


def test_the_warping_error_of_a_shift():
    """The error is 0 where the flow is right; without motion it is that of the difference, over unmasked pixels."""
    x = np.random.default_rng(0).uniform(-1, 1, (1, 8, 9, 3)).astype(np.float32)
    flow = np.broadcast_to(np.asarray([2, 1], np.float32), (1, 8, 9, 2))
    mask = np.zeros((1, 8, 9), np.float32)
    mask[:, :7, :7] = 1

    @jax.jit
    def run(x, flow, mask):
        second = warp(x, -flow, "border")
        return warping_error(x, second, flow, mask), warping_error(x, second, 0 * flow, mask), second

    right, still, second = map(np.asarray, run(x, flow, mask))
    np.testing.assert_allclose(right, 0, atol=1e-6)
    np.testing.assert_allclose(still, (np.square(x - second)[:, :7, :7] / 4).sum(-1).mean((1, 2)), rtol=1e-5)


def test_occluded_pixels_and_motion_boundaries_do_not_count():
    """A square moves 4 pixels to the right over a still background."""
    flow, back = np.zeros((2, 1, 16, 16, 2), np.float32)
    flow[0, 4:8, 4:8, 0], back[0, 4:8, 8:12, 0] = 4, -4
    seen = np.asarray(jax.jit(not_occluded)(flow, back))[0]
    wanted = np.ones((16, 16))
    wanted[4:8, 8:12] = 0  # the background that the square covers
    for axis in (0, 1):  # forward differences of the flow
        ends = np.abs(np.diff(flow[0, ..., 0], axis=axis, append=0)) > 0
        wanted[ends] = 0
    np.testing.assert_array_equal(seen, wanted)


def of_net(name: str, true: Any, made: Any, spec: ArraySpec = SPEC) -> dict[str, float]:
    metric = net_scores.net_metric(name, spec)
    return metric.result(jax.jit(metric.update)(metric.empty(), true, made, np.ones(len(true), bool)))


def test_the_warping_error_of_a_clip_has_the_flow_of_the_true_one(monkeypatch):
    """A net that knows the motion; the output flickers by 0.2 from frame to frame."""
    rng = np.random.default_rng(0)
    frame = rng.uniform(-0.5, 0.5, (12, 14, 3)).astype(np.float32)
    true = np.stack([np.roll(frame, t, 1) for t in range(4)])[None]
    made = true + FLICKER

    def apply(variables, first, second):
        ahead = jnp.square(first[:, :, :-1] - second[:, :, 1:]).mean() < 1e-6
        one = jnp.broadcast_to(variables, (*first.shape[:3], 2))
        return jnp.where(ahead, one, -one)

    monkeypatch.setattr(net_scores, "open_flow", lambda name: FlowNet(apply, jnp.asarray([1.0, 0.0])))
    for name, error in (("warping_error_spynet", 3 * 0.1**2), ("true_warping_error_spynet", 0)):
        assert of_net(name, true, made) == {name: pytest.approx(error, abs=1e-6)}


def test_names_and_mistakes(tmp_path):
    names = ("warping_error_spynet", "st_lpips_alex", "st_lpips_vgg_by_frame", "flicker", "flicker_error")
    assert known(names) == (list(names), [])
    with pytest.raises(InputError, match="metric of videos, not of image"):
        net_scores.net_metric("warping_error_spynet", ArraySpec("image", (8, 8, 3)))
    run = untrained(tmp_path / "simvp", "video", "simvp-convmixer", "--data.source", "moving-digits")
    with pytest.raises(InputError, match="finds no optical flow"):
        open_flow(str(run))
    flow = open_flow(str(untrained(tmp_path / "spynet", "video", "spynet")))
    assert flow.between(np.zeros((10, 12, 1), np.float32), np.ones((10, 12, 1), np.float32)).shape == (10, 12, 2)


@pytest.mark.parity
def test_perceptual_distances_of_frames_are_those_of_images():
    from jaxgen.pretrained.perceptual_distances import st_lpips

    spec = ArraySpec("video", (2, 32, 40, 3))
    rng = np.random.default_rng(0)
    true, made = (rng.uniform(-1, 1, (2, 2, 32, 40, 3)).astype(np.float32) for _ in range(2))
    try:
        distance = st_lpips("alex")
    except InputError as error:
        pytest.skip(str(error))
    each = np.stack([np.asarray(distance(true[:, t], made[:, t])) for t in range(2)])  # [t b]
    assert of_net("st_lpips_alex", true, made, spec) == {"st_lpips_alex": pytest.approx(each.mean(), rel=1e-5)}
    wanted = {f"st_lpips_alex_frame{t + 1}": pytest.approx(each[t].mean(), rel=1e-5) for t in range(2)}
    assert of_net("st_lpips_alex_by_frame", true, made, spec) == wanted
