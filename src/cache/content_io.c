/* Reading and writing. Complete contents take no lock: a version is entered by counting in, the space comes from a credit,
 * the size grows by compare and swap. Absent blocks change under the content's lock: bytes first, then the bit. */
#include "cache/cache_i.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#define COPY_BUFFER (64 * 1024)

/* ---- reading ---- */

/* How many bytes at off can be read, in a version that has been entered. */
static gssize
readable(SxVersion *v, gint64 off, gsize n)
{
    gint64 size = sx_load(&v->size);
    if (off < 0)
        return -EINVAL;
    if (off >= size || n == 0)
        return 0;
    gint64 end = (gint64)MIN(n, (gsize)(size - off)) + off;
    if (!sx_load(&v->complete) && !sx_extents_has_range(&v->map, off, end))
        return -ENODATA;
    return (gssize)(end - off);
}

gssize
sx_content_read(SxContent *c, gint64 off, void *buf, gsize n)
{
    SxVersion *v = sx_content_enter(c);
    gssize k = readable(v, off, n);
    if (k > 0)
        k = sx_sys_pread_full(c->cache->sys, sx_load(&v->fd), buf, (gsize)k, off);
    sx_content_leave(v);
    return k;
}

gssize
sx_content_hold(SxContent *c, gint64 off, gsize n, int *ret_fd, SxHold **ret_hold)
{
    SxVersion *v = sx_content_enter(c);
    gssize k = readable(v, off, n);
    if (k <= 0) {
        sx_content_leave(v);
        return k;
    }
    sx_content_ref(c);
    *ret_fd = sx_load(&v->fd);
    *ret_hold = v;
    return k;
}

void
sx_content_release(SxHold *hold)
{
    if (hold == NULL)
        return;
    SxContent *c = hold->owner;
    sx_content_leave(hold);
    sx_content_unref(c);
}

gint64
sx_content_seek(SxContent *c, gint64 off, int whence)
{
    const SxSys *sys = c->cache->sys;
    SxVersion *v = sx_content_enter(c);
    gint64 size = sx_load(&v->size), at = off, found = -1;
    gint64 limit = (size + SX_BLOCK - 1) / SX_BLOCK;
    int rc = off < 0 || off >= size ? -ENXIO : whence != SEEK_DATA && whence != SEEK_HOLE ? -EINVAL : 0;
    while (rc == 0 && found < 0 && at < size) {
        gint64 absent = sx_extents_next(&v->map, at / SX_BLOCK, false, limit);
        if (absent == at / SX_BLOCK && absent < limit) {
            if (whence == SEEK_DATA)
                found = at;
            else
                at = sx_extents_next(&v->map, absent, true, limit) * SX_BLOCK;
            continue;
        }
        gint64 end = MIN(absent * SX_BLOCK, size);
        off_t hit = sys->lseek(sys, sx_load(&v->fd), at, whence);
        if (hit < 0 && errno != ENXIO)
            rc = -errno;
        else if (hit >= 0 && hit < end)
            found = hit;
        else
            at = end;
    }
    sx_content_leave(v);
    if (rc != 0 || found >= 0)
        return rc != 0 ? rc : found;
    return whence == SEEK_HOLE ? size : -ENXIO;
}

/* ---- the frame around every change ---- */

static SxVersion *
change_begin(SxContent *c)
{
    sx_add(&c->writing, 1);
    sx_add(&c->epoch, 1);
    return sx_content_enter(c);
}

static void
change_end(SxContent *c, SxVersion *v, bool changed)
{
    sx_content_leave(v);
    if (changed) {
        sx_store(&c->mtime_ns, sx_clock_real_ns(c->cache->clock));
        sx_store(&c->last_write_mono_ms, MAX(sx_clock_mono_ms(c->cache->clock), 1));
    }
    sx_add(&c->epoch, 1);
    sx_add(&c->writing, -1);
}

/* c->lock held. otherwise: the size when the file does not tell; -1: leave it */
static int
size_from_file(SxContent *c, SxVersion *v, gint64 otherwise)
{
    struct stat st;
    if (c->cache->sys->fstat(c->cache->sys, v->fd, &st) == 0)
        otherwise = st.st_size;
    else if (otherwise < 0)
        return -errno;
    sx_store(&v->size, otherwise);
    return 0;
}

