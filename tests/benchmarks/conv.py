"""Milliseconds of our convolutions, plain XLA's and PyTorch's: `python -m tests.benchmarks.conv [words of a name]`.

The three alternate, 2 threads each, and the best of the rounds stands: other load on the machine slows all three alike.
"""

import os
import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.nn import conv_forms as forms
from jaxgen.nn.conv import Geometry

BATCH, ROUNDS, THREADS = 64, 7, 2
CASES = {  # image, window, stride, pad, channels
    "dcgan d1 4x4/2 64 3-64": (64, 4, 2, 1, (3, 64)),
    "dcgan d2 4x4/2 32 64-128": (32, 4, 2, 1, (64, 128)),
    "dcgan d3 4x4/2 16 128-256": (16, 4, 2, 1, (128, 256)),
    "dcgan d4 4x4/2 8 256-512": (8, 4, 2, 1, (256, 512)),
    "5x5/2 32 64-128": (32, 5, 2, 2, (64, 128)),
    "3x3 32 3-64": (32, 3, 1, 1, (3, 64)),
    "3x3 32 64-3": (32, 3, 1, 1, (64, 3)),
    "3x3 32 64-64": (32, 3, 1, 1, (64, 64)),
    "3x3 16 128-128": (16, 3, 1, 1, (128, 128)),
    "3x3 8 256-256": (8, 3, 1, 1, (256, 256)),
    "1x1 32 64-64": (32, 1, 1, 0, (64, 64)),
}


def torch_calls(x: np.ndarray, k: np.ndarray, y: np.ndarray, stride: int, pad: int) -> dict[str, Callable]:
    """The same three operations in PyTorch; none where it is not installed."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        return {}
    torch.set_num_threads(THREADS)
    images, slopes = (torch.tensor(a.transpose(0, 3, 1, 2).copy()) for a in (x, y))
    kernel = torch.tensor(k.transpose(3, 2, 0, 1).copy())
    pairs = ([stride] * 2, [pad] * 2, [1, 1], False, [0, 0], 1)

    def grad(*wanted: bool):
        return torch.ops.aten.convolution_backward(slopes, images, kernel, None, *pairs, [*wanted, False])

    return {
        "conv": lambda: torch.nn.functional.conv2d(images, kernel, None, stride, pad),
        "input_grad": lambda: grad(True, False),
        "kernel_grad": lambda: grad(False, True),
    }


def main(words: list[str]):
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])  # XLA has no option for its threads
    print(f"JAX {jax.__version__}, batch {BATCH}, {THREADS} threads, milliseconds")
    print(f"{'':28}{'operation':14}{'ours':>8}{'XLA':>8}{'PyTorch':>9}")
    for name, (size, window, stride, pad, (c_in, c_out)) in CASES.items():
        if not all(word in name for word in words):
            continue
        geometry = Geometry((size, size), (window, window), (stride, stride), ((pad, pad), (pad, pad)))
        shapes = (BATCH, size, size, c_in), (window, window, c_in, c_out), (BATCH, *geometry.output, c_out)
        random = np.random.default_rng(0)
        x, k, y = (random.standard_normal(shape).astype(np.float32) for shape in shapes)
        theirs = torch_calls(x, k, y, stride, pad)
        for operation, pair in {"conv": (x, k), "input_grad": (y, k), "kernel_grad": (x, y)}.items():
            calls = {}
            for kind in ("cpu", "xla"):
                function = jax.jit(getattr(forms, f"{kind}_{operation}"), static_argnums=2)
                arguments = jax.tree.map(jnp.asarray, pair)
                calls[kind] = lambda f=function, a=(*arguments, geometry): jax.block_until_ready(f(*a))
            if operation in theirs:
                calls["torch"] = theirs[operation]
            best = dict.fromkeys(calls, float("inf"))
            for _ in range(ROUNDS + 1):  # the first compiles; it is never the best
                for kind, call in calls.items():
                    start = time.perf_counter()
                    call()
                    best[kind] = min(best[kind], 1e3 * (time.perf_counter() - start))
            cells = [f"{best[kind]:8.1f}" if kind in best else " " * 8 for kind in ("cpu", "xla", "torch")]
            print(f"{name:28}{operation:14}{cells[0]}{cells[1]} {cells[2]}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
