/* The provider contract: what every storage looks like to the rest of the program.
 *
 * A plug-in is a const SxProviderType. The only caller of its functions is provider/call.c; everybody else uses the
 * sx_provider_* functions below, which check arguments, apply the filters (limit, fault), count, and log.
 *
 * Paths are raw bytes, components joined by '/', "" is the provider's root. Every call may block, is made from worker
 * threads (several at once on one instance, so plug-ins are thread-safe), and ends soon with SX_ERR_CANCELLED after
 * g_cancellable_cancel(). Every call obeys the provider's `timeout` for an answer to begin and for each pause in it.
 * A NULL function means "cannot": sx_provider_* then fails with SX_ERR_UNSUPPORTED.
 *
 * Errors (all calls): SX_ERR_NOT_FOUND only when the other side certainly answered that the object is not there.
 * SX_ERR_OFFLINE: nothing was done. SX_ERR_LOST, SX_ERR_TIMEOUT: the server may or may not have acted. The scheduler
 * retries by sx_error_retry(). Messages name the provider and the path. */
#pragma once

#include "base/clock.h"
#include "base/error.h"
#include "base/sys.h"
#include "conf/conf.h"

#include <gio/gio.h>

typedef enum SxKind {
    SX_KIND_NONE = 0, SX_KIND_FILE = 1, SX_KIND_DIR = 2, SX_KIND_SYMLINK = 3,
    SX_KIND_FIFO = 4, SX_KIND_SOCKET = 5, SX_KIND_CHAR = 6, SX_KIND_BLOCK = 7,
} SxKind;

#define SX_TIME_UNKNOWN G_MININT64

/* Names on the provider that are ours while something is being made or moved. sx_provider_list hides them (sx_provider_stat
 * does not), sx_provider_check_name refuses them to users. Plug-ins use SX_TMP_UPLOAD for what they are filling and remove
 * leftovers of that prefix that are older than a day; under SX_TMP_PREFIX and a number the core moves users' files out of
 * the way: a plug-in never removes those. */
#define SX_TMP_PREFIX ".syncox-tmp-"
#define SX_TMP_UPLOAD SX_TMP_PREFIX "up-"

/* What a provider tells about one object. */
typedef struct SxRemote {
    char *name;       /* last component; raw bytes; sx_name_valid() holds, call.c drops entries for which it does not */
    SxKind kind;      /* FILE, DIR or SYMLINK; others only from `local` */
    gint64 size;      /* bytes; -1 unknown; 0 for directories */
    gint64 mtime_ns;  /* SX_TIME_UNKNOWN when not told */
    gint64 btime_ns;  /* creation, or SX_TIME_UNKNOWN */
    int mode;         /* permission bits, or -1 */
    char *id;         /* native id that survives renames, or NULL */
    char *version;    /* token that changes with the content: etag, rev, "size-mtime"...; "" = unknown, never NULL.
                         Two tokens of one object are compared with strcmp; the plug-in normalises (weak etags too) */
    char *hash;       /* "sha1:HEX", "md5:HEX", "xxh128:HEX"... of the content, or NULL */
    char *target;     /* SYMLINK: where it points, raw bytes */
} SxRemote;

SxRemote *sx_remote_new(const char *name, SxKind kind);
SxRemote *sx_remote_copy(const SxRemote *r);
void sx_remote_free(SxRemote *r);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxRemote, sx_remote_free)

/* What a provider instance can do: flags and promises. Known at open as the type's best guess, and for certain after
 * probe(). The conformance suite checks that they are true. */
typedef struct SxCaps {
    bool probed;              /* the other side has been asked */
    bool atomic_replace;      /* write() over an existing file: readers see old or new, never a part */
    bool conditional_write;   /* write() with SX_IF_VERSION / SX_IF_ABSENT is checked by the other side atomically.
                                 false: the plug-in stats just before and fails with SX_ERR_CHANGED; a race remains */
    bool conditional_remove;  /* the same for remove() */
    bool version_after_write; /* write() returns the new version; false: *ret_remote has version "" and the next listing tells */
    bool content_version;     /* versions exist at all; false: "size-mtime" made by the plug-in */
    bool stable_ids;
    bool server_move;         /* move() exists; false: core copies and removes */
    bool server_copy;
    bool ranges;              /* read() can start in the middle cheaply */
    bool resumable_write;     /* write() continues an interrupted upload by its resume state */
    bool set_mtime;           /* write() and set_attr() keep SxUpload.mtime_ns */
    bool set_mode;
    bool symlinks;            /* symlink() exists and list tells targets */
    bool watch;               /* wait_changes() pushes */
    bool case_insensitive;
    bool read_only;
    bool lend_fd;
    gint64 mtime_precision_ns; /* 1 for local, 1000000000 for HTTP dates; 0 when there are no times */
    const char *hash_kind;    /* "sha1" ... which SxRemote.hash will have, or NULL */
    gint64 chunk_size;        /* resumable_write: unit in bytes; files up to this size go in one request */
    gsize name_max;           /* bytes in a component, 255 normally */
    const char *forbidden;    /* bytes that may not be in a name, "" for none beyond '/' and NUL */
    gint64 max_file_size;     /* bytes, 0 unknown */
} SxCaps;

