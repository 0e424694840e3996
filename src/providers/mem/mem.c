/* A provider in memory, for tests: exact where its options say so, as poor as some servers where they say no. */
#include "providers/mem/store_i.h"

#include "base/path.h"

#include <errno.h>
#include <string.h>

#define MEM_PIECE (64 * 1024) /* bytes read from a source or given to a sink at a time */

typedef struct Mem {
    SxMemStore *store;
    const SxClock *clock;
    SxCaps caps;
    gint64 precision_ns; /* of modification times */
    GChecksumType hash;
    bool hashes;
} Mem;

static const SxOption options[] = {
    {"store", SX_OPT_STRING, NULL, NULL, false, "Name of a storage of the process that outlives the provider."},
    {"versions", SX_OPT_BOOL, "yes", NULL, false, "Versions count up; no: they are made of size and time."},
    {"conditional", SX_OPT_BOOL, "yes", NULL, false, "Conditions are checked when a write is published; no: only before it."},
    {"version-after-write", SX_OPT_BOOL, "yes", NULL, false, "A write tells the new version."},
    {"stable-ids", SX_OPT_BOOL, "yes", NULL, false, "Objects have ids that survive a move."},
    {"server-move", SX_OPT_BOOL, "yes", NULL, false, "Objects can be moved."},
    {"server-copy", SX_OPT_BOOL, "yes", NULL, false, "Files can be copied."},
    {"atomic", SX_OPT_BOOL, "yes", NULL, false, "No: readers see a file while it is being written."},
    {"symlinks", SX_OPT_BOOL, "yes", NULL, false, "Symbolic links can be kept."},
    {"set-mtime", SX_OPT_BOOL, "yes", NULL, false, "Modification times can be set."},
    {"set-mode", SX_OPT_BOOL, "yes", NULL, false, "Permission bits can be set."},
    {"coarse-times", SX_OPT_BOOL, "no", NULL, false, "Times have whole seconds only."},
    {"hash", SX_OPT_ENUM, "sha1", "none md5 sha1 sha256", false, "Which checksum it tells."},
    {"resumable", SX_OPT_BOOL, "no", NULL, false, "Uploads can be continued."},
    {"chunk-size", SX_OPT_SIZE, "64K", NULL, false, "Unit of a resumable upload."},
    {"push", SX_OPT_BOOL, "no", NULL, false, "Changes are told at once."},
    {"forbidden", SX_OPT_STRING, NULL, NULL, false, "Bytes that names cannot have."},
    {"longest-name", SX_OPT_INT, "255", "1 255", false, "Bytes in a name."},
    {"max-file-size", SX_OPT_SIZE, "0", NULL, false, "Longest file; 0: any."},
    {0},
};

static void
caps_from(const SxSection *s, SxCaps *c)
{
    c->atomic_replace = sx_section_bool(s, "atomic");
    c->conditional_write = c->conditional_remove = sx_section_bool(s, "conditional");
    c->version_after_write = sx_section_bool(s, "version-after-write");
    c->content_version = sx_section_bool(s, "versions");
    c->stable_ids = sx_section_bool(s, "stable-ids");
    c->server_move = sx_section_bool(s, "server-move");
    c->server_copy = sx_section_bool(s, "server-copy");
    c->symlinks = sx_section_bool(s, "symlinks");
    c->set_mtime = sx_section_bool(s, "set-mtime");
    c->set_mode = sx_section_bool(s, "set-mode");
    c->resumable_write = sx_section_bool(s, "resumable");
    c->chunk_size = c->resumable_write ? sx_section_int(s, "chunk-size") : 0;
    c->watch = sx_section_bool(s, "push");
    c->name_max = (gsize)sx_section_int(s, "longest-name");
    c->max_file_size = sx_section_int(s, "max-file-size");
    c->mtime_precision_ns = sx_section_bool(s, "coarse-times") ? 1000000000 : 1;
    c->forbidden = sx_section_string(s, "forbidden");
    if (c->forbidden == NULL)
        c->forbidden = "";
}

