/* Uploads, with transfer's own threads: what arrives, in how many requests, and what happens when the other side is gone, refuses,
 * or was changed by somebody else. */
#include "transfer_fixture.h"

/* ---- uploads ---- */

static void
what_is_written_arrives_in_one_request_each(void **state)
{
    World *w = world_new("");
    list_fresh(w, w->root);
    gint64 dir = make(w, w->root, "dir", SX_KIND_DIR);
    for (int i = 0; i < 50; i++) {
        g_autofree char *name = g_strdup_printf("f%d", i);
        make_file(w, dir, name, name);
    }
    flush(w);
    for (int i = 0; i < 50; i++) {
        g_autofree char *name = g_strdup_printf("f%d", i), *path = g_strdup_printf("dir/f%d", i);
        assert_stored(w, path, name);
    }
    assert_int_equal(sx_mem_calls(w->store, SX_CALL_WRITE), 50);
    assert_int_equal(sx_mem_calls(w->store, SX_CALL_MKDIR), 1);
    assert_int_equal(sx_mem_calls(w->store, SX_CALL_STAT), 0);
    SxCounts counts;
    sx_tree_counts(w->tree, 0, &counts);
    assert_int_equal(counts.pending + counts.parked + counts.conflicts, 0);
    world_free(w);
}

static void
one_listing_verifies_many_uploads(void **state)
{
    World *w = world_new("version-after-write = no\n");
    list_fresh(w, w->root);
    for (int i = 0; i < 40; i++) {
        g_autofree char *name = g_strdup_printf("f%d", i);
        make_file(w, w->root, name, name);
    }
    flush(w);
    assert_in_range(sx_mem_calls(w->store, SX_CALL_LIST), 2, 6);
    assert_int_equal(sx_mem_calls(w->store, SX_CALL_STAT), 0);
    world_free(w);
}

static void
lost_replies_make_no_conflicts(void **state)
{
    World *w = world_new("");
    list_fresh(w, w->root);
    __atomic_store_n(&w->faults.per_mille_lost, 400, __ATOMIC_RELAXED);
    gint64 dir = make(w, w->root, "d", SX_KIND_DIR);
    for (int i = 0; i < 12; i++) {
        g_autofree char *name = g_strdup_printf("f%d", i);
        make_file(w, dir, name, name);
    }
    flush(w);
    SxRenamed renamed;
    assert_int_equal(sx_tree_rename(w->tree, w->root, "d", w->root, "e", 0, false, now_ms(), &renamed), 0);
    SxAttr after;
    assert_int_equal(sx_tree_unlink(w->tree, dir, "f0", false, now_ms(), &after), 0);
    flush(w);
    assert_false(sx_mem_exists(w->store, "d"));
    assert_false(sx_mem_exists(w->store, "e/f0"));
    assert_stored(w, "e/f11", "f11");
    g_autoptr(GPtrArray) conflicts = sx_tree_conflicts(w->tree);
    assert_int_equal(conflicts->len, 0);
    world_free(w);
}

static void
a_change_elsewhere_is_not_overwritten(void **state)
{
    World *w = world_new("");
    list_fresh(w, w->root);
    gint64 ino = make_file(w, w->root, "note.txt", "first");
    flush(w);
    put(w, "note.txt", "theirs", 6);
    SxContent *c = open_content(w, ino);
    write_at(w, c, 0, "mine!", 5);
    end_write(w, c, true);
    flush(w);
    assert_stored(w, "note.txt", "theirs");
    g_autoptr(GPtrArray) conflicts = sx_tree_conflicts(w->tree);
    assert_int_equal(conflicts->len, 1);
    const SxConflict *conflict = conflicts->pdata[0];
    assert_stored(w, conflict->path + strlen("mem/"), "mine!");
    assert_int_equal(count_events(w, "conflict"), 1);
    world_free(w);
}

