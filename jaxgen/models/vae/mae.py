"""MAE: He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022.

Most patches of an image are masked, at random for each image. The encoder, a vision transformer, sees only the visible
patches. The decoder gets their tokens, and a learned mask token at each masked position, and predicts all patches.
Minimise the squared error of the masked patches' pixels, or with `norm_pixels` of the pixels normalised by the patch's
mean and standard deviation. Position embeddings are fixed sines and cosines. The class token has no loss of its own.
Layers, sizes, initialisation (except that the patch embedding's bias starts at 0), optimizer and weight decay are those
of the authors' PyTorch code, facebookresearch/mae. Images are in [-1, 1].

`generate` masks patches of a given image by the sample's key and predicts them; the visible patches are unchanged. With
`norm_pixels` the net does not predict a patch's mean and deviation. The result then uses those of the given image's
patch: it shows what was learned, and is not inpainting. `encode` returns the tokens of the whole image, the class token
first, as features to average or probe. There is no `decode`: the decoder's predictions at visible positions have no
loss, and look bad.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.capabilities import Codec
from jaxgen.core.config import Data, Log, Optim, Preset, Run, Save
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.ranges import Decay
from jaxgen.core.spec import labelled
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Key, Learner, Params, Phase, PyTree
from jaxgen.interop.weight_names import SAME, Layout, Path, Rule, axes, plain
from jaxgen.nn.conv import Dense
from jaxgen.nn.precision import to_f32
from jaxgen.nn.transformer import XAVIER, Layer, from_patches, layer_norm, sin_cos_positions, stack_layers, to_patches
from jaxgen.tasks.transforms import generation

TOKEN = nn.initializers.normal(0.02)
EPSILON = 1e-6  # added to a patch's variance


@dataclass(frozen=True)
class MAE:
    """Hyper-parameters of a masked autoencoder."""

    image: tuple[int, int, int] = (28, 28, 1)  # height, width, channels
    patch: int = 4  # side of a patch in pixels
    width: int = 128  # size of the encoder's tokens
    depth: int = 4  # layers of the encoder
    heads: int = 4  # attention heads of the encoder
    decoder_width: int = 64  # size of the decoder's tokens
    decoder_depth: int = 2  # layers of the decoder
    decoder_heads: int = 4  # attention heads of the decoder
    mask: Decay = 0.75  # share of the patches that are masked
    norm_pixels: bool = False  # predict pixels normalised by each patch's mean and deviation
    learning_rate: float = 1e-3  # of AdamW
    weight_decay: float = 0.05  # of kernels and tokens, not of norms and biases

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for image sizes that the nets can't make."""
        del steps
        self.check()
        example = labelled(self.image, 0)
        adamw = optax.adamw(self.learning_rate, 0.9, 0.95, weight_decay=self.weight_decay, mask=decay_mask)
        return Task(
            init=self.init,
            example=example,
            learners={"mae": Learner(("encoder", "decoder"), adamw)},
            phases=(Phase("mae", "mae", self.loss),),
            capabilities=(generation(self.generate, example, example), Codec(self.encode)),
        )

    def check(self):
        """Raise InputError for sizes that do not fit together."""
        at_least(1, model__image=min(self.image), model__patch=self.patch, model__depth=self.depth)
        at_least(1, model__decoder_depth=self.decoder_depth, model__heads=self.heads)
        at_least(1, model__decoder_heads=self.decoder_heads)
        at_least(4, model__width=self.width, model__decoder_width=self.decoder_width)
        at_least(0, model__weight_decay=self.weight_decay)
        height, width, channels = self.image
        if height % self.patch or width % self.patch:
            raise InputError(f"model.patch={self.patch} must divide both sides of a {height}x{width} image.")
        for name in ("", "decoder_"):
            size, heads = getattr(self, f"{name}width"), getattr(self, f"{name}heads")
            if size % 4 or size % heads:
                raise InputError(f"model.{name}width={size} must be a multiple of 4 and of model.{name}heads={heads}.")
        if not (0 < self.mask < 1 and 0 < self.visible < self.patch_count):
            raise InputError(
                f"model.mask={self.mask} must mask at least one of the {self.patch_count} patches, but not all of them."
            )
        if self.norm_pixels and self.patch**2 * channels == 1:
            raise InputError("model.norm_pixels needs patches of more than one number to have a standard deviation.")

    @property
    def rows(self) -> int:
        """Rows of patches."""
        return self.image[0] // self.patch

    @property
    def columns(self) -> int:
        """Columns of patches."""
        return self.image[1] // self.patch

    @property
    def patch_count(self) -> int:
        """Number of patches n."""
        return self.rows * self.columns

    @property
    def visible(self) -> int:
        """Number of visible patches v."""
        # int() rounds down. round() comes first, so that 10 (1 - 0.9) = 0.9999... gives 1.
        return int(round(self.patch_count * (1 - self.mask), 6))

    def init(self, key: Key, spec: Any = None):
        del spec
        position = jnp.zeros((2, 1), jnp.int32)
        patch, token = jnp.zeros((2, 1, self.patch**2 * self.image[2])), jnp.zeros((2, 2, self.width))
        nets = {
            "encoder": MAEEncoder(self).init(rng.fold(key, "encoder"), patch, position),
            "decoder": MAEDecoder(self).init(rng.fold(key, "decoder"), token, position),
        }
        return {net: v["params"] for net, v in nets.items()}, {}

    def split_patches(self, keys: Key) -> tuple[Array, Array]:
        """Return random positions of the visible and the masked patches, i32[b v] and i32[b n-v]; keys Key[b]."""
        order = jax.vmap(lambda key: jax.random.permutation(key, self.patch_count))(keys)  # [b n]
        return order[:, : self.visible], order[:, self.visible :]

    def tokens(self, params: Params, patches: Array, positions: Array) -> Array:
        """Return the encoder's tokens f32[b 1+v width] of the patches f32[b n d] at positions i32[b v]."""
        found: Any = MAEEncoder(self).apply(
            {"params": params["encoder"]}, gather_patches(patches, positions), positions
        )
        return found

    def decode_patches(self, params: Params, tokens: Array, positions: Array) -> Array:
        """Return all predicted patches f32[b n d], from tokens f32[b 1+v width] of the positions i32[b v]."""
        found: Any = MAEDecoder(self).apply({"params": params["decoder"]}, tokens, positions)
        return found

    def target(self, patches: Array) -> Array:
        """Return the target of the decoder for patches f32[b n d]."""
        if not self.norm_pixels:
            return patches
        mean, deviation = statistics(patches)
        return (patches - mean) / deviation

    def pixels(self, predicted: Array, patches: Array) -> Array:
        """Return predicted patches f32[b n d] in the image's units; patches are the true ones at their positions."""
        if not self.norm_pixels:
            return predicted
        mean, deviation = statistics(patches)
        return predicted * deviation + mean

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        del context
        patches = to_patches(batch["image"], self.patch)  # [b n d]
        visible, masked = self.split_patches(jax.random.split(key, patches.shape[0]))
        predicted = self.decode_patches(params, self.tokens(params, patches, visible), visible)
        predicted, true = gather_patches(predicted, masked), gather_patches(patches, masked)  # [b n-v d]
        # With norm_pixels the metric uses the true mean and deviation, which makes it smaller: hence its own name.
        name = "masked_squared_error" + ("_rescaled" if self.norm_pixels else "")
        metrics = {name: ((self.pixels(predicted, true) - true) ** 2).mean()}
        error = ((predicted - self.target(true)) ** 2).mean((1, 2))  # [b]
        return error.mean(), Aux(metrics)

    def generate(self, params: Params, context: Context, keys: Key, given):
        """Return {"image": f32[b h w c]}: the given images, with the patches that each key masks predicted."""
        patches = to_patches(given["image"], self.patch)
        visible, _ = self.split_patches(keys)
        predicted = self.pixels(self.decode_patches(params, self.tokens(params, patches, visible), visible), patches)
        return {"image": self.to_image(scatter_patches(predicted, visible, gather_patches(patches, visible)))}

    def encode(self, params: Params, context: Context, batch) -> Array:
        """Return the tokens of whole images, f32[b 1+n width]: the class token, then the patches row by row."""
        patches = to_patches(batch["image"], self.patch)
        all_positions = jnp.broadcast_to(jnp.arange(self.patch_count)[None], (patches.shape[0], self.patch_count))
        return self.tokens(params, patches, all_positions)

    def to_image(self, patches: Array) -> Array:
        """Return the images f32[b h w c] in [-1, 1] of patches f32[b n d]."""
        return jnp.clip(from_patches(patches, self.patch, self.rows), -1, 1)


