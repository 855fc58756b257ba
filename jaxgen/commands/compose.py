"""python -m jaxgen compose: several images become one."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from jaxgen.core.errors import InputError
from jaxgen.media import output_files, photo
from jaxgen.media.compositing import Layer, coloured, layer, opaque

MOST = 2_000_000  # unknowns of Poisson's equation: some GiB, and minutes
NETS = {"adain": "adain", "harmonise": "harmonisation"}  # the presets of ways that need a run
AROUND = 32  # pixels on each side of a foreground, at least, whose features it gets
DRAWN = 1 << 18  # of the background's pixels, where there are more, for its palette

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
    overwrite: bool = False,
):
    """Lay images, one on the other, into a background so that they look as one.

    Args:
        background: an image; the answer has its size, bits, alpha and EXIF
        foregrounds: the images that are laid on it, in this order
        masks: white where a foreground is kept, grey where it shines through, one for each, of its size; unset: its
            alpha, or all of it
        at: where the upper left corner of each comes to lie, down and right in pixels, such as 20,100; unset: in the
            middle
        size: how much larger each becomes; unset: 1
        how: poisson keeps the foreground's differences between neighbours, and at its border the background's colours:
            for photographs that are cut out loosely, where the others are for what is cut out sharply; mixed keeps the
            larger of both images' differences; colours gives it the background's colours by optimal transport, their
            mean and covariance, palette all of them, each as often as it is there, which suits photographs more than
            what has few colours; adain gives its features the background's mean and deviation; harmonise asks a net;
            paste leaves it as it is
        with_: the run whose net is used by adain and harmonise (train.translation --preset adain, harmonisation)
        out: a file; unset: BACKGROUND-composed.png
        overwrite: replace what is there
    """
    target = out or background.with_name(f"{background.stem}-composed.png")
    output_files.check(target, photo.WRITTEN, overwrite, given=[background, *foregrounds, *masks])
    if not foregrounds:
        raise InputError("Name the background and at least one foreground.")
    for name, given in (("masks", masks), ("at", at), ("size", size)):
        if given and len(given) != len(foregrounds):
            hint = ", as 20,100 is" if name == "at" else ""
            raise InputError(f"--{name} needs one{hint}, for each foreground: {len(foregrounds)}, not {len(given)}.")
    if (how in NETS) != bool(with_):
        raise InputError(f"--with names the net of --how {' or '.join(NETS)}: give both or neither.")
    if not all(each > 0 for each in size):
        raise InputError(f"--size must be above 0, not {min(size):g}.")
    places = [corner(text) for text in at] or [None] * len(foregrounds)
    below = photo.read(background)
    layers = [
        layer(file, masks[i] if masks else None, size[i] if size else 1.0, places[i], below)
        for i, file in enumerate(foregrounds)
    ]
    blend = blender(how, with_)
    picture = below.pixels
    for one in layers:
        picture = blend(one.like(picture), one)
    photo.write(target, photo.quantised(picture, below.bits), below, opaque(below, layers))
    print(f"{len(layers)} on {background}, by {how}: {target}")


def corner(text: str) -> tuple[int, int]:
    """Return the pixels down and right of "20,100". Raises InputError for anything else."""
    try:
        down, right = map(int, text.split(","))
    except ValueError:
        raise InputError(f"--at is pixels down and right, such as 20,100, not {text!r}.") from None
    return down, right


Blend = Callable[[np.ndarray, Layer], np.ndarray]
Move = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def blender(how: How, with_: str) -> Blend:
    """Return (background f32[h w c], layer) -> f32[h w c]. Raises InputError where a net is needed and is none."""
    if how in NETS:
        if not Path(with_).is_dir():
            raise InputError(
                f"There is no run folder {with_}: --with names one of train.translation --preset {NETS[how]}."
            )
        return styled_by(Path(with_)) if how == "adain" else partial(harmonised, opened(with_))
    ways = {"paste": pasted, "poisson": solved, "mixed": partial(solved, mixed=True)}
    return {**ways, "colours": partial(transported, moved), "palette": partial(transported, spread)}[how]


def pasted(picture: np.ndarray, one: Layer) -> np.ndarray:
    """Return the foreground laid over the background by its alpha."""
    above, alpha = one.whole(picture)
    return np.where(alpha > 0, alpha * above + (1 - alpha) * picture, picture).astype(np.float32)


def solved(picture: np.ndarray, one: Layer, mixed: bool = False) -> np.ndarray:
    """Return Poisson blending of what is seen, laid on the background by its alpha."""
    from jaxgen.media.poisson_blending import poisson

    above, alpha = one.whole(picture)
    if (count := int((alpha > 0).sum())) > MOST:
        raise InputError(f"Of a foreground {MOST:,} pixels at most can be blended, not {count:,}: write --how paste.")
    known = np.zeros(alpha.shape, bool)
    known[one.place] = one.known
    made = np.clip(poisson(picture, above, alpha > 0, mixed, known), -1, 1)
    return alpha * made + (1 - alpha) * picture


def transported(move: Move, picture: np.ndarray, one: Layer) -> np.ndarray:
    """Return the foreground in the background's colours laid on it; the colours are those of what is seen of it."""
    above, alpha = one.whole(picture)
    seen = alpha[..., 0] > 0
    above[seen] = np.clip(move(above[seen], alpha[seen][:, 0], picture.reshape(-1, picture.shape[2])), -1, 1)
    return np.where(alpha > 0, alpha * above + (1 - alpha) * picture, picture).astype(np.float32)


