"""Dropout (Srivastava et al. 2014), inverted as everybody uses it, and in the vanilla form of question 7.2."""

from __future__ import annotations

import numpy as np

from pynn.layers._checks import flag, generator, number
from pynn.module import Module

__all__ = ["Dropout", "VanillaDropout"]


class _Masked(Module):
    """What both forms share: in training y = x · m and ∂L/∂x = ∂L/∂y · m, where m is a random mask.

    Where the layer is not `trainable`, training computes what evaluation does.
    """

    def forward(self, x, *, training=False):
        x = self._check_input(x)
        if not training:
            return self._infer(x)
        mask = self._mask(x.shape, x.dtype.type) if self.trainable else self._infer(np.ones_like(x))
        out = x * mask
        self._keep(out, mask)
        return out

    def backward(self, dout, *, input_grad=True):
        dout, (mask,) = self._take(dout)
        return dout * mask if input_grad else None


class Dropout(_Masked):
    """Training: y = x · m, with m = 0 with probability `p`, else 1/(1 − p), drawn anew for each element.

    Evaluation: y = x, which is what training gives on average. Backward: ∂L/∂x = ∂L/∂y · m.
    p is the probability of *dropping*, in [0, 1). `rng` draws the masks; None: fresh entropy.
    """

    def __init__(self, p: float, *, rng: np.random.Generator | None = None):
        self.p = number(self, "p", p, lambda v: 0 <= v < 1, "the probability of dropping, from 0 to below 1")
        self.rng = generator(self, rng)

    def _mask(self, shape, real):
        mask = np.empty(shape, np.float32)
        self.draw(mask)
        return mask.astype(real, copy=False) if real is np.float32 else (mask > 0) * real(1 / (1 - self.p))

    def draw(self, mask: np.ndarray) -> None:
        """Fills `mask`, C-contiguous float32, with 0 and 1/(1 − p)."""
        self.rng.random(out=mask, dtype=np.float32)
        np.greater_equal(mask, np.float32(self.p), out=mask)
        mask *= np.float32(1 / (1 - self.p))

    def _infer(self, x):
        return x

    def lower(self, graph, x):
        return graph.dropout(x, self)


class VanillaDropout(_Masked):
    """Training: y = x · m, with m = 1 with probability `keep`, else 0. Evaluation: y = x · keep.

    The original form, for question 7.2, where the layer after it sees at inference y = W·(x·keep). With
    `rescale` False evaluation leaves x as it is, so that the mismatch between the two modes can be measured.
    `keep` is the probability of *keeping*, in (0, 1]. `rng` draws the masks; None: fresh entropy.
    """

    def __init__(self, keep: float, *, rescale: bool = True, rng: np.random.Generator | None = None):
        self.keep = number(self, "keep", keep, lambda v: 0 < v <= 1, "the probability of keeping, above 0 to 1")
        self.rescale = flag(self, "rescale", rescale)
        self.rng = generator(self, rng)

    def _mask(self, shape, real):
        return (self.rng.random(shape, dtype=np.float32) < self.keep).astype(real)

    def _infer(self, x):
        return x * x.dtype.type(self.keep) if self.rescale else x
