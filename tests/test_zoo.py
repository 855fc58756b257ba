"""Every row of the zoo through the same tests: at full size in the abstract, at tiny size numerically.

At full size each preset's losses are traced in bf16 on a mesh of eight devices, at tiny size its step: shapes, dtypes
and shardings are read off the traces. One preset of each file is compiled once, tiny, with a gate for each phase:
that program serves the whole step and each phase alone. A file's other presets, and the numbers of other meshes and of
bf16, are marked slow.
"""

import dataclasses
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import FrozenDict

from jaxgen import zoo
from jaxgen.core.cache import use_compilation_cache
from jaxgen.core.capabilities import Classifier, Transform
from jaxgen.core.capabilities import Degradation as DegradationOf
from jaxgen.core.config import Compute, Mesh, Run
from jaxgen.core.errors import InputError
from jaxgen.core.spec import spec_of
from jaxgen.core.step import init_state, make_step, split
from jaxgen.core.task import Task
from jaxgen.core.types import Context, Phase, TrainState, averaged, variables
from jaxgen.inference.previews import reconstructed, restored, translated
from jaxgen.inference.sampling import conditions_of, draws_samples, make_sampler, sample_spec
from jaxgen.interop.entries import to_ours
from jaxgen.interop.layers import traced
from jaxgen.interop.weight_names import rule_of, to_theirs
from jaxgen.runs import sharding
from jaxgen.runs.config_io import from_json, to_json
from jaxgen.runs.load import build_task
from jaxgen.training.dry_run import count
from jaxgen.training.setup import lower
from tests.helpers.capabilities import classify, generate
from tests.helpers.presets import DISTINCT, FIRST, NAMES
from tests.helpers.quick_keys import quick_key

# The second tier traces and computes these: they compile for 4 to 30 seconds each. Tests of their own, beside the
# others of their family, compute parts of most of them in `make test`.
LONG = (
    *("stylegan2", "biggan", "inception-v3-fid", "efficientnet-lite0", "hierarchical", "edm2", "esrgan", "swinir"),
    *("restormer", "gated-conv", "completion-vae", "pix2pixhd", "bicyclegan", "unit", "munit", "stargan", "gatys"),
    *("ddpm", "consistency", "meanflow", "vdm", "masked", "vqgan", "vae-iaf", "mae", "r3gan", "srgan", "rcan", "rrdb"),
    *("context-encoder", "partial-conv", "adm-classifier", "harmonisation", "adain", "simvp", "tau", "predrnn"),
    *("fast-style", "photo-repair", "nafnet-deblur", "unet-denoise", "liif", "vae-gan", "span", "carn", "predrnn-plus"),
    *("phydnet", "basicvsr", "rife", "realnvp", "glow", "pixelcnn-plus"),
    *("motion-vae", "mdm", "mvae", "acrnn"),
    *("vgan", "video-diffusion", "latte", "mcvd", "svg-lp", "video-vae", "videogpt", "stylegan-v"),
    *("capture-frame", "capture-temporal", "capture-transformer"),
    *("wavenet-vocoder", "spectrogram-flow"),
)
# Of the first presets of the files `make test` computes those that are not LONG. Variants are slow.
QUICK = [n for n in FIRST if n not in LONG]
# Tasks that many files share, each with a net of its own.
SHARED = ("jaxgen.tasks.classification", "jaxgen.tasks.restoration")
# GANs that differ in their losses: no own statistics, every phase once a step.
TRANSLATION = "pix2pix", "pix2pixhd", "pix2pixhd-local", "bicyclegan", "cut", "unit", "munit"


@pytest.fixture(scope="module", autouse=True)
def no_cache(plain_convolutions):
    """No program is written into the cache: writing takes nearly as long as compiling, and none is used again."""
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1e9)
    yield
    forget()
    use_compilation_cache()


def family(name: str) -> str:
    return zoo.ZOO[name].split(".")[2]


