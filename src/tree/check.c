/* The invariants of the store. Each line of the table is a query that finds what must not be; the rest needs code. */
#include "tree/tree_i.h"

#include "base/path.h"

#include <string.h>

static const struct {
    const char *what; /* followed by the number found */
    const char *sql;
} rules[] = {
    {"row without any side", "SELECT id FROM link WHERE l_parent=0 AND r_parent=0 AND t_parent=0"},
    {"row with a parent and no name, or the reverse",
     "SELECT id FROM link WHERE (l_parent=0)<>(l_name IS NULL) OR (r_parent=0)<>(r_name IS NULL) OR "
     "(t_parent=0)<>(t_name IS NULL)"},
    {"row shown in what is not a shown directory",
     "SELECT id FROM link l WHERE l_parent>0 AND NOT EXISTS(SELECT 1 FROM inode p WHERE p.ino=l.l_parent AND p.kind=2 AND p.nlink>0)"},
    {"row of another provider than its directory",
     "SELECT id FROM link l JOIN inode p ON p.ino=l.l_parent WHERE l.l_parent>1 AND p.provider<>l.provider"},
    {"row in the mount's root that is no provider's",
     "SELECT id FROM link l WHERE l_parent=1 AND NOT EXISTS(SELECT 1 FROM provider p WHERE p.root=l.ino AND p.id=l.provider)"},
    {"provider without a row for its root",
     "SELECT id FROM provider p WHERE NOT EXISTS(SELECT 1 FROM link l WHERE l.ino=p.root AND l.l_parent=1 AND l.r_parent=0)"},
    {"row below a directory that is not on the provider",
     "SELECT id FROM link l WHERE r_parent>0 AND NOT EXISTS(SELECT 1 FROM link p WHERE p.ino=l.r_parent AND p.ino>0 AND "
     "p.kind=2 AND p.provider=l.provider AND (p.r_parent>0 OR p.l_parent=1))"},
    {"row without its inode",
     "SELECT id FROM link l WHERE ino>0 AND NOT EXISTS(SELECT 1 FROM inode i WHERE i.ino=l.ino AND i.kind=l.kind AND "
     "i.provider=l.provider)"},
    {"row with no inode that is not a deleted file or link", "SELECT id FROM link WHERE ino=0 AND (l_parent<>0 OR kind=2)"},
    {"deleted file or link that still has an inode", "SELECT id FROM link WHERE ino<>0 AND l_parent=0 AND kind<>2"},
    {"directory without exactly one row",
     "SELECT ino FROM inode i WHERE kind=2 AND ino<>1 AND (SELECT count(*) FROM link l WHERE l.ino=i.ino AND l.ino>0)<>1"},
    {"file with a wrong nlink",
     "SELECT ino FROM inode i WHERE kind<>2 AND nlink<>(SELECT count(*) FROM link l WHERE l.ino=i.ino AND l.ino>0 AND l.l_parent>0)"},
    {"directory with a wrong nlink",
     "SELECT ino FROM inode i WHERE kind=2 AND nlink<>CASE WHEN ino<>1 AND NOT EXISTS(SELECT 1 FROM link l WHERE l.ino=i.ino "
     "AND l.ino>0 AND l.l_parent>0) THEN 0 ELSE 2+(SELECT count(*) FROM link c WHERE c.l_parent=i.ino AND c.l_parent>0 AND c.kind=2) END"},
    {"hidden directory with shown entries",
     "SELECT l.id FROM link l JOIN inode p ON p.ino=l.l_parent WHERE l.l_parent>0 AND p.nlink=0"},
    {"file without a generation or a negative size", "SELECT ino FROM inode WHERE (kind=1 AND gen<=0) OR size<0 OR cver<=0"},
    {"row with a remote generation and no remote side", "SELECT id FROM link WHERE r_parent=0 AND r_gen<>0"},
    {"row with remains of a remote side",
     "SELECT id FROM link WHERE r_parent=0 AND (r_id IS NOT NULL OR r_version IS NOT NULL OR base_version IS NOT NULL OR verify<>0)"},
    {"parked row with nothing to do", "SELECT id FROM link WHERE parked=1 AND pending=0"},
    {"number beyond the counter",
     "SELECT max(n) FROM (SELECT max(ino) n FROM inode UNION ALL SELECT max(id) FROM link UNION ALL SELECT max(gen) FROM inode "
     "UNION ALL SELECT max(r_gen) FROM link) HAVING max(n)>=(SELECT value FROM meta WHERE key='next')"},
    {"attribute or conflict of no inode",
     "SELECT ino FROM (SELECT ino FROM xattr UNION ALL SELECT ino FROM conflict) x WHERE NOT EXISTS(SELECT 1 FROM inode i WHERE i.ino=x.ino)"},
    {"shown directory in a circle",
     "WITH RECURSIVE top(ino) AS (SELECT 1 UNION SELECT l.ino FROM top JOIN link l ON l.l_parent=top.ino AND l.l_parent>0 WHERE l.kind=2) "
     "SELECT id FROM link WHERE kind=2 AND l_parent>0 AND ino NOT IN (SELECT ino FROM top)"},
    {"remote directory in a circle",
     "WITH RECURSIVE top(ino) AS (SELECT root FROM provider UNION SELECT l.ino FROM top JOIN link l ON l.r_parent=top.ino AND "
     "l.r_parent>0 WHERE l.kind=2) SELECT id FROM link WHERE kind=2 AND r_parent>0 AND ino NOT IN (SELECT ino FROM top)"},
};

static bool
check_rules(SxTree *tree, SxConn *conn, GError **error)
{
    for (gsize i = 0; i < G_N_ELEMENTS(rules); i++) {
        g_autoptr(SxStmt) s = sx_db_query_values(conn, rules[i].sql, NULL, 0);
        if (sx_db_next(s))
            return sx_fail(error, SX_ERR_CORRUPT, "%s: %s: %" G_GINT64_FORMAT, tree->path, rules[i].what, sx_db_int(s, 0));
    }
    return true;
}

static bool
check_row(SxTree *tree, const SxRow *row, GError **error)
{
    unsigned want = sx_tree_pending_bits(tree, row);
    if (want != row->pending)
        return sx_fail(error, SX_ERR_CORRUPT, "%s: row %" G_GINT64_FORMAT " has pending %u and should have %u", tree->path,
                       row->id, row->pending, want);
    const char *names[] = {row->l_name, row->r_name};
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        if (names[i] != NULL && !sx_name_valid(names[i], strlen(names[i])))
            return sx_fail(error, SX_ERR_CORRUPT, "%s: row %" G_GINT64_FORMAT " has an invalid name", tree->path, row->id);
    return true;
}

static bool
check_rows(SxTree *tree, SxConn *conn, GError **error)
{
    g_autoptr(SxStmt) s = sx_db_query_values(conn, SX_ROW_SELECT "WHERE l.provider IN (SELECT id FROM provider)", NULL, 0);
    while (sx_db_next(s)) {
        g_autoptr(SxRow) row = sx_tree_row_read(s);
        if (sx_tree_provider_root(tree, row->provider) != 0 && !check_row(tree, row, error))
            return false;
    }
    return true;
}

bool
sx_tree_check(SxTree *tree, GError **error)
{
    SxConn *conn = sx_db_snapshot(tree->db);
    bool ok = check_rules(tree, conn, error) && check_rows(tree, conn, error);
    int rc = sx_db_done(conn, 0);
    if (ok && rc != 0)
        return sx_tree_fail(tree, rc, "cannot be checked", error);
    return ok;
}
