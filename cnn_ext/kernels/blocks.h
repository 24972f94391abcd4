/* Register tiles of the blocked layout (blocked.pxi), for float.
 *
 * gather: out[row, :] (+)= Σ_terms Σ_k x[row, k] · w[k, :] + bias   (convolution and fully-connected, forward and input)
 * outer:  out[row, :] (+)= Σ_runs Σ_k x[k, row] · dy[k, :]          (their weight gradients)
 * vector: out[block, :] = Σ_terms Σ_k x[k] · w[block, k, :] + bias  (fully-connected forward, of one image)
 *
 * A row of `out`, `w` and `dy` is one channel block: LANES = 16 or 8 floats, whole vectors of the instruction set; of three
 * blocks of 8, gather and outer take a row each at once, as one alone would load more than it multiplies. As many
 * rows are taken at a time as leave the accumulators, the vectors of w or dy and a broadcast in registers: bounds are
 * compile-time constants, and every loop over them is unrolled. Each element of `out` is one chain of multiply-adds in
 * the order of the terms, however rows are grouped, so that grouping never changes a result. It starts from zero, and the
 * bias is added last: a chain that starts from a large one would round each product to the bias's last digit.
 */
#ifndef PYNN_BLOCKS_H
#define PYNN_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

/* k consecutive rows of packed weights at w (floats), and where their x begins, in units of `pixel` floats. */
typedef struct {
    ptrdiff_t x, w, k;
} pynn_term;

/* k rows of dy, and where the x that goes with them begins; in floats. */
typedef struct {
    ptrdiff_t x, dy, k;
} pynn_run;

/* COPIED rows of weights at `source`, `row` floats apart, go to where they lie together; those at `next` are asked for. */
typedef struct {
    const float *source, *next;
    float *to;
    ptrdiff_t row;
} pynn_copy;
enum { COPIED = 16 };

/* Whether a tile starts from what is in `out` instead of zero, and what is done at its end; a set of flags. */
enum { FROM_OUT = 1, WITH_BIAS = 2, WITH_RELU = 4 };

#if defined(__GNUC__) || defined(__clang__)

#define PYNN_INLINE static inline __attribute__((always_inline))
#define PYNN_UNROLL _Pragma("GCC unroll 16")
#if defined(__AVX512F__)
#define PYNN_WIDE 64
enum { GATHER_MOST_16x1 = 12, GATHER_MOST_8x1 = 12, GATHER_MOST_8x3 = 6, OUTER_MOST_16x1 = 8, OUTER_MOST_8x1 = 9, OUTER_MOST_8x3 = 6 };
#elif defined(__AVX__)
#define PYNN_WIDE 32
enum { GATHER_MOST_16x1 = 6, GATHER_MOST_8x1 = 12, GATHER_MOST_8x3 = 4, OUTER_MOST_16x1 = 6, OUTER_MOST_8x1 = 9, OUTER_MOST_8x3 = 4 };
#elif defined(__aarch64__) /* 32 registers */
#define PYNN_WIDE 16
enum { GATHER_MOST_16x1 = 6, GATHER_MOST_8x1 = 12, GATHER_MOST_8x3 = 4, OUTER_MOST_16x1 = 6, OUTER_MOST_8x1 = 12, OUTER_MOST_8x3 = 4 };
#else /* a product takes a register of its own */
#define PYNN_WIDE 16
enum { GATHER_MOST_16x1 = 3, GATHER_MOST_8x1 = 5, GATHER_MOST_8x3 = 2, OUTER_MOST_16x1 = 3, OUTER_MOST_8x1 = 6, OUTER_MOST_8x3 = 2 };
#endif
typedef float vec16 __attribute__((vector_size(PYNN_WIDE), aligned(4), may_alias));
typedef float vec8 __attribute__((vector_size(PYNN_WIDE < 32 ? PYNN_WIDE : 32), aligned(4), may_alias));

