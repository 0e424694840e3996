#include "provider/provider.h"

#include <string.h>

struct SxRegistry {
    GPtrArray *types; /* of const SxProviderType; not owned */
    GPtrArray *names; /* the same order, NULL-terminated */
};

SxRegistry *
sx_registry_new(void)
{
    SxRegistry *r = g_new0(SxRegistry, 1);
    r->types = g_ptr_array_new();
    r->names = g_ptr_array_new();
    g_ptr_array_add(r->names, NULL);
    return r;
}

void
sx_registry_free(SxRegistry *r)
{
    if (r == NULL)
        return;
    g_ptr_array_unref(r->types);
    g_ptr_array_unref(r->names);
    g_free(r);
}

void
sx_registry_add(SxRegistry *r, const SxProviderType *type)
{
    g_return_if_fail(sx_registry_find(r, type->name) == NULL);
    g_ptr_array_add(r->types, (gpointer)type);
    g_ptr_array_insert(r->names, (gint)r->names->len - 1, (gpointer)type->name);
}

const SxProviderType *
sx_registry_find(const SxRegistry *r, const char *name)
{
    for (guint i = 0; i < r->types->len; i++) {
        const SxProviderType *type = g_ptr_array_index(r->types, i);
        if (strcmp(type->name, name) == 0)
            return type;
    }
    return NULL;
}

const SxOption *
sx_registry_options(const char *type, void *registry)
{
    static const SxOption none[] = {{0}};
    const SxProviderType *t = sx_registry_find(registry, type);
    if (t == NULL)
        return NULL;
    return t->options != NULL ? t->options : none;
}

const char *const *
sx_registry_names(const SxRegistry *r)
{
    return (const char *const *)r->names->pdata;
}
