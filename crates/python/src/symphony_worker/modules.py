"""What a model's file sees: its parameters, and modules of its own."""

import os
import sys

# Begins a line of standard output or error that is for the server: it names the model from here on.
MARK = "\x1e"


class Config(dict):
    """What `load` gets: the model's parameters, and beside them what the server knows of it."""

    def __init__(self, told, inputs, outputs):
        super().__init__(told["config"])
        self.name = told["name"]
        self.version = told["version"]
        self.device = told["device"]
        self.max_batch = told["max_batch"]
        self.directory = told["directory"]
        self.inputs = [{"name": s.name, "datatype": s.datatype, "shape": s.shape} for s in inputs]
        self.outputs = [{"name": s.name, "datatype": s.datatype, "shape": s.shape} for s in outputs]


class Imports:
    """Modules beside a model's file are its own: two models may have different ones of one name."""

    def __init__(self):
        self.current = None
        # How many there were when the current model's were put among them.
        self.count = 0
        # Scripts may put others in their place.
        self.streams = (sys.stdout, sys.stderr)

    def enter(self, model):
        if self.current is model:
            return
        self.leave()
        self.current = model
        sys.path.insert(0, model.directory)
        sys.modules.update(model.modules)
        self.count = len(sys.modules)
        self.flush()
        # The server learns whose lines follow.
        for stream in self.streams:
            try:
                stream.write(f"{MARK}{model.name}\n")
            except (OSError, ValueError):
                pass

    def flush(self):
        """What a script has printed reaches the server before what follows it."""
        for stream in self.streams:
            try:
                stream.flush()
            except (OSError, ValueError):
                pass

    def leave(self):
        model, self.current = self.current, None
        if model is None:
            return
        if model.directory in sys.path:
            sys.path.remove(model.directory)
        if len(sys.modules) != self.count:
            beside = model.directory + os.sep
            for name, module in list(sys.modules.items()):
                # Not by getattr: some modules import others when they are asked.
                file = getattr(module, "__dict__", {}).get("__file__")
                if isinstance(file, str) and file.startswith(beside):
                    model.modules[name] = module
        for name in model.modules:
            sys.modules.pop(name, None)
