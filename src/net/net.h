/* HTTP for the providers: libcurl behind request and response.
 *
 * An SxNet is one server (scheme, host, port) with one login; it is thread-safe, requests of several threads run side by
 * side on connections that are kept and reused. A request blocks its thread until the answer is complete, the GCancellable
 * fires (at once: the loop is woken), or nothing has moved for timeout_ms. Nothing depends on the wall clock. Bandwidth is
 * limited by whoever gives and takes the bytes (provider/limit.c): read() and on_data() may block for a while.
 *
 * Login never leaves the server: redirects are followed only to the same scheme, host and port, at most
 * SX_NET_MAX_REDIRECTS times. Certificates are always verified. Proxies come from the environment, but not for loopback.
 *
 * Errors of sx_net_send: OFFLINE when nothing can have been done (no address, no connection), LOST or TIMEOUT once the
 * request may have been sent, TLS, AUTH (401), CANCELLED, PROTOCOL (senseless answers, redirects elsewhere), and what the
 * caller's own functions made. Other status codes are answers: sx_net_status_fail() turns them into errors. */
#pragma once

#include "base/error.h"
#include "secret/secret.h"

#include <gio/gio.h>

#define SX_NET_MAX_HEADERS 200
#define SX_NET_MAX_HEADER_BYTES (64 * 1024) /* of one answer */
#define SX_NET_MAX_REDIRECTS 5
#define SX_NET_MAX_IDLE 16                  /* connections kept for reuse */
#define SX_NET_EXPECT_BYTES (1024 * 1024)   /* larger bodies wait for the server's go-ahead, so that a refusal costs no upload */
#define SX_NET_ERROR_BODY_MAX (16 * 1024)   /* kept of the body of an error answer */
#define SX_NET_RETRY_AFTER_MAX_MS (3600 * 1000)
#define SX_NET_IDLE_MAX_S 60                /* a connection idle for longer is not used again */

/* ---- answer headers (headers.c) ---- */
typedef struct SxHeaders SxHeaders; /* names without case; a repeated header's values are joined by ", " */
SxHeaders *sx_headers_new(void);
void sx_headers_free(SxHeaders *h);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxHeaders, sx_headers_free)
void sx_headers_reset(SxHeaders *h);
/* One raw line with or without its line end; a status line starts anew; nonsense is skipped. PROTOCOL beyond the limits. */
bool sx_headers_line(SxHeaders *h, const char *line, gsize len, GError **error);
const char *sx_headers_get(const SxHeaders *h, const char *name); /* NULL when absent */
gint64 sx_headers_length(const SxHeaders *h);                     /* Content-Length; -1 when absent or senseless */
/* "bytes FIRST-LAST/TOTAL"; total -1 for '*'. "bytes *\/TOTAL" (416) gives first -1. False when absent or malformed. */
bool sx_headers_range(const SxHeaders *h, gint64 *ret_first, gint64 *ret_last, gint64 *ret_total);
gint64 sx_headers_date_s(const SxHeaders *h, const char *name);   /* seconds since 1970; -1 when absent or malformed */
/* Retry-After, seconds or a date (told by the answer's own Date, not by our clock); 0 when absent, capped. */
gint64 sx_headers_retry_after_ms(const SxHeaders *h);
gint64 sx_http_date_s(const char *text);                          /* -1 when malformed */

/* ---- a server ---- */
typedef struct SxNet SxNet;
typedef enum SxNetAuth { SX_NET_AUTH_AUTO, SX_NET_AUTH_BASIC, SX_NET_AUTH_DIGEST, SX_NET_AUTH_BEARER } SxNetAuth;

typedef struct SxNetConfig {
    const char *name;      /* the provider's, for messages */
    const char *base_url;  /* http or https; scheme, host and port count, the path is the caller's business */
    const char *user;      /* NULL: no login unless auth is BEARER */
    SxNetAuth auth;        /* AUTO: learnt from the first 401 */
    /* Where the password or token comes from; asked on the first request and after sx_net_forget_login(), on that thread,
     * may block. NULL, or true with *ret NULL: there is none. */
    bool (*secret)(void *data, SxSecret **ret, GError **error);
    void *data;
    const char *ca_file;   /* NULL: the system's */
    gint64 timeout_ms;     /* for the connection, for the answer to begin, and for each pause */
} SxNetConfig;

/* Copies what it needs. CONFIG: the URL or the ca-file cannot be used. No network. */
SxNet *sx_net_new(const SxNetConfig *config, GError **error);
void sx_net_free(SxNet *net); /* no request may be under way */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxNet, sx_net_free)
const char *sx_net_origin(const SxNet *net); /* "https://host:port" (no default port), for Destination headers */
const char *sx_net_name(const SxNet *net);
void sx_net_forget_login(SxNet *net);        /* the next request asks for the secret and learns the scheme again */

typedef struct SxNetResponse {
    int status;
    SxHeaders *headers;
    GByteArray *body;     /* when there was no sink, or the status is not 2xx (then cut at SX_NET_ERROR_BODY_MAX) */
    gint64 elapsed_ms;    /* from the sending of the request to the end of the answer */
    guint requests;       /* how many went out (logins, redirects) */
} SxNetResponse;
void sx_net_response_clear(SxNetResponse *r);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(SxNetResponse, sx_net_response_clear)

/* A body to send; read() as in SxSource: up to n bytes at off, the count, or -errno. Read again from 0 when needed. */
typedef struct SxNetBody {
    gint64 size;
    gssize (*read)(void *data, gint64 off, void *buf, gsize n);
    void *data;
} SxNetBody;
SxNetBody sx_net_body_text(const char *text); /* borrows text */

#define SX_NET_STOP 1 /* from on_data: enough, the rest of the body is not wanted */

typedef struct SxNetRequest {
    const char *method;
    const char *path;            /* absolute path (and query), percent-encoded */
    const char *what;            /* what people call it, for messages */
    const char *const *headers;  /* "Name: value", ends with NULL; may be NULL */
    const SxNetBody *body;       /* NULL: none */
    gint64 timeout_ms;           /* 0: the server's */
    bool compressed;             /* the answer may come compressed */
    gsize body_limit;            /* without on_data: a larger 2xx body is a PROTOCOL error */
    /* A 2xx answer's head has come, nothing of its body was given out yet; false and error end the request. May be NULL. */
    bool (*on_head)(void *data, const SxNetResponse *response, GError **error);
    /* Bytes of a 2xx body. 0, SX_NET_STOP, or -errno (ends the request with that error). NULL: into memory. */
    int (*on_data)(void *data, const void *buf, gsize n);
    void (*progress)(void *data, gint64 sent); /* of the body, at least every second while it goes; may be NULL */
    void *data;
} SxNetRequest;

/* True when an answer came, with any status but 401 and 3xx. */
bool sx_net_send(SxNet *net, const SxNetRequest *request, SxNetResponse *ret, GCancellable *cancel, GError **error);
/* Makes the error of a status that is not what the caller wanted; returns false. */
bool sx_net_status_fail(const SxNet *net, const SxNetRequest *request, const SxNetResponse *response, GError **error);
