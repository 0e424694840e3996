/* conformance [SUBSTRING]: runs the suite over every provider whose name contains SUBSTRING. */
#include "lib/servers.h"
#include "suite.h"

#include "providers/mem/mem.h"

#include <ftw.h>
#include <stdio.h>
#include <string.h>

typedef struct Maker {
    const char *name;
    const SxProviderType *type;
    const char *server;    /* kind for tests/lib/server, or NULL */
    const char *url_key;   /* which of its addresses */
    const char *options;   /* more of them */
    bool utf8_only, no_dots; /* as in SxTarget */
    bool filtered;         /* through the fault filter with a plan that does nothing: a filter must change nothing by itself */
} Maker;

static const Maker makers[] = {
    {"mem", &sx_provider_mem, NULL, NULL, "resumable = yes\n", false},
    {"mem-filtered", &sx_provider_mem, NULL, NULL, "resumable = yes\n", .filtered = true},
    {"local", &sx_provider_local, NULL, NULL, "", false},
    {"local-filtered", &sx_provider_local, NULL, NULL, "ids = yes\n", .filtered = true},
    {"apache-basic", &sx_provider_webdav, "apache", "url", "", false},
    {"apache-digest", &sx_provider_webdav, "apache", "url_digest", "", false},
    {"apache-tls", &sx_provider_webdav, "apache", "url_tls", "", false},
    {"nginx", &sx_provider_webdav, "nginx", "url", "", false, true},
    {"rclone", &sx_provider_webdav, "rclone", "url", "", false},
    {"nextcloud", &sx_provider_webdav, "nextcloud", "url", "chunk-size = 100K\n", true},
    {"apache-as-generic", &sx_provider_webdav, "apache", "url_open", "flavour = generic\n", false},
};

/* Servers are started when first needed and shared. */
static GHashTable *servers; /* kind to SxTestServer, or to `missing` */
static char missing;

static SxTestServer *
server(const char *kind)
{
    if (servers == NULL)
        servers = g_hash_table_new(g_str_hash, g_str_equal);
    void *s = g_hash_table_lookup(servers, kind);
    if (s == NULL) {
        s = sx_test_server_start(kind);
        g_hash_table_insert(servers, (void *)kind, s != NULL ? s : &missing);
    }
    return s == &missing ? NULL : s;
}

static char *folders; /* where the local providers keep their files; removed at the end */

static int
remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

static const char *
folder(const Maker *m)
{
    if (folders == NULL)
        folders = g_dir_make_tmp("sx-conformance-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folders, m->name, NULL);
    return g_intern_string(path);
}

static SxProvider *
filter(SxProvider *inner)
{
    static SxFaultPlan nothing;
    SxProvider *p = sx_fault_wrap(inner, &nothing);
    sx_provider_unref(inner);
    return p;
}

static SxProvider *
make(const Maker *m, SxTarget *t)
{
    g_autoptr(GString) options = g_string_new(m->options);
    if (m->server != NULL) {
        SxTestServer *s = server(m->server);
        const char *url = s == NULL ? NULL : sx_test_server_get(s, m->url_key);
        if (url == NULL)
            return NULL;
        g_string_append_printf(options, "url = %s\n", url);
        if (strcmp(m->url_key, "url_open") != 0)
            g_string_append_printf(options, "user = %s\npassword = %s\n", sx_test_server_get(s, "user"), sx_test_server_get(s, "password"));
        if (g_str_has_prefix(url, "https:"))
            g_string_append_printf(options, "ca-file = %s\n", sx_test_server_get(s, "ca"));
        t->root = strcmp(m->server, "nextcloud") == 0 ? NULL : sx_test_server_get(s, "root");
    }
    if (m->type == &sx_provider_local) {
        t->root = folder(m);
        g_string_append_printf(options, "path = %s\n", t->root);
    }
    g_autoptr(GError) error = NULL;
    SxProvider *p = sx_provider_open_text(m->type, m->name, options->str, sx_sys_default(), sx_clock_default(), &error);
    if (p == NULL)
        fail_msg("%s: %s", m->name, error->message);
    return m->filtered ? filter(p) : p;
}

typedef struct Case {
    const Maker *maker;
    const SxCheck *check;
} Case;
static SxTarget targets[G_N_ELEMENTS(makers)];

static void
run_case(void **state)
{
    const Case *c = *state;
    SxTarget *t = &targets[c->maker - makers];
    if (t->p == NULL) {
        *t = (SxTarget){.name = c->maker->name, .utf8_only = c->maker->utf8_only, .no_dots = c->maker->no_dots};
        t->p = make(c->maker, t);
    }
    if (t->p == NULL)
        skip();
    g_autofree char *dir = g_strdup_printf("%s-%s", c->maker->name, c->check->name);
    g_autoptr(SxRemote) r = NULL;
    OK(sx_provider_mkdir(t->p, dir, &r, NULL, error));
    gint64 begin = g_get_monotonic_time();
    c->check->run(t, dir);
    if (g_getenv("SX_TEST_TIMES") != NULL)
        print_message("%s: %.2f s\n", dir, (double)(g_get_monotonic_time() - begin) / 1e6);
}

static void
add_checks(GArray *tests, const Maker *m, const SxCheck *checks)
{
    for (const SxCheck *check = checks; check->name != NULL; check++) {
        Case *c = g_new(Case, 1);
        *c = (Case){m, check};
        struct CMUnitTest test = {g_strdup_printf("%s: %s", m->name, check->name), run_case, NULL, NULL, c};
        g_array_append_val(tests, test);
    }
}

int
main(int argc, char **argv)
{
    g_autoptr(GArray) tests = g_array_new(FALSE, FALSE, sizeof(struct CMUnitTest));
    for (gsize i = 0; i < G_N_ELEMENTS(makers); i++)
        if (argc < 2 || strstr(makers[i].name, argv[1]) != NULL) {
            add_checks(tests, &makers[i], sx_checks_basic);
            add_checks(tests, &makers[i], sx_checks_write);
            add_checks(tests, &makers[i], sx_checks_names);
        }
    int failed = _cmocka_run_group_tests("conformance", (const struct CMUnitTest *)(void *)tests->data, tests->len, NULL, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(makers); i++)
        sx_provider_unref(targets[i].p);
    if (folders != NULL)
        nftw(folders, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    g_free(folders);
    for (guint i = 0; i < tests->len; i++) {
        g_free((char *)g_array_index(tests, struct CMUnitTest, i).name);
        g_free(g_array_index(tests, struct CMUnitTest, i).initial_state);
    }
    GHashTableIter iter;
    void *s;
    if (servers != NULL) {
        g_hash_table_iter_init(&iter, servers);
        while (g_hash_table_iter_next(&iter, NULL, &s))
            if (s != &missing)
                sx_test_server_stop(s);
        g_hash_table_unref(servers);
    }
    return failed;
}
