"""python -m jaxgen render: an image of a scene file, by path tracing."""

from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from jaxgen.core.errors import InputError
from jaxgen.core.progress import progress
from jaxgen.core.ranges import Range, Seed, Signed
from jaxgen.media import output_files
from jaxgen.media.radiance import ENDINGS, Tone, save_radiance

What = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SCENE")]
RAYS = 2**16  # that are traced at once


def render(
    scene: What,
    out: Path | None = None,
    size: str = "",
    samples: Annotated[int, Range(0)] = 0,
    depth: Annotated[int, Range(0, 1000)] = 0,
    tone: Tone = "clip",
    exposure: Signed = 0.0,
    seed: Seed = 0,
    overwrite: bool = False,
):
    """Render a scene file by path tracing, and write the image.

    The format of scene files is documented on the page of the family `rendering`; "cornell" is the built-in Cornell
    box.

    Args:
        scene: a scene file (.json), or cornell
        out: the output file: .png, .jpg, .webp or .tif are tone-mapped, .exr and .npy hold linear radiance; unset:
            SCENE.png
        size: width and height of the image, such as 320x240; unset: the scene's
        samples: paths of each pixel: four times as many halve the noise; 0: the scene's
        depth: segments of the longest path, 1 shows light sources only, 2 direct light; 0: the scene's
        tone: clip: what is brighter than 1 is white; reinhard and filmic compress bright parts
        exposure: in stops: +1 doubles the light
        seed: the random seed: the same seed gives the same image
        overwrite: replace existing files
    """
    from jaxgen.rendering.scene_file import open_scene

    target = out or Path(f"{Path(scene).stem}.png")
    output_files.check(target, ENDINGS, overwrite, given=[Path(scene)])
    if not -64 <= exposure <= 64:
        raise InputError(f"exposure must be from -64 to 64 stops, not {exposure:g}.")
    file = open_scene(scene, parse_size(size))
    samples, depth = samples or file.samples, depth or file.depth
    light, error = path_traced(file.scene, depth, samples, seed)
    save_radiance(target, light, None, tone, exposure)
    height, width = light.shape[:2]
    words = "".join(f" {each:.4g}" for each in light.mean((0, 1)))
    noise = f", standard error of a pixel {error:.3g}" if samples > 1 else ""
    print(f"{width} x {height}, {samples} paths a pixel of depth {depth}: {target}, mean radiance{words}{noise}")


def parse_size(text: str) -> tuple[int, int] | None:
    """Return (width, height) of "320x240"; None of ""."""
    parts = text.split("x")
    if text and not (len(parts) == 2 and all(each.isdecimal() and 0 < int(each) <= 2**16 for each in parts)):
        raise InputError(f"size must be a width and a height such as 320x240, not {text!r}.")
    return (int(parts[0]), int(parts[1])) if text else None


def path_traced(scene, depth: int, samples: int, seed: int) -> tuple[np.ndarray, float]:
    """Return the linear image f32[h w 3], and the mean standard error of its pixels; the progress is shown."""
    import jax

    from jaxgen.rendering.path_tracing import render

    camera = scene.camera
    rays = min(camera.pixels, RAYS)  # some of the pixels of a large image, or all those of a small one
    starts = range(0, camera.pixels, rays)
    traced = jax.jit(render, static_argnums=3)
    key = jax.random.key(seed)
    total, square = np.zeros((2, camera.pixels, 3))
    with progress("rendering", samples * camera.pixels, unit="paths") as show:
        for sample in range(samples):
            for start in starts:
                pixels = np.arange(start, start + rays) % camera.pixels  # the last part goes on at the first pixel
                here = jax.random.fold_in(jax.random.fold_in(key, sample), start)
                found = np.asarray(traced(scene, pixels, here, depth), np.float64)[: camera.pixels - start]
                total[start : start + rays] += found
                square[start : start + rays] += found**2
                show(sample * camera.pixels + min(start + rays, camera.pixels))
    mean = total / samples
    variance = np.maximum(square / samples - mean**2, 0) / max(samples - 1, 1)
    image = mean.reshape(camera.height, camera.width, 3).astype(np.float32)
    return image, float(np.sqrt(variance).mean())
