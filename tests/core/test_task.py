"""The contract: specs of arrays, the checked names of tasks, and capabilities that are wrapped in one place."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxgen
from jaxgen.core import capabilities
from jaxgen.core.capabilities import (
    Autoregressive,
    Capability,
    Classifier,
    Codec,
    Degradation,
    Denoiser,
    Density,
    Latent,
    Transform,
)
from jaxgen.core.errors import InputError
from jaxgen.core.spec import (
    KINDS,
    ArraySpec,
    any_image_spec,
    batch_of,
    image_of,
    image_spec,
    label_spec,
    labelled,
)
from jaxgen.core.task import Task
from jaxgen.core.types import Aux, Context, Ema, Learner, Phase
from jaxgen.runs.task_transforms import map_nets

NOTHING: Any = lambda *_, **__: {}  # noqa: E731
IMAGE = labelled((4, 6, 3), 0)
GENERATES = Transform(NOTHING, {}, IMAGE)
KIND_TYPES = (Transform, Codec, Latent, Denoiser, Autoregressive, Density, Classifier, Degradation)
# Functions that read no nets, or, of `factors`, the weights as they are, whatever the precision of the nets.
NO_NETS = {"Latent.draw", "Latent.factors", "Degradation.degrade"}


def toy(**changes: Any) -> Task:
    """A task of two nets and one phase each."""
    loss = lambda params, context, batch, key: (jnp.zeros(()), Aux())  # noqa: E731
    fields: dict[str, Any] = {
        "init": lambda key, spec: ({"a": {}, "b": {}}, {}),
        "example": IMAGE,
        "learners": {"a": Learner(("a",), optax.sgd(1.0)), "b": Learner(("b",), optax.sgd(1.0))},
        "phases": (Phase("a", "a", loss), Phase("b", "b", loss)),
    }
    return Task(**(fields | changes))


# ---- specs


def test_a_spec_has_a_known_kind():
    for kind in KINDS:
        assert ArraySpec(kind, ()).kind == kind  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"kind is one of image, video, .*, camera, not 'scalar'"):
        ArraySpec("scalar", (4, 4, 3))  # pyright: ignore[reportArgumentType]


def test_the_sizes_of_a_spec():
    shape: Any = [4, 6, 3]
    spec = image_spec(shape)
    assert spec.shape == (4, 6, 3) and hash(spec.shape), "a shape is a tuple, whatever it was given as"
    assert spec.sizes(-1) == (3,) and spec.fixed == (4, 6)
    some = any_image_spec((1, 3), multiple=8)
    assert some.sizes(-1) == (1, 3) and some.sizes(0) == () and some.fixed == () and some.multiple == 8
    label = label_spec(names=("cat", "dog"))
    assert label.count == 2 and label.shape == () and label.fixed == () and label.dtype == np.int32
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.kind = "video"  # pyright: ignore[reportAttributeAccessIssue]


def test_batches_and_images_of_a_task():
    task = toy(example=labelled((4, 6, 3), 5))
    assert task.classes == 5 and toy().classes == 0 and image_of(task) == (4, 6, 3)
    batch = batch_of(task.example, 7)
    assert batch["image"].shape == (7, 4, 6, 3) and batch["image"].dtype == jnp.float32
    assert batch["label"].shape == (7,) and batch["label"].dtype == jnp.int32
    sound = toy(example={"audio": ArraySpec("audio", (400, 1), rate=8000)})
    with pytest.raises(InputError, match=r"works on images, and the model's examples are audio \(audio\)"):
        image_of(sound)


# ---- the names of a task


def phase(task: Task, **changes: Any) -> tuple[Phase, ...]:
    return (dataclasses.replace(task.phases[0], **changes), *task.phases[1:])


A = toy()
WRONG = {
    "at least one phase": {"phases": ()},
    "example's 'image' must be an ArraySpec": {"example": {"image": jax.ShapeDtypeStruct((4, 6, 3), jnp.float32)}},
    "example's 'image' must have a shape of numbers": {"example": {"image": any_image_spec((3,))}},
    "Learner 'a' has no nets": {"learners": {**A.learners, "a": Learner((), optax.sgd(1.0))}},
    "Learner 'c' has no phase": {"learners": {**A.learners, "c": Learner(("c",), optax.sgd(1.0))}},
    "Two phases are named 'b'": {"phases": phase(A, name="b")},
    "'a' names learner 'z', not one of ['a', 'b']": {"phases": (*A.phases, Phase("a", "z", A.phases[0].loss))[1:]},
    "'a' has repeat=0; it must be at least 1": {"phases": phase(A, repeat=0)},
    "'a' has every=0; it must be at least 1": {"phases": phase(A, every=0)},
    "An EMA names net 'z', not one of ['a', 'b']": {"ema": (Ema("z", lambda step: 0.9),)},
    "Net 'b' is both frozen and trained": {"frozen": {"b": dict}},
    "dict is no capability": {"capabilities": ({},)},
    "Two capabilities are a Transform": {"capabilities": (GENERATES, GENERATES)},
    "The transform's 'image' is of kind label, the example's of kind image": {
        "capabilities": (Transform(NOTHING, {"image": label_spec(2)}, IMAGE),)
    },
    "A transform needs an output": {"capabilities": (Transform(NOTHING, {}, {}),)},
    "subject 'source' is no input": {"capabilities": (Transform(NOTHING, {}, IMAGE, "source"),)},
    "The codec needs 'label', not one of the example's ['image']": {
        "capabilities": (Codec(NOTHING, NOTHING, ("label",)),)
    },
}


@pytest.mark.parametrize("words", WRONG)
def test_a_task_says_which_name_is_wrong(words):
    changes = WRONG[words]
    if words.startswith("'a' names learner"):  # learner a has a phase, too
        changes = {"phases": (*A.phases, Phase("c", "z", A.phases[0].loss))}
        words = words.replace("'a' names", "'c' names")
    with pytest.raises(ValueError, match=re.escape(words)):
        toy(**changes)


# ---- capabilities


def test_a_capability_is_found_by_its_type_or_a_sentence_says_what_is_missing():
    task = toy(capabilities=(GENERATES,))
    assert task.find(Transform) is GENERATES and task.get(Transform) is GENERATES and task.find(Codec) is None
    for kind in KIND_TYPES[1:]:
        with pytest.raises(InputError) as caught:
            task.get(kind)
        sentence = str(caught.value)
        assert sentence == kind.lack != Capability.lack and sentence.endswith(".") and sentence[0].isupper()
    with pytest.raises(InputError, match=r"^dcgan restores no images$"):
        task.get(Degradation, "dcgan restores no images")


def test_having_replaces_and_lacking_removes():
    codec, density = Codec(NOTHING), Density(NOTHING)
    task = toy(capabilities=(GENERATES, codec))
    other = Transform(NOTHING, {}, IMAGE, stochastic=False)
    more = task.having(other, density)
    assert more.get(Transform) is other and more.get(Codec) is codec and more.get(Density) is density
    assert len(more.capabilities) == 3 and task.get(Transform) is GENERATES, "the task itself stays as it was"
    less = more.lacking(Transform)
    assert less.find(Transform) is None and less.get(Codec) is codec and less.lacking(Latent) == less


def test_all_capability_types_are_known_here():
    found = {x for x in vars(capabilities).values() if isinstance(x, type) and issubclass(x, Capability)}
    assert found - {Capability} == set(KIND_TYPES)


@pytest.mark.parametrize("kind", KIND_TYPES)
def test_every_net_function_of_a_capability_is_wrapped(kind):
    """Fields that hold functions are found by their types, so that none can be left out."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    functions = {name for name, field in fields.items() if "Callable" in str(field.type)}
    nets = {name for name in functions if f"{kind.__name__}.{name}" not in NO_NETS}
    assert nets == {name for name, field in fields.items() if field.metadata.get("net")}
    values = {name: (lambda *_, name=name, **__: name) if name in functions else name for name in fields}
    capability: Any = kind(**values)
    wrapped = capability.wrapped(lambda function: lambda *given: ("wrapped", function(*given)))
    for name in fields:
        value = getattr(wrapped, name)
        if name in nets:
            assert value({}, None) == ("wrapped", name)
        else:
            assert value is values[name]
    absent = {name for name in nets if fields[name].default is None}
    bare = kind(**{name: value for name, value in values.items() if name not in absent})
    wrapped = bare.wrapped(lambda function: lambda *given: function(*given))
    assert all(getattr(wrapped, name) is None for name in absent), "what lacks stays lacking"


