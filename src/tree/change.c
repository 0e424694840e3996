/* The array of what programs have to be told. */
#include "tree/tree_i.h"

struct SxChanges {
    GArray *items; /* of SxChange */
};

static void
change_clear(gpointer data)
{
    g_free(((SxChange *)data)->name);
}

SxChanges *
sx_changes_new(void)
{
    SxChanges *c = g_new0(SxChanges, 1);
    c->items = g_array_new(FALSE, FALSE, sizeof(SxChange));
    g_array_set_clear_func(c->items, change_clear);
    return c;
}

void
sx_changes_free(SxChanges *c)
{
    if (c == NULL)
        return;
    g_array_unref(c->items);
    g_free(c);
}

guint
sx_changes_len(const SxChanges *c)
{
    return c->items->len;
}

const SxChange *
sx_changes_get(const SxChanges *c, guint i)
{
    return &g_array_index(c->items, SxChange, i);
}

void
sx_tree_changes_cut(SxChanges *c, guint len)
{
    if (c != NULL)
        g_array_set_size(c->items, len);
}

void
sx_tree_tell(SxChanges *c, SxChangeKind kind, gint64 parent, const char *name, gint64 ino)
{
    if (c == NULL)
        return;
    SxChange change = {.kind = kind, .parent = parent, .name = g_strdup(name), .ino = ino};
    g_array_append_val(c->items, change);
}

void
sx_tree_tell_content(SxChanges *c, gint64 ino, gint64 size, gint64 cver)
{
    if (c == NULL)
        return;
    SxChange change = {.kind = SX_CHANGE_CONTENT, .ino = ino, .size = size, .cver = cver};
    g_array_append_val(c->items, change);
}
