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
    """The lists of terms of all pixels: `terms` (T, 3) of x, w and k, list l being first[l] … first[l + 1] − 1."""
    cdef const Py_ssize_t[:, ::1] terms
    cdef const Py_ssize_t[::1] first, row_class, row_first, column_class, column_first
    cdef Py_ssize_t n_column_classes
    cdef readonly Py_ssize_t most  # terms of a list, at most

    def __cinit__(
        self, const Py_ssize_t[:, ::1] terms not None, const Py_ssize_t[::1] first not None,
        const Py_ssize_t[::1] row_class not None, const Py_ssize_t[::1] row_first not None,
        const Py_ssize_t[::1] column_class not None, const Py_ssize_t[::1] column_first not None,
    ):
        # Copies, which nobody changes after they were checked.
        table, ends = numpy.array(terms), numpy.array(first)
        rows = numpy.stack([numpy.asarray(row_class), numpy.asarray(row_first)])
        columns = numpy.stack([numpy.asarray(column_class), numpy.asarray(column_first)])
        if not (rows.size and columns.size and min(rows.min(), columns.min()) >= 0 and max(rows.max(), columns.max()) < 2**31):
            raise ValueError("Terms: expected a class and a place from 0 to 2**31 - 1 of each row and column")
        lists = (int(rows[0].max()) + 1) * (int(columns[0].max()) + 1)
        if (
            table.shape[0] < 1 or table.shape[1] != 3 or ends.shape[0] != lists + 1 or ends[0] < 0
            or (numpy.diff(ends) < 0).any() or ends[lists] > table.shape[0]
        ):
            raise ValueError("Terms: lists, classes and places do not belong together")
        self.terms, self.first, self.row_class, self.row_first = table, ends, rows[0], rows[1]
        self.column_class, self.column_first = columns[0], columns[1]
        self.n_column_classes = int(columns[0].max()) + 1
        self.most = numpy.diff(ends).max()

    cdef bint fit(
        self, const Layout* out, Py_ssize_t width, Py_ssize_t pixels, Py_ssize_t c, Py_ssize_t most, Py_ssize_t weights
    ):
        """Whether all terms of out's pixels lie within `pixels` of x, `width` in a row, of c values each, and within so many
        weights; none being longer than `most`."""
        if self.row_class.shape[0] != out.h or self.column_class.shape[0] != out.w:
            return False
        used = numpy.asarray(self.terms)[self.first[0]:self.first[self.first.shape[0] - 1]]
        if used.size == 0:
            return True
        x, w, k = used.T
        if (k < 0).any() or (k > most).any() or (w < 0).any() or (w > weights).any() or (w + k * out.lanes > weights).any():
            return False
        if (x < -pixels).any() or (x > pixels).any():  # so that sums with them do not overflow
            return False
        # Rows and columns of a class have the same terms: the first and the last of its places are enough.
        first_row, last_row = places_of(self.row_class, self.row_first)
        first_column, last_column = places_of(self.column_class, self.column_first)
        if max(last_row) > pixels // width or max(last_column) > width:
            return False
        lists = numpy.repeat(numpy.arange(self.first.shape[0] - 1), numpy.diff(self.first))
        row, column = lists // self.n_column_classes, lists % self.n_column_classes
        lowest = first_row[row] * width + first_column[column] + x
        highest = last_row[row] * width + last_column[column] + x
        there = (last_row[row] >= 0) & (last_column[column] >= 0)  # a class that nobody has has no places
        return not (there & ((lowest < 0) | (highest * c + k > pixels * c))).any()


cdef tuple places_of(const Py_ssize_t[::1] which, const Py_ssize_t[::1] first):
    """The least and the largest place of each class; the largest is −1 where there are none."""
    classes = numpy.asarray(which)
    low, high = numpy.zeros(classes.max() + 1, numpy.intp), numpy.full(classes.max() + 1, -1, numpy.intp)
    numpy.maximum.at(high, classes, first)
    low[:] = high
    numpy.minimum.at(low, classes, first)
    return low, high


cdef struct Range:
    Py_ssize_t first, last


