/* Pins, and what the cache knows of contents: which are here, which may go. */
#include "tree/tree_i.h"

#include <errno.h>

static bool
pinned_in(SxConn *conn, gint64 ino)
{
    for (int depth = 0; ino > 0 && depth < SX_TREE_DEPTH_MAX; depth++) {
        gint64 pin = sx_db_get_int(conn, -1, "SELECT pin FROM inode WHERE ino=?1", SX_INT(ino));
        if (pin >= 0)
            return pin == 1;
        ino = sx_tree_parent_of(conn, ino, false);
    }
    return false;
}

bool
sx_tree_pinned(SxTree *tree, gint64 ino)
{
    SxConn *conn = sx_db_snapshot(tree->db);
    bool pinned = pinned_in(conn, ino);
    sx_db_done(conn, 0);
    return pinned;
}

static int
pin_in(SxConn *conn, gint64 ino, int pin)
{
    SxAttr attr;
    int rc = sx_tree_node(conn, ino, &attr);
    if (rc != 0)
        return rc;
    /* Where nothing above is pinned, unpinned is the default: a later pin above shall include it. */
    gint64 parent = sx_tree_parent_of(conn, ino, false);
    int value = pin != 0 ? 1 : pinned_in(conn, parent) ? 0 : -1;
    sx_db_run(conn, "UPDATE inode SET pin=?2 WHERE ino=?1", SX_INT(ino), SX_INT(value));
    return 0;
}

int
sx_tree_pin(SxTree *tree, gint64 ino, int pin)
{
    SxConn *conn;
    int rc = sx_tree_begin(tree, &conn);
    return rc != 0 ? rc : sx_tree_end(conn, pin_in(conn, ino, pin));
}

GArray *
sx_tree_pin_missing(SxTree *tree, guint limit)
{
    GArray *found = g_array_new(FALSE, FALSE, sizeof(gint64));
    SxConn *conn = sx_db_read(tree->db);
    SxStmt *s = sx_db_query(conn,
                            "WITH RECURSIVE p(ino) AS (SELECT ino FROM inode WHERE pin=1 AND pin>=0 AND nlink>0 UNION "
                            "SELECT l.ino FROM p JOIN link l INDEXED BY link_dir ON l.l_parent=p.ino AND l.l_parent>0 "
                            "JOIN inode c ON c.ino=l.ino WHERE c.pin<>0) "
                            "SELECT i.ino FROM p JOIN inode i ON i.ino=p.ino "
                            "WHERE (i.kind=1 AND i.cached<2) OR (i.kind=2 AND i.listed=0) LIMIT ?1",
                            SX_INT(limit));
    while (sx_db_next(s)) {
        gint64 ino = sx_db_int(s, 0);
        g_array_append_val(found, ino);
    }
    sx_db_finish(s);
    sx_db_done(conn, 0);
    return found;
}

/* ---- contents ---- */

static int
set_cached_in(SxConn *conn, gint64 ino, gint64 cver, int cached)
{
    SxAttr attr;
    int rc = sx_tree_node(conn, ino, &attr);
    if (rc != 0)
        return rc;
    if (attr.cver != cver)
        return -ESTALE;
    if (attr.cached == cached)
        return 0;
    if (cached < attr.cached && (attr.dirty || attr.writing))
        return -EBUSY;
    if (cached == 0 && pinned_in(conn, ino))
        return -EBUSY;
    if (cached == 0 && sx_db_get_int(conn, 0, "SELECT 1 FROM link WHERE ino=?1 AND ino>0 AND verify<>0 LIMIT 1", SX_INT(ino)) != 0)
        return -EBUSY;
    sx_db_run(conn, "UPDATE inode SET cached=?2 WHERE ino=?1", SX_INT(ino), SX_INT(cached));
    return 0;
}

int
sx_tree_set_cached(SxTree *tree, gint64 ino, gint64 cver, int cached)
{
    if (cached < 0 || cached > 2)
        return -EINVAL;
    SxConn *conn = sx_db_read(tree->db);
    bool is = sx_db_get_int(conn, 0, "SELECT 1 FROM inode WHERE ino=?1 AND cver=?2 AND cached=?3", SX_INT(ino), SX_INT(cver),
                            SX_INT(cached)) != 0;
    int rc = sx_db_done(conn, 0);
    if (rc != 0 || is) /* as for every file that is made here: its row was born with it */
        return rc;
    rc = sx_tree_begin(tree, &conn);
    return rc != 0 ? rc : sx_tree_end(conn, set_cached_in(conn, ino, cver, cached));
}

/* A scan: an index by last use would cost each create more than eviction, which frees much at a time, ever gains. */
GArray *
sx_tree_evictable(SxTree *tree, guint limit)
{
    GArray *found = g_array_new(FALSE, FALSE, sizeof(SxEvictable));
    SxConn *conn = sx_db_snapshot(tree->db);
    SxStmt *s = sx_db_query(conn,
                            "SELECT i.ino,i.cver,i.size,i.used_ms FROM inode i "
                            "WHERE i.cached>0 AND i.kind=1 AND i.writing=0 AND i.nlink>0 AND NOT EXISTS(SELECT 1 FROM link l "
                            "WHERE l.ino=i.ino AND l.ino>0 AND (l.r_gen<>i.gen OR l.verify<>0)) ORDER BY i.used_ms");
    while (found->len < limit && sx_db_next(s)) {
        SxEvictable e = {sx_db_int(s, 0), sx_db_int(s, 1), sx_db_int(s, 2), sx_db_int(s, 3)};
        if (!pinned_in(conn, e.ino))
            g_array_append_val(found, e);
    }
    sx_db_finish(s);
    sx_db_done(conn, 0);
    return found;
}

bool
sx_tree_cver(SxTree *tree, gint64 ino, gint64 *ret_cver)
{
    SxConn *conn = sx_db_read(tree->db);
    gint64 cver = sx_db_get_int(conn, 0, "SELECT cver FROM inode WHERE ino=?1 AND kind=1", SX_INT(ino));
    /* An unreadable store must not look like an unknown inode, whose content may be thrown away. */
    if (sx_db_done(conn, 0) != 0 && cver == 0)
        cver = -1;
    if (cver != 0)
        *ret_cver = cver;
    return cver != 0;
}
