"""Calls the kserve client and prints what it gives, as JSON.

A program of its own, because kserve and tritonclient bring the same protocol under the same names
and cannot be imported together. Reads `{"http", "grpc", "model", "inputs", "floats"}` from standard
input; `floats` is the input of the model `echo`.
"""

import asyncio
import json
import sys

import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig


def request(asked, binary):
    inputs = []
    for name, values in asked["inputs"].items():
        array = np.array(values, np.int32)
        inputs.append(InferInput(name, list(array.shape), "INT32"))
        inputs[-1].set_data_from_numpy(array, binary_data=binary)
    return InferRequest(model_name=asked["model"], infer_inputs=inputs, request_id="request 7")


def floats(asked, binary):
    array = np.array(asked["floats"], np.float32)
    tensor = InferInput("x", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array, binary_data=binary)
    parameters = {"binary_data_output": True}
    return InferRequest(model_name="echo", infer_inputs=[tensor], parameters=parameters)


async def refused(call):
    try:
        return answer(await call)
    except httpx.HTTPStatusError as error:
        return str(error)


def answer(response):
    return {
        "id": response.id,
        "model": response.model_name,
        "outputs": {output.name: output.as_numpy().tolist() for output in response.outputs},
    }


async def rest(asked):
    address, model = f"http://{asked['http']}", asked["model"]
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:
        return {
            "live": await client.is_server_live(address),
            "ready": await client.is_server_ready(address),
            "model ready": await client.is_model_ready(address, model),
            "binary": answer(await client.infer(address, request(asked, True), model)),
            "values": answer(await client.infer(address, request(asked, False), model)),
            "binary floats": answer(await client.infer(address, floats(asked, True), "echo")),
            "values of floats": await refused(
                client.infer(address, floats(asked, False), "echo")
            ),
        }


async def version_1(asked):
    """Rows without shapes and types, as version 1 has them."""
    address, model = f"http://{asked['http']}", asked["model"]
    columns = asked["inputs"].items()
    count = len(next(iter(asked["inputs"].values())))
    rows = [{name: values[row] for name, values in columns} for row in range(count)]
    async with InferenceRESTClient(RESTConfig(protocol="v1", retries=0)) as client:
        return {
            "live": await client.is_server_live(address),
            "model ready": await client.is_model_ready(address, model),
            "rows": await client.infer(address, {"instances": rows}, model),
            "columns": await client.infer(address, {"inputs": asked["inputs"]}, model),
            "refused": await told(client.infer(address, {"instances": []}, model)),
        }


async def told(call):
    try:
        return await call
    except httpx.HTTPStatusError as error:
        return str(error)


async def grpc(asked):
    async with InferenceGRPCClient(asked["grpc"], retries=0) as client:
        return {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model ready": await client.is_model_ready(asked["model"]),
            "binary": answer(await client.infer(request(asked, True))),
            "values": answer(await client.infer(request(asked, False))),
            "binary floats": answer(await client.infer(floats(asked, True))),
            "values of floats": answer(await client.infer(floats(asked, False))),
        }


async def main():
    asked = json.load(sys.stdin)
    answers = {
        "rest": await rest(asked),
        "grpc": await grpc(asked),
        "version 1": await version_1(asked),
    }
    json.dump(answers, sys.stdout)


asyncio.run(main())
