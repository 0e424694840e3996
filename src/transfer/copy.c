/* Moving directories where the other side cannot: object by object, each made at the new place before it is removed at the old
 * one, on the condition that it still is the version that was copied. Whatever a crash leaves is found by the next try: what
 * is at the new place with the same bytes counts as copied, and what somebody else has put there keeps its name. */
#include "transfer/transfer_i.h"

#include "base/path.h"
#include "crypto/digest.h"

#include <errno.h>
#include <string.h>

#define SX_COPY_DEPTH 128 /* directories in each other */
#define SX_COPY_NAMES 100 /* that are tried when somebody else has taken one */

typedef struct Copy {
    SxRun *run;
    SxProvider *p;
    GCancellable *cancel;
} Copy;

/* ---- one file, read there and written there ---- */

typedef struct Piece {
    Copy *copy;
    const char *path;
    SxCond cond;
    guint8 *buf;
    gsize n, want;
} Piece;

static int
piece_sink(void *data, gint64 off, const void *buf, gsize n)
{
    Piece *piece = data;
    if (n > piece->want - piece->n)
        return -EPROTO;
    memcpy(piece->buf + piece->n, buf, n);
    piece->n += n;
    return 0;
}

/* The source of an upload that reads the same storage: nothing of the file is kept here. */
static gssize
piece_read(void *data, gint64 off, void *buf, gsize n)
{
    Piece *piece = data;
    g_autoptr(GError) why = NULL;
    piece->buf = buf;
    piece->n = 0;
    piece->want = n;
    if (n > 0 && !sx_provider_read(piece->copy->p, piece->path, &piece->cond, off, (gint64)n, piece_sink, piece, piece->copy->cancel, &why))
        return -sx_errno(why);
    return (gssize)piece->n;
}

static SxCond
version_of(const SxRemote *r)
{
    return (SxCond){.kind = SX_IF_VERSION, .version = r->version, .size = r->size, .mtime_ns = r->mtime_ns};
}

static int
digest_sink(void *data, gint64 off, const void *buf, gsize n)
{
    sx_digest_update(data, buf, n);
    return 0;
}

static char *
digest_of(Copy *c, const char *path, const SxRemote *r, GError **error)
{
    SxCond cond = version_of(r);
    g_autoptr(SxDigest) d = sx_digest_new("xxh128");
    if (r->size > 0 && !sx_provider_read(c->p, path, &cond, 0, r->size, digest_sink, d, c->cancel, error))
        return NULL;
    return sx_digest_finish(d);
}

/* Is what is at the new place the same, from an earlier try? Somebody else's is never overwritten. */
static bool
is_copied(Copy *c, const char *from, const SxRemote *source, const char *to, bool *ret_same, GError **error)
{
    g_autoptr(SxRemote) there = NULL;
    *ret_same = false;
    if (!sx_remote_stat(c->run, to, &there, error))
        return false;
    bool same = there != NULL && there->kind == source->kind && (source->kind == SX_KIND_DIR || there->size == source->size);
    if (same && source->kind == SX_KIND_SYMLINK)
        same = g_strcmp0(there->target, source->target) == 0;
    if (same && source->kind == SX_KIND_FILE) {
        g_autofree char *a = digest_of(c, from, source, error);
        g_autofree char *b = a != NULL ? digest_of(c, to, there, error) : NULL;
        if (b == NULL)
            return false;
        same = strcmp(a, b) == 0;
    }
    *ret_same = same;
    return true;
}

static bool
make_one(Copy *c, const char *from, const SxRemote *source, const char *to, GError **error)
{
    g_autoptr(SxRemote) made = NULL;
    if (source->kind == SX_KIND_DIR)
        return sx_provider_mkdir(c->p, to, &made, c->cancel, error);
    if (source->kind == SX_KIND_SYMLINK)
        return sx_provider_symlink(c->p, to, source->target, &made, c->cancel, error);
    if (SX_CAN(c->p, copy))
        return sx_provider_copy(c->p, from, to, c->cancel, error);
    Piece piece = {.copy = c, .path = from, .cond = version_of(source)};
    SxUpload up = {.source = {.size = source->size, .read = piece_read, .fd = -1, .data = &piece},
                   .cond = {.kind = SX_IF_ABSENT},
                   .mtime_ns = source->mtime_ns,
                   .mode = source->mode,
                   .hash = source->hash};
    return sx_provider_write(c->p, to, &up, &made, c->cancel, error);
}

/* Makes it in `dir`; returns where. The names of a conflict come from the object, so that the next try finds the same. */
static char *
make_at(Copy *c, const char *from, const SxRemote *source, const char *dir, const char *name, GError **error)
{
    gint64 when = source->mtime_ns != SX_TIME_UNKNOWN ? source->mtime_ns : 0;
    for (unsigned n = 0; n < SX_COPY_NAMES; n++) {
        g_autofree char *other = n > 0 ? sx_conflict_name(name, c->run->task.t->who, when, n - 1) : g_strdup(name);
        g_autofree char *to = sx_path_join(dir, other);
        g_autoptr(GError) why = NULL;
        bool same = make_one(c, from, source, to, &why);
        if (!same && !sx_error_is(why, SX_ERR_EXISTS)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return NULL;
        }
        if (!same && !is_copied(c, from, source, to, &same, error))
            return NULL;
        if (same)
            return g_steal_pointer(&to);
    }
    sx_fail(error, SX_ERR_EXISTS, "%s: no name is free for it in %s", from, dir);
    return NULL;
}

static bool
collect(void *data, const SxRemote *entry)
{
    g_ptr_array_add(data, sx_remote_copy(entry));
    return true;
}

static bool
move_one(Copy *c, const char *from, const SxRemote *source, const char *dir, const char *name, int depth, GError **error)
{
    if (depth > SX_COPY_DEPTH)
        return sx_fail(error, SX_ERR_UNSUPPORTED, "%s: too many directories in each other", from);
    g_autofree char *to = make_at(c, from, source, dir, name, error);
    if (to == NULL)
        return false;
    SxCond cond = version_of(source);
    if (source->kind == SX_KIND_DIR) {
        g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func((GDestroyNotify)sx_remote_free);
        cond.kind = SX_IF_ANY;
        if (!sx_provider_list(c->p, from, collect, entries, c->cancel, error))
            return false;
        for (guint i = 0; i < entries->len; i++) {
            const SxRemote *e = entries->pdata[i];
            g_autofree char *child = sx_path_join(from, e->name);
            if (!move_one(c, child, e, to, e->name, depth + 1, error))
                return false;
        }
    }
    g_autoptr(GError) why = NULL;
    if (sx_provider_remove(c->p, from, source->kind, &cond, c->cancel, &why) || sx_error_is(why, SX_ERR_NOT_FOUND))
        return true;
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

bool
sx_copy_move_dir(SxRun *run, const char *from, const char *to, GError **error)
{
    Copy c = {.run = run, .p = run->task.v->p, .cancel = run->task.t->cancel};
    g_autoptr(SxRemote) source = NULL, target = NULL;
    if (!sx_remote_stat(run, from, &source, error) || !sx_remote_stat(run, to, &target, error))
        return false;
    if (target != NULL && target->kind != SX_KIND_DIR)
        return sx_fail(error, SX_ERR_EXISTS, "%s: something else is there", to);
    if (source == NULL)
        return target != NULL || sx_fail(error, SX_ERR_NOT_FOUND, "%s: is not there", from);
    g_autofree char *dir = sx_path_dirname(to);
    return move_one(&c, from, source, dir, sx_path_basename(to), 0, error);
}
