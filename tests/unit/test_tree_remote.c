/* The remote side: listings, results, conflicts, and what is pending after each. */
#include "tests/unit/tree_fixture.h"

#include "tree/tree_i.h" /* for the plans of its statements */

static SxRemote *
entry(const char *name, SxKind kind, const char *version, gint64 size)
{
    SxRemote *e = sx_remote_new(name, kind);
    g_free(e->version);
    e->version = g_strdup(version);
    e->size = size;
    e->mode = -1;
    e->mtime_ns = (gint64)1600000000 * 1000000000;
    if (kind == SX_KIND_SYMLINK)
        e->target = g_strdup("there");
    return e;
}

static SxRemote *
entry_id(const char *name, SxKind kind, const char *version, const char *id)
{
    SxRemote *e = entry(name, kind, version, 5);
    e->id = g_strdup(id);
    return e;
}

/* Applies a listing of the entries (freed), with the gone names confirmed; returns what is missing, joined. */
static char *
list(Fix *f, gint64 dir, SxChanges *changes, const char *gone, ...)
{
    g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func((GDestroyNotify)sx_remote_free);
    va_list ap;
    va_start(ap, gone);
    for (SxRemote *e; (e = va_arg(ap, SxRemote *)) != NULL;)
        g_ptr_array_add(entries, e);
    va_end(ap);
    g_autoptr(GHashTable) confirmed = g_hash_table_new(g_str_hash, g_str_equal);
    if (gone != NULL)
        g_hash_table_add(confirmed, (gpointer)gone);
    SxListing l = {.dir = dir, .entries = entries, .confirmed_gone = confirmed, .listed_real_ms = NOW_MS(f)};
    SxListed ret;
    g_autoptr(GError) error = NULL;
    if (!sx_tree_apply_listing(f->tree, &l, changes, &ret, &error))
        fail_msg("%s", error->message);
    g_ptr_array_add(ret.missing, NULL);
    char *missing = g_strjoinv(" ", (char **)ret.missing->pdata);
    sx_listed_clear(&ret);
    check(f);
    return missing;
}

#define LIST(f, dir, changes, gone, ...)                                                                               \
    do {                                                                                                               \
        g_autofree char *missing_ = list(f, dir, changes, gone, __VA_ARGS__, NULL);                                    \
        assert_string_equal(missing_, "");                                                                             \
    } while (0)

static gint64
ino_at(Fix *f, gint64 dir, const char *name)
{
    SxAttr a;
    return sx_tree_lookup(f->tree, dir, name, &a) == 0 ? a.ino : 0;
}

static void
record_upload(Fix *f, gint64 dir, const char *name, const char *version)
{
    g_autoptr(SxRow) row = row_at(f, dir, name);
    g_autoptr(SxRemote) e = entry(name, row->kind, version, row->size);
    e->mtime_ns = row->mtime_ns;
    assert_true(sx_tree_done_create(f->tree, row->id, dir, name, row->gen, e, NULL));
    assert_int_equal(bits(f, dir, name), *version == '\0' && row->kind == SX_KIND_FILE ? SX_PENDING_VERIFY : 0);
}

static void
uploaded(Fix *f, gint64 dir, const char *name, const char *version)
{
    record_upload(f, dir, name, version);
    check(f);
}

static void
overwrite(Fix *f, gint64 ino, gint64 size)
{
    SxAttr a;
    tick(f);
    assert_int_equal(sx_tree_write_begin(f->tree, ino, &a), 0);
    assert_int_equal(sx_tree_write_end(f->tree, ino, size, f->now_ns, true, 0, &a), 0);
}

static guint
n_pending(Fix *f)
{
    g_autoptr(GPtrArray) rows = sx_tree_pending(f->tree, 0, NOW_MS(f), 1000);
    return rows->len;
}

static void
a_listing_fills_a_directory(void **state)
{
    Fix *f = *state;
    g_autoptr(SxChanges) c = sx_changes_new();
    SxRemote *file = entry("file", SX_KIND_FILE, "v1", 10), *again = entry("file", SX_KIND_FILE, "v9", 99);
    file->mode = 0600;
    LIST(f, f->root, c, NULL, file, entry("dir", SX_KIND_DIR, "", 0), entry("link", SX_KIND_SYMLINK, "l", 0), again,
         entry("..", SX_KIND_DIR, "", 0), entry("a/b", SX_KIND_FILE, "", 0), entry(SX_TMP_UPLOAD "7", SX_KIND_FILE, "", 0));
    assert_int_equal(sx_changes_len(c), 4);
    SxAttr a;
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "file", &a), 0);
    assert_int_equal(a.size, 10);
    assert_int_equal(a.mode, 0600);
    assert_int_equal(a.cached, 0);
    assert_false(a.dirty);
    assert_int_equal(a.mtime_ns, (gint64)1600000000 * 1000000000);
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "dir", &a), 0);
    assert_int_equal(a.mode, 0755);
    assert_false(a.listed);
    g_autofree char *target = sx_tree_target(f->tree, ino_at(f, f->root, "link"));
    assert_string_equal(target, "there");
    assert_int_equal(sx_tree_getattr(f->tree, f->root, &a), 0);
    assert_int_equal(a.nlink, 3);
    assert_true(a.listed);
    assert_int_equal(n_pending(f), 0);
    assert_int_equal(ino_at(f, f->root, SX_TMP_UPLOAD "7"), 0);
}

static void
a_new_version_replaces_clean_content(void **state)
{
    Fix *f = *state;
    LIST(f, f->root, NULL, NULL, entry("x", SX_KIND_FILE, "v1", 10));
    SxAttr a, b;
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "x", &a), 0);
    assert_int_equal(sx_tree_set_cached(f->tree, a.ino, a.cver, 2), 0);
    g_autoptr(SxChanges) c = sx_changes_new();
    LIST(f, f->root, c, NULL, entry("x", SX_KIND_FILE, "v2", 11));
    assert_int_equal(sx_changes_len(c), 1);
    assert_int_equal(sx_changes_get(c, 0)->kind, SX_CHANGE_CONTENT);
    assert_int_equal(sx_tree_getattr(f->tree, a.ino, &b), 0);
    assert_int_equal(b.size, 11);
    assert_int_equal(b.cached, 0);
    assert_int_equal(b.cver, a.cver + 1);
    assert_true(b.gen != a.gen && !b.dirty);
    assert_int_equal(sx_tree_set_cached(f->tree, a.ino, a.cver, 2), -ESTALE);
    c = (sx_changes_free(c), sx_changes_new());
    LIST(f, f->root, c, NULL, entry("x", SX_KIND_FILE, "v2", 11));
    assert_int_equal(sx_changes_len(c), 0);
}

