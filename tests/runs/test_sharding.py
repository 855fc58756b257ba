"""Meshes, rules, launchers, and runs of several processes."""

import json
import os
import re
import shutil
import socket
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxgen.core.config import Mesh
from jaxgen.core.errors import InputError
from jaxgen.runs import sharding
from tests.helpers.running import ROOT, TINY, arrays, call, start


def test_arrays_are_cut_along_their_longest_axis_that_divides():
    mesh = sharding.make_mesh(Mesh(data=2, fsdp=4))
    tree = {
        "kernel": jax.ShapeDtypeStruct((4, 4, 64, 128), jnp.float32),
        "odd": jax.ShapeDtypeStruct((9999, 8), jnp.float32),
        "prime": jax.ShapeDtypeStruct((9973,), jnp.float32),
        "bias": jax.ShapeDtypeStruct((128,), jnp.float32),
    }
    lie = {k: tuple(s.spec) for k, s in sharding.shardings(tree, mesh).items()}
    assert lie == {"kernel": (None, None, None, "fsdp"), "odd": (None, "fsdp"), "prime": (), "bias": ()}
    ruled = sharding.shardings({"params": tree, "mu": tree}, mesh, rules=[("bias$", PartitionSpec("fsdp"))])
    assert [tuple(ruled[k]["bias"].spec) for k in ("params", "mu")] == [("fsdp",)] * 2


def test_a_mesh_takes_all_devices_by_default():
    assert dict(sharding.make_mesh(Mesh()).shape) == {"data": 8, "fsdp": 1}
    assert dict(sharding.make_mesh(Mesh(fsdp=2)).shape) == {"data": 4, "fsdp": 2}
    assert sharding.make_mesh(Mesh(data=2, fsdp=2)).size == 4
    with pytest.raises(InputError, match="asks for 16 devices, but there are 8"):
        sharding.make_mesh(Mesh(data=4, fsdp=4))


@pytest.mark.parametrize(
    "environment, launcher",
    [
        ({}, None),
        ({"SLURM_NTASKS": "4"}, None),
        ({"SLURM_NTASKS": "4", "SLURM_STEP_ID": "0"}, "SLURM"),
        ({"SLURM_NTASKS": "1", "SLURM_STEP_ID": "0"}, None),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "Open MPI"),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "TPU pod"),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
    ],
)
def test_launchers_are_detected_by_the_environment(environment, launcher):
    assert sharding.launched_by(environment) == launcher


@pytest.mark.parametrize(
    "mesh, words",
    [
        (Mesh(coordinator="localhost:1"), "go together"),
        (Mesh(coordinator="localhost:1", num_processes=2, process_id=2), "from 0 to 1"),
        (Mesh(coordinator="localhost", num_processes=2, process_id=0), "HOST:PORT"),
    ],
)
def test_a_wrong_address_is_refused(mesh, words):
    with pytest.raises(InputError, match=words):
        sharding.start(mesh, {})


def test_a_batch_is_cut_over_all_devices():
    mesh = sharding.make_mesh(Mesh(fsdp=2))
    x = np.arange(16.0, dtype=np.float32).reshape(16, 1)
    on_mesh = sharding.put_batch(mesh)({"x": x})["x"]
    assert len({s.device for s in on_mesh.addressable_shards}) == 8
    assert {s.data.shape for s in on_mesh.addressable_shards} == {(2, 1)}
    np.testing.assert_array_equal(on_mesh, x)


OPTIONS = [*TINY, "--steps", "20", "--save.every", "10"]
# Gloo's threads write to the output at the same time: one of their lines may contain parts of another.
GLOO = re.compile(r"\[Gloo\] Rank | is connected to | peer ranks\. |Expected number of connected peer ranks is : ")


