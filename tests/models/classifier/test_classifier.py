"""Classifiers: details of their papers, the loss, the metric, and published weights on real data."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix, top_k_accuracy_score

from jaxgen.core import types
from jaxgen.core.config import Data, Eval, Mesh, Run
from jaxgen.core.errors import InputError
from jaxgen.core.spec import image_of, spec_of
from jaxgen.core.step import init_state
from jaxgen.core.task import Task
from jaxgen.core.types import TrainState, averaged
from jaxgen.data import batches, check_source, open_source
from jaxgen.data.arrays import Arrays
from jaxgen.data.idx import read as read_idx
from jaxgen.evaluation.held_out import HeldOut
from jaxgen.interop.convert import import_weights, placed
from jaxgen.interop.entries import to_ours
from jaxgen.interop.read import read
from jaxgen.interop.weight_names import rule_of
from jaxgen.metrics.accuracy import ACCURACY
from jaxgen.models.classifier import efficientnet_lite, lenet
from jaxgen.models.classifier.alexnet import AlexNet, local_response_norm
from jaxgen.models.classifier.cifar_resnet import CifarResNet
from jaxgen.models.classifier.lenet import LeNet5
from jaxgen.models.classifier.resnet import ResNet
from jaxgen.models.classifier.vgg import VGG
from jaxgen.pretrained.feature_extractors import LENET
from jaxgen.runs import sharding
from jaxgen.runs.load import open_run
from jaxgen.tasks.classification import Recipe, cross_entropy
from tests.helpers.capabilities import classify

# Table I of LeCun et al. 1998: a row for each map of S2, a column for each map of C3.
TABLE_I = """
X...XXX..XXXX.XX
XX...XXX..XXXX.X
XXX...XXX..X.XXX
.XXX..XXXX..X.XX
..XXX..XXXX.XX.X
...XXX..XXXX.XXX
"""


def first_state(task: Task) -> Any:
    return jax.jit(lambda: init_state(task, jax.random.key(0), spec_of(task, 1)))()


def classified(model: Any, state: TrainState, x: np.ndarray) -> dict[str, np.ndarray]:
    task = model.task(1)
    return jax.device_get(jax.jit(lambda state, x: classify(task)(*averaged(state, {}), x))(state, x))


def refused(call, *parts: str):
    """Assert that the call raises InputError with a sentence that contains these parts."""
    with pytest.raises(InputError) as error:
        call()
    text = str(error.value)
    assert text.endswith(".") and text[0].isupper() | text.startswith("model."), text
    for part in parts:
        assert part in text, text


# ---------------------------------------------------------------- LeNet-5


def connected() -> np.ndarray:
    return np.array([[x == "X" for x in row] for row in TABLE_I.split()])  # [maps of S2, maps of C3]


def test_c3_reads_the_maps_of_table_1():
    wanted = connected()
    assert wanted.shape == (6, 16) and wanted.sum() == 60
    assert wanted.sum(0).tolist() == [3] * 6 + [4] * 9 + [6], "three, four or six maps, as in the paper"
    x = np.eye(6, dtype=np.float32)[:, None, None] * np.ones((1, 5, 5, 1), np.float32)  # example i: only map i is not 0
    y, variables = lenet.TableConv().init_with_output(jax.random.key(0), jnp.asarray(x))
    assert np.array_equal(np.asarray(y)[:, 0, 0] != 0, wanted)
    assert jax.tree.map(jnp.shape, variables)["params"] == {"kernel": (5, 5, 60), "bias": (16,)}


def test_lenet_1998_has_the_numbers_of_parameters_of_the_paper():
    params = jax.eval_shape(lambda: LeNet5(variant="1998").task(1).init(jax.random.key(0), {}))[0]["classifier"]
    counts = {name: sum(x.size for x in jax.tree.leaves(layer)) for name, layer in params.items()}
    assert counts == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48_120, "f6": 10_164}
    assert sum(counts.values()) == 60_000


def test_initial_weights_are_within_2_4_over_the_fan_in():
    params = first_state(LeNet5(variant="1998").task(1)).params["classifier"]
    fan_in = {"c1": 25, "c5": 400, "f6": 120}
    for name, n in fan_in.items():
        largest = np.abs(params[name]["kernel"]).max()
        assert 0.9 * 2.4 / n < largest <= 2.4 / n, name
    inputs = np.repeat(connected().sum(0), connected().sum(0))  # for each kernel, the inputs of its map
    largest = np.abs(params["c3"]["kernel"]).max((0, 1)) * 25 * inputs
    assert 0.9 * 2.4 < largest.max() <= 2.4 * (1 + 1e-6) and largest.min() > 1


def test_kernels_are_initialised_as_in_the_authors_code():
    """akamaster's kaiming_normal_ uses the fan-in; TensorFlow's depthwise kernels [k k c 1] have one output."""
    params = first_state(CifarResNet(8).task(1)).params["classifier"]
    for name, n in (("linear", 64), ("conv1", 27)):
        assert np.std(params[name]["kernel"]) == pytest.approx((2 / n) ** 0.5, rel=0.1), name
    depthwise = efficientnet_lite.conv(256, 5, 1, "depthwise", groups=256)
    kernel: Any = depthwise.init(jax.random.key(0), jnp.zeros((1, 5, 5, 256)))["params"]["kernel"]
    assert np.std(kernel) == pytest.approx((2 / 25) ** 0.5, rel=0.1)


@pytest.mark.parametrize("classes", [2, 10, 26])
def test_target_vectors_are_distinct_signs(classes):
    targets = lenet.rbf_targets(classes)
    assert targets.shape == (classes, 84) and targets.dtype == np.float32 and set(np.unique(targets)) == {-1, 1}
    assert len(np.unique(targets, axis=0)) == classes


def test_the_target_vectors_of_digits_are_drawings_of_them():
    one = lenet.rbf_targets(10)[1].reshape(12, 7)
    rows = ["".join("X" if x > 0 else "." for x in row) for row in one]
    assert rows[1:4] == ["...X...", "..XX...", ".X.X..."] and rows[10] == ".XXXXX."
    eight = lenet.rbf_targets(10)[8].reshape(12, 7)
    assert np.array_equal(eight, eight[:, ::-1]) and (eight[[0, 11]] == -1).all()


def test_squash_is_one_at_one():
    x = jnp.asarray([-1.0, 0.0, 1.0, 100.0])
    np.testing.assert_allclose(lenet.squash(x), [-1, 0, 1, 1.7159], atol=1e-5)


def test_rbf_loss_is_equation_9():
    distance = np.random.default_rng(0).uniform(0, 30, (7, 10))
    label = np.arange(7) % 10
    right = distance[np.arange(7), label]
    wanted = right + np.log(np.exp(-10.0) + np.exp(-distance).sum(1))  # j = 10
    found = lenet.rbf_loss(jnp.asarray(-distance, jnp.float32), jnp.asarray(label))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_logits_of_1998_are_minus_the_distances_to_the_target_vectors():
    model = LeNet5(variant="1998")
    x = np.random.default_rng(0).uniform(-1, 1, (3, 28, 28, 1)).astype(np.float32)
    out = classified(model, first_state(model.task(1)), x)
    distance = ((out["f6"].astype(np.float64)[:, None] - lenet.rbf_targets(10)) ** 2).sum(-1)
    np.testing.assert_allclose(out["logits"], -distance, rtol=1e-5)
    assert np.abs(out["f6"]).max() < 1.7159


@pytest.mark.parametrize("mean, std", [((0.1307,), (0.3081,)), ((0.2, 0.4, 0.7), (0.5, 0.3, 0.2))])
def test_lenet_pads_with_black(mean, std):
    channels = len(mean)
    small, whole = (LeNet5((*size, channels), mean=mean, std=std) for size in ((28, 25), (32, 32)))
    state = first_state(small.task(1))
    x = np.random.default_rng(0).uniform(-1, 1, (2, 28, 25, channels)).astype(np.float32)
    padded = np.pad(x, ((0, 0), (2, 2), (3, 4), (0, 0)), constant_values=-1)
    found, wanted = classified(small, state, x), classified(whole, state, padded)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, atol=1e-5, err_msg=name)


def test_lenet_pads_no_image_that_is_too_large():
    with pytest.raises(InputError, match=r"model\.fit=pad takes images up to 32x32, not 33x8"):
        lenet.resize_or_pad(jnp.zeros((1, 33, 8, 1)), "pad", (0.0,))


def test_local_response_norm_is_section_3_3():
    x = np.random.default_rng(0).normal(size=(2, 3, 3, 9)).astype(np.float32) * 100
    wanted = np.empty_like(x)
    for i in range(9):
        total = (x[..., max(0, i - 2) : i + 3].astype(np.float64) ** 2).sum(-1)
        wanted[..., i] = x[..., i] / (2 + 1e-4 * total) ** 0.75
    np.testing.assert_allclose(local_response_norm(jnp.asarray(x)), wanted, rtol=1e-5)


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
def test_cross_entropy_with_smoothing(smoothing):
    rng = np.random.default_rng(0)
    logits, label = rng.normal(size=(6, 5)) * 3, rng.integers(0, 5, 6)
    target = (1 - smoothing) * np.eye(5)[label] + smoothing / 5
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    loss = lambda x: cross_entropy(x, jnp.asarray(label), smoothing)  # noqa: E731
    np.testing.assert_allclose(loss(jnp.asarray(logits, jnp.float32)), -(target * log_p).sum(1), rtol=1e-5)
    if smoothing:
        best = jnp.asarray(np.log(target), jnp.float32)
        np.testing.assert_allclose(jax.grad(lambda x: loss(x).sum())(best), 0, atol=1e-6)
        assert (loss(best + rng.normal(size=(6, 5)).astype(np.float32)) > loss(best)).all()


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_weight_decay_excludes_biases_and_norms(optimizer):
    recipe = Recipe(optimizer, 0.5, momentum=0.0, weight_decay=0.01)
    params = {"classifier": {"conv": {"kernel": jnp.full((3, 3, 2, 2), 2.0), "bias": jnp.ones(2)}}}
    params["classifier"] |= {"bn": {"scale": jnp.ones(2), "bias": jnp.ones(2)}, "fc": {"kernel": jnp.ones((2, 2))}}
    rule = recipe.build()
    updates: Any = rule.update(jax.tree.map(jnp.zeros_like, params), rule.init(params), params)[0]
    moved: Any = jax.tree.map(np.asarray, updates["classifier"])
    # Adam normalises the decay, as any other gradient.
    expected = -0.5 if optimizer == "adam" else -0.5 * 0.01 * 2
    np.testing.assert_allclose(moved["conv"]["kernel"], expected, rtol=1e-5)
    assert (moved["fc"]["kernel"] < 0).all()
    assert not any(moved[layer][name].any() for layer, name in (("conv", "bias"), ("bn", "scale"), ("bn", "bias")))


def test_sgd_uses_nesterov_momentum():
    rule = Recipe("sgd", 0.1, 0.9, 0.0).build()
    params: Any = {"w": jnp.ones((1, 1))}
    state, velocity = rule.init(params), 0.0
    for gradient in (1.0, -3.0, 0.5):
        updates: Any
        updates, state = rule.update({"w": jnp.full((1, 1), gradient)}, state, params)
        velocity = 0.9 * velocity + gradient
        np.testing.assert_allclose(updates["w"], -0.1 * (gradient + 0.9 * velocity), rtol=1e-6)
        params = optax.apply_updates(params, updates)


FEATURES = {  # the features named in the docstrings, in addition to the logits
    LeNet5(): ["c1", "c3", "c5", "f6"],
    LeNet5(variant="1998"): ["c1", "c3", "c5", "f6"],
    AlexNet(): [f"relu{i}" for i in range(1, 8)],
    AlexNet((227, 227, 3), variant="2012"): [f"relu{i}" for i in range(1, 8)],
    VGG(11): ["conv1_1", "conv2_1", "conv3_1", "conv3_2", "conv4_1", "conv4_2", "conv5_1", "conv5_2", "fc6", "fc7"],
    VGG(19, True): [f"conv{s}_{i}" for s, n in enumerate((2, 2, 4, 4, 4), 1) for i in range(1, n + 1)] + ["fc6", "fc7"],
    ResNet(): ["stem", "layer1", "layer2", "layer3", "layer4", "pool"],
    CifarResNet(): ["stem", "layer1", "layer2", "layer3", "pool"],
}


@pytest.mark.parametrize("model", FEATURES, ids=lambda model: f"{type(model).__name__}")
def test_classify_returns_logits_and_the_named_features(model):
    task = model.task(1)
    image = image_of(task)
    state = jax.eval_shape(lambda: init_state(task, jax.random.key(0), spec_of(task, 2)))
    x = jax.ShapeDtypeStruct((2, *image), jnp.float32)
    out = jax.eval_shape(lambda state, x: classify(task)(*averaged(state, {}), x), state, x)
    assert sorted(out) == sorted([*FEATURES[model], "logits"])
    assert out["logits"].shape == (2, model.classes) and out["logits"].dtype == jnp.float32
    sides = {name: x.shape[1] for name, x in out.items() if x.ndim == 4}
    if isinstance(model, AlexNet):  # the same in both papers
        assert sides == {"relu1": 55, "relu2": 27, "relu3": 13, "relu4": 13, "relu5": 13}
    if isinstance(model, LeNet5):
        assert sides == {"c1": 28, "c3": 10} and out["c5"].shape == (2, 120) and out["f6"].shape == (2, 84)


@pytest.mark.parametrize("variant, least", [("2012", 67), ("2014", 63)])
def test_the_smallest_image_of_each_alexnet(variant, least):
    model = AlexNet((least, least, 3), 10, variant, 1 / 16)
    params = jax.eval_shape(lambda: model.task(1).init(jax.random.key(0), {}))[0]
    assert params["classifier"]
    smaller = dataclasses.replace(model, image=(least, least - 1, 3))
    refused(lambda: smaller.task(1), f"AlexNet needs images of at least {least}x{least}, not {least}x{least - 1}.")


def test_invalid_settings_are_refused():
    refused(lambda: VGG(image=(31, 40, 3)).task(1), "VGG needs images of at least 32x32, not 31x40.")
    refused(lambda: LeNet5((33, 28, 1)).task(1), "can't pad 33x28 to 32x32: write --model.fit bilinear")
    assert LeNet5((33, 28, 1), fit="bilinear").task(1)
    for model in (ResNet(mean=(0.5, 0.5)), CifarResNet(mean=(0.5, 0.5)), LeNet5((28, 28, 3), mean=(0.5, 0.5))):
        refused(lambda model=model: model.task(1), "model.mean has 2 numbers for 3 channels: give one, or one each.")
    refused(lambda: LeNet5(std=(0.3, 0.3)).task(1), "model.std has 2 numbers for 1 channels")
    refused(lambda: LeNet5(std=(0.0,)).task(1), "model.std must be positive")
    refused(lambda: ResNet(std=(0.2, -0.2, 0.2)).task(1), "model.std must be positive, not (0.2, -0.2, 0.2).")
    for smoothing in (1.0, -0.1, float("nan")):
        recipe = Recipe(smoothing=smoothing)
        refused(lambda recipe=recipe: ResNet(recipe=recipe).task(1), "from 0 to below 1", str(smoothing))
    refused(lambda: ResNet(classes=1).task(1), "model.classes must be at least 2, not 1.")
    refused(lambda: ResNet(image=(0, 32, 3)).task(1), "model.image must be at least 1, not 0.")


def test_data_that_does_not_fit_is_refused(tmp_path):
    x = np.zeros((12, 28, 28), np.uint8)
    np.savez(tmp_path / "none.npz", image=x)
    np.savez(tmp_path / "many.npz", image=x, label=np.arange(12))
    none, many = (open_source(Data(f"npz:{tmp_path / name}.npz")) for name in ("none", "many"))
    refused(lambda: check_source(none, Data(), LeNet5().task(1).example), "needs 'label'", "only ['image']")
    refused(
        lambda: check_source(many, Data(), LeNet5().task(1).example),
        "12 classes, the model 10: write --model.classes 12.",
    )
    check_source(many, Data(), LeNet5(classes=12).task(1).example)


# ---------------------------------------------------------------- accuracy


def accuracy_of(logits: np.ndarray, label: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Return top-1 and top-5 accuracy and the confusion matrix, by sorting; of a tie the lower class wins."""
    order = np.argsort(-logits, axis=1, kind="stable")
    confusion = np.zeros((logits.shape[1],) * 2, int)
    np.add.at(confusion, (label, order[:, 0]), 1)
    return (order[:, 0] == label).mean(), (order[:, :5] == label[:, None]).any(1).mean(), confusion


