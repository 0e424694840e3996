/* From the lines of the file to checked sections.
 *
 * Two passes, because `type` decides which keys of a provider's section are known and may stand behind them: the first
 * sorts the lines into sections, the second checks each section against its tables and fills in the defaults. */
#include "conf/conf_i.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/path.h"
#include "base/sys.h"

typedef struct Value {
    const SxOption *option;
    char *text;    /* NULL: unset and no default */
    gint64 number; /* of bools and numeric types */
    bool set;      /* written in the file */
} Value;

struct SxSection {
    char *name, *where;
    const SxOption *tables[2]; /* own keys, then those of the provider's type; entries may be NULL */
    GHashTable *values;        /* key -> Value */
    GPtrArray *lines;          /* of SxIniItem (borrowed), while reading */
};

struct SxConf {
    char *file;
    SxSection *global;
    GPtrArray *providers; /* of SxSection */
    char *secret_where;   /* "FILE:LINE" of a literal password, or NULL */
};

/* What reading needs; lives as long as the items. */
typedef struct Load {
    SxConf *conf;
    SxTypeOptionsFn types;
    void *data;
    GError **error;
} Load;

static void
value_free(void *p)
{
    Value *v = p;
    if (v->text != NULL && v->option->type == SX_OPT_SECRET)
        explicit_bzero(v->text, strlen(v->text));
    g_free(v->text);
    g_free(v);
}

static SxSection *
section_new(const char *name, const char *file, guint line)
{
    SxSection *s = g_new0(SxSection, 1);
    s->name = g_strdup(name);
    s->where = line > 0 ? g_strdup_printf("%s:%u", file, line) : g_strdup(file);
    s->values = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, value_free);
    s->lines = g_ptr_array_new();
    return s;
}

static void
section_free(void *p)
{
    SxSection *s = p;
    if (s == NULL)
        return;
    g_free(s->name);
    g_free(s->where);
    g_hash_table_unref(s->values);
    if (s->lines != NULL)
        g_ptr_array_unref(s->lines);
    g_free(s);
}

void
sx_conf_free(SxConf *conf)
{
    if (conf == NULL)
        return;
    section_free(conf->global);
    g_ptr_array_unref(conf->providers);
    g_free(conf->secret_where);
    g_free(conf->file);
    g_free(conf);
}

/* ---- first pass: heads and lines ---- */

static bool
wrong_head(const Load *l, const SxIniItem *i)
{
    static const char *const known[] = {"syncoxfs", "provider", NULL};
    static const char *const later[] = {"sync", "share", "mail", "peer", NULL};
    g_autofree char *head = g_strdup_printf("[%s%s%s]", i->section, i->name != NULL ? " " : "", i->name != NULL ? i->name : "");
    if (g_strv_contains(later, i->section))
        return sx_fail(l->error, SX_ERR_CONFIG, "%s:%u: section %s is not part of this version; allowed: [syncoxfs] and [provider NAME]",
                       l->conf->file, i->line, head);
    const char *close = sx_option_closest(known, i->section);
    return sx_fail(l->error, SX_ERR_CONFIG, "%s:%u: unknown section %s%s%s%s; allowed: [syncoxfs] and [provider NAME]",
                   l->conf->file, i->line, head, close != NULL ? ", did you mean [" : "", close != NULL ? close : "",
                   close != NULL ? "]?" : "");
}

static const SxSection *
provider_named(const SxConf *conf, const char *name)
{
    for (guint i = 0; i < conf->providers->len; i++)
        if (strcmp(((SxSection *)conf->providers->pdata[i])->name, name) == 0)
            return conf->providers->pdata[i];
    return NULL;
}

static bool
provider_head(const Load *l, const SxIniItem *i, SxSection **ret)
{
    const char *name = i->name != NULL ? i->name : "";
    if (!sx_name_valid(name, strlen(name)))
        return sx_fail(l->error, SX_ERR_CONFIG,
                       "%s:%u: '%s' cannot be a provider's name; allowed: [provider NAME] with 1 to 255 bytes and no '/'",
                       l->conf->file, i->line, name);
    const SxSection *before = provider_named(l->conf, name);
    if (before != NULL)
        return sx_fail(l->error, SX_ERR_CONFIG, "%s:%u: section [provider %s] occurs twice, first at %s; allowed: once",
                       l->conf->file, i->line, name, before->where);
    *ret = section_new(name, l->conf->file, i->line);
    g_ptr_array_add(l->conf->providers, *ret);
    return true;
}

