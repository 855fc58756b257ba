"""Samples of a model that needs something given, and a frozen net, as no row of the zoo does yet."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgen import core, data, sampling, shard, zoo
from jaxgen.config import Data, Mesh


def brighten(params, context, keys, given):
    """Each sample is its own given picture, made brighter by a frozen net's number."""
    return {"image": given["image"] + context.frozen["lamp"]["w"] + 0 * params["a"]["w"]}


TASK = core.Task(
    init=lambda key, spec: ({"a": {"w": jnp.float32(1)}}, {}),
    example={"image": jax.ShapeDtypeStruct((8, 8, 1), jnp.float32)},
    learners={"a": core.Learner(("a",), optax.sgd(0.1))},
    phases=(core.Phase("a", "a", lambda params, context, batch, key: (params["a"]["w"] ** 2, core.Aux())),),
    frozen={"lamp": lambda: {"w": jnp.float32(0.5)}},
    given=("image",),
    generate=brighten,
)


def test_each_sample_gets_its_own_row_of_what_is_given():
    mesh = shard.make_mesh(Mesh(data=2))
    run = dataclasses.replace(zoo.load("dcgan").tiny, preset="dcgan")
    source = data.open_source(Data("digits"), (8, 8, 1))
    state = shard.make_state(TASK, mesh, jax.random.key(0), sampling.spec_of(TASK, 4))
    frozen = {net: load() for net, load in TASK.frozen.items()}
    first = next(data.batches(data.Some(source, 10), run.data, (8, 8, 1), batch=10, seed=0, train=False))["image"]
    needed = sampling.given(TASK, run, source, 10)
    images = sampling.sampler(TASK, mesh, 4)(state, frozen, 0, 10, needed)
    np.testing.assert_allclose(images, first + 0.5, rtol=1e-6)
