/* The planner against a model of two-sided rows in memory: one random tree, perturbed on both sides, is brought together
 * by applying plans in shuffled order and in part. A failure prints its seed and the fewest steps that still show it. */
#include "transfer/plan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define ROOT 2
#define MAX_ROUNDS 200
#define N_SEEDS 3000

/* ---- the model ---- */

typedef struct Obj {
    gint64 id; /* also the inode */
    SxKind kind;
    gint64 l_parent, r_parent;
    char *l_name, *r_name;
    gint64 gen, r_gen;
    int version, base; /* remote version and what the local content is based on; 0 unknown */
    bool verify;
    int l_mtime, r_mtime;
    char *l_content, *r_content; /* what a reader would see on each side */
} Obj;

typedef struct Model {
    GPtrArray *objs;
    gint64 next_id;
    GRand *rand;
    GString *log;
    char *why; /* the first thing that went wrong */
} Model;

static void
obj_free(gpointer p)
{
    Obj *o = p;
    g_free(o->l_name);
    g_free(o->r_name);
    g_free(o->l_content);
    g_free(o->r_content);
    g_free(o);
}

static Obj *
obj_new(Model *m, SxKind kind)
{
    Obj *o = g_new0(Obj, 1);
    o->id = m->next_id++;
    o->kind = kind;
    o->gen = kind == SX_KIND_FILE ? 1 : 0;
    g_ptr_array_add(m->objs, o);
    return o;
}

static Obj *
by_id(Model *m, gint64 id)
{
    for (guint i = 0; i < m->objs->len; i++) {
        Obj *o = m->objs->pdata[i];
        if (o->id == id)
            return o;
    }
    return NULL;
}

static void
set_name(char **slot, const char *name)
{
    char *copy = g_strdup(name);
    g_free(*slot);
    *slot = copy;
}

static Obj *
at(Model *m, bool remote, gint64 parent, const char *name)
{
    for (guint i = 0; i < m->objs->len; i++) {
        Obj *o = m->objs->pdata[i];
        if ((remote ? o->r_parent : o->l_parent) == parent && strcmp(remote ? o->r_name : o->l_name, name) == 0)
            return o;
    }
    return NULL;
}

static bool
has_children(Model *m, bool remote, gint64 dir)
{
    for (guint i = 0; i < m->objs->len; i++) {
        Obj *o = m->objs->pdata[i];
        if ((remote ? o->r_parent : o->l_parent) == dir)
            return true;
    }
    return false;
}

/* Is `dir` the object itself or below it on that side? */
static bool
inside(Model *m, bool remote, gint64 dir, gint64 top)
{
    for (guint depth = 0; dir != ROOT && dir != 0; depth++) {
        if (dir == top || depth > m->objs->len)
            return true;
        Obj *o = by_id(m, dir);
        dir = o == NULL ? 0 : remote ? o->r_parent : o->l_parent;
    }
    return false;
}

static unsigned
pending_of(const Obj *o)
{
    if (o->l_parent == 0)
        return o->r_parent != 0 ? SX_PENDING_DELETE : 0;
    if (o->r_parent == 0)
        return SX_PENDING_CREATE;
    unsigned p = 0;
    if (o->l_parent != o->r_parent || strcmp(o->l_name, o->r_name) != 0)
        p |= SX_PENDING_MOVE;
    if (o->gen != o->r_gen)
        p |= SX_PENDING_CONTENT;
    if (o->l_mtime != o->r_mtime)
        p |= SX_PENDING_ATTR;
    if (o->verify)
        p |= SX_PENDING_VERIFY;
    return p;
}

static char *
version_text(int v)
{
    return v > 0 ? g_strdup_printf("v%d", v) : g_strdup("");
}

static SxRow *
row_of(Model *m, const Obj *o)
{
    SxRow *r = g_new0(SxRow, 1);
    r->id = r->ino = o->id;
    r->kind = o->kind;
    r->pending = pending_of(o);
    r->l_parent = o->l_parent;
    r->r_parent = o->r_parent;
    r->l_name = g_strdup(o->l_name);
    r->r_name = g_strdup(o->r_name);
    r->gen = o->gen;
    r->r_gen = o->r_gen;
    r->verify = o->verify;
    r->r_version = version_text(o->version);
    r->base_version = version_text(o->base);
    if (o->l_parent != 0) {
        Obj *parent = by_id(m, o->l_parent);
        r->parent_ready = o->l_parent == ROOT || (parent != NULL && parent->r_parent != 0);
        r->parent_chain_clean = true;
        for (gint64 d = o->l_parent; d != ROOT && d != 0;) {
            Obj *a = by_id(m, d);
            if (pending_of(a) & (SX_PENDING_CREATE | SX_PENDING_MOVE | SX_PENDING_DELETE))
                r->parent_chain_clean = false;
            d = a->l_parent;
        }
        Obj *occ = at(m, true, o->l_parent, o->l_name);
        r->occupant = occ != NULL && occ != o ? occ->id : 0;
    }
    r->remote_children = o->kind == SX_KIND_DIR && has_children(m, true, o->id);
    return r;
}

