/* Results of operations. The row stays with its remote object (tree.h), so what an operation found out is true of the
 * row whatever programs did meanwhile; what it did not know remains pending. */
#include "tree/tree_i.h"

#include <string.h>

typedef struct Result {
    SxTree *tree;
    SxConn *conn;
    gint64 row;
    gint64 r_parent;
    const char *r_name;
    gint64 gen;
    const SxRemote *remote;
    gint64 mtime_ns;
    int mode;
} Result;

static bool
run(SxTree *tree, Result *r, void (*fn)(Result *), const char *what, GError **error)
{
    r->tree = tree;
    int rc = sx_tree_begin(tree, &r->conn);
    if (rc == 0) {
        fn(r);
        rc = sx_tree_end(r->conn, 0);
    }
    return rc == 0 || sx_tree_fail(tree, rc, what, error);
}

static bool
is_remote_dir(Result *r, gint64 dir)
{
    return sx_tree_is_provider_root(r->tree, dir) || sx_tree_parent_of(r->conn, dir, true) > 0;
}

/* Another row believes that its object has this place: it has not, we have just put ours there. */
static void
vacate(Result *r, gint64 keep)
{
    g_autoptr(SxRow) holder = sx_tree_row_remote(r->conn, r->r_parent, r->r_name);
    if (holder != NULL && holder->id != keep)
        sx_tree_remote_gone(r->tree, r->conn, holder, NULL);
}

/* What an upload of content `gen` left there. */
static void
record_content(Result *r, SxRow *row)
{
    sx_tree_fill_remote(row, r->remote);
    sx_tree_set_base(row);
    if (row->kind != SX_KIND_FILE)
        return;
    row->r_gen = r->gen;
    row->verify = *row->r_version == '\0';
    row->sent_real_ms = sx_clock_real_ms(r->tree->clock);
    if (row->r_size < 0 && row->gen == r->gen)
        row->r_size = row->size;
}

static void
save(Result *r, SxRow *row)
{
    g_clear_pointer(&row->intent, g_free);
    g_clear_pointer(&row->resume, g_free);
    sx_tree_row_unpark(row);
    sx_tree_row_save(r->tree, r->conn, row);
}

/* The row is not any more what the operation was for (removed, or renamed over something): what it made is to be deleted
 * there, or taken over by what has its name now. */
static void
record_stray(Result *r)
{
    g_autoptr(SxRow) dir = sx_tree_row_dir(r->conn, r->r_parent);
    if (dir == NULL || r->remote->kind == SX_KIND_NONE)
        return;
    vacate(r, 0);
    SxRow *row = g_new0(SxRow, 1);
    g_autoptr(SxRow) owned = row;
    row->provider = dir->provider;
    row->kind = r->remote->kind;
    row->err = SX_N_ERRORS;
    sx_tree_row_set_remote(row, r->r_parent, r->r_name);
    record_content(r, row);
    row->r_gen = 0;
    if (row->kind == SX_KIND_DIR) {
        SxAttr attr = {.provider = row->provider, .kind = SX_KIND_DIR, .mode = r->tree->dir_mode, .uid = r->tree->uid, .gid = r->tree->gid};
        sx_tree_inode_insert(r->tree, r->conn, &attr, NULL);
        row->ino = attr.ino;
    }
    row->due_real_ms = sx_clock_real_ms(r->tree->clock);
    sx_tree_row_insert(r->tree, r->conn, row);
    sx_tree_row_hide(r->tree, r->conn, row, row->due_real_ms);
}

static void
done_create(Result *r)
{
    if (!is_remote_dir(r, r->r_parent))
        return;
    g_autoptr(SxRow) row = sx_tree_row_load(r->conn, r->row);
    bool elsewhere = row != NULL && row->r_parent != 0 && (row->r_parent != r->r_parent || strcmp(row->r_name, r->r_name) != 0);
    if (row == NULL || elsewhere) {
        record_stray(r);
        return;
    }
    vacate(r, row->id);
    sx_tree_row_set_remote(row, r->r_parent, r->r_name);
    sx_tree_row_set_target(row, 0, NULL);
    record_content(r, row);
    save(r, row);
    if (row->l_parent == 0) /* deleted here meanwhile: something else may have the name now */
        sx_tree_row_hide(r->tree, r->conn, row, sx_clock_real_ms(r->tree->clock));
}

