/* The control server over a real socket: a stack on a storage in memory that can be cut off, clients of good and of bad will. */
#include "base/path.h"
#include "cli/client.h"
#include "http/http.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define MOUNT "/nowhere/mnt"
#define REPLY_S 30 /* a reply that does not come within it never comes */

typedef struct Fixture {
    char *dir, *socket;
    SxEvents *events;
    SxTree *tree;
    SxCache *cache;
    SxTransfer *transfer;
    SxFaultPlan faults;
    SxProvider *provider;
    gint64 root;
    SxVfs *vfs;
    SxApiAbout about;
    SxHttp *http;
    SxClient *client;
    gint quits; /* atomic */
} Fixture;

static GCancellable *
never(SxCaller *self)
{
    return NULL;
}

static SxCaller
me(void)
{
    return (SxCaller){.uid = getuid(), .gid = getgid(), .pid = (guint32)getpid(), .umask = 022, .cancel = never};
}

static void
on_quit(void *data)
{
    g_atomic_int_inc(&((Fixture *)data)->quits);
}

static bool
start_http(Fixture *f, GError **error)
{
    const SxHttpOptions o = {.vfs = f->vfs, .socket_path = f->socket, .mountpoint = MOUNT, .quit = on_quit, .data = f};
    f->http = sx_http_start(&o, error);
    return f->http != NULL;
}

static void
open_layers(Fixture *f)
{
    const SxSys *sys = sx_sys_default();
    const SxClock *clock = sx_clock_default();
    g_autoptr(GError) e = NULL;
    g_autofree char *db = g_build_filename(f->dir, "tree.db", NULL), *cache = g_build_filename(f->dir, "cache", NULL);
    f->events = sx_events_new(NULL, &e);
    f->tree = sx_tree_open(&(SxTreeOptions){.path = db, .sys = sys, .clock = clock, .uid = getuid(), .gid = getgid(), .file_mode = 0644, .dir_mode = 0755}, &e);
    assert_non_null(f->tree);
    f->cache = sx_cache_open(&(SxCacheOptions){.dir = cache, .size = 1 << 24, .sys = sys, .clock = clock, .tree = f->tree}, &e);
    assert_non_null(f->cache);
    f->transfer = sx_transfer_new(&(SxTransferOptions){.tree = f->tree, .cache = f->cache, .events = f->events, .clock = clock,
                                                       .upload_threads = 2, .download_threads = 2, .memory_budget = 1 << 22, .who = "test"}, &e);
    assert_non_null(f->transfer);
    g_autoptr(SxProvider) mem = sx_provider_open_text(&sx_provider_mem, "nas", "", sys, clock, &e);
    f->provider = sx_fault_wrap(mem, &f->faults);
    int id;
    assert_true(sx_transfer_add_provider(f->transfer, f->provider, &id, &f->root, &e));
    f->about = (SxApiAbout){.mountpoint = MOUNT, .config_file = "/etc/x.conf", .clock = clock, .started_mono_ms = sx_clock_mono_ms(clock)};
    f->vfs = sx_vfs_new(&(SxVfsOptions){.tree = f->tree, .cache = f->cache, .transfer = f->transfer, .events = f->events, .clock = clock,
                                        .document = sx_api_document, .document_data = &f->about}, &e);
    assert_non_null(f->vfs);
    assert_true(sx_transfer_start(f->transfer, &e));
}

static int
set_up(void **state)
{
    Fixture *f = g_new0(Fixture, 1);
    f->dir = g_dir_make_tmp("sx-http-XXXXXX", NULL);
    f->socket = g_build_filename(f->dir, "run", "a.sock", NULL);
    open_layers(f);
    g_autoptr(GError) e = NULL;
    if (!start_http(f, &e))
        fail_msg("%s", e->message);
    g_setenv("SYNCOX_SOCKET", f->socket, TRUE);
    f->client = sx_client_new(NULL, NULL, NULL);
    *state = f;
    return 0;
}

