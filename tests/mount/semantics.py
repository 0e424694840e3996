#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""What POSIX promises, on a real mount over each backend."""
import ctypes, errno, fcntl, mmap, os, stat, sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
from rig import *

libc = ctypes.CDLL(None, use_errno=True)
NOREPLACE, EXCHANGE = 1, 2
O_TMPFILE = getattr(os, "O_TMPFILE", 0o20200000)


def renameat2(old, new, flags):
    if libc.renameat2(-100, os.fsencode(old), -100, os.fsencode(new), flags) != 0:
        e = ctypes.get_errno()
        raise OSError(e, os.strerror(e))


def files(m):
    """Written, appended, renamed, removed: the same here and on the provider."""
    write(m.path("a"), "one\n")
    write(m.path("a"), "two\n", "ab")
    assert read(m.path("a")) == b"one\ntwo\n"
    os.mkdir(m.path("d"))
    os.rename(m.path("a"), m.path("d", "b"))
    write(m.path("gone"), "x")
    os.unlink(m.path("gone"))
    assert sorted(os.listdir(m.dir)) == ["d"]
    m.flush()
    assert read(m.far("d", "b")) == b"one\ntwo\n"
    assert not os.path.exists(m.far("a")) and not os.path.exists(m.far("gone"))
    assert m.status(m.path("d", "b")) == "synced"


def overwrite(m):
    """O_TRUNC, O_APPEND, pwrite in the middle, and a file that shrinks and grows."""
    data = bytearray(os.urandom(300000))
    write(m.path("f"), bytes(data))
    m.flush()
    with open(m.path("f"), "r+b") as f:
        f.seek(150000)
        f.write(b"middle")
    data[150000:150006] = b"middle"
    assert read(m.path("f")) == bytes(data)
    os.truncate(m.path("f"), 200000)
    os.truncate(m.path("f"), 250000)
    data = data[:200000] + bytes(50000)
    assert read(m.path("f")) == bytes(data)
    fd = os.open(m.path("f"), os.O_WRONLY | os.O_APPEND)
    os.write(fd, b"end")
    assert os.fstat(fd).st_size == 250003
    os.ftruncate(fd, 250001)
    os.close(fd)
    m.flush()
    assert read(m.far("f")) == bytes(data) + b"e"
    write(m.path("f"), "new")
    m.flush()
    assert read(m.far("f")) == b"new"


def open_and_removed(m):
    """A removed file lives until its last descriptor is closed, and leaves nothing on the provider."""
    fd = os.open(m.path("f"), os.O_RDWR | os.O_CREAT, 0o600)
    os.write(fd, b"still here")
    os.unlink(m.path("f"))
    assert os.fstat(fd).st_nlink == 0
    assert os.pread(fd, 100, 0) == b"still here"
    os.write(fd, b"!")
    write(m.path("f"), "another")
    assert os.pread(fd, 100, 0) == b"still here!"
    os.close(fd)
    fd = os.open(m.path("f"), os.O_RDONLY)
    write(m.path("g"), "over it")
    os.rename(m.path("g"), m.path("f"))
    assert os.pread(fd, 100, 0) == b"another" and os.fstat(fd).st_nlink == 0
    os.close(fd)
    m.flush()
    assert sorted(os.listdir(m.there)) == ["f"] and read(m.far("f")) == b"over it"


def removed_directory(m):
    """Who stands in a removed directory can still look at it."""
    os.mkdir(m.path("d"))
    fd = os.open(m.path("d"), os.O_RDONLY)
    os.rmdir(m.path("d"))
    assert os.fstat(fd).st_nlink == 0 and os.listdir(fd) == []
    os.close(fd)
    os.mkdir(m.path("d"))
    write(m.path("d", "x"), "in the new one")
    assert read(m.path("d", "x")) == b"in the new one"


def hard_links(m):
    """Two names are one file."""
    write(m.path("a"), "x")
    os.link(m.path("a"), m.path("b"))
    a, b = os.stat(m.path("a")), os.stat(m.path("b"))
    assert a.st_ino == b.st_ino and a.st_nlink == b.st_nlink == 2
    write(m.path("b"), "yy", "ab")
    assert read(m.path("a")) == b"xyy" and os.stat(m.path("a")).st_size == 3
    os.chmod(m.path("a"), 0o600)
    assert stat.S_IMODE(os.stat(m.path("b")).st_mode) == 0o600
    os.unlink(m.path("a"))
    assert os.stat(m.path("b")).st_nlink == 1
    m.flush()
    assert read(m.far("b")) == b"xyy"


