"""The service that a tutorial would write: FastAPI, a sync endpoint, one image a forward."""

import sys

import uvicorn
from fastapi import FastAPI, UploadFile

from mcm import build_detector, define, load_encoder, load_image


def make(spec: str, concepts: list[str]) -> FastAPI:
    encoder = load_encoder(spec)
    detector = build_detector(define(concepts), encoder)
    encoder.warmup()
    app = FastAPI()

    @app.post("/score")
    def score(images: UploadFile) -> dict[str, object]:
        pixels = encoder.prepare(load_image(images.file.read()))
        verdict = detector.judge(encoder.encode_images(pixels[None]))[0]
        return {"score": verdict.score, "concept": verdict.concept}

    @app.get("/readyz")
    def ready() -> str:
        return "ready"

    return app


if __name__ == "__main__":
    spec, port, *concepts = sys.argv[1:]
    uvicorn.run(make(spec, concepts), port=int(port), log_level="error")
