"""Restorers trained here: python -m tests.benchmarks.degradation_quality --data DIR [--write]

DIR is the folder of real data (JAXGEN_TEST_DATA). Each preset, made small, learns to restore photographs of flowers
from its own degradation (photo-repair: Train400 too) and is scored on others, degraded alike, by the user's commands; a
run that is finished is not repeated, one that was stopped goes on. OUT/<model>.png shows held-out images degraded,
restored and original, OUT/old-<image>-sheet.png real old photographs, restored by photo-repair.
"""

import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.benchmarks import report

if TYPE_CHECKING:
    from jax import Array

COMPARED = 400  # held-out images
MOST = 50.0  # dB that an image counts as at most: what takes colours away does nothing to a grey one


@dataclass(frozen=True)
class Model:
    """What is changed of a preset, and for how many steps it is trained."""

    settings: str
    steps: int = 4000
    grey: bool = False  # whether Train400's images are learned from, too


AT_64 = "--batch 8 --optim.ema 0.999 --optim.schedule cosine --model.image 64 64 3"
NAFNET = f"{AT_64} --model.width 16 --model.encoder 1 1 2 --model.middle 2 --model.decoder 1 1 1"
SIGMA = f"{AT_64} --model.width 24 --model.depth 3 --model.degradation.noise 25 25 --model.recipe.learning-rate 1e-3"
RESTORMER = (
    f"{AT_64} --model.width 16 --model.blocks 1 2 2 --model.heads 1 2 4 --model.refinement 1 "
    "--model.degradation.noise 25 25"
)
FASTER = "--model.learning-rate 1e-3"
REPAIR = f"--batch 8 --model.image 128 128 3 --model.width 16 --model.depth 4 {FASTER}"
MODELS = {
    "photo-repair": Model(REPAIR, 2500, grey=True),
    "nafnet-deblur": Model(NAFNET),
    "nafnet-jpeg": Model(NAFNET),
    "nafnet-dehaze": Model(NAFNET),
    "nafnet-low-light": Model(NAFNET),
    "nafnet-colourise": Model(NAFNET),
    "zero-dce": Model(f"{AT_64} {FASTER}"),
    "partial-conv": Model(f"{AT_64} --model.width 16 --model.depth 5 {FASTER}"),
    "gated-conv": Model(f"{AT_64} --model.width 16 --model.critic-width 16 --model.critic-layers 4", 12_000),
    "context-encoder": Model(
        f"{AT_64} --model.width 16 --model.critic-width 16 --model.critic-layers 4 --model.local 32 "
        "--model.start 2800 --model.critic-start 2400"
    ),
    "completion-vae": Model(f"{AT_64} --model.width 16 --model.depth 4 {FASTER}"),
    "unet-denoise": Model(SIGMA),
    "noise2noise": Model(SIGMA),
    "noise2void": Model(SIGMA, 8000),  # 64 blind pixels a patch teach less than all
    "restormer": Model(RESTORMER),
}


def main():
    parser = report.quality(__doc__, "degradation-quality")
    parser.add_argument("--steps", type=int, help="for each of them, in place of its own number, to try it")
    wanted = parser.parse_args()
    out, data = wanted.out.absolute(), wanted.data.absolute()
    out.mkdir(parents=True, exist_ok=True)
    if not wanted.table:
        prepare(data, out / "data")
        for name in wanted.only.split("+") if wanted.only else MODELS:
            measure(name, MODELS[name], wanted.steps or MODELS[name].steps, data, out)
    publish(out, wanted.write)


def prepare(data: Path, out: Path):
    """Write flowers/{train,test} and photos/{train,test}: the latter has Train400 as well."""
    if (out / "done").exists():
        return
    with zipfile.ZipFile(data / "flowers128/flowers128_2000.zip") as file:
        for i, name in enumerate(sorted(n for n in file.namelist() if n.endswith(".jpg"))):
            for kind in ("flowers", "photos"):
                folder = out / kind / ("test" if i % 5 == 0 else "train")
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "_".join(Path(name).parts)).write_bytes(file.read(name))
    for path in sorted((data / "denoise/Train400").glob("*.png")):
        shutil.copy(path, out / "photos/train" / path.name)
    (out / "done").write_text("")


