/* Downloads: what programs wait for, what they will read next, and what is pinned.
 *
 * A stream is one ranged read of one content version; it ends where it was asked to end. A reader that goes on in order has
 * its window doubled with each stream, and the next one is started before the last has ended, so that a long file comes
 * in few long requests without a pause between; a far seek asks for one block. A stream that nobody uses any more is
 * cancelled. Small files that a provider has a hash of are checked before a byte is shown, larger ones when they are complete. */
#include "transfer/transfer_i.h"

#include "base/log.h"
#include "crypto/digest.h"

#include <errno.h>
#include <string.h>

#define SX_READER_STREAMS 2               /* what a reader holds: the current and the next */
#define SX_JOIN_DISTANCE (4 * 1024 * 1024)/* so far behind us a stream may be to be waited for */
#define SX_FETCH_TRIES 4                  /* versions that change under a reader */
#define SX_PIN_RETRY_MS 60000
#define SX_HASH_BUFFER (1024 * 1024)

typedef struct SxStream {
    SxTask task;
    gint64 ino, cver, size;
    SxContent *content;      /* a ref */
    gint64 start, pos, end;  /* pos: lock; all before it is in the cache */
    guint refs, users;       /* lock: owners of the memory; readers and waiters who want the bytes */
    bool background;
    bool done;               /* lock */
    int err;                 /* lock: 0 or negative */
    gint64 started_mono_ms;
    GCancellable *cancel;
    /* The worker's own: */
    GByteArray *part;        /* bytes that do not fill a block yet; of a whole small file all of them */
    bool whole;
} SxStream;

struct SxReader {
    SxTransfer *t;           /* set by the first fetch */
    SxProv *v;               /* lock */
    gint64 last, next;       /* lock: where the last read began and ended */
    gint64 window;           /* lock */
    SxStream *streams[SX_READER_STREAMS]; /* lock */
};

/* ---- streams ---- */

/* lock is held */
static void
stream_unref(SxStream *s)
{
    if (--s->refs > 0)
        return;
    g_object_unref(s->cancel);
    g_free(s);
}

/* lock is held; returns the cancellable (a ref) of a stream that nobody wants any more, to be fired without the lock */
static GCancellable *
stream_leave(SxStream *s)
{
    GCancellable *cancel = --s->users == 0 && !s->background && !s->done ? g_object_ref(s->cancel) : NULL;
    stream_unref(s);
    return cancel;
}

static void
fire(GCancellable *cancel)
{
    if (cancel == NULL)
        return;
    g_cancellable_cancel(cancel);
    g_object_unref(cancel);
}

/* lock is held */
static void
stream_forget(SxTransfer *t, SxStream *s)
{
    GPtrArray *streams = g_hash_table_lookup(t->fetches, &s->ino);
    if (streams == NULL || !g_ptr_array_remove(streams, s) || streams->len > 0)
        return;
    gpointer key, value;
    if (g_hash_table_steal_extended(t->fetches, &s->ino, &key, &value)) {
        g_free(key);
        g_ptr_array_unref(value);
    }
}

static void
stream_end(SxStream *s, int err)
{
    SxTransfer *t = s->task.t;
    g_mutex_lock(&t->lock);
    gint64 rest = s->end - s->pos, from = s->pos;
    t->ahead -= rest;
    s->done = true;
    s->err = err;
    stream_forget(t, s);
    SxContent *content = g_steal_pointer(&s->content);
    stream_unref(s);
    g_cond_broadcast(&t->cond);
    g_mutex_unlock(&t->lock);
    if (err != 0 && rest > 0)
        sx_content_set_error(content, from, rest, -err);
    sx_content_unref(content);
}

static void
stream_advance(SxStream *s, gint64 pos)
{
    SxTransfer *t = s->task.t;
    g_mutex_lock(&t->lock);
    t->ahead -= pos - s->pos;
    s->pos = pos;
    if (s->users > 0)
        g_cond_broadcast(&t->cond);
    g_mutex_unlock(&t->lock);
}

/* Whole blocks, or the tail of the file, go into the cache. */
static int
put(SxStream *s, const void *buf, gsize n)
{
    SxTransfer *t = s->task.t;
    int rc = sx_content_fill(s->content, s->cver, s->pos, buf, n);
    while (rc == -ENOSPC) {
        rc = sx_cache_reserve(t->cache, (gint64)n, s->cancel);
        if (rc == 0)
            rc = sx_content_fill(s->content, s->cver, s->pos, buf, n);
        else
            break;
    }
    if (rc == 0)
        stream_advance(s, s->pos + (gint64)n);
    return rc;
}

