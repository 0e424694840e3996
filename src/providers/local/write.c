/* Writing a file: filled under a temporary name in the same directory, synced, then published at once.
 *
 * ABSENT: a rename that never replaces. VERSION: the new file and the target exchange their names, then the displaced one is
 * looked at; when it is not what was expected they exchange back, so nothing of anybody is overwritten unseen.
 * A crash before the publishing leaves a temporary file; between exchange and removal the displaced file under a name that
 * says what may be done with it (temp.c); the target is at each moment wholly old or wholly new. */
#include "providers/local/local_i.h"

#include "base/log.h"
#include "base/path.h"

#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>
#include <unistd.h>

#define XATTR_ROOM (64 * 1024) /* the most that Linux allows for a list and for a value */
#define COPY_STEP (8 * 1024 * 1024) /* between two looks at cancel and progress */

typedef struct Filling {
    Local *l;
    const SxUpload *up;
    GCancellable *cancel;
    int dir;                  /* for reading, so that it can be synced */
    int fd;                   /* the temporary file */
    char temp[LOCAL_TMP_MAX]; /* "" when there is none (any more) */
    struct stat st;           /* of the temporary file when it was complete */
} Filling;

static void
progress(Filling *f, gint64 done)
{
    if (f->up->progress != NULL)
        f->up->progress(f->up->data, done);
}

