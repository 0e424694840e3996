/* Downloads and listings, with transfer's own threads: in how many requests the bytes come, and what a program sees of changes
 * made elsewhere. */
#include "transfer_fixture.h"

/* ---- downloads ---- */

static void
a_long_file_comes_in_few_requests(void **state)
{
    World *w = world_new("");
    gsize size = 24 * MIB;
    g_autofree guint8 *bytes = pattern(size), *buf = g_malloc(128 * 1024);
    put(w, "big", bytes, size);
    list_fresh(w, w->root);
    SxContent *c = open_content(w, lookup(w, w->root, "big"));
    SxReader *r = sx_reader_new();
    for (gsize off = 0; off < size; off += 128 * 1024) {
        assert_int_equal(sx_transfer_fetch(w->transfer, c, r, (gint64)off, 128 * 1024, NULL), 0);
        assert_int_equal(sx_content_read(c, (gint64)off, buf, 128 * 1024), 128 * 1024);
        assert_memory_equal(buf, bytes + off, 128 * 1024);
    }
    sx_reader_free(r);
    assert_in_range(sx_mem_calls(w->store, SX_CALL_READ), 2, 9);
    world_free(w);
}

static void
a_far_seek_costs_one_block(void **state)
{
    World *w = world_new("");
    gsize size = 16 * MIB;
    g_autofree guint8 *bytes = pattern(size);
    put(w, "big", bytes, size);
    list_fresh(w, w->root);
    SxContent *c = open_content(w, lookup(w, w->root, "big"));
    SxReader *r = sx_reader_new();
    for (int i = 5; i > 0; i--) {
        gint64 off = i * 3 * MIB + 4096;
        assert_int_equal(sx_transfer_fetch(w->transfer, c, r, off, 4096, NULL), 0);
    }
    sx_reader_free(r);
    assert_int_equal(sx_content_present_bytes(c), 5 * SX_BLOCK);
    world_free(w);
}

typedef struct Reading {
    World *w;
    SxContent *c;
    const guint8 *bytes;
    gsize size;
    gint failed;
} Reading;

static gpointer
read_all(gpointer data)
{
    Reading *reading = data;
    g_autofree guint8 *buf = g_malloc(65536);
    SxReader *r = sx_reader_new();
    for (gsize off = 0; off < reading->size; off += 65536)
        if (sx_transfer_fetch(reading->w->transfer, reading->c, r, (gint64)off, 65536, NULL) != 0 ||
            sx_content_read(reading->c, (gint64)off, buf, 65536) != 65536 || memcmp(buf, reading->bytes + off, 65536) != 0)
            g_atomic_int_inc(&reading->failed);
    sx_reader_free(r);
    return NULL;
}

static void
readers_share_what_comes(void **state)
{
    World *w = world_new("");
    gsize size = 8 * MIB;
    g_autofree guint8 *bytes = pattern(size);
    put(w, "big", bytes, size);
    list_fresh(w, w->root);
    SxContent *c = open_content(w, lookup(w, w->root, "big"));
    Reading reading = {.w = w, .c = c, .bytes = bytes, .size = size};
    GThread *threads[6];
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        threads[i] = g_thread_new("reader", read_all, &reading);
    for (guint i = 0; i < G_N_ELEMENTS(threads); i++)
        g_thread_join(threads[i]);
    assert_int_equal(reading.failed, 0);
    SxRates rates;
    sx_transfer_rates(w->transfer, &rates);
    assert_in_range(rates.down_total, size, size + 2 * MIB);
    SxAttr attr;
    assert_int_equal(sx_tree_getattr(w->tree, sx_content_ino(c), &attr), 0);
    assert_int_equal(attr.cached, 2);
    world_free(w);
}

static void
a_read_follows_a_new_version(void **state)
{
    World *w = world_new("");
    g_autofree guint8 *bytes = pattern(MIB);
    put(w, "f", bytes, MIB);
    list_fresh(w, w->root);
    put(w, "f", "short and new", 13);
    SxContent *c = open_content(w, lookup(w, w->root, "f"));
    char buf[64];
    assert_int_equal(sx_transfer_fetch(w->transfer, c, NULL, 0, 13, NULL), 0);
    assert_int_equal(sx_content_read(c, 0, buf, sizeof buf), 13);
    assert_memory_equal(buf, "short and new", 13);
    assert_int_equal(w->n_content, 1);
    world_free(w);
}

static void
a_pinned_file_comes_by_itself(void **state)
{
    World *w = world_new("");
    g_autofree guint8 *bytes = pattern(3 * MIB);
    put(w, "f", bytes, 3 * MIB);
    list_fresh(w, w->root);
    gint64 ino = lookup(w, w->root, "f");
    assert_int_equal(sx_tree_pin(w->tree, ino, 1), 0);
    sx_transfer_kick(w->transfer);
    SxContent *c = open_content(w, ino);
    assert_int_equal(sx_content_wait(c, 0, 3 * MIB, sx_clock_mono_ms(sx_clock_default()) + WAIT_MS, NULL), 0);
    assert_true(sx_content_complete(c));
    world_free(w);
}

static void
bytes_that_came_wrong_are_fetched_again(void **state)
{
    for (gsize size = 100000; size <= 5 * MIB; size += 4 * MIB) { /* checked before they are shown, and when complete */
        World *w = world_new("");
        g_autofree guint8 *bytes = pattern(size), *buf = g_malloc(size);
        put(w, "f", bytes, size);
        list_fresh(w, w->root);
        gint64 ino = lookup(w, w->root, "f");
        g_atomic_int_set(&script.wrong_bytes, 1);
        int rc = sx_transfer_fetch_all(w->transfer, ino, NULL);
        assert_true(rc == 0 || rc == -EIO);
        if (size > MIB) /* found when all of it was here, perhaps while it was being read */
            wait_event(w, "error");
        SxContent *c = open_content(w, ino);
        assert_int_equal(sx_transfer_fetch_all(w->transfer, ino, NULL), 0);
        assert_int_equal(sx_content_read(c, 0, buf, size), size);
        assert_memory_equal(buf, bytes, size);
        world_free(w);
    }
}

