"""What a model's arrays are called elsewhere, and how they lie there: one mapping, used in both directions.

The names are those of the published PyTorch weights. Our modules are named after theirs (`layer1_0` is `layer1.0`), so
that most models need no rule; the others have one in MODELS.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxgen import zoo
from jaxgen.core.errors import InputError
from jaxgen.nn.stages import count_stages

PyTree = Any
Path = tuple[str, ...]


class Layout(NamedTuple):
    """How an array lies there: `out` turns ours into theirs, `back` theirs into ours."""

    out: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray]


def axes(*order: int) -> Layout:
    """Return the layout whose axis i is our axis order[i]."""
    return Layout(lambda x: x.transpose(order), lambda x: x.transpose(np.argsort(order)))


SAME = Layout(lambda x: x, lambda x: x)
LAYOUTS = {2: axes(1, 0), 4: axes(3, 2, 0, 1)}  # [in out] -> [out in], [h w in out] -> [out in h w]
TRANSPOSED = axes(2, 3, 0, 1)  # a transposed convolution's [h w in out] -> [in out h w]
LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}

SURPLUS = ("num_batches_tracked", "resample_filter", "relative_position_index", "attn_mask")
SURPLUS += tuple(f"{sign}_mean.{leaf}" for sign in ("sub", "add") for leaf in ("weight", "bias"))

Rule = Callable[[Any, str, Path, tuple[int, ...]], tuple[str, Layout]]  # (model, net, path, shape) -> name, layout


def plain(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout]:
    """`layer1_0/conv1/kernel` is `layer1.0.conv1.weight`."""
    del model, net
    *modules, leaf = path
    dotted = [re.sub(r"_(\d+)(?=_|$)", r".\1", module) for module in modules]
    return ".".join([*dotted, LEAVES.get(leaf, leaf)]), LAYOUTS.get(len(shape), SAME)


def renamed(*pairs: tuple[str, str]) -> Rule:
    """Return the plain rule with regular expressions replaced in the name afterwards."""

    def rule(model, net, path, shape):
        name, layout = plain(model, net, path, shape)
        for pattern, replacement in pairs:
            name = re.sub(pattern, replacement, name)
        return name, layout

    return rule


def dcgan(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout]:
    """The nets of PyTorch's DCGAN tutorial, `main.N`: the first and last layers are 4x4 convolutions of a pixel."""
    kind, number = path[0].rsplit("_", 1)
    if model.kernel != 4:
        raise InputError(
            "A DCGAN with 5x5 kernels pads as TensorFlow does: PyTorch has no such net (--model.kernel 4 has)."
        )
    leaf, layout = LEAVES.get(path[-1], path[-1]), LAYOUTS.get(len(shape), SAME)
    stages = count_stages(*model.image[:2])
    pixels = (model.image[0] >> stages, model.image[1] >> stages)  # 4x4 for a square image
    if net == "generator":
        place = {"Dense": 0, "BatchNorm": 1 + 3 * int(number), "ConvTranspose": 3 + 3 * int(number)}[kind]
        layout = TRANSPOSED if kind == "ConvTranspose" else layout
        if kind == "Dense":  # [z h*w*c] -> [z c h w]
            layout = Layout(
                lambda x: x.reshape(len(x), *pixels, -1).transpose(0, 3, 1, 2),
                lambda x: x.transpose(0, 2, 3, 1).reshape(len(x), -1),
            )
        return f"main.{place}.{leaf}", layout
    place = {"Conv": 3 * int(number) - (int(number) > 0), "BatchNorm": 3 + 3 * int(number), "Dense": 3 * stages - 1}[
        kind
    ]
    if kind == "Dense":  # [h*w*c 1] -> [1 c h w]
        layout = Layout(
            lambda x: x.reshape(*pixels, -1, 1).transpose(3, 2, 0, 1),
            lambda x: x.transpose(2, 3, 1, 0).reshape(-1, 1),
        )
    return f"main.{place}.{leaf}", layout


def stylegan2(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout]:
    """The plain rule, but that the constant is [c 4 4] and a layer's noise lies as ours."""
    name, layout = plain(model, net, path, shape)
    return name, {"const": axes(2, 0, 1), "noise_const": SAME}.get(path[-1], layout)


def vae(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout]:
    """PyTorch's example of a VAE, fc1 to fc4, where there is one hidden layer; elsewhere the plain rule."""
    name, layout = plain(model, net, path, shape)
    if model.nets.kind == "mlp" and model.nets.depth == 1:
        hidden = {"encoder": "fc1", "decoder": "fc3"}[net]
        module, _, leaf = name.rpartition(".")
        name = f"{ {'hidden.0': hidden, 'mean': 'fc21', 'log_var': 'fc22', 'out': 'fc4'}.get(module, module) }.{leaf}"
    return name, layout


def mae(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout]:
    """The authors' names, but that the layers of a stack are one array, as in torch.func.stack_module_state."""
    name, layout = plain(model, net, path, shape)
    if "blocks" in path[0]:  # [depth in out] -> [depth out in]
        return name, axes(0, 2, 1) if len(shape) == 3 else SAME
    if path[0] == "patch_embed":
        p, c = model.patch, model.image[2]
        patches = Layout(  # [p*p*c out] -> [out c p p]
            lambda x: x.reshape(p, p, c, -1).transpose(3, 2, 0, 1),
            lambda x: x.transpose(2, 3, 1, 0).reshape(p * p * c, -1),
        )
        return name.replace("patch_embed", "patch_embed.proj"), patches if len(shape) == 2 else SAME
    return name, layout


