"""Messages over the control socket: a length and JSON, and descriptors beside them."""

import array
import json
import os
import socket
import struct

HEADER = struct.Struct("<I")
DESCRIPTORS_MAX = 16


class Channel:
    """Messages with descriptors beside them, over the control socket."""

    def __init__(self, control):
        self.control = control
        self.read = bytearray()
        self.descriptors = []
        # A child that a script forks must never speak for this process.
        os.register_at_fork(after_in_child=control.close)

    def receive(self):
        """The next message; None when the server has ended."""
        room = socket.CMSG_SPACE(DESCRIPTORS_MAX * 4)
        while True:
            message = self.taken()
            if message is not None:
                return message
            data, beside, _, _ = self.control.recvmsg(1 << 16, room, socket.MSG_CMSG_CLOEXEC)
            if not data:
                return None
            self.read += data
            for level, kind, contents in beside:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    numbers = array.array("i")
                    numbers.frombytes(contents[: len(contents) // 4 * 4])
                    self.descriptors.extend(numbers)

    def taken(self):
        if len(self.read) < HEADER.size:
            return None
        end = HEADER.size + HEADER.unpack_from(self.read)[0]
        if len(self.read) < end:
            return None
        message = json.loads(self.read[HEADER.size : end])
        del self.read[:end]
        return message

    def send(self, message, descriptors=()):
        body = json.dumps(message, separators=(",", ":")).encode()
        frame = HEADER.pack(len(body)) + body
        if descriptors:
            beside = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
            frame = frame[self.control.sendmsg([frame], beside) :]
        self.control.sendall(frame)
