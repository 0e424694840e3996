/* Reading a range of exactly one version. No If-Match or If-Range goes out: Apache refuses both for its weak etags. The
 * answer's own head is compared with what is expected, before any byte is given out. */
#include "providers/webdav/webdav_i.h"

#include <errno.h>
#include <string.h>

typedef struct Reading {
    SxDav *dav;
    const char *path;
    const SxCond *cond;
    gint64 off, len;      /* what is wanted; len -1: to the end */
    SxSinkFn sink;
    void *data;
    gint64 skip;          /* bytes to drop first: the server ignores ranges */
    gint64 left;          /* bytes that must come; -1 unknown */
    gint64 at;
} Reading;

static bool
changed(const Reading *r, GError **error)
{
    return sx_fail(error, SX_ERR_CHANGED, "%s: %s: it has been changed on the server meanwhile", r->dav->name, r->path);
}

/* Is the answer about the version that is wanted? total: size of the whole file, -1 unknown. */
static bool
check_version(const Reading *r, const SxNetResponse *response, gint64 total, GError **error)
{
    if (r->cond->kind != SX_IF_VERSION)
        return true;
    if (total >= 0 && r->cond->size >= 0 && total != r->cond->size)
        return changed(r, error);
    if (*r->cond->version == 0)
        return true;
    gint64 modified_s = sx_headers_date_s(response->headers, "last-modified");
    if (sx_dav_is_size_mtime(r->cond->version)) {
        g_autofree char *now = g_strdup_printf("%" G_GINT64_FORMAT " %" G_GINT64_FORMAT, total, modified_s);
        return total < 0 || modified_s < 0 || strcmp(now, r->cond->version) == 0 || changed(r, error);
    }
    const char *etag = sx_headers_get(response->headers, "etag");
    if (etag != NULL) {
        g_autofree char *now = sx_dav_version(etag);
        return strcmp(now, r->cond->version) == 0 || changed(r, error);
    }
    bool other_time = modified_s >= 0 && r->cond->mtime_ns != SX_TIME_UNKNOWN && modified_s != r->cond->mtime_ns / G_GINT64_CONSTANT(1000000000);
    return !other_time || changed(r, error);
}

static gint64
wanted_end(const Reading *r, gint64 total)
{
    gint64 end = r->len < 0 ? total : r->off + r->len;
    return total >= 0 && (end < 0 || end > total) ? total : end;
}

static bool
on_head(void *data, const SxNetResponse *response, GError **error)
{
    Reading *r = data;
    gint64 first = 0, last = -1, total = -1;
    if (response->status == 206) {
        if (!sx_headers_range(response->headers, &first, &last, &total) || first != r->off)
            return sx_fail(error, SX_ERR_PROTOCOL, "%s: %s: the server sends another part of it than was asked for",
                           r->dav->name, r->path);
        gint64 end = wanted_end(r, total);
        if (end >= 0 && last >= end)
            return sx_fail(error, SX_ERR_PROTOCOL, "%s: %s: the server sends more of it than was asked for", r->dav->name, r->path);
        r->left = (end >= 0 ? end : last + 1) - r->off;
    } else {
        total = sx_headers_length(response->headers);
        r->skip = r->off;
        gint64 end = wanted_end(r, total);
        r->left = end < 0 ? -1 : MAX(end - r->off, 0);
    }
    return check_version(r, response, total, error);
}

static int
on_data(void *data, const void *buf, gsize n)
{
    Reading *r = data;
    const char *s = buf;
    gsize drop = (gsize)MIN((gint64)n, r->skip);
    r->skip -= (gint64)drop;
    s += drop;
    n -= drop;
    bool surplus = r->left >= 0 && (gint64)n > r->left;
    if (surplus)
        n = (gsize)r->left;
    int rc = n == 0 ? 0 : r->sink(r->data, r->at, s, n);
    if (rc < 0)
        return rc;
    r->at += (gint64)n;
    r->left -= r->left >= 0 ? (gint64)n : 0;
    return surplus ? SX_NET_STOP : 0; /* a server that ignores ranges: the rest is not waited for */
}

/* 416: the range begins behind the end. Not all servers tell in the answer how long the file is. */
static bool
no_such_range(const Reading *r, const SxNetRequest *request, const SxNetResponse *response, GCancellable *cancel, GError **error)
{
    g_autoptr(SxRemote) now = NULL;
    if (!sx_dav_stat(r->dav, r->path, &now, cancel, error))
        return false;
    if (!sx_dav_cond_holds(r->cond, now))
        return changed(r, error);
    return (now->size >= 0 && r->off >= now->size) || sx_net_status_fail(r->dav->net, request, response, error);
}

bool
sx_dav_read(void *self, const char *path, const SxCond *cond, gint64 off, gint64 len, SxSinkFn sink, void *data,
            GCancellable *cancel, GError **error)
{
    SxDav *dav = self;
    if (len == 0)
        return true;
    g_autoptr(SxDavSite) site = sx_dav_site(dav);
    g_autofree char *url_path = sx_dav_path(site, path, false);
    g_autofree char *range = len < 0 ? g_strdup_printf("Range: bytes=%" G_GINT64_FORMAT "-", off)
                                     : g_strdup_printf("Range: bytes=%" G_GINT64_FORMAT "-%" G_GINT64_FORMAT, off, off + len - 1);
    bool whole = off == 0 && (len < 0 || (cond->kind == SX_IF_VERSION && cond->size >= 0 && len >= cond->size));
    const char *headers[] = {whole ? NULL : range, NULL};
    Reading r = {.dav = dav, .path = path, .cond = cond, .off = off, .len = len, .sink = sink, .data = data, .left = -1, .at = off};
    SxNetRequest request = {.method = "GET", .path = url_path, .what = path, .headers = headers, .on_head = on_head,
                            .on_data = on_data, .data = &r};
    g_auto(SxNetResponse) response = {0};
    if (!sx_net_send(dav->net, &request, &response, cancel, error))
        return false;
    if (response.status == 416)
        return no_such_range(&r, &request, &response, cancel, error);
    if (response.status != 200 && response.status != 206)
        return sx_net_status_fail(dav->net, &request, &response, error);
    if (r.left > 0)
        return sx_fail(error, SX_ERR_LOST, "%s: %s: the content ended %" G_GINT64_FORMAT " bytes early", dav->name, path, r.left);
    return true;
}
