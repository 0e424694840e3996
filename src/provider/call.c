/* The only caller of the plug-ins' functions: checks what goes in and what comes back, keeps the online state, counts.
 *
 * Before a call: the path is one, the function exists, the provider is not read-only, nobody has cancelled, the credentials
 * were not refused a moment ago, and the other side has been probed. After it: the error names provider and path, and
 * tells whether the other side is there.
 * The online state: any answer, also a refusal of the one call, means ONLINE; OFFLINE and TIMEOUT mean OFFLINE; AUTH and TLS
 * mean REFUSED; a call that was cancelled or broke off says nothing. */
#include "provider/provider_i.h"

#include "base/log.h"
#include "base/path.h"

#include <errno.h>
#include <string.h>

#define SX_PATH_MAX (16 * 1024) /* bytes of a path; longer ones are not asked for */

static const char *const call_names[SX_N_CALLS] = {
    [SX_CALL_PROBE] = "probe",       [SX_CALL_LIST] = "list",       [SX_CALL_STAT] = "stat",
    [SX_CALL_READ] = "read",         [SX_CALL_WRITE] = "write",     [SX_CALL_MKDIR] = "mkdir",
    [SX_CALL_SYMLINK] = "symlink",   [SX_CALL_REMOVE] = "remove",   [SX_CALL_MOVE] = "move",
    [SX_CALL_COPY] = "copy",         [SX_CALL_SET_ATTR] = "set_attr", [SX_CALL_WATCH] = "watch",
    [SX_CALL_QUOTA] = "quota",       [SX_CALL_LEND_FD] = "lend_fd", [SX_CALL_DISCARD] = "discard",
};
G_STATIC_ASSERT(SX_N_CALLS <= G_N_ELEMENTS(((SxProviderStats *)NULL)->by_call));

const char *
sx_call_name(SxCall call)
{
    return call < SX_N_CALLS ? call_names[call] : "?";
}

/* ---- after a call ---- */

static bool
answered(const GError *why)
{
    switch (sx_error_code(why)) {
    case SX_ERR_FAILED:
    case SX_ERR_CANCELLED:
    case SX_ERR_LOST:
    case SX_ERR_INVALID:
    case SX_ERR_CONFIG: return false;
    default: return true;
    }
}

/* lock is held */
static void
note_online(SxProvider *p, const GError *why)
{
    SxOnline now = SX_ONLINE_UNKNOWN;
    if (why == NULL)
        now = SX_ONLINE;
    else if (sx_error_is(why, SX_ERR_OFFLINE) || sx_error_is(why, SX_ERR_TIMEOUT))
        now = SX_OFFLINE;
    else if (sx_error_is(why, SX_ERR_AUTH) || sx_error_is(why, SX_ERR_TLS))
        now = SX_ONLINE_REFUSED;
    else if (answered(why))
        now = SX_ONLINE;
    if (now == SX_ONLINE_UNKNOWN)
        return;
    p->online = now;
    g_clear_error(&p->offline_error);
    if (now != SX_ONLINE)
        p->offline_error = g_error_copy(why);
    if (now == SX_ONLINE_REFUSED)
        p->refused_mono_ms = sx_clock_mono_ms(p->env.clock);
}

static bool
names_provider(const SxProvider *p, const char *text)
{
    gsize n = strlen(p->label), m = strlen(p->name);
    return (strncmp(text, p->label, n) == 0 && text[n] == ':') || (strncmp(text, p->name, m) == 0 && text[m] == ':');
}

/* About the provider's root, whose path is empty: "nas: : lost" reads "nas: lost". */
static void
leave_out_empty_path(const SxProvider *p, GError *why)
{
    const char *const heads[] = {p->label, p->name};
    for (guint i = 0; i < G_N_ELEMENTS(heads); i++) {
        char *end = why->message + strlen(heads[i]);
        if (g_str_has_prefix(why->message, heads[i]) && g_str_has_prefix(end, ": : ")) {
            memmove(end, end + 2, strlen(end + 2) + 1);
            return;
        }
    }
}

