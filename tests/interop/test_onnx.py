"""Programs with their noise as inputs, and ONNX models of them, run in ONNX Runtime and compared with JAX."""

import json
import sys
import zlib
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.extend.core import jaxpr_as_fun

from jaxgen import zoo
from jaxgen.core import rng
from jaxgen.core.capabilities import Latent, Transform
from jaxgen.core.errors import InputError
from jaxgen.core.spec import ArraySpec
from jaxgen.core.types import averaged
from jaxgen.diffusion import samplers
from jaxgen.interop import noise_inputs
from jaxgen.nn import conv, resample
from jaxgen.nn.upfirdn import upfirdn2d
from tests.helpers.presets import FIRST
from tests.helpers.untrained import drawn_state, untrained

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")

from jaxgen.interop import onnx_programs, onnx_rules  # noqa: E402
from jaxgen.interop.onnx_uses import Use, uses_of  # noqa: E402

# One preset for each kind of model, and its use; those of the other files are slow.
KINDS = {
    "dncnn-3": "restore",  # any size; colours by their own bicubic enlargement
    "espcn": "restore",  # super-resolution
    "cgan": "generate",
    "vae-conv": "decode",
    "flow": "denoise",
    "consistency": "generate",  # with noise in each of its steps
    "stargan": "translate",
}
FAMILIES = "restoration", "super_resolution", "translation", "gan", "vae", "diffusion"
OTHERS = [name for family in FAMILIES for name in zoo.family(family) if name in FIRST]
REFUSED = {
    ("gatys", "translate"): "one fixed image",
    ("mae", "generate"): "operation scatter",
}
# Fourier features multiply a difference in the last bit by 800 in each step.
CHAOTIC = {("vdm", "generate")}


@cache
def nets_of(name: str):
    """Return the task and the nets of a tiny run; no vector is 0 or 1 throughout, so that each of them matters."""
    run = zoo.load(name).tiny
    task = run.model.task(run.steps)

    def moved(path, x):
        if not np.issubdtype(x.dtype, np.floating) or x.ndim > 1:
            return jnp.asarray(x)
        noise = np.random.default_rng(zlib.crc32(jax.tree_util.keystr(path).encode())).uniform(0.02, 0.1, x.shape)
        return jnp.asarray(x + noise, x.dtype)

    state = drawn_state(task, run.batch)
    state = state.replace(
        **{part: jax.tree_util.tree_map_with_path(moved, getattr(state, part)) for part in ("params", "extra", "ema")}
    )
    return task, averaged(state, {net: load() for net, load in task.frozen.items()})


def check(use: Use, path, name: str = "program", size=None) -> tuple[onnx_programs.Made, dict[str, float]]:
    made = onnx_programs.make(use, name, size)
    path.write_bytes(made.proto.SerializeToString())
    onnx.checker.check_model(str(path), full_check=True)
    return made, onnx_programs.compare(path, made)


@pytest.mark.parametrize("name, use", KINDS.items())
def test_a_model_of_each_kind_equals_jax(name, use, tmp_path):
    made, worst = check(uses_of(*nets_of(name))[use](), tmp_path / "x.onnx")
    assert max(worst.values()) < 2e-5 and not made.why and made.size is None


@pytest.mark.slow
@pytest.mark.usefixtures("plain_convolutions")  # of JAX's own program; ONNX's is made of the primitives
@pytest.mark.parametrize("name", OTHERS)
def test_every_use_of_one_preset_of_each_file_equals_jax_or_is_refused(name, tmp_path):
    task, nets = nets_of(name)
    for use, build in uses_of(task, nets).items():
        if (name, use) in REFUSED:
            with pytest.raises(InputError, match=REFUSED[name, use]):
                onnx_programs.make(build(), use)
            continue
        _, worst = check(build(), tmp_path / "x.onnx", use)
        if (name, use) not in CHAOTIC:
            assert max(worst.values()) < onnx_programs.TOLERANCE, (use, worst)
    nets_of.cache_clear()
    jax.clear_caches()


def run_model(proto, feeds: dict) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)


