/* What the files of transfer/ share.
 *
 * Threads: the scheduler (schedule.c), the workers of three pools, one watcher a provider, and whoever calls the face.
 * Lock order: tree's own lock, cache's own locks, then SxTransfer.lock. `lock` guards everything below that is not
 * constant after the start; it is held for moments: never across a call of tree, cache, provider, executor, notify or events.
 * (The tree calls back into names_ignored() inside its transaction; that is why nothing of the tree is called under `lock`.) */
#pragma once

#include "transfer/plan.h"
#include "transfer/transfer.h"

#define SX_LANE_LIST_LIMIT 8           /* listings and probes of one provider at once */
#define SX_LANE_QUEUE_MAX 4096         /* background tasks that wait in one lane; more are dropped and come again by polling */
#define SX_BATCH_MIN 256               /* pending rows read at once */
#define SX_BATCH_MAX 65536             /* the same, when all of them wait */
#define SX_VERIFY_AGAIN_MS 1500        /* an upload whose version a listing should have told by then */
#define SX_PUT_OFF_MS 5000             /* a batch of that size in which nothing can run */
#define SX_SMALL_FILE (8 * 1024 * 1024)/* large uploads leave a quarter of the lane to files up to this size */
#define SX_PLAN_INTERVAL_MS 5
#define SX_TICK_MS 5000                /* housekeeping of the cache */
#define SX_PIN_MS 1000                 /* between looks for pinned files that are not here */
#define SX_IDLE_MS 500                 /* between looks at rows that wait for others */
#define SX_SLEEP_MAX_MS 60000
#define SX_UNSETTLED_MS 1000           /* between looks at rows below a directory that has to be found first: leaves it room to run */
#define SX_CLOCK_JUMP_MS 2000          /* the wall clock went back by more than that */
#define SX_PROBE_MAX_MS 60000
#define SX_LIST_TRIES 5                /* a listing during which one of our moves ran is made again */
#define SX_CONFIRM_BY_STAT 16          /* missing names up to here are looked at one by one */
#define SX_HELD_MIN 32                 /* so many missing names, and half of what is known: held back */
#define SX_HELD_ALL_MIN 10             /* everything is missing, and it was at least so much */
#define SX_FIRST_WINDOW (1024 * 1024)
#define SX_MAX_WINDOW (64 * 1024 * 1024)
#define SX_FAILING_MAX 256             /* directories of a provider whose last listing failed are remembered */
#define SX_FAILING_TRIES 3             /* what may pass is told after so many failures in a row */
#define SX_RATE_BINS 5                 /* seconds of the moving rates */

typedef enum SxLaneKind { SX_LANE_UP, SX_LANE_DOWN, SX_LANE_LIST, SX_N_LANES } SxLaneKind;

typedef struct SxProv SxProv;
typedef struct SxTask SxTask;

/* A piece of work in a lane. fn runs on a worker and frees the object that embeds the task, if nobody else does. */
struct SxTask {
    SxTransfer *t;
    SxProv *v;
    SxLaneKind lane;
    void (*fn)(SxTask *task);
};

typedef struct SxLane {
    int limit, running;
    GQueue urgent, idle; /* of SxTask; somebody waits, nobody waits */
} SxLane;

/* An operation that is handed out. Constant after dispatch, except what is marked. */
typedef struct SxRun {
    SxTask task;
    gint64 row, ino;
    SxOpKind kind;
    gint64 size;
    gint64 key;                /* virtual deadline: smallest goes first */
    gint64 dir_moved;          /* the directory whose place this changes, or 0 */
    GArray *above;             /* of gint64: directories on the paths that it uses, by remote sides */
    gint64 from_dir, to_dir;   /* names that it touches; 0: none */
    char *from_name, *to_name;
    bool begun;                /* lock: a worker has started it */
    gint64 done, total;        /* lock */
    gint64 started_mono_ms;    /* lock */
} SxRun;

typedef struct SxWant {        /* a directory to list in the background */
    gint64 dir;
    gint64 first_ms, due_ms;   /* mono */
} SxWant;

