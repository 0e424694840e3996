/* Every call that changes the store, with every write under it failing in turn: it is done, or nothing of it is. And what
 * had returned before kill -9 is there after it. */
#include "tests/unit/tree_fixture.h"
#include "tests/unit/fault_vfs.h"

#include <signal.h>
#include <sys/wait.h>

#define FAILURES_MAX 200 /* writes under one call; more would be a bug of the test */

static FaultVfs vfs;

/* ---- the state as text ---- */

static void
dump_table(sqlite3 *db, const char *table, GString *out)
{
    g_autofree char *sql = g_strdup_printf("SELECT * FROM %s ORDER BY 1,2", table);
    sqlite3_stmt *s;
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &s, NULL), SQLITE_OK);
    while (sqlite3_step(s) == SQLITE_ROW) {
        for (int i = 0; i < sqlite3_column_count(s); i++)
            g_string_append_printf(out, "%s|", (const char *)sqlite3_column_text(s, i));
        g_string_append_c(out, '\n');
    }
    sqlite3_finalize(s);
}

static char *
dump(Fix *f)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open_v2(f->path, &db, SQLITE_OPEN_READWRITE, "fault"), SQLITE_OK);
    GString *out = g_string_new(NULL);
    const char *tables[] = {"provider", "inode", "link", "xattr", "conflict"};
    for (gsize i = 0; i < G_N_ELEMENTS(tables); i++)
        dump_table(db, tables[i], out);
    sqlite3_close(db);
    return g_string_free(out, FALSE);
}

/* ---- the calls ---- */

static gint64 dir_ino, file_ino, file_row, dirty_row, hidden_row, new_row, empty_ino;

static SxRemote *
remote(const char *name, SxKind kind, const char *version)
{
    SxRemote *e = sx_remote_new(name, kind);
    g_free(e->version);
    e->version = g_strdup(version);
    e->size = 3;
    e->mode = 0644;
    e->mtime_ns = 5;
    return e;
}

static bool
apply(Fix *f, gint64 dir, const char *const *names, const char *version)
{
    g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func((GDestroyNotify)sx_remote_free);
    for (; *names != NULL; names++)
        g_ptr_array_add(entries, remote(*names, (*names)[0] == 'd' ? SX_KIND_DIR : SX_KIND_FILE, version));
    SxListing l = {.dir = dir, .entries = entries, .listed_real_ms = 1};
    SxListed ret;
    g_autoptr(SxChanges) c = sx_changes_new();
    bool ok = sx_tree_apply_listing(f->tree, &l, c, &ret, NULL);
    assert_true(ok || sx_changes_len(c) == 0);
    sx_listed_clear(&ret);
    return ok;
}

