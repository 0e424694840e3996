#include "providers/webdav/webdav_i.h"

#include "base/path.h"

#include <string.h>

static bool
is_success(const SxNetResponse *response)
{
    return response->status >= 200 && response->status < 300 && response->status != 207;
}

/* Nextcloud and ownCloud keep names in NFC: another form would come back as another name. */
static bool
check_unicode(SxDav *dav, const SxDavSite *site, const char *path, const char *name, GError **error)
{
    g_autofree char *nfc = g_utf8_validate(name, -1, NULL) ? g_utf8_normalize(name, -1, G_NORMALIZE_NFC) : NULL;
    if (nfc == NULL)
        return sx_fail(error, SX_ERR_NAME, "%s: %s: %s takes only names in UTF-8", dav->name, path, site->flavour->label);
    if (strcmp(nfc, name) != 0)
        return sx_fail(error, SX_ERR_NAME, "%s: %s: %s would change the form of the accents in the name (it keeps NFC)", dav->name,
                       path, site->flavour->label);
    return true;
}

bool
sx_dav_check_name(SxDav *dav, const SxDavSite *site, const char *path, GError **error)
{
    const char *name = sx_path_basename(path);
    if (site->flavour->oc)
        return check_unicode(dav, site, path, name, error);
    if (!site->flavour->hides_dots || *name != '.' || g_str_has_prefix(name, SX_TMP_PREFIX))
        return true;
    return sx_fail(error, SX_ERR_NAME, "%s: %s: %s does not list names that begin with a dot", dav->name, path, site->flavour->label);
}

/* ---- MOVE and COPY ---- */
static bool
transfer_once(SxDav *dav, const SxDavTransfer *t, const char *origin, SxNetRequest *ret_request, SxNetResponse *ret,
              GCancellable *cancel, GError **error)
{
    g_autoptr(GPtrArray) headers = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(headers, g_strconcat("Destination: ", origin, t->to, NULL));
    g_ptr_array_add(headers, g_strdup(t->overwrite ? "Overwrite: T" : "Overwrite: F"));
    for (guint i = 0; t->extra != NULL && i < t->extra->len; i++)
        g_ptr_array_add(headers, g_strdup(g_ptr_array_index(t->extra, i)));
    g_ptr_array_add(headers, NULL);
    SxNetRequest request = {.method = t->method, .path = t->from, .what = t->what, .timeout_ms = t->timeout_ms,
                            .headers = (const char *const *)headers->pdata};
    bool ok = sx_net_send(dav->net, &request, ret, cancel, error);
    *ret_request = request;
    ret_request->headers = NULL;
    return ok;
}

/* Behind a proxy that does TLS, a server knows itself by http, and takes an https Destination for another server (502). */
bool
sx_dav_transfer(SxDav *dav, const SxDavTransfer *t, SxNetRequest *ret_request, SxNetResponse *ret, GCancellable *cancel,
                GError **error)
{
    const char *origin = sx_net_origin(dav->net);
    bool tls = g_str_has_prefix(origin, "https:");
    g_autofree char *plain = tls ? g_strconcat("http", origin + 5, NULL) : g_strdup(origin);
    bool use_plain = g_atomic_int_get(&dav->http_destination) != 0;
    if (!transfer_once(dav, t, use_plain ? plain : origin, ret_request, ret, cancel, error))
        return false;
    if (ret->status != 502 || !tls || use_plain)
        return true;
    sx_net_response_clear(ret);
    if (!transfer_once(dav, t, plain, ret_request, ret, cancel, error))
        return false;
    if (is_success(ret))
        g_atomic_int_set(&dav->http_destination, 1);
    return true;
}

