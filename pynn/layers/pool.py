"""Pooling: the maximum or the mean of each window, or of each channel."""

import cnn_ext
from pynn.layers._checks import image_remedy, pair, unpaired, window_output
from pynn.module import Module
from pynn.values import shown

__all__ = ["AvgPool2d", "GlobalAvgPool2d", "MaxPool2d"]


class _Image(Module):
    """What pools share: images in."""

    input_axes = ("N", "C", "H", "W")

    def _remedy(self, shape):
        return image_remedy(shape, "C", "reshape x")


class _Pool(_Image):
    """What windowed pools share: the window, and (N, C, OH, OW) out, OH = ⌊(H + 2·PH − KH) / SH⌋ + 1."""

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] = 0,
    ):
        self.kernel_size = pair(self, "kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else pair(self, "stride", stride, 1)
        self.padding = pair(self, "padding", padding, 0)
        if any(p >= k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise self._refuse(
                f"'padding' must be smaller than kernel_size {self.kernel_size}, got {shown(padding)}: "
                "a window must hold a pixel of the image"
            )

    def _window(self):
        return {"stride": self.stride, "padding": self.padding}

    def output_shape(self, input_shape):
        self._check_sample(input_shape)
        return (input_shape[0], *window_output(self, input_shape[1:], self.kernel_size, **self._window()))

    def config(self):
        stride = None if self.stride == self.kernel_size else unpaired(self.stride)
        return {"kernel_size": unpaired(self.kernel_size), "stride": stride, "padding": unpaired(self.padding)}


class MaxPool2d(_Pool):
    """y[n, c, p, q] = max_{i, j} x[n, c, p·SH − PH + i, q·SW − PW + j], for x (N, C, H, W).

    Padding counts as −∞. Backward: ∂L/∂x gets each ∂L/∂y where its maximum was (the first of equals);
    overlapping windows add up.
    Sizes are ints or (vertical, horizontal) pairs; `stride` None: the kernel's.
    """

    def forward(self, x, *, training=False):
        x = self._check_input(x)
        out, argmax = cnn_ext.max_pool2d_forward(x, self.kernel_size, **self._window())
        if training:
            self._keep(out, argmax, x.shape)
        return out

    def backward(self, dout, *, input_grad=True):
        dout, (argmax, x_shape) = self._take(dout)
        if not input_grad:
            return None
        return cnn_ext.max_pool2d_backward(dout, argmax, x_shape, self.kernel_size, **self._window())

    def lower(self, graph, x):
        return graph.max_pool(x, self, kernel_size=self.kernel_size, **self._window())


class AvgPool2d(_Pool):
    """y[n, c, p, q] = Σ_{i, j} x[n, c, p·SH − PH + i, q·SW − PW + j] / (KH·KW), for x (N, C, H, W).

    Padding counts as zeros, in the divisor too. Backward: ∂L/∂x gets ∂L/∂y / (KH·KW) at every pixel of its window.
    Sizes are ints or (vertical, horizontal) pairs; `stride` None: the kernel's.
    """

    def forward(self, x, *, training=False):
        x = self._check_input(x)
        out = cnn_ext.avg_pool2d_forward(x, self.kernel_size, **self._window())
        if training:
            self._keep(out, x.shape)
        return out

    def backward(self, dout, *, input_grad=True):
        dout, (x_shape,) = self._take(dout)
        if not input_grad:
            return None
        return cnn_ext.avg_pool2d_backward(dout, x_shape, self.kernel_size, **self._window())


class GlobalAvgPool2d(_Image):
    """y[n, c] = Σ_{h, w} x[n, c, h, w] / (H·W), for x (N, C, H, W).

    Backward: ∂L/∂x[n, c, h, w] = ∂L/∂y[n, c] / (H·W).
    """

    def forward(self, x, *, training=False):
        x = self._check_input(x)
        out = cnn_ext.avg_pool2d_forward(x, x.shape[2:]).reshape(x.shape[:2])
        if training:
            self._keep(out, x.shape)
        return out

    def backward(self, dout, *, input_grad=True):
        dout, (x_shape,) = self._take(dout)
        if not input_grad:
            return None
        return cnn_ext.avg_pool2d_backward(dout[:, :, None, None], x_shape, x_shape[2:])

    def output_shape(self, input_shape):
        self._check_sample(input_shape)
        return (input_shape[0],)
