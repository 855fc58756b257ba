"""WaveNet: van den Oord, Dieleman, Zen, Simonyan, Vinyals, Graves, Kalchbrenner, Senior and Kavukcuoglu 2016, "WaveNet:
A Generative Model for Raw Audio".

A sound is a sequence of 256 levels of the mu-law. A net of dilated causal convolutions returns the logits of each
level, given those before it (section 2.1). Layers are gated, tanh(value) sigmoid(gate), and residual; the skip
connections of all layers are summed before two more layers of 1x1 convolutions (sections 2.3 and 2.4); here one product
sums them, and has one bias. A label is added to value and gate of each layer, global conditioning (section 2.5). The
paper gives dilations 1, 2, ..., 512, repeated, with kernels of 2, but no widths; ours are those of small public
versions. The last layer has no residual output, which nothing would read.

`output="logistics"` has a mixture of logistic variables over the 256 levels instead of their logits, as PixelCNN++ has
(Salimans et al. 2017); the net then reads the compressed samples as numbers. (Parallel WaveNet, van den Oord et al.
2017, has 65,536 linear levels there.)
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.scipy.special import logsumexp

from jaxgen.core import rng
from jaxgen.core.capabilities import Autoregressive, Density
from jaxgen.core.config import Data, Log, Preset, Run, Save
from jaxgen.core.errors import InputError, check_labels
from jaxgen.core.ranges import Count, Decay, Positive, Range, check_settings
from jaxgen.core.spec import ArraySpec, label_spec
from jaxgen.core.task import Task
from jaxgen.core.types import Array, Aux, Batch, Context, Ema, Key, Learner, Params, Phase, PyTree, ramped
from jaxgen.interop.weight_names import Layout, Path, Rule, axes, plain
from jaxgen.losses.elbo import discretised_logistic
from jaxgen.metrics.likelihood import DISCRETE, bits_per_dimension
from jaxgen.nn import mu_law
from jaxgen.nn.causal_conv import CausalConv
from jaxgen.nn.conv import Dense
from jaxgen.nn.mu_law import LEVELS
from jaxgen.nn.precision import to_f32
from jaxgen.tasks.autoregressive import draw_tokens
from jaxgen.tasks.transforms import example_generation

BLOCK = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)  # section 2.1
THREES = (1, 3, 9, 27, 81, 243)


@dataclass(frozen=True)
class SoundSampling:
    """Settings of sampling. They do not affect training; `generate` and `evaluate` accept others."""

    temperature: Positive = 1.0  # of each level's distribution


@dataclass(frozen=True)
class WaveNet:
    """Hyper-parameters of a WaveNet."""

    length: Count = 16_000  # samples of a sound
    rate: Count = 16_000  # samples in a second
    dilations: tuple[Count, ...] = BLOCK * 3  # of each layer
    kernel: Annotated[int, Range(2)] = 2  # samples of a kernel
    width: Count = 64  # channels of the residual connections
    gates: Count = 64  # channels behind the gates
    skip: Count = 256  # channels of the skip connections
    output: Literal["softmax", "logistics"] = "softmax"
    components: Count = 10  # of a mixture of logistics
    classes: int = 0  # number of classes; 0: unconditional
    learning_rate: float = 1e-3  # of Adam
    ema: Decay = 0.999  # decay of the EMA
    sampling: SoundSampling = SoundSampling()

    def task(self, steps: int) -> Task:
        """Return the Task. Raises InputError for settings out of range."""
        del steps
        self.check()
        return Task(
            init=self.init,
            example=self.example,
            learners={"net": Learner(("net",), optax.adam(self.learning_rate))},
            phases=(Phase("net", "net", self.loss),),
            ema=(Ema("net", ramped(self.ema)),),
            capabilities=(self.autoregressive, self.transform, Density(self.log_prob)),
        )

    def check(self):
        """Raise InputError for settings out of range."""
        check_settings(self, "model.")
        if not self.dilations:
            raise InputError("model.dilations is empty: a net needs a layer.")

    @property
    def example(self) -> dict[str, ArraySpec]:
        audio = {"audio": ArraySpec("audio", (self.length, 1), rate=float(self.rate))}
        return audio | ({"label": label_spec(self.classes)} if self.classes else {})

    @property
    def transform(self):
        return example_generation(self.generate, self.example)

    @property
    def receptive_field(self) -> int:
        """The number of samples that the logits of the next one depend on; behind the first convolution for a block."""
        return (self.kernel - 1) * sum(self.dilations) + 2

    @property
    def outputs(self) -> int:
        return LEVELS if self.output == "softmax" else 3 * self.components

    @property
    def module(self) -> "WaveNetNet":
        sizes = self.dilations, self.kernel, self.width, self.gates, self.skip
        symbols = LEVELS if self.output == "softmax" else 0
        return WaveNetNet(*sizes, self.outputs, self.classes, bool(self.hop), symbols)

    @property
    def autoregressive(self) -> Autoregressive:
        return Autoregressive(self.init_cache, self.step, self.length)

    def init(self, key: Key, spec: Any = None):
        one = {"audio": jnp.zeros((1, self.length, 1)), "label": jnp.zeros(1, jnp.int32)}
        x = self.inputs(jnp.zeros((1, self.length), jnp.int32))
        conditions = one["label"] if self.classes else None, self.frames(one), self.hop
        return {"net": self.module.init(rng.fold(key, "net"), x, *conditions)["params"]}, {}

    # ---- local conditioning, of subclasses

    @property
    def hop(self) -> int:
        """Samples from one frame of the local conditioning to the next; 0: there is none."""
        return 0

    def frames(self, given: Batch) -> Array | None:
        """Return the local conditioning f32[b frames c] of a batch."""
        return None

    # ---- likelihoods

    def inputs(self, levels: Array) -> Array:
        """Return what the net reads of levels i32[...]: their numbers, or the samples; -1 stands for no level."""
        return levels[..., None] if self.output == "softmax" else mu_law.values(levels)[..., None]

    def logits(self, params: Params, levels: Array, given: Batch) -> Array:
        """Return the logits f32[b t 256] of every level of sounds i32[b t], each given those before it."""
        return self.level_logits(self.outputs_of(params, levels, given))

    def outputs_of(self, params: Params, levels: Array, given: Batch) -> Array:
        before = jnp.pad(levels[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
        conditions = given["label"] if self.classes else None, self.frames(given), self.hop
        found: Any = self.module.apply({"params": params["net"]}, self.inputs(before), *conditions)
        return to_f32(found)

    def level_logits(self, out: Array) -> Array:
        """Return the logits f32[... 256] of levels from the outputs of the net."""
        if self.output == "softmax":
            return out
        every = mu_law.values(jnp.arange(LEVELS))
        return self.mixture_log_prob(out[..., None, :], jnp.broadcast_to(every, (*out.shape[:-1], LEVELS)))

    def mixture_log_prob(self, out: Array, x: Array) -> Array:
        """Return log P f32[...] of compressed samples x by the mixtures of outputs f32[... 3 components]."""
        logits, means, log_scales = jnp.split(out, 3, -1)
        shape = (*x.shape, self.components)
        wide = [jnp.broadcast_to(v, shape) for v in (x[..., None], means, jnp.maximum(log_scales, -7.0))]
        return logsumexp(jax.nn.log_softmax(logits) + discretised_logistic(*wide), axis=-1)

    def log_probs(self, params: Params, batch: Batch) -> Array:
        """Return log P of each sample in nats, f32[b t]."""
        levels = mu_law.to_levels(batch["audio"][..., 0])
        out = self.outputs_of(params, levels, batch)
        if self.output == "logistics":
            return self.mixture_log_prob(out, mu_law.values(levels))
        return jnp.take_along_axis(jax.nn.log_softmax(out), levels[..., None], -1)[..., 0]

    def log_prob(self, params: Params, context: Context, batch, keys: Key | None = None, samples: int = 1) -> Array:
        """Return log P of sounds in nats, f32[b]. It is exact: keys and samples are not used."""
        return self.log_probs(params, batch).sum(1)

    def loss(self, params: Params, context: Context, batch, key: Key) -> tuple[Array, Aux]:
        """Return the mean bits of a sample."""
        log_p = self.log_prob(params, context, batch).mean()
        return bits_per_dimension(log_p, self.length, DISCRETE), Aux({"nll": -log_p})

    # ---- samples

    def init_cache(self, params: Params, context: Context, conditioning, count: int) -> PyTree:
        """Return the queues of `count` sounds of which nothing is known, and what their conditions give to the layers.

        conditions: f32[b layers 2gates] of the labels; frames: f32[b frames layers*2gates], with local conditioning
        """
        net, nets = self.module, {"params": params["net"]}
        label = conditioning["label"] if self.classes else None
        queues: Any = net.apply(nets, count, method="queues")
        found: Any = net.apply(nets, label, self.frames(conditioning), method="conditions")
        return {"queues": queues, "conditions": found}

    def step(self, params: Params, context: Context, cache: PyTree, token: Array, i: Array) -> tuple[Array, PyTree]:
        """Return the logits f32[b 256] of sample i, given the one before it, and the new cache."""
        inputs = self.inputs(token), cache["conditions"], cache["queues"], i, self.hop
        found: Any = self.module.apply({"params": params["net"]}, *inputs, method="sample")
        return self.level_logits(to_f32(found[0])), {**cache, "queues": found[1]}

    def generate(self, params: Params, context: Context, keys: Key, given) -> dict[str, Array]:
        """Return sounds whose samples are drawn one after the other."""
        check_labels(self.classes, given)
        levels = draw_tokens(self.autoregressive, params, context, given, keys, self.sampling.temperature)
        return {"audio": mu_law.from_levels(levels)[..., None]}


class WaveNetNet(nn.Module):
    """Inputs f32[b t i], label i32[b], frames f32[b n m] -> outputs f32[b t outputs]; `sample` returns those of one."""

    dilations: tuple[int, ...]
    kernel: int
    width: int
    gates: int
    skip: int
    outputs: int
    classes: int
    local: bool
    symbols: int  # the number of levels that inputs are; 0: they are samples

    def setup(self):
        self.first = CausalConv(self.width, 2, symbols=self.symbols)
        count = len(self.dilations)
        self.convs = [CausalConv(2 * self.gates, self.kernel, dilation) for dilation in self.dilations]
        self.skips = Dense(self.skip)
        self.residuals = [Dense(self.width) for _ in range(count - 1)]
        if self.classes:
            self.labels = [Dense(2 * self.gates, use_bias=False) for _ in range(count)]
        if self.local:
            self.locals = [Dense(2 * self.gates, use_bias=False) for _ in range(count)]
            self.upsampling = Upsampling()
        self.hidden = Dense(self.skip)
        self.out = Dense(self.outputs)

    def __call__(self, x: Array, label: Array | None = None, frames: Array | None = None, hop: int = 0) -> Array:
        label_parts, local_parts = self.conditions(label, frames)
        x, found = self.first(x), []
        for i in range(len(self.dilations)):
            h = self.convs[i](x)
            if label_parts is not None:
                h = h + label_parts[:, None, i].astype(h.dtype)
            if local_parts is not None:
                h = h + self.upsampling(local_parts[:, :, i], hop, x.shape[1]).astype(h.dtype)
            h, x = self.after(i, h, x)
            found.append(h)
        return self.finish(found)

    def conditions(self, label: Array | None, frames: Array | None) -> tuple[Array | None, Array | None]:
        """Return what labels give to each layer, f32[b layers 2gates], and frames, f32[b n layers 2gates].

        Upsampling mixes frames and not channels, so that it can come after the layers' linear maps.
        """
        hot = jax.nn.one_hot(label, self.classes) if self.classes else None
        label_parts = jnp.stack([layer(hot) for layer in self.labels], 1) if hot is not None else None
        local_parts = jnp.stack([layer(frames) for layer in self.locals], 2) if frames is not None else None
        return label_parts, local_parts

    def after(self, i: int, h: Array, x: Array) -> tuple[Array, Array]:
        """Return what a layer has found, and the input of the next one."""
        value, gate = jnp.split(h, 2, -1)
        h = jnp.tanh(value) * jax.nn.sigmoid(gate)  # equation 2
        return h, x + self.residuals[i](h) if i < len(self.residuals) else x

    def finish(self, found: list[Array]) -> Array:
        """Return the outputs: the sum of linear maps of what each layer has found, by one product, and two layers."""
        return self.out(nn.relu(self.hidden(nn.relu(self.skips(jnp.concatenate(found, -1))))))

    def queues(self, count: int) -> list[Array]:
        """Return the queues of `count` sequences that begin."""
        dtype = self.hidden.variables["params"]["kernel"].dtype
        first = jnp.full((1, count, 1), -1, jnp.int32) if self.symbols else jnp.zeros((1, count, 1), dtype)
        return [first, *(jnp.zeros((conv.reach, count, self.width), dtype) for conv in self.convs)]

    def sample(
        self, x: Array, conditions: tuple[Array | None, Array | None], queues: list[Array], place: Array, hop: int
    ) -> tuple[Array, list[Array]]:
        """Return the outputs f32[b outputs] after a sample x f32[b i] at a place, and the new queues."""
        label_parts, local_parts = conditions
        (x, first), found, new = self.first(x, queues[0], place), [], []
        local = self.upsampling.at(local_parts, hop, place) if local_parts is not None else None  # [b layers 2gates]
        for i in range(len(self.dilations)):
            h, queue = self.convs[i](x, queues[i + 1], place)
            for part in (label_parts, local):
                h = h if part is None else h + part[:, i].astype(h.dtype)
            h, x = self.after(i, h, x)
            found.append(h)
            new.append(queue)
        return self.finish(found), [first, *new]


class Upsampling(nn.Module):
    """Frames f32[b n c] to samples f32[b t c], t <= (n - 1) hop: a transposed convolution with kernels of two frames.

    Section 2.5. The kernel begins as linear interpolation; all channels share it, as in ClariNet (Ping et al. 2019).
    Frame j is centred at sample j hop.
    """

    @nn.compact
    def weights(self, hop: int) -> Array:
        """Return the kernel f32[2 hop]: the parts of the frame before a sample, and of the one after it."""
        later = lambda *_: jnp.stack([1 - jnp.arange(hop) / hop, jnp.arange(hop) / hop])  # noqa: E731
        return jnp.asarray(self.param("taps", later))

    def __call__(self, frames: Array, hop: int, length: int) -> Array:
        weights = self.weights(hop).astype(frames.dtype)[:, None, None, :, None]  # [2 1 1 hop 1]
        y = frames[:, :-1, None] * weights[0] + frames[:, 1:, None] * weights[1]  # [b n-1 hop c]
        return y.reshape(len(y), -1, y.shape[-1])[:, :length]

    def at(self, frames: Array, hop: int, place: Array) -> Array:
        """Return the sample f32[b ...] at a place, of frames f32[b n ...]."""
        weights = self.weights(hop)[:, place % hop].astype(frames.dtype)  # [2]
        both = jax.lax.dynamic_slice_in_dim(frames, place // hop, 2, 1)  # [b 2 ...]
        return both[:, 0] * weights[0] + both[:, 1] * weights[1]


def weight_name(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout | None]:
    """Return a name as PyTorch has it; a causal convolution's kernel is [out in size] there."""
    name, layout = plain(model, net, path, shape)
    return name, axes(2, 1, 0) if len(shape) == 3 else layout


