/* The control interface: HTTP with JSON on a Unix socket (libmicrohttpd). The later REST interface is the same handlers.
 *
 * Socket: $XDG_RUNTIME_DIR/syncoxfs/<hash of the mount point>.sock, mode 0600, beside a symlink `default` to the newest one;
 * only the owner's uid is served (SO_PEERCRED). Routes are rows of one table in api.c: method, path, handler, doc.
 *
 * Paths in JSON: raw bytes of Linux need not be UTF-8, JSON must be. KEY holds the name as text for people; when the bytes
 * are not UTF-8, KEY_b64 beside it holds them in base64 and is what counts. The same in requests ("path" or "path_b64").
 * Errors are {"error": sx_error_code_name(), "message": a sentence, "remedy": what helps, when there is something}. */
#pragma once

#include "vfs/vfs.h"

#include <jansson.h>

#define SX_API_PREFIX "/api/v1/"
#define SX_HTTP_BODY_MAX (64 * 1024)
#define SX_HTTP_CONNECTIONS 64
#define SX_API_EVENT_WAIT_MAX_MS 60000

typedef struct SxHttp SxHttp;
typedef struct SxHttpOptions {
    SxVfs *vfs;
    const char *socket_path;
    const char *mountpoint;     /* absolute */
    const char *config_file;    /* NULL: the embedded default */
    const SxConf *conf;         /* outlives the server; NULL: doctor leaves it out */
    const char *cache_dir;      /* where they really are; NULL: as conf says */
    const char *state_dir;
    void (*quit)(void *data);   /* `syncox umount`: ends the mount soon after; any thread */
    void *data;
} SxHttpOptions;
/* SX_ERR_BUSY when another process answers on the socket. */
SxHttp *sx_http_start(const SxHttpOptions *options, GError **error);
void sx_http_stop(SxHttp *h); /* ends what waits, lets running answers out, removes the socket */
char *sx_http_socket_dir(void);
char *sx_http_default_socket(const char *mountpoint /* NULL: the newest */); /* g_free */
/* What the documents tell about the mount itself: the same from the socket and from .syncox/. */
typedef struct SxApiAbout {
    const char *mountpoint;     /* NULL: none */
    const char *config_file;    /* NULL: the embedded default */
    const SxClock *clock;
    gint64 started_mono_ms;
} SxApiAbout;
/* The documents behind .syncox/: "status.json" "transfers.json" "events.jsonl" "conflicts.json". For SxVfsOptions.document
 * with a const SxApiAbout as document_data. */
char *sx_api_document(SxVfs *vfs, const char *what, void *about);

/* Paths and other byte strings in JSON, as above. */
void sx_json_set_bytes(json_t *object, const char *key, const char *bytes /* NULL: null */);
char *sx_json_get_bytes(const json_t *object, const char *key); /* g_free; NULL when absent or malformed */

/* What may be wrong with a machine or a mount, and how to mend it (doctor.c). Waits as long as the slowest provider's timeout. */
typedef struct SxDoctorOptions {
    SxVfs *vfs;                  /* NULL: no mount runs, the providers of the configuration are asked directly */
    const char *mountpoint;      /* NULL: none */
    const SxConf *conf;          /* NULL: read config_file by means of the registry, and say what is wrong with it */
    const SxRegistry *registry;  /* NULL with conf NULL: all that needs the configuration is left out */
    const char *config_file;     /* NULL: the default place, which need not exist */
    const char *cache_dir;       /* instead of the configuration's; NULL */
    const char *state_dir;
    GCancellable *cancel;
} SxDoctorOptions;
json_t *sx_doctor(const SxDoctorOptions *options); /* array of {"check", "result": "ok" "warn" "fail", "message", "remedy"?} */