static void
dirty_content_stays_and_becomes_a_conflict(void **state)
{
    Fix *f = *state;
    LIST(f, f->root, NULL, NULL, entry("x.txt", SX_KIND_FILE, "v1", 10));
    gint64 mine = ino_at(f, f->root, "x.txt");
    overwrite(f, mine, 20);
    assert_int_equal(bits(f, f->root, "x.txt"), SX_PENDING_CONTENT);
    LIST(f, f->root, NULL, NULL, entry("x.txt", SX_KIND_FILE, "v2", 11));
    g_autoptr(SxRow) row = row_at(f, f->root, "x.txt");
    assert_string_equal(row->r_version, "v2");
    assert_string_equal(row->base_version, "v1");
    assert_int_equal(row->size, 20);
    g_autofree char *name = NULL;
    g_autoptr(SxRemote) e = entry("x.txt", SX_KIND_FILE, "v2", 11);
    g_autoptr(SxChanges) c = sx_changes_new();
    assert_true(sx_tree_conflict(f->tree, row->id, e, "me@here", c, &name, NULL));
    check(f);
    assert_int_equal(sx_changes_len(c), 2);
    assert_int_equal(ino_at(f, f->root, name), mine);
    assert_int_equal(bits(f, f->root, name), SX_PENDING_CREATE);
    assert_int_equal(bits(f, f->root, "x.txt"), 0);
    SxAttr a;
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "x.txt", &a), 0);
    assert_int_equal(a.size, 11);
    assert_true(a.ino != mine);
    g_autoptr(GPtrArray) conflicts = sx_tree_conflicts(f->tree);
    assert_int_equal(conflicts->len, 1);
    assert_string_equal(((SxConflict *)conflicts->pdata[0])->original, "Files/x.txt");
    assert_int_equal(sx_tree_unlink(f->tree, f->root, name, false, 0, &a), 0);
    g_autoptr(GPtrArray) none = sx_tree_conflicts(f->tree);
    assert_int_equal(none->len, 0);
    check(f);
}

static void
unknown_is_not_deleted(void **state)
{
    Fix *f = *state;
    LIST(f, f->root, NULL, NULL, entry("x", SX_KIND_FILE, "v1", 10), entry("d", SX_KIND_DIR, "", 0));
    gint64 d = ino_at(f, f->root, "d");
    LIST(f, d, NULL, NULL, entry("clean", SX_KIND_FILE, "c", 1), entry("dirty", SX_KIND_FILE, "c", 1));
    overwrite(f, ino_at(f, d, "dirty"), 3);
    g_autofree char *missing = list(f, f->root, NULL, NULL, NULL);
    assert_true(strcmp(missing, "x d") == 0 || strcmp(missing, "d x") == 0);
    assert_true(ino_at(f, f->root, "x") != 0);
    g_autoptr(SxChanges) c = sx_changes_new();
    g_autofree char *still = list(f, f->root, c, "x", NULL);
    assert_string_equal(still, "d");
    assert_int_equal(ino_at(f, f->root, "x"), 0);
    assert_int_equal(sx_changes_get(c, 0)->kind, SX_CHANGE_ENTRY_GONE);
    g_autoptr(GArray) orphans = sx_tree_orphans(f->tree);
    assert_int_equal(orphans->len, 1);
    LIST(f, f->root, NULL, "d", NULL);
    assert_int_equal(ino_at(f, d, "clean"), 0);
    assert_int_equal(bits(f, d, "dirty"), SX_PENDING_CREATE);
    assert_int_equal(bits(f, f->root, "d"), SX_PENDING_CREATE);
}

static void
a_partial_result_of_stat_is_applied(void **state)
{
    Fix *f = *state;
    g_autoptr(SxRemote) e = entry("x", SX_KIND_FILE, "v1", 10);
    assert_true(sx_tree_apply_stat(f->tree, f->root, "x", e, NULL, NULL));
    check(f);
    assert_true(ino_at(f, f->root, "x") != 0);
    assert_false(sx_tree_apply_stat(f->tree, f->root, "y", e, NULL, NULL));
    assert_true(sx_tree_apply_stat(f->tree, f->root, "x", NULL, NULL, NULL));
    check(f);
    assert_int_equal(ino_at(f, f->root, "x"), 0);
    g_autoptr(GError) error = NULL;
    assert_false(sx_tree_apply_stat(f->tree, 424242, "x", e, NULL, &error));
    assert_true(sx_error_is(error, SX_ERR_NOT_FOUND));
}

static void
uploads_are_recorded(void **state)
{
    Fix *f = *state;
    SxAttr d = make(f, f->root, "d", SX_KIND_DIR), x = make(f, d.ino, "x", SX_KIND_FILE);
    assert_int_equal(n_pending(f), 2);
    g_autoptr(SxRow) before = row_at(f, d.ino, "x");
    assert_false(before->parent_ready);
    assert_false(before->parent_chain_clean);
    assert_null(sx_tree_remote_path(f->tree, d.ino));
    uploaded(f, f->root, "d", "");
    g_autoptr(SxRow) after = row_at(f, d.ino, "x");
    assert_true(after->parent_ready && after->parent_chain_clean);
    uploaded(f, d.ino, "x", "v1");
    g_autofree char *path = sx_tree_row_remote_path(f->tree, after->id);
    assert_string_equal(path, "d/x");
    gint64 found;
    assert_true(sx_tree_find_remote_dir(f->tree, f->provider, "d", &found));
    assert_int_equal(found, d.ino);
    overwrite(f, x.ino, 7);
    SxAttr now;
    assert_int_equal(sx_tree_getattr(f->tree, x.ino, &now), 0);
    assert_true(now.dirty);
    g_autoptr(SxRemote) e = entry("x", SX_KIND_FILE, "v2", 7);
    e->mtime_ns = now.mtime_ns;
    assert_true(sx_tree_done_upload(f->tree, after->id, x.gen, e, NULL)); /* of older content */
    assert_int_equal(bits(f, d.ino, "x"), SX_PENDING_CONTENT);
    assert_true(sx_tree_done_upload(f->tree, after->id, now.gen, e, NULL));
    assert_int_equal(bits(f, d.ino, "x"), 0);
    g_autoptr(SxRow) done = row_at(f, d.ino, "x");
    assert_string_equal(done->base_version, "v2");
    assert_int_equal(n_pending(f), 0);
    g_autoptr(GArray) up = sx_tree_remote_ancestors(f->tree, d.ino);
    assert_int_equal(up->len, 2);
    check(f);
}

