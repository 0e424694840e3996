/* An instance's life: open, probe (once, shared by all who wait for it), capabilities, online state, names. */
#include "provider/provider_i.h"

#include "base/log.h"
#include "base/path.h"

#include <string.h>

static void
wake(GCancellable *cancel, gpointer data)
{
    SxWaker *w = data;
    g_mutex_lock(w->lock);
    g_cond_broadcast(w->cond);
    g_mutex_unlock(w->lock);
}

void
sx_waker_init(SxWaker *w, GMutex *lock, GCond *cond, GCancellable *cancel)
{
    *w = (SxWaker){.lock = lock, .cond = cond, .cancel = cancel};
    if (cancel != NULL)
        w->id = g_cancellable_connect(cancel, G_CALLBACK(wake), w, NULL);
}

void
sx_waker_clear(SxWaker *w)
{
    if (w->id != 0)
        g_cancellable_disconnect(w->cancel, w->id);
    w->id = 0;
}

bool
sx_fail_cancelled(GError **error)
{
    return sx_fail(error, SX_ERR_CANCELLED, "cancelled");
}

static SxProvider *
instance_new(const SxProviderType *type, const char *name)
{
    SxProvider *p = g_new0(SxProvider, 1);
    g_atomic_ref_count_init(&p->ref);
    g_mutex_init(&p->lock);
    g_cond_init(&p->probe_done);
    p->type = type;
    p->name = g_strdup(name);
    p->caps = type->caps;
    return p;
}

static bool
instance_open(SxProvider *p, GError **error)
{
    const SxSection *section = p->env.section;
    const char *label = sx_section_string(section, "name");
    p->label = g_strdup(label != NULL && *label != '\0' ? label : p->name);
    p->read_only = sx_section_bool(section, "read-only");
    if (!sx_name_valid(p->label, strlen(p->label)))
        return sx_fail(error, SX_ERR_CONFIG, "%s: name = %s cannot be the name of a directory", sx_section_where(section),
                       p->label);
    p->env.name = p->label;
    p->self = p->type->open(&p->env, error);
    if (p->self == NULL)
        g_prefix_error(error, "%s: ", sx_section_where(section));
    return p->self != NULL;
}

/* The limits that the section sets; without them the filter only stands by for the process's bandwidth. */
static SxProvider *
limited(SxProvider *inner, GError **error)
{
    const SxSection *s = inner->env.section;
    g_autoptr(SxBandwidth) own = sx_bandwidth_new(sx_section_string(s, "bandwidth-up"), sx_section_string(s, "bandwidth-down"),
                                                  inner->env.clock, error);
    if (own == NULL)
        return NULL;
    gint64 calls = 0;
    if (sx_section_is_set(s, "upload-threads") && sx_section_is_set(s, "download-threads"))
        calls = sx_section_int(s, "upload-threads") + sx_section_int(s, "download-threads");
    return sx_limit_wrap(inner, own, NULL, (unsigned)calls);
}

static SxProvider *
open_section(const SxProviderType *type, const SxSection *section, SxConf *own_conf, const char *state_dir,
             const SxSys *sys, const SxClock *clock, GError **error)
{
    g_autoptr(SxProvider) p = instance_new(type, sx_section_name(section));
    p->own_conf = own_conf;
    p->state_dir = g_strdup(state_dir);
    p->env = (SxProviderEnv){.section = section, .state_dir = p->state_dir, .sys = sys, .clock = clock};
    return instance_open(p, error) ? limited(p, error) : NULL;
}

SxProvider *
sx_provider_open(const SxRegistry *registry, const SxSection *section, const char *state_dir, const SxSys *sys,
                 const SxClock *clock, GError **error)
{
    const char *name = sx_section_string(section, "type");
    const SxProviderType *type = name != NULL ? sx_registry_find(registry, name) : NULL;
    if (type == NULL) {
        sx_fail(error, SX_ERR_CONFIG, "%s: type = %s is not known", sx_section_where(section), name != NULL ? name : "");
        return NULL;
    }
    return open_section(type, section, NULL, state_dir, sys, clock, error);
}

SxProvider *
sx_provider_open_text(const SxProviderType *type, const char *name, const char *options, const SxSys *sys,
                      const SxClock *clock, GError **error)
{
    g_autoptr(SxRegistry) registry = sx_registry_new();
    sx_registry_add(registry, type);
    g_autofree char *text = g_strdup_printf("[provider %s]\ntype = %s\n%s\n", name, type->name, options);
    g_autoptr(SxConf) conf = sx_conf_parse(text, strlen(text), name, sx_registry_options, registry, error);
    if (conf == NULL)
        return NULL;
    if (sx_conf_n_providers(conf) != 1) {
        sx_fail(error, SX_ERR_CONFIG, "%s: the options hold another section", name);
        return NULL;
    }
    const SxSection *section = sx_conf_provider(conf, 0);
    return open_section(type, section, g_steal_pointer(&conf), NULL, sys, clock, error);
}

SxProvider *
sx_provider_wrap(SxProvider *inner, const SxProviderType *type, void *self)
{
    SxProvider *p = instance_new(type, inner->name);
    p->inner = sx_provider_ref(inner);
    p->label = g_strdup(inner->label);
    p->read_only = inner->read_only;
    p->env = inner->env;
    p->self = self;
    sx_provider_caps(inner, &p->caps);
    p->caps.probed = false;
    return p;
}

