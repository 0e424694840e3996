/* The table of routes, arguments, and errors as JSON. */
#include "http/api_i.h"

#include "base/path.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static json_t *routes_doc(SxApiCall *call, GError **error);

static const struct SxRoute {
    const char *method;
    const char *pattern; /* behind SX_API_PREFIX; '*' stands for one component */
    SxHandler fn;
    const char *doc;
} routes[] = {
    {"GET", "", routes_doc, "this list"},
    {"GET", "status", sx_api_status, "the whole mount, or ?path=PATH: one file or directory"},
    {"GET", "transfers", sx_api_transfers, "what is going up and down now, and what comes next"},
    {"GET", "conflicts", sx_api_conflicts, "conflict copies that still exist"},
    {"GET", "providers", sx_api_providers, "each provider with its state"},
    {"POST", "providers/*/test", sx_api_provider_test, "contacts the provider, logs in, and says what happened"},
    {"POST", "flush", sx_api_flush, "{path?, timeout?: seconds} waits until all changes there are on the providers"},
    {"POST", "pin", sx_api_pin, "{path, wait?: bool} keeps it offline; wait: until what is missing has been downloaded"},
    {"POST", "unpin", sx_api_unpin, "{path} lets it be evicted again"},
    {"POST", "evict", sx_api_evict, "{path} frees its space in the cache"},
    {"POST", "refresh", sx_api_refresh, "{path?, accept?: bool} looks for changes on the provider; accept: also a held mass delete"},
    {"GET", "events", sx_api_events, "?since=SEQ&wait=SECONDS; waits for a newer one"},
    {"GET", "doctor", sx_api_doctor, "what may be wrong here, with remedies"},
    {"POST", "umount", sx_api_umount, "{force?: bool} ends the mount; changes not uploaded yet go out at the next one"},
};

static json_t *
routes_doc(SxApiCall *call, GError **error)
{
    json_t *list = json_array();
    for (guint i = 0; i < G_N_ELEMENTS(routes); i++)
        json_array_append_new(list, json_pack("{s:s, s:s+, s:s}", "method", routes[i].method, "path", SX_API_PREFIX,
                                              routes[i].pattern, "doc", routes[i].doc));
    return json_pack("{s:o}", "routes", list);
}

/* "providers/nas/test" against a pattern with '*'; *ret_arg is what the star stands for. */
static bool
match(const char *pattern, const char *path, char **ret_arg)
{
    g_clear_pointer(ret_arg, g_free);
    const char *star = strchr(pattern, '*');
    if (star == NULL)
        return strcmp(pattern, path) == 0;
    gsize head = (gsize)(star - pattern);
    if (strncmp(pattern, path, head) != 0)
        return false;
    gsize n = strcspn(path + head, "/");
    if (n == 0 || strcmp(path + head + n, star + 1) != 0)
        return false;
    *ret_arg = g_strndup(path + head, n);
    return true;
}

static const struct SxRoute *
find_route(SxApiCall *call, GError **error)
{
    bool other_method = false;
    if (g_str_has_prefix(call->path, SX_API_PREFIX))
        for (guint i = 0; i < G_N_ELEMENTS(routes); i++) {
            if (!match(routes[i].pattern, call->path + strlen(SX_API_PREFIX), &call->arg))
                continue;
            if (strcmp(routes[i].method, call->method) == 0)
                return &routes[i];
            other_method = true;
        }
    if (other_method)
        sx_fail(error, SX_ERR_UNSUPPORTED, "%s is answered, but not with the method %s", call->path, call->method);
    else
        sx_fail(error, SX_ERR_NOT_FOUND, "no such address: %s (GET " SX_API_PREFIX " lists them)", call->path);
    return NULL;
}

static bool
parse_body(SxApiCall *call, GError **error)
{
    if (call->body_len == 0) {
        call->json = json_object();
        return true;
    }
    json_error_t why;
    call->json = json_loadb(call->body, call->body_len, JSON_REJECT_DUPLICATES, &why);
    if (call->json == NULL)
        return sx_fail(error, SX_ERR_INVALID, "the request's body is not JSON: line %d: %s", why.line, why.text);
    return json_is_object(call->json) || sx_fail(error, SX_ERR_INVALID, "the request's body must be a JSON object");
}

