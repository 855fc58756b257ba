"""Convolutions equal XLA's in all derivatives, geometries and transformations; other platforms use XLA's own."""

import itertools
import math
import re
from functools import cache, partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from jaxgen.nn import conv as module
from jaxgen.nn import conv_forms as forms
from jaxgen.nn.conv import Geometry, conv, conv_transpose
from tests.helpers.plain_conv import plain_input_grad, plain_kernel_grad
from tests.helpers.quick_keys import quick_key

ONE = (1, 1)
UNEVEN = ((1, 2), (0, 1))
CASES = [  # image, window, strides, padding, dilation, groups, channels
    ((7, 6), (1, 1), ONE, "SAME", ONE, 1, (3, 4)),
    ((7, 6), (1, 1), (2, 3), "VALID", ONE, 1, (3, 4)),
    ((7, 6), (1, 2), (3, 1), UNEVEN, ONE, 1, (3, 4)),
    ((7, 6), (2, 2), (2, 2), "SAME", ONE, 1, (3, 4)),
    ((8, 7), (2, 3), (3, 2), "VALID", ONE, 1, (3, 4)),
    ((7, 6), (3, 3), ONE, "SAME", ONE, 1, (3, 4)),
    ((7, 6), (3, 2), ONE, "VALID", ONE, 1, (3, 4)),
    ((7, 6), (3, 3), (2, 2), "SAME", ONE, 1, (3, 4)),
    ((8, 8), (4, 4), (2, 2), ((1, 1), (1, 1)), ONE, 1, (3, 4)),
    ((7, 9), (4, 5), (2, 3), UNEVEN, ONE, 1, (3, 4)),
    ((9, 8), (5, 5), (2, 2), "SAME", ONE, 1, (3, 4)),
    ((9, 8), (4, 3), (3, 2), ((4, -1), (-1, 3)), ONE, 1, (3, 4)),
    ((9, 8), (2, 3), ONE, "SAME", (3, 2), 1, (3, 4)),
    ((9, 8), (2, 3), (2, 1), UNEVEN, (1, 2), 1, (3, 4)),
    ((7, 6), (3, 3), ONE, "SAME", ONE, 2, (4, 6)),
    ((7, 6), (3, 2), ONE, UNEVEN, (2, 1), 3, (6, 9)),
    ((7, 6), (3, 3), ONE, "SAME", ONE, 4, (4, 4)),
    ((9, 8), (3, 2), ONE, UNEVEN, (2, 1), 4, (4, 4)),
    ((7, 6), (3, 3), (2, 2), "SAME", ONE, 4, (4, 8)),
]
TRANSPOSED = [  # image, window, strides, padding
    ((3, 4), (4, 4), (2, 2), "SAME"),
    ((3, 4), (5, 3), (2, 3), "SAME"),
    ((3, 4), (2, 1), (3, 2), "SAME"),
    ((3, 4), (3, 3), ONE, "SAME"),
    ((1, 1), (4, 4), ONE, "VALID"),
    ((3, 4), (3, 4), (2, 2), "VALID"),
    ((3, 4), (4, 5), (2, 2), ((1, 1), (2, 1))),
    ((3, 4), (3, 3), (3, 2), ((1, -1), (0, 2))),
]


def draw(*shapes: tuple[int, ...], dtype: type = np.float32) -> list[jax.Array]:
    random = np.random.default_rng(math.prod(map(math.prod, shapes)))
    return [jnp.asarray(random.standard_normal(shape), dtype) for shape in shapes]


def equal(got, want, tolerance: float = 2e-5):
    """Compare arrays with tolerances relative to their largest element."""

    def leaf(a, b):
        assert a.shape == b.shape and a.dtype == b.dtype
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1e-6))

    jax.tree.map(leaf, got, want)


def plain(x, k, strides=ONE, padding: Any = "SAME", dilation=ONE, groups=1):
    options: Any = {"rhs_dilation": dilation, "feature_group_count": groups, "dimension_numbers": forms.LAYOUT}
    return lax.conv_general_dilated(x, k, strides, padding, **options)


