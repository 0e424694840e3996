#include "vfs/vfs_i.h"

#include "base/path.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define CAPABILITY "security.capability"
#define OURS "user.syncox."

/* ---- chmod, chown, times, size ---- */

bool
sx_attributes_privileged(SxVfs *v, const SxAttr *attr)
{
    g_autoptr(GBytes) caps = NULL;
    return (attr->mode & (S_ISUID | S_ISGID)) != 0 || sx_tree_xattr_get(v->tree, attr->ino, CAPABILITY, &caps) == 0;
}

/* Set-group-id without group execute is not a privilege (it once meant mandatory locking): it stays, as on ext4. */
static guint32
without_privileges(guint32 mode)
{
    mode &= ~(guint32)S_ISUID;
    return (mode & S_IXGRP) != 0 ? mode & ~(guint32)S_ISGID : mode;
}

void
sx_attributes_kill_privileges(SxVfs *v, SxNode *n)
{
    SxAttr attr;
    if (sx_tree_getattr(v->tree, n->ino, &attr) < 0)
        return;
    guint32 mode = without_privileges(attr.mode);
    if (mode != attr.mode) {
        SxAttr want = {.mode = mode}, after;
        sx_tree_setattr(v->tree, n->ino, SX_SET_MODE, &want, sx_vfs_due(v), &after);
    }
    sx_tree_xattr_remove(v->tree, n->ino, CAPABILITY);
    g_mutex_lock(&n->open->lock);
    n->open->privileged = false;
    g_mutex_unlock(&n->open->lock);
}

static void
note_privileged(SxVfs *v, gint64 ino)
{
    SxNode *n = sx_node_peek(v, ino);
    if (n == NULL)
        return;
    g_mutex_lock(&n->open->lock);
    n->open->privileged = true;
    g_mutex_unlock(&n->open->lock);
    sx_node_put(v, n);
}

int
sx_attributes_chmod_acl(SxVfs *v, gint64 ino, guint32 mode)
{
    g_autoptr(GBytes) acl = NULL;
    int r = sx_tree_xattr_get(v->tree, ino, SX_ACL_ACCESS, &acl);
    if (r < 0)
        return r == -ENODATA ? 0 : r;
    gsize n;
    const void *data = g_bytes_get_data(acl, &n);
    g_autoptr(GBytes) changed = sx_acl_with_mode(data, n, mode);
    if (changed == NULL)
        return 0;
    data = g_bytes_get_data(changed, &n);
    return sx_tree_xattr_set(v->tree, ino, SX_ACL_ACCESS, data, n, 0);
}

static int
set_attributes(SxVfs *v, const SxAttr *now, unsigned set, const SxAttr *values)
{
    SxAttr want = *values, after;
    if ((set & (SX_SET_UID | SX_SET_GID)) != 0 && now->kind != SX_KIND_DIR) {
        guint32 mode = without_privileges((set & SX_SET_MODE) != 0 ? want.mode : now->mode);
        if (mode != now->mode) {
            want.mode = mode;
            set |= SX_SET_MODE;
        }
        sx_tree_xattr_remove(v->tree, now->ino, CAPABILITY);
    }
    int r = sx_tree_setattr(v->tree, now->ino, set, &want, sx_vfs_due(v), &after);
    if (r == 0 && (set & SX_SET_MODE) != 0) {
        r = sx_attributes_chmod_acl(v, now->ino, want.mode);
        if ((want.mode & (S_ISUID | S_ISGID)) != 0)
            note_privileged(v, now->ino);
    }
    return r;
}

/* What utimens() said holds until the next write, also when the file is open and its end is recorded later. */
static void
fix_mtime(SxVfs *v, gint64 ino, gint64 mtime_ns)
{
    SxNode *n = sx_node_peek(v, ino);
    if (n == NULL)
        return;
    g_mutex_lock(&n->open->lock);
    if (n->open->session)
        n->open->mtime_ns = mtime_ns;
    g_mutex_unlock(&n->open->lock);
    sx_node_put(v, n);
}

