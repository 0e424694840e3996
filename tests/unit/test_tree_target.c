/* What an operation may have made before its end was heard: it must neither come back from the dead nor be lost. */
#include "tree_fixture.h"

#include "base/path.h"

static void
list(Fix *f, gint64 dir, const char *const *names, bool gone)
{
    g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func((GDestroyNotify)sx_remote_free);
    for (; *names != NULL; names++) {
        SxRemote *r = sx_remote_new(*names, SX_KIND_FILE);
        r->size = 3;
        g_free(r->version);
        r->version = g_strdup("v1");
        g_ptr_array_add(entries, r);
    }
    g_autoptr(GHashTable) confirmed = g_hash_table_new(g_str_hash, g_str_equal);
    g_hash_table_add(confirmed, (gpointer)"old");
    SxListing l = {.dir = dir, .entries = entries, .confirmed_gone = gone ? confirmed : NULL, .listed_real_ms = NOW_MS(f)};
    SxListed listed;
    g_autoptr(SxChanges) changes = sx_changes_new();
    g_autoptr(GError) error = NULL;
    if (!sx_tree_apply_listing(f->tree, &l, changes, &listed, &error))
        fail_msg("%s", error->message);
    sx_listed_clear(&listed);
    check(f);
}
#define LIST(f, gone, ...) list((f), (f)->root, (const char *const[]){__VA_ARGS__, NULL}, gone)

static bool
shown(Fix *f, const char *name)
{
    SxAttr a;
    return sx_tree_lookup(f->tree, f->root, name, &a) == 0;
}

static void
set_target(Fix *f, gint64 row, const char *name)
{
    assert_true(sx_tree_set_target(f->tree, row, f->root, name, "3:abc", NULL));
    check(f);
}

static gint64
made_and_deleted(Fix *f)
{
    SxAttr a = make(f, f->root, "new", SX_KIND_FILE), gone;
    set_target(f, a.row, "new");
    assert_int_equal(sx_tree_unlink(f->tree, f->root, "new", false, 0, &gone), 0);
    reopen(f, true);
    check(f);
    g_autoptr(SxRow) row = sx_tree_row(f->tree, a.row);
    assert_non_null(row);
    assert_int_equal(row->pending, SX_PENDING_TARGET);
    LIST(f, false, "new");
    assert_false(shown(f, "new"));
    return a.row;
}

static void
deleted_while_made_and_there(void **state)
{
    Fix *f = *state;
    gint64 id = made_and_deleted(f);
    g_autoptr(SxRemote) there = sx_remote_new("new", SX_KIND_FILE);
    there->size = 3;
    g_free(there->version);
    there->version = g_strdup("v1");
    assert_true(sx_tree_done_create(f->tree, id, f->root, "new", 0, there, NULL));
    check(f);
    g_autoptr(SxRow) row = sx_tree_row(f->tree, id);
    assert_int_equal(row->pending, SX_PENDING_DELETE);
    assert_string_equal(row->base_version, "v1");
}

static void
deleted_while_made_and_not_there(void **state)
{
    Fix *f = *state;
    gint64 id = made_and_deleted(f);
    assert_true(sx_tree_clear_target(f->tree, id, NULL));
    check(f);
    assert_null(sx_tree_row(f->tree, id));
    LIST(f, false, "new"); /* somebody else's, then */
    assert_true(shown(f, "new"));
}

static void
directory_deleted_while_made(void **state)
{
    Fix *f = *state;
    SxAttr a = make(f, f->root, "dir", SX_KIND_DIR), gone;
    set_target(f, a.row, "dir");
    assert_int_equal(sx_tree_rmdir(f->tree, f->root, "dir", 0, &gone), 0);
    check(f);
    assert_true(sx_tree_clear_target(f->tree, a.row, NULL));
    check(f);
    assert_null(sx_tree_row(f->tree, a.row));
    assert_int_equal(sx_tree_getattr(f->tree, a.ino, &gone), -ENOENT);
}

static void
renamed_while_made(void **state)
{
    Fix *f = *state;
    SxAttr a = make(f, f->root, "new", SX_KIND_FILE);
    set_target(f, a.row, "new");
    assert_int_equal(mv(f, f->root, "new", f->root, "other", 0), 0);
    LIST(f, false, "new");
    assert_false(shown(f, "new"));
    assert_int_equal(bits(f, f->root, "other"), SX_PENDING_CREATE | SX_PENDING_TARGET);
    /* A new file of that name has to wait until it is known what is there. */
    make(f, f->root, "new", SX_KIND_FILE);
    g_autoptr(SxRow) row = row_at(f, f->root, "new");
    assert_int_equal(row->occupant, a.row);
}

