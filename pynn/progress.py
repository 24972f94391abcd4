"""Owns what a training shows on stderr: a bar on a terminal, one line an epoch elsewhere, or nothing."""

from __future__ import annotations

import sys

__all__ = ["open_progress"]


def open_progress(progress: bool | None, *, total_steps: int, epochs: int, done: int = 0):
    """A context manager with `step()` after each update and `epoch(logs)` after each epoch.

    progress : False for silence; None or True for a bar where stderr is a terminal and tqdm is installed, one
    line an epoch otherwise (log files and notebooks stay short).
    done : steps already taken, of a run that is resumed.
    """
    if progress is False:
        return _Silent()
    if sys.stderr.isatty():
        try:
            from tqdm import tqdm  # type: ignore[import-untyped]
        except ImportError:  # lines say the same; `pip install "pynn-cnn[progress]"` brings the bar
            return _Lines(epochs)
        return _Bar(tqdm(total=total_steps, initial=done, unit="step", leave=True), epochs)
    return _Lines(epochs)


def format_epoch(logs: dict) -> str:
    """`loss 0.1234  accuracy 0.9650 …  2.3 s` with what was measured."""
    measured = ("loss", "accuracy", "val_loss", "val_accuracy")
    figures = [f"{name} {logs[name]:.4f}" for name in measured if logs[name] is not None]
    return "  ".join([*figures, f"lr {logs['lr']:.3g}", f"{logs['seconds']:.1f} s"])


class _Silent:
    def __enter__(self):
        return self

    def __exit__(self, *exception) -> None:
        return None

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

    def __exit__(self, *exception) -> None:
        self.bar.close()

    def step(self) -> None:
        self.bar.update()

    def epoch(self, logs: dict) -> None:
        self.bar.set_description(f"epoch {logs['epoch']}/{self.epochs}", refresh=False)
        self.bar.set_postfix_str(format_epoch(logs))
