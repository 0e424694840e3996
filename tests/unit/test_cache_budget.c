/* The disk budget: what is evicted in which order, what never is, and what a writer meets when nothing is left. */
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
add_cached(Env *e, gint64 ino, gint64 size)
{
    fake_tree_add(e->tree, ino, size, 0, false);
    g_autoptr(SxContent) c = env_open(e, ino);
    assert_int_equal(fetch(c, 0, size), 0);
}

static int
cached(Env *e, gint64 ino)
{
    return fake_tree_row(e->tree, ino)->cached;
}

static SxContent *
new_dirty(Env *e, gint64 ino)
{
    SxAttr *a = fake_tree_add(e->tree, ino, 0, 2, true);
    SxContent *c = sx_content_create(e->cache, a, NULL);
    assert_non_null(c);
    sx_content_writers(c, +1);
    return c;
}

static void
done_writing(SxContent *c)
{
    sx_content_writers(c, -1);
    sx_content_unref(c);
}

/* Writes until something gives; returns the bytes that went in, *ret_rc what stopped it. */
static gint64
pour(Env *e, SxContent *c, gint64 n, int *ret_rc)
{
    g_autofree guint8 *buf = g_malloc(B);
    memset(buf, 'p', B);
    gint64 done = 0;
    *ret_rc = 0;
    while (done < n && *ret_rc == 0) {
        gssize k = write_all_steps(c, sx_content_size(c), buf, B);
        if (k < 0)
            *ret_rc = (int)k;
        else
            done += k;
        assert_true(sx_cache_used(e->cache) <= sx_cache_size(e->cache));
        assert_true(env_disk_use(e) <= sx_cache_used(e->cache));
    }
    return done;
}

static void
the_oldest_clean_file_goes_first(void **state)
{
    Env *e = env_new(8 * MB);
    for (gint64 ino = 1; ino <= 6; ino++)
        add_cached(e, ino, MB);
    assert_int_equal(sx_cache_used(e->cache), 6 * MB);
    assert_int_equal(env_disk_use(e), 6 * MB);
    fake_tree_set_dirty(e->tree, 1, true);  /* the oldest three are not to be had */
    fake_tree_pin(e->tree, 2, true);
    SxContent *open = env_open(e, 3);
    SxContent *c = new_dirty(e, 100);
    int rc;
    assert_int_equal(pour(e, c, 3 * MB, &rc), 3 * MB);
    assert_int_equal(cached(e, 1), 2);
    assert_int_equal(cached(e, 2), 2);
    assert_int_equal(cached(e, 3), 2);
    assert_int_equal(cached(e, 4), 0);
    assert_int_equal(cached(e, 6), 2);
    /* On to the end: all that can go goes, then the writer hears it. */
    gint64 more = pour(e, c, 100 * MB, &rc);
    assert_int_equal(rc, -ENOSPC);
    assert_int_equal(more, 2 * MB); /* 8 = 3 that stay + 5 */
    assert_int_equal(cached(e, 5) + cached(e, 6), 0);
    assert_int_equal(cached(e, 1) + cached(e, 2) + cached(e, 3), 6);
    /* What lies on the disk already can be written over, in whatever state the budget is. */
    assert_int_equal(write_all_steps(c, MB, "over", 4), 4);
    assert_int_equal(write_all_steps(c, sx_content_size(c), "x", 1), -ENOSPC);
    done_writing(c);
    sx_content_unref(open);
    assert_true(env_used_is_right(e));
    env_free(e);
}

