"""Wrapped weights, which are unwrapped alike in every format; exports of this and earlier versions; MatConvNet."""

import zipfile
from dataclasses import replace
from pathlib import Path

import flax.serialization
import h5py
import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxgen import zoo
from jaxgen.core.errors import InputError
from jaxgen.core.types import variables
from jaxgen.interop.convert import fitting
from jaxgen.interop.entries import entry, to_ours
from jaxgen.interop.layers import leaves, traced
from jaxgen.interop.nearest import nearest
from jaxgen.interop.read import read
from jaxgen.interop.weight_names import plain, rule_of, table, to_theirs
from jaxgen.interop.write import write_safetensors, write_torch
from tests.helpers.weight_samples import dumped

LIKE = {"params": {"conv_0": {"kernel": np.zeros((3, 3, 2, 4)), "bias": np.zeros(4)}}}
LIVE = {"conv.0.weight": np.full((4, 2, 3, 3), 1, np.float32), "conv.0.bias": np.full(4, 1, np.float32)}
BEST = {name: 2 * array for name, array in LIVE.items()}
OTHER = {"conv.1.weight": np.ones((4, 4), np.float32)}
STEP = {"epoch": np.float32(3) * np.ones(1, np.float32)}


def flat(tree, prefix=""):
    """Return nested dicts as one, with names joined by dots."""
    found = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def nested(tree):
    """Return a tree as Flax keeps it, one dict for each part of a name."""
    found: dict = {}
    for name, value in flat(tree).items():
        *parts, leaf = name.split(".")
        place = found
        for part in parts:
            place = place.setdefault(part, {})
        place[leaf] = value
    return found


WRITERS = {
    "pth": dumped,
    "safetensors": lambda path, tree: save_file(flat(tree), path),
    "msgpack": lambda path, tree: path.write_bytes(flax.serialization.msgpack_serialize(nested(tree))),
}


def after(prefix, tensors=LIVE):
    return {prefix + name: array for name, array in tensors.items()}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    "tree,prefix,others",
    [
        (LIVE, "", []),
        ({"state_dict": LIVE, "state_dict_ema": BEST, **STEP}, "state_dict_ema.", ["state_dict."]),
        ({"model": LIVE, "model_ema": BEST}, "model_ema.", ["model."]),
        ({"params_ema": BEST, "params": LIVE}, "params_ema.", ["params."]),
        ({"params": {}, "params_ema": BEST}, "params_ema.", []),
        ({"generator": LIVE, "discriminator": OTHER}, "generator.", []),
        ({"net": LIVE, "critic": LIVE}, "net.", []),
        ({"net": BEST, "critic": LIVE}, "net.", ["critic."]),
        ({"state_dict": after("model.") | OTHER, **STEP}, "state_dict.model.", []),
        ({"state_dict": after("model.") | after("model_ema.", BEST)}, "state_dict.model_ema.", ["state_dict.model."]),
        (after("module.") | {"n_averaged": STEP["epoch"]}, "module.", []),
        (after("_orig_mod.module."), "module.", []),
        ({"params": LIVE, "opt_state": {"0": {"mu": BEST, "nu": BEST}}}, "params.", ["opt_state.0.mu."]),
    ],
)
def test_every_format_is_unwrapped_alike(tmp_path, kind, tree, prefix, others):
    WRITERS[kind](tmp_path / "a", tree)
    found = entry(plain, None, "net", LIKE, tensors := read(tmp_path / "a"))
    assert (found.prefix, found.others[:1], found.problems()) == (prefix, others, [])
    value = 1 + (prefix.endswith("ema.") or (prefix == "net." and bool(others)))
    assert {float(x.mean()) for x in jax.tree.leaves(found.weights(tensors))} == {value}


def test_the_part_to_take_is_said_and_can_be_chosen():
    tensors = flat({"state_dict": after("module."), "state_dict_ema": after("module.", BEST)})
    found = entry(plain, None, "net", LIKE, tensors)
    sentence = "The weights of the net are state_dict_ema.module of the file, the average. It also holds "
    assert found.choice("net") == sentence + "state_dict.module: `import --take state_dict.module` takes that."
    for take in ("state_dict", "state_dict.module"):
        assert entry(plain, None, "net", LIKE, tensors, take).weights(tensors)["params"]["conv_0"]["bias"][0] == 1
    with pytest.raises(InputError, match="as 'ema': its parts are state_dict, state_dict_ema"):
        entry(plain, None, "net", LIKE, tensors, "ema")
    whole = LIVE | after("ema.", BEST)
    assert entry(plain, None, "net", LIKE, whole).prefix == "ema."
    assert (
        entry(plain, None, "net", LIKE, whole, ".").prefix,
        entry(plain, None, "net", LIKE, LIVE).choice("net"),
    ) == ("", "")
    with pytest.raises(InputError, match="more than once, as a, b: name one by `import --take`"):
        entry(plain, None, "net", LIKE, after("a.") | after("b.", BEST))
    assert entry(plain, None, "net", LIKE, after("a.") | after("b.")).others == []


