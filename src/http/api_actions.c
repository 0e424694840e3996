/* What changes something or waits: flush, pin, evict, refresh, probes, events, umount. */
#include "http/api_i.h"

#include "base/path.h"

#include <errno.h>
#include <gio/gunixmounts.h>
#include <string.h>

static json_t *
done_doc(const char *path)
{
    json_t *doc = json_pack("{s:b}", "ok", 1);
    sx_json_set_bytes(doc, "path", path);
    return doc;
}

typedef struct FindProvider {
    const char *name;
    int id;
    SxProvider *p;
} FindProvider;

static void
find_provider(void *data, int id, SxProvider *p, gint64 root)
{
    FindProvider *f = data;
    if (f->p != NULL || (strcmp(sx_provider_name(p), f->name) != 0 && strcmp(sx_provider_label(p), f->name) != 0))
        return;
    f->id = id;
    f->p = sx_provider_ref(p);
}

json_t *
sx_api_provider_test(SxApiCall *call, GError **error)
{
    SxTransfer *transfer = sx_vfs_transfer(call->api->vfs);
    FindProvider f = {.name = call->arg};
    sx_transfer_each_provider(transfer, find_provider, &f);
    if (f.p == NULL) {
        sx_fail(error, SX_ERR_NOT_FOUND, "there is no provider '%s' in the configuration", call->arg);
        return NULL;
    }
    g_autoptr(SxProvider) p = f.p;
    gint64 before = sx_clock_mono_ms(call->api->clock);
    if (!sx_transfer_probe(transfer, f.id, call->cancel, error))
        return NULL;
    json_t *doc = sx_doc_provider(call->api, f.id, p);
    json_object_set_new(doc, "elapsed_ms", json_integer(sx_clock_mono_ms(call->api->clock) - before));
    return doc;
}

typedef struct Trouble {
    SxTransfer *transfer;
    char *text;
} Trouble;

static void
find_trouble(void *data, int id, SxProvider *p, gint64 root)
{
    Trouble *t = data;
    if (t->text == NULL)
        t->text = sx_provider_last_error(p);
    if (t->text == NULL)
        t->text = sx_transfer_failing(t->transfer, id);
}

/* What changes at or below ino wait for, as far as it is known; NULL. */
static char *
why_waiting(SxApiCall *call, gint64 ino)
{
    json_t *problems = sx_doc_problems(call->api, ino);
    const char *first = json_string_value(json_object_get(json_array_get(problems, 0), "message"));
    Trouble t = {.transfer = sx_vfs_transfer(call->api->vfs), .text = g_strdup(first)};
    json_decref(problems);
    sx_transfer_each_provider(t.transfer, find_trouble, &t);
    return t.text;
}

static bool
flush_failed(SxApiCall *call, gint64 ino, const char *path, int r, GError **error)
{
    const char *where = *path != '\0' ? path : "the mount";
    SxCounts n;
    sx_tree_counts(sx_vfs_tree(call->api->vfs), 0, &n);
    g_autofree char *why = why_waiting(call, ino);
    if (r == -ETIMEDOUT || r == -EACCES)
        return sx_fail(error, r == -EACCES ? SX_ERR_AUTH : SX_ERR_TIMEOUT,
                       "%s: not everything is uploaded yet (%" G_GINT64_FORMAT " changes wait in all)%s%s", where, n.pending,
                       why != NULL ? ": " : "", why != NULL ? why : "");
    if (r == -EINTR || r == -ECANCELED)
        return sx_fail(error, SX_ERR_CANCELLED, "%s: flush was interrupted", where);
    json_t *problems = sx_doc_problems(call->api, ino);
    json_t *first = json_array_get(problems, 0);
    if (json_is_true(json_object_get(first, "parked")))
        sx_fail(error, SX_ERR_FAILED, "%s: %zu changes cannot be uploaded; the first: %s: %s", where, json_array_size(problems),
                json_string_value(json_object_get(first, "path")), json_string_value(json_object_get(first, "message")));
    else
        sx_fail_errno(error, -r, "%s: flush", where);
    json_decref(problems);
    return false;
}

