/* Rows in memory and in the table. */
#include "tree/tree_i.h"

#include <string.h>

void
sx_row_free(SxRow *row)
{
    if (row == NULL)
        return;
    char *texts[] = {row->l_name, row->r_name, row->r_id, row->r_version, row->r_hash, row->base_version,
                     row->target, row->err_text, row->t_name, row->intent, row->resume};
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++)
        g_free(texts[i]);
    g_free(row);
}

SxRow *
sx_row_copy(const SxRow *row)
{
    SxRow *copy = g_new(SxRow, 1);
    *copy = *row;
    char **texts[] = {&copy->l_name, &copy->r_name, &copy->r_id, &copy->r_version, &copy->r_hash, &copy->base_version,
                      &copy->target, &copy->err_text, &copy->t_name, &copy->intent, &copy->resume};
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++)
        *texts[i] = g_strdup(*texts[i]);
    return copy;
}

SxRow *
sx_tree_row_read(SxStmt *s)
{
    SxRow *row = g_new0(SxRow, 1);
    int c = 0;
    row->id = sx_db_int(s, c++);
    row->ino = sx_db_int(s, c++);
    row->provider = (int)sx_db_int(s, c++);
    row->kind = (SxKind)sx_db_int(s, c++);
    row->pending = (unsigned)sx_db_int(s, c++);
    row->l_parent = sx_db_int(s, c++);
    row->l_name = g_strdup(sx_db_text(s, c++));
    row->r_parent = sx_db_int(s, c++);
    row->r_name = g_strdup(sx_db_text(s, c++));
    row->r_id = g_strdup(sx_db_text(s, c++));
    row->r_version = g_strdup(sx_db_text(s, c++));
    row->r_hash = g_strdup(sx_db_text(s, c++));
    row->r_size = sx_db_int(s, c++);
    row->r_mtime_ns = sx_db_is_null(s, c) ? SX_TIME_UNKNOWN : sx_db_int(s, c);
    c++;
    row->r_mode = (int)sx_db_int(s, c++);
    row->r_gen = sx_db_int(s, c++);
    row->base_version = g_strdup(sx_db_text(s, c++));
    row->due_real_ms = sx_db_int(s, c++);
    row->parked = sx_db_int(s, c++) != 0;
    row->tries = (int)sx_db_int(s, c++);
    const char *code = sx_db_text(s, c++);
    row->err = SX_N_ERRORS;
    if (code != NULL && !sx_error_code_from_name(code, &row->err))
        row->err = SX_ERR_FAILED;
    row->err_text = g_strdup(sx_db_text(s, c++));
    row->verify = sx_db_int(s, c++) != 0;
    row->sent_real_ms = sx_db_int(s, c++);
    row->t_parent = sx_db_int(s, c++);
    row->t_name = g_strdup(sx_db_text(s, c++));
    row->intent = g_strdup(sx_db_text(s, c++));
    row->resume = g_strdup(sx_db_text(s, c++));
    row->resume_gen = sx_db_int(s, c++);
    row->gen = sx_db_int(s, c++);
    row->cver = sx_db_int(s, c++);
    row->cached = (int)sx_db_int(s, c++);
    row->writing = sx_db_int(s, c++) != 0;
    row->size = sx_db_int(s, c++);
    row->mtime_ns = sx_db_int(s, c++);
    row->mode = (guint32)sx_db_int(s, c++);
    row->target = g_strdup(sx_db_text(s, c++));
    return row;
}

static SxRow *
first_row(SxStmt *stmt)
{
    return sx_db_next(stmt) ? sx_tree_row_read(stmt) : NULL;
}

SxRow *
sx_tree_row_load(SxConn *conn, gint64 id)
{
    g_autoptr(SxStmt) s = sx_db_query(conn, SX_ROW_SELECT "WHERE l.id=?1", SX_INT(id));
    return first_row(s);
}

