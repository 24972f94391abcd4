/* The C headers of the kernels against plain loops in double: every tile, row count, flag and lane operation.
 *
 * .ci/native_tests.py compiles this for each instruction set, under sanitizers and for other processors. Every array has
 * its exact size on the heap, so that the address sanitizer sees the first byte that is read or written past one.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "lanes.h"
#include "mathfun.h"
#ifndef WITHOUT_PEAK /* it names registers */
#include "peak.h"
#endif
#include "tiles.h"
#include "winograd.h"

static int failures;
static void check(int holds, const char *what, int a, int b, int c) {
    if (holds) return;
    if (++failures <= 20) printf("wrong: %s (%d, %d, %d)\n", what, a, b, c);
}

static double random_number(void) { /* in [-1, 1) */
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(int64_t)state / 9223372036854775808.0;
}

/* n floats that are aligned as floats, and no better. */
typedef struct {
    float *memory, *at;
} array;
static array floats(ptrdiff_t n) {
    array made;
    made.memory = malloc((n + 1) * sizeof(float));
    made.at = made.memory + 1;
    for (ptrdiff_t i = 0; i < n; ++i) made.at[i] = (float)random_number();
    return made;
}
static void release(array a) { free(a.memory); }

/* Whether `actual` is `expected`, a sum whose terms' magnitudes sum to `size`. */
static int near_sum(double actual, double expected, double size) { return fabs(actual - expected) <= 4e-6 * size; }

/* -- gather ------------------------------------------------------------------------------------------------------- */

typedef void gather_rows(int, const float *, const ptrdiff_t *, ptrdiff_t, const pynn_term *, ptrdiff_t, const float *,
                         ptrdiff_t, const float *, int, float *, ptrdiff_t);
enum { MOST_ROWS = 25, TERMS = 3 };

static void test_gather(const char *name, gather_rows *kernel, int width, int blocks, int row, int step,
                        int rows, int flags, int n) {
    const int counts[TERMS] = {11, 16, 1}, pixel = 12 * width;
    pynn_term terms[TERMS];
    ptrdiff_t offsets[MOST_ROWS], x_end = 0, w_end = 0;
    for (int i = 0; i < rows; ++i) offsets[i] = row ? i * row : (i * 7 % rows) * 3;
    for (int t = 0; t < n; ++t) {
        terms[t] = (pynn_term){(t * 2) % 3, w_end + width * t, counts[t]};
        w_end = terms[t].w + counts[t] * width;
        for (int i = 0; i < rows; ++i) {
            const ptrdiff_t end = terms[t].x * pixel + offsets[i] + (counts[t] - 1) * step + 1;
            if (end > x_end) x_end = end;
        }
    }
    const ptrdiff_t w_block = w_end + 3, out_block = rows * width + 5;
    const ptrdiff_t w_size = w_end ? w_end + (blocks - 1) * w_block : 0, size = (blocks - 1) * out_block + rows * width;
    const array x = floats(x_end), w = floats(w_size), bias = floats(blocks * width), before = floats(size);
    const array out = floats(size), single = floats(size);
    memcpy(out.at, before.at, size * sizeof(float));
    memcpy(single.at, before.at, size * sizeof(float));
    const float *last = flags & WITH_BIAS ? bias.at : NULL;
    kernel(rows, x.at, row ? NULL : offsets, pixel, n ? terms : NULL, n, w.at, w_block, last, flags, out.at, out_block);
    for (int i = 0; i < rows; ++i) {
        kernel(1, row ? x.at + i * row : x.at, row ? NULL : offsets + i, pixel, n ? terms : NULL, n, w.at, w_block, last,
               flags, single.at + i * width, out_block);
        for (int j = 0; j < blocks * width; ++j) {
            const ptrdiff_t place = j / width * out_block + i * width + j % width;
            double sum = (flags & FROM_OUT ? before.at[place] : 0) + (flags & WITH_BIAS ? bias.at[j] : 0);
            double size = 2;
            for (int t = 0; t < n; ++t)
                for (int k = 0; k < terms[t].k; ++k) {
                    const double product = (double)x.at[terms[t].x * pixel + offsets[i] + k * step] *
                                           w.at[j / width * w_block + terms[t].w + k * width + j % width];
                    sum += product, size += fabs(product);
                }
            if (flags & WITH_RELU && sum < 0) sum = 0;
            check(near_sum(out.at[place], sum, size), name, rows, flags, n);
        }
    }
    check(memcmp(out.at, single.at, size * sizeof(float)) == 0, "equal bits however rows are grouped", rows, flags, n);
    release(x), release(w), release(bias), release(before), release(out), release(single);
}

