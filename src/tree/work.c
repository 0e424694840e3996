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

static void
absent_free(gpointer data)
{
    SxAbsent *a = data;
    g_free(a->name);
    g_free(a);
}

GPtrArray *
sx_tree_absent(SxTree *tree)
{
    GPtrArray *found = g_ptr_array_new_with_free_func(absent_free);
    g_autoptr(GArray) here = sx_tree_provider_ids(tree);
    SxConn *conn = sx_db_snapshot(tree->db);
    SxStmt *s = sx_db_query_values(conn, "SELECT id,name FROM provider ORDER BY id", NULL, 0);
    while (sx_db_next(s)) {
        bool added = false;
        for (guint i = 0; i < here->len; i++)
            added |= g_array_index(here, int, i) == (int)sx_db_int(s, 0);
        gint64 n = added ? 0 : sx_db_get_int(conn, 0, "SELECT count(*) FROM link WHERE provider=?1 AND pending>0", SX_INT(sx_db_int(s, 0)));
        if (n == 0)
            continue;
        SxAbsent *a = g_new0(SxAbsent, 1);
        a->name = g_strdup(sx_db_text(s, 1));
        a->pending = n;
        g_ptr_array_add(found, a);
    }
    sx_db_finish(s);
    sx_db_done(conn, 0);
    return found;
}

/* ---- at or below a directory ---- */

typedef struct Below {
    SxConn *conn;
    gint64 dir;
    GHashTable *known[2]; /* by side: directory -> is it at or below dir; many rows share few directories */
} Below;

static bool
is_below(Below *b, gint64 ino, bool remote)
{
    gpointer found;
    if (g_hash_table_lookup_extended(b->known[remote], &ino, NULL, &found))
        return GPOINTER_TO_INT(found) != 0;
    bool below = sx_tree_is_below(b->conn, ino, b->dir, remote);
    g_hash_table_insert(b->known[remote], g_memdup2(&ino, sizeof ino), GINT_TO_POINTER(below));
    return below;
}

/* Is the row (id, ino, l_parent, r_parent) at or below dir on the side where it is: shown, or else remote? */
static bool
concerns(Below *b, SxStmt *s)
{
    gint64 l_parent = sx_db_int(s, 2), r_parent = sx_db_int(s, 3);
    if (b->dir == SX_ROOT_INO || sx_db_int(s, 1) == b->dir)
        return true;
    return l_parent > 0 ? is_below(b, l_parent, false) : r_parent > 0 && is_below(b, r_parent, true);
}

static void
collect_one(Below *b, const char *sql, int provider, guint limit, GArray *ids)
{
    g_autoptr(SxStmt) s = sx_db_query(b->conn, sql, SX_INT(provider));
    while (ids->len < limit && sx_db_next(s)) {
        gint64 id = sx_db_int(s, 0);
        if (concerns(b, s))
            g_array_append_val(ids, id);
    }
}

/* Rows with work or an error at or below dir: the parked ones of each provider first, then by due time. */
static GArray *
collect(SxTree *tree, SxConn *conn, gint64 dir, guint limit)
{
    GArray *ids = g_array_new(FALSE, FALSE, sizeof(gint64));
    Below b = {.conn = conn, .dir = dir};
    for (int i = 0; i < 2; i++)
        b.known[i] = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    g_autoptr(GArray) providers = sx_tree_provider_ids(tree);
    for (guint i = 0; i < providers->len; i++) {
        int provider = g_array_index(providers, int, i);
        collect_one(&b, "SELECT id,ino,l_parent,r_parent FROM link WHERE provider=?1 AND parked=1", provider, limit, ids);
        collect_one(&b, "SELECT id,ino,l_parent,r_parent FROM link WHERE provider=?1 AND pending>0 AND parked=0 ORDER BY due",
                    provider, limit, ids);
    }
    for (int i = 0; i < 2; i++)
        g_hash_table_unref(b.known[i]);
    return ids;
}

void
sx_tree_each_pending(SxTree *tree, gint64 dir, guint limit, SxRowFn fn, void *data)
{
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func((GDestroyNotify)sx_row_free);
    SxConn *conn = sx_db_snapshot(tree->db);
    g_autoptr(GArray) ids = collect(tree, conn, dir, limit);
    for (guint i = 0; i < ids->len; i++) {
        SxRow *row = sx_tree_row_load(conn, g_array_index(ids, gint64, i));
        if (row != NULL)
            g_ptr_array_add(rows, row);
    }
    sx_db_done(conn, 0);
    for (guint i = 0; i < rows->len; i++)
        if (!fn(data, rows->pdata[i]))
            break;
}

static int
retry_in(SxTree *tree, SxConn *conn, gint64 dir, bool errors_only, gint64 due_real_ms)
{
    g_autoptr(GArray) ids = collect(tree, conn, dir, G_MAXUINT);
    for (guint i = 0; i < ids->len; i++) {
        gint64 id = g_array_index(ids, gint64, i);
        if (errors_only)
            sx_db_run(conn, "UPDATE link SET parked=0,tries=0,err=NULL,err_text=NULL,due=?2 WHERE id=?1 AND (parked=1 OR tries>0)",
                      SX_INT(id), SX_INT(due_real_ms));
        else
            sx_db_run(conn, "UPDATE link SET due=?2 WHERE id=?1 AND parked=0 AND due>?2", SX_INT(id), SX_INT(due_real_ms));
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
sx_tree_postpone(SxTree *tree, const gint64 *rows, guint n, unsigned pending, gint64 due_real_ms)
{
    SxConn *conn;
    if (sx_tree_begin(tree, &conn) != 0)
        return false;
    for (guint i = 0; i < n; i++)
        sx_db_run(conn, "UPDATE link SET due=?2 WHERE id=?1 AND pending>0 AND (?3=0 OR pending=?3)", SX_INT(rows[i]),
                  SX_INT(due_real_ms), SX_INT(pending));
    return sx_tree_end(conn, 0) == 0;
}
