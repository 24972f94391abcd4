"""Owns the training loop: batches, updates, validation, early stopping and the record of it all.

The solver sees a model, a loss, an optimizer and arrays; it knows no layer and no data set.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from pynn.batches import EVALUATION_BATCH, batch_slices, checked_inputs, require_count
from pynn.checkpoint import restore_checkpoint, save_checkpoint
from pynn.engine import Predictor, Trainer
from pynn.files import check_writable
from pynn.io import require_safetensors
from pynn.module import Module, first_nonfinite
from pynn.optim import clip_grad_norm
from pynn.progress import open_progress

__all__ = ["Run", "Solver", "TrainingDiverged"]

HISTORY = ("epoch", "step", "loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds")

Callback = Callable[["Solver", dict], object]


class TrainingDiverged(ArithmeticError):
    """A loss, gradient or parameter became NaN or infinite; the step that showed it was not taken.

    step : the number of updates before it. layer : the first place with a non-finite value.
    checkpoint : the file with the last whole epoch, or None.
    """

    def __init__(self, step: int, problem: str, layer: str, lr: float, checkpoint: str | None):
        self.step, self.layer, self.checkpoint = step, layer, checkpoint
        kept = f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint"
        super().__init__(
            f"training diverged at step {step}: {problem}, first non-finite in {layer}; lower the learning rate "
            f"(now {lr:g}), set max_grad_norm or standardise the inputs; {kept}"
        )


@dataclass
class Run:
    """Where one `fit` stands: what a checkpoint keeps beside the weights, the optimizer and the generators."""

    step: int = 0
    history: dict[str, list] = field(default_factory=lambda: {name: [] for name in HISTORY})
    best_epoch: int = 0  # 0 before the first validation
    best_weights: dict[str, np.ndarray] = field(default_factory=dict)


class Solver:
    """Trains `model` by minimising `loss(model(x), y)` with `optimizer`.

    model : Module. loss : `loss(scores, y) -> (loss, dscores)`, and for classification `correct` and `predict`.
    optimizer : over the model's parameters.
    batch_size : samples an update. The last, smaller batch of an epoch is used as well; a last batch of a single
    sample is joined to the one before, because batch normalisation has no variance over one value.
    schedule : `schedule(step, total_steps) -> factor` on each parameter group's lr; None keeps it.
    augment : `augment(x_batch, rng) -> x_batch`, in `fit` only. transform : `transform(x_batch) -> x_batch`,
    deterministic, after `augment` and in evaluation too, as standardisation; here uint8 images become float.
    max_grad_norm : longer gradients (of all parameters together, L2) are scaled down to it.
    rng : numpy Generator of the shuffling and of `augment`; None takes fresh entropy.
    callbacks : each is called as `callback(solver, logs)` after every epoch, `logs` being that epoch's entry of
    `history`; returning True ends the training after that epoch.
    progress : see `pynn.progress`.

    The same seeds give the same bits, on any number of threads.
    """

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
        callbacks: Iterable[Callback] = (),
        progress: bool | None = None,
    ):
        if not isinstance(rng, np.random.Generator | None):
            raise TypeError(
                f"Solver: rng must be a numpy Generator or None, got {rng!r}: np.random.default_rng(seed)"
            )
        for name, function in (("schedule", schedule), ("transform", transform), ("augment", augment)):
            if function is not None and not callable(function):
                raise TypeError(f"Solver: {name} must be a function or None, got {function!r}")
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ValueError(f"Solver: max_grad_norm must be above 0 or None, got {max_grad_norm}")
        if not {id(p) for p in optimizer.parameters} <= {id(p) for p in model.parameters()}:
            raise ValueError(
                "Solver: the optimizer has parameters that the model lacks: build it from this model's"
            )
        self.model, self.loss, self.optimizer = model, loss, optimizer
        self.batch_size = require_count("batch_size", batch_size)
        self.schedule, self.transform, self.augment = schedule, transform, augment
        self.max_grad_norm = max_grad_norm
        self.rng = np.random.default_rng() if rng is None else rng
        self.callbacks, self.progress = tuple(callbacks), progress
        self.run = Run()
        self._resumed = False
        self._checkpoint: str | None = None  # the file with the last whole epoch
        self._trainer, self._predictor = Trainer(model), Predictor(model)

    @property
    def history(self) -> dict[str, list]:
        """Of the present or last `fit`, one entry an epoch; see `fit`."""
        return self.run.history

    # -- training -------------------------------------------------------------------------------------------

    def train_step(self, x: np.ndarray, y: np.ndarray) -> float:
        """One update on a batch as the model takes it (no `augment`, `transform` or `schedule`); its loss before.

        Raises TrainingDiverged where the loss, or the gradient's norm under `max_grad_norm`, is not finite: then
        parameters, running statistics and optimizer are as before the step.
        """
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
    ) -> dict[str, list]:
        """Trains for `epochs` passes over the data or `steps` updates, whichever ends first; returns `history`.

        x : (N, …). y : (N,) or as the loss takes it. Every epoch goes through a fresh permutation of them.
        validation_data : (x, y), evaluated after every epoch.
        monitor : "val_loss" (smallest is best) or "val_accuracy" (largest); of equals the first is best.
        patience : epochs without a better `monitor` after which training ends; None never ends it early.
        restore_best_weights : with `validation_data`, the model has the best epoch's weights and running
        statistics when `fit` returns, whether it was stopped early or reached the last epoch.
        checkpoint : file that is replaced after every epoch; see `resume`.

        `history` has one entry an epoch: `epoch` (from 1), `step` (updates so far), `loss` and `accuracy` (means
        over the training batches, each as it was before its update), `val_loss`, `val_accuracy`, `lr` (the first
        group's, at the last update) and `seconds`; None where a figure does not apply. After KeyboardInterrupt or
        TrainingDiverged `solver.history` has the whole epochs so far, and the weights are the last ones.

        `fit` again starts a new history and schedule from the present weights and optimizer state.

        Raises ValueError or TypeError, before any work, for data or arguments that do not fit, WriteError where
        `checkpoint` cannot be written, TrainingDiverged on NaN or infinity.
        """
        x, y = self._checked_pair("x", x, "y", y)
        if validation_data is not None:
            if not isinstance(validation_data, tuple | list):
                raise TypeError(f"fit: validation_data must be (x, y), got {type(validation_data).__name__}")
            if len(validation_data) != 2:
                raise ValueError(f"fit: validation_data must be (x, y), got {len(validation_data)} items")
            validation_data = self._checked_pair(
                "validation x", validation_data[0], "validation y", validation_data[1]
            )
        batches = batch_slices(len(x), self.batch_size)
        total_steps = _total_steps(epochs, steps, len(batches))
        better = self._comparison(monitor, patience, validation_data)
        if checkpoint is not None:
            require_safetensors()
            check_writable(checkpoint)

        if not self._resumed:
            self.run, self._checkpoint = Run(), None
        self._resumed = False
        run = self.run
        stop = False
        n_epochs = -(-total_steps // len(batches))
        with open_progress(self.progress, total_steps=total_steps, epochs=n_epochs, done=run.step) as progress:
            while run.step < total_steps and not (stop or self._out_of_patience(patience)):
                logs = self._epoch(x, y, batches, validation_data, total_steps, progress)
                run.history = {name: [*values, logs[name]] for name, values in run.history.items()}
                if validation_data is not None and (
                    not run.best_epoch or better(logs[monitor], run.history[monitor][run.best_epoch - 1])
                ):
                    run.best_epoch = logs["epoch"]
                    run.best_weights = self.model.state_dict() if restore_best_weights else {}
                if checkpoint is not None:
                    save_checkpoint(checkpoint, self)
                    self._checkpoint = os.fspath(checkpoint)
                progress.epoch(logs)
                stop = any([callback(self, dict(logs)) for callback in self.callbacks])  # all of them, then any
        if run.best_weights:
            self.model.load_state_dict(run.best_weights)
        return run.history

    def resume(self, path: str | os.PathLike) -> None:
        """Takes up the run whose checkpoint is in `path`: the next `fit`, with the same arguments, continues it.

        The solver is built as it was for the interrupted run. Model, optimizer, history, best weights and
        the state of every generator (the solver's and the layers') come from the file, so that the continued run
        ends bit for bit as the uninterrupted one. State that callbacks keep is theirs to restore.

        Raises ModelFileError (a ValueError) where the file is damaged or of another model or optimizer; the
        solver is then unchanged.
        """
        restore_checkpoint(path, self)
        self._resumed, self._checkpoint = True, os.fspath(path)

    def _epoch(self, x, y, batches, validation_data, total_steps, progress) -> dict:
        began = time.perf_counter()
        order = self.rng.permutation(len(x))
        classifies = self.loss.task == "classification"
        loss_sum, n_correct, n = 0.0, 0, 0
        for batch in batches[: total_steps - self.run.step]:
            x_batch, y_batch = x[order[batch]], y[order[batch]]
            if self.augment is not None:
                x_batch = self.augment(x_batch, self.rng)
            if self.transform is not None:
                x_batch = self.transform(x_batch)
            lr_factor = 1.0 if self.schedule is None else self.schedule(self.run.step, total_steps)
            loss, scores = self._train_step(x_batch, y_batch, lr_factor)
            loss_sum += loss * len(y_batch)
            n_correct += np.count_nonzero(self.loss.correct(scores, y_batch)) if classifies else 0
            n += len(y_batch)
            progress.step()
        for path, parameter in self.model.named_parameters():  # no loss has seen the last update
            if not np.isfinite(parameter.data).all():
                raise self._diverged("the update overflowed", path)
        validation = {} if validation_data is None else self._evaluate(*validation_data)
        if not math.isfinite(validation.get("loss", 0)):
            raise self._diverged(f"the validation loss is {validation['loss']}", "the validation scores")
        return {
            "epoch": len(self.history["epoch"]) + 1,
            "step": self.run.step,
            "loss": loss_sum / n,
            "accuracy": n_correct / n if classifies else None,
            "val_loss": validation.get("loss"),
            "val_accuracy": validation.get("accuracy"),
            "lr": self.optimizer.groups[0]["lr"] * lr_factor,
            "seconds": time.perf_counter() - began,
        }

    def _comparison(self, monitor, patience, validation_data) -> Callable[[float, float], bool]:
        if monitor not in {"val_loss", "val_accuracy"}:
            raise ValueError(f"fit: monitor must be 'val_loss' or 'val_accuracy', got {monitor!r}")
        if monitor == "val_accuracy" and self.loss.task != "classification":
            raise ValueError("fit: monitor='val_accuracy' needs a classification loss: use 'val_loss'")
        if patience is not None:
            require_count("patience", patience)
            if validation_data is None:
                raise ValueError(f"fit: patience={patience} needs validation_data=(x, y) to watch")
        return float.__lt__ if monitor == "val_loss" else float.__gt__

    def _out_of_patience(self, patience: int | None) -> bool:
        return patience is not None and len(self.history["epoch"]) - self.run.best_epoch >= patience

    def _diverged(self, problem: str, place: str) -> TrainingDiverged:
        return TrainingDiverged(self.run.step, problem, place, self.optimizer.groups[0]["lr"], self._checkpoint)

    # -- evaluation -----------------------------------------------------------------------------------------

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
        """`loss` and, for classification, `accuracy` (a fraction) in evaluation mode, means over all samples.

        Works through batches of 500 samples; the batch size moves the result by rounding only.
        """
        return self._evaluate(*self._checked_pair("x", x, "y", y))

    def scores(self, x: np.ndarray) -> np.ndarray:
        """(N, …): the model's outputs in evaluation mode, after `transform`."""
        x = checked_inputs("x", x)
        self._predictor.refresh()
        return np.concatenate([self._forward(x[batch]) for batch in batch_slices(len(x), EVALUATION_BATCH)])

    def predict(self, x: np.ndarray) -> np.ndarray:
        """(N,): the predicted labels; for regression the scores."""
        scores = self.scores(x)
        return self.loss.predict(scores) if self.loss.task == "classification" else scores

    def _forward(self, x: np.ndarray) -> np.ndarray:
        return self._predictor(x if self.transform is None else self.transform(x))

    def _evaluate(self, x, y) -> dict[str, float]:
        loss_sum, n_correct = 0.0, 0
        classifies = self.loss.task == "classification"
        self._predictor.refresh()
        for batch in batch_slices(len(x), EVALUATION_BATCH):
            scores = self._forward(x[batch])
            loss_sum += self.loss(scores, y[batch])[0] * len(scores)
            n_correct += np.count_nonzero(self.loss.correct(scores, y[batch])) if classifies else 0
        return {"loss": loss_sum / len(x)} | ({"accuracy": n_correct / len(x)} if classifies else {})

    def _checked_pair(self, x_name: str, x, y_name: str, y) -> tuple[np.ndarray, np.ndarray]:
        """x and y as arrays, all of both known to fit the model and the loss."""
        x, y = checked_inputs(x_name, x), np.asarray(y)
        if y.shape[:1] != x.shape[:1]:
            raise ValueError(
                f"{x_name} has {len(x)} samples, {y_name} has shape {y.shape}: they need one entry each a sample"
            )
        # The loss judges the labels: all of them, against scores of the shape that the model gives one sample.
        scores = self.model(x[:1] if self.transform is None else self.transform(x[:1]))
        for batch in batch_slices(len(y), max(1, 2**20 // scores.size)):
            self.loss(np.zeros((len(y[batch]), *scores.shape[1:]), scores.dtype), y[batch])
        return x, y


def _total_steps(epochs: int | None, steps: int | None, n_batches: int) -> int:
    limits = [require_count("steps", steps)] if steps is not None else []
    limits += [require_count("epochs", epochs) * n_batches] if epochs is not None else []
    if not limits:
        raise ValueError("fit: give epochs, steps or both")
    return min(limits)
