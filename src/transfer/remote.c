/* Names and attributes on the other side. A lost reply is never guessed at: the next try finds what the first one did, and
 * an object that is what we wanted to make is taken as made. */
#include "transfer/transfer_i.h"

#include "base/path.h"

#include <string.h>

char *
sx_remote_child_path(SxTransfer *t, gint64 dir, const char *name, GError **error)
{
    g_autofree char *parent = sx_tree_remote_path(t->tree, dir);
    if (parent == NULL) {
        sx_fail(error, SX_ERR_NOT_FOUND, "the directory for %s is not there", name);
        return NULL;
    }
    return sx_path_join(parent, name);
}

bool
sx_remote_stat(SxRun *run, const char *path, SxRemote **ret, GError **error)
{
    g_autoptr(GError) why = NULL;
    *ret = NULL;
    if (sx_provider_stat(run->task.v->p, path, ret, run->task.t->cancel, &why) || sx_error_is(why, SX_ERR_NOT_FOUND))
        return true;
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

bool
sx_remote_apply(SxRun *run, gint64 dir, const char *name, const SxRemote *remote, GError **error)
{
    SxTransfer *t = run->task.t;
    g_autoptr(SxChanges) changes = sx_changes_new();
    bool ok = sx_tree_apply_stat(t->tree, dir, name, remote, changes, error);
    sx_transfer_tell(t, changes);
    return ok;
}

/* ---- directories and links ---- */

static bool
is_what_we_make(const SxRow *row, const SxRemote *there)
{
    if (there->kind != row->kind)
        return false;
    return row->kind == SX_KIND_DIR || g_strcmp0(there->target, row->target) == 0;
}

/* The row has vanished (no error): nothing is left to do. */
static bool
gone_or(GError *lost, GError **error)
{
    if (lost != NULL)
        g_propagate_error(error, lost);
    return lost == NULL;
}

static bool
op_make(SxRun *run, SxRow *row, GError **error)
{
    SxTransfer *t = run->task.t;
    SxProvider *p = run->task.v->p;
    g_autofree char *path = sx_remote_child_path(t, row->l_parent, row->l_name, error);
    if (path == NULL)
        return false;
    GError *lost = NULL;
    if (!sx_tree_set_target(t->tree, row->id, row->l_parent, row->l_name, NULL, &lost))
        return gone_or(lost, error);
    g_autoptr(SxRemote) made = NULL;
    g_autoptr(GError) why = NULL;
    bool ok = row->kind == SX_KIND_DIR ? sx_provider_mkdir(p, path, &made, t->cancel, &why)
                                       : sx_provider_symlink(p, path, row->target, &made, t->cancel, &why);
    if (ok)
        return sx_tree_done_create(t->tree, row->id, row->l_parent, row->l_name, row->gen, made, error);
    if (!sx_error_is(why, SX_ERR_EXISTS)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    if (!sx_remote_stat(run, path, &made, error))
        return false;
    if (made == NULL) /* gone again: the next plan tries anew */
        return sx_fail(error, SX_ERR_BUSY, "%s: %s: was there and is not any more", sx_provider_label(run->task.v->p), path);
    if (!is_what_we_make(row, made))
        return sx_tree_clear_target(t->tree, row->id, error) && sx_remote_apply(run, row->l_parent, row->l_name, made, error);
    if (!sx_tree_done_create(t->tree, row->id, row->l_parent, row->l_name, row->gen, made, error))
        return false;
    if (row->kind == SX_KIND_DIR) /* somebody else's, perhaps with entries */
        sx_schedule_want(run->task.v, row->ino, 0);
    return true;
}

/* ---- moves ---- */

/* Did the object that we know arrive there? By id where there is one, otherwise by what does not change in a move. */
bool
sx_remote_is_moved(const SxRow *row, const SxRemote *there)
{
    if (there->kind != row->kind)
        return false;
    if (row->r_id != NULL && there->id != NULL)
        return strcmp(row->r_id, there->id) == 0;
    if (row->kind == SX_KIND_DIR)
        return true;
    if (row->r_version != NULL && *row->r_version != '\0' && strcmp(row->r_version, there->version) == 0)
        return true;
    return there->size == row->r_size && (there->mtime_ns == row->r_mtime_ns || row->r_mtime_ns == SX_TIME_UNKNOWN);
}

/* Did it step aside in a try whose end we never heard of? Then the tree is told where it is. */
bool
sx_remote_find_aside(SxProv *v, const SxRow *row, bool *ret_found, GError **error)
{
    SxTransfer *t = v->t;
    g_autofree char *name = g_strdup_printf(SX_ASIDE_PREFIX "%" G_GINT64_FORMAT, row->id);
    *ret_found = false;
    if (row->r_parent == 0 || strcmp(row->r_name, name) == 0)
        return true;
    g_autofree char *path = sx_remote_child_path(t, row->r_parent, name, error);
    g_autoptr(SxRemote) there = NULL;
    g_autoptr(GError) why = NULL;
    if (path == NULL)
        return false;
    if (!sx_provider_stat(v->p, path, &there, t->cancel, &why)) {
        if (sx_error_is(why, SX_ERR_NOT_FOUND))
            return true;
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    if (!sx_remote_is_moved(row, there))
        return true;
    *ret_found = true;
    return sx_tree_done_move(t->tree, row->id, row->r_parent, name, error);
}

/* The move did not work, or its reply was lost: look at both ends. */
static bool
after_move(SxRun *run, SxRow *row, const char *from, const char *to, gint64 to_dir, const char *to_name, GError *why,
           GError **error)
{
    SxTransfer *t = run->task.t;
    g_autoptr(SxRemote) source = NULL, target = NULL;
    if (!sx_remote_stat(run, from, &source, error) || !sx_remote_stat(run, to, &target, error))
        return false;
    if (source == NULL && target != NULL && sx_remote_is_moved(row, target))
        return sx_tree_done_move(t->tree, row->id, to_dir, to_name, error);
    if (!sx_tree_clear_target(t->tree, row->id, error))
        return false;
    if (target != NULL && !sx_remote_apply(run, to_dir, to_name, target, error))
        return false;
    bool aside = false;
    if (source == NULL && !sx_remote_find_aside(run->task.v, row, &aside, error))
        return false;
    if (source == NULL)
        return aside || sx_remote_apply(run, row->r_parent, row->r_name, NULL, error);
    if (target != NULL && sx_error_is(why, SX_ERR_EXISTS))
        return true; /* the tree knows it now: plan again */
    g_propagate_error(error, g_error_copy(why));
    return false;
}

static bool
copy_then_remove(SxRun *run, SxRow *row, const char *from, const char *to, GError **error)
{
    SxTransfer *t = run->task.t;
    SxProvider *p = run->task.v->p;
    if (row->kind == SX_KIND_DIR)
        return sx_copy_move_dir(run, from, to, error);
    g_autoptr(SxRemote) made = NULL;
    bool ok = row->kind == SX_KIND_SYMLINK ? sx_provider_symlink(p, to, row->target, &made, t->cancel, error)
              : SX_CAN(p, copy)            ? sx_provider_copy(p, from, to, t->cancel, error)
                                           : sx_upload_copy(run, row, to, &made, error);
    if (!ok)
        return false;
    SxCond cond = {.kind = row->kind == SX_KIND_FILE ? SX_IF_VERSION : SX_IF_ANY, .version = row->r_version, .size = row->r_size,
                   .mtime_ns = row->r_mtime_ns};
    g_autoptr(GError) why = NULL;
    if (!sx_provider_remove(p, from, row->kind, &cond, t->cancel, &why) && !sx_error_is(why, SX_ERR_NOT_FOUND)) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    return true;
}

static bool
op_move(SxRun *run, SxRow *row, GError **error)
{
    SxTransfer *t = run->task.t;
    SxProvider *p = run->task.v->p;
    g_autofree char *from = sx_remote_child_path(t, row->r_parent, row->r_name, error);
    g_autofree char *to = from != NULL ? sx_remote_child_path(t, run->to_dir, run->to_name, error) : NULL;
    if (to == NULL)
        return false;
    GError *lost = NULL;
    if (!sx_tree_set_target(t->tree, row->id, run->to_dir, run->to_name, row->intent, &lost))
        return gone_or(lost, error);
    g_autoptr(GError) why = NULL;
    bool ok = SX_CAN(p, move) ? sx_provider_move(p, from, to, row->kind, t->cancel, &why)
                              : copy_then_remove(run, row, from, to, &why);
    if (ok)
        return sx_tree_done_move(t->tree, row->id, run->to_dir, run->to_name, error);
    bool look = sx_error_is(why, SX_ERR_NOT_FOUND) || sx_error_is(why, SX_ERR_EXISTS) || sx_error_is(why, SX_ERR_LOST) ||
                sx_error_is(why, SX_ERR_TIMEOUT) || sx_error_is(why, SX_ERR_CHANGED);
    if (look)
        return after_move(run, row, from, to, run->to_dir, run->to_name, why, error);
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

/* ---- what an operation left behind of whose end we never heard ---- */

static bool
count_entry(void *data, const SxRemote *entry)
{
    (*(guint *)data)++;
    return true;
}

/* Is it what the row's first operation made? An empty directory under that name may as well be ours. */
static bool
is_ours_made(SxRun *run, const SxRow *row, const char *path, const SxRemote *there, bool *ret_ours, GError **error)
{
    *ret_ours = false;
    if (there->kind != row->kind)
        return true;
    if (row->kind == SX_KIND_FILE)
        return sx_upload_is_intent(run, row, path, there, ret_ours, error);
    guint entries = 0;
    if (row->kind == SX_KIND_DIR && !sx_provider_list(run->task.v->p, path, count_entry, &entries, run->task.t->cancel, error))
        return false;
    *ret_ours = row->kind == SX_KIND_DIR ? entries == 0 : g_strcmp0(there->target, row->target) == 0;
    return true;
}

static bool
is_ours_at_target(SxRun *run, const SxRow *row, const char *path, const SxRemote *there, bool *ret_ours, GError **error)
{
    if (row->r_parent == 0)
        return is_ours_made(run, row, path, there, ret_ours, error);
    g_autofree char *from = sx_remote_child_path(run->task.t, row->r_parent, row->r_name, error);
    g_autoptr(SxRemote) source = NULL;
    if (from == NULL || !sx_remote_stat(run, from, &source, error))
        return false;
    *ret_ours = source == NULL && sx_remote_is_moved(row, there);
    return true;
}

static bool
op_settle(SxRun *run, SxRow *row, GError **error)
{
    SxTree *tree = run->task.t->tree;
    g_autofree char *dir = sx_tree_remote_path(tree, row->t_parent);
    if (dir == NULL) /* the directory is not there, so nothing is in it */
        return sx_tree_clear_target(tree, row->id, error);
    g_autofree char *path = sx_path_join(dir, row->t_name);
    g_autoptr(SxRemote) there = NULL;
    bool ours = false;
    if (!sx_remote_stat(run, path, &there, error) ||
        (there != NULL && !is_ours_at_target(run, row, path, there, &ours, error)))
        return false;
    if (!ours) {
        sx_schedule_want(run->task.v, row->t_parent, 0); /* what is there, if anything, is news */
        return sx_tree_clear_target(tree, row->id, error);
    }
    return row->r_parent == 0 ? sx_tree_done_create(tree, row->id, row->t_parent, row->t_name, 0, there, error)
                              : sx_tree_done_move(tree, row->id, row->t_parent, row->t_name, error);
}

/* ---- removing ---- */

/* It may have been changed by somebody after we deleted it here: then their version wins and comes back. The tree decides;
 * *ret_back false: it is what we know, and still to be deleted. */
static bool
comes_back(SxRun *run, const SxRow *row, const SxRemote *there, bool *ret_back, GError **error)
{
    bool ours = false;
    if (there->kind == SX_KIND_FILE && row->intent != NULL) { /* an upload of ours of whose end we never heard? */
        g_autofree char *path = sx_remote_child_path(run->task.t, row->r_parent, row->r_name, error);
        if (path == NULL || !sx_upload_is_intent(run, row, path, there, &ours, error))
            return false;
        if (ours ? !sx_tree_rebase(run->task.t->tree, row->id, there, error) : !sx_tree_set_intent(run->task.t->tree, row->id, NULL, error))
            return false;
    }
    *ret_back = false;
    if (ours)
        return true;
    if (!sx_remote_apply(run, row->r_parent, row->r_name, there, error))
        return false;
    g_autoptr(SxRow) now = sx_tree_row(run->task.t->tree, row->id);
    *ret_back = now == NULL || now->l_parent != 0 || now->kind != there->kind || now->r_parent != row->r_parent ||
                strcmp(now->r_name, row->r_name) != 0;
    if (*ret_back && g_str_has_prefix(row->r_name, SX_ASIDE_PREFIX))
        sx_schedule_want(run->task.v, row->r_parent, 0); /* which gives it a name that people see */
    if (*ret_back)
        sx_transfer_event(run->task.t, run->task.v, row->r_parent, "restored",
                          "%s was deleted here and changed there: it has come back", row->r_name);
    return true;
}

/* The version that may be deleted. What the user never saw here (a conflict that was not settled before the name was deleted)
 * comes back instead; so does what took the place of an upload of ours whose version we never heard. */
static bool
condition_of(SxRun *run, SxRow *row, const char *path, SxCond *cond, SxRemote **ret_hold, bool *ret_done, GError **error)
{
    *ret_done = false;
    *cond = (SxCond){.kind = SX_IF_VERSION, .version = row->r_version, .size = row->r_size, .mtime_ns = row->r_mtime_ns};
    bool version_known = row->r_version != NULL && *row->r_version != '\0';
    if (row->kind != SX_KIND_FILE) { /* a directory must be empty, that is enough; a link may be something else by now */
        cond->kind = row->kind == SX_KIND_SYMLINK && version_known ? SX_IF_VERSION : SX_IF_ANY;
        return true;
    }
    bool seen = row->base_version != NULL && g_strcmp0(row->base_version, row->r_version) == 0;
    if (version_known && seen)
        return true;
    if (!sx_remote_stat(run, path, ret_hold, error))
        return false;
    SxRemote *there = *ret_hold;
    if (there == NULL) {
        *ret_done = true;
        return sx_tree_done_remove(run->task.t->tree, row->id, error);
    }
    if (!comes_back(run, row, there, ret_done, error))
        return false;
    if (*ret_done)
        return true;
    *cond = (SxCond){.kind = SX_IF_VERSION, .version = there->version, .size = there->size, .mtime_ns = there->mtime_ns};
    return true;
}

static bool
op_remove(SxRun *run, SxRow *row, GError **error)
{
    SxTransfer *t = run->task.t;
    g_autofree char *path = sx_remote_child_path(t, row->r_parent, row->r_name, error);
    SxCond cond;
    g_autoptr(SxRemote) hold = NULL;
    bool done;
    if (path == NULL || !condition_of(run, row, path, &cond, &hold, &done, error))
        return false;
    if (done)
        return true;
    g_autoptr(GError) why = NULL;
    bool aside = false, gone = sx_provider_remove(run->task.v->p, path, row->kind, &cond, t->cancel, &why);
    if (!gone && sx_error_is(why, SX_ERR_NOT_FOUND)) {
        if (!sx_remote_find_aside(run->task.v, row, &aside, error))
            return false;
        gone = !aside;
    }
    if (gone || aside)
        return aside || sx_tree_done_remove(t->tree, row->id, error);
    bool other = sx_error_is(why, SX_ERR_CHANGED) || sx_error_is(why, SX_ERR_IS_DIR) || sx_error_is(why, SX_ERR_NOT_DIR);
    if (other) {
        g_autoptr(SxRemote) there = NULL;
        if (!sx_remote_stat(run, path, &there, error))
            return false;
        if (there == NULL)
            return sx_tree_done_remove(t->tree, row->id, error);
        bool back;
        if (!comes_back(run, row, there, &back, error))
            return false;
        g_autoptr(SxRow) now = sx_tree_row(t->tree, row->id);
        bool news = back || now == NULL || g_strcmp0(now->base_version, row->base_version) != 0;
        return news || sx_fail(error, SX_ERR_BUSY, "%s: %s: cannot be deleted, although it has not changed", sx_provider_label(run->task.v->p), path);
    }
    if (sx_error_is(why, SX_ERR_NOT_EMPTY)) /* something new in it: it is listed, then planned again */
        sx_schedule_want(run->task.v, row->ino, 0);
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

/* ---- attributes ---- */

static bool
is_version_of(const SxRow *row, const SxRemote *there)
{
    if (there->kind != row->kind)
        return false;
    if (row->kind == SX_KIND_DIR)
        return true;
    if (row->r_version != NULL && *row->r_version != '\0' && *there->version != '\0')
        return strcmp(row->r_version, there->version) == 0;
    return there->size == row->r_size && there->mtime_ns == row->r_mtime_ns;
}

/* Setting times may give the object a new version, which must not hide that somebody else gave it new content. */
static bool
has_other_content(const SxRow *row, const SxRemote *there)
{
    if (there->kind != row->kind || (there->size >= 0 && row->r_size >= 0 && there->size != row->r_size))
        return true;
    return there->hash != NULL && row->r_hash != NULL && strcmp(there->hash, row->r_hash) != 0;
}

static bool
op_attr(SxRun *run, SxRow *row, GError **error)
{
    SxTransfer *t = run->task.t;
    SxProvider *p = run->task.v->p;
    SxCaps caps;
    sx_provider_caps(p, &caps);
    g_autofree char *path = sx_remote_child_path(t, row->r_parent, row->r_name, error);
    g_autoptr(SxRemote) before = NULL;
    if (path == NULL || !sx_remote_stat(run, path, &before, error))
        return false;
    if (before == NULL || !is_version_of(row, before))
        return sx_remote_apply(run, row->r_parent, row->r_name, before, error);
    gint64 mtime = caps.set_mtime ? row->mtime_ns : SX_TIME_UNKNOWN;
    int mode = caps.set_mode ? (int)row->mode : -1;
    g_autoptr(SxRemote) after = NULL;
    g_autoptr(GError) why = NULL;
    bool ok = sx_provider_set_attr(p, path, mtime, mode, &after, t->cancel, &why);
    if (ok && after != NULL && row->kind == SX_KIND_FILE && has_other_content(row, after))
        return sx_remote_apply(run, row->r_parent, row->r_name, after, error);
    if (ok || sx_error_is(why, SX_ERR_UNSUPPORTED))
        return sx_tree_done_attr(t->tree, row->id, row->mtime_ns, (int)row->mode, after, error);
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

bool
sx_remote_op(SxRun *run, SxRow *row, SxOpKind kind, GError **error)
{
    switch (kind) {
    case SX_OP_MKDIR:
    case SX_OP_SYMLINK: return op_make(run, row, error);
    case SX_OP_MOVE:
    case SX_OP_MOVE_AWAY: return op_move(run, row, error);
    case SX_OP_SETTLE: return op_settle(run, row, error);
    case SX_OP_REMOVE: return op_remove(run, row, error);
    case SX_OP_ATTR: return op_attr(run, row, error);
    default: return true;
    }
}