static GError *
name_error(const SxProvider *p, SxCall call, const char *path, GError *why)
{
    if (why == NULL) /* a plug-in that fails without a reason */
        why = sx_error_new(SX_ERR_FAILED, "%s failed", sx_call_name(call));
    if (names_provider(p, why->message)) {
        leave_out_empty_path(p, why);
        return why;
    }
    if (path != NULL && *path != '\0' && !g_str_has_prefix(why->message, path))
        g_prefix_error(&why, "%s: ", path);
    g_prefix_error(&why, "%s: ", p->label);
    return why;
}

/* Takes `why`. Returns ok, so that a call ends with it. */
static bool
finish(SxProvider *p, SxCall call, const char *path, bool ok, GError *why, GError **error)
{
    if (ok)
        g_clear_error(&why);
    else
        why = name_error(p, call, path, why);
    g_mutex_lock(&p->lock);
    p->stats.calls++;
    p->stats.by_call[call]++;
    if (!ok)
        p->stats.errors++;
    note_online(p, why);
    g_mutex_unlock(&p->lock);
    if (p->inner == NULL) /* a filter's call is logged by what it wraps */
        sx_debug("%s: %s %s%s%s", p->label, sx_call_name(call), path != NULL ? path : "", ok ? "" : ": ",
                 ok ? "" : why->message);
    if (!ok)
        g_propagate_error(error, why);
    return ok;
}

static void
count_bytes(SxProvider *p, gint64 up, gint64 down)
{
    g_mutex_lock(&p->lock);
    p->stats.bytes_up += (guint64)MAX(up, 0);
    p->stats.bytes_down += (guint64)MAX(down, 0);
    g_mutex_unlock(&p->lock);
}

/* ---- the probe ---- */

/* One thread asks. The lock is held at begin and end, not in between. */
static void
run_probe(SxProvider *p, GCancellable *cancel)
{
    p->probing = true;
    SxCaps caps = p->inner != NULL ? p->caps : p->type->caps;
    g_mutex_unlock(&p->lock);
    GError *why = NULL;
    bool ok = p->type->probe == NULL || p->type->probe(p->self, &caps, cancel, &why);
    g_autoptr(GError) told = NULL;
    finish(p, SX_CALL_PROBE, NULL, ok, why, &told);
    g_mutex_lock(&p->lock);
    if (ok) {
        p->caps = caps;
        p->caps.probed = true;
    }
    g_clear_error(&p->probe_error);
    p->probe_error = g_steal_pointer(&told);
    p->probing = false;
    p->probe_flight++;
    g_cond_broadcast(&p->probe_done);
}

static bool
probe(SxProvider *p, bool again, GCancellable *cancel, GError **error)
{
    SxWaker waker;
    sx_waker_init(&waker, &p->lock, &p->probe_done, cancel);
    g_mutex_lock(&p->lock);
    bool gave_up = false, done = false;
    while (!done && !gave_up && (again || !p->caps.probed)) {
        guint64 flight = p->probe_flight;
        bool joined = p->probing;
        if (!joined)
            run_probe(p, cancel);
        while (p->probe_flight == flight && !gave_up) {
            gave_up = g_cancellable_is_cancelled(cancel);
            if (!gave_up)
                g_cond_wait(&p->probe_done, &p->lock);
        }
        /* Somebody else's cancellation is not our answer. */
        done = !joined || !sx_error_is(p->probe_error, SX_ERR_CANCELLED);
    }
    GError *why = NULL;
    if (gave_up)
        sx_fail_cancelled(&why);
    else if (done && p->probe_error != NULL && (again || !p->caps.probed))
        why = g_error_copy(p->probe_error);
    g_mutex_unlock(&p->lock);
    sx_waker_clear(&waker);
    if (why != NULL)
        g_propagate_error(error, why);
    return why == NULL;
}

bool
sx_provider_probe(SxProvider *p, GCancellable *cancel, GError **error)
{
    return probe(p, true, cancel, error);
}

/* ---- before a call ---- */

static bool
path_valid(const char *path)
{
    if (strlen(path) > SX_PATH_MAX)
        return false;
    for (const char *c = path; *path != '\0'; c++) {
        const char *end = strchrnul(c, '/');
        if (!sx_name_valid(c, (gsize)(end - c)))
            return false;
        if (*end == '\0')
            break;
        c = end;
    }
    return true;
}