ABSTRACT = [n for i, n in enumerate(FIRST) if all(family(n) != family(m) for m in FIRST[:i])]


@cache
def plain(name: str) -> Task:
    """Return the tiny run's task, without a mesh."""
    run = zoo.load(name).tiny
    return run.model.task(run.steps)


@cache
def game(name: str) -> str:
    """Return the module of a preset's training game."""
    phases = plain(name).phases
    if name in TRANSLATION:
        return "translation"
    return phases[0].loss.__module__ if len(phases) == 1 and phases[0].loss.__module__ in SHARED else zoo.ZOO[name]


ONE, PLAIN = Mesh(data=1), Compute()
each = pytest.mark.parametrize("name", NAMES)
MESH = Mesh(data=2, fsdp=4)


def tiny(name: str, **changes) -> Run:
    return dataclasses.replace(zoo.load(name).tiny, preset=name, **changes)


def initial(task: Task, batch: int):
    """Return the function key -> state at step 0."""
    return lambda key: init_state(task, key, spec_of(task, batch))


def compiled(name: str, mesh: Mesh = ONE, compute: Compute = PLAIN):
    """Return the tiny run, its mesh and task, an abstract state and the compiled step; once for all tests of a preset.

    step: (state, batch, frozen, {phase: bool}) -> (state, metrics). Gates other than all True are for one device only.
    """
    if name not in held:  # conftest.py puts the tests of a preset one after the other
        forget()
        held.add(name)
    return compiled_once(name, mesh, compute)  # the cache distinguishes given arguments from defaults


@cache
def compiled_once(name: str, mesh: Mesh, compute: Compute):
    run = tiny(name, compute=compute)
    lies = sharding.make_mesh(mesh)
    task = build_task(run, lies)
    shapes = jax.eval_shape(initial(task, run.batch), quick_key(0))
    like = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, sharding.shardings(shapes, lies)
    )
    if (mesh, compute) == (ONE, PLAIN):
        whole = (jax.tree.map(lambda x: x.sharding, like), None)
        batch = spec_of(task, run.batch * task.slices)
        lowered = jax.jit(make_step(task), out_shardings=whole).lower(like, batch, frozen_of(task), gates(task))
        return run, lies, task, like, lowered.compile()
    step = lower(run, task, lies, like, frozen_of(task)).compile()
    return run, lies, task, like, lambda state, batch, frozen, _: step(fresh(state), batch, frozen)


def gates(task: Task, only: str = "") -> dict[str, Any]:
    """Return the argument of a step that plays all phases, or one of them."""
    return {phase.name: np.bool_(only in ("", phase.name)) for phase in task.phases}


def frozen_of(task):
    return {net: load() for net, load in task.frozen.items()}


@jax.jit
def fresh(state: TrainState) -> TrainState:
    """Return a copy, for a step that donates the arrays of its state."""
    return jax.tree.map(jnp.copy, state)


@cache
def first(name: str) -> TrainState:
    """Return the state at step 0 on one device; made once for all tests."""
    run, _, task, like, _ = compiled(name)
    return jax.jit(initial(task, run.batch), out_shardings=jax.tree.map(lambda x: x.sharding, like))(quick_key(0))


def drawer(name: str, mesh: Mesh = ONE, size: int = 8):
    """(state, seed, count) -> samples, conditioned on the batch."""
    return drawer_once(name, mesh, size)


@cache
def drawer_once(name: str, mesh: Mesh, size: int):
    _, lies, task, *_ = compiled(name, mesh)
    draw, given = make_sampler(task, lies, size), {k: v for k, v in batch_of(name).items() if k in conditions_of(task)}
    return lambda state, seed, count: draw(state, frozen_of(task), seed, count, given)


held: set[str] = set()  # the preset that has compiled programs


def forget():
    """Free the programs: those of many presets fill the memory map."""
    held.clear()
    for made in (compiled_once, first, drawer_once):
        made.cache_clear()
    jax.clear_caches()