static bool
all_zero(const char *p, gsize n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* Blocks of zeros become holes. */
static int
fill_by_read(Filling *f, gint64 off)
{
    const SxSource *src = &f->up->source;
    g_autofree char *buf = g_malloc(LOCAL_BUFFER);
    while (off < src->size) {
        if (g_cancellable_is_cancelled(f->cancel))
            return -ECANCELED;
        gsize want = (gsize)MIN(src->size - off, LOCAL_BUFFER);
        gssize k = src->read(src->data, off, buf, want);
        if (k < 0)
            return (int)k;
        if ((gsize)k != want)
            return -EIO; /* the source is shorter than it said */
        int r = all_zero(buf, want) ? 0 : sx_sys_pwrite_full(f->l->sys, f->fd, buf, want, off);
        if (r != 0)
            return r;
        off += k;
        progress(f, off);
    }
    return 0;
}

/* A range of data of the source's file; *off is how far it came. 0, or -errno of the first call that cannot do it. */
static int
copy_segment(Filling *f, gint64 *off, gint64 end)
{
    while (*off < end) {
        if (g_cancellable_is_cancelled(f->cancel))
            return -ECANCELED;
        off64_t in = *off, out = *off;
        ssize_t k = RETRY(copy_file_range(f->up->source.fd, &in, f->fd, &out, (size_t)MIN(end - *off, COPY_STEP), 0));
        if (k < 0)
            return -errno;
        if (k == 0)
            return -EXDEV; /* some file systems answer so when they cannot */
        *off += k;
        progress(f, *off);
    }
    return 0;
}

/* The kernel copies, or shares the blocks; holes stay holes. */
static int
fill_by_kernel(Filling *f, gint64 *off)
{
    const SxSource *src = &f->up->source;
    const SxSys *sys = f->l->sys;
    if (ioctl(f->fd, FICLONE, src->fd) == 0) {
        *off = src->size;
        return 0;
    }
    while (*off < src->size) {
        gint64 data = sys->lseek(sys, src->fd, *off, SEEK_DATA);
        if (data < 0 && errno == ENXIO) {
            *off = src->size;
            break;
        }
        if (data < 0)
            return -EXDEV;
        gint64 hole = sys->lseek(sys, src->fd, data, SEEK_HOLE);
        *off = MIN(data, src->size);
        int r = copy_segment(f, off, hole < 0 ? src->size : MIN(hole, src->size));
        if (r != 0)
            return r;
    }
    return 0;
}

/* Is the source still what it was when the copying began? */
static int
recheck(const SxSource *src)
{
    char last;
    gsize n = src->size > 0;
    gssize k = src->read(src->data, src->size - (gint64)n, &last, n);
    return k < 0 ? (int)k : k == (gssize)n ? 0 : -EIO;
}

static int
fill(Filling *f)
{
    const SxSource *src = &f->up->source;
    gint64 off = 0;
    int r = -EXDEV;
    if (src->fd >= 0)
        r = fill_by_kernel(f, &off);
    if (r == 0)
        r = recheck(src);
    else if (r == -EXDEV || r == -EINVAL || r == -ENOSYS || r == -EOPNOTSUPP || r == -EBADF)
        r = fill_by_read(f, off);
    if (r != 0)
        return r;
    return RETRY(f->l->sys->ftruncate(f->l->sys, f->fd, src->size)) == 0 ? 0 : -errno;
}

/* Owner, access lists and extended attributes of the file that will be replaced, as far as we may: it stays the same file to
 * people, although it becomes another inode. Before the mode is set, because a new owner clears bits of it. */
static void
inherit(Filling *f, const char *name, const struct stat *target)
{
    const SxSys *sys = f->l->sys;
    if (geteuid() == 0 && fchown(f->fd, target->st_uid, target->st_gid) != 0)
        sx_debug("%s: the owner of %s cannot be kept: %s", f->l->env->name, name, g_strerror(errno));
    g_auto(SxFd) old = RETRY(sys->openat(sys, f->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0));
    g_autofree char *names = g_malloc(XATTR_ROOM), *value = g_malloc(XATTR_ROOM);
    ssize_t n = old >= 0 ? flistxattr(old, names, XATTR_ROOM) : 0;
    for (ssize_t i = 0; i < n; i += (ssize_t)strlen(names + i) + 1) {
        if (!g_str_has_prefix(names + i, "user.") && !g_str_has_prefix(names + i, "system.posix_acl"))
            continue; /* privileges (security.capability) belong to the content that was there, as set-user-id does */
        ssize_t k = fgetxattr(old, names + i, value, XATTR_ROOM);
        if (k >= 0 && fsetxattr(f->fd, names + i, value, (size_t)k, 0) != 0)
            sx_debug("%s: %s of %s cannot be kept: %s", f->l->env->name, names + i, name, g_strerror(errno));
    }
}

/* target: what is there now, or NULL. */
static int
set_attributes(Filling *f, const struct stat *target)
{
    int mode = f->up->mode >= 0 ? f->up->mode & 07777 : target != NULL ? (int)(target->st_mode & 01777) : -1;
    /* The file is ours: EPERM means a file system that has no such modes, and the content matters more. */
    if (mode >= 0 && fchmod(f->fd, (mode_t)mode) != 0 && errno != EPERM && errno != EOPNOTSUPP)
        return -errno;
    gint64 t = f->up->mtime_ns;
    if (t == SX_TIME_UNKNOWN)
        return 0;
    gint64 secs = t / 1000000000, rest = t % 1000000000;
    if (rest < 0) {
        secs--;
        rest += 1000000000;
    }
    const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = secs, .tv_nsec = (long)rest}};
    return futimens(f->fd, times) == 0 ? 0 : -errno;
}

