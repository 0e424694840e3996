/* The namespace as programs change it. Every function is one transaction; the rules of rename and of taking over a
 * remote side are told in tree.h. */
#include "tree/tree_i.h"

#include "base/path.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LINK_MAX_COUNT 65000

/* ---- inodes ---- */

void
sx_tree_inode_insert(SxTree *tree, SxConn *conn, SxAttr *a, const char *target)
{
    gint64 now = sx_clock_real_ns(tree->clock);
    a->ino = sx_tree_next(tree, conn);
    gint64 *times[] = {&a->atime_ns, &a->mtime_ns, &a->ctime_ns, &a->btime_ns};
    for (gsize i = 0; i < G_N_ELEMENTS(times); i++)
        if (*times[i] == 0)
            *times[i] = now;
    if (a->kind == SX_KIND_FILE && a->gen == 0)
        a->gen = sx_tree_next(tree, conn);
    if (a->cver == 0)
        a->cver = 1;
    sx_db_run(conn,
              "INSERT INTO inode(ino,provider,kind,mode,uid,gid,rdev,nlink,size,atime,mtime,ctime,btime,gen,cver,cached,"
              "listed,listed_ms,used_ms,target) "
              "VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20)",
              SX_INT(a->ino), SX_INT(a->provider), SX_INT(a->kind), SX_INT(a->mode), SX_INT(a->uid), SX_INT(a->gid),
              SX_INT(a->rdev), SX_INT(a->nlink), SX_INT(a->size), SX_INT(a->atime_ns), SX_INT(a->mtime_ns),
              SX_INT(a->ctime_ns), SX_INT(a->btime_ns), SX_INT(a->gen), SX_INT(a->cver), SX_INT(a->cached),
              SX_INT(a->listed), SX_INT(a->listed_real_ms), SX_INT(now / 1000000), SX_TEXT(target));
}

void
sx_tree_inode_delete(SxConn *conn, gint64 ino)
{
    sx_db_run(conn, "DELETE FROM inode WHERE ino=?1", SX_INT(ino));
    sx_db_run(conn, "DELETE FROM xattr WHERE ino=?1", SX_INT(ino));
    sx_db_run(conn, "DELETE FROM conflict WHERE ino=?1", SX_INT(ino));
}

void
sx_tree_inode_drop_name(SxTree *tree, SxConn *conn, gint64 ino, bool keep)
{
    sx_db_run(conn, "UPDATE inode SET nlink=CASE kind WHEN 2 THEN 0 ELSE nlink-1 END, ctime=?2 WHERE ino=?1", SX_INT(ino),
              SX_INT(sx_clock_real_ns(tree->clock)));
    if (keep || sx_db_get_int(conn, 1, "SELECT nlink FROM inode WHERE ino=?1", SX_INT(ino)) > 0)
        return;
    if (sx_db_get_int(conn, 0, "SELECT count(*) FROM link WHERE ino=?1 AND ino>0", SX_INT(ino)) == 0)
        sx_tree_inode_delete(conn, ino);
}

void
sx_tree_dir_changed(SxTree *tree, SxConn *conn, gint64 dir, int nlink_delta)
{
    sx_db_run(conn, "UPDATE inode SET mtime=?2, ctime=?2, nlink=nlink+?3 WHERE ino=?1", SX_INT(dir),
              SX_INT(sx_clock_real_ns(tree->clock)), SX_INT(nlink_delta));
}

/* What is needed of a parent: kind, mode, gid, provider. */
static int
check_dir(SxConn *conn, gint64 dir, SxAttr *ret)
{
    if (dir == SX_ROOT_INO)
        return -EPERM;
    g_autoptr(SxStmt) s = sx_db_query(conn, "SELECT kind,nlink,mode,gid,provider FROM inode WHERE ino=?1", SX_INT(dir));
    if (!sx_db_next(s))
        return -ENOENT;
    *ret = (SxAttr){.ino = dir, .kind = (SxKind)sx_db_int(s, 0), .nlink = (guint32)sx_db_int(s, 1), .mode = (guint32)sx_db_int(s, 2),
                    .gid = (guint32)sx_db_int(s, 3), .provider = (int)sx_db_int(s, 4)};
    if (ret->kind != SX_KIND_DIR)
        return -ENOTDIR;
    return ret->nlink == 0 ? -ENOENT : 0;
}

int
sx_tree_check_name(const char *name)
{
    gsize len = strlen(name);
    if (sx_name_valid(name, len))
        return 0;
    return len > SX_NAME_MAX ? -ENAMETOOLONG : -EINVAL;
}