def moved(colours: np.ndarray, weights: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return colours f32[n c] with the mean and covariance of others f32[m c]."""
    import jax.numpy as jnp

    from jaxgen.nn.colour_transport import transfer_colours

    del weights
    return np.asarray(transfer_colours(jnp.asarray(colours)[None], jnp.asarray(like)[None]))[0]


def spread(colours: np.ndarray, weights: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Return colours f32[n c], each counted by its weight f32[n], with the distribution of others f32[m c].

    What is of one colour stays so: each colour is moved once, however often it is there.
    """
    import jax

    from jaxgen.nn.colour_transport import sliced_transport

    if len(like) > DRAWN:
        like = np.random.default_rng(0).choice(like, DRAWN, replace=False)
    each, which = np.unique(colours, axis=0, return_inverse=True)
    counts = np.bincount(which.ravel(), weights).astype(np.float32)
    return np.asarray(jax.jit(sliced_transport)(each, like, jax.random.key(0), counts))[which.ravel()]


def opened(name: str) -> Any:
    """Return the work of a harmonisation net. Raises InputError for any other."""
    from jaxgen.inference.restoration import open_model

    model = open_model(name, "", None)
    if "region" not in model.transform.inputs:
        raise InputError(f"{name} does not harmonise: it needs a run of train.translation --preset harmonisation.")
    return model


def harmonised(model: Any, picture: np.ndarray, one: Layer) -> np.ndarray:
    """Return the foreground pasted, then its colours as the net would have them."""
    _, alpha = one.whole(picture)
    given = {"degraded": coloured(pasted(picture, one)), "region": (alpha > 0).astype(np.float32)}
    made = np.clip(model.padded(given), -1, 1)
    return made.mean(2, keepdims=True) if picture.shape[2] == 1 else made


def styled_by(folder: Path) -> Blend:
    """Return the blend that gives a foreground's code the moments of the background's. Raises InputError for a run
    that is none of AdaIN."""
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
        raise InputError(f"{folder} knows no style: it needs a run of train.translation --preset adain.")
    apply, grain, keys = jax.jit(transform.apply), transform.source.multiple, jax.random.split(jax.random.key(0), 1)
    least = backbones.smallest(opened.frozen["backbone"].model)

    def blend(picture: np.ndarray, one: Layer) -> np.ndarray:
        if min(picture.shape[:2]) < least:
            sizes = "x".join(map(str, picture.shape[:2]))
            raise InputError(f"{folder} needs a background of {least}x{least} at least, not {sizes}.")
        place, alpha = around(one.place, picture.shape), one.whole(picture)[1]
        laid, below, seen = pasted(picture, one), coloured(picture)[place], alpha[place]
        height, width = below.shape[:2]
        pads = (0, -height % grain), (0, -width % grain), (0, 0)
        parts = {"source": coloured(laid)[place], "style": below, "region": (seen > 0).astype(np.float32)}
        given = {name: jnp.asarray(np.pad(x, pads, "symmetric"))[None] for name, x in parts.items()}
        made = np.asarray(apply(*nets, given, keys)["image"])[0, :height, :width]
        made = made if picture.shape[2] == 3 else made.mean(2, keepdims=True)
        laid[place] = np.where(seen > 0, seen * made + (1 - seen) * picture[place], picture[place])
        return laid

    return blend


def around(place: tuple[slice, slice], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Return a place with half as much again on each side, as far as the image goes."""
    margin = max(AROUND, *((part.stop - part.start) // 2 for part in place))
    down, right = (
        slice(max(part.start - margin, 0), min(part.stop + margin, side))
        for part, side in zip(place, shape, strict=False)
    )
    return down, right
