#include "daemon/stack.h"

#include "base/log.h"
#include "fuse/fuse.h"
#include "http/http.h"

#include <string.h>
#include <unistd.h>

#define FUSE_THREADS 256 /* requests that wait for the network each hold one; what is known is answered by the others */

struct SxStack {
    SxStackOptions options;   /* texts copied */
    const SxSys *sys;
    const SxClock *clock;
    char *state_dir, *cache_dir;
    SxApiAbout about;         /* for .syncox/ */
    char **keep_local;
    SxRegistry *registry;
    SxEvents *events;
    SxFuse *fuse;             /* NULL without a mount point */
    SxTree *tree;
    SxCache *cache;
    SxTransfer *transfer;
    SxVfs *vfs;
    SxHttp *http;
    GCancellable *sweep_cancel;
    GThread *sweep;
};

SxRegistry *
sx_stack_registry(void)
{
    static const SxProviderType *const types[] = {&sx_provider_local, &sx_provider_webdav};
    SxRegistry *r = sx_registry_new();
    for (guint i = 0; i < G_N_ELEMENTS(types); i++)
        sx_registry_add(r, types[i]);
    return r;
}

/* ---- the steps of sx_stack_new; each undone by sx_stack_free ---- */

static bool
make_dir(SxStack *s, const char *dir, GError **error)
{
    int r = sx_sys_mkdirs(s->sys, dir);
    return r == 0 || sx_fail_errno(error, -r, "cannot make the directory %s", dir);
}

static bool
open_fuse(SxStack *s, GError **error)
{
    if (s->options.mountpoint == NULL)
        return true;
    s->fuse = sx_fuse_new(s->options.mountpoint, s->options.fsname, s->options.mount_options, error);
    return s->fuse != NULL;
}

static bool
open_tree(SxStack *s, GError **error)
{
    const SxSection *global = sx_conf_global(s->options.conf);
    const char *keep = sx_section_string(global, "keep-local");
    s->keep_local = keep != NULL ? g_strsplit(keep, " ", -1) : NULL;
    g_autofree char *path = g_build_filename(s->state_dir, "tree.db", NULL);
    g_autofree char *owner = s->options.mountpoint != NULL ? g_strdup_printf("process %d, mounted on %s", getpid(), s->options.mountpoint) : NULL;
    SxTreeOptions o = {
        .path = path,
        .owner = owner,
        .sys = s->sys,
        .clock = s->clock,
        .uid = getuid(),
        .gid = getgid(),
        .file_mode = (guint32)sx_section_int(global, "file-mode"),
        .dir_mode = (guint32)sx_section_int(global, "dir-mode"),
        .keep_local = (const char *const *)s->keep_local,
    };
    s->tree = sx_tree_open(&o, error);
    return s->tree != NULL;
}

static bool
open_cache(SxStack *s, GError **error)
{
    const SxSection *global = sx_conf_global(s->options.conf);
    SxCacheOptions o = {
        .dir = s->cache_dir,
        .size = sx_section_int(global, "cache-size"),
        .min_free = sx_section_int(global, "min-free"),
        .sys = s->sys,
        .clock = s->clock,
        .tree = s->tree,
    };
    s->cache = sx_cache_open(&o, error);
    return s->cache != NULL;
}

static char *
default_who(void)
{
    return g_strdup_printf("%s@%s", g_get_user_name(), g_get_host_name());
}

static bool
open_transfer(SxStack *s, GError **error)
{
    const SxSection *global = sx_conf_global(s->options.conf);
    g_autofree char *who = g_strdup(sx_section_string(global, "who"));
    if (who == NULL)
        who = default_who();
    SxTransferOptions o = {
        .tree = s->tree,
        .cache = s->cache,
        .events = s->events,
        .clock = s->clock,
        .notify = s->fuse != NULL ? sx_fuse_notify(s->fuse) : NULL,
        .upload_threads = (int)sx_section_int(global, "upload-threads"),
        .download_threads = (int)sx_section_int(global, "download-threads"),
        .write_back_delay_ms = sx_section_int(global, "write-back-delay"),
        .memory_budget = sx_section_int(global, "memory"),
        .who = who,
        .bandwidth_up = sx_section_string(global, "bandwidth-up"),
        .bandwidth_down = sx_section_string(global, "bandwidth-down"),
    };
    s->transfer = sx_transfer_new(&o, error);
    return s->transfer != NULL;
}

static void
tell_absent(SxStack *s)
{
    g_autoptr(GPtrArray) absent = sx_tree_absent(s->tree);
    for (guint i = 0; i < absent->len; i++) {
        const SxAbsent *a = absent->pdata[i];
        sx_warn("%s is no longer in the configuration: %" G_GINT64_FORMAT " changes for it are kept and wait until it is back", a->name, a->pending);
    }
}

static bool
open_providers(SxStack *s, GError **error)
{
    const SxConf *conf = s->options.conf;
    for (guint i = 0; i < sx_conf_n_providers(conf); i++) {
        g_autoptr(SxProvider) p = sx_provider_open(s->registry, sx_conf_provider(conf, i), s->state_dir, s->sys, s->clock, error);
        int id;
        gint64 root;
        if (p == NULL || !sx_transfer_add_provider(s->transfer, p, &id, &root, error))
            return false;
    }
    tell_absent(s);
    return true;
}