static void
deleting_and_coming_back(void **state)
{
    Fix *f = *state;
    SxAttr r;
    make(f, f->root, "never", SX_KIND_FILE);
    assert_int_equal(sx_tree_unlink(f->tree, f->root, "never", false, 0, &r), 0);
    assert_int_equal(n_pending(f), 0);
    make(f, f->root, "x", SX_KIND_FILE);
    uploaded(f, f->root, "x", "v1");
    g_autoptr(SxRow) old = row_at(f, f->root, "x");
    assert_int_equal(sx_tree_unlink(f->tree, f->root, "x", false, 0, &r), 0);
    g_autoptr(SxRow) hidden = sx_tree_row(f->tree, old->id);
    assert_int_equal(hidden->pending, SX_PENDING_DELETE);
    make(f, f->root, "x", SX_KIND_FILE);
    g_autoptr(SxRow) again = row_at(f, f->root, "x");
    assert_int_equal(again->id, old->id);
    assert_int_equal(again->pending, SX_PENDING_CONTENT);
    assert_string_equal(again->base_version, "v1");
    assert_true(again->ino != old->ino);
    /* vim: move aside, write anew, remove the old one */
    assert_int_equal(mv(f, f->root, "x", f->root, "x~", 0), 0);
    make(f, f->root, "x", SX_KIND_FILE);
    assert_int_equal(sx_tree_unlink(f->tree, f->root, "x~", false, 0, &r), 0);
    check(f);
    assert_int_equal(bits(f, f->root, "x"), SX_PENDING_CONTENT);
    assert_int_equal(n_pending(f), 1);
    assert_int_equal(sx_tree_unlink(f->tree, f->root, "x", false, 0, &r), 0);
    assert_true(sx_tree_done_remove(f->tree, old->id, NULL));
    assert_int_equal(n_pending(f), 0);
    assert_null(sx_tree_row(f->tree, old->id));
    check(f);
}

static void
directories_come_back_with_what_was_in_them(void **state)
{
    Fix *f = *state;
    SxAttr r;
    LIST(f, f->root, NULL, NULL, entry("d", SX_KIND_DIR, "", 0));
    gint64 d = ino_at(f, f->root, "d");
    LIST(f, d, NULL, NULL, entry("x", SX_KIND_FILE, "v1", 10));
    assert_int_equal(sx_tree_unlink(f->tree, d, "x", false, 0, &r), 0);
    assert_int_equal(sx_tree_rmdir(f->tree, f->root, "d", 0, &r), 0);
    assert_int_equal(r.nlink, 0);
    SxNew n = new_of(SX_KIND_FILE);
    assert_int_equal(sx_tree_create(f->tree, d, "in removed", &n, &r), -ENOENT);
    check(f);
    SxAttr again = make(f, f->root, "d", SX_KIND_DIR);
    check(f);
    assert_true(again.ino != d);
    assert_int_equal(bits(f, f->root, "d"), 0);
    make(f, again.ino, "x", SX_KIND_FILE);
    assert_int_equal(bits(f, again.ino, "x"), SX_PENDING_CONTENT);
    assert_int_equal(n_pending(f), 1);
    check(f);
}

static void
replace_by_rename_keeps_the_remote_object(void **state)
{
    Fix *f = *state;
    LIST(f, f->root, NULL, NULL, entry("doc", SX_KIND_FILE, "v1", 10));
    g_autoptr(SxRow) doc = row_at(f, f->root, "doc");
    make(f, f->root, "new", SX_KIND_FILE);
    assert_int_equal(mv(f, f->root, "new", f->root, "doc", 0), 0);
    check(f);
    g_autoptr(SxRow) now = row_at(f, f->root, "doc");
    assert_int_equal(now->id, doc->id);
    assert_int_equal(now->pending, SX_PENDING_CONTENT);
    assert_string_equal(now->base_version, "v1");
    assert_int_equal(n_pending(f), 1);
    /* The other one is on the provider too: it is deleted there. */
    make(f, f->root, "tmp2", SX_KIND_FILE);
    uploaded(f, f->root, "tmp2", "t1");
    assert_int_equal(mv(f, f->root, "tmp2", f->root, "doc", 0), 0);
    check(f);
    assert_int_equal(n_pending(f), 2);
    /* An upload that was under way for what is not shown any more is not taken for the new content. */
    g_autoptr(SxRemote) e = entry("doc", SX_KIND_FILE, "v2", 0);
    assert_true(sx_tree_done_upload(f->tree, doc->id, now->gen, e, NULL));
    assert_int_equal(bits(f, f->root, "doc"), SX_PENDING_CONTENT);
    g_autoptr(SxRow) last = row_at(f, f->root, "doc");
    assert_string_equal(last->base_version, "v2");
}

static void
strays_are_removed_or_taken_over(void **state)
{
    Fix *f = *state;
    SxAttr r;
    make(f, f->root, "x", SX_KIND_FILE);
    g_autoptr(SxRow) row = row_at(f, f->root, "x");
    assert_int_equal(sx_tree_unlink(f->tree, f->root, "x", false, 0, &r), 0);
    g_autoptr(SxRemote) e = entry("x", SX_KIND_FILE, "v1", 0);
    assert_true(sx_tree_done_create(f->tree, row->id, f->root, "x", row->gen, e, NULL));
    check(f);
    g_autoptr(GPtrArray) rows = sx_tree_pending(f->tree, f->provider, NOW_MS(f), 10);
    assert_int_equal(rows->len, 1);
    assert_int_equal(((SxRow *)rows->pdata[0])->pending, SX_PENDING_DELETE);
    make(f, f->root, "x", SX_KIND_FILE);
    assert_int_equal(bits(f, f->root, "x"), SX_PENDING_CONTENT);
    make(f, f->root, "y", SX_KIND_DIR);
    g_autoptr(SxRow) dir = row_at(f, f->root, "y");
    assert_int_equal(sx_tree_rmdir(f->tree, f->root, "y", 0, &r), 0);
    g_autoptr(SxRemote) de = entry("y", SX_KIND_DIR, "", 0);
    assert_true(sx_tree_done_create(f->tree, dir->id, f->root, "y", 0, de, NULL));
    check(f);
    make(f, f->root, "y", SX_KIND_DIR);
    assert_int_equal(bits(f, f->root, "y"), 0);
    check(f);
}

