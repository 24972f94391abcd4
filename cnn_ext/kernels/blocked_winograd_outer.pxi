# The weight gradient of 3 × 3 taps by Winograd's F(4 × 4, 3 × 3) (winograd.h): at each of the 36 places of a tile an outer
# product of the transformed input and the transformed gradient of the output, summed over tiles and images; the sums are
# transformed back once, at the end.
#
# A task owns some input and output blocks, all pairs of them, in one slot of the units that the batch is cut into: one tile
# of one block of images. It transforms a few units and adds their products to its sums, in memory of its thread. The larger
# its groups of blocks, the less often the same is transformed, and the less the sums are read and written.

cdef class OuterWinograd(Outer):
    """Outer of 3 × 3 taps, no stride and no dilation.

    c_group, f_group : input and output blocks of a task. units : that are worked on at a time. scratch : scratch(count) gives
    float32 memory for a call.
    """
    cdef Py_ssize_t c_group, f_group, units_each, tiles, tiles_w, most_rows, x_place, dy_place, sum_place

    def __init__(
        self, Blocks x not None, Blocks dy not None, Weights grad not None, tuple padding not None, Py_ssize_t slots,
        float[::1] memory not None, Py_ssize_t c_group, Py_ssize_t f_group, Py_ssize_t units, scratch not None,
    ):
        super().__init__(x, dy, grad, (1, 1), padding, (1, 1), slots, memory)
        self.bound = False
        if (grad.at.kh, grad.at.kw) != (3, 3) or x.at.batch != BATCH or min(c_group, f_group, units) < 1 or scratch is None:
            raise ValueError("OuterWinograd: expected 3 × 3 taps, blocks of twelve images and some work for a task")
        self.c_group, self.f_group = min(c_group, x.at.channel_blocks), min(f_group, dy.at.channel_blocks)
        self.tiles_w = blocks(dy.at.w, TILE)
        self.tiles = blocks(dy.at.h, TILE) * self.tiles_w
        if slots > dy.at.batch_blocks * self.tiles:
            raise ValueError("OuterWinograd: more slots than units")
        self.units_each, self.scratch = min(units, dy.at.batch_blocks * self.tiles), scratch
        self.most_rows = self.units_each * BATCH
        self.x_place = odd_lines(self.c_group * self.most_rows * x.lanes)
        self.dy_place = odd_lines(self.f_group * self.most_rows * dy.lanes)
        self.sum_place = odd_lines(self.c_group * self.f_group * x.lanes * dy.lanes)
        self.per_thread = PIXEL + PLACES * (self.x_place + self.dy_place + self.sum_place)
        self.bound = True

    cdef void run(self, int n_threads) noexcept nogil:
        cdef Py_ssize_t task, pairs = self.dy.channel_blocks * self.in_blocks
        cdef Py_ssize_t groups = blocks(self.in_blocks, self.c_group) * blocks(self.dy.channel_blocks, self.f_group)
        for task in prange(self.slots * groups, schedule="dynamic", num_threads=n_threads):
            self.task(task % groups, task // groups, &self.scratch_memory[0] + threadid() * self.per_thread)
        for task in prange(pairs, schedule="static", num_threads=n_threads):
            self.reduce(task)

    cdef void task(self, Py_ssize_t group, Py_ssize_t slot, float* zeros) noexcept nogil:
        """One group of pairs, over one slot."""
        cdef Py_ssize_t c_groups = blocks(self.in_blocks, self.c_group), c, f, part, parts
        cdef Py_ssize_t units = self.dy.at.batch_blocks * self.tiles, size = self.in_lanes * self.dy.lanes
        cdef Py_ssize_t first = units * slot // self.slots, count = units * (slot + 1) // self.slots - first
        cdef Range inputs, outputs
        cdef float* sums = zeros + PIXEL + PLACES * (self.x_place + self.dy_place)
        inputs.first, outputs.first = group % c_groups * self.c_group, group // c_groups * self.f_group
        inputs.last = min(inputs.first + self.c_group, self.in_blocks)
        outputs.last = min(outputs.first + self.f_group, self.dy.at.channel_blocks)
        memset(zeros, 0, PIXEL * sizeof(float))
        parts = blocks(count, self.units_each)
        for part in range(parts):
            self.add(
                inputs, outputs, first + count * part // parts, first + count * (part + 1) // parts,
                FROM_OUT if part else 0, zeros)
        for f in range(outputs.first, outputs.last):
            for c in range(inputs.first, inputs.last):
                winograd_weight_gradient(
                    sums + ((f - outputs.first) * self.c_group + c - inputs.first) * size, self.sum_place, size,
                    &self.memory[0] + ((slot * self.dy.channel_blocks + f) * self.in_blocks + c) * self.block, size)

    cdef void add(
        self, Range inputs, Range outputs, Py_ssize_t unit_first, Py_ssize_t unit_last, int flags, float* zeros
    ) noexcept nogil:
        """Some units to a task's sums."""
        cdef Layout* x = &self.x_blocks.at
        cdef Layout* dy = &self.dy.at
        cdef Py_ssize_t size = x.lanes * dy.lanes, each_x = self.most_rows * x.lanes, each_dy = self.most_rows * dy.lanes
        cdef Py_ssize_t unit, block, tile, p, q, c, f, place
        cdef float* x_points = zeros + PIXEL
        cdef float* dy_points = x_points + PLACES * self.x_place
        cdef float* sums = dy_points + PLACES * self.dy_place
        cdef const float* pixels[PLACES]
        cdef pynn_run run
        run.x = run.dy = run.k = 0
        for unit in range(unit_first, unit_last):
            block, tile = unit // self.tiles, unit % self.tiles
            p, q = tile // self.tiles_w * TILE, tile % self.tiles_w * TILE
            for c in range(inputs.first, inputs.last):
                pixels_at(x, block, c, p - self.rows.padding, q - self.columns.padding, PATCH, zeros, &pixels[0])
                winograd_input(
                    &pixels[0], rows_of(x, block) * x.lanes,
                    x_points + (c - inputs.first) * each_x + run.k * x.lanes, self.x_place)
            for f in range(outputs.first, outputs.last):
                pixels_at(dy, block, f, p, q, TILE, zeros, &pixels[0])
                winograd_output_gradient(
                    &pixels[0], rows_of(dy, block) * dy.lanes,
                    dy_points + (f - outputs.first) * each_dy + run.k * dy.lanes, self.dy_place)
            run.k += rows_of(x, block)
        for place in range(PLACES):
            for f in range(outputs.last - outputs.first):
                for c in range(inputs.last - inputs.first):
                    self.kernel(
                        <int>x.lanes, x_points + place * self.x_place + c * each_x, NULL,
                        dy_points + place * self.dy_place + f * each_dy, 0, &run, 1, flags,
                        sums + place * self.sum_place + (f * self.c_group + c) * size, dy.lanes, 0,
                    )
