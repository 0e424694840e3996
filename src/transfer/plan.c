#include "transfer/plan.h"

#include <string.h>

#define SX_BACKOFF_FIRST_MS 500
#define SX_BACKOFF_MAX_MS (5 * 60 * 1000)

/* What keeps a row from its namespace operation. */
typedef enum Wait { WAIT_NONE, WAIT_PARENT, WAIT_CHAIN, WAIT_OCCUPANT, WAIT_CHILDREN, WAIT_LOCAL } Wait;

/* State of the search for a row that can make progress without anybody being moved away. */
typedef enum Mark { MARK_NEW, MARK_OPEN, MARK_GOOD, MARK_BAD } Mark;

typedef struct Node {
    SxOpKind op;
    Wait wait;
    Mark mark;
    guint round;      /* the mark counts for this round only */
    gint first_child; /* the rows that have this directory as remote parent, a chain through next_child; -1 ends it */
    gint next_child;
} Node;

typedef struct Plan {
    const SxRow *const *rows;
    guint n;
    Node *nodes;
    GHashTable *by_row; /* row id -> index + 1 */
    GHashTable *by_dir; /* inode of a directory -> index + 1 */
    guint round;
} Plan;

static gint
find(GHashTable *table, gint64 key)
{
    return GPOINTER_TO_INT(g_hash_table_lookup(table, &key)) - 1;
}

/* Content and attributes of a row whose two sides have the same place. */
static SxOpKind
content_op(const SxRow *r)
{
    /* As long as the version of our last upload is unknown, there is nothing to base the next one on. */
    if (r->pending & SX_PENDING_VERIFY)
        return SX_OP_VERIFY;
    if ((r->pending & SX_PENDING_CONTENT) && r->kind == SX_KIND_FILE) {
        bool based = r->base_version != NULL && r->r_version != NULL && strcmp(r->base_version, r->r_version) == 0;
        return based ? SX_OP_UPLOAD : SX_OP_CONFLICT;
    }
    return r->pending & SX_PENDING_ATTR ? SX_OP_ATTR : SX_OP_WAIT;
}

static SxOpKind
create_op(SxKind kind)
{
    switch (kind) {
    case SX_KIND_DIR: return SX_OP_MKDIR;
    case SX_KIND_SYMLINK: return SX_OP_SYMLINK;
    case SX_KIND_FILE: return SX_OP_UPLOAD_NEW;
    default: return SX_OP_WAIT; /* devices, sockets: no provider holds them */
    }
}

/* The operation that set the target can simply be tried again: it finds what the first try did. */
static bool
goes_to_target(const SxRow *r)
{
    return (r->pending & (SX_PENDING_CREATE | SX_PENDING_MOVE)) != 0 && r->l_parent == r->t_parent && strcmp(r->l_name, r->t_name) == 0;
}

/* What the row would do, and what it waits for, looking at its own facts only. */
static void
classify(const SxRow *r, Node *node)
{
    node->wait = WAIT_NONE;
    if (r->t_parent != 0 && !goes_to_target(r)) {
        node->op = SX_OP_SETTLE;
        return;
    }
    if (r->pending & SX_PENDING_DELETE) {
        node->op = SX_OP_REMOVE;
        if (r->kind == SX_KIND_DIR && r->remote_children)
            node->wait = WAIT_CHILDREN;
    } else if (r->pending & SX_PENDING_CREATE) {
        node->op = create_op(r->kind);
        node->wait = !r->parent_ready ? WAIT_PARENT : r->occupant != 0 ? WAIT_OCCUPANT : WAIT_NONE;
    } else if (r->pending & SX_PENDING_MOVE) {
        node->op = SX_OP_MOVE;
        node->wait = !r->parent_ready         ? WAIT_PARENT
                     : !r->parent_chain_clean ? WAIT_CHAIN
                     : r->occupant != 0       ? WAIT_OCCUPANT
                                              : WAIT_NONE;
    } else {
        node->op = content_op(r);
    }
    if (node->op == SX_OP_WAIT)
        node->wait = WAIT_LOCAL;
}

static bool good(Plan *p, gint i);

static bool
children_good(Plan *p, gint i)
{
    for (gint c = p->nodes[i].first_child; c >= 0; c = p->nodes[c].next_child)
        if (!good(p, c))
            return false;
    return true;
}

/* Can row i go on at some time if everybody only waits? A row that is not among ours is not due yet or parked: it is
 * waited for. When the way up to the ancestor that blocks is not known, the answer is no: one move more, never a
 * deadlock. Recursion is as deep as the longest chain of waiting rows, which the batch limits. */
