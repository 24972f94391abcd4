"""The convolutional layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

import cnn_ext
from pynn.initializers import initialize
from pynn.layers._checks import (
    affordable,
    flag,
    floating,
    generator,
    image_remedy,
    initializer,
    pair,
    size,
    unpaired,
    window_output,
)
from pynn.module import Module, Parameter
from pynn.values import shown

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

__all__ = ["Conv2d"]


class Conv2d(Module):
    """Cross-correlation with F filters, as deep learning's "convolution", for x (N, C, H, W):

        y[n, f, p, q] = b[f] + Σ_{c, i, j} W[f, c, i, j] · x̄[n, c, p·SH + i·DH, q·SW + j·DW]

    where x̄ is x with PH rows and PW columns of zeros on each side, (SH, SW) the stride and (DH, DW) the dilation.
    The output is (N, F, OH, OW), OH = ⌊(H + 2·PH − DH·(KH − 1) − 1) / SH⌋ + 1, OW likewise.

    Backward, sums over all terms in which the factor occurs:

        ∂L/∂W[f, c, i, j] += Σ_{n, p, q} ∂L/∂y[n, f, p, q] · x̄[n, c, p·SH + i·DH, q·SW + j·DW]
        ∂L/∂b[f] += Σ_{n, p, q} ∂L/∂y[n, f, p, q]
        ∂L/∂x̄[n, c, h, w] = Σ_{f, i, j, p, q: p·SH + i·DH = h, q·SW + j·DW = w} ∂L/∂y[n, f, p, q] · W[f, c, i, j]

    Parameters: `weight` (F, C, KH, KW), by the initializer called `init` with fan_in = C·KH·KW and
    fan_out = F·KH·KW; `bias` (F,), zeros, None where `bias` is False. Sizes are ints or (vertical, horizontal)
    pairs; `padding` may also be "valid", which is 0, or, with stride 1 and odd kernels, "same", which keeps H
    and W. `rng` draws the weight; None: fresh entropy.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        *,
        bias: bool = True,
        init: str = "kaiming_normal",
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | None = None,
    ):
        self.in_channels = size(self, "in_channels", in_channels)
        self.out_channels = size(self, "out_channels", out_channels)
        self.kernel_size = pair(self, "kernel_size", kernel_size, 1)
        self.stride = pair(self, "stride", stride, 1)
        self.dilation = pair(self, "dilation", dilation, 1)
        self.padding = self._same(padding) if isinstance(padding, str) else pair(self, "padding", padding, 0)
        self.init, self.dtype, rng = initializer(self, init), floating(self, dtype), generator(self, rng)
        shape, taps = (
            (self.out_channels, self.in_channels, *self.kernel_size),
            self.kernel_size[0] * self.kernel_size[1],
        )
        affordable(self, shape, self.dtype)
        fans = (self.in_channels * taps, self.out_channels * taps)
        self.weight = Parameter(initialize(self.init, shape, *fans, self.dtype, rng))
        self.bias = None
        if flag(self, "bias", bias):
            self.bias = Parameter(initialize("zeros", (self.out_channels,), dtype=self.dtype))
        self.input_axes = ("N", self.in_channels, "H", "W")

    def _same(self, padding: str) -> tuple[int, int]:
        """The padding that "same" or "valid" stands for."""
        if padding == "valid":
            return 0, 0
        if padding != "same":
            raise self._refuse(f"'padding' must be a number, a pair, 'same' or 'valid', got {shown(padding)}")
        if self.stride != (1, 1):
            raise self._refuse(f"padding='same' needs stride 1, got {self.stride}: give padding as numbers")
        extents = [d * (k - 1) for k, d in zip(self.kernel_size, self.dilation, strict=True)]
        if any(extent % 2 for extent in extents):
            raise self._refuse(
                f"padding='same' needs an odd kernel_size, got {self.kernel_size}: both sides are padded alike"
            )
        return extents[0] // 2, extents[1] // 2

    def forward(self, x, *, training=False):
        x = self._check_input(x)
        bias = self.bias.data if self.bias else None
        out = cnn_ext.conv2d_forward(x, self.weight.data, bias, **self._window())
        if training:
            self._keep(out, x)
        return out

    def backward(self, dout, *, input_grad=True):
        dout, (x,) = self._take(dout)
        dx, dweight, dbias = cnn_ext.conv2d_backward(
            dout, x, self.weight.data, **self._window(), input_grad=input_grad
        )
        self.weight.accumulate(dweight)
        if self.bias:
            self.bias.accumulate(dbias)
        return dx

    def lower(self, graph, x):
        return graph.convolution(x, self, **self._window())

    def _window(self):
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    def output_shape(self, input_shape):
        self._check_sample(input_shape)
        size = window_output(self, input_shape[1:], self.kernel_size, **self._window())
        return (self.out_channels, *size)

    def config(self):
        return {
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "kernel_size": unpaired(self.kernel_size),
            **{name: unpaired(values) for name, values in self._window().items()},
            "bias": self.bias is not None,
            "init": self.init,
            "dtype": self.dtype.name,
        }

    def _remedy(self, shape):
        return image_remedy(shape, self.in_channels, "change in_channels, or what comes before")
