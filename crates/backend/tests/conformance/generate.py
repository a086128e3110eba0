"""Writes every conformance case to one file: `generate.py FILE`.

The file holds records, each two messages of the ONNX schema with a 4-byte little-endian length
before each: a model of one node (name, tolerances and origin in its metadata), and a graph whose
initializers x0, x1, … and y0, y1, … are the inputs and the outputs they must give.
"""

import sys
import warnings

import numpy as np
import onnx
from ml_dtypes import bfloat16
from onnx import helper, numpy_helper

import sources
from cases import convert, explicit, type_string, versions

# How many cases of an operator are also tried in every other element type.
TYPED_PER_OPERATOR = 10
Option = onnx.defs.OpSchema.FormalParameterOption
# Large tensors prove no more than small ones, and their time adds up over all forms.
DERIVED_BYTES_MAX = 1 << 18
# Whole numbers that do not overflow where they are multiplied many times.
SMALL = {"Pow": (0, 3), "ReduceProd": (-1, 1)}
TYPED_FROM = (np.float32, np.float64, np.int32, np.int64, np.bool_)
NUMPY = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
    "tensor(bool)": np.bool_, "tensor(int8)": np.int8, "tensor(int16)": np.int16,
    "tensor(int32)": np.int32, "tensor(int64)": np.int64, "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16, "tensor(uint32)": np.uint32, "tensor(uint64)": np.uint64,
    "tensor(bfloat16)": bfloat16, "tensor(string)": np.object_,
}
# Half the digits, half the agreement.
TOLERANCE = {"tensor(float16)": 1e-2, "tensor(bfloat16)": 5e-2}
# Which text means which number is for cases that say it.
READS_TEXTS = ("Cast", "CastLike")


def typed(case):
    """The case in every other element type that its main input may have."""
    schema = case.schema
    kinds = [schema.inputs[min(i, len(schema.inputs) - 1)].type_str for i in range(len(case.inputs))]
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    main = [
        i for i, value in enumerate(case.inputs)
        if value is not None and value.dtype in TYPED_FROM and len(allowed.get(kinds[i], ())) > 1
    ]
    # The limits of an empty set are those of the type, and 64 bits may be computed with 32.
    if not main or any(value is not None and value.size == 0 for value in case.inputs):
        return
    source = case.inputs[main[0]].dtype
    alike = {i for i in main if case.inputs[i].dtype == source}
    of_one_kind = {i for i in alike if kinds[i] == kinds[main[0]]}
    for text in allowed[kinds[main[0]]]:
        if text not in NUMPY or NUMPY[text] == source:
            continue
        if text == "tensor(string)" and case.node.op_type in READS_TEXTS:
            continue
        yield from _retyped(case, of_one_kind, text)
        if alike != of_one_kind and all(text in allowed[kinds[i]] for i in alike):
            yield from _retyped(case, alike, text)


def _retyped(case, positions, text):
    inputs = [
        _as(value, text, case.node.op_type) if i in positions else value
        for i, value in enumerate(case.inputs)
    ]
    outputs = sources.reference(case.node, case.version, inputs)
    if outputs is not None and sources.plain(outputs):
        changed = case.with_(f":{text[7:-1]}{len(positions)}", inputs=inputs, outputs=outputs)
        if text in TOLERANCE:
            changed.rtol = changed.atol = TOLERANCE[text]
        yield changed


def asked_less(case):
    """The case as it is, and without the outputs that may be left out."""
    yield case
    options = [output.option for output in case.schema.outputs]
    needed = options.count(Option.Single)
    if 0 < needed < len(case.outputs) and Option.Variadic not in options:
        node = onnx.NodeProto()
        node.CopyFrom(case.node)
        del node.output[needed:]
        yield case.with_("+less", node=node, outputs=case.outputs[:needed])


def _as(value, text, operator):
    kind = np.dtype(NUMPY[text])
    if kind.kind == "f" or kind == bfloat16:
        return value.astype(kind)
    if kind.kind == "O":
        return _words(value)
    if kind.kind == "b":
        return value > 0
    scaled = value * 4 if value.dtype.kind == "f" else value
    lowest, highest = SMALL.get(operator, (-100, 100))
    lowest = max(lowest, 0) if kind.kind == "u" else lowest
    whole = np.clip(np.round(scaled), lowest, highest).astype(kind)
    # Dividing a whole number by zero means nothing.
    return np.where(whole == 0, kind.type(1), whole) if operator in ("Div", "Mod") else whole


def _words(value):
    """A text for each number: the same for the same, some empty, some of them beyond ASCII."""
    return np.vectorize(lambda number: f"é{number}" if number else "", otypes=[object])(value)


def at_every_version(case):
    yield case
    for schema, _ in versions(case.node.domain, case.node.op_type):
        if case.node.op_type in sources.FLATTENING and (schema.since_version < 13) != (case.version < 13):
            continue
        other = convert(case, schema)
        if other is not None:
            yield other


def spread(case):
    """The case, with defaults written out, and with inputs stored in the model."""
    for form in (case, explicit(case)):
        if form is None:
            continue
        given = [i for i, value in enumerate(form.inputs) if value is not None]
        yield form, ()
        if given:
            yield form, (given[0],)
        if len(given) > 1:
            yield form, tuple(given[1:])


def all_cases():
    seen = {}
    origins = (sources.node_tests, sources.stored_tests, sources.flattening, sources.ours, sources.sklearn)
    for case in (less for origin in origins for case in origin() for less in asked_less(case)):
        for at in at_every_version(case):
            yield from spread(at)
        key = (case.node.domain, case.node.op_type)
        if seen.setdefault(key, 0) < TYPED_PER_OPERATOR:
            variants = list(typed(case))
            seen[key] += bool(variants)
            for at in (at for variant in variants for at in at_every_version(variant)):
                yield at, ()
                given = [i for i, value in enumerate(at.inputs) if value is not None]
                if len(given) > 1:
                    yield at, tuple(given[1:])


def too_large(case):
    values = [value for value in (*case.inputs, *case.outputs) if value is not None]
    return not case.original and sum(value.nbytes for value in values) > DERIVED_BYTES_MAX


def write(file, case, constants):
    model = case.model(constants)
    name = case.name + (f" constants {list(constants)}" if constants else "")
    facts = {"name": name, "rtol": repr(case.rtol), "atol": repr(case.atol), "original": str(int(case.original))}
    helper.set_model_props(model, facts)
    data = onnx.GraphProto()
    for prefix, values in (("x", case.inputs), ("y", case.outputs)):
        for i, value in enumerate(values):
            if value is not None and not (prefix == "x" and i in constants):
                data.initializer.append(numpy_helper.from_array(value, f"{prefix}{i}"))
    for message in (model, data):
        raw = message.SerializeToString(deterministic=True)
        file.write(len(raw).to_bytes(4, "little"))
        file.write(raw)


def main():
    warnings.simplefilter("ignore")
    count = 0
    with open(sys.argv[1], "wb") as file:
        for case, constants in all_cases():
            if too_large(case):
                continue
            try:
                write(file, case, constants)
            except (ValueError, TypeError) as error:
                sys.exit(f"cannot write case {case.name}: {error}")
            count += 1
    print(f"{count} cases")


if __name__ == "__main__":
    main()
