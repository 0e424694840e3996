#include "crypto/digest.h"

#include <openssl/evp.h>
#include <string.h>
#include <xxhash.h>

/* Exactly one of evp and xxh is set. */
struct SxDigest {
    const char *kind;
    EVP_MD_CTX *evp;
    XXH3_state_t *xxh;
    bool finished;
};

static const struct {
    const char *kind;
    const EVP_MD *(*evp)(void); /* NULL: xxHash's 128 bits */
} kinds[] = {{"sha1", EVP_sha1}, {"md5", EVP_md5}, {"sha256", EVP_sha256}, {"xxh128", NULL}};

static int
kind_index(const char *kind)
{
    for (guint i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (strcmp(kinds[i].kind, kind) == 0)
            return (int)i;
    return -1;
}

bool
sx_digest_known(const char *kind)
{
    return kind_index(kind) >= 0;
}

SxDigest *
sx_digest_new(const char *kind)
{
    int i = kind_index(kind);
    if (i < 0)
        return NULL;
    g_autoptr(SxDigest) d = g_new0(SxDigest, 1);
    d->kind = kinds[i].kind;
    bool good;
    if (kinds[i].evp != NULL) {
        d->evp = EVP_MD_CTX_new();
        good = d->evp != NULL && EVP_DigestInit_ex(d->evp, kinds[i].evp(), NULL) == 1;
    } else {
        d->xxh = XXH3_createState();
        good = d->xxh != NULL && XXH3_128bits_reset(d->xxh) == XXH_OK;
    }
    return good ? g_steal_pointer(&d) : NULL;
}

void
sx_digest_update(SxDigest *d, const void *bytes, gsize n)
{
    g_assert(!d->finished);
    if (n == 0)
        return;
    bool good = d->evp != NULL ? EVP_DigestUpdate(d->evp, bytes, n) == 1 : XXH3_128bits_update(d->xxh, bytes, n) == XXH_OK;
    g_assert(good); /* neither library fails once a state has been made */
}

char *
sx_digest_finish(SxDigest *d)
{
    g_assert(!d->finished);
    d->finished = true;
    guchar raw[EVP_MAX_MD_SIZE];
    unsigned n = sizeof(XXH128_canonical_t);
    if (d->evp != NULL) {
        int good = EVP_DigestFinal_ex(d->evp, raw, &n);
        g_assert(good == 1);
    } else {
        XXH128_canonical_t canonical; /* big endian, as xxhsum prints it */
        XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(d->xxh));
        memcpy(raw, &canonical, n);
    }
    GString *out = g_string_new(d->kind);
    g_string_append_c(out, ':');
    for (unsigned i = 0; i < n; i++)
        g_string_append_printf(out, "%02x", raw[i]);
    return g_string_free(out, FALSE);
}

void
sx_digest_free(SxDigest *d)
{
    if (d == NULL)
        return;
    EVP_MD_CTX_free(d->evp);
    XXH3_freeState(d->xxh);
    g_free(d);
}