SxRow *
sx_tree_row_local(SxConn *conn, gint64 parent, const char *name)
{
    g_autoptr(SxStmt) s = sx_db_query(conn, SX_ROW_SELECT "WHERE l.l_parent=?1 AND l.l_name=?2 AND l.l_parent>0",
                                      SX_INT(parent), SX_TEXT(name));
    return first_row(s);
}

SxRow *
sx_tree_row_remote(SxConn *conn, gint64 parent, const char *name)
{
    g_autoptr(SxStmt) s = sx_db_query(conn, SX_ROW_SELECT "WHERE l.r_parent=?1 AND l.r_name=?2 AND l.r_parent>0",
                                      SX_INT(parent), SX_TEXT(name));
    return first_row(s);
}

SxRow *
sx_tree_row_dir(SxConn *conn, gint64 ino)
{
    g_autoptr(SxStmt) s = sx_db_query(conn, SX_ROW_SELECT "WHERE l.ino=?1 AND l.ino>0 ORDER BY l.id LIMIT 1", SX_INT(ino));
    return first_row(s);
}

GPtrArray *
sx_tree_rows(SxConn *conn, SxRowWhich which, gint64 ino)
{
    static const char *const sql[] = {
        [SX_ROWS_OF_INO] = SX_ROW_SELECT "WHERE l.ino=?1 AND l.ino>0 ORDER BY l.id",
        [SX_ROWS_BELOW_LOCAL] = SX_ROW_SELECT "WHERE l.l_parent=?1 AND l.l_parent>0 ORDER BY l.id",
        [SX_ROWS_BELOW_REMOTE] = SX_ROW_SELECT "WHERE l.r_parent=?1 AND l.r_parent>0",
    };
    GPtrArray *rows = g_ptr_array_new_with_free_func((GDestroyNotify)sx_row_free);
    g_autoptr(SxStmt) s = sx_db_query(conn, sql[which], SX_INT(ino));
    while (sx_db_next(s))
        g_ptr_array_add(rows, sx_tree_row_read(s));
    return rows;
}

static SxValue
value_time(gint64 ns)
{
    return ns == SX_TIME_UNKNOWN ? sx_value_text(NULL) : SX_INT(ns);
}

static SxValue
value_error(SxErrorCode code)
{
    return sx_value_text(code >= SX_N_ERRORS ? NULL : sx_error_code_name(code));
}

#define ROW_VALUES(row)                                                                                                \
    SX_INT((row)->id), SX_INT((row)->ino), SX_INT((row)->provider), SX_INT((row)->kind), SX_INT((row)->pending),       \
        SX_INT((row)->l_parent), SX_TEXT((row)->l_name), SX_INT((row)->r_parent), SX_TEXT((row)->r_name),              \
        SX_TEXT((row)->r_id), SX_TEXT((row)->r_version), SX_TEXT((row)->r_hash), SX_INT((row)->r_size),                \
        value_time((row)->r_mtime_ns), SX_INT((row)->r_mode), SX_INT((row)->r_gen), SX_TEXT((row)->base_version),      \
        SX_INT((row)->due_real_ms), SX_INT((row)->parked), SX_INT((row)->tries), value_error((row)->err),              \
        SX_TEXT((row)->err_text), SX_INT((row)->verify), SX_INT((row)->sent_real_ms), SX_INT((row)->t_parent),         \
        SX_TEXT((row)->t_name), SX_TEXT((row)->intent), SX_TEXT((row)->resume), SX_INT((row)->resume_gen)

void
sx_tree_row_insert(SxTree *tree, SxConn *conn, SxRow *row)
{
    row->id = sx_tree_next(tree, conn);
    row->pending = sx_tree_pending_bits(tree, row);
    sx_db_run(conn,
              "INSERT INTO link(id,ino,provider,kind,pending,l_parent,l_name,r_parent,r_name,r_id,r_version,r_hash,r_size,"
              "r_mtime,r_mode,r_gen,base_version,due,parked,tries,err,err_text,verify,sent_ms,t_parent,t_name,intent,resume,resume_gen) "
              "VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19,?20,?21,?22,?23,?24,?25,?26,?27,?28,?29)",
              ROW_VALUES(row));
}

