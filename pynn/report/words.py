"""Owns how choices and numbers are written: in the report's text, on its axes and in the command line's table."""

from __future__ import annotations

__all__ = ["choice_text", "is_number", "number", "value_text", "words"]


def choice_text(choice: dict) -> str:
    """{"hidden": 64, "kernel_size": 7} as "hidden 64, kernel size 7"."""
    return ", ".join(f"{words(name)} {value_text(value)}" for name, value in choice.items())


def words(name: str) -> str:
    """A Python name as words: "kernel_size" is "kernel size"."""
    return str(name).replace("_", " ")


def value_text(value) -> str:
    """A choice's value in a table or on an axis."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, list | tuple):
        return "–".join(map(value_text, value)) or "none"
    return number(value) if isinstance(value, float) else str(value)


def number(value: float) -> str:
    """A number as on an axis: 0.01, 250, 10⁻⁵, 3×10⁶."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.6g}".replace("-", "−")
    mantissa, exponent = f"{value:.3g}".split("e") if "e" in f"{value:.3g}" else f"{value:.2e}".split("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    mantissa = f"{float(mantissa):g}".replace("-", "−")
    return f"10{power}" if mantissa == "1" else f"{mantissa}×10{power}"


def is_number(value) -> bool:
    """Whether `value` is an int or a float, which True and False are not here."""
    return isinstance(value, int | float) and not isinstance(value, bool)
