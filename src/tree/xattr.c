/* The user's own extended attributes. Which names may get here decides the vfs. */
#include "tree/tree_i.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#define XATTR_NAME_MAX_BYTES 255
#define XATTR_VALUE_MAX_BYTES (64 * 1024)
#define XATTR_COUNT_MAX 1000 /* of one inode */

static int
inode_exists(SxConn *conn, gint64 ino)
{
    return sx_db_get_int(conn, 0, "SELECT 1 FROM inode WHERE ino=?1", SX_INT(ino)) != 0 ? 0 : -ENOENT;
}

int
sx_tree_xattr_get(SxTree *tree, gint64 ino, const char *name, GBytes **ret)
{
    SxConn *conn = sx_db_read(tree->db);
    GBytes *value = NULL;
    SxStmt *s = sx_db_query(conn, "SELECT value FROM xattr WHERE ino=?1 AND name=?2", SX_INT(ino), SX_TEXT(name));
    if (sx_db_next(s)) {
        gsize n;
        const void *p = sx_db_blob(s, 0, &n);
        value = g_bytes_new(p, n);
    }
    sx_db_finish(s);
    int rc = value != NULL ? 0 : inode_exists(conn, ino);
    rc = sx_db_done(conn, rc == 0 && value == NULL ? -ENODATA : rc);
    if (rc == 0)
        *ret = value;
    else if (value != NULL)
        g_bytes_unref(value);
    return rc;
}

int
sx_tree_xattr_list(SxTree *tree, gint64 ino, GString *ret)
{
    SxConn *conn = sx_db_read(tree->db);
    int rc = inode_exists(conn, ino);
    SxStmt *s = sx_db_query(conn, "SELECT name FROM xattr WHERE ino=?1 ORDER BY name", SX_INT(ino));
    while (rc == 0 && sx_db_next(s)) {
        const char *name = sx_db_text(s, 0);
        g_string_append_len(ret, name, (gssize)strlen(name) + 1);
    }
    sx_db_finish(s);
    return sx_db_done(conn, rc);
}

static void
touch_ctime(SxTree *tree, SxConn *conn, gint64 ino)
{
    sx_db_run(conn, "UPDATE inode SET ctime=?2 WHERE ino=?1", SX_INT(ino), SX_INT(sx_clock_real_ns(tree->clock)));
}

static int
set_in(SxTree *tree, SxConn *conn, gint64 ino, const char *name, const void *value, gsize n, int flags)
{
    int rc = inode_exists(conn, ino);
    if (rc != 0)
        return rc;
    bool have = sx_db_get_int(conn, 0, "SELECT 1 FROM xattr WHERE ino=?1 AND name=?2", SX_INT(ino), SX_TEXT(name)) != 0;
    if (have && (flags & XATTR_CREATE) != 0)
        return -EEXIST;
    if (!have && (flags & XATTR_REPLACE) != 0)
        return -ENODATA;
    if (!have && sx_db_get_int(conn, 0, "SELECT count(*) FROM xattr WHERE ino=?1", SX_INT(ino)) >= XATTR_COUNT_MAX)
        return -ENOSPC;
    sx_db_run(conn, "INSERT OR REPLACE INTO xattr(ino,name,value) VALUES(?1,?2,?3)", SX_INT(ino), SX_TEXT(name), SX_BLOB(value, n));
    touch_ctime(tree, conn, ino);
    return 0;
}

int
sx_tree_xattr_set(SxTree *tree, gint64 ino, const char *name, const void *value, gsize n, int flags)
{
    if (*name == '\0' || strlen(name) > XATTR_NAME_MAX_BYTES)
        return -ERANGE;
    if (n > XATTR_VALUE_MAX_BYTES)
        return -E2BIG;
    SxConn *conn;
    int rc = sx_tree_begin(tree, &conn);
    return rc != 0 ? rc : sx_tree_end(conn, set_in(tree, conn, ino, name, value, n, flags));
}

static int
remove_in(SxTree *tree, SxConn *conn, gint64 ino, const char *name)
{
    int rc = inode_exists(conn, ino);
    if (rc != 0)
        return rc;
    sx_db_run(conn, "DELETE FROM xattr WHERE ino=?1 AND name=?2", SX_INT(ino), SX_TEXT(name));
    if (sx_db_changed(conn) == 0)
        return -ENODATA;
    touch_ctime(tree, conn, ino);
    return 0;
}

int
sx_tree_xattr_remove(SxTree *tree, gint64 ino, const char *name)
{
    SxConn *conn;
    int rc = sx_tree_begin(tree, &conn);
    return rc != 0 ? rc : sx_tree_end(conn, remove_in(tree, conn, ino, name));
}