static void
equal_content_is_no_conflict(void **state)
{
    World *w = world_new("hash = none\n");
    list_fresh(w, w->root);
    put(w, "same", "equal bytes", 11);
    make_file(w, w->root, "same", "equal bytes");
    flush(w);
    g_autoptr(GPtrArray) conflicts = sx_tree_conflicts(w->tree);
    assert_int_equal(conflicts->len, 0);
    assert_stored(w, "same", "equal bytes");
    world_free(w);
}

/* Half of a file changes that is not wholly here: the rest comes from the version it is based on. */
static void
a_partly_cached_file_goes_out_whole(void **state)
{
    World *w = world_new("");
    g_autofree guint8 *bytes = pattern(2 * MIB);
    put(w, "big", bytes, 2 * MIB);
    list_fresh(w, w->root);
    SxContent *c = open_content(w, lookup(w, w->root, "big"));
    write_at(w, c, 700000, "changed", 7);
    memcpy(bytes + 700000, "changed", 7);
    assert_false(sx_content_complete(c));
    end_write(w, c, true);
    flush(w);
    g_autoptr(GBytes) there = sx_mem_get(w->store, "big");
    assert_int_equal(g_bytes_get_size(there), 2 * MIB);
    assert_memory_equal(g_bytes_get_data(there, NULL), bytes, 2 * MIB);
    world_free(w);
}

static void
parts_of_a_version_that_is_gone_are_kept_apart(void **state)
{
    World *w = world_new("");
    g_autofree guint8 *bytes = pattern(MIB);
    put(w, "big", bytes, MIB);
    list_fresh(w, w->root);
    SxContent *c = open_content(w, lookup(w, w->root, "big"));
    write_at(w, c, 0, "mine", 4);
    put(w, "big", "theirs", 6);
    end_write(w, c, true);
    flush(w);
    assert_stored(w, "big", "theirs");
    g_autoptr(GPtrArray) conflicts = sx_tree_conflicts(w->tree);
    assert_int_equal(conflicts->len, 1);
    g_autoptr(GBytes) copy = sx_mem_get(w->store, ((SxConflict *)conflicts->pdata[0])->path + strlen("mem/"));
    assert_int_equal(g_bytes_get_size(copy), MIB);
    const guint8 *p = g_bytes_get_data(copy, NULL);
    assert_memory_equal(p, "mine", 4);
    assert_memory_equal(p + 4, bytes + 4, SX_BLOCK - 4); /* the rest of the block had been fetched to be written into */
    assert_int_equal(p[MIB - 1], 0);
    assert_int_equal(count_events(w, "error"), 1);
    world_free(w);
}

/* A log that a program never closes still goes out when it is quiet, again and again. */
static void
a_file_that_stays_open_is_uploaded(void **state)
{
    World *w = world_new("");
    list_fresh(w, w->root);
    gint64 ino = make(w, w->root, "log", SX_KIND_FILE);
    SxContent *c = open_content(w, ino);
    sx_content_writers(c, 1);
    write_at(w, c, 0, "one ", 4);
    end_write(w, c, false);
    flush(w);
    assert_stored(w, "log", "one ");
    write_at(w, c, 4, "two", 3);
    end_write(w, c, false);
    flush(w);
    assert_stored(w, "log", "one two");
    sx_content_writers(c, -1);
    world_free(w);
}

static void
a_refused_name_is_parked_and_said(void **state)
{
    World *w = world_new("longest-name = 8\n");
    list_fresh(w, w->root);
    make_file(w, w->root, "much-too-long-a-name", "x");
    make_file(w, w->root, "short", "y");
    assert_int_equal(sx_transfer_flush(w->transfer, SX_ROOT_INO, WAIT_MS, NULL), -EIO);
    assert_stored(w, "short", "y");
    assert_int_equal(count_events(w, "error"), 1);
    SxRenamed renamed;
    assert_int_equal(sx_tree_rename(w->tree, w->root, "much-too-long-a-name", w->root, "ok", 0, false, now_ms(), &renamed), 0);
    flush(w);
    assert_stored(w, "ok", "x");
    world_free(w);
}