static void
remove_tree(const char *path)
{
    const char *argv[] = {"rm", "-rf", "--", path, NULL};
    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
}

static int
tear_down(void **state)
{
    Fixture *f = *state;
    sx_client_free(f->client);
    sx_http_stop(f->http);
    sx_transfer_stop(f->transfer);
    sx_vfs_free(f->vfs);
    sx_transfer_free(f->transfer);
    sx_provider_unref(f->provider);
    sx_cache_close(f->cache);
    sx_tree_close(f->tree);
    sx_events_free(f->events);
    remove_tree(f->dir);
    g_free(f->dir);
    g_free(f->socket);
    g_free(f);
    return 0;
}

/* ---- helpers ---- */

static gint64
make_file(Fixture *f, const char *name, const char *text)
{
    SxCaller c = me();
    SxAttr attr;
    SxFile *file;
    assert_int_equal(sx_vfs_create(f->vfs, &c, f->root, name, O_RDWR, 0644, &attr, &file), 0);
    assert_int_equal(sx_vfs_write(f->vfs, &c, file, 0, text, strlen(text)), strlen(text));
    assert_int_equal(sx_vfs_flush(f->vfs, &c, file), 0);
    sx_vfs_release(f->vfs, file);
    return attr.ino;
}

static json_t *
get(Fixture *f, const char *route)
{
    g_autoptr(GError) e = NULL;
    json_t *doc = sx_client_get(f->client, route, &e);
    if (doc == NULL)
        fail_msg("GET %s: %s", route, e->message);
    return doc;
}

static json_t *
post(Fixture *f, const char *route, json_t *body)
{
    g_autoptr(GError) e = NULL;
    json_t *doc = sx_client_post(f->client, route, body, &e);
    if (doc == NULL)
        fail_msg("POST %s: %s", route, e->message);
    return doc;
}

static const char *
text(const json_t *doc, const char *key)
{
    const char *t = json_string_value(json_object_get(doc, key));
    return t != NULL ? t : "(none)";
}

static int
dial(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    g_strlcpy(a.sun_path, path, sizeof a.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval limit = {.tv_sec = REPLY_S};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void
send_all(int fd, const char *bytes, gsize n)
{
    while (n > 0) {
        ssize_t k = send(fd, bytes, n, MSG_NOSIGNAL);
        if (k <= 0)
            return; /* refused early: the reply tells */
        bytes += k;
        n -= (gsize)k;
    }
}

/* The whole reply to raw bytes; the connection is closed by the server, because we ask for it. */
static char *
raw(Fixture *f, const char *bytes, gsize n)
{
    int fd = dial(f->socket);
    assert_true(fd >= 0);
    send_all(fd, bytes, n);
    GString *reply = g_string_new(NULL);
    char buf[4096];
    for (ssize_t k; (k = recv(fd, buf, sizeof buf, 0)) > 0;)
        g_string_append_len(reply, buf, k);
    close(fd);
    return g_string_free(reply, FALSE);
}

static int
status_of(Fixture *f, const char *method, const char *target, const char *body)
{
    g_autofree char *request = g_strdup_printf("%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s", method, target,
                                               strlen(body), body);
    g_autofree char *reply = raw(f, request, strlen(request));
    int status = 0;
    if (sscanf(reply, "HTTP/1.1 %d", &status) != 1)
        fail_msg("%s %s: no reply: %s", method, target, reply);
    return status;
}

/* ---- good will ---- */

static void
the_list_of_routes_is_true(void **state)
{
    Fixture *f = *state;
    json_t *doc = get(f, ""), *route;
    size_t i;
    assert_true(json_array_size(json_object_get(doc, "routes")) > 10);
    json_array_foreach(json_object_get(doc, "routes"), i, route) {
        assert_true(strlen(text(route, "doc")) > 5);
        assert_int_equal(status_of(f, "BREW", text(route, "path"), ""), 405);
    }
    json_decref(doc);
}

static void
a_change_is_shown_and_flushed(void **state)
{
    Fixture *f = *state;
    __atomic_store_n(&f->faults.offline, true, __ATOMIC_SEQ_CST);
    make_file(f, "a.txt", "hello");
    json_t *doc = get(f, "status?path=nas/a.txt");
    assert_true(strcmp(text(doc, "status"), "pending") == 0 || g_str_has_prefix(text(doc, "status"), "uploading ")); /* it tries */
    assert_string_equal(text(doc, "provider"), "nas");
    assert_string_equal(text(doc, "kind"), "file");
    assert_int_equal(json_integer_value(json_object_get(doc, "size")), 5);
    json_decref(doc);
    doc = get(f, "status");
    assert_string_equal(text(doc, "mount"), MOUNT);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(doc, "totals"), "pending")), 1);
    assert_string_equal(text(json_array_get(json_object_get(doc, "providers"), 0), "name"), "nas");
    assert_int_equal(json_integer_value(json_object_get(doc, "pid")), getpid());
    json_decref(doc);
    doc = get(f, "transfers");
    assert_true(json_array_size(json_object_get(doc, "waiting")) + json_array_size(json_object_get(doc, "retrying")) +
                    json_array_size(json_object_get(doc, "running")) >= 1);
    json_decref(doc);

    g_autoptr(GError) e = NULL;
    assert_null(sx_client_post(f->client, "flush", json_pack("{s:s, s:i}", "path", MOUNT "/nas", "timeout", 1), &e));
    assert_true(sx_error_is(e, SX_ERR_TIMEOUT));
    __atomic_store_n(&f->faults.offline, false, __ATOMIC_SEQ_CST);
    json_decref(post(f, "flush", NULL));
    doc = get(f, "status?path=nas%2fa.txt");
    assert_string_equal(text(doc, "status"), "synced");
    assert_string_equal(text(doc, "remote_path"), "a.txt");
    assert_int_equal(json_integer_value(json_object_get(doc, "ino")) > 0, 1);
    json_decref(doc);
}

