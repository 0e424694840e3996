#include "fuse/fuse_i.h"

#include "base/path.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

/* ---- requests ---- */

static void
interrupted(fuse_req_t req, void *data)
{
    g_cancellable_cancel(data);
}

/* Made only when something is about to wait: most requests never need it. */
static GCancellable *
call_cancel(SxCaller *caller)
{
    SxRequest *call = caller->data;
    if (call->cancel != NULL)
        return call->cancel;
    SxFuse *f = call->f;
    call->cancel = g_cancellable_new();
    g_mutex_lock(&f->lock);
    g_hash_table_add(f->waits, call->cancel);
    bool stopping = f->stopping;
    g_mutex_unlock(&f->lock);
    if (stopping)
        g_cancellable_cancel(call->cancel);
    fuse_req_interrupt_func(call->req, interrupted, call->cancel);
    return call->cancel;
}

void
sx_request_begin(SxRequest *call, fuse_req_t req)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);
    *call = (SxRequest){
        .caller = {.uid = ctx->uid, .gid = ctx->gid, .pid = (guint32)ctx->pid, .umask = ctx->umask, .cancel = call_cancel, .data = call},
        .f = fuse_req_userdata(req),
        .req = req,
    };
}

void
sx_request_end(SxRequest *call)
{
    if (call->cancel == NULL)
        return;
    fuse_req_interrupt_func(call->req, NULL, NULL);
    g_mutex_lock(&call->f->lock);
    g_hash_table_remove(call->f->waits, call->cancel);
    g_mutex_unlock(&call->f->lock);
    g_clear_object(&call->cancel);
}

/* libfuse must stay the owner of `call` only on the stack of one handler: `begin` in front, `end` before the answer. */
#define CALL(req)                                                                                                                \
    SxRequest call;                                                                                                                 \
    sx_request_begin(&call, req);                                                                                                   \
    SxVfs *v = call.f->vfs

static void
reply_status(SxRequest *call, int r)
{
    sx_request_end(call);
    fuse_reply_err(call->req, -r);
}

/* ---- attributes ---- */

static const mode_t formats[] = {
    [SX_KIND_NONE] = 0,         [SX_KIND_FILE] = S_IFREG,  [SX_KIND_DIR] = S_IFDIR, [SX_KIND_SYMLINK] = S_IFLNK,
    [SX_KIND_FIFO] = S_IFIFO,   [SX_KIND_SOCKET] = S_IFSOCK, [SX_KIND_CHAR] = S_IFCHR, [SX_KIND_BLOCK] = S_IFBLK,
};

static SxKind
kind_of(mode_t mode)
{
    for (guint i = 1; i < G_N_ELEMENTS(formats); i++)
        if (formats[i] == (mode & S_IFMT))
            return (SxKind)i;
    return SX_KIND_FILE; /* mknod() without a format means a file */
}

static struct timespec
to_timespec(gint64 ns)
{
    gint64 sec = ns / 1000000000, rest = ns % 1000000000;
    return rest < 0 ? (struct timespec){sec - 1, rest + 1000000000} : (struct timespec){sec, rest};
}

static gint64
from_timespec(struct timespec t)
{
    const gint64 most = G_MAXINT64 / 1000000000 - 1;
    return CLAMP(t.tv_sec, -most, most) * 1000000000 + t.tv_nsec;
}

void
sx_stat_fill(const SxAttr *attr, struct stat *st)
{
    *st = (struct stat){
        .st_ino = (ino_t)attr->ino,
        .st_mode = formats[attr->kind] | attr->mode,
        .st_nlink = attr->nlink,
        .st_uid = attr->uid,
        .st_gid = attr->gid,
        .st_rdev = attr->rdev,
        .st_size = attr->size,
        .st_blksize = 4096,
        .st_blocks = attr->size / 512 + (attr->size % 512 != 0), /* a server may tell any size: no sum that overflows */
        .st_atim = to_timespec(attr->atime_ns),
        .st_mtim = to_timespec(attr->mtime_ns),
        .st_ctim = to_timespec(attr->ctime_ns),
    };
}

void
sx_entry_fill(const SxAttr *attr, struct fuse_entry_param *e)
{
    *e = (struct fuse_entry_param){.ino = (fuse_ino_t)attr->ino, .attr_timeout = SX_FUSE_TIMEOUT_S, .entry_timeout = SX_FUSE_TIMEOUT_S};
    sx_stat_fill(attr, &e->attr);
    if (attr->ino >= SX_VIRTUAL_INO && attr->kind == SX_KIND_FILE)
        e->attr_timeout = 0;
}

