/* Random operations on both sides of a tree, against a simple model.
 *
 * Local calls are predicted, result and errno, by a tree of hash tables. A made-up provider is another such tree; pending
 * rows are planned with sx_plan() and carried out on it one by one, with replies lost at times. In the second test others
 * change the provider too. Each content is a number, which is also its size. Every action of somebody ends exactly the
 * content that this somebody saw; all others must be there when both sides have come to rest ("nothing overwritten
 * unseen"), and then both sides are equal. After each step sx_tree_check(). The seed is printed; give it as argument. */
#include "tests/unit/tree_fixture.h"

#include "base/path.h"
#include "transfer/plan.h"

#define NAMES 7
#define ROUNDS 6
#define STEPS 400
#define SETTLE_MAX 400

typedef struct Node { /* of the local model */
    gint64 ino;
    SxKind kind;
    int content;
    guint nlink;
    GHashTable *children; /* DIR: name -> Node */
} Node;

typedef struct Obj { /* on the provider */
    struct Obj *parent;
    char *name;
    SxKind kind;
    int id, version, content;
    GHashTable *children;
} Obj;

typedef struct World {
    Fix *f;
    GRand *rand;
    guint32 seed;
    Node *local;  /* NULL: not predicted */
    Obj *server;
    GHashTable *contents; /* generation -> content, of what was written here */
    GHashTable *alive;    /* contents that nobody has ended */
    int next;
    bool ids, others;
} World;

static int
dice(World *w, int n)
{
    return g_rand_int_range(w->rand, 0, n);
}

static const char *
some_name(World *w)
{
    static const char *const names[NAMES] = {"a", "b", "c", "d", "e.txt", "f", "x.tmp"};
    return names[dice(w, NAMES)];
}

static void
complain(World *w, const char *what)
{
    fail_msg("seed %u: %s", w->seed, what);
}

static void
check_world(World *w)
{
    g_autoptr(GError) error = NULL;
    if (!sx_tree_check(w->f->tree, &error))
        fail_msg("seed %u: %s", w->seed, error->message);
}

static void
set_alive(World *w, int content, bool alive)
{
    if (alive)
        g_hash_table_add(w->alive, GINT_TO_POINTER(content));
    else
        g_hash_table_remove(w->alive, GINT_TO_POINTER(content));
}

/* ---- the provider ---- */

static Obj *
obj_new(World *w, Obj *parent, const char *name, SxKind kind, int content)
{
    Obj *o = g_new0(Obj, 1);
    o->parent = parent;
    o->name = g_strdup(name);
    o->kind = kind;
    o->content = content;
    o->id = ++w->next;
    o->version = ++w->next;
    o->children = g_hash_table_new(g_str_hash, g_str_equal);
    if (parent != NULL)
        g_hash_table_insert(parent->children, o->name, o);
    return o;
}

static void
obj_remove(Obj *o)
{
    GHashTableIter it;
    gpointer child;
    if (o->parent != NULL)
        g_hash_table_remove(o->parent->children, o->name);
    while (g_hash_table_iter_init(&it, o->children), g_hash_table_iter_next(&it, NULL, &child))
        obj_remove(child);
    g_hash_table_unref(o->children);
    g_free(o->name);
    g_free(o);
}

static void
obj_move(Obj *o, Obj *to, const char *name)
{
    g_hash_table_remove(o->parent->children, o->name);
    g_free(o->name);
    o->name = g_strdup(name);
    o->parent = to;
    g_hash_table_insert(to->children, o->name, o);
}

static Obj *
obj_at(World *w, const char *path)
{
    Obj *o = w->server;
    g_auto(GStrv) parts = g_strsplit(path, "/", -1);
    for (char **p = parts; o != NULL && *p != NULL; p++)
        if (**p != '\0')
            o = g_hash_table_lookup(o->children, *p);
    return o;
}

