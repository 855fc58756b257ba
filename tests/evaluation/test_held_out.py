"""Samples of a model with inputs and a frozen net, which no preset of the zoo has yet; and likelihoods."""

import dataclasses
import json
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from PIL import Image
from scipy import special

from jaxgen import data, zoo
from jaxgen.commands.parse import parse
from jaxgen.core.capabilities import Classifier, Density
from jaxgen.core.config import Data, Eval, Mesh
from jaxgen.core.errors import InputError
from jaxgen.core.spec import labelled, spec_of
from jaxgen.core.step import init_state
from jaxgen.core.task import Task
from jaxgen.core.types import Aux, Learner, Phase, averaged
from jaxgen.evaluation.held_out import HeldOut
from jaxgen.inference.sampling import conditioning_of, make_sampler
from jaxgen.nn.norm import BatchNorm
from jaxgen.runs import sharding
from jaxgen.tasks.classification import Recipe, classifier_task, cross_entropy
from jaxgen.tasks.transforms import generation
from jaxgen.training.loop import fit


def brighten(params, context, keys, given):
    """Return each sample\'s own input image, made brighter by a number of a frozen net."""
    return {"image": given["image"] + context.frozen["lamp"]["w"] + 0 * params["a"]["w"]}


IMAGE = labelled((8, 8, 1), 0)
TASK = Task(
    init=lambda key, spec: ({"a": {"w": jnp.float32(1)}}, {}),
    example=IMAGE,
    learners={"a": Learner(("a",), optax.sgd(0.1))},
    phases=(Phase("a", "a", lambda params, context, batch, key: (params["a"]["w"] ** 2, Aux())),),
    frozen={"lamp": lambda: {"w": jnp.float32(0.5)}},
    capabilities=(generation(brighten, IMAGE, IMAGE),),
)


def test_each_sample_gets_its_own_row_of_the_inputs():
    mesh = sharding.make_mesh(Mesh(data=2))
    run = dataclasses.replace(zoo.load("dcgan").tiny, preset="dcgan")
    source = data.open_source(Data("digits"), (8, 8, 1))
    state = sharding.make_state(TASK, mesh, jax.random.key(0), spec_of(TASK, 4))
    frozen = {net: load() for net, load in TASK.frozen.items()}
    first = next(data.batches(data.RandomSubset(source, 10), run.data, (8, 8, 1), batch=10, seed=0, train=False))[
        "image"
    ]
    needed = conditioning_of(TASK, run, source, 10)
    images = make_sampler(TASK, mesh, 4)(state, frozen, 0, 10, needed)
    np.testing.assert_allclose(images, first + 0.5, rtol=1e-6)


def test_the_inputs_must_be_in_the_data():
    both = {**IMAGE, "source": IMAGE["image"]}
    translates = generation(brighten, IMAGE, {"source": IMAGE["image"]})
    task = dataclasses.replace(TASK, example=both).having(translates)
    source = data.open_source(Data("digits"), (8, 8, 1))
    with pytest.raises(InputError, match="translates images between two domains"):
        conditioning_of(task, zoo.load("dcgan").tiny, source, 10)


def test_a_part_of_a_split_is_taken_evenly(tmp_path):
    for i in range(48):
        path = tmp_path / "test" / f"class-{i // 12}" / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), i).save(path)
    mesh, run = sharding.make_mesh(Mesh(data=2)), dataclasses.replace(zoo.load("lenet5").tiny, batch=4)
    run = dataclasses.replace(run, data=Data(f"folder:{tmp_path}"), eval=Eval(batches=2))
    task = dataclasses.replace(TASK, example=labelled((8, 8, 1), 4))
    held_out = HeldOut(run, task, mesh, [])
    seen = [(np.asarray(batch["label"]), np.asarray(index), batch["image"]) for batch, index, _ in held_out.batches()]
    assert [x.tolist() for x, _, _ in seen] == [[0, 0, 1, 1], [2, 2, 3, 3]]
    for _, index, image in seen:  # keyed by the index in the whole split
        np.testing.assert_allclose(np.asarray(image)[:, 0, 0, 0], index / 127.5 - 1, atol=1e-6)


