"""The kernels, built for AVX-512 (F, BW, DQ and VL) with FMA."""

include "all.pxi"