/* A flush is also the user's word to try again what was given up. */
json_t *
sx_api_flush(SxApiCall *call, GError **error)
{
    gint64 timeout_s;
    SxAttr attr;
    g_autofree char *path = sx_call_path(call, false, error);
    if (path == NULL || !sx_call_int(call, "timeout", 0, 0, G_MAXINT32, &timeout_s, error) ||
        !sx_call_lookup(call, path, &attr, error))
        return NULL;
    sx_tree_clear_errors(sx_vfs_tree(call->api->vfs), attr.ino);
    int r = sx_transfer_flush(sx_vfs_transfer(call->api->vfs), attr.ino, timeout_s > 0 ? timeout_s * 1000 : -1, call->cancel);
    if (r != 0) {
        flush_failed(call, attr.ino, path, r, error);
        return NULL;
    }
    return done_doc(path);
}

/* pin is the attribute's, so that the two can never differ. */
static bool
set_pin(SxApiCall *call, bool pin, const char *path, SxAttr *ret, GError **error)
{
    SxCaller caller;
    sx_call_caller(call, &caller);
    if (!sx_call_lookup(call, path, ret, error))
        return false;
    int r = pin ? sx_vfs_setxattr(call->api->vfs, &caller, ret->ino, "user.syncox.pin", "yes", 3, 0)
                : sx_vfs_removexattr(call->api->vfs, &caller, ret->ino, "user.syncox.pin");
    return r == 0 || sx_fail_errno(error, -r, "%s: %s", path, pin ? "pin" : "unpin");
}

typedef struct Fetch {
    SxApiCall *call;
    int r;     /* first failure, -errno */
    int depth;
} Fetch;

/* Everything at or below it is here when it returns, as far as it could be had; the background goes on with the rest. */
static bool
fetch_entry(void *data, gint64 cookie, const char *name, const SxAttr *attr)
{
    Fetch *f = data;
    SxVfs *vfs = f->call->api->vfs;
    int r = 0;
    if (attr->kind == SX_KIND_FILE && attr->cached < 2) {
        r = sx_transfer_fetch_all(sx_vfs_transfer(vfs), attr->ino, f->call->cancel);
    } else if (attr->kind == SX_KIND_DIR && f->depth < SX_API_DEPTH) {
        f->depth++;
        r = attr->listed ? 0 : sx_transfer_list(sx_vfs_transfer(vfs), attr->ino, false, f->call->cancel, NULL);
        if (r == 0)
            r = sx_tree_readdir(sx_vfs_tree(vfs), attr->ino, 0, fetch_entry, f);
        f->depth--;
    }
    if (f->r == 0)
        f->r = r;
    return !g_cancellable_is_cancelled(f->call->cancel);
}

json_t *
sx_api_pin(SxApiCall *call, GError **error)
{
    SxAttr attr;
    bool wait;
    g_autofree char *path = sx_call_path(call, true, error);
    if (path == NULL || !sx_call_bool(call, "wait", &wait, error) || !set_pin(call, true, path, &attr, error))
        return NULL;
    Fetch f = {.call = call};
    if (wait)
        fetch_entry(&f, 0, NULL, &attr);
    if (f.r != 0) {
        sx_fail_errno(error, -f.r, "%s is pinned, but not all of it could be downloaded yet", path);
        return NULL;
    }
    json_t *doc = done_doc(path);
    json_object_set_new(doc, "complete", json_boolean(wait));
    return doc;
}

json_t *
sx_api_unpin(SxApiCall *call, GError **error)
{
    SxAttr attr;
    g_autofree char *path = sx_call_path(call, true, error);
    return path != NULL && set_pin(call, false, path, &attr, error) ? done_doc(path) : NULL;
}

typedef struct Evict {
    SxApiCall *call;
    gint64 files, kept;
    int depth;
} Evict;

