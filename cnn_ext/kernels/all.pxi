# The kernels of one instruction set: `_baseline.pyx`, `_avx2.pyx` and `_avx512.pyx` include this file and nothing else.
# Directives live in setup.py, so that PYNN_DEBUG_KERNELS=1 reaches every loop.
import warnings

import numpy
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY, NAN, erfc, fabs, log, sqrt, sqrtf, tanh
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.string cimport memcpy, memset

ctypedef fused real_t:
    float
    double

include "checks.pxi"
include "activations.pxi"
include "gemm.pxi"
include "linear.pxi"
include "im2col.pxi"
include "conv.pxi"
include "pool.pxi"
include "peak.pxi"
include "norm.pxi"
include "updates.pxi"
include "cross_entropy.pxi"
include "blocked.pxi"
include "blocked_gather.pxi"
include "blocked_dense.pxi"
include "blocked_winograd.pxi"
include "blocked_few.pxi"
include "blocked_pointwise.pxi"
include "blocked_norm.pxi"
include "blocked_units.pxi"
include "blocked_units_back.pxi"
include "blocked_outer.pxi"
include "blocked_winograd_outer.pxi"
