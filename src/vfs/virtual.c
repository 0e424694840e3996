/* `.syncox` in the root: a read-only directory whose files are made when they are opened. */
#include "vfs/vfs_i.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define DIR_NAME ".syncox"
#define FIRST_COOKIE ((gint64)1 << 60) /* behind every row id */

static const char *const names[] = {"status.json", "transfers.json", "events.jsonl", "conflicts.json"};

static void
fill(SxVfs *v, gint64 ino, SxAttr *ret)
{
    bool dir = ino == SX_VIRTUAL_INO;
    *ret = (SxAttr){
        .ino = ino,
        .kind = dir ? SX_KIND_DIR : SX_KIND_FILE,
        .mode = dir ? 0555 : 0444,
        .uid = getuid(),
        .gid = getgid(),
        .nlink = dir ? 2 : 1,
        .atime_ns = v->start_real_ns,
        .mtime_ns = v->start_real_ns,
        .ctime_ns = v->start_real_ns,
        .btime_ns = v->start_real_ns,
        .listed = true,
    };
}

static const char *
document_name(gint64 ino)
{
    gint64 i = ino - SX_VIRTUAL_INO - 1;
    return i >= 0 && i < (gint64)G_N_ELEMENTS(names) ? names[i] : NULL;
}

/* -ENOSYS: not a name of ours, ask the tree. */
int
sx_virtual_lookup(SxVfs *v, gint64 parent, const char *name, SxAttr *ret)
{
    if (parent == SX_ROOT_INO && strcmp(name, DIR_NAME) == 0) {
        fill(v, SX_VIRTUAL_INO, ret);
        return 0;
    }
    if (!sx_virtual_is(parent))
        return -ENOSYS;
    if (parent != SX_VIRTUAL_INO)
        return -ENOTDIR;
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        if (strcmp(names[i], name) == 0) {
            fill(v, SX_VIRTUAL_INO + 1 + i, ret);
            return 0;
        }
    return -ENOENT;
}

int
sx_virtual_getattr(SxVfs *v, gint64 ino, SxAttr *ret)
{
    if (ino != SX_VIRTUAL_INO && document_name(ino) == NULL)
        return -ENOENT;
    fill(v, ino, ret);
    return 0;
}

int
sx_virtual_readdir(SxVfs *v, gint64 dir, gint64 after, SxDirFn fn, void *data)
{
    SxAttr attr;
    if (dir == SX_ROOT_INO) {
        fill(v, SX_VIRTUAL_INO, &attr);
        if (after < FIRST_COOKIE)
            fn(data, FIRST_COOKIE, DIR_NAME, &attr);
        return 0;
    }
    if (dir != SX_VIRTUAL_INO)
        return -ENOTDIR;
    for (gint64 i = MAX(after, 0); i < (gint64)G_N_ELEMENTS(names); i++) {
        fill(v, SX_VIRTUAL_INO + 1 + i, &attr);
        if (!fn(data, i + 1, names[i], &attr))
            break;
    }
    return 0;
}

gint64
sx_virtual_parent(gint64 ino)
{
    return ino == SX_VIRTUAL_INO ? SX_ROOT_INO : SX_VIRTUAL_INO;
}

int
sx_virtual_open(SxVfs *v, gint64 ino, int flags, SxFile **ret)
{
    const char *name = document_name(ino);
    if (name == NULL)
        return ino == SX_VIRTUAL_INO ? -EISDIR : -ENOENT;
    if ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0)
        return -EROFS;
    char *text = v->document != NULL ? v->document(v, name, v->document_data) : NULL;
    SxFile *f = g_new0(SxFile, 1);
    f->flags = flags;
    f->lent = -1;
    gsize n = text != NULL ? MIN(strlen(text), SX_DOCUMENT_MAX) : 0;
    f->document = g_bytes_new_take(text, n);
    *ret = f;
    return 0;
}
