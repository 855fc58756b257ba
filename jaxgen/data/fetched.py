"""Data in an object store that are read as files of this machine: copied into the cache, and again where they changed.

Folders and .zip archives of images are not: their images are read from the store, one by one (image_folders.py).
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from jaxgen.core import paths
from jaxgen.core.cache import cache_folder
from jaxgen.core.progress import progress
from jaxgen.core.whole_file import replacing


def here(place: Path) -> Path:
    """Return a file or folder as one of this machine: itself, or of one in a store its copy in the cache."""
    if not paths.remote(place) or not place.exists():
        return place
    root = cache_folder() / "stores" / hashlib.sha256(paths.absolute(place).encode()).hexdigest()[:24]
    notes, known = root / "fetched.json", {}
    with suppress(OSError, ValueError):
        known = json.loads(notes.read_text())
    target, there = root / place.name, paths.stamps(place)
    target.parent.mkdir(parents=True, exist_ok=True)
    missing = [name for name, stamp in there.items() if known.get(name) != list(stamp) or not (target / name).exists()]
    with progress(f"fetching {place}", sum(there[name][0] for name in missing), 2) as show:
        done = 0
        for name in missing:
            file = target / name if name else target
            file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(file) as part:
                paths.fetch(place / name if name else place, part)
            known[name], done = list(there[name]), done + there[name][0]
            show(done)
    for name in set(known) - set(there):
        (target / name).unlink(missing_ok=True)
    with replacing(notes) as part:
        part.write_text(json.dumps({name: known[name] for name in there}))
    return target