class MAEEncoder(nn.Module):
    """(patches f32[b v d], their positions i32[b v]) -> tokens f32[b 1+v width], the class token first."""

    model: MAE

    @nn.compact
    def __call__(self, patches: Array, positions: Array) -> Array:
        m = self.model
        x = Dense(m.width, kernel_init=XAVIER, name="patch_embed")(patches)
        x = x + jnp.asarray(sin_cos_positions(m.rows, m.columns, m.width), x.dtype)[positions]
        token = self.param("cls_token", TOKEN, (1, 1, m.width))
        x = jnp.concatenate([jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], 1, m.width)), x], 1)  # [b 1+v width]
        x = stack_layers(Layer(m.heads, name="blocks"), m.depth, x)
        return to_f32(layer_norm("norm")(x))


class MAEDecoder(nn.Module):
    """(tokens f32[b 1+v width], positions i32[b v] of all but the first, the class token) -> patches f32[b n d]."""

    model: MAE

    @nn.compact
    def __call__(self, tokens: Array, positions: Array) -> Array:
        m = self.model
        x = Dense(m.decoder_width, kernel_init=XAVIER, name="decoder_embed")(tokens)
        token = self.param("mask_token", TOKEN, (1, 1, m.decoder_width))
        full = jnp.broadcast_to(token.astype(x.dtype), (x.shape[0], m.patch_count, m.decoder_width))  # [b n width]
        full = scatter_patches(full, positions, x[:, 1:])
        full = full + jnp.asarray(sin_cos_positions(m.rows, m.columns, m.decoder_width), x.dtype)[None]
        x = jnp.concatenate([x[:, :1], full], 1)  # [b 1+n width]
        x = stack_layers(Layer(m.decoder_heads, name="decoder_blocks"), m.decoder_depth, x)
        x = layer_norm("decoder_norm")(x[:, 1:])  # [b n width]
        return to_f32(Dense(m.patch**2 * m.image[2], kernel_init=XAVIER, name="decoder_pred")(x))


