#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int
d_openat(const SxSys *sys, int dirfd, const char *path, int flags, mode_t mode)
{
    return openat(dirfd, path, flags | O_CLOEXEC, mode);
}
static int
d_close(const SxSys *sys, int fd)
{
    return close(fd);
}
static ssize_t
d_pread(const SxSys *sys, int fd, void *buf, size_t n, off_t off)
{
    return pread(fd, buf, n, off);
}
static ssize_t
d_pwrite(const SxSys *sys, int fd, const void *buf, size_t n, off_t off)
{
    return pwrite(fd, buf, n, off);
}
static int
d_ftruncate(const SxSys *sys, int fd, off_t size)
{
    return ftruncate(fd, size);
}
static int
d_fallocate(const SxSys *sys, int fd, int mode, off_t off, off_t len)
{
    return fallocate(fd, mode, off, len);
}
static int
d_fsync(const SxSys *sys, int fd)
{
    return fsync(fd);
}
static int
d_fdatasync(const SxSys *sys, int fd)
{
    return fdatasync(fd);
}
static int
d_renameat2(const SxSys *sys, int olddir, const char *oldpath, int newdir, const char *newpath, unsigned flags)
{
    return renameat2(olddir, oldpath, newdir, newpath, flags);
}
static int
d_unlinkat(const SxSys *sys, int dirfd, const char *path, int flags)
{
    return unlinkat(dirfd, path, flags);
}
static int
d_mkdirat(const SxSys *sys, int dirfd, const char *path, mode_t mode)
{
    return mkdirat(dirfd, path, mode);
}
static int
d_fstat(const SxSys *sys, int fd, struct stat *st)
{
    return fstat(fd, st);
}
static int
d_fstatat(const SxSys *sys, int dirfd, const char *path, struct stat *st, int flags)
{
    return fstatat(dirfd, path, st, flags);
}
static ssize_t
d_read(const SxSys *sys, int fd, void *buf, size_t n)
{
    return read(fd, buf, n);
}
static off_t
d_lseek(const SxSys *sys, int fd, off_t off, int whence)
{
    return lseek(fd, off, whence);
}
static ssize_t
d_splice(const SxSys *sys, int in, off_t *in_off, int out, off_t *out_off, size_t n, unsigned flags)
{
    return splice(in, in_off, out, out_off, n, flags);
}
static int
d_syncfs(const SxSys *sys, int fd)
{
    return syncfs(fd);
}
static int
d_fstatvfs(const SxSys *sys, int fd, struct statvfs *st)
{
    return fstatvfs(fd, st);
}

const SxSys *
sx_sys_default(void)
{
    static const SxSys sys = {
        .openat = d_openat,       .close = d_close,         .pread = d_pread,       .pwrite = d_pwrite,
        .ftruncate = d_ftruncate, .fallocate = d_fallocate, .fsync = d_fsync,       .fdatasync = d_fdatasync,
        .renameat2 = d_renameat2, .unlinkat = d_unlinkat,   .mkdirat = d_mkdirat,   .fstat = d_fstat,
        .fstatat = d_fstatat,     .read = d_read,           .lseek = d_lseek,       .splice = d_splice,
        .syncfs = d_syncfs,       .fstatvfs = d_fstatvfs,
    };
    return &sys;
}

int
sx_sys_pwrite_full(const SxSys *sys, int fd, const void *buf, size_t n, off_t off)
{
    const char *p = buf;
    while (n > 0) {
        ssize_t k = sys->pwrite(sys, fd, p, n, off);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return -errno;
        if (k == 0)
            return -EIO;
        p += k;
        off += k;
        n -= (size_t)k;
    }
    return 0;
}

ssize_t
sx_sys_pread_full(const SxSys *sys, int fd, void *buf, size_t n, off_t off)
{
    size_t done = 0;
    while (done < n) {
        ssize_t k = sys->pread(sys, fd, (char *)buf + done, n - done, off + (off_t)done);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return -errno;
        if (k == 0)
            break;
        done += (size_t)k;
    }
    return (ssize_t)done;
}

int
sx_sys_mkdirs(const SxSys *sys, const char *path)
{
    g_autofree char *copy = g_strdup(path);
    for (char *p = copy + 1;; p++) {
        if (*p != '/' && *p != '\0')
            continue;
        char keep = *p;
        *p = '\0';
        if (sys->mkdirat(sys, AT_FDCWD, copy, 0700) != 0 && errno != EEXIST)
            return -errno;
        *p = keep;
        if (keep == '\0')
            break;
    }
    struct stat st;
    if (sys->fstatat(sys, AT_FDCWD, path, &st, 0) != 0)
        return -errno;
    return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

void
sx_fd_clear(SxFd *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}
