"""Where the cases come from: the onnx project's tests, exports of scikit-learn, and a few of ours."""

import os
import warnings

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.loader import DATA_DIR, load_model_tests
from onnx.reference import ReferenceEvaluator

from cases import Case, type_string

TENSORS = {
    f"tensor({name})"
    for name in (
        "float double float16 bfloat16 bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 string"
    ).split()
}
# The meaning of these words changed with the version: what a tensor is normalised over.
FLATTENING = ("Softmax", "LogSoftmax", "Hardmax")


def plain(values):
    """Whether every value is a dense tensor of a type that a client can send."""
    return all(
        v is None or (isinstance(v, np.ndarray | np.generic) and _sendable(np.asarray(v)))
        for v in values
    )


def _array(value):
    """A test's value as an array, where it is one: some tests hold messages of tensors."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.ndarray | np.generic) else value


def _sendable(array):
    if array.dtype == object and not all(isinstance(v, str) for v in array.flat):
        return False
    try:
        return type_string(array) in TENSORS
    except (KeyError, ValueError):
        return False


def node_tests():
    """The onnx project's node tests of one node; and its tests of several nodes as models."""
    for test in collect_testcases(None):
        graph = test.model.graph
        for data in test.data_sets:
            inputs, outputs = ([_array(value) for value in values] for values in data)
            if not plain(inputs) or not plain(outputs) or len(graph.node) != 1:
                continue
            node = graph.node[0]
            version = next(o.version for o in test.model.opset_import if o.domain == node.domain)
            given = dict(zip([i.name for i in graph.input], inputs, strict=False))
            expected = dict(zip([o.name for o in graph.output], outputs, strict=False))
            yield Case(
                test.name, node, version,
                [given.get(n) for n in node.input],
                [expected.get(n) for n in node.output],
                test.rtol, test.atol, original=True,
            )


def stored_tests():
    """Nodes of the models stored in the onnx package, exported by PyTorch at opset 6 and 9."""
    for kind in ("pytorch-operator", "pytorch-converted", "simple"):
        for test in sorted(load_model_tests(kind=kind), key=lambda t: t.name):
            directory = os.path.join(DATA_DIR, kind, test.name)
            model = onnx.load(os.path.join(directory, "model.onnx"))
            filled = {t.name for t in model.graph.initializer}
            names = [i.name for i in model.graph.input if i.name not in filled]
            values = {}
            for i, name in enumerate(names):
                path = os.path.join(directory, "test_data_set_0", f"input_{i}.pb")
                tensor = onnx.TensorProto()
                with open(path, "rb") as file:
                    try:
                        tensor.ParseFromString(file.read())
                        values[name] = numpy_helper.to_array(tensor)
                    except Exception:  # noqa: BLE001 - a sequence, which no client can send
                        values = None
                        break
            if values is not None:
                yield from split(test.name, model, values)


def split(name, model, values):
    """Each node of a model as a case, with what the reference implementation gives for it."""
    values = dict(values)
    values.update({t.name: numpy_helper.to_array(t) for t in model.graph.initializer})
    versions = {o.domain: o.version for o in model.opset_import}
    for position, node in enumerate(model.graph.node):
        inputs = [values[n] if n else None for n in node.input if not n or n in values]
        if len(inputs) != len(node.input) or not plain(inputs):
            continue
        version = versions["" if node.domain == "ai.onnx" else node.domain]
        outputs = reference(node, version, inputs)
        if outputs is None:
            continue
        values.update(zip(node.output, outputs, strict=False))
        if plain(outputs):
            wanted = [v if n else None for n, v in zip(node.output, outputs, strict=False)]
            yield Case(f"{name}/{position}", node, version, inputs, wanted, 1e-3, 1e-6)


def reference(node, version, inputs):
    """The outputs of a node by the onnx project's reference implementation; None where it has none."""
    case = Case("", node, version, inputs, [])
    plain_node = onnx.NodeProto()
    plain_node.CopyFrom(node)
    case.node = plain_node
    case.outputs = [np.zeros(0, np.float32) if name else None for name in node.output]
    feed = {f"x{i}": v for i, v in enumerate(inputs) if v is not None}
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            outputs = ReferenceEvaluator(case.model()).run(None, feed)
    except Exception:  # noqa: BLE001 - whatever it cannot do proves nothing
        return None
    given = iter(outputs)
    return [_array(next(given)) if name else None for name in node.output]


