"""Models that nobody here made: files out of public packages, and what exporters write.

Knows where they are, how they are made and what their users send; knows nothing of servers.
"""

import importlib.util
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

EXPORTS = Path(__file__).resolve().parent / "exports"


@dataclass
class Model:
    """A model, unchanged, with requests as its users send them."""

    # The file, or the message to write.
    source: object
    # Each: input name to array.
    requests: list
    # Why its requests do not share batches, where that is said.
    alone: str = ""
    settings: dict = field(default_factory=dict)
    tables: str = ""
    # Output name to the one of onnxruntime's outputs that it stands for, where that is no tensor.
    maps: dict = field(default_factory=dict)


def inside(package, *path):
    """A file in an installed package, which is not imported: that would need more packages."""
    found = importlib.util.find_spec(package)
    return Path(found.submodule_search_locations[0]).joinpath(*path)


def rng(seed=7):
    return np.random.default_rng(seed)


def floats(*shape, scale=1.0):
    return (rng(sum(shape)).standard_normal(shape) * scale).astype(np.float32)


def shared():
    """The files in `exports`."""
    ids = rng().integers(0, 100, (1, 40))
    encoder = [
        {"input_ids": ids[:, :length], "attention_mask": np.ones((1, length), np.int64)}
        for length in (5, 5, 8, 17, 40)
    ]
    texts = [[["so good"]], [["bad, very bad"]], [["good"], ["bad"], ["Grüße"]]]
    rows = floats(9, 4, scale=3)
    return {
        "encoder": Model(EXPORTS / "encoder_dyn.onnx", encoder),
        "encoder_padded": Model(
            EXPORTS / "encoder_dyn.onnx",
            encoder,
            tables="[pad]\ninput_ids = 0\nattention_mask = 0\n",
        ),
        "conv": Model(
            EXPORTS / "conv_dyn.onnx",
            [{"x": floats(1, 3, *size)} for size in ((8, 8), (32, 48), (32, 48), (57, 91))],
        ),
        "state": Model(
            EXPORTS / "state_axis1.onnx",
            [
                {
                    "input": floats(count, length),
                    "state": floats(2, count, 16),
                    "sr": np.array(rate, np.int64),
                }
                for count, length, rate in ((1, 512, 16000), (1, 512, 16000), (3, 256, 8000))
            ],
        ),
        "slice_int32": Model(
            EXPORTS / "slice_int32.onnx",
            [{"bytes": rng().integers(0, 256, (count, 64)).astype(np.int32)} for count in (1, 4)],
        ),
        "xgb": Model(EXPORTS / "xgb.onnx", [{"x": rows[:1]}, {"x": rows}]),
        "tfidf": Model(EXPORTS / "tfidf.onnx", [{"text": np.array(t, object)} for t in texts]),
        "rf_zipmap": Model(
            EXPORTS / "rf_zipmap.onnx",
            [{"X": rows[:1]}, {"X": rows}],
            maps={"output_probability": "output_probability"},
        ),
    }


def packages():
    """The ONNX files of three packages."""
    ocr = inside("rapidocr_onnxruntime", "models")
    vad = inside("silero_vad", "data")
    magika = inside("magika", "models", "standard_v3_3", "model.onnx")

    def image(height, width, count=1):
        return {"x": floats(count, 3, height, width, scale=0.5)}

    def speech(length, rate=None, count=1):
        request = {"input": floats(count, length, scale=0.1), "state": floats(2, count, 128)}
        return request if rate is None else request | {"sr": np.array(rate, np.int64)}

    both = [speech(576, 16000), speech(576, 16000), speech(288, 8000), speech(512, 16000, 2)]
    wide = [speech(576, 16000), speech(512, 16000), speech(576, 16000, 3)]
    contents = rng().integers(0, 257, (3, 2048)).astype(np.int32)
    sequence = [
        {"input": floats(length, 576, scale=0.1), "h": floats(1, 1, 128), "c": floats(1, 1, 128)}
        for length in (1, 7)
    ]
    return {
        "magika": Model(magika, [{"bytes": contents[:1]}, {"bytes": contents}]),
        "ocr_detector": Model(
            ocr / "ch_PP-OCRv4_det_infer.onnx",
            [image(64, 64), image(96, 160), image(96, 160), image(736, 960)],
        ),
        "ocr_recogniser": Model(
            ocr / "ch_PP-OCRv4_rec_infer.onnx",
            [image(48, 320), image(48, 320), image(48, 320, 6), image(48, 511)],
        ),
        "ocr_classifier": Model(
            ocr / "ch_ppocr_mobile_v2.0_cls_infer.onnx",
            [image(48, 192), image(48, 192), image(48, 192, 6)],
        ),
        "vad": Model(vad / "silero_vad.onnx", both),
        "vad_op15": Model(vad / "silero_vad_16k_op15.onnx", wide),
        "vad_ifless": Model(vad / "silero_vad_op18_ifless.onnx", both),
        "vad_half": Model(vad / "silero_vad_half.onnx", [speech(576), speech(576), speech(512, None, 3)]),
        "vad_one": Model(vad / "silero_vad_openvino_16k.onnx", [speech(576), speech(576)]),
        "vad_sequence": Model(vad / "silero_vad_16k_sequence.onnx", sequence),
    }


