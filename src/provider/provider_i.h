/* What the files of provider/ share: the instance, and how a filter is put around one.
 *
 * A filter (limit.c, fault.c) is an instance like any other: its type is made at run time, with NULL where the inner type
 * has NULL, and its functions call the inner instance through sx_provider_*. So filters stack in any order. */
#pragma once

#include "provider/provider.h"

#define SX_REFUSED_PAUSE_MS 30000 /* after AUTH or TLS: calls fail at once for so long, so that no account gets locked */

struct SxProvider {
    gatomicrefcount ref;
    const SxProviderType *type;
    void *self;
    SxProvider *inner;      /* filters: what is wrapped (a ref); otherwise NULL */
    SxConf *own_conf;       /* open_text: the section's owner */
    SxProviderEnv env;
    char *name, *label, *state_dir;
    bool read_only;         /* by configuration */

    GMutex lock;            /* guards all below; held for moments only, never across a call of the plug-in */
    GCond probe_done;
    SxCaps caps;
    bool probing;           /* one thread is in type->probe */
    guint64 probe_flight;   /* counts the probes that ended */
    GError *probe_error;    /* of the last one that ended, or NULL */
    SxOnline online;
    GError *offline_error;  /* behind OFFLINE and REFUSED */
    gint64 refused_mono_ms;
    SxProviderStats stats;
};

/* A new instance around `inner` (takes a ref). `type` lives as long as `self`; type->close(self) is called at the end. */
SxProvider *sx_provider_wrap(SxProvider *inner, const SxProviderType *type, void *self);
/* *type gets the inner type's name and doc; every member of `layer` for which the inner instance has no function becomes NULL. */
void sx_provider_layer_type(const SxProvider *inner, const SxProviderType *layer, SxProviderType *type);

/* sx_provider_check_name without the rule for our own temporary names. */
bool sx_provider_check_bytes(SxProvider *p, const char *name, GError **error);
