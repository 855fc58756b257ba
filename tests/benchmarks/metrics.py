"""Scores and accuracies on real data: python -m tests.benchmarks.metrics --data DIR [--write] [--seeds N] [--out DIR]

DIR is the folder of real data (JAXGEN_TEST_DATA). On MNIST, with the LeNet-5 of the package: the DCGAN of the README's
command (trained first where `--out` has no run of it: minutes), another framework's GAN, and the floor, real digits of
the test set beside those of the training set. Accuracies: the imported classifiers and the LeNet-5 of the package. All
of it by the commands that a user has.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jaxgen.evaluation.results import Result
from tests.benchmarks import report

SCORES = "fid_lenet,kid_lenet,pr_lenet,dc_lenet"
SHOWN = ("fid_lenet", "kid_lenet", "precision_lenet", "recall_lenet", "density_lenet", "coverage_lenet")


def command(*args: str):
    subprocess.run([sys.executable, "-m", *args], check=True, stdout=subprocess.DEVNULL)


def measured(run: Path, *args: str) -> list[dict[str, Any]]:
    """Return the rows that `evaluate` writes for a run."""
    before = len(lines(run))
    command("jaxgen", "evaluate", str(run), *args)
    return lines(run)[before:]


def lines(run: Path) -> list[dict[str, Any]]:
    file = run / "evaluations.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def imported(weights: Path, preset: str, run: Path, *settings: str) -> Path:
    if not run.exists():
        command("jaxgen", "import", str(weights), "--model", preset, "--out", str(run), *settings)
    return run


def cifar(data: Path, out: Path) -> Path:
    """Write the 2,000 lossless CIFAR-10 images as .npz: each row of a PNG is one of them."""
    images, labels = [], []
    for i in (0, 1):
        with Image.open(data / "cifar10" / f"cifar10_batch_{i}.png") as picture:
            images.append(np.asarray(picture.convert("RGB")).reshape(-1, 32, 32, 3))
        raw = (data / "cifar10" / f"cifar10_batch_{i}_labels-idx1-ubyte").read_bytes()
        labels.append(np.frombuffer(raw[8:], np.uint8).astype(np.int32))
    np.savez(out, image=np.concatenate(images), label=np.concatenate(labels))
    return out


def scores(data: Path, out: Path, seeds: int) -> list[Result]:
    """Return the results of each set of images."""
    mnist = ("--data.source", "tfds:mnist", "--data.dir", str(data / "tfds"))
    dcgan = out / "dcgan-mnist"
    command("train.gan", "--preset", "dcgan", *mnist, "--model.width", "64", "--steps", "2000", "--out", str(dcgan))
    gan = imported(data / "weights" / "mnist_gan_mlp_G--300.ckpt", "gan", out / "gan-mlp", *mnist)
    found = []
    about = {"data": "MNIST"}
    trained = {"model": "dcgan", "preset": "dcgan", "steps": 2000, "settings": "--model.width 64"}
    theirs = {"model": "mnist_gan_mlp_G", "preset": "gan", "weights": "mnist_gan_mlp_G"}
    for name, run, more, known in (
        ("`dcgan` at width 64, 2,000 steps", dcgan, ("--floor", "test"), trained),
        ("imported `mnist_gan_mlp_G`", gan, (), theirs),
    ):
        rows = measured(run, "--metrics", SCORES, "--seeds", str(seeds), *more)
        for of in dict.fromkeys(row["of"] for row in rows):
            values = {row["metric"]: value_of(row) for row in rows if row["of"] == of and row["metric"] in SHOWN}
            label = {"images": name if of == "samples" else "floor: the real test set"}
            fields: dict[str, Any] = known | {"seeds": seeds} if of == "samples" else {"model": "floor"}
            found += report.row(label, values, **about, **fields)
    return found


def value_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return the value and the interval of a line of `evaluate`."""
    return {"value": row["value"], "interval": row.get("interval95")}


def accuracies(data: Path, out: Path) -> list[Result]:
    """Return the results of each classifier and set."""
    weights = data / "weights"
    mnist = ("--data.source", "tfds:mnist", "--data.dir", str(data / "tfds"))
    lossless = cifar(data, out / "cifar.npz")
    jpeg = data / "cifar10" / "cifar10_jpeg_test_2000.zip"
    package = Path(__file__).parents[2] / "jaxgen" / "pretrained" / "weights" / "lenet_mnist.safetensors"
    plain = ("--model.fit", "bilinear", "--model.mean", "0", "--model.std", "1")
    resnet = weights / "resnet20-12fca82f.th"
    rows = []
    for name, file, preset, settings, split, on in (
        ("the package's LeNet-5", package, "lenet5", (*mnist, "--model.image", "32", "32", "1"), "test", "MNIST test"),
        (
            "imported `mnist_lenet`",
            next(weights.glob("mnist_lenet*")),
            "lenet5",
            (*mnist, *plain),
            "test",
            "MNIST test, bilinear",
        ),
        (
            "imported ResNet-20",
            resnet,
            "resnet20",
            ("--data.source", f"npz:{lossless}"),
            "all",
            "CIFAR-10 train, lossless",
        ),
        ("imported ResNet-20", resnet, "resnet20", ("--data.source", f"folder:{jpeg}"), "test", "CIFAR-10 test, JPEG"),
    ):
        run = imported(file, preset, out / f"{preset}-{on.partition(',')[0].replace(' ', '-')}", *settings)
        found = {row["metric"]: row for row in measured(run, "--metrics", "accuracy", "--split", split)}
        values = {"count": found["top1"]["examples"]}
        values |= {f"accuracy_{metric}": found[metric]["value"] for metric in ("top1", "top5")}
        ours: dict[str, Any] = (
            {"settings": "--model.image 32 32 1", "steps": 12_000} if file == package else {"weights": file.stem}
        )
        model = preset if file in (package, resnet) else file.stem
        rows += report.row({"weights": name, "images": on}, values, model=model, preset=preset, data=on, **ours)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of real data")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/metrics"), help="where runs are kept (default %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="of the samples (default %(default)s)")
    parser.add_argument("--write", action="store_true", help=report.WRITE)
    wanted = parser.parse_args()
    wanted.out.mkdir(parents=True, exist_ok=True)
    data = wanted.data.absolute()
    report.publish("accuracy", accuracies(data, wanted.out), wanted.write)
    report.publish("scores", scores(data, wanted.out, wanted.seeds), wanted.write)