static void
reply_entry(SxRequest *call, int r, const SxAttr *attr)
{
    sx_request_end(call);
    struct fuse_entry_param e;
    if (r == -ENOENT) { /* known to be absent: the kernel may remember that too */
        e = (struct fuse_entry_param){.entry_timeout = SX_FUSE_TIMEOUT_S};
        fuse_reply_entry(call->req, &e);
        return;
    }
    if (r < 0) {
        fuse_reply_err(call->req, -r);
        return;
    }
    sx_entry_fill(attr, &e);
    sx_vfs_remember(call->f->vfs, attr->ino); /* before the answer: the forget may be quicker than we are */
    if (fuse_reply_entry(call->req, &e) < 0)
        sx_vfs_forget(call->f->vfs, attr->ino, 1);
}

/* The same for what was made just now: -ENOENT is an error there. */
static void
reply_made(SxRequest *call, int r, const SxAttr *attr)
{
    if (r < 0)
        reply_status(call, r);
    else
        reply_entry(call, 0, attr);
}

static void
reply_attr(SxRequest *call, int r, const SxAttr *attr)
{
    sx_request_end(call);
    if (r < 0) {
        fuse_reply_err(call->req, -r);
        return;
    }
    struct stat st;
    sx_stat_fill(attr, &st);
    fuse_reply_attr(call->req, &st, attr->ino >= SX_VIRTUAL_INO ? 0 : SX_FUSE_TIMEOUT_S);
}

/* ---- names ---- */

/* "." and ".." come from the server of a network export, which has only a node id. */
static int
lookup_dots(SxVfs *v, SxCaller *c, gint64 ino, const char *name, SxAttr *ret)
{
    gint64 target = name[1] == '.' ? sx_vfs_parent(v, ino) : ino;
    int r = target < 0 ? (int)target : sx_vfs_getattr(v, c, target, ret);
    return r == -ENOENT ? -ESTALE : r;
}

static void
op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    CALL(req);
    SxAttr attr;
    bool dots = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
    int r = dots ? lookup_dots(v, &call.caller, (gint64)parent, name, &attr)
                 : sx_vfs_lookup(v, &call.caller, (gint64)parent, name, &attr);
    reply_entry(&call, r, &attr);
}

static void
op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
    SxFuse *f = fuse_req_userdata(req);
    sx_vfs_forget(f->vfs, (gint64)ino, n);
    fuse_reply_none(req);
}

static void
op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    SxFuse *f = fuse_req_userdata(req);
    for (size_t i = 0; i < count; i++)
        sx_vfs_forget(f->vfs, (gint64)forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

static void
op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    CALL(req);
    SxAttr attr;
    reply_attr(&call, sx_vfs_getattr(v, &call.caller, (gint64)ino, &attr), &attr);
}

static unsigned
decode_set(const struct stat *st, int to_set, const SxClock *clock, SxAttr *values)
{
    gint64 now = sx_clock_real_ns(clock);
    *values = (SxAttr){
        .mode = st->st_mode & 07777,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .atime_ns = (to_set & FUSE_SET_ATTR_ATIME_NOW) ? now : from_timespec(st->st_atim),
        .mtime_ns = (to_set & FUSE_SET_ATTR_MTIME_NOW) ? now : from_timespec(st->st_mtim),
        .ctime_ns = from_timespec(st->st_ctim),
    };
    static const struct {
        int from;
        SxSet to;
    } map[] = {
        {FUSE_SET_ATTR_MODE, SX_SET_MODE},   {FUSE_SET_ATTR_UID, SX_SET_UID},     {FUSE_SET_ATTR_GID, SX_SET_GID},
        {FUSE_SET_ATTR_ATIME, SX_SET_ATIME}, {FUSE_SET_ATTR_MTIME, SX_SET_MTIME},
    };
    unsigned set = 0;
    for (guint i = 0; i < G_N_ELEMENTS(map); i++)
        if (to_set & map[i].from)
            set |= map[i].to;
    return set;
}

static void
op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set, struct fuse_file_info *fi)
{
    CALL(req);
    SxAttr values, attr;
    unsigned set = decode_set(st, to_set, sx_clock_default(), &values);
    SxFile *file = fi != NULL ? (SxFile *)(uintptr_t)fi->fh : NULL;
    gint64 size = (to_set & FUSE_SET_ATTR_SIZE) != 0 ? st->st_size : -1;
    reply_attr(&call, sx_vfs_setattr(v, &call.caller, (gint64)ino, file, set, &values, size, &attr), &attr);
}