def symlinks(m):
    os.symlink("nowhere/at all", m.path("l"))
    assert os.readlink(m.path("l")) == "nowhere/at all" and os.path.islink(m.path("l"))
    write(m.path("f"), "x")
    os.symlink("f", m.path("k"))
    assert read(m.path("k")) == b"x"
    m.flush()
    assert os.readlink(m.path("l")) == "nowhere/at all"


def special_files(m):
    os.mkfifo(m.path("p"), 0o600)
    assert stat.S_ISFIFO(os.stat(m.path("p")).st_mode)
    m.flush()


def attributes(m):
    """Modes, times to the nanosecond, and a utimens() on an open file that holds beyond its close."""
    write(m.path("f"), "x")
    os.chmod(m.path("f"), 0o640)
    os.utime(m.path("f"), ns=(1_234_567_890_123_456_789, 1_111_111_111_222_222_222))
    s = os.stat(m.path("f"))
    assert stat.S_IMODE(s.st_mode) == 0o640
    assert s.st_atime_ns == 1_234_567_890_123_456_789 and s.st_mtime_ns == 1_111_111_111_222_222_222
    with open(m.path("g"), "wb") as f:
        f.write(b"data")
        f.flush()
        os.utime(f.fileno(), ns=(1, 1_000_000_000_000_000_001))
    assert os.stat(m.path("g")).st_mtime_ns == 1_000_000_000_000_000_001
    m.flush()
    assert os.stat(m.path("g")).st_mtime_ns == 1_000_000_000_000_000_001
    before = os.stat(m.dir).st_mtime_ns
    write(m.path("h"), "")
    assert os.stat(m.dir).st_mtime_ns > before


def extended_attributes(m):
    write(m.path("f"), "x")
    os.setxattr(m.path("f"), "user.mine", b"\0value")
    assert os.getxattr(m.path("f"), "user.mine") == b"\0value"
    assert os.listxattr(m.path("f")) == ["user.mine"]
    raises(errno.EEXIST, os.setxattr, m.path("f"), "user.mine", b"", os.XATTR_CREATE)
    raises(errno.ENODATA, os.setxattr, m.path("f"), "user.other", b"", os.XATTR_REPLACE)
    os.removexattr(m.path("f"), "user.mine")
    raises(errno.ENODATA, os.getxattr, m.path("f"), "user.mine")


def service_attributes(m):
    """Read by name, never listed, read-only ones refuse with EPERM."""
    write(m.path("f"), "12345")
    m.flush()
    assert os.getxattr(m.path("f"), "user.syncox.provider") == b"files"
    assert os.getxattr(m.path("f"), "user.syncox.remote-path") == b"service_attributes/f"
    assert os.getxattr(m.path("f"), "user.syncox.cached") == b"5"
    assert os.getxattr(m.path("f"), "user.syncox.etag")
    assert os.listxattr(m.path("f")) == []
    raises(errno.EPERM, os.setxattr, m.path("f"), "user.syncox.status", b"synced")
    raises(errno.EPERM, os.removexattr, m.path("f"), "user.syncox.etag")
    raises(errno.EOPNOTSUPP, os.setxattr, m.path("f"), "user.syncox.nonsense", b"1")
    raises(errno.ENODATA, os.getxattr, m.path("f"), "user.syncox.nonsense")
    raises(errno.ENODATA, os.getxattr, m.path("f"), "user.syncox.pin")
    raises(errno.EINVAL, os.setxattr, m.path("f"), "user.syncox.pin", b"perhaps")
    os.setxattr(m.path("f"), "user.syncox.pin", b"yes")
    assert os.getxattr(m.path("f"), "user.syncox.pin") == b"yes"
    os.removexattr(m.path("f"), "user.syncox.pin")
    raises(errno.ENODATA, os.getxattr, m.path("f"), "user.syncox.pin")


