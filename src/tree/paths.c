/* Where things are on the provider, by remote sides. */
#include "tree/tree_i.h"

#include "base/path.h"

#include <string.h>

static char *
remote_path_in(SxTree *tree, SxConn *conn, gint64 dir)
{
    g_autoptr(GPtrArray) parts = g_ptr_array_new_with_free_func(g_free);
    while (!sx_tree_is_provider_root(tree, dir)) {
        g_autoptr(SxStmt) s =
            sx_db_query(conn, "SELECT r_parent,r_name FROM link WHERE ino=?1 AND ino>0 AND r_parent>0 LIMIT 1", SX_INT(dir));
        if (!sx_db_next(s) || parts->len > SX_TREE_DEPTH_MAX)
            return NULL;
        g_ptr_array_insert(parts, 0, g_strdup(sx_db_text(s, 1)));
        dir = sx_db_int(s, 0);
    }
    g_ptr_array_add(parts, NULL);
    return g_strjoinv("/", (char **)parts->pdata);
}

char *
sx_tree_remote_path(SxTree *tree, gint64 dir_ino)
{
    SxConn *conn = sx_db_snapshot(tree->db);
    char *path = remote_path_in(tree, conn, dir_ino);
    sx_db_done(conn, 0);
    return path;
}

char *
sx_tree_row_remote_path(SxTree *tree, gint64 id)
{
    SxConn *conn = sx_db_snapshot(tree->db);
    g_autoptr(SxRow) row = sx_tree_row_load(conn, id);
    g_autofree char *dir = row != NULL && row->r_parent > 0 ? remote_path_in(tree, conn, row->r_parent) : NULL;
    sx_db_done(conn, 0);
    return dir != NULL ? sx_path_join(dir, row->r_name) : NULL;
}

static GArray *
ancestors(SxTree *tree, gint64 dir, bool remote)
{
    GArray *found = g_array_new(FALSE, FALSE, sizeof(gint64));
    SxConn *conn = sx_db_snapshot(tree->db);
    while (dir > SX_ROOT_INO && found->len < SX_TREE_DEPTH_MAX) {
        g_array_append_val(found, dir);
        dir = sx_tree_parent_of(conn, dir, remote);
    }
    sx_db_done(conn, 0);
    return found;
}

GArray *
sx_tree_remote_ancestors(SxTree *tree, gint64 dir_ino)
{
    return ancestors(tree, dir_ino, true);
}

GArray *
sx_tree_local_ancestors(SxTree *tree, gint64 dir_ino)
{
    return ancestors(tree, dir_ino, false);
}

static gint64
child_dir(SxConn *conn, gint64 dir, const char *name)
{
    return sx_db_get_int(conn, 0, "SELECT ino FROM link WHERE r_parent=?1 AND r_name=?2 AND r_parent>0 AND kind=2", SX_INT(dir),
                         SX_TEXT(name));
}

bool
sx_tree_find_remote_dir(SxTree *tree, int provider, const char *path, gint64 *ret_ino)
{
    gint64 dir = sx_tree_provider_root(tree, provider);
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    SxConn *conn = sx_db_snapshot(tree->db);
    for (char **p = parts; dir > 0 && *p != NULL; p++)
        if (**p != '\0')
            dir = child_dir(conn, dir, *p);
    if (sx_db_done(conn, 0) != 0 || dir <= 0)
        return false;
    *ret_ino = dir;
    return true;
}

/* Those listed from `first` to `last`, both included. */
static void
stale_between(SxConn *conn, int provider, gint64 used_after, gint64 first, gint64 last, guint limit, GArray *found)
{
    SxStmt *s = sx_db_query(conn,
                            "SELECT i.ino FROM inode i INDEXED BY inode_dirs WHERE i.kind=2 AND i.provider=?1 AND i.listed_ms BETWEEN ?2 AND ?3 "
                            "AND i.listed=1 AND i.used_ms>=?4 AND EXISTS(SELECT 1 FROM link l WHERE l.ino=i.ino AND l.ino>0 AND "
                            "(l.r_parent>0 OR l.l_parent=1)) ORDER BY i.listed_ms LIMIT ?5",
                            SX_INT(provider), SX_INT(first), SX_INT(last), SX_INT(used_after), SX_INT(limit));
    while (sx_db_next(s)) {
        gint64 ino = sx_db_int(s, 0);
        g_array_append_val(found, ino);
    }
    sx_db_finish(s);
}

/* A time of listing that is still to come was taken before the clock was put back: nobody knows how old the listing is. */
GArray *
sx_tree_stale_dirs(SxTree *tree, int provider, gint64 used_after_real_ms, gint64 listed_before_real_ms, guint limit)
{
    GArray *found = g_array_new(FALSE, FALSE, sizeof(gint64));
    gint64 now = sx_clock_real_ms(tree->clock);
    SxConn *conn = sx_db_read(tree->db);
    stale_between(conn, provider, used_after_real_ms, G_MININT64, listed_before_real_ms - 1, limit, found);
    if (found->len < limit && listed_before_real_ms <= now)
        stale_between(conn, provider, used_after_real_ms, now + 1, G_MAXINT64, limit - found->len, found);
    sx_db_done(conn, 0);
    return found;
}