def test_the_noise_of_a_gan_is_its_latent_vector():
    task, nets = nets_of("cgan")
    made = onnx_programs.make(uses_of(task, nets)["generate"](), "generate")
    keys, label = jax.random.split(jax.random.key(3), 5), np.arange(5, dtype=np.int32)
    z = task.get(Latent).draw(keys, None)
    (image,) = run_model(made.proto, {"label": label, "noise": np.asarray(z)})
    ours = jax.jit(task.get(Transform).apply)(*nets, {"label": label}, keys)["image"]
    np.testing.assert_allclose(image, ours, atol=1e-5)
    assert np.abs(image[0] - image[1]).max() > 0.01
    assert made.draws[0].numbers == "uniform from -1 to 1"


def test_a_sampler_takes_the_noise_of_each_step():
    """Of a denoiser that is known, with sums in NumPy: D(x) = x / 2 in the "ve" frame."""
    taus = np.array([8.0, 4, 2, 1, 0])

    def apply(nets, inputs, keys):
        del nets, inputs
        start = taus[0] * rng.normal(jax.vmap(lambda key: rng.fold(key, "start"))(keys), (3,))
        return {"x": samplers.ancestral(lambda x, tau: x / 2, start, taus, keys)}

    made = onnx_programs.make(Use(apply, (), {}), "sampler")
    shapes = [(str(draw.shape), draw.numbers) for draw in made.draws]
    assert shapes == [("(b, 3)", "N(0, 1)"), ("(4, b, 3)", "N(0, 1)")]
    noise = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    (found,) = run_model(made.proto, {"noise_0": noise[0], "noise_1": noise[1:]})
    x = taus[0] * noise[0].astype(np.float64)
    for tau, after, new in zip(taus[:-1], taus[1:], noise[1:], strict=True):
        # q(x' | x, x0 = D): the posterior of a walk from x0 with variances tau^2.
        share = (after / tau) ** 2
        x = share * x + (1 - share) * x / 2 + after * np.sqrt(1 - share) * new
    np.testing.assert_allclose(found, x, rtol=1e-5, atol=1e-6)


def test_the_noise_of_keys_makes_the_same_samples():
    def function(inputs, keys):
        flip = jax.vmap(lambda key: jax.random.bernoulli(rng.fold(key, "flip"), 0.4, (3,)))(keys)
        which = jax.vmap(lambda key: jax.random.categorical(rng.fold(key, "which"), jnp.arange(3.0)))(keys)
        return {"y": inputs["x"] * flip + which[:, None] + rng.normal(keys, (3,))}

    keys, x = jax.random.split(jax.random.key(0), 4), np.ones((4, 3), np.float32)
    program = noise_inputs.with_noise(function, {"x": x}, keys)
    noise = jax.jit(noise_inputs.noise_of(function))({"x": x}, keys)
    (y,) = jax.jit(jaxpr_as_fun(program.jaxpr))(x, *noise)
    np.testing.assert_array_equal(y, jax.jit(function)({"x": x}, keys)["y"])
    assert "key<" not in str(program.jaxpr) and len(program.draws) == 3


@pytest.mark.parametrize(
    "draw, word",
    [
        (lambda key: jax.random.bits(key, (2,)).astype(jnp.float32), "by another function"),
        (
            lambda key: lax.cond(key.shape == (), lambda: jax.random.normal(key, (2,)), lambda: jnp.zeros(2)),
            "in a cond",
        ),
        (
            lambda key: lax.while_loop(lambda x: x.sum() < 1, lambda x: x + jax.random.normal(key, (2,)), jnp.zeros(2)),
            "in a while",
        ),
    ],
)
def test_other_draws_are_refused(draw, word):
    function = lambda inputs, keys: {"y": draw(keys)}  # noqa: E731
    with pytest.raises(InputError, match=word):
        noise_inputs.with_noise(function, {}, jax.random.key(0))


# ---------------------------------------------------------------- operations

