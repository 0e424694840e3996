#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""make bench: native ext4, rclone mount and syncoxfs on the same Apache in one run, and the ratios.

usage: bench.py [--size quick|full] [--targets native,rclone,syncoxfs] [--json FILE] [--steps ...] [--rtt-ms MS]
Every figure is of one run on one machine; compare within a run only. Needs apache2, rclone, fio; root for dropped page caches.
"""
import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

SRC = os.environ.get("top_srcdir", os.getcwd())
BUILD = os.environ.get("top_builddir", os.getcwd())
SIZES = {
    "quick": dict(dirs=20, per=50, many=2000, create=300, big=128, fio=2),
    "full": dict(dirs=100, per=100, many=100000, create=2000, big=1024, fio=5),
}
MIB = 1 << 20


def say(*words):
    print(*words, file=sys.stderr, flush=True)


def pause():
    threading.Event().wait(0.01)


def until(what, test, limit):
    end = time.monotonic() + limit
    while not test():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {limit} s")
        pause()


def drop_caches():
    os.sync()
    try:
        with open("/proc/sys/vm/drop_caches", "w") as f:
            f.write("3")
        return True
    except OSError:
        return False


def timed(do):
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def find(root):
    """What find -printf %s does: one readdir a directory, one stat an entry. Returns the number of entries."""
    count = 0
    stack = [root]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for e in entries:
                count += 1
                st = e.stat(follow_symlinks=False)
                if (st.st_mode & 0o170000) == 0o040000:
                    stack.append(e.path)
    return count


def read_all(path, block=MIB):
    fd = os.open(path, os.O_RDONLY)
    buf = bytearray(block)
    total = 0
    first = None
    start = time.perf_counter()
    while True:
        n = os.readv(fd, [buf])
        if first is None:
            first = time.perf_counter() - start
        if n == 0:
            break
        total += n
    os.close(fd)
    return total, first


class Server:
    def __init__(self, base, rtt_ms):
        self.dir = os.path.join(base, "apache")
        out = subprocess.run([os.path.join(SRC, "tests/lib/server"), "start", "apache", self.dir, "--with", str(os.getpid())],
                             stdout=subprocess.PIPE, text=True, timeout=60)
        if out.returncode == 77:
            say("SKIP: " + out.stdout.strip())
            sys.exit(77)
        if out.returncode != 0:
            raise RuntimeError(out.stdout)
        self.info = dict(l.split("=", 1) for l in out.stdout.splitlines() if "=" in l)
        self.root = self.info["root"]
        self.proxy = None
        if rtt_ms > 0:
            self.go_far(rtt_ms)

    def go_far(self, rtt_ms):
        """Its URL leads through the delay from here on."""
        url = urllib.parse.urlsplit(self.info["url"])
        self.proxy = subprocess.Popen([sys.executable, os.path.join(SRC, "tests/bench/delay_proxy.py"), str(url.port), str(rtt_ms)],
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        port = int(self.proxy.stdout.readline())
        self.info["url"] = url._replace(netloc=f"127.0.0.1:{port}").geturl()

    def requests(self):
        try:
            with open(self.info["access_log"]) as f:
                return sum(1 for _ in f)
        except (OSError, KeyError):
            return 0

    def own(self, path):
        subprocess.run(["chown", "-R", "--reference", self.root, path], check=False)

    def stop(self):
        if self.proxy is not None:
            self.proxy.stdin.close()
            self.proxy.wait()
        subprocess.run([os.path.join(SRC, "tests/lib/server"), "stop", self.dir], stdout=subprocess.DEVNULL)


class Native:
    name = "native"
    settle = 0

    def __init__(self, base, server):
        self.root = os.path.join(base, "native")
        self.server_root = self.root
        os.makedirs(self.root)

    def start(self, fresh=True):
        pass

    stop = start

    def rss(self):
        return 0


class Mounted:
    def __init__(self, base, server):
        self.base, self.server = os.path.join(base, self.name), server
        self.point = os.path.join(self.base, "mnt")
        os.makedirs(self.point)
        self.sub = self.name
        self.server_root = os.path.join(server.root, self.sub)
        os.makedirs(self.server_root)
        server.own(self.server_root)
        self.proc = None
        self.peak = 0

    def start(self, fresh=True):
        if fresh:
            for d in ("cache", "state"):
                shutil.rmtree(os.path.join(self.base, d), ignore_errors=True)
        log = open(os.path.join(self.base, "log"), "ab")
        self.proc = subprocess.Popen(self.command(), stdout=log, stderr=log, env=dict(os.environ, XDG_RUNTIME_DIR=self.base))
        log.close()

        def up():
            if self.proc.poll() is not None:
                raise RuntimeError(f"{self.name} ended; see {self.base}/log")
            return os.path.ismount(self.point) and os.path.isdir(self.root)
        until(f"{self.name} mount", up, 60)

    def rss(self):
        try:
            with open(f"/proc/{self.proc.pid}/status") as f:
                kb = next(int(l.split()[1]) for l in f if l.startswith("VmHWM"))
            self.peak = max(self.peak, kb / 1024)
        except (OSError, StopIteration):
            pass
        return self.peak

    def stop(self, fresh=True):
        if self.proc is None:
            return
        self.rss()
        subprocess.run(["fusermount3", "-u", self.point], stderr=subprocess.DEVNULL)
        try:
            self.proc.wait(120)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            self.proc.wait()
        subprocess.run(["fusermount3", "-uzq", self.point], stderr=subprocess.DEVNULL)
        self.proc = None


class Rclone(Mounted):
    name = "rclone"

    def __init__(self, base, server):
        super().__init__(base, server)
        self.root = self.point
        secret = subprocess.run(["rclone", "obscure", server.info["password"]], stdout=subprocess.PIPE, text=True).stdout.strip()
        self.conf = os.path.join(self.base, "rclone.conf")
        with open(self.conf, "w") as f:
            f.write(f"[dav]\ntype = webdav\nvendor = other\nurl = {server.info['url'].rstrip('/')}/{self.sub}\n"
                    f"user = {server.info['user']}\npass = {secret}\n")

    def command(self):
        return ["rclone", "--config", self.conf, "mount", "dav:", self.point, "--vfs-cache-mode", "full",
                "--cache-dir", os.path.join(self.base, "cache")]


class Syncoxfs(Mounted):
    name = "syncoxfs"

    def __init__(self, base, server):
        super().__init__(base, server)
        self.root = os.path.join(self.point, "dav")
        self.conf = os.path.join(self.base, "syncoxfs.conf")
        fd = os.open(self.conf, os.O_CREAT | os.O_WRONLY, 0o600)
        os.write(fd, f"[syncoxfs]\ncache-dir = {self.base}/cache\nstate-dir = {self.base}/state\nmin-free = 64M\n"
                     f"[provider dav]\ntype = webdav\nurl = {server.info['url'].rstrip('/')}/{self.sub}/\nuser = {server.info['user']}\n"
                     f"password = {server.info['password']}\n".encode())
        os.close(fd)

    def command(self):
        return [os.path.join(BUILD, "syncoxfs"), "-f", "-c", self.conf, self.point]


def make_tree(root, dirs, per):
    for d in range(dirs):
        os.makedirs(f"{root}/d{d:04}")
        for f in range(per):
            with open(f"{root}/d{d:04}/f{f:04}", "wb") as h:
                h.write(b"x" * 100)


class Bench:
    def __init__(self, target, server, size):
        self.t, self.server, self.s = target, server, SIZES[size]
        self.out = {}

    def record(self, key, value, unit):
        self.out[key] = (value, unit)
        say(f"  {self.t.name:9} {key:44} {value:12.3f} {unit}")

    def server_add(self, name):
        path = os.path.join(self.t.server_root, name)
        os.makedirs(path)
        return path

    def own(self, path):
        if self.t.name != "native":
            self.server.own(path)

    def listing(self):
        path = self.server_add("tree")
        make_tree(path, self.s["dirs"], self.s["per"])
        self.own(path)
        self.t.start()
        root = os.path.join(self.t.root, "tree")
        before = self.server.requests()
        n = [0]
        self.record("find cold", timed(lambda: n.__setitem__(0, find(root))), "s")
        if n[0] != self.s["dirs"] * (self.s["per"] + 1):
            raise RuntimeError(f"{self.t.name}: find saw {n[0]} entries")
        if self.t.name != "native":
            self.record("requests per directory", (self.server.requests() - before) / (self.s["dirs"] + 1), "")
        self.record("find warm", min(timed(lambda: find(root)) for _ in range(3)), "s")
        self.t.stop()

    def remount(self):
        path = self.server_add("many")
        per = 100
        make_tree(path, self.s["many"] // per, per)
        self.own(path)
        self.t.start()
        root = os.path.join(self.t.root, "many")
        find(root)
        self.t.stop()
        self.record(f"remount until first listing, {self.s['many']} files", timed(lambda: (self.t.start(fresh=False), os.listdir(root))), "s")
        self.record("find after the remount", timed(lambda: find(root)), "s")
        self.record("memory after it", self.t.rss(), "MiB")
        self.t.stop()

    def create(self):
        self.server_add("new")
        self.own(os.path.join(self.t.server_root, "new"))
        self.t.start()
        root, there = os.path.join(self.t.root, "new"), os.path.join(self.t.server_root, "new")
        os.listdir(root)
        before = self.server.requests()
        data = os.urandom(4096)
        start = time.perf_counter()
        for i in range(self.s["create"]):
            with open(f"{root}/f{i:05}", "wb") as f:
                f.write(data)
        self.record("create 4 KiB files, program", self.s["create"] / (time.perf_counter() - start), "files/s")

        def arrived():
            with os.scandir(there) as entries:
                return sum(1 for e in entries if e.name.startswith("f") and e.stat().st_size == 4096) == self.s["create"]
        until("files on the server", arrived, 600)
        self.record("create 4 KiB files, until on the server", time.perf_counter() - start, "s")
        if self.t.name != "native":
            self.record("requests per file", (self.server.requests() - before) / self.s["create"], "")
        self.record("rm -rf", self.s["create"] / timed(lambda: shutil.rmtree(root)), "files/s")
        self.t.stop()

    def sequential(self):
        self.server_add("big")
        self.own(os.path.join(self.t.server_root, "big"))
        self.t.start()
        root, there = os.path.join(self.t.root, "big"), os.path.join(self.t.server_root, "big")
        os.listdir(root)
        block, total = os.urandom(MIB), self.s["big"] * MIB
        start = time.perf_counter()
        with open(f"{root}/file", "wb", buffering=0) as f:
            for _ in range(self.s["big"]):
                f.write(block)
        self.record("write, to close", self.s["big"] / (time.perf_counter() - start), "MiB/s")

        def arrived():
            try:
                return os.stat(f"{there}/file").st_size == total
            except OSError:
                return False
        until("file on the server", arrived, 600)
        self.record("write, until on the server", self.s["big"] / (time.perf_counter() - start), "MiB/s")
        self.t.stop()
        self.t.start()
        os.listdir(root)
        start = time.perf_counter()
        _, first = read_all(f"{root}/file")
        self.record("read cold", self.s["big"] / (time.perf_counter() - start), "MiB/s")
        self.record("first byte", first * 1000, "ms")
        if drop_caches():
            self.record("read warm, page cache dropped", self.s["big"] / timed(lambda: read_all(f"{root}/file")), "MiB/s")
        self.record("read warm", self.s["big"] / min(timed(lambda: read_all(f"{root}/file")) for _ in range(3)), "MiB/s")
        for name, mode in (("random 4 KiB reads, warm", "randread"), ("random 4 KiB writes", "randwrite")):
            self.record(name, self.fio(f"{root}/file", mode), "IOPS")
        self.record("peak memory", self.t.rss(), "MiB")
        self.t.stop()

    def fio(self, path, mode):
        out = subprocess.run(["fio", "--name=x", f"--filename={path}", f"--rw={mode}", "--bs=4k", "--ioengine=psync",
                              f"--runtime={self.s['fio']}", "--time_based", f"--size={self.s['big']}m", "--invalidate=0",
                              "--output-format=json"], stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(out.stdout[out.stdout.index("{"):])["jobs"][0]["read" if mode == "randread" else "write"]["iops"]


def table(results, targets):
    keys = []
    for r in results.values():
        keys += [k for k in r if k not in keys]
    print("| | " + " | ".join(targets) + " | syncoxfs : native | syncoxfs : rclone |")
    print("|---|" + "---:|" * (len(targets) + 2))
    for k in keys:
        cells = [f"{results[t][k][0]:.4g} {results[t][k][1]}" if k in results.get(t, {}) else "" for t in targets]

        def ratio(other):
            a, b = results.get("syncoxfs", {}).get(k), results.get(other, {}).get(k)
            if not a or not b or not b[0] or not a[0]:
                return ""
            better_low = a[1] in ("s", "ms", "MiB", "")
            return f"{(b[0] / a[0]) if better_low else (a[0] / b[0]):.3g}"
        print(f"| {k} | " + " | ".join(cells) + f" | {ratio('native')} | {ratio('rclone')} |")
    print("\nRatios above 1: syncoxfs is better.")


def missing(targets, steps):
    needed = {"fio": "sequential" in steps, "rclone": "rclone" in targets, "fusermount3": targets != ["native"]}
    return [name for name, needs in needed.items() if needs and shutil.which(name) is None]


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--size", choices=SIZES, default="quick")
    ap.add_argument("--targets", default="native,rclone,syncoxfs")
    ap.add_argument("--steps", default="listing,create,sequential,remount")
    ap.add_argument("--rtt-ms", type=float, default=0, help="how far away the server is")
    ap.add_argument("--json")
    args = ap.parse_args()
    lacks = missing(args.targets.split(","), args.steps.split(","))
    if lacks:
        say("SKIP: not installed: " + ", ".join(lacks))
        return 77
    random.seed(1)
    base = tempfile.mkdtemp(prefix="sxbench.", dir=os.environ.get("TMPDIR"))
    os.chmod(base, 0o755)
    server = Server(base, args.rtt_ms)
    classes = {"native": Native, "rclone": Rclone, "syncoxfs": Syncoxfs}
    targets, results, failed = args.targets.split(","), {}, 0
    try:
        for name in targets:
            target = classes[name](base, server)
            bench = Bench(target, server, args.size)
            for step in args.steps.split(","):
                try:
                    getattr(bench, step)()
                except (TimeoutError, RuntimeError, OSError, subprocess.SubprocessError) as e:
                    failed += 1
                    say(f"  {name} {step}: {e}")
                finally:
                    target.stop()
            results[name] = bench.out
    finally:
        server.stop()
        if not failed:
            shutil.rmtree(base, ignore_errors=True)
        else:
            say(f"kept: {base}")
    table(results, targets)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(results, f, indent=1)
    return 1 if failed and "syncoxfs" in targets else 0


if __name__ == "__main__":
    sys.exit(main())
