/* Multistatus answers, parsed while they arrive. A response element is handed out when its end tag came; properties count
 * only within a propstat of status 200. DTDs, and with them all entities of the server's own, are refused. */
#include "providers/webdav/webdav_i.h"

#include <expat.h>
#include <string.h>

typedef enum Element {
    E_OTHER, E_MULTISTATUS, E_RESPONSE, E_HREF, E_STATUS, E_PROPSTAT, E_PROP, E_TYPE, E_COLLECTION, E_LENGTH, E_MODIFIED,
    E_CREATED, E_ETAG, E_QUOTA_FREE, E_QUOTA_USED, E_FILEID, E_CHECKSUMS, E_CHECKSUM, E_PERMISSIONS, E_EXECUTABLE, N_ELEMENTS
} Element;

#define OC "http://owncloud.org/ns|"
static const struct {
    const char *name;
    Element parent;
    bool text;
} elements[N_ELEMENTS] = {
    [E_MULTISTATUS] = {"DAV:|multistatus", E_OTHER, false},
    [E_RESPONSE] = {"DAV:|response", E_MULTISTATUS, false},
    [E_HREF] = {"DAV:|href", E_RESPONSE, true},
    [E_STATUS] = {"DAV:|status", E_OTHER /* response or propstat */, true},
    [E_PROPSTAT] = {"DAV:|propstat", E_RESPONSE, false},
    [E_PROP] = {"DAV:|prop", E_PROPSTAT, false},
    [E_TYPE] = {"DAV:|resourcetype", E_PROP, false},
    [E_COLLECTION] = {"DAV:|collection", E_TYPE, false},
    [E_LENGTH] = {"DAV:|getcontentlength", E_PROP, true},
    [E_MODIFIED] = {"DAV:|getlastmodified", E_PROP, true},
    [E_CREATED] = {"DAV:|creationdate", E_PROP, true},
    [E_ETAG] = {"DAV:|getetag", E_PROP, true},
    [E_QUOTA_FREE] = {"DAV:|quota-available-bytes", E_PROP, true},
    [E_QUOTA_USED] = {"DAV:|quota-used-bytes", E_PROP, true},
    [E_FILEID] = {OC "fileid", E_PROP, true},
    [E_CHECKSUMS] = {OC "checksums", E_PROP, false},
    [E_CHECKSUM] = {OC "checksum", E_CHECKSUMS, true},
    [E_PERMISSIONS] = {OC "permissions", E_PROP, true},
    [E_EXECUTABLE] = {"http://apache.org/dav/props/|executable", E_PROP, true},
};

struct SxDavXml {
    XML_Parser parser;
    SxDavEntryFn fn;
    void *data;
    GError *error;
    Element stack[SX_DAV_MAX_DEPTH];
    guint depth;
    GString *text;        /* of the innermost element that we read */
    SxDavEntry entry;     /* the response so far */
    SxDavEntry props;     /* the propstat so far */
    int propstat_status;
    guint entries;
};

static void
entry_clear(SxDavEntry *e)
{
    g_free(e->href);
    g_free(e->etag);
    g_free(e->fileid);
    g_free(e->checksums);
    g_free(e->permissions);
    g_free(e->executable);
    *e = (SxDavEntry){.status = 200, .size = -1, .mtime_s = -1, .btime_ns = SX_TIME_UNKNOWN, .quota_free = -1, .quota_used = -1};
}

static void
stop(SxDavXml *x, const char *why)
{
    if (x->error == NULL)
        x->error = sx_error_new(SX_ERR_PROTOCOL, "the server's XML is refused: %s", why);
    XML_StopParser(x->parser, XML_FALSE);
}