static void
what_was_not_finished_goes_out_after_a_restart(void **state)
{
    World *w = world_new("");
    list_fresh(w, w->root);
    gint64 ino = make(w, w->root, "f", SX_KIND_FILE);
    flush(w);
    SxContent *c = open_content(w, ino);
    write_at(w, c, 0, "not closed", 10);
    sx_tree_kill(w->tree);
    world_close(w);
    world_open(w);
    flush(w);
    assert_stored(w, "f", "not closed");
    world_free(w);
}

static void
swaps_and_moves_of_directories_arrive(void **state)
{
    World *w = world_new("");
    list_fresh(w, w->root);
    gint64 x = make(w, w->root, "x", SX_KIND_DIR), y = make(w, w->root, "y", SX_KIND_DIR);
    make_file(w, x, "fx", "x");
    make_file(w, y, "fy", "y");
    flush(w);
    SxRenamed renamed;
    assert_int_equal(sx_tree_rename(w->tree, w->root, "x", y, "x2", 0, false, now_ms(), &renamed), 0);
    assert_int_equal(sx_tree_rename(w->tree, w->root, "y", w->root, "x", 0, false, now_ms(), &renamed), 0);
    make_file(w, x, "more", "m");
    flush(w);
    g_autofree char *dump = sx_mem_dump(w->store);
    assert_stored(w, "x/x2/fx", "x");
    assert_stored(w, "x/x2/more", "m");
    assert_stored(w, "x/fy", "y");
    assert_null(strstr(dump, ".syncox"));
    world_free(w);
}

static void
without_moves_files_and_directories_are_copied(void **state)
{
    World *w = world_new("server-move = no\nserver-copy = no\n");
    list_fresh(w, w->root);
    gint64 d = make(w, w->root, "d", SX_KIND_DIR), sub = make(w, d, "sub", SX_KIND_DIR);
    make_file(w, d, "f", "content");
    gint64 g = make_file(w, sub, "g", "deep");
    flush(w);
    SxRenamed renamed;
    assert_int_equal(sx_tree_rename(w->tree, d, "f", w->root, "f2", 0, false, now_ms(), &renamed), 0);
    flush(w);
    assert_stored(w, "f2", "content");
    assert_false(sx_mem_exists(w->store, "d/f"));
    put(w, "d/theirs", "unseen", 6);
    assert_int_equal(sx_tree_rename(w->tree, w->root, "d", w->root, "e", 0, false, now_ms(), &renamed), 0);
    flush(w);
    assert_stored(w, "e/sub/g", "deep");
    assert_stored(w, "e/theirs", "unseen");
    assert_false(sx_mem_exists(w->store, "d"));
    list_fresh(w, d);
    list_fresh(w, sub);
    assert_int_equal(lookup(w, sub, "g"), g); /* the same file, whatever the other side did to it */
    assert_int_equal(sx_transfer_fetch_all(w->transfer, g, NULL), 0);
    assert_true(is_there(w, d, "theirs"));
    world_free(w);
}

/* ---- when the other side is gone ---- */

static void
offline_answers_at_once_and_comes_back(void **state)
{
    World *w = world_new("");
    sx_mem_mkdir(w->store, "d");
    put(w, "d/f", "x", 1);
    list_fresh(w, w->root);
    sx_fault_set_offline(&w->faults, true);
    make_file(w, w->root, "new", "text");
    wait_event(w, "offline");
    g_autofree char *why = NULL;
    assert_int_equal(sx_transfer_list(w->transfer, lookup(w, w->root, "d"), false, NULL, &why), -EHOSTUNREACH);
    assert_non_null(why);
    assert_int_equal(sx_transfer_list(w->transfer, w->root, false, NULL, NULL), 0); /* known: shown */
    assert_false(sx_mem_exists(w->store, "new"));
    sx_fault_set_offline(&w->faults, false);
    flush(w);
    assert_stored(w, "new", "text");
    assert_int_equal(sx_transfer_list(w->transfer, lookup(w, w->root, "d"), false, NULL, NULL), 0);
    assert_int_equal(count_events(w, "online"), 1);
    world_free(w);
}

