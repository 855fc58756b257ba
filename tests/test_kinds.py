"""Examples of any kind through the unchanged loop and commands: trained, resumed, sampled, evaluated, written to files.

Models of ten lines each (tests/toys) represent future families.
"""

import json
import wave

import numpy as np
import pytest
from PIL import Image

from jaxgen import zoo
from jaxgen.training.stopping import Stop

TOYS = {
    "toy-video": "tests.toys.video.predictor",
    "toy-audio": "tests.toys.audio.tones",
    "toy-motion": "tests.toys.motion.completion",
    "toy-text": "tests.toys.text.bigram",
}


def arrays_of(preset: str, count: int, seed: int) -> dict[str, np.ndarray]:
    """Return data that each toy can learn."""
    rng = np.random.default_rng(seed)
    if preset == "toy-video":  # an image that moves down a pixel a frame
        whole = rng.integers(0, 256, (count, 1, 8, 8, 1), np.uint8)
        frames = np.concatenate([np.roll(whole, t, 2) for t in range(5)], 1)
        return {"past": frames[:, :3], "future": frames[:, 3:]}
    if preset == "toy-audio":
        label = np.arange(count) % 2
        time = np.arange(400) / 8000 * (1 + label[:, None]) * 440 * 2 * np.pi
        return {"audio": (20000 * np.sin(time)).astype(np.int16)[..., None], "label": label}
    if preset == "toy-motion":
        pose = rng.normal(size=(count, 6, 4, 3)).astype(np.float32)
        pose[:, :, 2:] = 0.5 * pose[:, :, :2]
        return {"seen": pose[:, :, :2], "pose": pose}
    return {"tokens": (rng.integers(0, 5, (count, 1)) + np.arange(6)) % 5}


@pytest.fixture
def toy(monkeypatch, tmp_path, request):
    """A toy's preset, its family, its data as a .npz with both splits, and a folder."""
    preset = request.param
    monkeypatch.setattr(zoo, "ZOO", {**zoo.ZOO, **TOYS})
    train, test = arrays_of(preset, 64, 0), arrays_of(preset, 20, 1)
    path = tmp_path / "data.npz"
    np.savez(path, **train, **{f"{name}_test": x for name, x in test.items()})  # pyright: ignore[reportArgumentType]
    return preset, zoo.family_of(preset), path, tmp_path


def metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def check_file(path, preset: str, count: int):
    """Check that a file of samples is one of its kind."""
    if preset in ("toy-video", "toy-motion"):
        with Image.open(path) as file:
            assert file.format == "GIF" and file.n_frames > 1  # pyright: ignore[reportAttributeAccessIssue]
    elif preset == "toy-audio":
        with wave.open(str(path)) as file:
            assert file.getframerate() == 8000 and file.getnframes() == count * (400 + 800)
    else:
        lines = path.read_text().splitlines()
        assert len(lines) == count and all(len(line.split()) == 6 for line in lines)


ENDINGS = {"toy-video": ".gif", "toy-audio": ".wav", "toy-motion": ".gif", "toy-text": ".txt"}
METRICS = {"toy-video": "psnr_rgb", "toy-audio": "loss", "toy-motion": "mpjpe", "toy-text": "nll_1"}


@pytest.mark.parametrize("toy", list(TOYS), indirect=True)
def test_a_new_kind_is_trained_resumed_sampled_evaluated_and_written(toy, cli, monkeypatch):
    preset, family, path, folder = toy
    monkeypatch.chdir(folder)
    args = [f"train.{family}", "--preset", preset, "--data.source", f"npz:{path}", "--mesh.data", "1"]
    measured = ["--eval.every", "8", "--eval.batches", "0", "--eval.metrics", METRICS[preset]]
    cli(0, *args, *measured, "--out", "whole")
    whole = metrics(folder / "whole")
    losses = [line[next(k for k in line if k.endswith("/loss"))] for line in whole]
    assert losses[-1] < losses[0]

    # A run that is killed at its first checkpoint and resumed is the same run.
    with monkeypatch.context() as patched:
        patched.setattr(Stop, "asked", lambda self, at: at == 4)
        cli(143, *args, *measured, "--out", "parts")
    said = cli(0, *args, *measured, "--out", "parts")
    assert "Resuming parts at step 4" in said and metrics(folder / "parts") == whole

    # Previews and samples are files of the kind, by the unchanged commands.
    ending = ENDINGS[preset]
    check_file(folder / "whole" / "samples" / f"000008{ending}", preset, 8 if preset == "toy-video" else 4)
    if preset in ("toy-video", "toy-motion"):
        assert (folder / "whole" / "predictions" / f"000008{ending}").exists()
    elif preset == "toy-audio":
        assert (folder / "whole" / "reconstructions" / "000008.wav").exists()
        with Image.open(folder / "whole" / "samples" / "000008.png") as file:
            assert file.format == "PNG" and min(file.size) >= 96, "spectrograms beside sounds"
    cli(0, "generate", "whole", "--count", "3", "--out", f"made{ending}")
    check_file(folder / f"made{ending}", preset, 3)
    cli(0, "generate", "whole", "--count", "3", "--out", "made.npz", "--overwrite")
    with np.load(folder / "made.npz") as file:
        name = {"toy-video": "future", "toy-audio": "audio", "toy-motion": "pose", "toy-text": "tokens"}[preset]
        assert len(file[name]) == 3
    printed = cli(2, "generate", "whole", "--out", "made.jpg")
    assert ending in printed

    # The metrics of held-out examples follow from their kind.
    cli(0, "evaluate", "whole", "--split", "test", "--metrics", METRICS[preset])
    lines = [json.loads(line) for line in (folder / "whole" / "evaluations.jsonl").read_text().splitlines()]
    assert len(lines) == 1 and np.isfinite(lines[0]["value"])
    logged = whole[-1]["eval/test/" + lines[0]["metric"]]
    assert lines[0]["value"] == pytest.approx(logged, rel=1e-5), "in training and afterwards"


@pytest.mark.parametrize("toy", ["toy-video"], indirect=True)
def test_a_mistake_gives_one_sentence(toy, cli, monkeypatch):
    preset, family, path, folder = toy
    monkeypatch.chdir(folder)
    args = [f"train.{family}", "--preset", preset, "--mesh.data", "1"]
    arrays = arrays_of(preset, 8, 0)
    np.savez(folder / "short.npz", past=arrays["past"], future=arrays["future"][:, :1])
    printed = cli(2, *args, "--data.source", f"npz:{folder / 'short.npz'}")
    assert "'future' of shape (2, 8, 8, 1), the data has (1, 8, 8, 1)" in printed
    np.savez(folder / "other.npz", frames=arrays["past"])
    assert "holds frames: the model needs" in cli(2, *args, "--data.source", f"npz:{folder / 'other.npz'}")
    assert "needs 'past'" in cli(2, *args, "--data.source", "digits")
    cli(0, *args, "--data.source", f"npz:{path}", "--out", "run")
    assert "neither a likelihood nor an encoder" in cli(2, "score", "run", f"npz:{path}")
    assert "snr is a metric of audio, not of video" in cli(2, "evaluate", "run", "--split", "test", "--metrics", "snr")
    assert "no latent vector" in cli(2, "interpolate", "run")
    printed = cli(2, "evaluate", "run", "--metrics", "fid_lenet")
    assert printed.startswith("lenet sees images, the samples are clips: ask for fvd_action_moving_shapes")