/* A directory there by its inode here; NULL when it is not where the tree believes. */
static Obj *
obj_dir(World *w, gint64 ino)
{
    g_autofree char *path = sx_tree_remote_path(w->f->tree, ino);
    Obj *o = path != NULL ? obj_at(w, path) : NULL;
    return o != NULL && o->kind == SX_KIND_DIR ? o : NULL;
}

static SxRemote *
tell(World *w, const Obj *o)
{
    SxRemote *e = sx_remote_new(o->name, o->kind);
    g_free(e->version);
    e->version = o->kind == SX_KIND_FILE ? g_strdup_printf("v%d", o->version) : g_strdup("");
    e->id = w->ids ? g_strdup_printf("id%d", o->id) : NULL;
    e->size = o->kind == SX_KIND_FILE ? o->content : 0;
    e->mtime_ns = SX_TIME_UNKNOWN;
    e->mode = -1;
    if (o->kind == SX_KIND_SYMLINK) {
        g_free(e->target);
        e->target = g_strdup("there");
    }
    return e;
}

/* ---- listing ---- */

/* Rows that stepped aside with the reply lost, as transfer/ finds them. */
static void
find_aside(World *w, gint64 ino, const Obj *o, const Obj *dir)
{
    if (!g_str_has_prefix(o->name, SX_ASIDE_PREFIX))
        return;
    g_autoptr(SxRow) row = sx_tree_row(w->f->tree, g_ascii_strtoll(o->name + strlen(SX_ASIDE_PREFIX), NULL, 10));
    if (row != NULL && row->r_parent == ino && row->kind == o->kind && !g_hash_table_contains(dir->children, row->r_name))
        assert_true(sx_tree_done_move(w->f->tree, row->id, ino, o->name, NULL));
}

static guint
list_once(World *w, gint64 ino, const Obj *dir, GHashTable *gone, SxListed *ret)
{
    g_autoptr(GPtrArray) entries = g_ptr_array_new_with_free_func((GDestroyNotify)sx_remote_free);
    GHashTableIter it;
    gpointer child;
    g_hash_table_iter_init(&it, dir->children);
    while (g_hash_table_iter_next(&it, NULL, &child))
        g_ptr_array_add(entries, (find_aside(w, ino, child, dir), tell(w, child)));
    SxListing l = {.dir = ino, .entries = entries, .confirmed_gone = gone, .listed_real_ms = NOW_MS(w->f)};
    g_autoptr(SxChanges) changes = sx_changes_new();
    g_autoptr(GError) error = NULL;
    if (!sx_tree_apply_listing(w->f->tree, &l, changes, ret, &error))
        complain(w, error->message);
    check_world(w);
    return sx_changes_len(changes);
}

/* Lists a directory, asks for each missing name (an object that another listing will find elsewhere is gone here), and
 * returns whether anything changed. */
static bool
list_dir(World *w, gint64 ino)
{
    Obj *dir = obj_dir(w, ino);
    if (dir == NULL)
        return false;
    SxListed ret;
    guint changed = list_once(w, ino, dir, NULL, &ret);
    if (ret.missing->len > 0 && !w->others)
        complain(w, "a listing misses what nobody removed");
    if (ret.missing->len > 0) {
        g_autoptr(GHashTable) gone = g_hash_table_new(g_str_hash, g_str_equal);
        for (guint i = 0; i < ret.missing->len; i++)
            g_hash_table_add(gone, ret.missing->pdata[i]);
        SxListed again;
        changed += list_once(w, ino, dir, gone, &again) + 1;
        sx_listed_clear(&again);
    }
    sx_listed_clear(&ret);
    return changed > 0;
}

static bool
note_dir(void *data, gint64 cookie, const char *name, const SxAttr *attr)
{
    if (attr->kind == SX_KIND_DIR)
        g_array_append_val((GArray *)data, attr->ino);
    return true;
}

