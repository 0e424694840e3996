/* The local side: what programs see. */
#include "tests/unit/tree_fixture.h"

static void
created_files_are_found(void **state)
{
    Fix *f = *state;
    SxAttr a = make(f, f->root, "a", SX_KIND_FILE), b;
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "a", &b), 0);
    assert_int_equal(a.ino, b.ino);
    assert_int_equal(a.row, b.row);
    assert_int_equal(b.nlink, 1);
    assert_int_equal(b.cached, 2);
    assert_true(b.dirty);
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "b", &b), -ENOENT);
    SxNew n = new_of(SX_KIND_FILE);
    assert_int_equal(sx_tree_create(f->tree, f->root, "a", &n, &b), -EEXIST);
    assert_int_equal(sx_tree_create(f->tree, a.ino, "a", &n, &b), -ENOTDIR);
    assert_int_equal(sx_tree_create(f->tree, 999999, "a", &n, &b), -ENOENT);
    assert_int_equal(sx_tree_create(f->tree, SX_ROOT_INO, "a", &n, &b), -EPERM);
    assert_int_equal(sx_tree_create(f->tree, f->root, "a/b", &n, &b), -EINVAL);
    g_autofree char *longname = g_strnfill(256, 'x');
    assert_int_equal(sx_tree_create(f->tree, f->root, longname, &n, &b), -ENAMETOOLONG);
    assert_int_equal(bits(f, f->root, "a"), SX_PENDING_CREATE);
    check(f);
}

static bool
collect(void *data, gint64 cookie, const char *name, const SxAttr *attr)
{
    GString *s = data;
    g_string_append_printf(s, "%s ", name);
    return s->len < 1000;
}

static void
directories_list_in_order_and_from_the_middle(void **state)
{
    Fix *f = *state;
    SxAttr d = make(f, f->root, "d", SX_KIND_DIR), a[100];
    for (int i = 0; i < 100; i++) {
        g_autofree char *name = g_strdup_printf("%d", i);
        a[i] = make(f, d.ino, name, SX_KIND_FILE);
    }
    g_autoptr(GString) s = g_string_new(NULL);
    assert_int_equal(sx_tree_readdir(f->tree, d.ino, a[96].row, collect, s), 0);
    assert_string_equal(s->str, "97 98 99 ");
    g_string_truncate(s, 0);
    assert_int_equal(sx_tree_readdir(f->tree, d.ino, 0, collect, s), 0);
    assert_true(g_str_has_prefix(s->str, "0 1 2 3 ") && g_str_has_suffix(s->str, " 98 99 "));
    g_string_truncate(s, 0);
    assert_int_equal(sx_tree_readdir(f->tree, SX_ROOT_INO, 0, collect, s), 0);
    assert_string_equal(s->str, "Files ");
}

static void
paths_go_both_ways(void **state)
{
    Fix *f = *state;
    SxAttr d = make(f, f->root, "d", SX_KIND_DIR), e = make(f, d.ino, "e", SX_KIND_DIR), x = make(f, e.ino, "x", SX_KIND_FILE), r;
    g_autofree char *path = sx_tree_path(f->tree, x.ino);
    assert_string_equal(path, "Files/d/e/x");
    assert_int_equal(sx_tree_resolve(f->tree, path, &r), 0);
    assert_int_equal(r.ino, x.ino);
    assert_int_equal(sx_tree_resolve(f->tree, "Files/d/e/x/y", &r), -ENOTDIR);
    assert_int_equal(sx_tree_resolve(f->tree, "", &r), 0);
    assert_int_equal(r.ino, SX_ROOT_INO);
    gint64 p;
    assert_int_equal(sx_tree_parent(f->tree, e.ino, &p), 0);
    assert_int_equal(p, d.ino);
    assert_int_equal(sx_tree_parent(f->tree, f->root, &p), 0);
    assert_int_equal(p, SX_ROOT_INO);
    assert_int_equal(sx_tree_parent(f->tree, SX_ROOT_INO, &p), 0);
}