static void
row_free(gpointer p)
{
    SxRow *r = p;
    g_free(r->l_name);
    g_free(r->r_name);
    g_free(r->r_version);
    g_free(r->base_version);
    g_free(r);
}

static bool G_GNUC_PRINTF(2, 3)
wrong(Model *m, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    if (m->why == NULL)
        m->why = g_strdup_vprintf(format, ap);
    va_end(ap);
    return false;
}

/* ---- applying operations; each checks that it is legal on a real provider ---- */

static bool
remote_place_free(Model *m, const Obj *o, gint64 parent, const char *name)
{
    Obj *dir = by_id(m, parent);
    if (parent != ROOT && (dir == NULL || dir->r_parent == 0))
        return wrong(m, "row %d: parent %d is not there remotely", (int)o->id, (int)parent);
    Obj *there = at(m, true, parent, name);
    if (there != NULL)
        return wrong(m, "row %d: %s is taken by row %d", (int)o->id, name, (int)there->id);
    if (inside(m, true, parent, o->id))
        return wrong(m, "row %d: moved into itself", (int)o->id);
    return true;
}

static void
sent(Model *m, Obj *o)
{
    o->r_gen = o->gen;
    set_name(&o->r_content, o->l_content);
    /* Some providers do not tell the version; a listing does later. */
    o->verify = g_rand_int_range(m->rand, 0, 4) == 0;
    o->base = o->version = o->verify ? 0 : g_rand_int_range(m->rand, 1, 1 << 30);
}

static bool
apply_create(Model *m, Obj *o)
{
    if (o->r_parent != 0 || o->l_parent == 0)
        return wrong(m, "row %d: created twice, or not shown", (int)o->id);
    if (!remote_place_free(m, o, o->l_parent, o->l_name))
        return false;
    o->r_parent = o->l_parent;
    set_name(&o->r_name, o->l_name);
    o->r_mtime = o->l_mtime;
    if (o->kind == SX_KIND_FILE)
        sent(m, o);
    return true;
}

static bool
apply_move(Model *m, Obj *o, gint64 parent, const char *name)
{
    if (o->r_parent == 0 || parent == 0)
        return wrong(m, "row %d: nothing to move", (int)o->id);
    if (!remote_place_free(m, o, parent, name))
        return false;
    o->r_parent = parent;
    set_name(&o->r_name, name);
    return true;
}

static bool
apply_remove(Model *m, Obj *o)
{
    if (o->l_parent != 0)
        return wrong(m, "row %d: removed although it is shown", (int)o->id);
    if (o->r_parent == 0 || (o->kind == SX_KIND_DIR && has_children(m, true, o->id)))
        return wrong(m, "row %d: removed twice or not empty", (int)o->id);
    g_ptr_array_remove(m->objs, o);
    return true;
}

/* The remote keeps the name, the local content becomes a new file beside it. */
static bool
apply_conflict(Model *m, Obj *o)
{
    if (o->base == o->version && o->base != 0)
        return wrong(m, "row %d: conflict with the version it is based on", (int)o->id);
    Obj *copy = obj_new(m, SX_KIND_FILE);
    copy->l_parent = o->l_parent;
    copy->l_name = g_strdup_printf("%s-conflict-%d", o->l_name, (int)copy->id);
    copy->l_content = g_strdup(o->l_content);
    set_name(&o->l_content, o->r_content);
    o->r_gen = o->gen;
    o->base = o->version;
    return true;
}