def together(environment, *args: str, status: int = 0) -> str:
    """Run a command as two processes of four devices each, and return what the first one printed."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    four = {**environment, "JAX_NUM_CPU_DEVICES": "4"}
    where = ["--mesh.coordinator", f"localhost:{port}", "--mesh.num-processes", "2", "--mesh.process-id"]
    processes = [start(four, *args, *where, str(i)) for i in range(2)]
    ends = [p.communicate(timeout=240) for p in processes]
    assert [p.returncode for p in processes] == [status] * 2, ends
    assert not GLOO.sub("", ends[1][0]).strip(" \n0123456789"), f"only the first process talks, not {ends[1][0]!r}"
    return ends[0][0] + ends[0][1]


def rewind(folder):
    """Take a finished run of 20 steps back to its checkpoint of step 10."""
    shutil.rmtree(folder / "checkpoints" / "20")
    (folder / "checkpoints" / "20.sha256").unlink()


def assert_close(a, b):
    lines = [[json.loads(x) for x in (f / "metrics.jsonl").read_text().splitlines()] for f in (a, b)]
    assert len(lines[0]) == len(lines[1]) == 4
    for ours, theirs in zip(*lines, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-3, abs=2e-4)
    ours, theirs = arrays(a, 20), arrays(b, 20)
    # Adam turns even a gradient of noise into a step of the learning rate: hence the absolute tolerance.
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0.02, atol=2e-3, err_msg=name)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_processes_agree_with_one_device_and_take_over_its_checkpoints(tmp_path, environment):
    one, two = tmp_path / "one", tmp_path / "two"
    call(environment, "train.gan", *OPTIONS, "--out", str(one))
    printed = together(environment, "train.gan", *OPTIONS, "--out", str(two), "--mesh.fsdp", "2")
    assert "Finished" in printed
    assert_close(one, two)
    record = json.loads((two / "environment.json").read_text())[0]
    assert record["processes"] == 2 and record["mesh"] == {"data": 4, "fsdp": 2}
    rewind(two)  # one device resumes the run of two processes
    assert "Resuming" in call(environment, "train.gan", *OPTIONS, "--out", str(two))
    assert_close(one, two)
    rewind(one)  # and two processes resume that of one device
    assert "Resuming" in together(environment, "train.gan", *OPTIONS, "--out", str(one), "--mesh.fsdp", "4")
    assert_close(one, two)


LATE = """
import sys, time
from jaxgen.commands.train import script
from jaxgen.runs import sharding
make = sharding.make_mesh
def late(config):
    mesh = make(config)
    time.sleep(4 * int(sys.argv[-1]))
    return mesh
sharding.make_mesh = late
script("gan")
"""


@pytest.mark.slow
def test_the_others_wait_for_a_process_that_finds_the_mistake_late(tmp_path, environment):
    (tmp_path / "late.py").write_text(LATE)
    path = f"{tmp_path}{os.pathsep}{ROOT}"
    together({**environment, "PYTHONPATH": path}, "late", *OPTIONS, "--out", str(tmp_path), "--batch", "20", status=2)


def test_a_mistake_ends_every_process(tmp_path, environment):
    printed = together(environment, "train.gan", *OPTIONS, "--out", str(tmp_path), "--batch", "20", status=2)
    assert "8 devices don't divide a batch of 20" in printed


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("killed", [0, 1])
def test_a_process_whose_other_is_killed_leaves_soon_with_one_sentence(killed, tmp_path, environment):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    options = [*TINY, "--steps", "100000", "--log.every", "20", "--log.samples", "0", "--out", str(tmp_path / "run")]
    where = ["--mesh.coordinator", f"localhost:{port}", "--mesh.num-processes", "2", "--mesh.process-id"]
    processes = [start(environment, "train.gan", *options, *where, str(i)) for i in range(2)]
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not metrics.exists() or not metrics.stat().st_size:
        assert all(p.poll() is None for p in processes)
        time.sleep(0.05)
    processes[killed].kill()
    began = time.monotonic()
    _, err = processes[1 - killed].communicate(timeout=60)
    processes[killed].communicate()
    assert time.monotonic() - began < 10
    if killed:  # the other one is the coordinator: without it JAX itself ends a process
        assert processes[0].returncode == 1, err
        assert "Another process of this run has ended" in err and "Traceback" not in err and err.count("\n") < 5, err
