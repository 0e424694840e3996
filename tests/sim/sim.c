/* The whole engine on one thread: a fake clock, the `mem` provider behind the `fault` filter, an executor whose tasks a
 * seeded random picks, a user who works in tree and cache, and another client who edits the storage.
 *
 * It may crash at every call of the provider and between any two steps: the store is killed, everything in memory is thrown
 * away, and the same files are opened again. At the end, with faults off and everybody quiet: both sides are equal, no
 * content that somebody wrote and nobody who had seen it replaced or deleted is lost, and the store is sound. Each seed gives
 * the same trace again. SX_SIM_SEEDS: how many seeds; SX_SIM_SEED: only this one, with its trace. */
#include "base/log.h"
#include "base/path.h"
#include "providers/mem/mem.h"
#include "transfer/plan.h"
#include "transfer/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIM_SEEDS 150
#define SIM_SEEDS_LONG 5000
#define SIM_STEPS 140
#define SIM_QUIET_ROUNDS 600
#define SIM_BIG (300 * 1024) /* a file of three blocks */

typedef struct Task {
    void (*fn)(void *arg);
    void *arg;
} Task;

typedef struct Sim {
    guint64 seed, rng, clock_rng;
    gint64 mono_ms;
    SxClock clock;
    SxExecutor executor;
    GArray *tasks;      /* of Task */
    char *dir, *store_name;
    SxMemStore *store;
    SxFaultPlan faults;
    int crash_in;       /* provider calls until the crash; 0: none planned */
    bool crashed;
    SxProvider *provider;
    SxTree *tree;
    SxCache *cache;
    SxEvents *events;
    SxTransfer *transfer;
    gint64 root;
    guint64 next_content;
    GHashTable *kept;   /* "SIZE HASH" of contents that may not be lost -> who wrote it */
    GString *trace;
    char *why;
} Sim;

/* ---- chance, time, tasks ---- */