def flattening():
    """Softmax and its kin before opset 13: normalised over every axis from `axis` on, default 1."""
    for operator in FLATTENING:
        for shape in ((3, 4), (2, 3, 4), (2, 3, 2, 2)):
            for axis in (None, *range(-1, len(shape))):
                x = np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)
                split_at = 1 if axis is None else axis % len(shape)
                rows = x.reshape(int(np.prod(shape[:split_at])), -1)
                y = _normalised(operator, rows).reshape(shape).astype(np.float32)
                attributes = {} if axis is None else {"axis": axis}
                node = helper.make_node(operator, ["x"], ["y"], **attributes)
                name = f"{operator.lower()}_flattening_{len(shape)}d_{axis}"
                for version in (7, 11):
                    yield Case(name, node, version, [x], [y], original=True)


def _normalised(operator, rows):
    if operator == "Hardmax":
        return np.eye(rows.shape[1])[rows.argmax(axis=1)]
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    shares = powers / powers.sum(axis=1, keepdims=True)
    return np.log(shares) if operator == "LogSoftmax" else shares


def uneven_pools():
    """MaxPool with more padding at one end than at the other: the same as of a padded image."""
    image = np.random.default_rng(3).normal(size=(2, 4, 9, 9)).astype(np.float32)
    for pads in ([0, 0, 1, 1], [1, 0, 0, 1]):
        for stride in (1, 2):
            window = {"kernel_shape": [3, 3], "strides": [stride] * 2}
            ends = [(0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])]
            padded = np.pad(image, ends, constant_values=-np.inf)
            pool = helper.make_node("MaxPool", ["x0"], ["y0"], **window)
            outputs = reference(pool, 12, [padded])
            pool = helper.make_node("MaxPool", ["x0"], ["y0"], pads=pads, **window)
            yield Case(f"maxpool_{pads}_{stride}", pool, 12, [image], outputs)


def ours():
    """What exporters write and the project's tests leave out, evaluated by the reference."""
    yield from uneven_pools()
    for name, node, version, inputs in _ours():
        outputs = reference(node, version, inputs)
        if outputs is not None and plain(outputs):
            yield Case(f"ours_{name}", node, version, inputs, outputs, 1e-3, 1e-6)