static void
moves_are_one_row(void **state)
{
    Fix *f = *state;
    LIST(f, f->root, NULL, NULL, entry("a", SX_KIND_DIR, "", 0), entry("b", SX_KIND_DIR, "", 0));
    gint64 a = ino_at(f, f->root, "a"), b = ino_at(f, f->root, "b");
    LIST(f, a, NULL, NULL, entry("x", SX_KIND_FILE, "v", 1), entry("y", SX_KIND_FILE, "v", 1));
    assert_int_equal(mv(f, f->root, "a", b, "moved", 0), 0);
    assert_int_equal(n_pending(f), 1);
    g_autoptr(SxRow) row = row_at(f, b, "moved");
    assert_int_equal(row->pending, SX_PENDING_MOVE);
    assert_true(row->remote_children);
    g_autofree char *before = sx_tree_remote_path(f->tree, a);
    assert_string_equal(before, "a");
    assert_true(sx_tree_done_move(f->tree, row->id, b, "moved", NULL));
    g_autofree char *after = sx_tree_remote_path(f->tree, a);
    assert_string_equal(after, "b/moved");
    assert_int_equal(n_pending(f), 0);
    assert_true(sx_tree_done_move(f->tree, row->id, a, "impossible", NULL));
    check(f);
    assert_int_equal(mv(f, b, "moved", f->root, "a", 0), 0);
    assert_int_equal(mv(f, f->root, "a", b, "moved", 0), 0);
    assert_int_equal(n_pending(f), 0);
    assert_int_equal(mv(f, a, "x", a, "y", RENAME_EXCHANGE), 0);
    g_autoptr(SxRow) x = row_at(f, a, "x");
    g_autoptr(SxRow) y = row_at(f, a, "y");
    assert_int_equal(x->pending, SX_PENDING_MOVE);
    assert_int_equal(x->occupant, y->id);
    assert_int_equal(y->occupant, x->id);
    check(f);
}

static void
native_ids_tell_moves(void **state)
{
    Fix *f = *state;
    f->caps.stable_ids = true;
    assert_true(sx_tree_set_caps(f->tree, f->provider, &f->caps, NULL));
    LIST(f, f->root, NULL, NULL, entry_id("a", SX_KIND_FILE, "v", "1"), entry_id("b", SX_KIND_FILE, "v", "2"),
         entry_id("d", SX_KIND_DIR, "", "3"), entry_id("e", SX_KIND_DIR, "", "4"));
    gint64 a = ino_at(f, f->root, "a"), b = ino_at(f, f->root, "b"), d = ino_at(f, f->root, "d"), e = ino_at(f, f->root, "e");
    LIST(f, f->root, NULL, NULL, entry_id("a", SX_KIND_FILE, "v", "2"), entry_id("b", SX_KIND_FILE, "v", "1"),
         entry_id("d", SX_KIND_DIR, "", "3"), entry_id("e", SX_KIND_DIR, "", "4"));
    assert_int_equal(ino_at(f, f->root, "a"), b);
    assert_int_equal(ino_at(f, f->root, "b"), a);
    LIST(f, e, NULL, NULL, entry_id("d2", SX_KIND_DIR, "", "3"), entry_id("twice", SX_KIND_FILE, "v", "1"),
         entry_id("twice2", SX_KIND_FILE, "v", "1"));
    assert_int_equal(ino_at(f, e, "d2"), d);
    assert_int_equal(ino_at(f, e, "twice"), a);
    assert_true(ino_at(f, e, "twice2") != a);
    SxAttr attr;
    assert_int_equal(sx_tree_getattr(f->tree, f->root, &attr), 0);
    assert_int_equal(attr.nlink, 3);
    /* Moved there while it was moved here: here wins. */
    assert_int_equal(mv(f, e, "twice", d, "mine", 0), 0);
    LIST(f, f->root, NULL, NULL, entry_id("a", SX_KIND_FILE, "v", "1"), entry_id("b", SX_KIND_FILE, "v", "9"),
         entry_id("e", SX_KIND_DIR, "", "4"));
    assert_int_equal(ino_at(f, d, "mine"), a);
    assert_int_equal(bits(f, d, "mine"), SX_PENDING_MOVE);
    assert_int_equal(n_pending(f), 1);
}

static void
the_same_name_on_both_sides(void **state)
{
    Fix *f = *state;
    SxAttr d = make(f, f->root, "d", SX_KIND_DIR);
    make(f, d.ino, "mine", SX_KIND_FILE);
    make(f, f->root, "x", SX_KIND_FILE);
    make(f, f->root, "k", SX_KIND_DIR);
    make(f, f->root, "l", SX_KIND_SYMLINK);
    g_autoptr(SxChanges) c = sx_changes_new();
    LIST(f, f->root, c, NULL, entry("d", SX_KIND_DIR, "", 0), entry("x", SX_KIND_FILE, "v1", 4), entry("k", SX_KIND_FILE, "k1", 4),
         entry("l", SX_KIND_SYMLINK, "", 5));
    assert_int_equal(bits(f, f->root, "d"), 0);
    assert_int_equal(bits(f, f->root, "l"), 0);
    assert_int_equal(bits(f, d.ino, "mine"), SX_PENDING_CREATE);
    g_autoptr(SxRow) x = row_at(f, f->root, "x");
    assert_int_equal(x->pending, SX_PENDING_CONTENT);
    assert_null(x->base_version);
    assert_string_equal(x->r_version, "v1");
    SxAttr k;
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "k", &k), 0);
    assert_int_equal(k.kind, SX_KIND_FILE);
    g_autoptr(GPtrArray) conflicts = sx_tree_conflicts(f->tree);
    assert_int_equal(conflicts->len, 1);
    /* A false conflict: the same bytes. */
    g_autoptr(SxRemote) e = entry("x", SX_KIND_FILE, "v1", 0);
    e->mtime_ns = x->mtime_ns;
    assert_true(sx_tree_adopt(f->tree, x->id, x->gen, e, NULL));
    assert_int_equal(bits(f, f->root, "x"), 0);
    check(f);
}