static guint64
next_random(guint64 *state)
{
    guint64 z = (*state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static guint
below(Sim *s, guint n)
{
    return (guint)(next_random(&s->rng) % n);
}

/* The last line of a text that ends with a newline. */
static const char *
last_line(const char *text)
{
    const char *line = text;
    for (const char *c = text; *c != '\0'; c++)
        if (*c == '\n' && c[1] != '\0')
            line = c + 1;
    return line;
}

static void G_GNUC_PRINTF(2, 3)
say(Sim *s, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    g_string_append_printf(s->trace, "%6" G_GINT64_FORMAT " ", s->mono_ms % 1000000);
    g_string_append_vprintf(s->trace, format, ap);
    g_string_append_c(s->trace, '\n');
    va_end(ap);
    if (g_getenv("SX_SIM_DEBUG") != NULL)
        fputs(last_line(s->trace->str), stderr);
}

static bool G_GNUC_PRINTF(2, 3)
wrong(Sim *s, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    if (s->why == NULL)
        s->why = g_strdup_vprintf(format, ap);
    va_end(ap);
    return false;
}

static gint64
sim_real_ns(const SxClock *clock)
{
    const Sim *s = clock->data;
    return (G_GINT64_CONSTANT(1700000000000) + s->mono_ms) * 1000000;
}

static gint64
sim_mono_ms(const SxClock *clock)
{
    return ((const Sim *)clock->data)->mono_ms;
}

static guint64
sim_random(const SxClock *clock)
{
    return next_random(&((Sim *)clock->data)->clock_rng);
}

static void
sim_submit(SxExecutor *self, int kind, void (*fn)(void *arg), void *arg)
{
    Sim *s = self->data;
    Task task = {fn, arg};
    g_array_append_val(s->tasks, task);
}

static bool
run_one_task(Sim *s)
{
    if (s->tasks->len == 0)
        return false;
    guint i = below(s, s->tasks->len);
    Task task = g_array_index(s->tasks, Task, i);
    g_array_remove_index(s->tasks, i);
    task.fn(task.arg);
    return true;
}

/* ---- opening, crashing ---- */

static bool
sim_crash(void *data, const char *call, bool after)
{
    Sim *s = data;
    say(s, "  %s%s", call, after ? " ." : "");
    if (s->crash_in == 0 || --s->crash_in > 0)
        return false;
    say(s, "crash %s %s", after ? "after" : "before", call);
    s->crashed = true;
    sx_tree_kill(s->tree);
    return true;
}

static void
on_event(const SxEvent *e, void *data)
{
    say(data, "event %s %s: %s", e->kind, e->path != NULL ? e->path : "", e->text);
}

/* What the other side can do, from the best to the poorest. */
static const char *const abilities[] = {
    "",
    "version-after-write = no\n",
    "stable-ids = no\nhash = none\n",
    "set-mtime = no\nset-mode = no\nsymlinks = no\nstable-ids = no\n",
    "server-move = no\nstable-ids = no\n",
    "conditional = no\nversion-after-write = no\nstable-ids = no\nhash = none\n",
};

static const char *
ability(const Sim *s)
{
    return abilities[s->seed % G_N_ELEMENTS(abilities)];
}

static bool
sim_open(Sim *s)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *db = g_build_filename(s->dir, "tree.db", NULL), *cache = g_build_filename(s->dir, "cache", NULL);
    g_autofree char *options = g_strdup_printf("store = %s\n%s", s->store_name, ability(s));
    SxTreeOptions to = {.path = db, .sys = sx_sys_default(), .clock = &s->clock, .file_mode = 0644, .dir_mode = 0755};
    s->tree = sx_tree_open(&to, &error);
    SxCacheOptions co = {.dir = cache, .size = 64 << 20, .sys = sx_sys_default(), .clock = &s->clock, .tree = s->tree};
    s->cache = s->tree != NULL ? sx_cache_open(&co, &error) : NULL;
    g_autoptr(SxProvider) mem =
        s->cache != NULL ? sx_provider_open_text(&sx_provider_mem, "mem", options, sx_sys_default(), &s->clock, &error) : NULL;
    if (mem == NULL)
        return wrong(s, "cannot open: %s", error->message);
    s->provider = sx_fault_wrap(mem, &s->faults);
    s->events = sx_events_new(NULL, NULL);
    sx_events_listen(s->events, on_event, s);
    SxTransferOptions xo = {.tree = s->tree, .cache = s->cache, .events = s->events, .clock = &s->clock, .executor = &s->executor,
                            .upload_threads = 3, .download_threads = 3, .write_back_delay_ms = 2000, .memory_budget = 8 << 20,
                            .who = "me@here"};
    s->transfer = sx_transfer_new(&xo, &error);
    int id;
    if (s->transfer == NULL || !sx_transfer_add_provider(s->transfer, s->provider, &id, &s->root, &error) ||
        !sx_transfer_start(s->transfer, &error))
        return wrong(s, "cannot start: %s", error->message);
    sx_cache_sweep(s->cache, NULL);
    s->crashed = false;
    return true;
}

static void
sim_close(Sim *s)
{
    if (s->transfer != NULL) {
        sx_transfer_stop(s->transfer);
        while (run_one_task(s))
            ;
        sx_transfer_free(s->transfer);
    }
    s->transfer = NULL;
    g_clear_pointer(&s->cache, sx_cache_close);
    g_clear_pointer(&s->tree, sx_tree_close);
    g_clear_pointer(&s->provider, sx_provider_unref);
    g_clear_pointer(&s->events, sx_events_free);
    s->crash_in = 0;
}

static bool
reopen(Sim *s)
{
    say(s, "reopen");
    if (!s->crashed && below(s, 4) != 0) /* else a clean stop */
        sx_tree_kill(s->tree);
    s->crashed = true;
    sim_close(s);
    return sim_open(s);
}

/* ---- contents ---- */

static char *
token_of(const void *bytes, gsize n)
{
    g_autofree char *hex = g_compute_checksum_for_data(G_CHECKSUM_SHA256, bytes, n);
    return g_strdup_printf("%" G_GSIZE_FORMAT " %.12s", n, hex);
}

static GBytes *
new_content(Sim *s)
{
    guint64 n = ++s->next_content;
    GString *text = g_string_new(NULL);
    g_string_printf(text, "content %" G_GUINT64_FORMAT " of seed %" G_GUINT64_FORMAT "\n", n, s->seed);
    if (below(s, 8) == 0)
        while (text->len < SIM_BIG)
            g_string_append_printf(text, "%" G_GUINT64_FORMAT ".%" G_GSIZE_FORMAT " ", n, text->len);
    return g_string_free_to_bytes(text);
}

static void
keep(Sim *s, GBytes *bytes, const char *who)
{
    char *token = token_of(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    say(s, "  %s has written %s", who, token);
    g_hash_table_insert(s->kept, token, (gpointer)who);
}

static void
supersede(Sim *s, const void *bytes, gsize n)
{
    g_autofree char *token = token_of(bytes, n);
    if (g_hash_table_remove(s->kept, token))
        say(s, "  %s may go", token);
}

/* What a program that reads the file gets; NULL when it gets an error. */
static GBytes *
read_file(Sim *s, gint64 ino)
{
    SxAttr attr;
    if (sx_tree_getattr(s->tree, ino, &attr) != 0)
        return NULL;
    g_autoptr(SxContent) content = sx_content_open(s->cache, &attr, NULL);
    if (content == NULL)
        return NULL;
    for (int tries = 0; tries < 3; tries++) {
        if (sx_transfer_fetch(s->transfer, content, NULL, 0, sx_content_size(content), NULL) != 0)
            return NULL;
        gsize n = (gsize)sx_content_size(content);
        g_autofree char *buf = g_malloc(n + 1);
        gssize got = n > 0 ? sx_content_read(content, 0, buf, n) : 0;
        if (got == (gssize)n)
            return g_bytes_new_take(g_steal_pointer(&buf), n);
    }
    return NULL;
}

static bool
write_file(Sim *s, gint64 ino, GBytes *bytes, bool created)
{
    SxAttr attr;
    gsize n;
    const void *data = g_bytes_get_data(bytes, &n);
    if (sx_tree_getattr(s->tree, ino, &attr) != 0)
        return false;
    g_autoptr(SxContent) content = created ? sx_content_create(s->cache, &attr, NULL) : sx_content_open(s->cache, &attr, NULL);
    if (content == NULL || sx_tree_write_begin(s->tree, ino, &attr) != 0)
        return false;
    sx_content_follow(content, &attr);
    sx_content_set_announced(content);
    sx_content_writers(content, 1);
    gint64 off, len;
    bool ok = sx_content_prepare(content, 0, 0, &off, &len) == 0 && sx_content_truncate(content, 0) == 0 &&
              sx_content_write(content, 0, data, n) == (gssize)n;
    gint64 due = sx_clock_real_ms(&s->clock) + 2000;
    ok = sx_tree_write_end(s->tree, ino, (gint64)n, sx_clock_real_ns(&s->clock), true, due, &attr) == 0 && ok;
    sx_content_writers(content, -1);
    return ok;
}

/* ---- the local side as a list ---- */

typedef struct Node {
    gint64 ino, parent;
    SxKind kind;
    char *name, *path;
    bool listed;
} Node;

typedef struct Walk {
    Sim *s;
    GPtrArray *nodes;
    const Node *dir;
} Walk;

static void
node_free(gpointer p)
{
    Node *n = p;
    g_free(n->name);
    g_free(n->path);
    g_free(n);
}

static Node *
node_new(gint64 ino, gint64 parent, SxKind kind, const char *name, const char *path, bool listed)
{
    Node *n = g_new0(Node, 1);
    *n = (Node){.ino = ino, .parent = parent, .kind = kind, .name = g_strdup(name), .path = g_strdup(path), .listed = listed};
    return n;
}

static bool
walk_entry(void *data, gint64 cookie, const char *name, const SxAttr *attr)
{
    Walk *w = data;
    g_autofree char *path = sx_path_join(w->dir->path, name);
    g_ptr_array_add(w->nodes, node_new(attr->ino, w->dir->ino, attr->kind, name, path, attr->listed));
    return true;
}

/* All that is shown; the provider's root first. */
static GPtrArray *
walk(Sim *s)
{
    GPtrArray *nodes = g_ptr_array_new_with_free_func(node_free);
    SxAttr attr;
    bool listed = sx_tree_getattr(s->tree, s->root, &attr) == 0 && attr.listed;
    g_ptr_array_add(nodes, node_new(s->root, SX_ROOT_INO, SX_KIND_DIR, "", "", listed));
    for (guint i = 0; i < nodes->len; i++) {
        Walk w = {.s = s, .nodes = nodes, .dir = nodes->pdata[i]};
        if (w.dir->kind == SX_KIND_DIR)
            sx_tree_readdir(s->tree, w.dir->ino, 0, walk_entry, &w);
    }
    return nodes;
}

static Node *
pick(Sim *s, GPtrArray *nodes, bool dirs)
{
    g_autoptr(GPtrArray) fit = g_ptr_array_new();
    for (guint i = dirs ? 0 : 1; i < nodes->len; i++) {
        Node *n = nodes->pdata[i];
        if (!dirs || n->kind == SX_KIND_DIR)
            g_ptr_array_add(fit, n);
    }
    return fit->len > 0 ? fit->pdata[below(s, fit->len)] : NULL;
}

static Node *
find_child(GPtrArray *nodes, gint64 parent, const char *name)
{
    for (guint i = 1; i < nodes->len; i++) {
        Node *n = nodes->pdata[i];
        if (n->parent == parent && strcmp(n->name, name) == 0)
            return n;
    }
    return NULL;
}

/* ---- the user ---- */

static const char *const names[] = {"a", "b", "c", "d.txt", "e"};

static const char *
any_name(Sim *s)
{
    return names[below(s, G_N_ELEMENTS(names))];
}

static gint64
due(Sim *s)
{
    return sx_clock_real_ms(&s->clock) + 2000;
}

static void
user_create(Sim *s, GPtrArray *nodes)
{
    Node *dir = pick(s, nodes, true);
    const char *name = any_name(s);
    static const SxKind kinds[] = {SX_KIND_FILE, SX_KIND_FILE, SX_KIND_FILE, SX_KIND_DIR, SX_KIND_SYMLINK};
    SxNew new_ = {.kind = kinds[below(s, 5)], .mode = 0644, .due_real_ms = due(s), .target = "x"};
    SxAttr attr;
    if (!dir->listed || sx_tree_create(s->tree, dir->ino, name, &new_, &attr) != 0)
        return;
    say(s, "user creates %s/%s (%d)", dir->path, name, new_.kind);
    if (new_.kind != SX_KIND_FILE)
        return;
    g_autoptr(GBytes) bytes = new_content(s);
    if (write_file(s, attr.ino, bytes, true))
        keep(s, bytes, "user");
}

/* Who replaces or deletes something has looked at it before. */
static bool
look_at(Sim *s, const Node *n)
{
    if (n->kind != SX_KIND_FILE)
        return true;
    g_autoptr(GBytes) was = read_file(s, n->ino);
    SxAttr attr;
    if (was == NULL || sx_tree_lookup(s->tree, n->parent, n->name, &attr) != 0 || attr.ino != n->ino)
        return false;
    supersede(s, g_bytes_get_data(was, NULL), g_bytes_get_size(was));
    return true;
}

static void
user_overwrite(Sim *s, GPtrArray *nodes)
{
    Node *n = pick(s, nodes, false);
    if (n == NULL || n->kind != SX_KIND_FILE)
        return;
    g_autoptr(GBytes) was = read_file(s, n->ino);
    SxAttr attr;
    if (was == NULL || sx_tree_lookup(s->tree, n->parent, n->name, &attr) != 0 || attr.ino != n->ino)
        return;
    g_autoptr(GBytes) bytes = new_content(s);
    say(s, "user writes %s", n->path);
    if (!write_file(s, n->ino, bytes, false))
        return;
    supersede(s, g_bytes_get_data(was, NULL), g_bytes_get_size(was));
    keep(s, bytes, "user");
}

static bool
is_empty(GPtrArray *nodes, gint64 dir)
{
    for (guint i = 1; i < nodes->len; i++)
        if (((Node *)nodes->pdata[i])->parent == dir)
            return false;
    return true;
}

static void
user_remove(Sim *s, GPtrArray *nodes)
{
    Node *n = pick(s, nodes, false);
    SxAttr attr;
    if (n == NULL || (n->kind == SX_KIND_DIR && (!n->listed || !is_empty(nodes, n->ino))) || !look_at(s, n))
        return;
    int rc = n->kind == SX_KIND_DIR ? sx_tree_rmdir(s->tree, n->parent, n->name, due(s), &attr)
                                    : sx_tree_unlink(s->tree, n->parent, n->name, false, due(s), &attr);
    say(s, "user removes %s: %d", n->path, rc);
}

static void
user_rename(Sim *s, GPtrArray *nodes)
{
    Node *n = pick(s, nodes, false), *dir = pick(s, nodes, true);
    const char *name = any_name(s);
    if (n == NULL || !dir->listed)
        return;
    Node *there = find_child(nodes, dir->ino, name);
    if (there != NULL && (there == n || (there->kind == SX_KIND_DIR && !there->listed)))
        return;
    /* Names that would fail must not count as seen and replaced. */
    if (there != NULL && ((there->kind == SX_KIND_DIR) != (n->kind == SX_KIND_DIR) || !is_empty(nodes, there->ino)))
        return;
    if (g_str_has_prefix(dir->path, n->path) && n->kind == SX_KIND_DIR)
        return;
    SxRenamed renamed;
    bool exchange = there != NULL && below(s, 3) == 0;
    if (there != NULL && !exchange && (there->ino == n->ino || !look_at(s, there)))
        return;
    int rc = sx_tree_rename(s->tree, n->parent, n->name, dir->ino, name, exchange ? RENAME_EXCHANGE : 0, false, due(s), &renamed);
    say(s, "user renames %s to %s/%s%s: %d", n->path, dir->path, name, exchange ? " (exchange)" : "", rc);
}

static void
user_link(Sim *s, GPtrArray *nodes)
{
    Node *n = pick(s, nodes, false), *dir = pick(s, nodes, true);
    SxAttr attr;
    if (n == NULL || n->kind != SX_KIND_FILE || !dir->listed)
        return;
    g_autoptr(GBytes) was = read_file(s, n->ino); /* as the vfs has it: a link to what is complete here */
    const char *name = any_name(s);
    if (was != NULL && sx_tree_link(s->tree, n->ino, dir->ino, name, due(s), &attr) == 0)
        say(s, "user links %s to %s/%s", n->path, dir->path, name);
}

static void
user_list(Sim *s, GPtrArray *nodes)
{
    Node *dir = pick(s, nodes, true);
    int rc = sx_transfer_list(s->transfer, dir->ino, below(s, 3) == 0, NULL, NULL);
    say(s, "user lists %s: %d", dir->path, rc);
}

static void
user_read(Sim *s, GPtrArray *nodes)
{
    Node *n = pick(s, nodes, false);
    if (n == NULL || n->kind != SX_KIND_FILE)
        return;
    g_autoptr(GBytes) bytes = read_file(s, n->ino);
    say(s, "user reads %s: %d", n->path, bytes != NULL ? (int)g_bytes_get_size(bytes) : -1);
}

static void
user_touch(Sim *s, GPtrArray *nodes)
{
    Node *n = pick(s, nodes, false);
    SxAttr values = {.mtime_ns = sx_clock_real_ns(&s->clock) - 5000000000}, after;
    if (n != NULL && sx_tree_setattr(s->tree, n->ino, SX_SET_MTIME, &values, due(s), &after) == 0)
        say(s, "user touches %s", n->path);
}

static void
user_evict(Sim *s, GPtrArray *nodes)
{
    Node *n = pick(s, nodes, false);
    if (n != NULL && n->kind == SX_KIND_FILE)
        say(s, "evict %s: %d", n->path, sx_cache_evict(s->cache, n->ino));
}

static void
user_step(Sim *s)
{
    static void (*const acts[])(Sim *, GPtrArray *) = {
        user_create, user_create, user_create, user_overwrite, user_overwrite, user_remove, user_remove, user_rename,
        user_rename, user_rename, user_list,   user_list,      user_read,      user_touch,  user_evict,  user_link,
    };
    g_autoptr(GPtrArray) nodes = walk(s);
    acts[below(s, G_N_ELEMENTS(acts))](s, nodes);
}

/* ---- the other client ---- */

/* Paths in the storage of one kind ('f', 'd', or 0 for any). */
static GPtrArray *
store_paths(Sim *s, char kind)
{
    GPtrArray *paths = g_ptr_array_new_with_free_func(g_free);
    g_autofree char *dump = sx_mem_dump(s->store);
    g_auto(GStrv) lines = g_strsplit(dump, "\n", -1);
    if (kind == 'd')
        g_ptr_array_add(paths, g_strdup(""));
    for (char **l = lines; *l != NULL && **l != '\0'; l++) {
        char *end = **l == 'f' ? strrchr(*l, ' ') : NULL;
        if (end != NULL) {
            *end = '\0';
            *strrchr(*l, ' ') = '\0';
        } else if (**l == 'd') {
            (*l)[strlen(*l) - 1] = '\0';
        } else {
            *strstr(*l, " -> ") = '\0';
        }
        if ((kind == 0 || **l == kind) && strstr(*l, SX_ASIDE_PREFIX) == NULL)
            g_ptr_array_add(paths, g_strdup(*l + 2));
    }
    return paths;
}

static char *
any_store_path(Sim *s, char kind)
{
    g_autoptr(GPtrArray) paths = store_paths(s, kind);
    return paths->len > 0 ? g_strdup(paths->pdata[below(s, paths->len)]) : NULL;
}

static void
supersede_stored(Sim *s, const char *path)
{
    g_autoptr(GPtrArray) files = store_paths(s, 'f');
    g_autofree char *inside = g_strconcat(path, "/", NULL);
    for (guint i = 0; i < files->len; i++) {
        const char *file = files->pdata[i];
        if (strcmp(file, path) != 0 && !g_str_has_prefix(file, inside))
            continue;
        g_autoptr(GBytes) bytes = sx_mem_get(s->store, file);
        supersede(s, g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes));
    }
}

static bool
has_tmp_below(Sim *s, const char *path)
{
    g_autofree char *dump = sx_mem_dump(s->store);
    g_auto(GStrv) lines = g_strsplit(dump, "\n", -1);
    for (char **l = lines; *l != NULL && **l != '\0'; l++)
        if (g_str_has_prefix(*l + 2, path) && strstr(*l, SX_ASIDE_PREFIX) != NULL)
            return true;
    return false;
}

static void
other_step(Sim *s)
{
    g_autofree char *dir = any_store_path(s, 'd'), *file = any_store_path(s, 'f'), *any = any_store_path(s, 0);
    g_autofree char *new_ = sx_path_join(dir, any_name(s));
    g_autoptr(GBytes) bytes = new_content(s);
    gsize n;
    const void *data = g_bytes_get_data(bytes, &n);
    gint64 now = sx_clock_real_ns(&s->clock);
    int rc = -1;
    switch (below(s, 6)) {
    case 0:
    case 1:
        if (!sx_mem_exists(s->store, new_) && (rc = sx_mem_put(s->store, new_, data, n, now)) == 0)
            keep(s, bytes, "other");
        say(s, "other creates %s: %d", new_, rc);
        break;
    case 2:
        if (file == NULL)
            break;
        supersede_stored(s, file);
        if ((rc = sx_mem_put(s->store, file, data, n, now)) == 0)
            keep(s, bytes, "other");
        say(s, "other writes %s: %d", file, rc);
        break;
    case 3:
        if (any == NULL || has_tmp_below(s, any))
            break;
        supersede_stored(s, any);
        say(s, "other removes %s: %d", any, sx_mem_remove(s->store, any));
        break;
    case 4:
        if (any != NULL && !(g_str_has_prefix(new_, any)))
            say(s, "other renames %s to %s: %d", any, new_, sx_mem_rename(s->store, any, new_));
        break;
    default:
        say(s, "other makes %s: %d", new_, sx_mem_mkdir(s->store, new_));
        break;
    }
}

/* ---- one seed ---- */

static void
maybe_disturb(Sim *s)
{
    switch (below(s, 40)) {
    case 0: s->crash_in = 1 + (int)below(s, 12); break;
    case 1: sx_fault_set_offline(&s->faults, true); say(s, "offline"); break;
    case 2:
    case 3:
    case 4:
    case 5:
    case 6:
        if (s->faults.offline) {
            sx_fault_set_offline(&s->faults, false);
            say(s, "online");
        }
        break;
    default: break;
    }
}

static bool
one_step(Sim *s)
{
    s->mono_ms += 1 + below(s, 40);
    maybe_disturb(s);
    switch (below(s, 10)) {
    case 0:
    case 1:
    case 2:
    case 3: user_step(s); break;
    case 4: other_step(s); break;
    case 5: s->mono_ms += below(s, 20) == 0 ? 100000 : below(s, 4000); break;
    default:
        sx_transfer_step(s->transfer);
        for (guint n = below(s, 4); n > 0 && !s->crashed; n--)
            run_one_task(s);
        break;
    }
    return !s->crashed && below(s, 200) != 0 ? true : reopen(s);
}

static bool
refresh_all(Sim *s)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_int64_hash, g_int64_equal);
    g_autoptr(GPtrArray) pins = g_ptr_array_new_with_free_func((GDestroyNotify)g_ptr_array_unref);
    bool ok = true;
    for (bool more = true; more && ok;) {
        GPtrArray *nodes = walk(s);
        g_ptr_array_add(pins, nodes);
        more = false;
        for (guint i = 0; i < nodes->len && ok; i++) {
            Node *n = nodes->pdata[i];
            if (n->kind != SX_KIND_DIR || !g_hash_table_add(seen, &n->ino))
                continue;
            int rc = sx_transfer_refresh(s->transfer, n->ino, true, NULL, NULL);
            ok = rc == 0 || rc == -ENOENT;
            more = true;
        }
    }
    return ok;
}

