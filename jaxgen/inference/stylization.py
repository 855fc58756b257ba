"""Stylization of images: by optimization of the image, by a trained run, or by a file of weights."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.core import paths
from jaxgen.core.capabilities import Transform
from jaxgen.core.errors import InputError, at_least, choose
from jaxgen.core.types import Context, averaged, variables
from jaxgen.media import marks, photo
from jaxgen.models.translation.adain import AdaIN
from jaxgen.models.translation.fast_style import PRESETS, FastStyle, painter, transposed
from jaxgen.models.translation.gatys import Easel, Gatys
from jaxgen.models.translation.wct import WCT
from jaxgen.nn.colour_transport import transfer_colours
from jaxgen.nn.resample import resize
from jaxgen.pretrained import backbones, catalogue
from jaxgen.tasks.style_transfer import fitted, three_channels

PAINTERS = {"gatys": Gatys, "wct": WCT}
SMALLEST = 16  # pixels of a side
STEPS = 200
Show = Callable[[int, int, Any], Any]  # how far, of how much, the canvas


class StyleRequest(NamedTuple):
    """The styles to apply: images or names, their weights, the size of the images, and the strength of all."""

    styles: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    size: int = 512
    strength: float = 1.0

    def shares(self) -> np.ndarray:
        """Return how much of each style, f32[n], adding up to 1."""
        weights = np.asarray(self.weights or [1.0] * len(self.styles), np.float32)
        return weights / weights.sum()

    def check(self):
        """Raise InputError for weights that are not one for each style, or that can't be."""
        if self.weights and len(self.weights) != len(self.styles):
            raise InputError(f"There are {len(self.weights)} --weights for {len(self.styles)} styles: one for each.")
        at_least(0, weights=min(self.weights, default=0))
        if self.weights and not 0 < sum(self.weights) < np.inf:
            raise InputError("--weights must be numbers that don't add up to 0.")

    def images(self, name: str) -> list[np.ndarray]:
        """Return the style images, f32[h w 3] each. Raises InputError where there is none, or one can't be read."""
        if not self.styles:
            raise InputError(f"{name} takes its style from images: name one or several with --style.")
        missing = [style for style in self.styles if not paths.path(style).is_file()]
        if missing:
            raise InputError(f"There is no style image {missing[0]}.")
        return [fitted(three_channels(photo.read(paths.path(style)).pixels), self.size) for style in self.styles]


@dataclass
class IterativeStylist:
    """Stylization by optimization of the image until the features of a backbone agree.

    begin:  look at a whole image before its parts, so many of them, are painted
    answer: a part f32[h w 3] painted, which lies at `place`; masks f32[n h w 1] say where each style is wanted
    """

    name: str
    request: StyleRequest
    model: Any  # Gatys or WCT
    backbone: backbones.Backbone
    styles: list[np.ndarray]
    steps: int
    iterative: bool = True
    each: int = 2800  # bytes that a pixel takes, by XLA's account of 2700 with vgg16
    easels: dict[tuple[int, ...], Any] = field(default_factory=dict)
    multiple: int = 1  # where a part may begin

    @property
    def mark(self) -> marks.Mark:
        return marks.Mark(marks.EDITED, self.name)

    def begin(self, content: np.ndarray, tile: int, parts: int, keep: bool, masks: np.ndarray | None, show: Show):
        self.images = [jnp.asarray(recoloured(x, content) if keep else x) for x in self.styles]
        self.change, self.done, self.total = None, 0, (parts + (parts > 1)) * self.steps
        for image in (content, *self.images):
            check_side(self.name, image, backbones.smallest(self.backbone.model))
        if parts > 1:  # the whole image, small, says where the parts begin
            small = thumbnail(content, tile)
            size, whole = small.shape[:2], content.shape[:2]
            shrunk = lambda mask: np.asarray(resize(jnp.asarray(mask), size, "bilinear"))  # noqa: E731
            few = None if masks is None else np.stack([shrunk(mask) for mask in masks])
            made = self.canvas(small, small, few, show)
            self.change = np.asarray(resize(jnp.asarray(made - small), whole, "bilinear", edges="reflect"))

    def answer(self, part: np.ndarray, place: tuple[slice, slice], masks: np.ndarray | None, show: Show) -> np.ndarray:
        start = part if self.change is None else part + self.change[place]
        made = self.canvas(part, start, masks, show)
        return made if masks is None else made + (1 - masks.sum(0)) * (part - made)

    def canvas(self, content: np.ndarray, start: np.ndarray, masks: np.ndarray | None, show: Show) -> np.ndarray:
        """Return a canvas f32[h w 3] that was painted from `start`."""
        if content.shape not in self.easels:
            model = replace(self.model, image=content.shape)
            targets = jax.jit(lambda *known: model.targets(*known[:2], self.request.shares().tolist(), *known[2:]))
            self.easels[content.shape] = Easel(model.task(1)), targets
        easel, targets = self.easels[content.shape]
        x = jnp.asarray(content)[None]
        frozen = {
            "backbone": self.backbone,
            "styles": targets(self.backbone, self.images, masks, x, self.request.strength),
        }
        made = easel.paint(x, start, frozen, self.steps, lambda at, y, _: show(self.done + at, self.total, y))
        self.done += self.steps
        return np.clip(made, -1, 1)


