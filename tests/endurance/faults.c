/* Makes chosen system calls of a process fail; preloaded by faults.py.
 *
 * Between fault_begin and fault_end each call of the functions below that concerns a folder, or a file that was opened
 * there, is written down, and the one at place `at` fails: with `error` as errno, or, where `error` is 0, by writing
 * half of what it was given. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST 1000

static const char *names[MOST];
static char folder[4096];
static int active, seen, at, error;
static char opened_there[1024]; /* by descriptor */

void fault_begin(const char *where, int place, int number) {
    strncpy(folder, where, sizeof folder - 1);
    memset(opened_there, 0, sizeof opened_there);
    seen = 0, at = place, error = number, active = 1;
}

int fault_end(void) {
    active = 0;
    return seen;
}

const char *fault_name(int place) { return names[place]; }

static int is_there(const char *path) { return !strncmp(path, folder, strlen(folder)); }

static int was_opened_there(int fd) {
    return fd >= 0 && fd < (int)sizeof opened_there && opened_there[fd];
}

/* Whether this call is the one. */
static int fails(const char *name, int concerned) {
    if (!active || !concerned || seen >= MOST) return 0;
    names[seen] = name;
    return seen++ == at;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define CALL(name, concerned, parameters, arguments)             \
    int name parameters {                                        \
        if (fails(#name, concerned)) return errno = error, -1;   \
        return NEXT(name) arguments;                             \
    }
#define OF_PATH(name, parameters, arguments) CALL(name, is_there(path), parameters, arguments)
#define OF_FILE(name, parameters, arguments) CALL(name, was_opened_there(fd), parameters, arguments)
#define OPEN(name)                                               \
    int name(const char *path, int flags, ...) {                 \
        va_list rest;                                            \
        va_start(rest, flags);                                   \
        mode_t mode = va_arg(rest, mode_t);                      \
        va_end(rest);                                            \
        if (fails("open", is_there(path))) return errno = error, -1; \
        int fd = NEXT(name)(path, flags, mode);                  \
        if (active && is_there(path) && fd >= 0 && fd < (int)sizeof opened_there) opened_there[fd] = 1; \
        return fd;                                               \
    }

OPEN(open)
OPEN(open64)
OF_PATH(rename, (const char *path, const char *to), (path, to))
OF_PATH(link, (const char *path, const char *to), (path, to))
OF_PATH(chmod, (const char *path, mode_t mode), (path, mode))
OF_PATH(stat, (const char *path, struct stat *to), (path, to))
OF_PATH(stat64, (const char *path, struct stat64 *to), (path, to))
OF_PATH(lstat, (const char *path, struct stat *to), (path, to))
OF_PATH(lstat64, (const char *path, struct stat64 *to), (path, to))
OF_FILE(fsync, (int fd), (fd))
OF_FILE(fdatasync, (int fd), (fd))
OF_FILE(fchmod, (int fd, mode_t mode), (fd, mode))
OF_FILE(fchown, (int fd, uid_t user, gid_t group), (fd, user, group))
OF_FILE(ftruncate, (int fd, off_t size), (fd, size))
OF_FILE(ftruncate64, (int fd, off64_t size), (fd, size))
OF_FILE(fstat, (int fd, struct stat *to), (fd, to))
OF_FILE(fstat64, (int fd, struct stat64 *to), (fd, to))

/* As Linux does it: the descriptor is gone whatever close says. */
int close(int fd) {
    int there = was_opened_there(fd), failing = fails("close", there);
    if (there) opened_there[fd] = 0;
    int result = NEXT(close)(fd);
    return failing ? errno = error, -1 : result;
}

ssize_t write(int fd, const void *bytes, size_t size) {
    if (fails("write", was_opened_there(fd))) {
        if (error) return errno = error, -1;
        size = (size + 1) / 2;
    }
    return NEXT(write)(fd, bytes, size);
}
