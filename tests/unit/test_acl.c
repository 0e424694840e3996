#include "vfs/vfs_i.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };

typedef struct Entry {
    guint16 tag, perm;
    guint32 id;
} Entry;

/* The attribute as the kernel gives it on a little-endian machine. */
static GBytes *
acl_of(const Entry *e, guint n)
{
    GByteArray *a = g_byte_array_new();
    g_byte_array_append(a, (const guint8[]){2, 0, 0, 0}, 4);
    for (guint i = 0; i < n; i++)
        g_byte_array_append(a, (const guint8[]){(guint8)e[i].tag, 0, (guint8)e[i].perm, 0, (guint8)e[i].id, (guint8)(e[i].id >> 8), 0, 0}, 8);
    return g_byte_array_free_to_bytes(a);
}

static const Entry full[] = {{USER_OBJ, 7, 0xffff}, {USER, 5, 1000}, {GROUP_OBJ, 4, 0xffff}, {MASK, 6, 0xffff}, {OTHER, 1, 0xffff}};
static const Entry minimal[] = {{USER_OBJ, 7, 0xffff}, {GROUP_OBJ, 5, 0xffff}, {OTHER, 0, 0xffff}};

static void
mode_comes_from_owner_mask_and_other(void **state)
{
    gsize n;
    bool is_minimal;
    guint32 mode = 04000;
    g_autoptr(GBytes) a = acl_of(full, 5);
    const void *p = g_bytes_get_data(a, &n);
    assert_true(sx_acl_to_mode(p, n, &mode, &is_minimal));
    assert_int_equal(mode, 04761);
    assert_false(is_minimal);

    g_autoptr(GBytes) b = acl_of(minimal, 3);
    p = g_bytes_get_data(b, &n);
    assert_true(sx_acl_to_mode(p, n, &mode, &is_minimal));
    assert_int_equal(mode, 04750);
    assert_true(is_minimal);
}

static void
chmod_changes_the_mask_and_not_the_group(void **state)
{
    gsize n;
    g_autoptr(GBytes) a = acl_of(full, 5);
    const void *p = g_bytes_get_data(a, &n);
    g_autoptr(GBytes) changed = sx_acl_with_mode(p, n, 0603);
    const Entry want[] = {{USER_OBJ, 6, 0xffff}, {USER, 5, 1000}, {GROUP_OBJ, 4, 0xffff}, {MASK, 0, 0xffff}, {OTHER, 3, 0xffff}};
    g_autoptr(GBytes) expected = acl_of(want, 5);
    assert_true(g_bytes_equal(changed, expected));
}

static void
inheritance_cuts_both_ways(void **state)
{
    gsize n;
    guint32 mode = 0666;
    g_autoptr(GBytes) a = acl_of(full, 5);
    const void *p = g_bytes_get_data(a, &n);
    g_autoptr(GBytes) access = sx_acl_inherit(p, n, &mode);
    assert_int_equal(mode, 0660);
    const Entry want[] = {{USER_OBJ, 6, 0xffff}, {USER, 5, 1000}, {GROUP_OBJ, 4, 0xffff}, {MASK, 6, 0xffff}, {OTHER, 0, 0xffff}};
    g_autoptr(GBytes) expected = acl_of(want, 5);
    assert_true(g_bytes_equal(access, expected));

    mode = 0777;
    g_autoptr(GBytes) b = acl_of(minimal, 3);
    p = g_bytes_get_data(b, &n);
    assert_null(sx_acl_inherit(p, n, &mode)); /* the mode says it all */
    assert_int_equal(mode, 0750);
}

static void
nonsense_is_refused(void **state)
{
    guint32 mode = 0;
    bool is_minimal;
    assert_false(sx_acl_valid("", 0));
    assert_false(sx_acl_valid("\2\0\0", 3));
    assert_false(sx_acl_valid("\1\0\0\0", 4));
    assert_false(sx_acl_valid("\2\0\0\0abc", 7));
    assert_false(sx_acl_to_mode("\2\0\0\0", 4, &mode, &is_minimal)); /* no entries */
    assert_null(sx_acl_with_mode("\2\0\0\0abc", 7, 0644));
    assert_null(sx_acl_inherit("\1\0\0\0", 4, &mode));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mode_comes_from_owner_mask_and_other),
        cmocka_unit_test(chmod_changes_the_mask_and_not_the_group),
        cmocka_unit_test(inheritance_cuts_both_ways),
        cmocka_unit_test(nonsense_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
