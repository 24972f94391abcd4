"""Owns a training of the command line that has begun and may have to go on: its checkpoint, and what began it."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path

from pynn.cli.errors import UsageError
from pynn.io import ModelFileError, read_tensors
from pynn.solver import Solver
from pynn.text import clean

__all__ = ["Begun"]

_DECIDE = ("model", "hidden", "epochs", "batch_size", "lr", "image_size", "grayscale", "seed")


class Begun:
    """A callback of the Solver, through which the checkpoint keeps the arguments that decide what is trained.

    Raises UsageError where `checkpoint` holds a training and the arguments say neither to go on with it nor to
    begin anew, where they are others than those that it was begun with, and where the file is anything else.
    """

    def __init__(self, checkpoint: Path, arguments):
        self.checkpoint, self.resumes = checkpoint, False
        self.given = {name: getattr(arguments, name) for name in _DECIDE}
        if not checkpoint.exists():
            if arguments.resume:
                print(f"pynn: there is no checkpoint {clean(checkpoint)}: training begins anew", file=sys.stderr)
            return
        then = self._kept_arguments()
        if arguments.resume:
            self._require_same(then)
            self.resumes = True
        elif not arguments.restart:
            raise UsageError(
                f"{clean(checkpoint)} holds a training that was broken off: --resume goes on with it, "
                "--restart begins anew"
            )

    def take_up(self, solver: Solver) -> None:
        """Puts the kept training into `solver`, if there is one and it is to go on."""
        if self.resumes:
            try:
                solver.resume(self.checkpoint)
            except ModelFileError as error:
                raise self.other_run(error) from error

    def other_run(self, error: ModelFileError) -> UsageError:
        """`error`, with which the Solver refuses to go on, in the words of the command line."""
        finding = re.split("[:;] make it the same", str(error))[0]  # what follows is a remedy in Python
        return UsageError(f"{finding}; give the same data as before, or begin anew with --restart")

    def use_best(self, solver: Solver) -> bool:
        """Gives the model the best epoch's weights, without validation data the last's; False if there is none."""
        if not solver.run.epochs:
            return False
        weights = solver.run.best_weights
        if not weights:  # the model may be in the middle of an epoch
            with suppress(OSError, ModelFileError):  # the first that could not be written: the epoch is whole
                arrays = read_tensors(self.checkpoint, "checkpoint")[0]
                weights = {path[6:]: array for path, array in arrays.items() if path.startswith("model/")}
        if weights:
            solver.model.load_state_dict(weights)
        return True

    def finish(self) -> None:
        """The training is complete, its model written: nothing is left to go on with."""
        self.checkpoint.unlink(missing_ok=True)

    def __call__(self, solver: Solver, logs: dict) -> None:
        """Nothing to do after an epoch."""

    def state_dict(self) -> dict:
        return self.given

    def load_state_dict(self, state: dict) -> None:
        """Nothing to take over: `given` is known to equal it."""

    def _kept_arguments(self) -> dict:
        try:
            kept = read_tensors(self.checkpoint, "checkpoint")[1]["callbacks"][0]["state"]
            if kept.keys() == self.given.keys():
                return kept
        except ModelFileError as error:
            raise UsageError(f"{error}; remove it, or give another --checkpoint") from error
        except (KeyError, IndexError, TypeError, AttributeError):
            pass
        raise UsageError(
            f"{clean(self.checkpoint)} is no checkpoint of `pynn train`: remove it, or give another --checkpoint"
        )

    def _require_same(self, then: dict) -> None:
        for name, now in self.given.items():
            if then[name] != now:
                option = f"--{name.replace('_', '-')}"
                raise UsageError(
                    f"{clean(self.checkpoint)} holds a training with {option} {_value(then[name])}, now it is "
                    f"{_value(now)}: give the same, or begin anew with --restart"
                )


def _value(value: object) -> str:
    return "not given" if value is None or value is False else "given" if value is True else clean(value, 40)
