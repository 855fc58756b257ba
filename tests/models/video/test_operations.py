"""The number of multiply-accumulates of the nets that predict frames, beside OpenSTL's table."""

import pytest

from tests.benchmarks.video_macs import PUBLISHED, macs


@pytest.mark.parametrize("preset", ["convlstm", *(pytest.param(x, marks=pytest.mark.slow) for x in [*PUBLISHED][1:])])
def test_multiply_accumulates_are_the_published_ones(preset):
    """Products alone, or with the norms as fvcore counts them, round to the published figure."""
    products, norms = (x / 1e9 for x in macs(preset))
    assert products - 0.051 < PUBLISHED[preset] < products + norms + 0.051
