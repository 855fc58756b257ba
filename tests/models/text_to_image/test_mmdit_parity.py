"""The MM-DiT against that of the diffusers library, with the same weights."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nn.backbones.mmdit import MMDiT
from tests.helpers import torch_reference
from tests.helpers.torch_twins import shaken

pytestmark = pytest.mark.parity
WIDTH, HEADS, DEPTH = 16, 2, 3


def library() -> Any:
    torch_reference.prepare()
    pytest.importorskip("diffusers")
    from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel  # pyright: ignore

    return SD3Transformer2DModel


def test_stable_diffusion_3_medium_has_as_many_parameters():
    torch: Any = pytest.importorskip("torch")
    net = MMDiT(16, 2, 1536, 24, 24, qk_norm=False)
    shapes = [(1, 16, 16, 16), (1,), (1, 7, 4096), (1, 7), (1, 2048)]
    found = jax.eval_shape(lambda key: net.init(key, *map(jnp.zeros, shapes)), jax.random.key(0))
    with torch.device("meta"):
        theirs = library()(
            sample_size=128, num_layers=24, num_attention_heads=24, caption_projection_dim=1536, pos_embed_max_size=192
        )
    ours = sum(x.size for x in jax.tree.leaves(found))
    assert ours == sum(p.numel() for p in theirs.parameters()) == 2_028_328_000


def test_it_computes_what_diffusers_computes():
    torch: Any = pytest.importorskip("torch")
    theirs = library()(
        sample_size=8, in_channels=3, num_layers=DEPTH, attention_head_dim=WIDTH // HEADS, num_attention_heads=HEADS,
        joint_attention_dim=5, caption_projection_dim=WIDTH, pooled_projection_dim=6, out_channels=3,
        pos_embed_max_size=4, qk_norm="rms_norm",
    )  # fmt: skip
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(2, 8, 8, 3)).astype(np.float32), np.asarray([3.0, 700.0], np.float32)
    text, whole = rng.normal(size=(2, 4, 5)).astype(np.float32), rng.normal(size=(2, 6)).astype(np.float32)
    net = MMDiT(3, 2, WIDTH, DEPTH, HEADS)
    given = (x, t, text, jnp.ones((2, 4), bool), whole)
    own = shaken(jax.jit(lambda key: net.init(key, *given)["params"])(jax.random.key(0)))
    state = {name: torch.from_numpy(np.array(value, np.float32)) for name, value in named(own).items()}
    missing, unexpected = theirs.load_state_dict(state, strict=False)
    unused = {"pos_embed.pos_embed", f"transformer_blocks.{DEPTH - 1}.attn.norm_added_q.weight"}
    assert set(missing) <= unused and unexpected == []
    with torch.no_grad():
        wanted = theirs.eval()(
            torch.from_numpy(x.transpose(0, 3, 1, 2)), torch.from_numpy(text), torch.from_numpy(whole),
            torch.from_numpy(t), return_dict=False,
        )[0].numpy()  # fmt: skip
    made = jax.jit(lambda p: net.apply({"params": p}, *given))(own)
    np.testing.assert_allclose(np.asarray(made).transpose(0, 3, 1, 2), wanted, atol=1e-5 * np.abs(wanted).max())
    half = jnp.asarray([[True, True, False, False]] * 2)  # tokens that do not count are as if they were not there
    cut = jax.jit(
        lambda p: [
            net.apply({"params": p}, x, t, y, seen, whole) for y, seen in ((text, half), (text[:, :2], half[:, :2]))
        ]
    )
    np.testing.assert_allclose(*cut(own), atol=1e-5)


def named(own: Any) -> dict[str, np.ndarray]:
    """Return our parameters by the names of diffusers, in its layout."""
    found: dict[str, np.ndarray] = {}

    def dense(name: str, layer: Any, swap: bool = False):
        kernel, bias = np.asarray(layer["kernel"]), np.asarray(layer["bias"])
        if swap:  # their order is scale, shift
            kernel, bias = (np.concatenate(np.split(v, 2, -1)[::-1], -1) for v in (kernel, bias))
        found[f"{name}.weight"], found[f"{name}.bias"] = kernel.T, bias

    patches = np.asarray(own["x_embedder"]["kernel"]).reshape(2, 2, 3, WIDTH)
    found["pos_embed.proj.weight"] = patches.transpose(3, 2, 0, 1)
    found["pos_embed.proj.bias"] = np.asarray(own["x_embedder"]["bias"])
    for i in (1, 2):
        dense(f"time_text_embed.timestep_embedder.linear_{i}", own["t_embedder"][f"fc{i}"])
        dense(f"time_text_embed.text_embedder.linear_{i}", own[f"y_embedder_fc{i}"])
    dense("context_embedder", own["context_embedder"])
    dense("norm_out.linear", own["final_layer"]["adaLN_modulation_1"], swap=True)
    dense("proj_out", own["final_layer"]["linear"])
    for i in range(DEPTH):
        last = i == DEPTH - 1
        block = own["last_block"] if last else jax.tree.map(lambda x, i=i: x[i], own["blocks"])
        at = f"transformer_blocks.{i}"
        for stream, norm, qkv, out, mlp, marks in (
            ("x", "norm1", ("to_q", "to_k", "to_v"), "to_out.0", "ff", ("norm_q", "norm_k")),
            ("context", "norm1_context", ("add_q_proj", "add_k_proj", "add_v_proj"), "to_add_out", "ff_context",
             ("norm_added_q", "norm_added_k")),
        ):  # fmt: skip
            ends = last and stream == "context"
            dense(f"{at}.{norm}.linear", block[f"{stream}_adaLN_modulation_1"], swap=ends)
            joined = block[f"{stream}_qkv"]
            for k, name in enumerate(qkv):
                part = {key: np.split(np.asarray(value), 3, -1)[k] for key, value in joined.items()}
                dense(f"{at}.attn.{name}", part)
            for key, name in zip("qk", marks, strict=True):
                if ends and key == "q":  # theirs norms the last text's queries, which nothing uses
                    continue
                found[f"{at}.attn.{name}.weight"] = np.asarray(block[f"{stream}_{key}_norm"]["scale"])
            if not ends:
                dense(f"{at}.attn.{out}", block[f"{stream}_proj"])
                dense(f"{at}.{mlp}.net.0.proj", block[f"{stream}_mlp"]["fc1"])
                dense(f"{at}.{mlp}.net.2", block[f"{stream}_mlp"]["fc2"])
    return found
