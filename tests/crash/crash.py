#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Random operations on a real mount over Apache, while the daemon is killed with -9 and the server is cut.

After each restart the mount must equal a model of all closed files; at the end the server's own files must too.
usage: crash.py [--seed N] [--rounds N] [--ops N]      (needs top_srcdir and top_builddir in the environment)
The seed fixes the operations and the faults' order, not the moment inside the daemon at which a signal arrives.
"""
import argparse
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

SRC = os.environ.get("top_srcdir", os.getcwd())
BUILD = os.environ.get("top_builddir", os.getcwd())
WAIT_S = 120
MAX_OPS = 400
MAX_OBJECTS = 150


def say(*words):
    print(*words, flush=True)


class Failure(Exception):
    pass


def until(what, test, limit=WAIT_S):
    """Polls for an event that has no descriptor to wait on; fails loudly when it does not come."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        value = test()
        if value:
            return value
        threading.Event().wait(0.02)
    raise Failure(f"{what} did not happen in {limit} s")


class Server:
    def __init__(self, base):
        self.dir = os.path.join(base, "apache")
        self.tool = os.path.join(SRC, "tests/lib/server")
        self.info = {}
        self.start()

    def run(self, *args):
        out = subprocess.run([self.tool, *args], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        if out.returncode == 77:
            say("SKIP: " + out.stdout.strip())
            sys.exit(77)
        if out.returncode != 0:
            raise Failure(f"server {args}: {out.stdout}")
        return dict(line.split("=", 1) for line in out.stdout.splitlines() if "=" in line)

    def start(self):
        self.info.update(self.run("start", "apache", self.dir, "--with", str(os.getpid())))

    def cut(self):
        self.run("kill", self.dir)

    def back(self):
        self.start()

    def stop(self):
        self.run("stop", self.dir)


class Mount:
    def __init__(self, base, url, user, password):
        self.base, self.point = base, os.path.join(base, "mnt")
        os.makedirs(self.point)
        self.conf = os.path.join(base, "syncoxfs.conf")
        self.log = os.path.join(base, "syncoxfs.log")
        self.proc = None
        fd = os.open(self.conf, os.O_CREAT | os.O_WRONLY, 0o600)
        os.write(fd, f"""[syncoxfs]
cache-dir = {base}/cache
state-dir = {base}/state
write-back-delay = 200ms
min-free = 64M

[provider dav]
type = webdav
url = {url}
user = {user}
password = {password}
timeout = 5s
poll = 1h
""".encode())
        os.close(fd)
        self.env = dict(os.environ, XDG_RUNTIME_DIR=base)

    def start(self):
        log = open(self.log, "ab")
        self.proc = subprocess.Popen([os.path.join(BUILD, "syncoxfs"), "-f", "-c", self.conf, self.point],
                                     stdout=log, stderr=log, env=self.env)
        log.close()

        def up():
            if self.proc.poll() is not None:
                raise Failure(f"syncoxfs ended with {self.proc.returncode}; see {self.log}")
            try:
                return os.path.ismount(self.point) and os.listdir(self.point) is not None
            except OSError:
                return False
        until("mount", up)

    def kill(self):
        self.proc.send_signal(signal.SIGKILL)
        self.proc.wait()

    def stop(self):
        if self.proc and self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
            try:
                self.proc.wait(60)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
                raise Failure("syncoxfs did not end within 60 s of SIGTERM")

    def clean(self):
        if self.proc and self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()
        subprocess.run(["fusermount3", "-uzq", self.point], stderr=subprocess.DEVNULL)

    def syncox(self, *args):
        return subprocess.run([os.path.join(BUILD, "syncox"), "--mount", self.point, *args], env=self.env,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=WAIT_S * 2)


class World:
    """The operations and the model of what they must leave behind. model: path -> bytes, or None for a directory."""

    def __init__(self, rng, root):
        self.rng, self.root, self.model = rng, root, {}
        self.count = 0

    def full(self, path):
        return os.path.join(self.root, path)

    def files(self):
        return sorted(p for p, c in self.model.items() if c is not None)

    def dirs(self):
        return [""] + sorted(p for p, c in self.model.items() if c is None)

    def under(self, path):
        return [p for p in self.model if p == path or p.startswith(path + "/")]

    def fresh(self):
        self.count += 1
        ext = self.rng.choice([".txt", ".bin", " ü%23.dat", "#?.x", ""])
        parent = self.rng.choice(self.dirs())
        return os.path.join(parent, f"n{self.count}{ext}")

    def bytes(self):
        size = self.rng.choice([0, 1, 100, 4096, 20000, 200000, 3000000 if self.rng.random() < .2 else 5000])
        return self.rng.randbytes(size)

    # Each operation returns (paths it touches, their allowed outcomes after a crash in the middle, what to do, new model).
    def write(self, path, data, mode):
        old = self.model.get(path, "absent")
        base = b"" if mode == "wb" or old in ("absent", None) else old

        def do():
            with open(self.full(path), mode) as f:
                f.write(data)
        return [path], "any", do, {path: base + data if mode == "ab" else data}

    def op(self):
        r, files, dirs = self.rng, self.files(), self.dirs()
        if len(self.model) > MAX_OBJECTS and files:
            path = r.choice(files)
            return [path], "either", lambda: os.unlink(self.full(path)), {path: "absent"}
        kind = r.choices(["new", "over", "append", "replace", "rename", "redir", "unlink", "mkdir", "rmtree", "patch"],
                         [24, 10, 8, 12, 10, 5, 10, 8, 2, 6])[0]
        if kind == "new" or (not files and kind not in ("mkdir",)):
            return self.write(self.fresh(), self.bytes(), "wb")
        if kind == "over":
            return self.write(r.choice(files), self.bytes(), "wb")
        if kind == "append":
            return self.write(r.choice(files), self.bytes(), "ab")
        if kind == "patch":
            path = r.choice(files)
            old = self.model[path]
            off, data = r.randrange(len(old) + 1), r.randbytes(r.randrange(1, 5000))

            def do():
                with open(self.full(path), "r+b") as f:
                    f.seek(off)
                    f.write(data)
            return [path], "any", do, {path: old[:off] + data + old[off + len(data):]}
        if kind == "replace":  # as editors save: a temporary file renamed over the old one
            path, data = r.choice(files), self.bytes()
            self.count += 1  # one that a crash left is a file like others: the next must not be called so
            tmp = os.path.join(os.path.dirname(path), f".new{self.count}.tmp")

            def do():
                with open(self.full(tmp), "wb") as f:
                    f.write(data)
                os.rename(self.full(tmp), self.full(path))
            return [path, tmp], "either", do, {path: data, tmp: "absent"}
        if kind == "rename":
            src, dst = r.choice(files), r.choice([self.fresh(), r.choice(files)])
            return [src, dst], "either", lambda: os.rename(self.full(src), self.full(dst)), \
                {src: "absent", dst: self.model[src]} if src != dst else {}
        if kind == "redir":
            choices = [d for d in dirs if d]
            if choices:
                src, dst = r.choice(choices), self.fresh()
                if not (dst + "/").startswith(src + "/"):
                    change = {p: "absent" for p in self.under(src)}
                    change.update({dst + p[len(src):]: self.model[p] for p in self.under(src)})
                    return list(change), "either", lambda: os.rename(self.full(src), self.full(dst)), change
        if kind == "rmtree":
            choices = [d for d in dirs if d]
            if choices:
                path = r.choice(choices)
                return self.under(path), "either", lambda: shutil.rmtree(self.full(path)), {p: "absent" for p in self.under(path)}
        if kind == "mkdir":
            path = self.fresh()
            return [path], "either", lambda: os.mkdir(self.full(path)), {path: None}
        path = r.choice(files) if files else None
        if path is None:
            return self.write(self.fresh(), self.bytes(), "wb")
        return [path], "either", lambda: os.unlink(self.full(path)), {path: "absent"}

    def commit(self, change):
        for path, value in change.items():
            if isinstance(value, str):
                self.model.pop(path, None)
            else:
                self.model[path] = value

    def actual(self, root):
        found = {}
        for dirpath, dirnames, filenames in os.walk(root, onerror=self.walk_error):
            rel = os.path.relpath(dirpath, root)
            rel = "" if rel == "." else rel
            for d in dirnames:
                found[os.path.join(rel, d)] = None
            for f in filenames:
                try:
                    with open(os.path.join(dirpath, f), "rb") as handle:
                        found[os.path.join(rel, f)] = handle.read()
                except OSError as e:
                    raise Failure(f"cannot read {os.path.join(dirpath, f)}: {e.strerror}")
        return found

    @staticmethod
    def walk_error(e):
        raise Failure(f"cannot list {e.filename}: {e.strerror}")

    def compare(self, root, where, local=True):
        """local: names that are kept from the provider count too."""
        found = self.actual(root)
        bad = []
        for p in sorted(set(found) | set(self.model)):
            if not local and (p.endswith(".tmp") or "/.davfs.tmp" in "/" + p):  # and what Apache itself left when it was killed
                continue
            a, m = found.get(p, "absent"), self.model.get(p, "absent")
            if a != m:
                bad.append(f"{p!r}: {brief(a)}, expected {brief(m)}")
        if bad:
            raise Failure(f"{where} differs from the model:\n  " + "\n  ".join(bad[:20]))

    def settle(self, touched, rule, change):
        """The daemon died inside an operation: each path is as before or as after (a file being written: anything)."""
        found = self.actual(self.root)
        for p in touched:
            now = found.get(p, "absent")
            before, after = self.model.get(p, "absent"), change.get(p, "absent")
            if rule != "any" and now not in (before, after) and not p.endswith(".tmp"):
                raise Failure(f"{p!r} after a crash in the middle: {brief(now)}; before {brief(before)}, after {brief(after)}")
        for p in touched:
            self.commit({p: found.get(p, "absent")})


def brief(value):
    if isinstance(value, str):
        return value
    return "directory" if value is None else f"{len(value)} bytes {value[:8].hex()}"


def flush(mount):
    out = mount.syncox("flush", "--timeout", str(WAIT_S))
    if out.returncode != 0:
        raise Failure(f"flush: {out.stdout}{mount.syncox('status').stdout}")


def run(seed, rounds, ops, base):
    rng = random.Random(seed)
    server = Server(base)
    mount = None
    kills = cuts = crashed = 0
    try:
        mount = Mount(base, server.info["url"], server.info.get("user", ""), server.info.get("password", ""))
        mount.start()
        world = World(rng, os.path.join(mount.point, "dav"))
        os.listdir(world.root)  # what was never listed cannot be made something of while the server is away
        server_up = True
        for number in range(rounds):
            plan = rng.choice(["kill", "kill", "cut", "cut+kill", "killsoon", "hang"])
            if plan.startswith("hang") and server_up:
                server.run("pause", server.dir)
            if plan.startswith("cut") and server_up:
                server.cut()
                server_up, cuts = False, cuts + 1
            timer = None
            if "kill" in plan:
                timer = threading.Timer(rng.random() * (0.1 if plan == "killsoon" else 1.5), mount.kill)
                timer.start()
            count = rng.randrange(ops // 2, ops) if timer is None or plan == "killsoon" else MAX_OPS
            for _ in range(count):
                if timer is not None and not timer.is_alive():
                    break
                touched, rule, do, change = world.op()
                try:
                    do()
                except OSError as e:
                    if timer is None or e.errno not in (errno.ENOTCONN, errno.EIO, errno.ECONNABORTED, errno.EINTR, errno.ENODEV):
                        raise Failure(f"operation on {touched[:3]} failed: {e}")
                    timer.join()
                    mount.start()
                    crashed += 1
                    timer = None
                    world.settle(touched, rule, change)
                    break
                world.commit(change)
            if timer is not None:
                timer.join()
                mount.start()
            kills += "kill" in plan
            if plan.startswith("hang") and server_up:
                server.run("resume", server.dir)
            world.compare(world.root, f"seed {seed} round {number} ({plan}): mount")
            if not server_up and rng.random() < .7:
                server.back()
                server_up = True
        if not server_up:
            server.back()
        flush(mount)
        world.compare(world.root, f"seed {seed}: mount at the end")
        conflicts = mount.syncox("conflicts", "--json").stdout
        mount.stop()
        world.compare(server.info["root"], f"seed {seed}: server at the end", local=False)
        if "(conflict " in conflicts:
            raise Failure(f"false conflicts: {conflicts}")
        say(f"seed {seed}: ok ({rounds} rounds, {kills} kills, {crashed} inside an operation, {cuts} cuts, {len(world.model)} objects)")
    finally:
        if mount:
            mount.clean()
        server.stop()


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--seed", type=int, default=int(os.environ.get("SX_SEED", "1")))
    long = "SX_CHECK_LONG" in os.environ
    ap.add_argument("--seeds", type=int, default=int(os.environ.get("SX_SEEDS", "20" if long else "3")))
    ap.add_argument("--rounds", type=int, default=12 if long else 6)
    ap.add_argument("--ops", type=int, default=30)
    args = ap.parse_args()
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        say("SKIP: /dev/fuse cannot be used here")
        sys.exit(77)
    passed = failed = 0
    for seed in range(args.seed, args.seed + args.seeds):
        base = tempfile.mkdtemp(prefix="sxcrash.")
        os.chmod(base, 0o755)
        try:
            run(seed, args.rounds, args.ops, base)
            passed += 1
            shutil.rmtree(base, ignore_errors=True)
        except Failure as e:
            failed += 1
            say(f"seed {seed}: FAILED: {e}\n  kept: {base}; repeat with: crash.py --seed {seed} --rounds {args.rounds} --ops {args.ops}")
    say(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
