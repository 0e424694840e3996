#include "base/error.h"
#include "base/log.h"
#include "base/path.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static void
error_carries_code_and_delay(void **state)
{
    g_autoptr(GError) e = sx_error_new(SX_ERR_RATE, "nas: slow down");
    sx_error_set_retry_after_ms(e, 1500);
    g_autoptr(GError) copy = g_error_copy(e);
    assert_int_equal(sx_errno(copy), EAGAIN);
    assert_int_equal(sx_error_retry_after_ms(copy), 1500);
    assert_true(sx_error_is(copy, SX_ERR_RATE));
    for (int i = 0; i < SX_N_ERRORS; i++) {
        SxErrorCode back;
        assert_true(sx_error_code_from_name(sx_error_code_name((SxErrorCode)i), &back));
        assert_int_equal(back, i);
    }
}

static void
conflict_names_fit_and_keep_the_extension(void **state)
{
    g_autofree char *longname = g_strnfill(250, 'x');
    g_autofree char *name = g_strconcat(longname, ".txt", NULL);
    g_autofree char *c = sx_conflict_name(name, "alice@host", 0, 3);
    assert_true(strlen(c) <= SX_NAME_MAX);
    assert_true(g_str_has_suffix(c, " 3).txt"));
    assert_true(sx_is_conflict_name(c));
    assert_true(sx_name_valid(c, strlen(c)));
}

static void
names_that_must_not_enter(void **state)
{
    assert_false(sx_name_valid("", 0));
    assert_false(sx_name_valid(".", 1));
    assert_false(sx_name_valid("..", 2));
    assert_false(sx_name_valid("a/b", 3));
    assert_true(sx_name_valid("...", 3));
    assert_true(sx_name_valid("\xff\xfe", 2));
}

static void
codes_from_errno_and_back(void **state)
{
    static const struct {
        int err;
        SxErrorCode code;
    } map[] = {{ENOENT, SX_ERR_NOT_FOUND}, {EPERM, SX_ERR_PERMISSION}, {EACCES, SX_ERR_PERMISSION}, {EMFILE, SX_ERR_BUSY},
               {ENOSPC, SX_ERR_NO_SPACE},  {EINVAL, SX_ERR_INVALID},   {EIO, SX_ERR_FAILED},        {ECANCELED, SX_ERR_CANCELLED},
               {EXDEV, SX_ERR_CROSS},      {ENOTEMPTY, SX_ERR_NOT_EMPTY}, {12345, SX_ERR_FAILED}};
    for (guint i = 0; i < G_N_ELEMENTS(map); i++)
        assert_int_equal(sx_error_code_from_errno(map[i].err), map[i].code);
    g_autoptr(GError) e = NULL;
    assert_false(sx_fail_errno(&e, ENOENT, "nas: %s", "a/b"));
    assert_string_equal(e->message, "nas: a/b: No such file or directory");
    assert_int_equal(sx_error_retry(e), SX_RETRY_REPLAN);
    assert_false(sx_fail_errno(NULL, ENOENT, "x"));
    assert_false(sx_fail(NULL, SX_ERR_AUTH, "x"));

    g_autoptr(GError) foreign = g_error_new_literal(g_quark_from_static_string("other"), 1, "x");
    assert_int_equal(sx_error_code(foreign), SX_ERR_FAILED);
    assert_int_equal(sx_errno(foreign), EIO);
    assert_int_equal(sx_errno(NULL), 0);
    sx_error_set_retry_after_ms(foreign, 5);
    assert_int_equal(sx_error_retry_after_ms(foreign), 0);
    SxErrorCode code;
    assert_false(sx_error_code_from_name("no-such-code", &code));
    assert_false(sx_error_is(foreign, SX_ERR_FAILED));
}