static bool
good(Plan *p, gint i)
{
    Node *node = &p->nodes[i];
    if (node->round == p->round && node->mark != MARK_NEW)
        return node->mark == MARK_GOOD; /* still open: the rows wait for each other */
    node->round = p->round;
    node->mark = MARK_OPEN;
    bool ok = false;
    gint next;
    switch (node->wait) {
    case WAIT_NONE:
    case WAIT_LOCAL:
        ok = true;
        break;
    case WAIT_PARENT:
        next = find(p->by_dir, p->rows[i]->l_parent);
        ok = next < 0 || good(p, next);
        break;
    case WAIT_CHAIN:
        next = find(p->by_dir, p->rows[i]->l_parent);
        ok = next >= 0 && p->nodes[next].op != SX_OP_WAIT && good(p, next);
        break;
    case WAIT_OCCUPANT:
        next = find(p->by_row, p->rows[i]->occupant);
        ok = next < 0 || good(p, next);
        break;
    case WAIT_CHILDREN:
        ok = children_good(p, i);
        break;
    }
    node->mark = ok ? MARK_GOOD : MARK_BAD;
    return ok;
}

static void
plan_index(Plan *p)
{
    p->by_row = g_hash_table_new(g_int64_hash, g_int64_equal);
    p->by_dir = g_hash_table_new(g_int64_hash, g_int64_equal);
    for (guint i = 0; i < p->n; i++) {
        const SxRow *r = p->rows[i];
        g_hash_table_insert(p->by_row, (gpointer)&r->id, GINT_TO_POINTER((gint)i + 1));
        if (r->kind == SX_KIND_DIR)
            g_hash_table_insert(p->by_dir, (gpointer)&r->ino, GINT_TO_POINTER((gint)i + 1));
        p->nodes[i].first_child = p->nodes[i].next_child = -1;
        classify(r, &p->nodes[i]);
    }
    for (guint i = p->n; i-- > 0;) {
        gint dir = p->rows[i]->r_parent != 0 ? find(p->by_dir, p->rows[i]->r_parent) : -1;
        if (dir < 0)
            continue;
        p->nodes[i].next_child = p->nodes[dir].first_child;
        p->nodes[dir].first_child = (gint)i;
    }
}

static bool
is_away(const SxRow *r)
{
    return r->r_name != NULL && g_str_has_prefix(r->r_name, SX_ASIDE_PREFIX);
}

/* Row i lacks nothing but its name, which row b holds. If b waits in a circle with us, it steps aside; then all who
 * waited for that place can go on, so the marks are void. Every circle has such an edge: waiting for parents goes up the
 * local tree and waiting for children goes down the remote one, and neither alone can close. */
static void
break_circle(Plan *p, gint i)
{
    gint b = find(p->by_row, p->rows[i]->occupant);
    if (b < 0 || p->nodes[b].wait == WAIT_NONE || is_away(p->rows[b]))
        return;
    p->round++;
    p->nodes[i].round = p->round;
    p->nodes[i].mark = MARK_OPEN;
    if (good(p, b))
        return;
    p->nodes[b].op = SX_OP_MOVE_AWAY;
    p->nodes[b].wait = WAIT_NONE;
}

static gint64
blocker_of(const Plan *p, guint i)
{
    gint k = -1;
    switch (p->nodes[i].wait) {
    case WAIT_OCCUPANT: return p->rows[i]->occupant;
    case WAIT_PARENT:
    case WAIT_CHAIN: k = find(p->by_dir, p->rows[i]->l_parent); break;
    case WAIT_CHILDREN: k = p->nodes[i].first_child; break;
    default: break;
    }
    return k >= 0 ? p->rows[k]->id : 0;
}

void
sx_plan(const SxRow *const *rows, guint n, SxOp *ret_ops)
{
    Plan p = {.rows = rows, .n = n, .nodes = g_new0(Node, n)};
    plan_index(&p);
    for (guint i = 0; i < n; i++)
        if (p.nodes[i].wait == WAIT_OCCUPANT)
            break_circle(&p, (gint)i);
    for (guint i = 0; i < n; i++) {
        bool waits = p.nodes[i].wait != WAIT_NONE;
        ret_ops[i] = (SxOp){.kind = waits ? SX_OP_WAIT : p.nodes[i].op, .row = i, .blocker = waits ? blocker_of(&p, i) : 0};
    }
    g_hash_table_unref(p.by_row);
    g_hash_table_unref(p.by_dir);
    g_free(p.nodes);
}

const char *
sx_op_name(SxOpKind kind)
{
    static const char *const names[] = {
        [SX_OP_WAIT] = "wait",         [SX_OP_MKDIR] = "mkdir",   [SX_OP_SYMLINK] = "symlink",
        [SX_OP_UPLOAD_NEW] = "upload", [SX_OP_UPLOAD] = "upload", [SX_OP_CONFLICT] = "conflict",
        [SX_OP_MOVE] = "move",         [SX_OP_MOVE_AWAY] = "move", [SX_OP_REMOVE] = "delete",
        [SX_OP_SETTLE] = "settle",
        [SX_OP_ATTR] = "attr",         [SX_OP_VERIFY] = "verify",
    };
    return names[kind];
}

gint64
sx_plan_backoff_ms(int tries, guint64 random)
{
    guint64 cap = SX_BACKOFF_MAX_MS;
    if (tries < 10)
        cap = MIN(cap, (guint64)SX_BACKOFF_FIRST_MS << MAX(tries, 0));
    return (gint64)(random % cap) + 1;
}
