#include "vfs/vfs_i.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SX_PAGE 4096 /* what programs have read ends within one */

static bool
can_write(int flags)
{
    return (flags & O_ACCMODE) != O_RDONLY;
}

bool
sx_file_clean(const SxFile *f)
{
    return f->node == NULL || !can_write(f->flags);
}

/* ---- write sessions (vfs_i.h) ---- */

/* With o->lock held: the tree knows that the content is being changed. */
static int
announce(SxVfs *v, SxNode *n, SxContent *content)
{
    SxOpen *o = n->open;
    if (o->session && sx_content_announced(content))
        return 0;
    SxAttr attr;
    int r = sx_tree_write_begin(v->tree, n->ino, &attr);
    if (r == 0 && attr.nlink == 0) /* what is written to a file that others removed must not vanish with it */
        r = sx_node_restore(v, n);
    /* A new remote version may be in the tree and not yet in this object: bytes written into the old one would go with it. */
    if (r == 0)
        r = sx_content_follow(content, &attr);
    if (r < 0)
        return r;
    sx_content_set_announced(content);
    if (!o->session)
        g_atomic_int_inc(&o->epoch);
    o->session = true;
    return 0;
}

static int
mark_changed(SxVfs *v, SxNode *n, SxContent *content, bool *ret_privileged)
{
    SxOpen *o = n->open;
    g_mutex_lock(&o->lock);
    int r = announce(v, n, content);
    if (r == 0) {
        o->changed = true;
        o->mtime_ns = SX_TIME_UNKNOWN;
    }
    *ret_privileged = o->privileged;
    g_mutex_unlock(&o->lock);
    return r;
}

/* Before the bytes are changed. */
static int
change_begin(SxVfs *v, SxNode *n, SxContent *content)
{
    bool privileged;
    return mark_changed(v, n, content, &privileged);
}

/* And after it, once more (vfs_i.h). Set-id bits and capabilities do not outlive a change by somebody without CAP_FSETID. */
static int
change_end(SxVfs *v, SxCaller *c, SxNode *n, SxContent *content)
{
    bool privileged;
    int r = mark_changed(v, n, content, &privileged);
    if (privileged && c->uid != 0)
        sx_attributes_kill_privileges(v, n);
    return r;
}

/* With o->lock held: size and times go into the tree. last: the session is over unless other handles can write. */
static int
commit(SxVfs *v, SxNode *n, bool last)
{
    SxOpen *o = n->open;
    if (!o->session || (!o->changed && !last))
        return 0;
    gint64 mtime = o->mtime_ns != SX_TIME_UNKNOWN ? o->mtime_ns : sx_content_mtime_ns(o->content);
    SxAttr attr;
    if (mtime == SX_TIME_UNKNOWN && sx_tree_getattr(v->tree, n->ino, &attr) == 0)
        mtime = attr.mtime_ns;
    int r = sx_tree_write_end(v->tree, n->ino, sx_content_size(o->content), mtime, last, sx_vfs_due(v), &attr);
    if (r < 0)
        return r;
    o->changed = false;
    if (last)
        o->session = false;
    return 0;
}

/* The bytes around a change that must be there first, since a block is either present or absent as a whole. Waits for room in
 * the cache while there is hope for some. */
static int
prepare(SxVfs *v, SxCaller *c, SxContent *content, SxReader *reader, gint64 off, gint64 len)
{
    for (;;) {
        gint64 miss_off, miss_len;
        int r = sx_content_prepare(content, off, len, &miss_off, &miss_len);
        if (r == 1)
            r = sx_transfer_fetch(v->transfer, content, reader, miss_off, miss_len, c->cancel(c));
        else if (r == -ENOSPC)
            r = sx_cache_reserve(v->cache, len, c->cancel(c));
        else
            return r;
        if (r < 0)
            return r;
    }
}

/* ---- open and release ---- */

/* Content of a clean file that is not in the cache, on a provider of this machine: read in place, never copied.
 *
 * Versions: the descriptor belongs to the object that has the version our row knows (the provider checks). If somebody
 * replaces the file beside the mount, the descriptor keeps the old object, as an open file natively does; if somebody
 * writes into it in place, readers see that at once, as natively too. When the tree learns of a new version, or a program
 * writes through the mount, `epoch` moves on and reads go to the cache from then on, so that old bytes cannot get into the
 * kernel's pages of the new version. */
