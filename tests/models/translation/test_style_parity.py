"""Style transfer against PyTorch: the published net for the wave, Gram matrices and the games' losses."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.core.types import Context
from jaxgen.interop.read import read
from jaxgen.media import photo
from jaxgen.models.translation import gatys
from jaxgen.nn import style
from jaxgen.pretrained import backbones
from tests.helpers.capabilities import translate

pytestmark = pytest.mark.parity
torch: Any = pytest.importorskip("torch")
F = torch.nn.functional


# ---- the published net, by its variables' numbers; x [1 3 h w] from 0 to 255, the sides multiples of 4


def same(x: Any, kernel: int, stride: int) -> Any:
    """Pad as TensorFlow's "SAME" does."""
    pads = [max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:]]
    return F.pad(x, (pads[1] // 2, pads[1] - pads[1] // 2, pads[0] // 2, pads[0] - pads[0] // 2))


def fast_style(tensors: dict[str, np.ndarray], x: Any) -> Any:
    v = [torch.from_numpy(tensors[f"Variable_{i}" if i else "Variable"].copy()) for i in range(48)]

    def normed(x: Any, i: int) -> Any:
        mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), correction=0, keepdim=True)
        scale, shift = v[i + 2][:, None, None], v[i + 1][:, None, None]
        return scale * (x - mean) / torch.sqrt(var + 1e-3) + shift

    def conv(x: Any, i: int, stride: int = 1) -> Any:
        kernel = v[i].permute(3, 2, 0, 1)
        return normed(F.conv2d(same(x, kernel.shape[2], stride), kernel, stride=stride), i)

    def up(x: Any, i: int) -> Any:
        # [kh kw out in] -> [in out kh kw]; TensorFlow crops the last row and column of 2 h + 1
        return normed(F.conv_transpose2d(x, v[i].permute(3, 2, 0, 1), stride=2)[:, :, :-1, :-1], i)

    x = conv(x, 0).relu()
    x = conv(conv(x, 3, 2).relu(), 6, 2).relu()
    for i in range(9, 39, 6):
        x = x + conv(conv(x, i).relu(), i + 3)
    x = up(up(x, 39).relu(), 42).relu()
    return 150 * torch.tanh(conv(x, 45)) + 127.5


def test_the_wave_is_painted_as_by_its_reference(real_data, tmp_path, cli):
    """By the command as it is, to the rounding of 8 bits."""
    source, weights = real_data / "style/content/hoovertowernight.jpg", real_data / "weights/fast_style_wave.zip"
    cli(0, "stylize", source, "--with", weights, "--out", tmp_path / "made.png")
    pixels, made = photo.read(source).pixels, (photo.read(tmp_path / "made.png").pixels + 1) * 127.5
    height, width = pixels.shape[:2]
    padded = np.pad(pixels, ((0, -height % 4), (0, -width % 4), (0, 0)), "symmetric")
    x = torch.from_numpy((padded + 1) * 127.5).permute(2, 0, 1)[None]
    with torch.inference_mode():
        wanted = fast_style(read(weights), x)[0].permute(1, 2, 0).clamp(0, 255).numpy()[:height, :width]
    psnr = 10 * np.log10(255**2 / np.square(made - wanted).mean())
    assert psnr > 50
    apart = 10 * np.log10(255**2 / np.square(made - (pixels + 1) * 127.5).mean())
    assert apart < 20, "it is painted at all"


# ---- the backbone and what is asked of an image, in PyTorch


def torch_features(tensors: dict[str, Any], x: Any, layers: tuple[str, ...]) -> dict[str, Any]:
    """ST-LPIPS's VGG-16, x [b 3 h w] in [-1, 1]."""
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x, out, place = ((x + 1) / 2 - mean) / std, {}, 0
    taps = torch.tensor([1.0, 2, 1]) / 4
    blur = torch.outer(taps, taps)
    for stage, count in enumerate((2, 2, 3, 3, 3), 1):
        if stage > 1:
            x = F.pad(F.max_pool2d(x, 2, 1), (2, 2, 2, 2), mode="reflect")
            x = F.conv2d(x, blur.expand(x.shape[1], 1, 3, 3), stride=2, groups=x.shape[1])
            place += 2
        for i in range(1, count + 1):
            at = f"net.slice{stage}.{place}"
            x = F.conv2d(x, tensors[f"{at}.weight"], tensors[f"{at}.bias"], padding=1).relu()
            out[f"relu{stage}_{i}"] = x
            place += 2
            if set(layers) <= set(out):
                return out
    return out


