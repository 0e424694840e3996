#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole mounts: begin and end, crash, two on one server, no network, changes made beside the mount, other users."""
import ctypes, errno, os, select, signal, sqlite3, stat, subprocess, sys, time, traceback

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from rig import *

libc = ctypes.CDLL(None, use_errno=True)


def forsake(*fds):
    """Closes what belongs to a mount that is gone: close() reports that, and that is no failure here."""
    for fd in fds:
        try:
            os.close(fd)
        except OSError as e:
            assert e.errno == errno.ENOTCONN, e


class Mounts:
    """Mounts that are ended with the case."""

    def __init__(self, base, backend):
        self.base, self.backend, self.all = base, backend, []
        os.makedirs(os.path.join(backend.root, os.path.basename(base)))
        os.chmod(os.path.join(backend.root, os.path.basename(base)), 0o777)

    def add(self, name="m", **kw):
        m = Mount(self.base, self.backend, name, **kw)
        self.all.append(m)
        return self.up(m)

    def up(self, m):
        m.start()
        m.dir = os.path.join(m.top, os.path.basename(self.base))
        m.there = os.path.join(m.backend.root, os.path.basename(self.base))
        return m

    def __enter__(self):
        return self

    def __exit__(self, *what):
        failed = [e for e in map(self.end, self.all) if e is not None]
        if failed and what[0] is None:
            raise failed[0]

    @staticmethod
    def end(m):
        try:
            m.close()
        except Exception as e:  # the others have to be ended all the same
            return e


def crash(base, backend):
    """What close() and rename() have done survives kill -9; the dead mount is cleaned up; a removed open file is gone."""
    with Mounts(base, backend) as w:
        m = w.add(global_conf="write-back-delay = 1h\n")
        write(m.path("closed"), "closed")
        os.mkdir(m.path("d"))
        os.rename(m.path("closed"), m.path("d", "renamed"))
        removed = os.open(m.path("removed"), os.O_RDWR | os.O_CREAT)
        os.write(removed, b"x" * 100000)
        os.unlink(m.path("removed"))
        half = os.open(m.path("half"), os.O_RDWR | os.O_CREAT)
        os.write(half, b"written, not closed")
        m.crash()
        raises(errno.ENOTCONN, os.stat, os.path.join(m.top, "never looked at"))
        forsake(removed, half)
        w.up(m)
        assert read(m.path("d", "renamed")) == b"closed"
        assert read(m.path("half")) == b"written, not closed"
        assert sorted(os.listdir(m.dir)) == ["d", "half"]
        m.flush()
        assert read(m.far("d", "renamed")) == b"closed" and read(m.far("half")) == b"written, not closed"


WRITER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("pragma journal_mode=wal")
db.execute("create table if not exists t (k integer primary key, v blob)")
for i in range(1, 100000):
    with db:
        db.executemany("insert into t (v) values (randomblob(700))", [()] * 5)
    print(i * 5, flush=True)
"""


def sqlite_under_kill(base, backend):
    """A WAL database whose writer loses the mount by kill -9, again and again: sound, and every commit is there."""
    with Mounts(base, backend) as w:
        m = w.add(global_conf="write-back-delay = 100ms\n")
        committed = 0
        for rounds in range(3):
            writer = subprocess.Popen([sys.executable, "-c", WRITER, m.path("db.sqlite")], stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL, text=True)
            done = 0
            while done < 150:  # uploads of the file run meanwhile
                done = int(writer.stdout.readline())
            m.crash()
            done = [int(line) for line in writer.stdout][-1:] or [done]
            writer.wait(LIMIT_S)
            committed += done[0]
            w.up(m)
            db = sqlite3.connect(m.path("db.sqlite"))
            assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
            count = db.execute("select count(*) from t").fetchone()[0]
            assert committed <= count <= committed + 5, (committed, count)
            committed = count
            db.execute("pragma wal_checkpoint(truncate)")
            db.close()
        m.flush()
        copy = os.path.join(m.base, "copy.sqlite")
        with open(copy, "wb") as f:
            f.write(read(m.far("db.sqlite")))
        assert sqlite3.connect(copy).execute("select count(*) from t").fetchone()[0] == committed


def restart(base, backend):
    """A clean end and a new start: everything is known without a listing, attributes and links are kept."""
    with Mounts(base, backend) as w:
        m = w.add()
        write(m.path("f"), "x")
        os.link(m.path("f"), m.path("g"))
        os.chmod(m.path("f"), 0o604)
        os.setxattr(m.path("f"), "user.k", b"v")
        before = os.stat(m.path("f"))
        m.flush()
        m.stop()
        w.up(m)
        after = os.stat(m.path("g"))
        assert (before.st_ino, before.st_mode, before.st_mtime_ns) == (after.st_ino, after.st_mode, after.st_mtime_ns)
        assert after.st_nlink == 2 and os.getxattr(m.path("g"), "user.k") == b"v"


def end_while_busy(base, backend):
    """SIGTERM ends the mount in bounded time though a program has a file open and mapped; what it wrote is kept."""
    with Mounts(base, backend) as w:
        m = w.add()
        fd = os.open(m.path("f"), os.O_RDWR | os.O_CREAT)
        os.write(fd, b"before the end")
        here = os.open(m.dir, os.O_RDONLY)
        begin = time.monotonic()
        m.stop()
        assert time.monotonic() - begin < 15
        raises(errno.ENOTCONN, os.pwrite, fd, b"x", 0)
        forsake(here, fd)
        w.up(m)
        assert read(m.path("f")) == b"before the end"


def second_on_one_state(base, backend):
    """A second mount on the same state is refused and leaves the first one alone."""
    with Mounts(base, backend) as w:
        m = w.add()
        other = os.path.join(base, "other")
        os.mkdir(other)
        r = subprocess.run([os.path.join(BUILD, "syncoxfs"), "-f", "-c", m.conf, other], env=m.env, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S)
        assert r.returncode != 0 and "state" in r.stdout, r.stdout
        assert not is_mounted(other)
        write(m.path("f"), "still works")


def two_mounts(base, backend):
    """Each sees what the other does: new, changed, renamed, removed; none overwrites the other's change unseen."""
    with Mounts(base, backend) as w:
        a, b = w.add("a"), w.add("b")
        write(a.path("f"), "from a")
        a.flush()
        until("b sees the new file", lambda: os.path.exists(b.path("f")))
        assert read(b.path("f")) == b"from a"
        write(b.path("f"), "changed by b, longer")
        b.flush()
        until("a sees the change", lambda: read(a.path("f")) == b"changed by b, longer")
        os.mkdir(b.path("d"))
        os.rename(b.path("f"), b.path("d", "g"))
        b.flush()
        until("a sees the rename", lambda: os.path.exists(a.path("d", "g")) and not os.path.exists(a.path("f")))
        assert read(a.path("d", "g")) == b"changed by b, longer"
        os.unlink(a.path("d", "g"))
        os.rmdir(a.path("d"))
        a.flush()
        until("b sees the removal", lambda: os.listdir(b.dir) == [])


