"""Marks: files that a net drew or changed say so in their XMP, with the software, preset, weights and seed.

`Iptc4xmpExt:DigitalSourceType` is a term of IPTC's vocabulary (cv.iptc.org/newscodes/digitalsourcetype), which other
programs read. The rest is in a namespace of jaxgen. A mark has no date: the same seed gives the same bytes.

Every function that writes images takes a mark, without a default. None stands for a file that no net made: a plot, a
photo enlarged by interpolation, images of a data set.
"""

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from jaxgen import __version__
from jaxgen.media import output_files, xmp
from jaxgen.media.xmp_writing import insert_xmp

if TYPE_CHECKING:
    from jaxgen.runs.load import Trained

SOURCE = "Iptc4xmpExt:DigitalSourceType"
TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
DRAWN = "trainedAlgorithmicMedia"  # by a net
EDITED = "compositeWithTrainedAlgorithmicMedia"  # by a net, from an image that it was given
COMPOSED = "composite"  # of images, each of which may or may not be a net's
COMPOSED_WITH_DRAWN = "compositeSynthetic"  # of images, at least one of which is a net's
ARTIFICIAL = (DRAWN, EDITED, COMPOSED_WITH_DRAWN)
SOFTWARE = f"jaxgen {__version__}"

wanted = True  # whether marks are written; a setting of the process, by --no-mark


@dataclass(frozen=True)
class Mark:
    """A statement of how a file was made.

    source:  DRAWN, EDITED or COMPOSED
    preset:  the model's preset, or the method's name
    weights: the SHA-256 of the weights: of a file, or of a run's checkpoint, the last line of its .sha256
    seed:    the random seed, where one was used
    """

    source: str
    preset: str = ""
    weights: str = ""
    seed: int | None = None

    def with_seed(self, seed: int | None) -> "Mark":
        return replace(self, seed=seed)


def of_run(source: str, folder: Path, opened: "Trained", seed: int | None = None) -> Mark:
    """Return the mark of files that are made by a run's checkpoint."""
    from jaxgen.runs import seals

    return Mark(source, opened.run.preset, seals.digest(folder / "checkpoints", opened.step), seed)


def of_weights(source: str, path: Path, preset: str) -> Mark:
    """Return the mark of files that are made by a file of weights."""
    with path.open("rb") as file:
        return Mark(source, preset, hashlib.file_digest(file, "sha256").hexdigest())


def packet_for(mark: Mark | None, own: bytes | None = None) -> bytes | None:
    """Return the XMP packet of an output: a mark, and the photo's own packet of `xmp.described`. None for neither.

    Where the photo says which software created it, that is kept. A photo that was drawn by a net is still so after an
    edit; of a composition with it a part is. Without a mark that is due, a false source is left out.
    """
    if mark is None:
        return own
    kept = []
    with suppress(ValueError):
        kept = xmp.properties(own) if own else []
    said = source_of(own)
    theirs = [one for one in kept if one.tag != xmp.tag_of(SOURCE)]
    if not wanted:
        return xmp.packet_of(kept if said in ARTIFICIAL else theirs) if kept else None
    source = mark.source
    if said in ARTIFICIAL:
        source = {EDITED: DRAWN if said == DRAWN else EDITED, COMPOSED: COMPOSED_WITH_DRAWN}.get(source, source)
    facts = {"jaxgen:Software": SOFTWARE, "jaxgen:Preset": mark.preset, "jaxgen:WeightsSHA256": mark.weights}
    facts |= {"jaxgen:Seed": "" if mark.seed is None else str(mark.seed), SOURCE: TERMS + source}
    ours = [xmp.element(xmp.tag_of(name), text) for name, text in facts.items() if text]
    theirs = [one for one in theirs if not one.tag.startswith(xmp.tag_of("jaxgen:"))]
    tool = xmp.tag_of("xmp:CreatorTool")
    if all(one.tag != tool for one in theirs):
        ours.append(xmp.element(tool, SOFTWARE))
    made = xmp.packet_of([*theirs, *ours])
    return made if len(made) <= xmp.LARGEST else packet_for(mark)


def source_of(packet: bytes | None) -> str:
    """Return the digital source type of a packet without the vocabulary's address; "" for none."""
    with suppress(ValueError):
        return xmp.texts(packet or b"").get(SOURCE, "").rpartition("/")[2]
    return ""


@contextmanager
def marked(path: Path, mark: Mark | None, own: bytes | None = None) -> Iterator[Path]:
    """Yield a temporary path to write to, as `output_files.whole` does, and then mark the file.

    own: the packet of the photo that it is made of
    A format that can't hold a mark (.bmp, .txt) is written without it, which is printed.
    """
    packet = packet_for(mark, own)
    with output_files.whole(path) as part:
        yield part
        if packet is not None and not insert_xmp(part, packet) and mark is not None and wanted:
            print(f"{path} has no mark: a {path.suffix} can't hold one.", file=sys.stderr)