def test_a_file_with_all_nets_gives_each_net_its_own():
    likes = {"generator": LIKE, "critic": {"params": {"conv_1": {"kernel": np.zeros((4, 4))}}}}

    def found(tensors, likes):
        return fitting(Path("a"), {net: entry(plain, None, net, like, tensors) for net, like in likes.items()})

    side_by_side, wrapped = LIVE | OTHER, flat({"generator": LIVE, "critic": OTHER, "optimizer": OTHER})
    assert {net: one.prefix for net, one in found(side_by_side, likes).items()} == {"generator": "", "critic": ""}
    assert {net: one.prefix for net, one in found(wrapped, likes).items()} == {
        "generator": "generator.",
        "critic": "critic.",
    }
    assert list(found(LIVE, likes)) == ["generator"] and not found(side_by_side | STEP, likes)
    with pytest.raises(InputError, match="a fits generator and inverse: say which with --net"):
        found(LIVE, {"generator": LIKE, "inverse": LIKE})
    twins = found(after("generator.") | after("inverse.", BEST), {"generator": LIKE, "inverse": LIKE})
    assert {net: one.prefix for net, one in twins.items()} == {"generator": "generator.", "inverse": "inverse."}


def test_values_that_are_no_weights_are_refused():
    for value, words in ((np.nan, "not finite"), (1e300, "not finite"), (1j, "conv.0.bias is complex")):
        with pytest.raises(InputError, match=words):
            to_ours(plain, None, "net", LIKE, LIVE | {"conv.0.bias": np.full(4, value)})


def test_flaxs_own_names_and_layouts(tmp_path):
    ours = {
        "params": {
            "conv_0": {
                "kernel": np.random.default_rng(0).normal(size=(3, 3, 2, 4)).astype("f4"),
                "bias": np.ones(4, "f4"),
            }
        }
    }
    ours["batch_stats"] = {"norm": {"mean": np.arange(4, dtype=np.float32)}}
    only = {"params": ours["params"]}
    for like, tree, prefix in ((ours, ours, ""), (ours, {"state": ours}, "state."), (only, ours, "params.")):
        (tmp_path / "a").write_bytes(flax.serialization.to_bytes(tree))
        found = entry(plain, None, "net", like, tensors := read(tmp_path / "a"))
        assert (found.prefix, found.problems()) == (prefix, [])
        assert jax.tree.all(jax.tree.map(np.array_equal, found.weights(tensors), like))


def test_msgpack_that_lies_is_refused(tmp_path):
    path = tmp_path / "a"
    good = flax.serialization.msgpack_serialize({"a": np.arange(6, dtype=np.float32).reshape(2, 3)})
    lies = {
        "cut": good[:-3],
        "map of 2**32 items": b"\xdf\xff\xff\xff\xff\xa1a",
        "list of 2**32 items": b"\x81\xa1a\xdd\xff\xff\xff\xff",
        "deep": b"\x81\xa1a" * 5000,
        "another shape": good.replace(b"\x92\x02\x03", b"\x92\x7f\x7f"),
        "objects": good.replace(b"float32", b"object_"),
        "bytes of 2**32": b"\x81\xa1a\xc6\xff\xff\xff\xff",
    }
    for name, content in lies.items():
        path.write_bytes(content)
        assert content != good, name
        with pytest.raises(InputError) as error:
            read(path)
        assert str(error.value).startswith(f"{path} ") and str(error.value).isprintable(), name


# --- exports ---


def random_net(preset: str, net: str):
    """Return a tiny model and random variables of a net."""
    model, rng = zoo.load(preset).tiny.model, np.random.default_rng(0)
    params, extra, *_ = traced(model)
    return model, jax.tree.map(lambda x: rng.normal(size=x.shape).astype("f4"), variables(net, params, extra))


def test_layouts_follow_from_layers():
    model, ours = random_net("pix2pix", "generator")
    theirs = to_theirs(rule_of("pix2pix"), model, "generator", ours)
    down, up = ours["params"]["down_1"]["kernel"], ours["params"]["up_1"]["kernel"]
    assert [theirs[name].shape for name in ("down.1.weight", "up.1.weight")] == [
        (down.shape[3], down.shape[2], 4, 4),
        (up.shape[2], up.shape[3], 4, 4),
    ]


