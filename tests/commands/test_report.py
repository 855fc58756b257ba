"""The page of runs: jaxgen/commands/report.py, jaxgen/evaluation/html_report.py and what they read."""

import base64
import dataclasses
import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboardX import SummaryWriter

from jaxgen import zoo
from jaxgen.core.spec import ArraySpec, Kind
from jaxgen.evaluation.html_report import place, thinned
from jaxgen.evaluation.html_samples import evenly
from jaxgen.media.array_files import ENDINGS, save_arrays
from jaxgen.runs import history
from jaxgen.runs.config_io import to_json
from tests.helpers.browser import chromium

HOSTILE = "<script>window.hacked=1</script>"
SHAPES: dict[Kind, tuple[int, ...]] = {
    "image": (6, 8, 8, 1),
    "video": (2, 3, 8, 8, 1),
    "audio": (2, 400, 1),
    "tokens": (3, 5),
}


class Page(HTMLParser):
    """A page as a browser reads it: its elements with their attributes, its text, and the data in it."""

    def __init__(self, path: Path):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(text for name, text in self.texts if name not in ("script", "style")).split())
        [self.data] = [json.loads(text) for name, text in self.texts if name == "script" and text.startswith("{")]

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append((self.elements[-1][0] if self.elements else "", data))

    def curve(self, panel: str, run: int = 0, phase: str = "") -> dict:
        [curves] = [each["curves"] for each in self.data["panels"] if each["name"] == panel]
        [found] = [each for each in curves if (each["run"], each["phase"]) == (run, phase)]
        return found


def make(folder: Path, preset: str = "dcgan", lines: int = 0, **settings) -> Path:
    """Make the folder of a run that has logged so many lines."""
    run = dataclasses.replace(zoo.load(preset).tiny, preset=preset, out=str(folder), **settings)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(to_json(run))
    if lines:
        rows = ({"step": 5 * i, "generator/loss": 3 / i, "discriminator/loss": 1 - 1 / i} for i in range(1, lines + 1))
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def sample(folder: Path, step: int, kind: Kind = "image", into: str = "samples", seed: int = 0) -> Path:
    """Write samples of a step as the training does."""
    path = folder / into / f"{step:06d}{ENDINGS[kind]}"
    path.parent.mkdir(exist_ok=True)
    rng = np.random.default_rng((seed, step))
    arrays = rng.uniform(-1, 1, SHAPES[kind]) if kind != "tokens" else rng.integers(0, 9, SHAPES[kind])
    save_arrays(
        path, ArraySpec(kind, SHAPES[kind][1:]), arrays.astype(np.float32 if kind != "tokens" else np.int32), None
    )
    return path


