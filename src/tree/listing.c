/* A listing, or one object, as the provider tells it: applied in one transaction.
 *
 * First every entry finds its row: by native id where the provider has such, otherwise by name. Rows that move are taken
 * out of both indexes before any is put in, so that swaps and cycles need no order. Then what happened to each object
 * is applied (object.c); at last the rows that no entry found are missing. Nothing in a listing is trusted: names that
 * must not enter and second occurrences of a name or id are left out. */
#include "tree/tree_i.h"

#include "base/path.h"

#include <errno.h>
#include <string.h>

typedef struct Listing {
    SxApply a;
    const SxListing *in;
    GPtrArray *known;      /* of SxRow: what was there before */
    GHashTable *by_name;   /* r_name -> its row in known */
    GHashTable *ids;       /* native ids in the listing */
    GHashTable *targets;   /* names at which an operation of ours may have put something: not news before that is settled */
    GHashTable *matched;   /* ids of rows that an entry has found */
    GPtrArray *displaced;  /* of SxRow (in known): another object has its place */
    GPtrArray *matches;    /* of SxMatch */
} Listing;

static void
match_free(gpointer data)
{
    SxMatch *m = data;
    g_free(m->old_name);
    g_free(m);
}

static void
listing_init(Listing *l)
{
    l->known = g_ptr_array_new_with_free_func((GDestroyNotify)sx_row_free);
    l->by_name = g_hash_table_new(g_str_hash, g_str_equal);
    l->ids = g_hash_table_new(g_str_hash, g_str_equal);
    l->targets = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    l->matched = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    l->displaced = g_ptr_array_new();
    l->matches = g_ptr_array_new_with_free_func(match_free);
}

static void
listing_clear(Listing *l)
{
    g_ptr_array_unref(l->matches);
    g_ptr_array_unref(l->displaced);
    g_hash_table_unref(l->matched);
    g_hash_table_unref(l->targets);
    g_hash_table_unref(l->ids);
    g_hash_table_unref(l->by_name);
    g_ptr_array_unref(l->known);
}

static void
know(Listing *l, SxRow *row)
{
    g_ptr_array_add(l->known, row);
    g_hash_table_insert(l->by_name, row->r_name, row);
}

/* ---- which row is meant ---- */

static void
know_targets(Listing *l)
{
    g_autoptr(SxStmt) s = sx_db_query(l->a.conn, "SELECT t_name FROM link WHERE t_parent=?1 AND t_parent>0", SX_INT(l->a.dir));
    while (sx_db_next(s))
        g_hash_table_add(l->targets, g_strdup(sx_db_text(s, 0)));
}

static bool
ignored(const Listing *l, const char *name)
{
    if (g_hash_table_contains(l->targets, name))
        return true;
    return l->in->ignore != NULL && l->in->ignore(l->in->data, name);
}

/* Entries that count: valid, the first of their name, not busy, not an upload under way. */
static GPtrArray *
useful_entries(Listing *l)
{
    GPtrArray *entries = g_ptr_array_new();
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < l->in->entries->len; i++) {
        SxRemote *e = l->in->entries->pdata[i];
        if (e->name == NULL || !sx_name_valid(e->name, strlen(e->name)) || e->kind == SX_KIND_NONE || ignored(l, e->name))
            continue;
        if (g_str_has_prefix(e->name, SX_TMP_PREFIX))
            continue;
        if (!g_hash_table_add(names, e->name))
            continue;
        g_ptr_array_add(entries, e);
        if (e->id != NULL)
            g_hash_table_add(l->ids, e->id);
    }
    return entries;
}

static SxRow *
row_by_id(Listing *l, const SxRemote *e)
{
    if (!l->a.caps.stable_ids || e->id == NULL)
        return NULL;
    g_autoptr(SxStmt) s = sx_db_query(l->a.conn,
                                      SX_ROW_SELECT "WHERE l.provider=?1 AND l.r_id=?2 AND l.r_id IS NOT NULL AND l.r_parent>0 "
                                                    "ORDER BY l.id LIMIT 1",
                                      SX_INT(l->a.provider), SX_TEXT(e->id));
    return sx_db_next(s) ? sx_tree_row_read(s) : NULL;
}

static bool
claim(Listing *l, gint64 id)
{
    return g_hash_table_add(l->matched, g_memdup2(&id, sizeof id));
}

static bool
has_moved_away(Listing *l, const SxRow *row, const SxRemote *e)
{
    return l->a.caps.stable_ids && row->r_id != NULL && e->id != NULL && strcmp(row->r_id, e->id) != 0 &&
           g_hash_table_contains(l->ids, row->r_id);
}

