"""The residual networks of SNGAN, and of its class-conditional form with a projection discriminator.

Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks", appendix B.4, table 4, and Miyato and
Koyama 2018, "cGANs with Projection Discriminator". The training task applies spectral normalisation to the weights; it
is not part of these networks.
"""

import jax.numpy as jnp
from flax import linen as nn
from jax import Array

from jaxgen.nn.conditional import ConditionalBatchNorm, Embed
from jaxgen.nn.conv import Conv, Dense
from jaxgen.nn.norm import BatchNorm
from jaxgen.nn.pool import avg_pool

Initializer = nn.initializers.Initializer
GLOROT = nn.initializers.glorot_uniform()
GAINED = nn.initializers.variance_scaling(2.0, "fan_avg", "uniform")  # Glorot's, times sqrt(2)
EPSILON = 2e-5  # of Chainer's batch norm; the authors' code uses Chainer


def upsample(x: Array) -> Array:
    """Return x upsampled by nearest neighbour, [b h w c] -> [b 2h 2w c]."""
    b, h, w, c = x.shape
    return jnp.broadcast_to(x[:, :, None, :, None, :], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)


class GeneratorBlock(nn.Module):
    """A residual block with upsampling by 2, x [b h w c] -> [b 2h 2w features].

    With classes the condition is a label i32[b], and the batch norms have a scale and a bias for each class. Without
    classes the condition is a vector f32[b d] for conditional batch norm, or None for plain batch norm.
    """

    features: int
    classes: int = 0
    epsilon: float = EPSILON
    norm_init: Initializer = nn.initializers.zeros
    residual_init: Initializer = GAINED
    shortcut_init: Initializer = GLOROT

    @nn.compact
    def __call__(self, x: Array, condition: Array | None, train: bool) -> Array:
        def norm(x: Array, name: str) -> Array:
            if condition is None and not self.classes:
                return BatchNorm(epsilon=self.epsilon, name=name)(x, train)
            inner = ConditionalBatchNorm(self.classes, epsilon=self.epsilon, kernel_init=self.norm_init, name=name)
            return inner(x, condition, train)

        convs = [Conv(self.features, (3, 3), kernel_init=self.residual_init, name=f"conv{i}") for i in (1, 2)]
        y = upsample(nn.relu(norm(x, "norm1")))  # [b 2h 2w c]
        y = nn.relu(norm(convs[0](y), "norm2"))
        # A 1x1 convolution commutes with nearest-neighbour upsampling. This order is the cheaper one.
        x = Conv(self.features, (1, 1), kernel_init=self.shortcut_init, name="shortcut")(x)
        return upsample(x) + convs[1](y)


class DiscriminatorBlock(nn.Module):
    """A residual block, x [b h w c] -> [b h' w' features]; with `down` it halves the sides.

    The first block of a network, whose input is the image, has no ReLU before its first convolution.
    """

    features: int
    down: bool
    first: bool = False
    residual_init: Initializer = GAINED
    shortcut_init: Initializer = GLOROT

    @nn.compact
    def __call__(self, x: Array) -> Array:
        convs = [Conv(self.features, (3, 3), kernel_init=self.residual_init, name=f"conv{i}") for i in (1, 2)]
        y = convs[0](x if self.first else nn.relu(x))
        y = convs[1](nn.relu(y))
        if self.down:
            x, y = (avg_pool(v, 2, 2) for v in (x, y))  # [b h/2 w/2 c]
        if self.down or x.shape[-1] != self.features:
            # A 1x1 convolution commutes with average pooling. This order is the cheaper one.
            x = Conv(self.features, (1, 1), kernel_init=self.shortcut_init, name="shortcut")(x)
        return x + y


class ProjectionHead(nn.Module):
    """phi [b c] and a label -> logits f32[b]: psi(phi) + <embed(y), phi>, or without classes psi(phi) alone.

    Miyato and Koyama 2018, equation 3, with a linear psi.
    """

    classes: int = 0
    use_bias: bool = False
    kernel_init: Initializer = GLOROT

    @nn.compact
    def __call__(self, phi: Array, label: Array | None) -> Array:
        dense = Dense(1, use_bias=self.use_bias, kernel_init=self.kernel_init, name="psi")
        logits = dense(phi)[:, 0].astype(jnp.float32)  # [b]
        if self.classes:
            embedded = Embed(self.classes, phi.shape[-1], self.kernel_init, name="embed")(label)
            logits += (embedded.astype(jnp.float32) * phi).sum(-1)
        return logits


class SNGANGenerator(nn.Module):
    """z f32[b latent] and, with classes, label i32[b] -> image f32[b h w c] in [-1, 1].

    base is the image's size divided by 2^stages. The paper has base (4, 4), 3 stages and width 256.
    """

    base: tuple[int, int]
    stages: int
    width: int
    channels: int
    classes: int = 0

    @nn.compact
    def __call__(self, z: Array, label: Array | None = None, keys: Array | None = None, *, train: bool) -> Array:
        height, width = self.base
        condition = label if self.classes else None
        x = Dense(height * width * self.width, kernel_init=GLOROT)(z)
        x = x.reshape(-1, height, width, self.width)  # [b h w c]
        for i in range(self.stages):
            x = GeneratorBlock(self.width, self.classes, name=f"block{i + 1}")(x, condition, train)  # [b 2h 2w c]
        x = nn.relu(BatchNorm(epsilon=EPSILON)(x, train))
        x = Conv(self.channels, (3, 3), kernel_init=GLOROT)(x)
        return jnp.tanh(x.astype(jnp.float32))


class SNGANDiscriminator(nn.Module):
    """image f32[b h w c] and, with classes, label i32[b] -> logits f32[b]; the paper has width 128."""

    width: int
    classes: int = 0

    @nn.compact
    def __call__(self, x: Array, label: Array | None = None, *, train: bool) -> Array:
        for i in range(4):
            x = DiscriminatorBlock(self.width, down=i < 2, first=i == 0, name=f"block{i + 1}")(x)
        phi = nn.relu(x).astype(jnp.float32).sum((1, 2))  # [b c]
        return ProjectionHead(self.classes, name="head")(phi, label)
