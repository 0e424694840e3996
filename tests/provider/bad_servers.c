/* Servers that answer wrongly (tests/lib/bad_server.py), refuse, hang or vanish: the exact error, in words a person can use. */
#include "lib/servers.h"
#include "suite.h"

#include "net/net.h"

#include <string.h>
#include <time.h>
#include <utime.h>

static SxTestServer *bad;

static SxProvider *
open_url(const char *name, const char *url, const char *options)
{
    g_autofree char *text = g_strdup_printf("url = %s\n%s", url, options);
    g_autoptr(GError) error = NULL;
    SxProvider *p = sx_provider_open_text(&sx_provider_webdav, name, text, sx_sys_default(), sx_clock_default(), &error);
    if (p == NULL)
        fail_msg("%s", error->message);
    return p;
}

static SxProvider *
open_case(const char *name, const char *options)
{
    g_autofree char *url = g_strconcat(sx_test_server_get(bad, "url"), name, "/", NULL);
    return open_url("nas", url, options);
}

static bool
ignore_entry(void *data, const SxRemote *entry)
{
    return true;
}

static int
ignore_bytes(void *data, gint64 off, const void *buf, gsize n)
{
    GByteArray *got = data;
    if (got != NULL)
        g_byte_array_append(got, buf, (guint)n);
    return 0;
}

typedef enum Call { LIST, READ, READ_PART, WRITE, WRITE_LARGE, MKDIR, REMOVE, MOVE } Call;

static bool
call(SxProvider *p, Call what, GCancellable *cancel, GError **error)
{
    SxTestSource s = {.seed = 1, .size = what == WRITE_LARGE ? 8 << 20 : 5};
    SxUpload u = sx_test_upload(&s, (SxCond){.kind = SX_IF_VERSION, .version = "v1", .size = 5, .mtime_ns = SX_TIME_UNKNOWN});
    SxCond any = sx_test_any();
    g_autoptr(SxRemote) r = NULL;
    switch (what) {
    case LIST: return sx_provider_list(p, "", ignore_entry, NULL, cancel, error);
    case READ: return sx_provider_read(p, "f", &u.cond, 0, -1, ignore_bytes, NULL, cancel, error);
    case READ_PART: return sx_provider_read(p, "f", &any, 5, 10, ignore_bytes, NULL, cancel, error);
    case WRITE:
    case WRITE_LARGE: return sx_provider_write(p, "f", &u, &r, cancel, error);
    case MKDIR: return sx_provider_mkdir(p, "d", &r, cancel, error);
    case REMOVE: return sx_provider_remove(p, "f", SX_KIND_FILE, &u.cond, cancel, error);
    case MOVE: return sx_provider_move(p, "f", "d", SX_KIND_FILE, cancel, error);
    }
    return false;
}

typedef struct Row {
    const char *name, *options;
    Call call;
    SxErrorCode code;
    const char *says;     /* part of the message */
} Row;
#define LOGIN "user = alice\npassword = secret\n"
#define AS_APACHE LOGIN "flavour = apache\n"
#define AS_SABRE "flavour = nextcloud\n"

