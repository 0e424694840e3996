#include "net/net_i.h"

#include "base/log.h"

#include <errno.h>
#include <string.h>

#define POLL_MAX_MS 1000    /* an upper bound only: cancelling and data wake the loop */
#define PROGRESS_EVERY_US (200 * 1000)

typedef struct Exchange {
    SxNet *net;
    const SxNetRequest *request;
    SxNetResponse *response;
    GCancellable *cancel;
    CURL *easy;
    GError *error;        /* made by a callback; ends the exchange */
    gint64 timeout_us;
    gint64 active_us;     /* when something last moved */
    gint64 start_us;      /* when the request began to be sent; 0: not yet */
    gint64 off;           /* of the body: next byte to send */
    gint64 told, told_us; /* progress */
    bool answered;        /* some answer line came since the request was last sent */
    bool head_complete;   /* the empty line behind the last head has come */
    bool head_done, stopped;
} Exchange;

/* May the request be sent again when a kept connection turns out to be dead? Others end with LOST: the caller looks. */
static bool
is_safe(const char *method)
{
    static const char *const safe[] = {"GET", "HEAD", "OPTIONS", "PROPFIND", "REPORT", NULL};
    return g_strv_contains(safe, method);
}

static int
on_start(void *data, char *primary_ip, char *local_ip, int primary_port, int local_port)
{
    Exchange *x = data;
    if (x->start_us != 0 && !x->answered && !is_safe(x->request->method)) {
        sx_fail(&x->error, SX_ERR_LOST, "%s: %s: the connection broke while %s was sent", x->net->name, x->request->what,
                x->request->method);
        return CURL_PREREQFUNC_ABORT;
    }
    x->answered = false;
    x->active_us = g_get_monotonic_time();
    if (x->start_us == 0)
        x->start_us = x->active_us;
    x->response->requests++;
    return CURL_PREREQFUNC_OK;
}

/* Also asked between pieces: much can pass within one turn of the loop. */
static bool
cancelled(Exchange *x)
{
    if (!g_cancellable_is_cancelled(x->cancel))
        return false;
    if (x->error == NULL)
        sx_fail(&x->error, SX_ERR_CANCELLED, "%s: %s: cancelled", x->net->name, x->request->what);
    return true;
}

static gsize
on_read(char *buf, gsize size, gsize count, void *data)
{
    Exchange *x = data;
    const SxNetBody *body = x->request->body;
    if (cancelled(x))
        return CURL_READFUNC_ABORT;
    gsize want = (gsize)MIN((gint64)(size * count), body->size - x->off);
    gssize got = want == 0 ? 0 : body->read(body->data, x->off, buf, want);
    x->active_us = g_get_monotonic_time();
    if (got < 0 || (got == 0 && want > 0)) {
        SxErrorCode code = got == 0 || got == -ECANCELED ? SX_ERR_CANCELLED : sx_error_code_from_errno((int)-got);
        sx_fail(&x->error, code, "%s: %s: %s", x->net->name, x->request->what,
                code == SX_ERR_CANCELLED ? "the content changed during the upload" : g_strerror((int)-got));
        return CURL_READFUNC_ABORT;
    }
    x->off += got;
    return (gsize)got;
}

static int
on_seek(void *data, curl_off_t off, int origin)
{
    Exchange *x = data;
    if (origin != SEEK_SET || off < 0 || x->request->body == NULL || off > x->request->body->size)
        return CURL_SEEKFUNC_FAIL;
    x->off = off;
    return CURL_SEEKFUNC_OK;
}

static gsize
on_header(char *line, gsize size, gsize count, void *data)
{
    Exchange *x = data;
    x->answered = true;
    x->active_us = g_get_monotonic_time();
    x->head_complete = size * count <= 2;
    if (!sx_headers_line(x->response->headers, line, size * count, x->error == NULL ? &x->error : NULL)) {
        g_prefix_error(&x->error, "%s: %s: ", x->net->name, x->request->what);
        return 0;
    }
    return size * count;
}

static bool
is_good(const SxNetResponse *response)
{
    return response->status >= 200 && response->status < 300;
}

/* Once, when the final answer's head is complete. */
static bool
head(Exchange *x)
{
    if (x->head_done)
        return true;
    long status = 0;
    curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
    x->response->status = (int)status;
    x->head_done = true;
    return !is_good(x->response) || x->request->on_head == NULL ||
           x->request->on_head(x->request->data, x->response, &x->error);
}

