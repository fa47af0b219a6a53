"""LitServe with batches of 32 and a timeout of 5 ms, as its documentation advises."""

from typing import Any

import litserve
from fastapi import Request

from benchmarks.rivals.scorers import arguments


class Lit(litserve.LitAPI):  # type: ignore[misc]
    """Decode and prepare by request, one forward a batch."""

    def setup(self, device: str) -> None:
        make_scorer, _ = arguments()  # the worker is another process, with the same command line
        self.scorer = make_scorer()

    def decode_request(self, request: Request) -> Any:
        return self.scorer.prepare(request["images"].file.read())

    def batch(self, inputs: list[Any]) -> Any:
        return inputs

    def predict(self, inputs: Any) -> Any:
        return self.scorer.scores(inputs)

    def unbatch(self, output: Any) -> Any:
        return output

    def encode_response(self, output: dict[str, object]) -> dict[str, object]:
        return output


if __name__ == "__main__":
    _, port = arguments()
    api = Lit(max_batch_size=32, batch_timeout=0.005, api_path="/score")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="error")