static bool
apply_op(Model *m, gint64 row, SxOpKind kind)
{
    Obj *o = by_id(m, row);
    g_autofree char *away = g_strdup_printf(SX_ASIDE_PREFIX "%d", (int)row);
    if (o == NULL)
        return wrong(m, "row %d: gone before its operation", (int)row);
    g_string_append_printf(m->log, "    %s %d (%s -> %s)\n", sx_op_name(kind), (int)row, o->r_name, o->l_name);
    switch (kind) {
    case SX_OP_MKDIR:
    case SX_OP_SYMLINK:
    case SX_OP_UPLOAD_NEW: return apply_create(m, o);
    case SX_OP_MOVE: return apply_move(m, o, o->l_parent, o->l_name);
    case SX_OP_MOVE_AWAY: return apply_move(m, o, o->r_parent, away);
    case SX_OP_REMOVE: return apply_remove(m, o);
    case SX_OP_CONFLICT: return apply_conflict(m, o);
    case SX_OP_UPLOAD:
        if (o->base != o->version || o->verify)
            return wrong(m, "row %d: uploaded over an unseen version", (int)row);
        sent(m, o);
        return true;
    case SX_OP_ATTR: o->r_mtime = o->l_mtime; return true;
    case SX_OP_VERIFY:
        o->verify = false;
        o->base = o->version = g_rand_int_range(m->rand, 1, 1 << 30);
        return true;
    default: return wrong(m, "row %d: unknown operation", (int)row);
    }
}

/* ---- perturbing ---- */

static const char *const names[] = {"a", "b", "c", "d"};

static const char *
any_name(Model *m)
{
    return names[g_rand_int_range(m->rand, 0, G_N_ELEMENTS(names))];
}

/* A random object with that side; kind NONE: any. */
static Obj *
any_obj(Model *m, bool remote, SxKind kind)
{
    g_autoptr(GPtrArray) fit = g_ptr_array_new();
    for (guint i = 0; i < m->objs->len; i++) {
        Obj *o = m->objs->pdata[i];
        if ((remote ? o->r_parent : o->l_parent) != 0 && (kind == SX_KIND_NONE || o->kind == kind))
            g_ptr_array_add(fit, o);
    }
    return fit->len == 0 ? NULL : fit->pdata[g_rand_int_range(m->rand, 0, (gint)fit->len)];
}

static gint64
any_dir(Model *m, bool remote)
{
    Obj *o = g_rand_int_range(m->rand, 0, 3) == 0 ? NULL : any_obj(m, remote, SX_KIND_DIR);
    return o != NULL ? o->id : ROOT;
}

static void
local_create(Model *m)
{
    gint64 dir = any_dir(m, false);
    const char *name = any_name(m);
    if (at(m, false, dir, name) != NULL)
        return;
    static const SxKind kinds[] = {SX_KIND_FILE, SX_KIND_FILE, SX_KIND_DIR, SX_KIND_SYMLINK};
    Obj *o = obj_new(m, kinds[g_rand_int_range(m->rand, 0, 4)]);
    o->l_parent = dir;
    o->l_name = g_strdup(name);
    o->l_content = g_strdup_printf("L%d.1", (int)o->id);
    g_string_append_printf(m->log, "  local create %d %d/%s\n", (int)o->id, (int)dir, name);
}

static void
local_edit(Model *m)
{
    Obj *o = any_obj(m, false, SX_KIND_FILE);
    if (o == NULL)
        return;
    o->gen++;
    g_free(o->l_content);
    o->l_content = g_strdup_printf("L%d.%d", (int)o->id, (int)o->gen);
    g_string_append_printf(m->log, "  local edit %d\n", (int)o->id);
}

static void
forget_if_nowhere(Model *m, Obj *o)
{
    if (o->l_parent == 0 && o->r_parent == 0)
        g_ptr_array_remove(m->objs, o);
}

static void
swap_remote_sides(Obj *a, Obj *b)
{
    Obj t = *a;
    a->r_parent = b->r_parent, a->r_name = b->r_name, a->version = b->version, a->r_content = b->r_content;
    a->verify = b->verify, a->r_mtime = b->r_mtime, a->base = b->base, a->r_gen = 0;
    b->r_parent = t.r_parent, b->r_name = t.r_name, b->version = t.version, b->r_content = t.r_content;
    b->verify = t.verify, b->r_mtime = t.r_mtime, b->base = t.base, b->r_gen = 0;
}

/* rename(2), with the rule for files that take the place of files: the remote side stays with the name. */
static void
local_rename(Model *m)
{
    Obj *o = any_obj(m, false, SX_KIND_NONE);
    gint64 dir = any_dir(m, false);
    const char *name = any_name(m);
    if (o == NULL || inside(m, false, dir, o->id))
        return;
    Obj *there = at(m, false, dir, name);
    if (there == o)
        return;
    if (there != NULL && ((there->kind == SX_KIND_DIR) != (o->kind == SX_KIND_DIR) || has_children(m, false, there->id)))
        return;
    g_string_append_printf(m->log, "  local rename %d to %d/%s\n", (int)o->id, (int)dir, name);
    o->l_parent = dir;
    set_name(&o->l_name, name);
    if (there == NULL)
        return;
    there->l_parent = 0;
    if (o->kind == SX_KIND_FILE && there->kind == SX_KIND_FILE)
        swap_remote_sides(o, there);
    forget_if_nowhere(m, there);
}

