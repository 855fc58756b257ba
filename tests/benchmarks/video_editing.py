"""Edits of clips: python -m tests.benchmarks.video_editing --data DIR [--memory] [--only EDIT] [--write]

DIR is the folder of real data (JAXGEN_TEST_DATA). Each edit is compared with the simplest way: interpolation with the
mean of both frames, denoising with the input and with the shipped net alone, removal with a hole that continues its
surroundings, stabilisation with the shaken clip. With --memory: the peak of the resident memory of `edit-video` in a
process of its own, for a clip and one twice as long; --long N adds a clip of N frames.
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from jaxgen.core.cache import use_compilation_cache
from jaxgen.data.video_folder import open_clip
from jaxgen.inference.video_editing import frame_model
from jaxgen.media.video_edits import interpolation, removal, stabilisation
from jaxgen.media.video_edits.denoising import denoised
from jaxgen.media.video_edits.footage import Frame, to_bytes, to_float
from tests.benchmarks import report

SIGMA = 25  # of the noise, of 255
PEAK = (
    "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True); "
    "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
)
SIZE = 360, 640  # of the clip whose memory is measured


def frames_of(data: Path, name: str, numbers: range) -> list[np.ndarray]:
    """Return frames u8[h w 3] of a clip."""
    return list(open_clip(data / "video" / name).frames(numbers))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(np.square(a.astype(float) - b).mean(), 1e-10)))


def interpolated(data: Path) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Leave out every second frame of some, and interpolate it."""
    for name, step in (("bigbuckbunny.mp4", 12), ("bikes.mp4", 20), ("carphone_pristine.mp4", 6), ("realshort.mp4", 4)):
        every = frames_of(data, name, range(len(open_clip(data / "video" / name))))
        scores = []
        for k in range(2, len(every) - 1, step):
            before, truth, after = every[k - 1 : k + 2]
            made = to_bytes(interpolation.by_flow(to_float(before), to_float(after), [0.5])[0])
            scores.append((psnr((before.astype(float) + after) / 2, truth), psnr(made, truth)))
        simple, ours = np.mean(scores, 0)
        yield {"edit": "interpolation", "clip": name}, {"psnr_rgb@simple": simple, "psnr_rgb": ours}


def cleaned(data: Path) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Add noise and remove it."""
    net = frame_model("denoise").restored
    clips = (
        ("carphone_pristine.mp4", 1, range(40, 52)),
        ("bikes.mp4", 1, range(100, 108)),
        ("bigbuckbunny.mp4", 2, range(60, 68)),
    )
    for name, less, numbers in clips:
        clean = [frame[::less, ::less] for frame in frames_of(data, name, numbers)]
        noise = np.random.RandomState(0)
        noisy = [np.clip(np.rint(x + noise.normal(0, SIGMA, x.shape)), 0, 255).astype(np.uint8) for x in clean]
        stream = lambda noisy=noisy: (Frame(t / 25, x) for t, x in enumerate(noisy))  # noqa: E731
        mean = lambda made, clean=clean: float(np.mean([psnr(a, b) for a, b in zip(made, clean, strict=True)]))  # noqa: E731
        values = {
            "psnr_rgb@simple": mean(noisy),
            "psnr_rgb@single": mean([to_bytes(net(to_float(x))) for x in noisy]),
            "psnr_rgb@no_net": mean([frame.pixels for frame in denoised()(stream())]),
            "psnr_rgb": mean([frame.pixels for frame in denoised(net)(stream())]),
        }
        yield {"edit": "denoising", "clip": name}, values


def emptied(data: Path) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Hide a part of a clip, which then moves through the hole."""
    for name, less, numbers, place in (
        ("bigbuckbunny.mp4", 2, range(20, 44), (60, 76, 100, 120)),
        ("realshort.mp4", 1, range(4, 32), (110, 126, 150, 168)),
        ("carphone_pristine.mp4", 1, range(60, 84), (20, 40, 20, 40)),
    ):
        clean = [np.ascontiguousarray(frame[::less, ::less]) for frame in frames_of(data, name, numbers)]
        mask = np.zeros(clean[0].shape[:2], bool)
        mask[place[0] : place[1], place[2] : place[3]] = True
        grown = ndimage.binary_dilation(mask, iterations=removal.GROWN)  # as the edit does
        hidden = [np.where(mask[..., None], 255, x).astype(np.uint8) for x in clean]
        made = removal.removed(itertools.repeat(mask))(Frame(t / 25, x) for t, x in enumerate(hidden))
        scores = [
            (
                psnr(255 * removal.spread(to_float(given), grown)[mask], truth[mask]),
                psnr(frame.pixels[mask], truth[mask]),
            )
            for given, truth, frame in zip(hidden, clean, made, strict=True)
        ]
        simple, ours = np.mean(scores, 0)
        yield {"edit": "removal", "clip": name}, {"psnr_rgb@simple": simple, "psnr_rgb": ours}


