"""Styles three ways: python -m tests.benchmarks.style_quality --data DIR [--write]

DIR is the folder of real data (JAXGEN_TEST_DATA). Photographs are painted in the style of Hokusai's wave by the user's
command: by Gatys et al., by the same with whitened and coloured features, by the published net of Johnson et al., by
one trained here, and by AdaIN and WCT with a decoder trained here on parts of other paintings, in other colours too.
Both are trained on flowers. A run that is finished is not repeated, one that was stopped goes on. OUT/results.jsonl has
a line for each; OUT/style.png, the README's with --write, a row of images for each.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.benchmarks import report

SIDE = 256  # of the photographs
WAVE = "style/style/wave.jpg"
SHARED = tuple(f"style/style/{name}.jpg" for name in ("wave", "the_scream", "starry_night"))  # of the net of several
STYLES = ("the_scream", "starry_night", "shipwreck")  # that AdaIN learns from, in parts
PARTS = 600  # of the paintings, in all
PHOTOS = ("chelsea.png", "coffee.png", "rocket.jpg")  # free of rights
SMALL = "--model.image 96 96 3 --batch 4 --optim.schedule cosine"
# A code of the third size, which is the easiest to decode: the paper's of the fourth takes far longer to learn.
SHALLOW = "--model.layers relu1_1 relu2_1 relu3_1 --model.between 1 1"
# One image a step: of the same number of images a painter learns most from the most steps.
PAINTER = "--model.image 96 96 3 --batch 1 --optim.schedule cosine --data.crop random --model.style-size 256"
STYLED = {"fast-style": (WAVE,), "fast-style-many": SHARED}
TRAINED = {  # of a preset: its settings, steps
    "fast-style": (PAINTER, 7000),
    "fast-style-many": (f"{PAINTER} --model.style-weight 0.5", 8000),
    "adain": (f"{SMALL} {SHALLOW} --data.crop area --model.learning-rate 3e-4 --optim.warmup 200", 4000),
}
WAYS = {  # the run that it needs, and what `stylize` is told
    "Gatys": ("", ["--style", "STYLE"]),
    "WCT of a canvas": ("", ["--style", "STYLE", "--with", "wct"]),
    "Johnson, published": ("", ["--with", "DATA/weights/fast_style_wave.zip"]),
    "Johnson": ("fast-style", ["--with", "RUN"]),
    "Dumoulin": ("fast-style-many", ["--with", "RUN", "--style", "wave"]),
    "AdaIN": ("adain", ["--with", "RUN", "--style", "STYLE"]),
    "WCT of a latent": ("adain", ["--with", "RUN", "--style", "STYLE", "--how", "wct"]),
}
PRESETS = {"Gatys": "gatys", "Johnson": "fast-style", "Dumoulin": "fast-style-many", "AdaIN": "adain"}
DATA = "three photographs, Hokusai's wave"
SHEET = report.README.parent / "notebooks" / "style.png"
SHOWN = 128  # pixels of an image's side on the sheet


def main():
    wanted = report.quality(__doc__, "style-quality").parse_args()
    data, out = wanted.data.absolute(), wanted.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    if not wanted.table:
        prepare(data, out)
        for name in wanted.only.split("+") if wanted.only else WAYS:
            measure(name, data, out)
    publish(out, wanted.write)


def prepare(data: Path, out: Path):
    """Write photos/, squares of SIDE pixels, and paintings/, parts of the paintings.

    A part is a square of any size, from 96 pixels to the painting's shorter side, made 128 pixels large; its channels
    are put in any order, and each second one is turned into its negative: three paintings have few colours.
    """
    for folder in ("photos", "paintings"):
        (out / folder).mkdir(exist_ok=True)
    for name in PHOTOS:
        picture = Image.open(data / "photos" / name).convert("RGB")
        scale = SIDE / min(picture.size)
        picture = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BOX)
        x, y = (picture.width - SIDE) // 2, (picture.height - SIDE) // 2
        picture.crop((x, y, x + SIDE, y + SIDE)).save(out / "photos" / f"{Path(name).stem}.png")
    rng = np.random.default_rng(0)
    paintings = [Image.open(data / f"style/style/{name}.jpg").convert("RGB") for name in STYLES]
    for i in range(PARTS):
        painting = paintings[i % len(STYLES)]
        side = round(np.exp(rng.uniform(np.log(96), np.log(min(painting.size)))))
        x, y = (int(rng.integers(0, length - side + 1)) for length in painting.size)
        part = painting.resize((128, 128), Image.Resampling.BOX, (x, y, x + side, y + side))
        pixels = np.asarray(part)[..., rng.permutation(3)]
        Image.fromarray(255 - pixels if i % 2 else pixels).save(out / "paintings" / f"{i:03}.png")


def train(name: str, data: Path, out: Path) -> dict[str, Any]:
    """Train a net where it is not yet done, and return what the table says of it."""
    settings, steps = TRAINED[name]
    run, flowers = out / name, data / "flowers128/flowers128_2000.zip"
    source = f"folder:{flowers}" if name in STYLED else f"unpaired:{flowers},{out / 'paintings'}"
    words = [*settings.split(), "--data.source", source, "--data.split", "all", "--steps", str(steps)]
    words += ["--model.styles", *(str(data / path) for path in STYLED[name])] if name in STYLED else []
    words += ["--log.every", "100", "--log.samples", "1000", "--save.every", "1000", "--out", str(run)]
    words += report.many_steps()
    subprocess.run([sys.executable, "-m", "train.translation", "--preset", name, *words], check=True)
    return {"steps": steps, "seconds": max(report.trained(run).values()), "settings": settings}


def measure(name: str, data: Path, out: Path):
    """Paint the photographs in one way, which is trained first: a line of OUT/results.jsonl."""
    if any(row["model"] == name for row in report.results(out)):
        return
    run, words = WAYS[name]
    row: dict[str, Any] = {"model": name} | (train(run, data, out) if run else {})
    known = {"STYLE": str(data / WAVE), "RUN": str(out / run)}
    words = [known.get(word, word.replace("DATA", str(data))) for word in words]
    made = out / name.replace(" ", "-").replace(",", "")
    command = [
        sys.executable,
        "-m",
        "jaxgen",
        "stylize",
        str(out / "photos"),
        *words,
        "--out",
        str(made),
        "--overwrite",
    ]
    for _ in range(2):
        start = time.perf_counter()
        subprocess.run(command, check=True)
        row["painted"] = (time.perf_counter() - start) / len(PHOTOS)
        if row["painted"] > 60:  # what was compiled, and is kept for the next time, is a small part of it
            break
    row |= compared(out / "photos", made, data / WAVE) | {"place": report.place()}
    print(row, flush=True)
    with (out / "results.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def compared(photos: Path, made: Path, style: Path) -> dict[str, float]:
    """Return the parts of Gatys' loss of what was made, means: of what is kept of the photograph, and of its style.

    The content's is |F - P|^2 / |P|^2, 1 where a map is empty; the style's is over the photograph's own.
    """
    import jax
    import jax.numpy as jnp

    from jaxgen.models.translation.gatys import Gatys
    from jaxgen.pretrained import backbones
    from jaxgen.tasks import style_transfer

    model, backbone = Gatys(image=(SIDE, SIDE, 3)), backbones.load("vgg16")
    painting = jnp.asarray(style_transfer.style_image(str(style), model.style_size))
    read = lambda path: jnp.asarray(np.asarray(Image.open(path)), jnp.float32) / 127.5 - 1  # noqa: E731
    found: dict[str, list[float]] = {"content": [], "style": []}
    for file in sorted(photos.iterdir()):
        photo, wish = read(file), model.targets(backbone, [painting], content=read(file)[None])
        parts = jax.jit(lambda x, wish: model.loss(x[None], {"image": x[None]}, backbone, wish)[1])
        ours, kept = parts(read(made / file.name), wish), parts(photo, wish)
        found["content"].append(float(ours["content"]))
        found["style"].append(float(ours["style"] / kept["style"]))
    return {name: float(np.mean(values)) for name, values in found.items()}


def publish(out: Path, write: bool):
    """Show the newest row of each way, and write the sheet."""
    newest = {row["model"]: row for row in report.results(out)}
    rows = [newest[name] for name in WAYS if name in newest]
    if not rows:
        return
    table = []
    for row in rows:
        run = WAYS[row["model"]][0]
        values = {"training_minutes": row["seconds"] / 60 if run else None, "seconds_per_image": row["painted"]}
        values |= {"content_loss_ratio": row["content"], "style_loss_ratio": row["style"]}
        about = {"preset": run or None, "data": DATA, "places": [row["place"]]}
        if run:
            words, steps = TRAINED[run]
            about |= {"steps": steps, "seeds": 1, "settings": f"{words} --steps {steps}"}
        if row["model"] in PRESETS:
            about["preset"] = model = PRESETS[row["model"]]
        else:
            model = row["model"]
        table += report.row({"method": row["model"]}, values, model=model, **about)
    sheet(
        out, [row["model"] for row in rows], [out / "style.png", *([SHEET] if write and len(rows) == len(WAYS) else [])]
    )
    report.publish("style-quality", table, write)


def sheet(out: Path, names: list[str], targets: list[Path]):
    """Write a row of images for each photograph, a column for each way, its name above."""
    from jaxgen.media.image_grid import captioned, save_png
    from jaxgen.media.marks import EDITED, Mark

    files = sorted((out / "photos").iterdir())
    cells, captions = [], []
    for i, file in enumerate(files):
        for name in names:
            picture = Image.open(out / name.replace(" ", "-").replace(",", "") / file.name).resize((SHOWN, SHOWN))
            cells.append(np.asarray(picture, np.float32) / 127.5 - 1)
            captions.append("" if i else name)
    for path in targets:
        save_png(path, captioned(np.stack(cells), captions, len(names)), Mark(EDITED))


if __name__ == "__main__":
    main()