static void
op_readlink(fuse_req_t req, fuse_ino_t ino)
{
    CALL(req);
    g_autofree char *target = NULL;
    int r = sx_vfs_readlink(v, &call.caller, (gint64)ino, &target);
    sx_request_end(&call);
    if (r < 0)
        fuse_reply_err(req, -r);
    else
        fuse_reply_readlink(req, target);
}

static void
op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    CALL(req);
    SxAttr attr;
    reply_made(&call, sx_vfs_mknod(v, &call.caller, (gint64)parent, name, kind_of(mode), mode, rdev, &attr), &attr);
}

static void
op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    CALL(req);
    SxAttr attr;
    reply_made(&call, sx_vfs_mkdir(v, &call.caller, (gint64)parent, name, mode, &attr), &attr);
}

static void
op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    CALL(req);
    SxAttr attr;
    reply_made(&call, sx_vfs_symlink(v, &call.caller, target, (gint64)parent, name, &attr), &attr);
}

static void
op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
    CALL(req);
    SxAttr attr;
    reply_made(&call, sx_vfs_link(v, &call.caller, (gint64)ino, (gint64)parent, name, &attr), &attr);
}

static void
op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    CALL(req);
    gint64 ino;
    reply_status(&call, sx_vfs_unlink(v, &call.caller, (gint64)parent, name, &ino));
}

static void
op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    CALL(req);
    reply_status(&call, sx_vfs_rmdir(v, &call.caller, (gint64)parent, name));
}

static void
op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name, unsigned int flags)
{
    CALL(req);
    reply_status(&call, sx_vfs_rename(v, &call.caller, (gint64)parent, name, (gint64)new_parent, new_name, flags));
}

/* ---- directories ---- */

static void
op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    CALL(req);
    int r = sx_vfs_opendir(v, &call.caller, (gint64)ino);
    sx_request_end(&call);
    if (r < 0) {
        fuse_reply_err(req, -r);
        return;
    }
    /* The kernel may keep the listing: it drops it when it changes names here itself, and when the notify thread says so. */
    fi->cache_readdir = 1;
    fi->keep_cache = 1;
    fuse_reply_open(req, fi);
}

/* Offsets: 0 begins, 1 is behind ".", 2 behind "..", then the tree's cookie + 2. */
#define DOTS 2

typedef struct Listing {
    SxRequest *call;
    bool plus;
    char *buf;
    gsize size, used;
    GArray *remembered; /* of gint64: to be forgotten when the answer does not arrive */
} Listing;

static bool
add_entry(Listing *l, gint64 offset, const char *name, const SxAttr *attr, bool count)
{
    struct fuse_entry_param e;
    sx_entry_fill(attr, &e);
    char *at = l->buf + l->used;
    gsize room = l->size - l->used;
    gsize need = l->plus ? fuse_add_direntry_plus(l->call->req, at, room, name, &e, offset)
                         : fuse_add_direntry(l->call->req, at, room, name, &e.attr, offset);
    if (need > room)
        return false;
    l->used += need;
    if (l->plus && count) {
        sx_vfs_remember(l->call->f->vfs, attr->ino);
        g_array_append_val(l->remembered, attr->ino);
    }
    return true;
}

static bool
add_child(void *data, gint64 cookie, const char *name, const SxAttr *attr)
{
    return add_entry(data, cookie + DOTS, name, attr, true);
}

/* "." and "..": the kernel takes no reference for them. */
static bool
add_dots(Listing *l, gint64 ino, gint64 *off)
{
    SxAttr attr = {.ino = ino, .kind = SX_KIND_DIR};
    if (*off == 0) {
        if (!add_entry(l, 1, ".", &attr, false))
            return false;
        *off = 1;
    }
    if (*off == 1) {
        gint64 parent = sx_vfs_parent(l->call->f->vfs, ino);
        attr.ino = parent > 0 ? parent : SX_ROOT_INO;
        if (!add_entry(l, DOTS, "..", &attr, false))
            return false;
        *off = DOTS;
    }
    return true;
}