def torch_gram(f: Any) -> Any:
    rows = f.flatten(2)  # [b c h*w]
    return rows @ rows.transpose(1, 2) / rows.shape[2]


def torch_apart(a: Any, b: Any) -> Any:
    return (a - b).square().sum() / b.square().sum()


def torch_targets(tensors: Any, model: gatys.Gatys, content: Any, style_image: Any) -> dict[str, Any]:
    """Return what Gatys's canvas is compared with: the content, its maps and the style's Gram matrices, x [1 3 h w]."""
    with torch.no_grad():
        clean, other = (torch_features(tensors, x, (*model.content, *model.style)) for x in (content, style_image))
    maps = {n: clean[n] for n in model.content} | {n: torch_gram(other[n]) for n in model.style}
    return maps | {"content": content}


def torch_loss(tensors: Any, model: gatys.Gatys, canvas: Any, wanted: dict[str, Any]) -> Any:
    """Return the loss of Gatys's canvas [1 3 h w]."""
    made = torch_features(tensors, canvas, (*model.content, *model.style))
    near = sum(torch_apart(made[n], wanted[n]) for n in model.content) / len(model.content)
    like = sum(torch_apart(torch_gram(made[n]), wanted[n]) for n in model.style) / len(model.style)
    more = (canvas.diff(dim=axis).abs() - wanted["content"].diff(dim=axis).abs() for axis in (2, 3))
    rough = sum(x.relu().square().mean() for x in more)
    return model.content_weight * near + model.style_weight * like + model.smooth_weight * rough


def backbone_tensors() -> dict[str, Any]:
    from jaxgen.pretrained import perceptual_distances

    return {name: torch.from_numpy(np.array(x)) for name, x in read(perceptual_distances.st_lpips_file("vgg")).items()}


def nchw(x: np.ndarray) -> Any:
    return torch.from_numpy(np.moveaxis(x, -1, 0).copy())[None]


