/* What the files of the local provider share. */
#pragma once

#include "provider/provider.h"
#include "watch/watch.h"

#include <errno.h>
#include <fcntl.h>

#define LOCAL_BUFFER (256 * 1024)
#define LOCAL_TMP_AGE_NS (24 * 3600 * G_GINT64_CONSTANT(1000000000))
#define LOCAL_MINE_MAX 4096
#define LOCAL_MINE_MS 2000 /* by then the watcher has asked; not longer, so that an old state says nothing about a new change */
#define LOCAL_TMP_MAX 160 /* bytes of one of our temporary names */

typedef struct LocalMine {
    gint64 until_ms; /* monotonic */
    char *state;
} LocalMine;

typedef struct Local {
    const SxProviderEnv *env;
    const SxSys *sys;
    const SxClock *clock;
    const char *path; /* of the folder, for people and for opening it */
    bool create, ids, read_only;
    gint no_exchange; /* atomic; the file system refused RENAME_EXCHANGE */
    GMutex swap;      /* held from an exchange of two names until it is judged and perhaps undone: of three writers whose
                         exchanges interleave, one would bring back a loser's content and delete the winner's */
    SxWatch *watch;   /* NULL: no inotify to be had */
    GMutex lock;
    int root;         /* O_PATH; set once by probe and from then on only replaced by dup3(); guarded by lock until set */
    GHashTable *mine; /* path -> LocalMine: how we left it; at most LOCAL_MINE_MAX; guarded by lock */
} Local;

/* A call that a signal may interrupt. */
#define RETRY(call)                                                                                                    \
    ({                                                                                                                 \
        __typeof__(call) sx_r_;                                                                                        \
        do                                                                                                             \
            sx_r_ = (call);                                                                                            \
        while (sx_r_ < 0 && errno == EINTR);                                                                           \
        sx_r_;                                                                                                         \
    })

#define LOCAL_EGONE ENOTCONN /* the provider's folder itself is not there */

bool sx_local_fail(GError **error, int errnum, const char *path);
/* Opens the directory at a provider path, never through a symbolic link. O_PATH, O_RDONLY... in flags; fd or -errno. */
int sx_local_dir(Local *l, const char *path, int flags);
int sx_local_parent(Local *l, const char *path, int flags);
SxKind sx_local_kind(const struct stat *st);
/* "INO.SECONDS.NANOSECONDS.SIZE" in hex. Without ctime: our own renames and chmods must not look like new content. */
char *sx_local_version(const struct stat *st);
SxRemote *sx_local_remote(Local *l, int dir, const char *name, const struct stat *st);
/* 0, -ESTALE when the object is not what cond expects, -EEXIST for ABSENT. st NULL: nothing is there. */
int sx_local_check(const struct stat *st, const SxCond *cond);

/* Remembers how we leave an object (st NULL: absent), before others can see it, so that the watcher does not tell our own
 * changes. What is found in any other state was changed by somebody else. */
void sx_local_mine(Local *l, const char *path, const struct stat *st);

/* write.c */
bool sx_local_write(void *self, const char *path, const SxUpload *up, SxRemote **ret, GCancellable *cancel, GError **error);
bool sx_local_copy(void *self, const char *from, const char *to, GCancellable *cancel, GError **error);

/* fs.c: what the file system of a directory cannot hold; *caps is left alone for one that can everything. */
void sx_local_limits(guint32 magic, SxCaps *caps);
void sx_local_limits_of(int dir, SxCaps *caps);

/* names.c */
bool sx_local_mkdir(void *self, const char *path, SxRemote **ret, GCancellable *cancel, GError **error);
bool sx_local_symlink(void *self, const char *path, const char *target, SxRemote **ret, GCancellable *cancel, GError **error);
bool sx_local_remove(void *self, const char *path, SxKind kind, const SxCond *cond, GCancellable *cancel, GError **error);
bool sx_local_move(void *self, const char *from, const char *to, SxKind kind, GCancellable *cancel, GError **error);
bool sx_local_set_attr(void *self, const char *path, gint64 mtime_ns, int mode, SxRemote **ret, GCancellable *cancel, GError **error);
/* rename that never replaces, also where the file system lacks RENAME_NOREPLACE (not for directories). 0 or -errno. */
int sx_local_rename_noreplace(Local *l, int from_dir, const char *from, int to_dir, const char *to);

/* temp.c */
void sx_local_temp_name(Local *l, char ret[LOCAL_TMP_MAX]);
/* The name that a file gets while it changes places with the target: says whose inode is ours and what was expected there. */
void sx_local_swap_name(Local *l, guint64 our_ino, const char *expected, char ret[LOCAL_TMP_MAX]);
bool sx_local_temp_is_ours(const char *name);
/* Removes what a crash has left under that name, or gives back what is not ours to remove. min_age_ns by ctime. */
void sx_local_sweep(Local *l, int dir, const char *name, gint64 min_age_ns);
int sx_local_sweep_dir(Local *l, int dir, gint64 min_age_ns);
/* Gives a file that we displaced and must not lose a name that people see. */
void sx_local_recover(Local *l, int dir, const char *name);