static bool
c_create(Fix *f)
{
    SxNew n = new_of(SX_KIND_FILE);
    SxAttr a;
    return sx_tree_create(f->tree, f->root, "new", &n, &a) == 0;
}
static bool
c_mkdir(Fix *f)
{
    SxNew n = new_of(SX_KIND_DIR);
    SxAttr a;
    return sx_tree_create(f->tree, dir_ino, "new", &n, &a) == 0;
}
static bool
c_orphan(Fix *f)
{
    SxNew n = new_of(SX_KIND_FILE);
    SxAttr a;
    return sx_tree_create_orphan(f->tree, f->provider, &n, &a) == 0;
}
static bool
c_link(Fix *f)
{
    SxAttr a;
    return sx_tree_link(f->tree, file_ino, dir_ino, "second", 0, &a) == 0;
}
static bool
c_unlink(Fix *f)
{
    SxAttr a;
    return sx_tree_unlink(f->tree, f->root, "file", false, 0, &a) == 0;
}
static bool
c_unlink_kept(Fix *f)
{
    SxAttr a;
    return sx_tree_unlink(f->tree, f->root, "file", true, 0, &a) == 0;
}
static bool
c_rmdir(Fix *f)
{
    SxAttr a;
    return sx_tree_rmdir(f->tree, f->root, "dempty", 0, &a) == 0;
}
static bool
c_rename(Fix *f)
{
    return mv(f, f->root, "dir", f->root, "dir2", 0) == 0;
}
static bool
c_replace(Fix *f)
{
    return mv(f, f->root, "local", f->root, "file", 0) == 0;
}
static bool
c_exchange(Fix *f)
{
    return mv(f, f->root, "file", f->root, "dir", RENAME_EXCHANGE) == 0;
}
static bool
c_setattr(Fix *f)
{
    SxAttr a, v = {.mode = 0600, .mtime_ns = 1};
    return sx_tree_setattr(f->tree, file_ino, SX_SET_MODE | SX_SET_MTIME, &v, 0, &a) == 0;
}
static bool
c_write_begin(Fix *f)
{
    SxAttr a;
    return sx_tree_write_begin(f->tree, file_ino, &a) == 0;
}
static bool
c_write_end(Fix *f)
{
    SxAttr a;
    return sx_tree_write_end(f->tree, file_ino, 99, 98, true, 7, &a) == 0;
}
static bool
c_xattr(Fix *f)
{
    return sx_tree_xattr_set(f->tree, file_ino, "user.x", "1", 1, 0) == 0;
}
static bool
c_pin(Fix *f)
{
    return sx_tree_pin(f->tree, dir_ino, 1) == 0;
}
static bool
c_cached(Fix *f)
{
    return sx_tree_set_cached(f->tree, file_ino, 1, 2) == 0;
}
static bool
c_listing(Fix *f)
{
    static const char *const names[] = {"file", "dir", "dempty", "mod", "dnew", "f1", "f2", "f3", "local", NULL};
    return apply(f, f->root, names, "v2");
}
static bool
c_done_create(Fix *f)
{
    g_autoptr(SxRemote) e = remote("local", SX_KIND_FILE, "n1");
    return sx_tree_done_create(f->tree, new_row, f->root, "local", 1, e, NULL);
}
static bool
c_done_upload(Fix *f)
{
    g_autoptr(SxRemote) e = remote("mod", SX_KIND_FILE, "n1");
    return sx_tree_done_upload(f->tree, dirty_row, 1, e, NULL);
}
static bool
c_done_move(Fix *f)
{
    return sx_tree_done_move(f->tree, file_row, dir_ino, "there", NULL);
}
static bool
c_done_remove(Fix *f)
{
    return sx_tree_done_remove(f->tree, hidden_row, NULL);
}
static bool
c_done_attr(Fix *f)
{
    return sx_tree_done_attr(f->tree, file_row, 4, 0777, NULL, NULL);
}
static bool
c_conflict(Fix *f)
{
    g_autoptr(SxRemote) e = remote("mod", SX_KIND_FILE, "n1");
    g_autofree char *name = NULL;
    return sx_tree_conflict(f->tree, dirty_row, e, "me", NULL, &name, NULL);
}
static bool
c_failed(Fix *f)
{
    g_autoptr(GError) why = sx_error_new(SX_ERR_QUOTA, "full");
    return sx_tree_failed(f->tree, dirty_row, why, 9, true, NULL);
}
static bool
c_intent(Fix *f)
{
    return sx_tree_set_intent(f->tree, dirty_row, "9:aa", NULL) ;
}
static bool
c_target(Fix *f)
{
    return sx_tree_set_target(f->tree, new_row, f->root, "local", "9:aa", NULL);
}
static bool
c_rebase(Fix *f)
{
    g_autoptr(SxRemote) e = remote("mod", SX_KIND_FILE, "n1");
    return sx_tree_rebase(f->tree, dirty_row, e, NULL);
}
static bool
c_adopt(Fix *f)
{
    g_autoptr(SxRemote) e = remote("local", SX_KIND_FILE, "n1");
    return sx_tree_adopt(f->tree, new_row, 1, e, NULL);
}
static bool
c_gone(Fix *f)
{
    return sx_tree_apply_stat(f->tree, f->root, "dempty", NULL, NULL, NULL);
}
static bool
c_touch(Fix *f)
{
    return sx_tree_touch(f->tree, file_ino, NOW_MS(f) + 1000000) == 0;
}
static bool
c_caps(Fix *f)
{
    SxCaps caps = f->caps;
    caps.set_mode = !caps.set_mode;
    return sx_tree_set_caps(f->tree, f->provider, &caps, NULL);
}
static bool
c_provider(Fix *f)
{
    int id;
    gint64 root;
    return sx_tree_add_provider(f->tree, "more", "More", &f->caps, &id, &root, NULL);
}
static bool
c_hurry(Fix *f)
{
    return sx_tree_hurry(f->tree, SX_ROOT_INO, 12345);
}

