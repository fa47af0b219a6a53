"""The service that a tutorial would write: FastAPI, a sync endpoint, one image a forward."""

import uvicorn
from fastapi import FastAPI, UploadFile

from benchmarks.rivals.scorers import Scorer, arguments


def make(scorer: Scorer) -> FastAPI:
    app = FastAPI()

    @app.post("/score")
    def score(images: UploadFile) -> dict[str, object]:
        return scorer.scores([scorer.prepare(images.file.read())])[0]

    @app.get("/readyz")
    def ready() -> str:
        return "ready"

    return app


if __name__ == "__main__":
    make_scorer, port = arguments()
    uvicorn.run(make(make_scorer()), port=port, log_level="error")
