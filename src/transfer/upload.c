/* Contents on their way to the other side.
 *
 * An upload reads a snapshot: the write epoch is sealed, then the row is read, and every block that is handed out is followed by
 * a look whether the epoch still is the same; otherwise the upload ends before anything is published.
 * Before the first try that could have acted without our knowing, SIZE:XXH128 of the bytes is stored as the intent. A later try
 * that finds an intent looks first: bytes that are ours are adopted, what somebody else wrote becomes a conflict. So a
 * version that we have not seen is never overwritten, and our own is never taken for somebody else's. */
#include "transfer/transfer_i.h"

#include "base/log.h"
#include "crypto/digest.h"

#include <errno.h>
#include <string.h>

#define SX_READ_BUFFER (1024 * 1024)
#define SX_ZEROS SX_BLOCK

typedef struct Upload {
    SxRun *run;
    SxTransfer *t;
    SxProv *v;
    SxRow *row;          /* as read after sealing; owned */
    SxContent *content;
    SxCaps caps;
    guint64 epoch;
    gint64 size;
    gint64 dir;          /* where it goes */
    const char *name;    /* points into row */
    char *path;
    char *intent;        /* SIZE:XXH128 of the snapshot */
    char *hash;          /* of the kind that the provider has, or NULL */
    bool changed;        /* a write arrived */
} Upload;

static void
upload_free(Upload *u)
{
    sx_row_free(u->row);
    sx_content_unref(u->content);
    g_free(u->path);
    g_free(u->intent);
    g_free(u->hash);
    g_free(u);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Upload, upload_free)

static bool
still_same(Upload *u)
{
    if (sx_content_n_writers(u->content) > 0)
        sx_content_refresh(u->content); /* writes that the kernel made without us */
    if (!sx_content_same_epoch(u->content, u->epoch))
        u->changed = true;
    return !u->changed;
}

/* ---- the snapshot ---- */

/* Ends the write session of a file that stays open and has been quiet: the row gets its size. A write that comes at this
 * moment announces itself (the content is sealed), and is announced once more when it came between. */
static bool
end_session(Upload *u)
{
    SxAttr attr;
    gint64 mtime = sx_content_mtime_ns(u->content);
    if (mtime == SX_TIME_UNKNOWN)
        mtime = u->row->mtime_ns;
    if (sx_tree_write_end(u->t->tree, u->row->ino, u->size, mtime, true, u->row->due_real_ms, &attr) != 0)
        return false;
    if (!still_same(u)) {
        sx_tree_write_begin(u->t->tree, u->row->ino, &attr);
        return false;
    }
    g_autoptr(SxRow) row = sx_tree_row(u->t->tree, u->row->id);
    if (row == NULL || row->writing)
        return false;
    sx_row_free(u->row);
    u->row = g_steal_pointer(&row);
    return true;
}

/* NULL without an error: not now; the row is held for a while. */
static Upload *
upload_begin(SxRun *run, const SxRow *planned, GError **error)
{
    g_autoptr(Upload) u = g_new0(Upload, 1);
    SxTransfer *t = run->task.t;
    u->run = run;
    u->t = t;
    u->v = run->task.v;
    SxAttr attr;
    if (sx_tree_getattr(t->tree, planned->ino, &attr) != 0)
        return NULL;
    u->content = sx_content_open(t->cache, &attr, error);
    if (u->content == NULL)
        return NULL;
    /* A file that was closed waits no longer, even when the kernel's release of its last descriptor is still to come. */
    bool open = attr.writing && sx_content_n_writers(u->content) > 0;
    if (open)
        sx_content_refresh(u->content);
    gint64 quiet = sx_clock_mono_ms(t->clock) - sx_content_last_write_mono_ms(u->content);
    if (open && quiet < t->write_back_delay_ms) {
        sx_schedule_hold(t, planned->id, t->write_back_delay_ms - quiet);
        return NULL;
    }
    u->epoch = sx_content_seal(u->content);
    u->size = sx_content_size(u->content);
    u->row = sx_tree_row(t->tree, planned->id);
    bool ready = u->row != NULL && u->row->pending == planned->pending && u->row->ino == planned->ino &&
                 (!u->row->writing || end_session(u)) && u->row->l_parent == planned->l_parent &&
                 strcmp(u->row->l_name, planned->l_name) == 0;
    if (!ready) {
        sx_schedule_hold(t, planned->id, MAX(t->write_back_delay_ms, 100));
        return NULL;
    }
    sx_provider_caps(u->v->p, &u->caps);
    u->dir = u->row->r_parent != 0 ? u->row->r_parent : u->row->l_parent;
    u->name = u->row->r_parent != 0 ? u->row->r_name : u->row->l_name;
    u->path = sx_remote_child_path(t, u->dir, u->name, error);
    return u->path != NULL ? g_steal_pointer(&u) : NULL;
}

