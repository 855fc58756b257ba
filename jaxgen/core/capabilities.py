"""Typed capabilities: the uses of a task's nets beside training. `task.get(Transform)` finds one.

Net functions read (params, context, ...): their fields are marked with NET, so that whatever wraps a net
(precision, gathering of sharded parameters, privacy) wraps all of them in one place, `Capability.wrapped`.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax.numpy as jnp

from jaxgen.core.errors import InputError
from jaxgen.core.spec import ArraySpec, Example
from jaxgen.core.types import Array, Batch, Context, Key, Params

NET = {"net": True}  # the metadata of a field that holds a function of (params, context, ...)


@dataclass(frozen=True)
class Capability:
    """One use of a task's nets. `lack` is the sentence for a user whose model does not have it."""

    lack: ClassVar[str] = "This model can't do that."

    def wrapped(self, wrap: Callable[[Callable], Callable]):
        """Return the capability with `wrap(function)` for each of its net functions."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.metadata.get("net")}
        return dataclasses.replace(self, **{name: wrap(function) for name, function in own.items() if function})


@dataclass(frozen=True)
class Transform(Capability):
    """A function from inputs and keys to outputs.

    Generation, restoration, translation, prediction, animation and text to image are transforms.

    apply:      (params, context, inputs {name: [b ...]}, keys Key[b], scale=1.0) -> {name: [b ...]}: the `outputs`, and
                values such as the "nfe" of each answer
    inputs:     the specs of its inputs, by name; a name that an example has too can come from data
    outputs:    the specs of its outputs, by name, the main one first
    subject:    the input that is transformed, such as "degraded" or "source"; "": none, it generates
    scales:     the possible ratios of the output's size to the input's; (): any
    stochastic: whether the output depends on the keys
    whole:      whether it needs the whole subject, not tiles of it
    length:     the model's setting of an output's number of frames, where its nets make any number; "": they do not
    """

    lack: ClassVar[str] = "This model draws no samples and transforms no examples."
    apply: Callable[..., dict[str, Array]] = field(metadata=NET)
    inputs: Example
    outputs: Example
    subject: str = ""
    scales: tuple[float, ...] = (1,)
    stochastic: bool = False
    whole: bool = False
    length: str = ""

    @property
    def required(self) -> tuple[str, ...]:
        """The inputs that must be given."""
        return tuple(name for name, spec in self.inputs.items() if not spec.optional)

    @property
    def conditions(self) -> tuple[str, ...]:
        """The inputs that must be given beside the subject."""
        return tuple(name for name in self.required if name != self.subject)

    @property
    def natural(self) -> tuple[str, ...]:
        """The inputs that an example gives: those that must be given, and the subject."""
        return tuple(dict.fromkeys((*self.required, *filter(None, [self.subject]))))

    @property
    def main(self) -> str:
        """The name of its main output."""
        return next(iter(self.outputs))

    @property
    def source(self) -> ArraySpec:
        """The spec of its subject."""
        return self.inputs[self.subject]


@dataclass(frozen=True)
class Codec(Capability):
    """An encoder, and a decoder where there is one.

    encode: (params, context, batch) -> latents f32[b ...]
    decode: (params, context, latents, conditioning) -> examples [b ...] in [-1, 1]
    conditions: the entries of a batch that `decode` needs as conditioning
    """

    lack: ClassVar[str] = "This model has no encoder and decoder: it can't reconstruct images."
    encode: Callable[..., Array] = field(metadata=NET)
    decode: Callable[..., Array] | None = field(default=None, metadata=NET)
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Latent(Capability):
    """The latent space of a generator: z is drawn, mapped to w, and w becomes a sample.

    draw:       (keys Key[b], psi f32[b] or None) -> z f32[b ...]; psi in [0, 1] trades variety for fidelity
    map:        (params, context, z, given) -> w f32[b n d], n rows that can come from different samples, or f32[b d]
    synthesise: (params, context, w, given) -> samples [b ...]
    linear:     whether a straight line in w is the way from one sample to another; a great circle in z otherwise
    factors:    (params, context) -> the matrix [d m] by which z, or each of the n rows of w, is multiplied first
                (not wrapped as a net function: directions are those of the f32 weights)
    """

    lack: ClassVar[str] = "This model's images come from no latent vector: it has nothing to walk in, mix or search."
    draw: Callable[[Key, Array | None], Array]
    map: Callable[[Params, Context, Array, Batch], Array] = field(metadata=NET)
    synthesise: Callable[[Params, Context, Array, Batch], Array] = field(metadata=NET)
    linear: bool = False
    factors: Callable[[Params, Context], tuple[Array, ...]] | None = None


@dataclass(frozen=True)
class Denoiser(Capability):
    """A denoiser, with the noise levels of its sampler (jaxgen/diffusion).

    predict_x0: (params, context, x f32[b ...], tau f32[b], conditioning {name: [b ...]}) -> E[x0 | x, conditioning]
    frame:      which x that is, "ve" or "flow"
    taus:       f64[n + 1], falling to 0
    shape:      of one x
    null:       {name: the value that stands for no condition: a number, or numbers, as a text has}; {}: it is
                unconditional
    learned:    whether the net has been trained with these values
    predict_x0_and_variance: as predict_x0, with a variance as well, where the net has learned one
    encode:     (params, context, example) -> x0, where x0 are latents
    decode:     (params, context, x0) -> example, there
    """

    lack: ClassVar[str] = "This model removes no noise: it needs a diffusion or flow model with an ODE."
    predict_x0: Callable[..., Array] = field(metadata=NET)
    frame: Any
    taus: Any
    shape: tuple[int, ...]
    null: Mapping[str, int | tuple[int, ...]] = field(default_factory=dict)
    learned: bool = True
    predict_x0_and_variance: Callable[..., tuple[Array, Array]] | None = field(default=None, metadata=NET)
    encode: Callable[..., Array] | None = field(default=None, metadata=NET)
    decode: Callable[..., Array] | None = field(default=None, metadata=NET)

    def unconditional(self, count: int, known: Batch | None = None) -> dict[str, Array]:
        """Return what is known of the conditioning of a batch of `count`, and the values for none of the rest.

        Raises InputError where the net has not learned these values.
        """
        known = known or {}
        missing = {name: value for name, value in self.null.items() if name not in known}
        if missing and not self.learned:
            raise InputError(f"This model was always trained with a {' and a '.join(missing)} (drop 0): give one.")
        rows = {name: jnp.asarray(value, jnp.int32)[None] for name, value in missing.items()}
        return {**{name: jnp.repeat(row, count, 0) for name, row in rows.items()}, **known}


@dataclass(frozen=True)
class Autoregressive(Capability):
    """A distribution of each token, given those before it.

    init_cache: (params, context, conditioning, count) -> cache, for `count` sequences
    step:       (params, context, cache, token i32[b], position i32[]) -> logits f32[b k], cache; the token is the one
                before this position, -1 at position 0
    length:     tokens of a sequence
    """

    lack: ClassVar[str] = "This model makes no tokens one after the other."
    init_cache: Callable[..., Any] = field(metadata=NET)
    step: Callable[..., tuple[Array, Any]] = field(metadata=NET)
    length: int


@dataclass(frozen=True)
class Density(Capability):
    """A likelihood.

    log_prob:   (params, context, batch, keys Key[b], samples) -> log p(x) in nats, f32[b], estimated with that many
                samples of the latents
    continuous: whether that is a density, and not the probability of an image's 256 levels
    """

    lack: ClassVar[str] = "This model has no likelihood."
    log_prob: Callable[..., Array] = field(metadata=NET)
    continuous: bool = False


@dataclass(frozen=True)
class Classifier(Capability):
    """Class logits and features of an example.

    classify: (params, context, batch) -> {"logits": f32[b k], and its features [b ...] by name, in the net's order}
    classify_noisy: (params, context, x f32[b ...], angle f32[b]) -> logits f32[b k] of
                    x = cos(angle) x0 + sin(angle) eps, where it was trained for that
    """

    lack: ClassVar[str] = "This model is no classifier: it has no accuracy and no features."
    classify: Callable[..., dict[str, Array]] = field(metadata=NET)
    classify_noisy: Callable[..., Array] | None = field(default=None, metadata=NET)


@dataclass(frozen=True)
class Degradation(Capability):
    """The degradation of clean training data.

    degrade: (clean [b ...], keys Key[b], scale) -> the inputs of the Transform: {"degraded": [b ...], conditions}
    """

    lack: ClassVar[str] = "This model degrades no examples: give it degraded ones."
    degrade: Callable[..., dict[str, Array]]
