#include "providers/webdav/webdav_i.h"

#include "base/log.h"
#include "base/path.h"

#include <errno.h>
#include <string.h>

#define PROPS "<resourcetype/><getcontentlength/><getlastmodified/><getetag/><creationdate/>"
#define OC_PROPS PROPS "<o:fileid/><o:checksums/><o:permissions/>"

const char *
sx_dav_props(const SxDavSite *site)
{
    return site->flavour->oc ? OC_PROPS : PROPS;
}

/* ---- one PROPFIND ---- */
typedef struct Finding {
    const SxDav *dav;
    const SxDavFind *find;
    SxDavXml *xml;
    GError *error;
} Finding;

static bool
is_html(const SxNetResponse *response)
{
    const char *type = sx_headers_get(response->headers, "content-type");
    return type != NULL && strstr(type, "html") != NULL;
}

static bool
on_head(void *data, const SxNetResponse *response, GError **error)
{
    Finding *f = data;
    if (is_html(response))
        return sx_fail(error, SX_ERR_PROTOCOL,
                       "%s: %s: the server answers with a web page instead of WebDAV: is the path in url right, or does it want a login in a browser?",
                       f->dav->name, f->find->what);
    if (response->status != 207)
        return sx_fail(error, SX_ERR_PROTOCOL, "%s: %s: this is no WebDAV server: it answered PROPFIND with %d; is url right?",
                       f->dav->name, f->find->what, response->status);
    return true;
}

static int
on_data(void *data, const void *buf, gsize n)
{
    Finding *f = data;
    return sx_dav_xml_feed(f->xml, buf, n, f->error == NULL ? &f->error : NULL) ? 0 : -EPROTO;
}

static bool
find_fail(SxDav *dav, const SxNetRequest *request, const SxNetResponse *response, GError **error)
{
    if (response->status == 405 || response->status == 501)
        return sx_fail(error, SX_ERR_PROTOCOL, "%s: %s: there is no WebDAV at this address (PROPFIND answered with %d): is url right?",
                       dav->name, request->what, response->status);
    return sx_net_status_fail(dav->net, request, response, error);
}

bool
sx_dav_find(SxDav *dav, const SxDavFind *find, SxNetResponse *ret, GCancellable *cancel, GError **error)
{
    g_autofree char *depth = g_strconcat("Depth: ", find->depth, NULL);
    g_autofree char *text = g_strconcat("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<propfind xmlns=\"DAV:\" xmlns:o=\"http://owncloud.org/ns\" "
                                        "xmlns:a=\"http://apache.org/dav/props/\"><prop>", find->props, "</prop></propfind>\n", NULL);
    const char *headers[] = {depth, "Content-Type: application/xml; charset=utf-8", NULL};
    g_autoptr(SxDavXml) xml = sx_dav_xml_new(find->fn, find->data);
    Finding f = {.dav = dav, .find = find, .xml = xml};
    SxNetBody body = sx_net_body_text(text);
    SxNetRequest request = {.method = "PROPFIND", .path = find->url_path, .what = find->what, .headers = headers, .body = &body,
                            .compressed = true, .on_head = on_head, .on_data = on_data, .data = &f};
    g_auto(SxNetResponse) response = {0};
    GError *why = NULL;
    bool ok = sx_net_send(dav->net, &request, &response, cancel, &why);
    if (f.error != NULL) {
        g_clear_error(&why);
        why = f.error;
    } else if (ok && response.status != 207) {
        ok = find_fail(dav, &request, &response, &why);
    } else if (ok) {
        ok = sx_dav_xml_end(xml, &why);
    }
    if (why != NULL) {
        g_autofree char *prefix = g_strdup_printf("%s: ", dav->name);
        if (!g_str_has_prefix(why->message, prefix))
            g_prefix_error(&why, "%s%s: ", prefix, find->what);
        g_propagate_error(error, why);
        return false;
    }
    if (ret != NULL) {
        *ret = response;
        response = (SxNetResponse){0};
    }
    return ok;
}

