/* Into the background, and the log there. */
#pragma once

#include "base/error.h"

#define SX_LOG_FILE_MAX (4 * 1024 * 1024) /* at a start with a larger one it becomes log.1 */

/* Forks, before there are threads. The parent does not return: it exits with 0 when the child calls sx_background_ready, or
 * with the child's exit code. Returns the descriptor for sx_background_ready, or -1 and error. */
int sx_background_fork(GError **error);
/* Tells the parent, and leaves the terminal: stdin and stdout become /dev/null, stderr the log. */
bool sx_background_ready(int fd, const char *log_file, GError **error);
bool sx_background_open_log(const char *log_file, GError **error); /* (again): stderr goes there */