static int
lend(SxVfs *v, const SxAttr *attr)
{
    SxProvider *p = sx_transfer_provider(v->transfer, attr->provider);
    if (p == NULL || !SX_CAN(p, lend_fd) || attr->cached != 0 || attr->dirty || attr->writing || attr->size == 0)
        return -1;
    g_autoptr(SxRow) row = sx_tree_row_of(v->tree, attr->ino);
    g_autofree char *path = row != NULL ? sx_tree_row_remote_path(v->tree, row->id) : NULL;
    if (path == NULL || row->r_version == NULL || row->r_gen != row->gen)
        return -1;
    SxCond cond = {SX_IF_VERSION, row->r_version, row->r_size, row->r_mtime_ns};
    g_autoptr(GError) error = NULL;
    int fd = sx_provider_lend_fd(p, path, &cond, &error);
    if (fd < 0)
        sx_debug("not lent, goes through the cache: %s", error != NULL ? error->message : path);
    return fd;
}

static SxFile *
file_new(SxNode *n, int flags)
{
    SxFile *f = g_new0(SxFile, 1);
    f->node = n;
    f->flags = flags;
    f->lent = -1;
    f->reader = sx_reader_new();
    return f;
}

static void
file_free(SxFile *f)
{
    if (f->lent >= 0)
        close(f->lent);
    sx_reader_free(f->reader);
    g_clear_pointer(&f->document, g_bytes_unref);
    g_free(f);
}

static void
register_open(SxVfs *v, SxNode *n, const SxAttr *attr, SxFile *f)
{
    SxOpen *o = n->open;
    bool write = can_write(f->flags);
    bool privileged = write && sx_attributes_privileged(v, attr);
    g_mutex_lock(&o->lock);
    o->attr = *attr;
    if (write) {
        o->writers++;
        o->privileged |= privileged;
    }
    g_mutex_unlock(&o->lock);
    if (write)
        sx_content_writers(o->content, +1);
    if (sx_node_due_touch(v, n->ino))
        sx_tree_touch(v->tree, n->ino, sx_clock_real_ms(v->clock));
}

int
sx_vfs_open(SxVfs *v, SxCaller *c, gint64 ino, int flags, SxFile **ret_file, bool *ret_keep_cache)
{
    *ret_keep_cache = false;
    if (sx_virtual_is(ino))
        return sx_virtual_open(v, ino, flags, ret_file);
    bool write = can_write(flags) || (flags & O_TRUNC);
    SxNode *n = sx_node_get(v, ino);
    SxAttr attr;
    SxFile *f = NULL;
    SxContent *content;
    gint epoch = g_atomic_int_get(&n->open->epoch);
    int r = sx_tree_getattr(v->tree, ino, &attr);
    if (r == 0 && attr.kind == SX_KIND_DIR)
        r = -EISDIR;
    if (r == 0 && write)
        r = sx_vfs_may_change(v, attr.provider);
    if (r == 0) {
        f = file_new(n, flags);
        f->lent = write ? -1 : lend(v, &attr);
        r = f->lent >= 0 ? 0 : sx_node_content(v, n, &content);
    }
    if (r == 0) {
        register_open(v, n, &attr, f);
        f->lent_epoch = epoch; /* from before the look at the tree */
        if (flags & O_TRUNC)
            r = sx_file_truncate(v, c, n, 0);
        if (r < 0) {
            sx_vfs_release(v, f);
            return r;
        }
        *ret_keep_cache = sx_node_saw_cver(v, n, attr.cver);
        f->cver = attr.cver;
        f->size = attr.size;
        f->mtime_ns = attr.mtime_ns;
        f->seen = *ret_keep_cache; /* the kernel may have pages of it */
        *ret_file = f;
        return 0;
    }
    if (f != NULL)
        file_free(f);
    sx_node_put(v, n);
    return r;
}

int
sx_vfs_flush(SxVfs *v, SxCaller *c, SxFile *f)
{
    if (sx_file_clean(f))
        return 0;
    SxOpen *o = f->node->open;
    g_mutex_lock(&o->lock);
    bool had = o->session;
    int r = commit(v, f->node, o->writers == 1);
    g_mutex_unlock(&o->lock);
    if (had)
        sx_transfer_kick(v->transfer);
    return r;
}

void
sx_vfs_release(SxVfs *v, SxFile *f)
{
    SxNode *n = f->node;
    if (n != NULL && can_write(f->flags)) {
        SxOpen *o = n->open;
        g_mutex_lock(&o->lock);
        bool had = o->session;
        int r = commit(v, n, o->writers == 1);
        o->writers--;
        g_mutex_unlock(&o->lock);
        if (r < 0) /* the row still says `writing`: the next start takes size and time from the cache file */
            sx_error_log("cannot record the end of writing inode %" G_GINT64_FORMAT ": %s", n->ino, g_strerror(-r));
        sx_content_writers(o->content, -1);
        if (had)
            sx_transfer_kick(v->transfer);
    }
    file_free(f);
    sx_node_put(v, n);
}

