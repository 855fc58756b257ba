"""A run goes on: by its folder alone, longer than planned, and with what it says of its plan."""

import dataclasses
import json
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.commands.parse import parse
from jaxgen.core.config import Optim, Run, validate
from jaxgen.core.errors import InputError
from jaxgen.core.spec import labelled
from jaxgen.runs.config_io import load_config
from jaxgen.runs.task_transforms import schedule, warmup_of
from jaxgen.training.loop import fit
from jaxgen.training.resuming import lengthened, shortened_warmup, untrained_classes
from jaxgen.training.window import NonFinite, Window
from tests.helpers.running import assert_same

TINY = ["--preset", "autoencoder", "--tiny", "--mesh.data", "1", "--log.samples", "0"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that had all its steps from the start."""
    folder = tmp_path_factory.mktemp("resuming") / "whole"
    return fit(parse("vae", [*TINY, "--steps", "30", "--out", str(folder)]).run)


def test_a_finished_run_is_lengthened_by_its_folder_alone(whole, tmp_path, cli, tiny_run):
    folder = tiny_run(tmp_path / "run", "vae", "autoencoder")
    said = cli(0, "train", "--resume", folder)
    assert f"{folder} is finished: it has taken all its 20 steps; --resume {folder} --steps 40 makes it longer" in said
    record = (folder / "data.json").read_text()
    (folder / "data.json").write_text(record.replace("1500", "1499"))
    said = cli(2, "train", "--resume", folder, "--steps", "30")
    assert f"The data digits have changed since the last start of {folder}: 1,499 examples then, 1,500 now" in said
    said = cli(0, "train", "--resume", folder, "--steps", "30", "--data.changed-ok")
    assert "1,499 examples then, 1,500 now. step" in said and (folder / "data.json").read_text() == record
    assert f"{folder} is lengthened from 20 to 30 steps: what is planned over all its steps is stretched. " in said
    assert "The learning rate" not in said and "Finished 30 steps" in said
    assert load_config(folder).steps == 30
    assert_same(whole, folder, 30)
    assert "a run of 30 steps: it can become longer, but not shorter" in cli(2, "train.vae", *TINY, "--out", folder)


def test_a_lengthened_schedule_says_where_the_rate_goes_on():
    said = lengthened("runs/a", Optim(schedule="linear"), 100, 200, 100)
    assert said.endswith("is stretched. The learning rate goes on at 0.5 of its highest, from 0.")
    said = lengthened("runs/a", Optim(warmup=50), 100, 200, 100)
    assert said.endswith("from 100 to 200 steps: what is planned over all its steps is stretched.")


def test_resuming_by_folder_reads_the_settings(tmp_path, tiny_run):
    folder = tiny_run(tmp_path / "run", "vae", "autoencoder")
    config = json.loads((folder / "config.json").read_text())
    config |= {"batch": 48, "mesh": {**config["mesh"], "coordinator": "a:1", "num_processes": 2, "process_id": 1}}
    (folder / "config.json").write_text(json.dumps(config))
    run = parse("vae", ["--resume", str(folder), "--data.threads", "2"]).run
    assert (run.batch, run.folder, run.data.threads, run.mesh.data) == (48, folder, 2, 1)
    assert run.mesh.coordinator is run.mesh.num_processes is run.mesh.process_id is None
    for family, more, words in (
        ("gan", [], "belongs to another family: python -m train.vae"),
        ("vae", ["--tiny"], "leave out --preset and --tiny"),
        ("vae", ["--preset", "vae"], "leave out --preset and --tiny"),
        ("vae", ["--out", "elsewhere"], f"in the run's own folder, {folder}: leave out --out"),
    ):
        with pytest.raises(InputError, match=words):
            parse(family, [f"--resume={folder}", *more])
    with pytest.raises(InputError, match="There is no run folder"):
        parse("vae", ["--resume", str(tmp_path / "nowhere")])


def test_a_tiny_run_has_a_folder_of_its_own():
    assert str(parse("gan", ["--preset", "dcgan", "--tiny"]).run.folder) == "runs/dcgan-tiny"
    assert str(parse("gan", ["--preset", "dcgan"]).run.folder) == "runs/dcgan"


def test_a_short_run_has_a_short_warmup():
    assert [warmup_of(Optim(warmup=500), steps) for steps in (5000, 500, 499, 150, 3)] == [500, 500, 49, 15, 1]
    rates = schedule(Optim(schedule="linear", warmup=500), 150)
    np.testing.assert_array_equal([rates(step) for step in (0, 15, 150)], [0, 1, 0])
    run = Run(None, optim=Optim(warmup=500), steps=150)
    validate(run)
    assert shortened_warmup(run, 14) == ["The run has 150 steps: its warm-up takes 15, a tenth, not 500."]
    assert shortened_warmup(run, 15) == shortened_warmup(dataclasses.replace(run, steps=500), 0) == []


def test_classes_that_the_data_lack_are_named():
    example = labelled((8, 8, 1), 10)
    assert untrained_classes(example, "abcdefghij") == untrained_classes(example, ()) == []
    assert untrained_classes(labelled((8, 8, 1), 0), "ab") == []
    said = "The model has 10 classes, the data 9: it learns nothing of class 9."
    assert untrained_classes(example, "abcdefghi") == [said]
    assert untrained_classes(example, "ab")[0].endswith("it learns nothing of classes 2 to 9.")


@pytest.mark.parametrize("saved, kept", [(6, "the checkpoint of step 6 is from before that"), (None, "no checkpoint")])
def test_values_that_are_not_finite_say_which_checkpoint_there_is(saved, kept):
    task: Any = SimpleNamespace(phases=[SimpleNamespace(name="a")])
    window = Window(task, {}, saved)
    window.add(8, {"a/finite": jnp.array([1.0, 0.0])})
    with pytest.raises(NonFinite, match=f"phase 'a' stopped being finite at step 8; .*{kept}"):
        window.drain()
