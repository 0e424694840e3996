/* The disk budget.
 *
 * cache->used is the sum over all content files of what they take on the disk (st_blocks), plus for each open one what it
 * has been granted and not yet written. A write takes from its version's credit without a lock; when that is used up,
 * the file is measured anew and gets a new grant, as large as the file up to SX_CACHE_GRANT_MAX, if the budget has room,
 * after evicting if not. So the sum never is below the truth, and above it by at most one grant a file being written.
 * Settling (last writer closed, last user gone) makes it exact. */
#include "cache/cache_i.h"

#include "base/log.h"

#include <errno.h>
#include <unistd.h>

#define AVAIL_MAX_AGE_MS 100
#define EVICT_BATCH 64
#define EVICT_BATCH_MAX 65536
#define WAIT_SLICE_MS 100
#define DISK_UNIT 4096
#define ROOM_SLACK (64 * 1024) /* what a file takes beside its bytes */
#define FULL_MS 5000           /* longer than SX_CACHE_WAIT_MS, so that a writer gets its -ENOSPC instead of trying for ever */
G_STATIC_ASSERT(FULL_MS > SX_CACHE_WAIT_MS);

/* ---- measuring; cache->lock held ---- */

static gint64
disk_use(SxCache *cache, SxVersion *v)
{
    struct stat st;
    int fd = sx_load(&v->fd);
    if (fd < 0)
        return 0;
    return cache->sys->fstat(cache->sys, fd, &st) == 0 ? (gint64)st.st_blocks * 512 : v->charged;
}

static void
change_used(SxCache *cache, gint64 delta)
{
    sx_store(&cache->used, MAX(0, cache->used + delta));
    if (delta < 0) {
        cache->avail_at_ms = G_MININT64;
        g_cond_broadcast(&cache->room);
    } else {
        cache->avail -= delta;
    }
}

static bool
ask_avail(SxCache *cache, gint64 now)
{
    if (cache->avail_at_ms != G_MININT64 && now - cache->avail_at_ms <= AVAIL_MAX_AGE_MS && now >= cache->avail_at_ms)
        return true;
    struct statvfs st;
    if (cache->sys->fstatvfs(cache->sys, cache->content_fd, &st) != 0)
        return false;
    cache->avail = (gint64)st.f_bavail * (gint64)st.f_frsize;
    cache->avail_at_ms = now;
    return true;
}

static bool
has_room(SxCache *cache, gint64 bytes)
{
    if (bytes <= 0)
        return true;
    if (cache->used + bytes > cache->size)
        return false;
    gint64 now = sx_clock_mono_ms(cache->clock);
    if (!ask_avail(cache, now))
        return true; /* the write itself will tell */
    if (now < cache->full_until_ms && cache->avail <= cache->full_avail)
        return false;
    return cache->avail - bytes >= cache->min_free;
}

void
sx_evict_disk_full(SxCache *cache)
{
    g_mutex_lock(&cache->lock);
    gint64 now = sx_clock_mono_ms(cache->clock);
    cache->avail_at_ms = G_MININT64;
    if (ask_avail(cache, now)) {
        cache->full_avail = cache->avail;
        cache->full_until_ms = now + FULL_MS;
    }
    g_mutex_unlock(&cache->lock);
}

/* Versions of one inode that are a million apart do not lie there together. */
static gpointer
file_key(gint64 ino, gint64 cver)
{
    return GSIZE_TO_POINTER((gsize)((guint64)ino << 20 | ((guint64)cver & 0xfffff)));
}

/* What it counted until now, which it does not any more. */
static gint64
take_count(SxCache *cache, gint64 ino, gint64 cver)
{
    gpointer units;
    if (!g_hash_table_steal_extended(cache->counted, file_key(ino, cver), NULL, &units))
        return 0;
    return (gint64)GPOINTER_TO_SIZE(units) * 512;
}

static void
put_count(SxCache *cache, gint64 ino, gint64 cver, gint64 bytes)
{
    g_hash_table_insert(cache->counted, file_key(ino, cver), GSIZE_TO_POINTER((gsize)((bytes + 511) / 512)));
}

static void
settle_locked(SxCache *cache, SxVersion *v)
{
    gint64 use = disk_use(cache, v) + sx_load(&v->inflight);
    sx_store(&v->credit, 0);
    change_used(cache, use - v->charged);
    v->charged = use;
}

