#include "watch/watch.h"

#include "base/log.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

typedef struct Ears {
    char *dir;
    SxWatch *w;
    GCancellable *cancel;
    GThread *thread;
    GError *end;       /* what sx_watch_run ended with */
    GMutex lock;
    GCond cond;
    GHashTable *heard; /* "WHAT KEY NAME"; guarded by lock */
} Ears;

static void
hear(void *data, SxWatchWhat what, const char *key, const char *name)
{
    static const char *const words[] = {"changed", "gone", "rescan"};
    Ears *e = data;
    g_mutex_lock(&e->lock);
    g_hash_table_add(e->heard, g_strdup_printf("%s %s %s", words[what], key, name != NULL ? name : "."));
    g_cond_broadcast(&e->cond);
    g_mutex_unlock(&e->lock);
}

/* Waits for the event; the test's own limit ends a wait for something that never comes. */
static void
wait_for(Ears *e, const char *text)
{
    g_mutex_lock(&e->lock);
    gint64 until = g_get_monotonic_time() + 20 * G_TIME_SPAN_SECOND;
    bool in_time = true;
    while (!g_hash_table_contains(e->heard, text) && in_time)
        in_time = g_cond_wait_until(&e->cond, &e->lock, until);
    g_hash_table_remove_all(e->heard);
    g_mutex_unlock(&e->lock);
    if (!in_time)
        fail_msg("never heard: %s", text);
}

static gpointer
listen_thread(gpointer data)
{
    Ears *e = data;
    sx_watch_run(e->w, hear, e, e->cancel, &e->end);
    return NULL;
}

static int
remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    return remove(path);
}

static void
ears_open(Ears *e)
{
    *e = (Ears){.cancel = g_cancellable_new(), .dir = g_dir_make_tmp("sx-watch-XXXXXX", NULL)};
    e->heard = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    e->w = sx_watch_new(NULL);
    assert_non_null(e->w);
}

static void
ears_listen(Ears *e)
{
    e->thread = g_thread_new("watch", listen_thread, e);
}

