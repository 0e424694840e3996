/* Inside the cache folder.
 *
 * Lock order: SxContent.lock, then SxCache.lock; SxCache.evict_lock comes before SxCache.lock and is never taken with an
 * SxContent.lock held. The tree's own locks come last. Content.lock is held over I/O on the cache's own files (so that downloaded
 * bytes cannot pass locally written ones) but never over waiting, the network or callbacks.
 *
 * SxVersion is one cache file in use: what readers and writers hold while they work, so that a replacement never closes
 * a descriptor under them. Its memory lives as long as the content (and is used again for later versions), so
 * that entering needs no lock: count in, look whether it still is the current one. */
#pragma once

#include "cache/cache.h"
#include "cache/extents_i.h"

#define sx_load(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)
#define sx_store(p, v) __atomic_store_n((p), (v), __ATOMIC_SEQ_CST)
#define sx_add(p, v) __atomic_add_fetch((p), (v), __ATOMIC_SEQ_CST)

#define SX_NAME_BUF 48 /* "XX/INO-CVER.map" with two 16-digit numbers */

typedef struct SxHold SxVersion;
struct SxHold {
    SxContent *owner;
    SxVersion *next;     /* all of the owner's; owner->lock */
    int users;           /* atomic */
    int retired;         /* atomic: not the current one any more */
    bool closed;         /* owner->lock: may be used again */
    bool linked;         /* owner->lock: the file has its name */
    bool dir_synced;     /* owner->lock */
    int fd;              /* atomic; -1: no file yet */
    gint64 cver;         /* written before it becomes current */
    gint64 size;         /* atomic */
    guint64 size_seq;    /* atomic; changed by every shrinking, odd while one is under way */
    int complete;        /* atomic */
    SxExtents map;       /* changes: owner->lock */
    gint64 charged;      /* cache->lock: what this one counts in cache->used */
    gint64 credit;       /* atomic: bytes of `charged` that may still be written */
    gint64 inflight;     /* atomic: bytes taken from the credit and maybe not yet in the file's blocks */
};

typedef struct SxWaiter SxWaiter;
struct SxWaiter {
    SxWaiter *next;
    gint64 off, end;
    int err; /* 0 or negative */
};

typedef enum SxContentState { SX_CONTENT_OPENING, SX_CONTENT_OPEN, SX_CONTENT_FAILED } SxContentState;

struct SxContent {
    SxCache *cache;
    gint64 ino;
    int refs;            /* atomic; reaches 0 under cache->lock only */
    int state;           /* atomic: SxContentState */
    GMutex lock;
    GCond changed;       /* with lock: blocks came, an error was set, the version was replaced */
    SxVersion *version;  /* atomic; never NULL once open */
    SxVersion *versions; /* lock */
    SxWaiter *waiters;   /* lock */
    int n_writers;       /* atomic */
    int writing;         /* atomic: writes under way */
    int announced;       /* atomic */
    bool doomed;         /* cache->lock: discard when the last user has gone */
    guint64 epoch;       /* atomic */
    gint64 mtime_ns;     /* atomic */
    gint64 last_write_mono_ms; /* atomic */
    gint64 seen_mtime_ns; /* lock: the file's own at the last sx_content_refresh, */
    guint64 seen_epoch;   /* lock: and the epoch then */
};

struct SxCache {
    char *dir;
    int dir_fd, content_fd; /* const */
    gint64 size, min_free;  /* const */
    const SxSys *sys;
    const SxClock *clock;
    SxTree *tree;
    int recovering;            /* atomic, cleared by sweep's end only: a sweep after a power loss is due */
    struct timespec synced_at; /* const: before this contents are on the disk; zero: unknown */
    struct timespec lost_until;/* const: contents written before this may have been lost with the power */
    int unsynced;              /* atomic: something was written since the last syncfs */
    gint64 last_sync_ms;       /* atomic */
    void (*hurry)(void *data); /* const after start */
    void *hurry_data;