static void
local_remove(Model *m)
{
    Obj *o = any_obj(m, false, SX_KIND_NONE);
    if (o == NULL || has_children(m, false, o->id))
        return;
    g_string_append_printf(m->log, "  local remove %d\n", (int)o->id);
    o->l_parent = 0;
    forget_if_nowhere(m, o);
}

static void
local_touch(Model *m)
{
    Obj *o = any_obj(m, false, SX_KIND_NONE);
    if (o != NULL)
        o->l_mtime++;
}

static void
remote_create(Model *m)
{
    gint64 dir = any_dir(m, true);
    const char *name = any_name(m);
    Obj *parent = by_id(m, dir);
    if (at(m, true, dir, name) != NULL || (dir != ROOT && parent->l_parent == 0))
        return;
    bool taken = at(m, false, dir, name) != NULL;
    Obj *o = obj_new(m, g_rand_boolean(m->rand) ? SX_KIND_FILE : SX_KIND_DIR);
    o->r_parent = o->l_parent = dir;
    o->r_name = g_strdup(name);
    o->l_name = taken ? g_strdup_printf("%s~%d", name, (int)o->id) : g_strdup(name);
    o->r_content = g_strdup_printf("R%d.1", (int)o->id);
    o->l_content = g_strdup(o->r_content);
    o->r_gen = o->gen;
    o->base = o->version = 1;
    g_string_append_printf(m->log, "  remote create %d %d/%s as %s\n", (int)o->id, (int)dir, name, o->l_name);
}

static void
remote_edit(Model *m)
{
    Obj *o = any_obj(m, true, SX_KIND_FILE);
    if (o == NULL || o->l_parent == 0)
        return;
    bool clean = o->gen == o->r_gen;
    o->version = g_rand_int_range(m->rand, 1, 1 << 30);
    g_free(o->r_content);
    o->r_content = g_strdup_printf("R%d.%d", (int)o->id, o->version);
    o->verify = false;
    if (clean) {
        o->base = o->version;
        set_name(&o->l_content, o->r_content);
    }
    g_string_append_printf(m->log, "  remote edit %d\n", (int)o->id);
}

static void
remote_rename(Model *m)
{
    Obj *o = any_obj(m, true, SX_KIND_NONE);
    gint64 dir = any_dir(m, true);
    const char *name = any_name(m);
    if (o == NULL || inside(m, true, dir, o->id) || at(m, true, dir, name) != NULL)
        return;
    Obj *parent = by_id(m, dir);
    bool follows = o->l_parent == o->r_parent && g_strcmp0(o->l_name, o->r_name) == 0 && !inside(m, false, dir, o->id) &&
                   (dir == ROOT || parent->l_parent != 0) && at(m, false, dir, name) == NULL;
    if (dir != ROOT && parent->l_parent == 0)
        return;
    g_string_append_printf(m->log, "  remote rename %d to %d/%s\n", (int)o->id, (int)dir, name);
    o->r_parent = dir;
    set_name(&o->r_name, name);
    if (follows) {
        o->l_parent = dir;
        set_name(&o->l_name, name);
    }
}

static void
remote_remove(Model *m)
{
    Obj *o = any_obj(m, true, SX_KIND_NONE);
    if (o == NULL || has_children(m, true, o->id))
        return;
    g_string_append_printf(m->log, "  remote remove %d\n", (int)o->id);
    bool clean = pending_of(o) == 0 && !has_children(m, false, o->id);
    o->r_parent = 0;
    o->r_gen = o->base = o->version = 0;
    o->verify = false;
    if (clean)
        o->l_parent = 0;
    forget_if_nowhere(m, o);
}

static void
settle(Model *m)
{
    for (guint i = 0; i < m->objs->len; i++) {
        Obj *o = m->objs->pdata[i];
        if (o->l_parent == 0)
            continue;
        o->r_parent = o->l_parent;
        set_name(&o->r_name, o->l_name);
        set_name(&o->r_content, o->l_content);
        o->r_gen = o->gen;
        o->base = o->version = 1;
    }
}

