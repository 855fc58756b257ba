"""Models that restore images: a trained run, a file of weights, or an interpolation."""

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxgen.core import paths
from jaxgen.core.errors import InputError, at_least, choose
from jaxgen.core.progress import duration, progress
from jaxgen.media import marks

if TYPE_CHECKING:
    import numpy as np

    from jaxgen.core.capabilities import Degradation, Transform

INTERPOLATIONS = ("bicubic", "lanczos3", "bilinear", "nearest")
PRIOR = "deep-image-prior"
PER_PIXEL = 9000  # bytes of its step, by XLA's count at 256x256
KNOWN = (*INTERPOLATIONS, PRIOR)
FAMILIES = ("restoration", "super_resolution", "video")  # some of whose presets restore


@dataclass
class Model:
    """A model that restores images or videos: a Transform, its nets, and the factor by which it enlarges.

    may: the inputs that it takes beside those that it needs
    mark: of its answers; None for an interpolation
    doubt: why it is not known how its training images were degraded; empty: it is known
    by:  (given, keys, scale) -> answer f32[1 H W c] on the host, where an image takes more than one program
    per: bytes that those take for each pixel of the answer
    """

    transform: "Transform"
    degrade: Callable[..., Any]
    params: Any
    context: Any
    scale: float
    name: str
    may: tuple[str, ...] = ()
    by: Callable[..., Any] | None = None
    per: int = 0
    doubt: str = ""
    mark: marks.Mark | None = None

    def __post_init__(self):
        self.programs: dict[Any, Any] = {}  # by the shapes of what they are given

    def program(self, given: Mapping[str, Any], keys: Any) -> Any:
        """Return the compiled (params, context, given [1 ... h w c], keys Key[1]) -> f32[1 ... H W c]."""
        import jax

        shapes = tuple((name, x.shape) for name, x in given.items())
        if shapes not in self.programs:
            jitted = jax.jit(self.restored, static_argnums=4)
            self.programs[shapes] = jitted.lower(self.params, self.context, given, keys, self.scale).compile()
        return self.programs[shapes]

    def restored(self, params: Any, context: Any, inputs: Any, keys: Any, scale: float) -> Any:
        return self.transform.apply(params, context, inputs, keys, scale)[self.transform.main]

    def takes(self, given: Mapping[str, Any], keys: Any) -> float:
        """Return the bytes that restoring such images takes, beside parameters; nothing is run."""
        h, w = given["degraded"].shape[-3:-1]
        if self.by:
            return self.per * h * w * self.scale**2
        found = self.program(given, keys).memory_analysis()
        return found.temp_size_in_bytes + found.output_size_in_bytes + 4 * sum(x.size for x in given.values())

    def padded(
        self, given: Mapping[str, Any], seed: int = 0, number: int = 0, check: Callable[[float], Any] | None = None
    ) -> "np.ndarray":
        """Return an answer f32[... H W c] to one image or clip, given [... h w c] and numbers, whatever its sides.

        They are made multiples of what the net takes by a mirror image. The key is `number`'s of a seed. `check` is
        called with the bytes that it takes, before it is begun.
        """
        import jax
        import jax.numpy as jnp
        import numpy as np

        from jaxgen.core import rng

        h, w = given["degraded"].shape[-3:-1]
        grain, scale = self.transform.source.multiple, self.scale
        pads = ((0, 0), (0, -h % grain), (0, -w % grain), (0, 0))
        pad = lambda x: np.pad(x, pads[4 - x.ndim :], "symmetric")[None]  # noqa: E731
        grown = {k: pad(v) if np.ndim(v) >= 3 else v[None] for k, v in given.items()}
        keys = rng.sample_keys(jax.random.key(seed), jnp.arange(number, number + 1))
        if check is not None:
            check(self.takes(grown, keys))
        if self.by:
            made = self.by(grown, keys, scale)
        else:
            made = self.program(grown, keys)(self.params, self.context, grown, keys)
        return np.asarray(made, np.float32)[0, ..., : round(h * scale), : round(w * scale), :]

    def tile(self, side: int) -> int:
        """Return the side of its tiles where `side` is asked for; 0: it needs the whole image."""
        return 0 if self.by or self.transform.whole else side

    @property
    def adds_noise(self) -> bool:
        """Whether its degradation can add noise of any standard deviation."""
        from jaxgen.data.degradations import Degradation

        return isinstance(self.degrade, Degradation)

    def with_noise(self, sigma: float) -> "Model":
        """Return the model with a degradation that adds noise of this standard deviation, of 255."""
        pipeline: Any = self.degrade
        return replace(self, degrade=replace(pipeline, noise=(sigma, sigma)))

    def check(
        self,
        sigma: float | None,
        mask: Path | None,
        answers: int = 1,
        degrade: bool = False,
        ensemble: bool = False,
    ):
        """Raise InputError where an input of the model is missing, or where it does not have what is asked for."""
        if "region" in self.transform.inputs:
            raise InputError(f"{self.name} harmonises what is pasted into an image: use python -m jaxgen compose.")
        if answers > 1 and not self.transform.stochastic:
            raise InputError(f"{self.name} has one answer: leave out --answers.")
        if ensemble and self.transform.stochastic:
            raise InputError(f"{self.name} has several answers, whose mean is none: leave out --ensemble.")
        if degrade and mask is not None and "mask" in self.transform.inputs:
            raise InputError("--degrade hides parts of images by itself: leave out --mask.")
        if degrade and self.doubt and sigma is None:
            raise InputError(self.doubt)
        for name, value in (("sigma", sigma), ("mask", mask)):
            if degrade and name == "sigma" and self.adds_noise:
                continue
            if name in self.transform.inputs and value is None and not degrade:
                raise InputError(f"{self.name} needs --{name}.")
            if name not in (*self.transform.inputs, *self.may) and value is not None:
                raise InputError(f"{self.name} takes no --{name}: leave it out.")


