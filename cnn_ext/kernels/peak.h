/* Twelve independent chains of multiply-adds over whole vectors: as fast as this processor can be. */
#ifndef PYNN_PEAK_H
#define PYNN_PEAK_H

#include "blocks.h"

#if defined(__GNUC__) || defined(__clang__)

enum { PEAK_FLOPS = 12 * 2 * PYNN_WIDE / 4 };  // of one step

#if defined(__x86_64__) || defined(__i386__)
#define PYNN_KEEP(vector) __asm__ volatile("" : "+x"(vector))
#else
#define PYNN_KEEP(vector) __asm__ volatile("" : "+w"(vector))
#endif

/* The chains start apart, or they would be joined into one. */
static float multiply_adds(ptrdiff_t steps) {
    vec16 a0 = {1}, a1 = {2}, a2 = {3}, a3 = {4}, a4 = {5}, a5 = {6}, a6 = {7}, a7 = {8}, a8 = {9}, a9 = {10};
    vec16 a10 = {11}, a11 = {12}, m = {0.5f};
    for (ptrdiff_t i = 0; i < steps; ++i) {
        a0 = a0 * m + m, a1 = a1 * m + m, a2 = a2 * m + m, a3 = a3 * m + m, a4 = a4 * m + m, a5 = a5 * m + m;
        a6 = a6 * m + m, a7 = a7 * m + m, a8 = a8 * m + m, a9 = a9 * m + m, a10 = a10 * m + m, a11 = a11 * m + m;
        PYNN_KEEP(m);
    }
    a0 += a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9 + a10 + a11;
    return a0[0];
}

#else

enum { PEAK_FLOPS = 2 };
static float multiply_adds(ptrdiff_t steps) {
    volatile float a = 1, m = 0.5f;
    for (ptrdiff_t i = 0; i < steps; ++i) a = a * m + m;
    return a;
}

#endif
#endif
