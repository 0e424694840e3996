#!/usr/bin/env python3
"""A TCP proxy that makes a server on this machine as far away as wanted: delay_proxy.py PORT RTT_MS.

Prints its own port (127.0.0.1), and ends with its standard input. Every piece of data comes half a round trip later than it
was sent, and a new connection costs one round trip more, as a handshake does. Bandwidth is not limited.
"""
import asyncio
import logging
import os
import socket
import sys

QUEUE_MAX = 16 << 20  # bytes on their way in one direction of one connection; a sender beyond waits
PIECE = 256 << 10


class Line:
    """One direction."""

    def __init__(self, reader, writer, delay_s):
        self.reader, self.writer, self.delay = reader, writer, delay_s
        self.pieces = asyncio.Queue()
        self.bytes = 0
        self.room = asyncio.Event()
        self.room.set()

    async def take(self):
        loop = asyncio.get_running_loop()
        data = b"-"
        while data:
            await self.room.wait()
            try:
                data = await self.reader.read(PIECE)
            except OSError:
                data = b""
            self.bytes += len(data)
            if self.bytes > QUEUE_MAX:
                self.room.clear()
            self.pieces.put_nowait((loop.time() + self.delay, data))

    async def give(self):
        loop = asyncio.get_running_loop()
        data = b"-"
        while data:
            due, data = await self.pieces.get()
            await asyncio.sleep(max(0, due - loop.time()))
            try:
                if data:
                    self.writer.write(data)
                    await self.writer.drain()
                elif self.writer.can_write_eof():
                    self.writer.write_eof()
            except OSError:
                pass  # the other side has gone: what is left is read and dropped
            self.bytes -= len(data)
            if self.bytes <= QUEUE_MAX:
                self.room.set()


async def main(port, rtt_s):
    async def serve(reader, writer):
        await asyncio.sleep(rtt_s)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port, limit=PIECE)
        except OSError:
            writer.close()
            return
        for w in (writer, far_writer):
            w.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines = Line(reader, far_writer, rtt_s / 2), Line(far_reader, writer, rtt_s / 2)
        await asyncio.gather(*(f() for l in lines for f in (l.take, l.give)))
        for w in (writer, far_writer):
            w.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=PIECE, backlog=128)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)  # what is under way has nobody to go to


if __name__ == "__main__":
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # not a word for each program that ends
    try:
        asyncio.run(main(int(sys.argv[1]), float(sys.argv[2]) / 1000))
    except (BrokenPipeError, KeyboardInterrupt):
        pass