int
sx_vfs_fsync(SxVfs *v, SxCaller *c, SxFile *f, bool data_only)
{
    if (f->node == NULL)
        return 0;
    SxOpen *o = f->node->open;
    g_mutex_lock(&o->lock);
    SxContent *content = o->content != NULL ? sx_content_ref(o->content) : NULL;
    int r = content != NULL ? commit(v, f->node, false) : 0;
    g_mutex_unlock(&o->lock);
    /* Content before the tree: the row must never tell of bytes that are not on the disk. */
    if (r == 0 && content != NULL)
        r = sx_content_sync(content);
    sx_content_unref(content);
    return r < 0 ? r : sx_tree_sync(v->tree);
}

/* ---- reading ---- */

static bool
lent_is_good(const SxFile *f)
{
    return f->lent >= 0 && f->lent_epoch == g_atomic_int_get(&f->node->open->epoch);
}

static int
read_document(SxFile *f, gint64 off, gsize n, SxRead *ret)
{
    gsize size;
    const char *text = g_bytes_get_data(f->document, &size);
    gsize from = MIN((gsize)off, size);
    /* The file may be closed as soon as the program has the bytes, before the reply's call has returned. */
    *ret = (SxRead){.fd = -1, .mem = text + from, .n = MIN(n, size - from), .document = g_bytes_ref(f->document)};
    return 0;
}

/* Makes [off, off+n) present and reads it into buf; the count (short at the end of the file), or -errno. */
static gssize
read_content(SxVfs *v, SxCaller *c, SxNode *n, SxReader *reader, gint64 off, void *buf, gsize len)
{
    SxContent *content;
    int r = sx_node_content(v, n, &content);
    if (r < 0)
        return r;
    for (int i = 0; i < SX_MAX_WAIT_RETRIES; i++) {
        /* Called also when all is there but the file is not complete: it moves the read-ahead on. */
        if (!sx_content_complete(content))
            r = sx_transfer_fetch(v->transfer, content, reader, off, (gint64)len, c->cancel(c));
        if (r < 0)
            return r;
        gssize got = sx_content_read(content, off, buf, len);
        if (got != -ENODATA)
            return got;
    }
    return -EAGAIN;
}

/* A program that has read from one version must not go on in another: it would make a mix of both, or write the old one back
 * over the new. What is beyond the end of what it has read from is news, not a mix (tail -f). A folder of this machine
 * behaves as if the program had opened the file there. */
static bool
is_same_version(SxVfs *v, SxFile *f, gint64 cver, gint64 off)
{
    SxOpen *o = f->node->open;
    if (f->lent >= 0)
        return true;
    SxAttr attr = {.size = -1};
    g_mutex_lock(&o->lock);
    bool moved_on = f->cver != cver;
    g_mutex_unlock(&o->lock);
    if (moved_on && sx_tree_getattr(v->tree, f->node->ino, &attr) != 0)
        return false;
    g_mutex_lock(&o->lock);
    gint64 size = sx_content_size(o->content);
    bool fetched_anew = moved_on && attr.size == f->size && attr.mtime_ns == f->mtime_ns; /* it had no room in the cache */
    bool appended = size >= f->size && off >= f->size / SX_PAGE * SX_PAGE; /* the kernel asks for whole pages */
    bool same = !moved_on || fetched_anew || !f->seen || appended;
    if (same) {
        f->cver = cver;
        f->size = size;
        f->mtime_ns = moved_on ? attr.mtime_ns : f->mtime_ns;
        f->seen = true;
    }
    g_mutex_unlock(&o->lock);
    return same;
}

/* All bytes are of one version. */
static gssize
read_one_version(SxVfs *v, SxCaller *c, SxFile *f, gint64 off, void *buf, gsize n)
{
    SxContent *content;
    int r = sx_node_content(v, f->node, &content);
    if (r < 0)
        return r;
    for (int i = 0; i < SX_MAX_WAIT_RETRIES; i++) {
        gint64 cver = sx_content_cver(content);
        gssize got = read_content(v, c, f->node, f->reader, off, buf, n);
        if (got >= 0 && cver != sx_content_cver(content))
            continue;
        return got >= 0 && !is_same_version(v, f, cver, off) ? -ESTALE : got;
    }
    return -EAGAIN;
}

int
sx_vfs_read(SxVfs *v, SxCaller *c, SxFile *f, gint64 off, gsize n, SxRead *ret)
{
    if (f->node == NULL)
        return read_document(f, off, n, ret);
    if (lent_is_good(f)) {
        *ret = (SxRead){.fd = f->lent, .n = n, .off = off};
        return 0;
    }
    char *buf = g_malloc(n);
    gssize got = read_one_version(v, c, f, off, buf, n);
    if (got < 0) {
        g_free(buf);
        return (int)got;
    }
    *ret = (SxRead){.fd = -1, .mem = buf, .n = (gsize)got, .hold = buf};
    return 0;
}

void
sx_vfs_read_done(SxRead *r)
{
    g_clear_pointer(&r->hold, g_free);
    g_clear_pointer(&r->document, g_bytes_unref);
}