static gint
by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static char *
sorted(GPtrArray *lines)
{
    g_ptr_array_sort(lines, by_text);
    GString *text = g_string_new(NULL);
    for (guint i = 0; i < lines->len; i++)
        g_string_append_printf(text, "%s\n", (char *)lines->pdata[i]);
    return g_string_free(text, FALSE);
}

static char *
store_dump(Sim *s)
{
    g_autofree char *dump = sx_mem_dump(s->store);
    g_auto(GStrv) parts = g_strsplit(dump, "\n", -1);
    g_autoptr(GPtrArray) lines = g_ptr_array_new();
    for (char **l = parts; *l != NULL; l++)
        if (**l != '\0')
            g_ptr_array_add(lines, *l);
    return sorted(lines);
}

static char *
local_dump(Sim *s)
{
    g_autoptr(GPtrArray) nodes = walk(s);
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 1; i < nodes->len; i++) {
        Node *n = nodes->pdata[i];
        if (n->kind == SX_KIND_SYMLINK && strstr(ability(s), "symlinks = no") != NULL)
            continue; /* they stay local */
        g_autoptr(GBytes) bytes = n->kind == SX_KIND_FILE ? read_file(s, n->ino) : NULL;
        g_autofree char *token = bytes != NULL ? token_of(g_bytes_get_data(bytes, NULL), g_bytes_get_size(bytes)) : g_strdup("unreadable");
        g_ptr_array_add(lines, n->kind == SX_KIND_DIR       ? g_strdup_printf("d %s/", n->path)
                               : n->kind == SX_KIND_SYMLINK ? g_strdup_printf("l %s -> x", n->path)
                                                            : g_strdup_printf("f %s %s", n->path, token));
    }
    return sorted(lines);
}

