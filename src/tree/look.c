/* Reading the local side. */
#include "tree/tree_i.h"

#include "base/path.h"

#include <errno.h>
#include <string.h>

#define CHUNK_FIRST 32
#define CHUNK_MAX 512

#define ATTR_COLUMNS                                                                                                   \
    "i.ino,i.provider,i.kind,i.mode,i.uid,i.gid,i.rdev,i.size,i.atime,i.mtime,i.ctime,i.btime,i.nlink,i.gen,i.cver,"   \
    "i.cached,i.writing,i.listed,i.listed_ms"
/* Content the remote does not have. By the row at hand where that is enough; all rows of a hard-linked inode count. */
#define DIRTY_BY_ROW                                                                                                   \
    "CASE WHEN i.kind<>1 THEN 0 WHEN l.r_gen<>i.gen THEN 1 WHEN i.nlink>1 THEN "                                       \
    "EXISTS(SELECT 1 FROM link d WHERE d.ino=i.ino AND d.ino>0 AND d.r_gen<>i.gen) ELSE 0 END"
#define DIRTY_BY_INO                                                                                                   \
    "CASE WHEN i.kind<>1 THEN 0 ELSE NOT EXISTS(SELECT 1 FROM link d WHERE d.ino=i.ino AND d.ino>0) OR "               \
    "EXISTS(SELECT 1 FROM link d WHERE d.ino=i.ino AND d.ino>0 AND d.r_gen<>i.gen) END"
#define FIRST_ROW "(SELECT min(d.id) FROM link d WHERE d.ino=i.ino AND d.ino>0)"

static void
read_attr(SxStmt *s, SxAttr *a)
{
    int c = 0;
    a->ino = sx_db_int(s, c++);
    a->provider = (int)sx_db_int(s, c++);
    a->kind = (SxKind)sx_db_int(s, c++);
    a->mode = (guint32)sx_db_int(s, c++);
    a->uid = (guint32)sx_db_int(s, c++);
    a->gid = (guint32)sx_db_int(s, c++);
    a->rdev = (guint64)sx_db_int(s, c++);
    a->size = sx_db_int(s, c++);
    a->atime_ns = sx_db_int(s, c++);
    a->mtime_ns = sx_db_int(s, c++);
    a->ctime_ns = sx_db_int(s, c++);
    a->btime_ns = sx_db_int(s, c++);
    a->nlink = (guint32)sx_db_int(s, c++);
    a->gen = sx_db_int(s, c++);
    a->cver = sx_db_int(s, c++);
    a->cached = (int)sx_db_int(s, c++);
    a->writing = sx_db_int(s, c++) != 0;
    a->listed = sx_db_int(s, c++) != 0;
    a->listed_real_ms = sx_db_int(s, c++);
    a->row = sx_db_int(s, c++);
    a->dirty = sx_db_int(s, c++) != 0;
}

int
sx_tree_node(SxConn *conn, gint64 ino, SxAttr *ret)
{
    g_autoptr(SxStmt) s = sx_db_query(
        conn, "SELECT " ATTR_COLUMNS "," FIRST_ROW "," DIRTY_BY_INO " FROM inode i WHERE i.ino=?1", SX_INT(ino));
    if (!sx_db_next(s))
        return sx_db_error(conn) != 0 ? sx_db_error(conn) : -ENOENT;
    read_attr(s, ret);
    return 0;
}

/* The root of a provider that is not configured any more stays in the store, and is not shown. */
static bool
is_hidden_root(SxTree *tree, gint64 parent, gint64 ino)
{
    return parent == SX_ROOT_INO && !sx_tree_is_provider_root(tree, ino);
}

static int
lookup_in(SxTree *tree, SxConn *conn, gint64 parent, const char *name, SxAttr *ret)
{
    g_autoptr(SxStmt) s = sx_db_query(conn,
                                      "SELECT " ATTR_COLUMNS ",l.id," DIRTY_BY_ROW
                                      " FROM link l JOIN inode i ON i.ino=l.ino"
                                      " WHERE l.l_parent=?1 AND l.l_name=?2 AND l.l_parent>0",
                                      SX_INT(parent), SX_TEXT(name));
    if (!sx_db_next(s) || is_hidden_root(tree, parent, sx_db_int(s, 0)))
        return -ENOENT;
    read_attr(s, ret);
    return 0;
}

int
sx_tree_lookup(SxTree *tree, gint64 parent, const char *name, SxAttr *ret)
{
    SxConn *conn = sx_db_read(tree->db);
    return sx_db_done(conn, lookup_in(tree, conn, parent, name, ret));
}

int
sx_tree_getattr(SxTree *tree, gint64 ino, SxAttr *ret)
{
    SxConn *conn = sx_db_read(tree->db);
    return sx_db_done(conn, sx_tree_node(conn, ino, ret));
}

/* ---- readdir ---- */

typedef struct Entry {
    gint64 cookie;
    char *name;
    SxAttr attr;
} Entry;

static void
entry_clear(gpointer data)
{
    g_free(((Entry *)data)->name);
}

static int
read_chunk(SxTree *tree, gint64 dir, gint64 after, int limit, GArray *entries)
{
    SxConn *conn = sx_db_read(tree->db);
    SxStmt *s = sx_db_query(conn,
                            "SELECT " ATTR_COLUMNS ",l.id," DIRTY_BY_ROW ",l.l_name"
                            " FROM link l INDEXED BY link_dir JOIN inode i ON i.ino=l.ino"
                            " WHERE l.l_parent=?1 AND l.l_parent>0 AND l.id>?2 ORDER BY l.id LIMIT ?3",
                            SX_INT(dir), SX_INT(after), SX_INT(limit));
    while (sx_db_next(s)) {
        Entry e = {0};
        read_attr(s, &e.attr);
        e.cookie = e.attr.row;
        e.name = g_strdup(sx_db_text(s, 21));
        g_array_append_val(entries, e);
    }
    sx_db_finish(s);
    return sx_db_done(conn, 0);
}

