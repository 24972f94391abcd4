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
    gather_rows gather_8_blocked_16
    gather_rows gather_8_blocked_8
    gather_rows gather_8_image
    gather_rows gather_8x3_blocked_16
    gather_rows gather_8x3_blocked_8
    gather_rows gather_8x3_image

cdef enum:
    GROUP = 48  # images at a time, at most: eight tiles of six, between which what comes next is fetched


cdef class Terms:
    """The lists of terms of all pixels: `terms` (T, 3) int32 of x, w and k, list l being first[l] … first[l + 1] − 1."""
    cdef const int[:, ::1] terms
    cdef const Py_ssize_t[::1] first, row_class, row_first, column_class, column_first
    cdef Py_ssize_t n_column_classes, most

    def __init__(
        self, const int[:, ::1] terms not None, const Py_ssize_t[::1] first not None,
        const Py_ssize_t[::1] row_class not None, const Py_ssize_t[::1] row_first not None,
        const Py_ssize_t[::1] column_class not None, const Py_ssize_t[::1] column_first not None,
    ):
        cdef Py_ssize_t lists = (max(row_class) + 1) * (max(column_class) + 1)
        if (
            terms.shape[1] != 3 or first.shape[0] != lists + 1 or min(*row_class, *column_class, first[0]) < 0
            or row_first.shape[0] != row_class.shape[0] or column_first.shape[0] != column_class.shape[0]
            or any(first[i] > first[i + 1] for i in range(lists)) or first[lists] > terms.shape[0]
        ):
            raise ValueError("Terms: lists, classes and places do not belong together")
        self.terms, self.first, self.row_class, self.row_first = terms, first, row_class, row_first
        self.column_class, self.column_first = column_class, column_first
        self.n_column_classes = max(column_class) + 1
        self.most = max(first[i + 1] - first[i] for i in range(first.shape[0] - 1))


    cdef bint fit(
        self, const Layout* out, Py_ssize_t width, Py_ssize_t pixels, Py_ssize_t c, Py_ssize_t most, Py_ssize_t weights
    ):
        """Whether all terms of out's pixels lie within `pixels` of x, `width` in a row, of c values each, and within so many
        weights; none being longer than `most`."""
        cdef Py_ssize_t p, q, which, t, place
        if self.row_class.shape[0] != out.h or self.column_class.shape[0] != out.w:
            return False
        for t in range(self.first[self.first.shape[0] - 1]):
            if not 0 <= self.terms[t, 2] <= most:
                return False
            if self.terms[t, 1] < 0 or self.terms[t, 1] + self.terms[t, 2] * out.lanes > weights:
                return False
        for p in range(out.h):
            for q in range(out.w):
                which = self.row_class[p] * self.n_column_classes + self.column_class[q]
                for t in range(self.first[which], self.first[which + 1]):
                    place = self.row_first[p] * width + self.column_first[q] + self.terms[t, 0]
                    if place < 0 or place * c + self.terms[t, 2] > pixels * c:
                        return False
        return True


cdef struct Range:
    Py_ssize_t first, last