static const Row rows[] = {
    {"html", LOGIN, LIST, SX_ERR_PROTOCOL, "web page"},
    {"html-207", LOGIN, LIST, SX_ERR_PROTOCOL, "web page"},
    {"missing", LOGIN, LIST, SX_ERR_PROTOCOL, "does not exist on the server: is the path in url right?"},
    {"plain-web", LOGIN, LIST, SX_ERR_PROTOCOL, "no WebDAV at this address"},
    {"file", LOGIN, LIST, SX_ERR_NOT_DIR, "not the address of a directory"},
    {"login", LOGIN, LIST, SX_ERR_AUTH, "refuses the login of alice: check user and password"},
    {"login", "", LIST, SX_ERR_AUTH, "set user and password"},
    {"login", "auth = bearer\npassword = token\n", LIST, SX_ERR_AUTH, "token"},
    {"redirect-elsewhere", LOGIN, LIST, SX_ERR_PROTOCOL, "http://localhost:"},
    {"redirect-https", LOGIN, LIST, SX_ERR_PROTOCOL, "write url = https://127.0.0.1"},
    {"redirect-loop", LOGIN, LIST, SX_ERR_PROTOCOL, "redirects more than 5 times"},
    {"redirect-nowhere", LOGIN, LIST, SX_ERR_PROTOCOL, "to nowhere"},
    {"many-headers", LOGIN, LIST, SX_ERR_PROTOCOL, "200 headers"},
    {"rate", LOGIN, LIST, SX_ERR_RATE, "slow down"},
    {"rate-date", LOGIN, LIST, SX_ERR_RATE, "overloaded"},
    {"hang", LOGIN "timeout = 300ms\n", LIST, SX_ERR_TIMEOUT, "no answer to PROPFIND"},
    {"not-http", LOGIN, LIST, SX_ERR_PROTOCOL, "senseless answer"},
    {"garbage-after-head", LOGIN, LIST, SX_ERR_PROTOCOL, "XML is broken"},
    {"truncated", LOGIN, LIST, SX_ERR_PROTOCOL, "XML is broken"},
    {"cut", LOGIN, LIST, SX_ERR_LOST, "lost the connection"},
    {"malformed", LOGIN, LIST, SX_ERR_PROTOCOL, "XML is broken"},
    {"laughs", LOGIN, LIST, SX_ERR_PROTOCOL, "entity bombs"},
    {"deep", LOGIN, LIST, SX_ERR_PROTOCOL, "nested too deeply"},
    {"long-text", LOGIN, LIST, SX_ERR_PROTOCOL, "too long"},
    {"other-xml", LOGIN, LIST, SX_ERR_PROTOCOL, "not a multistatus"},
    {"no-self", LOGIN, LIST, SX_ERR_PROTOCOL, "does not name the directory itself"},
    {"failing-entry", LOGIN, LIST, SX_ERR_SERVER, "cannot tell about"},
    {"hang-in-listing", LOGIN "timeout = 300ms\n", LIST, SX_ERR_TIMEOUT, "no answer"},
    {"short-get", LOGIN, READ, SX_ERR_LOST, "lost the connection"},
    {"other-version", LOGIN, READ, SX_ERR_CHANGED, "changed on the server"},
    {"other-size", LOGIN, READ, SX_ERR_CHANGED, "changed on the server"},
    {"wrong-range", LOGIN, READ_PART, SX_ERR_PROTOCOL, "another part"},
    {"no-range-told", LOGIN, READ_PART, SX_ERR_PROTOCOL, "another part"},
    {"too-much", LOGIN, READ_PART, SX_ERR_PROTOCOL, "more of it"},
    {"full", AS_APACHE, WRITE, SX_ERR_NO_SPACE, "nas: f: the server is full"},
    {"full", AS_APACHE, WRITE_LARGE, SX_ERR_NO_SPACE, "the server is full"},
    {"full", LOGIN, WRITE, SX_ERR_NO_SPACE, "the server is full"},
    {"full", AS_APACHE, MKDIR, SX_ERR_NO_SPACE, "the server is full"},
    {"no-put", AS_APACHE, WRITE, SX_ERR_READ_ONLY, "takes no uploads here"},
    {"no-put", AS_APACHE, MKDIR, SX_ERR_READ_ONLY, "makes no directories here"},
    {"no-put", AS_APACHE, REMOVE, SX_ERR_READ_ONLY, "removes nothing here"},
    {"no-put", AS_APACHE, MOVE, SX_ERR_READ_ONLY, "moves and copies nothing here"},
    {"forbidden", AS_APACHE, WRITE, SX_ERR_PERMISSION, "does not permit"},
    {"too-large", AS_APACHE, WRITE_LARGE, SX_ERR_TOO_LARGE, "larger than the server accepts"},
    {"locked", AS_APACHE, WRITE, SX_ERR_BUSY, "locked"},
    {"broken", AS_APACHE, WRITE, SX_ERR_SERVER, "the server failed"},
    {"early-412", AS_APACHE, WRITE_LARGE, SX_ERR_BUSY, "does not compare this version yet"},
    {"weak", AS_APACHE, WRITE, SX_ERR_BUSY, "does not compare this version yet"},
    {"lost-reply", AS_APACHE, WRITE, SX_ERR_LOST, "connection"},
    {"lost-reply", AS_APACHE, MKDIR, SX_ERR_LOST, "connection"},
    {"lost-reply", AS_APACHE, MOVE, SX_ERR_LOST, "connection"},
    {"proxy-502", AS_APACHE, MOVE, SX_ERR_UNSUPPORTED, "another server"},
    {"damaged-upload", LOGIN "flavour = generic\n", WRITE, SX_ERR_CORRUPT, "kept 3 of 5 bytes"},
    {"hang-in-put", AS_APACHE "timeout = 300ms\n", WRITE, SX_ERR_TIMEOUT, "no answer to PUT"},
};

