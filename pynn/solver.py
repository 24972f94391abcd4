"""Owns the training loop: batches, updates, validation, early stopping and the record of it all.

The solver sees a model, a loss, an optimizer and arrays; it knows no layer and no data set.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from pynn.arguments import (
    CHECKS,
    check_pairing,
    require_time,
    returned,
    total_steps,
    validation_pair,
)
from pynn.batches import EVALUATION_BATCH, as_array, batch_slices, checked_inputs, require_count
from pynn.callbacks import STOP
from pynn.checkpoint import checked_accept, continued, generators, restore_checkpoint, save_checkpoint
from pynn.conditions import of_fit, of_solver
from pynn.engine import Predictor, Trainer
from pynn.files import check_writable
from pynn.generators import generator_at, generator_state
from pynn.habits import (
    EVALUATION_ARGUMENTS,
    FIT_ARGUMENTS,
    SOLVER,
    SOLVER_ARGUMENTS,
    explains,
    missing_attribute,
)
from pynn.io import require_safetensors
from pynn.module import LayerTypeError, Module, first_nonfinite
from pynn.optim import Optimizer, clip_grad_norm
from pynn.progress import Progress, open_progress
from pynn.run import Run, TrainingDiverged
from pynn.schedules import Schedule, factor_of
from pynn.values import shown

__all__ = ["Run", "Solver", "TrainingDiverged"]

Callback = Callable[["Solver", dict], object]


@dataclass(frozen=True)
class _Course:
    """What one `fit` goes by, checked."""

    x: np.ndarray
    y: np.ndarray
    batches: list[slice]
    total_steps: int
    schedule: Callable[[int, int], float] | None
    validation_data: tuple[np.ndarray, np.ndarray] | None
    monitor: str
    patience: int | None
    keep_best: bool
    checkpoint: str | None
    first_step: int
    deadline: float | None  # of time.perf_counter
    progress: Progress

    def time_is_over(self, step: int) -> bool:
        """Whether to end after update `step`; one is always taken, so that a run of any limit gets to its end."""
        return self.deadline is not None and step > self.first_step and time.perf_counter() >= self.deadline

    def is_better(self, value: float, best: float) -> bool:
        return value < best if self.monitor == "val_loss" else value > best


class Solver:
    """Trains `model` by minimising `loss(model(x), y)` with `optimizer`.

    model : Module. loss : `loss(scores, y) -> (loss, dscores)`, and for classification `correct` and `predict`.
    optimizer : over the model's parameters.
    batch_size : samples an update. The last, smaller batch of an epoch is used as well; a last batch of a single
    sample is joined to the one before, because batch normalisation has no variance over one value.
    schedule : `schedule(step, total_steps) -> factor` on each parameter group's lr; None keeps it.
    augment : `augment(x_batch, rng) -> x_batch`, in `fit` only. transform : `transform(x_batch) -> x_batch`,
    deterministic, after `augment` and in evaluation too, as standardisation; here uint8 images become float. Both
    get a batch of their own, which they may change in place.
    max_grad_norm : longer gradients (of all parameters together, L2) are scaled down to it.
    rng : numpy Generator of the shuffling and of `augment`; None takes fresh entropy.
    callbacks : each is called as `callback(solver, logs)` after every epoch, `logs` being that epoch's entry of
    `history`; returning `pynn.STOP` ends the training after that epoch, anything else has no effect. One callback
    need not be in a list. See `pynn.callbacks`.
    progress : see `pynn.progress`.

    These are attributes too, and may be assigned between two calls: the next one goes by them.
    The same seeds give the same bits, on any number of threads. A copy, by `copy.deepcopy` or pickle, has a model
    and an optimizer of its own and trains as the original does. Several threads may predict with one solver; only
    one may train it.

    Raises TypeError or ValueError, in a sentence, for an argument that does not fit. Warns (UserWarning) of
    parameters that would be trained but are not the optimizer's.
    """

    model: Module
    loss: Any
    optimizer: Optimizer
    batch_size: int
    schedule: Callable[[int, int], float] | None
    transform: Callable | None
    augment: Callable | None
    max_grad_norm: float | None
    rng: np.random.Generator
    callbacks: tuple[Callback, ...]
    progress: bool | None

    @explains(**SOLVER_ARGUMENTS)
    def __init__(
        self,
        model: Module,
        loss,
        optimizer,
        *,
        batch_size: int = 100,
        schedule: Callable[[int, int], float] | None = None,
        transform: Callable | None = None,
        augment: Callable | None = None,
        max_grad_norm: float | None = None,
        rng: np.random.Generator | None = None,
        callbacks: Callback | Iterable[Callback] | None = (),
        progress: bool | None = None,
    ):
        self._prepare()
        arguments = {
            "model": model,
            "loss": loss,
            "optimizer": optimizer,
            "batch_size": batch_size,
            "schedule": schedule,
            "transform": transform,
            "augment": augment,
            "max_grad_norm": max_grad_norm,
            "rng": rng,
            "callbacks": callbacks,
            "progress": progress,
        }
        for name, value in arguments.items():
            setattr(self, name, value)
        self.run = Run()
        self.ended_by: str | None = None  # the last fit: "steps", "patience", "callback", "time_limit"
        self._resumed: tuple[str, tuple[str, ...]] | None = None  # (file, accepted) until the next fit
        self._checkpoint: str | None = None  # the file with the last whole epoch
        self._require_pair()

    def __setattr__(self, name: str, value) -> None:
        vars(self)[name] = CHECKS[name](value) if name in CHECKS else value
        if name == "model":
            self._trainer, self._predictor = Trainer(value), Predictor(value)
        if name in {"model", "optimizer"}:
            self._paired = False

    def __getattr__(self, name: str):
        raise missing_attribute(self, name, SOLVER)

    def _prepare(self) -> None:
        self._training, self._predicting, self._fitting = threading.RLock(), threading.RLock(), False

    def __getstate__(self) -> dict:
        return {
            n: v for n, v in vars(self).items() if n not in {"_trainer", "_predictor", "_training", "_predicting"}
        }

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._trainer, self._predictor = Trainer(self.model), Predictor(self.model)
        self._prepare()

    @property
    def history(self) -> dict[str, list]:
        """Of the present or last `fit`, one entry an epoch; see `fit`."""
        return self.run.history

    # -- training -------------------------------------------------------------------------------------------

    def train_step(self, x: np.ndarray, y: np.ndarray) -> float:
        """One update on a batch as the model takes it (no `augment`, `transform` or `schedule`); its loss before.

        Raises TrainingDiverged where the loss, or the gradient's norm under `max_grad_norm`, is not finite: then
        parameters, running statistics and optimizer are as before the step. RuntimeError while another thread
        trains.
        """
        with self._alone("train_step"):
            self._require_pair()
            return self._train_step(x, y)[0]

    def _train_step(self, x, y, lr_factor: float = 1.0) -> tuple[float, np.ndarray]:
        scores = self._trainer.forward(x)
        loss, dscores = self.loss(scores, y)
        quantity, value = "the loss", loss
        if math.isfinite(loss):
            self._trainer.backward(dscores)
            if self.max_grad_norm is not None:
                quantity = "the norm of the gradient"
                value = clip_grad_norm(self.optimizer.parameters, self.max_grad_norm)
        if not math.isfinite(value):
            self._trainer.reject()
            raise self._diverged(f"{quantity} is {value}", first_nonfinite(self.model, x) or quantity)
        self._trainer.accept()
        self.optimizer.step(lr_factor)
        self.run.step += 1
        return loss, scores

    @explains(**FIT_ARGUMENTS)
    def fit(
        self,
        x: np.ndarray,
        y: np.ndarray,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        validation_data: tuple[np.ndarray, np.ndarray] | None = None,
        monitor: str = "val_loss",
        patience: int | None = None,
        restore_best_weights: bool = True,
        checkpoint: str | os.PathLike | None = None,
        time_limit: float | None = None,
    ) -> dict[str, list]:
        """Trains for `epochs` passes over the data or `steps` updates, whichever ends first; returns `history`.

        x : (N, …). y : (N,) or as the loss takes it. Every epoch goes through a fresh permutation of them.
        validation_data : (x, y), evaluated after every epoch.
        monitor : "val_loss" (smallest is best) or "val_accuracy" (largest); of equals the first is best.
        patience : epochs without a better `monitor` after which training ends; None never ends it early.
        restore_best_weights : with `validation_data`, the model has the best epoch's weights and running
        statistics when `fit` returns, whether it was stopped early or reached the last epoch.
        checkpoint : file that is replaced after every epoch, and once more when the callbacks have seen it; see
        `resume`.
        time_limit : seconds after which training ends, at the next update; `checkpoint` then holds the epoch as
        far as it went, and the resumed run still ends bit for bit as one without a limit. The model has the best
        epoch's weights as above, else the last ones; an epoch that was broken off is not in `history`.

        `history` has one entry an epoch: `epoch` (from 1), `step` (updates so far), `loss` and `accuracy` (means
        over the training batches, each as it was before its update), `val_loss`, `val_accuracy`, `lr` (the first
        group's, at the last update) and `seconds`; None where a figure does not apply. After KeyboardInterrupt or
        TrainingDiverged `solver.history` has the whole epochs so far, and the weights are the last ones.
        `solver.ended_by` says what ended the training: "steps" (or epochs), "patience", "callback", "time_limit".

        `fit` again starts a new history and schedule from the present weights and optimizer state.

        Raises ValueError or TypeError, before any work, for data or arguments that do not fit, ModelFileError (a
        ValueError) where a resumed run had others, WriteError where `checkpoint` cannot be written,
        TrainingDiverged on NaN or infinity, RuntimeError while this solver is trained already.
        """
        with self._alone("fit"):
            if self._fitting:
                raise RuntimeError("fit: this solver is in a fit already: a callback cannot train it as well")
            began = time.perf_counter()
            x, y = self._checked_pair("x", x, "y", y)
            if validation_data is not None:
                x_val, y_val = validation_pair(validation_data)
                validation_data = self._checked_pair("validation x", x_val, "validation y", y_val)
            self._check_monitors(monitor, patience, validation_data)
            self._paired = False  # somebody may have put other layers or parameters into the model
            self._require_pair()
            time_limit = require_time(time_limit)
            batches = batch_slices(len(x), self.batch_size)
            if not isinstance(restore_best_weights, bool):
                raise TypeError(
                    f"fit: restore_best_weights must be True or False, got {shown(restore_best_weights)}"
                )
            if checkpoint is not None:
                require_safetensors()
                check_writable(checkpoint)
            if checkpoint is not None or time_limit is not None:
                for generator in generators(self).values():
                    generator_state(generator)
            conditions = of_solver(self) | of_fit(
                x=x,
                y=y,
                validation_data=validation_data,
                transform=self.transform,
                first=self._inputs(x[:1].copy()),
                epochs=epochs,
                steps=steps,
                monitor=monitor,
                patience=patience,
                restore_best_weights=restore_best_weights,
            )
            run, total = self._run_under(conditions, epochs, steps, len(batches))

            self.run, self._resumed, self.ended_by = run, None, None
            with open_progress(
                self.progress, total_steps=total, epochs=-(-total // len(batches)), done=run.step
            ) as progress:
                course = _Course(
                    x=x,
                    y=y,
                    batches=batches,
                    total_steps=total,
                    schedule=self._schedule_for(len(batches)),
                    validation_data=validation_data,
                    monitor=monitor,
                    patience=patience,
                    keep_best=restore_best_weights,
                    checkpoint=None if checkpoint is None else os.fspath(checkpoint),
                    first_step=run.step,
                    deadline=None if time_limit is None else began + time_limit,
                    progress=progress,
                )
                self._fitting = True
                try:
                    self._go(course)
                finally:
                    self._fitting = False
            if run.best_weights:
                self.model.load_state_dict(run.best_weights)
            return run.history

    @explains(strict="give the names of what may differ: accept=[…]", map_location="pynn computes on the CPU")
    def resume(self, path: str | os.PathLike, *, accept: str | Collection[str] = ()) -> None:
        """Takes up the run whose checkpoint is in `path`: the next `fit`, with the same arguments, continues it.

        The solver is built as it was for the interrupted run. Model, optimizer, history, best weights and
        the state of every generator (the solver's and the layers') come from the file, so that the continued run
        ends bit for bit as the uninterrupted one. So do the lr, weight decay and other numbers of the optimizer,
        `max_grad_norm` and what is trainable, where callbacks changed them, and the state of callbacks that have
        `state_dict` and `load_state_dict`; other state of callbacks is theirs to restore. Where the run ended
        between its checkpoint and the callbacks, they are called for the last epoch first.

        A run under other conditions is refused, here or by `fit`, with the names of what differs. accept : those
        names of which this solver's and this `fit`'s are to be taken from now on: `accept="epochs"` makes a
        run longer. "model", "loss", "optimizer" (its kind and numbers beside lr and weight_decay; one that the
        kept state does not fit begins anew), "lr", "weight_decay", "batch_size", "schedule", "augment",
        "max_grad_norm", "trainable", "callbacks" (those with a state, which then is not restored), "x", "y",
        "validation_data" and "monitor" (with either of which the best epoch is sought anew), "transform",
        "epochs", "steps", "patience", "restore_best_weights".

        Raises ModelFileError (a ValueError) where the file is damaged, of another model or optimizer, or of a run
        under other conditions; the solver is then unchanged. ValueError for a name in `accept` that there is not.
        """
        accepted = checked_accept(accept)
        with self._alone("resume"):
            self._require_pair()
            restore_checkpoint(path, self, accepted)
            self._resumed, self._checkpoint, self.ended_by = (os.fspath(path), accepted), os.fspath(path), None

    def _run_under(self, conditions: dict, epochs, steps, n_batches: int) -> tuple[Run, int]:
        """(the run to go on with, all its steps); a resumed one is refused under other conditions than it had."""
        if self._resumed is None:
            self._checkpoint = None
            return Run(conditions=conditions), total_steps(Run(), epochs, steps, n_batches)
        path, accepted = self._resumed
        run = continued(path, self.run, conditions, accepted)
        total = total_steps(run, epochs, steps, n_batches)
        longer = any(run.conditions[name] != self.run.conditions.get(name) for name in ("epochs", "steps"))
        if run.step > total or (run.step == total and longer):
            raise ValueError(
                f"fit: the run in {path} is at step {run.step} after {run.epochs} epochs: epochs={epochs}, "
                f"steps={steps} leave nothing to train, give more"
            )
        if run.broken_off is not None and run.position >= n_batches:
            raise ValueError(f"fit: the run in {path} is at a step that its epochs do not have: it is damaged")
        return run, total

    def _go(self, course: _Course) -> None:
        run = self.run
        if not run.told:
            self._tell(run.last(), course)
        while not (ended_by := self._reason_to_end(course)):
            logs = self._epoch(course)
            if logs is not None:
                run.record(logs)
                if course.validation_data is not None and self._is_best(course):
                    run.best_epoch = logs["epoch"]
                    run.best_weights = self.model.state_dict() if course.keep_best else {}
                run.told = not self.callbacks
            self._keep(course)
            if logs is not None:
                course.progress.epoch(logs)
                self._tell(logs, course)
        self.ended_by = ended_by

    def _tell(self, logs: dict, course: _Course) -> None:
        """Calls the callbacks, all of them, and keeps what they changed."""
        if self.callbacks:
            signals = [callback(self, dict(logs)) for callback in self.callbacks]
            self.run.told, self.run.stopped = True, any(signal is STOP for signal in signals)
            self._keep(course)

    def _keep(self, course: _Course) -> None:
        if course.checkpoint is not None:
            save_checkpoint(course.checkpoint, self)
            self._checkpoint = course.checkpoint

    def _reason_to_end(self, course: _Course) -> str | None:
        run = self.run
        if run.stopped:
            return "callback"
        if run.step >= course.total_steps:
            return "steps"
        if course.patience is not None and run.epochs - max(run.best_epoch, run.watched_from) >= course.patience:
            return "patience"
        return "time_limit" if course.time_is_over(run.step) else None

    def _epoch(self, course: _Course) -> dict | None:
        """The epoch's entry of the history; None where the time limit broke it off."""
        began, run = time.perf_counter(), self.run
        classifies = self.loss.task == "classification"
        start, run.broken_off = run.broken_off, None
        if start is None:
            generator = generator_state(self.rng) if course.deadline is not None else None
            order, loss_sum, n_correct, seconds = self.rng.permutation(len(course.x)), 0.0, 0, 0.0
        else:
            generator, loss_sum, n_correct, seconds = start.values()
            order = generator_at(self.rng, generator).permutation(len(course.x))
        last = min(len(course.batches), run.position + course.total_steps - run.step)
        for batch in course.batches[run.position : last]:
            x_batch, y_batch = course.x[order[batch]], course.y[order[batch]]
            if self.augment is not None:
                x_batch = returned("augment", self.augment(x_batch, self.rng), len(y_batch))
            lr_factor = (
                1.0
                if course.schedule is None
                else factor_of("Solver: schedule", course.schedule, run.step, course.total_steps)
            )
            loss, scores = self._train_step(self._inputs(x_batch), y_batch, lr_factor)
            loss_sum += loss * len(y_batch)
            n_correct += int(np.count_nonzero(self.loss.correct(scores, y_batch))) if classifies else 0
            course.progress.step()
            if run.position < last and course.time_is_over(run.step):
                run.broken_off = {
                    "generator": generator,
                    "loss_sum": loss_sum,
                    "n_correct": n_correct,
                    "seconds": seconds + time.perf_counter() - began,
                }
                return None
        for path, parameter in self.model.named_parameters():  # no loss has seen the last update
            if not np.isfinite(parameter.data).all():
                raise self._diverged("the update overflowed", path)
        validation = {} if course.validation_data is None else self._evaluate(*course.validation_data)
        if not math.isfinite(validation.get("loss", 0)):
            raise self._diverged(f"the validation loss is {validation['loss']}", "the validation scores")
        n = batch.stop
        return {
            "epoch": run.epochs + 1,
            "step": run.step,
            "loss": loss_sum / n,
            "accuracy": n_correct / n if classifies else None,
            "val_loss": validation.get("loss"),
            "val_accuracy": validation.get("accuracy"),
            "lr": self.optimizer.groups[0]["lr"] * lr_factor,
            "seconds": seconds + time.perf_counter() - began,
        }

    # -- evaluation -----------------------------------------------------------------------------------------

    @explains(**EVALUATION_ARGUMENTS)
    def evaluate(self, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
        """`loss` and, for classification, `accuracy` (a fraction) in evaluation mode, means over all samples.

        Works through batches of 500 samples; the batch size moves the result by rounding only.
        """
        return self._evaluate(*self._checked_pair("x", x, "y", y))

    @explains(**EVALUATION_ARGUMENTS)
    def scores(self, x: np.ndarray) -> np.ndarray:
        """(N, …): the model's outputs in evaluation mode, after `transform`."""
        x = checked_inputs("x", x)
        with self._predicting:
            self._predictor.refresh()
            batches = batch_slices(len(x), EVALUATION_BATCH)
            return np.concatenate(
                [self._first_forward("x", x[batches[0]]), *(self._forward(x[b]) for b in batches[1:])]
            )

    @explains(**EVALUATION_ARGUMENTS)
    def predict(self, x: np.ndarray) -> np.ndarray:
        """(N,): the predicted labels; for regression the scores."""
        scores = self.scores(x)
        return self.loss.predict(scores) if self.loss.task == "classification" else scores

    @explains(**EVALUATION_ARGUMENTS)
    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """(N, K): the probability of each class, rows adding up to 1.

        Softmax of the scores after `CrossEntropyLoss`; after `LogisticLoss` 1 − σ(s) and σ(s), in the order of its
        `labels`. TypeError for a loss whose scores are no log-probabilities: hinge losses and regression.
        """
        if not hasattr(self.loss, "probabilities"):
            raise TypeError(
                f"predict_proba: the scores of {type(self.loss).__name__} are no log-probabilities: use scores or "
                "predict, or train with CrossEntropyLoss or LogisticLoss"
            )
        return self.loss.probabilities(self.scores(x))

    def _inputs(self, x: np.ndarray) -> np.ndarray:
        """`x`, a batch that may be changed, as the model takes it."""
        return x if self.transform is None else returned("transform", self.transform(x), len(x))

    def _forward(self, x: np.ndarray) -> np.ndarray:
        return self._predictor(x if self.transform is None else self._inputs(x.copy()))

    def _first_forward(self, name: str, x: np.ndarray) -> np.ndarray:
        """`_forward`, and of what fails for a wrong shape or dtype whose fault it is."""
        try:
            return self._forward(x)
        except (TypeError, ValueError) as error:
            try:
                self._forward(x[np.newaxis])
            except (TypeError, ValueError):
                if self.transform is not None and isinstance(error, LayerTypeError):
                    problem = f"{error.problem} (as transform returned it)"
                    raise type(error)(error.layer, problem, error.path) from None
                raise error from None
            raise ValueError(
                f"{name} of shape {x.shape} is a single sample: give a batch of one, {name}[None]"
            ) from None

    def _evaluate(self, x, y) -> dict[str, float]:
        loss_sum, n_correct = 0.0, 0
        classifies = self.loss.task == "classification"
        with self._predicting:
            self._predictor.refresh()
            for batch in batch_slices(len(x), EVALUATION_BATCH):
                scores = self._forward(x[batch])
                loss_sum += self.loss(scores, y[batch])[0] * len(scores)
                n_correct += np.count_nonzero(self.loss.correct(scores, y[batch])) if classifies else 0
        return {"loss": loss_sum / len(x)} | ({"accuracy": n_correct / len(x)} if classifies else {})

    # -- checks ---------------------------------------------------------------------------------------------

    def _checked_pair(self, x_name: str, x, y_name: str, y) -> tuple[np.ndarray, np.ndarray]:
        """x and y as arrays, all of both known to fit the model and the loss."""
        x, y = checked_inputs(x_name, x), as_array(y_name, y)
        if y.shape[:1] != x.shape[:1]:
            raise ValueError(
                f"{x_name} has {len(x)} samples, {y_name} has shape {y.shape}: they need one entry each a sample"
            )
        # The loss judges the labels: all of them, against scores of the shape that the model gives one sample.
        with self._predicting:
            self._predictor.refresh()
            scores = self._first_forward(x_name, x[:1])
        for batch in batch_slices(len(y), max(1, 2**20 // scores.size)):
            self.loss(np.zeros((len(y[batch]), *scores.shape[1:]), scores.dtype), y[batch])
        return x, y

    def _check_monitors(self, monitor, patience, validation_data) -> None:
        if not isinstance(monitor, str) or monitor not in {"val_loss", "val_accuracy"}:
            raise ValueError(f"fit: monitor must be 'val_loss' or 'val_accuracy', got {shown(monitor)}")
        if monitor == "val_accuracy" and self.loss.task != "classification":
            raise ValueError("fit: monitor='val_accuracy' needs a classification loss: use 'val_loss'")
        if patience is not None:
            require_count("patience", patience)
            if validation_data is None:
                raise ValueError(f"fit: patience={patience} needs validation_data=(x, y) to watch")
        for callback in self.callbacks:
            watched = str(getattr(callback, "monitor", ""))
            if watched.startswith("val_") and validation_data is None:
                raise ValueError(f"fit: {callback!r} watches {watched}: give validation_data=(x, y)")
            if watched.endswith("accuracy") and self.loss.task != "classification":
                raise ValueError(f"fit: {callback!r} watches {watched}, which a regression has not: watch a loss")

    def _is_best(self, course: _Course) -> bool:
        values, best = self.run.history[course.monitor], self.run.best_epoch
        return not best or course.is_better(values[-1], values[best - 1])

    def _schedule_for(self, n_batches: int) -> Callable[[int, int], float] | None:
        return self.schedule.in_steps(n_batches) if isinstance(self.schedule, Schedule) else self.schedule

    def _require_pair(self) -> None:
        """The optimizer changes parameters of this model; looked at again when either was assigned."""
        if not self._paired:
            check_pairing(self.model, self.optimizer)
            self._paired = True

    @contextmanager
    def _alone(self, doing: str) -> Iterator[None]:
        if not self._training.acquire(blocking=False):
            raise RuntimeError(f"{doing}: another thread trains this solver: give each thread a solver of its own")
        try:
            yield
        finally:
            self._training.release()

    def _diverged(self, problem: str, place: str) -> TrainingDiverged:
        return TrainingDiverged(self.run.step, problem, place, self.optimizer.groups[0]["lr"], self._checkpoint)
