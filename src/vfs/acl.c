/* The attribute's form (linux/posix_acl_xattr.h), little endian: u32 version 2, then per entry u16 tag, u16 permissions, u32 id. */
#include "vfs/vfs_i.h"

#include <string.h>

#define ACL_VERSION 2
#define ACL_HEAD 4
#define ACL_ENTRY 8

enum { TAG_USER_OBJ = 1, TAG_USER = 2, TAG_GROUP_OBJ = 4, TAG_GROUP = 8, TAG_MASK = 16, TAG_OTHER = 32 };

static guint
entries(gsize n)
{
    return (guint)((n - ACL_HEAD) / ACL_ENTRY);
}

static guint16
read16(const guint8 *p)
{
    return (guint16)(p[0] | p[1] << 8);
}

static guint16
tag_of(const guint8 *acl, guint i)
{
    return read16(acl + ACL_HEAD + i * ACL_ENTRY);
}

static guint8 *
perm_of(guint8 *acl, guint i)
{
    return acl + ACL_HEAD + i * ACL_ENTRY + 2; /* the low byte: permissions are 0 to 7 */
}

bool
sx_acl_valid(const void *acl, gsize n)
{
    const guint8 *p = acl;
    return n >= ACL_HEAD && (n - ACL_HEAD) % ACL_ENTRY == 0 && read16(p) == ACL_VERSION && read16(p + 2) == 0;
}

static int
find(const guint8 *acl, gsize n, guint16 tag)
{
    for (guint i = 0; i < entries(n); i++)
        if (tag_of(acl, i) == tag)
            return (int)i;
    return -1;
}

static bool
is_minimal(const guint8 *acl, gsize n)
{
    return find(acl, n, TAG_USER) < 0 && find(acl, n, TAG_GROUP) < 0 && find(acl, n, TAG_MASK) < 0;
}

/* Which entry the group bits of a mode stand for. */
static int
group_class(const guint8 *acl, gsize n)
{
    int mask = find(acl, n, TAG_MASK);
    return mask >= 0 ? mask : find(acl, n, TAG_GROUP_OBJ);
}

bool
sx_acl_to_mode(const void *acl, gsize n, guint32 *mode, bool *ret_minimal)
{
    if (!sx_acl_valid(acl, n))
        return false;
    g_autofree guint8 *p = g_memdup2(acl, n);
    int user = find(p, n, TAG_USER_OBJ), group = group_class(p, n), other = find(p, n, TAG_OTHER);
    if (user < 0 || group < 0 || other < 0)
        return false;
    *mode = (*mode & ~0777u) | (guint32)(*perm_of(p, (guint)user) & 7) << 6 | (guint32)(*perm_of(p, (guint)group) & 7) << 3 |
            (*perm_of(p, (guint)other) & 7);
    *ret_minimal = is_minimal(p, n);
    return true;
}

GBytes *
sx_acl_with_mode(const void *acl, gsize n, guint32 mode)
{
    if (!sx_acl_valid(acl, n))
        return NULL;
    guint8 *p = g_memdup2(acl, n);
    int at[] = {find(p, n, TAG_USER_OBJ), group_class(p, n), find(p, n, TAG_OTHER)};
    for (int i = 0; i < 3; i++)
        if (at[i] >= 0)
            *perm_of(p, (guint)at[i]) = (guint8)(mode >> (6 - 3 * i) & 7);
    return g_bytes_new_take(p, n);
}

GBytes *
sx_acl_inherit(const void *acl, gsize n, guint32 *mode)
{
    if (!sx_acl_valid(acl, n))
        return NULL;
    guint8 *p = g_memdup2(acl, n);
    int at[] = {find(p, n, TAG_USER_OBJ), group_class(p, n), find(p, n, TAG_OTHER)};
    for (int i = 0; i < 3; i++) {
        if (at[i] < 0)
            continue;
        guint8 *perm = perm_of(p, (guint)at[i]);
        int shift = 6 - 3 * i;
        *perm = (guint8)(*perm & (*mode >> shift & 7));
        *mode = (*mode & ~(7u << shift)) | (guint32)*perm << shift;
    }
    if (is_minimal(p, n)) {
        g_free(p);
        return NULL;
    }
    return g_bytes_new_take(p, n);
}