static void
ears_close(Ears *e)
{
    g_cancellable_cancel(e->cancel);
    if (e->thread != NULL)
        g_thread_join(e->thread);
    g_clear_error(&e->end);
    sx_watch_free(e->w);
    g_object_unref(e->cancel);
    g_hash_table_unref(e->heard);
    nftw(e->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    g_free(e->dir);
}

static char *
in(Ears *e, const char *path)
{
    return g_build_filename(e->dir, path, NULL);
}

static void
touch(Ears *e, const char *path, const char *text)
{
    g_autofree char *full = in(e, path);
    int fd = open(full, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void
make(Ears *e, const char *path)
{
    g_autofree char *full = in(e, path);
    assert_int_equal(mkdir(full, 0700), 0);
}

static int
add(Ears *e, const char *path, const char *key)
{
    g_autofree char *full = in(e, path);
    g_auto(SxFd) fd = open(full, O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_true(fd >= 0);
    return sx_watch_add(e->w, fd, key);
}

static void
mv(Ears *e, const char *from, const char *to)
{
    g_autofree char *a = in(e, from), *b = in(e, to);
    assert_int_equal(rename(a, b), 0);
}

static void
changes_are_told_by_key_and_name(void **state)
{
    Ears e;
    ears_open(&e);
    make(&e, "d");
    assert_int_equal(add(&e, "", ""), 0);
    assert_int_equal(add(&e, "d", "d"), 0);
    assert_int_equal(sx_watch_count(e.w), 2);
    ears_listen(&e);
    touch(&e, "f", "1");
    wait_for(&e, "changed  f");
    touch(&e, "d/line\nbreak", "1");
    wait_for(&e, "changed d line\nbreak");
    make(&e, "new");
    wait_for(&e, "changed  new");
    assert_int_equal(add(&e, "new", "new"), 0); /* while the other thread waits */
    touch(&e, "new/x", "1");
    wait_for(&e, "changed new x");
    g_autofree char *f = in(&e, "f");
    assert_int_equal(unlink(f), 0);
    wait_for(&e, "changed  f");
    g_autofree char *x = in(&e, "new/x"), *dir = in(&e, "new");
    assert_int_equal(unlink(x), 0);
    assert_int_equal(rmdir(dir), 0);
    wait_for(&e, "gone new .");
    assert_int_equal(sx_watch_count(e.w), 2);
    ears_close(&e);
}

static void
a_moved_directory_is_known_by_its_new_key(void **state)
{
    Ears e;
    ears_open(&e);
    make(&e, "a");
    make(&e, "a/b");
    assert_int_equal(add(&e, "", "") | add(&e, "a", "a") | add(&e, "a/b", "a/b"), 0);
    mv(&e, "a", "z");
    assert_int_equal(add(&e, "z", "z"), 0); /* before the events of the move were read */
    assert_int_equal(sx_watch_count(e.w), 3);
    ears_listen(&e);
    wait_for(&e, "changed  a");
    touch(&e, "z/f", "1");
    wait_for(&e, "changed z f");
    assert_int_equal(sx_watch_count(e.w), 3); /* what was a/b came along */
    sx_watch_remove(e.w, "z");
    assert_int_equal(sx_watch_count(e.w), 1);
    /* Another directory takes a key. */
    make(&e, "k1");
    make(&e, "k2");
    assert_int_equal(add(&e, "k1", "k") | add(&e, "k2", "k"), 0);
    touch(&e, "k1/no", "1");
    touch(&e, "k2/yes", "1");
    wait_for(&e, "changed k yes");
    assert_int_equal(sx_watch_count(e.w), 2);
    ears_close(&e);
}

static void
a_move_takes_the_watches_along(void **state)
{
    Ears e;
    ears_open(&e);
    make(&e, "a");
    make(&e, "a/b");
    make(&e, "t");
    make(&e, "unwatched");
    assert_int_equal(add(&e, "", "") | add(&e, "a", "a") | add(&e, "a/b", "a/b") | add(&e, "t", "t"), 0);
    ears_listen(&e);
    mv(&e, "a", "t/z"); /* by others */
    wait_for(&e, "changed t z");
    touch(&e, "t/z/b/f", "1");
    wait_for(&e, "changed t/z/b f");
    assert_int_equal(sx_watch_count(e.w), 4);
    sx_watch_rename(e.w, "t/z", "own"); /* by ourselves */
    mv(&e, "t/z", "own");
    wait_for(&e, "changed  own");
    touch(&e, "own/b/g", "1");
    wait_for(&e, "changed own/b g");
    assert_int_equal(sx_watch_count(e.w), 4);
    mv(&e, "own", "unwatched/x");
    wait_for(&e, "changed  own");
    touch(&e, "t/end", "1");
    wait_for(&e, "changed t end");
    assert_int_equal(sx_watch_count(e.w), 2);
    ears_close(&e);
}

static void
lost_events_mean_look_at_everything(void **state)
{
    g_autofree char *text = NULL;
    assert_true(g_file_get_contents("/proc/sys/fs/inotify/max_queued_events", &text, NULL, NULL));
    int most = atoi(text);
    if (most > 70000)
        skip();
    Ears e;
    ears_open(&e);
    assert_int_equal(add(&e, "", ""), 0);
    g_autofree char *a = in(&e, "a"), *b = in(&e, "b");
    touch(&e, "a", "1");
    for (int i = 0; i < most; i++) /* two events each, and none equal to the one before */
        assert_int_equal(i % 2 == 0 ? rename(a, b) : rename(b, a), 0);
    ears_listen(&e);
    wait_for(&e, "rescan  .");
    touch(&e, "after", "1"); /* and it goes on */
    wait_for(&e, "changed  after");
    ears_close(&e);
}

/* In a user namespace of its own, where the limit can be set. */
static int
child_with_few_watches(void)
{
    if (unshare(CLONE_NEWUSER) != 0)
        return 77;
    g_autoptr(GError) error = NULL;
    int fd = open("/proc/sys/user/max_inotify_watches", O_WRONLY);
    if (fd < 0 || write(fd, "2", 1) != 1)
        return 77;
    close(fd);
    sx_log_set_level(SX_LOG_ERROR);
    Ears e;
    ears_open(&e);
    make(&e, "1");
    make(&e, "2");
    make(&e, "3");
    bool ok = add(&e, "1", "1") == 0 && add(&e, "2", "2") == 0 && add(&e, "3", "3") == -ENOSPC;
    ok = ok && !sx_watch_run(e.w, hear, &e, e.cancel, &error) && sx_error_is(error, SX_ERR_UNSUPPORTED);
    ears_close(&e);
    return ok ? 0 : 1;
}

static void
at_the_limit_the_caller_is_told_to_poll(void **state)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(child_with_few_watches());
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void
cancelling_ends_the_wait(void **state)
{
    Ears e;
    ears_open(&e);
    assert_int_equal(add(&e, "", ""), 0);
    ears_listen(&e);
    touch(&e, "f", "1");
    wait_for(&e, "changed  f");
    g_cancellable_cancel(e.cancel);
    g_thread_join(g_steal_pointer(&e.thread));
    assert_true(sx_error_is(e.end, SX_ERR_CANCELLED));
    ears_close(&e);
}

static gpointer
add_and_remove(gpointer data)
{
    Ears *e = data;
    for (int i = 0; i < 300; i++) {
        add(e, "d", "d");
        sx_watch_remove(e->w, "d");
    }
    return NULL;
}

static void
threads_add_and_remove_while_one_reads(void **state)
{
    Ears e;
    ears_open(&e);
    make(&e, "d");
    assert_int_equal(add(&e, "", ""), 0);
    ears_listen(&e);
    GThread *a = g_thread_new("add", add_and_remove, &e), *b = g_thread_new("add", add_and_remove, &e);
    for (int i = 0; i < 100; i++)
        touch(&e, "d/f", "1");
    g_thread_join(a);
    g_thread_join(b);
    assert_int_equal(add(&e, "d", "d"), 0);
    touch(&e, "d/last", "1");
    wait_for(&e, "changed d last");
    assert_int_equal(sx_watch_count(e.w), 2);
    ears_close(&e);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(at_the_limit_the_caller_is_told_to_poll), /* first: it forks, and no thread must run then */
        cmocka_unit_test(changes_are_told_by_key_and_name),
        cmocka_unit_test(a_moved_directory_is_known_by_its_new_key),
        cmocka_unit_test(a_move_takes_the_watches_along),
        cmocka_unit_test(lost_events_mean_look_at_everything),
        cmocka_unit_test(cancelling_ends_the_wait),
        cmocka_unit_test(threads_add_and_remove_while_one_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
