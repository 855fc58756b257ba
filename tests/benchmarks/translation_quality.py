"""Translators trained here: python -m tests.benchmarks.translation_quality --data DIR [--write]

DIR is the folder of real data (JAXGEN_TEST_DATA). Pairs are edges of emoji and the emoji: pix2pix beside its U-Net
trained with the absolute distance alone, scored on emoji that are not like those trained on. Two sets that are no
pairs are one half of the flowers in grey and the other half in colour, so that the truth is known for held-out ones.
StarGAN translates between their five classes, which a net that it never met tells apart. Each model is trained and
scored by the user's commands; a run that is finished is not repeated, one that was stopped goes on. OUT/results.jsonl
has a line for each, OUT/<model>.png its held-out images: source, made, truth, or source and what is made of it for
each class. Some of each are OUT/sheet.png, with --write the README's, too, where every model has its own.
"""

import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks import report

SHARE = 3  # in ten, of the emoji that are trained on: FID of 1,280 features needs more than 1,280 others
BLOCK = 40  # emoji that follow each other, such as those that differ in skin tone, are on one side
COMPARED = 400  # held-out images that are compared one by one
SHEET = report.README.parent / "notebooks" / "translation.png"
SHOWN = (2 * 3 * 64, 4 * 64)  # columns and rows of OUT/<model>.png's pixels that the sheet has
MOST = 50.0  # dB that an image counts as at most: some flowers were photographed in grey
SEEN_BY = "efficientnet_lite0"
FID = f"fid_{SEEN_BY}"
SETS = {"emoji": "edges to emoji", "flowers": "flowers, grey to colour", "classes": "flowers, between classes"}
METRICS = {  # of what is in OUT/results.jsonl
    FID: FID,
    "lpips": "lpips_st_alex",
    "lpips_source": "lpips_st_alex@input",
    "psnr": "psnr_rgb",
    "psnr_source": "psnr_rgb@input",
    "psnr_back": "psnr_rgb_backwards",
    "cycle": "cycle_error",
    "identity": "identity_error",
    "shared": "latent_distance",
    "matched": "latents_matched",
    "variety": "diversity_lpips_st_alex",
    "named": "classifier_accuracy",
    "before": "target_class_accuracy@input",
    "accuracy": "target_class_accuracy",
}


@dataclass(frozen=True)
class Model:
    """A preset, what is changed of it, and for how many steps."""

    preset: str
    data: str
    settings: str
    steps: int


SMALL = "--data.crop center --model.image 64 64 3 --model.width 16 --model.game.width 16 --model.game.layers 2"
UNET = f"{SMALL} --model.depth 6 --batch 8"
CLASSES = f"{SMALL.split(' --model.game')[0]} --model.blocks 3 --model.downsamplings 5 --model.classes 5 --batch 8"
MODELS = {
    "u-net": Model("pix2pix", "emoji", f"{UNET} --model.game.adversarial 0", 15_000),
    # Of images a quarter as large, the paper's weight of 100 leaves the critic no say: FID is the U-Net's.
    "pix2pix": Model("pix2pix", "emoji", f"{UNET} --model.pixel 10", 15_000),
    "bicyclegan": Model("bicyclegan", "emoji", f"{UNET} --model.downsamplings 4 --model.game.scales 1", 10_000),
    "cyclegan": Model("cyclegan", "flowers", f"{SMALL} --model.blocks 3 --batch 2", 6_000),
    "cut": Model("cut", "flowers", f"{SMALL} --model.blocks 3 --model.taps 0 2 --batch 2", 6_000),
    "unit": Model("unit", "flowers", f"{SMALL} --model.blocks 1 --model.game.scales 1 --batch 2", 6_000),
    "munit": Model("munit", "flowers", f"{SMALL} --model.blocks 2 --model.game.scales 1 --batch 2", 4_500),
    "stargan": Model("stargan", "classes", CLASSES, 2_000),
}


