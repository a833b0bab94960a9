/* Faults of the machine, for one program: it is loaded into it before the C library.
 *
 * The file FAULTS_FILE is shared memory with whoever causes them; only files below FAULTS_DIR are concerned.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct faults {
    volatile unsigned char sync_fails;
    volatile unsigned char disk_is_full;
    volatile unsigned char unused[6];
    volatile long long clock_ahead_s;
};

static struct faults none;
static struct faults *faults = &none;
static char dir[PATH_MAX];

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("FAULTS_FILE"), *below = getenv("FAULTS_DIR");
    if (!file || !below) return;
    snprintf(dir, sizeof dir, "%s", below);
    int fd = open(file, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *shared = mmap(NULL, sizeof *faults, PROT_READ, MAP_SHARED, fd, 0);
    if (shared != MAP_FAILED) faults = shared;
    close(fd);
}

static int concerned(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strncmp(path, dir, strlen(dir)) == 0;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL_IF(cause, fd, error) \
    do { if (faults->cause && concerned(fd)) { errno = error; return -1; } } while (0)

int fsync(int fd) {
    FAIL_IF(sync_fails, fd, EIO);
    return NEXT(fsync)(fd);
}

int fdatasync(int fd) {
    FAIL_IF(sync_fails, fd, EIO);
    return NEXT(fdatasync)(fd);
}

/* A full disk takes a part of what is written. */
ssize_t write(int fd, const void *bytes, size_t length) {
    if (faults->disk_is_full && concerned(fd)) {
        if (length > 1 && (length & 1)) return NEXT(write)(fd, bytes, length / 2);
        errno = ENOSPC;
        return -1;
    }
    return NEXT(write)(fd, bytes, length);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    FAIL_IF(disk_is_full, fd, ENOSPC);
    return NEXT(writev)(fd, parts, count);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) {
    FAIL_IF(disk_is_full, fd, ENOSPC);
    return NEXT(pwrite64)(fd, bytes, length, at);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = NEXT(clock_gettime)(clock, time);
    if (result == 0 && clock == CLOCK_REALTIME) time->tv_sec += faults->clock_ahead_s;
    return result;
}