static void
a_stopped_change_has_its_reason_until_flush_tries_again(void **state)
{
    Fixture *f = *state;
    __atomic_store_n(&f->faults.offline, true, __ATOMIC_SEQ_CST);
    gint64 ino = make_file(f, "bad.txt", "x");
    g_autoptr(SxRow) row = sx_tree_row_of(f->tree, ino);
    g_autoptr(GError) why = sx_error_new(SX_ERR_TOO_LARGE, "nas: bad.txt: too large for the server");
    assert_true(sx_tree_failed(f->tree, row->id, why, 0, true, NULL));
    json_t *doc = get(f, "status"), *problem = json_array_get(json_object_get(doc, "problems"), 0);
    assert_string_equal(text(problem, "path"), "nas/bad.txt");
    assert_string_equal(text(problem, "error"), "too-large");
    assert_string_equal(text(problem, "message"), why->message);
    assert_string_equal(text(problem, "what"), "upload");
    assert_true(json_is_true(json_object_get(problem, "parked")));
    json_decref(doc);
    doc = get(f, "doctor");
    g_autofree char *checks = json_dumps(doc, 0);
    assert_non_null(strstr(checks, "1 changes cannot be uploaded"));
    json_decref(doc);
    __atomic_store_n(&f->faults.offline, false, __ATOMIC_SEQ_CST);
    json_decref(post(f, "flush", json_pack("{s:s}", "path", "nas/bad.txt")));
    doc = get(f, "status");
    assert_int_equal(json_array_size(json_object_get(doc, "problems")), 0);
    json_decref(doc);
}

static void
names_that_are_not_utf8(void **state)
{
    Fixture *f = *state;
    static const char name[] = "caf\xe9 & 100%?#\".txt";
    make_file(f, name, "x");
    g_autofree char *path = g_strconcat("nas/", name, NULL), *route = sx_client_query("status", "path", path);
    json_t *doc = get(f, route);
    g_autofree char *back = sx_json_get_bytes(doc, "path");
    assert_string_equal(back, path);
    assert_string_equal(text(doc, "path"), "nas/caf\xef\xbf\xbd & 100%?#\".txt");
    json_t *body = json_object();
    sx_json_set_bytes(body, "path", path);
    assert_non_null(json_object_get(body, "path_b64"));
    json_decref(doc);
    json_decref(post(f, "pin", body));
    doc = get(f, route);
    assert_true(json_is_true(json_object_get(doc, "pinned")));
    json_decref(doc);
}

