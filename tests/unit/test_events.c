#include "base/error.h"
#include "base/events.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

typedef struct Seen {
    GMutex lock;
    GString *text;
    guint n;
    guint64 last;
} Seen;

static void
note(const SxEvent *e, void *data)
{
    Seen *s = data;
    g_mutex_lock(&s->lock);
    assert_true(s->text == NULL || e->seq > s->last);
    s->last = e->seq;
    if (s->text != NULL)
        g_string_append_printf(s->text, "%s|%s ", e->kind, e->text);
    s->n++;
    g_mutex_unlock(&s->lock);
}

static void
events_are_kept_told_and_written(void **state)
{
    g_autofree char *dir = g_dir_make_tmp("sx-events-XXXXXX", NULL);
    g_autofree char *sub = g_build_filename(dir, "state", NULL);
    g_autofree char *file = g_build_filename(sub, "events.jsonl", NULL);
    SxEvents *ev = sx_events_new(sub, NULL);
    assert_non_null(ev);
    Seen seen = {.text = g_string_new(NULL)};
    guint id = sx_events_listen(ev, note, &seen);
    sx_events_emit(ev, 1000, "error", "nas", "nas/a", "it %s", "broke");
    sx_events_emit(ev, 2000, "mounted", NULL, NULL, "up");
    sx_events_unlisten(ev, id);
    sx_events_emit(ev, 3000, "offline", "nas", NULL, "gone");
    assert_string_equal(seen.text->str, "error|it broke mounted|up ");

    g_string_truncate(seen.text, 0);
    seen.last = 0;
    assert_int_equal(sx_events_since(ev, 1, note, &seen), 3);
    assert_string_equal(seen.text->str, "mounted|up offline|gone ");
    assert_true(sx_events_wait(ev, 2, 0));
    assert_false(sx_events_wait(ev, 3, 1));
    sx_events_free(ev);

    g_autofree char *text = NULL;
    assert_true(g_file_get_contents(file, &text, NULL, NULL));
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    assert_int_equal(g_strv_length(lines), 4);
    assert_non_null(strstr(lines[0], "\"path\":\"nas/a\""));
    struct stat st;
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    g_string_free(seen.text, TRUE);
    g_remove(file);
    g_rmdir(sub);
    g_rmdir(dir);
}

static void
the_ring_is_bounded(void **state)
{
    g_autoptr(SxEvents) ev = sx_events_new(NULL, NULL);
    for (int i = 0; i < SX_EVENTS_RING + 10; i++)
        sx_events_emit(ev, 0, "uploaded", "p", "f", "%d", i);
    Seen seen = {0};
    assert_int_equal(sx_events_since(ev, 0, note, &seen), SX_EVENTS_RING + 10);
    assert_int_equal(seen.n, SX_EVENTS_RING);
}

