/* providers/local with other programs in the same folder, failing system calls, and crashes at each of them. */
#include "local_fixture.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- races ---- */

static void
change_f_in_place(void)
{
    sx_t_theirs("f", "their");
}
static void
replace_f(void)
{
    sx_t_theirs("other", "their");
    g_autofree char *a = sx_t_in("other"), *b = sx_t_in("f");
    assert_int_equal(rename(a, b), 0);
}
static void
remove_f(void)
{
    g_autofree char *f = sx_t_in("f");
    assert_int_equal(unlink(f), 0);
}
static void
make_f(void)
{
    sx_t_theirs("f", "their");
}

static void
a_change_in_the_last_moment_is_not_overwritten(void **state)
{
    static void (*const acts[])(void) = {change_f_in_place, replace_f, remove_f};
    for (gsize i = 0; i < G_N_ELEMENTS(acts); i++) {
        g_autoptr(SxProvider) p = sx_t_open("", &sx_t_bad_sys);
        g_autoptr(SxRemote) r = NULL;
        g_autoptr(GError) e = NULL;
        assert_true(sx_t_put(p, "f", "oldest", SX_IF_ANY, NULL, &r, &e));
        sx_t_bad = (Bad){.hook_flags = RENAME_EXCHANGE, .before_rename = acts[i]};
        assert_false(sx_t_put(p, "f", "mine", SX_IF_VERSION, r->version, NULL, &e));
        sx_t_assert_error(&e, SX_ERR_CHANGED);
        assert_null(sx_t_bad.before_rename);
        g_autofree char *names = sx_t_raw_names("");
        assert_string_equal(names, acts[i] == remove_f ? "" : "f");
        if (acts[i] != remove_f)
            sx_t_assert_content("f", "their");
    }
    g_autoptr(SxProvider) p = sx_t_open("", &sx_t_bad_sys);
    g_autoptr(GError) e = NULL;
    sx_t_bad = (Bad){.hook_flags = RENAME_NOREPLACE, .before_rename = make_f};
    assert_false(sx_t_put(p, "f", "mine", SX_IF_ABSENT, NULL, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_EXISTS);
    sx_t_assert_content("f", "their");
    g_autofree char *names = sx_t_raw_names("");
    assert_string_equal(names, "f");
}

static void
a_change_in_the_last_moment_is_not_removed(void **state)
{
    static void (*const acts[])(void) = {change_f_in_place, replace_f};
    for (gsize i = 0; i < G_N_ELEMENTS(acts); i++) {
        g_autoptr(SxProvider) p = sx_t_open("", &sx_t_bad_sys);
        g_autoptr(SxRemote) r = NULL;
        g_autoptr(GError) e = NULL;
        assert_true(sx_t_put(p, "f", "oldest", SX_IF_ANY, NULL, &r, &e));
        SxCond cond = {.kind = SX_IF_VERSION, .version = r->version, .size = -1};
        sx_t_bad = (Bad){.hook_flags = RENAME_NOREPLACE, .before_rename = acts[i]};
        assert_false(sx_provider_remove(p, "f", SX_KIND_FILE, &cond, NULL, &e));
        sx_t_assert_error(&e, SX_ERR_CHANGED);
        sx_t_assert_content("f", "their");
        g_autofree char *names = sx_t_raw_names("");
        assert_string_equal(names, "f");
    }
}

static void
a_file_system_without_the_renames_still_works(void **state)
{
    g_autoptr(SxProvider) p = sx_t_open("", &sx_t_bad_sys);
    g_autoptr(SxRemote) r = NULL;
    g_autoptr(GError) e = NULL;
    sx_t_bad = (Bad){.refuse_flags = RENAME_NOREPLACE | RENAME_EXCHANGE};
    assert_true(sx_t_put(p, "f", "one", SX_IF_ABSENT, NULL, &r, &e));
    assert_false(sx_t_put(p, "f", "two", SX_IF_ABSENT, NULL, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_EXISTS);
    assert_true(sx_t_put(p, "f", "two", SX_IF_VERSION, r->version, NULL, &e));
    assert_false(sx_t_put(p, "f", "three", SX_IF_VERSION, r->version, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_CHANGED);
    assert_true(sx_provider_move(p, "f", "g", SX_KIND_FILE, NULL, &e));
    sx_t_assert_content("g", "two");
    assert_true(sx_provider_mkdir(p, "d", NULL, NULL, &e)); /* directories cannot be linked */
    assert_true(sx_provider_move(p, "d", "e", SX_KIND_DIR, NULL, &e));
    assert_false(sx_provider_move(p, "e", "g", SX_KIND_DIR, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_EXISTS);
    assert_true(sx_provider_move(p, "e", "d", SX_KIND_DIR, NULL, &e));
    assert_true(sx_provider_remove(p, "d", SX_KIND_DIR, NULL, NULL, &e));
    assert_true(sx_provider_probe(p, NULL, &e));
    SxCaps caps;
    sx_provider_caps(p, &caps);
    assert_false(caps.conditional_write); /* and says that a race remains */
    g_autofree char *names = sx_t_raw_names("");
    assert_string_equal(names, "g");
}

static void
a_read_never_mixes_versions(void **state)
{
    g_autoptr(SxProvider) p = sx_t_open("", &sx_t_bad_sys);
    g_autoptr(GString) big = g_string_new(NULL);
    while (big->len < 600000)
        g_string_append(big, "old ");
    g_autoptr(SxRemote) r = NULL;
    g_autoptr(GError) e = NULL;
    assert_true(sx_t_put(p, "f", big->str, SX_IF_ABSENT, NULL, &r, &e));
    g_autoptr(GString) got = g_string_new(NULL);
    SxCond cond = {.kind = SX_IF_VERSION, .version = r->version, .size = 600000};
    sx_t_bad = (Bad){.before_pread = change_f_in_place};
    assert_false(sx_provider_read(p, "f", &cond, 0, -1, sx_t_add_bytes, got, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_CHANGED);
    assert_int_equal(got->len, 0);
    assert_false(sx_provider_read(p, "f", &cond, 0, -1, sx_t_add_bytes, got, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_CHANGED);
    assert_true(sx_provider_read(p, "f", NULL, 1, 3, sx_t_add_bytes, got, NULL, &e));
    assert_string_equal(got->str, "hei");
    int fd = sx_provider_lend_fd(p, "f", &cond, &e);
    assert_int_equal(fd, -1);
    sx_t_assert_error(&e, SX_ERR_CHANGED);
    fd = sx_provider_lend_fd(p, "f", NULL, &e);
    assert_true(fd >= 0);
    close(fd);
}

/* ---- failures and crashes at every call ---- */

typedef enum Act { ACT_NEW, ACT_REPLACE, ACT_ANY, ACT_REMOVE, ACT_MOVE, ACT_COPY, ACT_MKDIR, ACT_LIST, ACT_READ, ACT_ATTR, ACT_QUOTA, N_ACTS } Act;

static bool
act(SxProvider *p, Act a, const char *version, GError **error)
{
    g_autoptr(GString) got = g_string_new(NULL);
    SxCond cond = {.kind = SX_IF_VERSION, .version = version, .size = -1};
    SxQuota q;
    switch (a) {
    case ACT_NEW: return sx_t_put(p, "new", "new content", SX_IF_ABSENT, NULL, NULL, error);
    case ACT_REPLACE: return sx_t_put(p, "f", "new content", SX_IF_VERSION, version, NULL, error);
    case ACT_ANY: return sx_t_put(p, "f", "new content", SX_IF_ANY, NULL, NULL, error);
    case ACT_REMOVE: return sx_provider_remove(p, "f", SX_KIND_FILE, &cond, NULL, error);
    case ACT_MOVE: return sx_provider_move(p, "f", "d/moved", SX_KIND_FILE, NULL, error);
    case ACT_COPY: return sx_provider_copy(p, "f", "new", NULL, error);
    case ACT_MKDIR: return sx_provider_mkdir(p, "new", NULL, NULL, error);
    case ACT_LIST: {
        g_autoptr(GPtrArray) all = sx_t_list(p, "", error);
        assert_true(all == NULL || (all->len == 2 && sx_t_entry(all, "f") != NULL)); /* never a part */
        return all != NULL;
    }
    case ACT_READ: return sx_provider_read(p, "f", &cond, 0, -1, sx_t_add_bytes, got, NULL, error) && strcmp(got->str, "old") == 0;
    case ACT_ATTR: return sx_provider_set_attr(p, "f", 5, 0600, NULL, NULL, error);
    default: return sx_provider_quota(p, &q, NULL, error);
    }
}

/* Every file is wholly one of the contents there were; nothing of ours is shown; "old" is not lost unless `done`. */
static void
check_folder(SxProvider *p, Act a, bool done)
{
    g_autoptr(GPtrArray) all = sx_t_list(p, "", NULL);
    assert_non_null(all);
    bool old = false, new = false;
    g_autoptr(GString) where = g_string_new(NULL);
    for (guint i = 0; i < all->len; i++) {
        const SxRemote *r = g_ptr_array_index(all, i);
        g_string_append_printf(where, "%s ", r->name);
        assert_false(g_str_has_prefix(r->name, SX_TMP_PREFIX));
        if (r->kind != SX_KIND_FILE)
            continue;
        g_autofree char *text = sx_t_content(r->name);
        bool is_old = strcmp(text, "old") == 0, is_new = strcmp(text, "new content") == 0;
        if (!is_old && !is_new)
            fail_msg("%s holds \"%s\"", r->name, text);
        old |= is_old;
        new |= is_new;
    }
    g_autofree char *moved = sx_t_content("d/moved");
    if (moved != NULL)
        old |= strcmp(moved, "old") == 0;
    bool replaces = a == ACT_REPLACE || a == ACT_ANY;
    if (replaces && old + new != 1)
        fail_msg("neither or both contents: %s", where->str);
    if (!replaces && a != ACT_REMOVE && !old)
        fail_msg("the file is gone: %s", where->str);
    if (done && (replaces || a == ACT_NEW) && !new)
        fail_msg("it said it was done: %s", where->str);
}

static char *
fresh_folder(void)
{
    g_autofree char *root = sx_t_in("");
    nftw(root, sx_t_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    g_autoptr(SxProvider) p = sx_t_open("", sx_sys_default());
    g_autoptr(SxRemote) r = NULL;
    assert_true(sx_provider_mkdir(p, "d", NULL, NULL, NULL));
    sx_t_theirs("f", "old");
    assert_true(sx_provider_stat(p, "f", &r, NULL, NULL));
    return g_strdup(r->version);
}

static void
any_call_may_fail(void **state)
{
    static const int errors[] = {ENOSPC, EIO, EINTR, EACCES, 0};
    for (int a = 0; a < N_ACTS; a++)
        for (gsize k = 0; k < G_N_ELEMENTS(errors); k++)
            for (int n = 1;; n++) {
                g_autofree char *version = fresh_folder();
                g_autoptr(SxProvider) p = sx_t_open("", &sx_t_bad_sys);
                g_autoptr(GError) e = NULL;
                sx_t_bad = (Bad){0};
                assert_true(sx_provider_probe(p, NULL, &e));
                sx_t_bad = (Bad){.fail_at = n, .err = errors[k]};
                bool ok = act(p, (Act)a, version, &e);
                bool reached = sx_t_bad.failed;
                sx_t_bad = (Bad){0};
                if (ok != (e == NULL) || (!ok && errors[k] == EINTR) || (!ok && errors[k] == 0) || (!ok && !reached))
                    fail_msg("act %d, call %d, error %d: %s", a, n, errors[k], e != NULL ? e->message : "no reason");
                check_folder(p, (Act)a, ok);
                if (!reached) {
                    assert_true(ok && n > 1);
                    break;
                }
            }
}

static void
a_crash_at_any_call_leaves_old_or_new(void **state)
{
    for (int a = 0; a < N_ACTS; a++)
        for (int n = 1;; n++) {
            sx_t_clock_ahead_ns = 0;
            g_autofree char *version = fresh_folder();
            g_autoptr(SxProvider) p = sx_t_open("", &sx_t_bad_sys);
            sx_t_bad = (Bad){0};
            assert_true(sx_provider_probe(p, NULL, NULL));
            sx_t_bad = (Bad){.fail_at = n, .err = EIO, .for_ever = true};
            act(p, (Act)a, version, NULL);
            bool reached = sx_t_bad.failed;
            sx_t_bad = (Bad){0};
            g_autoptr(SxProvider) next = sx_t_open("", sx_sys_default());
            check_folder(next, (Act)a, false);
            sx_t_clock_ahead_ns = G_GINT64_CONSTANT(25) * 3600 * 1000000000;
            g_autoptr(GPtrArray) all = sx_t_list(next, "", NULL); /* a day later nothing of ours is left */
            g_autofree char *left = sx_t_raw_names("");
            assert_null(strstr(left, SX_TMP_PREFIX));
            check_folder(next, (Act)a, false);
            if (!reached)
                break;
        }
}

static void
change_f_then_crash(void)
{
    change_f_in_place();
    sx_t_bad.n = 0;
    sx_t_bad.fail_at = 2; /* the exchange passes, then nothing any more */
    sx_t_bad.err = EIO;
    sx_t_bad.for_ever = true;
}

static void
what_was_displaced_by_a_crash_comes_back(void **state)
{
    g_autoptr(SxProvider) p = sx_t_open("", &sx_t_bad_sys);
    g_autoptr(SxRemote) r = NULL;
    g_autoptr(GError) e = NULL;
    assert_true(sx_t_put(p, "f", "oldest", SX_IF_ANY, NULL, &r, &e));
    sx_t_bad = (Bad){.hook_flags = RENAME_EXCHANGE, .before_rename = change_f_then_crash};
    assert_false(sx_t_put(p, "f", "mine", SX_IF_VERSION, r->version, NULL, &e));
    g_clear_error(&e);
    sx_t_bad = (Bad){0};
    sx_t_assert_content("f", "mine"); /* and "their" is hidden */
    g_autoptr(SxProvider) next = sx_t_open("", sx_sys_default());
    g_autoptr(GPtrArray) today = sx_t_list(next, "", &e);
    assert_int_equal(today->len, 1);
    sx_t_clock_ahead_ns = G_GINT64_CONSTANT(25) * 3600 * 1000000000;
    g_autoptr(GPtrArray) swept = sx_t_list(next, "", &e);
    g_autoptr(GPtrArray) all = sx_t_list(next, "", &e);
    assert_int_equal(all->len, 2);
    bool found = false;
    for (guint i = 0; i < all->len; i++) {
        const SxRemote *x = g_ptr_array_index(all, i);
        if (g_str_has_prefix(x->name, "recovered file (conflict ")) {
            sx_t_assert_content(x->name, "their");
            found = true;
        }
    }
    assert_true(found);
}

static void
leftovers_do_not_keep_a_directory(void **state)
{
    g_autoptr(SxProvider) p = sx_t_open("", sx_sys_default());
    g_autoptr(GError) e = NULL;
    assert_true(sx_provider_mkdir(p, "d", NULL, NULL, &e));
    sx_t_theirs("d/" SX_TMP_UPLOAD "00000000000000aa", "half");
    assert_true(sx_provider_remove(p, "d", SX_KIND_DIR, NULL, NULL, &e));
    /* What the core has moved out of the way is somebody's file. */
    assert_true(sx_provider_mkdir(p, "d", NULL, NULL, &e));
    sx_t_theirs("d/" SX_TMP_PREFIX "17", "precious");
    sx_t_clock_ahead_ns = G_GINT64_CONSTANT(25) * 3600 * 1000000000;
    g_autoptr(GPtrArray) all = sx_t_list(p, "d", &e);
    assert_int_equal(all->len, 0);
    assert_false(sx_provider_remove(p, "d", SX_KIND_DIR, NULL, NULL, &e));
    sx_t_assert_error(&e, SX_ERR_NOT_EMPTY);
    sx_t_assert_content("d/" SX_TMP_PREFIX "17", "precious");
}

int
main(void)
{
#define T(fn) cmocka_unit_test_setup_teardown(fn, sx_t_setup, sx_t_teardown)
    const struct CMUnitTest tests[] = {
        T(a_change_in_the_last_moment_is_not_overwritten),
        T(a_change_in_the_last_moment_is_not_removed),
        T(a_file_system_without_the_renames_still_works),
        T(a_read_never_mixes_versions),
        T(any_call_may_fail),
        T(a_crash_at_any_call_leaves_old_or_new),
        T(what_was_displaced_by_a_crash_comes_back),
        T(leftovers_do_not_keep_a_directory),
    };
    sx_log_set_level(SX_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
