#include "http/http.h"

#include <string.h>

void
sx_json_set_bytes(json_t *object, const char *key, const char *bytes)
{
    if (bytes == NULL) {
        json_object_set_new(object, key, json_null());
        return;
    }
    g_autofree char *text = g_utf8_make_valid(bytes, -1);
    json_object_set_new(object, key, json_string(text));
    if (strcmp(text, bytes) == 0)
        return;
    g_autofree char *b64_key = g_strconcat(key, "_b64", NULL);
    g_autofree char *b64 = g_base64_encode((const guchar *)bytes, strlen(bytes));
    json_object_set_new(object, b64_key, json_string(b64));
}

/* Base64 as RFC 4648 has it; g_base64_decode() skips what it does not know, which would let two texts mean one path. */
static char *
decode_b64(const char *text)
{
    gsize n;
    g_autofree guchar *bytes = g_base64_decode(text, &n);
    g_autofree char *again = g_base64_encode(bytes, n);
    if (strcmp(again, text) != 0 || memchr(bytes, '\0', n) != NULL)
        return NULL;
    return g_strndup((const char *)bytes, n);
}

char *
sx_json_get_bytes(const json_t *object, const char *key)
{
    g_autofree char *b64_key = g_strconcat(key, "_b64", NULL);
    const json_t *b64 = json_object_get(object, b64_key);
    if (b64 != NULL)
        return json_is_string(b64) ? decode_b64(json_string_value(b64)) : NULL;
    const json_t *text = json_object_get(object, key);
    if (!json_is_string(text) || strlen(json_string_value(text)) != json_string_length(text))
        return NULL;
    return g_strdup(json_string_value(text));
}
