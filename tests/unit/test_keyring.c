/* The keyring, with libsecret's own store in a file in the place of a desktop's: a program of its own, because libsecret
 * chooses its store once in a process. */
#include "secret/secret.h"

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

static void
an_entry_is_found_by_the_provider(void **state)
{
    /* as the remedy in the message has it: secret-tool store ... application syncoxfs provider nas */
    static const SecretSchema tool = {"org.freedesktop.Secret.Generic", SECRET_SCHEMA_DONT_MATCH_NAME,
                                      {{"application", SECRET_SCHEMA_ATTRIBUTE_STRING}, {"provider", SECRET_SCHEMA_ATTRIBUTE_STRING}}};
    g_autoptr(GError) e = NULL;
    assert_true(secret_password_store_sync(&tool, SECRET_COLLECTION_DEFAULT, "syncoxfs", "geheim", NULL, &e, "application", "syncoxfs",
                                           "provider", "nas", NULL));
    static const char text[] = "[provider nas]\ntype = x\npassword = keyring\n[provider it's]\ntype = x\npassword = keyring\n";
    g_autoptr(SxConf) c = sx_conf_parse(text, strlen(text), "t.conf", types, NULL, NULL);
    g_autoptr(SxSecret) s = NULL;
    assert_true(sx_secret_for_section(sx_conf_provider(c, 0), &s, &e));
    assert_string_equal(sx_secret_peek(s), "geheim");

    SxSecret *none = NULL;
    assert_false(sx_secret_for_section(sx_conf_provider(c, 1), &none, &e));
    assert_null(none);
    assert_true(sx_error_is(e, SX_ERR_AUTH));
    assert_true(g_str_has_prefix(e->message, "it's: "));
    assert_true(g_str_has_suffix(e->message, "secret-tool store --label=syncoxfs application syncoxfs provider 'it'\\''s'"));
}

int
main(void)
{
    g_autofree char *dir = g_dir_make_tmp("sx-keyring-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(dir, "default.keyring", NULL);
    g_unsetenv("DBUS_SESSION_BUS_ADDRESS");
    g_setenv("SECRET_BACKEND", "file", TRUE);
    g_setenv("SECRET_FILE_TEST_PATH", file, TRUE);
    g_setenv("SECRET_FILE_TEST_PASSWORD", "open sesame", TRUE);
    const struct CMUnitTest tests[] = {cmocka_unit_test(an_entry_is_found_by_the_provider)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    g_remove(file);
    g_rmdir(dir);
    return failed;
}
