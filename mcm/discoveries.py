"""The false discovery rate over a whole answer of the HTTP contract; the server and the SDK use it."""

from mcm import wire
from mcm.calibration import Calibration
from mcm.fdr import discover_images


def with_discoveries(
    answer: wire.ScoreAnswer, calibration: Calibration, q: float, method: wire.FdrMethod
) -> wire.ScoreAnswer:
    """The answer with `fdr`, and with `discovery` in the results of all images that have a score.

    Raises:
        NotCalibrated: there are no calibration scores.
    """
    scored = [(r.score, str(r.concept)) for r in answer.results if r.score is not None]
    scores, concepts = [score for score, _ in scored], [concept for _, concept in scored]
    made = discover_images(calibration, scores, concepts, q, method=method)
    marks = iter(made.found.tolist())
    results = [
        result if result.score is None else result.model_copy(update={"discovery": next(marks)})
        for result in answer.results
    ]
    summary = wire.Fdr(
        q=made.q,
        method=made.method,
        m=len(scored),
        discoveries=int(made.found.sum()),
        smallest_possible=made.smallest_possible,
    )
    cautions = (
        [] if made.caution is None else [wire.Notice(code="few-calibration-scores", message=made.caution)]
    )
    return answer.model_copy(
        update={"fdr": summary, "results": results, "warnings": [*answer.warnings, *cautions]}
    )