static void
pin_evict_refresh_unpin(void **state)
{
    Fixture *f = *state;
    gint64 ino = make_file(f, "p.txt", "contents");
    json_decref(post(f, "flush", NULL));
    json_decref(post(f, "pin", json_pack("{s:s, s:b}", "path", "nas", "wait", 1)));
    g_autoptr(GError) e = NULL;
    assert_null(sx_client_post(f->client, "evict", json_pack("{s:s}", "path", "nas/p.txt"), &e));
    assert_true(sx_error_is(e, SX_ERR_BUSY));
    json_t *doc = post(f, "evict", json_pack("{s:s}", "path", "nas"));
    assert_int_equal(json_integer_value(json_object_get(doc, "kept")), 1);
    json_decref(doc);
    json_decref(post(f, "unpin", json_pack("{s:s}", "path", "nas")));
    doc = post(f, "evict", json_pack("{s:s}", "path", "nas"));
    assert_int_equal(json_integer_value(json_object_get(doc, "files")), 1);
    json_decref(doc);
    SxAttr attr;
    assert_int_equal(sx_tree_getattr(f->tree, ino, &attr), 0);
    assert_int_equal(attr.cached, 0);
    json_decref(post(f, "refresh", json_pack("{s:s, s:b}", "path", "nas/p.txt", "accept", 0)));
    json_decref(post(f, "pin", json_pack("{s:s, s:b}", "path", "nas", "wait", 1)));
    assert_int_equal(sx_tree_getattr(f->tree, ino, &attr), 0);
    assert_int_equal(attr.cached, 2);
}

static void
events_are_waited_for(void **state)
{
    Fixture *f = *state;
    sx_events_emit(f->events, 0, "error", "nas", "nas/\xff", "first");
    json_t *doc = get(f, "events?since=0&wait=30");
    json_t *first = json_array_get(json_object_get(doc, "events"), 0);
    assert_string_equal(text(first, "text"), "first");
    assert_string_equal(text(first, "path_b64"), "bmFzL/8=");
    gint64 next = json_integer_value(json_object_get(doc, "next"));
    json_decref(doc);

    int fd = dial(f->socket);
    g_autofree char *request = g_strdup_printf("GET /api/v1/events?since=%" G_GINT64_FORMAT "&wait=30 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", next);
    send_all(fd, request, strlen(request));
    sx_events_emit(f->events, 0, "conflict", "nas", NULL, "second"); /* before or while it waits: both are found */
    char buf[8192] = "";
    gsize n = 0;
    for (ssize_t k; (k = recv(fd, buf + n, sizeof buf - 1 - n, 0)) > 0;)
        n += (gsize)k;
    close(fd);
    assert_non_null(strstr(buf, "second"));
    assert_null(strstr(buf, "first"));
}

static void
providers_are_tested(void **state)
{
    Fixture *f = *state;
    json_t *doc = post(f, "providers/nas/test", NULL);
    assert_string_equal(text(doc, "state"), "online");
    json_decref(doc);
    __atomic_store_n(&f->faults.offline, true, __ATOMIC_SEQ_CST);
    g_autoptr(GError) e = NULL, e2 = NULL;
    assert_null(sx_client_post(f->client, "providers/nas/test", NULL, &e));
    assert_true(sx_error_is(e, SX_ERR_OFFLINE));
    assert_non_null(sx_client_remedy(f->client));
    doc = get(f, "providers");
    json_t *p = json_array_get(json_object_get(doc, "providers"), 0);
    assert_string_equal(text(p, "state"), "offline");
    assert_true(strlen(text(p, "last_error")) > 6);
    json_decref(doc);
    assert_null(sx_client_post(f->client, "providers/nope/test", NULL, &e2));
    assert_true(sx_error_is(e2, SX_ERR_NOT_FOUND));
}

