"""Every autoencoder from 8x8 grey to 256x256 colour: a step and a reconstruction, traced abstractly."""

from dataclasses import replace

import jax
import pytest

from jaxgen import zoo
from jaxgen.core.capabilities import Codec
from jaxgen.core.spec import spec_of
from jaxgen.core.step import init_state, make_step
from jaxgen.core.types import averaged
from jaxgen.models.vae._nets import NetConfig

SMALLEST = {  # changes for presets with nets for larger images
    "vqgan": {"discriminator_layers": 1},
    "vqgan-64": {"discriminator_layers": 1, "perceptual": "lenet"},
    "hierarchical-30": {"layers": (8, 10, 12)},
    "mae-base": {"patch": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("image", [(8, 8, 1), (256, 256, 3)], ids=["8x8x1", "256x256x3"])
@pytest.mark.parametrize("name", zoo.family("vae"))
def test_a_step_at_this_size(name, image):
    model = zoo.load(name).run.model
    model = replace(model, image=image, **(SMALLEST.get(name, {}) if image[0] == 8 else {}))
    if isinstance(nets := getattr(model, "nets", None), NetConfig) and nets.kind != "mlp":
        model = replace(model, nets=replace(nets, width=8))
    if hasattr(model, "prior_width"):
        model = replace(model, prior=0)  # attention over 64x64 tokens is too expensive
    task = model.task(10)
    spec = spec_of(task, 2)
    state = jax.eval_shape(lambda: init_state(task, jax.random.key(0), spec))
    frozen = {net: jax.eval_shape(load) for net, load in task.frozen.items()}
    after, metrics = jax.eval_shape(make_step(task), state, spec, frozen)
    assert jax.tree.map(lambda x: x.shape, after) == jax.tree.map(lambda x: x.shape, state) and metrics
    codec = task.find(Codec)
    if codec and (decode := codec.decode):

        def again(state, frozen, batch):
            nets = averaged(state, frozen)
            return decode(*nets, codec.encode(*nets, batch), {k: batch[k] for k in codec.conditions})

        assert jax.eval_shape(again, state, frozen, spec).shape == (2, *image)
