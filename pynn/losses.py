"""Owns the losses: `loss, dscores = loss_fn(scores, y)`, the mean over the batch and its gradient ∂loss/∂scores.

Scores are float32 or float64; the arithmetic is float64, and the gradient has the dtype and shape of the scores.
Cross-entropy, the loss of every network of several classes, is a kernel; the others are NumPy.
Scores that are not finite give a NaN loss and a NaN gradient, whatever the formula would make of them, so that
training notices at once. Labels that do not fit are refused: ValueError, or TypeError for a wrong dtype.
"""

from __future__ import annotations

from abc import abstractmethod
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import wraps
from typing import ClassVar, NamedTuple

import numpy as np

import cnn_ext
from pynn.habits import LOSS, RESULT, Explained, missing_attribute
from pynn.values import as_array, as_float, is_integer, is_number, shown

__all__ = [
    "CrossEntropyLoss",
    "HingeLoss",
    "LogisticLoss",
    "Loss",
    "MSELoss",
    "MultiClassHingeLoss",
    "SquaredHingeLoss",
    "class_indices",
    "softmax",
]


def _in_float64(evaluate):
    """`evaluate` of finite float64 scores as one of any: NaN where they are not finite, rounded to their dtype."""

    @wraps(evaluate)
    def of_any_scores(self, scores, target):
        if not np.isfinite(scores).all():
            return float("nan"), np.full(scores.shape, np.nan, scores.dtype)
        with np.errstate(all="ignore"):  # an overflow shows in the loss: inf, without a warning
            loss, dscores = evaluate(self, scores.astype(np.float64, copy=False), target)
            return float(loss), dscores.astype(scores.dtype, order="C", copy=False)

    return of_any_scores


class LossAndGradient(NamedTuple):
    """What a loss gives: its value, and its gradient by the scores, which `backward` of the model takes."""

    loss: float
    dscores: np.ndarray

    def __getattr__(self, name: str):
        raise missing_attribute(self, name, RESULT)


