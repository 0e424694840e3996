/* What is at the address? One PROPFIND of the root and one OPTIONS tell most servers apart; Nextcloud and ownCloud are also
 * found behind the address of their web pages, and asked for their product, the user's id and their capabilities. */
#include "providers/webdav/webdav_i.h"

#include "base/log.h"

#include <jansson.h>
#include <string.h>

#define JSON_MAX (1024 * 1024)
#define OC_FORBIDDEN "\\\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17\20\21\22\23\24\25\26\27\30\31\32\33\34\35\36\37"

typedef struct Root {
    bool found, is_dir, oc, etag;
    char *permissions;
} Root;

static void
root_clear(Root *r)
{
    g_free(r->permissions);
    *r = (Root){0};
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Root, root_clear)

static bool
see_root(void *data, const SxDavEntry *e, GError **error)
{
    Root *r = data;
    r->found = e->status < 300;
    r->is_dir = e->is_dir;
    r->oc = e->fileid != NULL && *e->fileid != 0;
    r->etag = e->etag != NULL && *e->etag != 0;
    g_free(r->permissions);
    r->permissions = g_strdup(e->permissions);
    return true;
}

static bool
look_at(SxDav *dav, const char *url_path, Root *ret, GCancellable *cancel, GError **error)
{
    SxDavFind find = {url_path, "", "0", "<resourcetype/><getetag/><o:fileid/><o:permissions/>", see_root, ret};
    root_clear(ret);
    if (!sx_dav_find(dav, &find, NULL, cancel, error))
        return false;
    if (!ret->found || !ret->is_dir)
        return sx_fail(error, SX_ERR_NOT_DIR, "%s: url is not the address of a directory", dav->name);
    return true;
}

/* NULL and error; NOT_FOUND also for what is not JSON. */
static json_t *
get_json(SxDav *dav, const char *url_path, GCancellable *cancel, GError **error)
{
    const char *headers[] = {"OCS-APIRequest: true", "Accept: application/json", NULL};
    SxNetRequest request = {.method = "GET", .path = url_path, .what = url_path, .headers = headers, .body_limit = JSON_MAX};
    g_auto(SxNetResponse) response = {0};
    if (!sx_net_send(dav->net, &request, &response, cancel, error))
        return NULL;
    json_t *json = response.status == 200 ? json_loadb((const char *)response.body->data, response.body->len, 0, NULL) : NULL;
    if (json == NULL)
        sx_fail(error, SX_ERR_NOT_FOUND, "%s: %s: no such service (%d)", dav->name, url_path, response.status);
    return json;
}

/* The path before /remote.php: where Nextcloud or ownCloud lives. */
static char *
oc_home(const char *url_path)
{
    const char *remote = strstr(url_path, "/remote.php");
    gsize len = remote != NULL ? (gsize)(remote - url_path) : strlen(url_path);
    while (len > 0 && url_path[len - 1] == '/')
        len--;
    return g_strndup(url_path, len);
}

/* NULL: neither of the two. */
static const SxDavFlavour *
oc_product(SxDav *dav, const char *home, GCancellable *cancel, GError **error)
{
    g_autofree char *path = g_strconcat(home, "/status.php", NULL);
    json_t *status = get_json(dav, path, cancel, error);
    if (status == NULL)
        return NULL;
    const char *product = json_string_value(json_object_get(status, "productname"));
    bool installed = json_is_true(json_object_get(status, "installed")), resting = json_is_true(json_object_get(status, "maintenance"));
    const SxDavFlavour *flavour = NULL;
    if (resting)
        sx_fail(error, SX_ERR_RATE, "%s: the server is in maintenance", dav->name);
    else if (!installed)
        sx_fail(error, SX_ERR_NOT_FOUND, "%s: there is no Nextcloud at this address", dav->name);
    else
        flavour = sx_dav_flavour(product != NULL && strcasestr(product, "owncloud") != NULL ? "owncloud" : "nextcloud");
    json_decref(status);
    return flavour;
}

