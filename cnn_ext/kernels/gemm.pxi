# The matrix product that convolution and the fully-connected layer share: C (+)= A · B on one thread, for operands of
# any strides. Blocks of A and B are packed into panels of 4 rows and of one tile's columns, zero-padded at the edges,
# and every tile of C is computed in registers (tiles.h). Transposition costs nothing but another packing order.
# Loops count blocks and panels, not their first elements: Cython makes C loops only of steps that it knows.
# Blocking after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008).

cdef extern from "tiles.h" nogil:
    enum:
        TILE_ROWS
        TILE_COLS_F32
        TILE_COLS_F64
    void tile_f32(Py_ssize_t k, const float* a, const float* b, float* c, Py_ssize_t ldc, bint accumulate)
    void tile_f64(Py_ssize_t k, const double* a, const double* b, double* c, Py_ssize_t ldc, bint accumulate)

cdef enum:
    BLOCK_M = 96   # rows of A packed at a time, a multiple of TILE_ROWS
    BLOCK_N = 240  # columns of B packed at a time, a multiple of every TILE_COLS
    BLOCK_K = 256  # terms of the sum at a time: a panel of B (24 KB in float32) stays in L1
    GEMM_SCRATCH = BLOCK_K * (BLOCK_M + BLOCK_N)
    MAX_TILE = 4 * 48

gemm_scratch = GEMM_SCRATCH  # elements of scratch that one thread's product needs


cdef inline Py_ssize_t blocks(Py_ssize_t n, Py_ssize_t size) noexcept nogil:
    """How many blocks of `size` cover n."""
    return (n + size - 1) // size


cdef inline Py_ssize_t tile_cols(const real_t* _) noexcept nogil:
    return TILE_COLS_F32 if real_t is float else TILE_COLS_F64


cdef inline void tile(
    Py_ssize_t k, const real_t* a, const real_t* b, real_t* c, Py_ssize_t ldc, bint accumulate
) noexcept nogil:
    if real_t is float:
        tile_f32(k, a, b, c, ldc, accumulate)
    else:
        tile_f64(k, a, b, c, ldc, accumulate)


cdef void pack_rows(
    Py_ssize_t m, Py_ssize_t k, const real_t* a, Py_ssize_t row, Py_ssize_t col, real_t* panels
) noexcept nogil:
    """A block of A (m × k) as panels [m/4][k][4]; rows past m are zeros."""
    cdef Py_ssize_t i, p, panel, top, rows
    for panel in range(blocks(m, TILE_ROWS)):
        top = panel * TILE_ROWS
        rows = min(<Py_ssize_t>TILE_ROWS, m - top)
        if rows == TILE_ROWS:
            for p in range(k):
                for i in range(TILE_ROWS):
                    panels[p * TILE_ROWS + i] = a[(top + i) * row + p * col]
        else:
            for p in range(k):
                for i in range(TILE_ROWS):
                    panels[p * TILE_ROWS + i] = a[(top + i) * row + p * col] if i < rows else 0
        panels += k * TILE_ROWS


cdef void pack_columns(
    Py_ssize_t k, Py_ssize_t n, const real_t* b, Py_ssize_t row, Py_ssize_t col, real_t* panels
) noexcept nogil:
    """A block of B (k × n) as panels [n/COLS][k][COLS]; columns past n are zeros."""
    cdef Py_ssize_t j, p, panel, left, columns, width = tile_cols(b)
    cdef const real_t* source
    cdef real_t* target
    for panel in range(blocks(n, width)):
        left = panel * width
        columns = min(width, n - left)
        if columns < width:
            memset(panels, 0, k * width * sizeof(real_t))
        if col == 1:
            for p in range(k):
                source = b + p * row + left
                target = panels + p * width
                if columns == width:  # a constant count: whole vectors
                    for j in range(width):
                        target[j] = source[j]
                else:
                    for j in range(columns):
                        target[j] = source[j]
        else:
            for j in range(columns):
                source = b + (left + j) * col
                target = panels + j
                for p in range(k):
                    target[p * width] = source[p * row]
        panels += k * width


cdef void edge_tile(
    Py_ssize_t k, const real_t* a, const real_t* b, real_t* c, Py_ssize_t ldc, bint accumulate,
    Py_ssize_t rows, Py_ssize_t columns,
) noexcept nogil:
    """A tile of which only rows × columns lie inside C."""
    cdef real_t[MAX_TILE] whole
    cdef Py_ssize_t i, j, width = tile_cols(b)
    tile(k, a, b, &whole[0], width, False)
    for i in range(rows):
        for j in range(columns):
            if accumulate:
                c[i * ldc + j] += whole[i * width + j]
            else:
                c[i * ldc + j] = whole[i * width + j]


cdef void gemm(
    Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
    const real_t* a, Py_ssize_t a_row, Py_ssize_t a_col,
    const real_t* b, Py_ssize_t b_row, Py_ssize_t b_col,
    real_t* c, Py_ssize_t ldc, bint accumulate, real_t* scratch,
) noexcept nogil:
    """C (m × n, row stride ldc) (+)= A (m × k) · B (k × n); scratch holds gemm_scratch elements."""
    cdef Py_ssize_t i, j, i0, j0, p0, mb, nb, kb, width = tile_cols(b)
    cdef Py_ssize_t i_block, j_block, p_block, i_panel, j_panel
    cdef real_t* a_panels = scratch
    cdef real_t* b_panels = scratch + BLOCK_K * BLOCK_M
    cdef real_t* c_tile
    cdef bint add
    for p_block in range(blocks(k, BLOCK_K)):
        p0 = p_block * BLOCK_K
        kb = min(<Py_ssize_t>BLOCK_K, k - p0)
        add = accumulate or p0 > 0
        for j_block in range(blocks(n, BLOCK_N)):
            j0 = j_block * BLOCK_N
            nb = min(<Py_ssize_t>BLOCK_N, n - j0)
            pack_columns(kb, nb, b + p0 * b_row + j0 * b_col, b_row, b_col, b_panels)
            for i_block in range(blocks(m, BLOCK_M)):
                i0 = i_block * BLOCK_M
                mb = min(<Py_ssize_t>BLOCK_M, m - i0)
                if j0 == 0 or m > BLOCK_M:  # otherwise the one block of A is packed already
                    pack_rows(mb, kb, a + i0 * a_row + p0 * a_col, a_row, a_col, a_panels)
                for j_panel in range(blocks(nb, width)):
                    j = j_panel * width
                    for i_panel in range(blocks(mb, TILE_ROWS)):
                        i = i_panel * TILE_ROWS
                        c_tile = c + (i0 + i) * ldc + j0 + j
                        if i + TILE_ROWS <= mb and j + width <= nb:
                            tile(kb, a_panels + i * kb, b_panels + j * kb, c_tile, ldc, add)
                        else:
                            edge_tile(
                                kb, a_panels + i * kb, b_panels + j * kb, c_tile, ldc, add,
                                min(<Py_ssize_t>TILE_ROWS, mb - i), min(width, nb - j),
                            )
