/* Inside tree/: what its files share. Everything here runs within a transaction or a snapshot of the caller. */
#pragma once

#include "db/db.h"
#include "tree/tree.h"

#define SX_TREE_DEPTH_MAX 4096 /* more directories above one another than any path can name */

/* What decides about pending work; stored, so that a start offline knows what the last probe found. */
typedef struct SxTreeCaps {
    bool probed, set_mtime, set_mode, symlinks, stable_ids;
    gint64 mtime_precision_ns;
} SxTreeCaps;

typedef struct SxTreeProvider {
    int id;
    gint64 root;
    char *name;
    SxTreeCaps caps;
} SxTreeProvider;

struct SxTree {
    SxDb *db;
    char *path;
    const SxSys *sys;
    const SxClock *clock;
    guint32 uid, gid, file_mode, dir_mode;
    char **keep_local; /* NULL: sx_name_is_temporary() */
    int lock_fd;
    bool was_clean, same_boot;
    GRWLock providers_lock;
    GArray *providers;        /* providers_lock: of SxTreeProvider */
    gint64 next_id, ceiling;  /* db's writer: next number, end of the reserved block */
    bool reserved;            /* db's writer: ceiling was moved and is perhaps not stored */
};

/* ---- tree.c ---- */
gint64 sx_tree_next(SxTree *tree, SxConn *conn); /* a number never used before */
void sx_tree_caps(SxTree *tree, int provider, SxTreeCaps *ret);
bool sx_tree_is_provider_root(SxTree *tree, gint64 ino);
gint64 sx_tree_provider_root(SxTree *tree, int provider); /* 0: none */
GArray *sx_tree_provider_ids(SxTree *tree);               /* of int */
int sx_tree_begin(SxTree *tree, SxConn **ret_conn);
int sx_tree_end(SxConn *conn, int rc);
bool sx_tree_fail(SxTree *tree, int rc, const char *what, GError **error); /* false, with an error made from -errno */

/* ---- row.c ---- */
SxRow *sx_tree_row_load(SxConn *conn, gint64 id);
SxRow *sx_tree_row_local(SxConn *conn, gint64 parent, const char *name);
SxRow *sx_tree_row_remote(SxConn *conn, gint64 parent, const char *name);
SxRow *sx_tree_row_dir(SxConn *conn, gint64 ino); /* the row of a directory, the first row of something else; NULL */
typedef enum SxRowWhich { SX_ROWS_OF_INO, SX_ROWS_BELOW_LOCAL, SX_ROWS_BELOW_REMOTE } SxRowWhich;
GPtrArray *sx_tree_rows(SxConn *conn, SxRowWhich which, gint64 ino); /* of SxRow */
SxRow *sx_tree_row_read(SxStmt *stmt);
void sx_tree_row_insert(SxTree *tree, SxConn *conn, SxRow *row); /* gives it an id; both compute pending */
void sx_tree_row_save(SxTree *tree, SxConn *conn, SxRow *row);
void sx_tree_row_delete(SxConn *conn, gint64 id);
void sx_tree_rows_refresh(SxTree *tree, SxConn *conn, gint64 ino, gint64 due_real_ms); /* pending of all rows of an inode; -1: due stays */
void sx_tree_row_unpark(SxRow *row); /* something changed: failures of before say nothing any more */
void sx_tree_row_set_local(SxRow *row, gint64 parent, const char *name);
void sx_tree_row_set_remote(SxRow *row, gint64 parent, const char *name);
void sx_tree_row_clear_remote(SxRow *row);
void sx_tree_row_set_target(SxRow *row, gint64 parent, const char *name);
#define SX_ROW_SELECT                                                                                                  \
    "SELECT l.id,l.ino,l.provider,l.kind,l.pending,l.l_parent,l.l_name,l.r_parent,l.r_name,l.r_id,l.r_version,"        \
    "l.r_hash,l.r_size,l.r_mtime,l.r_mode,l.r_gen,l.base_version,l.due,l.parked,l.tries,l.err,l.err_text,l.verify,"    \
    "l.sent_ms,l.t_parent,l.t_name,l.intent,l.resume,l.resume_gen,i.gen,i.cver,i.cached,i.writing,i.size,i.mtime,i.mode,i.target "         \
    "FROM link l LEFT JOIN inode i ON i.ino=l.ino "

/* ---- look.c ---- */
int sx_tree_node(SxConn *conn, gint64 ino, SxAttr *ret); /* -ENOENT */
gint64 sx_tree_parent_of(SxConn *conn, gint64 ino, bool remote); /* directory's parent on a side; 0 */
bool sx_tree_is_unsettled(SxConn *conn, gint64 dir); /* sx_tree_remote_unsettled() */
bool sx_tree_is_below(SxConn *conn, gint64 ino, gint64 ancestor, bool remote); /* or is it */
char *sx_tree_path_in(SxConn *conn, gint64 ino);

