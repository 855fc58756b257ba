"""The commands of what a diffusion or flow model does without training for it (diffusion/conditions.py)."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro

from jaxgen import outputs
from jaxgen.errors import InputError, at_least
from jaxgen.explore import PNG, Folder, task_of

if TYPE_CHECKING:
    from jaxgen.trained import Trained

Picture = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="PICTURE")]


def inpaint(
    run: Folder,
    picture: Picture,
    mask: Path,
    method: Literal["repaint", "ddnm", "dps"] = "repaint",
    times: int = 5,
    noise: float = 0.0,
    count: int = 7,
    seed: int = 0,
    label: int | None = None,
    sampling: str = "",
    out: Path = Path("inpainted.png"),
    overwrite: bool = False,
):
    """Paint what is hidden of a picture, in several ways: what is left of it, then the answers.

    Args:
        run: the folder of a diffusion or flow model's run
        picture: a file, which is cut and resized to the model's size
        mask: a picture of the same size, white where it is to be painted
        method: repaint takes each step several times, so that both parts fit each other; ddnm sets the known part right
            in each step of the run's own sampler; dps leads the samples to it by a gradient
        times: how often repaint takes a step
        noise: of the picture, its standard deviation of 255 (dps)
        count: how many answers
        seed: which answers
        label: the class that is painted; unset: none, of a model that is told classes
        sampling: settings of model.sampling other than the run's, such as steps=50
        out: a .png
        overwrite: replace what is there
    """
    import jax.numpy as jnp

    from jaxgen import inpainting
    from jaxgen.diffusion import conditions

    at_least(1, times=times)
    check_noise(noise, method)
    outputs.check(out, PNG, overwrite, given=[picture, mask])
    work = Work(run, count, seed, label, sampling, out)
    if method != "repaint":
        work.check_pixels("write --method repaint")
    inpainting.check(work.denoiser)
    known, hidden = work.read(picture), work.read_mask(mask, picture)

    def paint(denoise, d, keys, given):
        x0, unknown = given
        if method == "repaint":
            return inpainting.repainted(denoise, d, keys, x0, unknown, times)
        left = jnp.broadcast_to(1 - unknown, x0.shape)
        return work.solve(method, denoise, d, keys, x0 * left, conditions.masked(left), noise)

    work.finish(paint, (known, hidden), known * (1 - hidden) - hidden, f"by {method}")


def upscale(
    run: Folder,
    picture: Picture,
    factor: int = 2,
    method: Literal["ddnm", "dps"] = "ddnm",
    noise: float = 0.0,
    count: int = 7,
    seed: int = 0,
    label: int | None = None,
    sampling: str = "",
    out: Path = Path("upscaled.png"),
    overwrite: bool = False,
):
    """Draw pictures of the model's size whose means over squares are a given picture: the small one, then the answers.

    Args:
        run: the folder of a diffusion or flow model's run
        picture: a file, which is cut and resized to the model's size over factor
        factor: pixels of a square's side
        method: ddnm sets the means right in each step; dps leads the samples to them by a gradient
        noise: of the picture, its standard deviation of 255 (dps)
        count: how many answers
        seed: which answers
        label: the class that is drawn; unset: none, of a model that is told classes
        sampling: settings of model.sampling other than the run's, such as steps=50
        out: a .png
        overwrite: replace what is there
    """
    from jaxgen.diffusion import conditions

    at_least(2, factor=factor)
    check_noise(noise, method)
    outputs.check(out, PNG, overwrite, given=[picture])
    work = Work(run, count, seed, label, sampling, out)
    work.check_pixels("it can't enlarge pictures")
    h, w, c = work.image
    if h % factor or w % factor:
        raise InputError(f"--factor {factor} must divide both sides of the model's {h}x{w} pictures.")
    small: Any = work.read(picture, (h // factor, w // factor, c))
    way = conditions.shrunk(factor)

    def paint(denoise, d, keys, y):
        return work.solve(method, denoise, d, keys, y, way, noise)

    work.finish(paint, small, np.asarray(way.back(small)), f"from {w // factor}x{h // factor}")


def edit(
    run: Folder,
    picture: Picture,
    how: Literal["variation", "blend", "colourise", "deblur"] = "variation",
    other: Path | None = None,
    strength: float = 0.5,
    sigma: float = 1.0,
    method: Literal["ddnm", "dps"] = "ddnm",
    noise: float = 0.0,
    count: int = 7,
    seed: int = 0,
    label: int | None = None,
    sampling: str = "",
    out: Path = Path("edited.png"),
    overwrite: bool = False,
):
    """Change a picture: what was given, then the answers.

    Args:
        run: the folder of a diffusion or flow model's run
        picture: a file, which is cut and resized to the model's size
        how: variation adds noise and takes it out again (SDEdit); blend goes to another picture on a great circle
            between the noise that leads to both; colourise keeps the grey; deblur undoes a Gaussian blur
        other: the picture that blend goes to
        strength: the share of the sampler's steps that variation takes, in (0, 1]
        sigma: pixels of the blur
        method: of colourise and deblur: ddnm sets what is known right in each step; dps leads the samples to it by a
            gradient
        noise: of the picture, its standard deviation of 255 (dps)
        count: how many answers
        seed: which answers
        label: the class that is drawn; unset: none, of a model that is told classes
        sampling: settings of model.sampling other than the run's, such as steps=50
        out: a .png
        overwrite: replace what is there
    """
    import jax.numpy as jnp

    from jaxgen.diffusion import conditions, samplers

    check_noise(noise, method)
    outputs.check(out, PNG, overwrite, given=filter(None, [picture, other]))
    work = Work(run, count, seed, label, sampling, out)
    given: Any = work.read(picture)
    shown = given
    if (other is None) == (how == "blend"):
        raise InputError("--other names the picture that --how blend goes to: give both or neither.")
    if how in ("colourise", "deblur"):
        work.check_pixels("--how is variation or blend")
    elif method == "dps":
        raise InputError(f"--method dps is of what is known of a picture: --how {how} takes none.")
    if how == "colourise" and work.image[2] != 3:
        raise InputError("This model's pictures are not of three channels: it can't colourise.")
    rest, way = conditions.part(work.taus, strength), conditions.blurred(sigma)
    if how == "blend":
        assert other is not None
        given = shown = np.concatenate([given, work.read(other)])  # [2 h w c]
    if how == "colourise":
        way = conditions.grey()
        given = way.forward(given)
        shown = np.asarray(way.back(given))

    def vary(denoise, d, keys, x0):
        x = conditions.noised(d.encode(x0), float(rest[0]), keys, d.frame)
        return d.decode(work.sample(denoise, d, keys, rest, x))

    def blend(denoise, d, keys, both):
        one, two = conditions.inverted(denoise, d.encode(both), d.taus, d.frame)
        x = conditions.great_circle(one, two, jnp.linspace(0, 1, count))
        return d.decode(samplers.heun(denoise, x, d.taus))

    def undo(denoise, d, keys, y):
        return work.solve(method, denoise, d, keys, y, way, noise)

    paint = {"variation": vary, "blend": blend}.get(how, undo)
    work.finish(paint, given, shown, f"by {how}")


def check_noise(noise: float, method: str):
    """Raise InputError for a strength of noise that can't be, or of a method that knows of none."""
    if not 0 <= noise <= 255:
        raise InputError(f"--noise is a standard deviation of 255, not {noise:g}.")
    if noise and method != "dps":
        raise InputError(f"--method {method} takes the picture for clean: write --method dps, or leave out --noise.")


