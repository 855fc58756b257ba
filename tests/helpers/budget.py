"""A pytest plugin: CPU seconds of every test file beside its budget, and a summary of what a run covered."""

import os
import resource
import time
import tomllib
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median

import pytest

from jaxgen.zoo import ZOO

TABLE = Path(__file__).parents[1] / "budgets.toml"
TIERS = {"slow": "make test-slow", "parity": "make parity"}  # markers of tests that `make test` leaves out
LEAST = 5.0  # s. Smaller budgets would be broken by noise
MANY = 20  # files that show how fast a machine is


def cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def group_of(nodeid: str) -> str:
    """Return the row of the table that a test belongs to: its file; in test_zoo.py its preset's family."""
    file, _, test = nodeid.partition("::")
    preset = test.partition("[")[2].removesuffix("]")
    of_zoo = file.endswith("test_zoo.py") and preset in ZOO
    return f"{file}[{ZOO[preset].split('.')[2]}]" if of_zoo else file


def tier_of(names) -> str:
    """Return the tier that a test with these markers runs in: "test", "slow" or "parity"."""
    return next((tier for tier in ("parity", "slow") if tier in names), "test")


class Budget:
    """Measures each test where it runs; adds the seconds up and prints them where the results are collected.

    A worker of pytest-xdist sends its seconds in the report of each test's teardown, and its counts of deselected
    tests at its end. The CPU seconds of the whole run include starting, imports and collecting.
    """

    def __init__(self, table: Path = TABLE, enforced: bool = bool(os.environ.get("CI"))):
        content = tomllib.loads(table.read_text())
        self.default, self.budgets, self.enforced = content["default"], content["files"], enforced
        self.last = cpu_seconds()
        self.spent: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))  # tier -> group -> s
        self.counts: dict[str, Counter] = defaultdict(Counter)  # tier -> outcome -> tests
        self.presets: set[str] = set()
        self.other: Counter = Counter()  # tier -> deselected tests

    def budget(self, group: str) -> float:
        """Return the CPU seconds that a file, or a family in test_zoo.py, may take in `make test`."""
        return self.budgets.get(group, self.default)

    def slowness(self) -> float:
        """Return how much longer than the budgets this machine takes: the median over files, if many ran; at least 1.

        Machines of one kind differ by a factor of nearly 2, and so does one machine from day to day.
        """
        ratios = [
            self.spent["test"][group] / budget for group, budget in self.budgets.items() if group in self.spent["test"]
        ]
        return max(1.0, median(ratios)) if len(ratios) >= MANY else 1.0

    def over(self) -> list[str]:
        """Return the groups that took more than twice their budget, on a machine of the usual speed."""
        most = 2 * self.slowness()
        return [g for g, s in self.spent["test"].items() if s > most * max(self.budget(g), LEAST)]

    def pytest_deselected(self, items):
        self.other.update(tier_of(item.keywords) for item in items)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self):
        self.last = cpu_seconds()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        if report.when == "teardown":
            now = cpu_seconds()
            report.user_properties.append(("cpu_seconds", now - self.last))
            self.last = now
        return report

    def pytest_runtest_logreport(self, report):
        tier, group = tier_of(report.keywords), group_of(report.nodeid)
        if report.when == "call" or report.outcome != "passed":
            self.counts[tier][report.outcome] += 1
        if report.when == "teardown":
            self.spent[tier][group] += dict(report.user_properties).get("cpu_seconds", 0.0)
        preset = report.nodeid.partition("[")[2].removesuffix("]")
        if preset in ZOO and "test_zoo.py" in report.nodeid:
            self.presets.add(preset)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session):
        output = getattr(session.config, "workeroutput", None)
        if output is not None:
            output["deselected"] = dict(self.other)
        elif self.enforced and self.over() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node):
        output = getattr(node, "workeroutput", {})
        self.other = Counter(output.get("deselected", {})) or self.other  # every worker collects all tests

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter):
        write = terminalreporter.write_line
        for tier, spent in self.spent.items():
            terminalreporter.section(f"CPU seconds of each file ({tier}){' of its budget' if tier == 'test' else ''}")
            for group, seconds in sorted(spent.items(), key=lambda x: -x[1]):
                write(f"{seconds:8.1f}{f' of {self.budget(group):3g}' if tier == 'test' else ''}  {group}")
            write(f"{sum(spent.values()):8.1f}  all files of {tier}")
        write(f"{cpu_seconds():8.1f}  the whole run, with imports and collecting")
        terminalreporter.section("covered")
        for tier, counts in self.counts.items():
            files = {group.partition("[")[0] for group in self.spent[tier]}
            outcomes = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
            write(f"{tier}: {sum(counts.values())} tests in {len(files)} files ({outcomes}).")
        if self.presets:
            families = sorted({ZOO[preset].split(".")[2] for preset in self.presets})
            write(f"Presets: {len(self.presets)} of {len(ZOO)}, of {len(families)} families: {', '.join(families)}.")
        for tier, command in TIERS.items():
            if self.other[tier]:
                write(f"Not run here: {self.other[tier]} tests marked {tier} (`{command}`).")
        slow = self.slowness()
        if slow > 1:
            write(f"This machine takes {slow:.2f} times the budgets (median of the files).")
        for group in self.over():
            took, budget = self.spent["test"][group], self.budget(group)
            write(f"OVER BUDGET: {group} took {took:.0f} CPU s, twice its {budget * slow:.3g}.")
