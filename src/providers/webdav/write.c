#include "providers/webdav/webdav_i.h"

#include "base/path.h"

#include <string.h>

#define NS_PER_S G_GINT64_CONSTANT(1000000000)

/* ---- conditions ---- */
bool
sx_dav_honours(const SxDavSite *site, const SxCond *cond)
{
    if (cond->kind == SX_IF_ABSENT)
        return site->flavour->if_none_match;
    bool etag = cond->kind == SX_IF_VERSION && *cond->version != 0 && !sx_dav_is_size_mtime(cond->version);
    return cond->kind == SX_IF_ANY || (etag && site->flavour->cond != SX_DAV_COND_NONE);
}

bool
sx_dav_cond_holds(const SxCond *cond, const SxRemote *now)
{
    if (cond->kind != SX_IF_VERSION)
        return cond->kind == SX_IF_ANY || now == NULL;
    if (now == NULL)
        return false;
    if (*cond->version != 0 && *now->version != 0)
        return strcmp(cond->version, now->version) == 0;
    /* Our own upload, whose version was not told: the time is that of its end, and the content's is not after it (tree.h). */
    bool same_size = cond->size < 0 || now->size < 0 || cond->size == now->size;
    bool same_time = cond->mtime_ns == SX_TIME_UNKNOWN || now->mtime_ns == SX_TIME_UNKNOWN || now->mtime_ns <= cond->mtime_ns;
    return same_size && same_time;
}

static bool
cond_fail(const SxDav *dav, const char *path, const SxCond *cond, GError **error)
{
    if (cond->kind == SX_IF_ABSENT)
        return sx_fail(error, SX_ERR_EXISTS, "%s: %s: somebody else has made it on the server meanwhile", dav->name, path);
    return sx_fail(error, SX_ERR_CHANGED, "%s: %s: it has been changed on the server meanwhile", dav->name, path);
}

/* *ret NULL: certainly absent. */
static bool
look(SxDav *dav, const char *path, SxRemote **ret, GCancellable *cancel, GError **error)
{
    GError *why = NULL;
    *ret = NULL;
    if (sx_dav_stat(dav, path, ret, cancel, &why))
        return true;
    if (sx_error_is(why, SX_ERR_NOT_FOUND)) {
        g_error_free(why);
        return true;
    }
    g_propagate_error(error, why);
    return false;
}

bool
sx_dav_check(SxDav *dav, const char *path, const SxCond *cond, SxRemote **ret_now, GCancellable *cancel, GError **error)
{
    g_autoptr(SxRemote) now = NULL;
    if (!look(dav, path, &now, cancel, error))
        return false;
    if (cond->kind == SX_IF_ABSENT && now != NULL)
        return cond_fail(dav, path, cond, error);
    if (now != NULL && now->kind == SX_KIND_DIR)
        return sx_fail(error, cond->kind == SX_IF_VERSION ? SX_ERR_CHANGED : SX_ERR_IS_DIR, "%s: %s: is a directory on the server",
                       dav->name, path);
    if (!sx_dav_cond_holds(cond, now))
        return cond_fail(dav, path, cond, error);
    if (ret_now != NULL)
        *ret_now = g_steal_pointer(&now);
    return true;
}

/* tagged_path: the condition is about that server path instead of the request's own. sabre/dav needs the blank after '>'. */
void
sx_dav_add_cond(const SxDav *dav, const SxDavSite *site, const SxCond *cond, const char *tagged_path, GPtrArray *headers)
{
    if (!sx_dav_honours(site, cond) || cond->kind == SX_IF_ANY)
        return;
    if (cond->kind == SX_IF_ABSENT)
        g_ptr_array_add(headers, g_strdup("If-None-Match: *"));
    else if (tagged_path != NULL)
        g_ptr_array_add(headers, g_strdup_printf("If: <%s%s> ([\"%s\"])", sx_net_origin(dav->net), tagged_path, cond->version));
    else if (site->flavour->cond == SX_DAV_COND_IF)
        g_ptr_array_add(headers, g_strdup_printf("If: ([\"%s\"])", cond->version));
    else
        g_ptr_array_add(headers, g_strdup_printf("If-Match: \"%s\"", cond->version));
}

void
sx_dav_add_oc(const SxDavSite *site, const SxUpload *upload, GPtrArray *headers)
{
    if (!site->flavour->oc)
        return;
    if (upload->mtime_ns != SX_TIME_UNKNOWN)
        g_ptr_array_add(headers, g_strdup_printf("X-OC-MTime: %" G_GINT64_FORMAT, upload->mtime_ns / NS_PER_S));
    if (upload->hash != NULL && g_str_has_prefix(upload->hash, "sha1:"))
        g_ptr_array_add(headers, g_strdup_printf("OC-Checksum: SHA1:%s", upload->hash + 5));
}

