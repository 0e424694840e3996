/* syncox: the command line. A command is one row of the table in commands.c; help, completions and the man page's list are
 * made from it (generate.c). Commands speak to the daemon only through the control socket (client.h). */
#pragma once

#include "cli/client.h"
#include "cli/output.h"

enum { SX_EXIT_DONE = 0, SX_EXIT_FAILED = 1, SX_EXIT_USAGE = 2 };

/* All options of all commands; each command names the ones it takes. */
typedef struct SxCliOptions {
    gboolean json, watch, follow, force, accept, wait;
    char *mount;
    char *timeout;
} SxCliOptions;

typedef struct SxCommand SxCommand;
typedef struct SxCli {
    const SxCommand *command;
    SxCliOptions options;
    char **args;            /* positional, NULL-terminated, never NULL */
    SxClient *client;
    SxOutput *out;
} SxCli;

typedef enum SxArgKind { SX_ARG_NONE, SX_ARG_PATH, SX_ARG_PROVIDER } SxArgKind;

struct SxCommand {
    const char *name;       /* one word, or two: "provider test" */
    const char *args;       /* as in help: "[PATH]" */
    guint min_args, max_args;
    SxArgKind arg;          /* for completion, and to find the mount by the first argument */
    const char *options;    /* long names from the table of options, separated by blanks; json and mount all have */
    bool without_mount;     /* runs without a daemon */
    const char *doc;        /* one line */
    const char *details;    /* sentences for --help and the man page; NULL */
    int (*run)(SxCli *cli, GError **error); /* exit status; with error set it is printed */
};

typedef struct SxCliOption {
    const char *name;
    char letter;            /* 0: none */
    GOptionArg type;
    gsize offset;           /* into SxCliOptions */
    const char *value;      /* placeholder, NULL for flags */
    const char *doc;
} SxCliOption;

const SxCommand *sx_commands(guint *ret_n);
const SxCliOption *sx_cli_options(guint *ret_n);
bool sx_command_takes(const SxCommand *command, const SxCliOption *option);
char *sx_command_family(const char *word); /* "provider list, provider test": commands that begin with this word; NULL: none */
const SxCommand *sx_command_find(char **words, guint *ret_used); /* NULL: no such command */

/* generate.c */
bool sx_generate(const char *what, GString *out, GError **error); /* "bash-completion" "zsh-completion" "fish-completion" "man" */
void sx_help(GString *out);

/* What an argument means to the daemon: an absolute path with links resolved except the last; relative ones outside the mount are
 * taken from the mount's root. g_free. */
char *sx_cli_path(const char *arg);
json_t *sx_cli_path_body(const SxCli *cli, guint n); /* {"path": args[n]}; an empty object when it was not given */

/* Commands. */
int sx_cmd_status(SxCli *cli, GError **error);
int sx_cmd_transfers(SxCli *cli, GError **error);
int sx_cmd_flush(SxCli *cli, GError **error);
int sx_cmd_pin(SxCli *cli, GError **error);
int sx_cmd_unpin(SxCli *cli, GError **error);
int sx_cmd_evict(SxCli *cli, GError **error);
int sx_cmd_refresh(SxCli *cli, GError **error);
int sx_cmd_conflicts(SxCli *cli, GError **error);
int sx_cmd_provider_list(SxCli *cli, GError **error);
int sx_cmd_provider_test(SxCli *cli, GError **error);
int sx_cmd_events(SxCli *cli, GError **error);
int sx_cmd_doctor(SxCli *cli, GError **error);
int sx_cmd_umount(SxCli *cli, GError **error);