void
sx_provider_layer_type(const SxProvider *inner, const SxProviderType *layer, SxProviderType *type)
{
    const SxProviderType *in = inner->type;
    *type = *layer;
    type->name = in->name;
    type->doc = in->doc;
    type->options = in->options;
    type->caps = in->caps;
#define KEEP_IF(member) type->member = in->member != NULL ? layer->member : NULL
    KEEP_IF(list);
    KEEP_IF(stat);
    KEEP_IF(read);
    KEEP_IF(write);
    KEEP_IF(discard);
    KEEP_IF(mkdir);
    KEEP_IF(symlink);
    KEEP_IF(remove);
    KEEP_IF(move);
    KEEP_IF(copy);
    KEEP_IF(set_attr);
    KEEP_IF(watch);
    KEEP_IF(watch_dir);
    KEEP_IF(quota);
    KEEP_IF(lend_fd);
#undef KEEP_IF
}

SxProvider *
sx_provider_ref(SxProvider *p)
{
    g_atomic_ref_count_inc(&p->ref);
    return p;
}

void
sx_provider_unref(SxProvider *p)
{
    if (p == NULL || !g_atomic_ref_count_dec(&p->ref))
        return;
    if (p->self != NULL)
        p->type->close(p->self);
    sx_provider_unref(p->inner);
    sx_conf_free(p->own_conf);
    g_clear_error(&p->probe_error);
    g_clear_error(&p->offline_error);
    g_mutex_clear(&p->lock);
    g_cond_clear(&p->probe_done);
    g_free(p->name);
    g_free(p->label);
    g_free(p->state_dir);
    g_free(p);
}

const char *
sx_provider_name(const SxProvider *p)
{
    return p->name;
}
const char *
sx_provider_label(const SxProvider *p)
{
    return p->label;
}
const char *
sx_provider_type_name(const SxProvider *p)
{
    return p->type->name;
}
const SxSection *
sx_provider_section(const SxProvider *p)
{
    return p->env.section;
}

void
sx_provider_caps(SxProvider *p, SxCaps *ret_caps)
{
    g_mutex_lock(&p->lock);
    *ret_caps = p->caps;
    g_mutex_unlock(&p->lock);
    ret_caps->read_only |= p->read_only;
}

/* The functions that a type may have but one server of its kind may lack. */
static bool
caps_allow(const SxCaps *caps, gsize member)
{
    const struct {
        gsize member;
        bool can;
    } rows[] = {
        {G_STRUCT_OFFSET(SxProviderType, move), caps->server_move},
        {G_STRUCT_OFFSET(SxProviderType, copy), caps->server_copy},
        {G_STRUCT_OFFSET(SxProviderType, symlink), caps->symlinks},
        {G_STRUCT_OFFSET(SxProviderType, watch), caps->watch},
        {G_STRUCT_OFFSET(SxProviderType, set_attr), caps->set_mtime || caps->set_mode},
        {G_STRUCT_OFFSET(SxProviderType, lend_fd), caps->lend_fd},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        if (rows[i].member == member)
            return rows[i].can;
    return true;
}

bool
sx_provider_can(SxProvider *p, gsize member_offset)
{
    const void *fn = *(void *const *)((const char *)p->type + member_offset);
    if (fn == NULL)
        return false;
    SxCaps caps;
    sx_provider_caps(p, &caps);
    return caps_allow(&caps, member_offset);
}

SxOnline
sx_provider_online(SxProvider *p)
{
    g_mutex_lock(&p->lock);
    SxOnline o = p->online;
    g_mutex_unlock(&p->lock);
    return o;
}

char *
sx_provider_last_error(SxProvider *p)
{
    g_mutex_lock(&p->lock);
    char *text = p->offline_error != NULL ? g_strdup(p->offline_error->message) : NULL;
    g_mutex_unlock(&p->lock);
    return text;
}

void
sx_provider_stats(SxProvider *p, SxProviderStats *ret)
{
    g_mutex_lock(&p->lock);
    *ret = p->stats;
    g_mutex_unlock(&p->lock);
}

bool
sx_provider_check_name(SxProvider *p, const char *name, GError **error)
{
    if (g_str_has_prefix(name, SX_TMP_PREFIX))
        return sx_fail(error, SX_ERR_NAME, "%s: %s: names that begin with %s are used by the program itself", p->label,
                       name, SX_TMP_PREFIX);
    return sx_provider_check_bytes(p, name, error);
}

bool
sx_provider_check_bytes(SxProvider *p, const char *name, GError **error)
{
    SxCaps caps;
    sx_provider_caps(p, &caps);
    gsize len = strlen(name), max = caps.name_max > 0 ? MIN(caps.name_max, SX_NAME_MAX) : SX_NAME_MAX;
    if (len > max)
        return sx_fail(error, SX_ERR_NAME_TOO_LONG, "%s: %s: the name has %" G_GSIZE_FORMAT " bytes, at most %" G_GSIZE_FORMAT " fit",
                       p->label, name, len, max);
    if (!sx_name_valid(name, len))
        return sx_fail(error, SX_ERR_NAME, "%s: \"%s\" is not a name", p->label, name);
    const char *bad = caps.forbidden != NULL ? strpbrk(name, caps.forbidden) : NULL;
    if (bad != NULL && (guchar)*bad >= 0x20)
        return sx_fail(error, SX_ERR_NAME, "%s: %s: the character %c is not allowed there", p->label, name, *bad);
    if (bad != NULL)
        return sx_fail(error, SX_ERR_NAME, "%s: %s: the byte 0x%02x is not allowed there", p->label, name, (guchar)*bad);
    return true;
}