static void
link_counts_and_times_follow(void **state)
{
    Fix *f = *state;
    SxAttr d = make(f, f->root, "d", SX_KIND_DIR), x = make(f, d.ino, "x", SX_KIND_FILE), r, before;
    assert_int_equal(sx_tree_link(f->tree, x.ino, f->root, "y", 0, &r), 0);
    assert_int_equal(r.nlink, 2);
    assert_int_equal(r.ino, x.ino);
    assert_int_equal(sx_tree_link(f->tree, d.ino, f->root, "z", 0, &r), -EPERM);
    make(f, d.ino, "sub", SX_KIND_DIR);
    assert_int_equal(sx_tree_getattr(f->tree, d.ino, &before), 0);
    assert_int_equal(before.nlink, 3);
    tick(f);
    assert_int_equal(sx_tree_rmdir(f->tree, f->root, "d", 0, &r), -ENOTEMPTY);
    assert_int_equal(sx_tree_rmdir(f->tree, d.ino, "x", 0, &r), -ENOTDIR);
    assert_int_equal(sx_tree_unlink(f->tree, d.ino, "sub", false, 0, &r), -EISDIR);
    assert_int_equal(sx_tree_rmdir(f->tree, d.ino, "sub", 0, &r), 0);
    assert_int_equal(sx_tree_getattr(f->tree, d.ino, &r), 0);
    assert_int_equal(r.nlink, 2);
    assert_true(r.mtime_ns > before.mtime_ns && r.ctime_ns == r.mtime_ns);
    assert_int_equal(sx_tree_unlink(f->tree, d.ino, "x", false, 0, &r), 0);
    assert_int_equal(r.nlink, 1);
    assert_true(r.ctime_ns > x.ctime_ns);
    assert_int_equal(sx_tree_unlink(f->tree, f->root, "y", true, 0, &r), 0);
    assert_int_equal(r.nlink, 0);
    assert_int_equal(sx_tree_getattr(f->tree, x.ino, &r), 0);
    g_autoptr(GArray) orphans = sx_tree_orphans(f->tree);
    assert_int_equal(orphans->len, 1);
    assert_int_equal(sx_tree_drop_orphan(f->tree, d.ino), 0);
    assert_int_equal(sx_tree_drop_orphan(f->tree, x.ino), 0);
    assert_int_equal(sx_tree_getattr(f->tree, x.ino, &r), -ENOENT);
    assert_int_equal(sx_tree_getattr(f->tree, d.ino, &r), 0);
    check(f);
}

static void
rename_has_its_errors(void **state)
{
    Fix *f = *state;
    SxAttr d = make(f, f->root, "d", SX_KIND_DIR), e = make(f, d.ino, "e", SX_KIND_DIR);
    make(f, f->root, "x", SX_KIND_FILE);
    make(f, f->root, "y", SX_KIND_FILE);
    SxCaps caps = f->caps;
    int id;
    gint64 other;
    assert_true(sx_tree_add_provider(f->tree, "two", "Two", &caps, &id, &other, NULL));
    assert_int_equal(mv(f, f->root, "d", e.ino, "z", 0), -EINVAL);
    assert_int_equal(mv(f, f->root, "d", d.ino, "z", 0), -EINVAL);
    assert_int_equal(mv(f, f->root, "x", f->root, "d", 0), -EISDIR);
    assert_int_equal(mv(f, f->root, "d", f->root, "x", 0), -ENOTDIR);
    assert_int_equal(mv(f, f->root, "x", f->root, "y", RENAME_NOREPLACE), -EEXIST);
    assert_int_equal(mv(f, f->root, "x", f->root, "q", RENAME_EXCHANGE), -ENOENT);
    assert_int_equal(mv(f, f->root, "q", f->root, "x", 0), -ENOENT);
    assert_int_equal(mv(f, f->root, "x", other, "x", 0), -EXDEV);
    assert_int_equal(mv(f, SX_ROOT_INO, "Files", f->root, "x", 0), -EPERM);
    assert_int_equal(mv(f, f->root, "x", f->root, "y", 0x80), -EINVAL);
    assert_int_equal(mv(f, f->root, "d", d.ino, "e", RENAME_EXCHANGE), -EINVAL);
    assert_int_equal(mv(f, d.ino, "e", f->root, "d", RENAME_EXCHANGE), -EINVAL);
    make(f, f->root, "full", SX_KIND_DIR);
    assert_int_equal(mv(f, f->root, "full", f->root, "d", 0), -ENOTEMPTY);
    assert_int_equal(mv(f, f->root, "full", e.ino, "moved", 0), 0);
    check(f);
}