static bool
check_path(const SxProvider *p, const char *path, bool may_be_root, GError **error)
{
    if (!path_valid(path))
        return sx_fail(error, SX_ERR_NAME, "%s: \"%s\" is not a path", p->label, path);
    if (*path == '\0' && !may_be_root)
        return sx_fail(error, SX_ERR_INVALID, "%s: the provider's own directory cannot be made, moved or removed", p->label);
    return true;
}

/* After AUTH and TLS nothing is asked for a while: many servers lock an account after a few wrong passwords. */
static bool
refused_just_now(SxProvider *p, GError **error)
{
    g_mutex_lock(&p->lock);
    GError *why = NULL;
    if (p->online == SX_ONLINE_REFUSED && p->offline_error != NULL &&
        sx_clock_mono_ms(p->env.clock) - p->refused_mono_ms < SX_REFUSED_PAUSE_MS)
        why = g_error_copy(p->offline_error);
    g_mutex_unlock(&p->lock);
    if (why == NULL)
        return false;
    g_propagate_error(error, why);
    return true;
}

static bool
fail_read_only(const SxProvider *p, const char *path, GError **error)
{
    return sx_fail(error, SX_ERR_READ_ONLY, "%s: %s: the provider is read-only", p->label, path);
}

/* member: the function that will be called. */
static bool
begin_at(SxProvider *p, gsize member, const char *path, bool writes, GCancellable *cancel, GError **error)
{
    if (writes && p->read_only)
        return fail_read_only(p, path, error);
    if (g_cancellable_is_cancelled(cancel))
        return sx_fail_cancelled(error);
    if (refused_just_now(p, error))
        return false;
    g_mutex_lock(&p->lock);
    bool probed = p->caps.probed;
    g_mutex_unlock(&p->lock);
    if (!probed && !probe(p, false, cancel, error))
        return false;
    SxCaps caps;
    sx_provider_caps(p, &caps);
    if (writes && caps.read_only)
        return fail_read_only(p, path, error);
    if (!sx_provider_can(p, member))
        return sx_fail(error, SX_ERR_UNSUPPORTED, "%s: %s: cannot be done there", p->label, path);
    return true;
}
#define BEGIN(p, member, path, writes, cancel, error)                                                                  \
    begin_at((p), G_STRUCT_OFFSET(SxProviderType, member), (path), (writes), (cancel), (error))

/* For calls that give something a name. */
static bool
check_new_name(SxProvider *p, const char *path, GError **error)
{
    return sx_provider_check_bytes(p, sx_path_basename(path), error);
}

/* ---- list and stat ---- */

typedef struct ListFilter {
    SxProvider *p;
    const char *path;
    SxListFn fn;
    void *data;
    GHashTable *seen; /* names told; owned keys */
} ListFilter;

/* Whatever a server says, only sane numbers and non-NULL texts come out. */
static void
tidy(SxRemote *r)
{
    if (r->size < 0)
        r->size = -1;
    if (r->kind == SX_KIND_DIR)
        r->size = 0;
    if (r->version == NULL)
        r->version = (char *)"";
    if (r->kind == SX_KIND_SYMLINK && r->target == NULL)
        r->target = (char *)"";
    if (r->mode >= 0)
        r->mode &= 07777;
}

static bool
filter_entry(void *data, const SxRemote *entry)
{
    ListFilter *f = data;
    const char *name = entry->name != NULL ? entry->name : "";
    if (!sx_name_valid(name, strlen(name)) || entry->kind == SX_KIND_NONE) {
        g_autofree char *shown = g_strescape(name, NULL);
        sx_warn("%s: /%s: the listing has an entry \"%s\" that cannot be shown; it is left out", f->p->label, f->path, shown);
        return true;
    }
    if (g_str_has_prefix(name, SX_TMP_PREFIX))
        return true;
    if (!g_hash_table_add(f->seen, g_strdup(name))) {
        sx_warn("%s: /%s: the listing has \"%s\" twice; the second is left out", f->p->label, f->path, name);
        return true;
    }
    SxRemote tidied = *entry;
    tidy(&tidied);
    return f->fn(f->data, &tidied);
}

bool
sx_provider_list(SxProvider *p, const char *path, SxListFn fn, void *data, GCancellable *cancel, GError **error)
{
    if (!check_path(p, path, true, error) || !BEGIN(p, list, path, false, cancel, error))
        return false;
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    ListFilter f = {.p = p, .path = path, .fn = fn, .data = data, .seen = seen};
    bool checked = p->inner != NULL; /* by the instance that is wrapped */
    GError *why = NULL;
    bool ok = p->type->list(p->self, path, checked ? fn : filter_entry, checked ? data : &f, cancel, &why);
    return finish(p, SX_CALL_LIST, path, ok, why, error);
}

