/* One object as the provider tells it, against the row that stands for it. */
#include "tree/tree_i.h"

#include <string.h>

/* ---- comparing ---- */

static bool
known(const char *version)
{
    return version != NULL && *version != '\0';
}

static bool
size_or_time_differ(const SxRow *row, const SxRemote *e)
{
    if (row->r_size >= 0 && e->size >= 0 && row->r_size != e->size)
        return true;
    return row->r_mtime_ns != SX_TIME_UNKNOWN && e->mtime_ns != SX_TIME_UNKNOWN && row->r_mtime_ns != e->mtime_ns;
}

static bool
content_differs(const SxRow *row, const char *version, const SxRemote *e)
{
    if (known(version) && known(e->version))
        return strcmp(version, e->version) != 0;
    return size_or_time_differ(row, e);
}

/* -1: cannot be compared. */
static int
same_hash(const char *a, const char *b)
{
    const char *colon = a != NULL && b != NULL ? strchr(a, ':') : NULL;
    if (colon == NULL || strncmp(a, b, (gsize)(colon - a) + 1) != 0)
        return -1;
    return strcmp(a, b) == 0;
}

typedef enum Verdict { OURS, DAMAGED, FOREIGN } Verdict;

/* An upload whose version was not told: is what is there now what we sent? */
static Verdict
verify(const SxApply *a, const SxRow *row, const SxRemote *e)
{
    int hash = same_hash(row->r_hash, e->hash);
    if (hash == 1)
        return OURS;
    /* By the clock of the provider alone, when it told its time: ours may be wrong in either direction. */
    gint64 end = row->r_mtime_ns != SX_TIME_UNKNOWN ? row->r_mtime_ns : row->sent_real_ms * 1000000;
    end += a->caps.mtime_precision_ns;
    if (e->mtime_ns != SX_TIME_UNKNOWN && e->mtime_ns > end)
        return FOREIGN;
    if (hash == 0 || (e->size >= 0 && row->r_size >= 0 && e->size != row->r_size))
        return DAMAGED;
    return OURS;
}

/* ---- recording ---- */

/* What this listing does not tell, but an earlier answer about the same version did, is kept. */
static void
record(SxRow *row, const SxRemote *e)
{
    g_autofree char *hash = g_strdup(row->r_hash), *version = g_strdup(row->r_version);
    gint64 size = row->r_size, mtime_ns = row->r_mtime_ns;
    int mode = row->r_mode;
    bool same = !content_differs(row, row->r_version, e);
    sx_tree_fill_remote(row, e);
    if (!same)
        return;
    if (row->r_hash == NULL)
        row->r_hash = g_steal_pointer(&hash);
    if (!known(row->r_version) && version != NULL) {
        g_free(row->r_version);
        row->r_version = g_steal_pointer(&version);
    }
    if (row->r_size < 0)
        row->r_size = size;
    if (row->r_mtime_ns == SX_TIME_UNKNOWN)
        row->r_mtime_ns = mtime_ns;
    if (row->r_mode < 0)
        row->r_mode = mode;
}

static bool
tells_news(const SxRow *row, const SxRemote *e)
{
    return (e->id != NULL && g_strcmp0(e->id, row->r_id) != 0) || (known(e->version) && g_strcmp0(e->version, row->r_version) != 0) ||
           (e->hash != NULL && g_strcmp0(e->hash, row->r_hash) != 0) || (e->mode >= 0 && (e->mode & 07777) != row->r_mode) ||
           size_or_time_differ(row, e) || (e->size >= 0 && row->r_size < 0) ||
           (e->mtime_ns != SX_TIME_UNKNOWN && row->r_mtime_ns == SX_TIME_UNKNOWN);
}

/* The remote's times and mode changed, the content did not: they are shown, unless they were changed here as well. */
static void
adopt_attr(SxApply *a, SxRow *row, const SxRemote *e)
{
    if ((row->pending & (SX_PENDING_ATTR | SX_PENDING_CONTENT)) != 0 || row->writing)
        return;
    bool mtime = row->kind == SX_KIND_FILE && a->caps.set_mtime && e->mtime_ns != SX_TIME_UNKNOWN &&
                 row->r_mtime_ns != SX_TIME_UNKNOWN && row->r_mtime_ns != e->mtime_ns;
    bool mode = row->kind != SX_KIND_SYMLINK && a->caps.set_mode && e->mode >= 0 && row->r_mode >= 0 && row->r_mode != (e->mode & 07777);
    if (!mtime && !mode)
        return;
    if (mtime)
        row->mtime_ns = e->mtime_ns;
    if (mode)
        row->mode = (guint32)e->mode & 07777;
    sx_db_run(a->conn, "UPDATE inode SET mtime=?2,mode=?3,ctime=?4 WHERE ino=?1", SX_INT(row->ino), SX_INT(row->mtime_ns),
              SX_INT(row->mode), SX_INT(sx_clock_real_ns(a->tree->clock)));
    sx_tree_tell(a->changes, SX_CHANGE_ATTR, 0, NULL, row->ino);
}

