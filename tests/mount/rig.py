# SPDX-License-Identifier: GPL-2.0-or-later
"""What the mount tests stand on: backends, mounts, and the running of cases.

A case is a function with a Mount as its argument; its docstring says what must hold. Each gets an empty directory of its own
on a mount that all cases of a backend share (m.dir, and m.there for the same directory beside the mount). Works as root and
as a plain user. Exit status: 0 all passed, 1 some failed, 77 cannot run here (the reason is printed)."""
import errno, os, select, shutil, signal, subprocess, sys, tempfile, time, traceback

TOP = os.environ.get("top_srcdir", os.path.realpath(os.path.join(os.path.dirname(__file__), "../..")))
BUILD = os.environ.get("top_builddir", os.getcwd())
LIMIT_S = 60  # of any single wait
FLUSH_S = 200  # until all is on the provider


def until(what, test, limit=LIMIT_S):
    """Waits for a condition, bounded; the pause only paces the looking."""
    end = time.monotonic() + limit
    while True:
        value = test()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("not within %d s: %s" % (limit, what))
        time.sleep(0.01)


def is_mounted(path):
    with open("/proc/self/mountinfo", "rb") as f:
        return any(line.split(b" ")[4] == os.fsencode(path).replace(b" ", b"\\040") for line in f)


def is_served(path):
    """Mounted, and not the dead mount of an earlier run: that answers ENOTCONN."""
    try:
        os.statvfs(path)
        return is_mounted(path)
    except OSError as e:
        assert e.errno == errno.ENOTCONN, e
        return False


def wait_served(path, child, limit=LIMIT_S):
    """The kernel tells about changes of the mount table by POLLPRI."""
    with open("/proc/self/mounts") as f:
        p = select.poll()
        p.register(f, select.POLLPRI | select.POLLERR)
        end = time.monotonic() + limit
        while not is_served(path):
            if child.poll() is not None:
                raise AssertionError("syncoxfs ended with %d" % child.returncode)
            if time.monotonic() > end:
                raise AssertionError("%s: not mounted" % path)
            p.poll(100)


class Local:
    """A folder of this machine."""
    name = "local"
    flavour = ""

    def __init__(self, base):
        self.root = os.path.join(base, "files")
        os.makedirs(self.root)

    def section(self):
        return "type = local\npath = %s\n" % self.root

    def log(self):
        return None

    def close(self):
        pass


class Apache:
    """mod_dav."""
    name = "apache"

    def __init__(self, base):
        self.base = os.path.join(base, "server")
        self.start()
        self.root = self.values["root"]

    def run(self, *args):
        return subprocess.run([sys.executable, os.path.join(TOP, "tests/lib/server"), *args], stdout=subprocess.PIPE, text=True,
                              timeout=LIMIT_S)

    def start(self):
        r = self.run("start", "apache", self.base, "--with", str(os.getpid()))
        if r.returncode == 77:
            raise SystemExit(77)
        assert r.returncode == 0
        self.values = dict(line.split("=", 1) for line in r.stdout.splitlines() if "=" in line)

    def stop(self):
        self.run("kill", self.base)

    def section(self):
        return "type = webdav\nurl = %(url)s\nuser = %(user)s\npassword = %(password)s\n" % self.values

    def log(self):
        with open(self.values["access_log"]) as f:
            return [tuple(line.split(" ")[:3]) for line in f if line.count(" ") >= 2]

    def close(self):
        self.run("stop", self.base)