static void
their_change_beats_our_deletion(void **state)
{
    Fix *f = *state;
    SxAttr r;
    LIST(f, f->root, NULL, NULL, entry("d", SX_KIND_DIR, "", 0));
    gint64 d = ino_at(f, f->root, "d");
    LIST(f, d, NULL, NULL, entry("x", SX_KIND_FILE, "v1", 4));
    assert_int_equal(sx_tree_unlink(f->tree, d, "x", false, 0, &r), 0);
    assert_int_equal(sx_tree_rmdir(f->tree, f->root, "d", 0, &r), 0);
    LIST(f, d, NULL, NULL, entry("x", SX_KIND_FILE, "v1", 4));
    assert_int_equal(ino_at(f, f->root, "d"), 0);
    g_autoptr(SxChanges) c = sx_changes_new();
    LIST(f, d, c, NULL, entry("x", SX_KIND_FILE, "v2", 6));
    assert_int_equal(ino_at(f, f->root, "d"), d);
    assert_int_equal(bits(f, f->root, "d"), 0);
    assert_int_equal(bits(f, d, "x"), 0);
    assert_int_equal(sx_changes_len(c), 2);
}

static void
a_kind_that_changed_is_another_thing(void **state)
{
    Fix *f = *state;
    LIST(f, f->root, NULL, NULL, entry("x", SX_KIND_FILE, "v1", 4), entry("d", SX_KIND_DIR, "", 0));
    gint64 x = ino_at(f, f->root, "x"), d = ino_at(f, f->root, "d");
    LIST(f, d, NULL, NULL, entry("y", SX_KIND_FILE, "v1", 4));
    overwrite(f, ino_at(f, d, "y"), 9);
    LIST(f, f->root, NULL, NULL, entry("x", SX_KIND_DIR, "", 0), entry("d", SX_KIND_FILE, "v", 3));
    assert_true(ino_at(f, f->root, "x") != x);
    SxAttr a;
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "d", &a), 0);
    assert_int_equal(a.kind, SX_KIND_FILE);
    assert_int_equal(sx_tree_getattr(f->tree, d, &a), 0);
    assert_int_equal(a.nlink, 2); /* aside, with the dirty file in it */
    assert_int_equal(bits(f, d, "y"), SX_PENDING_CREATE);
}

static void
hard_links_part_when_one_changes_there(void **state)
{
    Fix *f = *state;
    SxAttr x = make(f, f->root, "x", SX_KIND_FILE), r;
    assert_int_equal(sx_tree_link(f->tree, x.ino, f->root, "y", 0, &r), 0);
    uploaded(f, f->root, "x", "v1");
    assert_int_equal(sx_tree_getattr(f->tree, x.ino, &r), 0);
    assert_true(r.dirty);
    assert_int_equal(sx_tree_set_cached(f->tree, x.ino, x.cver, 0), -EBUSY);
    uploaded(f, f->root, "y", "v1");
    assert_int_equal(sx_tree_getattr(f->tree, x.ino, &r), 0);
    assert_false(r.dirty);
    LIST(f, f->root, NULL, NULL, entry("x", SX_KIND_FILE, "v1", 0), entry("y", SX_KIND_FILE, "v2", 8));
    assert_int_equal(ino_at(f, f->root, "x"), x.ino);
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "y", &r), 0);
    assert_true(r.ino != x.ino);
    assert_int_equal(r.size, 8);
    assert_int_equal(sx_tree_getattr(f->tree, x.ino, &r), 0);
    assert_int_equal(r.nlink, 1);
}

static void
unknown_versions_are_verified(void **state)
{
    Fix *f = *state;
    const char *names[] = {"ours", "damaged", "foreign"};
    for (gsize i = 0; i < 3; i++) {
        SxAttr a = make(f, f->root, names[i], SX_KIND_FILE);
        overwrite(f, a.ino, 100);
        uploaded(f, f->root, names[i], "");
        assert_int_equal(sx_tree_set_cached(f->tree, a.ino, a.cver, 0), -EBUSY);
    }
    g_autoptr(GArray) none = sx_tree_evictable(f->tree, 10);
    assert_int_equal(none->len, 0);
    SxRemote *ours = entry("ours", SX_KIND_FILE, "o2", 100), *damaged = entry("damaged", SX_KIND_FILE, "d2", 50),
             *foreign = entry("foreign", SX_KIND_FILE, "f2", 100);
    g_autoptr(SxRow) row = row_at(f, f->root, "ours");
    ours->mtime_ns = damaged->mtime_ns = row->r_mtime_ns;
    foreign->mtime_ns = f->now_ns + (gint64)100 * 1000000000;
    LIST(f, f->root, NULL, NULL, ours, damaged, foreign);
    assert_int_equal(bits(f, f->root, "ours"), 0);
    assert_int_equal(bits(f, f->root, "damaged"), SX_PENDING_CONTENT);
    assert_int_equal(bits(f, f->root, "foreign"), 0);
    g_autoptr(SxRow) d = row_at(f, f->root, "damaged");
    assert_string_not_equal(d->base_version, "d2"); /* a conflict */
    SxAttr a;
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "foreign", &a), 0);
    assert_int_equal(a.cached, 0);
    assert_int_equal(sx_tree_lookup(f->tree, f->root, "ours", &a), 0);
    assert_int_equal(a.cached, 2);
    assert_int_equal(sx_tree_set_cached(f->tree, a.ino, a.cver, 0), 0);
}

/* Ours may be a day before or behind: what was made there after our upload is somebody else's all the same, and ours is ours. */
static void
the_providers_clock_verifies(void **state)
{
    Fix *f = *state;
    const gint64 s = 1000000000, day = 86400 * s, sent = f->now_ns;
    const char *names[] = {"ours", "foreign"};
    for (int ahead = -1; ahead <= 1; ahead += 2) {
        f->now_ns = sent + ahead * day;
        for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
            g_autofree char *name = g_strdup_printf("%s%d", names[i], ahead);
            overwrite(f, make(f, f->root, name, SX_KIND_FILE).ino, 100);
            g_autoptr(SxRow) row = row_at(f, f->root, name);
            g_autoptr(SxRemote) e = entry(name, SX_KIND_FILE, "", 100);
            e->mtime_ns = sent; /* the server's Date */
            assert_true(sx_tree_done_create(f->tree, row->id, f->root, name, row->gen, e, NULL));
            g_autoptr(SxRemote) there = entry(name, SX_KIND_FILE, "v2", 100);
            there->mtime_ns = sent + (i == 0 ? s / 2 : 60 * s);
            assert_true(sx_tree_apply_stat(f->tree, f->root, name, there, NULL, NULL));
            SxAttr a;
            assert_int_equal(sx_tree_lookup(f->tree, f->root, name, &a), 0);
            assert_int_equal(a.cached, i == 0 ? 2 : 0);
        }
    }
    check(f);
}

