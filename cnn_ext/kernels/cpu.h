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
#define PYNN_HAS(feature) (__builtin_cpu_init(), __builtin_cpu_supports(feature)) /* asks the system too */
#else
#define PYNN_HAS(feature) 0
#endif

/* Whether there are kernels for an instruction set, and the processor runs them. */
static int pynn_has_baseline(void) {
#ifdef PYNN_BUILT_BASELINE
    return 1;
#else
    return 0;
#endif
}

static int pynn_has_avx2(void) {
#ifdef PYNN_BUILT_AVX2
    return PYNN_HAS("avx2") && PYNN_HAS("fma");
#else
    return 0;
#endif
}

static int pynn_has_avx512(void) {
#ifdef PYNN_BUILT_AVX512
    return PYNN_HAS("avx2") && PYNN_HAS("fma") && PYNN_HAS("avx512f") && PYNN_HAS("avx512bw") &&
           PYNN_HAS("avx512dq") && PYNN_HAS("avx512vl");
#else
    return 0;
#endif
}

#endif
