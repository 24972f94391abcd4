/* Whether a team of threads can be made, found out before OpenMP's library is asked for it, which ends the process where it
 * cannot: as under a limit of processes or of memory.
 *
 * Each thread that starts parallel regions has a team of its own, whose threads wait between them. So what a calling
 * thread had last it has still, and only a larger team is tried: its threads are made and ended, then OpenMP makes its own.
 */
#ifndef PYNN_TEAM_H
#define PYNN_TEAM_H

enum { MOST_THREADS = 256 };

#if defined(_OPENMP) && !defined(_WIN32)

#include <omp.h>
#include <pthread.h>
#include <stdlib.h>

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t may_end;
    int ending;
} pynn_trial;

static void *pynn_wait(void *at) {
    pynn_trial *trial = (pynn_trial *)at;
    pthread_mutex_lock(&trial->lock);
    while (!trial->ending) pthread_cond_wait(&trial->may_end, &trial->lock);
    pthread_mutex_unlock(&trial->lock);
    return NULL;
}

/* Bytes of a stack as OpenMP's variables ask for it: a number of kilobytes, or with B, K, M or G; 0 for the system's. */
static size_t pynn_stack(void) {
    const char *wanted = getenv("OMP_STACKSIZE");
    char *unit;
    if (!wanted && !(wanted = getenv("GOMP_STACKSIZE"))) return 0;
    const unsigned long long size = strtoull(wanted, &unit, 10);
    while (*unit == ' ') ++unit;
    const int shift = *unit == 'B' || *unit == 'b' ? 0 : *unit == 'M' || *unit == 'm' ? 20 : *unit == 'G' || *unit == 'g' ? 30 : 10;
    return size > (~0ull >> 1 >> shift) ? 0 : (size_t)(size << shift);
}

/* Whether so many threads can be there at once. */
static int pynn_try_threads(int count) {
    pynn_trial trial = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
    pthread_t made[MOST_THREADS];
    pthread_attr_t attributes;
    const size_t stack = pynn_stack();
    int n = 0;
    if (pthread_attr_init(&attributes)) return 0;
    if (stack) pthread_attr_setstacksize(&attributes, stack);
    while (n < count && !pthread_create(&made[n], &attributes, pynn_wait, &trial)) ++n;
    pthread_mutex_lock(&trial.lock);
    trial.ending = 1;
    pthread_cond_broadcast(&trial.may_end);
    pthread_mutex_unlock(&trial.lock);
    for (int i = 0; i < n; ++i) pthread_join(made[i], NULL);
    pthread_attr_destroy(&attributes);
    return n == count;
}

/* n, or 1 where the calling thread cannot have a team of n; it is not tried again in vain. */
static int team_of(int n) {
    static __thread int last = 1, refused = MOST_THREADS + 1;
    if (n > last) {
        if (n >= refused) return 1;
        if (!pynn_try_threads(n - 1)) return refused = n, 1;
        int there = 0;
#pragma omp parallel num_threads(n) reduction(+ : there)
        there += 1;
        n = there;
    }
    if (n > 1) last = n;
    return n;
}

#elif defined(_OPENMP)
static int team_of(int n) { return n; }
#else
static int team_of(int n) { return n; } /* loops are serial then */
#endif
#endif
