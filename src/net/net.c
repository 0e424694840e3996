#include "config.h"

#include "net/net_i.h"

#include "base/log.h"

#include <string.h>

static void
conn_free(SxNetConn *conn)
{
    if (conn->easy != NULL)
        curl_easy_cleanup(conn->easy);
    if (conn->multi != NULL)
        curl_multi_cleanup(conn->multi);
    g_free(conn);
}

static bool
is_loopback(const char *host)
{
    if (g_ascii_strcasecmp(host, "localhost") == 0)
        return true;
    g_autoptr(GInetAddress) a = g_inet_address_new_from_string(host);
    return a != NULL && g_inet_address_get_is_loopback(a);
}

static SxNetConn *
conn_new(const SxNet *net)
{
    SxNetConn *conn = g_new0(SxNetConn, 1);
    CURL *c = conn->easy = curl_easy_init();
    conn->multi = curl_multi_init();
    if (c == NULL || conn->multi == NULL)
        g_error("libcurl: out of memory");
    curl_multi_setopt(conn->multi, CURLMOPT_MAXCONNECTS, 1L);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, net->scheme);
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 2L);
    curl_easy_setopt(c, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    /* Not HTTP/2: a handle carries one request at a time, so nothing would be multiplexed, and libcurl 7.88 (Debian 12) loses an
     * answer that comes before the body is sent, as 401, 412 and 507 do: "Stream error in the HTTP/2 framing layer". */
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(c, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(c, CURLOPT_MAXAGE_CONN, (long)SX_NET_IDLE_MAX_S);
    curl_easy_setopt(c, CURLOPT_BUFFERSIZE, 256L * 1024);
    curl_easy_setopt(c, CURLOPT_UPLOAD_BUFFERSIZE, 256L * 1024);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "syncoxfs/" PACKAGE_VERSION);
    if (net->ca_file != NULL) {
        curl_easy_setopt(c, CURLOPT_CAINFO, net->ca_file);
        curl_easy_setopt(c, CURLOPT_CAPATH, NULL);
    }
    if (net->loopback)
        curl_easy_setopt(c, CURLOPT_PROXY, "");
    return conn;
}

static bool
parse_url(SxNet *net, const char *url, GError **error)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GUri) uri = g_uri_parse(url, G_URI_FLAGS_ENCODED | G_URI_FLAGS_SCHEME_NORMALIZE, &why);
    const char *scheme = uri == NULL ? NULL : g_uri_get_scheme(uri);
    const char *host = uri == NULL ? NULL : g_uri_get_host(uri);
    if (uri == NULL || host == NULL || *host == 0 || (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0))
        return sx_fail(error, SX_ERR_CONFIG, "%s: url = %s is not an address of the form https://host/path%s%s", net->name, url,
                       why != NULL ? ": " : "", why != NULL ? why->message : "");
    if (g_uri_get_userinfo(uri) != NULL)
        return sx_fail(error, SX_ERR_CONFIG, "%s: url must not contain a login; use user and password", net->name);
    bool tls = strcmp(scheme, "https") == 0;
    net->port = g_uri_get_port(uri);
    if (net->port <= 0)
        net->port = tls ? 443 : 80;
    net->scheme = g_strdup(scheme);
    net->host = g_ascii_strdown(host, -1);
    bool v6 = strchr(host, ':') != NULL;
    g_autofree char *port = net->port == (tls ? 443 : 80) ? g_strdup("") : g_strdup_printf(":%d", net->port);
    net->origin = g_strdup_printf("%s://%s%s%s%s", scheme, v6 ? "[" : "", net->host, v6 ? "]" : "", port);
    net->loopback = is_loopback(net->host);
    return true;
}

