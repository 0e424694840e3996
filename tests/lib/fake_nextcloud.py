#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A fake Nextcloud for tests, because no package of the real server exists in the distributions that we test on.

It does what the real one does for the calls that syncoxfs makes, as far as its documentation and sabre/dav's rules tell:
status.php, the OCS user and capabilities; files with strong random etags that change in every ancestor, file ids that
survive moves, X-OC-MTime, OC-Checksum (stored, not verified; forgotten when the time is set), sabre's If-Match,
If-None-Match and If (an uri counts only with a blank behind '>'), chunked upload version 2 with its 423 and 404 while and after
assembling, names in NFC without control characters and back-slashes, quota, 507. Everything is in memory.

Tests steer it: POST /control/assembly/N (the MOVE of the next upload answers 423 N times, then 404, and has been done),
/control/full/0|1, /control/maintenance/0|1; GET /control/log gives the requests so far as lines "METHOD PATH STATUS"."""
import argparse, base64, email.utils, hashlib, json, os, re, socket, sys, threading, time, unicodedata, urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.etree import ElementTree
from xml.sax.saxutils import escape

FILES, UPLOADS = "/remote.php/dav/files/", "/remote.php/dav/uploads/"
LOG_MAX = 100000


class Node:
    next_id = 1

    def __init__(self, directory):
        self.children = {} if directory else None
        self.data, self.mtime, self.checksum, self.upload_target = b"", int(time.time()), None, None
        self.id, Node.next_id = Node.next_id, Node.next_id + 1
        self.touch()

    def touch(self):
        self.etag = os.urandom(16).hex()

    def copy(self):
        n = Node(self.children is not None)
        n.data, n.mtime, n.checksum = self.data, self.mtime, self.checksum
        if self.children is not None:
            n.children = {k: v.copy() for k, v in self.children.items()}
        return n


class Answer(Exception):
    def __init__(self, status, text="", headers=()):
        self.status, self.text, self.headers = status, text, headers


class World:
    """All state; `lock` guards it and is not held while bytes come or go."""

    def __init__(self, user, password):
        self.lock = threading.RLock()
        self.user, self.password = user, password
        self.files, self.uploads = Node(True), Node(True)
        self.assembly, self.full, self.maintenance, self.log = 0, False, False, []
        self.assembled = {}  # upload folder -> answers of 423 left

    def find(self, root, parts):
        node = root
        for p in parts:
            if node.children is None or p not in node.children:
                return None
            node = node.children[p]
        return node

    def parent(self, root, parts):
        node = self.find(root, parts[:-1])
        if node is None or node.children is None:
            raise Answer(409, "Parent node does not exist")
        return node

    def propagate(self, parts):
        node = self.files
        node.touch()
        for p in parts[:-1]:
            node = node.children.get(p)
            if node is None:
                break
            node.touch()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "Apache", ""
    wbufsize = 1 << 16

    def log_message(self, *args):
        pass

    # ---- answers ----
    def answer(self, status, body=b"", headers=()):
        with self.world.lock:
            if len(self.world.log) < LOG_MAX:
                self.world.log.append("%s %s %d" % (self.command, self.path, status))
        if isinstance(body, str):
            body = body.encode()
        self.send_response(status)
        names = set()
        for k, v in headers:
            self.send_header(k, v)
            names.add(k.lower())
        if "content-length" not in names:
            self.send_header("Content-Length", str(len(body)))
        if self.body_left():
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body_left(self):
        return self.expected > self.taken

    def read_body(self):
        pieces = []
        while self.expected > self.taken:
            piece = self.rfile.read(min(1 << 18, self.expected - self.taken))
            if not piece:
                raise ConnectionResetError
            self.taken += len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def serve(self):
        self.world = self.server.world
        self.expected, self.taken = int(self.headers.get("Content-Length") or 0), 0
        try:
            self.route()
        except Answer as a:
            text = a.text
            if a.status >= 400:
                text = ('<?xml version="1.0" encoding="utf-8"?>\n<d:error xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns">'
                        "<s:message>%s</s:message></d:error>" % escape(a.text))
            self.answer(a.status, text, list(a.headers) + [("Content-Type", "application/xml; charset=utf-8")])
        except (ConnectionError, socket.timeout):
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_OPTIONS = do_PROPFIND = do_PROPPATCH = serve
    do_MKCOL = do_MOVE = do_COPY = do_LOCK = do_UNLOCK = serve

    # ---- routing ----
    def route(self):
        path = urllib.parse.urlsplit(self.path).path
        if path.startswith("/control/"):
            return self.control(path.split("/")[2:])
        if path == "/status.php":
            return self.json({"installed": True, "maintenance": self.world.maintenance, "productname": "Nextcloud",
                              "versionstring": "31.0.0"})
        if self.world.maintenance:
            raise Answer(503, "System in maintenance mode.", [("Retry-After", "120")])
        login = base64.b64encode(("%s:%s" % (self.world.user, self.world.password)).encode()).decode()
        if self.headers.get("Authorization") != "Basic " + login:
            raise Answer(401, "No public access to this resource.", [("WWW-Authenticate", 'Basic realm="Nextcloud", charset="UTF-8"')])
        if path == "/ocs/v1.php/cloud/user":
            return self.ocs({"id": self.world.user, "display-name": "Alice"})
        if path == "/ocs/v2.php/cloud/capabilities":
            return self.ocs({"capabilities": {"dav": {"chunking": "1.0"}, "checksums": {"preferredUploadType": "SHA1"}}})
        for prefix, root in ((FILES, self.world.files), (UPLOADS, self.world.uploads)):
            mine = prefix + urllib.parse.quote(self.world.user)
            if path == mine or path.startswith(mine + "/"):
                return self.dav(root, mine, self.parts(path[len(mine):]))
        if path == "/":
            return self.answer(302, b"", [("Location", "/index.php/login")])
        if path == "/index.php/login":
            return self.answer(200, "<!DOCTYPE html><html><body>Log in</body></html>", [("Content-Type", "text/html; charset=UTF-8")])
        raise Answer(404, "File not found: " + path)

    def control(self, words):
        with self.world.lock:
            if words[0] == "log":
                return self.answer(200, "\n".join(self.world.log) + "\n")
            setattr(self.world, words[0], int(words[1]))
        self.answer(204)

    def json(self, value):
        self.answer(200, json.dumps(value), [("Content-Type", "application/json")])

    def ocs(self, data):
        if self.headers.get("OCS-APIRequest") != "true":
            raise Answer(412, "CSRF check failed")
        self.json({"ocs": {"meta": {"status": "ok", "statuscode": 100}, "data": data}})

    def parts(self, path):
        parts = []
        for raw in path.split("/"):
            if raw == "":
                continue
            try:
                name = urllib.parse.unquote_to_bytes(raw).decode("utf-8")
            except UnicodeDecodeError:
                raise Answer(400, "Invalid name: not UTF-8")
            parts.append(unicodedata.normalize("NFC", name))
        return parts

    def check_name(self, name):
        if "\\" in name or "/" in name or name in (".", "..") or len(name.encode()) > 250 or any(ord(c) < 32 for c in name):
            raise Answer(400, "Invalid file name")

    # ---- sabre's conditions ----
    def resolve(self, url):
        """A URL or path to (root, parts); None when it is not ours."""
        u = urllib.parse.urlsplit(url)
        if u.netloc and u.netloc != self.headers.get("Host"):
            return None
        for prefix, root in ((FILES, self.world.files), (UPLOADS, self.world.uploads)):
            mine = prefix + urllib.parse.quote(self.world.user)
            if u.path == mine or u.path.startswith(mine + "/"):
                return root, self.parts(u.path[len(mine):])
        return None

    def preconditions(self, root, parts):
        node = self.world.find(root, parts)
        etag = '"%s"' % node.etag if node is not None else None
        match = self.headers.get("If-Match")
        if match is not None and (node is None or (match != "*" and etag not in [m.strip() for m in match.split(",")])):
            raise Answer(412, "An If-Match header was specified, but none of the specified ETags matched.")
        none = self.headers.get("If-None-Match")
        if none is not None and node is not None and (none == "*" or etag in [m.strip() for m in none.split(",")]):
            raise Answer(412, "An If-None-Match header was specified, but the ETag matched (or * was specified).")
        for uri, negated, token, wanted in re.findall(
                r'(?:<([^>]*)>\s)?\((Not\s)?(?:<([^>]*)>)?(?:\s?)(?:\[([^\]]*)\])?\)', self.headers.get("If") or "", re.I):
            place = self.resolve(uri) if uri else (root, parts)
            at = self.world.find(*place) if place else None
            good = at is not None and wanted == '"%s"' % at.etag if wanted else True
            if good == bool(negated):
                raise Answer(412, "None of the tokens in the If header matched")

    # ---- DAV ----
    def dav(self, root, base, parts):
        method = self.command
        if method == "OPTIONS":
            return self.answer(200, b"", [("DAV", "1, 3, extended-mkcol, access-control, nc-calendar-search"), ("MS-Author-Via", "DAV"),
                                          ("Allow", "OPTIONS, GET, HEAD, DELETE, PROPFIND, PUT, PROPPATCH, COPY, MOVE, REPORT, MKCOL")])
        handler = getattr(self, "dav_" + ("get" if method == "HEAD" else method.lower()), None)
        if handler is None:
            raise Answer(501, "There was no handler found for this method")
        handler(root, base, parts)

    def must(self, root, parts):
        node = self.world.find(root, parts)
        if node is None:
            raise Answer(404, "File with name //%s could not be located" % "/".join(parts))
        return node

    def dav_get(self, root, base, parts):
        with self.world.lock:
            self.preconditions(root, parts)
            node = self.must(root, parts)
            if node.children is not None:
                raise Answer(501, "GET is only implemented for File objects")
            data, etag, mtime = node.data, node.etag, node.mtime
        headers = [("ETag", '"%s"' % etag), ("OC-ETag", '"%s"' % etag), ("Last-Modified", email.utils.formatdate(mtime, usegmt=True)),
                   ("Accept-Ranges", "bytes"), ("Content-Type", "application/octet-stream")]
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not span:
            return self.answer(200, data, headers)
        first, last = int(span[1]), min(int(span[2]) if span[2] else len(data) - 1, len(data) - 1)
        if first >= len(data):
            raise Answer(416, "The start offset is beyond the end", [("Content-Range", "bytes */%d" % len(data))])
        self.answer(206, data[first:last + 1], headers + [("Content-Range", "bytes %d-%d/%d" % (first, last, len(data)))])

    def dav_put(self, root, base, parts):
        if self.headers.get("Content-Range"):
            raise Answer(400, "Content-Range on PUT requests are forbidden.")
        with self.world.lock:
            self.preconditions(root, parts)
            self.check_name(parts[-1])
            self.world.parent(root, parts)
            node = self.world.find(root, parts)
            if node is not None and node.children is not None:
                raise Answer(409, "PUT is not allowed on non-files.")
            if self.world.full:
                raise Answer(507, "Insufficient space")
        data = self.read_body()
        with self.world.lock:
            parent, existed = self.world.parent(root, parts), self.world.find(root, parts)
            node = existed or Node(False)
            node.data = data
            self.finish(node, root, parts, parent)
            headers = self.told(node)
        self.answer(204 if existed else 201, b"", headers)

    def finish(self, node, root, parts, parent):
        mtime = self.headers.get("X-OC-MTime")
        node.mtime = int(mtime) if mtime else int(time.time())
        node.checksum = self.headers.get("OC-Checksum")
        node.touch()
        parent.children[parts[-1]] = node
        if root is self.world.files:
            self.world.propagate(parts)

    def told(self, node):
        headers = [("ETag", '"%s"' % node.etag), ("OC-ETag", '"%s"' % node.etag), ("OC-FileId", "%08docfake" % node.id)]
        return headers + ([("X-OC-MTime", "accepted")] if self.headers.get("X-OC-MTime") else [])

    def dav_mkcol(self, root, base, parts):
        self.read_body()
        with self.world.lock:
            if self.world.full and int(self.headers.get("OC-Total-Length") or 0) > 0:
                raise Answer(507, "Insufficient space")
            if not parts or self.world.find(root, parts) is not None:
                raise Answer(405, "The resource you tried to create already exists")
            self.check_name(parts[-1])
            parent = self.world.parent(root, parts)
            parent.children[parts[-1]] = Node(True)
            if root is self.world.files:
                self.world.propagate(parts)
        self.answer(201)

    def dav_delete(self, root, base, parts):
        with self.world.lock:
            self.preconditions(root, parts)
            self.must(root, parts)
            if not parts:
                raise Answer(403, "Cannot delete the root")
            del self.world.parent(root, parts).children[parts[-1]]
            if root is self.world.files:
                self.world.propagate(parts)
        self.answer(204)

    def destination(self):
        place = self.resolve(self.headers.get("Destination") or "")
        if place is None or place[0] is not self.world.files or not place[1]:
            raise Answer(400, "Destination is not in this tree")
        self.check_name(place[1][-1])
        return place[1]

    def transfer(self, root, base, parts, move):
        with self.world.lock:
            if root is self.world.uploads:
                return self.assemble(parts)
            self.preconditions(root, parts)
            node, to = self.must(root, parts), self.destination()
            parent, target = self.world.parent(root, to), self.world.find(root, to)
            if target is not None and (self.headers.get("Overwrite") or "T").upper() == "F":
                raise Answer(412, "The destination node already exists, and the overwrite header is set to false")
            if to[:len(parts)] == parts:
                raise Answer(403, "Source and destination uri are the same or nested.")
            if move:
                del self.world.parent(root, parts).children[parts[-1]]
                self.world.propagate(parts)
            parent.children[to[-1]] = node if move else node.copy()
            self.world.propagate(to)
        self.answer(204 if target is not None else 201)

    def dav_move(self, root, base, parts):
        self.transfer(root, base, parts, True)

    def dav_copy(self, root, base, parts):
        self.transfer(root, base, parts, False)

    def assemble(self, parts):
        """The lock is held."""
        folder = self.must(self.world.uploads, parts[:-1])
        if parts[-1] != ".file":
            raise Answer(403, "Only .file can be moved")
        key = tuple(parts[:-1])
        if key in self.world.assembled:
            self.world.assembled[key] -= 1
            if self.world.assembled[key] == 0:
                del self.world.uploads.children[parts[0]]
                del self.world.assembled[key]
                raise Answer(404, "Upload folder is gone")
            raise Answer(423, "The upload is being assembled")
        self.preconditions(self.world.uploads, parts)
        to = self.destination()
        parent, target = self.world.parent(self.world.files, to), self.world.find(self.world.files, to)
        if target is not None and target.children is not None:
            raise Answer(409, "Destination is a directory")
        if target is not None and (self.headers.get("Overwrite") or "T").upper() == "F":
            raise Answer(412, "The destination node already exists, and the overwrite header is set to false")
        data = b"".join(folder.children[name].data for name in sorted(folder.children))
        if self.headers.get("OC-Total-Length") and int(self.headers["OC-Total-Length"]) != len(data):
            raise Answer(400, "Chunks on server do not sum up to %s but to %d bytes" % (self.headers["OC-Total-Length"], len(data)))
        node = target or Node(False)
        node.data = data
        self.finish(node, self.world.files, to, parent)
        if self.world.assembly > 0:
            self.world.assembled[key], self.world.assembly = self.world.assembly, 0
            raise Answer(423, "The upload is being assembled")
        del self.world.uploads.children[parts[0]]
        self.answer(204 if target is not None else 201, b"", self.told(node))

    def dav_proppatch(self, root, base, parts):
        tree = ElementTree.fromstring(self.read_body())
        with self.world.lock:
            self.preconditions(root, parts)
            node = self.must(root, parts)
            time_ = tree.find(".//{DAV:}lastmodified")
            if time_ is not None:
                node.mtime, node.checksum = int(time_.text), None
                node.touch()
                self.world.propagate(parts)
            sum_ = tree.find(".//{http://owncloud.org/ns}checksum")
            if sum_ is not None:
                node.checksum = sum_.text
        self.multistatus(["<d:response><d:href>%s</d:href><d:propstat><d:prop><d:lastmodified/></d:prop>"
                          "<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>" % self.href(base, parts, False)])

    def href(self, base, parts, directory):
        return escape(base + "/" + "/".join(urllib.parse.quote(p, safe="") for p in parts) + ("/" if directory and parts else ""))

    def size(self, node):
        return len(node.data) if node.children is None else sum(self.size(c) for c in node.children.values())

    def dav_propfind(self, root, base, parts):
        request = self.read_body()
        wanted = [e.tag for p in ElementTree.fromstring(request).iter("{DAV:}prop") for e in p] if request else []
        depth = self.headers.get("Depth")
        with self.world.lock:
            self.preconditions(root, parts)
            node = self.must(root, parts)
            rows = [(parts, node)]
            if depth != "0" and node.children is not None:
                rows += [(parts + [name], child) for name, child in node.children.items()]
            out = [self.response(base, p, n, wanted) for p, n in rows]
        self.multistatus(out)

    def response(self, base, parts, node, wanted):
        directory, d, oc = node.children is not None, "{DAV:}", "{http://owncloud.org/ns}"
        have = {d + "resourcetype": "<d:collection/>" if directory else "", d + "getetag": "&quot;%s&quot;" % node.etag,
                d + "getlastmodified": email.utils.formatdate(node.mtime, usegmt=True), oc + "fileid": str(node.id),
                oc + "permissions": "RGDNVCK" if directory else "RGDNVW", oc + "size": str(self.size(node))}
        if directory:
            have.update({d + "quota-used-bytes": str(self.size(node)), d + "quota-available-bytes": "-3"})
        else:
            have[d + "getcontentlength"] = str(len(node.data))
            if node.checksum:
                have[oc + "checksums"] = "<oc:checksum>%s</oc:checksum>" % escape(node.checksum)
        tag = lambda t: ("d:" if t.startswith(d) else "oc:") + t.split("}")[1]
        good = "".join("<%s>%s</%s>" % (tag(t), have[t], tag(t)) for t in wanted if t in have)
        bad = "".join("<%s/>" % tag(t) for t in wanted if t not in have)
        text = "<d:response><d:href>%s</d:href><d:propstat><d:prop>%s</d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat>" % (
            self.href(base, parts, directory), good)
        if bad:
            text += "<d:propstat><d:prop>%s</d:prop><d:status>HTTP/1.1 404 Not Found</d:status></d:propstat>" % bad
        return text + "</d:response>"

    def multistatus(self, responses):
        self.answer(207, '<?xml version="1.0"?>\n<d:multistatus xmlns:d="DAV:" xmlns:s="http://sabredav.org/ns" '
                    'xmlns:oc="http://owncloud.org/ns" xmlns:nc="http://nextcloud.org/ns">%s</d:multistatus>' % "".join(responses),
                    [("Content-Type", "application/xml; charset=utf-8")])


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def process_request(self, request, address):
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().process_request(request, address)


def main():
    p = argparse.ArgumentParser()
    for name in ("port", "root", "user", "password"):
        p.add_argument("--" + name)
    args = p.parse_args()
    server = Server(("127.0.0.1", int(args.port)), Handler)
    server.world = World(args.user, args.password)
    server.serve_forever()


if __name__ == "__main__":
    main()