static void
perturb(Model *m, bool remote_too)
{
    static void (*const local[])(Model *) = {local_create, local_edit,   local_rename, local_rename,
                                             local_rename, local_remove, local_touch};
    static void (*const remote[])(Model *) = {remote_create, remote_edit, remote_rename, remote_rename, remote_remove};
    if (remote_too && g_rand_int_range(m->rand, 0, 3) == 0)
        remote[g_rand_int_range(m->rand, 0, G_N_ELEMENTS(remote))](m);
    else
        local[g_rand_int_range(m->rand, 0, G_N_ELEMENTS(local))](m);
}

/* ---- the property ---- */

static void
shuffle(Model *m, GPtrArray *a)
{
    for (guint i = a->len; i > 1; i--) {
        guint j = (guint)g_rand_int_range(m->rand, 0, (gint)i);
        gpointer t = a->pdata[i - 1];
        a->pdata[i - 1] = a->pdata[j];
        a->pdata[j] = t;
    }
}

static GPtrArray *
pending_rows(Model *m)
{
    GPtrArray *rows = g_ptr_array_new_with_free_func(row_free);
    for (guint i = 0; i < m->objs->len; i++)
        if (pending_of(m->objs->pdata[i]) != 0)
            g_ptr_array_add(rows, row_of(m, m->objs->pdata[i]));
    shuffle(m, rows);
    return rows;
}

static void
drop_some(Model *m, GPtrArray *rows)
{
    for (guint i = rows->len; i-- > 0;)
        if (g_rand_int_range(m->rand, 0, 4) == 0)
            g_ptr_array_remove_index(rows, i);
}

/* One round: plan, and apply a random part in random order. *ret_left: was there something to do? */
static bool
one_round(Model *m, guint round, bool *ret_left)
{
    g_autoptr(GPtrArray) rows = pending_rows(m);
    *ret_left = rows->len > 0;
    bool whole = round % 2 == 0;
    if (!whole)
        drop_some(m, rows);
    if (rows->len == 0)
        return true;
    g_autofree SxOp *ops = g_new(SxOp, rows->len);
    sx_plan((const SxRow *const *)rows->pdata, rows->len, ops);
    g_autoptr(GPtrArray) enabled = g_ptr_array_new();
    for (guint i = 0; i < rows->len; i++)
        if (ops[i].kind != SX_OP_WAIT)
            g_ptr_array_add(enabled, &ops[i]);
    if (enabled->len == 0 && whole)
        return wrong(m, "deadlock: %u rows wait", rows->len);
    shuffle(m, enabled);
    guint n = enabled->len == 0 ? 0 : 1 + (guint)g_rand_int_range(m->rand, 0, (gint)enabled->len);
    for (guint i = 0; i < n; i++) {
        const SxOp *op = enabled->pdata[i];
        const SxRow *row = rows->pdata[op->row];
        if (!apply_op(m, row->id, op->kind))
            return false;
    }
    return true;
}

/* Contents that may not be lost: what programs see now, and what the remote has and nobody here deleted. */
static GHashTable *
contents(Model *m, bool remote_too)
{
    GHashTable *set = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (guint i = 0; i < m->objs->len; i++) {
        Obj *o = m->objs->pdata[i];
        if (o->kind != SX_KIND_FILE || o->l_parent == 0)
            continue;
        g_hash_table_add(set, g_strdup(o->l_content));
        if (remote_too && o->r_parent != 0 && o->version != o->base)
            g_hash_table_add(set, g_strdup(o->r_content));
    }
    return set;
}

static bool
check_end(Model *m, GHashTable *kept)
{
    GHashTableIter iter;
    gpointer key;
    g_hash_table_iter_init(&iter, kept);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        bool found = false;
        for (guint i = 0; i < m->objs->len && !found; i++) {
            Obj *o = m->objs->pdata[i];
            found = o->kind == SX_KIND_FILE && strcmp(o->r_content, key) == 0 && strcmp(o->l_content, key) == 0;
        }
        if (!found)
            return wrong(m, "content %s is lost", (char *)key);
    }
    for (guint i = 0; i < m->objs->len; i++) {
        Obj *o = m->objs->pdata[i];
        if (o->kind == SX_KIND_FILE && strcmp(o->l_content, o->r_content) != 0)
            return wrong(m, "row %d differs at the end", (int)o->id);
        if (g_str_has_prefix(o->r_name, SX_ASIDE_PREFIX))
            return wrong(m, "row %d still has its temporary name", (int)o->id);
    }
    return true;
}

static void
model_clear(Model *m)
{
    g_ptr_array_unref(m->objs);
    g_string_free(m->log, TRUE);
    g_free(m->why);
}

