/* What remains to be done: decided for a row in one function, found by one index. */
#include "tree/tree_i.h"

#include "base/path.h"

#include <errno.h>
#include <fnmatch.h>
#include <string.h>

bool
sx_tree_stays_local(SxTree *tree, SxKind kind, const char *name, const SxTreeCaps *caps)
{
    if (kind == SX_KIND_DIR)
        return false;
    if (kind != SX_KIND_FILE && !(kind == SX_KIND_SYMLINK && caps->symlinks))
        return true;
    if (tree->keep_local == NULL)
        return sx_name_is_temporary(name);
    for (char **glob = tree->keep_local; *glob != NULL; glob++)
        if (fnmatch(*glob, name, 0) == 0)
            return true;
    return false;
}

static bool
times_differ(gint64 a, gint64 b, gint64 precision)
{
    return a > b ? a - b >= precision : b - a >= precision;
}

static bool
attr_differs(const SxRow *row, const SxTreeCaps *caps)
{
    if (caps->set_mode && row->r_mode >= 0 && (guint32)row->r_mode != row->mode && row->kind != SX_KIND_SYMLINK)
        return true;
    return row->kind == SX_KIND_FILE && caps->set_mtime && row->r_mtime_ns != SX_TIME_UNKNOWN && !row->verify &&
           times_differ(row->mtime_ns, row->r_mtime_ns, caps->mtime_precision_ns);
}

unsigned
sx_tree_pending_bits(SxTree *tree, const SxRow *row)
{
    if (row->l_parent == SX_ROOT_INO)
        return 0; /* a provider's root: on both sides always */
    unsigned verify = row->verify && row->r_parent != 0 ? SX_PENDING_VERIFY : 0;
    verify |= row->t_parent != 0 ? SX_PENDING_TARGET : 0;
    if (row->l_parent == 0)
        return (row->r_parent != 0 ? SX_PENDING_DELETE : 0) | verify;
    SxTreeCaps caps;
    sx_tree_caps(tree, row->provider, &caps);
    if (row->r_parent == 0)
        return sx_tree_stays_local(tree, row->kind, row->l_name, &caps) ? verify : SX_PENDING_CREATE | verify;
    unsigned bits = verify;
    if (row->l_parent != row->r_parent || strcmp(row->l_name, row->r_name) != 0)
        bits |= SX_PENDING_MOVE;
    if (row->kind == SX_KIND_FILE && row->r_gen != row->gen)
        bits |= SX_PENDING_CONTENT;
    else if (attr_differs(row, &caps))
        bits |= SX_PENDING_ATTR;
    return bits;
}

/* ---- facts ---- */

/* Is every directory from ino up to the provider's root where it shall be on the provider? Remembered for the batch. */
static bool
chain_clean(SxTree *tree, SxConn *conn, GHashTable *known, gint64 ino)
{
    if (sx_tree_is_provider_root(tree, ino))
        return true;
    gpointer found;
    if (g_hash_table_lookup_extended(known, &ino, NULL, &found))
        return GPOINTER_TO_INT(found) != 0;
    gint64 up = 0;
    bool clean = false;
    {
        g_autoptr(SxStmt) s = sx_db_query(conn, "SELECT l_parent,pending FROM link WHERE ino=?1 AND ino>0 LIMIT 1", SX_INT(ino));
        if (sx_db_next(s)) {
            up = sx_db_int(s, 0);
            clean = (sx_db_int(s, 1) & (SX_PENDING_CREATE | SX_PENDING_MOVE | SX_PENDING_DELETE)) == 0;
        }
    }
    clean = clean && up > 0 && chain_clean(tree, conn, known, up);
    g_hash_table_insert(known, g_memdup2(&ino, sizeof ino), GINT_TO_POINTER(clean));
    return clean;
}

static void
add_facts(SxTree *tree, SxConn *conn, GHashTable *known, SxRow *row)
{
    row->parent_ready = row->parent_chain_clean = true;
    if (row->l_parent > SX_ROOT_INO) {
        row->parent_ready = sx_tree_is_provider_root(tree, row->l_parent) || sx_tree_parent_of(conn, row->l_parent, true) > 0;
        row->parent_chain_clean = chain_clean(tree, conn, known, row->l_parent);
        row->occupant = sx_db_get_int(conn, 0, "SELECT id FROM link WHERE r_parent=?1 AND r_name=?2 AND r_parent>0 AND id<>?3",
                                      SX_INT(row->l_parent), SX_TEXT(row->l_name), SX_INT(row->id));
        if (row->occupant == 0)
            row->occupant = sx_db_get_int(conn, 0, "SELECT id FROM link WHERE t_parent=?1 AND t_name=?2 AND t_parent>0 AND id<>?3",
                                          SX_INT(row->l_parent), SX_TEXT(row->l_name), SX_INT(row->id));
    }
    if (row->kind == SX_KIND_DIR)
        row->remote_children =
            sx_db_get_int(conn, 0, "SELECT 1 FROM link WHERE r_parent=?1 AND r_parent>0 LIMIT 1", SX_INT(row->ino)) != 0 ||
            sx_db_get_int(conn, 0, "SELECT 1 FROM link WHERE t_parent=?1 AND t_parent>0 LIMIT 1", SX_INT(row->ino)) != 0;
}

