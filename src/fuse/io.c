/* Two things of the kernel's protocol that libfuse 3.14 does not know, added on the way to and from the device:
 *
 *  - FUSE_TMPFILE (O_TMPFILE) has the arguments and the answer of FUSE_CREATE, with "/" for the name: its number is changed
 *    to CREATE's, and the handler knows it by the name, which no file can have.
 *  - FUSE_HANDLE_KILLPRIV_V2: the kernel need not ask for security.capability before each write. Set in the answer to INIT,
 *    the first one of a session, when the kernel has offered it.
 *
 * The price is that requests are read into memory and not spliced: one copy more for each large write. */
#include "fuse/fuse_i.h"

#include <errno.h>
#include <linux/fuse.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef FUSE_HANDLE_KILLPRIV_V2
#define FUSE_HANDLE_KILLPRIV_V2 (1 << 28)
#endif
#define OPCODE_TMPFILE 51 /* since Linux 6.1 */

static ssize_t
io_read(int fd, void *buf, size_t n, void *userdata)
{
    SxFuse *f = userdata;
    ssize_t got = read(fd, buf, n);
    if (got < (ssize_t)sizeof(struct fuse_in_header))
        return got;
    struct fuse_in_header *head = buf;
    if (head->opcode == OPCODE_TMPFILE) {
        head->opcode = FUSE_CREATE;
    } else if (head->opcode == FUSE_INIT && got >= (ssize_t)(sizeof *head + G_STRUCT_OFFSET(struct fuse_init_in, flags) + 4)) {
        const struct fuse_init_in *init = (const void *)(head + 1);
        f->init_unique = head->unique;
        f->offers_killpriv = (init->flags & FUSE_HANDLE_KILLPRIV_V2) != 0;
    }
    return got;
}

static void
amend_init(const SxFuse *f, struct iovec *iov)
{
    struct fuse_init_out *out = iov[1].iov_base;
    if (f->offers_killpriv && iov[1].iov_len > G_STRUCT_OFFSET(struct fuse_init_out, max_background))
        out->flags = (out->flags & ~(unsigned)FUSE_HANDLE_KILLPRIV) | FUSE_HANDLE_KILLPRIV_V2;
}

static ssize_t
io_writev(int fd, struct iovec *iov, int count, void *userdata)
{
    SxFuse *f = userdata;
    const struct fuse_out_header *head = iov[0].iov_base;
    if (!g_atomic_int_get(&f->greeted) && count == 2 && head->unique == f->init_unique) {
        g_atomic_int_set(&f->greeted, 1);
        amend_init(f, iov);
    }
    return writev(fd, iov, count);
}

bool
sx_io_attach(SxFuse *f)
{
    static const struct fuse_custom_io io = {.read = io_read, .writev = io_writev};
    return fuse_session_custom_io(f->se, &io, fuse_session_fd(f->se)) == 0;
}