static void
doctor_reports_with_known_words(void **state)
{
    Fixture *f = *state;
    __atomic_store_n(&f->faults.offline, true, __ATOMIC_SEQ_CST);
    json_t *doc = get(f, "doctor"), *check;
    size_t i;
    bool provider_failed = false;
    json_array_foreach(json_object_get(doc, "checks"), i, check) {
        const char *result = text(check, "result");
        assert_true(strcmp(result, "ok") == 0 || strcmp(result, "warn") == 0 || strcmp(result, "fail") == 0);
        provider_failed |= strcmp(text(check, "check"), "provider") == 0 && strcmp(result, "fail") == 0;
    }
    assert_true(provider_failed);
    json_decref(doc);
}

/* Without a running mount, with a configuration that is wrong, or names a directory that cannot be. */
static void
doctor_reads_the_configuration(void **state)
{
    Fixture *f = *state;
    g_autoptr(SxRegistry) registry = sx_registry_new();
    sx_registry_add(registry, &sx_provider_mem);
    g_autofree char *file = g_build_filename(f->dir, "t.conf", NULL);
    static const struct {
        const char *conf, *says;
    } cases[] = {
        {"[provider a]\ntype = mem\n", "a (mem) answers"},
        {"[nonsense]\n", "t.conf:1"},
        {"[syncoxfs]\ncache-dir = /dev/null/x\n[provider a]\ntype = mem\n", "/dev/null is not a directory"},
        {"[syncoxfs]\ncache-dir = /tmp\nmin-free = 1023P\n[provider a]\ntype = mem\n", "less than min-free"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        assert_true(g_file_set_contents(file, cases[i].conf, -1, NULL));
        json_t *list = sx_doctor(&(SxDoctorOptions){.registry = registry, .config_file = file});
        g_autofree char *all = json_dumps(list, JSON_ENCODE_ANY);
        if (strstr(all, cases[i].says) == NULL)
            fail_msg("%s: %s", cases[i].says, all);
        json_decref(list);
    }
}

static void
documents_are_the_same(void **state)
{
    Fixture *f = *state;
    make_file(f, "d.txt", "x");
    sx_events_emit(f->events, 0, "error", NULL, NULL, "line");
    static const char *const names[] = {"status.json", "transfers.json", "conflicts.json"};
    for (guint i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *document = sx_api_document(f->vfs, names[i], &f->about);
        json_t *doc = json_loads(document, 0, NULL);
        assert_non_null(doc);
        assert_null(json_object_get(doc, "error"));
        json_decref(doc);
    }
    g_autofree char *status = sx_api_document(f->vfs, "status.json", &f->about);
    json_t *doc = json_loads(status, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(doc, "mount")), MOUNT);
    assert_string_equal(json_string_value(json_object_get(doc, "config")), "/etc/x.conf");
    assert_true(json_is_integer(json_object_get(doc, "uptime_ms")));
    json_decref(doc);
    g_autofree char *lines = sx_api_document(f->vfs, "events.jsonl", &f->about);
    g_autofree char *none = sx_api_document(f->vfs, "nonsense", &f->about);
    assert_non_null(strstr(lines, "\"line\""));
    assert_true(g_str_has_suffix(lines, "}\n"));
    assert_string_equal(none, "");
}

static void
umount_tells_the_owner_of_the_stack(void **state)
{
    Fixture *f = *state;
    json_decref(post(f, "umount", json_pack("{s:b}", "force", 0)));
    json_decref(post(f, "umount", json_pack("{s:b}", "force", 1)));
    assert_int_equal(g_atomic_int_get(&f->quits), 2);
}

/* ---- bad will ---- */

