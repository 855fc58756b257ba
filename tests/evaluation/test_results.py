"""The file of published results: refused lines, replaced results, summaries of presets, and the tables."""

import dataclasses
import json
import re
from typing import Any

import pytest

from jaxgen import zoo
from jaxgen.core.errors import InputError
from jaxgen.evaluation import results
from jaxgen.evaluation.results import Result
from tests.benchmarks import render
from tests.benchmarks.protocols import PROTOCOLS
from tests.benchmarks.tables import TABLES

LINE = {"model": "vae", "metric": "fid_lenet", "value": 3.5}


def written(tmp_path, *lines):
    path = tmp_path / "results.jsonl"
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))
    return path


def test_what_is_appended_is_read_again(tmp_path):
    one = Result("vae", "fid_lenet", 3.5, 0.25, preset="vae", steps=2000, versions={"jax": "0.10.2"}, date="2026-11-26")
    two = Result("vae", "psnr", 20, table="t", row={"model": "`vae` ±"}, date="2026-11-26/2026-11-27")
    path = tmp_path / "results.jsonl"
    results.append([one], path)
    results.append([two], path)
    assert results.read(path) == [one, two]
    assert "null" not in path.read_text() and path.read_text().count("\n") == 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "results.jsonl, line 2 is not JSON"),
        ([1], "line 2 must be an object in braces"),
        (LINE | {"fid": 3}, "'fid' is not a field of a result; the fields are model, metric"),
        ({"model": "vae", "metric": "fid_lenet"}, "line 2: 'value' is missing"),
        (LINE | {"value": "3.5"}, "'value' must be a finite number, not '3.5'"),
        (LINE | {"value": True}, "'value' must be a finite number, not True"),
        ('{"model": "vae", "metric": "x", "value": NaN}', "'value' must be a finite number, not nan"),
        (LINE | {"steps": 2.5}, "'steps' must be a whole number that is not negative, not 2.5"),
        (LINE | {"seeds": -1}, "'seeds' must be a whole number that is not negative, not -1"),
        (LINE | {"interval": -0.5}, "'interval' must not be negative"),
        (LINE | {"preset": ""}, "'preset' must be a text that is not empty"),
        (LINE | {"table": "t", "row": ["model"]}, "'row' must be an object of texts"),
        (LINE | {"row": {"model": "vae"}}, "'row' needs 'table'"),
        (LINE | {"date": "26.11.2026"}, "'date' must be a day such as 2026-11-30, not '26.11.2026'"),
        (LINE | {"date": "2026-11-31"}, "'date' must be a day such as"),
    ],
)
def test_a_damaged_line_is_named_with_its_error(tmp_path, line, message):
    with pytest.raises(InputError, match=re.escape(message)):
        results.read(written(tmp_path, LINE, line))


def test_nothing_is_appended_if_one_result_is_invalid(tmp_path):
    path = written(tmp_path, LINE)
    before = path.read_text()
    with pytest.raises(InputError, match="'value' must be a finite number"):
        results.append([Result("vae", "fid_lenet", 3.5), Result("vae", "fid_lenet", float("inf"))], path)
    assert path.read_text() == before


def test_a_later_result_replaces_an_earlier_one_at_its_place():
    old, other = Result("a", "x", 1, table="t", row={"model": "a"}), Result("b", "x", 2, table="t", row={"model": "b"})
    new, case = dataclasses.replace(old, value=3, steps=5), dataclasses.replace(old, case="final")
    assert results.newest([old, other, case, new]) == [new, other, case]
    alone = Result("a", "x", 1, steps=5)
    assert results.newest([alone, dataclasses.replace(alone, steps=6)])[0] == alone


def test_the_best_of_a_preset_and_its_summary():
    known: dict[str, Any] = {"preset": "vae", "data": "MNIST", "steps": 5000}
    found = [
        Result("vae", "fid_lenet", 90, 6.7, **known),
        Result("vae", "fid_lenet", 80, case="16 sampling steps", settings="--batch 8", **known),
        Result("vae, mixture", "fid_lenet", 29, **known),
        Result("vae", "fid_lenet", 1, weights="published.pth", **known),
        Result("vae", "fid_lenet", 0.5, source="A paper", **known),
        Result("vae", "psnr_rgb", 20, table="t", row={"model": "vae"}, **known),
        Result("vae", "psnr_rgb", 21, table="t", row={"model": "vae"}, case="input", **known),
        Result("vae", "unknown", 1, **known),
    ]
    assert {name: r.value for name, r in results.best(found, "vae").items()} == {"fid_lenet": 80, "psnr_rgb": 20}
    expected = "fid_lenet 80 on MNIST (16 sampling steps; 5,000 steps; --batch 8)"
    expected += "; PSNR 20.00 dB (inputs: 21.00) on MNIST (5,000 steps)"
    assert results.summary(found, "vae") == expected
    assert results.summary(found[2:3], "vae") == "fid_lenet 29 on MNIST (5,000 steps)"
    assert results.summary(found, "gan") is None


# ---- the tables


