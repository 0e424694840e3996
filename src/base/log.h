/* The log: one line an event to stderr (journald adds the time) or, with `-f` on a terminal, with the time in front.
 * Levels error, warn, info, debug. Never given a secret: SxSecret (secret/secret.h) has no printable form. */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef enum SxLogLevel { SX_LOG_ERROR, SX_LOG_WARN, SX_LOG_INFO, SX_LOG_DEBUG } SxLogLevel;

bool sx_log_level_parse(const char *text, SxLogLevel *ret_level);
void sx_log_set_level(SxLogLevel level); /* process-wide, atomic; the log is the one global of the program */
bool sx_log_enabled(SxLogLevel level);
void sx_log(SxLogLevel level, const char *format, ...) G_GNUC_PRINTF(2, 3);

#define sx_error_log(...) sx_log(SX_LOG_ERROR, __VA_ARGS__)
#define sx_warn(...) sx_log(SX_LOG_WARN, __VA_ARGS__)
#define sx_info(...) sx_log(SX_LOG_INFO, __VA_ARGS__)
#define sx_debug(...) G_STMT_START { if (sx_log_enabled(SX_LOG_DEBUG)) sx_log(SX_LOG_DEBUG, __VA_ARGS__); } G_STMT_END
