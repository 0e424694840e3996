#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A WebDAV server that answers wrongly on purpose. The first part of the path says how (the functions `case_*` below);
what a case does not spoil is answered rightly, so that a client gets as far as the fault.

/control/elsewhere tells how many requests reached the other address that /redirect-elsewhere/ points to;
/control/log gives the requests so far as lines "METHOD PATH AUTHORIZED STATUS"."""
import argparse, email.utils, socket, threading, time, urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EARLY = ("early-412", "full")  # answer an upload that expects the go-ahead without it
LONG = 3600  # seconds; a hanging answer ends when the server is stopped
ENTRY = ("<D:response><D:href>%s</D:href><D:propstat><D:prop><D:resourcetype>%s</D:resourcetype>%s"
         "<D:getlastmodified>Fri, 20 Nov 2026 12:00:00 GMT</D:getlastmodified><D:getetag>\"%s\"</D:getetag></D:prop>"
         "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>")
HEAD = '<?xml version="1.0" encoding="utf-8"?><D:multistatus xmlns:D="DAV:">'
LAUGHS = ('<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "ha">' + "".join(
    '<!ENTITY %s "%s">' % (chr(98 + i), ("&%s;" % chr(97 + i)) * 10) for i in range(12)) +
    ']><D:multistatus xmlns:D="DAV:"><D:response><D:href>&m;</D:href></D:response></D:multistatus>')
CONTENT = bytes(i % 251 for i in range(100000))


def directory(href):
    return ENTRY % (href, "<D:collection/>", "", "dir")


def file(href, size="5", etag="v1"):
    return ENTRY % (href, "", "<D:getcontentlength>%s</D:getcontentlength>" % size, etag)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "bad", ""

    def log_message(self, *args):
        pass

    def send(self, status, body=b"", headers=(), length=None):
        if isinstance(body, str):
            body = body.encode()
        self.server.log.append("%s %s %s %d" % (self.command, self.path, "yes" if self.headers.get("Authorization") else "no", status))
        self.send_response(status)
        for k, v in headers:
            self.send_header(k, v)
        if length != "none":
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def xml(self, body, **more):
        self.send(207, body, [("Content-Type", "application/xml; charset=utf-8")], **more)

    def handle_expect_100(self):
        """A refusal comes before the body, and the body is never asked for."""
        return self.path.split("/")[1] in EARLY or super().handle_expect_100()

    def close_early(self):
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def hang(self):
        self.server.stopping.wait(LONG)
        self.close_connection = True

    def serve(self):
        n = int(self.headers.get("Content-Length") or 0)
        parts = urllib.parse.urlsplit(self.path).path.split("/")
        self.case = parts[1]
        if self.case == "control":
            return self.send(200, "\n".join(self.server.log) + "\n" if parts[2] == "log" else str(self.server.elsewhere))
        handler = getattr(self, "case_" + self.case.replace("-", "_"), None)
        if handler is None:
            return self.send(404, "no such case")
        self.base, self.rest = "/%s/" % self.case, "/".join(parts[2:])
        if self.case in EARLY and self.headers.get("Expect"):
            self.close_connection = True
        else:
            self.rfile.read(n)
        handler(self.command, self.headers.get("Depth"))

    do_GET = do_HEAD = do_PUT = do_DELETE = do_OPTIONS = do_PROPFIND = do_MKCOL = do_MOVE = do_COPY = do_PROPPATCH = serve

    def fine(self, method, depth):
        """What a good server would say about a root with one file `f`."""
        if method == "OPTIONS":
            return self.send(200, b"", [("DAV", "1"), ("Allow", "OPTIONS, GET, HEAD, PUT, DELETE, PROPFIND, MKCOL, MOVE, COPY")])
        if method == "PROPFIND":
            if self.rest == "":
                return self.xml(HEAD + directory(self.base) + (file(self.base + "f") if depth == "1" else "") + "</D:multistatus>")
            if self.rest.startswith("f"):
                return self.xml(HEAD + file(self.base + self.rest) + "</D:multistatus>")
            return self.send(404)
        if method in ("GET", "HEAD"):
            return self.send(200, b"hello", [("ETag", '"v1"')])
        if method in ("PUT", "MKCOL", "MOVE", "COPY"):
            return self.send(201)
        return self.send(204)

    def listing(self, method, depth, entries):
        """Depth 1 of the root gives these entries."""
        if method == "PROPFIND" and depth == "1" and self.rest == "":
            return self.xml(HEAD + directory(self.base) + entries + "</D:multistatus>")
        return self.fine(method, depth)

    # ---- the root itself ----
    def case_html(self, method, depth):
        self.send(200, "<!DOCTYPE html><html><body>Please log in</body></html>", [("Content-Type", "text/html; charset=utf-8")])

    def case_html_207(self, method, depth):
        self.send(207, "<!DOCTYPE html><html><body>Hotel WLAN</body></html>", [("Content-Type", "text/html")])

    def case_missing(self, method, depth):
        self.send(404)

    def case_plain_web(self, method, depth):
        self.send(405, b"", [("Allow", "GET, HEAD")])

    def case_file(self, method, depth):
        if method == "PROPFIND":
            return self.xml(HEAD + file(self.base) + "</D:multistatus>")
        self.fine(method, depth)

    def case_login(self, method, depth):
        self.send(401, b"", [("WWW-Authenticate", 'Basic realm="no"')])

    def case_redirect_elsewhere(self, method, depth):
        self.send(301, b"", [("Location", "http://localhost:%d/elsewhere/" % self.server.other_port)])

    def case_redirect_https(self, method, depth):
        self.send(301, b"", [("Location", "https://127.0.0.1%s" % self.path)])

    def case_redirect_loop(self, method, depth):
        self.send(302, b"", [("Location", self.path + "x")])

    def case_redirect_nowhere(self, method, depth):
        self.send(302)

    def case_redirect_here(self, method, depth):
        if method == "PROPFIND" and "moved=1" not in self.path:
            return self.send(307, b"", [("Location", self.base + "?moved=1")])
        self.fine(method, depth)

    def case_many_headers(self, method, depth):
        self.send(207, b"", [("X-%d" % i, "y") for i in range(500)])

    def case_rate(self, method, depth):
        self.send(429, b"", [("Retry-After", "7")])

    def case_rate_date(self, method, depth):
        when = email.utils.formatdate(time.time() + 90, usegmt=True)
        self.send(503, b"", [("Retry-After", when)])

    def case_hang(self, method, depth):
        self.hang()

    def case_not_http(self, method, depth):
        self.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        self.close_early()

    def case_garbage_after_head(self, method, depth):
        self.xml(b"\x00\xff\x00 not xml")

    # ---- listings ----
    def case_truncated(self, method, depth):
        if method == "PROPFIND" and depth == "1":
            return self.xml(HEAD + directory(self.base) + file(self.base + "f"))
        self.fine(method, depth)

    def case_cut(self, method, depth):
        if method == "PROPFIND" and depth == "1":
            self.xml(HEAD + directory(self.base) + file(self.base + "f"), length=10000)
            return self.close_early()
        self.fine(method, depth)

    def case_malformed(self, method, depth):
        if method == "PROPFIND" and depth == "1":
            return self.xml(HEAD + directory(self.base) + "<D:response></D:href></D:multistatus>")
        self.fine(method, depth)

    def case_laughs(self, method, depth):
        if method == "PROPFIND" and depth == "1":
            return self.xml(LAUGHS)
        self.fine(method, depth)

    def case_deep(self, method, depth):
        self.listing(method, depth, "<a>" * 100 + "</a>" * 100)

    def case_long_text(self, method, depth):
        self.listing(method, depth, file(self.base + "f" * 100000))

    def case_other_xml(self, method, depth):
        if method == "PROPFIND" and depth == "1":
            return self.xml('<?xml version="1.0"?><rss/>')
        self.fine(method, depth)

    def case_no_self(self, method, depth):
        if method == "PROPFIND" and depth == "1":
            return self.xml(HEAD + file("/somewhere/else/f") + "</D:multistatus>")
        self.fine(method, depth)

    def case_evil_names(self, method, depth):
        b = self.base
        self.listing(method, depth, file(b + "..") + file(b + "a%2Fb") + file(b + "%2e%2e") + file(b + "nul%00x") + file("/etc/passwd") +
                     file(b + "sub/inner") + file(b + "x" * 300) + file(b + "bad%zz") + file(b + ".syncox-tmp-1") + file(b + "good") +
                     file("http://127.0.0.1" + b + "absolute") + file(b + "%67ood2") + directory(b + "dir/"))

    def case_sizes(self, method, depth):
        b = self.base
        self.listing(method, depth, file(b + "negative", "-5") + file(b + "huge", "99999999999999999999999") + file(b + "words", "many") +
                     file(b + "max", "9223372036854775807") + file(b + "empty", "") + file(b + "good", "7"))

    def case_statuses(self, method, depth):
        b = self.base
        gone = "<D:response><D:href>%sgone</D:href><D:status>HTTP/1.1 404 Not Found</D:status></D:response>" % b
        locked = "<D:response><D:href>%slocked</D:href><D:status>HTTP/1.1 403 Forbidden</D:status></D:response>" % b
        split = ("<D:response><D:href>%ssplit</D:href><D:propstat><D:prop><D:getcontentlength>9</D:getcontentlength></D:prop>"
                 "<D:status>HTTP/1.1 200 OK</D:status></D:propstat><D:propstat><D:prop><D:resourcetype><D:collection/></D:resourcetype></D:prop>"
                 "<D:status>HTTP/1.1 404 Not Found</D:status></D:propstat><D:propstat><D:prop><D:getetag>W/\"w\"</D:getetag></D:prop>"
                 "<D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>" % b)
        self.listing(method, depth, gone + locked + split)

    def case_failing_entry(self, method, depth):
        self.listing(method, depth, file(self.base + "f") + "<D:response><D:href>%sx</D:href><D:status>HTTP/1.1 500 Oops</D:status></D:response>" % self.base)

    def case_hang_in_listing(self, method, depth):
        if method == "PROPFIND" and depth == "1":
            self.xml(HEAD + directory(self.base) + file(self.base + "f"), length=10000)
            self.wfile.flush()
            return self.hang()
        self.fine(method, depth)

    # ---- reading ----
    def case_short_get(self, method, depth):
        if method == "GET":
            self.send(200, b"hel", [("ETag", '"v1"')], length=5)
            return self.close_early()
        self.fine(method, depth)

    def case_other_version(self, method, depth):
        if method == "GET":
            return self.send(200, b"HELLO", [("ETag", '"v2"')])
        self.fine(method, depth)

    def case_other_size(self, method, depth):
        if method == "GET":
            return self.send(200, b"longer", [("Last-Modified", "Fri, 20 Nov 2026 12:00:00 GMT")])
        self.fine(method, depth)

    def case_no_ranges(self, method, depth):
        if method == "GET":
            return self.send(200, CONTENT, [("ETag", '"v1"')])
        self.fine(method, depth)

    def case_wrong_range(self, method, depth):
        if method == "GET":
            return self.send(206, CONTENT[:10], [("ETag", '"v1"'), ("Content-Range", "bytes 0-9/100000")])
        self.fine(method, depth)

    def case_no_range_told(self, method, depth):
        if method == "GET":
            return self.send(206, CONTENT[:10], [("ETag", '"v1"')])
        self.fine(method, depth)

    def case_too_much(self, method, depth):
        if method == "GET":
            return self.send(206, CONTENT[5:100], [("ETag", '"v1"'), ("Content-Range", "bytes 5-99/100000")])
        self.fine(method, depth)

    # ---- writing ----
    def write_status(self, method, depth, status, headers=()):
        if method in ("PUT", "MKCOL", "DELETE", "MOVE"):
            return self.send(status, b"", headers)
        self.fine(method, depth)

    def case_full(self, method, depth):
        self.write_status(method, depth, 507)

    def case_no_put(self, method, depth):
        self.write_status(method, depth, 405)

    def case_forbidden(self, method, depth):
        self.write_status(method, depth, 403)

    def case_too_large(self, method, depth):
        self.write_status(method, depth, 413)

    def case_locked(self, method, depth):
        self.write_status(method, depth, 423)

    def case_broken(self, method, depth):
        self.write_status(method, depth, 500)

    def case_early_412(self, method, depth):
        self.write_status(method, depth, 412)

    def case_weak(self, method, depth):
        """Refuses If-Match although the version is the expected one, as servers with weak etags do."""
        if method == "PUT":
            return self.send(412)
        self.fine(method, depth)

    def case_lost_reply(self, method, depth):
        if method in ("PUT", "MKCOL", "DELETE", "MOVE"):
            return self.close_early()
        self.fine(method, depth)

    def case_proxy_502(self, method, depth):
        if method == "MOVE":
            return self.send(502)
        self.fine(method, depth)

    def case_damaged_upload(self, method, depth):
        if method == "PROPFIND" and self.rest.startswith(".syncox-tmp-"):
            return self.xml(HEAD + file(self.base + self.rest, "3") + "</D:multistatus>")
        self.fine(method, depth)

    def case_hang_in_put(self, method, depth):
        if method == "PUT":
            return self.hang()
        self.fine(method, depth)


class Elsewhere(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def serve(self):
        self.server.home.elsewhere += 1
        self.send_error(404)

    do_GET = do_PROPFIND = do_OPTIONS = do_PUT = serve


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # many clients at once: a connection more than fit is dropped or reset

    def handle_error(self, request, address):
        pass  # clients break connections here, that is the point


def main():
    p = argparse.ArgumentParser()
    for name in ("port", "root", "user", "password"):
        p.add_argument("--" + name)
    args = p.parse_args()
    other = Server(("127.0.0.1", 0), Elsewhere)
    server = Server(("127.0.0.1", int(args.port)), Handler)
    other.home, server.other_port, server.elsewhere, server.log = server, other.server_address[1], 0, []
    server.stopping = threading.Event()
    threading.Thread(target=other.serve_forever, daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
