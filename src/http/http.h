/* The control interface: HTTP with JSON on a Unix socket (libmicrohttpd). The later REST interface is the same handlers.
 *
 * Socket: $XDG_RUNTIME_DIR/syncoxfs/<hash of the mount point>.sock, mode 0600, beside a symlink `default` to the newest one;
 * only the owner's uid is served (SO_PEERCRED). Routes are rows of one table in api.c: method, path, handler, doc. */
#pragma once

#include "vfs/vfs.h"

typedef struct SxHttp SxHttp;
typedef struct SxHttpOptions {
    SxVfs *vfs;
    const char *socket_path;
    const char *mountpoint;
    const char *config_file;
    void (*quit)(void *data);   /* `syncox umount` */
    void *data;
} SxHttpOptions;
SxHttp *sx_http_start(const SxHttpOptions *options, GError **error);
void sx_http_stop(SxHttp *h);
char *sx_http_default_socket(const char *mountpoint /* NULL: the newest */); /* g_free */
/* The documents behind .syncox/: "status.json" "transfers.json" "events.jsonl" "conflicts.json". for SxVfsOptions.document. */
char *sx_api_document(SxVfs *vfs, const char *what);