class Mount:
    def __init__(self, base, backend, name="m", options=(), global_conf="", section_conf=""):
        self.backend, self.name, self.options = backend, name, options
        self.base = os.path.join(base, name)
        self.mnt = os.path.join(self.base, "mnt")
        for d in ("mnt", "state", "cache", "run"):
            os.makedirs(os.path.join(self.base, d))
        self.conf = os.path.join(self.base, "syncoxfs.conf")
        with open(os.open(self.conf, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
            f.write("[syncoxfs]\ncache-dir = %s/cache\nstate-dir = %s/state\n%smin-free = 0\n%s\n"
                    "[provider files]\nname = Files\npoll = 1s\ntimeout = 5s\n%s%s" %
                    (self.base, self.base, "" if "write-back-delay" in global_conf else "write-back-delay = 100ms\n", global_conf, backend.section(), section_conf))
        self.env = dict(os.environ, XDG_RUNTIME_DIR=os.path.join(self.base, "run"))
        self.child = None

    def start(self):
        with open(os.path.join(self.base, "log"), "ab") as log:
            options = [w for o in self.options for w in ("-o", o)]
            self.child = subprocess.Popen([os.path.join(BUILD, "syncoxfs"), "-f", "-c", self.conf, *options, self.mnt],
                                          env=self.env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_served(self.mnt, self.child)
        self.top = os.path.join(self.mnt, "Files")
        return self

    def enter(self, name):
        """A directory for one case, here and beside the mount."""
        self.dir = os.path.join(self.top, name)
        self.there = os.path.join(self.backend.root, name)
        os.mkdir(self.dir)

    def stop(self):
        if self.child is None:
            return
        child, self.child = self.child, None
        child.send_signal(signal.SIGTERM)
        try:
            code = child.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            subprocess.run(["fusermount3", "-uzq", self.mnt])
            raise AssertionError("did not end within %d s of SIGTERM" % LIMIT_S)
        assert code == 0, "ended with %d" % code
        assert not is_mounted(self.mnt), "left a mount behind"

    def crash(self):
        """kill -9; the dead mount stays for the next start to clean up."""
        child, self.child = self.child, None
        child.kill()
        child.wait()

    def close(self):
        try:
            self.stop()
        finally:
            if is_mounted(self.mnt):
                subprocess.run(["fusermount3", "-uzq", self.mnt])

    def syncox(self, *args):
        return subprocess.run([os.path.join(BUILD, "syncox"), *args], env=self.env, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=FLUSH_S + LIMIT_S)

    def flush(self):
        r = self.syncox("--mount", self.mnt, "flush", "--timeout", str(FLUSH_S))
        assert r.returncode == 0, "flush: " + r.stdout

    def refresh(self, path):
        r = self.syncox("--mount", self.mnt, "refresh", path)
        assert r.returncode == 0, "refresh: " + r.stdout

    def path(self, *names):
        return os.path.join(self.dir, *names)

    def far(self, *names):
        return os.path.join(self.there, *names)

    def status(self, path):
        return os.getxattr(path, "user.syncox.status").decode()


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, data, mode="wb"):
    with open(path, mode) as f:
        f.write(data.encode() if isinstance(data, str) else data)


def run(*args, cwd=None, **kw):
    r = subprocess.run(args, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                       timeout=5 * LIMIT_S, **kw)
    text = r.stdout.decode(errors="replace")
    assert r.returncode == 0, "%s: %s" % (" ".join(map(str, args)), text[-2000:])
    return text


def need(*programs):
    missing = [p for p in programs if not shutil.which(p)]
    if missing:
        raise Skip(", ".join(missing) + " not installed")


class Skip(Exception):
    pass


def raises(errno_, fn, *args, **kw):
    try:
        fn(*args, **kw)
    except OSError as e:
        assert e.errno == errno_, "%s instead of %s" % (os.strerror(e.errno), os.strerror(errno_))
        return
    raise AssertionError("no error instead of " + os.strerror(errno_))


def can_mount():
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    if os.getuid() != 0 and not shutil.which("fusermount3"):
        return "fusermount3 is not installed"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse is not for this user"
    return None


def workdir():
    base = tempfile.mkdtemp(prefix="sx-mount-")
    os.chmod(base, 0o755)
    return base


def show(prefix, result, seconds):
    print("%s: %s (%.1f s)" % (result, prefix, seconds), flush=True)


def one(prefix, fn, *args):
    begin = time.monotonic()
    try:
        fn(*args)
    except Skip as e:
        print("SKIP: %s: %s" % (prefix, e), flush=True)
        return True
    except Exception:
        traceback.print_exc(file=sys.stdout)
        show(prefix, "FAIL", time.monotonic() - begin)
        return False
    show(prefix, "ok", time.monotonic() - begin)
    return True


def selected(cases):
    names = sys.argv[1:]
    return [c for c in cases if not names or c.__name__ in names]


def main(cases, own_mount=(), backends=(Local, Apache)):
    """cases share a mount per backend; own_mount are called with (base, backend) and mount themselves."""
    why = can_mount()
    if why:
        print("SKIP:", why)
        sys.exit(77)
    good = True
    for kind in backends:
        base = workdir()
        backend = kind(base)
        ok = True
        try:
            shared = selected(cases)
            if shared:
                m = Mount(base, backend)
                try:
                    m.start()
                    for case in shared:
                        def in_dir():
                            m.enter(case.__name__)
                            case(m)
                        ok &= one("%s %s" % (kind.name, case.__name__), in_dir)
                finally:
                    ok &= one("%s end of the mount" % kind.name, m.close)
            for case in selected(own_mount):
                sub = os.path.join(base, case.__name__)
                os.mkdir(sub)
                ok &= one("%s %s" % (kind.name, case.__name__), case, sub, backend)
        finally:
            backend.close()
        if ok:
            shutil.rmtree(base, ignore_errors=True)
        else:
            print("kept for a look: " + base)
        good &= ok
    sys.exit(0 if good else 1)
