/* Private to providers/webdav.
 *
 * A server is known by its flavour: one row of a table of what it honours (flavours.c). What probe() found out is an
 * immutable SxDavSite; calls take a reference, so that a new probe can replace it at any time.
 *
 * How a file gets its content, by flavour:
 *   one PUT              Apache (stages and renames), nginx (likewise), Nextcloud and ownCloud (part file and rename)
 *   PUT into a hidden folder of the root, size check, MOVE   rclone and unknown servers, which write in place. Not beside
 *                        the target: rclone cannot list a directory while a file in it is being uploaded
 *   chunks               Nextcloud and ownCloud, above chunk-size (chunks.c); survives a restart
 * How a condition is kept: in the request itself where the flavour honours it; otherwise a PROPFIND just before.
 *   Apache: `If: (["etag"])`, because its If-Match never accepts the weak etags that it tells for a second after a change,
 *   while its If compares weakly. sabre/dav: If-Match. `If-None-Match: *` for both.
 * No server here checks and acts as one step against another writer, so SxCaps.conditional_write is never true: two PUTs
 * whose bodies are under way at the same time can both pass the check.
 *
 * Versions: the etag without W/ and quotes; where listings have none, "SIZE MTIME" (a blank cannot be in an etag). */
#pragma once

#include "net/net.h"
#include "provider/provider.h"

#include <gio/gio.h>

#define SX_DAV_TMP_DIR SX_TMP_PREFIX "uploads" /* in the root */
#define SX_DAV_MAX_ENTRIES 1000000           /* of one listing */
#define SX_DAV_MAX_DEPTH 32                  /* of XML elements */
#define SX_DAV_MAX_TEXT (16 * 1024)          /* bytes in one XML element that we read */
#define SX_DAV_MAX_CHUNKS 10000              /* Nextcloud's own limit */
#define SX_DAV_LEFTOVER_S (24 * 3600)        /* no upload takes so long without being tried again */
#define SX_DAV_SMALL (1024 * 1024)           /* below: conditions are looked at once, not before and after the body */
#define SX_DAV_CLEANUP_MS 5000               /* at most spent on removing what a failed call left */

typedef enum SxDavCondKind { SX_DAV_COND_NONE, SX_DAV_COND_IF, SX_DAV_COND_IF_MATCH } SxDavCondKind;

typedef struct SxDavFlavour {
    const char *name;      /* as in the option `flavour` */
    const char *label;     /* for people */
    SxDavCondKind cond;    /* how SX_IF_VERSION is told */
    bool if_none_match;    /* PUT with If-None-Match: * is honoured */
    bool staged_put;       /* a PUT that breaks leaves the old file, readers see old or new */
    bool mkcol_checks;     /* MKCOL of what exists fails */
    bool put_tells;        /* the answer to a PUT has the etag that listings will have */
    bool move_makes_parents; /* MOVE and COPY make directories that are missing */
    bool hides_dots;       /* listings lack names that begin with a dot: such names are refused */
    bool move_keeps;       /* MOVE keeps etag and time */
    bool oc;               /* Nextcloud and ownCloud: ids, checksums, times, chunks */
} SxDavFlavour;
const SxDavFlavour *sx_dav_flavour(const char *name); /* NULL for "auto" and unknown */

/* What a probe found out. Immutable. */
typedef struct SxDavSite {
    const SxDavFlavour *flavour;
    char *base;            /* path of the root on the server, percent-encoded, no slash at the end ("" possible) */
    char *base_raw;        /* the same decoded */
    char *uploads;         /* oc: path of the user's upload folder, or NULL: no chunks */
    gint64 chunk_size;
    bool etags;            /* listings have etags */
} SxDavSite;
SxDavSite *sx_dav_site_new(const SxDavFlavour *flavour, const char *base);
void sx_dav_site_unref(SxDavSite *site);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxDavSite, sx_dav_site_unref)

typedef struct SxDav {
    const SxProviderEnv *env;
    SxNet *net;
    char *name;
    char *url_path;        /* of the option url */
    GMutex lock;
    SxDavSite *site;       /* under lock; replaced by probe */
    gint tmp_dir_made;     /* atomic: SX_DAV_TMP_DIR has been made since the probe */
    gint http_destination; /* atomic: 1 when the server calls itself http although we speak https (a proxy does TLS) */
} SxDav;
SxDavSite *sx_dav_site(SxDav *dav);                    /* a reference */

/* ---- names.c ---- */
char *sx_dav_encode(const char *raw);                  /* any bytes; '/' stays */
/* NULL for a wrong escape or %00. */
char *sx_dav_decode(const char *encoded, gsize len);
/* The path to ask for; dir: with a slash at the end. */
char *sx_dav_path(const SxDavSite *site, const char *path, bool dir);
bool sx_dav_is_size_mtime(const char *version);        /* and no etag */
typedef enum SxDavHref { SX_DAV_HREF_SELF, SX_DAV_HREF_CHILD, SX_DAV_HREF_OTHER } SxDavHref;
/* What an href is to the directory with decoded server path dir_raw (no slash at the end). CHILD: *ret_name is its name, g_free. */
SxDavHref sx_dav_href(const char *href, const char *dir_raw, char **ret_name);

