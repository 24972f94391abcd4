# The blocked layout, in which the engine keeps activations, and the steps that it is made of.
#
# Blocks hold x (N, C, H, W) as [N/12][C/L][H][W][12][L], L = 16 or 8 channels: at every pixel of a block of 12 images lies
# a 12 × L matrix, an operand of a matrix product as it is. The last block of images holds only those there are. Vectors
# (N, D), which are images of one pixel, lie in one block of N. Channels past C hold what their lanes happen to give, NaN where
# zero weights met an infinity: no sum takes them up, as products count the channels there are. An Image holds x of few
# channels, as the first layer takes it, as [N/12][H + 2·PH][W + 2·PW][C][12], with its zero padding.
#
# A Step is one kernel call with its arrays and sizes bound: step(n_threads) runs it, without allocating anything.
# Work is cut by shapes alone; each piece owns its part of the output or a slot, and slots are summed in order.

cdef extern from "blocks.h" nogil:
    ctypedef struct pynn_term:
        Py_ssize_t x, w, k
    ctypedef struct pynn_run:
        Py_ssize_t x, dy, k
    enum:
        FROM_OUT
        WITH_BIAS
        WITH_RELU

cdef extern from "lanes.h" nogil:
    void fetch(const float* x)
    void transpose_8(const float* x, Py_ssize_t x_row, float* out, Py_ssize_t out_row)
    void transpose_8_to(const float* x, Py_ssize_t x_row, float* const* out)
    enum:
        LANE_WIDTH
    ctypedef float lanes
    ctypedef int lane_flags
    lanes lanes_all(float x)
    lane_flags lanes_index(int x)
    lanes lanes_relu(lanes x)
    lanes lanes_where_positive(lanes y, lanes x)
    lane_flags lanes_beat(lanes x, lanes best)
    void lanes_put(lane_flags where, lanes x, lanes* to)
    void lanes_put_number(lane_flags where, int x, lane_flags* to)
    void lanes_put_index(uint8_t* to, lane_flags index)
    lane_flags lanes_get_index(const uint8_t* f)
    lanes lanes_at(lane_flags index, int at, lanes x)

ctypedef void (*gather_rows)(
    int rows, const float* x, const Py_ssize_t* x_rows, Py_ssize_t pixel, const pynn_term* terms, Py_ssize_t n,
    const float* w, Py_ssize_t w_block, const float* bias, int flags, float* out, Py_ssize_t out_block) noexcept nogil
ctypedef void (*outer_rows)(
    int rows, const float* x, const Py_ssize_t* x_rows, const float* dy, Py_ssize_t dy_block, const pynn_run* runs,
    Py_ssize_t n, int flags, float* out, Py_ssize_t out_row, Py_ssize_t out_block) noexcept nogil
ctypedef void (*vector_blocks)(
    int blocks, const float* x, const pynn_term* terms, Py_ssize_t n, const float* w, Py_ssize_t w_block,
    const float* bias, int flags, float* out) noexcept nogil

cdef enum:
    BATCH = 12  # images of a block; rows of two tiles of AVX2

MOST_SIZE = 2**30  # of strides, paddings and the like, so that sums with lengths of arrays do not overflow


cdef struct Layout:  # of Blocks
    float* data
    Py_ssize_t n, c, h, w, lanes, batch, channel_blocks, batch_blocks


cdef inline int rows_of(const Layout* x, Py_ssize_t block) noexcept nogil:
    """Images in a block."""
    return <int>min(x.batch, x.n - block * x.batch)


cdef inline float* block_at(const Layout* x, Py_ssize_t block, Py_ssize_t channel_block) noexcept nogil:
    """The first pixel of a block's channel block."""
    return x.data + (block * x.batch * x.channel_blocks + channel_block * rows_of(x, block)) * x.lanes * x.h * x.w


cdef inline float* row_at(const Layout* x, Py_ssize_t block, Py_ssize_t channel_block, Py_ssize_t row) noexcept nogil:
    """The first pixel of a row of a block's channel block."""
    return block_at(x, block, channel_block) + row * x.w * rows_of(x, block) * x.lanes