def derivatives(f, x, k, y):
    """Return the value, both gradients and a tangent."""
    value, pull = jax.vjp(f, x, k)
    return value, pull(y), jax.jvp(f, (x, k), (x + 1, k - 1))[1]


def second_derivatives(f, x, k):
    """Return second derivatives: of gradient norms, forward over reverse, reverse over forward."""

    def loss(x, k):
        return jnp.sum(jnp.sin(f(x, k)))

    def penalty(x, k):
        return sum(jnp.sum(gradient**2) for gradient in jax.grad(loss, (0, 1))(x, k))

    def slope(x, k):
        return jnp.sum(jax.jvp(f, (x, k), (jnp.cos(x), jnp.cos(k)))[1] ** 2)

    forward = jax.jvp(jax.grad(loss, (0, 1)), (x, k), (x + 1, k - 1))[1]
    return jax.grad(penalty, (0, 1))(x, k), forward, jax.grad(slope, (0, 1))(x, k)


def operands(image, window, groups, channels, batch=2):
    return draw((batch, *image, channels[0]), (*window, channels[0] // groups, channels[1]))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_conv_and_its_derivatives_equal_xlas(case):
    image, window, strides, padding, dilation, groups, channels = case
    x, k = operands(image, window, groups, channels)
    options = (strides, padding, dilation, groups)
    y = jax.eval_shape(lambda x, k: plain(x, k, *options), x, k)
    (y,) = draw(y.shape)
    run = jax.jit(lambda f, *a: derivatives(lambda x, k: f(x, k, *options), *a), static_argnums=0)
    equal(run(conv, x, k, y), run(plain, x, k, y))


@pytest.mark.parametrize("case", [CASES[i] for i in (8, 12, 14)], ids=str)
def test_second_derivatives_equal_xlas(case):
    image, window, strides, padding, dilation, groups, channels = case
    x, k = operands(image, window, groups, channels)
    options = (strides, padding, dilation, groups)
    run = jax.jit(lambda f, *a: second_derivatives(lambda x, k: f(x, k, *options), *a), static_argnums=0)
    equal(run(conv, x, k), run(plain, x, k), 1e-4)


@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_conv_transpose_is_the_gradient_of_a_convolution(case):
    image, window, strides, padding = case
    x, k = operands(image, window, 1, (3, 4))
    pads = padding
    if padding == "SAME":
        totals = [w - s for w, s in zip(window, strides, strict=True)]
        pads = tuple((max(t, 0) // 2, t - max(t, 0) // 2) for t in totals)
    elif padding == "VALID":
        pads = forms.NO_PADS
    sizes = zip(image, window, strides, pads, strict=True)
    out = jax.ShapeDtypeStruct((2, *[(n - 1) * s + w - lo - hi for n, w, s, (lo, hi) in sizes], 4), x.dtype)  # pyright: ignore
    if padding == "SAME":
        assert out.shape[1:3] == tuple(n * s for n, s in zip(image, strides, strict=True))

    def reference(x, k):
        return jax.linear_transpose(lambda z: plain(z, k.swapaxes(2, 3), strides, pads), out)(x)[0]

    (y,) = draw(out.shape)
    run = jax.jit(lambda f, *a: derivatives(f, *a), static_argnums=0)
    equal(run(lambda x, k: conv_transpose(x, k, strides, padding), x, k, y), run(reference, x, k, y))


@pytest.mark.parametrize(
    ("window", "strides"), [((4, 4), (2, 2)), ((5, 3), (2, 2)), ((3, 2), (1, 3)), ((2, 2), (3, 3))]
)
@pytest.mark.parametrize("flip", [False, True])
def test_conv_transpose_equals_flaxs_with_its_kernel(window, strides, flip):
    x, k = operands((3, 4), window, 1, (3, 5))
    theirs = nn.ConvTranspose(5, window, strides, "SAME", use_bias=False, transpose_kernel=flip)

    @jax.jit
    def both():
        kernel = k.swapaxes(2, 3) if flip else k[::-1, ::-1]
        return conv_transpose(x, k, strides, "SAME"), theirs.apply({"params": {"kernel": kernel}}, x)

    equal(*both())


@cache
def xlas_answers(geometry: Geometry, c_in: int, c_out: int) -> tuple[Any, Any]:
    """Return the arguments of a convolution and of its two gradients, and what XLA makes of them."""
    x, k, y = draw((2, *geometry.image, c_in), (*geometry.window, c_in, c_out), (2, *geometry.output, c_out))
    pairs, roles = [(x, k), (y, k), (x, y)], [forms.xla_conv, forms.xla_input_grad, forms.xla_kernel_grad]
    return pairs, jax.jit(lambda pairs: [f(*pair, geometry) for f, pair in zip(roles, pairs, strict=True)])(pairs)


def test_plain_gradients_of_the_tests_equal_xlas():
    """Those of the fixture plain_convolutions, which stay fast in loops."""
    geometries = {
        Geometry(image, window, strides, pads, dilation)
        for image, window, strides, pads, dilation, groups, _ in CASES
        if groups == 1 and not isinstance(pads, str)
    }
    given, want = zip(*(xlas_answers(geometry, 3, 4) for geometry in geometries), strict=True)

    @jax.jit
    def ours(given):
        found = []
        for geometry, (_, (y, k), (x, dy)) in zip(geometries, given, strict=True):
            found.append([plain_input_grad(y, k, geometry), plain_kernel_grad(x, dy, geometry)])
        return found

    equal(ours(given), [theirs[1:] for theirs in want])


# Numbers of channels that select a formulation: one product of patches, shifted products, XLA's.
WIDTHS = {"gather": (2, 50), "scatter": (50, 2), "even": (6, 20)}


@pytest.mark.parametrize(("few", "band"), [(0, 1), (0, 2000), (10**6, 10**9)], ids=["rows", "bands", "small"])
@pytest.mark.parametrize("widths", WIDTHS)
@pytest.mark.parametrize(("strides", "dilation"), [(ONE, ONE), ((2, 2), ONE), (ONE, (2, 1))], ids=str)
def test_every_cpu_formulation_equals_xlas(monkeypatch, few, band, widths, strides, dilation):
    monkeypatch.setattr(forms, "FEW_PIXELS", few)
    monkeypatch.setattr(forms, "BAND_SIZE", band)
    c_in, c_out = WIDTHS[widths]
    for pads in [((1, 1), (1, 0)), forms.NO_PADS] if widths == "even" else [((1, 1), (1, 0))]:
        geometry = Geometry((8, 6), (3, 3), strides, pads, dilation)
        pairs, theirs = xlas_answers(geometry, c_in, c_out)
        ours = [forms.cpu_conv, forms.cpu_input_grad, forms.cpu_kernel_grad]
        # New functions, so that no trace with other constants is reused.
        traced = [jax.jit(partial(our, geometry=geometry)).trace(*pair) for our, pair in zip(ours, pairs, strict=True)]
        equal([one.lower().compile()(*pair) for one, pair in zip(traced, pairs, strict=True)], theirs)
        for role, text in enumerate(str(one.jaxpr) for one in traced):
            xlas = few == 0 and (role == 0 if strides != ONE and widths != "even" else role < 2 and widths == "even")
            assert ("conv_general_dilated" in text) == xlas
            assert ("while" in text or "scan" in text) == (role == 2 and band == 1) or band == 2000  # some


@pytest.mark.parametrize("pads", [((1, 1), (1, 1)), ((2, 0), (0, 2)), ((0, 1), (3, 0)), ((-1, 1), (-1, -1))], ids=str)
@pytest.mark.parametrize("window", [(3, 3), (2, 5)])
@pytest.mark.parametrize(("strides", "dilation"), [(ONE, ONE), ((1, 2), ONE), ((2, 3), ONE), (ONE, (1, 2))], ids=str)
def test_side_by_side_convolution_equals_separate_ones(window, strides, dilation, pads):
    """The reference sums products explicitly: XLA's convolution on a CPU is wrong for negative padding."""
    geometry = Geometry((7, 11), window, strides, pads, dilation)
    x, k = draw((3, 7, 11, 4), (*window, 4, 5))
    (top, bottom), (left, right) = pads
    grown = np.pad(x, ((0, 0), *((max(lo, 0), max(hi, 0)) for lo, hi in pads), (0, 0)))
    grown = grown[:, max(-top, 0) : grown.shape[1] + min(bottom, 0), max(-left, 0) : grown.shape[2] + min(right, 0)]
    expected = np.zeros((3, *geometry.output, 5), np.float32)
    for i, j in np.ndindex(window):
        rows, columns = (
            d * at + s * np.arange(out)
            for at, d, s, out in zip((i, j), dilation, strides, geometry.output, strict=True)
        )
        expected += grown[:, rows[:, None], columns] @ np.asarray(k)[i, j]
    forms_of = jax.jit(lambda x, k: [f(x, k, geometry) for f in (forms.xla_conv, forms._side_by_side_conv)])
    equal(forms_of(x, k), [expected] * 2)


def test_narrow_images_are_convolved_side_by_side():
    """With and without sharding of the batch; single images, few channels and few products use the plain form."""
    x, k = draw((8, 34, 32, 32), (3, 3, 32, 32))
    some = [(x, k), (x[:1], k), (x, k[..., :8]), (x[:2], k)]
    assert ["1x34x264x32xf32" in jax.jit(conv).lower(*pair).as_text() for pair in some] == [True] + 3 * [False]
    loss = jax.value_and_grad(lambda x, k: jnp.sum(jnp.sin(conv(x, k))), (0, 1))
    theirs = jax.value_and_grad(lambda x, k: jnp.sum(jnp.sin(plain(x, k))), (0, 1))
    equal(jax.jit(loss)(x, k), jax.jit(theirs)(x, k), 1e-4)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    specs = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
    equal(jax.jit(loss, in_shardings=specs)(*jax.device_put((x, k), specs)), jax.jit(theirs)(x, k), 1e-4)


def test_finite_differences_in_double_precision():
    with jax.enable_x64(True):
        x, k = draw((2, 5, 4, 2), (4, 3, 2, 3), dtype=np.float64)
        assert x.dtype == jnp.float64
        check_grads(lambda x, k: conv(x, k, (2, 1), ((1, 1), (2, 0))), (x, k), order=2, atol=1e-6, rtol=1e-6)
        check_grads(lambda x, k: conv_transpose(x, k, (2, 2)), (x, k), order=2, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", ["conv", "input_grad", "kernel_grad"])
def test_vmap_over_either_or_both(kind, groups):
    x, k, y = draw((3, 2, 6, 5, 4), (3, 3, 3, 4 // groups, 6), (3, 2, 3, 5, 6))

    def f(x, k):
        return conv(x, k, (2, 1), "SAME", ONE, groups)

    def input_grad(y, k):
        return jax.linear_transpose(lambda z: f(z, k), x[0])(y)[0]

    def kernel_grad(x, y):
        return jax.linear_transpose(lambda z: f(x, z), k[0])(y)[0]

    g, a, b = {"conv": (f, x, k), "input_grad": (input_grad, y, k), "kernel_grad": (kernel_grad, x, y)}[kind]
    slope = jax.grad(lambda k, x: jnp.sum(jnp.sin(f(x, k))))

    @jax.jit
    def batched():
        found = [jax.vmap(g, (0, None))(a, b[0]), jax.vmap(g, (None, 0))(a[0], b), jax.vmap(g)(a, b)]
        found.append(jax.vmap(g, (4, 1), 2)(jnp.moveaxis(a, 0, 4), jnp.moveaxis(b, 0, 1)))
        if kind == "conv":  # per-example kernel gradients, and vmap of vmap
            found.append(jax.vmap(lambda k, x: slope(k, x[None]), (None, 0))(k[0], x[0]))
            found.append(jax.vmap(jax.vmap(f, (None, 0)), (0, None))(x, k)[2, 1])
        return found

    one, one_slope = jax.jit(g), jax.jit(slope)
    each = np.stack([one(a[i], b[i]) for i in range(3)])
    expected = [np.stack([one(a[i], b[0]) for i in range(3)]), np.stack([one(a[0], b[i]) for i in range(3)]), each]
    expected.append(np.moveaxis(each, 0, 2))
    if kind == "conv":
        expected += [np.stack([one_slope(k[0], x[0, i : i + 1]) for i in range(2)]), np.asarray(one(x[2], k[1]))]
    equal(batched(), expected)


def test_scan_cond_and_rematerialisation():
    x, k = draw((2, 6, 6, 4), (3, 3, 4, 4))

    def net(f, x, k):
        layer = jax.checkpoint(lambda x: jnp.tanh(f(x, k)))
        x, _ = lax.scan(lambda x, _: (layer(x), None), x, None, 3)
        return jnp.sum(lax.cond(jnp.sum(x) > 1e9, lambda x: x[:, ::2, ::2], lambda x: f(x, k, (2, 2)), x) ** 2)

    run = jax.jit(lambda f, *a: jax.value_and_grad(lambda *b: net(f, *b), (0, 1))(*a), static_argnums=0)
    equal(run(conv, x, k), run(plain, x, k), 1e-4)


@pytest.mark.parametrize("channels", [(3, 4), (40, 2), (2, 40)], ids=str)
def test_bf16_is_summed_in_f32(channels):
    x, k = (a.astype(jnp.bfloat16) for a in operands((6, 6), (3, 3), 1, channels))
    # Not compiled whole: XLA may then keep f32 where bf16 is asked for, which would hide a sum in bf16.
    y, pull = jax.vjp(conv, x, k)
    y_f32, pull_f32 = jax.vjp(conv, x.astype(jnp.float32), k.astype(jnp.float32))
    equal(y, y_f32.astype(jnp.bfloat16))
    equal(pull(y), jax.tree.map(lambda a: a.astype(jnp.bfloat16), pull_f32(y.astype(jnp.float32))))


@pytest.mark.parametrize("kernel_spec", [PartitionSpec(), PartitionSpec(None, None, None, "data")], ids=str)
@pytest.mark.parametrize("strides", [ONE, (2, 2)])
def test_sharded_over_eight_devices(monkeypatch, kernel_spec, strides):
    monkeypatch.setattr(forms, "BAND_SIZE", 1)
    x, k = operands((6, 6), (4, 4), 1, (4, 8), batch=16)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

    def loss(x, k):
        return jnp.sum(jnp.sin(conv(jnp.sin(conv_transpose(x, k, strides)), k.swapaxes(2, 3), strides)))

    specs = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, kernel_spec)
    step = jax.jit(jax.value_and_grad(loss, (0, 1)), in_shardings=specs, out_shardings=(None, specs))
    compiled = step.lower(x, k).compile()
    equal(compiled(*jax.device_put((x, k), specs)), jax.jit(jax.value_and_grad(loss, (0, 1)))(x, k), 1e-4)
    text = compiled.as_text() or ""
    assert "while" in text and "all-reduce" in text
    if kernel_spec == PartitionSpec():
        assert not re.findall(r"all-gather|all-to-all|collective-permute", text)


def convolutions(f, platform: str, *arguments) -> list[str]:
    text = jax.jit(f).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
    return sorted(re.sub(r"%\w+", "%", line).strip() for line in text.splitlines() if "stablehlo.convolution" in line)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_other_platforms_keep_xlas_convolutions(platform):
    x, k = operands((8, 8), (4, 4), 1, (3, 4))

    def gradients(f, x, k):
        return jax.vjp(lambda x, k: f(x, k, (2, 2), ((1, 1), (1, 1))), x, k)[1](jnp.ones((2, 4, 4, 4)))

    ours, theirs = (convolutions(lambda x, k, f=f: gradients(f, x, k), platform, x, k) for f in (conv, plain))
    assert len(ours) == 2 and ours == theirs
    (forward,) = convolutions(lambda x, k: conv(x, k, (2, 2)), platform, x, k)
    assert "stride = [2, 2]" in forward
    text = jax.jit(lambda x, k: gradients(conv, x, k)).trace(x, k).lower(lowering_platforms=(platform,)).as_text()
    assert "reshape" not in text and "dot_general" not in text
    assert convolutions(lambda x, k: gradients(conv, x, k), "cpu", x, k) != theirs


def test_export_for_two_platforms():
    x, k = operands((8, 8), (4, 4), 1, (3, 4))
    f = jax.jit(jax.grad(lambda x, k: jnp.sum(jnp.sin(conv(x, k, (2, 2)))), (0, 1)))
    exported = jax.export.export(f, platforms=("cpu", "cuda"))(x, k)
    equal(exported.call(x, k), f(x, k))


def test_modules_have_flaxs_parameters_and_results():
    (x,), key = draw((2, 6, 6, 4)), quick_key(0)

    @partial(jax.jit, static_argnums=(0, 1))
    def look(ours, theirs):
        """Return the parameters of both, and what both make of the same; Flax turns a transposed one's kernel."""
        variables, turned = theirs.init(key, x), lambda k: k
        if isinstance(ours, module.ConvTranspose):
            turned = lambda k: k[::-1, ::-1] if k.ndim > 1 else k  # noqa: E731
        mine = jax.tree.map(turned, variables)
        return (ours.init(key, x), ours.apply(mine, x)), (variables, theirs.apply(variables, x))

    pairs = [
        (module.Conv(6, (3, 3), (2, 2), groups=2), nn.Conv(6, (3, 3), (2, 2), feature_group_count=2)),
        (
            module.Conv(6, (3, 2), dilation=(2, 1), use_bias=False),
            nn.Conv(6, (3, 2), kernel_dilation=(2, 1), use_bias=False),
        ),
        (module.Dense(6), nn.Dense(6)),
        (module.ConvTranspose(6, (4, 4), (2, 2)), nn.ConvTranspose(6, (4, 4), (2, 2))),
    ]
    for ours, theirs in pairs:
        equal(*look(ours, theirs))


@pytest.mark.parametrize("layer", [module.Conv(6, (3, 3)), module.ConvTranspose(6, (3, 3)), module.Dense(6)])
def test_modules_compute_in_the_kernels_dtype_and_name_their_output(layer):
    (x,) = draw((2, 6, 6, 4))
    variables = jax.eval_shape(lambda: layer.init(jax.random.key(0), x))
    kernel = jax.ShapeDtypeStruct(variables["params"]["kernel"].shape, jnp.bfloat16)
    half = {"params": {**variables["params"], "kernel": kernel}}
    assert jax.eval_shape(layer.apply, variables, x).dtype == jnp.float32
    assert jax.eval_shape(layer.apply, half, x).dtype == jnp.bfloat16
    name = "dense" if isinstance(layer, module.Dense) else "conv"
    assert f"name[name={name}]" in str(jax.make_jaxpr(layer.apply)(variables, x))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x, k: conv(x, k[..., :2, :]), "should take 3 channels"),
        (lambda x, k: conv(x, k, groups=2), "2 groups do not divide 3 input"),
        (lambda x, k: conv(x, k, groups=0), "0 groups"),
        (lambda x, k: conv(x[:, :2], k, padding="VALID"), "no room for a .3, 3. window"),
        (lambda x, k: conv(x[0], k), "x is .b h w c."),
        (lambda x, k: conv(x, k, padding="same"), "'same'"),
        (lambda x, k: conv(x, k.astype(jnp.bfloat16)), "cast x"),
        (lambda x, k: conv_transpose(x, k[..., :2, :]), "should take 3 channels"),
        (lambda x, k: conv_transpose(x[:, :1], k, padding=((2, 2), (0, 0))), "nothing of"),
    ],
)
def test_errors_name_the_mistake(call, words):
    with pytest.raises(ValueError, match=words):
        call(*operands((5, 5), (3, 3), 1, (3, 4)))


def test_same_padding_is_xlas():
    for size, window, stride, dilation in itertools.product((1, 4, 7), (1, 2, 5), (1, 2, 3), (1, 2)):
        x, k = jnp.zeros((1, size, size, 1)), jnp.zeros((window, window, 1, 1))
        arguments = ((stride, stride), "SAME", (dilation, dilation))
        ours = jax.eval_shape(lambda x, k, a=arguments: conv(x, k, *a), x, k)
        assert ours.shape == jax.eval_shape(lambda x, k, a=arguments: plain(x, k, *a), x, k).shape
