"""Owns the memory of a plan: buffers that are taken while it is built, given back after their last use, reused."""

from __future__ import annotations

import numpy as np

__all__ = ["Arena"]

_ALIGNMENT = 64  # bytes: a cache line, and the widest vector


class Arena:
    """Aligned float32 arrays, each the start of a block that is kept for another taker.

    Steps of neighbouring groups may be worked on together (`blocked.joined`), so what one group gives back rests
    while the next is built: `turn` says that a group's steps are all there.
    """

    def __init__(self) -> None:
        self.free: list[np.ndarray] = []
        self.resting: list[np.ndarray] = []
        self.given: list[np.ndarray] = []
        self.used: dict[int, np.ndarray] = {}  # blocks by their address
        self.nbytes = 0  # of all blocks

    def take(self, count: int) -> np.ndarray:
        """An array of `count` floats with arbitrary, finite content."""
        fitting = [i for i, block in enumerate(self.free) if count <= block.size <= 2 * count + 4096]
        best = min(fitting, key=lambda i: self.free[i].size, default=None)
        block = self.own(count) if best is None else self.free.pop(best)
        self.used[block.ctypes.data] = block
        return block[:count]

    def own(self, count: int) -> np.ndarray:
        """As many zeros, which nobody gives back."""
        raw = np.zeros(count * 4 + _ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % _ALIGNMENT
        self.nbytes += raw.nbytes
        return raw[start : start + count * 4].view(np.float32)

    def zeros(self, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
        """The same as an array of another kind."""
        array: np.ndarray = np.zeros(shape, dtype)
        self.nbytes += array.nbytes
        return array

    def give_back(self, array: np.ndarray) -> None:
        """Lets somebody have the block of `array`, from the turn after next on."""
        self.given.append(self.used.pop(array.ctypes.data))

    def turn(self) -> None:
        """A group is built: what the group before it gave back is free."""
        self.free += self.resting
        self.resting, self.given = self.given, []

    def borrow(self) -> Loan:
        """Takes for steps that need memory while they run only: `with arena.borrow() as new: …`."""
        return Loan(self)


class Loan:
    """Memory that returns to its arena at the end of a `with`."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.taken: list[np.ndarray] = []

    def __enter__(self):
        return self.new

    def new(self, count: int) -> np.ndarray:
        self.taken.append(self.arena.take(count))
        return self.taken[-1]

    def __exit__(self, *_):
        for array in self.taken:
            self.arena.give_back(array)
