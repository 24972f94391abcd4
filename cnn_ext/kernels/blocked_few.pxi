# Products whose x is not in blocks of images: a list of offsets finds the rows of a tile.
#
# Convolution forward for fewer images than a block has: the rows are neighbouring pixels, whatever the stride. The input has
# its padding in memory, so that all pixels have equal terms. Blocks with padding: [C/L][H + 2·PH][W + 2·PW][N][L]. The first
# layer's Pixels: [N][H + 2·PH][W + 2·PW][C]. The fully-connected first layer, forward: Rows, the user's vectors as they are.

cdef extern from "blocks.h" nogil:
    gather_rows gather_16_listed
    gather_rows gather_8_listed
    vector_blocks vector_16
    vector_blocks vector_8


cdef class Pixels:
    """(N, C, H, W) with `padding` rows and columns of zeros on each side, channels innermost."""
    cdef readonly tuple shape, padding
    cdef readonly Py_ssize_t size
    cdef readonly float[::1] flat

    def __cinit__(self, float[::1] array not None, tuple shape not None, tuple padding not None):
        (n, c, h, w), (pad_h, pad_w) = shape, padding  # Python's integers, which do not overflow
        size = n * c * (h + 2 * pad_h) * (w + 2 * pad_w)
        if min(shape) < 1 or min(padding) < 0 or array.shape[0] < size:
            raise ValueError(f"Pixels: {array.shape[0]} floats do not hold {shape} with padding {padding}")
        self.shape, self.padding, self.size = shape, padding, size
        self.flat = array[:self.size]
        memset(&self.flat[0], 0, self.size * sizeof(float))


def pack_pixels(const float[:, :, :, ::1] x not None, Pixels out not None, int n_threads):
    """x (N, C, H, W) into `out`, of that shape without its padding."""
    cdef Py_ssize_t n, c, h, w, channels = x.shape[1], pad_h = out.padding[0], pad_w = out.padding[1]
    cdef Py_ssize_t row = (x.shape[3] + 2 * pad_w) * channels, image = (x.shape[2] + 2 * pad_h) * row
    cdef float* target
    if (x.shape[0], x.shape[1], x.shape[2], x.shape[3]) != out.shape:
        raise ValueError(f"pack_pixels: expected x of shape {out.shape}")
    team(n_threads)
    for n in range(x.shape[0]):
        for c in range(channels):
            for h in range(x.shape[2]):
                target = &out.flat[0] + n * image + (h + pad_h) * row + pad_w * channels + c
                for w in range(x.shape[3]):
                    target[w * channels] = x[n, c, h, w]


cdef class Rows:
    """(N, D, 1, 1), which is another's memory: what `hold_rows` was last called with."""
    cdef readonly tuple shape, padding
    cdef readonly Py_ssize_t size
    cdef const float[::1] flat

    def __cinit__(self, tuple shape not None):
        if len(shape) != 4 or min(shape) < 1 or shape[2:] != (1, 1) or shape[0] * shape[1] >= 2**62:
            raise ValueError(f"Rows: {shape} are not vectors")
        self.shape, self.padding, self.size, self.flat = shape, (0, 0), shape[0] * shape[1], None


def hold_rows(const float[:, :, :, ::1] x, Rows out not None, int n_threads):
    """`out` is x (N, D, 1, 1), of that shape, until it is called again; nothing is copied. None: it holds nothing."""
    if x is None:
        out.flat = None
        return
    if (x.shape[0], x.shape[1], x.shape[2], x.shape[3]) != out.shape:
        raise ValueError(f"hold_rows: expected x of shape {out.shape}")
    out.flat = numpy.asarray(x).reshape(-1)


