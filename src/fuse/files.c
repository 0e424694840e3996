#include "fuse/fuse_i.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static SxFile *
file_of(const struct fuse_file_info *fi)
{
    return (SxFile *)(uintptr_t)fi->fh;
}

static void
reply_status(SxRequest *call, int r)
{
    sx_request_end(call);
    fuse_reply_err(call->req, -r);
}

/* The handles the kernel has: at the end of a mount it does not release them all. */
static void
keep_file(SxFuse *f, SxFile *file, bool open)
{
    g_mutex_lock(&f->lock);
    if (open)
        g_hash_table_add(f->files, file);
    else
        g_hash_table_remove(f->files, file);
    g_mutex_unlock(&f->lock);
}

void
sx_files_release_all(SxFuse *f)
{
    g_autoptr(GHashTable) files = NULL;
    g_mutex_lock(&f->lock);
    files = g_steal_pointer(&f->files);
    f->files = g_hash_table_new(NULL, NULL);
    g_mutex_unlock(&f->lock);
    GHashTableIter iter;
    gpointer file;
    g_hash_table_iter_init(&iter, files);
    while (g_hash_table_iter_next(&iter, &file, NULL))
        sx_vfs_release(f->vfs, file);
}

static void
fill_open(SxFuse *f, SxFile *file, bool is_virtual, bool keep_cache, struct fuse_file_info *fi)
{
    fi->fh = (uintptr_t)file;
    fi->keep_cache = keep_cache;
    fi->noflush = sx_file_clean(file);
    fi->direct_io = is_virtual; /* their size is not known before they are made */
    keep_file(f, file, true);
}

static void
unopen(SxFuse *f, SxFile *file)
{
    keep_file(f, file, false);
    sx_vfs_release(f->vfs, file);
}

void
sx_files_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    SxRequest call;
    sx_request_begin(&call, req);
    SxFile *file;
    bool keep;
    /* The kernel gives the offsets of appending writes; O_DIRECT needs nothing of us, it goes around the kernel's pages only. */
    int r = sx_vfs_open(call.f->vfs, &call.caller, (gint64)ino, fi->flags & ~(O_APPEND | O_DIRECT), &file, &keep);
    if (r < 0) {
        reply_status(&call, r);
        return;
    }
    sx_request_end(&call);
    fill_open(call.f, file, (gint64)ino >= SX_VIRTUAL_INO, keep, fi);
    if (fuse_reply_open(req, fi) < 0) /* interrupted: the kernel will not release what it did not get */
        unopen(call.f, file);
}

void
sx_files_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi)
{
    SxRequest call;
    sx_request_begin(&call, req);
    SxFile *file;
    SxAttr attr;
    int flags = fi->flags & ~(O_APPEND | O_DIRECT);
    int r = strcmp(name, "/") == 0 /* O_TMPFILE: io.c */
                ? sx_vfs_tmpfile(call.f->vfs, &call.caller, (gint64)parent, flags, mode, &attr, &file)
                : sx_vfs_create(call.f->vfs, &call.caller, (gint64)parent, name, flags, mode, &attr, &file);
    if (r < 0) {
        reply_status(&call, r);
        return;
    }
    sx_request_end(&call);
    struct fuse_entry_param e;
    sx_entry_fill(&attr, &e);
    sx_vfs_remember(call.f->vfs, attr.ino);
    fill_open(call.f, file, false, false, fi);
    if (fuse_reply_create(req, &e, fi) < 0) {
        unopen(call.f, file);
        sx_vfs_forget(call.f->vfs, attr.ino, 1);
    }
}

void
sx_files_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    SxRequest call;
    sx_request_begin(&call, req);
    SxRead read;
    int r = sx_vfs_read(call.f->vfs, &call.caller, file_of(fi), off, size, &read);
    if (r < 0) {
        reply_status(&call, r);
        return;
    }
    sx_request_end(&call);
    if (read.fd >= 0) {
        struct fuse_bufvec buf = FUSE_BUFVEC_INIT(read.n);
        buf.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
        buf.buf[0].fd = read.fd;
        buf.buf[0].pos = read.off;
        fuse_reply_data(req, &buf, FUSE_BUF_SPLICE_MOVE);
    } else {
        fuse_reply_buf(req, read.mem, read.n);
    }
    sx_vfs_read_done(&read);
}

/* libfuse gives either one piece of memory or one pipe. */
void
sx_files_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *in, off_t off, struct fuse_file_info *fi)
{
    SxRequest call;
    sx_request_begin(&call, req);
    SxVfs *v = call.f->vfs;
    const struct fuse_buf *b = &in->buf[in->idx];
    gsize n = b->size - in->off;
    gssize r = (b->flags & FUSE_BUF_IS_FD) != 0
                   ? sx_vfs_write_fd(v, &call.caller, file_of(fi), off, b->fd, n)
                   : sx_vfs_write(v, &call.caller, file_of(fi), off, (const char *)b->mem + in->off, n);
    sx_request_end(&call);
    if (r < 0)
        fuse_reply_err(req, (int)-r);
    else
        fuse_reply_write(req, (size_t)r);
}

void
sx_files_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    SxRequest call;
    sx_request_begin(&call, req);
    reply_status(&call, sx_vfs_flush(call.f->vfs, &call.caller, file_of(fi)));
}

void
sx_files_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    unopen(fuse_req_userdata(req), file_of(fi));
    fuse_reply_err(req, 0);
}

void
sx_files_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
    SxRequest call;
    sx_request_begin(&call, req);
    reply_status(&call, sx_vfs_fsync(call.f->vfs, &call.caller, file_of(fi), datasync != 0));
}

void
sx_files_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi)
{
    SxRequest call;
    sx_request_begin(&call, req);
    reply_status(&call, sx_vfs_fallocate(call.f->vfs, &call.caller, file_of(fi), mode, off, len));
}

void
sx_files_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
    SxRequest call;
    sx_request_begin(&call, req);
    gint64 at = sx_vfs_lseek(call.f->vfs, &call.caller, file_of(fi), off, whence);
    sx_request_end(&call);
    if (at < 0)
        fuse_reply_err(req, (int)-at);
    else
        fuse_reply_lseek(req, at);
}

void
sx_files_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in, fuse_ino_t ino_out,
                         off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags)
{
    SxRequest call;
    sx_request_begin(&call, req);
    gssize n = sx_vfs_copy_range(call.f->vfs, &call.caller, file_of(fi_in), off_in, file_of(fi_out), off_out, len);
    sx_request_end(&call);
    if (n < 0)
        fuse_reply_err(req, (int)-n);
    else
        fuse_reply_write(req, (size_t)n);
}