static bool
evict_entry(void *data, gint64 cookie, const char *name, const SxAttr *attr)
{
    Evict *e = data;
    if (g_cancellable_is_cancelled(e->call->cancel))
        return false;
    SxVfs *vfs = e->call->api->vfs;
    if (attr->kind == SX_KIND_FILE && attr->cached > 0) {
        if (sx_cache_evict(sx_vfs_cache(vfs), attr->ino) == 0)
            e->files++;
        else
            e->kept++;
    } else if (attr->kind == SX_KIND_DIR && e->depth < SX_API_DEPTH) {
        e->depth++;
        sx_tree_readdir(sx_vfs_tree(vfs), attr->ino, 0, evict_entry, e);
        e->depth--;
    }
    return true;
}

json_t *
sx_api_evict(SxApiCall *call, GError **error)
{
    SxAttr attr;
    g_autofree char *path = sx_call_path(call, true, error);
    if (path == NULL || !sx_call_lookup(call, path, &attr, error))
        return NULL;
    SxCache *cache = sx_vfs_cache(call->api->vfs);
    gint64 before = sx_cache_used(cache);
    Evict e = {.call = call};
    evict_entry(&e, 0, NULL, &attr);
    if (attr.kind == SX_KIND_FILE && e.kept > 0) {
        sx_fail(error, SX_ERR_BUSY, "%s: it is pinned, open, or not uploaded yet", path);
        return NULL;
    }
    json_t *doc = done_doc(path);
    json_object_set_new(doc, "files", json_integer(e.files));
    json_object_set_new(doc, "kept", json_integer(e.kept));
    json_object_set_new(doc, "freed", json_integer(MAX(before - sx_cache_used(cache), 0)));
    return doc;
}

/* A provider lists directories, so a file is looked at by listing the directory it is in. */
json_t *
sx_api_refresh(SxApiCall *call, GError **error)
{
    SxAttr attr;
    bool accept;
    g_autofree char *path = sx_call_path(call, false, error);
    if (path == NULL || !sx_call_bool(call, "accept", &accept, error) || !sx_call_lookup(call, path, &attr, error))
        return NULL;
    g_autofree char *parent = sx_path_dirname(path);
    if (attr.kind != SX_KIND_DIR && !sx_call_lookup(call, parent, &attr, error))
        return NULL;
    g_autofree char *why = NULL;
    int r = sx_transfer_refresh(sx_vfs_transfer(call->api->vfs), attr.ino, accept, call->cancel, &why);
    if (r != 0 && why != NULL)
        sx_fail(error, sx_error_code_from_errno(-r), "%s", why);
    else if (r != 0)
        sx_fail_errno(error, -r, "%s: refresh", *path != '\0' ? path : "/");
    return r == 0 ? done_doc(path) : NULL;
}

/* ---- events ---- */

typedef struct Waiter {
    GMutex lock;
    GCond cond;
    bool woken; /* lock */
} Waiter;

static void
wake(Waiter *w)
{
    g_mutex_lock(&w->lock);
    w->woken = true;
    g_cond_broadcast(&w->cond);
    g_mutex_unlock(&w->lock);
}

static void
wake_event(const SxEvent *event, void *data)
{
    wake(data);
}

static void
wake_cancel(GCancellable *cancel, void *data)
{
    wake(data);
}

static void
append_event(const SxEvent *event, void *data)
{
    json_t *list = data;
    g_autofree char *line = sx_event_to_json(event);
    if (json_array_size(list) >= SX_API_EVENTS)
        json_array_remove(list, 0);
    json_array_append_new(list, json_loads(line, 0, NULL));
}

static json_t *
events_since(SxEvents *events, gint64 since, guint64 *ret_newest)
{
    json_t *list = json_array();
    *ret_newest = sx_events_since(events, (guint64)since, append_event, list);
    return list;
}

