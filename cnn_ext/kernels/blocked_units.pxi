# What stands between two convolutions in the blocked layout: batch normalisation, ReLU and max-pool, in one pass over
# memory forward, and two (one without batch norm) backward. Channels are lanes: a channel's mean is a vertical sum, a
# window's maximum a vertical maximum.
#
# Sums over a channel are taken in float over a row of pixels, and in double over the rows of a slot; slots are added in
# order. Variances are sums of squares around the mean of a row, merged by Chan, Golub and LeVeque's formula (1979), so a
# large mean costs no accuracy.

cdef extern from "lanes.h" nogil:
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

cdef bint alike(Blocks x, Blocks y):
    """Whether two Blocks have their values in the same places."""
    return x.shape == y.shape and x.lanes == y.lanes and x.batch == y.batch


cdef class Norm:
    """The statistics of a batch norm, and the coefficients that they give: arrays of whole channel blocks.

    Forward out = (x − mean) · scale + shift; backward dx = dout · a − (x − mean) · b − c. What rounding the mean to float
    lost, `rest`, is put back through shift and c, so that a large mean costs no accuracy.
    """
    cdef float[::1] mean, var, scale, shift, a, b, c, rest, weight, bias, dweight, dbias
    cdef double eps

    def __init__(
        self, float[:, ::1] memory not None, float[::1] weight not None, float[::1] bias not None,
        float[::1] dweight not None, float[::1] dbias not None, double eps,
    ):
        """memory : (8, channels in whole blocks). The others: (C,) each."""
        cdef Py_ssize_t c = weight.shape[0]
        if memory.shape[0] != 8 or not 1 <= c <= memory.shape[1] or not (
            c == bias.shape[0] == dweight.shape[0] == dbias.shape[0]
        ):
            raise ValueError("Norm: arrays of different lengths")
        self.mean, self.var, self.scale, self.shift = memory[0], memory[1], memory[2], memory[3]
        self.a, self.b, self.c, self.rest = memory[4], memory[5], memory[6], memory[7]
        self.weight, self.bias, self.dweight, self.dbias, self.eps = weight, bias, dweight, dbias, eps

    cdef bint fits(self, Blocks x):
        return self.weight.shape[0] == x.at.c and self.mean.shape[0] >= x.channel_blocks * x.lanes

    cdef check_statistics(self, Py_ssize_t mean, Py_ssize_t var):
        if not mean == var == self.weight.shape[0]:
            raise ValueError(f"Norm: statistics of {mean} and {var} channels, expected {self.weight.shape[0]}")

    def update(
        self, float[::1] running_mean not None, float[::1] running_var not None, double momentum, double count
    ):
        """The running statistics moved towards the batch's, whose variance is made unbiased."""
        cdef Py_ssize_t k
        self.check_statistics(running_mean.shape[0], running_var.shape[0])
        for k in range(self.weight.shape[0]):
            running_mean[k] = <float>((1 - momentum) * running_mean[k] + momentum * self.mean[k])
            running_var[k] = <float>((1 - momentum) * running_var[k] + momentum * self.var[k] * count / (count - 1))

    def use(self, const float[::1] running_mean not None, const float[::1] running_var not None):
        """Scale and shift from these statistics, as at inference."""
        cdef Py_ssize_t k
        self.check_statistics(running_mean.shape[0], running_var.shape[0])
        for k in range(self.mean.shape[0]):
            if k < self.weight.shape[0]:
                self.set_forward(k, running_mean[k], running_var[k])
            else:
                self.set_forward(k, 0, 1)

    cdef void set_forward(self, Py_ssize_t k, double mean, double var) noexcept nogil:
        cdef double scale
        self.mean[k], self.var[k] = <float>mean, <float>var
        self.rest[k] = <float>(mean - self.mean[k])
        if k < self.weight.shape[0]:
            scale = self.weight[k] / sqrt(var + self.eps)
            self.scale[k], self.shift[k] = <float>scale, <float>(self.bias[k] - self.rest[k] * scale)
        else:
            self.scale[k] = self.shift[k] = 0

    cdef void set_backward(self, Py_ssize_t k, double d, double e, double count) noexcept nogil:
        """From D = Σ dout and E = Σ dout · (x − mean), mean as rounded; the formulas are those of norm.pxi."""
        cdef double s, b
        if k < self.weight.shape[0]:
            s = 1 / sqrt(<double>self.var[k] + self.eps)
            e = e - d * self.rest[k]
            b = self.weight[k] * s * s * s * e / count
            self.dweight[k], self.dbias[k] = <float>(e * s), <float>d
            self.a[k], self.b[k] = <float>(self.weight[k] * s), <float>b
            self.c[k] = <float>(self.weight[k] * s * d / count - b * self.rest[k])
        else:
            self.a[k] = self.b[k] = self.c[k] = 0


