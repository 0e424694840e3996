/* What the remote side does to a row: the steps from which listings, results and conflicts are made. */
#include "tree/tree_i.h"

#include "base/path.h"

#include <string.h>

static void
set_text(char **where, const char *text)
{
    g_autofree char *old = *where;
    *where = g_strdup(text);
}

void
sx_tree_fill_remote(SxRow *row, const SxRemote *remote)
{
    if (remote->id != NULL)
        set_text(&row->r_id, remote->id);
    set_text(&row->r_version, remote->version != NULL ? remote->version : "");
    set_text(&row->r_hash, remote->hash);
    row->r_size = remote->size;
    row->r_mtime_ns = remote->mtime_ns;
    row->r_mode = remote->mode < 0 ? -1 : remote->mode & 07777;
}

void
sx_tree_set_base(SxRow *row)
{
    set_text(&row->base_version, row->r_version);
}

/* An inode with the remote's content, none of which is here yet. */
gint64
sx_tree_inode_of_remote(SxTree *tree, SxConn *conn, int provider, const SxRemote *remote, const SxAttr *like, gint64 *ret_gen)
{
    bool dir = remote->kind == SX_KIND_DIR;
    SxAttr a = {.provider = provider,
                .kind = remote->kind,
                .uid = like != NULL ? like->uid : tree->uid,
                .gid = like != NULL ? like->gid : tree->gid,
                .nlink = dir ? 2 : 1,
                .size = dir || remote->size < 0 ? 0 : remote->size,
                .cached = remote->kind == SX_KIND_FILE ? 0 : 2};
    a.mode = remote->mode >= 0 ? (guint32)remote->mode & 07777 : like != NULL ? like->mode : dir ? tree->dir_mode : tree->file_mode;
    if (remote->kind == SX_KIND_SYMLINK) {
        a.mode = 0777;
        a.size = remote->target != NULL ? (gint64)strlen(remote->target) : 0;
    }
    if (remote->mtime_ns != SX_TIME_UNKNOWN)
        a.atime_ns = a.mtime_ns = a.ctime_ns = a.btime_ns = remote->mtime_ns;
    if (remote->btime_ns != SX_TIME_UNKNOWN && remote->btime_ns != 0)
        a.btime_ns = remote->btime_ns;
    sx_tree_inode_insert(tree, conn, &a, remote->kind == SX_KIND_SYMLINK ? remote->target : NULL);
    *ret_gen = a.gen;
    return a.ino;
}

/* The row gets a new inode with the remote's content; what it had before is the caller's. */
void
sx_tree_row_renew(SxTree *tree, SxConn *conn, SxRow *row, const SxRemote *remote, const SxAttr *like)
{
    sx_tree_fill_remote(row, remote);
    sx_tree_set_base(row);
    row->ino = sx_tree_inode_of_remote(tree, conn, row->provider, remote, like, &row->gen);
    row->r_gen = row->gen;
    row->verify = false;
    row->writing = false;
    SxAttr now;
    if (sx_tree_node(conn, row->ino, &now) == 0) {
        row->mode = now.mode;
        row->mtime_ns = now.mtime_ns;
        row->size = now.size;
    }
}

/* Has every name of the inode its content, here or at its own object on the provider? */
static bool
others_can_stay(SxConn *conn, const SxAttr *attr, gint64 row)
{
    return attr->cached == 2 || sx_db_get_int(conn, 0, "SELECT 1 FROM link WHERE ino=?1 AND ino>0 AND id<>?2 AND r_gen<>?3 LIMIT 1",
                                              SX_INT(attr->ino), SX_INT(row), SX_INT(attr->gen)) == 0;
}

/* Clean content is replaced by the remote's. Other names of the inode keep what they have, their objects did not change;
 * unless one of them has its content only from this object: then the inode changes, under all its names. */
