"""python -m jaxgen project: the latent of a given image."""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from jaxgen.commands.shared import PNG, Folder
from jaxgen.core.errors import at_least
from jaxgen.media import output_files


def project(
    run: Folder,
    picture: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PICTURE")],
    out: Path = Path("projected.png"),
    steps: int = 500,
    distance: Literal["pixels", "lenet", "efficientnet_lite0"] | None = None,
    label: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
):
    """Find the latent whose image is nearest to a given one.

    Writes the target and the image that was found side by side, and the latent beside them as a .npz ("w", "z" where
    the model has no w, "label", "image", and the "loss" of each step).

    Args:
        run: the folder of the run
        picture: a file, which is cut and resized to the model's size
        out: a .png
        steps: of Adam
        distance: what is made small beside the squared error of the pixels: nothing (pixels), that of the features of
            lenet or of efficientnet_lite0; unset: lenet for grey images up to 64x64, efficientnet_lite0 for colour
            where it is installed, else pixels
        label: the image's class; unset: that of the nearest of 64 samples, or with a w of no class in particular
        seed: of the samples it starts from, and of the noise
        overwrite: replace what is there
    """
    from jaxgen.core.config import Mesh
    from jaxgen.core.spec import image_of
    from jaxgen.inference import inversion as search
    from jaxgen.inference import latent_space
    from jaxgen.inference.sampling import classes_of
    from jaxgen.media.image_grid import grid, progress, save_npz, save_png, to_u8
    from jaxgen.pretrained.feature_distances import choose_distance, features_of
    from jaxgen.runs.config_io import load_config, task_of
    from jaxgen.runs.load import open_run

    at_least(1, steps=steps)
    at_least(0, seed=seed)
    beside = out.with_suffix(".npz")
    output_files.check(out, PNG, overwrite, [beside], given=[picture])
    task = task_of(run)
    linear = latent_space.latent_of(task).linear
    classes = classes_of(task, None if label is None else str(label))
    image = image_of(task)
    target = search.read_image(picture, image, load_config(run).data)
    distance = distance or choose_distance(image)
    features = features_of(distance)
    opened = open_run(run, Mesh(data=1))
    ticks = lambda x: progress(x, "projecting", len(x))  # noqa: E731
    found = search.project(latent_space.Entry(opened, 64), target, steps, seed, classes, features, ticks)
    save_png(out, grid(np.concatenate([target, found.image]), 2))
    told = {} if found.label is None else {"label": found.label}
    arrays: dict[str, Any] = {
        "w" if linear else "z": found.latent,
        "image": to_u8(found.image),
        "loss": found.losses,
        **told,
    }
    save_npz(beside, step=opened.step, psnr=found.psnr, **arrays)
    print(f"PSNR {found.psnr:.2f} dB by {distance} after {steps} steps: {out}, {beside}")
