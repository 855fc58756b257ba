"""python -m jaxgen compose: foreground images blended into a background."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from jaxgen.core import paths
from jaxgen.core.errors import InputError
from jaxgen.media import marks, output_files, photo
from jaxgen.media.batch_files import check_image, check_memory_limit
from jaxgen.media.compositing import FOREGROUND, Layer, coloured, layer, opaque

MOST = 2_000_000  # unknowns of Poisson's equation, which take some GiB and some minutes
NETS = {"adain": "adain", "harmonise": "harmonisation"}  # the presets of the methods that need a run
BACKGROUND = 130  # bytes that a pixel takes, by measurement
AROUND = 32  # pixels: the smallest margin around a foreground that AdaIN takes its style from
DRAWN = 1 << 18  # largest number of background pixels that the palette is taken from

Background = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="BACKGROUND")]
Foregrounds = Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FOREGROUND ...")]
With = Annotated[str, tyro.conf.arg(name="with", metavar="RUN")]
How = Literal["paste", "poisson", "mixed", "colours", "palette", "adain", "harmonise"]


def compose(
    background: Background,
    foregrounds: Foregrounds,
    masks: tuple[Path, ...] = (),
    at: tuple[str, ...] = (),
    size: tuple[float, ...] = (),
    how: How = "poisson",
    with_: With = "",
    out: Path | None = None,
    memory: float = 4.0,
    overwrite: bool = False,
):
    """Blend one or more foreground images into a background.

    Args:
        background: an image file; the output has its size, bit depth, alpha and EXIF
        foregrounds: the images to place on it, in this order
        masks: one mask per foreground, of its size: white is opaque, grey is translucent, black is removed; unset: the
            foreground's alpha, or all of it
        at: the upper left corner of each foreground, in pixels down and right, such as 20,100; unset: centred
        size: the scale of each foreground; unset: 1
        how: poisson keeps the foreground's gradients and takes the background's colours at its border, for
            foregrounds that are cut out loosely (all other methods need exact masks);
            mixed does the same with the larger gradient of both images;
            colours gives the foreground the mean and covariance of the background's colours;
            palette gives it the whole distribution of the background's colours, which suits photographs;
            adain gives its features the mean and standard deviation of the background's features;
            harmonise uses a harmonisation net; paste changes no colours
        with_: the run for adain or harmonise, trained by train.translation --preset adain or harmonisation
        out: the output file; unset: BACKGROUND-composed.png
        memory: memory limit in GiB for the images; larger ones are refused before work begins
        overwrite: replace existing files
    """
    check_memory_limit(memory)
    target = out or background.with_name(f"{background.stem}-composed.png")
    output_files.check(target, photo.WRITTEN, overwrite, given=[background, *foregrounds, *masks])
    if not foregrounds:
        raise InputError("Name the background and at least one foreground.")
    for name, given in (("masks", masks), ("at", at), ("size", size)):
        if given and len(given) != len(foregrounds):
            hint = ", such as 20,100," if name == "at" else ""
            raise InputError(f"--{name} needs one value{hint} per foreground: {len(foregrounds)}, not {len(given)}.")
    if (how in NETS) != bool(with_):
        raise InputError(f"--with names the run for --how {' or '.join(NETS)}: give both or neither.")
    if not all(each > 0 for each in size):
        raise InputError(f"--size must be above 0, not {min(size):g}.")
    places = [corner(text) for text in at] or [None] * len(foregrounds)
    check_image(background, BACKGROUND, memory)
    for file in (*foregrounds, *masks):
        check_image(file, FOREGROUND, memory)
    below = photo.read(background)
    layers = [
        layer(file, masks[i] if masks else None, size[i] if size else 1.0, places[i], below, memory)
        for i, file in enumerate(foregrounds)
    ]
    blend, mark = blender(how, with_)
    if how not in NETS and any(one.drawn for one in layers):
        mark = marks.Mark(marks.COMPOSED_WITH_DRAWN, how)
    image = below.pixels
    for one in layers:
        image = blend(one.like(image), one)
    photo.write(target, photo.quantised(image, below.bits), below, opaque(below, layers), mark=mark)
    print(f"{len(layers)} on {background}, by {how}: {target}")


def corner(text: str) -> tuple[int, int]:
    """Return the numbers of "20,100", in pixels down and right. Raises InputError for anything else."""
    try:
        down, right = map(int, text.split(","))
    except ValueError:
        raise InputError(f"--at must be pixels down and right, such as 20,100, not {text!r}.") from None
    return down, right


Blend = Callable[[np.ndarray, Layer], np.ndarray]
Move = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def blender(how: How, with_: str) -> tuple[Blend, marks.Mark]:
    """Return (background f32[h w c], layer) -> f32[h w c], and the mark of outputs.

    Raises InputError if the run that it needs is missing.
    """
    if how in NETS:
        if not paths.path(with_).is_dir():
            raise InputError(
                f"There is no run folder {with_}: --with needs a run of train.translation --preset {NETS[how]}."
            )
        if how == "adain":
            return styled_by(paths.path(with_))
        model = opened(with_)
        return partial(harmonised, model), model.mark
    ways = {"paste": pasted, "poisson": solved, "mixed": partial(solved, mixed=True)}
    ways |= {"colours": partial(transported, moved), "palette": partial(transported, spread)}
    return ways[how], marks.Mark(marks.COMPOSED, how)


def pasted(image: np.ndarray, one: Layer) -> np.ndarray:
    """Return the foreground pasted on the background by its alpha."""
    above, alpha = one.whole(image)
    return np.where(alpha > 0, alpha * above + (1 - alpha) * image, image).astype(np.float32)


def solved(image: np.ndarray, one: Layer, mixed: bool = False) -> np.ndarray:
    """Return the Poisson blending of the visible foreground, pasted on the background by its alpha."""
    from jaxgen.media.poisson_blending import poisson

    above, alpha = one.whole(image)
    if (count := int((alpha > 0).sum())) > MOST:
        raise InputError(f"At most {MOST:,} pixels of a foreground can be blended, not {count:,}: write --how paste.")
    known = np.zeros(alpha.shape, bool)
    known[one.place] = one.known
    made = np.clip(poisson(image, above, alpha > 0, mixed, known), -1, 1)
    return alpha * made + (1 - alpha) * image


def transported(move: Move, image: np.ndarray, one: Layer) -> np.ndarray:
    """Return the foreground pasted with the background's colours. Only its visible pixels determine the change."""
    above, alpha = one.whole(image)
    seen = alpha[..., 0] > 0
    above[seen] = np.clip(move(above[seen], alpha[seen][:, 0], image.reshape(-1, image.shape[2])), -1, 1)
    return np.where(alpha > 0, alpha * above + (1 - alpha) * image, image).astype(np.float32)


