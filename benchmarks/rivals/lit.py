"""LitServe with batches of 32 and a timeout of 5 ms, as its documentation advises."""

import sys
from typing import Any

import litserve
import numpy as np
from fastapi import Request

from mcm import build_detector, define, load_encoder, load_image


class Scorer(litserve.LitAPI):  # type: ignore[misc]
    """Decode and prepare by request, one forward a batch."""

    encoder_spec = ""
    concepts: tuple[str, ...] = ()

    def setup(self, device: str) -> None:
        self.encoder = load_encoder(self.encoder_spec)
        self.detector = build_detector(define(self.concepts), self.encoder)
        self.encoder.warmup()

    def decode_request(self, request: Request) -> Any:
        return self.encoder.prepare(load_image(request["images"].file.read()))

    def predict(self, pixels: Any) -> Any:
        return self.detector.judge(self.encoder.encode_images(np.stack(pixels)))

    def encode_response(self, verdict: Any) -> dict[str, object]:
        return {"score": verdict.score, "concept": verdict.concept}


if __name__ == "__main__":
    spec, port, *concepts = sys.argv[1:]
    api = Scorer(max_batch_size=32, batch_timeout=0.005, api_path="/score")
    api.encoder_spec, api.concepts = spec, tuple(concepts)  # of the object: the worker is another process
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="error")