def open_model(name: str, preset: str, scale: float | None, steps: int | None = None) -> Model:
    """Return the model of a run's folder, of weights (a file, or a name in the catalogue), or an interpolation.

    Raises InputError.

    steps: of a deep image prior; None: its own number
    """
    path, may, by, per, doubt, mark = paths.path(name), (), None, 0, "", None
    at_least(1, steps=steps)
    if steps is not None and name != PRIOR:
        raise InputError(f"--steps is for --with {PRIOR}.")
    if name == PRIOR:
        found, params, context, may, per = prior(), {}, None, ("mask", "sigma"), PER_PIXEL
        by, mark = partial(by_prior, steps=steps, ended=[]), marks.Mark(marks.EDITED, PRIOR)
    elif name in INTERPOLATIONS:
        if preset:
            raise InputError("--preset is for a file of weights.")
        found, params, context = interpolation(name), {}, None
    elif path.is_dir():
        from jaxgen.core.config import Mesh
        from jaxgen.core.types import averaged
        from jaxgen.runs.load import open_run

        if preset:
            raise InputError("--preset is for a file of weights: a run's folder says itself what it is.")
        opened = open_run(path, Mesh(data=1))
        found = restorer_of(opened.task, opened.run.model, name)
        params, context = averaged(opened.state, opened.frozen)
        mark = marks.of_run(marks.EDITED, path, opened)
    elif path.is_file():
        found, params, context, name, doubt = of_file(path, preset)
        mark = marks.of_weights(marks.EDITED, path, name)
    else:
        from jaxgen.pretrained import catalogue

        known = catalogue.named(name, FAMILIES, KNOWN)
        if preset:
            raise InputError(f"--preset is for a file of weights: {name} is of {known.preset}.")
        found, params, context = of_word(name)
        mark = marks.of_weights(marks.EDITED, catalogue.file_of(name), known.preset)
    return at_scale(found, params, context, name, scale, may, by, per, doubt, mark)


Found = tuple["Transform", "Degradation"]


def restoration_of(task: Any, name: str) -> Found:
    """Return a task's Transform and Degradation for restoration. Raises InputError where it has none."""
    from jaxgen.core.capabilities import Degradation, Transform

    lack = (
        f"{name} restores no images: it needs a run of train.restoration or train.super_resolution, with --mask of "
        "train.diffusion, or for videos one of train.video that restores."
    )
    return task.get(Transform, lack), task.get(Degradation, lack)


def restorer_of(task: Any, model: Any, name: str) -> Found:
    """Return a task's Transform and Degradation; those of a diffusion model fill in holes. Raises InputError."""
    from jaxgen.core.capabilities import Denoiser

    if task.find(Denoiser):
        from jaxgen.inference.inpainting import inpainting_of

        task = inpainting_of(task, model.sampling)
    return restoration_of(task, name)


