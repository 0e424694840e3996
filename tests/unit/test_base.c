#include "base/error.h"
#include "base/path.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_carries_code_and_delay),
        cmocka_unit_test(conflict_names_fit_and_keep_the_extension),
        cmocka_unit_test(names_that_must_not_enter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