/* Owns *r; texts become real ones. `name` wins over what the plug-in called it. */
static void
give_remote(SxRemote *r, const char *path, SxKind kind, SxRemote **ret)
{
    g_autoptr(SxRemote) own = r != NULL ? r : sx_remote_new(sx_path_basename(path), kind);
    if (ret == NULL)
        return;
    SxRemote view = *own;
    view.name = (char *)sx_path_basename(path);
    tidy(&view);
    *ret = sx_remote_copy(&view);
}

bool
sx_provider_stat(SxProvider *p, const char *path, SxRemote **ret, GCancellable *cancel, GError **error)
{
    if (!check_path(p, path, true, error) || !BEGIN(p, stat, path, false, cancel, error))
        return false;
    GError *why = NULL;
    SxRemote *r = NULL;
    bool ok = p->type->stat(p->self, path, &r, cancel, &why);
    if (ok && (r == NULL || r->kind == SX_KIND_NONE))
        ok = sx_fail(&why, SX_ERR_PROTOCOL, "the answer does not say what it is");
    if (ok)
        give_remote(r, path, SX_KIND_NONE, ret);
    else
        sx_remote_free(r);
    return finish(p, SX_CALL_STAT, path, ok, why, error);
}

/* ---- read ---- */

typedef struct ReadFilter {
    SxSinkFn sink;
    void *data;
    gint64 next, end; /* where the next byte belongs; end -1: unknown */
    gint64 got;
    bool bad;         /* bytes came that were not asked for, or out of order */
} ReadFilter;

static int
filter_bytes(void *data, gint64 off, const void *buf, gsize n)
{
    ReadFilter *f = data;
    if (off != f->next || (f->end >= 0 && (gint64)n > f->end - off)) {
        f->bad = true;
        return -EPROTO;
    }
    f->next += (gint64)n;
    f->got += (gint64)n;
    return n > 0 ? f->sink(f->data, off, buf, n) : 0;
}

static gint64
read_end(const SxCond *cond, gint64 off, gint64 len)
{
    gint64 end = len >= 0 ? off + len : -1;
    if (cond->kind == SX_IF_VERSION && cond->size >= 0)
        end = end < 0 ? cond->size : MIN(end, cond->size);
    return end;
}

bool
sx_provider_read(SxProvider *p, const char *path, const SxCond *cond, gint64 off, gint64 len, SxSinkFn sink, void *data,
                 GCancellable *cancel, GError **error)
{
    static const SxCond any = {.kind = SX_IF_ANY, .size = -1, .mtime_ns = SX_TIME_UNKNOWN};
    cond = cond != NULL ? cond : &any;
    if (off < 0 || len < -1 || (len > 0 && off > G_MAXINT64 - len) || cond->kind == SX_IF_ABSENT)
        return sx_fail(error, SX_ERR_INVALID, "%s: %s: a range that cannot be", p->label, path);
    if (!check_path(p, path, false, error) || !BEGIN(p, read, path, false, cancel, error))
        return false;
    ReadFilter f = {.sink = sink, .data = data, .next = off, .end = read_end(cond, off, len)};
    GError *why = NULL;
    bool ok = p->type->read(p->self, path, cond, off, len, filter_bytes, &f, cancel, &why);
    if (f.bad) {
        g_clear_error(&why);
        ok = sx_fail(&why, SX_ERR_PROTOCOL, "other bytes came than were asked for");
    } else if (ok && cond->kind == SX_IF_VERSION && cond->size >= 0 && f.next < f.end) {
        ok = sx_fail(&why, SX_ERR_LOST, "the content ended after %" G_GINT64_FORMAT " of %" G_GINT64_FORMAT " bytes", f.next,
                     f.end);
    }
    count_bytes(p, 0, f.got);
    return finish(p, SX_CALL_READ, path, ok, why, error);
}

/* ---- write and the other changes ---- */

