/* A folder of this machine as a provider: the face beside sx_provider_local. */
#pragma once

#include "provider/provider.h"

/* Is one of the two inside the other (or the same), links resolved as far as the paths exist? Such a folder would show
 * itself in itself. Neither path needs to exist; the last component of mountpoint is not touched (a dead mount would hang). */
bool sx_local_clashes(const char *path, const char *mountpoint);