/* The user's id in paths: the one in the url, or what the server calls the login. Percent-encoded. */
static char *
oc_user(SxDav *dav, const char *home, GCancellable *cancel, GError **error)
{
    const char *files = strstr(dav->url_path, "/remote.php/dav/files/");
    if (files != NULL) {
        files += strlen("/remote.php/dav/files/");
        return g_strndup(files, strcspn(files, "/"));
    }
    g_autofree char *path = g_strconcat(home, "/ocs/v1.php/cloud/user?format=json", NULL);
    json_t *answer = get_json(dav, path, cancel, error);
    if (answer == NULL)
        return NULL;
    const char *id = json_string_value(json_object_get(json_object_get(json_object_get(answer, "ocs"), "data"), "id"));
    char *user = id != NULL && *id != 0 && strchr(id, '/') == NULL ? sx_dav_encode(id) : NULL;
    if (user == NULL)
        sx_fail(error, SX_ERR_PROTOCOL, "%s: the server does not tell the user's id", dav->name);
    json_decref(answer);
    return user;
}

static bool
oc_has_chunks(SxDav *dav, const char *home, GCancellable *cancel)
{
    g_autofree char *path = g_strconcat(home, "/ocs/v2.php/cloud/capabilities?format=json", NULL);
    json_t *answer = get_json(dav, path, cancel, NULL);
    json_t *caps = json_object_get(json_object_get(json_object_get(answer, "ocs"), "data"), "capabilities");
    const char *chunking = json_string_value(json_object_get(json_object_get(caps, "dav"), "chunking"));
    bool has = chunking != NULL && g_ascii_strtod(chunking, NULL) >= 1.0;
    json_decref(answer);
    return has;
}

static SxDavSite *
probe_oc(SxDav *dav, GCancellable *cancel, GError **error)
{
    g_autofree char *home = oc_home(dav->url_path);
    const SxDavFlavour *flavour = oc_product(dav, home, cancel, error);
    g_autofree char *user = flavour == NULL ? NULL : oc_user(dav, home, cancel, error);
    if (user == NULL)
        return NULL;
    const char *below = strstr(dav->url_path, "/remote.php/dav/files/");
    below = below != NULL ? strchr(below + strlen("/remote.php/dav/files/"), '/') : NULL;
    if (below == NULL && strstr(dav->url_path, "/remote.php/webdav/") != NULL)
        below = strstr(dav->url_path, "/remote.php/webdav/") + strlen("/remote.php/webdav");
    g_autofree char *base = g_strconcat(home, "/remote.php/dav/files/", user, below, NULL);
    SxDavSite *site = sx_dav_site_new(flavour, base);
    site->chunk_size = sx_section_int(dav->env->section, "chunk-size");
    if (site->chunk_size > 0 && oc_has_chunks(dav, home, cancel))
        site->uploads = g_strconcat(home, "/remote.php/dav/uploads/", user, NULL);
    return site;
}

/* ---- other servers ---- */
static bool
has_word(const char *list, const char *word)
{
    return list != NULL && strstr(list, word) != NULL;
}

static const SxDavFlavour *
guess(const SxNetResponse *options, const Root *root)
{
    const char *server = sx_headers_get(options->headers, "server"), *dav = sx_headers_get(options->headers, "dav");
    const char *allow = sx_headers_get(options->headers, "allow"), *via = sx_headers_get(options->headers, "ms-author-via");
    if (has_word(dav, "http://apache.org/dav/propset/fs/"))
        return sx_dav_flavour("apache");
    if (server != NULL && g_str_has_prefix(server, "nginx") && via == NULL && !root->etag && has_word(allow, "MKCOL"))
        return sx_dav_flavour("nginx");
    /* The WebDAV library of Go, in which rclone's server is written; newer ones tell their name. */
    bool go = server == NULL && via != NULL && has_word(allow, "OPTIONS, LOCK, DELETE, PROPPATCH");
    return sx_dav_flavour(go || (server != NULL && g_str_has_prefix(server, "rclone")) ? "rclone" : "generic");
}

static bool
read_only(const SxNetResponse *options, const Root *root)
{
    const char *allow = sx_headers_get(options->headers, "allow");
    if (root->oc && root->permissions != NULL)
        return strpbrk(root->permissions, "CKW") == NULL;
    return options->status == 200 && allow != NULL && !has_word(allow, "PUT") && !has_word(allow, "MKCOL") &&
           !has_word(allow, "DELETE") && !has_word(allow, "MOVE");
}