static SxMatch *
add_match(Listing *l, const SxRemote *e, gint64 row)
{
    SxMatch *m = g_new0(SxMatch, 1);
    m->entry = e;
    m->row = row;
    g_ptr_array_add(l->matches, m);
    return m;
}

/* The object is known under another place. Its local side follows unless the user has put it elsewhere, or the new place is
 * inside itself here. */
static void
match_moved(Listing *l, const SxRemote *e, const SxRow *row)
{
    SxMatch *m = add_match(l, e, row->id);
    m->moved = true;
    m->follows = row->l_parent == row->r_parent && g_strcmp0(row->l_name, row->r_name) == 0 &&
                 !(row->kind == SX_KIND_DIR && sx_tree_is_below(l->a.conn, l->a.dir, row->ino, false));
    m->old_parent = row->l_parent;
    m->old_name = g_strdup(row->l_name);
}

static void
find_row(Listing *l, const SxRemote *e)
{
    SxRow *here = g_hash_table_lookup(l->by_name, e->name);
    g_autoptr(SxRow) other = row_by_id(l, e);
    bool usable = other != NULL && (here == NULL || other->id != here->id) && other->kind == e->kind &&
                  !(other->kind == SX_KIND_DIR && sx_tree_is_below(l->a.conn, l->a.dir, other->ino, true));
    if (usable && claim(l, other->id)) {
        match_moved(l, e, other);
        if (here != NULL)
            g_ptr_array_add(l->displaced, here);
        return;
    }
    if (here == NULL || has_moved_away(l, here, e) || !claim(l, here->id))
        add_match(l, e, 0);
    else
        add_match(l, e, here->id);
}

/* Both sides off the indexes; they are set when the match is applied. */
static void
lift(Listing *l, const SxMatch *m)
{
    sx_db_run(l->a.conn, "UPDATE link SET r_parent=-1 WHERE id=?1", SX_INT(m->row));
    if (m->follows)
        sx_db_run(l->a.conn, "UPDATE link SET l_parent=0 WHERE id=?1", SX_INT(m->row));
}

static void
lift_moved(Listing *l)
{
    for (guint i = 0; i < l->matches->len; i++) {
        const SxMatch *m = l->matches->pdata[i];
        if (m->moved)
            lift(l, m);
    }
    for (guint i = 0; i < l->displaced->len; i++) {
        const SxRow *row = l->displaced->pdata[i];
        if (g_hash_table_contains(l->matched, &row->id))
            continue;
        g_autoptr(SxRow) fresh = sx_tree_row_load(l->a.conn, row->id);
        claim(l, row->id);
        if (fresh != NULL)
            sx_tree_remote_gone(l->a.tree, l->a.conn, fresh, l->a.changes);
    }
}

/* ---- missing ---- */

static void
handle_missing(Listing *l, SxListed *ret)
{
    bool unsettled = l->in->confirmed_gone != NULL && sx_tree_is_unsettled(l->a.conn, l->a.dir);
    for (guint i = 0; i < l->known->len; i++) {
        const SxRow *was = l->known->pdata[i];
        if (g_hash_table_contains(l->matched, &was->id) || ignored(l, was->r_name))
            continue;
        g_autoptr(SxRow) row = sx_tree_row_load(l->a.conn, was->id);
        if (row == NULL || row->r_parent != l->a.dir || row->t_parent != 0) /* may be at its target already */
            continue;
        bool confirmed = !unsettled && l->in->confirmed_gone != NULL && g_hash_table_contains(l->in->confirmed_gone, row->r_name);
        if (confirmed) {
            sx_tree_remote_gone(l->a.tree, l->a.conn, row, l->a.changes);
            ret->removed++;
        } else if (row->l_parent != 0) {
            g_ptr_array_add(ret->missing, g_strdup(row->r_name));
        }
    }
}

static void
apply_entries(Listing *l)
{
    g_autoptr(GPtrArray) entries = useful_entries(l);
    for (guint i = 0; i < entries->len; i++)
        find_row(l, entries->pdata[i]);
    lift_moved(l);
    for (guint i = 0; i < l->matches->len; i++) {
        const SxMatch *m = l->matches->pdata[i];
        const SxRow *cached = m->row != 0 && !m->moved ? g_hash_table_lookup(l->by_name, m->entry->name) : NULL;
        sx_tree_apply_object(&l->a, m, cached);
    }
    if (l->a.touched) {
        sx_tree_dir_changed(l->a.tree, l->a.conn, l->a.dir, l->a.new_dirs);
        sx_tree_tell(l->a.changes, SX_CHANGE_ATTR, 0, NULL, l->a.dir);
    }
}