static int
sink(void *data, gint64 off, const void *buf, gsize n)
{
    SxStream *s = data;
    sx_transfer_moved_bytes(s->task.t, false, (gint64)n);
    if (off != s->pos + (gint64)s->part->len || off + (gint64)n > s->end)
        return -EPROTO;
    if (s->whole) {
        g_byte_array_append(s->part, buf, (guint)n);
        return 0;
    }
    const guint8 *p = buf;
    while (n > 0) {
        gsize want = SX_BLOCK - s->part->len, take = MIN(n, want);
        int rc = 0;
        if (s->part->len == 0 && n >= SX_BLOCK) {
            take = n - n % SX_BLOCK;
            rc = put(s, p, take);
        } else {
            g_byte_array_append(s->part, p, (guint)take);
            bool tail = s->pos + (gint64)s->part->len == s->end;
            if (s->part->len == SX_BLOCK || tail) {
                rc = put(s, s->part->data, s->part->len);
                g_byte_array_set_size(s->part, 0);
            }
        }
        if (rc != 0)
            return rc;
        p += take;
        n -= take;
    }
    return 0;
}

/* ---- hashes ---- */

static SxDigest *
digest_for(const char *hash)
{
    const char *colon = hash != NULL ? strchr(hash, ':') : NULL;
    g_autofree char *kind = colon != NULL ? g_strndup(hash, (gsize)(colon - hash)) : NULL;
    return kind != NULL ? sx_digest_new(kind) : NULL;
}

static bool
bytes_match(const char *hash, const void *bytes, gsize n)
{
    g_autoptr(SxDigest) d = digest_for(hash);
    if (d == NULL)
        return true;
    sx_digest_update(d, bytes, n);
    g_autofree char *is = sx_digest_finish(d);
    return g_ascii_strcasecmp(is, hash) == 0;
}

/* 1 the same, 0 another, -1 cannot be told (changed or evicted meanwhile) */
static int
content_matches(SxContent *content, const char *hash, gint64 size)
{
    g_autoptr(SxDigest) d = digest_for(hash);
    if (d == NULL)
        return -1;
    g_autofree char *buf = g_malloc(SX_HASH_BUFFER);
    for (gint64 off = 0; off < size;) {
        gssize n = sx_content_read(content, off, buf, SX_HASH_BUFFER);
        if (n <= 0)
            return -1;
        sx_digest_update(d, buf, (gsize)n);
        off += n;
    }
    g_autofree char *is = sx_digest_finish(d);
    return g_ascii_strcasecmp(is, hash) == 0;
}

/* The cache forgets what it has of a content: what came is not what the provider has, or it has no room for all of it. For the tree the remote content changes away and back, so
 * the content gets a new version number and an empty file. */
static void
drop_content(SxStream *s, const SxRow *row)
{
    SxTransfer *t = s->task.t;
    g_autoptr(SxRemote) r = sx_remote_new(row->r_name, SX_KIND_FILE);
    r->size = row->r_size;
    r->mtime_ns = row->r_mtime_ns;
    r->mode = row->r_mode;
    r->id = g_strdup(row->r_id);
    r->hash = g_strdup(row->r_hash);
    for (int i = 0; i < 2; i++) {
        g_autoptr(SxChanges) changes = sx_changes_new();
        g_free(r->version);
        r->version = i == 0 ? g_strconcat(row->r_version, "-dropped", NULL) : g_strdup(row->r_version);
        if (sx_tree_apply_stat(t->tree, row->r_parent, row->r_name, r, changes, NULL))
            sx_transfer_tell(t, changes);
    }
}

static bool
is_clean(const SxRow *row, gint64 cver)
{
    return row->gen == row->r_gen && row->cver == cver && row->r_version != NULL && *row->r_version != '\0' &&
           g_strcmp0(row->r_version, row->base_version) == 0;
}

