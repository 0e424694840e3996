/* Sizes, durations, rates and times as text. */
#pragma once

#include <glib.h>
#include <stdbool.h>

/* "20G", "1.5M", "4096", "64 KiB": powers of 1024 for K M G T P, with or without i and B. */
bool sx_parse_size(const char *text, gint64 *ret_bytes, GError **error);
/* "2s", "15m", "500ms", "7d", "1h30m"; a bare number is seconds. */
bool sx_parse_duration(const char *text, gint64 *ret_ms, GError **error);
bool sx_parse_bool(const char *text, bool *ret_value, GError **error); /* yes no true false on off 1 0 */
char *sx_format_size(gint64 bytes);        /* "1.5 MiB" */
char *sx_format_duration(gint64 ms);       /* "3m 20s" */
char *sx_format_time(gint64 real_ns);      /* local time, RFC 3339 with seconds */

/* A bandwidth limit by time of day: "0" (none), "1M", or "08:00-18:00 1M, 0" (the last item without a span is the rest). */
typedef struct SxRate SxRate;
SxRate *sx_rate_parse(const char *text, GError **error);
gint64 sx_rate_at(const SxRate *rate, int minute_of_day); /* bytes per second, 0 unlimited */
void sx_rate_free(SxRate *rate);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxRate, sx_rate_free)
