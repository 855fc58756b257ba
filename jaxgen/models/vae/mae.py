"""MAE: He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022.

Most of an image's patches are hidden, others in every image. The encoder, a vision transformer, sees the visible
ones only; the decoder sees their tokens, one learned token in the place of every hidden patch, and paints them all.
Minimise the squared error of the hidden patches, of their pixels or (`norm_pixels`) of those less the patch's mean and
over its standard deviation. Positions are fixed sines and cosines, the class token is carried along and trained by
nothing of its own. Layers, sizes, initialisation (but that the patch embedding's bias starts at 0), optimizer and
decay are those of the authors' PyTorch code, facebookresearch/mae; images stay in [-1, 1].

`generate` hides patches of a given image by the sample's key and paints them; the visible ones stay as they are.
With `norm_pixels` the net does not know a patch's mean and deviation: what is shown has those of the given image's
own patch, and is a view of what was learned rather than an inpainting. `encode` gives the tokens of the whole image,
the class token first: features, to be averaged or probed. There is no `decode`: what the decoder paints in the place of
a patch that was visible is trained by nothing, and looks like it.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.config import Data, Log, Optim, Preset, Run, Save
from jaxgen.core.errors import InputError, at_least
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Key, Learner, Params, Phase, PyTree
from jaxgen.interop.weight_names import SAME, Layout, Path, Rule, axes, plain
from jaxgen.nn.conv import Dense
from jaxgen.nn.precision import to_f32
from jaxgen.nn.transformer import XAVIER, Layer, from_patches, layer_norm, sin_cos_positions, stack_layers, to_patches

TOKEN = nn.initializers.normal(0.02)
EPSILON = 1e-6  # added to a patch's variance


@dataclass(frozen=True)
class MAE:
    """Hyper-parameters of a masked autoencoder."""

    image: tuple[int, int, int] = (28, 28, 1)  # height, width, channels
    patch: int = 4  # pixels of a patch's side
    width: int = 128  # numbers in a token of the encoder
    depth: int = 4  # layers
    heads: int = 4
    decoder_width: int = 64
    decoder_depth: int = 2
    decoder_heads: int = 4
    mask: float = 0.75  # share of the patches that is hidden
    norm_pixels: bool = False  # paint each patch's pixels normalised by its own mean and deviation
    learning_rate: float = 1e-3  # of AdamW
    weight_decay: float = 0.05  # of kernels and tokens; norms and biases are spared

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for image sizes that the nets can't make."""
        del steps
        self.check()
        picture = jax.ShapeDtypeStruct(self.image, jnp.float32)
        adamw = optax.adamw(self.learning_rate, 0.9, 0.95, weight_decay=self.weight_decay, mask=decays)
        return Task(
            init=self.init,
            example={"image": picture},
            learners={"mae": Learner(("encoder", "decoder"), adamw)},
            phases=(Phase("mae", "mae", self.loss),),
            given=("image",),
            generate=self.generate,
            encode=self.encode,
        )

    def check(self):
        """Raise InputError for sizes that don't fit each other."""
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
        if not (0 < self.mask < 1 and 0 < self.visible < self.places):
            raise InputError(
                f"model.mask={self.mask} must leave some of the {self.places} patches visible and hide some."
            )
        if self.norm_pixels and self.patch**2 * channels == 1:
            raise InputError("model.norm_pixels needs patches of several numbers: one alone has no deviation.")

    @property
    def rows(self) -> int:
        return self.image[0] // self.patch

    @property
    def columns(self) -> int:
        return self.image[1] // self.patch

    @property
    def places(self) -> int:
        return self.rows * self.columns

    @property
    def visible(self) -> int:
        # Rounded down, but that 10 (1 - 0.9) is 1.
        return int(round(self.places * (1 - self.mask), 6))

    def init(self, key: Key, spec: Any = None):
        del spec
        place = jnp.zeros((2, 1), jnp.int32)
        patch, token = jnp.zeros((2, 1, self.patch**2 * self.image[2])), jnp.zeros((2, 2, self.width))
        nets = {
            "encoder": MAEEncoder(self).init(rng.fold(key, "encoder"), patch, place),
            "decoder": MAEDecoder(self).init(rng.fold(key, "decoder"), token, place),
        }
        return {net: v["params"] for net, v in nets.items()}, {}

    def split(self, keys: Key) -> tuple[Array, Array]:
        """Return the places of the visible and of the hidden patches, i32[b v] and i32[b n-v], drawn by Key[b]."""
        order = jax.vmap(lambda key: jax.random.permutation(key, self.places))(keys)  # [b n]
        return order[:, : self.visible], order[:, self.visible :]

    def tokens(self, params: Params, patches: Array, places: Array) -> Array:
        found: Any = MAEEncoder(self).apply({"params": params["encoder"]}, pick(patches, places), places)
        return found

    def paint(self, params: Params, tokens: Array, places: Array) -> Array:
        found: Any = MAEDecoder(self).apply({"params": params["decoder"]}, tokens, places)
        return found

    def target(self, patches: Array) -> Array:
        """Return what the decoder shall paint of patches f32[b n d]."""
        if not self.norm_pixels:
            return patches
        mean, deviation = statistics(patches)
        return (patches - mean) / deviation

    def pixels(self, painted: Array, patches: Array) -> Array:
        """Return painted patches f32[b n d] in the image's units, the patches being those that they stand for."""
        if not self.norm_pixels:
            return painted
        mean, deviation = statistics(patches)
        return painted * deviation + mean

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        del context
        patches = to_patches(batch["image"], self.patch)  # [b n d]
        visible, hidden = self.split(jax.random.split(key, len(patches)))
        painted = pick(self.paint(params, self.tokens(params, patches, visible), visible), hidden)  # [b n-v d]
        true = pick(patches, hidden)
        # A metric's name says what it is of: told a patch's mean and deviation, its pixels are easier.
        name = "masked_squared_error" + ("_rescaled" if self.norm_pixels else "")
        metrics = {name: ((self.pixels(painted, true) - true) ** 2).mean()}
        error = ((painted - self.target(true)) ** 2).mean((1, 2))  # [b]
        return error.mean(), Aux(metrics)

    def generate(self, params: Params, context: Context, keys: Key, given):
        """Return {"image": f32[b h w c]}: the given images, the patches that each key hides painted."""
        patches = to_patches(given["image"], self.patch)
        visible, _ = self.split(keys)
        painted = self.pixels(self.paint(params, self.tokens(params, patches, visible), visible), patches)
        return {"image": self.picture(put(painted, visible, pick(patches, visible)))}

    def encode(self, params: Params, context: Context, batch) -> Array:
        """Return the tokens of whole images, f32[b 1+n width]: the class token, then the patches row by row."""
        patches = to_patches(batch["image"], self.patch)
        everywhere = jnp.broadcast_to(jnp.arange(self.places)[None], (len(patches), self.places))
        return self.tokens(params, patches, everywhere)

    def picture(self, patches: Array) -> Array:
        return jnp.clip(from_patches(patches, self.patch, self.rows), -1, 1)


