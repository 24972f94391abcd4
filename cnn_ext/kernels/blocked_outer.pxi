# Gradients of weights in the blocked layout: dweight = Σ x ⊗ dy over batch and pixels, a tile of input channels × output
# channels for each tap.
#
# For images, a task owns one (output block, input block) in one slot of the batch, and goes through the batch a few
# pixels at a time, which stay in the first-level cache for all taps. Slots are summed in order at the end, where the
# sum goes to the gradient's own order. For outputs of one pixel (the fully-connected layer), a task owns an input block's
# rows of the gradient and needs no slots.

cdef extern from "blocks.h" nogil:
    outer_rows outer_16_blocked_16
    outer_rows outer_16_blocked_8
    outer_rows outer_16_image
    outer_rows outer_16_listed
    outer_rows outer_8_blocked_16
    outer_rows outer_8_blocked_8
    outer_rows outer_8_image
    outer_rows outer_8x3_image
    enum:
        OUTER_MOST_16x1
        OUTER_LISTED_16

cdef enum:
    RUNS = 64  # at a time
    CHUNK_PIXELS = 16  # of x and of dy at a time: 12 KB each in blocks of 16 channels


cdef struct Axis:
    Py_ssize_t size, out, stride, padding, dilation


cdef void valid_outputs(const Axis* axis, Py_ssize_t tap, Py_ssize_t* first, Py_ssize_t* last) noexcept nogil:
    """The outputs first … last − 1 whose `tap` lies inside the input, cut to the range that is given."""
    cdef Py_ssize_t shift = axis.padding - tap * axis.dilation  # input = output · stride − shift
    cdef Py_ssize_t low = blocks(shift, axis.stride) if shift > 0 else 0
    cdef Py_ssize_t high = (axis.size - 1 + shift) // axis.stride + 1 if axis.size - 1 + shift >= 0 else 0
    first[0], last[0] = max(first[0], low), min(last[0], high)


cdef bint axis_fits(const Axis* axis, Py_ssize_t taps) noexcept:
    """Whether the outputs are those of a convolution along the axis."""
    cdef Py_ssize_t span = axis.size + 2 * axis.padding - axis.dilation * (taps - 1)
    if axis.stride < 1 or axis.padding < 0 or axis.dilation < 1 or span < 1:
        return False
    return axis.out == (span - 1) // axis.stride + 1