/* After a write that ended at `end`. seq: read before the write. A shrinking in between may have come before or after the
 * bytes: then only the file knows its size. */
static int
grow(SxContent *c, SxVersion *v, gint64 end, guint64 seq)
{
    gint64 size = sx_load(&v->size);
    while (seq % 2 == 0 && sx_load(&v->size_seq) == seq && size < end)
        if (__atomic_compare_exchange_n(&v->size, &size, end, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
            break;
    if (seq % 2 == 0 && sx_load(&v->size_seq) == seq)
        return 0;
    g_mutex_lock(&c->lock);
    int rc = size_from_file(c, v, -1);
    g_mutex_unlock(&c->lock);
    return rc;
}

/* ---- writing ---- */

int
sx_content_prepare(SxContent *c, gint64 off, gint64 len, gint64 *ret_off, gint64 *ret_len)
{
    if (off < 0 || len < 0 || len > G_MAXINT64 - off)
        return len >= 0 && off >= 0 ? -EFBIG : -EINVAL;
    SxVersion *v = sx_content_enter(c);
    gint64 size = sx_load(&v->size);
    gint64 block = sx_load(&v->complete) ? -1 : sx_extents_needed(&v->map, size, off, off + len);
    int rc = 0;
    if (block >= 0) {
        *ret_off = block * SX_BLOCK;
        *ret_len = MIN(SX_BLOCK, MIN(size, v->map.remote_size) - *ret_off);
        rc = 1;
    } else if (len > 0) {
        rc = sx_evict_check(c->cache, v, off, len);
    }
    sx_content_leave(v);
    return rc;
}

/* Where the bytes of a write come from. */
typedef struct Source {
    const char *buf; /* or NULL and */
    int fd;
    bool copy;       /* splice does not work here */
    int failed;      /* bytes were taken from fd and could not be written: nothing more may follow them */
} Source;

static gssize
copy_some(const SxSys *sys, Source *s, int fd, gint64 off, gsize n)
{
    char buf[COPY_BUFFER];
    gssize k = sys->read(sys, s->fd, buf, MIN(n, sizeof buf));
    if (k < 0)
        return -errno;
    gssize done = 0;
    while (done < k) {
        gssize w = sys->pwrite(sys, fd, buf + done, (gsize)(k - done), off + done);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0) {
            s->failed = w < 0 ? -errno : -EIO;
            return done > 0 ? done : s->failed;
        }
        done += w;
    }
    return done;
}

/* Some bytes; 0 at the end of the source, -errno. */
static gssize
put_some(const SxSys *sys, Source *s, int fd, gint64 off, gsize n)
{
    if (s->buf != NULL) {
        gssize k = sys->pwrite(sys, fd, s->buf, n, off);
        if (k < 0)
            return -errno;
        s->buf += k;
        return k > 0 ? k : -EIO;
    }
    if (s->failed != 0)
        return s->failed;
    if (s->copy)
        return copy_some(sys, s, fd, off, n);
    off_t at = off;
    gssize k = sys->splice(sys, s->fd, NULL, fd, &at, n, SPLICE_F_MOVE);
    if (k < 0 && errno == EINVAL) {
        s->copy = true;
        return -EINTR;
    }
    return k < 0 ? -errno : k;
}

/* All of n; fewer at the end of the source, or when the disk fails after some; -errno when it fails at once. */
static gssize
put(const SxSys *sys, Source *s, int fd, gint64 off, gsize n)
{
    gsize done = 0;
    while (done < n) {
        gssize k = put_some(sys, s, fd, off + (gint64)done, n - done);
        if (k == -EINTR)
            continue;
        if (k < 0 && done == 0)
            return k;
        if (k <= 0)
            break;
        done += (gsize)k;
    }
    return (gssize)done;
}

/* c->lock held. Writes over absent blocks. What is not covered to the end of its block stays absent, so the count ends before it.
 * When the map cannot be written the bytes are in the file nevertheless: memory says so, the caller is told of the failure. */
static gssize
write_absent(SxContent *c, SxVersion *v, Source *s, gint64 off, gsize n, gint64 *ret_end)
{
    gint64 size = sx_load(&v->size);
    if (sx_load(&c->version) != v || sx_extents_needed(&v->map, size, off, off + (gint64)n) >= 0)
        return -ENODATA;
    int rc = sx_content_materialise(c, v);
    if (rc == 0)
        rc = sx_extents_flush(&v->map, c->cache->sys);
    if (rc != 0)
        return rc;
    gssize k = put(c->cache->sys, s, v->fd, off, n);
    if (k <= 0)
        return k;
    gint64 end = off + k;
    gint64 block = (gsize)k == n ? -1 : sx_extents_needed(&v->map, size, off, end);
    if (block >= 0)
        end = MAX(block * SX_BLOCK, off);
    if (end <= off)
        return -EIO;
    *ret_end = end;
    rc = sx_extents_force(&v->map, c->cache->sys, off / SX_BLOCK, (end + SX_BLOCK - 1) / SX_BLOCK);
    if (rc == 0)
        sx_content_check_complete(c, v);
    return rc != 0 ? rc : end - off;
}

static bool
needs_lock(SxVersion *v, gint64 off, gint64 end)
{
    if (sx_load(&v->fd) < 0 || sx_load(&v->map.stale))
        return true;
    return !sx_load(&v->complete) &&
           (!sx_extents_has_range(&v->map, off, end) || sx_extents_needed(&v->map, sx_load(&v->size), off, end) >= 0);
}

static gssize
write_version(SxContent *c, SxVersion *v, Source *s, gint64 off, gsize n)
{
    int rc = sx_evict_charge(c->cache, v, off, (gint64)n);
    if (rc != 0)
        return rc;
    guint64 seq = sx_load(&v->size_seq);
    gint64 put_end = 0;
    gssize k;
    if (needs_lock(v, off, off + (gint64)n)) {
        g_mutex_lock(&c->lock);
        k = write_absent(c, v, s, off, n, &put_end);
        g_mutex_unlock(&c->lock);
    } else {
        k = put(c->cache->sys, s, sx_load(&v->fd), off, n);
        put_end = k > 0 ? off + k : 0;
    }
    if (k == -ENOSPC || k == -EDQUOT)
        sx_evict_disk_full(c->cache);
    if (put_end > 0) {
        rc = grow(c, v, put_end, seq);
        if (rc != 0)
            k = rc;
    }
    sx_evict_charged(v, (gint64)n);
    return k;
}

static gssize
write_source(SxContent *c, Source *s, gint64 off, gsize n)
{
    if (off < 0)
        return -EINVAL;
    if (n == 0)
        return 0;
    if (n > G_MAXSSIZE || (gint64)n > G_MAXINT64 - off)
        return -EFBIG;
    SxVersion *v = change_begin(c);
    gssize k = write_version(c, v, s, off, n);
    change_end(c, v, k > 0);
    return k;
}

gssize
sx_content_write(SxContent *c, gint64 off, const void *buf, gsize n)
{
    Source s = {.buf = buf, .fd = -1};
    return write_source(c, &s, off, n);
}

gssize
sx_content_write_fd(SxContent *c, gint64 off, int fd, gsize n)
{
    Source s = {.fd = fd};
    return write_source(c, &s, off, n);
}

/* ---- size and space; c->lock held by the three below ---- */

/* size is stored before the file is cut, so that a write that ends in between finds itself beyond it and looks at the file. */
static int
shrink(SxContent *c, SxVersion *v, gint64 size)
{
    const SxSys *sys = c->cache->sys;
    gint64 old = sx_load(&v->size);
    sx_add(&v->size_seq, 1);
    sx_store(&v->size, size);
    int rc = 0;
    do
        rc = sys->ftruncate(sys, v->fd, size) != 0 ? -errno : 0;
    while (rc == -EINTR);
    size_from_file(c, v, rc == 0 ? size : old);
    if (rc == 0) /* a map that could not be told is told before anything is built on it; see sx_open_version for a crash before */
        sx_extents_force(&v->map, sys, (size + SX_BLOCK - 1) / SX_BLOCK, v->map.n_blocks);
    sx_add(&v->size_seq, 1);
    return rc;
}

static int
set_size(SxContent *c, SxVersion *v, gint64 size)
{
    const SxSys *sys = c->cache->sys;
    gint64 old = sx_load(&v->size);
    if (size < old)
        return shrink(c, v, size);
    /* A map that does not know of an earlier cut would call the new zeros absent after a crash. */
    int rc = sx_extents_flush(&v->map, sys);
    if (rc != 0 || size == old)
        return rc;
    do
        rc = sys->ftruncate(sys, v->fd, size) != 0 ? -errno : 0;
    while (rc == -EINTR);
    size_from_file(c, v, rc == 0 ? MAX(size, sx_load(&v->size)) : sx_load(&v->size));
    return rc;
}

static int
change_space(SxContent *c, SxVersion *v, int mode, gint64 off, gint64 len)
{
    const SxSys *sys = c->cache->sys;
    int rc = sx_extents_flush(&v->map, sys);
    if (rc != 0)
        return rc;
    do
        rc = sys->fallocate(sys, v->fd, mode, off, len) != 0 ? -errno : 0;
    while (rc == -EINTR);
    if (rc != 0)
        return rc;
    gint64 size = sx_load(&v->size);
    size_from_file(c, v, (mode & FALLOC_FL_KEEP_SIZE) != 0 ? size : MAX(size, off + len));
    if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) == 0)
        return 0;
    return sx_extents_force(&v->map, sys, off / SX_BLOCK, (off + len + SX_BLOCK - 1) / SX_BLOCK);
}

