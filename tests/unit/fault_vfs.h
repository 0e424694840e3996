/* An SQLite VFS under which the N-th write, truncation or sync fails; for tests of the stores. */
#pragma once

#include <glib.h>
#include <sqlite3.h>
#include <string.h>

typedef struct FaultVfs {
    sqlite3_vfs vfs;
    sqlite3_vfs *base;
    gint calls;    /* atomic: changes asked for since armed */
    gint fail_at;  /* atomic: this one fails, counted from 1; 0 none */
    gint lasting;  /* atomic: and all after it */
    gint code;     /* atomic: SQLITE_IOERR_WRITE or SQLITE_FULL */
    gint no_reads; /* atomic: nothing can be read */
    gint no_opens; /* atomic: nothing can be opened */
} FaultVfs;

typedef struct FaultFile {
    sqlite3_file base;
    sqlite3_file *real;
    FaultVfs *vfs;
} FaultFile;

static inline sqlite3_file *
fault_real(sqlite3_file *f)
{
    return ((FaultFile *)f)->real;
}

static inline int
fault_now(sqlite3_file *f)
{
    FaultVfs *v = ((FaultFile *)f)->vfs;
    int at = g_atomic_int_get(&v->fail_at);
    int n = g_atomic_int_add(&v->calls, 1) + 1;
    if (at == 0 || n < at || (n > at && !g_atomic_int_get(&v->lasting)))
        return SQLITE_OK;
    return g_atomic_int_get(&v->code);
}

#define FORWARD(name, params, args)                                                                                    \
    static inline int fault_##name params                                                                              \
    {                                                                                                                  \
        sqlite3_file *r = fault_real(f);                                                                               \
        return r->pMethods->name args;                                                                                 \
    }
#define FORWARD_OR_FAIL(name, params, args)                                                                            \
    static inline int fault_##name params                                                                              \
    {                                                                                                                  \
        int rc = fault_now(f);                                                                                         \
        sqlite3_file *r = fault_real(f);                                                                               \
        return rc != SQLITE_OK ? rc : r->pMethods->name args;                                                          \
    }
static inline int
fault_xRead(sqlite3_file *f, void *p, int n, sqlite3_int64 off)
{
    if (g_atomic_int_get(&((FaultFile *)f)->vfs->no_reads))
        return SQLITE_IOERR_READ;
    return fault_real(f)->pMethods->xRead(fault_real(f), p, n, off);
}
/* Unmapped pages are read with xRead. */
static inline int
fault_xFetch(sqlite3_file *f, sqlite3_int64 off, int n, void **ret)
{
    *ret = NULL;
    if (g_atomic_int_get(&((FaultFile *)f)->vfs->no_reads))
        return SQLITE_OK;
    return fault_real(f)->pMethods->xFetch(fault_real(f), off, n, ret);
}
FORWARD_OR_FAIL(xWrite, (sqlite3_file * f, const void *p, int n, sqlite3_int64 off), (r, p, n, off))
FORWARD_OR_FAIL(xTruncate, (sqlite3_file * f, sqlite3_int64 size), (r, size))
FORWARD_OR_FAIL(xSync, (sqlite3_file * f, int flags), (r, flags))
FORWARD(xFileSize, (sqlite3_file * f, sqlite3_int64 *ret), (r, ret))
FORWARD(xLock, (sqlite3_file * f, int lock), (r, lock))
FORWARD(xUnlock, (sqlite3_file * f, int lock), (r, lock))
FORWARD(xCheckReservedLock, (sqlite3_file * f, int *ret), (r, ret))
FORWARD(xFileControl, (sqlite3_file * f, int op, void *arg), (r, op, arg))
FORWARD(xSectorSize, (sqlite3_file * f), (r))
FORWARD(xDeviceCharacteristics, (sqlite3_file * f), (r))
FORWARD(xShmMap, (sqlite3_file * f, int page, int size, int extend, void volatile **ret), (r, page, size, extend, ret))
FORWARD(xShmLock, (sqlite3_file * f, int off, int n, int flags), (r, off, n, flags))
FORWARD(xShmUnmap, (sqlite3_file * f, int remove), (r, remove))
FORWARD(xUnfetch, (sqlite3_file * f, sqlite3_int64 off, void *p), (r, off, p))
static inline void
fault_xShmBarrier(sqlite3_file *f)
{
    fault_real(f)->pMethods->xShmBarrier(fault_real(f));
}
static inline int
fault_xClose(sqlite3_file *f)
{
    return fault_real(f)->pMethods->xClose(fault_real(f));
}

static const sqlite3_io_methods fault_methods = {
    .iVersion = 3,
    .xClose = fault_xClose,
    .xRead = fault_xRead,
    .xWrite = fault_xWrite,
    .xTruncate = fault_xTruncate,
    .xSync = fault_xSync,
    .xFileSize = fault_xFileSize,
    .xLock = fault_xLock,
    .xUnlock = fault_xUnlock,
    .xCheckReservedLock = fault_xCheckReservedLock,
    .xFileControl = fault_xFileControl,
    .xSectorSize = fault_xSectorSize,
    .xDeviceCharacteristics = fault_xDeviceCharacteristics,
    .xShmMap = fault_xShmMap,
    .xShmLock = fault_xShmLock,
    .xShmBarrier = fault_xShmBarrier,
    .xShmUnmap = fault_xShmUnmap,
    .xFetch = fault_xFetch,
    .xUnfetch = fault_xUnfetch,
};

static inline int
fault_xOpen(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
    FaultFile *f = (FaultFile *)file;
    FaultVfs *v = (FaultVfs *)vfs;
    f->base.pMethods = NULL;
    if (g_atomic_int_get(&v->no_opens))
        return SQLITE_CANTOPEN;
    f->vfs = v;
    f->real = (sqlite3_file *)(f + 1);
    int rc = v->base->xOpen(v->base, name, f->real, flags, ret_flags);
    f->base.pMethods = f->real->pMethods != NULL ? &fault_methods : NULL;
    return rc;
}

/* Registers it under the name "fault". */
static inline void
fault_vfs_register(FaultVfs *v)
{
    memset(v, 0, sizeof *v);
    v->base = sqlite3_vfs_find("unix-excl");
    v->vfs = *v->base;
    v->vfs.zName = "fault";
    v->vfs.pNext = NULL;
    v->vfs.szOsFile = (int)sizeof(FaultFile) + v->base->szOsFile;
    v->vfs.xOpen = fault_xOpen;
    sqlite3_vfs_register(&v->vfs, 0);
}

static inline void
fault_arm(FaultVfs *v, int fail_at, bool lasting, int code)
{
    g_atomic_int_set(&v->lasting, lasting);
    g_atomic_int_set(&v->code, code);
    g_atomic_int_set(&v->calls, 0);
    g_atomic_int_set(&v->fail_at, fail_at);
}

/* Disarms; was the failing call reached? */
static inline bool
fault_disarm(FaultVfs *v)
{
    int at = g_atomic_int_get(&v->fail_at);
    bool hit = at != 0 && g_atomic_int_get(&v->calls) >= at;
    g_atomic_int_set(&v->fail_at, 0);
    return hit;
}