static void
bad_requests_are_refused(void **state)
{
    Fixture *f = *state;
    make_file(f, "file", "x");
    g_autofree char *long_path = g_strnfill(9000, 'a'), *long_route = g_strconcat("/api/v1/status?path=", long_path, NULL);
    g_autofree char *long_body = g_strdup_printf("{\"path\": \"%s\"}", long_path);
    const struct {
        int status;
        const char *method, *target, *body;
    } cases[] = {
        {404, "GET", "/", ""},
        {404, "GET", "/api/v1/nonsense", ""},
        {404, "GET", "/api/v1/status/more", ""},
        {404, "POST", "/api/v1/providers//test", ""},
        {404, "POST", "/api/v1/providers/a/b/test", ""},
        {405, "POST", "/api/v1/status", ""},
        {405, "GET", "/api/v1/umount", ""},
        {405, "DELETE", "/api/v1/flush", ""},
        {400, "POST", "/api/v1/pin", ""},
        {400, "POST", "/api/v1/pin", "{"},
        {400, "POST", "/api/v1/pin", "[]"},
        {400, "POST", "/api/v1/pin", "{\"path\": 1}"},
        {400, "POST", "/api/v1/pin", "{\"path\": \"a\", \"path\": \"b\"}"},
        {400, "POST", "/api/v1/pin", "{\"path\": \"a\\u0000b\"}"},
        {400, "POST", "/api/v1/pin", "{\"path_b64\": \"!!!\"}"},
        {400, "POST", "/api/v1/pin", "{\"path_b64\": \"YQBi\"}"},
        {400, "POST", "/api/v1/pin", "{\"path\": \"nas\", \"wait\": 1}"},
        {400, "POST", "/api/v1/pin", "{\"path\": \"\xff\"}"},
        {400, "POST", "/api/v1/pin", long_body},
        {400, "POST", "/api/v1/flush", "{\"timeout\": -1}"},
        {400, "POST", "/api/v1/flush", "{\"timeout\": \"soon\"}"},
        {400, "POST", "/api/v1/refresh", "{\"accept\": \"yes\"}"},
        {400, "POST", "/api/v1/umount", "{\"force\": 1}"},
        {400, "GET", "/api/v1/status?path=/etc/passwd", ""},
        {400, "GET", "/api/v1/status?path=/nowhere/mntx", ""},
        {400, "GET", "/api/v1/status?path=nas/../..", ""},
        {400, "GET", "/api/v1/status?path=a%00b", ""},
        {400, "GET", "/api/v1/status?path=a&path=b", ""},
        {400, "GET", "/api/v1/status?path=nas/file/below", ""},
        {404, "GET", "/api/v1/status?path=nas/none", ""},
        {404, "GET", "/api/v1/status?path=none", ""},
        {400, "GET", "/api/v1/events?since=x", ""},
        {400, "GET", "/api/v1/events?wait=61", ""},
        {400, "GET", "/api/v1/events?since=-1", ""},
        {400, "GET", long_route, ""},
        {200, "GET", "/api/v1/status?path=/nowhere/mnt//nas/./file/", ""},
        {200, "GET", "/api/v1/status?path=/nowhere/mnt", ""},
    };
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        int status = status_of(f, cases[i].method, cases[i].target, cases[i].body);
        if (status != cases[i].status)
            fail_msg("%s %.80s %.80s: %d, not %d", cases[i].method, cases[i].target, cases[i].body, status, cases[i].status);
    }
    assert_int_equal(g_atomic_int_get(&f->quits), 0);
}

static void
sizes_have_limits(void **state)
{
    Fixture *f = *state;
    g_autofree char *body = g_strnfill(SX_HTTP_BODY_MAX + 1, ' '), *header = g_strnfill(64 * 1024, 'h');
    assert_int_equal(status_of(f, "POST", "/api/v1/flush", body), 413);
    g_autofree char *request = g_strdup_printf("GET /api/v1/status HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", header);
    g_autofree char *reply = raw(f, request, strlen(request));
    assert_true(g_str_has_prefix(reply, "HTTP/1.1 431") || *reply == '\0');
    GString *many = g_string_new("/api/v1/status?a=1");
    for (int i = 0; i < 20; i++)
        g_string_append_printf(many, "&k%d=1", i);
    assert_int_equal(status_of(f, "GET", many->str, ""), 400);
    g_string_free(many, TRUE);
}