@dataclass(frozen=True)
class Loss(metaclass=Explained):
    """The base of all losses: checks of scores and labels."""

    task: ClassVar[str]  # "classification" or "regression"

    @classmethod
    def _misfit(cls, problem: str) -> TypeError:
        return TypeError(f"[{cls.__name__}] {problem}")

    def __getattr__(self, name: str):
        raise missing_attribute(self, name, LOSS)

    def __call__(self, scores: np.ndarray, y: np.ndarray) -> LossAndGradient:
        """(loss, ∂loss/∂scores); the gradient has the shape and dtype of `scores`."""
        scores = self._scores(scores)
        return LossAndGradient(*self._evaluate(scores, self._target(scores, y)))

    def config(self) -> dict:
        """The constructor's arguments, for JSON: `type(loss)(**config)` is an equal loss."""
        return asdict(self)

    @abstractmethod
    def _target(self, scores: np.ndarray, y) -> np.ndarray:
        """`y` checked against the scores, in the form that `_evaluate` wants."""

    @abstractmethod
    def _evaluate(self, scores: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
        """The loss and its gradient, in the dtype of `scores`; NaN where these are not finite."""

    def _scores(self, scores) -> np.ndarray:
        scores = as_array(self._name, "scores", scores)
        if scores.dtype not in (np.float32, np.float64):
            swapped = ", or the order, loss(scores, y)" if scores.dtype.kind in "biu" else ""
            raise TypeError(
                f"{self._name} scores must be float32 or float64, got {scores.dtype}: use .astype{swapped}"
            )
        if scores.ndim == 0 or scores.size == 0:
            raise ValueError(f"{self._name} expected scores of at least one sample, got shape {scores.shape}")
        return scores

    @property
    def _name(self) -> str:
        return f"[{type(self).__name__}]"


# -- two classes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class BinaryLoss(Loss):
    """The base of L = 1/N Σᵢ ℓ(mᵢ) with the margin mᵢ = yᵢ sᵢ and yᵢ ∈ {−1, +1}; hence ∂L/∂sᵢ = yᵢ ℓ′(mᵢ) / N.

    scores : (N,) or (N, 1), one score a sample. y : (N,) or (N, 1), integer, float or bool, 0/1 or −1/+1.
    labels : (0, 1) or (−1, 1), what `predict` returns; `y` may be either whatever `labels` says.
    """

    labels: tuple[int, int] = (0, 1)
    task = "classification"

    def __post_init__(self):
        if not isinstance(self.labels, tuple | list) or tuple(self.labels) not in ((0, 1), (-1, 1)):
            raise ValueError(f"{self._name} labels must be (0, 1) or (-1, 1), got {shown(self.labels)}")
        object.__setattr__(self, "labels", tuple(map(int, self.labels)))

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """(N,) int64: `labels[1]` where the score is above 0, else `labels[0]`."""
        return np.where(self._scores(scores).reshape(-1) > 0, self.labels[1], self.labels[0])

    def correct(self, scores: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(N,) bool: whether the score is on the side of the label."""
        scores = self._scores(scores)
        return (scores.reshape(-1) > 0) == (self._target(scores, y) > 0)

    @abstractmethod
    def _margin_loss(self, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(ℓ(m), ℓ′(m)), element by element."""

    def _scores(self, scores) -> np.ndarray:
        scores = super()._scores(scores)
        if scores.shape not in ((len(scores),), (len(scores), 1)):
            raise ValueError(
                f"{self._name} expected scores of shape (N,) or (N, 1), got {scores.shape}: "
                "for several classes use CrossEntropyLoss or MultiClassHingeLoss"
            )
        return scores

    def _target(self, scores, y) -> np.ndarray:
        y = _numbers(self._name, "y", y)
        if y.shape not in ((len(scores),), (len(scores), 1)):
            raise ValueError(
                f"{self._name} expected y of shape ({len(scores)},) or ({len(scores)}, 1) for scores of shape "
                f"{scores.shape}, got {y.shape}"
            )
        y = y.reshape(-1)
        wrong = (y != 0) & (y != 1) & (y != -1)  # NaN is
        if wrong.any():
            i = int(wrong.argmax())
            raise ValueError(f"{self._name} y must be 0/1 or -1/+1, got {y[i]} at index {i}")
        y = y.astype(np.float64)
        if (y == 0).any() and (y == -1).any():
            raise ValueError(f"{self._name} y mixes 0 and -1: give 0/1 or -1/+1 labels, not both")
        return np.where(y > 0, 1.0, -1.0)

    @_in_float64
    def _evaluate(self, scores, y):
        losses, slopes = self._margin_loss(y * scores.reshape(-1))
        return losses.mean(), (y * slopes / len(y)).reshape(scores.shape)


class LogisticLoss(BinaryLoss):
    """ℓ(m) = log(1 + exp(−m)), ℓ′(m) = −σ(−m): logistic regression, with the sigmoid inside the loss.

    Arguments, shapes and labels: `BinaryLoss`. Exact for |m| of any size: exp is only taken of −|m|.
    Source: Cox 1958; in this form Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, eq. 10.18.
    """

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """(N, 2): 1 − σ(s) and σ(s), the probabilities of `labels[0]` and `labels[1]`, in the scores' dtype."""
        scores = self._scores(scores)
        return softmax(np.stack([np.zeros_like(scores.reshape(-1)), scores.reshape(-1)], axis=1))

    def _margin_loss(self, m):
        tail = np.exp(-np.abs(m))
        return np.maximum(-m, 0) + np.log1p(tail), -np.where(m > 0, tail, 1) / (1 + tail)


class HingeLoss(BinaryLoss):
    """ℓ(m) = max(0, 1 − m), ℓ′(m) = −1 where m < 1, else 0: the linear SVM.

    Arguments, shapes and labels: `BinaryLoss`. Source: Cortes & Vapnik 1995, Support-vector networks.
    """

    def _margin_loss(self, m):
        return np.maximum(0, 1 - m), np.where(m < 1, -1.0, 0.0)


class SquaredHingeLoss(BinaryLoss):
    """ℓ(m) = max(0, 1 − m)², ℓ′(m) = −2 max(0, 1 − m): the L2-SVM.

    Arguments, shapes and labels: `BinaryLoss`. Source: Tang 2013, Deep Learning using Linear SVMs, eq. 6.
    """

    def _margin_loss(self, m):
        slack = np.maximum(0, 1 - m)
        return slack**2, -2 * slack


# -- several classes ------------------------------------------------------------------------------------------


class MultiClassLoss(Loss):
    """The base of losses of scores (N, K), K ≥ 2, and class indices y (N,) from 0 to K − 1, of any real dtype."""

    task = "classification"

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """(N,) int64: the class of the largest score, the first of equals."""
        return self._scores(scores).argmax(axis=1)

    def correct(self, scores: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(N,) bool: whether the largest score is the label's."""
        scores = self._scores(scores)
        return scores.argmax(axis=1) == self._target(scores, y)

    def _scores(self, scores) -> np.ndarray:
        scores = super()._scores(scores)
        if scores.ndim != 2 or scores.shape[1] < 2:
            raise ValueError(
                f"{self._name} expected scores of shape (N, K) with K ≥ 2 classes, got {scores.shape}: "
                "for one score a sample use LogisticLoss, HingeLoss or SquaredHingeLoss"
            )
        return scores

    def _target(self, scores, y) -> np.ndarray:
        y = class_indices(self._name, "y", y, scores.shape[1])
        if len(y) != len(scores):
            raise ValueError(f"{self._name} expected {len(scores)} labels for scores {scores.shape}, got {len(y)}")
        return y


@dataclass(frozen=True)
class MultiClassHingeLoss(MultiClassLoss):
    """L = 1/N Σᵢ Σ_{j≠yᵢ} max(0, sᵢⱼ − s_{i,yᵢ} + Δ): the multi-class SVM of Weston & Watkins.

    With 1ᵢⱼ = [sᵢⱼ − s_{i,yᵢ} + Δ > 0]: ∂L/∂sᵢⱼ = 1ᵢⱼ / N for j ≠ yᵢ and ∂L/∂s_{i,yᵢ} = −Σ_{j≠yᵢ} 1ᵢⱼ / N.
    scores : (N, K). y : (N,). margin : Δ > 0. PyTorch's MultiMarginLoss is this divided by K.
    Source: Weston & Watkins 1999, Support vector machines for multi-class pattern recognition, eq. 2.
    """

    margin: float = 1.0

    def __post_init__(self):
        if not is_number(self.margin) or not 0 < as_float(self.margin) < np.inf:
            raise ValueError(f"{self._name} margin must be a number above 0, got {shown(self.margin)}")
        object.__setattr__(self, "margin", float(self.margin))

    @_in_float64
    def _evaluate(self, scores, y):
        rows = np.arange(len(y))
        violations = np.maximum(0, scores - scores[rows, y][:, None] + self.margin)
        violations[rows, y] = 0
        dscores = (violations > 0) / len(y)
        dscores[rows, y] = -dscores.sum(axis=1)
        return violations.sum() / len(y), dscores


@dataclass(frozen=True)
class CrossEntropyLoss(MultiClassLoss):
    """L = −1/N Σᵢ Σⱼ qᵢⱼ log pᵢⱼ with pᵢ = softmax(sᵢ) and qᵢⱼ = (1 − ε) [j = yᵢ] + ε/K; ∂L/∂s = (p − q) / N.

    scores : (N, K), before the softmax. y : (N,). label_smoothing : ε from 0 to 1.
    Unchanged, like the softmax, when a sample's scores all move by a constant; the largest is subtracted first.
    Source: Bridle 1990 (softmax); Szegedy et al. 2016, Rethinking the Inception architecture, section 7 (ε).
    """

    label_smoothing: float = 0.0

    def __post_init__(self):
        if not is_number(self.label_smoothing) or not 0 <= as_float(self.label_smoothing) <= 1:
            raise ValueError(
                f"{self._name} label_smoothing must be from 0 to 1, got {shown(self.label_smoothing)}"
            )
        object.__setattr__(self, "label_smoothing", float(self.label_smoothing))

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """(N, K): the softmax of each sample's scores, in their dtype."""
        return softmax(self._scores(scores))

    def __call__(self, scores, y):
        scores = self._scores(scores)
        with suppress(TypeError, ValueError):  # the kernel looks at int64 labels itself
            return LossAndGradient(*self._evaluate(scores, y))
        return super().__call__(scores, y)  # others are converted, or refused as labels

    def _evaluate(self, scores, y):
        return cnn_ext.softmax_cross_entropy(scores, y, label_smoothing=self.label_smoothing)


# -- regression -----------------------------------------------------------------------------------------------


class MSELoss(Loss):
    """L = 1/M Σ (s − y)² over all M elements of the batch; ∂L/∂s = 2 (s − y) / M.

    scores : any shape (N, …). y : the same shape, or (N,) for scores (N, 1); integer or float, finite.
    """

    task = "regression"

    def _target(self, scores, y) -> np.ndarray:
        y = _numbers(self._name, "y", y)
        if y.shape != scores.shape and not (scores.shape == (len(scores), 1) and y.shape == (len(scores),)):
            raise ValueError(f"{self._name} expected y of the scores' shape {scores.shape}, got {y.shape}")
        with np.errstate(over="ignore"):  # of a wider dtype
            y = y.astype(np.float64).reshape(scores.shape)
        if not np.isfinite(y).all():
            raise ValueError(f"{self._name} y must be finite, got {y[~np.isfinite(y)][0]} among its values")
        return y

    @_in_float64
    def _evaluate(self, scores, y):
        difference = scores - y
        return (difference**2).mean(), 2 * difference / difference.size


# -- probabilities --------------------------------------------------------------------------------------------


def softmax(scores: np.ndarray, axis: int = -1) -> np.ndarray:
    """pᵢ = exp(sᵢ) / Σⱼ exp(sⱼ) along `axis`: the probabilities that CrossEntropyLoss takes scores to stand for.

    scores : any shape, float32 or float64; the result has its shape and dtype, and is computed in float64. The
    largest score is subtracted first, so that no size overflows. A sample with NaN or +inf, or of −inf alone,
    gives NaN. For one score a sample (LogisticLoss) the probability is that of softmax of (0, s).
    Raises TypeError for another dtype, ValueError for an axis that is not there. Source: Bridle 1990.
    """
    scores = as_array("softmax:", "scores", scores)
    if scores.dtype not in (np.float32, np.float64):
        raise TypeError(f"softmax: scores must be float32 or float64, got {scores.dtype}: use .astype")
    if not is_integer(axis) or not -scores.ndim <= axis < scores.ndim:
        raise ValueError(f"softmax: axis must be from {-scores.ndim} to {scores.ndim - 1}, got {shown(axis)}")
    if scores.size == 0:
        raise ValueError(f"softmax: expected scores of at least one sample, got shape {scores.shape}")
    with np.errstate(over="ignore", invalid="ignore"):  # −max − max, inf − inf
        exponentials = np.exp(np.subtract(scores, scores.max(axis=axis, keepdims=True), dtype=np.float64))
    return (exponentials / exponentials.sum(axis=axis, keepdims=True)).astype(scores.dtype)


# -- labels ---------------------------------------------------------------------------------------------------


def class_indices(owner: str, name: str, y, n_classes: int) -> np.ndarray:
    """`y`, (N,) or (N, 1), as (N,) int64 class indices from 0 to n_classes − 1.

    Whole numbers of any integer, float or bool dtype are taken. Otherwise TypeError, or ValueError with the
    value, its index and the range; `owner` and `name` begin the sentence.
    """
    y = _numbers(owner, name, y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        hint = f": of one-hot rows {name}.argmax(axis=1) is" if y.ndim == 2 else ""
        raise ValueError(f"{owner} expected {name} of shape (N,), one class index a sample, got {y.shape}{hint}")
    if y.dtype.kind == "f":
        wrong = ~((y >= 0) & (y < n_classes)) | (y != np.floor(y))  # so written, NaN is wrong
        indices = y
    else:
        indices = y.astype(np.int64, copy=False)
        wrong = indices.view(np.uint64) >= n_classes  # one comparison: there, what is negative is large
    if np.count_nonzero(wrong):
        i = int(wrong.argmax())
        from_one = y.min() == 1 and y.max() == n_classes
        remedy = f": classes count from 0, so pass {name} - 1" if from_one else ""
        raise ValueError(
            f"{owner} {name} must be whole numbers from 0 to {n_classes - 1}, got {y[i]} at index {i}{remedy}"
        )
    return indices.astype(np.int64, copy=False)


def _numbers(owner: str, name: str, y) -> np.ndarray:
    """`y` as an array of real numbers or bools."""
    y = as_array(owner, name, y)
    if y.dtype.kind not in "biuf":
        is_text = y.dtype.kind in "SU" or (y.size > 0 and all(isinstance(each, str) for each in y.flat))
        remedy = f": np.unique({name}, return_inverse=True)[1] counts the classes" if is_text else ""
        if y.dtype == object and all(is_number(each) for each in y.flat):
            remedy = ": convert it with .astype(np.int64)"
        raise TypeError(f"{owner} {name} must be integers, floats or bools, got {y.dtype}{remedy}")
    return y