def at_scale(
    found: Found,
    params: Any,
    context: Any,
    name: str,
    scale: float | None,
    may: tuple[str, ...] = (),
    by: Callable[..., Any] | None = None,
    per: int = 0,
    doubt: str = "",
    mark: marks.Mark | None = None,
) -> Model:
    """Return the model that enlarges by a factor, None: its own. Raises InputError where it can't."""
    transform, degradation = found
    if scale is not None and scale != 1 and transform.scales == (1,):
        raise InputError(f"{name} does not enlarge: leave out --scale.")
    if scale is not None and transform.scales and scale not in transform.scales:
        known = " or ".join(map(str, transform.scales))
        raise InputError(f"{name} enlarges by {known}, not by {scale:g}.")
    default = transform.scales[0] if transform.scales else 1 if by else 2
    scale = float(default if scale is None else scale)
    if not 1 <= scale <= 16:
        raise InputError(f"--scale must be from 1 to 16, not {scale:g}.")
    return Model(transform, degradation.degrade, params, context, scale, name, may, by, per, doubt, mark)


def prior() -> Found:
    """Return the Transform and Degradation of a deep image prior; `by_prior` does the work."""
    from jaxgen.data.degradations import Degradation
    from jaxgen.tasks.transforms import restoration

    return restoration(Degradation(noise=(25, 25)), lambda *_: None, scales=(), channels=(1, 3))


def by_prior(given: Any, keys: Any, scale: float, steps: int | None = None, ended: list[int] | None = None) -> Any:
    """Return the answer of a deep image prior that learns this image in `steps` steps, None: its own number.

    It says how long that will take. Ctrl-C ends it with the answer so far, which `ended` remembers: the next call does
    not begin. A second Ctrl-C leaves at once.
    """
    from jaxgen.models.restoration.deep_image_prior import Prior

    if ended:
        raise KeyboardInterrupt
    method = Prior() if steps is None else replace(Prior(), steps=steps)
    mask, sigma = given.get("mask"), float(given.get("sigma", [0.0])[0])
    hidden, times = None if mask is None else mask[0], []

    with progress("learning the image", method.steps) as show, first_interrupt() as asked:

        def after(at: int) -> bool:
            times.append((time.monotonic(), at))
            if len(times) == 2:  # the first call compiles
                (began, first), (now, second) = times
                left = duration((now - began) / max(second - first, 1) * (method.steps - at))
                print(f"learning the image, {method.steps} steps at most: {left}; Ctrl-C ends it sooner", flush=True)
            if asked() and at < method.steps:
                print(f"Stopped after {at} of {method.steps} steps: this is the answer so far.", flush=True)
                if ended is not None:
                    ended.append(at)
            show(at)
            return asked()

        return method.restore(given["degraded"][0], hidden, scale, keys[0], after, sigma)[None]


