/* What the files of fuse/ share. */
#pragma once

#include "fuse/fuse.h"

#include <fuse_lowlevel.h>

/* The kernel keeps names and attributes and is told what changed (notify.c). The limit lets directories that are only looked at
 * through the kernel's cache count as used from time to time, so that they are polled. */
#define SX_FUSE_TIMEOUT_S 3600.0
#define SX_FUSE_MAX_WRITE (1024 * 1024)
#define SX_FUSE_MAX_READAHEAD (1024 * 1024)
#define SX_FUSE_MAX_BACKGROUND 128   /* read-ahead requests in flight: enough that a slow provider does not hold up a quick one */
#define SX_FUSE_IDLE_THREADS 10
#define SX_FUSE_STOP_GRACE_MS 5000   /* for the kernel's dirty pages at the end of a mount that is busy */
#define SX_NOTIFY_MAX 65536          /* queued names; beyond, whole directories are invalidated */

typedef struct SxNotifier SxNotifier;

struct SxFuse {
    char *mountpoint;
    struct fuse_session *se;
    SxVfs *vfs;             /* set by sx_fuse_mount, before the first request */
    SxNotifier *notifier;
    bool mounted;           /* the thread that mounts and frees */
    guint64 init_unique;    /* io.c; the one thread that serves INIT, before all others */
    bool offers_killpriv;
    gint greeted;           /* atomic */
    GThread *unmounter;     /* started by the ender, joined by sx_fuse_unmount */
    GMutex lock;
    GCond cond;             /* stopping or looped changed */
    bool stopping;          /* lock */
    bool looped;            /* lock; the loop has ended */
    GHashTable *files;      /* lock; set of SxFile that the kernel has open */
    GHashTable *waits;      /* lock; set of GCancellable of requests that wait */
};

/* One request: who asks, and how its waits end. */
typedef struct SxRequest {
    SxCaller caller;
    SxFuse *f;
    fuse_req_t req;
    GCancellable *cancel;
} SxRequest;
void sx_request_begin(SxRequest *call, fuse_req_t req);
void sx_request_end(SxRequest *call); /* before the answer, which frees the request */

extern const struct fuse_lowlevel_ops sx_fuse_ops; /* ops.c */

void sx_ops_init(void *userdata, struct fuse_conn_info *conn);
void sx_entry_fill(const SxAttr *attr, struct fuse_entry_param *e);
void sx_stat_fill(const SxAttr *attr, struct stat *st);

/* files.c: requests on open files */
void sx_files_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void sx_files_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, struct fuse_file_info *fi);
void sx_files_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void sx_files_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *in, off_t off, struct fuse_file_info *fi);
void sx_files_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void sx_files_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void sx_files_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void sx_files_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len, struct fuse_file_info *fi);
void sx_files_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi);
void sx_files_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in, struct fuse_file_info *fi_in, fuse_ino_t ino_out,
                              off_t off_out, struct fuse_file_info *fi_out, size_t len, int flags);
void sx_files_release_all(SxFuse *f); /* after the mount has ended without the kernel's releases */

/* io.c */
bool sx_io_attach(SxFuse *f); /* after the mount, before the first request is read */

/* notify.c */
SxNotifier *sx_notifier_new(void);
const SxNotify *sx_notifier_face(SxNotifier *n);
void sx_notifier_start(SxNotifier *n, struct fuse_session *se, SxVfs *vfs);
void sx_notifier_stop(SxNotifier *n); /* joins: the device must have been closed, or the thread may wait in the kernel */
void sx_notifier_free(SxNotifier *n);