static bool
store(Exchange *x, const char *buf, gsize n)
{
    GByteArray *body = x->response->body;
    gsize limit = is_good(x->response) && x->request->body_limit > 0 ? x->request->body_limit : SX_NET_ERROR_BODY_MAX;
    gsize room = limit - MIN(limit, body->len);
    if (n > room && is_good(x->response) && x->request->body_limit > 0)
        return sx_fail(&x->error, SX_ERR_PROTOCOL, "%s: %s: the answer is larger than %" G_GSIZE_FORMAT " bytes",
                       x->net->name, x->request->what, limit);
    g_byte_array_append(body, (const guint8 *)buf, (guint)MIN(n, room));
    return true;
}

static gsize
on_write(char *buf, gsize size, gsize count, void *data)
{
    Exchange *x = data;
    gsize n = size * count;
    if (!head(x) || cancelled(x))
        return 0;
    if (!is_good(x->response) || x->request->on_data == NULL) {
        if (!store(x, buf, n))
            return 0;
    } else {
        int rc = x->request->on_data(x->request->data, buf, n);
        x->stopped = rc == SX_NET_STOP;
        if (rc < 0)
            sx_fail_errno(&x->error, -rc, "%s: %s", x->net->name, x->request->what);
        if (rc != 0)
            return 0;
    }
    x->active_us = g_get_monotonic_time();
    return n;
}

static void
tell_progress(Exchange *x, gint64 now, bool end)
{
    if (x->request->progress == NULL || x->request->body == NULL || x->off == x->told ||
        (!end && now - x->told_us < PROGRESS_EVERY_US))
        return;
    x->told = x->off;
    x->told_us = now;
    x->request->progress(x->request->data, x->off);
}

static CURLcode
drive(Exchange *x, CURLM *multi)
{
    for (;;) {
        int running = 0, left = 0;
        if (curl_multi_perform(multi, &running) != CURLM_OK)
            return CURLE_OUT_OF_MEMORY;
        gint64 now = g_get_monotonic_time();
        tell_progress(x, now, running == 0);
        if (running == 0) {
            CURLMsg *msg = curl_multi_info_read(multi, &left);
            return msg != NULL ? msg->data.result : CURLE_FAILED_INIT;
        }
        if (cancelled(x))
            return CURLE_ABORTED_BY_CALLBACK;
        gint64 left_us = x->start_us != 0 ? x->active_us + x->timeout_us - now : POLL_MAX_MS * 1000;
        if (left_us < 0) {
            sx_fail(&x->error, SX_ERR_TIMEOUT, "%s: %s: no answer to %s from %s within %" G_GINT64_FORMAT " s", x->net->name,
                    x->request->what, x->request->method, x->net->origin, x->timeout_us / G_USEC_PER_SEC);
            return CURLE_OPERATION_TIMEDOUT;
        }
        curl_multi_poll(multi, NULL, 0, (int)MIN(left_us / 1000 + 1, POLL_MAX_MS), NULL);
    }
}

static bool
tls_fail(const Exchange *x, CURLcode code, const char *text, GError **error)
{
    if (code == CURLE_SSL_CACERT_BADFILE)
        return sx_fail(error, SX_ERR_TLS, "%s: the ca-file %s cannot be used: %s", x->net->name, x->net->ca_file, text);
    if (code != CURLE_PEER_FAILED_VERIFICATION)
        return sx_fail(error, SX_ERR_TLS, "%s: no TLS connection to %s: %s; does the server speak https on that port?",
                       x->net->name, x->net->origin, text);
    const char *remedy = "check that this is the right server; if it is, name its certificate or its CA's with ca-file";
    if (strstr(text, "expired") != NULL)
        remedy = "it has to be renewed on the server";
    else if (strstr(text, "subject name") != NULL)
        remedy = "use the name that the certificate is made for in url";
    return sx_fail(error, SX_ERR_TLS, "%s: the certificate of %s is refused: %s; %s", x->net->name, x->net->origin, text, remedy);
}

/* A server that refuses an upload may answer before it has read everything, and then break the connection.
 * Its answer counts. */
static bool
is_early_refusal(const Exchange *x, CURLcode code)
{
    long status = 0;
    curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
    bool broke = code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR || code == CURLE_PARTIAL_FILE;
    return broke && x->request->body != NULL && x->head_complete && status >= 400;
}