/* Condition under which a write, remove or move may act. A failed one gives SX_ERR_CHANGED (SX_ERR_EXISTS for ABSENT). */
typedef enum SxIf { SX_IF_ANY, SX_IF_ABSENT, SX_IF_VERSION } SxIf;
typedef struct SxCond {
    SxIf kind;
    const char *version; /* SX_IF_VERSION: as told by the provider */
    gint64 size;         /* SX_IF_VERSION: for providers without versions; -1 unknown */
    gint64 mtime_ns;     /* likewise; SX_TIME_UNKNOWN */
} SxCond;

/* Where an upload's bytes come from. read() fills up to n bytes at off, returns the count (n unless the end of the file is
 * reached), or -errno; -ECANCELED: the content is being changed, the upload must be given up without publishing anything.
 * May be called more than once for the same offset (retry, digest authentication), on the thread that runs write(). */
typedef struct SxSource {
    gint64 size;
    gssize (*read)(void *data, gint64 off, void *buf, gsize n);
    int fd;              /* the cache file when reflink or copy_file_range is worth it and safe, or -1 */
    void *data;
} SxSource;

typedef struct SxUpload {
    SxSource source;
    SxCond cond;
    gint64 mtime_ns;     /* SX_TIME_UNKNOWN: leave it */
    int mode;            /* -1: leave it */
    const char *hash;    /* "sha1:HEX" of the whole content when caps.hash_kind is sha1 (or the kind told there); NULL unknown */
    const char *resume;  /* state kept from an earlier try of the same content, or NULL */
    /* Called (on the same thread) when the resume state changed, before more is sent, so that it can be stored; may be NULL. */
    void (*save_resume)(void *data, const char *resume);
    /* Bytes acknowledged or sent so far; called at least every second; may be NULL. */
    void (*progress)(void *data, gint64 done_bytes);
    void *data;
} SxUpload;

/* Receives downloaded bytes in ascending order. Returns 0 to go on, or -errno to end the download with that error. */
typedef int (*SxSinkFn)(void *data, gint64 off, const void *buf, gsize n);
/* Receives one entry of a listing; `entry` is the caller's (copy what is kept). Returns false to stop (list then fails CANCELLED). */
typedef bool (*SxListFn)(void *data, const SxRemote *entry);
/* A path has changed (or everything below it, when recursive). Called on the watcher's thread. */
typedef void (*SxChangedFn)(void *data, const char *path, bool recursive);

typedef struct SxQuota { gint64 total, used, free; /* bytes, -1 unknown */ } SxQuota;

/* What open() gets. All pointers stay valid until close(). */
typedef struct SxProviderEnv {
    const SxSection *section;   /* the [provider NAME] section: options of the type */
    const char *name;           /* for messages */
    const char *state_dir;      /* the program's state directory (a provider keeps nothing there without need); may be NULL */
    const SxSys *sys;
    const SxClock *clock;
} SxProviderEnv;

