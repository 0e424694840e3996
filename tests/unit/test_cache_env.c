#include "test_cache_env.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- system calls that fail ---- */

static Env *
env_of(const SxSys *sys)
{
    return sys->data;
}

/* true: this call is to fail. */
static bool
hit(const SxSys *sys, FaultCall call)
{
    Env *e = env_of(sys);
    if ((e->calls & call) == 0 || __atomic_load_n(&e->nth, __ATOMIC_SEQ_CST) < 0)
        return false;
    int n = __atomic_fetch_sub(&e->nth, 1, __ATOMIC_SEQ_CST);
    if (n > 1)
        return false;
    if (e->sticky)
        __atomic_store_n(&e->nth, 0, __ATOMIC_SEQ_CST);
    if (n < 0 || (n == 0 && !e->sticky))
        return false;
    errno = e->fault_errno;
    return true;
}

#define PASS(call, ret, name, params, args)                                                                                    \
    static ret f_##name params                                                                                                 \
    {                                                                                                                          \
        return hit(sys, call) && env_of(sys)->kind == FAULT_ERRNO ? -1 : sx_sys_default()->name args;                          \
    }
PASS(CALL_OPENAT, int, openat, (const SxSys *sys, int d, const char *p, int f, mode_t m), (sys, d, p, f, m))
PASS(CALL_FTRUNCATE, int, ftruncate, (const SxSys *sys, int fd, off_t n), (sys, fd, n))
PASS(CALL_FALLOCATE, int, fallocate, (const SxSys *sys, int fd, int m, off_t o, off_t n), (sys, fd, m, o, n))
PASS(CALL_FSYNC, int, fsync, (const SxSys *sys, int fd), (sys, fd))
PASS(CALL_FDATASYNC, int, fdatasync, (const SxSys *sys, int fd), (sys, fd))
PASS(CALL_UNLINKAT, int, unlinkat, (const SxSys *sys, int d, const char *p, int f), (sys, d, p, f))
PASS(CALL_MKDIRAT, int, mkdirat, (const SxSys *sys, int d, const char *p, mode_t m), (sys, d, p, m))
PASS(CALL_FSTAT, int, fstat, (const SxSys *sys, int fd, struct stat *st), (sys, fd, st))
PASS(CALL_FSTATAT, int, fstatat, (const SxSys *sys, int d, const char *p, struct stat *st, int f), (sys, d, p, st, f))
PASS(CALL_RENAMEAT2, int, renameat2, (const SxSys *sys, int d, const char *p, int d2, const char *p2, unsigned f), (sys, d, p, d2, p2, f))
PASS(CALL_LSEEK, off_t, lseek, (const SxSys *sys, int fd, off_t o, int w), (sys, fd, o, w))
PASS(CALL_SYNCFS, int, syncfs, (const SxSys *sys, int fd), (sys, fd))

/* The descriptor is gone whatever close says. */
static int
f_close(const SxSys *sys, int fd)
{
    int rc = sx_sys_default()->close(sys, fd);
    return hit(sys, CALL_CLOSE) && env_of(sys)->kind == FAULT_ERRNO ? -1 : rc;
}

#define PASS_COUNT(call, name, params, args_full, args_short)                                                                  \
    static ssize_t f_##name params                                                                                             \
    {                                                                                                                          \
        if (!hit(sys, call))                                                                                                   \
            return sx_sys_default()->name args_full;                                                                           \
        return env_of(sys)->kind == FAULT_ERRNO ? -1 : sx_sys_default()->name args_short;                                      \
    }
PASS_COUNT(CALL_PWRITE, pwrite, (const SxSys *sys, int fd, const void *b, size_t n, off_t o), (sys, fd, b, n, o), (sys, fd, b, (n + 1) / 2, o))
PASS_COUNT(CALL_PREAD, pread, (const SxSys *sys, int fd, void *b, size_t n, off_t o), (sys, fd, b, n, o), (sys, fd, b, (n + 1) / 2, o))
PASS_COUNT(CALL_READ, read, (const SxSys *sys, int fd, void *b, size_t n), (sys, fd, b, n), (sys, fd, b, (n + 1) / 2))
PASS_COUNT(CALL_SPLICE, splice, (const SxSys *sys, int i, off_t *io, int o, off_t *oo, size_t n, unsigned f), (sys, i, io, o, oo, n, f),
           (sys, i, io, o, oo, (n + 1) / 2, f))

static int
f_fstatvfs(const SxSys *sys, int fd, struct statvfs *st)
{
    Env *e = env_of(sys);
    if (hit(sys, CALL_FSTATVFS))
        return -1;
    int rc = sx_sys_default()->fstatvfs(sys, fd, st);
    if (rc == 0 && e->disk_free >= 0)
        st->f_bavail = (fsblkcnt_t)(e->disk_free / (gint64)st->f_frsize);
    return rc;
}

void
env_fault(Env *env, unsigned calls, int nth, FaultKind kind, int err)
{
    env->calls = calls;
    env->kind = kind;
    env->fault_errno = err;
    __atomic_store_n(&env->nth, nth, __ATOMIC_SEQ_CST);
}

bool
env_fault_hit(Env *env)
{
    int left = __atomic_exchange_n(&env->nth, -1, __ATOMIC_SEQ_CST);
    env->calls = 0;
    return left <= 0;
}

/* ---- the environment ---- */

