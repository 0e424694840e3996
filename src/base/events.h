/* What happened, for people: errors, conflicts, finished transfers. A bounded ring in memory, appended to events.jsonl in
 * the state directory (rotated at SX_EVENTS_FILE_MAX), and handed to listeners. Thread-safe; listeners are called on the
 * emitting thread without any lock of ours held and must not block. */
#pragma once

#include <glib.h>
#include <stdbool.h>

#define SX_EVENTS_RING 1000
#define SX_EVENTS_FILE_MAX (4 * 1024 * 1024)

typedef struct SxEvents SxEvents;
typedef struct SxEvent {
    guint64 seq;          /* counts from 1 in each run */
    gint64 real_ns;
    const char *kind;     /* "error" "conflict" "uploaded" "downloaded" "deleted" "offline" "online" "held" "mounted" ... */
    const char *provider; /* NULL for the program itself */
    const char *path;     /* path inside the mount, or NULL; raw bytes */
    const char *text;     /* a sentence */
} SxEvent;
typedef void (*SxEventFn)(const SxEvent *event, void *data);

SxEvents *sx_events_new(const char *state_dir /* NULL: memory only */, GError **error);
void sx_events_free(SxEvents *events);
void sx_events_emit(SxEvents *events, gint64 real_ns, const char *kind, const char *provider, const char *path,
                    const char *format, ...) G_GNUC_PRINTF(6, 7);
guint sx_events_listen(SxEvents *events, SxEventFn fn, void *data); /* returns an id */
/* fn is not running after the return; so it may not be called from fn itself. */
void sx_events_unlisten(SxEvents *events, guint id);
/* Calls fn for each kept event with seq > after, oldest first; returns the newest seq. */
guint64 sx_events_since(SxEvents *events, guint64 after, SxEventFn fn, void *data);
/* Waits until an event newer than `after` exists, at most timeout_ms; true when there is one. */
bool sx_events_wait(SxEvents *events, guint64 after, gint64 timeout_ms);
char *sx_event_to_json(const SxEvent *event); /* one line, no newline; bytes that are not UTF-8 are written as U+FFFD plus "path_b64" */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxEvents, sx_events_free)
