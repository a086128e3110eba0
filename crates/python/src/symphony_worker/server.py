"""The loop of the process: one question after the other, whatever scripts do."""

import faulthandler
import gc
import os
import signal
import sys
import time
import traceback

import numpy as np

from . import triton_utils
from .channel import Channel
from .errors import told
from .memory import Memory
from .model import Model
from .modules import Imports
from .tensors import BF16, Wrong


def resident():
    """Memory of this process alone, in bytes."""
    try:
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def on_device():
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return 0
    return torch.cuda.memory_reserved()


class Server:
    """Everything this process has."""

    def __init__(self, control):
        self.channel = Channel(control)
        self.memory = Memory()
        self.imports = Imports()
        self.models = {}

    def load(self, message):
        model = Model(message, self.memory)
        before, device_before, start = resident(), on_device(), time.monotonic()
        self.imports.enter(model)
        model.load()
        self.models[message["model"]] = model
        # What stays is not looked at by every later collection.
        gc.collect()
        gc.freeze()
        return {"loaded": {
            "bf16": BF16,
            "resident_bytes": max(resident() - before, 0),
            "device_bytes": max(on_device() - device_before, 0),
            "seconds": time.monotonic() - start,
        }}

    def run(self, message):
        self.memory.give_back(message["free"])
        model = self.models[message["model"]]
        self.imports.enter(model)
        self.memory.taken.clear()
        try:
            return {"ran": model.run(message["inputs"], message["rows"])}
        except BaseException:
            # The server never learns of these outputs.
            self.memory.give_back(self.memory.taken)
            raise

    def unload(self, message):
        model = self.models.pop(message["model"], None)
        if model is not None:
            self.imports.enter(model)
            try:
                model.runner.finalize()
            finally:
                self.imports.leave()
                model.modules.clear()
                del model
                gc.unfreeze()
                gc.collect()
                gc.freeze()
                if on_device():
                    sys.modules["torch"].cuda.empty_cache()
        return {"unloaded": None}

    def answer(self, message):
        """What there is to say to a question of the server."""
        try:
            return getattr(self, message["do"])(message)
        except BaseException as error:  # Whatever a script raises ends its job and no more.
            model = self.models.get(message.get("model")) or self.imports.current
            if not isinstance(error, Wrong):
                traceback.print_exception(type(error), error, error.__traceback__)
            # Frames keep what a script had, which may be large.
            try:
                text = told(error, model)
            except Exception:  # Even its text is a script's.
                text = type(error).__name__
            traceback.clear_frames(error.__traceback__)
            if message["do"] == "load":
                self.imports.leave()
            return {"error": text}

    def serve(self):
        own = os.getpid()
        version = ".".join(map(str, sys.version_info[:3]))
        ready = {"process": own, "python": version, "numpy": np.__version__}
        self.channel.send({"ready": ready})
        while True:
            message = self.channel.receive()
            if message is None or message["do"] == "stop":
                break
            if message["do"] == "arena":
                # Without it nothing that follows is right: the process ends if this fails.
                self.memory.add_input(self.channel.descriptors.pop(0), message["bytes"])
                continue
            answer = self.answer(message)
            if os.getpid() != own:
                os._exit(0)  # A script has forked and its child came back here.
            self.imports.flush()
            new = self.memory.take_new()
            if new:
                answer["arenas"] = [arena.length for arena in new]
            self.channel.send(answer, [arena.descriptor for arena in new])
            for arena in new:
                os.close(arena.descriptor)
        for number in list(self.models):
            self.answer({"do": "unload", "model": number})
        os._exit(0)


def run(control):
    """Serves until the server ends or says so."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")
    faulthandler.enable(all_threads=False)
    # The server asks with this signal where the script is, before it kills a process that hangs.
    faulthandler.register(signal.SIGXCPU, all_threads=True)
    triton_utils.install()
    Server(control).serve()
