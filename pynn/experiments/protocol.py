"""Owns how every question is answered: search on validation data, final training, test data opened once.

The order is enforced: the test part stays sealed until the choice is on record, is opened once, and after that
nothing can be chosen any more. Neither `search` nor `fit` ever holds it.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from pynn.data import Dataset, Standardize
from pynn.experiments.work import Pieces, Training
from pynn.module import Module
from pynn.optim import SGD, decay_groups
from pynn.schedules import OneCycle
from pynn.solver import Solver

__all__ = ["Recipe", "Result", "SealError", "SealedTest", "Split", "answer", "fit", "grid", "say", "search"]


class SealError(RuntimeError):
    """Test data were asked for before the choice was recorded, or a second time."""


class SealedTest:
    """The test part of a data set: `record` the choice, then `open` it, once.

    choice : what was recorded, None before. openings : how often it was opened, 0 or 1.
    pieces : where choice and opening are kept: a run that is taken up again can open it for the same choice alone.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray, pieces: Pieces | None = None):
        self._x, self._y = x, y
        self._pieces = pieces or Pieces.nowhere()
        self.choice: dict | None = None
        self.openings = 0

    def __len__(self) -> int:
        return len(self._y)

    def record(self, choice: dict) -> None:
        """Puts the choice on record; {} where there was nothing to choose. SealError where it was made before."""
        if self.choice is not None:
            raise SealError(f"the choice {self.choice} is on record: {choice} comes too late")
        self._agree("choice", choice)
        self.choice = dict(choice)

    def open(self) -> tuple[np.ndarray, np.ndarray]:
        """(x, y) of the test part. SealError before a choice is on record, and on a second opening."""
        if self.choice is None:
            raise SealError("the test data are sealed until a choice is on record: choose on validation data")
        if self.openings:
            raise SealError("the test data were opened before: they are for one evaluation of what was chosen")
        self._agree("opened", self.choice)
        self.openings += 1
        return self._x, self._y

    def _agree(self, act: str, choice: dict) -> None:
        """Puts `act` on record with the choice it is for; SealError where the record says another one."""
        before = self._pieces.value(act, lambda: choice)
        if before != json.loads(json.dumps(choice)):
            raise SealError(
                f"the test data are for the choice {before} of an earlier run, this one chose {choice}: remove "
                f"{self._pieces.folder} to begin anew"
            )


@dataclass(frozen=True, eq=False)
class Split:
    """A data set whose test part is sealed; the statistics of `standardize` are those of the training part."""

    name: str
    origin: str
    note: str
    classes: tuple[str, ...]
    x_train: np.ndarray
    y_train: np.ndarray
    x_val: np.ndarray
    y_val: np.ndarray
    test: SealedTest
    standardize: Standardize

    @classmethod
    def of(cls, data: Dataset, max_train: int | None = None, pieces: Pieces | None = None) -> Split:
        """Seals `data`; of training and validation part no more than the first `max_train` samples are taken.

        pieces : where choice and opening are on record.
        """
        x_train, x_val = data.x_train[:max_train], data.x_val[:max_train]
        return cls(
            name=data.name,
            origin=data.origin,
            note=data.note,
            classes=data.classes,
            x_train=x_train,
            y_train=data.y_train[:max_train],
            x_val=x_val,
            y_val=data.y_val[:max_train],
            test=SealedTest(data.x_test, data.y_test, pieces),
            standardize=Standardize.from_data(x_train),
        )

    def joined(self) -> Split:
        """The same with the validation part as part of the training part, for after the choice."""
        x_train, y_train = np.concatenate([self.x_train, self.x_val]), np.concatenate([self.y_train, self.y_val])
        return replace(
            self,
            x_train=x_train,
            y_train=y_train,
            x_val=self.x_val[:0],
            y_val=self.y_val[:0],
            standardize=Standardize.from_data(x_train),
        )

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.x_train.shape[1:]

    @property
    def n_features(self) -> int:
        return int(np.prod(self.input_shape))


