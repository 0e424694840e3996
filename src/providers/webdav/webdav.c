#include "providers/webdav/webdav_i.h"

#include <string.h>

static const SxOption options[] = {
    {"url", SX_OPT_URL, NULL, NULL, true,
     "Address of the folder on the server. For Nextcloud and ownCloud the address of the web pages is enough."},
    SX_OPTIONS_LOGIN,
    {"auth", SX_OPT_ENUM, "auto", "auto basic digest bearer", false,
     "How to log in. auto asks the server; bearer sends the password as a token."},
    {"ca-file", SX_OPT_PATH, NULL, NULL, false,
     "Certificates (PEM) to trust instead of the system's: of a private CA, or the server's own self-signed one."},
    {"flavour", SX_OPT_ENUM, "auto", "auto apache nginx rclone nextcloud owncloud generic", false,
     "What the server is; auto finds out. generic uploads to a temporary name and renames, which every server can."},
    {"chunk-size", SX_OPT_SIZE, "10M", NULL, false,
     "Nextcloud, ownCloud: larger files are uploaded in pieces of this size, and continued after an interruption; 0: never."},
    {0},
};

static bool
get_secret(void *data, SxSecret **ret, GError **error)
{
    const SxDav *dav = data;
    return sx_secret_for_section(dav->env->section, ret, error);
}

static SxNetAuth
parse_auth(const char *word)
{
    static const char *const words[] = {[SX_NET_AUTH_AUTO] = "auto", [SX_NET_AUTH_BASIC] = "basic",
                                        [SX_NET_AUTH_DIGEST] = "digest", [SX_NET_AUTH_BEARER] = "bearer"};
    for (guint i = 0; i < G_N_ELEMENTS(words); i++)
        if (strcmp(words[i], word) == 0)
            return (SxNetAuth)i;
    return SX_NET_AUTH_AUTO;
}

static void
dav_close(void *self)
{
    SxDav *dav = self;
    sx_net_free(dav->net);
    sx_dav_site_unref(dav->site);
    g_mutex_clear(&dav->lock);
    g_free(dav->name);
    g_free(dav->url_path);
    g_free(dav);
}

/* The path of url with a slash at the end; a query or fragment makes no sense in the address of a folder. */
static char *
folder_path(const SxDav *dav, const char *url, GError **error)
{
    g_autoptr(GUri) uri = g_uri_parse(url, G_URI_FLAGS_ENCODED, NULL);
    const char *path = uri != NULL ? g_uri_get_path(uri) : "";
    g_autofree char *raw = sx_dav_decode(path, strlen(path));
    if (uri == NULL || raw == NULL || g_uri_get_query(uri) != NULL || g_uri_get_fragment(uri) != NULL) {
        sx_fail(error, SX_ERR_CONFIG, "%s: url = %s is not the address of a folder ('?' and '#' in names are written %%3F and %%23)",
                dav->name, url);
        return NULL;
    }
    g_autofree char *encoded = sx_dav_encode(raw);
    return g_strconcat(encoded, g_str_has_suffix(encoded, "/") ? "" : "/", NULL);
}

static void *
dav_open(const SxProviderEnv *env, GError **error)
{
    const SxSection *s = env->section;
    const char *url = sx_section_string(s, "url"), *flavour = sx_section_string(s, "flavour");
    SxDav *dav = g_new0(SxDav, 1);
    g_mutex_init(&dav->lock);
    dav->env = env;
    dav->name = g_strdup(env->name);
    SxNetConfig config = {.name = env->name, .base_url = url, .user = sx_section_string(s, "user"),
                          .auth = parse_auth(sx_section_string(s, "auth")), .secret = get_secret, .data = dav,
                          .ca_file = sx_section_string(s, "ca-file"), .timeout_ms = sx_section_int(s, "timeout")};
    dav->net = sx_net_new(&config, error);
    dav->url_path = dav->net == NULL ? NULL : folder_path(dav, url, error);
    if (dav->url_path == NULL) {
        dav_close(dav);
        return NULL;
    }
    const SxDavFlavour *f = sx_dav_flavour(flavour);
    dav->site = sx_dav_site_new(f != NULL ? f : sx_dav_flavour("generic"), dav->url_path);
    return dav;
}

SxDavSite *
sx_dav_site(SxDav *dav)
{
    g_mutex_lock(&dav->lock);
    SxDavSite *site = g_atomic_rc_box_acquire(dav->site);
    g_mutex_unlock(&dav->lock);
    return site;
}

const SxProviderType sx_provider_webdav = {
    .name = "webdav",
    .doc = "A WebDAV server: Nextcloud, ownCloud, Apache, nginx, rclone and others",
    .options = options,
    .caps = {.atomic_replace = true, .content_version = true, .server_move = true, .server_copy = true, .ranges = true,
             .mtime_precision_ns = 1000000000, .name_max = 255, .forbidden = ""},
    .open = dav_open,
    .close = dav_close,
    .probe = sx_dav_probe,
    .list = sx_dav_list,
    .stat = sx_dav_stat,
    .read = sx_dav_read,
    .write = sx_dav_write,
    .discard = sx_dav_discard,
    .mkdir = sx_dav_mkdir,
    .remove = sx_dav_remove,
    .move = sx_dav_move,
    .copy = sx_dav_copy,
    .set_attr = sx_dav_set_attr,
    .quota = sx_dav_quota,
};
