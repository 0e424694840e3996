/* The tree: every file as rows with two sides, in SQLite (tree.db; schema in schema.sql).
 *
 * An *inode* is what programs see: numbers, modes, times, size, xattrs, content generation. Its number is never reused,
 * and is the FUSE node id and st_ino. A *row* (table link) is one name of an inode with two sides:
 *   local side   l_parent, l_name   where the mount shows it (l_parent 0: not shown any more)
 *   remote side  r_parent, r_name, r_id, r_version, r_size, r_mtime, r_hash, r_gen
 *                what the provider last told us (r_parent 0: not there). Parents are inode numbers on both sides, so moving
 *                a directory changes one row and its whole subtree follows, on either side.
 * A hard link is a second row of the same inode (on the provider an independent copy). Directories have exactly one row.
 * What remains to be done is the set of rows whose sides differ (`pending` != 0, a partial index); there is no queue.
 *
 * Content: inode.gen is the local content's generation, a number that no other content in the store ever had; row.r_gen is
 * the generation that the remote side has (0: other content). Equal: clean, whatever happened to the names in between.
 * inode.cver names the cache file (INO-CVER): it changes when content is replaced from the remote, never by local writes,
 * so blocks of two versions can never mix. inode.cached: 0 nothing, 1 some blocks (the map file says which), 2 everything.
 * base_version: the remote version on which the local content is based; an upload's precondition. Remote side moves on
 * while the content is dirty => r_version != base_version => conflict.
 * An upload to a provider that does not tell the new version leaves r_version "" and verify=1 until a listing confirms it:
 * same size and a modification time not after the end of the upload (r_mtime) adopts the version; a wrong size at that
 * time means a damaged upload, or somebody else's of the same second (a conflict: both are kept); a later time means a change by somebody else.
 *
 * Under way: before an operation gives an object a new place (first upload, mkdir, move) the place is written into the row as
 * its target (t_parent, t_name), and taken out with the result. So when the process dies, or a reply is lost, while the user
 * renames or deletes the file here, the object that may have come into being there is known: listings leave the names of
 * targets alone, the row stays even without any side, and SX_OP_SETTLE looks which it was. Nothing comes back from the dead.
 *
 * A row stays with its remote object, so that the result of an operation under way always meets the object it acted on.
 * Replace by rename (of files): the row that had the name keeps name and remote side and gets the other's inode (r_gen 0:
 * content differs); the other row is left with its own remote side (to be deleted there) or vanishes. The same when a
 * file or directory is created, linked or moved, itself not yet on the provider, to a name whose old row of the same kind
 * waits for deletion, and when such a row begins to wait while the name is already taken anew: the deletion is dropped
 * and the provider sees a new version.
 * Only here, never pending: FIFOs, sockets, devices; links where the provider cannot; temporary names without remote side
 * (not of directories).
 *
 * Threads: any. One writer connection under a mutex, a pool of reader connections (WAL). No call does network I/O. Each
 * function that changes something is one transaction; when it has returned, the change survives kill -9 (not power
 * loss: sx_tree_sync). Why a crash at any line is harmless: nothing outside SQLite is changed in here.
 * Functions on the hot path return 0 or -errno. */
#pragma once

#include "provider/provider.h"

#define SX_ROOT_INO 1 /* the mount's root: virtual, its children are the providers' roots */

typedef struct SxTree SxTree;

typedef struct SxAttr {
    gint64 ino;
    gint64 row;        /* the row this was looked up by; for sx_tree_getattr the inode's first row, 0 for orphans and roots */
    int provider;      /* store id of the provider; 0 for the root */
    SxKind kind;
    guint32 mode;      /* permission bits only, 07777 */
    guint32 uid, gid;
    guint64 rdev;
    gint64 size;
    gint64 atime_ns, mtime_ns, ctime_ns, btime_ns;
    guint32 nlink;     /* files: names; directories: 2 + subdirectories known */
    gint64 gen;
    gint64 cver;
    int cached;        /* 0 1 2 */
    bool dirty;        /* FILE: some row of it has content the remote does not have, or it has no row (orphan) */
    bool writing;      /* between sx_tree_write_begin and _end */
    bool listed;       /* DIR: listed completely at least once (or made here) */
    gint64 listed_real_ms;
} SxAttr;

