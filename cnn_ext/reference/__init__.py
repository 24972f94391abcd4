"""The NumPy twin of every op, with an equal signature: slow, obvious, and the specification of the kernels."""

from cnn_ext.reference.activations import relu_backward, relu_forward

__all__ = ["relu_backward", "relu_forward"]