/* ---- answers ---- */
/* Some servers' Date is that of the request's beginning, and all cut it to seconds: the content's own time is not after
 * the sum of both, by the server's clock. */
static gint64
end_of_upload_ns(const SxNetResponse *response)
{
    gint64 date_s = sx_headers_date_s(response->headers, "date");
    return date_s < 0 ? SX_TIME_UNKNOWN : (date_s * 1000 + 999 + response->elapsed_ms) * 1000000;
}

SxRemote *
sx_dav_written(const SxDavSite *site, const char *path, const SxUpload *upload, const SxNetResponse *response)
{
    SxRemote *r = sx_remote_new(sx_path_basename(path), SX_KIND_FILE);
    r->size = upload->source.size;
    r->mtime_ns = end_of_upload_ns(response);
    if (site->flavour->put_tells) {
        const char *etag = sx_headers_get(response->headers, "oc-etag");
        etag = etag != NULL ? etag : sx_headers_get(response->headers, "etag");
        g_free(r->version);
        r->version = sx_dav_version(etag);
    }
    if (site->flavour->oc) {
        const char *id = sx_headers_get(response->headers, "oc-fileid"); /* the number, zeros before it, the instance behind */
        guint64 number = id != NULL ? g_ascii_strtoull(id, NULL, 10) : 0;
        r->id = number != 0 ? g_strdup_printf("%" G_GUINT64_FORMAT, number) : NULL;
        const char *accepted = sx_headers_get(response->headers, "x-oc-mtime");
        if (accepted != NULL && upload->mtime_ns != SX_TIME_UNKNOWN)
            r->mtime_ns = upload->mtime_ns / NS_PER_S * NS_PER_S;
        r->hash = upload->hash != NULL && g_str_has_prefix(upload->hash, "sha1:") ? g_strdup(upload->hash) : NULL;
    }
    return r;
}

/* The server says that the condition does not hold. Servers that never accept a weak etag say so for a while about the very
 * version that we expect: that is no conflict, it only has to be tried again. */
static bool
refused_fail(SxDav *dav, const char *path, const SxCond *cond, GCancellable *cancel, GError **error)
{
    g_autoptr(SxRemote) now = NULL;
    if (cond->kind != SX_IF_VERSION)
        return cond_fail(dav, path, cond, error);
    if (!look(dav, path, &now, cancel, error))
        return false;
    if (now == NULL || strcmp(now->version, cond->version) != 0)
        return cond_fail(dav, path, cond, error);
    GError *e = sx_error_new(SX_ERR_BUSY, "%s: %s: the server does not compare this version yet", dav->name, path);
    sx_error_set_retry_after_ms(e, 1500);
    g_propagate_error(error, e);
    return false;
}

bool
sx_dav_parent_missing(SxDav *dav, const char *path, GCancellable *cancel)
{
    g_autofree char *dir = sx_path_dirname(path);
    g_autoptr(SxRemote) parent = NULL;
    g_autoptr(GError) why = NULL;
    return !sx_dav_stat(dav, dir, &parent, cancel, &why) && sx_error_is(why, SX_ERR_NOT_FOUND);
}

bool
sx_dav_write_fail(SxDav *dav, const char *path, const SxCond *cond, const SxNetRequest *request, const SxNetResponse *response,
                  GCancellable *cancel, GError **error)
{
    g_autoptr(SxRemote) now = NULL;
    switch (response->status) {
    case 412: return refused_fail(dav, path, cond, cancel, error);
    case 400:
    case 422:
        return sx_fail(error, SX_ERR_NAME, "%s: %s: the server does not accept this name (%s answered with %d)", dav->name, path,
                       request->method, response->status);
    case 403: /* rclone, when the directory is missing */
    case 404:
    case 405:
    case 409:
    case 500: /* nginx, when the directory is missing */
        if (sx_dav_stat(dav, path, &now, cancel, NULL) && now->kind == SX_KIND_DIR)
            return sx_fail(error, SX_ERR_IS_DIR, "%s: %s: is a directory on the server", dav->name, path);
        if (response->status == 405)
            return sx_fail(error, SX_ERR_READ_ONLY, "%s: %s: the server takes no uploads here (%s answered with 405)", dav->name, path,
                           request->method);
        if (sx_dav_parent_missing(dav, path, cancel))
            return sx_fail(error, SX_ERR_NOT_FOUND, "%s: %s: its directory is not on the server (%s answered with %d)", dav->name,
                           path, request->method, response->status);
        if (response->status == 404 || response->status == 409)
            return sx_fail(error, SX_ERR_BUSY, "%s: %s: somebody else is changing it on the server (%s answered with %d)", dav->name,
                           path, request->method, response->status);
        return sx_net_status_fail(dav->net, request, response, error);
    default: return sx_net_status_fail(dav->net, request, response, error);
    }
}

