# SPDX-License-Identifier: GPL-2.0-or-later
"""A server that stands between the mount and a real WebDAV server, in this process: it hands everything on, until a test gives
it something to spoil.

`refuse(method, path)` answers instead of the server: None hands on, (status, headers, body) is sent.
`spoil(method, path, status, headers, body)` changes an answer: the same, with a fourth member for another Content-Length
(the connection then ends after the body). Both run on the server's threads."""
import http.client, threading, urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP = ("connection", "keep-alive", "transfer-encoding", "content-length", "expect", "host")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "between", ""

    def log_message(self, *args):
        pass

    def send_response(self, status, message=None):
        self.send_response_only(status, message)  # Server and Date are the real server's

    def give(self, status, headers, body, length=None):
        self.send_response(status)
        for k, v in headers:
            if k.lower() not in HOP:
                self.send_header(k, v)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        if length is not None:
            self.close_connection = True

    def hand_on(self, body):
        server = http.client.HTTPConnection("127.0.0.1", self.server.far, timeout=60)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
            headers["Host"] = self.headers["Host"]
            server.request(self.command, self.path, body, headers)
            r = server.getresponse()
            return r.status, r.getheaders(), r.read()
        finally:
            server.close()

    def serve(self):
        s = self.server
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        answer = s.refuse(self.command, path)
        if answer is None:
            answer = s.spoil(self.command, path, *self.hand_on(body))
        s.seen.append((self.command, path, answer[0]))
        self.give(*answer)

    do_GET = do_HEAD = do_PUT = do_DELETE = do_OPTIONS = do_PROPFIND = do_MKCOL = do_MOVE = do_COPY = do_PROPPATCH = serve


class Between(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # many clients at once: a connection more than fit is dropped or reset

    def __init__(self, url):
        """url: of the real server, whose path stays the same."""
        parts = urllib.parse.urlsplit(url)
        super().__init__(("127.0.0.1", 0), Handler)
        self.far, self.seen = parts.port, []
        self.url = "http://127.0.0.1:%d%s" % (self.server_address[1], parts.path)
        self.let_all_through()
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def let_all_through(self):
        self.refuse = lambda method, path: None
        self.spoil = lambda method, path, status, headers, body: (status, headers, body)

    def handle_error(self, request, address):
        pass  # clients break connections here, that is the point

    def close(self):
        self.shutdown()
        self.server_close()
        self.thread.join()
