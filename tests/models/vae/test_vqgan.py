"""The VQGAN's adaptive weight and gradients against the plain formula; its perceptual distances and patches."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxgen.core.errors import InputError
from jaxgen.core.types import Context
from jaxgen.models.vae._quantisers import Quantiser
from jaxgen.models.vae.vqgan import VQGAN, PatchDiscriminator

KEY = jax.random.key(0)
MODEL = VQGAN(
    (8, 8, 1), 8, 1, Quantiser(codes=8, size=4), 0, stages=1, start=5, discriminator_width=4, discriminator_layers=1
)


@pytest.fixture(scope="module")
def game():
    digits: Any = load_digits()
    batch = {"image": jnp.asarray(digits.images[:16] / 8 - 1, jnp.float32)[..., None]}
    params, extra = MODEL.init(KEY)
    frozen = {"perceptual": MODEL.backbone()}
    return params, lambda step: Context(extra, {}, frozen, jnp.int32(step)), batch


def plain_formula(params, context, batch, share):
    """Return both terms, and the autoencoder's loss with the weight `share` for the adversarial term."""
    x = batch["image"]
    q = MODEL.quantise(params, context, x)
    made = MODEL.decode_unclipped(params, q.values)
    error = jnp.abs(made - x).mean() + MODEL.perceptual_weight * MODEL.distance(context, made, x).mean()
    fooling = -MODEL.discriminate(params, context, made)[0].mean()
    return error, fooling, error + share * fooling + q.cost.mean()


def norm_at_the_last_layer(term, params) -> float:
    return float(jnp.linalg.norm(jax.grad(term)(params)["decoder"]["out"]["kernel"].reshape(-1)))


@pytest.mark.slow
def test_the_weight_and_the_gradient_equal_the_formulas(game):
    params, context_at, batch = game
    context = context_at(5)
    error, fooling = (
        norm_at_the_last_layer(lambda p, i=i: plain_formula(p, context, batch, 0.0)[i], params) for i in (0, 1)
    )
    (value, aux), slope = jax.value_and_grad(MODEL.loss, has_aux=True)(params, context, batch, KEY)
    weight = error / (fooling + 1e-4)
    assert float(aux.metrics["weight"]) == pytest.approx(weight, rel=1e-3)
    want, of_all = jax.value_and_grad(lambda p: plain_formula(p, context, batch, 0.8 * weight)[2])(params)
    assert float(value) == pytest.approx(float(want), rel=1e-4)
    for net in ("encoder", "decoder"):
        scale = max(float(jnp.abs(g).max()) for g in jax.tree.leaves(of_all[net]))
        jax.tree.map(lambda a, b, scale=scale: np.testing.assert_allclose(a, b, atol=1e-3 * scale), slope[net], of_all[net])  # noqa: E501  # fmt: skip


@pytest.mark.slow
def test_before_its_start_the_discriminator_has_no_influence_and_no_updates(game):
    params, context_at, batch = game
    context = context_at(4)
    (value, aux), slope = jax.value_and_grad(MODEL.loss, has_aux=True)(params, context, batch, KEY)
    want, of_all = jax.value_and_grad(lambda p: plain_formula(p, context, batch, 0.0)[2])(params)
    assert float(value) == pytest.approx(float(want), rel=1e-4)
    np.testing.assert_allclose(slope["decoder"]["out"]["kernel"], of_all["decoder"]["out"]["kernel"], atol=1e-5)
    still = jax.grad(lambda p: MODEL.discriminator_loss(p, context, batch, KEY)[0])(params)["discriminator"]
    assert all(not x.any() for x in jax.tree.leaves(still))
    moves = jax.grad(lambda p: MODEL.discriminator_loss(p, context_at(5), batch, KEY)[0])(params)["discriminator"]
    assert moves["layer_0"]["kernel"].any() and moves["out"]["kernel"].any()
    assert aux.metrics["perceptual"] > 0


@pytest.mark.parametrize("kind, image", [("lenet", (16, 16, 1)), ("st_lpips", (32, 32, 3))])
def test_the_perceptual_distance_of_equal_images_is_zero(kind, image):
    model = replace(MODEL, image=image, perceptual=kind)
    a, b = jnp.tanh(jax.random.normal(KEY, (2, 3, *image)))
    frozen = {"perceptual": model.backbone()}
    context = Context({}, {}, frozen, jnp.int32(0))
    assert np.abs(model.distance(context, a, a)).max() < 1e-5
    near, far = (float(model.distance(context, a, a + s * (b - a)).mean()) for s in (0.1, 0.9))
    assert 1e-4 < near < far


def test_the_discriminator_sees_patches():
    net = PatchDiscriminator(3, 4)
    shape = jax.eval_shape(lambda: net.init_with_output(KEY, jnp.zeros((1, 256, 256, 3)))[0])
    assert shape.shape == (1, 30, 30)  # 70x70 each, 8 apart


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"perceptual": "st_lpips"}, "needs colour images of at least 21x21"),
        ({"discriminator_layers": 2}, "at least 16x16, not 8x8"),
        ({"discriminator_layers": 0}, "model.discriminator_layers must be at least 1"),
        ({"adversarial": -1.0}, "model.adversarial must be at least 0"),
        ({"start": -1}, "model.start must be at least 0"),
    ],
)
def test_wrong_settings_raise(changes, words):
    with pytest.raises(InputError, match=words):
        replace(MODEL, **changes).task(1)