void
sx_evict_settle(SxCache *cache, SxVersion *v)
{
    g_mutex_lock(&cache->lock);
    settle_locked(cache, v);
    g_mutex_unlock(&cache->lock);
}

void
sx_evict_adopt(SxCache *cache, SxVersion *v)
{
    g_mutex_lock(&cache->lock);
    v->charged = take_count(cache, v->owner->ino, v->cver);
    settle_locked(cache, v);
    g_mutex_unlock(&cache->lock);
}

void
sx_evict_closing_locked(SxCache *cache, SxVersion *v)
{
    if (sx_load(&v->fd) >= 0 && v->linked) {
        settle_locked(cache, v);
        put_count(cache, v->owner->ino, v->cver, v->charged);
    } else {
        change_used(cache, -v->charged);
    }
    v->charged = 0;
}

void
sx_evict_closing(SxCache *cache, SxVersion *v)
{
    g_mutex_lock(&cache->lock);
    sx_evict_closing_locked(cache, v);
    g_mutex_unlock(&cache->lock);
}

void
sx_evict_removed(SxCache *cache, gint64 ino, gint64 cver)
{
    g_mutex_lock(&cache->lock);
    change_used(cache, -take_count(cache, ino, cver));
    cache->avail_at_ms = G_MININT64;
    g_mutex_unlock(&cache->lock);
}

void
sx_evict_count(SxCache *cache, gint64 ino, gint64 cver, gint64 bytes)
{
    g_mutex_lock(&cache->lock);
    change_used(cache, bytes - take_count(cache, ino, cver));
    put_count(cache, ino, cver, bytes);
    g_mutex_unlock(&cache->lock);
}

/* ---- charging ---- */

static gint64
round_up(gint64 n)
{
    return (n + DISK_UNIT - 1) / DISK_UNIT * DISK_UNIT;
}

/* 0: credit is grant now. Otherwise how much is lacking. */
static gint64
try_grant(SxCache *cache, SxVersion *v, gint64 n, gint64 mine, bool small)
{
    g_mutex_lock(&cache->lock);
    gint64 use = disk_use(cache, v);
    gint64 grant = small ? round_up(n) : MAX(round_up(n), MIN(use, SX_CACHE_GRANT_MAX));
    gint64 want = use + sx_load(&v->inflight) - mine + grant;
    gint64 lack = want - v->charged;
    bool ok = has_room(cache, lack);
    if (ok) {
        change_used(cache, lack);
        v->charged = want;
        sx_store(&v->credit, grant);
    }
    g_mutex_unlock(&cache->lock);
    return ok ? 0 : lack;
}

/* Bytes that lie on the disk already can be written over when there is no room at all. */
static bool
allocated(SxCache *cache, SxVersion *v, gint64 off, gint64 n)
{
    int fd = sx_load(&v->fd);
    return fd >= 0 && off + n <= sx_load(&v->size) && cache->sys->lseek(cache->sys, fd, off, SEEK_HOLE) >= off + n;
}

/* 0: there is credit. 1: none is needed. */
static int
top_up(SxCache *cache, SxVersion *v, gint64 off, gint64 n, gint64 mine)
{
    gint64 lack = try_grant(cache, v, n, mine, false);
    if (lack == 0)
        return 0;
    if (lack <= cache->size)
        sx_evict_lru(cache, lack, true);
    if (try_grant(cache, v, n, mine, false) == 0 || try_grant(cache, v, n, mine, true) == 0)
        return 0;
    return allocated(cache, v, off, n) ? 1 : -ENOSPC;
}