static bool
take_head(const Load *l, const SxIniItem *i, SxSection **ret)
{
    if (strcmp(i->section, "provider") == 0)
        return provider_head(l, i, ret);
    if (strcmp(i->section, "syncoxfs") != 0 || i->name != NULL)
        return wrong_head(l, i);
    if (l->conf->global != NULL)
        return sx_fail(l->error, SX_ERR_CONFIG, "%s:%u: section [syncoxfs] occurs twice, first at %s; allowed: once",
                       l->conf->file, i->line, l->conf->global->where);
    *ret = l->conf->global = section_new("", l->conf->file, i->line);
    return true;
}

static bool
take_line(const Load *l, SxSection *s, SxIniItem *i)
{
    if (s == NULL)
        return sx_fail(l->error, SX_ERR_CONFIG, "%s:%u: the key '%s' stands before the first section; allowed first: [syncoxfs] or "
                       "[provider NAME]", l->conf->file, i->line, i->key);
    for (guint n = 0; n < s->lines->len; n++) {
        const SxIniItem *before = s->lines->pdata[n];
        if (strcmp(before->key, i->key) == 0)
            return sx_fail(l->error, SX_ERR_CONFIG, "%s:%u: the key '%s' occurs twice, first in line %u; allowed: once",
                           l->conf->file, i->line, i->key, before->line);
    }
    g_ptr_array_add(s->lines, i);
    return true;
}

/* ---- second pass: values ---- */

static const SxOption *
option_of(const SxSection *s, const char *key)
{
    const SxOption *o = sx_option_find(s->tables[0], key);
    return o != NULL ? o : sx_option_find(s->tables[1], key);
}

static bool
unknown_key(const Load *l, const SxSection *s, const SxIniItem *i)
{
    g_autoptr(GPtrArray) keys = g_ptr_array_new();
    for (int t = 0; t < 2; t++)
        for (const SxOption *o = s->tables[t]; o != NULL && o->key != NULL; o++)
            g_ptr_array_add(keys, (char *)o->key);
    g_ptr_array_add(keys, NULL);
    const char *close = sx_option_closest((const char *const *)keys->pdata, i->key);
    g_autofree char *all = g_strjoinv(" ", (char **)keys->pdata);
    return sx_fail(l->error, SX_ERR_CONFIG, "%s:%u: unknown key '%s'%s%s%s; allowed: %s", l->conf->file, i->line, i->key,
                   close != NULL ? ", did you mean '" : "", close != NULL ? close : "", close != NULL ? "'?" : "", all);
}

static bool
set_value(const Load *l, SxSection *s, const SxIniItem *i)
{
    const SxOption *o = option_of(s, i->key);
    if (o == NULL)
        return unknown_key(l, s, i);
    g_autofree Value *v = g_new0(Value, 1);
    if (!sx_option_parse(o, i->value, &v->text, &v->number, l->error)) {
        g_prefix_error(l->error, "%s:%u: %s: ", l->conf->file, i->line, i->key);
        return false;
    }
    v->option = o;
    v->set = true;
    if (o->type == SX_OPT_SECRET && strcmp(i->value, "keyring") != 0 && l->conf->secret_where == NULL)
        l->conf->secret_where = g_strdup_printf("%s:%u", l->conf->file, i->line);
    g_hash_table_insert(s->values, (char *)o->key, g_steal_pointer(&v));
    return true;
}

/* Defaults that depend on the user; NULL where the table's own counts. */
static char *
computed_default(const SxSection *s, const SxOption *o)
{
    if (o == sx_option_find(sx_options_global, "who"))
        return g_strdup_printf("%s@%s", g_get_user_name(), g_get_host_name());
    if (o == sx_option_find(sx_options_global, "cache-dir"))
        return g_build_filename(g_get_user_cache_dir(), "syncoxfs", NULL);
    if (o == sx_option_find(sx_options_global, "state-dir"))
        return g_build_filename(g_get_user_state_dir(), "syncoxfs", NULL);
    if (o == sx_option_find(sx_options_provider, "name"))
        return g_strdup(s->name);
    return NULL;
}

/* A table's default that its own check refuses is a mistake of ours, found by the first test that reads it. */
static void
set_default(const SxConf *conf, SxSection *s, const SxOption *o)
{
    Value *v = g_new0(Value, 1);
    v->option = o;
    v->text = computed_default(s, o);
    const Value *from = NULL;
    if (v->text == NULL && o->def == NULL && s->tables[0] == sx_options_provider && s != conf->global &&
        sx_option_find(sx_options_provider, o->key) == o)
        from = g_hash_table_lookup(conf->global->values, o->key);
    if (from != NULL) {
        v->text = g_strdup(from->text);
        v->number = from->number;
    } else if (v->text == NULL && o->def != NULL) {
        g_autoptr(GError) e = NULL;
        if (!sx_option_parse(o, o->def, &v->text, &v->number, &e))
            g_error("the default of '%s': %s", o->key, e->message);
    }
    g_hash_table_insert(s->values, (char *)o->key, v);
}

