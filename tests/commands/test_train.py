"""Both names of the training command, and what they do before JAX is imported."""

import subprocess
import sys

from jaxgen import zoo
from tests.helpers.running import ROOT

SPY = """
import os, runpy, sys
os.execv = lambda path, argv: (print("restarted", *argv[1:], "jax" in sys.modules), os._exit(0))
os.environ.pop("GLIBC_TUNABLES", None)
from jaxgen.training import huge_pages
huge_pages.POLICY = huge_pages.Path({policy!r})
name, *rest = {argv!r}
sys.argv, sys.orig_argv = [name, *rest], ["python", "-m", name, *rest]
runpy.run_module(name, run_name="__main__", alter_sys=True)
"""


def python(environment, text: str) -> str:
    """Return the output of a short program."""
    done = subprocess.run([sys.executable, "-c", text], cwd=ROOT, env=environment, text=True, capture_output=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_importing_the_scripts_does_nothing(environment):
    text = "import os, sys; os.execv = None; sys.argv[0] = '-m'; import train, train.gan; print(*sys.modules)"
    loaded = python({**environment, "GLIBC_TUNABLES": ""}, text).split()
    assert "train.gan" in loaded and not {"jax", "tyro", "jaxgen.training.huge_pages"} & set(loaded)


def test_both_names_ask_for_huge_pages_before_jax_is_imported(environment, tmp_path):
    (tmp_path / "enabled").write_text("always [madvise] never\n")
    for argv in (["train.gan", "--list"], ["jaxgen", "train", "gan", "--list"]):
        said = python(environment, SPY.format(policy=str(tmp_path / "enabled"), argv=argv))
        assert said.split() == ["restarted", "-m", *argv, "False"]


def test_the_training_command(cli):
    assert "dcgan" in cli(0, "train", "gan", "--list")
    assert "usage: python -m jaxgen train vae --preset vae-conv" in cli(
        0, "train", "vae", "--preset=vae-conv", "--help"
    )
    families = ", ".join(zoo.families())
    for said in (cli(2, "train"), cli(2, "train", "--preset", "dcgan"), cli(0, "train", "--help")):
        assert f"Families: {families}" in said
    assert "did you mean 'gan'?" in cli(2, "train", "gann")
