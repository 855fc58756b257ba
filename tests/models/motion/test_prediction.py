"""Predictors of motion: what only they promise."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.fft import dct

from jaxgen import zoo
from jaxgen.core.capabilities import Transform
from jaxgen.core.errors import InputError
from jaxgen.core.types import Context
from jaxgen.models.motion.ltd import LTD
from jaxgen.models.motion.residual_gru import ResidualGRU
from jaxgen.tasks.motion_prediction import cosines

NONE: Any = Context(extra={}, ema={}, frozen={}, step=jnp.int32(0))
SMALL = ResidualGRU((-1, 0), 3, 4, 5, unit=2.0)


def test_waves_are_the_orthonormal_cosine_transform():
    np.testing.assert_allclose(cosines(7), np.asarray(dct(np.eye(7), norm="ortho", axis=0)), atol=1e-6)


def test_a_new_simlpe_repeats_the_last_pose():
    model = zoo.module("simlpe").PRESETS["simlpe-cmu"].tiny.model
    task = model.task(8)
    past = np.random.default_rng(0).normal(size=(2, model.past, 4, 3)).astype(np.float32)

    @jax.jit
    def made(key):
        params, _ = task.init(key, {})
        return task.get(Transform).apply(params, NONE, {"past": past}, None)["future"]

    np.testing.assert_allclose(made(jax.random.key(0)), np.repeat(past[:, -1:], model.future, 1), atol=1e-4)


def test_the_residual_gru_feeds_itself_its_own_poses():
    task = SMALL.task(1)
    params = jax.jit(lambda key: task.init(key, {})[0])(jax.random.key(0))
    past = np.random.default_rng(0).normal(size=(2, 3, 2, 3)).astype(np.float32)
    apply = jax.jit(lambda p: task.get(Transform).apply(p, NONE, {"past": past}, None)["future"])
    made = apply(params)

    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params["predictor"])
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731

    def cell(h, x):
        i, j = (
            np.split(of @ p["cell"][name]["kernel"] + p["cell"][name]["bias"], 3, -1)
            for name, of in (("ih", x), ("hh", h))
        )
        z = sigmoid(i[1] + j[1])
        return (1 - z) * np.tanh(i[2] + sigmoid(i[0] + j[0]) * j[2]) + z * h

    h, x = np.zeros((2, 5)), past.reshape(2, 3, 6) / 2
    for t in range(2):
        h = cell(h, x[:, t])
    pose = x[:, 2]
    for t in range(4):
        h = cell(h, pose)
        pose = pose + h @ p["out"]["kernel"] + p["out"]["bias"]
        np.testing.assert_allclose(made[:, t].reshape(2, 6), 2 * pose, atol=1e-5)


def test_settings_out_of_range():
    with pytest.raises(InputError, match="parents: each joint's parent is an earlier joint or -1, not 1"):
        LTD((-1, 1)).task(1)
    with pytest.raises(InputError, match=r"model\.waves must be at most past"):
        LTD(waves=36).task(1)
