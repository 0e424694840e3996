/* The replaceable table of system calls.
 *
 * Every file operation on the cache, the store's side files and the local provider goes through an SxSys, so that tests
 * make the N-th call fail (ENOSPC, EIO, EINTR, short writes) or stop the world there. Members have the signatures and
 * errno behaviour of the calls of the same name (Linux man-pages section 2). Thread-safe when the default table is used. */
#pragma once

#include <glib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct SxSys SxSys;
struct SxSys {
    int (*openat)(const SxSys *sys, int dirfd, const char *path, int flags, mode_t mode);
    int (*close)(const SxSys *sys, int fd);
    ssize_t (*pread)(const SxSys *sys, int fd, void *buf, size_t n, off_t off);
    ssize_t (*pwrite)(const SxSys *sys, int fd, const void *buf, size_t n, off_t off);
    int (*ftruncate)(const SxSys *sys, int fd, off_t size);
    int (*fallocate)(const SxSys *sys, int fd, int mode, off_t off, off_t len);
    int (*fsync)(const SxSys *sys, int fd);
    int (*fdatasync)(const SxSys *sys, int fd);
    int (*renameat2)(const SxSys *sys, int olddir, const char *oldpath, int newdir, const char *newpath, unsigned flags);
    int (*unlinkat)(const SxSys *sys, int dirfd, const char *path, int flags);
    int (*mkdirat)(const SxSys *sys, int dirfd, const char *path, mode_t mode);
    int (*fstat)(const SxSys *sys, int fd, struct stat *st);
    int (*fstatat)(const SxSys *sys, int dirfd, const char *path, struct stat *st, int flags);
    ssize_t (*read)(const SxSys *sys, int fd, void *buf, size_t n);
    off_t (*lseek)(const SxSys *sys, int fd, off_t off, int whence); /* SEEK_DATA and SEEK_HOLE of sparse files */
    ssize_t (*splice)(const SxSys *sys, int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags);
    int (*syncfs)(const SxSys *sys, int fd);
    int (*fstatvfs)(const SxSys *sys, int fd, struct statvfs *st);
    void *data; /* for the test that made the table */
};

const SxSys *sx_sys_default(void);

/* Whole transfers: retry EINTR and short counts. Return 0 or -errno; sx_sys_pread_full returns the count (short only at
 * end of file) or -errno. */
int sx_sys_pwrite_full(const SxSys *sys, int fd, const void *buf, size_t n, off_t off);
ssize_t sx_sys_pread_full(const SxSys *sys, int fd, void *buf, size_t n, off_t off);
/* mkdir -p with mode 0700 for what is missing. 0 or -errno. */
int sx_sys_mkdirs(const SxSys *sys, const char *path);

/* g_auto(SxFd) fd = open(...): closed at the end of the scope when it is not negative. */
typedef int SxFd;
void sx_fd_clear(SxFd *fd);
static inline int
sx_fd_take(SxFd *fd)
{
    int v = *fd;
    *fd = -1;
    return v;
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(SxFd, sx_fd_clear)
