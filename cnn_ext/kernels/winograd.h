/* Winograd's F(4 × 4, 3 × 3): sixteen outputs of a 3 × 3 convolution from 36 products instead of 144,
 *
 *     y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A          d: 6 × 6 inputs, g: 3 × 3 weights, y: 4 × 4 outputs
 *
 * and the gradient of the weights, nine sums of sixteen products each, from as many:
 *
 *     dg = Gᵀ [(Bᵀ d B) ⊙ (A dy Aᵀ)] G
 *
 * Bᵀ evaluates a polynomial at the points 0, ±a, ±b, ∞ and Aᵀ interpolates. Everything here is done for `n` floats side by
 * side, images × channels, LANE_WIDTH at a time. The matrices follow from the points (Lavin & Gray 2016, arXiv:1509.09308,
 * with a = 1, b = 2). With a = 3/4, b = 3/2 rounding errors are a quarter of theirs, and the coefficients of A and B are
 * floats exactly. While a tile is worked on, the memory of the next one in the row, four pixels on, is asked for.
 */
#ifndef PYNN_WINOGRAD_H
#define PYNN_WINOGRAD_H

#include "lanes.h"

enum { LINE = 16 }; /* floats of a cache line */

#define WINOGRAD_A 0.75f
#define WINOGRAD_B 1.5f
#define WINOGRAD_AA (WINOGRAD_A * WINOGRAD_A)
#define WINOGRAD_BB (WINOGRAD_B * WINOGRAD_B)

/* Bᵀ d */
PYNN_INLINE void winograd_points(const lanes *d, lanes *v) {
    const lanes even_a = d[4] - WINOGRAD_BB * d[2], odd_a = WINOGRAD_A * (d[3] - WINOGRAD_BB * d[1]);
    const lanes even_b = d[4] - WINOGRAD_AA * d[2], odd_b = WINOGRAD_B * (d[3] - WINOGRAD_AA * d[1]);
    v[0] = d[4] - (WINOGRAD_AA + WINOGRAD_BB) * d[2] + WINOGRAD_AA * WINOGRAD_BB * d[0];
    v[1] = even_a + odd_a;
    v[2] = even_a - odd_a;
    v[3] = even_b + odd_b;
    v[4] = even_b - odd_b;
    v[5] = d[5] - (WINOGRAD_AA + WINOGRAD_BB) * d[3] + WINOGRAD_AA * WINOGRAD_BB * d[1];
}

#define WINOGRAD_AT_0 (1 / (WINOGRAD_AA * WINOGRAD_BB))
#define WINOGRAD_AT_A (0.5f / (WINOGRAD_AA * (WINOGRAD_AA - WINOGRAD_BB)))
#define WINOGRAD_AT_B (0.5f / (WINOGRAD_BB * (WINOGRAD_BB - WINOGRAD_AA)))

/* G g */
PYNN_INLINE void winograd_weight_points(const lanes *g, lanes *u) {
    const lanes even_a = g[0] + WINOGRAD_AA * g[2], odd_a = WINOGRAD_A * g[1];
    const lanes even_b = g[0] + WINOGRAD_BB * g[2], odd_b = WINOGRAD_B * g[1];
    u[0] = WINOGRAD_AT_0 * g[0];
    u[1] = WINOGRAD_AT_A * (even_a + odd_a);
    u[2] = WINOGRAD_AT_A * (even_a - odd_a);
    u[3] = WINOGRAD_AT_B * (even_b + odd_b);
    u[4] = WINOGRAD_AT_B * (even_b - odd_b);
    u[5] = g[2];
}

