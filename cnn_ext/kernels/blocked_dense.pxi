# Products in which a weight meets one pixel of each image, forward and back to the input: the fully-connected layer's. There
# is too little to do with a weight for a pass that packs it beforehand: it is packed shortly before it is used.
#
# A task owns a range of output blocks and of images at one row of out's pixels; or, where there are too few of them, all
# output blocks and images and a slot of the terms: then slots are summed at the end. Its parts follow one another: a few
# output blocks, a pixel and a chunk of its terms. A unit is the weights of one term and output block. Forward, where a unit
# is sixteen rows of sixteen weights, a part has several output blocks, so that rows of the weight are read in long runs, and
# the tiles of one part copy the units of the next between their products. Other units, on the way back matrices to be
# transposed, are packed at the beginning of their part. Either way memory is asked for a unit some tiles before it is read;
# for that a thread takes its next task before it ends the present one.

cdef extern from "blocks.h" nogil:
    ctypedef struct pynn_copy:
        const float* source
        const float* next
        float* to
        Py_ssize_t row
    enum:
        COPIED
        GATHER_MOST_16x1
    void gather_16_copying(
        int rows, const float* x, Py_ssize_t pixel, const pynn_term* terms, Py_ssize_t n, const float* w,
        const float* bias, int flags, float* out, const pynn_copy* copy)

cdef extern from "lanes.h" nogil:
    Py_ssize_t take_ticket(Py_ssize_t* next)

cdef enum:
    AHEAD = 4  # units of which memory is asked for before the one that is copied


cdef struct Part:
    Py_ssize_t task, slot, index  # the index-th of its task
    Py_ssize_t f_first, width, group_first, group_last, p, q, chunk
    Range terms


cdef struct Cursor:
    Py_ssize_t term, block, left  # where a pass over a part's units is, and how many are left


