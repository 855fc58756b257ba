"""Starts the project's commands as a user does."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
TINY = ["--preset", "dcgan", "--tiny"]


def start(environment: dict[str, str], *args: str) -> subprocess.Popen:
    """Start `python -m <args>` in the repository."""
    command, pipe = [sys.executable, "-m", *args], subprocess.PIPE
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL
    )


def call(environment: dict[str, str], *args: str, status: int = 0) -> str:
    """Run a command to its end, check its exit status, and return what it printed."""
    process = start(environment, *args)
    out, err = process.communicate(timeout=300)
    assert process.returncode == status, f"status {process.returncode}, not {status}:\n{out}\n{err}"
    assert "Traceback" not in out + err, out + err
    return out + err


def for_gradio(environment: dict[str, str]) -> dict[str, str]:
    """Return an environment for commands that import Gradio, which has warnings; skip the test where it is missing."""
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("Gradio is not installed: pip install 'jaxgen[demo]'")
    return {name: value for name, value in environment.items() if name != "PYTHONWARNINGS"}


def arrays(folder: Path, step: int) -> dict[str, np.ndarray]:
    """Return every array of a checkpoint, read without any model."""
    import jax
    import orbax.checkpoint as ocp

    handler: Any = ocp.PyTreeCheckpointHandler()
    path = folder.absolute() / "checkpoints" / str(step) / "state"
    shapes = jax.tree.map(lambda x: x, handler.metadata(path).tree, is_leaf=lambda x: hasattr(x, "shape"))
    as_numpy = jax.tree.map(
        lambda x: ocp.RestoreArgs(restore_type=np.ndarray), shapes, is_leaf=lambda x: hasattr(x, "shape")
    )
    tree = handler.restore(path, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
    return {jax.tree_util.keystr(p): np.asarray(x) for p, x in jax.tree_util.tree_leaves_with_path(tree)}


def assert_same(a: Path, b: Path, step: int):
    """Assert that two runs' checkpoints and metrics are equal to the last bit."""
    ours, theirs = arrays(a, step), arrays(b, step)
    assert ours.keys() == theirs.keys() and len(ours) > 20
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()