static void
attributes_go_both_ways(void **state)
{
    Fix *f = *state;
    SxRemote *e = entry("x", SX_KIND_FILE, "v1", 4);
    e->mode = 0644;
    LIST(f, f->root, NULL, NULL, e);
    SxAttr a, v = {.mode = 0600, .mtime_ns = 5};
    gint64 x = ino_at(f, f->root, "x");
    assert_int_equal(sx_tree_setattr(f->tree, x, SX_SET_MODE | SX_SET_MTIME, &v, 0, &a), 0);
    g_autoptr(SxRow) row = row_at(f, f->root, "x");
    assert_int_equal(row->pending, SX_PENDING_ATTR);
    assert_true(sx_tree_done_attr(f->tree, row->id, 5, -1, NULL, NULL));
    assert_int_equal(bits(f, f->root, "x"), SX_PENDING_ATTR);
    assert_true(sx_tree_done_attr(f->tree, row->id, SX_TIME_UNKNOWN, 0600, NULL, NULL));
    assert_int_equal(bits(f, f->root, "x"), 0);
    e = entry("x", SX_KIND_FILE, "v1", 4);
    e->mode = 0640;
    e->mtime_ns = 7;
    g_autoptr(SxChanges) c = sx_changes_new();
    LIST(f, f->root, c, NULL, e);
    assert_int_equal(sx_changes_len(c), 1);
    assert_int_equal(sx_tree_getattr(f->tree, x, &a), 0);
    assert_int_equal(a.mode, 0640);
    assert_int_equal(a.mtime_ns, 7);
    v.mtime_ns = 7 + 999999999; /* within the provider's precision */
    assert_int_equal(sx_tree_setattr(f->tree, x, SX_SET_MTIME, &v, 0, &a), 0);
    assert_int_equal(bits(f, f->root, "x"), 0);
}

static void
what_stays_local(void **state)
{
    Fix *f = *state;
    f->caps.symlinks = false;
    assert_true(sx_tree_set_caps(f->tree, f->provider, &f->caps, NULL));
    make(f, f->root, "fifo", SX_KIND_FIFO);
    make(f, f->root, "link", SX_KIND_SYMLINK);
    make(f, f->root, "x.tmp", SX_KIND_FILE);
    assert_int_equal(n_pending(f), 0);
    assert_int_equal(mv(f, f->root, "x.tmp", f->root, "x", 0), 0);
    assert_int_equal(bits(f, f->root, "x"), SX_PENDING_CREATE);
    f->caps.symlinks = true;
    assert_true(sx_tree_set_caps(f->tree, f->provider, &f->caps, NULL));
    assert_int_equal(bits(f, f->root, "link"), SX_PENDING_CREATE);
    f->caps.probed = f->caps.symlinks = false; /* a guess at the next start */
    reopen(f, false);
    assert_int_equal(bits(f, f->root, "link"), SX_PENDING_CREATE);
    check(f);
}

static void
due_times_order_the_work(void **state)
{
    Fix *f = *state;
    SxNew n = new_of(SX_KIND_FILE);
    SxAttr a[3];
    gint64 now = NOW_MS(f), due[] = {now + 2000, now + 1000, now + SX_DUE_ABSURD_MS * 2};
    const char *names[] = {"later", "soon", "clock jumped"};
    for (int i = 0; i < 3; i++) {
        n.due_real_ms = due[i];
        assert_int_equal(sx_tree_create(f->tree, f->root, names[i], &n, &a[i]), 0);
    }
    assert_int_equal(sx_tree_next_due(f->tree), now);
    g_autoptr(GPtrArray) jumped = sx_tree_pending(f->tree, 0, now, 10);
    assert_int_equal(jumped->len, 1);
    gint64 id = ((SxRow *)jumped->pdata[0])->id;
    assert_int_equal(id, a[2].row);
    g_autoptr(GError) why = sx_error_new(SX_ERR_NAME, "nas: no such name");
    assert_true(sx_tree_failed(f->tree, id, why, now + 5, true, NULL));
    assert_int_equal(sx_tree_next_due(f->tree), now + 1000);
    g_autoptr(SxRow) parked = sx_tree_row(f->tree, id);
    assert_true(parked->parked);
    assert_int_equal(parked->err, SX_ERR_NAME);
    assert_string_equal(parked->err_text, "nas: no such name");
    SxCounts counts;
    sx_tree_counts(f->tree, 0, &counts);
    assert_int_equal(counts.pending, 2);
    assert_int_equal(counts.parked, 1);
    assert_true(sx_tree_clear_errors(f->tree, f->root));
    assert_true(sx_tree_hurry(f->tree, SX_ROOT_INO, now));
    g_autoptr(GPtrArray) all = sx_tree_pending(f->tree, f->provider, now, 10);
    assert_int_equal(all->len, 3);
    g_autoptr(GPtrArray) two = sx_tree_pending(f->tree, f->provider, now, 2);
    assert_int_equal(two->len, 2);
    gint64 ids[] = {a[0].row, a[1].row};
    assert_true(sx_tree_postpone(f->tree, ids, 2, SX_PENDING_VERIFY, now + 500)); /* these have other work meanwhile */
    assert_int_equal(n_pending(f), 3);
    assert_true(sx_tree_postpone(f->tree, ids, 2, 0, now + 500));
    assert_int_equal(n_pending(f), 1);
    assert_true(sx_tree_failed(f->tree, a[0].row, why, now + 700, false, NULL));
    assert_int_equal(mv(f, f->root, "later", f->root, "other", 0), 0); /* a change forgets failures */
    g_autoptr(SxRow) moved = row_at(f, f->root, "other");
    assert_int_equal(moved->tries, 0);
    check(f);
}