void
sx_tree_replace_content(SxTree *tree, SxConn *conn, SxRow *row, const SxRemote *remote, SxChanges *changes)
{
    SxAttr old;
    if (sx_tree_node(conn, row->ino, &old) != 0)
        return;
    if (old.nlink > 1 && others_can_stay(conn, &old, row->id)) {
        sx_tree_row_renew(tree, conn, row, remote, &old);
        sx_tree_row_save(tree, conn, row);
        sx_tree_inode_drop_name(tree, conn, old.ino, true);
        sx_tree_tell(changes, SX_CHANGE_ENTRY_NEW, row->l_parent, row->l_name, row->ino);
        return;
    }
    sx_tree_fill_remote(row, remote);
    sx_tree_set_base(row);
    gint64 now = sx_clock_real_ns(tree->clock);
    row->gen = row->r_gen = sx_tree_next(tree, conn);
    row->mtime_ns = remote->mtime_ns != SX_TIME_UNKNOWN ? remote->mtime_ns : now;
    row->size = MAX(remote->size, 0);
    row->verify = false;
    sx_db_run(conn, "UPDATE inode SET gen=?2,cver=cver+1,cached=0,size=?3,mtime=?4,ctime=?5,writing=0 WHERE ino=?1",
              SX_INT(row->ino), SX_INT(row->gen), SX_INT(row->size), SX_INT(row->mtime_ns), SX_INT(now));
    sx_tree_row_save(tree, conn, row);
    if (old.nlink > 1)
        sx_tree_rows_refresh(tree, conn, row->ino, -1);
    sx_tree_tell_content(changes, row->ino, row->size, old.cver + 1);
}

/* ---- names that are taken ---- */

char *
sx_tree_free_conflict_name(SxTree *tree, SxConn *conn, gint64 dir, const char *name, const char *who)
{
    gint64 now = sx_clock_real_ns(tree->clock);
    for (unsigned n = 0;; n++) {
        g_autofree char *candidate = sx_conflict_name(name, who, now, n);
        g_autoptr(SxRow) local = sx_tree_row_local(conn, dir, candidate);
        g_autoptr(SxRow) remote = sx_tree_row_remote(conn, dir, candidate);
        if ((local == NULL && remote == NULL) || sx_db_error(conn) != 0)
            return g_steal_pointer(&candidate);
    }
}

void
sx_tree_record_conflict(SxTree *tree, SxConn *conn, gint64 ino, gint64 dir, const char *name)
{
    g_autofree char *parent = sx_tree_path_in(conn, dir);
    g_autofree char *path = sx_path_join(parent != NULL ? parent : "", name);
    sx_db_run(conn, "INSERT OR REPLACE INTO conflict(ino,original,real_ns) VALUES(?1,?2,?3)", SX_INT(ino), SX_TEXT(path),
              SX_INT(sx_clock_real_ns(tree->clock)));
}

/* The remote keeps the name: whatever is shown there is moved aside, to a name that says so. */
void
sx_tree_make_room(SxTree *tree, SxConn *conn, gint64 dir, const char *name, SxChanges *changes)
{
    g_autoptr(SxRow) row = sx_tree_row_local(conn, dir, name);
    if (row == NULL)
        return;
    g_autofree char *aside = sx_tree_free_conflict_name(tree, conn, dir, name, "here");
    sx_tree_record_conflict(tree, conn, row->ino, dir, name);
    sx_tree_row_set_local(row, dir, aside);
    row->due_real_ms = sx_clock_real_ms(tree->clock);
    sx_tree_row_unpark(row);
    sx_tree_row_save(tree, conn, row);
    sx_tree_tell(changes, SX_CHANGE_ENTRY_GONE, dir, name, row->ino);
    sx_tree_tell(changes, SX_CHANGE_ENTRY_NEW, dir, aside, row->ino);
}

