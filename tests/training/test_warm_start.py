"""A run that starts from another run's weights."""

import copy
import dataclasses
import shutil

import jax
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.core.config import Data, Mesh, Save
from jaxgen.core.errors import InputError
from jaxgen.core.spec import spec_of
from jaxgen.core.types import averaged
from jaxgen.runs import sharding
from jaxgen.runs.checkpoint import Checkpoints
from jaxgen.runs.load import build_task, open_run
from jaxgen.training import warm_start
from jaxgen.training.loop import fit
from tests.helpers.running import assert_same

PAIRS = Data("shapes", pair="edges")


def tiny(preset, out, **settings):
    run = dataclasses.replace(zoo.load(preset).tiny, preset=preset, steps=2, data=PAIRS, mesh=Mesh(data=1))
    return dataclasses.replace(run, out=str(out), log=dataclasses.replace(run.log, samples=0), **settings)


@pytest.fixture(scope="module")
def smaller(tmp_path_factory):
    """The run of a global generator."""
    return fit(tiny("pix2pixhd", tmp_path_factory.mktemp("warm") / "global"))


def arrays(tree):
    return {path: np.asarray(x) for path, x in warm_start.flat(tree).items()}


def test_a_net_around_another_starts_from_it(smaller, tmp_path):
    run = tiny("pix2pixhd-local", tmp_path / "local", start_from=str(smaller))
    mesh = sharding.make_mesh(run.mesh)
    task, spec = build_task(run, mesh), None
    spec = spec_of(task, run.batch)
    found, said = warm_start.weights_of(run, sharding.abstract_state(task, mesh, spec))
    fresh = sharding.make_state(task, mesh, jax.random.key(0), spec)
    before, moments = arrays(warm_start.parts(fresh)), arrays(fresh.optimizer_state)
    state = warm_start.started(fresh, task, found)
    after = arrays(warm_start.parts(state))
    opened = open_run(smaller, run.mesh)
    theirs = arrays({"params": averaged(opened.state, {})[0]})

    inner = [path for path in after if path.startswith("params/generator/net/")]
    own = [path for path in after if path.startswith("params/generator/") and path not in inner]
    assert len(inner) >= 10 and len(own) >= 10
    for path in inner:
        np.testing.assert_array_equal(after[path], theirs[path], err_msg=path)
    for path in own:
        np.testing.assert_array_equal(after[path], before[path], err_msg=path)
    assert any((after[path] != before[path]).any() for path in inner)
    assert f"generator ({len(inner)} of {len(inner) + len(own)} arrays)" in said and "at step 2: critic (" in said
    for net, ema in state.ema.items():
        for path, x in arrays(ema["params"]).items():
            np.testing.assert_array_equal(x, after[f"params/{net}/{path}"], err_msg=path)
    for path, x in arrays(state.optimizer_state).items():
        np.testing.assert_array_equal(x, moments[path], err_msg=path)


@pytest.mark.parametrize(("first", "second"), [("rrdb", "esrgan"), ("srresnet", "srgan")])
def test_a_net_trained_by_pixels_starts_an_adversarial_one(first, second):
    def weights(preset):
        run = zoo.load(preset).run
        task = run.model.task(run.steps)
        return warm_start.flat(jax.eval_shape(lambda: task.init(jax.random.key(0), spec_of(task, 1)))[0])

    ours = {path: x.shape for path, x in weights(second).items() if path.startswith("restorer/")}
    assert ours == {path: x.shape for path, x in weights(first).items()}


def test_the_notes_of_a_checkpoint_are_of_its_step(tmp_path, monkeypatch):
    """The checkpoint is written during the next steps."""
    given, save = [], Checkpoints.save

    def seen(self, step, state, notes):
        given.append((notes, copy.deepcopy(notes)))
        save(self, step, state, notes)

    monkeypatch.setattr(Checkpoints, "save", seen)
    fit(tiny("pix2pixhd", tmp_path / "run", steps=4, save=Save(every=1)))
    assert [notes["batches"] for notes, _ in given] == [1, 2, 3, 4] and given[2][0]["window"]
    assert all(notes == then for notes, then in given)


@pytest.mark.slow
def test_it_is_a_run_like_any_other_and_resumes_without_the_first(smaller, tmp_path):
    first = shutil.copytree(smaller, tmp_path / "global")
    once = {"save": Save(every=1, keep=4), "start_from": str(first)}
    whole = fit(tiny("pix2pixhd", tmp_path / "whole", steps=4, **once))
    parted = tmp_path / "parted"
    fit(tiny("pix2pixhd", parted, steps=4, **once))
    for step in (3, 4):  # as if the run had been killed after the second step
        shutil.rmtree(parted / "checkpoints" / str(step))
        (parted / "checkpoints" / f"{step}.sha256").unlink()
    shutil.rmtree(first)
    fit(tiny("pix2pixhd", parted, steps=4, **once))
    assert_same(whole, parted, 4)


@pytest.mark.slow
def test_without_a_whole_checkpoint_it_starts_again_from_them(smaller, tmp_path, capsys):
    run = tiny("pix2pixhd", tmp_path / "run", start_from=str(smaller))
    before = (fit(run) / "metrics.jsonl").read_text()
    (tmp_path / "run" / "checkpoints" / "2.sha256").write_text("0  2/nothing\n")
    other = f"{smaller.parent}/./{smaller.name}/"  # another name of the same folder
    fit(dataclasses.replace(run, start_from=other))
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before
    said = capsys.readouterr().out
    assert said.count("Starting from") == 2 and "set aside and there is none before it." in said


def test_a_refused_start_leaves_no_folder(smaller, tmp_path):
    target = tmp_path / "run"
    with pytest.raises(InputError, match="There is no run folder"):
        fit(tiny("pix2pixhd", target, start_from=str(tmp_path / "nowhere")))
    other = dataclasses.replace(tiny("cyclegan", target, start_from=str(smaller)), data=Data("unpaired:digits,shapes"))
    with pytest.raises(InputError, match=r"a run of pix2pixhd whose weights don't fit this cyclegan: .*generator \("):
        fit(other)
    with pytest.raises(InputError, match="is empty"):
        fit(tiny("pix2pixhd", target, start_from=""))
    coded = dataclasses.replace(tiny("flow", target, start_from=str(smaller)), data=Data("digits"))
    coded = dataclasses.replace(coded, model=dataclasses.replace(coded.model, autoencoder="codes"))
    with pytest.raises(InputError, match="is a model of images, this one is of latents of codes"):
        warm_start.weights_of(coded, None)  # pyright: ignore[reportArgumentType]  not checked yet
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(InputError, match="is a file, not a run's folder"):
        fit(tiny("pix2pixhd", target, start_from=str(file)))
    assert not target.exists()


def test_classes_of_other_names_are_said():
    assert warm_start.other_classes(("cat", "dog"), ("cat", "dog")) == warm_start.other_classes((), ("a",)) == ""
    said = warm_start.other_classes(("cat", "dog"), ("dog", "owl"))
    assert "were cat, dog, those of this run are dog, owl: what it learned of class 0 is used for dog" in said
