"""Averages of any width, computed after training from the saved ones."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad

from jaxgen.commands.parse import parse
from jaxgen.core import posthoc_ema
from jaxgen.core.config import validate
from jaxgen.core.errors import InputError
from jaxgen.core.types import averaged
from jaxgen.runs.load import open_run
from jaxgen.training.loop import fit
from tests.helpers.running import assert_same

WIDTHS = (0.05, 0.1)


@pytest.mark.parametrize("width", [0.01, 0.05, 0.1, 0.2, 0.28])
def test_gamma_has_the_given_width(width):
    gamma = posthoc_ema.gamma_of(width)
    density = lambda i: (gamma + 1) * i**gamma  # noqa: E731
    mean = quad(lambda i: i * density(i), 0, 1)[0]
    spread = quad(lambda i: (i - mean) ** 2 * density(i), 0, 1)[0] ** 0.5
    assert spread == pytest.approx(width, rel=1e-6)


def test_products_are_the_integrals():
    for t, g, u, h in [(3.0, 2.0, 5.0, 7.0), (5.0, 7.0, 3.0, 2.0), (4.0, 1.5, 4.0, 6.0)]:
        profile = lambda i, t, g: (g + 1) * i**g / t ** (g + 1)  # noqa: E731
        true = quad(lambda i: profile(i, t, g) * profile(i, u, h), 0, min(t, u))[0]  # noqa: B023
        assert posthoc_ema.product(*map(np.float64, (t, g, u, h))) == pytest.approx(true, rel=1e-8)


def test_the_updates_weight_steps_by_the_power():
    decay, steps = posthoc_ema.decay_of(0.1), 1000
    weights = np.zeros(steps)
    for i in range(steps):
        d = float(decay(i))
        weights *= d
        weights[i] = 1 - d
    at = (np.arange(steps) + 0.5) / steps
    mean = (weights * at).sum()
    assert weights.sum() == pytest.approx(1)
    assert ((weights * (at - mean) ** 2).sum()) ** 0.5 == pytest.approx(0.1, rel=0.01)


@pytest.mark.parametrize("width", [0.04, 0.07, 0.1, 0.15, 0.2])
def test_any_width_is_near_the_average_over_all_steps(width):
    """The averaged values are a random walk, as rough as the path of weights can be, and its last position."""
    steps, every = 4000, 100
    way = np.cumsum(np.random.default_rng(0).normal(size=(steps, 200)), 0)
    kept: dict[float, list[np.ndarray]] = {w: [] for w in (*WIDTHS, width)}
    for w, snapshots in kept.items():
        average, decay = np.zeros(200), np.asarray(posthoc_ema.decay_of(w)(np.arange(steps)), np.float64)
        for i, x in enumerate(way):
            average = decay[i] * average + (1 - decay[i]) * x
            if (i + 1) % every == 0:
                snapshots.append(average)
    marks = np.arange(every, steps + 1, every)
    pairs = [(t, w, x) for w in WIDTHS for t, x in zip(marks, kept[w], strict=True)]
    shares, distance = posthoc_ema.shares_of([t for t, _, _ in pairs], [w for _, w, _ in pairs], steps, width)
    made = sum(share * x for share, (_, _, x) in zip(shares, pairs, strict=True))
    true = kept[width][-1]
    assert shares.sum() == pytest.approx(1, abs=1e-9) and distance < 0.01
    assert np.sqrt(np.mean((made - true) ** 2)) < 0.02 * np.sqrt(np.mean((way[-1] - true) ** 2))
    if width in WIDTHS:  # it exists
        np.testing.assert_allclose(made, true, atol=1e-4 * np.abs(true).max())


@pytest.mark.parametrize("marks", [[24], [12, 24], [6, 12, 18, 24], [40, 60, 80, 100]], ids=str)
@pytest.mark.parametrize("width", [0.01, 0.03, 0.05, 0.15, 0.25])
def test_shares_sum_to_one_and_the_distance_is_that_of_the_profiles(marks, width):
    pairs = [(t, w) for t in marks for w in WIDTHS]
    shares, distance = posthoc_ema.shares_of([t for t, _ in pairs], [w for _, w in pairs], marks[-1], width)
    assert shares.sum() == pytest.approx(1, abs=1e-9)
    i = (np.arange(200_000) + 0.5) / 200_000 * marks[-1]

    def profile(t, w):
        gamma = posthoc_ema.gamma_of(w)
        return np.where(i < t, (gamma + 1) / t * (i / t) ** gamma, 0)

    true = profile(marks[-1], width)
    made = sum(share * profile(t, w) for share, (t, w) in zip(shares, pairs, strict=True))
    assert np.sqrt(np.mean((made - true) ** 2) / np.mean(true**2)) == pytest.approx(distance, rel=1e-3, abs=1e-6)
    nudge = shares - [0.01 if i == 0 else -0.01 / (len(shares) - 1) for i in range(len(shares))]
    worse = sum(share * profile(t, w) for share, (t, w) in zip(nudge, pairs, strict=True))
    assert np.mean((worse - true) ** 2) > np.mean((made - true) ** 2), "it is the nearest"


OPTIONS = ["--preset", "gan", "--tiny", "--mesh.data", "1", "--steps", "24", "--log.samples", "0", "--save.every", "8",
           "--save.averages", "6", "--optim.ema-widths", "0.05", "0.1"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit(parse("gan", [*OPTIONS, "--out", str(tmp_path_factory.mktemp("averages") / "run")]).run)


def test_the_averages_are_saved_and_give_others(run):
    steps = sorted(int(p.stem) for p in (run / posthoc_ema.FOLDER).glob("*.sha256"))
    assert steps == [6, 12, 18, 24]
    plain = open_run(run)
    assert set(plain.state.ema) == {"generator", "generator@0.1"}
    of = lambda opened: averaged(opened.state, opened.frozen)[0]["generator"]  # noqa: E731
    for width, key in zip(WIDTHS, plain.state.ema, strict=True):
        same = of(open_run(run, average=width))
        close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5)  # noqa: E731
        jax.tree.map(close, same, plain.state.ema[key]["params"])
    last, widest = plain.state.params["generator"], of(open_run(run, average=0.2))
    far = lambda a, b: float(jnp.sqrt(sum(jnp.sum((x - y) ** 2) for x, y in zip(*map(jax.tree.leaves, (a, b))))))  # noqa: E731, B905
    ways = [far(last, of(plain)), far(last, plain.state.ema["generator@0.1"]["params"]), far(last, widest)]
    assert ways == sorted(ways)  # wider averages lag more
    assert far(last, widest) > 1.2 * ways[1]


@pytest.mark.slow
def test_a_resumed_run_has_the_same_averages(run, tmp_path):
    words = [*OPTIONS, "--out", str(tmp_path / "again")]
    fit(parse("gan", words).run)
    for step in ("24", "16"):  # as if the run had been killed between the averages of steps 12 and 18
        shutil.rmtree(tmp_path / "again" / "checkpoints" / step)
        (tmp_path / "again" / "checkpoints" / f"{step}.sha256").unlink()
    for step in ("18", "24"):
        shutil.rmtree(tmp_path / "again" / "averages" / step)
        (tmp_path / "again" / "averages" / f"{step}.sha256").unlink()
    assert not list((tmp_path / "again" / "checkpoints").glob("*.sha256"))
    fit(parse("gan", words).run)
    lines = (run / "metrics.jsonl").read_bytes()
    (tmp_path / "again" / "metrics.jsonl").write_bytes(lines)
    assert_same(run, tmp_path / "again", 24)
    a, b = (open_run(folder, average=0.15).state.ema for folder in (run, tmp_path / "again"))
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_commands_take_a_width(run, cli, tmp_path):
    out = cli(0, "generate", run, "--count", "4", "--average", "0.15", "--out", tmp_path / "a.npz")
    assert "step 24" in out and "made of 4 snapshots differs from the true one by 10." in out
    words = cli(2, "generate", run, "--average", "0.01", "--out", tmp_path / "far.npz")
    assert "more than 25%: give --average a width nearer to 0.05 or 0.1, or train with more snapshots" in words
    cli(0, "generate", run, "--count", "4", "--out", tmp_path / "b.npz")
    one, other = (np.load(tmp_path / f"{name}.npz")["image"] for name in "ab")
    assert (one != other).any()
    assert "--average must be above 0 and below 0.2887" in cli(2, "generate", run, "--average", "0.4")
    words = cli(2, "evaluate", run, "--average", "0.1", "--weights", "last", "--metrics", "loss")
    assert "leave --weights last out" in words


def test_steps_since_the_last_snapshot_count(run, tmp_path):
    """In a run that stopped between two snapshots, the averages of its own state are nearer than any snapshot."""
    shutil.copytree(run, tmp_path / "run")
    for step in ("18", "24"):
        shutil.rmtree(tmp_path / "run" / "averages" / step)
        (tmp_path / "run" / "averages" / f"{step}.sha256").unlink()
    for width, key in zip(WIDTHS, ("generator", "generator@0.1"), strict=True):
        made = open_run(tmp_path / "run", average=width).state.ema["generator"]
        close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5)  # noqa: E731
        jax.tree.map(close, made, open_run(run).state.ema[key])


def test_a_damaged_snapshot_is_passed_over(run, cli, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    snapshot = next(p for p in (tmp_path / "run" / "averages" / "12").rglob("*") if p.is_file() and p.stat().st_size)
    snapshot.write_bytes(b"")
    words = cli(0, "generate", tmp_path / "run", "--count", "1", "--average", "0.1", "--out", tmp_path / "c.png")
    assert "The averages of step 12 are passed over" in words
    shutil.rmtree(tmp_path / "run" / "averages")
    words = cli(2, "generate", tmp_path / "run", "--average", "0.1", "--out", tmp_path / "d.png")
    assert "has no whole averages yet: they are kept every 6 steps" in words


def test_runs_without_averages(cli, tmp_path):
    run = fit(parse("gan", [*OPTIONS[:-3], "--steps", "1", "--out", str(tmp_path / "run")]).run)
    assert "kept no averages: --average is for runs with --optim.ema-widths" in cli(
        2, "generate", run, "--average", "0.1"
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--optim.ema-widths", "0.3"], "optim.ema_widths must be above 0 and below 0.2887"),
        (["--optim.ema-widths", "0.1", "0.1"], "must differ"),
        (["--optim.ema-widths", "0.1", "--optim.ema", "0.9"], "two ways to average"),
        (["--optim.ema-widths", "0.1", "--save.averages", "0"], "save.averages must be at least 1"),
        (["--optim.ema-widths", "0.1", "--compute.steps-per-call", "4", "--save.averages", "6", "--save.every", "4"],
         "save.averages=6 is not a multiple of compute.steps_per_call=4"),
    ],
)  # fmt: skip
def test_settings_that_give_no_averages(words, sentence):
    run = parse(
        "diffusion", ["--preset", "edm", "--tiny", "--steps", "12", "--log.every", "4", "--log.samples", "0", *words]
    ).run
    with pytest.raises(InputError, match=sentence):
        validate(run)
