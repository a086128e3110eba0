"""The module `triton_python_backend_utils` that models written for Triton import."""

import json
import sys

import numpy as np

from .memory import LENGTH
from .modules import MARK
from .tensors import NUMPY, name_of, plain, strings_of

NAMES = ("triton_python_backend_utils", "c_python_backend_utils")

# Triton's types by their numbers, which begin with 1.
NUMBERED = (
    "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 STRING BF16".split()
)

TRITON_STRING_TO_NUMPY = {f"TYPE_{name}": dtype.type for name, dtype in NUMPY.items()}
TRITON_STRING_TO_NUMPY["TYPE_STRING"] = TRITON_STRING_TO_NUMPY.pop("TYPE_BYTES")
TRITON_STRING_TO_NUMPY["TYPE_BOOL"] = bool


def install():
    """Has scripts import it."""
    for name in NAMES:
        sys.modules[name] = sys.modules[__name__]


class TritonModelException(Exception):
    def message(self):
        return str(self)


def unsupported(what):
    raise TritonModelException(f"{what} is not supported by this server")


class TritonError:
    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG = range(4)
    UNAVAILABLE, UNSUPPORTED, ALREADY_EXISTS, CANCELLED = range(4, 8)

    def __init__(self, message, code=INTERNAL):
        self._message, self._code = str(message), code

    def message(self):
        return self._message

    def code(self):
        return self._code

    __str__ = message


class Tensor:
    def __init__(self, name, value):
        if not hasattr(value, "dtype"):
            kind = type(value).__name__
            raise TritonModelException(f"tensor {name!r}: expected an array, got {kind}")
        self._name, self.value = name, value

    def name(self):
        return self._name

    def as_numpy(self):
        return plain(self.value)

    def shape(self):
        return list(self.value.shape)

    def triton_dtype(self):
        return numpy_to_triton_type(self.as_numpy().dtype)

    def is_cpu(self):
        return getattr(getattr(self.value, "device", None), "type", "cpu") == "cpu"

    def to_dlpack(self):
        return self.value.__dlpack__()

    def __dlpack__(self, *args, **named):
        return self.value.__dlpack__(*args, **named)

    def __dlpack_device__(self):
        return self.value.__dlpack_device__()

    @staticmethod
    def from_dlpack(name, value):
        if hasattr(value, "detach"):
            return Tensor(name, value)
        if hasattr(value, "__dlpack__"):
            return Tensor(name, np.from_dlpack(value))
        import torch.utils.dlpack

        return Tensor(name, torch.utils.dlpack.from_dlpack(value))


class InferenceRequest:
    def __init__(self, inputs=(), requested_output_names=(), about=None, **_):
        if about is None:
            unsupported("calling another model from a model")
        self._inputs, self._names = list(inputs), list(requested_output_names)
        self._about = about

    def inputs(self):
        return self._inputs

    def requested_output_names(self):
        return self._names

    def request_id(self):
        return ""

    def correlation_id(self):
        return 0

    def parameters(self):
        return "{}"

    def model_name(self):
        return self._about["name"]

    def model_version(self):
        return int(self._about["version"] or 1)

    def timeout(self):
        return 0

    def flags(self):
        return 0

    def is_cancelled(self):
        return False

    def get_response_sender(self):
        unsupported("a response sender (decoupled models)")


class InferenceResponse:
    def __init__(self, output_tensors=(), error=None, parameters=None):
        self._outputs, self._error = list(output_tensors), error
        self._parameters = parameters

    def output_tensors(self):
        return self._outputs

    def has_error(self):
        return self._error is not None

    def error(self):
        return self._error

    def parameters(self):
        return json.dumps(self._parameters or {})


class Logger:
    INFO, WARNING, ERROR, VERBOSE = "info", "warn", "error", "debug"

    @staticmethod
    def log(message, level=INFO):
        # The level stands behind a mark of its own, for the server.
        print(f"{MARK}{MARK}{level} {message}", file=sys.stderr)

    @staticmethod
    def log_info(message):
        Logger.log(message, Logger.INFO)

    @staticmethod
    def log_warn(message):
        Logger.log(message, Logger.WARNING)

    @staticmethod
    def log_error(message):
        Logger.log(message, Logger.ERROR)

    @staticmethod
    def log_verbose(message):
        Logger.log(message, Logger.VERBOSE)


def by_name(entries, name):
    return next((entry for entry in entries if entry["name"] == name), None)


def get_input_tensor_by_name(request, name):
    return next((tensor for tensor in request.inputs() if tensor.name() == name), None)


def get_output_tensor_by_name(response, name):
    tensors = response.output_tensors()
    return next((tensor for tensor in tensors if tensor.name() == name), None)


def get_input_config_by_name(config, name):
    return by_name(config.get("input", ()), name)


def get_output_config_by_name(config, name):
    return by_name(config.get("output", ()), name)


def using_decoupled_model_transaction_policy(config):
    return bool((config.get("model_transaction_policy") or {}).get("decoupled"))


def triton_string_to_numpy(name):
    return TRITON_STRING_TO_NUMPY[name]


def triton_to_numpy_type(number):
    return TRITON_STRING_TO_NUMPY[f"TYPE_{NUMBERED[number - 1]}"]


def numpy_to_triton_type(dtype):
    kind = np.dtype(dtype)
    name = "STRING" if kind.kind in "OS" else name_of(kind)
    return NUMBERED.index(name) + 1 if name in NUMBERED else None


def serialize_byte_tensor(values):
    parts = []
    for value in np.asarray(values).ravel():
        value = bytes(value) if isinstance(value, (bytes, np.bytes_)) else str(value).encode()
        parts += [LENGTH.pack(len(value)), value]
    return b"".join(parts) if parts else None


def deserialize_bytes_tensor(data):
    return strings_of(bytes(data), 0, len(data), (-1,))
