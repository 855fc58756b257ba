"""Models that generate clips: their files, their conditioning, latents of a frozen autoencoder, and mistakes."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.core.capabilities import Codec, Transform
from jaxgen.core.errors import InputError
from jaxgen.core.types import Context
from jaxgen.models.video.latte import TINY as LATTE
from jaxgen.models.video.latte import LatteDDPM
from jaxgen.models.video.mcvd import TINY as MCVD
from jaxgen.models.video.mocogan import MoCoGAN
from jaxgen.models.video.svg_lp import SVGLP
from jaxgen.models.video.vgan import VGAN
from jaxgen.models.video.video_vae import VideoVAE
from jaxgen.models.video.videogpt import VideoGPT
from jaxgen.nn.backbones.adm_unet import TimeAttention
from tests.helpers.untrained import drawn, drawn_state, untrained

NOTHING = Context(extra={}, ema={}, frozen={}, step=jnp.int32(0))


def test_generate_writes_clips(cli, tmp_path):
    run = untrained(tmp_path / "run", "video", "mocogan")
    cli(0, "generate", run, "--count", "2", "--out", tmp_path / "x.npz")
    clips = np.load(tmp_path / "x.npz")["video"]
    assert clips.shape == (2, 5, 8, 8, 3) and clips.dtype == np.uint8 and (tmp_path / "x.gif").exists()
    cli(0, "generate", run, "--count", "1", "--out", tmp_path / "x.png")
    assert "must end in .gif, .apng, .mp4, .webm, .mkv, .png or .npz" in cli(2, "generate", run, "--out", "x.txt")


def test_mcvd_sees_what_is_given_and_a_hidden_frame_is_nothing():
    task = MCVD.task(1)
    params = drawn_state(task, 2).params
    draw = np.random.default_rng(0)
    sizes: dict[str, Any] = {name: (2, *x.shape) for name, x in task.example.items()}
    batch = {name: draw.uniform(-1, 1, size).astype(np.float32) for name, size in sizes.items()}
    keys = jax.random.split(jax.random.key(0), 2)
    make = jax.jit(lambda given: task.get(Transform).apply(params, NOTHING, given, keys)["video"])
    given = {name: batch[name] for name in ("past", "future")}
    none = {name: np.zeros_like(x) for name, x in given.items()}
    nothing, past, both = make(none), make({**none, "past": given["past"]}), make(given)
    np.testing.assert_allclose(task.get(Transform).apply(params, NOTHING, {}, keys)["video"], nothing, atol=1e-5)
    assert nothing.shape == (2, 2, 8, 8, 1)
    assert min(float(jnp.abs(a - b).max()) for a, b in ((nothing, past), (past, both))) > 1e-3


def test_attention_over_time_mixes_the_frames_of_a_pixel_alone():
    """In closed form: with values that pass and scores of 0, a pixel becomes the mean of its frames."""
    net, x = TimeAttention(1, 3), np.random.default_rng(0).normal(size=(6, 2, 2, 4)).astype(np.float32)
    params: Any = drawn(jax.eval_shape(net.init, jax.random.key(0), x))["params"]
    qkv = np.zeros((4, 12), np.float32)
    qkv[:, 8:] = np.eye(4)
    params |= {"qkv": {"kernel": qkv, "bias": np.zeros(12, np.float32)}, "distance": np.zeros((5, 1), np.float32)}
    params |= {"proj": {"kernel": np.eye(4, dtype=np.float32), "bias": np.zeros(4, np.float32)}}
    frames = x.reshape(2, 3, 2, 2, 4)
    spread = frames.transpose(0, 1, 4, 2, 3).reshape(6, 4, -1)  # each channel is a group
    norm = (spread - spread.mean(2, keepdims=True)) / np.sqrt(spread.var(2, keepdims=True) + 1e-5)
    mean = norm.reshape(2, 3, 4, 2, 2).mean(1, keepdims=True).transpose(0, 1, 3, 4, 2)
    ours = jax.jit(net.apply)({"params": params}, x)
    np.testing.assert_allclose(np.asarray(ours).reshape(frames.shape), frames + mean, atol=1e-5)
    params["distance"] = np.where(np.arange(5)[:, None] == 2, 100.0, 0.0).astype(np.float32)  # each frame itself
    ours = np.asarray(jax.jit(net.apply)({"params": params}, x)).reshape(frames.shape)
    np.testing.assert_allclose(ours, frames + norm.reshape(2, 3, 4, 2, 2).transpose(0, 1, 3, 4, 2), atol=1e-5)


def test_latte_models_the_latents_of_a_video_autoencoder(tmp_path):
    folder = untrained(tmp_path / "vae", "video", "video-vae")
    model = replace(LATTE, autoencoder=str(folder))
    assert model.shape == (2, 4, 4, 2)
    task = model.task(1)
    assert task.example["video"].shape == (4, 8, 8, 3)
    state = drawn_state(task, 2)
    frozen = {"autoencoder": task.frozen["autoencoder"]()}
    context = Context(state.extra, {}, frozen, jnp.int32(0))
    keys = jax.random.split(jax.random.key(0), 2)
    made = jax.eval_shape(task.get(Transform).apply, state.params, context, {}, keys)
    assert made["video"].shape == (2, 4, 8, 8, 3)
    batch = {"video": np.zeros((2, 4, 8, 8, 3), np.float32)}
    value, aux = jax.eval_shape(task.phases[0].loss, state.params, context, batch, jax.random.key(0))
    assert value.shape == () and aux.extra["codes"]["mean"].shape == (2,)
    with pytest.raises(InputError, match=r"model\.frames must be 4, and model.image must be 8 8 3, not 3 8 8 3"):
        replace(model, frames=3).task(1)


def test_a_clip_is_compressed_in_time_too():
    task = VideoVAE(4, (8, 8, 3), (2, 4, 4), 3, 8, 1).task(1)
    codec, like = task.get(Codec), {"video": jax.ShapeDtypeStruct((2, 4, 8, 8, 3), jnp.float32)}
    params, _ = jax.eval_shape(task.init, jax.random.key(0), None)
    latents = jax.eval_shape(codec.encode, params, NOTHING, like)
    assert latents.shape == (2, 2, 2, 2, 3)
    assert codec.decode and jax.eval_shape(codec.decode, params, NOTHING, latents, {}).shape == (2, 4, 8, 8, 3)


def test_mistakes_in_settings():
    for model, sentence in (
        (VGAN(frames=30), "model.frames must be a multiple of 16 for this size, not 30"),
        (VGAN(image=(60, 64, 3)), "both sides must be multiples of"),
        (MoCoGAN(frames=12), "model.frames must be at least 13"),
        (MoCoGAN(categories=1), "must be 0, or at least 2"),
        (SVGLP(past=1), "model.past must be at least 2, not 1"),
        (VideoVAE(frames=10), "The frames of a clip must be a multiple of model.down=4, not 10"),
        (VideoVAE(down=(3, 4, 4)), "model.down must be powers of 2"),
        (VideoGPT(image=(64, 66, 3)), "The width of a clip must be a multiple of model.down=4, not 66"),
        (LatteDDPM(net=replace(LATTE.net, depth=3), image=(8, 8, 3)), "an even depth, not 3"),
    ):
        with pytest.raises(InputError, match=sentence):
            model.task(1)


def test_commands_for_images_refuse_clips_and_reconstruct_shows_them(cli, tmp_path):
    gan, vae = (untrained(tmp_path / name, "video", name) for name in ("mocogan", "video-vae"))
    for command in ("interpolate", "traverse", "directions"):
        assert "This works on images, and the model's examples are video (video)." in cli(2, command, gan)
    said = cli(0, "reconstruct", vae, "--count", "2", "--out", tmp_path / "x.gif")
    assert said.startswith("2 videos of test") and (tmp_path / "x.gif").exists()