def beside(base, backend):
    """Changes made beside the mount appear, also to a program that watches a file with inotify."""
    with Mounts(base, backend) as w:
        m = w.add()
        write(m.far("old"), "1")
        until("the new file", lambda: "old" in os.listdir(m.dir))
        assert read(m.path("old")) == b"1"
        watch = libc.inotify_init1(os.O_NONBLOCK)
        assert libc.inotify_add_watch(watch, os.fsencode(m.path("old")), 0x400) > 0  # IN_DELETE_SELF
        write(m.far("new"), "2" * 5000)
        until("the second file", lambda: "new" in os.listdir(m.dir))
        assert os.stat(m.path("new")).st_size == 5000
        tmp = m.far("..", "beside.tmp")
        write(tmp, "changed beside")
        os.rename(tmp, m.far("new"))
        until("the new content", lambda: read(m.path("new")) == b"changed beside")
        os.unlink(m.far("old"))
        until("the removal", lambda: os.listdir(m.dir) == ["new"])
        p = select.poll()
        p.register(watch, select.POLLIN)
        assert p.poll(LIMIT_S * 1000), "inotify did not tell of the removal"
        os.close(watch)


def offline(base, backend):
    """Without the server: what is cached reads and writes, what is not known fails in bounded time; all arrives later."""
    if backend.name != "apache":
        raise Skip("only a server can be away")
    with Mounts(base, backend) as w:
        m = w.add()
        data = os.urandom(400000)
        write(m.path("cached"), data)
        os.mkdir(m.far("unseen"))
        m.flush()
        until("the directory made beside", lambda: os.path.exists(m.path("unseen")))
        backend.stop()
        try:
            assert read(m.path("cached")) == data
            assert "cached" in os.listdir(m.dir)
            begin = time.monotonic()
            try:
                os.listdir(m.path("unseen"))
                raise AssertionError("listed an unknown directory without a server")
            except OSError as e:
                assert e.errno not in (errno.ENOENT,), e
            assert time.monotonic() - begin < 30
            with open(m.path("cached"), "r+b") as f:
                f.write(b"offline")
            write(m.path("made"), "while away")
            os.rename(m.path("made"), m.path("made and renamed"))
            assert m.status(m.path("made and renamed")) == "pending"
        finally:
            backend.start()
        m.flush()
        assert read(m.far("cached")) == b"offline" + data[7:]
        assert read(m.far("made and renamed")) == b"while away"


def in_kernel(child):
    """Asleep for good, not between two steps: still at the same call after a look at its state and its switches."""
    def look():
        with open("/proc/%d/status" % child.pid) as f:
            fields = dict(line.split(":", 1) for line in f)
        return fields["State"].split()[0], fields["voluntary_ctxt_switches"], fields["Name"].strip()
    first = look()
    time.sleep(0.1)
    return first == look() and first[0] in "SD" and first[2] == "ls"


