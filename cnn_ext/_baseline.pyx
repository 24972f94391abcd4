"""The kernels, built for every processor of the platform."""

include "all.pxi"
