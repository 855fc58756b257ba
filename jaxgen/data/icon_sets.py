"""Sets of icons in the iconify JSON format, as the npm packages @iconify-json/* have them: one set is one style."""

import hashlib
import json
import lzma
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxgen.core.errors import InputError, choose
from jaxgen.data.arrays import first_line
from jaxgen.data.image_files import regular

LIMIT = 2**27  # bytes of a set, unpacked: noto has 25 MB, the largest sets of emoji some 60 MB
PACKAGE = ("icons.json", "icons.json.xz")  # a set in the folder of its npm package
SUFFIXES = (".json", ".json.xz")
NAME = re.compile(r"\w[\w.+-]*")  # a name becomes the name of a file, and a class
BOX = {"left": 0, "top": 0, "width": 16, "height": 16}  # and iconify's defaults
FAR = 1e6  # in units of an icon's box
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


@dataclass(frozen=True)
class IconSet:
    """The visible icons of a set, no two of which are equal.

    icons:       by name, what iconify keeps of each: body, left, top, width, height, hFlip, vFlip, rotate
    other_names: aliases, and names of equal icons, with the name in `icons`
    categories:  of names, in lower case and with hyphens; {} if the set has none
    digest:      SHA-256 of the file
    """

    style: str
    path: Path
    digest: str
    icons: dict[str, dict]
    other_names: dict[str, str]
    categories: dict[str, str]


def style_files(path: Path) -> dict[str, Path]:
    """Return the files of the sets in a folder by style: NAME.json, NAME.json.xz, and folders of npm packages.

    `path` can also be one such file or package. Raises InputError if there is none, or two of one style.
    """
    if not path.exists():
        raise InputError(f"There is no file or folder {path} for emoji.")
    if path.is_dir() and not (package := _package(path)):
        entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
        files = [entry if entry.name.endswith(SUFFIXES) else _package(entry) for entry in entries]
    else:
        files = [package if path.is_dir() else path]
    found: dict[str, Path] = {}
    for file in filter(None, files):
        style = _style(file)
        if style in found:
            raise InputError(f"{found[style]} and {file} are both the style {style!r}: remove one.")
        found[style] = file
    if not found:
        raise InputError(f"{path} holds no icon sets: they are NAME.json, NAME.json.xz, or folders with an icons.json.")
    return found


def _package(folder: Path) -> Path | None:
    return next((folder / name for name in PACKAGE if (folder / name).is_file()), None)


def _style(file: Path) -> str:
    """Return the name of a set: of its file, or of its package."""
    if file.name not in PACKAGE:
        return file.name.removesuffix(".xz").removesuffix(".json")
    info = file.with_name("info.json")
    prefix = _document(info)[0].get("prefix") if info.is_file() else None
    return prefix if isinstance(prefix, str) and NAME.fullmatch(prefix) else file.absolute().parent.name


def read_sets(path: Path, styles: str) -> list[IconSet]:
    """Return the sets of the styles "a,b", in this order, or of all styles. Raises InputError."""
    files = style_files(path)
    wanted = [choose(name.strip(), files, f"style of {path}") for name in styles.split(",")] if styles else files
    return [read_set(files[style], style) for style in dict.fromkeys(wanted)]


def read_set(path: Path, style: str) -> IconSet:
    """Return the set in a file. Raises InputError for a file that is damaged, too large or no set."""
    document, digest = _document(path)
    parts = {name: document.get(name, {}) for name in ("icons", "aliases", "categories")}
    if not parts["icons"] or not all(isinstance(part, dict) for part in parts.values()):
        raise InputError(f"{path} is no icon set in the iconify format: it must have 'icons' by name.")
    metadata = path.with_name("metadata.json")
    if path.name in PACKAGE and not parts["categories"] and metadata.is_file():
        parts["categories"] = _document(metadata)[0].get("categories", {})
    defaults = {name: document.get(name, value) for name, value in BOX.items()}
    categories = _categories(parts["categories"])
    icons: dict[str, dict] = {}
    other_names: dict[str, str] = {}
    known: dict[str, str] = {}  # what an icon shows: its name
    for name in [*sorted(parts["icons"]), *sorted(parts["aliases"].keys() - parts["icons"].keys())]:
        if not NAME.fullmatch(name):
            raise InputError(f"{path} has an icon named {name!r}: names are letters, digits and hyphens.")
        if not (chain := _chain(name, parts["icons"], parts["aliases"])):
            continue
        icon = _resolved(chain, parts["icons"], parts["aliases"])
        if icon.get("hidden"):
            continue
        shown = {**defaults, **icon}
        first = known.setdefault(repr(sorted(shown.items())), name)
        if first == name:
            icons[name] = shown
            if chain[-1] in categories:
                categories.setdefault(name, categories[chain[-1]])
        else:
            other_names[name] = first
    if not icons:
        raise InputError(f"{path} has no visible icon.")
    return IconSet(style, path, digest, icons, other_names, categories)


