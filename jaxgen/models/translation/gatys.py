"""Style transfer by optimisation: Gatys, Ecker and Bethge 2016, "Image Style Transfer Using Convolutional Neural
Networks".

The only parameters are the canvas. Its pixels are optimised until the backbone's feature maps are near the photograph's
(content, equation 1) and their Gram matrices near the style's (equations 3 to 5). Several styles have weights, or each
has its region of the image (guided Gram matrices: Gatys et al. 2017, "Controlling Perceptual Factors in Neural Style
Transfer", section 4). Adam replaces the paper's L-BFGS, and ST-LPIPS's VGG-16 or any other backbone its VGG-19. Each
layer's squared distance is divided by the square of its target, where the paper has 1/2 (equation 1) and 1 / 4 N^2 M^2
(equation 4). The weights are our own choice.

This is the default method of `python -m jaxgen stylize`. `python -m train.translation --preset gatys --data.source
folder:ONE` trains the canvas like any other net.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.spec import image_spec
from jaxgen.core.step import init_state, make_step
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Key, Learner, Params, Phase, PyTree
from jaxgen.losses.perceptual import gram
from jaxgen.nn.resample import resize
from jaxgen.pretrained import backbones
from jaxgen.pretrained.backbones import Backbone
from jaxgen.tasks import style_transfer
from jaxgen.tasks.transforms import translation

CHUNK = 10  # steps between two reports of progress
LEVELS = 6


@dataclass(frozen=True)
class Gatys:
    """Hyper-parameters of style transfer by optimisation."""

    image: tuple[int, int, int] = (256, 256, 3)  # height, width, channels
    styles: tuple[str, ...] = ("waves",)  # images, or drawn patterns: waves, checks, dots
    style_size: int = 512  # pixels of a style image's longer side
    backbone: str = "vgg16"  # or random, or a classifier's run folder
    content: tuple[str, ...] = ("relu4_2",)
    style: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    content_weight: float = 1.0
    style_weight: float = 1000.0
    smooth_weight: float = 3.0  # of the squared total variation beyond the content's
    learning_rate: float = 0.02  # of Adam, for pixels in [-1, 1]

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range, and unknown styles and backbones."""
        del steps
        style_transfer.check(self.styles)
        self.check()

        def targets() -> PyTree:
            styles = [jnp.asarray(style_transfer.style_image(style, self.style_size)) for style in self.styles]
            return self.targets(backbones.load(self.backbone), styles)

        return canvas_task(self.image, self.loss, self.learning_rate, partial(backbones.load, self.backbone), targets)

    def check(self):
        """Raise InputError for settings out of range."""
        at_least(1, model__style_size=self.style_size)
        backbones.check(self.backbone, (*self.content, *self.style), self.image)

    def targets(
        self,
        backbone: Backbone,
        styles: Sequence[Array],
        weights: Sequence[float] = (),
        masks: Array | None = None,
        content: Array | None = None,
        strength: float = 1.0,
    ) -> dict[str, Any]:
        """Return the targets of `loss`.

        styles:   the style images, f32[h w 3] each
        weights:  of the styles; unset: equal
        masks:    f32[n h w 1], each style's region of the canvas
        content:  f32[1 h w 3]; if given, its features are computed once and not in every step
        strength: a factor on the style's weight
        """
        each = [_grams(backbone.features(x[None], self.style)) for x in styles]
        shares = np.asarray(weights or [1] * len(each), np.float32)
        found: dict[str, Any] = {"grams": [jnp.concatenate(a) for a in zip(*each, strict=True)]}
        found["weights"] = jnp.asarray(strength * (shares / shares.sum() if masks is None else np.ones_like(shares)))
        found |= {} if masks is None else {"masks": masks}
        return found | ({} if content is None else {"content": backbone.features(content, self.content)})

    def loss(self, canvas: Array, batch: Batch, backbone: Backbone, targets: Any) -> tuple[Array, dict[str, Array]]:
        """Return the loss f32[] of a canvas [1 h w 3], and its parts. Equation 7."""
        maps = backbone.features(canvas, (*self.content, *self.style))
        own, painted = maps[: len(self.content)], maps[len(self.content) :]
        clean = targets["content"] if "content" in targets else backbone.features(batch["image"], self.content)
        own = [jnp.broadcast_to(x, y.shape) for x, y in zip(own, clean, strict=True)]
        content = style_transfer.content_distance(own, clean).mean()  # equation 1
        style = jnp.zeros(())
        for f, target in zip(painted, targets["grams"], strict=True):
            made = jnp.broadcast_to(_grams([f], targets.get("masks"))[0], target.shape)  # [n c c]
            style = style + (style_transfer.relative_distance(made, target) * targets["weights"]).sum() / len(
                painted
            )  # equations 4 and 5
        rough = style_transfer.roughness(canvas, batch["image"]).mean()
        total = self.content_weight * content + self.style_weight * style + self.smooth_weight * rough
        return total, {"content": content, "style": style, "smooth": rough}