static void
bytes_that_never_come_right_are_an_error(void **state)
{
    World *w = world_new("");
    put(w, "f", "text", 4);
    list_fresh(w, w->root);
    g_atomic_int_set(&script.wrong_bytes, -1);
    assert_int_equal(sx_transfer_fetch_all(w->transfer, lookup(w, w->root, "f"), NULL), -EIO);
    assert_int_equal(g_atomic_int_get(&script.reads), 2);
    world_free(w);
}

/* ---- listings ---- */

static void
few_deletions_are_believed_after_a_look(void **state)
{
    World *w = world_new("");
    for (int i = 0; i < 12; i++) {
        g_autofree char *name = g_strdup_printf("f%d", i);
        put(w, name, name, strlen(name));
    }
    list_fresh(w, w->root);
    assert_int_equal(sx_mem_remove(w->store, "f3"), 0);
    list_fresh(w, w->root);
    assert_false(is_there(w, w->root, "f3"));
    assert_true(is_there(w, w->root, "f4"));
    assert_int_equal(sx_mem_calls(w->store, SX_CALL_STAT), 1);
    assert_int_equal(w->n_gone, 1);
    world_free(w);
}

static void
a_mass_delete_waits_for_the_user(void **state)
{
    World *w = world_new("");
    put(w, "stays", "x", 1);
    for (int i = 0; i < 40; i++) {
        g_autofree char *name = g_strdup_printf("f%d", i);
        put(w, name, name, strlen(name));
    }
    list_fresh(w, w->root);
    for (int i = 0; i < 40; i++) {
        g_autofree char *name = g_strdup_printf("f%d", i);
        sx_mem_remove(w->store, name);
    }
    list_fresh(w, w->root);
    list_fresh(w, w->root);
    assert_true(is_there(w, w->root, "f39"));
    assert_int_equal(count_events(w, "held"), 1);
    g_autofree char *text = NULL;
    assert_true(sx_transfer_held(w->transfer, w->id, &text));
    assert_int_equal(sx_transfer_refresh(w->transfer, w->root, true, NULL, NULL), 0);
    assert_false(is_there(w, w->root, "f39"));
    assert_true(is_there(w, w->root, "stays"));
    assert_false(sx_transfer_held(w->transfer, w->id, NULL));
    world_free(w);
}

static void
siblings_are_listed_ahead(void **state)
{
    World *w = world_new("");
    for (int i = 0; i < 40; i++) {
        g_autofree char *dir = g_strdup_printf("d%02d", i), *file = g_strdup_printf("d%02d/f", i);
        sx_mem_mkdir(w->store, dir);
        put(w, file, "x", 1);
    }
    list_fresh(w, w->root);
    guint before = w->n_new;
    assert_int_equal(sx_transfer_list(w->transfer, lookup(w, w->root, "d00"), false, NULL, NULL), 0);
    assert_int_equal(sx_transfer_list(w->transfer, lookup(w, w->root, "d01"), false, NULL, NULL), 0);
    wait_for(w, &w->n_new, before + 18); /* these two and sixteen ahead */
    for (int i = 2; i < 40; i++) {
        g_autofree char *dir = g_strdup_printf("d%02d", i);
        assert_int_equal(sx_transfer_list(w->transfer, lookup(w, w->root, dir), false, NULL, NULL), 0);
    }
    assert_int_equal(sx_mem_calls(w->store, SX_CALL_LIST), 41);
    world_free(w);
}

static void
a_watched_change_appears(void **state)
{
    World *w = world_new("push = yes\n");
    list_fresh(w, w->root);
    guint before = w->n_new;
    /* The watcher may begin only now: it is told again until it has heard. */
    for (int i = 0; !is_there(w, w->root, "late"); i++) {
        g_autofree char *name = g_strdup_printf("try%d", i);
        put(w, name, "x", 1);
        put(w, "late", name, strlen(name));
        g_mutex_lock(&w->lock);
        if (w->n_new == before)
            g_cond_wait_until(&w->cond, &w->lock, g_get_monotonic_time() + 300000);
        g_mutex_unlock(&w->lock);
        assert_true(i < 200);
    }
    world_free(w);
}

int
main(void)
{
    if (g_getenv("SX_TEST_DEBUG") != NULL)
        sx_log_set_level(SX_LOG_DEBUG);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_file_comes_in_few_requests),
        cmocka_unit_test(a_far_seek_costs_one_block),
        cmocka_unit_test(readers_share_what_comes),
        cmocka_unit_test(a_read_follows_a_new_version),
        cmocka_unit_test(a_pinned_file_comes_by_itself),
        cmocka_unit_test(bytes_that_came_wrong_are_fetched_again),
        cmocka_unit_test(bytes_that_never_come_right_are_an_error),
        cmocka_unit_test(few_deletions_are_believed_after_a_look),
        cmocka_unit_test(a_mass_delete_waits_for_the_user),
        cmocka_unit_test(siblings_are_listed_ahead),
        cmocka_unit_test(a_watched_change_appears),
    };
    if (g_getenv("SX_TEST_ONLY") != NULL)
        cmocka_set_test_filter(g_getenv("SX_TEST_ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