class Work:
    """A run whose denoiser answers `count` times what is asked of a picture. Raises InputError before it is opened."""

    def __init__(self, run: Path, count: int, seed: int, label: int | None, sampling: str, out: Path):
        from jaxgen import runs
        from jaxgen import sampling as drawing

        at_least(1, count=count)
        at_least(0, seed=seed)
        task = task_of(run, sampling)
        if task.denoiser is None:
            raise InputError(
                "This model takes no noise out of pictures: it needs a diffusion or flow model with an ODE."
            )
        if label is not None:
            drawing.classes_of(task, str(label))
        if "classifier" in task.frozen and label is None:
            raise InputError("A classifier guides towards a class: say which with --label.")
        self.run, self.count, self.seed, self.label, self.sampling, self.out = run, count, seed, label, sampling, out
        self.config = runs.load(run, sampling)
        self.image, self.taus, self.denoiser = drawing.image_of(task), task.denoiser.taus, task.denoiser
        self.coded = task.denoiser.encode is not None

    def check_pixels(self, instead: str):
        """Raise InputError where what is denoised are codes: of them nothing is known of a pixel."""
        if self.coded:
            raise InputError(f"This model takes noise out of an autoencoder's codes, not out of pixels: {instead}.")

    def read(self, path: Path, image: tuple[int, int, int] | None = None) -> np.ndarray:
        """Return a picture's file at the model's size, or another, f32[1 h w c] in [-1, 1]."""
        from jaxgen.projection import read_picture

        return read_picture(path, image or self.image, self.config.data)

    def read_mask(self, path: Path, picture: Path) -> np.ndarray:
        """Return f32[1 h w 1], 1 where a mask's file is white. Raises InputError where it does not fit the picture."""
        from jaxgen.data.pictures import decode

        found = self.read(path, (*self.image[:2], 1)) > 0
        (mask_width, mask_height), (width, height) = (decode(file.read_bytes()).size for file in (path, picture))
        if (mask_width, mask_height) != (width, height):  # as they are seen: turned as their EXIF says
            raise InputError(
                f"The mask {path} is {mask_height}x{mask_width}, the picture {height}x{width}: "
                "they must be of one size."
            )
        if not found.any():
            raise InputError(f"The mask {path} is black all over: nothing is to be painted.")
        return found.astype(np.float32)

    def start(self, d: Any, keys: Any) -> Any:
        from jaxgen.models.diffusion.denoiser import start

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
            return self.sample(conditions.consistent(denoise, y, way), d, keys)
        return self.sample(conditions.posterior(denoise, y, way, noise / 127.5, d.frame), d, keys)

    def finish(self, paint: Callable, given: Any, shown: np.ndarray, text: str):
        """Write the grid of what is shown, then the answers paint(denoise, denoiser, keys, given) f32[n h w c].

        The denoiser's `encode` and `decode` take pictures, or codes, alone.
        """
        import jax
        import jax.numpy as jnp

        from jaxgen import rng, sinks
        from jaxgen.config import Mesh
        from jaxgen.core import averaged
        from jaxgen.inpainting import bound
        from jaxgen.trained import open_run

        opened: Trained = open_run(self.run, Mesh(data=1), self.sampling)
        d = opened.task.denoiser
        assert d is not None

        def answers(state, frozen, given, seed):
            params, context = averaged(state, frozen)
            denoise, bare = bound(d, params, context, self.config.model.sampling, self.label)
            keys = rng.sample_keys(rng.fold(jax.random.key(seed), "edits"), jnp.arange(self.count))

            repeated = jax.tree.map(
                lambda v: v if len(v) > 1 else jnp.broadcast_to(v, (self.count, *v.shape[1:])), given
            )
            return jnp.clip(paint(denoise, bare, keys, repeated), -1, 1)

        made = jax.jit(answers)(opened.state, opened.frozen, jax.tree.map(jnp.asarray, given), np.uint32(self.seed))
        sinks.save_png(self.out, sinks.grid(np.concatenate([shown, np.asarray(made)])))
        print(f"{self.count} answers of step {opened.step} {text}: {self.out}")
