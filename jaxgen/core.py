"""The contract every family obeys: a Task is learners, phases and pure functions; a step plays the phases in order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.core import FrozenDict
from jax.core import Tracer

from jaxgen import rng
from jaxgen.errors import InputError

Array = jax.Array
Key = jax.Array  # typed PRNG key
PyTree = Any
Batch = Mapping[str, Any]  # arrays: {"image": f32[b h w c] in [-1, 1], "label": i32[b], ...}
Spec = Mapping[str, Any]  # a batch, or anything with the shapes and dtypes of one
Params = Mapping[str, PyTree]  # keyed by net
Metrics = Mapping[str, Array]  # "phase/name" -> f32[]


@dataclass(frozen=True)
class Learner:
    """Who moves which nets: one optimizer, its moments shared by all the learner's phases."""

    nets: tuple[str, ...]
    optimizer: optax.GradientTransformation


class Context(struct.PyTreeNode):
    """What a loss or a generator may read and never differentiates.

    extra:    whatever else the state carries, keyed by net (its Flax collections) or by a name of its own
    ema:      {net: Flax variables of its moving average}
    frozen:   {net: variables of a net that is never trained}
    step:     i32[], the number of steps taken
    learners: who moves which nets, and `moments`, {learner: its optimizer's state}: a loss may play its opponent's
              next updates (in a step only; elsewhere both are empty)
    """

    extra: Mapping[str, PyTree]
    ema: Mapping[str, PyTree]
    frozen: Mapping[str, PyTree]
    step: Array
    moments: Mapping[str, PyTree] = struct.field(default_factory=dict)
    learners: Mapping[str, Learner] = struct.field(pytree_node=False, default=FrozenDict())


class Aux(struct.PyTreeNode):
    """What a loss hands back beside its value: metrics (name -> f32[]) and new values of entries of `extra`."""

    metrics: Mapping[str, Array] = field(default_factory=dict)
    extra: Mapping[str, PyTree] = field(default_factory=dict)


LossFn = Callable[[Params, Context, Batch, Key], tuple[Array, Aux]]
GenerateFn = Callable[[Params, Context, Key, Batch], Batch]  # keys: Key[b]


class Latent(NamedTuple):
    """How a generator is entered: z is drawn, mapped to w, and w becomes a picture.

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
    """How a picture is told from noise, at the noise levels where sampling stops (jaxgen/diffusion).

    told:    (params, context, x f32[b h w c], tau f32[b], label i32[b] or None) -> E[x0 | x]
    frame:   which x that is, "ve" or "flow"
    taus:    f64[n + 1], falling to 0
    shape:   height, width, channels of x
    classes: the null label is this number; 0: there are no labels
    learned: as told, but that it gives a variance as well, where the net has learned one
    encode:  (params, context, image f32[b h w c]) -> x0, where what is denoised are codes of pictures
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
    """How a damaged picture is mended, whatever its size.

    degrade:  (image f32[b h w c], keys Key[b], scale) -> {"degraded": f32[b h/scale w/scale c], and what else is told}
    restore:  (params, context, given, keys Key[b], scale) -> f32[b H W c], H the rounded h times the scale
    scales:   what it enlarges by; (1,): it leaves the size; (): any
    told:     what `restore` needs in `given` beside "degraded": "sigma" f32[b], "mask" f32[b h w 1] where it is hidden,
              "region" f32[b h w 1] where it is to be mended
    multiple: the sides of "degraded" must be divisible by it
    channels: of "degraded"; grey nets take 1 and 3
    colours:  whether a grey picture becomes one in colour
    several:  whether other keys give other answers
    whole:    whether "degraded" must be the whole picture, never a part of it
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
    """How a picture becomes one of another domain or style, whatever its size.

    translate: (params, context, given, keys Key[b], to i32[b]) -> f32[b h w channels]
               given: {"source": f32[b h w c]} and what else is told; to: the number of a domain
    domains:   names of what it can make of a picture; "image" where it goes one way only
    told:      what `translate` needs in `given` beside "source": "style" f32[b h' w' c], a picture to look like
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


@dataclass(frozen=True)
class Phase:
    """One loss, played `repeat` times on fresh examples in every `every`-th step.

    Phases that name the same `stream` get the same key in a step; alone, a phase's stream is its name.
    """

    name: str
    learner: str
    loss: LossFn
    repeat: int = 1
    every: int = 1
    stream: str = ""


@dataclass(frozen=True)
class Ema:
    """The moving average of a net's variables: average <- d average + (1 - d) net, with d = decay(step).

    key: its name in the state; unset: the net's, and then it is the one that samples are drawn by
    """

    net: str
    decay: Callable[[Any], Any]
    key: str = ""

    @property
    def name(self) -> str:
        return self.key or self.net