static void
garbage_is_survived(void **state)
{
    Fixture *f = *state;
    static const char *const lines[] = {"\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\xff\xfe\xfd\r\n\r\n",
                                        "POST /api/v1/flush HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
                                        "POST /api/v1/flush HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"};
    for (guint i = 0; i < G_N_ELEMENTS(lines); i++) {
        int fd = dial(f->socket);
        send_all(fd, lines[i], strlen(lines[i]));
        shutdown(fd, SHUT_WR);
        char buf[4096];
        while (recv(fd, buf, sizeof buf, 0) > 0)
            ;
        close(fd);
    }
    assert_int_equal(status_of(f, "GET", "/api/v1/status", ""), 200);
}

/* All places are taken by clients that wait for long and go away: their requests must end at once, or nobody gets in again. */
static void
take_all_places_and_go(Fixture *f, const char *request)
{
    int fds[SX_HTTP_CONNECTIONS];
    for (int round = 0; round < 2; round++) {
        for (guint i = 0; i < G_N_ELEMENTS(fds); i++) {
            fds[i] = dial(f->socket);
            assert_true(fds[i] >= 0);
            send_all(fds[i], request, strlen(request));
        }
        for (guint i = 0; i < G_N_ELEMENTS(fds); i++)
            close(fds[i]);
    }
    static const char status[] = "GET /api/v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    gint64 until = g_get_monotonic_time() + REPLY_S * G_USEC_PER_SEC;
    for (;;) { /* a full server closes without a word */
        g_autofree char *reply = raw(f, status, strlen(status));
        if (*reply != '\0' || g_get_monotonic_time() > until) {
            assert_true(g_str_has_prefix(reply, "HTTP/1.1 200"));
            return;
        }
    }
}

static void
who_hangs_up_frees_the_place(void **state)
{
    take_all_places_and_go(*state, "GET /api/v1/events?since=1000000&wait=60 HTTP/1.1\r\nHost: x\r\n\r\n");
}

static void
a_flush_ends_with_its_client_and_with_the_server(void **state)
{
    Fixture *f = *state;
    static const char request[] = "POST /api/v1/flush HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    __atomic_store_n(&f->faults.offline, true, __ATOMIC_SEQ_CST);
    make_file(f, "never", "x");
    take_all_places_and_go(f, request);
    int fd = dial(f->socket);
    send_all(fd, request, strlen(request));
    sx_http_stop(f->http);
    f->http = NULL;
    char buf[8192] = "";
    ssize_t n = recv(fd, buf, sizeof buf - 1, MSG_WAITALL);
    close(fd);
    assert_true(n <= 0 || strstr(buf, "cancelled") != NULL); /* told, or not accepted any more */
}

/* ---- the socket ---- */

