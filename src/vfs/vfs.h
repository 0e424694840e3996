/* File-system semantics without FUSE: what every program may rely on, over tree, cache and transfer.
 *
 * Functions return 0 or -errno. Handles (SxFile) are per open(); names are raw bytes. They never wait for the network for
 * what is known locally; what waits ends with -EINTR when the caller's request is interrupted. Thread-safe.
 *
 * Virtual nodes (virtual.c): `.syncox` in the root and its files have inode numbers from SX_VIRTUAL_INO up; they are never in the tree. */
#pragma once

#include "transfer/transfer.h"

#include <sys/statvfs.h>

#define SX_VIRTUAL_INO ((gint64)1 << 48)

typedef struct SxVfs SxVfs;
typedef struct SxFile SxFile;

/* Who asks. `cancel` gives a cancellable that fires when the request is interrupted; called only before a wait. */
typedef struct SxCaller {
    guint32 uid, gid, pid, umask;
    GCancellable *(*cancel)(struct SxCaller *self);
    void *data;
} SxCaller;

typedef struct SxVfsOptions {
    SxTree *tree;
    SxCache *cache;
    SxTransfer *transfer;
    SxEvents *events;
    const SxClock *clock;
    gint64 write_back_delay_ms;
    const char *const *keep_local; /* as SxTreeOptions has it: such names need not be possible on the provider; outlives the vfs */
    /* Contents of .syncox/WHAT (sx_api_document); g_free. NULL: the files are empty. */
    char *(*document)(SxVfs *v, const char *what, void *data);
    void *document_data;
} SxVfsOptions;
SxVfs *sx_vfs_new(const SxVfsOptions *options, GError **error);
void sx_vfs_free(SxVfs *vfs); /* all files are closed before */

int sx_vfs_lookup(SxVfs *v, SxCaller *c, gint64 parent, const char *name, SxAttr *ret);
int sx_vfs_getattr(SxVfs *v, SxCaller *c, gint64 ino, SxAttr *ret);      /* size and mtime as being written */
int sx_vfs_setattr(SxVfs *v, SxCaller *c, gint64 ino, SxFile *f, unsigned set, const SxAttr *values, gint64 truncate /* -1: no */, SxAttr *ret);
int sx_vfs_readlink(SxVfs *v, SxCaller *c, gint64 ino, char **ret);
int sx_vfs_opendir(SxVfs *v, SxCaller *c, gint64 ino);                    /* listed when it returns 0 */
int sx_vfs_readdir(SxVfs *v, SxCaller *c, gint64 ino, gint64 after, SxDirFn fn, void *data);
int sx_vfs_mknod(SxVfs *v, SxCaller *c, gint64 parent, const char *name, SxKind kind, guint32 mode, guint64 rdev, SxAttr *ret);
int sx_vfs_mkdir(SxVfs *v, SxCaller *c, gint64 parent, const char *name, guint32 mode, SxAttr *ret);
int sx_vfs_symlink(SxVfs *v, SxCaller *c, const char *target, gint64 parent, const char *name, SxAttr *ret);
int sx_vfs_link(SxVfs *v, SxCaller *c, gint64 ino, gint64 parent, const char *name, SxAttr *ret);
int sx_vfs_unlink(SxVfs *v, SxCaller *c, gint64 parent, const char *name, gint64 *ret_ino);
int sx_vfs_rmdir(SxVfs *v, SxCaller *c, gint64 parent, const char *name);
int sx_vfs_rename(SxVfs *v, SxCaller *c, gint64 parent, const char *name, gint64 new_parent, const char *new_name, unsigned flags);

int sx_vfs_create(SxVfs *v, SxCaller *c, gint64 parent, const char *name, int flags, guint32 mode, SxAttr *ret, SxFile **ret_file);
int sx_vfs_tmpfile(SxVfs *v, SxCaller *c, gint64 parent, int flags, guint32 mode, SxAttr *ret, SxFile **ret_file);
int sx_vfs_open(SxVfs *v, SxCaller *c, gint64 ino, int flags, SxFile **ret_file, bool *ret_keep_cache);
/* Bytes present after this call at *ret_fd + off; the fd is valid until sx_vfs_read_done. For virtual files ret_fd is -1 and ret_mem is set. */
typedef struct SxRead { int fd; const char *mem; gsize n; gint64 off; void *hold; GBytes *document; } SxRead;
int sx_vfs_read(SxVfs *v, SxCaller *c, SxFile *f, gint64 off, gsize n, SxRead *ret);
void sx_vfs_read_done(SxRead *r);
gssize sx_vfs_write(SxVfs *v, SxCaller *c, SxFile *f, gint64 off, const void *buf, gsize n);
gssize sx_vfs_write_fd(SxVfs *v, SxCaller *c, SxFile *f, gint64 off, int fd, gsize n); /* from a pipe */
int sx_vfs_flush(SxVfs *v, SxCaller *c, SxFile *f);                       /* close() of one descriptor: size and times are committed */
int sx_vfs_fsync(SxVfs *v, SxCaller *c, SxFile *f, bool data_only);       /* survives power loss */
int sx_vfs_fsyncdir(SxVfs *v, SxCaller *c, gint64 ino);
void sx_vfs_release(SxVfs *v, SxFile *f);
bool sx_file_clean(const SxFile *f);                                      /* can never write: close() needs no flush */
int sx_vfs_fallocate(SxVfs *v, SxCaller *c, SxFile *f, int mode, gint64 off, gint64 len);
gint64 sx_vfs_lseek(SxVfs *v, SxCaller *c, SxFile *f, gint64 off, int whence);
gssize sx_vfs_copy_range(SxVfs *v, SxCaller *c, SxFile *in, gint64 in_off, SxFile *out, gint64 out_off, gsize n);
int sx_vfs_statfs(SxVfs *v, SxCaller *c, gint64 ino, struct statvfs *ret); /* never waits */
int sx_vfs_getxattr(SxVfs *v, SxCaller *c, gint64 ino, const char *name, GBytes **ret);
int sx_vfs_setxattr(SxVfs *v, SxCaller *c, gint64 ino, const char *name, const void *value, gsize n, int flags);
int sx_vfs_listxattr(SxVfs *v, SxCaller *c, gint64 ino, GString *ret);
int sx_vfs_removexattr(SxVfs *v, SxCaller *c, gint64 ino, const char *name);
/* The kernel's references to inodes: an orphan disappears when it has neither open files nor references. */
void sx_vfs_remember(SxVfs *v, gint64 ino);
void sx_vfs_forget(SxVfs *v, gint64 ino, guint64 n);
bool sx_vfs_known(SxVfs *v, gint64 ino);           /* does the kernel or an open file refer to it? Others need no invalidation */
/* Others have removed that name: without another one the inode goes when nobody has it open. Called before the kernel is told. */
void sx_vfs_name_gone(SxVfs *v, gint64 parent, gint64 ino, const char *name);
void sx_vfs_content_changed(SxVfs *v, gint64 ino); /* the remote has a new version; called before the kernel is told */

/* ---- for the control socket and .syncox ---- */
/* user.syncox.status of an inode: "synced" "remote" "partial" "pending" "uploading 43%" ...; g_free. */
char *sx_vfs_status_text(SxVfs *v, gint64 ino);
gint64 sx_vfs_parent(SxVfs *v, gint64 dir);                                /* for lookups of ".."; -ENOENT */
SxTree *sx_vfs_tree(SxVfs *v);
SxCache *sx_vfs_cache(SxVfs *v);
SxTransfer *sx_vfs_transfer(SxVfs *v);
SxEvents *sx_vfs_events(SxVfs *v);
