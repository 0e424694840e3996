#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Two parties change one tree: programs on a mount, which is killed now and then, and others on the server beside it.

Every content has a token of its own. Who changes or removes a file reads it first: the tokens that were read are spent. At the
end all that was never spent must be on the server, under whatever name, and the mount must show what the server has.
usage: others.py [--seed N] [--seeds N] [--ops N] [--trace]      (needs top_srcdir and top_builddir in the environment)
"""
import argparse
import os
import random
import re
import shutil
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from crash import Failure, Mount, Server, flush, say, until

TOKEN = re.compile(rb"<t\d+>")


class Party:
    """root: the tree as this party sees it."""

    def __init__(self, world, root, mine):
        self.w, self.root, self.mine = world, root, mine

    def full(self, path):
        return os.path.join(self.root, path)

    def names(self):
        files, dirs = [], [""]
        for at, ds, fs in os.walk(self.root):
            rel = os.path.relpath(at, self.root)
            rel = "" if rel == "." else rel
            dirs += [os.path.join(rel, d) for d in ds]
            files += [os.path.join(rel, f) for f in fs if not f.startswith(".")]
        return sorted(files), sorted(dirs)

    def see(self, path):
        with open(self.full(path), "rb") as f:
            seen = set(TOKEN.findall(f.read()))
        self.trace("reads", path, seen)
        return seen

    def trace(self, *words):
        """What led to a failure; shown with --trace."""
        if self.w.trace:
            say("  here" if self.mine else "  there", *words)

    def new_name(self):
        self.w.count += 1
        return os.path.join(self.w.rng.choice(self.names()[1]), "%s%d.txt" % ("m" if self.mine else "o", self.w.count))

    def content(self):
        self.w.count += 1
        token = b"<t%d>" % self.w.count
        # No two sizes are the same: a server with neither hashes nor an answer to PUT that tells the version cannot show that
        # others put as many bytes there within the second in which our upload ended.
        return token, token + b"." * (self.w.rng.choice([0, 1000, 200000]) + self.w.count)

    def put(self, path, how):
        """how: in place, or over it by rename; others never leave a half-written file to be seen."""
        token, data = self.content()
        seen = self.see(path) if os.path.exists(self.full(path)) else set()
        self.w.now = {token} | seen
        self.trace("puts", token, path, how)
        if how == "place" and self.mine:
            with open(self.full(path), "r+b" if seen else "wb") as f:
                f.write(data)
                f.truncate()
        else:
            tmp = os.path.join(os.path.dirname(self.full(path)), ".%d.tmp" % self.w.count)
            with open(tmp, "wb") as f:
                f.write(data)
            os.chmod(tmp, 0o666)
            os.rename(tmp, self.full(path))
        self.w.live |= {token}
        self.w.live -= seen

    def act(self):
        r = self.w.rng
        files, dirs = self.names()
        kind = r.choices(["new", "place", "over", "unlink", "rename", "mkdir", "link", "movedir", "rmtree"],
                         [20, 14, 14, 10, 10, 5, 6 if self.mine else 0, 4, 2])[0]
        if kind == "new" or not files:
            return self.put(self.new_name(), "place")
        path = r.choice(files)
        self.trace(kind, path)
        if kind in ("place", "over"):
            return self.put(path, kind)
        if kind == "mkdir":
            self.w.now = set()
            return os.mkdir(self.full(self.new_name() + ".d"), 0o777)
        if kind == "unlink":
            seen = self.w.now = self.see(path)
            os.unlink(self.full(path))
            self.w.live -= seen
        elif kind == "rename":
            to = r.choice([self.new_name(), r.choice(files)])
            same = os.path.exists(self.full(to)) and os.path.samefile(self.full(path), self.full(to))
            seen = self.w.now = self.see(to) if os.path.exists(self.full(to)) and not same else set()
            self.trace("to", to)
            os.rename(self.full(path), self.full(to))
            self.w.live -= seen - (self.see(to) if not self.mine else set())
        elif kind == "link":
            self.w.now = set()
            os.link(self.full(path), self.full(self.new_name()))
        elif kind == "movedir" and len(dirs) > 1:
            self.w.now = set()
            src, to = r.choice(dirs[1:]), self.new_name() + ".d"
            if not (to + "/").startswith(src + "/"):
                os.rename(self.full(src), self.full(to))
        elif kind == "rmtree" and len(dirs) > 1:
            top = r.choice(dirs[1:])
            seen = set()
            for f in files:
                if f.startswith(top + "/"):
                    seen |= self.see(f)
            self.w.now = seen
            shutil.rmtree(self.full(top))
            self.w.live -= seen


class World:
    def __init__(self, rng, trace):
        self.rng, self.count, self.trace = rng, 0, trace
        self.live = set()  # tokens that nobody has spent
        self.now = set()   # tokens that the operation under way makes or spends


def tree(root):
    found = {}
    for at, ds, fs in os.walk(root):
        for d in ds:
            found[os.path.relpath(os.path.join(at, d), root)] = None
        for f in fs:
            if not f.endswith(".tmp") and not f.startswith(".davfs.tmp"):
                with open(os.path.join(at, f), "rb") as h:
                    found[os.path.relpath(os.path.join(at, f), root)] = h.read()
    return found


def refresh_all(mount, root):
    for at, ds, _ in os.walk(root):
        r = mount.syncox("refresh", at)
        if r.returncode != 0 and os.path.exists(at):
            raise Failure("refresh of %s: %s" % (at, r.stdout))


def settled(mount, here, there):
    """Both sides look at each other until nothing moves any more."""
    def equal():
        flush(mount)
        refresh_all(mount, here)
        flush(mount)
        return tree(here) == tree(there)
    try:
        until("equality of mount and server", equal, 30)
    except Failure:
        a, b = tree(here), tree(there)
        bad = [p for p in sorted(set(a) | set(b)) if a.get(p, 0) != b.get(p, 0)]
        raise Failure("mount and server differ: " + ", ".join("%s (%s)" % (p, "only here" if p not in b else "only there" if p not in a else "other content") for p in bad[:10]))


def run(seed, ops, base, trace):
    rng = random.Random(seed)
    server, mount, kills = Server(base), None, 0
    try:
        mount = Mount(base, server.info["url"], server.info.get("user", ""), server.info.get("password", ""))
        mount.start()
        w = World(rng, trace)
        here, there = Party(w, os.path.join(mount.point, "dav"), True), Party(w, server.info["root"], False)
        os.listdir(here.root)
        for i in range(ops):
            what = rng.choices(["here", "there", "refresh", "evict", "flush", "kill"], [50, 30, 10, 8, 6, 4])[0]
            if trace and what not in ("here", "there"):
                say(" ", what)
            if what == "refresh":
                mount.syncox("refresh", here.full(rng.choice(here.names()[1])))
            elif what == "evict":
                mount.syncox("evict", here.root)
            elif what == "flush":
                flush(mount)
            elif what == "kill":
                mount.kill()
                mount.start()
                kills += 1
            else:
                try:
                    (here if what == "here" else there).act()
                except FileNotFoundError:
                    w.live -= w.now  # it vanished between our look and our act
                except OSError as e:
                    if what == "there" or e.errno not in (5, 39, 113, 116):  # EIO: gone there before it was fetched; ESTALE: replaced while it was read
                        raise Failure("%s: %s" % (what, e))
                    w.live -= w.now
                for d in os.walk(there.root):
                    try:
                        os.chmod(d[0], 0o777)
                    except FileNotFoundError:
                        pass
        settled(mount, here.root, there.root)
        kept = set()
        for data in tree(there.root).values():
            kept |= set(TOKEN.findall(data or b""))
        lost = w.live - kept
        if lost:
            raise Failure("lost: %s" % b" ".join(sorted(lost)).decode())
        n = len([p for p in tree(there.root) if "(conflict " in p])
        mount.stop()
        say(f"seed {seed}: ok ({len(w.live)} contents, {n} conflict copies, {kills} kills)")
    finally:
        if mount:
            mount.clean()
        server.stop()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--seeds", type=int, default=1)
    ap.add_argument("--ops", type=int, default=80)
    ap.add_argument("--trace", action="store_true")
    args = ap.parse_args()
    failed = 0
    for seed in range(args.seed, args.seed + args.seeds):
        base = tempfile.mkdtemp(prefix="sxothers.")
        os.chmod(base, 0o755)
        try:
            run(seed, args.ops, base, args.trace)
            shutil.rmtree(base, ignore_errors=True)
        except Failure as e:
            failed += 1
            say(f"seed {seed}: FAILED: {e}\n  kept: {base}; repeat with: others.py --seed {seed} --ops {args.ops}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
