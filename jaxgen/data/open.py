"""Opening of the random-access source that `data.source` names."""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.core import paths
from jaxgen.core.class_names import check_fit, class_numbers
from jaxgen.core.config import Data
from jaxgen.core.errors import InputError, choose
from jaxgen.core.spec import Example
from jaxgen.data import arrays, fetched
from jaxgen.data.sources import Source, Subset, labels_of, renumbering

VIDEOS = ("moving-digits", "moving-shapes", "bouncing-balls", "video")
KINDS = (
    "digits",
    "shapes",
    "scenes",
    "tfds",
    "folder",
    "idx",
    "npz",
    "paired",
    "unpaired",
    "emoji",
    *VIDEOS,
    "mocap",
    "actor",
    "audio",
    "nerf",
)
ARGUMENTS = {
    "tfds": "NAME",
    "folder": "PATH",
    "idx": "PATH",
    "npz": "PATH",
    "paired": "PATH",
    "unpaired": "PATH_A,PATH_B",
    "emoji": "FOLDER",
    "video": "PATH",
    "mocap": "PATH",
    "actor": "PATH",
    "audio": "PATH",
    "nerf": "PATH",
}
OPTIONAL = ("moving-digits",)  # may have an argument
LABELLED = ("idx", "npz")  # their labels may be in a second file: PATH,PATH_OF_LABELS
IMAGE_FOLDERS = ("folder", "paired")
EMOJI = "emoji:"
PART = re.compile(r"([^\[\]]+)\[(\d*):(\d*)\]")  # of a split, by the numbers of its examples
OWN_PARTS = ("tfds", "paired", "unpaired")  # TFDS cuts splits itself; pairs and two domains are used whole


def _open_part(data: Data, example: Example | tuple[int, ...] | None) -> Source:
    """Return a source, or the part of one that `data.split` and `data.only` name."""
    part = PART.fullmatch(data.split) if data.source.partition(":")[0] not in OWN_PARTS else None
    source = _open_whole(dataclasses.replace(data, split=part[1]) if part else data, example)
    if part:
        numbers = range(len(source))[slice(*(int(x) if x else None for x in part.groups()[1:]))]
        if not numbers:
            raise InputError(f"The split {data.split!r} holds nothing: {part[1]} has {len(source):,} examples.")
        source = Subset(source, np.asarray(numbers))
    if data.classes and source.classes not in ((), data.classes):
        check_fit(source.classes, data.classes, data.source)
        source = _part(source, np.arange(len(source)), data.classes)
    if data.only is None:
        return source
    if not source.classes:
        raise InputError(f"The data has no labels: data.only={data.only} selects nothing.")
    kept = np.flatnonzero(np.isin(labels_of(source), class_numbers(data.only, source.classes, "data.only")))
    if not len(kept):
        raise InputError(f"The split {data.split!r} of {data.source} has no example of data.only={data.only}.")
    return _part(source, kept, source.classes)


def open_source(data: Data, example: Example | tuple[int, ...] | None = None) -> Source:
    """Return the source named by `data.source`, for examples of the given specs.

    example: the specs of the arrays of an example, or the shape (h, w, c) of its image. `shapes` draws images of this
    size. If an example has no image, its arrays are read from a .npz by name. A source of videos gives each array of
    kind video its frames: the first of a clip to the first array, and so on; a source of motions does so with poses.
    Where a source has captions, and no array of its own by that name, an array of kind tokens are theirs.

    Classes are numbered alike in all splits, and as in `data.classes` where a run has saved their names; captions have
    the tokens of `data.vocabulary`, or of one made of this source. With `data.only` it is the subset with these
    classes, which keep their numbers. A split may be a part of one, such as test[:1000]. Raises InputError for an
    unknown source or split, for data that is missing, empty, damaged or unreadable, and for unknown classes.
    """
    source = _open_part(data, example)
    specs: Mapping[str, Any] = example if isinstance(example, Mapping) else {}
    texts = [(name, spec) for name, spec in specs.items() if spec.kind == "tokens" and "image" in specs]
    if not texts or texts[0][0] in source[0]:
        return source
    from jaxgen.data.captions import captioned

    ((name, spec),) = texts
    return captioned(source, data.vocabulary, name, spec.shape[0], spec.count)


def with_classes(data: Data, source: Source, example: Example) -> Data:
    """Return the settings to save with a run: its vocabulary, and its classes' names if it depends on their numbers."""
    depends = "label" in example or data.only is not None
    data = dataclasses.replace(data, vocabulary=tuple(getattr(source, "vocabulary", ())))
    return dataclasses.replace(data, classes=source.classes) if depends and source.classes else data


def _part(source: Source, kept: np.ndarray, classes: tuple[str, ...]) -> Source:
    """Return the examples `kept` of a source, numbered by the names `classes`; those in memory remain arrays."""
    if isinstance(source, arrays.Arrays) and source.labels is not None:
        labels = renumbering(source.classes, classes)[source.labels[kept]]
        whole = len(kept) == len(source)
        return arrays.Arrays(source.images if whole else source.images[kept], labels, classes)
    return Subset(source, kept, classes)


