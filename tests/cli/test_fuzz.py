"""Command lines by the hundred, over data of every kind: each is done or refused in one sentence."""

import contextlib
import io
import random

import numpy as np
import pytest

from pynn.cli import main

pytest.importorskip("safetensors", reason="the io extra (safetensors) is not installed")

VALUES = [
    "0",
    "1",
    "2",
    "-1",
    "3",
    "8",
    "nan",
    "inf",
    "1e-45",
    "1e38",
    "1e400",
    "x",
    "",
    "²",
    "9" * 30,
    "0.001",
    "1m",
]
LABELS = {
    "numbers": lambda i: i,
    "text": lambda i: np.array(["ä", "=b", "c\n"])[i],
    "signs": lambda i: i - 1,
    "bytes": lambda i: np.array([b"a", b"b", b"\xc3\xa4"])[i],
    "no text": lambda i: np.array([b"\xff", b"b", b"c"])[i],
    "control": lambda i: np.array(["\x1b[31m", "\u202e", "\ud800"])[i],
    "huge": lambda i: i * 1e300,
    "NaN": lambda i: i + np.nan,
    "complex": lambda i: i + 1j,
    "records": lambda i: np.zeros(len(i), "i4,f4"),
    "one class": lambda i: 0 * i,
    "a class each": lambda i: np.arange(len(i)),
    "one-hot": lambda i: np.eye(3)[i],
}


class Fuzzer:
    """Draws data and command lines in a folder."""

    def __init__(self, seed: int, folder):
        self.draw, self.rng, self.folder = random.Random(seed), np.random.default_rng(seed), folder

    def data(self) -> None:
        """d.npz with anything in it, mostly something that can be trained on."""
        n = self.draw.choice([0, 1, 2, 3, 7, 13, 25, 40])
        usual = [(n, 2), (n, 5, 8), (n, 3, 8, 9), (n, 4, 3, 2)]
        shape = self.draw.choice(usual * 3 + [(n,), (), (n, 0), (n, 8, 8, 3), (n, 1, 2, 2, 2)])
        x = self.rng.normal(size=shape) * self.draw.choice([1, 1, 1, 1e-30, 1e4, 1e30, 1e300])
        if x.size and self.draw.random() < 0.1:
            x.flat[0] = self.draw.choice([np.nan, np.inf, 1.7e9])
        with np.errstate(all="ignore"):
            x = x.astype(self.draw.choice(["f4", "f8", "f8", "u1", "i8", "?", "f2", "c8", "S3", "M8[s]"]))
        y = LABELS[self.draw.choice(["numbers", "text"] * 8 + list(LABELS))](
            np.arange(n + (self.draw.random() < 0.05)) % 3
        )
        x_name, y_name = self.draw.choice(
            [("X", "y")] * 6 + [("x_train", "y_train"), ("x", "y"), ("data", "labels")]
        )
        np.savez(self.folder / "d.npz", **{x_name: x, y_name: y})

    def command(self) -> list[str]:
        choose, chance = self.draw.choice, self.draw.random
        inputs = ["d.npz"] * 5 + [
            "good.npz",
            "photos",
            "photos/a",
            "model",
            "none",
            ".",
            "",
            "text.csv",
            "/dev/null",
        ]
        if chance() < 0.6:
            line = ["train", choose(inputs), "--out", choose(["q"] * 6 + ["d.npz", "photos/q", "none/q"])]
            line += ["--epochs", choose("12")]
            for option in (
                "--batch-size",
                "--lr",
                "--hidden",
                "--seed",
                "--image-size",
                "--threads",
                "--time-limit",
            ):
                line += [option, choose(VALUES)] if chance() < 0.12 else []
            line += choose([["--model", "cnn"], ["--model", "mlp"], ["--grayscale"], [], [], []])
            return line + choose([["--restart"]] * 4 + [["--resume"], [], ["--restart", "--resume"], ["--typo"]])
        line = ["predict", choose(["model", "q", "q", "q.checkpoint", "d.npz", "none"]), choose(inputs)]
        return line + choose([[], [], ["--out", choose(["t.csv", "model", "d.npz", "photos/t"])]])


def outcome(arguments: list[str], encoding: str) -> tuple[int, str]:
    """(exit code, standard error) of a command whose output has the given encoding."""
    raw = io.BytesIO()
    out, err = io.TextIOWrapper(io.BytesIO(), encoding), io.TextIOWrapper(raw, "utf-8")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    err.flush()
    return code, raw.getvalue().decode()


def check(seed: int, n: int, folder, monkeypatch) -> dict[tuple[str, int], int]:
    """Runs `n` drawn commands; how often each command had each exit code."""
    image = pytest.importorskip("PIL.Image", reason="the images extra (Pillow) is not installed")
    monkeypatch.chdir(folder)
    fuzzer, codes = Fuzzer(seed, folder), {}
    np.savez("good.npz", X=fuzzer.rng.normal(size=(40, 2)), y=np.arange(40) % 2)
    (folder / "text.csv").write_text("1,2\n")
    for name in "aabbb":
        (folder / "photos" / name).mkdir(parents=True, exist_ok=True)
        picture = image.fromarray(fuzzer.rng.integers(0, 256, (8, 9, 4), np.uint8))
        picture.save(folder / "photos" / name / f"{fuzzer.draw.random()}.png")
    assert outcome(["train", "good.npz", "--out", "model", "--epochs", "1"], "utf-8")[0] == 0
    for _ in range(n):
        fuzzer.data()
        arguments = fuzzer.command()
        code, err = outcome(arguments, fuzzer.draw.choice(["utf-8", "ascii", "cp1252"]))
        codes[arguments[0], code] = codes.get((arguments[0], code), 0) + 1
        *progress, last = [line for line in err.splitlines() if line] or [""]
        assert code in {0, 2}, (arguments, err)
        assert all(line.startswith(("epoch ", "pynn: ")) and "error" not in line for line in progress), err
        if code == 2:
            assert last.startswith("pynn: error: "), (arguments, err)
            assert last.isprintable(), (arguments, err)
            assert len(last) < 300, (arguments, err)
    return codes


def test_any_command_line_is_done_or_refused_in_a_sentence(tmp_path, monkeypatch):
    codes = check(0, 300, tmp_path, monkeypatch)
    assert codes["train", 0] >= 5
    assert codes["train", 2] > 20
    assert codes["predict", 2] > 20
    assert codes["predict", 0] >= 2


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 9))
def test_many_command_lines(seed, tmp_path, monkeypatch):
    check(seed, 500, tmp_path, monkeypatch)
