#include "cli/client.h"

#include <curl/curl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct SxClient {
    CURL *curl;
    char *socket;
    char *remedy;
    GString *answer;
    SxTickFn tick;
    void *tick_data;
};

/* ---- which mount ---- */

static char *
real_path(const char *path)
{
    g_autofree char *absolute = g_canonicalize_filename(path, NULL);
    char *found = realpath(absolute, NULL); /* fails on a dead mount: then as written */
    if (found == NULL)
        return g_steal_pointer(&absolute);
    char *copy = g_strdup(found);
    free(found);
    return copy;
}

/* The socket of the mount at or above a path; only the runtime directory is looked at, never the mount itself. */
static char *
socket_around(const char *path)
{
    for (g_autofree char *dir = real_path(path);;) {
        g_autofree char *socket = sx_http_default_socket(dir);
        if (g_file_test(socket, G_FILE_TEST_EXISTS))
            return g_steal_pointer(&socket);
        g_autofree char *up = g_path_get_dirname(dir);
        if (strcmp(up, dir) == 0)
            return NULL;
        g_free(dir);
        dir = g_steal_pointer(&up);
    }
}

static char *
find_socket(const char *mount, const char *path, GError **error)
{
    char *socket = NULL;
    if (mount != NULL) {
        if ((socket = socket_around(mount)) == NULL)
            sx_fail(error, SX_ERR_OFFLINE, "no syncoxfs is mounted on %s", mount);
        return socket;
    }
    const char *named = g_getenv("SYNCOX_SOCKET");
    if (named != NULL && *named != '\0')
        return g_strdup(named);
    if (path != NULL && (socket = socket_around(path)) != NULL)
        return socket;
    if ((socket = socket_around(".")) != NULL)
        return socket;
    return sx_http_default_socket(NULL);
}

/* ---- requests ---- */

static size_t
on_bytes(char *bytes, size_t one, size_t n, void *data)
{
    SxClient *c = data;
    if (c->answer->len + n > SX_CLIENT_ANSWER_MAX)
        return 0;
    g_string_append_len(c->answer, bytes, (gssize)n);
    return n;
}

/* Like tail -f: who only waits for news would never write, and so never learn that nobody reads any more. */
static bool
nobody_reads(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO};
    return poll(&out, 1, 0) > 0 && (out.revents & POLLERR) != 0;
}

static int
on_progress(void *data, curl_off_t dl_total, curl_off_t dl, curl_off_t ul_total, curl_off_t ul)
{
    SxClient *c = data;
    if (c->tick != NULL)
        c->tick(c->tick_data);
    return nobody_reads() ? 1 : 0;
}

static SxClient *
client_on(const char *socket)
{
    SxClient *c = g_new0(SxClient, 1);
    c->socket = g_strdup(socket);
    c->answer = g_string_new(NULL);
    c->curl = curl_easy_init();
    if (c->curl == NULL)
        g_error("out of memory");
    curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, c->socket);
    curl_easy_setopt(c->curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, c);
    curl_easy_setopt(c->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(c->curl, CURLOPT_XFERINFODATA, c);
    curl_easy_setopt(c->curl, CURLOPT_NOPROGRESS, 0L);
    return c;
}

SxClient *
sx_client_new(const char *mount, const char *path, GError **error)
{
    g_autofree char *socket = find_socket(mount, path, error);
    return socket != NULL ? client_on(socket) : NULL;
}

SxClient *
sx_client_again(const SxClient *c)
{
    return client_on(c->socket);
}

void
sx_client_free(SxClient *c)
{
    if (c == NULL)
        return;
    curl_easy_cleanup(c->curl);
    g_string_free(c->answer, TRUE);
    g_free(c->socket);
    g_free(c->remedy);
    g_free(c);
}

void
sx_client_set_tick(SxClient *c, SxTickFn fn, void *data)
{
    c->tick = fn;
    c->tick_data = data;
}

const char *
sx_client_remedy(const SxClient *c)
{
    return c != NULL ? c->remedy : NULL;
}

static bool
set_remedy(SxClient *c, const char *text)
{
    g_free(c->remedy);
    c->remedy = g_strdup(text);
    return false;
}

static bool
transport_failed(SxClient *c, CURLcode code, GError **error)
{
    switch (code) {
    case CURLE_COULDNT_CONNECT:
        set_remedy(c, "syncoxfs MOUNTPOINT mounts; syncox doctor finds out what is wrong");
        return sx_fail(error, SX_ERR_OFFLINE, "no mount is running (nobody answers on %s)", c->socket);
    case CURLE_ABORTED_BY_CALLBACK: return sx_fail(error, SX_ERR_CANCELLED, "nobody reads the output any more");
    case CURLE_WRITE_ERROR: return sx_fail(error, SX_ERR_TOO_LARGE, "the answer of the mount is too large");
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_PARTIAL_FILE: return sx_fail(error, SX_ERR_LOST, "the mount ended before it answered");
    default: return sx_fail(error, SX_ERR_FAILED, "%s: %s", c->socket, curl_easy_strerror(code));
    }
}

static json_t *
read_answer(SxClient *c, GError **error)
{
    long status = 0;
    json_error_t why;
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    json_t *doc = json_loadb(c->answer->str, c->answer->len, 0, &why);
    if (doc == NULL) {
        sx_fail(error, SX_ERR_PROTOCOL, "the answer of the mount (HTTP %ld) is not JSON: %s", status, why.text);
        return NULL;
    }
    const char *name = json_string_value(json_object_get(doc, "error")), *message = json_string_value(json_object_get(doc, "message"));
    if (status < 400)
        return doc;
    SxErrorCode code = SX_ERR_FAILED;
    if (name != NULL)
        sx_error_code_from_name(name, &code);
    set_remedy(c, json_string_value(json_object_get(doc, "remedy")));
    sx_fail(error, code, "%s", message != NULL ? message : "the mount refused without a reason");
    json_decref(doc);
    return NULL;
}

static json_t *
perform(SxClient *c, const char *route, GError **error)
{
    g_autofree char *url = g_strconcat("http://localhost" SX_API_PREFIX, route, NULL);
    curl_easy_setopt(c->curl, CURLOPT_URL, url);
    g_string_truncate(c->answer, 0);
    set_remedy(c, NULL);
    CURLcode code = curl_easy_perform(c->curl);
    if (code != CURLE_OK) {
        transport_failed(c, code, error);
        return NULL;
    }
    return read_answer(c, error);
}

json_t *
sx_client_get(SxClient *c, const char *route, GError **error)
{
    curl_easy_setopt(c->curl, CURLOPT_HTTPGET, 1L);
    return perform(c, route, error);
}

json_t *
sx_client_post(SxClient *c, const char *route, json_t *body, GError **error)
{
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    headers = curl_slist_append(headers, "Expect:");
    curl_easy_setopt(c->curl, CURLOPT_POST, 1L);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, text != NULL ? text : "");
    json_t *doc = perform(c, route, error);
    curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, NULL);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    free(text);
    json_decref(body);
    return doc;
}

char *
sx_client_query(const char *route, const char *key, const char *bytes)
{
    g_autofree char *escaped = g_uri_escape_bytes((const guint8 *)bytes, strlen(bytes), NULL);
    return g_strdup_printf("%s?%s=%s", route, key, escaped);
}