@dataclass
class Trained:
    """Paints in one pass of a net; `begin` and `answer` are as a IterativeStylist's."""

    name: str
    request: StyleRequest
    transform: Transform
    params: Any
    context: Any
    mark: marks.Mark | None  # None: nothing is written to files
    styles: list[np.ndarray]  # style images, for a net that takes them
    iterative: bool = False
    each: int = 800  # bytes that a pixel takes, by XLA's account of the default nets: 270 to 790

    def __post_init__(self):
        if (channels := self.transform.source.sizes(-1)) != (3,):
            raise InputError(f"{self.name} paints images of {channels[0]} channels, not of 3.")
        self.translate, self.multiple = jax.jit(self.transform.apply), self.transform.source.multiple
        self.keys = jax.random.split(jax.random.key(0), 1)

    def begin(self, content: np.ndarray, tile: int, parts: int, keep: bool, masks: np.ndarray | None, show: Show):
        del show
        for image in (content, *self.styles):
            check_side(self.name, image, SMALLEST + 8 * bool(self.styles))
        self.images = [jnp.asarray(recoloured(x, content) if keep else x)[None] for x in self.styles]
        self.whole = self.padded(thumbnail(content, tile)) if parts > 1 else None

    def padded(self, x: np.ndarray) -> jax.Array:
        """Return an image f32[1 H W 3] whose sides are mirrored to multiples of what the net takes."""
        grain = self.multiple
        pads = (0, -x.shape[0] % grain), (0, -x.shape[1] % grain), (0, 0)
        return jnp.asarray(np.pad(x, pads, "symmetric"))[None]

    def answer(self, part: np.ndarray, place: tuple[slice, slice], masks: np.ndarray | None, show: Show) -> np.ndarray:
        del place, show
        if masks is None:
            return self.one(part, self.request.shares())
        made = (1 - masks.sum(0)) * part
        for i, mask in enumerate(masks):
            made = made + mask * self.one(part, np.eye(len(masks), dtype=np.float32)[i])
        return made

    def one(self, part: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Return a part with so much of each style."""
        given: dict[str, Any] = {"source": self.padded(part)}
        given |= {} if self.whole is None else {"whole": self.whole}
        to, domains = 0, self.transform.inputs["to"].names
        if self.styles:
            given |= {"style": self.images, "strength": jnp.full(1, self.request.strength, jnp.float32)}
        else:
            spread = np.zeros(len(domains), np.float32)
            np.add.at(spread, [domains.index(style) for style in self.request.styles], shares)
            shares, to = spread, int(spread.argmax())
        given["mix"] = jnp.asarray(shares)[None]
        given["to"] = jnp.full(1, to, jnp.int32)
        made = self.translate(self.params, self.context, given, self.keys)["image"]
        made = np.clip(np.asarray(made, np.float32)[0, : part.shape[0], : part.shape[1]], -1, 1)
        return made if self.styles else part + np.float32(self.request.strength) * (made - part)


Stylist = IterativeStylist | Trained


def recoloured(style: np.ndarray, content: np.ndarray) -> np.ndarray:
    """Return a style image with the mean and covariance of the content's colours."""
    return np.clip(transfer_colours(style, content), -1, 1)


def thumbnail(content: np.ndarray, tile: int) -> np.ndarray:
    """Return an image made small to a tile's side, but a strip to 64 pixels across at least, where it has them."""
    height, width = content.shape[:2]
    return fitted(content, max(tile, -(-64 * max(height, width) // min(height, width))))


def check_side(name: str, image: Any, least: int):
    """Raise InputError for an image that is too small."""
    height, width = image.shape[:2]
    if min(height, width) < least:
        raise InputError(f"{name} needs images of {least}x{least} at least, not {height}x{width}.")


def open_stylist(
    name: str,
    request: StyleRequest,
    how: str | None = None,
    steps: int | None = None,
    style_weight: float | None = None,
    backbone: str | None = None,
) -> Stylist:
    """Return the painter of this name, or the net of a run's folder or a file of weights. Raises InputError."""
    request.check()
    path = paths.path(name)
    if how is not None and not path.is_dir():
        raise InputError("--how is for a run of adain.")
    if style_weight is not None and name != "gatys":
        raise InputError(f"{name} has no --style-weight: leave it out, or write --strength.")
    if name in PAINTERS:
        images = request.images(name)
        changes: dict[str, Any] = {} if style_weight is None else {"style_weight": style_weight}
        backbone = backbone or "vgg16"
        model = replace(PAINTERS[name](), backbone=backbone, **changes)
        if backbone not in backbones.NAMES:
            model = replace(model, **own_layers(backbone, name))
        model.check()
        return IterativeStylist(
            name, request, model, backbones.load(backbone), images, STEPS if steps is None else steps
        )
    for setting, value in (("steps", steps), ("backbone", backbone)):
        if value is not None:
            raise InputError(f"{name} paints in one pass and takes no --{setting}: leave it out.")
    if path.is_dir():
        return of_run(path, request, how)
    if path.is_file():
        return of_weights(path, request)
    model = catalogue.named(name, ("translation",), tuple(PAINTERS)).model()
    if not isinstance(model, FastStyle):
        raise InputError(f"The weights {name} paint in no style: use python -m jaxgen translate.")
    return of_weights(catalogue.file_of(name), request, name, model)


def own_layers(backbone: str, name: str) -> dict[str, Any]:
    """Return which layers of a classifier's run are compared: the last map of each size, the content's the last but
    one of them."""
    shapes = backbones.layers(backbone)
    last = tuple({shape[1:3]: layer for layer, shape in shapes.items()}.values())
    if not last:
        raise InputError(f"{backbone} shows no feature maps.")
    return {"layers": last} if name == "wct" else {"style": last, "content": last[-2:][:1]}


def of_run(path: Path, request: StyleRequest, how: str | None) -> Trained:
    """Return the net of a run."""
    from jaxgen.core.config import Mesh
    from jaxgen.runs.config_io import load_config
    from jaxgen.runs.load import open_run

    model = load_config(path).model
    if not isinstance(model, FastStyle | AdaIN):
        raise InputError(
            f"{path} paints in no style: --with takes a run of fast-style or adain; for what translates images use "
            "python -m jaxgen translate."
        )
    # Its backbone and style images say what it learns, and may be gone since.
    opened = open_run(path, Mesh(data=1), with_frozen=isinstance(model, AdaIN))
    transform = opened.task.get(Transform)
    if how is not None:
        if not hasattr(opened.run.model, "how"):
            raise InputError(f"--how is for a run of adain, and {path} is of {opened.run.preset}.")
        transform = replace(opened.run.model, how=how).task(1).get(Transform)
    by_image, params, context = "style" in transform.inputs, *averaged(opened.state, opened.frozen)
    request = request if by_image else named(request, transform.inputs["to"].names, str(path))
    mark, styles = marks.of_run(marks.EDITED, path, opened), request.images(str(path)) if by_image else []
    return Trained(str(path), request, transform, params, context, mark, styles)


def named(request: StyleRequest, domains: Sequence[str], name: str) -> StyleRequest:
    """Return the request by names of styles that a net was trained for. Raises InputError for any other."""
    if not request.styles and len(domains) > 1:
        raise InputError(f"{name} knows several styles: name some with --style, of {', '.join(domains)}.")
    for style in request.styles:
        if style not in domains and (len(domains) == 1 or Path(style).is_file()):
            known = ", ".join(domains)
            raise InputError(f"{name} was trained for {known} and takes no other --style, such as {style}.")
        choose(style, domains, "style")
    return request if request.styles else request._replace(styles=tuple(domains))


def of_weights(path: Path, request: StyleRequest, name: str = "", model: FastStyle | None = None) -> Trained:
    """Return the net of a file of weights, of a model that is known or of `fast-style` with one style.

    Raises InputError where they are of no such net.
    """
    from jaxgen.interop.entries import entry
    from jaxgen.interop.layers import traced
    from jaxgen.interop.read import read
    from jaxgen.interop.weight_names import rule_of

    tensors = read(path)
    if model is None:
        plain: FastStyle = replace(PRESETS["fast-style"].run.model, styles=(path.stem,))
        model = replace(plain, mirror=not transposed(plain, tensors))
    (_, transform), known = painter(model), traced(model)
    shapes = variables("painter", known.params, known.extra)
    rule = rule_of("fast-style")
    one = entry(rule, model, "painter", shapes, tensors)
    if wrong := one.problems():
        raise InputError(f"{path} is of no net of fast-style: {'; '.join(wrong)}.")
    if choice := one.choice("painter"):
        print(choice, file=sys.stderr)
    params = {"painter": jax.tree.map(jnp.asarray, one.weights(tensors)["params"])}
    context = Context({}, {}, {}, jnp.zeros((), jnp.int32))
    name = name or path.name
    request = named(request, transform.inputs["to"].names, name)
    mark = marks.of_weights(marks.EDITED, path, "fast-style")
    return Trained(name, request, transform, params, context, mark, [])
