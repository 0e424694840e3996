/* The storage behind `mem`: a tree of nodes under one lock. The functions named *_locked need it held. */
#pragma once

#include "providers/mem/mem.h"

typedef struct MemNode {
    SxKind kind;
    GHashTable *children; /* DIR: name -> MemNode, owned */
    GBytes *bytes;        /* FILE; immutable, so that readers keep a snapshot */
    char *target;         /* SYMLINK */
    guint64 id, version;
    gint64 mtime_ns, btime_ns;
    int mode;
} MemNode;

typedef struct MemStaged { /* a resumable upload that has not been published */
    char *path;
    gint64 size;
    GByteArray *bytes;
} MemStaged;

typedef struct MemWatcher {
    GQueue paths; /* of char*; at most MEM_WATCH_MAX, then everything is reported */
    bool overflow;
} MemWatcher;

#define MEM_WATCH_MAX 10000

struct SxMemStore {
    gatomicrefcount ref;
    GMutex lock; /* guards all below */
    GCond changed;
    MemNode *root;
    guint64 last_id, last_version;
    guint64 calls[SX_N_CALLS];
    gint64 used, space; /* bytes in files; limit or -1 */
    GHashTable *staged; /* resume token -> MemStaged */
    GPtrArray *watchers; /* of MemWatcher, on the watching threads' stacks */
    void (*before_publish)(void *data, const char *path);
    void *before_publish_data;
};

SxMemStore *sx_mem_store_new(void);
MemNode *sx_mem_find_locked(SxMemStore *s, const char *path);
/* The directory in which path's last component is or would be: 0, -ENOENT, -ENOTDIR. */
int sx_mem_parent_locked(SxMemStore *s, const char *path, MemNode **ret_dir);
MemNode *sx_mem_add_locked(SxMemStore *s, MemNode *dir, const char *path, SxKind kind);
int sx_mem_delete_locked(SxMemStore *s, const char *path);
/* New content and a new version; takes no ref of bytes. -ENOSPC. */
int sx_mem_set_bytes_locked(SxMemStore *s, MemNode *node, GBytes *bytes);
int sx_mem_rename_locked(SxMemStore *s, const char *from, const char *to);
void sx_mem_notify_locked(SxMemStore *s, const char *path);
void sx_mem_node_free(MemNode *node);
