/* Transfer: makes the two sides of the tree equal, in the background, and fetches what programs wait for.
 *
 * plan.c     pure: rows in, operations out (see plan.h)
 * schedule   one thread (or the simulation's hand): reads pending rows, plans, hands operations to workers, keeps the set
 *            of running operations so that nothing runs below a directory that moves, retries by due times in the rows
 * upload, download, changes (listings, polling, watchers, provider probes): the operations themselves
 *
 * An operation is stateless beyond its row: after a crash it is planned again. All decisions about lost replies are made
 * by looking (stat) and comparing, never by assuming. */
#pragma once

#include "base/events.h"
#include "cache/cache.h"

typedef struct SxTransfer SxTransfer;

/* How the kernel is told (fuse/notify.c); all may be NULL in tests. Called from worker threads, must not block. */
typedef struct SxNotify {
    void (*inval_inode)(void *data, gint64 ino, bool content);           /* attributes, and the page cache when content */
    void (*inval_entry)(void *data, gint64 parent, const char *name);    /* new or changed name */
    void (*gone_entry)(void *data, gint64 parent, gint64 ino, const char *name); /* deleted: also tells inotify watchers */
    void *data;
} SxNotify;

/* Runs work; the daemon's is a thread pool, the simulation's a list that its seeded scheduler picks from. */
typedef struct SxExecutor {
    /* Runs fn(arg) some time. kind: 0 upload 1 download 2 listing; limits per provider are kept by the scheduler. */
    void (*submit)(struct SxExecutor *self, int kind, void (*fn)(void *arg), void *arg);
    void *data;
} SxExecutor;

typedef struct SxTransferOptions {
    SxTree *tree;
    SxCache *cache;
    SxEvents *events;
    const SxClock *clock;
    const SxNotify *notify;       /* copied */
    SxExecutor *executor;         /* NULL: own thread pools and scheduler thread; set: the caller drives sx_transfer_step */
    int upload_threads, download_threads; /* per process */
    gint64 write_back_delay_ms;
    gint64 memory_budget;         /* bytes for read-ahead and buffers, all together */
    const char *who;              /* for conflict names: "user@host" */
    const char *bandwidth_up, *bandwidth_down; /* rate texts */
} SxTransferOptions;

SxTransfer *sx_transfer_new(const SxTransferOptions *options, GError **error);
/* Takes a ref. Its root and ids are made in the tree. Before sx_transfer_start. */
bool sx_transfer_add_provider(SxTransfer *t, SxProvider *p, int *ret_id, gint64 *ret_root, GError **error);
SxProvider *sx_transfer_provider(SxTransfer *t, int id); /* borrowed; NULL */
void sx_transfer_each_provider(SxTransfer *t, void (*fn)(void *data, int id, SxProvider *p, gint64 root), void *data);
bool sx_transfer_start(SxTransfer *t, GError **error); /* recovery of unfinished writes first, then the threads */
void sx_transfer_stop(SxTransfer *t);  /* cancels what runs, joins; nothing is lost, the rows remember */
void sx_transfer_free(SxTransfer *t);
/* With an executor: plan and submit what is due now; false when nothing was submitted and nothing runs. */
bool sx_transfer_step(SxTransfer *t);

void sx_transfer_kick(SxTransfer *t);  /* the vfs has made something pending; cheap, coalesced */
void sx_transfer_tell_name(SxTransfer *t, gint64 parent, const char *name); /* made otherwise than by a request for that name */

/* For vfs; they block only for what is not known, at most the provider's timeout, and end with -EINTR on cancel.
 * list: the directory has been listed at least once (fresh: and not longer ago than now). Otherwise a stale one is listed in the background. */
int sx_transfer_list(SxTransfer *t, gint64 dir, bool fresh, GCancellable *cancel, char **ret_why /* may be NULL: text of the failure */);
/* [off, off+len) of the content is present in the cache when it returns 0; starts or widens the read-ahead of this reader. */
typedef struct SxReader SxReader; /* one per open file handle: where it reads, how far ahead */
SxReader *sx_reader_new(void);
void sx_reader_free(SxReader *r);
int sx_transfer_fetch(SxTransfer *t, SxContent *content, SxReader *reader, gint64 off, gint64 len, GCancellable *cancel);
int sx_transfer_fetch_all(SxTransfer *t, gint64 ino, GCancellable *cancel); /* pin, copy */
/* The last name of a file goes while it is open and not all of it is here. Called before the name goes: the object on the
 * provider is neither deleted nor overwritten before the rest of its content has been fetched, or sx_transfer_unkeep says that
 * nobody has the file open any more. Of this run only: after a crash nobody has it open. */
void sx_transfer_keep(SxTransfer *t, gint64 ino);
void sx_transfer_unkeep(SxTransfer *t, gint64 ino); /* does nothing when it is not kept */
/* Waits until nothing is pending at or below dir: 0, -ETIMEDOUT, -EINTR, -EIO when something there is parked,
 * -EACCES when it waits for a provider that refuses us. */
int sx_transfer_flush(SxTransfer *t, gint64 dir, gint64 timeout_ms, GCancellable *cancel);
int sx_transfer_refresh(SxTransfer *t, gint64 dir, bool accept_deletes, GCancellable *cancel, char **ret_why);
int sx_transfer_quota(SxTransfer *t, int provider, SxQuota *ret); /* last known, refreshed in the background; never blocks */
bool sx_transfer_probe(SxTransfer *t, int provider, GCancellable *cancel, GError **error); /* `syncox provider test` */

/* What runs now, for status, transfers and the user.syncox.status attribute. */
typedef struct SxJob {
    int provider;
    gint64 ino;
    const char *what;     /* "upload" "download" "list" "mkdir" "delete" "move" "attr" */
    char *path;           /* inside the mount */
    gint64 done, total;   /* bytes; total -1 unknown */
    gint64 started_mono_ms;
} SxJob;
GPtrArray *sx_transfer_jobs(SxTransfer *t);            /* of SxJob; sx_job_free as free function */
void sx_job_free(SxJob *job);
bool sx_transfer_progress(SxTransfer *t, gint64 ino, bool *ret_upload, int *ret_percent); /* is it being transferred? */
typedef struct SxRates { double up, down; /* bytes/s over the last 5 s */ guint64 up_total, down_total; } SxRates;
void sx_transfer_rates(SxTransfer *t, SxRates *ret);
char *sx_transfer_failing(SxTransfer *t, int provider); /* why a listing fails although the provider answers; g_free; NULL */
bool sx_transfer_held(SxTransfer *t, int provider, char **ret_text); /* a mass delete of the remote is held back */