cdef class Pad(Step):
    """x with `padding` rows and columns of zeros on each side, into `out`: one block of images, of fewer than BATCH."""
    cdef Blocks x
    cdef float[::1] out
    cdef Py_ssize_t pad_h, pad_w

    def __init__(self, Blocks x not None, float[::1] out not None, tuple padding not None):
        self.bound = False
        n, _, h, w = x.shape
        size = x.channel_blocks * x.lanes * n * (h + 2 * padding[0]) * (w + 2 * padding[1])
        if x.at.batch_blocks != 1 or min(padding) < 0 or out.shape[0] < size:
            raise ValueError("Pad: out does not hold x with its padding")
        self.x, self.out = x, out
        self.pad_h, self.pad_w = padding
        memset(&out[0], 0, out.shape[0] * sizeof(float))
        self.bound = True

    cdef void run(self, int n_threads) noexcept nogil:
        cdef Layout* x = &self.x.at
        cdef Py_ssize_t pixel = x.n * x.lanes, row = (x.w + 2 * self.pad_w) * pixel, c, h
        cdef float* target = &self.out[0]
        for c in range(x.channel_blocks):
            for h in range(x.h):
                memcpy(
                    target + (c * (x.h + 2 * self.pad_h) + h + self.pad_h) * row + self.pad_w * pixel,
                    block_at(x, 0, c) + h * x.w * pixel, x.w * pixel * sizeof(float),
                )


