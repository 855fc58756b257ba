"""The masked autoencoder against PyTorch: a layer, the whole net built from torch.nn, the published model's size."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.core.types import Params
from jaxgen.interop.entries import to_ours
from jaxgen.interop.weight_names import rule_of
from jaxgen.models.vae.mae import MAE
from jaxgen.nn.transformer import Layer, sin_cos_positions, to_patches

pytestmark = pytest.mark.parity
torch: Any = pytest.importorskip("torch")
nn = torch.nn


def layer(width: int, heads: int) -> Any:
    return nn.TransformerEncoderLayer(
        width, heads, 4 * width, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )


class Reference(nn.Module):
    """The nets of a masked autoencoder of square images, built from torch's modules."""

    def __init__(self, m: MAE):
        super().__init__()
        self.m = m
        self.patch_embed = nn.Conv2d(m.image[2], m.width, m.patch, m.patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, m.width))
        self.blocks = nn.ModuleList([layer(m.width, m.heads) for _ in range(m.depth)])
        self.norm = nn.LayerNorm(m.width, 1e-6)
        self.decoder_embed = nn.Linear(m.width, m.decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, m.decoder_width))
        self.decoder_blocks = nn.ModuleList([layer(m.decoder_width, m.decoder_heads) for _ in range(m.decoder_depth)])
        self.decoder_norm = nn.LayerNorm(m.decoder_width, 1e-6)
        self.decoder_pred = nn.Linear(m.decoder_width, m.patch**2 * m.image[2])

    def forward(self, image: Any, hidden: Any) -> tuple[Any, Any]:
        """(image [1 c h w], masked bool[n]) -> tokens of the visible patches in order, predictions of all patches."""
        m = self.m
        place = lambda width: torch.from_numpy(sin_cos_positions(m.rows, m.columns, width))[None]  # noqa: E731
        x = self.patch_embed(image).flatten(2).mT + place(m.width)
        x = torch.cat([self.cls_token, x[:, ~hidden]], 1)
        for block in self.blocks:
            x = block(x)
        tokens = self.norm(x)
        x = self.decoder_embed(tokens)
        full = self.mask_token.repeat(1, m.patch_count, 1)
        full[:, ~hidden] = x[:, 1:]
        x = torch.cat([x[:, :1], full + place(m.decoder_width)], 1)
        for block in self.decoder_blocks:
            x = block(x)
        return tokens, self.decoder_pred(self.decoder_norm(x))[:, 1:]


NAMES = {  # torch's default, as the authors'
    "self_attn.in_proj_": "attn.qkv.",
    "self_attn.out_proj": "attn.proj",
    "linear1": "mlp.fc1",
    "linear2": "mlp.fc2",
    "patch_embed": "patch_embed.proj",
}


def published(net: Any) -> dict[str, np.ndarray]:
    """Return the net's weights with the authors' names; the layers of a stack are one array."""
    found: dict[str, Any] = {}
    for stack in ("blocks", "decoder_blocks"):
        weights, _ = torch.func.stack_module_state(list(getattr(net, stack)))
        found |= {f"{stack}.{name}": x for name, x in weights.items()}
    found |= {name: x for name, x in net.named_parameters() if "blocks" not in name}
    for theirs, name in NAMES.items():
        found = {key.replace(theirs, name): x for key, x in found.items()}
    return {name: x.detach().numpy() for name, x in found.items()}


def randomised(net: Any) -> Any:
    torch.manual_seed(0)
    for name, x in net.named_parameters():
        x.data = torch.randn_like(x) * (0.3 if x.ndim > 1 else 0.1) + (
            1.0 if "norm" in name and "weight" in name else 0
        )
    return net


def ours(model: MAE, net: Any) -> Params:
    like, _ = jax.eval_shape(lambda: model.init(jax.random.key(0)))
    weights = published(net)
    decoder = {name: x for name, x in weights.items() if name.startswith(("decoder", "mask"))}
    encoder = {name: x for name, x in weights.items() if name not in decoder}
    both = {"encoder": encoder, "decoder": decoder}
    return {n: to_ours(rule_of("mae"), model, n, {"params": like[n]}, x)["params"] for n, x in both.items()}


def test_a_layer_equals_torchs():
    net = randomised(layer(24, 3))
    x = np.random.default_rng(0).normal(size=(2, 7, 24)).astype(np.float32)
    arrays = {name: p.detach().numpy() for name, p in net.named_parameters()}
    dense = lambda w, b: {"kernel": arrays[w].T, "bias": arrays[b]}  # noqa: E731
    norm = lambda name: {"scale": arrays[f"{name}.weight"], "bias": arrays[f"{name}.bias"]}  # noqa: E731
    params = {
        "attn": {
            "qkv": dense("self_attn.in_proj_weight", "self_attn.in_proj_bias"),
            "proj": dense("self_attn.out_proj.weight", "self_attn.out_proj.bias"),
        },
        "mlp": {name: dense(f"{t}.weight", f"{t}.bias") for name, t in (("fc1", "linear1"), ("fc2", "linear2"))},
        "norm1": norm("norm1"),
        "norm2": norm("norm2"),
    }
    found: Any = Layer(3).apply({"params": params}, x)
    want = net(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(found, want, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("channels", [1, 3])
def test_the_whole_net_equals_torchs(channels):
    model = MAE((12, 20, channels), 4, 24, 3, 3, 16, 2, 2, mask=0.6)
    net = randomised(Reference(model))
    params = ours(model, net)
    x = np.random.default_rng(0).uniform(-1, 1, (4, *model.image)).astype(np.float32)
    shown, _ = model.split_patches(jax.random.split(jax.random.key(0), 4))
    shown = jnp.sort(shown, 1)  # torch's net takes them in order
    tokens = model.tokens(params, to_patches(jnp.asarray(x), 4), shown)
    predicted = model.decode_patches(params, tokens, shown)
    for i in range(4):
        hidden = torch.ones(model.patch_count, dtype=torch.bool)
        hidden[shown[i].tolist()] = False
        want = [y.detach().numpy()[0] for y in net(torch.from_numpy(x[i : i + 1]).permute(0, 3, 1, 2), hidden)]
        for found, true in zip((tokens[i], predicted[i]), want, strict=True):
            np.testing.assert_allclose(found, true, atol=2e-5 * np.abs(true).max())


def test_the_base_model_has_the_published_number_of_parameters():
    preset = zoo.load("mae-base")
    with torch.device("meta"):
        net = Reference(preset.run.model)
    assert sum(p.numel() for p in net.parameters()) == preset.parameters  # fixed position embeddings are no parameters