static void
row(void **state)
{
    const Row *r = *state;
    if (bad == NULL)
        skip();
    g_autoptr(SxProvider) p = open_case(r->name, r->options);
    g_autoptr(GError) error = NULL;
    if (call(p, r->call, NULL, &error))
        fail_msg("works, but ought to fail with %s", sx_error_code_name(r->code));
    if (!sx_error_is(error, r->code) || strstr(error->message, r->says) == NULL)
        fail_msg("ought to fail with %s \"%s\", but: %s (%s)", sx_error_code_name(r->code), r->says, error->message,
                 sx_error_code_name(sx_error_code(error)));
    assert_true(g_str_has_prefix(error->message, "nas: "));
    assert_null(strstr(error->message, ": : ")); /* the root's path is empty */
    assert_null(strstr(error->message, "secret"));
    if (r->code == SX_ERR_RATE) {
        gint64 wait = sx_error_retry_after_ms(error);
        assert_true(strcmp(r->name, "rate") == 0 ? wait == 7000 : wait >= 85000 && wait <= 91000);
    }
}

static char *
control(const char *what)
{
    SxNetConfig config = {.name = "control", .base_url = sx_test_server_get(bad, "url"), .timeout_ms = 10000};
    g_autoptr(SxNet) net = sx_net_new(&config, NULL);
    g_autofree char *path = g_strconcat("/control/", what, NULL);
    SxNetRequest request = {.method = "GET", .path = path, .what = "", .body_limit = 1 << 20};
    g_auto(SxNetResponse) response = {0};
    OK(sx_net_send(net, &request, &response, NULL, error));
    return g_strndup((const char *)response.body->data, response.body->len);
}

static void
nothing_reaches_another_server(void **state)
{
    if (bad == NULL)
        skip();
    g_autofree char *count = control("elsewhere"), *log = control("log");
    assert_string_equal(count, "0");
    assert_non_null(strstr(log, "PROPFIND /redirect-elsewhere/")); /* the row above did ask */
}

static void
redirect_on_the_same_server_is_followed(void **state)
{
    if (bad == NULL)
        skip();
    g_autoptr(SxProvider) p = open_case("redirect-here", "");
    OK(sx_provider_list(p, "", ignore_entry, NULL, NULL, error));
    g_autofree char *log = control("log");
    assert_non_null(strstr(log, "PROPFIND /redirect-here/?moved=1"));
}

static void
evil_names_do_not_enter(void **state)
{
    if (bad == NULL)
        skip();
    g_autoptr(SxProvider) p = open_case("evil-names", "");
    SxTarget t = {.name = "bad", .p = p};
    g_autoptr(GHashTable) l = sx_test_list(&t, "");
    assert_int_equal(g_hash_table_size(l), 4);
    assert_true(g_hash_table_contains(l, "good"));
    assert_true(g_hash_table_contains(l, "good2"));
    assert_true(g_hash_table_contains(l, "absolute"));
    assert_true(g_hash_table_contains(l, "dir"));
}

static gint64
size_in(GHashTable *l, const char *name)
{
    const SxRemote *r = g_hash_table_lookup(l, name);
    assert_non_null(r);
    return r->size;
}

