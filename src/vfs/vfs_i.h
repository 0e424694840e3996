/* What the files of vfs/ share.
 *
 * Nodes. The table `nodes` has an entry for each inode that the kernel or a running call refers to. An entry is small,
 * since the kernel may know very many inodes; what an open file needs beside it (SxOpen) exists only while `users` > 0.
 *
 * Write sessions. A session begins before the first byte is changed (sx_tree_write_begin: the row says `writing`, so that
 * after a crash the size is taken from the cache file) and ends when the last descriptor that can write has been flushed
 * (sx_tree_write_end, one transaction). Between them no write touches the tree. An upload seals the content at a quiet
 * moment; the next write then announces itself again, checked before the bytes and once more after them, because a seal
 * may fall between.
 *
 * Locks, in this order: SxOpen.lock -> (tree, cache); SxVfs.lock alone, never held over a call of another folder. Neither
 * is held over a wait for the network. */
#pragma once

#include "vfs/vfs.h"

#define SX_DOCUMENT_MAX (64 * 1024 * 1024) /* bytes of a .syncox file; longer ones are cut */
#define SX_COPY_CHUNK (1024 * 1024)        /* copy_file_range: bytes per step */
#define SX_COPY_MAX (16 * SX_COPY_CHUNK)   /* and per request, so that one request cannot hold a worker for long */
#define SX_TOUCH_EVERY_MS 60000            /* "last used" is written at most this often per inode */
#define SX_XATTR_SIZE_MAX 65536            /* as the kernel has it */
#define SX_MAX_WAIT_RETRIES 16             /* reads that found their bytes evicted or replaced after the fetch */

typedef struct SxOpen {
    GMutex lock;
    SxContent *content;  /* lock; NULL until somebody needs it */
    SxAttr attr;         /* lock; as it was at the last open, for inodes that a remote deletion took out of the tree */
    guint writers;       /* lock; handles that can write */
    bool session;        /* lock; sx_tree_write_begin without a final sx_tree_write_end */
    bool changed;        /* lock; bytes were written since the last sx_tree_write_end */
    bool privileged;     /* lock; has setuid, setgid or capabilities, which a write takes away */
    gint64 mtime_ns;     /* lock; set by utimens() after the last write, or SX_TIME_UNKNOWN */
    gint epoch;          /* atomic; counts changes of the content: a lent descriptor is good for one epoch */
} SxOpen;

typedef struct SxNode {
    gint64 ino;
    guint64 kernel;      /* SxVfs.lock; references the kernel holds */
    gint64 seen_cver;    /* SxVfs.lock; content version the kernel's page cache may hold; -1 none */
    gint64 touched_ms;   /* SxVfs.lock; mono time of the last "used" mark */
    SxAttr *ghost;       /* SxVfs.lock; a removed directory that is still referred to */
    SxOpen *open;        /* SxVfs.lock for the pointer; stays while users > 0 */
    guint users;         /* SxVfs.lock; open files and running calls */
    gint64 lost_parent;  /* SxVfs.lock; others removed its last name, this one, while it was open */
    char *lost_name;     /* SxVfs.lock; NULL: they did not */
    bool orphan;         /* SxVfs.lock; the last name is gone: dropped with the last reference */
} SxNode;

struct SxVfs {
    SxTree *tree;
    SxCache *cache;
    SxTransfer *transfer;
    SxEvents *events;
    const SxClock *clock;
    gint64 write_back_delay_ms;
    const char *const *keep_local;
    char *(*document)(SxVfs *v, const char *what, void *data);
    void *document_data;
    gint64 start_real_ns;
    GMutex lock;
    GHashTable *nodes;   /* lock; gint64* (inside the node) -> SxNode */
};

struct SxFile {
    SxNode *node;        /* holds one of its users; NULL: a virtual file */
    int flags;           /* as given to open() */
    SxReader *reader;    /* where this handle reads, for the read-ahead */
    int lent;            /* descriptor of the provider's own file, or -1 */
    gint lent_epoch;
    gint64 cver, size, mtime_ns; /* SxOpen.lock; content version that is being read, size and time of it */
    bool seen;           /* SxOpen.lock; bytes of that version may have been given to the program */
    GBytes *document;    /* virtual files */
};

