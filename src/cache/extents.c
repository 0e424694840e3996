#include "cache/extents_i.h"

#include "base/log.h"
#include "cache/cache.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

typedef struct SxExtentsHeader {
    char magic[8];
    guint32 version;
    guint32 block;
    gint64 ino, cver;
    gint64 n_blocks;
    gint64 remote_size;
    gint64 spare[2];
} SxExtentsHeader;
G_STATIC_ASSERT(sizeof(SxExtentsHeader) == 64);

static gint64
n_words(const SxExtents *e)
{
    return (e->n_blocks + 63) / 64;
}

static gsize
words_bytes(const SxExtents *e)
{
    return (gsize)n_words(e) * 8;
}

static guint64
word(const SxExtents *e, gint64 i)
{
    return __atomic_load_n(&e->words[i], __ATOMIC_SEQ_CST);
}

bool
sx_extents_init(SxExtents *e, gint64 ino, gint64 cver, gint64 size)
{
    *e = (SxExtents){.fd = -1, .ino = ino, .cver = cver};
    if (size < 0 || size > SX_EXTENTS_MAX_BLOCKS * SX_BLOCK)
        return false;
    e->n_blocks = (size + SX_BLOCK - 1) / SX_BLOCK;
    e->n_absent = e->n_blocks;
    e->remote_size = size;
    e->words = e->n_blocks > 0 ? g_new0(guint64, n_words(e)) : NULL;
    return true;
}

void
sx_extents_clear(SxExtents *e, const SxSys *sys)
{
    sx_extents_drop_file(e, sys);
    g_clear_pointer(&e->words, g_free);
    e->n_blocks = 0;
}

void
sx_extents_drop_file(SxExtents *e, const SxSys *sys)
{
    if (e->fd >= 0)
        sys->close(sys, e->fd);
    e->fd = -1;
    __atomic_store_n(&e->stale, 0, __ATOMIC_SEQ_CST);
}

bool
sx_extents_has(const SxExtents *e, gint64 block)
{
    return block >= e->n_blocks || (word(e, block / 64) >> (block % 64) & 1) != 0;
}

gint64
sx_extents_next(const SxExtents *e, gint64 block, bool present, gint64 limit)
{
    gint64 start = block;
    while (block < limit && block < e->n_blocks) {
        guint64 w = word(e, block / 64);
        if (!present)
            w = ~w;
        w >>= block % 64;
        if (w != 0) {
            block += __builtin_ctzll(w);
            if (block < e->n_blocks)
                return MIN(block, limit);
            break;
        }
        block = (block / 64 + 1) * 64;
    }
    return present ? MIN(MAX(start, e->n_blocks), limit) : limit;
}

bool
sx_extents_has_range(const SxExtents *e, gint64 off, gint64 end)
{
    if (end <= off || __atomic_load_n(&e->n_absent, __ATOMIC_SEQ_CST) == 0)
        return true;
    gint64 limit = (end + SX_BLOCK - 1) / SX_BLOCK;
    return sx_extents_next(e, off / SX_BLOCK, false, limit) == limit;
}

/* Does a write of [off, end), which touches the block, leave something of it as it was? */
static bool
cuts(const SxExtents *e, gint64 size, gint64 block, gint64 off, gint64 end)
{
    gint64 start = block * SX_BLOCK;
    return !sx_extents_has(e, block) && (off > start || end < MIN(start + SX_BLOCK, size));
}

/* Growing by a cut or a far write needs nothing: remote_size says how far the bytes of an absent last block go. */
gint64
sx_extents_needed(const SxExtents *e, gint64 size, gint64 off, gint64 end)
{
    if (__atomic_load_n(&e->n_absent, __ATOMIC_SEQ_CST) == 0)
        return -1;
    if (end == off)
        return off % SX_BLOCK != 0 && off < size && !sx_extents_has(e, off / SX_BLOCK) ? off / SX_BLOCK : -1;
    if (cuts(e, size, off / SX_BLOCK, off, end))
        return off / SX_BLOCK;
    return cuts(e, size, (end - 1) / SX_BLOCK, off, end) ? (end - 1) / SX_BLOCK : -1;
}

gint64
sx_extents_absent_bytes(const SxExtents *e, gint64 size)
{
    gint64 bytes = __atomic_load_n(&e->n_absent, __ATOMIC_SEQ_CST) * SX_BLOCK;
    if (e->n_blocks > 0 && !sx_extents_has(e, e->n_blocks - 1))
        bytes -= e->n_blocks * SX_BLOCK - e->remote_size;
    return CLAMP(bytes, 0, size);
}

/* ---- the file ---- */

