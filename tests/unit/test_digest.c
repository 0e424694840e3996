#include "crypto/digest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

/* Published vectors (RFC 1321, FIPS 180), and what xxhsum -H128 prints. */
static const struct {
    const char *kind, *text, *hash;
} vectors[] = {
    {"md5", "", "md5:d41d8cd98f00b204e9800998ecf8427e"},
    {"md5", "abc", "md5:900150983cd24fb0d6963f7d28e17f72"},
    {"sha1", "", "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709"},
    {"sha1", "abc", "sha1:a9993e364706816aba3e25717850c26c9cd0d89d"},
    {"sha256", "", "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"sha256", "abc", "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"xxh128", "", "xxh128:99aa06d3014798d86001c324468d497f"},
    {"xxh128", "abc", "xxh128:06b05ab6733a618578af5f94892f3950"},
};

static void
known_vectors(void **state)
{
    for (guint i = 0; i < G_N_ELEMENTS(vectors); i++) {
        g_autoptr(SxDigest) d = sx_digest_new(vectors[i].kind);
        sx_digest_update(d, vectors[i].text, strlen(vectors[i].text));
        g_autofree char *hash = sx_digest_finish(d);
        assert_string_equal(hash, vectors[i].hash);
    }
}

static void
pieces_give_the_same_as_the_whole(void **state)
{
    static const char *const kinds[] = {"md5", "sha1", "sha256", "xxh128"};
    char data[5000];
    for (gsize i = 0; i < sizeof data; i++)
        data[i] = (char)(i * 31 % 251);
    for (guint k = 0; k < G_N_ELEMENTS(kinds); k++) {
        g_autoptr(SxDigest) whole = sx_digest_new(kinds[k]);
        g_autoptr(SxDigest) pieces = sx_digest_new(kinds[k]);
        sx_digest_update(whole, data, sizeof data);
        for (gsize off = 0, n = 0; off < sizeof data; off += n, n = MIN(n * 2 + 1, sizeof data - off))
            sx_digest_update(pieces, data + off, n);
        g_autofree char *a = sx_digest_finish(whole);
        g_autofree char *b = sx_digest_finish(pieces);
        assert_string_equal(a, b);
    }
}

static void
unknown_kinds_and_unfinished_ones(void **state)
{
    assert_null(sx_digest_new("crc32"));
    assert_null(sx_digest_new(""));
    assert_null(sx_digest_new("SHA1"));
    assert_true(sx_digest_known("sha1"));
    assert_false(sx_digest_known("sha512"));
    sx_digest_free(sx_digest_new("sha1"));
    sx_digest_free(sx_digest_new("xxh128"));
    sx_digest_free(NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_vectors),
        cmocka_unit_test(pieces_give_the_same_as_the_whole),
        cmocka_unit_test(unknown_kinds_and_unfinished_ones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