static bool
check_upload(SxProvider *p, const char *path, const SxUpload *upload, GError **error)
{
    const SxSource *s = &upload->source;
    if (s->size < 0 || s->read == NULL || (upload->cond.kind == SX_IF_VERSION && upload->cond.version == NULL))
        return sx_fail(error, SX_ERR_INVALID, "%s: %s: an upload without size, source or version", p->label, path);
    SxCaps caps;
    sx_provider_caps(p, &caps);
    if (caps.max_file_size > 0 && s->size > caps.max_file_size)
        return sx_fail(error, SX_ERR_TOO_LARGE, "%s: %s: %" G_GINT64_FORMAT " bytes, at most %" G_GINT64_FORMAT " fit in a file there",
                       p->label, path, s->size, caps.max_file_size);
    return true;
}

bool
sx_provider_write(SxProvider *p, const char *path, const SxUpload *upload, SxRemote **ret, GCancellable *cancel, GError **error)
{
    if (!check_path(p, path, false, error) || !BEGIN(p, write, path, true, cancel, error) ||
        !check_new_name(p, path, error) || !check_upload(p, path, upload, error))
        return false;
    GError *why = NULL;
    SxRemote *r = NULL;
    bool ok = p->type->write(p->self, path, upload, &r, cancel, &why);
    if (ok) {
        if (r == NULL || r->size < 0) { /* what we know ourselves */
            r = r != NULL ? r : sx_remote_new(sx_path_basename(path), SX_KIND_FILE);
            r->size = upload->source.size;
        }
        give_remote(r, path, SX_KIND_FILE, ret);
        count_bytes(p, upload->source.size, 0);
    } else {
        sx_remote_free(r);
    }
    return finish(p, SX_CALL_WRITE, path, ok, why, error);
}

void
sx_provider_discard(SxProvider *p, const char *path, const char *resume)
{
    if (!p->read_only && p->type->discard != NULL && resume != NULL && path_valid(path)) {
        p->type->discard(p->self, path, resume);
        g_mutex_lock(&p->lock);
        p->stats.calls++;
        p->stats.by_call[SX_CALL_DISCARD]++;
        g_mutex_unlock(&p->lock);
    }
}

bool
sx_provider_mkdir(SxProvider *p, const char *path, SxRemote **ret, GCancellable *cancel, GError **error)
{
    if (!check_path(p, path, false, error) || !BEGIN(p, mkdir, path, true, cancel, error) || !check_new_name(p, path, error))
        return false;
    GError *why = NULL;
    SxRemote *r = NULL;
    bool ok = p->type->mkdir(p->self, path, &r, cancel, &why);
    if (ok)
        give_remote(r, path, SX_KIND_DIR, ret);
    else
        sx_remote_free(r);
    return finish(p, SX_CALL_MKDIR, path, ok, why, error);
}

bool
sx_provider_symlink(SxProvider *p, const char *path, const char *target, SxRemote **ret, GCancellable *cancel, GError **error)
{
    if (!check_path(p, path, false, error) || !BEGIN(p, symlink, path, true, cancel, error) || !check_new_name(p, path, error))
        return false;
    if (*target == '\0' || strlen(target) >= 4096)
        return sx_fail(error, SX_ERR_INVALID, "%s: %s: a link needs a target of 1 to 4095 bytes", p->label, path);
    GError *why = NULL;
    SxRemote *r = NULL;
    bool ok = p->type->symlink(p->self, path, target, &r, cancel, &why);
    if (ok)
        give_remote(r, path, SX_KIND_SYMLINK, ret);
    else
        sx_remote_free(r);
    return finish(p, SX_CALL_SYMLINK, path, ok, why, error);
}

bool
sx_provider_remove(SxProvider *p, const char *path, SxKind kind, const SxCond *cond, GCancellable *cancel, GError **error)
{
    static const SxCond any = {.kind = SX_IF_ANY, .size = -1, .mtime_ns = SX_TIME_UNKNOWN};
    if (!check_path(p, path, false, error) || !BEGIN(p, remove, path, true, cancel, error))
        return false;
    GError *why = NULL;
    bool ok = p->type->remove(p->self, path, kind, cond != NULL ? cond : &any, cancel, &why);
    return finish(p, SX_CALL_REMOVE, path, ok, why, error);
}