/* Listed rows take a register each for their addresses. */
enum { OUTER_LISTED_16 = OUTER_MOST_16x1 > 6 ? 6 : OUTER_MOST_16x1 };

/* Hides a pointer's value: GCC would otherwise join the scalar loads of neighbouring steps and run out of registers. */
#define PYNN_OPAQUE(pointer) __asm__("" : "+r"(pointer))

/* sum += product, there and then where multiplying and adding are two instructions: GCC would otherwise finish one sum
 * after the other, for which the factors of all eight steps of gather would have to be in registers. */
#if defined(__SSE2__) && !defined(__FMA__)
#define PYNN_ADD(sum, product) do { sum += product; __asm__("" : "+x"(sum)); } while (0)
#define PYNN_IN_STEPS(at) PYNN_OPAQUE(at)
#else
#define PYNN_ADD(sum, product) sum += product
#define PYNN_IN_STEPS(at) (void)(at)
#endif

/* max(x, 0), NaN staying NaN. */
#define PYNN_RELU(VEC, x) ((VEC)(~((x) < 0) & (__typeof__((x) < 0))(x)))

#define PYNN_START(VEC, LANES, INIT)                                                                                 \
    enum { V = LANES * 4 / sizeof(VEC), L = sizeof(VEC) / 4 };                                                       \
    VEC acc[12][V];                                                                                                  \
    PYNN_UNROLL for (int i = 0; i < R; ++i) PYNN_UNROLL for (int j = 0; j < V; ++j) acc[i][j] = INIT;

/* ROW: floats between the rows of x; 0: x_rows has their offsets. STEP: floats between the k of a term. BLOCKS of out at a
 * time, w_block and out_block floats apart. copy: what is copied between the terms, a row each; NULL: nothing. */
#define PYNN_GATHER(VEC, LANES, BLOCKS)                                                                              \
    PYNN_INLINE void gather_##LANES##x##BLOCKS(                                                                      \
        const int R, const ptrdiff_t ROW, const ptrdiff_t STEP, const float *x, const ptrdiff_t *x_rows,             \
        ptrdiff_t pixel, const pynn_term *terms, ptrdiff_t n, const float *w, ptrdiff_t w_block, const float *bias,  \
        int flags, float *out, ptrdiff_t out_block, const pynn_copy *copy) {                                         \
        PYNN_START(VEC, LANES * BLOCKS,                                                                              \
                   flags & FROM_OUT ? *(const VEC *)(out + i * LANES + PYNN_PLACE(LANES, out_block)) : (VEC){0})     \
        const float *rows[12];                                                                                       \
        if (ROW == 0) PYNN_UNROLL for (int i = 0; i < R; ++i) rows[i] = x + x_rows[i];                               \
        for (const pynn_term *t = terms; t < terms + n; ++t) {                                                       \
            const float *b = w + t->w, *b1 = b + w_block, *b2 = b1 + w_block, *a = x + t->x * pixel;                 \
            ptrdiff_t at = t->x * pixel, k = t->k;                                                                   \
            if (copy && t - terms < COPIED) PYNN_COPY(VEC, LANES, t - terms)                                         \
            if (BLOCKS > 1) {                                                                                        \
                PYNN_OPAQUE(b1); /* else each step has addresses of its own */                                       \
                PYNN_OPAQUE(b2);                                                                                     \
            }                                                                                                        \
            for (; STEP == 1 && k >= 8; k -= 8, b += 8 * LANES, b1 += 8 * LANES, b2 += 8 * LANES, a += 8, at += 8)   \
                PYNN_UNROLL for (int q = 0; q < 8; ++q) PYNN_GATHER_STEP(VEC, LANES, q)                              \
            if (STEP == 1 && ROW != 0) PYNN_OPAQUE(k); /* else the rest would be unrolled, too */                     \
            for (; k > 0; --k, b += LANES, b1 += LANES, b2 += LANES, a += STEP, at += STEP)                          \
                PYNN_GATHER_STEP(VEC, LANES, 0)                                                                      \
        }                                                                                                            \
        if (copy) for (ptrdiff_t i = n; i < COPIED; ++i) PYNN_COPY(VEC, LANES, i)                                    \
        PYNN_ADD_BIAS(VEC, j * L)                                                                                    \
        PYNN_UNROLL for (int i = 0; i < R; ++i) PYNN_UNROLL for (int j = 0; j < V; ++j) {                            \
            if (flags & WITH_RELU) acc[i][j] = PYNN_RELU(VEC, acc[i][j]);                                            \
            *(VEC *)(out + i * LANES + PYNN_PLACE(LANES, out_block)) = acc[i][j];                                    \
        }                                                                                                            \
    }