static int
write_all(SxExtents *e, const SxSys *sys, const guint64 *durable)
{
    SxExtentsHeader h = {
        .version = GUINT32_TO_LE(SX_EXTENTS_VERSION),
        .block = GUINT32_TO_LE(SX_BLOCK),
        .ino = GINT64_TO_LE(e->ino),
        .cver = GINT64_TO_LE(e->cver),
        .n_blocks = GINT64_TO_LE(e->n_blocks),
        .remote_size = GINT64_TO_LE(e->remote_size),
    };
    memcpy(h.magic, SX_EXTENTS_MAGIC, sizeof h.magic);
    int rc = sx_sys_pwrite_full(sys, e->fd, &h, sizeof h, 0);
    g_autofree guint64 *live = sx_extents_snapshot(e);
    if (rc == 0)
        rc = sx_sys_pwrite_full(sys, e->fd, live, words_bytes(e), sizeof h);
    if (rc == 0 && durable != NULL)
        rc = sx_sys_pwrite_full(sys, e->fd, durable, words_bytes(e), (off_t)(sizeof h + words_bytes(e)));
    return rc;
}

int
sx_extents_create(SxExtents *e, const SxSys *sys, int dir, const char *name)
{
    int fd = sys->openat(sys, dir, name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return -errno;
    e->fd = fd;
    /* The whole length now: a full disk shows here and not when a bit is set. */
    g_autofree guint64 *none = g_malloc0(words_bytes(e));
    int rc = write_all(e, sys, none);
    if (rc != 0) {
        sx_extents_drop_file(e, sys);
        sys->unlinkat(sys, dir, name, 0);
    }
    return rc;
}

static gint64
count_absent(const SxExtents *e)
{
    gint64 n = e->n_blocks;
    for (gint64 i = 0; i < n_words(e); i++)
        n -= __builtin_popcountll(e->words[i]);
    return n;
}

/* Bits at or after n_blocks in the last word would count as present blocks. */
static void
mask_last(SxExtents *e)
{
    if (e->n_blocks % 64 != 0)
        e->words[e->n_blocks / 64] &= (((guint64)1) << (e->n_blocks % 64)) - 1;
}

static bool
has_hole(const SxSys *sys, int fd, gint64 block, gint64 size)
{
    gint64 end = MIN((block + 1) * SX_BLOCK, size);
    if (block * SX_BLOCK >= size)
        return false;
    off_t hole = sys->lseek(sys, fd, block * SX_BLOCK, SEEK_HOLE);
    return hole >= 0 && hole < end;
}

static void
distrust(SxExtents *e, const SxSys *sys, const guint64 *durable, int content_fd)
{
    struct stat st;
    gint64 size = sys->fstat(sys, content_fd, &st) == 0 ? st.st_size : 0;
    for (gint64 b = 0; b < e->n_blocks; b++) {
        guint64 bit = (guint64)1 << (b % 64);
        if ((e->words[b / 64] & bit & ~durable[b / 64]) != 0 && has_hole(sys, content_fd, b, size))
            e->words[b / 64] &= ~bit;
    }
    e->stale = 1;
}

static int
check_header(SxExtents *e, const SxExtentsHeader *h, gint64 file_size)
{
    e->n_blocks = GINT64_FROM_LE(h->n_blocks);
    e->remote_size = GINT64_FROM_LE(h->remote_size);
    if (memcmp(h->magic, SX_EXTENTS_MAGIC, sizeof h->magic) != 0 || GUINT32_FROM_LE(h->version) != SX_EXTENTS_VERSION ||
        GUINT32_FROM_LE(h->block) != SX_BLOCK || GINT64_FROM_LE(h->ino) != e->ino || GINT64_FROM_LE(h->cver) != e->cver ||
        e->n_blocks <= 0 || e->n_blocks > SX_EXTENTS_MAX_BLOCKS ||
        e->remote_size <= (e->n_blocks - 1) * SX_BLOCK || e->remote_size > e->n_blocks * SX_BLOCK || file_size != (gint64)(sizeof *h + 2 * words_bytes(e)))
        return -EUCLEAN;
    return 0;
}

static int
read_map(SxExtents *e, const SxSys *sys, guint64 **ret_durable)
{
    SxExtentsHeader h;
    struct stat st;
    if (sys->fstat(sys, e->fd, &st) != 0)
        return -errno;
    gssize k = sx_sys_pread_full(sys, e->fd, &h, sizeof h, 0);
    if (k < 0)
        return (int)k;
    if (k != sizeof h || check_header(e, &h, st.st_size) != 0)
        return -EUCLEAN;
    gsize n = words_bytes(e);
    g_autofree guint64 *both = g_malloc(2 * n);
    k = sx_sys_pread_full(sys, e->fd, both, 2 * n, sizeof h);
    if (k != (gssize)(2 * n))
        return k < 0 ? (int)k : -EUCLEAN;
    e->words = g_new(guint64, n_words(e));
    *ret_durable = g_new(guint64, n_words(e));
    for (gint64 i = 0; i < n_words(e); i++) {
        e->words[i] = GUINT64_FROM_LE(both[i]);
        (*ret_durable)[i] = GUINT64_FROM_LE(both[n_words(e) + i]);
    }
    return 0;
}

int
sx_extents_load(SxExtents *e, const SxSys *sys, int dir, const char *name, gint64 ino, gint64 cver, int content_fd,
                bool after_power_loss)
{
    *e = (SxExtents){.fd = -1, .ino = ino, .cver = cver};
    e->fd = sys->openat(sys, dir, name, O_RDWR | O_NOFOLLOW, 0);
    if (e->fd < 0)
        return -errno;
    g_autofree guint64 *durable = NULL;
    int rc = read_map(e, sys, &durable);
    if (rc != 0) {
        sx_extents_clear(e, sys);
        return rc;
    }
    mask_last(e);
    if (after_power_loss)
        distrust(e, sys, durable, content_fd);
    e->n_absent = count_absent(e);
    return e->stale ? sx_extents_flush(e, sys) : 0;
}

int
sx_extents_from_data(SxExtents *e, const SxSys *sys, int content_fd, gint64 size)
{
    off_t at = 0;
    while (at < size) {
        off_t data = sys->lseek(sys, content_fd, at, SEEK_DATA);
        if (data < 0)
            return errno == ENXIO ? 0 : -errno;
        off_t hole = sys->lseek(sys, content_fd, data, SEEK_HOLE);
        if (hole < 0)
            return -errno;
        sx_extents_force(e, sys, data / SX_BLOCK, (hole + SX_BLOCK - 1) / SX_BLOCK);
        at = hole;
    }
    return 0;
}

int
sx_extents_flush(SxExtents *e, const SxSys *sys)
{
    if (!e->stale || e->fd < 0)
        return 0;
    int rc = write_all(e, sys, NULL);
    if (rc == 0)
        __atomic_store_n(&e->stale, 0, __ATOMIC_SEQ_CST);
    return rc;
}

guint64 *
sx_extents_snapshot(const SxExtents *e)
{
    guint64 *copy = g_new(guint64, MAX(n_words(e), 1));
    for (gint64 i = 0; i < n_words(e); i++)
        copy[i] = GUINT64_TO_LE(word(e, i));
    return copy;
}

int
sx_extents_made_durable(SxExtents *e, const SxSys *sys, const guint64 *snapshot)
{
    if (e->fd < 0)
        return 0;
    int rc = sx_extents_flush(e, sys);
    if (rc == 0)
        rc = sx_sys_pwrite_full(sys, e->fd, snapshot, words_bytes(e), (off_t)(sizeof(SxExtentsHeader) + words_bytes(e)));
    if (rc == 0 && sys->fdatasync(sys, e->fd) != 0)
        rc = -errno;
    return rc;
}

/* ---- changes ---- */

static guint64
mask_for(gint64 w, gint64 first, gint64 last)
{
    guint64 m = ~(guint64)0;
    if (w * 64 < first)
        m &= ~(guint64)0 << (first - w * 64);
    if ((w + 1) * 64 > last)
        m &= ~(guint64)0 >> ((w + 1) * 64 - last);
    return m;
}

static void
publish(SxExtents *e, gint64 first, gint64 last)
{
    gint64 n = 0;
    for (gint64 w = first / 64; w * 64 < last; w++) {
        guint64 add = mask_for(w, first, last) & ~word(e, w);
        __atomic_fetch_or(&e->words[w], add, __ATOMIC_SEQ_CST);
        n += __builtin_popcountll(add);
    }
    __atomic_fetch_sub(&e->n_absent, n, __ATOMIC_SEQ_CST);
}

static int
write_words(SxExtents *e, const SxSys *sys, gint64 first, gint64 last)
{
    guint64 chunk[64];
    gint64 end = (last + 63) / 64;
    for (gint64 w = first / 64; w < end;) {
        gint64 start = w, k = 0;
        for (; k < 64 && w < end; k++, w++)
            chunk[k] = GUINT64_TO_LE(word(e, w) | mask_for(w, first, last));
        int rc = sx_sys_pwrite_full(sys, e->fd, chunk, (gsize)k * 8, (off_t)sizeof(SxExtentsHeader) + start * 8);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int
sx_extents_set(SxExtents *e, const SxSys *sys, gint64 first, gint64 last)
{
    last = MIN(last, e->n_blocks);
    if (first >= last || sx_extents_next(e, first, false, last) == last)
        return 0;
    int rc = sx_extents_flush(e, sys);
    if (rc == 0 && e->fd >= 0)
        rc = write_words(e, sys, first, last);
    if (rc != 0) {
        /* Some words may have been written: a later flush takes them back. */
        __atomic_store_n(&e->stale, e->fd >= 0, __ATOMIC_SEQ_CST);
        return rc;
    }
    publish(e, first, last);
    return 0;
}

int
sx_extents_force(SxExtents *e, const SxSys *sys, gint64 first, gint64 last)
{
    last = MIN(last, e->n_blocks);
    int rc = sx_extents_set(e, sys, first, last);
    if (rc != 0)
        publish(e, first, last);
    return rc;
}