def _ours():
    rng = np.random.default_rng(1)

    def node(operator, inputs, outputs=1, **attributes):
        names = [f"x{i}" for i in range(inputs)]
        return helper.make_node(operator, names, [f"y{i}" for i in range(outputs)], **attributes)

    kinds = "float32 float64 float16 bfloat16 bool int8 int16 int32 int64 uint8 uint16 uint32 uint64".split()
    for source in kinds:
        for target in kinds:
            # Values every type holds: what becomes of others is undefined.
            values = np.array([0, 1, 2, 100, 0.25, 0.75, 1.5]).astype(source)
            code = helper.np_dtype_to_tensor_dtype(np.dtype(target))
            yield f"cast_{source}_{target}", node("Cast", 1, to=code), 13, [values]
    x = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    far = np.iinfo(np.int64).max
    for starts, ends, axes, steps in (
        ([0], [far], [1], [1]), ([1], [far], [3], [2]), ([-2], [far], [-1], [1]),
        ([-1], [-far], [2], [-1]), ([0, 1], [1, far], [0, 2], [1, 1]), ([0], [-1], [1], [1]),
    ):
        lists = [np.array(v, np.int64) for v in (starts, ends, axes, steps)]
        name = f"slice_{starts}_{ends}_{axes}_{steps}"
        yield name, node("Slice", 5), 13, [x, *lists]
        if steps[0] == 1:
            yield f"{name}_no_steps", node("Slice", 4), 13, [x, *lists[:3]]
    for value in (np.float32(1.5), np.int64(3), np.int32(3), np.bool_(True), np.float64(0.1)):
        tensor = numpy_helper.from_array(np.asarray(value))
        yield f"constant_{tensor.data_type}", node("Constant", 0, value=tensor), 13, []
        filled = numpy_helper.from_array(np.asarray([value]))
        shape = np.array([2, 3], np.int64)
        yield f"filled_{tensor.data_type}", node("ConstantOfShape", 1, value=filled), 9, [shape]
    for key, value in (("value_float", 1.5), ("value_int", 3), ("value_floats", [1.5]), ("value_ints", [3, 4])):
        yield f"constant_{key}", node("Constant", 0, **{key: value}), 13, []
    for target in ([0, -1], [-1, 20], [2, 60], [0, 0, 20], [0, 0, -1], [-1], [2, 3, 2, 2, 5]):
        yield f"reshape_{target}", node("Reshape", 2), 14, [x, np.array(target, np.int64)]
    for left, right in (((2, 3), (3, 4)), ((2, 2, 3), (3, 4)), ((2, 2, 3), (2, 3, 4)), ((2, 5, 2, 3), (2, 5, 3, 4)), ((2, 5, 2, 3), (3, 4)), ((3,), (3, 4)), ((2, 3), (3,))):
        pair = [rng.normal(size=s).astype(np.float32) for s in (left, right)]
        yield f"matmul_{left}_{right}", node("MatMul", 2), 13, pair
    for shape in ((3,), (1, 3), (2, 1, 3), (2, 3, 1, 1), ()):
        other = rng.normal(size=shape).astype(np.float32) + 3
        whole = rng.normal(size=(2, 3, 4, 3)).astype(np.float32) + 3
        for operator in ("Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Greater", "Less", "PRelu"):
            yield f"{operator}_{shape}", node(operator, 2), 13 if operator != "PRelu" else 16, [whole, other]
        yield f"Sub_first_{shape}", node("Sub", 2), 13, [other, whole]
        yield f"Div_first_{shape}", node("Div", 2), 13, [other, whole]
    yield "where_scalar", node("Where", 3), 16, [x > 0, x, np.float32(-1e4)]
    channels = [rng.uniform(0.5, 1, size=3).astype(np.float32) for _ in range(4)]
    for rank in (2, 3, 4, 5):
        data = rng.normal(size=(2, 3, 4, 5, 2)[:rank]).astype(np.float32)
        yield f"batchnorm_{rank}d", node("BatchNormalization", 5, epsilon=1e-3), 15, [data, *channels]
        yield f"global_{rank}d", node("GlobalAveragePool", 1), 1, [data]
    for groups, wide, stride in ((1, 6, 2), (4, 4, 1), (4, 8, 2), (2, 4, 1)):
        for kernel in (1, 3):
            data = rng.normal(size=(2, 4, 9, 9)).astype(np.float32)
            weights = rng.normal(size=(wide, 4 // groups, kernel, kernel)).astype(np.float32)
            attributes = {"group": groups, "strides": [stride, stride], "kernel_shape": [kernel] * 2, "pads": [kernel // 2] * 4, "dilations": [1, 1]}
            bias = rng.normal(size=wide).astype(np.float32)
            name = f"conv_{groups}_{wide}_{stride}_{kernel}"
            yield name, node("Conv", 2, **attributes), 11, [data, weights]
            yield f"{name}_bias", node("Conv", 3, **attributes), 11, [data, weights, bias]
    for operator in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceSumSquare"):
        since = 13 if operator == "ReduceSum" else 18
        for settings in ({}, {"keepdims": 0}, {"keepdims": 1}):
            yield f"{operator}_all_{settings}", node(operator, 1, **settings), since, [x]
            for axes in ([1], [-1], [2, 3]):
                yield f"{operator}_{axes}_{settings}", node(operator, 2, **settings), since, [x, np.array(axes, np.int64)]
    ties = np.array([[1, 3, 3], [2, 2, 0], [5, 5, 5]], np.float32)
    for operator in ("ArgMax", "ArgMin"):
        for axis in (0, 1, -1):
            for keep in (0, 1):
                yield f"{operator}_ties_{axis}_{keep}", node(operator, 1, axis=axis, keepdims=keep), 13, [ties]
    yield "squeeze_all", node("Squeeze", 1), 13, [rng.normal(size=(2, 1, 3, 1)).astype(np.float32)]
    for kind in (np.int64, np.int32):
        yield f"onehot_{kind.__name__}", node("OneHot", 3, axis=-1), 11, [np.array([0, 2, 1], kind), np.array(3, kind), np.array([0, 1], np.float32)]
        yield f"onehot_list_{kind.__name__}", node("OneHot", 3), 11, [np.array([0, 2, 1], kind), np.array([3], kind), np.array([0, 1], kind)]
        yield f"gather_{kind.__name__}", node("Gather", 2), 13, [x, np.array([[0, 1]], kind)]
        yield f"gather_elements_{kind.__name__}", node("GatherElements", 2, axis=-1), 13, [x, np.zeros((2, 3, 4, 1), kind)]
    for kind in kinds:
        tensor = numpy_helper.from_array(np.array([1, 0, 1]).astype(kind))
        yield f"constant_{kind}", node("Constant", 0, value=tensor), 13, []
        filled = numpy_helper.from_array(np.array([1]).astype(kind))
        yield f"filled_{kind}", node("ConstantOfShape", 1, value=filled), 9, [np.array([2, 3], np.int64)]
    yield "filled_default", node("ConstantOfShape", 1), 9, [np.array([2, 3], np.int64)]
    yield from _quantized(rng, node, x)
    yield from _recurrent(rng)
    yield from _texts(node)
    image = rng.normal(size=(2, 4, 9, 9)).astype(np.float32)
    weights = rng.normal(size=(3, 4, 3, 3)).astype(np.float32)
    for pads in ([0, 0, 1, 1], [1, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]):
        for stride in (1, 2):
            window = {"kernel_shape": [3, 3], "strides": [stride] * 2, "pads": pads}
            name = f"{pads}_{stride}"
            yield f"conv_{name}", node("Conv", 2, **window), 11, [image, weights]
            if pads[:2] == pads[2:]:  # the reference implementation pads others at the wrong ends
                yield f"maxpool_{name}", node("MaxPool", 1, **window), 12, [image]
            for counts in (0, 1):
                window["count_include_pad"] = counts
                yield f"average_{name}_{counts}", node("AveragePool", 1, **window), 11, [image]
    for equation, *shapes in (
        ("bnqd,bnkd->bnqk", (2, 3, 4, 5), (2, 3, 6, 5)), ("bnqk,bnkd->bnqd", (2, 3, 4, 6), (2, 3, 6, 5)),
        ("bqnd,bknd->bnqk", (2, 4, 3, 5), (2, 6, 3, 5)), ("bnqk,bknd->bqnd", (2, 3, 4, 6), (2, 6, 3, 5)),
        ("ij,jk->ik", (2, 3), (3, 4)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)), ("i,j->ij", (3,), (4,)),
        ("bhwc,hkc->bhwk", (2, 3, 4, 5), (3, 6, 5)), ("bhwc,wkc->bhwk", (2, 3, 4, 5), (4, 6, 5)),
    ):
        operands = [rng.normal(size=s).astype(np.float32) for s in shapes]
        yield f"einsum_{equation}", node("Einsum", 2, equation=equation), 12, operands
    for count in (1, 2, 3):
        for axis in (0, 1, -1):
            parts = [rng.normal(size=(2, 2)).astype(np.float32) for _ in range(count)]
            yield f"concat_{count}_{axis}", node("Concat", count, axis=axis), 13, parts
    indices = np.array([[0, 2], [1, -1]], np.int64)
    table = rng.normal(size=(3, 4)).astype(np.float32)
    for axis in (0, 1, -1):
        yield f"gather_{axis}", node("Gather", 2, axis=axis), 13, [table, indices]
        yield f"gather_scalar_{axis}", node("Gather", 2, axis=axis), 13, [table, np.int64(1)]
    for rank in (2, 3, 4):
        for operator in ("Softmax", "LogSoftmax"):
            for axis in range(-1, rank):
                data = rng.normal(size=(2, 3, 4, 5)[:rank]).astype(np.float32)
                yield f"{operator}_{rank}_{axis}", node(operator, 1, axis=axis), 13, [data]
    for axis in (0, 1, 2, -1):
        data = rng.normal(size=(2, 3, 4)).astype(np.float32)
        yield f"flatten_{axis}", node("Flatten", 1, axis=axis), 13, [data]


def _texts(node):
    """What is done with texts and has no tests of its own: they are read, written and looked up."""
    numbers = {
        "float32": [0.0, -1.5, 1 / 3, 2.0**24, 1e-20, -1e30], "float64": [0.0, -1.5, 1 / 3, 2.0**60, 1e-200, -1e300],
        "float16": [0.0, -1.5, 1 / 3, 65504], "bool": [0, 1], "uint8": [0, 255], "int8": [-128, 127],
        "uint16": [0, 65535], "int16": [-32768, 32767], "uint32": [0, 2**32 - 1], "int32": [-(2**31), 2**31 - 1],
        "uint64": [0, 2**64 - 1], "int64": [-(2**63), 2**63 - 1],
    }  # fmt: skip
    for kind, values in numbers.items():
        values = np.array(values, kind)
        code = helper.np_dtype_to_tensor_dtype(values.dtype)
        yield f"cast_{kind}_text", node("Cast", 1, to=onnx.TensorProto.STRING), 13, [values]
        if kind != "bool":  # which words mean true is nowhere said
            yield f"cast_text_{kind}", node("Cast", 1, to=code), 13, [values.astype(str).astype(object)]
    words = np.array([["red", "", "blü"], ["blü", "no such word", "red"]], object)
    yield "constant_text", node("Constant", 0, value_string="blü"), 13, []
    yield "constant_texts", node("Constant", 0, value_strings=["red", "", "blü"]), 13, []
    yield "constant_text_tensor", node("Constant", 0, value=numpy_helper.from_array(words)), 13, []
    domain = "ai.onnx.ml"
    known = ["red", "", "blü", "no such word"]
    inputs = {
        "strings": (known, words), "int64s": ([1, -2, 7], np.array([[1, -2], [7, 1]], np.int64)),
        "floats": ([1.0, -2.5, 7.0], np.array([[1, -2.5], [7, 1]], np.float32)),
    }  # fmt: skip
    values = {"strings": ["a", "é", "", "d"], "int64s": [3, -1, 0, 5], "floats": [0.5, -1.0, 0.0, 7.0]}
    defaults = {"strings": ("default_string", "é?"), "int64s": ("default_int64", -7), "floats": ("default_float", -0.5)}
    for source, (keys, x) in inputs.items():
        for target, list_ in values.items():
            default, value = defaults[target]
            for count in (len(keys), len(keys) - 1):
                attributes = {f"keys_{source}": keys[:count], f"values_{target}": list_[:count], default: value}
                encode = node("LabelEncoder", 1, domain=domain, **attributes)
                yield f"label_{source}_{target}_{count}", encode, 2, [x]
            attributes = {f"keys_{source}": keys, f"values_{target}": list_[:len(keys)]}
            yield f"label_{source}_{target}", node("LabelEncoder", 1, domain=domain, **attributes), 2, [x]
    for source in ("strings", "int64s"):
        keys, x = inputs[source]
        for zeros in (0, 1):
            for count in (len(keys), len(keys) - zeros):
                encode = node("OneHotEncoder", 1, domain=domain, zeros=zeros, **{f"cats_{source}": keys[:count]})
                for shape in ((-1,), x.shape):
                    yield f"onehot_{source}_{zeros}_{count}_{len(shape)}", encode, 1, [x.reshape(shape)]


def _quantized(rng, node, x):
    scale, whole = np.float32(0.05), rng.integers(-100, 100, size=(2, 3, 4, 5))
    scales = np.array([0.05, 0.1, 0.02], np.float32)
    for kind in (np.int8, np.uint8):
        zero, zeros = kind(3), np.array([1, 2, 3], kind)
        values = (whole if kind == np.int8 else whole + 100).astype(kind)
        name = kind.__name__
        yield f"quantize_{name}", node("QuantizeLinear", 3), 13, [x, scale, zero]
        yield f"dequantize_{name}", node("DequantizeLinear", 3), 13, [values, scale, zero]
        yield f"dequantize_{name}_no_zero", node("DequantizeLinear", 2), 13, [values, scale]
        yield f"quantize_{name}_axis", node("QuantizeLinear", 3, axis=1), 13, [x, scales, zeros]
        yield f"dequantize_{name}_axis", node("DequantizeLinear", 3, axis=1), 13, [values, scales, zeros]
        for other in (np.int8, np.uint8):
            left = rng.integers(0, 100, size=(2, 3)).astype(kind)
            right = rng.integers(0, 100, size=(3, 4)).astype(other)
            yield f"matmul_{name}_{other.__name__}", node("MatMulInteger", 4), 10, [left, right, zero, other(2)]
            yield f"matmul_{name}_{other.__name__}_no_zero", node("MatMulInteger", 2), 10, [left, right]
            yield f"matmul_{name}_{other.__name__}_zero", node("MatMulInteger", 3), 10, [left, right, zero]
            image = rng.integers(0, 100, size=(1, 2, 5, 5)).astype(kind)
            weights = rng.integers(0, 50, size=(3, 2, 3, 3)).astype(other)
            window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
            yield f"convinteger_{name}_{other.__name__}", node("ConvInteger", 4, **window), 10, [image, weights, zero, other(0)]
            yield f"convinteger_{name}_{other.__name__}_no_zero", node("ConvInteger", 2, **window), 10, [image, weights]
            for per_channel in (False, True):
                of_weights = [scales, np.zeros(3, other)] if per_channel else [scale, other(0)]
                inputs = [image, scale, zero, weights, *of_weights, np.float32(2), zero]
                label = f"qlinearconv_{name}_{other.__name__}_{per_channel}"
                yield label, node("QLinearConv", 8, **window), 10, inputs
                yield f"{label}_bias", node("QLinearConv", 9, **window), 10, [*inputs, np.array([5, 6, 7], np.int32)]
    yield "quantize_no_zero", node("QuantizeLinear", 2), 13, [x, scale]
    yield "dequantize_int32", node("DequantizeLinear", 2), 13, [whole.astype(np.int32), scale]


def _recurrent(rng):
    """Recurrent networks as PyTorch exports them: with bias, first state and every output."""
    for operator, gates in (("GRU", 3), ("LSTM", 4), ("RNN", 1)):
        for directions, direction in ((1, "forward"), (2, "bidirectional")):
            def part(*sizes):
                return rng.normal(size=sizes).astype(np.float32) / 2

            inputs = [part(5, 2, 3), part(directions, gates * 4, 3), part(directions, gates * 4, 4), part(directions, 2 * gates * 4), None, part(directions, 2, 4)]
            outputs = ["y0", "y1"]
            if operator == "LSTM":
                inputs.append(part(directions, 2, 4))
                outputs.append("y2")
            names = ["" if value is None else f"x{i}" for i, value in enumerate(inputs)]
            settings = {"hidden_size": 4, "direction": direction}
            for reset in (0, 1) if operator == "GRU" else (None,):
                if reset is not None:
                    settings["linear_before_reset"] = reset
                made = helper.make_node(operator, names, outputs, **settings)
                yield f"{operator}_{direction}_{reset}", made, 14, inputs


def sklearn():
    """Nodes of what skl2onnx exports, with what the reference implementation gives for them."""
    for name, model, values in sklearn_models():
        yield from split(f"sklearn_{name}", model, values)


def sklearn_models():
    """(name, exported model, inputs) of estimators of every common kind."""
    from skl2onnx import to_onnx  # noqa: PLC0415 - slow to import

    rng = np.random.default_rng(2)
    x = rng.normal(size=(120, 5)).astype(np.float32)
    two = (x[:, 0] + x[:, 1] > 0).astype(np.int64)
    three = np.digitize(x[:, 0], [-0.5, 0.5]).astype(np.int64)
    for name, estimator in estimators():
        number = x @ np.arange(5, dtype=np.float32)
        targets = {"number": number}
        if name == "linear":
            targets["numbers"] = np.stack([number, -number], axis=1)
        if hasattr(estimator, "predict_proba") or hasattr(estimator, "decision_function"):
            targets = {"two": two, "three": three, "text": np.array(["a", "b", "c"])[three]}
        for kind, target in targets.items():
            fitted = estimator.fit(x, target)
            # LinearSVC has no probabilities, hence no maps of them to leave out.
            maps = "three" in targets and name != "linear_svc"
            options = {id(fitted): {"zipmap": False}} if maps else None
            for opset in (13, 18):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    model = to_onnx(fitted, x[:1], options=options, target_opset={"": opset, "ai.onnx.ml": 3})
                yield f"{name}_{kind}_{opset}", model, {model.graph.input[0].name: x[:4]}


    yield from categorical_models()


def categorical_models():
    """(name, exported model, inputs) of pipelines that begin with columns of texts."""
    from skl2onnx import to_onnx  # noqa: PLC0415 - slow to import
    from skl2onnx.common.data_types import StringTensorType  # noqa: PLC0415
    from sklearn import ensemble, linear_model, pipeline, preprocessing, tree  # noqa: PLC0415

    words = np.array(["red", "green", "blü"], object)
    x = words[np.random.default_rng(4).integers(0, 3, (60, 2))]
    red = (x[:, 0] == "red").astype(np.int64)
    lenient = {"handle_unknown": "use_encoded_value", "unknown_value": -1}
    encoders = [
        ("onehot", preprocessing.OneHotEncoder()),
        ("onehot_lenient", preprocessing.OneHotEncoder(handle_unknown="ignore")),
        ("ordinal", preprocessing.OrdinalEncoder()),
        ("ordinal_lenient", preprocessing.OrdinalEncoder(**lenient)),
    ]
    classifiers = [
        ("logistic", linear_model.LogisticRegression()),
        ("tree", tree.DecisionTreeClassifier(random_state=0)),
        ("forest", ensemble.RandomForestClassifier(n_estimators=5, random_state=0)),
    ]
    for encoded, encoder in encoders:
        for classified, classifier in classifiers:
            for kind, target in (("two", red), ("text", np.array(["no", "yes"])[red])):
                fitted = pipeline.make_pipeline(encoder, classifier).fit(x, target)
                for opset in (13, 18):
                    model = to_onnx(
                        fitted,
                        initial_types=[("x", StringTensorType([None, 2]))],
                        options={id(fitted): {"zipmap": False}},
                        target_opset={"": opset, "ai.onnx.ml": 3},
                    )
                    yield f"{encoded}_{classified}_{kind}_{opset}", model, {"x": x[:4]}


def estimators():
    from sklearn import cluster, decomposition, ensemble, linear_model, naive_bayes  # noqa: PLC0415
    from sklearn import neighbors, neural_network, pipeline, preprocessing, svm, tree  # noqa: PLC0415

    fixed = {"random_state": 0}
    return [
        ("logistic", linear_model.LogisticRegression()),
        ("linear", linear_model.LinearRegression()),
        ("ridge_classifier", linear_model.RidgeClassifier()),
        ("sgd", linear_model.SGDClassifier(loss="log_loss", **fixed)),
        ("tree", tree.DecisionTreeClassifier(max_depth=4, **fixed)),
        ("tree_regressor", tree.DecisionTreeRegressor(max_depth=4, **fixed)),
        ("forest", ensemble.RandomForestClassifier(n_estimators=5, max_depth=4, **fixed)),
        ("forest_regressor", ensemble.RandomForestRegressor(n_estimators=5, max_depth=4, **fixed)),
        ("boosting", ensemble.GradientBoostingClassifier(n_estimators=5, **fixed)),
        ("boosting_regressor", ensemble.GradientBoostingRegressor(n_estimators=5, **fixed)),
        ("svc", svm.SVC(probability=False, **fixed)),
        ("svc_linear", svm.SVC(kernel="linear", **fixed)),
        ("svc_poly", svm.SVC(kernel="poly", **fixed)),
        ("svr", svm.SVR()),
        ("linear_svc", svm.LinearSVC(**fixed)),
        ("bayes", naive_bayes.GaussianNB()),
        ("neighbors", neighbors.KNeighborsClassifier(3)),
        ("neighbors_regressor", neighbors.KNeighborsRegressor(3)),
        ("kmeans", cluster.KMeans(3, n_init=1, **fixed)),
        ("mlp", neural_network.MLPClassifier(hidden_layer_sizes=(8,), max_iter=50, **fixed)),
        ("mlp_regressor", neural_network.MLPRegressor(hidden_layer_sizes=(8,), max_iter=50, **fixed)),
        ("pca", decomposition.PCA(2)),
        ("minmax", preprocessing.MinMaxScaler()),
        ("robust", preprocessing.RobustScaler()),
        ("binarizer", preprocessing.Binarizer()),
        ("normalizer_l1", preprocessing.Normalizer("l1")),
        ("normalizer_l2", preprocessing.Normalizer("l2")),
        ("polynomial", preprocessing.PolynomialFeatures(2)),
        ("scaled_logistic", pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())),
        ("scaled_forest", pipeline.make_pipeline(preprocessing.StandardScaler(), ensemble.RandomForestClassifier(n_estimators=5, max_depth=4, **fixed))),
    ]