/* Runs one case; each step has random numbers of its own, so that leaving one out does not change the others. */
static bool
run_case(guint32 seed, const bool *skip, guint n_base, guint n_steps, char **ret_story)
{
    Model m = {.objs = g_ptr_array_new_with_free_func(obj_free), .next_id = ROOT + 1, .log = g_string_new(NULL)};
    for (guint i = 0; i < n_base + n_steps; i++) {
        guint32 key[] = {seed, i};
        m.rand = g_rand_new_with_seed_array(key, 2);
        if (i == n_base) {
            settle(&m);
            g_string_append(m.log, "  -- both sides equal --\n");
        }
        if (!skip[i] && i < n_base)
            local_create(&m);
        else if (!skip[i])
            perturb(&m, true);
        g_rand_free(m.rand);
    }
    m.rand = g_rand_new_with_seed(seed);
    g_autoptr(GHashTable) kept = contents(&m, true);
    bool left = true;
    bool ok = true;
    guint round = 0;
    for (; ok && left && round < MAX_ROUNDS; round++) {
        g_string_append_printf(m.log, "  round %u\n", round);
        ok = one_round(&m, round, &left);
    }
    if (ok && left)
        ok = wrong(&m, "does not end within %d rounds", MAX_ROUNDS);
    ok = ok && check_end(&m, kept);
    if (!ok)
        *ret_story = g_strdup_printf("seed %u: %s\n%s", seed, m.why, m.log->str);
    g_rand_free(m.rand);
    model_clear(&m);
    return ok;
}

/* Leaves out every step without which it still fails. */
static char *
minimise(guint32 seed, guint n_base, guint n_steps, char *story)
{
    g_autofree bool *skip = g_new0(bool, n_base + n_steps);
    for (bool smaller = true; smaller;) {
        smaller = false;
        for (guint i = 0; i < n_base + n_steps; i++) {
            if (skip[i])
                continue;
            char *shorter = NULL;
            skip[i] = true;
            if (run_case(seed, skip, n_base, n_steps, &shorter)) {
                skip[i] = false;
                continue;
            }
            g_free(story);
            story = shorter;
            smaller = true;
        }
    }
    return story;
}

static void
any_two_sides_come_together(void **state)
{
    const char *more = g_getenv("SX_PLAN_SEEDS");
    guint n = more != NULL ? (guint)atoi(more) : N_SEEDS;
    for (guint32 seed = 1; seed <= n; seed++) {
        guint n_base = 4 + seed % 12, n_steps = 2 + seed % 23;
        g_autofree bool *skip = g_new0(bool, n_base + n_steps);
        char *story = NULL;
        if (run_case(seed, skip, n_base, n_steps, &story))
            continue;
        story = minimise(seed, n_base, n_steps, story);
        fprintf(stderr, "%s", story);
        g_free(story);
        fail();
    }
}

/* ---- named cases ---- */


static void
case_init(Model *m)
{
    *m = (Model){.objs = g_ptr_array_new_with_free_func(obj_free), .next_id = ROOT + 1, .log = g_string_new(NULL)};
    m->rand = g_rand_new_with_seed(1);
}

static void
case_clear(Model *m)
{
    g_rand_free(m->rand);
    model_clear(m);
}

static Obj *
both(Model *m, SxKind kind, gint64 r_parent, const char *r_name, gint64 l_parent, const char *l_name)
{
    Obj *o = obj_new(m, kind);
    o->r_parent = r_parent;
    o->r_name = g_strdup(r_name);
    o->l_parent = l_parent;
    o->l_name = g_strdup(l_name);
    o->r_gen = o->gen;
    o->base = o->version = 1;
    o->l_content = g_strdup_printf("c%d", (int)o->id);
    o->r_content = g_strdup(o->l_content);
    return o;
}

/* Runs to the end with everything applied in each round; returns how many operations it took, and how many stepped aside. */
static guint
run_all(Model *m, guint *ret_away)
{
    guint n = 0, away = 0;
    for (guint round = 0; round < MAX_ROUNDS; round++) {
        g_autoptr(GPtrArray) rows = pending_rows(m);
        if (rows->len == 0)
            break;
        g_autofree SxOp *ops = g_new(SxOp, rows->len);
        sx_plan((const SxRow *const *)rows->pdata, rows->len, ops);
        guint before = n;
        for (guint i = 0; i < rows->len; i++) {
            if (ops[i].kind == SX_OP_WAIT)
                continue;
            if (!apply_op(m, ((SxRow *)rows->pdata[i])->id, ops[i].kind))
                fail_msg("%s", m->why);
            n++;
            away += ops[i].kind == SX_OP_MOVE_AWAY;
        }
        assert_true(n > before);
    }
    *ret_away = away;
    return n;
}

