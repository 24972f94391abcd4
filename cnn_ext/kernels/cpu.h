/* What the processor and the build can do; compiled without any instruction-set flag. */
#ifndef PYNN_CPU_H
#define PYNN_CPU_H

#ifdef _OPENMP
#include <omp.h>
static int pynn_openmp(void) { return 1; }
#else
static int pynn_openmp(void) { return 0; }
#endif

#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))

/* Both ask the operating system too, which has to save the registers. */
static int pynn_has_avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static int pynn_has_avx512(void) {
    return pynn_has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

#else

static int pynn_has_avx2(void) { return 0; }
static int pynn_has_avx512(void) { return 0; }

#endif

#endif