static GHashTable *
known_new(void)
{
    return g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
}

/* ---- queries ---- */

static void
read_due(SxConn *conn, int provider, gint64 from, gint64 to, guint limit, GPtrArray *rows)
{
    g_autoptr(SxStmt) s = sx_db_query(conn,
                                      SX_ROW_SELECT "WHERE l.provider=?1 AND l.pending>0 AND l.parked=0 AND l.due>=?2 AND "
                                                    "l.due<=?3 ORDER BY l.due LIMIT ?4",
                                      SX_INT(provider), SX_INT(from), SX_INT(to), SX_INT(limit));
    while (sx_db_next(s))
        g_ptr_array_add(rows, sx_tree_row_read(s));
}

static gint
by_due(gconstpointer a, gconstpointer b)
{
    const SxRow *x = *(SxRow *const *)a, *y = *(SxRow *const *)b;
    if (x->due_real_ms != y->due_real_ms)
        return x->due_real_ms < y->due_real_ms ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static GArray *
providers_or(SxTree *tree, int provider)
{
    if (provider == 0)
        return sx_tree_provider_ids(tree);
    GArray *one = g_array_new(FALSE, FALSE, sizeof(int));
    g_array_append_val(one, provider);
    return one;
}

GPtrArray *
sx_tree_pending(SxTree *tree, int provider, gint64 now_real_ms, guint limit)
{
    GPtrArray *rows = g_ptr_array_new_with_free_func((GDestroyNotify)sx_row_free);
    g_autoptr(GArray) ids = providers_or(tree, provider);
    SxConn *conn = sx_db_snapshot(tree->db);
    for (guint i = 0; i < ids->len; i++) {
        int id = g_array_index(ids, int, i);
        guint before = rows->len;
        read_due(conn, id, G_MININT64, now_real_ms, limit, rows);
        if (rows->len - before < limit)
            read_due(conn, id, now_real_ms + SX_DUE_ABSURD_MS, G_MAXINT64, limit - (rows->len - before), rows);
    }
    g_ptr_array_sort(rows, by_due);
    if (rows->len > limit)
        g_ptr_array_set_size(rows, (gint)limit);
    g_autoptr(GHashTable) known = known_new();
    for (guint i = 0; i < rows->len; i++)
        add_facts(tree, conn, known, rows->pdata[i]);
    sx_db_done(conn, 0);
    return rows;
}

SxRow *
sx_tree_row(SxTree *tree, gint64 id)
{
    SxConn *conn = sx_db_snapshot(tree->db);
    SxRow *row = sx_tree_row_load(conn, id);
    g_autoptr(GHashTable) known = known_new();
    if (row != NULL)
        add_facts(tree, conn, known, row);
    sx_db_done(conn, 0);
    return row;
}

SxRow *
sx_tree_row_of(SxTree *tree, gint64 ino)
{
    SxConn *conn = sx_db_snapshot(tree->db);
    SxStmt *s = sx_db_query(conn, SX_ROW_SELECT "WHERE l.ino=?1 AND l.ino>0 ORDER BY l.r_parent=0, l.r_gen DESC, l.id LIMIT 1", SX_INT(ino));
    SxRow *row = sx_db_next(s) ? sx_tree_row_read(s) : NULL;
    sx_db_finish(s);
    g_autoptr(GHashTable) known = known_new();
    if (row != NULL)
        add_facts(tree, conn, known, row);
    sx_db_done(conn, 0);
    return row;
}

static gint64
next_due_of(SxConn *conn, int provider, gint64 now)
{
    gint64 first = sx_db_get_int(
        conn, G_MAXINT64, "SELECT due FROM link WHERE provider=?1 AND pending>0 AND parked=0 ORDER BY due LIMIT 1", SX_INT(provider));
    gint64 last = sx_db_get_int(
        conn, 0, "SELECT due FROM link WHERE provider=?1 AND pending>0 AND parked=0 ORDER BY due DESC LIMIT 1", SX_INT(provider));
    return last >= now + SX_DUE_ABSURD_MS ? MIN(first, now) : first;
}

gint64
sx_tree_next_due(SxTree *tree)
{
    gint64 now = sx_clock_real_ms(tree->clock), next = G_MAXINT64;
    g_autoptr(GArray) ids = sx_tree_provider_ids(tree);
    SxConn *conn = sx_db_snapshot(tree->db);
    for (guint i = 0; i < ids->len; i++)
        next = MIN(next, next_due_of(conn, g_array_index(ids, int, i), now));
    sx_db_done(conn, 0);
    return next;
}