static unsigned
http_status(const GError *error)
{
    switch (sx_error_code(error)) {
    case SX_ERR_INVALID:
    case SX_ERR_NAME:
    case SX_ERR_NAME_TOO_LONG:
    case SX_ERR_NOT_DIR:
    case SX_ERR_IS_DIR: return 400;
    case SX_ERR_PERMISSION:
    case SX_ERR_READ_ONLY: return 403;
    case SX_ERR_NOT_FOUND: return 404;
    case SX_ERR_UNSUPPORTED: return 405;
    case SX_ERR_BUSY:
    case SX_ERR_EXISTS:
    case SX_ERR_NOT_EMPTY:
    case SX_ERR_CHANGED: return 409;
    case SX_ERR_TOO_LARGE: return 413;
    case SX_ERR_AUTH:
    case SX_ERR_TLS:
    case SX_ERR_PROTOCOL:
    case SX_ERR_SERVER:
    case SX_ERR_LOST: return 502;
    case SX_ERR_OFFLINE:
    case SX_ERR_RATE:
    case SX_ERR_CANCELLED: return 503;
    case SX_ERR_TIMEOUT: return 504;
    case SX_ERR_NO_SPACE:
    case SX_ERR_QUOTA:
    case SX_ERR_BACKPRESSURE: return 507;
    default: return 500;
    }
}

const char *
sx_error_remedy(const GError *error)
{
    switch (sx_error_code(error)) {
    case SX_ERR_AUTH: return "check user and password, then: syncox provider test NAME; after a change of the configuration instead: syncox umount, and mount again";
    case SX_ERR_TLS: return "if the certificate is your own, name its CA in the provider's ca-file";
    case SX_ERR_OFFLINE:
    case SX_ERR_TIMEOUT:
    case SX_ERR_LOST: return "check the network and the provider's url; what is cached can be used meanwhile";
    case SX_ERR_QUOTA: return "free some space at the provider";
    case SX_ERR_NO_SPACE: return "free some space, or raise cache-size";
    case SX_ERR_BACKPRESSURE: return "wait until uploads have made room (syncox transfers), or raise cache-size";
    case SX_ERR_NAME:
    case SX_ERR_NAME_TOO_LONG: return "rename the file";
    default: return NULL;
    }
}

static json_t *
error_doc(const GError *error)
{
    g_autofree char *message = g_utf8_make_valid(error->message, -1);
    json_t *doc = json_pack("{s:s, s:s}", "error", sx_error_code_name(sx_error_code(error)), "message", message);
    const char *remedy = sx_error_remedy(error);
    if (remedy != NULL)
        json_object_set_new(doc, "remedy", json_string(remedy));
    return doc;
}

static char *
dump(json_t *doc)
{
    char *text = json_dumps(doc, JSON_INDENT(1) | JSON_PRESERVE_ORDER);
    json_decref(doc);
    char *copy = g_strdup(text != NULL ? text : "{}"); /* callers use g_free */
    free(text);
    return copy;
}

char *
sx_api_call(SxApiCall *call, unsigned *ret_status)
{
    g_autoptr(GError) error = NULL;
    json_t *doc = NULL;
    const struct SxRoute *route = find_route(call, &error);
    if (route != NULL && parse_body(call, &error))
        doc = route->fn(call, &error);
    *ret_status = 200;
    if (doc == NULL) {
        *ret_status = http_status(error);
        doc = error_doc(error);
    }
    g_clear_pointer(&call->arg, g_free);
    g_clear_pointer(&call->json, json_decref);
    return dump(doc);
}

const char *
sx_call_query(const SxApiCall *call, const char *key)
{
    return call->query != NULL ? g_hash_table_lookup(call->query, key) : NULL;
}