void
sx_tree_row_save(SxTree *tree, SxConn *conn, SxRow *row)
{
    row->pending = sx_tree_pending_bits(tree, row);
    if (row->pending == 0) {
        sx_tree_row_unpark(row);
        g_clear_pointer(&row->intent, g_free);
        g_clear_pointer(&row->resume, g_free);
    }
    sx_db_run(conn,
              "UPDATE link SET ino=?2,provider=?3,kind=?4,pending=?5,l_parent=?6,l_name=?7,r_parent=?8,r_name=?9,r_id=?10,"
              "r_version=?11,r_hash=?12,r_size=?13,r_mtime=?14,r_mode=?15,r_gen=?16,base_version=?17,due=?18,parked=?19,"
              "tries=?20,err=?21,err_text=?22,verify=?23,sent_ms=?24,t_parent=?25,t_name=?26,intent=?27,resume=?28,resume_gen=?29 "
              "WHERE id=?1",
              ROW_VALUES(row));
}

void
sx_tree_row_delete(SxConn *conn, gint64 id)
{
    sx_db_run(conn, "DELETE FROM link WHERE id=?1", SX_INT(id));
}

/* Only what is to be done, not the sides: the indexes by names are left alone. */
static void
save_work(SxConn *conn, const SxRow *row, unsigned pending)
{
    bool done = pending == 0;
    sx_db_run(conn,
              "UPDATE link SET pending=?2,due=?3,parked=?4,tries=?5,err=?6,err_text=?7,intent=?8,resume=?9 WHERE id=?1",
              SX_INT(row->id), SX_INT(pending), SX_INT(row->due_real_ms), SX_INT(row->parked && !done),
              SX_INT(done ? 0 : row->tries), value_error(done ? SX_N_ERRORS : row->err),
              SX_TEXT(done ? NULL : row->err_text), SX_TEXT(done ? NULL : row->intent), SX_TEXT(done ? NULL : row->resume));
}

void
sx_tree_rows_refresh(SxTree *tree, SxConn *conn, gint64 ino, gint64 due_real_ms)
{
    g_autoptr(GPtrArray) rows = sx_tree_rows(conn, SX_ROWS_OF_INO, ino);
    for (guint i = 0; i < rows->len; i++) {
        SxRow *row = rows->pdata[i];
        unsigned pending = sx_tree_pending_bits(tree, row);
        if (due_real_ms < 0 && pending == row->pending)
            continue;
        if (pending == 0 && row->pending == 0)
            continue;
        if (due_real_ms >= 0) {
            row->due_real_ms = due_real_ms;
            sx_tree_row_unpark(row);
        }
        save_work(conn, row, pending);
    }
}

void
sx_tree_row_unpark(SxRow *row)
{
    row->parked = false;
    row->tries = 0;
    row->err = SX_N_ERRORS;
    g_clear_pointer(&row->err_text, g_free);
}

void
sx_tree_row_set_local(SxRow *row, gint64 parent, const char *name)
{
    g_autofree char *old = row->l_name;
    row->l_parent = parent;
    row->l_name = g_strdup(name);
}

void
sx_tree_row_set_remote(SxRow *row, gint64 parent, const char *name)
{
    g_autofree char *old = row->r_name;
    row->r_parent = parent;
    row->r_name = g_strdup(name);
}

void
sx_tree_row_set_target(SxRow *row, gint64 parent, const char *name)
{
    g_autofree char *old = row->t_name;
    row->t_parent = parent;
    row->t_name = g_strdup(name);
}

void
sx_tree_row_clear_remote(SxRow *row)
{
    sx_tree_row_set_remote(row, 0, NULL);
    char **texts[] = {&row->r_id, &row->r_version, &row->r_hash, &row->base_version, &row->intent, &row->resume};
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++)
        g_clear_pointer(texts[i], g_free);
    row->r_size = -1;
    row->r_mtime_ns = SX_TIME_UNKNOWN;
    row->r_mode = -1;
    row->r_gen = 0;
    row->resume_gen = 0;
    row->verify = false;
    row->sent_real_ms = 0;
}