#define PYNN_ADD_BIAS(VEC, PLACE)                                                                                    \
    if (flags & WITH_BIAS)                                                                                           \
        PYNN_UNROLL for (int j = 0; j < V; ++j) PYNN_UNROLL for (int i = 0; i < R; ++i)                              \
            PYNN_ADD(acc[i][j], *(const VEC *)(bias + PLACE));
#define PYNN_COPY(VEC, LANES, I)                                                                                     \
    {                                                                                                                \
        PYNN_UNROLL for (int j = 0; j < V; ++j)                                                                      \
            *(VEC *)(copy->to + (I) * LANES + j * L) = *(const VEC *)(copy->source + (I) * copy->row + j * L);       \
        __builtin_prefetch(copy->next + (I) * copy->row);                                                            \
    }
#define PYNN_PLACE(LANES, BLOCK) (j * L / LANES * (BLOCK) + j * L % LANES) /* of vector j */
#define PYNN_GATHER_STEP(VEC, LANES, Q)                                                                              \
    {                                                                                                                \
        VEC columns[V];                                                                                              \
        if (ROW != 0) PYNN_OPAQUE(a);                                                                                \
        else PYNN_IN_STEPS(at);                                                                                      \
        PYNN_UNROLL for (int j = 0; j < V; ++j)                                                                      \
            columns[j] = *(const VEC *)((j * L < LANES ? b : j * L < 2 * LANES ? b1 : b2) + (Q) * LANES + j * L % LANES);\
        PYNN_UNROLL for (int i = 0; i < R; ++i) {                                                                    \
            const float value = ROW != 0 ? a[i * ROW + (Q)] : rows[i][at + (Q)];                                     \
            PYNN_UNROLL for (int j = 0; j < V; ++j) PYNN_ADD(acc[i][j], value * columns[j]);                         \
        }                                                                                                            \
    }

/* ROW and STEP: floats between the rows (0: x_rows has their offsets) and between the k of x. out_row: between those of out.
 * BLOCKS of dy at a time, dy_block floats apart, to blocks of out out_block floats apart. */