/* ---- entries ---- */
char *
sx_dav_version(const char *etag)
{
    const char *s = etag == NULL ? "" : etag;
    if (strncmp(s, "W/", 2) == 0)
        s += 2;
    gsize n = strlen(s);
    for (gsize i = 0; i < n; i++)
        if (g_ascii_iscntrl(s[i]))
            return g_strdup("");
    bool quoted = n >= 2 && s[0] == '"' && s[n - 1] == '"';
    return quoted ? g_strndup(s + 1, n - 2) : g_strdup(s);
}

/* "SHA1:... MD5:..." */
static char *
sha1_of(const char *checksums)
{
    g_auto(GStrv) words = g_strsplit(checksums != NULL ? checksums : "", " ", -1);
    for (char **w = words; *w != NULL; w++)
        if (g_ascii_strncasecmp(*w, "SHA1:", 5) == 0 && strlen(*w) == 45) {
            g_autofree char *lower = g_ascii_strdown(*w + 5, -1);
            return g_strconcat("sha1:", lower, NULL);
        }
    return NULL;
}

SxRemote *
sx_dav_remote(const SxDavSite *site, const char *name, const SxDavEntry *e)
{
    gsize href_len = strlen(e->href);
    bool dir = e->is_dir || (!e->has_type && e->size < 0 && href_len > 0 && e->href[href_len - 1] == '/');
    SxRemote *r = sx_remote_new(name, dir ? SX_KIND_DIR : SX_KIND_FILE);
    r->size = dir ? 0 : e->size;
    r->mtime_ns = e->mtime_s >= 0 ? e->mtime_s * G_GINT64_CONSTANT(1000000000) : SX_TIME_UNKNOWN;
    r->btime_ns = e->btime_ns;
    g_autofree char *version = sx_dav_version(e->etag);
    if (!dir && *version == 0 && e->size >= 0 && e->mtime_s >= 0)
        r->version = (g_free(r->version), g_strdup_printf("%" G_GINT64_FORMAT " %" G_GINT64_FORMAT, e->size, e->mtime_s));
    else if (!dir || site->flavour->oc) /* a directory's etag tells about its entries only on Nextcloud and ownCloud */
        r->version = (g_free(r->version), g_steal_pointer(&version));
    r->id = e->fileid != NULL && *e->fileid != 0 ? g_strdup(e->fileid) : NULL;
    r->hash = dir ? NULL : sha1_of(e->checksums);
    return r;
}

/* ---- list ---- */
typedef struct Listing {
    SxDav *dav;
    const SxDavSite *site;
    const char *path;
    char *dir_raw;
    SxListFn fn;
    void *data;
    bool self, self_is_dir;
} Listing;

static bool
list_entry(void *data, const SxDavEntry *e, GError **error)
{
    Listing *l = data;
    g_autofree char *name = NULL;
    SxDavHref what = sx_dav_href(e->href, l->dir_raw, &name);
    if (what == SX_DAV_HREF_SELF) {
        l->self = true;
        l->self_is_dir = e->is_dir;
        return true;
    }
    if (e->status == 404)
        return true;
    if (e->status >= 500)
        return sx_fail(error, SX_ERR_SERVER, "the server cannot tell about %s (%d)", e->href, e->status);
    if (what == SX_DAV_HREF_OTHER || !sx_name_valid(name, strlen(name))) {
        g_autofree char *shown = g_strescape(e->href, NULL);
        sx_warn("%s: /%s: the listing has an entry \"%s\" that cannot be here; it is left out", l->dav->name, l->path, shown);
        return true;
    }
    if (g_str_has_prefix(name, SX_TMP_PREFIX))
        return true;
    g_autoptr(SxRemote) r = sx_dav_remote(l->site, name, e);
    return l->fn(l->data, r) || sx_fail(error, SX_ERR_CANCELLED, "stopped");
}

static bool
fail_not_dir(SxDav *dav, const char *path, GError **error)
{
    return sx_fail(error, SX_ERR_NOT_DIR, "%s: %s: not a directory", dav->name, path);
}