/* The version that the missing parts would come from is gone. They stay zeros in the conflict copy: bytes of another
 * version would make a file that nobody ever had. */
static bool
fill_zeros(Upload *u, GError **error)
{
    g_autofree char *zeros = g_malloc0(SX_ZEROS);
    gint64 off, len, cver = sx_content_cver(u->content), lost = 0;
    while (sx_content_missing(u->content, 0, u->size, &off, &len)) {
        gint64 n = MIN(len, SX_ZEROS);
        int rc = sx_content_fill(u->content, cver, off, zeros, (gsize)n);
        if (rc != 0)
            return sx_fail_errno(error, -rc, "%s", u->path);
        lost += n;
    }
    sx_transfer_event(u->t, u->v, u->row->ino, "error",
                      "%" G_GINT64_FORMAT " bytes that were never fetched were replaced on the server: they are zeros in the local copy",
                      lost);
    return true;
}

static bool
is_base(const Upload *u, const SxRemote *there)
{
    return u->row->base_version != NULL && *there->version != '\0' && strcmp(u->row->base_version, there->version) == 0;
}

/* What is missing comes from the row that has it there: for a name that was linked here that is another one. */
static bool
base_is_gone(Upload *u)
{
    g_autoptr(SxRow) row = sx_tree_row_of(u->t->tree, u->row->ino);
    return row != NULL && (row->r_parent == 0 || g_strcmp0(row->base_version, row->r_version) != 0);
}

static bool
upload_complete(Upload *u, GError **error)
{
    gint64 off, len;
    if (!sx_content_missing(u->content, 0, u->size, &off, &len))
        return true;
    int rc = base_is_gone(u) ? -ESTALE : sx_transfer_fetch_all(u->t, u->row->ino, u->t->cancel);
    if (rc != 0 && !base_is_gone(u) && u->row->r_parent != 0) { /* readers leave a name alone on which an operation runs: we do */
        g_autoptr(SxRemote) there = NULL;
        if (!sx_remote_stat(u->run, u->path, &there, error))
            return false;
        if ((there == NULL || !is_base(u, there)) && !sx_remote_apply(u->run, u->dir, u->name, there, error))
            return false;
    }
    if (rc != 0 && base_is_gone(u))
        return fill_zeros(u, error);
    if (rc != 0)
        return sx_fail_errno(error, -rc, "%s: %s: the rest of the file could not be fetched", sx_provider_label(u->v->p), u->path);
    return true;
}

/* "kind:hex" of the snapshot; NULL when it changed, or an error. */
static bool
hash_content(Upload *u, const char *kind, char **ret_other, GError **error)
{
    g_autoptr(SxDigest) own = sx_digest_new("xxh128");
    g_autoptr(SxDigest) other = kind != NULL ? sx_digest_new(kind) : NULL;
    g_autofree char *buf = g_malloc(SX_READ_BUFFER);
    for (gint64 off = 0; off < u->size;) {
        gssize n = sx_content_read(u->content, off, buf, (gsize)MIN(SX_READ_BUFFER, u->size - off));
        if (!still_same(u) || n == 0)
            return false;
        if (n < 0)
            return sx_fail_errno(error, (int)-n, "%s", u->path);
        sx_digest_update(own, buf, (gsize)n);
        if (other != NULL)
            sx_digest_update(other, buf, (gsize)n);
        off += n;
    }
    g_autofree char *hex = sx_digest_finish(own);
    g_free(u->intent);
    u->intent = g_strdup_printf("%" G_GINT64_FORMAT ":%s", u->size, strchr(hex, ':') + 1);
    *ret_other = other != NULL ? sx_digest_finish(other) : NULL;
    return true;
}

