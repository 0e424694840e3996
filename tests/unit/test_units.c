#include "base/error.h"
#include "base/units.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static void
sizes_are_read(void **state)
{
    static const struct {
        const char *text;
        gint64 bytes;
    } good[] = {{"0", 0},
                {"4096", 4096},
                {"20G", G_GINT64_CONSTANT(20) << 30},
                {"1.5M", 3 << 19},
                {"64 KiB", 65536},
                {" 7kB ", 7168},
                {"8b", 8},
                {"2t", G_GINT64_CONSTANT(2) << 40},
                {"3P", G_GINT64_CONSTANT(3) << 50},
                {"9007199254740993", G_GINT64_CONSTANT(9007199254740993)}};
    for (guint i = 0; i < G_N_ELEMENTS(good); i++) {
        gint64 v = -1;
        assert_true(sx_parse_size(good[i].text, &v, NULL));
        assert_int_equal(v, good[i].bytes);
    }
}

static void
bad_sizes_are_refused_and_change_nothing(void **state)
{
    static const char *const bad[] = {"", " ", "-1", "+1", "G", "1e3", "0x10", "inf", "nan", "1.", ".5", "1X", "1GG", "1 2",
                                      "9999999999999999999", "9999999P", "9.9e30", "1iiB",
                                      "1111111111111111111111111111111111111111111111111111"};
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        gint64 v = 42;
        g_autoptr(GError) e = NULL;
        assert_false(sx_parse_size(bad[i], &v, &e));
        assert_true(sx_error_is(e, SX_ERR_CONFIG));
        assert_non_null(strstr(e->message, "allowed"));
        assert_int_equal(v, 42);
    }
}

static void
durations_are_read(void **state)
{
    static const struct {
        const char *text;
        gint64 ms;
    } good[] = {{"2s", 2000},      {"15m", 900000},         {"500ms", 500}, {"7d", 604800000},      {"1h30m", 5400000},
                {"60", 60000},     {"0", 0},                {"1.5h", 5400000}, {"1w", 604800000},   {"1h 30m 5s", 5405000},
                {"2 min", 120000}, {"0.5", 500}};
    for (guint i = 0; i < G_N_ELEMENTS(good); i++) {
        gint64 v = -1;
        assert_true(sx_parse_duration(good[i].text, &v, NULL));
        assert_int_equal(v, good[i].ms);
    }
    static const char *const bad[] = {"", "  ", "s", "-2s", "2x", "1h30", "5 5", "99999999999999999w", "9223372036854775807s"};
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        gint64 v = 42;
        g_autoptr(GError) e = NULL;
        assert_false(sx_parse_duration(bad[i], &v, &e));
        assert_true(sx_error_is(e, SX_ERR_CONFIG));
        assert_int_equal(v, 42);
    }
}

static void
bools_are_read(void **state)
{
    static const char *const words[] = {"yes", "no", "true", "false", "on", "off", "1", "0", "Yes", "OFF"};
    for (guint i = 0; i < G_N_ELEMENTS(words); i++) {
        bool v = i % 2;
        assert_true(sx_parse_bool(words[i], &v, NULL));
        assert_int_equal(v, i % 2 == 0);
    }
    bool v;
    g_autoptr(GError) e = NULL;
    assert_false(sx_parse_bool("maybe", &v, &e));
    assert_non_null(strstr(e->message, "yes no true false on off 1 0"));
}

static void
rates_follow_the_time_of_day(void **state)
{
    g_autoptr(SxRate) day = sx_rate_parse("08:00-18:00 1M, 22:30-06:00 5M, 2M", NULL);
    assert_non_null(day);
    assert_int_equal(sx_rate_at(day, 8 * 60), 1 << 20);
    assert_int_equal(sx_rate_at(day, 18 * 60 - 1), 1 << 20);
    assert_int_equal(sx_rate_at(day, 18 * 60), 2 << 20);
    assert_int_equal(sx_rate_at(day, 22 * 60 + 30), 5 << 20);
    assert_int_equal(sx_rate_at(day, 0), 5 << 20);
    assert_int_equal(sx_rate_at(day, 6 * 60), 2 << 20);
    g_autoptr(SxRate) none = sx_rate_parse("0", NULL);
    assert_int_equal(sx_rate_at(none, 100), 0);
    g_autoptr(SxRate) only = sx_rate_parse("10:00-24:00 64K", NULL);
    assert_int_equal(sx_rate_at(only, 9 * 60), 0);
    assert_int_equal(sx_rate_at(only, 23 * 60 + 59), 65536);

    static const char *const bad[] = {"", "fast", "8:00-18:00 1M", "08:00-18:00", "08:00-25:00 1M", "08:60-09:00 1M",
                                      "08:00-08:00 1M", "1M, 08:00-18:00 2M", "1M,", "-5", "08:00 1M", "24:01-08:00 1M"};
    for (guint i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) e = NULL;
        assert_null(sx_rate_parse(bad[i], &e));
        assert_true(sx_error_is(e, SX_ERR_CONFIG));
    }
    GString *many = g_string_new("01:00-02:00 1M");
    for (int i = 0; i < 24; i++)
        g_string_append(many, ",01:00-02:00 1M");
    assert_null(sx_rate_parse(many->str, NULL));
    g_string_free(many, TRUE);
}

static void
what_people_see(void **state)
{
    static const struct {
        gint64 v;
        const char *text;
    } sizes[] = {{0, "0 B"}, {1023, "1023 B"}, {1536, "1.5 KiB"}, {3 << 19, "1.5 MiB"}, {1048575, "1.0 MiB"}, {-2048, "-2.0 KiB"}},
      times[] = {{5, "5ms"}, {1000, "1s"}, {200000, "3m 20s"}, {3600000, "1h"}, {90061000, "1d 1h"}, {86401000, "1d"}};
    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree char *s = sx_format_size(sizes[i].v);
        assert_string_equal(s, sizes[i].text);
    }
    for (guint i = 0; i < G_N_ELEMENTS(times); i++) {
        g_autofree char *s = sx_format_duration(times[i].v);
        assert_string_equal(s, times[i].text);
    }
    g_autofree char *now = sx_format_time(G_GINT64_CONSTANT(1700000000123456789));
    g_autofree char *before = sx_format_time(-1);
    g_autofree char *never = sx_format_time(G_MAXINT64);
    assert_string_equal(now, "2023-11-14T22:13:20+00:00");
    assert_string_equal(before, "1969-12-31T23:59:59+00:00");
    assert_true(g_str_has_prefix(never, "2262-"));
}

int
main(void)
{
    g_setenv("TZ", "UTC", TRUE);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_read),
        cmocka_unit_test(bad_sizes_are_refused_and_change_nothing),
        cmocka_unit_test(durations_are_read),
        cmocka_unit_test(bools_are_read),
        cmocka_unit_test(rates_follow_the_time_of_day),
        cmocka_unit_test(what_people_see),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