static void
mem_close(void *self)
{
    Mem *m = self;
    sx_mem_store_unref(m->store);
    g_free(m);
}

static void *
mem_open(const SxProviderEnv *env, GError **error)
{
    static const struct {
        const char *name;
        GChecksumType type;
    } hashes[] = {{"md5", G_CHECKSUM_MD5}, {"sha1", G_CHECKSUM_SHA1}, {"sha256", G_CHECKSUM_SHA256}};
    Mem *m = g_new0(Mem, 1);
    m->clock = env->clock;
    m->caps = sx_provider_mem.caps;
    caps_from(env->section, &m->caps);
    m->precision_ns = m->caps.mtime_precision_ns;
    const char *hash = sx_section_string(env->section, "hash");
    m->caps.hash_kind = NULL;
    for (gsize i = 0; i < G_N_ELEMENTS(hashes); i++)
        if (strcmp(hashes[i].name, hash) == 0) {
            m->caps.hash_kind = hashes[i].name;
            m->hash = hashes[i].type;
            m->hashes = true;
        }
    if (m->caps.resumable_write && m->caps.chunk_size <= 0) {
        sx_fail(error, SX_ERR_CONFIG, "chunk-size must be more than 0");
        g_free(m);
        return NULL;
    }
    const char *store = sx_section_string(env->section, "store");
    m->store = store != NULL ? sx_mem_store(store) : sx_mem_store_new();
    return m;
}

static bool
mem_probe(void *self, SxCaps *caps, GCancellable *cancel, GError **error)
{
    Mem *m = self;
    g_mutex_lock(&m->store->lock);
    m->store->calls[SX_CALL_PROBE]++;
    g_mutex_unlock(&m->store->lock);
    *caps = m->caps;
    return true;
}

static bool
fail_path(GError **error, int errnum, const char *path)
{
    return sx_fail(error, sx_error_code_from_errno(errnum), "%s: %s", path, g_strerror(errnum));
}

static char *
version_of(const Mem *m, const MemNode *n)
{
    if (n->kind == SX_KIND_DIR)
        return g_strdup("");
    if (m->caps.content_version)
        return g_strdup_printf("v%" G_GUINT64_FORMAT, n->version);
    gsize size = n->kind == SX_KIND_FILE ? g_bytes_get_size(n->bytes) : 0;
    return g_strdup_printf("%" G_GSIZE_FORMAT "-%" G_GINT64_FORMAT, size, n->mtime_ns / 1000000000);
}

static SxRemote *
remote_of(const Mem *m, const MemNode *n, const char *name)
{
    SxRemote *r = sx_remote_new(name, n->kind);
    g_free(r->version);
    r->version = version_of(m, n);
    r->mtime_ns = n->mtime_ns / m->precision_ns * m->precision_ns;
    r->btime_ns = n->btime_ns;
    r->mode = m->caps.set_mode ? n->mode : -1;
    if (m->caps.stable_ids)
        r->id = g_strdup_printf("id%" G_GUINT64_FORMAT, n->id);
    if (n->kind == SX_KIND_FILE) {
        r->size = (gint64)g_bytes_get_size(n->bytes);
        if (m->hashes) {
            g_autofree char *sum = g_compute_checksum_for_bytes(m->hash, n->bytes);
            r->hash = g_strconcat(m->caps.hash_kind, ":", sum, NULL);
        }
    }
    if (n->kind == SX_KIND_SYMLINK) {
        r->size = (gint64)strlen(n->target);
        r->target = g_strdup(n->target);
    }
    return r;
}