/* ---- changing ---- */

static gssize
change(SxVfs *v, SxCaller *c, SxFile *f, gint64 off, const void *buf, int fd, gsize n)
{
    SxContent *content;
    if (f->node == NULL)
        return -EBADF;
    int r = sx_node_content(v, f->node, &content);
    if (r < 0)
        return r;
    gssize done = -ENODATA;
    /* ENODATA and ESTALE: the content was replaced between two of these steps; nothing was taken from fd. */
    for (int i = 0; i < SX_MAX_WAIT_RETRIES && (done == -ENODATA || done == -ESTALE); i++) {
        r = prepare(v, c, content, f->reader, off, (gint64)n);
        if (r == 0)
            r = change_begin(v, f->node, content);
        if (r < 0)
            return r;
        done = buf != NULL ? sx_content_write(content, off, buf, n) : sx_content_write_fd(content, off, fd, n);
    }
    r = change_end(v, c, f->node, content);
    return done >= 0 && r < 0 ? r : done;
}

gssize
sx_vfs_write(SxVfs *v, SxCaller *c, SxFile *f, gint64 off, const void *buf, gsize n)
{
    return n == 0 ? 0 : change(v, c, f, off, buf, -1, n);
}

gssize
sx_vfs_write_fd(SxVfs *v, SxCaller *c, SxFile *f, gint64 off, int fd, gsize n)
{
    return n == 0 ? 0 : change(v, c, f, off, NULL, fd, n);
}

int
sx_file_truncate(SxVfs *v, SxCaller *c, SxNode *n, gint64 size)
{
    SxContent *content;
    int r = sx_node_content(v, n, &content);
    if (r < 0)
        return r;
    gint64 old = sx_content_size(content);
    if (size < old && size % SX_BLOCK != 0) /* the block that is cut through keeps its head */
        r = prepare(v, c, content, NULL, size, MIN(old, (size / SX_BLOCK + 1) * SX_BLOCK) - size);
    if (r == 0)
        r = change_begin(v, n, content);
    if (r < 0)
        return r;
    r = sx_content_truncate(content, size);
    int again = change_end(v, c, n, content);
    SxOpen *o = n->open;
    g_mutex_lock(&o->lock);
    int ended = commit(v, n, o->writers == 0);
    g_mutex_unlock(&o->lock);
    sx_transfer_kick(v->transfer);
    return r < 0 ? r : again < 0 ? again : ended;
}

int
sx_vfs_fallocate(SxVfs *v, SxCaller *c, SxFile *f, int mode, gint64 off, gint64 len)
{
    SxContent *content;
    if (f->node == NULL)
        return -EBADF;
    if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
        return -EOPNOTSUPP;
    int r = sx_node_content(v, f->node, &content);
    if (r == 0)
        r = prepare(v, c, content, f->reader, off, len);
    if (r == 0)
        r = change_begin(v, f->node, content);
    if (r < 0)
        return r;
    r = sx_content_fallocate(content, mode, off, len);
    int again = change_end(v, c, f->node, content);
    return r < 0 ? r : again;
}

gint64
sx_vfs_lseek(SxVfs *v, SxCaller *c, SxFile *f, gint64 off, int whence)
{
    if (f->node == NULL)
        return -EINVAL;
    if (lent_is_good(f)) {
        off_t at = lseek(f->lent, off, whence);
        return at < 0 ? -errno : at;
    }
    SxContent *content;
    int r = sx_node_content(v, f->node, &content);
    return r < 0 ? r : sx_content_seek(content, off, whence);
}

static gssize
read_some(SxVfs *v, SxCaller *c, SxFile *f, gint64 off, void *buf, gsize n)
{
    if (lent_is_good(f)) {
        gssize got = pread(f->lent, buf, n, off);
        return got < 0 ? -errno : got;
    }
    return read_content(v, c, f->node, f->reader, off, buf, n);
}

gssize
sx_vfs_copy_range(SxVfs *v, SxCaller *c, SxFile *in, gint64 in_off, SxFile *out, gint64 out_off, gsize n)
{
    if (in->node == NULL || out->node == NULL)
        return -EXDEV;
    g_autofree char *buf = g_malloc(SX_COPY_CHUNK);
    gsize total = MIN(n, SX_COPY_MAX), done = 0;
    while (done < total) {
        gssize got = read_some(v, c, in, in_off + (gint64)done, buf, MIN(total - done, SX_COPY_CHUNK));
        if (got > 0)
            got = sx_vfs_write(v, c, out, out_off + (gint64)done, buf, (gsize)got);
        if (got < 0)
            return done > 0 ? (gssize)done : got;
        if (got == 0)
            break;
        done += (gsize)got;
    }
    return (gssize)done;
}
