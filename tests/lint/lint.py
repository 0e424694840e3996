#!/usr/bin/env python3
"""Proves the rules of docs/architecture.md that a compiler does not: who may include whom, where libraries live, how long
things are. Prints FILE:LINE: RULE for each breach. With no ctags the lengths of functions are not looked at.

lint.py [--cc CC --cflags FLAGS]   with --cc also: every header compiles alone"""
import argparse
import concurrent.futures
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

TOP = os.environ.get("top_srcdir") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

LEVEL = {"base": 0, "conf": 1, "secret": 1, "net": 1, "db": 1, "crypto": 1, "watch": 1, "provider": 2, "providers": 3, "tree": 3,
         "cache": 4, "transfer": 5, "vfs": 6, "fuse": 7, "sync": 7, "share": 7, "peer": 8, "http": 9, "daemon": 10, "cli": 10}
# The same level, with a reason each.
SIDEWAYS = {("secret", "conf"): "a password comes from a section",
            ("net", "conf"): "TLS policy comes from a section",
            ("net", "secret"): "requests carry credentials",
            ("cli", "daemon"): "doctor reads the configuration with the daemon's own table of provider types"}
# Waits for time that are meant: what the person asked for is the time itself.
WAITS = {"src/cli/cmd_show.c": "the pause between two pictures of transfers --watch"}
# Faces beside FOLDER/FOLDER.h: base is a box of small tools, each with a header of its own.
FACES = {"base": None, "crypto": None, "providers": None, "net": None, "http": None, "db": None, "watch": None,
         "conf": {"conf/conf.h"}, "secret": {"secret/secret.h"}, "provider": {"provider/provider.h"}, "tree": {"tree/tree.h"},
         "cache": {"cache/cache.h"}, "transfer": {"transfer/transfer.h", "transfer/plan.h"}, "vfs": {"vfs/vfs.h"},
         "fuse": {"fuse/fuse.h"}}
# header prefix -> the folders that may include it
LIBRARY = {"curl/": {"net", "cli"},           # cli: the control socket's client, which must not carry the providers' policy
           "sqlite3.h": {"db"},
           "openssl/": {"crypto"},
           "xxhash.h": {"crypto"},
           "inotifytools/": {"watch"},
           "libsecret/": {"secret"},
           "expat.h": {"providers/webdav"},
           # events' lines; the interface; its client; the status files; what a Nextcloud says it can do
           "jansson.h": {"base", "http", "cli", "vfs", "providers/webdav"},
           "microhttpd.h": {"http"},
           "fuse_lowlevel.h": {"fuse"}, "fuse.h": {"fuse"}, "fuse3/": {"fuse"}, "fuse_opt.h": {"fuse", "daemon"}, "fuse_": {"fuse"}}
FILE_MAX, FUNCTION_MAX = 1000, 100

breaches = []


def breach(path, line, text):
    breaches.append("%s:%d: %s" % (os.path.relpath(path, TOP), line, text))


def sources(*folders):
    for folder in folders:
        for dirpath, dirs, files in os.walk(os.path.join(TOP, folder)):
            dirs[:] = [d for d in dirs if d not in (".deps", ".libs", "corpus")]
            for f in sorted(files):
                if f.endswith((".c", ".h")):
                    yield os.path.join(dirpath, f)


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def folder_of(path):
    return os.path.relpath(path, os.path.join(TOP, "src")).split(os.sep)[0]


def own_folder(path):
    """providers/NAME is a folder each; elsewhere it is the first component."""
    parts = os.path.relpath(path, os.path.join(TOP, "src")).split(os.sep)
    return "/".join(parts[:2]) if parts[0] == "providers" and len(parts) > 2 else parts[0]