static bool
quiet(Sim *s)
{
    SxCounts counts;
    sx_tree_counts(s->tree, 0, &counts);
    return counts.pending == 0 && counts.parked == 0 && s->tasks->len == 0;
}

static bool
note_row(void *data, const SxRow *row)
{
    g_string_append_printf(data, "\n  row %d ino %d pending %u: %d/%s <- %d/%s tries %d %s%s", (int)row->id, (int)row->ino, row->pending,
                           (int)row->l_parent, row->l_name, (int)row->r_parent, row->r_name, row->tries,
                           row->parked ? "parked " : "", row->err_text != NULL ? row->err_text : "");
    return true;
}

/* Lets everything settle. */
static bool
settle(Sim *s)
{
    s->faults = (SxFaultPlan){.seed = s->seed, .crash = sim_crash, .data = s};
    s->crash_in = 0;
    guint calm = 0;
    for (guint round = 0; round < SIM_QUIET_ROUNDS && calm < 2; round++) {
        s->mono_ms += 500 + below(s, 3000);
        sx_transfer_step(s->transfer);
        while (run_one_task(s))
            ;
        if (round % 8 != 7)
            continue;
        bool still = quiet(s), ok = refresh_all(s);
        calm = still && ok && quiet(s) ? calm + 1 : 0;
    }
    if (calm >= 2)
        return true;
    g_autoptr(GString) left = g_string_new(NULL);
    sx_tree_each_pending(s->tree, SX_ROOT_INO, 100, note_row, left);
    return wrong(s, "does not become quiet within %d rounds%s", SIM_QUIET_ROUNDS, left->str);
}

