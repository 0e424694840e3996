/* The table of commands and the table of their options. */
#include "cli/cli.h"

#include <string.h>

static const SxCliOption options[] = {
    {"json", 0, G_OPTION_ARG_NONE, G_STRUCT_OFFSET(SxCliOptions, json), NULL, "print the answer as JSON"},
    {"mount", 0, G_OPTION_ARG_FILENAME, G_STRUCT_OFFSET(SxCliOptions, mount), "DIR", "the mount to speak to"},
    {"watch", 'w', G_OPTION_ARG_NONE, G_STRUCT_OFFSET(SxCliOptions, watch), NULL, "show it again and again until interrupted"},
    {"follow", 'f', G_OPTION_ARG_NONE, G_STRUCT_OFFSET(SxCliOptions, follow), NULL, "go on with new ones until interrupted"},
    {"timeout", 't', G_OPTION_ARG_STRING, G_STRUCT_OFFSET(SxCliOptions, timeout), "S", "give up after so long (seconds, or 5m, 1h)"},
    {"accept", 0, G_OPTION_ARG_NONE, G_STRUCT_OFFSET(SxCliOptions, accept), NULL, "also accept deletions that are held back because they are many"},
    {"force", 0, G_OPTION_ARG_NONE, G_STRUCT_OFFSET(SxCliOptions, force), NULL, "even while programs use it"},
    {"wait", 0, G_OPTION_ARG_NONE, G_STRUCT_OFFSET(SxCliOptions, wait), NULL, "wait until everything is downloaded (always so on a terminal)"},
};

static const SxCommand commands[] = {
    {"status", "[PATH]", 0, 1, SX_ARG_PATH, "", false, "the whole mount, or the state of one file or directory",
     "Without PATH: the mount, each provider with what waits for it, the cache, what went wrong with the reason, "
     "and what waits for providers that are configured no more. "
     "With PATH: what user.syncox.status says, where it is on the provider, and why it could not be uploaded.",
     sx_cmd_status},
    {"transfers", "", 0, 0, SX_ARG_NONE, "watch", false, "what is going up and down now, and what comes next", NULL, sx_cmd_transfers},
    {"flush", "[PATH]", 0, 1, SX_ARG_PATH, "timeout", false, "wait until everything there is on the providers",
     "Also tries again what was given up. Fails when something cannot be uploaded, when a provider refuses the login, or when "
     "the time is over; "
     "nothing is lost then, it is only not uploaded yet.",
     sx_cmd_flush},
    {"pin", "PATH", 1, 1, SX_ARG_PATH, "wait", false, "keep a file or directory offline",
     "What is in it, now and later, is downloaded and never evicted. The same as setting user.syncox.pin.", sx_cmd_pin},
    {"unpin", "PATH", 1, 1, SX_ARG_PATH, "", false, "let it be evicted again when the cache needs room", NULL, sx_cmd_unpin},
    {"evict", "PATH", 1, 1, SX_ARG_PATH, "", false, "free the space it takes in the cache",
     "The file stays and is downloaded again when it is read. What is pinned, open or not uploaded yet is kept.", sx_cmd_evict},
    {"refresh", "[PATH]", 0, 1, SX_ARG_PATH, "accept", false, "look for changes on the provider now", NULL, sx_cmd_refresh},
    {"conflicts", "", 0, 0, SX_ARG_NONE, "", false, "conflict copies that still exist",
     "A file that was changed here and elsewhere is kept twice. Compare the two, keep what you want, delete or rename the copy.",
     sx_cmd_conflicts},
    {"provider list", "", 0, 0, SX_ARG_NONE, "", false, "the providers and their state", NULL, sx_cmd_provider_list},
    {"provider test", "[NAME]", 0, 1, SX_ARG_PROVIDER, "", false, "contact a provider (or all), log in, say what happened",
     "A provider that was paused because it refused the password or the certificate is tried again.", sx_cmd_provider_test},
    {"events", "", 0, 0, SX_ARG_NONE, "follow", false, "what happened: uploads, conflicts, errors",
     "Since the mount began; events.jsonl in the state directory has what was before.", sx_cmd_events},
    {"doctor", "", 0, 0, SX_ARG_NONE, "", true, "find out what is wrong, with remedies",
     "Works without a running mount too. Fails when one of the checks fails.", sx_cmd_doctor},
    {"umount", "", 0, 0, SX_ARG_NONE, "force", false, "end the mount",
     "Changes that are not uploaded yet are kept and go out at the next mount; to wait for them: syncox flush before.", sx_cmd_umount},
};

const SxCommand *
sx_commands(guint *ret_n)
{
    *ret_n = G_N_ELEMENTS(commands);
    return commands;
}

const SxCliOption *
sx_cli_options(guint *ret_n)
{
    *ret_n = G_N_ELEMENTS(options);
    return options;
}

bool
sx_command_takes(const SxCommand *command, const SxCliOption *option)
{
    if (strcmp(option->name, "json") == 0 || strcmp(option->name, "mount") == 0)
        return true;
    g_auto(GStrv) names = g_strsplit(command->options, " ", -1);
    return g_strv_contains((const char *const *)names, option->name);
}

char *
sx_command_family(const char *word)
{
    g_autofree char *start = g_strconcat(word, " ", NULL);
    GString *names = g_string_new(NULL);
    for (guint i = 0; i < G_N_ELEMENTS(commands); i++)
        if (g_str_has_prefix(commands[i].name, start))
            g_string_append_printf(names, "%s%s", names->len > 0 ? ", " : "", commands[i].name);
    return g_string_free(names, names->len == 0);
}

const SxCommand *
sx_command_find(char **words, guint *ret_used)
{
    for (guint i = 0; words[0] != NULL && i < G_N_ELEMENTS(commands); i++) {
        g_auto(GStrv) parts = g_strsplit(commands[i].name, " ", 2);
        *ret_used = g_strv_length(parts);
        if (strcmp(parts[0], words[0]) == 0 && (parts[1] == NULL || g_strcmp0(parts[1], words[1]) == 0))
            return &commands[i];
    }
    return NULL;
}
