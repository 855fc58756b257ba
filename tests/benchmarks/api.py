"""The page of the API: every public function and class of the rooms that a user calls, by their docstrings.

Read from the source, not imported. Commands have their own help, models their families' pages.
"""

import ast
from pathlib import Path

ROOMS = ("core", "nn", "diffusion", "losses", "metrics", "data", "runs", "media", "interop", "pretrained", "tasks")
ROOMS += ("inference", "evaluation", "training")
WIDTH = 100  # characters of a signature; a longer one is cut


def text(package: Path) -> str:
    """Return the page's sections as Markdown: rooms, their modules, and in these what is public and documented."""
    parts = [f"- `{signature(node)}`: {first(node)}" for node in public(package / "__init__.py")]
    sections = ["## jaxgen\n\n" + "\n".join(parts)] if parts else []
    for room in ROOMS:
        lines = [f"## {room}"]
        for path in sorted((package / room).rglob("*.py")):
            if found := public(path):
                name = ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
                lines.append(f"### {name}\n\n{summary(path)}\n")
                lines += [f"- `{signature(node)}`: {first(node)}" for node in found]
        sections.append("\n".join(lines).replace("\n###", "\n\n###"))
    return "\n\n".join(sections)


def public(path: Path) -> list[ast.FunctionDef | ast.ClassDef]:
    """Return a module's functions and classes without an underscore that have a docstring, in its order."""
    if path.name.startswith("_") and path.name != "__init__.py":
        return []
    nodes = [
        node for node in ast.parse(path.read_text("utf-8")).body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    return [node for node in nodes if not node.name.startswith("_") and ast.get_docstring(node)]


def signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    """Return how a function is called, without its types; for a class its name."""
    if isinstance(node, ast.ClassDef):
        return node.name
    arguments = node.args
    for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
        if one:
            one.annotation = None
    call = f"{node.name}({ast.unparse(arguments)})"
    return call if len(call) <= WIDTH else f"{node.name}(...)"


def first(node: ast.FunctionDef | ast.ClassDef) -> str:
    """Return the first paragraph of a docstring in one line."""
    return " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())


def summary(path: Path) -> str:
    """Return the first paragraph of a module's docstring in one line."""
    return " ".join((ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n\n")[0].split())