static void
rename_replaces_and_exchanges(void **state)
{
    Fix *f = *state;
    SxAttr x = make(f, f->root, "x", SX_KIND_FILE), y = make(f, f->root, "y", SX_KIND_FILE), d = make(f, f->root, "d", SX_KIND_DIR), r;
    SxRenamed ren;
    assert_int_equal(sx_tree_rename(f->tree, f->root, "x", f->root, "y", 0, true, 0, &ren), 0);
    assert_true(ren.replaced);
    assert_int_equal(ren.moved.ino, x.ino);
    assert_int_equal(ren.victim.ino, y.ino);
    assert_int_equal(ren.victim.nlink, 0);
    assert_int_equal(sx_tree_getattr(f->tree, y.ino, &r), 0);
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "y", &r), 0);
    assert_int_equal(r.ino, x.ino);
    assert_int_equal(ren.moved.row, r.row);
    assert_int_equal(mv(f, f->root, "y", f->root, "d", RENAME_EXCHANGE), 0);
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "y", &r), 0);
    assert_int_equal(r.ino, d.ino);
    SxAttr sub = make(f, d.ino, "sub", SX_KIND_DIR);
    assert_int_equal(mv(f, d.ino, "sub", f->root, "d", RENAME_EXCHANGE), 0);
    assert_int_equal(sx_tree_getattr(f->tree, d.ino, &r), 0);
    assert_int_equal(r.nlink, 2);
    assert_int_equal(sx_tree_resolve(f->tree, "Files/y/sub", &r), 0);
    assert_int_equal(r.ino, x.ino);
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "d", &r), 0);
    assert_int_equal(r.ino, sub.ino);
    assert_int_equal(sx_tree_link(f->tree, x.ino, f->root, "same", 0, &r), 0);
    assert_int_equal(mv(f, f->root, "same", d.ino, "sub", 0), 0);
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "same", &r), 0);
    assert_int_equal(r.nlink, 2);
    check(f);
}

static void
setgid_directories_hand_down_their_group(void **state)
{
    Fix *f = *state;
    SxNew n = new_of(SX_KIND_DIR);
    n.mode = 02775;
    n.gid = 77;
    SxAttr d, r;
    assert_int_equal(sx_tree_create(f->tree, f->root, "d", &n, &d), 0);
    n.gid = 5;
    n.mode = 0700;
    assert_int_equal(sx_tree_create(f->tree, d.ino, "sub", &n, &r), 0);
    assert_int_equal(r.gid, 77);
    assert_int_equal(r.mode, 02700);
    n.kind = SX_KIND_FILE;
    assert_int_equal(sx_tree_create(f->tree, d.ino, "file", &n, &r), 0);
    assert_int_equal(r.gid, 77);
    assert_int_equal(r.mode, 0700);
    check(f);
}