static void
a_server_that_says_wait_is_left_alone(void **state)
{
    World *w = world_new("");
    list_fresh(w, w->root);
    script.code = SX_ERR_RATE;
    script.retry_after_ms = 400;
    g_atomic_int_set(&script.fail_writes, 1);
    make_file(w, w->root, "f", "text");
    flush(w);
    assert_stored(w, "f", "text");
    assert_int_equal(g_atomic_int_get(&script.writes), 2);
    assert_in_range(script.second_ms - script.first_ms, 400, WAIT_MS);
    world_free(w);
}

static void
a_refused_login_waits_for_the_user(void **state)
{
    World *w = world_new("");
    list_fresh(w, w->root);
    script.code = SX_ERR_AUTH;
    g_atomic_int_set(&script.fail_writes, 1);
    make_file(w, w->root, "f", "text");
    assert_int_equal(sx_transfer_flush(w->transfer, SX_ROOT_INO, 0, NULL), -ETIMEDOUT);
    wait_event(w, "error");
    assert_int_equal(g_atomic_int_get(&script.writes), 1);
    assert_true(sx_transfer_probe(w->transfer, w->id, NULL, NULL));
    flush(w);
    assert_stored(w, "f", "text");
    world_free(w);
}

typedef struct Order {
    GMutex lock;
    GString *names; /* lock */
} Order;

static void
note_publish(void *data, const char *path)
{
    Order *order = data;
    g_mutex_lock(&order->lock);
    g_string_append_printf(order->names, "%s ", path);
    g_mutex_unlock(&order->lock);
}

/* Made later, small, and there first. */
static void
small_files_overtake_large_ones(void **state)
{
    World *w = world_new("");
    world_close(w);
    w->threads = 1;
    world_open(w);
    list_fresh(w, w->root);
    Order order = {.names = g_string_new(NULL)};
    g_mutex_init(&order.lock);
    sx_mem_set_before_publish(w->store, note_publish, &order);
    sx_fault_set_offline(&w->faults, true);
    gsize n = 32 * MIB;
    g_autofree guint8 *bytes = pattern(n);
    SxContent *c = open_content(w, make(w, w->root, "large", SX_KIND_FILE));
    write_at(w, c, 0, bytes, n);
    end_write(w, c, true);
    wait_event(w, "offline"); /* found by the try to send the large one */
    make_file(w, w->root, "small", "text");
    sx_fault_set_offline(&w->faults, false);
    flush(w);
    sx_mem_set_before_publish(w->store, NULL, NULL);
    assert_string_equal(order.names->str, "small large ");
    g_string_free(order.names, TRUE);
    g_mutex_clear(&order.lock);
    world_free(w);
}

static void
a_damaged_upload_is_sent_again(void **state)
{
    World *w = world_new("");
    list_fresh(w, w->root);
    g_atomic_int_set(&script.wrong_sizes, 1);
    make_file(w, w->root, "f", "text");
    flush(w);
    assert_stored(w, "f", "text");
    assert_int_equal(g_atomic_int_get(&script.writes), 2);
    g_autoptr(GPtrArray) conflicts = sx_tree_conflicts(w->tree);
    assert_int_equal(conflicts->len, 0);
    world_free(w);
}

static void
a_full_server_is_said_and_tried_again(void **state)
{
    World *w = world_new("");
    list_fresh(w, w->root);
    sx_mem_set_space(w->store, 2);
    make_file(w, w->root, "f", "text");
    assert_int_equal(sx_transfer_flush(w->transfer, SX_ROOT_INO, 0, NULL), -ETIMEDOUT);
    wait_event(w, "error");
    sx_mem_set_space(w->store, -1);
    flush(w);
    assert_stored(w, "f", "text");
    world_free(w);
}

typedef struct Waiting {
    World *w;
    GCancellable *cancel;
    int rc;
} Waiting;

static gpointer
list_thread(gpointer data)
{
    Waiting *waiting = data;
    waiting->rc = sx_transfer_list(waiting->w->transfer, waiting->w->root, true, waiting->cancel, NULL);
    return NULL;
}