def _grams(maps: Sequence[Array], masks: Array | None = None) -> list[Array]:
    """Return the mean of F F^T over the positions of each map [n c c], or of each mask. Equation 3, over h w."""
    if masks is None:
        return [f.shape[3] * gram(f) for f in maps]
    found = []
    for f in maps:
        part = resize(masks, (f.shape[1], f.shape[2]), "bilinear", edges="reflect")[..., 0]  # [n h w]
        part = part / jnp.maximum(part.sum((1, 2), keepdims=True), 1e-6)
        found.append(jnp.einsum("nhw,hwi,hwj->nij", part, f[0], f[0]))
    return found


def canvas_task(
    image: tuple[int, ...],
    loss_fn: Callable[[Array, Batch, Backbone, Any], tuple[Array, dict[str, Array]]],
    rate: float,
    backbone: Callable[[], Backbone],
    targets: Callable[[], Any],
) -> Task:
    """Return the Task of a canvas; loss_fn: (canvas [1 h w 3], batch, backbone, targets) -> loss f32[], its terms."""
    if image[2] != 3:
        raise InputError(f"A canvas has 3 channels, not {image[2]}.")

    def init(key: Key, spec: Any = None):
        del spec
        return {"canvas": pyramid(0.2 * jax.random.normal(key, image))}, {"canvas": {}}

    def loss(params: Params, context: Context, batch: Batch, key: Key) -> tuple[Array, Aux]:
        del key
        total, parts = loss_fn(
            pixels_of(params["canvas"])[None], batch, context.frozen["backbone"], context.frozen["styles"]
        )
        return total, Aux(parts, {})

    def translate(params: Params, context: Context, given: Batch, keys: Key, to: Array) -> Array:
        """Return the canvas, which belongs to one image."""
        del context, keys, to
        x, pixels = given["source"], pixels_of(params["canvas"])
        if x.shape[1:] != pixels.shape:
            raise InputError(f"This canvas is {pixels.shape[0]}x{pixels.shape[1]}: it belongs to one image only.")
        return jnp.broadcast_to(pixels[None], x.shape)

    return Task(
        init=init,
        example={"image": image_spec(tuple(image))},
        learners={"canvas": Learner(("canvas",), optax.adam(rate))},
        phases=(Phase("canvas", "canvas", loss),),
        frozen={"backbone": backbone, "styles": targets},
        capabilities=(translation(translate),),
    )


def pyramid(pixels: Array) -> dict[str, Array]:
    """Return a canvas [h w 3] as a sum of levels: itself, and zeros at each half of its size down to 8 pixels.

    With levels the optimizer changes a region's colour as fast as a pixel's; with pixels only it first makes noise.
    """
    levels, size = {"level_0": pixels}, pixels.shape[:2]
    while min(size) >= 16 and len(levels) < LEVELS:
        size = (size[0] + 1) // 2, (size[1] + 1) // 2
        levels[f"level_{len(levels)}"] = jnp.zeros((*size, pixels.shape[2]))
    return levels


@jax.jit
def pixels_of(levels: Mapping[str, Array]) -> Array:
    """Return the canvas [h w 3], the sum of the levels of `pyramid`."""
    height, width, _ = levels["level_0"].shape
    above = (resize(x, (height, width), "bilinear", edges="reflect") for name, x in levels.items() if name != "level_0")
    return reduce(jnp.add, above, levels["level_0"])


class Easel:
    """Optimises canvases of one size, one after the other, with one compiled step."""

    def __init__(self, task: Task):
        self.task, step = task, make_step(task)

        def some(state: Any, batch: Batch, frozen: Any, count: Array):
            shapes = jax.eval_shape(step, state, batch, frozen)[1]
            nothing = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
            return jax.lax.fori_loop(0, count, lambda _, now: step(now[0], batch, frozen), (state, nothing))

        self.go = jax.jit(some, donate_argnums=0)

    def paint(
        self,
        content: Array,
        start: Array,
        frozen: Mapping[str, PyTree],
        steps: int,
        after: Callable[[int, Array, dict[str, float]], Any] = lambda taken, canvas, metrics: None,
    ) -> np.ndarray:
        """Return the canvas f32[h w 3] after `steps` steps from `start` f32[h w 3]; content f32[1 h w 3] is the batch.

        after: called from time to time with the number of steps taken, the canvas, and the loss and its terms
        """
        batch, taken = {"image": content}, 0
        state = init_state(self.task, jax.random.key(0), batch)
        state = state.replace(params={"canvas": pyramid(jnp.array(start, jnp.float32, copy=True))})
        while taken < steps:
            count = min(CHUNK, steps - taken)
            state, metrics = self.go(state, batch, frozen, jnp.int32(count))
            taken += count
            found = {name.partition("/")[2]: float(value) for name, value in metrics.items()}
            after(taken, pixels_of(state.params["canvas"]), found)
        return np.asarray(pixels_of(state.params["canvas"]))


TINY = Gatys((32, 32, 3), ("waves",), 32, "random", ("relu2_1",), ("relu1_1", "relu2_1"))
SMALL = Run(model=TINY, data=Data("shapes"), steps=20, batch=8, log=Log(every=5), save=Save(every=10))
PRESETS = {"gatys": Preset(Run(model=Gatys(), data=Data("folder:photograph"), steps=500, batch=1), SMALL, 262_080)}