def test_gatys_loss_and_its_slope():
    model = gatys.Gatys(image=(40, 48, 3))
    rng = np.random.default_rng(0)
    content, style_image, canvas = (
        rng.uniform(-1, 1, s).astype(np.float32) for s in ((40, 48, 3), (36, 44, 3), (40, 48, 3))
    )
    backbone = backbones.load("vgg16")

    @jax.jit
    def ours(backbone: backbones.Backbone, x: Any) -> Any:
        targets = model.targets(backbone, [jnp.asarray(style_image)])
        return jax.value_and_grad(lambda x: model.loss(x[None], {"image": content[None]}, backbone, targets)[0])(x)

    value, slope = ours(backbone, canvas)
    x = nchw(canvas).requires_grad_()
    tensors = backbone_tensors()
    theirs = torch_loss(tensors, model, x, torch_targets(tensors, model, nchw(content), nchw(style_image)))
    theirs.backward()
    assert float(value) == pytest.approx(float(theirs.detach()), rel=1e-4)
    wanted = x.grad[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(slope, wanted, atol=1e-3 * np.abs(wanted).max())


def torch_decoder(params: Any, code: Any, sizes: list[tuple[int, int]], between: tuple[int, ...]) -> Any:
    count, x = 0, code

    def conv(x: Any) -> Any:
        nonlocal count
        layer = params[f"layer_{count}"]
        count += 1
        kernel, bias = (torch.from_numpy(np.array(layer[leaf])) for leaf in ("kernel", "bias"))
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), kernel.permute(3, 2, 0, 1), bias)

    def up(x: Any, size: tuple[int, int]) -> Any:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        top, left = ((a - b + 1) // 2 for a, b in zip(x.shape[2:], size, strict=True))
        return x[:, :, top : top + size[0], left : left + size[1]]

    for times, size in zip(between[::-1], sizes[::-1], strict=True):
        x = up(conv(x).relu(), size)
        for _ in range(times):
            x = conv(x).relu()
    return conv(x)


def torch_moments(x: Any) -> tuple[Any, Any]:
    return x.mean((2, 3), keepdim=True), (x.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()


def torch_adain(tensors: Any, params: Any, model: Any, content: Any, style_image: Any) -> Any:
    """Return the code and the image of AdaIN, x [b 3 h w] each."""
    maps, other = (torch_features(tensors, x, model.layers) for x in (content, style_image))
    [(m, s), (m2, s2)] = [torch_moments(f[model.layers[-1]]) for f in (maps, other)]
    t = (maps[model.layers[-1]] - m) / s * s2 + m2
    sizes = [tuple(maps[n].shape[2:]) for n in model.layers[:-1]]
    return t, torch_decoder(params["decoder"], t, sizes, model.between)


def test_adain_and_its_loss():
    from dataclasses import replace

    model = replace(zoo.load("adain").run.model, image=(40, 48, 3))
    task, tensors = model.task(1), backbone_tensors()
    params, extra = jax.jit(lambda: task.init(jax.random.key(0), {}))()
    rng = np.random.default_rng(0)
    x, y = (rng.uniform(-1, 1, (1, 40, 48, 3)).astype(np.float32) for _ in range(2))
    context = Context(extra, {}, {"backbone": backbones.load("vgg16")}, jnp.zeros((), jnp.int32))
    made = jax.jit(translate(task))(params, context, {"source": x, "style": y}, None, jnp.zeros(1, int))
    with torch.inference_mode():
        t, theirs = torch_adain(tensors, params, model, nchw(x[0]), nchw(y[0]))
        np.testing.assert_allclose(made[0], theirs[0].permute(1, 2, 0), atol=1e-3 * float(theirs.abs().max()))
        found, style_image = (torch_features(tensors, v, model.layers) for v in (theirs, nchw(y[0])))
        loss = (found[model.layers[-1]] - t).square().mean() / t.square().mean()
        for name in model.layers:
            ours, wanted = (torch.cat(torch_moments(maps[name])) for maps in (found, style_image))
            loss = loss + model.style_weight * (ours - wanted).square().mean() / wanted.square().mean()
    value, _ = jax.jit(task.phases[0].loss)(params, context, {"source": x, "image": y}, jax.random.key(0))
    assert float(value) == pytest.approx(float(loss), rel=1e-3)


def test_whitening_and_colouring_by_singular_values():
    """As the authors write it, by SVDs of both maps [c h*w]."""
    rng = np.random.default_rng(0)
    x, y = ((rng.normal(size=(60, 6)) @ rng.normal(size=(6, 6)) + 1).astype(np.float32) for _ in range(2))
    a, b = (torch.from_numpy(v.T.astype(np.float64)) for v in (x, y))
    means = [v.mean(1, keepdim=True) for v in (a, b)]
    (ec, dc, _), (es, ds, _) = (torch.linalg.svd((v - m) @ (v - m).T / 60) for v, m in zip((a, b), means, strict=True))
    white = ec @ torch.diag(dc**-0.5) @ ec.T @ (a - means[0])
    wanted = (es @ torch.diag(ds**0.5) @ es.T @ white + means[1]).T
    maps = [jnp.asarray(v.reshape(1, 6, 10, 6)) for v in (x, y)]
    made = style.colour(style.whiten(maps[0]), style.mean_covariance(maps[1]))
    np.testing.assert_allclose(made.reshape(60, 6), wanted, atol=2e-3 * float(wanted.abs().max()))


def test_the_folder_of_weights_is_where_the_net_says(real_data):
    """All 1,677,638 numbers are used, and none twice."""
    tensors = read(Path(real_data) / "weights/fast_style_wave.zip")
    assert sum(x.size for x in tensors.values()) == zoo.load("fast-style").parameters == 1_677_638
