/* Private to http/: the REST interface without HTTP, so that tests, fuzzing and .syncox/ use the very same handlers. */
#pragma once

#include "http/http.h"

#define SX_API_PATH_MAX 8192     /* bytes of a path argument */
#define SX_API_ROWS 10000        /* pending rows looked at for one document */
#define SX_API_PROBLEMS 100      /* of them shown */
#define SX_API_QUEUE 50          /* next changes shown in transfers */
#define SX_API_EVENTS 1000       /* events in one answer */
#define SX_API_DEPTH 200          /* directories nested deeper are left alone by evict and the wait of pin */

typedef struct SxApi {
    SxVfs *vfs;
    const char *mountpoint;      /* NULL: none */
    const char *config_file;
    const SxConf *conf;          /* with cache_dir and state_dir for doctor; NULL */
    const char *cache_dir, *state_dir;
    gint64 started_mono_ms;
    const SxClock *clock;
    void (*quit)(void *data);
    void *data;
} SxApi;

typedef struct SxApiCall {
    const SxApi *api;
    const char *method, *path;   /* path: decoded, without the query */
    GHashTable *query;           /* char* -> char*, decoded; NULL: none */
    const char *body;
    gsize body_len;
    GCancellable *cancel;        /* fires when the client has gone or the server stops */
    /* Set by sx_api_call for the handler. */
    char *arg;                   /* what stands for '*' in the pattern */
    json_t *json;                /* the body; an object, empty when there was none */
} SxApiCall;

/* The answer as JSON text (g_free) and its HTTP status. Never NULL. */
char *sx_api_call(SxApiCall *call, unsigned *ret_status);

const char *sx_error_remedy(const GError *error); /* what a person can do; NULL */

/* Handlers: a new reference, or NULL and error. */
typedef json_t *(*SxHandler)(SxApiCall *call, GError **error);
json_t *sx_api_status(SxApiCall *call, GError **error);
json_t *sx_api_transfers(SxApiCall *call, GError **error);
json_t *sx_api_conflicts(SxApiCall *call, GError **error);
json_t *sx_api_providers(SxApiCall *call, GError **error);
json_t *sx_api_provider_test(SxApiCall *call, GError **error);
json_t *sx_api_flush(SxApiCall *call, GError **error);
json_t *sx_api_pin(SxApiCall *call, GError **error);
json_t *sx_api_unpin(SxApiCall *call, GError **error);
json_t *sx_api_evict(SxApiCall *call, GError **error);
json_t *sx_api_refresh(SxApiCall *call, GError **error);
json_t *sx_api_events(SxApiCall *call, GError **error);
json_t *sx_api_doctor(SxApiCall *call, GError **error);
json_t *sx_api_umount(SxApiCall *call, GError **error);

/* Arguments. */
const char *sx_call_query(const SxApiCall *call, const char *key); /* NULL when absent */
bool sx_call_int(const SxApiCall *call, const char *key, gint64 def, gint64 min, gint64 max, gint64 *ret, GError **error); /* query or body */
bool sx_call_bool(const SxApiCall *call, const char *key, bool *ret, GError **error);                                      /* body; false */
/* The path argument, from body or query, relative to the mount's root and clean ("" is the root); g_free. `required` false:
 * a missing one is the root. SX_ERR_INVALID when it is outside the mount. */
char *sx_call_path(const SxApiCall *call, bool required, GError **error);
/* Looks it up as a program would: unknown directories are listed, which may wait for the provider. */
bool sx_call_lookup(SxApiCall *call, const char *path, SxAttr *ret, GError **error);
void sx_call_caller(SxApiCall *call, SxCaller *ret); /* who asks, for sx_vfs_* */

/* Pieces of documents, used by more than one. */
json_t *sx_doc_problems(const SxApi *api, gint64 dir);
json_t *sx_doc_provider(const SxApi *api, int id, SxProvider *p);
json_t *sx_doc_totals(const SxApi *api, int provider);
char *sx_doc_row_path(SxTree *tree, const SxRow *row);

/* socket.c */
int sx_socket_listen(const char *path, GError **error); /* a descriptor; -1 */
void sx_socket_remove(const char *path, int fd);        /* closes fd */
