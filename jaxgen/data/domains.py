"""Images of two domains: paired images, and unpaired sets."""

from pathlib import Path, PurePosixPath

from jaxgen.core.errors import InputError
from jaxgen.data import image_files
from jaxgen.data.folder import Folder
from jaxgen.data.sources import Source
from jaxgen.data.transforms import pixels_of

NAMES = (("A", "B"), ("image", "source"))  # sorted, as a folder's classes are


class PairedImages:
    """Paired images of equal size, {"source": u8[h w c], "image": u8[h w c]}.

    In a folder (or .zip) with sub-folders A and B, or source and image, images with the same name form a pair, whatever
    their suffix. In other folders the left half of each image is the source and the right half is the image. Splits
    and unreadable files are handled as in `Folder`; with `skip_bad`, images without a partner are skipped too. Raises
    InputError if an image has no partner, or the sizes of a pair differ.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, path: Path, split: str, skip_bad: bool = False):
        self.folder = folder = Folder(path, split, skip_bad)
        self.pairs: list[tuple[int, int]] | None = None  # indices of source and image in the folder
        if folder.classes in NAMES:
            self.pairs = self._mates(skip_bad)
            for a, b in self.pairs:
                if self._size(a) != self._size(b):
                    self._check(folder.names[a], self._true_size(a), self._true_size(b), folder.names[b])
        elif folder.classes:
            raise InputError(
                f"{path} has the sub-folders {', '.join(folder.classes)}: pairs must be in A and B, or source and "
                "image, or side by side in one image."
            )
        else:
            for i, name in enumerate(folder.names):
                if self._size(i)[0] % 2:
                    self._even(name, self._true_size(i)[0])

    def _mates(self, skip_bad: bool) -> list[tuple[int, int]]:
        folder, first = self.folder, self.folder.classes[0]
        sides: tuple[dict[str, int], dict[str, int]] = {}, {}
        for i, (name, label) in enumerate(zip(folder.names, folder.labels or (), strict=True)):
            parts = PurePosixPath(name).parts
            here = folder.classes[label]
            stem = PurePosixPath(*parts[parts.index(here) + 1 :]).with_suffix("").as_posix()
            if stem in sides[label]:
                raise InputError(f"{folder.path / name} and another image have the same name: {stem}.")
            sides[label][stem] = i
        both = sorted(sides[0].keys() & sides[1].keys())
        odd = sorted(sides[0].keys() ^ sides[1].keys())
        if odd and not (skip_bad and both):  # the partner may be unreadable
            where = 0 if odd[0] in sides[0] else 1
            has, lacks = folder.classes[where], folder.classes[1 - where]
            more = f", and {len(odd) - 1} more have none" if len(odd) > 1 else ""
            raise InputError(
                f"{folder.path} has {has}/{odd[0]} but no {lacks}/{odd[0]}{more}: both images of a pair need one name."
            )
        source, image = sides if first == "A" else sides[::-1]
        return [(source[stem], image[stem]) for stem in both]

    def _size(self, index: int) -> tuple[int, int]:
        """Return the width and height of an image, upright, from its file header."""
        name = self.folder.names[index]
        with image_files.opened(self.folder.files.open(name)) as image:
            return image_files.upright_size(image)

    def _true_size(self, index: int) -> tuple[int, int]:
        """Return the width and height of an image that was decoded: the EXIF of a PNG may follow its pixels."""
        return self.folder.pil_example(index)["image"].size

    def _check(self, name: str, a: tuple[int, int], b: tuple[int, int], mate: str):
        if a != b:
            sizes = [f"{height}x{width}" for width, height in (a, b)]
            path = self.folder.path
            raise InputError(f"{path / name} is {sizes[0]}, {path / mate} is {sizes[1]}: a pair needs equal sizes.")

    def _even(self, name: str, width: int):
        if width % 2:
            raise InputError(
                f"{self.folder.path / name} is {width} pixels wide: two images side by side need an even width."
            )

    def __len__(self) -> int:
        return len(self.folder.names) if self.pairs is None else len(self.pairs)

    def __getitem__(self, index: int) -> dict:
        return {name: pixels_of(image) for name, image in self.pil_example(index).items()}

    def pil_example(self, index: int) -> dict:
        """Return the example with Pillow images."""
        if self.pairs is None:
            whole, name = self.folder.pil_example(index)["image"], self.folder.names[index]
            width, height = whole.size
            self._even(name, width)
            half = width // 2
            return {"source": whole.crop((0, 0, half, height)), "image": whole.crop((half, 0, width, height))}
        a, b = self.pairs[index]
        source, image = (self.folder.pil_example(i)["image"] for i in (a, b))
        self._check(self.folder.names[a], source.size, image.size, self.folder.names[b])
        return {"source": source, "image": image}


class UnpairedImages:
    """Unpaired images of two sources, {"source": u8[h w c], "image": u8[h' w' c']}, as many as the larger source has.

    The smaller source repeats. In training, the loader reads both sources independently.
    """

    classes: tuple[str, ...] = ()

    def __init__(self, source: Source, image: Source):
        self.source, self.image = source, image

    def __len__(self) -> int:
        return max(len(self.source), len(self.image))

    def __getitem__(self, index: int) -> dict:
        sides = {"source": self.source, "image": self.image}
        return {name: side[index % len(side)]["image"] for name, side in sides.items()}