static bool
check_end(Sim *s)
{
    g_autofree char *here = local_dump(s), *there = store_dump(s);
    g_autoptr(GError) error = NULL;
    if (strcmp(here, there) != 0)
        return wrong(s, "the sides differ\n-- here:\n%s-- there:\n%s", here, there);
    GHashTableIter iter;
    gpointer token, who;
    g_hash_table_iter_init(&iter, s->kept);
    while (g_hash_table_iter_next(&iter, &token, &who))
        if (strstr(there, token) == NULL)
            return wrong(s, "content %s, written by %s, is lost\n%s", (char *)token, (char *)who, there);
    if (strstr(there, SX_TMP_PREFIX) != NULL || strstr(there, SX_ASIDE_PREFIX) != NULL)
        return wrong(s, "a temporary name has remained\n%s", there);
    if (!sx_tree_check(s->tree, &error))
        return wrong(s, "the store is not sound: %s", error->message);
    sx_mem_check(s->store);
    return true;
}

static void
remove_dir(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *name; dir != NULL && (name = g_dir_read_name(dir)) != NULL;) {
        g_autofree char *child = g_build_filename(path, name, NULL);
        if (g_file_test(child, G_FILE_TEST_IS_DIR) && !g_file_test(child, G_FILE_TEST_IS_SYMLINK))
            remove_dir(child);
        else
            g_unlink(child);
    }
    g_rmdir(path);
}