static int
truncate_inode(SxVfs *v, SxCaller *c, const SxAttr *attr, gint64 size)
{
    if (attr->kind != SX_KIND_FILE)
        return attr->kind == SX_KIND_DIR ? -EISDIR : -EINVAL;
    SxNode *n = sx_node_get(v, attr->ino);
    if (sx_attributes_privileged(v, attr))
        note_privileged(v, attr->ino);
    int r = sx_file_truncate(v, c, n, size);
    sx_node_put(v, n);
    return r;
}

int
sx_vfs_setattr(SxVfs *v, SxCaller *c, gint64 ino, SxFile *f, unsigned set, const SxAttr *values, gint64 truncate, SxAttr *ret)
{
    if (sx_virtual_is(ino))
        return -EROFS;
    SxAttr attr;
    int r = sx_vfs_getattr(v, c, ino, &attr);
    if (r == 0)
        r = sx_vfs_may_change(v, attr.provider);
    if (r == 0 && truncate >= 0)
        r = truncate_inode(v, c, &attr, truncate);
    if (r == 0 && set != 0)
        r = set_attributes(v, &attr, set, values);
    if (r < 0)
        return r;
    if ((set & SX_SET_MTIME) != 0)
        fix_mtime(v, ino, values->mtime_ns);
    sx_transfer_kick(v->transfer);
    return sx_vfs_getattr(v, c, ino, ret);
}

/* ---- ACLs of new objects ---- */

int
sx_attributes_inherit(SxVfs *v, gint64 parent, SxKind kind, guint32 umask, guint32 *mode, GBytes **ret_access, GBytes **ret_default)
{
    g_autoptr(GBytes) acl = NULL;
    int r = sx_tree_xattr_get(v->tree, parent, SX_ACL_DEFAULT, &acl);
    if (r == -ENODATA) {
        *mode &= ~(umask & 0777);
        return 0;
    }
    if (r < 0)
        return r;
    gsize n;
    const void *data = g_bytes_get_data(acl, &n);
    *ret_access = sx_acl_inherit(data, n, mode);
    if (kind == SX_KIND_DIR)
        *ret_default = g_steal_pointer(&acl);
    return 0;
}

int
sx_attributes_store_inherited(SxVfs *v, gint64 ino, GBytes *access, GBytes *def)
{
    gsize n;
    int r = 0;
    if (access != NULL) {
        const void *data = g_bytes_get_data(access, &n);
        r = sx_tree_xattr_set(v->tree, ino, SX_ACL_ACCESS, data, n, 0);
    }
    if (r == 0 && def != NULL) {
        const void *data = g_bytes_get_data(def, &n);
        r = sx_tree_xattr_set(v->tree, ino, SX_ACL_DEFAULT, data, n, 0);
    }
    return r;
}

static int
set_access_acl(SxVfs *v, SxCaller *c, const SxAttr *attr, const void *value, gsize n, int flags)
{
    SxAttr want = *attr, after;
    bool minimal;
    if (!sx_acl_to_mode(value, n, &want.mode, &minimal))
        return -EINVAL;
    /* The caller's other groups are not known here: a member by one of those loses the bit and can set it again. */
    if (attr->kind == SX_KIND_FILE && c->uid != 0 && c->gid != attr->gid)
        want.mode &= ~(guint32)S_ISGID;
    int r = minimal ? sx_tree_xattr_remove(v->tree, attr->ino, SX_ACL_ACCESS)
                    : sx_tree_xattr_set(v->tree, attr->ino, SX_ACL_ACCESS, value, n, flags);
    if (r < 0 && !(minimal && r == -ENODATA))
        return r;
    return sx_tree_setattr(v->tree, attr->ino, SX_SET_MODE, &want, sx_vfs_due(v), &after);
}

/* ---- attributes of the service: one row each ---- */

typedef struct Info {
    SxVfs *v;
    const SxAttr *attr;
    const SxRow *row; /* NULL for the root and orphans */
} Info;

static char *
get_status(const Info *i)
{
    return sx_status_text(i->v, i->attr);
}

static char *
get_provider(const Info *i)
{
    SxProvider *p = sx_transfer_provider(i->v->transfer, i->attr->provider);
    return p != NULL ? g_strdup(sx_provider_name(p)) : NULL;
}

