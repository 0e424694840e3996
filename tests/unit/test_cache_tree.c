#include "test_cache_tree.h"

#include <errno.h>

struct SxTree {
    GMutex lock;
    GHashTable *rows; /* ino -> Row */
    bool was_clean, same_boot;
    int fail;
    bool broken;
};
typedef struct Row {
    SxAttr a;
    bool pinned;
    guint64 order;
} Row;

SxTree *
fake_tree_new(void)
{
    SxTree *t = g_new0(SxTree, 1);
    g_mutex_init(&t->lock);
    t->rows = g_hash_table_new_full(g_int64_hash, g_int64_equal, NULL, g_free);
    t->was_clean = t->same_boot = true;
    return t;
}

void
fake_tree_free(SxTree *t)
{
    g_hash_table_unref(t->rows);
    g_mutex_clear(&t->lock);
    g_free(t);
}

void
fake_tree_started(SxTree *t, bool was_clean, bool same_boot)
{
    t->was_clean = was_clean;
    t->same_boot = same_boot;
}

SxAttr *
fake_tree_add(SxTree *t, gint64 ino, gint64 size, int cached, bool dirty)
{
    g_mutex_lock(&t->lock);
    Row *r = g_new0(Row, 1);
    r->a = (SxAttr){.ino = ino, .row = ino, .size = size, .cached = cached, .dirty = dirty, .cver = 1, .gen = 1, .nlink = 1};
    r->order = (guint64)ino;
    g_hash_table_replace(t->rows, &r->a.ino, r);
    g_mutex_unlock(&t->lock);
    return &r->a;
}

static Row *
row(SxTree *t, gint64 ino)
{
    return g_hash_table_lookup(t->rows, &ino);
}

SxAttr *
fake_tree_row(SxTree *t, gint64 ino)
{
    Row *r = row(t, ino);
    return r != NULL ? &r->a : NULL;
}

void
fake_tree_remove(SxTree *t, gint64 ino)
{
    g_mutex_lock(&t->lock);
    g_hash_table_remove(t->rows, &ino);
    g_mutex_unlock(&t->lock);
}

void
fake_tree_pin(SxTree *t, gint64 ino, bool pinned)
{
    g_mutex_lock(&t->lock);
    row(t, ino)->pinned = pinned;
    g_mutex_unlock(&t->lock);
}

void
fake_tree_set_dirty(SxTree *t, gint64 ino, bool dirty)
{
    g_mutex_lock(&t->lock);
    row(t, ino)->a.dirty = dirty;
    g_mutex_unlock(&t->lock);
}

gint64
fake_tree_replace(SxTree *t, gint64 ino, gint64 size)
{
    g_mutex_lock(&t->lock);
    SxAttr *a = &row(t, ino)->a;
    a->cver++;
    a->cached = 0;
    a->size = size;
    gint64 cver = a->cver;
    g_mutex_unlock(&t->lock);
    return cver;
}

void
fake_tree_fail(SxTree *t, int err)
{
    g_mutex_lock(&t->lock);
    t->fail = err;
    g_mutex_unlock(&t->lock);
}

void
fake_tree_broken(SxTree *t, bool broken)
{
    t->broken = broken;
}

/* ---- tree.h ---- */

bool
sx_tree_was_clean(const SxTree *t)
{
    return t->was_clean;
}

bool
sx_tree_same_boot(const SxTree *t)
{
    return t->same_boot;
}

int
sx_tree_getattr(SxTree *t, gint64 ino, SxAttr *ret)
{
    g_mutex_lock(&t->lock);
    Row *r = row(t, ino);
    if (r != NULL)
        *ret = r->a;
    g_mutex_unlock(&t->lock);
    return t->broken ? -EIO : r != NULL ? 0 : -ENOENT;
}

int
sx_tree_set_cached(SxTree *t, gint64 ino, gint64 cver, int cached)
{
    g_mutex_lock(&t->lock);
    Row *r = row(t, ino);
    int rc = t->fail != 0 ? -t->fail : r == NULL ? -ENOENT : r->a.cver != cver ? -ESTALE : 0;
    if (rc == 0 && ((cached < r->a.cached && (r->a.dirty || r->a.writing)) || (cached == 0 && r->a.cached != 0 && r->pinned)))
        rc = -EBUSY;
    if (rc == 0)
        r->a.cached = cached;
    g_mutex_unlock(&t->lock);
    return rc;
}

bool
sx_tree_cver(SxTree *t, gint64 ino, gint64 *ret_cver)
{
    g_mutex_lock(&t->lock);
    Row *r = row(t, ino);
    if (r != NULL)
        *ret_cver = r->a.cver;
    g_mutex_unlock(&t->lock);
    if (t->broken)
        *ret_cver = -1;
    return t->broken || r != NULL;
}

static gint
by_order(gconstpointer a, gconstpointer b)
{
    const SxEvictable *x = a, *y = b;
    return x->used_real_ms < y->used_real_ms ? -1 : x->used_real_ms > y->used_real_ms;
}

GArray *
sx_tree_evictable(SxTree *t, guint limit)
{
    GArray *out = g_array_new(false, false, sizeof(SxEvictable));
    GHashTableIter it;
    gpointer value;
    g_mutex_lock(&t->lock);
    g_hash_table_iter_init(&it, t->rows);
    while (g_hash_table_iter_next(&it, NULL, &value)) {
        Row *r = value;
        if (r->a.cached == 0 || r->a.dirty || r->a.writing || r->pinned)
            continue;
        SxEvictable e = {r->a.ino, r->a.cver, r->a.size, (gint64)r->order};
        g_array_append_val(out, e);
    }
    g_mutex_unlock(&t->lock);
    g_array_sort(out, by_order);
    if (out->len > limit)
        g_array_set_size(out, limit);
    return out;
}
