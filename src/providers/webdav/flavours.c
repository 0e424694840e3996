#include "providers/webdav/webdav_i.h"

#include <string.h>

/* Measured with the real servers (tests/provider), but for Nextcloud and ownCloud, which follow sabre/dav's rules. */
static const SxDavFlavour flavours[] = {
    {.name = "apache", .label = "Apache mod_dav", .cond = SX_DAV_COND_IF, .if_none_match = true, .staged_put = true, .mkcol_checks = true},
    {.name = "nginx", .label = "nginx", .staged_put = true, .mkcol_checks = true, .move_makes_parents = true,
     .hides_dots = true},
    {.name = "rclone", .label = "rclone serve webdav", .move_keeps = true},
    {.name = "nextcloud", .label = "Nextcloud", .cond = SX_DAV_COND_IF_MATCH, .if_none_match = true, .staged_put = true,
     .mkcol_checks = true, .put_tells = true, .oc = true},
    {.name = "owncloud", .label = "ownCloud", .cond = SX_DAV_COND_IF_MATCH, .if_none_match = true, .staged_put = true,
     .mkcol_checks = true, .put_tells = true, .oc = true},
    {.name = "generic", .label = "unknown WebDAV server"},
};

const SxDavFlavour *
sx_dav_flavour(const char *name)
{
    for (gsize i = 0; i < G_N_ELEMENTS(flavours); i++)
        if (strcmp(flavours[i].name, name) == 0)
            return &flavours[i];
    return NULL;
}

SxDavSite *
sx_dav_site_new(const SxDavFlavour *flavour, const char *base)
{
    SxDavSite *site = g_atomic_rc_box_new0(SxDavSite);
    gsize len = strlen(base);
    while (len > 0 && base[len - 1] == '/')
        len--;
    site->flavour = flavour;
    char *raw = sx_dav_decode(base, len);
    site->base_raw = raw != NULL ? raw : g_strndup(base, len);
    site->base = sx_dav_encode(site->base_raw);
    site->etags = true;
    return site;
}

static void
site_clear(void *data)
{
    SxDavSite *site = data;
    g_free(site->base);
    g_free(site->base_raw);
    g_free(site->uploads);
}

void
sx_dav_site_unref(SxDavSite *site)
{
    if (site != NULL)
        g_atomic_rc_box_release_full(site, site_clear);
}