/* The same product as without copying, and the rows where they were to go. */
static void test_copying(int rows, int flags, int n) {
    enum { ROW = 37 };
    pynn_term terms[20];
    for (int t = 0; t < n; ++t) terms[t] = (pynn_term){t, t * 256, t % 2 ? 16 : 5};
    const ptrdiff_t pixel = rows * 16;
    const array x = floats(n * pixel), w = floats(n * 256), bias = floats(16), out = floats(pixel), plain = floats(pixel);
    const array source = floats((COPIED - 1) * ROW + 16), copied = floats(COPIED * 16);
    const pynn_copy copy = {source.at, source.at, copied.at, ROW};
    memcpy(plain.at, out.at, pixel * sizeof(float));
    gather_16_copying(rows, x.at, pixel, terms, n, w.at, bias.at, flags, out.at, &copy);
    gather_16_blocked_16(rows, x.at, NULL, pixel, terms, n, w.at, 0, bias.at, flags, plain.at, 0);
    check(memcmp(out.at, plain.at, pixel * sizeof(float)) == 0, "equal bits with copying", rows, flags, n);
    for (int i = 0; i < COPIED; ++i)
        check(memcmp(copied.at + i * 16, source.at + i * ROW, 16 * sizeof(float)) == 0, "copied", rows, flags, n);
    release(x), release(w), release(bias), release(out), release(plain), release(source), release(copied);
}

static void test_gathers(void) {
    static const struct {
        const char *name;
        gather_rows *kernel;
        int width, blocks, row, step;
    } all[] = {
        {"gather_16_blocked_16", gather_16_blocked_16, 16, 1, 16, 1},
        {"gather_16_blocked_8", gather_16_blocked_8, 16, 1, 8, 1},
        {"gather_16_listed", gather_16_listed, 16, 1, 0, 1},
        {"gather_16_image", gather_16_image, 16, 1, 1, 12},
        {"gather_8_blocked_16", gather_8_blocked_16, 8, 1, 16, 1},
        {"gather_8_blocked_8", gather_8_blocked_8, 8, 1, 8, 1},
        {"gather_8_listed", gather_8_listed, 8, 1, 0, 1},
        {"gather_8_image", gather_8_image, 8, 1, 1, 12},
        {"gather_8x3_blocked_16", gather_8x3_blocked_16, 8, 3, 16, 1},
        {"gather_8x3_blocked_8", gather_8x3_blocked_8, 8, 3, 8, 1},
        {"gather_8x3_image", gather_8x3_image, 8, 3, 1, 12},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; ++i)
        for (int rows = 1; rows <= MOST_ROWS; ++rows)
            for (int flags = 0; flags < 8; ++flags)
                for (int n = 0; n <= TERMS; ++n)
                    test_gather(all[i].name, all[i].kernel, all[i].width, all[i].blocks, all[i].row, all[i].step,
                                rows, flags, n);
    for (int rows = 1; rows <= GATHER_MOST_16x1; ++rows)
        for (int flags = 0; flags < 8; ++flags)
            for (int n = 0; n <= 20; ++n) test_copying(rows, flags, n);
}

static void test_relu_keeps_nan(void) {
    const float x[16] = {NAN}, bias[16] = {NAN, -1, 2, -INFINITY, INFINITY};
    float out[16];
    gather_16_blocked_16(1, x, NULL, 0, NULL, 0, x, 0, bias, WITH_BIAS | WITH_RELU, out, 0);
    check(isnan(out[0]) && out[1] == 0 && out[2] == 2 && out[3] == 0 && isinf(out[4]), "relu and NaN", 0, 0, 0);
}

/* A bias costs the products nothing but the last rounding: 2²⁴ + 64 · 0.25 = 2²⁴ + 16, where a sum that starts from 2²⁴
 * stays there. */