def batch_of(name: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Return a batch of smooth random images, and labels in range."""
    run, task, batch = tiny(name), plain(name), {}
    rng = np.random.default_rng(seed)
    for field, x in spec_of(task, run.batch * task.slices).items():
        floats, own = jnp.issubdtype(x.dtype, jnp.floating), task.example[field]
        count = own.count if own.kind == "label" else task.classes
        numbers = np.tanh(rng.normal(size=x.shape)) if floats else rng.integers(0, count or 1, x.shape)
        batch[field] = numbers.astype(x.dtype)
    return batch


def play(
    name: str, steps: int, mesh: Mesh = ONE, compute: Compute = PLAIN, state: TrainState | None = None
) -> tuple[TrainState, list[dict[str, float]]]:
    """Return the state and the metrics of each step."""
    _, lies, task, like, step = compiled(name, mesh, compute)
    now = jax.device_put(state or first(name), jax.tree.map(lambda x: x.sharding, like))
    history = []
    for i in range(steps):
        now, metrics = step(now, sharding.put_batch(lies)(batch_of(name, i)), frozen_of(task), gates(task))
        history.append({k: float(v) for k, v in metrics.items()})
    return now, history


def alone(name: str, phase: Phase):
    """Return (state) -> (state, metrics), which plays one phase with the same noise, averages and batch each time."""
    *_, task, _, step = compiled(name)
    start, batch, frozen, only = first(name), batch_of(name), frozen_of(task), gates(task, phase.name)
    return lambda state: step(state.replace(step=start.step, ema=start.ema), batch, frozen, only)


def numbers(tree):
    """Return the leaves of a state as arrays of numbers, keys included."""
    is_key = lambda x: jnp.issubdtype(x.dtype, jax.dtypes.prng_key)  # noqa: E731
    return [np.asarray(jax.random.key_data(x) if is_key(x) else x) for x in jax.tree.leaves(tree)]


@pytest.mark.parametrize("name", [n for n in NAMES if n not in FIRST])
def test_variants_have_their_number_of_parameters(name):
    preset = zoo.load(name)
    task = preset.run.model.task(preset.run.steps)
    params, _ = jax.eval_shape(task.init, jax.random.key(0), spec_of(task, preset.run.batch))
    assert count(params) == preset.parameters


@each
def test_the_tiny_run_takes_the_same_kinds_of_arrays(name):
    """`--tiny` tries a command on the user's own data."""
    full, tiny = ({x.kind for x in run.model.task(run.steps).example.values()} for run in both(name))
    assert full == tiny


def both(name: str) -> tuple[Run, Run]:
    return zoo.load(name).run, zoo.load(name).tiny


@pytest.mark.parametrize("name", [n if n in ABSTRACT else pytest.param(n, marks=pytest.mark.slow) for n in DISTINCT])
def test_a_step_in_the_abstract(name):
    """The step of a tiny run."""
    task, state, spec, frozen = in_the_abstract(name, zoo.load(name).tiny)
    after, metrics = jax.eval_shape(make_step(task), state, spec, frozen)
    shape = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
    assert shape(after) == shape(state), "a step keeps structure, shapes and dtypes"
    assert all(x.shape == () and x.dtype == jnp.float32 for x in metrics.values())
    assert {m.partition("/")[0] for m in metrics} == {p.name for p in task.phases}


@pytest.mark.slow
@pytest.mark.parametrize("name", DISTINCT)
def test_full_size_in_the_abstract(name):
    """The losses: gradients, optimizers and samplers, which take most of the time to trace, know no sizes.

    Those that differ in size alone are initialised at full size by the test of their number of parameters.
    """
    task, state, spec, frozen = in_the_abstract(name, zoo.load(name).run, transforms=False)

    def losses(state, batch, frozen):
        context = Context(state.extra, state.ema, frozen, state.step, state.optimizer_state, FrozenDict(task.learners))
        one = jax.tree.map(lambda x: x[0], split(batch, task.slices))
        return {phase.name: phase.loss(state.params, context, one, state.key) for phase in task.phases}

    for value, aux in jax.eval_shape(losses, state, spec, frozen).values():
        assert value.shape == () and value.dtype == jnp.float32
        assert all(x.shape == () for x in aux.metrics.values()) and set(aux.extra) <= set(state.extra)


def in_the_abstract(name: str, run: Run, transforms: bool = True):
    """Trace the state of a run in bf16 on eight devices, and what its transforms return.

    Returns the task, the state, the shapes of a batch, and those of the frozen nets.
    """
    lies = sharding.make_mesh(MESH)
    run = dataclasses.replace(run, preset=name, compute=Compute(precision="bf16"))
    run = dataclasses.replace(run, batch=run.batch + -run.batch % lies.size)
    task = build_task(run, lies)
    spec = spec_of(task, run.batch * task.slices)
    spec = {k: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding.batched(lies)) for k, x in spec.items()}
    state = sharding.abstract_state(task, lies, spec)
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    laid = lambda tree: jax.tree.map(lambda x: x.sharding.spec, tree)  # noqa: E731
    for net in set(state.ema) & set(state.params):
        assert laid(state.ema[net]["params"]) == laid(state.params[net]), "averages lie as their parameters"
    frozen = {net: jax.eval_shape(load) for net, load in task.frozen.items()}
    if not transforms:
        return task, state, spec, frozen
    transform, nets, one = task.find(Transform), averaged(state, frozen), spec_of(task, 2)
    if task.find(DegradationOf):
        clean = task.example[task.get(Transform).main]
        assert jax.eval_shape(partial(restored, task), nets, one).shape == (2, 3, *clean.shape)
    if transform and "to" in transform.inputs:
        assert jax.eval_shape(partial(translated, task), nets, one).shape == (2, 3, *task.example["image"].shape)
    if draws_samples(task):
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2))
        given = {name: one[name] for name in conditions_of(task)}
        made = jax.eval_shape(generate(task), *nets, keys, given)[task.get(Transform).main]
        assert made.shape == (2, *sample_spec(task).shape) and made.dtype == jnp.float32
    return task, state, spec, frozen


