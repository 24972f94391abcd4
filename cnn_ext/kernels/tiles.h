/* The register tile of the matrix product: C[6 × COLS] (+)= A[k × 6]ᵀ · B[k × COLS], A and B packed in panels.
 *
 * COLS is two vectors of the instruction set that this file is compiled for, so that the 12 accumulators, the two
 * vectors of B and a broadcast of A fill the 16 registers of AVX2 (or SSE) without spilling. Every element of C is
 * one chain of multiply-adds over k in ascending order.
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
    TILE_ROWS = 6,
    TILE_COLS_F32 = 2 * PYNN_VECTOR_BYTES / 4,
    TILE_COLS_F64 = 2 * PYNN_VECTOR_BYTES / 8
};

#if defined(__GNUC__) || defined(__clang__)

typedef float vector_f32 __attribute__((vector_size(PYNN_VECTOR_BYTES), aligned(4), may_alias));
typedef double vector_f64 __attribute__((vector_size(PYNN_VECTOR_BYTES), aligned(8), may_alias));

/* Named accumulators rather than an array: GCC then keeps all twelve in registers at every optimisation level. */
#define PYNN_TILE(NAME, REAL, VECTOR, COLS)                                                                       \
    static void NAME(ptrdiff_t k, const REAL *a, const REAL *b, REAL *c, ptrdiff_t ldc, int accumulate) {         \
        VECTOR c00 = {0}, c01 = {0}, c10 = {0}, c11 = {0}, c20 = {0}, c21 = {0};                                  \
        VECTOR c30 = {0}, c31 = {0}, c40 = {0}, c41 = {0}, c50 = {0}, c51 = {0};                                  \
        for (ptrdiff_t p = 0; p < k; ++p, a += TILE_ROWS, b += COLS) {                                            \
            const VECTOR b0 = *(const VECTOR *)b, b1 = *(const VECTOR *)(b + COLS / 2);                           \
            c00 += a[0] * b0, c01 += a[0] * b1, c10 += a[1] * b0, c11 += a[1] * b1;                               \
            c20 += a[2] * b0, c21 += a[2] * b1, c30 += a[3] * b0, c31 += a[3] * b1;                               \
            c40 += a[4] * b0, c41 += a[4] * b1, c50 += a[5] * b0, c51 += a[5] * b1;                               \
        }                                                                                                         \
        PYNN_STORE_ROW(VECTOR, COLS, 0, c00, c01)                                                                 \
        PYNN_STORE_ROW(VECTOR, COLS, 1, c10, c11)                                                                 \
        PYNN_STORE_ROW(VECTOR, COLS, 2, c20, c21)                                                                 \
        PYNN_STORE_ROW(VECTOR, COLS, 3, c30, c31)                                                                 \
        PYNN_STORE_ROW(VECTOR, COLS, 4, c40, c41)                                                                 \
        PYNN_STORE_ROW(VECTOR, COLS, 5, c50, c51)                                                                 \
    }
#define PYNN_STORE_ROW(VECTOR, COLS, ROW, LEFT, RIGHT)                                                            \
    {                                                                                                             \
        VECTOR *left = (VECTOR *)(c + ROW * ldc), *right = (VECTOR *)(c + ROW * ldc + COLS / 2);                  \
        if (accumulate) LEFT += *left, RIGHT += *right;                                                           \
        *left = LEFT, *right = RIGHT;                                                                             \
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
