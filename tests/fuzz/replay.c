/* main() for a fuzz target without libFuzzer: replays tests/fuzz/corpus/NAME, where the program is called replay_NAME, or the
 * files given. Every file is also fed cut short, because ends are where parsers break. */
#include <dirent.h>
#include <glib.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CUT_MAX 512 /* bytes; longer inputs are cut at these lengths only */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An allocation of exactly n bytes, so that a sanitizer sees a read behind the end. */
static void
feed(const char *bytes, size_t n)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);
    g_assert(copy != NULL);
    memcpy(copy, bytes, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static void
replay(const char *file)
{
    g_autoptr(GError) e = NULL;
    g_autofree char *bytes = NULL;
    gsize n;
    if (!g_file_get_contents(file, &bytes, &n, &e)) {
        fprintf(stderr, "%s\n", e->message);
        exit(1);
    }
    printf("%s\n", file);
    fflush(stdout); /* when it crashes, the last line tells on what */
    feed(bytes, n);
    for (size_t cut = 0; cut < n && cut <= CUT_MAX; cut++)
        feed(bytes, cut);
}

static int
replay_corpus(const char *program)
{
    const char *name = strstr(program, "replay_");
    const char *top = g_getenv("top_srcdir");
    if (name == NULL || top == NULL) {
        fprintf(stderr, "usage: %s FILE..., or top_srcdir=... replay_NAME\n", program);
        return 2;
    }
    g_autofree char *path = g_build_filename(top, "tests/fuzz/corpus", name + strlen("replay_"), NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    int n = 0;
    for (const char *f; dir != NULL && (f = g_dir_read_name(dir)) != NULL; n++) {
        g_autofree char *file = g_build_filename(path, f, NULL);
        replay(file);
    }
    if (n == 0)
        fprintf(stderr, "%s: no corpus\n", path);
    return n > 0 ? 0 : 1;
}

int
main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        replay(argv[i]);
    if (argc > 1)
        return 0;
    g_autofree char *program = g_path_get_basename(argv[0]);
    return replay_corpus(program);
}
