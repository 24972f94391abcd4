"""Owns who uses which plan of inference: each call has one to itself, and several calls may run at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from cnn_ext import available_cpus, get_num_threads
from pynn.engine import process

__all__ = ["Constants", "Pool"]

SHAPES = 8  # of batches, whose plans are kept
BYTES = 2**29  # that plans take which nobody uses, beyond those of the shape asked for last
AT_ONCE = available_cpus()  # calls: more would share the processors, and each would need memory
PATIENCE = 10.0  # seconds that a call waits for another to end; it may be one that the other waits for


class Constants:
    """Arrays that follow from the model's parameters, and that plans of one batch shape share.

    The first plan takes them, in the order in which it is built; the others get the same ones in the same order.
    """

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []

    def taking(self, new: Callable[[int], np.ndarray]) -> Callable[[int], np.ndarray]:
        """`take(count)` for one plan; `new(count)` makes those that are not there yet."""
        known = iter([*self.arrays])

        def take(count: int) -> np.ndarray:
            array = next(known, None)
            if array is None:
                self.arrays.append(array := new(count))
            return array

        return take

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)


class _Shelf:
    """The plans of one batch shape that share constants: those that no call uses, and how many are in use."""

    def __init__(self) -> None:
        self.constants = Constants()
        self.idle: list[Any] = []
        self.lent = 0
        self.version = -1  # of the parameters in the constants
        self.is_current: Callable[[], bool] = bool  # whether another plan would be like its first

    @property
    def nbytes(self) -> int:
        return self.constants.nbytes + sum(plan.nbytes for plan in self.idle)


class Pool:
    """Plans by batch shape: `lend(shape)` gives one that nobody else has until it is given back.

    make : `make(shape, constants) -> plan`, or None where the model has to compute that shape itself. A plan has
    `refresh()`, which writes its constants, `likeness` to the model as it was, and `nbytes`.

    Parameters that change while a call runs do not touch its constants: `outdate()` says that they have changed,
    and calls that begin later get constants that nobody reads, written anew. A forked child starts without plans,
    because the threads that had some are not there to give them back.
    """

    def __init__(self, make: Callable[[tuple, Constants], Any]):
        self.make = make
        self._start()

    def _start(self) -> None:
        self._process = process.number
        self._lock = threading.RLock()  # a plan's layers may ask for another
        self._ended, self._waiting = threading.Condition(self._lock), 0  # where calls wait, and how many
        self._last: tuple = ()
        self._shelves: dict[tuple, list[_Shelf]] = {}  # the shape asked for last at the end
        self._without: dict[tuple, int] = {}  # shapes that there is no plan of, in which version
        self._running = self._version = 0

    def outdate(self) -> None:
        """Constants are written again before they are used again."""
        if self._process != process.number:
            self._start()
        with self._lock:
            self._version += 1

    def lend(self, shape: tuple) -> tuple[Any, int, Any]:
        """(plan or None, the threads that it may use, what `give_back` wants to have)."""
        if self._process != process.number:
            self._start()
        with self._lock:
            if self._without.get(shape) == self._version:
                return None, 1, None
            if self._running >= AT_ONCE:
                self._wait()
            if shape != self._last:
                self._shelves[shape] = self._shelves.pop(shape, [])
                self._last = shape
            shelves = self._shelves[shape]
            shelf = shelves[0] if shelves else None
            if shelf is None or not shelf.idle or shelf.version != self._version:  # which is rare
                shelf = self._ready(shelves) or self._new(shape, shelves)
            if shelf is None:
                return None, 1, None
            plan = shelf.idle.pop() if shelf.idle else self.make(shape, shelf.constants)
            shelf.lent += 1
            self._running += 1
            return plan, max(1, get_num_threads() // self._running), shelf

    def give_back(self, plan: Any, shelf: Any) -> None:
        with self._lock:
            shelf.lent -= 1
            self._running = max(0, self._running - 1)  # who was given up, or forked, is not counted
            if not shelf.idle or self.nbytes < BYTES:
                shelf.idle.append(plan)
            if self._waiting:
                self._ended.notify()

    def _wait(self) -> None:
        self._waiting += 1
        if not self._ended.wait_for(lambda: self._running < AT_ONCE, PATIENCE):
            self._running -= 1  # one that does not end, if it is still there, is not waited for again
        self._waiting -= 1

    def do_without(self, shape: tuple) -> None:
        """The model computes this shape itself, until it is another."""
        with self._lock:
            self._shelves.pop(shape, None)
            self._last = ()
            if len(self._without) >= SHAPES:
                self._without.clear()
            self._without[shape] = self._version

    @property
    def nbytes(self) -> int:
        """That plans take which nobody uses."""
        return sum(shelf.nbytes for shelves in self._shelves.values() for shelf in shelves)

    def _ready(self, shelves: list[_Shelf]) -> _Shelf | None:
        """One that has a plan or can have another, and whose constants are up to date by then."""
        for shelf in shelves:
            if shelf.version == self._version and (shelf.idle or shelf.is_current()):
                return shelf
        for shelf in [shelf for shelf in shelves if not shelf.lent]:
            if shelf.idle and shelf.is_current():
                shelf.idle[0].refresh()
                shelf.version = self._version
                return shelf
            shelves.remove(shelf)
        return None

    def _new(self, shape: tuple, shelves: list[_Shelf]) -> _Shelf | None:
        shelf = _Shelf()
        plan = self.make(shape, shelf.constants)
        if plan is None:
            self.do_without(shape)
            return None
        plan.refresh()
        shelf.version, shelf.is_current = self._version, plan.likeness.holds
        shelf.idle.append(plan)
        shelves.append(shelf)
        while len(self._shelves) > SHAPES or (len(self._shelves) > 1 and self.nbytes > BYTES):
            del self._shelves[next(iter(self._shelves))]
        return shelf
