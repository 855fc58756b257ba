"""An editable install and a wheel, each in an environment of its own, used from folders with misleading names."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.running import ROOT

pytestmark = pytest.mark.slow
pytest.importorskip("hatchling")
Run = Callable[..., str]


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A clone named jaxgen with a folder `runs` inside, as in a hosted notebook after `git clone` and a training."""
    folder = tmp_path_factory.mktemp("notebook") / "jaxgen"
    for name in ("jaxgen", "train"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "runs").mkdir()
    return folder


@pytest.fixture(scope="module", params=["editable", "wheel"])
def python(request, clone, environment, tmp_path_factory) -> Run:
    """Return (folder, *arguments) -> the output of Python, started in a folder where jaxgen is installed."""
    home = tmp_path_factory.mktemp(request.param)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / "venv"], check=True)
    [packages] = (home / "venv" / "lib").glob("python*/site-packages")
    # The libraries of this environment. Its own .pth files, and so its own jaxgen, are not read from there.
    others = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "libraries.pth").write_text("\n".join(others) + "\n")
    own = {name: value for name, value in environment.items() if name != "PYTHONPATH"}

    def run(folder: Path, *args: str) -> str:
        done = subprocess.run(
            [home / "venv" / "bin" / "python", *args], cwd=folder, env=own, text=True, capture_output=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    pip = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    own.pop("PYTHONWARNINGS")  # pip itself warns
    if request.param == "editable":
        run(home, *pip, "install", *offline, "--ignore-installed", "--editable", str(clone))
    else:
        run(home, *pip, "wheel", *offline, "--wheel-dir", str(home), str(clone))
        [wheel] = home.glob("*.whl")
        run(home, *pip, "install", *offline, "--ignore-installed", str(wheel))
        check_wheel(wheel)
    own["PYTHONWARNINGS"] = environment["PYTHONWARNINGS"]
    return run


def check_wheel(wheel: Path):
    """Assert that a wheel holds every file of the package, and nothing beside it."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = [path for name in ("jaxgen", "train") for path in (ROOT / name).rglob("*") if path.is_file()]
    assert held == {path.relative_to(ROOT).as_posix() for path in files if "__pycache__" not in path.parts}


@pytest.fixture
def misleading(tmp_path) -> Path:
    """A folder with a `train.py`, a package `train` and folders named as our packages are."""
    (tmp_path / "train.py").write_text("raise SystemExit('the train.py of the user')\n")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "__init__.py").write_text("raise SystemExit('the package train of the user')\n")
    for name in ("runs", "data", "core", "models"):
        (tmp_path / name).mkdir()
    return tmp_path


WHERE = (
    "import jaxgen, jaxgen.runs.load, jaxgen.pretrained.feature_extractors as f; f.LENET.stat(); print(jaxgen.__file__)"
)


def test_commands_start_beside_a_clone(python, clone):
    for folder in (clone.parent, clone):
        file = Path(python(folder, "-c", WHERE).strip())
        assert file.name == "__init__.py" and file.exists()
    assert "dcgan" in python(clone.parent, "-m", "train.gan", "--list")
    assert "dcgan" in python(clone.parent, "-m", "jaxgen", "train", "gan", "--list")
    assert "RUN" in python(clone.parent, "-m", "jaxgen", "generate", "--help")


def test_commands_start_beside_the_users_own_train(python, misleading):
    assert "dcgan" in python(misleading, "-m", "jaxgen", "train", "gan", "--list")
    trained = python(
        misleading, "-m", "jaxgen", "train", "gan", "--preset", "gan", "--tiny", "--steps", "1", "--log.samples", "0",
        "--out", os.fspath(misleading / "runs" / "one"),
    )  # fmt: skip
    assert "Finished 1 step" in trained and (misleading / "runs" / "one" / "config.json").exists()