typedef enum SxPending {
    SX_PENDING_CREATE = 1,  /* shown, not on the provider; CONTENT and ATTR go with it and are not set */
    SX_PENDING_DELETE = 2,  /* on the provider, not shown; excludes the others but VERIFY */
    SX_PENDING_MOVE = 4,    /* other parent or name */
    SX_PENDING_CONTENT = 8, /* r_gen != gen */
    SX_PENDING_ATTR = 16,   /* mtime or mode differ and the provider can hold them; not set with CONTENT, which carries them */
    SX_PENDING_VERIFY = 32, /* uploaded, version not yet known */
    SX_PENDING_TARGET = 64, /* an operation may have put it at (t_parent, t_name); not known yet */
} SxPending;

typedef struct SxRow {
    gint64 id, ino;              /* ino 0: a file or link that waits for deletion */
    int provider;
    SxKind kind;
    unsigned pending;            /* SxPending bits */
    gint64 l_parent, r_parent;   /* 0: absent on that side */
    char *l_name, *r_name;
    char *r_id, *r_version, *r_hash; /* NULL when unknown; r_version "" see above */
    gint64 r_size, r_mtime_ns;
    int r_mode;
    char *base_version;
    gint64 gen, r_gen, cver;
    int cached;
    bool writing;
    gint64 size, mtime_ns;       /* local */
    guint32 mode;
    char *target;                /* SYMLINK */
    bool verify;
    gint64 sent_real_ms;         /* verify: when the upload had ended */
    gint64 due_real_ms;          /* not before */
    int tries;
    SxErrorCode err;             /* last failure; SX_N_ERRORS: none */
    char *err_text;
    bool parked;                 /* permanent: waits for the user or a change */
    gint64 t_parent;             /* where an operation under way puts the object, see above; 0: none */
    char *t_name;
    char *intent;                /* "SIZE:XXH128HEX" of an upload under way, to recognise our own bytes after a lost reply */
    char *resume;                /* the provider's resume state, valid for generation resume_gen */
    gint64 resume_gen;
    /* Facts for the planner, true at the time of reading. */
    bool parent_ready;           /* the local parent is the provider's root or exists remotely */
    bool parent_chain_clean;     /* no ancestor of the local parent (itself included) has CREATE, MOVE or DELETE pending */
    gint64 occupant;             /* another row that holds (l_parent, l_name) on the remote side, or 0 */
    bool remote_children;        /* DIR: some row has it as r_parent */
} SxRow;
void sx_row_free(SxRow *row);
SxRow *sx_row_copy(const SxRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxRow, sx_row_free)

/* What a change that came from the remote (or a conflict) did to what programs see; for the kernel's caches and inotify. */
typedef enum SxChangeKind { SX_CHANGE_ENTRY_NEW, SX_CHANGE_ENTRY_GONE, SX_CHANGE_CONTENT, SX_CHANGE_ATTR } SxChangeKind;
typedef struct SxChange {
    SxChangeKind kind;
    gint64 parent; /* ENTRY_* */
    char *name;    /* ENTRY_* */
    gint64 ino;
    gint64 size;   /* CONTENT: new size */
    gint64 cver;   /* CONTENT: new cache version */
} SxChange;
typedef struct SxChanges SxChanges; /* a growing array */
SxChanges *sx_changes_new(void);
void sx_changes_free(SxChanges *c);
guint sx_changes_len(const SxChanges *c);
const SxChange *sx_changes_get(const SxChanges *c, guint i);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxChanges, sx_changes_free)

/* ---- opening ---- */
typedef struct SxTreeOptions {
    const char *path;              /* DIR/tree.db; its directory exists */
    const SxSys *sys;
    const SxClock *clock;
    guint32 uid, gid;              /* owner of what comes from a remote */
    guint32 file_mode, dir_mode;   /* modes of what comes from a remote without mode, e.g. 0644, 0755 */
    const char *const *keep_local; /* NULL-terminated globs of names that stay local; NULL: sx_name_is_temporary() */
    const char *sqlite_vfs;        /* tests: an SQLite VFS that injects faults; NULL */
    const char *owner;             /* what the lock tells whoever finds the store in use: "process 12, mounted on /m"; NULL */
} SxTreeOptions;
/* Creates, or opens and migrates. A corrupt store: SX_ERR_CORRUPT, a newer one: SX_ERR_NEWER, one in use by another process
 * (flock on DIR/lock, held until close): SX_ERR_BUSY; each message names the file and the remedy; nothing is deleted. */
