#include "secret/secret.h"
#include "secret/secret_i.h"

#include <glib/gstdio.h>
#include <libsecret/secret.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static const SxOption login_options[] = {SX_OPTIONS_LOGIN, {0}};

static const SxOption *
types(const char *type, void *data)
{
    return login_options;
}

/* The password of a section with these lines, or NULL. */
static SxSecret *
get(const char *lines, bool *ret_good, GError **error)
{
    g_autofree char *text = g_strconcat("[provider nas]\ntype = x\n", lines, "\n", NULL);
    g_autoptr(SxConf) c = sx_conf_parse(text, strlen(text), "t.conf", types, NULL, NULL);
    assert_non_null(c);
    SxSecret *s = NULL;
    *ret_good = sx_secret_for_section(sx_conf_provider(c, 0), &s, error);
    return s;
}

static void
assert_password(const char *lines, const char *expected)
{
    bool good;
    g_autoptr(GError) e = NULL;
    g_autoptr(SxSecret) s = get(lines, &good, &e);
    assert_null(e);
    assert_true(good);
    if (expected == NULL)
        assert_null(s);
    else
        assert_string_equal(sx_secret_peek(s), expected);
}

static void
assert_refused(const char *lines, SxErrorCode code, const char *holds)
{
    bool good;
    g_autoptr(GError) e = NULL;
    assert_null(get(lines, &good, &e));
    assert_false(good);
    if (!sx_error_is(e, code) || !g_str_has_prefix(e->message, "nas: ") || strstr(e->message, holds) == NULL)
        fail_msg("%s -> %s", lines, e->message);
    assert_null(strstr(e->message, "geheim"));
    assert_null(get(lines, &good, NULL));
}

static void
counted_and_compared(void **state)
{
    g_autoptr(SxSecret) a = sx_secret_new("geheim");
    g_autoptr(SxSecret) b = sx_secret_new("geheim");
    g_autoptr(SxSecret) c = sx_secret_new("geheiM");
    g_autoptr(SxSecret) d = sx_secret_new("geheim1");
    g_autoptr(SxSecret) again = sx_secret_ref(a);
    assert_true(sx_secret_equal(a, b));
    assert_true(sx_secret_equal(a, again));
    assert_false(sx_secret_equal(a, c));
    assert_false(sx_secret_equal(a, d));
    sx_secret_unref(NULL);
}

static void
literal_or_none(void **state)
{
    assert_password("user = alice", NULL);
    assert_password("password = \"ge heim; \"", "ge heim; ");
    assert_refused("password = a\npassword-command = echo b", SX_ERR_AUTH, "allowed: one of");
    assert_refused("password-file = /x\npassword-command = echo b", SX_ERR_AUTH, "t.conf:1");
}

static void
from_commands(void **state)
{
    assert_password("password-command = printf 'ge heim\\nsecond\\n'", "ge heim");
    assert_password("password-command = printf 'geheim\\r\\n'", "geheim");
    assert_password("password-command = printf geheim", "geheim");
    /* much more than the limit keeps, and still a good end */
    assert_password("password-command = sh -c 'echo geheim; head -c 300000 /dev/zero'", "geheim");
    assert_refused("password-command = sh -c 'echo geheim; exit 3'", SX_ERR_AUTH, "ended with status 3");
    assert_refused("password-command = sh -c 'kill -9 $$'", SX_ERR_AUTH, "signal 9");
    assert_refused("password-command = true", SX_ERR_AUTH, "first line is empty");
    assert_refused("password-command = /nonexistent/pass nas", SX_ERR_AUTH, "/nonexistent/pass");
    assert_refused("password-command = pass 'geheim", SX_ERR_AUTH, "not closed");
}

static void
a_command_that_does_not_end(void **state)
{
    static const char *const commands[] = {"yes", "sleep 1000", "sh -c 'exec >&-; exec sleep 1000'"};
    for (guint i = 0; i < G_N_ELEMENTS(commands); i++) {
        SxSecret *s = NULL;
        g_autoptr(GError) e = NULL;
        assert_false(sx_secret_from_command(commands[i], 200, &s, &e));
        assert_null(s);
        assert_true(sx_error_is(e, SX_ERR_AUTH));
        assert_non_null(strstr(e->message, "no answer within 0.2 seconds"));
    }
}

static void
from_files(void **state)
{
    g_autofree char *dir = g_dir_make_tmp("sx-secret-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(dir, "pw", NULL);
    g_autofree char *line = g_strconcat("password-file = ", file, NULL);
    g_autofree char *dir_line = g_strconcat("password-file = ", dir, NULL);
    assert_refused(line, SX_ERR_AUTH, file);
    assert_refused(dir_line, SX_ERR_AUTH, "not a regular file");
    assert_true(g_file_set_contents(file, "geheim \nmore\n", -1, NULL));
    g_chmod(file, 0640);
    assert_refused(line, SX_ERR_AUTH, "run: chmod 600 ");
    g_chmod(file, 0600);
    assert_password(line, "geheim ");
    assert_true(g_file_set_contents(file, "\ngeheim\n", -1, NULL));
    g_chmod(file, 0600);
    assert_refused(line, SX_ERR_AUTH, "first line is empty");
    g_remove(file);
    g_rmdir(dir);
}

/* First in the program, because libsecret chooses its store once: here there is no session bus at all. */
static void
a_keyring_without_a_session_bus(void **state)
{
    assert_refused("password = keyring", SX_ERR_AUTH, "D-Bus session bus, and there is none");
}

int
main(int argc, char **argv)
{
    g_unsetenv("DBUS_SESSION_BUS_ADDRESS");
    g_unsetenv("DISPLAY");
    g_setenv("XDG_RUNTIME_DIR", "/nonexistent", TRUE);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_keyring_without_a_session_bus),
        cmocka_unit_test(counted_and_compared),
        cmocka_unit_test(literal_or_none),
        cmocka_unit_test(from_commands),
        cmocka_unit_test(a_command_that_does_not_end),
        cmocka_unit_test(from_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
