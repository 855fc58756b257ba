"""ADM's classifier: Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", NeurIPS 2021, section 4.

A noise-conditional classifier for classifier guidance: its gradient guides a diffusion model to a class
(`--sampling classifier=RUN,scale=2`). The net is the downsampling half of the U-Net, followed by attention pooling: one
query, the mean of the last feature map, attends to its pixels.

The noise schedule is the cosine schedule, x = cos(a) x0 + sin(a) eps with a / (pi / 2) uniform in [0, 1). It fits every
method: any x with signal alpha and noise sigma becomes such an x when divided by the norm of (alpha, sigma). (In the
paper each classifier has the schedule of its diffusion model, with 1,000 times.) The net's time input is
1000 a / (pi / 2). `classify` and `evaluate` use images without noise; the accuracy in training is over all noise
levels. The authors' classifier of 256x256 images has width 128, attention at heights 32, 16 and 8 with heads of 64
channels, and was trained for 500,000 steps of 256.
"""

import math
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxgen.core import rng
from jaxgen.core.capabilities import Classifier
from jaxgen.core.config import Data, Eval, Log, Optim, Preset, Run, Save
from jaxgen.core.errors import at_least
from jaxgen.core.ranges import Decay
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Context, Key, Params, variables
from jaxgen.diffusion.schedules import expand_like
from jaxgen.nn.backbones.adm_unet import UNIFORM, GroupNorm, check_unet, contracting_path
from jaxgen.nn.conv import Dense
from jaxgen.nn.embedding import ScalarEmbedding
from jaxgen.nn.precision import to_f32
from jaxgen.nn.transformer import self_attention
from jaxgen.tasks.classification import Numbers, Recipe, classifier_task, cross_entropy

IDENTITY: dict[str, Numbers] = {"mean": (0.5,), "std": (0.5,)}  # images stay in [-1, 1], as in diffusion models


@dataclass(frozen=True)
class NoisyClassifier:
    """Hyper-parameters of a noise-conditional classifier."""

    image: tuple[int, int, int] = (32, 32, 1)  # height, width, channels
    classes: int = 10
    width: int = 32  # channels of the first resolution
    depth: int = 2  # residual blocks per resolution
    heads: int = 4  # attention heads
    multipliers: tuple[int, ...] = (1, 2, 2)  # channels per resolution as multiples of width, finest first
    attention: tuple[int, ...] = (8,)  # heights of the feature maps with attention
    dropout: Decay = 0.0
    recipe: Recipe = field(default_factory=lambda: Recipe("adamw", 3e-4, 0.9, 0.05))

    noisy = True  # noise-conditional: it can guide a diffusion model

    def task(self, steps: int) -> Task:
        """Return the training task. Raises InputError for images that don't fit the net."""
        del steps
        at_least(1, model__image=min(self.image), model__width=self.width)
        at_least(0, model__dropout=self.dropout)
        task = classifier_task(self.net, self.image, self.classes, self.recipe, IDENTITY)
        jax.eval_shape(lambda: task.init(jax.random.key(0), {}))
        (phase,) = task.phases
        classify = task.get(Classifier).classify
        task = task.having(Classifier(classify, classify_noisy=self.classify_noisy))
        return replace(task, phases=(replace(phase, loss=self.loss),))

    @property
    def net(self) -> "ADMClassifierModule":
        return ADMClassifierModule(
            self.classes, self.width, self.multipliers, self.depth, self.attention, self.heads, self.dropout
        )

    def classify_noisy(self, params: Params, context: Context, x: Array, angle: Array) -> Array:
        """Return logits f32[b classes] for x = cos(angle) x0 + sin(angle) eps, f32[b h w c], angle f32[b]."""
        out: dict = self.net.apply(variables("classifier", params, context.extra), x, False, angle)  # pyright: ignore
        return out["logits"]

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        x0, label = batch["image"], batch["label"]
        keys = {name: rng.fold(key, name) for name in ("angle", "eps", "dropout")}
        angle = math.pi / 2 * jax.random.uniform(keys["angle"], x0.shape[:1])
        eps = rng.normal(jax.random.split(keys["eps"], len(x0)), self.image)
        x = expand_like(x0, jnp.cos(angle)) * x0 + expand_like(x0, jnp.sin(angle)) * eps
        nets = variables("classifier", params, context.extra)
        out: dict = self.net.apply(nets, x, context.train, angle, rngs={"dropout": keys["dropout"]})  # pyright: ignore
        top1 = (out["logits"].argmax(-1) == label).mean(dtype=jnp.float32)
        return cross_entropy(out["logits"], label, self.recipe.smoothing).mean(), Aux({"top1": top1})


class ADMClassifierModule(nn.Module):
    """x f32[b h w c], angle of its noise f32[b] (None: no noise) -> {"middle", "pool", "logits": f32[b classes]}."""

    classes: int
    width: int
    multipliers: tuple[int, ...]
    depth: int
    attention: tuple[int, ...]
    heads: int
    dropout: float
    head_width: int = 0  # these three are read by the U-Net's blocks
    scale_shift: bool = True
    resblock_updown: bool = True

    @nn.compact
    def __call__(self, x: Array, train: bool, angle: Array | None = None) -> dict[str, Array]:
        check_unet(self, *x.shape[1:3])
        time = jnp.zeros(len(x)) if angle is None else 1000 / (math.pi / 2) * angle
        embedding = nn.silu(ScalarEmbedding(self.width, 4 * self.width, UNIFORM, name="time")(time))
        x, _ = contracting_path(self, x, embedding, train)  # [b h/2^n w/2^n d]
        y = nn.silu(GroupNorm(name="out_norm")(x))
        pooled = AttentionPool(self.heads, name="pool")(y)
        logits = to_f32(Dense(self.classes, kernel_init=UNIFORM, name="out")(pooled))
        return {"middle": x, "pool": pooled, "logits": logits}


class AttentionPool(nn.Module):
    """Attention from a map's mean to its pixels, x [b h w c] -> [b c]: the authors' code, after Radford et al. 2021."""

    heads: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        b, h, w, c = x.shape
        pixels = x.reshape(b, h * w, c)
        tokens = jnp.concatenate([pixels.mean(1, keepdims=True), pixels], 1)  # [b 1+h*w c]
        place = self.param("place", nn.initializers.normal(c**-0.5), (1 + h * w, c))
        tokens = tokens + place.astype(tokens.dtype)[None]
        return self_attention(Dense(3 * c, kernel_init=UNIFORM, name="qkv")(tokens), self.heads)[:, 0]


def preset(model: NoisyClassifier, parameters: int) -> Preset:
    small = replace(model, image=(8, 8, 1), width=8, depth=1, heads=2, multipliers=(1, 2))
    run = Run(
        model,
        data=Data("digits", shift=2),
        steps=10_000,
        batch=128,
        optim=Optim(warmup=200),
        log=Log(every=100),
        save=Save(every=1000),
        eval=Eval(every=1000, batches=0, metrics=("accuracy",)),
    )
    few = Run(small, data=Data("digits"), steps=20, batch=16, log=Log(every=5), save=Save(every=10))
    return Preset(run, few, parameters)


PRESETS = {"adm-classifier": preset(NoisyClassifier(), 787_402)}
