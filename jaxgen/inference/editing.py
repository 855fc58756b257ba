"""Image editing with a diffusion model (jaxgen/diffusion/conditions.py)."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgen.core.capabilities import Denoiser
from jaxgen.core.errors import InputError, at_least

if TYPE_CHECKING:
    from jaxgen.runs.load import Trained


def check_noise(noise: float, method: str):
    """Raise InputError for an invalid noise level, or for noise with a method that assumes a clean image."""
    if not 0 <= noise <= 255:
        raise InputError(f"--noise is a standard deviation of 255, not {noise:g}.")
    if noise and method != "dps":
        raise InputError(f"--method {method} takes the image for clean: write --method dps, or leave out --noise.")


class ImageEditor:
    """Edits of an image by the denoiser of a run, `count` answers each. Raises InputError before the run is opened."""

    def __init__(self, run: Path, count: int, seed: int, label: str | None, sampling: str, out: Path):
        from jaxgen.core.spec import image_of
        from jaxgen.inference.sampling import check_samples, class_named
        from jaxgen.runs.config_io import load_config, task_of

        at_least(1, count=count)
        task = task_of(run, sampling)
        denoiser = task.get(Denoiser)
        number = None if label is None else class_named(task, label)
        check_samples(task, count, f"--count {count}")
        if "classifier" in task.frozen and label is None:
            raise InputError("A classifier guides towards a class: say which with --label.")
        self.run, self.count, self.seed, self.label, self.sampling, self.out = run, count, seed, number, sampling, out
        self.config = load_config(run, sampling)
        self.image, self.taus, self.denoiser = image_of(task), denoiser.taus, denoiser
        self.coded = denoiser.encode is not None

    def check_pixels(self, instead: str):
        """Raise InputError if the model denoises latents, in which no single pixel is known."""
        if self.coded:
            raise InputError(f"This model denoises an autoencoder's latents, not pixels: {instead}.")

    def read(self, path: Path, image: tuple[int, int, int] | None = None) -> np.ndarray:
        """Return an image's file at the model's size, or another, f32[1 h w c] in [-1, 1]."""
        from jaxgen.inference.inversion import read_image

        return read_image(path, image or self.image, self.config.data)

    def read_mask(self, path: Path, original: Path) -> np.ndarray:
        """Return f32[1 h w 1], 1 where a mask's file is white. Raises InputError where it does not fit the image."""
        from jaxgen.data.image_decoding import decode_file

        found = self.read(path, (*self.image[:2], 1)) > 0
        (mask_width, mask_height), (width, height) = (decode_file(file).size for file in (path, original))
        if (mask_width, mask_height) != (width, height):  # as they are seen: turned as their EXIF says
            sizes = f"{mask_height}x{mask_width}, the image {height}x{width}"
            raise InputError(f"The mask {path} is {sizes}: they must have the same size.")
        if not found.any():
            raise InputError(f"The mask {path} is all black: nothing is to be painted.")
        return found.astype(np.float32)

    def start(self, d: Any, keys: Any) -> Any:
        from jaxgen.tasks.denoising import start

        return start(d, keys)

    def sample(self, denoise: Callable, d: Any, keys: Any, taus: Any = None, x: Any = None) -> Any:
        """Return what the run's sampler makes of noise, or of x at another grid's start."""
        from jaxgen.diffusion.samplers import sampler_of

        how = self.config.model.sampling
        draw = sampler_of(how.sampler, d.frame, how.churn, how.eta)
        return draw(denoise, self.start(d, keys) if x is None else x, d.taus if taus is None else taus, keys)

    def solve(self, method: str, denoise: Callable, d: Any, keys: Any, y: Any, way: Any, noise: float) -> Any:
        """Return samples whose degradation is y f[b h w c], which has noise of 255."""
        from jaxgen.diffusion import conditions

        if method == "ddnm":
            return self.sample(conditions.ddnm(denoise, y, way), d, keys)
        return self.sample(conditions.dps(denoise, y, way, noise / 127.5, d.frame), d, keys)

    def finish(self, paint: Callable, given: Any, shown: np.ndarray, text: str):
        """Write the grid of what is shown, then the answers paint(denoise, denoiser, keys, given) f32[n h w c].

        The denoiser's `encode` and `decode` take only images or latents.
        """
        import jax
        import jax.numpy as jnp

        from jaxgen.core import rng
        from jaxgen.core.config import Mesh
        from jaxgen.core.types import averaged
        from jaxgen.inference.inpainting import bound
        from jaxgen.media import marks
        from jaxgen.media.image_grid import grid, save_png
        from jaxgen.runs.load import open_run

        opened: Trained = open_run(self.run, Mesh(data=1), self.sampling)
        d = opened.task.get(Denoiser)

        def answers(state, frozen, given, seed):
            params, context = averaged(state, frozen)
            denoise, bare = bound(d, params, context, self.config.model.sampling, self.label)
            keys = rng.sample_keys(rng.fold(jax.random.key(seed), "edits"), jnp.arange(self.count))

            repeated = jax.tree.map(
                lambda v: v if len(v) > 1 else jnp.broadcast_to(v, (self.count, *v.shape[1:])), given
            )
            return jnp.clip(paint(denoise, bare, keys, repeated), -1, 1)

        made = jax.jit(answers)(opened.state, opened.frozen, jax.tree.map(jnp.asarray, given), np.uint32(self.seed))
        mark = marks.of_run(marks.EDITED, self.run, opened, self.seed)
        save_png(self.out, grid(np.concatenate([shown, np.asarray(made)])), mark)
        print(f"{self.count} answers of step {opened.step} {text}: {self.out}")
