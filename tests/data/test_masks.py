"""Masks: hidden shares, DeepFill's strokes, Pillow's letters."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from scipy import stats

from jaxgen.data import masks
from tests.helpers.degradation_samples import keys, pieces_of


@pytest.mark.parametrize(
    "name, low, high", [("boxes", 0.01, 0.75), ("strokes", 0.01, 0.7), ("scratches", 0.001, 0.35), ("text", 0.01, 0.4)]
)
@pytest.mark.parametrize("size", [(64, 80), (97, 33)])
def test_masks_hide_a_plausible_share(name, low, high, size):
    made = np.asarray(jax.jit(masks.MASKS[name], static_argnums=1)(keys(40), size))
    assert made.shape == (40, *size, 1) and set(np.unique(made)) == {0, 1}
    share = np.asarray(masks.masked_share(jnp.asarray(made)))
    np.testing.assert_allclose(share, made.mean((1, 2, 3)), rtol=1e-5)
    assert share.min() > 0 and low < np.median(share) and share.max() < high
    assert len(np.unique(share)) > 20
    if name in ("boxes", "strokes"):
        most = {"boxes": 4, "strokes": 3}[name]
        assert {pieces_of(mask[..., 0]) for mask in made} <= set(range(1, most + 1))


def test_strokes_have_the_statistics_of_deepfill():
    """Hidden shares against algorithm 1 of Yu et al. 2019 drawn by Pillow, with the constants of its code."""
    rng, n = np.random.default_rng(0), 256
    shares = []
    for _ in range(300):
        canvas = Image.new("1", (n, n))
        pen = ImageDraw.Draw(canvas)
        for _ in range(rng.integers(1, 4)):
            low, high = 2 * math.pi / 5 + np.array([-1, 1]) * rng.uniform(0, 2 * math.pi / 15, 2)
            place, width, radius = rng.uniform(0, n, 2), rng.uniform(12, 40), math.hypot(n, n) / 8
            for i in range(rng.integers(4, 12)):
                angle = rng.uniform(low, high) * (-1) ** (i + 1)
                step = np.clip(rng.normal(radius, radius / 2), 0, 2 * radius)
                end = np.clip(place + step * np.array([math.cos(angle), math.sin(angle)]), 0, n)
                pen.line([*place, *end], 1, round(width))
                for x, y in (place, end):
                    pen.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], 1)
                place = end
        shares.append(np.asarray(canvas).mean())
    ours = np.asarray(masks.masked_share(jax.jit(masks.strokes, static_argnums=1)(keys(300), (64, 64))))
    same: Any = stats.ks_2samp(ours, shares)
    assert same.pvalue > 1e-3
    assert abs(ours.mean() - np.mean(shares)) < 0.025


def test_letters_equal_pillow():
    font = getattr(ImageFont, "load_default_imagefont", ImageFont.load_default)()
    for letter in "Ag8~":
        canvas = Image.new("1", (6, 11))
        ImageDraw.Draw(canvas).text((0, 0), letter, 1, font)
        assert np.array_equal(masks.glyphs()[ord(letter) - 33], np.asarray(canvas)) and np.asarray(canvas).any()