/* Some servers call a file with a slash behind it missing. */
static bool
list_missing(SxDav *dav, const char *path, GError *why, GCancellable *cancel, GError **error)
{
    g_autoptr(SxRemote) r = NULL;
    if (*path != 0 && sx_dav_stat(dav, path, &r, cancel, NULL) && r->kind != SX_KIND_DIR) {
        g_error_free(why);
        return fail_not_dir(dav, path, error);
    }
    g_propagate_error(error, why);
    return false;
}

bool
sx_dav_list(void *self, const char *path, SxListFn fn, void *data, GCancellable *cancel, GError **error)
{
    SxDav *dav = self;
    g_autoptr(SxDavSite) site = sx_dav_site(dav);
    g_autofree char *url_path = sx_dav_path(site, path, true);
    g_autofree char *dir_raw = g_strconcat(site->base_raw, *path != 0 ? "/" : "", path, NULL);
    Listing l = {.dav = dav, .site = site, .path = path, .dir_raw = dir_raw, .fn = fn, .data = data};
    SxDavFind find = {url_path, path, "1", sx_dav_props(site), list_entry, &l};
    GError *why = NULL;
    if (!sx_dav_find(dav, &find, NULL, cancel, &why)) {
        if (sx_error_is(why, SX_ERR_NOT_FOUND) || sx_error_is(why, SX_ERR_INVALID)) /* Apache: 400 */
            return list_missing(dav, path, why, cancel, error);
        g_propagate_error(error, why);
        return false;
    }
    if (!l.self)
        return sx_fail(error, SX_ERR_PROTOCOL, "%s: %s: the listing does not name the directory itself: is url the address that the server uses?",
                       dav->name, path);
    return l.self_is_dir || fail_not_dir(dav, path, error);
}

/* ---- stat ---- */
typedef struct Stat {
    const SxDavSite *site;
    const char *name;
    SxRemote *remote;
    int status;
} Stat;

static bool
stat_entry(void *data, const SxDavEntry *e, GError **error)
{
    Stat *s = data;
    if (s->status != 0)
        return sx_fail(error, SX_ERR_PROTOCOL, "more than one answer to a question about one object");
    s->status = e->status;
    s->remote = sx_dav_remote(s->site, s->name, e);
    return true;
}

bool
sx_dav_stat(void *self, const char *path, SxRemote **ret, GCancellable *cancel, GError **error)
{
    SxDav *dav = self;
    g_autoptr(SxDavSite) site = sx_dav_site(dav);
    g_autofree char *url_path = sx_dav_path(site, path, false);
    Stat s = {.site = site, .name = sx_path_basename(path)};
    SxDavFind find = {url_path, path, "0", sx_dav_props(site), stat_entry, &s};
    bool ok = sx_dav_find(dav, &find, NULL, cancel, error);
    g_autoptr(SxRemote) r = s.remote;
    if (!ok)
        return false;
    if (s.status == 404 || s.status == 410)
        return sx_fail(error, SX_ERR_NOT_FOUND, "%s: %s: not found on the server", dav->name, path);
    if (r == NULL || s.status >= 300)
        return sx_fail(error, SX_ERR_PROTOCOL, "%s: %s: the server's answer tells nothing about it", dav->name, path);
    *ret = g_steal_pointer(&r);
    return true;
}

/* ---- quota ---- */
static bool
quota_entry(void *data, const SxDavEntry *e, GError **error)
{
    SxQuota *q = data;
    q->free = e->quota_free;
    q->used = e->quota_used;
    q->total = q->free >= 0 && q->used >= 0 && q->free < G_MAXINT64 - q->used ? q->free + q->used : -1;
    return true;
}

bool
sx_dav_quota(void *self, SxQuota *ret, GCancellable *cancel, GError **error)
{
    SxDav *dav = self;
    g_autoptr(SxDavSite) site = sx_dav_site(dav);
    g_autofree char *url_path = sx_dav_path(site, "", true);
    SxQuota q = {-1, -1, -1};
    SxDavFind find = {url_path, "", "0", "<quota-available-bytes/><quota-used-bytes/>", quota_entry, &q};
    if (!sx_dav_find(dav, &find, NULL, cancel, error))
        return false;
    *ret = q;
    return true;
}
