"""Models that generate clips, beside PyTorch nets with the published structure and names."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.core import rng
from jaxgen.core.capabilities import Transform
from jaxgen.core.types import Context
from jaxgen.interop.weight_names import rule_of, to_theirs
from jaxgen.models.video._autoencoders import AxialAttention
from jaxgen.models.video.stylegan_v import MotionCodes
from jaxgen.nn.backbones.latte import Latte
from jaxgen.nn.transformer import sin_cos_positions
from tests.helpers.torch_twins import shaken

torch: Any = pytest.importorskip("torch")
nn: Any = torch.nn
pytestmark = pytest.mark.parity
RNG = np.random.default_rng(0)


def tensors(preset: str, model: Any, net: str, variables: Any) -> dict[str, Any]:
    found = to_theirs(rule_of(preset), model, net, variables)
    return {name: torch.from_numpy(np.array(x)) for name, x in found.items()}


def test_mocogan():
    """16x16 frames: two stages, with batch norm in both discriminators. Used as it is when samples are drawn."""
    model = replace(zoo.load("mocogan").tiny.model, image=(16, 16, 3), frames=7, categories=3)
    m, w = model.motion, model.width
    theirs = nn.Module()
    theirs.recurrent = nn.GRUCell(m, m)
    up = lambda a, b: nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False)  # noqa: E731
    first = nn.ConvTranspose2d(model.content + 3 + m, 2 * w, 4, 1, 0, bias=False)
    layers = [first, nn.BatchNorm2d(2 * w), nn.ReLU(), up(2 * w, w), nn.BatchNorm2d(w), nn.ReLU(), up(w, 3), nn.Tanh()]
    theirs.main = nn.Sequential(*layers)
    flat = lambda a, b: nn.Conv2d(a, b, 4, 2, 1, bias=False)  # noqa: E731
    deep = lambda a, b: nn.Conv3d(a, b, 4, (1, 2, 2), (0, 1, 1), bias=False)  # noqa: E731
    noise, leaky = nn.Identity(), nn.LeakyReLU(0.2)
    judge = nn.Module()
    judge.image_main = nn.Sequential(noise, flat(3, w), leaky, noise, flat(w, 1))
    judge.video_main = nn.Sequential(
        *(noise, deep(3, w), leaky, noise, deep(w, 2 * w), nn.BatchNorm3d(2 * w), leaky),
        nn.Conv3d(2 * w, 4, (1, 4, 4), bias=False),
    )

    task = model.task(1)
    params, extra = task.init(jax.random.key(0), None)
    params = shaken(params)
    both = {net: {"params": params[net], **extra[net]} for net in params}
    theirs.load_state_dict(tensors("mocogan", model, "generator", both["generator"]))
    judge.load_state_dict(tensors("mocogan", model, "discriminator", both["discriminator"]))
    theirs.eval()
    judge.eval()

    game = task.phases[0].loss.__self__  # pyright: ignore
    z = np.asarray(model.draw(jax.random.split(jax.random.key(1), 2)))
    ours = np.asarray(jax.jit(lambda v, z: game.generator.apply(v, z, train=False))(both["generator"], z))
    content, motion, category = (torch.from_numpy(np.array(x)) for x in model.parts(z))
    h, *noises = motion.reshape(2, 8, m).unbind(1)
    frames = []
    for e in noises:
        h = theirs.recurrent(e, h)
        frames.append(theirs.main(torch.cat([content, category, h], 1)[:, :, None, None]))
    clip = torch.stack(frames, 2)  # [b c t h w]
    np.testing.assert_allclose(ours, clip.permute(0, 2, 3, 4, 1).detach().numpy(), atol=1e-5)

    logits, heads = jax.jit(lambda v, x: game.discriminator.apply(v, x, train=False))(both["discriminator"], ours)
    image, video = judge.image_main(clip[:, :, 0]), judge.video_main(clip)[:, :, :, 0, 0]
    np.testing.assert_allclose(logits["image"], image[:, 0].detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(logits["video"], video[:, 0].detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(heads["category"], video[:, 1:].mean(2).detach().numpy(), atol=1e-5)


def cells(n: int, hidden: int, out: int, layers: int, gaussian: bool):
    net = nn.Module()
    net.embed, net.lstm = nn.Linear(n, hidden), nn.ModuleList(nn.LSTMCell(hidden, hidden) for _ in range(layers))
    if gaussian:
        net.mu_net, net.logvar_net = nn.Linear(hidden, out), nn.Linear(hidden, out)
    else:
        net.output = nn.Sequential(nn.Linear(hidden, out), nn.Tanh())
    return net


def run(net, states: list, x):
    """One step of the published LSTMs; `states` is changed in place."""
    x = net.embed(x)
    for i, cell in enumerate(net.lstm):
        states[i] = cell(x, states[i])
        x = states[i][0]
    return net.output(x) if hasattr(net, "output") else (net.mu_net(x), net.logvar_net(x))


def test_svg_lp():
    """The loss and its gradients, with the statistics of the batch; then the frames that are predicted."""
    model = replace(zoo.load("svg-lp").tiny.model, width=4, features=6, latent=3, hidden=5, layers=2, beta=0.1)
    w, f, z, h, c = model.width, model.features, model.latent, model.hidden, 1
    block = lambda layer, n: nn.Sequential(layer, nn.BatchNorm2d(n), nn.LeakyReLU(0.2))  # noqa: E731
    down = lambda a, b: nn.ModuleDict({"main": block(nn.Conv2d(a, b, 4, 2, 1), b)})  # noqa: E731
    up = lambda a, b: nn.ModuleDict({"main": block(nn.ConvTranspose2d(a, b, 4, 2, 1), b)})  # noqa: E731
    net = nn.Module()
    e = net.encoder = nn.Module()
    e.c1, e.c2 = down(c, w), down(w, 2 * w)
    e.c3 = nn.Sequential(nn.Conv2d(2 * w, f, 4), nn.BatchNorm2d(f), nn.Tanh())
    d = net.decoder = nn.Module()
    d.upc1, d.upc2 = block(nn.ConvTranspose2d(f, 2 * w, 4), 2 * w), up(4 * w, w)
    d.upc3 = nn.Sequential(nn.ConvTranspose2d(2 * w, c, 4, 2, 1), nn.Sigmoid())
    net.frame_predictor = cells(f + z, h, f, 2, False)
    net.posterior, net.prior = cells(f, h, z, 1, True), cells(f, h, z, 1, True)

    def encode(x):
        one = e.c1["main"](x)
        two = e.c2["main"](one)
        return e.c3(two)[:, :, 0, 0], (one, two)

    def decode(g, skips):
        x = d.upc2["main"](torch.cat([d.upc1(g[:, :, None, None]), skips[1]], 1))
        return d.upc3(torch.cat([x, skips[0]], 1))

    task = model.task(1)
    params, extra = task.init(jax.random.key(0), None)
    params = shaken(params)
    clip = RNG.uniform(-1, 1, (2, 5, 16, 16, 1)).astype(np.float32)
    batch, key = {"past": clip[:, :3], "future": clip[:, 3:]}, jax.random.key(1)
    context = Context(extra=extra, ema={}, frozen={}, step=jnp.int32(1))
    loss = jax.jit(jax.value_and_grad(lambda p: task.phases[0].loss(p, context, batch, key)[0]))
    value, grads = loss(params)
    net.load_state_dict(
        tensors("svg-lp", model, "predictor", {"params": params["predictor"], **extra["predictor"]}), strict=True
    )
    x = torch.from_numpy((np.moveaxis(clip, -1, 2) + 1) / 2)  # [b T c h w]
    noise = torch.from_numpy(np.array(rng.normal(jax.random.split(key, 2), (4, z))))
    features, skips = encode(x.flatten(0, 1))
    features = features.unflatten(0, (2, 5))
    zero = lambda layers: [(torch.zeros(2, h), torch.zeros(2, h)) for _ in range(layers)]  # noqa: E731
    kl: Any = 0
    q, p, g, codes = zero(1), zero(1), zero(2), []
    for t in range(4):
        (mean, log_var), (own, own_log) = run(net.posterior, q, features[:, t + 1]), run(net.prior, p, features[:, t])
        drawn = mean + torch.exp(log_var / 2) * noise[:, t]
        codes.append(run(net.frame_predictor, g, torch.cat([features[:, t], drawn], 1)))
        one, other = torch.exp(log_var / 2), torch.exp(own_log / 2)
        normal = torch.distributions.Normal
        kl = kl + torch.distributions.kl_divergence(normal(mean, one), normal(own, other)).sum(1)
    at = [0, 1, 2, 2]
    given = [s.unflatten(0, (2, 5))[:, at].flatten(0, 1) for s in skips]
    made = decode(torch.stack(codes, 1).flatten(0, 1), given).unflatten(0, (2, 4))
    theirs = 4 * torch.square(made - x[:, 1:]).mean() + 0.1 * kl.mean()
    theirs.backward()
    np.testing.assert_allclose(float(value), theirs.item(), rtol=1e-5)
    for name, own in tensors("svg-lp", model, "predictor", {"params": grads["predictor"]}).items():
        right = net.get_parameter(name).grad
        assert (own - right).abs().max() <= 1e-5 * max(1, float(right.abs().max())), name

    net.eval()
    net.load_state_dict(tensors("svg-lp", model, "predictor", {"params": params["predictor"], **extra["predictor"]}))
    keys = jax.random.split(key, 2)
    apply = jax.jit(task.get(Transform).apply)
    ours = np.asarray(apply(params, context, {"past": clip[:, :3]}, keys)["future"])
    noise = torch.from_numpy(np.array(rng.normal(jax.vmap(lambda k: rng.fold(k, "z"))(keys), (4, z))))
    q, p, g, frame, frames, skips = zero(1), zero(1), zero(2), None, [], ()
    for t in range(4):
        code, maps = encode(x[:, t] if t < 3 else frame)
        skips = maps if t < 3 else skips
        mean, log_var = run(net.prior, p, code)
        if t < 2:
            mean, log_var = run(net.posterior, q, encode(x[:, t + 1])[0])
        drawn = mean + torch.exp(log_var / 2) * noise[:, t]
        frame = decode(run(net.frame_predictor, g, torch.cat([code, drawn], 1)), skips)
        frames.append(frame)
    right = torch.stack(frames[2:], 1).permute(0, 1, 3, 4, 2).detach().numpy()
    np.testing.assert_allclose((ours + 1) / 2, right, atol=1e-5)


def test_latte():
    """Blocks over space and time in turn; the position in time is added once, after the first block over space."""
    frames, side, width, heads, patch = 3, 4, 8, 2, 2
    net = Latte(2, patch, width, 4, heads)
    x, t = RNG.normal(size=(2, frames, side, side, 3)).astype(np.float32), np.array([3.0, 700.0], np.float32)
    params = shaken(jax.jit(net.init)(jax.random.key(0), x, t))["params"]
    ours = np.asarray(jax.jit(net.apply)({"params": params}, x, t))
    tree = jax.tree.map(lambda v: torch.from_numpy(np.array(v)), params)
    line = lambda p, x: x @ p["kernel"] + p["bias"]  # noqa: E731
    bare = lambda x: nn.functional.layer_norm(x, (width,), eps=1e-6)  # noqa: E731

    def block(p, x, c):
        shift1, scale1, gate1, shift2, scale2, gate2 = line(p["adaLN_modulation_1"], c)[:, None].chunk(6, -1)
        y = line(p["attn"]["qkv"], bare(x) * (1 + scale1) + shift1)
        q, k, v = y.unflatten(2, (3, heads, -1)).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + gate1 * line(p["attn"]["proj"], y)
        y = line(p["mlp"]["fc1"], bare(x) * (1 + scale2) + shift2)
        return x + gate2 * line(p["mlp"]["fc2"], nn.functional.gelu(y, approximate="tanh"))

    slow = torch.from_numpy(10000.0 ** -(np.arange(128) / 128)).float()
    angles = torch.from_numpy(t)[:, None] * slow
    c = torch.cat([angles.cos(), angles.sin()], 1)
    c = nn.functional.silu(line(tree["t_embedder"]["fc2"], nn.functional.silu(line(tree["t_embedder"]["fc1"], c))))
    rows = side // patch
    y = (
        torch.from_numpy(x)
        .reshape(2 * frames, rows, patch, rows, patch, 3)
        .transpose(2, 3)
        .reshape(2 * frames, rows**2, -1)
    )
    y = line(tree["x_embedder"], y) + torch.from_numpy(sin_cos_positions(rows, rows, width))
    at = np.arange(frames)[:, None] / 10000 ** (2 * np.arange(width // 2) / width)
    time = torch.from_numpy(np.concatenate([np.sin(at), np.cos(at)], 1)).float()
    for i in range(2):
        own = jax.tree.map(lambda v: v[i], tree["blocks"])  # noqa: B023
        y = block(own["space"], y, c.repeat_interleave(frames, 0))
        y = y.unflatten(0, (2, frames)).transpose(1, 2).flatten(0, 1)  # [b*n t c]
        y = block(own["time"], y + time if i == 0 else y, c.repeat_interleave(rows**2, 0))
        y = y.unflatten(0, (2, rows**2)).transpose(1, 2).flatten(0, 1)
    last = tree["final_layer"]
    shift, scale = line(last["adaLN_modulation_1"], c.repeat_interleave(frames, 0))[:, None].chunk(2, -1)
    y = line(last["linear"], bare(y) * (1 + scale) + shift)
    y = y.reshape(2, frames, rows, rows, patch, patch, 2).transpose(3, 4).reshape(2, frames, side, side, 2)
    np.testing.assert_allclose(ours, y.numpy(), atol=1e-5)


def test_attention_along_each_axis():
    """The published block: three of PyTorch's attentions, along width, height and time."""
    c, shape = 4, (2, 3, 5, 2, 4)
    x = RNG.normal(size=shape).astype(np.float32)
    for axis in (1, 2, 3):
        net = AxialAttention(axis)
        params = shaken(net.init(jax.random.key(0), x))["params"]
        theirs = nn.MultiheadAttention(c, 2, batch_first=True)
        with torch.no_grad():
            weights = [torch.from_numpy(np.array(params[name]["kernel"]).T) for name in ("w_qs", "w_ks", "w_vs")]
            theirs.in_proj_weight.copy_(torch.cat(weights))
            theirs.out_proj.weight.copy_(torch.from_numpy(np.array(params["fc"]["kernel"]).T))
            theirs.out_proj.bias.copy_(torch.from_numpy(np.array(params["fc"]["bias"])))
        lines = torch.from_numpy(x).movedim(axis, 3)
        y = lines.reshape(-1, shape[axis], c)
        right = theirs(y, y, y)[0].reshape(lines.shape).movedim(3, axis)
        np.testing.assert_allclose(jax.jit(net.apply)({"params": params}, x), right.detach().numpy(), atol=1e-5)


