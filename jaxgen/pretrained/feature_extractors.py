"""The networks whose features the distribution metrics compare; a metric is named after its extractor (fid_lenet).

inception           the Inception-v3 of 2015-12-05, FID's own: 2,048 features, 1,008 logits; weights from a file or the
                    published address, checked by their digest
lenet               a LeNet-5 that `python -m train.classifier` trained on MNIST, shipped with the package: 84 features,
                    for digits and what looks like them
efficientnet_lite0  ImageNet features of the extra jaxgen[perceptual]: 1,280, for photographs, no download at run time
random              a ResNet-18 with fixed random weights: 256 features, for anything (Naeem et al. 2020, section 3.3)
pixels              the pixels themselves
action_moving_shapes  an action net (preset action-net), trained on `moving-shapes` and shipped with the package: 64
                    features of whole clips, for moving shapes and what looks like them
a run's folder      any classifier of `python -m train.classifier`, or an action net: the features before its logits
"""

import hashlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import zoo
from jaxgen.core import paths
from jaxgen.core.cache import cache_folder
from jaxgen.core.capabilities import Classifier
from jaxgen.core.errors import InputError, choose
from jaxgen.core.types import Array, Context, PyTree
from jaxgen.interop.entries import to_ours
from jaxgen.interop.read import read
from jaxgen.interop.weight_names import rule_of
from jaxgen.nn.resample import resize_clean, resize_tf1
from jaxgen.pretrained.fetching import File, difference, fetched

NAMES = ("inception", "lenet", "efficientnet_lite0", "random", "pixels")  # of images
OF_CLIPS = ("action_moving_shapes",)
RESIZERS = {"clean": resize_clean, "legacy": resize_tf1}
WEIGHTS = Path(__file__).parent / "weights"
LENET, ACTION = WEIGHTS / "lenet_mnist.safetensors", WEIGHTS / "action_moving_shapes.safetensors"
INCEPTION = File(
    "weights-inception-2015-12-05-6726825d.pth",
    "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    95_628_359,
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
)
ADVICE = (
    ", or name it with --inception or JAXGEN_INCEPTION, or use an extractor that needs no download: lenet (digits), "
    "efficientnet_lite0 (photographs), random"
)


class Extractor(NamedTuple):
    """A network that gives features.

    apply: (variables, images f32[b h w c] or clips f32[b t h w c] in [-1, 1] of `image`'s size) ->
           {"features": f32[b d]} and, where it has classes, {"logits": f32[b k]}
    image: height, width, channels of what it sees; 0: as they come
    digest: the first 12 figures of the SHA-256 of its weights; it is part of a number's protocol
    kind:  image, or video: it sees whole clips
    """

    name: str
    apply: Callable[[PyTree, Array], dict[str, Array]]
    variables: PyTree
    image: tuple[int, int, int]
    digest: str
    kind: str = "image"


def extractor(name: str, inception: Path | None = None) -> Extractor:
    """Return the extractor of a name, or of a run's folder. Raises InputError for what can't be had."""
    known = (*NAMES, *OF_CLIPS)
    if name not in known and paths.path(name).is_dir():
        return from_run(name)
    choose(name, known, "extractor (or folder of a classifier's run)")
    if name == "pixels":
        return Extractor(name, lambda _, x: {"features": x.reshape(len(x), -1)}, {}, (0, 0, 0), "none")
    if name == "random":
        return random()
    if name == "lenet":
        run = zoo.load("lenet5").run.model.__class__(image=(32, 32, 1))
        return from_file("lenet", LENET, "lenet5", run, feature="f6")
    if name in OF_CLIPS:
        return from_file(name, ACTION, "action-net", zoo.load("action-net").run.model, feature="features")
    if name == "efficientnet_lite0":
        from jaxgen.pretrained.perceptual_distances import efficientnet_lite0_file

        path = efficientnet_lite0_file()
        return from_file(name, path, "efficientnet-lite0", zoo.load("efficientnet-lite0").run.model, feature="pool")
    path = inception_file(inception)
    return from_file(name, path, "inception-v3-fid", zoo.load("inception-v3-fid").run.model, feature="2048")


def for_images(image: tuple[int, int, int]) -> str:
    """Return the extractor of images of this shape by default: LeNet's for small grey ones, else one for photographs.

    What was trained on MNIST says nothing of colour images; it is used for them only where it is asked for by name.
    """
    return "lenet" if image[2] == 1 and max(image[:2]) <= 64 else "efficientnet_lite0"


def from_file(name: str, path: Path, preset: str, model: Any, feature: str) -> Extractor:
    """Return an extractor with the weights of a file, as a preset's names call them."""
    task = model.task(1)
    params, extra = jax.eval_shape(lambda: task.init(jax.random.key(0), {}))
    [net] = params
    like = {"params": params[net], **extra.get(net, {})}
    variables = to_ours(rule_of(preset), model, net, like, read(path))
    return of_task(name, task, net, variables, feature)