/* node.c */
SxNode *sx_node_get(SxVfs *v, gint64 ino);                 /* users+1; made when missing */
void sx_node_put(SxVfs *v, SxNode *n);                     /* users-1 */
SxNode *sx_node_peek(SxVfs *v, gint64 ino);                /* users+1 when it is open already, else NULL */
int sx_node_content(SxVfs *v, SxNode *n, SxContent **ret); /* borrowed; stays while the node is held */
void sx_node_orphaned(SxVfs *v, gint64 ino);               /* the tree keeps it without a name: drop it when nobody refers to it */
void sx_node_adopted(SxVfs *v, gint64 ino);                 /* it got a name again (linkat of an O_TMPFILE) */
int sx_node_restore(SxVfs *v, SxNode *n);                  /* gives back the name that others removed; 0 also when there is none */
void sx_node_set_ghost(SxVfs *v, const SxAttr *attr);
bool sx_node_ghost(SxVfs *v, gint64 ino, SxAttr *ret);
bool sx_node_saw_cver(SxVfs *v, SxNode *n, gint64 cver);   /* records it; true when the kernel's pages are of this version */
bool sx_node_due_touch(SxVfs *v, gint64 ino);
void sx_node_overlay(SxVfs *v, SxAttr *attr);              /* size and times as being written */

static inline gint64
sx_vfs_due(const SxVfs *v)
{
    return sx_clock_real_ms(v->clock) + v->write_back_delay_ms;
}

/* vfs.c */
int sx_vfs_may_change(SxVfs *v, int provider);             /* 0, or -EROFS, -EPERM for the root */

/* file.c */
int sx_file_truncate(SxVfs *v, SxCaller *c, SxNode *n, gint64 size);

/* acl.c: POSIX ACLs in the form of the system.posix_acl_* attributes. Pure. */
bool sx_acl_valid(const void *acl, gsize n);
bool sx_acl_to_mode(const void *acl, gsize n, guint32 *mode, bool *ret_minimal); /* permission bits from an access ACL */
GBytes *sx_acl_with_mode(const void *acl, gsize n, guint32 mode);                /* after chmod() */
/* The access ACL of a new object from its directory's default ACL; *mode is cut down to it. NULL: mode says it all. */
GBytes *sx_acl_inherit(const void *acl, gsize n, guint32 *mode);
#define SX_ACL_ACCESS "system.posix_acl_access"
#define SX_ACL_DEFAULT "system.posix_acl_default"

/* attributes.c */
int sx_attributes_inherit(SxVfs *v, gint64 parent, SxKind kind, guint32 umask, guint32 *mode, GBytes **ret_access, GBytes **ret_default);
int sx_attributes_store_inherited(SxVfs *v, gint64 ino, GBytes *access, GBytes *def);
int sx_attributes_chmod_acl(SxVfs *v, gint64 ino, guint32 mode);
void sx_attributes_kill_privileges(SxVfs *v, SxNode *n);
bool sx_attributes_privileged(SxVfs *v, const SxAttr *attr);

/* virtual.c */
static inline bool
sx_virtual_is(gint64 ino)
{
    return ino >= SX_VIRTUAL_INO;
}
int sx_virtual_lookup(SxVfs *v, gint64 parent, const char *name, SxAttr *ret);
int sx_virtual_getattr(SxVfs *v, gint64 ino, SxAttr *ret);
/* Entries of a virtual directory, or with dir SX_ROOT_INO the `.syncox` that the root has beside the tree's entries. */
int sx_virtual_readdir(SxVfs *v, gint64 dir, gint64 after, SxDirFn fn, void *data);
int sx_virtual_open(SxVfs *v, gint64 ino, int flags, SxFile **ret);
gint64 sx_virtual_parent(gint64 ino);

/* status.c */
char *sx_status_text(SxVfs *v, const SxAttr *attr);