static void
one_server_a_socket_and_dead_ones_are_replaced(void **state)
{
    Fixture *f = *state;
    struct stat st;
    g_autofree char *link = g_build_filename(f->dir, "run", "default", NULL), *other = g_build_filename(f->dir, "run", "b.sock", NULL);
    assert_int_equal(stat(f->socket, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    g_autofree char *target = g_file_read_link(link, NULL);
    assert_string_equal(target, "a.sock");

    g_autoptr(GError) e = NULL;
    const SxHttpOptions again = {.vfs = f->vfs, .socket_path = f->socket, .mountpoint = MOUNT};
    assert_null(sx_http_start(&again, &e));
    assert_true(sx_error_is(e, SX_ERR_BUSY));

    SxHttp *second = sx_http_start(&(SxHttpOptions){.vfs = f->vfs, .socket_path = other, .mountpoint = "/b"}, NULL);
    g_autofree char *newest = g_file_read_link(link, NULL);
    assert_string_equal(newest, "b.sock");
    sx_http_stop(second);
    g_autofree char *left = g_file_read_link(link, NULL);
    assert_string_equal(left, "a.sock");
    assert_int_not_equal(stat(other, &st), 0);

    struct sockaddr_un a = {.sun_family = AF_UNIX};
    g_strlcpy(a.sun_path, other, sizeof a.sun_path);
    int dead = socket(AF_UNIX, SOCK_STREAM, 0); /* as a killed process leaves it */
    assert_int_equal(bind(dead, (struct sockaddr *)&a, sizeof a), 0);
    close(dead);
    second = sx_http_start(&(SxHttpOptions){.vfs = f->vfs, .socket_path = other, .mountpoint = "/b"}, NULL);
    assert_non_null(second);
    sx_http_stop(second);
    sx_http_stop(f->http);
    f->http = NULL;
    assert_int_not_equal(stat(f->socket, &st), 0);
    assert_int_not_equal(lstat(link, &st), 0);
}

static void
places_that_do_not_fit(void **state)
{
    Fixture *f = *state;
    g_autofree char *fill = g_strnfill(100, 'x'), *too_long = g_build_filename(f->dir, "run", fill, NULL);
    g_autofree char *open_dir = g_build_filename(f->dir, "open", NULL), *in_open = g_build_filename(open_dir, "s", NULL);
    g_autofree char *no_dir = g_build_filename(f->dir, "tree.db", "s", NULL);
    assert_int_equal(g_mkdir(open_dir, 0777), 0);
    assert_int_equal(g_chmod(open_dir, 0777), 0);
    const struct {
        const char *path;
        SxErrorCode code;
    } cases[] = {{too_long, SX_ERR_NAME_TOO_LONG}, {in_open, SX_ERR_PERMISSION}, {no_dir, SX_ERR_NOT_DIR}};
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) e = NULL;
        assert_null(sx_http_start(&(SxHttpOptions){.vfs = f->vfs, .socket_path = cases[i].path, .mountpoint = MOUNT}, &e));
        assert_int_equal(sx_error_code(e), cases[i].code);
        assert_non_null(strstr(e->message, f->dir));
    }
}

static void
other_users_are_refused(void **state)
{
    Fixture *f = *state;
    if (geteuid() != 0) {
        print_message("only root can become another user\n");
        skip();
    }
    g_autofree char *run = g_path_get_dirname(f->socket);
    assert_int_equal(chmod(f->dir, 0755) | chmod(run, 0755) | chmod(f->socket, 0666), 0); /* what protects first is taken away */
    pid_t pid = fork();
    if (pid == 0) {
        char buf[4096] = "";
        int fd = setuid(65534) == 0 ? dial(f->socket) : -1;
        static const char request[] = "GET /api/v1/status HTTP/1.1\r\nHost: x\r\n\r\n";
        if (fd < 0)
            _exit(2);
        send_all(fd, request, strlen(request));
        _exit(recv(fd, buf, sizeof buf - 1, 0) > 0 && g_str_has_prefix(buf, "HTTP/1.1 403") && strstr(buf, "mount\": ") == NULL ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        T(the_list_of_routes_is_true),
        T(a_change_is_shown_and_flushed),
        T(a_stopped_change_has_its_reason_until_flush_tries_again),
        T(names_that_are_not_utf8),
        T(pin_evict_refresh_unpin),
        T(events_are_waited_for),
        T(providers_are_tested),
        T(doctor_reports_with_known_words),
        T(doctor_reads_the_configuration),
        T(documents_are_the_same),
        T(umount_tells_the_owner_of_the_stack),
        T(bad_requests_are_refused),
        T(sizes_have_limits),
        T(garbage_is_survived),
        T(who_hangs_up_frees_the_place),
        T(a_flush_ends_with_its_client_and_with_the_server),
        T(one_server_a_socket_and_dead_ones_are_replaced),
        T(places_that_do_not_fit),
        T(other_users_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
