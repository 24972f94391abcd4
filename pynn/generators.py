"""Owns the states of NumPy's random generators as JSON values: how one is taken, and what is taken back.

NumPy itself accepts any numbers as a state, and reads outside its buffers where a position is too large.
"""

from __future__ import annotations

import numpy as np

__all__ = ["checked_state", "generator_at", "generator_state", "set_generator_state"]

_U32, _U64, _U128 = (range(1 << bits) for bits in (32, 64, 128))
_HALF = {"has_uint32": range(2), "uinteger": _U32}  # the unused half of a 64-bit draw

# A list is of so many numbers, each in the range that it names.
_LAYOUTS: dict[str, dict] = {
    "PCG64": {"state": {"state": _U128, "inc": _U128}, **_HALF},
    "PCG64DXSM": {"state": {"state": _U128, "inc": _U128}, **_HALF},
    "MT19937": {"state": {"key": [_U32] * 624, "pos": range(625)}},
    "Philox": {
        "state": {"counter": [_U64] * 4, "key": [_U64] * 2},
        "buffer": [_U64] * 4,
        "buffer_pos": range(5),
        **_HALF,
    },
    "SFC64": {"state": {"state": [_U64] * 4}, **_HALF},
}


def generator_state(generator: np.random.Generator) -> dict:
    """The state as JSON values. Raises ValueError for a bit generator that is not one of NumPy's own."""
    kind = type(generator.bit_generator).__name__
    if kind not in _LAYOUTS:
        raise ValueError(f"the state of a {kind} cannot be kept: use one of NumPy's, {', '.join(_LAYOUTS)}")
    return _plain(generator.bit_generator.state)


def checked_state(name: str, generator: np.random.Generator, state) -> dict:
    """`state`, known to be one that this kind of generator can be in; else ValueError with `name`."""
    kind = type(generator.bit_generator).__name__
    layout = {"bit_generator": kind, **_LAYOUTS.get(kind, {})}
    if wrong := _misfit(layout, state):
        raise ValueError(f"the state of generator {name} is not one of a {kind}: {wrong}")
    return state


def set_generator_state(generator: np.random.Generator, state: dict) -> None:
    """Puts a checked state in."""
    generator.bit_generator.state = state


def generator_at(generator: np.random.Generator, state: dict) -> np.random.Generator:
    """Another generator of the same kind, in a checked state."""
    twin = np.random.Generator(type(generator.bit_generator)())
    set_generator_state(twin, state)
    return twin


def _plain(value):
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _misfit(layout, value, where: str = "state") -> str | None:
    """What of `value` does not fit `layout`, or None."""
    if isinstance(layout, dict):
        if not isinstance(value, dict) or value.keys() != layout.keys():
            return f"{where} has other entries than {', '.join(layout)}"
        return next(filter(None, (_misfit(layout[name], value[name], name) for name in layout)), None)
    if isinstance(layout, list):
        if not isinstance(value, list) or len(value) != len(layout):
            return f"{where} is not a list of {len(layout)} numbers"
        return next(filter(None, (_misfit(*pair, where) for pair in zip(layout, value, strict=True))), None)
    if isinstance(layout, str):
        return None if value == layout else f"{where} is {value!r:.40}"
    if not isinstance(value, int) or isinstance(value, bool) or value not in layout:
        return f"{where} is out of its range"
    return None