/* ---- PUT ---- */
static bool
is_done(const SxNetResponse *response)
{
    return response->status == 200 || response->status == 201 || response->status == 204;
}

/* headers: taken; a NULL is added. *ret: an answer that is_done(), otherwise false. */
static bool
put(SxDav *dav, const char *path, const char *url_path, const SxCond *cond, const SxUpload *upload, GPtrArray *headers,
    SxNetResponse *ret, GCancellable *cancel, GError **error)
{
    g_ptr_array_add(headers, g_strdup("Content-Type: application/octet-stream"));
    g_ptr_array_add(headers, NULL);
    SxNetBody body = {.size = upload->source.size, .read = upload->source.read, .data = upload->source.data};
    SxNetRequest request = {.method = "PUT", .path = url_path, .what = path, .headers = (const char *const *)headers->pdata,
                            .body = &body, .progress = upload->progress, .data = upload->data};
    g_auto(SxNetResponse) response = {0};
    if (!sx_net_send(dav->net, &request, &response, cancel, error))
        return false;
    if (!is_done(&response))
        return sx_dav_write_fail(dav, path, cond, &request, &response, cancel, error);
    *ret = response;
    response = (SxNetResponse){0};
    return true;
}

static bool
write_direct(SxDav *dav, const SxDavSite *site, const char *path, const SxUpload *upload, SxRemote **ret, GCancellable *cancel,
             GError **error)
{
    g_autofree char *url_path = sx_dav_path(site, path, false);
    g_autoptr(GPtrArray) headers = g_ptr_array_new_with_free_func(g_free);
    g_auto(SxNetResponse) response = {0};
    g_autoptr(SxRemote) now = NULL;
    SxCond cond = upload->cond;
    if (!sx_dav_honours(site, &cond) && !sx_dav_check(dav, path, &cond, &now, cancel, error))
        return false;
    if (now != NULL && cond.kind == SX_IF_VERSION) /* the version that was just seen to be the right one */
        cond.version = now->version;
    sx_dav_add_cond(dav, site, &cond, NULL, headers);
    sx_dav_add_oc(site, upload, headers);
    if (!put(dav, path, url_path, &cond, upload, headers, &response, cancel, error))
        return false;
    *ret = sx_dav_written(site, path, upload, &response);
    return true;
}

/* The uploaded temporary file, after its size was checked, takes the name. */
static bool
publish(SxDav *dav, const SxDavSite *site, const char *tmp, const char *path, const SxUpload *upload, SxRemote *ret_sent,
        GCancellable *cancel, GError **error)
{
    g_autoptr(SxRemote) sent = NULL, now = NULL;
    if (!sx_dav_stat(dav, tmp, &sent, cancel, error))
        return false;
    if (sent->size >= 0 && sent->size != upload->source.size)
        return sx_fail(error, SX_ERR_CORRUPT, "%s: %s: the server kept %" G_GINT64_FORMAT " of %" G_GINT64_FORMAT " bytes",
                       dav->name, path, sent->size, upload->source.size);
    if (!sx_dav_check(dav, path, &upload->cond, &now, cancel, error))
        return false;
    g_autofree char *from = sx_dav_path(site, tmp, false), *to = sx_dav_path(site, path, false);
    SxDavTransfer t = {.method = "MOVE", .from = from, .to = to, .what = path, .overwrite = now != NULL};
    SxCond cond = now != NULL ? upload->cond : (SxCond){.kind = SX_IF_ABSENT};
    SxNetRequest request = {0};
    g_auto(SxNetResponse) response = {0};
    if (!sx_dav_transfer(dav, &t, &request, &response, cancel, error))
        return false;
    if (!is_done(&response))
        return sx_dav_write_fail(dav, path, &cond, &request, &response, cancel, error);
    if (site->flavour->move_keeps) {
        g_free(ret_sent->version);
        ret_sent->version = g_steal_pointer(&sent->version);
        ret_sent->mtime_ns = sent->mtime_ns;
    }
    return true;
}

static bool
server_there(const GError *error)
{
    return !sx_error_is(error, SX_ERR_OFFLINE) && !sx_error_is(error, SX_ERR_TIMEOUT) && !sx_error_is(error, SX_ERR_LOST);
}

typedef struct Leftovers {
    char *dir_raw;
    gint64 before_s;
    GPtrArray *names;      /* of char* */
} Leftovers;

static bool
see_leftover(void *data, const SxDavEntry *e, GError **error)
{
    Leftovers *l = data;
    char *name = NULL;
    bool child = sx_dav_href(e->href, l->dir_raw, &name) == SX_DAV_HREF_CHILD;
    if (child && !e->is_dir && e->mtime_s >= 0 && e->mtime_s < l->before_s && sx_name_valid(name, strlen(name)))
        g_ptr_array_add(l->names, g_steal_pointer(&name));
    g_free(name);
    return true;
}

