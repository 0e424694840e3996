/* Rename in its three forms: to a free name, over something, and as an exchange. */
#include "tree/tree_i.h"

#include "base/path.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

typedef struct Move {
    SxTree *tree;
    SxConn *conn;
    gint64 from, to;        /* parents */
    const char *name;       /* there */
    gint64 due_real_ms;
    bool keep;
    SxRow *src, *dst;       /* dst NULL: the name is free */
} Move;

static bool
is_dir(const SxRow *row)
{
    return row->kind == SX_KIND_DIR;
}

static int
check_parents(Move *m)
{
    SxAttr from, to;
    if (m->from == SX_ROOT_INO || m->to == SX_ROOT_INO)
        return -EPERM;
    int rc = sx_tree_node(m->conn, m->from, &from);
    if (rc == 0)
        rc = sx_tree_node(m->conn, m->to, &to);
    if (rc != 0)
        return rc;
    if (from.kind != SX_KIND_DIR || to.kind != SX_KIND_DIR)
        return -ENOTDIR;
    if (to.nlink == 0)
        return -ENOENT;
    return from.provider != to.provider ? -EXDEV : 0;
}

static int
check_target(Move *m, unsigned flags)
{
    bool exchange = (flags & RENAME_EXCHANGE) != 0;
    if (m->dst == NULL && exchange)
        return -ENOENT;
    if (m->dst != NULL && (flags & RENAME_NOREPLACE) != 0)
        return -EEXIST;
    if (is_dir(m->src) && sx_tree_is_below(m->conn, m->to, m->src->ino, false))
        return -EINVAL;
    if (m->dst == NULL || m->dst->ino == m->src->ino)
        return 0;
    if (exchange)
        return is_dir(m->dst) && sx_tree_is_below(m->conn, m->from, m->dst->ino, false) ? -EINVAL : 0;
    if (is_dir(m->src) != is_dir(m->dst))
        return is_dir(m->dst) ? -EISDIR : -ENOTDIR;
    return is_dir(m->dst) && sx_tree_has_entries(m->conn, m->dst->ino) ? -ENOTEMPTY : 0;
}

static void
touch_parents(Move *m, int leaves, int enters)
{
    sx_tree_dir_changed(m->tree, m->conn, m->from, leaves);
    sx_tree_dir_changed(m->tree, m->conn, m->to, enters);
}

static void
touch_ctime(Move *m, gint64 ino)
{
    sx_db_run(m->conn, "UPDATE inode SET ctime=?2 WHERE ino=?1", SX_INT(ino), SX_INT(sx_clock_real_ns(m->tree->clock)));
}

static void
save_at(Move *m, SxRow *row, gint64 parent, const char *name)
{
    sx_tree_row_set_local(row, parent, name);
    row->due_real_ms = m->due_real_ms;
    sx_tree_row_unpark(row);
    sx_tree_row_save(m->tree, m->conn, row);
}

static void
exchange(Move *m)
{
    g_autofree char *src_name = g_strdup(m->src->l_name);
    g_autofree char *dst_name = g_strdup(m->dst->l_name);
    gint64 src = m->src->ino, dst = m->dst->ino;
    /* Off the index first: both names are taken. */
    sx_db_run(m->conn, "UPDATE link SET l_parent=0 WHERE id=?1", SX_INT(m->src->id));
    save_at(m, m->dst, m->from, src_name);
    save_at(m, m->src, m->to, dst_name);
    touch_ctime(m, src);
    touch_ctime(m, dst);
    int delta = is_dir(m->dst) - is_dir(m->src);
    touch_parents(m, delta, -delta);
}

/* Taking over the other's remote side means that the moved content is uploaded there, and that its own remote object goes.
 * So all of it must be here; and the victim's content must not be needed from the provider by another name of it. What is
 * not complete is moved on the provider instead. */
static bool
may_take_content(const Move *m)
{
    const SxRow *src = m->src, *dst = m->dst;
    return dst != NULL && dst->r_parent != 0 && src->kind == SX_KIND_FILE && dst->kind == SX_KIND_FILE && src->cached == 2 &&
           (dst->cached == 2 || sx_db_get_int(m->conn, 0, "SELECT nlink FROM inode WHERE ino=?1", SX_INT(dst->ino)) == 1);
}

/* The row that had the name keeps it and its remote side, and gets the moved inode; the other one is left to be deleted. */
static gint64
replace_content(Move *m)
{
    gint64 moved = m->src->ino, row = m->dst->id;
    m->dst->ino = moved;
    m->dst->gen = m->src->gen;
    m->dst->mode = m->src->mode;
    m->dst->mtime_ns = m->src->mtime_ns;
    m->dst->r_gen = 0;
    save_at(m, m->dst, m->to, m->name);
    sx_tree_row_hide(m->tree, m->conn, m->src, m->due_real_ms);
    return row;
}

static gint64
move_row(Move *m)
{
    if (m->dst != NULL)
        sx_tree_row_hide(m->tree, m->conn, m->dst, m->due_real_ms);
    sx_tree_row_place(m->tree, m->conn, m->src, m->to, m->name, m->due_real_ms);
    return m->src->id;
}

static int
move(Move *m, SxRenamed *ret)
{
    gint64 moved = m->src->ino, victim = m->dst != NULL ? m->dst->ino : 0;
    bool dir = is_dir(m->src);
    bool content = may_take_content(m);
    if (victim != 0)
        sx_tree_node(m->conn, victim, &ret->victim);
    gint64 row = content ? replace_content(m) : move_row(m);
    touch_ctime(m, moved);
    touch_parents(m, dir ? -1 : 0, dir && victim == 0 ? 1 : 0);
    ret->replaced = victim != 0;
    if (victim != 0)
        sx_tree_drop_name(m->tree, m->conn, victim, m->keep, &ret->victim);
    int rc = sx_tree_node(m->conn, moved, &ret->moved);
    ret->moved.row = row;
    return rc;
}

static int
rename_in(Move *m, const char *name, unsigned flags, SxRenamed *ret)
{
    int rc = check_parents(m);
    if (rc == 0)
        rc = sx_tree_check_name(name);
    if (rc == 0)
        rc = sx_tree_check_name(m->name);
    if (rc != 0)
        return rc;
    g_autoptr(SxRow) src = m->src = sx_tree_row_local(m->conn, m->from, name);
    if (src == NULL)
        return -ENOENT;
    g_autoptr(SxRow) dst = m->dst = sx_tree_row_local(m->conn, m->to, m->name);
    rc = check_target(m, flags);
    if (rc != 0)
        return rc;
    if (dst != NULL && dst->ino == src->ino)
        return sx_tree_node(m->conn, src->ino, &ret->moved); /* two names of one file: nothing happens, says POSIX */
    if ((flags & RENAME_EXCHANGE) == 0)
        return move(m, ret);
    exchange(m);
    return sx_tree_node(m->conn, src->ino, &ret->moved);
}

int
sx_tree_rename(SxTree *tree, gint64 parent, const char *name, gint64 new_parent, const char *new_name, unsigned flags,
               bool keep, gint64 due_real_ms, SxRenamed *ret)
{
    if ((flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE)) != 0 || (flags & RENAME_NOREPLACE && flags & RENAME_EXCHANGE))
        return -EINVAL;
    *ret = (SxRenamed){0};
    Move m = {.tree = tree, .from = parent, .to = new_parent, .name = new_name, .due_real_ms = due_real_ms, .keep = keep};
    int rc = sx_tree_begin(tree, &m.conn);
    return rc != 0 ? rc : sx_tree_end(m.conn, rename_in(&m, name, flags, ret));
}
