#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Real programs on a mount, and the ways in which programs save files."""
import os, re, sqlite3, sys, tarfile

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from rig import *

GIT = ("git", "-c", "user.name=T", "-c", "user.email=t@t", "-c", "init.defaultBranch=main", "-c", "gc.auto=0")


def git(m):
    """init, commit, gc, clone, fsck; and the provider's copy is a sound repository too."""
    need("git")
    repo = m.path("repo")
    run(*GIT, "init", "-q", repo)
    for i in range(20):
        write(os.path.join(repo, "f%d" % i), "line %d\n" % i * 50)
        run(*GIT, "add", "-A", cwd=repo)
        if i % 5 == 4:
            run(*GIT, "commit", "-qm", "commit %d" % i, cwd=repo)
    run(*GIT, "checkout", "-qb", "other", cwd=repo)
    os.rename(os.path.join(repo, "f0"), os.path.join(repo, "moved"))
    run(*GIT, "add", "-A", cwd=repo)
    run(*GIT, "commit", "-qm", "rename", cwd=repo)
    run(*GIT, "checkout", "-q", "main", cwd=repo)
    run(*GIT, "merge", "-q", "other", cwd=repo)
    run(*GIT, "gc", "-q", cwd=repo)
    assert "error" not in run(*GIT, "fsck", "--full", cwd=repo)
    assert run(*GIT, "status", "--porcelain", cwd=repo) == ""
    run(*GIT, "clone", "-q", repo, m.path("clone"))
    m.flush()
    copy = os.path.join(m.base, "git-copy")
    shutil.copytree(m.far("repo"), copy)
    for d in ("refs/heads", "refs/tags", "objects/pack", "objects/info"):
        os.makedirs(os.path.join(copy, ".git", d), exist_ok=True)
    run("git", "-c", "safe.directory=*", "fsck", "--full", cwd=copy)


def sqlite(m):
    """A WAL database (shared memory through mmap, fcntl locks), two connections, and integrity on both sides."""
    path = m.path("db.sqlite")
    a = sqlite3.connect(path)
    assert a.execute("pragma journal_mode=wal").fetchone()[0] == "wal"
    a.execute("create table t (k integer primary key, v blob)")
    b = sqlite3.connect(path)
    for i in range(50):
        with a:
            a.executemany("insert into t (v) values (?)", [(os.urandom(500),) for _ in range(20)])
        assert b.execute("select count(*) from t").fetchone()[0] == 20 * (i + 1)
    assert b.execute("pragma integrity_check").fetchone()[0] == "ok"
    a.execute("pragma wal_checkpoint(truncate)")
    b.close()
    a.close()
    m.flush()
    copy = os.path.join(m.base, "copy.sqlite")
    shutil.copyfile(m.far("db.sqlite"), copy)
    assert sqlite3.connect(copy).execute("select count(*) from t").fetchone()[0] == 1000


