# Convolution of 3 × 3 taps by Winograd's F(4 × 4, 3 × 3) in the blocked layout (winograd.h has the transforms): forward, and
# back to the input as the convolution of dout with mirrored, transposed weights.
#
# A pixel being a matrix of images × channels, the transforms are sums of pixels, and each of their 36 places is a matrix
# product (tiles · images) × C by C × F, by the register tile of blocks.h. A task owns a few tiles of one block of images: it
# transforms their input, then for a few output blocks at a time multiplies and transforms back, in memory of its thread.
# Pixels beyond the edges are one matrix of zeros, outputs beyond them go to another.
#
# Tiles overlap, so that their transformed input is 36 / 16 of the input. It need not fit the second-level cache: a product
# reads some 4 bytes of it a cycle, and 5 / tiles of the weights, which the third-level cache gives.

cdef extern from "winograd.h" nogil:
    enum:
        LINE
    void winograd_input(const float* const* d, Py_ssize_t n, float* v, Py_ssize_t stride)
    void winograd_weight(const float* g, Py_ssize_t tap, Py_ssize_t n, float* u, Py_ssize_t stride)
    void winograd_output(
        const float* m, Py_ssize_t stride, Py_ssize_t n, const float* bias, Py_ssize_t period, int relu, float* const* y)
    void winograd_output_gradient(const float* const* dy, Py_ssize_t n, float* d, Py_ssize_t stride)
    void winograd_weight_gradient(const float* m, Py_ssize_t stride, Py_ssize_t n, float* dg, Py_ssize_t tap)

cdef enum:
    TILE = 4  # outputs along an axis
    PATCH = 6  # the inputs that they see
    PLACES = 36
    PIXEL = BATCH * 16  # floats of a pixel's matrix, at most


cdef inline void pixels_at(
    const Layout* x, Py_ssize_t block, Py_ssize_t c, Py_ssize_t p, Py_ssize_t q, int size, const float* zeros,
    const float** found
) noexcept nogil:
    """The size × size pixels from (p, q) on of a block's channel block; those beyond the edges are `zeros`."""
    cdef Py_ssize_t pixel = rows_of(x, block) * x.lanes, i, j
    cdef const float* source = block_at(x, block, c)
    for i in range(size):
        for j in range(size):
            if 0 <= p + i < x.h and 0 <= q + j < x.w:
                found[i * size + j] = source + ((p + i) * x.w + q + j) * pixel
            else:
                found[i * size + j] = zeros


