/* Is the place fit for a mount? */
#pragma once

#include "conf/conf.h"

/* Absolute, without links; a dead mount of an earlier run is accepted (sx_fuse_mount clears it away). g_free; NULL and error. */
char *sx_place_check(const char *mountpoint, GError **error);
/* No folder of a local provider, cache or state may contain the mount or lie in it: it would wait for itself. */
bool sx_place_check_conf(const char *mountpoint, const SxConf *conf, const char *cache_dir, const char *state_dir, GError **error);
bool sx_path_is_below(const char *path, const char *dir); /* the same, or deeper; both absolute and clean */