/* ---- entry points ---- */

static int
begin_apply(SxTree *tree, SxApply *a, gint64 dir, SxChanges *changes, GError **error)
{
    int rc = sx_tree_begin(tree, &a->conn);
    if (rc != 0) {
        sx_tree_fail(tree, rc, "cannot apply a listing", error);
        return rc;
    }
    a->tree = tree;
    a->dir = dir;
    a->changes = changes;
    SxAttr attr;
    rc = sx_tree_node(a->conn, dir, &attr);
    if (rc == 0 && (attr.kind != SX_KIND_DIR || (!sx_tree_is_provider_root(tree, dir) && sx_tree_parent_of(a->conn, dir, true) <= 0)))
        rc = -ENOENT;
    a->provider = attr.provider;
    if (rc == 0) {
        sx_tree_caps(tree, a->provider, &a->caps);
        return 0;
    }
    rc = sx_tree_end(a->conn, rc);
    if (rc == -ENOENT)
        sx_fail(error, SX_ERR_NOT_FOUND, "%s: the listed directory is not known to be on the provider any more", tree->path);
    else
        sx_tree_fail(tree, rc, "cannot apply a listing", error);
    return rc;
}

static bool
end_apply(SxApply *a, guint changes_before, GError **error)
{
    int rc = sx_tree_end(a->conn, 0);
    if (rc == 0)
        return true;
    sx_tree_changes_cut(a->changes, changes_before);
    return sx_tree_fail(a->tree, rc, "cannot apply a listing", error);
}

bool
sx_tree_apply_listing(SxTree *tree, const SxListing *listing, SxChanges *changes, SxListed *ret, GError **error)
{
    guint before = changes != NULL ? sx_changes_len(changes) : 0;
    *ret = (SxListed){.missing = g_ptr_array_new_with_free_func(g_free)};
    Listing l = {.in = listing, .a = {.counts = ret}};
    if (begin_apply(tree, &l.a, listing->dir, changes, error) != 0)
        return false;
    listing_init(&l);
    GPtrArray *rows = sx_tree_rows(l.a.conn, SX_ROWS_BELOW_REMOTE, listing->dir);
    g_ptr_array_set_free_func(rows, NULL);
    for (guint i = 0; i < rows->len; i++)
        know(&l, rows->pdata[i]);
    g_ptr_array_unref(rows);
    ret->known = l.known->len;
    know_targets(&l);
    apply_entries(&l);
    handle_missing(&l, ret);
    sx_db_run(l.a.conn, "UPDATE inode SET listed=1, listed_ms=?2 WHERE ino=?1", SX_INT(listing->dir), SX_INT(listing->listed_real_ms));
    listing_clear(&l);
    return end_apply(&l.a, before, error);
}

void
sx_listed_clear(SxListed *l)
{
    g_clear_pointer(&l->missing, g_ptr_array_unref);
    *l = (SxListed){0};
}

bool
sx_tree_apply_stat(SxTree *tree, gint64 dir, const char *name, const SxRemote *remote, SxChanges *changes, GError **error)
{
    guint before = changes != NULL ? sx_changes_len(changes) : 0;
    g_autoptr(GPtrArray) entries = g_ptr_array_new();
    if (remote != NULL)
        g_ptr_array_add(entries, (gpointer)remote);
    SxListing in = {.dir = dir, .entries = entries};
    SxListed counts = {0};
    Listing l = {.in = &in, .a = {.counts = &counts}};
    if (remote != NULL && g_strcmp0(remote->name, name) != 0)
        return sx_fail(error, SX_ERR_INVALID, "%s: asked for “%s”, got “%s”", tree->path, name, remote->name);
    if (begin_apply(tree, &l.a, dir, changes, error) != 0)
        return false;
    listing_init(&l);
    SxRow *row = sx_tree_row_remote(l.a.conn, dir, name);
    if (row != NULL)
        know(&l, row);
    know_targets(&l);
    apply_entries(&l);
    if (remote == NULL && row != NULL && row->t_parent == 0 && !sx_tree_is_unsettled(l.a.conn, dir))
        sx_tree_remote_gone(tree, l.a.conn, row, changes);
    listing_clear(&l);
    return end_apply(&l.a, before, error);
}
