"""Activations: y = f(x) element by element, ∂L/∂x = ∂L/∂y · f′(x), for x of any shape."""

import cnn_ext
from pynn.layers._checks import number
from pynn.module import Module

__all__ = ["GELU", "LeakyReLU", "ReLU", "SiLU", "Sigmoid", "Tanh"]


class _Activation(Module):
    """What activations share; `op` is the name of their kernels, which take `_options`."""

    op: str

    def _options(self) -> dict:
        return {}

    def forward(self, x, *, training=False):
        x = self._check_input(x)
        out = getattr(cnn_ext, f"{self.op}_forward")(x, **self._options())
        if training:
            self._keep(out, x)
        return out

    def backward(self, dout, *, input_grad=True):
        dout, (x,) = self._take(dout)
        return getattr(cnn_ext, f"{self.op}_backward")(dout, x, **self._options()) if input_grad else None

    def lower(self, graph, x):
        return graph.activation(x, self.op, **self._options())


class ReLU(_Activation):
    """f(x) = max(x, 0); f′(x) = 1 where x > 0, else 0."""

    op = "relu"


class LeakyReLU(_Activation):
    """f(x) = x where x > 0, else negative_slope · x; f′(x) = 1 where x > 0, else negative_slope."""

    op = "leaky_relu"

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = number(self, "negative_slope", negative_slope, lambda v: v >= 0, "0 or more")

    def _options(self):
        return {"negative_slope": self.negative_slope}


class Sigmoid(_Activation):
    """f(x) = 1 / (1 + e⁻ˣ); f′(x) = f(x) · (1 − f(x))."""

    op = "sigmoid"


class Tanh(_Activation):
    """f(x) = (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ); f′(x) = 1 − f(x)²."""

    op = "tanh"


class GELU(_Activation):
    """f(x) = x · Φ(x), Φ(x) = (1 + erf(x/√2)) / 2, exact (Hendrycks & Gimpel 2016, arXiv:1606.08415).

    f′(x) = Φ(x) + x · e^(−x²/2) / √(2π).
    """

    op = "gelu"


class SiLU(_Activation):
    """f(x) = x · σ(x), σ(x) = 1 / (1 + e⁻ˣ); f′(x) = σ(x) · (1 + x · (1 − σ(x)))."""

    op = "silu"
