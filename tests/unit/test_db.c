/* The face of SQLite: opening what is damaged, foreign or newer; transactions, threads, power loss. */
#include "db/db.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

typedef struct Fix {
    char *dir, *path;
    SxDb *db;
} Fix;

static const char *const one[] = {"CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);", NULL};
static const char *const two[] = {"CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);", "ALTER TABLE t ADD COLUMN c INTEGER DEFAULT 7;", NULL};
static const char *const broken[] = {"CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT);", "CREATE TABLE u(x);ALTER TABLE nowhere ADD x;", NULL};

static SxDb *
open_as(Fix *f, const char *const *migrations, guint32 id, bool check, GError **error)
{
    SxDbOptions o = {.path = f->path, .what = "the test's store", .application_id = id, .migrations = migrations, .check = check,
                     .clock = sx_clock_default()};
    return sx_db_open(&o, error);
}

static int
set_up(void **state)
{
    Fix *f = *state = g_new0(Fix, 1);
    f->dir = g_dir_make_tmp("syncox-db-XXXXXX", NULL);
    f->path = g_build_filename(f->dir, "x.db", NULL);
    f->db = open_as(f, one, 77, false, NULL);
    return f->db != NULL ? 0 : -1;
}

static int
tear_down(void **state)
{
    Fix *f = *state;
    sx_db_close(f->db);
    const char *ends[] = {"", "-wal", "-shm"};
    for (int i = 0; i < 3; i++) {
        g_autofree char *file = g_strconcat(f->path, ends[i], NULL);
        unlink(file);
    }
    int rc = rmdir(f->dir);
    g_free(f->path);
    g_free(f->dir);
    g_free(f);
    return rc;
}

static int
put(Fix *f, gint64 a, const char *b, int rc)
{
    SxConn *conn;
    int begun = sx_db_write(f->db, &conn);
    if (begun != 0)
        return begun;
    sx_db_run(conn, "INSERT INTO t(a,b) VALUES(?1,?2)", SX_INT(a), SX_TEXT(b));
    return sx_db_end(conn, rc);
}

static gint64
count(Fix *f)
{
    SxConn *conn = sx_db_read(f->db);
    gint64 n = sx_db_get_int(conn, -1, "SELECT count(*) FROM t");
    assert_int_equal(sx_db_done(conn, 0), 0);
    return n;
}

static void
transactions_are_all_or_nothing(void **state)
{
    Fix *f = *state;
    assert_int_equal(put(f, 1, "x", 0), 0);
    assert_int_equal(put(f, 2, "x", -ENOENT), -ENOENT);
    assert_int_equal(count(f), 1);
    assert_int_equal(put(f, 1, "again", 0), -EIO); /* a violated constraint is an error of ours */
    SxConn *conn;
    assert_int_equal(sx_db_write(f->db, &conn), 0);
    assert_true(sx_db_begun(conn));
    sx_db_run(conn, "INSERT INTO t(a,b) VALUES(?1,?2)", SX_INT(5), SX_TEXT(NULL));
    assert_int_equal(sx_db_changed(conn), 1);
    assert_false(sx_db_run(conn, "INSERT INTO nowhere VALUES(1)"));
    assert_false(sx_db_run(conn, "INSERT INTO t(a) VALUES(6)")); /* the first error sticks */
    assert_int_equal(sx_db_get_int(conn, 42, "SELECT 1"), 42);
    assert_true(sx_db_error(conn) != 0);
    assert_int_equal(sx_db_end(conn, 0), -EIO);
    assert_int_equal(count(f), 1);
    assert_int_equal(put(f, 7, "fine again", 0), 0);
}

static void
values_come_back_as_they_went(void **state)
{
    Fix *f = *state;
    assert_int_equal(put(f, 1, "\xff\xfe'\"%", 0), 0);
    assert_int_equal(put(f, 2, NULL, 0), 0);
    SxConn *conn;
    assert_int_equal(sx_db_write(f->db, &conn), 0);
    sx_db_run(conn, "INSERT INTO t(a,b) VALUES(?1,?2)", SX_INT(3), SX_BLOB("a\0b", 3));
    assert_int_equal(sx_db_end(conn, 0), 0);
    conn = sx_db_snapshot(f->db);
    SxStmt *s = sx_db_query(conn, "SELECT b FROM t ORDER BY a");
    assert_true(sx_db_next(s));
    assert_string_equal(sx_db_text(s, 0), "\xff\xfe'\"%");
    /* The same text once more while it is in use. */
    SxStmt *inner = sx_db_query(conn, "SELECT b FROM t ORDER BY a");
    assert_true(sx_db_next(inner));
    sx_db_finish(inner);
    assert_true(sx_db_next(s));
    assert_true(sx_db_is_null(s, 0));
    assert_true(sx_db_next(s));
    gsize n;
    assert_memory_equal(sx_db_blob(s, 0, &n), "a\0b", 3);
    assert_int_equal(n, 3);
    assert_false(sx_db_next(s));
    sx_db_finish(s);
    assert_int_equal(sx_db_done(conn, 0), 0);
}

static void
a_snapshot_stays_where_it_was(void **state)
{
    Fix *f = *state;
    assert_int_equal(put(f, 1, "x", 0), 0);
    SxConn *conn = sx_db_snapshot(f->db);
    assert_int_equal(sx_db_get_int(conn, -1, "SELECT count(*) FROM t WHERE a>0"), 1);
    assert_int_equal(put(f, 2, "x", 0), 0);
    assert_int_equal(sx_db_get_int(conn, -1, "SELECT count(*) FROM t WHERE a>0"), 1);
    assert_int_equal(sx_db_done(conn, 0), 0);
    assert_int_equal(count(f), 2);
}

