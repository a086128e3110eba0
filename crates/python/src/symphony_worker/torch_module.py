"""Modules of torch: TorchScript, exported programs, and what a script's `load` returns."""

import numpy as np

from .tensors import Wrong


class TorchModule:
    """A module of torch, which gets the inputs in their order as tensors on its device."""

    def __init__(self, module, model):
        import torch

        self.torch = torch
        self.device = torch.device(model.told["device"])
        self.specs = model.inputs
        if any(spec.datatype == "BYTES" for spec in model.inputs):
            raise Wrong("a torch module takes no BYTES: make numbers of them in a Python file")
        if hasattr(module, "to"):
            moved = module.to(self.device)
            module = module if moved is None else moved
        if model.told["compile"]:
            mode = "reduce-overhead" if model.told["cuda_graphs"] else None
            module = torch.compile(module, dynamic=None, mode=mode)
        elif model.told["cuda_graphs"]:
            if self.device.type != "cuda":
                raise Wrong(f"cuda_graphs = true needs a CUDA device, not {self.device}")
            module = CudaGraphs(torch, module)
        self.module = module

    def tensor(self, spec, values):
        if spec.datatype == "BF16":
            bits = self.torch.from_numpy(values.view(np.int16))
            return bits.view(self.torch.bfloat16).to(self.device)
        return self.torch.from_numpy(values).to(self.device)

    def __call__(self, batch):
        with self.torch.inference_mode():
            inputs = [self.tensor(spec, batch[spec.name]) for spec in self.specs]
            return self.module(*inputs)


class CudaGraphs:
    """Records what a module launches once for each shape of its inputs, and launches it as one."""

    GRAPHS_MAX = 64

    def __init__(self, torch, module):
        self.torch = torch
        self.module = module
        self.graphs = {}

    def __call__(self, *inputs):
        shapes = tuple((tuple(tensor.shape), tensor.dtype) for tensor in inputs)
        if shapes not in self.graphs:
            if len(self.graphs) >= self.GRAPHS_MAX:
                return self.module(*inputs)
            self.graphs[shapes] = self.record(inputs)
        graph, held, outputs = self.graphs[shapes]
        for tensor, given in zip(held, inputs):
            tensor.copy_(given)
        graph.replay()
        return outputs

    def record(self, inputs):
        cuda = self.torch.cuda
        held = [tensor.clone() for tensor in inputs]
        aside = cuda.Stream()
        aside.wait_stream(cuda.current_stream())
        with cuda.stream(aside):
            for _ in range(3):
                self.module(*held)
        cuda.current_stream().wait_stream(aside)
        graph = cuda.CUDAGraph()
        with cuda.graph(graph):
            outputs = self.module(*held)
        return graph, held, outputs