@each
def test_json_and_back(name):
    for run in (zoo.load(name).run, zoo.load(name).tiny):
        run = dataclasses.replace(run, preset=name)
        assert from_json(to_json(run)) == run


@each
def test_exported_weights_come_back(name):
    run, rule = tiny(name), rule_of(name)
    params, extra, *_ = traced(run.model)
    rng = np.random.default_rng(0)
    for net in params:
        shapes = variables(net, params, extra)
        ours = jax.tree.map(lambda x: np.asarray(rng.normal(size=x.shape), np.float32), shapes)
        if getattr(run.model, "kernel", 4) == 5:
            with pytest.raises(InputError, match="PyTorch has no such net"):
                to_theirs(rule, run.model, net, ours)
            continue
        theirs = to_theirs(rule, run.model, net, ours)
        assert len(theirs) == len(jax.tree.leaves(ours)), "no name is given twice"
        again = to_ours(rule, run.model, net, ours, theirs)
        assert jax.tree.all(jax.tree.map(np.array_equal, ours, again))


def stand_in(kind: str):
    if (other := next(n for n in DISTINCT if game(n) == game(kind))) != kind:
        pytest.skip(f"{other} stands for it: {game(kind)}")


# Patterns that sharding could break, numerically on eight devices; all others by the shardings of their traced steps.
SHARDED = (
    *("dcgan", "vae", "ddpm", "pixelcnn", "realnvp-mnist"),  # one of each family, here or below
    *("srcnn", "pix2pix", "convlstm", "simlpe", "hash-grid"),
    *("wgan-gp", "stylegan2"),  # second derivatives, deviations over the batch
    *("biggan", "dncnn", "resnet20"),  # statistics in the state: spectral norms, batch norms
    *("vq-vae", "flow", "cut"),  # codes by moving averages, losses and transport plans over the batch
    *("context-encoder", "cyclegan", "vqgan"),  # late phases, a pool of images, frozen nets
)
FEW = "dcgan", "vae"  # `make test` computes them on eight devices, and draws their samples in two batch sizes
BF16 = [n for i, n in enumerate(FIRST) if all(family(n) != family(m) for m in FIRST[:i])] + ["stylegan2", "vq-vae"]


