"""Relays between the roles of a cluster on loopback, as a process: the tests have enough to do.

Reads questions as lines of JSON: `{"name": ..., "to": ...}` makes a relay for a role and answers with
its address; `{"name": ..., "cut": [...]}` cuts the ways `out` and `in` of its relays, those named and
no others; `{"name": ..., "stall_s": ...}` holds up now and then what goes either way.
"""

import asyncio
import json
import random
import sys

# The share of pieces of data that are held up where anything is.
STALLED = 0.02


class Way:
    """One direction of all relays of a role."""

    def __init__(self):
        self.mended = asyncio.Event()
        self.mended.set()
        self.stall_s = 0

    async def pass_on(self, reader, writer):
        """Passes on what is read until an end, or until the way is cut and mended."""
        while data := await reader.read(1 << 16):
            if not self.mended.is_set():
                await self.mended.wait()
                return
            if self.stall_s and random.random() < STALLED:
                await asyncio.sleep(self.stall_s)
            writer.write(data)
            await writer.drain()


class Cable:
    """All relays of one role."""

    def __init__(self):
        self.ways = {"out": Way(), "in": Way()}

    def cut(self, names):
        for name, way in self.ways.items():
            way.mended.clear() if name in names else way.mended.set()

    def stall(self, seconds):
        for way in self.ways.values():
            way.stall_s = seconds


async def relay(cable, host, port, reader, writer):
    for way in cable.ways.values():
        await way.mended.wait()
    ends = [writer]
    try:
        back, there = await asyncio.open_connection(host, port)
        ends.append(there)
        out, into = cable.ways["out"], cable.ways["in"]
        ways = [out.pass_on(reader, there), into.pass_on(back, writer)]
        ways = [asyncio.ensure_future(way) for way in ways]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
    except OSError:
        pass
    finally:
        for end in ends:
            end.transport.abort()


async def main():
    cables = {}
    questions = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(questions), sys.stdin
    )
    servers = []
    while line := await questions.readline():
        question = json.loads(line)
        cable = cables.setdefault(question["name"], Cable())
        answer = None
        if "to" in question:
            host, _, port = question["to"].rpartition(":")

            def accept(reader, writer, cable=cable, host=host, port=int(port)):
                return relay(cable, host, port, reader, writer)

            server = await asyncio.start_server(accept, "127.0.0.1", 0)
            servers.append(server)
            answer = "%s:%d" % server.sockets[0].getsockname()
        elif "cut" in question:
            cable.cut(question["cut"])
        else:
            cable.stall(question["stall_s"])
        print(json.dumps(answer), flush=True)


asyncio.run(main())