typedef struct SxProviderType {
    const char *name;             /* "webdav": the `type` in the ini file */
    const char *doc;              /* one line */
    const SxOption *options;      /* beside the common ones */
    SxCaps caps;                  /* best guess before probe */

    /* Checks the options and allocates; no network, so that the mount comes up offline. */
    void *(*open)(const SxProviderEnv *env, GError **error);
    void (*close)(void *self);
    /* Contacts the other side, logs in, finds out what it is and can. Fills *caps (preset with the type's). Safe to repeat. */
    bool (*probe)(void *self, SxCaps *caps, GCancellable *cancel, GError **error);
    /* All entries of a directory, in any order. Returns true only when the listing is known to be complete; a cut or
     * malformed listing is an error even if entries were given. A missing directory: SX_ERR_NOT_FOUND; a file: NOT_DIR. Idempotent. */
    bool (*list)(void *self, const char *path, SxListFn fn, void *data, GCancellable *cancel, GError **error);
    /* One object. SX_ERR_NOT_FOUND when it is certainly absent. Idempotent. */
    bool (*stat)(void *self, const char *path, SxRemote **ret_remote, GCancellable *cancel, GError **error);
    /* Bytes [off, off+len) (shorter at the end of the file) of exactly the version in cond (SX_IF_VERSION): otherwise
     * SX_ERR_CHANGED before any byte reaches the sink. len -1: to the end. Fewer bytes than promised: SX_ERR_LOST. Idempotent. */
    bool (*read)(void *self, const char *path, const SxCond *cond, gint64 off, gint64 len, SxSinkFn sink, void *data,
                 GCancellable *cancel, GError **error);
    /* Makes path a file with the source's content, all or nothing under its final name. *ret_remote: as far as known
     * without another request (version "" when not told). After LOST or TIMEOUT the caller stats and decides. */
    bool (*write)(void *self, const char *path, const SxUpload *upload, SxRemote **ret_remote, GCancellable *cancel, GError **error);
    /* Ends an interrupted upload whose state is no longer wanted; failures do not matter. May be NULL. */
    void (*discard)(void *self, const char *path, const char *resume);
    /* SX_ERR_EXISTS when something is there. The parent must exist: SX_ERR_NOT_FOUND. */
    bool (*mkdir)(void *self, const char *path, SxRemote **ret_remote, GCancellable *cancel, GError **error);
    bool (*symlink)(void *self, const char *path, const char *target, SxRemote **ret_remote, GCancellable *cancel, GError **error);
    /* A file, a link, or an empty directory (kind tells which is expected). A directory with entries: SX_ERR_NOT_EMPTY, also
     * where the other side's delete is recursive (the plug-in lists first). */
    bool (*remove)(void *self, const char *path, SxKind kind, const SxCond *cond, GCancellable *cancel, GError **error);
    /* Renames a file or directory. The target must be absent: SX_ERR_EXISTS. (Core never asks to move over something.) */
    bool (*move)(void *self, const char *from, const char *to, SxKind kind, GCancellable *cancel, GError **error);
    bool (*copy)(void *self, const char *from, const char *to, GCancellable *cancel, GError **error);
    /* mtime_ns SX_TIME_UNKNOWN / mode -1: leave. *ret_remote (may be NULL result) tells the version after it. */
    bool (*set_attr)(void *self, const char *path, gint64 mtime_ns, int mode, SxRemote **ret_remote, GCancellable *cancel, GError **error);
    /* Blocks until cancelled, calling fn for what changes on the other side. Runs on one thread of its own. */
    bool (*watch)(void *self, SxChangedFn fn, void *data, GCancellable *cancel, GError **error);
    /* Which directories are of interest to watch() (it may watch more); called when a directory becomes known. May be NULL. */
    void (*watch_dir)(void *self, const char *path);
    bool (*quota)(void *self, SxQuota *ret_quota, GCancellable *cancel, GError **error);
    /* A read-only descriptor of the object itself, for folders of this machine; the caller closes it. -1 and error. */
    int (*lend_fd)(void *self, const char *path, const SxCond *cond, GError **error);
} SxProviderType;

/* ---- the registry (registry.c) ---- */
typedef struct SxRegistry SxRegistry; /* which types exist; filled by daemon/ and tests, then read-only */
SxRegistry *sx_registry_new(void);
void sx_registry_free(SxRegistry *r);
void sx_registry_add(SxRegistry *r, const SxProviderType *type);
const SxProviderType *sx_registry_find(const SxRegistry *r, const char *name);
const SxOption *sx_registry_options(const char *type, void *registry); /* an SxTypeOptionsFn */
const char *const *sx_registry_names(const SxRegistry *r);             /* NULL-terminated, owned by the registry */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxRegistry, sx_registry_free)

/* ---- an instance (call.c): the same calls, checked, limited and counted ---- */
typedef struct SxProvider SxProvider; /* reference counted, thread-safe */

typedef enum SxOnline {
    SX_ONLINE_UNKNOWN, /* not asked yet */
    SX_ONLINE,
    SX_OFFLINE,        /* the last call failed with OFFLINE/TIMEOUT; calls still go through, the scheduler probes */
    SX_ONLINE_REFUSED, /* AUTH, TLS: paused until asked again */
} SxOnline;