/* Parent exists, name may be used and is free. */
static int
check_new(SxConn *conn, gint64 parent, const char *name, SxAttr *ret_dir)
{
    int rc = sx_tree_check_name(name);
    if (rc == 0)
        rc = check_dir(conn, parent, ret_dir);
    if (rc != 0)
        return rc;
    return sx_db_get_int(conn, 0, "SELECT 1 FROM link WHERE l_parent=?1 AND l_name=?2 AND l_parent>0", SX_INT(parent),
                         SX_TEXT(name)) != 0
               ? -EEXIST
               : 0;
}

/* ---- rows ---- */

/* What was below the donor directory remotely is now below the taker; only rows shown there can become equal by that. */
static void
repoint_children(SxTree *tree, SxConn *conn, gint64 from, gint64 to)
{
    sx_db_run(conn, "UPDATE link SET r_parent=?2 WHERE r_parent=?1 AND r_parent>0", SX_INT(from), SX_INT(to));
    g_autoptr(GPtrArray) rows = sx_tree_rows(conn, SX_ROWS_BELOW_REMOTE, to);
    for (guint i = 0; i < rows->len; i++) {
        SxRow *row = rows->pdata[i];
        if (sx_tree_pending_bits(tree, row) != row->pending)
            sx_tree_row_save(tree, conn, row);
    }
}

void
sx_tree_take_over(SxTree *tree, SxConn *conn, SxRow *donor, const SxRow *taker, gint64 due_real_ms)
{
    if (taker->id != 0)
        sx_tree_row_delete(conn, taker->id);
    sx_tree_row_set_local(donor, taker->l_parent, taker->l_name);
    gint64 old = donor->ino;
    donor->ino = taker->ino;
    donor->gen = taker->gen;
    donor->mode = taker->mode;
    donor->mtime_ns = taker->mtime_ns;
    donor->r_gen = 0;
    donor->due_real_ms = due_real_ms;
    sx_tree_row_unpark(donor);
    sx_tree_row_save(tree, conn, donor);
    if (donor->kind == SX_KIND_DIR) {
        repoint_children(tree, conn, old, taker->ino);
        sx_tree_inode_delete(conn, old);
    }
}

/* Of the row's kind, waiting for deletion under (parent, name) on the provider. */
static SxRow *
find_donor(SxConn *conn, gint64 parent, const char *name, SxKind kind)
{
    if (kind != SX_KIND_FILE && kind != SX_KIND_DIR)
        return NULL;
    SxRow *row = sx_tree_row_remote(conn, parent, name);
    if (row != NULL && row->l_parent == 0 && row->t_parent == 0 && row->kind == kind)
        return row;
    sx_row_free(row);
    return NULL;
}

/* Makes the row shown at (parent, name), which is free. The row is saved, inserted, or replaced by a donor; its id then says. */
void
sx_tree_row_place(SxTree *tree, SxConn *conn, SxRow *row, gint64 parent, const char *name, gint64 due_real_ms)
{
    /* A content that is not all here must come from its own remote side first: no taking over. */
    bool here = row->kind != SX_KIND_FILE || row->cached == 2;
    g_autoptr(SxRow) donor = row->r_parent == 0 && row->t_parent == 0 && here ? find_donor(conn, parent, name, row->kind) : NULL;
    sx_tree_row_set_local(row, parent, name);
    row->due_real_ms = due_real_ms;
    sx_tree_row_unpark(row);
    if (donor != NULL) {
        sx_tree_take_over(tree, conn, donor, row, due_real_ms);
        row->id = donor->id;
    } else if (row->id != 0) {
        sx_tree_row_save(tree, conn, row);
    } else {
        sx_tree_row_insert(tree, conn, row);
    }
}

/* Moves a remote side from one row to another that has none; both are in memory, the caller saves them. */
static void
give_remote(SxTree *tree, SxConn *conn, SxRow *from, SxRow *to)
{
    sx_tree_row_set_remote(to, from->r_parent, from->r_name);
    char **a[] = {&to->r_id, &to->r_version, &to->r_hash, &to->base_version};
    char *const b[] = {from->r_id, from->r_version, from->r_hash, from->base_version};
    for (gsize i = 0; i < G_N_ELEMENTS(a); i++) {
        g_free(*a[i]);
        *a[i] = g_strdup(b[i]);
    }
    to->r_size = from->r_size;
    to->r_mtime_ns = from->r_mtime_ns;
    to->r_mode = from->r_mode;
    to->r_gen = from->r_gen;
    to->verify = from->verify;
    to->sent_real_ms = from->sent_real_ms;
    sx_tree_row_clear_remote(from);
    sx_tree_row_save(tree, conn, from); /* off the unique index first */
}

/* A hard-linked file whose content is not all here loses the name under which the provider has it: another name that is
 * not there yet takes over the remote side (a move there), else its content would be gone with the deletion. */