static bool
note_call(void *data, const char *call, bool after)
{
    World *w = data;
    if (!after)
        told(w, &w->n_content);
    return false;
}

/* Nobody answers; the one who waits gives up, and so does the end of the program. */
static void
a_wait_can_be_interrupted(void **state)
{
    World *w = world_new("");
    world_close(w);
    w->faults.max_delay_ms = 1000000;
    w->faults.crash = note_call;
    w->faults.data = w;
    world_open(w);
    Waiting waiting = {.w = w, .cancel = g_cancellable_new()};
    GThread *thread = g_thread_new("waiting", list_thread, &waiting);
    wait_for(w, &w->n_content, 1); /* the call is under way */
    g_cancellable_cancel(waiting.cancel);
    g_thread_join(thread);
    assert_int_equal(waiting.rc, -EINTR);
    g_object_unref(waiting.cancel);
    world_free(w);
}

static void
ignore_event(const SxEvent *event, void *data)
{
}

/* What waits is neither late by an hour nor early enough to matter, whichever way the clock is put. */
static void
a_clock_that_jumps_delays_nothing(void **state)
{
    static const gint64 hours[] = {24 * 365, -24 * 365 * 10, 3};
    World *w = world_new("");
    list_fresh(w, w->root);
    guint64 seen = 0;
    for (guint i = 0; i < G_N_ELEMENTS(hours); i++) {
        g_autofree char *name = g_strdup_printf("f%u", i);
        make_file(w, w->root, name, name); /* due a minute after the time before the jump */
        __atomic_store_n(&clock_ahead_ns, hours[i] * 3600 * 1000000000, __ATOMIC_RELAXED);
        sx_transfer_kick(w->transfer);
        while (!sx_mem_exists(w->store, name) && sx_events_wait(w->events, seen, WAIT_MS))
            seen = sx_events_since(w->events, seen, ignore_event, NULL);
        assert_stored(w, name, name);
    }
    flush(w);
    put(w, "theirs", "x", 1);
    list_fresh(w, w->root);
    SxAttr attr;
    assert_int_equal(sx_tree_lookup(w->tree, w->root, "theirs", &attr), 0);
    __atomic_store_n(&clock_ahead_ns, 0, __ATOMIC_RELAXED);
    world_free(w);
}

int
main(void)
{
    if (g_getenv("SX_TEST_DEBUG") != NULL)
        sx_log_set_level(SX_LOG_DEBUG);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_arrives_in_one_request_each),
        cmocka_unit_test(one_listing_verifies_many_uploads),
        cmocka_unit_test(lost_replies_make_no_conflicts),
        cmocka_unit_test(a_clock_that_jumps_delays_nothing),
        cmocka_unit_test(a_change_elsewhere_is_not_overwritten),
        cmocka_unit_test(equal_content_is_no_conflict),
        cmocka_unit_test(a_partly_cached_file_goes_out_whole),
        cmocka_unit_test(parts_of_a_version_that_is_gone_are_kept_apart),
        cmocka_unit_test(a_file_that_stays_open_is_uploaded),
        cmocka_unit_test(a_refused_name_is_parked_and_said),
        cmocka_unit_test(what_was_not_finished_goes_out_after_a_restart),
        cmocka_unit_test(swaps_and_moves_of_directories_arrive),
        cmocka_unit_test(without_moves_files_and_directories_are_copied),
        cmocka_unit_test(a_server_that_says_wait_is_left_alone),
        cmocka_unit_test(a_refused_login_waits_for_the_user),
        cmocka_unit_test(small_files_overtake_large_ones),
        cmocka_unit_test(a_damaged_upload_is_sent_again),
        cmocka_unit_test(a_full_server_is_said_and_tried_again),
        cmocka_unit_test(offline_answers_at_once_and_comes_back),
        cmocka_unit_test(a_wait_can_be_interrupted),
    };
    if (g_getenv("SX_TEST_ONLY") != NULL)
        cmocka_set_test_filter(g_getenv("SX_TEST_ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