static void
migrations_go_forward_only(void **state)
{
    Fix *f = *state;
    g_autoptr(GError) error = NULL;
    assert_int_equal(put(f, 1, "x", 0), 0);
    g_clear_pointer(&f->db, sx_db_close);
    assert_null(open_as(f, broken, 77, false, &error));
    g_clear_error(&error);
    f->db = open_as(f, two, 77, true, &error);
    assert_non_null(f->db);
    SxConn *conn = sx_db_read(f->db);
    assert_int_equal(sx_db_get_int(conn, -1, "SELECT c FROM t"), 7);
    assert_int_equal(sx_db_get_int(conn, -1, "SELECT count(*) FROM sqlite_schema WHERE name='u'"), 0);
    sx_db_done(conn, 0);
    g_clear_pointer(&f->db, sx_db_close);
    assert_null(open_as(f, one, 77, false, &error));
    assert_true(sx_error_is(error, SX_ERR_NEWER));
    assert_non_null(strstr(error->message, f->path));
}

static void
overwrite(Fix *f, off_t off, const char *what, gsize n)
{
    int fd = open(f->path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, what, n, off), n);
    close(fd);
}

static void
damaged_and_foreign_files_are_refused_and_kept(void **state)
{
    Fix *f = *state;
    g_autoptr(GError) error = NULL;
    for (int i = 0; i < 2000; i++)
        assert_int_equal(put(f, i, "some text that fills pages, some text that fills pages", 0), 0);
    g_clear_pointer(&f->db, sx_db_close);
    assert_null(open_as(f, one, 78, false, &error));
    assert_true(sx_error_is(error, SX_ERR_CORRUPT));
    g_clear_error(&error);
    g_autofree char *junk = g_strnfill(4096 * 4, '\x5a');
    overwrite(f, 4096 * 3, junk, 4096 * 4);
    assert_null(open_as(f, one, 77, true, &error));
    assert_true(sx_error_is(error, SX_ERR_CORRUPT));
    assert_non_null(strstr(error->message, f->path));
    assert_non_null(strstr(error->message, "move this file"));
    g_clear_error(&error);
    overwrite(f, 0, junk, 4096);
    assert_null(open_as(f, one, 77, false, &error));
    assert_true(sx_error_is(error, SX_ERR_CORRUPT));
    assert_int_equal(access(f->path, F_OK), 0);
    g_clear_error(&error);
    g_autofree char *dir = g_build_filename(f->dir, "no", "such", "dir", NULL);
    SxDbOptions o = {.path = dir, .what = "x", .migrations = one, .clock = sx_clock_default()};
    assert_null(sx_db_open(&o, &error));
    assert_non_null(error);
}

static void
a_killed_store_commits_nothing(void **state)
{
    Fix *f = *state;
    assert_int_equal(put(f, 1, "x", 0), 0);
    assert_int_equal(sx_db_sync(f->db), 0);
    SxConn *conn;
    assert_int_equal(sx_db_write(f->db, &conn), 0);
    sx_db_run(conn, "INSERT INTO t(a) VALUES(2)");
    sx_db_kill(f->db);
    assert_int_equal(sx_db_end(conn, 0), -EIO);
    assert_int_equal(put(f, 3, "x", 0), -EIO);
    assert_int_equal(sx_db_sync(f->db), -EIO);
    assert_int_equal(count(f), 1);
    sx_db_close(f->db);
    f->db = open_as(f, one, 77, true, NULL);
    assert_non_null(f->db);
    assert_int_equal(count(f), 1);
}

#define THREADS 4
#define EACH 300

typedef struct Worker {
    Fix *f;
    int n;
    int failures;
} Worker;

static gpointer
work(gpointer data)
{
    Worker *w = data;
    for (int i = 0; i < EACH; i++) {
        w->failures += put(w->f, w->n * EACH + i, "text", 0) != 0;
        SxConn *conn = sx_db_snapshot(w->f->db);
        gint64 a = sx_db_get_int(conn, -1, "SELECT count(*) FROM t"), b = sx_db_get_int(conn, -1, "SELECT count(a) FROM t");
        w->failures += a != b || a < i;
        w->failures += sx_db_done(conn, 0) != 0;
        if (i % 100 == 0)
            w->failures += sx_db_sync(w->f->db) != 0;
    }
    return NULL;
}

static void
many_threads_read_and_write(void **state)
{
    Fix *f = *state;
    Worker w[THREADS];
    GThread *threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        w[i] = (Worker){.f = f, .n = i};
        threads[i] = g_thread_new("work", work, &w[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        g_thread_join(threads[i]);
        assert_int_equal(w[i].failures, 0);
    }
    assert_int_equal(count(f), THREADS * EACH);
}

static void
the_wal_does_not_grow_for_ever(void **state)
{
    Fix *f = *state;
    g_autofree char *wal = g_strconcat(f->path, "-wal", NULL);
    g_autofree char *text = g_strnfill(3000, 'x');
    gint64 limit = (gint64)SX_DB_WAL_MAX * 4200;
    for (int i = 0; i < 12000; i++) {
        assert_int_equal(put(f, i, text, 0), 0);
        struct stat st;
        if (i % 500 == 0 && stat(wal, &st) == 0)
            assert_true(st.st_size < limit * 2);
    }
    assert_int_equal(count(f), 12000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(transactions_are_all_or_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(values_come_back_as_they_went, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_snapshot_stays_where_it_was, set_up, tear_down),
        cmocka_unit_test_setup_teardown(migrations_go_forward_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(damaged_and_foreign_files_are_refused_and_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_killed_store_commits_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_threads_read_and_write, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_wal_does_not_grow_for_ever, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
