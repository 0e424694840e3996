/* The present-map of one content version: a bit per block, in memory, and its file.
 *
 * File: SxExtentsHeader, then the live words, then the durable words (little-endian 64-bit, as many each). A live bit
 * is written after the block's bytes were; a durable bit after they were synced. Valid: magic, version, block size, ino,
 * cver and length agree. The map may be younger than the last power loss only in its live part; see sx_extents_load.
 *
 * Bits go from absent to present only, and blocks at or after n_blocks are always present (made locally), so a reader
 * that sees a bit needs no lock. Changes are made under the content's lock. */
#pragma once

#include "base/sys.h"

#define SX_EXTENTS_MAGIC "syncoxM1"
#define SX_EXTENTS_VERSION 1
#define SX_EXTENTS_MAX_BLOCKS ((gint64)1 << 33) /* 1 PiB of content: 1 GiB of map; larger is refused */

typedef struct SxExtents {
    int fd;             /* -1: no file */
    guint64 *words;     /* atomic; NULL when n_blocks is 0 */
    gint64 n_blocks;    /* blocks that can be absent */
    gint64 n_absent;    /* atomic */
    gint64 remote_size; /* absent blocks have bytes up to here only */
    int stale;          /* atomic: the file lags behind memory; nothing may be built on it before sx_extents_flush */
    gint64 ino, cver;
} SxExtents;

/* All absent, no file. size: of the remote content. false: too large. */
bool sx_extents_init(SxExtents *e, gint64 ino, gint64 cver, gint64 size);
void sx_extents_clear(SxExtents *e, const SxSys *sys);
/* Makes the file at name below dir. 0 or -errno, then there is none. */
int sx_extents_create(SxExtents *e, const SxSys *sys, int dir, const char *name);
/* Reads it. after_power_loss: bits whose block was not synced and has a hole in content_fd are taken back. 0, -ENOENT, -EUCLEAN
 * (not a valid map) or -errno. */
int sx_extents_load(SxExtents *e, const SxSys *sys, int dir, const char *name, gint64 ino, gint64 cver, int content_fd,
                    bool after_power_loss);
/* For a dirty content without a valid map: blocks with data in content_fd are present. */
int sx_extents_from_data(SxExtents *e, const SxSys *sys, int content_fd, gint64 size);
void sx_extents_drop_file(SxExtents *e, const SxSys *sys); /* closes it: everything is present */

bool sx_extents_has(const SxExtents *e, gint64 block);
bool sx_extents_has_range(const SxExtents *e, gint64 off, gint64 end);
gint64 sx_extents_next(const SxExtents *e, gint64 block, bool present, gint64 limit); /* first block >= block in that state, or limit */
/* The block that a write of [off, end) to a content of that size needs first, or -1. See sx_content_prepare. */
gint64 sx_extents_needed(const SxExtents *e, gint64 size, gint64 off, gint64 end);
gint64 sx_extents_absent_bytes(const SxExtents *e, gint64 size);

/* Marks [first, last) present: file first, then memory. On failure (-errno) nothing is marked. */
int sx_extents_set(SxExtents *e, const SxSys *sys, gint64 first, gint64 last);
/* The same when the content has changed already and cannot go back: memory is marked always, the file is stale on failure (-errno). */
int sx_extents_force(SxExtents *e, const SxSys *sys, gint64 first, gint64 last);
int sx_extents_flush(SxExtents *e, const SxSys *sys); /* writes a stale file anew */

guint64 *sx_extents_snapshot(const SxExtents *e);      /* before a sync of the content */
int sx_extents_made_durable(SxExtents *e, const SxSys *sys, const guint64 *snapshot); /* after it; syncs the map */