cdef class Gather(Step):
    """out[p, q] = Σ x · w over the pixel's terms, + bias; ReLU where `relu`.

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
    cdef Slices then  # where it alone reads `out`, rows pass through scratch memory
    cdef int finish  # flags of the last chunk
    cdef const float* x_data
    cdef gather_rows kernel

    def __init__(
        self, x not None, PackWeights weights not None, float[::1] bias, Blocks out not None,
        Terms terms not None, bint relu, Py_ssize_t chunks, tuple per_task not None,
    ):
        self.bound = False
        if not 1 <= chunks <= MOST_SIZE or len(per_task) != 3 or min(per_task) < 1:
            raise ValueError("Gather: empty tasks")
        require(weights.bound, "Gather", "its weights are not bound")
        self.then = self.scratch = None
        self.for_all = self.per_thread = 0
        self.out, self.weights, self.bias = out, weights, bias
        self.terms, self.chunks = terms, chunks
        self.finish = (0 if bias is None else WITH_BIAS) | (WITH_RELU if relu else 0)
        self.each_f = 3 if out.lanes == 8 and out.channel_blocks == 3 and per_task[0] == 3 else 1
        self.group = min(out.at.batch, <Py_ssize_t>GROUP)
        if isinstance(x, Image):
            self.x_image, self.x_blocks, self.one_pixel = x, None, False
            self.width, self.c = self.x_image.at.w, self.x_image.at.c
            self.x_data = self.x_image.at.data
            self.kernel = gather_16_image if out.lanes == 16 else gather_8x3_image if self.each_f == 3 else gather_8_image
            self.group = min(self.group, <Py_ssize_t>BATCH)
        else:
            self.x_blocks, self.x_image = x, None
            self.width, self.c = self.x_blocks.at.w, 1
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
        self.per_f, self.per_rows = min(per_task[0], out.channel_blocks), min(per_task[1], out.shape[2])
        self.per_groups = min(per_task[2], self.groups)
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
        self.worth_threads = <double>out.size * terms.most * 16 > 1_500_000
        ends = numpy.asarray(terms.first)
        self.cuts = (ends[:-1, None] + numpy.diff(ends)[:, None] * numpy.arange(chunks + 1) // chunks).reshape(-1)
        self.cut_batch()
        self.bound = True

    cdef bint cut_batch(self) except False:
        """Groups of `group` images, none of which lies in two blocks."""
        cdef Py_ssize_t t, pixel, first
        whole = self.out.batch % self.group == 0 or self.out.at.batch_blocks == 1
        if self.x_image is None:
            whole = whole and (self.x_blocks.batch % self.group == 0 or self.x_blocks.at.batch_blocks == 1)
        else:
            whole = whole and (self.group == BATCH or self.groups == 1)
        require(whole, "Gather", "x and out are in different blocks of images")
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
        return True

    cdef bint fills(self, PackWeights weights, Blocks out):
        """Whether the weights are where this class looks for them."""
        return weights.kept and weights.packed.shape[0] >= out.channel_blocks * weights.out_block

    def take(self, Slices then not None, scratch):
        """Takes along a step that reads `out`: each of its rows is worked on after its rows of the product.

        scratch : scratch(count) gives float32 memory for a call, where nothing but that step reads `out`, which is then
        nowhere kept; or None. Returns whether that can be; if so, the step must not be called on its own. A slot has one
        output block, so that x is read once for each: with many of them that costs more than it saves.
        """
        if not (self.bound and then.bound) or self.then is not None or self.one_pixel or self.each_f != 1:
            return False
        if self.group != BATCH or self.out.at.batch != BATCH or not then.joins(self.out):
            return False
        if self.out.at.channel_blocks > 4:
            return False
        self.then, self.per_f, self.per_groups, self.scratch = then, 1, 1, scratch
        self.per_thread = then.most_rows() * self.out.at.w * BATCH * self.out.lanes
        return True

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
            if self.scratch is None:
                rows = row_at(&self.out.at, block, f, p)
            else:
                rows = &self.scratch_memory[0] + threadid() * self.per_thread
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
        cdef const float* bias = &self.bias[0] + f * out.lanes if self.bias is not None else NULL
        cdef int images = <int>min(self.group, out.n - group * self.group)
        cdef int flags = (FROM_OUT if chunk > 0 else 0) | (self.finish if chunk == self.chunks - 1 else 0)
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