static bool
sim_run(Sim *s)
{
    /* Every third seed has a good network, so that crashes are seen without noise too. */
    if (s->seed % 3 != 0)
        s->faults = (SxFaultPlan){.seed = s->seed, .per_mille_error = 60, .per_mille_lost = 60, .per_mille_cut = 40,
                                  .per_mille_stale_list = 40, .per_mille_partial_list = 20};
    s->faults.crash = sim_crash;
    s->faults.data = s;
    for (guint i = below(s, 6); i > 0; i--)
        other_step(s);
    if (!sim_open(s))
        return false;
    for (guint i = 0; i < SIM_STEPS; i++)
        if (!one_step(s))
            return false;
    return settle(s) && check_end(s);
}

/* Runs one seed in a directory of its own; returns the trace. */
static char *
run_seed(guint64 seed, char **ret_why)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *dir = g_dir_make_tmp("syncox-sim-XXXXXX", &error);
    if (dir == NULL)
        g_error("%s", error->message);
    Sim s = {.seed = seed, .rng = seed, .clock_rng = ~seed, .dir = dir, .mono_ms = 1000};
    s.clock = (SxClock){.real_ns = sim_real_ns, .mono_ms = sim_mono_ms, .random = sim_random, .data = &s};
    s.executor = (SxExecutor){.submit = sim_submit, .data = &s};
    s.store_name = g_strdup_printf("sim-%" G_GUINT64_FORMAT, seed);
    s.store = sx_mem_store(s.store_name);
    s.tasks = g_array_new(FALSE, FALSE, sizeof(Task));
    s.kept = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    s.trace = g_string_new(NULL);
    sim_run(&s);
    sim_close(&s);
    g_array_unref(s.tasks);
    g_hash_table_unref(s.kept);
    sx_mem_store_unref(s.store);
    sx_mem_drop(s.store_name);
    g_free(s.store_name);
    remove_dir(dir);
    *ret_why = s.why;
    return g_string_free(s.trace, FALSE);
}

