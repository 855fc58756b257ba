"""A command applied to images, and to each image of folders."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jaxgen.core import paths
from jaxgen.core.errors import Incomplete, InputError
from jaxgen.core.memory import check_fits
from jaxgen.media import frames, output_files
from jaxgen.media.animation import ENCODINGS, check_animation
from jaxgen.media.photo import WRITTEN, find, size_of
from jaxgen.media.video_frames import is_video

BYTES = 2**30  # per GiB


def numbered(target: Path, answers: int) -> list[Path]:
    """Return the paths of several answers: `target`, then the same name with -2, -3, ... appended."""
    check_fits(1_000 * answers, f"--answers {answers}")  # of each the path alone
    return [target, *(target.with_name(f"{target.stem}-{i}{target.suffix}") for i in range(2, answers + 1))]


def check_memory_limit(memory: float):
    """Raise InputError if --memory is not above 0 GiB."""
    if not memory > 0:
        raise InputError(f"--memory must be above 0 GiB, not {memory:g}.")


def check_memory(file: Path, size: tuple[int, int], needed: float, memory: float, advice: str = ""):
    """Raise InputError if an image of a size (h, w) needs more bytes than --memory's GiB."""
    if (needed := needed / BYTES) > memory:
        advice = advice and f" {advice}."
        raise InputError(
            f"{file} is {size[0]}x{size[1]}: it needs {needed:.3g} GiB, more than --memory {memory:g}.{advice}"
        )


def check_image(file: Path, each: float, memory: float, advice: str = ""):
    """Raise InputError if an image takes more than --memory's GiB at `each` bytes per pixel; its header is read."""
    if (size := size_of(file)) is not None:  # `read` reports the reason
        check_memory(file, size[:2], each * size[0] * size[1], memory, advice)


@dataclass
class ImageJob:
    """The input and output files of a command that turns images into images, and the loop over them.

    paths:     images, videos, and folders of images
    out:       the output file for one image, otherwise the output folder; None: beside each path, with `-<done>`
               appended
    done:      "restored", "enlarged-x4", ...: used in file names, and up to the hyphen in messages
    outputs:   target -> all files that are written for one image
    overwrite: replace existing files; otherwise an existing file is kept, and is an error if there is only one image
    inputs:    other input files of the command, which must not be replaced
    clips:     suffixes that the command writes of clips, beside those of animations; (): it takes no videos
    Raises InputError if a file can't be written, before any model is opened.
    """

    paths: Sequence[Path]
    out: Path | None
    done: str
    outputs: Callable[[Path], list[Path]]
    overwrite: bool
    inputs: list[Path] = field(default_factory=list)
    clips: Sequence[str] = ()

    def __post_init__(self):
        if not self.paths:
            raise InputError("Name an image, or a folder of images.")
        self.roots: dict[Path, Path] = {}  # of each image, the path of the command that names it first
        for path in self.paths:
            for file in find(path):
                self.roots.setdefault(file, path)
        self.files = list(self.roots)
        # The name of an image in its folder: of a/b/c.png in the folder a it is b/c.png.
        self.names = {
            file: file.relative_to(self.roots[file]) if self.roots[file].is_dir() else Path(file.name)
            for file in self.files
        }
        # Of a still image "", otherwise the suffix of its output.
        suffix = lambda file: ".mp4" if self.clips and is_video(file) else frames.suffix_of(file)  # noqa: E731
        self.animated = {file: suffix(file) for file in self.files}
        self.single = len(self.paths) == 1 and not self.paths[0].is_dir()
        self.targets = distinct([self._target(file) for file in self.files], self.files, self.outputs)
        images = {file.resolve() for file in self.files}
        for path in itertools.chain.from_iterable(map(self.outputs, self.targets)):
            if path.resolve() in images:
                raise InputError(f"{path} would be replaced by its own output: name another path with --out.")
        checked = zip(self.files, self.targets, strict=True) if self.single or (self.overwrite and self.inputs) else []
        for file, target in checked:
            moving = tuple(dict.fromkeys((*frames.SUFFIXES.values(), *self.clips)))
            if is_video(file) and self.clips:
                moving = tuple(self.clips)
                if target.suffix.lower() in ENCODINGS:
                    check_animation(target, 25)
            endings = moving if self.animated[file] else WRITTEN
            for path in self.outputs(target):
                output_files.check(path, endings, self.overwrite, given=self.inputs)
        for folder in {path.parent: path for path in self.targets}.values():
            output_files.check_place(folder)

    def _target(self, file: Path) -> Path:
        root, suffix = self.roots[file], self.animated[file] or ".png"
        name = self.names[file].with_suffix(suffix)
        beside = root.with_name(f"{root.resolve().name if root.is_dir() else root.stem}-{self.done}")
        if self.single:
            return self.out or beside.with_name(f"{beside.name}{suffix}")
        folder = self.out or (beside if root.is_dir() else None)
        if folder is None:
            return beside.with_name(f"{beside.name}{suffix}")
        if paths.exists(folder) and folder.is_file():
            raise InputError(f"{folder} is a file: for several images name a folder with --out.")
        # Of several folders each has a folder of its own in --out.
        return folder / (root.resolve().name if self.out and root.is_dir() and len(self.paths) > 1 else "") / name

    def run(self, process: Callable[[Path, Path], object], finish: Callable[[], Iterable[str]] = tuple):
        """Call process(file, target) for each image without existing outputs, then finish(), then print a summary.

        finish: returns sentences about what else failed
        For a single image InputError is raised at once. For several the errors are collected, and Incomplete is raised
        at the end.
        """
        kept, bad = [], []
        for file, target in zip(self.files, self.targets, strict=True):
            try:
                there = [path for path in self.outputs(target) if paths.exists(path)]
                if there and not self.single and not self.overwrite:
                    kept.append(there[0])
                    continue
                process(file, target)
            except InputError as error:
                if self.single:
                    raise
                bad.append(str(error))
        problems = [f"{len(bad)} of {len(self.files)} could not be {self.done.partition('-')[0]}:", *bad] if bad else []
        problems += finish()
        if kept:
            print(f"{len(kept)} existed already and were kept (--overwrite replaces them). The first: {kept[0]}.")
        if problems:
            raise Incomplete("\n".join(problems))


def distinct(
    targets: Sequence[Path], files: Sequence[Path], outputs: Callable[[Path], list[Path]] = lambda target: [target]
) -> list[Path]:
    """Return the targets of files, renamed where two would write the same path: a-bmp.png and a-tiff.png for a.png.

    outputs: target -> all files that are written for it
    """
    written = lambda target: {str(path).casefold() for path in outputs(target)}  # noqa: E731
    owners = Counter(itertools.chain.from_iterable(map(written, targets)))
    clashes = [any(owners[path] > 1 for path in written(target)) for target in targets]
    taken = set().union(*(written(target) for target, clash in zip(targets, clashes, strict=True) if not clash))
    made = []
    for target, file, clash in zip(targets, files, clashes, strict=True):
        if clash:
            stem = f"{target.stem}-{file.suffix[1:].lower()}"
            stems = itertools.chain([stem], (f"{stem}-{number}" for number in itertools.count(2)))
            paths = (target.with_name(f"{stem}{target.suffix}") for stem in stems)
            target = next(path for path in paths if not written(path) & taken)
            taken |= written(target)
        made.append(target)
    return made
