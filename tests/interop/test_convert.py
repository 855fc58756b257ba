"""Weights in and out through the commands; programs that run without jaxgen."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.core import rng, types
from jaxgen.core.errors import InputError
from jaxgen.core.spec import spec_of
from jaxgen.core.step import init_state
from jaxgen.inference.sampling import conditions_of
from jaxgen.interop.programs import export_program
from jaxgen.interop.read import read
from jaxgen.interop.write import write_safetensors
from jaxgen.runs import checkpoint, seals
from jaxgen.runs.config_io import resampled
from tests.helpers.capabilities import classify, generate
from tests.helpers.running import call
from tests.helpers.untrained import untrained

ALONE = """
import sys, numpy as np, jax
call = jax.export.deserialize(open(sys.argv[1], "rb").read()).call
if sys.argv[2] == "generate":
    out = [np.asarray(call(3, np.arange(n))) for n in (1, 5)]
else:
    x = np.random.RandomState(0).uniform(-1, 1, (5, 28, 28, 1)).astype(np.float32)
    out = [np.asarray(call(x[:n])) for n in (1, 5)]
assert not any(name.startswith("jaxgen") or name == "flax" for name in sys.modules), "jaxgen was imported"
np.savez(sys.argv[3], one=out[0], five=out[1])
"""


def alone(environment, program: Path, ability: str, out: Path) -> dict[str, np.ndarray]:
    """Run an exported program in a process that has no jaxgen, from another folder."""
    command = [sys.executable, "-c", ALONE, str(program), ability, str(out)]
    subprocess.run(command, env=environment, cwd=out.parent, check=True, timeout=200)
    with np.load(out) as file:
        return dict(file)


@pytest.fixture(scope="module")
def gan(tmp_path_factory) -> Path:
    return untrained(tmp_path_factory.mktemp("gan") / "run", "gan", "dcgan", "--model.kernel", "4")


@pytest.fixture(scope="module")
def lenet(tmp_path_factory, environment) -> Path:
    """A run of LeNet-5 with random weights, imported from a file."""
    folder = tmp_path_factory.mktemp("lenet")
    rng = np.random.default_rng(0)
    shapes = {
        "convnet.c1.weight": (6, 1, 5, 5),
        "convnet.c1.bias": (6,),
        "convnet.c3.weight": (16, 6, 5, 5),
        "convnet.c3.bias": (16,),
        "convnet.c5.weight": (120, 16, 5, 5),
        "convnet.c5.bias": (120,),
        "fc.f6.weight": (84, 120),
        "fc.f6.bias": (84,),
        "fc.f7.weight": (10, 84),
        "fc.f7.bias": (10,),
    }
    tensors = {name: rng.normal(size=shape).astype(np.float32) / 10 for name, shape in shapes.items()}
    write_safetensors(folder / "weights.safetensors", tensors)
    words = str(folder / "weights.safetensors"), "--model", "lenet5", "--out", str(folder / "run")
    assert "61,706 parameters" in call(environment, "jaxgen", "import", *words, "--model.fit", "bilinear")
    return folder


def test_an_imported_run_gives_its_weights_back_bit_for_bit(lenet, cli):
    given = read(lenet / "weights.safetensors")
    for kind, name in (("safetensors", "classifier.safetensors"), ("torch", "classifier.pth")):
        cli(0, "export", lenet / "run", "--to", kind)
        back = read(lenet / "run" / "export" / name)
        assert back.keys() == given.keys()
        for tensor in given:
            assert back[tensor].dtype == np.float32
            np.testing.assert_array_equal(back[tensor], given[tensor])
    again = "export", lenet / "run", "--to", "torch"
    assert "classifier.pth exists already: name another file with --out, or add --overwrite" in cli(2, *again)
    (lenet / "run" / "export" / "classifier.pth").write_bytes(b"old")
    cli(0, *again, "--overwrite")
    assert read(lenet / "run" / "export" / "classifier.pth").keys() == given.keys()


def test_an_imported_run_trains_on_from_its_weights(lenet, cli):
    config = json.loads((lenet / "run" / "config.json").read_text())
    assert config["preset"] == "lenet5" and config["model"]["fit"] == "bilinear"
    [start] = json.loads((lenet / "run" / "environment.json").read_text())
    assert "import" in start["command"]
    args = ("--model.fit", "bilinear", "--out", str(lenet / "run"), "--steps", "3", "--optim.warmup", "0")
    printed = cli(2, "train.classifier", "--preset", "lenet5", *args)
    assert "other settings (steps: 10000 -> 3" in printed


def test_a_classifier_runs_as_stablehlo_without_jaxgen(lenet, environment, tmp_path, cli):
    from jaxgen.core.config import Mesh
    from jaxgen.core.types import averaged
    from jaxgen.runs.load import open_run

    out = tmp_path / "lenet.stablehlo"
    cli(0, "export", lenet / "run", "--to", "stablehlo", "--out", out)
    found = alone(environment, out, "classify", tmp_path / "logits.npz")
    _, _, task, state, frozen, _ = open_run(lenet / "run", Mesh(data=1))
    x = np.random.RandomState(0).uniform(-1, 1, (5, 28, 28, 1)).astype(np.float32)
    logits = np.asarray(classify(task)(*averaged(state, frozen), x)["logits"])
    np.testing.assert_allclose(found["five"], logits, atol=1e-5 * np.abs(logits).max())
    np.testing.assert_allclose(found["one"], logits[:1], atol=1e-5 * np.abs(logits).max())


@pytest.mark.parametrize(
    "name", ["cgan", *(pytest.param(n, marks=pytest.mark.slow) for n in ("edm-conditional", "masked"))]
)
def test_the_conditioning_of_samples_is_an_argument_of_the_program(name, tmp_path, capsys):
    run = zoo.load(name).tiny
    run = resampled(run, "steps=1") if name != "cgan" else run
    task = run.model.task(run.steps)
    state = init_state(task, jax.random.key(0), spec_of(task, 2))
    export_program(task, state, {}, True, None, tmp_path)
    path = tmp_path / "generate.stablehlo"
    about, printed = json.loads((tmp_path / "generate.stablehlo.json").read_text()), capsys.readouterr().out
    example = "\n".join(about["example"])
    assert printed == f"generate: {path}, its signature: {path}.json\n{example}\n" and len(about["example"]) <= 10
    exec(example, {})  # it runs as it stands
    assert capsys.readouterr().out == "(4, 8, 8, 1) float32\n"
    assert about["inputs"][:2] == [
        {"name": "seed", "dtype": "int32", "shape": []},
        {"name": "indices", "dtype": "int32", "shape": ["b"]},
    ]
    assert about["outputs"] == [{"name": "image", "dtype": "float32", "shape": ["b", 8, 8, 1]}]
    with pytest.raises(InputError, match="exists already"):
        export_program(task, state, {}, True, None, tmp_path)
    export_program(task, state, {}, True, None, tmp_path, overwrite=True)
    program = jax.export.deserialize(bytearray(path.read_bytes())).call
    labels = np.array([3, 1, 4], np.int32)
    inputs = {"label": labels} if conditions_of(task) else {}
    one, three = (np.asarray(program(2, np.arange(n), *(v[:n] for v in inputs.values())))
                  for n in (1, 3))  # fmt: skip
    keys = rng.sample_keys(rng.fold(jax.random.key(2), "samples"), jnp.arange(3))
    ours = jax.jit(generate(task))(*types.averaged(state, {}), keys, inputs)["image"]
    np.testing.assert_allclose(three, ours, atol=1e-4)
    np.testing.assert_allclose(one, three[:1], atol=1e-4)


@pytest.mark.slow
def test_a_generator_runs_as_stablehlo_without_jaxgen(gan, environment, tmp_path):
    printed = call(environment, "jaxgen", "export", str(gan), "--to", "stablehlo")
    assert "generate.stablehlo" in printed and "program.call(0, jnp.arange(4))  # seed, indices" in printed
    found = alone(environment, gan / "export" / "generate.stablehlo", "generate", tmp_path / "images.npz")
    args = ("--count", "5", "--seed", "3", "--batch", "5", "--out", str(tmp_path / "ours.npz"))
    call(environment, "jaxgen", "generate", str(gan), *args)
    with np.load(tmp_path / "ours.npz") as file:
        ours = file["image"]
    eight_bit = np.clip(np.rint((found["five"] + 1) * 127.5), 0, 255)
    assert np.abs(eight_bit - ours).max() <= 1 and len(np.unique(ours)) > 3
    np.testing.assert_allclose(found["one"], found["five"][:1], atol=1e-5)


@pytest.mark.slow
def test_a_file_finds_its_net_and_the_last_weights_differ_from_the_average(gan, environment, tmp_path):
    def exported(*more: str) -> dict[str, np.ndarray]:
        path = tmp_path / f"{'-'.join(more) or 'plain'}.pth"
        call(
            environment, "jaxgen", "export", str(gan), "--to", "torch", "--net", "generator", "--out", str(path), *more
        )
        return read(path)

    average, last = exported(), exported("--weights", "last")
    assert average.keys() == last.keys() and any((average[name] != last[name]).any() for name in last)
    command = ("jaxgen", "import", str(tmp_path / "plain.pth"), "--model", "dcgan", "--out", str(tmp_path / "again"))
    size = ("--model.image", "8", "8", "1", "--model.latent", "8", "--model.width", "4")
    assert "has the generator of" in call(environment, *command, *size)
    samples = []
    for run in (gan, tmp_path / "again"):
        out = tmp_path / f"{run.name}.npz"
        call(environment, "jaxgen", "generate", str(run), "--count", "4", "--out", str(out))
        with np.load(out) as file:
            samples.append(file["image"])
    np.testing.assert_array_equal(samples[0], samples[1])


def test_import_says_which_weights_it_took_and_takes_the_others(lenet, cli, tmp_path):
    live = read(lenet / "weights.safetensors")
    both = {
        f"{part}.{name}": x + part.endswith("_ema") for part in ("params", "params_ema") for name, x in live.items()
    }
    write_safetensors(tmp_path / "both.safetensors", both)
    import_ = ("import", tmp_path / "both.safetensors", "--model", "lenet5", "--model.fit", "bilinear", "--out")
    printed = cli(0, *import_, tmp_path / "average")
    assert "The weights of the classifier are params_ema of the file, the average. It also holds params: " in printed
    cli(0, *import_, tmp_path / "live", "--take", "params")
    for run, more in (("average", 1), ("live", 0)):
        cli(0, "export", tmp_path / run, "--to", "safetensors")
        exported = read(tmp_path / run / "export" / "classifier.safetensors")
        assert all(np.array_equal(exported[name], live[name] + more) for name in live)


def test_a_stopped_import_is_repeated_by_the_same_command(lenet, cli, tmp_path, monkeypatch):
    command = ("import", lenet / "weights.safetensors", "--model", "lenet5", "--model.fit", "bilinear")
    with monkeypatch.context() as patch:

        def stop(self, *args):
            raise KeyboardInterrupt

        patch.setattr(checkpoint.Checkpoints, "save", stop)
        cli(130, *command, "--out", tmp_path / "run")
        assert not os.listdir(tmp_path)
        patch.setattr(shutil, "rmtree", lambda *args, **more: None)  # as a kill leaves it
        cli(130, *command, "--out", tmp_path / "run")
        assert len(os.listdir(tmp_path)) == 1 and not (tmp_path / "run").exists()
    cli(0, *command, "--out", tmp_path / "run")
    assert seals.newest_whole(tmp_path / "run" / "checkpoints") == (0, {})
    assert (tmp_path / "run" / "config.json").is_file()


def test_weights_that_do_not_fit_are_refused_by_name(lenet, cli, tmp_path):
    def refused(model: str, *more: str) -> str:
        out = tmp_path / "none"
        weights = str(lenet / "weights.safetensors")
        printed = cli(2, "import", weights, "--model", model, "--out", out, *more)
        assert not out.exists()
        return printed

    printed = refused("resnet20")
    assert "missing: bn1.running_mean, bn1.running_var" in printed and "surplus: convnet.c1.bias" in printed
    assert "Nearest are: lenet5, its classifier (10 of 10 tensors)" in printed
    shaped = refused("lenet5", "--model.classes", "7")
    assert "of another shape: fc.f7.bias is [10], not [7], fc.f7.weight is [10, 84], not [7, 84]" in shaped
    assert "did you mean 'lenet5'" in refused("lenet")
    assert "Unknown net 'generator'" in refused("lenet5", "--net", "generator")
    assert "nowhere.pth" in cli(2, "import", "nowhere.pth", "--model", "lenet5", "--out", tmp_path)
    kept = cli(2, "import", lenet / "weights.safetensors", "--model", "lenet5", "--out", lenet / "run")
    assert "exists already" in kept