cdef inline Py_ssize_t odd_lines(Py_ssize_t count) noexcept nogil:
    """Floats of the whole lines that `count` floats take, an odd number of them: so the 36 places of a transform do not lie
    in the same few sets of the cache."""
    return ((count + LINE - 1) // LINE | 1) * LINE


def transformed_size(Py_ssize_t weights):
    """Floats that TransformWeights makes of so many weights of one tap."""
    return PLACES * odd_lines(weights)


cdef class TransformWeights(PackWeights):
    """G g Gᵀ of every filter, as [6][6][F/out_lanes][C/in_lanes][in_lanes][out_lanes]; mirrored and F and C swapped if
    `transposed`."""
    cdef bint transposed
    cdef Py_ssize_t in_blocks, out_blocks, place  # floats from place to place

    def __init__(
        self, Weights weight not None, float[::1] packed not None, Py_ssize_t out_lanes, Py_ssize_t in_lanes,
        bint transposed,
    ):
        super().__init__(weight, packed, out_lanes, in_lanes, transposed)
        cdef Packing* p = &self.packing
        self.bound = False
        if (p.kh, p.kw) != (3, 3) or in_lanes not in (8, 16):
            raise ValueError("TransformWeights: expected 3 × 3 taps of blocks of 8 or 16 channels")
        self.transposed = transposed
        self.in_blocks, self.out_blocks = blocks(p.n_in, in_lanes), blocks(p.n_out, out_lanes)
        self.out_block = self.in_blocks * in_lanes * out_lanes
        self.place = odd_lines(self.out_blocks * self.out_block)
        if not self.kept or packed.shape[0] < PLACES * self.place:
            raise ValueError(f"TransformWeights: expected {PLACES * self.place} floats to keep the weights in")
        self.bound = True

    cdef void run(self, int n_threads) noexcept nogil:
        cdef Py_ssize_t task
        for task in prange(self.out_blocks * self.in_blocks, schedule="static", num_threads=n_threads):
            self.transform(task // self.in_blocks, task % self.in_blocks)

    cdef void transform(self, Py_ssize_t out, Py_ssize_t block) noexcept nogil:
        """One (output block, input block)."""
        cdef float[9 * 16 * 16] taps
        cdef Py_ssize_t size = self.packing.in_lanes * self.packing.out_lanes
        if self.transposed:
            pack_taps(&self.packing, out, block, &taps[8 * size], -size)
        else:
            pack_taps(&self.packing, out, block, &taps[0], size)
        winograd_weight(&taps[0], size, size, &self.packed[0] + out * self.out_block + block * size, self.place)


cdef class Winograd(Step):
    """out = relu(x ∗ weight + bias) by F(4 × 4, 3 × 3), each part as asked for.

    origin : the input pixel under the first tap of output (0, 0). bias : out's channels, whole blocks, or None.
    tiles, group : of a task at a time, tiles and output blocks. scratch : scratch(count) gives float32 memory for a call.
    """
    cdef Blocks x, out
    cdef TransformWeights weights
    cdef float[::1] bias
    cdef const Py_ssize_t[:, ::1] terms
    cdef Py_ssize_t top, left, tiles_h, tiles_w, slices, group, most_rows, v_place, m_place
    cdef bint relu
    cdef gather_rows kernel

    def __init__(
        self, Blocks x not None, TransformWeights weights not None, float[::1] bias, Blocks out not None,
        tuple origin not None, bint relu, Py_ssize_t tiles, Py_ssize_t group, scratch not None,
    ):
        cdef Packing* p = &weights.packing
        self.bound = False
        if not weights.bound or len(origin) != 2 or max(map(abs, origin)) > MOST_SIZE or scratch is None:
            raise ValueError("Winograd: its weights are not bound, or there is no such origin")
        self.x, self.weights, self.bias, self.out, self.relu, self.scratch = x, weights, bias, out, relu, scratch
        self.top, self.left = origin
        if x.at.n != out.at.n or x.at.batch != BATCH or out.at.batch != BATCH or tiles < 1 or group < 1:
            raise ValueError("Winograd: x and out do not belong together")
        if (x.at.c, x.lanes, out.at.c, out.lanes) != (p.n_in, p.in_lanes, p.n_out, p.out_lanes):
            raise ValueError("Winograd: x, weights and out do not belong together")
        if bias is not None and bias.shape[0] < out.channel_blocks * out.lanes:
            raise ValueError("Winograd: the bias does not fill out's blocks")
        if out.lanes == 16:
            self.kernel = gather_16_blocked_16 if x.lanes == 16 else gather_16_blocked_8
        else:
            self.kernel = gather_8_blocked_16 if x.lanes == 16 else gather_8_blocked_8
        size = x.lanes * out.lanes
        self.terms = numpy.array([
            (b, b * size, min(x.lanes, x.at.c - b * x.lanes)) for b in range(x.channel_blocks)
        ], numpy.intp)
        self.tiles_h, self.tiles_w = blocks(out.at.h, TILE), blocks(out.at.w, TILE)
        self.slices = blocks(self.tiles_h * self.tiles_w, min(tiles, self.tiles_h * self.tiles_w))
        self.group = min(group, out.at.channel_blocks)
        self.most_rows = blocks(self.tiles_h * self.tiles_w, self.slices) * BATCH
        self.v_place = odd_lines(x.channel_blocks * self.most_rows * x.lanes)
        self.m_place = odd_lines(self.most_rows * out.lanes)
        self.per_thread = PLACES * (self.v_place + self.group * self.m_place) + 2 * PIXEL
        self.worth_threads = <double>x.at.n * x.at.c * self.tiles_h * self.tiles_w * PLACES * out.at.c > 1_000_000
        self.bound = True

    cdef void run(self, int n_threads) noexcept nogil:
        cdef Py_ssize_t task
        for task in prange(self.x.at.batch_blocks * self.slices, schedule="dynamic", num_threads=n_threads):
            self.task(task // self.slices, task % self.slices, &self.scratch_memory[0] + threadid() * self.per_thread)

    cdef void task(self, Py_ssize_t block, Py_ssize_t piece, float* memory) noexcept nogil:
        cdef Layout* x = &self.x.at
        cdef Layout* out = &self.out.at
        cdef Py_ssize_t tiles = self.tiles_h * self.tiles_w, images = rows_of(x, block)
        cdef Py_ssize_t f, c, t, place, some, f_first, f_last
        cdef Py_ssize_t first = tiles * piece // self.slices, last = tiles * (piece + 1) // self.slices
        cdef int rows = <int>((last - first) * images)
        cdef float* v = memory + 2 * PIXEL
        cdef float* m = v + PLACES * self.v_place
        memset(memory, 0, PIXEL * sizeof(float))
        for c in range(x.channel_blocks):
            for t in range(first, last):
                self.transform(block, c, t, memory, v + (c * rows + (t - first) * images) * x.lanes)
        for some in range(blocks(out.channel_blocks, self.group)):
            f_first, f_last = some * self.group, min((some + 1) * self.group, out.channel_blocks)
            for place in range(PLACES):
                for f in range(f_first, f_last):
                    self.kernel(
                        rows, v + place * self.v_place, NULL, rows * x.lanes, <const pynn_term*>&self.terms[0, 0],
                        x.channel_blocks, &self.weights.packed[0] + place * self.weights.place + f * self.weights.out_block,
                        0, NULL, 0, m + ((f - f_first) * PLACES + place) * self.m_place, 0,
                    )
            for f in range(f_first, f_last):
                for t in range(first, last):
                    self.transform_back(
                        block, f, t, memory, m + (f - f_first) * PLACES * self.m_place + (t - first) * images * out.lanes)

    cdef void transform(
        self, Py_ssize_t block, Py_ssize_t c, Py_ssize_t tile, float* zeros, float* v
    ) noexcept nogil:
        """The input of one tile and input block."""
        cdef Py_ssize_t p = tile // self.tiles_w * TILE + self.top, q = tile % self.tiles_w * TILE + self.left
        cdef const float* d[PLACES]
        pixels_at(&self.x.at, block, c, p, q, PATCH, zeros, &d[0])
        winograd_input(&d[0], rows_of(&self.x.at, block) * self.x.lanes, v, self.v_place)

    cdef void transform_back(
        self, Py_ssize_t block, Py_ssize_t f, Py_ssize_t tile, float* zeros, const float* m
    ) noexcept nogil:
        """The output of one tile and output block."""
        cdef Layout* out = &self.out.at
        cdef Py_ssize_t p = tile // self.tiles_w * TILE, q = tile % self.tiles_w * TILE, i, j
        cdef Py_ssize_t pixel = rows_of(out, block) * out.lanes
        cdef float* target = block_at(out, block, f)
        cdef const float* bias = zeros if self.bias is None else &self.bias[0] + f * out.lanes
        cdef float* y[TILE * TILE]
        for i in range(TILE):
            for j in range(TILE):
                if p + i < out.h and q + j < out.w:
                    y[i * TILE + j] = target + ((p + i) * out.w + q + j) * pixel
                else:
                    y[i * TILE + j] = zeros + PIXEL
        winograd_output(m, self.m_place, pixel, bias, out.lanes, self.relu, &y[0])