/* All directories that are shown, top down. */
static GArray *
all_dirs(World *w)
{
    GArray *dirs = g_array_new(FALSE, FALSE, sizeof(gint64));
    g_array_append_val(dirs, w->f->root);
    for (guint i = 0; i < dirs->len; i++)
        sx_tree_readdir(w->f->tree, g_array_index(dirs, gint64, i), 0, note_dir, dirs);
    return dirs;
}

static bool
list_all(World *w)
{
    bool changed = false;
    g_autoptr(GHashTable) done = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    for (bool more = true; more;) {
        more = false;
        g_autoptr(GArray) dirs = all_dirs(w);
        for (guint i = 0; i < dirs->len; i++) {
            gint64 ino = g_array_index(dirs, gint64, i);
            if (g_hash_table_add(done, g_memdup2(&ino, sizeof ino))) {
                changed |= list_dir(w, ino);
                more = true;
            }
        }
    }
    return changed;
}

/* ---- carrying out what is pending ---- */

static int
content_of(World *w, const SxRow *row)
{
    gpointer found;
    if (g_hash_table_lookup_extended(w->contents, &row->gen, NULL, &found))
        return GPOINTER_TO_INT(found);
    return (int)row->size;
}

static void
look(World *w, gint64 dir, const char *name)
{
    Obj *o = obj_dir(w, dir);
    if (o == NULL) {
        list_all(w);
        return;
    }
    o = g_hash_table_lookup(o->children, name);
    g_autoptr(SxRemote) e = o != NULL ? tell(w, o) : NULL;
    g_autoptr(GError) error = NULL;
    if (!sx_tree_apply_stat(w->f->tree, dir, name, e, NULL, &error))
        complain(w, error->message);
}

/* The provider has acted, and its answer is lost. */
static bool
reply_lost(World *w)
{
    return w->others && dice(w, 8) == 0;
}

static void
do_create(World *w, const SxRow *row)
{
    Obj *dir = obj_dir(w, row->l_parent);
    if (dir == NULL || g_hash_table_contains(dir->children, row->l_name)) {
        look(w, row->l_parent, row->l_name);
        return;
    }
    Obj *o = obj_new(w, dir, row->l_name, row->kind, row->kind == SX_KIND_FILE ? content_of(w, row) : 0);
    g_autoptr(SxRemote) e = tell(w, o);
    if (!reply_lost(w))
        assert_true(sx_tree_done_create(w->f->tree, row->id, row->l_parent, row->l_name, row->gen, e, NULL));
}

static Obj *
obj_of(World *w, const SxRow *row)
{
    Obj *dir = obj_dir(w, row->r_parent);
    return dir != NULL ? g_hash_table_lookup(dir->children, row->r_name) : NULL;
}

static bool
has_version(const Obj *o, const char *version)
{
    g_autofree char *text = g_strdup_printf("v%d", o->version);
    return g_strcmp0(version, text) == 0;
}

static void
do_upload(World *w, const SxRow *row)
{
    Obj *o = obj_of(w, row);
    if (o == NULL || o->kind != SX_KIND_FILE || !has_version(o, row->base_version)) {
        look(w, row->r_parent, row->r_name);
        return;
    }
    o->content = content_of(w, row);
    o->version = ++w->next;
    g_autoptr(SxRemote) e = tell(w, o);
    if (!reply_lost(w))
        assert_true(sx_tree_done_upload(w->f->tree, row->id, row->gen, e, NULL));
}

static void
do_conflict(World *w, const SxRow *row)
{
    Obj *o = obj_of(w, row);
    if (o != NULL && (o->kind != SX_KIND_FILE || !has_version(o, row->r_version))) {
        look(w, row->r_parent, row->r_name);
        return;
    }
    g_autoptr(SxRemote) e = o != NULL ? tell(w, o) : NULL;
    g_autofree char *name = NULL;
    if (o != NULL && o->content == content_of(w, row))
        assert_true(sx_tree_adopt(w->f->tree, row->id, row->gen, e, NULL));
    else
        assert_true(sx_tree_conflict(w->f->tree, row->id, e, "me", NULL, &name, NULL));
}

