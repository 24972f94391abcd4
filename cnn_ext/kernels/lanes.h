/* LANE_WIDTH channels at once, for the loops over the blocked layout that are not products (blocked_units.pxi).
 *
 * Eight channels where vectors hold as many, else as many as they hold; one without vector extensions.
 */
#ifndef PYNN_LANES_H
#define PYNN_LANES_H

#include <stdint.h>
#include <string.h>

#include "blocks.h"

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

/* `best` and `index` where x is larger, or NaN: the first of equals stays, and NaN is never lost. */
PYNN_INLINE void lanes_take(lanes x, int at, lanes *best, lane_flags *index) {
    const lane_flags taken = (x > *best) | (x != x);
    *best = (lanes)((taken & (lane_flags)x) | (~taken & (lane_flags)*best));
    *index = (taken & at) | (~taken & *index);
}
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
static inline void lanes_take(lanes x, int at, lanes *best, lane_flags *index) {
    if (x > *best || x != x) *best = x, *index = at;
}
static inline void lanes_put_index(uint8_t *to, lane_flags index) { *to = (uint8_t)index; }
static inline lane_flags lanes_get_index(const uint8_t *from) { return *from; }
static inline lanes lanes_at(lane_flags index, int at, lanes x) { return index == at ? x : 0; }

#endif
#endif