static bool
check_two_paths(SxProvider *p, const char *from, const char *to, GError **error)
{
    gsize n = strlen(from);
    if (!check_path(p, from, false, error) || !check_path(p, to, false, error))
        return false;
    if (strncmp(from, to, n) == 0 && to[n] == '/')
        return sx_fail(error, SX_ERR_LOOP, "%s: %s: a directory cannot go into itself (%s)", p->label, from, to);
    return true;
}

bool
sx_provider_move(SxProvider *p, const char *from, const char *to, SxKind kind, GCancellable *cancel, GError **error)
{
    if (!check_two_paths(p, from, to, error) || !BEGIN(p, move, from, true, cancel, error) || !check_new_name(p, to, error))
        return false;
    GError *why = NULL;
    bool ok = p->type->move(p->self, from, to, kind, cancel, &why);
    return finish(p, SX_CALL_MOVE, from, ok, why, error);
}

bool
sx_provider_copy(SxProvider *p, const char *from, const char *to, GCancellable *cancel, GError **error)
{
    if (!check_two_paths(p, from, to, error) || !BEGIN(p, copy, from, true, cancel, error) || !check_new_name(p, to, error))
        return false;
    GError *why = NULL;
    bool ok = p->type->copy(p->self, from, to, cancel, &why);
    return finish(p, SX_CALL_COPY, from, ok, why, error);
}

bool
sx_provider_set_attr(SxProvider *p, const char *path, gint64 mtime_ns, int mode, SxRemote **ret, GCancellable *cancel, GError **error)
{
    if (!check_path(p, path, true, error) || !BEGIN(p, set_attr, path, true, cancel, error))
        return false;
    GError *why = NULL;
    g_autoptr(SxRemote) r = NULL;
    bool ok = p->type->set_attr(p->self, path, mtime_ns, mode, &r, cancel, &why);
    if (ok && ret != NULL) {
        *ret = NULL;
        if (r != NULL)
            give_remote(g_steal_pointer(&r), path, SX_KIND_NONE, ret);
    }
    return finish(p, SX_CALL_SET_ATTR, path, ok, why, error);
}

/* ---- the rest ---- */

typedef struct WatchFilter {
    SxProvider *p;
    SxChangedFn fn;
    void *data;
} WatchFilter;

static void
filter_change(void *data, const char *path, bool recursive)
{
    WatchFilter *f = data;
    if (!path_valid(path))
        sx_warn("%s: told about a change of \"%s\", which is not a path", f->p->label, path);
    else
        f->fn(f->data, path, recursive);
}

bool
sx_provider_watch(SxProvider *p, SxChangedFn fn, void *data, GCancellable *cancel, GError **error)
{
    if (!BEGIN(p, watch, "", false, cancel, error))
        return false;
    WatchFilter f = {.p = p, .fn = fn, .data = data};
    GError *why = NULL;
    bool ok = p->type->watch(p->self, filter_change, &f, cancel, &why);
    return finish(p, SX_CALL_WATCH, NULL, ok, why, error);
}

void
sx_provider_watch_dir(SxProvider *p, const char *path)
{
    if (SX_CAN(p, watch) && p->type->watch_dir != NULL && path_valid(path))
        p->type->watch_dir(p->self, path);
}

bool
sx_provider_quota(SxProvider *p, SxQuota *ret, GCancellable *cancel, GError **error)
{
    if (!BEGIN(p, quota, "", false, cancel, error))
        return false;
    GError *why = NULL;
    SxQuota q = {.total = -1, .used = -1, .free = -1};
    bool ok = p->type->quota(p->self, &q, cancel, &why);
    if (ok)
        *ret = (SxQuota){.total = MAX(q.total, -1), .used = MAX(q.used, -1), .free = MAX(q.free, -1)};
    return finish(p, SX_CALL_QUOTA, NULL, ok, why, error);
}

int
sx_provider_lend_fd(SxProvider *p, const char *path, const SxCond *cond, GError **error)
{
    static const SxCond any = {.kind = SX_IF_ANY, .size = -1, .mtime_ns = SX_TIME_UNKNOWN};
    if (!check_path(p, path, false, error) || !BEGIN(p, lend_fd, path, false, NULL, error))
        return -1;
    GError *why = NULL;
    int fd = p->type->lend_fd(p->self, path, cond != NULL ? cond : &any, &why);
    return finish(p, SX_CALL_LEND_FD, path, fd >= 0, why, error) ? fd : -1;
}
