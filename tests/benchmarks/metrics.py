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


def scores(data: Path, out: Path, seeds: int) -> tuple[list[dict[str, Any]], str]:
    """Return a row for each set of images, and the protocol they share."""
    mnist = ("--data.source", "tfds:mnist", "--data.dir", str(data / "tfds"))
    dcgan = out / "dcgan-mnist"
    command("train.gan", "--preset", "dcgan", *mnist, "--model.width", "64", "--steps", "2000", "--out", str(dcgan))
    gan = imported(data / "weights" / "mnist_gan_mlp_G--300.ckpt", "gan", out / "gan-mlp", *mnist)
    found, protocol = [], {}
    for name, run, more in (
        ("`dcgan` at width 64, 2,000 steps", dcgan, ("--floor", "test")),
        ("imported `mnist_gan_mlp_G`", gan, ()),
    ):
        rows = measured(run, "--metrics", SCORES, "--seeds", str(seeds), *more)
        for of in dict.fromkeys(row["of"] for row in rows):
            values = {row["metric"]: row for row in rows if row["of"] == of}
            protocol = values["fid_lenet"]
            label = name if of == "samples" else "floor: the real test set"
            found.append({"pictures": label, **{metric: shown(values[metric]) for metric in SHOWN}})
    text = (
        f"MNIST, {protocol['samples']:,} images beside the {protocol['real']:,} of the training set (precision to "
        f"coverage: as many of them), features of the package's LeNet-5 (SHA-256 {protocol['extractor_sha256']}...), "
        f"moving averages of the weights, means of {seeds} seeds with 95 % intervals."
    )
    return found, text


def shown(row: dict[str, Any]) -> str:
    return f"{row['value']:.3g}" + (f" ± {row['interval95']:.2g}" if "interval95" in row else "")


def accuracies(data: Path, out: Path) -> list[dict[str, Any]]:
    """Return a row for each classifier and set."""
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
        run = imported(file, preset, out / f"{preset}-{len(rows)}", *settings)
        values = {row["metric"]: row for row in measured(run, "--metrics", "accuracy", "--split", split)}
        row = {"weights": name, "pictures": on, "count": values["top1"]["examples"]}
        rows.append(
            row | {"top-1": f"{100 * values['top1']['value']:.2f} %", "top-5": f"{100 * values['top5']['value']:.2f} %"}
        )
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of real data")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/metrics"), help="where runs are kept (default %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="of the samples (default %(default)s)")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    wanted = parser.parse_args()
    wanted.out.mkdir(parents=True, exist_ok=True)
    data = wanted.data.absolute()
    report.publish("accuracy", accuracies(data, wanted.out), "By `python -m jaxgen evaluate`.", wanted.write)
    report.publish("scores", *scores(data, wanted.out, wanted.seeds), wanted.write)