static void
senseless_sizes_are_unknown(void **state)
{
    if (bad == NULL)
        skip();
    g_autoptr(SxProvider) p = open_case("sizes", "");
    SxTarget t = {.name = "bad", .p = p};
    g_autoptr(GHashTable) l = sx_test_list(&t, "");
    assert_int_equal(size_in(l, "negative"), -1);
    assert_int_equal(size_in(l, "huge"), -1);
    assert_int_equal(size_in(l, "words"), -1);
    assert_int_equal(size_in(l, "empty"), -1);
    assert_int_equal(size_in(l, "max"), G_MAXINT64);
    assert_int_equal(size_in(l, "good"), 7);
}

static void
properties_count_by_their_status(void **state)
{
    if (bad == NULL)
        skip();
    g_autoptr(SxProvider) p = open_case("statuses", "");
    SxTarget t = {.name = "bad", .p = p};
    g_autoptr(GHashTable) l = sx_test_list(&t, "");
    assert_int_equal(g_hash_table_size(l), 2); /* gone is gone; locked is there although nothing is told about it */
    assert_int_equal(size_in(l, "locked"), -1);
    const SxRemote *split = g_hash_table_lookup(l, "split");
    assert_int_equal(split->kind, SX_KIND_FILE);
    assert_int_equal(split->size, 9);
    assert_string_equal(split->version, "w");
}

static void
server_that_ignores_ranges(void **state)
{
    if (bad == NULL)
        skip();
    g_autoptr(SxProvider) p = open_case("no-ranges", "");
    g_autoptr(GByteArray) got = g_byte_array_new();
    SxCond any = sx_test_any();
    OK(sx_provider_read(p, "f", &any, 5, 10, ignore_bytes, got, NULL, error));
    assert_int_equal(got->len, 10);
    for (guint i = 0; i < 10; i++)
        assert_int_equal(got->data[i], (5 + i) % 251);
    g_byte_array_set_size(got, 0);
    OK(sx_provider_read(p, "f", &any, 99990, -1, ignore_bytes, got, NULL, error));
    assert_int_equal(got->len, 10);
}

/* Cancelled from another thread while the server hangs: soon, and not after the timeout. */
static void *
cancel_when_asked(void *data)
{
    void **args = data;
    const char *what = args[1];
    g_autofree char *log = NULL;
    do { /* the request has arrived: a hanging one is not in the log, the probe before it is */
        g_free(log);
        log = control("log");
    } while (strstr(log, what) == NULL);
    g_cancellable_cancel(args[0]);
    return NULL;
}

