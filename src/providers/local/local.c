/* The `local` provider: a folder of this machine.
 *
 * Every path is walked from a descriptor of the folder, component by component and never through a symbolic link, so no
 * link below it leads out of it; links are told as links. The folder is opened by probe(): when it is missing then, or vanishes
 * later, that is OFFLINE and never an empty listing. It is made only by the first probe of a run. */
#include "providers/local/local_i.h"

#include "base/log.h"
#include "base/path.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static const SxOption options[] = {
    {.key = "path", .type = SX_OPT_PATH, .required = true, .doc = "The folder."},
    {.key = "create", .type = SX_OPT_BOOL, .def = "yes",
     .doc = "Make the folder when it is missing. Say no for a disk that is not always mounted."},
    {.key = "ids", .type = SX_OPT_BOOL, .def = "no",
     .doc = "Recognise files that were renamed beside the mount by inode number and time of creation."},
    {0},
};

static void
mine_free(gpointer data)
{
    g_free(((LocalMine *)data)->state);
    g_free(data);
}

static void *
local_open(const SxProviderEnv *env, GError **error)
{
    Local *l = g_new0(Local, 1);
    l->env = env;
    l->sys = env->sys;
    l->clock = env->clock;
    l->path = sx_section_string(env->section, "path");
    l->create = sx_section_bool(env->section, "create");
    l->ids = sx_section_bool(env->section, "ids");
    l->read_only = sx_section_bool(env->section, "read-only");
    l->root = -1;
    l->mine = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, mine_free);
    g_mutex_init(&l->lock);
    g_mutex_init(&l->swap);
    g_autoptr(GError) why = NULL;
    l->watch = sx_watch_new(&why);
    if (l->watch == NULL)
        sx_warn("%s: changes beside the mount are looked for by polling: %s", env->name, why->message);
    return l;
}

static void
local_close(void *self)
{
    Local *l = self;
    sx_watch_free(l->watch);
    if (l->root >= 0)
        l->sys->close(l->sys, l->root);
    g_hash_table_unref(l->mine);
    g_mutex_clear(&l->lock);
    g_mutex_clear(&l->swap);
    g_free(l);
}

bool
sx_local_fail(GError **error, int errnum, const char *path)
{
    switch (errnum) {
    case LOCAL_EGONE: return sx_fail(error, SX_ERR_OFFLINE, "the folder is not there");
    case ESTALE: return sx_fail(error, SX_ERR_CHANGED, "%s: was changed beside the mount", path);
    case ELOOP: return sx_fail(error, SX_ERR_CHANGED, "%s: is a symbolic link now", path);
    case ENXIO:
    case ENODEV: return sx_fail(error, SX_ERR_UNSUPPORTED, "%s: is not a regular file", path);
    default: return sx_fail(error, sx_error_code_from_errno(errnum), "%s: %s", path, g_strerror(errnum));
    }
}

/* ---- the folder and the way into it ---- */

static int
root_fd(Local *l)
{
    g_mutex_lock(&l->lock);
    int fd = l->root;
    g_mutex_unlock(&l->lock);
    return fd >= 0 ? fd : -LOCAL_EGONE;
}

/* Is the folder itself still there? A removed one can be opened, and looks empty. */
static int
check_root(Local *l, int root)
{
    struct stat st;
    if (RETRY(l->sys->fstat(l->sys, root, &st)) != 0)
        return -errno;
    return st.st_nlink > 0 ? 0 : -LOCAL_EGONE;
}

static int
step(Local *l, int at, const char *name, int flags)
{
    int fd = RETRY(l->sys->openat(l->sys, at, name, flags | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0));
    return fd >= 0 ? fd : -errno;
}

static int
walk(Local *l, const char *path, gsize len, int flags)
{
    int root = root_fd(l);
    if (root < 0)
        return root;
    int there = check_root(l, root);
    if (there != 0 || len == 0)
        return there != 0 ? there : step(l, root, ".", flags);
    g_auto(SxFd) at = -1;
    for (gsize i = 0; i < len;) {
        const char *slash = memchr(path + i, '/', len - i);
        gsize k = slash != NULL ? (gsize)(slash - path) - i : len - i;
        g_autofree char *name = g_strndup(path + i, k);
        i += k + 1;
        int next = step(l, at >= 0 ? at : root, name, i >= len ? flags : O_PATH);
        sx_fd_clear(&at);
        if (next < 0)
            return next;
        at = next;
    }
    return sx_fd_take(&at);
}

