"""Files made to do harm when they are loaded: run code, fill memory, waste time, reach other files (R27)."""

from __future__ import annotations

import functools
import io
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.faults.sizes import sized

__all__ = ["FILES", "FREE_BYTES", "GOOD", "MANY", "PIECES", "SMALL", "archive", "files", "program", "saved"]

#: How many make a file that would fill the memory, where so many bytes may be taken whatever its size.
MANY, FREE_BYTES = sized(40_000, 600_000), sized(2, 32) * 2**20

#: Operations of a pickle.
PROTO, STOP, MARK, REDUCE, BUILD, TUPLE, LIST, DICT = b"\x80\x02", b".", b"(", b"R", b"b", b"t", b"]", b"}"


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def found(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def called(module: str, name: str, *arguments: bytes) -> bytes:
    return found(module, name) + MARK + b"".join(arguments) + TUPLE + REDUCE


def several(*values: bytes) -> bytes:
    return MARK + b"".join(values) + TUPLE


def storage(key: str, numel: int, kind: str = "FloatStorage", place: str = "cpu") -> bytes:
    return several(text("storage"), found("torch", kind), text(key), text(place), integer(numel)) + b"Q"


def tensor(place: bytes, size: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    hooks = called("collections", "OrderedDict")
    sizes, strides = (several(*map(integer, values)) for values in (size, stride))
    return called("torch._utils", "_rebuild_tensor_v2", place, integer(offset), sizes, strides, b"\x89", hooks)


def program(*operations: bytes) -> bytes:
    return PROTO + b"".join(operations) + STOP


def archive(pickled: bytes, records: dict[str, bytes] | None = None, method: int = zipfile.ZIP_STORED) -> bytes:
    """A file as torch.save writes it, around any pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, data in {"data.pkl": pickled, "version": b"3\n", **(records or {})}.items():
            made.writestr(zipfile.ZipInfo(f"archive/{name}"), data, method)
    return file.getvalue()


def saved(value: Any) -> bytes:
    """As torch.save writes it."""
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def tripled(*operations: bytes) -> bytes:
    """Tensors, an optimizer and a run, with something in the innermost part of it."""
    group = DICT + MARK + text("lr") + b"".join(operations) + b"u"
    optimizer = DICT + MARK + text("state") + DICT + text("param_groups") + LIST + MARK + group + b"e" + b"u"
    return program(DICT + MARK + text("model") + DICT + text("optimizer") + optimizer + b"u")


class Runs:
    """Whoever unpickles it runs a shell command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def laughs(levels: int, begin: bytes, many: Callable[[bytes], bytes]) -> bytes:
    """Containers of two of the same, of two of the same, …"""
    operations = begin + b"q\x00"
    for number in range(levels):
        operations += many(b"h" + bytes([number])) + b"q" + bytes([number + 1])
    return program(MARK, operations, TUPLE)  # a stack with more than one value on it is refused for that alone


#: The modulus of the hash of an integer; the numbers that the hash of a tuple is made with.
PRIME = 2**61 - 1
_ONE, _TWO, _FIVE = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x27D4EB2F165667C5
_INVERSE = pow(_TWO, -1, 2**64)


@functools.cache
def colliding(count: int) -> list[bytes]:
    """Tuples of two small numbers that all have one hash."""
    pairs, first = [], 0
    while len(pairs) < count:
        first += 1
        mixed = (_FIVE + first * _TWO) % 2**64
        mixed = ((mixed << 31 | mixed >> 33) % 2**64) * _ONE % 2**64
        second = (7 - mixed) * _INVERSE % 2**64
        if second < PRIME:
            pairs.append(several(integer(first), integer(second)))
    return pairs


def mapping(keys: list[bytes]) -> bytes:
    return DICT + MARK + b"".join(key + b"N" for key in keys) + b"u"


def central(data: bytes, change: Callable[[bytearray, int], None], name: bytes = b"archive/data.pkl") -> bytes:
    """Change the entry of a record in the table of contents."""
    changed = bytearray(data)
    at = data.rfind(b"PK\x01\x02", 0, data.rfind(name))
    change(changed, at)
    return bytes(changed)


def local(data: bytes, change: Callable[[bytearray, int], None], name: bytes = b"archive/data.pkl") -> bytes:
    changed = bytearray(data)
    at = data.rfind(b"PK\x03\x04", 0, data.find(name))
    change(changed, at)
    return bytes(changed)


def put(code: str, offset: int, *values: int) -> Callable[[bytearray, int], None]:
    return lambda data, at: struct.pack_into(code, data, at + offset, *values)


def end(data: bytes, code: str, offset: int, *values: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(code, changed, data.rfind(b"PK\x05\x06") + offset, *values)
    return bytes(changed)


def renamed(data: bytes, name: bytes, other: bytes) -> bytes:
    assert len(name) == len(other)
    return data.replace(name, other)


def two_of_a_name(second: bytes) -> bytes:
    """Readers differ in which of the two they take."""
    data = archive(b"\x80\x02}.", {"data/1": bytes(4)})
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file := io.BytesIO(), "w") as new:
        for info in old.infolist():
            new.writestr(info, old.read(info))
        extra = zipfile.ZipInfo(f"archive/{second.decode()}")
        new.fp.write(b"")  # type: ignore[union-attr]
        new.NameToInfo.pop(extra.filename, None)
        new.writestr(extra, b"\x80\x02]." if second.lower() == b"data.pkl" else bytes(8))
    return file.getvalue()


GOOD = saved({"weight": torch.arange(100.0)})
SMALL = archive(program(tensor(storage("0", 4), (4,), (1,))), {"data/0": bytes(16)})


#: Its first record reaches into the next one.
LONG = central(local(SMALL, put("<2I", 18, 300, 300)), put("<2I", 20, 300, 300))


def files(canary: Path) -> dict[str, bytes]:
    """By name; those that run something would make the file ``canary``."""
    command = f"touch {canary}"
    touch = text(command)
    system = called("os", "system", touch)
    python = text(f"open({str(canary)!r}, 'w')")
    huge = 2**40
    return {
        # code
        "os.system": archive(program(system)),
        "posix.system": archive(program(called("posix", "system", touch))),
        "subprocess": archive(program(called("subprocess", "getoutput", touch))),
        "builtins.eval": archive(program(called("builtins", "eval", python))),
        "__builtin__.eval, of Python 2": archive(program(called("__builtin__", "eval", python))),
        "builtins.exec": archive(program(called("builtins", "exec", python))),
        "builtins.getattr": archive(
            program(called("builtins", "getattr", found("torch", "Tensor"), text("__class__")))
        ),
        "builtins.__import__": archive(program(called("builtins", "__import__", text("antigravity")))),
        "operator.attrgetter": archive(program(called("operator", "attrgetter", text("__class__.__base__")))),
        "functools.partial": archive(program(called("functools", "partial", found("os", "system"), touch))),
        "importlib": archive(program(called("importlib", "import_module", text("antigravity")))),
        "torch.hub.load": archive(program(called("torch.hub", "load", text("a/b"), text("c")))),
        "torch.load": archive(program(called("torch.serialization", "load", text("/etc/passwd")))),
        "a name within a name": archive(program(called("torch", "os.system", touch))),
        "a module that blocks": archive(program(called("sys", "exit"))),
        "an inner part": archive(tripled(system)),
        "a model": saved({"model": torch.nn.Linear(1, 1)}),
        "an object": saved({"optimizer": Runs(command)}),
        "a pickle of today": archive(pickle.dumps(Runs(command), protocol=4)),
        "a pickle without an archive": pickle.dumps(Runs(command)),
        "an instruction of old": archive(program(MARK + text("x") + b"ios\nsystem\n")),
        "an object of old": archive(program(MARK + found("os", "system") + touch + b"o")),
        "a class by number": archive(program(b"\x82\x01")),
        "a storage that is a command": archive(program(several(text("os.system"), touch) + b"Q")),
        "an attribute that is a class": archive(
            program(tensor(storage("0", 4), (4,), (1,)) + DICT + BUILD), {"data/0": bytes(16)}
        ),
        "another pickle in the archive": archive(program(DICT), {"../data.pkl": program(system)}),
        "code of TorchScript": archive(
            program(DICT), {"code/__torch__.py": b"import os", "constants.pkl": b"\x80\x02)."}
        ),
        "a legacy file": _legacy(),
        "a tar file": _tar(command),
        # memory
        "torch.Tensor(2**31)": archive(program(called("torch", "Tensor", integer(2**31)))),
        "torch.FloatTensor(2**31)": archive(program(called("torch", "FloatTensor", integer(2**31)))),
        "a class made with a size": archive(program(found("torch", "Tensor") + several(integer(2**31)) + b"\x81")),
        "torch.FloatStorage(2**31)": archive(program(called("torch", "FloatStorage", integer(2**31)))),
        "UntypedStorage(2**31)": archive(program(called("torch.storage", "UntypedStorage", integer(2**31)))),
        "bytearray(2**31)": archive(program(called("builtins", "bytearray", integer(2**31)))),
        "a tensor attached to a size": archive(
            program(
                called(
                    "torch._tensor",
                    "_rebuild_from_type_v2",
                    found("torch", "Tensor"),
                    found("torch", "Tensor"),
                    several(integer(2**31)),
                    DICT,
                )
            )
        ),
        "a tensor without bytes": archive(
            program(
                called(
                    "torch._utils",
                    "_rebuild_meta_tensor_no_storage",
                    found("torch", "float32"),
                    several(integer(huge)),
                    several(integer(1)),
                    b"\x89",
                )
            )
        ),
        "a sparse tensor": saved(
            torch.sparse_coo_tensor(
                torch.zeros(1, 0, dtype=torch.long), torch.zeros(0), (huge,), check_invariants=False
            )
        ),
        "a storage larger than its record": archive(
            program(tensor(storage("0", huge), (4,), (1,))), {"data/0": bytes(16)}
        ),
        "a storage smaller than its record": archive(
            program(tensor(storage("0", 2), (2,), (1,))), {"data/0": bytes(16)}
        ),
        "a storage of 2**63": archive(program(tensor(storage("0", 2**63), (4,), (1,))), {"data/0": bytes(16)}),
        "a storage of less than nothing": archive(program(tensor(storage("0", -4), (4,), (1,))), {"data/0": bytes(16)}),
        "a storage that is not there": archive(program(tensor(storage("7", 4), (4,), (1,))), {"data/0": bytes(16)}),
        "a tensor larger than its storage": archive(
            program(tensor(storage("0", 4), (5,), (1,))), {"data/0": bytes(16)}
        ),
        "a tensor beside its storage": archive(program(tensor(storage("0", 4), (1,), (1,), 4)), {"data/0": bytes(16)}),
        "a tensor before its storage": archive(program(tensor(storage("0", 4), (1,), (1,), -1)), {"data/0": bytes(16)}),
        "a tensor that goes backwards": archive(
            program(tensor(storage("0", 4), (2,), (-1,), 1)), {"data/0": bytes(16)}
        ),
        "a tensor of less than nothing": archive(program(tensor(storage("0", 4), (-1,), (1,))), {"data/0": bytes(16)}),
        "one number 2**40 times": archive(program(tensor(storage("0", 4), (huge,), (0,))), {"data/0": bytes(16)}),
        "2**63 numbers by two dimensions": archive(
            program(tensor(storage("0", 4), (2**32, 2**31), (0, 0))), {"data/0": bytes(16)}
        ),
        "dimensions without end": archive(
            program(tensor(storage("0", 4), (1,) * (MANY // 10), (0,) * (MANY // 10))), {"data/0": bytes(16)}
        ),
        "views without end of four numbers": archive(
            program(
                storage("0", 4) + b"q\x00" + found("torch._utils", "_rebuild_tensor") + b"q\x01",
                several(b"h\x00", b"K\x00", several(b"K\x04"), several(b"K\x01"))
                + b"q\x02"
                + several(b"h\x01h\x02R" * (MANY // 10)),
            ),
            {"data/0": bytes(16)},
        ),
        "lists upon lists": archive(program(several(LIST * MANY))),
        "marks upon marks": archive(program(MARK * MANY + TUPLE * MANY)),
        "the same list made a set a thousand times": archive(
            program(
                LIST + MARK + b"K\x01" * (MANY // 10) + b"eq\x00" + found("builtins", "set") + b"q\x01",
                several(b"h\x01h\x00\x85R" * 1000),
            )
        ),
        "the same text made bytes a thousand times": archive(
            program(
                text("x" * 10**6) + b"q\x00" + found("_codecs", "encode") + b"q\x01" + text("latin1") + b"q\x02",
                several(b"h\x01h\x00h\x02\x86R" * 1000),
            )
        ),
        "a codec that is none": archive(program(called("_codecs", "encode", text("a" * 100), text("punycode")))),
        # values in values
        "laughing lists": archive(laughs(60, LIST, lambda same: LIST + MARK + same * 2 + b"e")),
        "laughing tuples": archive(laughs(60, b")", lambda same: several(same * 2))),
        "laughing dicts": archive(
            laughs(60, DICT, lambda same: DICT + MARK + b"K\x00" + same + b"K\x01" + same + b"u")
        ),
        "laughing lists, from the outside": archive(
            program(
                several(
                    *(LIST + b"q" + bytes([n]) for n in range(60)),
                    *(b"h" + bytes([n]) + MARK + (b"h" + bytes([n + 1])) * 2 + b"e" for n in range(59)),
                )
            )
        ),
        "a list in itself": archive(program(LIST + b"q\x00h\x00a")),
        "a dict in a tuple in itself": archive(program(DICT + b"q\x00" + b"K\x00h\x00\x85s")),
        "a key that takes a year to hash": archive(
            program(
                several(
                    laughs(18, b")", lambda same: several(same * 2))[2:-1] + b"q\x13",
                    DICT + MARK + b"h\x13K\x00" * 1000 + b"u",
                )
            )
        ),
        "ten thousand tuples deep": archive(program(b")" + b"\x85" * 10**4)),
        "ten thousand lists deep": archive(program(LIST * 10**4 + b"a" * (10**4 - 1))),
        # keys that collide
        "ints that collide": archive(program(mapping([integer(number * PRIME) for number in range(1, MANY // 4)]))),
        "numbers that collide": archive(
            program(
                mapping(
                    [
                        called("builtins", "complex", *(b"G" + struct.pack(">d", part) for part in (-1000003.0 * n, n)))
                        for n in range(1, 1000)
                    ]
                )
            )
        ),
        "tuples that collide": archive(program(mapping(colliding(1000)))),
        "tuples that collide in a set": archive(
            program(called("builtins", "set", LIST + MARK + b"".join(colliding(1000)) + b"e"))
        ),
        "tuples that collide in an ordered dict": archive(
            program(called("collections", "OrderedDict") + mapping(colliding(1000))[1:])
        ),
        "long keys": archive(
            program(mapping([several(*[b"K\x01"] * 100, integer(number)) for number in range(MANY // 100)]))
        ),
        "memo numbers that collide": archive(
            program(LIST + b"".join(b"r" + struct.pack("<I", number << 16) for number in range(1, 1000)))
        ),
        # what takes the place of methods
        "items of an ordered dict": archive(
            program(
                called("collections", "OrderedDict")
                + mapping([])
                + MARK
                + text("items")
                + found("torch", "Size")
                + b"ub"
            )
        ),
        "data of a parameter": archive(
            program(
                called(
                    "torch._utils",
                    "_rebuild_parameter_with_state",
                    tensor(storage("0", 4), (4,), (1,)),
                    b"\x89",
                    called("collections", "OrderedDict"),
                    DICT + MARK + text("data") + tensor(storage("0", 4), (4,), (1,)) + b"u",
                )
            ),
            {"data/0": bytes(16)},
        ),
        # pickles out of order
        "no pickle": archive(b""),
        "a pickle without an end": archive(PROTO + DICT),
        "more after the end": archive(program(DICT) + b"}"),
        "an empty stack": archive(program(b"a")),
        "a text longer than the file": archive(program(b"X" + struct.pack("<I", 2**32 - 1) + b"x")),
        "a global without an end": archive(PROTO + b"ctorch"),
        "a number of nothing": archive(program(b"h\x07")),
        "a text that is none": archive(program(b"X\x01\x00\x00\x00\xff")),
        "a text beyond Python": archive(program(b"U\x01\xff")),
        "a dict with half an item": archive(program(DICT + MARK + b"K\x00" + b"u")),
        "a list of a dict": archive(program(LIST + b"K\x00K\x00s")),
        # archives
        "deflated": archive(
            program(tensor(storage("0", 10**6), (10**6,), (1,))), {"data/0": bytes(4 * 10**6)}, zipfile.ZIP_DEFLATED
        ),
        "encrypted": central(local(SMALL, put("<H", 6, 1)), put("<H", 8, 1)),
        "stored, says the table; deflated, says the header": local(SMALL, put("<H", 8, 8)),
        "another size in the header": local(SMALL, put("<I", 22, 5)),
        "another name in the header": local(
            SMALL, lambda data, at: data.__setitem__(slice(at + 30, at + 37), b"ARCHIVE")
        ),
        "a record beyond the end": central(SMALL, put("<2I", 20, 10**6, 10**6)),
        "a record of 2**64 bytes": central(SMALL, put("<2I", 20, 2**32 - 1, 2**32 - 1)),
        "a header beyond the end": central(SMALL, put("<I", 42, 10**9)),
        "two records in the same place": central(SMALL, put("<I", 42, 0), b"archive/version"),
        "records that overlap": LONG,
        "the same name twice": two_of_a_name(b"data/1"),
        "the same name in capitals": two_of_a_name(b"DATA.PKL"),
        "another folder": renamed(SMALL, b"archive/data/0", b"ARCHIVE/data/0"),
        "a name that climbs": renamed(SMALL, b"archive/data/0", b"archive/../etc"),
        "a name from the root": renamed(SMALL, b"archive/data/0", b"/etc/passwd/00"),
        "a name that ends early": renamed(SMALL, b"archive/data/0", b"archive/data\x000"),
        "a name that is no text": renamed(SMALL, b"archive/data/0", b"archive/data/\xff"),
        "more entries than there are": end(SMALL, "<2H", 8, 9, 9),
        "fewer entries than there are": end(SMALL, "<2H", 8, 1, 1),
        "a table elsewhere": end(SMALL, "<I", 16, 0),
        "a second disk": end(SMALL, "<H", 4, 1),
        "a comment": end(SMALL, "<H", 20, 4) + b"PK\x05\x06",
        "a table of 2**32 bytes": end(SMALL, "<I", 12, 2**32 - 1),
        "something in front": b"#!/bin/sh\n" + SMALL,
        "a table in 64 bits that lies": GOOD[: GOOD.rfind(b"PK\x06\x06") + 32]
        + struct.pack("<Q", 1)
        + GOOD[GOOD.rfind(b"PK\x06\x06") + 40 :],
        "a table in 64 bits elsewhere": GOOD[: GOOD.rfind(b"PK\x06\x07") + 8]
        + struct.pack("<Q", 0)
        + GOOD[GOOD.rfind(b"PK\x06\x07") + 16 :],
        "no table": SMALL[:-22],
        "cut in half": GOOD[: len(GOOD) // 2],
        "nothing": b"",
        "only the end of an archive": SMALL[-22:],
        "a long byte order": archive(program(DICT), {"byteorder": b"little" * 10**5}),
        "an alignment of many digits": archive(program(DICT), {".storage_alignment": b"9" * 10**5}),
        "something compressed": zlib.compress(bytes(10**6)),
    }


def _legacy() -> bytes:
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(4)}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def _tar(command: str) -> bytes:
    import tarfile

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        data = pickle.dumps(Runs(command))
        for name in ("storages", "tensors", "pickle"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            made.addfile(info, io.BytesIO(data))
    return file.getvalue()


FILES = list(files(Path("canary")))

#: Operations that a random program is put together from.
PIECES = [
    *(bytes([code]) for code in b"(N\x88\x89)\x85\x86\x87t]}\x8faesuRbQ\x81q\x00q\x01h\x00h\x01"),
    *(b"q\x00", b"h\x00", b"K\x01", integer(7), text("0"), text("storage"), text("cpu"), text("latin1")),
    *(found(module, name) for module, name in [("collections", "OrderedDict"), ("torch", "Size"), ("builtins", "set")]),
    *(found(module, name) for module, name in [("torch", "FloatStorage"), ("torch._utils", "_rebuild_tensor_v2")]),
    *(storage("0", 4), tensor(storage("0", 4), (2, 2), (2, 1)), called("collections", "OrderedDict")),
]
