/* libmicrohttpd on a Unix socket: one thread a connection (a flush or an event wait blocks its own only), limits on what a
 * client may send, and a watcher that cancels a request whose client has gone away.
 *
 * The end: waiting requests are cancelled, no new ones accepted, answers go out (at most SX_HTTP_DRAIN_MS), then all stops. */
#include "http/api_i.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SX_HTTP_IDLE_S 30u                 /* an idle connection is closed after it */
#define SX_HTTP_HEADER_MEMORY (32 * 1024)  /* request line and headers of one connection */
#define SX_HTTP_DRAIN_MS 5000
#define SX_HTTP_QUERY_MAX 16               /* arguments in one address */

typedef struct Request Request;

struct SxHttp {
    SxApi api;
    char *mountpoint, *config_file, *socket_path, *cache_dir, *state_dir;
    struct MHD_Daemon *mhd;
    GThread *watcher;
    int wake_fd;                 /* eventfd: the set of watched requests has changed */
    GMutex lock;
    GCond idle;                  /* with lock: active has become 0 */
    GPtrArray *watched;          /* lock: of Request, running a handler now */
    guint active;                /* lock: requests between their first header and the end of their answer */
    bool stopping;               /* lock */
};

struct Request {
    SxHttp *http;
    GString *body;
    int fd;                      /* the connection's */
    unsigned refused;            /* an HTTP status that ends it once the body has been read; 0 */
    GCancellable *cancel;
};

/* ---- clients that have gone ---- */

static void
kick_watcher(SxHttp *h)
{
    while (eventfd_write(h->wake_fd, 1) != 0 && errno == EINTR)
        ;
}

static void
watch_request(Request *r, bool on)
{
    SxHttp *h = r->http;
    g_mutex_lock(&h->lock);
    if (on)
        g_ptr_array_add(h->watched, r);
    else
        g_ptr_array_remove_fast(h->watched, r);
    bool stopping = h->stopping;
    g_mutex_unlock(&h->lock);
    if (on && stopping)
        g_cancellable_cancel(r->cancel);
    kick_watcher(h);
}

/* Asked again under the lock: a descriptor number belongs to the request only while that is in the list. */
static bool
has_gone(const Request *r)
{
    struct pollfd p = {.fd = r->fd};
    return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR)) != 0;
}

/* Those whose client hung up (all when `all`), as references: callbacks of a cancellable run without our lock. */
static GPtrArray *
gone_requests(SxHttp *h, bool all)
{
    GPtrArray *gone = g_ptr_array_new_with_free_func(g_object_unref);
    g_mutex_lock(&h->lock);
    for (guint i = 0; i < h->watched->len; i++) {
        const Request *r = g_ptr_array_index(h->watched, i);
        if (all || has_gone(r))
            g_ptr_array_add(gone, g_object_ref(r->cancel));
    }
    g_mutex_unlock(&h->lock);
    return gone;
}

static void
cancel_each(GPtrArray *cancels)
{
    for (guint i = 0; i < cancels->len; i++)
        g_cancellable_cancel(g_ptr_array_index(cancels, i));
    g_ptr_array_unref(cancels);
}

/* A request that was cancelled already is not polled again: its descriptor stays hung up until MHD closes it. */
static guint
fill_pollfds(SxHttp *h, struct pollfd *fds, bool *ret_stopping)
{
    guint n = 0;
    fds[n++] = (struct pollfd){.fd = h->wake_fd, .events = POLLIN};
    g_mutex_lock(&h->lock);
    for (guint i = 0; i < h->watched->len && n < SX_HTTP_CONNECTIONS + 1; i++) {
        const Request *r = g_ptr_array_index(h->watched, i);
        if (!g_cancellable_is_cancelled(r->cancel))
            fds[n++] = (struct pollfd){.fd = r->fd};
    }
    *ret_stopping = h->stopping;
    g_mutex_unlock(&h->lock);
    return n;
}

static void *
watch_clients(void *data)
{
    SxHttp *h = data;
    struct pollfd fds[SX_HTTP_CONNECTIONS + 1];
    bool stopping;
    guint n = fill_pollfds(h, fds, &stopping);
    while (!stopping) {
        if (poll(fds, n, -1) > 0) {
            eventfd_t count;
            if (fds[0].revents != 0 && eventfd_read(h->wake_fd, &count) != 0 && errno != EAGAIN)
                break;
            cancel_each(gone_requests(h, false));
        }
        n = fill_pollfds(h, fds, &stopping);
    }
    cancel_each(gone_requests(h, true));
    return NULL;
}