static void test_bias_comes_last(void) {
    enum { N = 64 };
    float x[N], w[N * 16], bias[16], out[16];
    const pynn_term term = {0, 0, N};
    for (int k = 0; k < N; ++k) x[k] = 0.5f;
    for (int k = 0; k < N * 16; ++k) w[k] = 0.5f;
    for (int j = 0; j < 16; ++j) bias[j] = 16777216;
    gather_16_blocked_16(1, x, NULL, 0, &term, 1, w, 0, bias, WITH_BIAS, out, 0);
    check(out[0] == 16777232 && out[15] == 16777232, "gather adds the bias last", 0, 0, 0);
    vector_16(1, x, &term, 1, w, 0, bias, WITH_BIAS, out);
    check(out[0] == 16777232 && out[15] == 16777232, "vector adds the bias last", 0, 0, 0);
}

/* -- vector ------------------------------------------------------------------------------------------------------ */

typedef void vector_blocks(int, const float *, const pynn_term *, ptrdiff_t, const float *, ptrdiff_t, const float *, int,
                           float *);

static void test_vector(vector_blocks *kernel, int width, int blocks, int flags, int n) {
    const int counts[TERMS] = {23, 1, 5};
    pynn_term terms[TERMS];
    ptrdiff_t x_end = 0, w_end = 0;
    for (int t = 0; t < n; ++t) {
        terms[t] = (pynn_term){x_end + 2 * t, w_end + width * t, counts[t]};
        x_end = terms[t].x + counts[t], w_end = terms[t].w + counts[t] * width;
    }
    const ptrdiff_t w_block = w_end + 3;
    const array x = floats(x_end), w = floats((blocks - 1) * w_block + w_end), bias = floats(blocks * width);
    const array out = floats(blocks * width), single = floats(blocks * width);
    const float *last = flags & WITH_BIAS ? bias.at : NULL;
    kernel(blocks, x.at, terms, n, w.at, w_block, last, flags, out.at);
    for (int i = 0; i < blocks; ++i)
        kernel(1, x.at, terms, n, w.at + i * w_block, 0, last ? last + i * width : NULL, flags, single.at + i * width);
    for (int j = 0; j < blocks * width; ++j) {
        double sum = last ? last[j] : 0, size = 1;
        for (int t = 0; t < n; ++t)
            for (int k = 0; k < terms[t].k; ++k) {
                const double product = (double)x.at[terms[t].x + k] *
                                       w.at[j / width * w_block + terms[t].w + k * width + j % width];
                sum += product, size += fabs(product);
            }
        if (flags & WITH_RELU && sum < 0) sum = 0;
        check(near_sum(out.at[j], sum, size), "vector", width, blocks, flags);
    }
    check(memcmp(out.at, single.at, blocks * width * sizeof(float)) == 0, "equal bits however blocks are grouped", width,
          blocks, flags);
    release(x), release(w), release(bias), release(out), release(single);
}

static void test_vectors(void) {
    static const int all[] = {0, WITH_BIAS, WITH_RELU, WITH_BIAS | WITH_RELU};
    for (int blocks = 1; blocks <= 17; ++blocks)
        for (int flags = 0; flags < 4; ++flags)
            for (int n = 0; n <= TERMS; ++n)
                test_vector(vector_16, 16, blocks, all[flags], n), test_vector(vector_8, 8, blocks, all[flags], n);
}

/* -- outer -------------------------------------------------------------------------------------------------------- */

typedef void outer_rows(int, const float *, const ptrdiff_t *, const float *, ptrdiff_t, const pynn_run *, ptrdiff_t, int,
                        float *, ptrdiff_t, ptrdiff_t);