def measure(name: str, model: Model, steps: int, data: Path, out: Path):
    """Train a model and score it, a line of OUT/results.jsonl."""
    if any(row["model"] == name and row["steps"] == steps for row in report.results(out)):
        return
    run = out / f"{name}-{steps}"
    source = out / "data" / ("photos" if model.grey else "flowers")
    settings = [*model.settings.split(), "--data.source", f"folder:{source}", "--steps", str(steps), "--out", str(run)]
    settings += ["--log.every", "50", "--log.samples", "500", "--save.every", "500", *report.many_steps()]
    subprocess.run([sys.executable, "-m", "train.restoration", "--preset", name, *settings], check=True)
    row = {"model": name, "steps": steps, "seconds": max(report.trained(run).values())}
    row |= compared(run, out / f"{name}.png") | {"place": report.place()}
    print(row, flush=True)
    with (out / "results.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    if name == "photo-repair":
        for path in sorted((data / "old_photos").glob("*/*.png")):
            target = out / f"old-{path.parent.name}-{path.stem}.png"
            mend = [sys.executable, "-m", "jaxgen", "restore", str(path), "--with", str(run), "--out", str(target)]
            subprocess.run([*mend, "--sheet", "--overwrite"], check=True, env=report.EXACT)


def compared(run: Path, sheet: Path) -> dict[str, float]:
    """Return how near a run's held-out images are to the truth, damaged and mended: mean PSNR (of RGB) and SSIM.

    improved: the share of images whose PSNR is higher after: a few that were hardly damaged have a very high one, and
    a mean of dB is mostly theirs. iou: of pixels that are destroyed and those taken to be so, over all (photo-repair).
    apart_hole, apart_rest: how far two answers are from each other, of 255, where there are several (completion-vae).
    """
    import jax
    import jax.numpy as jnp
    from PIL import Image

    from jaxgen.core.cache import use_compilation_cache
    from jaxgen.core.capabilities import Degradation, Transform
    from jaxgen.core.config import Mesh
    from jaxgen.core.spec import image_of
    from jaxgen.core.types import averaged
    from jaxgen.data import RandomSubset, batches, open_source
    from jaxgen.metrics.pixels import psnr, ssim
    from jaxgen.runs.load import open_run

    use_compilation_cache()
    opened = open_run(run, Mesh(data=1))
    transform, nets = opened.task.get(Transform), averaged(opened.state, opened.frozen)
    data, image = opened.run.data.at("test"), image_of(opened.task)
    stream = batches(RandomSubset(open_source(data, image), COMPARED), data, image, batch=50, seed=0, train=False)
    degrade = jax.jit(opened.task.get(Degradation).degrade, static_argnums=2)
    restore = jax.jit(transform.apply, static_argnums=4)
    found: dict[str, list[np.ndarray]] = {}
    rows, both, either = [], 0.0, 0.0
    for number, batch in enumerate(stream):
        clean = jnp.asarray(batch["image"])
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), number), len(clean))
        given = degrade(clean, keys, 1)
        shown = {"before": given["degraded"], "after": restore(*nets, given, keys, 1)["image"]}
        shown = {when: jnp.clip(x, -1, 1) for when, x in shown.items()}
        for when, x in shown.items():
            found.setdefault(f"psnr_{when}", []).append(np.minimum(psnr(x, clean), MOST))
            found.setdefault(f"ssim_{when}", []).append(np.asarray(ssim(x, clean)))
        if transform.stochastic:
            others = jax.random.split(jax.random.fold_in(jax.random.key(1), number), len(clean))
            other = jnp.clip(restore(*nets, given, others, 1)["image"], -1, 1)
            for where, x in zip(("hole", "rest"), apart(shown["after"], other, given["mask"]), strict=True):
                found.setdefault(f"apart_{where}", []).append(np.asarray(x))
        rows += list(np.stack([*shown.values(), clean], 1))
        if hasattr(opened.run.model, "detect"):
            there, guessed = given["mask"] > 0.5, opened.run.model.detect(nets[0], given["degraded"]) > 0
            both, either = both + float((there & guessed).sum()), either + float((there | guessed).sum())
    shown = rows[:: max(len(rows) // 24, 1)][:24]
    lines = [np.concatenate([np.concatenate(list(row), 1) for row in shown[i::4]], 0) for i in range(4)]
    Image.fromarray(np.rint((np.concatenate(lines, 1) + 1) * 127.5).astype(np.uint8)).save(sheet)
    whole = {name: np.concatenate(values) for name, values in found.items()}
    means = {name: float(values.mean()) for name, values in whole.items()}
    means["improved"] = float((whole["psnr_after"] > whole["psnr_before"]).mean())
    return means | ({"iou": both / either} if either else {})


def apart(one: "Array", other: "Array", mask: "Array") -> tuple["Array", "Array"]:
    """Return mean |one - other| of 255, f32[b], where mask f32[b h w 1] is 1 and where it is 0."""
    import jax.numpy as jnp

    far = 127.5 * jnp.abs(one - other)  # [b h w c]
    hidden = jnp.broadcast_to(mask > 0.5, far.shape)
    return far.mean((1, 2, 3), where=hidden), far.mean((1, 2, 3), where=~hidden)


def publish(out: Path, write: bool):
    """Show the newest row of each model."""
    newest = {row["model"]: row for row in report.results(out)}
    rows = [newest[name] for name in MODELS if name in newest]
    if not rows:
        raise SystemExit(f"{out} holds no results yet.")
    shown = []
    for row in rows:
        values = {"training_minutes": row["seconds"] / 60}
        values |= {"improved": row.get("improved"), "iou_damage": row.get("iou")}
        values |= {"psnr_rgb@input": row["psnr_before"], "psnr_rgb": row["psnr_after"]}
        values |= {"ssim@input": row["ssim_before"], "ssim": row["ssim_after"]}
        values |= {f"answer_distance_{where}": row.get(f"apart_{where}") for where in ("hole", "rest")}
        about = {"preset": row["model"], "data": "flowers", "steps": row["steps"], "seeds": 1}
        about |= {"settings": MODELS[row["model"]].settings, "places": [row["place"]]}
        shown += report.row({"model": f"`{row['model']}`"}, values, model=row["model"], **about)
    report.publish("degradation-quality", shown, write)


if __name__ == "__main__":
    main()
