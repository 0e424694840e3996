#!/usr/bin/env python3
"""Each rule of lint.py is broken once in a tree of its own, and must be told with file and line."""
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
LONG = "int\nf(void)\n{\n" + "    g();\n" * 120 + "}\n"
CASES = [
    ("src/base/x.c", '#include "vfs/vfs.h"\n', "src/base/x.c:1: base/ (level 0) includes vfs/vfs.h (level 6)"),
    ("src/tree/x.c", '\n#include "provider/provider_i.h"\n', "src/tree/x.c:2: provider/provider_i.h is private to provider/"),
    ("src/vfs/x.c", '#include "provider/other.h"\n', "src/vfs/x.c:1: provider/other.h is not a face of provider/"),
    ("src/providers/a/x.c", '#include "providers/b/b.h"\n', "src/providers/a/x.c:1: providers/ (level 3) includes providers/b/b.h"),
    ("src/vfs/x.c", "# include <sqlite3.h>\n", "src/vfs/x.c:1: <sqlite3.h> belongs to db only"),
    ("src/fuse/x.c", "#include <curl/curl.h>\n", "src/fuse/x.c:1: <curl/curl.h> belongs to cli, net only"),
    ("src/nowhere/x.c", "\n", "src/nowhere/x.c:1: nowhere/ has no level"),
    ("src/vfs/x.c", "\n" * 1001, "src/vfs/x.c:1001: the file has 1001 lines"),
    ("src/vfs/x.c", "void\nf(void)\n{\n    /* usleep(1) */\n    usleep(1);\n}\n", "src/vfs/x.c:5: usleep()"),
    ("tests/unit/x.c", 'const char *s = "sleep(1)"; void f(void) { sleep (1); }\n', "tests/unit/x.c:1: sleep()"),
    ("src/vfs/x.h", "gint f(void);\n", "src/vfs/x.h:1: does not compile alone"),
    ("src/secret/x.c", '#include "conf/conf.h"\n', None),
    ("src/vfs/x.c", '#include "provider/provider.h"\n/* sleep(1) */\nconst char *s = "sleep(1)";\n', None),
]
if shutil.which("ctags"):
    CASES.append(("src/vfs/x.c", LONG, "src/vfs/x.c:2: f has 123 lines"))


def run_lint(path, text):
    with tempfile.TemporaryDirectory() as top:
        for f in ("src/vfs/vfs.h", "src/provider/provider_i.h", "src/provider/provider.h", "src/provider/other.h", "src/providers/b/b.h",
                  "src/conf/conf.h", "tests/x.c", path):
            os.makedirs(os.path.dirname(os.path.join(top, f)), exist_ok=True)
            open(os.path.join(top, f), "w").close()
        with open(os.path.join(top, path), "w") as f:
            f.write(text)
        cc = os.environ.get("SX_LINT_CC") or "cc"
        return subprocess.run([sys.executable, os.path.join(HERE, "lint.py"), "--cc", cc, "--cflags=-I" + os.path.join(top, "src")],
                              env=dict(os.environ, top_srcdir=top), stdout=subprocess.PIPE, text=True)


for case_path, case_text, expected in CASES:
    r = run_lint(case_path, case_text)
    good = r.returncode == 0 if expected is None else r.returncode == 1 and expected in r.stdout and "1 breaches" in r.stdout
    if not good:
        sys.exit("lint missed or invented something: expected %r, got %d:\n%s" % (expected, r.returncode, r.stdout))
print("lint notices %d kinds of breach" % len(CASES))