static bool
try_seed(guint64 seed, bool twice)
{
    g_autofree char *why = NULL, *again_why = NULL;
    g_autofree char *trace = run_seed(seed, &why);
    g_autofree char *again = twice ? run_seed(seed, &again_why) : NULL;
    if (g_getenv("SX_SIM_SEED") != NULL)
        fputs(trace, stdout);
    if (why != NULL)
        fprintf(stderr, "seed %" G_GUINT64_FORMAT ": %s\n", seed, why);
    bool same = again == NULL || strcmp(trace, again) == 0;
    if (!same)
        fprintf(stderr, "seed %" G_GUINT64_FORMAT ": the second run went another way\n", seed);
    return why == NULL && same;
}

int
main(void)
{
    const char *one = g_getenv("SX_SIM_SEED"), *more = g_getenv("SX_SIM_SEEDS");
    sx_log_set_level(g_getenv("SX_SIM_DEBUG") != NULL ? SX_LOG_DEBUG : SX_LOG_ERROR); /* DEBUG: each call with its path */
    if (one != NULL)
        return try_seed(g_ascii_strtoull(one, NULL, 10), true) ? 0 : 1;
    guint64 n = more != NULL ? g_ascii_strtoull(more, NULL, 10) : g_getenv("SX_CHECK_LONG") != NULL ? SIM_SEEDS_LONG : SIM_SEEDS;
    guint failed = 0;
    for (guint64 seed = 1; seed <= n && failed < 5; seed++)
        failed += !try_seed(seed, seed % 9 == 0);
    printf("%" G_GUINT64_FORMAT " seeds, %u failed; SX_SIM_SEED=N shows one\n", n, failed);
    return failed > 0;
}
