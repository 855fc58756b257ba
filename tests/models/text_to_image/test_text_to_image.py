"""Models of texts: what only they promise."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.core.capabilities import Denoiser
from jaxgen.core.errors import InputError
from jaxgen.core.spec import INTEGER, ArraySpec
from jaxgen.core.types import Context
from jaxgen.inference.texts import lines_of, tokens_of
from jaxgen.nn.backbones.text_encoder import TextEncoder
from jaxgen.tasks.denoising import Sampling, guided

NONE: Any = Context(extra={}, ema={}, frozen={}, step=jnp.int32(0))


def test_a_longer_context_changes_no_encoding():
    net = TextEncoder(9, 8, 1, 2, 4)
    short = jnp.asarray([[3, 4, 0], [0, 0, 0]])

    @jax.jit
    def both(key):
        params = net.init(key, jnp.zeros((1, 6), jnp.int32))["params"]
        less = {**params, "position_embedding": params["position_embedding"][:3]}
        return net.apply({"params": less}, short), net.apply({"params": params}, jnp.pad(short, ((0, 0), (0, 3))))

    (features, whole), (longer, same) = both(jax.random.key(0))
    np.testing.assert_allclose(whole, same, atol=1e-6)
    np.testing.assert_allclose(features, longer[:, :3], atol=1e-6)
    assert np.abs(whole[0] - whole[1]).max() > 1e-3  # the text counts


def test_a_negative_text_stands_in_place_of_none():
    d = Denoiser(lambda params, context, x, tau, given: given["text"].sum(1)[:, None] * jnp.ones_like(x), "flow",
                 np.asarray([1.0, 0.0]), (1,), {"text": (0, 7)})  # fmt: skip
    x, tau, text = jnp.zeros((2, 1)), jnp.ones(2), jnp.asarray([[1, 2], [3, 4]])
    how = Sampling("heun", 1, "time", guidance=3.0)
    plain = guided(d, {}, NONE, {"text": text}, how)(x, tau)
    np.testing.assert_allclose(plain[:, 0], 7 + 3 * (np.asarray([3, 7]) - 7))
    other = guided(d, {}, NONE, {"text": text, "negative_text": jnp.asarray([[1, 0], [1, 1]])}, how)(x, tau)
    np.testing.assert_allclose(other[:, 0], [1 + 3 * 2, 2 + 3 * 5])


def test_guidance_needs_texts_that_were_dropped():
    model = zoo.load("text-flow").tiny.model
    for wrong in ({"drop": 0.0}, {"sampling": Sampling("heun", 2, "time", guide="run", guidance=2.0)}):
        with pytest.raises(InputError, match=r"Guidance needs|has no guide"):
            replace(model, **wrong).task(1)


def test_texts_of_a_user(tmp_path, capsys):
    spec = ArraySpec("tokens", (4,), INTEGER, count=9, names=("<pad>", "<unknown>", " ", "a", "b", " a", "ab"))
    assert tokens_of(["ab", "", "A é"], spec).tolist() == [[5, 4, 0, 0], [0, 0, 0, 0], [5, 2, 1, 0]]
    assert "has the characters é" in capsys.readouterr().err
    tokens_of(["a a a a a a", "b b b"], spec)
    assert "longer than the model's 4 tokens; it sees 'a a a a', and 1 more" in capsys.readouterr().err
    (tmp_path / "lines.txt").write_text("one\n\ntwo\n")
    assert lines_of(["zero", str(tmp_path / "lines.txt")]) == ["zero", "one", "two"]
    (tmp_path / "lines.txt").write_text("\n")
    for path in (tmp_path / "lines.txt", tmp_path / "none.txt"):
        with pytest.raises(InputError, match=r"has no lines|can't be read: No such file"):
            lines_of([str(path)])