static void test_outer(const char *name, outer_rows *kernel, int width, int blocks, int row, int step, int rows, int flags,
                       int n) {
    const int counts[TERMS] = {12, 1, 7}, out_row = width + 3;
    pynn_run runs[TERMS];
    ptrdiff_t x_end = 0, dy_end = 0, offsets[MOST_ROWS];
    for (int i = 0; i < rows; ++i) offsets[i] = row ? i * row : i * 5 % 7 * 11;
    for (int r = 0; r < n; ++r) {
        runs[r] = (pynn_run){(r * 2) % 3 * 5, dy_end + r, counts[r]};
        for (int i = 0; i < rows; ++i) {
            const ptrdiff_t end = runs[r].x + offsets[i] + (counts[r] - 1) * step + 1;
            if (end > x_end) x_end = end;
        }
        dy_end = runs[r].dy + counts[r] * width;
    }
    const ptrdiff_t dy_block = dy_end + 5, out_block = rows * out_row + 2, out_size = blocks * out_block;
    const array x = floats(x_end), dy = floats(blocks * dy_block), before = floats(out_size), out = floats(out_size);
    memcpy(out.at, before.at, out_size * sizeof(float));
    kernel(rows, x.at, row ? NULL : offsets, dy.at, dy_block, n ? runs : NULL, n, flags, out.at, out_row, out_block);
    for (int block = 0; block < blocks; ++block)
        for (int i = 0; i < rows; ++i) {
            const ptrdiff_t to = block * out_block + i * out_row;
            for (int j = 0; j < width; ++j) {
                double sum = flags & FROM_OUT ? before.at[to + j] : 0, size = 1;
                for (int r = 0; r < n; ++r)
                    for (int k = 0; k < runs[r].k; ++k) {
                        const double product = (double)x.at[runs[r].x + offsets[i] + k * step] *
                                               dy.at[block * dy_block + runs[r].dy + k * width + j];
                        sum += product, size += fabs(product);
                    }
                check(near_sum(out.at[to + j], sum, size), name, rows, flags, n);
            }
            for (int j = width; j < out_row; ++j)
                check(out.at[to + j] == before.at[to + j], "what lies between rows", rows, flags, n);
        }
    release(x), release(dy), release(before), release(out);
}

static void test_outers(void) {
    static const struct {
        const char *name;
        outer_rows *kernel;
        int width, blocks, row, step;
    } all[] = {
        {"outer_16_blocked_16", outer_16_blocked_16, 16, 1, 1, 16},
        {"outer_16_blocked_8", outer_16_blocked_8, 16, 1, 1, 8},
        {"outer_16_image", outer_16_image, 16, 1, 12, 1},
        {"outer_16_listed", outer_16_listed, 16, 1, 0, 1},
        {"outer_8_blocked_16", outer_8_blocked_16, 8, 1, 1, 16},
        {"outer_8_blocked_8", outer_8_blocked_8, 8, 1, 1, 8},
        {"outer_8_image", outer_8_image, 8, 1, 12, 1},
        {"outer_8x3_image", outer_8x3_image, 8, 3, 12, 1},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; ++i)
        for (int rows = 1; rows <= MOST_ROWS; ++rows)
            for (int flags = 0; flags <= FROM_OUT; flags += FROM_OUT)
                for (int n = 0; n <= TERMS; ++n)
                    test_outer(all[i].name, all[i].kernel, all[i].width, all[i].blocks, all[i].row, all[i].step, rows,
                               flags, n);
}

/* -- the matrix product's tile ------------------------------------------------------------------------------------ */

#define TEST_TILE(NAME, REAL, COLS, TOLERANCE)                                                                       \
    static void test_##NAME(int k, int accumulate) {                                                                 \
        const int ldc = COLS + 1, size = (TILE_ROWS - 1) * ldc + COLS;                                               \
        REAL *a = malloc((k * TILE_ROWS + 1) * sizeof(REAL)), *b = malloc((k * COLS + 1) * sizeof(REAL));            \
        REAL *c = malloc(size * sizeof(REAL)), *before = malloc(size * sizeof(REAL));                                \
        for (int i = 0; i < k * TILE_ROWS; ++i) a[i + 1] = (REAL)random_number();                                    \
        for (int i = 0; i < k * COLS; ++i) b[i + 1] = (REAL)random_number();                                         \
        for (int i = 0; i < size; ++i) c[i] = before[i] = (REAL)random_number();                                     \
        NAME(k, a + 1, b + 1, c, ldc, accumulate);                                                                   \
        for (int i = 0; i < TILE_ROWS; ++i)                                                                          \
            for (int j = 0; j < COLS; ++j) {                                                                         \
                double sum = accumulate ? (double)before[i * ldc + j] : 0;                                           \
                for (int p = 0; p < k; ++p) sum += (double)a[1 + p * TILE_ROWS + i] * (double)b[1 + p * COLS + j];   \
                check(fabs((double)c[i * ldc + j] - sum) <= TOLERANCE * (k + 1), #NAME, k, accumulate, j);           \
            }                                                                                                        \
        free(a), free(b), free(c), free(before);                                                                     \
    }
TEST_TILE(tile_f32, float, TILE_COLS_F32, 1e-6)
TEST_TILE(tile_f64, double, TILE_COLS_F64, 1e-15)

/* -- lanes -------------------------------------------------------------------------------------------------------- */