def main():
    parser = report.quality(__doc__, "translation-quality")
    parser.add_argument("--steps", type=int, help="for each of them, in place of its own number, to try it")
    wanted = parser.parse_args()
    out = wanted.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    if not wanted.table:
        prepare(wanted.data.absolute(), out / "data")
        for name in wanted.only.split("+") if wanted.only else MODELS:
            measure(name, MODELS[name], wanted.steps or MODELS[name].steps, out)
    publish(out, wanted.write)


def prepare(data: Path, out: Path):
    """Write emoji/{train,test}, flowers/{grey,colour}/{train,test}, whose test images are the same, and by class."""
    if (out / "done").exists():
        return
    with zipfile.ZipFile(data / "noto_emoji/noto_emoji_2000.zip") as file:
        for i, name in enumerate(sorted(n for n in file.namelist() if n.endswith(".png"))):
            put(out / "emoji" / ("train" if i // BLOCK * SHARE % 10 < SHARE else "test"), name, file)
    with zipfile.ZipFile(data / "flowers128/flowers128_2000.zip") as file:
        for i, name in enumerate(sorted(n for n in file.namelist() if n.endswith(".jpg"))):
            split = "train" if i % 5 else "test"
            for side, first in (("grey", 0), ("colour", 1)):
                if split == "test" or i % 2 == first:
                    put(out / "flowers" / side / split, name, file)
            put(out / "classes" / split / Path(name).parts[1], name, file)
    (out / "done").write_text("")


def put(folder: Path, name: str, file: zipfile.ZipFile):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "_".join(Path(name).parts)).write_bytes(file.read(name))


def measure(name: str, model: Model, steps: int, out: Path):
    """Train a model and score it, a line of OUT/results.jsonl."""
    if any(row["model"] == name and row["steps"] == steps for row in report.results(out)):
        return
    run, data = out / f"{name}-{steps}", out / "data"
    flowers = f"unpaired:{data / 'flowers/grey'},{data / 'flowers/colour'}"
    classes = f"folder:{data / 'classes'}"
    sets = {"emoji": (f"folder:{data / 'emoji'}", "edges"), "flowers": (flowers, "grey"), "classes": (classes, None)}
    source, pair = sets[model.data]
    settings = [*model.settings.split(), "--data.source", source, *(["--data.pair", pair] if pair else [])]
    settings += ["--steps", str(steps), "--log.every", "50", "--log.samples", "1000", "--log.count", "24"]
    settings += ["--save.every", "1000", "--out", str(run), *report.many_steps()]
    command = [sys.executable, "-m", "train.translation", "--preset", model.preset, *settings]
    subprocess.run(command, check=True)
    row = {"model": name, "data": model.data, "steps": steps, "seconds": max(report.trained(run).values())}
    if model.data == "emoji":
        count = str(len(list((data / "emoji/test").iterdir())))
        command = [sys.executable, "-m", "jaxgen", "evaluate", str(run), "--metrics", FID, "--split", "test"]
        subprocess.run([*command, "--count", count], check=True, env=report.EXACT)
        lines = (run / "evaluations.jsonl").read_text().splitlines()
        row[FID] = next(line["value"] for line in map(json.loads, reversed(lines)) if line["metric"] == FID)
    sheet = out / f"{name}.png"
    if model.data == "classes":
        row |= classed(run, source, sheet)
    else:
        row |= compared(run, data / ("emoji" if model.data == "emoji" else "flowers/colour"), pair, sheet)
    row["place"] = report.place()
    print(row, flush=True)
    with (out / "results.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def compared(run: Path, folder: Path, pair: Any, sheet: Path) -> dict[str, float]:
    """Return how a run's translations of held-out images compare with the truth.

    psnr, lpips: of what is made and what should have been (ST-LPIPS, AlexNet)
    psnr_source, psnr_back: of the source itself, and of the truth translated to the source's domain, where that goes
    cycle, identity: mean absolute differences (of 255) there and back, and of images that are in the domain already
    shared: the distance between both domains' codes of an image, over that between those of two images (UNIT)
    matched: how often, of 50 images' codes from the truth, that of the same image is nearest to the source's
    variety: mean ST-LPIPS between two answers to one source
    """
    import jax.numpy as jnp

    from jaxgen.core.capabilities import Transform
    from jaxgen.metrics.pixels import psnr
    from jaxgen.pretrained import perceptual_distances

    opened, nets, ways, pictures = used(run)
    transform, distance = opened.task.get(Transform), perceptual_distances.st_lpips("alex")
    domains = transform.inputs["to"].names
    found: dict[str, list[np.ndarray]] = {}
    add = lambda name, values: found.setdefault(name, []).append(np.asarray(values))  # noqa: E731
    rows = []
    for batch in pictures(f"folder:{folder}", "test", COMPARED, pair=pair):
        source, image = jnp.asarray(batch["source"]), jnp.asarray(batch["image"])
        made = ways(source, "image")
        rows += list(np.stack([source, np.asarray(made), image], 1))
        for name, x in (("", made), ("_source", source)):
            add(f"psnr{name}", jnp.minimum(psnr(x, image), MOST))
            add(f"lpips{name}", distance(x, image))
        if pair == "grey":
            add("identity", apart(ways(image, "image"), image))
        if transform.stochastic:
            add("variety", distance(made, ways(source, "image", 1)))
        if "source" in domains:
            back = ways(image, "source")
            add("psnr_back", jnp.minimum(psnr(back, source), MOST))
            add("cycle", (apart(ways(made, "source"), source) + apart(ways(back, "image"), image)) / 2)
        if hasattr(opened.run.model, "encoded") and "source" in domains:
            a, b = (opened.run.model.encoded(nets[0], d, x) for d, x in (("source", source), ("image", image)))
            codes = [np.asarray(c).reshape(len(c), -1) for c in (a, b)]
            same = np.linalg.norm(codes[0] - codes[1], axis=1)
            add("shared", same / np.linalg.norm(codes[0] - np.roll(codes[1], 1, 0), axis=1))
            apart_all = np.linalg.norm(codes[0][:, None] - codes[1], axis=2)
            add("matched", apart_all.argmin(1) == np.arange(len(codes[0])))
    shown = rows[:: max(len(rows) // 36, 1)]  # of all kinds: images alike follow each other
    lines = [np.concatenate([np.concatenate(list(row), 1) for row in shown[i::6][:6]], 0) for i in range(6)]
    save(sheet, np.concatenate(lines, 1))
    return {name: float(np.concatenate(values).mean()) for name, values in found.items()}


def classed(run: Path, source: str, sheet: Path) -> dict[str, float]:
    """Return how a run's translations of held-out images into other classes are named by a net that it never met.

    named: the share of held-out images of which a logistic regression of features, fitted on those trained on, names
           the class
    before, accuracy: the share of goals that it names, of images of other classes, and of what is made of them
    cycle, identity: mean absolute differences (of 255) there and back, and of images of the class already
    """
    import jax
    from sklearn.linear_model import LogisticRegression

    from jaxgen.core.capabilities import Transform
    from jaxgen.nn.resample import resize_clean
    from jaxgen.pretrained.feature_extractors import extractor

    opened, _, ways, pictures = used(run)
    domains, seen = range(opened.task.get(Transform).inputs["to"].count), extractor(SEEN_BY)
    look = jax.jit(lambda x: seen.apply(seen.variables, resize_clean(x, seen.image[:2]))["features"])

    def looked(batches: list[dict[str, Any]]):
        return np.concatenate([look(b["image"]) for b in batches]), np.concatenate([b["label"] for b in batches])

    known, held_out = (list(pictures(source, split, count)) for split, count in (("train", 1600), ("test", COMPARED)))
    features, labels = looked(known)
    mean, deviation = features.mean(0), features.std(0) + 1e-6
    named = LogisticRegression(C=1e-3, max_iter=1000).fit((features - mean) / deviation, labels)
    says = lambda x: named.predict((np.asarray(look(x)) - mean) / deviation)  # noqa: E731
    found: dict[str, list[np.ndarray]] = {}
    add = lambda name, values: found.setdefault(name, []).append(np.asarray(values))  # noqa: E731
    rows = []
    for batch in held_out:
        x, label = batch["image"], batch["label"]  # [b h w c], [b]
        said, made = says(x), [ways(x, domain) for domain in domains]
        add("named", said == label)
        for goal, y in enumerate(made):
            others = label != goal
            add("identity", apart(y, x)[~others])
            add("before", (said == goal)[others])
            add("accuracy", (says(y) == goal)[others])
            add("cycle", apart(ways(y, label), x)[others])
        rows += list(np.concatenate([x, *map(np.asarray, made)], 2))
    save(sheet, np.concatenate(rows[:: max(len(rows) // 6, 1)][:6]))
    return {name: float(np.concatenate(values).mean()) for name, values in found.items()}


def used(run: Path):
    """Return an opened run, its nets, what translates, and what gives batches.

    The third is (images, to, answer=0) -> images in [-1, 1], where `to` is a domain's name or numbers i32[b]; the
    fourth (source, split, count, settings of Data) -> batches.
    """
    import jax
    import jax.numpy as jnp

    from jaxgen.core.cache import use_compilation_cache
    from jaxgen.core.capabilities import Transform
    from jaxgen.core.config import Data, Mesh
    from jaxgen.core.spec import image_of
    from jaxgen.core.types import averaged
    from jaxgen.data import RandomSubset, batches, open_source
    from jaxgen.runs.load import open_run

    use_compilation_cache()
    opened = open_run(run, Mesh(data=1))
    transform, nets = opened.task.get(Transform), averaged(opened.state, opened.frozen)
    program, domains = jax.jit(transform.apply), transform.inputs["to"].names

    def ways(x: Any, to: Any, answer: int = 0):
        keys = jax.random.split(jax.random.key(answer), len(x))
        to = jnp.broadcast_to(jnp.asarray(domains.index(to) if isinstance(to, str) else to, jnp.int32), len(x))
        return jnp.clip(program(*nets, {"source": x, "to": to}, keys)["image"], -1, 1)

    def pictures(source: str, split: str, count: int, **rest: Any):
        data = Data(source, split=split, **rest)
        return batches(
            RandomSubset(open_source(data), count), data, image_of(opened.task), batch=50, seed=0, train=False
        )

    return opened, nets, ways, pictures


def apart(a: Any, b: Any) -> np.ndarray:
    """Return the mean absolute difference, of 255, between images [b h w c] in [-1, 1]."""
    return 127.5 * np.abs(np.asarray(a) - np.asarray(b)).mean((1, 2, 3))


def save(path: Path, picture: np.ndarray):
    """Write an image [h w c] in [-1, 1]."""
    from PIL import Image

    Image.fromarray(np.rint((picture + 1) * 127.5).astype(np.uint8)).save(path)


def publish(out: Path, write: bool):
    """Show the newest row of each model, a table for each set."""
    newest = {row["model"]: row for row in report.results(out)}
    for data, about in SETS.items():
        shown = []
        for row in newest.values():
            if row["data"] != data or row["model"] not in MODELS:
                continue
            model = MODELS[row["model"]]
            values = {"training_minutes": row["seconds"] / 60}
            values |= {metric: row[name] for name, metric in METRICS.items() if name in row}
            known = {"preset": model.preset, "data": about, "steps": row["steps"], "seeds": 1}
            known |= {"settings": model.settings, "places": [row["place"]]}
            shown += report.row({"model": f"`{row['model']}`"}, values, model=row["model"], **known)
        if shown:
            report.publish(f"translation-quality-{data}", shown, write)
    names = [name for name in MODELS if (out / f"{name}.png").exists()]
    if names:
        sheet(out, names, [out / "sheet.png", *([SHEET] if write and len(names) == len(MODELS) else [])])


def sheet(out: Path, names: list[str], targets: list[Path]):
    """Write some of each model's held-out images, its name below: source, made, truth, side by side."""
    from PIL import Image

    from jaxgen.media.image_grid import captioned, save_png
    from jaxgen.media.marks import EDITED, Mark

    cells = [Image.open(out / f"{name}.png").convert("RGB").crop((0, 0, *SHOWN)) for name in names]
    pictures = np.stack([np.asarray(cell, np.float32) for cell in cells]) / 127.5 - 1
    for path in targets:
        save_png(path, captioned(pictures, names, 3), Mark(EDITED))


if __name__ == "__main__":
    main()