/* The last block has come. */
static int
check_complete(SxStream *s, const SxRow *row)
{
    SxTransfer *t = s->task.t;
    if (!sx_content_complete(s->content) || sx_content_cver(s->content) != s->cver)
        return 0;
    if (!s->whole && is_clean(row, s->cver) && content_matches(s->content, row->r_hash, s->size) == 0) {
        g_autoptr(SxRow) now = sx_tree_row(t->tree, row->id);
        if (now == NULL || !is_clean(now, s->cver))
            return 0; /* written to or replaced while we looked */
        drop_content(s, row);
        sx_transfer_event(t, s->task.v, s->ino, "error", "the bytes that came are not those that the provider has a hash of");
        return -ESTALE;
    }
    sx_tree_set_cached(t->tree, s->ino, s->cver, 2);
    return 0;
}

/* ---- open files without a name ---- */

typedef struct SxKept {
    gint64 ino, row;
    char *version; /* that the row had there: what the content is based on */
} SxKept;

void
sx_download_kept_free(gpointer kept)
{
    g_free(((SxKept *)kept)->version);
    g_free(kept);
}

void
sx_transfer_keep(SxTransfer *t, gint64 ino)
{
    g_autoptr(SxRow) row = sx_tree_row_of(t->tree, ino);
    const char *version = row == NULL || row->r_parent == 0 ? NULL : row->base_version != NULL ? row->base_version : row->r_version;
    if (version == NULL)
        return;
    SxKept *kept = g_new0(SxKept, 1);
    *kept = (SxKept){.ino = ino, .row = row->id, .version = g_strdup(version)};
    g_mutex_lock(&t->lock);
    g_hash_table_replace(t->kept, &kept->ino, kept);
    g_mutex_unlock(&t->lock);
}

void
sx_transfer_unkeep(SxTransfer *t, gint64 ino)
{
    g_mutex_lock(&t->lock);
    bool was = g_hash_table_remove(t->kept, &ino);
    g_mutex_unlock(&t->lock);
    if (was)
        sx_transfer_kick(t);
}

/* The row that still has on the provider what the nameless file was; it may wait for deletion, or show another file by now. */
static SxRow *
kept_row(SxTransfer *t, gint64 ino)
{
    g_mutex_lock(&t->lock);
    const SxKept *kept = g_hash_table_lookup(t->kept, &ino);
    gint64 id = kept != NULL ? kept->row : 0;
    g_autofree char *version = kept != NULL ? g_strdup(kept->version) : NULL;
    g_mutex_unlock(&t->lock);
    SxAttr attr;
    g_autoptr(SxRow) row = id != 0 ? sx_tree_row(t->tree, id) : NULL;
    if (row == NULL || row->r_parent == 0 || g_strcmp0(row->r_version, version) != 0 || sx_tree_getattr(t->tree, ino, &attr) != 0)
        return NULL;
    g_free(row->base_version);
    row->base_version = g_steal_pointer(&version);
    row->cver = attr.cver;
    row->gen = row->r_gen + 1; /* it never counts as clean: nothing that is found out about it is told to the tree */
    return g_steal_pointer(&row);
}

static gint64
kept_for(SxTransfer *t, gint64 row)
{
    gint64 ino = 0;
    GHashTableIter iter;
    gpointer value;
    g_mutex_lock(&t->lock);
    g_hash_table_iter_init(&iter, t->kept);
    while (ino == 0 && g_hash_table_iter_next(&iter, NULL, &value))
        ino = ((SxKept *)value)->row == row ? ((SxKept *)value)->ino : 0;
    g_mutex_unlock(&t->lock);
    return ino;
}

bool
sx_download_is_kept(SxProv *v, const SxRow *row)
{
    SxTransfer *t = v->t;
    gint64 off, len, ino = kept_for(t, row->id);
    g_autoptr(SxRow) source = ino != 0 ? kept_row(t, ino) : NULL;
    g_autoptr(SxContent) content = source != NULL ? sx_cache_peek(t->cache, ino) : NULL;
    if (content == NULL || !sx_content_missing(content, 0, sx_content_size(content), &off, &len))
        return false;
    sx_download_background(v, ino);
    return true;
}

/* ---- one stream on its worker ---- */

