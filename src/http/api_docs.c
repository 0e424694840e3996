/* The documents: status, transfers, conflicts, providers. They read; nothing here waits for a provider except a path that was
 * never listed. */
#include "config.h"

#include "http/api_i.h"

#include "base/path.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const online_names[] = {
    [SX_ONLINE_UNKNOWN] = "unknown",
    [SX_ONLINE] = "online",
    [SX_OFFLINE] = "offline",
    [SX_ONLINE_REFUSED] = "refused",
};

static const char *const kind_names[] = {
    [SX_KIND_NONE] = "none", [SX_KIND_FILE] = "file",     [SX_KIND_DIR] = "directory", [SX_KIND_SYMLINK] = "symlink",
    [SX_KIND_FIFO] = "fifo", [SX_KIND_SOCKET] = "socket", [SX_KIND_CHAR] = "char",     [SX_KIND_BLOCK] = "block",
};

/* What is to be done about a row, in one word; the first that applies is what the planner does first. */
static const char *
row_work(const SxRow *row)
{
    static const struct {
        unsigned bit;
        const char *word;
    } words[] = {
        {SX_PENDING_DELETE, "delete"},  {SX_PENDING_CREATE, "create"}, {SX_PENDING_MOVE, "move"},
        {SX_PENDING_CONTENT, "upload"}, {SX_PENDING_ATTR, "attr"},     {SX_PENDING_VERIFY, "verify"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(words); i++)
        if (row->pending & words[i].bit)
            return words[i].bit == SX_PENDING_CREATE && row->kind == SX_KIND_FILE ? "upload" : words[i].word;
    return "none";
}

static void
set_text(json_t *object, const char *key, const char *text)
{
    g_autofree char *valid = text != NULL ? g_utf8_make_valid(text, -1) : NULL;
    json_object_set_new(object, key, valid != NULL ? json_string(valid) : json_null());
}

/* A row that is not shown any more (a deletion) has no local path: then where it was. */
char *
sx_doc_row_path(SxTree *tree, const SxRow *row)
{
    g_autofree char *dir = sx_tree_path(tree, row->l_parent != 0 ? row->l_parent : row->r_parent);
    const char *name = row->l_parent != 0 ? row->l_name : row->r_name;
    if (dir == NULL)
        return g_strdup(name != NULL ? name : "");
    return sx_path_join(dir, name != NULL ? name : "");
}

static json_t *
row_doc(SxTree *tree, const SxRow *row)
{
    json_t *doc = json_object();
    g_autofree char *path = sx_doc_row_path(tree, row);
    sx_json_set_bytes(doc, "path", path);
    set_text(doc, "what", row_work(row));
    json_object_set_new(doc, "size", json_integer(row->size));
    json_object_set_new(doc, "tries", json_integer(row->tries));
    json_object_set_new(doc, "due_ms", json_integer(row->due_real_ms));
    if (row->err < SX_N_ERRORS) {
        json_object_set_new(doc, "parked", json_boolean(row->parked));
        set_text(doc, "error", sx_error_code_name(row->err));
        set_text(doc, "message", row->err_text);
    }
    return doc;
}

typedef struct Collect {
    SxTree *tree;
    json_t *parked, *retrying, *queue;
} Collect;

static bool
collect_row(void *data, const SxRow *row)
{
    Collect *c = data;
    json_t *into = row->parked ? c->parked : row->err < SX_N_ERRORS ? c->retrying : c->queue;
    gsize limit = row->err < SX_N_ERRORS || row->parked ? SX_API_PROBLEMS : SX_API_QUEUE;
    if (into != NULL && json_array_size(into) < limit)
        json_array_append_new(into, row_doc(c->tree, row));
    return true;
}

/* Parked ones first: they wait for a person. */
json_t *
sx_doc_problems(const SxApi *api, gint64 dir)
{
    Collect c = {.tree = sx_vfs_tree(api->vfs), .parked = json_array(), .retrying = json_array()};
    sx_tree_each_pending(c.tree, dir, SX_API_ROWS, collect_row, &c);
    json_array_extend(c.parked, c.retrying);
    json_decref(c.retrying);
    return c.parked;
}

json_t *
sx_doc_totals(const SxApi *api, int provider)
{
    SxCounts n;
    sx_tree_counts(sx_vfs_tree(api->vfs), provider, &n);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "pending", (json_int_t)n.pending, "pending_bytes",
                     (json_int_t)n.pending_bytes, "parked", (json_int_t)n.parked, "verify", (json_int_t)n.verify,
                     "conflicts", (json_int_t)n.conflicts, "files", (json_int_t)n.files, "dirs", (json_int_t)n.dirs);
}

static json_t *
quota_doc(SxTransfer *transfer, int id)
{
    SxQuota q;
    if (sx_transfer_quota(transfer, id, &q) != 0)
        return json_null();
    return json_pack("{s:I, s:I, s:I}", "total", (json_int_t)q.total, "used", (json_int_t)q.used, "free", (json_int_t)q.free);
}