cdef class Blocks:
    """(N, C, H, W) in blocks of `lanes` channels and `batch` images, over a flat array of at least `size` floats."""
    cdef readonly tuple shape
    cdef readonly Py_ssize_t lanes, batch, channel_blocks, size
    cdef readonly float[::1] flat  # all values, in the layout's order
    cdef Layout at

    def __cinit__(self, float[::1] array not None, tuple shape not None, Py_ssize_t lanes, Py_ssize_t batch=BATCH):
        cdef Layout* x = &self.at
        n, c, h, w = shape  # Python's integers, which do not overflow
        if lanes not in (8, 16) or min(batch, *shape) < 1 or array.shape[0] < n * -(-c // lanes) * lanes * h * w:
            raise ValueError(f"Blocks: {array.shape[0]} floats do not hold {shape} in blocks of {lanes} channels")
        x.n, x.c, x.h, x.w = shape
        x.lanes, x.channel_blocks = lanes, blocks(x.c, lanes)
        x.batch, x.batch_blocks = batch, -(-n // batch)
        self.shape, self.lanes, self.channel_blocks, self.batch = shape, lanes, x.channel_blocks, batch
        self.size = x.n * x.channel_blocks * lanes * x.h * x.w
        self.flat, x.data = array[:self.size], &array[0]


cdef bint alike(Blocks x, Blocks y):
    """Whether two Blocks have their values in the same places."""
    return x.shape == y.shape and x.lanes == y.lanes and x.batch == y.batch


cdef struct ImageLayout:  # of Image; h and w with padding
    float* data
    Py_ssize_t n, c, h, w, pad_h, pad_w, batch_blocks


cdef inline float* image_at(const ImageLayout* x, Py_ssize_t block) noexcept nogil:
    return x.data + block * BATCH * x.c * x.h * x.w


cdef class Image:
    """(N, C, H, W) with `padding` rows and columns of zeros on each side, twelve images innermost."""
    cdef readonly tuple shape, padding
    cdef readonly Py_ssize_t size
    cdef float[::1] array
    cdef ImageLayout at

    def __cinit__(self, float[::1] array not None, tuple shape not None, tuple padding not None):
        cdef ImageLayout* x = &self.at
        (n, c, h, w), (pad_h, pad_w) = shape, padding  # Python's integers, which do not overflow
        size = -(-n // BATCH) * BATCH * c * (h + 2 * pad_h) * (w + 2 * pad_w)
        if min(shape) < 1 or min(padding) < 0 or array.shape[0] < size:
            raise ValueError(f"Image: {array.shape[0]} floats do not hold {shape} with padding {padding}")
        x.n, x.c, x.h, x.w = shape
        x.pad_h, x.pad_w = padding
        x.h, x.w, x.batch_blocks = x.h + 2 * x.pad_h, x.w + 2 * x.pad_w, blocks(x.n, BATCH)
        self.shape, self.padding, self.size = shape, padding, x.batch_blocks * BATCH * x.c * x.h * x.w
        self.array, x.data = array, &array[0]
        memset(x.data, 0, self.size * sizeof(float))


cdef class Step:
    """A kernel call with its arrays and sizes bound.

    scratch(count) gives float32 memory for a call, `for_all` floats and `per_thread` for each thread; None: it needs none.
    """
    cdef bint bound  # whether all is checked and in its place
    cdef bint worth_threads  # whether others gain more than waking them takes: 5 to 40 µs if they sleep (cnn_ext/isa.py)
    cdef object scratch
    cdef float[::1] scratch_memory
    cdef Py_ssize_t for_all, per_thread

    cdef void run(self, int n_threads) noexcept nogil:
        pass

    def __call__(self, int n_threads):
        cdef Py_ssize_t floats
        if not self.bound:
            require(False, type(self).__name__, "it was never made")
        if self.worth_threads or not 1 <= n_threads <= MOST_THREADS:  # which `team` refuses
            n_threads = team(n_threads)
        else:
            n_threads = 1
        if self.scratch is not None:
            floats = self.for_all + n_threads * self.per_thread
            self.scratch_memory = self.scratch(floats)
            require(
                self.scratch_memory is not None and self.scratch_memory.shape[0] >= floats, type(self).__name__,
                f"expected {floats} floats of scratch memory")
        with nogil:
            self.run(n_threads)


# -- into the layout and out of it -------------------------------------------------------------------------------------

cdef void pack_block(const float* x, const Layout* out, Py_ssize_t task) noexcept nogil:
    cdef Py_ssize_t block = task // out.channel_blocks, cb = task % out.channel_blocks, pixels = out.h * out.w
    cdef Py_ssize_t rows = rows_of(out, block), lanes = out.lanes, first = cb * lanes, used = min(lanes, out.c - first)
    cdef Py_ssize_t image, lane, pixel
    cdef float* target = block_at(out, block, cb)
    cdef const float* source
    if used < lanes:
        memset(target, 0, rows * lanes * pixels * sizeof(float))
    for image in range(rows):
        source = x + ((block * out.batch + image) * out.c + first) * pixels
        if pixels == 1:
            for lane in range(used):
                target[image * lanes + lane] = source[lane]
        else:
            for lane in range(used):
                for pixel in range(pixels):
                    target[(pixel * rows + image) * lanes + lane] = source[lane * pixels + pixel]


def pack_blocks(const float[:, :, :, ::1] x not None, Blocks out not None, int n_threads):
    """x (N, C, H, W) into `out`, of that shape."""
    cdef Py_ssize_t task
    if (x.shape[0], x.shape[1], x.shape[2], x.shape[3]) != out.shape:
        raise ValueError(f"pack_blocks: expected x of shape {out.shape}")
    n_threads = team(n_threads)
    for task in prange(
        out.at.batch_blocks * out.at.channel_blocks, nogil=True, schedule="static", num_threads=n_threads
    ):
        pack_block(&x[0, 0, 0, 0], &out.at, task)


cdef void unpack_block(const Layout* x, float* out, Py_ssize_t task) noexcept nogil:
    cdef Py_ssize_t block = task // x.channel_blocks, cb = task % x.channel_blocks, pixels = x.h * x.w
    cdef Py_ssize_t rows = rows_of(x, block), lanes = x.lanes, first = cb * lanes, used = min(lanes, x.c - first)
    cdef Py_ssize_t image, lane, pixel
    cdef const float* source = block_at(x, block, cb)
    cdef float* target
    for image in range(rows):
        target = out + ((block * x.batch + image) * x.c + first) * pixels
        for lane in range(used):
            for pixel in range(pixels):
                target[lane * pixels + pixel] = source[(pixel * rows + image) * lanes + lane]


def unpack_blocks(Blocks x not None, float[:, :, :, ::1] out not None, int n_threads):
    """`x` as `out` (N, C, H, W)."""
    cdef Py_ssize_t task
    if (out.shape[0], out.shape[1], out.shape[2], out.shape[3]) != x.shape:
        raise ValueError(f"unpack_blocks: expected out of shape {x.shape}")
    n_threads = team(n_threads)
    for task in prange(x.at.batch_blocks * x.at.channel_blocks, nogil=True, schedule="static", num_threads=n_threads):
        unpack_block(&x.at, &out[0, 0, 0, 0], task)


cdef void pack_image_block(const float* x, const ImageLayout* out, Py_ssize_t block) noexcept nogil:
    cdef Py_ssize_t height = out.h - 2 * out.pad_h, width = out.w - 2 * out.pad_w, row = out.c * BATCH
    cdef Py_ssize_t images = min(<Py_ssize_t>BATCH, out.n - block * BATCH), image, c, h, w, square
    cdef Py_ssize_t image_size = out.c * height * width
    cdef const float* source
    cdef float* target
    for h in range(height):
        for c in range(out.c):
            source = x + block * BATCH * image_size + (c * height + h) * width
            target = image_at(out, block) + ((h + out.pad_h) * out.w + out.pad_w) * row + c * BATCH
            if images == BATCH and width >= 8:  # by squares; where they do not fit side by side, one lies over the other
                for square in range(blocks(width, 8)):
                    w = min(8 * square, width - 8)
                    transpose_8(source + w, image_size, target + w * row, row)
                    transpose_8(source + (BATCH - 8) * image_size + w, image_size, target + w * row + BATCH - 8, row)
            else:
                for w in range(width):
                    for image in range(images):
                        target[w * row + image] = source[image * image_size + w]


def pack_image(const float[:, :, :, ::1] x not None, Image out not None, int n_threads):
    """x (N, C, H, W) into `out`, of that shape without its padding."""
    cdef Py_ssize_t block
    if (x.shape[0], x.shape[1], x.shape[2], x.shape[3]) != out.shape:
        raise ValueError(f"pack_image: expected x of shape {out.shape}")
    n_threads = team(n_threads)
    for block in prange(out.at.batch_blocks, nogil=True, schedule="static", num_threads=n_threads):
        pack_image_block(&x[0, 0, 0, 0], &out.at, block)


# -- weights -----------------------------------------------------------------------------------------------------------

cdef struct WeightLayout:
    float* data
    Py_ssize_t f, c, kh, kw, of_f, of_c, of_i, of_j


cdef class Weights:
    """Where a weight's elements lie: array[f · strides[0] + c · strides[1] + i · strides[2] + j · strides[3]].

    So the weight of a convolution (F, C, KH, KW), and of a fully-connected layer (C·KH·KW, F) that reads C images.
    """
    cdef readonly tuple shape
    cdef float[::1] array
    cdef WeightLayout at

    def __cinit__(self, float[::1] array not None, tuple shape not None, tuple strides not None):
        cdef WeightLayout* w = &self.at
        last = sum((n - 1) * stride for n, stride in zip(shape, strides))
        if len(shape) != 4 or len(strides) != 4 or min(shape) < 1 or min(strides) < 1 or array.shape[0] < max(last + 1, *strides):
            raise ValueError(f"Weights: {array.shape[0]} floats do not hold {shape} with strides {strides}")
        w.f, w.c, w.kh, w.kw = shape
        w.of_f, w.of_c, w.of_i, w.of_j = strides
        self.shape, self.array, w.data = shape, array, &array[0]


cdef struct Packing:  # what goes where; `out` and `in` are F and C, or C and F on the way back to the input
    const float* data
    Py_ssize_t n_out, n_in, of_out, of_in, of_i, of_j, kh, kw, out_lanes, in_lanes


cdef Py_ssize_t tap_source(const Packing* w, Py_ssize_t block, Py_ssize_t tap) noexcept nogil:
    """Where the weights of an input block's tap begin, those of output 0."""
    return block * w.in_lanes * w.of_in + tap // w.kw * w.of_i + tap % w.kw * w.of_j


cdef void pack_tap(const Packing* w, Py_ssize_t out, Py_ssize_t source_at, Py_ssize_t ins, float* target) noexcept nogil:
    """One tap of one (output block, input block of `ins` inputs) as [in_lanes][out_lanes], zeros past those there are."""
    cdef Py_ssize_t outs = min(w.out_lanes, w.n_out - out * w.out_lanes), o, k
    cdef const float* source = w.data + out * w.out_lanes * w.of_out + source_at
    if outs < w.out_lanes or ins < w.in_lanes:
        memset(target, 0, w.in_lanes * w.out_lanes * sizeof(float))
    if w.of_out == 1:
        if outs == 16:  # constant counts: whole vectors
            for k in range(ins):
                memcpy(target + k * 16, source + k * w.of_in, 16 * sizeof(float))
        else:
            for k in range(ins):
                memcpy(target + k * w.out_lanes, source + k * w.of_in, outs * sizeof(float))
    elif w.of_in == 1 and outs % 8 == 0 and ins % 8 == 0:
        for o in range(outs // 8):
            for k in range(ins // 8):
                transpose_8(source + o * 8 * w.of_out + k * 8, w.of_out, target + k * 8 * w.out_lanes + o * 8, w.out_lanes)
    else:
        for o in range(outs):
            for k in range(ins):
                target[k * w.out_lanes + o] = source[o * w.of_out + k * w.of_in]


cdef void pack_taps(const Packing* w, Py_ssize_t out, Py_ssize_t block, float* target, Py_ssize_t tap_row) noexcept nogil:
    """All taps of one (output block, input block), tap t at target + t · tap_row: pack_tap of each."""
    cdef Py_ssize_t taps = w.kh * w.kw, ins = min(w.in_lanes, w.n_in - block * w.in_lanes), tap, o, k, j, i, square
    cdef const float* source = w.data + out * w.out_lanes * w.of_out + block * w.in_lanes * w.of_in
    cdef float* rows[8]
    # By squares of eight outputs and eight weights that lie together: inputs and taps of an output, or taps of an input.
    cdef bint whole = (out + 1) * w.out_lanes <= w.n_out and ins % 8 == 0 and ins == w.in_lanes and w.of_i == w.kw
    if not whole or w.of_j != 1 or w.of_in != taps and (w.of_out != taps or taps < 8):
        for tap in range(taps):
            pack_tap(w, out, tap_source(w, block, tap), ins, target + tap * tap_row)
    elif w.of_in == taps:
        for o from 0 <= o < w.out_lanes by 8:
            tap = k = 0
            for square in range(ins * taps // 8):
                for i in range(8):
                    rows[i] = target + tap * tap_row + k * w.out_lanes + o
                    tap += 1
                    if tap == taps:
                        tap = 0
                        k += 1
                transpose_8_to(source + o * w.of_out + 8 * square, w.of_out, &rows[0])
    else:
        for k in range(ins):
            for o from 0 <= o < w.out_lanes by 8:
                for square in range(blocks(taps, 8)):
                    j = min(8 * square, taps - 8)  # the last lies over the one before, where it does not fit beside it
                    for i in range(8):
                        rows[i] = target + (j + i) * tap_row + k * w.out_lanes + o
                    transpose_8_to(source + k * w.of_in + o * taps + j, taps, &rows[0])


cdef void fetch_tap(const Packing* w, Py_ssize_t out, Py_ssize_t source_at, Py_ssize_t ins) noexcept nogil:
    """Asks for the memory that pack_tap will read: sixteen floats at the start of each of its rows."""
    cdef Py_ssize_t row = w.of_in, k
    cdef const float* source = w.data + out * w.out_lanes * w.of_out + source_at
    if w.of_out != 1:
        row, ins = w.of_out, min(w.out_lanes, w.n_out - out * w.out_lanes)
    for k in range(ins):
        fetch(source + k * row)


cdef class PackWeights(Step):
    """weight as [F/out_lanes][C/in_lanes][KH][KW][in_lanes][out_lanes], zeros past F and C; F and C swapped if
    `transposed`, for the pass that goes back to the input. Without `packed` it does nothing: a product packs what it needs
    (GatherPacking)."""
    cdef Weights weight
    cdef Packing packing
    cdef float[::1] packed
    cdef readonly Py_ssize_t out_block  # floats of one output block
    cdef bint kept

    def __init__(
        self, Weights weight not None, float[::1] packed, Py_ssize_t out_lanes, Py_ssize_t in_lanes, bint transposed,
    ):
        self.bound = False
        if out_lanes not in (8, 16) or not 1 <= in_lanes <= MOST_SIZE:
            raise ValueError(f"PackWeights: blocks of {in_lanes} by {out_lanes} channels")
        cdef WeightLayout* w = &weight.at
        cdef Packing* p = &self.packing
        self.weight, self.packed, self.kept = weight, packed, packed is not None
        p.data, p.kh, p.kw, p.of_i, p.of_j = w.data, w.kh, w.kw, w.of_i, w.of_j
        p.out_lanes, p.in_lanes = out_lanes, in_lanes
        p.n_out, p.n_in, p.of_out, p.of_in = w.f, w.c, w.of_f, w.of_c
        if transposed:
            p.n_out, p.n_in, p.of_out, p.of_in = w.c, w.f, w.of_c, w.of_f
        in_blocks, kh, kw, out_blocks = blocks(p.n_in, in_lanes), w.kh, w.kw, blocks(p.n_out, out_lanes)
        block = in_blocks * in_lanes * kh * kw * out_lanes  # Python's integers, which do not overflow
        size = out_blocks * block
        if self.kept and packed.shape[0] < size:
            raise ValueError(f"PackWeights: {packed.shape[0]} floats do not hold {size}")
        if size >= 2**62:
            raise ValueError(f"PackWeights: {size} floats are more than memory holds")
        self.out_block = block
        self.worth_threads = size > 50_000
        self.bound = True

    cdef void run(self, int n_threads) noexcept nogil:
        cdef Py_ssize_t task, in_blocks = blocks(self.packing.n_in, self.packing.in_lanes)
        if not self.kept:
            return
        for task in prange(
            blocks(self.packing.n_out, self.packing.out_lanes) * in_blocks, schedule="static", num_threads=n_threads
        ):
            self.pack_block(task // in_blocks, task % in_blocks)

    cdef void pack_block(self, Py_ssize_t out, Py_ssize_t block) noexcept nogil:
        cdef Packing* w = &self.packing
        cdef Py_ssize_t tap_row = w.in_lanes * w.out_lanes
        pack_taps(w, out, block, &self.packed[0] + out * self.out_block + block * w.kh * w.kw * tap_row, tap_row)


# -- steps in pieces ---------------------------------------------------------------------------------------------------

cdef enum:
    SLOTS = 32  # pieces of a pass over a batch, at least, where it has as many rows


cdef class Pieces:
    """The rows of the blocks of a batch, cut into slots: slot s is rows first(s) … of one (batch block, channel block)."""
    cdef readonly Py_ssize_t count, slots  # of all channel blocks, and of each
    cdef Py_ssize_t channel_blocks, batch_blocks, height, per_block

    def __cinit__(self, Blocks x not None, Py_ssize_t height):
        require(1 <= height <= x.at.h, "Pieces", f"expected 1 to {x.at.h} rows, got {height}")
        self.channel_blocks, self.batch_blocks, self.height = x.at.channel_blocks, x.at.batch_blocks, height
        self.per_block = min(height, blocks(SLOTS, self.channel_blocks * self.batch_blocks))
        self.slots = self.per_block * self.batch_blocks
        self.count = self.slots * self.channel_blocks

    # Slots of one channel block follow one another: slot = (channel_block · batch_blocks + block) · per_block + piece.
    cdef Py_ssize_t channel_block(self, Py_ssize_t slot) noexcept nogil:
        return slot // (self.per_block * self.batch_blocks)

    cdef Py_ssize_t block(self, Py_ssize_t slot) noexcept nogil:
        return slot // self.per_block % self.batch_blocks

    cdef Py_ssize_t first(self, Py_ssize_t slot) noexcept nogil:
        return slot % self.per_block * self.height // self.per_block

    cdef Py_ssize_t last(self, Py_ssize_t slot) noexcept nogil:
        return (slot % self.per_block + 1) * self.height // self.per_block


cdef class Slices(Step):
    """A step that works slot by slot, each on its own, and then once more on what the slots left.

    So it can be joined with a product: a row is worked on right after, or right before, the product of the same rows, while
    they are in the cache. Row r of the pieces begins at row r · row_stride of the array that the product has.
    """
    cdef readonly Pieces pieces
    cdef readonly Blocks product  # that array
    cdef Py_ssize_t row_stride
    cdef bint apart  # whether a row of the pieces needs rows of its own alone

    cdef void run(self, int n_threads) noexcept nogil:
        cdef Py_ssize_t slot
        for slot in prange(self.pieces.count, schedule="dynamic", num_threads=n_threads):
            self.slot(slot)
        self.finish()

    cdef void slot(self, Py_ssize_t slot) noexcept nogil:
        cdef Py_ssize_t block = self.pieces.block(slot), cb = self.pieces.channel_block(slot), first = self.pieces.first(slot)
        self.rows(
            slot, first, self.pieces.last(slot), row_at(&self.product.at, block, cb, first * self.row_stride))

    cdef void rows(self, Py_ssize_t slot, Py_ssize_t first, Py_ssize_t last, float* product) noexcept nogil:
        """Rows first … last − 1 of a slot; `product`: the first row of the product's that goes with them."""
        pass

    cdef void finish(self) noexcept nogil:
        pass

    cdef bint joins(self, Blocks product):
        """Whether it can be joined with the product that has this array."""
        return self.product is product and self.apart

    cdef Py_ssize_t row_after(self, Py_ssize_t row) noexcept nogil:
        """Of the product's array, after those of the pieces' rows before `row`."""
        return self.product.at.h if row == self.pieces.height else row * self.row_stride

    cdef Py_ssize_t most_rows(self):
        """Of the product's array, that go with one of the pieces."""
        if self.pieces.height == 1:  # whatever the stride
            return self.product.at.h
        return max(self.row_stride, self.product.at.h - (self.pieces.height - 1) * self.row_stride)