int
sx_tree_readdir(SxTree *tree, gint64 dir, gint64 after, SxDirFn fn, void *data)
{
    for (int limit = CHUNK_FIRST;; limit = MIN(limit * 2, CHUNK_MAX)) {
        g_autoptr(GArray) entries = g_array_sized_new(FALSE, FALSE, sizeof(Entry), (guint)limit);
        g_array_set_clear_func(entries, entry_clear);
        int rc = read_chunk(tree, dir, after, limit, entries);
        if (rc != 0)
            return rc;
        for (guint i = 0; i < entries->len; i++) {
            const Entry *e = &g_array_index(entries, Entry, i);
            after = e->cookie;
            if (!is_hidden_root(tree, dir, e->attr.ino) && !fn(data, e->cookie, e->name, &e->attr))
                return 0;
        }
        if (entries->len < (guint)limit)
            return 0;
    }
}

/* ---- up and down ---- */

gint64
sx_tree_parent_of(SxConn *conn, gint64 ino, bool remote)
{
    if (remote)
        return sx_db_get_int(conn, 0, "SELECT r_parent FROM link WHERE ino=?1 AND ino>0 ORDER BY id LIMIT 1", SX_INT(ino));
    return sx_db_get_int(conn, 0, "SELECT l_parent FROM link WHERE ino=?1 AND ino>0 ORDER BY id LIMIT 1", SX_INT(ino));
}

bool
sx_tree_is_below(SxConn *conn, gint64 ino, gint64 ancestor, bool remote)
{
    for (int depth = 0; ino > 0 && depth < SX_TREE_DEPTH_MAX; depth++) {
        if (ino == ancestor)
            return true;
        ino = sx_tree_parent_of(conn, ino, remote);
    }
    return false;
}

bool
sx_tree_is_unsettled(SxConn *conn, gint64 dir)
{
    for (int depth = 0; dir > 0 && depth < SX_TREE_DEPTH_MAX; depth++) {
        if (sx_db_get_int(conn, 0, "SELECT 1 FROM link WHERE ino=?1 AND ino>0 AND t_parent>0 LIMIT 1", SX_INT(dir)) != 0)
            return true;
        dir = sx_tree_parent_of(conn, dir, true);
    }
    return false;
}

bool
sx_tree_remote_unsettled(SxTree *tree, gint64 dir)
{
    SxConn *conn = sx_db_snapshot(tree->db);
    bool yes = sx_tree_is_unsettled(conn, dir);
    sx_db_done(conn, 0);
    return yes;
}

int
sx_tree_parent(SxTree *tree, gint64 dir, gint64 *ret_parent)
{
    if (dir == SX_ROOT_INO) {
        *ret_parent = SX_ROOT_INO;
        return 0;
    }
    SxConn *conn = sx_db_read(tree->db);
    gint64 parent = sx_tree_parent_of(conn, dir, false);
    int rc = sx_db_done(conn, parent > 0 ? 0 : -ENOENT);
    if (rc == 0)
        *ret_parent = parent;
    return rc;
}

char *
sx_tree_path_in(SxConn *conn, gint64 ino)
{
    g_autoptr(GPtrArray) parts = g_ptr_array_new_with_free_func(g_free);
    while (ino != SX_ROOT_INO) {
        g_autoptr(SxStmt) s = sx_db_query(
            conn, "SELECT l_parent,l_name FROM link WHERE ino=?1 AND ino>0 AND l_parent>0 ORDER BY id LIMIT 1", SX_INT(ino));
        if (!sx_db_next(s) || parts->len > SX_TREE_DEPTH_MAX)
            return NULL;
        g_ptr_array_insert(parts, 0, g_strdup(sx_db_text(s, 1)));
        ino = sx_db_int(s, 0);
    }
    g_ptr_array_add(parts, NULL);
    return g_strjoinv("/", (char **)parts->pdata);
}

char *
sx_tree_path(SxTree *tree, gint64 ino)
{
    SxConn *conn = sx_db_snapshot(tree->db);
    char *path = sx_tree_path_in(conn, ino);
    sx_db_done(conn, 0);
    return path;
}

static int
resolve_in(SxTree *tree, SxConn *conn, const char *path, SxAttr *ret)
{
    int rc = sx_tree_node(conn, SX_ROOT_INO, ret);
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    for (char **p = parts; rc == 0 && *p != NULL; p++)
        if (**p != '\0')
            rc = ret->kind != SX_KIND_DIR ? -ENOTDIR : lookup_in(tree, conn, ret->ino, *p, ret);
    return rc;
}

int
sx_tree_resolve(SxTree *tree, const char *path, SxAttr *ret)
{
    SxConn *conn = sx_db_snapshot(tree->db);
    return sx_db_done(conn, resolve_in(tree, conn, path, ret));
}

char *
sx_tree_target(SxTree *tree, gint64 ino)
{
    SxConn *conn = sx_db_read(tree->db);
    SxStmt *s = sx_db_query(conn, "SELECT target FROM inode WHERE ino=?1", SX_INT(ino));
    char *target = sx_db_next(s) ? g_strdup(sx_db_text(s, 0)) : NULL;
    sx_db_finish(s);
    sx_db_done(conn, 0);
    return target;
}