    GMutex evict_lock; /* one evicts at a time */
    GMutex lock;
    GCond room;            /* with lock: `used` went down, or somebody says so; also: an inode left `busy` */
    GHashTable *contents;  /* lock: ino -> SxContent (no ref) */
    GHashTable *busy;      /* lock: inodes whose files are being removed */
    GHashTable *counted;   /* lock: what closed files count in `used`: file_key -> 512-byte units (no allocation an entry) */
    gint64 used;           /* lock to change, atomic */
    gint64 avail;          /* lock: of the file system for us, at avail_at_ms, minus what was granted since */
    gint64 avail_at_ms;    /* lock; G_MININT64: ask again */
    gint64 full_until_ms;  /* lock: the disk refused a write although `avail` promised room, */
    gint64 full_avail;     /* lock: when it promised this much */
};

/* cache.c */
SxContent *sx_cache_content(SxCache *cache, gint64 ino, bool create, GError **error);
void sx_cache_name(char *buf, gint64 ino, gint64 cver, bool map); /* SX_NAME_BUF */
/* Marks the inode busy: no content of it can be opened until sx_cache_idle. false: open, or busy already. */
bool sx_cache_busy(SxCache *cache, gint64 ino);
void sx_cache_idle(SxCache *cache, gint64 ino);
gint64 sx_cache_remove_files(SxCache *cache, gint64 ino, gint64 cver); /* returns the disk space they had; -errno when one stays */
/* Was this file (with these times) written before a power loss and after the last sync? */
bool sx_cache_untrusted(const SxCache *cache, const struct stat *st);
void sx_cache_recovered(SxCache *cache);
void sx_cache_drop(SxCache *cache, SxContent *c, bool unconditionally); /* one ref; frees */

/* content.c */
SxContent *sx_content_new(SxCache *cache, gint64 ino);
void sx_content_free(SxContent *c);
SxVersion *sx_content_enter(SxContent *c);
void sx_content_leave(SxVersion *v);
int sx_content_materialise(SxContent *c, SxVersion *v); /* c->lock held: makes the file when there is none */
void sx_content_check_complete(SxContent *c, SxVersion *v); /* c->lock held: after blocks became present */
/* open.c */
bool sx_open_version(SxContent *c, SxVersion *v, bool create, GError **error); /* c->lock held: v as tree and disk say */
/* evict.c: maps are not counted (2 bytes a MiB of content) */
int sx_evict_charge(SxCache *cache, SxVersion *v, gint64 off, gint64 n); /* takes credit, inflight += n; 0, or -ENOSPC with nothing taken */
void sx_evict_charged(SxVersion *v, gint64 n);                /* the write is over: inflight -= n */
int sx_evict_check(SxCache *cache, SxVersion *v, gint64 off, gint64 n); /* is there, or can there be made, credit for n? */
void sx_evict_settle(SxCache *cache, SxVersion *v);           /* charged = what the disk says */
void sx_evict_adopt(SxCache *cache, SxVersion *v);/* an existing file was opened */
void sx_evict_closing(SxCache *cache, SxVersion *v);          /* settles it; or gives it all back when the file has no name any more */
void sx_evict_closing_locked(SxCache *cache, SxVersion *v);   /* cache->lock held */
void sx_evict_removed(SxCache *cache, gint64 ino, gint64 cver); /* a file that no version has open was deleted */
void sx_evict_count(SxCache *cache, gint64 ino, gint64 cver, gint64 bytes);/* a closed file, as the sweep found it */
void sx_evict_disk_full(SxCache *cache);                      /* a write failed for want of space */
int sx_evict_one(SxCache *cache, gint64 ino, gint64 *ret_freed);
gint64 sx_evict_lru(SxCache *cache, gint64 want, bool for_room); /* until so much was freed; or until the budget has room for it */
int sx_evict_wait_room(SxCache *cache, gint64 bytes, GCancellable *cancel);
/* sweep.c */
void sx_sweep_run(SxCache *cache, GCancellable *cancel);
