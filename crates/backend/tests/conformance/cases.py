"""One test case: a node, its inputs and the outputs it must give; and rewriting it.

A rewritten case keeps the expected outputs of the case it came from, so a rewrite is only made
where the schemas of both versions say the same thing in the same words. Where the words hide a
change of meaning, onnxruntime disagrees with the expected outputs and the case proves nothing.
"""

import numpy as np
import onnx
from onnx import TensorProto, defs, helper, numpy_helper

OLDEST_OPSET = 7  # what onnxruntime promises to run
# The standard operators beside those of another domain, where a graph needs both.
COMPANION_OPSET = 15

# Inputs that were attributes under another name.
RENAMED = {("Pad", "constant_value"): "value", ("Upsample", "scales"): "scales"}
SPATIAL = {"Conv", "ConvInteger", "QLinearConv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"}


def _history():
    versions = {}
    for schema in defs.get_all_schemas_with_history():
        versions.setdefault((schema.domain, schema.name), {})[schema.since_version] = schema
    return {key: dict(sorted(value.items())) for key, value in versions.items()}


HISTORY = _history()
# The newest version of each domain that the installed onnx package describes.
NEWEST = {domain: max(max(HISTORY[key]) for key in HISTORY if key[0] == domain) for domain, _ in HISTORY}
NEWEST[""] = defs.onnx_opset_version()


def versions(domain, operator):
    """(schema, last opset it applies to) of every version in use at OLDEST_OPSET or later."""
    found = list(HISTORY.get((domain, operator), {}).values())
    for schema, after in zip(found, [*found[1:], None], strict=True):
        last = after.since_version - 1 if after else NEWEST[domain]
        if (domain != "" or last >= OLDEST_OPSET) and not schema.deprecated:
            yield schema, last


def type_string(array):
    """The schema's name of an array's type, such as tensor(float)."""
    code = helper.np_dtype_to_tensor_dtype(array.dtype)
    return f"tensor({TensorProto.DataType.Name(code).lower()})"


class Case:
    """A node with inputs (None where left out), expected outputs and tolerances."""

    def __init__(self, name, node, version, inputs, outputs, rtol=1e-3, atol=1e-7, original=False):
        self.name, self.node, self.version = name, node, version
        self.inputs, self.outputs = ([_free(value) for value in values] for values in (inputs, outputs))
        self.rtol, self.atol = rtol, atol
        self.original = original  # straight from the onnx project, with its expected outputs

    @property
    def schema(self):
        return defs.get_schema(self.node.op_type, self.version, self.node.domain)

    def with_(self, suffix, **changes):
        parts = {key: getattr(self, key) for key in ("node", "version", "inputs", "outputs")}
        case = Case(self.name + suffix, rtol=self.rtol, atol=self.atol, **(parts | changes))
        return case

    def attributes(self):
        return {a.name: helper.get_attribute_value(a) for a in self.node.attribute}

    def model(self, constants=()):
        """The case as a model; inputs at the given positions become initializers."""
        graph = onnx.GraphProto(name="case")
        node = onnx.NodeProto()
        node.CopyFrom(self.node)
        node.name = "node"
        node.ClearField("input")
        node.ClearField("output")
        for i, value in enumerate(self.inputs):
            name = "" if value is None else f"x{i}"
            node.input.append(name)
            if value is None:
                continue
            if i in constants:
                graph.initializer.append(numpy_helper.from_array(value, name))
            else:
                graph.input.append(_describe(name, value))
        for i, value in enumerate(self.outputs):
            node.output.append("" if value is None else f"y{i}")
            if value is not None:
                graph.output.append(_describe(f"y{i}", value))
        graph.node.append(node)
        domain = self.node.domain
        imports = [helper.make_opsetid(domain, self.version)]
        if domain:
            imports.append(helper.make_opsetid("", COMPANION_OPSET))
        # The lowest file format that allows what is used: both engines read it.
        return helper.make_model(graph, opset_imports=imports, ir_version=10)


def _free(array):
    """Texts of any length, where the array holds texts: numpy's own have a fixed width."""
    return array.astype(object) if array is not None and array.dtype.kind == "U" else array


