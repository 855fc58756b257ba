"""The order of the rooms in the import statements: no file imports upwards, and there is no circle."""

import ast
from pathlib import Path

import jaxgen

ROOT = Path(jaxgen.__file__).parent
# Bottom to top, as in DESIGN. Rooms of one level do not import each other.
LEVELS = (
    ("core",),
    ("nn", "diffusion", "rendering", "zoo"),
    ("losses", "metrics", "data", "runs"),
    ("media",),
    ("interop",),
    ("pretrained",),
    ("tasks",),
    ("models",),
    ("inference",),
    ("evaluation",),
    ("training",),
    ("commands",),
    ("__main__", "train"),
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
FILES = sorted(ROOT.rglob("*.py"))


def module(path: Path) -> str:
    """Return the dotted name of a file of the package: jaxgen.core.task."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module(path): path for path in FILES}


def room(name: str) -> str:
    """Return the room of a module: core of jaxgen.core.task."""
    return name.split(".")[1] if "." in name else "__init__"


def imports(name: str, text: str) -> list[tuple[str, int]]:
    """Return the imported modules of jaxgen and train, with lines; also in functions and under TYPE_CHECKING."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # from . import x: the package itself, or one above it
                parts = name.split(".")
                up = node.level - (MODULES[name].name == "__init__.py")
                base = ".".join([*parts[: len(parts) - up], *filter(None, [base])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.append((full if full in MODULES else base, node.lineno))
    return [(target, line) for target, line in found if target.split(".")[0] in ("jaxgen", "train")]


IMPORTS = {name: imports(name, path.read_text()) for name, path in MODULES.items()}


def upward(name: str, target: str) -> bool:
    """Return whether an import breaks the order: it points upwards, or sideways into another room."""
    if target.split(".")[0] == "train":
        return True
    here, there = room(name), room(target)
    if there == "__init__" or here == there:
        return False
    return here == "__init__" or LEVEL[there] >= LEVEL[here]


def circles(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the circles of a graph: without nodes that no other node points at, or that point at no other."""
    while True:
        used = set().union(*graph.values())
        left = {name: targets & graph.keys() for name, targets in graph.items() if name in used}
        left = {name: targets for name, targets in left.items() if targets}
        if left == graph:
            return graph
        graph = left


def test_no_file_imports_upwards():
    wrong = [
        f"{MODULES[name]}:{line}: {target}"
        for name in MODULES
        for target, line in IMPORTS[name]
        if upward(name, target)
    ]
    assert not wrong, "imports that run upwards:\n" + "\n".join(wrong)


def test_no_files_import_each_other_in_a_circle():
    found = circles({name: {target for target, _ in found if target in MODULES} for name, found in IMPORTS.items()})
    assert not found, f"these files import each other: {found}"
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == {"b": {"c"}, "c": {"b"}}


def test_the_package_holds_only_rooms_and_the_zoo():
    files = {path.name for path in ROOT.iterdir() if path.is_file()}
    assert files == {"__init__.py", "__main__.py", "zoo.py"}
    rooms = {path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == LEVEL.keys() - {"zoo", "__main__", "train"}
    assert all((ROOT / name / "__init__.py").exists() for name in rooms)


def test_the_reader_sees_imports_in_functions_and_for_types_only():
    text = (
        "import jaxgen.core.step\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from jaxgen.runs import load\n"
        "def f():\n    from jaxgen.commands.runner import run\n    from .. import zoo\n"
    )
    found = {target for target, _ in imports("jaxgen.core.task", text)}
    assert found == {"jaxgen.core.step", "jaxgen.runs.load", "jaxgen.commands.runner", "jaxgen.zoo"}
    assert upward("jaxgen.core.task", "jaxgen.runs.load") and not upward("jaxgen.runs.load", "jaxgen.core.task")
    assert upward("jaxgen.data.blur", "jaxgen.losses.gan") and upward("jaxgen.core.task", "train.gan")