static int
make_temp(Filling *f, const struct stat *target)
{
    /* Where the final mode is known nobody else reads it before it is set; otherwise the umask decides, as for any new file. */
    mode_t mode = f->up->mode >= 0 || target != NULL ? 0600 : 0666;
    for (int tries = 0;; tries++) {
        sx_local_temp_name(f->l, f->temp);
        f->fd = RETRY(f->l->sys->openat(f->l->sys, f->dir, f->temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
        if (f->fd >= 0)
            return 0;
        f->temp[0] = '\0';
        if (errno != EEXIST || tries == 10)
            return -errno;
    }
}

static int
complete(Filling *f, const char *name, const struct stat *target)
{
    const SxSys *sys = f->l->sys;
    int r = make_temp(f, target);
    if (r == 0)
        r = fill(f);
    if (r == 0 && target != NULL)
        inherit(f, name, target);
    if (r == 0)
        r = set_attributes(f, target);
    if (r == 0 && RETRY(sys->fsync(sys, f->fd)) != 0) /* before the name: a crash never shows an empty file */
        r = -errno;
    if (r == 0 && RETRY(sys->fstat(sys, f->fd, &f->st)) != 0)
        r = -errno;
    if (r == 0 && f->st.st_size != f->up->source.size)
        r = -EIO;
    return r;
}

/* ---- publishing ---- */

static int
look(Filling *f, const char *name, struct stat *st)
{
    return RETRY(f->l->sys->fstatat(f->l->sys, f->dir, name, st, AT_SYMLINK_NOFOLLOW)) == 0 ? 0 : -errno;
}

/* 0, -ENOENT when nothing is there, -ESTALE and so on. */
static int
check_target(Filling *f, const char *name, struct stat *st)
{
    int r = look(f, name, st);
    if (r == -ENOENT) {
        int absent = sx_local_check(NULL, &f->up->cond);
        return absent != 0 ? absent : -ENOENT;
    }
    if (r != 0)
        return r;
    if (S_ISDIR(st->st_mode))
        return -EISDIR;
    if (!S_ISREG(st->st_mode))
        return f->up->cond.kind == SX_IF_VERSION ? -ESTALE : -EEXIST;
    return sx_local_check(st, &f->up->cond);
}

static int
rename_over(Filling *f, const char *name)
{
    if (RETRY(f->l->sys->renameat2(f->l->sys, f->dir, f->temp, f->dir, name, 0)) != 0)
        return -errno;
    f->temp[0] = '\0';
    return 0;
}

/* Without RENAME_EXCHANGE a race remains; probe's caps say so from then on. */
static int
replace_unwatched(Filling *f, const char *name)
{
    struct stat st;
    int r = check_target(f, name, &st);
    return r == 0 ? rename_over(f, name) : r == -ENOENT ? -ESTALE : r;
}

static int
exchange(Filling *f, const char *name)
{
    const SxSys *sys = f->l->sys;
    return RETRY(sys->renameat2(sys, f->dir, f->temp, f->dir, name, RENAME_EXCHANGE)) == 0 ? 0 : -errno;
}

/* The names have changed places; what is under ours is not what was expected. */
static int
undo_exchange(Filling *f, const char *name)
{
    struct stat st;
    int r = exchange(f, name);
    /* The target vanished, the disk fails, or another process exchanged in between: what we displaced must not stay hidden. */
    if (r != 0 || look(f, f->temp, &st) != 0 || st.st_ino != f->st.st_ino) {
        sx_local_recover(f->l, f->dir, f->temp);
        f->temp[0] = '\0';
    }
    return -ESTALE;
}

static int
exchange_version(Filling *f, const char *name)
{
    if (g_atomic_int_get(&f->l->no_exchange))
        return replace_unwatched(f, name);
    char swap[LOCAL_TMP_MAX];
    sx_local_swap_name(f->l, (guint64)f->st.st_ino, f->up->cond.version, swap);
    int r = sx_local_rename_noreplace(f->l, f->dir, f->temp, f->dir, swap);
    if (r != 0)
        return r;
    g_strlcpy(f->temp, swap, sizeof f->temp);
    r = exchange(f, name);
    if (r == -EINVAL || r == -ENOSYS) {
        g_atomic_int_set(&f->l->no_exchange, 1);
        return replace_unwatched(f, name);
    }
    if (r != 0)
        return r == -ENOENT ? -ESTALE : r;
    struct stat st;
    r = look(f, f->temp, &st);
    if (r != 0 || !S_ISREG(st.st_mode) || sx_local_check(&st, &f->up->cond) != 0)
        return undo_exchange(f, name);
    return 0; /* what is under f->temp is the old version: removed by the caller */
}

static int
replace_version(Filling *f, const char *name)
{
    g_mutex_lock(&f->l->swap);
    int r = exchange_version(f, name);
    g_mutex_unlock(&f->l->swap);
    return r;
}

static int
publish(Filling *f, const char *name)
{
    int r;
    struct stat st;
    switch (f->up->cond.kind) {
    case SX_IF_ABSENT:
        r = sx_local_rename_noreplace(f->l, f->dir, f->temp, f->dir, name);
        if (r == 0)
            f->temp[0] = '\0';
        break;
    case SX_IF_VERSION: r = replace_version(f, name); break;
    default:
        r = check_target(f, name, &st);
        if (r == 0 || r == -ENOENT)
            r = rename_over(f, name);
    }
    /* The name is on the disk before anybody believes that the upload is done. */
    if (r == 0 && RETRY(f->l->sys->fsync(f->l->sys, f->dir)) != 0 && errno != EINVAL)
        r = -errno;
    return r;
}

static void
clean_up(Filling *f)
{
    if (f->temp[0] != '\0' && RETRY(f->l->sys->unlinkat(f->l->sys, f->dir, f->temp, 0)) != 0)
        sx_warn("%s: %s stays until tomorrow: %s", f->l->env->name, f->temp, g_strerror(errno));
    if (f->fd >= 0)
        f->l->sys->close(f->l->sys, f->fd);
    if (f->dir >= 0)
        f->l->sys->close(f->l->sys, f->dir);
}

bool
sx_local_write(void *self, const char *path, const SxUpload *up, SxRemote **ret, GCancellable *cancel, GError **error)
{
    Local *l = self;
    const char *name = sx_path_basename(path);
    Filling f = {.l = l, .up = up, .cancel = cancel, .fd = -1};
    f.dir = sx_local_parent(l, path, O_RDONLY);
    struct stat target;
    int there = f.dir >= 0 ? check_target(&f, name, &target) : f.dir;
    int r = there == -ENOENT && f.dir >= 0 ? 0 : there;
    if (r == 0)
        r = complete(&f, name, there == 0 ? &target : NULL);
    if (r == 0) {
        sx_local_mine(l, path, &f.st);
        r = publish(&f, name);
    }
    clean_up(&f);
    if (r != 0)
        return sx_local_fail(error, -r, path);
    *ret = sx_local_remote(l, -1, name, &f.st);
    return true;
}

/* ---- copy: a write whose source is a file beside it ---- */

typedef struct CopySource {
    Local *l;
    int fd;
    struct stat st;
} CopySource;

static gssize
read_copied(void *data, gint64 off, void *buf, gsize n)
{
    CopySource *c = data;
    gssize k = sx_sys_pread_full(c->l->sys, c->fd, buf, n, off);
    struct stat now;
    if (k >= 0 && (RETRY(c->l->sys->fstat(c->l->sys, c->fd, &now)) != 0 || now.st_size != c->st.st_size ||
                   now.st_mtim.tv_sec != c->st.st_mtim.tv_sec || now.st_mtim.tv_nsec != c->st.st_mtim.tv_nsec))
        return -ESTALE;
    return k;
}

bool
sx_local_copy(void *self, const char *from, const char *to, GCancellable *cancel, GError **error)
{
    Local *l = self;
    g_auto(SxFd) dir = sx_local_parent(l, from, O_PATH);
    if (dir < 0)
        return sx_local_fail(error, -dir, from);
    g_auto(SxFd) fd = RETRY(l->sys->openat(l->sys, dir, sx_path_basename(from), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0));
    CopySource c = {.l = l, .fd = fd};
    if (fd < 0 || RETRY(l->sys->fstat(l->sys, fd, &c.st)) != 0)
        return sx_local_fail(error, errno, from);
    if (!S_ISREG(c.st.st_mode))
        return sx_local_fail(error, S_ISDIR(c.st.st_mode) ? EISDIR : EINVAL, from);
    SxUpload up = {
        .source = {.size = c.st.st_size, .read = read_copied, .fd = fd, .data = &c},
        .cond = {.kind = SX_IF_ABSENT, .size = -1, .mtime_ns = SX_TIME_UNKNOWN},
        .mtime_ns = (gint64)c.st.st_mtim.tv_sec * 1000000000 + c.st.st_mtim.tv_nsec,
        .mode = (int)(c.st.st_mode & 07777),
    };
    g_autoptr(SxRemote) made = NULL;
    return sx_local_write(l, to, &up, &made, cancel, error);
}