static bool
open_vfs(SxStack *s, GError **error)
{
    SxVfsOptions o = {
        .tree = s->tree,
        .cache = s->cache,
        .transfer = s->transfer,
        .events = s->events,
        .clock = s->clock,
        .write_back_delay_ms = sx_section_int(sx_conf_global(s->options.conf), "write-back-delay"),
        .keep_local = (const char *const *)s->keep_local,
        .document = sx_api_document,
        .document_data = &s->about,
    };
    s->vfs = sx_vfs_new(&o, error);
    return s->vfs != NULL;
}

static gpointer
sweep(gpointer data)
{
    SxStack *s = data;
    sx_cache_sweep(s->cache, s->sweep_cancel);
    return NULL;
}

static bool
start(SxStack *s, GError **error)
{
    if (!sx_transfer_start(s->transfer, error))
        return false;
    s->sweep = g_thread_new("sx-sweep", sweep, s);
    return true;
}

SxStack *
sx_stack_new(const SxStackOptions *options, GError **error)
{
    const SxSection *global = sx_conf_global(options->conf);
    SxStack *s = g_new0(SxStack, 1);
    s->options = *options;
    s->options.config_file = g_strdup(options->config_file);
    s->options.mountpoint = g_strdup(options->mountpoint);
    s->options.socket_path = g_strdup(options->socket_path);
    s->sys = options->sys != NULL ? options->sys : sx_sys_default();
    s->clock = options->clock != NULL ? options->clock : sx_clock_default();
    s->state_dir = g_strdup(options->state_dir != NULL ? options->state_dir : sx_section_string(global, "state-dir"));
    s->cache_dir = g_strdup(options->cache_dir != NULL ? options->cache_dir : sx_section_string(global, "cache-dir"));
    s->about = (SxApiAbout){.mountpoint = s->options.mountpoint, .config_file = s->options.config_file, .clock = s->clock,
                            .started_mono_ms = sx_clock_mono_ms(s->clock)};
    s->registry = sx_stack_registry();
    s->sweep_cancel = g_cancellable_new();

    if (make_dir(s, s->state_dir, error) && make_dir(s, s->cache_dir, error) &&
        (s->events = sx_events_new(s->state_dir, error)) != NULL && open_fuse(s, error) && open_tree(s, error) &&
        open_cache(s, error) && open_transfer(s, error) && open_providers(s, error) && open_vfs(s, error) && start(s, error))
        return s;
    sx_stack_free(s);
    return NULL;
}

/* ---- the mount ---- */

static void
quit(void *data)
{
    sx_stack_stop(data);
}

static bool
open_http(SxStack *s, GError **error)
{
    g_autofree char *path = g_strdup(s->options.socket_path);
    if (path == NULL)
        path = sx_http_default_socket(s->options.mountpoint);
    SxHttpOptions o = {
        .vfs = s->vfs,
        .socket_path = path,
        .mountpoint = s->options.mountpoint,
        .config_file = s->options.config_file,
        .conf = s->options.conf,
        .cache_dir = s->cache_dir,
        .state_dir = s->state_dir,
        .quit = quit,
        .data = s,
    };
    s->http = sx_http_start(&o, error);
    return s->http != NULL;
}

bool
sx_stack_mount(SxStack *s, GError **error)
{
    if (s->fuse == NULL)
        return sx_fail(error, SX_ERR_INVALID, "no mount point was given");
    if (!open_http(s, error) || !sx_fuse_mount(s->fuse, s->vfs, error))
        return false;
    sx_events_emit(s->events, sx_clock_real_ns(s->clock), "mounted", NULL, NULL, "mounted at %s", s->options.mountpoint);
    return true;
}

int
sx_stack_run(SxStack *s)
{
    return sx_fuse_loop(s->fuse, FUSE_THREADS);
}

void
sx_stack_stop(SxStack *s)
{
    if (s->fuse != NULL)
        sx_fuse_stop(s->fuse);
}

/* The notify face of fuse is called by transfer's threads and looks into the vfs: fuse stops first and is freed last. */
void
sx_stack_free(SxStack *s)
{
    if (s == NULL)
        return;
    if (s->fuse != NULL)
        sx_fuse_unmount(s->fuse);
    sx_http_stop(s->http);
    g_cancellable_cancel(s->sweep_cancel);
    g_clear_pointer(&s->sweep, g_thread_join);
    if (s->transfer != NULL)
        sx_transfer_stop(s->transfer);
    sx_vfs_free(s->vfs);
    sx_transfer_free(s->transfer);
    sx_cache_close(s->cache);
    sx_tree_close(s->tree);
    sx_fuse_free(s->fuse);
    sx_events_free(s->events);
    sx_registry_free(s->registry);
    g_object_unref(s->sweep_cancel);
    g_strfreev(s->keep_local);
    g_free(s->state_dir);
    g_free(s->cache_dir);
    g_free((char *)s->options.config_file);
    g_free((char *)s->options.mountpoint);
    g_free((char *)s->options.socket_path);
    g_free(s);
}

SxVfs *
sx_stack_vfs(SxStack *s)
{
    return s->vfs;
}

const char *
sx_stack_state_dir(const SxStack *s)
{
    return s->state_dir;
}
