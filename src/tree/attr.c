/* Attributes, write sessions, orphans. */
#include "tree/tree_i.h"

#include <errno.h>

/* ---- setattr ---- */

static int
setattr_in(SxTree *tree, SxConn *conn, gint64 ino, unsigned set, const SxAttr *v, gint64 due_real_ms, SxAttr *ret)
{
    int rc = sx_tree_node(conn, ino, ret);
    if (rc != 0)
        return rc;
    if (set & SX_SET_MODE)
        ret->mode = v->mode & 07777;
    if (set & SX_SET_UID)
        ret->uid = v->uid;
    if (set & SX_SET_GID)
        ret->gid = v->gid;
    if (set & SX_SET_ATIME)
        ret->atime_ns = v->atime_ns;
    if (set & SX_SET_MTIME)
        ret->mtime_ns = v->mtime_ns;
    ret->ctime_ns = set & SX_SET_CTIME ? v->ctime_ns : sx_clock_real_ns(tree->clock);
    sx_db_run(conn, "UPDATE inode SET mode=?2,uid=?3,gid=?4,atime=?5,mtime=?6,ctime=?7 WHERE ino=?1", SX_INT(ino),
              SX_INT(ret->mode), SX_INT(ret->uid), SX_INT(ret->gid), SX_INT(ret->atime_ns), SX_INT(ret->mtime_ns),
              SX_INT(ret->ctime_ns));
    if (set & (SX_SET_MODE | SX_SET_MTIME))
        sx_tree_rows_refresh(tree, conn, ino, due_real_ms);
    return 0;
}

int
sx_tree_setattr(SxTree *tree, gint64 ino, unsigned set, const SxAttr *values, gint64 due_real_ms, SxAttr *ret)
{
    if (ino == SX_ROOT_INO)
        return -EPERM;
    SxConn *conn;
    int rc = sx_tree_begin(tree, &conn);
    return rc != 0 ? rc : sx_tree_end(conn, setattr_in(tree, conn, ino, set, values, due_real_ms, ret));
}

/* ---- write sessions ---- */

static int
write_begin_in(SxTree *tree, SxConn *conn, gint64 ino, SxAttr *ret)
{
    int rc = sx_tree_node(conn, ino, ret);
    if (rc != 0)
        return rc;
    if (ret->kind != SX_KIND_FILE)
        return ret->kind == SX_KIND_DIR ? -EISDIR : -EINVAL;
    ret->gen = sx_tree_next(tree, conn);
    ret->writing = true;
    ret->dirty = true;
    sx_db_run(conn, "UPDATE inode SET gen=?2, writing=1 WHERE ino=?1", SX_INT(ino), SX_INT(ret->gen));
    sx_tree_rows_refresh(tree, conn, ino, -1);
    return 0;
}

int
sx_tree_write_begin(SxTree *tree, gint64 ino, SxAttr *ret)
{
    SxConn *conn;
    int rc = sx_tree_begin(tree, &conn);
    return rc != 0 ? rc : sx_tree_end(conn, write_begin_in(tree, conn, ino, ret));
}

static int
write_end_in(SxTree *tree, SxConn *conn, SxAttr *now, bool done, gint64 due_real_ms)
{
    gint64 size = now->size, mtime_ns = now->mtime_ns, ino = now->ino;
    int rc = sx_tree_node(conn, ino, now);
    if (rc != 0)
        return rc;
    now->size = size;
    now->mtime_ns = mtime_ns;
    now->ctime_ns = sx_clock_real_ns(tree->clock);
    now->writing = now->writing && !done;
    sx_db_run(conn, "UPDATE inode SET size=?2,mtime=?3,ctime=?4,writing=?5,used_ms=?6 WHERE ino=?1", SX_INT(ino),
              SX_INT(size), SX_INT(mtime_ns), SX_INT(now->ctime_ns), SX_INT(now->writing),
              SX_INT(now->ctime_ns / 1000000));
    sx_tree_rows_refresh(tree, conn, ino, due_real_ms);
    return 0;
}

int
sx_tree_write_end(SxTree *tree, gint64 ino, gint64 size, gint64 mtime_ns, bool done, gint64 due_real_ms, SxAttr *ret)
{
    if (size < 0)
        return -EINVAL;
    SxConn *conn;
    int rc = sx_tree_begin(tree, &conn);
    if (rc != 0)
        return rc;
    *ret = (SxAttr){.ino = ino, .size = size, .mtime_ns = mtime_ns};
    return sx_tree_end(conn, write_end_in(tree, conn, ret, done, due_real_ms));
}

/* ---- at start ---- */

static GArray *
numbers(SxTree *tree, const char *sql)
{
    GArray *found = g_array_new(FALSE, FALSE, sizeof(gint64));
    SxConn *conn = sx_db_read(tree->db);
    SxStmt *s = sx_db_query_values(conn, sql, NULL, 0);
    while (sx_db_next(s)) {
        gint64 ino = sx_db_int(s, 0);
        g_array_append_val(found, ino);
    }
    sx_db_finish(s);
    sx_db_done(conn, 0);
    return found;
}

GArray *
sx_tree_unfinished(SxTree *tree)
{
    return numbers(tree, "SELECT ino FROM inode WHERE writing=1 ORDER BY ino");
}

GArray *
sx_tree_orphans(SxTree *tree)
{
    return numbers(tree, "SELECT i.ino FROM inode i WHERE i.nlink=0 AND "
                         "NOT EXISTS(SELECT 1 FROM link l WHERE l.ino=i.ino AND l.ino>0) ORDER BY i.ino");
}

int
sx_tree_drop_orphan(SxTree *tree, gint64 ino)
{
    SxConn *conn;
    int rc = sx_tree_begin(tree, &conn);
    if (rc != 0)
        return rc;
    if (sx_db_get_int(conn, 0,
                      "SELECT 1 FROM inode i WHERE i.ino=?1 AND i.nlink=0 AND "
                      "NOT EXISTS(SELECT 1 FROM link l WHERE l.ino=i.ino AND l.ino>0)",
                      SX_INT(ino)) != 0)
        sx_tree_inode_delete(conn, ino);
    return sx_tree_end(conn, 0);
}

int
sx_tree_touch(SxTree *tree, gint64 ino, gint64 used_real_ms)
{
    SxConn *conn = sx_db_read(tree->db);
    gint64 used = sx_db_get_int(conn, G_MAXINT64, "SELECT used_ms FROM inode WHERE ino=?1", SX_INT(ino));
    int rc = sx_db_done(conn, 0);
    if (rc != 0 || used == G_MAXINT64 || ABS(used_real_ms - used) < SX_TOUCH_COARSE_MS)
        return rc;
    rc = sx_tree_begin(tree, &conn);
    if (rc != 0)
        return rc;
    sx_db_run(conn, "UPDATE inode SET used_ms=?2 WHERE ino=?1", SX_INT(ino), SX_INT(used_real_ms));
    return sx_tree_end(conn, 0);
}

bool
sx_tree_touch_dir(SxTree *tree, gint64 dir, gint64 used_real_ms)
{
    return sx_tree_touch(tree, dir, used_real_ms) == 0;
}