SxProvider *sx_provider_open(const SxRegistry *registry, const SxSection *section, const char *state_dir,
                             const SxSys *sys, const SxClock *clock, GError **error);
/* For tests: a type and its options as text ("url = http://...\nuser = a\n"). */
SxProvider *sx_provider_open_text(const SxProviderType *type, const char *name, const char *options, const SxSys *sys,
                                  const SxClock *clock, GError **error);
SxProvider *sx_provider_ref(SxProvider *p);
void sx_provider_unref(SxProvider *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxProvider, sx_provider_unref)

const char *sx_provider_name(const SxProvider *p);      /* the section's NAME: identity in the store */
const char *sx_provider_label(const SxProvider *p);     /* the directory's name in the mount */
const char *sx_provider_type_name(const SxProvider *p);
const SxSection *sx_provider_section(const SxProvider *p);
void sx_provider_caps(SxProvider *p, SxCaps *ret_caps); /* a copy; probes are not made here */
bool sx_provider_can(SxProvider *p, gsize member_offset); /* is that function of the type not NULL, and do the caps have it? use SX_CAN */
#define SX_CAN(p, member) sx_provider_can((p), G_STRUCT_OFFSET(SxProviderType, member))
SxOnline sx_provider_online(SxProvider *p);
char *sx_provider_last_error(SxProvider *p);            /* text of the failure behind OFFLINE/REFUSED, or NULL; g_free */
/* Order of SxProviderStats.by_call and of the fault plan's call names. */
typedef enum SxCall {
    SX_CALL_PROBE, SX_CALL_LIST, SX_CALL_STAT, SX_CALL_READ, SX_CALL_WRITE, SX_CALL_MKDIR, SX_CALL_SYMLINK, SX_CALL_REMOVE,
    SX_CALL_MOVE, SX_CALL_COPY, SX_CALL_SET_ATTR, SX_CALL_WATCH, SX_CALL_QUOTA, SX_CALL_LEND_FD, SX_CALL_DISCARD, SX_N_CALLS
} SxCall;
const char *sx_call_name(SxCall call); /* "list" */
typedef struct SxProviderStats { guint64 calls, errors, bytes_up, bytes_down; guint64 by_call[16]; } SxProviderStats;
void sx_provider_stats(SxProvider *p, SxProviderStats *ret);

/* Every call probes first while the last probe has not succeeded; several threads share one probe. This one asks again in
 * any case. After AUTH or TLS other calls fail at once with the same error for 30 s; this one ends that. */
bool sx_provider_probe(SxProvider *p, GCancellable *cancel, GError **error);
bool sx_provider_list(SxProvider *p, const char *path, SxListFn fn, void *data, GCancellable *cancel, GError **error);
bool sx_provider_stat(SxProvider *p, const char *path, SxRemote **ret, GCancellable *cancel, GError **error);
bool sx_provider_read(SxProvider *p, const char *path, const SxCond *cond, gint64 off, gint64 len, SxSinkFn sink, void *data,
                      GCancellable *cancel, GError **error);
bool sx_provider_write(SxProvider *p, const char *path, const SxUpload *upload, SxRemote **ret, GCancellable *cancel, GError **error);
void sx_provider_discard(SxProvider *p, const char *path, const char *resume);
bool sx_provider_mkdir(SxProvider *p, const char *path, SxRemote **ret, GCancellable *cancel, GError **error);
bool sx_provider_symlink(SxProvider *p, const char *path, const char *target, SxRemote **ret, GCancellable *cancel, GError **error);
bool sx_provider_remove(SxProvider *p, const char *path, SxKind kind, const SxCond *cond, GCancellable *cancel, GError **error);
bool sx_provider_move(SxProvider *p, const char *from, const char *to, SxKind kind, GCancellable *cancel, GError **error);
bool sx_provider_copy(SxProvider *p, const char *from, const char *to, GCancellable *cancel, GError **error);
bool sx_provider_set_attr(SxProvider *p, const char *path, gint64 mtime_ns, int mode, SxRemote **ret, GCancellable *cancel, GError **error);
bool sx_provider_watch(SxProvider *p, SxChangedFn fn, void *data, GCancellable *cancel, GError **error);
void sx_provider_watch_dir(SxProvider *p, const char *path);
bool sx_provider_quota(SxProvider *p, SxQuota *ret, GCancellable *cancel, GError **error);
int sx_provider_lend_fd(SxProvider *p, const char *path, const SxCond *cond, GError **error);
/* Can this name be stored there? SX_ERR_NAME or NAME_TOO_LONG with a sentence if not. No I/O. */
bool sx_provider_check_name(SxProvider *p, const char *name, GError **error);

