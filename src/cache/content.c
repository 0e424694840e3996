#include "cache/cache_i.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* ---- the object ---- */

static SxVersion *
version_new(SxContent *c)
{
    for (SxVersion *v = c->versions; v != NULL; v = v->next)
        if (v->closed)
            return v;
    SxVersion *v = g_new0(SxVersion, 1);
    v->owner = c;
    v->closed = true;
    v->fd = v->map.fd = -1;
    v->next = c->versions;
    c->versions = v;
    return v;
}

SxContent *
sx_content_new(SxCache *cache, gint64 ino)
{
    SxContent *c = g_new0(SxContent, 1);
    c->cache = cache;
    c->ino = ino;
    c->refs = 1;
    c->mtime_ns = c->seen_mtime_ns = SX_TIME_UNKNOWN;
    g_mutex_init(&c->lock);
    g_cond_init(&c->changed);
    c->version = version_new(c);
    c->version->closed = false;
    return c;
}

static void
version_close(SxVersion *v)
{
    SxCache *cache = v->owner->cache;
    sx_extents_clear(&v->map, cache->sys);
    if (v->fd >= 0)
        cache->sys->close(cache->sys, v->fd);
    sx_store(&v->fd, -1);
    v->closed = true;
}

void
sx_content_free(SxContent *c)
{
    for (SxVersion *v = c->versions; v != NULL;) {
        SxVersion *next = v->next;
        if (!v->closed)
            version_close(v);
        g_free(v);
        v = next;
    }
    g_mutex_clear(&c->lock);
    g_cond_clear(&c->changed);
    g_free(c);
}

SxContent *
sx_content_open(SxCache *cache, const SxAttr *attr, GError **error)
{
    return sx_cache_content(cache, attr->ino, false, error);
}

SxContent *
sx_content_create(SxCache *cache, const SxAttr *attr, GError **error)
{
    return sx_cache_content(cache, attr->ino, true, error);
}

SxContent *
sx_content_ref(SxContent *c)
{
    sx_add(&c->refs, 1);
    return c;
}

