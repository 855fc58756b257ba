"""python -m jaxgen list: presets by family in 80 columns, the wide table, JSON, and the catalogue of weights."""

import json

import pytest

from jaxgen import zoo
from jaxgen.evaluation import results
from jaxgen.pretrained import catalogue


@pytest.fixture
def printed(cli, capsys):
    """Return *args -> the lines that `list` prints."""

    def lines(*args: str) -> list[str]:
        from jaxgen.commands.list_ import list_

        what = [arg for arg in args if not arg.startswith("-")]
        list_(*what, all="--all" in args, json="--json" in args)
        return capsys.readouterr().out.splitlines()

    return lines


def test_all_presets_are_listed_by_family_in_80_columns(printed):
    lines = printed()
    first = [line.split(" ")[0] for line in lines]
    assert max(map(len, lines)) <= 80 and "…" not in "".join(lines)
    assert [name for name in zoo.ZOO if name not in first] == []
    assert [line.split(":")[0] for line in lines if line.split(":")[0] in zoo.families()] == zoo.families()
    assert all(f"python -m train.{family} --preset PRESET" in lines for family in zoo.families())


def test_a_family_shows_purposes_results_and_shipped_weights(printed, cli):
    text = " ".join(" ".join(printed("classifier")).split())
    assert "accuracy 99.54%" in text and "lenet_mnist" in text and "dcgan" not in text
    assert "did you mean 'gan'?" in cli(2, "list", "gann")
    assert cli(0, "list", "gan") == " ".join(" ".join(printed("gan")).split())


def test_every_preset_and_family_says_what_it_is_for():
    uses = [zoo.use_of(name) for name in zoo.ZOO]
    assert all(0 < len(use) <= 56 and not use.endswith(".") for use in uses)
    assert all(zoo.about(family).endswith(".") for family in zoo.families())


def test_json_has_all_that_is_known(printed):
    rows = {row["preset"]: row for row in json.loads("\n".join(printed("gan", "--json")))}
    assert list(rows) == zoo.family("gan")
    row = rows["dcgan"]
    assert row["parameters"] == 536_384 and row["for"] == zoo.use_of("dcgan") and row["image"] == [32, 32, 1]
    best = results.best(results.read(), "dcgan")
    assert {name: found["value"] for name, found in row["results"].items()} == {k: r.value for k, r in best.items()}


def test_the_weights_of_the_catalogue(printed):
    lines = printed("weights")
    assert max(map(len, lines)) <= 80
    own, fetched = lines.index("They ship with the package"), lines.index("They are fetched when they are first used")
    at = {name: [i for i, line in enumerate(lines) if line.startswith(f"{name} ")] for name in catalogue.names()}
    assert all(len(found) == 1 for found in at.values())
    assert all((own < i < fetched) == bool(catalogue.entry_of(name).shipped) for name, [i] in at.items())
    rows = {row["name"]: row for row in json.loads("\n".join(printed("weights", "--json")))}
    assert rows["lenet_mnist"]["shipped"] and rows["imdn-x4"]["preset"] == "imdn" and not rows["imdn-x4"]["shipped"]
    assert rows["imdn-x4"]["bytes"] == catalogue.entry_of("imdn-x4").size