each_kind = pytest.mark.parametrize(
    "kind", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in DISTINCT]
)


@each_kind
def test_each_phase_moves_its_learners_nets_and_no_others(kind):
    task = compiled(kind)[2]
    before = jax.tree.map(np.asarray, first(kind).params)
    for phase in task.phases:
        step, after = alone(kind, phase), first(kind)
        for _ in range(4):  # a gate that starts at 0 passes nothing in the first step; up to three are in sequence
            after, _ = step(after)
        for net in before:
            pairs = zip(*map(jax.tree.leaves, (after.params[net], before[net])), strict=True)
            moved = [(x.size, bool(np.any(np.asarray(a) != x))) for a, x in pairs]
            if net in task.learners[phase.learner].nets:
                # The norm of a gradient, which a lazy regulariser uses, does not depend on added terms, and the
                # hinge loss, at the start, does not depend on a number that is added to every logit.
                enough = all(m or size == 1 for size, m in moved) if phase.every == 1 else any(m for _, m in moved)
                assert enough, f"{phase.name} leaves an array of {net} where it was"
            else:
                assert not any(m for _, m in moved), f"{phase.name} moves {net}"


@each_kind
def test_restore_then_step_is_bit_equal_to_never_stopping(kind, tmp_path):
    from jaxgen.runs.checkpoint import Checkpoints

    stand_in(kind)
    like = compiled(kind)[3]
    like = like.replace(key=jax.eval_shape(lambda: jax.random.key(0)))  # Orbax knows only JAX's own keys
    half, _ = play(kind, 2)
    saved = Checkpoints(tmp_path, keep=1)
    saved.save(2, half.replace(key=jax.random.key(0)), {"batches": 2})
    whole, _ = play(kind, 2, state=half)  # during the write
    saved.wait()
    restored, notes = saved.restore(like) or (half, {})
    saved.close()
    again, _ = play(kind, 2, state=restored.replace(key=half.key))
    assert notes == {"batches": 2}
    for a, b in zip(numbers(whole), numbers(again), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in FIRST])
def test_a_sample_depends_on_its_own_key_only(kind):
    task = compiled(kind)[2]
    if not draws_samples(task):
        pytest.skip("draws no samples")
    state, frozen, keys = play(kind, 1)[0], frozen_of(task), jax.random.split(quick_key(1), 8)
    given = {k: v for k, v in batch_of(kind).items() if k in conditions_of(task)}
    transform = task.get(Transform)
    program = jax.jit(lambda state, *rest: generate(task)(*averaged(state, rest[0]), *rest[1:])[transform.main])

    def draw(rows, keys):
        return np.asarray(program(state, frozen, keys, {k: v[np.array(rows) % len(v)] for k, v in given.items()}))

    some = draw([0, 1, 2, 3], keys[:4])
    swapped = draw([1, 0, 6, 5], keys[np.array([1, 0, 6, 5])])
    # An untrained tiny net has pale outputs; those of a predictor of frames are pale about black, not about grey.
    scale = np.abs(some - (np.median(some) if transform.subject else 0)).max()
    np.testing.assert_allclose(swapped[:2], some[1::-1], atol=1e-4 * scale)
    assert np.abs(some[0] - some[1]).max() > 0.1 * scale
    assert np.abs(some).max() <= 1 or transform.outputs[transform.main].kind == "pose", "lengths have no limit"
    other = draw([0, 1, 2, 3], keys[4:])
    if transform.subject and not transform.stochastic:
        return np.testing.assert_array_equal(some, other, "an image has one answer")
    # The futures that an untrained predictor finds for a clip are nearly alike.
    least = 1e-4 if transform.subject in given else 0.1
    assert np.abs(some - other).max() > least * scale, "other keys, other samples"