static void
do_move(World *w, const SxRow *row, gint64 to_ino, const char *name)
{
    Obj *o = obj_of(w, row), *to = obj_dir(w, to_ino), *there = to != NULL ? g_hash_table_lookup(to->children, name) : NULL;
    if (o == NULL && there != NULL && there->kind == row->kind && (row->kind != SX_KIND_FILE || has_version(there, row->r_version))) {
        assert_true(sx_tree_done_move(w->f->tree, row->id, to_ino, name, NULL)); /* the reply was lost */
        return;
    }
    if (o == NULL || o->kind != row->kind) {
        look(w, row->r_parent, row->r_name);
        return;
    }
    if (to == NULL || g_hash_table_contains(to->children, name)) {
        look(w, to_ino, name);
        return;
    }
    for (Obj *up = to; up != NULL; up = up->parent)
        if (up == o)
            complain(w, "a directory is planned into itself");
    obj_move(o, to, name);
    if (!reply_lost(w))
        assert_true(sx_tree_done_move(w->f->tree, row->id, to_ino, name, NULL));
}

static void
do_remove(World *w, const SxRow *row)
{
    Obj *o = obj_of(w, row);
    if (o == NULL) {
        assert_true(sx_tree_done_remove(w->f->tree, row->id, NULL));
        return;
    }
    if (o->kind != row->kind || (o->kind == SX_KIND_FILE && !has_version(o, row->base_version))) {
        look(w, row->r_parent, row->r_name);
        return;
    }
    if (g_hash_table_size(o->children) > 0) {
        list_dir(w, row->ino);
        return;
    }
    obj_remove(o);
    if (!reply_lost(w))
        assert_true(sx_tree_done_remove(w->f->tree, row->id, NULL));
}

static void
carry_out(World *w, const SxRow *row, SxOpKind op)
{
    g_autofree char *away = g_strdup_printf(SX_ASIDE_PREFIX "%" G_GINT64_FORMAT, row->id);
    switch (op) {
    case SX_OP_MKDIR:
    case SX_OP_SYMLINK:
    case SX_OP_UPLOAD_NEW: do_create(w, row); break;
    case SX_OP_UPLOAD: do_upload(w, row); break;
    case SX_OP_CONFLICT: do_conflict(w, row); break;
    case SX_OP_MOVE: do_move(w, row, row->l_parent, row->l_name); break;
    case SX_OP_MOVE_AWAY: do_move(w, row, row->r_parent, away); break;
    case SX_OP_REMOVE: do_remove(w, row); break;
    default: complain(w, "an operation that this provider never needs"); break;
    }
    check_world(w);
}

/* Plans, and carries out one of what can be done; false when there is nothing to do. */
static bool
sync_step(World *w)
{
    g_autoptr(GPtrArray) rows = sx_tree_pending(w->f->tree, 0, NOW_MS(w->f), 1000);
    if (rows->len == 0)
        return false;
    g_autofree SxOp *ops = g_new0(SxOp, rows->len);
    sx_plan((const SxRow *const *)rows->pdata, rows->len, ops);
    guint first = (guint)dice(w, (int)rows->len);
    for (guint i = 0; i < rows->len; i++) {
        guint k = (first + i) % rows->len;
        if (ops[k].kind == SX_OP_WAIT)
            continue;
        carry_out(w, rows->pdata[k], ops[k].kind);
        return true;
    }
    complain(w, "all pending rows wait for each other");
    return false;
}

/* ---- programs ---- */

static bool
collect_entry(void *data, gint64 cookie, const char *name, const SxAttr *attr)
{
    g_hash_table_insert(data, g_strdup(name), g_memdup2(attr, sizeof *attr));
    return true;
}

static GHashTable *
entries_of(World *w, gint64 ino)
{
    GHashTable *entries = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    assert_int_equal(sx_tree_readdir(w->f->tree, ino, 0, collect_entry, entries), 0);
    return entries;
}

