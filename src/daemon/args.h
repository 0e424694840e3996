/* The command line of syncoxfs, also in the form in which mount(8) and fstab call it:
 *   syncoxfs [-f] [-c FILE] [-o OPTS] MOUNTPOINT
 *   syncoxfs SOURCE MOUNTPOINT -o OPTS         (mount -t fuse.syncoxfs) */
#pragma once

#include "base/error.h"

typedef struct SxArgs {
    bool foreground;
    bool version;
    char *generate;             /* "sample" or "man": print that and end; for the build */
    char *config_file;          /* absolute; NULL: not given */
    char *cache_dir, *state_dir;/* absolute; NULL: not given */
    char *log_level;            /* NULL: not given */
    char *source;               /* first column of /proc/mounts; NULL */
    char *mountpoint;           /* as given; NULL with version and generate */
    GPtrArray *fuse_options;    /* of char*: what is not ours */
} SxArgs;

/* SX_ERR_INVALID with a sentence for wrong use. --help prints and exits. */
bool sx_args_parse(int argc, char **argv, SxArgs *ret, GError **error);
void sx_args_clear(SxArgs *args);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(SxArgs, sx_args_clear)
/* One -o list ("a,b=c,d=x\,y") into args; public for tests. */
bool sx_args_options(SxArgs *args, const char *list, GError **error);
