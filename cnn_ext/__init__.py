"""Kernels for small neural networks on CPUs: arrays in, arrays out; forward and backward, float32 and float64.

Every op has a NumPy twin of the same name and signature in `cnn_ext.reference`. Any memory order is accepted
and results are C-contiguous. Ops raise TypeError for dtypes and ValueError for shapes and sizes, before any work.
"""

from cnn_ext import blocked, reference
from cnn_ext.isa import isa, openmp_enabled, supported_isas
from cnn_ext.ops.activations import (
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
from cnn_ext.ops.conv import col2im, conv2d_backward, conv2d_forward, im2col
from cnn_ext.ops.cross_entropy import softmax_cross_entropy
from cnn_ext.ops.linear import linear_backward, linear_forward
from cnn_ext.ops.norm import (
    batch_norm_backward,
    batch_norm_forward,
    batch_norm_inference,
)
from cnn_ext.ops.pool import (
    avg_pool2d_backward,
    avg_pool2d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
)
from cnn_ext.ops.updates import (
    Updates,
    adam_update,
    rmsprop_update,
    sgd_update,
)
from cnn_ext.threads import available_cpus, get_num_threads, set_num_threads

__all__ = [
    "Updates",
    "adam_update",
    "available_cpus",
    "avg_pool2d_backward",
    "avg_pool2d_forward",
    "batch_norm_backward",
    "batch_norm_forward",
    "batch_norm_inference",
    "blocked",
    "col2im",
    "conv2d_backward",
    "conv2d_forward",
    "gelu_backward",
    "gelu_forward",
    "get_num_threads",
    "im2col",
    "isa",
    "leaky_relu_backward",
    "leaky_relu_forward",
    "linear_backward",
    "linear_forward",
    "max_pool2d_backward",
    "max_pool2d_forward",
    "openmp_enabled",
    "reference",
    "relu_backward",
    "relu_forward",
    "rmsprop_update",
    "set_num_threads",
    "sgd_update",
    "sigmoid_backward",
    "sigmoid_forward",
    "silu_backward",
    "silu_forward",
    "softmax_cross_entropy",
    "supported_isas",
    "tanh_backward",
    "tanh_forward",
]
