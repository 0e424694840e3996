/* Nextcloud's and ownCloud's chunked upload, version 2: a folder of the user's uploads gets the pieces, a MOVE assembles
 * them at the target.
 *
 * Resume state: "FOLDER CHUNK SIZE": the folder's name, bytes in a chunk, bytes in the file. It is saved before the first
 * chunk goes out. After a crash the folder is listed: chunks of the right size are kept, others are sent again. The server
 * forgets a folder after a day without use; then everything is sent anew. A crash at any line leaves the target as it was or
 * complete, because only the MOVE touches it.
 *
 * The MOVE may outlast every proxy. While the server assembles, it answers 423; 404 after a 423 means that it is done. */
#include "providers/webdav/webdav_i.h"

#include "base/path.h"

#include <string.h>

#define ASSEMBLE_BYTES_PER_MS (20 * 1000) /* the slowest assembly we wait for: 20 MB/s beyond the timeout */
#define ASSEMBLE_POLLS 60
#define ASSEMBLE_POLL_MS 1000

typedef struct Chunks {
    SxDav *dav;
    const SxDavSite *site;
    const char *path;
    const SxUpload *upload;
    char *folder;          /* server path, no slash at the end */
    char *folder_raw;
    char *target;          /* Destination: absolute URL */
    gint64 chunk, size;
    guint count;
    guint8 *have;          /* count flags */
    gint64 done;           /* bytes in chunks that are there */
    guint current;         /* being sent */
} Chunks;

static void
chunks_clear(Chunks *c)
{
    g_free(c->folder);
    g_free(c->folder_raw);
    g_free(c->target);
    g_free(c->have);
    *c = (Chunks){0};
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Chunks, chunks_clear)

static gint64
chunk_len(const Chunks *c, guint i)
{
    return MIN(c->chunk, c->size - (gint64)i * c->chunk);
}

static void
set_folder(Chunks *c, const char *name, gint64 chunk)
{
    g_free(c->folder);
    g_free(c->folder_raw);
    g_free(c->have);
    c->folder = g_strconcat(c->site->uploads, "/", name, NULL);
    c->folder_raw = sx_dav_decode(c->folder, strlen(c->folder));
    c->chunk = chunk;
    c->count = (guint)((c->size + chunk - 1) / chunk);
    c->have = g_new0(guint8, c->count);
    c->done = 0;
}

static bool
parse_resume(const char *resume, char **ret_name, gint64 *ret_chunk, gint64 *ret_size)
{
    g_auto(GStrv) w = g_strsplit(resume, " ", 4);
    guint64 chunk, size;
    if (g_strv_length(w) != 3 || *w[0] == 0 || strspn(w[0], "0123456789abcdef-") != strlen(w[0]) ||
        !g_ascii_string_to_unsigned(w[1], 10, 1, G_MAXINT64, &chunk, NULL) ||
        !g_ascii_string_to_unsigned(w[2], 10, 1, G_MAXINT64, &size, NULL) || (size + chunk - 1) / chunk > SX_DAV_MAX_CHUNKS)
        return false;
    *ret_name = g_strdup(w[0]);
    *ret_chunk = (gint64)chunk;
    *ret_size = (gint64)size;
    return true;
}

static bool
see_chunk(void *data, const SxDavEntry *e, GError **error)
{
    Chunks *c = data;
    g_autofree char *name = NULL;
    guint64 number;
    if (sx_dav_href(e->href, c->folder_raw, &name) != SX_DAV_HREF_CHILD ||
        !g_ascii_string_to_unsigned(name, 10, 1, c->count, &number, NULL))
        return true;
    guint i = (guint)number - 1;
    if (!c->have[i] && e->size == chunk_len(c, i)) {
        c->have[i] = 1;
        c->done += e->size;
    }
    return true;
}

/* *ret_found false: there is nothing to continue. */
static bool
resume(Chunks *c, bool *ret_found, GCancellable *cancel, GError **error)
{
    g_autofree char *name = NULL;
    gint64 chunk, size;
    *ret_found = false;
    if (c->upload->resume == NULL || !parse_resume(c->upload->resume, &name, &chunk, &size) || size != c->size)
        return true;
    set_folder(c, name, chunk);
    g_autofree char *url_path = g_strconcat(c->folder, "/", NULL);
    SxDavFind find = {url_path, c->path, "1", "<resourcetype/><getcontentlength/>", see_chunk, c};
    GError *why = NULL;
    *ret_found = sx_dav_find(c->dav, &find, NULL, cancel, &why);
    if (*ret_found || sx_error_is(why, SX_ERR_NOT_FOUND)) {
        g_clear_error(&why);
        return true;
    }
    g_propagate_error(error, why);
    return false;
}