bool
sx_tree_done_create(SxTree *tree, gint64 row, gint64 r_parent, const char *r_name, gint64 gen, const SxRemote *remote,
                    GError **error)
{
    Result r = {.row = row, .r_parent = r_parent, .r_name = r_name, .gen = gen, .remote = remote};
    return run(tree, &r, done_create, "cannot record a creation", error);
}

static void
done_upload(Result *r)
{
    g_autoptr(SxRow) row = sx_tree_row_load(r->conn, r->row);
    if (row == NULL || row->r_parent == 0)
        return; /* a listing will tell */
    bool was_clean = row->l_parent != 0 && row->r_gen == row->gen && r->gen != row->gen;
    if (was_clean) {
        sx_tree_replace_content(r->tree, r->conn, row, r->remote, NULL);
        return;
    }
    record_content(r, row);
    save(r, row);
}

bool
sx_tree_done_upload(SxTree *tree, gint64 row, gint64 gen, const SxRemote *remote, GError **error)
{
    Result r = {.row = row, .gen = gen, .remote = remote};
    return run(tree, &r, done_upload, "cannot record an upload", error);
}

static void
done_move(Result *r)
{
    g_autoptr(SxRow) row = sx_tree_row_load(r->conn, r->row);
    if (row == NULL || row->r_parent == 0 || !is_remote_dir(r, r->r_parent))
        return;
    if (row->kind == SX_KIND_DIR && sx_tree_is_below(r->conn, r->r_parent, row->ino, true))
        return;
    vacate(r, row->id);
    sx_tree_row_set_remote(row, r->r_parent, r->r_name);
    sx_tree_row_set_target(row, 0, NULL);
    sx_tree_row_unpark(row);
    sx_tree_row_save(r->tree, r->conn, row);
}

bool
sx_tree_done_move(SxTree *tree, gint64 row, gint64 r_parent, const char *r_name, GError **error)
{
    Result r = {.row = row, .r_parent = r_parent, .r_name = r_name};
    return run(tree, &r, done_move, "cannot record a move", error);
}

static void
done_remove(Result *r)
{
    g_autoptr(SxRow) row = sx_tree_row_load(r->conn, r->row);
    if (row == NULL || row->r_parent == 0)
        return;
    if (row->l_parent == 0) {
        sx_tree_remote_gone(r->tree, r->conn, row, NULL);
        return;
    }
    /* Shown again in the meantime: everything that was below it there is made again. */
    g_autoptr(GPtrArray) below = row->kind == SX_KIND_DIR ? sx_tree_rows(r->conn, SX_ROWS_BELOW_REMOTE, row->ino) : NULL;
    for (guint i = 0; below != NULL && i < below->len; i++)
        sx_tree_remote_gone(r->tree, r->conn, below->pdata[i], NULL);
    sx_tree_drop_remote(r->tree, r->conn, row);
}

bool
sx_tree_done_remove(SxTree *tree, gint64 row, GError **error)
{
    Result r = {.row = row};
    return run(tree, &r, done_remove, "cannot record a removal", error);
}

static void
done_attr(Result *r)
{
    g_autoptr(SxRow) row = sx_tree_row_load(r->conn, r->row);
    if (row == NULL || row->r_parent == 0)
        return;
    if (r->remote != NULL && r->remote->version != NULL && *r->remote->version != '\0') {
        bool based = g_strcmp0(row->base_version, row->r_version) == 0;
        g_free(row->r_version);
        row->r_version = g_strdup(r->remote->version);
        if (based)
            sx_tree_set_base(row);
    }
    if (r->mtime_ns != SX_TIME_UNKNOWN)
        row->r_mtime_ns = r->mtime_ns;
    if (r->mode >= 0)
        row->r_mode = r->mode;
    sx_tree_row_unpark(row);
    sx_tree_row_save(r->tree, r->conn, row);
}

bool
sx_tree_done_attr(SxTree *tree, gint64 row, gint64 mtime_ns, int mode, const SxRemote *remote, GError **error)
{
    Result r = {.row = row, .mtime_ns = mtime_ns, .mode = mode, .remote = remote};
    return run(tree, &r, done_attr, "cannot record attributes", error);
}

static void
adopt(Result *r)
{
    g_autoptr(SxRow) row = sx_tree_row_load(r->conn, r->row);
    if (row == NULL || (row->r_parent == 0 && row->l_parent == 0))
        return;
    if (row->r_parent == 0) {
        r->r_parent = row->l_parent;
        r->r_name = row->l_name;
        if (!is_remote_dir(r, r->r_parent))
            return;
        vacate(r, row->id);
        sx_tree_row_set_remote(row, row->l_parent, row->l_name);
        sx_tree_row_set_target(row, 0, NULL);
    }
    record_content(r, row);
    save(r, row);
}

