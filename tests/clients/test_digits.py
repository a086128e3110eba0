"""The whole system with a trained model and real images, in each mode."""

import asyncio

import numpy as np
import pytest
import tritonclient.grpc.aio as triton_grpc
import tritonclient.http.aio as triton_http
from tritonclient.utils import InferenceServerException

import models
import wire
from symphony import USUAL

# An answer just past its objective is the service working as it should on a busy machine; a
# client tries again.
TRIES = 20
# Requests under way per protocol.
TOGETHER = 8

MODES = ("adaptive", "consolidate", "eager")


def config(mode):
    return f'[scheduler]\nmode = "{mode}"\n{USUAL}'


@pytest.mark.parametrize("mode", MODES)
def test_predictions_equal_onnxruntimes(start, tmp_path, mode):
    path = models.copy_digits(tmp_path / "models", slo_ms=200, max_batch=16)
    images, labels = models.digits()
    expected = models.reference(path, image=images)["logits"]
    server = start(tmp_path / "models", config(mode))

    answers = asyncio.run(every_way(server, images))
    assert set(answers) == {"json", "binary", "grpc"}
    for way, logits in answers.items():
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4, err_msg=way)
        predicted = logits.argmax(axis=1)
        np.testing.assert_array_equal(predicted, expected.argmax(axis=1), err_msg=way)
        # The model is trained: most of what it says is true.
        assert (predicted == labels).mean() > 0.9


@pytest.mark.parametrize("mode", MODES)
def test_a_lone_client_is_served(start, tmp_path, mode):
    """From the first request on, when nothing has been measured yet but the model."""
    path = models.copy_digits(tmp_path / "models", slo_ms=200, max_batch=16)
    images, _ = models.digits()
    server = start(tmp_path / "models", config(mode))
    in_time = 0
    for image in images[:20]:
        answer = wire.infer(server, "digits", wire.tensor(image[None], name="image"))
        assert answer.status in (200, 504), answer
        if answer.status == 200:
            in_time += 1
            expected = models.reference(path, image=image[None])["logits"][0]
            found = answer.outputs()["logits"]["data"]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    # All but a few; how few depends on what else the machine does.
    assert in_time >= 15


async def every_way(server, images):
    """The logits of all images by each way, all ways at once."""
    http = triton_http.InferenceServerClient(server.http, conn_limit=2 * TOGETHER)
    grpc = triton_grpc.InferenceServerClient(server.grpc)

    def over_http(binary):
        def send(image):
            x = triton_http.InferInput("image", list(image.shape), "FP32")
            x.set_data_from_numpy(image, binary_data=binary)
            y = triton_http.InferRequestedOutput("logits", binary_data=binary)
            return http.infer("digits", [x], outputs=[y])

        return send

    def over_grpc(image):
        x = triton_grpc.InferInput("image", list(image.shape), "FP32")
        x.set_data_from_numpy(image)
        return grpc.infer("digits", [x])

    async with http, grpc:
        ways = {"json": over_http(False), "binary": over_http(True), "grpc": over_grpc}
        logits = await asyncio.gather(*(one_way(send, images) for send in ways.values()))
        return dict(zip(ways, logits, strict=True))


async def one_way(send, images):
    places = asyncio.Semaphore(TOGETHER)

    async def one(image):
        async with places:
            return await until_in_time(send, image[None])

    return np.concatenate(await asyncio.gather(*(one(image) for image in images)))


async def until_in_time(send, image):
    for attempt in range(TRIES):
        try:
            return (await send(image)).as_numpy("logits")
        except InferenceServerException as error:
            late = error.status() in ("504", "StatusCode.DEADLINE_EXCEEDED")
            if not late or attempt == TRIES - 1:
                raise
    raise AssertionError("no attempt was made")