static bool
complete(const Load *l, SxSection *s)
{
    for (guint i = 0; i < s->lines->len; i++)
        if (!set_value(l, s, s->lines->pdata[i]))
            return false;
    g_clear_pointer(&s->lines, g_ptr_array_unref);
    for (int t = 0; t < 2; t++)
        for (const SxOption *o = s->tables[t]; o != NULL && o->key != NULL; o++) {
            if (g_hash_table_contains(s->values, o->key))
                continue;
            if (o->required)
                return sx_fail(l->error, SX_ERR_CONFIG, "%s: [provider %s] has no '%s'; allowed: %s = %s", s->where, s->name,
                               o->key, o->key, sx_option_placeholder(o));
            set_default(l->conf, s, o);
        }
    return true;
}

/* Types of SPEC that this program may or may not have; the message lists those that it has. */
static char *
known_types(const Load *l, const char *typed, const char **ret_close)
{
    static const char *const all[] = {"local", "webdav", "s3", "sftp", "ftp", "gdrive", "dropbox", "onedrive", "rclone",
                                      "imap", "peer", NULL};
    g_autoptr(GPtrArray) have = g_ptr_array_new();
    for (const char *const *t = all; *t != NULL; t++)
        if (l->types != NULL && l->types(*t, l->data) != NULL)
            g_ptr_array_add(have, (char *)*t);
    g_ptr_array_add(have, NULL);
    *ret_close = sx_option_closest((const char *const *)have->pdata, typed);
    return g_strjoinv(" ", (char **)have->pdata);
}

static bool
find_type(const Load *l, SxSection *s)
{
    const SxIniItem *type = NULL;
    for (guint i = 0; i < s->lines->len; i++)
        if (strcmp(((SxIniItem *)s->lines->pdata[i])->key, "type") == 0)
            type = s->lines->pdata[i];
    s->tables[0] = sx_options_provider;
    if (type != NULL && l->types != NULL)
        s->tables[1] = l->types(type->value, l->data);
    if (type != NULL && s->tables[1] != NULL)
        return true;
    const char *close = NULL;
    g_autofree char *have = known_types(l, type != NULL ? type->value : "", &close);
    if (type == NULL)
        return sx_fail(l->error, SX_ERR_CONFIG, "%s: [provider %s] has no 'type'; allowed: type = one of %s", s->where, s->name, have);
    return sx_fail(l->error, SX_ERR_CONFIG, "%s:%u: type: '%s' is unknown%s%s%s; allowed: %s", l->conf->file, type->line, type->value,
                   close != NULL ? ", did you mean '" : "", close != NULL ? close : "", close != NULL ? "'?" : "", have);
}

/* The directory in the mount: it must be a name, free, and not one of those that the service itself shows there. */
static bool
check_label(const Load *l, guint nth)
{
    static const char *const taken[] = {".syncox", "Shared with me", "Request files", "Backups", NULL};
    const SxSection *s = l->conf->providers->pdata[nth];
    const char *label = sx_section_string(s, "name");
    if (!sx_name_valid(label, strlen(label)))
        return sx_fail(l->error, SX_ERR_CONFIG, "%s: name: '%s' cannot be a directory's name; allowed: 1 to 255 bytes and no '/'",
                       s->where, label);
    if (g_strv_contains(taken, label))
        return sx_fail(l->error, SX_ERR_CONFIG, "%s: the name '%s' is used by the mount itself; allowed: any but '.syncox', "
                       "'Shared with me', 'Request files' and 'Backups'", s->where, label);
    for (guint i = 0; i < nth; i++) {
        const SxSection *other = l->conf->providers->pdata[i];
        if (strcmp(sx_section_string(other, "name"), label) == 0)
            return sx_fail(l->error, SX_ERR_CONFIG, "%s: the name '%s' is also that of [provider %s] at %s; allowed: each name once",
                           s->where, label, other->name, other->where);
    }
    return true;
}

static bool
build(const Load *l, GPtrArray *items)
{
    SxSection *s = NULL;
    for (guint i = 0; i < items->len; i++) {
        SxIniItem *item = items->pdata[i];
        if (!(item->section != NULL ? take_head(l, item, &s) : take_line(l, s, item)))
            return false;
    }
    if (l->conf->global == NULL)
        l->conf->global = section_new("", l->conf->file, 0);
    l->conf->global->tables[0] = sx_options_global;
    if (!complete(l, l->conf->global))
        return false;
    for (guint i = 0; i < l->conf->providers->len; i++)
        if (!find_type(l, l->conf->providers->pdata[i]) || !complete(l, l->conf->providers->pdata[i]) || !check_label(l, i))
            return false;
    return true;
}