def ramped(decay: float) -> Callable[[Any], Array]:
    """Return an EMA decay that rises to `decay`, so that a short run's average forgets its first steps."""
    return lambda step: jnp.minimum(decay, (1 + step) / (10 + step))


@dataclass(frozen=True)
class Task:
    """A training game and what its nets can do afterwards. Abilities it lacks are None.

    init:     (key, spec of a batch) -> (params, extra)
    example:  the shape and dtype of one example, by name, without the batch axis
    frozen:   {net: function that loads its variables}; they are arguments of the step, never checkpointed
    given:    the batch entries that `generate` and `decode` need
    latent:   how `generate` goes from noise to a picture, where it goes through a latent vector
    denoiser: how it takes noise out of a picture, step by step, where it does
    restorer: how it mends a damaged picture, where it does
    translator: how it makes a picture of another domain of one, where it does
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


class TrainState(struct.PyTreeNode):
    """All that training changes; arrays only. `key` is the root key and never advances."""

    step: Array
    key: Key
    params: Params
    extra: Mapping[str, PyTree]
    ema: Mapping[str, PyTree]
    optimizer_state: Mapping[str, PyTree]  # by learner


StepFn = Callable[[TrainState, Batch, Mapping[str, PyTree]], tuple[TrainState, Metrics]]


def variables(net: str, params: Params, extra: Mapping[str, PyTree]) -> dict[str, PyTree]:
    """A net's Flax variables: its parameters, and its collections in `extra`."""
    return {"params": params[net], **extra.get(net, {})}


def averaged(state: TrainState, frozen: Mapping[str, PyTree]) -> tuple[Params, Context]:
    """What `generate` and its like are called with: the averaged nets where there are any, the last ones elsewhere."""
    own = {net: ema for net, ema in state.ema.items() if net in state.params}
    params = {**state.params, **{net: ema["params"] for net, ema in own.items()}}
    rest = {net: {k: v for k, v in ema.items() if k != "params"} for net, ema in own.items()}
    extra = {**state.extra, **{net: collections for net, collections in rest.items() if collections}}
    return params, Context(extra, state.ema, frozen, state.step)


def init_state(task: Task, key: Key, spec: Spec) -> TrainState:
    """Return the state at step 0.

    spec: a batch or its shapes, {"image": [b h w c], ...}
    Raises InputError where spec is not what the task takes.
    """
    for name, one in task.example.items():
        if name not in spec:
            raise InputError(f"The model needs {name!r} in every batch, but the data has only {sorted(spec)}.")
        if tuple(spec[name].shape[1:]) != one.shape:
            raise InputError(f"The model takes {name!r} of shape {one.shape}, the batch has {spec[name].shape[1:]}.")
    make, keys = partial(_made, task, spec), (rng.fold(key, "init"), rng.fold(key, "train"))
    # Within another program, whose keys are traced even where the one that is given is not, it is compiled with that.
    return make(*keys) if isinstance(keys[0], Tracer) else jax.jit(make, compiler_options=once())(*keys)


