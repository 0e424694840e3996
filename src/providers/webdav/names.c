#include "providers/webdav/webdav_i.h"

#include <string.h>

char *
sx_dav_encode(const char *raw)
{
    static const char hex[] = "0123456789ABCDEF";
    GString *out = g_string_sized_new(strlen(raw) + 16);
    for (const guchar *s = (const guchar *)raw; *s != 0; s++) {
        if (g_ascii_isalnum(*s) || strchr("-._~/", *s) != NULL)
            g_string_append_c(out, (char)*s);
        else
            g_string_append_printf(out, "%%%c%c", hex[*s >> 4], hex[*s & 15]);
    }
    return g_string_free(out, FALSE);
}

char *
sx_dav_decode(const char *encoded, gsize len)
{
    GString *out = g_string_sized_new(len);
    for (gsize i = 0; i < len; i++) {
        int c = (guchar)encoded[i];
        if (c == '%') {
            int high = i + 2 < len ? g_ascii_xdigit_value(encoded[i + 1]) : -1;
            int low = i + 2 < len ? g_ascii_xdigit_value(encoded[i + 2]) : -1;
            c = high < 0 || low < 0 ? 0 : high * 16 + low;
            i += 2;
        }
        if (c == 0) {
            g_string_free(out, TRUE);
            return NULL;
        }
        g_string_append_c(out, (char)c);
    }
    return g_string_free(out, FALSE);
}

char *
sx_dav_path(const SxDavSite *site, const char *path, bool dir)
{
    g_autofree char *encoded = sx_dav_encode(path);
    if (*path == 0)
        return g_strconcat(site->base, "/", NULL);
    return g_strconcat(site->base, "/", encoded, dir ? "/" : "", NULL);
}

/* The path of an absolute URL or of an absolute path. */
static const char *
href_path(const char *href)
{
    const char *scheme = strstr(href, "://");
    if (*href == '/' || scheme == NULL)
        return href;
    const char *slash = strchr(scheme + 3, '/');
    return slash != NULL ? slash : "/";
}

SxDavHref
sx_dav_href(const char *href, const char *dir_raw, char **ret_name)
{
    const char *path = href_path(href);
    gsize len = strlen(path), dir_len = strlen(dir_raw);
    while (len > 0 && path[len - 1] == '/')
        len--;
    g_autofree char *whole = sx_dav_decode(path, len);
    if (whole != NULL && strcmp(whole, dir_raw) == 0)
        return SX_DAV_HREF_SELF;
    /* The last component is cut off before it is decoded: an escaped slash in it must not pass for a separator. */
    gsize cut = len;
    while (cut > 0 && path[cut - 1] != '/')
        cut--;
    gsize parent_len = cut > 0 ? cut - 1 : 0;
    g_autofree char *parent = sx_dav_decode(path, parent_len);
    char *name = sx_dav_decode(path + cut, len - cut);
    if (parent == NULL || name == NULL || strlen(parent) != dir_len || strcmp(parent, dir_raw) != 0) {
        g_free(name);
        return SX_DAV_HREF_OTHER;
    }
    *ret_name = name;
    return SX_DAV_HREF_CHILD;
}

/* "SIZE MTIME", as sx_dav_remote makes it where listings have no etag. */
bool
sx_dav_is_size_mtime(const char *version)
{
    gsize size = strspn(version, "0123456789"), rest = strlen(version);
    return size > 0 && version[size] == ' ' && size + 1 < rest && strspn(version + size + 1, "0123456789") == rest - size - 1;
}