static void
compare_node(World *w, const Node *n)
{
    g_autoptr(GHashTable) entries = entries_of(w, n->ino);
    if (g_hash_table_size(entries) != g_hash_table_size(n->children))
        complain(w, "a directory has other entries than the model");
    GHashTableIter it;
    gpointer name, child;
    g_hash_table_iter_init(&it, n->children);
    while (g_hash_table_iter_next(&it, &name, &child)) {
        const Node *c = child;
        const SxAttr *a = g_hash_table_lookup(entries, name);
        if (a == NULL || a->ino != c->ino || a->kind != c->kind)
            complain(w, "an entry is another than in the model");
        if (c->kind == SX_KIND_FILE && (a->size != c->content || a->nlink != c->nlink))
            complain(w, "a file has another content or nlink than in the model");
        if (c->kind == SX_KIND_DIR)
            compare_node(w, c);
    }
}

static Node *
node_new(gint64 ino, SxKind kind)
{
    Node *n = g_new0(Node, 1);
    n->ino = ino;
    n->kind = kind;
    n->nlink = 1;
    n->children = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    return n;
}

static void
node_drop(Node *n)
{
    if (--n->nlink > 0)
        return;
    GHashTableIter it;
    gpointer child;
    g_hash_table_iter_init(&it, n->children);
    while (g_hash_table_iter_next(&it, NULL, &child))
        node_drop(child);
    g_hash_table_unref(n->children);
    g_free(n);
}

static Node *
child_of(const Node *dir, const char *name)
{
    return dir != NULL ? g_hash_table_lookup(dir->children, name) : NULL;
}

static Node *
node_of_dir(Node *n, gint64 ino)
{
    if (n == NULL || n->ino == ino)
        return n;
    GHashTableIter it;
    gpointer child;
    g_hash_table_iter_init(&it, n->children);
    while (g_hash_table_iter_next(&it, NULL, &child)) {
        Node *found = ((Node *)child)->kind == SX_KIND_DIR ? node_of_dir(child, ino) : NULL;
        if (found != NULL)
            return found;
    }
    return NULL;
}

static gint64
some_dir(World *w)
{
    g_autoptr(GArray) dirs = all_dirs(w);
    return g_array_index(dirs, gint64, dice(w, (int)dirs->len));
}

static void
expect(World *w, const char *what, int rc, int want)
{
    if (w->local != NULL && rc != want)
        fail_msg("seed %u: %s gave %d instead of %d", w->seed, what, rc, want);
}

static void
end_content(World *w, const SxAttr *a)
{
    if (a->kind == SX_KIND_FILE && a->nlink <= 1)
        set_alive(w, (int)a->size, false);
}

static void
write_to(World *w, gint64 ino, Node *n)
{
    SxAttr a;
    assert_int_equal(sx_tree_getattr(w->f->tree, ino, &a), 0);
    set_alive(w, (int)a.size, false);
    int content = ++w->next;
    assert_int_equal(sx_tree_write_begin(w->f->tree, ino, &a), 0);
    assert_int_equal(sx_tree_write_end(w->f->tree, ino, content, w->f->now_ns, true, 0, &a), 0);
    assert_int_equal(sx_tree_set_cached(w->f->tree, ino, a.cver, 2), 0);
    g_hash_table_insert(w->contents, g_memdup2(&a.gen, sizeof a.gen), GINT_TO_POINTER(content));
    set_alive(w, content, true);
    if (n != NULL)
        n->content = content;
}

static void
l_create(World *w)
{
    static const SxKind kinds[] = {SX_KIND_FILE, SX_KIND_FILE, SX_KIND_FILE, SX_KIND_DIR, SX_KIND_DIR, SX_KIND_SYMLINK, SX_KIND_FIFO};
    gint64 dir = some_dir(w);
    const char *name = some_name(w);
    SxNew new_ = new_of(kinds[dice(w, G_N_ELEMENTS(kinds))]);
    SxAttr a;
    Node *d = node_of_dir(w->local, dir), *n = NULL;
    int rc = sx_tree_create(w->f->tree, dir, name, &new_, &a);
    expect(w, "create", rc, child_of(d, name) != NULL ? -EEXIST : 0);
    if (rc != 0)
        return;
    if (d != NULL)
        g_hash_table_insert(d->children, g_strdup(name), n = node_new(a.ino, new_.kind));
    if (new_.kind == SX_KIND_FILE)
        write_to(w, a.ino, n);
}

