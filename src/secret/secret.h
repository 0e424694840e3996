/* Passwords and tokens: a type that is never printed and is wiped when freed, and where they come from. */
#pragma once

#include "conf/conf.h"

typedef struct SxSecret SxSecret; /* reference counted; thread-safe */
SxSecret *sx_secret_new(const char *text);
SxSecret *sx_secret_ref(SxSecret *s);
void sx_secret_unref(SxSecret *s);             /* the last one wipes with explicit_bzero */
const char *sx_secret_peek(const SxSecret *s); /* for handing to a library only; never log it */
bool sx_secret_equal(const SxSecret *a, const SxSecret *b); /* constant time */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxSecret, sx_secret_unref)

/* The password of a provider section: `password` (literal, or `keyring` for libsecret), `password-command` (first line of
 * its output; run without a shell by g_shell_parse_argv, 30 s limit) or `password-file` (first line; refused when readable
 * by others). Returns true with *ret = NULL when none of them is set. May block: call from worker threads.
 * Every failure is SX_ERR_AUTH, a missing file too: the provider is paused and says why; it is not a file of his that is missing. */
bool sx_secret_for_section(const SxSection *section, SxSecret **ret, GError **error);