@dataclass(frozen=True)
class Recipe:
    """SGD with Nesterov momentum 0.9 along one learning-rate cycle: `lr` is its peak, the weights decay.

    Data so small that `epochs` would be fewer than `min_steps` updates are gone through more often.
    """

    epochs: int
    lr: float = 0.1
    weight_decay: float = 5e-4
    batch_size: int = 100
    min_steps: int = 300

    def epochs_for(self, n_train: int) -> int:
        return max(self.epochs, -(-self.min_steps * self.batch_size // n_train))


def fit(
    model: Module,
    loss,
    split: Split,
    recipe: Recipe,
    rng: np.random.Generator,
    training: Training,
    *,
    augment: Callable | None = None,
    progress: bool | None = False,
) -> Solver:
    """A solver that has trained `model` on the training part and kept the last weights; `training` has it on file.

    The validation part, if any, only fills `solver.history`: nothing in the training depends on it.
    """
    solver = Solver(
        model,
        loss,
        SGD(decay_groups(model, recipe.weight_decay), recipe.lr, momentum=0.9, nesterov=True),
        batch_size=recipe.batch_size,
        schedule=OneCycle(),
        transform=split.standardize,
        augment=augment,
        rng=rng,
        callbacks=[training.epoch],
        progress=progress,
    )
    training.take_up(solver)
    solver.fit(
        split.x_train,
        split.y_train,
        epochs=recipe.epochs_for(len(split.x_train)),
        validation_data=(split.x_val, split.y_val) if len(split.x_val) else None,
        restore_best_weights=False,
    )
    return solver


def grid(**choices: Iterable) -> list[dict]:
    """All combinations, the last name varying fastest: grid(a=(1, 2), b=(3,)) is [{a: 1, b: 3}, {a: 2, b: 3}]."""
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def search(
    candidates: Iterable[dict], evaluate: Callable[[dict], float], clock: Callable[[], float] = time.perf_counter
) -> tuple[dict, list[dict]]:
    """(best, table): the candidate of the largest validation accuracy, `evaluate(candidate)`; of equals the first.

    So list the simpler ones first. table : [{"choice", "val_accuracy", "seconds"}] in the order of `candidates`,
    seconds by `clock`.
    """
    table: list[dict] = []
    for choice in candidates:
        began = clock()
        val_accuracy = evaluate(choice)
        table.append({"choice": choice, "val_accuracy": val_accuracy, "seconds": clock() - began})
    if not table:
        raise ValueError("search: there are no candidates to choose from")
    return max(table, key=lambda trial: trial["val_accuracy"])["choice"], table


@dataclass(frozen=True, eq=False)
class Result:
    """What `answer` found: the choice, how it was made, and the test data's verdict on it."""

    chosen: dict
    search: list[dict]
    solver: Solver  # the chosen model, trained with the first seed
    history: dict[str, list]  # its training; where that used the validation part, the same in the search
    x_test: np.ndarray
    y_test: np.ndarray
    predicted: np.ndarray  # the chosen model's labels for x_test
    accuracies: list[float]  # on the test data, one a seed
    seconds: float

    @property
    def mean(self) -> float:
        return statistics.fmean(self.accuracies)

    @property
    def std(self) -> float | None:
        """The sample standard deviation over the seeds; None for one seed."""
        return statistics.stdev(self.accuracies) if len(self.accuracies) > 1 else None


def answer(
    question: str,
    split: Split,
    candidates: list[dict],
    train: Callable[[Split, dict, np.random.Generator, bool, Training], Solver],
    seeds: np.random.SeedSequence,
    pieces: Pieces,
    *,
    n_trials: int = 1,
    n_seeds: int = 1,
    refit: bool = False,
    progress: bool | None = None,
) -> Result:
    """Chooses among `candidates` on validation data, trains the choice with `n_seeds` seeds, tests once.

    train(split, choice, rng, final, training) : the trained solver; `final` is False within the search. A
    candidate's figure is the mean validation accuracy of `n_trials` trainings, with the same seeds for every
    candidate. A single candidate is not searched for. pieces : where what is finished is kept, and found when a
    run is taken up again. refit : the final trainings have the validation part as well, of which the choice has
    no further need. progress : False for silence; otherwise a line on stderr for each training.
    """
    began = pieces.clock()
    search_seeds, final_seeds = seeds.spawn(2)
    trial_seeds = search_seeds.spawn(n_trials)

    histories: list[dict] = []

    def evaluate(choice: dict) -> float:
        trials = []
        for number, seed in enumerate(trial_seeds):
            name = f"search-{len(histories)}-{number}"
            training, rng = pieces.training(f"{name}-training"), np.random.default_rng(seed)
            trials.append(pieces.value(name, lambda: train(split, choice, rng, False, training).history))  # noqa: B023
            pieces.discard(f"{name}-training")
        histories.append(trials[0])
        val_accuracy = statistics.fmean(history["val_accuracy"][-1] for history in trials)
        say(progress, f"{question}  {_text(choice)}: validation accuracy {100 * val_accuracy:.2f} %")
        return val_accuracy

    chosen, table = search(candidates, evaluate, pieces.clock) if len(candidates) > 1 else (candidates[0], [])
    split.test.record(chosen)
    final_split = split.joined() if refit else split
    solvers = []
    for number, seed in enumerate(final_seeds.spawn(n_seeds), start=1):
        training = pieces.training(f"final-{number}")
        solvers.append(train(final_split, chosen, np.random.default_rng(seed), True, training))
        training.keep(solvers[-1])
        say(
            progress,
            f"{question}  final training {number} of {n_seeds}: loss {solvers[-1].history['loss'][-1]:.4f}",
        )
    x_test, y_test = split.test.open()
    predictions = [solver.predict(x_test) for solver in solvers]
    accuracies = [float((predicted == y_test).mean()) for predicted in predictions]
    say(progress, f"{question}  {_text(chosen)}: test accuracy {100 * accuracies[0]:.2f} %")
    searched = [history for trial, history in zip(table, histories, strict=True) if trial["choice"] == chosen]
    return Result(
        chosen=chosen,
        search=table,
        solver=solvers[0],
        history=searched[0] if refit and searched else solvers[0].history,
        x_test=x_test,
        y_test=y_test,
        predicted=predictions[0],
        accuracies=accuracies,
        seconds=pieces.clock() - began,
    )


def say(progress: bool | None, line: str) -> None:
    """Shows `line` on stderr, unless `progress` is False."""
    if progress is not False:
        print(line, file=sys.stderr, flush=True)


def _text(choice: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in choice.items()) or "the model"