/* ---- for plug-ins ---- */
/* Makes a cancellation wake the waiters of a condition. init and clear are called without the lock:
 *   sx_waker_init; lock; while (!done && !g_cancellable_is_cancelled(cancel)) g_cond_wait; unlock; sx_waker_clear */
typedef struct SxWaker {
    GMutex *lock;
    GCond *cond;
    GCancellable *cancel;
    gulong id;
} SxWaker;
void sx_waker_init(SxWaker *w, GMutex *lock, GCond *cond, GCancellable *cancel /* may be NULL */);
void sx_waker_clear(SxWaker *w);
bool sx_fail_cancelled(GError **error);

/* ---- filters ---- */
/* limit.c: bandwidth and concurrent calls. sx_provider_open puts this filter around every plug-in, with the section's limits.
 *
 * A bandwidth is a pair of token buckets by the time of day; it may be shared by many providers (the process's limit).
 * Providers whose contents are on this machine (caps.lend_fd) obey their own limit only. */
typedef struct SxBandwidth SxBandwidth; /* reference counted, thread-safe */
SxBandwidth *sx_bandwidth_new(const char *up, const char *down /* sx_rate_parse; NULL: no limit */, const SxClock *clock, GError **error);
SxBandwidth *sx_bandwidth_ref(SxBandwidth *b);
void sx_bandwidth_unref(SxBandwidth *b);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxBandwidth, sx_bandwidth_unref)
/* Takes n bytes and returns 0, or takes nothing and returns how many ms to wait before asking again. */
gint64 sx_bandwidth_take(SxBandwidth *b, bool up, gint64 n);
bool sx_bandwidth_limits(const SxBandwidth *b, bool up); /* is a limit set at any time of day? */
/* own and shared may be NULL (refs are taken); max_calls: at once, 0 any number. Of more than one, one is kept from writes. */
SxProvider *sx_limit_wrap(SxProvider *inner, SxBandwidth *own, SxBandwidth *shared, unsigned max_calls);
/* The process's limit for an instance that was opened before; reaches through filters. Before its first call. */
void sx_provider_share_bandwidth(SxProvider *p, SxBandwidth *shared);

/* The bucket itself; pure. level: bytes that may pass now, negative after a piece that was larger. */
typedef struct SxBucket { gint64 level, last_ms; } SxBucket;
gint64 sx_bucket_take(SxBucket *b, gint64 bytes_per_s /* 0: no limit */, gint64 now_ms, gint64 n);

/* fault.c: wraps another type for tests. Its instance behaves as `inner`, disturbed by a script that is seeded and replayable:
 * delays, errors before the call, errors after the call has acted (lost replies), cuts in the middle of reads and writes,
 * stale listings (an earlier answer again) and partial listings (entries left out, with or without an error). */
typedef struct SxFaultPlan {
    guint64 seed;
    unsigned per_mille_error;       /* call fails with OFFLINE/SERVER/TIMEOUT, nothing done */
    unsigned per_mille_lost;        /* call is done, then fails with LOST */
    unsigned per_mille_cut;         /* read/write/list break in the middle */
    unsigned per_mille_stale_list;  /* the previous listing of that directory is given again, as complete */
    unsigned per_mille_partial_list;/* entries are left out, and the listing is given as complete all the same */
    unsigned max_delay_ms;          /* 0: none; real time */
    bool offline;                   /* every call fails with OFFLINE; switched by sx_fault_set_offline while running */
    /* When not NULL: asked before and after each call; returning true makes this and every later call fail with SX_ERR_FAILED
     * "crashed" (after: the inner call has acted). For crash tests at every step. */
    bool (*crash)(void *data, const char *call, bool after);
    void *data;
} SxFaultPlan;
/* `p` is wrapped in place: takes a ref on inner, returns a new instance. `plan` is read at every call and must outlive it. */
SxProvider *sx_fault_wrap(SxProvider *inner, SxFaultPlan *plan);
void sx_fault_set_offline(SxFaultPlan *plan, bool offline);

extern const SxProviderType sx_provider_local;  /* providers/local */
extern const SxProviderType sx_provider_webdav; /* providers/webdav */
extern const SxProviderType sx_provider_mem;    /* providers/mem: in memory, for tests */