def _chain(name: str, icons: dict, aliases: dict) -> list[str]:
    """Return the names from an alias to its icon; [] if it leads to none."""
    chain = [name]
    while chain[-1] not in icons:
        entry = aliases[chain[-1]]
        parent = entry.get("parent") if isinstance(entry, dict) else None
        if not isinstance(parent, str) or parent in chain or (parent not in icons and parent not in aliases):
            return []
        chain.append(parent)
    return chain


def _resolved(chain: list[str], icons: dict, aliases: dict) -> dict:
    """Return what an icon or an alias shows."""
    *above, last = chain
    icon = icons[last] if isinstance(icons[last], dict) else {}  # reported when it is drawn
    found = {key: icon[key] for key in ("body", "hidden", "hFlip", "vFlip", "rotate", *BOX) if key in icon}
    for entry in (aliases[alias] for alias in reversed(above)):
        found |= {key: entry[key] for key in ("hidden", *BOX) if key in entry}
        for flip in ("hFlip", "vFlip"):
            if entry.get(flip):
                found[flip] = not found.get(flip, False)
        if entry.get("rotate"):
            found["rotate"] = _turns(entry) + _turns(found)
    return found


def _turns(icon: dict) -> int:
    """Return the quarter turns of an icon, clockwise."""
    turns = icon.get("rotate", 0)
    return turns if isinstance(turns, int) else 0


def _categories(found: Any) -> dict[str, str]:
    """Return {name: category} of {category: [names]}, as iconify has it, or of {name: category}."""
    pairs: list[tuple[Any, Any]] = []
    for key, value in found.items() if isinstance(found, dict) else ():
        pairs += [(name, key) for name in value] if isinstance(value, list) else [(key, value)]
    # One category has several spellings: "People & Body", "People Body".
    word = lambda text: "-".join(re.findall(r"\w+", text.lower()))  # noqa: E731
    return {name: word(category) for name, category in pairs if isinstance(name, str) and isinstance(category, str)}


def svg_of(icon: dict, height: int, width: int) -> str:
    """Return an icon as an SVG of a size: its aspect ratio is kept, and it is centred. Raises ValueError."""
    body, box = icon.get("body"), [icon[name] for name in BOX]
    if not isinstance(body, str) or not body.strip():
        raise ValueError("it has no body")
    if not all(isinstance(x, int | float) and abs(x) < FAR for x in box) or min(box[2:]) <= 0:
        raise ValueError(f"its box (left, top, width, height) is {first_line(ValueError(box))[:80]}")
    x, y, w, h = box
    turns = _turns(icon) % 4
    # Each turn moves the box back to its corner x, y.
    turned = (
        "",
        f"translate({x + y + h} {y - x}) rotate(90) ",
        f"translate({2 * x + w} {2 * y + h}) rotate(180) ",
        f"translate({x - y} {x + y + w}) rotate(-90) ",
    )[turns]
    flipped = f"translate({2 * x + w} 0) scale(-1 1) " if icon.get("hFlip") else ""
    flipped += f"translate(0 {2 * y + h}) scale(1 -1) " if icon.get("vFlip") else ""
    if move := turned + flipped:  # the last is done first
        body = f'<g transform="{move}">{body}</g>'
    w, h = (h, w) if turns % 2 else (w, h)
    frame = f'width="{width}" height="{height}" viewBox="{x} {y} {w} {h}"'
    return f"<svg {NAMESPACES} {frame}>{body}</svg>"


def _document(path: Path) -> tuple[dict, str]:
    """Return the object in a JSON file, which may be packed by xz, and the file's SHA-256. Raises InputError."""
    too_large = f"it is larger than {LIMIT // 2**20} MB"
    try:
        with regular(path) as file:
            data = file.read(LIMIT + 1)
        digest = hashlib.sha256(data).hexdigest()
        if path.suffix == ".xz" and len(data) <= LIMIT:
            reader = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=LIMIT)
            data = reader.decompress(data, LIMIT + 1)
            if not reader.eof and len(data) <= LIMIT:
                raise ValueError("it ends too early")
        if len(data) > LIMIT:
            raise ValueError(f"{too_large}{' unpacked' * (path.suffix == '.xz')}")
        found = json.loads(data)
    except json.JSONDecodeError as error:
        raise InputError(f"{path} cannot be read: it is not JSON ({first_line(error)}).") from error
    except RecursionError as error:
        raise InputError(f"{path} cannot be read: its values lie too deep inside each other.") from error
    except (OSError, ValueError, lzma.LZMAError) as error:
        raise InputError(f"{path} cannot be read: {first_line(error)}.") from error
    if not isinstance(found, dict):
        raise InputError(f"{path} is no icon set in the iconify format: it must have 'icons' by name.")
    return found, digest