#define PYNN_OUTER(VEC, LANES, BLOCKS)                                                                               \
    PYNN_INLINE void outer_##LANES##x##BLOCKS(                                                                       \
        const int R, const ptrdiff_t ROW, const ptrdiff_t STEP, const float *x, const ptrdiff_t *x_rows,             \
        const float *dy, ptrdiff_t dy_block, const pynn_run *runs, ptrdiff_t n, int flags, float *out,               \
        ptrdiff_t out_row, ptrdiff_t out_block) {                                                                    \
        PYNN_START(VEC, LANES * BLOCKS, flags & FROM_OUT ?                                                           \
                   *(const VEC *)(out + i * out_row + PYNN_PLACE(LANES, out_block)) : (VEC){0})                      \
        const float *rows[12];                                                                                       \
        if (ROW == 0) PYNN_UNROLL for (int i = 0; i < R; ++i) rows[i] = x + x_rows[i];                               \
        for (const pynn_run *run = runs; run < runs + n; ++run) {                                                    \
            const float *a = x + run->x, *b = dy + run->dy, *b1 = b + dy_block, *b2 = b1 + dy_block;                 \
            ptrdiff_t at = run->x;                                                                                   \
            for (ptrdiff_t k = run->k; k > 0; --k, a += STEP, at += STEP, b += LANES, b1 += LANES, b2 += LANES) {    \
                VEC columns[V];                                                                                      \
                if (ROW != 0) PYNN_OPAQUE(a);                                                                        \
                else PYNN_IN_STEPS(at);                                                                              \
                PYNN_UNROLL for (int j = 0; j < V; ++j)                                                              \
                    columns[j] = *(const VEC *)((j * L < LANES ? b : j * L < 2 * LANES ? b1 : b2) + j * L % LANES);  \
                PYNN_UNROLL for (int i = 0; i < R; ++i) {                                                            \
                    const float value = ROW != 0 ? a[i * ROW] : rows[i][at];                                         \
                    PYNN_UNROLL for (int j = 0; j < V; ++j) PYNN_ADD(acc[i][j], value * columns[j]);                 \
                }                                                                                                    \
            }                                                                                                        \
        }                                                                                                            \
        PYNN_UNROLL for (int i = 0; i < R; ++i) PYNN_UNROLL for (int j = 0; j < V; ++j)                              \
            *(VEC *)(out + i * out_row + PYNN_PLACE(LANES, out_block)) = acc[i][j];                                  \
    }

/* R blocks of out at a time, w_block floats apart in w: eight sums, of which a product need not wait for the last. */
#define PYNN_VECTOR(VEC, LANES)                                                                                      \
    PYNN_INLINE void vector_tile_##LANES(const int R, const float *x, const pynn_term *terms, ptrdiff_t n,           \
                                         const float *w, ptrdiff_t w_block, const float *bias, int flags,            \
                                         float *out) {                                                               \
        PYNN_START(VEC, LANES, (VEC){0})                                                                             \
        for (const pynn_term *t = terms; t < terms + n; ++t) {                                                       \
            const float *a = x + t->x, *b = w + t->w;                                                                \
            for (ptrdiff_t k = 0; k < t->k; ++k, b += LANES)                                                         \
                PYNN_UNROLL for (int i = 0; i < R; ++i) PYNN_UNROLL for (int j = 0; j < V; ++j)                      \
                    PYNN_ADD(acc[i][j], a[k] * *(const VEC *)(b + i * w_block + j * L));                             \
        }                                                                                                            \
        PYNN_ADD_BIAS(VEC, i * LANES + j * L)                                                                        \
        PYNN_UNROLL for (int i = 0; i < R; ++i) PYNN_UNROLL for (int j = 0; j < V; ++j) {                            \
            if (flags & WITH_RELU) acc[i][j] = PYNN_RELU(VEC, acc[i][j]);                                            \
            *(VEC *)(out + i * LANES + j * L) = acc[i][j];                                                           \
        }                                                                                                            \
    }
PYNN_GATHER(vec16, 16, 1)
PYNN_GATHER(vec8, 8, 1)
PYNN_GATHER(vec8, 8, 3)
PYNN_VECTOR(vec16, 16)
PYNN_VECTOR(vec8, 8)
PYNN_OUTER(vec16, 16, 1)
PYNN_OUTER(vec8, 8, 1)
PYNN_OUTER(vec8, 8, 3)

