"""A loaded model."""

import importlib.util
import inspect
import os
import sys
from collections.abc import Mapping

import numpy as np

from .modules import Config
from .tensors import Spec, Wrong, checked, placed, strings_of
from .torch_module import TorchModule
from .triton_model import TritonModel


class Model:
    """A model of the server, in this process. Its `runner` has what the file gave."""

    def __init__(self, told, memory):
        self.name = told["name"]
        self.told = told
        self.memory = memory
        self.path = told["path"]
        self.directory = os.path.dirname(os.path.realpath(self.path))
        self.modules = {}
        self.inputs = [Spec(spec) for spec in told["inputs"]]
        self.outputs = [Spec(spec) for spec in told["outputs"]]
        self.runner = None

    def load(self):
        kind = self.told["kind"]
        if kind == "triton":
            self.refuse(["compile", "cuda_graphs"], "a Triton model runs by itself")
            self.runner = TritonModel(self)
        else:
            self.runner = Whole(self, self.callable(kind))

    def callable(self, kind):
        """What takes a batch and gives its outputs."""
        if kind == "script":
            return self.script()
        if kind == "torchscript":
            import torch

            self.refuse(["compile"], "a TorchScript file is compiled already")
            module = torch.jit.load(self.path, map_location=self.told["device"])
            return TorchModule(module.eval(), self)
        import torch

        return TorchModule(torch.export.load(self.path).module(), self)

    def script(self):
        module = self.module()
        load, classes = getattr(module, "load", None), self.classes(module)
        if callable(load) and "Model" in classes:
            raise Wrong("the file has a function `load` and a class `Model`: keep one of them")
        if callable(load):
            call = load(self.config())
            if not callable(call):
                raise Wrong(f"load(config) has to return a callable, it returned {call!r:.100}")
            if "torch" in sys.modules and isinstance(call, sys.modules["torch"].nn.Module):
                return TorchModule(call.eval(), self)
        else:
            only = next(iter(classes.values())) if len(classes) == 1 else None
            found = classes.get("Model", only)
            if found is None:
                names = ", ".join(classes) or "none"
                raise Wrong(
                    "the file has neither a function `load(config)` nor a class `Model` with "
                    f"`predict(self, batch)` (classes with predict: {names})"
                )
            instance = found()
            if hasattr(instance, "load"):
                instance.load(self.config())
            call = instance.predict
        self.refuse(["compile", "cuda_graphs"], "the model is no torch.nn.Module")
        return call

    def refuse(self, options, why):
        for option in options:
            if self.told[option]:
                raise Wrong(f"{option} = true is not possible: {why}")

    def classes(self, module):
        return {
            name: value
            for name, value in vars(module).items()
            if isinstance(value, type)
            and value.__module__ == module.__name__
            and callable(getattr(value, "predict", None))
        }

    def config(self):
        return Config(self.told, self.inputs, self.outputs)

    def module(self):
        """Runs the model's file."""
        name = f"symphony_model_{self.told['model']}"
        found = importlib.util.spec_from_file_location(name, self.path)
        if found is None or found.loader is None:
            raise Wrong(f"{self.path} is no Python file: its name has to end with .py")
        module = importlib.util.module_from_spec(found)
        sys.modules[name] = module
        found.loader.exec_module(module)
        return module

    def arrays(self, inputs):
        """The inputs of a batch: arrays over the server's memory."""
        arrays = {}
        for spec, (arena, start, length, shape) in zip(self.inputs, inputs):
            memory = self.memory.inputs[arena]
            if spec.datatype == "BYTES":
                arrays[spec.name] = strings_of(memory, start, length, shape)
            else:
                arrays[spec.name] = np.ndarray(shape, spec.dtype, memory, start)
        return arrays

    def run(self, inputs, rows):
        """Runs a batch: where its outputs are, and which of its requests failed."""
        return self.runner.run(self.arrays(inputs), rows)


class Whole:
    """What takes a whole batch at once."""

    def __init__(self, model, call):
        self.memory = model.memory
        self.outputs = model.outputs
        self.names = [spec.name for spec in model.outputs]
        self.call = call

    def run(self, arrays, rows):
        total = sum(rows)
        given = zip(self.outputs, self.in_order(self.call(arrays)))
        # All are right before any is placed, which takes memory.
        values = [(spec, checked(spec, value, total)) for spec, value in given]
        places = [placed(self.memory, spec, [value], value.shape) for spec, value in values]
        return {"outputs": places}

    def in_order(self, result):
        """What a script returned, as one value for each output."""
        if isinstance(result, Mapping):
            if set(result) != set(self.names):
                raise Wrong(f"expected outputs {self.names}, got {list(result)}")
            return [result[name] for name in self.names]
        if inspect.isgenerator(result) or inspect.isasyncgen(result) or inspect.iscoroutine(result):
            raise Wrong("predict has to return its outputs: it is a generator or coroutine")
        if result is None:
            raise Wrong(f"predict returned None: expected outputs {self.names}")
        given = list(result) if isinstance(result, (list, tuple)) else [result]
        if len(given) != len(self.names):
            raise Wrong(f"expected {len(self.names)} outputs {self.names}, got {len(given)}")
        return given

    def finalize(self):
        """A script has nothing to be told at its end."""
