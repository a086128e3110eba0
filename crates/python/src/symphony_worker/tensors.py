"""Tensors: what numpy calls their types, and whether what scripts return is what a model declares.
"""

import numpy as np

from .memory import LENGTH

INTEGERS = "uint8 uint16 uint32 uint64 int8 int16 int32 int64"
NUMPY = {name.upper(): np.dtype(name) for name in INTEGERS.split()}
NUMPY.update({f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)})
NUMPY.update({"BOOL": np.dtype(bool), "BYTES": np.dtype(object)})
# numpy has no such type of its own.
try:
    import ml_dtypes

    NUMPY["BF16"] = np.dtype(ml_dtypes.bfloat16)
    BF16 = "ml_dtypes.bfloat16"
except ImportError:
    NUMPY["BF16"] = np.dtype("uint16")
    BF16 = "uint16"


def name_of(dtype):
    """The server's name for a type of numpy; None if it has none."""
    return next((name for name, known in NUMPY.items() if known == dtype), None)


class Spec:
    """An input or output of a model. A dimension is its size, "rows", or None for any size."""

    def __init__(self, told):
        self.name = told["name"]
        self.datatype = told["datatype"]
        self.shape = told["shape"]
        self.dtype = NUMPY[self.datatype]
        self.axis = self.shape.index("rows") if "rows" in self.shape else None

    def rows_of(self, values, start, count):
        if self.axis is None:
            return values
        return values[(slice(None),) * self.axis + (slice(start, start + count),)]

    def expected(self, rows):
        return [rows if size == "rows" else "any" if size is None else size for size in self.shape]


class Wrong(Exception):
    """A script did something that it must not; the text says what, without a traceback."""


def strings_of(memory, start, length, shape):
    """The byte strings of an input."""
    data = memory[start : start + length]
    values, at = [], 0
    while at < length:
        (size,) = LENGTH.unpack_from(data, at)
        at += LENGTH.size
        values.append(data[at : at + size])
        at += size
    strings = np.empty(len(values), dtype=object)
    strings[:] = values
    return strings.reshape(shape)


def plain(value):
    """A tensor of torch as an array of numpy; anything else as it is."""
    if not hasattr(value, "detach") or not hasattr(value, "cpu"):
        return value
    import torch

    value = value.detach().cpu()
    if value.dtype == torch.bfloat16:
        return value.view(torch.int16).numpy().view(NUMPY["BF16"])
    return value.numpy()


def checked(spec, value, rows):
    """What a script gave for an output, as an array of its type and shape."""
    value = plain(value)
    what = f"output {spec.name!r}"
    # Numbers and lists have no type of their own: numpy chooses one that may be wider.
    is_loose = not hasattr(value, "dtype")
    try:
        values = np.asarray(value)
    except ValueError as error:
        raise Wrong(f"{what} is no array: {error}") from None
    if spec.datatype == "BYTES":
        if values.dtype.kind not in "OSU":
            raise Wrong(f"{what}: expected BYTES (an object array of bytes), got {values.dtype}")
        if values.dtype.kind == "O":
            odd = next((v for v in values.ravel() if not isinstance(v, (bytes, str))), None)
            if odd is not None:
                raise Wrong(f"{what}: expected bytes or str, got {type(odd).__name__}")
    elif values.dtype != spec.dtype:
        values = cast(what, spec, values, is_loose)
    shape = values.shape
    fits = len(shape) == len(spec.shape) and all(
        want is None or size == (rows if want == "rows" else want)
        for size, want in zip(shape, spec.shape)
    )
    if not fits:
        wanted = ", ".join(map(str, spec.expected(rows)))
        raise Wrong(f"{what}: expected shape [{wanted}] for {rows} rows, got {list(shape)}")
    return values


def cast(what, spec, values, is_loose):
    if np.can_cast(values.dtype, spec.dtype, "same_kind" if is_loose else "safe"):
        converted = values.astype(spec.dtype)
        if spec.dtype.kind not in "iu" or (converted == values).all():
            return converted
        raise Wrong(f"{what}: a number in it does not fit into {spec.datatype}")
    hint = f"convert it with .astype(numpy.{spec.dtype.name})"
    if spec.datatype == "BF16" and spec.dtype == np.uint16:
        hint = "without the package ml_dtypes BF16 is an array of uint16, its bits"
    raise Wrong(f"{what}: expected {spec.datatype}, got dtype {values.dtype}: {hint}")


def placed(memory, spec, parts, shape):
    """Copies an output, or its parts along the batch dimension, to where the server reads it."""
    if spec.datatype == "BYTES":
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=spec.axis)
        return memory.strings(joined)
    values, place = memory.output(spec.dtype, shape)
    if len(parts) == 1:
        np.copyto(values, parts[0])
    else:
        np.concatenate(parts, axis=spec.axis, out=values)
    return place