IMAGE = (2, 6, 5, 4)
SIMPLE = {
    "strided convolution": lambda x: conv.conv(x, WEIGHTS(3, 3, 4, 6), (2, 2)),
    "grouped, dilated": lambda x: conv.conv(x, WEIGHTS(3, 3, 2, 6), dilation=(2, 2), groups=2),
    "cropped": lambda x: conv.conv(x, WEIGHTS(3, 3, 4, 2), padding=((-1, 2), (1, 0))),
    "traced kernel": lambda x: conv.conv(x, x[0, :3, :3, :, None] * x[1, :3, :3, None]),
    "transposed convolution": lambda x: conv.conv_transpose(x, WEIGHTS(4, 4, 4, 3), (2, 2)),
    "with output padding": lambda x: conv.conv_transpose(x, WEIGHTS(3, 3, 4, 3), (2, 2), ((1, 0), (1, 0))),
    "plain convolution": lambda x: lax.conv_general_dilated(
        x, WEIGHTS(3, 3, 4, 2), (1, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    ),
    "upfirdn": lambda x: upfirdn2d(x, (1, 3, 3, 1), up=2, pad=(2, 1)),
    "long filter": lambda x: upfirdn2d(x, (1, 2, 3, 4, 3, 2, 1), down=2, pad=(3, 3)),
    "matrix products": lambda x: jnp.einsum("bhwc,bhvc->bhwv", x, x) @ jnp.ones((5, 2)),
    "another product": lambda x: jnp.einsum("bhwc,bhwd->bcd", x, 2 * x),
    "transposed product": lambda x: lax.dot_general(x, WEIGHTS(7, 4), (((3,), (1,)), ((), ()))),
    "norm": lambda x: (x - x.mean((1, 2), keepdims=True)) * lax.rsqrt(x.var((1, 2), keepdims=True) + 1e-5),
    "softmax": lambda x: jax.nn.softmax(x, 1) + jax.nn.gelu(x, approximate=False) + jax.nn.elu(x),
    "rounding": lambda x: jnp.round(3 * x) + jnp.floor(x) + jnp.ceil(x) + lax.rem(5 * x, jnp.full_like(x, 2)),
    "powers": lambda x: x**3 + jnp.abs(x) ** 0.3 + 1 / (x + 3) ** 2 + lax.integer_pow(x + 3, -1) + lax.exp2(x),
    "logs": lambda x: jnp.log1p(jnp.abs(x)) + jnp.sign(x) + lax.erfc(x) + jnp.clip(x, -0.3, 0.4),
    "logic": lambda x: (((x > 0) & (x < 0.5)) | ~(x != 0.2)).astype(jnp.float32) + (x > 0).any(1, keepdims=True),
    "all": lambda x: (x > -0.9).all(2) ^ (x[:, :, 0] > 0),
    "argmax": lambda x: jnp.argmax(x, 2) + jnp.argmin(x, 2),
    "cumsum": lambda x: jnp.cumsum(x, 1) + jnp.cumsum(x[:, ::-1], 1),
    "max pool": lambda x: lax.slice_in_dim(x, 0, 5, 2, 1).max(3),
    "sum of windows": lambda x: lax.reduce_window(
        x, 0.0, lax.add, (1, 3, 2, 1), (1, 2, 1, 1), ((0, 0), (1, 1), (0, 1), (0, 0))
    ),
    "padding": lambda x: lax.pad(x, 0.5, ((0, 0, 0), (1, 2, 1), (-1, 2, 2), (0, -1, 0))),
    "reflection": lambda x: jnp.pad(x, ((0, 0), (2, 3), (1, 1), (0, 0)), "reflect"),
    "edges": lambda x: jnp.pad(x, ((0, 0), (2, 1), (0, 2), (0, 0)), "edge"),
    "roll": lambda x: jnp.roll(x, (-2, 1), (1, 2)),
    "sort": lambda x: jnp.sort(x, 1) + jnp.argsort(x, 1) + lax.top_k(x, 2)[0].sum(-1, keepdims=True),
    "take": lambda x: jnp.take(x, jnp.argmax(x[0, 0], 0), axis=2),
    "pairs of indices": lambda x: x[:, jnp.argmax(x[0, :, :, 0], 0)[:, None] % 3, jnp.arange(3)[None]],
    "rows": lambda x: jax.vmap(lambda row, i: row[i, :, i[0] % 4])(x, jnp.argmax(x[:, :, :, 0], 1)[:, :2]),
    "along an axis": lambda x: jnp.take_along_axis(x, jnp.argsort(x, 2), 2),
    "dynamic slice": lambda x: lax.dynamic_slice(x, (0, jnp.argmax(x[0, :, 0, 0]), 0, 0), (2, 3, 5, 4)),
    "update": lambda x: lax.dynamic_update_slice(x, jnp.ones((2, 2, 5, 4)), (0, jnp.argmax(x[0, :, 0, 0]), 0, 0)),
    "split and stack": lambda x: jnp.stack([jnp.split(x, 2, 3)[0], 2 * jnp.split(x, 2, 3)[1]]),
    "iota": lambda x: x * jnp.arange(5.0)[None, None, :, None] + lax.broadcasted_iota(jnp.float32, (2, 6, 5, 4), 1),
    "scan": lambda x: lax.scan(lambda c, row: (0.5 * c + row, c * row), x[0], x, reverse=True),
    "scan of nothing": lambda x: lax.scan(lambda c, _: (0.5 * c + 1, None), x, None, 3)[0],
    "cond": lambda x: lax.cond(x.sum() > 100, lambda x: x + 1, lambda x: x * 2, x),
    "while": lambda x: lax.while_loop(lambda y: y.sum() < 300, lambda y: y * 2 + x**2, x),
    "resize": lambda x: resample.resize(x, (9, 4)),
}  # fmt: skip


def WEIGHTS(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("name", SIMPLE)
def test_an_operation_equals_jax(name):
    x = np.random.default_rng(0).uniform(-1, 1, IMAGE).astype(np.float32)
    ours = jax.tree.leaves(jax.jit(SIMPLE[name])(x))
    program = jax.make_jaxpr(SIMPLE[name])(x)
    outputs = [f"y{i}" for i in range(len(ours))]
    proto = onnx_rules.convert(program, ["x"], outputs, "operation")
    onnx.checker.check_model(proto, full_check=True)
    for a, b in zip(ours, run_model(proto, {"x": x}), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("edges", ["reflect", "renormalise"])
@pytest.mark.parametrize("method", ["bicubic", "bilinear", "lanczos3"])
def test_an_image_of_unknown_size_is_enlarged_as_one_of_known_size(method, edges):
    x = np.random.default_rng(0).uniform(-1, 1, (2, 7, 9, 3)).astype(np.float32)

    def apply(nets, given, keys):
        size = tuple(3 * n for n in given["x"].shape[1:3])
        return {"y": resample.resize(given["x"], size, method, edges=edges)}

    made = onnx_programs.make(Use(apply, (), {"x": ArraySpec("image", ("h", "w", 3))}), "enlarge")
    assert made.size is None, made.why
    (found,) = run_model(made.proto, {"x": x})
    np.testing.assert_allclose(found, resample.resize(jnp.asarray(x), (21, 27), method, edges=edges), atol=2e-6)


# ---------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return untrained(tmp_path_factory.mktemp("onnx") / "run", "restoration", "dncnn")


def test_the_command_writes_a_model_that_says_what_it_takes(run, cli):
    printed = cli(0, "export", run, "--to", "onnx")
    path = run / "export" / "restore.onnx"
    assert "takes degraded [b, h, w, 3]: image in [-1, 1]" in printed and "opset 18" in printed
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    assert about["preset"] == "dncnn" and about["license"] == "unknown" and about["size"] == "any"
    assert json.loads(about["inputs"]) == {"degraded": "image in [-1, 1]"}
    for shape in ((1, 17, 30, 3), (2, 24, 16, 3)):
        assert session.run(None, {"degraded": np.zeros(shape, np.float32)})[0].shape == shape
    assert "exists already" in cli(2, "export", run, "--to", "onnx")
    cli(0, "export", run, "--to", "onnx", "--size", "16", "24", "--overwrite")
    assert "[b, 16, 24, 3]" in str(onnxruntime.InferenceSession(str(path)).get_inputs()[0]).replace("'b'", "b")


def test_a_model_that_differs_is_not_written(run, cli, tmp_path, monkeypatch):
    monkeypatch.setitem(onnx_rules.RULES, "max", lambda g, eqn, a, b: g.op("Min", a, b))
    said = cli(2, "export", run, "--to", "onnx", "--out", tmp_path / "x.onnx")
    assert "ONNX Runtime's image differs from JAX's by" in said and "nothing is written" in said
    assert not list(tmp_path.iterdir())


def test_mistakes_get_a_sentence(run, cli, monkeypatch):
    onnx_options = ("export", run, "--to", "onnx", "--overwrite")
    assert "--program, --size and --scale are for --to onnx" in cli(2, "export", run, "--to", "torch", "--scale", "2")
    assert "name one with --program" in cli(2, *onnx_options, "--net", "restorer")
    assert "'restored': did you mean 'restore'?" in cli(2, *onnx_options, "--program", "restored")
    assert "--scale must be 1 for this model, not 2" in cli(2, *onnx_options, "--scale", "2")
    assert "--size must be" in cli(2, *onnx_options, "--size", "0", "8")
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert "pip install jaxgen[onnx]" in cli(2, *onnx_options)
