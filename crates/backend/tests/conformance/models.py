"""Writes models that must load: `models.py DIRECTORY`, one file each.

The names of those that are exports of scikit-learn begin with `sklearn_`, of the ONNX project's
stored image classifiers with `light_`.
"""

import os
import sys
import warnings

import onnx
from onnx.backend.test.loader import DATA_DIR

import sources


def main():
    directory = sys.argv[1]
    os.makedirs(directory, exist_ok=True)
    warnings.simplefilter("ignore")
    for name, model, _ in sources.sklearn_models():
        onnx.save(model, os.path.join(directory, f"sklearn_{name}.onnx"))
    light = os.path.join(DATA_DIR, "light")
    for name in sorted(os.listdir(light)):
        if name.endswith(".onnx"):
            model = onnx.load(os.path.join(light, name))
            onnx.save(model, os.path.join(directory, f"light_{name.removeprefix('light_')}"))


if __name__ == "__main__":
    main()