/* ---- xml.c ---- */
typedef struct SxDavEntry {
    char *href;
    int status;            /* of the whole response; 200 when only its properties have one */
    bool has_type, is_dir;
    gint64 size;           /* -1 */
    gint64 mtime_s, btime_ns; /* -1, SX_TIME_UNKNOWN */
    char *etag, *fileid, *checksums, *permissions, *executable;
    gint64 quota_free, quota_used; /* -1 */
} SxDavEntry;
/* Receives one response element. False and error: stop. */
typedef bool (*SxDavEntryFn)(void *data, const SxDavEntry *entry, GError **error);
typedef struct SxDavXml SxDavXml;
SxDavXml *sx_dav_xml_new(SxDavEntryFn fn, void *data);
void sx_dav_xml_free(SxDavXml *x);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxDavXml, sx_dav_xml_free)
bool sx_dav_xml_feed(SxDavXml *x, const void *buf, gsize n, GError **error); /* PROTOCOL */
bool sx_dav_xml_end(SxDavXml *x, GError **error);                            /* true: complete and well-formed */

/* ---- find.c ---- */
/* PROPFIND; fn gets every response. A 404 is NOT_FOUND. `props` is the text inside <prop>. */
typedef struct SxDavFind {
    const char *url_path, *what, *depth, *props;
    SxDavEntryFn fn;
    void *data;
} SxDavFind;
bool sx_dav_find(SxDav *dav, const SxDavFind *find, SxNetResponse *ret /* NULL possible */, GCancellable *cancel, GError **error);
const char *sx_dav_props(const SxDavSite *site);
char *sx_dav_version(const char *etag); /* normalised; "" for none, and for one that would break out of a header */
SxRemote *sx_dav_remote(const SxDavSite *site, const char *name, const SxDavEntry *entry);
bool sx_dav_list(void *self, const char *path, SxListFn fn, void *data, GCancellable *cancel, GError **error);
bool sx_dav_stat(void *self, const char *path, SxRemote **ret, GCancellable *cancel, GError **error);
bool sx_dav_quota(void *self, SxQuota *ret, GCancellable *cancel, GError **error);

/* ---- read.c ---- */
bool sx_dav_read(void *self, const char *path, const SxCond *cond, gint64 off, gint64 len, SxSinkFn sink, void *data,
                 GCancellable *cancel, GError **error);

/* ---- write.c ---- */
bool sx_dav_write(void *self, const char *path, const SxUpload *upload, SxRemote **ret, GCancellable *cancel, GError **error);
/* Removes what broken uploads left in SX_DAV_TMP_DIR a day ago or earlier, by the server's clock. Failures do not matter. */
void sx_dav_tidy(SxDav *dav, const SxDavSite *site, gint64 server_now_s, GCancellable *cancel);
/* Looks at the target of a change: fails with CHANGED or EXISTS when cond does not hold now, IS_DIR when it is a directory.
 * *ret_now (NULL possible): what is there, or NULL. */
bool sx_dav_check(SxDav *dav, const char *path, const SxCond *cond, SxRemote **ret_now, GCancellable *cancel, GError **error);
/* Does the server itself check this condition on PUT (or DELETE)? */
bool sx_dav_honours(const SxDavSite *site, const SxCond *cond);
bool sx_dav_cond_holds(const SxCond *cond, const SxRemote *now);
/* What an upload's answer tells. */
SxRemote *sx_dav_written(const SxDavSite *site, const char *path, const SxUpload *upload, const SxNetResponse *response);
/* The error of a PUT, MOVE or chunk that failed; looks at the target when the status alone does not tell. */
bool sx_dav_write_fail(SxDav *dav, const char *path, const SxCond *cond, const SxNetRequest *request,
                       const SxNetResponse *response, GCancellable *cancel, GError **error);
bool sx_dav_parent_missing(SxDav *dav, const char *path, GCancellable *cancel); /* certainly */
void sx_dav_add_cond(const SxDav *dav, const SxDavSite *site, const SxCond *cond, const char *tagged_path, GPtrArray *headers);
void sx_dav_add_oc(const SxDavSite *site, const SxUpload *upload, GPtrArray *headers);

/* ---- chunks.c ---- */
bool sx_dav_write_chunks(SxDav *dav, const SxDavSite *site, const char *path, const SxUpload *upload, SxRemote **ret,
                         GCancellable *cancel, GError **error);
void sx_dav_discard(void *self, const char *path, const char *resume);

/* ---- change.c ---- */
/* NAME: a name that this server would take but not list again. */
bool sx_dav_check_name(SxDav *dav, const SxDavSite *site, const char *path, GError **error);
bool sx_dav_mkdir(void *self, const char *path, SxRemote **ret, GCancellable *cancel, GError **error);
bool sx_dav_remove(void *self, const char *path, SxKind kind, const SxCond *cond, GCancellable *cancel, GError **error);
bool sx_dav_move(void *self, const char *from, const char *to, SxKind kind, GCancellable *cancel, GError **error);
bool sx_dav_copy(void *self, const char *from, const char *to, GCancellable *cancel, GError **error);
bool sx_dav_set_attr(void *self, const char *path, gint64 mtime_ns, int mode, SxRemote **ret, GCancellable *cancel, GError **error);
/* MOVE or COPY from one server path to another; *ret is the answer, of any status. extra: more headers, or NULL. */
typedef struct SxDavTransfer {
    const char *method, *from, *to, *what;
    bool overwrite;
    GPtrArray *extra;      /* of char* */
    gint64 timeout_ms;
} SxDavTransfer;
bool sx_dav_transfer(SxDav *dav, const SxDavTransfer *t, SxNetRequest *ret_request, SxNetResponse *ret, GCancellable *cancel,
                     GError **error);
void sx_dav_delete_quietly(SxDav *dav, const char *url_path);

/* ---- probe.c ---- */
bool sx_dav_probe(void *self, SxCaps *caps, GCancellable *cancel, GError **error);
