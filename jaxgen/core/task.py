"""The contract of every family: a Task is learners, phases, pure functions and capabilities."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from jaxgen.core.capabilities import Capability, Codec, Transform
from jaxgen.core.errors import InputError
from jaxgen.core.spec import ArraySpec, Example
from jaxgen.core.types import Ema, Key, Learner, Params, Phase, PyTree, Spec, _check

C = TypeVar("C", bound=Capability)


@dataclass(frozen=True)
class Task:
    """A training game and the capabilities of its nets.

    init:         (key, spec of a batch) -> (params, extra)
    example:      the spec of each array of one example, by name
    frozen:       {net: function that loads its variables}; they are arguments of the step, never checkpointed
    capabilities: at most one of each type
    """

    init: Callable[[Key, Spec], tuple[Params, Mapping[str, PyTree]]]
    example: Example
    learners: Mapping[str, Learner]
    phases: tuple[Phase, ...]
    ema: tuple[Ema, ...] = ()
    frozen: Mapping[str, Callable[[], PyTree]] = field(default_factory=dict)
    capabilities: tuple[Capability, ...] = ()

    def __post_init__(self):
        nets = [net for learner in self.learners.values() for net in learner.nets]
        names = [phase.name for phase in self.phases]
        _check(bool(self.phases), "A task needs at least one phase.")
        for name, spec in self.example.items():
            _check(isinstance(spec, ArraySpec), f"The example's {name!r} must be an ArraySpec, not {spec!r}.")
            sizes = [size for size in spec.shape if isinstance(size, str)]
            _check(not sizes, f"The example's {name!r} must have a shape of numbers, not {spec.shape}.")
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
        kinds = [type(capability) for capability in self.capabilities]
        for capability in self.capabilities:
            kind = type(capability)
            _check(isinstance(capability, Capability), f"{kind.__name__} is no capability.")
            _check(kinds.count(kind) == 1, f"Two capabilities are a {kind.__name__}.")
        if transform := self.find(Transform):
            for name in set(transform.inputs) & set(self.example):
                one, other = transform.inputs[name].kind, self.example[name].kind
                _check(one == other, f"The transform's {name!r} is of kind {one}, the example's of kind {other}.")
            _check(bool(transform.outputs), "A transform needs an output.")
            subject = transform.subject
            _check(not subject or subject in transform.inputs, f"The transform's subject {subject!r} is no input.")
        for name in codec.conditions if (codec := self.find(Codec)) else ():
            _check(name in self.example, f"The codec needs {name!r}, not one of the example's {list(self.example)}.")

    def find(self, kind: type[C]) -> C | None:
        """Return the capability of a type, or None."""
        return next((one for one in self.capabilities if isinstance(one, kind)), None)

    def get(self, kind: type[C], lack: str = "") -> C:
        """Return the capability of a type. Raises InputError, with the type's own sentence or `lack`, without one."""
        if (found := self.find(kind)) is None:
            raise InputError(lack or kind.lack)
        return found

    def having(self, *capabilities: Capability) -> "Task":
        """Return the task with these capabilities; they replace its own of the same types."""
        kinds = tuple(type(one) for one in capabilities)
        kept = tuple(one for one in self.capabilities if not isinstance(one, kinds))
        return dataclasses.replace(self, capabilities=(*kept, *capabilities))

    def lacking(self, kind: type[Capability]) -> "Task":
        """Return the task without the capability of a type."""
        kept = tuple(one for one in self.capabilities if not isinstance(one, kind))
        return dataclasses.replace(self, capabilities=kept)

    @property
    def slices(self) -> int:
        """The number of slices in a step's batch: the largest `repeat`."""
        return max(phase.repeat for phase in self.phases)

    @property
    def classes(self) -> int:
        """The number of classes; 0: examples have no label."""
        return self.example["label"].count if "label" in self.example else 0