static void
a_swap_takes_three_moves(void **state)
{
    Model m;
    guint away;
    case_init(&m);
    both(&m, SX_KIND_FILE, ROOT, "a", ROOT, "b");
    both(&m, SX_KIND_DIR, ROOT, "b", ROOT, "a");
    assert_int_equal(run_all(&m, &away), 3);
    assert_int_equal(away, 1);
    case_clear(&m);
}

static void
a_rotation_steps_aside_once(void **state)
{
    Model m;
    guint away;
    case_init(&m);
    for (int i = 0; i < 9; i++) {
        g_autofree char *from = g_strdup_printf("f%d", i), *to = g_strdup_printf("f%d", (i + 1) % 9);
        both(&m, SX_KIND_FILE, ROOT, from, ROOT, to);
    }
    assert_int_equal(run_all(&m, &away), 10);
    assert_int_equal(away, 1);
    case_clear(&m);
}

/* Log rotation: no circle, so everybody only waits for the next. */
static void
a_chain_of_names_only_waits(void **state)
{
    Model m;
    guint away;
    case_init(&m);
    for (int i = 0; i < 9; i++) {
        g_autofree char *from = g_strdup_printf("log.%d", i), *to = g_strdup_printf("log.%d", i + 1);
        both(&m, SX_KIND_FILE, ROOT, from, ROOT, to);
    }
    assert_int_equal(run_all(&m, &away), 9);
    assert_int_equal(away, 0);
    case_clear(&m);
}

/* mv x y/x2; mv y x */
static void
a_directory_moves_into_the_one_that_takes_its_name(void **state)
{
    Model m;
    guint away;
    case_init(&m);
    Obj *x = both(&m, SX_KIND_DIR, ROOT, "x", 0, "x2");
    Obj *y = both(&m, SX_KIND_DIR, ROOT, "y", ROOT, "x");
    x->l_parent = y->id;
    assert_int_equal(run_all(&m, &away), 3);
    assert_int_equal(away, 1);
    case_clear(&m);
}

/* The same with a directory between that has nothing to do. */
static void
the_way_up_may_lead_through_quiet_directories(void **state)
{
    Model m;
    guint away;
    case_init(&m);
    Obj *x = both(&m, SX_KIND_DIR, ROOT, "x", 0, "x2");
    Obj *y = both(&m, SX_KIND_DIR, ROOT, "y", ROOT, "x");
    Obj *sub = both(&m, SX_KIND_DIR, y->id, "sub", y->id, "sub");
    x->l_parent = sub->id;
    run_all(&m, &away);
    assert_int_equal(away, 1);
    case_clear(&m);
}

/* mkdir new; mv x/c new/; rmdir x; mv new x */
static void
a_child_leaves_a_deleted_directory_for_its_successor(void **state)
{
    Model m;
    guint away;
    case_init(&m);
    Obj *x = both(&m, SX_KIND_DIR, ROOT, "x", 0, NULL);
    Obj *child = both(&m, SX_KIND_FILE, x->id, "c", 0, "c");
    Obj *successor = obj_new(&m, SX_KIND_DIR);
    successor->l_parent = ROOT;
    successor->l_name = g_strdup("x");
    child->l_parent = successor->id;
    assert_int_equal(run_all(&m, &away), 4);
    assert_int_equal(away, 1);
    case_clear(&m);
}

/* rm -r x; mkdir x: the old one goes first, nothing steps aside. */
static void
a_new_directory_waits_for_the_deleted_one(void **state)
{
    Model m;
    guint away;
    case_init(&m);
    Obj *x = both(&m, SX_KIND_DIR, ROOT, "x", 0, NULL);
    Obj *sub = both(&m, SX_KIND_DIR, x->id, "sub", 0, NULL);
    both(&m, SX_KIND_FILE, sub->id, "f", 0, NULL);
    Obj *successor = obj_new(&m, SX_KIND_DIR);
    successor->l_parent = ROOT;
    successor->l_name = g_strdup("x");
    assert_int_equal(run_all(&m, &away), 4);
    assert_int_equal(away, 0);
    case_clear(&m);
}