static void
l_write(World *w)
{
    gint64 dir = some_dir(w);
    const char *name = some_name(w);
    SxAttr a;
    if (sx_tree_lookup(w->f->tree, dir, name, &a) == 0 && a.kind == SX_KIND_FILE)
        write_to(w, a.ino, child_of(node_of_dir(w->local, dir), name));
}

static void
l_remove(World *w)
{
    gint64 dir = some_dir(w);
    const char *name = some_name(w);
    SxAttr before = {0}, a;
    Node *d = node_of_dir(w->local, dir), *n = child_of(d, name);
    bool as_dir = dice(w, 3) == 0;
    sx_tree_lookup(w->f->tree, dir, name, &before);
    int rc = as_dir ? sx_tree_rmdir(w->f->tree, dir, name, 0, &a) : sx_tree_unlink(w->f->tree, dir, name, false, 0, &a);
    int want = n == NULL                                     ? -ENOENT
               : as_dir && n->kind != SX_KIND_DIR            ? -ENOTDIR
               : !as_dir && n->kind == SX_KIND_DIR           ? -EISDIR
               : as_dir && g_hash_table_size(n->children) > 0 ? -ENOTEMPTY
                                                              : 0;
    expect(w, "remove", rc, want);
    if (rc != 0)
        return;
    end_content(w, &before);
    if (n != NULL) {
        g_hash_table_remove(d->children, name);
        node_drop(n);
    }
}

static void
l_link(World *w)
{
    gint64 dir = some_dir(w), to = some_dir(w);
    const char *name = some_name(w), *new_name = some_name(w);
    SxAttr a, r;
    if (sx_tree_lookup(w->f->tree, dir, name, &a) != 0 || a.kind != SX_KIND_FILE)
        return;
    Node *n = child_of(node_of_dir(w->local, dir), name), *d = node_of_dir(w->local, to);
    int rc = sx_tree_link(w->f->tree, a.ino, to, new_name, 0, &r);
    expect(w, "link", rc, child_of(d, new_name) != NULL ? -EEXIST : 0);
    if (rc == 0 && n != NULL) {
        n->nlink++;
        g_hash_table_insert(d->children, g_strdup(new_name), n);
    }
}

static int
predict_rename(const Node *src, const Node *dst, Node *from, Node *to, unsigned flags)
{
    bool exchange = (flags & RENAME_EXCHANGE) != 0;
    if (src == NULL || (dst == NULL && exchange))
        return -ENOENT;
    if (dst != NULL && (flags & RENAME_NOREPLACE) != 0)
        return -EEXIST;
    if (src->kind == SX_KIND_DIR && node_of_dir((Node *)src, to->ino) != NULL)
        return -EINVAL;
    if (dst == NULL || dst == src)
        return 0;
    if (exchange)
        return dst->kind == SX_KIND_DIR && node_of_dir((Node *)dst, from->ino) != NULL ? -EINVAL : 0;
    if ((src->kind == SX_KIND_DIR) != (dst->kind == SX_KIND_DIR))
        return dst->kind == SX_KIND_DIR ? -EISDIR : -ENOTDIR;
    return dst->kind == SX_KIND_DIR && g_hash_table_size(dst->children) > 0 ? -ENOTEMPTY : 0;
}