@contextmanager
def first_interrupt() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C was pressed; pressed again it has its usual effect."""
    pressed: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return

    def handle(signum: int, frame: Any):
        pressed.append(signum)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


def interpolation(method: str) -> Found:
    """Return the Transform that enlarges by a method of nn/resample.py, pixels beyond the border mirrored."""
    from jaxgen.data.degradations import Degradation
    from jaxgen.nn.resample import resize
    from jaxgen.tasks.transforms import restoration

    def enlarge(params, context, given, keys, scale):
        del params, context, keys
        x = given["degraded"]
        size = round(x.shape[1] * scale), round(x.shape[2] * scale)
        return resize(x, size, method, edges="reflect")

    return restoration(Degradation(), enlarge, scales=(), channels=(1, 3))


def of_word(name: str) -> tuple[Found, Any, Any]:
    """Return the Transform, params and context of weights that state their model: a name in the catalogue, or a file.

    Nets that only training needs are left out.
    """
    from jaxgen.core.config import Mesh
    from jaxgen.core.types import averaged
    from jaxgen.inference.opening import open_trained

    opened = open_trained(name, mesh=Mesh(data=1), with_frozen=False)
    return restorer_of(opened.task, opened.run.model, name), *averaged(opened.state, opened.frozen)


def of_file(path: Path, preset: str) -> tuple[Found, Any, Any, str, str]:
    """Return the Transform, params, context and name of a file of weights, and a doubt about its Degradation."""
    from jaxgen import zoo
    from jaxgen.inference import opening

    run = opening.stated(path, preset)
    if run and zoo.family_of(run.preset) in FAMILIES:
        return *of_word(str(path)), run.preset, ""
    found, params, context, name = from_weights(path, preset)
    found, doubt = stated(path, preset, name, found)
    return found, params, context, name, doubt


def from_weights(path: Path, preset: str) -> tuple[Found, Any, Any, str]:
    """Return the Transform, params, context and name of a file of weights.

    The preset is found by the names and shapes of the tensors. Raises InputError where no preset's net has them.
    """
    import jax
    import jax.numpy as jnp

    from jaxgen import zoo
    from jaxgen.core.types import Context, variables
    from jaxgen.inference.opening import variants
    from jaxgen.interop.entries import entry
    from jaxgen.interop.layers import traced
    from jaxgen.interop.nearest import by_size, nearest
    from jaxgen.interop.read import read
    from jaxgen.interop.weight_names import rule_of

    tensors = read(path)
    known = [name for family in FAMILIES for name in zoo.family(family)]
    # The likeliest first: most nets have a size of their own, which a factor or a discriminator changes by less than
    # fourfold.
    likely = lambda: [name for name, factor in by_size(tensors, known).items() if factor < 4]  # noqa: E731
    names = [choose(preset, known, "preset")] if preset else likely()
    reasons = []
    for name in names:
        for model in variants(zoo.load(name).run.model):
            task, (params, extra, *_) = model.task(1), traced(model)
            if "restorer" not in params:
                continue
            if set(params) - {"critic"} != {"restorer"}:
                reasons.append(f"{name} restores by several nets: name its run's folder")
                continue
            one = entry(rule_of(name), model, "restorer", variables("restorer", params, extra), tensors)
            if wrong := one.problems():
                reasons.append(f"These weights are not the restorer's: {'; '.join(wrong)}")
                continue
            if choice := one.choice("restorer"):
                print(choice, file=sys.stderr)
            found = one.weights(tensors)
            rest = {key: value for key, value in found.items() if key != "params"}
            context = Context({"restorer": rest}, {}, {}, jnp.zeros((), jnp.int32))
            params = {"restorer": jax.tree.map(jnp.asarray, found["params"])}
            return restoration_of(task, name), params, context, name
    if preset and reasons:
        raise InputError(f"{path}: {reasons[0]}.")
    listed = " and ".join(filter(None, [", ".join(f"train.{name}" for name in FAMILIES[:-1]), f"train.{FAMILIES[-1]}"]))
    raise InputError(
        f"{path} is of no net of {listed} that restores, at its preset's width and depth. " + nearest(tensors, known)
    )


def stated(path: Path, preset: str, name: str, found: Found) -> tuple[Found, str]:
    """Return the Degradation that a file of weights states, as `export` writes it, or else its preset's and a doubt.

    The doubt is a sentence: weights of one preset are trained for any noise, and several presets differ in nothing but
    the degradation. It is empty where neither is so.
    """
    from jaxgen import zoo
    from jaxgen.core.capabilities import Degradation
    from jaxgen.data.degradations import Degradation as Pipeline
    from jaxgen.interop.read import notes

    transform, degradation = found
    degrade = degradation.degrade
    if not isinstance(degrade, Pipeline):
        return found, ""
    try:
        fields = json.loads(notes(path)["model"])["degradation"]
        values: Any = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
        said = Pipeline(**values)
        said.check()
        return (transform, Degradation(said)), ""
    except (KeyError, TypeError, ValueError, InputError):  # no notes, or not those of this version
        pass
    low, high = degrade.noise
    if 0 < low == high and "sigma" not in transform.inputs:
        return found, f"{path} doesn't say which noise it is for: --degrade needs that, such as --sigma 25."
    model, count = type(zoo.load(name).run.model), zoo.load(name).parameters
    same = [other for family in FAMILIES for other in zoo.family(family) if zoo.load(other).parameters == count]
    same = [other for other in same if type(zoo.load(other).run.model) is model]
    if not preset and len({zoo.load(other).run.model.degradation for other in same}) > 1:
        return found, f"{path} may be of {', '.join(same)}: --degrade needs the one that it is of as --preset."
    return found, ""
