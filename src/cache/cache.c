#include "cache/cache_i.h"

#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void
sx_cache_name(char *buf, gint64 ino, gint64 cver, bool map)
{
    g_snprintf(buf, SX_NAME_BUF, "%02x/%" G_GINT64_MODIFIER "x-%" G_GINT64_MODIFIER "x%s", (unsigned)(ino & 0xff), ino, cver,
               map ? ".map" : "");
}

/* ---- opening, and what a power loss may have taken ---- */

static int
open_dir(const SxSys *sys, int at, const char *path)
{
    int fd = sys->openat(sys, at, path, O_RDONLY | O_DIRECTORY, 0);
    return fd >= 0 ? fd : -errno;
}

static int
mtime_of(SxCache *cache, const char *name, struct timespec *ret)
{
    struct stat st;
    if (cache->sys->fstatat(cache->sys, cache->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return -errno;
    *ret = st.st_mtim;
    return 0;
}

static int
make_marker(SxCache *cache, const char *name)
{
    const SxSys *sys = cache->sys;
    int fd = sys->openat(sys, cache->dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    /* A byte, so that the modification time is now even when the file was there and empty. */
    int rc = sx_sys_pwrite_full(sys, fd, "\n", 1, 0);
    if (sys->close(sys, fd) != 0 && rc == 0)
        rc = -errno;
    return rc;
}

/* The file outlives a crash of this very recovery, which would otherwise look like a start in the same boot. */
static int
find_losses(SxCache *cache)
{
    bool lost = !sx_tree_was_clean(cache->tree) && !sx_tree_same_boot(cache->tree);
    struct timespec t;
    int rc = mtime_of(cache, "recovering", &t);
    if (rc == -ENOENT && lost) {
        rc = make_marker(cache, "recovering");
        if (rc == 0 && cache->sys->fsync(cache->sys, cache->dir_fd) != 0)
            rc = -errno;
        if (rc == 0)
            rc = mtime_of(cache, "recovering", &t);
    } else if (rc == -ENOENT) {
        return 0;
    }
    if (rc != 0)
        return rc;
    cache->recovering = true;
    cache->lost_until = t;
    rc = mtime_of(cache, "synced", &cache->synced_at);
    return rc == -ENOENT ? 0 : rc;
}

static bool
before(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec != b->tv_sec ? a->tv_sec < b->tv_sec : a->tv_nsec < b->tv_nsec;
}

bool
sx_cache_untrusted(const SxCache *cache, const struct stat *st)
{
    return before(&st->st_mtim, &cache->lost_until) && !before(&st->st_mtim, &cache->synced_at);
}

static bool
open_dirs(SxCache *cache, GError **error)
{
    g_autofree char *content = g_build_filename(cache->dir, "content", NULL);
    int rc = sx_sys_mkdirs(cache->sys, content);
    if (rc != 0)
        return sx_fail_errno(error, -rc, "cannot make the cache directory %s", content);
    cache->dir_fd = open_dir(cache->sys, AT_FDCWD, cache->dir);
    if (cache->dir_fd < 0)
        return sx_fail_errno(error, -cache->dir_fd, "cannot open the cache directory %s", cache->dir);
    cache->content_fd = open_dir(cache->sys, cache->dir_fd, "content");
    if (cache->content_fd < 0)
        return sx_fail_errno(error, -cache->content_fd, "cannot open the cache directory %s", content);
    rc = find_losses(cache);
    if (rc != 0)
        return sx_fail_errno(error, -rc, "cannot read or write in the cache directory %s", cache->dir);
    return true;
}

static void
cache_free(SxCache *cache)
{
    if (cache->content_fd >= 0)
        cache->sys->close(cache->sys, cache->content_fd);
    if (cache->dir_fd >= 0)
        cache->sys->close(cache->sys, cache->dir_fd);
    g_clear_pointer(&cache->contents, g_hash_table_unref);
    g_clear_pointer(&cache->busy, g_hash_table_unref);
    g_clear_pointer(&cache->counted, g_hash_table_unref);
    g_mutex_clear(&cache->lock);
    g_mutex_clear(&cache->evict_lock);
    g_cond_clear(&cache->room);
    g_free(cache->dir);
    g_free(cache);
}

SxCache *
sx_cache_open(const SxCacheOptions *options, GError **error)
{
    SxCache *cache = g_new0(SxCache, 1);
    cache->dir = g_strdup(options->dir);
    cache->dir_fd = cache->content_fd = -1;
    cache->size = options->size;
    cache->min_free = options->min_free;
    cache->sys = options->sys != NULL ? options->sys : sx_sys_default();
    cache->clock = options->clock;
    cache->tree = options->tree;
    cache->avail_at_ms = G_MININT64;
    cache->last_sync_ms = sx_clock_mono_ms(cache->clock);
    g_mutex_init(&cache->lock);
    g_mutex_init(&cache->evict_lock);
    g_cond_init(&cache->room);
    cache->contents = g_hash_table_new(g_int64_hash, g_int64_equal);
    cache->busy = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    cache->counted = g_hash_table_new(NULL, NULL);
    if (!open_dirs(cache, error)) {
        cache_free(cache);
        return NULL;
    }
    return cache;
}

gint64
sx_cache_used(const SxCache *cache)
{
    return sx_load(&cache->used);
}

gint64
sx_cache_size(const SxCache *cache)
{
    return cache->size;
}

int
sx_cache_reserve(SxCache *cache, gint64 bytes, GCancellable *cancel)
{
    return sx_evict_wait_room(cache, bytes, cancel);
}

int
sx_cache_evict(SxCache *cache, gint64 ino)
{
    gint64 freed;
    return sx_evict_one(cache, ino, &freed);
}

gint64
sx_cache_trim(SxCache *cache, gint64 want_free_bytes)
{
    return sx_evict_lru(cache, want_free_bytes, false);
}

void
sx_cache_sweep(SxCache *cache, GCancellable *cancel)
{
    sx_sweep_run(cache, cancel);
}

void
sx_cache_set_hurry(SxCache *cache, void (*fn)(void *data), void *data)
{
    cache->hurry = fn;
    cache->hurry_data = data;
}

void
sx_cache_room(SxCache *cache)
{
    g_mutex_lock(&cache->lock);
    g_cond_broadcast(&cache->room);
    g_mutex_unlock(&cache->lock);
}

/* ---- syncing ---- */

/* "synced" gets the time at which the syncfs began, and its name only when it has succeeded. While a recovery is under way
 * the old one is still needed. */
static int
sync_all(SxCache *cache)
{
    const SxSys *sys = cache->sys;
    sx_store(&cache->unsynced, 0);
    int rc = make_marker(cache, "synced.new");
    if (rc == 0 && sys->syncfs(sys, cache->dir_fd) != 0)
        rc = -errno;
    if (rc == 0 && sys->renameat2(sys, cache->dir_fd, "synced.new", cache->dir_fd, "synced", 0) != 0)
        rc = -errno;
    if (rc != 0) {
        sx_store(&cache->unsynced, 1);
        sx_warn("cache: cannot sync %s: %s", cache->dir, g_strerror(-rc));
    }
    return rc;
}

void
sx_cache_tick(SxCache *cache)
{
    gint64 now = sx_clock_mono_ms(cache->clock);
    if (sx_load(&cache->recovering) || !sx_load(&cache->unsynced) ||
        now - sx_load(&cache->last_sync_ms) < SX_CACHE_SYNC_INTERVAL_MS)
        return;
    sx_store(&cache->last_sync_ms, now);
    sync_all(cache);
}

void
sx_cache_close(SxCache *cache)
{
    if (cache == NULL)
        return;
    if (g_hash_table_size(cache->contents) > 0)
        sx_error_log("cache: closed with %u contents still in use", g_hash_table_size(cache->contents));
    if (!sx_load(&cache->recovering) && sx_load(&cache->unsynced))
        sync_all(cache);
    cache_free(cache);
}

/* After a power loss and a sweep that has looked at everything: all that is here is on the disk. */
void
sx_cache_recovered(SxCache *cache)
{
    if (!sx_load(&cache->recovering) || sync_all(cache) != 0)
        return;
    if (cache->sys->unlinkat(cache->sys, cache->dir_fd, "recovering", 0) == 0)
        sx_store(&cache->recovering, 0);
}

/* ---- the table of open contents ---- */

static SxContent *
find_locked(SxCache *cache, gint64 ino)
{
    while (g_hash_table_contains(cache->busy, &ino))
        g_cond_wait(&cache->room, &cache->lock);
    SxContent *c = g_hash_table_lookup(cache->contents, &ino);
    return c != NULL ? sx_content_ref(c) : NULL;
}

/* Waits for the thread that is opening it. NULL: that failed. */
static SxContent *
opened(SxContent *c)
{
    if (sx_load(&c->state) == SX_CONTENT_OPENING) {
        g_mutex_lock(&c->lock);
        g_mutex_unlock(&c->lock);
    }
    if (sx_load(&c->state) == SX_CONTENT_OPEN)
        return c;
    sx_content_unref(c);
    return NULL;
}

SxContent *
sx_cache_peek(SxCache *cache, gint64 ino)
{
    g_mutex_lock(&cache->lock);
    SxContent *c = find_locked(cache, ino);
    g_mutex_unlock(&cache->lock);
    return c != NULL ? opened(c) : NULL;
}

void
sx_cache_drop(SxCache *cache, SxContent *c, bool unconditionally)
{
    g_mutex_lock(&cache->lock);
    bool last = sx_add(&c->refs, -1) == 0;
    if ((last || unconditionally) && g_hash_table_lookup(cache->contents, &c->ino) == c)
        g_hash_table_remove(cache->contents, &c->ino);
    if (last)
        sx_evict_closing_locked(cache, c->version);
    bool doomed = last && c->doomed;
    gint64 ino = c->ino, cver = c->version->cver;
    g_mutex_unlock(&cache->lock);
    if (last)
        sx_content_free(c);
    if (doomed)
        sx_cache_discard(cache, ino, cver);
}

/* The object enters the table locked, so that whoever finds it waits until its files are open. */
static SxContent *
find_or_enter(SxCache *cache, gint64 ino, bool *ret_mine)
{
    *ret_mine = false;
    g_mutex_lock(&cache->lock);
    SxContent *c = find_locked(cache, ino);
    g_mutex_unlock(&cache->lock);
    if (c != NULL)
        return c;
    SxContent *fresh = sx_content_new(cache, ino);
    g_mutex_lock(&fresh->lock);
    g_mutex_lock(&cache->lock);
    c = find_locked(cache, ino);
    if (c == NULL)
        g_hash_table_insert(cache->contents, &fresh->ino, fresh);
    g_mutex_unlock(&cache->lock);
    if (c == NULL) {
        *ret_mine = true;
        return fresh;
    }
    g_mutex_unlock(&fresh->lock);
    sx_content_free(fresh);
    return c;
}

SxContent *
sx_cache_content(SxCache *cache, gint64 ino, bool create, GError **error)
{
    for (;;) {
        bool mine;
        SxContent *c = find_or_enter(cache, ino, &mine);
        if (!mine) {
            c = opened(c);
            if (c != NULL)
                return c;
            continue;
        }
        bool ok = sx_open_version(c, c->version, create, error);
        sx_store(&c->state, ok ? SX_CONTENT_OPEN : SX_CONTENT_FAILED);
        g_mutex_unlock(&c->lock);
        if (ok)
            return c;
        sx_cache_drop(cache, c, true);
        return NULL;
    }
}

/* ---- removing files ---- */

static bool
doom_if_open(SxCache *cache, gint64 ino)
{
    g_mutex_lock(&cache->lock);
    SxContent *c = g_hash_table_lookup(cache->contents, &ino);
    if (c != NULL)
        c->doomed = true;
    g_mutex_unlock(&cache->lock);
    return c != NULL;
}

void
sx_cache_discard(SxCache *cache, gint64 ino, gint64 cver)
{
    if (doom_if_open(cache, ino) || !sx_cache_busy(cache, ino))
        return; /* what is busy is being evicted */
    gint64 now;
    /* Negative: the tree could not be asked. */
    if (!sx_tree_cver(cache->tree, ino, &now) || (now > 0 && now != cver))
        sx_cache_remove_files(cache, ino, cver);
    sx_cache_idle(cache, ino);
}

bool
sx_cache_busy(SxCache *cache, gint64 ino)
{
    g_mutex_lock(&cache->lock);
    bool ok = !g_hash_table_contains(cache->contents, &ino) && !g_hash_table_contains(cache->busy, &ino);
    if (ok)
        g_hash_table_add(cache->busy, g_memdup2(&ino, sizeof ino));
    g_mutex_unlock(&cache->lock);
    return ok;
}

void
sx_cache_idle(SxCache *cache, gint64 ino)
{
    g_mutex_lock(&cache->lock);
    g_hash_table_remove(cache->busy, &ino);
    g_cond_broadcast(&cache->room);
    g_mutex_unlock(&cache->lock);
}

static gint64
remove_one(SxCache *cache, const char *name)
{
    struct stat st;
    const SxSys *sys = cache->sys;
    if (sys->fstatat(sys, cache->content_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT ? 0 : -errno;
    if (sys->unlinkat(sys, cache->content_fd, name, 0) != 0)
        return errno == ENOENT ? 0 : -errno;
    return (gint64)st.st_blocks * 512;
}

gint64
sx_cache_remove_files(SxCache *cache, gint64 ino, gint64 cver)
{
    char name[SX_NAME_BUF];
    sx_cache_name(name, ino, cver, false);
    gint64 freed = remove_one(cache, name);
    if (freed < 0) {
        sx_warn("cache: cannot remove %s/content/%s: %s", cache->dir, name, g_strerror((int)-freed));
        return freed;
    }
    sx_cache_name(name, ino, cver, true);
    remove_one(cache, name); /* one that is left without its content is removed by the next sweep */
    sx_evict_removed(cache, ino, cver);
    return freed;
}
