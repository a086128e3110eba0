"""Memory that tensors lie in. Inputs lie in arenas of the server, and are seen there; outputs are
copied once, into arenas of this process, which the server reads."""

import bisect
import fcntl
import mmap
import os
import struct

import numpy as np

# Of each byte string in a tensor.
LENGTH = struct.Struct("<I")
ALIGN = 64
ARENA_MIN = 1 << 20


class OutputArena:
    """Memory of this process that the server reads. The first range that is long enough is used."""

    def __init__(self, length):
        self.length = length
        flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
        self.descriptor = os.memfd_create("symphony-outputs", flags)
        os.ftruncate(self.descriptor, length)
        self.memory = mmap.mmap(self.descriptor, length)
        # F_SEAL_SEAL, SHRINK, GROW and FUTURE_WRITE: the server relies on the length.
        fcntl.fcntl(self.descriptor, 1033, 0x1 | 0x2 | 0x4 | 0x10)
        self.free = [(0, length)]
        self.used = {}

    def take(self, length):
        length = (max(length, 1) + ALIGN - 1) // ALIGN * ALIGN
        for at, (start, whole) in enumerate(self.free):
            if whole >= length:
                rest = [(start + length, whole - length)] if whole > length else []
                self.free[at : at + 1] = rest
                self.used[start] = length
                return start
        return None

    def give_back(self, start):
        length = self.used.pop(start, None)
        if length is None:
            return
        at = bisect.bisect(self.free, (start, 0))
        self.free.insert(at, (start, length))
        if at + 1 < len(self.free) and start + length == self.free[at + 1][0]:
            self.free[at : at + 2] = [(start, length + self.free[at + 1][1])]
        if at > 0 and sum(self.free[at - 1]) == start:
            before, whole = self.free[at - 1]
            self.free[at - 1 : at + 1] = [(before, whole + self.free[at][1])]


class Memory:
    """All arenas: those of the server, which inputs lie in, and those of this process."""

    def __init__(self):
        self.inputs = []
        self.outputs = []
        self.new = []
        # What was taken for the batch that runs.
        self.taken = []

    def add_input(self, descriptor, length):
        self.inputs.append(mmap.mmap(descriptor, length))
        os.close(descriptor)

    def give_back(self, places):
        for arena, start in places:
            self.outputs[arena].give_back(start)

    def take(self, length):
        """Room for an output, in a new and larger arena where the others are full."""
        place = self.found(length)
        self.taken.append(place)
        return place

    def found(self, length):
        for index in reversed(range(len(self.outputs))):
            start = self.outputs[index].take(length)
            if start is not None:
                return index, start
        largest = max((arena.length for arena in self.outputs), default=ARENA_MIN // 2)
        page = mmap.PAGESIZE
        wanted = (length + page - 1) // page * page
        arena = OutputArena(max(2 * largest, wanted))
        self.outputs.append(arena)
        self.new.append(arena)
        return len(self.outputs) - 1, arena.take(length)

    def output(self, dtype, shape):
        """An array in which an output is to be built, and where the server finds it."""
        count = 1
        for size in shape:
            count *= size
        length = count * dtype.itemsize
        index, start = self.take(length)
        memory = self.outputs[index].memory
        values = np.ndarray(shape, dtype, memory, start)
        return values, [index, start, length, list(shape)]

    def strings(self, values):
        """Where the server finds an output of byte strings."""
        parts = []
        for value in values.ravel():
            value = value.encode() if isinstance(value, str) else bytes(value)
            parts.append(LENGTH.pack(len(value)))
            parts.append(value)
        contents = b"".join(parts)
        index, start = self.take(len(contents))
        self.outputs[index].memory[start : start + len(contents)] = contents
        return [index, start, len(contents), list(values.shape)]

    def take_new(self):
        """The arenas that the server does not know yet."""
        new, self.new = self.new, []
        return new