/* Takes the lock, counts, finds. *ret_node NULL: not there. On failure the lock is released. */
static bool
enter(Mem *m, SxCall call, const char *path, MemNode **ret_node, GCancellable *cancel, GError **error)
{
    if (g_cancellable_is_cancelled(cancel))
        return sx_fail(error, SX_ERR_CANCELLED, "%s: cancelled", path);
    g_mutex_lock(&m->store->lock);
    m->store->calls[call]++;
    MemNode *dir = NULL;
    int r = *path != '\0' ? sx_mem_parent_locked(m->store, path, &dir) : 0;
    if (r != 0) {
        g_mutex_unlock(&m->store->lock);
        return fail_path(error, -r, path);
    }
    *ret_node = sx_mem_find_locked(m->store, path);
    return true;
}

static bool
leave(Mem *m)
{
    g_mutex_unlock(&m->store->lock);
    return true;
}

static bool
leave_failed(Mem *m, GError **error, int errnum, const char *path)
{
    g_mutex_unlock(&m->store->lock);
    return fail_path(error, errnum, path);
}

static bool
enter_existing(Mem *m, SxCall call, const char *path, MemNode **ret_node, GCancellable *cancel, GError **error)
{
    if (!enter(m, call, path, ret_node, cancel, error))
        return false;
    return *ret_node != NULL || leave_failed(m, error, ENOENT, path);
}

/* lock is held; false: leaves it held and sets the error. */
static bool
cond_holds(const Mem *m, const MemNode *n, const SxCond *cond, const char *path, GError **error)
{
    if (cond->kind == SX_IF_ABSENT && n != NULL)
        return fail_path(error, EEXIST, path);
    if (cond->kind != SX_IF_VERSION)
        return true;
    if (n == NULL)
        return sx_fail(error, SX_ERR_CHANGED, "%s: is gone", path);
    g_autofree char *now = version_of(m, n);
    if (n->kind != SX_KIND_DIR && strcmp(now, cond->version) != 0)
        return sx_fail(error, SX_ERR_CHANGED, "%s: has version %s, not %s", path, now, cond->version);
    return true;
}

static gint64
now_or(const Mem *m, gint64 wanted)
{
    gint64 t = wanted != SX_TIME_UNKNOWN && m->caps.set_mtime ? wanted : sx_clock_real_ns(m->clock);
    return t / m->precision_ns * m->precision_ns;
}

static bool
mem_list(void *self, const char *path, SxListFn fn, void *data, GCancellable *cancel, GError **error)
{
    Mem *m = self;
    MemNode *dir;
    if (!enter_existing(m, SX_CALL_LIST, path, &dir, cancel, error))
        return false;
    if (dir->kind != SX_KIND_DIR)
        return leave_failed(m, error, ENOTDIR, path);
    g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func((GDestroyNotify)sx_remote_free);
    g_autoptr(GList) names = g_list_sort(g_hash_table_get_keys(dir->children), (GCompareFunc)strcmp);
    for (GList *l = names; l != NULL; l = l->next)
        g_ptr_array_add(entries, remote_of(m, g_hash_table_lookup(dir->children, l->data), l->data));
    leave(m);
    for (guint i = 0; i < entries->len; i++)
        if (g_cancellable_is_cancelled(cancel) || !fn(data, g_ptr_array_index(entries, i)))
            return sx_fail(error, SX_ERR_CANCELLED, "%s: cancelled", path);
    return true;
}

static bool
mem_stat(void *self, const char *path, SxRemote **ret_remote, GCancellable *cancel, GError **error)
{
    Mem *m = self;
    MemNode *n;
    if (!enter_existing(m, SX_CALL_STAT, path, &n, cancel, error))
        return false;
    *ret_remote = remote_of(m, n, sx_path_basename(path));
    return leave(m);
}