static void
save_source(SxTree *tree, SxConn *conn, SxRow *row, gint64 due_real_ms)
{
    if (row->kind != SX_KIND_FILE || row->cached == 2 || row->r_parent == 0 || row->r_gen == 0)
        return;
    g_autoptr(GPtrArray) rows = sx_tree_rows(conn, SX_ROWS_OF_INO, row->ino);
    SxRow *heir = NULL;
    for (guint i = 0; i < rows->len; i++) {
        SxRow *other = rows->pdata[i];
        if (other->id == row->id)
            continue;
        if (other->r_parent != 0 && other->r_gen == row->r_gen)
            return;
        if (other->l_parent != 0 && other->r_parent == 0 && heir == NULL)
            heir = other;
    }
    if (heir == NULL)
        return;
    give_remote(tree, conn, row, heir);
    heir->due_real_ms = due_real_ms;
    sx_tree_row_save(tree, conn, heir);
}

void
sx_tree_row_hide(SxTree *tree, SxConn *conn, SxRow *row, gint64 due_real_ms)
{
    save_source(tree, conn, row, due_real_ms);
    if (row->r_parent == 0 && row->t_parent == 0) {
        sx_tree_row_delete(conn, row->id);
        return;
    }
    sx_tree_row_set_local(row, 0, NULL);
    if (row->kind != SX_KIND_DIR)
        row->ino = 0;
    row->due_real_ms = due_real_ms;
    sx_tree_row_unpark(row);
    sx_tree_row_save(tree, conn, row);
    /* Its remote name may have been taken anew before it was deleted here. */
    if (row->r_parent == 0 || row->t_parent != 0)
        return;
    g_autoptr(SxRow) taker = sx_tree_row_local(conn, row->r_parent, row->r_name);
    if (taker != NULL && taker->r_parent == 0 && taker->t_parent == 0 && taker->kind == row->kind &&
        ((row->kind == SX_KIND_FILE && taker->cached == 2) || row->kind == SX_KIND_DIR))
        sx_tree_take_over(tree, conn, row, taker, due_real_ms);
}

/* ---- create, link ---- */

static SxAttr
attr_of_new(const SxNew *new_, int provider)
{
    return (SxAttr){.provider = provider,
                    .kind = new_->kind,
                    .mode = new_->mode & 07777,
                    .uid = new_->uid,
                    .gid = new_->gid,
                    .rdev = new_->rdev,
                    .size = new_->target != NULL ? (gint64)strlen(new_->target) : 0,
                    .nlink = new_->kind == SX_KIND_DIR ? 2 : 1,
                    .cached = 2,
                    .listed = new_->kind == SX_KIND_DIR};
}

static SxRow
row_of_inode(const SxAttr *a)
{
    return (SxRow){.ino = a->ino, .provider = a->provider, .kind = a->kind, .gen = a->gen, .cached = a->cached, .mode = a->mode,
                   .mtime_ns = a->mtime_ns, .r_size = -1, .r_mtime_ns = SX_TIME_UNKNOWN, .r_mode = -1, .err = SX_N_ERRORS};
}

static int
create_in(SxTree *tree, SxConn *conn, gint64 parent, const char *name, const SxNew *new_, SxAttr *ret)
{
    SxAttr dir;
    int rc = check_new(conn, parent, name, &dir);
    if (rc != 0)
        return rc;
    SxAttr attr = attr_of_new(new_, dir.provider);
    bool is_dir = attr.kind == SX_KIND_DIR;
    if ((dir.mode & S_ISGID) != 0) {
        attr.gid = dir.gid;
        attr.mode |= is_dir ? S_ISGID : 0;
    }
    sx_tree_inode_insert(tree, conn, &attr, new_->target);
    SxRow row = row_of_inode(&attr);
    sx_tree_row_place(tree, conn, &row, parent, name, new_->due_real_ms);
    g_free(row.l_name);
    sx_tree_dir_changed(tree, conn, parent, is_dir ? 1 : 0);
    attr.row = row.id;
    attr.dirty = attr.kind == SX_KIND_FILE;
    *ret = attr;
    return 0;
}

int
sx_tree_create(SxTree *tree, gint64 parent, const char *name, const SxNew *new_, SxAttr *ret)
{
    SxConn *conn;
    int rc = sx_tree_begin(tree, &conn);
    return rc != 0 ? rc : sx_tree_end(conn, create_in(tree, conn, parent, name, new_, ret));
}