struct SxProv {
    SxTransfer *t;
    int id;
    gint64 root;
    SxProvider *p;
    char *name;
    gint64 poll_ms, timeout_ms;
    SxLane lanes[SX_N_LANES];  /* lock */
    GQueue ready;              /* lock: of SxRun, planned and not handed out, by key */
    bool replan;               /* lock */
    guint batch;               /* scheduler only */
    gint64 plan_at_ms;         /* scheduler only: not before */
    gint64 pause_until_ms;     /* lock: told to slow down */
    bool offline, refused;     /* lock */
    bool caps_told;            /* lock: the tree knows what the probe found */
    bool probing;              /* lock */
    int probe_tries;           /* lock */
    gint64 probe_at_ms;        /* lock */
    GHashTable *wants;         /* lock: dir -> SxWant */
    GHashTable *verify_wait;   /* lock: dir -> SxVerify */
    GHashTable *held;          /* lock: dir -> text; a mass delete that waits for the user */
    GHashTable *failing;       /* lock: dir -> SxFailing; listings that were answered senselessly */
    gint64 poll_at_ms;         /* scheduler only */
    gint64 fg_parent;          /* lock: parent of the directory that was last asked for and unknown */
    guint fg_row;              /* lock: how many siblings in a row */
    SxQuota quota;             /* lock */
    gint64 quota_at_ms;        /* lock: G_MININT64 never */
    bool quota_known, quota_asked; /* lock */
    GThread *watcher;
};

struct SxTransfer {
    SxTree *tree;
    SxCache *cache;
    SxEvents *events;
    const SxClock *clock;
    SxNotify notify;
    SxExecutor *executor;      /* NULL: the pools */
    GThreadPool *pools[SX_N_LANES];
    int threads[SX_N_LANES];
    gint64 write_back_delay_ms, memory_budget;
    char *who;
    GPtrArray *provs;          /* of SxProv; constant after the start */
    GCancellable *cancel;      /* fires at stop */
    GThread *scheduler;
    gint64 clock_offset_ms;    /* scheduler only: wall clock minus monotonic clock when last looked; 0: not yet */

    GMutex lock;
    GCond cond;                /* something ended: waiters look again */
    GCond wake;                /* the scheduler */
    gint kicked;               /* atomic */
    gint n_pinned;             /* atomic: background streams under way */
    gint look_at_pins;         /* atomic: more of them may be wanted */
    gint hurried;              /* atomic: the cache is full of what is not uploaded yet */
    gint64 tick_at_ms, pin_at_ms; /* scheduler only */
    bool started, stopping;    /* lock */
    guint active;              /* lock: tasks queued or running */
    GHashTable *running;       /* lock: row -> SxRun */
    GHashTable *holds;         /* lock: row, or minus the inode of a pinned file, -> gint64 mono ms: not before */
    guint64 seq;               /* lock: counts begins and ends of operations */
    GHashTable *touched;       /* lock: "DIR/NAME" -> SxTouched, names that our operations changed */
    GHashTable *moved;         /* lock: dir -> SxTouched, directories that our operations moved or removed */
    GHashTable *flights;       /* lock: dir -> SxFlight */
    guint listings;            /* lock: looks at the remote that run; when none does, touched and moved are forgotten */
    GHashTable *fetches;       /* lock: ino -> SxFetch */
    gint64 ahead;              /* lock: bytes asked for and not there yet, all streams */
    GHashTable *kept;          /* lock: ino of an open file without a name -> SxKept */
    GHashTable *used;          /* lock: dir -> real ms of the last note of use */
    SxBandwidth *bandwidth;    /* of the process */
    struct { gint64 sec; guint64 up, down; } bins[SX_RATE_BINS + 1]; /* lock */
    guint64 up_total, down_total; /* lock */
};

typedef struct SxVerify { /* looks at a directory for versions that uploads did not tell */
    gint64 ms, due_ms;    /* between two looks; the next one (mono) */
    bool told;            /* the last one told some */
} SxVerify;
#define SX_VERIFY_MIN_MS 250
#define SX_VERIFY_BUSY_MS 2000
#define SX_VERIFY_MAX_MS 60000
#define SX_VERIFY_QUIET_MS 10000

typedef struct SxFailing {
    char *text;
    guint tries;
} SxFailing;
void sx_failing_free(gpointer failing);

typedef struct SxTouched {
    guint n_running;
    guint64 seq; /* of the last begin or end */
} SxTouched;

/* ---- transfer.c ---- */
SxProv *sx_transfer_prov(SxTransfer *t, int id);
SxProv *sx_transfer_prov_of(SxTransfer *t, gint64 ino); /* NULL: the root, or gone */
void sx_transfer_moved_bytes(SxTransfer *t, bool up, gint64 n); /* for the rates */
void sx_transfer_event(SxTransfer *t, SxProv *v, gint64 ino, const char *kind, const char *format, ...) G_GNUC_PRINTF(5, 6);
/* Tells kernel and cache what changed. */
void sx_transfer_tell(SxTransfer *t, SxChanges *changes);

/* lock is held. false when the deadline (mono ms) has passed. */
bool sx_transfer_wait(SxTransfer *t, gint64 deadline_mono_ms);

