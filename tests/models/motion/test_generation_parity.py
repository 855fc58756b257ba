"""The nets of generators of motion beside PyTorch's layers, with the same weights."""

from typing import Any

import jax
import numpy as np
import pytest

from jaxgen.models.motion.acrnn import ACRNNNet
from jaxgen.models.motion.action_gru import ActionGRUNet
from jaxgen.models.motion.mdm import MDMNet
from jaxgen.models.motion.motion_vae import MotionVAENet
from jaxgen.models.motion.mvae import MVAENet
from jaxgen.nn.sequence_transformer import positions

torch: Any = pytest.importorskip("torch")
nn: Any = torch.nn
pytestmark = pytest.mark.parity

WIDTH, HEADS, HIDDEN, DEPTH, C, CLASSES = 8, 2, 12, 2, 6, 3
DRAW = np.random.default_rng(0)
LABEL = np.asarray([2, 0, 1])


def tensor(x):
    return torch.from_numpy(np.array(x, np.float32))


def fill(layer: Any, own: Any):
    """Give a linear layer or a norm of PyTorch the arrays of ours."""
    weight = own["kernel"].T if "kernel" in own else own["scale"]
    layer.weight.data, layer.bias.data = tensor(weight), tensor(own["bias"])
    return layer


def linear(own: Any):
    return fill(nn.Linear(*own["kernel"].shape), own)


def transformer(stacked: Any, memory: bool):
    """Return PyTorch's layers with our weights; queries and keys of the memory, which we do not have, are random."""
    made = []
    for i in range(DEPTH):
        own = jax.tree.map(lambda x, i=i: x[i], stacked)
        kind = nn.TransformerDecoderLayer if memory else nn.TransformerEncoderLayer
        layer = kind(WIDTH, HEADS, HIDDEN, dropout=0.0, activation="gelu", batch_first=True)
        attention = own["self_attn"]
        layer.self_attn.in_proj_weight.data = tensor(attention["qkv"]["kernel"].T)
        layer.self_attn.in_proj_bias.data = tensor(attention["qkv"]["bias"])
        fill(layer.self_attn.out_proj, attention["proj"])
        if memory:
            layer.multihead_attn.in_proj_weight.data[2 * WIDTH :] = tensor(own["memory_value"]["kernel"].T)
            layer.multihead_attn.in_proj_bias.data[2 * WIDTH :] = tensor(own["memory_value"]["bias"])
            fill(layer.multihead_attn.out_proj, own["memory_proj"])
        for name in ("linear1", "linear2", "norm1", "norm2", *(["norm3"] if memory else [])):
            fill(getattr(layer, name), own[name])
        made.append(layer.train())  # in eval mode PyTorch takes another, fused, way
    return made


def ours(net: Any, *given: Any, **how: Any):
    """Return a net's answer and its weights."""
    shapes = jax.eval_shape(lambda: net.init(jax.random.key(0), *given))["params"]
    draw = np.random.default_rng(1)
    params = jax.tree.map(lambda x: draw.normal(0, 0.4, x.shape).astype(np.float32), shapes)
    return jax.jit(lambda p: net.apply({"params": p}, *given, **how))(params), params


def close(made: Any, true: Any):
    np.testing.assert_allclose(np.asarray(made), true.detach().numpy(), atol=1e-5, rtol=1e-5)


def test_motion_vae():
    x = DRAW.normal(size=(3, 5, C)).astype(np.float32)
    net = MotionVAENet(C, CLASSES, WIDTH, HEADS, HIDDEN, DEPTH, 0.0)
    (mean, log_var), p = ours(net, x, LABEL, method="encode")
    y = torch.cat(
        [torch.stack([tensor(p[f"{n}_token"][LABEL]) for n in ("mean", "log_var")], 1), linear(p["embed"])(tensor(x))],
        1,
    )
    y = y + tensor(positions(7, WIDTH))
    for layer in transformer(p["encoder"], False):
        y = layer(y)
    close(mean, y[:, 0])
    close(log_var, y[:, 1])
    z = DRAW.normal(size=(3, WIDTH)).astype(np.float32)
    made = jax.jit(lambda p: net.apply({"params": p}, z, LABEL, 9, method="decode"))(p)
    y, memory = tensor(positions(9, WIDTH)).expand(3, -1, -1), tensor(z + p["action_bias"][LABEL])[:, None]
    for layer in transformer(p["decoder"], True):
        y = layer(y, memory)
    close(made, linear(p["final"])(y))