static bool
curl_fail(const Exchange *x, CURLcode code, const char *buffer, GError **error)
{
    const char *text = *buffer != 0 ? buffer : curl_easy_strerror(code);
    SxErrorCode what = x->start_us != 0 ? SX_ERR_LOST : SX_ERR_OFFLINE;
    switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_USE_SSL_FAILED:
    case CURLE_SSL_ISSUER_ERROR: return tls_fail(x, code, text, error);
    case CURLE_SSL_CONNECT_ERROR: /* also a connection that broke in the handshake: that is the network, not a policy */
        if (strstr(text, "SYSCALL") == NULL && strstr(text, "reset") == NULL && strstr(text, "unexpected eof") == NULL)
            return tls_fail(x, code, text, error);
        break;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_CONTENT_ENCODING: what = SX_ERR_PROTOCOL; break;
    case CURLE_OPERATION_TIMEDOUT: what = x->start_us != 0 ? SX_ERR_TIMEOUT : SX_ERR_OFFLINE; break;
    default: break;
    }
    const char *how = what == SX_ERR_OFFLINE    ? "cannot reach"
                      : what == SX_ERR_PROTOCOL ? "senseless answer from"
                                                : "lost the connection to";
    return sx_fail(error, what, "%s: %s: %s %s: %s", x->net->name, x->request->what, how, x->net->origin, text);
}

static struct curl_slist *
header_list(const SxNetRequest *request)
{
    struct curl_slist *list = NULL;
    for (guint i = 0; request->headers != NULL && request->headers[i] != NULL; i++)
        list = curl_slist_append(list, request->headers[i]);
    if (request->body != NULL && request->body->size <= SX_NET_EXPECT_BYTES)
        list = curl_slist_append(list, "Expect:");
    return list;
}

static void
set_request(Exchange *x, const char *path, struct curl_slist *headers)
{
    CURL *c = x->easy;
    const SxNetRequest *r = x->request;
    g_autofree char *url = g_strconcat(x->net->origin, path, NULL);
    curl_easy_setopt(c, CURLOPT_HTTPGET, 1L); /* takes back NOBODY and UPLOAD of the request before */
    curl_easy_setopt(c, CURLOPT_URL, url);
    if (strcmp(r->method, "HEAD") == 0)
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    if (r->body != NULL) {
        curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)r->body->size);
    }
    curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, r->method);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(c, CURLOPT_ACCEPT_ENCODING, r->compressed ? "" : NULL);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)(x->timeout_us / 1000));
    curl_easy_setopt(c, CURLOPT_PREREQFUNCTION, on_start);
    curl_easy_setopt(c, CURLOPT_PREREQDATA, x);
    curl_easy_setopt(c, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(c, CURLOPT_READDATA, x);
    curl_easy_setopt(c, CURLOPT_SEEKFUNCTION, on_seek);
    curl_easy_setopt(c, CURLOPT_SEEKDATA, x);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, x);
}

static void
on_cancelled(GCancellable *cancel, CURLM *multi)
{
    curl_multi_wakeup(multi);
}

bool
sx_net_exchange(SxNet *net, SxNetConn *conn, const SxNetRequest *request, const char *path, SxNetResponse *ret,
                GCancellable *cancel, GError **error)
{
    gint64 timeout_ms = request->timeout_ms > 0 ? request->timeout_ms : net->timeout_ms;
    Exchange x = {.net = net, .request = request, .response = ret, .cancel = cancel, .easy = conn->easy, .timeout_us = timeout_ms * 1000};
    char buffer[CURL_ERROR_SIZE] = "";
    struct curl_slist *headers = header_list(request);
    sx_headers_reset(ret->headers);
    g_byte_array_set_size(ret->body, 0);
    ret->status = 0;
    set_request(&x, path, headers);
    curl_easy_setopt(conn->easy, CURLOPT_ERRORBUFFER, buffer);
    curl_multi_add_handle(conn->multi, conn->easy);
    gulong id = cancel == NULL ? 0 : g_cancellable_connect(cancel, G_CALLBACK(on_cancelled), conn->multi, NULL);
    CURLcode code = drive(&x, conn->multi);
    g_cancellable_disconnect(cancel, id);
    if (is_early_refusal(&x, code))
        code = CURLE_OK;
    if (code == CURLE_OK && x.error == NULL)
        head(&x);
    curl_multi_remove_handle(conn->multi, conn->easy);
    curl_easy_setopt(conn->easy, CURLOPT_HTTPHEADER, NULL);
    curl_easy_setopt(conn->easy, CURLOPT_ERRORBUFFER, NULL);
    curl_slist_free_all(headers);
    ret->elapsed_ms = x.start_us == 0 ? 0 : (g_get_monotonic_time() - x.start_us) / 1000;
    sx_debug("%s: %s %s: %d, %u requests, %" G_GINT64_FORMAT " ms", net->name, request->method, path, ret->status,
             ret->requests, ret->elapsed_ms);
    if (x.error != NULL) {
        g_propagate_error(error, x.error);
        return false;
    }
    return code == CURLE_OK || x.stopped || curl_fail(&x, code, buffer, error);
}
