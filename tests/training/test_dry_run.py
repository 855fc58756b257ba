"""The costs in a dry run."""

import dataclasses

import pytest

from jaxgen import zoo
from jaxgen.core.config import Compute, Mesh
from jaxgen.runs import sharding
from jaxgen.training.dry_run import shortage

RUN = dataclasses.replace(zoo.load("dcgan").tiny, batch=16)
DONE = Compute("bf16", accumulate=16, remat=True)


@pytest.mark.parametrize(
    "compute, working, words",
    [
        (Compute(), 9, "--batch (now 16), or raise --compute.accumulate (now 1), or set --compute.remat, or --compute"),
        (DONE, 9, "lower --batch (now 16)."),
        (Compute(), 1, "lower the model's width or depth, or cut the state over more devices with --mesh.fsdp."),
    ],
)
def test_a_step_that_does_not_fit_says_what_to_lower(compute, working, words, monkeypatch):
    mesh, run = sharding.make_mesh(Mesh(data=2)), dataclasses.replace(RUN, compute=compute)
    monkeypatch.setattr(sharding, "machine_memory", lambda: 20 * 10**9)
    said = shortage(run, mesh, 11 * 10**9, working * 10**9)
    assert said.startswith("A step takes 22.0 GB, this machine has 20.0: ") and words in said
    assert shortage(run, mesh, 10 * 10**9, working * 10**9) == ""
