"""Foreign text in messages: one printable line of bounded length."""

import os
from pathlib import Path

import pytest

from pynn.text import clean


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("cat.png", "cat.png"),
        ("größe 猫", "größe 猫"),
        ("a\nb\r\n\t c", "a b c"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("a\0b", "a\\x00b"),
        ("\ud800", "\\ud800"),
        (os.fsdecode(b"caf\xe9.png"), "caf\\xe9.png"),
        (b"caf\xe9", "caf\\xe9"),
        ("ü".encode(), "ü"),
        (Path("a") / "b", os.path.join("a", "b")),
        (12, "12"),
        pytest.param(10**5000, "a int too long to show", id="10^5000"),
        (None, "None"),
    ],
)
def test_one_printable_line(value, text):
    assert clean(value) == text
    assert clean(value).isprintable()


@pytest.mark.parametrize("length", [120, 121, 10_000, 10_000_000])
@pytest.mark.parametrize("kind", [str, bytes])
def test_the_middle_is_left_out(length, kind):
    value = "start" + "x" * (length - 8) + "end"
    text = clean(value if kind is str else value.encode())
    assert len(text) == 120
    assert text.startswith("start")
    assert text.endswith("end")
    assert ("…" in text) == (length > 120)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 10])
def test_small_limits(limit):
    assert len(clean("abcdefghijklmnop", limit)) == limit
    assert len(clean("\x1b" * 100, limit)) == limit