cdef class Gather(Step):
    """out[p, q] = start + Σ x · w over the pixel's terms; ReLU where `relu`.

    x : Blocks or Image. weights : how they are packed, and where. bias : out's channels, whole blocks, or None. chunks :
    pieces that the terms are taken in. per_task : output blocks, rows and groups of images of a task; a group is a block of x
    or of out, whichever is smaller, or a part of it. A task with three blocks of eight channels, all there are, has a tile for
    them.
    """
    cdef Blocks out, x_blocks
    cdef Image x_image
    cdef PackWeights weights
    cdef float[::1] bias
    cdef Terms terms
    cdef const Py_ssize_t[::1] cuts  # of list l, where its chunks begin and end: cuts[l · (chunks + 1)] …
    cdef const Py_ssize_t[:, ::1] places  # of groups of images: first pixel in x and the floats of one, the same of out
    cdef Py_ssize_t width, c, chunks, group, groups, together
    cdef Py_ssize_t each_f, per_f, per_rows, per_groups, tasks_f, tasks_rows, tasks_groups
    cdef bint one_pixel
    cdef Slices then
    cdef object rows_scratch  # for the rows that `then` alone reads; None where `out` is to hold them
    cdef float[::1] rows_memory
    cdef Py_ssize_t rows_each  # floats of a thread's
    cdef int start, finish
    cdef const float* x_data
    cdef gather_rows kernel

    def __init__(
        self, x not None, PackWeights weights not None, float[::1] bias, Blocks out not None,
        Terms terms not None, bint relu, Py_ssize_t chunks, tuple per_task not None,
    ):
        if chunks < 1 or min(per_task) < 1:
            raise ValueError("Gather: empty tasks")
        self.out, self.weights, self.bias = out, weights, bias
        self.terms, self.chunks = terms, chunks
        self.start, self.finish = 0 if bias is None else FROM_BIAS, WITH_RELU if relu else 0
        self.each_f = 3 if out.lanes == 8 and out.channel_blocks == 3 and per_task[0] == 3 else 1
        self.group = min(out.at.batch, <Py_ssize_t>GROUP)
        if isinstance(x, Image):
            self.x_image, self.width, self.c = x, (<Image>x).at.w, (<Image>x).at.c
            self.x_data = self.x_image.at.data
            self.kernel = gather_16_image if out.lanes == 16 else gather_8x3_image if self.each_f == 3 else gather_8_image
            self.group = min(self.group, <Py_ssize_t>BATCH)
        else:
            self.x_blocks, self.width, self.c = x, (<Blocks>x).at.w, 1
            self.x_data = self.x_blocks.at.data
            self.group = min(self.group, self.x_blocks.at.batch)
            self.one_pixel = out.at.h * out.at.w == 1 or self.x_blocks.at.h * self.x_blocks.at.w == 1
            if out.lanes == 16:
                self.kernel = gather_16_blocked_16 if x.lanes == 16 else gather_16_blocked_8
            elif self.each_f == 3:
                self.kernel = gather_8x3_blocked_16 if x.lanes == 16 else gather_8x3_blocked_8
            else:
                self.kernel = gather_8_blocked_16 if x.lanes == 16 else gather_8_blocked_8
        self.groups, self.together = blocks(out.at.n, self.group), GROUP // self.group
        self.per_f, self.per_rows, self.per_groups = per_task
        self.tasks_f, self.tasks_rows = blocks(out.at.channel_blocks, self.per_f), blocks(out.at.h, self.per_rows)
        self.tasks_groups = blocks(self.groups, self.per_groups)
        if self.x_image is not None:
            fit = terms.fit(
                &out.at, self.width, self.x_image.at.h * self.width, self.c, self.width * self.c, weights.out_block)
        else:
            fit = terms.fit(
                &out.at, self.width, x.channel_blocks * self.x_blocks.at.h * self.width, x.lanes, x.lanes,
                weights.out_block)
        if not fit or x.shape[0] != out.at.n or weights.packing.out_lanes != out.lanes:
            raise ValueError("Gather: x, weights, out and terms do not belong together")
        if not self.fills(weights, out):
            raise ValueError("Gather: the packed weights do not fill out's blocks")
        if bias is not None and bias.shape[0] < out.channel_blocks * out.lanes:
            raise ValueError("Gather: the bias does not fill out's blocks")
        self.worth_threads = out.size * terms.most * 16 > 1_500_000
        self.cuts = numpy.array([
            terms.first[l] + (terms.first[l + 1] - terms.first[l]) * chunk // chunks
            for l in range(terms.first.shape[0] - 1) for chunk in range(chunks + 1)
        ], numpy.intp)
        self.cut_batch()

    cdef void cut_batch(self):
        """Groups of `group` images."""
        cdef Py_ssize_t t, pixel, first
        places = numpy.empty((self.groups, 4), numpy.intp)
        for t in range(self.groups):
            if self.x_image is None:
                first = group_of(&self.x_blocks.at, t * self.group, 0, &pixel) - self.x_blocks.at.data
            else:
                first, pixel = image_at(&self.x_image.at, t) - self.x_image.at.data, BATCH * self.c
            places[t, :2] = first, pixel
            first = group_of(&self.out.at, t * self.group, 0, &pixel) - self.out.at.data
            places[t, 2:] = first, pixel
        self.places = places

    cdef bint fills(self, PackWeights weights, Blocks out):
        """Whether the weights are where this class looks for them."""
        return weights.kept and weights.packed.shape[0] >= out.channel_blocks * weights.out_block

    def take(self, Slices then not None, scratch):
        """Takes along a step that reads `out`: each of its rows is worked on after its rows of the product.

        scratch : scratch(count) gives float32 memory for a call, where nothing but that step reads `out`, which is then
        nowhere kept; or None. Returns whether that can be; if so, the step must not be called on its own. A slot has one
        output block, so that x is read once for each: with many of them that costs more than it saves.
        """
        if self.then is not None or self.one_pixel or self.each_f != 1 or self.group != BATCH or not then.joins(self.out):
            return False
        if self.out.at.channel_blocks > 4:
            return False
        self.then, self.per_f, self.per_groups, self.rows_scratch = then, 1, 1, scratch
        self.rows_each = then.most_rows() * self.out.at.w * BATCH * self.out.lanes
        return True

    def __call__(self, int n_threads):
        if self.rows_scratch is not None:
            self.rows_memory = self.rows_scratch(n_threads * self.rows_each)
        super().__call__(n_threads)

    cdef void run(self, int n_threads) noexcept nogil:
        cdef Py_ssize_t task, tasks = self.tasks_f * self.tasks_groups * self.tasks_rows
        if self.then is not None:
            for task in prange(self.then.pieces.count, schedule="dynamic", num_threads=n_threads):
                self.slot(task)
            self.then.finish()
            return
        for task in prange(tasks, schedule="dynamic", num_threads=n_threads):
            self.task(task)

    cdef void slot(self, Py_ssize_t slot) noexcept nogil:
        """A slot of the step that is taken along, row by row."""
        cdef Py_ssize_t block = self.then.pieces.block(slot), f = self.then.pieces.channel_block(slot), row, p
        cdef float* rows
        for row in range(self.then.pieces.first(slot), self.then.pieces.last(slot)):
            p = row * self.then.row_stride
            if self.rows_scratch is None:
                rows = row_at(&self.out.at, block, f, p)
            else:
                rows = &self.rows_memory[0] + threadid() * self.rows_each
            self.gather(f, block, p, self.then.row_after(row + 1), 0, self.out.at.w, rows)
            self.then.rows(slot, row, row + 1, rows)

    cdef void task(self, Py_ssize_t task) noexcept nogil:
        cdef Py_ssize_t row = task % self.tasks_rows * self.per_rows, p, q
        cdef Py_ssize_t group = task // self.tasks_rows % self.tasks_groups * self.per_groups
        cdef Py_ssize_t f = task // (self.tasks_rows * self.tasks_groups) * self.per_f
        cdef Py_ssize_t last = min(row + self.per_rows, self.out.at.h)
        if self.one_pixel:  # every pixel has weights of its own
            for p in range(row, last):
                for q in range(self.out.at.w):
                    self.gather(f, group, p, p + 1, q, q + 1, NULL)
        else:
            self.gather(f, group, row, last, 0, self.out.at.w, NULL)

    cdef void gather(
        self, Py_ssize_t f_first, Py_ssize_t group_first, Py_ssize_t p_first, Py_ssize_t p_last, Py_ssize_t q_first,
        Py_ssize_t q_last, float* rows,
    ) noexcept nogil:
        """A task's output blocks and groups of images at pixels [p_first, p_last) × [q_first, q_last).

        rows : where row p_first goes, of a task with one output block and group; NULL: to `out`.
        """
        cdef Py_ssize_t f_last = min(f_first + self.per_f, self.out.at.channel_blocks), chunk, f, group, some
        cdef Py_ssize_t group_last = min(group_first + self.per_groups, self.groups)
        for chunk in range(self.chunks):
            for some in range(blocks(group_last - group_first, self.together)):
                for f from f_first <= f < f_last by self.each_f:
                    for group in range(
                        group_first + some * self.together, min(group_first + (some + 1) * self.together, group_last)
                    ):
                        self.pixels(chunk, f, group, p_first, p_last, q_first, q_last, rows)

    cdef void pixels(
        self, Py_ssize_t chunk, Py_ssize_t f, Py_ssize_t group, Py_ssize_t p_first, Py_ssize_t p_last,
        Py_ssize_t q_first, Py_ssize_t q_last, float* rows,
    ) noexcept nogil:
        """One chunk of terms, output block and group of images."""
        cdef Layout* out = &self.out.at
        cdef const pynn_term* terms = <const pynn_term*>&self.terms.terms[0, 0]
        cdef const float* w = &self.weights.packed[0] + f * self.weights.out_block
        cdef const float* bias = &self.bias[0] + f * out.lanes if self.start else NULL
        cdef int images = <int>min(self.group, out.n - group * self.group)
        cdef int flags = (self.start if chunk == 0 else FROM_OUT) | (self.finish if chunk == self.chunks - 1 else 0)
        cdef Py_ssize_t p, q, x_pixel = self.places[group, 1], out_pixel = self.places[group, 3]
        cdef const float* x = self.x_data + self.places[group, 0]
        cdef Range some
        if rows == NULL:
            rows = out.data + self.places[group, 2] + (f * out.h + p_first) * out.w * out_pixel
        for p in range(p_first, p_last):
            for q in range(q_first, q_last):
                some = self.chunk_of(chunk, p, q)
                self.kernel(
                    images, x + (self.terms.row_first[p] * self.width + self.terms.column_first[q]) * x_pixel, NULL, x_pixel,
                    terms + some.first, some.last - some.first, w, self.weights.out_block, bias, flags,
                    rows + ((p - p_first) * out.w + q) * out_pixel, out_pixel * out.h * out.w,
                )

    cdef Range chunk_of(self, Py_ssize_t chunk, Py_ssize_t p, Py_ssize_t q) noexcept nogil:
        """The terms of a pixel that a chunk is made of."""
        cdef Py_ssize_t which = self.terms.row_class[p] * self.terms.n_column_classes + self.terms.column_class[q]
        cdef const Py_ssize_t* cut = &self.cuts[which * (self.chunks + 1) + chunk]
        cdef Range found
        found.first, found.last = cut[0], cut[1]
        return found


cdef inline float* group_of(
    const Layout* x, Py_ssize_t image, Py_ssize_t channel_block, Py_ssize_t* pixel
) noexcept nogil:
    """The first pixel of `image` in a channel block, and the floats from one pixel to the next."""
    cdef Py_ssize_t block = image // x.batch
    pixel[0] = rows_of(x, block) * x.lanes
    return block_at(x, block, channel_block) + image % x.batch * x.lanes
