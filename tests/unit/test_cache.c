#include "test_cache_env.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#define B SX_BLOCK
#define MB (1024 * 1024)

static void
assert_remote(SxContent *c, gint64 off, gsize n)
{
    g_autofree guint8 *got = g_malloc(n), *want = g_malloc(n);
    assert_int_equal(sx_content_read(c, off, got, n), n);
    remote_bytes(sx_content_ino(c), sx_content_cver(c), off, n, want);
    assert_memory_equal(got, want, n);
}

static void
a_new_file_is_written_and_read(void **state)
{
    Env *e = env_new(64 * MB);
    fake_tree_add(e->tree, 7, 0, 2, true);
    SxAttr a = {.ino = 7};
    SxContent *c = sx_content_create(e->cache, &a, NULL);
    assert_non_null(c);
    assert_true(sx_content_complete(c));
    assert_int_equal(sx_content_mtime_ns(c), SX_TIME_UNKNOWN);
    assert_int_equal(write_all_steps(c, 3, "hello", 5), 5);
    assert_int_equal(sx_content_size(c), 8);
    assert_int_equal(sx_content_mtime_ns(c), e->now_ms * 1000000);
    char buf[16];
    assert_int_equal(sx_content_read(c, 0, buf, sizeof buf), 8);
    assert_memory_equal(buf, "\0\0\0hello", 8);
    assert_int_equal(sx_content_read(c, 8, buf, sizeof buf), 0);
    assert_int_equal(fake_tree_row(e->tree, 7)->cached, 2);
    assert_ptr_equal(sx_cache_peek(e->cache, 7), c);
    sx_content_unref(c);
    sx_content_unref(c);
    assert_null(sx_cache_peek(e->cache, 7));
    assert_int_equal(sx_cache_used(e->cache), env_disk_use(e));
    env_free(e);
}

static void
blocks_come_and_complete(void **state)
{
    Env *e = env_new(64 * MB);
    gint64 size = 5 * B + 100, off, len;
    fake_tree_add(e->tree, 9, size, 0, false);
    SxContent *c = env_open(e, 9);
    g_autofree char *path = env_path(e, 9, 1, false), *map = env_path(e, 9, 1, true);
    assert_int_not_equal(access(path, F_OK), 0); /* nothing is made before bytes come */
    char buf[10];
    assert_int_equal(sx_content_read(c, 0, buf, 10), -ENODATA);
    assert_true(sx_content_missing(c, B + 5, 10, &off, &len));
    assert_int_equal(off, B);
    assert_int_equal(len, B);
    assert_int_equal(fetch(c, B, 2 * B), 0);
    assert_int_equal(fake_tree_row(e->tree, 9)->cached, 1);
    assert_int_equal(access(map, F_OK), 0);
    assert_int_equal(sx_content_present_bytes(c), 2 * B);
    assert_remote(c, B + 7, 2 * B - 7);
    assert_int_equal(sx_content_read(c, B - 1, buf, 2), -ENODATA);
    assert_true(sx_content_missing(c, 0, size, &off, &len));
    assert_int_equal(off, 0);
    assert_int_equal(len, B);
    assert_int_equal(fetch(c, size - 1, 1), 0);
    assert_int_equal(sx_content_present_bytes(c), 2 * B + 100);
    assert_int_equal(fetch(c, 0, size), 0);
    assert_true(sx_content_complete(c));
    assert_int_equal(fake_tree_row(e->tree, 9)->cached, 2);
    assert_int_not_equal(access(map, F_OK), 0);
    assert_remote(c, 0, (gsize)size);
    sx_content_unref(c);
    env_free(e);
}

static void
seal_and_epoch(void **state)
{
    Env *e = env_new(64 * MB);
    fake_tree_add(e->tree, 1, 0, 2, true);
    SxContent *c = env_open(e, 1);
    sx_content_set_announced(c);
    assert_int_equal(write_all_steps(c, 0, "a", 1), 1);
    guint64 epoch = sx_content_seal(c);
    assert_false(sx_content_announced(c));
    assert_true(sx_content_same_epoch(c, epoch));
    assert_int_equal(write_all_steps(c, 0, "b", 1), 1);
    assert_false(sx_content_same_epoch(c, epoch));
    epoch = sx_content_seal(c);
    assert_int_equal(sx_content_truncate(c, 0), 0);
    assert_false(sx_content_same_epoch(c, epoch));
    sx_content_unref(c);
    env_free(e);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_file_is_written_and_read),
        cmocka_unit_test(blocks_come_and_complete),
        cmocka_unit_test(seal_and_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