static void
model_rename(Node *from, const char *name, Node *to, const char *new_name, unsigned flags)
{
    Node *src = child_of(from, name), *dst = child_of(to, new_name);
    if (dst == src)
        return;
    g_hash_table_remove(from->children, name);
    g_hash_table_remove(to->children, new_name);
    g_hash_table_insert(to->children, g_strdup(new_name), src);
    if (flags & RENAME_EXCHANGE)
        g_hash_table_insert(from->children, g_strdup(name), dst);
    else if (dst != NULL)
        node_drop(dst);
}

static void
l_rename(World *w)
{
    static const unsigned all_flags[] = {0, 0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE};
    gint64 from = some_dir(w), to = some_dir(w);
    const char *name = some_name(w), *new_name = some_name(w);
    unsigned flags = all_flags[dice(w, G_N_ELEMENTS(all_flags))];
    SxRenamed r;
    SxAttr victim = {0};
    Node *f = node_of_dir(w->local, from), *t = node_of_dir(w->local, to);
    sx_tree_lookup(w->f->tree, to, new_name, &victim);
    int rc = sx_tree_rename(w->f->tree, from, name, to, new_name, flags, false, 0, &r);
    if (w->local != NULL)
        expect(w, "rename", rc, predict_rename(child_of(f, name), child_of(t, new_name), f, t, flags));
    if (rc != 0)
        return;
    if (r.replaced)
        end_content(w, &victim);
    if (w->local != NULL)
        model_rename(f, name, t, new_name, flags);
}

/* ---- others ---- */

static Obj *
some_obj(World *w, bool dir)
{
    Obj *o = w->server;
    for (int depth = dice(w, 4); depth > 0; depth--) {
        guint n = 0;
        g_autofree gpointer *keys = g_hash_table_get_keys_as_array(o->children, &n);
        Obj *next = n > 0 ? g_hash_table_lookup(o->children, keys[dice(w, (int)n)]) : NULL;
        if (next == NULL || (dir && next->kind != SX_KIND_DIR))
            break;
        o = next;
    }
    return o;
}

static void
end_all(World *w, const Obj *o)
{
    GHashTableIter it;
    gpointer child;
    if (o->kind == SX_KIND_FILE)
        set_alive(w, o->content, false);
    g_hash_table_iter_init(&it, o->children);
    while (g_hash_table_iter_next(&it, NULL, &child))
        end_all(w, child);
}

static void
r_change(World *w)
{
    Obj *o = some_obj(w, false), *d = some_obj(w, true);
    const char *name = some_name(w);
    bool is_free = !g_hash_table_contains(d->children, name);
    switch (dice(w, 4)) {
    case 0:
        if (is_free) {
            Obj *made = obj_new(w, d, name, dice(w, 3) == 0 ? SX_KIND_DIR : SX_KIND_FILE, ++w->next);
            if (made->kind == SX_KIND_FILE)
                set_alive(w, made->content, true);
        }
        break;
    case 1:
        if (o->kind == SX_KIND_FILE) {
            set_alive(w, o->content, false);
            o->content = ++w->next;
            o->version = ++w->next;
            set_alive(w, o->content, true);
        }
        break;
    case 2:
        if (o != w->server) {
            end_all(w, o);
            obj_remove(o);
        }
        break;
    default: {
        bool inside = false;
        for (Obj *up = d; up != NULL; up = up->parent)
            inside |= up == o;
        if (is_free && !inside && o != w->server)
            obj_move(o, d, name);
    }
    }
}

/* ---- the end ---- */

static void
compare_sides(World *w, gint64 ino, const Obj *o, GHashTable *seen)
{
    g_autoptr(GHashTable) entries = entries_of(w, ino);
    guint shared = 0;
    GHashTableIter it;
    gpointer key, value;
    g_hash_table_iter_init(&it, entries);
    while (g_hash_table_iter_next(&it, &key, &value)) {
        const SxAttr *a = value;
        const Obj *c = g_hash_table_lookup(o->children, key);
        if (a->kind == SX_KIND_FILE)
            g_hash_table_add(seen, GINT_TO_POINTER((int)a->size));
        if (c == NULL) {
            if (a->kind != SX_KIND_FIFO && !(a->kind != SX_KIND_DIR && sx_name_is_temporary(key)))
                fail_msg("seed %u: %s is here and not there", w->seed, (char *)key);
            continue;
        }
        shared++;
        if (c->kind != a->kind || (a->kind == SX_KIND_FILE && c->content != a->size))
            fail_msg("seed %u: %s differs", w->seed, (char *)key);
        if (a->kind == SX_KIND_DIR)
            compare_sides(w, a->ino, c, seen);
    }
    if (shared != g_hash_table_size(o->children))
        complain(w, "something is there and not here");
}

