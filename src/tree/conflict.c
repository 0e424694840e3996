/* Both sides changed: the remote keeps the name, what is here becomes a copy beside it. */
#include "tree/tree_i.h"

#include <errno.h>

/* The local content, with all that is open on it, goes on under a name of its own. */
static void
copy_aside(SxTree *tree, SxConn *conn, const SxRow *row, const char *name)
{
    SxRow copy = {.ino = row->ino, .provider = row->provider, .kind = row->kind, .gen = row->gen, .mode = row->mode,
                  .mtime_ns = row->mtime_ns, .l_parent = row->l_parent, .l_name = (char *)name, .r_size = -1,
                  .r_mtime_ns = SX_TIME_UNKNOWN, .r_mode = -1, .err = SX_N_ERRORS,
                  .due_real_ms = sx_clock_real_ms(tree->clock)};
    sx_tree_row_insert(tree, conn, &copy);
}

static int
conflict_in(SxTree *tree, SxConn *conn, gint64 id, const SxRemote *remote, const char *who, SxChanges *changes, char **ret_name)
{
    g_autoptr(SxRow) row = sx_tree_row_load(conn, id);
    SxAttr old;
    if (row == NULL || row->l_parent == 0 || row->kind != SX_KIND_FILE || sx_tree_node(conn, row->ino, &old) != 0)
        return -ESTALE;
    if (remote == NULL) {
        sx_tree_drop_remote(tree, conn, row);
        return 0;
    }
    if (remote->kind != SX_KIND_FILE)
        return -ESTALE; /* a listing makes of it what it is */
    g_autofree char *name = sx_tree_free_conflict_name(tree, conn, row->l_parent, row->l_name, who);
    copy_aside(tree, conn, row, name);
    sx_tree_record_conflict(tree, conn, old.ino, row->l_parent, row->l_name);
    if (row->r_parent == 0)
        sx_tree_row_set_remote(row, row->l_parent, row->l_name);
    sx_tree_row_renew(tree, conn, row, remote, &old);
    g_clear_pointer(&row->intent, g_free);
    g_clear_pointer(&row->resume, g_free);
    sx_tree_row_unpark(row);
    sx_tree_row_save(tree, conn, row);
    sx_tree_dir_changed(tree, conn, row->l_parent, 0);
    sx_tree_tell(changes, SX_CHANGE_ENTRY_NEW, row->l_parent, row->l_name, row->ino);
    sx_tree_tell(changes, SX_CHANGE_ENTRY_NEW, row->l_parent, name, old.ino);
    *ret_name = g_steal_pointer(&name);
    return 0;
}

bool
sx_tree_conflict(SxTree *tree, gint64 row, const SxRemote *remote, const char *who, SxChanges *changes, char **ret_conflict_name,
                 GError **error)
{
    SxConn *conn;
    g_autofree char *name = NULL;
    guint before = changes != NULL ? sx_changes_len(changes) : 0;
    int rc = sx_tree_begin(tree, &conn);
    if (rc == 0)
        rc = sx_tree_end(conn, conflict_in(tree, conn, row, remote, who, changes, &name));
    if (rc != 0) {
        sx_tree_changes_cut(changes, before);
        return sx_tree_fail(tree, rc, "cannot resolve a conflict", error);
    }
    if (ret_conflict_name != NULL)
        *ret_conflict_name = g_steal_pointer(&name);
    return true;
}

void
sx_conflict_free(SxConflict *c)
{
    if (c == NULL)
        return;
    g_free(c->path);
    g_free(c->original);
    g_free(c);
}

GPtrArray *
sx_tree_conflicts(SxTree *tree)
{
    GPtrArray *found = g_ptr_array_new_with_free_func((GDestroyNotify)sx_conflict_free);
    SxConn *conn = sx_db_snapshot(tree->db);
    SxStmt *s = sx_db_query_values(conn,
                                   "SELECT c.ino,c.original,c.real_ns FROM conflict c JOIN inode i ON i.ino=c.ino "
                                   "WHERE i.nlink>0 ORDER BY c.real_ns,c.ino",
                                   NULL, 0);
    while (sx_db_next(s)) {
        SxConflict *c = g_new0(SxConflict, 1);
        c->ino = sx_db_int(s, 0);
        c->original = g_strdup(sx_db_text(s, 1));
        c->real_ns = sx_db_int(s, 2);
        c->path = sx_tree_path_in(conn, c->ino);
        g_ptr_array_add(found, c);
    }
    sx_db_finish(s);
    sx_db_done(conn, 0);
    return found;
}
