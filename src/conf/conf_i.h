/* Between the files of conf/: the lines of an ini file, and one option's value. */
#pragma once

#include "conf/conf.h"

#define SX_INI_FILE_MAX (1024 * 1024) /* bytes of the whole file */
#define SX_INI_LINE_MAX 8192          /* bytes of one line */

/* One line that says something: a section's head (section is set, name may be NULL) or a key with its value. */
typedef struct SxIniItem {
    guint line; /* from 1 */
    char *section, *name;
    char *key, *value;
} SxIniItem;

/* All items in the file's order (of SxIniItem, freed and wiped with the array), or NULL with "FILE:LINE: ...". */
GPtrArray *sx_ini_parse(const char *text, gsize len, const char *file, GError **error);

const SxOption *sx_option_find(const SxOption *table, const char *key); /* table may be NULL */
/* Checks a value. *ret_text: the value as it is read later (paths expanded); *ret_number: of bools and everything
 * numeric. The error names neither file nor key, and never shows a secret. */
bool sx_option_parse(const SxOption *option, const char *value, char **ret_text, gint64 *ret_number, GError **error);
const char *sx_option_placeholder(const SxOption *option); /* "SIZE", "yes|no" */
/* The word of `words` (ended by NULL) that was probably meant, or NULL when none is near. */
const char *sx_option_closest(const char *const *words, const char *typed);
