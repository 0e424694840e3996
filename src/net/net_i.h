/* Private to net/: connections and one exchange on them. */
#pragma once

#include "net/net.h"

#include <curl/curl.h>

/* One easy handle with a multi handle of its own: the multi can be woken from another thread, and holds the connection. */
typedef struct SxNetConn {
    CURLM *multi;
    CURL *easy;
    guint login_gen;    /* the login it was set up with */
    bool digest_ready;  /* it holds a nonce: the next request carries its login at once */
} SxNetConn;

struct SxNet {
    char *name, *origin, *scheme, *host, *user, *ca_file;
    int port;
    SxNetAuth auth;
    bool (*secret_fn)(void *data, SxSecret **ret, GError **error);
    void *data;
    gint64 timeout_ms;
    bool loopback;

    GMutex lock;
    GQueue idle;        /* of SxNetConn, newest first; under lock */
    guint login_gen;    /* under lock: counts changes of what follows */
    bool secret_known;  /* under lock */
    SxSecret *secret;   /* under lock */
    bool scheme_known;  /* under lock: `learnt` holds */
    SxNetAuth learnt;   /* under lock: AUTO's outcome */
};

/* One request and its one answer, without redirects and learning (exchange.c). headers and body of *ret exist. */
bool sx_net_exchange(SxNet *net, SxNetConn *conn, const SxNetRequest *request, const char *path, SxNetResponse *ret,
                     GCancellable *cancel, GError **error);