bool
sx_tree_adopt(SxTree *tree, gint64 row, gint64 gen, const SxRemote *remote, GError **error)
{
    Result r = {.row = row, .gen = gen, .remote = remote};
    return run(tree, &r, adopt, "cannot record equal content", error);
}

static void
rebase(Result *r)
{
    g_autoptr(SxRow) row = sx_tree_row_load(r->conn, r->row);
    if (row == NULL || row->r_parent == 0)
        return;
    sx_tree_fill_remote(row, r->remote);
    sx_tree_set_base(row);
    row->r_gen = 0;
    row->verify = false;
    sx_tree_row_save(r->tree, r->conn, row);
}

bool
sx_tree_rebase(SxTree *tree, gint64 row, const SxRemote *remote, GError **error)
{
    Result r = {.row = row, .remote = remote};
    return run(tree, &r, rebase, "cannot record a version", error);
}

/* ---- while it runs ---- */

static bool
finish(SxTree *tree, SxConn *conn, const char *what, GError **error)
{
    int rc = sx_tree_end(conn, 0);
    return rc == 0 || sx_tree_fail(tree, rc, what, error);
}

static bool
begin(SxTree *tree, SxConn **ret_conn, const char *what, GError **error)
{
    int rc = sx_tree_begin(tree, ret_conn);
    return rc == 0 || sx_tree_fail(tree, rc, what, error);
}

bool
sx_tree_set_intent(SxTree *tree, gint64 row, const char *intent, GError **error)
{
    SxConn *conn;
    if (!begin(tree, &conn, "cannot record an intent", error))
        return false;
    sx_db_run(conn, "UPDATE link SET intent=?2 WHERE id=?1", SX_INT(row), SX_TEXT(intent));
    return finish(tree, conn, "cannot record an intent", error);
}

bool
sx_tree_set_target(SxTree *tree, gint64 row, gint64 parent, const char *name, const char *intent, GError **error)
{
    SxConn *conn;
    if (!begin(tree, &conn, "cannot record a target", error))
        return false;
    g_autoptr(SxRow) r = sx_tree_row_load(conn, row);
    if (r != NULL) {
        sx_tree_row_set_target(r, parent, name);
        g_free(r->intent);
        r->intent = g_strdup(intent);
        sx_tree_row_save(tree, conn, r);
    }
    return finish(tree, conn, "cannot record a target", error) && r != NULL;
}

static void
clear_target(SxTree *tree, SxConn *conn, SxRow *row)
{
    sx_tree_row_set_target(row, 0, NULL);
    if (row->l_parent != 0 || row->r_parent != 0) {
        sx_tree_row_save(tree, conn, row);
        return;
    }
    sx_tree_row_delete(conn, row->id);
    if (row->kind == SX_KIND_DIR)
        sx_tree_inode_delete(conn, row->ino);
}

bool
sx_tree_clear_target(SxTree *tree, gint64 row, GError **error)
{
    SxConn *conn;
    if (!begin(tree, &conn, "cannot record a target", error))
        return false;
    g_autoptr(SxRow) r = sx_tree_row_load(conn, row);
    if (r != NULL && r->t_parent != 0)
        clear_target(tree, conn, r);
    return finish(tree, conn, "cannot record a target", error);
}

bool
sx_tree_set_resume(SxTree *tree, gint64 row, gint64 gen, const char *resume, GError **error)
{
    SxConn *conn;
    if (!begin(tree, &conn, "cannot record progress", error))
        return false;
    sx_db_run(conn, "UPDATE link SET resume=?2,resume_gen=?3 WHERE id=?1", SX_INT(row), SX_TEXT(resume),
              SX_INT(resume != NULL ? gen : 0));
    return finish(tree, conn, "cannot record progress", error);
}

bool
sx_tree_failed(SxTree *tree, gint64 row, const GError *why, gint64 due_real_ms, bool park, GError **error)
{
    SxConn *conn;
    if (!begin(tree, &conn, "cannot record a failure", error))
        return false;
    sx_db_run(conn, "UPDATE link SET tries=tries+1,err=?2,err_text=?3,due=?4,parked=?5 WHERE id=?1 AND pending>0", SX_INT(row),
              SX_TEXT(sx_error_code_name(sx_error_code(why))), SX_TEXT(why != NULL ? why->message : "unknown"),
              SX_INT(due_real_ms), SX_INT(park));
    return finish(tree, conn, "cannot record a failure", error);
}
