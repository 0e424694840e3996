/* The ini file: either a configuration that keeps its promises, or an error that names file and line. */
#include "base/path.h"
#include "conf/conf.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const SxOption options[] = {
    {.key = "url", .type = SX_OPT_URL, .doc = "An address."},
    {.key = "path", .type = SX_OPT_PATH, .doc = "A path."},
    {.key = "flavour", .type = SX_OPT_ENUM, .def = "auto", .allowed = "auto plain", .doc = "A word."},
    SX_OPTIONS_LOGIN,
    {0},
};

static const SxOption *
types(const char *type, void *data)
{
    return strcmp(type, "webdav") == 0 || strcmp(type, "local") == 0 ? options : NULL;
}

static void
check(const SxConf *conf)
{
    const SxSection *g = sx_conf_global(conf);
    g_assert(sx_section_int(g, "cache-size") >= 1024 * 1024);
    g_assert(sx_section_string(g, "cache-dir")[0] == '/');
    g_autoptr(SxRate) rate = sx_rate_parse(sx_section_string(g, "bandwidth-up"), NULL);
    g_assert(rate != NULL && sx_rate_at(rate, 720) >= 0);
    for (guint i = 0; i < sx_conf_n_providers(conf); i++) {
        const SxSection *p = sx_conf_provider(conf, i);
        const char *label = sx_section_string(p, "name");
        g_assert(sx_name_valid(label, strlen(label)));
        g_assert(sx_section_int(p, "upload-threads") >= 1 && sx_section_int(p, "upload-threads") <= 64);
        g_assert(sx_section_int(p, "timeout") >= 100);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(GError) e = NULL;
    g_autoptr(SxConf) conf = sx_conf_parse((const char *)data, size, "f", types, NULL, &e);
    g_assert((conf == NULL) == (e != NULL));
    if (conf != NULL)
        check(conf);
    else
        g_assert(sx_error_is(e, SX_ERR_CONFIG) && g_str_has_prefix(e->message, "f:"));
    return 0;
}
