/* Reading documents and showing them, shared by the commands. */
#pragma once

#include "cli/cli.h"

const char *sx_text(const json_t *doc, const char *key);   /* "" when absent */
gint64 sx_number(const json_t *doc, const char *key);
char *sx_size_of(const json_t *doc, const char *key);      /* a number as "1.5 MiB"; g_free */
char *sx_path_of(const json_t *doc, const char *key);      /* raw bytes, "" when absent; g_free */
/* As JSON or by fn; takes doc. NULL: SX_EXIT_FAILED. */
int sx_show(SxCli *cli, json_t *doc, void (*fn)(SxOutput *out, const json_t *doc));
