/* Paths inside a provider: raw bytes, components joined by '/', no leading or trailing slash, "" is the root. */
#pragma once

#include <glib.h>
#include <stdbool.h>

#define SX_NAME_MAX 255 /* bytes in one component, as Linux has it */

/* A component that may enter the tree: 1..255 bytes, no '/', no NUL, not "." or "..". Used on everything a server sends. */
bool sx_name_valid(const char *name, gsize len);
char *sx_path_join(const char *dir, const char *name);
char *sx_path_dirname(const char *path);           /* "a/b" -> "a", "a" -> "" */
const char *sx_path_basename(const char *path);    /* points into path */
/* "NAME (conflict WHO YYYY-MM-DD HH.MM.SS).EXT", cut in the stem at a UTF-8 boundary so that it fits SX_NAME_MAX;
 * n > 0 adds " n" before the closing parenthesis, to make it unique. */
char *sx_conflict_name(const char *name, const char *who, gint64 real_ns, unsigned n);
bool sx_is_conflict_name(const char *name);
/* Editor and office temporary and lock files that stay local: ~$x, .~lock.x#, *.tmp, .#x, *.crdownload, *.part, 4913, .x.swp */
bool sx_name_is_temporary(const char *name);