json_t *
sx_doc_provider(const SxApi *api, int id, SxProvider *p)
{
    SxTransfer *transfer = sx_vfs_transfer(api->vfs);
    json_t *doc = json_object();
    set_text(doc, "name", sx_provider_name(p));
    sx_json_set_bytes(doc, "label", sx_provider_label(p));
    set_text(doc, "type", sx_provider_type_name(p));
    set_text(doc, "state", online_names[sx_provider_online(p)]);
    g_autofree char *last_error = sx_provider_last_error(p);
    if (last_error == NULL)
        last_error = sx_transfer_failing(transfer, id);
    set_text(doc, "last_error", last_error);
    SxCaps caps;
    sx_provider_caps(p, &caps);
    json_object_set_new(doc, "read_only", json_boolean(caps.read_only));
    g_autofree char *held = NULL;
    sx_transfer_held(transfer, id, &held);
    set_text(doc, "held", held);
    json_object_set_new(doc, "quota", quota_doc(transfer, id));
    json_t *totals = sx_doc_totals(api, id);
    json_object_update(doc, totals);
    json_decref(totals);
    return doc;
}

typedef struct ProviderList {
    const SxApi *api;
    json_t *list;
} ProviderList;

static void
add_provider(void *data, int id, SxProvider *p, gint64 root)
{
    ProviderList *l = data;
    json_array_append_new(l->list, sx_doc_provider(l->api, id, p));
}

static json_t *
provider_list(const SxApi *api)
{
    ProviderList l = {.api = api, .list = json_array()};
    sx_transfer_each_provider(sx_vfs_transfer(api->vfs), add_provider, &l);
    return l.list;
}

/* Providers that are no longer configured, with changes that wait for them. */
static json_t *
absent_list(const SxApi *api)
{
    json_t *list = json_array();
    g_autoptr(GPtrArray) absent = sx_tree_absent(sx_vfs_tree(api->vfs));
    for (guint i = 0; i < absent->len; i++) {
        const SxAbsent *a = absent->pdata[i];
        json_t *doc = json_pack("{s:I}", "pending", (json_int_t)a->pending);
        set_text(doc, "name", a->name);
        json_array_append_new(list, doc);
    }
    return list;
}

json_t *
sx_api_providers(SxApiCall *call, GError **error)
{
    return json_pack("{s:o}", "providers", provider_list(call->api));
}

static json_t *
rates_doc(SxTransfer *transfer)
{
    SxRates r;
    sx_transfer_rates(transfer, &r);
    return json_pack("{s:f, s:f, s:I, s:I}", "up", r.up, "down", r.down, "up_total", (json_int_t)r.up_total, "down_total",
                     (json_int_t)r.down_total);
}

static json_t *
mount_status(const SxApi *api)
{
    json_t *doc = json_object();
    set_text(doc, "version", PACKAGE_VERSION);
    sx_json_set_bytes(doc, "mount", api->mountpoint);
    sx_json_set_bytes(doc, "config", api->config_file);
    json_object_set_new(doc, "pid", json_integer(getpid()));
    if (api->clock != NULL)
        json_object_set_new(doc, "uptime_ms", json_integer(sx_clock_mono_ms(api->clock) - api->started_mono_ms));
    json_object_set_new(doc, "totals", sx_doc_totals(api, 0));
    json_object_set_new(doc, "rates", rates_doc(sx_vfs_transfer(api->vfs)));
    SxCache *cache = sx_vfs_cache(api->vfs);
    json_object_set_new(doc, "cache", json_pack("{s:I, s:I}", "used", (json_int_t)sx_cache_used(cache), "size",
                                                (json_int_t)sx_cache_size(cache)));
    json_object_set_new(doc, "providers", provider_list(api));
    json_object_set_new(doc, "absent", absent_list(api));
    json_object_set_new(doc, "problems", sx_doc_problems(api, SX_ROOT_INO));
    return doc;
}

/* The attributes are the interface (SPEC, "Extended attributes"); the document only carries them. */
static void
set_xattr(SxApiCall *call, json_t *doc, const char *key, gint64 ino, const char *attr)
{
    SxCaller caller;
    sx_call_caller(call, &caller);
    g_autoptr(GBytes) value = NULL;
    g_autofree char *text = NULL;
    if (sx_vfs_getxattr(call->api->vfs, &caller, ino, attr, &value) == 0)
        text = g_strndup(g_bytes_get_data(value, NULL), g_bytes_get_size(value));
    sx_json_set_bytes(doc, key, text);
}