SxNet *
sx_net_new(const SxNetConfig *config, GError **error)
{
    static gsize once;
    if (g_once_init_enter(&once)) {
        curl_global_init(CURL_GLOBAL_DEFAULT);
        g_once_init_leave(&once, 1);
    }
    g_autoptr(SxNet) net = g_new0(SxNet, 1);
    g_mutex_init(&net->lock);
    g_queue_init(&net->idle);
    net->name = g_strdup(config->name);
    net->user = g_strdup(config->user);
    net->ca_file = g_strdup(config->ca_file);
    net->auth = config->auth;
    net->secret_fn = config->secret;
    net->data = config->data;
    net->timeout_ms = config->timeout_ms;
    if (!parse_url(net, config->base_url, error))
        return NULL;
    if (net->ca_file != NULL && !g_file_test(net->ca_file, G_FILE_TEST_EXISTS)) {
        sx_fail(error, SX_ERR_CONFIG, "%s: the ca-file %s does not exist", net->name, net->ca_file);
        return NULL;
    }
    return g_steal_pointer(&net);
}

void
sx_net_free(SxNet *net)
{
    if (net == NULL)
        return;
    SxNetConn *conn;
    while ((conn = g_queue_pop_head(&net->idle)) != NULL)
        conn_free(conn);
    sx_secret_unref(net->secret);
    g_mutex_clear(&net->lock);
    g_free(net->name);
    g_free(net->origin);
    g_free(net->scheme);
    g_free(net->host);
    g_free(net->user);
    g_free(net->ca_file);
    g_free(net);
}

const char *
sx_net_origin(const SxNet *net)
{
    return net->origin;
}

const char *
sx_net_name(const SxNet *net)
{
    return net->name;
}

void
sx_net_forget_login(SxNet *net)
{
    g_mutex_lock(&net->lock);
    g_clear_pointer(&net->secret, sx_secret_unref);
    net->secret_known = net->scheme_known = false;
    net->login_gen++;
    g_mutex_unlock(&net->lock);
}

/* ---- login ---- */
typedef struct Login {
    guint gen;
    bool known;     /* scheme holds */
    SxNetAuth scheme;
    SxSecret *secret;
} Login;

static void
login_clear(Login *login)
{
    sx_secret_unref(login->secret);
    *login = (Login){0};
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Login, login_clear)

/* The secret is asked for outside the lock, because that may take long; two threads that ask at once get the same. */
static bool
login_get(SxNet *net, Login *ret, GError **error)
{
    g_mutex_lock(&net->lock);
    bool known = net->secret_known;
    g_mutex_unlock(&net->lock);
    g_autoptr(SxSecret) secret = NULL;
    if (!known && net->secret_fn != NULL && !net->secret_fn(net->data, &secret, error))
        return false;
    g_mutex_lock(&net->lock);
    if (!net->secret_known) {
        net->secret_known = true;
        net->secret = g_steal_pointer(&secret);
        net->login_gen++;
    }
    ret->gen = net->login_gen;
    ret->known = net->auth != SX_NET_AUTH_AUTO || net->scheme_known;
    ret->scheme = net->auth != SX_NET_AUTH_AUTO ? net->auth : net->learnt;
    ret->secret = net->secret != NULL ? sx_secret_ref(net->secret) : NULL;
    g_mutex_unlock(&net->lock);
    return true;
}

static void
conn_login(const SxNet *net, SxNetConn *conn, const Login *login)
{
    static const unsigned long masks[] = {
        [SX_NET_AUTH_AUTO] = CURLAUTH_NONE, [SX_NET_AUTH_BASIC] = CURLAUTH_BASIC,
        [SX_NET_AUTH_DIGEST] = CURLAUTH_DIGEST, [SX_NET_AUTH_BEARER] = CURLAUTH_BEARER};
    const char *secret = login->secret != NULL ? sx_secret_peek(login->secret) : "";
    bool bearer = login->known && login->scheme == SX_NET_AUTH_BEARER && login->secret != NULL;
    bool named = login->known && login->scheme != SX_NET_AUTH_BEARER && net->user != NULL;
    curl_easy_setopt(conn->easy, CURLOPT_USERNAME, named ? net->user : NULL);
    curl_easy_setopt(conn->easy, CURLOPT_PASSWORD, named ? secret : NULL);
    curl_easy_setopt(conn->easy, CURLOPT_XOAUTH2_BEARER, bearer ? secret : NULL);
    curl_easy_setopt(conn->easy, CURLOPT_HTTPAUTH, named || bearer ? masks[login->scheme] : CURLAUTH_NONE);
    conn->login_gen = login->gen;
    conn->digest_ready = false;
}