static void
settle(World *w)
{
    int n = 0;
    bool changed = true;
    while (changed) {
        if (++n > SETTLE_MAX)
            complain(w, "it does not come to rest");
        changed = w->others && list_all(w);
        for (int k = 0; sync_step(w); k++, changed = true)
            if (k > SETTLE_MAX * 10)
                complain(w, "the work never ends");
    }
    g_autoptr(GHashTable) seen = g_hash_table_new(g_direct_hash, g_direct_equal);
    compare_sides(w, w->f->root, w->server, seen);
    GHashTableIter it;
    gpointer content;
    g_hash_table_iter_init(&it, w->alive);
    while (g_hash_table_iter_next(&it, &content, NULL))
        if (!g_hash_table_contains(seen, content))
            fail_msg("seed %u: content %d is lost", w->seed, GPOINTER_TO_INT(content));
}

static void
local_step(World *w)
{
    static void (*const steps[])(World *) = {l_create, l_create, l_write, l_remove, l_link, l_rename, l_rename};
    steps[dice(w, G_N_ELEMENTS(steps))](w);
    check_world(w);
}

static void
reopen_world(World *w)
{
    reopen(w->f, dice(w, 2) == 0);
    check_world(w);
}

static void
run_world(World *w)
{
    for (int i = 0; i < STEPS; i++) {
        int what = dice(w, 100);
        if (what < 55)
            local_step(w);
        else if (what < 85)
            sync_step(w);
        else if (what < 90 && w->others)
            r_change(w);
        else if (what < 98)
            list_dir(w, some_dir(w));
        else
            reopen_world(w);
        if (w->local != NULL && i % 10 == 0)
            compare_node(w, w->local);
    }
    if (w->local != NULL)
        compare_node(w, w->local);
    settle(w);
    if (w->local != NULL)
        compare_node(w, w->local);
}

static guint32 first_seed;

static void
run_seed(guint32 seed, bool others)
{
    Fix *f = fix_new();
    World w = {.f = f, .seed = seed, .rand = g_rand_new_with_seed(seed), .others = others, .ids = seed % 2 == 0};
    f->caps.stable_ids = w.ids;
    f->caps.set_mtime = f->caps.set_mode = false;
    open_tree(f);
    w.contents = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    w.alive = g_hash_table_new(g_direct_hash, g_direct_equal);
    w.server = obj_new(&w, NULL, "", SX_KIND_DIR, 0);
    w.local = others ? NULL : node_new(f->root, SX_KIND_DIR);
    run_world(&w);
    obj_remove(w.server);
    if (w.local != NULL)
        node_drop(w.local);
    g_hash_table_unref(w.contents);
    g_hash_table_unref(w.alive);
    g_rand_free(w.rand);
    fix_free(f);
}

static void
programs_and_the_provider(void **state)
{
    for (guint32 i = 0; i < ROUNDS; i++)
        run_seed(first_seed + i, false);
}

static void
programs_the_provider_and_others(void **state)
{
    for (guint32 i = 0; i < ROUNDS; i++)
        run_seed(first_seed + i, true);
}

int
main(int argc, char **argv)
{
    first_seed = argc > 1 ? (guint32)strtoul(argv[1], NULL, 10) : (guint32)g_random_int_range(1, 1 << 30);
    print_message("first seed %u\n", first_seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(programs_and_the_provider),
        cmocka_unit_test(programs_the_provider_and_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