/* ---- what is there: ours or somebody else's? ---- */

static int
digest_sink(void *data, gint64 off, const void *buf, gsize n)
{
    sx_digest_update(data, buf, n);
    return 0;
}

/* SIZE:XXH128 of what is there. */
static char *
read_back(SxRun *run, const char *path, const SxRemote *there, GError **error)
{
    SxCond cond = {.kind = SX_IF_VERSION, .version = there->version, .size = there->size, .mtime_ns = there->mtime_ns};
    g_autoptr(SxDigest) d = sx_digest_new("xxh128");
    if (there->size > 0 && !sx_provider_read(run->task.v->p, path, &cond, 0, there->size, digest_sink, d, run->task.t->cancel, error))
        return NULL;
    g_autofree char *hex = sx_digest_finish(d);
    return g_strdup_printf("%" G_GINT64_FORMAT ":%s", there->size, strchr(hex, ':') + 1);
}

bool
sx_upload_is_intent(SxRun *run, const SxRow *row, const char *path, const SxRemote *there, bool *ret_yes, GError **error)
{
    *ret_yes = false;
    if (row->intent == NULL || g_ascii_strtoll(row->intent, NULL, 10) != there->size)
        return true;
    g_autofree char *bytes = read_back(run, path, there, error);
    *ret_yes = g_strcmp0(bytes, row->intent) == 0;
    return bytes != NULL;
}

typedef enum Whose { WHOSE_UNKNOWN, WHOSE_NOW, WHOSE_EARLIER, WHOSE_OTHER } Whose;

/* The bytes of the snapshot, those of an earlier try, or somebody else's. UNKNOWN: *error. */
static Whose
whose(Upload *u, const SxRemote *there, GError **error)
{
    gint64 earlier = u->row->intent != NULL ? g_ascii_strtoll(u->row->intent, NULL, 10) : -1;
    bool may_be_now = there->size == u->size, may_be_earlier = there->size == earlier;
    const char *colon = there->hash != NULL ? strchr(there->hash, ':') : NULL;
    g_autofree char *kind = colon != NULL ? g_strndup(there->hash, (gsize)(colon - there->hash)) : NULL;
    if (may_be_now && kind != NULL && sx_digest_known(kind)) {
        g_autofree char *mine = NULL;
        if (!hash_content(u, kind, &mine, error))
            return WHOSE_UNKNOWN;
        if (g_ascii_strcasecmp(mine, there->hash) == 0)
            return WHOSE_NOW;
        may_be_now = false;
    }
    if (!may_be_now && !may_be_earlier)
        return WHOSE_OTHER;
    g_autofree char *bytes = read_back(u->run, u->path, there, error);
    if (bytes == NULL)
        return WHOSE_UNKNOWN;
    if (strcmp(bytes, u->intent) == 0)
        return WHOSE_NOW;
    return g_strcmp0(bytes, u->row->intent) == 0 ? WHOSE_EARLIER : WHOSE_OTHER;
}

static bool
make_conflict(Upload *u, const SxRemote *there, GError **error)
{
    g_autoptr(SxChanges) changes = sx_changes_new();
    g_autofree char *name = NULL;
    gint64 parent = u->row->l_parent;
    bool ok = sx_tree_conflict(u->t->tree, u->row->id, there, u->t->who, changes, &name, error);
    sx_transfer_tell(u->t, changes);
    if (ok && name != NULL)
        sx_transfer_event(u->t, u->v, parent, "conflict", "%s was changed here and there: what was written here is now %s",
                          u->row->l_name, name);
    return ok;
}

