"""The contract, on games whose steps are computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgen.core.capabilities import Codec
from jaxgen.core.config import Compute, Optim
from jaxgen.core.errors import InputError
from jaxgen.core.spec import FLOAT, ArraySpec
from jaxgen.core.step import init_state, make_step, split
from jaxgen.core.task import Task
from jaxgen.core.types import Aux, Ema, Learner, Phase, averaged, ramped
from jaxgen.runs import task_transforms

RATE = 0.1


def toy(phases=None, **changes) -> Task:
    """Two nets of one number each; a pulls towards the mean of x, b towards a."""

    def a_loss(params, context, batch, key):
        count = context.extra["count"] + 1
        return jnp.mean((params["a"]["w"] - batch["image"]) ** 2) / 2, Aux(
            {"seen": batch["image"].sum()}, {"count": count}
        )

    def b_loss(params, context, batch, key):
        return (params["b"]["w"] - params["a"]["w"]) ** 2 / 2, Aux({"noise": jax.random.normal(key)})

    def init(key, spec):
        return {"a": {"w": jnp.float32(1)}, "b": {"w": jnp.float32(2)}}, {"count": jnp.int32(0)}

    fields = {
        "init": init,
        "example": {"image": ArraySpec("label", (), FLOAT)},
        "learners": {"a": Learner(("a",), optax.sgd(RATE)), "b": Learner(("b",), optax.sgd(RATE))},
        "phases": phases(a_loss, b_loss) if phases else (Phase("a", "a", a_loss), Phase("b", "b", b_loss)),
    }
    return Task(**(fields | changes))


X = np.array([1.0, 3.0, 5.0, 7.0], np.float32)


def start(task: Task):
    return init_state(task, jax.random.key(0), {"image": X})


def test_a_step_plays_the_phases_in_order_and_moves_only_the_learners_nets():
    task = toy()
    state, metrics = make_step(task)(start(task), {"image": X}, {})
    a = 1 - RATE * (1 - X.mean())
    assert state.params["a"]["w"] == pytest.approx(a)
    assert state.params["b"]["w"] == pytest.approx(2 - RATE * (2 - a)), "phase b must see phase a's result"
    assert state.step == 1 and state.extra["count"] == 1
    assert metrics["a/loss"] == pytest.approx(((1 - X) ** 2).mean() / 2)
    assert metrics["a/grad_norm"] == pytest.approx(abs(1 - X.mean()))
    assert metrics["a/seen"] == X.sum() and metrics["a/finite"] == 1


def test_repeat_plays_on_fresh_slices_and_the_others_on_the_first():
    task = toy(lambda a, b: (Phase("a", "a", a, repeat=2), Phase("b", "b", b)))
    assert task.slices == 2
    state, metrics = make_step(task)(start(task), {"image": X}, {})
    w = 1.0
    for part in (X[0::2], X[1::2]):
        w -= RATE * (w - part.mean())
    assert state.params["a"]["w"] == pytest.approx(w)
    assert state.extra["count"] == 2
    assert metrics["a/seen"] == pytest.approx(X.sum() / 2), "metrics are means over the plays"


def test_every_skips_steps_and_says_so_with_nan():
    task = toy(lambda a, b: (Phase("a", "a", a, every=2), Phase("b", "b", b)))
    step = jax.jit(make_step(task))
    first, played = step(start(task), {"image": X}, {})
    second, skipped = step(first, {"image": X}, {})
    assert first.params["a"]["w"] != 1 and second.params["a"]["w"] == first.params["a"]["w"]
    assert second.params["b"]["w"] != first.params["b"]["w"]
    assert np.isfinite(played["a/loss"]) and np.isnan(skipped["a/loss"]) and skipped["a/finite"] == 1
    assert second.extra["count"] == 1


def test_lazy_phase_shares_the_learners_moments():
    task = toy(
        lambda a, b: (Phase("a", "a", a), Phase("lazy", "a", a, every=2), Phase("b", "b", b)),
        learners={"a": Learner(("a",), optax.adam(RATE)), "b": Learner(("b",), optax.sgd(RATE))},
    )
    step = jax.jit(make_step(task))
    state = start(task)
    for _ in range(3):
        state, _ = step(state, {"image": X}, {})
    assert optax.tree.get(state.optimizer_state["a"], "count") == 5


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulation_equals_the_whole_batch(parts):
    task = toy()
    whole, m = make_step(task)(start(task), {"image": X}, {})
    cut, n = make_step(task, accumulate=parts)(start(task), {"image": X}, {})
    assert cut.params["a"]["w"] == pytest.approx(whole.params["a"]["w"])
    assert n["a/loss"] == pytest.approx(m["a/loss"])
    assert cut.extra["count"] == parts, "extra passes from part to part"


def test_ema_follows_its_formula_and_starts_as_a_copy():
    task = toy(ema=(Ema("a", lambda step: 0.75),))
    state = start(task)
    assert state.ema["a"]["params"]["w"] is not state.params["a"]["w"]
    after, _ = make_step(task)(state, {"image": X}, {})
    assert after.ema["a"]["params"]["w"] == pytest.approx(0.75 * 1 + 0.25 * float(after.params["a"]["w"]))
    params, _ = averaged(after, {})
    assert params["a"] is after.ema["a"]["params"] and params["b"] is after.params["b"]
    assert ramped(0.9)(0) == pytest.approx(0.1) and ramped(0.9)(1000) == pytest.approx(0.9)


def test_ema_covers_a_nets_own_extra():
    def init(key, spec):
        return {"a": {"w": jnp.float32(1)}}, {"a": {"batch_stats": jnp.float32(0)}}

    def loss(params, context, batch, key):
        return params["a"]["w"] ** 2, Aux(extra={"a": {"batch_stats": jnp.float32(4)}})

    task = Task(
        init=init,
        example={"image": ArraySpec("label", (), FLOAT)},
        learners={"a": Learner(("a",), optax.sgd(RATE))},
        phases=(Phase("a", "a", loss),),
        ema=(Ema("a", lambda step: 0.75),),
    )
    state, _ = make_step(task)(start(task), {"image": X}, {})
    _, context = averaged(state, {})
    assert state.extra["a"]["batch_stats"] == 4 and context.extra["a"]["batch_stats"] == 1


def test_streams_share_keys_and_steps_do_not():
    def phases(a, b, **streams):
        return (Phase("a", "a", a), Phase("b", "b", b, **streams), Phase("c", "b", b, **streams))

    def noises(task):
        step, state = make_step(task), start(task)
        state, first = step(state, {"image": X}, {})
        _, second = step(state, {"image": X}, {})
        return [float(m[f"{p}/noise"]) for m in (first, second) for p in "bc"]

    alone = noises(toy(phases))
    assert len(set(alone)) == 4
    shared = noises(toy(lambda a, b: phases(a, b, stream="z")))
    assert shared[0] == shared[1] != shared[2] == shared[3]


def test_frozen_nets_reach_the_losses_and_are_not_in_the_state():
    def loss(params, context, batch, key):
        return params["a"]["w"] * context.frozen["teacher"]["w"], Aux()

    task = toy(
        lambda a, b: (Phase("a", "a", loss), Phase("b", "b", b)), frozen={"teacher": lambda: {"w": jnp.float32(3)}}
    )
    frozen = {net: load() for net, load in task.frozen.items()}
    state, _ = make_step(task)(start(task), {"image": X}, frozen)
    assert state.params["a"]["w"] == pytest.approx(1 - RATE * 3)
    assert "teacher" not in state.params


@pytest.mark.parametrize("bad", ["loss", "parameter"])
def test_a_value_that_is_not_finite_is_reported(bad):
    def loss(params, context, batch, key):
        value = params["a"]["w"] * (jnp.nan if bad == "loss" else 1e38 * batch["image"].sum())
        return (value if bad == "loss" else jnp.minimum(value, 0.0) + value * 1e30), Aux()

    task = toy(lambda a, b: (Phase("a", "a", loss), Phase("b", "b", b)))
    _, metrics = make_step(task)(start(task), {"image": X}, {})
    assert metrics["a/finite"] == 0


@pytest.mark.parametrize(
    "change, words",
    [
        ({"phases": lambda a, b: ()}, "at least one phase"),
        ({"learners": {"a": Learner((), optax.sgd(1)), "b": Learner(("b",), optax.sgd(1))}}, "'a' has no nets"),
        ({"learners": {n: Learner((n,), optax.sgd(1)) for n in "abc"}}, "'c' has no phase"),
        ({"learners": {"a": Learner(("a",), optax.sgd(1))}}, "Phase 'b' names learner 'b'"),
        ({"ema": (Ema("c", ramped(0.9)),)}, "EMA names net 'c'"),
        ({"frozen": {"a": dict}}, "'a' is both frozen and trained"),
        ({"capabilities": (Codec(lambda *_: jnp.zeros(()), conditions=("label",)),)}, "'label', not one of"),
    ],
)
def test_a_wrong_name_in_a_task_is_reported(change, words):
    with pytest.raises(ValueError, match=words):
        toy(**change)


@pytest.mark.parametrize("phase, words", [({"repeat": 0}, "repeat=0"), ({"every": 0}, "every=0"), ({}, "Two phases")])
def test_a_wrong_phase_is_reported(phase, words):
    with pytest.raises(ValueError, match=words):
        toy(lambda a, b: (Phase("a", "a", a), Phase("a" if not phase else "b", "b", b, **phase)))


def test_init_must_make_the_learners_nets():
    task = toy(init=lambda key, spec: ({"a": {}}, {}))
    with pytest.raises(ValueError, match="made nets"):
        start(task)


def test_a_batch_that_does_not_fit_is_refused():
    with pytest.raises(InputError, match="needs 'image'"):
        init_state(toy(), jax.random.key(0), {"label": X})
    with pytest.raises(InputError, match="shape"):
        init_state(toy(), jax.random.key(0), {"image": X[:, None]})


def test_a_state_is_the_same_alone_and_within_another_program():
    key = jax.random.key(0)
    make = lambda key: init_state(toy(), key, {"image": X})  # noqa: E731
    alone, within = make(key), jax.jit(lambda: make(key))()
    each = jax.vmap(make)(key[None])
    shapes = jax.eval_shape(lambda: make(key))
    numbers = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x  # noqa: E731
    for a, b, c, d in zip(*map(jax.tree.leaves, (alone, within, each, shapes)), strict=True):
        assert a.shape == d.shape and a.dtype == d.dtype
        np.testing.assert_array_equal(numbers(a), numbers(b))
        np.testing.assert_array_equal(numbers(a), numbers(c)[0])


def test_split_takes_every_example_once():
    parts = split({"x": jnp.arange(6)}, 3)["x"]
    assert parts.shape == (3, 2) and sorted(parts.ravel().tolist()) == list(range(6))


# ---- changes to a task by the configuration


def test_schedule_counts_steps_not_plays():
    optim = Optim(schedule="linear", warmup=2)
    task = toy(lambda a, b: (Phase("a", "a", a, repeat=2), Phase("b", "b", b, every=2)))
    task = task_transforms.tune(task, optim, Compute(), steps=4)
    factors = [np.asarray(task_transforms.schedule(optim, 4)(step)).item() for step in range(5)]
    assert factors == pytest.approx([0, 0.5, 1, 0.5, 0])
    step, state, w = jax.jit(make_step(task)), start(task), 1.0
    for factor in factors[:4]:
        for part in (X[0::2], X[1::2]):
            w -= factor * RATE * (w - part.mean())
        state, _ = step(state, {"image": X}, {})
        assert state.params["a"]["w"] == pytest.approx(w)
    assert np.asarray(task_transforms.schedule(Optim(schedule="cosine"), 4)(2)) == pytest.approx(0.5)
    half = task_transforms.schedule(Optim(schedule="half"), 8)
    assert [np.asarray(half(step)).item() for step in range(9)] == pytest.approx([1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0])


def test_clipping_bounds_each_learners_gradient():
    task = task_transforms.tune(toy(), Optim(clip=0.5), Compute(), 10)
    state, metrics = make_step(task)(start(task), {"image": X}, {})
    assert state.params["a"]["w"] == pytest.approx(1 + RATE * 0.5)
    assert metrics["a/grad_norm"] == pytest.approx(3), "the norm before clipping"


def test_the_configurations_ema_decay_replaces_the_models():
    task = toy(ema=(Ema("a", ramped(0.9)),))
    assert task_transforms.tune(task, Optim(), Compute(), 1).ema == task.ema
    assert task_transforms.tune(task, Optim(ema=0.0), Compute(), 1).ema == ()
    [average] = task_transforms.tune(task, Optim(ema=0.5), Compute(), 1).ema
    assert average.decay(1000) == 0.5
    assert average.decay(0) == pytest.approx(0.1)  # the initial weights soon lose their influence


def test_bf16_reaches_matrices_and_spares_vectors_and_the_state():
    seen = {}

    def loss(params, context, batch, key):
        seen.update({k: v.dtype for k, v in params["a"].items()}, frozen=context.frozen["t"].dtype)
        return (params["a"]["w"].astype(jnp.float32) ** 2).sum() + params["a"]["b"].sum(), Aux()

    task = Task(
        init=lambda key, spec: ({"a": {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}}, {}),
        example={"image": ArraySpec("label", (), FLOAT)},
        learners={"a": Learner(("a",), optax.sgd(RATE))},
        phases=(Phase("a", "a", loss),),
    )
    task = task_transforms.tune(task, Optim(), Compute(precision="bf16"), 1)
    state, _ = make_step(task)(start(task), {"image": X}, {"t": jnp.ones((2, 2))})
    assert seen == {"w": jnp.bfloat16, "b": jnp.float32, "frozen": jnp.bfloat16}
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}


def test_remat_changes_no_number_and_keeps_less():
    from jaxgen.nn.conv import Dense

    dense = Dense(64)

    def loss(params, context, batch, key):
        x = jnp.broadcast_to(batch["image"][:, None], (4, 64))
        for _ in range(4):
            x = jnp.sin(jnp.tanh(jnp.sin(jnp.asarray(dense.apply({"params": params["a"]}, x)))))
        return x.mean(), Aux()

    task = Task(
        init=lambda key, spec: ({"a": dense.init(key, jnp.ones((4, 64)))["params"]}, {}),
        example={"image": ArraySpec("label", (), FLOAT)},
        learners={"a": Learner(("a",), optax.sgd(RATE))},
        phases=(Phase("a", "a", loss),),
    )
    less = task_transforms.tune(task, Optim(), Compute(remat=True), 1)
    states = [make_step(t)(start(t), {"image": X}, {})[0] for t in (task, less)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), states[0].params, states[1].params)

    def kept(task):

        state = start(task)
        _, context = averaged(state, {})
        _, vjp = jax.vjp(lambda p: task.phases[0].loss(p, context, {"image": X}, state.key)[0], state.params)
        return sum(x.size for x in jax.tree.leaves(vjp))

    assert kept(less) < 0.7 * kept(task)


def test_tune_adds_no_capability():
    task = task_transforms.tune(toy(), Optim(), Compute(precision="bf16"), 1)
    assert task.capabilities == () and [phase.name for phase in task.phases] == ["a", "b"]