@pytest.mark.parametrize("name", FEW)
def test_samples_do_not_depend_on_how_many_are_drawn(name):
    state, _ = play(name, 1)
    big, small = drawer(name)(state, 0, 6), drawer(name, size=2)(state, 0, 5)
    np.testing.assert_allclose(big[:5], small, atol=1e-4 * np.abs(big).max())
    assert np.array_equal(big[:3], drawer(name)(state, 0, 3)), "the count changes no bit"


def answer_of(task, params, context, batch):
    """Return the output of a model without samples for a batch: logits, or restored, translated or decoded images."""
    if task.find(Classifier):
        return classify(task)(params, context, batch["image"])["logits"]
    if task.find(DegradationOf):
        return restored(task, (params, context), batch)[:, 1]
    if task.find(Transform):
        return translated(task, (params, context), batch)[:, 1]
    return reconstructed(task, (params, context), batch)[:, 1]


@pytest.mark.parametrize("kind", [n if n in FEW else pytest.param(n, marks=pytest.mark.slow) for n in SHARDED])
def test_eight_devices_equal_one(kind):
    """Batches are sharded over data and fsdp, parameters over fsdp. (Other meshes: runs/test_sharding.py.)"""
    answers = []
    for mesh in (ONE, MESH):
        state, history = play(kind, 1, mesh)
        _, lies, task, *_ = compiled(kind, mesh)
        # Outputs are compared after one step: each further step amplifies rounding, in batch norm over few numbers.
        if draws_samples(task):
            answer = drawer(kind, mesh)(state, 0, 8)
        else:
            batch = sharding.put_batch(lies)(batch_of(kind))
            answer = jax.jit(partial(answer_of, task))(*averaged(state, frozen_of(task)), batch)
        state, later = play(kind, 1, mesh, state=state)
        answers.append((history + later, answer))
    for ours, one in zip(answers[1][0], answers[0][0], strict=True):
        assert ours == pytest.approx(one, rel=2e-3, abs=2e-4, nan_ok=True)  # NaN: a lazy phase did not play
    scale = np.abs(answers[0][1]).max()
    # Of biggan rounding alone moves the answer by 0.7e-3 to 1.1e-3, depending on how batch norm takes its variance.
    limit = 2e-3 if kind == "biggan" else 1e-3
    np.testing.assert_allclose(answers[1][1], answers[0][1], atol=limit * scale)


@each_kind
def test_every_phases_loss_falls_on_one_batch(kind):
    """Each phase is played alone, with fixed noise and fixed opponents, as its gradient assumes."""
    for phase in compiled(kind)[2].phases:
        step, state, losses = alone(kind, phase), first(kind), []
        while len(losses) < 30 and (len(losses) < 8 or np.mean(losses[-3:]) >= losses[0]):
            state, metrics = step(state)
            losses.append(float(metrics[f"{phase.name}/loss"]))
        assert np.mean(losses[-3:]) < losses[0], f"{phase.name}: {losses}"


@pytest.mark.slow
@pytest.mark.parametrize("name", BF16)
def test_bf16_runs_and_keeps_parameters_in_f32(name):
    state, history = play(name, 2, compute=Compute(precision="bf16"))
    _, exact = play(name, 2)
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    for ours, true in zip(history, exact, strict=True):
        for metric in true:
            if metric.endswith("/loss"):
                assert ours[metric] == pytest.approx(true[metric], rel=0.1, nan_ok=True)
    assert history != exact, "nothing was computed in bf16"
