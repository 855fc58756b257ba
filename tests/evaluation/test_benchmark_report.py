"""What the benchmarks' tables say of a run, how long it was trained and where, and what README.md keeps of others."""

import time

import pytest
from PIL import Image
from tensorboardX import SummaryWriter

from tests.benchmarks import report, translation_quality
from tests.benchmarks.report import places, trained


def test_the_time_of_a_run_is_that_of_its_starts_together(tmp_path):
    """Two starts of two minutes each, the second from an earlier step; a kill cut each one's last record off."""
    for start, steps in (("first", (10, 20)), ("second", (15, 25))):
        writer = SummaryWriter(str(tmp_path / "tensorboard"), filename_suffix=f".{start}")
        for minutes, step in enumerate(steps, 1):
            writer.add_scalar("loss", 0.5, step, walltime=time.time() + 60 * minutes)
        writer.close()
    files = sorted((tmp_path / "tensorboard").iterdir())
    assert len(files) == 2
    for file in files:
        with file.open("ab") as stream:
            stream.write((1 << 20).to_bytes(8, "little") + bytes(12))
    assert trained(tmp_path) == pytest.approx({10: 60, 20: 120, 15: 180, 25: 240}, abs=5)


def test_where_rows_were_measured_is_told_once_and_of_which_models_where_it_differs():
    rows = [{"model": "edm", "place": "A core."}, {"model": "edm", "place": "A core."}]
    assert places(rows) == "A core."
    assert places([*rows, {"model": "sit", "place": "A GPU."}]) == "`edm`: A core. `sit`: A GPU."


TABLE = """# A zoo

<!-- quality -->
| model | steps | fid |
| --- | --- | --- |
| `edm` | 2,000 | 30 |
| `flow` | 2,000 | 20 |
| `flow` | 4,000 | 10 |
| `sit` | 2,000 | 40 |

Of all. `edm`, `flow`: 2026-11-26, A GPU, 16 cores; Python 3.12.3. `sit`: 2026-11-27, AMD EPYC, 1 core; Python 3.11.7.
<!-- /quality -->

The end.
"""


def test_a_table_keeps_the_rows_of_models_that_were_trained_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "README", tmp_path / "README.md")
    report.README.write_text(TABLE)
    here = "2026-11-28, Another, 2 cores; Python 3.13.1."
    rows = [{"model": f"`{name}`", "steps": 8000, "fid": 5, "bits": 1.4} for name in ("flow", "uvit")]
    found = [{"model": name, "place": here} for name in ("flow", "uvit")]
    report.publish("quality", rows, "Of all.", True, lambda text: None, found=found)
    wanted = """# A zoo

<!-- quality -->
| model | steps | fid | bits |
| --- | --- | --- | --- |
| `edm` | 2,000 | 30 |  |
| `flow` | 8,000 | 5 | 1.4 |
| `sit` | 2,000 | 40 |  |
| `uvit` | 8,000 | 5 | 1.4 |

Of all. `edm`: 2026-11-26, A GPU, 16 cores; Python 3.12.3. `sit`: 2026-11-27, AMD EPYC, 1 core; Python 3.11.7. \
`flow`, `uvit`: 2026-11-28, Another, 2 cores; Python 3.13.1.
<!-- /quality -->

The end.
"""
    assert report.README.read_text() == wanted.replace("\\\n", "")


@pytest.mark.parametrize(
    "section", ["diffusion-steps", "mending-quality", "restoration-quality", "translation-quality-flowers", "vae-nll"]
)
def test_a_row_measured_again_on_the_same_machine_changes_nothing_else(section):
    """Of README.md itself: as often as it is written, every row stays and is said to be of where it was measured."""
    _, text, _ = report.parts(section)
    titles, _, *lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    again = [line for line in lines if line[0] == lines[-1][0]]
    rows = [dict(zip(titles, [*(cell.strip() for cell in line), ""], strict=False)) for line in again]
    places = report.PLACE.findall(text)
    place = next(place for models, place in reversed(places) if again[0][0] in models or not models)
    table, where = report.merged(section, rows, [{"model": rows[0][titles[0]].strip("`"), "place": place}])
    assert len(table) == len(lines) and [row[titles[0]] for row in table] == [line[0] for line in lines]
    after = {name for models, _ in report.PLACE.findall(where) for name in models.split("`")[1::2]}
    before = {name for models, _ in places for name in models.split("`")[1::2]}
    assert after == before
    assert {place for _, place in report.PLACE.findall(where)} == {place for _, place in places}


def test_translations_sheet_is_the_readmes_where_every_model_has_pictures(tmp_path, monkeypatch):
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
        picture, (across, down) = whole.convert("RGB"), (whole.size[0] // 3, whole.size[1] // rows)
        assert picture.getpixel((across + 10, 10)) == (40, 90, 0), "the second model's"
        assert picture.getpixel((column * across + 10, (rows - 1) * down + 10)) == (0, 0, 200), "the last one's"
