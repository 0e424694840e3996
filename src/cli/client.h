/* HTTP over the control socket (libcurl). One thread. */
#pragma once

#include "http/http.h"

#define SX_CLIENT_ANSWER_MAX (64 * 1024 * 1024)

typedef struct SxClient SxClient;
/* socket: NULL finds it: --mount's directory, $SYNCOX_SOCKET, the mount around `path` or the working directory, the newest. */
SxClient *sx_client_new(const char *mount, const char *path, GError **error);
void sx_client_free(SxClient *c);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxClient, sx_client_free)

/* About every second while an answer is waited for. May make calls on another client. */
typedef void (*SxTickFn)(void *data);
void sx_client_set_tick(SxClient *c, SxTickFn fn, void *data);
SxClient *sx_client_again(const SxClient *c); /* another one to the same socket */

/* body: taken; NULL for none. Returns a new reference. An error of the daemon's has its code and message; its remedy then is
 * sx_client_remedy(). No daemon: SX_ERR_OFFLINE. */
json_t *sx_client_get(SxClient *c, const char *route, GError **error);
json_t *sx_client_post(SxClient *c, const char *route, json_t *body, GError **error);
const char *sx_client_remedy(const SxClient *c); /* NULL */
char *sx_client_query(const char *route, const char *key, const char *bytes); /* "status?path=..." escaped; g_free */
