/* The ini file: read, checked, frozen.
 *
 * Syntax: [section] or [section NAME]; key = value; a line that begins with ; or # is a comment, and so is the rest of a
 * line behind blank + ';'. A value may be put in double quotes to keep blanks, ';' and '"' (as \", and \ as \\). Keys are lower case.
 * Unknown sections and keys, values of the wrong type, and a key or section that occurs twice stop the reading with
 * "FILE:LINE: what is wrong, what is allowed". A file that holds a password and is readable by group or others is refused.
 * A frozen SxConf is immutable and may be read from any thread. */
#pragma once

#include "base/clock.h"
#include "base/error.h"
#include "base/units.h"

typedef enum SxOptionType {
    SX_OPT_STRING, SX_OPT_BOOL, SX_OPT_SIZE, SX_OPT_DURATION, SX_OPT_RATE, SX_OPT_INT, SX_OPT_PATH, /* ~ expanded */
    SX_OPT_URL,    /* http or https with a host, and no password in it */
    SX_OPT_MODE,   /* permission bits in octal; read with sx_section_int */
    SX_OPT_ENUM,   /* one of `allowed`, separated by blanks */
    SX_OPT_SECRET, /* never shown; its presence makes the permission check */
} SxOptionType;

/* One row describes a key: from it come the check, the sample file, syncoxfs.conf(5) and `--help`. */
typedef struct SxOption {
    const char *key;
    SxOptionType type;
    const char *def;      /* default as text; NULL: none */
    const char *allowed;  /* SX_OPT_ENUM: the words; SX_OPT_INT, _SIZE, _DURATION: "MIN MAX", or NULL for any */
    bool required;
    const char *doc;      /* a sentence or two for sample and man page */
} SxOption; /* arrays end with a row whose key is NULL */

/* Rows for the table of a type that logs in: what sx_secret_for_section() reads, worded the same everywhere. */
#define SX_OPTIONS_LOGIN                                                                                                \
    {.key = "user", .type = SX_OPT_STRING, .doc = "The name to log in with."},                                          \
    {.key = "password", .type = SX_OPT_SECRET,                                                                          \
     .doc = "The password itself (the file must then be readable by you only), or the word keyring."},                 \
    {.key = "password-command", .type = SX_OPT_STRING,                                                                  \
     .doc = "A command whose first line of output is the password; run without a shell."},                             \
    {.key = "password-file", .type = SX_OPT_PATH,                                                                       \
     .doc = "A file, readable by you only, whose first line is the password."}

typedef struct SxConf SxConf;
typedef struct SxSection SxSection;

/* What a provider type adds to [provider NAME] beside the common keys; returns NULL for an unknown type. Handed in, so
 * that conf/ needs no knowledge of the plug-ins. */
typedef const SxOption *(*SxTypeOptionsFn)(const char *type, void *data);

/* A file that does not exist: SX_ERR_NOT_FOUND; anything wrong in it: SX_ERR_CONFIG. */
SxConf *sx_conf_load(const char *file, SxTypeOptionsFn types, void *data, GError **error);
/* The same from memory; `name` stands for FILE in messages; a password is accepted without a permission check. */
SxConf *sx_conf_parse(const char *text, gsize len, const char *name, SxTypeOptionsFn types, void *data, GError **error);
const char *sx_conf_embedded_default(void); /* text: one local provider `Files` in ~/Files */
char *sx_conf_default_path(void);           /* $XDG_CONFIG_HOME/syncoxfs/syncoxfs.conf */
void sx_conf_free(SxConf *conf);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SxConf, sx_conf_free)

const SxSection *sx_conf_global(const SxConf *conf); /* [syncoxfs], with defaults filled in */
guint sx_conf_n_providers(const SxConf *conf);       /* in the file's order */
const SxSection *sx_conf_provider(const SxConf *conf, guint i);

const char *sx_section_name(const SxSection *s);     /* NAME of [provider NAME]; "" for [syncoxfs] */
const char *sx_section_where(const SxSection *s);    /* "FILE:LINE" of the section's head, for messages */
/* Typed reads. The key must be in the section's option table with that type (asserted). */
const char *sx_section_string(const SxSection *s, const char *key); /* also PATH URL ENUM SECRET RATE; NULL when unset */
bool sx_section_bool(const SxSection *s, const char *key);
gint64 sx_section_int(const SxSection *s, const char *key);         /* INT MODE; SIZE in bytes; DURATION in ms */
/* Written in the file, not a default. The one read that may ask for a key which the section's table does not have. */
bool sx_section_is_set(const SxSection *s, const char *key);

extern const SxOption sx_options_global[];   /* [syncoxfs] */
/* upload-threads and download-threads of a provider are those of [syncoxfs] when unset; `name` is the section's. */
extern const SxOption sx_options_provider[]; /* every [provider NAME]: type name read-only poll timeout bandwidth-up/-down upload-threads ... */
/* The commented sample, or with man=true the tables for the man page in mdoc, made from the option tables. */
char *sx_conf_sample(SxTypeOptionsFn types, const char *const *type_names, void *data, bool man);