/* What is there is not what we asked for. -EAGAIN: ask again; -ESTALE: the content has another version now. */
static int
look_again(SxStream *s, const SxRow *row, const char *path, guint64 since, const GError *why)
{
    SxTransfer *t = s->task.t;
    if (sx_look_path_moved(t, since, row->r_parent) || sx_look_name_touched(t, since, row->r_parent, row->r_name))
        return -EAGAIN;
    g_autoptr(SxRemote) there = NULL;
    g_autoptr(GError) error = NULL;
    if (!sx_provider_stat(s->task.v->p, path, &there, s->cancel, &error) && !sx_error_is(error, SX_ERR_NOT_FOUND))
        return -sx_errno(error);
    if (sx_look_path_moved(t, since, row->r_parent) || sx_look_name_touched(t, since, row->r_parent, row->r_name))
        return -EAGAIN;
    bool aside = false;
    g_clear_error(&error);
    if (there == NULL && !sx_remote_find_aside(s->task.v, row, &aside, &error))
        return -sx_errno(error);
    if (aside)
        return -EAGAIN;
    g_autoptr(SxChanges) changes = sx_changes_new();
    if (!sx_tree_apply_stat(t->tree, row->r_parent, row->r_name, there, changes, &error))
        return -sx_errno(error);
    sx_transfer_tell(t, changes);
    if (there == NULL)
        return -EIO;
    return sx_content_cver(s->content) != s->cver ? -ESTALE : -EIO;
}

static int
read_remote(SxStream *s, SxRow *row, const char *path, GError **error)
{
    const char *version = row->base_version != NULL ? row->base_version : row->r_version;
    bool same = g_strcmp0(version, row->r_version) == 0;
    SxCond cond = {.kind = SX_IF_VERSION, .version = version != NULL ? version : "",
                   .size = same ? row->r_size : -1, .mtime_ns = same ? row->r_mtime_ns : SX_TIME_UNKNOWN};
    s->whole = s->start == 0 && s->pos == 0 && s->end == s->size && s->size <= SX_FIRST_WINDOW && is_clean(row, s->cver) &&
               row->r_hash != NULL;
    g_byte_array_set_size(s->part, 0);
    g_mutex_lock(&s->task.t->lock);
    gint64 pos = s->pos;
    g_mutex_unlock(&s->task.t->lock);
    if (!sx_provider_read(s->task.v->p, path, &cond, pos, s->end - pos, sink, s, s->cancel, error))
        return -1;
    if (!s->whole)
        return s->pos == s->end ? 0 : -EIO;
    if (s->part->len != s->end || !bytes_match(row->r_hash, s->part->data, s->part->len)) {
        sx_fail(error, SX_ERR_CORRUPT, "%s: %s: the bytes that came are not those that the provider has a hash of",
                sx_provider_label(s->task.v->p), path);
        return -1;
    }
    return put(s, s->part->data, s->part->len);
}

/* A file larger than the cache is read through it: when nothing else can go, what is here of the file itself starts anew. */
static bool
drop_itself(SxStream *s, const SxRow *row)
{
    SxTransfer *t = s->task.t;
    SxAttr attr;
    bool may = !s->background && sx_tree_getattr(t->tree, s->ino, &attr) == 0 && !attr.dirty && !attr.writing && attr.nlink == 1 &&
               is_clean(row, s->cver) && sx_content_present_bytes(s->content) > 0 && !sx_tree_pinned(t->tree, s->ino);
    if (may)
        drop_content(s, row);
    return may;
}

static int
stream_once(SxStream *s)
{
    SxTransfer *t = s->task.t;
    g_autoptr(SxRow) row = sx_tree_row_of(t->tree, s->ino);
    if (row == NULL)
        row = kept_row(t, s->ino);
    if (row == NULL || row->r_parent == 0)
        return -EIO; /* neither here nor there any more */
    if (row->cver != s->cver)
        return -ESTALE;
    guint64 since = sx_look_begin(t);
    int rc = -EIO;
    g_autofree char *path = sx_tree_row_remote_path(t->tree, row->id);
    g_autoptr(GError) why = NULL;
    if (path != NULL)
        rc = read_remote(s, row, path, &why);
    if (rc == 0)
        sx_health_ok(s->task.v);
    else if (why != NULL && (sx_error_is(why, SX_ERR_CHANGED) || sx_error_is(why, SX_ERR_NOT_FOUND)))
        rc = look_again(s, row, path, since, why);
    else if (why != NULL) {
        rc = sx_error_is(why, SX_ERR_CORRUPT) ? -EAGAIN : -sx_errno(why);
        if (!g_cancellable_is_cancelled(s->cancel))
            sx_health_error(s->task.v, why);
        sx_debug("download: %s", why->message);
    }
    sx_look_end(t);
    if (rc == -ENOSPC && drop_itself(s, row))
        return -ESTALE;
    return rc != 0 ? rc : check_complete(s, row);
}

