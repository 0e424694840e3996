/* Heads of HTTP answers: what is told is understood, what is nonsense is not, and there is an end to it. */
#include "net/net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static SxHeaders *
headers(const char *text)
{
    SxHeaders *h = sx_headers_new();
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **l = lines; *l != NULL; l++)
        assert_true(sx_headers_line(h, *l, strlen(*l), NULL));
    return h;
}

static void
lines_become_values(void **state)
{
    g_autoptr(SxHeaders) h = headers("HTTP/1.1 401 No\nETag: \"old\"\nHTTP/1.1 200 OK\nContent-Length:  42  \r\nDAV: 1\ndav: 2\n"
                                     "no colon\n: no name\nbad name: x\nEmpty:");
    assert_string_equal(sx_headers_get(h, "CONTENT-LENGTH"), "42");
    assert_int_equal(sx_headers_length(h), 42);
    assert_string_equal(sx_headers_get(h, "dav"), "1, 2"); /* repeated */
    assert_string_equal(sx_headers_get(h, "empty"), "");
    assert_null(sx_headers_get(h, "etag")); /* of the answer before */
    assert_null(sx_headers_get(h, "bad name"));
    assert_null(sx_headers_get(h, ""));
}

static void
lengths_and_ranges(void **state)
{
    const struct { const char *text; gint64 length; } lengths[] = {
        {"0", 0}, {"9223372036854775806", G_MAXINT64 - 1}, {"-1", -1}, {"+1", -1}, {"1 2", -1}, {"", -1}, {"99999999999999999999", -1}, {"0x10", -1}};
    for (gsize i = 0; i < G_N_ELEMENTS(lengths); i++) {
        g_autofree char *line = g_strconcat("Content-Length: ", lengths[i].text, NULL);
        g_autoptr(SxHeaders) h = headers(line);
        assert_int_equal(sx_headers_length(h), lengths[i].length);
    }
    const struct { const char *text; bool good; gint64 first, last, total; } ranges[] = {
        {"bytes 0-0/1", true, 0, 0, 1}, {"bytes 5-9/100", true, 5, 9, 100}, {"Bytes 5-9/*", true, 5, 9, -1}, {"bytes */100", true, -1, -1, 100},
        {"bytes 9-5/100", false}, {"bytes 5-100/100", false}, {"bytes -5/100", false}, {"bytes 5-/100", false}, {"items 0-1/2", false},
        {"bytes 0-1", false}, {"bytes 0-1/2x", false}, {"bytes", false}, {"bytes 0-99999999999999999999/1", false}, {"bytes *", false}};
    for (gsize i = 0; i < G_N_ELEMENTS(ranges); i++) {
        g_autofree char *line = g_strconcat("Content-Range: ", ranges[i].text, NULL);
        g_autoptr(SxHeaders) h = headers(line);
        gint64 first, last, total;
        assert_int_equal(sx_headers_range(h, &first, &last, &total), ranges[i].good);
        if (ranges[i].good) {
            assert_int_equal(first, ranges[i].first);
            assert_int_equal(last, ranges[i].last);
            assert_int_equal(total, ranges[i].total);
        }
    }
}

static void
dates_and_waits(void **state)
{
    assert_int_equal(sx_http_date_s("Fri, 20 Nov 2026 12:00:00 GMT"), 1795176000);
    assert_int_equal(sx_http_date_s("Friday, 20-Nov-26 12:00:00 GMT"), 1795176000);
    assert_int_equal(sx_http_date_s("Fri Nov 20 12:00:00 2026"), 1795176000);
    assert_int_equal(sx_http_date_s("yesterday"), -1);
    assert_int_equal(sx_http_date_s(""), -1);
    const struct { const char *text; gint64 ms; } rows[] = {
        {"Retry-After: 7", 7000}, {"Retry-After: 0", 0}, {"Retry-After: -7", 0}, {"Retry-After: soon", 0}, {"X: y", 0},
        {"Retry-After: 999999999", SX_NET_RETRY_AFTER_MAX_MS},
        {"Date: Fri, 20 Nov 2026 12:00:00 GMT\nRetry-After: Fri, 20 Nov 2026 12:01:30 GMT", 90000},
        {"Date: Fri, 20 Nov 2026 12:00:00 GMT\nRetry-After: Fri, 20 Nov 2026 11:00:00 GMT", 0},
        {"Retry-After: Fri, 20 Nov 2026 12:01:30 GMT", 0}}; /* no Date: the server's clock is not known */
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autoptr(SxHeaders) h = headers(rows[i].text);
        assert_int_equal(sx_headers_retry_after_ms(h), rows[i].ms);
    }
}