/* Opposite moves of a directory and its descendant on the two sides: here x into y, there y into x. */
static void
opposite_moves_end_where_the_local_side_says(void **state)
{
    Model m;
    guint away;
    case_init(&m);
    Obj *x = both(&m, SX_KIND_DIR, ROOT, "x", 0, "x");
    Obj *y = both(&m, SX_KIND_DIR, x->id, "y", ROOT, "y");
    x->l_parent = y->id;
    assert_int_equal(run_all(&m, &away), 2);
    assert_int_equal(away, 0);
    case_clear(&m);
}

static SxOpKind
plan_one(Model *m, Obj *o, unsigned pending)
{
    SxRow *row = row_of(m, o);
    row->pending = pending;
    SxOp op;
    sx_plan((const SxRow *const *)&row, 1, &op);
    row_free(row);
    return op.kind;
}

static void
rules_for_one_row(void **state)
{
    Model m;
    case_init(&m);
    Obj *f = both(&m, SX_KIND_FILE, ROOT, "f", ROOT, "f");
    f->gen = 2;
    assert_int_equal(plan_one(&m, f, SX_PENDING_CONTENT), SX_OP_UPLOAD);
    assert_int_equal(plan_one(&m, f, SX_PENDING_CONTENT | SX_PENDING_ATTR), SX_OP_UPLOAD);
    assert_int_equal(plan_one(&m, f, SX_PENDING_ATTR), SX_OP_ATTR);
    assert_int_equal(plan_one(&m, f, SX_PENDING_VERIFY | SX_PENDING_ATTR), SX_OP_VERIFY);
    assert_int_equal(plan_one(&m, f, SX_PENDING_VERIFY | SX_PENDING_CONTENT), SX_OP_VERIFY);
    f->version = 7;
    assert_int_equal(plan_one(&m, f, SX_PENDING_CONTENT), SX_OP_CONFLICT);
    assert_int_equal(plan_one(&m, f, SX_PENDING_MOVE | SX_PENDING_CONTENT), SX_OP_MOVE);
    assert_int_equal(plan_one(&m, f, 0), SX_OP_WAIT);
    Obj *pipe = obj_new(&m, SX_KIND_FIFO);
    pipe->l_parent = ROOT;
    pipe->l_name = g_strdup("pipe");
    assert_int_equal(plan_one(&m, pipe, SX_PENDING_CREATE), SX_OP_WAIT);
    assert_int_equal(plan_one(&m, pipe, 0), SX_OP_WAIT);
    case_clear(&m);
}

static void
waiting_names_its_blocker(void **state)
{
    Model m;
    case_init(&m);
    Obj *dir = obj_new(&m, SX_KIND_DIR);
    dir->l_parent = ROOT;
    dir->l_name = g_strdup("dir");
    Obj *file = obj_new(&m, SX_KIND_FILE);
    file->l_parent = dir->id;
    file->l_name = g_strdup("f");
    SxRow *rows[] = {row_of(&m, file), row_of(&m, dir)};
    SxOp ops[2];
    sx_plan((const SxRow *const *)rows, 2, ops);
    assert_int_equal(ops[0].kind, SX_OP_WAIT);
    assert_int_equal(ops[0].blocker, dir->id);
    assert_int_equal(ops[1].kind, SX_OP_MKDIR);
    row_free(rows[0]);
    row_free(rows[1]);
    case_clear(&m);
}

static void
back_off_grows_and_is_bounded(void **state)
{
    for (int tries = 0; tries < 70; tries++)
        for (guint64 r = 0; r < 100; r++) {
            gint64 ms = sx_plan_backoff_ms(tries, r * G_GUINT64_CONSTANT(0x9e3779b97f4a7c15));
            assert_true(ms > 0 && ms <= 300000);
            assert_true(tries > 9 || ms <= 500 << tries);
        }
    assert_true(sx_plan_backoff_ms(63, 299999) == 300000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_two_sides_come_together),
        cmocka_unit_test(a_swap_takes_three_moves),
        cmocka_unit_test(a_rotation_steps_aside_once),
        cmocka_unit_test(a_chain_of_names_only_waits),
        cmocka_unit_test(a_directory_moves_into_the_one_that_takes_its_name),
        cmocka_unit_test(the_way_up_may_lead_through_quiet_directories),
        cmocka_unit_test(a_child_leaves_a_deleted_directory_for_its_successor),
        cmocka_unit_test(a_new_directory_waits_for_the_deleted_one),
        cmocka_unit_test(opposite_moves_end_where_the_local_side_says),
        cmocka_unit_test(rules_for_one_row),
        cmocka_unit_test(waiting_names_its_blocker),
        cmocka_unit_test(back_off_grows_and_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