int
sx_tree_create_orphan(SxTree *tree, int provider, const SxNew *new_, SxAttr *ret)
{
    if (new_->kind == SX_KIND_DIR)
        return -EINVAL;
    SxConn *conn;
    int rc = sx_tree_begin(tree, &conn);
    if (rc != 0)
        return rc;
    SxAttr attr = attr_of_new(new_, provider);
    attr.nlink = 0;
    attr.dirty = attr.kind == SX_KIND_FILE;
    sx_tree_inode_insert(tree, conn, &attr, new_->target);
    *ret = attr;
    return sx_tree_end(conn, 0);
}

static int
link_in(SxTree *tree, SxConn *conn, gint64 ino, gint64 parent, const char *name, gint64 due_real_ms, SxAttr *ret)
{
    SxAttr dir, attr;
    int rc = sx_tree_node(conn, ino, &attr);
    if (rc == 0 && attr.kind == SX_KIND_DIR)
        rc = -EPERM;
    if (rc == 0)
        rc = check_new(conn, parent, name, &dir);
    if (rc == 0 && dir.provider != attr.provider)
        rc = -EXDEV;
    if (rc == 0 && attr.nlink >= LINK_MAX_COUNT)
        rc = -EMLINK;
    if (rc != 0)
        return rc;
    SxRow row = row_of_inode(&attr);
    sx_tree_row_place(tree, conn, &row, parent, name, due_real_ms);
    g_free(row.l_name);
    sx_db_run(conn, "UPDATE inode SET nlink=nlink+1, ctime=?2 WHERE ino=?1", SX_INT(ino),
              SX_INT(sx_clock_real_ns(tree->clock)));
    sx_tree_dir_changed(tree, conn, parent, 0);
    rc = sx_tree_node(conn, ino, ret);
    ret->row = row.id;
    return rc;
}

int
sx_tree_link(SxTree *tree, gint64 ino, gint64 parent, const char *name, gint64 due_real_ms, SxAttr *ret)
{
    SxConn *conn;
    int rc = sx_tree_begin(tree, &conn);
    return rc != 0 ? rc : sx_tree_end(conn, link_in(tree, conn, ino, parent, name, due_real_ms, ret));
}

/* ---- unlink, rmdir ---- */

static int
find_shown(SxConn *conn, gint64 parent, const char *name, SxRow **ret_row)
{
    SxAttr dir;
    int rc = sx_tree_check_name(name);
    if (rc == 0)
        rc = check_dir(conn, parent, &dir);
    if (rc != 0)
        return rc;
    *ret_row = sx_tree_row_local(conn, parent, name);
    return *ret_row != NULL ? 0 : -ENOENT;
}

void
sx_tree_drop_name(SxTree *tree, SxConn *conn, gint64 ino, bool keep, SxAttr *ret)
{
    sx_tree_inode_drop_name(tree, conn, ino, keep);
    if (sx_tree_node(conn, ino, ret) != 0)
        ret->nlink = 0;
    if (ret->nlink == 0)
        ret->row = 0;
}

bool
sx_tree_has_entries(SxConn *conn, gint64 dir)
{
    return sx_db_get_int(conn, 0, "SELECT 1 FROM link WHERE l_parent=?1 AND l_parent>0 LIMIT 1", SX_INT(dir)) != 0;
}

static int
remove_in(SxTree *tree, SxConn *conn, gint64 parent, const char *name, bool dir, bool keep, gint64 due_real_ms, SxAttr *ret)
{
    g_autoptr(SxRow) row = NULL;
    int rc = find_shown(conn, parent, name, &row);
    if (rc != 0)
        return rc;
    if (dir != (row->kind == SX_KIND_DIR))
        return dir ? -ENOTDIR : -EISDIR;
    if (dir && sx_tree_has_entries(conn, row->ino))
        return -ENOTEMPTY;
    gint64 ino = row->ino;
    rc = sx_tree_node(conn, ino, ret);
    if (rc != 0)
        return rc;
    sx_tree_row_hide(tree, conn, row, due_real_ms);
    sx_tree_drop_name(tree, conn, ino, keep, ret);
    sx_tree_dir_changed(tree, conn, parent, dir ? -1 : 0);
    return 0;
}

int
sx_tree_unlink(SxTree *tree, gint64 parent, const char *name, bool keep, gint64 due_real_ms, SxAttr *ret)
{
    SxConn *conn;
    int rc = sx_tree_begin(tree, &conn);
    return rc != 0 ? rc : sx_tree_end(conn, remove_in(tree, conn, parent, name, false, keep, due_real_ms, ret));
}

int
sx_tree_rmdir(SxTree *tree, gint64 parent, const char *name, gint64 due_real_ms, SxAttr *ret)
{
    SxConn *conn;
    int rc = sx_tree_begin(tree, &conn);
    return rc != 0 ? rc : sx_tree_end(conn, remove_in(tree, conn, parent, name, true, false, due_real_ms, ret));
}
