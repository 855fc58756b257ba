"""The work behind the page of `demo`: uploaded files go through what the commands use, one at a time."""

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from jaxgen.commands.demo_offers import Offer
from jaxgen.commands.restore import ImageRestorer
from jaxgen.commands.stylize import ImageStylizer
from jaxgen.commands.translate import ImageTranslator, open_translator
from jaxgen.core.errors import InputError
from jaxgen.core.progress import Hear, heard
from jaxgen.data.image_decoding import decode_file, eight_bits
from jaxgen.inference.api import load
from jaxgen.inference.opening import mark_of
from jaxgen.inference.restoration import Model, open_model
from jaxgen.inference.sampling import sample_spec
from jaxgen.inference.stylization import StyleRequest, Stylist, named, open_stylist
from jaxgen.inference.tiled_restoration import OVERLAP, TILE
from jaxgen.inference.tiled_stylization import OVERLAP as STYLE_OVERLAP
from jaxgen.media import marks, photo
from jaxgen.media.array_files import save_arrays

KEPT = 8  # models that stay open
VIEW = 1600  # pixels of the longer side of an image in the page, at most; the download has all
LARGEST_DRAWN = 64  # images at once


class Stopped(Exception):
    """The user has pressed Stop."""


@dataclass
class Studio:
    """Opens models once, and makes files with them.

    folder:     of results and views, each in a folder of its own
    megapixels: of an upload, at most
    megabytes:  of an upload, at most
    memory:     in GiB, as of the commands
    """

    folder: Path
    megapixels: float = 16.0
    megabytes: float = 32.0
    memory: float = 4.0
    _one: threading.Lock = field(default_factory=threading.Lock)
    _stopped: set[str | None] = field(default_factory=set)

    def __post_init__(self):
        self.restorer = lru_cache(KEPT)(lambda name, scale: open_model(name, "", scale))
        self.stylist = lru_cache(KEPT)(open_stylist)
        self.translator = lru_cache(KEPT)(self._translator)
        self.drawer = lru_cache(KEPT)(load)

    def begin(self, session: str | None):
        """Forget that a session has stopped its last work."""
        self._stopped.discard(session)

    def stop(self, session: str | None):
        """End the work of a session at its next step."""
        self._stopped.add(session)

    @contextmanager
    def working(self, session: str | None, hear: Hear) -> Iterator[None]:
        """Have the device for the work inside, whose progress goes to `hear`. Raises Stopped after `stop`."""

        def at(text: str, done: float, total: float | None):
            if session in self._stopped:
                raise Stopped
            hear(text, done, total)

        with self._one, heard(at):
            at("starting", 0, None)
            yield

    def place(self, name: str) -> Path:
        """Return a path of this name in a new folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self.folder)) / name

    def check(self, file: Path):
        """Raise InputError for an upload that is too large, or no image."""
        if (size := file.stat().st_size) > self.megabytes * 1e6:
            raise InputError(f"{file.name} has {size / 1e6:.3g} MB: this page takes {self.megabytes:g} at most.")
        if (found := photo.size_of(file)) is None:
            photo.read(file)  # says why
            return
        height, width, _ = found
        if height * width > self.megapixels * 1e6:
            raise InputError(
                f"{file.name} is {height}x{width}, {height * width / 1e6:.3g} megapixels: this page takes "
                f"{self.megapixels:g} at most."
            )

    def view(self, file: Path) -> Path:
        """Return an upload as a file that browsers show: a .png of 8 bits, upright. Raises InputError, as `check`."""
        self.check(file)
        found = photo.read(file)  # it refuses what the work refuses, such as animations
        values = photo.quantised(found.pixels, 8)
        if found.alpha is not None:
            alpha = found.alpha if found.bits == 8 else eight_bits(found.alpha)
            values = np.concatenate([values, alpha], 2)
        return self.shown(smaller(Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)))

    def views(self, before: Path, after: Path) -> tuple[str, str]:
        """Return views of an upload and of its answer, at the size of the answer's."""
        made = smaller(decode_file(after))
        given = decode_file(before)
        given = given if given.size == made.size else given.resize(made.size, Image.Resampling.BICUBIC)
        return str(self.shown(given)), str(self.shown(made))

    def large(self, grid: Path) -> str:
        """Return a view of a grid of small images, enlarged to whole pixels."""
        image = decode_file(grid)
        factor = max(1, 1000 // max(image.size))
        return str(self.shown(image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)))

    def shown(self, image: Image.Image) -> Path:
        """Write an image to a new file for the page."""
        image.save(to := self.place("view.png"), compress_level=1)
        return to

    def restore(
        self,
        offer: Offer,
        file: Path,
        scale: float | None = None,
        sigma: float | None = None,
        mask: Path | None = None,
        seed: int = 0,
    ) -> Path:
        """Return the file that `python -m jaxgen restore` writes for an upload."""
        self.check(file)
        model: Model = self.restorer(offer.name, scale)
        model.check(sigma, mask)
        to = self.place(f"{file.stem}-{offer.stem}.png")
        ImageRestorer(model, TILE, OVERLAP, False, self.memory, seed, sigma, False).process(file, to, None, mask, False)
        return to

    def fill(self, offer: Offer, file: Path, layers: Sequence[Image.Image]) -> Path:
        """Return the file that `python -m jaxgen restore --fill MASK` writes for an upload.

        layers: images with alpha, of any size; the mask is white where one of them has paint
        """
        self.check(file)
        size = decode_file(file).size
        mask = Image.new("L", size, 0)
        for layer in layers:
            paint = layer.convert("RGBA").getchannel("A").resize(size, Image.Resampling.NEAREST)
            mask.paste(255, (0, 0), paint.point([0] * 128 + [255] * 128))
        if not mask.getbbox():
            raise InputError("Paint over what is to be filled in first.")
        mask.save(path := self.place("mask.png"))
        return self.restore(offer, file, mask=path)

    def stylise(
        self, offer: Offer, file: Path, style: str | Path, strength: float = 1.0, colours: str = "style"
    ) -> Path:
        """Return the file that `python -m jaxgen stylize` writes for an upload."""
        self.check(file)
        request = StyleRequest((str(style),), (), 512, strength)
        stylist: Stylist = self.stylist(
            offer.name, StyleRequest(offer.domains[:1] if offer.domains else request.styles)
        )
        if stylist.styles:
            self.check(Path(style))
            stylist.styles = request.images(offer.name)
        else:
            request = named(request, offer.domains, offer.name)
        stylist.request = request
        to = self.place(f"{file.stem}-{offer.stem}.png")
        ImageStylizer(stylist, (), colours, None, STYLE_OVERLAP, self.memory).process(file, to)
        return to

    def translate(self, offer: Offer, file: Path, to: str | None, side: int | None, seed: int = 0) -> Path:
        """Return the file that `python -m jaxgen translate` writes for an upload."""
        self.check(file)
        work: ImageTranslator = self.translator(offer.name, to)
        work.side, work.translator.seed = side, seed
        if offer.transform.stochastic:
            work.mark = work.mark and work.mark.with_seed(seed)
        target = self.place(f"{file.stem}-{offer.stem}.png")
        work.process(file, target)
        return target

    def _translator(self, name: str, to: str | None) -> ImageTranslator:
        return open_translator(name, to, None, False, 1, self.memory, 0)

    def draw(self, offer: Offer, count: int = 16, seed: int = 0, label: str | None = None) -> Path:
        """Return a grid of images, as `python -m jaxgen generate` writes it."""
        model = self.drawer(offer.name)
        images = model.sample(count, seed, labels=label)
        to = self.place(f"{offer.stem}-{seed}.png")
        save_arrays(to, sample_spec(offer.task), images, mark_of(marks.DRAWN, offer.name, model.opened, seed))
        return to


def smaller(image: Image.Image) -> Image.Image:
    """Return an image of at most VIEW pixels a side."""
    image.thumbnail((VIEW, VIEW), Image.Resampling.LANCZOS)
    return image