/* Servers differ in how they say what is missing or in the way, so it is looked at. */
static bool
transfer_look(SxDav *dav, const char *from, const char *to, GCancellable *cancel, GError **error)
{
    g_autoptr(SxRemote) source = NULL, target = NULL;
    g_autoptr(GError) why = NULL;
    if (!sx_dav_stat(dav, from, &source, cancel, &why) && sx_error_is(why, SX_ERR_NOT_FOUND))
        return sx_fail(error, SX_ERR_NOT_FOUND, "%s: %s: not found on the server", dav->name, from);
    if (sx_dav_parent_missing(dav, to, cancel))
        return sx_fail(error, SX_ERR_NOT_FOUND, "%s: %s: its directory is not on the server", dav->name, to);
    if (sx_dav_stat(dav, to, &target, cancel, NULL))
        return sx_fail(error, SX_ERR_EXISTS, "%s: %s: there is something of that name on the server already", dav->name, to);
    return true;
}

static bool
transfer_fail(SxDav *dav, const char *from, const char *to, const SxNetRequest *request, const SxNetResponse *response,
              GCancellable *cancel, GError **error)
{
    int status = response->status;
    if (status == 412)
        return sx_fail(error, SX_ERR_EXISTS, "%s: %s: there is something of that name on the server already", dav->name, to);
    if ((status == 403 || status == 404 || status == 405 || status == 409 || status == 500) && !transfer_look(dav, from, to, cancel, error))
        return false;
    switch (status) {
    case 400:
        return sx_fail(error, SX_ERR_NAME, "%s: %s: the server does not accept this name (%s answered with 400)", dav->name, to,
                       request->method);
    case 404: /* both are there now */
        return sx_fail(error, SX_ERR_BUSY, "%s: %s: somebody else is changing it on the server", dav->name, from);
    case 405: return sx_fail(error, SX_ERR_READ_ONLY, "%s: %s: the server moves and copies nothing here", dav->name, from);
    case 502:
        return sx_fail(error, SX_ERR_UNSUPPORTED,
                       "%s: %s: the server takes its own address for another server (%s answered with 502): a proxy before it rewrites the address; use the server's own in url",
                       dav->name, from, request->method);
    case 207: return sx_fail(error, SX_ERR_PERMISSION, "%s: %s: the server could not do it for everything below it", dav->name, from);
    default: return sx_net_status_fail(dav->net, request, response, error);
    }
}

static bool
transfer(SxDav *dav, const char *method, const char *from, const char *to, bool dir, GCancellable *cancel, GError **error)
{
    g_autoptr(SxDavSite) site = sx_dav_site(dav);
    g_autofree char *from_url = sx_dav_path(site, from, dir), *to_url = sx_dav_path(site, to, dir);
    SxDavTransfer t = {.method = method, .from = from_url, .to = to_url, .what = from};
    if (!sx_dav_check_name(dav, site, to, error))
        return false;
    if (site->flavour->move_makes_parents && sx_dav_parent_missing(dav, to, cancel))
        return sx_fail(error, SX_ERR_NOT_FOUND, "%s: %s: its directory is not on the server", dav->name, to);
    SxNetRequest request = {0};
    g_auto(SxNetResponse) response = {0};
    if (!sx_dav_transfer(dav, &t, &request, &response, cancel, error))
        return false;
    return is_success(&response) || transfer_fail(dav, from, to, &request, &response, cancel, error);
}

bool
sx_dav_move(void *self, const char *from, const char *to, SxKind kind, GCancellable *cancel, GError **error)
{
    return transfer(self, "MOVE", from, to, kind == SX_KIND_DIR, cancel, error);
}

bool
sx_dav_copy(void *self, const char *from, const char *to, GCancellable *cancel, GError **error)
{
    return transfer(self, "COPY", from, to, false, cancel, error);
}