/* Gᵀ m */
PYNN_INLINE void winograd_weight_gradients(const lanes *m, lanes *g) {
    const lanes even_a = WINOGRAD_AT_A * (m[1] + m[2]), odd_a = WINOGRAD_AT_A * (m[1] - m[2]);
    const lanes even_b = WINOGRAD_AT_B * (m[3] + m[4]), odd_b = WINOGRAD_AT_B * (m[3] - m[4]);
    g[0] = WINOGRAD_AT_0 * m[0] + even_a + even_b;
    g[1] = WINOGRAD_A * odd_a + WINOGRAD_B * odd_b;
    g[2] = WINOGRAD_AA * even_a + WINOGRAD_BB * even_b + m[5];
}

/* A dy */
PYNN_INLINE void winograd_output_points(const lanes *y, lanes *m) {
    const lanes even_a = y[0] + WINOGRAD_AA * y[2], odd_a = WINOGRAD_A * (y[1] + WINOGRAD_AA * y[3]);
    const lanes even_b = y[0] + WINOGRAD_BB * y[2], odd_b = WINOGRAD_B * (y[1] + WINOGRAD_BB * y[3]);
    m[0] = y[0];
    m[1] = even_a + odd_a;
    m[2] = even_a - odd_a;
    m[3] = even_b + odd_b;
    m[4] = even_b - odd_b;
    m[5] = y[3];
}

/* Aᵀ m */
PYNN_INLINE void winograd_outputs(const lanes *m, lanes *y) {
    const lanes even_a = m[1] + m[2], odd_a = WINOGRAD_A * (m[1] - m[2]);
    const lanes even_b = m[3] + m[4], odd_b = WINOGRAD_B * (m[3] - m[4]);
    y[0] = m[0] + even_a + even_b;
    y[1] = odd_a + odd_b;
    y[2] = WINOGRAD_AA * even_a + WINOGRAD_BB * even_b;
    y[3] = WINOGRAD_AA * odd_a + WINOGRAD_BB * odd_b + m[5];
}

/* v[i, j] = (Bᵀ d B)[i, j] of the pixels d[0] … d[35]; v[i, j] at v + (6 i + j) · stride. */
static void winograd_input(const float *const *d, ptrdiff_t n, float *v, ptrdiff_t stride) {
    for (ptrdiff_t at = 0; at < n; at += LANE_WIDTH) {
        lanes column[6], half[6][6], row[6];
        if (at % LINE == 0)
            for (int i = 0; i < 6; ++i) PYNN_UNROLL for (int j = 2; j < 6; ++j) fetch(d[6 * i + j] + at + 4 * n);
        PYNN_UNROLL for (int j = 0; j < 6; ++j) {
            PYNN_UNROLL for (int i = 0; i < 6; ++i) column[i] = *(const lanes *)(d[6 * i + j] + at);
            winograd_points(column, row);
            PYNN_UNROLL for (int i = 0; i < 6; ++i) half[i][j] = row[i];
        }
        PYNN_UNROLL for (int i = 0; i < 6; ++i) {
            winograd_points(half[i], row);
            PYNN_UNROLL for (int j = 0; j < 6; ++j) *(lanes *)(v + (6 * i + j) * stride + at) = row[j];
        }
    }
}

/* d[i, j] = (A dy Aᵀ)[i, j] of the pixels dy[0] … dy[15]; d[i, j] at d + (6 i + j) · stride. */
static void winograd_output_gradient(const float *const *dy, ptrdiff_t n, float *d, ptrdiff_t stride) {
    for (ptrdiff_t at = 0; at < n; at += LANE_WIDTH) {
        lanes column[4], half[6][4], row[6];
        if (at % LINE == 0) PYNN_UNROLL for (int i = 0; i < 16; ++i) fetch(dy[i] + at + 4 * n);
        PYNN_UNROLL for (int j = 0; j < 4; ++j) {
            PYNN_UNROLL for (int i = 0; i < 4; ++i) column[i] = *(const lanes *)(dy[4 * i + j] + at);
            winograd_output_points(column, row);
            PYNN_UNROLL for (int i = 0; i < 6; ++i) half[i][j] = row[i];
        }
        PYNN_UNROLL for (int i = 0; i < 6; ++i) {
            winograd_output_points(half[i], row);
            PYNN_UNROLL for (int j = 0; j < 6; ++j) *(lanes *)(d + (6 * i + j) * stride + at) = row[j];
        }
    }
}

