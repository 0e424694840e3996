/* The content cache: one sparse file per inode and content version, which blocks are present, the disk budget.
 *
 * Files: CACHE/content/XX/INO-CVER (hex; XX the low byte of INO) and, while not everything is present, INO-CVER.map: a bitmap,
 * one bit per block of SX_BLOCK bytes, kept in memory and written through after the block's bytes have been written (written,
 * not mapped: a mapped file on a full or failing disk would end the process with SIGBUS). Order on fill: pwrite, then the bit;
 * so after kill -9 a set bit never lies. After power loss (another boot, unclean stop) contents that were not synced since are
 * dropped when clean; of dirty ones only what fsync promised, or what the disk shows to have data, is taken as present.
 * A file that is complete has no map and cached=2 in the tree; the tree is told after the last bit, the map is removed
 * after the tree was told; both orders of a crash between are repaired at open (all bits set => complete).
 * A content with cached=0 has no file until its first byte comes, so opening and replacing it cannot fail on a full disk.
 * Eviction: the tree forgets first (cached=0, refused when dirty), then the files are deleted; a crash between leaves files
 * that the sweep at start removes.
 * CACHE/synced: its mtime is the start of the last complete syncfs. CACHE/recovering: exists from the first start after a
 * power loss until a sweep has looked at every file. Both are compared with the contents' mtimes, which the same kernel clock made.
 *
 * An SxContent is the one shared object for an inode while anybody uses it; reference counted; thread-safe. */
#pragma once

#include "tree/tree.h"

#define SX_BLOCK (128 * 1024)
#define SX_CACHE_SYNC_INTERVAL_MS (5 * 60 * 1000) /* syncfs at most this often, from sx_cache_tick */
#define SX_CACHE_GRANT_MAX (4 * 1024 * 1024)      /* disk space that one content asks ahead of its writes */
#define SX_CACHE_WAIT_MS 2000                     /* longest slow-down in one sx_cache_reserve */

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
void sx_cache_close(SxCache *cache); /* no content is open any more; syncs; before sx_tree_close */
/* Removes files of inodes or versions that the tree no longer knows, and adds up the use; background thread at start. */
void sx_cache_sweep(SxCache *cache, GCancellable *cancel);
/* Housekeeping: a syncfs when something was written and the last one is SX_CACHE_SYNC_INTERVAL_MS ago. Called every few seconds
 * by a thread that may wait for the disk (the scheduler's). */
void sx_cache_tick(SxCache *cache);
gint64 sx_cache_used(const SxCache *cache); /* bytes on the disk, sparse files by their blocks, plus what is granted to writers */
gint64 sx_cache_size(const SxCache *cache);

/* attr: names the inode; the rest is read from the tree again inside, so a stale one does no harm.
 * SX_ERR_CORRUPT: changes that the provider does not have were lost from the disk (dirty, and the file is missing or too short). */
SxContent *sx_content_open(SxCache *cache, const SxAttr *attr, GError **error);
/* The same for an inode made just now: an empty file, whatever may lie there under its number. */
SxContent *sx_content_create(SxCache *cache, const SxAttr *attr, GError **error);
SxContent *sx_content_ref(SxContent *c);
void sx_content_unref(SxContent *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxContent, sx_content_unref)
SxContent *sx_cache_peek(SxCache *cache, gint64 ino); /* a new ref to the open one, or NULL */

gint64 sx_content_ino(const SxContent *c);
gint64 sx_content_cver(SxContent *c);
/* The file (made when there is none yet) or -errno. Valid while the ref is held and the content is not replaced, so only for
 * a caller that rules that out (a writer, a test); everybody else takes sx_content_hold. */
int sx_content_fd(SxContent *c);
gint64 sx_content_size(SxContent *c);      /* the file's size as programs see it, also while writing */
gint64 sx_content_mtime_ns(SxContent *c);  /* of the last write through here; SX_TIME_UNKNOWN if none since open */
gint64 sx_content_disk_mtime_ns(SxContent *c); /* the cache file's own, for sx_tree_unfinished at start; SX_TIME_UNKNOWN: no file */
gint64 sx_content_present_bytes(SxContent *c);
bool sx_content_complete(SxContent *c);
/* The first missing range of the blocks that [off, off+len) touches, block-aligned, clipped to the size and to the end of the
 * remote's bytes (a file made longer here has zeros behind them). false: all present. */
bool sx_content_missing(SxContent *c, gint64 off, gint64 len, gint64 *ret_off, gint64 *ret_len);

/* Reading: present bytes only (the caller has made them present: transfer's sx_transfer_fetch). count or -errno; 0 at or after
 * the end; -ENODATA when something is missing (evicted or replaced in between: fetch again). */
gssize sx_content_read(SxContent *c, gint64 off, void *buf, gsize n);
/* Reading by descriptor (splice into a FUSE reply): the count of bytes at off that are present in *ret_fd, clipped to the size,
 * 0 at or after the end, -ENODATA when one is missing. With a count > 0 the hold keeps the descriptor open, and with its
 * content unchanged by replacement (later writes show), until sx_content_release; it holds a ref on the content too. */
typedef struct SxHold SxHold;
gssize sx_content_hold(SxContent *c, gint64 off, gsize n, int *ret_fd, SxHold **ret_hold);
void sx_content_release(SxHold *hold);

