# Convolution and the fully-connected layer in the blocked layout, forward and back to the input: both gather, at every
# pixel of the output, products of input pixels with taps of the weight.
#
# What is gathered there is a list of terms; pixels away from the border have equal lists. The caller makes the lists
# (cnn_ext/blocked.py): pixel (p, q) uses list row_class[p] · n_column_classes + column_class[q], whose x offsets count from
# input pixel (row_first[p], column_first[q]). A task owns a range of output blocks, batch blocks and rows. It goes through
# the terms in chunks whose weights stay in the first-level cache, and through all of its pixels within a chunk.

cdef extern from "blocks.h" nogil:
    gather_rows gather_16_blocked_16
    gather_rows gather_16_blocked_8
    gather_rows gather_16_image
    gather_rows gather_16_listed
    gather_rows gather_8_blocked_16
    gather_rows gather_8_blocked_8
    gather_rows gather_8_image


cdef class Terms:
    """The lists of terms of all pixels: `terms` (T, 3) int32 of x, w and k, list l being first[l] … first[l + 1] − 1."""
    cdef const int[:, ::1] terms
    cdef const Py_ssize_t[::1] first, row_class, row_first, column_class, column_first
    cdef Py_ssize_t n_column_classes, most

    def __init__(
        self, const int[:, ::1] terms, const Py_ssize_t[::1] first,
        const Py_ssize_t[::1] row_class, const Py_ssize_t[::1] row_first,
        const Py_ssize_t[::1] column_class, const Py_ssize_t[::1] column_first,
    ):
        self.terms, self.first, self.row_class, self.row_first = terms, first, row_class, row_first
        self.column_class, self.column_first = column_class, column_first
        self.n_column_classes = max(column_class) + 1
        self.most = max(first[i + 1] - first[i] for i in range(first.shape[0] - 1))


cdef class Gather(Step):
    """out[p, q] = start + Σ x · w over the pixel's terms; ReLU where `relu`.

    x : Blocks or Image. packed : as PackWeights makes it. bias : out's channels, whole blocks, or None.
    chunks : pieces that the terms are taken in. per_task : output blocks, batch blocks and rows of a task.
    """
    cdef Blocks out
    cdef Blocks x_blocks
    cdef Image x_image
    cdef float[::1] packed, bias
    cdef Terms terms
    cdef Py_ssize_t width, c, out_block, chunks, per_f, per_batch, per_rows, tasks_f, tasks_batch, tasks_rows
    cdef int start, finish
    cdef gather_rows kernel

    def __init__(
        self, x, float[::1] packed, float[::1] bias, Blocks out, Terms terms, Py_ssize_t out_block, bint relu,
        Py_ssize_t chunks, tuple per_task,
    ):
        self.out, self.packed, self.bias, self.terms, self.out_block = out, packed, bias, terms, out_block
        self.chunks = chunks
        self.per_f, self.per_batch, self.per_rows = per_task
        self.tasks_f = blocks(out.at.channel_blocks, self.per_f)
        self.tasks_batch, self.tasks_rows = blocks(out.at.batch_blocks, self.per_batch), blocks(out.at.h, self.per_rows)
        self.start, self.finish = 0 if bias is None else FROM_BIAS, WITH_RELU if relu else 0
        if isinstance(x, Image):
            self.x_image, self.width, self.c = x, (<Image>x).at.w, (<Image>x).at.c
            self.kernel = gather_16_image if out.lanes == 16 else gather_8_image
        else:
            self.x_blocks, self.width, self.c = x, (<Blocks>x).at.w, 1
            if out.lanes == 16:
                self.kernel = gather_16_blocked_16 if x.lanes == 16 else gather_16_blocked_8
            else:
                self.kernel = gather_8_blocked_16 if x.lanes == 16 else gather_8_blocked_8
        if bias is not None and bias.shape[0] < out.channel_blocks * out.lanes:
            raise ValueError("Gather: the bias does not fill out's blocks")
        if packed.shape[0] < out.channel_blocks * out_block:
            raise ValueError("Gather: the packed weights do not fill out's blocks")
        self.worth_threads = out.size * terms.most > 10_000

    cdef void run(self, int n_threads) noexcept nogil:
        cdef Py_ssize_t task
        for task in prange(
            self.tasks_f * self.tasks_batch * self.tasks_rows, schedule="dynamic", num_threads=n_threads
        ):
            self.gather(
                task // (self.tasks_batch * self.tasks_rows), task // self.tasks_rows % self.tasks_batch,
                task % self.tasks_rows,
            )

    cdef void gather(self, Py_ssize_t task_f, Py_ssize_t task_batch, Py_ssize_t task_row) noexcept nogil:
        cdef Layout* out = &self.out.at
        cdef const pynn_term* terms = <const pynn_term*>&self.terms.terms[0, 0]
        cdef const float* x
        cdef const float* bias = NULL
        cdef Py_ssize_t chunk, f, block, p, q, which, first, count, begin, end, pixel
        cdef Py_ssize_t f_end = min((task_f + 1) * self.per_f, out.channel_blocks)
        cdef Py_ssize_t batch_end = min((task_batch + 1) * self.per_batch, out.batch_blocks)
        cdef Py_ssize_t row_end = min((task_row + 1) * self.per_rows, out.h)
        cdef int flags, rows
        for chunk in range(self.chunks):
            flags = (self.start if chunk == 0 else FROM_OUT) | (self.finish if chunk == self.chunks - 1 else 0)
            for f in range(task_f * self.per_f, f_end):
                if self.start:
                    bias = &self.bias[0] + f * out.lanes
                for block in range(task_batch * self.per_batch, batch_end):
                    rows = rows_of(out, block)
                    if self.x_image is not None:
                        x, pixel = image_at(&self.x_image.at, block), BATCH * self.c
                    else:
                        x, pixel = block_at(&self.x_blocks.at, block, 0), rows * self.x_blocks.lanes
                    for p in range(task_row * self.per_rows, row_end):
                        for q in range(out.w):
                            which = (
                                self.terms.row_class[p] * self.terms.n_column_classes + self.terms.column_class[q])
                            first = self.terms.first[which]
                            count = self.terms.first[which + 1] - first
                            begin, end = count * chunk // self.chunks, count * (chunk + 1) // self.chunks
                            self.kernel(
                                rows,
                                x + (self.terms.row_first[p] * self.width + self.terms.column_first[q]) * pixel, NULL,
                                pixel, terms + first + begin, end - begin, &self.packed[0] + f * self.out_block, bias,
                                flags, block_at(out, block, f) + (p * out.w + q) * rows * out.lanes,
                            )
