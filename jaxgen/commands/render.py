"""python -m jaxgen render: an image of a scene file by path tracing, or views of a learned scene."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from jaxgen.core.errors import InputError
from jaxgen.core.progress import progress
from jaxgen.core.ranges import Count, Range, Seed, Signed
from jaxgen.media import marks, output_files
from jaxgen.media.animation import ANIMATIONS, check_animation, save_animation
from jaxgen.media.image_grid import save_png, to_u8
from jaxgen.media.radiance import ENDINGS, Tone, save_radiance

What = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SCENE|RUN|NAME")]
RAYS = 2**16  # that are traced at once


def render(
    what: What,
    out: Path | None = None,
    size: str = "",
    samples: Annotated[int, Range(0)] = 0,
    depth: Annotated[int, Range(0, 1000)] = 0,
    tone: Tone = "clip",
    exposure: Signed = 0.0,
    path: Literal["orbit"] = "orbit",
    frames: Count = 60,
    fps: Annotated[int, Range(1, 120)] = 20,
    show: Literal["image", "distance"] = "image",
    seed: Seed = 0,
    overwrite: bool = False,
):
    """Render a scene file by path tracing, or views of a scene that a net has learned, and write the image or film.

    The format of scene files is documented on the page of the family `rendering`; "cornell" is the built-in Cornell
    box.

    Args:
        what: a scene file (.json), or cornell; or the folder of a run of train.rendering
        out: the output file. Of a scene: .png, .jpg, .webp or .tif are tone-mapped, .exr and .npy hold linear radiance;
            unset: SCENE.png. Of a run: .mp4, .webm, .mkv, .gif or .apng for a film, .png for its first view; unset:
            RUN-orbit.gif
        size: width and height, such as 320x240; unset: the scene's, or those of the run's images
        samples: paths of each pixel of a scene: four times as many halve the noise; 0: the scene's
        depth: segments of the longest path, 1 shows light sources only, 2 direct light; 0: the scene's
        tone: clip: what is brighter than 1 is white; reinhard and filmic compress bright parts
        exposure: in stops: +1 doubles the light
        path: the way of the camera: orbit, a circle around what the cameras of the run's data look at
        frames: views on the circle
        fps: views in a second
        show: of a run: the image, or the distance of what is seen, near is dark
        seed: the random seed: the same seed gives the same image
        overwrite: replace existing files
    """
    if what.endswith(".json") or not Path(what).exists():
        return render_scene(what, out, parse_size(size), samples, depth, tone, exposure, seed, overwrite)
    del path  # one so far
    render_run(what, out, parse_size(size), frames, fps, show, overwrite)


def render_scene(
    scene: str,
    out: Path | None,
    size: tuple[int, int] | None,
    samples: int,
    depth: int,
    tone: Tone,
    exposure: float,
    seed: int,
    overwrite: bool,
):
    """Render a scene file by path tracing, and write the image."""
    from jaxgen.rendering.scene_file import open_scene

    target = out or Path(f"{Path(scene).stem}.png")
    output_files.check(target, ENDINGS, overwrite, given=[Path(scene)])
    if not -64 <= exposure <= 64:
        raise InputError(f"exposure must be from -64 to 64 stops, not {exposure:g}.")
    file = open_scene(scene, size)
    samples, depth = samples or file.samples, depth or file.depth
    light, error = path_traced(file.scene, depth, samples, seed)
    save_radiance(target, light, None, tone, exposure)
    height, width = light.shape[:2]
    words = "".join(f" {each:.4g}" for each in light.mean((0, 1)))
    noise = f", standard error of a pixel {error:.3g}" if samples > 1 else ""
    print(f"{width} x {height}, {samples} paths a pixel of depth {depth}: {target}, mean radiance{words}{noise}")


def render_run(
    name: str, out: Path | None, size: tuple[int, int] | None, frames: int, fps: int, show: str, overwrite: bool
):
    """Render views of a run's scene from cameras on a circle, and write a film or the first of them."""
    from jaxgen.inference.opening import mark_of, open_trained, task_of
    from jaxgen.inference.view_synthesis import of_size, orbit_of, renderer_of, views

    renderer_of(task_of(name), name)
    target = out or Path(f"{Path(name).name}-orbit.gif")
    output_files.check(target, (*ANIMATIONS, ".png"), overwrite)
    film = target.suffix.lower() != ".png"
    if film:
        check_animation(target, fps)
    opened = open_trained(name)
    run = of_size(opened.run, size)
    task = run.model.task(run.steps)
    cameras = orbit_of(run, task, frames)[: frames if film else 1]
    mark = mark_of(marks.DRAWN, name, opened)
    made = np.zeros((0, 0, 3))  # the last view
    with progress("rendering", len(cameras), unit="views") as done:

        def pixels():
            nonlocal made
            for number, (made, distance) in enumerate(views(opened, run, cameras), 1):
                near, far = distance.min(), distance.max()
                grey = (distance - near) / max(far - near, 1e-6) * 2 - 1
                yield to_u8(np.repeat(grey, 3, -1) if show == "distance" else made)
                done(number)

        if film:
            save_animation(target, pixels(), fps, mark)
        else:
            save_png(target, next(pixels()), mark)
    height, width = made.shape[:2]
    print(f"{len(cameras)} views of {name}, {width} x {height}: {target}")


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