cdef class GatherPacking(Gather):
    """Gather with weights that are nowhere packed yet, x or out, or both, having one pixel.

    width : output blocks of a part, at most. per_task : output blocks and images of a task, at most. slots : that the chunks
    of out's one pixel are cut into. scratch : scratch(count) gives float32 memory for a call.
    """
    cdef const Py_ssize_t[:, ::1] packed_terms  # the terms, their w counting from the first weight of their chunk
    cdef const Py_ssize_t[:, ::1] sources  # where each term's weights lie in the weight, and for how many inputs
    cdef Py_ssize_t part_width, tap, most, slots, per_slot, next_task
    cdef bint copying

    def __init__(
        self, x not None, PackWeights weights not None, float[::1] bias, Blocks out not None,
        Terms terms not None, bint relu, Py_ssize_t chunks, Py_ssize_t width, tuple per_task not None, Py_ssize_t slots,
        scratch not None,
    ):
        per_f, images = per_task
        super().__init__(x, weights, bias, out, terms, relu, chunks, (per_f, 1, images))
        self.bound = False
        if not self.one_pixel or width < 1:
            raise ValueError("GatherPacking: weights that meet several pixels are packed beforehand")
        if not 1 <= slots <= chunks or (slots > 1 and out.at.h * out.at.w > 1):
            raise ValueError("GatherPacking: slots are made of chunks, for one pixel")
        cdef Packing* w = &weights.packing
        cdef Py_ssize_t taps = w.kh * w.kw
        require(w.in_lanes == self.x_blocks.lanes and not scratch is None, "GatherPacking")
        self.copying = w.of_out == 1 and self.kernel == gather_16_blocked_16
        if self.copying:
            self.group = min(self.group, <Py_ssize_t>GATHER_MOST_16x1)
            self.groups = blocks(out.at.n, self.group)
            self.cut_batch()
        self.per_groups = blocks(min(images, out.shape[0]), self.group)
        self.tasks_groups = blocks(self.groups, self.per_groups)
        self.part_width, self.scratch = min(width, per_f, out.at.channel_blocks), scratch
        self.tap, self.most = w.in_lanes * w.out_lanes, blocks(terms.most, chunks)
        self.per_thread = 2 * self.part_width * self.most * self.tap
        self.slots, self.per_slot = slots, out.size if slots > 1 else 0
        packed_terms, cuts = numpy.array(terms.terms), numpy.asarray(self.cuts)
        block, tap = numpy.divmod(packed_terms[:, 1] // self.tap, taps)
        if not (0 <= block.min() and block.max() < blocks(w.n_in, w.in_lanes)):  # terms of no list
            raise ValueError("GatherPacking: terms and weights do not belong together")
        ins = numpy.minimum(w.in_lanes, w.n_in - block * w.in_lanes)
        if (packed_terms[:, 2] > ins).any():
            raise ValueError("GatherPacking: terms take more inputs than there are weights")
        self.sources = numpy.stack([block * w.in_lanes * w.of_in + tap // w.kw * w.of_i + tap % w.kw * w.of_j, ins], axis=1)
        for first, last in zip(cuts[:-1], cuts[1:]):
            packed_terms[first:last, 1] = self.tap * numpy.arange(last - first)
        self.packed_terms = packed_terms
        self.for_all = self.slots * self.per_slot
        self.bound = True

    cdef bint fills(self, PackWeights weights, Blocks out):
        return not weights.kept and blocks(weights.packing.n_out, weights.packing.out_lanes) >= out.channel_blocks

    cdef void run(self, int n_threads) noexcept nogil:
        cdef Py_ssize_t thread, cb
        self.next_task = 0
        for thread in prange(n_threads, schedule="static", num_threads=n_threads):
            self.work(&self.scratch_memory[0] + self.for_all + thread * self.per_thread)
        if self.slots > 1:
            for cb in prange(self.out.at.channel_blocks, schedule="static", num_threads=n_threads):
                self.add_slots(cb)

    cdef void add_slots(self, Py_ssize_t cb) noexcept nogil:
        """In their order, those of one output block, and its bias last."""
        cdef Layout* out = &self.out.at
        cdef const float* bias = &self.bias[0] + cb * out.lanes if self.finish & WITH_BIAS else NULL
        cdef const float* sums
        cdef float* target
        cdef Py_ssize_t block, k, slot
        cdef lanes total
        for block in range(out.batch_blocks):
            target = block_at(out, block, cb)
            sums = &self.scratch_memory[0] + (target - out.data)
            for k from 0 <= k < rows_of(out, block) * out.lanes by LANE_WIDTH:
                total = (<const lanes*>(sums + k))[0]
                for slot in range(1, self.slots):
                    total = total + (<const lanes*>(sums + slot * self.per_slot + k))[0]
                if bias != NULL:
                    total = total + (<const lanes*>(bias + k % out.lanes))[0]
                (<lanes*>(target + k))[0] = lanes_relu(total) if self.finish & WITH_RELU else total

    cdef void work(self, float* packed) noexcept nogil:
        """One thread's tasks."""
        cdef float* ahead_packed = packed + self.per_thread // 2
        cdef Part here = self.part(take_ticket(&self.next_task), 0), ahead
        cdef Cursor fetched = self.cursor(&here)
        while fetched.left > 0:
            self.fetch_unit(&here, &fetched)
        if self.copying:
            self.pack(&here, packed)
        while here.width > 0:
            ahead = self.part(here.task, here.index + 1)
            if ahead.width == 0:
                ahead = self.part(take_ticket(&self.next_task), 0)
            if not self.copying:
                self.pack(&here, packed)
            self.compute(&here, packed, &ahead, ahead_packed)
            here = ahead
            packed, ahead_packed = ahead_packed, packed

    cdef void compute(
        self, const Part* here, const float* packed, const Part* ahead, float* ahead_packed
    ) noexcept nogil:
        """The products of a part, with packed weights, and what is to be done for the next part meanwhile."""
        cdef Layout* out = &self.out.at
        cdef Py_ssize_t place = self.terms.row_first[here.p] * self.width + self.terms.column_first[here.q]
        cdef Py_ssize_t f, group, due = 0, n_terms = here.terms.last - here.terms.first
        cdef const pynn_term* terms = <const pynn_term*>&self.packed_terms[0, 0] + here.terms.first
        cdef const Py_ssize_t* at
        cdef const float* x
        cdef const float* bias = NULL
        cdef float* target
        cdef float* out_data = out.data if self.slots == 1 else &self.scratch_memory[0] + here.slot * self.per_slot
        cdef int flags = self.flags(here), rows
        cdef Cursor packing = self.cursor(ahead), fetched = packing
        cdef Py_ssize_t units = packing.left, calls = here.width * (here.group_last - here.group_first)
        cdef pynn_copy copy
        if self.copying:
            for f in range(AHEAD):
                self.fetch_unit(ahead, &fetched)
        for f in range(here.f_first, here.f_first + here.width):
            if self.finish & WITH_BIAS:
                bias = &self.bias[0] + f * out.lanes
            for group in range(here.group_first, here.group_last):
                due += units
                copy.to = NULL
                if self.copying and due >= calls and self.is_whole(ahead, &packing):
                    self.begin_copy(ahead, &packing, &fetched, ahead_packed, &copy)
                    due -= calls
                while due >= calls:
                    if self.copying:
                        self.pack_unit(ahead, &packing, ahead_packed)
                    self.fetch_unit(ahead, &fetched)
                    due -= calls
                at = &self.places[group, 0]
                rows = <int>min(self.group, out.n - group * self.group)
                x = self.x_data + at[0] + place * at[1]
                target = out_data + at[2] + (f * out.h * out.w + here.p * out.w + here.q) * at[3]
                if copy.to != NULL:
                    gather_16_copying(rows, x, at[1], terms, n_terms, packed, bias, flags, target, &copy)
                else:
                    self.kernel(rows, x, NULL, at[1], terms, n_terms, packed, 0, bias, flags, target, 0)
            packed += self.most * self.tap

    cdef int flags(self, const Part* part) noexcept nogil:
        """What the part's tiles start from and end with."""
        cdef int flags = FROM_OUT if part.chunk > self.chunks * part.slot // self.slots else 0
        return flags | (self.finish if part.chunk == self.chunks - 1 and self.slots == 1 else 0)

    cdef Part part(self, Py_ssize_t task, Py_ssize_t index) noexcept nogil:
        """Of no width past the end of its task or of the tasks."""
        cdef Py_ssize_t first = task % self.tasks_f * self.per_f, group = task // self.tasks_f % self.tasks_groups
        cdef Py_ssize_t last = min(first + self.per_f, self.out.at.channel_blocks), row, chunk, chunks, each
        cdef Part found
        row = task // self.tasks_f // self.tasks_groups
        found.task, found.index, found.p, found.slot = task, index, row % self.out.at.h, row // self.out.at.h
        chunk = self.chunks * found.slot // self.slots
        chunks = self.chunks * (found.slot + 1) // self.slots - chunk
        each = self.out.at.w * chunks
        found.width = found.terms.first = found.terms.last = 0
        if found.slot >= self.slots:
            return found
        found.q, found.chunk = index % each // chunks, chunk + index % chunks
        found.group_first = group * self.per_groups
        found.group_last = min(found.group_first + self.per_groups, self.groups)
        found.f_first = first + index // each * self.part_width
        found.width = max(0, min(self.part_width, last - found.f_first))
        if found.width > 0:
            found.terms = self.chunk_of(found.chunk, found.p, found.q)
        return found

    # -- a part's units, in the order in which they lie in the weight ----------------------------------------------------

    cdef Cursor cursor(self, const Part* part) noexcept nogil:
        cdef Cursor found
        found.term, found.block, found.left = part.terms.first, 0, (part.terms.last - part.terms.first) * part.width
        return found

    cdef void advance(self, const Part* part, Cursor* at) noexcept nogil:
        at.left -= 1
        if self.weights.packing.of_out == 1:
            at.block += 1
            if at.block == part.width:
                at.block = 0
                at.term += 1
        else:
            at.term += 1
            if at.term == part.terms.last:
                at.term = part.terms.first
                at.block += 1

    cdef const float* source(self, const Part* part, const Cursor* at) noexcept nogil:
        cdef Packing* w = &self.weights.packing
        return w.data + (part.f_first + at.block) * w.out_lanes * w.of_out + self.sources[at.term, 0]

    cdef float* target(self, const Part* part, const Cursor* at, float* packed) noexcept nogil:
        return packed + (at.block * self.most + at.term - part.terms.first) * self.tap

    cdef bint is_whole(self, const Part* part, const Cursor* at) noexcept nogil:
        """Whether it is sixteen rows of sixteen weights."""
        cdef Packing* w = &self.weights.packing
        return self.sources[at.term, 1] == COPIED and (part.f_first + at.block + 1) * w.out_lanes <= w.n_out

    cdef void begin_copy(
        self, const Part* part, Cursor* packing, Cursor* fetched, float* packed, pynn_copy* copy
    ) noexcept nogil:
        """The unit to be copied and the one to be asked for."""
        copy.source, copy.row = self.source(part, packing), self.weights.packing.of_in
        copy.to, copy.next = self.target(part, packing, packed), copy.source
        self.advance(part, packing)
        if fetched.left > 0:
            copy.next = self.source(part, fetched)
            self.advance(part, fetched)

    cdef void fetch_unit(self, const Part* part, Cursor* at) noexcept nogil:
        """Asks for the memory of the next unit, if there is one."""
        if at.left > 0:
            fetch_tap(
                &self.weights.packing, part.f_first + at.block, self.sources[at.term, 0], self.sources[at.term, 1])
            self.advance(part, at)

    cdef void pack_unit(self, const Part* part, Cursor* at, float* packed) noexcept nogil:
        pack_tap(
            &self.weights.packing, part.f_first + at.block, self.sources[at.term, 0], self.sources[at.term, 1],
            self.target(part, at, packed),
        )
        self.advance(part, at)

    cdef void pack(self, const Part* part, float* packed) noexcept nogil:
        """All units."""
        cdef Cursor at = self.cursor(part)
        while at.left > 0:
            self.pack_unit(part, &at, packed)
