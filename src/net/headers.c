#include "net/net.h"

#include <curl/curl.h>
#include <string.h>

struct SxHeaders {
    GHashTable *values; /* lower-case name to value */
    gsize bytes;
    guint lines;
};

SxHeaders *
sx_headers_new(void)
{
    SxHeaders *h = g_new0(SxHeaders, 1);
    h->values = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    return h;
}

void
sx_headers_free(SxHeaders *h)
{
    if (h == NULL)
        return;
    g_hash_table_unref(h->values);
    g_free(h);
}

void
sx_headers_reset(SxHeaders *h)
{
    g_hash_table_remove_all(h->values);
    h->bytes = 0;
    h->lines = 0;
}

static bool
is_token(const char *s, gsize n)
{
    for (gsize i = 0; i < n; i++)
        if (!g_ascii_isgraph(s[i]))
            return false;
    return n > 0;
}

bool
sx_headers_line(SxHeaders *h, const char *line, gsize len, GError **error)
{
    if (len >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        sx_headers_reset(h);
        return true;
    }
    h->bytes += len;
    if (h->bytes > SX_NET_MAX_HEADER_BYTES || ++h->lines > SX_NET_MAX_HEADERS)
        return sx_fail(error, SX_ERR_PROTOCOL, "the answer's head is larger than %d headers or %d bytes",
                       SX_NET_MAX_HEADERS, SX_NET_MAX_HEADER_BYTES);
    const char *colon = memchr(line, ':', len);
    if (colon == NULL || !is_token(line, (gsize)(colon - line)) || memchr(line, 0, len) != NULL)
        return true;
    g_autofree char *name = g_ascii_strdown(line, colon - line);
    g_autofree char *value = g_strstrip(g_strndup(colon + 1, len - (gsize)(colon + 1 - line)));
    const char *before = g_hash_table_lookup(h->values, name);
    char *joined = before != NULL ? g_strconcat(before, ", ", value, NULL) : g_steal_pointer(&value);
    g_hash_table_insert(h->values, g_steal_pointer(&name), joined);
    return true;
}

const char *
sx_headers_get(const SxHeaders *h, const char *name)
{
    g_autofree char *lower = g_ascii_strdown(name, -1);
    return g_hash_table_lookup(h->values, lower);
}

/* A decimal number without sign or blanks that ends at one of `ends`; *end is left there. */
static bool
number(const char **s, const char *ends, gint64 *ret)
{
    char *end = NULL;
    if (!g_ascii_isdigit(**s))
        return false;
    guint64 v = g_ascii_strtoull(*s, &end, 10);
    if (v >= G_MAXINT64 || (*end != 0 && strchr(ends, *end) == NULL) || (*end == 0 && *ends != 0))
        return false;
    *s = end;
    *ret = (gint64)v;
    return true;
}

gint64
sx_headers_length(const SxHeaders *h)
{
    const char *s = sx_headers_get(h, "content-length");
    gint64 v;
    return s != NULL && number(&s, "", &v) && *s == 0 ? v : -1;
}

bool
sx_headers_range(const SxHeaders *h, gint64 *ret_first, gint64 *ret_last, gint64 *ret_total)
{
    const char *s = sx_headers_get(h, "content-range");
    gint64 first = -1, last = -1, total = -1;
    if (s == NULL || g_ascii_strncasecmp(s, "bytes ", 6) != 0)
        return false;
    s += 6;
    if (*s == '*') {
        if (*++s != '/')
            return false;
    } else {
        if (!number(&s, "-", &first))
            return false;
        s++;
        if (!number(&s, "/", &last) || last < first)
            return false;
    }
    s++;
    if (strcmp(s, "*") != 0 && (!number(&s, "", &total) || *s != 0))
        return false;
    if (total >= 0 && last >= total)
        return false;
    *ret_first = first;
    *ret_last = last;
    *ret_total = total;
    return true;
}

gint64
sx_http_date_s(const char *text)
{
    time_t t = curl_getdate(text, NULL);
    return t < 0 ? -1 : (gint64)t;
}

gint64
sx_headers_date_s(const SxHeaders *h, const char *name)
{
    const char *s = sx_headers_get(h, name);
    return s == NULL ? -1 : sx_http_date_s(s);
}

gint64
sx_headers_retry_after_ms(const SxHeaders *h)
{
    const char *s = sx_headers_get(h, "retry-after");
    gint64 seconds = 0;
    if (s == NULL)
        return 0;
    if (!number(&s, "", &seconds)) {
        gint64 until = sx_http_date_s(s), now = sx_headers_date_s(h, "date");
        seconds = until >= 0 && now >= 0 ? until - now : 0;
    }
    return CLAMP(seconds, 0, SX_NET_RETRY_AFTER_MAX_MS / 1000) * 1000;
}
