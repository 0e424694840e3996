/* The few functions of tree/tree.h that the cache calls, over a table in memory: fast, and it fails when told to. Linked
 * before libsyncox.a it takes the place of the real tree. test_cache_store.c runs against the real one. */
#pragma once

#include "tree/tree.h"

SxTree *fake_tree_new(void);
void fake_tree_free(SxTree *t);
void fake_tree_started(SxTree *t, bool was_clean, bool same_boot);
SxAttr *fake_tree_add(SxTree *t, gint64 ino, gint64 size, int cached, bool dirty); /* its row; cver 1. Single-threaded use */
SxAttr *fake_tree_row(SxTree *t, gint64 ino);
void fake_tree_remove(SxTree *t, gint64 ino);
void fake_tree_pin(SxTree *t, gint64 ino, bool pinned);
void fake_tree_set_dirty(SxTree *t, gint64 ino, bool dirty);
gint64 fake_tree_replace(SxTree *t, gint64 ino, gint64 size); /* a new remote version; returns its cver */
void fake_tree_fail(SxTree *t, int err); /* set_cached fails with it; 0: works again */
void fake_tree_broken(SxTree *t, bool broken); /* nothing can be read */