def acl(m):
    """An ACL's mask is the group's mode, and a default ACL is inherited."""
    need("setfacl", "getfacl")
    write(m.path("f"), "x")
    os.chmod(m.path("f"), 0o640)
    run("setfacl", "-m", "u:65534:rwx", m.path("f"))
    assert stat.S_IMODE(os.stat(m.path("f")).st_mode) == 0o670
    os.chmod(m.path("f"), 0o600)
    assert "mask::---" in run("getfacl", "-cn", m.path("f"))
    run("setfacl", "-b", m.path("f"))
    assert "user:65534" not in run("getfacl", "-cn", m.path("f"))
    os.mkdir(m.path("d"))
    run("setfacl", "-d", "-m", "u:65534:rx", m.path("d"))
    os.mkdir(m.path("d", "sub"))
    assert "default:user:65534:r-x" in run("getfacl", "-cn", m.path("d", "sub"))
    old = os.umask(0o077)
    try:
        write(m.path("d", "sub", "f"), "x")
    finally:
        os.umask(old)
    assert "user:65534:r-x" in run("getfacl", "-cn", m.path("d", "sub", "f"))


def shared_mmap(m):
    """Bytes stored through a map reach readers and the provider, also after the descriptor was closed."""
    write(m.path("f"), bytes(200000))
    fd = os.open(m.path("f"), os.O_RDWR)
    with mmap.mmap(fd, 200000) as region:
        os.close(fd)
        region[0:5] = b"first"
        region[199995:] = b"last!"
        region.flush()
        assert read(m.path("f"))[:5] == b"first"
        region[100000:100003] = b"mid"
    m.flush()
    data = read(m.far("f"))
    assert data[:5] == b"first" and data[100000:100003] == b"mid" and data[-5:] == b"last!" and len(data) == 200000