def gather_patches(x: Array, positions: Array) -> Array:
    """Return the patches of x [b n d] at positions i32[b k], [b k d]."""
    return jnp.take_along_axis(x, positions[..., None], 1)


def scatter_patches(x: Array, positions: Array, patches: Array) -> Array:
    """Return x [b n d] with patches [b k d] written at positions i32[b k], which are all different."""
    return jax.vmap(lambda x, i, patches: x.at[i].set(patches, unique_indices=True))(x, positions, patches)


def statistics(patches: Array) -> tuple[Array, Array]:
    """Return the mean and the standard deviation (with d - 1) of each patch of f32[b n d], f32[b n 1] each."""
    return patches.mean(-1, keepdims=True), jnp.sqrt(patches.var(-1, keepdims=True, ddof=1) + EPSILON)


def decay_mask(params: PyTree) -> PyTree:
    """Return the mask of the parameters with weight decay: all but the norms' and biases."""
    return jax.tree_util.tree_map_with_path(lambda path, x: path[-1].key not in ("bias", "scale"), params)


def weight_name(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout | None]:
    """Return the authors' name; the layers of a stack are one array, as in torch.func.stack_module_state."""
    name, layout = plain(model, net, path, shape)
    if "blocks" in path[0]:  # [depth in out] -> [depth out in]
        return name, axes(0, 2, 1) if len(shape) == 3 else SAME
    if path[0] == "patch_embed":
        p, c = model.patch, model.image[2]
        patches = Layout(  # [p*p*c out] -> [out c p p]
            lambda x: x.reshape(p, p, c, -1).transpose(3, 2, 0, 1),
            lambda x: x.transpose(2, 3, 1, 0).reshape(p * p * c, -1),
        )
        return name.replace("patch_embed", "patch_embed.proj"), patches if len(shape) == 2 else SAME
    return name, layout


WEIGHT_NAMES: Rule = weight_name


def tiny(model: MAE) -> Run:
    """Return the tiny run of a model."""
    small = {"width": 16, "depth": 2, "heads": 2, "decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2}
    return Run(
        replace(model, image=(8, 8, model.image[2]), patch=2, learning_rate=1e-3, **small),
        steps=20,
        batch=16,
        log=Log(every=5, samples=10, count=16),
        save=Save(every=10),
    )


SMALL = MAE()
# The authors' rate is 1.5e-4 per 256 images; 800 epochs, with 40 of warm-up. Their crops have 20 to 100 % of the area.
BASE = MAE((224, 224, 3), 16, 768, 12, 12, 512, 8, 16, norm_pixels=True, learning_rate=2.4e-3)
PRESETS = {
    "mae": Preset(
        Run(
            SMALL,
            steps=20_000,
            batch=64,
            optim=Optim("cosine", warmup=500),
            log=Log(every=100, samples=1000, count=64),
            save=Save(every=1000),
        ),
        tiny=tiny(SMALL),
        parameters=905_104,
    ),
    "mae-base": Preset(
        Run(
            BASE,
            data=Data("tfds:imagenet2012", crop="area", flip=True),
            steps=250_000,
            batch=4096,
            optim=Optim("cosine", warmup=12_500),
            log=Log(every=100, samples=5000, count=64),
            save=Save(every=5000),
        ),
        tiny=tiny(BASE),
        parameters=111_655_680,
    ),
}