static const struct {
    const char *name;
    bool (*fn)(Fix *f);
} calls[] = {
    {"create", c_create}, {"mkdir", c_mkdir}, {"orphan", c_orphan}, {"link", c_link}, {"unlink", c_unlink},
    {"unlink kept", c_unlink_kept}, {"rmdir", c_rmdir}, {"rename", c_rename}, {"replace", c_replace},
    {"exchange", c_exchange}, {"setattr", c_setattr}, {"write_begin", c_write_begin}, {"write_end", c_write_end},
    {"xattr", c_xattr}, {"pin", c_pin}, {"cached", c_cached}, {"listing", c_listing}, {"done_create", c_done_create},
    {"done_upload", c_done_upload}, {"done_move", c_done_move}, {"done_remove", c_done_remove}, {"done_attr", c_done_attr},
    {"conflict", c_conflict}, {"failed", c_failed}, {"intent", c_intent}, {"caps", c_caps}, {"provider", c_provider},
    {"hurry", c_hurry}, {"target", c_target}, {"rebase", c_rebase}, {"adopt", c_adopt}, {"gone", c_gone}, {"touch", c_touch},
};

static void
furnish(Fix *f)
{
    static const char *const names[] = {"file", "dir", "dempty", "mod", "hidden", NULL};
    assert_true(apply(f, f->root, names, "v1"));
    SxAttr a;
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "dir", &a), 0);
    dir_ino = a.ino;
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "dempty", &a), 0);
    empty_ino = a.ino;
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "file", &a), 0);
    file_ino = a.ino;
    file_row = a.row;
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "mod", &a), 0);
    dirty_row = a.row;
    assert_int_equal(sx_tree_write_begin(f->tree, a.ino, &a), 0);
    assert_int_equal(sx_tree_write_end(f->tree, a.ino, 4, 4, true, 50000, &a), 0);
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "hidden", &a), 0);
    hidden_row = a.row;
    assert_int_equal(sx_tree_unlink(f->tree, f->root, "hidden", false, 0, &a), 0);
    new_row = make(f, f->root, "local", SX_KIND_FILE).row;
    check(f);
}

static Fix *
furnished(void)
{
    Fix *f = fix_new();
    f->vfs = "fault";
    open_tree(f);
    furnish(f);
    return f;
}

/* One call on one store, with its n-th write failing; false when the call has fewer writes. */
static bool
fail_nth(gsize which, int n, bool lasting, int code)
{
    Fix *f = furnished();
    g_autofree char *before = dump(f);
    fault_arm(&vfs, n, lasting, code);
    bool ok = calls[which].fn(f);
    bool hit = fault_disarm(&vfs);
    check(f);
    g_autofree char *after = dump(f);
    if (ok == (strcmp(before, after) == 0))
        fail_msg("%s, write %d: it said %s, and the store %s changed", calls[which].name, n, ok ? "done" : "failed", ok ? "has not" : "has");
    if (!ok) {
        assert_true(hit);
        if (!calls[which].fn(f))
            fail_msg("%s, write %d: does not work afterwards", calls[which].name, n);
        check(f);
    }
    if (n == 1) { /* what is in the file is the same */
        reopen(f, which % 2 == 0);
        check(f);
    }
    fix_free(f);
    return hit;
}