/* Once more when the object was moved meanwhile, or came damaged. */
static void
stream_work(SxStream *s)
{
    int rc = -EINTR;
    s->part = g_byte_array_new();
    if (!g_cancellable_is_cancelled(s->cancel))
        rc = stream_once(s);
    if (rc == -EAGAIN && !g_cancellable_is_cancelled(s->cancel))
        rc = stream_once(s);
    g_clear_pointer(&s->part, g_byte_array_unref);
    if (g_cancellable_is_cancelled(s->cancel) && rc != 0)
        rc = -EINTR;
    SxTransfer *t = s->task.t;
    if (s->background && rc != 0)
        sx_schedule_hold(t, -s->ino, SX_PIN_RETRY_MS);
    if (s->background && g_atomic_int_dec_and_test(&t->n_pinned)) /* these have come: what is next? */
        g_atomic_int_set(&t->look_at_pins, 1);
    stream_end(s, rc == -EAGAIN ? -EIO : rc);
}

static void
stream_run(SxTask *task)
{
    SxProv *v = task->v;
    SxTransfer *t = task->t;
    stream_work((SxStream *)task);
    if (g_atomic_int_get(&t->look_at_pins))
        sx_transfer_kick(t);
    sx_lane_end(v, SX_LANE_DOWN);
}

/* lock is held. One reference is the table's, which stream_end drops. */
static SxStream *
stream_new(SxProv *v, SxContent *content, gint64 cver, gint64 start, gint64 end, bool background)
{
    SxTransfer *t = v->t;
    SxStream *s = g_new0(SxStream, 1);
    s->task = (SxTask){.t = t, .v = v, .lane = SX_LANE_DOWN, .fn = stream_run};
    s->ino = sx_content_ino(content);
    s->cver = cver;
    s->content = sx_content_ref(content);
    s->start = s->pos = start;
    s->end = end;
    s->refs = 1;
    s->background = background;
    s->started_mono_ms = sx_clock_mono_ms(t->clock);
    s->cancel = g_cancellable_new();
    GPtrArray *streams = g_hash_table_lookup(t->fetches, &s->ino);
    if (streams == NULL) {
        gint64 *key = g_new(gint64, 1);
        *key = s->ino;
        streams = g_ptr_array_new();
        g_hash_table_insert(t->fetches, key, streams);
    }
    g_ptr_array_add(streams, s);
    t->ahead += end - start;
    return s;
}

/* ---- readers ---- */

SxReader *
sx_reader_new(void)
{
    SxReader *r = g_new0(SxReader, 1);
    r->next = -1;
    return r;
}

/* lock is held; gathers what to cancel */
static void
reader_leave(SxReader *r, GCancellable **ret_cancel)
{
    for (guint i = 0; i < SX_READER_STREAMS; i++) {
        ret_cancel[i] = r->streams[i] != NULL ? stream_leave(r->streams[i]) : NULL;
        r->streams[i] = NULL;
    }
}

void
sx_reader_free(SxReader *r)
{
    if (r == NULL)
        return;
    GCancellable *cancel[SX_READER_STREAMS] = {NULL};
    if (r->t != NULL) {
        g_mutex_lock(&r->t->lock);
        reader_leave(r, cancel);
        g_mutex_unlock(&r->t->lock);
    }
    for (guint i = 0; i < SX_READER_STREAMS; i++)
        fire(cancel[i]);
    g_free(r);
}

/* lock is held. The reader wants the bytes of s; its older stream is not held any more. */
static GCancellable *
reader_take(SxReader *r, SxStream *s)
{
    for (guint i = 0; i < SX_READER_STREAMS; i++)
        if (r->streams[i] == s)
            return NULL;
    GCancellable *cancel = r->streams[0] != NULL ? stream_leave(r->streams[0]) : NULL;
    r->streams[0] = r->streams[1];
    r->streams[1] = s;
    s->refs++;
    s->users++;
    return cancel;
}

/* lock is held. Notes where the program reads; a jump ends what was fetched for it and its window. */
static bool
reader_note(SxReader *r, gint64 off, gint64 len, GCancellable **ret_cancel)
{
    /* The kernel reads ahead with several requests that may come in any order. */
    bool in_order = r->next < 0 ? off == 0 : off >= r->last - SX_FIRST_WINDOW && off <= r->next + SX_FIRST_WINDOW;
    if (!in_order) {
        reader_leave(r, ret_cancel);
        r->window = 0;
    }
    r->last = off;
    r->next = in_order ? MAX(r->next, off + len) : off + len;
    return in_order;
}