SxConf *
sx_conf_parse(const char *text, gsize len, const char *name, SxTypeOptionsFn types, void *data, GError **error)
{
    GError *e = NULL; /* never NULL inside, so that prefixes can be added */
    g_autoptr(GPtrArray) items = sx_ini_parse(text, len, name, error);
    if (items == NULL)
        return NULL;
    g_autoptr(SxConf) conf = g_new0(SxConf, 1);
    conf->file = g_strdup(name);
    conf->providers = g_ptr_array_new_with_free_func(section_free);
    const Load l = {.conf = conf, .types = types, .data = data, .error = &e};
    if (!build(&l, items)) {
        g_propagate_error(error, e);
        return NULL;
    }
    return g_steal_pointer(&conf);
}

/* ---- the file ---- */

static char *
read_file(const char *file, struct stat *st, gsize *ret_len, GError **error)
{
    g_auto(SxFd) fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, st) != 0) {
        sx_fail_errno(error, errno, "%s", file);
        return NULL;
    }
    if (!S_ISREG(st->st_mode) || st->st_size > SX_INI_FILE_MAX) {
        sx_fail(error, SX_ERR_CONFIG, "%s: not a file of settings; allowed: a regular file up to %d bytes", file, SX_INI_FILE_MAX);
        return NULL;
    }
    g_autofree char *text = g_malloc(SX_INI_FILE_MAX);
    ssize_t n = sx_sys_pread_full(sx_sys_default(), fd, text, SX_INI_FILE_MAX, 0);
    if (n < 0) {
        sx_fail_errno(error, (int)-n, "%s", file);
        return NULL;
    }
    *ret_len = (gsize)n;
    return g_steal_pointer(&text);
}

SxConf *
sx_conf_load(const char *file, SxTypeOptionsFn types, void *data, GError **error)
{
    struct stat st;
    gsize len;
    g_autofree char *text = read_file(file, &st, &len, error);
    if (text == NULL)
        return NULL;
    g_autoptr(SxConf) conf = sx_conf_parse(text, len, file, types, data, error);
    explicit_bzero(text, len);
    if (conf != NULL && conf->secret_where != NULL && (st.st_mode & 077) != 0) {
        g_autofree char *quoted = g_shell_quote(file);
        sx_fail(error, SX_ERR_CONFIG, "%s: a password in a file that others can read (mode %04o); allowed: mode 0600, run: chmod 600 %s",
                conf->secret_where, (unsigned)st.st_mode & 07777, quoted);
        return NULL;
    }
    return g_steal_pointer(&conf);
}

const char *
sx_conf_embedded_default(void)
{
    return "[provider Files]\n"
           "type = local\n"
           "path = ~/Files\n";
}

char *
sx_conf_default_path(void)
{
    return g_build_filename(g_get_user_config_dir(), "syncoxfs", "syncoxfs.conf", NULL);
}

/* ---- reading ---- */

const SxSection *
sx_conf_global(const SxConf *conf)
{
    return conf->global;
}

guint
sx_conf_n_providers(const SxConf *conf)
{
    return conf->providers->len;
}

const SxSection *
sx_conf_provider(const SxConf *conf, guint i)
{
    g_assert(i < conf->providers->len);
    return conf->providers->pdata[i];
}

const char *
sx_section_name(const SxSection *s)
{
    return s->name;
}

const char *
sx_section_where(const SxSection *s)
{
    return s->where;
}

static const Value *
value_of(const SxSection *s, const char *key)
{
    const Value *v = g_hash_table_lookup(s->values, key);
    if (v == NULL)
        g_error("%s: the program asked for a key '%s' that no table has", s->where, key);
    return v;
}

const char *
sx_section_string(const SxSection *s, const char *key)
{
    return value_of(s, key)->text;
}

bool
sx_section_bool(const SxSection *s, const char *key)
{
    const Value *v = value_of(s, key);
    g_assert(v->option->type == SX_OPT_BOOL);
    return v->number != 0;
}

gint64
sx_section_int(const SxSection *s, const char *key)
{
    const Value *v = value_of(s, key);
    g_assert(v->option->type == SX_OPT_INT || v->option->type == SX_OPT_SIZE || v->option->type == SX_OPT_DURATION ||
             v->option->type == SX_OPT_MODE);
    return v->number;
}

bool
sx_section_is_set(const SxSection *s, const char *key)
{
    const Value *v = g_hash_table_lookup(s->values, key);
    return v != NULL && v->set;
}
