/* Changes of directories of this machine, as one queue of events.
 *
 * A watch is one kernel queue (inotify) with the directories that were added to it. Who wants to hear of changes makes one
 * of its own and runs it on a thread of its own: subscribers know nothing of each other, and two mounts in one process work.
 * What happens to one entry several times within SX_WATCH_SETTLE_MS is told once. add and remove: any thread, at any time, without
 * waiting for the runner. */
#pragma once

#include "base/error.h"

#include <gio/gio.h>

#define SX_WATCH_SETTLE_MS 100
#define SX_WATCH_PENDING_MAX 10000 /* changes kept until they are told; more become one SX_WATCH_RESCAN */

typedef enum SxWatchWhat {
    SX_WATCH_CHANGED, /* `name` in `key` appeared, vanished, or has other content or attributes; name NULL: the directory's own attributes */
    SX_WATCH_GONE,    /* the directory itself was removed, renamed or unmounted: it and all below are no longer watched */
    SX_WATCH_RESCAN,  /* events were lost: anything may have changed; key "" */
} SxWatchWhat;
typedef void (*SxWatchFn)(void *data, SxWatchWhat what, const char *key, const char *name);

typedef struct SxWatch SxWatch;
SxWatch *sx_watch_new(GError **error); /* fails when the user has too many inotify instances */
void sx_watch_free(SxWatch *w);        /* sx_watch_run has returned before */
/* Watches the directory that dirfd (O_PATH is enough) stands for. `key` is the caller's name for it, a path with '/' between
 * components: when an entry of a watched directory is moved away to where nobody watches, the keys below it are dropped. Again with another key:
 * the new one counts. 0; -ENOSPC: the limit max_user_watches is reached (one warning is logged, and sx_watch_run ends with
 * SX_ERR_UNSUPPORTED: the caller polls); or -errno. */
int sx_watch_add(SxWatch *w, int dirfd, const char *key);
void sx_watch_remove(SxWatch *w, const char *key); /* with all below */
/* What is watched at or below `from` is known as `to` from now on. Called before a directory is renamed by ourselves (and the
 * other way round when that fails). A rename by others between two watched directories does the same by itself. */
void sx_watch_rename(SxWatch *w, const char *from, const char *to);
guint sx_watch_count(SxWatch *w);
/* Calls fn on this thread until cancelled (SX_ERR_CANCELLED) or failed; fn may add and remove. One runner at a time. */
bool sx_watch_run(SxWatch *w, SxWatchFn fn, void *data, GCancellable *cancel, GError **error);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxWatch, sx_watch_free)
