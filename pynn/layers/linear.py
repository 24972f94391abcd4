"""The fully connected layer: y = x·W + b."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import cnn_ext
from pynn.initializers import initialize
from pynn.layers._checks import affordable, flag, floating, generator, initializer, size
from pynn.module import Module, Parameter

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["Linear"]


class Linear(Module):
    """y = x·W + b, for x (N, in_features).

    Backward: ∂L/∂W += xᵀ·∂L/∂y,   ∂L/∂b += Σ_n ∂L/∂y_n,   ∂L/∂x = ∂L/∂y·Wᵀ

    Parameters: `weight` (in_features, out_features), by the initializer called `init` with
    fan_in = in_features and fan_out = out_features; `bias` (out_features,), zeros, None where `bias` is False.
    `rng` draws the weight; None: fresh entropy.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        init: str = "kaiming_normal",
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | None = None,
    ):
        self.in_features = size(self, "in_features", in_features)
        self.out_features = size(self, "out_features", out_features)
        self.init, self.dtype, rng = initializer(self, init), floating(self, dtype), generator(self, rng)
        fans = (self.in_features, self.out_features)
        affordable(self, fans, self.dtype)
        self.weight = Parameter(initialize(self.init, fans, *fans, self.dtype, rng))
        self.bias = None
        if flag(self, "bias", bias):
            self.bias = Parameter(initialize("zeros", (self.out_features,), dtype=self.dtype))
        self.input_axes = ("N", self.in_features)

    def forward(self, x, *, training=False):
        x = self._check_input(x)
        out = cnn_ext.linear_forward(x, self.weight.data, self.bias.data if self.bias else None)
        if training:
            self._keep(out, x)
        return out

    def backward(self, dout, *, input_grad=True):
        dout, (x,) = self._take(dout)
        dx, dweight, dbias = cnn_ext.linear_backward(dout, x, self.weight.data, input_grad=input_grad)
        self.weight.accumulate(dweight)
        if self.bias:
            self.bias.accumulate(dbias)
        return dx

    def lower(self, graph, x):
        return graph.linear(x, self)

    def output_shape(self, input_shape):
        self._check_sample(input_shape)
        return (self.out_features,)

    def config(self):
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias is not None,
            "init": self.init,
            "dtype": self.dtype.name,
        }

    def _remedy(self, shape):
        if len(shape) == 2:
            return f"make it Linear({shape[1]}, …), or change what comes before"
        return "put Flatten() before it"
