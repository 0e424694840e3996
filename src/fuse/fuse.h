/* libfuse's low-level API over vfs: decode, call, answer once. And the notify thread, which tells the kernel. */
#pragma once

#include "vfs/vfs.h"

typedef struct SxFuse SxFuse;

/* First made without a vfs, because transfer needs the notify face before the vfs exists. */
SxFuse *sx_fuse_new(const char *mountpoint, const char *fsname, GPtrArray *mount_options /* of char*, as after -o */, GError **error);
const SxNotify *sx_fuse_notify(SxFuse *f); /* queue of bounded length, served by a thread of its own; safe before the mount */
/* Mounts. A dead mount of an earlier run at this place ("Transport endpoint is not connected") is unmounted first. */
bool sx_fuse_mount(SxFuse *f, SxVfs *vfs, GError **error);
int sx_fuse_loop(SxFuse *f, int max_threads); /* until unmounted or sx_fuse_stop; 0 or an exit code */
void sx_fuse_stop(SxFuse *f);                 /* any thread or signal handler's thread */
void sx_fuse_unmount(SxFuse *f);              /* when still mounted; afterwards no file is open and the notify face does nothing */
void sx_fuse_free(SxFuse *f);                 /* after those who use its notify face */