cdef class NormStatistics(Slices):
    """The batch's mean and variance of each channel of x, and with them `norm`'s scale and shift."""
    cdef Blocks x
    cdef Norm norm
    cdef double[:, :, ::1] slots  # (slots, mean and Σ of squares around it, lanes)

    def __init__(self, Blocks x not None, Norm norm not None):
        if not norm.fits(x):
            raise ValueError("NormStatistics: x and norm do not belong together")
        self.x, self.norm, self.pieces = x, norm, Pieces(x, x.at.h)
        self.product, self.row_stride, self.apart = x, 1, True
        self.slots = numpy.zeros((self.pieces.count, 2, x.lanes))
        self.worth_threads = x.size > 100_000

    cdef void finish(self) noexcept nogil:
        cdef Py_ssize_t channel_block
        for channel_block in range(self.x.at.channel_blocks):
            self.merge(channel_block)

    cdef void slot(self, Py_ssize_t slot) noexcept nogil:
        cdef Layout* x = &self.x.at
        cdef Py_ssize_t block = self.pieces.block(slot), row = x.w * rows_of(x, block), p, v, i
        cdef Py_ssize_t first = self.pieces.first(slot)
        cdef double* mean = &self.slots[slot, 0, 0]
        cdef double* squares = &self.slots[slot, 1, 0]
        cdef double count, delta, lost, more
        cdef const float* at
        cdef float[LANE_WIDTH] sums
        cdef float[LANE_WIDTH] centre
        cdef float[LANE_WIDTH] around
        cdef double[LANE_WIDTH] means
        for p in range(first, self.pieces.last(slot)):
            at = block_at(x, block, self.pieces.channel_block(slot)) + p * row * x.lanes
            count = (p - first) * row
            for v in range(x.lanes // LANE_WIDTH):
                (<lanes*>&sums[0])[0] = column_sum(at + v * LANE_WIDTH, row, x.lanes)
                for i in range(LANE_WIDTH):
                    means[i] = at[v * LANE_WIDTH + i] + <double>sums[i] / row
                    centre[i] = <float>means[i]
                (<lanes*>&around[0])[0] = column_squares(at + v * LANE_WIDTH, row, x.lanes, (<lanes*>&centre[0])[0])
                for i in range(LANE_WIDTH):
                    lost = means[i] - centre[i]
                    more = around[i] - lost * lost * row
                    if more < 0:  # by rounding; NaN stays
                        more = 0
                    if count == 0:
                        mean[v * LANE_WIDTH + i], squares[v * LANE_WIDTH + i] = means[i], more
                    else:
                        delta = means[i] - mean[v * LANE_WIDTH + i]
                        mean[v * LANE_WIDTH + i] += delta * row / (count + row)
                        squares[v * LANE_WIDTH + i] += more + delta * delta * count * row / (count + row)

    cdef void merge(self, Py_ssize_t channel_block) noexcept nogil:
        cdef Py_ssize_t slot, k, first = channel_block * self.pieces.slots
        cdef double count, more, delta, mean, squares
        for k in range(self.x.lanes):
            count = mean = squares = 0
            for slot in range(first, first + self.pieces.slots):
                more = (self.pieces.last(slot) - self.pieces.first(slot)) * self.x.at.w * rows_of(
                    &self.x.at, self.pieces.block(slot))
                delta = self.slots[slot, 0, k] - mean
                mean = mean + delta * more / (count + more)
                squares = squares + self.slots[slot, 1, k] + delta * delta * count * more / (count + more)
                count = count + more
            self.norm.set_forward(channel_block * self.x.lanes + k, mean, squares / count)


cdef inline lanes column_sum(const float* x, Py_ssize_t n, Py_ssize_t stride) noexcept nogil:
    """Σ (x − the first x) of n lanes, `stride` floats apart, in four interleaved chains: a large mean costs nothing."""
    cdef lanes s0 = lanes_all(0), s1 = s0, s2 = s0, s3 = s0, first = (<const lanes*>x)[0]
    cdef Py_ssize_t i
    for i in range(n // 4):
        s0 = s0 + ((<const lanes*>x)[0] - first)
        s1 = s1 + ((<const lanes*>(x + stride))[0] - first)
        s2 = s2 + ((<const lanes*>(x + 2 * stride))[0] - first)
        s3 = s3 + ((<const lanes*>(x + 3 * stride))[0] - first)
        x += 4 * stride
    for i in range(n % 4):
        s0 = s0 + ((<const lanes*>(x + i * stride))[0] - first)
    return (s0 + s1) + (s2 + s3)


cdef inline lanes column_squares(const float* x, Py_ssize_t n, Py_ssize_t stride, lanes mean) noexcept nogil:
    """Σ (x − mean)² of n lanes, in two interleaved chains."""
    cdef lanes s0 = lanes_all(0), s1 = s0, d0, d1
    cdef Py_ssize_t i
    for i in range(n // 2):
        d0 = (<const lanes*>x)[0] - mean
        d1 = (<const lanes*>(x + stride))[0] - mean
        s0 = s0 + d0 * d0
        s1 = s1 + d1 * d1
        x += 2 * stride
    if n % 2:
        d0 = (<const lanes*>x)[0] - mean
        s0 = s0 + d0 * d0
    return s0 + s1


cdef struct PoolWindow:
    int kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w


cdef void set_window(PoolWindow* w, tuple sizes):
    w.kernel_h, w.kernel_w, w.stride_h, w.stride_w, w.pad_h, w.pad_w = sizes


cdef bint windows_apart(const PoolWindow* w) noexcept:
    return w.kernel_h <= w.stride_h and w.kernel_w <= w.stride_w and w.pad_h == w.pad_w == 0


cdef bint pools(const PoolWindow* w, const Layout* x, const Layout* out) noexcept:
    """Whether `out` has a pixel for each window of x, none of which lies in the padding alone."""
    return (
        axis_pools(w.kernel_h, w.stride_h, w.pad_h, x.h, out.h) and axis_pools(w.kernel_w, w.stride_w, w.pad_w, x.w, out.w)
        and x.n == out.n and x.c == out.c and x.lanes == out.lanes and x.batch == out.batch
    )


cdef bint axis_pools(Py_ssize_t kernel, Py_ssize_t stride, Py_ssize_t pad, Py_ssize_t size, Py_ssize_t out) noexcept:
    return 0 <= pad < kernel <= size + 2 * pad and stride >= 1 and out == (size + 2 * pad - kernel) // stride + 1


cdef struct Windows:  # neighbouring ones of equal size: what of the first lies inside, and how many
    Py_ssize_t top, left, height, width, count


cdef Windows windows_at(
    const PoolWindow* w, const Layout* x, Py_ssize_t out_w, Py_ssize_t p, Py_ssize_t q
) noexcept nogil:
    """Window (p, q) and those after it in its row that are as large."""
    cdef Py_ssize_t top = p * w.stride_h - w.pad_h, left = q * w.stride_w - w.pad_w
    cdef Windows found
    found.top, found.left = max(top, 0), max(left, 0)
    found.height = min(top + w.kernel_h, x.h) - found.top
    found.width = min(left + w.kernel_w, x.w) - found.left
    found.count = 1
    if found.width == w.kernel_w:
        found.count = min((x.w + w.pad_w - w.kernel_w) // w.stride_w + 1, out_w) - q
    return found


cdef bint indexes(const uint8_t[::1] index, const PoolWindow* w, Blocks out):
    """Whether an index has a byte for each value of `out`, and a byte numbers the pixels of a window."""
    return index.shape[0] >= out.size and <Py_ssize_t>w.kernel_h * w.kernel_w <= 256


cdef class Unit(Slices):
    """out = max over windows of relu((x − mean) · scale + shift), each part as asked for; in one pass over x.

    index : with a window of more than one pixel, which of them was the maximum, a byte a value in out's order.
    picked : x where the maximum was, for a batch norm's backward pass; like out, or None.
    """
    cdef Blocks x, out, picked
    cdef Norm norm
    cdef bint relu
    cdef PoolWindow window
    cdef uint8_t[::1] index

    def __init__(
        self, Blocks x not None, Blocks out not None, Norm norm, bint relu, tuple window not None, uint8_t[::1] index,
        Blocks picked,
    ):
        """window : (KH, KW, SH, SW, PH, PW)."""
        self.x, self.out, self.norm, self.relu, self.index, self.picked = x, out, norm, relu, index, picked
        set_window(&self.window, window)
        self.pieces = Pieces(out, out.at.h)
        self.product, self.row_stride, self.apart = x, self.window.stride_h, windows_apart(&self.window)
        self.worth_threads = x.size > 100_000
        if (
            not pools(&self.window, &x.at, &out.at) or (norm is not None and not norm.fits(x))
            or (index is not None and not indexes(index, &self.window, out))
            or (picked is not None and not alike(picked, out))
        ):
            raise ValueError("Unit: x, out, norm, window, index and picked do not belong together")

    cdef void slot(self, Py_ssize_t slot) noexcept nogil:
        cdef Py_ssize_t p, q, first = self.pieces.first(slot), last = self.pieces.last(slot)
        cdef Py_ssize_t block = self.pieces.block(slot), cb = self.pieces.channel_block(slot)
        cdef PoolWindow* w = &self.window
        if w.kernel_h * w.kernel_w == 1 and w.stride_h * w.stride_w == 1:
            self.pixels(block, cb, first * self.x.at.w, last * self.x.at.w)
            return
        for p in range(first, last):
            q = 0
            while q < self.out.at.w:
                q += self.maxima(block, cb, p, q)

    cdef void pixels(self, Py_ssize_t block, Py_ssize_t cb, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
        """Where there is nothing to pool: pixels first … last − 1."""
        cdef Py_ssize_t lanes_each = self.x.lanes, pixel = rows_of(&self.x.at, block) * lanes_each, k, v
        cdef const float* x = block_at(&self.x.at, block, cb) + first * pixel
        cdef float* out = block_at(&self.out.at, block, cb) + first * pixel
        cdef lanes mean, scale, shift, value
        for v in range(lanes_each // LANE_WIDTH):
            if self.norm is None:
                for k in range((last - first) * pixel // lanes_each):
                    value = (<const lanes*>(x + k * lanes_each))[0]
                    (<lanes*>(out + k * lanes_each))[0] = lanes_relu(value) if self.relu else value
            else:
                mean = (<lanes*>&self.norm.mean[cb * lanes_each + v * LANE_WIDTH])[0]
                scale = (<lanes*>&self.norm.scale[cb * lanes_each + v * LANE_WIDTH])[0]
                shift = (<lanes*>&self.norm.shift[cb * lanes_each + v * LANE_WIDTH])[0]
                for k in range((last - first) * pixel // lanes_each):
                    value = ((<const lanes*>(x + k * lanes_each))[0] - mean) * scale + shift
                    (<lanes*>(out + k * lanes_each))[0] = lanes_relu(value) if self.relu else value
            x += LANE_WIDTH
            out += LANE_WIDTH

    cdef Py_ssize_t maxima(self, Py_ssize_t block, Py_ssize_t cb, Py_ssize_t p, Py_ssize_t q) noexcept nogil:
        """Pixel q of row p of out and those after it whose windows are as large. Returns how many."""
        cdef int n = rows_of(&self.x.at, block), relu = self.relu
        cdef Py_ssize_t each = self.x.lanes, pixel = n * each, row = self.x.at.w * pixel, v
        cdef Py_ssize_t step = self.window.stride_w * pixel
        cdef Py_ssize_t to = block_at(&self.out.at, block, cb) - self.out.at.data + (p * self.out.at.w + q) * pixel
        cdef Windows w = windows_at(&self.window, &self.x.at, self.out.at.w, p, q)
        cdef const float* x = block_at(&self.x.at, block, cb) + w.top * row + w.left * pixel
        cdef float* out = self.out.at.data + to
        cdef float* picked = NULL
        cdef uint8_t* index = NULL
        cdef lanes mean = lanes_all(0), scale = lanes_all(1), shift = lanes_all(0)
        if self.index is not None:
            index = &self.index[to]
        if self.picked is not None:
            picked = self.picked.at.data + to
        for v from 0 <= v < each by LANE_WIDTH:
            if self.norm is not None:
                mean = (<lanes*>&self.norm.mean[cb * each + v])[0]
                scale = (<lanes*>&self.norm.scale[cb * each + v])[0]
                shift = (<lanes*>&self.norm.shift[cb * each + v])[0]
            # Two by two is by far the most frequent: constant counts.
            if self.norm is None and index == NULL and picked == NULL:
                if w.height == 2 and w.width == 2:
                    maximum(x + v, row, pixel, 2, 2, w.count, step, n, each, relu, out + v)
                else:
                    maximum(x + v, row, pixel, w.height, w.width, w.count, step, n, each, relu, out + v)
            elif w.height == 2 and w.width == 2:
                pool(x + v, row, pixel, 2, 2, w.count, step, n, each, mean, scale, shift, relu, out + v, index, picked)
            else:
                pool(
                    x + v, row, pixel, w.height, w.width, w.count, step, n, each, mean, scale, shift, relu, out + v, index,
                    picked)
            if index != NULL:
                index += LANE_WIDTH
            if picked != NULL:
                picked += LANE_WIDTH
        return w.count


cdef inline void pool(
    const float* x, Py_ssize_t row, Py_ssize_t pixel, Py_ssize_t height, Py_ssize_t width, Py_ssize_t count,
    Py_ssize_t step, int n, Py_ssize_t each, lanes mean, lanes scale, lanes shift, bint relu, float* out, uint8_t* index,
    float* picked,
) noexcept nogil:
    """Unit for `count` windows of height × width pixels, `step` floats apart, and LANE_WIDTH channels of n images, which lie
    `each` floats apart."""
    cdef lanes original, value, best, picked_there
    cdef lane_flags number, beats
    cdef Py_ssize_t q, k, i, j
    for q in range(count):
        for k from 0 <= k < n * each by each:
            picked_there = (<const lanes*>(x + k))[0]
            best = (picked_there - mean) * scale + shift
            number = lanes_index(0)
            for i in range(height):
                for j in range(width):
                    if i + j > 0:
                        original = (<const lanes*>(x + k + i * row + j * pixel))[0]
                        value = (original - mean) * scale + shift
                        beats = lanes_beat(value, best)
                        lanes_put(beats, value, &best)
                        lanes_put(beats, original, &picked_there)
                        lanes_put_number(beats, <int>(i * width + j), &number)
            if index != NULL:
                lanes_put_index(index + k, number)
            if picked != NULL:
                # x itself: scale may be zero, so that it cannot be had from the output.
                (<lanes*>(picked + k))[0] = picked_there
            (<lanes*>(out + k))[0] = lanes_relu(best) if relu else best
        x += step
        out += pixel
        if index != NULL:
            index += pixel
        if picked != NULL:
            picked += pixel


cdef inline void maximum(
    const float* x, Py_ssize_t row, Py_ssize_t pixel, Py_ssize_t height, Py_ssize_t width, Py_ssize_t count,
    Py_ssize_t step, int n, Py_ssize_t each, bint relu, float* out,
) noexcept nogil:
    """`pool` without a norm, of which nothing need be known but the maximum."""
    cdef lanes value, best
    cdef Py_ssize_t q, k, i, j
    for q in range(count):
        for k from 0 <= k < n * each by each:
            best = (<const lanes*>(x + k))[0]
            for i in range(height):
                for j in range(width):
                    if i + j > 0:
                        value = (<const lanes*>(x + k + i * row + j * pixel))[0]
                        lanes_put(lanes_beat(value, best), value, &best)
            (<lanes*>(out + k))[0] = lanes_relu(best) if relu else best
        x += step
        out += pixel


cdef class ChannelSums(Slices):
    """Of dz, which is dout where out > 0 if `relu`, else dout: D = Σ dz and, with a `norm`, E = Σ dz · (x − mean).

    x : like out, the values before batch norm (where a pool had its maxima). They become the norm's coefficients and the
    gradients of its weight and bias; without a norm, D becomes `dbias` (C,).
    """
    cdef Blocks dout, out, x
    cdef Norm norm
    cdef bint relu
    cdef float[::1] dbias
    cdef double count
    cdef double[:, :, ::1] slots  # (slots, D and E, lanes)

    def __init__(
        self, Blocks dout not None, Blocks out, bint relu, Norm norm, Blocks x, double count, float[::1] dbias
    ):
        """count : values of a channel that the norm's mean was taken over."""
        if (
            (relu and out is None) or (out is not None and not alike(out, dout))
            or (x is not None and not alike(x, dout))
            or (norm is None and (dbias is None or dbias.shape[0] != dout.at.c))
            or (norm is not None and (x is None or not norm.fits(dout) or not count >= 1))
        ):
            raise ValueError("ChannelSums: dout, out, norm, x and dbias do not belong together")
        self.dout, self.out, self.relu, self.norm, self.x = dout, out, relu, norm, x
        self.dbias, self.count, self.pieces = dbias, count, Pieces(dout, dout.at.h)
        self.slots = numpy.zeros((self.pieces.count, 2, dout.lanes))
        self.worth_threads = dout.size > 100_000

    cdef void finish(self) noexcept nogil:
        cdef Py_ssize_t slot, cb, k, first
        cdef double d, e
        for cb in range(self.dout.at.channel_blocks):
            first = cb * self.pieces.slots
            for k in range(self.dout.lanes):
                d = e = 0
                for slot in range(first, first + self.pieces.slots):
                    d = d + self.slots[slot, 0, k]
                    e = e + self.slots[slot, 1, k]
                if self.norm is not None:
                    self.norm.set_backward(cb * self.dout.lanes + k, d, e, self.count)
                elif cb * self.dout.lanes + k < self.dbias.shape[0]:
                    self.dbias[cb * self.dout.lanes + k] = <float>d

    cdef void slot(self, Py_ssize_t slot) noexcept nogil:
        cdef Py_ssize_t block = self.pieces.block(slot), cb = self.pieces.channel_block(slot), each = self.dout.lanes
        cdef Py_ssize_t row = self.dout.at.w * rows_of(&self.dout.at, block), p, v, k, at, i
        cdef lanes d, e, dz, mean = lanes_all(0)
        cdef float[LANE_WIDTH] ds
        cdef float[LANE_WIDTH] es
        for v in range(each // LANE_WIDTH):
            for i in range(LANE_WIDTH):
                self.slots[slot, 0, v * LANE_WIDTH + i] = self.slots[slot, 1, v * LANE_WIDTH + i] = 0
            if self.norm is not None:
                mean = (<lanes*>&self.norm.mean[cb * each + v * LANE_WIDTH])[0]
            for p in range(self.pieces.first(slot), self.pieces.last(slot)):
                at = block_at(&self.dout.at, block, cb) - self.dout.at.data + p * row * each + v * LANE_WIDTH
                d = e = lanes_all(0)
                for k in range(row):
                    dz = (<const lanes*>(self.dout.at.data + at))[0]
                    if self.relu:
                        dz = lanes_where_positive((<const lanes*>(self.out.at.data + at))[0], dz)
                    d = d + dz
                    if self.norm is not None:
                        e = e + dz * ((<const lanes*>(self.x.at.data + at))[0] - mean)
                    at += each
                (<lanes*>&ds[0])[0] = d
                (<lanes*>&es[0])[0] = e
                for i in range(LANE_WIDTH):
                    self.slots[slot, 0, v * LANE_WIDTH + i] += ds[i]
                    self.slots[slot, 1, v * LANE_WIDTH + i] += es[i]


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

    cdef void slot(self, Py_ssize_t slot) noexcept nogil:
        cdef Layout* x = &self.dx.at
        cdef PoolWindow* w = &self.window
        cdef Py_ssize_t block = self.pieces.block(slot), cb = self.pieces.channel_block(slot), first, p, q
        cdef Py_ssize_t pixel = rows_of(x, block) * x.lanes
        cdef float* dx = block_at(x, block, cb)
        if self.apart:
            first = self.pieces.first(slot)
            self.rows(block, cb, first, self.pieces.last(slot), dx + first * w.stride_h * x.w * pixel)
            return
        memset(dx, 0, x.h * x.w * pixel * sizeof(float))  # a slot is all rows
        for p in range(self.dout.at.h):
            q = 0
            while q < self.dout.at.w:
                q += self.scatter(block, cb, p, q, dx, 0)

    cdef void rows(
        self, Py_ssize_t block, Py_ssize_t cb, Py_ssize_t first, Py_ssize_t last, float* dx
    ) noexcept nogil:
        """Rows first … last − 1 of dout, whose windows are apart; `dx` is the first row that they go to."""
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
        cdef Py_ssize_t each = self.dx.lanes, pixel = rows_of(&self.dx.at, block) * each, v, k
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
        cdef int n = rows_of(&self.dx.at, block)
        cdef Py_ssize_t each = self.dx.lanes, pixel = n * each, row = self.dx.at.w * pixel, v
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
                    self.dout.at.data + source + v, out, &self.index[source + v], n, each, x, &norm, row, pixel, 2, 2,
                    w.count, step, not self.apart, dx + v)
            else:
                spread(
                    self.dout.at.data + source + v, out, &self.index[source + v], n, each, x, &norm, row, pixel, w.height,
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

    cdef Py_ssize_t most_rows(self):
        """Of dx, that one row of dout goes to."""
        return max(self.window.stride_h, self.dx.at.h - (self.dout.at.h - 1) * self.window.stride_h)

    cdef void norm_back(self, Py_ssize_t channel, NormBack* norm) noexcept nogil:
        norm.a, norm.b = (<lanes*>&self.norm.a[channel])[0], (<lanes*>&self.norm.b[channel])[0]
        norm.c, norm.mean = (<lanes*>&self.norm.c[channel])[0], (<lanes*>&self.norm.mean[channel])[0]


cdef struct NormBack:  # a norm's coefficients of LANE_WIDTH channels
    lanes a, b, c, mean


cdef inline lanes through_norm(lanes dz, lanes x, const NormBack* norm) noexcept nogil:
    return dz * norm.a - (x - norm.mean) * norm.b - norm.c


cdef inline void spread(
    const float* dout, const float* out, const uint8_t* index, int n, Py_ssize_t each, const float* x, const NormBack* norm,
    Py_ssize_t row, Py_ssize_t pixel, Py_ssize_t height, Py_ssize_t width, Py_ssize_t count, Py_ssize_t step, bint add,
    float* dx,
) noexcept nogil:
    """UnitBackward for `count` windows of height × width pixels, `step` floats apart, and LANE_WIDTH channels of n images,
    `each` floats apart.

    out: NULL without ReLU; x: NULL without a norm. add: to what dx holds.
    """
    cdef lanes dz, value
    cdef lane_flags number
    cdef Py_ssize_t q, k, i, j, at
    for q in range(count):
        for k from 0 <= k < n * each by each:
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


cdef class Activation(Step):
    """out = f(x), or with a dout (as x is) dx = dout · f′(x) in `out`; `function` and the slope as activation_forward's."""
    cdef float[::1] x, dout, out
    cdef int function
    cdef float negative_slope

    def __init__(self, int function, Blocks x not None, Blocks dout, Blocks out not None, float negative_slope):
        if not alike(x, out) or (dout is not None and not alike(dout, x)):
            raise ValueError("Activation: arrays of different shapes")
        if function not in ACTIVATIONS.values():
            raise ValueError(f"Activation: there is no function {function}")
        self.function, self.negative_slope, self.x, self.out = function, negative_slope, x.flat, out.flat
        self.dout = None if dout is None else dout.flat
        self.worth_threads = x.size > 100_000

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
        self.x, self.y, self.out, self.product = x.flat, y.flat, out.flat, product
        if not (alike(x, y) and alike(x, out)):
            raise ValueError("Combine: arrays of different shapes")
        self.worth_threads = x.size > 100_000

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