def row(model: Any, small: Any, parameters: int, data: Data, steps: int, batch: int) -> Preset:
    """Return a preset, and a tiny run."""
    log, save = Log(every=100, samples=1000, count=10), Save(1000)
    full = Run(model, data=data, steps=steps, batch=batch, log=log, save=save)
    return Preset(full, Run(small, data=data, steps=8, batch=4, log=Log(2, 4, 2), save=Save(4)), parameters)


WEIGHT_NAMES: Rule = weight_name
SOUNDS = Data("audio:sounds", crop="random")
DIGITS = Data("audio:fsdd.zip", crop="none", held_out="nicolas,theo")
TINY: dict[str, Any] = {"length": 64, "dilations": (1, 2, 4), "width": 8, "gates": 8, "skip": 8}
# Few layers with larger kernels: on a CPU a layer costs the movement of its data, not its arithmetic.
SPOKEN = WaveNet(4096, 8000, THREES * 2, 3, width=32, gates=32, skip=64, classes=10, learning_rate=3e-3)
PRESETS = {
    "wavenet": row(WaveNet(), WaveNet(**TINY), 1_272_192, SOUNDS, 200_000, 8),
    "wavenet-digits": row(SPOKEN, replace(SPOKEN, **TINY), 155_648, DIGITS, 600, 4),
}
