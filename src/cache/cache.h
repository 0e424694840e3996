/* The content cache: one sparse file per inode and content version, which blocks are present, the disk budget.
 *
 * Files: CACHE/content/XX/INO-CVER (hex; XX the low byte of INO) and, while not everything is present, INO-CVER.map: a bitmap,
 * one bit per block of SX_BLOCK bytes, mapped shared, set after the block's bytes have been written. Order on fill: pwrite, then
 * the bit; so after kill -9 a set bit never lies. After power loss (another boot, unclean stop) contents that were not
 * synced since are dropped when clean; the present parts of dirty ones were synced by fsync or are unpromised.
 * A file that is complete has no map and cached=2 in the tree; the tree is told after the last bit, the map is removed
 * after the tree was told; both orders of a crash between are repaired at open (all bits set => complete).
 * Eviction: the tree forgets first (cached=0, refused when dirty), then the files are deleted; a crash between leaves files
 * that the sweep at start removes.
 *
 * An SxContent is the one shared object for an inode while anybody uses it; reference counted; thread-safe. */
#pragma once

#include "tree/tree.h"

#define SX_BLOCK (128 * 1024)

typedef struct SxCache SxCache;
typedef struct SxContent SxContent;

typedef struct SxCacheOptions {
    const char *dir;        /* made with mode 0700 */
    gint64 size;            /* budget in bytes */
    gint64 min_free;        /* of the file system */
    const SxSys *sys;
    const SxClock *clock;
    SxTree *tree;
} SxCacheOptions;
SxCache *sx_cache_open(const SxCacheOptions *options, GError **error); /* cheap; the sweep for leftovers is sx_cache_sweep */
void sx_cache_close(SxCache *cache);
/* Removes files of inodes or versions that the tree no longer knows, and adds up the use; background thread at start. */
void sx_cache_sweep(SxCache *cache, GCancellable *cancel);
gint64 sx_cache_used(const SxCache *cache);
gint64 sx_cache_size(const SxCache *cache);

/* attr: as read from the tree just now. create: an empty file of a new inode. */
SxContent *sx_content_open(SxCache *cache, const SxAttr *attr, GError **error);
SxContent *sx_content_ref(SxContent *c);
void sx_content_unref(SxContent *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxContent, sx_content_unref)
SxContent *sx_cache_peek(SxCache *cache, gint64 ino); /* a new ref to the open one, or NULL */

gint64 sx_content_ino(const SxContent *c);
gint64 sx_content_cver(SxContent *c);
int sx_content_fd(SxContent *c);           /* valid while the ref is held and no sx_content_replace happened; see _read_fd */
gint64 sx_content_size(SxContent *c);      /* the file's size as programs see it, also while writing */
gint64 sx_content_mtime_ns(SxContent *c);  /* of the last write through here; SX_TIME_UNKNOWN if none since open */
gint64 sx_content_present_bytes(SxContent *c);
bool sx_content_complete(SxContent *c);
/* The first missing range that overlaps [off, off+len), block-aligned, clipped to the size. false: all present. */
bool sx_content_missing(SxContent *c, gint64 off, gint64 len, gint64 *ret_off, gint64 *ret_len);

/* Reading: present bytes only (the caller has made them present: transfer's sx_transfer_fetch). count or -errno; -ENODATA
 * when something is missing (evicted or replaced in between: fetch again). */
gssize sx_content_read(SxContent *c, gint64 off, void *buf, gsize n);

/* Writing. Protocol of the vfs, under no lock of its own:
 *   sx_content_writers(c, +1) at open for write; -1 at release
 *   sx_content_prepare(): which bytes must be fetched first (the rest of a block that is absent and only partly overwritten);
 *        returns 0 when none, 1 with a range to fetch, or -errno (-ENOSPC from the budget, after back-pressure)
 *   sx_content_write(): bumps the write epoch before the first byte, writes, marks the blocks present.
 * The first write of a write session must have been announced to the tree by sx_tree_write_begin: `announced` says whether
 * that has happened since the last seal. */
void sx_content_writers(SxContent *c, int delta);
int sx_content_n_writers(SxContent *c);
int sx_content_prepare(SxContent *c, gint64 off, gint64 len, gint64 *ret_off, gint64 *ret_len);
gssize sx_content_write(SxContent *c, gint64 off, const void *buf, gsize n);
/* Bytes from a descriptor (a FUSE pipe) without a copy in user space where splice can; the same as _write otherwise. */
gssize sx_content_write_fd(SxContent *c, gint64 off, int fd, gsize n);
int sx_content_truncate(SxContent *c, gint64 size); /* growing makes zeros that are present; prepare() the cut block first */
int sx_content_fallocate(SxContent *c, int mode, gint64 off, gint64 len); /* allocate, KEEP_SIZE, PUNCH, ZERO */
gint64 sx_content_seek(SxContent *c, gint64 off, int whence); /* SEEK_DATA SEEK_HOLE; absent blocks are data */
int sx_content_sync(SxContent *c);                  /* content and map to the disk */

/* Snapshot for an upload: the write epoch before it; sx_content_same_epoch after each block read and before the last is sent.
 * sealing makes the next write announce itself again (gen+1). */
guint64 sx_content_seal(SxContent *c);
bool sx_content_same_epoch(SxContent *c, guint64 epoch);
bool sx_content_announced(SxContent *c);
void sx_content_set_announced(SxContent *c);
gint64 sx_content_last_write_mono_ms(SxContent *c); /* 0: none since open */

/* Downloads. Bytes for [off, off+n) of content version cver; only blocks that are still absent take them; whole blocks (or
 * the tail) at once become present and wake the waiters. -ESTALE when the content has been replaced. */
int sx_content_fill(SxContent *c, gint64 cver, gint64 off, const void *buf, gsize n);
/* Waits until a range is present, an error was set for this wait, the deadline (mono ms) or cancel. 0, -ETIMEDOUT, -EINTR, or the error. */
int sx_content_wait(SxContent *c, gint64 off, gint64 len, gint64 deadline_mono_ms, GCancellable *cancel);
void sx_content_set_error(SxContent *c, gint64 off, gint64 len, int errnum); /* wakes those who wait for bytes in it */
/* The remote has a new version (the tree was told before): an empty sparse file of the new size takes the place. */
int sx_content_replace(SxContent *c, gint64 cver, gint64 size);

/* Disk budget. reserve: before bytes are added; evicts, then asks for hurry (callback: push the oldest dirty), then slows the
 * caller down (interruptible, at most 2 s a call), then -ENOSPC. */
int sx_cache_reserve(SxCache *cache, gint64 bytes, GCancellable *cancel);
void sx_cache_set_hurry(SxCache *cache, void (*fn)(void *data), void *data);
int sx_cache_evict(SxCache *cache, gint64 ino);      /* one file, now; -EBUSY when dirty, pinned or open */
gint64 sx_cache_trim(SxCache *cache, gint64 want_free_bytes); /* returns freed bytes; called from a thread of the scheduler */
