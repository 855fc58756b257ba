"""python -m jaxgen project: GAN inversion, the latent of a given image."""

from pathlib import Path
from typing import Any, Literal

import numpy as np

from jaxgen.commands.shared import PNG, Folder, ImageFile
from jaxgen.core.errors import at_least
from jaxgen.core.ranges import Seed
from jaxgen.media import marks, output_files


def project(
    run: Folder,
    image: ImageFile,
    out: Path = Path("projected.png"),
    steps: int = 500,
    distance: Literal["pixels", "lenet", "efficientnet_lite0"] | None = None,
    label: str | None = None,
    seed: Seed = 0,
    overwrite: bool = False,
):
    """Find the latent that best reproduces an image (inversion).

    Writes the target and its reproduction side by side, and a .npz with the latent ("w", or "z" if the model has no w),
    "label", "image", and the "loss" of each step.

    Args:
        run: the run's folder
        image: an image file; it is cropped and resized to the model's size
        out: the output file, a .png
        steps: number of optimisation steps (Adam)
        distance: the loss: the squared error of the pixels (pixels), with that of the features of a net added (lenet,
            efficientnet_lite0); unset: lenet for grey images up to 64x64, efficientnet_lite0 for colour images if it
            is installed, else pixels
        label: the image's class, by name or number; unset: the class of the nearest of 64 samples, or for a model with
            a w no class
        seed: the random seed of the first samples and of the noise
        overwrite: replace existing files
    """
    from jaxgen.core.config import Mesh
    from jaxgen.core.progress import tracked
    from jaxgen.core.spec import image_of
    from jaxgen.inference import inversion as search
    from jaxgen.inference import latent_space
    from jaxgen.inference.sampling import class_named, classes_of
    from jaxgen.media.image_grid import grid, save_npz, save_png, to_u8
    from jaxgen.pretrained.feature_distances import choose_distance, features_of
    from jaxgen.runs.config_io import load_config, task_of
    from jaxgen.runs.load import open_run

    at_least(1, steps=steps)
    beside = output_files.beside(out, ".npz")
    output_files.check(out, PNG, overwrite, [beside], given=[image])
    task = task_of(run)
    linear = latent_space.latent_of(task).linear
    classes = classes_of(task, None) if label is None else (class_named(task, label),)
    shape = image_of(task)
    target = search.read_image(image, shape, load_config(run).data)
    distance = distance or choose_distance(shape)
    features = features_of(distance)
    opened = open_run(run, Mesh(data=1))
    ticks = lambda x: tracked(x, "projecting", len(x))  # noqa: E731
    found = search.project(latent_space.Entry(opened, 64), target, steps, seed, classes, features, ticks)
    label_array = {} if found.label is None else {"label": found.label}
    arrays: dict[str, Any] = {
        "w" if linear else "z": found.latent,
        "image": to_u8(found.image),
        "loss": found.losses,
        **label_array,
    }
    print(f"PSNR {found.psnr:.2f} dB by {distance} after {steps} steps", flush=True)
    mark = marks.of_run(marks.EDITED, run, opened, seed)
    with output_files.together():
        save_png(out, grid(np.concatenate([target, found.image]), 2), mark)
        save_npz(beside, mark, step=opened.step, psnr=found.psnr, **arrays)
    print(f"{out}, {beside}")
