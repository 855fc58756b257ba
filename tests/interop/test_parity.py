"""Weight files of PyTorch itself: we read files of torch.save as torch.load does, and torch.load reads ours."""

from collections import OrderedDict
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from jaxgen.core.errors import InputError
from jaxgen.interop.pickles import DTYPES
from jaxgen.interop.read import read
from jaxgen.interop.write import write_safetensors, write_torch

pytestmark = pytest.mark.parity
torch: Any = pytest.importorskip("torch")

both = pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])


def values(tensor) -> np.ndarray:
    """Return the array that we should read for a tensor, by its bytes: NumPy lacks some of torch\'s types."""
    tensor = tensor.detach().clone(memory_format=torch.contiguous_format)
    data = tensor.reshape(-1).view(torch.uint8).numpy()
    return data.view(DTYPES[str(tensor.dtype).removeprefix("torch.")]).reshape(tuple(tensor.shape))


def same(found, wanted):
    assert list(found) == list(wanted)
    for name, array in found.items():
        want = values(wanted[name])
        assert (array.dtype, array.shape, array.tobytes()) == (want.dtype, want.shape, want.tobytes()), name


def saved(path, value, new, **more):
    torch.save(value, path, _use_new_zipfile_serialization=new, **more)
    return path


class OddModule(torch.nn.Module):
    """A module with shared, nested, repeated and hidden parts, and functions and options as attributes."""

    def __init__(self):
        super().__init__()
        nn = torch.nn
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, bias=False))
        self.again = self.body[0]
        self.blocks = nn.ModuleList([nn.LSTM(2, 3), nn.MultiheadAttention(4, 2)])
        self.scale = nn.Parameter(torch.ones(()))
        self.tied = self.scale
        self.weights = nn.ParameterDict({"b": nn.Parameter(torch.randn(2)), "a": nn.Parameter(torch.randn(3))})
        self.register_buffer("mean", torch.randn(3))
        self.register_buffer("scratch", torch.randn(3), persistent=False)
        self.register_buffer("nothing", None)
        self.act, self.norm, self.size = torch.nn.functional.relu, partial(nn.LayerNorm, eps=1e-6), torch.Size([1, 2])
        self.kind, self.device, self.plain = torch.float16, torch.device("cpu"), torch.randn(2)


@both
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_types(tmp_path, new, protocol):
    numbers = torch.tensor([0, 1, 2, 3, 64, 100])
    made = {name: numbers.to(getattr(torch, name)) for name in DTYPES}
    made |= {"scalar": torch.tensor(1.5), "empty": torch.zeros(0, 3), "odd": torch.tensor([float("nan"), -0.0, 1e-45])}
    path = saved(tmp_path / "a.pt", made, new, pickle_protocol=protocol)
    same(read(path), made)
    if new:  # torch cannot load its own legacy files of types that have no storage class
        same(read(path), torch.load(path, weights_only=False))


@both
def test_views(tmp_path, new):
    base = torch.randn(4, 5, 6)
    made = {
        "whole": base,
        "transposed": base.permute(2, 0, 1),
        "slice": base[1:3, ::2, 4],
        "element": base[3, 4, 5],
        "expanded": base[0, 0].expand(7, 6),
        "diagonal": base[:4, :4, 0].diagonal(),
        "windows": base[0, 0].unfold(0, 3, 1),
        "last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "none": base[2:2],
    }
    path = saved(tmp_path / "a.pt", made, new)
    same(read(path), made)


@both
def test_tied_and_parameters(tmp_path, new):
    one = torch.nn.Parameter(torch.randn(3, 2))
    noted, plain = torch.nn.Parameter(torch.randn(2)), torch.randn(2)
    noted.note = plain.note = "an attribute"
    made = {"one": one, "two": one, "view": one.data[1:], "noted": noted, "plain": plain}
    found = read(saved(tmp_path / "a.pt", made, new))
    same(found, made)
    assert np.shares_memory(found["one"], found["two"]) and np.shares_memory(found["one"], found["view"])


@both
def test_checkpoints(tmp_path, new):
    net = OddModule()
    optimizer = torch.optim.Adam(net.parameters())
    torch.stack([p.sum() for p in net.parameters()]).sum().backward()
    optimizer.step()
    rest = {"optimizer": optimizer.state_dict(), "epoch": 3, "best": np.float64(0.5), "rng": torch.get_rng_state()}
    for name in ("state_dict", "model_state_dict", "params", "params_ema", "model"):
        found = read(saved(tmp_path / "a.pt", {**rest, name: net.state_dict()}, new))
        inside = {key.removeprefix(f"{name}."): x for key, x in found.items() if key.startswith(f"{name}.")}
        same(inside, net.state_dict())
        assert not found.old
    parallel = torch.nn.DataParallel(net).state_dict()
    assert all(name.startswith("module.") for name in parallel)
    same(read(saved(tmp_path / "a.pt", parallel, new)), parallel)
    found = read(saved(tmp_path / "a.pt", {"g": net.state_dict(), "list": [torch.ones(2)], **rest}, new))
    wanted = {f"g.{name}": tensor for name, tensor in net.state_dict().items()} | {"list.0": torch.ones(2)}
    same({name: array for name, array in found.items() if name in wanted}, wanted)
    assert {"rng", "optimizer.state.0.exp_avg"} < found.keys()


