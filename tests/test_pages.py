"""Every command of README.md and of the other pages is run as it is written, on small images and tiny models.

Of the trainings that differ in preset and settings alone one of each family runs; the steps of the others are traced.
"""

import re
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen import data
from jaxgen.commands.parse import parse
from jaxgen.core.config import validate
from jaxgen.core.spec import spec_of
from jaxgen.core.step import make_step
from jaxgen.runs import sharding
from jaxgen.runs.load import build_task
from jaxgen.training.setup import batch_of
from tests.helpers import pages
from tests.helpers.pages import ROOT
from tests.helpers.running import call, for_gradio
from tests.helpers.takes import take

SETUP = ("make ", "pip install")  # of an environment; .ci/run does it
COMMANDS = list(
    dict.fromkeys(command for page in pages.PAGES for command in pages.commands(page) if not command.startswith(SETUP))
)
TRAININGS = [c for c in COMMANDS if re.search(r"-m train\.\w+ ", c) and not re.search("--(list|help|resume)", c)]
# Of each family the shortest one runs, and the first that does one of these.
OWN = (
    *("--eval.every", "--start.from", "--dry-run", "--mesh.fsdp", "--model.teacher", "--model.autoencoder"),
    *("--model.styles", "paired:", "unpaired:", "video:"),
)
SHORTEST = {re.findall(r"train\.\w+", c)[0]: c for c in sorted(TRAININGS, key=len, reverse=True)}
RUN = {*SHORTEST.values(), *(c for word in OWN for c in [c for c in TRAININGS if f" {word}" in c][:1])}
TRACED = [c for c in TRAININGS if c not in RUN]


def test_the_pages_have_commands_of_every_kind():
    from jaxgen.__main__ import COMMANDS as known

    text = "\n".join(COMMANDS)
    assert {f"train.{family.parent.name}" for family in ROOT.glob("jaxgen/models/*/README.md")} <= set(
        re.findall(r"train\.\w+", text)
    )
    assert set(re.findall(r"-m jaxgen (\w+)", text)) <= set(known)


@pytest.fixture(scope="module")
def paintings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("paintings")
    for name in ("a.jpg", "b.jpg", "wave.jpg"):
        Image.new("RGB", (16, 16)).save(folder / name)
    (folder / "take.bvh").write_text(take(4))
    return folder


@pytest.mark.parametrize("command", TRAININGS)
def test_every_training_of_the_pages_has_valid_settings(command, paintings, monkeypatch):
    monkeypatch.chdir(paintings)
    words = re.split(r"\s+", command.removeprefix("srun ").removeprefix("python -m train."))
    run = parse(words[0], words[1:]).run
    validate(run)
    if not re.search("autoencoder|teacher", command):  # of a run that is not there
        assert run.model.task(run.steps).example


@pytest.mark.slow
def test_the_training_step_of_the_readme_runs_as_it_stands():
    [step] = [code for code in pages.python(ROOT / "README.md") if "make_step" in code]
    names: dict[str, Any] = {}
    exec(step, names)
    assert names["images"].shape == (16, 32, 32, 1) and np.isfinite(names["images"]).all()


@pytest.fixture(scope="module")
def furnished(tmp_path_factory, real_data):
    folder = tmp_path_factory.mktemp("pages")
    pages.furnish(folder, real_data)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", TRACED)
def test_the_data_of_a_training_of_the_pages_open_and_its_step_can_be_traced(command, furnished, monkeypatch):
    monkeypatch.chdir(furnished)
    pages.runs_of(furnished)(command)
    words = ["paired:PAIRS" if word == "paired:DIR" else word for word in pages.smaller(command)]
    run = parse(words[0].removeprefix("train."), words[1:]).run
    validate(run)
    mesh = sharding.make_mesh(run.mesh)
    task = build_task(run, mesh)
    data.check_source(data.open_source(run.data, task.example), run.data, task.example)
    like = sharding.abstract_state(task, mesh, spec_of(task, run.batch))
    frozen = {net: load() for net, load in task.frozen.items()}  # some read a run
    after, _ = jax.eval_shape(make_step(task), like, batch_of(run, task, mesh), frozen)
    assert jax.tree.structure(after) == jax.tree.structure(like)


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in TRACED and not c.endswith("jaxgen demo")])
def test_every_command_of_the_pages_runs(command, furnished, cli, monkeypatch, environment):
    monkeypatch.chdir(furnished)
    words = pages.smaller(command)
    pages.runs_of(furnished)(command)
    if words[:2] == ["jaxgen", "demo"]:  # Gradio starts threads and warns: a process of its own, which starts elsewhere
        call(for_gradio(environment), *[str(furnished / word) if word == "RUN" else word for word in words])
        return
    words = [f"{word}.png" if word in ("IMAGE", "MASK") else word for word in words]
    words = ["paired:PAIRS" if word == "paired:DIR" else "DIR" if word == "PATH" else word for word in words]
    if words[0] == "jaxgen":
        words = [*words[1:], *(["--overwrite"] if takes_overwrite(words[1]) else [])]
    elif not {"--list", "--help", "--dry-run"} & set(words):  # the last --out counts
        words += ["--out", f"trained/{COMMANDS.index(command)}"]
    out = cli(0, *words)
    assert "Traceback" not in out


def takes_overwrite(name: str) -> bool:
    import inspect

    from jaxgen.__main__ import command

    return "overwrite" in inspect.signature(command(name)).parameters