/* The last one goes under the table's lock, or a new user could find an object that is being freed. */
void
sx_content_unref(SxContent *c)
{
    if (c == NULL)
        return;
    int n = sx_load(&c->refs);
    while (n > 1)
        if (__atomic_compare_exchange_n(&c->refs, &n, n - 1, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            return;
    sx_cache_drop(c->cache, c, false);
}

/* ---- versions ---- */

static void
close_if_unused(SxVersion *v)
{
    SxContent *c = v->owner;
    g_mutex_lock(&c->lock);
    bool close = sx_load(&v->retired) && !v->closed && sx_load(&v->users) == 0;
    if (close) {
        sx_evict_closing(c->cache, v);
        version_close(v);
    }
    g_mutex_unlock(&c->lock);
}

/* Counting in comes before the look: a version seen as current after that cannot be closed, because whoever retires it
 * looks at the count afterwards. A late comer only touches the count. */
SxVersion *
sx_content_enter(SxContent *c)
{
    for (;;) {
        SxVersion *v = sx_load(&c->version);
        sx_add(&v->users, 1);
        if (sx_load(&c->version) == v)
            return v;
        sx_content_leave(v);
    }
}

void
sx_content_leave(SxVersion *v)
{
    if (sx_add(&v->users, -1) == 0 && sx_load(&v->retired))
        close_if_unused(v);
}

/* A file that lies there already is a leftover (of an eviction whose unlink failed, of a crash): it goes, and its space with it. */
static int
create_file(SxContent *c, SxVersion *v, const char *name)
{
    const SxSys *sys = c->cache->sys;
    for (int tries = 0;; tries++) {
        int fd = sys->openat(sys, c->cache->content_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
        if (fd >= 0 || tries == 2)
            return fd >= 0 ? fd : -errno;
        char dir[3] = {name[0], name[1], '\0'};
        if (errno == EEXIST) {
            gint64 freed = sx_cache_remove_files(c->cache, c->ino, v->cver);
            if (freed < 0)
                return (int)freed;
        } else if (errno != ENOENT || (sys->mkdirat(sys, c->cache->content_fd, dir, 0700) != 0 && errno != EEXIST)) {
            return -errno;
        }
    }
}

static int
make_file(SxContent *c, SxVersion *v, const char *name)
{
    const SxSys *sys = c->cache->sys;
    int fd = create_file(c, v, name);
    if (fd >= 0 && v->size > 0 && sys->ftruncate(sys, fd, v->size) != 0) {
        int rc = -errno;
        sys->close(sys, fd);
        sys->unlinkat(sys, c->cache->content_fd, name, 0);
        return rc;
    }
    return fd;
}

/* The tree hears last: until then the files are leftovers that a sweep removes or the next one here overwrites. */
int
sx_content_materialise(SxContent *c, SxVersion *v)
{
    if (v->fd >= 0)
        return 0;
    SxCache *cache = c->cache;
    const SxSys *sys = cache->sys;
    char name[SX_NAME_BUF], map[SX_NAME_BUF];
    sx_cache_name(name, c->ino, v->cver, false);
    sx_cache_name(map, c->ino, v->cver, true);
    int fd = make_file(c, v, name);
    if (fd < 0)
        return fd;
    int rc = 0;
    if (v->map.n_absent > 0)
        rc = sx_extents_create(&v->map, sys, cache->content_fd, map);
    else if (sys->unlinkat(sys, cache->content_fd, map, 0) != 0 && errno != ENOENT)
        rc = -errno;
    if (rc == 0)
        rc = sx_tree_set_cached(cache->tree, c->ino, v->cver, v->map.n_absent > 0 ? 1 : 2);
    if (rc != 0) {
        if (v->map.fd >= 0)
            sys->unlinkat(sys, cache->content_fd, map, 0);
        sx_extents_drop_file(&v->map, sys);
        sys->close(sys, fd);
        sys->unlinkat(sys, cache->content_fd, name, 0);
        return rc;
    }
    v->linked = true;
    v->dir_synced = false;
    sx_store(&v->fd, fd);
    return 0;
}

void
sx_content_check_complete(SxContent *c, SxVersion *v)
{
    if (sx_load(&v->map.n_absent) > 0)
        return;
    sx_store(&v->complete, 1);
    if (v->map.fd < 0)
        return;
    int rc = sx_tree_set_cached(c->cache->tree, c->ino, v->cver, 2);
    if (rc != 0) {
        /* The full map stays and says the same to whoever opens it next. */
        sx_debug("cache: inode %" G_GINT64_FORMAT " is complete, the tree was not told: %s", c->ino, g_strerror(-rc));
        return;
    }
    char map[SX_NAME_BUF];
    sx_cache_name(map, c->ino, v->cver, true);
    sx_extents_drop_file(&v->map, c->cache->sys);
    c->cache->sys->unlinkat(c->cache->sys, c->cache->content_fd, map, 0);
}

static void
fail_waiters(SxContent *c, gint64 off, gint64 end, int err)
{
    for (SxWaiter *w = c->waiters; w != NULL; w = w->next)
        if (w->off < end && w->end > off)
            w->err = err;
    g_cond_broadcast(&c->changed);
}

static void
retire(SxContent *c, SxVersion *v)
{
    if (v->linked && sx_cache_remove_files(c->cache, c->ino, v->cver) >= 0)
        v->linked = false;
    sx_store(&v->retired, 1);
}

int
sx_content_replace(SxContent *c, gint64 cver, gint64 size)
{
    g_mutex_lock(&c->lock);
    SxVersion *old = c->version;
    if (cver <= old->cver) {
        g_mutex_unlock(&c->lock);
        return cver == old->cver ? 0 : -ESTALE;
    }
    SxVersion *v = version_new(c);
    SxExtents map;
    if (!sx_extents_init(&map, c->ino, cver, size)) {
        g_mutex_unlock(&c->lock);
        return -EFBIG;
    }
    v->map = map;
    v->cver = cver;
    v->charged = v->credit = v->inflight = 0;
    v->closed = v->linked = v->dir_synced = false;
    sx_store(&v->retired, 0);
    sx_store(&v->size, size);
    sx_store(&v->complete, size == 0);
    sx_store(&c->announced, 0);
    c->seen_mtime_ns = SX_TIME_UNKNOWN;
    sx_add(&c->epoch, 1);
    sx_store(&c->version, v);
    sx_add(&c->epoch, 1);
    retire(c, old);
    fail_waiters(c, 0, G_MAXINT64, -ESTALE);
    g_mutex_unlock(&c->lock);
    close_if_unused(old);
    return 0;
}

int
sx_content_follow(SxContent *c, const SxAttr *attr)
{
    if (attr->cver <= sx_content_cver(c))
        return 0;
    return sx_content_replace(c, attr->cver, attr->size);
}

/* ---- what is known ---- */

gint64
sx_content_ino(const SxContent *c)
{
    return c->ino;
}

gint64
sx_content_cver(SxContent *c)
{
    SxVersion *v = sx_content_enter(c);
    gint64 cver = v->cver;
    sx_content_leave(v);
    return cver;
}

int
sx_content_fd(SxContent *c)
{
    SxVersion *v = sx_content_enter(c);
    int rc = 0;
    if (sx_load(&v->fd) < 0) {
        g_mutex_lock(&c->lock);
        rc = sx_load(&v->retired) ? -ESTALE : sx_content_materialise(c, v);
        g_mutex_unlock(&c->lock);
    }
    int fd = rc < 0 ? rc : sx_load(&v->fd);
    sx_content_leave(v);
    return fd;
}

gint64
sx_content_size(SxContent *c)
{
    return sx_load(&sx_load(&c->version)->size);
}

gint64
sx_content_mtime_ns(SxContent *c)
{
    return sx_load(&c->mtime_ns);
}

gint64
sx_content_disk_mtime_ns(SxContent *c)
{
    SxVersion *v = sx_content_enter(c);
    struct stat st;
    int fd = sx_load(&v->fd);
    gint64 t = SX_TIME_UNKNOWN;
    if (fd >= 0 && c->cache->sys->fstat(c->cache->sys, fd, &st) == 0)
        t = (gint64)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    sx_content_leave(v);
    return t;
}

gint64
sx_content_present_bytes(SxContent *c)
{
    SxVersion *v = sx_content_enter(c);
    gint64 size = sx_load(&v->size);
    gint64 n = sx_load(&v->complete) ? size : size - sx_extents_absent_bytes(&v->map, size);
    sx_content_leave(v);
    return n;
}

bool
sx_content_complete(SxContent *c)
{
    return sx_load(&sx_load(&c->version)->complete);
}

bool
sx_content_missing(SxContent *c, gint64 off, gint64 len, gint64 *ret_off, gint64 *ret_len)
{
    SxVersion *v = sx_content_enter(c);
    gint64 size = sx_load(&v->size);
    bool missing = false;
    if (!sx_load(&v->complete) && off < size && len > 0) {
        gint64 end = len > size - off ? size : off + len;
        gint64 limit = (end + SX_BLOCK - 1) / SX_BLOCK;
        gint64 first = sx_extents_next(&v->map, off / SX_BLOCK, false, limit);
        missing = first < limit;
        if (missing) {
            *ret_off = first * SX_BLOCK;
            *ret_len = MIN(sx_extents_next(&v->map, first, true, limit) * SX_BLOCK, MIN(size, v->map.remote_size)) - *ret_off;
        }
    }
    sx_content_leave(v);
    return missing;
}

/* ---- write sessions and snapshots ---- */

void
sx_content_writers(SxContent *c, int delta)
{
    if (sx_add(&c->n_writers, delta) > 0 || delta > 0)
        return;
    SxVersion *v = sx_content_enter(c);
    sx_evict_settle(c->cache, v);
    sx_content_leave(v);
}

int
sx_content_n_writers(SxContent *c)
{
    return sx_load(&c->n_writers);
}

guint64
sx_content_seal(SxContent *c)
{
    sx_store(&c->announced, 0);
    return sx_load(&c->epoch);
}

/* A write bumps the epoch at both ends and counts itself in between: one that was under way at the seal has either ended
 * since (other epoch) or still counts. */
bool
sx_content_same_epoch(SxContent *c, guint64 epoch)
{
    return sx_load(&c->writing) == 0 && sx_load(&c->epoch) == epoch;
}

bool
sx_content_announced(SxContent *c)
{
    return sx_load(&c->announced);
}

void
sx_content_set_announced(SxContent *c)
{
    sx_store(&c->announced, 1);
}

gint64
sx_content_last_write_mono_ms(SxContent *c)
{
    return sx_load(&c->last_write_mono_ms);
}

/* ---- waiting for bytes ---- */

void
sx_content_set_error(SxContent *c, gint64 off, gint64 len, int errnum)
{
    g_mutex_lock(&c->lock);
    fail_waiters(c, off, len > G_MAXINT64 - off ? G_MAXINT64 : off + len, -errnum);
    g_mutex_unlock(&c->lock);
}

static void
wake(GCancellable *cancel, SxContent *c)
{
    g_mutex_lock(&c->lock);
    g_cond_broadcast(&c->changed);
    g_mutex_unlock(&c->lock);
}

/* lock held; v is the version at the start of the wait */
static int
wait_locked(SxContent *c, SxVersion *v, SxWaiter *w, gint64 deadline_mono_ms, GCancellable *cancel)
{
    for (;;) {
        if (c->version != v)
            return -ESTALE;
        if (sx_extents_has_range(&v->map, w->off, MIN(w->end, v->size)))
            return 0;
        if (w->err != 0)
            return w->err;
        if (g_cancellable_is_cancelled(cancel))
            return -EINTR;
        gint64 left = deadline_mono_ms - sx_clock_mono_ms(c->cache->clock);
        if (left <= 0)
            return -ETIMEDOUT;
        /* At most a second at once: the clock may be a simulated one that jumps. */
        g_cond_wait_until(&c->changed, &c->lock, g_get_monotonic_time() + MIN(left, 1000) * 1000);
    }
}

int
sx_content_wait(SxContent *c, gint64 off, gint64 len, gint64 deadline_mono_ms, GCancellable *cancel)
{
    /* Connecting calls wake() at once when it is cancelled already: not under the lock. */
    gulong id = cancel != NULL ? g_cancellable_connect(cancel, G_CALLBACK(wake), c, NULL) : 0;
    SxVersion *v = sx_content_enter(c);
    SxWaiter w = {.off = off, .end = len > G_MAXINT64 - off ? G_MAXINT64 : off + len};
    g_mutex_lock(&c->lock);
    w.next = c->waiters;
    c->waiters = &w;
    int rc = wait_locked(c, v, &w, deadline_mono_ms, cancel);
    for (SxWaiter **p = &c->waiters; *p != NULL; p = &(*p)->next)
        if (*p == &w) {
            *p = w.next;
            break;
        }
    g_mutex_unlock(&c->lock);
    sx_content_leave(v);
    if (cancel != NULL)
        g_cancellable_disconnect(cancel, id);
    return rc;
}
