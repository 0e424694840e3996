#include "provider/provider.h"

SxRemote *
sx_remote_new(const char *name, SxKind kind)
{
    SxRemote *r = g_new0(SxRemote, 1);
    r->name = g_strdup(name);
    r->kind = kind;
    r->size = kind == SX_KIND_DIR ? 0 : -1;
    r->mtime_ns = SX_TIME_UNKNOWN;
    r->btime_ns = SX_TIME_UNKNOWN;
    r->mode = -1;
    r->version = g_strdup("");
    return r;
}

SxRemote *
sx_remote_copy(const SxRemote *r)
{
    if (r == NULL)
        return NULL;
    SxRemote *c = g_new(SxRemote, 1);
    *c = *r;
    c->name = g_strdup(r->name);
    c->id = g_strdup(r->id);
    c->version = g_strdup(r->version != NULL ? r->version : "");
    c->hash = g_strdup(r->hash);
    c->target = g_strdup(r->target);
    return c;
}

void
sx_remote_free(SxRemote *r)
{
    if (r == NULL)
        return;
    g_free(r->name);
    g_free(r->id);
    g_free(r->version);
    g_free(r->hash);
    g_free(r->target);
    g_free(r);
}