def test_cells():
    row = [
        Result("a", "fid", 25.61, 0.914, steps=2000, table="t", row={"model": "a"}),
        Result("a", "fid", 0.5, case="final, of 2", table="t", row={"model": "a"}, source="A paper"),
        Result("a", "count", 16000, table="t", row={"model": "a"}),
    ]
    assert render.cell("{fid:.3g±.2g}", row) == "25.6 ± 0.91"
    assert render.cell("{fid@final, of 2:.0%±.2g} ({fid@final, of 2.source})", row) == "50% (A paper)"
    assert render.cell("{.steps:,} of {count:,.0f}", row) == "2,000 of 16,000"
    assert render.cell("{kid:.2f}|{fid:.1f} min", row) == "25.6 min"
    assert render.cell("{kid:.2f}", row) == render.cell("{fid:.1f}{count@x}", row) == render.cell("{.seeds}", row) == ""


def test_a_page_is_rendered_once_and_then_stays(tmp_path):
    place: dict[str, Any] = {"date": "2026-11-26", "hardware": "A core"}
    found = [
        Result("empty", "seconds", 8.2, table="startup", row={"compilation cache": "empty"}, **place),
        Result("warm", "seconds", 5.2, table="startup", row={"compilation cache": "warm"}, remark="Quiet"),
    ]
    page = tmp_path / "README.md"
    page.write_text("Before\n<!-- startup -->\nold\n<!-- /startup -->\nAfter\n")
    assert render.render(write=False, root=tmp_path, found=found) == [page] and "old" in page.read_text()
    assert render.render(root=tmp_path, found=found) == [page]
    text = page.read_text()
    assert "| compilation cache | seconds |\n| --- | --- |\n| empty | 8.2 |\n| warm | 5.2 |\n\n<details>" in text
    assert "<summary>How it was measured</summary>\n\nFrom" in text
    assert text.endswith(" `warm`: Quiet. `empty`: 2026-11-26, A core.\n\n</details>\n<!-- /startup -->\nAfter\n")
    assert render.render(root=tmp_path, found=found) == [] and page.read_text() == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<!-- startups -->\n<!-- /startups -->", "Unknown table 'startups': did you mean 'startup'?"),
        ("<!-- startup -->\n", "has <!-- startup --> without <!-- /startup --> after it"),
        ("<!-- startup -->\n<!-- /startup -->", "No result is of the table startup"),
    ],
)
def test_a_marker_that_names_no_table_is_refused(text, message):
    with pytest.raises(InputError, match=re.escape(message)):
        render.page(text, [])


# ---- the published file itself


@pytest.fixture(scope="module")
def published():
    return results.read()


def test_the_published_results_are_of_presets_and_tables_that_exist(published):
    for result in published:
        assert result.preset is None or result.preset in zoo.ZOO, result
        assert result.table is None or result.table in TABLES, result
        if result.table:
            assert tuple(result.row or {}) == TABLES[result.table].labels, result


def test_every_cell_of_the_columns_can_be_filled():
    """A template without a matching metric is never shown, so this finds misspelt names."""
    for name, table in TABLES.items():
        for template in table.columns.values():
            for part in template.split("|"):
                places = list(render.PLACE.finditer(part))
                assert places and all(place["metric"] or place["field"] for place in places), (name, template)
                assert "{" not in render.PLACE.sub("", part), (name, template)
    assert PROTOCOLS.keys() <= TABLES.keys()


PAGES = sorted(path for pattern in (*render.PAGES, "t*/README.md") for path in render.ROOT.glob(pattern))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(render.ROOT)))
def test_every_link_of_a_page_leads_to_a_file(page):
    for link in re.findall(r"\]\(((?!https?:|#).*?)\)", page.read_text()):
        assert (page.parent / link.partition("#")[0]).exists(), link


@pytest.mark.parametrize("marker", render.FAMILIES)
def test_every_family_has_a_page_with_its_presets(marker):
    assert f"<!-- {marker} -->" in (render.ROOT / "jaxgen/models" / render.FAMILIES[marker] / "README.md").read_text()


def test_every_table_with_results_is_on_one_page(published):
    texts = [page.read_text() for page in PAGES]
    for name in {result.table for result in published if result.table}:
        assert sum(f"<!-- {name} -->" in text for text in texts) == 1, name


def test_the_readme_is_read_in_five_minutes():
    assert len((render.ROOT / "README.md").read_text().splitlines()) <= 200


def test_every_page_agrees_with_the_results(capsys):
    assert render.main(["--check"]) == 0, capsys.readouterr().out


def test_the_check_fails_for_a_stale_table(monkeypatch, published, capsys):
    changed = [dataclasses.replace(r, value=r.value + 1) if r.metric == "fid_lenet" else r for r in published]
    monkeypatch.setattr(results, "read", lambda: changed)
    assert render.main(["--check"]) == 1
    assert "README.md is stale: python -m tests.benchmarks.render writes it" in capsys.readouterr().out


def test_every_presets_paper_is_in_the_docstring_of_its_module():
    papers = {name: zoo.paper(name) for name in zoo.ZOO}
    assert all(re.fullmatch(r"[A-Zvd][^:\"]+ (19|20)\d\d", paper) for paper in papers.values()), papers
    known = {"dcgan": "Radford et al. 2016", "vae": "Kingma and Welling 2014", "hierarchical": "Child 2021"}
    assert known.items() <= papers.items()