static void
fill_caps(const SxDavSite *site, bool is_read_only, SxCaps *c)
{
    const SxDavFlavour *f = site->flavour;
    c->atomic_replace = true;      /* staged by the server, or by a hidden name and a MOVE */
    c->conditional_write = false;  /* webdav_i.h says why */
    c->conditional_remove = false;
    c->version_after_write = f->put_tells || f->move_keeps;
    c->content_version = f->cond != SX_DAV_COND_NONE || site->etags;
    c->stable_ids = f->oc;
    c->server_move = c->server_copy = c->ranges = true;
    c->resumable_write = site->uploads != NULL;
    c->chunk_size = site->uploads != NULL ? site->chunk_size : 0;
    c->set_mtime = f->oc;
    c->read_only = is_read_only;
    c->mtime_precision_ns = G_GINT64_CONSTANT(1000000000);
    c->hash_kind = f->oc ? "sha1" : NULL;
    c->name_max = f->oc ? 250 : 255;
    c->forbidden = f->oc ? OC_FORBIDDEN : "";
}

static bool
not_webdav(const GError *why)
{
    return sx_error_is(why, SX_ERR_NOT_FOUND) || sx_error_is(why, SX_ERR_PROTOCOL) || sx_error_is(why, SX_ERR_UNSUPPORTED);
}

static bool
explain(SxDav *dav, GError *why, GError **error)
{
    if (sx_error_is(why, SX_ERR_NOT_FOUND)) {
        g_error_free(why);
        /* Not NOT_FOUND: that would say that the user's own directory is certainly gone. */
        return sx_fail(error, SX_ERR_PROTOCOL, "%s: %s%s does not exist on the server: is the path in url right?", dav->name,
                       sx_net_origin(dav->net), dav->url_path);
    }
    g_propagate_error(error, why);
    return false;
}

bool
sx_dav_probe(void *self, SxCaps *caps, GCancellable *cancel, GError **error)
{
    SxDav *dav = self;
    const char *wanted = sx_section_string(dav->env->section, "flavour");
    const SxDavFlavour *fixed = sx_dav_flavour(wanted);
    g_auto(Root) root = {0};
    g_autoptr(SxDavSite) site = NULL;
    GError *why = NULL;
    sx_net_forget_login(dav->net);
    bool ok = look_at(dav, dav->url_path, &root, cancel, &why);
    if (!ok && (!not_webdav(why) || (fixed != NULL && !fixed->oc)))
        return explain(dav, why, error);
    if ((ok && root.oc) || !ok || (fixed != NULL && fixed->oc)) {
        GError *oc_why = NULL;
        site = probe_oc(dav, cancel, &oc_why);
        bool fine = site != NULL;
        if (fine && (!ok || strcmp(site->base, dav->url_path) != 0)) {
            g_autofree char *url_path = sx_dav_path(site, "", true);
            fine = look_at(dav, url_path, &root, cancel, &oc_why);
        }
        bool cut = sx_error_is(oc_why, SX_ERR_CANCELLED) || sx_error_is(oc_why, SX_ERR_RATE) || sx_error_is(oc_why, SX_ERR_OFFLINE);
        if (!fine && (ok || cut || fixed != NULL)) {
            g_clear_error(&why);
            return explain(dav, oc_why, error);
        }
        g_clear_error(&oc_why);
        if (!fine)
            return explain(dav, why, error);
        g_clear_error(&why);
    }
    g_autofree char *url_path = site != NULL ? sx_dav_path(site, "", true) : g_strdup(dav->url_path);
    SxNetRequest request = {.method = "OPTIONS", .path = url_path, .what = ""};
    g_auto(SxNetResponse) options = {0};
    if (!sx_net_send(dav->net, &request, &options, cancel, error))
        return false;
    if (site == NULL) {
        site = sx_dav_site_new(fixed != NULL ? fixed : guess(&options, &root), dav->url_path);
        site->etags = root.etag || strcmp(site->flavour->name, "nginx") != 0;
    }
    fill_caps(site, read_only(&options, &root), caps);
    sx_info("%s: %s%s is %s%s%s", dav->name, sx_net_origin(dav->net), site->base, site->flavour->label,
            site->uploads != NULL ? ", takes large files in chunks" : "", caps->read_only ? ", read-only" : "");
    if (!site->flavour->staged_put && !caps->read_only)
        sx_dav_tidy(dav, site, sx_headers_date_s(options.headers, "date"), cancel);
    g_mutex_lock(&dav->lock);
    SxDavSite *old = dav->site;
    dav->site = g_steal_pointer(&site);
    g_mutex_unlock(&dav->lock);
    g_atomic_int_set(&dav->tmp_dir_made, 0);
    sx_dav_site_unref(old);
    return true;
}