static void
save(SxApply *a, SxRow *row)
{
    sx_tree_row_save(a->tree, a->conn, row);
}

/* ---- files ---- */

static bool
is_dirty(const SxRow *row)
{
    return row->r_gen != row->gen || row->writing;
}

static void
file_changed(SxApply *a, SxRow *row, const SxRemote *e)
{
    a->counts->changed++;
    if (!is_dirty(row)) {
        sx_tree_replace_content(a->tree, a->conn, row, e, a->changes);
        return;
    }
    /* base_version stays: it differs from r_version now, which is how the conflict shows. */
    sx_tree_fill_remote(row, e);
    row->r_gen = 0;
    row->verify = false;
    save(a, row);
}

static void
file_verified(SxApply *a, SxRow *row, const SxRemote *e)
{
    Verdict verdict = verify(a, row, e);
    if (verdict == FOREIGN) {
        file_changed(a, row, e);
        return;
    }
    a->counts->verified++;
    sx_tree_fill_remote(row, e);
    row->verify = false;
    if (verdict == DAMAGED) {
        /* Or somebody else's, of the second in which ours ended: base_version stays, so that both are kept. */
        row->r_gen = 0;
        row->due_real_ms = sx_clock_real_ms(a->tree->clock);
    } else {
        sx_tree_set_base(row);
    }
    save(a, row);
}

static void
shown_file(SxApply *a, SxRow *row, const SxRemote *e)
{
    if (row->verify) {
        file_verified(a, row, e);
    } else if (content_differs(row, row->r_version, e)) {
        file_changed(a, row, e);
    } else {
        adopt_attr(a, row, e);
        record(row, e);
        if (!is_dirty(row))
            sx_tree_set_base(row);
        save(a, row);
    }
}

/* ---- waiting for deletion ---- */

/* Somebody changed what is to be deleted here: their change is worth more than our deletion, it is shown again. */
static void
show_again(SxApply *a, SxRow *row, const SxRemote *e)
{
    a->counts->added++;
    sx_tree_ensure_shown(a->tree, a->conn, row->r_parent, a->changes);
    sx_tree_make_room(a->tree, a->conn, row->r_parent, row->r_name, a->changes);
    sx_tree_row_renew(a->tree, a->conn, row, e, NULL);
    sx_tree_row_set_local(row, row->r_parent, row->r_name);
    sx_tree_row_unpark(row);
    save(a, row);
    sx_tree_dir_changed(a->tree, a->conn, row->l_parent, 0);
    sx_tree_tell(a->changes, SX_CHANGE_ENTRY_NEW, row->l_parent, row->l_name, row->ino);
}

static void
hidden_file(SxApply *a, SxRow *row, const SxRemote *e)
{
    if (row->verify && verify(a, row, e) == OURS) {
        a->counts->verified++;
        sx_tree_fill_remote(row, e);
        sx_tree_set_base(row);
        row->verify = false;
        save(a, row);
    } else if (row->intent != NULL) {
        return; /* perhaps an upload of ours of whose end we never heard: the deletion looks */
    } else if (row->verify || row->base_version == NULL || (!known(row->base_version) && known(row->r_version)) ||
               content_differs(row, row->base_version, e)) {
        show_again(a, row, e);
    } else {
        record(row, e);
        sx_tree_set_base(row);
        save(a, row);
    }
}

/* ---- new ones ---- */

static void
insert_new(SxApply *a, const SxRemote *e)
{
    SxRow row = {.provider = a->provider, .kind = e->kind, .l_parent = a->dir, .l_name = e->name, .r_parent = a->dir,
                 .r_name = e->name, .r_id = e->id, .r_version = e->version != NULL ? e->version : (char *)"",
                 .r_hash = e->hash, .r_size = e->size, .r_mtime_ns = e->mtime_ns, .r_mode = e->mode < 0 ? -1 : e->mode & 07777, .err = SX_N_ERRORS};
    row.base_version = row.r_version;
    row.ino = sx_tree_inode_of_remote(a->tree, a->conn, a->provider, e, NULL, &row.gen);
    row.r_gen = row.gen;
    row.mode = e->mode >= 0 ? (guint32)e->mode & 07777 : 0;
    row.mtime_ns = e->mtime_ns != SX_TIME_UNKNOWN ? e->mtime_ns : 0;
    sx_tree_row_insert(a->tree, a->conn, &row);
    a->touched = true;
    a->new_dirs += e->kind == SX_KIND_DIR;
    a->counts->added++;
    sx_tree_tell(a->changes, SX_CHANGE_ENTRY_NEW, a->dir, e->name, row.ino);
}

