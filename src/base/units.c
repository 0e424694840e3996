#include "base/units.h"
#include "base/error.h"

#include <string.h>
#include <time.h>

#define RATE_ITEMS_MAX 24 /* spans in one bandwidth text */
#define DAY_MINUTES (24 * 60)

static const char *
skip_blanks(const char *p)
{
    while (g_ascii_isspace(*p))
        p++;
    return p;
}

/* A plain decimal number: no sign, exponent, hex, inf or nan, all of which strtod would take. Exact for whole numbers. */
static bool
scan_number(const char **p, gint64 unit_max, double *ret_double, gint64 *ret_whole, bool *ret_is_whole)
{
    const char *s = *p;
    size_t digits = strspn(s, "0123456789");
    size_t n = digits;
    if (s[n] == '.')
        n += 1 + strspn(s + n + 1, "0123456789");
    if (digits == 0 || s[n - 1] == '.' || n > 40)
        return false;
    char buf[48];
    memcpy(buf, s, n);
    buf[n] = '\0';
    *ret_is_whole = n == digits;
    *ret_double = g_ascii_strtod(buf, NULL);
    if (*ret_double > (double)unit_max)
        return false;
    *ret_whole = *ret_is_whole ? g_ascii_strtoll(buf, NULL, 10) : 0;
    *p = s + n;
    return true;
}

/* number * unit without overflow; false when it does not fit. */
static bool
scale(double number, gint64 whole, bool is_whole, gint64 unit, gint64 *ret)
{
    if (is_whole)
        return !__builtin_mul_overflow(whole, unit, ret);
    double v = number * (double)unit;
    if (v >= 9.2e18)
        return false;
    *ret = (gint64)(v + 0.5);
    return true;
}

static bool
size_unit(const char **p, gint64 *ret_unit)
{
    static const char letters[] = "KMGTP";
    const char *s = skip_blanks(*p);
    *ret_unit = 1;
    const char *hit = *s != '\0' ? strchr(letters, g_ascii_toupper(*s)) : NULL;
    if (hit != NULL) {
        *ret_unit = G_GINT64_CONSTANT(1) << (10 * (hit - letters + 1));
        s++;
        if (*s == 'i' || *s == 'I')
            s++;
    }
    if (*s == 'B' || *s == 'b')
        s++;
    *p = skip_blanks(s);
    return **p == '\0';
}

bool
sx_parse_size(const char *text, gint64 *ret_bytes, GError **error)
{
    const char *p = skip_blanks(text);
    double d;
    gint64 whole, unit, v;
    bool is_whole;
    if (!scan_number(&p, G_MAXINT64, &d, &whole, &is_whole) || !size_unit(&p, &unit) ||
        !scale(d, whole, is_whole, unit, &v))
        return sx_fail(error, SX_ERR_CONFIG, "'%s' is not a size; allowed: a number with K, M, G, T or P, such as 20G", text);
    *ret_bytes = v;
    return true;
}

static const struct {
    const char *name;
    gint64 ms;
} duration_units[] = {{"ms", 1},       {"s", 1000},     {"m", 60000}, {"min", 60000}, {"h", 3600000},
                      {"d", 86400000}, {"w", 604800000}};

static bool
duration_unit(const char **p, gint64 *ret_ms)
{
    size_t n = strspn(*p, "abcdefghijklmnopqrstuvwxyz");
    for (guint i = 0; i < G_N_ELEMENTS(duration_units); i++)
        if (strlen(duration_units[i].name) == n && strncmp(*p, duration_units[i].name, n) == 0) {
            *ret_ms = duration_units[i].ms;
            *p += n;
            return true;
        }
    return false;
}

static bool
scan_duration(const char *text, gint64 *ret_ms)
{
    const char *p = skip_blanks(text);
    gint64 sum = 0;
    for (int parts = 0; *p != '\0'; parts++) {
        double d;
        gint64 whole, unit = 1000, v;
        bool is_whole;
        if (!scan_number(&p, G_MAXINT64, &d, &whole, &is_whole))
            return false;
        p = skip_blanks(p);
        bool bare = *p == '\0' && parts == 0;
        if (!bare && !duration_unit(&p, &unit))
            return false;
        if (!scale(d, whole, is_whole, unit, &v) || __builtin_add_overflow(sum, v, &sum))
            return false;
        p = skip_blanks(p);
    }
    *ret_ms = sum;
    return *skip_blanks(text) != '\0';
}

bool
sx_parse_duration(const char *text, gint64 *ret_ms, GError **error)
{
    gint64 v;
    if (!scan_duration(text, &v))
        return sx_fail(error, SX_ERR_CONFIG, "'%s' is not a duration; allowed: numbers with ms, s, m, h, d or w, such as 1h30m",
                       text);
    *ret_ms = v;
    return true;
}

