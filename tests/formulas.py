"""What tests of docs/derivations.md share: central differences, and comparing formula, library and these."""

import numpy as np


def numeric_gradient(f, x, step=1e-3):
    """∂f/∂x of a scalar f by fourth-order central differences; the error is about step⁴."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):

        def at(offset, index=index):
            moved = x.copy()
            moved[index] += offset
            return f(moved)

        gradient[index] = (8 * (at(step) - at(-step)) - at(2 * step) + at(-2 * step)) / (12 * step)
    return gradient


def check(formula, library, numeric=None):
    """The library gives the formula's value to rounding, and central differences to their own accuracy."""
    np.testing.assert_allclose(library, formula, rtol=1e-12, atol=1e-13)
    if numeric is not None:
        check_numerically(formula, numeric)


def check_numerically(formula, numeric):
    np.testing.assert_allclose(formula, numeric, rtol=1e-7, atol=1e-8)