static void
attributes_and_write_sessions(void **state)
{
    Fix *f = *state;
    SxAttr x = make(f, f->root, "x", SX_KIND_FILE), r, v = {.mode = 0600, .uid = 3, .mtime_ns = 42, .atime_ns = 43};
    tick(f);
    assert_int_equal(sx_tree_setattr(f->tree, x.ino, SX_SET_MODE | SX_SET_UID | SX_SET_MTIME | SX_SET_ATIME, &v, 0, &r), 0);
    assert_int_equal(sx_tree_getattr(f->tree, x.ino, &r), 0);
    assert_int_equal(r.mode, 0600);
    assert_int_equal(r.uid, 3);
    assert_int_equal(r.gid, x.gid);
    assert_int_equal(r.mtime_ns, 42);
    assert_int_equal(r.atime_ns, 43);
    assert_true(r.ctime_ns > x.ctime_ns);
    assert_int_equal(sx_tree_write_begin(f->tree, x.ino, &r), 0);
    assert_true(r.writing && r.gen > x.gen);
    g_autoptr(GArray) unfinished = sx_tree_unfinished(f->tree);
    assert_int_equal(unfinished->len, 1);
    assert_int_equal(sx_tree_write_end(f->tree, x.ino, 1234, 77, false, 5, &r), 0);
    assert_true(r.writing);
    assert_int_equal(sx_tree_write_end(f->tree, x.ino, 1235, 78, true, 5, &r), 0);
    assert_false(r.writing);
    assert_int_equal(sx_tree_getattr(f->tree, x.ino, &r), 0);
    assert_int_equal(r.size, 1235);
    assert_int_equal(r.mtime_ns, 78);
    assert_int_equal(sx_tree_write_end(f->tree, x.ino, -1, 78, true, 5, &r), -EINVAL);
    assert_int_equal(sx_tree_write_begin(f->tree, f->root, &r), -EISDIR);
    check(f);
}

static void
everything_survives_a_reopen(void **state)
{
    Fix *f = *state;
    SxAttr d = make(f, f->root, "d", SX_KIND_DIR), x = make(f, d.ino, "x\xff\xfe", SX_KIND_FILE), r;
    reopen(f, false);
    assert_true(sx_tree_was_clean(f->tree));
    assert_true(sx_tree_same_boot(f->tree));
    assert_int_equal(sx_tree_lookup(f->tree, d.ino, "x\xff\xfe", &r), 0);
    assert_int_equal(r.ino, x.ino);
    reopen(f, true);
    assert_false(sx_tree_was_clean(f->tree));
    SxAttr y = make(f, d.ino, "y", SX_KIND_FILE);
    assert_true(y.ino > x.ino);
    check(f);
}

static void
a_killed_tree_changes_nothing(void **state)
{
    Fix *f = *state;
    sx_tree_kill(f->tree);
    SxNew n = new_of(SX_KIND_FILE);
    SxAttr r;
    assert_int_equal(sx_tree_create(f->tree, f->root, "x", &n, &r), -EIO);
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "x", &r), -ENOENT);
    reopen(f, false);
    assert_false(sx_tree_was_clean(f->tree));
}

static void
a_second_opener_is_refused(void **state)
{
    Fix *f = *state;
    g_autoptr(GError) error = NULL;
    SxTreeOptions o = options_of(f);
    assert_null(sx_tree_open(&o, &error));
    assert_true(sx_error_is(error, SX_ERR_BUSY));
}