int
sx_local_dir(Local *l, const char *path, int flags)
{
    return walk(l, path, strlen(path), flags);
}

int
sx_local_parent(Local *l, const char *path, int flags)
{
    const char *base = sx_path_basename(path);
    return walk(l, path, base == path ? 0 : (gsize)(base - path) - 1, flags);
}

static bool
open_root(Local *l, GError **error)
{
    g_mutex_lock(&l->lock);
    bool first = l->root < 0;
    int r = first && l->create && !l->read_only ? sx_sys_mkdirs(l->sys, l->path) : 0;
    int fd = r == 0 ? RETRY(l->sys->openat(l->sys, AT_FDCWD, l->path, O_PATH | O_DIRECTORY | O_CLOEXEC, 0)) : -1;
    if (r == 0 && fd < 0)
        r = -errno;
    if (fd >= 0 && first)
        l->root = fd;
    else if (fd >= 0) {
        if (dup3(fd, l->root, O_CLOEXEC) < 0) /* calls that run keep a valid number at each moment */
            r = -errno;
        l->sys->close(l->sys, fd);
    }
    g_mutex_unlock(&l->lock);
    if (r == 0)
        return true;
    SxErrorCode code = r == -ENOENT ? SX_ERR_OFFLINE : sx_error_code_from_errno(-r);
    return sx_fail(error, code, "%s: %s", l->path, g_strerror(-r));
}

static bool
local_probe(void *self, SxCaps *caps, GCancellable *cancel, GError **error)
{
    Local *l = self;
    if (!open_root(l, error))
        return false;
    g_auto(SxFd) dir = sx_local_dir(l, "", O_RDONLY);
    if (dir < 0)
        return sx_local_fail(error, -dir, l->path);
    if (!l->read_only)
        sx_local_sweep_dir(l, dir, LOCAL_TMP_AGE_NS);
    sx_local_limits_of(dir, caps);
    caps->stable_ids = l->ids;
    caps->watch = l->watch != NULL;
    caps->conditional_write = !g_atomic_int_get(&l->no_exchange);
    return true;
}

/* ---- what an object is ---- */

SxKind
sx_local_kind(const struct stat *st)
{
    switch (st->st_mode & S_IFMT) {
    case S_IFREG: return SX_KIND_FILE;
    case S_IFDIR: return SX_KIND_DIR;
    case S_IFLNK: return SX_KIND_SYMLINK;
    case S_IFIFO: return SX_KIND_FIFO;
    case S_IFSOCK: return SX_KIND_SOCKET;
    case S_IFCHR: return SX_KIND_CHAR;
    case S_IFBLK: return SX_KIND_BLOCK;
    default: return SX_KIND_NONE;
    }
}

char *
sx_local_version(const struct stat *st)
{
    return g_strdup_printf("%llx.%llx.%lx.%llx", (unsigned long long)st->st_ino, (unsigned long long)st->st_mtim.tv_sec,
                           (unsigned long)st->st_mtim.tv_nsec, (unsigned long long)st->st_size);
}

int
sx_local_check(const struct stat *st, const SxCond *cond)
{
    if (cond->kind == SX_IF_ABSENT)
        return st != NULL ? -EEXIST : 0;
    if (cond->kind != SX_IF_VERSION)
        return 0;
    if (st == NULL)
        return -ESTALE;
    g_autofree char *version = sx_local_version(st);
    return strcmp(version, cond->version) == 0 ? 0 : -ESTALE;
}

static gint64
ns_of(struct timespec t)
{
    if (t.tv_sec > G_MAXINT64 / 1000000000 - 1 || t.tv_sec < G_MININT64 / 1000000000 + 1)
        return SX_TIME_UNKNOWN;
    return (gint64)t.tv_sec * 1000000000 + t.tv_nsec;
}

static char *
read_link(int dir, const char *name, off_t size)
{
    gsize room = size > 0 && size < 4096 ? (gsize)size + 1 : 4096;
    char *target = g_malloc(room);
    ssize_t k = readlinkat(dir, name, target, room);
    if (k < 0 || (gsize)k == room) {
        g_free(target);
        return NULL;
    }
    target[k] = '\0';
    return target;
}

