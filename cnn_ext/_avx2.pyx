"""The kernels, built for AVX2 with FMA."""

include "all.pxi"
