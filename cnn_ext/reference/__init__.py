"""The NumPy twin of every op, with an equal signature: slow, obvious, and the specification of the kernels."""

from cnn_ext.reference.activations import (
    gelu_backward,
    gelu_forward,
    leaky_relu_backward,
    leaky_relu_forward,
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    silu_backward,
    silu_forward,
    tanh_backward,
    tanh_forward,
)
from cnn_ext.reference.conv import col2im, conv2d_backward, conv2d_forward, im2col
from cnn_ext.reference.cross_entropy import softmax_cross_entropy
from cnn_ext.reference.linear import linear_backward, linear_forward
from cnn_ext.reference.norm import (
    batch_norm_backward,
    batch_norm_forward,
    batch_norm_inference,
)
from cnn_ext.reference.pool import (
    avg_pool2d_backward,
    avg_pool2d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
)
from cnn_ext.reference.updates import (
    adam_update,
    rmsprop_update,
    sgd_update,
)

__all__ = [
    "adam_update",
    "avg_pool2d_backward",
    "avg_pool2d_forward",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_norm_inference",
    "col2im",
    "conv2d_backward",
    "conv2d_forward",
    "gelu_backward",
    "gelu_forward",
    "im2col",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "linear_backward",
    "linear_forward",
    "max_pool2d_backward",
    "max_pool2d_forward",
    "relu_backward",
    "relu_forward",
    "rmsprop_update",
    "sgd_update",
    "sigmoid_backward",
    "sigmoid_forward",
    "silu_backward",
    "silu_forward",
    "softmax_cross_entropy",
    "tanh_backward",
    "tanh_forward",
]