/* lock is held */
static gint64
next_window(SxTransfer *t, SxReader *r, bool in_order)
{
    gint64 cap = MIN(MIN(SX_MAX_WINDOW, t->memory_budget / 4), sx_cache_size(t->cache) / 4);
    if (r == NULL || !in_order)
        return SX_BLOCK;
    r->window = r->window == 0 ? SX_FIRST_WINDOW : r->window * 2;
    r->window = CLAMP(r->window, SX_BLOCK, MAX(cap, SX_BLOCK));
    gint64 room = t->memory_budget - t->ahead;
    return MAX(MIN(r->window, room), SX_BLOCK);
}

/* lock is held. A stream that brings off soon, or NULL; *end is cut where another one begins. */
static SxStream *
find_stream(SxTransfer *t, gint64 ino, gint64 cver, gint64 off, gint64 *end)
{
    GPtrArray *streams = g_hash_table_lookup(t->fetches, &ino);
    for (guint i = 0; streams != NULL && i < streams->len; i++) {
        SxStream *s = streams->pdata[i];
        if (s->cver != cver || s->done || g_cancellable_is_cancelled(s->cancel))
            continue;
        if (s->pos <= off && off < s->end && off - s->pos <= MAX(SX_JOIN_DISTANCE, (s->end - s->start) / 2))
            return s;
        if (s->start > off && s->start < *end)
            *end = s->start;
    }
    return NULL;
}

/* lock is held. A background stream that somebody waits for now. */
static void
make_urgent(SxStream *s)
{
    SxLane *lane = &s->task.v->lanes[SX_LANE_DOWN];
    if (g_queue_remove(&lane->idle, s))
        g_queue_push_tail(&lane->urgent, s);
}

static gint64
block_up(gint64 off, gint64 size)
{
    return MIN((off + SX_BLOCK - 1) / SX_BLOCK * SX_BLOCK, size);
}

typedef struct Wanted {
    SxProv *v;
    SxContent *content;
    SxReader *reader;
    gint64 cver;
    gint64 off, end;  /* what is missing: block-aligned */
    gint64 limit;     /* up to here nothing is present: a window may reach so far */
    gint64 size;      /* of the content */
    bool in_order;
} Wanted;

/* A stream that brings w->off, with a use for the caller; *ret_new: it must be submitted. */
static SxStream *
stream_for(Wanted *w, bool *ret_new)
{
    SxTransfer *t = w->v->t;
    GCancellable *left = NULL;
    g_mutex_lock(&t->lock);
    gint64 end = w->limit;
    SxStream *s = find_stream(t, sx_content_ino(w->content), w->cver, w->off, &end);
    *ret_new = s == NULL;
    if (s == NULL) {
        gint64 window = next_window(t, w->reader, w->in_order);
        end = MIN(end, MAX(w->end, block_up(w->off + window, w->size)));
        s = stream_new(w->v, w->content, w->cver, w->off, end, false);
        s->size = w->size;
    } else {
        make_urgent(s);
    }
    s->refs++;
    s->users++;
    if (w->reader != NULL)
        left = reader_take(w->reader, s);
    g_mutex_unlock(&t->lock);
    fire(left);
    return s;
}

static void
start_stream(SxStream *s)
{
    if (s->task.t->executor != NULL)
        stream_work(s);
    else
        sx_lane_submit(&s->task, true);
}

/* Waits until the first missing block has come. 0 also when the stream ended well before it: the caller looks again. */
static int
wait_stream(SxStream *s, gint64 upto, gint64 timeout_ms, GCancellable *cancel)
{
    SxTransfer *t = s->task.t;
    SxWaker waker;
    sx_waker_init(&waker, &t->lock, &t->cond, cancel);
    int ret = 0;
    g_mutex_lock(&t->lock);
    gint64 pos = s->pos, deadline = sx_clock_mono_ms(t->clock) + timeout_ms;
    while (ret == 0 && !s->done && s->pos < MIN(upto, s->end)) {
        if (s->pos != pos) { /* it moves: the time counts from here */
            pos = s->pos;
            deadline = sx_clock_mono_ms(t->clock) + timeout_ms;
        }
        if (g_cancellable_is_cancelled(cancel) || t->stopping)
            ret = -EINTR;
        else if (!sx_transfer_wait(t, deadline))
            ret = -ETIMEDOUT;
    }
    if (ret == 0 && s->done)
        ret = s->err;
    GCancellable *left = stream_leave(s);
    g_mutex_unlock(&t->lock);
    sx_waker_clear(&waker);
    fire(left);
    return ret;
}

