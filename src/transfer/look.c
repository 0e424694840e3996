/* What our own operations did while somebody looked at the other side: what a look shows of these names and paths may be
 * older than what we know, and is not believed. */
#include "transfer/transfer_i.h"

static char *
touched_key(gint64 dir, const char *name)
{
    return g_strdup_printf("%" G_GINT64_FORMAT "/%s", dir, name);
}

guint64
sx_look_begin(SxTransfer *t)
{
    g_mutex_lock(&t->lock);
    t->listings++;
    guint64 seq = t->seq;
    g_mutex_unlock(&t->lock);
    return seq;
}

static gboolean
is_at_rest(gpointer key, gpointer value, gpointer data)
{
    return ((SxTouched *)value)->n_running == 0;
}

void
sx_look_end(SxTransfer *t)
{
    g_mutex_lock(&t->lock);
    if (--t->listings == 0) {
        g_hash_table_foreach_remove(t->touched, is_at_rest, NULL);
        g_hash_table_foreach_remove(t->moved, is_at_rest, NULL);
    }
    g_mutex_unlock(&t->lock);
}

static bool
is_later(const SxTouched *touched, guint64 since)
{
    return touched != NULL && (touched->n_running > 0 || touched->seq > since);
}

bool
sx_look_name_touched(SxTransfer *t, guint64 since, gint64 dir, const char *name)
{
    g_autofree char *key = touched_key(dir, name);
    g_mutex_lock(&t->lock);
    bool yes = is_later(g_hash_table_lookup(t->touched, key), since);
    g_mutex_unlock(&t->lock);
    return yes;
}

bool
sx_look_path_moved(SxTransfer *t, guint64 since, gint64 dir)
{
    g_autoptr(GArray) above = sx_tree_remote_ancestors(t->tree, dir);
    g_mutex_lock(&t->lock);
    bool yes = false;
    for (guint i = 0; above != NULL && i < above->len && !yes; i++)
        yes = is_later(g_hash_table_lookup(t->moved, &g_array_index(above, gint64, i)), since);
    g_mutex_unlock(&t->lock);
    return yes;
}

/* lock is held */
static void
touch(SxTransfer *t, GHashTable *table, gpointer key, int delta)
{
    SxTouched *touched = g_hash_table_lookup(table, key);
    if (touched == NULL) {
        touched = g_new0(SxTouched, 1);
        g_hash_table_insert(table, key, touched);
    } else {
        g_free(key);
    }
    touched->n_running += (guint)delta;
    touched->seq = ++t->seq;
}

/* lock is held; delta +1 at begin, -1 at end */
void
sx_look_touch(SxTransfer *t, SxRun *run, int delta)
{
    if (run->from_dir != 0)
        touch(t, t->touched, touched_key(run->from_dir, run->from_name), delta);
    if (run->to_dir != 0)
        touch(t, t->touched, touched_key(run->to_dir, run->to_name), delta);
    if (run->dir_moved != 0) {
        gint64 *key = g_new(gint64, 1);
        *key = run->dir_moved;
        touch(t, t->moved, key, delta);
    }
}