def fsrcnn(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout]:
    """The plain rule, but that the last layer is a transposed convolution."""
    name, layout = plain(model, net, path, shape)
    return name, TRANSPOSED if path == ("last_part", "kernel") else layout


def nafnet(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout]:
    """The plain rule, but that a block's two gates are [1 c 1 1]."""
    name, layout = plain(model, net, path, shape)
    gate = Layout(lambda x: x.reshape(1, -1, 1, 1), lambda x: x.reshape(-1))
    return name, gate if path[-1] in ("beta", "gamma") else layout


def swinir(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout]:
    """The plain rule with three modules more in between, and the table of places lies as ours."""
    group = r"^(layers\.\d+)\.blocks", r"\1.residual_group.blocks"
    rule = renamed(group, ("mlp_", "mlp."), ("^patch_norm", "patch_embed.norm"))
    name, layout = rule(model, net, path, shape)
    return name, SAME if path[-1] == "relative_position_bias_table" else layout


def fast_style(model: Any, net: str, path: Path, shape: tuple[int, ...]) -> tuple[str, Layout]:
    """TensorFlow's variables in the order in which the net makes them, and as they lie there.

    The kernel of a transposed convolution is [h w out in].
    """
    from jaxgen.models.translation.fast_style import number

    del net
    name = f"Variable_{number(path)}".removesuffix("_0")
    doubles = 3 + 2 * model.depth
    turned = path[-1] == "kernel" and not model.mirror and number(path) // 3 in (doubles, doubles + 1)
    return name, axes(0, 1, 3, 2) if turned else SAME


MODELS: Mapping[str, Rule] = {
    "jaxgen.models.classifier.lenet": renamed(("^c", "convnet.c"), ("^f", "fc.f"), ("^s", "convnet.s")),
    "jaxgen.models.classifier.inception": renamed((r"^(Mixed\w+\.branch\w+)\.(\d)", r"\1_\2")),
    "jaxgen.models.gan.gan": renamed(("^layer\\.", "")),
    "jaxgen.models.gan.dcgan": dcgan,
    "jaxgen.models.gan.unrolled": dcgan,
    "jaxgen.models.gan.stylegan2": stylegan2,
    "jaxgen.models.restoration.nafnet": nafnet,
    "jaxgen.models.restoration.enhancement": nafnet,
    "jaxgen.models.restoration.restormer": renamed(
        (r"^(down\d|up\d)\.(\d)_body", r"\1_\2.body"), ("_proj\\.", ".proj."), (r"(norm\d)\.", r"\1.body.")
    ),
    "jaxgen.models.super_resolution.fsrcnn": fsrcnn,
    "jaxgen.models.super_resolution.swinir": swinir,
    "jaxgen.models.super_resolution.vdsr": renamed((r"^(residual_layer\.\d+)\.", r"\1.conv.")),
    "jaxgen.models.translation.fast_style": fast_style,
    "jaxgen.models.vae.vae": vae,
    "jaxgen.models.vae.mae": mae,
}


def rule_of(preset: str) -> Rule:
    """Return the rule for a preset's names."""
    return MODELS.get(zoo.ZOO[preset], plain)


def table(rule: Rule, model: Any, net: str, variables: PyTree) -> list[tuple[Path, tuple[int, ...], str, Layout]]:
    """Return for each array of a net's variables, {"params": ..., ...}: path, our shape, their name, their layout."""
    rows = []
    for path, x in sorted(_leaves(variables)):
        shape = tuple(x.shape)
        rows.append((path, shape, *rule(model, net, path[1:], shape)))
    return rows


def to_theirs(rule: Rule, model: Any, net: str, variables: PyTree) -> dict[str, np.ndarray]:
    """Return a net's variables under their names and in their layout, as they are written to files."""
    found = dict(_leaves(variables))
    return {
        name: np.asarray(layout.out(np.asarray(found[path])), order="C")
        for path, _, name, layout in table(rule, model, net, variables)
    }


def to_ours(rule: Rule, model: Any, net: str, like: PyTree, tensors: Mapping[str, np.ndarray]) -> PyTree:
    """Return `tensors`, by their names, as variables of the structure and shapes of `like`.

    Raises InputError that lists what is missing, surplus and of another shape. Counters of batches and fixed filters
    are no surplus.
    """
    ours: dict = {}
    missing, misshaped, used = [], [], set()
    for path, shape, name, layout in table(rule, model, net, like):
        if name not in tensors:
            missing.append(name)
            continue
        used.add(name)
        expected = layout.out(np.broadcast_to(np.float32(0), shape)).shape
        if tensors[name].shape != expected:
            misshaped.append(f"{name} is {list(tensors[name].shape)}, not {list(expected)}")
            continue
        *parents, leaf = path
        place = ours
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = np.asarray(layout.back(tensors[name]), np.float32, order="C")
    surplus = [name for name in tensors if name not in used and not name.endswith(SURPLUS)]
    problems = [
        f"{what}: {_some(names)}"
        for what, names in (("missing", missing), ("surplus", surplus), ("of another shape", misshaped))
        if names
    ]
    if problems:
        raise InputError(f"These weights are not the {net}'s: {'; '.join(problems)}.")
    return ours


def _some(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _leaves(tree: PyTree, path: Path = ()) -> Iterable[tuple[Path, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value