/* ---- one request ---- */

static bool
is_owner(int fd)
{
    struct ucred who;
    socklen_t n = sizeof who;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) == 0 && who.uid == geteuid();
}

static enum MHD_Result
answer(struct MHD_Connection *c, unsigned status, char *text)
{
    gsize n = strlen(text);
    struct MHD_Response *response = MHD_create_response_from_buffer(n, text, MHD_RESPMEM_MUST_COPY);
    g_free(text);
    if (response == NULL)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/json");
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    enum MHD_Result r = MHD_queue_response(c, status, response);
    MHD_destroy_response(response);
    return r;
}

static enum MHD_Result
refuse(struct MHD_Connection *c, unsigned status)
{
    static const struct {
        unsigned status;
        const char *code, *message;
    } texts[] = {
        {MHD_HTTP_FORBIDDEN, "permission", "only the user who runs this mount is answered"},
        {MHD_HTTP_CONTENT_TOO_LARGE, "too-large", "the request's body is too large"},
        {MHD_HTTP_BAD_REQUEST, "invalid", "the address has malformed or too many arguments"},
        {MHD_HTTP_SERVICE_UNAVAILABLE, "cancelled", "the mount is ending"},
    };
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++)
        if (texts[i].status == status)
            return answer(c, status, g_strdup_printf("{\"error\": \"%s\", \"message\": \"%s\"}", texts[i].code, texts[i].message));
    g_assert_not_reached();
}

typedef struct Query {
    GHashTable *table;
    bool bad;
} Query;

static enum MHD_Result
add_query(void *data, enum MHD_ValueKind kind, const char *key, size_t key_n, const char *value, size_t value_n)
{
    Query *q = data;
    q->bad = q->bad || value == NULL || strlen(value) != value_n || strlen(key) != key_n ||
             g_hash_table_size(q->table) >= SX_HTTP_QUERY_MAX || g_hash_table_contains(q->table, key);
    if (!q->bad)
        g_hash_table_insert(q->table, g_strdup(key), g_strdup(value));
    return q->bad ? MHD_NO : MHD_YES;
}

/* Handlers wait as long as they must: the idle time-out counts only between requests. */
static enum MHD_Result
run(Request *r, struct MHD_Connection *c, const char *method, const char *url)
{
    Query q = {.table = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free)};
    g_autoptr(GHashTable) table = q.table;
    MHD_get_connection_values_n(c, MHD_GET_ARGUMENT_KIND, add_query, &q);
    if (q.bad)
        return refuse(c, MHD_HTTP_BAD_REQUEST);
    SxApiCall call = {.api = &r->http->api, .method = method, .path = url, .query = table, .body = r->body->str,
                   .body_len = r->body->len, .cancel = r->cancel};
    unsigned status;
    MHD_set_connection_option(c, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
    watch_request(r, true);
    char *text = sx_api_call(&call, &status);
    watch_request(r, false);
    MHD_set_connection_option(c, MHD_CONNECTION_OPTION_TIMEOUT, SX_HTTP_IDLE_S);
    return answer(c, status, text);
}

static Request *
request_new(SxHttp *h, struct MHD_Connection *c)
{
    Request *r = g_new0(Request, 1);
    r->http = h;
    r->body = g_string_new(NULL);
    r->cancel = g_cancellable_new();
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD);
    r->fd = info != NULL ? info->connect_fd : -1;
    if (!is_owner(r->fd))
        r->refused = MHD_HTTP_FORBIDDEN;
    g_mutex_lock(&h->lock);
    h->active++;
    if (h->stopping && r->refused == 0)
        r->refused = MHD_HTTP_SERVICE_UNAVAILABLE;
    g_mutex_unlock(&h->lock);
    return r;
}