static void
intents_and_resumes_end_with_the_work(void **state)
{
    Fix *f = *state;
    make(f, f->root, "x", SX_KIND_FILE);
    g_autoptr(SxRow) row = row_at(f, f->root, "x");
    assert_true(sx_tree_set_intent(f->tree, row->id, "0:abc", NULL));
    assert_true(sx_tree_set_resume(f->tree, row->id, row->gen, "state", NULL));
    reopen(f, true);
    g_autoptr(SxRow) kept = row_at(f, f->root, "x");
    assert_string_equal(kept->intent, "0:abc");
    assert_string_equal(kept->resume, "state");
    assert_int_equal(kept->resume_gen, row->gen);
    uploaded(f, f->root, "x", "v1");
    g_autoptr(SxRow) done = row_at(f, f->root, "x");
    assert_null(done->intent);
    assert_null(done->resume);
    overwrite(f, done->ino, 4);
    g_autoptr(SxRemote) e = entry("x", SX_KIND_FILE, "v5", 2);
    assert_true(sx_tree_rebase(f->tree, row->id, e, NULL));
    g_autoptr(SxRow) based = row_at(f, f->root, "x");
    assert_string_equal(based->base_version, "v5");
    assert_int_equal(based->pending, SX_PENDING_CONTENT);
}

static bool
count_rows(void *data, const SxRow *row)
{
    (*(int *)data)++;
    return true;
}

static void
work_is_found_by_directory(void **state)
{
    Fix *f = *state;
    SxAttr d = make(f, f->root, "d", SX_KIND_DIR);
    make(f, d.ino, "x", SX_KIND_FILE);
    make(f, f->root, "y", SX_KIND_FILE);
    int n = 0;
    sx_tree_each_pending(f->tree, d.ino, 100, count_rows, &n);
    assert_int_equal(n, 2);
    n = 0;
    sx_tree_each_pending(f->tree, SX_ROOT_INO, 2, count_rows, &n);
    assert_int_equal(n, 2);
}

static void
pins_are_inherited(void **state)
{
    Fix *f = *state;
    LIST(f, f->root, NULL, NULL, entry("d", SX_KIND_DIR, "", 0));
    gint64 d = ino_at(f, f->root, "d");
    assert_int_equal(sx_tree_pin(f->tree, d, 1), 0);
    g_autoptr(GArray) unlisted = sx_tree_pin_missing(f->tree, 10);
    assert_int_equal(unlisted->len, 1);
    LIST(f, d, NULL, NULL, entry("x", SX_KIND_FILE, "v", 3), entry("y", SX_KIND_FILE, "v", 3));
    gint64 x = ino_at(f, d, "x");
    assert_true(sx_tree_pinned(f->tree, x));
    g_autoptr(GArray) two = sx_tree_pin_missing(f->tree, 10);
    assert_int_equal(two->len, 2);
    assert_int_equal(sx_tree_pin(f->tree, x, 0), 0);
    assert_false(sx_tree_pinned(f->tree, x));
    assert_int_equal(sx_tree_set_cached(f->tree, x, 1, 2), 0);
    gint64 y = ino_at(f, d, "y");
    assert_int_equal(sx_tree_set_cached(f->tree, y, 1, 2), 0);
    assert_int_equal(sx_tree_set_cached(f->tree, y, 1, 0), -EBUSY);
    g_autoptr(GArray) evictable = sx_tree_evictable(f->tree, 10);
    assert_int_equal(evictable->len, 1);
    assert_int_equal(g_array_index(evictable, SxEvictable, 0).ino, x);
    assert_int_equal(sx_tree_set_cached(f->tree, x, 1, 0), 0);
    assert_int_equal(sx_tree_pin(f->tree, d, 0), 0);
    assert_false(sx_tree_pinned(f->tree, y));
    assert_int_equal(sx_tree_pin(f->tree, 4711, 1), -ENOENT);
    gint64 cver;
    assert_true(sx_tree_cver(f->tree, x, &cver));
    assert_false(sx_tree_cver(f->tree, 4711, &cver));
}

static void
extended_attributes(void **state)
{
    Fix *f = *state;
    SxAttr x = make(f, f->root, "x", SX_KIND_FILE), r;
    g_autoptr(GBytes) value = NULL;
    assert_int_equal(sx_tree_xattr_get(f->tree, x.ino, "user.a", &value), -ENODATA);
    assert_int_equal(sx_tree_xattr_get(f->tree, 4711, "user.a", &value), -ENOENT);
    assert_int_equal(sx_tree_xattr_set(f->tree, x.ino, "user.a", "1\0002", 3, 2 /* replace */), -ENODATA);
    assert_int_equal(sx_tree_xattr_set(f->tree, x.ino, "user.a", "1\0002", 3, 0), 0);
    assert_int_equal(sx_tree_xattr_set(f->tree, x.ino, "user.a", "", 0, 1 /* create */), -EEXIST);
    assert_int_equal(sx_tree_xattr_set(f->tree, x.ino, "user.empty", NULL, 0, 0), 0);
    assert_int_equal(sx_tree_xattr_get(f->tree, x.ino, "user.a", &value), 0);
    assert_int_equal(g_bytes_get_size(value), 3);
    g_autoptr(GString) names = g_string_new(NULL);
    assert_int_equal(sx_tree_xattr_list(f->tree, x.ino, names), 0);
    assert_int_equal(names->len, strlen("user.a") + strlen("user.empty") + 2);
    assert_int_equal(sx_tree_xattr_remove(f->tree, x.ino, "user.a"), 0);
    assert_int_equal(sx_tree_xattr_remove(f->tree, x.ino, "user.a"), -ENODATA);
    g_autofree char *big = g_strnfill(70000, 'x');
    assert_int_equal(sx_tree_xattr_set(f->tree, x.ino, "user.b", big, 70000, 0), -E2BIG);
    assert_int_equal(sx_tree_unlink(f->tree, f->root, "x", false, 0, &r), 0);
    check(f);
}

static bool
ignore_x(void *data, const char *name)
{
    return strcmp(name, "x") == 0;
}