@both
def test_whole_modules(tmp_path, new):
    net = OddModule()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.warn", lambda *_, **__: None)  # the legacy format warns of sources that it can't find
        path = saved(tmp_path / "a.pt", net, new)
        same(read(path), net.state_dict())
        found = read(saved(tmp_path / "b.pt", {"epoch": 1, "model": torch.nn.DataParallel(net)}, new))
        same({name.removeprefix("model.module."): x for name, x in found.items()}, net.state_dict())


@pytest.mark.filterwarnings("ignore:.*jit.*:DeprecationWarning")
def test_torchscript(tmp_path):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).eval()
    torch.jit.trace(net, torch.zeros(1, 3, 5, 5)).save(str(tmp_path / "a.pt"))
    found = read(tmp_path / "a.pt")
    assert {name: array.shape for name, array in found.items()}.items() >= {
        name: tuple(tensor.shape) for name, tensor in net.state_dict().items()
    }.items()


@both
@pytest.mark.filterwarnings("ignore:.*quantize:UserWarning")
def test_refused(tmp_path, new):
    with pytest.raises(InputError, match="conjugated"):
        read(saved(tmp_path / "a.pt", torch.ones(2, dtype=torch.complex64).conj(), new))
    sparse = torch.eye(3).to_sparse()
    quantised = torch.quantize_per_tensor(torch.randn(3), 0.1, 0, torch.qint8)
    for tensor, word in ((sparse, "sparse"), (quantised, "quantised"), (torch.zeros(2, device="meta"), "meta")):
        with pytest.raises(InputError, match=f"holds a {word} tensor"):
            read(saved(tmp_path / "a.pt", {"x": tensor}, new))


def test_random_states_are_read_alike(tmp_path):
    """Sixty state dicts of random shapes, strides and types, in both formats."""
    rng = np.random.default_rng(0)
    for case in range(60):
        made = OrderedDict()
        for i in range(rng.integers(1, 6)):
            shape = tuple(int(n) for n in rng.integers(0, 5, rng.integers(0, 5)))
            tensor = torch.from_numpy(np.asarray(rng.integers(0, 2, shape))).to(
                getattr(torch, rng.choice(list(DTYPES)))
            )
            made[f"{i}.weight"] = tensor.permute(*rng.permutation(len(shape)).tolist()) if shape else tensor
        path = saved(tmp_path / "a.pt", made, bool(case % 2))
        same(read(path), torch.load(path, weights_only=True) if case % 2 else made)


def test_torch_reads_ours(tmp_path):
    numbers = np.array([[0, 1, 2], [3, 64, 100]])
    made: dict[str, Any] = {name: numbers.astype(dtype) for name, dtype in DTYPES.items()}
    made |= {
        "scalar": np.array(2.5, ml_dtypes.bfloat16),
        "empty": np.zeros((3, 0), np.int16),
        "1 x": np.ones((1, 4, 1)),
    }
    made |= {"näme.with.dots": np.array([np.nan, -0.0, 1e-45], np.float32), "big": np.arange(70_000.0)}
    write_torch(tmp_path / "a.pt", made)
    for more in ({"weights_only": True}, {"weights_only": True, "mmap": True}, {"weights_only": False}):
        loaded = torch.load(tmp_path / "a.pt", **more)
        assert type(loaded) is OrderedDict
        same(made, loaded)
    write_torch(tmp_path / "none.pt", {})
    assert torch.load(tmp_path / "none.pt", weights_only=True) == {}


def test_torch_loads_ours_into_a_module(tmp_path):
    net, other = OddModule(), OddModule()
    state = {name: values(tensor) for name, tensor in net.state_dict().items()}
    write_torch(tmp_path / "a.pt", state)
    other.load_state_dict(torch.load(tmp_path / "a.pt", weights_only=True))
    same(state, other.state_dict())


def test_safetensors(tmp_path):
    save = pytest.importorskip("safetensors.torch")
    made = {"a": torch.randn(2, 3).bfloat16(), "b": torch.zeros(0, 2), "c": torch.tensor(3), "d": torch.ones(2) > 0}
    save.save_file(made, tmp_path / "a.safetensors")
    found = read(tmp_path / "a.safetensors")
    same({name: found[name] for name in made}, made)
    write_safetensors(tmp_path / "b.safetensors", found, {"from": "us"})
    loaded = save.load_file(tmp_path / "b.safetensors")
    same({name: found[name] for name in made}, {name: loaded[name] for name in made})
