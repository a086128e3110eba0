"""Calls the kserve client under TLS with a key and prints what it gives, as JSON.

A program of its own for the same reason as `kserve_calls.py`. Reads `{"http", "grpc", "ca", "key"}`
from standard input; the model `affine` is asked.
"""

import asyncio
import json
import sys
from pathlib import Path

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig


def request():
    array = np.array([[1, 2, 3]], np.float32)
    tensor = InferInput("x", list(array.shape), "FP32")
    tensor.set_data_from_numpy(array, binary_data=False)
    return InferRequest(model_name="affine", infer_inputs=[tensor])


def values(response):
    return response.outputs[0].as_numpy().ravel().tolist()


async def calls(asked):
    address, bearer = f"https://{asked['http']}", f"Bearer {asked['key']}"
    config = RESTConfig(protocol="v2", retries=0, verify=asked["ca"])
    async with InferenceRESTClient(config) as client:
        headers = {"Authorization": bearer}
        rest = values(await client.infer(address, request(), "affine", headers=headers))
        try:
            without = await client.infer(address, request(), "affine")
        except httpx.HTTPStatusError as error:
            without = error.response.status_code
    credentials = grpc.ssl_channel_credentials(Path(asked["ca"]).read_bytes())
    async with InferenceGRPCClient(
        asked["grpc"], use_ssl=True, creds=credentials, retries=0
    ) as client:
        found = await client.infer(request(), headers=[("authorization", bearer)])
    return {"rest": rest, "grpc": values(found), "without": without}


print(json.dumps(asyncio.run(calls(json.load(sys.stdin)))))
