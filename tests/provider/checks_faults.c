/* The provider disturbed by the fault filter: what a caller that follows the contract (looks after LOST and TIMEOUT, tries
 * again after what is retried) ends with. */
#include "suite.h"

#include <errno.h>
#include <string.h>

#define FILES 6
#define WRITES 60
#define TRIES 200

static bool
may_fail_so(const GError *why)
{
    static const SxErrorCode codes[] = {SX_ERR_OFFLINE, SX_ERR_SERVER, SX_ERR_TIMEOUT, SX_ERR_LOST, SX_ERR_CANCELLED, SX_ERR_FAILED};
    for (gsize i = 0; i < G_N_ELEMENTS(codes); i++)
        if (sx_error_is(why, codes[i]))
            return true;
    return false;
}

/* NULL: certainly absent. */
static SxRemote *
look_until_known(SxTarget *t, const char *path)
{
    for (int i = 0; i < TRIES; i++) {
        g_autoptr(GError) why = NULL;
        SxRemote *r = NULL;
        if (sx_provider_stat(t->p, path, &r, NULL, &why))
            return r;
        if (sx_error_is(why, SX_ERR_NOT_FOUND))
            return NULL;
        if (!may_fail_so(why))
            fail_msg("stat of %s: %s", path, why->message);
    }
    fail_msg("%s: never an answer", path);
    return NULL;
}

/* Writes on the version that is known, until it is certain that these bytes are there. Sizes tell the versions apart. */
static void
write_until_done(SxTarget *t, const char *path, guint seed, gint64 size)
{
    for (int i = 0; i < TRIES; i++) {
        g_autoptr(SxRemote) now = look_until_known(t, path), told = NULL;
        if (now != NULL && now->size == size)
            return;
        SxTestSource s = {.seed = seed, .size = size};
        SxUpload u = sx_test_upload(&s, now == NULL ? sx_test_absent() : sx_test_version(now));
        g_autoptr(GError) why = NULL;
        if (sx_provider_write(t->p, path, &u, &told, NULL, &why))
            return;
        if (!may_fail_so(why))
            fail_msg("write of %s: %s", path, why->message);
    }
    fail_msg("%s: never written", path);
}


static bool
see(void *data, const SxRemote *entry)
{
    g_hash_table_add(data, g_strdup(entry->name));
    return true;
}

static void
nothing_is_lost(SxTarget *t, const char *dir)
{
    guint seeds[FILES] = {0};
    gint64 sizes[FILES] = {0};
    t->plan->seed = g_str_hash(dir);
    t->plan->per_mille_error = 60;
    t->plan->per_mille_lost = 60;
    t->plan->per_mille_cut = 60;
    for (guint i = 0; i < WRITES; i++) {
        guint f = (i * 5 + i / FILES) % FILES;
        g_autofree char *name = g_strdup_printf("file %u", f);
        g_autofree char *path = IN(dir, name);
        seeds[f] = i + 1;
        sizes[f] = 1000 + i;
        write_until_done(t, path, seeds[f], sizes[f]);
    }
    /* A listing that fails may give entries, one that succeeds gives all. */
    int complete = 0;
    for (int i = 0; i < 60; i++) {
        g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        g_autoptr(GError) why = NULL;
        if (sx_provider_list(t->p, dir, see, seen, NULL, &why)) {
            complete++;
            assert_int_equal(g_hash_table_size(seen), FILES);
        } else if (!may_fail_so(why)) {
            fail_msg("list of %s: %s", dir, why->message);
        }
    }
    assert_true(complete > 0);
    t->plan->per_mille_error = t->plan->per_mille_lost = t->plan->per_mille_cut = 0;
    for (guint f = 0; f < FILES; f++) {
        g_autofree char *name = g_strdup_printf("file %u", f);
        g_autofree char *path = IN(dir, name);
        sx_test_same(t, path, seeds[f], sizes[f]);
    }
}

static void
offline_and_back(SxTarget *t, const char *dir)
{
    g_autofree char *path = IN(dir, "f");
    g_autoptr(SxRemote) f = sx_test_put(t, path, 1, 100), r = NULL;
    SxCond any = sx_test_any();
    sx_fault_set_offline(t->plan, true);
    FAILS(SX_ERR_OFFLINE, sx_provider_stat(t->p, path, &r, NULL, error));
    FAILS(SX_ERR_OFFLINE, sx_provider_remove(t->p, path, SX_KIND_FILE, &any, NULL, error));
    assert_int_equal(sx_provider_online(t->p), SX_OFFLINE);
    sx_fault_set_offline(t->plan, false);
    sx_test_same(t, path, 1, 100);
    assert_int_equal(sx_provider_online(t->p), SX_ONLINE);
}

const SxCheck sx_checks_faults[] = {
    {"nothing_is_lost", nothing_is_lost},
    {"offline_and_back", offline_and_back},
    {0},
};