cdef class GatherFew(Step):
    """out = Σ x · w over `terms`, + bias, from the offset x_rows[r] in x for row r = (p · OW + q) · N + n of out.

    x : floats, or Rows. pixel : floats in the unit of the terms' x. Others: Gather.
    """
    cdef Blocks out
    cdef Rows vectors
    cdef const float[::1] x
    cdef float[::1] bias
    cdef PackWeights weights
    cdef const Py_ssize_t[:, ::1] terms
    cdef const Py_ssize_t[::1] x_rows
    cdef Py_ssize_t pixel, chunks, per_rows, tasks_rows
    cdef int finish  # flags of the last chunk
    cdef gather_rows kernel

    def __init__(
        self, x not None, Py_ssize_t pixel, const Py_ssize_t[::1] x_rows not None,
        PackWeights weights not None, float[::1] bias, Blocks out not None,
        const Py_ssize_t[:, ::1] terms not None, bint relu, Py_ssize_t chunks, Py_ssize_t per_rows,
    ):
        self.bound = False
        table, rows = numpy.array(terms), numpy.array(x_rows)  # copies, which nobody changes after they were checked
        if min(chunks, per_rows, pixel) < 1 or max(pixel, per_rows) > MOST_SIZE or not (
            table.shape[1] == 3 and 1 <= chunks <= table.shape[0] and table.min() >= 0 and table.max() < 2**31
        ):
            raise ValueError("GatherFew: empty tasks or wrong terms")
        if (
            not weights.bound or not weights.kept or weights.packing.out_lanes != out.lanes
            or weights.packed.shape[0] < out.channel_blocks * weights.out_block
            or (table[:, 1] + table[:, 2] * out.lanes).max() > weights.out_block
        ):
            raise ValueError("GatherFew: the packed weights do not fill out's blocks")
        self.pixel, self.x_rows, self.weights, self.bias, self.out = pixel, rows, weights, bias, out
        self.vectors, self.x = (x, None) if isinstance(x, Rows) else (None, x)
        self.terms, self.chunks, self.per_rows = table, chunks, per_rows
        self.finish = (0 if bias is None else WITH_BIAS) | (WITH_RELU if relu else 0)
        self.kernel = gather_16_listed if out.lanes == 16 else gather_8_listed
        self.tasks_rows = blocks(rows.shape[0], per_rows)
        reach = int(rows.max()) + int((table[:, 0] * pixel + table[:, 2]).max())
        if out.at.batch_blocks != 1 or x_rows.shape[0] != out.at.n * out.at.h * out.at.w or not (
            rows.min() >= 0 and reach <= (x.size if isinstance(x, Rows) else self.x.shape[0])
        ):
            raise ValueError("GatherFew: x, x_rows and out do not belong together")
        if bias is not None and bias.shape[0] < out.channel_blocks * out.lanes:
            raise ValueError("GatherFew: the bias does not fill out's blocks")
        depth = int(table[:, 2].sum())
        self.worth_threads = False
        if self.vectors is not None:  # the weights come from memory
            self.worth_threads = out.channel_blocks * out.lanes * depth > 600_000
        self.worth_threads |= self.tasks_rows * out.channel_blocks > 1 and out.size * depth > 200_000
        self.bound = True

    def __call__(self, int n_threads):
        if self.vectors is not None:
            self.x = self.vectors.flat
            require(self.x is not None, "GatherFew", "its Rows hold nothing yet")
        super().__call__(n_threads)
        if self.vectors is not None:
            self.x = None  # which is the user's

    cdef void run(self, int n_threads) noexcept nogil:
        cdef Py_ssize_t task
        for task in prange(
            self.out.at.channel_blocks * self.tasks_rows, schedule="dynamic", num_threads=n_threads
        ):
            self.task(task // self.tasks_rows, task % self.tasks_rows * self.per_rows)

    cdef void task(self, Py_ssize_t f, Py_ssize_t first) noexcept nogil:
        cdef Layout* out = &self.out.at
        cdef Py_ssize_t rows = min(self.per_rows, self.x_rows.shape[0] - first), count = self.terms.shape[0]
        cdef Py_ssize_t chunk, begin, end
        cdef const float* bias = &self.bias[0] + f * out.lanes if self.bias is not None else NULL
        cdef int flags
        for chunk in range(self.chunks):
            begin, end = count * chunk // self.chunks, count * (chunk + 1) // self.chunks
            flags = (FROM_OUT if chunk > 0 else 0) | (self.finish if chunk == self.chunks - 1 else 0)
            self.kernel(
                <int>rows, &self.x[0], &self.x_rows[first], self.pixel, <const pynn_term*>&self.terms[begin, 0],
                end - begin, &self.weights.packed[0] + f * self.weights.out_block, 0, bias, flags,
                block_at(out, 0, f) + first * out.lanes, 0,
            )


cdef class GatherOne(Step):
    """out = Σ x · w + bias for one image, all of whose pixels meet all weights: a matrix times a vector.

    As both lie in the same order, x and each output block's weights are one run, but for a last block with idle channels: of
    that each pixel is a run.
    """
    cdef Blocks x, out
    cdef PackWeights weights
    cdef float[::1] bias
    cdef const Py_ssize_t[:, ::1] terms
    cdef int flags
    cdef vector_blocks kernel

    def __init__(
        self, Blocks x not None, PackWeights weights not None, float[::1] bias, Blocks out not None, bint relu
    ):
        self.bound = False
        self.x, self.weights, self.bias, self.out = x, weights, bias, out
        self.flags = (0 if bias is None else WITH_BIAS) | (WITH_RELU if relu else 0)
        self.kernel = vector_16 if out.lanes == 16 else vector_8
        if out.at.n * out.at.h * out.at.w != 1 or x.at.n != 1 or x.size * out.lanes != weights.out_block:
            raise ValueError("GatherOne: x, weights and out do not belong together")
        if weights.packing.out_lanes != out.lanes or not (
            weights.bound and weights.kept and weights.packed.shape[0] >= out.channel_blocks * weights.out_block
        ):
            raise ValueError("GatherOne: the packed weights do not fill out's blocks")
        if bias is not None and bias.shape[0] < out.channel_blocks * out.lanes:
            raise ValueError("GatherOne: the bias does not fill out's blocks")
        pixels, whole = x.at.h * x.at.w, x.at.c // x.lanes * x.lanes
        runs = [(0, 0, whole * pixels)] if whole else []
        for at in range(whole * pixels, x.size, x.lanes):
            runs.append((at, at * out.lanes, x.at.c - whole))
        self.terms = numpy.array(runs, numpy.intp)
        self.worth_threads = <double>out.size * x.size > 600_000  # weights, which come from memory
        self.bound = True

    cdef void run(self, int n_threads) noexcept nogil:
        cdef Py_ssize_t task
        for task in prange(blocks(self.out.at.channel_blocks, 8), schedule="dynamic", num_threads=n_threads):
            self.task(task * 8)

    cdef void task(self, Py_ssize_t f) noexcept nogil:
        cdef Layout* out = &self.out.at
        self.kernel(
            <int>min(8, out.channel_blocks - f), self.x.at.data, <const pynn_term*>&self.terms[0, 0], self.terms.shape[0],
            &self.weights.packed[0] + f * self.weights.out_block, self.weights.out_block,
            &self.bias[0] + f * out.lanes if self.flags & WITH_BIAS else NULL, self.flags, out.data + f * out.lanes,
        )