def test_motion_codes_of_stylegan_v():
    """Waves with predicted periods and phases, less the line through them, plus that of the predicted ends."""
    kernel, distance, waves, longest, d, frames = 2, 3, 4, 24, 5, 8
    net, noise = MotionCodes(kernel, distance, waves, longest), RNG.normal(size=(2, 7, d)).astype(np.float32)
    params = shaken(net.init(jax.random.key(0), noise, frames))["params"]
    ours = np.asarray(jax.jit(net.apply, static_argnums=2)({"params": params}, noise, frames))
    tree = jax.tree.map(lambda v: torch.from_numpy(np.array(v)), params)
    x = torch.from_numpy(noise).transpose(1, 2)  # [b d n]
    for i in range(2):  # kernels of conv1d, with equalised learning rates
        weight = tree[f"conv_{i}"]["kernel"].reshape(kernel, d, d).permute(2, 1, 0) * (0.01 / (kernel * d) ** 0.5)
        x = nn.functional.leaky_relu(nn.functional.conv1d(x, weight, 0.01 * tree[f"conv_{i}"]["bias"]), 0.2)
    x = x.transpose(1, 2)
    t = torch.arange(frames, dtype=torch.float32)
    start = t - t % distance
    left, right = x[:, (start / distance).long()], x[:, (start / distance).long() + 1]
    linear = lambda name, u: u @ tree[name]["kernel"] / d**0.5  # noqa: E731
    freqs = 2 * torch.pi / 2 ** torch.linspace(np.log2(distance), np.log2(longest), waves).flip(0)
    speed = freqs * (linear("periods_predictor", left).tanh() + 1)
    phase = linear("phase_predictor", left) * longest * freqs / (2 * torch.pi)

    def wave(time):
        angle = speed * time[None, :, None] + phase
        return torch.cat([angle.sin(), angle.cos()], 2)

    share = ((t % distance) / distance)[None, :, None]
    line = lambda a, b: a * (1 - share) + b * share  # noqa: E731
    ends = line(linear("aligners_predictor", left), linear("aligners_predictor", right))
    right_codes = wave(t) - line(wave(start), wave(start + distance)) + ends
    np.testing.assert_allclose(ours, right_codes.numpy(), atol=1e-5)