def _open_whole(data: Data, example: Example | tuple[int, ...] | None) -> Source:
    specs: Any = example if isinstance(example, Mapping) else {}
    image: Any = next((x.shape for x in specs.values() if x.kind == "image"), None) if specs else example
    kind, colon, rest = data.source.partition(":")
    choose(kind, KINDS, "data source")
    if kind in ARGUMENTS and not rest:
        raise InputError(
            f"The data source {data.source!r} lacks its {ARGUMENTS[kind]}: write {kind}:{ARGUMENTS[kind]}."
        )
    if kind not in (*ARGUMENTS, *OPTIONAL) and colon:
        raise InputError(f"The data source {data.source!r} takes no name or path: write {kind}.")
    if kind in VIDEOS:
        return _videos(data, kind, rest, specs)
    if kind == "digits":
        return arrays.digits(data.split)
    if kind == "shapes":
        from jaxgen.data import shapes

        return shapes.Shapes(data.split, image)
    if kind == "scenes":
        from jaxgen.data import scenes

        return scenes.Scenes(data.split, image)
    if kind == "tfds":
        from jaxgen.data import tfds

        return tfds.Tfds(rest, data.dir, data.split)
    if kind == "unpaired":
        return _unpaired(data, rest, image)
    if kind == "emoji" or (kind == "paired" and rest.startswith(EMOJI)):
        from jaxgen.data import emoji

        if kind == "paired":
            return emoji.emoji_pairs(_folder_of(rest), data, image)
        return emoji.emoji(_folder_of(data.source), data, image, "label" in specs)
    path, *labels = paths_of(rest) if kind in LABELLED else [paths.path(rest)]
    for file in (path, *labels):
        if not file.exists():
            raise InputError(f"There is no file or folder {file} for the data source {data.source!r}.")
    if kind not in IMAGE_FOLDERS:
        path, *labels = map(fetched.here, (path, *labels))
    if len(labels) > 1:
        raise InputError(f"The data source {data.source!r} names too many files: write {kind}:IMAGES,LABELS.")
    if kind == "mocap":
        from jaxgen.data import mocap

        return mocap.Mocap(path, data, specs)
    if kind == "audio":
        from jaxgen.data import sounds

        return sounds.Sounds(path, data, specs)
    if kind == "actor":
        from jaxgen.data import actor_clips

        return actor_clips.ActorClips(path, data, specs)
    if kind == "nerf":
        from jaxgen.data import posed_images

        return posed_images.PosedImages(path, data.split, image, data.crop)
    if kind == "npz":
        if specs and image is None:
            return arrays.named(path, data.split, specs)
        return arrays.npz(path, data.split, *labels)
    if kind == "idx":
        from jaxgen.data import idx

        return idx.idx(path, data.split, *labels)
    if kind == "paired":
        from jaxgen.data import domains

        return domains.PairedImages(path, data.split, data.skip_bad)
    from jaxgen.data import folder

    mixed = bool(specs) and "label" not in specs and data.only is None  # no class is missed
    found = folder.Folder(path, data.split, data.skip_bad, mixed)
    if not any(spec.kind == "tokens" for spec in specs.values()):
        return found
    from jaxgen.data.captions import with_captions

    return with_captions(found, data.captions, data.skip_bad)


def _videos(data: Data, kind: str, rest: str, specs: Example) -> Source:
    """Return the source of clips whose frames are divided among the model's videos."""
    from jaxgen.data import bouncing_balls, moving_digits, moving_shapes
    from jaxgen.data.clips import clip_shape

    if kind == "moving-shapes":
        return moving_shapes.MovingShapes(data.split, clip_shape(specs, moving_shapes.DEFAULT))
    if kind == "bouncing-balls":
        return bouncing_balls.BouncingBalls(data.split, clip_shape(specs, bouncing_balls.DEFAULT))
    if kind == "moving-digits":
        alone = rest.partition(":")[0] in KINDS and not paths.path(rest).exists()
        named = rest if alone else f"idx:{rest}" if rest else "digits"
        digits = _open_whole(dataclasses.replace(data, source=named, split="train"), None)
        return moving_digits.MovingDigits(digits, data.split, clip_shape(specs, moving_digits.DEFAULT))
    from jaxgen.data import video_folder

    path = paths.path(rest)
    if not path.exists():
        raise InputError(f"There is no file or folder {path} for the data source {data.source!r}.")
    return video_folder.VideoFolder(fetched.here(path), data, clip_shape(specs, video_folder.DEFAULT), "label" in specs)


def paths_of(text: str) -> list[Path]:
    """Return the path "A", or the paths "A,B" of a file of images and one of labels; either can hold commas."""
    parts = text.split(",")
    ways = [[text], *([",".join(parts[:i]), ",".join(parts[i:])] for i in range(1, len(parts))), parts]
    found = [[paths.path(part.strip()) for part in way] for way in ways]
    return next((paths for paths in found if all(path.exists() for path in paths)), found[-1])


def _folder_of(emoji: str) -> Path:
    return fetched.here(paths.path(emoji.removeprefix(EMOJI)))


def _unpaired(data: Data, paths: str, image: tuple[int, int, int] | None) -> Source:
    """Return the source of "A,B"; each is the path of a folder or .zip, or a data source such as idx:PATH.

    "emoji:FOLDER" alone are two of its styles.
    """
    from jaxgen.data import domains

    if paths.startswith(EMOJI) and f",{EMOJI}" not in paths:
        from jaxgen.data import emoji

        return domains.UnpairedImages(*emoji.emoji_domains(_folder_of(paths), data, image))
    parts = [part.strip() for part in paths.split(",")]
    if len(parts) != 2 or not all(parts):
        raise InputError(f"The data source {data.source!r} must name two sets: write unpaired:PATH_A,PATH_B.")
    alone = [kind for kind in KINDS if kind not in ("paired", "unpaired", "mocap", "actor", "audio", *VIDEOS)]
    named = [part if part.partition(":")[0] in alone else f"folder:{part}" for part in parts]
    source, made = (_open_whole(dataclasses.replace(data, source=name), image) for name in named)
    return domains.UnpairedImages(source, made)