def test_mdm():
    x, time = DRAW.normal(size=(3, 5, C)).astype(np.float32), np.asarray([0.0, 500.0, 999.0], np.float32)
    label = np.asarray([2, CLASSES, 1])  # the second is hidden
    net = MDMNet(C, CLASSES, WIDTH, HEADS, HIDDEN, DEPTH, 0.0)
    made, p = ours(net, x, time, label)
    half = WIDTH // 2
    angles = tensor(time)[:, None] * torch.exp(-np.log(10_000.0) * torch.arange(half) / half)
    token = linear(p["time"]["fc2"])(
        nn.functional.silu(linear(p["time"]["fc1"])(torch.cat([angles.cos(), angles.sin()], 1)))
    )
    action = torch.cat([tensor(p["action"]), torch.zeros(1, WIDTH)])[label]
    y = torch.cat([(token + action)[:, None], linear(p["embed"])(tensor(x))], 1) + tensor(positions(6, WIDTH))
    for layer in transformer(p["layers"], False):
        y = layer(y)
    close(made, linear(p["final"])(y[:, 1:]))


def cells(kind: Any, own: list[Any], into: int):
    """Return a stack of recurrent layers of PyTorch with the weights of our cells."""
    net = kind(into, WIDTH, len(own), batch_first=True)
    for i, cell in enumerate(own):
        for name in ("ih", "hh"):
            getattr(net, f"weight_{name}_l{i}").data = tensor(cell[name]["kernel"].T)
            getattr(net, f"bias_{name}_l{i}").data = tensor(cell[name]["bias"])
    return net


def test_action_gru():
    x = DRAW.normal(size=(3, 5, C)).astype(np.float32)
    made, p = ours(ActionGRUNet(WIDTH, 4, CLASSES), x)
    features = torch.tanh(linear(p["linear1"])(cells(nn.GRU, [p["gru_0"], p["gru_1"]], C)(tensor(x))[0][:, -1]))
    close(made["features"], features)
    close(made["logits"], linear(p["linear2"])(features))


def test_acrnn_reads_true_frames_and_its_own_in_turn():
    x, read = DRAW.normal(size=(3, 5, C)).astype(np.float32), np.asarray([True, True, False, False, True])
    made, p = ours(ACRNNNet(C, WIDTH, 3), x, read)
    net, out, state, frames = cells(nn.LSTM, [p[f"lstm_{i}"] for i in range(3)], C), linear(p["decoder"]), None, []
    for t in range(5):
        y, state = net((tensor(x)[:, t] if read[t] else frames[-1])[:, None], state)
        frames.append(out(y[:, 0]))
    close(made, torch.stack(frames, 1))


def test_mvae():
    last, now = DRAW.normal(size=(2, 3, C)).astype(np.float32)
    net = MVAENet(C, 4, WIDTH, 2, 5)
    (mean, log_scale), p = ours(net, last, now, method="encode")
    elu, f = nn.functional.elu, lambda name, *x: linear(p[name])(torch.cat(x, -1))
    x = torch.cat([tensor(now), tensor(last)], -1)
    y = elu(f("fc2", x, elu(f("fc1", x))))
    close(mean, f("mean", x, y))
    close(log_scale, f("log_var", x, y) / 2)
    made = jax.jit(lambda p: net.apply({"params": p}, last, mean, method="decode"))(p)
    z, y = tensor(mean), tensor(last)
    share = torch.softmax(f("gate3", elu(f("gate2", elu(f("gate1", z, y))))), -1)
    for i in range(3):
        kernel, bias = (torch.einsum("be,e...->b...", share, tensor(p[f"experts_{i}_{n}"])) for n in ("kernel", "bias"))
        y = torch.einsum("bn,bnm->bm", torch.cat([z, y], -1), kernel) + bias
        y = elu(y) if i < 2 else y
    close(made, y)
