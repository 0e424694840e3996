#include "base/log.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const names[] = {"error", "warn", "info", "debug"};
static gint current = SX_LOG_INFO;

bool
sx_log_level_parse(const char *text, SxLogLevel *ret_level)
{
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        if (strcmp(text, names[i]) == 0) {
            *ret_level = (SxLogLevel)i;
            return true;
        }
    return false;
}

void
sx_log_set_level(SxLogLevel level)
{
    g_atomic_int_set(&current, (gint)level);
}

bool
sx_log_enabled(SxLogLevel level)
{
    return (gint)level <= g_atomic_int_get(&current);
}

/* One write() a line, so that lines of several threads never mix. */
void
sx_log(SxLogLevel level, const char *format, ...)
{
    if (!sx_log_enabled(level))
        return;
    char line[2048];
    size_t n = 0;
    if (isatty(STDERR_FILENO)) {
        time_t now = time(NULL);
        struct tm tm;
        localtime_r(&now, &tm);
        n = strftime(line, sizeof line, "%H:%M:%S ", &tm);
    }
    n += (size_t)snprintf(line + n, sizeof line - n, "syncoxfs: %s: ", names[level]);
    va_list ap;
    va_start(ap, format);
    int m = vsnprintf(line + n, sizeof line - n - 1, format, ap);
    va_end(ap);
    size_t begin = n;
    n = MIN(n + (size_t)MAX(m, 0), sizeof line - 2);
    for (size_t i = begin; i < n; i++) /* a file's name must not be able to forge a line, or speak to the terminal */
        if (g_ascii_iscntrl(line[i]))
            line[i] = '?';
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, n) < 0)
        return; /* nobody to tell */
}
