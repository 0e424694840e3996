/* The whole of one mount, built bottom-up in one function (sx_stack_new) and taken down in the opposite order.
 *
 *   conf -> events -> fuse (not mounted yet: transfer needs its notify face) -> tree -> cache -> transfer + providers -> vfs
 *   then sx_stack_mount: http (control socket), the mount itself
 *
 * Order of the end: fuse stops giving requests, vfs closes what is open, http, transfer, cache, tree. Nothing is lost at any
 * step: what is not on a provider yet is in the tree. Two stacks in one process do not disturb each other. */
#pragma once

#include "vfs/vfs.h"

typedef struct SxStack SxStack;

typedef struct SxStackOptions {
    const SxConf *conf;          /* outlives the stack */
    const char *config_file;     /* where it came from, for status; NULL: the embedded default */
    const char *mountpoint;      /* absolute; NULL: everything but fuse and http (tests) */
    const char *fsname;          /* the first column of /proc/mounts; NULL: "syncoxfs" */
    GPtrArray *mount_options;    /* of char*, as after -o; NULL: none */
    const char *cache_dir;       /* instead of the configuration's; NULL */
    const char *state_dir;       /* likewise */
    const char *socket_path;     /* NULL: sx_http_default_socket(mountpoint) */
    const SxSys *sys;            /* NULL: the default */
    const SxClock *clock;        /* NULL: the default */
} SxStackOptions;

/* Opens the stores, the providers (no network yet) and starts the background work. SX_ERR_BUSY: the state directory is in
 * use by another process. Starts threads: fork before. */
SxStack *sx_stack_new(const SxStackOptions *options, GError **error);
bool sx_stack_mount(SxStack *stack, GError **error); /* control socket and mount; programs may use it when this returns true */
int sx_stack_run(SxStack *stack);                    /* serves until unmounted or stopped; an exit code */
void sx_stack_stop(SxStack *stack);                  /* makes sx_stack_run return; any thread, any number of times */
void sx_stack_free(SxStack *stack);                  /* unmounts if still mounted */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxStack, sx_stack_free)

SxVfs *sx_stack_vfs(SxStack *stack);
const char *sx_stack_state_dir(const SxStack *stack);
SxRegistry *sx_stack_registry(void); /* a new registry with every provider type of this program */
