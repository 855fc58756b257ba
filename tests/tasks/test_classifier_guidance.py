"""Classifier guidance by a noise-conditional classifier: in closed form, and through the commands."""

import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import datasets, neighbors

from jaxgen import zoo
from jaxgen.commands.parse import parse
from jaxgen.core.capabilities import Transform
from jaxgen.core.config import Run
from jaxgen.core.errors import InputError
from jaxgen.core.types import Context
from jaxgen.diffusion.schedules import alpha_of, expand_like
from jaxgen.models.classifier.adm import NoisyClassifier
from jaxgen.models.diffusion._nets import BackboneConfig
from jaxgen.models.diffusion.ddpm import DDPM
from jaxgen.models.diffusion.edm import EDM
from jaxgen.models.diffusion.flow import Flow
from jaxgen.runs.config_io import load_config, to_json
from jaxgen.tasks import latent_diffusion
from jaxgen.tasks.denoising import Sampling
from jaxgen.training.loop import fit
from tests.helpers.capabilities import generate
from tests.helpers.untrained import save_untrained

IMAGE, NET = (1, 2, 1), BackboneConfig("unet", 8, 1, 2, (1,), ())
# Two pixels, two overlapping classes: their probabilities, means and covariances.
SHARES = np.asarray([0.7, 0.3])
MEANS = np.asarray([[-0.1, 0.05], [0.15, -0.1]])
COVARIANCES = np.asarray([[[0.02, 0.012], [0.012, 0.03]], [[0.03, -0.01], [-0.01, 0.01]]])


def log_joint(x, alpha, sigma):
    """Return log p(k) p(x | k) f[b 2] for x = alpha x0 + sigma eps f[b 2]."""
    found = []
    for share, mean, ((a, b), (_, d)) in zip(SHARES, MEANS, COVARIANCES, strict=True):
        u, v = x[:, 0] - alpha * mean[0], x[:, 1] - alpha * mean[1]
        # The covariance alpha^2 C + sigma^2 I, its determinant and inverse. Two pixels need no solver.
        a, b, d = alpha**2 * a + sigma**2, alpha**2 * b, alpha**2 * d + sigma**2
        det = a * d - b**2
        far = (d * u**2 - 2 * b * u * v + a * v**2) / det
        found.append(math.log(share) - 0.5 * far - 0.5 * jnp.log(det))
    return jnp.stack(found, 1)


def mixture_x0(self, params, context, x, tau, conditioning, *_):
    """Return the unconditional E[x0 | x] of the mixture, by Tweedie's formula."""
    assert not conditioning
    alpha = alpha_of(self.denoiser_frame, tau)
    score = jax.grad(lambda x: jax.nn.logsumexp(log_joint(x.reshape(-1, 2), alpha, tau), 1).sum())(x)
    return (x + expand_like(x, tau**2) * score) / expand_like(x, jnp.maximum(alpha, 1e-6))


def classify_noisy(self, params, context, x, angle):
    return log_joint(x.reshape(-1, 2), jnp.cos(angle), jnp.sin(angle)) + 3.0  # logits up to a constant


@pytest.fixture
def exact(monkeypatch):
    """Replace the nets by the mixture's exact denoiser and classifier; return a context for them."""
    for kind, frame in ((EDM, "ve"), (Flow, "flow")):
        monkeypatch.setattr(kind, "denoiser_frame", frame, raising=False)
        monkeypatch.setattr(kind, "predict_x0", mixture_x0)
    monkeypatch.setattr(NoisyClassifier, "classify_noisy", classify_noisy)
    run = SimpleNamespace(model=NoisyClassifier(IMAGE, classes=2))
    monkeypatch.setattr("jaxgen.tasks.denoising.load_config", lambda *_: run)
    nets = {"params": {}, "extra": {}}
    return Context({}, {}, {"classifier": nets}, jnp.zeros((), jnp.int32))