def moved(colours: np.ndarray, weights: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return colours f32[n c] changed to the mean and covariance of others f32[m c]."""
    from jaxgen.nn.colour_transport import transfer_colours

    del weights
    return transfer_colours(colours[None], like[None])[0]


def spread(colours: np.ndarray, weights: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return colours f32[n c], counted by their weights f32[n], changed to the distribution of others f32[m c].

    Equal colours stay equal: each distinct colour is moved once.
    """
    import jax

    from jaxgen.nn.colour_transport import sliced_transport

    if len(like) > DRAWN:
        like = np.random.default_rng(0).choice(like, DRAWN, replace=False)
    distinct, index = np.unique(colours, axis=0, return_inverse=True)
    counts = np.bincount(index.ravel(), weights).astype(np.float32)
    return np.asarray(jax.jit(sliced_transport)(distinct, like, jax.random.key(0), counts))[index.ravel()]


def opened(name: str) -> Any:
    """Return the model of a harmonisation run. Raises InputError for any other run."""
    from jaxgen.inference.restoration import open_model

    model = open_model(name, "", None)
    if "region" not in model.transform.inputs:
        raise InputError(
            f"{name} is not a harmonisation model: --with needs a run of train.translation --preset harmonisation."
        )
    return model


def harmonised(model: Any, image: np.ndarray, one: Layer) -> np.ndarray:
    """Return the foreground pasted, and harmonised by the net."""
    _, alpha = one.whole(image)
    given = {"degraded": coloured(pasted(image, one)), "region": (alpha > 0).astype(np.float32)}
    made = np.clip(model.padded(given), -1, 1)
    return made.mean(2, keepdims=True) if image.shape[2] == 1 else made


def styled_by(folder: Path) -> tuple[Blend, marks.Mark]:
    """Return the blend that gives a foreground's features the mean and deviation of the background's features.

    With it the mark of outputs. Raises InputError for a run that is not of AdaIN.
    """
    import jax
    import jax.numpy as jnp

    from jaxgen.core.capabilities import Transform
    from jaxgen.core.config import Mesh
    from jaxgen.core.types import averaged
    from jaxgen.pretrained import backbones
    from jaxgen.runs.load import open_run

    opened = open_run(folder, Mesh(data=1))
    transform, nets = opened.task.find(Transform), averaged(opened.state, opened.frozen)
    if transform is None or "style" not in transform.inputs:
        raise InputError(f"{folder} is not an AdaIN run: --with needs a run of train.translation --preset adain.")
    apply, grain, keys = jax.jit(transform.apply), transform.source.multiple, jax.random.split(jax.random.key(0), 1)
    least = backbones.smallest(opened.frozen["backbone"].model)

    def blend(image: np.ndarray, one: Layer) -> np.ndarray:
        if min(image.shape[:2]) < least:
            sizes = "x".join(map(str, image.shape[:2]))
            raise InputError(f"{folder} needs a background of at least {least}x{least}, not {sizes}.")
        place, alpha = around(one.place, image.shape), one.whole(image)[1]
        laid, below, seen = pasted(image, one), coloured(image)[place], alpha[place]
        height, width = below.shape[:2]
        pads = (0, -height % grain), (0, -width % grain), (0, 0)
        parts = {"source": coloured(laid)[place], "style": below, "region": (seen > 0).astype(np.float32)}
        given = {name: jnp.asarray(np.pad(x, pads, "symmetric"))[None] for name, x in parts.items()}
        made = np.clip(np.asarray(apply(*nets, given, keys)["image"])[0, :height, :width], -1, 1)
        made = made if image.shape[2] == 3 else made.mean(2, keepdims=True)
        laid[place] = np.where(seen > 0, seen * made + (1 - seen) * image[place], image[place])
        return laid

    return blend, marks.of_run(marks.EDITED, folder, opened)


def around(place: tuple[slice, slice], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return a region enlarged by half its size on each side, within the image."""
    margin = max(AROUND, *((part.stop - part.start) // 2 for part in place))
    down, right = (
        slice(max(part.start - margin, 0), min(part.stop + margin, side))
        for part, side in zip(place, shape, strict=False)
    )
    return down, right