static void
evicting_one(void **state)
{
    Env *e = env_new(8 * MB);
    add_cached(e, 1, MB);
    add_cached(e, 2, MB);
    SxContent *c = env_open(e, 1);
    assert_int_equal(sx_cache_evict(e->cache, 1), -EBUSY);
    sx_content_unref(c);
    fake_tree_set_dirty(e->tree, 1, true);
    assert_int_equal(sx_cache_evict(e->cache, 1), -EBUSY);
    fake_tree_set_dirty(e->tree, 1, false);
    fake_tree_fail(e->tree, EIO); /* the tree first: when it does not forget, nothing is deleted */
    assert_int_equal(sx_cache_evict(e->cache, 1), -EIO);
    fake_tree_fail(e->tree, 0);
    assert_int_equal(env_disk_use(e), 2 * MB);
    assert_int_equal(sx_cache_evict(e->cache, 1), 0);
    assert_int_equal(sx_cache_evict(e->cache, 77), -ENOENT);
    assert_int_equal(env_disk_use(e), MB);
    assert_int_equal(sx_cache_used(e->cache), MB);
    assert_int_equal(sx_cache_trim(e->cache, 1), MB);
    assert_int_equal(sx_cache_trim(e->cache, 1), 0);
    assert_int_equal(sx_cache_used(e->cache), 0);
    env_free(e);
}

/* unlink fails: the space is still taken and still counted; the next use of the name gets rid of it. */
static void
a_file_that_cannot_be_removed(void **state)
{
    Env *e = env_new(8 * MB);
    add_cached(e, 1, MB);
    env_fault(e, CALL_UNLINKAT, 1, FAULT_ERRNO, EIO);
    sx_log_set_level((SxLogLevel)-1);
    assert_int_equal(sx_cache_evict(e->cache, 1), -EIO);
    sx_log_set_level(SX_LOG_ERROR);
    assert_true(env_fault_hit(e));
    assert_int_equal(cached(e, 1), 0);
    assert_int_equal(sx_cache_used(e->cache), MB);
    SxContent *c = env_open(e, 1);
    assert_false(sx_content_complete(c));
    assert_int_equal(fetch(c, 0, B), 0);
    sx_content_unref(c);
    assert_int_equal(sx_cache_used(e->cache), B);
    assert_int_equal(env_disk_use(e), B);
    env_free(e);
}

static void
sparse_files_count_by_their_blocks(void **state)
{
    Env *e = env_new(8 * MB);
    SxContent *c = new_dirty(e, 1);
    assert_int_equal(sx_content_truncate(c, (gint64)1 << 40), 0);
    assert_int_equal(write_all_steps(c, (gint64)1 << 39, "x", 1), 1);
    assert_true(sx_cache_used(e->cache) < MB);
    int rc = sx_content_fallocate(c, 0, 0, 2 * MB);
    assert_int_equal(rc, 0);
    assert_true(sx_cache_used(e->cache) >= 2 * MB);
    assert_int_equal(sx_content_fallocate(c, 0, 0, 7 * MB), -ENOSPC);
    assert_int_equal(sx_content_fallocate(c, 3, 0, 2 * MB), 0);
    assert_true(sx_cache_used(e->cache) < MB);
    assert_int_equal(sx_content_truncate(c, 0), 0);
    assert_int_equal(sx_cache_used(e->cache), 0);
    done_writing(c);
    env_free(e);
}

/* A request that cannot be met must not cost everything that is cached. */
static void
too_much_at_once_evicts_nothing(void **state)
{
    Env *e = env_new(8 * MB);
    add_cached(e, 1, MB);
    SxContent *c = new_dirty(e, 2);
    assert_int_equal(sx_content_fallocate(c, 0, 0, 100 * MB), -ENOSPC);
    assert_int_equal(sx_cache_reserve(e->cache, 100 * MB, NULL), -ENOSPC);
    assert_int_equal(cached(e, 1), 2);
    done_writing(c);
    env_free(e);
}

static void
min_free_is_kept(void **state)
{
    Env *e = env_new(64 * MB);
    env_stop(e);
    e->min_free = 10 * MB;
    env_start(e);
    e->disk_free = 12 * MB;
    SxContent *c = new_dirty(e, 1);
    int rc;
    gint64 n = pour(e, c, 64 * MB, &rc);
    assert_int_equal(rc, -ENOSPC);
    assert_true(n <= 2 * MB && n >= MB);
    e->disk_free = 30 * MB; /* seen when the figure is older than 100 ms */
    assert_int_equal(write_all_steps(c, n, "x", 1), -ENOSPC);
    e->now_ms += 101;
    assert_int_equal(write_all_steps(c, n, "x", 1), 1);
    done_writing(c);
    env_free(e);
}