void
sx_dav_tidy(SxDav *dav, const SxDavSite *site, gint64 server_now_s, GCancellable *cancel)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *dir_raw = g_strconcat(site->base_raw, "/" SX_DAV_TMP_DIR, NULL);
    g_autofree char *url_path = sx_dav_path(site, SX_DAV_TMP_DIR, true);
    Leftovers l = {.dir_raw = dir_raw, .before_s = server_now_s - SX_DAV_LEFTOVER_S, .names = names};
    SxDavFind find = {url_path, SX_DAV_TMP_DIR, "1", sx_dav_props(site), see_leftover, &l};
    if (server_now_s < 0 || !sx_dav_find(dav, &find, NULL, cancel, NULL))
        return;
    for (guint i = 0; i < names->len && !g_cancellable_is_cancelled(cancel); i++) {
        g_autofree char *path = sx_path_join(SX_DAV_TMP_DIR, g_ptr_array_index(names, i));
        g_autofree char *leftover = sx_dav_path(site, path, false);
        sx_dav_delete_quietly(dav, leftover);
    }
}

static void
make_tmp_dir(SxDav *dav, const SxDavSite *site, GCancellable *cancel)
{
    g_autofree char *url_path = sx_dav_path(site, SX_DAV_TMP_DIR, true);
    SxNetRequest request = {.method = "MKCOL", .path = url_path, .what = SX_DAV_TMP_DIR};
    g_auto(SxNetResponse) response = {0};
    if (sx_net_send(dav->net, &request, &response, cancel, NULL)) /* when it fails, the PUT tells why */
        g_atomic_int_set(&dav->tmp_dir_made, 1);
}

/* *ret: what the answer to the PUT tells. */
static bool
put_tmp(SxDav *dav, const SxDavSite *site, const char *tmp, const char *path, const SxUpload *upload, SxRemote **ret,
        GCancellable *cancel, GError **error)
{
    static const SxCond any = {.kind = SX_IF_ANY};
    g_autofree char *url_path = sx_dav_path(site, tmp, false);
    GError *why = NULL;
    for (int again = 0; again < 2; again++) {
        g_autoptr(GPtrArray) headers = g_ptr_array_new_with_free_func(g_free);
        g_auto(SxNetResponse) response = {0};
        g_clear_error(&why);
        if (again || g_atomic_int_get(&dav->tmp_dir_made) == 0)
            make_tmp_dir(dav, site, cancel);
        if (put(dav, tmp, url_path, &any, upload, headers, &response, cancel, &why)) {
            *ret = sx_dav_written(site, path, upload, &response);
            return true;
        }
        if (!sx_error_is(why, SX_ERR_NOT_FOUND)) /* somebody has tidied up: the folder is made again */
            break;
    }
    g_propagate_error(error, why);
    return false;
}

/* For servers that write in place: nobody sees the file before it is whole. */
static bool
write_by_move(SxDav *dav, const SxDavSite *site, const char *path, const SxUpload *upload, SxRemote **ret, GCancellable *cancel,
              GError **error)
{
    g_autofree char *tmp = g_strdup_printf(SX_DAV_TMP_DIR "/%016" G_GINT64_MODIFIER "x", sx_clock_random(dav->env->clock));
    g_autofree char *url_path = sx_dav_path(site, tmp, false);
    if (upload->source.size > SX_DAV_SMALL && !sx_dav_check(dav, path, &upload->cond, NULL, cancel, error))
        return false;
    GError *why = NULL;
    g_autoptr(SxRemote) r = NULL;
    if (put_tmp(dav, site, tmp, path, upload, &r, cancel, &why) && publish(dav, site, tmp, path, upload, r, cancel, &why)) {
        *ret = g_steal_pointer(&r);
        return true;
    }
    if (server_there(why))
        sx_dav_delete_quietly(dav, url_path);
    g_propagate_error(error, why);
    return false;
}

bool
sx_dav_write(void *self, const char *path, const SxUpload *upload, SxRemote **ret, GCancellable *cancel, GError **error)
{
    SxDav *dav = self;
    g_autoptr(SxDavSite) site = sx_dav_site(dav);
    if (!sx_dav_check_name(dav, site, path, error))
        return false;
    if (site->uploads != NULL && upload->source.size > site->chunk_size)
        return sx_dav_write_chunks(dav, site, path, upload, ret, cancel, error);
    if (site->flavour->staged_put)
        return write_direct(dav, site, path, upload, ret, cancel, error);
    return write_by_move(dav, site, path, upload, ret, cancel, error);
}
