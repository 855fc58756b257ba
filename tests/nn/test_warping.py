"""Warping by optical flow: shifts in closed form, and PyTorch's grid_sample."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn.flow_colours import flow_image
from jaxgen.nn.resample import resize_corners
from jaxgen.nn.warping import identity_flow, warp


def test_shifts_in_closed_form():
    x = np.random.default_rng(0).normal(size=(1, 4, 5, 2)).astype(np.float32)
    flow = np.broadcast_to(np.asarray([2, -1], np.float32), (1, 4, 5, 2))
    both = jax.jit(lambda x, flow: (warp(x, flow), warp(x, flow, "border"), warp(x, 0.5 * flow)))
    zeros, border, half = map(np.asarray, both(x, flow))
    np.testing.assert_array_equal(zeros[:, 1:, :3], x[:, :3, 2:])
    assert not zeros[:, 0].any() and not zeros[:, :, 3:].any()
    np.testing.assert_array_equal(border[:, 1:, 3:], np.repeat(x[:, :3, 4:], 2, 2))
    np.testing.assert_array_equal(border[:, 0, :3], x[:, 0, 2:])
    np.testing.assert_allclose(half[:, 1:, :4], (x[:, :3, 1:] + x[:, 1:, 1:]) / 2, atol=1e-6)
    np.testing.assert_allclose(half[:, 0, :4], x[:, 0, 1:] / 2, atol=1e-6)  # half of it is outside


def test_no_motion_is_white_and_motion_to_the_right_is_red():
    flow = np.zeros((1, 1, 4, 2), np.float32)
    flow[0, 0, 1:] = [8, 0], [-4, 0], [0, 0.5]
    seen = np.asarray(flow_image(jnp.asarray(flow)))[0, 0]
    np.testing.assert_allclose(seen, [[1, 1, 1], [1, -1, -1], [0, 1, 1], [(1 + 0.875) / 2, 1, 0.875]], atol=1e-6)


def test_places_are_to_the_right_and_down():
    np.testing.assert_array_equal(identity_flow(1, 2, 3)[0], [[[0, 0], [1, 0], [2, 0]], [[0, 1], [1, 1], [2, 1]]])


@pytest.mark.parity
@pytest.mark.parametrize("edges", ["zeros", "border"])
def test_values_and_gradients_are_pytorchs(edges):
    torch: Any = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(2, 6, 7, 3)).astype(np.float32) for _ in range(2))
    flow = rng.normal(0, 3, (2, 6, 7, 2)).astype(np.float32)

    @jax.jit
    def run(x, flow):
        made, back = jax.vjp(lambda x, flow: warp(x, flow, edges), x, flow)
        return made, *back(y)

    x_there, flow_there = (torch.tensor(v, requires_grad=True) for v in (x, flow))
    place = torch.tensor(np.asarray(identity_flow(2, 6, 7))) + flow_there
    place = 2 * place / torch.tensor([6.0, 5.0]) - 1
    made = torch.nn.functional.grid_sample(
        x_there.permute(0, 3, 1, 2), place, padding_mode=edges, align_corners=True
    ).permute(0, 2, 3, 1)
    made.backward(torch.tensor(y))
    for ours, theirs in zip(run(x, flow), (made.detach(), x_there.grad, flow_there.grad), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-4)


@pytest.mark.parity
def test_corners_coincide_as_pytorchs_do():
    torch: Any = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(1, 3, 1, 2)).astype(np.float32)
    for size in ((6, 2), (3, 1), (7, 4), (2, 3)):
        theirs = torch.nn.functional.interpolate(
            torch.tensor(x).permute(0, 3, 1, 2), size=size, mode="bilinear", align_corners=True
        )
        np.testing.assert_allclose(resize_corners(jnp.asarray(x), size), theirs.permute(0, 2, 3, 1), atol=1e-6)
