"""In-place parameter updates in NumPy."""

import numpy as np

__all__ = ["adam_update", "rmsprop_update", "sgd_update"]


def sgd_update(
    param: np.ndarray,
    grad: np.ndarray,
    velocity: np.ndarray | None,
    *,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    g = grad + weight_decay * param
    if velocity is not None:
        velocity[...] = momentum * velocity + g
        g = g + momentum * velocity if nesterov else velocity
    param -= lr * g


def rmsprop_update(
    param: np.ndarray,
    grad: np.ndarray,
    square_avg: np.ndarray,
    *,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
) -> None:
    g = grad + weight_decay * param
    square_avg[...] = alpha * square_avg + (1 - alpha) * g * g
    param -= lr * g / (np.sqrt(square_avg) + eps)


def adam_update(
    param: np.ndarray,
    grad: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    *,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    g = grad
    if decoupled:
        param *= 1 - lr * weight_decay
    else:
        g = grad + weight_decay * param
    m[...] = beta1 * m + (1 - beta1) * g
    v[...] = beta2 * v + (1 - beta2) * g * g
    m_hat = m / (1 - beta1**step)
    v_hat = v / (1 - beta2**step)
    param -= lr * m_hat / (np.sqrt(v_hat) + eps)
