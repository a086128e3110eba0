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

    def enter(self, model):
        if self.current is model:
            return
        self.leave()
        self.current = model
        sys.path.insert(0, model.directory)
        sys.modules.update(model.modules)
        # The server learns whose lines follow.
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.write(f"{MARK}{model.name}\n")
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass

    def leave(self):
        model, self.current = self.current, None
        if model is None:
            return
        if model.directory in sys.path:
            sys.path.remove(model.directory)
        for name, module in list(sys.modules.items()):
            file = getattr(module, "__file__", None) or ""
            if name in model.modules or file.startswith(model.directory + os.sep):
                model.modules[name] = sys.modules.pop(name)
