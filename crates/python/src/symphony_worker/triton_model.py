"""Models written for Triton: each request of a batch is asked and answered by itself."""

import json

import numpy as np

from . import triton_utils
from .errors import told as as_text
from .tensors import Wrong, checked, placed


class TritonModel:
    """A `TritonPythonModel`: it gets each request of a batch by itself."""

    def __init__(self, model):
        self.model = model
        told = model.told
        module = model.module()
        found = getattr(module, "TritonPythonModel", None)
        if found is None:
            raise Wrong("the file has no class `TritonPythonModel`")
        if not callable(getattr(found, "execute", None)):
            raise Wrong("TritonPythonModel has no method `execute(self, requests)`")
        config = dict(told["config"])
        config.setdefault("name", told["name"])
        config.setdefault("max_batch_size", told["max_batch"])
        for role, specs in (("input", model.inputs), ("output", model.outputs)):
            config.setdefault(role, [self.described(spec) for spec in specs])
        if (config.get("model_transaction_policy") or {}).get("decoupled"):
            raise Wrong("decoupled models, which answer a request several times, are not supported")
        is_gpu = told["device"] != "cpu"
        args = {
            "model_config": json.dumps(config),
            "model_instance_kind": "GPU" if is_gpu else "CPU",
            "model_instance_name": f"{told['name']}_0",
            "model_instance_device_id": told["device"].partition(":")[2] or "0",
            "model_repository": told["directory"],
            "model_version": told["version"],
            "model_name": told["name"],
        }
        self.instance = found()
        if hasattr(self.instance, "initialize"):
            self.instance.initialize(args)

    @staticmethod
    def described(spec):
        name = "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}"
        dims = [-1 if size is None else size for size in spec.shape if size != "rows"]
        return {"name": spec.name, "data_type": name, "dims": dims}

    def run(self, arrays, rows):
        requests, start = [], 0
        outputs = [spec.name for spec in self.model.outputs]
        for count in rows:
            tensors = [
                triton_utils.Tensor(spec.name, spec.rows_of(arrays[spec.name], start, count))
                for spec in self.model.inputs
            ]
            requests.append(triton_utils.InferenceRequest(tensors, outputs, self.model.told))
            start += count
        responses = self.instance.execute(requests)
        if not isinstance(responses, (list, tuple)) or len(responses) != len(rows):
            is_list = isinstance(responses, (list, tuple))
            got = len(responses) if is_list else type(responses).__name__
            raise Wrong(f"execute has to return a list of {len(rows)} responses, it returned {got}")
        return self.joined(responses, rows)

    def joined(self, responses, rows):
        answers, failed = [], []
        for index, (response, count) in enumerate(zip(responses, rows)):
            try:
                answers.append(self.answer(response, count, answers))
            except Wrong as wrong:
                answers.append(None)
                failed.append([index, as_text(wrong, self.model)])
        sample = next((answer for answer in answers if answer is not None), None)
        if sample is None:
            return {"outputs": [], "failed": failed}
        outputs = []
        for at, spec in enumerate(self.model.outputs):
            shape = list(sample[at].shape)
            parts = [sample[at]]
            if spec.axis is not None:
                parts = [
                    self.blank(spec, shape, count) if answer is None else answer[at]
                    for answer, count in zip(answers, rows)
                ]
                shape[spec.axis] = sum(rows)
            outputs.append(placed(self.model.memory, spec, parts, shape))
        return {"outputs": outputs, "failed": failed}

    @staticmethod
    def blank(spec, shape, rows):
        """What stands in place of the rows of a request that failed."""
        shape = [rows if axis == spec.axis else size for axis, size in enumerate(shape)]
        return np.full(shape, b"" if spec.datatype == "BYTES" else 0, spec.dtype)

    def answer(self, response, rows, others):
        """The outputs of one response, in the model's order."""
        if not hasattr(response, "output_tensors"):
            raise Wrong(f"expected an InferenceResponse, got {type(response).__name__}")
        if response.has_error():
            raise Wrong(response.error().message())
        given = {tensor.name(): tensor for tensor in response.output_tensors()}
        names = [spec.name for spec in self.model.outputs]
        if sorted(given) != sorted(names):
            raise Wrong(f"expected outputs {names}, got {list(given)}")
        answer = [checked(spec, given[spec.name].value, rows) for spec in self.model.outputs]
        other = next((other for other in others if other is not None), answer)
        for spec, values, beside in zip(self.model.outputs, answer, other):
            same = [
                axis == spec.axis or size == beside.shape[axis]
                for axis, size in enumerate(values.shape)
            ]
            if not all(same):
                raise Wrong(
                    f"output {spec.name!r}: shape {list(values.shape)} differs from that of "
                    f"another request of the batch, {list(beside.shape)}"
                )
        return answer

    def finalize(self):
        if hasattr(self.instance, "finalize"):
            self.instance.finalize()