def exports(folder):
    """What exporters write here and now."""
    return sklearn_exports() | boosted_exports() | quantised_exports(folder)


def sklearn_exports():
    from skl2onnx import to_onnx  # noqa: PLC0415 - slow to import
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType  # noqa: PLC0415
    from sklearn import (  # noqa: PLC0415
        ensemble,
        linear_model,
        neighbors,
        pipeline,
        preprocessing,
    )

    rows = floats(60, 4)
    labels = (rows.sum(axis=1) > 0).astype(int)
    words = np.array([["red", "a"], ["green", "b"], ["blue", "a"], ["red", "b"]] * 5, object)
    forest = ensemble.RandomForestClassifier(8, random_state=1).fit(rows, labels)
    regressor = pipeline.make_pipeline(
        preprocessing.StandardScaler(), ensemble.GradientBoostingRegressor(random_state=1)
    ).fit(rows, rows @ [1, 2, 3, 4])
    text = pipeline.make_pipeline(
        preprocessing.OneHotEncoder(handle_unknown="ignore"), linear_model.LogisticRegression()
    ).fit(words, (words[:, 0] == "red").astype(int))
    near = neighbors.KNeighborsClassifier(3).fit(rows, labels)
    number = [("X", FloatTensorType([None, 4]))]
    requests = [{"X": rows[:1]}, {"X": rows[1:2]}, {"X": rows[:7]}]
    maps = {"output_probability": "output_probability"}
    return {
        "sk_forest": Model(to_onnx(forest, initial_types=number), requests, maps=maps),
        "sk_regressor": Model(to_onnx(regressor, initial_types=number), requests),
        "sk_neighbours": Model(to_onnx(near, initial_types=number), requests, maps=maps),
        "sk_words": Model(
            to_onnx(text, initial_types=[("X", StringTensorType([None, 2]))]),
            [{"X": words[:1]}, {"X": words[:3]}, {"X": np.array([["?", "a"]], object)}],
            maps=maps,
        ),
    }


def boosted_exports():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lightgbm  # noqa: PLC0415
        import xgboost  # noqa: PLC0415
        from onnxmltools import convert_lightgbm, convert_xgboost  # noqa: PLC0415
        from onnxmltools.convert.common.data_types import FloatTensorType  # noqa: PLC0415

        rows = floats(60, 4)
        labels = rows[:, :3].argmax(axis=1)
        number = [("X", FloatTensorType([None, 4]))]
        light = lightgbm.LGBMClassifier(n_estimators=8, verbose=-1).fit(rows, labels)
        extreme = xgboost.XGBRegressor(n_estimators=8).fit(rows, rows @ [1, 2, 3, 4])
        requests = [{"X": rows[:1]}, {"X": rows[1:2]}, {"X": rows[:7]}]
        return {
            "lightgbm": Model(
                convert_lightgbm(light, initial_types=number),
                requests,
                maps={"probabilities": "probabilities"},
            ),
            "xgboost": Model(convert_xgboost(extreme, initial_types=number), requests),
        }


def dense(kind=TensorProto.FLOAT):
    """Two layers with an open number of rows."""
    weights = [("a", floats(16, 32)), ("b", floats(32, 4))]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "a"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "b"], ["y"]),
        ],
        "dense",
        [helper.make_tensor_value_info("x", kind, ["batch", 16])],
        [helper.make_tensor_value_info("y", kind, ["batch", 4])],
        [numpy_helper.from_array(value, name) for name, value in weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def scaled():
    """`x` times a factor that has a default."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "scaled",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("factor", TensorProto.FLOAT, []),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.array(2, np.float32), "factor")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def quantised_exports(folder):
    from onnxconverter_common import float16  # noqa: PLC0415
    from onnxruntime import quantization  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    plain, dynamic, static = (folder / f"{name}.onnx" for name in ("plain", "dynamic", "static"))
    onnx.save(dense(), plain)
    rows = floats(20, 16)

    class Calibration(quantization.CalibrationDataReader):
        def __init__(self):
            self.rows = iter({"x": rows[at : at + 1]} for at in range(len(rows)))

        def get_next(self):
            return next(self.rows, None)

    quantization.quantize_dynamic(plain, dynamic)
    quantization.quantize_static(plain, static, Calibration())
    requests = [{"x": rows[:1]}, {"x": rows[1:2]}, {"x": rows[:6]}]
    halves = [{"x": request["x"].astype(np.float16)} for request in requests]
    return {
        "int8_dynamic": Model(dynamic, requests, alone="activations are quantised"),
        "int8_dynamic_allowed": Model(dynamic, requests[:1], settings={"batch_dependent": True}),
        "int8_static": Model(static, requests),
        "optional": Model(
            scaled(), [{"x": rows[:1, :3]}, {"x": rows[:2, :3], "factor": np.array(5, np.float32)}]
        ),
        "fp16": Model(float16.convert_float_to_float16(dense()), halves),
    }