/* Decides by looking. *ret_send: nothing of somebody else's is in the way. */
static bool
resolve(Upload *u, bool *ret_send, GError **error)
{
    SxTree *tree = u->t->tree;
    bool new_ = u->row->r_parent == 0;
    g_autoptr(SxRemote) there = NULL;
    *ret_send = false;
    if (!sx_remote_stat(u->run, u->path, &there, error))
        return false;
    if (there == NULL) {
        bool aside = false;
        *ret_send = new_;
        if (!new_ && !sx_remote_find_aside(u->v, u->row, &aside, error))
            return false;
        return new_ || aside || sx_remote_apply(u->run, u->dir, u->name, NULL, error);
    }
    if (there->kind != SX_KIND_FILE)
        return sx_tree_clear_target(tree, u->row->id, error) && sx_remote_apply(u->run, u->dir, u->name, there, error);
    if (!new_ && is_base(u, there)) {
        *ret_send = true; /* an old listing had said otherwise */
        u->row->r_size = there->size;
        u->row->r_mtime_ns = there->mtime_ns;
        return sx_tree_rebase(tree, u->row->id, there, error);
    }
    switch (whose(u, there, error)) {
    case WHOSE_UNKNOWN: return false;
    case WHOSE_NOW:
        return new_ ? sx_tree_done_create(tree, u->row->id, u->dir, u->name, u->row->gen, there, error)
                    : sx_tree_adopt(tree, u->row->id, u->row->gen, there, error);
    case WHOSE_EARLIER:
        return new_ ? sx_tree_done_create(tree, u->row->id, u->dir, u->name, 0, there, error)
                    : sx_tree_rebase(tree, u->row->id, there, error);
    default: break;
    }
    /* A new file meets one of that name: the row takes its side on, and the next plan finds the conflict. */
    return new_ ? sx_tree_clear_target(tree, u->row->id, error) && sx_remote_apply(u->run, u->dir, u->name, there, error)
                : make_conflict(u, there, error);
}

/* ---- sending ---- */

static gssize
source_read(void *data, gint64 off, void *buf, gsize n)
{
    Upload *u = data;
    gssize got = n > 0 ? sx_content_read(u->content, off, buf, n) : 0;
    if (!still_same(u))
        return -ECANCELED;
    if (got == -ENODATA)
        return -EIO;
    if (got > 0)
        sx_transfer_moved_bytes(u->t, true, got);
    return got;
}

static void
progress(void *data, gint64 done_bytes)
{
    Upload *u = data;
    g_mutex_lock(&u->t->lock);
    u->run->done = done_bytes;
    g_mutex_unlock(&u->t->lock);
}

static void
save_resume(void *data, const char *resume)
{
    Upload *u = data;
    sx_tree_set_resume(u->t->tree, u->row->id, u->row->gen, resume, NULL);
}

static bool
send_to(Upload *u, const char *path, SxCond cond, SxRemote **ret, GError **error)
{
    bool resumes = u->row->resume != NULL && u->row->resume_gen == u->row->gen;
    if (u->row->resume != NULL && !resumes)
        sx_provider_discard(u->v->p, path, u->row->resume);
    SxUpload up = {
        .source = {.size = u->size, .read = source_read, .fd = -1, .data = u},
        .cond = cond,
        .mtime_ns = u->caps.set_mtime ? u->row->mtime_ns : SX_TIME_UNKNOWN,
        .mode = u->caps.set_mode ? (int)u->row->mode : -1,
        .hash = u->hash,
        .resume = resumes ? u->row->resume : NULL,
        .save_resume = save_resume,
        .progress = progress,
        .data = u,
    };
    return sx_provider_write(u->v->p, path, &up, ret, u->t->cancel, error);
}

/* What the provider says it has now is what we sent? */
static bool
is_damaged(const Upload *u, const SxRemote *made)
{
    if (made->size >= 0 && made->size != u->size)
        return true;
    const char *colon = made->hash != NULL && u->hash != NULL ? strchr(made->hash, ':') : NULL;
    bool comparable = colon != NULL && g_ascii_strncasecmp(made->hash, u->hash, (gsize)(colon - made->hash + 1)) == 0;
    return comparable && g_ascii_strcasecmp(made->hash, u->hash) != 0;
}

