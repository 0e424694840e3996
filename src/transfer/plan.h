/* The planner: a pure function. No clock, no I/O, no random; the same rows give the same operations.
 *
 * Given rows with pending work and the facts about their surroundings (SxRow), says for each what to do now, or what it
 * waits for. Rules (checked by the property test tests/unit/test_plan.c in the manner of CanopyCheck):
 *  - one operation a row at a time: namespace first (create, move), then content, then attributes
 *  - a create needs its parent to exist remotely; a move needs its target's ancestors to have no namespace work pending, so
 *    a directory can never be moved into itself remotely and the topmost work always can run
 *  - a name that another row still holds remotely is waited for; when that row cannot run itself (it waits for us, or
 *    its own target is blocked: a cycle), it is moved to a temporary name first
 *  - a directory is removed when no row is below it remotely
 * The plan ends: applying any enabled subset in any order and planning again reaches equal sides. */
#pragma once

#include "tree/tree.h"

typedef enum SxOpKind {
    SX_OP_WAIT,      /* blocked by another row */
    SX_OP_MKDIR, SX_OP_SYMLINK,
    SX_OP_UPLOAD_NEW,/* first upload, must be absent there */
    SX_OP_UPLOAD,    /* over base_version */
    SX_OP_CONFLICT,  /* dirty, and the remote has another version than the one we based on: resolve */
    SX_OP_MOVE,      /* from (r_parent, r_name) to (l_parent, l_name) */
    SX_OP_MOVE_AWAY, /* to a name of its own beside it: SX_ASIDE_PREFIX + row id */
    SX_OP_SETTLE,    /* was it put at (t_parent, t_name) by an operation of whose end we never heard? */
    SX_OP_REMOVE,
    SX_OP_ATTR,
    SX_OP_VERIFY,    /* list the directory to learn the version */
} SxOpKind;


/* Unlike our other temporary names listings show it, so that a file that stepped aside is found again after a crash, and
 * never can be lost from sight. */
#define SX_ASIDE_PREFIX ".syncox-aside-"

typedef struct SxOp {
    SxOpKind kind;
    guint row;       /* index into the rows */
    gint64 blocker;  /* SX_OP_WAIT: the row waited for, 0: the parent */
} SxOp;

/* ret_ops has n entries, one a row, in the rows' order. */
void sx_plan(const SxRow *const *rows, guint n, SxOp *ret_ops);
const char *sx_op_name(SxOpKind kind);
/* Back-off before try number `tries` (1 is the first retry): full jitter over 0.5 s * 2^tries, at most 5 min. Pure. */
gint64 sx_plan_backoff_ms(int tries, guint64 random);