static GPtrArray *
common_headers(const Chunks *c)
{
    GPtrArray *headers = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(headers, g_strconcat("Destination: ", c->target, NULL));
    g_ptr_array_add(headers, g_strdup_printf("OC-Total-Length: %" G_GINT64_FORMAT, c->size));
    g_ptr_array_add(headers, NULL);
    return headers;
}

static bool
begin(Chunks *c, GCancellable *cancel, GError **error)
{
    g_autofree char *name = g_strdup_printf("%016" G_GINT64_MODIFIER "x%016" G_GINT64_MODIFIER "x", sx_clock_random(c->dav->env->clock),
                                            sx_clock_random(c->dav->env->clock));
    set_folder(c, name, MAX(c->site->chunk_size, (c->size + SX_DAV_MAX_CHUNKS - 1) / SX_DAV_MAX_CHUNKS));
    g_autofree char *url_path = g_strconcat(c->folder, "/", NULL);
    g_autoptr(GPtrArray) headers = common_headers(c);
    SxNetRequest request = {.method = "MKCOL", .path = url_path, .what = c->path, .headers = (const char *const *)headers->pdata};
    g_auto(SxNetResponse) response = {0};
    if (!sx_net_send(c->dav->net, &request, &response, cancel, error))
        return false;
    if (response.status != 201)
        return sx_net_status_fail(c->dav->net, &request, &response, error);
    g_autofree char *state = g_strdup_printf("%s %" G_GINT64_FORMAT " %" G_GINT64_FORMAT, name, c->chunk, c->size);
    if (c->upload->save_resume != NULL)
        c->upload->save_resume(c->upload->data, state);
    return true;
}

static gssize
read_chunk(void *data, gint64 off, void *buf, gsize n)
{
    Chunks *c = data;
    return c->upload->source.read(c->upload->source.data, (gint64)c->current * c->chunk + off, buf, n);
}

static void
tell(void *data, gint64 sent)
{
    Chunks *c = data;
    if (c->upload->progress != NULL)
        c->upload->progress(c->upload->data, c->done + sent);
}

static bool
send_chunk(Chunks *c, guint i, GCancellable *cancel, GError **error)
{
    c->current = i;
    g_autofree char *url_path = g_strdup_printf("%s/%05u", c->folder, i + 1);
    g_autoptr(GPtrArray) headers = common_headers(c);
    SxNetBody body = {.size = chunk_len(c, i), .read = read_chunk, .data = c};
    SxNetRequest request = {.method = "PUT", .path = url_path, .what = c->path, .headers = (const char *const *)headers->pdata,
                            .body = &body, .progress = tell, .data = c};
    g_auto(SxNetResponse) response = {0};
    if (!sx_net_send(c->dav->net, &request, &response, cancel, error))
        return false;
    if (response.status == 413)
        return sx_fail(error, SX_ERR_TOO_LARGE, "%s: %s: the server refuses chunks of %" G_GINT64_FORMAT " bytes: set chunk-size lower",
                       c->dav->name, c->path, body.size);
    if (response.status == 404 || response.status == 409)
        return sx_fail(error, SX_ERR_LOST, "%s: %s: the server has given up the upload; it begins anew", c->dav->name, c->path);
    if (response.status != 201 && response.status != 204)
        return sx_net_status_fail(c->dav->net, &request, &response, error);
    c->done += body.size;
    return true;
}

static void
wait_a_moment(GCancellable *cancel)
{
    GPollFD fd = {.fd = -1};
    bool polled = cancel != NULL && g_cancellable_make_pollfd(cancel, &fd);
    g_poll(&fd, polled ? 1 : 0, ASSEMBLE_POLL_MS);
    if (polled)
        g_cancellable_release_fd(cancel);
}