typedef struct Change {
    bool space;
    int mode;
    gint64 off, len; /* truncate: off is the size */
} Change;

static int
apply_locked(SxContent *c, SxVersion *v, const Change *ch)
{
    gint64 size = sx_load(&v->size), end = ch->off + ch->len;
    bool zeroes = (ch->mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0;
    gint64 block = !ch->space || zeroes ? sx_extents_needed(&v->map, size, ch->off, end) : -1;
    if (sx_load(&c->version) != v || block >= 0)
        return -ENODATA;
    int rc = sx_content_materialise(c, v);
    if (rc != 0)
        return rc;
    rc = ch->space ? change_space(c, v, ch->mode, ch->off, ch->len) : set_size(c, v, ch->off);
    if (rc == 0)
        sx_content_check_complete(c, v);
    return rc;
}

static int
apply(SxContent *c, const Change *ch)
{
    SxVersion *v = change_begin(c);
    gint64 n = ch->space && (ch->mode & FALLOC_FL_PUNCH_HOLE) == 0 ? ch->len : 0;
    int rc = n > 0 ? sx_evict_charge(c->cache, v, ch->off, n) : 0;
    if (rc == 0) {
        g_mutex_lock(&c->lock);
        rc = apply_locked(c, v, ch);
        g_mutex_unlock(&c->lock);
        sx_evict_charged(v, n);
        sx_evict_settle(c->cache, v);
        if (rc == -ENOSPC || rc == -EDQUOT)
            sx_evict_disk_full(c->cache);
    }
    change_end(c, v, rc == 0);
    return rc;
}

int
sx_content_truncate(SxContent *c, gint64 size)
{
    if (size < 0)
        return -EINVAL;
    Change ch = {.off = size};
    return apply(c, &ch);
}

int
sx_content_fallocate(SxContent *c, int mode, gint64 off, gint64 len)
{
    static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, FALLOC_FL_ZERO_RANGE,
                                FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    if (off < 0 || len <= 0)
        return -EINVAL;
    if (len > G_MAXINT64 - off)
        return -EFBIG;
    Change ch = {.space = true, .mode = mode, .off = off, .len = len};
    for (guint i = 0; i < G_N_ELEMENTS(modes); i++)
        if (modes[i] == mode)
            return apply(c, &ch);
    return -EOPNOTSUPP;
}

/* c->lock held. A file whose time has moved although nothing was written through here since the last look was written by others. */
static bool
look_for_others(SxContent *c, SxVersion *v, const struct stat *st)
{
    gint64 t = (gint64)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
    guint64 epoch = sx_load(&c->epoch);
    bool others = st->st_size != sx_load(&v->size) ||
                  (c->seen_mtime_ns != SX_TIME_UNKNOWN && c->seen_mtime_ns != t && c->seen_epoch == epoch);
    if (others) {
        epoch = sx_add(&c->epoch, 2);
        sx_store(&v->size, st->st_size);
        sx_store(&c->mtime_ns, t);
        sx_store(&c->last_write_mono_ms, MAX(sx_clock_mono_ms(c->cache->clock), 1));
        sx_store(&c->cache->unsynced, 1);
    }
    c->seen_mtime_ns = t;
    c->seen_epoch = epoch;
    return others;
}

int
sx_content_refresh(SxContent *c)
{
    SxVersion *v = sx_content_enter(c);
    struct stat st;
    int rc = 0;
    bool others = false;
    g_mutex_lock(&c->lock);
    if (v->fd >= 0 && sx_load(&c->version) == v && sx_load(&c->writing) == 0) {
        rc = c->cache->sys->fstat(c->cache->sys, v->fd, &st) != 0 ? -errno : 0;
        others = rc == 0 && sx_load(&c->writing) == 0 && look_for_others(c, v, &st);
    }
    g_mutex_unlock(&c->lock);
    if (others)
        sx_evict_settle(c->cache, v);
    sx_content_leave(v);
    return rc;
}

/* ---- downloads ---- */

static int
fill_block(SxContent *c, SxVersion *v, gint64 block, const char *buf, gint64 n)
{
    int rc = sx_evict_charge(c->cache, v, block * SX_BLOCK, n);
    if (rc != 0)
        return rc;
    g_mutex_lock(&c->lock);
    if (sx_load(&c->version) != v)
        rc = -ESTALE;
    else if (!sx_extents_has(&v->map, block)) {
        rc = sx_content_materialise(c, v);
        if (rc == 0)
            rc = sx_sys_pwrite_full(c->cache->sys, v->fd, buf, (gsize)n, block * SX_BLOCK);
        if (rc == 0)
            rc = sx_extents_set(&v->map, c->cache->sys, block, block + 1);
        if (rc == 0)
            sx_content_check_complete(c, v);
        g_cond_broadcast(&c->changed);
    }
    g_mutex_unlock(&c->lock);
    sx_evict_charged(v, n);
    if (rc == -ENOSPC || rc == -EDQUOT)
        sx_evict_disk_full(c->cache);
    return rc;
}

int
sx_content_fill(SxContent *c, gint64 cver, gint64 off, const void *buf, gsize n)
{
    if (off < 0 || off % SX_BLOCK != 0)
        return -EINVAL;
    SxVersion *v = sx_content_enter(c);
    int rc = v->cver == cver ? 0 : -ESTALE;
    const char *from = buf;
    while (rc == 0 && n > 0) {
        gint64 len = MIN(SX_BLOCK, MIN(sx_load(&v->size), v->map.remote_size) - off);
        if (len <= 0 || (gint64)n < len)
            break;
        if (!sx_extents_has(&v->map, off / SX_BLOCK))
            rc = fill_block(c, v, off / SX_BLOCK, from, len);
        off += len;
        from += len;
        n -= (gsize)len;
    }
    sx_content_leave(v);
    return rc;
}

/* ---- to the disk ---- */

static int
sync_dir(SxContent *c)
{
    const SxSys *sys = c->cache->sys;
    char name[SX_NAME_BUF];
    sx_cache_name(name, c->ino, 0, false);
    name[2] = '\0';
    int fd = sys->openat(sys, c->cache->content_fd, name, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return -errno;
    int rc = sys->fsync(sys, fd) != 0 || sys->fsync(sys, c->cache->content_fd) != 0 ? -errno : 0;
    sys->close(sys, fd);
    return rc;
}

/* The bits that count as durable are those that were set before the content's sync began. */
static int
sync_version(SxContent *c, SxVersion *v)
{
    const SxSys *sys = c->cache->sys;
    g_mutex_lock(&c->lock);
    g_autofree guint64 *bits = sx_extents_snapshot(&v->map);
    bool dir_synced = v->dir_synced;
    g_mutex_unlock(&c->lock);
    if (sys->fdatasync(sys, v->fd) != 0)
        return -errno;
    int rc = dir_synced ? 0 : sync_dir(c);
    if (rc != 0)
        return rc;
    g_mutex_lock(&c->lock);
    v->dir_synced = true;
    rc = sx_extents_made_durable(&v->map, sys, bits);
    g_mutex_unlock(&c->lock);
    return rc;
}

int
sx_content_sync(SxContent *c)
{
    SxVersion *v = sx_content_enter(c);
    int rc = sx_load(&v->fd) >= 0 ? sync_version(c, v) : 0;
    sx_content_leave(v);
    return rc;
}