/* Made here and there under one name. Directories and equal links are the same thing; of files each side has its own
 * content, which the missing base version tells. */
static bool
attach(SxApply *a, SxRow *row, const SxRemote *e)
{
    if (row->r_parent != 0 || row->kind != e->kind)
        return false;
    if (e->kind != SX_KIND_FILE && e->kind != SX_KIND_DIR && !(e->kind == SX_KIND_SYMLINK && g_strcmp0(row->target, e->target) == 0))
        return false;
    sx_tree_row_set_remote(row, a->dir, e->name);
    sx_tree_fill_remote(row, e);
    row->r_gen = 0;
    if (e->kind != SX_KIND_FILE)
        sx_tree_set_base(row);
    if (e->kind == SX_KIND_DIR) /* made here, so it counts as listed; what it has there is still to be seen */
        sx_db_run(a->conn, "UPDATE inode SET listed_ms=0 WHERE ino=?1", SX_INT(row->ino));
    sx_tree_row_unpark(row);
    save(a, row);
    a->counts->changed++;
    return true;
}

static void
new_object(SxApply *a, const SxRemote *e)
{
    sx_tree_ensure_shown(a->tree, a->conn, a->dir, a->changes);
    g_autoptr(SxRow) local = sx_tree_row_local(a->conn, a->dir, e->name);
    if (local != NULL) {
        if (attach(a, local, e))
            return;
        sx_tree_make_room(a->tree, a->conn, a->dir, e->name, a->changes);
    }
    insert_new(a, e);
}

/* ---- known ones ---- */

static void
follow(SxApply *a, SxRow *row, const SxMatch *m)
{
    sx_tree_ensure_shown(a->tree, a->conn, a->dir, a->changes);
    sx_tree_make_room(a->tree, a->conn, a->dir, m->entry->name, a->changes);
    sx_tree_row_set_local(row, a->dir, m->entry->name);
    save(a, row);
    int dir = row->kind == SX_KIND_DIR;
    sx_tree_dir_changed(a->tree, a->conn, m->old_parent, -dir);
    sx_tree_dir_changed(a->tree, a->conn, a->dir, dir);
    a->counts->changed++;
    sx_tree_tell(a->changes, SX_CHANGE_ENTRY_GONE, m->old_parent, m->old_name, row->ino);
    sx_tree_tell(a->changes, SX_CHANGE_ENTRY_NEW, a->dir, row->l_name, row->ino);
}

static void
place(SxApply *a, SxRow *row, const SxMatch *m)
{
    sx_tree_row_set_remote(row, a->dir, m->entry->name);
    if (m->follows)
        follow(a, row, m);
    else
        save(a, row);
}

static bool
is_same_thing(const SxRow *row, const SxRemote *e)
{
    if (row->kind != e->kind)
        return false;
    return row->kind != SX_KIND_SYMLINK || row->l_parent == 0 || e->target == NULL || g_strcmp0(row->target, e->target) == 0;
}

static void
known_plain(SxApply *a, SxRow *row, const SxRemote *e)
{
    if (row->l_parent != 0)
        adopt_attr(a, row, e);
    record(row, e);
    sx_tree_set_base(row);
    save(a, row);
}

void
sx_tree_apply_object(SxApply *a, const SxMatch *m, const SxRow *cached)
{
    const SxRemote *e = m->entry;
    if (m->row == 0) {
        new_object(a, e);
        return;
    }
    /* The common case of a repeated listing costs no statement. */
    if (cached != NULL && !cached->verify && cached->l_parent != 0 && is_same_thing(cached, e) && !tells_news(cached, e))
        return;
    g_autoptr(SxRow) row = sx_tree_row_load(a->conn, m->row);
    if (row == NULL)
        return;
    if (m->moved)
        place(a, row, m);
    if (!is_same_thing(row, e)) {
        sx_tree_remote_gone(a->tree, a->conn, row, a->changes);
        a->counts->removed++;
        new_object(a, e);
    } else if (row->kind != SX_KIND_FILE) {
        known_plain(a, row, e);
    } else if (row->l_parent == 0) {
        hidden_file(a, row, e);
    } else {
        shown_file(a, row, e);
    }
}