static bool
mem_read(void *self, const char *path, const SxCond *cond, gint64 off, gint64 len, SxSinkFn sink, void *data,
         GCancellable *cancel, GError **error)
{
    Mem *m = self;
    MemNode *n;
    if (!enter_existing(m, SX_CALL_READ, path, &n, cancel, error))
        return false;
    if (n->kind != SX_KIND_FILE)
        return leave_failed(m, error, n->kind == SX_KIND_DIR ? EISDIR : EINVAL, path);
    bool same = cond_holds(m, n, cond, path, error);
    g_autoptr(GBytes) bytes = g_bytes_ref(n->bytes);
    leave(m);
    if (!same)
        return false;
    gsize size;
    const char *p = g_bytes_get_data(bytes, &size);
    gint64 end = len < 0 ? (gint64)size : MIN((gint64)size, off + len);
    while (off < end) {
        gint64 k = MIN(end - off, MEM_PIECE);
        if (g_cancellable_is_cancelled(cancel))
            return sx_fail(error, SX_ERR_CANCELLED, "%s: cancelled", path);
        int r = sink(data, off, p + off, (gsize)k);
        if (r != 0)
            return fail_path(error, -r, path);
        off += k;
    }
    return true;
}

/* ---- write ---- */

/* One write under way. */
typedef struct Writing {
    Mem *m;
    const char *path;
    const SxUpload *up;
    GCancellable *cancel;
    GByteArray *got;
    char *token; /* of the staged upload, or NULL */
} Writing;

static bool
publish_locked(Writing *w, bool whole, GError **error)
{
    Mem *m = w->m;
    SxMemStore *s = m->store;
    MemNode *dir = NULL;
    int r = sx_mem_parent_locked(s, w->path, &dir);
    if (r != 0)
        return fail_path(error, -r, w->path);
    MemNode *n = g_hash_table_lookup(dir->children, sx_path_basename(w->path));
    if (n != NULL && n->kind != SX_KIND_FILE)
        return fail_path(error, n->kind == SX_KIND_DIR ? EISDIR : EEXIST, w->path);
    if (whole && m->caps.atomic_replace && m->caps.conditional_write && !cond_holds(m, n, &w->up->cond, w->path, error))
        return false;
    bool fresh = n == NULL;
    if (fresh) {
        n = sx_mem_add_locked(s, dir, w->path, SX_KIND_FILE);
        n->btime_ns = sx_clock_real_ns(m->clock);
    }
    g_autoptr(GBytes) bytes = g_bytes_new(w->got->data, w->got->len);
    r = sx_mem_set_bytes_locked(s, n, bytes);
    if (r != 0 && fresh)
        g_hash_table_remove(dir->children, sx_path_basename(w->path));
    if (r != 0)
        return fail_path(error, -r, w->path);
    n->mtime_ns = now_or(m, w->up->mtime_ns);
    if (w->up->mode >= 0 && m->caps.set_mode)
        n->mode = w->up->mode;
    sx_mem_notify_locked(s, w->path);
    return true;
}

/* What an earlier try has left, or a new place for it. */
static void
stage(Writing *w)
{
    SxMemStore *s = w->m->store;
    g_mutex_lock(&s->lock);
    MemStaged *st = w->up->resume != NULL ? g_hash_table_lookup(s->staged, w->up->resume) : NULL;
    if (st != NULL && st->size == w->up->source.size && strcmp(st->path, w->path) == 0) {
        w->token = g_strdup(w->up->resume);
        g_byte_array_append(w->got, st->bytes->data, st->bytes->len);
    } else {
        st = g_new0(MemStaged, 1);
        st->path = g_strdup(w->path);
        st->size = w->up->source.size;
        st->bytes = g_byte_array_new();
        w->token = g_strdup_printf("up%" G_GUINT64_FORMAT, ++s->last_id);
        g_hash_table_insert(s->staged, g_strdup(w->token), st);
    }
    g_mutex_unlock(&s->lock);
    if (w->up->save_resume != NULL)
        w->up->save_resume(w->up->data, w->token);
}