def sampled(model, context, label: int, count: int = 6000) -> np.ndarray:
    task: Any = model.task(1)
    assert set(task.get(Transform).inputs) == {"label"} and task.classes == 2 and set(task.frozen) == {"classifier"}
    keys = jax.random.split(jax.random.key(label), count)
    made = program(model)(context, keys, {"label": jnp.full(count, label)})
    return np.asarray(made, np.float64).reshape(count, 2)


@cache
def program(model):
    """Return (context, keys, inputs) -> images, compiled once for both classes."""
    task: Any = model.task(1)
    return jax.jit(lambda context, keys, given: generate(task)({"denoiser": {}}, context, keys, given)["image"])


FLOW = Flow(IMAGE, net=NET, sampling=Sampling("heun", 40, "karras", classifier="C"))
ANCESTRAL = EDM(IMAGE, net=NET, sigma_min=0.01, sigma_max=10.0, sampling=Sampling("ddpm", 400, classifier="C"))


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize(
    "model",
    [
        EDM(IMAGE, net=NET, sampling=Sampling("heun", 40, classifier="C")),
        pytest.param(FLOW, marks=pytest.mark.slow),
        pytest.param(ANCESTRAL, marks=pytest.mark.slow),
    ],
    ids=["edm", "flow", "ancestral"],
)
def test_the_exact_classifier_at_scale_1_gives_samples_of_the_class(model, label, exact):
    """Mean and covariance agree within four standard errors."""
    x = sampled(model, exact, label)
    want, spread = COVARIANCES[label], np.sqrt(np.diag(COVARIANCES[label]))
    assert (np.abs(x.mean(0) - MEANS[label]) < 4 * spread / len(x) ** 0.5).all()
    error = np.sqrt((np.outer(spread, spread) ** 2 + want**2) / len(x))
    assert (np.abs(np.cov(x.T) - want) < 4 * error).all()
    # Without guidance samples follow the mixture; its mean is many standard errors away.
    assert (np.abs(SHARES @ MEANS - MEANS[label]) > 8 * spread / len(x) ** 0.5).all()


def test_a_larger_scale_and_an_interval(exact):
    """At scale s samples follow about p(x) p(y | x)^s: with a larger scale p(y | x) is larger."""

    def confidence(**how):
        model = EDM(IMAGE, net=NET, sampling=Sampling("heun", 12, classifier="C", **how))
        x = jnp.asarray(sampled(model, exact, 1, 1500))
        return float(jax.nn.softmax(log_joint(x, jnp.ones(len(x)), jnp.zeros(len(x))), 1)[:, 1].mean())

    none, once = confidence(scale=0.0), confidence()
    more, late = confidence(scale=4.0), confidence(scale=4.0, interval=(0.0, 1e-3))
    assert none == pytest.approx(SHARES[1], abs=0.04)
    assert once > none + 0.15 and more > once + 0.1
    assert late == pytest.approx(none, abs=0.02), "the interval ends below the last noise"


def test_the_classifiers_time_input_is_the_images_noise_level(monkeypatch):
    """x = cos(a) x0 + sin(a) eps with a uniform in [0, pi / 2): solved for eps, it has variance 1."""
    seen = []

    class StubNet:
        def apply(self, nets, x, train, angle, rngs):
            seen.append((x, angle))
            return {"logits": jnp.log(jnp.asarray([[0.2, 0.8]] * len(x)))}

    monkeypatch.setattr(NoisyClassifier, "net", property(lambda self: StubNet()))
    model = NoisyClassifier((4, 4, 1), classes=2)
    x0 = jnp.full((3000, 4, 4, 1), 0.7)
    batch = {"image": x0, "label": jnp.arange(3000) % 2}
    context = Context({}, {}, {}, jnp.zeros((), jnp.int32))
    loss, aux = model.loss({"classifier": {}}, context, batch, jax.random.key(0))
    assert float(loss) == pytest.approx(-0.5 * math.log(0.2 * 0.8), rel=1e-5)
    assert float(aux.metrics["top1"]) == 0.5
    [(x, angle)] = seen
    eps = (x - expand_like(x, jnp.cos(angle)) * x0) / expand_like(x, jnp.sin(angle))
    assert float(eps.std()) == pytest.approx(1, rel=0.01) and abs(float(eps.mean())) < 0.02
    np.testing.assert_allclose(np.quantile(angle, [0.1, 0.5, 0.9]), np.pi / 2 * np.asarray([0.1, 0.5, 0.9]), atol=0.06)


