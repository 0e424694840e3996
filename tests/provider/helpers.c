#include "suite.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

guint8
sx_test_byte(guint seed, gint64 i)
{
    guint64 x = ((guint64)i / 8 + 1) * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15) + seed * G_GUINT64_CONSTANT(0xbf58476d1ce4e5b9);
    x ^= x >> 29;
    return (guint8)(x >> (i % 8 * 8));
}

static gssize
read_pattern(void *data, gint64 off, void *buf, gsize n)
{
    SxTestSource *s = data;
    if (s->hook != NULL)
        s->hook(s->data, off);
    if (s->fail_errno != 0 && off + (gint64)n > s->fail_at) {
        if (off >= s->fail_at)
            return -s->fail_errno;
        n = (gsize)(s->fail_at - off);
    }
    n = (gsize)MIN((gint64)n, MAX(s->size - off, 0));
    for (gsize i = 0; i < n; i++)
        ((guint8 *)buf)[i] = sx_test_byte(s->seed, off + (gint64)i);
    s->sent += (gint64)n;
    return (gssize)n;
}

SxUpload
sx_test_upload(SxTestSource *source, SxCond cond)
{
    return (SxUpload){.source = {.size = source->size, .read = read_pattern, .fd = -1, .data = source},
                      .cond = cond, .mtime_ns = SX_TIME_UNKNOWN, .mode = -1};
}

SxCond
sx_test_any(void)
{
    return (SxCond){.kind = SX_IF_ANY, .size = -1, .mtime_ns = SX_TIME_UNKNOWN};
}

SxCond
sx_test_absent(void)
{
    return (SxCond){.kind = SX_IF_ABSENT, .size = -1, .mtime_ns = SX_TIME_UNKNOWN};
}

SxCond
sx_test_version(const SxRemote *r)
{
    return (SxCond){.kind = SX_IF_VERSION, .version = r->version, .size = r->size, .mtime_ns = r->mtime_ns};
}

void
sx_test_ok(bool ok, GError **error, const char *what)
{
    if (!ok)
        fail_msg("%s: %s (%s)", what, *error != NULL ? (*error)->message : "no error", sx_error_code_name(sx_error_code(*error)));
    if (*error != NULL)
        fail_msg("%s: returned true with an error", what);
}

void
sx_test_fails(bool ok, GError **error, SxErrorCode code, const char *what)
{
    if (ok)
        fail_msg("%s: works, but ought to fail with %s", what, sx_error_code_name(code));
    if (*error == NULL)
        fail_msg("%s: fails without an error", what);
    if (!sx_error_is(*error, code))
        fail_msg("%s: ought to fail with %s, but: %s (%s)", what, sx_error_code_name(code), (*error)->message,
                 sx_error_code_name(sx_error_code(*error)));
    g_clear_error(error);
}

SxRemote *
sx_test_stat(SxTarget *t, const char *path)
{
    SxRemote *r = NULL;
    OK(sx_provider_stat(t->p, path, &r, NULL, error));
    return r;
}

SxRemote *
sx_test_put(SxTarget *t, const char *path, guint seed, gint64 size)
{
    SxTestSource s = {.seed = seed, .size = size};
    SxUpload u = sx_test_upload(&s, sx_test_any());
    g_autoptr(SxRemote) r = NULL;
    OK(sx_provider_write(t->p, path, &u, &r, NULL, error));
    return sx_test_stat(t, path);
}

typedef struct Compare {
    guint seed;
    gint64 next;
    bool wrong;
} Compare;

static int
compare(void *data, gint64 off, const void *buf, gsize n)
{
    Compare *c = data;
    c->wrong |= off != c->next;
    for (gsize i = 0; i < n && !c->wrong; i++)
        c->wrong = ((const guint8 *)buf)[i] != sx_test_byte(c->seed, off + (gint64)i);
    c->next = off + (gint64)n;
    return 0;
}

void
sx_test_same(SxTarget *t, const char *path, guint seed, gint64 size)
{
    Compare c = {.seed = seed};
    SxCond any = sx_test_any();
    OK(sx_provider_read(t->p, path, &any, 0, -1, compare, &c, NULL, error));
    if (c.wrong || c.next != size)
        fail_msg("%s: other content than expected (%" G_GINT64_FORMAT " bytes)", path, c.next);
}

void
sx_test_absent_now(SxTarget *t, const char *path)
{
    g_autoptr(SxRemote) r = NULL;
    FAILS(SX_ERR_NOT_FOUND, sx_provider_stat(t->p, path, &r, NULL, error));
}

static bool
collect(void *data, const SxRemote *entry)
{
    g_hash_table_insert(data, g_strdup(entry->name), sx_remote_copy(entry));
    return true;
}

GHashTable *
sx_test_list(SxTarget *t, const char *path)
{
    GHashTable *names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify)sx_remote_free);
    OK(sx_provider_list(t->p, path, collect, names, NULL, error));
    return names;
}