def test_mapped_nets_reach_every_capability_with_all_arguments():
    """Parameters, averages and frozen nets are mapped; other arguments, by place or by name, are not."""

    def seen(params, context, *rest, **more) -> Any:
        return params, context.ema, context.frozen, context.extra, rest, more

    made = Transform(seen, {}, IMAGE), Codec(seen, seen), Density(seen)
    task = map_nets(toy(capabilities=made), lambda tree: jax.tree.map(lambda x: -x, tree))
    context = Context({"extra": 1}, {"ema": 2}, {"frozen": 3}, 0)  # pyright: ignore[reportArgumentType]
    wanted = {"a": -4}, {"ema": -2}, {"frozen": -3}, {"extra": 1}, ("x",), {"scale": 5}
    codec = task.get(Codec)
    for function in (task.get(Transform).apply, codec.encode, codec.decode, task.get(Density).log_prob):
        assert function is not None and function({"a": 4}, context, "x", scale=5) == wanted


def test_the_inputs_of_a_transform():
    inputs = {"source": any_image_spec((3,)), "style": any_image_spec((3,)), "to": label_spec(2, optional=True)}
    transform = Transform(NOTHING, inputs, {"image": IMAGE["image"], "mask": image_spec((4, 6, 1))}, "source")
    assert transform.required == ("source", "style") and transform.conditions == ("style",)
    assert transform.main == "image" and transform.source is inputs["source"]
    assert GENERATES.required == GENERATES.conditions == () and GENERATES.main == "image"


def test_the_conditioning_that_stands_for_none():
    denoiser = Denoiser(NOTHING, "ve", np.ones(2), (4, 4, 1), {"label": 10, "text": 3})
    none = denoiser.unconditional(2)
    assert {name: x.tolist() for name, x in none.items()} == {"label": [10, 10], "text": [3, 3]}
    assert dataclasses.replace(denoiser, null={}).unconditional(2) == {}


def test_nothing_below_the_models_reads_their_image():
    """Code for examples of any kind reads a task's specs; only a message may name --model.image."""
    rooms = ("core", "runs", "data", "training", "inference", "evaluation", "commands")
    files = [path for room in rooms for path in (Path(jaxgen.__file__).parent / room).rglob("*.py")]
    found = [
        f"{path.name}:{number}"
        for path in files
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"(?<!--)\bmodel\.image\b", line)
    ]
    assert len(files) > 50 and not found