static void
list(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, bool plus)
{
    CALL(req);
    g_autofree char *buf = g_malloc(size);
    g_autoptr(GArray) remembered = g_array_new(FALSE, FALSE, sizeof(gint64));
    Listing l = {&call, plus, buf, size, 0, remembered};
    gint64 at = off;
    int r = 0;
    if (add_dots(&l, (gint64)ino, &at))
        r = sx_vfs_readdir(v, &call.caller, (gint64)ino, at - DOTS, add_child, &l);
    sx_request_end(&call);
    if (r == 0 && fuse_reply_buf(req, buf, l.used) == 0)
        return;
    for (guint i = 0; i < remembered->len; i++)
        sx_vfs_forget(v, g_array_index(remembered, gint64, i), 1);
    if (r < 0)
        fuse_reply_err(req, -r);
}

static void
op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    list(req, ino, size, off, false);
}

static void
op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    list(req, ino, size, off, true);
}

static void
op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    CALL(req);
    reply_status(&call, sx_vfs_fsyncdir(v, &call.caller, (gint64)ino));
}

static void
op_statfs(fuse_req_t req, fuse_ino_t ino)
{
    CALL(req);
    struct statvfs st;
    int r = sx_vfs_statfs(v, &call.caller, (gint64)ino, &st);
    sx_request_end(&call);
    if (r < 0)
        fuse_reply_err(req, -r);
    else
        fuse_reply_statfs(req, &st);
}

/* ---- extended attributes ---- */

/* size 0 asks how long it is. */
static void
reply_value(SxRequest *call, int r, const void *data, gsize n, size_t size)
{
    sx_request_end(call);
    if (r == 0 && size != 0 && n > size)
        r = -ERANGE;
    if (r < 0)
        fuse_reply_err(call->req, -r);
    else if (size == 0)
        fuse_reply_xattr(call->req, n);
    else
        fuse_reply_buf(call->req, data, n);
}

static void
op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    CALL(req);
    g_autoptr(GBytes) value = NULL;
    gsize n = 0;
    int r = sx_vfs_getxattr(v, &call.caller, (gint64)ino, name, &value);
    const void *data = value != NULL ? g_bytes_get_data(value, &n) : NULL;
    reply_value(&call, r, data, n, size);
}

static void
op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
    CALL(req);
    g_autoptr(GString) names = g_string_new(NULL);
    int r = sx_vfs_listxattr(v, &call.caller, (gint64)ino, names);
    reply_value(&call, r, names->str, names->len, size);
}

static void
op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size, int flags)
{
    CALL(req);
    reply_status(&call, sx_vfs_setxattr(v, &call.caller, (gint64)ino, name, value, size, flags));
}

static void
op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    CALL(req);
    reply_status(&call, sx_vfs_removexattr(v, &call.caller, (gint64)ino, name));
}

/* ---- what the kernel and we agree on ---- */

/* Left to the kernel by having no handler: flock and fcntl locks, access (default_permissions), poll, bmap. */
void
sx_ops_init(void *userdata, struct fuse_conn_info *conn)
{
    static const unsigned want = FUSE_CAP_ASYNC_READ | FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_DONT_MASK |
                                 FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
                                 FUSE_CAP_ASYNC_DIO | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_POSIX_ACL | FUSE_CAP_HANDLE_KILLPRIV |
                                 FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPLICIT_INVAL_DATA;
    /* Sizes and times are ours; pages are dropped when we say so, not whenever a time has changed; io.c reads requests. */
    static const unsigned never = FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_POSIX_LOCKS | FUSE_CAP_FLOCK_LOCKS |
                                  FUSE_CAP_SPLICE_READ;
    conn->want = (conn->want | (want & conn->capable)) & ~never;
    conn->max_write = SX_FUSE_MAX_WRITE;
    conn->max_readahead = MIN(conn->max_readahead, SX_FUSE_MAX_READAHEAD);
    conn->max_background = SX_FUSE_MAX_BACKGROUND;
    conn->congestion_threshold = SX_FUSE_MAX_BACKGROUND * 3 / 4;
    conn->time_gran = 1;
}

const struct fuse_lowlevel_ops sx_fuse_ops = {
    .init = sx_ops_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .symlink = op_symlink,
    .link = op_link,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .rename = op_rename,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .fsyncdir = op_fsyncdir,
    .statfs = op_statfs,
    .getxattr = op_getxattr,
    .listxattr = op_listxattr,
    .setxattr = op_setxattr,
    .removexattr = op_removexattr,
    .open = sx_files_open,
    .create = sx_files_create,
    .read = sx_files_read,
    .write_buf = sx_files_write_buf,
    .flush = sx_files_flush,
    .release = sx_files_release,
    .fsync = sx_files_fsync,
    .fallocate = sx_files_fallocate,
    .lseek = sx_files_lseek,
    .copy_file_range = sx_files_copy_file_range,
};