/* AUTO: which scheme does the 401 offer that we can use? Digest where the line can be read by others, Basic within TLS,
 * because it needs no round trip more. False: nothing to try. */
static bool
learn(SxNet *net, const Login *login, const SxNetResponse *response)
{
    const char *offer = sx_headers_get(response->headers, "www-authenticate");
    if (net->user == NULL || login->known || offer == NULL)
        return false;
    g_autofree char *lower = g_ascii_strdown(offer, -1);
    bool digest = strstr(lower, "digest") != NULL, basic = strstr(lower, "basic") != NULL;
    if (!digest && !basic)
        return false;
    bool prefer_basic = basic && (!digest || strcmp(net->scheme, "https") == 0);
    g_mutex_lock(&net->lock);
    if (login->gen == net->login_gen && !net->scheme_known) {
        net->learnt = prefer_basic ? SX_NET_AUTH_BASIC : SX_NET_AUTH_DIGEST;
        net->scheme_known = true;
        net->login_gen++;
    }
    g_mutex_unlock(&net->lock);
    return true;
}

static bool
refused(const SxNet *net, const Login *login, const SxNetRequest *request, GError **error)
{
    const char *remedy = "check user and password";
    if (net->auth == SX_NET_AUTH_BEARER)
        remedy = login->secret == NULL ? "auth = bearer needs a token in password" : "the token is not valid any more";
    else if (net->user == NULL)
        remedy = "the server wants a login: set user and password";
    else if (login->secret == NULL)
        remedy = "no password is set";
    return sx_fail(error, SX_ERR_AUTH, "%s: %s: %s refuses the login%s%s: %s", net->name, request->what, net->origin,
                   net->user != NULL ? " of " : "", net->user != NULL ? net->user : "", remedy);
}

/* ---- connections ---- */
static SxNetConn *
conn_take(SxNet *net, const Login *login)
{
    g_mutex_lock(&net->lock);
    SxNetConn *conn = g_queue_pop_head(&net->idle);
    g_mutex_unlock(&net->lock);
    if (conn == NULL)
        conn = conn_new(net);
    if (conn->login_gen != login->gen)
        conn_login(net, conn, login);
    return conn;
}

static void
conn_give(SxNet *net, SxNetConn *conn)
{
    g_mutex_lock(&net->lock);
    g_queue_push_head(&net->idle, conn);
    conn = g_queue_get_length(&net->idle) > SX_NET_MAX_IDLE ? g_queue_pop_tail(&net->idle) : NULL;
    g_mutex_unlock(&net->lock);
    if (conn != NULL)
        conn_free(conn);
}

/* ---- redirects ---- */
/* The path to ask next, or NULL and error. */
static char *
redirect(const SxNet *net, const SxNetRequest *request, const char *path, const SxNetResponse *response, GError **error)
{
    const char *location = sx_headers_get(response->headers, "location");
    g_autofree char *here = g_strconcat(net->origin, path, NULL);
    g_autofree char *url = location == NULL ? NULL : g_uri_resolve_relative(here, location, G_URI_FLAGS_ENCODED, NULL);
    g_autoptr(GUri) to = url == NULL ? NULL : g_uri_parse(url, G_URI_FLAGS_ENCODED | G_URI_FLAGS_SCHEME_NORMALIZE, NULL);
    if (to == NULL || g_uri_get_host(to) == NULL) {
        sx_fail(error, SX_ERR_PROTOCOL, "%s: %s: %s redirects (%d) to nowhere", net->name, request->what, net->origin,
                response->status);
        return NULL;
    }
    bool same_host = g_ascii_strcasecmp(g_uri_get_host(to), net->host) == 0;
    bool same_scheme = strcmp(g_uri_get_scheme(to), net->scheme) == 0;
    int port = g_uri_get_port(to);
    if (port <= 0)
        port = strcmp(g_uri_get_scheme(to), "https") == 0 ? 443 : 80;
    if (same_host && same_scheme && port == net->port)
        return g_strconcat(*g_uri_get_path(to) != 0 ? g_uri_get_path(to) : "/", g_uri_get_query(to) != NULL ? "?" : NULL,
                           g_uri_get_query(to), NULL);
    if (same_host && !same_scheme && strcmp(net->scheme, "http") == 0)
        sx_fail(error, SX_ERR_PROTOCOL, "%s: %s sends us to https: write url = https://%s... in the configuration", net->name,
                net->origin, net->host);
    else
        sx_fail(error, SX_ERR_PROTOCOL,
                "%s: %s: %s redirects to %s://%s:%d, which is another server; the login is not sent there. If that is right, change url",
                net->name, request->what, net->origin, g_uri_get_scheme(to), g_uri_get_host(to), port);
    return NULL;
}