/* The program reads in order and what it reads is here: the next stream starts before this one has ended. */
static void
read_ahead(SxProv *v, SxContent *content, SxReader *r, gint64 off)
{
    SxTransfer *t = v->t;
    g_mutex_lock(&t->lock);
    gint64 window = r->window, room = t->memory_budget - t->ahead;
    g_mutex_unlock(&t->lock);
    gint64 from, len, size = sx_content_size(content);
    if (t->executor != NULL || room < SX_FIRST_WINDOW || off >= size)
        return;
    window = MAX(window, SX_FIRST_WINDOW);
    gint64 look = MIN(window / 2, size - off);
    Wanted w = {.v = v, .content = content, .reader = r, .cver = sx_content_cver(content), .size = size,
                .in_order = true};
    /* The range may begin in what a running stream brings: then that is all that is needed now. */
    if (!sx_content_missing(content, off, look, &from, &len))
        return;
    g_mutex_lock(&t->lock);
    for (gint64 end = G_MAXINT64; from < off + look;) {
        SxStream *s = find_stream(t, sx_content_ino(content), w.cver, from, &end);
        if (s == NULL)
            break;
        from = s->end;
    }
    g_mutex_unlock(&t->lock);
    if (from >= off + look || !sx_content_missing(content, from, 2 * window, &w.off, &len))
        return;
    w.end = w.off + MIN(len, SX_BLOCK);
    w.limit = w.off + len;
    bool new_;
    SxStream *s = stream_for(&w, &new_);
    if (new_)
        start_stream(s);
    g_mutex_lock(&t->lock);
    GCancellable *left = stream_leave(s);
    g_mutex_unlock(&t->lock);
    fire(left);
}

/* A file never changes its provider, so each reader asks the store once. */
static SxProv *
reader_provider(SxTransfer *t, SxReader *r, SxContent *content)
{
    g_mutex_lock(&t->lock);
    SxProv *v = r != NULL ? r->v : NULL;
    g_mutex_unlock(&t->lock);
    if (v != NULL)
        return v;
    v = sx_transfer_prov_of(t, sx_content_ino(content));
    if (r == NULL)
        return v;
    g_mutex_lock(&t->lock);
    r->t = t;
    r->v = v;
    g_mutex_unlock(&t->lock);
    return v;
}

int
sx_transfer_fetch(SxTransfer *t, SxContent *content, SxReader *reader, gint64 off, gint64 len, GCancellable *cancel)
{
    gint64 from, n;
    if (sx_content_complete(content))
        return 0;
    SxProv *v = reader_provider(t, reader, content);
    if (v == NULL)
        return -EIO;
    bool in_order = false;
    if (reader != NULL) {
        GCancellable *left[SX_READER_STREAMS] = {NULL};
        g_mutex_lock(&t->lock);
        in_order = reader_note(reader, off, len, left);
        g_mutex_unlock(&t->lock);
        for (guint i = 0; i < SX_READER_STREAMS; i++)
            fire(left[i]);
    }
    int tries = 0;
    while (sx_content_missing(content, off, len, &from, &n)) {
        if (sx_health_paused(v, NULL)) {
            sx_health_probe_now(v);
            return -EHOSTUNREACH;
        }
        Wanted w = {.v = v, .content = content, .reader = reader, .cver = sx_content_cver(content), .off = from,
                    .end = from + n, .size = sx_content_size(content), .in_order = in_order};
        gint64 more, more_len;
        w.limit = sx_content_missing(content, from, SX_MAX_WINDOW, &more, &more_len) && more == from ? from + more_len : w.end;
        bool new_;
        SxStream *s = stream_for(&w, &new_);
        if (new_)
            start_stream(s);
        int rc = wait_stream(s, MIN(block_up(from + 1, w.end), w.end), v->timeout_ms, cancel);
        /* Replaced, or cancelled by its other users just when we joined: look again. */
        bool again = rc == -ESTALE || (rc == -EINTR && !g_cancellable_is_cancelled(cancel) && !g_cancellable_is_cancelled(t->cancel));
        if (rc != 0 && !(again && ++tries < SX_FETCH_TRIES))
            return rc == -ESTALE ? -EIO : rc;
    }
    if (reader != NULL && in_order)
        read_ahead(v, content, reader, off + len);
    return 0;
}