static void test_transpose(int x_row, int out_row) {
    const array x = floats(7 * x_row + 8), out = floats(7 * out_row + 8);
    transpose_8(x.at, x_row, out.at, out_row);
    for (int i = 0; i < 8; ++i)
        for (int j = 0; j < 8; ++j)
            check(out.at[j * out_row + i] == x.at[i * x_row + j], "transpose_8", i, j, x_row);
    float *rows[8]; /* upside down */
    for (int j = 0; j < 8; ++j) rows[j] = out.at + (7 - j) * out_row;
    transpose_8_to(x.at, x_row, rows);
    for (int i = 0; i < 8; ++i)
        for (int j = 0; j < 8; ++j) check(rows[j][i] == x.at[i * x_row + j], "transpose_8_to", i, j, x_row);
    release(x), release(out);
}

static void put(float *to, lanes x) { memcpy(to, &x, sizeof x); }
static lanes get(const float *from) {
    lanes x;
    memcpy(&x, from, sizeof x);
    return x;
}

static void test_lanes(void) {
    static const float values[] = {-2, -0.0f, 0, 1, 3, NAN, INFINITY, -INFINITY};
    enum { COUNT = sizeof values / sizeof *values };
    for (int first = 0; first < COUNT; ++first)
        for (int second = 0; second < COUNT; ++second) {
            float x[LANE_WIDTH], y[LANE_WIDTH], out[LANE_WIDTH];
            uint8_t *bytes = malloc(LANE_WIDTH); /* no byte more */
            for (int i = 0; i < LANE_WIDTH; ++i) x[i] = values[(first + i) % COUNT], y[i] = values[(second + 3 * i) % COUNT];
            put(out, lanes_all(x[0]));
            for (int i = 0; i < LANE_WIDTH; ++i) check(!memcmp(out + i, x, 4), "lanes_all", first, second, i);
            put(out, lanes_relu(get(x)));
            for (int i = 0; i < LANE_WIDTH; ++i)
                check(isnan(x[i]) ? isnan(out[i]) : out[i] == (x[i] > 0 ? x[i] : 0), "lanes_relu", first, second, i);
            put(out, lanes_where_positive(get(y), get(x)));
            for (int i = 0; i < LANE_WIDTH; ++i)
                check(y[i] > 0 ? !memcmp(out + i, x + i, 4) : out[i] == 0, "lanes_where_positive", first, second, i);
            lanes best = get(y);
            lane_flags index = lanes_index(4);
            const lane_flags beats = lanes_beat(get(x), best);
            lanes_put(beats, get(x), &best), lanes_put_number(beats, 250, &index);
            put(out, best);
            lanes_put_index(bytes, index);
            for (int i = 0; i < LANE_WIDTH; ++i) {
                const int taken = x[i] > y[i] || isnan(x[i]);
                check(!memcmp(out + i, taken ? x + i : y + i, 4), "lanes_put", first, second, i);
                check(bytes[i] == (taken ? 250 : 4), "lanes_put_number", first, second, i);
            }
            put(out, lanes_at(lanes_get_index(bytes), 250, get(x)));
            for (int i = 0; i < LANE_WIDTH; ++i)
                check(bytes[i] == 250 ? !memcmp(out + i, x + i, 4) : out[i] == 0, "lanes_at", first, second, i);
            free(bytes);
        }
    const float one = 1;
    fetch(&one);
}

/* -- Winograd's transforms ------------------------------------------------------------------------------------------ */

static void test_winograd(int n, int gap, int relu) {
    const int stride = n + gap, period = 8;
    array d[36], y[16], v = floats(35 * stride + n), u = floats(35 * stride + n), g = floats(8 * stride + n);
    array bias = floats(period);
    const float *inputs[36];
    float *outputs[16];
    for (int i = 0; i < 36; ++i) d[i] = floats(n), inputs[i] = d[i].at;
    for (int i = 0; i < 16; ++i) y[i] = floats(n), outputs[i] = y[i].at;
    winograd_input(inputs, n, v.at, stride);
    winograd_weight(g.at, stride, n, u.at, stride);
    for (int place = 0; place < 36; ++place)
        for (int at = 0; at < n; ++at) v.at[place * stride + at] *= u.at[place * stride + at];
    winograd_output(v.at, stride, n, bias.at, period, relu, outputs);
    for (int i = 0; i < 16; ++i)
        for (int at = 0; at < n; ++at) {
            double expected = bias.at[at % period];
            for (int k = 0; k < 9; ++k)
                expected += (double)d[(i / 4 + k / 3) * 6 + i % 4 + k % 3].at[at] * g.at[k * stride + at];
            if (relu && expected < 0) expected = 0;
            check(near_sum(y[i].at[at], expected, 10), "winograd", n, i, at);
        }
    for (int i = 0; i < 36; ++i) release(d[i]);
    for (int i = 0; i < 16; ++i) release(y[i]);
    release(v), release(u), release(g), release(bias);
}