@pytest.mark.parametrize("preset,net", [("pix2pix", "generator"), ("vq-vae", "prior"), ("fsrcnn", "restorer")])
def test_files_exported_before_still_give_the_same_weights(tmp_path, preset, net):
    model, ours = random_net(preset, net)
    rule = rule_of(preset)
    rows = table(rule, model, net, ours, old=True)
    found: dict = dict(leaves(ours))
    before = {row.name: np.ascontiguousarray(row.layout.out(found[row.path])) for row in rows}
    notes = {"preset": preset, "net": net, "model": "{}", "step": "0"}
    save_file(before, tmp_path / "old.safetensors", notes)
    write_torch(tmp_path / "new.pth", before)
    with zipfile.ZipFile(tmp_path / "new.pth") as new, zipfile.ZipFile(tmp_path / "old.pth", "w") as old:
        for name in new.namelist():
            if name != "archive/.jaxgen_layouts":
                old.writestr(name, new.read(name))
    theirs = to_theirs(rule, model, net, ours)
    write_safetensors(tmp_path / "new.safetensors", theirs, notes)
    (tmp_path / "new.pth").unlink()
    write_torch(tmp_path / "new.pth", theirs)
    for name in ("old.safetensors", "old.pth", "new.safetensors", "new.pth"):
        tensors = read(tmp_path / name)
        assert tensors.old == name.startswith("old"), name
        again = to_ours(rule, model, net, ours, tensors)
        assert jax.tree.all(jax.tree.map(np.array_equal, ours, again)), name
    assert any(not np.array_equal(before[name], theirs[name]) for name in before) == (preset != "fsrcnn")


# --- files that fit nothing ---


def test_the_nearest_presets_and_what_differs():
    model = replace(zoo.load("dncnn").run.model, channels=3, image=(40, 40, 3))
    params, extra, *_ = traced(model)
    like = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), variables("restorer", params, extra))
    tensors = to_theirs(rule_of("dncnn"), model, "restorer", like)
    text = nearest(tensors, ["dncnn", "espcn", "srcnn"])
    assert text.startswith("Nearest are: dncnn, its restorer (")
    assert "of another shape: model.0.weight is [64, 3, 3, 3], not [64, 1, 3, 3] and 2 more)" in text
    text = nearest({"a\x1b[2J": np.zeros(9, np.float32)}, ["srcnn"])
    assert text == r"No preset of about its size has tensors of these names and shapes (a\x1b[2J)."


# --- MATLAB ---


def simple_net(path: Path, layers: list[list[np.ndarray]]) -> Path:
    """Write layers as MATLAB v7.3 does a simple net of MatConvNet: cells of structs with cells of weights."""
    with h5py.File(path, "w", userblock_size=512) as file:
        net, refs = file.create_group("net"), file.create_group("#refs#")

        def put(where, name, array, kind):
            item = where.create_dataset(name, data=np.asarray(array).T)
            item.attrs["MATLAB_class"] = np.bytes_(kind)
            return item

        def cell(where, name, items):
            put(where, name, np.array([[item.ref for item in items]], h5py.ref_dtype), "cell")

        structs = []
        for i, weights in enumerate(layers):
            struct = refs.create_group(f"layer{i}")
            struct.attrs["MATLAB_class"] = np.bytes_("struct")
            put(struct, "type", np.frombuffer("conv".encode("utf-16-le"), np.uint16)[None], "char")
            put(struct, "stride", np.ones((1, 2)), "double")
            if weights:
                cell(struct, "weights", [put(refs, f"w{i}_{j}", w, "single") for j, w in enumerate(weights)])
            structs.append(struct)
        cell(net, "layers", structs)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: PCWIN64".ljust(124) + b"\x00\x02IM")
    return path


def test_simple_nets_of_matconvnet(tmp_path):
    rng = np.random.default_rng(0)
    first, last = rng.normal(size=(3, 2, 1, 4)).astype("f4"), rng.normal(size=(3, 2, 4)).astype("f4")
    bias, scale, moments = (rng.normal(size=shape).astype("f4") for shape in ((4, 1), (4, 1), (4, 2)))
    layers = [[first, bias], [scale, bias, moments], [], [last, np.ones((1, 1), "f4")]]
    found = read(simple_net(tmp_path / "a.mat", layers))
    wanted = {
        "net.model.0.weight": first.transpose(3, 2, 0, 1),
        "net.model.0.bias": bias[:, 0],
        "net.model.1.weight": scale[:, 0],
        "net.model.1.bias": bias[:, 0],
        "net.model.1.running_mean": moments[:, 0],
        "net.model.1.running_var": moments[:, 1] ** 2 - 1e-5,
        "net.model.3.weight": last[..., None].transpose(3, 2, 0, 1),
        "net.model.3.bias": np.ones(1),
    }
    assert found.keys() == wanted.keys()
    for name, array in found.items():
        np.testing.assert_allclose(array, wanted[name], rtol=1e-6, err_msg=name)


def test_dncnn_as_its_authors_published_it(tmp_path, real_data):
    published = read(real_data / "weights" / "dncnn_25.pth")
    layers: list = [[] for _ in range(2 * 17 - 1)]
    for name, array in published.items():
        layers[int(name.split(".")[1])].append(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array[:, None])
    model = replace(zoo.load("dncnn").run.model, norm=False)
    params, extra, *_ = traced(model)
    like, rule = variables("restorer", params, extra), rule_of("dncnn")
    wanted = to_ours(rule, model, "restorer", like, published)
    layers[-1][0] = layers[-1][0][..., 0]  # MATLAB drops last axes of length 1
    found = to_ours(rule, model, "restorer", like, read(simple_net(tmp_path / "25.mat", layers)))
    assert jax.tree.all(jax.tree.map(np.array_equal, found, wanted))