class MAEEncoder(nn.Module):
    """(patches f32[b v d], where they lie i32[b v]) -> tokens f32[b 1+v width], the class token first."""

    model: MAE

    @nn.compact
    def __call__(self, patches: Array, places: Array) -> Array:
        m = self.model
        x = Dense(m.width, kernel_init=XAVIER, name="patch_embed")(patches)
        x = x + jnp.asarray(sin_cos_positions(m.rows, m.columns, m.width), x.dtype)[places]
        token = self.param("cls_token", TOKEN, (1, 1, m.width))
        x = jnp.concatenate([jnp.broadcast_to(token.astype(x.dtype), (len(x), 1, m.width)), x], 1)  # [b 1+v width]
        x = stack_layers(Layer(m.heads, name="blocks"), m.depth, x)
        return to_f32(layer_norm("norm")(x))


class MAEDecoder(nn.Module):
    """(tokens f32[b 1+v width], the class token first, where the others lie i32[b v]) -> patches f32[b n d]."""

    model: MAE

    @nn.compact
    def __call__(self, tokens: Array, places: Array) -> Array:
        m = self.model
        x = Dense(m.decoder_width, kernel_init=XAVIER, name="decoder_embed")(tokens)
        token = self.param("mask_token", TOKEN, (1, 1, m.decoder_width))
        full = jnp.broadcast_to(token.astype(x.dtype), (len(x), m.places, m.decoder_width))  # [b n width]
        full = put(full, places, x[:, 1:])
        full = full + jnp.asarray(sin_cos_positions(m.rows, m.columns, m.decoder_width), x.dtype)[None]
        x = jnp.concatenate([x[:, :1], full], 1)  # [b 1+n width]
        x = stack_layers(Layer(m.decoder_heads, name="decoder_blocks"), m.decoder_depth, x)
        x = layer_norm("decoder_norm")(x[:, 1:])  # [b n width]
        return to_f32(Dense(m.patch**2 * m.image[2], kernel_init=XAVIER, name="decoder_pred")(x))


def pick(x: Array, places: Array) -> Array:
    """Return the rows of x [b n d] at places i32[b k], [b k d]."""
    return jnp.take_along_axis(x, places[..., None], 1)


def put(x: Array, places: Array, rows: Array) -> Array:
    """Return x [b n d] with rows [b k d] at places i32[b k], no two of which are the same."""
    return jax.vmap(lambda x, places, rows: x.at[places].set(rows, unique_indices=True))(x, places, rows)


def statistics(patches: Array) -> tuple[Array, Array]:
    """Return the mean and the deviation of each patch of f32[b n d], f32[b n 1], over d - 1 as PyTorch's."""
    return patches.mean(-1, keepdims=True), jnp.sqrt(patches.var(-1, keepdims=True, ddof=1) + EPSILON)


def decays(params: PyTree) -> PyTree:
    """Return which parameters decay: all but those of norms, and biases."""
    return jax.tree_util.tree_map_with_path(lambda path, x: path[-1].key not in ("bias", "scale"), params)


def weight_name(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout]:
    """The authors' names, but that the layers of a stack are one array, as in torch.func.stack_module_state."""
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
    small = {"width": 16, "depth": 2, "heads": 2, "decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2}
    return Run(
        replace(model, image=(8, 8, model.image[2]), patch=2, learning_rate=1e-3, **small),
        steps=20,
        batch=16,
        log=Log(every=5, samples=10, count=16),
        save=Save(every=10),
    )


SMALL = MAE()
# The authors' rate is 1.5e-4 for 256 images; 800 epochs, 40 of them warm-up. Their cuts have 20 to 100 % of the area.
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