static void test_winograd_gradient(int n, int gap) {
    const int stride = n + gap;
    array d[36], dy[16], v = floats(35 * stride + n), p = floats(35 * stride + n), dg = floats(8 * stride + n);
    const float *inputs[36], *gradients[16];
    for (int i = 0; i < 36; ++i) d[i] = floats(n), inputs[i] = d[i].at;
    for (int i = 0; i < 16; ++i) dy[i] = floats(n), gradients[i] = dy[i].at;
    winograd_input(inputs, n, v.at, stride);
    winograd_output_gradient(gradients, n, p.at, stride);
    for (int place = 0; place < 36; ++place)
        for (int at = 0; at < n; ++at) v.at[place * stride + at] *= p.at[place * stride + at];
    winograd_weight_gradient(v.at, stride, n, dg.at, stride);
    for (int k = 0; k < 9; ++k)
        for (int at = 0; at < n; ++at) {
            double expected = 0;
            for (int i = 0; i < 16; ++i)
                expected += (double)d[(i / 4 + k / 3) * 6 + i % 4 + k % 3].at[at] * dy[i].at[at];
            check(near_sum(dg.at[k * stride + at], expected, 16), "winograd's gradient", n, k, at);
        }
    for (int i = 0; i < 36; ++i) release(d[i]);
    for (int i = 0; i < 16; ++i) release(dy[i]);
    release(v), release(p), release(dg);
}

/* -- functions ---------------------------------------------------------------------------------------------------- */

static void test_functions(void) {
    for (int i = -120000; i <= 120000; ++i) {
        const float x = (float)i * 1e-3f;
        const double e = exp(x), t = tanh(x), cdf = erfc(-(double)x * sqrt(0.5)) / 2;
        if (x <= 0) check(fabs(pynn_exp_nonpositive(x) - e) <= (x < -87.3f ? 1e-37 : 2.5e-7 * e), "exp", i, 0, 0);
        check(fabs(pynn_tanhf(x) - t) <= 2.5e-7 * fabs(t), "tanh", i, 0, 0);
        if (fabsf(x) < 10)
            check(fabs(pynn_normal_cdff(x, (float)exp(-0.5 * (double)x * (double)x)) - cdf) <= 5e-7 * cdf, "cdf", i, 0, 0);
    }
    for (int i = 0; i <= 720000; ++i) {
        const double x = -(double)i * 1e-3, e = exp(x);
        check(fabs(pynn_exp_nonpositive_double(x) - e) <= (x < -708.3 ? 1e-307 : 5e-16 * e), "exp in double", i, 0, 0);
    }
    check(isnan(pynn_exp_nonpositive_double(NAN)) && isnan(pynn_exp_nonpositive(NAN)) && isnan(pynn_tanhf(NAN)), "NaN", 0, 0, 0);
}

int main(void) {
    test_gathers();
    test_vectors();
    test_relu_keeps_nan();
    test_bias_comes_last();
    test_outers();
    for (int k = 0; k <= 20; ++k)
        for (int accumulate = 0; accumulate <= 1; ++accumulate) test_tile_f32(k, accumulate), test_tile_f64(k, accumulate);
    for (int row = 8; row <= 17; ++row) test_transpose(row, 25 - row);
    test_lanes();
    for (int relu = 0; relu <= 1; ++relu) test_winograd(8, 0, relu), test_winograd(12 * 8, 5, relu), test_winograd(16, 16, relu);
    test_winograd_gradient(8, 0), test_winograd_gradient(12 * 8, 5), test_winograd_gradient(16, 16);
    test_functions();
#ifndef WITHOUT_PEAK
    check(isfinite(multiply_adds(1000)), "multiply_adds", 0, 0, 0);
#endif
    printf("%d lanes, %d columns a tile, %d wrong\n", (int)LANE_WIDTH, (int)TILE_COLS_F32, failures);
    return failures > 0;
}