/* u[i, j] = (G g Gᵀ)[i, j]; tap (k, l) at g + (3 k + l) · tap, u[i, j] at u + (6 i + j) · stride. */
static void winograd_weight(const float *g, ptrdiff_t tap, ptrdiff_t n, float *u, ptrdiff_t stride) {
    for (ptrdiff_t at = 0; at < n; at += LANE_WIDTH) {
        lanes column[3], half[6][3], row[6];
        PYNN_UNROLL for (int l = 0; l < 3; ++l) {
            PYNN_UNROLL for (int k = 0; k < 3; ++k) column[k] = *(const lanes *)(g + (3 * k + l) * tap + at);
            winograd_weight_points(column, row);
            PYNN_UNROLL for (int i = 0; i < 6; ++i) half[i][l] = row[i];
        }
        PYNN_UNROLL for (int i = 0; i < 6; ++i) {
            winograd_weight_points(half[i], row);
            PYNN_UNROLL for (int j = 0; j < 6; ++j) *(lanes *)(u + (6 * i + j) * stride + at) = row[j];
        }
    }
}

/* dg[k, l] = (Gᵀ m G)[k, l]; m[i, j] at m + (6 i + j) · stride, tap (k, l) at dg + (3 k + l) · tap. */
static void winograd_weight_gradient(const float *m, ptrdiff_t stride, ptrdiff_t n, float *dg, ptrdiff_t tap) {
    for (ptrdiff_t at = 0; at < n; at += LANE_WIDTH) {
        lanes column[6], half[3][6], row[3];
        PYNN_UNROLL for (int j = 0; j < 6; ++j) {
            PYNN_UNROLL for (int i = 0; i < 6; ++i) column[i] = *(const lanes *)(m + (6 * i + j) * stride + at);
            winograd_weight_gradients(column, row);
            PYNN_UNROLL for (int k = 0; k < 3; ++k) half[k][j] = row[k];
        }
        PYNN_UNROLL for (int k = 0; k < 3; ++k) {
            winograd_weight_gradients(half[k], row);
            PYNN_UNROLL for (int l = 0; l < 3; ++l) *(lanes *)(dg + (3 * k + l) * tap + at) = row[l];
        }
    }
}

/* y[i, j] = (Aᵀ m A)[i, j] + bias, with ReLU where `relu`, into the pixels y[0] … y[15]; bias has `period` floats. */
static void winograd_output(const float *m, ptrdiff_t stride, ptrdiff_t n, const float *bias, ptrdiff_t period, int relu,
                            float *const *y) {
    for (ptrdiff_t at = 0; at < n; at += LANE_WIDTH) {
        const lanes start = *(const lanes *)(bias + at % period);
        lanes column[6], half[4][6], row[4];
        if (at % LINE == 0) PYNN_UNROLL for (int i = 0; i < 16; ++i) fetch(y[i] + at + 4 * n);
        PYNN_UNROLL for (int j = 0; j < 6; ++j) {
            PYNN_UNROLL for (int i = 0; i < 6; ++i) column[i] = *(const lanes *)(m + (6 * i + j) * stride + at);
            winograd_outputs(column, row);
            PYNN_UNROLL for (int i = 0; i < 4; ++i) half[i][j] = row[i];
        }
        PYNN_UNROLL for (int i = 0; i < 4; ++i) {
            winograd_outputs(half[i], row);
            PYNN_UNROLL for (int j = 0; j < 4; ++j) {
                row[j] += start;
                *(lanes *)(y[4 * i + j] + at) = relu ? lanes_relu(row[j]) : row[j];
            }
        }
    }
}

#endif