/* ---- pending.c ---- */
bool sx_tree_stays_local(SxTree *tree, SxKind kind, const char *name, const SxTreeCaps *caps);
unsigned sx_tree_pending_bits(SxTree *tree, const SxRow *row);

/* ---- local.c ---- */
/* The donor holds a remote side and is not shown; the taker is shown and has none: one row of both. */
void sx_tree_take_over(SxTree *tree, SxConn *conn, SxRow *donor, const SxRow *taker, gint64 due_real_ms);
void sx_tree_inode_insert(SxTree *tree, SxConn *conn, SxAttr *attr, const char *target); /* gives it a number; times are now unless set */
void sx_tree_inode_delete(SxConn *conn, gint64 ino);
/* A name of the inode has gone: nlink, and the inode itself unless kept or a directory that is still there remotely. */
void sx_tree_inode_drop_name(SxTree *tree, SxConn *conn, gint64 ino, bool keep);
void sx_tree_dir_changed(SxTree *tree, SxConn *conn, gint64 dir, int nlink_delta); /* an entry came or went */
/* The row is not shown any more: kept for deletion there, or gone. */
void sx_tree_row_hide(SxTree *tree, SxConn *conn, SxRow *row, gint64 due_real_ms);
/* Makes the row shown at (parent, name), which is free. It is saved, inserted, or replaced by a donor; row->id then says. */
void sx_tree_row_place(SxTree *tree, SxConn *conn, SxRow *row, gint64 parent, const char *name, gint64 due_real_ms);
/* sx_tree_inode_drop_name; *ret, the inode before it, becomes the inode after it, with nlink 0 when it went with the name. */
void sx_tree_drop_name(SxTree *tree, SxConn *conn, gint64 ino, bool keep, SxAttr *ret);
bool sx_tree_has_entries(SxConn *conn, gint64 dir); /* on the local side */
int sx_tree_check_name(const char *name);           /* 0, -EINVAL, -ENAMETOOLONG */

/* ---- change.c ---- all take NULL changes */
void sx_tree_tell(SxChanges *changes, SxChangeKind kind, gint64 parent, const char *name, gint64 ino);
void sx_tree_tell_content(SxChanges *changes, gint64 ino, gint64 size, gint64 cver);
void sx_tree_changes_cut(SxChanges *changes, guint len); /* what a failed transaction told is taken back */

/* ---- remote.c ---- */
void sx_tree_fill_remote(SxRow *row, const SxRemote *remote); /* version, size, times; the place stays */
void sx_tree_set_base(SxRow *row);                            /* base_version = r_version */
gint64 sx_tree_inode_of_remote(SxTree *tree, SxConn *conn, int provider, const SxRemote *remote, const SxAttr *like, gint64 *ret_gen);
void sx_tree_row_renew(SxTree *tree, SxConn *conn, SxRow *row, const SxRemote *remote, const SxAttr *like);
void sx_tree_replace_content(SxTree *tree, SxConn *conn, SxRow *row, const SxRemote *remote, SxChanges *changes);
char *sx_tree_free_conflict_name(SxTree *tree, SxConn *conn, gint64 dir, const char *name, const char *who);
void sx_tree_record_conflict(SxTree *tree, SxConn *conn, gint64 ino, gint64 dir, const char *name);
void sx_tree_make_room(SxTree *tree, SxConn *conn, gint64 dir, const char *name, SxChanges *changes);
void sx_tree_ensure_shown(SxTree *tree, SxConn *conn, gint64 dir, SxChanges *changes);
void sx_tree_drop_remote(SxTree *tree, SxConn *conn, SxRow *row); /* its object is not there: to be created again */
void sx_tree_remote_gone(SxTree *tree, SxConn *conn, SxRow *row, SxChanges *changes); /* the same, or deleted here too */

/* ---- object.c ---- */
typedef struct SxApply {
    SxTree *tree;
    SxConn *conn;
    SxChanges *changes;
    SxListed *counts;
    SxTreeCaps caps;
    int provider;
    gint64 dir;
    bool touched;   /* entries came; told once at the end */
    int new_dirs;
} SxApply;
typedef struct SxMatch {
    const SxRemote *entry;
    gint64 row;         /* 0: unknown here */
    bool moved;         /* known at another place; off the remote index */
    bool follows;       /* and its local side goes with it; off the local index */
    gint64 old_parent;  /* follows: where it was shown */
    char *old_name;
} SxMatch;
void sx_tree_apply_object(SxApply *a, const SxMatch *m, const SxRow *cached /* the row as known before, or NULL */);
