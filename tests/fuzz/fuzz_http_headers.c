/* The head of an HTTP answer, line by line: bounded, and no number comes out that cannot be. */
#include "net/net.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    g_autoptr(SxHeaders) h = sx_headers_new();
    const char *s = (const char *)data, *end = s + size;
    while (s < end) {
        const char *line_end = memchr(s, '\n', (size_t)(end - s));
        size_t n = (size_t)((line_end != NULL ? line_end + 1 : end) - s);
        g_autoptr(GError) e = NULL;
        if (!sx_headers_line(h, s, n, &e)) {
            g_assert(sx_error_is(e, SX_ERR_PROTOCOL));
            return 0;
        }
        s += n;
    }
    gint64 first, last, total, wait = sx_headers_retry_after_ms(h);
    g_assert(sx_headers_length(h) >= -1);
    g_assert(wait >= 0 && wait <= SX_NET_RETRY_AFTER_MAX_MS);
    g_assert(sx_headers_date_s(h, "last-modified") >= -1);
    if (sx_headers_range(h, &first, &last, &total)) {
        g_assert(first >= -1 && last >= first && total >= -1);
        g_assert(total < 0 || last < total);
    }
    return 0;
}
