"""Convolutions over time, beside PyTorch's."""

from typing import Any

import jax
import numpy as np
import pytest

from jaxgen.nn.conv3d import conv3d, conv3d_transpose
from jaxgen.nn.recurrent import GRUCell, LSTMCell

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
RNG = np.random.default_rng(0)


def drawn(*shape: int) -> Any:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("strides", "pads", "taps"), [((2, 2, 2), (1, 1, 1), 4), ((1, 2, 2), (0, 1, 1), 4), ((1, 1, 1), (1, 1, 1), 3)]
)
def test_convolutions(strides, pads, taps):
    x, kernel = drawn(2, 6, 8, 4, 3), drawn(taps, taps, taps, 3, 5)
    both = tuple((p, p) for p in pads)
    turned, weight = torch.tensor(x).permute(0, 4, 1, 2, 3), torch.tensor(kernel)
    with jax.ensure_compile_time_eval():
        ours = conv3d(x, kernel, strides, both), conv3d_transpose(x, kernel, strides, both)
    theirs = (
        torch.nn.functional.conv3d(turned, weight.permute(4, 3, 0, 1, 2), None, strides, pads),
        torch.nn.functional.conv_transpose3d(turned, weight.permute(3, 4, 0, 1, 2), None, strides, pads),
    )
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other.permute(0, 2, 3, 4, 1).numpy(), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_cells(kind):
    width, n = 4, 3
    theirs = {"gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell}[kind](n, width)
    own = {name: x.detach().numpy() for name, x in theirs.named_parameters()}
    params = {part: {"kernel": own[f"weight_{part}"].T, "bias": own[f"bias_{part}"]} for part in ("ih", "hh")}
    x, h, c = drawn(2, n), drawn(2, width), drawn(2, width)
    if kind == "gru":
        ours: Any = [GRUCell(width).apply({"params": params}, h, x)]
        right = [theirs(torch.tensor(x), torch.tensor(h))]
    else:
        ours = LSTMCell(width).apply({"params": params}, (h, c), x)
        right = theirs(torch.tensor(x), (torch.tensor(h), torch.tensor(c)))
    for one, other in zip(ours, right, strict=True):
        np.testing.assert_allclose(one, other.detach().numpy(), atol=1e-6)
