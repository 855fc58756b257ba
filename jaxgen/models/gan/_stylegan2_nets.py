"""The networks of StyleGAN2: Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020.

Modules and parameters have the names of NVIDIA's PyTorch code: `synthesis/b4/conv1/affine/kernel` is
`synthesis.b4.conv1.affine.weight` there. Kernels are [k k in out] and [in out]; the constant input is [4 4 c].
"""

import math
from itertools import pairwise
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array, lax
from jax.ad_checkpoint import checkpoint_name

from jaxgen.core import rng
from jaxgen.core.errors import at_least
from jaxgen.nn.modulated import FIR, NORMAL, SQRT2, EqualConv, EqualDense, modulated_conv, scaled_leaky_relu
from jaxgen.nn.pool import flatten
from jaxgen.nn.upfirdn import downsample, upsample

Architecture = Literal["skip", "resnet", "orig"]
HALF = math.sqrt(0.5)  # scale of both branches of a residual block, so that each has half of the variance


def widths(resolution: int, base: int, maximum: int) -> dict[int, int]:
    """Return {side: channels} for sides from 4 to the resolution. Raises InputError for a too small base."""
    at_least(resolution, model__channel_base=base)
    return {side: min(base // side, maximum) for side in (1 << i for i in range(2, resolution.bit_length()))}


def child_keys(keys: Array, name: str) -> Array:
    """Return for each of the keys Key[b] the key derived from it and `name`."""
    return jax.vmap(lambda key: rng.fold(key, name))(keys)


def at_least_float32(x: Array) -> Array:
    """Return x in f32, or in its own dtype if that has more precision."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def normalise(x: Array) -> Array:
    """Return x [b c] with each row scaled to a mean square of 1."""
    return x * lax.rsqrt((x * x).mean(1, keepdims=True) + 1e-8)


class MappingNetwork(nn.Module):
    """z f32[b z_dim] or None, label i32[b] or None -> w f32[b features]; `w_avg` is the moving mean of w."""

    features: int
    layers: int = 8
    multiplier: float = 0.01
    classes: int = 0
    beta: float | None = None  # decay of w_avg; None: no w_avg

    @nn.compact
    def __call__(self, z: Array | None, label: Array | None = None, train: bool = False) -> Array:
        parts = [] if z is None else [normalise(at_least_float32(z))]
        if self.classes:
            if label is None:
                raise ValueError(f"A network with {self.classes} classes needs labels i32[b].")
            embedded = EqualDense(self.features, name="embed")(jax.nn.one_hot(label, self.classes))  # [b features]
            parts.append(normalise(at_least_float32(embedded)))
        x = jnp.concatenate(parts, 1)  # [b z_dim+features]
        for i in range(self.layers):
            x = EqualDense(self.features, True, self.multiplier, name=f"fc{i}")(x)
        x = at_least_float32(x)
        if self.beta is not None:
            mean = self.variable("batch_stats", "w_avg", jnp.zeros, (self.features,))
            if train:
                mean.value = self.beta * mean.value + (1 - self.beta) * x.mean(0)
        return x

    def truncate(self, w: Array, psi: Array) -> Array:
        mean = self.get_variable("batch_stats", "w_avg")[None]  # [1 features]
        return mean + psi[:, None] * (w - mean)


class SynthesisLayer(nn.Module):
    """x [b h w c_in], w f32[b w_dim], keys Key[b] or None -> [b side side features].

    A modulated 3x3 convolution with noise, bias and activation (figure 2d).
    """

    features: int
    side: int
    up: int = 1
    gain: float = 1.0
    noisy: bool = True  # whether it adds noise

    @nn.compact
    def __call__(self, x: Array, w: Array, keys: Array | None) -> Array:
        style = EqualDense(x.shape[-1], bias=1, name="affine")(w)  # [b c_in]
        kernel = self.param("kernel", NORMAL, (3, 3, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        y = modulated_conv(x, kernel, style, self.up)
        if self.noisy:
            strength, shape = self.param("noise_strength", nn.initializers.zeros, ()), (self.side, self.side)
            constant = self.variable("noise", "noise_const", lambda: NORMAL(self.make_rng("params"), shape)).value
            noise = constant[None] if keys is None else rng.normal(keys, shape)  # [b side side]
            y = y + (strength * noise).astype(y.dtype)[..., None]
        y = y + bias.astype(y.dtype)[None, None, None, :]
        return scaled_leaky_relu(checkpoint_name(y, "conv"), SQRT2 * self.gain)


class ToRGB(nn.Module):
    """x [b h w c], w f32[b w_dim] -> image f32[b h w channels]; a modulated 1x1 convolution without demodulation."""

    channels: int

    @nn.compact
    def __call__(self, x: Array, w: Array) -> Array:
        style = EqualDense(x.shape[-1], bias=1, name="affine")(w) * (1 / math.sqrt(x.shape[-1]))  # [b c]
        kernel = self.param("kernel", NORMAL, (1, 1, x.shape[-1], self.channels))
        y = at_least_float32(modulated_conv(x, kernel, style, demodulate=False))
        return checkpoint_name(
            y + self.param("bias", nn.initializers.zeros, (self.channels,))[None, None, None], "conv"
        )


class SynthesisBlock(nn.Module):
    """One resolution of the generator: x [b side/2 side/2 c], image -> x [b side side features], image."""

    features: int
    side: int
    channels: int
    architecture: Architecture
    last: bool
    noisy: bool = True

    @nn.compact
    def __call__(
        self, x: Array | None, image: Array | None, ws: Array, keys: Array | None, beside: Array | None = None
    ) -> tuple[Array, Array | None]:
        def keys_of(layer: str) -> Array | None:
            return None if keys is None else child_keys(keys, f"b{self.side}.{layer}")

        if x is None:
            const = self.param("const", NORMAL, (4, 4, self.features))
            x = jnp.broadcast_to(const[None], (ws.shape[0], *const.shape))  # [b 4 4 features]
            if beside is not None:  # numbers of each image, at all places
                wide = jnp.broadcast_to(beside[:, None, None], (*x.shape[:3], beside.shape[-1]))
                x = jnp.concatenate([x, wide.astype(x.dtype)], -1)  # [b 4 4 features+d]
            x = SynthesisLayer(self.features, self.side, noisy=self.noisy, name="conv1")(x, ws[:, 0], keys_of("conv1"))
        else:
            residual = self.architecture == "resnet"
            gain, y = (HALF if residual else 1.0), x
            x = SynthesisLayer(self.features, self.side, 2, noisy=self.noisy, name="conv0")(
                x, ws[:, 0], keys_of("conv0")
            )  # [b 2h 2w features]
            last = SynthesisLayer(self.features, self.side, gain=gain, noisy=self.noisy, name="conv1")
            x = last(x, ws[:, 1], keys_of("conv1"))
            if residual:
                skip = EqualConv(self.features, 1, up=2, activate=False, use_bias=False, gain=HALF, name="skip")
                x = skip(y) + x
        if image is not None:
            image = upsample(image, FIR)  # [b 2h 2w channels]
        if self.last or self.architecture == "skip":
            y = ToRGB(self.channels, name="torgb")(x, ws[:, -1])
            image = y if image is None else image + y
        return x, image


class SynthesisNetwork(nn.Module):
    """ws f32[b num_ws w_dim], keys Key[b] or None -> image f32[b h w c] (figure 7).

    beside: f32[b d], concatenated to the constant that each image begins with
    """

    widths: dict[int, int]
    channels: int
    architecture: Architecture
    noisy: bool = True  # whether the layers add noise

    @nn.compact
    def __call__(self, ws: Array, keys: Array | None, beside: Array | None = None) -> Array:
        x, image, first = None, None, 0
        for side, features in self.widths.items():
            last, layers = side == max(self.widths), 1 if x is None else 2
            name = f"b{side}"
            block = SynthesisBlock(features, side, self.channels, self.architecture, last, self.noisy, name=name)
            own = ws[:, first : first + layers + 1]  # ToRGB uses the next block's first w
            x, image = block(x, image, own, keys, beside)
            first += layers
        assert image is not None
        return image


class StyleGAN2Generator(nn.Module):
    """z f32[b z_dim] -> image f32[b resolution resolution channels], not bounded to [-1, 1].

    The collection `noise` has a constant noise image for each layer, used when there are no keys. Style mixing: in
    training an image takes w from a second z with probability `mixing`, for all layers from a random depth on (Karras
    et al. 2019, section 3.1).
    """

    resolution: int
    channels: int = 3
    z_dim: int = 512
    w_dim: int = 512
    classes: int = 0
    mapping_layers: int = 8
    multiplier: float = 0.01  # of the mapping network's learning rate
    beta: float = 0.995  # decay of w_avg
    channel_base: int = 32768
    channel_max: int = 512
    architecture: Architecture = "skip"
    mixing: float = 0.9

    def setup(self):
        self.mapping = MappingNetwork(self.w_dim, self.mapping_layers, self.multiplier, self.classes, self.beta)
        widths_ = widths(self.resolution, self.channel_base, self.channel_max)
        self.synthesis = SynthesisNetwork(widths_, self.channels, self.architecture)

    @property
    def num_ws(self) -> int:
        """Number of rows of w: two for each resolution above 4x4, one for 4x4, and one for the last ToRGB."""
        return 2 * (self.resolution.bit_length() - 1) - 2

    def __call__(self, z: Array, label: Array | None = None, keys: Array | None = None, *, train: bool) -> Array:
        """Return the images f32[b h w c] of z f32[b z_dim]; each depends on its own z, label and key only."""
        return self.synthesise(self.latents(z, label, keys, train=train), keys)

    def latents(self, z: Array, label: Array | None = None, keys: Array | None = None, *, train: bool) -> Array:
        """Return ws f32[b num_ws w_dim], with style mixing in training. Raises ValueError if mixing has no keys."""
        w = self.map(z, label, train)
        ws = jnp.broadcast_to(w[:, None], (w.shape[0], self.num_ws, self.w_dim))  # [b num_ws w_dim]
        if not train or not self.mixing:
            return ws
        if keys is None:
            raise ValueError("StyleGAN2's style mixing in training needs keys, Key[b].")
        second = self.map(rng.normal(child_keys(keys, "mixing"), (self.z_dim,)), label, False)
        mixed = jax.vmap(lambda key: jax.random.bernoulli(key, self.mixing))(child_keys(keys, "mixed"))  # [b]
        cut = jax.vmap(lambda key: jax.random.randint(key, (), 1, self.num_ws))(child_keys(keys, "cut"))  # [b]
        deep = jnp.arange(self.num_ws)[None] >= jnp.where(mixed, cut, self.num_ws)[:, None]  # [b num_ws]
        return jnp.where(deep[..., None], second[:, None], ws)

    def map(self, z: Array, label: Array | None = None, train: bool = False) -> Array:
        """Return w f32[b w_dim]; in training w_avg <- beta w_avg + (1 - beta) mean of w."""
        return self.mapping(z, label, train)

    def truncate(self, w: Array, psi: Array) -> Array:
        """Return w_avg + psi (w - w_avg), w f32[b w_dim], psi f32[b] (Karras et al. 2019, appendix B)."""
        return self.mapping.truncate(w, psi)

    def synthesise(self, ws: Array, keys: Array | None = None) -> Array:
        """Return the images f32[b h w c] of ws f32[b num_ws w_dim], with noise from keys Key[b] or constant noise."""
        return self.synthesis(ws, keys)


class DiscriminatorBlock(nn.Module):
    """One resolution of the discriminator: x [b h w c], image -> x [b h/2 w/2 features], image.

    With the architecture "skip" the image is returned at half its size.
    """

    width: int
    features: int
    architecture: Architecture

    @nn.compact
    def __call__(self, x: Array | None, image: Array) -> tuple[Array, Array]:
        residual = self.architecture == "resnet"
        gain = HALF if residual else 1.0
        if x is None or self.architecture == "skip":
            y = EqualConv(self.width, 1, name="fromrgb")(image)
            x = y if x is None else x + y
        y = EqualConv(self.width, name="conv0")(x)
        y = EqualConv(self.features, down=2, gain=gain, name="conv1")(y)  # [b h/2 w/2 features]
        if residual:
            skip = EqualConv(self.features, 1, down=2, activate=False, use_bias=False, gain=HALF, name="skip")
            y = skip(x) + y
        return y, downsample(image, FIR) if self.architecture == "skip" else image


class DiscriminatorEpilogue(nn.Module):
    """x [b 4 4 c] and the image -> [b outputs]."""

    outputs: int
    architecture: Architecture
    group: int

    @nn.compact
    def __call__(self, x: Array, image: Array) -> Array:
        features = x.shape[-1]
        if self.architecture == "skip":
            x = x + EqualConv(features, 1, name="fromrgb")(image)
        x = EqualConv(features, name="conv")(add_minibatch_deviation(x, self.group))  # [b 4 4 c+1] -> [b 4 4 c]
        x = EqualDense(features, True, name="fc")(flatten(x))  # [b c*4*4] -> [b c]
        return EqualDense(self.outputs, name="out")(x)


def add_minibatch_deviation(x: Array, group: int) -> Array:
    """Append the minibatch standard deviation, averaged over each group, as a channel, x [b h w c] -> [b h w c+1].

    The size of the groups is the largest divisor of the batch size up to `group`. With n groups, each has every n-th
    image, on whatever devices these are. Karras et al. 2018, section 3.
    """
    b, h, w, _ = x.shape
    size = next(size for size in range(min(group, b), 0, -1) if b % size == 0)
    y = at_least_float32(x).reshape(size, b // size, -1)  # [g n h*w*c]
    y = y - y.mean(0, keepdims=True)
    y = jnp.sqrt((y * y).mean(0) + 1e-8).mean(1)  # [n]
    y = jnp.broadcast_to(y[None, :, None, None], (size, b // size, h, w)).reshape(b, h, w, 1)
    return jnp.concatenate([x, y.astype(x.dtype)], -1)


class StyleGAN2Discriminator(nn.Module):
    """image f32[b h w c] -> logits f32[b]; with classes an inner product with the label's embedding.

    The images are square; their side is a power of two and at least 8. `map_dim` is the size of the label's embedding;
    None: the number of channels at 4x4.
    """

    classes: int = 0
    channel_base: int = 32768
    channel_max: int = 512
    architecture: Architecture = "resnet"
    group: int = 4  # images in each group of the minibatch standard deviation
    mapping_layers: int = 8
    map_dim: int | None = None

    @nn.compact
    def __call__(self, image: Array, label: Array | None = None, *, train: bool) -> Array:
        del train
        channels = widths(image.shape[1], self.channel_base, self.channel_max)
        sides, x = sorted(channels, reverse=True), None
        small = image
        for side, half in pairwise(sides):
            block = DiscriminatorBlock(channels[side], channels[half], self.architecture, name=f"b{side}")
            x, small = block(x, small)
        assert x is not None
        outputs = (self.map_dim or channels[4]) if self.classes else 1
        y = at_least_float32(DiscriminatorEpilogue(outputs, self.architecture, self.group, name="b4")(x, small))
        if not self.classes:
            return y[:, 0]
        mapped = MappingNetwork(outputs, self.mapping_layers, classes=self.classes, name="mapping")(
            None, label
        )  # [b outputs]
        return (y * mapped).sum(1) * (1 / math.sqrt(outputs))
