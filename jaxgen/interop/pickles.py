"""The files of torch.save, read without torch: their pickles are interpreted here and nothing in them is ever run.

No class or function that a pickle names is imported. A call is answered from a table of calls that make tensors,
containers and numbers; any other is refused by its name. Objects of unknown classes are kept as what they held.
"""

import io
import pickletools
import re
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # how the files of torch.save before 1.6 begin

NUMPY = "float16 float32 float64 int8 int16 int32 int64 uint8 uint16 uint32 uint64 bool complex64 complex128"
ML = "bfloat16 float8_e4m3fn float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu"
DTYPES = {n: np.dtype(n) for n in NUMPY.split()} | {n: np.dtype(getattr(ml_dtypes, n)) for n in ML.split()}
CLASSES = "Half Float Double Char Short Int Long Byte Bool ComplexFloat ComplexDouble BFloat16 Untyped"  # ...Storage
HELD = "float16 float32 float64 int8 int16 int32 int64 uint8 bool complex64 complex128 bfloat16 uint8"
STORAGES: dict[str, str] = dict(zip(CLASSES.split(), HELD.split(), strict=True))

NDARRAY = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
INERT = {  # calls that are noted down and not made: what they would give is no tensor, or becomes one later
    *("builtins.bool", "builtins.int", "builtins.float", "builtins.complex", "builtins.str", "builtins.bytes"),
    *("builtins.bytearray", "builtins.object", "builtins.range", "builtins.slice", "collections.deque"),
    *("datetime.date", "datetime.time", "datetime.datetime", "datetime.timedelta", "datetime.timezone"),
    *("pathlib.PosixPath", "pathlib.WindowsPath", "pathlib.PurePosixPath", "pathlib.PureWindowsPath"),
    *("argparse.Namespace", "types.SimpleNamespace", "functools.partial"),
    *(*NDARRAY, "numpy.dtype", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
    *("torch.device", "torch.serialization._get_layout", "torch.nn.backends.thnn._get_thnn_function_backend"),
}
REFUSED = {
    "torch._utils._rebuild_qtensor": "quantised",
    "torch._utils._rebuild_sparse_tensor": "sparse",
    "torch._utils._rebuild_sparse_csr_tensor": "sparse",
    "torch._utils._rebuild_nested_tensor": "nested",
    "torch._utils._rebuild_meta_tensor_no_storage": "meta",
}
STANDARD = sys.stdlib_module_names | set(sys.builtin_module_names) | {"exceptions", "popen2", "imp", "distutils"}

CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
LITERALS = {  # opcodes that push a number or a text, which pickletools has decoded
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}


class Unreadable(ValueError):
    """A fault of a file. The text continues a sentence that begins with the path, without the full stop."""


@dataclass(frozen=True, eq=False)
class Global:
    """The name of a class or function, which is all of it that is ever here."""

    name: str


class Placeholder(dict):
    """An object of a class that was not imported: its items and attributes, its arguments, a state of another kind."""

    def __init__(self, name: str, args: tuple = ()):
        super().__init__()
        self.name, self.args = name, args
        self.state: Any = None


@dataclass(frozen=True, eq=False)
class Storage:
    """`count` values of a record, from value `start` on. The records are there once the whole file is read."""

    records: dict[str, memoryview]
    key: str
    dtype: np.dtype
    count: int
    start: int = 0


@dataclass(frozen=True, eq=False)
class Tensor:
    """A strided view of a storage, counted in values of its own type."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: np.dtype

    def array(self) -> np.ndarray:
        """Return the tensor as a read-only view of its record's bytes. Raises Unreadable."""
        width, itemsize = self.storage.dtype.itemsize, self.dtype.itemsize
        start, length = self.storage.start * width, self.storage.count * width
        data = self.storage.records.get(self.storage.key, memoryview(b""))[start : start + length]
        if len(data) != length:
            raise Unreadable(f"is cut short or damaged: storage {shown(self.storage.key)} has too few values")
        stride = [s * itemsize if n > 1 else 0 for n, s in zip(self.size, self.stride, strict=True)]
        try:  # NumPy checks that no value lies outside of the bytes
            if 0 in self.size:
                return np.zeros(self.size, self.dtype)
            return np.ndarray(self.size, self.dtype, data, self.offset * itemsize, stride)
        except (ValueError, OverflowError):
            raise Unreadable("has a tensor that reaches out of its storage") from None


def torch_zip(path: Path) -> Any:
    """Return what a zip file of torch.save (since 1.6) holds. Raises Unreadable, and for broken bytes anything."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        roots = [name.removesuffix("data.pkl") for name in names if name.rpartition("/")[2] == "data.pkl"]
        if len(roots) != 1:
            raise Unreadable("is a zip file that torch.save did not write: it should hold one data.pkl")
        starts = tuple(roots[0] + name for name in ("data.pkl", "data/", "byteorder"))
        infos = {name: archive.getinfo(name) for name in names if name.startswith(starts)}
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos.values()):
            raise Unreadable("is a zip file with compressed records, which torch.save never writes")
        # Answers lying sizes, and records that share their bytes: read one by one, those could fill any memory.
        if sum(max(info.file_size, info.compress_size) for info in infos.values()) > path.stat().st_size:
            raise Unreadable("is a zip file whose records are said to be larger than the whole file")
        records = {name.removeprefix(roots[0]): memoryview(archive.read(name)) for name in infos}
    interpreter = Interpreter()
    tree = interpreter.run(io.BytesIO(records["data.pkl"]))
    for key, storage in interpreter.storages.items():
        if (data := records.get(f"data/{key}")) is not None:
            big = records.get("byteorder") == b"big"
            interpreter.records[key] = _swapped(data, storage.dtype) if big else data
    return tree


def torch_pickle(path: Path) -> Any:
    """Return what a file of torch.save before 1.6 holds: five pickles, then storages. Raises as torch_zip."""
    data = path.read_bytes()
    file, interpreter = io.BytesIO(data), Interpreter()
    if interpreter.run(file) != MAGIC or interpreter.run(file) != PROTOCOL:
        raise Unreadable("is a pickle that torch.save did not write")
    interpreter.run(file)  # sizes of C's types; the storages are little-endian on every machine
    tree, keys = interpreter.run(file), interpreter.run(file)
    at = file.tell()
    for key in keys:
        start, count = at + 8, int.from_bytes(data[at : at + 8], "little")
        at = start + count * interpreter.storages[key].dtype.itemsize
        if at > len(data):
            raise Unreadable("is cut short: its last storages are missing")
        interpreter.records[key] = memoryview(data)[start:at]
    return tree


class Interpreter:
    """Pickle's stack machine, for which everything outside is just a name. Raises Unreadable for what it refuses."""

    def __init__(self):
        self.storages: dict[str, Storage] = {}  # the whole of each record that is asked for
        self.records: dict[str, memoryview] = {}

    def run(self, file: io.BytesIO) -> Any:
        """Return what the pickle that begins here makes, and leave the file at its end."""
        self.stack, self.marks, self.memo = [], [], {}
        # A call copies what it is given, and a few bytes could ask for the same copy again and again.
        self.copies = 1_000_000 + 4 * file.getbuffer().nbytes
        try:
            for op, arg, _ in pickletools.genops(file):
                if op.name == "STOP":
                    break
                self.step(op.name, arg)
            return self.stack.pop()
        except Unreadable:
            raise
        except Exception as error:  # a missing byte or argument, an empty stack, a memo never written, ...
            raise Unreadable("is cut short or damaged: its pickle makes no sense") from error

    def step(self, op: str, arg: Any):
        stack, push = self.stack, self.push
        match op:
            case "PROTO" | "FRAME":
                pass
            case _ if op in LITERALS:
                push(arg)
            case _ if op in CONSTANTS:
                push(CONSTANTS[op])
            case "MARK":
                self.marks.append(stack)
                self.stack = []
            case "POP" | "POP_MARK":
                stack.pop() if stack and op == "POP" else self.marked()
            case "DUP":
                push(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                self.memo[len(self.memo) if op == "MEMOIZE" else arg] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                push(self.memo[arg])
            case "EMPTY_LIST" | "EMPTY_SET":
                push([])
            case "LIST" | "FROZENSET":
                push(self.marked())
            case "APPEND":
                _extend(stack[-2], [stack.pop()])
            case "APPENDS" | "ADDITEMS":
                items = self.marked()
                _extend(self.stack[-1], items)
            case "TUPLE":
                push(tuple(self.marked()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple(stack.pop(i) for i in range(-int(op[-1]), 0)))
            case "EMPTY_DICT":
                push({})
            case "DICT":
                push(_mapping(_pairs(self.marked())))
            case "SETITEM":
                _update(stack[-3], [(stack.pop(-2), stack.pop())])
            case "SETITEMS":
                items = self.marked()
                _update(self.stack[-1], _pairs(items))
            case "GLOBAL":
                push(_global(*arg.split(" ", 1)))
            case "STACK_GLOBAL":
                push(_global(stack.pop(-2), stack.pop()))
            case "BINPERSID":
                push(self.persistent(stack.pop()))
            case "REDUCE":
                push(self.call(stack.pop(-2), stack.pop()))
            case "INST":
                push(self.call(_global(*arg.split(" ", 1)), tuple(self.marked())))
            case "OBJ":
                function, *args = self.marked()
                push(self.call(function, tuple(args)))
            case "NEWOBJ" | "NEWOBJ_EX":
                if op == "NEWOBJ_EX":
                    stack.pop()  # keyword arguments
                push(self.call(stack.pop(-2), stack.pop(), new=True))
            case "BUILD":
                self.build(stack[-2], stack.pop())
            case _:  # EXT1 and its like, PERSID, NEXT_BUFFER, and what a later Python may add
                raise Unreadable(f"uses the pickle opcode {op}, which no weights need")

    def push(self, value: Any):
        self.stack.append(value)

    def marked(self) -> list:
        """Take what was pushed since the last mark from the stack, and the mark."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def call(self, function: Any, args: Any, new: bool = False) -> Any:
        """Return what a call gives if it is known. Only `new`, which would make but not initialise, may be unknown."""
        if not isinstance(function, Global) or not isinstance(args, tuple):
            raise Unreadable("calls something that is no function; it was not run")
        self.pay(*args)
        name = function.name
        if name in REFUSED:
            raise Unreadable(f"holds a {REFUSED[name]} tensor ({name}), and only plain ones are read")
        if name == "torch._tensor._rebuild_from_type_v2":  # a tensor with attributes: how it is made, class, arguments
            return self.call(args[0], args[2])
        if name in CALLS:
            return CALLS[name](*args)
        if name in INERT or new:
            return Placeholder(name, args)
        raise Unreadable(f"calls {shown(name)}, which makes no tensor; it was not run")

    def build(self, target: Any, state: Any):
        """Give an object its state. Of what is no placeholder the attributes are dropped."""
        if isinstance(target, Placeholder):
            parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)  # attributes, slots
            if not all(isinstance(part, dict | None) for part in parts):
                target.state = state
                return
            for part in filter(None, parts):
                self.pay(part)
                target.update(part)

    def pay(self, *values: Any):
        self.copies -= sum(len(value) for value in values if isinstance(value, str | tuple | list | dict))
        if self.copies < 0:
            raise Unreadable("holds a pickle that grows without end")

    def persistent(self, pid: Any) -> Any:
        match pid:
            case ("module", Global() as kind, *_):  # a class with its source code beside it
                return kind
            case ("storage", Global(name), str(key), _, int(count), *view):
                whole = Storage(self.records, key, _storage_dtype(name), count)
                _, start, length = view[0] if view and view[0] is not None else (None, 0, count)
                if not 0 <= start <= start + length <= count:
                    raise Unreadable(f"has a view that reaches out of storage {shown(key)}")
                self.storages.setdefault(key, whole)
                return Storage(self.records, key, whole.dtype, length, start)
        raise Unreadable("asks for a persistent object that is no storage")


def shown(text: str) -> str:
    """Return a text of a file as one that a terminal can be trusted with."""
    text = ascii(text)[1:-1]
    return text if len(text) <= 160 else text[:160] + " and so on"


def numpy_array(node: Any) -> np.ndarray | None:
    """Return the array of numbers that a pickle of NumPy described, or None if the node is no such thing."""
    match node:
        case Placeholder(
            name=name, state=(_, shape, Placeholder(args=(str(code), *_), state=more), fortran, bytes(data))
        ):
            order = more[1] if isinstance(more, tuple) and more[1:] else "|"
            if name in NDARRAY and re.fullmatch(r"[<>|=][biufc]\d{1,2}", f"{order}{code}"):
                return np.ndarray(shape, f"{order}{code}", data, order="F" if fortran else "C")
    return None


def _global(module: Any, name: Any) -> Global:
    if not isinstance(module, str) or not isinstance(name, str):
        raise Unreadable("names a class by something that is no text")
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))  # Python 2's names
    full = f"{module}.{name}"
    if module.partition(".")[0] in STANDARD and full not in CALLS and full not in INERT:
        raise Unreadable(f"names {shown(full)}, which is no tensor; it was not run")
    return Global(full)


def _storage_dtype(name: str) -> np.dtype:
    module, _, kind = name.rpartition(".")
    if kind.startswith("Q"):
        raise Unreadable(f"holds a quantised tensor ({shown(name)}), and only plain ones are read")
    if module.partition(".")[0] != "torch" or kind.removesuffix("Storage") not in STORAGES:
        raise Unreadable(f"holds a storage of the kind {shown(name)}, which is not read")
    return DTYPES[STORAGES[kind.removesuffix("Storage")]]


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, _grad: Any = None, _hooks: Any = None, flags: Any = None
):
    numbers = (offset, *size, *stride)
    if not isinstance(storage, Storage) or not all(isinstance(n, int) for n in numbers) or len(size) != len(stride):
        raise Unreadable("describes a tensor that cannot be")
    if flags:
        raise Unreadable(
            "holds a view that is to be conjugated or negated: save what resolve_conj().resolve_neg() gives"
        )
    return Tensor(storage, offset, tuple(size), tuple(stride), storage.dtype)


def _tensor_v3(storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, dtype: Any, flags: Any = None):
    if dtype.name.removeprefix("torch.") not in DTYPES:
        raise Unreadable(f"holds a tensor of {shown(dtype.name)}, which is not read")
    tensor = _tensor(storage, offset, size, stride, grad, hooks, flags)
    return replace(tensor, dtype=DTYPES[dtype.name.removeprefix("torch.")])


def _swapped(data: memoryview, dtype: np.dtype) -> memoryview:
    width = dtype.itemsize // (2 if dtype.kind == "c" else 1)
    return memoryview(np.frombuffer(data, f">u{width}").astype(f"<u{width}").tobytes())


def _pairs(items: list) -> Iterable[tuple[Any, Any]]:
    return zip(items[::2], items[1::2], strict=True)


def _mapping(items: Any = ()) -> dict:
    return dict(items) if isinstance(items, dict) else _update({}, items)


def _update(target: Any, pairs: Iterable[tuple[Any, Any]]) -> dict:
    if not isinstance(target, dict):
        raise Unreadable("is damaged: its pickle sets items of what is no dict")
    for key, value in pairs:  # hashing a tuple of tuples of tuples would overflow the stack
        target[key if isinstance(key, str | int | float | bytes | None) else f"#{len(target)}"] = value
    return target


def _extend(target: Any, items: list):
    if isinstance(target, Placeholder):  # of a subclass of list
        _update(target, enumerate(items, len(target)))
    elif isinstance(target, list):
        target.extend(items)
    else:
        raise Unreadable("is damaged: its pickle extends what is no list")


def _same(items: Any = (), *_: Any) -> Any:
    return items


CALLS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("collections.OrderedDict", "collections.Counter", "builtins.dict"), _mapping),
    "collections.defaultdict": lambda factory=None, items=(): _mapping(items),
    **dict.fromkeys(("builtins.list", "builtins.set", "builtins.frozenset", "builtins.tuple", "torch.Size"), _same),
    "_codecs.encode": lambda text, encoding="latin1": text.encode("latin1"),  # how protocol 2 writes bytes
    **dict.fromkeys(("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"), _tensor),
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    **dict.fromkeys(("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"), _same),
    **dict.fromkeys(("torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer"), _same),
}