/* MHD calls first with the headers, then for each piece of the body, at last with none. */
static enum MHD_Result
on_request(void *data, struct MHD_Connection *c, const char *url, const char *method, const char *version, const char *piece,
           size_t *piece_len, void **state)
{
    Request *r = *state;
    if (r == NULL) {
        *state = request_new(data, c);
        return MHD_YES;
    }
    if (*piece_len > 0) {
        if (r->refused == 0 && r->body->len + *piece_len > SX_HTTP_BODY_MAX)
            r->refused = MHD_HTTP_CONTENT_TOO_LARGE;
        if (r->refused == 0)
            g_string_append_len(r->body, piece, (gssize)*piece_len);
        *piece_len = 0;
        return MHD_YES;
    }
    return r->refused != 0 ? refuse(c, r->refused) : run(r, c, method, url);
}

static void
on_completed(void *data, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode why)
{
    SxHttp *h = data;
    Request *r = *state;
    if (r == NULL)
        return;
    *state = NULL;
    g_string_free(r->body, TRUE);
    g_object_unref(r->cancel);
    g_free(r);
    g_mutex_lock(&h->lock);
    if (--h->active == 0)
        g_cond_broadcast(&h->idle);
    g_mutex_unlock(&h->lock);
}

/* ---- start and stop ---- */

static int
start_mhd(SxHttp *h, int fd)
{
    h->mhd = MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL | MHD_USE_ITC, 0, NULL,
                              NULL, on_request, h, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
                              (unsigned)SX_HTTP_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT, SX_HTTP_IDLE_S,
                              MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)SX_HTTP_HEADER_MEMORY, MHD_OPTION_NOTIFY_COMPLETED,
                              on_completed, h, MHD_OPTION_END);
    return h->mhd != NULL ? 0 : -1;
}

SxHttp *
sx_http_start(const SxHttpOptions *o, GError **error)
{
    int fd = sx_socket_listen(o->socket_path, error);
    if (fd < 0)
        return NULL;
    SxHttp *h = g_new0(SxHttp, 1);
    h->mountpoint = g_strdup(o->mountpoint);
    h->config_file = g_strdup(o->config_file);
    h->socket_path = g_strdup(o->socket_path);
    h->cache_dir = g_strdup(o->cache_dir);
    h->state_dir = g_strdup(o->state_dir);
    h->api = (SxApi){.vfs = o->vfs, .mountpoint = h->mountpoint, .config_file = h->config_file, .conf = o->conf,
                     .cache_dir = h->cache_dir, .state_dir = h->state_dir, .clock = sx_clock_default(), .quit = o->quit,
                     .data = o->data};
    h->api.started_mono_ms = sx_clock_mono_ms(h->api.clock);
    h->watched = g_ptr_array_new();
    g_mutex_init(&h->lock);
    g_cond_init(&h->idle);
    h->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    h->watcher = g_thread_new("sx-http-clients", watch_clients, h);
    if (h->wake_fd < 0 || start_mhd(h, fd) != 0) {
        sx_fail_errno(error, errno, "%s: the control socket cannot be served", o->socket_path);
        unlink(o->socket_path); /* fd is left: versions of MHD differ in whether they have closed it */
        sx_http_stop(h);
        return NULL;
    }
    return h;
}

static void
drain(SxHttp *h)
{
    gint64 until = g_get_monotonic_time() + SX_HTTP_DRAIN_MS * G_TIME_SPAN_MILLISECOND;
    g_mutex_lock(&h->lock);
    while (h->active > 0 && g_cond_wait_until(&h->idle, &h->lock, until))
        ;
    g_mutex_unlock(&h->lock);
}

void
sx_http_stop(SxHttp *h)
{
    if (h == NULL)
        return;
    g_mutex_lock(&h->lock);
    h->stopping = true;
    g_mutex_unlock(&h->lock);
    kick_watcher(h);
    g_thread_join(h->watcher);
    if (h->mhd != NULL) {
        int fd = MHD_quiesce_daemon(h->mhd);
        drain(h);
        MHD_stop_daemon(h->mhd);
        sx_socket_remove(h->socket_path, fd);
    }
    sx_fd_clear(&h->wake_fd);
    g_ptr_array_unref(h->watched);
    g_mutex_clear(&h->lock);
    g_cond_clear(&h->idle);
    g_free(h->mountpoint);
    g_free(h->config_file);
    g_free(h->socket_path);
    g_free(h->cache_dir);
    g_free(h->state_dir);
    g_free(h);
}
