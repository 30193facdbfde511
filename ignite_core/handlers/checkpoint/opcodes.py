"""A pickle walked through without running it: what it would build, and how large that would become.

``torch.load(weights_only=True)`` calls only functions of its own list, but believes what it tells them: a tensor of
2 GiB in a file of a kilobyte. Here every number is compared with the bytes that are there, before anything is built.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from ignite_core.exceptions import CheckpointError
from ignite_core.handlers.checkpoint.rebuilding import Budget, Global, Node, Storage, call, find, storage

__all__ = ["check_pickle"]

_MARK = object()

#: Bytes of a list that is begun and may stay empty.
_LIST = 64


def check_pickle(data: bytes, records: Mapping[str, int], budget: Budget) -> None:
    r"""Make sure that a pickle holds only what state dicts are made of, and that all its tensors lie in their records.

    Args:
        data: The pickle.
        records: Bytes of each storage, by its key.
        budget: What may be built.

    Raises:
        CheckpointError: Naming what is refused.

    Example:
        >>> import pickle
        >>> check_pickle(pickle.dumps({"lr": 0.1}, protocol=2), {}, Budget(100))
        >>> check_pickle(b"cos\nsystem\n.", {}, Budget(100))
        Traceback (most recent call last):
        ignite_core.exceptions.CheckpointError: holds os.system, which ...
    """
    _Walk(data, records, budget).run()


class _Walk:
    """The stack machine that a pickle is a program for, with values that only say what they would be."""

    def __init__(self, data: bytes, records: Mapping[str, int], budget: Budget) -> None:
        self._data, self._records, self._budget = data, records, budget
        self._at = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._storages: dict[str, Storage] = {}

    def run(self) -> None:
        """Walk to the end."""
        operations = _OPERATIONS
        try:
            while True:
                code = self._data[self._at]
                self._at += 1
                if code == _STOP:
                    break
                operations[code](self)
            result = self._stack.pop()
        except (IndexError, KeyError, struct.error, UnicodeDecodeError) as error:
            self._refuse(error)
        if self._stack or result is _MARK or self._at != len(self._data):
            self._refuse(None)

    def _refuse(self, error: Exception | None) -> NoReturn:
        raise CheckpointError(f"has no valid list of its contents (byte {self._at} of data.pkl)") from error

    def _take(self, size: int) -> bytes:
        begin, self._at = self._at, self._at + size
        if self._at > len(self._data):
            raise IndexError(self._at)
        return self._data[begin : self._at]

    def _line(self) -> str:
        end = self._data.find(b"\n", self._at)
        if end < 0:
            raise IndexError(self._at)
        return self._take(end + 1 - self._at)[:-1].decode()

    def _pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise IndexError(self._at)
        return value

    def _pop_to_mark(self) -> list[Any]:
        at = len(self._stack) - 1
        while self._stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise IndexError(self._at)
        values = self._stack[at + 1 :]
        del self._stack[at:]
        return values

    def _new(self, kind: str, items: tuple[Any, ...] = ()) -> None:
        node = Node(kind, items if kind == "tuple" else ())
        self._stack.append(node)
        self._budget.build(node, items)

    def _fill(self, kinds: tuple[str, ...], items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, Node) or target.kind not in kinds:
            self._refuse(None)
        self._budget.fill(target, items)

    def mark(self) -> None:
        self._budget.spend(_LIST)
        self._stack.append(_MARK)

    def put(self, number: int) -> None:
        if not self._stack or self._stack[-1] is _MARK:
            raise IndexError(self._at)
        self._budget.remember()
        self._memo[number] = self._stack[-1]

    def set_items(self, items: list[Any]) -> None:
        if len(items) % 2:
            self._refuse(None)
        self._budget.hash(items[::2])
        self._fill(("dict", "OrderedDict", "Counter"), items)

    def find_global(self) -> None:
        module, name = self._line(), self._line()
        self._stack.append(find(module, name))

    def call(self) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Global) or not isinstance(arguments, Node) or arguments.kind != "tuple":
            self._refuse(None)
        self._stack.append(call(function, arguments, self._budget))

    def set_state(self) -> None:
        state, target = self._pop(), self._stack[-1]
        is_known = isinstance(target, Node) and target.kind in ("OrderedDict", "own")
        if not is_known or not (isinstance(state, Node) and state.kind in ("dict", "tuple")):
            self._refuse(None)
        self._budget.fill(target, [state])

    def find_storage(self) -> None:
        key, found = storage(self._pop(), self._records)
        self._stack.append(self._storages.setdefault(key, found))


def _push(read: Callable[[_Walk], Any]) -> Callable[[_Walk], None]:
    return lambda walk: walk._stack.append(read(walk))


def _unpacked(code: str) -> Callable[[_Walk], int]:
    size = struct.calcsize(code)
    return lambda walk: int(struct.unpack(code, walk._take(size))[0])


_BYTE, _SHORT, _INT, _LENGTH = _unpacked("<B"), _unpacked("<H"), _unpacked("<i"), _unpacked("<I")
_STOP = ord(".")

#: What `torch.load(weights_only=True)` understands, and no more.
_OPERATIONS: dict[int, Callable[[_Walk], None]] = {
    ord(code): operation
    for code, operation in {
        "\x80": lambda walk: None if _BYTE(walk) == 2 else walk._refuse(None),
        "(": _Walk.mark,
        "N": _push(lambda walk: None),
        "\x88": _push(lambda walk: True),
        "\x89": _push(lambda walk: False),
        "K": _push(_BYTE),
        "M": _push(_SHORT),
        "J": _push(_INT),
        "\x8a": _push(lambda walk: int.from_bytes(walk._take(_BYTE(walk)), "little", signed=True)),
        "G": _push(lambda walk: struct.unpack(">d", walk._take(8))[0]),
        "X": _push(lambda walk: walk._take(_LENGTH(walk)).decode("utf-8", "surrogatepass")),
        "U": _push(lambda walk: walk._take(_BYTE(walk)).decode("ascii")),
        "q": lambda walk: walk.put(_BYTE(walk)),
        "r": lambda walk: walk.put(_LENGTH(walk)),
        "h": _push(lambda walk: walk._memo[_BYTE(walk)]),
        "j": _push(lambda walk: walk._memo[_LENGTH(walk)]),
        ")": _push(lambda walk: Node("tuple")),  # there is only one
        "\x85": lambda walk: walk._new("tuple", (walk._pop(),)),
        "\x86": lambda walk: walk._new("tuple", (walk._pop(), walk._pop())[::-1]),
        "\x87": lambda walk: walk._new("tuple", (walk._pop(), walk._pop(), walk._pop())[::-1]),
        "t": lambda walk: walk._new("tuple", tuple(walk._pop_to_mark())),
        "]": lambda walk: walk._new("list"),
        "}": lambda walk: walk._new("dict"),
        "\x8f": lambda walk: walk._new("set"),
        "a": lambda walk: walk._fill(("list",), [walk._pop()]),
        "e": lambda walk: walk._fill(("list",), walk._pop_to_mark()),
        "s": lambda walk: walk.set_items([walk._pop(), walk._pop()][::-1]),
        "u": lambda walk: walk.set_items(walk._pop_to_mark()),
        "c": _Walk.find_global,
        "R": _Walk.call,
        "b": _Walk.set_state,
        "\x81": _Walk.call,
        "Q": _Walk.find_storage,
    }.items()
}
