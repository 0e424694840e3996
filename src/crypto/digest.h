/* Hashes of contents, fed piece by piece. One SxDigest belongs to one thread at a time. */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef struct SxDigest SxDigest;

/* kind: "sha1" "md5" "sha256" "xxh128". NULL for any other, and where the system's policy forbids that hash. */
SxDigest *sx_digest_new(const char *kind);
void sx_digest_update(SxDigest *d, const void *bytes, gsize n);
char *sx_digest_finish(SxDigest *d); /* "kind:hex" in lower case, as SxRemote.hash has it; once, and no update after it */
void sx_digest_free(SxDigest *d);
bool sx_digest_known(const char *kind);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxDigest, sx_digest_free)
