"""CARN: its sizes, one net for several factors, and the authors' file of CARN-M on Set5."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import zoo
from jaxgen.core.errors import InputError
from jaxgen.core.types import Context
from jaxgen.interop.weight_names import rule_of, to_theirs
from jaxgen.models.super_resolution.carn import SMALL
from jaxgen.training.dry_run import count
from tests.helpers.capabilities import restore
from tests.helpers.untrained import drawn

# The authors' code counts 1,591,963 with two layers of constants that shift the mean, which have 24. Their nets of one
# factor lack the layers of the other two.
ONE = {2: 1_591_939 - 332_352 - 295_424, 3: 1_591_939 - 147_712 - 295_424, 4: 1_591_939 - 147_712 - 332_352}


def shapes(model: Any) -> Any:
    return jax.eval_shape(lambda: model.task(1).init(jax.random.key(0), {}))[0]


def test_the_nets_have_the_published_number_of_parameters():
    model: Any = zoo.load("carn").run.model
    assert count(shapes(model)) == 1_591_963 - 24
    for scale, parameters in ONE.items():
        assert count(shapes(dataclasses.replace(model, scales=(scale,)))) == parameters


def test_names_are_those_of_the_published_files():
    def names(**changes):
        model = dataclasses.replace(zoo.load("carn").run.model, **changes)
        like = {"params": shapes(model)["restorer"]}
        return set(to_theirs(rule_of("carn"), model, "restorer", jax.tree.map(lambda x: np.zeros(x.shape), like)))

    several, one = names(), names(scales=(3,))
    assert {"entry.weight", "b1.b1.body.0.weight", "b3.c2.body.0.bias", "c1.body.0.weight", "exit.bias"} <= several
    assert {"upsample.up2.body.0.weight", "upsample.up3.body.0.bias", "upsample.up4.body.3.weight"} <= several
    assert {name for name in one if "up" in name} == {"upsample.up.body.0.weight", "upsample.up.body.0.bias"}
    assert {"b1.b1.body.4.weight", "b1.b1.body.2.bias"} <= names(mobile=True, groups=4)


def test_each_factor_has_its_own_output_and_its_own_part_of_the_loss():
    task = SMALL.task(1)
    params = {"restorer": drawn(shapes(SMALL))["restorer"]}
    context = Context({"restorer": {}}, {}, {}, jnp.zeros((), jnp.int32))
    x = np.random.default_rng(0).uniform(-1, 1, (1, 5, 6, 3)).astype(np.float32)
    image = np.random.default_rng(1).uniform(-1, 1, (2, 24, 24, 3)).astype(np.float32)

    @jax.jit
    def run(params):
        keys = jax.random.split(jax.random.key(0), 1)
        outs = [restore(task)(params, context, {"degraded": x}, keys, s) for s in (2, 3, 4)]
        (loss, aux), slopes = jax.value_and_grad(task.phases[0].loss, has_aux=True)(
            params, context, {"image": image}, jax.random.key(2)
        )
        return outs, loss, aux.metrics, slopes

    outs, loss, metrics, slopes = run(params)
    assert [out.shape for out in outs] == [(1, 5 * s, 6 * s, 3) for s in (2, 3, 4)]
    assert set(metrics) == {"psnr_x2", "psnr_x3", "psnr_x4"} and np.isfinite(loss)
    ups = [name for name in slopes["restorer"] if name.startswith("upsample_up")]
    assert len(ups) == 4 and all(np.abs(slopes["restorer"][name]["kernel"]).max() > 0 for name in ups)


WRONG = [
    ({"scales": (2, 6)}, "must be 3 or a power of 2"),
    ({"scales": (2, 2)}, "must be different factors"),
    ({"scales": ()}, "must be different factors"),
    ({"groups": 3}, "multiple of model.groups, 3"),
    ({"image": (26, 26, 3)}, "multiples of 3"),
]


@pytest.mark.parametrize(("changes", "words"), WRONG)
def test_bad_settings_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        dataclasses.replace(SMALL, **changes).task(1)


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "paper"), [(2, 37.53), (3, 33.99), (4, 31.92)])
def test_the_authors_file_of_carn_m(cli, real_data, tmp_path, scale, paper):
    """The authors trained the published file longer and on larger patches than the paper's net."""
    file = real_data / "weights/carn_m.pth"
    if not file.exists():
        pytest.skip("the folder of real data has no carn_m.pth (checkpoint/ of github.com/nmhkahn/CARN-pytorch)")
    args = ["--with", str(file), "--scale", str(scale), "--degrade", "--out", str(tmp_path / "x")]
    out = cli(0, "restore", str(real_data / "sr/Set5"), *args)
    mean = out.rpartition(f"mean of 5: psnr_y_border{scale} ")[2].partition(",")[0]
    assert -0.05 < float(mean) - paper < 0.2