int
sx_transfer_fetch_all(SxTransfer *t, gint64 ino, GCancellable *cancel)
{
    SxAttr attr;
    int rc = sx_tree_getattr(t->tree, ino, &attr);
    if (rc != 0 || attr.kind != SX_KIND_FILE)
        return rc;
    g_autoptr(GError) error = NULL;
    g_autoptr(SxContent) content = sx_content_open(t->cache, &attr, &error);
    if (content == NULL)
        return -sx_errno(error);
    SxReader *reader = sx_reader_new();
    for (gint64 off = 0; rc == 0 && off < sx_content_size(content); off += SX_FIRST_WINDOW)
        rc = sx_transfer_fetch(t, content, reader, off, SX_FIRST_WINDOW, cancel);
    sx_reader_free(reader);
    return rc;
}

/* Pinned files come one stream a missing range, behind everybody who waits. */
void
sx_download_background(SxProv *v, gint64 ino)
{
    SxTransfer *t = v->t;
    SxAttr attr;
    if (sx_tree_getattr(t->tree, ino, &attr) != 0)
        return;
    g_autoptr(SxContent) content = sx_content_open(t->cache, &attr, NULL);
    if (content == NULL)
        return;
    gint64 from, len, cver = sx_content_cver(content), size = sx_content_size(content);
    if (!sx_content_missing(content, 0, size, &from, &len)) {
        sx_tree_set_cached(t->tree, ino, cver, 2);
        return;
    }
    g_mutex_lock(&t->lock);
    SxStream *s = NULL;
    gint64 key = -ino, *until = g_hash_table_lookup(t->holds, &key);
    bool held = until != NULL && *until > sx_clock_mono_ms(t->clock);
    if (!held && !t->stopping && !g_hash_table_contains(t->fetches, &ino)) {
        s = stream_new(v, content, cver, from, from + len, true);
        s->size = size;
    }
    g_mutex_unlock(&t->lock);
    if (s == NULL)
        return;
    g_atomic_int_inc(&t->n_pinned);
    sx_lane_submit(&s->task, false);
}

/* ---- looking in, ending ---- */

void
sx_download_stop(SxTransfer *t)
{
    g_autoptr(GPtrArray) cancels = g_ptr_array_new_with_free_func(g_object_unref);
    g_mutex_lock(&t->lock);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, t->fetches);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        GPtrArray *streams = value;
        for (guint i = 0; i < streams->len; i++)
            g_ptr_array_add(cancels, g_object_ref(((SxStream *)streams->pdata[i])->cancel));
    }
    g_mutex_unlock(&t->lock);
    for (guint i = 0; i < cancels->len; i++)
        g_cancellable_cancel(cancels->pdata[i]);
}

bool
sx_download_progress(SxTransfer *t, gint64 ino, gint64 *ret_done, gint64 *ret_total)
{
    g_mutex_lock(&t->lock);
    GPtrArray *streams = g_hash_table_lookup(t->fetches, &ino);
    SxStream *s = streams != NULL ? streams->pdata[0] : NULL;
    SxContent *content = s != NULL && s->content != NULL ? sx_content_ref(s->content) : NULL;
    gint64 size = s != NULL ? s->size : 0;
    g_mutex_unlock(&t->lock);
    if (content == NULL)
        return false;
    *ret_done = sx_content_present_bytes(content);
    *ret_total = size;
    sx_content_unref(content);
    return true;
}

void
sx_download_jobs(SxTransfer *t, GPtrArray *jobs)
{
    g_mutex_lock(&t->lock);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, t->fetches);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        GPtrArray *streams = value;
        for (guint i = 0; i < streams->len; i++) {
            const SxStream *s = streams->pdata[i];
            SxJob *job = g_new0(SxJob, 1);
            *job = (SxJob){.provider = s->task.v->id, .ino = s->ino, .what = "download", .done = s->pos - s->start,
                           .total = s->end - s->start, .started_mono_ms = s->started_mono_ms};
            g_ptr_array_add(jobs, job);
        }
    }
    g_mutex_unlock(&t->lock);
}
