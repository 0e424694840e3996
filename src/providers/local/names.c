/* Calls that change names and attributes. */
#include "providers/local/local_i.h"

#include "base/path.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Tells what is now at path; a success of the call that made it is kept even when this fails. */
static void
tell(Local *l, int dir, const char *path, SxKind kind, SxRemote **ret)
{
    struct stat st;
    const char *name = sx_path_basename(path);
    if (RETRY(l->sys->fstatat(l->sys, dir, name, &st, AT_SYMLINK_NOFOLLOW)) == 0) {
        sx_local_mine(l, path, &st);
        *ret = sx_local_remote(l, dir, name, &st);
    } else {
        *ret = sx_remote_new(name, kind);
    }
}

bool
sx_local_mkdir(void *self, const char *path, SxRemote **ret, GCancellable *cancel, GError **error)
{
    Local *l = self;
    const char *name = sx_path_basename(path);
    g_auto(SxFd) dir = sx_local_parent(l, path, O_PATH);
    if (dir < 0)
        return sx_local_fail(error, -dir, path);
    if (RETRY(l->sys->mkdirat(l->sys, dir, name, 0777)) != 0)
        return sx_local_fail(error, errno, path);
    g_auto(SxFd) made = l->watch != NULL ? sx_local_dir(l, path, O_PATH) : -1;
    if (made >= 0) /* it will not be listed: the core knows that it is empty */
        sx_watch_add(l->watch, made, path);
    tell(l, dir, path, SX_KIND_DIR, ret);
    return true;
}

bool
sx_local_symlink(void *self, const char *path, const char *target, SxRemote **ret, GCancellable *cancel, GError **error)
{
    Local *l = self;
    const char *name = sx_path_basename(path);
    g_auto(SxFd) dir = sx_local_parent(l, path, O_PATH);
    if (dir < 0)
        return sx_local_fail(error, -dir, path);
    if (symlinkat(target, dir, name) != 0)
        return sx_local_fail(error, errno, path);
    tell(l, dir, path, SX_KIND_SYMLINK, ret);
    return true;
}

/* Neither RENAME_NOREPLACE nor links: look, then rename. A race remains, and the caps say so from now on. */
static int
rename_after_look(Local *l, int from_dir, const char *from, int to_dir, const char *to)
{
    struct stat st;
    g_atomic_int_set(&l->no_exchange, 1);
    if (RETRY(l->sys->fstatat(l->sys, to_dir, to, &st, AT_SYMLINK_NOFOLLOW)) == 0)
        return -EEXIST;
    if (errno != ENOENT)
        return -errno;
    return RETRY(l->sys->renameat2(l->sys, from_dir, from, to_dir, to, 0)) == 0 ? 0 : -errno;
}

