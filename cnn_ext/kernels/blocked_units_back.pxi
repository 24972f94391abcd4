# The way back through batch normalisation, ReLU and max-pool, in one pass over memory, once ChannelSums has made the norm's
# coefficients.

cdef class UnitBackward(Slices):
    """dx of Unit from dout, with dz = dout where out > 0 if `relu`: dz at a window's maximum, and with a `norm`
    dz · a − (x − mean) · b − c everywhere. Windows must not overlap, or there must be no norm."""
    cdef Blocks dout, out, x, dx
    cdef Norm norm
    cdef bint relu
    cdef PoolWindow window
    cdef const uint8_t[::1] index
    cdef bint point, gaps  # windows of one pixel; pixels between or after the windows

    def __init__(
        self, Blocks dout not None, Blocks out, bint relu, Norm norm, Blocks x, tuple window not None,
        const uint8_t[::1] index, Blocks dx not None,
    ):
        cdef PoolWindow w
        self.bound = False
        set_window(&w, window)
        self.point = w.kernel_h * w.kernel_w == 1 and w.stride_h * w.stride_w == 1
        if (
            not pools(&w, &dx.at, &dout.at) or (relu and (out is None or not alike(out, dout)))
            or (norm is not None and (x is None or not alike(x, dx) or not norm.fits(dx)))
            or (not self.point and (index is None or not indexes(index, &w, dout)))
        ):
            raise ValueError("UnitBackward: dout, out, norm, x, window, index and dx do not belong together")
        self.dout, self.out, self.relu, self.norm, self.x, self.dx = dout, out, relu, norm, x, dx
        self.window, self.index = w, index
        self.apart = windows_apart(&w)
        self.pieces = Pieces(dx, dout.at.h if self.apart else 1)
        self.product, self.row_stride = dx, w.stride_h
        self.gaps = w.kernel_h < w.stride_h or w.kernel_w < w.stride_w or (
            (dout.at.h * w.stride_h, dout.at.w * w.stride_w) != (dx.at.h, dx.at.w))
        self.worth_threads = dx.size > 100_000
        if not self.apart and norm is not None:
            raise ValueError("UnitBackward: overlapping windows and a norm are separate units")
        self.bound = True

    cdef void slot(self, Py_ssize_t slot) noexcept nogil:
        cdef Layout* x = &self.dx.at
        cdef PoolWindow* w = &self.window
        cdef Py_ssize_t block = self.pieces.block(slot), cb = self.pieces.channel_block(slot), p, q
        cdef float* dx = block_at(x, block, cb)
        if self.apart:
            Slices.slot(self, slot)
            return
        memset(dx, 0, x.h * x.w * rows_of(x, block) * x.lanes * sizeof(float))  # a slot is all rows
        for p in range(self.dout.at.h):
            q = 0
            while q < self.dout.at.w:
                q += self.scatter(block, cb, p, q, dx, 0)

    cdef void rows(self, Py_ssize_t slot, Py_ssize_t first, Py_ssize_t last, float* dx) noexcept nogil:
        """Of dout, whose windows are apart."""
        cdef Py_ssize_t block = self.pieces.block(slot), cb = self.pieces.channel_block(slot)
        cdef PoolWindow* w = &self.window
        cdef Py_ssize_t pixel = rows_of(&self.dx.at, block) * self.dx.lanes, row = self.dx.at.w * pixel, p, q, i, j
        cdef Py_ssize_t top = first * w.stride_h
        if self.point:
            self.pixels(block, cb, first * self.dx.at.w, last * self.dx.at.w, dx)
            return
        for p in range(first, last):
            q = 0
            while q < self.dout.at.w:
                q += self.scatter(block, cb, p, q, dx, top)
        if self.gaps:
            for i in range(top, self.row_after(last)):
                for j in range(self.dx.at.w):
                    if (
                        i % w.stride_h >= w.kernel_h or j % w.stride_w >= w.kernel_w
                        or i // w.stride_h >= self.dout.at.h or j // w.stride_w >= self.dout.at.w
                    ):
                        self.untouched(block, cb, i, j, dx + (i - top) * row + j * pixel)

    cdef void pixels(
        self, Py_ssize_t block, Py_ssize_t cb, Py_ssize_t first, Py_ssize_t last, float* dx
    ) noexcept nogil:
        """Where nothing was pooled: pixels first … last − 1; `dx` is the first."""
        cdef Py_ssize_t pixel = rows_of(&self.dx.at, block) * self.dx.lanes, v, k
        cdef Py_ssize_t each = LANE_WIDTH if self.norm is None else self.dx.lanes  # in memory's order without a norm
        cdef Py_ssize_t at = block_at(&self.dx.at, block, cb) - self.dx.at.data + first * pixel
        cdef const float* dout = self.dout.at.data + at
        cdef const float* out = self.out.at.data + at if self.relu else NULL
        cdef const float* x = self.x.at.data + at if self.norm is not None else NULL
        cdef NormBack norm
        cdef lanes dz
        for v from 0 <= v < each by LANE_WIDTH:
            if x != NULL:
                self.norm_back(cb * each + v, &norm)
            for k from v <= k < (last - first) * pixel by each:
                dz = (<const lanes*>(dout + k))[0]
                if out != NULL:
                    dz = lanes_where_positive((<const lanes*>(out + k))[0], dz)
                if x != NULL:
                    dz = through_norm(dz, (<const lanes*>(x + k))[0], &norm)
                (<lanes*>(dx + k))[0] = dz

    cdef Py_ssize_t scatter(
        self, Py_ssize_t block, Py_ssize_t cb, Py_ssize_t p, Py_ssize_t q, float* dx, Py_ssize_t dx_row
    ) noexcept nogil:
        """Pixel q of row p of dout, and those after it whose windows are as large, to the pixels of their windows; row
        dx_row begins at `dx`. Returns how many."""
        cdef Windows w = windows_at(&self.window, &self.dx.at, self.dout.at.w, p, q)
        cdef Py_ssize_t pixel = rows_of(&self.dx.at, block) * self.dx.lanes, row = self.dx.at.w * pixel, v
        cdef Py_ssize_t each = LANE_WIDTH if self.norm is None else self.dx.lanes
        cdef Py_ssize_t step = self.window.stride_w * pixel
        cdef Py_ssize_t source = block_at(&self.dout.at, block, cb) - self.dout.at.data + (p * self.dout.at.w + q) * pixel
        cdef const float* out = self.out.at.data + source if self.relu else NULL
        cdef const float* x = NULL
        cdef NormBack norm
        if self.norm is not None:
            x = block_at(&self.x.at, block, cb) + w.top * row + w.left * pixel
        dx += (w.top - dx_row) * row + w.left * pixel
        for v from 0 <= v < each by LANE_WIDTH:
            if self.norm is not None:
                self.norm_back(cb * each + v, &norm)
            if w.height == 2 and w.width == 2:  # by far the most frequent: constant counts
                spread(
                    self.dout.at.data + source + v, out, &self.index[source + v], each, x, &norm, row, pixel, 2, 2,
                    w.count, step, not self.apart, dx + v)
            else:
                spread(
                    self.dout.at.data + source + v, out, &self.index[source + v], each, x, &norm, row, pixel, w.height,
                    w.width, w.count, step, not self.apart, dx + v)
            if out != NULL:
                out += LANE_WIDTH
            if x != NULL:
                x += LANE_WIDTH
        return w.count

    cdef void untouched(self, Py_ssize_t block, Py_ssize_t cb, Py_ssize_t i, Py_ssize_t j, float* dx) noexcept nogil:
        """Pixel (i, j), which no window has."""
        cdef Py_ssize_t each = self.dx.lanes, pixel = rows_of(&self.dx.at, block) * each, k, v
        cdef const float* x = NULL
        cdef NormBack norm
        cdef lanes zero = lanes_all(0)
        if self.norm is not None:
            x = block_at(&self.x.at, block, cb) + (i * self.dx.at.w + j) * pixel
        for v from 0 <= v < each by LANE_WIDTH:
            if x != NULL:
                self.norm_back(cb * each + v, &norm)
            for k from v <= k < pixel by each:
                (<lanes*>(dx + k))[0] = (
                    through_norm(zero, (<const lanes*>(x + k))[0], &norm) if x != NULL else zero
                )

    cdef void norm_back(self, Py_ssize_t channel, NormBack* norm) noexcept nogil:
        norm.a, norm.b = (<lanes*>&self.norm.a[channel])[0], (<lanes*>&self.norm.b[channel])[0]
        norm.c, norm.mean = (<lanes*>&self.norm.c[channel])[0], (<lanes*>&self.norm.mean[channel])[0]