def interrupt(base, backend):
    """A wait for a server that hangs ends at once when the program is told to end."""
    if backend.name != "apache":
        raise Skip("only a server can hang")
    with Mounts(base, backend) as w:
        m = w.add()
        os.mkdir(m.far("slow"))
        until("the directory", lambda: os.path.exists(m.path("slow")))
        backend.run("pause", backend.base)
        try:
            child = subprocess.Popen(["ls", m.path("slow")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            until("ls waits", lambda: in_kernel(child) or child.poll() is not None)
            assert child.poll() is None
            begin = time.monotonic()
            child.send_signal(signal.SIGTERM)
            child.wait(LIMIT_S)
            assert time.monotonic() - begin < 3
            assert "slow" in os.listdir(m.dir), "what is known must not wait"
        finally:
            backend.run("resume", backend.base)
        assert os.listdir(m.path("slow")) == []


def partial(base, backend):
    """A large remote file is read at its end without being fetched as a whole, and written in the middle likewise."""
    if backend.name != "apache":
        raise Skip("a folder of this machine is read in place")
    with Mounts(base, backend) as w:
        m = w.add()
        data = os.urandom(24_000_000)
        write(m.far("big"), data)
        os.chmod(m.far("big"), 0o666)
        until("the file", lambda: os.path.exists(m.path("big")))
        with open(m.path("big"), "rb", buffering=0) as f:
            f.seek(23_000_000)
            assert f.read(1000) == data[23_000_000:23_001_000]
        cached = int(os.getxattr(m.path("big"), "user.syncox.cached"))
        assert 0 < cached < 8_000_000, cached
        assert m.status(m.path("big")).split(" ")[0] in ("partial", "downloading")
        assert read(m.path("big")) == data
        assert m.status(m.path("big")) == "synced"


def replaced_while_read(base, backend):
    """A reader never gets a mix of two versions: an error, and the new version at the next open. What is appended is news."""
    if backend.name != "apache":
        raise Skip("a folder of this machine behaves as if the file was opened there")
    with Mounts(base, backend) as w:
        m = w.add()
        old, new = b"o" * 6_000_000, b"n" * 5_000_000
        write(m.far("f"), old)
        until("the file", lambda: os.path.exists(m.path("f")))
        with open(m.path("f"), "rb", buffering=0) as f:
            assert f.read(1000) == old[:1000]
            write(m.far("f.new"), new)
            os.rename(m.far("f.new"), m.far("f"))
            m.refresh(m.dir)
            until("the new size", lambda: os.stat(m.path("f")).st_size == len(new))
            f.seek(4_000_000)
            raises(errno.ESTALE, f.read, 1000)
        assert read(m.path("f")) == new
        with open(m.path("f"), "rb", buffering=0) as f:
            f.seek(len(new))
            assert f.read(10) == b""
            write(m.far("f"), b"more", "ab")
            m.refresh(m.dir)
            until("what was appended", lambda: f.read(10) == b"more")


def read_only(base, backend):
    """A provider that must not be changed: EROFS at once."""
    with Mounts(base, backend) as w:
        write(os.path.join(backend.root, os.path.basename(base), "f"), "x")
        m = w.add(section_conf="read-only = yes\n")
        assert read(m.path("f")) == b"x"
        raises(errno.EROFS, write, m.path("f"), "y")
        raises(errno.EROFS, write, m.path("g"), "y")
        raises(errno.EROFS, os.mkdir, m.path("d"))
        raises(errno.EROFS, os.unlink, m.path("f"))
        raises(errno.EROFS, os.rename, m.path("f"), m.path("g"))
        raises(errno.EROFS, os.chmod, m.path("f"), 0o600)
        raises(errno.EROFS, os.setxattr, m.path("f"), "user.k", b"v")


def other_users(base, backend):
    """allow_other: the kernel checks permissions, new files belong to who made them, a write takes set-id bits away."""
    if os.getuid() != 0:
        raise Skip("only root can become somebody else")
    with Mounts(base, backend) as w:
        m = w.add(options=("allow_other",))
        os.chmod(m.dir, 0o777)
        write(m.path("mine"), "x")
        os.chmod(m.path("mine"), 0o600)
        write(m.path("suid"), "x")
        os.chmod(m.path("suid"), 0o4777)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                raises(errno.EACCES, read, m.path("mine"))
                raises(errno.EPERM, os.chmod, m.path("mine"), 0o666)
                write(m.path("theirs"), "y")
                fd = os.open(m.path("suid"), os.O_WRONLY)
                os.write(fd, b"z")
                assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o777, oct(os.fstat(fd).st_mode)
                code = 0
            except BaseException:
                traceback.print_exc(file=sys.stdout)
                sys.stdout.flush()
            os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert os.stat(m.path("theirs")).st_uid == 65534
        assert stat.S_IMODE(os.stat(m.path("suid")).st_mode) == 0o777


if __name__ == "__main__":
    main([], [crash, sqlite_under_kill, restart, end_while_busy, second_on_one_state, two_mounts, beside, offline, interrupt, partial, replaced_while_read, read_only, other_users])
