#include "servers.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <unistd.h>

struct SxTestServer {
    char *kind;
    char *dir;
    GHashTable *values; /* of char* to char* */
};

static char *
script(void)
{
    const char *src = g_getenv("top_srcdir");
    if (src != NULL)
        return g_build_filename(src, "tests", "lib", "server", NULL);
    return g_strdup(SX_TEST_SRCDIR "/tests/lib/server");
}

/* The exit status of `server ARGS`; its output in *ret_out. */
static int
run(const char *a, const char *b, const char *c, char **ret_out)
{
    g_autofree char *program = script();
    g_autofree char *self = g_strdup_printf("%d", (int)getpid());
    const char *argv[] = {program, a, b, c, c == NULL ? NULL : "--with", self, NULL};
    g_autoptr(GError) error = NULL;
    int status = 0;
    if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, ret_out, NULL, &status, &error))
        g_error("%s: %s", program, error->message);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

static int
start(SxTestServer *s)
{
    g_autofree char *out = NULL;
    int status = run("start", s->kind, s->dir, &out);
    g_hash_table_remove_all(s->values);
    g_auto(GStrv) lines = g_strsplit(out != NULL ? out : "", "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        char *equals = strchr(*line, '=');
        if (equals != NULL)
            g_hash_table_insert(s->values, g_strndup(*line, (gsize)(equals - *line)), g_strdup(equals + 1));
    }
    return status;
}

SxTestServer *
sx_test_server_start(const char *kind)
{
    SxTestServer *s = g_new0(SxTestServer, 1);
    s->kind = g_strdup(kind);
    s->dir = g_dir_make_tmp("syncox-test-XXXXXX", NULL);
    s->values = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    int status = start(s);
    if (status == 0)
        return s;
    if (status != 77)
        g_error("tests/lib/server start %s failed", kind);
    sx_test_server_stop(s);
    return NULL;
}

void
sx_test_server_stop(SxTestServer *s)
{
    if (s == NULL)
        return;
    if (run("stop", s->dir, NULL, NULL) != 0)
        g_error("tests/lib/server stop %s failed", s->dir);
    sx_test_rm_rf(s->dir);
    g_hash_table_unref(s->values);
    g_free(s->kind);
    g_free(s->dir);
    g_free(s);
}

const char *
sx_test_server_get(const SxTestServer *s, const char *key)
{
    return g_hash_table_lookup(s->values, key);
}

static void
must(SxTestServer *s, const char *what)
{
    if (run(what, s->dir, NULL, NULL) != 0)
        g_error("tests/lib/server %s %s failed", what, s->dir);
}

void
sx_test_server_kill(SxTestServer *s)
{
    must(s, "kill");
}

void
sx_test_server_restart(SxTestServer *s)
{
    if (start(s) != 0)
        g_error("tests/lib/server start %s failed", s->kind);
}

void
sx_test_server_pause(SxTestServer *s)
{
    must(s, "pause");
}

void
sx_test_server_resume(SxTestServer *s)
{
    must(s, "resume");
}

void
sx_test_rm_rf(const char *dir)
{
    const char *argv[] = {"rm", "-rf", "--", dir, NULL};
    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL, NULL, NULL, NULL);
}