/* Any number of rows, in the largest tiles that fit the registers, of nearly equal height. */
#define PYNN_GATHER_ROWS(NAME, LANES, BLOCKS, ROW, STEP)                                                             \
    static void NAME(int rows, const float *x, const ptrdiff_t *x_rows, ptrdiff_t pixel, const pynn_term *terms,     \
                     ptrdiff_t n, const float *w, ptrdiff_t w_block, const float *bias, int flags, float *out,       \
                     ptrdiff_t out_block) {                                                                          \
        /* Listed rows take a register each for their addresses. */                                                  \
        enum { MOST = ROW == 0 && GATHER_MOST_##LANES##x##BLOCKS > 6 ? 6 : GATHER_MOST_##LANES##x##BLOCKS };         \
        for (int tiles = (rows + MOST - 1) / MOST; tiles > 0; --tiles) {                                             \
            const int height = (rows + tiles - 1) / tiles;                                                           \
            switch (height) { PYNN_HEIGHTS(PYNN_GATHER_CASE, LANES, BLOCKS, ROW, STEP) }                             \
            x += height * ROW, out += height * LANES, rows -= height;                                                \
            if (ROW == 0) x_rows += height;                                                                          \
        }                                                                                                            \
    }
#define PYNN_GATHER_CASE(R, LANES, BLOCKS, ROW, STEP)                                                                \
    case R:                                                                                                          \
        if (R <= MOST)                                                                                               \
            gather_##LANES##x##BLOCKS(                                                                               \
                R, ROW, STEP, x, x_rows, pixel, terms, n, w, w_block, bias, flags, out, out_block, NULL);            \
        break;