static json_t *
path_status(SxApiCall *call, const char *path, GError **error)
{
    SxAttr attr;
    if (!sx_call_lookup(call, path, &attr, error))
        return NULL;
    json_t *doc = json_object();
    sx_json_set_bytes(doc, "path", path);
    sx_json_set_bytes(doc, "mount", call->api->mountpoint);
    set_text(doc, "kind", kind_names[attr.kind]);
    json_object_set_new(doc, "ino", json_integer(attr.ino));
    json_object_set_new(doc, "size", json_integer(attr.size));
    g_autofree char *status = sx_vfs_status_text(call->api->vfs, attr.ino);
    set_text(doc, "status", status);
    set_xattr(call, doc, "provider", attr.ino, "user.syncox.provider");
    set_xattr(call, doc, "remote_path", attr.ino, "user.syncox.remote-path");
    set_xattr(call, doc, "remote_id", attr.ino, "user.syncox.remote-id");
    set_xattr(call, doc, "etag", attr.ino, "user.syncox.etag");
    set_xattr(call, doc, "hash", attr.ino, "user.syncox.hash");
    set_xattr(call, doc, "cached", attr.ino, "user.syncox.cached");
    json_object_set_new(doc, "pinned", json_boolean(sx_tree_pinned(sx_vfs_tree(call->api->vfs), attr.ino)));
    json_object_set_new(doc, "problems", sx_doc_problems(call->api, attr.ino));
    return doc;
}

json_t *
sx_api_status(SxApiCall *call, GError **error)
{
    g_autofree char *path = sx_call_path(call, false, error);
    if (path == NULL)
        return NULL;
    return *path == '\0' ? mount_status(call->api) : path_status(call, path, error);
}

json_t *
sx_api_transfers(SxApiCall *call, GError **error)
{
    const SxApi *api = call->api;
    SxTransfer *transfer = sx_vfs_transfer(api->vfs);
    g_autoptr(GPtrArray) jobs = sx_transfer_jobs(transfer);
    json_t *running = json_array();
    gint64 now = api->clock != NULL ? sx_clock_mono_ms(api->clock) : 0;
    for (guint i = 0; i < jobs->len; i++) {
        const SxJob *job = g_ptr_array_index(jobs, i);
        json_t *doc = json_pack("{s:s, s:I, s:I}", "what", job->what, "done", (json_int_t)job->done, "total", (json_int_t)job->total);
        SxProvider *p = sx_transfer_provider(transfer, job->provider);
        set_text(doc, "provider", p != NULL ? sx_provider_name(p) : NULL);
        sx_json_set_bytes(doc, "path", job->path);
        if (now > 0)
            json_object_set_new(doc, "elapsed_ms", json_integer(now - job->started_mono_ms));
        json_array_append_new(running, doc);
    }
    Collect c = {.tree = sx_vfs_tree(api->vfs), .queue = json_array(), .retrying = json_array()};
    sx_tree_each_pending(c.tree, SX_ROOT_INO, SX_API_ROWS, collect_row, &c);
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "running", running, "waiting", c.queue, "retrying", c.retrying, "rates",
                     rates_doc(transfer), "totals", sx_doc_totals(api, 0));
}

json_t *
sx_api_conflicts(SxApiCall *call, GError **error)
{
    g_autoptr(GPtrArray) found = sx_tree_conflicts(sx_vfs_tree(call->api->vfs));
    json_t *list = json_array();
    for (guint i = 0; i < found->len; i++) {
        const SxConflict *c = g_ptr_array_index(found, i);
        json_t *doc = json_object();
        sx_json_set_bytes(doc, "path", c->path);
        sx_json_set_bytes(doc, "original", c->original);
        g_autofree char *when = sx_format_time(c->real_ns);
        set_text(doc, "time", when);
        json_array_append_new(list, doc);
    }
    return json_pack("{s:o}", "conflicts", list);
}

/* ---- .syncox/ ---- */

static void
append_event(const SxEvent *event, void *data)
{
    g_autofree char *line = sx_event_to_json(event);
    g_string_append_printf(data, "%s\n", line);
}

char *
sx_api_document(SxVfs *vfs, const char *what, void *about)
{
    if (strcmp(what, "events.jsonl") == 0) {
        GString *lines = g_string_new(NULL);
        sx_events_since(sx_vfs_events(vfs), 0, append_event, lines);
        return g_string_free(lines, FALSE);
    }
    if (!g_str_has_suffix(what, ".json"))
        return g_strdup("");
    const SxApiAbout *a = about;
    SxApi api = {.vfs = vfs, .mountpoint = a->mountpoint, .config_file = a->config_file, .clock = a->clock,
                 .started_mono_ms = a->started_mono_ms};
    g_autofree char *path = g_strdup_printf(SX_API_PREFIX "%.*s", (int)(strlen(what) - strlen(".json")), what);
    SxApiCall call = {.api = &api, .method = "GET", .path = path};
    unsigned status;
    return sx_api_call(&call, &status);
}
