/* user.syncox.status. Of several things the one that most wants a person's eye: error, conflict, transfer, pending, and
 * then how much of the content is here. */
#include "vfs/vfs_i.h"

#include "base/path.h"

#define BELOW_MAX 1000 /* rows with pending work that are looked at for a directory */

typedef struct Below {
    bool pending, conflict;
    char *error;
} Below;

/* Failures that need a person: those that are tried again by themselves are "pending". */
static char *
error_text(const SxRow *row)
{
    if (!row->parked)
        return NULL;
    return g_strconcat("error: ", row->err_text != NULL ? row->err_text : sx_error_code_name(row->err), NULL);
}

static bool
is_conflict(const SxRow *row)
{
    return row->l_parent != 0 && row->l_name != NULL && sx_is_conflict_name(row->l_name);
}

static bool
add_row(void *data, const SxRow *row)
{
    Below *b = data;
    b->pending = true;
    b->conflict |= is_conflict(row);
    b->error = error_text(row);
    return b->error == NULL;
}

static char *
status_of_dir(SxVfs *v, const SxAttr *attr)
{
    Below b = {0};
    sx_tree_each_pending(v->tree, attr->ino, BELOW_MAX, add_row, &b);
    if (b.error != NULL)
        return b.error;
    if (b.conflict)
        return g_strdup("conflict");
    return g_strdup(b.pending ? "pending" : attr->listed || attr->ino == SX_ROOT_INO ? "synced" : "remote");
}

static char *
progress(SxVfs *v, gint64 ino)
{
    bool upload;
    int percent;
    if (!sx_transfer_progress(v->transfer, ino, &upload, &percent))
        return NULL;
    return g_strdup_printf("%s %d%%", upload ? "uploading" : "downloading", percent);
}

static const char *
presence(const SxAttr *attr)
{
    if (attr->kind != SX_KIND_FILE || attr->cached == 2 || attr->size == 0)
        return "synced";
    return attr->cached == 1 ? "partial" : "remote";
}

char *
sx_status_text(SxVfs *v, const SxAttr *attr)
{
    if (attr->kind == SX_KIND_DIR)
        return status_of_dir(v, attr);
    g_autoptr(SxRow) row = sx_tree_row_of(v->tree, attr->ino);
    char *text = row != NULL ? error_text(row) : NULL;
    if (text != NULL)
        return text;
    if (row != NULL && is_conflict(row))
        return g_strdup("conflict");
    text = progress(v, attr->ino);
    if (text != NULL)
        return text;
    if (attr->dirty || attr->writing || (row != NULL && row->pending != 0))
        return g_strdup("pending");
    return g_strdup(presence(attr));
}

char *
sx_vfs_status_text(SxVfs *v, gint64 ino)
{
    SxAttr attr;
    if (sx_virtual_is(ino) || sx_tree_getattr(v->tree, ino, &attr) < 0)
        return g_strdup("synced");
    sx_node_overlay(v, &attr);
    return sx_status_text(v, &attr);
}