static void
heads_have_an_end(void **state)
{
    g_autoptr(SxHeaders) h = sx_headers_new(), big = sx_headers_new();
    g_autoptr(GError) error = NULL, too_big = NULL;
    for (int i = 0; i < SX_NET_MAX_HEADERS; i++)
        assert_true(sx_headers_line(h, "A: b", 4, &error));
    assert_false(sx_headers_line(h, "A: b", 4, &error));
    assert_true(sx_error_is(error, SX_ERR_PROTOCOL));
    g_autofree char *line = g_strnfill(SX_NET_MAX_HEADER_BYTES, 'x');
    line[1] = ':';
    assert_true(sx_headers_line(big, line, SX_NET_MAX_HEADER_BYTES, &too_big));
    assert_false(sx_headers_line(big, "A: b", 4, &too_big));
}

static void
addresses(void **state)
{
    const struct { const char *url, *origin; } rows[] = {
        {"https://host/x", "https://host"}, {"HTTPS://Host:443/", "https://host"}, {"http://host:80", "http://host"},
        {"http://host:8080/a?b", "http://host:8080"}, {"https://[::1]:8443/", "https://[::1]:8443"}, {"http://127.0.0.1", "http://127.0.0.1"},
        {"ftp://host/", NULL}, {"host", NULL}, {"http://", NULL}, {"https:///path", NULL}, {"https://alice:secret@host/", NULL}};
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
        SxNetConfig config = {.name = "n", .base_url = rows[i].url, .timeout_ms = 1000};
        g_autoptr(GError) error = NULL;
        g_autoptr(SxNet) net = sx_net_new(&config, &error);
        assert_int_equal(net != NULL, rows[i].origin != NULL);
        if (net != NULL)
            assert_string_equal(sx_net_origin(net), rows[i].origin);
        else
            assert_true(sx_error_is(error, SX_ERR_CONFIG));
        assert_true(error == NULL || strstr(error->message, "secret") == NULL);
    }
    SxNetConfig config = {.name = "n", .base_url = "https://host/", .ca_file = "/no/such/file", .timeout_ms = 1000};
    g_autoptr(GError) error = NULL;
    assert_null(sx_net_new(&config, &error));
    assert_non_null(strstr(error->message, "/no/such/file"));
}

static bool
no_secret(void *data, SxSecret **ret, GError **error)
{
    (*(int *)data)++;
    return sx_fail(error, SX_ERR_AUTH, "the keyring is locked");
}

static void
nobody_there(void **state)
{
    /* A port that was free a moment ago: nothing listens. */
    g_autoptr(GSocket) s = g_socket_new(G_SOCKET_FAMILY_IPV4, G_SOCKET_TYPE_STREAM, G_SOCKET_PROTOCOL_TCP, NULL);
    g_autoptr(GInetAddress) loopback = g_inet_address_new_loopback(G_SOCKET_FAMILY_IPV4);
    g_autoptr(GSocketAddress) any = g_inet_socket_address_new(loopback, 0);
    assert_true(g_socket_bind(s, any, FALSE, NULL)); /* bound, not listening: connections are refused */
    g_autoptr(GSocketAddress) bound = g_socket_get_local_address(s, NULL);
    g_autofree char *url = g_strdup_printf("http://127.0.0.1:%u/", g_inet_socket_address_get_port(G_INET_SOCKET_ADDRESS(bound)));
    SxNetConfig config = {.name = "nas", .base_url = url, .timeout_ms = 1000};
    g_autoptr(SxNet) net = sx_net_new(&config, NULL);
    SxNetRequest request = {.method = "GET", .path = "/", .what = "file"};
    g_auto(SxNetResponse) response = {0};
    g_autoptr(GError) error = NULL, locked = NULL;
    assert_false(sx_net_send(net, &request, &response, NULL, &error));
    assert_true(sx_error_is(error, SX_ERR_OFFLINE));
    assert_non_null(strstr(error->message, "nas: file: cannot reach http://127.0.0.1:"));
    int asked = 0;
    config.secret = no_secret;
    config.data = &asked;
    g_autoptr(SxNet) net2 = sx_net_new(&config, NULL);
    assert_false(sx_net_send(net2, &request, &response, NULL, &locked));
    assert_true(sx_error_is(locked, SX_ERR_AUTH));
    assert_int_equal(asked, 1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_become_values),
        cmocka_unit_test(lengths_and_ranges),
        cmocka_unit_test(dates_and_waits),
        cmocka_unit_test(heads_have_an_end),
        cmocka_unit_test(addresses),
        cmocka_unit_test(nobody_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