static void
busy_names_are_left_alone(void **state)
{
    Fix *f = *state;
    LIST(f, f->root, NULL, NULL, entry("x", SX_KIND_FILE, "v1", 3));
    g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func((GDestroyNotify)sx_remote_free);
    SxListing l = {.dir = f->root, .entries = entries, .ignore = ignore_x, .listed_real_ms = 1};
    SxListed ret;
    assert_true(sx_tree_apply_listing(f->tree, &l, NULL, &ret, NULL));
    assert_int_equal(ret.missing->len, 0);
    sx_listed_clear(&ret);
    g_ptr_array_add(entries, entry("x", SX_KIND_FILE, "v2", 3));
    assert_true(sx_tree_apply_listing(f->tree, &l, NULL, &ret, NULL));
    sx_listed_clear(&ret);
    g_autoptr(SxRow) row = row_at(f, f->root, "x");
    assert_string_equal(row->r_version, "v1");
    g_autoptr(GArray) stale = sx_tree_stale_dirs(f->tree, f->provider, 0, 2, 10);
    assert_int_equal(stale->len, 1);
    assert_int_equal(g_array_index(stale, gint64, 0), f->root);
    g_autoptr(GArray) fresh = sx_tree_stale_dirs(f->tree, f->provider, 0, 1, 10);
    assert_int_equal(fresh->len, 0);
    l.listed_real_ms = NOW_MS(f) + 3600000; /* then the clock is put back by an hour */
    assert_true(sx_tree_apply_listing(f->tree, &l, NULL, &ret, NULL));
    sx_listed_clear(&ret);
    g_autoptr(GArray) put_back = sx_tree_stale_dirs(f->tree, f->provider, 0, 1, 10);
    assert_int_equal(put_back->len, 1);
}

static void
sides_of_a_conflict_with_a_deletion(void **state)
{
    Fix *f = *state;
    LIST(f, f->root, NULL, NULL, entry("x", SX_KIND_FILE, "v1", 3));
    overwrite(f, ino_at(f, f->root, "x"), 4);
    g_autoptr(SxRow) row = row_at(f, f->root, "x");
    char *name = NULL;
    assert_true(sx_tree_conflict(f->tree, row->id, NULL, "me", NULL, &name, NULL));
    assert_null(name);
    assert_int_equal(bits(f, f->root, "x"), SX_PENDING_CREATE);
    check(f);
    assert_false(sx_tree_conflict(f->tree, 4711, NULL, "me", NULL, &name, NULL));
}

/* Nothing that runs for each call or each look at the work may read a whole table. */
static void
no_hot_call_reads_a_whole_table(void **state)
{
    Fix *f = *state;
    SxAttr d = make(f, f->root, "d", SX_KIND_DIR), x = make(f, d.ino, "x", SX_KIND_FILE), r;
    record_upload(f, f->root, "d", "");
    record_upload(f, d.ino, "x", "v1");
    overwrite(f, x.ino, 3);
    assert_int_equal(sx_tree_link(f->tree, x.ino, f->root, "y", 0, &r), 0);
    assert_int_equal(mv(f, f->root, "y", d.ino, "z", 0), 0);
    assert_int_equal(mv(f, d.ino, "z", d.ino, "x", RENAME_EXCHANGE), 0);
    make(f, f->root, "new", SX_KIND_FILE);
    assert_int_equal(mv(f, f->root, "new", d.ino, "z", 0), 0);
    assert_int_equal(sx_tree_unlink(f->tree, d.ino, "z", false, 0, &r), 0);
    make(f, f->root, "e", SX_KIND_DIR);
    assert_int_equal(sx_tree_rmdir(f->tree, f->root, "e", 0, &r), 0);
    f->caps.stable_ids = true;
    assert_true(sx_tree_set_caps(f->tree, f->provider, &f->caps, NULL));
    g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func((GDestroyNotify)sx_remote_free);
    g_ptr_array_add(entries, entry_id("n", SX_KIND_FILE, "v", "1"));
    SxListing l = {.dir = d.ino, .entries = entries, .listed_real_ms = 1};
    SxListed ret;
    assert_true(sx_tree_apply_listing(f->tree, &l, NULL, &ret, NULL));
    sx_listed_clear(&ret);
    n_pending(f);
    sx_tree_next_due(f->tree);
    assert_int_equal(sx_tree_xattr_set(f->tree, d.ino, "user.a", "", 0, 0), 0);
    assert_int_equal(sx_tree_touch(f->tree, d.ino, NOW_MS(f) + 100000), 0);
    g_autoptr(GArray) unfinished = sx_tree_unfinished(f->tree);
    g_autoptr(GArray) stale = sx_tree_stale_dirs(f->tree, f->provider, 0, 1, 5);
    assert_true(sx_tree_pinned(f->tree, d.ino) == false);
    g_autofree char *path = sx_tree_path(f->tree, d.ino), *there = sx_tree_remote_path(f->tree, d.ino);
    g_autofree char *scans = sx_db_full_scans(f->tree->db);
    g_auto(GStrv) lines = g_strsplit(scans, "\n", -1);
    for (char **line = lines; *line != NULL; line++) /* providers are few */
        if (**line != '\0' && strstr(*line, "FROM provider") == NULL && strstr(*line, "FROM sqlite_schema") == NULL)
            fail_msg("reads a whole table: %s", *line);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_listing_fills_a_directory),
        TEST(a_new_version_replaces_clean_content),
        TEST(dirty_content_stays_and_becomes_a_conflict),
        TEST(unknown_is_not_deleted),
        TEST(a_partial_result_of_stat_is_applied),
        TEST(uploads_are_recorded),
        TEST(deleting_and_coming_back),
        TEST(directories_come_back_with_what_was_in_them),
        TEST(replace_by_rename_keeps_the_remote_object),
        TEST(strays_are_removed_or_taken_over),
        TEST(moves_are_one_row),
        TEST(native_ids_tell_moves),
        TEST(the_same_name_on_both_sides),
        TEST(their_change_beats_our_deletion),
        TEST(a_kind_that_changed_is_another_thing),
        TEST(hard_links_part_when_one_changes_there),
        TEST(unknown_versions_are_verified),
        TEST(the_providers_clock_verifies),
        TEST(attributes_go_both_ways),
        TEST(what_stays_local),
        TEST(due_times_order_the_work),
        TEST(intents_and_resumes_end_with_the_work),
        TEST(work_is_found_by_directory),
        TEST(pins_are_inherited),
        TEST(extended_attributes),
        TEST(busy_names_are_left_alone),
        TEST(sides_of_a_conflict_with_a_deletion),
        TEST(no_hot_call_reads_a_whole_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