def check_include(path, line, name):
    folder, target = folder_of(path), name.split("/")[0]
    if not os.path.exists(os.path.join(TOP, "src", name)):
        return
    own = own_folder(path)
    target_own = "/".join(name.split("/")[:2]) if target == "providers" and name.count("/") > 1 else target
    if own == target_own:
        return
    if name.endswith("_i.h"):
        breach(path, line, "%s is private to %s/" % (name, target_own))
    elif target not in LEVEL:
        breach(path, line, "%s/ has no level" % target)
    elif LEVEL[target] >= LEVEL[folder] and (folder, target) not in SIDEWAYS:
        breach(path, line, "%s/ (level %d) includes %s (level %d)" % (folder, LEVEL[folder], name, LEVEL[target]))
    elif FACES.get(target) is not None and name not in FACES[target]:
        breach(path, line, "%s is not a face of %s/" % (name, target))


def check_library(path, line, name):
    for prefix, homes in sorted(LIBRARY.items(), key=lambda i: -len(i[0])):
        if name.startswith(prefix):
            if own_folder(path) not in homes and folder_of(path) not in homes:
                breach(path, line, "<%s> belongs to %s only" % (name, ", ".join(sorted(homes))))
            return


def check_includes():
    for path in sources("src"):
        if folder_of(path) not in LEVEL:
            breach(path, 1, "%s/ has no level" % folder_of(path))
            continue
        for n, text in enumerate(read(path).splitlines(), 1):
            m = re.match(r'\s*#\s*include\s*(["<])([^">]+)[">]', text)
            if m and m.group(1) == '"':
                check_include(path, n, m.group(2))
            elif m:
                check_library(path, n, m.group(2))


def check_lengths():
    paths = list(sources("src", "tests"))
    for path in paths:
        n = read(path).count("\n")
        if n > FILE_MAX:
            breach(path, n, "the file has %d lines; allowed: %d" % (n, FILE_MAX))
    if shutil.which("ctags") is None:
        print("no ctags: lengths of functions are not looked at")
        return
    out = subprocess.run(["ctags", "--languages=C", "--map-C=+.h", "--c-kinds=f", "--fields=+ne", "--output-format=json", "-f", "-",
                          "-L", "-"], input="\n".join(paths), stdout=subprocess.PIPE, text=True, check=True).stdout
    for row in map(json.loads, out.splitlines()):
        length = row.get("end", row["line"]) - row["line"] + 1
        if length > FUNCTION_MAX:
            breach(row["path"], row["line"], "%s has %d lines; allowed: %d" % (row["name"], length, FUNCTION_MAX))


def check_waits():
    """A wait is for an event: sleeping hides a race, or makes one."""
    for path in sources("src", "tests"):
        if os.path.relpath(path, TOP) in WAITS:
            continue
        text = re.sub(r'/\*.*?\*/|"(?:\\.|[^"\\\n])*"', lambda m: re.sub(r"[^\n]", " ", m.group(0)), read(path), flags=re.S)
        for n, line in enumerate(text.splitlines(), 1):
            m = re.search(r"\b(g_usleep|usleep|sleep|nanosleep|clock_nanosleep)\s*\(", line)
            if m:
                breach(path, n, "%s(): wait for an event, not for time" % m.group(1))


def compiles_alone(header, cc, cflags):
    with tempfile.NamedTemporaryFile("w", suffix=".c") as f:
        f.write('#include "%s"\n' % os.path.relpath(header, os.path.join(TOP, "src")))
        f.flush()
        return header, subprocess.run([*cc, *cflags, "-fsyntax-only", f.name], stderr=subprocess.PIPE, text=True)


def check_headers(cc, cflags):
    headers = [p for p in sources("src") if p.endswith(".h")]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for header, r in pool.map(lambda h: compiles_alone(h, cc, cflags), headers):
            if r.returncode != 0:
                breach(header, 1, "does not compile alone: " + (r.stderr.strip().splitlines() or ["?"])[0])
    return len(headers)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--cc")
    p.add_argument("--cflags", default="")
    a = p.parse_args()
    check_includes()
    check_lengths()
    check_waits()
    headers = check_headers(shlex.split(a.cc), shlex.split(a.cflags)) if a.cc else 0
    for b in breaches:
        print(b)
    print("%d files, %d headers compiled alone, %d breaches" % (len(list(sources("src", "tests"))), headers, len(breaches)))
    sys.exit(1 if breaches else 0)


if __name__ == "__main__":
    main()
