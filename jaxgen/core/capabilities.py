"""What the nets of a task can do beside training."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxgen.core.types import Array, Batch, Context, Key, Params

GenerateFn = Callable[[Params, Context, Key, Batch], Batch]  # keys: Key[b]


class Latent(NamedTuple):
    """How a generator is entered: z is drawn, mapped to w, and w becomes an image.

    draw:       (keys Key[b], psi f32[b] or None) -> z f32[b ...]; psi in [0, 1] trades variety for fidelity
    map:        (params, context, z, given) -> w f32[b n d], n rows that can come from different samples, or f32[b d]
    synthesise: (params, context, w, given) -> images f32[b h w c]
    linear:     whether a straight line in w is the way from one sample to another; a great circle in z otherwise
    factors:    (params, context) -> the matrix [d m] by which z, or each of the n rows of w, is multiplied first
    """

    draw: Callable[[Key, Array | None], Array]
    map: Callable[[Params, Context, Array, Batch], Array]
    synthesise: Callable[[Params, Context, Array, Batch], Array]
    linear: bool = False
    factors: Callable[[Params, Context], tuple[Array, ...]] | None = None


class Denoiser(NamedTuple):
    """How an image is told from noise, at the noise levels where sampling stops (jaxgen/diffusion).

    told:    (params, context, x f32[b h w c], tau f32[b], label i32[b] or None) -> E[x0 | x]
    frame:   which x that is, "ve" or "flow"
    taus:    f64[n + 1], falling to 0
    shape:   height, width, channels of x
    classes: the null label is this number; 0: there are no labels
    learned: as told, but that it gives a variance as well, where the net has learned one
    encode:  (params, context, image f32[b h w c]) -> x0, where what is denoised are codes of images
    decode:  (params, context, x0) -> image, there
    """

    told: Callable[..., Array]
    frame: Any
    taus: Any
    shape: tuple[int, ...]
    classes: int
    learned: Callable[..., tuple[Array, Array]] | None = None
    encode: Callable[..., Array] | None = None
    decode: Callable[..., Array] | None = None


class Restorer(NamedTuple):
    """How a damaged image is mended, whatever its size.

    degrade:  (image f32[b h w c], keys Key[b], scale) -> {"degraded": f32[b h/scale w/scale c], and what else is told}
    restore:  (params, context, given, keys Key[b], scale) -> f32[b H W c], H the rounded h times the scale
    scales:   what it enlarges by; (1,): it leaves the size; (): any
    told:     what `restore` needs in `given` beside "degraded": "sigma" f32[b], "mask" f32[b h w 1] where it is hidden,
              "region" f32[b h w 1] where it is to be mended
    multiple: the sides of "degraded" must be divisible by it
    channels: of "degraded"; grey nets take 1 and 3
    colours:  whether a grey image becomes one in colour
    several:  whether other keys give other answers
    whole:    whether "degraded" must be the whole image, never a part of it
    size:     the only height and width of "degraded" that it takes; (): any
    """

    degrade: Callable[..., dict[str, Array]]
    restore: Callable[..., Array]
    scales: tuple[int, ...] = (1,)
    told: tuple[str, ...] = ()
    multiple: int = 1
    channels: tuple[int, ...] = (3,)
    colours: bool = False
    several: bool = False
    whole: bool = False
    size: tuple[int, ...] = ()


class Translator(NamedTuple):
    """How an image becomes one of another domain or style, whatever its size.

    translate: (params, context, given, keys Key[b], to i32[b]) -> f32[b h w channels]
               given: {"source": f32[b h w c]} and what else is told; to: the number of a domain
    domains:   names of what it can make of an image; "image" where it goes one way only
    told:      what `translate` needs in `given` beside "source": "style" f32[b h' w' c], an image to look like
    multiple:  the sides of "source" must be divisible by it
    channels:  of "source"
    several:   whether other keys give other answers
    """

    translate: Callable[..., Array]
    domains: tuple[str, ...] = ("image",)
    told: tuple[str, ...] = ()
    multiple: int = 1
    channels: int = 3
    several: bool = False
