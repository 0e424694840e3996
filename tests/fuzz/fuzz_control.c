/* A request to the control socket, behind the HTTP library: "METHOD PATH?QUERY\nBODY". Whatever comes, the answer is a JSON object with
 * a status that fits, and nothing outside the mount is touched. Waits end at once: the request is cancelled from the beginning. */
#include "crypto/digest.h"
#include "http/api_i.h"

#include <glib/gstdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct World {
    char *dir;
    SxEvents *events;
    SxTree *tree;
    SxCache *cache;
    SxTransfer *transfer;
    SxVfs *vfs;
    GCancellable *cancelled;
    SxApi api;
} world;

static void
end_world(void)
{
    struct World *w = &world;
    sx_transfer_stop(w->transfer);
    sx_vfs_free(w->vfs);
    sx_transfer_free(w->transfer);
    sx_cache_close(w->cache);
    sx_tree_close(w->tree);
    sx_events_free(w->events);
    g_object_unref(w->cancelled);
    const char *argv[] = {"rm", "-rf", "--", w->dir, NULL};
    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
    g_free(w->dir);
}

static void
make_world(struct World *w)
{
    const SxSys *sys = sx_sys_default();
    const SxClock *clock = sx_clock_default();
    w->dir = g_dir_make_tmp("sx-fuzz-XXXXXX", NULL);
    g_autofree char *db = g_build_filename(w->dir, "tree.db", NULL), *cache = g_build_filename(w->dir, "cache", NULL);
    w->events = sx_events_new(NULL, NULL);
    w->tree = sx_tree_open(&(SxTreeOptions){.path = db, .sys = sys, .clock = clock, .file_mode = 0644, .dir_mode = 0755}, NULL);
    w->cache = sx_cache_open(&(SxCacheOptions){.dir = cache, .size = 1 << 20, .sys = sys, .clock = clock, .tree = w->tree}, NULL);
    w->transfer = sx_transfer_new(&(SxTransferOptions){.tree = w->tree, .cache = w->cache, .events = w->events, .clock = clock,
                                                       .upload_threads = 1, .download_threads = 1, .memory_budget = 1 << 20, .who = "f"}, NULL);
    g_autoptr(SxProvider) p = sx_provider_open_text(&sx_provider_mem, "nas", "", sys, clock, NULL);
    int id;
    gint64 root;
    SxAttr attr;
    sx_transfer_add_provider(w->transfer, p, &id, &root, NULL);
    sx_tree_create(w->tree, root, "f", &(SxNew){.kind = SX_KIND_FILE, .mode = 0644}, &attr);
    w->vfs = sx_vfs_new(&(SxVfsOptions){.tree = w->tree, .cache = w->cache, .transfer = w->transfer, .events = w->events, .clock = clock}, NULL);
    /* OpenSSL tears itself down at exit: it must be up before our handler is registered, to go down after it. */
    sx_digest_free(sx_digest_new("sha1"));
    sx_events_emit(w->events, 0, "error", "nas", "nas/\xff", "text");
    g_assert(w->vfs != NULL && sx_transfer_start(w->transfer, NULL));
    w->cancelled = g_cancellable_new();
    g_cancellable_cancel(w->cancelled);
    w->api = (SxApi){.vfs = w->vfs, .mountpoint = "/nowhere/mnt", .clock = clock};
    atexit(end_world);
}

static void
check(const char *text, unsigned status)
{
    json_t *doc = json_loads(text, 0, NULL);
    g_assert(json_is_object(doc));
    g_assert(status == 200 || (status >= 400 && status < 600));
    SxErrorCode code;
    const char *name = json_string_value(json_object_get(doc, "error"));
    g_assert((status != 200) == (name != NULL && sx_error_code_from_name(name, &code)));
    g_assert(status == 200 || *json_string_value(json_object_get(doc, "message")) != '\0');
    json_decref(doc);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (world.vfs == NULL)
        make_world(&world);
    g_autofree char *all = g_strndup((const char *)data, size); /* HTTP's first line has no NUL; a body may: it follows it as it is */
    char *line = all, *end = strchr(all, '\n');
    gsize head = end != NULL ? (gsize)(end - all) : strlen(all);
    all[head] = '\0';
    char *path = strchr(line, ' ');
    if (path == NULL)
        return 0;
    *path++ = '\0';
    char *query = strchr(path, '?');
    g_autoptr(GHashTable) table = NULL;
    if (query != NULL) {
        *query++ = '\0';
        table = g_uri_parse_params(query, -1, "&", G_URI_PARAMS_NONE, NULL);
    }
    if (g_str_has_suffix(path, "/doctor")) /* it looks at the machine, and has no input */
        return 0;
    SxApiCall call = {.api = &world.api, .method = line, .path = path, .query = table, .cancel = world.cancelled,
                      .body = head < size ? (const char *)data + head + 1 : "", .body_len = head < size ? size - head - 1 : 0};
    unsigned status;
    g_autofree char *text = sx_api_call(&call, &status);
    check(text, status);
    return 0;
}
