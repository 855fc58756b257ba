"""A command applied to one image, or to each image of a folder."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from jaxgen.core.errors import Incomplete, InputError
from jaxgen.media import output_files
from jaxgen.media.photo import WRITTEN, find

BYTES = 2**30  # per GiB


def numbered(target: Path, answers: int) -> list[Path]:
    """Return the paths of several answers: `target`, then the same name with -2, -3, ... appended."""
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


@dataclass
class ImageJob:
    """The input and output files of a command that turns images into images, and the loop over them.

    path:      an image, or a folder of images
    out:       the output file, or the output folder for a folder; None: beside `path`, with `-<done>` appended
    done:      "restored", "translated", ...: used in file names and messages
    outputs:   target -> all files that are written for one image
    overwrite: replace existing files; otherwise an existing file is kept for a folder, and an error for one image
    inputs:    other input files of the command, which must not be replaced
    Raises InputError if a file can't be written, before any model is opened.
    """

    path: Path
    out: Path | None
    done: str
    outputs: Callable[[Path], list[Path]]
    overwrite: bool
    inputs: list[Path] = field(default_factory=list)

    def __post_init__(self):
        self.files = find(self.path)
        self.single = not self.path.is_dir()
        self.targets = self._targets()
        checked = self.targets if self.single or (self.overwrite and self.inputs) else []
        for file in itertools.chain.from_iterable(map(self.outputs, checked)):
            output_files.check(file, WRITTEN, self.overwrite, given=self.inputs)

    def _targets(self) -> list[Path]:
        if self.single:
            targets = [self.out or self.path.with_name(f"{self.path.stem}-{self.done}.png")]
        else:
            folder = self.out or self.path.with_name(f"{self.path.resolve().name}-{self.done}")
            if folder.is_file():
                raise InputError(f"{folder} is a file: for a folder of images name a folder with --out.")
            targets = [folder / file.relative_to(self.path).with_suffix(".png") for file in self.files]
        pairs = zip(targets, self.files, strict=True)
        every = [(path, file) for target, file in pairs for path in self.outputs(target)]
        images = {file.resolve() for file in self.files}
        for path, _ in every:
            if path.resolve() in images:
                raise InputError(f"{path} would be replaced by its own output: name another path with --out.")
        for a, b in itertools.pairwise(sorted(every)):
            if a[0] == b[0]:
                raise InputError(f"{a[1]} and {b[1]} would both become {a[0]}: give them different names.")
        return targets

    def run(self, process: Callable[[Path, Path], object], finish: Callable[[], object] | None = None):
        """Call process(file, target) for each image without existing outputs, then finish(), then print a summary.

        For a single image InputError is raised at once. For a folder the errors are collected, and Incomplete is
        raised at the end.
        """
        kept, bad = [], []
        for file, target in zip(self.files, self.targets, strict=True):
            try:
                there = [path for path in self.outputs(target) if path.exists()]
                if there and not self.single and not self.overwrite:
                    kept.append(there[0])
                    continue
                process(file, target)
            except InputError as error:
                if self.single:
                    raise
                bad.append(str(error))
        if finish:
            finish()
        if kept:
            print(f"{len(kept)} existed already and were kept (--overwrite replaces them). The first: {kept[0]}.")
        if bad:
            raise Incomplete(f"{len(bad)} of {len(self.files)} could not be {self.done}:\n" + "\n".join(bad))