/* One tile, which copies weights on the way: between multiply-adds there is room for loads and stores. */
#define PYNN_GATHER_COPYING(NAME, LANES, ROW)                                                                        \
    static void NAME(int rows, const float *x, ptrdiff_t pixel, const pynn_term *terms, ptrdiff_t n, const float *w, \
                     const float *bias, int flags, float *out, const pynn_copy *copy) {                              \
        enum { MOST = GATHER_MOST_##LANES##x1 };                                                                     \
        switch (rows) { PYNN_HEIGHTS(PYNN_GATHER_COPYING_CASE, LANES, ROW) }                                         \
    }
#define PYNN_GATHER_COPYING_CASE(R, LANES, ROW)                                                                      \
    case R:                                                                                                          \
        if (R <= MOST) gather_##LANES##x1(R, ROW, 1, x, NULL, pixel, terms, n, w, 0, bias, flags, out, 0, copy);     \
        break;
#define PYNN_OUTER_ROWS(NAME, LANES, BLOCKS, ROW, STEP)                                                              \
    static void NAME(int rows, const float *x, const ptrdiff_t *x_rows, const float *dy, ptrdiff_t dy_block,         \
                     const pynn_run *runs, ptrdiff_t n, int flags, float *out, ptrdiff_t out_row,                    \
                     ptrdiff_t out_block) {                                                                          \
        enum { MOST = ROW == 0 ? OUTER_LISTED_16 : OUTER_MOST_##LANES##x##BLOCKS };                                  \
        for (int tiles = (rows + MOST - 1) / MOST; tiles > 0; --tiles) {                                             \
            const int height = (rows + tiles - 1) / tiles;                                                           \
            switch (height) { PYNN_HEIGHTS(PYNN_OUTER_CASE, LANES, BLOCKS, ROW, STEP) }                              \
            x += height * ROW, out += height * out_row, rows -= height;                                              \
            if (ROW == 0) x_rows += height;                                                                          \
        }                                                                                                            \
    }
#define PYNN_OUTER_CASE(R, LANES, BLOCKS, ROW, STEP)                                                                 \
    case R:                                                                                                          \
        if (R <= MOST)                                                                                               \
            outer_##LANES##x##BLOCKS(                                                                                \
                R, ROW, STEP, x, x_rows, dy, dy_block, runs, n, flags, out, out_row, out_block);                     \
        break;
#define PYNN_VECTOR_BLOCKS(NAME, VEC, LANES)                                                                         \
    static void NAME(int blocks, const float *x, const pynn_term *terms, ptrdiff_t n, const float *w,                \
                     ptrdiff_t w_block, const float *bias, int flags, float *out) {                                  \
        enum { MOST = 8 * sizeof(VEC) / (LANES * 4) };                                                               \
        for (int i = 0; i < blocks;) {                                                                               \
            const float *b = w + i * w_block, *own = flags & WITH_BIAS ? bias + i * LANES : bias;                    \
            if (blocks - i >= MOST)                                                                                  \
                vector_tile_##LANES(MOST, x, terms, n, b, w_block, own, flags, out + i * LANES), i += MOST;          \
            else                                                                                                     \
                vector_tile_##LANES(1, x, terms, n, b, w_block, own, flags, out + i * LANES), i += 1;                \
        }                                                                                                            \
    }
#define PYNN_HEIGHTS(CASE, ...)                                                                                      \
    CASE(1, __VA_ARGS__) CASE(2, __VA_ARGS__) CASE(3, __VA_ARGS__) CASE(4, __VA_ARGS__)                              \
    CASE(5, __VA_ARGS__) CASE(6, __VA_ARGS__) CASE(7, __VA_ARGS__) CASE(8, __VA_ARGS__)                              \
    CASE(9, __VA_ARGS__) CASE(10, __VA_ARGS__) CASE(11, __VA_ARGS__) CASE(12, __VA_ARGS__)

#else /* a compiler without vector extensions */

enum { GATHER_MOST_16x1 = 6, OUTER_MOST_16x1 = 6, OUTER_LISTED_16 = 6 };

#define PYNN_GATHER_ROWS(NAME, LANES, BLOCKS, ROW, STEP)                                                             \
    static void NAME(int rows, const float *x, const ptrdiff_t *x_rows, ptrdiff_t pixel, const pynn_term *terms,     \
                     ptrdiff_t n, const float *w, ptrdiff_t w_block, const float *bias, int flags, float *out,       \
                     ptrdiff_t out_block) {                                                                          \
        for (int i = 0; i < rows; ++i)                                                                               \
            for (int j = 0; j < BLOCKS * LANES; ++j) {                                                               \
                float *target = out + i * LANES + j / LANES * out_block + j % LANES;                                 \
                float sum = flags & FROM_OUT ? *target : 0;                                                          \
                for (const pynn_term *t = terms; t < terms + n; ++t) {                                               \
                    const float *a = x + t->x * pixel + (ROW != 0 ? i * ROW : x_rows[i]);                            \
                    const float *b = w + t->w + j / LANES * w_block + j % LANES;                                     \
                    for (ptrdiff_t k = 0; k < t->k; ++k) sum += a[k * STEP] * b[k * LANES];                          \
                }                                                                                                    \
                if (flags & WITH_BIAS) sum += bias[j];                                                               \
                *target = flags & WITH_RELU && sum < 0 ? 0 : sum;                                                    \
            }                                                                                                        \
    }
#define PYNN_GATHER_COPYING(NAME, LANES, ROW)                                                                        \
    static void NAME(int rows, const float *x, ptrdiff_t pixel, const pynn_term *terms, ptrdiff_t n, const float *w, \
                     const float *bias, int flags, float *out, const pynn_copy *copy) {                              \
        for (int i = 0; i < COPIED; ++i)                                                                             \
            for (int j = 0; j < LANES; ++j) copy->to[i * LANES + j] = copy->source[i * copy->row + j];               \
        gather_##LANES##_blocked_##ROW(rows, x, NULL, pixel, terms, n, w, 0, bias, flags, out, 0);                   \
    }
#define PYNN_OUTER_ROWS(NAME, LANES, BLOCKS, ROW, STEP)                                                              \
    static void NAME(int rows, const float *x, const ptrdiff_t *x_rows, const float *dy, ptrdiff_t dy_block,         \
                     const pynn_run *runs, ptrdiff_t n, int flags, float *out, ptrdiff_t out_row,                    \
                     ptrdiff_t out_block) {                                                                          \
        for (int i = 0; i < rows; ++i)                                                                               \
            for (int j = 0; j < BLOCKS * LANES; ++j) {                                                               \
                float *target = out + i * out_row + j / LANES * out_block + j % LANES;                               \
                float sum = flags & FROM_OUT ? *target : 0;                                                          \
                for (const pynn_run *run = runs; run < runs + n; ++run) {                                            \
                    const float *a = x + run->x + (ROW != 0 ? i * ROW : x_rows[i]);                                  \
                    const float *b = dy + run->dy + j / LANES * dy_block + j % LANES;                                \
                    for (ptrdiff_t k = 0; k < run->k; ++k) sum += a[k * STEP] * b[k * LANES];                        \
                }                                                                                                    \
                *target = sum;                                                                                       \
            }                                                                                                        \
    }
#define PYNN_VECTOR_BLOCKS(NAME, VEC, LANES)                                                                         \
    static void NAME(int blocks, const float *x, const pynn_term *terms, ptrdiff_t n, const float *w,                \
                     ptrdiff_t w_block, const float *bias, int flags, float *out) {                                  \
        for (int i = 0; i < blocks * LANES; ++i) {                                                                   \
            float sum = 0;                                                                                           \
            for (const pynn_term *t = terms; t < terms + n; ++t) {                                                   \
                const float *a = x + t->x, *b = w + t->w + i / LANES * w_block + i % LANES;                          \
                for (ptrdiff_t k = 0; k < t->k; ++k) sum += a[k] * b[k * LANES];                                     \
            }                                                                                                        \
            if (flags & WITH_BIAS) sum += bias[i];                                                                   \
            out[i] = flags & WITH_RELU && sum < 0 ? 0 : sum;                                                         \
        }                                                                                                            \
    }

#endif

/* Blocked images have rows (images) of one channel block; images of few channels have twelve images innermost. */
PYNN_GATHER_ROWS(gather_16_blocked_16, 16, 1, 16, 1)
PYNN_GATHER_COPYING(gather_16_copying, 16, 16)
PYNN_GATHER_ROWS(gather_16_blocked_8, 16, 1, 8, 1)
PYNN_GATHER_ROWS(gather_16_listed, 16, 1, 0, 1)
PYNN_GATHER_ROWS(gather_16_image, 16, 1, 1, 12)
PYNN_GATHER_ROWS(gather_8_listed, 8, 1, 0, 1)
PYNN_GATHER_ROWS(gather_8_blocked_16, 8, 1, 16, 1)
PYNN_GATHER_ROWS(gather_8_blocked_8, 8, 1, 8, 1)
PYNN_GATHER_ROWS(gather_8_image, 8, 1, 1, 12)
PYNN_GATHER_ROWS(gather_8x3_blocked_16, 8, 3, 16, 1)
PYNN_GATHER_ROWS(gather_8x3_blocked_8, 8, 3, 8, 1)
PYNN_GATHER_ROWS(gather_8x3_image, 8, 3, 1, 12)
PYNN_OUTER_ROWS(outer_16_blocked_16, 16, 1, 1, 16)
PYNN_OUTER_ROWS(outer_16_blocked_8, 16, 1, 1, 8)
PYNN_OUTER_ROWS(outer_16_image, 16, 1, 12, 1)
PYNN_OUTER_ROWS(outer_16_listed, 16, 1, 0, 1)
PYNN_OUTER_ROWS(outer_8_blocked_16, 8, 1, 1, 16)
PYNN_OUTER_ROWS(outer_8_blocked_8, 8, 1, 1, 8)
PYNN_OUTER_ROWS(outer_8_image, 8, 1, 12, 1)
PYNN_OUTER_ROWS(outer_8x3_image, 8, 3, 12, 1)
PYNN_VECTOR_BLOCKS(vector_16, vec16, 16)
PYNN_VECTOR_BLOCKS(vector_8, vec8, 8)

#endif
