"""Scores of clips by a net that sees whole ones: the shipped action net, and that of a run."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.errors import InputError
from jaxgen.core.spec import ArraySpec
from jaxgen.evaluation.sample_scores import check_kind, extract
from jaxgen.metrics.frechet import FRECHET_VIDEO
from jaxgen.pretrained.feature_extractors import OF_CLIPS, extractor
from tests.benchmarks.video_distance import DAMAGE, halves, labelled, moments
from tests.helpers.data_samples import own_cache as own_cache  # for every test here
from tests.helpers.untrained import untrained

[NAME] = OF_CLIPS


def test_the_distance_grows_where_time_is_damaged():
    """Two halves of the test set are near each other; frozen and disordered clips are further away, more and more."""
    net = extractor(NAME)
    real, other = halves(160, (16, 32, 32, 3))
    base = moments(net, real)
    distance = lambda clips: FRECHET_VIDEO.result(base, moments(net, clips))["fvd"]  # noqa: E731
    unharmed = distance(other)
    for change, amounts, _ in (DAMAGE["frozen"], DAMAGE["disordered"]):
        found = [unharmed, *(distance(change(other, amount)) for amount in (amounts[0], amounts[-1]))]
        assert found == sorted(found) and found[-1] > 2 * unharmed, found


def test_the_net_names_the_motion():
    net, (clips, label) = extractor(NAME), labelled(64, (16, 32, 32, 3))
    found = jax.jit(partial(extract, net, "clean"))(net.variables, jnp.asarray(clips, jnp.float32) / 127.5 - 1)
    assert found["features"].shape == (64, 64)
    assert (np.asarray(found["logits"]).argmax(1) == label).mean() > 0.9, "by chance 0.125"


@pytest.mark.parametrize(
    ("statistics", "name", "kind", "words"),
    [
        (["fid"], "pixels", "video", "the samples are clips: ask for fvd_action_moving_shapes"),
        (["kid"], NAME, "image", "sees clips, and the samples are images"),
        (["fid"], NAME, "video", "ask for fvd_action_moving_shapes"),
        (["fvd"], "pixels", "image", "ask for fid_pixels"),
    ],
)
def test_scores_of_another_kind_are_refused(statistics, name, kind, words):
    shape = (16, 16, 3) if kind == "image" else (4, 16, 16, 3)
    with pytest.raises(InputError, match=words):
        check_kind(statistics, extractor(name), ArraySpec(kind, shape))


@pytest.mark.slow
def test_evaluate_scores_samples_and_predictions(tmp_path, cli):
    """Of a generator and of a predictor, whose predictions are compared with the true future; and by a run's net."""
    generator = untrained(tmp_path / "vgan", "video", "vgan", "--data.source", "moving-shapes")
    predictor = untrained(tmp_path / "convlstm", "video", "convlstm")
    own = untrained(tmp_path / "own", "video", "action-net", "--model.features", "8")
    for run, names in ((generator, f"fvd_{NAME},kid_{NAME}"), (predictor, f"fvd_{own}")):
        cli(0, "evaluate", run, "--metrics", names, "--count", "80", "--real", "100", "--subset", "40")
        rows = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
        assert {row["metric"] for row in rows} >= set(names.split(","))
        assert all(np.isfinite(row["value"]) and row["extractor_sha256"] for row in rows)
    assert "needs at least 65" in cli(2, "evaluate", generator, "--metrics", f"fvd_{NAME}", "--count", "60")