cdef class Outer(Step):
    """dweight of a convolution or a fully-connected layer, which replaces what the gradient holds.

    x : Blocks or Image. dy : Blocks. grad : Weights. slots : pieces that the batch is cut into; for an Image those of dy's
    Pieces.
    memory : slots × outputs' blocks × inputs' blocks × taps × lanes × lanes floats; None for outputs of one pixel.
    """
    cdef Blocks dy, x_blocks
    cdef Image x_image
    cdef Weights grad
    cdef UnitBackward before
    cdef const Py_ssize_t[::1] x_rows  # of an image, where the rows of all taps × channels begin; or None
    cdef Pieces pieces
    cdef Axis rows, columns
    cdef float[::1] memory
    cdef Py_ssize_t slots, in_lanes, in_blocks, block, each_f
    cdef outer_rows kernel

    def __init__(
        self, x not None, Blocks dy not None, Weights grad not None, tuple stride not None, tuple padding not None,
        tuple dilation not None, Py_ssize_t slots, float[::1] memory,
    ):
        cdef WeightLayout* g = &grad.at
        self.bound = False
        if not len(stride) == len(padding) == len(dilation) == 2 or max(*stride, *padding, *dilation) > MOST_SIZE:
            raise ValueError(f"Outer: stride {stride}, padding {padding}, dilation {dilation}")
        if min(*stride, *padding, *dilation) < 0:
            raise ValueError(f"Outer: stride {stride}, padding {padding}, dilation {dilation}")
        self.before = self.scratch = self.x_image = self.x_blocks = None
        self.for_all = self.per_thread = 0
        self.dy, self.grad, self.slots, self.memory, self.each_f = dy, grad, slots, memory, 1
        if isinstance(x, Image):
            self.x_image, self.in_lanes, self.in_blocks = x, g.c, 1
            self.rows.size, self.columns.size, padding = self.x_image.at.h, self.x_image.at.w, (0, 0)  # it is inside
            if dy.lanes == 8 and dy.channel_blocks == 3:
                self.each_f = 3
            self.kernel = outer_16_image if dy.lanes == 16 else outer_8x3_image if self.each_f == 3 else outer_8_image
            self.pieces = Pieces(dy, dy.at.h)
            if slots != self.pieces.slots or dy.at.batch != BATCH:
                raise ValueError("Outer: an image's slots are those of its pieces")
        else:
            self.x_blocks, self.in_lanes, self.in_blocks = x, x.lanes, x.channel_blocks
            self.rows.size, self.columns.size = self.x_blocks.at.h, self.x_blocks.at.w
            if dy.lanes == 16:
                self.kernel = outer_16_blocked_16 if x.lanes == 16 else outer_16_blocked_8
            else:
                self.kernel = outer_8_blocked_16 if x.lanes == 16 else outer_8_blocked_8
        self.rows.out, self.columns.out = dy.at.h, dy.at.w
        self.rows.stride, self.columns.stride = stride
        self.rows.padding, self.columns.padding = padding
        self.rows.dilation, self.columns.dilation = dilation
        self.block = g.kh * g.kw * self.in_lanes * dy.lanes
        if (x.shape[0], x.shape[1], dy.at.c) != (dy.at.n, g.c, g.f):
            raise ValueError("Outer: x, dy and the gradient do not belong together")
        if memory is not None and self.x_blocks is not None and self.x_blocks.at.batch != dy.at.batch:
            raise ValueError("Outer: x and dy are in different blocks of images")
        if not (axis_fits(&self.rows, g.kh) and axis_fits(&self.columns, g.kw)):
            raise ValueError("Outer: x, dy and the gradient are not of one convolution")
        if memory is None and (
            self.x_blocks is None or dy.at.h * dy.at.w != 1 or (x.shape[2], x.shape[3]) != (g.kh, g.kw) or any(padding)
        ):
            raise ValueError("Outer: outputs of several pixels need memory")
        size = slots * (<object>dy.channel_blocks) * self.in_blocks * self.block  # Python's integers, which do not overflow
        if slots < 1 or memory is not None and memory.shape[0] < size:
            raise ValueError("Outer: memory does not hold its slots")
        if memory is None and not (
            (x.batch % min(x.batch, dy.batch) == 0 or self.x_blocks.at.batch_blocks == 1)
            and (dy.batch % min(x.batch, dy.batch) == 0 or dy.at.batch_blocks == 1)
        ):
            raise ValueError("Outer: x and dy are in different blocks of images")
        self.worth_threads = <double>dy.size * g.kh * g.kw * g.c > 1_000_000
        self.x_rows = None
        if self.kernel == outer_16_image:
            self.list_rows()
        self.bound = True

    cdef void list_rows(self):
        """All taps in one list of rows, where that makes fewer tiles than each row of taps by itself."""
        cdef WeightLayout* g = &self.grad.at
        each = 1 if self.columns.dilation > 1 else g.kw  # taps that follow one another
        if blocks(g.kh * g.kw * g.c, OUTER_LISTED_16) < g.kh * (g.kw // each) * blocks(each * g.c, OUTER_MOST_16x1):
            i, j, c = numpy.ogrid[:g.kh, :g.kw, :g.c]
            at = (i * self.rows.dilation * self.x_image.at.w + j * self.columns.dilation) * g.c + c
            self.x_rows = (at * BATCH).astype(numpy.intp).reshape(-1)

    def take(self, UnitBackward before not None, scratch not None):
        """Takes along the step that makes dy, where x is an Image: a few rows at a time, which are then nowhere kept.

        scratch : scratch(count) gives float32 memory for a call. Returns whether that can be; if so, the step must not be
        called on its own, and nothing else may read dy.
        """
        if not (self.bound and before.bound) or self.x_image is None or self.before is not None:
            return False
        if not before.joins(self.dy):
            return False
        if before.pieces.slots > self.slots:
            return False
        self.before, self.pieces, self.slots, self.scratch = before, before.pieces, before.pieces.slots, scratch
        self.per_thread = before.most_rows() * self.dy.at.w * BATCH * self.dy.lanes * self.each_f
        return True

    cdef void run(self, int n_threads) noexcept nogil:
        cdef Py_ssize_t task, pairs = self.dy.channel_blocks * self.in_blocks
        if self.memory is None:
            for task in prange(self.in_blocks * self.grad.at.kh, schedule="dynamic", num_threads=n_threads):
                self.one_pixel(task // self.grad.at.kh, task % self.grad.at.kh)
            return
        if self.x_image is not None:
            for task in prange(self.pieces.count // self.each_f, schedule="dynamic", num_threads=n_threads):
                self.image_slot(task)
        else:
            for task in prange(self.slots * pairs, schedule="dynamic", num_threads=n_threads):
                self.blocks_slot(task % pairs, task // pairs)
        for task in prange(pairs, schedule="static", num_threads=n_threads):
            self.reduce(task)

    cdef void blocks_slot(self, Py_ssize_t pair, Py_ssize_t slot) noexcept nogil:
        """The tile of one pair of blocks, over one slot of the batch."""
        cdef Layout* x = &self.x_blocks.at
        cdef Layout* dy = &self.dy.at
        cdef Py_ssize_t f = pair // self.in_blocks, c = pair % self.in_blocks, p, q, block
        cdef Py_ssize_t per_q = min(dy.w, <Py_ssize_t>CHUNK_PIXELS), per_p = max(1, CHUNK_PIXELS // dy.w)
        cdef Py_ssize_t per_block = max(1, CHUNK_PIXELS // (dy.h * dy.w))  # small images: several blocks at a time
        cdef Py_ssize_t first = slot * dy.batch_blocks // self.slots, last = (slot + 1) * dy.batch_blocks // self.slots
        cdef float* tile = &self.memory[0] + (slot * dy.channel_blocks * self.in_blocks + pair) * self.block
        memset(tile, 0, self.block * sizeof(float))
        for block in range(blocks(last - first, per_block)):
            for p in range(blocks(dy.h, per_p)):
                for q in range(blocks(dy.w, per_q)):
                    self.add_chunk(
                        tile, f, c, first + block * per_block, min(first + (block + 1) * per_block, last),
                        p * per_p, min((p + 1) * per_p, dy.h), q * per_q, min((q + 1) * per_q, dy.w),
                    )

    cdef void add_chunk(
        self, float* tile, Py_ssize_t f, Py_ssize_t c, Py_ssize_t block_first, Py_ssize_t block_last,
        Py_ssize_t p_first, Py_ssize_t p_last, Py_ssize_t q_first, Py_ssize_t q_last,
    ) noexcept nogil:
        """What the output pixels of a few blocks add to a tile."""
        cdef Layout* x = &self.x_blocks.at
        cdef Layout* dy = &self.dy.at
        cdef Py_ssize_t tap, block, p0, p1, q0, q1
        cdef pynn_run[RUNS] runs
        cdef int n
        for tap in range(self.grad.at.kh * self.grad.at.kw):
            p0, p1, q0, q1 = p_first, p_last, q_first, q_last
            valid_outputs(&self.rows, tap // self.grad.at.kw, &p0, &p1)
            valid_outputs(&self.columns, tap % self.grad.at.kw, &q0, &q1)
            n = 0
            for block in range(block_first, block_last):
                n += self.list_runs(
                    tap, rows_of(dy, block), p0, p1, q0, q1, block_at(x, block, c) - x.data,
                    block_at(dy, block, f) - dy.data, &runs[n],
                )
            if n > 0:
                self.kernel(
                    <int>min(x.lanes, x.c - c * x.lanes), x.data, NULL, dy.data, 0, &runs[0], n, FROM_OUT,
                    tile + tap * x.lanes * dy.lanes, dy.lanes, 0,
                )

    cdef int list_runs(
        self, Py_ssize_t tap, int rows, Py_ssize_t p_first, Py_ssize_t p_last, Py_ssize_t q_first, Py_ssize_t q_last,
        Py_ssize_t x, Py_ssize_t dy, pynn_run* runs,
    ) noexcept nogil:
        """The runs of a range of one block's output pixels: a row each, or a pixel each where the stride leaves gaps."""
        cdef Py_ssize_t i = tap // self.grad.at.kw * self.rows.dilation - self.rows.padding
        cdef Py_ssize_t j = tap % self.grad.at.kw * self.columns.dilation - self.columns.padding
        cdef Py_ssize_t p, q, at_a_time = q_last - q_first if self.columns.stride == 1 else 1
        cdef Py_ssize_t in_pixel = rows * self.in_lanes, out_pixel = rows * self.dy.lanes
        cdef int n = 0
        if q_first >= q_last:
            return 0
        for p in range(p_first, p_last):
            q = q_first
            while q < q_last:
                runs[n].x = x + (
                    (p * self.rows.stride + i) * self.columns.size + q * self.columns.stride + j) * in_pixel
                runs[n].dy = dy + (p * self.columns.out + q) * out_pixel
                runs[n].k = at_a_time * rows
                n += 1
                q = q + at_a_time
        return n

    cdef void image_slot(self, Py_ssize_t slot) noexcept nogil:
        """The tile of one output block, or of all three, over one slot of rows; the rows of a tile are taps × channels."""
        cdef Layout* dy = &self.dy.at
        cdef Py_ssize_t f = self.pieces.channel_block(slot), block = self.pieces.block(slot), p, i
        cdef float* tile = &self.memory[0] + (slot % self.slots * dy.channel_blocks + f) * self.block
        cdef Py_ssize_t row = dy.w * rows_of(dy, block) * dy.lanes, each = self.per_thread // self.each_f
        cdef float* dy_row
        memset(tile, 0, self.each_f * self.block * sizeof(float))
        for p in range(self.pieces.first(slot), self.pieces.last(slot)):
            if self.before is None:
                self.image_row(tile, block, p, row_at(dy, block, f, p), dy.h * row)
            else:
                dy_row = &self.scratch_memory[0] + threadid() * self.per_thread
                for i in range(self.each_f):  # slots of one output block follow one another
                    self.before.rows(slot + i * self.slots, p, p + 1, dy_row + i * each)
                for i in range(p * self.before.row_stride, self.before.row_after(p + 1)):
                    self.image_row(tile, block, i, dy_row, each)
                    dy_row += row

    cdef void image_row(
        self, float* tile, Py_ssize_t block, Py_ssize_t p, const float* dy_row, Py_ssize_t dy_block
    ) noexcept nogil:
        """What row p of the output adds to a tile; dy_row : its first pixel of dy."""
        cdef ImageLayout* x = &self.x_image.at
        cdef Layout* dy = &self.dy.at
        cdef Py_ssize_t joined = self.grad.at.kw if self.columns.dilation == 1 else 1, height = joined * x.c, i, j
        cdef Py_ssize_t first, q, some, rows = rows_of(dy, block)
        # With one channel and no stride, the images of neighbouring pixels follow one another in x as in dy.
        cdef bint follow = x.c * self.columns.stride == 1 and rows == BATCH
        cdef pynn_run[RUNS] runs
        cdef int n
        cdef const float* source = image_at(x, block) + p * self.rows.stride * x.w * x.c * BATCH
        for first from 0 <= first < dy.w by 2 * CHUNK_PIXELS:
            some = min(dy.w - first, <Py_ssize_t>(2 * CHUNK_PIXELS))
            n = 1 if follow else <int>some
            for q in range(n):
                runs[q].x = (first + q) * self.columns.stride * x.c * BATCH
                runs[q].dy = (first + q) * rows * dy.lanes
                runs[q].k = some * rows if follow else rows
            if self.x_rows is not None:
                outer_16_listed(
                    <int>self.x_rows.shape[0], source, &self.x_rows[0], dy_row, 0, &runs[0], n, FROM_OUT, tile, dy.lanes, 0)
                continue
            for i in range(self.grad.at.kh):
                for j in range(self.grad.at.kw // joined):
                    self.kernel(
                        <int>height, source + (i * self.rows.dilation * x.w + j * self.columns.dilation) * x.c * BATCH,
                        NULL, dy_row, dy_block, &runs[0], n, FROM_OUT, tile + (i * self.grad.at.kw + j) * x.c * dy.lanes,
                        dy.lanes, self.block,
                    )

    cdef void reduce(self, Py_ssize_t pair) noexcept nogil:
        """The pair's slots summed in order, into the gradient."""
        cdef Py_ssize_t f = pair // self.in_blocks, c = pair % self.in_blocks, slot, tap, k
        cdef Py_ssize_t size = self.dy.channel_blocks * self.in_blocks * self.block, taps = self.grad.at.kh * self.grad.at.kw
        cdef float* total = &self.memory[0] + pair * self.block
        for slot in range(1, self.slots):
            for k in range(self.block):
                total[k] += total[slot * size + k]
        for tap in range(taps):
            self.store(total + tap * self.in_lanes * self.dy.lanes, f, c, tap)

    cdef void store(self, const float* tile, Py_ssize_t f, Py_ssize_t c, Py_ssize_t tap) noexcept nogil:
        """What lies inside the gradient of a tile (input lanes × output lanes) of one tap."""
        cdef WeightLayout* g = &self.grad.at
        cdef Py_ssize_t lanes = self.dy.lanes, ins = min(self.in_lanes, g.c - c * self.in_lanes)
        cdef Py_ssize_t outs = min(lanes, g.f - f * lanes), k, o
        cdef float* target = g.data + f * lanes * g.of_f + c * self.in_lanes * g.of_c
        target += tap // g.kw * g.of_i + tap % g.kw * g.of_j
        for k in range(ins):
            for o in range(outs):
                target[k * g.of_c + o * g.of_f] = tile[k * lanes + o]

    cdef void one_pixel(self, Py_ssize_t c, Py_ssize_t i) noexcept nogil:
        """The gradient of one input block and row of taps, where every tap meets one output pixel."""
        cdef Layout* x = &self.x_blocks.at
        cdef Layout* dy = &self.dy.at
        cdef WeightLayout* g = &self.grad.at
        cdef Py_ssize_t f, tap, group, first, out_row, pixel, ins = min(x.lanes, g.c - c * x.lanes)
        cdef Py_ssize_t each = min(x.batch, dy.batch), groups = blocks(x.n, each)
        cdef pynn_run[RUNS] runs
        cdef float[16 * 16] tile
        cdef float* out
        cdef bint whole
        cdef int n
        for tap in range(i * g.kw, (i + 1) * g.kw):
            for f in range(dy.channel_blocks):
                whole = g.of_f == 1 and (f + 1) * dy.lanes <= g.f  # then the tile goes right where it belongs
                out = &tile[0]
                out_row = dy.lanes
                if whole:
                    out = g.data + f * dy.lanes + c * x.lanes * g.of_c + tap // g.kw * g.of_i + tap % g.kw * g.of_j
                    out_row = g.of_c
                for first in range(blocks(groups, RUNS)):
                    n = 0
                    for group in range(first * RUNS, min((first + 1) * RUNS, groups)):
                        runs[n].dy = group_of(dy, group * each, f, &pixel) - dy.data
                        runs[n].x = group_of(x, group * each, c, &pixel) - x.data + tap * pixel
                        runs[n].k = min(each, x.n - group * each)
                        n += 1
                    self.kernel(<int>ins, x.data, NULL, dy.data, 0, &runs[0], n, FROM_OUT if first else 0, out, out_row, 0)
                if not whole:
                    self.store(&tile[0], f, c, tap)