def test_classifier_guidance_switches_off_the_learned_variance(exact, monkeypatch):
    """The sampler with learned variance does not use the guided denoiser: with a classifier the plain one is used."""
    model = DDPM(IMAGE, net=NET, variance="large", sampling=Sampling("ddpm", 30, "time", classifier="C"))
    monkeypatch.setattr(DDPM, "denoiser_frame", "ve", raising=False)
    both = lambda *args: (mixture_x0(*args), jnp.zeros_like(args[3]))  # noqa: E731
    monkeypatch.setattr(DDPM, "predict_x0_and_variance", both)
    assert float(np.abs(sampled(model, exact, 1, 1000).mean(0) - MEANS[1]).max()) < 0.03


# ---------------------------------------------------------------- the commands


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Untrained runs on the bundled digits, 8x8: EDMs with classes and without, classifiers that fit and that don't."""
    folder = tmp_path_factory.mktemp("guidance")
    for name, *settings in (EDM_RUN, CLASSIFIER_RUN, ("conditional", "diffusion", "edm-conditional", *EDM_RUN[3:])):
        save_untrained(small_run(folder / name, *settings))
    small_ones = ["--tiny", "--model.image", "8", "8", "1"]
    misfits = {
        "eleven": ("classifier", "adm-classifier", "--tiny", "--model.classes", "11"),
        "big": ("classifier", "adm-classifier", "--tiny", "--model.image", "16", "16", "1"),
        "dcgan": ("gan", "dcgan", *small_ones),
        "lenet": ("classifier", "lenet5", *small_ones),
    }
    for name, (family, preset, *words) in misfits.items():  # for these the configuration is enough
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(to_json(parse(family, ["--preset", preset, *words]).run))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory, plain_convolutions) -> Path:
    """Runs that have learned digits and their classes."""
    folder = tmp_path_factory.mktemp("trained")
    for (name, *settings), steps in ((EDM_RUN, 300), (CLASSIFIER_RUN, 500)):
        fit(small_run(folder / name, *settings, "--steps", str(steps)))
    return folder


EDM_RUN = ("edm", "diffusion", "edm", "--model.ema", "0.99", "--model.sampling.steps", "10")
CLASSIFIER_RUN = ("classifier", "classifier", "adm-classifier", "--model.recipe.learning-rate", "5e-3")


def small_run(folder: Path, family: str, preset: str, *settings: str) -> Run:
    small = ["--tiny", "--mesh.data", "1", "--batch", "32", "--log.samples", "0", "--log.every", "500"]
    return parse(family, ["--preset", preset, *small, *settings, "--save.every", "500", "--out", str(folder)]).run


@pytest.mark.slow
def test_an_unconditional_model_generates_a_requested_class(trained, cli):
    digits: Any = datasets.load_digits()
    classifier = neighbors.KNeighborsClassifier(3).fit(digits.images.reshape(-1, 64) / 16 * 255, digits.target)
    how = f"classifier={trained / 'classifier'},scale=4"
    cli(0, "generate", trained / "edm", "--count", "100", "--batch", "100", "--out", trained / "guided.npz",
        "--sampling", how)  # fmt: skip
    with np.load(trained / "guided.npz") as found:
        label, seen = found["label"], classifier.predict(found["image"].reshape(100, 64))
    np.testing.assert_array_equal(label, np.arange(100) % 10)
    right, by_chance = float((seen == label).mean()), float((seen == (label + 1) % 10).mean())
    assert right > 0.35 and by_chance < 0.2, (right, by_chance)
    cli(0, "generate", trained / "edm", "--count", "3", "--batch", "3", "--labels", "7",
        "--out", trained / "sevens.npz", "--sampling", f"{how},steps=1")  # fmt: skip
    with np.load(trained / "sevens.npz") as found:
        assert found["label"].tolist() == [7, 7, 7]