static bool
keep_piece(Writing *w, gsize from, GError **error)
{
    SxMemStore *s = w->m->store;
    bool ok = true;
    g_mutex_lock(&s->lock);
    MemStaged *st = w->token != NULL ? g_hash_table_lookup(s->staged, w->token) : NULL;
    if (st != NULL && st->bytes->len == from)
        g_byte_array_append(st->bytes, w->got->data + from, w->got->len - (guint)from);
    if (!w->m->caps.atomic_replace)
        ok = publish_locked(w, false, error);
    g_mutex_unlock(&s->lock);
    return ok;
}

static bool
receive(Writing *w, GError **error)
{
    const SxSource *src = &w->up->source;
    gsize piece = w->m->caps.chunk_size > 0 ? (gsize)w->m->caps.chunk_size : MEM_PIECE;
    while ((gint64)w->got->len < src->size) {
        if (g_cancellable_is_cancelled(w->cancel))
            return sx_fail(error, SX_ERR_CANCELLED, "%s: cancelled", w->path);
        guint from = w->got->len;
        gsize want = (gsize)MIN((gint64)piece, src->size - from);
        g_byte_array_set_size(w->got, from + (guint)want);
        gssize k = src->read(src->data, from, w->got->data + from, want);
        if (k < 0 || (gsize)k != want) {
            g_byte_array_set_size(w->got, from);
            return fail_path(error, k < 0 ? (int)-k : EIO, w->path);
        }
        if (!keep_piece(w, from, error))
            return false;
        if (w->up->progress != NULL)
            w->up->progress(w->up->data, w->got->len);
    }
    return true;
}

static bool
hash_matches(Writing *w, GError **error)
{
    const Mem *m = w->m;
    if (w->up->hash == NULL || !m->hashes || !g_str_has_prefix(w->up->hash, m->caps.hash_kind))
        return true;
    g_autofree char *sum = g_compute_checksum_for_data(m->hash, w->got->data, w->got->len);
    const char *colon = strchr(w->up->hash, ':');
    return (colon != NULL && g_ascii_strcasecmp(colon + 1, sum) == 0) ||
           sx_fail(error, SX_ERR_CORRUPT, "%s: the bytes do not have the hash %s", w->path, w->up->hash);
}

static bool
publish(Writing *w, SxRemote **ret_remote, GError **error)
{
    SxMemStore *s = w->m->store;
    g_mutex_lock(&s->lock);
    void (*hook)(void *, const char *) = s->before_publish;
    void *hook_data = s->before_publish_data;
    g_mutex_unlock(&s->lock);
    if (hook != NULL)
        hook(hook_data, w->path);
    g_mutex_lock(&s->lock);
    bool ok = publish_locked(w, true, error);
    if (ok) {
        *ret_remote = remote_of(w->m, sx_mem_find_locked(s, w->path), sx_path_basename(w->path));
        if (w->token != NULL)
            g_hash_table_remove(s->staged, w->token);
    }
    g_mutex_unlock(&s->lock);
    if (ok && !w->m->caps.version_after_write) {
        g_free((*ret_remote)->version);
        (*ret_remote)->version = g_strdup("");
    }
    return ok;
}

static bool
mem_write(void *self, const char *path, const SxUpload *upload, SxRemote **ret_remote, GCancellable *cancel, GError **error)
{
    Mem *m = self;
    MemNode *n;
    if (!enter(m, SX_CALL_WRITE, path, &n, cancel, error))
        return false;
    if (n != NULL && n->kind == SX_KIND_DIR)
        return leave_failed(m, error, EISDIR, path);
    bool holds = cond_holds(m, n, &upload->cond, path, error);
    leave(m);
    if (!holds)
        return false;
    g_autoptr(GByteArray) got = g_byte_array_new();
    Writing w = {.m = m, .path = path, .up = upload, .cancel = cancel, .got = got};
    if (m->caps.resumable_write && upload->source.size > m->caps.chunk_size)
        stage(&w);
    bool ok = receive(&w, error) && hash_matches(&w, error) && publish(&w, ret_remote, error);
    g_free(w.token);
    return ok;
}

