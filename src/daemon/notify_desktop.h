/* Desktop notifications (org.freedesktop.Notifications) of what a person should know: errors, conflicts, held deletes,
 * providers that went offline. Silent without a session bus. Events that come within a window become one notification. */
#pragma once

#include "base/events.h"

#define SX_DESKTOP_WINDOW_MS 10000 /* at most one notification a kind in it */
#define SX_DESKTOP_QUEUE 256       /* events that wait; more are only counted */

typedef struct SxDesktop SxDesktop;
typedef struct SxDesktopOptions {
    const char *bus_address;       /* NULL: the session's; there need not be one */
    gint64 window_ms;              /* 0: SX_DESKTOP_WINDOW_MS */
} SxDesktopOptions;
SxDesktop *sx_desktop_start(SxEvents *events, const SxDesktopOptions *options);
void sx_desktop_stop(SxDesktop *d); /* what waits is not shown any more; NULL is fine */

/* Pure: title and body for the n events of one kind, of which the first `n_given` texts are known. Markup is escaped. */
void sx_desktop_text(const char *kind, const char *const *texts, guint n_given, guint n, char **ret_title, char **ret_body);
bool sx_desktop_wants(const char *kind);