bool
sx_call_int(const SxApiCall *call, const char *key, gint64 def, gint64 min, gint64 max, gint64 *ret, GError **error)
{
    const json_t *j = json_object_get(call->json, key);
    const char *text = sx_call_query(call, key);
    *ret = def;
    if (j != NULL) {
        if (!json_is_integer(j))
            return sx_fail(error, SX_ERR_INVALID, "%s must be a whole number", key);
        *ret = json_integer_value(j);
    } else if (text != NULL && !g_ascii_string_to_signed(text, 10, G_MININT64, G_MAXINT64, ret, NULL)) {
        return sx_fail(error, SX_ERR_INVALID, "%s must be a whole number, not %s", key, text);
    }
    if (*ret < min || *ret > max)
        return sx_fail(error, SX_ERR_INVALID, "%s must be between %" G_GINT64_FORMAT " and %" G_GINT64_FORMAT, key, min, max);
    return true;
}

bool
sx_call_bool(const SxApiCall *call, const char *key, bool *ret, GError **error)
{
    const json_t *j = json_object_get(call->json, key);
    if (j != NULL && !json_is_boolean(j))
        return sx_fail(error, SX_ERR_INVALID, "%s must be true or false", key);
    *ret = json_is_true(j);
    return true;
}

/* Cuts the mount point off an absolute path. */
static const char *
inside_mount(const SxApiCall *call, const char *path, GError **error)
{
    if (*path != '/')
        return path;
    const char *mount = call->api->mountpoint;
    gsize n = mount != NULL ? strlen(mount) : 0;
    if (n > 0 && strncmp(path, mount, n) == 0 && (path[n] == '/' || path[n] == '\0'))
        return path + n;
    sx_fail(error, SX_ERR_INVALID, "%s is not inside the mount %s", path, mount != NULL ? mount : "");
    return NULL;
}

static char *
clean_path(const char *path, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    g_autoptr(GString) out = g_string_new(NULL);
    for (char **p = parts; *p != NULL; p++) {
        if (**p == '\0' || strcmp(*p, ".") == 0)
            continue;
        if (!sx_name_valid(*p, strlen(*p))) {
            sx_fail(error, SX_ERR_INVALID, "'%s' cannot be a part of a path here: %s", *p, path);
            return NULL;
        }
        g_string_append_printf(out, "%s%s", out->len > 0 ? "/" : "", *p);
    }
    return g_string_free(g_steal_pointer(&out), FALSE);
}

char *
sx_call_path(const SxApiCall *call, bool required, GError **error)
{
    bool in_body = json_object_get(call->json, "path") != NULL || json_object_get(call->json, "path_b64") != NULL;
    g_autofree char *raw = in_body ? sx_json_get_bytes(call->json, "path") : g_strdup(sx_call_query(call, "path"));
    if (raw == NULL && in_body) {
        sx_fail(error, SX_ERR_INVALID, "path must be a text without NUL, path_b64 its bytes in base64");
        return NULL;
    }
    if (raw == NULL && required) {
        sx_fail(error, SX_ERR_INVALID, "path is missing");
        return NULL;
    }
    if (raw == NULL)
        return g_strdup("");
    if (strlen(raw) > SX_API_PATH_MAX) {
        sx_fail(error, SX_ERR_NAME_TOO_LONG, "the path is longer than %d bytes", SX_API_PATH_MAX);
        return NULL;
    }
    const char *inner = inside_mount(call, raw, error);
    return inner != NULL ? clean_path(inner, error) : NULL;
}

static GCancellable *
caller_cancel(SxCaller *caller)
{
    return caller->data;
}

void
sx_call_caller(SxApiCall *call, SxCaller *ret)
{
    *ret = (SxCaller){.uid = geteuid(), .gid = getegid(), .pid = (guint32)getpid(), .umask = 077,
                      .cancel = caller_cancel, .data = call->cancel};
}

bool
sx_call_lookup(SxApiCall *call, const char *path, SxAttr *ret, GError **error)
{
    SxCaller caller;
    sx_call_caller(call, &caller);
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    int r = sx_vfs_getattr(call->api->vfs, &caller, SX_ROOT_INO, ret);
    for (char **p = parts; r == 0 && *p != NULL && **p != '\0'; p++)
        r = sx_vfs_lookup(call->api->vfs, &caller, ret->ino, *p, ret);
    return r == 0 || sx_fail_errno(error, -r, "%s", *path != '\0' ? path : "/");
}