int
sx_local_rename_noreplace(Local *l, int from_dir, const char *from, int to_dir, const char *to)
{
    if (RETRY(l->sys->renameat2(l->sys, from_dir, from, to_dir, to, RENAME_NOREPLACE)) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -errno;
    /* A file system without it, or a directory into itself. link() does not replace either, but is for files only. */
    if (linkat(from_dir, from, to_dir, to, 0) == 0)
        return RETRY(l->sys->unlinkat(l->sys, from_dir, from, 0)) == 0 ? 0 : -errno;
    if (errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS)
        return rename_after_look(l, from_dir, from, to_dir, to);
    return -errno;
}

static int
wrong_kind(const struct stat *st, SxKind kind)
{
    bool is_dir = S_ISDIR(st->st_mode);
    if (kind == SX_KIND_NONE || is_dir == (kind == SX_KIND_DIR))
        return 0;
    return is_dir ? -EISDIR : -ENOTDIR;
}

bool
sx_local_move(void *self, const char *from, const char *to, SxKind kind, GCancellable *cancel, GError **error)
{
    Local *l = self;
    struct stat st;
    g_auto(SxFd) from_dir = sx_local_parent(l, from, O_PATH);
    if (from_dir < 0)
        return sx_local_fail(error, -from_dir, from);
    if (RETRY(l->sys->fstatat(l->sys, from_dir, sx_path_basename(from), &st, AT_SYMLINK_NOFOLLOW)) != 0)
        return sx_local_fail(error, errno, from);
    int r = wrong_kind(&st, kind);
    if (r != 0)
        return sx_local_fail(error, -r, from);
    g_auto(SxFd) to_dir = sx_local_parent(l, to, O_PATH);
    if (to_dir < 0)
        return sx_local_fail(error, -to_dir, to);
    sx_local_mine(l, from, NULL);
    sx_local_mine(l, to, &st);
    bool watched = l->watch != NULL && S_ISDIR(st.st_mode);
    if (watched)
        sx_watch_rename(l->watch, from, to);
    r = sx_local_rename_noreplace(l, from_dir, sx_path_basename(from), to_dir, sx_path_basename(to));
    if (r != 0 && watched)
        sx_watch_rename(l->watch, to, from);
    return r == 0 || sx_local_fail(error, -r, r == -EEXIST ? to : from);
}

/* ---- remove ---- */

static int
remove_dir(Local *l, int dir, const char *name)
{
    if (RETRY(l->sys->unlinkat(l->sys, dir, name, AT_REMOVEDIR)) == 0)
        return 0;
    if (errno != ENOTEMPTY && errno != EEXIST)
        return -errno;
    /* Perhaps only leftovers of ours are in it, which nobody sees. */
    g_auto(SxFd) below = RETRY(l->sys->openat(l->sys, dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0));
    if (below < 0 || sx_local_sweep_dir(l, below, 0) != 0)
        return -ENOTEMPTY;
    if (RETRY(l->sys->unlinkat(l->sys, dir, name, AT_REMOVEDIR)) == 0)
        return 0;
    return errno == EEXIST ? -ENOTEMPTY : -errno;
}

/* Takes the file out of sight first, so that what is checked is what is removed. */
static int
remove_version(Local *l, int dir, const char *name, const SxCond *cond)
{
    char away[LOCAL_TMP_MAX];
    sx_local_swap_name(l, 0, cond->version, away);
    int r = sx_local_rename_noreplace(l, dir, name, dir, away);
    if (r != 0)
        return r;
    struct stat st;
    r = RETRY(l->sys->fstatat(l->sys, dir, away, &st, AT_SYMLINK_NOFOLLOW)) == 0 ? sx_local_check(&st, cond) : -errno;
    if (r == 0)
        r = RETRY(l->sys->unlinkat(l->sys, dir, away, 0)) == 0 ? 0 : -errno;
    if (r == 0)
        return 0;
    int back = sx_local_rename_noreplace(l, dir, away, dir, name);
    if (back == -EEXIST) /* a new file has taken the name meanwhile: both stay */
        sx_local_recover(l, dir, away);
    return r;
}

bool
sx_local_remove(void *self, const char *path, SxKind kind, const SxCond *cond, GCancellable *cancel, GError **error)
{
    Local *l = self;
    const char *name = sx_path_basename(path);
    struct stat st;
    g_auto(SxFd) dir = sx_local_parent(l, path, O_PATH);
    if (dir < 0)
        return sx_local_fail(error, -dir, path);
    if (RETRY(l->sys->fstatat(l->sys, dir, name, &st, AT_SYMLINK_NOFOLLOW)) != 0)
        return sx_local_fail(error, errno, path);
    int r = wrong_kind(&st, kind);
    if (r == 0)
        sx_local_mine(l, path, NULL);
    if (r == 0 && S_ISDIR(st.st_mode))
        r = remove_dir(l, dir, name);
    else if (r == 0 && cond->kind == SX_IF_VERSION) {
        r = sx_local_check(&st, cond); /* most often seen before anything is touched */
        if (r == 0)
            r = remove_version(l, dir, name, cond);
    } else if (r == 0)
        r = RETRY(l->sys->unlinkat(l->sys, dir, name, 0)) == 0 ? 0 : -errno;
    return r == 0 || sx_local_fail(error, -r, path);
}

/* ---- attributes ---- */

static int
set_mode(Local *l, int dir, const char *name, int mode)
{
    g_auto(SxFd) fd = RETRY(l->sys->openat(l->sys, dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC, 0));
    if (fd < 0)
        return -errno;
    struct stat st;
    if (RETRY(l->sys->fstat(l->sys, fd, &st)) != 0)
        return -errno;
    if (S_ISLNK(st.st_mode))
        return 0; /* links have no mode */
    char proc[64]; /* the object itself, also without the right to open it */
    g_snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
    return chmod(proc, (mode_t)mode & 07777) == 0 ? 0 : -errno;
}

bool
sx_local_set_attr(void *self, const char *path, gint64 mtime_ns, int mode, SxRemote **ret, GCancellable *cancel, GError **error)
{
    Local *l = self;
    const char *name = *path != '\0' ? sx_path_basename(path) : ".";
    g_auto(SxFd) dir = *path != '\0' ? sx_local_parent(l, path, O_PATH) : sx_local_dir(l, "", O_PATH);
    if (dir < 0)
        return sx_local_fail(error, -dir, path);
    int r = mode >= 0 ? set_mode(l, dir, name, mode) : 0;
    if (r != 0)
        return sx_local_fail(error, -r, path);
    if (mtime_ns != SX_TIME_UNKNOWN) {
        gint64 secs = mtime_ns / 1000000000, rest = mtime_ns % 1000000000;
        if (rest < 0) {
            secs--;
            rest += 1000000000;
        }
        const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = secs, .tv_nsec = (long)rest}};
        if (utimensat(dir, name, times, AT_SYMLINK_NOFOLLOW) != 0)
            return sx_local_fail(error, errno, path);
    }
    struct stat st;
    if (RETRY(l->sys->fstatat(l->sys, dir, name, &st, AT_SYMLINK_NOFOLLOW)) == 0) {
        sx_local_mine(l, path, &st);
        *ret = sx_local_remote(l, dir, name, &st);
    }
    return true;
}