SxTree *sx_tree_open(const SxTreeOptions *options, GError **error);
void sx_tree_close(SxTree *tree); /* checkpoints, marks a clean stop */
bool sx_tree_was_clean(const SxTree *tree);     /* the last run closed it */
bool sx_tree_same_boot(const SxTree *tree);     /* the last run was in this boot of the machine (no power loss between) */
int sx_tree_sync(SxTree *tree);                 /* what is committed survives power loss: fdatasync of the WAL */
bool sx_tree_check(SxTree *tree, GError **error); /* all invariants hold (tests, doctor): sides, parents, nlink, pending bits */
/* Test only: from now on every change fails with -EIO, as if the process had died here. */
void sx_tree_kill(SxTree *tree);

/* Gives the provider its store id and its root directory (a child of SX_ROOT_INO named label, renamed when the label
 * changed). caps decide what becomes pending; sx_tree_set_caps after a probe changed them. A guess (not probed) does not
 * overrule what an earlier probe found. Providers not added since the open keep their rows, and are not shown. */
bool sx_tree_add_provider(SxTree *tree, const char *name, const char *label, const SxCaps *caps, int *ret_id, gint64 *ret_root,
                          GError **error);
bool sx_tree_set_caps(SxTree *tree, int provider, const SxCaps *caps, GError **error);
/* The providers of the store that were not added since the open and for which changes wait. */
typedef struct SxAbsent { char *name; gint64 pending; /* changes, parked ones too */ } SxAbsent;
GPtrArray *sx_tree_absent(SxTree *tree); /* of SxAbsent */

/* ---- for vfs: the local side ---- */
int sx_tree_lookup(SxTree *tree, gint64 parent, const char *name, SxAttr *ret);  /* -ENOENT */
int sx_tree_getattr(SxTree *tree, gint64 ino, SxAttr *ret);                      /* -ENOENT; orphans too */
/* Entries in ascending cookie (= row id) order, from the first with a cookie > after. fn returns false to stop. fn is called
 * without locks and may call the tree. `..` and `.` are not given. */
typedef bool (*SxDirFn)(void *data, gint64 cookie, const char *name, const SxAttr *attr);
int sx_tree_readdir(SxTree *tree, gint64 dir, gint64 after, SxDirFn fn, void *data);
int sx_tree_parent(SxTree *tree, gint64 dir, gint64 *ret_parent);
/* The name inside the mount, "nas/a/b" ("" for the root), for messages and attributes; g_free. NULL for orphans. */
char *sx_tree_path(SxTree *tree, gint64 ino);
int sx_tree_resolve(SxTree *tree, const char *path, SxAttr *ret); /* the inverse, from the root */
char *sx_tree_target(SxTree *tree, gint64 ino); /* SYMLINK: where it points; g_free; NULL */

typedef struct SxNew {
    SxKind kind;
    guint32 mode, uid, gid;
    guint64 rdev;
    const char *target;   /* SYMLINK */
    gint64 due_real_ms;   /* when the change may go out at the earliest */
} SxNew;
/* A new file starts with cached=2, size 0, cver 1, a gen > 0, writing=false. -EEXIST, -ENOENT (parent), -ENOTDIR, -EPERM (in or of
 * the mount's root, the same for all that follow), -EINVAL or -ENAMETOOLONG (name). A new directory is listed. */
