"""Owns what a training shows on stderr: a bar on a terminal, one line an epoch elsewhere, or nothing."""

from __future__ import annotations

import sys
from contextlib import suppress

__all__ = ["Progress", "open_progress", "say"]


class Progress:
    """`step()` after each update and `epoch(logs)` after each epoch, as a context manager.

    Nothing that fails here ends a training: where stderr is closed or full, or the bar breaks, it falls silent.
    """

    def __init__(self, make_display):
        self._display = _Silent()
        self._display = self._try(make_display) or self._display

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception) -> None:
        self._try(self._display.close)

    def step(self) -> None:
        self._try(self._display.step)

    def epoch(self, logs: dict) -> None:
        self._try(self._display.epoch, logs)

    def _try(self, show, *arguments):
        try:
            return show(*arguments)
        except Exception:  # OSError, ValueError, AttributeError of a closed stream; anything at all of tqdm
            self._display = _Silent()
            return None


def open_progress(progress: bool | None, *, total_steps: int, epochs: int, done: int = 0) -> Progress:
    """What is shown of a training.

    progress : False for silence; None or True for a bar where stderr is a terminal and tqdm is installed, one
    line an epoch otherwise (log files and notebooks stay short).
    done : steps already taken, of a run that is resumed.
    """

    def make_display():
        if progress is False:
            return _Silent()
        if sys.stderr.isatty():
            try:
                from tqdm import tqdm  # type: ignore[import-untyped]
            except ImportError:  # lines say the same; `pip install "pynn-cnn[progress]"` brings the bar
                return _Lines(epochs)
            return _Bar(tqdm(total=total_steps, initial=done, unit="step", leave=True), epochs)
        return _Lines(epochs)

    return Progress(make_display)


def format_epoch(logs: dict) -> str:
    """`loss 0.1234  accuracy 0.9650 …  2.3 s` with what was measured."""
    measured = ("loss", "accuracy", "val_loss", "val_accuracy")
    figures = [f"{name} {logs[name]:.4f}" for name in measured if logs[name] is not None]
    return "  ".join([*figures, f"lr {logs['lr']:.3g}", f"{logs['seconds']:.1f} s"])


class _Silent:
    def close(self) -> None:
        """Nothing to clear away."""

    def step(self) -> None:
        """Nothing to show."""

    def epoch(self, logs: dict) -> None:
        """Nothing to show."""


class _Lines(_Silent):
    def __init__(self, epochs: int):
        self.epochs = epochs

    def epoch(self, logs: dict) -> None:
        print(f"epoch {logs['epoch']}/{self.epochs}  {format_epoch(logs)}", file=sys.stderr, flush=True)


class _Bar(_Silent):
    def __init__(self, bar, epochs: int):
        self.bar, self.epochs = bar, epochs

    def close(self) -> None:
        self.bar.close()

    def step(self) -> None:
        self.bar.update()

    def epoch(self, logs: dict) -> None:
        self.bar.set_description(f"epoch {logs['epoch']}/{self.epochs}", refresh=False)
        self.bar.set_postfix_str(format_epoch(logs))


def say(line: str) -> None:
    """Shows `line` on stderr at once; a stderr that is closed or full is passed over."""
    with suppress(Exception):
        print(line, file=sys.stderr, flush=True)
