# Batch normalisation's statistics in the blocked layout, forward and backward. Channels are lanes: a channel's mean is a
# vertical sum.
#
# Sums over a channel are taken in float over a row of pixels, and in double over the rows of a slot; slots are added in
# order. Variances are sums of squares around the mean of a row, merged by Chan, Golub and LeVeque's formula (1979), so a
# large mean costs no accuracy.

cdef class Norm:
    """The statistics of a batch norm, and the coefficients that they give: arrays of whole channel blocks.

    Forward out = (x − mean) · scale + shift; backward dx = dout · a − (x − mean) · b − c. What rounding the mean to float
    lost, `rest`, is put back through shift and c, so that a large mean costs no accuracy.
    """
    cdef float[::1] mean, var, scale, shift, a, b, c, rest, weight, bias, dweight, dbias
    cdef double eps

    def __cinit__(
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
        self.bound = False
        if not norm.fits(x):
            raise ValueError("NormStatistics: x and norm do not belong together")
        self.x, self.norm, self.pieces = x, norm, Pieces(x, x.at.h)
        self.product, self.row_stride, self.apart = x, 1, True
        self.slots = numpy.zeros((self.pieces.count, 2, x.lanes))
        self.worth_threads = x.size > 100_000
        self.bound = True

    cdef void finish(self) noexcept nogil:
        cdef Py_ssize_t channel_block
        for channel_block in range(self.x.at.channel_blocks):
            self.merge(channel_block)

    cdef void rows(self, Py_ssize_t slot, Py_ssize_t first, Py_ssize_t last, float* x) noexcept nogil:
        """Rows of a slot come in their order."""
        cdef Py_ssize_t row = self.x.at.w * rows_of(&self.x.at, self.pieces.block(slot)), each = self.x.lanes, p, v, i
        cdef double* mean = &self.slots[slot, 0, 0]
        cdef double* squares = &self.slots[slot, 1, 0]
        cdef double count, delta, lost, more, weight
        cdef float[LANE_WIDTH] sums
        cdef float[LANE_WIDTH] centre
        cdef float[LANE_WIDTH] around
        cdef double[LANE_WIDTH] means
        for p in range(first, last):
            count = (p - self.pieces.first(slot)) * row
            weight = row / (count + row)  # of the row among those that came
            for v from 0 <= v < each by LANE_WIDTH:
                (<lanes*>&sums[0])[0] = column_sum(x + v, row, each)
                for i in range(LANE_WIDTH):
                    means[i] = x[v + i] + sums[i] * (1 / <double>row)
                    centre[i] = <float>means[i]
                (<lanes*>&around[0])[0] = column_squares(x + v, row, each, (<lanes*>&centre[0])[0])
                for i in range(LANE_WIDTH):
                    lost = means[i] - centre[i]
                    more = around[i] - lost * lost * row
                    if more < 0:  # by rounding; NaN stays
                        more = 0
                    if count == 0:
                        mean[v + i], squares[v + i] = means[i], more
                    else:
                        delta = means[i] - mean[v + i]
                        mean[v + i] += delta * weight
                        squares[v + i] += more + delta * delta * count * weight
            x += row * each

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
    """Σ (x − mean)² of n lanes, in four interleaved chains."""
    cdef lanes s0 = lanes_all(0), s1 = s0, s2 = s0, s3 = s0, d0, d1, d2, d3
    cdef Py_ssize_t i
    for i in range(n // 4):
        d0 = (<const lanes*>x)[0] - mean
        d1 = (<const lanes*>(x + stride))[0] - mean
        d2 = (<const lanes*>(x + 2 * stride))[0] - mean
        d3 = (<const lanes*>(x + 3 * stride))[0] - mean
        s0 = s0 + d0 * d0
        s1 = s1 + d1 * d1
        s2 = s2 + d2 * d2
        s3 = s3 + d3 * d3
        x += 4 * stride
    for i in range(n % 4):
        d0 = (<const lanes*>(x + i * stride))[0] - mean
        s0 = s0 + d0 * d0
    return (s0 + s1) + (s2 + s3)


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
        self.bound = False
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
        self.bound = True

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
        cdef Py_ssize_t row = self.dout.at.w * rows_of(&self.dout.at, block), p, v, at, i
        cdef lanes d, e, mean = lanes_all(0)
        cdef float[LANE_WIDTH] ds
        cdef float[LANE_WIDTH] es
        for v in range(each // LANE_WIDTH):
            for i in range(LANE_WIDTH):
                self.slots[slot, 0, v * LANE_WIDTH + i] = self.slots[slot, 1, v * LANE_WIDTH + i] = 0
            if self.norm is not None:
                mean = (<lanes*>&self.norm.mean[cb * each + v * LANE_WIDTH])[0]
            for p in range(self.pieces.first(slot), self.pieces.last(slot)):
                at = block_at(&self.dout.at, block, cb) - self.dout.at.data + p * row * each + v * LANE_WIDTH
                gradient_sums(
                    self.dout.at.data + at, self.out.at.data + at if self.relu else NULL,
                    self.x.at.data + at if self.norm is not None else NULL, mean, row, each, &d, &e)
                (<lanes*>&ds[0])[0] = d
                (<lanes*>&es[0])[0] = e
                for i in range(LANE_WIDTH):
                    self.slots[slot, 0, v * LANE_WIDTH + i] += ds[i]
                    self.slots[slot, 1, v * LANE_WIDTH + i] += es[i]


cdef inline void gradient_sums(
    const float* dout, const float* out, const float* x, lanes mean, Py_ssize_t n, Py_ssize_t stride, lanes* d, lanes* e
) noexcept nogil:
    """Σ dz and Σ dz · (x − mean) of n lanes, `stride` floats apart, in four interleaved chains. out: NULL without ReLU; x: NULL
    for no second sum."""
    cdef lanes[4] ds
    cdef lanes[4] es
    cdef lanes dz
    cdef Py_ssize_t i, chain
    for chain in range(4):
        ds[chain] = es[chain] = lanes_all(0)
    for i in range(n // 4):
        for chain in range(4):
            dz = (<const lanes*>(dout + (4 * i + chain) * stride))[0]
            if out != NULL:
                dz = lanes_where_positive((<const lanes*>(out + (4 * i + chain) * stride))[0], dz)
            ds[chain] = ds[chain] + dz
            if x != NULL:
                es[chain] = es[chain] + dz * ((<const lanes*>(x + (4 * i + chain) * stride))[0] - mean)
    for i in range(n - n % 4, n):
        dz = (<const lanes*>(dout + i * stride))[0]
        if out != NULL:
            dz = lanes_where_positive((<const lanes*>(out + i * stride))[0], dz)
        ds[0] = ds[0] + dz
        if x != NULL:
            es[0] = es[0] + dz * ((<const lanes*>(x + i * stride))[0] - mean)
    d[0] = (ds[0] + ds[1]) + (ds[2] + ds[3])
    e[0] = (es[0] + es[1]) + (es[2] + es[3])