def random_logits(n: int, classes: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(n)
    logits = rng.normal(size=(n, classes)).astype(np.float32)
    return np.round(logits) if ties else logits, rng.integers(0, classes, n).astype(np.int32)


def agrees(state: Any, logits: np.ndarray, label: np.ndarray):
    top1, top5, confusion = accuracy_of(logits, label)
    found = ACCURACY.result(jax.device_get(state))
    assert found == {"top1": pytest.approx(top1), "top5": pytest.approx(top5)}
    assert np.array_equal(state["confusion"], confusion)


@pytest.mark.parametrize("classes", [3, 10])
@pytest.mark.parametrize("ties", [False, True])
def test_accuracy_of_random_logits(classes, ties):
    logits, label = random_logits(300, classes, ties)
    state = ACCURACY.update(ACCURACY.empty(classes), *map(jnp.asarray, (logits, label)), jnp.ones(300, bool))
    agrees(state, logits, label)
    if not ties:  # of a tie scikit-learn takes the higher class
        assert np.array_equal(state["confusion"], confusion_matrix(label, logits.argmax(1)))
        if classes > 5:
            expected = top_k_accuracy_score(label, logits, k=5)
            assert ACCURACY.result(state)["top5"] == pytest.approx(expected)


def test_accuracy_merged_from_parts_with_masked_rows():
    logits, label = random_logits(50, 7, True)
    update, states = jax.jit(ACCURACY.update), []
    for part in (slice(0, 20), slice(20, 37), slice(37, 50)):
        n = len(label[part])
        x, y = np.full((20, 7), np.nan, np.float32), np.full(20, 3, np.int32)
        x[:n], y[:n] = logits[part], label[part]
        states.append(update(ACCURACY.empty(7), x, y, np.arange(20) < n))
    agrees(ACCURACY.merge(ACCURACY.merge(*states[:2]), states[2]), logits, label)


def test_nan_logits_count_as_wrong():
    logits, label = jnp.full((4, 10), jnp.nan), jnp.arange(4)
    state = ACCURACY.update(ACCURACY.empty(10), logits, label + 1, jnp.ones(4, bool))
    assert ACCURACY.result(jax.device_get(state)) == {"top1": 0, "top5": 0}


def test_accuracy_of_a_sharded_batch():
    mesh = sharding.make_mesh(Mesh(data=4, fsdp=2))
    put, update, state = sharding.put_batch(mesh), jax.jit(ACCURACY.update), ACCURACY.empty(10)
    logits, label = random_logits(44, 10, True)
    for first in (0, 16, 32):
        rows = np.arange(first, first + 16)
        valid = rows < 44
        batch = put({"x": logits[rows % 44], "label": label[rows % 44], "valid": valid})
        assert len(batch["x"].sharding.device_set) == 8
        state = update(state, batch["x"], batch["label"], batch["valid"])
    agrees(state, logits, label)


def test_held_out_accuracy_on_eight_devices_counts_every_example_once():
    """297 digits in batches of 64: the last batch is smaller."""
    model = LeNet5()
    mesh, task = sharding.make_mesh(Mesh()), model.task(1)
    run = Run(model, batch=64, eval=Eval(batches=0, metrics=("accuracy",)))
    state = first_state(task)
    held_out = HeldOut(run, task, mesh, ["accuracy"])
    found = held_out(jax.device_put(state, sharding.replicated(mesh)), {})
    whole = next(batches(open_source(Data(split="test")), Data(), (28, 28, 1), batch=297, seed=0, train=False))
    logits = classified(model, state, whole["image"])["logits"]
    top1, top5, confusion = accuracy_of(logits, whole["label"])
    assert found == {"top1": pytest.approx(top1), "top5": pytest.approx(top5)}
    assert np.array_equal(held_out.confusion, confusion) and confusion.sum() == 297  # pyright: ignore


# ---------------------------------------------------------------- published weights on real data


def right_on(run: Run, state: TrainState, *sources: Any) -> list[int]:
    """Return the number of correctly classified examples of each source, with one compilation."""
    task, found = run.model.task(1), []

    @jax.jit
    def update(total, state, image, label):
        logits = classify(task)(*averaged(state, {}), image)["logits"]
        return ACCURACY.update(total, logits, label, label >= 0)

    for source in sources:
        total = ACCURACY.empty(task.classes)
        for batch in batches(source, run.data, image_of(task), batch=500, seed=0, train=False):
            total = update(total, state, batch["image"], batch["label"])
        assert int(total["confusion"].sum()) == len(source)
        found.append(int(np.trace(total["confusion"])))
    return found


def with_weights(run: Run, file: Path) -> Any:
    """Return the run's initial state with the weights of a file, by the mapping of names."""
    task = run.model.task(1)
    state = first_state(task)
    like = types.variables("classifier", state.params, state.extra)
    return placed(state, "classifier", to_ours(rule_of(run.preset), run.model, "classifier", like, read(file)))


@pytest.mark.slow
def test_the_imported_mnist_lenet_is_right_on_9908_of_10000_digits(real_data, tmp_path):
    run = Run(LeNet5(fit="bilinear", mean=(0.0,), std=(1.0,)), "lenet5", out=str(tmp_path / "run"))
    file = real_data / "weights" / "mnist_lenet_epoch=12_test_acc=0.991.pth"
    folder, net, count, _ = import_weights(file, run, None)
    assert (net, count) == ("classifier", 61_706)
    state = open_run(folder, Mesh(data=1)).state
    digits = open_source(Data("tfds:mnist", dir=str(real_data / "tfds"), split="test"))
    assert right_on(run, state, digits) == [9908]


@pytest.mark.slow
def test_the_published_resnet20_is_as_right_as_in_torch(real_data):
    """1,997 of 2,000 lossless training images, and 81.35 % of 2,000 lossy test images."""
    folder = real_data / "cifar10"
    names = [folder / f"cifar10_batch_{i}" for i in (0, 1)]
    rows = np.concatenate([np.asarray(Image.open(f"{name}.png")) for name in names])  # [2000 1024 3]
    label = np.concatenate([read_idx(Path(f"{name}_labels-idx1-ubyte"), 1) for name in names])
    lossless = Arrays(rows.reshape(2000, 32, 32, 3), label.astype(np.int32), tuple("0123456789"))
    lossy = open_source(Data(f"folder:{folder / 'cifar10_jpeg_test_2000.zip'}", split="test"))
    run = Run(CifarResNet(), "resnet20")
    state = with_weights(run, real_data / "weights" / "resnet20-12fca82f.th")
    assert right_on(run, state, lossless, lossy) == [1997, 1627]


@pytest.mark.slow
def test_the_shipped_lenet_is_right_on_9954_of_10000_digits(real_data):
    run = Run(LeNet5((32, 32, 1)), "lenet5")
    digits = open_source(Data(f"idx:{real_data / 'mnist'}", split="test"))
    assert right_on(run, with_weights(run, LENET), digits) == [9954]