/* Several names of one inode are several objects of ours, so only what has one name gets its inode as identity; the time of
 * creation tells a reused number from the same file. */
static void
add_id(SxRemote *r, int dir, const char *name, const struct stat *st)
{
    struct statx x;
    if ((!S_ISDIR(st->st_mode) && st->st_nlink != 1) || statx(dir, name, AT_SYMLINK_NOFOLLOW, STATX_BTIME, &x) != 0 ||
        !(x.stx_mask & STATX_BTIME))
        return;
    r->btime_ns = (gint64)x.stx_btime.tv_sec * 1000000000 + x.stx_btime.tv_nsec;
    r->id = g_strdup_printf("%x:%x:%llx:%llx", major(st->st_dev), minor(st->st_dev), (unsigned long long)st->st_ino,
                            (unsigned long long)r->btime_ns);
}

/* dir -1: ask no more about it than st says. */
SxRemote *
sx_local_remote(Local *l, int dir, const char *name, const struct stat *st)
{
    SxRemote *r = sx_remote_new(name, sx_local_kind(st));
    r->size = S_ISREG(st->st_mode) || S_ISLNK(st->st_mode) ? st->st_size : 0;
    r->mtime_ns = ns_of(st->st_mtim);
    r->mode = S_ISLNK(st->st_mode) ? -1 : (int)(st->st_mode & 07777);
    if (!S_ISDIR(st->st_mode)) {
        g_free(r->version);
        r->version = sx_local_version(st);
    }
    if (S_ISLNK(st->st_mode) && dir >= 0)
        r->target = read_link(dir, name, st->st_size);
    if (l->ids && dir >= 0)
        add_id(r, dir, name, st);
    return r;
}

static bool
local_stat(void *self, const char *path, SxRemote **ret, GCancellable *cancel, GError **error)
{
    Local *l = self;
    const char *name = *path != '\0' ? sx_path_basename(path) : ".";
    g_auto(SxFd) dir = *path != '\0' ? sx_local_parent(l, path, O_PATH) : sx_local_dir(l, "", O_PATH);
    if (dir < 0)
        return sx_local_fail(error, -dir, path);
    struct stat st;
    if (RETRY(l->sys->fstatat(l->sys, dir, name, &st, AT_SYMLINK_NOFOLLOW)) != 0)
        return sx_local_fail(error, errno, path);
    *ret = sx_local_remote(l, dir, name, &st);
    return true;
}

/* ---- list ---- */

/* 1 go on, 0 the receiver wants no more, -errno. */
static int
list_entry(Local *l, int dir, const char *name, SxListFn fn, void *data, GPtrArray *stale)
{
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return 1;
    if (sx_local_temp_is_ours(name)) {
        g_ptr_array_add(stale, g_strdup(name));
        return 1;
    }
    struct stat st;
    if (RETRY(l->sys->fstatat(l->sys, dir, name, &st, AT_SYMLINK_NOFOLLOW)) != 0)
        return errno == ENOENT ? 1 : -errno; /* gone since it was read: absent is the truth */
    g_autoptr(SxRemote) r = sx_local_remote(l, dir, name, &st);
    return fn(data, r) ? 1 : 0;
}

static int
list_stream(Local *l, DIR *d, SxListFn fn, void *data, GCancellable *cancel, GPtrArray *stale)
{
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(d);
        if (e == NULL)
            return -errno;
        int r = list_entry(l, dirfd(d), e->d_name, fn, data, stale);
        if (r < 0)
            return r;
        if (r == 0 || g_cancellable_is_cancelled(cancel))
            return -ECANCELED;
    }
}