/* A directory that waits for deletion, but something new is in it, is shown again where it is on the provider. */
void
sx_tree_ensure_shown(SxTree *tree, SxConn *conn, gint64 dir, SxChanges *changes)
{
    g_autoptr(SxRow) row = sx_tree_row_dir(conn, dir);
    if (row == NULL || row->l_parent != 0)
        return;
    sx_tree_ensure_shown(tree, conn, row->r_parent, changes);
    sx_tree_make_room(tree, conn, row->r_parent, row->r_name, changes);
    sx_tree_row_set_local(row, row->r_parent, row->r_name);
    sx_tree_row_unpark(row);
    sx_tree_row_save(tree, conn, row);
    sx_db_run(conn, "UPDATE inode SET nlink=2 WHERE ino=?1", SX_INT(dir));
    sx_tree_dir_changed(tree, conn, row->l_parent, 1);
    sx_tree_tell(changes, SX_CHANGE_ENTRY_NEW, row->l_parent, row->l_name, dir);
}

/* ---- gone there ---- */

static void
delete_hidden(SxConn *conn, const SxRow *row)
{
    sx_tree_row_delete(conn, row->id);
    if (row->kind == SX_KIND_DIR)
        sx_tree_inode_delete(conn, row->ino);
}

static void
delete_shown(SxTree *tree, SxConn *conn, SxRow *row, SxChanges *changes)
{
    sx_tree_row_delete(conn, row->id);
    sx_tree_tell(changes, SX_CHANGE_ENTRY_GONE, row->l_parent, row->l_name, row->ino);
    sx_tree_inode_drop_name(tree, conn, row->ino, row->kind != SX_KIND_DIR);
    sx_tree_dir_changed(tree, conn, row->l_parent, row->kind == SX_KIND_DIR ? -1 : 0);
}

/* Other names of a file that were to become objects of their own, of a content that was only in the object that is gone:
 * nothing is left that they could be made of. */
static void
delete_without_content(SxTree *tree, SxConn *conn, gint64 ino, SxChanges *changes)
{
    SxAttr attr;
    if (ino == 0 || sx_tree_node(conn, ino, &attr) != 0 || attr.kind != SX_KIND_FILE || attr.cached == 2 || attr.nlink == 0)
        return;
    g_autoptr(GPtrArray) rows = sx_tree_rows(conn, SX_ROWS_OF_INO, ino);
    for (guint i = 0; i < rows->len; i++)
        if (((SxRow *)rows->pdata[i])->r_parent != 0)
            return;
    for (guint i = 0; i < rows->len; i++)
        delete_shown(tree, conn, rows->pdata[i], changes);
}

/* Would something be lost with the local side? Content that only is here; or a move of what can be uploaded again. */
static bool
worth_keeping(SxConn *conn, const SxRow *row)
{
    if (row->kind == SX_KIND_DIR)
        return sx_tree_has_entries(conn, row->ino);
    if (row->kind == SX_KIND_FILE && (row->r_gen != row->gen || row->writing))
        return true;
    return (row->pending & SX_PENDING_MOVE) != 0 && row->cached == 2;
}

void
sx_tree_drop_remote(SxTree *tree, SxConn *conn, SxRow *row)
{
    sx_tree_row_clear_remote(row);
    row->due_real_ms = sx_clock_real_ms(tree->clock);
    sx_tree_row_unpark(row);
    sx_tree_row_save(tree, conn, row);
}

void
sx_tree_remote_gone(SxTree *tree, SxConn *conn, SxRow *row, SxChanges *changes)
{
    if (row->kind == SX_KIND_DIR) {
        g_autoptr(GPtrArray) below = sx_tree_rows(conn, SX_ROWS_BELOW_REMOTE, row->ino);
        for (guint i = 0; i < below->len; i++) {
            /* Fresh: what was done to the ones before may have changed it. */
            g_autoptr(SxRow) child = sx_tree_row_load(conn, ((SxRow *)below->pdata[i])->id);
            if (child != NULL && child->r_parent == row->ino)
                sx_tree_remote_gone(tree, conn, child, changes);
        }
    }
    if (row->l_parent == 0)
        delete_hidden(conn, row);
    else if (worth_keeping(conn, row))
        sx_tree_drop_remote(tree, conn, row);
    else {
        delete_shown(tree, conn, row, changes);
        delete_without_content(tree, conn, row->ino, changes);
    }
}