cdef struct NormBack:  # a norm's coefficients of LANE_WIDTH channels
    lanes a, b, c, mean


cdef inline lanes through_norm(lanes dz, lanes x, const NormBack* norm) noexcept nogil:
    return dz * norm.a - (x - norm.mean) * norm.b - norm.c


cdef inline void spread(
    const float* dout, const float* out, const uint8_t* index, Py_ssize_t each, const float* x, const NormBack* norm,
    Py_ssize_t row, Py_ssize_t pixel, Py_ssize_t height, Py_ssize_t width, Py_ssize_t count, Py_ssize_t step, bint add,
    float* dx,
) noexcept nogil:
    """UnitBackward for `count` windows of height × width pixels, `step` floats apart, and of a pixel for LANE_WIDTH of every
    `each` floats.

    out: NULL without ReLU; x: NULL without a norm. add: to what dx holds.
    """
    cdef lanes dz, value
    cdef lane_flags number
    cdef Py_ssize_t q, k, i, j, at
    for q in range(count):
        for k from 0 <= k < pixel by each:
            dz = (<const lanes*>(dout + k))[0]
            if out != NULL:
                dz = lanes_where_positive((<const lanes*>(out + k))[0], dz)
            number = lanes_get_index(index + k)
            for i in range(height):
                for j in range(width):
                    at = k + i * row + j * pixel
                    value = lanes_at(number, <int>(i * width + j), dz)
                    if x != NULL:
                        value = through_norm(value, (<const lanes*>(x + at))[0], norm)
                    elif add:
                        value = value + (<const lanes*>(dx + at))[0]
                    (<lanes*>(dx + at))[0] = value
        dout += pixel
        index += pixel
        dx += step
        if out != NULL:
            out += pixel
        if x != NULL:
            x += step
