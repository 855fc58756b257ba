"""Budgets of CPU seconds: the table names existing files, and a run in CI fails at twice a budget."""

import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from jaxgen import zoo
from tests.helpers.budget import TABLE, Budget, group_of

ROOT = Path(__file__).parents[1]


def spend(budget: Budget, nodeid: str, seconds: float, *markers: str):
    """Report a test that passed."""
    for when, found in (("setup", []), ("call", []), ("teardown", [("cpu_seconds", seconds)])):
        report = {"nodeid": nodeid, "keywords": dict.fromkeys(markers, 1), "when": when, "outcome": "passed"}
        budget.pytest_runtest_logreport(SimpleNamespace(**report, user_properties=found))


def test_the_table_names_files_and_families_and_adds_up():
    table = tomllib.loads(TABLE.read_text())
    families = {name.split(".")[2] for name in zoo.ZOO.values()}
    for row in table["files"]:
        file, _, family = row.partition("[")
        assert (ROOT / file).is_file(), row
        assert not family or family.removesuffix("]") in families, row
    assert sum(table["files"].values()) <= 1150, "the budgets of `make test`, together"


@pytest.mark.parametrize("enforced", [True, False])
def test_twice_a_budget_fails_the_run_where_it_is_enforced(enforced, tmp_path):
    table = tmp_path / "budgets.toml"
    table.write_text('default = 10\n[files]\n"tests/a.py" = 20\n')
    budget = Budget(table, enforced)
    spend(budget, "tests/a.py::test", 39)
    spend(budget, "tests/b.py::test", 11)
    spend(budget, "tests/b.py::slow", 500, "slow")
    session = SimpleNamespace(config=SimpleNamespace(), exitstatus=pytest.ExitCode.OK)
    budget.pytest_sessionfinish(session)
    assert budget.over() == [] and session.exitstatus == pytest.ExitCode.OK
    spend(budget, "tests/b.py::other", 10)
    budget.pytest_sessionfinish(session)
    assert budget.over() == ["tests/b.py"]
    assert session.exitstatus == (pytest.ExitCode.TESTS_FAILED if enforced else pytest.ExitCode.OK)


def test_a_slow_machine_is_allowed_its_time(tmp_path):
    table = tmp_path / "budgets.toml"
    table.write_text("default = 40\n[files]\n" + "".join(f'"tests/{i}.py" = 10\n' for i in range(20)))
    budget = Budget(table, True)
    for i in range(20):
        spend(budget, f"tests/{i}.py::test", 17 if i else 33)
    assert budget.slowness() == 1.7 and budget.over() == []
    spend(budget, "tests/0.py::other", 2)
    assert budget.over() == ["tests/0.py"]


def test_a_family_has_a_budget_of_its_own_in_the_zoo():
    assert group_of("tests/test_zoo.py::test_x[dcgan]") == "tests/test_zoo.py[gan]"
    assert group_of("tests/models/gan/test_dcgan.py::test_x[dcgan]") == "tests/models/gan/test_dcgan.py"