@pytest.mark.slow
def test_evaluate_the_classifier_and_guided_samples(trained, cli):
    cli(0, "evaluate", trained / "classifier", "--metrics", "accuracy", "--split", "test")
    rows = [json.loads(line) for line in (trained / "classifier" / "evaluations.jsonl").read_text().splitlines()]
    assert {row["metric"]: row["value"] for row in rows}["top1"] > 0.8, rows
    how = f"classifier={trained / 'classifier'},scale=2"
    assert "fid_pixels" in cli(
        0, "evaluate", trained / "edm", "--metrics", "fid_pixels", "--count", "70", "--sampling", how
    )


@pytest.mark.slow
@pytest.mark.usefixtures("plain_convolutions")
def test_guidance_of_a_conditional_model_and_of_an_edit(folder, cli, tmp_path):
    from PIL import Image

    digits: Any = datasets.load_digits()
    Image.fromarray((digits.images[3] * 15.9).astype(np.uint8)).save(tmp_path / "three.png")
    how = f"classifier={folder / 'classifier'},scale=2,steps=4"
    cli(0, "generate", folder / "conditional", "--count", "4", "--out", tmp_path / "g.png",
        "--sampling", f"{how},guidance=2")  # fmt: skip
    words = [
        "edit",
        folder / "edm",
        tmp_path / "three.png",
        "--out",
        tmp_path / "e.png",
        "--overwrite",
        "--sampling",
        how,
    ]
    assert "say which with --label" in cli(2, *words)
    cli(0, *words, "--label", "8")
    assert "labels must be from 0 to 9" in cli(2, *words, "--label", "10")


@pytest.mark.parametrize(
    "run, how, words",
    [
        ("edm", "classifier=lenet", "with 8x8x1 images: lenet is a run of LeNet5 with 8x8x1 images and 10 classes"),
        ("edm", "classifier=conditional", "must be a run of `train.classifier --preset adm-classifier` with 8x8x1"),
        ("edm", "classifier=dcgan", "dcgan is a run of DCGAN with 8x8x1 images"),
        ("edm", "classifier=big", "big is a run of NoisyClassifier with 16x16x1 images"),
        ("edm", "classifier=nothing", "There is no run folder nothing"),
        ("conditional", "classifier=eleven", "The classifier eleven has 11 classes, the model 10"),
        ("edm", "scale=2", "scale is a factor on a classifier's gradient: give both"),
        ("edm", "classifier=classifier,scale=-1", "scale must be at least 0"),
        ("edm", "classifier=classifier,guidance=2", "needs a class-conditional model"),
    ],
)
def test_invalid_classifiers_and_scales_are_refused(run, how, words, folder, cli, monkeypatch):
    monkeypatch.chdir(folder)
    said = cli(2, "generate", run, "--sampling", how)
    assert words in said and said.count(". ") == 0, "one sentence"


def test_invalid_labels_are_refused(folder, cli, monkeypatch):
    monkeypatch.chdir(folder)
    assert "must be from 0 to 9" in cli(2, "generate", "edm", "--sampling", "classifier=classifier", "--labels", "10")
    assert "unconditional" in cli(2, "generate", "edm", "--labels", "3")
    task: Any = load_config(folder / "edm", f"classifier={folder / 'classifier'}").model.task(1)
    with pytest.raises(InputError, match="give labels, from 0 to 9"):
        generate(task)({}, Context({}, {}, {}, jnp.zeros((), jnp.int32)), jax.random.split(jax.random.key(0), 2), {})


def test_latent_models_refuse_a_classifier(folder, monkeypatch):
    monkeypatch.setattr(latent_diffusion, "latent_codec", lambda model: (None, None))
    model = replace(zoo.load("edm").tiny.model, classes=0, sampling=Sampling(classifier=str(folder / "classifier")))
    from jaxgen.tasks.denoising import check_classifier

    with pytest.raises(InputError, match="guides images, and this model generates latents"):
        check_classifier(str(folder / "classifier"), replace(model, autoencoder="a run"))