def from_run(name: str) -> Extractor:
    """Return the features of a trained classifier: the last of its answer before the logits, pooled over pixels."""
    from jaxgen.core.config import Mesh
    from jaxgen.core.spec import spec_of
    from jaxgen.runs.load import open_run

    run, _, _, state, _, _ = open_run(paths.path(name), Mesh(data=1))
    task = run.model.task(run.steps)  # in f32, whatever it was trained in
    if task.find(Classifier) is None:
        raise InputError(f"{name} is no classifier's run: it has no features to compare.")
    [net] = state.params
    variables = jax.device_get({"params": state.params[net], **state.extra.get(net, {})})
    names: list[str] = []  # in the net's own order; JAX returns a dictionary sorted
    jax.eval_shape(lambda x: names.extend(classify(task, net, variables, x)), spec_of(task, 1)[seen_by(task)])
    return of_task(name, task, net, variables, feature=[key for key in names if not key.startswith("logits")][-1])


def classify(task, net: str, variables: PyTree, x: Array) -> dict[str, Array]:
    rest = {key: value for key, value in variables.items() if key != "params"}
    context = Context({net: rest} if rest else {net: {}}, {}, {}, jnp.zeros((), jnp.int32))
    return task.get(Classifier).classify({net: variables["params"]}, context, {seen_by(task): x})


def seen_by(task) -> str:
    """Return the name of the image or clip in a classifier's examples."""
    return next(name for name, spec in task.example.items() if spec.kind in ("image", "video"))


def of_task(name: str, task, net: str, variables: PyTree, feature: str) -> Extractor:
    def apply(variables: PyTree, x: Array) -> dict[str, Array]:
        out = classify(task, net, variables, x)
        features = out[feature].astype(jnp.float32)
        features = features if features.ndim == 2 else features.mean((1, 2))  # [b h w d] -> [b d]
        return {"features": features, "logits": out.get("logits_unbiased", out["logits"])}

    spec = task.example[seen_by(task)]
    return Extractor(name, apply, variables, spec.shape[-3:], digest(variables), spec.kind)


def random() -> Extractor:
    """Return a ResNet-18 of half width whose kernels NumPy draws: the same numbers on every version and device."""
    model = zoo.load("resnet18").run.model.__class__(depth=18, image=(32, 32, 3), classes=2, width=32, stem="small")
    task = model.task(1)
    params, extra = jax.eval_shape(lambda: task.init(jax.random.key(0), {}))
    rng = np.random.RandomState(0)

    def draw(x):
        scale = np.sqrt(2 / np.prod(x.shape[:-1])) if len(x.shape) > 1 else 0
        return (rng.standard_normal(x.shape) * scale).astype(np.float32)

    def leaf(path, x):
        kind = path[-1].key
        return np.ones(x.shape, np.float32) if kind in ("scale", "var") else draw(x)

    variables = {"params": params["classifier"], **extra["classifier"]}
    variables = jax.tree_util.tree_map_with_path(leaf, variables)
    made = of_task("random", task, "classifier", variables, feature="pool")

    def apply(variables: PyTree, x: Array) -> dict[str, Array]:
        # Of order 1, as Inception's are: KID's kernel is a cube, and depends on the scale.
        return {"features": made.apply(variables, x)["features"] / 32}

    return made._replace(image=(0, 0, 3), apply=apply)


def digest(variables: PyTree) -> str:
    """Return the first 12 figures of the SHA-256 of all arrays, by path."""
    total = hashlib.sha256()
    for path, x in jax.tree_util.tree_leaves_with_path(variables):
        total.update(jax.tree_util.keystr(path).encode())
        total.update(np.ascontiguousarray(x).tobytes())
    return total.hexdigest()[:12]


def inception_file(path: Path | None) -> Path:
    """Return the file of FID's Inception: the given one, $JAXGEN_INCEPTION, the cached one, or a download of it.

    Raises InputError where it can't be had, or is not the published file.
    """
    if not (given := path or os.environ.get("JAXGEN_INCEPTION")):
        say = lambda: print(f"Fetching {INCEPTION.address} ({INCEPTION.size / 1e6:.0f} MB)", file=sys.stderr)  # noqa: E731
        [file] = fetched([INCEPTION], cache_folder() / "weights", "The weights of Inception", say, ADVICE)
        return file
    file = paths.path(given)
    if not file.is_file():
        raise InputError(f"There is no file {file} with the weights of Inception.")
    if wrong := difference(file, INCEPTION):
        raise InputError(f"{file} is not the published Inception of FID: {wrong}: delete it, or give another file.")
    return file
