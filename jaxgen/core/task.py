"""The contract every family obeys: a Task is learners, phases, pure functions and capabilities."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import jax

from jaxgen.core.capabilities import Denoiser, GenerateFn, Latent, Restorer, Translator
from jaxgen.core.types import Ema, Key, Learner, Params, Phase, PyTree, Spec, _check


@dataclass(frozen=True)
class Task:
    """A training game and what its nets can do afterwards. Abilities it lacks are None.

    init:     (key, spec of a batch) -> (params, extra)
    example:  the shape and dtype of one example, by name, without the batch axis
    frozen:   {net: function that loads its variables}; they are arguments of the step, never checkpointed
    given:    the batch entries that `generate` and `decode` need
    latent:   how `generate` goes from noise to an image, where it goes through a latent vector
    denoiser: how it takes noise out of an image, step by step, where it does
    restorer: how it mends a damaged image, where it does
    translator: how it makes an image of another domain of one, where it does
    classes:  the labels in a batch are below it; 0: it has none
    encode:   (params, context, batch) -> codes f32[b ...]
    decode:   (params, context, codes, given) -> images f32[b h w c] in [-1, 1]
    log_prob: (params, context, batch, keys Key[b], samples) -> log p(x) in nats, f32[b], from so many samples of what
              is integrated over
    density:  whether that is a density of pixels, and not the probability of their 256 levels
    """

    init: Callable[[Key, Spec], tuple[Params, Mapping[str, PyTree]]]
    example: Mapping[str, jax.ShapeDtypeStruct]
    learners: Mapping[str, Learner]
    phases: tuple[Phase, ...]
    ema: tuple[Ema, ...] = ()
    frozen: Mapping[str, Callable[[], PyTree]] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    classes: int = 0
    generate: GenerateFn | None = None
    latent: Latent | None = None
    denoiser: Denoiser | None = None
    restorer: Restorer | None = None
    translator: Translator | None = None
    encode: Callable | None = None
    decode: Callable | None = None
    log_prob: Callable | None = None
    density: bool = False
    classify: Callable | None = None

    def __post_init__(self):
        nets = [net for learner in self.learners.values() for net in learner.nets]
        names = [phase.name for phase in self.phases]
        _check(bool(self.phases), "A task needs at least one phase.")
        for name, learner in self.learners.items():
            _check(bool(learner.nets), f"Learner {name!r} has no nets.")
            _check(any(p.learner == name for p in self.phases), f"Learner {name!r} has no phase.")
        for phase in self.phases:
            _check(names.count(phase.name) == 1, f"Two phases are named {phase.name!r}.")
            known = phase.learner in self.learners
            _check(known, f"Phase {phase.name!r} names learner {phase.learner!r}, not one of {list(self.learners)}.")
            _check(phase.repeat >= 1, f"Phase {phase.name!r} has repeat={phase.repeat}; it must be at least 1.")
            _check(phase.every >= 1, f"Phase {phase.name!r} has every={phase.every}; it must be at least 1.")
        for ema in self.ema:
            _check(ema.net in nets, f"An EMA names net {ema.net!r}, not one of {nets}.")
        for net in self.frozen:
            _check(net not in nets, f"Net {net!r} is both frozen and trained.")
        for name in self.given:
            _check(name in self.example, f"`given` names {name!r}, not one of the example's {list(self.example)}.")

    @property
    def slices(self) -> int:
        """How many plays' worth of examples one step takes: the largest `repeat`."""
        return max(phase.repeat for phase in self.phases)