int sx_tree_create(SxTree *tree, gint64 parent, const char *name, const SxNew *new_, SxAttr *ret);
int sx_tree_create_orphan(SxTree *tree, int provider, const SxNew *new_, SxAttr *ret); /* O_TMPFILE: nlink 0 */
int sx_tree_link(SxTree *tree, gint64 ino, gint64 parent, const char *name, gint64 due_real_ms, SxAttr *ret); /* -EXDEV -EPERM (dir) -EMLINK */
/* The inode stays as an orphan when keep is true and this was its last name (somebody has it open). *ret: after it (nlink). */
int sx_tree_unlink(SxTree *tree, gint64 parent, const char *name, bool keep, gint64 due_real_ms, SxAttr *ret);
int sx_tree_rmdir(SxTree *tree, gint64 parent, const char *name, gint64 due_real_ms, SxAttr *ret); /* -ENOTEMPTY by the local side */
typedef struct SxRenamed { SxAttr moved; bool replaced; SxAttr victim; /* after it; nlink 0: last name gone, kept as orphan */ } SxRenamed;
/* flags: 0, RENAME_NOREPLACE, RENAME_EXCHANGE. -EXDEV between providers, -EINVAL into itself, -ENOTEMPTY, -EISDIR, -ENOTDIR. */
int sx_tree_rename(SxTree *tree, gint64 parent, const char *name, gint64 new_parent, const char *new_name, unsigned flags,
                   bool keep, gint64 due_real_ms, SxRenamed *ret);
int sx_tree_drop_orphan(SxTree *tree, gint64 ino); /* no-op when it has names */
GArray *sx_tree_orphans(SxTree *tree);             /* of gint64 ino, at start */

typedef enum SxSet { SX_SET_MODE = 1, SX_SET_UID = 2, SX_SET_GID = 4, SX_SET_ATIME = 8, SX_SET_MTIME = 16, SX_SET_CTIME = 32 } SxSet;
int sx_tree_setattr(SxTree *tree, gint64 ino, unsigned set, const SxAttr *values, gint64 due_real_ms, SxAttr *ret); /* ctime = now unless SET_CTIME */
/* Before the first byte of a clean or sealed content is changed: a new gen, writing=1. Each call is a transaction and a new
 * gen, so that an upload under way can never pass for the new content: call it when sx_content_announced() says no. */
int sx_tree_write_begin(SxTree *tree, gint64 ino, SxAttr *ret);
/* After the last write of an open (close, fsync): size and times as they are now. done: the last writer closed, writing=0. */
int sx_tree_write_end(SxTree *tree, gint64 ino, gint64 size, gint64 mtime_ns, bool done, gint64 due_real_ms, SxAttr *ret);
GArray *sx_tree_unfinished(SxTree *tree);          /* of gint64 ino with writing=1 at start: size and mtime come from the cache file */
#define SX_TOUCH_COARSE_MS 30000 /* uses closer together than this are one: opening a file is then a read */
int sx_tree_touch(SxTree *tree, gint64 ino, gint64 used_real_ms); /* last use, for eviction; coarse, may be lost */

int sx_tree_xattr_get(SxTree *tree, gint64 ino, const char *name, GBytes **ret);        /* -ENODATA */
int sx_tree_xattr_set(SxTree *tree, gint64 ino, const char *name, const void *value, gsize n, int flags); /* XATTR_CREATE/REPLACE */
int sx_tree_xattr_list(SxTree *tree, gint64 ino, GString *ret);                         /* NUL-terminated names */
int sx_tree_xattr_remove(SxTree *tree, gint64 ino, const char *name);
int sx_tree_pin(SxTree *tree, gint64 ino, int pin);        /* 1 pinned, 0 not, recursively inherited by what has -1 */
bool sx_tree_pinned(SxTree *tree, gint64 ino);             /* itself or an ancestor */
GArray *sx_tree_pin_missing(SxTree *tree, guint limit);    /* of gint64: pinned files that are not cached=2, and pinned unlisted dirs */

/* ---- for cache ---- */
int sx_tree_set_cached(SxTree *tree, gint64 ino, gint64 cver, int cached); /* -ESTALE when cver has moved on; -EBUSY for 0 when dirty, pinned or unverified */
/* Files that may be evicted (clean, verified, unpinned, cached>0), least recently used first. */
typedef struct SxEvictable { gint64 ino, cver, size, used_real_ms; } SxEvictable;
GArray *sx_tree_evictable(SxTree *tree, guint limit);
bool sx_tree_cver(SxTree *tree, gint64 ino, gint64 *ret_cver); /* false: no such inode (its cache file may be deleted) */