static char *
get_remote_path(const Info *i)
{
    if (i->attr->kind == SX_KIND_DIR)
        return sx_tree_remote_path(i->v->tree, i->attr->ino);
    return i->row != NULL ? sx_tree_row_remote_path(i->v->tree, i->row->id) : NULL;
}

static char *
get_remote_id(const Info *i)
{
    return i->row != NULL ? g_strdup(i->row->r_id) : NULL;
}

static char *
get_etag(const Info *i)
{
    return i->row != NULL && i->row->r_version != NULL && *i->row->r_version != '\0' ? g_strdup(i->row->r_version) : NULL;
}

static char *
get_hash(const Info *i)
{
    return i->row != NULL ? g_strdup(i->row->r_hash) : NULL;
}

static char *
get_cached(const Info *i)
{
    if (i->attr->kind != SX_KIND_FILE)
        return NULL;
    gint64 bytes = i->attr->cached == 2 ? i->attr->size : 0;
    if (i->attr->cached == 1) {
        g_autoptr(SxContent) content = sx_content_open(i->v->cache, i->attr, NULL);
        bytes = content != NULL ? sx_content_present_bytes(content) : 0;
    }
    return g_strdup_printf("%" G_GINT64_FORMAT, bytes);
}

static char *
get_pin(const Info *i)
{
    return sx_tree_pinned(i->v->tree, i->attr->ino) ? g_strdup("yes") : NULL;
}

static int
set_pin(SxVfs *v, const SxAttr *attr, const char *value)
{
    bool pin;
    if (!sx_parse_bool(value, &pin, NULL))
        return -EINVAL;
    int r = sx_tree_pin(v->tree, attr->ino, pin);
    if (r == 0)
        sx_transfer_kick(v->transfer); /* fetches what is missing in the background */
    return r;
}

typedef struct Attribute {
    const char *name; /* behind "user.syncox." */
    const char *doc;
    char *(*get)(const Info *i);                                   /* NULL result: -ENODATA */
    int (*set)(SxVfs *v, const SxAttr *attr, const char *value);   /* NULL: read-only, -EPERM. Removing sets "no" */
} Attribute;

static const Attribute attributes[] = {
    {"status", "how the two sides stand to each other", get_status, NULL},
    {"provider", "name of the provider's section", get_provider, NULL},
    {"remote-path", "path on the provider", get_remote_path, NULL},
    {"remote-id", "the provider's own id", get_remote_id, NULL},
    {"etag", "version as the provider names it", get_etag, NULL},
    {"hash", "hash as the provider tells it, KIND:HEX", get_hash, NULL},
    {"cached", "bytes of the content in the cache", get_cached, NULL},
    {"pin", "yes: kept offline, with all below", get_pin, set_pin},
};

static const Attribute *
find_ours(const char *name)
{
    for (guint i = 0; i < G_N_ELEMENTS(attributes); i++)
        if (strcmp(attributes[i].name, name + strlen(OURS)) == 0)
            return &attributes[i];
    return NULL;
}

static int
get_ours(SxVfs *v, SxCaller *c, const char *name, gint64 ino, GBytes **ret)
{
    const Attribute *a = find_ours(name);
    if (a == NULL)
        return -ENODATA;
    SxAttr attr;
    int r = sx_vfs_getattr(v, c, ino, &attr);
    if (r < 0)
        return r;
    g_autoptr(SxRow) row = sx_tree_row_of(v->tree, ino);
    char *text = a->get(&(Info){v, &attr, row});
    if (text == NULL)
        return -ENODATA;
    *ret = g_bytes_new_take(text, strlen(text));
    return 0;
}

/* -EPERM: exists but is read-only, or cannot be on this object. -EOPNOTSUPP: the service has no such attribute; the name is
 * reserved, so that a later version can give it a meaning. */
static int
set_ours(SxVfs *v, SxCaller *c, const char *name, gint64 ino, const char *value)
{
    const Attribute *a = find_ours(name);
    if (a == NULL)
        return -EOPNOTSUPP;
    if (a->set == NULL)
        return -EPERM;
    SxAttr attr;
    int r = sx_vfs_getattr(v, c, ino, &attr);
    return r < 0 ? r : a->set(v, &attr, value);
}