def steadied(data: Path) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Shake a clip by known motions; each is a window that moves and turns in a larger frame."""
    name, edge = "bigbuckbunny.mp4", 40
    clean = [
        np.asarray(Image.fromarray(x).resize((640, 360), Image.Resampling.BICUBIC))
        for x in frames_of(data, name, range(60, 92))
    ]
    rng = np.random.RandomState(0)
    motions = []
    for down, right, degrees in zip(*rng.normal(0, (4, 4, 0.5), (len(clean), 3)).T, strict=True):
        turn, centre = np.exp(1j * np.deg2rad(degrees)), 319.5 + 179.5j
        shift = centre - turn * centre + right + 1j * down
        motions.append(np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag], [0, 0, 1]]))
    shaken = [
        np.ascontiguousarray(stabilisation.transformed(x, motion)[edge:-edge, edge:-edge])
        for x, motion in zip(clean, motions, strict=True)
    ]
    log: list[np.ndarray] = []
    stage = stabilisation.stabilised(12, border="fill", log=log)
    made = [frame.pixels for frame in stage(Frame(t / 25, x) for t, x in enumerate(shaken))]
    # Points of the clip in the shaken frames, and where they are shown; their own motion is that of the clip.
    corners = np.array([[100.0, 80], [540, 80], [100, 280], [540, 280]])
    before = np.array([stabilisation.moved(np.linalg.inv(motion), corners) - edge for motion in motions])
    after = np.array([stabilisation.moved(matrix, places) for matrix, places in zip(log, before, strict=True)])
    jitter = lambda x: float(np.sqrt(np.square(np.diff(x, axis=0)).sum(2).mean()))  # noqa: E731
    inner = lambda x: x[edge:-edge, edge:-edge]  # noqa: E731
    next_ = lambda frames: float(np.mean([psnr(inner(a), inner(b)) for a, b in itertools.pairwise(frames)]))  # noqa: E731
    yield (
        {"edit": "stabilisation", "clip": name},
        {
            "shake_pixels@simple": jitter(before), "shake_pixels": jitter(after),
            "psnr_next@simple": next_(shaken), "psnr_next": next_(made),
            "psnr_next@unshaken": next_([x[edge:-edge, edge:-edge] for x in clean]),
        },
    )  # fmt: skip


EDITS: dict[str, Callable[[Path], Iterator[Any]]] = {
    "interpolation": interpolated, "denoising": cleaned, "removal": emptied, "stabilisation": steadied,
}  # fmt: skip


def film(data: Path, path: Path, count: int):
    """Write a clip of so many frames, forwards and backwards through a real one."""
    import av

    clip = frames_of(data, "bigbuckbunny.mp4", range(100))
    small = [np.asarray(Image.fromarray(x).resize((SIZE[1], SIZE[0]), Image.Resampling.BICUBIC)) for x in clip]
    there_and_back = itertools.cycle([*small, *small[-2:0:-1]])
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        for number, x in enumerate(itertools.islice(there_and_back, count)):
            frame = av.VideoFrame.from_ndarray(x, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def memory(data: Path, only: str, long: int) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Measure commands in processes of their own."""
    with tempfile.TemporaryDirectory() as folder:
        mask = Path(folder) / "mask.png"
        Image.fromarray(np.pad(np.full((60, 80), 255, np.uint8), ((100, 200), (200, 360)))).save(mask)
        weights = data / "weights" / "fast_style_wave.zip"
        commands: dict[str, tuple[list[str], int]] = {  # with a number of frames well above what it looks ahead
            "cut, speed, text": (["--cut", "0.5:", "--speed", "1.5", "--text", "A text"], 150),
            "stabilise": (["--stabilise", "--smooth", "0.2"], 24),
            "remove": (["--remove", str(mask)], 40),
            "denoise": (["--denoise"], 12),
            "denoise, no net": (["--denoise", "--no-net"], 12),
            "interpolate": (["--interpolate", "2"], 12),
            "upscale": (["--upscale", "4"], 8),
            "style": (["--style-with", str(weights)], 8),
        }
        for name, (how, count) in commands.items():
            if only and only != name:
                continue
            for length in (count, 2 * count, *([long] if long else [])):
                path = Path(folder) / f"{length}.mp4"
                film(data, path, length)
                command = [sys.executable, "-m", "jaxgen", "edit-video", str(path), *how, "--overwrite"]
                # By a small process between: until it is another program, a process counts its parent's memory.
                found = subprocess.run([sys.executable, "-c", PEAK, *command], stdout=subprocess.PIPE, check=True)
                kibibytes = int(found.stdout.split()[-1])
                labels = {"edit": name, "frames": f"{length:,}"}
                values = {"peak_memory_gib": kibibytes / 2**20}
                print(labels, values, flush=True)
                yield labels, values


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of real data")
    parser.add_argument("--memory", action="store_true", help="measure the memory of the commands")
    parser.add_argument("--only", default="", help="one of the edits")
    parser.add_argument("--long", type=int, default=0, help="frames of a third, long clip")
    parser.add_argument("--write", action="store_true", help=report.WRITE)
    wanted = parser.parse_args()
    use_compilation_cache()
    rows = []
    if wanted.memory:
        for labels, values in memory(wanted.data, wanted.only, wanted.long):
            rows += report.row(labels, values, model="edit-video")
        report.publish("video-editing-memory", rows, wanted.write)
        return
    for name, measure in EDITS.items():
        if wanted.only in ("", name):
            for labels, values in measure(wanted.data):
                print(labels, values, flush=True)
                rows += report.row(labels, values, model="edit-video")
    report.publish("video-editing", rows, wanted.write)


if __name__ == "__main__":
    main()
