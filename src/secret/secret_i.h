/* For the tests of the limit in time, which must not take 30 seconds. */
#pragma once

#include "secret/secret.h"

bool sx_secret_from_command(const char *command, int limit_ms, SxSecret **ret, GError **error);