static bool
local_list(void *self, const char *path, SxListFn fn, void *data, GCancellable *cancel, GError **error)
{
    Local *l = self;
    int dir = sx_local_dir(l, path, O_RDONLY);
    if (dir < 0)
        return sx_local_fail(error, -dir, path);
    if (l->watch != NULL) /* before it is read: what changes from here on is told */
        sx_watch_add(l->watch, dir, path);
    DIR *d = fdopendir(dir);
    if (d == NULL) {
        int e = errno;
        l->sys->close(l->sys, dir);
        return sx_local_fail(error, e, path);
    }
    g_autoptr(GPtrArray) stale = g_ptr_array_new_with_free_func(g_free);
    int r = list_stream(l, d, fn, data, cancel, stale);
    struct stat st; /* an empty answer of a directory that was removed meanwhile is no listing */
    if (r == 0 && (RETRY(l->sys->fstat(l->sys, dir, &st)) != 0 || st.st_nlink == 0))
        r = *path == '\0' ? -LOCAL_EGONE : -ENOENT;
    for (guint i = 0; r == 0 && !l->read_only && i < stale->len; i++)
        sx_local_sweep(l, dir, g_ptr_array_index(stale, i), LOCAL_TMP_AGE_NS);
    closedir(d);
    return r == 0 || sx_local_fail(error, -r, path);
}

/* ---- contents ---- */

/* A descriptor of the file, which is what cond expects; its state in *st. */
static int
open_file(Local *l, const char *path, const SxCond *cond, struct stat *st)
{
    g_auto(SxFd) dir = sx_local_parent(l, path, O_PATH);
    if (dir < 0)
        return dir;
    /* O_NONBLOCK: a fifo or device must not make us wait. */
    g_auto(SxFd) fd = RETRY(l->sys->openat(l->sys, dir, sx_path_basename(path), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0));
    if (fd < 0 || RETRY(l->sys->fstat(l->sys, fd, st)) != 0)
        return -errno;
    if (!S_ISREG(st->st_mode))
        return S_ISDIR(st->st_mode) ? -EISDIR : -ENXIO;
    int r = sx_local_check(st, cond);
    return r == 0 ? sx_fd_take(&fd) : r;
}

/* The file is looked at after each piece was read and before it is handed on: a time stamp moves before the bytes do, so
 * no byte of another version passes. */
static int
read_range(Local *l, int fd, const struct stat *was, gint64 off, gint64 end, SxSinkFn sink, void *data, GCancellable *cancel)
{
    g_autofree char *version = sx_local_version(was);
    g_autofree char *buf = g_malloc(LOCAL_BUFFER);
    const SxCond same = {.kind = SX_IF_VERSION, .version = version};
    for (struct stat now; off < end;) {
        if (g_cancellable_is_cancelled(cancel))
            return -ECANCELED;
        gsize want = (gsize)MIN(end - off, LOCAL_BUFFER);
        gssize k = sx_sys_pread_full(l->sys, fd, buf, want, off);
        if (k < 0)
            return (int)k;
        if (RETRY(l->sys->fstat(l->sys, fd, &now)) != 0)
            return -errno;
        int r = sx_local_check(&now, &same);
        if (r == 0 && (gsize)k != want)
            r = -EIO;
        if (r == 0)
            r = sink(data, off, buf, want);
        if (r != 0)
            return r;
        off += k;
    }
    return 0;
}

static bool
local_read(void *self, const char *path, const SxCond *cond, gint64 off, gint64 len, SxSinkFn sink, void *data,
           GCancellable *cancel, GError **error)
{
    Local *l = self;
    struct stat st;
    g_auto(SxFd) fd = open_file(l, path, cond, &st);
    if (fd < 0)
        return sx_local_fail(error, -fd, path);
    gint64 end = len < 0 || len > st.st_size - off ? st.st_size : off + len;
    int r = read_range(l, fd, &st, off, end, sink, data, cancel);
    return r == 0 || sx_local_fail(error, -r, path);
}

static int
local_lend_fd(void *self, const char *path, const SxCond *cond, GError **error)
{
    struct stat st;
    int fd = open_file(self, path, cond, &st);
    if (fd < 0)
        sx_local_fail(error, -fd, path);
    return fd < 0 ? -1 : fd;
}

static bool
local_quota(void *self, SxQuota *ret, GCancellable *cancel, GError **error)
{
    Local *l = self;
    g_auto(SxFd) dir = sx_local_dir(l, "", O_RDONLY);
    if (dir < 0)
        return sx_local_fail(error, -dir, l->path);
    struct statvfs v;
    if (RETRY(l->sys->fstatvfs(l->sys, dir, &v)) != 0)
        return sx_local_fail(error, errno, l->path);
    gint64 unit = (gint64)v.f_frsize;
    *ret = (SxQuota){.total = (gint64)v.f_blocks * unit, .used = (gint64)(v.f_blocks - v.f_bfree) * unit,
                     .free = (gint64)v.f_bavail * unit};
    return true;
}