static bool
assembled(Chunks *c, const SxNetResponse *response, SxRemote **ret)
{
    *ret = sx_dav_written(c->site, c->path, c->upload, response);
    return true;
}

/* 404 after a 423: the other MOVE has finished; what is there tells whether it was ours. */
static bool
verify(Chunks *c, SxRemote **ret, GCancellable *cancel, GError **error)
{
    g_autoptr(SxRemote) now = NULL;
    if (!sx_dav_stat(c->dav, c->path, &now, cancel, error))
        return false;
    bool old = c->upload->cond.kind == SX_IF_VERSION && strcmp(now->version, c->upload->cond.version) == 0;
    if (old || now->size != c->size)
        return sx_fail(error, SX_ERR_LOST, "%s: %s: the server did not put the upload together", c->dav->name, c->path);
    *ret = g_steal_pointer(&now);
    return true;
}

static bool
assemble(Chunks *c, SxRemote **ret, GCancellable *cancel, GError **error)
{
    const SxCond *cond = &c->upload->cond;
    g_autofree char *from = g_strconcat(c->folder, "/.file", NULL), *to = sx_dav_path(c->site, c->path, false);
    g_autoptr(GPtrArray) extra = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(extra, g_strdup_printf("OC-Total-Length: %" G_GINT64_FORMAT, c->size));
    sx_dav_add_oc(c->site, c->upload, extra);
    if (cond->kind == SX_IF_VERSION)
        sx_dav_add_cond(c->dav, c->site, cond, to, extra);
    SxDavTransfer t = {.method = "MOVE", .from = from, .to = to, .what = c->path, .overwrite = cond->kind != SX_IF_ABSENT, .extra = extra,
                       .timeout_ms = sx_section_int(c->dav->env->section, "timeout") + c->size / ASSEMBLE_BYTES_PER_MS};
    for (int i = 0, locked = 0; i < ASSEMBLE_POLLS; i++) {
        SxNetRequest request = {0};
        g_auto(SxNetResponse) response = {0};
        if (!sx_dav_transfer(c->dav, &t, &request, &response, cancel, error))
            return false;
        if (response.status == 201 || response.status == 204)
            return assembled(c, &response, ret);
        if (response.status == 404 && locked > 0)
            return verify(c, ret, cancel, error);
        if (response.status == 404)
            return sx_fail(error, SX_ERR_LOST, "%s: %s: the server has given up the upload; it begins anew", c->dav->name, c->path);
        if (response.status != 423 && response.status != 504)
            return sx_dav_write_fail(c->dav, c->path, cond, &request, &response, cancel, error);
        locked++;
        wait_a_moment(cancel);
    }
    return sx_fail(error, SX_ERR_BUSY, "%s: %s: the server is still putting the upload together", c->dav->name, c->path);
}

bool
sx_dav_write_chunks(SxDav *dav, const SxDavSite *site, const char *path, const SxUpload *upload, SxRemote **ret, GCancellable *cancel,
                    GError **error)
{
    g_autofree char *to = sx_dav_path(site, path, false);
    g_auto(Chunks) c = {.dav = dav, .site = site, .path = path, .upload = upload, .size = upload->source.size,
                        .target = g_strconcat(sx_net_origin(dav->net), to, NULL)};
    bool found = false;
    /* A condition that fails is better known before the bytes have gone out; the MOVE checks it again. */
    if (upload->cond.kind != SX_IF_ANY && !sx_dav_check(dav, path, &upload->cond, NULL, cancel, error))
        return false;
    if (!resume(&c, &found, cancel, error) || (!found && !begin(&c, cancel, error)))
        return false;
    for (guint i = 0; i < c.count; i++)
        if (!c.have[i] && !send_chunk(&c, i, cancel, error))
            return false;
    return assemble(&c, ret, cancel, error);
}

void
sx_dav_discard(void *self, const char *path, const char *resume_state)
{
    SxDav *dav = self;
    g_autoptr(SxDavSite) site = sx_dav_site(dav);
    g_autofree char *name = NULL;
    gint64 chunk, size;
    if (site->uploads == NULL || !parse_resume(resume_state, &name, &chunk, &size))
        return;
    g_autofree char *url_path = g_strconcat(site->uploads, "/", name, "/", NULL);
    sx_dav_delete_quietly(dav, url_path);
}