bool
sx_parse_bool(const char *text, bool *ret_value, GError **error)
{
    static const struct {
        const char *word;
        bool value;
    } words[] = {{"yes", true}, {"no", false},  {"true", true}, {"false", false},
                 {"on", true},  {"off", false}, {"1", true},    {"0", false}};
    for (guint i = 0; i < G_N_ELEMENTS(words); i++)
        if (g_ascii_strcasecmp(text, words[i].word) == 0) {
            *ret_value = words[i].value;
            return true;
        }
    return sx_fail(error, SX_ERR_CONFIG, "'%s' is neither yes nor no; allowed: yes no true false on off 1 0", text);
}

char *
sx_format_size(gint64 bytes)
{
    static const char *const names[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    guint i = 0;
    double v = (double)bytes;
    while ((v < 0 ? -v : v) >= 1023.95 && i + 1 < G_N_ELEMENTS(names)) {
        v /= 1024;
        i++;
    }
    return i == 0 ? g_strdup_printf("%" G_GINT64_FORMAT " B", bytes) : g_strdup_printf("%.1f %s", v, names[i]);
}

/* The two largest parts that are not zero: nobody reads the seconds behind days. */
char *
sx_format_duration(gint64 ms)
{
    static const struct {
        char letter;
        gint64 ms;
    } parts[] = {{'d', 86400000}, {'h', 3600000}, {'m', 60000}, {'s', 1000}};
    if (ms < 1000)
        return g_strdup_printf("%" G_GINT64_FORMAT "ms", ms);
    GString *out = g_string_new(NULL);
    int written = 0;
    for (guint i = 0; i < G_N_ELEMENTS(parts) && written < 2; i++) {
        gint64 n = ms / parts[i].ms;
        ms %= parts[i].ms;
        if (n == 0) {
            written += written > 0;
            continue;
        }
        g_string_append_printf(out, "%s%" G_GINT64_FORMAT "%c", out->len > 0 ? " " : "", n, parts[i].letter);
        written++;
    }
    return g_string_free(out, FALSE);
}

char *
sx_format_time(gint64 real_ns)
{
    gint64 secs = real_ns / 1000000000 - (real_ns % 1000000000 < 0);
    g_autoptr(GDateTime) t = g_date_time_new_from_unix_local(secs);
    return t != NULL ? g_date_time_format(t, "%Y-%m-%dT%H:%M:%S%:z") : g_strdup("?");
}

/* One item of a bandwidth text. Minutes are of the day; from > to goes over midnight. */
typedef struct RateItem {
    int from, to; /* [from, to); 0, DAY_MINUTES: always */
    gint64 bytes;
} RateItem;

struct SxRate {
    guint n;
    RateItem items[RATE_ITEMS_MAX]; /* the first that matches counts */
};

static bool
scan_clock(const char **p, int *ret_minute)
{
    const char *s = *p;
    if (!g_ascii_isdigit(s[0]) || !g_ascii_isdigit(s[1]) || s[2] != ':' || !g_ascii_isdigit(s[3]) || !g_ascii_isdigit(s[4]))
        return false;
    int h = (s[0] - '0') * 10 + s[1] - '0';
    int m = (s[3] - '0') * 10 + s[4] - '0';
    if (m > 59 || h * 60 + m > DAY_MINUTES)
        return false;
    *ret_minute = h * 60 + m;
    *p = s + 5;
    return true;
}

static bool
rate_item(const char *text, RateItem *item)
{
    const char *p = skip_blanks(text);
    *item = (RateItem){.from = 0, .to = DAY_MINUTES};
    if (strchr(p, ':') != NULL) {
        if (!scan_clock(&p, &item->from) || *p++ != '-' || !scan_clock(&p, &item->to) || !g_ascii_isspace(*p) ||
            item->from == item->to)
            return false;
    }
    return sx_parse_size(p, &item->bytes, NULL);
}

SxRate *
sx_rate_parse(const char *text, GError **error)
{
    g_autoptr(SxRate) rate = g_new0(SxRate, 1);
    g_auto(GStrv) parts = g_strsplit(text, ",", RATE_ITEMS_MAX + 1);
    bool rest_seen = false;
    bool good = parts[0] != NULL;
    for (char **part = parts; good && *part != NULL; part++) {
        good = rate->n < RATE_ITEMS_MAX && !rest_seen && rate_item(*part, &rate->items[rate->n]);
        if (good) {
            rest_seen = rate->items[rate->n].from == 0 && rate->items[rate->n].to == DAY_MINUTES;
            rate->n++;
        }
    }
    if (!good) {
        sx_fail(error, SX_ERR_CONFIG,
                "'%s' is not a bandwidth; allowed: bytes per second such as 1M, 0 for no limit, or by time of day: "
                "08:00-18:00 1M, 0", text);
        return NULL;
    }
    return g_steal_pointer(&rate);
}

gint64
sx_rate_at(const SxRate *rate, int minute_of_day)
{
    for (guint i = 0; i < rate->n; i++) {
        const RateItem *r = &rate->items[i];
        bool inside = r->from < r->to ? minute_of_day >= r->from && minute_of_day < r->to
                                      : minute_of_day >= r->from || minute_of_day < r->to;
        if (inside)
            return r->bytes;
    }
    return 0;
}

void
sx_rate_free(SxRate *rate)
{
    g_free(rate);
}