static bool
sent(Upload *u, const SxRemote *made, GError **error)
{
    SxTree *tree = u->t->tree;
    bool new_ = u->row->r_parent == 0, damaged = is_damaged(u, made);
    gint64 gen = damaged ? 0 : u->row->gen;
    bool ok = new_      ? sx_tree_done_create(tree, u->row->id, u->dir, u->name, gen, made, error)
              : damaged ? sx_tree_rebase(tree, u->row->id, made, error)
                        : sx_tree_done_upload(tree, u->row->id, gen, made, error);
    if (!ok)
        return false;
    if (damaged)
        return sx_fail(error, SX_ERR_CORRUPT, "%s: %s: arrived damaged (%" G_GINT64_FORMAT " bytes, %s)", sx_provider_label(u->v->p), u->path,
                       made->size, made->hash != NULL ? made->hash : "no hash");
    sx_cache_room(u->t->cache);
    sx_schedule_verified(u->v, u->dir);
    sx_transfer_event(u->t, u->v, u->row->ino, "uploaded", "%s has been uploaded", u->name);
    return true;
}

static bool
send_content(Upload *u, GError **error)
{
    SxRow *row = u->row;
    SxCond cond = {.kind = SX_IF_ABSENT};
    if (row->r_parent != 0)
        cond = (SxCond){.kind = SX_IF_VERSION, .version = row->base_version, .size = row->r_size, .mtime_ns = row->r_mtime_ns};
    GError *lost = NULL;
    bool noted = row->r_parent == 0 ? sx_tree_set_target(u->t->tree, row->id, u->dir, u->name, u->intent, &lost)
                                    : sx_tree_set_intent(u->t->tree, row->id, u->intent, &lost);
    if (lost != NULL)
        g_propagate_error(error, lost);
    if (!noted)
        return lost == NULL; /* deleted meanwhile */
    g_autofree char *intent = g_strdup(u->intent);
    g_free(row->intent);
    row->intent = g_steal_pointer(&intent);
    g_autoptr(SxRemote) made = NULL;
    g_autoptr(GError) why = NULL;
    if (send_to(u, u->path, cond, &made, &why))
        return sent(u, made, error);
    if (u->changed) {
        sx_schedule_hold(u->t, row->id, MAX(u->t->write_back_delay_ms, 100));
        return true;
    }
    bool look = sx_error_is(why, SX_ERR_CHANGED) || sx_error_is(why, SX_ERR_EXISTS) ||
                (row->r_parent != 0 && sx_error_is(why, SX_ERR_NOT_FOUND));
    bool again;
    if (look && resolve(u, &again, error)) {
        if (again) /* it is as we expect after all: try again soon */
            return sx_fail(error, SX_ERR_BUSY, "%s: %s: refused, although nothing has changed there", sx_provider_label(u->v->p), u->path);
        return true;
    }
    if (!look)
        g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

bool
sx_upload_op(SxRun *run, SxRow *row, SxOpKind kind, GError **error)
{
    GError *why = NULL;
    g_autoptr(Upload) u = upload_begin(run, row, &why);
    if (u == NULL) {
        if (why != NULL)
            g_propagate_error(error, why);
        return why == NULL;
    }
    bool ok = upload_complete(u, &why) && hash_content(u, u->caps.hash_kind, &u->hash, &why);
    bool send = true;
    if (ok && (u->row->intent != NULL || kind == SX_OP_CONFLICT))
        ok = resolve(u, &send, &why);
    if (ok && send)
        ok = send_content(u, &why);
    if (!ok && u->changed) {
        g_clear_error(&why);
        sx_schedule_hold(u->t, row->id, MAX(u->t->write_back_delay_ms, 100));
        ok = true;
    }
    if (!ok && why == NULL)
        sx_fail(&why, SX_ERR_BUSY, "%s: %s: is being changed", sx_provider_label(u->v->p), u->path);
    if (why != NULL)
        g_propagate_error(error, why);
    return ok;
}

bool
sx_upload_copy(SxRun *run, SxRow *row, const char *path, SxRemote **ret, GError **error)
{
    GError *why = NULL;
    g_autoptr(Upload) u = upload_begin(run, row, &why);
    bool ok = u != NULL && upload_complete(u, &why) && hash_content(u, u->caps.hash_kind, &u->hash, &why) &&
              send_to(u, path, (SxCond){.kind = SX_IF_ABSENT}, ret, &why);
    if (!ok && why == NULL)
        sx_fail(&why, SX_ERR_BUSY, "%s: %s: is being changed", sx_provider_label(run->task.v->p), path);
    if (why != NULL)
        g_propagate_error(error, why);
    return ok;
}