def sparse(m):
    """Holes, SEEK_DATA, punch and allocate."""
    fd = os.open(m.path("f"), os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(fd, 10_000_000)
    os.pwrite(fd, b"x" * 4096, 5_000_000)
    assert os.lseek(fd, 0, os.SEEK_DATA) <= 5_000_000
    assert os.lseek(fd, 9_999_999, os.SEEK_HOLE) in (9_999_999, 10_000_000)
    assert libc.fallocate(fd, 3, ctypes.c_long(5_000_000), ctypes.c_long(100)) == 0  # punch
    assert os.pread(fd, 200, 5_000_000) == bytes(100) + b"x" * 100
    os.posix_fallocate(fd, 10_000_000, 1000)
    assert os.fstat(fd).st_size == 10_001_000
    os.close(fd)
    m.flush()
    data = read(m.far("f"))
    assert len(data) == 10_001_000 and data[5_000_100:5_004_096] == b"x" * 3996 and data.count(b"x") == 3996


def copy_range(m):
    data = os.urandom(3_000_000)
    write(m.path("a"), data)
    src, dst = os.open(m.path("a"), os.O_RDONLY), os.open(m.path("b"), os.O_RDWR | os.O_CREAT, 0o600)
    at = 0
    while at < len(data):
        at += os.copy_file_range(src, dst, len(data) - at, at, at)
    os.close(src)
    os.close(dst)
    assert read(m.path("b")) == data


def without_a_name(m):
    """O_TMPFILE, and linkat() that gives it a name."""
    fd = os.open(m.dir, O_TMPFILE | os.O_RDWR, 0o600)
    os.write(fd, b"was nameless")
    assert os.listdir(m.dir) == []
    assert libc.linkat(-100, b"/proc/self/fd/%d" % fd, -100, os.fsencode(m.path("named")), 0x400) == 0, os.strerror(ctypes.get_errno())
    os.close(fd)
    assert read(m.path("named")) == b"was nameless"
    os.close(os.open(m.dir, O_TMPFILE | os.O_RDWR, 0o600))
    m.flush()
    assert os.listdir(m.there) == ["named"] and read(m.far("named")) == b"was nameless"


def rename_flags(m):
    write(m.path("a"), "A")
    write(m.path("b"), "B")
    raises(errno.EEXIST, renameat2, m.path("a"), m.path("b"), NOREPLACE)
    renameat2(m.path("a"), m.path("b"), EXCHANGE)
    assert read(m.path("a")) == b"B" and read(m.path("b")) == b"A"
    os.mkdir(m.path("d"))
    raises(errno.EINVAL, os.rename, m.path("d"), m.path("d", "below"))
    write(m.path("d", "x"), "")
    os.mkdir(m.path("e"))
    raises(errno.ENOTEMPTY, os.rename, m.path("e"), m.path("d"))
    os.rename(m.path("d"), m.path("e"))
    m.flush()
    assert read(m.far("a")) == b"B" and read(m.far("b")) == b"A" and os.listdir(m.far("e")) == ["x"]


def locks(m):
    """flock and fcntl locks work between programs of this machine."""
    write(m.path("f"), "x")
    a, b = open(m.path("f"), "r+"), open(m.path("f"), "r+")
    fcntl.flock(a, fcntl.LOCK_EX)
    raises(errno.EWOULDBLOCK, fcntl.flock, b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    a.close()
    fcntl.flock(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.lockf(b, fcntl.LOCK_EX)
    b.close()


NAMES = [b"%", b"100%.txt", b"a#b?c&d", b"'single' \"double\"", b"back\\slash", b" blank in front", b"blank behind ", b"new\nline",
         "é".encode(), "e\u0301".encode(), "😀 emoji".encode(), b"-rf", b"*", b"a:b|c<d>e", b"x" * 255, "ü".encode() * 127 + b"x",
         b"~tilde", b"+plus+", b"semi;colon", b"...", b"..x", b".hidden", b"%2F", b"a%00b", b"(1)", b"[x]", b"\x7f"]


def names(m):
    """What Linux allows goes there and back, byte for byte; what the server refuses stays here and is shown as an error."""
    here = os.fsencode(m.dir)
    for i, name in enumerate(NAMES):
        with open(os.path.join(here, name), "wb") as f:
            f.write(b"%d" % i)
    m.flush()
    assert sorted(os.listdir(here)) == sorted(NAMES)
    there = os.fsencode(m.there)
    assert sorted(os.listdir(there)) == sorted(NAMES)
    for i, name in enumerate(NAMES):
        with open(os.path.join(there, name), "rb") as f:
            assert f.read() == b"%d" % i, name
    raises(errno.ENAMETOOLONG, open, os.path.join(here, b"y" * 256), "wb")
    raises(errno.ENAMETOOLONG, os.stat, os.path.join(here, b"y" * 256))


def root_is_fixed(m):
    """The root's directories are the configuration's; .syncox is read-only and made when it is opened."""
    raises(errno.EPERM, os.mkdir, os.path.join(m.mnt, "new"))
    raises(errno.EPERM, os.rmdir, m.top)
    raises(errno.EPERM, os.rename, m.top, m.top + "2")
    raises(errno.EPERM, open, os.path.join(m.mnt, "f"), "w")
    raises(errno.EXDEV, os.link, os.path.join(m.mnt, ".syncox", "status.json"), m.path("l"))
    assert sorted(os.listdir(m.mnt)) == [".syncox", "Files"]
    docs = os.path.join(m.mnt, ".syncox")
    assert sorted(os.listdir(docs)) == ["conflicts.json", "events.jsonl", "status.json", "transfers.json"]
    import json
    assert json.loads(read(os.path.join(docs, "status.json")))["providers"]
    refusal = errno.EROFS if os.getuid() == 0 else errno.EACCES  # the kernel looks at the modes of other users first
    raises(refusal, open, os.path.join(docs, "status.json"), "r+")
    raises(refusal, os.unlink, os.path.join(docs, "status.json"))
    raises(refusal, open, os.path.join(docs, "new"), "w")


def appears(m, name, data):
    """A file that somebody else put there; nothing of its content is here."""
    if not os.path.exists(m.there):
        m.flush()
    write(m.far(name), data)
    os.chmod(m.far(name), 0o666)
    m.refresh(m.dir)


def removed_before_fetched(m):
    """Who has a file open reads all of it, though its name has gone before its bytes had come."""
    data = os.urandom(9_000_000)
    for name in ("unlinked", "replaced", "anew"):
        appears(m, name, data)
    fds = {name: os.open(m.path(name), os.O_RDONLY) for name in ("unlinked", "replaced", "anew")}
    for fd in fds.values():
        assert os.pread(fd, 10, 4_000_000) == data[4_000_000:4_000_010]
    os.unlink(m.path("unlinked"))
    write(m.path("new"), "new")
    os.rename(m.path("new"), m.path("replaced"))
    os.unlink(m.path("anew"))
    write(m.path("anew"), "another")
    m.flush()
    assert sorted(os.listdir(m.there)) == ["anew", "replaced"]
    assert read(m.far("replaced")) == b"new" and read(m.far("anew")) == b"another"
    for name, fd in fds.items():
        assert os.pread(fd, 9_000_000, 0) == data, name
        os.close(fd)


def removed_there(m):
    """What others removed takes no room in the cache."""
    data = os.urandom(1_234_567)
    appears(m, "f", data)
    assert read(m.path("f")) == data
    os.unlink(m.far("f"))
    m.refresh(m.dir)
    until("the kernel knows", lambda: os.listdir(m.dir) == [])
    cache = os.path.join(m.base, "cache", "content")

    def is_gone():
        return not any(os.path.getsize(os.path.join(d, f)) == len(data) for d, _, files in os.walk(cache) for f in files)
    until("its content is gone from the cache", is_gone)


def written_after_removed_there(m):
    """What is written to an open file that others have removed meanwhile is not lost: it has its name again."""
    for name in ("f", "taken"):
        appears(m, name, "old")
    fds = {name: os.open(m.path(name), os.O_RDWR) for name in ("f", "taken")}
    for name, fd in fds.items():
        assert os.pread(fd, 10, 0) == b"old"
        os.unlink(m.far(name))
    m.refresh(m.dir)
    until("the kernel knows", lambda: os.listdir(m.dir) == [] and not os.path.exists(m.path("f")))
    write(m.path("taken"), "another")
    for fd in fds.values():
        os.pwrite(fd, b"precious", 0)
        os.close(fd)
    m.flush()
    assert read(m.path("f")) == b"precious" and read(m.far("f")) == b"precious"
    assert read(m.path("taken")) == b"another"
    copies = [n for n in os.listdir(m.dir) if n.startswith("taken (conflict ")]
    assert len(copies) == 1 and read(m.far(copies[0])) == b"precious"


def linked_before_fetched(m):
    """A second name of a file that is not here yet, made, written to, and left over."""
    data = os.urandom(500_000)
    for name in "ac":
        appears(m, name, data)
    os.link(m.path("a"), m.path("b"))
    os.link(m.path("c"), m.path("d"))
    with open(m.path("d"), "r+b") as f:
        f.write(b"changed")
    os.unlink(m.path("c"))
    m.flush()
    assert read(m.far("a")) == data and read(m.far("b")) == data
    assert read(m.path("a")) == data and read(m.path("b")) == data
    assert read(m.far("d")) == b"changed" + data[7:] and not os.path.exists(m.far("c"))


def linked_then_removed_there(m):
    """A second name of a file whose content is nowhere any more is not made of zeros."""
    appears(m, "a", os.urandom(300_000))
    os.unlink(m.far("a"))
    os.link(m.path("a"), m.path("b"))
    m.flush()
    m.refresh(m.dir)
    m.flush()
    until("the kernel knows", lambda: os.listdir(m.there) == [] and os.listdir(m.dir) == [])


def sizes(m):
    s = os.statvfs(m.dir)
    assert s.f_namemax == 255 and s.f_blocks > 0 and s.f_bavail <= s.f_blocks


def many(m):
    """1,000 entries are listed completely, also while they go away."""
    for i in range(1000):
        os.close(os.open(m.path("f%04d" % i), os.O_CREAT | os.O_WRONLY, 0o600))
    assert sorted(os.listdir(m.dir)) == ["f%04d" % i for i in range(1000)]
    with os.scandir(m.dir) as entries:
        seen = []
        for e in entries:
            seen.append(e.name)
            os.unlink(e.path)
    assert len(set(seen)) == 1000 and os.listdir(m.dir) == []
    m.flush()


def larger_than_the_cache(base, backend):
    """A file that the cache has no room for is read all the same."""
    data = os.urandom(30_000_000)
    name = os.path.join(backend.root, "large")
    write(name, data)
    os.chmod(name, 0o644)
    m = Mount(base, backend, global_conf="cache-size = 16M\n")
    try:
        m.start()
        with open(os.path.join(m.top, "large"), "rb") as f:
            for at in range(0, len(data), 1 << 20):
                assert f.read(1 << 20) == data[at:at + (1 << 20)], at
    finally:
        m.close()
        os.unlink(name)


if __name__ == "__main__":
    main([files, overwrite, open_and_removed, removed_directory, hard_links, symlinks, special_files, attributes,
          extended_attributes, service_attributes, acl, shared_mmap, sparse, copy_range, without_a_name, rename_flags, locks, names,
          root_is_fixed, removed_before_fetched, removed_there, written_after_removed_there, linked_before_fetched, linked_then_removed_there, sizes, many], [larger_than_the_cache])
