"""Published results of the benchmarks: training times, places of measurement, and the file and page that they write."""

import sys

import pytest
from PIL import Image

from jaxgen.evaluation import results as published
from tests.benchmarks import render, report, translation_quality

PLACE = {"date": "2026-11-26", "hardware": "AMD EPYC, 2 cores", "versions": {"Python": "3.11.7", "jax": "0.10.2"}}
PAGE = """# A zoo

<!-- vae-nll -->
<!-- /vae-nll -->

The end.
"""


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A README.md and an empty file of results, which the benchmarks write."""
    (tmp_path / "README.md").write_text(PAGE)
    (tmp_path / "results.jsonl").touch()
    monkeypatch.setattr(published, "FILE", tmp_path / "results.jsonl")
    monkeypatch.setattr(render, "ROOT", tmp_path)
    return tmp_path


def test_the_dates_of_several_seeds_are_from_the_first_day_to_the_last():
    later = PLACE | {"date": "2026-11-28", "hardware": "A GPU, 16 cores", "versions": {"Python": "3.12.3"}}
    assert report.together([PLACE, PLACE]) == PLACE
    assert report.together([later, PLACE]) == {
        "date": "2026-11-26/2026-11-28",
        "hardware": "AMD EPYC, 2 cores; A GPU, 16 cores",
        "versions": {"Python": "3.12.3"},
    }
    assert report.together([]) == {}


def test_a_benchmark_appends_what_is_new_and_renders_the_page(house):
    def publish(name: str, nll: float, steps: int, write: bool = True) -> str:
        said = []
        values = {"nll_5000_dynamic": nll, "active_units": None}
        about = {"model": name, "preset": name, "steps": steps, "places": [PLACE]}
        report.publish("vae-nll", report.row({"model": f"`{name}`"}, values, **about), write, said.append)
        return said[0]

    assert "| `vae` | 2,000 | 88.81 |" in publish("vae", 88.8123456789, 2000, write=False)
    assert (house / "README.md").read_text() == PAGE and not published.read(house / "results.jsonl")
    publish("vae", 88.8123456789, 2000)
    publish("iwae", 87.0, 2000)
    publish("iwae", 87.0, 2000)
    there = published.read(house / "results.jsonl")
    assert [result.value for result in there] == [88.8123, 87.0], "what is there already is not appended again"
    assert there[0].command and there[0].date == "2026-11-26" and there[0].table == "vae-nll"
    publish("vae", 80.0, 9000)
    text = (house / "README.md").read_text()
    assert "| `vae` | 9,000 | 80.00 |\n| `iwae` | 2,000 | 87.00 |\n\n<details>" in text, "rows of other models stay"
    assert text.startswith("# A zoo\n\n<!-- vae-nll -->\n| model |") and text.endswith("The end.\n")
    assert "beside other trainings. 2026-11-26, AMD EPYC, 2 cores; Python 3.11.7, jax 0.10.2." in text
    assert len(published.read(house / "results.jsonl")) == 3


def test_a_row_knows_its_intervals_cases_and_sources():
    [mean, final, theirs] = report.row(
        {"model": "`gan`"},
        {"fid_lenet": (16.51234567, 0.9), "fid_lenet@final": {"value": 3, "steps": 70}, "modes": 8, "kl": None},
        model="gan",
        steps=20,
        settings="",
    )
    assert (mean.metric, mean.case, mean.value, mean.interval, mean.steps) == ("fid_lenet", None, 16.5123, 0.9, 20)
    assert (final.case, final.value, final.steps) == ("final", 3, 70)
    assert theirs.metric == "modes" and theirs.settings is None and theirs.row == {"model": "`gan`"}


def test_a_command_names_no_folder_of_this_machine(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x.py", "--data", "/home/me", "--only", "vae", "--out", "/tmp/x", "--write"])
    assert report.command().endswith(" --data DIR --only vae --out DIR --write")


def test_translations_sheet_is_the_readmes_where_every_model_has_images(tmp_path, monkeypatch):
    kept = tmp_path / "readme.png"
    kept.write_bytes(b"of another machine")
    monkeypatch.setattr(translation_quality, "SHEET", kept)
    *some, last = translation_quality.MODELS
    for i, name in enumerate(some):
        Image.new("RGB", (6 * 3 * 64, 6 * 64), (40 * i, 90, 0)).save(tmp_path / f"{name}.png")
    translation_quality.publish(tmp_path, write=True)
    with Image.open(tmp_path / "sheet.png") as part:
        small = part.size
    assert kept.read_bytes() == b"of another machine"
    Image.new("RGB", (6 * 3 * 64, 6 * 64), (0, 0, 200)).save(tmp_path / f"{last}.png")
    translation_quality.publish(tmp_path, write=False)
    assert kept.read_bytes() == b"of another machine"
    translation_quality.publish(tmp_path, write=True)
    width, height = translation_quality.SHOWN
    with Image.open(kept) as whole:
        rows, column = -(-len(translation_quality.MODELS) // 3), len(some) % 3
        assert whole.size[0] == small[0] > 3 * width and whole.size[1] >= small[1] > 2 * height
        assert whole.size[1] > rows * height
        sheet, (across, down) = whole.convert("RGB"), (whole.size[0] // 3, whole.size[1] // rows)
        assert sheet.getpixel((across + 10, 10)) == (40, 90, 0), "the second model's"
        assert sheet.getpixel((column * across + 10, (rows - 1) * down + 10)) == (0, 0, 200), "the last one's"
