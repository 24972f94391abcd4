/* The register tile of the matrix product: C[4 × COLS] (+)= A[k × 4]ᵀ · B[k × COLS], A and B packed in panels.
 *
 * COLS is three vectors of the instruction set that this file is compiled for, so that the 12 accumulators, the three
 * vectors of B and a broadcast of A fill the 16 registers of AVX2 without spilling; SSE lacks one for the product and
 * keeps a vector of B in memory. Four rows divide the numbers of filters and samples that networks have. Every element
 * of C is one chain of multiply-adds over k in ascending order.
 */
#ifndef PYNN_TILES_H
#define PYNN_TILES_H

#include <stddef.h>

#if defined(__AVX512F__)
#define PYNN_VECTOR_BYTES 64
#elif defined(__AVX__)
#define PYNN_VECTOR_BYTES 32
#else
#define PYNN_VECTOR_BYTES 16
#endif

enum {
    TILE_ROWS = 4,
    TILE_COLS_F32 = 3 * PYNN_VECTOR_BYTES / 4,
    TILE_COLS_F64 = 3 * PYNN_VECTOR_BYTES / 8
};

#if defined(__GNUC__) || defined(__clang__)

typedef float vector_f32 __attribute__((vector_size(PYNN_VECTOR_BYTES), aligned(4), may_alias));
typedef double vector_f64 __attribute__((vector_size(PYNN_VECTOR_BYTES), aligned(8), may_alias));

/* Named accumulators rather than an array: GCC then keeps all twelve in registers at every optimisation level. */
#define PYNN_TILE(NAME, REAL, VECTOR, COLS)                                                                       \
    static void NAME(ptrdiff_t k, const REAL *a, const REAL *b, REAL *c, ptrdiff_t ldc, int accumulate) {         \
        VECTOR c00 = {0}, c01 = {0}, c02 = {0}, c10 = {0}, c11 = {0}, c12 = {0};                                  \
        VECTOR c20 = {0}, c21 = {0}, c22 = {0}, c30 = {0}, c31 = {0}, c32 = {0};                                  \
        for (ptrdiff_t p = 0; p < k; ++p, a += TILE_ROWS, b += COLS) {                                            \
            const VECTOR b0 = *(const VECTOR *)b, b1 = *(const VECTOR *)(b + COLS / 3);                           \
            const VECTOR b2 = *(const VECTOR *)(b + 2 * (COLS / 3));                                              \
            c00 += a[0] * b0, c01 += a[0] * b1, c02 += a[0] * b2;                                                 \
            c10 += a[1] * b0, c11 += a[1] * b1, c12 += a[1] * b2;                                                 \
            c20 += a[2] * b0, c21 += a[2] * b1, c22 += a[2] * b2;                                                 \
            c30 += a[3] * b0, c31 += a[3] * b1, c32 += a[3] * b2;                                                 \
        }                                                                                                         \
        PYNN_STORE_ROW(VECTOR, COLS, 0, c00, c01, c02)                                                            \
        PYNN_STORE_ROW(VECTOR, COLS, 1, c10, c11, c12)                                                            \
        PYNN_STORE_ROW(VECTOR, COLS, 2, c20, c21, c22)                                                            \
        PYNN_STORE_ROW(VECTOR, COLS, 3, c30, c31, c32)                                                            \
    }
#define PYNN_STORE_ROW(VECTOR, COLS, ROW, LEFT, MIDDLE, RIGHT)                                                    \
    {                                                                                                             \
        VECTOR *left = (VECTOR *)(c + ROW * ldc), *middle = (VECTOR *)(c + ROW * ldc + COLS / 3);                 \
        VECTOR *right = (VECTOR *)(c + ROW * ldc + 2 * (COLS / 3));                                               \
        if (accumulate) LEFT += *left, MIDDLE += *middle, RIGHT += *right;                                        \
        *left = LEFT, *middle = MIDDLE, *right = RIGHT;                                                           \
    }

#else /* a compiler without vector extensions */

#define PYNN_TILE(NAME, REAL, VECTOR, COLS)                                                                       \
    static void NAME(ptrdiff_t k, const REAL *a, const REAL *b, REAL *c, ptrdiff_t ldc, int accumulate) {         \
        REAL sum[TILE_ROWS][COLS] = {{0}};                                                                        \
        for (ptrdiff_t p = 0; p < k; ++p, a += TILE_ROWS, b += COLS)                                              \
            for (int i = 0; i < TILE_ROWS; ++i)                                                                   \
                for (int j = 0; j < COLS; ++j) sum[i][j] += a[i] * b[j];                                          \
        for (int i = 0; i < TILE_ROWS; ++i)                                                                       \
            for (int j = 0; j < COLS; ++j) c[i * ldc + j] = accumulate ? c[i * ldc + j] + sum[i][j] : sum[i][j];  \
    }

#endif

PYNN_TILE(tile_f32, float, vector_f32, TILE_COLS_F32)
PYNN_TILE(tile_f64, double, vector_f64, TILE_COLS_F64)

#endif