static void
each_call_is_done_or_not_done(void **state)
{
    for (gsize i = 0; i < G_N_ELEMENTS(calls); i++) {
        int n = 1;
        while (n < FAILURES_MAX && fail_nth(i, n, n % 2 == 0, n % 3 == 0 ? SQLITE_FULL : SQLITE_IOERR_WRITE))
            n++;
        assert_in_range(n, 2, FAILURES_MAX - 1); /* each of them writes */
    }
}

static void
a_full_disk_is_told_as_such(void **state)
{
    Fix *f = furnished();
    SxNew n = new_of(SX_KIND_FILE);
    SxAttr a;
    fault_arm(&vfs, 1, true, SQLITE_FULL);
    assert_int_equal(sx_tree_create(f->tree, f->root, "x", &n, &a), -ENOSPC);
    fault_disarm(&vfs);
    fault_arm(&vfs, 1, true, SQLITE_IOERR_WRITE);
    assert_int_equal(sx_tree_create(f->tree, f->root, "x", &n, &a), -EIO);
    assert_int_equal(sx_tree_sync(f->tree), -EIO);
    fault_disarm(&vfs);
    assert_int_equal(sx_tree_create(f->tree, f->root, "x", &n, &a), 0);
    assert_int_equal(sx_tree_sync(f->tree), 0);
    fix_free(f);
}

/* A new store, with every write of its making failing in turn: the next start makes it whole. */
static void
opening_can_fail_anywhere(void **state)
{
    int n = 1;
    for (bool hit = true; hit && n < FAILURES_MAX; n++) {
        Fix *f = fix_new();
        f->vfs = "fault";
        SxTreeOptions o = options_of(f);
        g_autoptr(GError) error = NULL;
        fault_arm(&vfs, n, false, SQLITE_IOERR_WRITE);
        f->tree = sx_tree_open(&o, &error);
        hit = fault_disarm(&vfs);
        assert_true((f->tree == NULL) == (error != NULL));
        if (f->tree == NULL)
            open_tree(f);
        else
            reopen(f, true);
        check(f);
        fix_free(f);
    }
    assert_in_range(n, 3, FAILURES_MAX - 1);
}

static void
what_cannot_be_read_is_not_taken_for_absent(void **state)
{
    Fix *f = furnished();
    reopen(f, true);
    SxAttr a;
    gint64 cver;
    g_autoptr(GError) error = NULL;
    gint *const faults[] = {&vfs.no_opens, &vfs.no_reads}; /* opens first: there is no reader yet */
    for (int i = 0; i < 2; i++) {
        g_atomic_int_set(faults[i], 1);
        int rc = sx_tree_lookup(f->tree, f->root, "file", &a);
        assert_true(rc < 0 && rc != -ENOENT);
        rc = sx_tree_getattr(f->tree, file_ino, &a);
        assert_true(rc < 0 && rc != -ENOENT);
        assert_true(sx_tree_cver(f->tree, file_ino, &cver)); /* else its content would be thrown away */
        assert_false(sx_tree_check(f->tree, &error));
        assert_non_null(error);
        g_clear_error(&error);
        g_atomic_int_set(faults[i], 0);
    }
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "file", &a), 0);
    check(f);
    fix_free(f);
}