/* ---- extended attributes ---- */

static bool
is_ours(const char *name)
{
    return g_str_has_prefix(name, OURS);
}

static bool
is_acl(const char *name)
{
    return strcmp(name, SX_ACL_ACCESS) == 0 || strcmp(name, SX_ACL_DEFAULT) == 0;
}

/* The name spaces that ext4 has; the kernel has checked already who may use them. */
static bool
is_kept(const char *name)
{
    return g_str_has_prefix(name, "user.") || g_str_has_prefix(name, "security.") || g_str_has_prefix(name, "trusted.") ||
           is_acl(name);
}

int
sx_vfs_getxattr(SxVfs *v, SxCaller *c, gint64 ino, const char *name, GBytes **ret)
{
    if (sx_virtual_is(ino))
        return -ENODATA;
    if (is_ours(name))
        return get_ours(v, c, name, ino, ret);
    return is_kept(name) ? sx_tree_xattr_get(v->tree, ino, name, ret) : -EOPNOTSUPP;
}

static int
set_kept(SxVfs *v, SxCaller *c, const SxAttr *attr, const char *name, const void *value, gsize n, int flags)
{
    if (strcmp(name, SX_ACL_ACCESS) == 0)
        return set_access_acl(v, c, attr, value, n, flags);
    if (strcmp(name, SX_ACL_DEFAULT) == 0 && !sx_acl_valid(value, n))
        return -EINVAL;
    int r = sx_tree_xattr_set(v->tree, attr->ino, name, value, n, flags);
    if (r == 0 && strcmp(name, CAPABILITY) == 0)
        note_privileged(v, attr->ino);
    return r;
}

int
sx_vfs_setxattr(SxVfs *v, SxCaller *c, gint64 ino, const char *name, const void *value, gsize n, int flags)
{
    if (sx_virtual_is(ino))
        return -EROFS;
    if (strlen(name) > XATTR_NAME_MAX || n > SX_XATTR_SIZE_MAX)
        return -ERANGE;
    if (is_ours(name)) {
        g_autofree char *text = g_strndup(value, n);
        return set_ours(v, c, name, ino, g_strstrip(text));
    }
    if (!is_kept(name))
        return -EOPNOTSUPP;
    SxAttr attr;
    int r = sx_tree_getattr(v->tree, ino, &attr);
    if (r == 0)
        r = sx_vfs_may_change(v, attr.provider);
    return r < 0 ? r : set_kept(v, c, &attr, name, value, n, flags);
}

/* The attributes of the service are not listed: `cp -a`, `rsync -X` and `tar --xattrs` would try to copy them, and fail or
 * pin things. They are read by name; syncoxfs-attributes(7) lists them. trusted.* shows itself to root only, as on ext4. */
int
sx_vfs_listxattr(SxVfs *v, SxCaller *c, gint64 ino, GString *ret)
{
    if (sx_virtual_is(ino))
        return 0;
    g_autoptr(GString) all = g_string_new(NULL);
    int r = sx_tree_xattr_list(v->tree, ino, all);
    for (const char *p = all->str; r == 0 && p < all->str + all->len; p += strlen(p) + 1)
        if (c->uid == 0 || !g_str_has_prefix(p, "trusted."))
            g_string_append_len(ret, p, (gssize)strlen(p) + 1);
    return r;
}

int
sx_vfs_removexattr(SxVfs *v, SxCaller *c, gint64 ino, const char *name)
{
    if (sx_virtual_is(ino))
        return -EROFS;
    if (is_ours(name))
        return set_ours(v, c, name, ino, "no");
    if (!is_kept(name))
        return -EOPNOTSUPP;
    SxAttr attr;
    int r = sx_tree_getattr(v->tree, ino, &attr);
    if (r == 0)
        r = sx_vfs_may_change(v, attr.provider);
    return r < 0 ? r : sx_tree_xattr_remove(v->tree, ino, name);
}