static void
mem_discard(void *self, const char *path, const char *resume)
{
    Mem *m = self;
    g_mutex_lock(&m->store->lock);
    m->store->calls[SX_CALL_DISCARD]++;
    g_hash_table_remove(m->store->staged, resume);
    g_mutex_unlock(&m->store->lock);
}

/* ---- the rest ---- */

static bool
make(Mem *m, SxCall call, const char *path, SxKind kind, const char *target, SxRemote **ret, GCancellable *cancel, GError **error)
{
    MemNode *n, *dir = NULL;
    if (!enter(m, call, path, &n, cancel, error))
        return false;
    if (n != NULL)
        return leave_failed(m, error, EEXIST, path);
    sx_mem_parent_locked(m->store, path, &dir);
    n = sx_mem_add_locked(m->store, dir, path, kind);
    n->target = g_strdup(target);
    n->mtime_ns = n->btime_ns = now_or(m, SX_TIME_UNKNOWN);
    sx_mem_notify_locked(m->store, path);
    *ret = remote_of(m, n, sx_path_basename(path));
    return leave(m);
}

static bool
mem_mkdir(void *self, const char *path, SxRemote **ret_remote, GCancellable *cancel, GError **error)
{
    return make(self, SX_CALL_MKDIR, path, SX_KIND_DIR, NULL, ret_remote, cancel, error);
}

static bool
mem_symlink(void *self, const char *path, const char *target, SxRemote **ret_remote, GCancellable *cancel, GError **error)
{
    return make(self, SX_CALL_SYMLINK, path, SX_KIND_SYMLINK, target, ret_remote, cancel, error);
}

/* 0, or the errno for an object of another kind than was expected. */
static int
wrong_kind(const MemNode *n, SxKind kind)
{
    if ((n->kind == SX_KIND_DIR) == (kind == SX_KIND_DIR) || kind == SX_KIND_NONE)
        return 0;
    return n->kind == SX_KIND_DIR ? EISDIR : ENOTDIR;
}

static bool
mem_remove(void *self, const char *path, SxKind kind, const SxCond *cond, GCancellable *cancel, GError **error)
{
    Mem *m = self;
    MemNode *n;
    if (!enter_existing(m, SX_CALL_REMOVE, path, &n, cancel, error))
        return false;
    int wrong = wrong_kind(n, kind);
    if (wrong == 0 && n->kind == SX_KIND_DIR && g_hash_table_size(n->children) > 0)
        wrong = ENOTEMPTY;
    if (wrong != 0)
        return leave_failed(m, error, wrong, path);
    bool ok = cond_holds(m, n, cond, path, error);
    if (ok)
        sx_mem_delete_locked(m->store, path);
    leave(m);
    return ok;
}

static bool
mem_move(void *self, const char *from, const char *to, SxKind kind, GCancellable *cancel, GError **error)
{
    Mem *m = self;
    MemNode *n;
    if (!enter_existing(m, SX_CALL_MOVE, from, &n, cancel, error))
        return false;
    int wrong = wrong_kind(n, kind);
    if (wrong != 0)
        return leave_failed(m, error, wrong, from);
    int r = sx_mem_rename_locked(m->store, from, to);
    return r == 0 ? leave(m) : leave_failed(m, error, -r, r == -EEXIST ? to : from);
}

static bool
mem_copy(void *self, const char *from, const char *to, GCancellable *cancel, GError **error)
{
    Mem *m = self;
    MemNode *n, *dir = NULL;
    if (!enter_existing(m, SX_CALL_COPY, from, &n, cancel, error))
        return false;
    if (n->kind != SX_KIND_FILE)
        return leave_failed(m, error, n->kind == SX_KIND_DIR ? EISDIR : EINVAL, from);
    int r = sx_mem_parent_locked(m->store, to, &dir);
    if (r == 0 && g_hash_table_contains(dir->children, sx_path_basename(to)))
        r = -EEXIST;
    if (r != 0)
        return leave_failed(m, error, -r, to);
    MemNode *made = sx_mem_add_locked(m->store, dir, to, SX_KIND_FILE);
    made->mtime_ns = n->mtime_ns;
    made->btime_ns = sx_clock_real_ns(m->clock);
    made->mode = n->mode;
    r = sx_mem_set_bytes_locked(m->store, made, n->bytes);
    if (r != 0) {
        g_hash_table_remove(dir->children, sx_path_basename(to));
        return leave_failed(m, error, -r, to);
    }
    sx_mem_notify_locked(m->store, to);
    return leave(m);
}

