"""Eight fake CPU devices, strict promotion of ranks, the compilation cache, and the real data."""

import gc
import importlib.metadata
import os
import sys
from pathlib import Path

# Most of the time goes to compiling, and half of that to LLVM's optimisations. Commands that the second tier starts
# keep them.
FLAGS = {"XLA_FLAGS": os.environ.get("XLA_FLAGS", "")}
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if importlib.metadata.version("jaxlib").startswith("0.10."):  # newer versions stop at this unknown flag
    QUICK += " --xla_cpu_use_fusion_emitters=false"  # they take as long again
os.environ["XLA_FLAGS"] = f"{FLAGS['XLA_FLAGS']} {QUICK}"

# Each worker has its own cores, so that threads of different workers do not wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    worker, workers = int(os.environ["PYTEST_XDIST_WORKER"][2:]), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[worker % len(cores) :: workers])

import jax  # noqa: E402
import pytest  # noqa: E402
from xdist.scheduler import LoadScopeScheduling  # noqa: E402

from jaxgen.core.cache import cache_folder, use_compilation_cache  # noqa: E402
from jaxgen.zoo import ZOO  # noqa: E402
from tests.helpers.budget import Budget  # noqa: E402
from tests.helpers.run_store import RunStore  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")

use_compilation_cache()

# Tracing makes millions of objects: the search for cycles among them, and JAX's callback each time, take a quarter of
# the time.
gc.freeze()
gc.set_threshold(100_000, 20, 20)


def pytest_configure(config):
    config.pluginmanager.register(Budget(), "budget")


class Together(LoadScopeScheduling):
    """Keep the tests of a file in one process, which share fixtures; in test_zoo.py those of a model\'s file.

    By the tests' names: pytest 9.2 no longer lets pytest-xdist write its groups into them.
    """

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        preset = test.partition("[")[2].removesuffix("]")
        return ZOO.get(preset, file) if file.endswith("test_zoo.py") else file


def pytest_collection_modifyitems(items):
    """Put the tests of a preset in test_zoo.py one after the other: they share its programs."""
    at = [i for i, item in enumerate(items) if item.path.name == "test_zoo.py"]
    order = {name: i for i, name in enumerate(ZOO)}
    by_preset = sorted((items[i] for i in at), key=lambda item: order.get(item.name.partition("[")[2][:-1], -1))
    for i, item in zip(at, by_preset, strict=True):
        items[i] = item


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    config.option.loadscopereorder = False  # files with few tests can be slow: they must not start last
    return Together(config, log)


@pytest.fixture(scope="module", autouse=True)
def forget():
    """Free a file's compiled programs at its end: thousands of them fill the process's memory map."""
    yield
    jax.clear_caches()


@pytest.fixture(scope="module")
def plain_convolutions():
    """Compile plain convolutions, in two thirds of the time; those for CPUs are equal (nn/test_conv.py)."""
    from jaxgen.nn import conv
    from tests.helpers.plain_conv import plain_conv, plain_input_grad, plain_kernel_grad

    forms = {
        conv.conv_p: (plain_conv, conv.cpu_conv),
        conv.input_grad_p: (plain_input_grad, conv.cpu_input_grad),
        conv.kernel_grad_p: (plain_kernel_grad, conv.cpu_kernel_grad),
    }
    for primitive, (plain, _) in forms.items():
        conv.lower_on_cpu(primitive, plain)
    yield
    for primitive, (_, for_cpus) in forms.items():
        conv.lower_on_cpu(primitive, for_cpus)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Return the folder of real images, or skip the test."""
    folder = os.environ.get("JAXGEN_TEST_DATA")
    if not folder:
        pytest.skip("JAXGEN_TEST_DATA does not name the folder of real data")
    return Path(folder).absolute()


@pytest.fixture(scope="session")
def environment(pytestconfig) -> dict[str, str]:
    """Return the environment of commands that tests start: one CPU device, the same compilation cache."""
    flags = {} if "not slow" in pytestconfig.option.markexpr else FLAGS
    return {**os.environ, **flags, "JAXGEN_CACHE": str(cache_folder()), "PYTHONWARNINGS": "error", "COLUMNS": "120"}


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory) -> RunStore:
    """Return (to, family, preset, *settings) -> `to`, a copy of a finished tiny run, trained once in a session."""
    folder = tmp_path_factory.getbasetemp()
    workers = "PYTEST_XDIST_WORKER" in os.environ  # each has a folder of its own in that of the session
    return RunStore((folder.parent if workers else folder) / "tiny-runs")


@pytest.fixture
def cli(monkeypatch, capsys):
    """Return (status, *args) -> what `python -m jaxgen *args` prints, done in this process on its eight devices.

    If the first argument is a script such as train.gan, it runs `python -m train.gan`.
    """
    from jaxgen.__main__ import main
    from jaxgen.commands import runner
    from jaxgen.commands.train import train_family

    def leave(code, words):
        print(words, file=sys.stderr)
        raise SystemExit(code)

    def unforeseen(error):
        raise error  # a test sees the exception itself

    monkeypatch.setattr(runner, "leave", leave)
    monkeypatch.setattr(runner, "unforeseen", unforeseen)
    for name in ("unraisablehook", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))

    def run(status: int, *args) -> str:
        verb, *rest = map(str, args)
        monkeypatch.setattr(sys, "argv", ["jaxgen", verb, *rest])
        try:
            if verb.startswith("train."):
                family = verb.removeprefix("train.")
                runner.run(lambda: train_family(family, rest, f"python -m {verb}{{preset}}"))
            else:
                runner.run(main)
            code = 0
        except SystemExit as end:
            code = end.code or 0
        out, err = capsys.readouterr()
        assert code == status, out + err
        return " ".join((out + err).replace("│", " ").split())

    return run
