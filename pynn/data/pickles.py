"""Owns reading pickles of plain data: an interpreter of the few opcodes that CIFAR-10's batches consist of.

Python's own unpickler is not used: besides running code, it takes memory and recursion without bound. Here work
and memory are bounded by the size of the file: a fixed number of opcodes and containers, each byte of the file
copied once, and nothing that is built is ever compared, hashed or printed, but for strings and numbers.

The opcodes are those by which Python 2 (the official files), Python 3 and NumPy write dicts, lists, tuples,
numbers, strings and arrays of bytes, in the protocols 0 to 5; their meaning is in Python's pickletools.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pynn.text import clean

__all__ = ["PickledArray", "unpickle"]

_MAX_OPCODES = 1 << 18  # an official batch has 50,000
_MAX_CONTAINERS = 64  # of which nesting is a part; an official batch has 8
_MAX_DIGITS = 20


class PickledArray:
    """A uint8 array of a pickle: its shape and its bytes."""

    shape: tuple[int, ...] = ()

    def set(self, content, dtype, shape, fortran_order) -> None:
        """Takes what NumPy pickles of an array; ValueError unless these are bytes, as many as the shape says."""
        if not (isinstance(dtype, _Dtype) and dtype.code in ("u1", b"u1")):
            raise ValueError("it holds an array that is not of uint8")
        if not (isinstance(shape, tuple) and 1 <= len(shape) <= 4 and all(type(n) is int for n in shape)):
            raise ValueError("it holds an array whose shape is none")
        if not isinstance(content, bytes) or min(shape) < 0 or len(content) != math.prod(shape):
            raise ValueError(f"it holds an array of shape {shape} without the bytes for it")
        self.shape, self._content, self._order = shape, content, "F" if fortran_order else "C"

    def to_numpy(self) -> np.ndarray:
        """The array, read-only; ValueError where the pickle never said what is in it."""
        if not self.shape:
            raise ValueError("it holds an array without content")
        array = np.frombuffer(self._content, np.uint8)
        return array.reshape(self.shape) if self._order == "C" else array.reshape(self.shape[::-1]).T


class _Dtype:
    """Stands in for numpy.dtype: keeps its code."""

    def __init__(self, code):
        self.code = code


def _reconstruct(*_) -> PickledArray:
    return PickledArray()


def _frombuffer(content, dtype, shape, order) -> PickledArray:
    array = PickledArray()
    array.set(content, dtype, shape, order == "F")
    return array


def _encode(text, encoding) -> bytes:
    """By _codecs.encode Python 3 writes bytes into pickles that Python 2 can read."""
    if encoding != "latin1" or not isinstance(text, str):
        raise ValueError("it asks for an encoding that is not latin1")
    return text.encode("latin1")


# What a pickle may name, and what stands in for it.
_GLOBALS: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): lambda code, *_: _Dtype(code),
    ("numpy", "ndarray"): None,  # an argument of _reconstruct
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("numpy._core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): lambda: b"",
    ("builtins", "bytes"): lambda: b"",
}


def unpickle(content: bytes) -> object:
    """The object in a pickle of plain containers, numbers, strings and uint8 arrays (as PickledArray).

    Raises ValueError for everything else, also where the pickle is larger in opcodes or containers than any batch.
    """
    return _Machine(content).run()


class _Machine:
    """A stack, the marks in it where groups begin, and the memo of objects that are used again."""

    def __init__(self, content: bytes):
        self.content = content
        self.at = 0
        self.stack: list = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}
        self.containers = 0
        self.encoded = 0  # characters that calls have encoded

    def run(self) -> object:
        for _ in range(_MAX_OPCODES):
            code = self.take(1)[0]
            if code == _STOP:
                return self.pop()
            if code not in _OPCODES:
                raise ValueError(f"its opcode 0x{code:02x} at byte {self.at - 1:,} is none that batches need")
            _OPCODES[code](self)
        raise ValueError(f"it has more than {_MAX_OPCODES:,} opcodes")

    # -- the bytes

    def take(self, n: int) -> bytes:
        left = len(self.content) - self.at
        if n > left:
            raise ValueError(f"it claims {n:,} more bytes where {left:,} are left")
        self.at += n
        return self.content[self.at - n : self.at]

    def unsigned(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def sized(self, width: int) -> bytes:
        return self.take(self.unsigned(width))

    def text(self, width: int) -> str:
        return str(self.sized(width), "utf-8", "surrogatepass")

    def line(self) -> bytes:
        end = self.content.find(b"\n", self.at)
        if end < 0:
            raise ValueError("it ends within a line")
        line = self.take(end - self.at)
        self.at += 1
        return line

    def decimal(self) -> int:
        line = self.line().removesuffix(b"L")
        if len(line) > _MAX_DIGITS:
            raise ValueError(f"it holds a number of {len(line):,} digits")
        return int(line)

    def short_long(self) -> int:
        n = self.unsigned(1)
        if n > 8:
            raise ValueError(f"it holds a number of {n} bytes")
        return int.from_bytes(self.take(n), "little", signed=True)

    # -- the stack

    def push(self, value) -> None:
        self.stack.append(value)

    def push_container(self, value) -> None:
        self.containers += 1
        if self.containers > _MAX_CONTAINERS:
            raise ValueError(f"it has more than {_MAX_CONTAINERS} containers")
        self.stack.append(value)

    def pop(self):
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("it takes from an empty stack")
        return self.stack.pop()

    def top(self):
        value = self.pop()
        self.stack.append(value)
        return value

    def mark(self) -> None:
        if len(self.marks) == _MAX_CONTAINERS:
            raise ValueError(f"it is nested deeper than {_MAX_CONTAINERS}")
        self.marks.append(len(self.stack))

    def since_mark(self) -> list:
        if not self.marks:
            raise ValueError("it ends a group that it never began")
        height = self.marks.pop()
        values = self.stack[height:]
        del self.stack[height:]
        return values

    def last(self, n: int) -> list:
        return [self.pop() for _ in range(n)][::-1]

    # -- what is done with the stack

    def extend(self, values: list) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise ValueError("it appends to what is no list")
        target += values

    def update(self, values: list) -> None:
        target = self.top()
        if not isinstance(target, dict) or len(values) % 2:
            raise ValueError("it sets items of what is no dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            if not isinstance(key, str | bytes):
                raise ValueError("it holds a dict with keys that are no strings")
            target[key] = value

    def new_dict(self) -> None:
        values = self.since_mark()
        self.push_container({})
        self.update(values)

    def remember(self, index: int) -> None:
        self.memo[index] = self.top()

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise ValueError(f"it recalls object {index}, which it never made")
        self.push(self.memo[index])

    def find(self, module, name) -> None:
        if not (isinstance(module, str) and isinstance(name, str)):
            raise ValueError("it asks for something whose name is no text")
        if (module, name) not in _GLOBALS:
            raise ValueError(f"it asks for {clean(module, 30)}.{clean(name, 30)}, only NumPy arrays are admitted")
        self.push(_GLOBALS[module, name])

    def call(self) -> None:
        function, arguments = self.last(2)
        if not callable(function) or not isinstance(arguments, tuple):
            raise ValueError("it calls what is no function of NumPy arrays")
        if function is _encode and arguments and isinstance(arguments[0], str):
            self.encoded += len(arguments[0])  # one text could be recalled and encoded without end
            if self.encoded > len(self.content):
                raise ValueError("it encodes more text than it has")
        try:
            value = function(*arguments)
        except TypeError as error:
            raise ValueError("it calls a function with other arguments than NumPy does") from error
        self.push(value) if isinstance(value, bytes) else self.push_container(value)

    def build(self) -> None:
        target, state = self.last(2)
        if isinstance(target, PickledArray) and isinstance(state, tuple) and len(state) == 5:
            _, shape, dtype, fortran_order, content = state
            target.set(content, dtype, shape, fortran_order)
        elif not isinstance(target, _Dtype):  # its state is byte order and fields, and a byte has neither
            raise ValueError("it sets the state of what is no array")
        self.push(target)


_STOP = ord(".")
_OPCODES: dict[int, Callable[[_Machine], object]] = {
    0x80: lambda m: m.take(1),  # the protocol
    0x95: lambda m: m.take(8),  # the size of a frame
    ord("("): _Machine.mark,
    # numbers and constants
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("I"): lambda m: m.push(m.decimal()),
    ord("L"): lambda m: m.push(m.decimal()),
    ord("K"): lambda m: m.push(m.unsigned(1)),
    ord("M"): lambda m: m.push(m.unsigned(2)),
    ord("J"): lambda m: m.push(int.from_bytes(m.take(4), "little", signed=True)),
    0x8A: lambda m: m.push(m.short_long()),
    # text and bytes
    ord("V"): lambda m: m.push(str(m.line(), "raw-unicode-escape")),
    ord("X"): lambda m: m.push(m.text(4)),
    0x8C: lambda m: m.push(m.text(1)),
    0x8D: lambda m: m.push(m.text(8)),
    ord("U"): lambda m: m.push(m.sized(1)),
    ord("T"): lambda m: m.push(m.sized(4)),
    ord("C"): lambda m: m.push(m.sized(1)),
    ord("B"): lambda m: m.push(m.sized(4)),
    0x8E: lambda m: m.push(m.sized(8)),
    0x96: lambda m: m.push(m.sized(8)),
    # containers
    ord("}"): lambda m: m.push_container({}),
    ord("]"): lambda m: m.push_container([]),
    ord(")"): lambda m: m.push_container(()),
    ord("d"): _Machine.new_dict,
    ord("l"): lambda m: m.push_container(m.since_mark()),
    ord("t"): lambda m: m.push_container(tuple(m.since_mark())),
    0x85: lambda m: m.push_container(tuple(m.last(1))),
    0x86: lambda m: m.push_container(tuple(m.last(2))),
    0x87: lambda m: m.push_container(tuple(m.last(3))),
    ord("a"): lambda m: m.extend(m.last(1)),
    ord("e"): lambda m: m.extend(m.since_mark()),
    ord("s"): lambda m: m.update(m.last(2)),
    ord("u"): lambda m: m.update(m.since_mark()),
    # the memo
    ord("p"): lambda m: m.remember(m.decimal()),
    ord("q"): lambda m: m.remember(m.unsigned(1)),
    ord("r"): lambda m: m.remember(m.unsigned(4)),
    0x94: lambda m: m.remember(len(m.memo)),
    ord("g"): lambda m: m.recall(m.decimal()),
    ord("h"): lambda m: m.recall(m.unsigned(1)),
    ord("j"): lambda m: m.recall(m.unsigned(4)),
    # arrays
    ord("c"): lambda m: m.find(str(m.line(), "utf-8"), str(m.line(), "utf-8")),
    0x93: lambda m: m.find(*m.last(2)),
    ord("R"): _Machine.call,
    ord("b"): _Machine.build,
}