static void
cancelling_a_hanging_answer(void **state)
{
    if (bad == NULL)
        skip();
    const struct { const char *name; Call call; const char *seen; } cases[] = {
        {"hang-in-listing", LIST, "PROPFIND /hang-in-listing/ no 207\nPROPFIND /hang-in-listing/"},
        {"hang-in-put", WRITE, "OPTIONS /hang-in-put/ no"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(SxProvider) p = open_case(cases[i].name, "timeout = 1h\nflavour = apache\n");
        g_autoptr(GCancellable) cancel = g_cancellable_new();
        void *args[] = {cancel, (void *)(cases[i].call == LIST ? "PROPFIND /hang-in-listing/ no" : cases[i].seen)};
        OK(sx_provider_probe(p, NULL, error));
        GThread *thread = g_thread_new("cancel", cancel_when_asked, args);
        FAILS(SX_ERR_CANCELLED, call(p, cases[i].call, cancel, error));
        g_thread_join(thread);
    }
}

/* ---- real servers that are refused, gone, cut or hanging ---- */
static SxTestServer *apache;

static void
fails_at(const char *key, const char *options, Call what, SxErrorCode code, const char *says)
{
    const char *url = sx_test_server_get(apache, key);
    if (url == NULL)
        return;
    g_autoptr(SxProvider) p = open_url("nas", url, options);
    g_autoptr(GError) error = NULL;
    if (call(p, what, NULL, &error))
        fail_msg("%s: works, but ought to fail with %s", key, sx_error_code_name(code));
    if (!sx_error_is(error, code) || strstr(error->message, says) == NULL)
        fail_msg("%s: ought to fail with %s \"%s\", but: %s (%s)", key, sx_error_code_name(code), says, error->message,
                 sx_error_code_name(sx_error_code(error)));
}

static void
certificates(void **state)
{
    if (apache == NULL || sx_test_server_get(apache, "url_tls") == NULL)
        skip();
    g_autofree char *expired = g_strdup_printf("ca-file = %s\n", sx_test_server_get(apache, "ca_expired"));
    g_autofree char *wrong = g_strdup_printf("ca-file = %s\n", sx_test_server_get(apache, "ca_wronghost"));
    g_autofree char *other = g_strdup_printf("ca-file = %s\n", sx_test_server_get(apache, "ca_wronghost"));
    fails_at("url_tls", LOGIN, LIST, SX_ERR_TLS, "with ca-file");
    fails_at("url_tls", other, LIST, SX_ERR_TLS, "with ca-file");
    fails_at("url_expired", expired, LIST, SX_ERR_TLS, "has to be renewed");
    fails_at("url_wronghost", wrong, LIST, SX_ERR_TLS, "use the name that the certificate is made for");
    const char *plain = sx_test_server_get(apache, "url");
    g_autofree char *https = g_strconcat("https", plain + 4, NULL);
    g_autoptr(SxProvider) p = open_url("nas", https, "");
    FAILS(SX_ERR_TLS, call(p, LIST, NULL, error)); /* http where https was expected */
}

static void
logins(void **state)
{
    if (apache == NULL)
        skip();
    fails_at("url", "user = alice\npassword = wrong\n", LIST, SX_ERR_AUTH, "check user and password");
    fails_at("url_digest", "user = alice\npassword = wrong\n", LIST, SX_ERR_AUTH, "check user and password");
    fails_at("url_digest", "user = alice\npassword = wrong\nauth = digest\n", WRITE, SX_ERR_AUTH, "check user and password");
    fails_at("url", "", LIST, SX_ERR_AUTH, "set user and password");
    fails_at("url_readonly", "", WRITE, SX_ERR_PERMISSION, "does not permit");
    fails_at("url_readonly", "", MKDIR, SX_ERR_PERMISSION, "does not permit");
}

static guint
requests_of(const char *method_and_path)
{
    g_autofree char *log = NULL;
    guint n = 0;
    assert_true(g_file_get_contents(sx_test_server_get(apache, "access_log"), &log, NULL, NULL));
    for (const char *s = log; (s = strstr(s, method_and_path)) != NULL; s++)
        n++;
    return n;
}

static void
one_request_for_a_small_upload(void **state)
{
    if (apache == NULL)
        skip();
    static const char *const keys[] = {"url", "url_digest", "url_open"};
    static const char *const paths[] = {" /basic/small-", " /digest/small-", " /open/small-"};
    for (guint k = 0; k < 3; k++) {
        g_autofree char *login = k == 2 ? g_strdup("") : g_strdup_printf("user = %s\npassword = %s\n",
                                              sx_test_server_get(apache, "user"), sx_test_server_get(apache, "password"));
        g_autoptr(SxProvider) p = open_url("nas", sx_test_server_get(apache, keys[k]), login);
        for (int i = 0; i < 20; i++) {
            g_autofree char *name = g_strdup_printf("small-%u-%d", k, i);
            SxTestSource s = {.seed = 1, .size = 100};
            SxUpload u = sx_test_upload(&s, sx_test_absent());
            g_autoptr(SxRemote) r = NULL;
            OK(sx_provider_write(p, name, &u, &r, NULL, error));
            assert_int_equal(s.sent, 100); /* never sent twice, also not for a login */
        }
        /* The server logs a request before it takes the next on the same connection. */
        SxRemote *none = NULL;
        FAILS(SX_ERR_NOT_FOUND, sx_provider_stat(p, "end", &none, NULL, error));
        assert_int_equal(requests_of(paths[k]), 20); /* digest too: the probe has fetched the nonce */
    }
}

/* The server's nonce grows old in the middle of the work: the upload is asked for again, from its beginning. */
static void
digest_nonce_grows_old(void **state)
{
    if (apache == NULL)
        skip();
    g_autofree char *login = g_strdup_printf("user = %s\npassword = %s\n", sx_test_server_get(apache, "user"),
                                             sx_test_server_get(apache, "password"));
    g_autoptr(SxProvider) p = open_url("nas", sx_test_server_get(apache, "url_nonce"), login);
    SxTarget t = {.name = "nas", .p = p};
    const struct { const char *name, *refused; gint64 size; } rounds[] = {
        {"small", "PUT /nonce/small 401", 100000}, /* goes out twice */
        {"large", "PUT /nonce/large 401", SX_NET_EXPECT_BYTES + 1}}; /* waits for the go-ahead, goes out once */
    for (gsize k = 0; k < G_N_ELEMENTS(rounds); k++) {
        guint seed = 0;
        while (requests_of(rounds[k].refused) == 0) {
            SxTestSource s = {.seed = ++seed, .size = rounds[k].size};
            SxUpload u = sx_test_upload(&s, sx_test_any());
            g_autoptr(SxRemote) r = NULL;
            OK(sx_provider_write(p, rounds[k].name, &u, &r, NULL, error));
        }
        sx_test_same(&t, rounds[k].name, seed, rounds[k].size);
    }
}

/* What broken uploads left in the hidden folder goes at the next start, when it is a day old. */
static void
old_leftovers_are_tidied(void **state)
{
    if (apache == NULL)
        skip();
    g_autofree char *folder = g_build_filename(sx_test_server_get(apache, "root"), SX_TMP_PREFIX "uploads", NULL);
    g_autofree char *old = g_build_filename(folder, "old", NULL), *fresh = g_build_filename(folder, "fresh", NULL);
    g_autoptr(SxProvider) p = open_url("nas", sx_test_server_get(apache, "url_open"), "flavour = generic\n");
    SxTarget t = {.name = "nas", .p = p};
    g_autoptr(SxRemote) f = sx_test_put(&t, "f", 1, 10); /* makes the folder */
    assert_true(g_file_set_contents(old, "x", 1, NULL) && g_file_set_contents(fresh, "x", 1, NULL));
    struct utimbuf two_days_ago = {time(NULL) - 2 * 86400, time(NULL) - 2 * 86400};
    assert_int_equal(utime(old, &two_days_ago), 0);
    OK(sx_provider_probe(p, NULL, error));
    assert_false(g_file_test(old, G_FILE_TEST_EXISTS));
    assert_true(g_file_test(fresh, G_FILE_TEST_EXISTS));
}

static void
cut_hung_and_back(void **state)
{
    SxTestServer *s = sx_test_server_start("apache");
    if (s == NULL)
        skip();
    g_autoptr(SxProvider) p = open_url("nas", sx_test_server_get(s, "url_open"), "timeout = 300ms\n");
    SxTarget t = {.name = "apache", .p = p};
    g_autoptr(SxRemote) f = sx_test_put(&t, "f", 1, 100);
    sx_test_server_pause(s);
    GError *why = NULL;
    assert_false(call(p, LIST, NULL, &why)); /* connected before: no answer; a new connection: accepted by the kernel, no answer */
    assert_true(sx_error_is(why, SX_ERR_TIMEOUT));
    g_clear_error(&why);
    sx_test_server_resume(s);
    OK(call(p, LIST, NULL, error));
    sx_test_server_kill(s);
    assert_false(call(p, LIST, NULL, &why));
    assert_true(sx_error_is(why, SX_ERR_OFFLINE));
    assert_int_equal(sx_provider_online(p), SX_OFFLINE);
    g_clear_error(&why);
    FAILS(SX_ERR_OFFLINE, call(p, WRITE, NULL, error));
    sx_test_server_restart(s);
    sx_test_same(&t, "f", 1, 100);
    sx_test_server_stop(s);
}

/* ---- Nextcloud's own ways (a fake: tests/lib/fake_nextcloud.py) ---- */
static void
steer(SxTestServer *s, const char *path)
{
    SxNetConfig config = {.name = "control", .base_url = sx_test_server_get(s, "url"), .timeout_ms = 10000};
    g_autoptr(SxNet) net = sx_net_new(&config, NULL);
    SxNetRequest request = {.method = "POST", .path = path, .what = ""};
    g_auto(SxNetResponse) response = {0};
    OK(sx_net_send(net, &request, &response, NULL, error));
    assert_int_equal(response.status, 204);
}

static void
nextcloud_assembles_slowly(void **state)
{
    SxTestServer *s = sx_test_server_start("nextcloud");
    if (s == NULL)
        skip();
    g_autofree char *login = g_strdup_printf("user = %s\npassword = %s\nchunk-size = 64K\n", sx_test_server_get(s, "user"),
                                             sx_test_server_get(s, "password"));
    g_autoptr(SxProvider) p = open_url("cloud", sx_test_server_get(s, "url"), login);
    SxTarget t = {.name = "cloud", .p = p};
    g_autoptr(SxRemote) old = sx_test_put(&t, "f", 1, 300000), r = NULL;
    steer(s, "/control/assembly/1");
    SxTestSource src = {.seed = 2, .size = 300001};
    SxUpload u = sx_test_upload(&src, sx_test_version(old));
    OK(sx_provider_write(p, "f", &u, &r, NULL, error));
    sx_test_same(&t, "f", 2, 300001);
    g_autoptr(SxRemote) now = sx_test_stat(&t, "f");
    assert_string_equal(r->version, now->version);
    assert_string_equal(old->id, now->id); /* the same file: shares and history stay */
    steer(s, "/control/full/1");
    u.cond = sx_test_version(now);
    FAILS(SX_ERR_NO_SPACE, sx_provider_write(p, "f", &u, &r, NULL, error)); /* told before the bytes go out */
    steer(s, "/control/full/0");
    steer(s, "/control/maintenance/1");
    g_autoptr(GError) resting = NULL;
    assert_false(call(p, LIST, NULL, &resting));
    assert_true(sx_error_is(resting, SX_ERR_RATE));
    assert_int_equal(sx_error_retry_after_ms(resting), 120000);
    steer(s, "/control/maintenance/0");
    OK(call(p, LIST, NULL, error));
    /* Every way to write the address leads to the same files. */
    static const char *const ways[] = {"remote.php/dav/files/alice", "remote.php/webdav/", "remote.php/dav/files/alice/"};
    for (gsize i = 0; i < G_N_ELEMENTS(ways); i++) {
        g_autofree char *url = g_strconcat(sx_test_server_get(s, "url"), ways[i], NULL);
        g_autoptr(SxProvider) q = open_url("cloud", url, login);
        SxTarget other = {.name = "cloud", .p = q};
        sx_test_same(&other, "f", 2, 300001);
    }
    sx_test_server_stop(s);
}

int
main(void)
{
    g_setenv("http_proxy", "http://127.0.0.1:1/", TRUE); /* not for loopback */
    g_setenv("https_proxy", "http://127.0.0.1:1/", TRUE);
    bad = sx_test_server_start("bad");
    apache = sx_test_server_start("apache");
    g_autoptr(GArray) tests = g_array_new(FALSE, FALSE, sizeof(struct CMUnitTest));
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        struct CMUnitTest test = {g_strdup_printf("%s: %s", rows[i].name, rows[i].says), row, NULL, NULL, (void *)&rows[i]};
        g_ptr_array_add(names, (char *)test.name);
        g_array_append_val(tests, test);
    }
    const struct CMUnitTest more[] = {
        cmocka_unit_test(nothing_reaches_another_server),
        cmocka_unit_test(redirect_on_the_same_server_is_followed),
        cmocka_unit_test(evil_names_do_not_enter),
        cmocka_unit_test(senseless_sizes_are_unknown),
        cmocka_unit_test(properties_count_by_their_status),
        cmocka_unit_test(server_that_ignores_ranges),
        cmocka_unit_test(cancelling_a_hanging_answer),
        cmocka_unit_test(certificates),
        cmocka_unit_test(logins),
        cmocka_unit_test(one_request_for_a_small_upload),
        cmocka_unit_test(digest_nonce_grows_old),
        cmocka_unit_test(old_leftovers_are_tidied),
        cmocka_unit_test(cut_hung_and_back),
        cmocka_unit_test(nextcloud_assembles_slowly),
    };
    g_array_append_vals(tests, more, G_N_ELEMENTS(more));
    int failed = _cmocka_run_group_tests("bad_servers", (const struct CMUnitTest *)(void *)tests->data, tests->len, NULL, NULL);
    sx_test_server_stop(bad);
    sx_test_server_stop(apache);
    return failed;
}