static void XMLCALL
on_start(void *data, const XML_Char *name, const XML_Char **attributes)
{
    SxDavXml *x = data;
    if (x->depth == SX_DAV_MAX_DEPTH) {
        stop(x, "elements are nested too deeply");
        return;
    }
    Element parent = x->depth == 0 ? E_OTHER : x->stack[x->depth - 1], e = E_OTHER;
    for (int i = E_OTHER + 1; i < N_ELEMENTS && e == E_OTHER; i++)
        if (strcmp(name, elements[i].name) == 0)
            e = (Element)i;
    bool fits = e == E_STATUS        ? parent == E_RESPONSE || parent == E_PROPSTAT
                : e == E_MULTISTATUS ? x->depth == 0
                                     : parent == elements[e].parent;
    if (x->depth == 0 && e != E_MULTISTATUS) {
        stop(x, "it is not a multistatus");
        return;
    }
    e = fits ? e : E_OTHER;
    x->stack[x->depth++] = e;
    g_string_truncate(x->text, 0);
    if (e == E_RESPONSE)
        entry_clear(&x->entry);
    if (e == E_PROPSTAT) {
        entry_clear(&x->props);
        x->propstat_status = 0;
    }
    if (e == E_TYPE)
        x->props.has_type = true;
    if (e == E_COLLECTION)
        x->props.is_dir = true;
}

static void XMLCALL
on_text(void *data, const XML_Char *s, int len)
{
    SxDavXml *x = data;
    if (x->depth == 0 || !elements[x->stack[x->depth - 1]].text)
        return;
    if (x->text->len + (gsize)len > SX_DAV_MAX_TEXT)
        stop(x, "a text is too long");
    else
        g_string_append_len(x->text, s, len);
}

/* A size that makes no sense is unknown. */
static gint64
parse_size(const char *s)
{
    guint64 v;
    return g_ascii_string_to_unsigned(s, 10, 0, G_MAXINT64, &v, NULL) ? (gint64)v : -1;
}

static gint64
parse_created(const char *s)
{
    g_autoptr(GTimeZone) utc = g_time_zone_new_utc();
    g_autoptr(GDateTime) t = g_date_time_new_from_iso8601(s, utc);
    if (t == NULL || ABS(g_date_time_to_unix(t)) > G_MAXINT64 / G_GINT64_CONSTANT(1000000001))
        return SX_TIME_UNKNOWN;
    return g_date_time_to_unix(t) * G_GINT64_CONSTANT(1000000000);
}

/* "HTTP/1.1 200 OK" */
static int
parse_status(const char *s)
{
    const char *blank = strchr(s, ' ');
    return blank == NULL ? 0 : (int)CLAMP(g_ascii_strtoll(blank + 1, NULL, 10), 0, 999);
}

static void
take(char **field, const char *text)
{
    g_free(*field);
    *field = g_strdup(text);
}

/* Properties of a good propstat join what earlier ones of the same response told. */
static void
merge(SxDavEntry *to, SxDavEntry *from)
{
    char **texts[][2] = {{&to->etag, &from->etag}, {&to->fileid, &from->fileid}, {&to->checksums, &from->checksums},
                         {&to->permissions, &from->permissions}, {&to->executable, &from->executable}};
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++)
        if (*texts[i][1] != NULL) {
            g_free(*texts[i][0]);
            *texts[i][0] = g_steal_pointer(texts[i][1]);
        }
    to->has_type |= from->has_type;
    to->is_dir |= from->is_dir;
    to->size = from->size >= 0 ? from->size : to->size;
    to->mtime_s = from->mtime_s >= 0 ? from->mtime_s : to->mtime_s;
    to->btime_ns = from->btime_ns != SX_TIME_UNKNOWN ? from->btime_ns : to->btime_ns;
    to->quota_free = from->quota_free >= 0 ? from->quota_free : to->quota_free;
    to->quota_used = from->quota_used >= 0 ? from->quota_used : to->quota_used;
}

static void
end_response(SxDavXml *x)
{
    if (x->entry.href == NULL)
        stop(x, "a response has no href");
    else if (++x->entries > SX_DAV_MAX_ENTRIES)
        stop(x, "the listing has too many entries");
    else if (!x->fn(x->data, &x->entry, &x->error))
        XML_StopParser(x->parser, XML_FALSE);
}