static bool
mem_set_attr(void *self, const char *path, gint64 mtime_ns, int mode, SxRemote **ret_remote, GCancellable *cancel, GError **error)
{
    Mem *m = self;
    MemNode *n;
    if (!enter_existing(m, SX_CALL_SET_ATTR, path, &n, cancel, error))
        return false;
    if (mtime_ns != SX_TIME_UNKNOWN && m->caps.set_mtime)
        n->mtime_ns = now_or(m, mtime_ns);
    if (mode >= 0 && m->caps.set_mode)
        n->mode = mode;
    *ret_remote = remote_of(m, n, sx_path_basename(path));
    return leave(m);
}

static bool
mem_watch(void *self, SxChangedFn fn, void *data, GCancellable *cancel, GError **error)
{
    SxMemStore *s = ((Mem *)self)->store;
    MemWatcher w = {.paths = G_QUEUE_INIT};
    SxWaker waker;
    sx_waker_init(&waker, &s->lock, &s->changed, cancel);
    g_mutex_lock(&s->lock);
    s->calls[SX_CALL_WATCH]++;
    g_ptr_array_add(s->watchers, &w);
    g_cond_broadcast(&s->changed);
    while (!g_cancellable_is_cancelled(cancel)) {
        g_autofree char *path = g_queue_pop_head(&w.paths);
        bool all = path == NULL && w.overflow;
        if (path == NULL && !all) {
            g_cond_wait(&s->changed, &s->lock);
            continue;
        }
        w.overflow &= !all;
        g_mutex_unlock(&s->lock);
        fn(data, all ? "" : path, all);
        g_mutex_lock(&s->lock);
    }
    g_ptr_array_remove(s->watchers, &w);
    g_queue_clear_full(&w.paths, g_free);
    g_mutex_unlock(&s->lock);
    sx_waker_clear(&waker);
    return sx_fail_cancelled(error);
}

static bool
mem_quota(void *self, SxQuota *ret_quota, GCancellable *cancel, GError **error)
{
    SxMemStore *s = ((Mem *)self)->store;
    g_mutex_lock(&s->lock);
    s->calls[SX_CALL_QUOTA]++;
    *ret_quota = (SxQuota){.total = s->space, .used = s->used, .free = s->space < 0 ? -1 : MAX(s->space - s->used, 0)};
    g_mutex_unlock(&s->lock);
    return true;
}

const SxProviderType sx_provider_mem = {
    .name = "mem",
    .doc = "A storage in memory, for tests.",
    .options = options,
    .caps = {.atomic_replace = true, .conditional_write = true, .conditional_remove = true, .version_after_write = true,
             .content_version = true, .stable_ids = true, .server_move = true, .server_copy = true, .ranges = true,
             .set_mtime = true, .set_mode = true, .symlinks = true, .mtime_precision_ns = 1, .hash_kind = "sha1",
             .name_max = SX_NAME_MAX, .forbidden = ""},
    .open = mem_open, .close = mem_close, .probe = mem_probe, .list = mem_list, .stat = mem_stat, .read = mem_read,
    .write = mem_write, .discard = mem_discard, .mkdir = mem_mkdir, .symlink = mem_symlink, .remove = mem_remove,
    .move = mem_move, .copy = mem_copy, .set_attr = mem_set_attr, .watch = mem_watch, .quota = mem_quota,
};