static void
run_sql(Fix *f, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(f->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void
expect_refused(Fix *f, SxErrorCode code, const char *remedy)
{
    g_autofree char *before = NULL, *after = NULL;
    gsize n_before, n_after;
    g_autoptr(GError) error = NULL;
    SxTreeOptions o = options_of(f);
    assert_true(g_file_get_contents(f->path, &before, &n_before, NULL));
    assert_null(sx_tree_open(&o, &error));
    assert_true(sx_error_is(error, code));
    assert_non_null(strstr(error->message, f->path));
    assert_non_null(strstr(error->message, remedy));
    assert_true(g_file_get_contents(f->path, &after, &n_after, NULL));
    assert_int_equal(n_before, n_after);
    assert_memory_equal(before, after, n_before);
}

static void
newer_and_damaged_stores_are_refused_and_kept(void **state)
{
    Fix *f = fix_new();
    open_tree(f);
    furnish(f);
    g_clear_pointer(&f->tree, sx_tree_close);
    run_sql(f, "PRAGMA user_version=1000");
    expect_refused(f, SX_ERR_NEWER, "later");
    run_sql(f, "PRAGMA user_version=1; PRAGMA application_id=5");
    expect_refused(f, SX_ERR_CORRUPT, "another program");
    assert_true(g_file_set_contents(f->path, "this is no database, but long enough to look at, and then some more text "
                                             "so that it has more than the hundred bytes of a header", -1, NULL));
    expect_refused(f, SX_ERR_CORRUPT, "move this file");
    assert_int_equal(unlink(f->path), 0);
    open_tree(f);
    fix_free(f);
}

/* ---- kill -9 ---- */

/* Works for ever in DIR, telling each finished step through the pipe: step i makes d<i>/f, renames it to g and removes
 * the directory of step i-3. */
static void
child(Fix *f, int fd)
{
    open_tree(f);
    for (gint32 i = 0;; i++) {
        g_autofree char *name = g_strdup_printf("d%d", i), *old = g_strdup_printf("d%d", i - 3);
        SxNew dir = new_of(SX_KIND_DIR), file = new_of(SX_KIND_FILE);
        SxAttr d, a;
        bool ok = sx_tree_create(f->tree, f->root, name, &dir, &d) == 0 && sx_tree_create(f->tree, d.ino, "f", &file, &a) == 0 &&
                  mv(f, d.ino, "f", d.ino, "g", 0) == 0;
        if (ok && i >= 3)
            ok = sx_tree_lookup(f->tree, f->root, old, &d) == 0 && sx_tree_unlink(f->tree, d.ino, "g", false, 0, &a) == 0 &&
                 sx_tree_rmdir(f->tree, f->root, old, 0, &a) == 0;
        if (!ok || write(fd, &i, sizeof i) != sizeof i)
            _exit(1);
    }
}

static gint32
run_and_kill(Fix *f, int steps)
{
    int fds[2];
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        child(f, fds[1]);
    close(fds[1]);
    gint32 last = -1, step;
    while (last < steps && read(fds[0], &step, sizeof step) == sizeof step)
        last = step;
    kill(pid, SIGKILL);
    while (read(fds[0], &step, sizeof step) == sizeof step)
        last = step;
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    close(fds[0]);
    return last;
}

static void
what_had_returned_survives_kill_9(void **state)
{
    for (int round = 0; round < 5; round++) {
        Fix *f = fix_new();
        gint32 last = run_and_kill(f, 20 + round * 37);
        open_tree(f);
        assert_false(sx_tree_was_clean(f->tree));
        check(f);
        SxAttr d, a;
        for (gint32 i = 0; i <= last; i++) {
            g_autofree char *name = g_strdup_printf("d%d", i);
            int rc = sx_tree_lookup(f->tree, f->root, name, &d);
            if (i <= last - 3) {
                assert_int_equal(rc, -ENOENT);
            } else if (i > last - 2) { /* the step after the last told one may have begun to remove */
                assert_int_equal(rc, 0);
                assert_int_equal(sx_tree_lookup(f->tree, d.ino, "g", &a), 0);
                assert_int_equal(sx_tree_lookup(f->tree, d.ino, "f", &a), -ENOENT);
            }
        }
        fix_free(f);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_had_returned_survives_kill_9), /* forks: before any thread has been started */
        cmocka_unit_test(each_call_is_done_or_not_done),
        cmocka_unit_test(a_full_disk_is_told_as_such),
        cmocka_unit_test(opening_can_fail_anywhere),
        cmocka_unit_test(what_cannot_be_read_is_not_taken_for_absent),
        cmocka_unit_test(newer_and_damaged_stores_are_refused_and_kept),
    };
    fault_vfs_register(&vfs);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