/* ---- for transfer: the remote side ---- */
#define SX_DUE_ABSURD_MS (25 * 60 * 60 * (gint64)1000) /* a due time farther away than this (the longest write-back delay is a day)
                                                       was made before the clock jumped: due now */
/* Rows with pending != 0, not parked, due <= now (or absurdly far in the future), oldest due first. */
GPtrArray *sx_tree_pending(SxTree *tree, int provider /* 0 all */, gint64 now_real_ms, guint limit); /* of SxRow, freed with it */
SxRow *sx_tree_row(SxTree *tree, gint64 row);   /* fresh, with facts; NULL when gone */
/* The row from which content that is absent here can be fetched (a remote side, the newest r_gen; r_gen 0 has other content),
 * else the inode's first; NULL when it has none. */
SxRow *sx_tree_row_of(SxTree *tree, gint64 ino);
gint64 sx_tree_next_due(SxTree *tree);          /* real ms of the earliest due row that is not parked; G_MAXINT64 when none */
char *sx_tree_remote_path(SxTree *tree, gint64 dir_ino);                    /* provider path of a directory by remote sides; NULL: not there */
char *sx_tree_row_remote_path(SxTree *tree, gint64 row);                    /* where it is now remotely; NULL */
GArray *sx_tree_remote_ancestors(SxTree *tree, gint64 dir_ino);             /* of gint64: dir_ino itself and all above, by remote sides */
GArray *sx_tree_local_ancestors(SxTree *tree, gint64 dir_ino);
bool sx_tree_find_remote_dir(SxTree *tree, int provider, const char *path, gint64 *ret_ino); /* by remote sides; known directories only */
typedef struct SxCounts { gint64 pending, pending_bytes, parked, verify, conflicts, files, dirs, cached_bytes_hint; } SxCounts;
void sx_tree_counts(SxTree *tree, int provider /* 0 all */, SxCounts *ret);
/* Calls fn for rows with pending work or an error at or below dir (SX_ROOT_INO: all), at most limit. */
typedef bool (*SxRowFn)(void *data, const SxRow *row);
void sx_tree_each_pending(SxTree *tree, gint64 dir, guint limit, SxRowFn fn, void *data);
bool sx_tree_clear_errors(SxTree *tree, gint64 dir); /* un-park and make due at or below dir: `syncox flush`, retry */
/* Makes all pending rows at or below due now. */
bool sx_tree_hurry(SxTree *tree, gint64 dir, gint64 now_real_ms);

/* Directories to look at again: listed, used (looked up, read, listed) after used_after, listed before listed_before, or in
 * the future by a clock that was put back since. */
GArray *sx_tree_stale_dirs(SxTree *tree, int provider, gint64 used_after_real_ms, gint64 listed_before_real_ms, guint limit);

/* A complete listing is applied in one transaction. Rules: an entry unknown here becomes a file (unless a local file of
 * that name is being created: then both are the same when kind is dir, otherwise the local one meets its conflict at upload:
 * the remote side is attached to it with base_version NULL). A known one with a new version: clean local content is
 * replaced (gen+1, r_gen=gen, cver+1, cached 0), dirty content stays and becomes a conflict. A known one that is absent
 * is deleted locally when `confirmed_gone` says so, it is clean, and nothing dirty is below it; otherwise its remote side
 * is cleared (it will be created again). Rows of names for which `ignore` returns true are left alone (an operation of
 * ours on them ran while the listing was made). A row known by r_id under another name or parent moves. A change of kind is
 * gone + new. Hard-linked rows whose remote content changes get an inode of their own. What waits for deletion and was
 * changed there since is shown again. Whatever is shown under a name that the remote takes is moved aside to a conflict name.
 * A deleted file's inode stays as an orphan (somebody may have it open): who handles SX_CHANGE_ENTRY_GONE calls
 * sx_tree_drop_orphan when nobody has. On failure nothing is applied and *ret is to be cleared all the same. */