def _describe(name, array):
    code = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, code, array.shape)


def convert(case, schema):
    """The case under another version of its operator's schema, or None where it cannot be said."""
    old, node = case.schema, case.node
    if schema.since_version == old.since_version:
        return None
    version = schema.since_version
    if node.domain == "":
        version = max(version, OLDEST_OPSET)
    attributes = case.attributes()
    inputs = _inputs(case, old, schema, attributes)
    if inputs is None or any(name not in schema.attributes for name in attributes):
        return None
    if len(case.outputs) > schema.max_output or len(inputs) > schema.max_input:
        return None
    if len(inputs) < schema.min_input or not _types_allowed(schema, inputs):
        return None
    missing = [a.name for a in schema.attributes.values() if a.required and a.name not in attributes]
    if missing:
        return None
    rebuilt = _node(schema, attributes)
    return case.with_(f"@{version}", node=rebuilt, version=version, inputs=inputs)


def _node(schema, attributes):
    node = helper.make_node(schema.name, [], [], domain=schema.domain)
    for name, value in sorted(attributes.items()):
        kind = int(schema.attributes[name].type)
        node.attribute.append(helper.make_attribute(name, value, attr_type=kind))
    return node


def _inputs(case, old, new, attributes):
    """Inputs under the new schema; moves what became an attribute into `attributes` and back."""
    names = [i.name for i in new.inputs]
    inputs = []
    for i, value in enumerate(case.inputs):
        name = old.inputs[min(i, len(old.inputs) - 1)].name
        name = RENAMED.get((old.name, name), name)
        moved = name in new.attributes and name not in old.attributes and name not in names
        if not moved:
            inputs.append(value)
        elif value is not None:
            as_list = new.attributes[name].type in (defs.OpSchema.AttrType.INTS, defs.OpSchema.AttrType.FLOATS)
            if value.dtype == object or (value.ndim == 0 and as_list):
                return None
            attributes[name] = value.tolist() if as_list else value.reshape(-1)[0].item()
    for position, name in enumerate(names):
        if name in attributes and name not in new.attributes:
            if not isinstance(attributes[name], (list, int)):
                return None
            inputs += [None] * (position + 1 - len(inputs))
            inputs[position] = np.array(attributes.pop(name), np.int64)
    while inputs and inputs[-1] is None:
        inputs.pop()
    return inputs


def _types_allowed(schema, inputs):
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    bound = {}
    for i, value in enumerate(inputs):
        if value is None:
            continue
        parameter = schema.inputs[min(i, len(schema.inputs) - 1)]
        text = type_string(value)
        if text not in allowed.get(parameter.type_str, [parameter.type_str]):
            return False
        if parameter.is_homogeneous and bound.setdefault(parameter.type_str, text) != text:
            return False
    return True


def explicit(case):
    """The case with every default written out, as exporters do."""
    attributes = case.attributes()
    given = set(attributes)
    for attribute in case.schema.attributes.values():
        if attribute.name not in attributes and attribute.default_value.type:
            attributes[attribute.name] = helper.get_attribute_value(attribute.default_value)
    if case.node.op_type in SPATIAL:
        _explicit_spatial(case, attributes)
    if set(attributes) == given:
        return None
    node = _node(case.schema, attributes)
    return case.with_("+explicit", node=node)


def _explicit_spatial(case, attributes):
    if "kernel_shape" not in attributes:
        weights = {"Conv": 1, "ConvTranspose": 1, "ConvInteger": 1, "QLinearConv": 3}[case.node.op_type]
        attributes["kernel_shape"] = list(case.inputs[weights].shape[2:])
    sizes = len(attributes["kernel_shape"])
    defaults = {"strides": [1] * sizes, "dilations": [1] * sizes}
    if attributes.get("auto_pad", b"NOTSET") == b"NOTSET":
        defaults["pads"] = [0] * (2 * sizes)
    for name, value in defaults.items():
        if name in case.schema.attributes:
            attributes.setdefault(name, value)
