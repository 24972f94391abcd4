# Element by element in the blocked layout: activations, sums and products of two arrays. The order of values does not matter.

cdef class Activation(Step):
    """out = f(x), or with a dout (as x is) dx = dout · f′(x) in `out`; `function` and the slope as activation_forward's."""
    cdef float[::1] x, dout, out
    cdef int function
    cdef float negative_slope

    def __init__(self, int function, Blocks x not None, Blocks dout, Blocks out not None, float negative_slope):
        self.bound = False
        if not alike(x, out) or (dout is not None and not alike(dout, x)):
            raise ValueError("Activation: arrays of different shapes")
        if function not in ACTIVATIONS.values():
            raise ValueError(f"Activation: there is no function {function}")
        self.function, self.negative_slope, self.x, self.out = function, negative_slope, x.flat, out.flat
        self.dout = None if dout is None else dout.flat
        self.worth_threads = x.size > (100_000 if function in (RELU, LEAKY_RELU) else 15_000)
        self.bound = True

    cdef void run(self, int n_threads) noexcept nogil:
        cdef Py_ssize_t block
        for block in prange(blocks(self.x.shape[0], ACTIVATION_BLOCK), schedule="static", num_threads=n_threads):
            if self.dout is None:
                activate_block[float](self.function, self.x, self.out, self.negative_slope, block)
            else:
                activate_backward_block[float](
                    self.function, self.dout, self.x, self.out, self.negative_slope, block)


cdef class Combine(Step):
    """out = x + y, or x · y where `product`; out may be one of them."""
    cdef float[::1] x, y, out
    cdef bint product

    def __init__(self, Blocks x not None, Blocks y not None, Blocks out not None, bint product):
        self.bound = False
        self.x, self.y, self.out, self.product = x.flat, y.flat, out.flat, product
        if not (alike(x, y) and alike(x, out)):
            raise ValueError("Combine: arrays of different shapes")
        self.worth_threads = x.size > 100_000
        self.bound = True

    cdef void run(self, int n_threads) noexcept nogil:
        cdef Py_ssize_t block
        for block in prange(blocks(self.x.shape[0], UPDATE_BLOCK), schedule="static", num_threads=n_threads):
            self.block(block)

    cdef void block(self, Py_ssize_t block) noexcept nogil:
        cdef Py_ssize_t i, start = block * UPDATE_BLOCK, stop = min(start + UPDATE_BLOCK, self.x.shape[0])
        if self.product:
            for i in range(start, stop):
                self.out[i] = self.x[i] * self.y[i]
        else:
            for i in range(start, stop):
                self.out[i] = self.x[i] + self.y[i]