typedef struct SxListing {
    gint64 dir;
    GPtrArray *entries;                                    /* of SxRemote */
    bool (*ignore)(void *data, const char *name);          /* may be NULL */
    void *data;
    GHashTable *confirmed_gone;                            /* set of names (char*), or NULL: none is */
    gint64 listed_real_ms;
} SxListing;
typedef struct SxListed {
    GPtrArray *missing;      /* names (char*) that the listing lacks and that are not confirmed yet */
    guint known;             /* rows known remotely in this directory before */
    guint added, changed, removed, verified;
} SxListed;
bool sx_tree_apply_listing(SxTree *tree, const SxListing *listing, SxChanges *changes, SxListed *ret, GError **error);
void sx_listed_clear(SxListed *l);
/* One object was looked at (stat): the same rules for one name; remote NULL: certainly absent. */
bool sx_tree_apply_stat(SxTree *tree, gint64 dir, const char *name, const SxRemote *remote, SxChanges *changes, GError **error);

/* Results of operations. Each checks that the row still is what the operation assumed and otherwise records what is
 * certain (the remote side), leaving the rest pending. */
bool sx_tree_done_create(SxTree *tree, gint64 row, gint64 r_parent, const char *r_name, gint64 gen /* of the content sent; dirs 0 */,
                         const SxRemote *remote, GError **error);                /* mkdir, symlink, first upload */
bool sx_tree_done_upload(SxTree *tree, gint64 row, gint64 gen, const SxRemote *remote, GError **error);
bool sx_tree_done_move(SxTree *tree, gint64 row, gint64 r_parent, const char *r_name, GError **error); /* keeps version and the rest */
bool sx_tree_done_remove(SxTree *tree, gint64 row, GError **error);              /* remote side gone; the row vanishes if it has no local side */
bool sx_tree_done_attr(SxTree *tree, gint64 row, gint64 mtime_ns, int mode, const SxRemote *remote, GError **error);
/* The remote has exactly our content (false conflict, or our own bytes after a lost reply): adopt its version as base. */
bool sx_tree_adopt(SxTree *tree, gint64 row, gint64 gen, const SxRemote *remote, GError **error);
/* The remote has bytes that we sent in an earlier generation: base_version = its version; still dirty. */
bool sx_tree_rebase(SxTree *tree, gint64 row, const SxRemote *remote, GError **error);
/* Both changed. The remote keeps the name: the local content (inode) moves to the conflict name in the same directory as a
 * file to be created; the old row gets a new inode with the remote's content (remote NULL: it was deleted there, then the
 * local content just becomes new). Listed by sx_tree_conflicts. */
bool sx_tree_conflict(SxTree *tree, gint64 row, const SxRemote *remote, const char *who, SxChanges *changes, char **ret_conflict_name,
                      GError **error);
/* Before the call that makes the object at (parent, name), or moves it there; with the intent of an upload, or NULL. false
 * without an error: the row has gone meanwhile. */
bool sx_tree_set_target(SxTree *tree, gint64 row, gint64 parent, const char *name, const char *intent, GError **error);
/* Has dir, or a directory above it by remote sides, an operation of whose end we never heard? Then it may be elsewhere already,
 * and what is not found below it proves nothing. */
bool sx_tree_remote_unsettled(SxTree *tree, gint64 dir);
/* The object certainly is not at the target. A row that had nothing else vanishes. */
bool sx_tree_clear_target(SxTree *tree, gint64 row, GError **error);
bool sx_tree_set_intent(SxTree *tree, gint64 row, const char *intent, GError **error);
bool sx_tree_set_resume(SxTree *tree, gint64 row, gint64 gen, const char *resume, GError **error);
bool sx_tree_failed(SxTree *tree, gint64 row, const GError *why, gint64 due_real_ms, bool park, GError **error); /* tries+1 */
/* Rows that cannot run yet (blocked by others, being written) are put off, so that they do not stand before those that can. */
/* Only rows of which exactly `pending` is to be done, 0: anything. */
bool sx_tree_postpone(SxTree *tree, const gint64 *rows, guint n, unsigned pending, gint64 due_real_ms);
bool sx_tree_touch_dir(SxTree *tree, gint64 dir, gint64 used_real_ms);

typedef struct SxConflict { gint64 ino; char *path; char *original; gint64 real_ns; } SxConflict; /* paths inside the mount */
GPtrArray *sx_tree_conflicts(SxTree *tree); /* of SxConflict; only those whose copy still exists */
void sx_conflict_free(SxConflict *c);
