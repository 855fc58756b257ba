"""The shipped styles: python -m tests.benchmarks.shipped_styles --data DIR [--with RUN] [--sheet FILE] [--write]

DIR is the folder of real data (JAXGEN_TEST_DATA). Seven photographs, which no shipped weights were trained on, are
painted in each style by what `stylize` works with, 256x256 each. The parts of Gatys' loss say how much of the
photograph is kept, and how near the painting's style is. --with scores a run in place of the shipped weights. FILE is a
sheet of images: a row for the photographs, and one for each style.
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxgen.core.cache import use_compilation_cache
from jaxgen.inference.stylization import StyleRequest, open_stylist
from jaxgen.media.image_grid import save_png
from jaxgen.media.marks import EDITED, Mark
from jaxgen.models.translation.gatys import Gatys
from jaxgen.pretrained import backbones, catalogue
from jaxgen.tasks import style_transfer
from tests.benchmarks import report
from tests.benchmarks.shipped import PHOTOGRAPHS

SIDE = 256
STYLES = {"wave": "wave", "starry-night": "starry_night", "scream": "the_scream", "shipwreck": "shipwreck"}  # files
WEIGHTS = "styles"
SHOWN = 3  # photographs on the sheet


def photographs(data: Path) -> Iterator[np.ndarray]:
    """Yield the middle squares f32[SIDE SIDE 3] of the photographs, in [-1, 1]."""
    for path in PHOTOGRAPHS:
        picture = Image.open(data / path).convert("RGB")
        scale = SIDE / min(picture.size)
        picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BOX)
        x, y = (picture.width - SIDE) // 2, (picture.height - SIDE) // 2
        yield np.asarray(picture.crop((x, y, x + SIDE, y + SIDE)), np.float32) / 127.5 - 1


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of real data")
    parser.add_argument("--with", dest="run", default=WEIGHTS, help="a run or weights in place of the shipped ones")
    parser.add_argument("--sheet", type=Path, help="a PNG file to write")
    parser.add_argument("--write", action="store_true", help=report.WRITE)
    wanted = parser.parse_args()
    use_compilation_cache()
    photos, rows = list(photographs(wanted.data)), []
    sheet = [np.concatenate(photos[-SHOWN:], 1)]
    model, backbone = Gatys(image=(SIDE, SIDE, 3)), backbones.load("vgg16")
    parts = jax.jit(lambda x, photo, aims: model.loss(x[None], {"image": photo[None]}, backbone, aims)[1])
    targets = jax.jit(lambda painting: model.targets(backbone, [painting]))
    for style, file in STYLES.items():
        painting = style_transfer.style_image(str(wanted.data / f"style/style/{file}.jpg"), model.style_size)
        aims, painter = targets(jnp.asarray(painting)), open_stylist(wanted.run, StyleRequest((style,)))
        made, taken, found = [], [], []
        for x in photos:
            began = time.perf_counter()
            painter.begin(x, SIDE, 1, False, None, lambda *_: None)
            made.append(painter.answer(x, (slice(0, SIDE), slice(0, SIDE)), None, lambda *_: None))
            taken.append(time.perf_counter() - began)
            ours, own = parts(made[-1], x, aims), parts(x, x, aims)
            found.append((float(ours["content"]), float(ours["style"] / own["style"]), float(ours["style"])))
        sheet.append(np.concatenate(made[-SHOWN:], 1))
        content, share, distance = np.mean(found, 0)
        print(style, f"content {content:.3f}, style {share:.3f} (distance {distance:.3f})", np.round(found, 2).tolist())
        values = {"content_loss_ratio": content, "style_loss_ratio": share, "seconds_per_image": min(taken)}
        entry = catalogue.find(wanted.run)
        about = {"model": wanted.run, "preset": entry.preset if entry else None, "weights": wanted.run}
        rows += report.row({"painting": style}, values, data="seven photographs", **about)
    if wanted.sheet:
        shown = np.clip(np.concatenate(sheet), -1, 1) * 127.5 + 127.5
        save_png(wanted.sheet, np.asarray(shown, np.uint8), Mark(EDITED))
    report.publish("shipped-styles", rows, wanted.write)


if __name__ == "__main__":
    main()
