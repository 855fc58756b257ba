"""Parts of video prediction: repeated prediction, scheduled sampling."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.capabilities import Transform
from jaxgen.core.errors import InputError
from jaxgen.core.types import Context
from jaxgen.models.video._recurrent import shares
from jaxgen.models.video.convlstm import TINY as CONVLSTM
from jaxgen.models.video.predrnn import PredRNN
from jaxgen.models.video.simvp import SimVP
from jaxgen.models.video.tau import differential_divergence
from jaxgen.tasks.video_prediction import extended


def test_predictions_are_extended_by_their_own():
    past = jnp.arange(3.0).reshape(1, 3, 1, 1, 1)
    made = [extended(lambda x: x + 3, past, n)[0, :, 0, 0, 0].tolist() for n in (2, 3, 7)]
    assert made == [[3, 4], [3, 4, 5], [3, 4, 5, 6, 7, 8, 9]]


def test_true_frames_become_inputs_ever_less_often():
    """OpenSTL's schedules with their published numbers: 10 frames to 10, until step 50,000."""
    at = lambda kind, step: np.asarray(shares(kind, jnp.int32(step), 10, 19, 50_000), float)  # noqa: E731
    for step, after in (0, 1 - 2e-5), (24_999, 0.5), (49_999, 0), (60_000, 0):
        np.testing.assert_allclose(at("scheduled", step), [1] * 10 + [after] * 9, atol=1e-6)
    for step, before, after in (0, 0.5, 0.5), (24_999, 0.5, 0.5), (30_000, 1 - 0.5 * np.exp(-1), 0.4), (50_000, 1, 0):
        np.testing.assert_allclose(at("reversed", step), [1] + [before] * 9 + [after] * 9, atol=1e-6)


def test_a_prediction_depends_on_the_past_alone_and_more_frames_begin_with_the_same():
    task = CONVLSTM.task(1)
    clip = np.random.default_rng(0).uniform(-1, 1, (2, 5, 16, 16, 1)).astype(np.float32)
    params, _ = task.init(jax.random.key(0), {})

    def predicted(model) -> np.ndarray:
        context = Context(extra={}, ema={}, frozen={}, step=jnp.int32(0))
        given = {"past": clip[:, :3]}
        return np.asarray(jax.jit(model.task(1).get(Transform).apply)(params, context, given, None)["future"])

    short, long = predicted(CONVLSTM), predicted(replace(CONVLSTM, future=6))
    assert short.shape == (2, 2, 16, 16, 1) and long.shape == (2, 6, 16, 16, 1)
    np.testing.assert_allclose(long[:, :2], short, atol=1e-6)


def test_the_divergence_of_changes_in_closed_form():
    """Two values that change by d: softmax((d, 0) / 0.1) has the logistic probabilities of d / 0.1."""
    true = np.zeros((1, 3, 2, 1, 1), np.float32)
    made = true.copy()
    made[0, :, 0, 0, 0] = [0, 0.1, 0.2]
    p = np.array([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))])
    wanted = (p * np.log(p / 0.5)).mean()
    np.testing.assert_allclose(differential_divergence(jnp.asarray(made), jnp.asarray(true)), wanted, rtol=1e-5)
    assert float(differential_divergence(jnp.asarray(made[:, :2]), jnp.asarray(true[:, :2]))) == 0


def test_mistakes_in_settings():
    for model, sentence in (
        (SimVP(image=(30, 64, 1)), "multiples of 4"),
        (SimVP(width=3), "model.width must be even, not 3"),
        (SimVP(past=3, width=6), r"a multiple of 8, not 3 \* 6"),
        (SimVP(hidden=40), "one of 16, not 40"),
        (PredRNN(widths=(8, 16)), "must be equal, not 8 16"),
        (PredRNN(image=(62, 64, 1)), "multiples of model.patch=4"),
        (PredRNN(sampling="all"), "scheduled"),
        (PredRNN(kernel=4), "model.kernel must be odd"),
    ):
        with pytest.raises(InputError, match=sentence):
            model.task(1)