static void
the_file_is_rotated(void **state)
{
    g_autofree char *dir = g_dir_make_tmp("sx-events-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(dir, "events.jsonl", NULL);
    g_autofree char *old = g_strconcat(file, ".1", NULL);
    g_autofree char *big = g_strnfill(1024 * 1024, 'x');
    SxEvents *ev = sx_events_new(dir, NULL);
    for (int i = 0; i < 5; i++)
        sx_events_emit(ev, 0, "error", "p", "f", "%s", big);
    sx_events_free(ev);
    struct stat a, b;
    assert_int_equal(stat(file, &a), 0);
    assert_int_equal(stat(old, &b), 0);
    assert_true(a.st_size > 1024 * 1024 && a.st_size <= SX_EVENTS_FILE_MAX);
    assert_true(b.st_size > 2 * 1024 * 1024 && b.st_size <= SX_EVENTS_FILE_MAX);
    g_remove(file);
    g_remove(old);
    g_rmdir(dir);
}

static void
a_full_disk_loses_the_file_only(void **state)
{
    g_autofree char *dir = g_dir_make_tmp("sx-events-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(dir, "events.jsonl", NULL);
    assert_int_equal(symlink("/dev/full", file), 0);
    g_autoptr(SxEvents) ev = sx_events_new(dir, NULL);
    assert_non_null(ev);
    sx_events_emit(ev, 0, "error", "p", "f", "one");
    Seen seen = {.text = g_string_new(NULL)};
    assert_int_equal(sx_events_since(ev, 0, note, &seen), 1);
    assert_string_equal(seen.text->str, "error|one ");
    g_string_free(seen.text, TRUE);
    g_remove(file);
    g_rmdir(dir);
}

static void
no_half_line_stays_behind(void **state)
{
    g_autofree char *dir = g_dir_make_tmp("sx-events-XXXXXX", NULL);
    g_autofree char *file = g_build_filename(dir, "events.jsonl", NULL);
    SxEvents *ev = sx_events_new(dir, NULL);
    sx_events_emit(ev, 0, "error", "p", "f", "one");
    struct stat before, after;
    assert_int_equal(stat(file, &before), 0);

    struct rlimit old, tight;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight = old;
    tight.rlim_cur = (rlim_t)before.st_size + 10; /* the next line is written for ten bytes */
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    sx_events_emit(ev, 0, "error", "p", "f", "two");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(stat(file, &after), 0);
    assert_int_equal(after.st_size, before.st_size);

    sx_events_emit(ev, 0, "error", "p", "f", "three");
    sx_events_free(ev);
    g_autofree char *text = NULL;
    assert_true(g_file_get_contents(file, &text, NULL, NULL));
    assert_non_null(strstr(text, "\"one\"}\n{\"seq\":3"));
    g_remove(file);
    g_rmdir(dir);
}

static void
bytes_that_are_no_text_stay_exact(void **state)
{
    SxEvent e = {.seq = 7, .real_ns = 0, .kind = "error", .provider = "p", .path = "a/\xff\n\"", .text = "t"};
    g_autofree char *json = sx_event_to_json(&e);
    assert_string_equal(json, "{\"seq\":7,\"time\":\"1970-01-01T00:00:00+00:00\",\"kind\":\"error\",\"provider\":\"p\","
                              "\"path\":\"a/\xef\xbf\xbd\\n\\\"\",\"path_b64\":\"YS//CiI=\",\"text\":\"t\"}");
}

static void
a_state_directory_that_cannot_be_is_an_error(void **state)
{
    g_autoptr(GError) e = NULL;
    assert_null(sx_events_new("/dev/null/x", &e));
    assert_non_null(strstr(e->message, "/dev/null/x"));
    assert_int_equal(sx_errno(e), ENOTDIR);
}

#define THREADS 4
#define EACH 200

static void *
emit_many(void *data)
{
    for (int i = 0; i < EACH; i++)
        sx_events_emit(data, 0, "uploaded", "p", "f", "%d", i);
    return NULL;
}

static void *
wait_for_all(void *data)
{
    for (guint64 seen = 0; seen < THREADS * EACH; seen++)
        assert_true(sx_events_wait(data, seen, 60000));
    return NULL;
}

static void
count(const SxEvent *e, void *data)
{
    g_atomic_int_inc((gint *)data);
}

static void
many_threads(void **state)
{
    g_autoptr(SxEvents) ev = sx_events_new(NULL, NULL);
    gint n = 0, brief = 0;
    guint id = sx_events_listen(ev, count, &n);
    GThread *waiter = g_thread_new("wait", wait_for_all, ev);
    GThread *t[THREADS];
    for (int i = 0; i < THREADS; i++)
        t[i] = g_thread_new("emit", emit_many, ev);
    for (int i = 0; i < 100; i++)
        sx_events_unlisten(ev, sx_events_listen(ev, count, &brief));
    for (int i = 0; i < THREADS; i++)
        g_thread_join(t[i]);
    g_thread_join(waiter);
    sx_events_unlisten(ev, id);
    assert_int_equal(n, THREADS * EACH);
}

int
main(void)
{
    g_setenv("TZ", "UTC", TRUE);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_are_kept_told_and_written),
        cmocka_unit_test(the_ring_is_bounded),
        cmocka_unit_test(the_file_is_rotated),
        cmocka_unit_test(a_full_disk_loses_the_file_only),
        cmocka_unit_test(no_half_line_stays_behind),
        cmocka_unit_test(bytes_that_are_no_text_stay_exact),
        cmocka_unit_test(a_state_directory_that_cannot_be_is_an_error),
        cmocka_unit_test(many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