/* Writing. Protocol of the vfs, under no lock of its own:
 *   sx_content_writers(c, +1) at open for write; -1 at release
 *   the first write of a session (sx_content_announced is false): sx_tree_write_begin, then sx_content_follow with the attributes
 *        that it gave (the remote's new version may have entered the tree but not yet this object: a write into the old
 *        one would vanish with it), then sx_content_set_announced
 *   sx_content_prepare(): which bytes must be fetched first (the rest of a block that is absent and only partly overwritten);
 *        returns 0 when none, 1 with a range to fetch (fetch, then prepare again), or -errno; it never waits: -ENOSPC means
 *        nothing more could be evicted at once: sx_cache_reserve() slows down, then prepare again, until that says -ENOSPC
 *   sx_content_write(): bumps the write epoch before the first byte, writes, marks the blocks present. -ENODATA: prepare again
 *        (the content was replaced meanwhile); -ESTALE: follow the tree again; -ENOSPC: as for prepare.
 * What prepare must be asked for the other changes: truncate to S: (S, 0). PUNCH and ZERO: (off, len).
 * Otherwise they return -ENODATA. Allocation needs nothing. */
void sx_content_writers(SxContent *c, int delta);
int sx_content_n_writers(SxContent *c);
int sx_content_prepare(SxContent *c, gint64 off, gint64 len, gint64 *ret_off, gint64 *ret_len);
gssize sx_content_write(SxContent *c, gint64 off, const void *buf, gsize n); /* short only when the disk fails in the middle */
/* Bytes from a descriptor (a FUSE pipe) without a copy in user space where splice can; the same as _write otherwise. Takes at most
 * n bytes from fd, possibly more than it returns when the disk fails in the middle. */
gssize sx_content_write_fd(SxContent *c, gint64 off, int fd, gsize n);
int sx_content_truncate(SxContent *c, gint64 size); /* growing makes zeros that are present */
int sx_content_fallocate(SxContent *c, int mode, gint64 off, gint64 len); /* allocate, KEEP_SIZE, PUNCH, ZERO; -EOPNOTSUPP for others */
gint64 sx_content_seek(SxContent *c, gint64 off, int whence); /* SEEK_DATA SEEK_HOLE; absent blocks are data; -ENXIO */
int sx_content_sync(SxContent *c);                  /* content and map to the disk */
/* When writes may not have passed through here (FUSE passthrough): looks at the file itself; when its size or time differ from the
 * last look and no write of ours explains it, size, mtime, last write and epoch move on. Look before the seal and before each
 * sx_content_same_epoch. */
int sx_content_refresh(SxContent *c);

/* Snapshot for an upload: seal, then read the row from the tree (not to be uploaded when it is `writing`), then the bytes;
 * sx_content_same_epoch after each block read and before the last is sent. It is false also while a write is under way.
 * sealing makes the next write announce itself again (gen+1). */
guint64 sx_content_seal(SxContent *c);
bool sx_content_same_epoch(SxContent *c, guint64 epoch);
bool sx_content_announced(SxContent *c);
void sx_content_set_announced(SxContent *c);
gint64 sx_content_last_write_mono_ms(SxContent *c); /* 0: none since open */

/* Downloads. Bytes for [off, off+n) of content version cver, off a multiple of SX_BLOCK; only blocks that are still absent take
 * them; whole blocks (or the tail) at once become present and wake the waiters; bytes of a last, incomplete block are left out.
 * -ESTALE when the content has been replaced, -ENOSPC by the budget (never waits), -EINVAL for an unaligned offset. */
int sx_content_fill(SxContent *c, gint64 cver, gint64 off, const void *buf, gsize n);
/* Waits until a range is present, an error was set for this wait, the deadline (mono ms) or cancel. 0, -ETIMEDOUT, -EINTR, -ESTALE (the
 * content was replaced meanwhile: what is fetched for it comes to nothing), or the error (negative). */
int sx_content_wait(SxContent *c, gint64 off, gint64 len, gint64 deadline_mono_ms, GCancellable *cancel);
void sx_content_set_error(SxContent *c, gint64 off, gint64 len, int errnum); /* positive; fails those who wait now for bytes in it */
/* The remote has a new version (the tree was told before): an absent content of the new size takes the place; never fails for
 * want of disk space. 0 also when cver is the current one; -ESTALE when it is older. Readers that hold the old one finish with it. */
int sx_content_replace(SxContent *c, gint64 cver, gint64 size);
/* replace when attr, read from the tree just now, has a newer cver. */
int sx_content_follow(SxContent *c, const SxAttr *attr);

/* Disk budget. Writes and fills charge themselves, evicting clean contents when needed. reserve: for a writer that was told -ENOSPC:
 * 0 when there is room now (try again; it reserves nothing), else it evicts, asks for hurry (callback: push the oldest dirty),
 * slows the caller down (at most SX_CACHE_WAIT_MS a call; -EINTR), then -ENOSPC. A caller that knows uploads to be progressing may call it again. */
int sx_cache_reserve(SxCache *cache, gint64 bytes, GCancellable *cancel);
void sx_cache_set_hurry(SxCache *cache, void (*fn)(void *data), void *data); /* before threads run */
void sx_cache_room(SxCache *cache);                  /* something has become clean: those who wait in reserve look again at once */
/* The tree has no such inode, or has another cver for it now (a deleted file, a new version of one that is not open): its file goes, at
 * once or when the last user has gone. Does nothing while the tree still has it. What nobody discards the next sweep removes. */
void sx_cache_discard(SxCache *cache, gint64 ino, gint64 cver);
int sx_cache_evict(SxCache *cache, gint64 ino);      /* one file, now; -EBUSY when dirty, pinned or open, -ENOENT */
gint64 sx_cache_trim(SxCache *cache, gint64 want_free_bytes); /* returns freed bytes; called from a thread of the scheduler */
