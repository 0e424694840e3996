/* What the cache's tests share: a directory, the fake tree, a clock that is set by hand, a system-call table that fails on demand. */
#pragma once

#include "base/log.h"
#include "cache/cache.h"
#include "test_cache_tree.h"

typedef enum FaultKind { FAULT_NONE, FAULT_ERRNO, FAULT_SHORT } FaultKind;
/* Which calls count for the N-th failure. */
typedef enum FaultCall {
    CALL_OPENAT = 1, CALL_PWRITE = 2, CALL_PREAD = 4, CALL_FTRUNCATE = 8, CALL_FALLOCATE = 16, CALL_FSYNC = 32, CALL_FDATASYNC = 64,
    CALL_UNLINKAT = 128, CALL_MKDIRAT = 256, CALL_FSTAT = 512, CALL_FSTATAT = 1024, CALL_RENAMEAT2 = 2048, CALL_LSEEK = 4096,
    CALL_SPLICE = 8192, CALL_SYNCFS = 16384, CALL_READ = 32768, CALL_FSTATVFS = 65536, CALL_CLOSE = 131072, CALL_ALL = 262143
} FaultCall;

typedef struct Env {
    char *dir;
    SxTree *tree;
    SxCache *cache;
    SxSys sys;
    SxClock clock;
    gint64 now_ms;       /* atomic */
    unsigned calls;      /* FaultCall: what counts */
    int nth;             /* atomic: the call with this number fails (counted down to 0); < 0: none */
    int fault_errno;
    FaultKind kind;
    bool sticky;         /* all later ones fail too */
    gint64 disk_free;    /* what fstatvfs says; -1: the truth */
    gint64 size, min_free;
} Env;

Env *env_new(gint64 size);
void env_free(Env *env);
void env_start(Env *env);             /* opens the cache */
void env_stop(Env *env);              /* closes it cleanly */
void env_crash(Env *env);             /* the process died: what is in memory is gone, no clean-up on the disk */
void env_fault(Env *env, unsigned calls, int nth, FaultKind kind, int err);
bool env_fault_hit(Env *env);         /* was it reached? Ends it */
SxContent *env_open(Env *env, gint64 ino);
char *env_path(Env *env, gint64 ino, gint64 cver, bool map);
bool env_used_is_right(Env *env);     /* sx_cache_used against the disk, but for an extent block that the file system took since */
gint64 env_disk_use(Env *env);        /* st_blocks of all contents, maps left out */
/* The byte that the remote has at off of (ino, cver). */
guint8 remote_byte(gint64 ino, gint64 cver, gint64 off);
void remote_bytes(gint64 ino, gint64 cver, gint64 off, gsize n, guint8 *buf);
int fetch(SxContent *c, gint64 off, gint64 len); /* fills what is missing in the range with remote bytes */
gssize write_all_steps(SxContent *c, gint64 off, const void *buf, gsize n); /* prepare, fetch, write in a loop, as the vfs does */