/* ---- changes made beside the mount ---- */

typedef struct Changes {
    Local *l;
    SxChangedFn fn;
    void *data;
} Changes;

static char *
state_of(const struct stat *st)
{
    if (st == NULL)
        return g_strdup("absent");
    if (S_ISDIR(st->st_mode)) /* its times tell of what is below it */
        return g_strdup_printf("%llx %o", (unsigned long long)st->st_ino, st->st_mode);
    g_autofree char *version = sx_local_version(st);
    return g_strdup_printf("%s %o", version, st->st_mode);
}

void
sx_local_mine(Local *l, const char *path, const struct stat *st)
{
    LocalMine *m = g_new(LocalMine, 1);
    *m = (LocalMine){.until_ms = sx_clock_mono_ms(l->clock) + LOCAL_MINE_MS, .state = state_of(st)};
    g_mutex_lock(&l->lock);
    if (g_hash_table_size(l->mine) >= LOCAL_MINE_MAX) /* then some of ours are told: a listing too many, no harm */
        g_hash_table_remove_all(l->mine);
    g_hash_table_replace(l->mine, g_strdup(path), m);
    g_mutex_unlock(&l->lock);
}

static bool
is_mine(Local *l, const char *path)
{
    g_mutex_lock(&l->lock);
    const LocalMine *m = g_hash_table_lookup(l->mine, path);
    g_autofree char *left = m != NULL && m->until_ms > sx_clock_mono_ms(l->clock) ? g_strdup(m->state) : NULL;
    g_mutex_unlock(&l->lock);
    if (left == NULL)
        return false;
    struct stat st;
    g_auto(SxFd) dir = sx_local_parent(l, path, O_PATH);
    int r = dir < 0 ? dir : fstatat(dir, sx_path_basename(path), &st, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : -errno;
    if (r != 0 && r != -ENOENT)
        return false;
    g_autofree char *now = state_of(r == 0 ? &st : NULL);
    if (strcmp(now, left) == 0)
        return true;
    g_mutex_lock(&l->lock);
    g_hash_table_remove(l->mine, path);
    g_mutex_unlock(&l->lock);
    return false;
}

static void
changed(void *data, SxWatchWhat what, const char *dir, const char *name)
{
    Changes *c = data;
    if (what == SX_WATCH_RESCAN) {
        c->fn(c->data, "", true);
        return;
    }
    if (name != NULL && g_str_has_prefix(name, SX_TMP_PREFIX))
        return;
    g_autofree char *path = sx_path_join(dir, name != NULL ? name : "");
    if (what == SX_WATCH_GONE || !is_mine(c->l, path))
        c->fn(c->data, path, what == SX_WATCH_GONE);
}

static void
local_watch_dir(void *self, const char *path)
{
    Local *l = self;
    g_auto(SxFd) dir = sx_local_dir(l, path, O_PATH);
    if (dir >= 0)
        sx_watch_add(l->watch, dir, path);
}

static bool
local_watch(void *self, SxChangedFn fn, void *data, GCancellable *cancel, GError **error)
{
    Local *l = self;
    Changes c = {.l = l, .fn = fn, .data = data};
    local_watch_dir(l, "");
    return sx_watch_run(l->watch, changed, &c, cancel, error);
}

const SxProviderType sx_provider_local = {
    .name = "local",
    .doc = "A folder of this machine.",
    .options = options,
    .caps = {.atomic_replace = true, .conditional_write = true, .conditional_remove = true, .version_after_write = true,
             .server_move = true, .server_copy = true, .ranges = true, .set_mtime = true,
             .set_mode = true, .symlinks = true, .watch = true, .lend_fd = true, .mtime_precision_ns = 1,
             .name_max = SX_NAME_MAX, .forbidden = ""},
    .open = local_open, .close = local_close, .probe = local_probe, .list = local_list, .stat = local_stat,
    .read = local_read, .write = sx_local_write, .mkdir = sx_local_mkdir, .symlink = sx_local_symlink,
    .remove = sx_local_remove, .move = sx_local_move, .copy = sx_local_copy, .set_attr = sx_local_set_attr,
    .watch = local_watch, .watch_dir = local_watch_dir, .quota = local_quota, .lend_fd = local_lend_fd,
};