static void
moving_is_not_gone(void **state)
{
    Fix *f = *state;
    LIST(f, false, "old");
    g_autoptr(SxRow) row = row_at(f, f->root, "old");
    assert_int_equal(mv(f, f->root, "old", f->root, "new", 0), 0);
    set_target(f, row->id, "new");
    assert_int_equal(mv(f, f->root, "new", f->root, "old", 0), 0); /* back again: both sides look equal */
    assert_int_equal(bits(f, f->root, "old"), SX_PENDING_TARGET);
    LIST(f, true, "new"); /* but the move has happened */
    assert_true(shown(f, "old"));
    assert_false(shown(f, "new"));
    assert_true(sx_tree_done_move(f->tree, row->id, f->root, "new", NULL));
    check(f);
    assert_int_equal(bits(f, f->root, "old"), SX_PENDING_MOVE);
}

/* A directory that may have moved already: what is not found below its old place is not gone. */
static void
below_a_moving_directory_nothing_is_gone(void **state)
{
    Fix *f = *state;
    SxAttr d = make(f, f->root, "dir", SX_KIND_DIR);
    g_autoptr(SxRemote) there = sx_remote_new("dir", SX_KIND_DIR);
    assert_true(sx_tree_done_create(f->tree, d.row, f->root, "dir", 0, there, NULL));
    list(f, d.ino, (const char *const[]){"old", NULL}, false);
    set_target(f, d.row, "elsewhere");
    assert_true(sx_tree_remote_unsettled(f->tree, d.ino));
    assert_false(sx_tree_remote_unsettled(f->tree, f->root));
    g_autoptr(SxChanges) changes = sx_changes_new();
    assert_true(sx_tree_apply_stat(f->tree, d.ino, "old", NULL, changes, NULL));
    list(f, d.ino, (const char *const[]){NULL}, true);
    SxAttr a;
    assert_int_equal(sx_tree_lookup(f->tree, d.ino, "old", &a), 0);
    assert_true(sx_tree_clear_target(f->tree, d.row, NULL));
    list(f, d.ino, (const char *const[]){NULL}, true);
    assert_int_equal(sx_tree_lookup(f->tree, d.ino, "old", &a), -ENOENT);
}

static void
target_of_a_row_that_has_gone(void **state)
{
    Fix *f = *state;
    GError *error = NULL;
    assert_false(sx_tree_set_target(f->tree, 123456, f->root, "x", NULL, &error));
    assert_null(error);
}

/* Content that is on the provider only must not lose its remote side. */
static void
rename_of_uncached_content_moves_there(void **state)
{
    Fix *f = *state;
    LIST(f, false, "a", "b");
    assert_int_equal(mv(f, f->root, "a", f->root, "b", 0), 0);
    check(f);
    g_autoptr(SxRow) row = row_at(f, f->root, "b");
    assert_string_equal(row->r_name, "a");
    assert_int_equal(row->pending, SX_PENDING_MOVE);
    assert_int_equal(row->r_gen, row->gen);
}

static void
hard_link_inherits_the_only_source(void **state)
{
    Fix *f = *state;
    LIST(f, false, "a");
    SxAttr a, gone;
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "a", &a), 0);
    assert_int_equal(sx_tree_link(f->tree, a.ino, f->root, "b", 0, &gone), 0);
    assert_int_equal(sx_tree_unlink(f->tree, f->root, "a", false, 0, &gone), 0);
    check(f);
    g_autoptr(SxRow) row = sx_tree_row_of(f->tree, a.ino);
    assert_string_equal(row->r_name, "a");
    assert_string_equal(row->l_name, "b");
    assert_int_equal(row->pending, SX_PENDING_MOVE);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(deleted_while_made_and_there),      TEST(deleted_while_made_and_not_there), TEST(directory_deleted_while_made),
        TEST(renamed_while_made),                TEST(moving_is_not_gone),               TEST(below_a_moving_directory_nothing_is_gone), TEST(target_of_a_row_that_has_gone),
        TEST(rename_of_uncached_content_moves_there), TEST(hard_link_inherits_the_only_source),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
