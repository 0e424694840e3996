/* The test face of the `mem` provider: its store, edited from beside, as "another client" of the same server would.
 *
 * A store named by the option `store = NAME` lives in the process until sx_mem_drop(NAME), beyond the provider, so that a
 * simulated crash opens the same storage again. Deterministic: versions and ids count up, times come from the clock of the
 * provider or are given, listings are sorted by name. Thread-safe. */
#pragma once

#include "provider/provider.h"

typedef struct SxMemStore SxMemStore; /* reference counted */

SxMemStore *sx_mem_store(const char *name); /* made when it is not there; a new ref */
SxMemStore *sx_mem_store_ref(SxMemStore *s);
void sx_mem_store_unref(SxMemStore *s);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxMemStore, sx_mem_store_unref)
void sx_mem_drop(const char *name); /* the name is free again; who has a ref keeps the old storage */

/* Edits by another client. They return 0 or -errno; parents must exist. mtime_ns SX_TIME_UNKNOWN: 0. */
int sx_mem_put(SxMemStore *s, const char *path, const void *data, gsize n, gint64 mtime_ns);
int sx_mem_mkdir(SxMemStore *s, const char *path);
int sx_mem_symlink(SxMemStore *s, const char *path, const char *target);
int sx_mem_remove(SxMemStore *s, const char *path);                 /* with all below */
int sx_mem_rename(SxMemStore *s, const char *from, const char *to); /* -EEXIST when the target is there */
GBytes *sx_mem_get(SxMemStore *s, const char *path);                /* NULL: no such file */
bool sx_mem_exists(SxMemStore *s, const char *path);

/* One line an object, sorted: "d a/", "f a/b 5 SHA256[0..12]", "l a/c -> target"; equal storages have equal texts. */
char *sx_mem_dump(SxMemStore *s);
/* How often a call arrived there since the store was made; SX_N_CALLS: all. */
guint64 sx_mem_calls(SxMemStore *s, SxCall call);
/* Called without any lock between the reading of an upload's bytes and its publishing: the moment of a race. NULL ends it. */
void sx_mem_set_before_publish(SxMemStore *s, void (*fn)(void *data, const char *path), void *data);
/* From now on every write that needs more than `bytes` in all fails with NO_SPACE; -1: no limit. */
void sx_mem_set_space(SxMemStore *s, gint64 bytes);
/* Aborts when an invariant of the storage is broken. */
void sx_mem_check(SxMemStore *s);