static bool
is_redirect(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* With Digest, libcurl finds the nonce by sending the first request of a connection without its body. A server that does
 * not ask for a login would take that as an empty file. So the nonce is fetched by a harmless request before, and when
 * nobody asked for a login, the body goes out without one. */
static bool
send_first_digest(SxNet *net, SxNetConn *conn, const Login *login, const SxNetRequest *request, const char *path,
                  SxNetResponse *ret, GCancellable *cancel, GError **error)
{
    SxNetRequest ask = {.method = "OPTIONS", .path = path, .what = request->what, .timeout_ms = request->timeout_ms};
    guint before = ret->requests;
    if (!sx_net_exchange(net, conn, &ask, path, ret, cancel, error))
        return false;
    if (ret->status == 401)
        return true;
    if (ret->requests - before == 1) {
        curl_easy_setopt(conn->easy, CURLOPT_HTTPAUTH, CURLAUTH_NONE);
        bool ok = sx_net_exchange(net, conn, request, path, ret, cancel, error);
        conn_login(net, conn, login);
        if (!ok || ret->status != 401)
            return ok;
    }
    return sx_net_exchange(net, conn, request, path, ret, cancel, error);
}

static bool
send_once(SxNet *net, const Login *login, const SxNetRequest *request, const char *path, SxNetResponse *ret,
          GCancellable *cancel, GError **error)
{
    SxNetConn *conn = conn_take(net, login);
    bool digest = login->known && login->scheme == SX_NET_AUTH_DIGEST && net->user != NULL;
    bool first = digest && !conn->digest_ready && request->body != NULL;
    bool ok = first ? send_first_digest(net, conn, login, request, path, ret, cancel, error)
                    : sx_net_exchange(net, conn, request, path, ret, cancel, error);
    conn->digest_ready = ok && digest && ret->status != 401;
    conn_give(net, conn);
    return ok;
}

bool
sx_net_send(SxNet *net, const SxNetRequest *request, SxNetResponse *ret, GCancellable *cancel, GError **error)
{
    g_auto(SxNetResponse) r = {.headers = sx_headers_new(), .body = g_byte_array_new()};
    g_autofree char *path = g_strdup(request->path);
    for (int redirects = 0;;) {
        g_auto(Login) login = {0};
        if (!login_get(net, &login, error) || !send_once(net, &login, request, path, &r, cancel, error))
            return false;
        if (r.status == 401) {
            if (learn(net, &login, &r))
                continue;
            return refused(net, &login, request, error);
        }
        if (!is_redirect(r.status))
            break;
        if (redirects++ == SX_NET_MAX_REDIRECTS)
            return sx_fail(error, SX_ERR_PROTOCOL, "%s: %s: %s redirects more than %d times", net->name, request->what,
                           net->origin, SX_NET_MAX_REDIRECTS);
        char *next = redirect(net, request, path, &r, error);
        if (next == NULL)
            return false;
        g_free(path);
        path = next;
    }
    *ret = r;
    r = (SxNetResponse){0};
    return true;
}

void
sx_net_response_clear(SxNetResponse *r)
{
    sx_headers_free(r->headers);
    if (r->body != NULL)
        g_byte_array_unref(r->body);
    *r = (SxNetResponse){0};
}

static gssize
read_text(void *data, gint64 off, void *buf, gsize n)
{
    memcpy(buf, (const char *)data + off, n);
    return (gssize)n;
}

SxNetBody
sx_net_body_text(const char *text)
{
    return (SxNetBody){.size = (gint64)strlen(text), .read = read_text, .data = (void *)text};
}
