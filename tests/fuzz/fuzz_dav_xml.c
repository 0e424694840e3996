/* A PROPFIND answer: either a complete, well-formed multistatus, or a PROTOCOL error; every name that an href gives fits where
 * it is said to be; and the pieces in which it arrives make no difference. */
#include "base/path.h"
#include "providers/webdav/webdav_i.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
see(void *data, const SxDavEntry *e, GError **error)
{
    guint *count = data;
    g_autofree char *name = NULL;
    g_assert(e->href != NULL && e->size >= -1 && e->mtime_s >= -1);
    SxDavHref is = sx_dav_href(e->href, "/dav", &name);
    g_assert((is == SX_DAV_HREF_CHILD) == (name != NULL));
    g_autofree char *version = sx_dav_version(e->etag);
    g_assert(version != NULL);
    (*count)++;
    return true;
}

static bool
parse(const uint8_t *data, size_t size, size_t piece, guint *ret_count)
{
    g_autoptr(GError) e = NULL;
    g_autoptr(SxDavXml) x = sx_dav_xml_new(see, ret_count);
    bool ok = true;
    for (size_t i = 0; i < size && ok; i += piece)
        ok = sx_dav_xml_feed(x, data + i, MIN(piece, size - i), &e);
    ok = ok && sx_dav_xml_end(x, &e);
    g_assert(ok == (e == NULL));
    g_assert(ok || sx_error_is(e, SX_ERR_PROTOCOL));
    return ok;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    guint whole = 0, pieces = 0;
    bool a = parse(data, size, MAX(size, 1), &whole), b = parse(data, size, 7, &pieces);
    g_assert(a == b && (!a || whole == pieces));
    return 0;
}