int
sx_evict_charge(SxCache *cache, SxVersion *v, gint64 off, gint64 n)
{
    sx_add(&v->inflight, n);
    for (;;) {
        gint64 credit = sx_load(&v->credit);
        while (credit >= n)
            if (__atomic_compare_exchange_n(&v->credit, &credit, credit - n, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
                return 0;
        int rc = top_up(cache, v, off, n, n);
        if (rc == 1)
            return 0;
        if (rc < 0) {
            sx_add(&v->inflight, -n);
            return rc;
        }
    }
}

/* unsynced only now: set before the write, a sync in between would take it for its own. */
void
sx_evict_charged(SxVersion *v, gint64 n)
{
    SxCache *cache = v->owner->cache;
    if (!sx_load(&cache->unsynced))
        sx_store(&cache->unsynced, 1);
    sx_add(&v->inflight, -n);
}

int
sx_evict_check(SxCache *cache, SxVersion *v, gint64 off, gint64 n)
{
    if (sx_load(&v->credit) >= n)
        return 0;
    int rc = top_up(cache, v, off, n, 0);
    return MIN(rc, 0);
}

/* ---- evicting ---- */

/* The tree forgets first and refuses what must stay; a crash after that leaves files for the sweep. */
int
sx_evict_one(SxCache *cache, gint64 ino, gint64 *ret_freed)
{
    *ret_freed = 0;
    if (!sx_cache_busy(cache, ino))
        return -EBUSY;
    gint64 cver, freed = 0;
    int rc = sx_tree_cver(cache->tree, ino, &cver) ? sx_tree_set_cached(cache->tree, ino, cver, 0) : -ENOENT;
    if (rc == 0) {
        freed = sx_cache_remove_files(cache, ino, cver);
        rc = (int)MIN(freed, 0);
    }
    sx_cache_idle(cache, ino);
    *ret_freed = MAX(freed, 0);
    return rc;
}

static bool
room_now(SxCache *cache, gint64 bytes)
{
    g_mutex_lock(&cache->lock);
    bool ok = has_room(cache, bytes);
    g_mutex_unlock(&cache->lock);
    return ok;
}

/* evict_lock held. Counts what it evicted. */
static guint
evict_batch(SxCache *cache, GArray *files, gint64 want, bool for_room, gint64 *freed)
{
    guint n = 0;
    for (guint i = 0; i < files->len; i++) {
        gint64 bytes;
        if (sx_evict_one(cache, g_array_index(files, SxEvictable, i).ino, &bytes) == 0)
            n++;
        *freed += bytes;
        if (bytes > 0 && (for_room ? room_now(cache, want) : *freed >= want))
            break;
    }
    return n;
}

gint64
sx_evict_lru(SxCache *cache, gint64 want, bool for_room)
{
    gint64 freed = 0;
    guint limit = EVICT_BATCH;
    g_mutex_lock(&cache->evict_lock);
    while (for_room ? !room_now(cache, want) : freed < want) {
        g_autoptr(GArray) files = sx_tree_evictable(cache->tree, limit);
        if (files == NULL)
            break;
        bool all = files->len < limit;
        guint n = evict_batch(cache, files, want, for_room, &freed);
        if (n == 0 && (all || limit >= EVICT_BATCH_MAX))
            break;
        if (n == 0)
            limit *= 4; /* the oldest are all open */
    }
    g_mutex_unlock(&cache->evict_lock);
    return freed;
}

/* ---- waiting for room ---- */

static bool
make_room(SxCache *cache, gint64 bytes)
{
    sx_evict_lru(cache, bytes, true);
    return room_now(cache, bytes);
}

static void
wake(GCancellable *cancel, SxCache *cache)
{
    sx_cache_room(cache);
}

static void
wait_slice(SxCache *cache, GCancellable *cancel)
{
    g_mutex_lock(&cache->lock);
    if (!g_cancellable_is_cancelled(cancel))
        g_cond_wait_until(&cache->room, &cache->lock, g_get_monotonic_time() + WAIT_SLICE_MS * 1000);
    g_mutex_unlock(&cache->lock);
}

int
sx_evict_wait_room(SxCache *cache, gint64 bytes, GCancellable *cancel)
{
    bytes = round_up(bytes) + ROOM_SLACK;
    if (bytes > cache->size)
        return -ENOSPC;
    if (make_room(cache, bytes))
        return 0;
    if (cache->hurry != NULL)
        cache->hurry(cache->hurry_data);
    gulong id = cancel != NULL ? g_cancellable_connect(cancel, G_CALLBACK(wake), cache, NULL) : 0;
    int rc = -ENOSPC;
    for (gint64 end = g_get_monotonic_time() + SX_CACHE_WAIT_MS * 1000; rc == -ENOSPC && g_get_monotonic_time() < end;) {
        wait_slice(cache, cancel);
        if (g_cancellable_is_cancelled(cancel))
            rc = -EINTR;
        else if (make_room(cache, bytes))
            rc = 0;
    }
    if (cancel != NULL)
        g_cancellable_disconnect(cancel, id);
    return rc;
}
