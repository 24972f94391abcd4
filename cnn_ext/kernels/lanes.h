/* LANE_WIDTH channels at once, for the loops over the blocked layout that are not products (blocked_norm.pxi and on).
 *
 * Eight channels where vectors hold as many, else as many as they hold; one without vector extensions.
 */
#ifndef PYNN_LANES_H
#define PYNN_LANES_H

#include <stdint.h>
#include <string.h>

#include "blocks.h"

#ifndef PYNN_INLINE
#define PYNN_INLINE static inline
#define PYNN_UNROLL
#endif

#if defined(__GNUC__) || defined(__clang__)
static inline void fetch(const float *x) { __builtin_prefetch(x); }
static inline ptrdiff_t take_ticket(ptrdiff_t *next) { return __atomic_fetch_add(next, 1, __ATOMIC_RELAXED); }
#else
#include <intrin.h>
static inline void fetch(const float *x) { (void)x; }
static inline ptrdiff_t take_ticket(ptrdiff_t *next) { return (ptrdiff_t)_InterlockedExchangeAdd64((long long *)next, 1); }
#endif

#if defined(__AVX__) && (defined(__GNUC__) || defined(__clang__))

/* The columns of an 8 × 8 matrix, rows x_row floats apart, by halves of halves. */
PYNN_INLINE void columns_8(const float *x, ptrdiff_t x_row, vec8 *columns) {
    typedef int32_t order __attribute__((vector_size(32)));
    vec8 a[8], b[8];
    PYNN_UNROLL for (int i = 0; i < 8; ++i) a[i] = *(const vec8 *)(x + i * x_row);
    PYNN_UNROLL for (int i = 0; i < 8; i += 2) {
        b[i] = __builtin_shuffle(a[i], a[i + 1], (order){0, 8, 2, 10, 4, 12, 6, 14});
        b[i + 1] = __builtin_shuffle(a[i], a[i + 1], (order){1, 9, 3, 11, 5, 13, 7, 15});
    }
    PYNN_UNROLL for (int i = 0; i < 8; ++i) {
        const int low = i & ~2;
        a[i] = i & 2 ? __builtin_shuffle(b[low], b[low + 2], (order){2, 3, 10, 11, 6, 7, 14, 15})
                     : __builtin_shuffle(b[low], b[low + 2], (order){0, 1, 8, 9, 4, 5, 12, 13});
    }
    PYNN_UNROLL for (int i = 0; i < 4; ++i) {
        columns[i] = __builtin_shuffle(a[i], a[i + 4], (order){0, 1, 2, 3, 8, 9, 10, 11});
        columns[i + 4] = __builtin_shuffle(a[i], a[i + 4], (order){4, 5, 6, 7, 12, 13, 14, 15});
    }
}

/* out[j, i] = x[i, j] of an 8 × 8 matrix, rows x_row and out_row floats apart. */
static void transpose_8(const float *x, ptrdiff_t x_row, float *out, ptrdiff_t out_row) {
    vec8 columns[8];
    columns_8(x, x_row, columns);
    PYNN_UNROLL for (int j = 0; j < 8; ++j) *(vec8 *)(out + j * out_row) = columns[j];
}

/* The same, row j of out at out[j]. */
static void transpose_8_to(const float *x, ptrdiff_t x_row, float *const *out) {
    vec8 columns[8];
    columns_8(x, x_row, columns);
    PYNN_UNROLL for (int j = 0; j < 8; ++j) *(vec8 *)out[j] = columns[j];
}

#else

static void transpose_8(const float *x, ptrdiff_t x_row, float *out, ptrdiff_t out_row) {
    for (int i = 0; i < 8; ++i)
        for (int j = 0; j < 8; ++j) out[j * out_row + i] = x[i * x_row + j];
}

static void transpose_8_to(const float *x, ptrdiff_t x_row, float *const *out) {
    for (int i = 0; i < 8; ++i)
        for (int j = 0; j < 8; ++j) out[j][i] = x[i * x_row + j];
}

#endif

#if defined(__GNUC__) || defined(__clang__)

enum { LANE_WIDTH = sizeof(vec8) / 4 };
typedef vec8 lanes;
typedef int32_t lane_flags __attribute__((vector_size(sizeof(vec8)), may_alias));
typedef uint8_t lane_bytes __attribute__((vector_size(sizeof(vec8) / 4), may_alias));

PYNN_INLINE lanes lanes_all(float x) { return x - (lanes){0}; }
PYNN_INLINE lane_flags lanes_index(int x) { return x - (lane_flags){0}; }
PYNN_INLINE lanes lanes_keep(lane_flags flags, lanes x) { return (lanes)(flags & (lane_flags)x); }
PYNN_INLINE lanes lanes_relu(lanes x) { return PYNN_RELU(lanes, x); }
PYNN_INLINE lanes lanes_where_positive(lanes y, lanes x) { return lanes_keep(y > 0, x); }

/* Where x takes the place of `best` as a maximum, or is NaN: the first of equals stays, and NaN is never lost. */
PYNN_INLINE lane_flags lanes_beat(lanes x, lanes best) { return (x > best) | (x != x); }
PYNN_INLINE void lanes_put(lane_flags where, lanes x, lanes *to) {
    *to = (lanes)((where & (lane_flags)x) | (~where & (lane_flags)*to));
}
PYNN_INLINE void lanes_put_number(lane_flags where, int x, lane_flags *to) { *to = (where & x) | (~where & *to); }
PYNN_INLINE void lanes_put_index(uint8_t *to, lane_flags index) {
    const lane_bytes bytes = __builtin_convertvector(index, lane_bytes);
    memcpy(to, &bytes, sizeof bytes);
}
PYNN_INLINE lane_flags lanes_get_index(const uint8_t *from) {
    lane_bytes bytes;
    memcpy(&bytes, from, sizeof bytes);
    return __builtin_convertvector(bytes, lane_flags);
}
PYNN_INLINE lanes lanes_at(lane_flags index, int at, lanes x) { return lanes_keep(index == at, x); }

#else

enum { LANE_WIDTH = 1 };
typedef float lanes;
typedef int32_t lane_flags;

static inline lanes lanes_all(float x) { return x; }
static inline lane_flags lanes_index(int x) { return x; }
static inline lanes lanes_relu(lanes x) { return x < 0 ? 0 : x; }
static inline lanes lanes_where_positive(lanes y, lanes x) { return y > 0 ? x : 0; }
static inline lane_flags lanes_beat(lanes x, lanes best) { return x > best || x != x; }
static inline void lanes_put(lane_flags where, lanes x, lanes *to) {
    if (where) *to = x;
}
static inline void lanes_put_number(lane_flags where, int x, lane_flags *to) {
    if (where) *to = x;
}
static inline void lanes_put_index(uint8_t *to, lane_flags index) { *to = (uint8_t)index; }
static inline lane_flags lanes_get_index(const uint8_t *from) { return *from; }
static inline lanes lanes_at(lane_flags index, int at, lanes x) { return index == at ? x : 0; }

#endif
#endif