/* The disk says no although its figures say yes: the writer gets its error and does not go round for ever. */
static void
a_full_disk_is_believed(void **state)
{
    Env *e = env_new(64 * MB);
    SxContent *c = new_dirty(e, 1);
    assert_int_equal(write_all_steps(c, 0, "a", 1), 1);
    e->disk_free = 40 * MB;
    env_fault(e, CALL_PWRITE, 1, FAULT_ERRNO, ENOSPC);
    assert_int_equal(write_all_steps(c, 1, "b", 1), -ENOSPC);
    assert_true(env_fault_hit(e));
    assert_int_equal(sx_content_size(c), 1);
    assert_int_equal(sx_cache_reserve(e->cache, 1, NULL), -ENOSPC);
    e->disk_free = 50 * MB;
    e->now_ms += 101;
    assert_int_equal(sx_cache_reserve(e->cache, 1, NULL), 0);
    assert_int_equal(write_all_steps(c, 1, "b", 1), 1);
    done_writing(c);
    env_free(e);
}

/* ---- waiting for room ---- */

typedef struct Helper {
    Env *e;
    GCancellable *cancel;
    int hurried; /* atomic */
    int what;
    GThread *thread;
} Helper;

static gpointer
help(gpointer data)
{
    Helper *h = data;
    if (h->what == 1)
        g_cancellable_cancel(h->cancel);
    if (h->what == 0) {
        fake_tree_set_dirty(h->e->tree, 1, false); /* uploaded */
        sx_cache_room(h->e->cache);
    }
    return NULL;
}

/* What the scheduler does when it is asked to hurry. */
static void
hurry(void *data)
{
    Helper *h = data;
    g_atomic_int_inc(&h->hurried);
    if (h->thread == NULL)
        h->thread = g_thread_new("help", help, h);
}

static void
a_writer_waits_for_room(void **state)
{
    static const int results[] = {0, -EINTR, -ENOSPC};
    for (int what = 0; what < 3; what++) {
        Env *e = env_new(2 * MB);
        g_autoptr(GCancellable) cancel = g_cancellable_new();
        Helper h = {.e = e, .cancel = cancel, .what = what};
        sx_cache_set_hurry(e->cache, hurry, &h);
        add_cached(e, 1, MB + B);
        fake_tree_set_dirty(e->tree, 1, true);
        assert_int_equal(sx_cache_reserve(e->cache, B, cancel), 0);
        assert_int_equal(h.hurried, 0);
        assert_int_equal(sx_cache_reserve(e->cache, MB, cancel), results[what]);
        assert_int_equal(g_atomic_int_get(&h.hurried), 1);
        g_thread_join(h.thread);
        assert_int_equal(cached(e, 1), what == 0 ? 0 : 2);
        env_free(e);
    }
}

/* The sum of many small open files stays near the truth, and exact after they are closed. */
static void
many_open_files(void **state)
{
    Env *e = env_new(4 * MB);
    SxContent *c[100];
    for (int i = 0; i < 100; i++) {
        c[i] = new_dirty(e, i + 1);
        assert_int_equal(write_all_steps(c[i], 0, "small", 5), 5);
        assert_int_equal(write_all_steps(c[i], 5, "small", 5), 5);
    }
    assert_true(sx_cache_used(e->cache) <= 3 * env_disk_use(e));
    for (int i = 0; i < 100; i++)
        done_writing(c[i]);
    assert_int_equal(sx_cache_used(e->cache), env_disk_use(e));
    env_free(e);
}

int
main(void)
{
    sx_log_set_level(SX_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_oldest_clean_file_goes_first),
        cmocka_unit_test(evicting_one),
        cmocka_unit_test(a_file_that_cannot_be_removed),
        cmocka_unit_test(sparse_files_count_by_their_blocks),
        cmocka_unit_test(too_much_at_once_evicts_nothing),
        cmocka_unit_test(min_free_is_kept),
        cmocka_unit_test(a_full_disk_is_believed),
        cmocka_unit_test(a_writer_waits_for_room),
        cmocka_unit_test(many_open_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
