/* conformance [SUBSTRING]: runs the suite over every provider whose name contains SUBSTRING. Each runs twice: as it is, and
 * through the fault filter, which must change nothing while its plan is empty; then the filter disturbs it. */
#include "lib/servers.h"
#include "suite.h"

#include "providers/mem/mem.h"

#include <stdio.h>
#include <string.h>

typedef struct Maker {
    const char *name;
    const SxProviderType *type;
    const char *server;    /* kind for tests/lib/server, or NULL */
    const char *url_key;   /* which of its addresses */
    const char *options;   /* more of them */
    bool utf8_only, no_dots; /* as in SxTarget */
} Maker;

static const Maker makers[] = {
    {"local", &sx_provider_local, NULL, NULL, "", false},
    {"local-ids", &sx_provider_local, NULL, NULL, "ids = yes\n", false},
    {"mem", &sx_provider_mem, NULL, NULL, "resumable = yes\n", false},
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

static GPtrArray *folders; /* made for `local`; removed at the end */

static SxProvider *
make(const Maker *m, SxTarget *t)
{
    g_autoptr(GString) options = g_string_new(m->options);
    if (m->type == &sx_provider_local) {
        char *folder = g_dir_make_tmp("syncox-test-XXXXXX", NULL);
        g_ptr_array_add(folders, folder);
        g_string_append_printf(options, "path = %s\n", folder);
        t->root = folder;
    }
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
    g_autoptr(GError) error = NULL;
    SxProvider *p = sx_provider_open_text(m->type, m->name, options->str, sx_sys_default(), sx_clock_default(), &error);
    if (p == NULL)
        fail_msg("%s: %s", m->name, error->message);
    return p;
}

typedef struct Case {
    const Maker *maker;
    const SxCheck *check;
    bool filtered;
} Case;
typedef struct Slot {
    SxTarget target;
    SxFaultPlan plan;
} Slot;
static Slot slots[G_N_ELEMENTS(makers)][2]; /* [filtered] */

static SxTarget *
get_target(const Maker *m, bool filtered)
{
    Slot *slot = &slots[m - makers][filtered];
    SxTarget *t = &slot->target;
    if (t->p != NULL)
        return t;
    *t = (SxTarget){.name = m->name, .utf8_only = m->utf8_only, .no_dots = m->no_dots, .plan = filtered ? &slot->plan : NULL};
    g_autoptr(SxProvider) inner = make(m, t);
    if (inner != NULL)
        t->p = filtered ? sx_fault_wrap(inner, &slot->plan) : g_steal_pointer(&inner);
    return t;
}

static void
run_case(void **state)
{
    const Case *c = *state;
    SxTarget *t = get_target(c->maker, c->filtered);
    if (t->p == NULL)
        skip();
    slots[c->maker - makers][c->filtered].plan = (SxFaultPlan){0}; /* what a failed check left */
    g_autofree char *dir = g_strdup_printf("%s%s-%s", c->maker->name, c->filtered ? "-filtered" : "", c->check->name);
    g_autoptr(SxRemote) r = NULL;
    OK(sx_provider_mkdir(t->p, dir, &r, NULL, error));
    gint64 begin = g_get_monotonic_time();
    c->check->run(t, dir);
    if (g_getenv("SX_TEST_TIMES") != NULL)
        print_message("%s: %.2f s\n", dir, (double)(g_get_monotonic_time() - begin) / 1e6);
}

static void
add_checks(GArray *tests, const Maker *m, const SxCheck *checks, bool filtered)
{
    for (const SxCheck *check = checks; check->name != NULL; check++) {
        Case *c = g_new(Case, 1);
        *c = (Case){m, check, filtered};
        struct CMUnitTest test = {g_strdup_printf("%s%s: %s", m->name, filtered ? ", filtered" : "", check->name), run_case, NULL, NULL, c};
        g_array_append_val(tests, test);
    }
}

int
main(int argc, char **argv)
{
    g_autoptr(GArray) tests = g_array_new(FALSE, FALSE, sizeof(struct CMUnitTest));
    folders = g_ptr_array_new_with_free_func(g_free);
    for (gsize i = 0; i < G_N_ELEMENTS(makers) * 2; i++) {
        const Maker *m = &makers[i / 2];
        if (argc >= 2 && strstr(m->name, argv[1]) == NULL)
            continue;
        add_checks(tests, m, sx_checks_basic, i % 2);
        add_checks(tests, m, sx_checks_write, i % 2);
        add_checks(tests, m, sx_checks_names, i % 2);
        if (i % 2)
            add_checks(tests, m, sx_checks_faults, true);
    }
    int failed = _cmocka_run_group_tests("conformance", (const struct CMUnitTest *)(void *)tests->data, tests->len, NULL, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(makers) * 2; i++)
        sx_provider_unref(slots[i / 2][i % 2].target.p);
    for (guint i = 0; i < folders->len; i++)
        sx_test_rm_rf(g_ptr_array_index(folders, i));
    g_ptr_array_unref(folders);
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