/* ---- lane.c ---- */
void sx_lane_submit(SxTask *task, bool urgent);
void sx_lane_end(SxProv *v, SxLaneKind kind); /* last act of every task; the task itself may be gone */

/* ---- health.c ---- */
/* What an error of a call says about the whole provider. Returns its class. */
SxRetry sx_health_error(SxProv *v, const GError *why);
void sx_health_ok(SxProv *v);
void sx_health_list_failed(SxProv *v, gint64 dir, const GError *why);
void sx_health_listed(SxProv *v, gint64 dir);
void sx_health_probe_now(SxProv *v);
gint64 sx_health_probe_if_due(SxProv *v, gint64 now); /* returns when to look again */
bool sx_health_paused(SxProv *v, GError **why);       /* offline or refused */

/* ---- look.c ---- */
/* A look at the remote: what our own operations did meanwhile is not believed to the look. */
guint64 sx_look_begin(SxTransfer *t);
void sx_look_end(SxTransfer *t);
bool sx_look_name_touched(SxTransfer *t, guint64 since, gint64 dir, const char *name);
bool sx_look_path_moved(SxTransfer *t, guint64 since, gint64 dir); /* dir or a directory above it */
void sx_look_touch(SxTransfer *t, SxRun *run, int delta); /* lock is held; +1 when the operation begins, -1 when it ends */

/* ---- schedule.c ---- */
gint64 sx_schedule_run(SxTransfer *t, bool *ret_submitted); /* one round; returns the mono ms of the next one at the latest */
gpointer sx_schedule_thread(gpointer t);
void sx_schedule_wake(SxTransfer *t);
void sx_schedule_hold(SxTransfer *t, gint64 row, gint64 ms);
void sx_schedule_run_free(SxRun *run);
void sx_schedule_want(SxProv *v, gint64 dir, gint64 in_ms);
void sx_schedule_verified(SxProv *v, gint64 dir); /* uploads went into it, or were confirmed: the next look need not be late */

/* ---- remote.c (namespace and attributes), upload.c (content) ---- */
/* Run one operation on a worker. true: done, or to be planned again; false: *error says why not. */
bool sx_remote_op(SxRun *run, SxRow *row, SxOpKind kind, GError **error);
bool sx_upload_op(SxRun *run, SxRow *row, SxOpKind kind, GError **error);
/* Is that content the one of the row's intent? Reads it back when the size is right. */
bool sx_upload_is_intent(SxRun *run, const SxRow *row, const char *path, const SxRemote *there, bool *ret_yes, GError **error);
/* Sends the complete local content to another place, for providers that cannot move. */
bool sx_upload_copy(SxRun *run, SxRow *row, const char *path, SxRemote **ret, GError **error);
char *sx_remote_child_path(SxTransfer *t, gint64 dir, const char *name, GError **error);
/* Is that the object of the row, which was somewhere else? */
bool sx_remote_is_moved(const SxRow *row, const SxRemote *there);
/* It is not at its place: is it where a step aside had put it? Then the tree knows now. */
bool sx_remote_find_aside(SxProv *v, const SxRow *row, bool *ret_found, GError **error);
/* What is there now; *ret NULL when certainly nothing. */
bool sx_remote_stat(SxRun *run, const char *path, SxRemote **ret, GError **error);
/* Tells the tree what is there, and kernel and cache what that changed. */
bool sx_remote_apply(SxRun *run, gint64 dir, const char *name, const SxRemote *remote, GError **error);

/* ---- copy.c ---- */
/* Moves a directory where the provider cannot. What is in it gets new versions: listings tell. */
bool sx_copy_move_dir(SxRun *run, const char *from, const char *to, GError **error);

/* ---- changes.c ---- */
/* Lists on this thread and applies. 0 or -errno. */
int sx_changes_list_dir(SxProv *v, gint64 dir, bool accept_deletes, GCancellable *cancel, char **ret_why);
void sx_changes_list_later(SxProv *v, gint64 dir); /* a background task, unless one is under way */
void sx_changes_poll(SxProv *v);
void sx_changes_fetch_pinned(SxTransfer *t);
void sx_changes_watch(SxProv *v);

/* ---- download.c ---- */
void sx_download_background(SxProv *v, gint64 ino);
/* Does an open file without a name still need what the row has on the provider? Then the rest of it is being fetched. */
bool sx_download_is_kept(SxProv *v, const SxRow *row);
void sx_download_kept_free(gpointer kept);
void sx_download_stop(SxTransfer *t);
bool sx_download_progress(SxTransfer *t, gint64 ino, gint64 *ret_done, gint64 *ret_total);
void sx_download_jobs(SxTransfer *t, GPtrArray *jobs);