def uri(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


@pytest.fixture
def report(cli, tmp_path):
    """Return (*arguments) -> the page of `python -m jaxgen report`, and what the command printed."""

    def make_page(*args) -> tuple[Page, str]:
        said = cli(0, "report", *args, "--out", tmp_path / "page.html", "--overwrite")
        return Page(tmp_path / "page.html"), said

    return make_page


def test_a_page_holds_a_run_and_needs_nothing_else(report, tmp_path):
    folder = make(tmp_path / "run", lines=900, steps=9000, seed=7)
    images = {step: sample(folder, step) for step in (1000, 2000, 4500)}
    row = {"metric": "fid_pixels", "value": 45.484784, "interval95": 0.0334, "of": "samples", "step": 4500}
    row |= {
        "samples": 300,
        "extractor": "pixels",
        "seeds": "0, 1",
        "commit": "63f7487bc456",
        "time": "2026-11-30T22:11",
    }
    (folder / "evaluations.jsonl").write_text(json.dumps(row) + "\n")
    start = {"command": ["/x/gan.py", "--preset", "dcgan"], "versions": {"jax": "0.10.2"}, "devices": ["H200", "H200"]}
    (folder / "environment.json").write_text(json.dumps([start | {"commit": "first"}, start | {"commit": "second"}]))
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    page, said = report(folder)
    assert before == {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    assert "1 run, 0.1 MB" in said
    for tag, attributes in page.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form") or attributes["href"] == "data:,"
        assert not {"src", "srcset", "action", "style"} & attributes.keys()
        assert attributes.get("href", "#").startswith(("#", "data:"))
        assert not [name for name in attributes if name.startswith("on")]
    [policy] = [x["content"] for tag, x in page.elements if tag == "meta" and "http-equiv" in x]
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy and "http" not in policy
    without = (tmp_path / "page.html").stat().st_size - sum(len(uri(path, "image/png")) for path in images.values())
    assert without < 200_000
    assert page.data["runs"] == ["run"]
    [shown] = page.data["samples"]
    assert shown["steps"] == [1000, 2000, 4500]
    assert shown["items"] == [uri(path, "image/png") for path in images.values()]
    curve = page.curve("loss", phase="generator")
    assert curve["x"] == list(range(5, 4501, 5)) and np.allclose(curve["y"], 3 / np.arange(1, 901), rtol=1e-5)
    for text in ("step 4,500 of 9,000 still in training, or stopped", "45.4848 ± 0.033 samples 4500", "2 x H200"):
        assert text in page.text
    for text in (
        "samples 300",
        "extractor pixels",
        "seeds 0, 1",
        "commit 63f7487bc4",
        "0.10.2",
        "gan.py --preset dcgan",
    ):
        assert text in page.text
    assert page.text.index("second") < page.text.index("Earlier starts (1)") < page.text.index("first")
    assert "These differ from the preset dcgan at its tiny size." in page.text
    different, every = page.text.split("All settings")
    assert "steps 9000 preset: 20 seed 7 preset: 0" in different
    assert "model.latent" in every and "model.latent" not in different


def test_two_runs_share_the_plots_and_their_settings_are_compared(report, tmp_path):
    one, two = make(tmp_path / "a" / "run", lines=4, seed=1), make(tmp_path / "b" / "run", "vae", lines=6, seed=1)
    for run, step, into in ((one, 10, "samples"), (two, 20, "samples"), (two, 20, "reconstructions")):
        sample(run, step, into=into)
    page, said = report(one, two)
    assert page.data["runs"] == ["a/run", "b/run"] and "2 runs" in said
    assert page.curve("loss", 0, "generator")["x"] == [5, 10, 15, 20]
    assert page.curve("loss", 1, "generator")["x"] == [5, 10, 15, 20, 25, 30]
    assert [(x["run"], x["kind"]) for x in page.data["samples"]] == [
        (0, "samples"),
        (1, "samples"),
        (1, "reconstructions"),
    ]
    assert "seed 1 preset: 0 1 preset: 0" in page.text


@pytest.mark.parametrize("family", zoo.families())
def test_a_run_of_any_family_that_has_just_begun(report, tmp_path, family):
    preset = zoo.family(family)[0]
    page, _ = report(make(tmp_path / "run", preset))
    assert page.data == {"runs": ["run"], "panels": [], "samples": []}
    assert f"All settings are those of the preset {preset} at its tiny size." in page.text
    assert "nothing logged yet" in page.text and "None yet: python -m jaxgen evaluate RUN" in page.text


def test_names_are_text_and_never_markup(report, tmp_path):
    name = "<script>window.hacked=1<\u2215script>\u202e&amp;\x1b"  # no name holds a slash
    data = dataclasses.replace(zoo.load("ddpm").tiny.data, classes=(HOSTILE, "</td>'\""))
    folder = make(tmp_path / name, "ddpm", data=data)
    sample(folder, 5, into=f"{name}s")
    rows = [{"step": 1, f"{HOSTILE}/loss": 1.0}, {"step": 1, "</script><img src=x onerror=alert(1)>": 2.0}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    row = {"metric": HOSTILE, "value": HOSTILE, HOSTILE: [HOSTILE], "step": HOSTILE, "time": 3, "commit": [HOSTILE]}
    (folder / "evaluations.jsonl").write_text(json.dumps(row) + "\n")
    start = {
        "versions": {HOSTILE: HOSTILE},
        "devices": [HOSTILE],
        "command": HOSTILE,
        HOSTILE: {"{{data}}": "{{style}}"},
    }
    (folder / "environment.json").write_text(json.dumps([start]))
    page, _ = report(folder)
    assert [tag for tag, _ in page.elements].count("script") == 2, "the page's own data and program"
    assert not {"img", "a.x"} & {tag for tag, _ in page.elements}
    assert page.text.count(HOSTILE) >= 8 and "</td>'\"" in page.text and "{{data}} {{style}}" in page.text
    assert (
        "\u202e" not in page.text
        and "\\u202e&amp;\\x1b" in page.text
        and page.data["runs"] == ["<script>window.hacked=1<\u2215script>\\u202e&amp;\\x1b"]
    )
    assert {each["name"] for each in page.data["panels"]} == {"loss", "script><img src=x onerror=alert(1)>"}


def test_what_is_damaged_is_left_out_and_named(report, tmp_path):
    folder = make(tmp_path / "run", lines=3)
    bad = ["{", "\x00", "[1]", '{"step": 20.5, "a": 1}', '{"step": -1, "a": 1}', '{"step": 20, "a": "1"}', "[" * 9999]
    bad += ['{"step": true, "a": 1}', f'{{"step": 1{"0" * 400}, "a": 1}}', '{"step": 20, "a": {}}']
    with (folder / "metrics.jsonl").open("a") as file:
        file.write("\n".join([*bad, '{"step": 10, "generator/loss": 9}', '{"step": 25, "generator/lo']))
    deep = f'{{"metric": "deep", "value": {"[" * 900}1{"]" * 900}, "interval95": "wide"}}'
    (folder / "evaluations.jsonl").write_text(f"what?\n{deep}\n")
    (folder / "environment.json").write_text("[" * 9999)
    sample(folder, 10)
    sample(folder, 20).write_bytes(b"no PNG")
    secret = tmp_path / "secret.txt"
    secret.write_text("of another folder")
    (folder / "samples" / "000030.txt").symlink_to(secret)
    (folder / "samples" / "notes.txt").write_text("of no step")
    page, said = report(folder)
    curve = page.curve("loss", phase="generator")
    assert (curve["x"], curve["y"]) == ([5, 10, 15], [3, 9, 1]), "the last value of a step counts"
    assert page.curve("loss", phase="discriminator")["y"] == [0, 0.5, 0.666667]
    assert [each["steps"] for each in page.data["samples"]] == [[10]]
    for note in (
        f"run: {len(bad) + 1} lines are damaged in metrics.jsonl, and left out.",
        "run: 1 line is damaged in evaluations.jsonl, and left out.",
        "run: 1 of the samples are damaged files, and left out.",
    ):
        assert note in said and note in page.text
    assert "deep ..." in page.text
    assert "of another folder" not in json.dumps(page.data)


def test_numbers_that_are_none_are_marked_beside_their_curve(report, tmp_path):
    folder = make(tmp_path / "run")
    values = [1.0, float("nan"), 2.0, float("inf"), -float("inf"), 3e300, 1e-12]
    lines = (json.dumps({"step": i, "eval/test/psnr": value}) for i, value in enumerate(values))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    curve = report(folder)[0].curve("psnr", phase="eval/test")
    assert (curve["x"], curve["y"]) == ([0, 2, 5, 6], [1, 2, 3e300, 1e-12])
    assert curve["odd"] == [[1, "NaN"], [3, "Infinity"], [4, "-Infinity"]]


def test_a_long_curve_keeps_its_means_and_ranges():
    rng = np.random.default_rng(0)
    steps, values = np.arange(10_000) * 10, rng.normal(size=10_000)
    values[1234], values[5000], values[7000:7100] = 1e6, np.inf, np.nan
    made = thinned(history.Curve(steps, values), 300)
    good = np.isfinite(values)
    parts = np.array_split(np.arange(good.sum()), 100)
    low, high, mean = ([f(values[good][part]) for part in parts] for f in (np.min, np.max, np.mean))
    assert len(made["x"]) == 100 and made["of"] == good.sum()
    assert np.max(made["high"]) == 1e6 and np.min(made["low"]) == pytest.approx(values[good].min(), rel=1e-5)
    assert np.average(made["y"]) == pytest.approx(values[good].mean(), rel=0.02)
    assert len(low) == len(made["low"]) and np.median(np.abs(np.array(made["y"]) - mean)) < 0.05
    assert np.median(np.abs(np.array(made["high"]) - high)) < 0.5
    assert len(made["odd"]) == 50 and made["odd"][0] == [50_000, "Infinity"] and made["odd"][-1] == [70_990, "NaN"]
    few = thinned(history.Curve(steps[:300], values[:300]), 300)
    assert few["x"] == steps[:300].tolist() and "low" not in few


def test_many_runs_stay_a_small_page(report, tmp_path):
    runs = [make(tmp_path / f"run{i}", lines=3000) for i in range(8)]
    page, _ = report(*runs)
    assert sum(len(curve["x"]) for panel in page.data["panels"] for curve in panel["curves"]) <= 12_000
    assert (tmp_path / "page.html").stat().st_size < 500_000


def test_metrics_of_held_out_data_are_beside_those_of_the_training():
    names = {"vae/loss", "eval/test/vae_loss", "eval/test/psnr_rgb", "images/s"}
    assert place("vae/loss", names) == ("loss", "vae")
    assert place("eval/test/vae_loss", names) == ("loss", "vae eval/test")
    assert place("eval/test/psnr_rgb", names) == ("psnr_rgb", "eval/test")
    assert place("images/s", names) == ("images/s", "")


@pytest.mark.parametrize("kind", SHAPES)
def test_samples_are_shown_by_their_kind(report, tmp_path, kind):
    folder = make(tmp_path / "run")
    path = sample(folder, 1_000_000, kind)
    [group] = report(folder)[0].data["samples"]
    shown, type_ = {"image": ("image", "image/png"), "video": ("image", "image/gif")}.get(kind, ("audio", "audio/wav"))
    assert group["steps"] == [1_000_000]
    if kind == "tokens":
        assert (group["shown"], group["items"]) == ("text", [path.read_text()])
    else:
        assert (group["shown"], group["items"]) == (shown, [uri(path, type_)])


def test_samples_stay_within_a_budget_and_spread_evenly(report, tmp_path):
    assert evenly([10] * 11, 65) == [0, 2, 4, 6, 8, 10] and evenly([10] * 11, 20) == [0, 10]
    assert evenly([10] * 11, 19) == [10] and evenly([10] * 11, 9) == [] and evenly([], 9) == []
    assert len(evenly([1] * 1000, 10**9)) == 100
    folder = make(tmp_path / "run")
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    (folder / "samples").mkdir()
    for step in range(1, 12):
        Image.fromarray(noise).save(folder / "samples" / f"{step:06d}.png")  # 360 kB in the page
    sample(folder, 11, into="restorations")
    page, said = report(folder, "--megabytes", 1)
    large, small = page.data["samples"]
    assert large["steps"] == [1, 11] and small["steps"] == [11]
    assert (tmp_path / "page.html").stat().st_size < 1_100_000
    assert "run: 2 of 11 samples are shown, evenly spread." in said and "2 of 11 samples" in page.text
    page, said = report(folder, "--megabytes", 0)
    assert page.data["samples"] == [] and "0 of 1 restorations are shown, each takes more than its share" in said


def test_speed_is_that_of_the_logged_steps(report, tmp_path):
    """Two starts: 2 s a step, then 4 s a step; a kill cut off the last record."""
    folder, now = make(tmp_path / "run", lines=1), time.time()
    for start, times in enumerate(({step: 2 * step for step in range(10, 70, 10)}, {60: 8, 70: 48})):
        board = SummaryWriter(str(folder / "tensorboard"), filename_suffix=f".{start}")
        for step, seconds in times.items():
            board.add_scalar("images_per_second", 100 * (1 + start), step, walltime=now + seconds)
        board.close()
    for file in (folder / "tensorboard").iterdir():
        with file.open("ab") as stream:
            stream.write((1 << 20).to_bytes(8, "little") + bytes(12))
    page, _ = report(folder)
    assert page.curve("images/s")["x"] == [10, 20, 30, 40, 50, 60, 70]
    assert page.curve("images/s")["y"] == [100] * 5 + [200] * 2
    assert re.search(r"devices run 100 (2|2\.0\d) s 2\.[78]\d? min unknown", page.text), "the medians, and 168 s"


def test_mistakes_are_one_sentence(cli, tmp_path):
    run, out = make(tmp_path / "run"), tmp_path / "page.html"
    assert "Name the folder of a run" in cli(2, "report", "--out", out)
    assert f"There is no run folder {tmp_path}/none." in cli(2, "report", run, tmp_path / "none", "--out", out)
    assert "is no run: it has no config.json" in cli(2, "report", tmp_path, "--out", out)
    assert "is given twice" in cli(2, "report", run, f"{run}/", "--out", out)
    assert "must end in .html, not 'page.png'" in cli(2, "report", run, "--out", tmp_path / "page.png")
    assert "megabytes must be at least 0" in cli(2, "report", run, "--out", out, "--megabytes", "-1")
    assert not out.exists()
    cli(0, "report", run, "--out", out)
    cli(0, "report", run, "--out", tmp_path / "no/where/page.html")  # the folder is made
    assert "exists already" in cli(2, "report", run, "--out", out)
    cli(0, "report", run, "--out", out, "--overwrite")
    (run / "config.json").write_text("{")
    assert "can't be read as a run's configuration" in cli(2, "report", run, "--out", out, "--overwrite")


@pytest.mark.slow
def test_a_browser_shows_the_page(cli, tmp_path):
    """Chromium, without network: curves are drawn, the slider moves the images, no name runs, all fits a phone."""
    one = make(tmp_path / f"run {HOSTILE[:8]}{HOSTILE[8:24]}", lines=400, steps=9000)
    two = make(tmp_path / "two", lines=2000)
    with (one / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2010, "generator/loss": NaN}\n{"step": 2020, "</script><script>hacked=1": 1}\n')
    images = {step: sample(one, step) for step in (500, 1000, 2000)}
    other = sample(two, 1500, seed=1)
    sample(one, 2000, "audio", "sounds")
    sample(one, 2000, "video", "predictions")
    sample(one, 2000, "tokens", "words")
    cli(0, "report", one, two, "--out", tmp_path / "page.html")
    with chromium() as browser:
        browser.emulate(1280)
        browser.open((tmp_path / "page.html").as_uri())
        lines = browser.js(
            "return [...document.querySelectorAll('.frame')].map(frame => {"
            " const [a, all] = [frame.getBoundingClientRect(), [...frame.querySelectorAll('path.line')]];"
            " return all.map(line => { const b = line.getBoundingClientRect(); return b.width > 0 && b.height > 0"
            " && b.left >= a.left && b.right <= a.right && b.top >= a.top && b.bottom <= a.bottom; }); })"
        )
        assert lines[0] == [True] * 4, "generator and discriminator of two runs in one plot"
        assert browser.js("return document.querySelectorAll('.band').length") == 2, "the thinned run's"
        assert browser.js("return document.querySelector('.odd title').textContent") == "NaN at step 2,010"

        image = "return [...document.querySelectorAll('.samples')[0].querySelectorAll('img')].map(x => x.src)"
        assert browser.js(image) == [uri(images[2000], "image/png"), uri(other, "image/png")]
        browser.press(".steps input", "ArrowLeft", "ArrowLeft")
        assert browser.js(image)[0] == uri(images[1000], "image/png")
        assert browser.js("return document.querySelectorAll('.shots img')[1].hidden"), "it has no samples yet"
        browser.open((tmp_path / "page.html").as_uri() + "#sample=700&log=1&smooth=0.5")
        assert browser.js(image)[0] == uri(images[500], "image/png")
        assert browser.js("return document.querySelector('.steps input').getAttribute('aria-valuetext')") == "step 500"
        assert browser.js("return document.querySelectorAll('.faint').length") > 0
        natural = browser.js("return [...document.querySelectorAll('.shots img')].map(x => x.naturalWidth)")
        assert natural[0] and natural[2], "the .png and the .gif are decoded"
        assert browser.js(
            "const a = document.querySelector('audio'), done = () => a.readyState > 0 ? a.duration : null;"
            "return new Promise(then => { a.addEventListener('loadedmetadata', () => then(done())); a.load(); })"
        ) == pytest.approx(2 * (400 / 16_000 + 0.1), abs=0.01)

        tip = "return document.querySelector('.tip').innerText"
        browser.point(".frame")
        assert re.match(r"step [\d,]+\n", browser.js(tip)) and "two · generator" in browser.js(tip)
        browser.press(".frame", "Home")
        assert browser.js(tip).startswith("step 5\n") and "generator 3, unsmoothed 3" in browser.js(tip)
        browser.click(".legend button")
        assert len(browser.js("return [...document.querySelectorAll('.frame')][0].querySelectorAll('path.faint')")) == 3

        colours = []
        for width, dark in ((1280, False), (1280, True), (400, False), (400, True)):
            browser.emulate(width, dark)
            assert browser.js("return document.documentElement.scrollWidth <= innerWidth"), "nothing is cut off"
            colours.append(browser.js("return getComputedStyle(document.body).backgroundColor"))
            with Image.open(browser.screenshot(tmp_path / "seen.png")) as seen:
                assert seen.width == width and len(seen.convert("RGB").getcolors(1 << 24) or ()) > 50
        assert colours[0] == colours[2] != colours[1] == colours[3]
        assert browser.js("return window.hacked === undefined && performance.getEntriesByType('resource').length === 0")
        assert browser.console() == []