static void
paths_are_joined_and_taken_apart(void **state)
{
    static const struct {
        const char *dir, *name, *path;
    } cases[] = {{"", "a", "a"}, {"a", "", "a"}, {"a/b", "c", "a/b/c"}, {"", "", ""}};
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path = sx_path_join(cases[i].dir, cases[i].name);
        assert_string_equal(path, cases[i].path);
    }
    g_autofree char *a = sx_path_dirname("a/b/c"), *b = sx_path_dirname("a"), *c = sx_path_dirname("");
    assert_string_equal(a, "a/b");
    assert_string_equal(b, "");
    assert_string_equal(c, "");
    assert_string_equal(sx_path_basename("a/b"), "b");
    assert_string_equal(sx_path_basename("a"), "a");
    static const char *const temporary[] = {"~$x.docx", ".~lock.x#", "a.tmp", ".#x", "a.crdownload", "a.part", ".x.swp", ".x.swo", "4913"};
    static const char *const kept[] = {"x.docx", "tmp", "a.tmp.txt", "#x#", "49130", "x.swp", "party"};
    for (guint i = 0; i < G_N_ELEMENTS(temporary); i++)
        assert_true(sx_name_is_temporary(temporary[i]));
    for (guint i = 0; i < G_N_ELEMENTS(kept); i++)
        assert_false(sx_name_is_temporary(kept[i]));
}

static void
conflict_names_split_no_character(void **state)
{
    GString *name = g_string_new(NULL);
    while (name->len < 250)
        g_string_append(name, "\xe2\x82\xac"); /* euro signs */
    g_autofree char *who = g_strnfill(300, 'w');
    g_autofree char *c = sx_conflict_name(name->str, who, 0, 0);
    assert_true(strlen(c) <= SX_NAME_MAX);
    assert_true(g_utf8_validate(c, -1, NULL));
    g_autofree char *hidden = sx_conflict_name(".profile", "a/b", 0, 0);
    assert_true(g_str_has_prefix(hidden, ".profile (conflict a-b 1970-01-01 "));
    assert_false(sx_is_conflict_name("conflict of interests"));
    g_string_free(name, TRUE);
}

/* What sx_log writes to standard error while fn runs. */
static char *
logged(SxLogLevel level, const char *text)
{
    int pipes[2], keep = dup(STDERR_FILENO);
    assert_int_equal(pipe(pipes), 0);
    dup2(pipes[1], STDERR_FILENO);
    sx_log(level, "%s", text);
    dup2(keep, STDERR_FILENO);
    close(keep);
    close(pipes[1]);
    char *out = g_malloc0(4097);
    assert_true(read(pipes[0], out, 4096) >= 0);
    close(pipes[0]);
    return out;
}

static void
a_log_line_is_one_line(void **state)
{
    g_autofree char *plain = logged(SX_LOG_WARN, "a\nb\x1b[2J\xc3\xa9");
    assert_string_equal(plain, "syncoxfs: warn: a?b?[2J\xc3\xa9\n");
    g_autofree char *quiet = logged(SX_LOG_DEBUG, "not shown");
    assert_string_equal(quiet, "");
    g_autofree char *huge = g_strnfill(5000, 'x');
    g_autofree char *cut = logged(SX_LOG_ERROR, huge);
    assert_true(strlen(cut) < 2048);
    assert_int_equal(cut[strlen(cut) - 1], '\n');
    SxLogLevel level;
    assert_true(sx_log_level_parse("debug", &level));
    assert_int_equal(level, SX_LOG_DEBUG);
    assert_false(sx_log_level_parse("loud", &level));
    sx_log_set_level(SX_LOG_DEBUG);
    assert_true(sx_log_enabled(SX_LOG_DEBUG));
    sx_log_set_level(SX_LOG_INFO);
}

int
main(void)
{
    g_setenv("TZ", "UTC", TRUE);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_carries_code_and_delay),
        cmocka_unit_test(conflict_names_fit_and_keep_the_extension),
        cmocka_unit_test(names_that_must_not_enter),
        cmocka_unit_test(codes_from_errno_and_back),
        cmocka_unit_test(paths_are_joined_and_taken_apart),
        cmocka_unit_test(conflict_names_split_no_character),
        cmocka_unit_test(a_log_line_is_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