static gint64
clock_mono(const SxClock *c)
{
    return __atomic_load_n(&((Env *)c->data)->now_ms, __ATOMIC_SEQ_CST);
}
static gint64
clock_real(const SxClock *c)
{
    return clock_mono(c) * 1000000;
}
static guint64
clock_random(const SxClock *c)
{
    return 4;
}

Env *
env_new(gint64 size)
{
    Env *e = g_new0(Env, 1);
    e->dir = g_dir_make_tmp("syncox-cache-XXXXXX", NULL);
    e->tree = fake_tree_new();
    e->sys = (SxSys){
        .openat = f_openat, .close = f_close, .pread = f_pread, .pwrite = f_pwrite, .ftruncate = f_ftruncate,
        .fallocate = f_fallocate, .fsync = f_fsync, .fdatasync = f_fdatasync, .renameat2 = f_renameat2,
        .unlinkat = f_unlinkat, .mkdirat = f_mkdirat, .fstat = f_fstat, .fstatat = f_fstatat, .read = f_read,
        .lseek = f_lseek, .splice = f_splice, .syncfs = f_syncfs, .fstatvfs = f_fstatvfs, .data = e,
    };
    e->clock = (SxClock){.real_ns = clock_real, .mono_ms = clock_mono, .random = clock_random, .data = e};
    e->now_ms = 1000000;
    e->nth = -1;
    e->disk_free = -1;
    e->size = size;
    env_start(e);
    return e;
}

void
env_start(Env *e)
{
    g_autofree char *dir = g_build_filename(e->dir, "cache", NULL);
    SxCacheOptions o = {.dir = dir, .size = e->size, .min_free = e->min_free, .sys = &e->sys, .clock = &e->clock, .tree = e->tree};
    g_autoptr(GError) error = NULL;
    e->cache = sx_cache_open(&o, &error);
    if (e->cache == NULL)
        g_error("%s", error->message);
}

void
env_stop(Env *e)
{
    sx_cache_close(e->cache);
    e->cache = NULL;
}

/* Closing writes no contents and no maps, so the disk is as a kill would leave it; only the sync marker is kept from it. */
void
env_crash(Env *e)
{
    env_fault(e, CALL_RENAMEAT2, 1, FAULT_ERRNO, EIO);
    e->sticky = true;
    env_stop(e);
    e->sticky = false;
    env_fault_hit(e);
}

static int
remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

void
env_free(Env *e)
{
    if (e->cache != NULL)
        env_stop(e);
    fake_tree_free(e->tree);
    nftw(e->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    g_free(e->dir);
    g_free(e);
}

SxContent *
env_open(Env *e, gint64 ino)
{
    SxAttr a = {.ino = ino};
    g_autoptr(GError) error = NULL;
    SxContent *c = sx_content_open(e->cache, &a, &error);
    if (c == NULL)
        g_error("%s", error->message);
    return c;
}

char *
env_path(Env *e, gint64 ino, gint64 cver, bool map)
{
    return g_strdup_printf("%s/cache/content/%02x/%" G_GINT64_MODIFIER "x-%" G_GINT64_MODIFIER "x%s", e->dir, (unsigned)(ino & 255), ino,
                           cver, map ? ".map" : "");
}

static __thread gint64 blocks;

static int
add_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    if (type == FTW_F && !g_str_has_suffix(path, ".map"))
        blocks += (gint64)st->st_blocks * 512;
    return 0;
}

gint64
env_disk_use(Env *e)
{
    g_autofree char *dir = g_build_filename(e->dir, "cache", "content", NULL);
    blocks = 0;
    nftw(dir, add_entry, 16, FTW_PHYS);
    return blocks;
}

bool
env_used_is_right(Env *e)
{
    gint64 used = sx_cache_used(e->cache), disk = env_disk_use(e);
    return ABS(used - disk) <= 8 * 4096;
}

guint8
remote_byte(gint64 ino, gint64 cver, gint64 off)
{
    guint64 x = (guint64)off * 0x9e3779b97f4a7c15u + (guint64)ino * 0xc2b2ae3d27d4eb4fu + (guint64)cver * 0x165667b19e3779f9u;
    return (guint8)(1 + (x >> 33) % 255); /* never 0: a hole cannot be taken for it */
}

void
remote_bytes(gint64 ino, gint64 cver, gint64 off, gsize n, guint8 *buf)
{
    for (gsize i = 0; i < n; i++)
        buf[i] = remote_byte(ino, cver, off + (gint64)i);
}

int
fetch(SxContent *c, gint64 off, gint64 len)
{
    gint64 at, n;
    while (sx_content_missing(c, off, len, &at, &n)) {
        gint64 cver = sx_content_cver(c);
        g_autofree guint8 *buf = g_malloc((gsize)n);
        remote_bytes(sx_content_ino(c), cver, at, (gsize)n, buf);
        int rc = sx_content_fill(c, cver, at, buf, (gsize)n);
        if (rc != 0)
            return rc;
    }
    return 0;
}

gssize
write_all_steps(SxContent *c, gint64 off, const void *buf, gsize n)
{
    for (;;) {
        gint64 at, len;
        int rc = sx_content_prepare(c, off, (gint64)n, &at, &len);
        if (rc == 1)
            rc = fetch(c, at, len);
        else if (rc == 0) {
            gssize k = sx_content_write(c, off, buf, n);
            if (k != -ENODATA)
                return k;
        }
        if (rc < 0)
            return rc;
    }
}