def tree(base, n):
    for i in range(n):
        d = os.path.join(base, "d%d" % (i // 50))
        if i % 50 == 0:
            os.makedirs(d)
        write(os.path.join(d, "f%d" % i), "%d\n" % i * (i % 40))


def rsync(m):
    """The second run transfers nothing."""
    need("rsync")
    src = os.path.join(m.base, "rsync-src")
    tree(src, 300)
    run("rsync", "-aX", src + "/", m.path("copy"))
    m.flush()
    again = run("rsync", "-aXi", src + "/", m.path("copy"))
    assert not [line for line in again.splitlines() if line.startswith((">", "<", "c"))], again[:500]
    run("diff", "-r", src, m.far("copy"))


def tar(m):
    """3,000 files out of an archive, and the same archive from them."""
    archive = os.path.join(m.base, "a.tar")
    src = os.path.join(m.base, "tar-src")
    tree(src, 3000)
    run("tar", "-cf", archive, "-C", src, ".")
    run("tar", "-xf", archive, "-C", m.dir)
    run("tar", "-df", archive, "-C", m.dir)
    run("diff", "-r", src, m.dir)


def cp_a(m):
    """cp -a keeps modes, times, links and attributes of its own, and copies none of the service's."""
    src = m.path("src")
    os.mkdir(src)
    write(os.path.join(src, "f"), "x" * 1000)
    os.chmod(os.path.join(src, "f"), 0o640)
    os.link(os.path.join(src, "f"), os.path.join(src, "g"))
    os.symlink("f", os.path.join(src, "l"))
    os.setxattr(os.path.join(src, "f"), "user.own", b"1")
    os.utime(os.path.join(src, "f"), (1e9, 1e9))
    run("cp", "-a", src, m.path("dst"))
    a, b = os.stat(os.path.join(src, "f")), os.stat(m.path("dst", "f"))
    assert (a.st_mode, a.st_mtime_ns, a.st_nlink) == (b.st_mode, b.st_mtime_ns, b.st_nlink)
    assert os.readlink(m.path("dst", "l")) == "f" and os.getxattr(m.path("dst", "f"), "user.own") == b"1"
    assert os.listxattr(m.path("dst", "f")) == ["user.own"]


def requests(m, since, name):
    return [(method, url.rsplit("/", 1)[-1], code) for method, url, code in m.backend.log()[since:] if method != "PROPFIND"]


def new_version_only(m, since, name, gone=()):
    """The server saw a PUT of the file (or a move of its upload), and the name was never deleted or moved away."""
    if m.backend.log() is None:
        return
    seen = requests(m, since, name)
    assert any(method in ("PUT", "MOVE") for method, _, _ in seen), seen
    assert not [r for r in seen if r[0] in ("DELETE", "MOVE") and r[1] == name], seen


def identity(m, name):
    return os.getxattr(m.path(name), "user.syncox.remote-path")


def logged(m):
    return len(m.backend.log() or ())


def save_by_rename(m):
    """GNOME, KDE and many others: a temporary file, renamed over the old one."""
    write(m.path("text.txt"), "first")
    m.flush()
    since = logged(m)
    write(m.path(".text.txt.Xa81bQ"), "second")
    os.rename(m.path(".text.txt.Xa81bQ"), m.path("text.txt"))
    m.flush()
    assert read(m.far("text.txt")) == b"second" and os.listdir(m.there) == ["text.txt"]
    new_version_only(m, since, "text.txt")


def save_by_backup(m):
    """vim with backup: the old file is moved aside, the new one written under its name, the backup removed."""
    write(m.path("text.txt"), "first")
    m.flush()
    since = logged(m)
    os.rename(m.path("text.txt"), m.path("text.txt~"))
    write(m.path("text.txt"), "second")
    os.unlink(m.path("text.txt~"))
    m.flush()
    assert read(m.far("text.txt")) == b"second" and os.listdir(m.there) == ["text.txt"]
    new_version_only(m, since, "text.txt")


def save_like_an_office(m):
    """LibreOffice and Word: lock file, new temporary file, old one aside, temporary to its name, rest removed."""
    write(m.path("a.odt"), "first")
    m.flush()
    since = logged(m)
    write(m.path(".~lock.a.odt#"), "me")
    write(m.path("lu123.tmp"), "second")
    os.rename(m.path("a.odt"), m.path("lu124.tmp"))
    os.rename(m.path("lu123.tmp"), m.path("a.odt"))
    os.unlink(m.path("lu124.tmp"))
    os.unlink(m.path(".~lock.a.odt#"))
    m.flush()
    assert read(m.far("a.odt")) == b"second" and os.listdir(m.there) == ["a.odt"]
    new_version_only(m, since, "a.odt")
    assert not [r for r in requests(m, since, "") if "lock" in r[1]] if m.backend.log() else True


def vim(m):
    """The program itself, in its default way and with backupcopy=no."""
    need("vim")
    for n, how in enumerate(("auto", "no", "yes")):
        name = "v%d.txt" % n
        write(m.path(name), "old text\n")
        m.flush()
        run("vim", "-N", "-u", "NONE", "-i", "NONE", "-es", "-c", "set backup backupcopy=" + how, "-c", "%s/old/new/", "-c", "wq", m.path(name))
        m.flush()
        assert read(m.path(name)) == b"new text\n" == read(m.far(name))


if __name__ == "__main__":
    main([git, sqlite, rsync, tar, cp_a, save_by_rename, save_by_backup, save_like_an_office, vim])
