/* Pending work as people see it: counts, by directory, retried, hurried. */
#include "tree/tree_i.h"

#include <errno.h>

static void
count_one(SxConn *conn, int provider, SxCounts *ret)
{
    SxValue p = SX_INT(provider);
    ret->pending += sx_db_get_int(conn, 0, "SELECT count(*) FROM link WHERE provider=?1 AND pending>0 AND parked=0", p);
    ret->pending_bytes += sx_db_get_int(conn, 0,
                                        "SELECT coalesce(sum(i.size),0) FROM link l JOIN inode i ON i.ino=l.ino WHERE "
                                        "l.provider=?1 AND l.pending>0 AND l.parked=0 AND l.kind=1 AND l.pending & 9",
                                        p);
    ret->parked += sx_db_get_int(conn, 0, "SELECT count(*) FROM link WHERE provider=?1 AND parked=1", p);
    ret->verify += sx_db_get_int(conn, 0, "SELECT count(*) FROM link WHERE provider=?1 AND pending>0 AND parked=0 AND pending & 32", p);
    ret->conflicts += sx_db_get_int(
        conn, 0, "SELECT count(*) FROM conflict c JOIN inode i ON i.ino=c.ino WHERE i.provider=?1 AND i.nlink>0", p);
    ret->files += sx_db_get_int(conn, 0, "SELECT count(*) FROM inode WHERE provider=?1 AND kind<>2 AND nlink>0", p);
    ret->dirs += sx_db_get_int(conn, 0, "SELECT count(*) FROM inode WHERE provider=?1 AND kind=2 AND nlink>0", p);
    ret->cached_bytes_hint += sx_db_get_int(
        conn, 0, "SELECT coalesce(sum(size),0) FROM inode WHERE cached=2 AND kind=1 AND provider=?1", p);
}

void
sx_tree_counts(SxTree *tree, int provider, SxCounts *ret)
{
    *ret = (SxCounts){0};
    g_autoptr(GArray) ids = sx_tree_provider_ids(tree);
    SxConn *conn = sx_db_snapshot(tree->db);
    for (guint i = 0; i < ids->len; i++)
        if (provider == 0 || provider == g_array_index(ids, int, i))
            count_one(conn, g_array_index(ids, int, i), ret);
    sx_db_done(conn, 0);
}

/* ---- at or below a directory ---- */

/* Is the row at or below dir on the side where it is (shown, or else remote)? */
static bool
concerns(SxConn *conn, const SxRow *row, gint64 dir)
{
    if (dir == SX_ROOT_INO || row->ino == dir)
        return true;
    if (row->l_parent > 0 && sx_tree_is_below(conn, row->l_parent, dir, false))
        return true;
    return row->r_parent > 0 && row->l_parent == 0 && sx_tree_is_below(conn, row->r_parent, dir, true);
}

/* Rows with work or an error at or below dir: the parked ones of each provider first, then by due time. */
static GPtrArray *
collect(SxTree *tree, SxConn *conn, gint64 dir, guint limit)
{
    GPtrArray *rows = g_ptr_array_new_with_free_func((GDestroyNotify)sx_row_free);
    g_autoptr(GArray) ids = sx_tree_provider_ids(tree);
    for (guint i = 0; i < ids->len; i++) {
        gint64 id = g_array_index(ids, int, i);
        const char *const sql[] = {SX_ROW_SELECT "WHERE l.provider=?1 AND l.parked=1",
                                   SX_ROW_SELECT "WHERE l.provider=?1 AND l.pending>0 AND l.parked=0 ORDER BY l.due"};
        for (gsize k = 0; k < G_N_ELEMENTS(sql) && rows->len < limit; k++) {
            g_autoptr(SxStmt) s = sx_db_query(conn, sql[k], SX_INT(id));
            while (rows->len < limit && sx_db_next(s)) {
                g_autoptr(SxRow) row = sx_tree_row_read(s);
                if (concerns(conn, row, dir))
                    g_ptr_array_add(rows, g_steal_pointer(&row));
            }
        }
    }
    return rows;
}

void
sx_tree_each_pending(SxTree *tree, gint64 dir, guint limit, SxRowFn fn, void *data)
{
    SxConn *conn = sx_db_snapshot(tree->db);
    g_autoptr(GPtrArray) rows = collect(tree, conn, dir, limit);
    sx_db_done(conn, 0);
    for (guint i = 0; i < rows->len; i++)
        if (!fn(data, rows->pdata[i]))
            break;
}

static int
retry_in(SxTree *tree, SxConn *conn, gint64 dir, bool errors_only, gint64 due_real_ms)
{
    g_autoptr(GPtrArray) rows = collect(tree, conn, dir, G_MAXUINT);
    for (guint i = 0; i < rows->len; i++) {
        const SxRow *row = rows->pdata[i];
        if (errors_only && !row->parked && row->tries == 0)
            continue;
        if (errors_only)
            sx_db_run(conn, "UPDATE link SET parked=0,tries=0,err=NULL,err_text=NULL,due=?2 WHERE id=?1", SX_INT(row->id),
                      SX_INT(due_real_ms));
        else if (!row->parked)
            sx_db_run(conn, "UPDATE link SET due=?2 WHERE id=?1", SX_INT(row->id), SX_INT(due_real_ms));
    }
    return 0;
}

static bool
retry(SxTree *tree, gint64 dir, bool errors_only, gint64 due_real_ms)
{
    SxConn *conn;
    return sx_tree_begin(tree, &conn) == 0 && sx_tree_end(conn, retry_in(tree, conn, dir, errors_only, due_real_ms)) == 0;
}

bool
sx_tree_clear_errors(SxTree *tree, gint64 dir)
{
    return retry(tree, dir, true, sx_clock_real_ms(tree->clock));
}

bool
sx_tree_hurry(SxTree *tree, gint64 dir, gint64 now_real_ms)
{
    return retry(tree, dir, false, now_real_ms);
}

bool
sx_tree_postpone(SxTree *tree, const gint64 *rows, guint n, gint64 due_real_ms)
{
    SxConn *conn;
    if (sx_tree_begin(tree, &conn) != 0)
        return false;
    for (guint i = 0; i < n; i++)
        sx_db_run(conn, "UPDATE link SET due=?2 WHERE id=?1 AND pending>0", SX_INT(rows[i]), SX_INT(due_real_ms));
    return sx_tree_end(conn, 0) == 0;
}