static void
end_property(SxDavEntry *p, Element e, const char *text)
{
    switch (e) {
    case E_LENGTH: p->size = parse_size(text); break;
    case E_MODIFIED: p->mtime_s = sx_http_date_s(text); break;
    case E_CREATED: p->btime_ns = parse_created(text); break;
    case E_ETAG: take(&p->etag, text); break;
    case E_QUOTA_FREE: p->quota_free = parse_size(text); break;
    case E_QUOTA_USED: p->quota_used = parse_size(text); break;
    case E_FILEID: take(&p->fileid, text); break;
    case E_CHECKSUM: take(&p->checksums, text); break;
    case E_PERMISSIONS: take(&p->permissions, text); break;
    case E_EXECUTABLE: take(&p->executable, text); break;
    default: break;
    }
}

static void XMLCALL
on_end(void *data, const XML_Char *name)
{
    SxDavXml *x = data;
    if (x->error != NULL || x->depth == 0) /* expat ends an empty element even after it was stopped in its start */
        return;
    Element e = x->stack[--x->depth];
    char *text = elements[e].text ? g_strstrip(x->text->str) : x->text->str;
    if (e == E_RESPONSE)
        end_response(x);
    else if (e == E_PROPSTAT && x->propstat_status == 200)
        merge(&x->entry, &x->props);
    else if (e == E_STATUS && x->depth > 0 && x->stack[x->depth - 1] == E_PROPSTAT)
        x->propstat_status = parse_status(text);
    else if (e == E_STATUS)
        x->entry.status = parse_status(text);
    else if (e == E_HREF)
        take(&x->entry.href, text);
    else
        end_property(&x->props, e, text);
    g_string_truncate(x->text, 0);
}

static void XMLCALL
on_doctype(void *data, const XML_Char *name, const XML_Char *system_id, const XML_Char *public_id, int internal)
{
    stop(data, "it has a document type, as web pages and entity bombs have");
}

SxDavXml *
sx_dav_xml_new(SxDavEntryFn fn, void *data)
{
    SxDavXml *x = g_new0(SxDavXml, 1);
    x->parser = XML_ParserCreateNS(NULL, '|');
    x->fn = fn;
    x->data = data;
    x->text = g_string_new(NULL);
    entry_clear(&x->entry);
    entry_clear(&x->props);
    XML_SetUserData(x->parser, x);
    XML_SetElementHandler(x->parser, on_start, on_end);
    XML_SetCharacterDataHandler(x->parser, on_text);
    XML_SetStartDoctypeDeclHandler(x->parser, on_doctype);
    return x;
}

void
sx_dav_xml_free(SxDavXml *x)
{
    if (x == NULL)
        return;
    XML_ParserFree(x->parser);
    g_string_free(x->text, TRUE);
    entry_clear(&x->entry);
    entry_clear(&x->props);
    g_clear_error(&x->error);
    g_free(x);
}

static bool
parse(SxDavXml *x, const void *buf, int n, bool final, GError **error)
{
    if (x->error == NULL && XML_Parse(x->parser, buf, n, final) == XML_STATUS_OK)
        return true;
    if (x->error == NULL)
        x->error = sx_error_new(SX_ERR_PROTOCOL, "the server's XML is broken at line %lu: %s",
                                (unsigned long)XML_GetCurrentLineNumber(x->parser),
                                XML_ErrorString(XML_GetErrorCode(x->parser)));
    g_propagate_error(error, g_error_copy(x->error));
    return false;
}

bool
sx_dav_xml_feed(SxDavXml *x, const void *buf, gsize n, GError **error)
{
    const char *s = buf;
    while (n > 0) {
        int piece = (int)MIN(n, 1 << 20);
        if (!parse(x, s, piece, false, error))
            return false;
        s += piece;
        n -= (gsize)piece;
    }
    return true;
}

bool
sx_dav_xml_end(SxDavXml *x, GError **error)
{
    return parse(x, "", 0, true, error);
}
