"""Batch normalisation (Ioffe & Szegedy 2015, arXiv:1502.03167, algorithms 1 and 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import cnn_ext
from pynn.initializers import initialize
from pynn.layers._checks import floating, image_remedy, number, size
from pynn.module import Module, Parameter

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["BatchNorm1d", "BatchNorm2d"]


class _BatchNorm(Module):
    """What both forms share: all but the shape of x."""

    buffer_names = ("running_mean", "running_var")

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, *, dtype: DTypeLike = np.float32
    ):
        self.num_features = size(self, "num_features", num_features)
        self.momentum = number(self, "momentum", momentum, lambda v: 0 <= v <= 1, "from 0 to 1")
        self.eps = number(self, "eps", eps, lambda v: v > 0, "positive")
        self.dtype = floating(self, dtype)
        shape = (self.num_features,)
        self.weight = Parameter(initialize("ones", shape, dtype=self.dtype))
        self.bias = Parameter(initialize("zeros", shape, dtype=self.dtype))
        self.running_mean = initialize("zeros", shape, dtype=self.dtype)
        self.running_var = initialize("ones", shape, dtype=self.dtype)

    def forward(self, x, *, training=False):
        x = self._check_input(x)
        weight, bias = self.weight.data, self.bias.data
        if not (training and self.trainable):
            mean, var = self.running_mean, self.running_var
            out = cnn_ext.batch_norm_inference(x, weight, bias, mean, var, eps=self.eps)
            if training:
                self._keep(out, x, mean, var)
            return out
        count = x.size // self.num_features
        if count == 1:
            raise self._refuse(
                f"expected more than one value per channel in training, got x of shape {x.shape}: "
                "its variance is 0, so use a larger batch"
            )
        out, mean, var = cnn_ext.batch_norm_forward(x, weight, bias, eps=self.eps)
        old, new = 1 - self.momentum, self.momentum
        self.running_mean[...] = old * self.running_mean + new * mean
        self.running_var[...] = old * self.running_var + new * var * (count / (count - 1))
        self._keep(out, x, mean, var)
        return out

    def backward(self, dout, *, input_grad=True):
        dout, (x, mean, var) = self._take(dout)
        dx, dweight, dbias = cnn_ext.batch_norm_backward(dout, x, self.weight.data, mean, var, eps=self.eps)
        if mean is self.running_mean:  # constants, through which nothing flows back
            by_channel = (-1, *[1] * (x.ndim - 2))
            dx = dout * (self.weight.data / np.sqrt(var + self.dtype.type(self.eps))).reshape(by_channel)
        self.weight.accumulate(dweight)
        self.bias.accumulate(dbias)
        return dx if input_grad else None

    def lower(self, graph, x):
        return graph.batch_norm(x, self)


class BatchNorm1d(_BatchNorm):
    """y = weight · x̂ + bias,   x̂ = (x − μ) / √(σ² + eps), per feature, for x (N, C).

    In training μ and σ² are the batch's mean and biased variance over the M values of a feature, here M = N, and

        running_mean ← (1 − momentum) · running_mean + momentum · μ
        running_var  ← (1 − momentum) · running_var  + momentum · σ² · M / (M − 1)

    (PyTorch's conventions: momentum weighs the new value; the unbiased variance is kept). In evaluation μ and σ²
    are the running ones. Backward, with Σ over the M values of a feature:

        ∂L/∂bias += Σ ∂L/∂y,   ∂L/∂weight += Σ ∂L/∂y · x̂,
        ∂L/∂x = weight / √(σ² + eps) · (∂L/∂y − Σ ∂L/∂y / M − x̂ · Σ (∂L/∂y · x̂) / M)

    Where the layer is not `trainable`, μ and σ² are the running ones in training too, which stay as they are, and
    ∂L/∂x = weight / √(σ² + eps) · ∂L/∂y.

    Parameters: `weight`, ones, and `bias`, zeros, both (C,). State: `running_mean`, zeros, and
    `running_var`, ones.
    Raises LayerError for a training batch with one value per feature, whose variance says nothing.
    """

    @property
    def input_axes(self):
        return "N", self.num_features

    def _remedy(self, shape):
        return "change num_features, or what comes before" if len(shape) == 2 else "images take BatchNorm2d"


class BatchNorm2d(_BatchNorm):
    """As BatchNorm1d, per channel, for x (N, C, H, W): μ and σ² are over batch and pixels, so that M = N·H·W."""

    @property
    def input_axes(self):
        return "N", self.num_features, "H", "W"

    def _remedy(self, shape):
        if len(shape) == 2:
            return "features take BatchNorm1d"
        return image_remedy(shape, self.num_features, "change num_features, or what comes before")
