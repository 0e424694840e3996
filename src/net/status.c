#include "net/net.h"

#include <string.h>

static const struct {
    int status;
    SxErrorCode code;
    const char *text;
} rows[] = {
    {400, SX_ERR_INVALID, "the server does not accept the request"},
    {401, SX_ERR_AUTH, "the server refuses the login: check user and password"},
    {402, SX_ERR_QUOTA, "the server asks for payment"},
    {403, SX_ERR_PERMISSION, "the server does not permit this"},
    {404, SX_ERR_NOT_FOUND, "not found on the server"},
    {405, SX_ERR_UNSUPPORTED, "the server does not offer this there"},
    {408, SX_ERR_TIMEOUT, "the server waited too long for the request"},
    {409, SX_ERR_CHANGED, "the server reports a conflict"},
    {410, SX_ERR_NOT_FOUND, "gone from the server"},
    {412, SX_ERR_CHANGED, "it has been changed on the server meanwhile"},
    {413, SX_ERR_TOO_LARGE, "larger than the server accepts"},
    {414, SX_ERR_NAME_TOO_LONG, "the name is longer than the server accepts"},
    {415, SX_ERR_UNSUPPORTED, "the server does not accept this kind of content"},
    {416, SX_ERR_CHANGED, "the server has no such part of it"},
    {422, SX_ERR_INVALID, "the server does not accept the request"},
    {423, SX_ERR_BUSY, "locked on the server"},
    {424, SX_ERR_BUSY, "the server gave up because of another failure"},
    {425, SX_ERR_RATE, "the server asks to try later"},
    {429, SX_ERR_RATE, "the server asks to slow down"},
    {431, SX_ERR_NAME_TOO_LONG, "the request's head is longer than the server accepts"},
    {501, SX_ERR_UNSUPPORTED, "the server cannot do this"},
    {503, SX_ERR_RATE, "the server is overloaded or in maintenance"},
    {504, SX_ERR_TIMEOUT, "a proxy before the server got no answer in time"},
    {507, SX_ERR_NO_SPACE, "the server is full"},
};

bool
sx_net_status_fail(const SxNet *net, const SxNetRequest *request, const SxNetResponse *response, GError **error)
{
    SxErrorCode code = response->status >= 500 ? SX_ERR_SERVER : SX_ERR_PROTOCOL;
    const char *text = response->status >= 500 ? "the server failed" : "unexpected answer";
    for (gsize i = 0; i < G_N_ELEMENTS(rows); i++)
        if (rows[i].status == response->status) {
            code = rows[i].code;
            text = rows[i].text;
        }
    GError *e = sx_error_new(code, "%s: %s: %s (%s answered with %d)", sx_net_name(net), request->what, text,
                             request->method, response->status);
    sx_error_set_retry_after_ms(e, sx_headers_retry_after_ms(response->headers));
    g_propagate_error(error, e);
    return false;
}
