"""Trains the bundled digit classifier and writes it as ONNX, with its held-out images.

A small convolutional network on scikit-learn's 1797 handwritten digits of 8x8 grey levels,
trained with plain numpy: a fixed seed gives the same weights again.

    pip install -r requirements.txt
    python train.py

writes `../models/digits/1/model.onnx` and `test.json` beside this file.
"""

import json
from pathlib import Path

import numpy as np
import onnx
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 20
EPOCHS = 60
BATCH = 32
CHANNELS = 16
HIDDEN = 64
HERE = Path(__file__).resolve().parent


class Network:
    """3x3 convolution, Relu, 2x2 max-pool, dense, Relu, dense."""

    def __init__(self, rng):
        def he(*shape, inputs):
            return (rng.standard_normal(shape) * np.sqrt(2 / inputs)).astype(np.float32)

        pooled = CHANNELS * 4 * 4
        self.weights = {
            "conv.weight": he(CHANNELS, 1, 3, 3, inputs=9),
            "conv.bias": np.zeros(CHANNELS, np.float32),
            "hidden.weight": he(HIDDEN, pooled, inputs=pooled),
            "hidden.bias": np.zeros(HIDDEN, np.float32),
            "head.weight": he(10, HIDDEN, inputs=HIDDEN),
            "head.bias": np.zeros(10, np.float32),
        }

    def forward(self, images):
        """Logits of images [n, 1, 8, 8], and what the backward pass needs."""
        w = self.weights
        padded = np.pad(images[:, 0], ((0, 0), (1, 1), (1, 1)))
        patches = sliding_window_view(padded, (3, 3), axis=(1, 2)).reshape(len(images), 64, 9)
        kernel = w["conv.weight"].reshape(CHANNELS, 9)
        conv = patches @ kernel.T + w["conv.bias"]
        # [n, 4, 2, 4, 2, c]: the second and fourth axis are the pooling window.
        windows = np.maximum(conv, 0).reshape(len(images), 4, 2, 4, 2, CHANNELS)
        pooled = windows.max(axis=(2, 4))
        flat = pooled.transpose(0, 3, 1, 2).reshape(len(images), -1)
        hidden = np.maximum(flat @ w["hidden.weight"].T + w["hidden.bias"], 0)
        logits = hidden @ w["head.weight"].T + w["head.bias"]
        return logits, (patches, windows, pooled, flat, hidden)

    def gradients(self, images, labels):
        """Gradients of the mean cross-entropy."""
        w = self.weights
        logits, (patches, windows, pooled, flat, hidden) = self.forward(images)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        d_logits = shifted / shifted.sum(axis=1, keepdims=True)
        d_logits[np.arange(len(labels)), labels] -= 1
        d_logits /= len(labels)
        d_hidden = (d_logits @ w["head.weight"]) * (hidden > 0)
        d_flat = d_hidden @ w["hidden.weight"]
        d_pooled = d_flat.reshape(len(images), CHANNELS, 4, 4).transpose(0, 2, 3, 1)
        is_max = windows == pooled[:, :, None, :, None, :]
        d_windows = is_max * d_pooled[:, :, None, :, None, :] * (windows > 0)
        d_conv = d_windows.reshape(len(images) * 64, CHANNELS)
        return {
            "conv.weight": (d_conv.T @ patches.reshape(-1, 9)).reshape(CHANNELS, 1, 3, 3),
            "conv.bias": d_conv.sum(axis=0),
            "hidden.weight": d_hidden.T @ flat,
            "hidden.bias": d_hidden.sum(axis=0),
            "head.weight": d_logits.T @ hidden,
            "head.bias": d_logits.sum(axis=0),
        }


def train(network, images, labels, rng):
    """Adam with a learning rate that falls to zero along a cosine."""
    first = {name: np.zeros_like(w) for name, w in network.weights.items()}
    second = {name: np.zeros_like(w) for name, w in network.weights.items()}
    steps = EPOCHS * (len(images) // BATCH)
    step = 0
    for _ in range(EPOCHS):
        order = rng.permutation(len(images))
        for start in range(0, len(images) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            step += 1
            rate = 2e-3 * 0.5 * (1 + np.cos(np.pi * step / steps))
            for name, gradient in network.gradients(images[chosen], labels[chosen]).items():
                first[name] = 0.9 * first[name] + 0.1 * gradient
                second[name] = 0.999 * second[name] + 0.001 * gradient**2
                mean = first[name] / (1 - 0.9**step)
                spread = np.sqrt(second[name] / (1 - 0.999**step)) + 1e-8
                update = mean / spread + 1e-2 * network.weights[name]
                network.weights[name] -= (rate * update).astype(np.float32)


def export(network):
    """The network as an ONNX model: `image` [batch, 1, 8, 8] of 0..1 to `logits` [batch, 10]."""
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "conv.weight", "conv.bias"], ["conv"], "conv",
             kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1]),
        node("Relu", ["conv"], ["conv.relu"], "conv.relu"),
        node("MaxPool", ["conv.relu"], ["pool"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", ["pool"], ["flat"], "flat", axis=1),
        node("Gemm", ["flat", "hidden.weight", "hidden.bias"], ["hidden"], "hidden", transB=1),
        node("Relu", ["hidden"], ["hidden.relu"], "hidden.relu"),
        node("Gemm", ["hidden.relu", "head.weight", "head.bias"], ["logits"], "head", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(w, name) for name, w in network.weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="symphony"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def main():
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]
    train_x, test_x, train_y, test_y = train_test_split(
        images, digits.target, test_size=360, random_state=SEED, stratify=digits.target
    )
    rng = np.random.default_rng(SEED)
    network = Network(rng)
    train(network, train_x, train_y, rng)
    predicted = network.forward(test_x)[0].argmax(axis=1)
    print(f"held-out accuracy: {(predicted == test_y).mean():.4f} on {len(test_y)} images")

    path = HERE.parent / "models" / "digits" / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(export(network), path)
    # Grey levels stay the integers 0..16 the data set holds: image = pixels / 16.
    held_out = {
        "pixels": (test_x * 16).astype(int).reshape(len(test_x), 64).tolist(),
        "labels": test_y.tolist(),
    }
    (HERE / "test.json").write_text(json.dumps(held_out, separators=(",", ":")) + "\n")
    print(f"wrote {path} ({path.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
