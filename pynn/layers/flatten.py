"""From images to vectors."""

from math import prod

from pynn.module import Module

__all__ = ["Flatten"]


class Flatten(Module):
    """y (N, D) = x (N, …) with all axes but the first made one, the last varying fastest; backward undoes it."""

    def forward(self, x, *, training=False):
        x = self._check_input(x)
        out = x.reshape(len(x), -1)
        if training:
            self._keep(out, x.shape)
        return out

    def backward(self, dout, *, input_grad=True):
        dout, (x_shape,) = self._take(dout)
        return dout.reshape(x_shape) if input_grad else None

    def lower(self, graph, x):
        return graph.flatten(x)

    def output_shape(self, input_shape):
        self._check_sample(input_shape)
        return (prod(input_shape),)