/* ---- MKCOL ---- */
bool
sx_dav_mkdir(void *self, const char *path, SxRemote **ret, GCancellable *cancel, GError **error)
{
    SxDav *dav = self;
    static const SxCond absent = {.kind = SX_IF_ABSENT};
    g_autoptr(SxDavSite) site = sx_dav_site(dav);
    g_autofree char *url_path = sx_dav_path(site, path, true);
    g_auto(SxNetResponse) response = {0};
    if (!sx_dav_check_name(dav, site, path, error))
        return false;
    if (!site->flavour->mkcol_checks && !sx_dav_check(dav, path, &absent, NULL, cancel, error))
        return false;
    SxNetRequest request = {.method = "MKCOL", .path = url_path, .what = path};
    if (!sx_net_send(dav->net, &request, &response, cancel, error))
        return false;
    if (response.status == 201 || response.status == 200 || response.status == 204) {
        *ret = sx_remote_new(sx_path_basename(path), SX_KIND_DIR);
        return true;
    }
    /* 405 ought to mean that it exists, 409 that its parent does not; servers differ, so it is looked at. */
    g_autoptr(SxRemote) now = NULL;
    bool unclear = response.status == 400 || response.status == 405 || response.status == 409 || response.status == 412 || response.status == 403 ||
                   response.status == 423;
    if (unclear && sx_dav_stat(dav, path, &now, cancel, NULL))
        return sx_fail(error, SX_ERR_EXISTS, "%s: %s: there is something of that name on the server already", dav->name, path);
    if (response.status == 404 || response.status == 409)
        return sx_fail(error, SX_ERR_NOT_FOUND, "%s: %s: its directory is not on the server", dav->name, path);
    if (response.status == 405)
        return sx_fail(error, SX_ERR_READ_ONLY, "%s: %s: the server makes no directories here", dav->name, path);
    if (response.status == 400)
        return sx_fail(error, SX_ERR_NAME, "%s: %s: the server does not accept this name", dav->name, path);
    return sx_net_status_fail(dav->net, &request, &response, error);
}

/* ---- DELETE ---- */
/* DELETE takes a directory with all that is in it, so it is listed first. */
typedef struct Emptiness {
    char *dir_raw;
    bool entries, is_dir;
} Emptiness;

static bool
see_entry(void *data, const SxDavEntry *e, GError **error)
{
    Emptiness *m = data;
    g_autofree char *name = NULL;
    SxDavHref what = sx_dav_href(e->href, m->dir_raw, &name);
    if (what == SX_DAV_HREF_SELF)
        m->is_dir = e->is_dir;
    else if (e->status != 404)
        m->entries = true;
    return true;
}

static bool
check_empty(SxDav *dav, const SxDavSite *site, const char *path, const char *url_path, GCancellable *cancel, GError **error)
{
    g_autofree char *dir_raw = g_strconcat(site->base_raw, "/", path, NULL);
    Emptiness m = {.dir_raw = dir_raw};
    SxDavFind find = {url_path, path, "1", "<resourcetype/>", see_entry, &m};
    GError *why = NULL;
    g_autoptr(SxRemote) now = NULL;
    bool ok = sx_dav_find(dav, &find, NULL, cancel, &why);
    bool doubtful = sx_error_is(why, SX_ERR_NOT_FOUND) || sx_error_is(why, SX_ERR_INVALID);
    if ((ok && !m.is_dir) || (doubtful && sx_dav_stat(dav, path, &now, cancel, NULL) && now->kind != SX_KIND_DIR)) {
        g_clear_error(&why);
        return sx_fail(error, SX_ERR_NOT_DIR, "%s: %s: not a directory", dav->name, path);
    }
    if (!ok) {
        g_propagate_error(error, why);
        return false;
    }
    return !m.entries || sx_fail(error, SX_ERR_NOT_EMPTY, "%s: %s: the directory is not empty on the server", dav->name, path);
}

/* Is what is there a file, and the one that is meant? */
static bool
check_file(SxDav *dav, const char *path, const SxCond *cond, GCancellable *cancel, GError **error)
{
    g_autoptr(SxRemote) now = NULL;
    if (!sx_dav_check(dav, path, cond, &now, cancel, error))
        return false;
    return now != NULL || sx_fail(error, SX_ERR_NOT_FOUND, "%s: %s: not found on the server", dav->name, path);
}

