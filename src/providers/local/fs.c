/* What file systems that are not like ext4 cannot hold: sticks, cards and shares of other systems. */
#include "providers/local/local_i.h"

#include <sys/vfs.h>

typedef struct FsLimits {
    guint32 magic;            /* statfs(2) f_type */
    const char *name;
    gint64 mtime_precision_ns;
    gint64 max_file_size;     /* 0: none that matters */
    bool no_mode, no_symlinks, folds_case;
    const char *forbidden;
} FsLimits;

#define DOS_FORBIDDEN "\"*:<>?|\\\x01\x02\x03\x04\x05\x06\x07\x08\t\n\x0b\x0c\r\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f"

static const FsLimits table[] = {
    {0x4d44, "vfat", 2 * G_GINT64_CONSTANT(1000000000), G_GINT64_CONSTANT(0xffffffff), true, true, true, DOS_FORBIDDEN},
    {0x2011bab0, "exfat", 10 * 1000000, 0, true, true, true, DOS_FORBIDDEN},
    {0x482b, "hfsplus", 1000000000, 0, false, false, true, ""},
    {0x7366746e, "ntfs3", 100, 0, false, false, false, ""},
    {0xff534d42, "cifs", 100, 0, true, true, true, ""},
    {0xfe534d42, "smb2", 100, 0, true, true, true, ""},
};

void
sx_local_limits(guint32 magic, SxCaps *caps)
{
    for (gsize i = 0; i < G_N_ELEMENTS(table); i++) {
        const FsLimits *f = &table[i];
        if (f->magic != magic)
            continue;
        caps->mtime_precision_ns = f->mtime_precision_ns;
        caps->max_file_size = f->max_file_size;
        caps->set_mode = !f->no_mode;
        caps->symlinks = !f->no_symlinks;
        caps->case_insensitive = f->folds_case;
        caps->forbidden = f->forbidden;
    }
}

void
sx_local_limits_of(int dir, SxCaps *caps)
{
    struct statfs fs;
    if (fstatfs(dir, &fs) == 0)
        sx_local_limits((guint32)fs.f_type, caps);
}