def once() -> dict[str, int]:
    """Return how a program that runs once is compiled: on a CPU its optimisation takes longer than all it does."""
    return {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else {}


def _made(task: Task, spec: Spec, key: Key, later: Key) -> TrainState:
    params, extra = task.init(key, spec)
    nets = {net for learner in task.learners.values() for net in learner.nets}
    _check(set(params) == nets, f"`init` made nets {sorted(params)}, but the learners own {sorted(nets)}.")
    # A copy, not an alias: the step donates the state, and one buffer can't be donated twice.
    ema = {e.name: jax.tree.map(jnp.copy, variables(e.net, params, extra)) for e in task.ema}
    moments = {n: lr.optimizer.init({net: params[net] for net in lr.nets}) for n, lr in task.learners.items()}
    return TrainState(jnp.zeros((), jnp.int32), later, params, extra, ema, moments)


def make_step(task: Task, accumulate: int = 1) -> StepFn:
    """Return the pure function (state, batch, frozen) -> (state, metrics) that plays every phase once in order.

    The batch holds `task.slices` plays' worth of examples: a phase with `repeat=k` plays on the first k slices.
    accumulate: how many equal parts of a play's examples are differentiated one after the other, their gradients
    averaged; a loss that is a mean over examples is unchanged, statistics over the batch are those of a part.
    Metrics are means over plays and parts, NaN where a phase skipped this step; `phase/finite` is 1 or 0.
    """

    learners = FrozenDict(task.learners)

    def differentiate(phase: Phase, own, state: TrainState, extra, batch, key, frozen):
        context = Context(extra, state.ema, frozen, state.step, state.optimizer_state, learners)

        def loss(own):
            return phase.loss({**state.params, **own}, context, batch, key)

        (value, aux), gradients = jax.value_and_grad(loss, has_aux=True)(own)
        unknown = set(aux.extra) - set(extra)
        _check(not unknown, f"Phase {phase.name!r} hands back {sorted(unknown)}, which `init` put in no extra.")
        return gradients, {"loss": value, **aux.metrics}, {**extra, **aux.extra}

    def play(phase: Phase, state: TrainState, batch, key, frozen) -> tuple[TrainState, Metrics]:
        learner = task.learners[phase.learner]
        own: Any = {net: state.params[net] for net in learner.nets}
        if accumulate == 1:
            gradients, metrics, extra = differentiate(phase, own, state, state.extra, batch, key, frozen)
        else:

            def part(extra, x):
                gradients, metrics, extra = differentiate(phase, own, state, extra, x[0], x[1], frozen)
                return extra, (gradients, metrics)

            parts = split(batch, accumulate), jax.random.split(key, accumulate)
            extra, (gradients, metrics) = _mean_scan(part, state.extra, parts, accumulate)
        optimizer = optax.with_extra_args_support(learner.optimizer)
        updates, moments = optimizer.update(gradients, state.optimizer_state[phase.learner], own, step=state.step)
        own = optax.apply_updates(own, updates)
        finite = jnp.isfinite(metrics["loss"]) & _all_finite(own)
        metrics = {**metrics, "grad_norm": optax.tree.norm(gradients), "finite": finite.astype(jnp.float32)}
        state = state.replace(
            params={**state.params, **own},
            extra=extra,
            optimizer_state={**state.optimizer_state, phase.learner: moments},
        )
        return state, metrics

    def plays(phase: Phase, state: TrainState, slices, key, frozen) -> tuple[TrainState, Metrics]:
        if phase.repeat == 1:
            return play(phase, state, jax.tree.map(lambda x: x[0], slices), key, frozen)

        def body(state, x):
            return play(phase, state, x[0], x[1], frozen)

        first = jax.tree.map(lambda x: x[: phase.repeat], slices)
        state, metrics = jax.lax.scan(body, state, (first, jax.random.split(key, phase.repeat)))
        return state, {k: v.min() if k == "finite" else v.mean() for k, v in metrics.items()}

    def step(state: TrainState, batch: Batch, frozen: Mapping[str, PyTree]) -> tuple[TrainState, Metrics]:
        key, metrics = jax.random.fold_in(state.key, state.step), {}
        slices = split(batch, task.slices)
        for phase in task.phases:
            args = (state, slices, rng.fold(key, phase.stream or phase.name), frozen)
            if phase.every == 1:
                state, new = plays(phase, *args)
            else:
                shapes = jax.eval_shape(lambda *args, phase=phase: plays(phase, *args)[1], *args)
                skipped = {k: jnp.full(s.shape, 1.0 if k == "finite" else jnp.nan, s.dtype) for k, s in shapes.items()}
                state, new = jax.lax.cond(
                    state.step % phase.every == 0,
                    lambda *args, phase=phase: plays(phase, *args),
                    lambda state, *_, skipped=skipped: (state, skipped),
                    *args,
                )
            metrics.update({f"{phase.name}/{name}": value for name, value in new.items()})
        ema = dict(state.ema)
        for e in task.ema:
            d = e.decay(state.step)
            ema[e.name] = jax.tree.map(
                lambda a, x, d=d: d * a + (1 - d) * x if jnp.issubdtype(x.dtype, jnp.inexact) else x,
                ema[e.name],
                variables(e.net, state.params, state.extra),
            )
        return state.replace(step=state.step + 1, ema=ema), metrics

    return step


def split(batch: PyTree, parts: int) -> PyTree:
    """Cut every array [b ...] into [parts b/parts ...], each part taken across the whole batch.

    Strided, not contiguous: a batch that is sharded over devices is cut without moving an example.
    """
    for name, x in batch.items() if isinstance(batch, Mapping) else ():
        if x.shape[0] % parts:
            raise InputError(f"{x.shape[0]} examples of {name!r} can't be cut into {parts} parts: give a multiple.")
    return jax.tree.map(lambda x: jnp.moveaxis(x.reshape((x.shape[0] // parts, parts, *x.shape[1:])), 1, 0), batch)


def _mean_scan(part, extra, xs, count: int):
    """Scan `part` over xs, threading extra, and return the means of what it yields without stacking it."""
    shapes = jax.eval_shape(lambda extra, xs: part(extra, jax.tree.map(lambda x: x[0], xs))[1], extra, xs)

    def body(carry, x):
        extra, total = carry
        extra, new = part(extra, x)
        return (extra, jax.tree.map(jnp.add, total, new)), None

    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    (extra, total), _ = jax.lax.scan(body, (extra, zeros), xs)
    return extra, jax.tree.map(lambda x: x / count, total)


def _all_finite(tree: PyTree) -> Array:
    return jnp.all(jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]))


def _check(ok: bool, sentence: str):
    if not ok:
        raise ValueError(sentence)