bool
sx_dav_remove(void *self, const char *path, SxKind kind, const SxCond *cond, GCancellable *cancel, GError **error)
{
    SxDav *dav = self;
    g_autoptr(SxDavSite) site = sx_dav_site(dav);
    bool dir = kind == SX_KIND_DIR;
    g_autofree char *url_path = sx_dav_path(site, path, dir);
    g_autoptr(GPtrArray) headers = g_ptr_array_new_with_free_func(g_free);
    g_auto(SxNetResponse) response = {0};
    /* An etag in the request also proves that it is a file: a directory has another one. */
    bool guarded = !dir && cond->kind == SX_IF_VERSION && sx_dav_honours(site, cond);
    if (dir && !check_empty(dav, site, path, url_path, cancel, error))
        return false;
    if (!dir && !guarded && !check_file(dav, path, cond, cancel, error))
        return false;
    if (guarded)
        sx_dav_add_cond(dav, site, cond, site->flavour->cond == SX_DAV_COND_IF ? url_path : NULL, headers);
    g_ptr_array_add(headers, NULL);
    SxNetRequest request = {.method = "DELETE", .path = url_path, .what = path, .headers = (const char *const *)headers->pdata};
    if (!sx_net_send(dav->net, &request, &response, cancel, error))
        return false;
    if (is_success(&response))
        return true;
    if (response.status == 412 && guarded) {
        GError *why = NULL;
        if (!check_file(dav, path, cond, cancel, &why)) {
            g_propagate_error(error, why);
            return false;
        }
        return sx_dav_write_fail(dav, path, cond, &request, &response, cancel, error);
    }
    if (response.status == 207)
        return sx_fail(error, SX_ERR_PERMISSION, "%s: %s: the server could not remove everything below it", dav->name, path);
    if (response.status == 405)
        return sx_fail(error, SX_ERR_READ_ONLY, "%s: %s: the server removes nothing here", dav->name, path);
    return sx_net_status_fail(dav->net, &request, &response, error);
}

/* A leftover of a call that fails anyway: its own error is what counts. */
void
sx_dav_delete_quietly(SxDav *dav, const char *url_path)
{
    SxNetRequest request = {.method = "DELETE", .path = url_path, .what = url_path, .timeout_ms = SX_DAV_CLEANUP_MS};
    g_auto(SxNetResponse) response = {0};
    sx_net_send(dav->net, &request, &response, NULL, NULL);
}

/* ---- PROPPATCH ---- */
/* Nextcloud forgets a file's checksum when its time is set, unless it is told in the same request. */
bool
sx_dav_set_attr(void *self, const char *path, gint64 mtime_ns, int mode, SxRemote **ret, GCancellable *cancel, GError **error)
{
    SxDav *dav = self;
    g_autoptr(SxDavSite) site = sx_dav_site(dav);
    if (!site->flavour->oc)
        return sx_fail(error, SX_ERR_UNSUPPORTED, "%s: %s: %s cannot set times", dav->name, path, site->flavour->label);
    *ret = NULL;
    if (mtime_ns == SX_TIME_UNKNOWN)
        return true;
    g_autoptr(SxRemote) now = NULL;
    if (!sx_dav_stat(dav, path, &now, cancel, error))
        return false;
    g_autofree char *sum = now->hash == NULL ? g_strdup("")
                                             : g_strdup_printf("<o:checksums><o:checksum>SHA1:%s</o:checksum></o:checksums>", now->hash + 5);
    g_autofree char *text = g_strdup_printf(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<propertyupdate xmlns=\"DAV:\" xmlns:o=\"http://owncloud.org/ns\"><set><prop>"
        "<lastmodified>%" G_GINT64_FORMAT "</lastmodified>%s</prop></set></propertyupdate>\n",
        mtime_ns / G_GINT64_CONSTANT(1000000000), sum);
    g_autofree char *url_path = sx_dav_path(site, path, now->kind == SX_KIND_DIR);
    const char *headers[] = {"Content-Type: application/xml; charset=utf-8", NULL};
    SxNetBody body = sx_net_body_text(text);
    SxNetRequest request = {.method = "PROPPATCH", .path = url_path, .what = path, .headers = headers, .body = &body};
    g_auto(SxNetResponse) response = {0};
    if (!sx_net_send(dav->net, &request, &response, cancel, error))
        return false;
    if (response.status != 207 && response.status != 200)
        return sx_net_status_fail(dav->net, &request, &response, error);
    return sx_dav_stat(dav, path, ret, cancel, error);
}