/* Listens before it looks, so that an event between the two is not missed. */
static json_t *
wait_events(SxApiCall *call, gint64 since, gint64 wait_s, guint64 *ret_newest)
{
    SxEvents *events = sx_vfs_events(call->api->vfs);
    Waiter w = {.woken = false};
    g_mutex_init(&w.lock);
    g_cond_init(&w.cond);
    guint listener = sx_events_listen(events, wake_event, &w);
    gulong cancelled = call->cancel != NULL ? g_cancellable_connect(call->cancel, G_CALLBACK(wake_cancel), &w, NULL) : 0;
    json_t *list = events_since(events, since, ret_newest);
    if (json_array_size(list) == 0) {
        gint64 until = g_get_monotonic_time() + wait_s * G_TIME_SPAN_SECOND;
        g_mutex_lock(&w.lock);
        while (!w.woken && g_cond_wait_until(&w.cond, &w.lock, until))
            ;
        g_mutex_unlock(&w.lock);
        json_decref(list);
        list = events_since(events, since, ret_newest);
    }
    g_cancellable_disconnect(call->cancel, cancelled);
    sx_events_unlisten(events, listener);
    g_cond_clear(&w.cond);
    g_mutex_clear(&w.lock);
    return list;
}

json_t *
sx_api_events(SxApiCall *call, GError **error)
{
    gint64 since, wait_s;
    if (!sx_call_int(call, "since", 0, 0, G_MAXINT64, &since, error) ||
        !sx_call_int(call, "wait", 0, 0, SX_API_EVENT_WAIT_MAX_MS / 1000, &wait_s, error))
        return NULL;
    guint64 newest;
    json_t *list = wait_events(call, since, wait_s, &newest);
    return json_pack("{s:o, s:I}", "events", list, "next", (json_int_t)newest);
}

json_t *
sx_api_doctor(SxApiCall *call, GError **error)
{
    const SxApi *api = call->api;
    SxDoctorOptions options = {.vfs = api->vfs, .mountpoint = api->mountpoint, .conf = api->conf, .config_file = api->config_file,
                               .cache_dir = api->cache_dir, .state_dir = api->state_dir, .cancel = call->cancel};
    return json_pack("{s:o}", "checks", sx_doctor(&options));
}

/* ---- umount ---- */

/* The kernel knows whether programs still use the mount, and fusermount3 may ask it without being root. Not cancellable: the end
 * of the mount, which it brings about, cancels all requests. */
static bool
kernel_unmount(const char *mountpoint, GError **error)
{
    g_autofree char *said = NULL;
    g_autoptr(GSubprocess) child = g_subprocess_new(G_SUBPROCESS_FLAGS_STDOUT_SILENCE | G_SUBPROCESS_FLAGS_STDERR_PIPE, error,
                                                    "fusermount3", "-u", "--", mountpoint, NULL);
    if (child == NULL || !g_subprocess_communicate_utf8(child, NULL, NULL, NULL, &said, error))
        return false;
    if (g_subprocess_get_successful(child))
        return true;
    g_strchomp(said);
    return sx_fail(error, SX_ERR_BUSY, "%s cannot be unmounted: %s (which programs use it: fuser -vm %s; without regard: --force)",
                   mountpoint, said, mountpoint);
}

static bool
is_mounted(const char *mountpoint)
{
    GUnixMountEntry *entry = g_unix_mount_at(mountpoint, NULL);
    if (entry == NULL)
        return false;
    bool ours = g_str_has_prefix(g_unix_mount_get_fs_type(entry), "fuse");
    g_unix_mount_free(entry);
    return ours;
}

json_t *
sx_api_umount(SxApiCall *call, GError **error)
{
    const SxApi *api = call->api;
    bool force;
    if (!sx_call_bool(call, "force", &force, error))
        return NULL;
    if (!force && api->mountpoint != NULL && is_mounted(api->mountpoint) &&
        !kernel_unmount(api->mountpoint, error))
        return NULL;
    json_t *doc = done_doc(api->mountpoint);
    json_object_set_new(doc, "totals", sx_doc_totals(api, 0));
    if (api->quit != NULL)
        api->quit(api->data);
    return doc;
}