static void
providers_come_and_go(void **state)
{
    Fix *f = *state;
    int id;
    gint64 two, again;
    SxAttr a;
    g_autoptr(GError) error = NULL;
    assert_true(sx_tree_add_provider(f->tree, "two", "Two", &f->caps, &id, &two, NULL));
    SxAttr x = make(f, two, "x", SX_KIND_FILE);
    assert_false(sx_tree_add_provider(f->tree, "bad", "a/b", &f->caps, &id, &again, &error));
    assert_true(sx_error_is(error, SX_ERR_NAME));
    check(f);
    reopen(f, false); /* two is not configured any more */
    assert_int_equal(sx_tree_lookup(f->tree, SX_ROOT_INO, "Two", &a), -ENOENT);
    assert_int_equal(sx_tree_resolve(f->tree, "Two/x", &a), -ENOENT);
    g_autoptr(GString) s = g_string_new(NULL);
    assert_int_equal(sx_tree_readdir(f->tree, SX_ROOT_INO, 0, collect, s), 0);
    assert_string_equal(s->str, "Files ");
    g_autoptr(GPtrArray) rows = sx_tree_pending(f->tree, 0, NOW_MS(f), 10);
    assert_int_equal(rows->len, 0);
    /* Its name is given to another one, and then it comes back under a new one. */
    assert_true(sx_tree_add_provider(f->tree, "three", "Two", &f->caps, &id, &again, NULL));
    assert_int_not_equal(again, two);
    assert_true(sx_tree_add_provider(f->tree, "two", "Second", &f->caps, &id, &again, NULL));
    assert_int_equal(again, two);
    assert_int_equal(sx_tree_resolve(f->tree, "Second/x", &a), 0);
    assert_int_equal(a.ino, x.ino);
    check(f);
}

#define THREADS 4
#define EACH 150

typedef struct Worker {
    Fix *f;
    gint64 shared;
    int n, failures;
} Worker;

static bool
count_all(void *data, gint64 cookie, const char *name, const SxAttr *attr)
{
    ++*(int *)data;
    return true;
}

/* Each thread has names of its own in one directory, and all rename onto one shared name. */
static gpointer
work(gpointer data)
{
    Worker *w = data;
    SxTree *tree = w->f->tree;
    for (int i = 0; i < EACH; i++) {
        g_autofree char *name = g_strdup_printf("%d-%d", w->n, i);
        SxNew n = new_of(SX_KIND_FILE);
        SxAttr a, b;
        w->failures += sx_tree_create(tree, w->shared, name, &n, &a) != 0;
        w->failures += sx_tree_lookup(tree, w->shared, name, &b) != 0 || a.ino != b.ino;
        w->failures += sx_tree_write_begin(tree, a.ino, &b) != 0 || sx_tree_write_end(tree, a.ino, i, 1, true, 0, &b) != 0;
        if (i % 3 == 0)
            w->failures += mv(w->f, w->shared, name, w->shared, "shared", 0) != 0;
        int seen = 0;
        w->failures += sx_tree_readdir(tree, w->shared, 0, count_all, &seen) != 0 || seen < 1;
        g_autofree char *path = sx_tree_path(tree, w->shared);
        w->failures += g_strcmp0(path, "Files/d") != 0;
        g_autoptr(GPtrArray) rows = sx_tree_pending(tree, 0, NOW_MS(w->f), 5);
        w->failures += rows->len != 5 && i > 10;
    }
    return NULL;
}

static void
threads_do_not_disturb_each_other(void **state)
{
    Fix *f = *state;
    SxAttr d = make(f, f->root, "d", SX_KIND_DIR);
    Worker w[THREADS];
    GThread *threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        w[i] = (Worker){.f = f, .shared = d.ino, .n = i};
        threads[i] = g_thread_new("work", work, &w[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        g_thread_join(threads[i]);
        assert_int_equal(w[i].failures, 0);
    }
    int n = 0;
    assert_int_equal(sx_tree_readdir(f->tree, d.ino, 0, count_all, &n), 0);
    assert_int_equal(n, THREADS * EACH * 2 / 3 + 1);
    check(f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(created_files_are_found),
        TEST(directories_list_in_order_and_from_the_middle),
        TEST(paths_go_both_ways),
        TEST(link_counts_and_times_follow),
        TEST(rename_has_its_errors),
        TEST(rename_replaces_and_exchanges),
        TEST(setgid_directories_hand_down_their_group),
        TEST(attributes_and_write_sessions),
        TEST(everything_survives_a_reopen),
        TEST(a_killed_tree_changes_nothing),
        TEST(a_second_opener_is_refused),
        TEST(providers_come_and_go),
        TEST(threads_do_not_disturb_each_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