@pytest.mark.parametrize("count, part", [(10, 10), (1000, 100), (1_300_000, 250)])
def test_even_parts_meet_no_period(count, part):
    places = data.evenly(count, part)
    np.testing.assert_array_equal(places * part // count, np.arange(part))  # one of each range
    assert part == count or np.bincount(places % 10, minlength=10).min() > 0


def of_the_test_digits(task: Task, batch: int, devices: int, state=None) -> dict[str, float]:
    mesh, run = sharding.make_mesh(Mesh(data=devices)), dataclasses.replace(zoo.load("dcgan").tiny, batch=batch)
    run = dataclasses.replace(run, eval=Eval(batches=0))
    state = state or sharding.make_state(task, mesh, jax.random.key(0), spec_of(task, 4))
    return HeldOut(run, task, mesh, ["loss"])(state, {})


@pytest.mark.parametrize("batch, sizes", [(64, [64, 64, 64, 105]), (30, [30] * 8 + [57]), (296, [297]), (512, [297])])
def test_every_example_counts_once_in_a_held_out_loss(batch, sizes):
    """The test split has 297 digits. The rest of them joins the batch before it, and nothing is dropped out."""

    def loss(params, context, batch, key):
        rows = len(batch["image"])
        x: Any = nn.Dropout(0.9, deterministic=False).apply({}, batch["image"], rngs={"dropout": key})
        assert not context.train
        seen.append(rows)
        return x.mean() + 0 * params["a"]["w"], Aux()

    seen: list[int] = []
    task = dataclasses.replace(TASK, phases=(Phase("a", "a", loss),), frozen={}, capabilities=())
    found = of_the_test_digits(task, batch, 2)
    images = data.open_source(Data("digits", split="test"), (8, 8, 1)).images / 127.5 - 1  # pyright: ignore
    assert found["a_loss"] == pytest.approx(images.mean(), rel=1e-5)
    assert set(seen) == set(sizes)  # each is traced once


class Regularised(nn.Module):
    """A classifier with layers that differ in training."""

    @nn.compact
    def __call__(self, x, train: bool):
        x = BatchNorm()(nn.Dense(6)(x.reshape(len(x), -1)), train)
        return {"logits": nn.Dense(10)(nn.Dropout(0.9, deterministic=not train)(x))}


def test_a_classifiers_held_out_loss_is_that_of_inference():
    task = classifier_task(Regularised(), (8, 8, 1), 10, Recipe(), {"mean": (0.0,), "std": (1.0,)})
    state = init_state(task, jax.random.key(0), spec_of(task, 4))
    source = data.open_source(Data("digits", split="test"), (8, 8, 1))
    batch = next(data.batches(source, Data("digits"), task.example, batch=297, seed=0, train=False))
    logits = task.get(Classifier).classify(*averaged(state, {}), batch)["logits"]
    right = np.asarray(cross_entropy(logits, jnp.asarray(batch["label"]))).mean()
    assert of_the_test_digits(task, 64, 1, state)["classifier_loss"] == pytest.approx(right, rel=1e-5)


def test_even_levels_take_eight_bits_a_dimension():
    """-log P = D log 256 of each example, for any padding of the last batch."""

    def log_prob(params, context, batch, keys, samples):
        return jnp.full(len(keys), -64 * math.log(256) * samples / 3)

    mesh, run = sharding.make_mesh(Mesh(data=1)), dataclasses.replace(zoo.load("dcgan").tiny, preset="dcgan")
    task = TASK.having(Density(log_prob))
    state = sharding.make_state(task, mesh, jax.random.key(0), spec_of(task, 4))
    run = dataclasses.replace(run, eval=dataclasses.replace(run.eval, batches=0))
    found = HeldOut(run, task, mesh, ["bpd_3", "nll_3", "bpd_6"])(state, {})
    assert found == pytest.approx({"bpd_3": 8, "nll_3": 64 * math.log(256), "bpd_6": 16}, rel=1e-5)


def test_a_density_has_no_bits_per_dimension():
    run = dataclasses.replace(zoo.load("vae").tiny, preset="vae")
    run = dataclasses.replace(run, model=dataclasses.replace(run.model, likelihood="gaussian"))
    with pytest.raises(InputError, match="this model has a density of them: ask for nll_"):
        HeldOut(run, run.model.task(1), sharding.make_mesh(Mesh(data=1)), ["bpd_3"])


@pytest.mark.slow
def test_the_bound_of_a_fresh_vdm_on_real_digits(real_data, tmp_path, cli):
    """A fresh VDM predicts eps(z) = z. With it the bound is an integral over gamma = -log SNR."""
    where = ["--data.source", "tfds:mnist", "--data.dir", str(real_data / "tfds"), "--mesh.data", "1"]
    still = ["--steps", "1", "--model.learning-rate", "1e-12", "--log.samples", "0", "--batch", "100"]
    fit(parse("diffusion", ["--preset", "vdm", "--tiny", *where, *still, "--out", str(tmp_path / "vdm")]).run)
    cli(0, "evaluate", tmp_path / "vdm", "--metrics", "bpd_16,nll_16", "--split", "test[:1000]")
    rows = [json.loads(line) for line in (tmp_path / "vdm" / "evaluations.jsonl").read_text().splitlines()]
    found = {row["metric"]: row["value"] for row in rows}
    assert found["bpd_16"] == pytest.approx(found["nll_16"] / (64 * math.log(2)), rel=1e-6)
    assert all(row["examples"] == 1000 and row["split"] == "test[:1000]" for row in rows)

    source = data.open_source(Data("tfds:mnist", dir=str(real_data / "tfds"), split="test[:1000]"), (8, 8, 1))
    x = next(data.batches(source, Data("tfds:mnist"), (8, 8, 1), batch=1000, seed=0, train=False))["image"]
    square = float(np.square(x, dtype=np.float64).mean())
    gamma = np.linspace(-13.3, 5.0, 10_001)
    sigma, left = np.sqrt(special.expit(gamma)), special.expit(-gamma)  # left = alpha^2
    diffusion = np.trapezoid(0.5 * ((1 - sigma) ** 2 + left * square), gamma)
    prior = 0.5 * (left[-1] * square - left[-1] - 2 * np.log(sigma[-1]))
    noise = np.random.default_rng(0).normal(size=100_000)
    step = (
        2 / 255 / math.exp(-13.3 / 2)
    )  # from one level to the next, in standard deviations; nearly all pixels are at an end
    slip = np.logaddexp(0, 0.5 * (noise**2 - (noise - step) ** 2)).mean()
    assert found["bpd_16"] == pytest.approx((diffusion + prior + slip) / math.log(2), rel=0.01)
