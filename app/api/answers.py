"""Answers as HTTP responses."""

from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

from app.errors import headers_of, problem_of


def json_answer(model: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A wire model as JSON. Floats are written so that they read back the same."""
    return Response(
        model.model_dump_json(), status_code=status, headers=headers, media_type="application/json"
    )


def problem_response(error: Exception, request_id: str | None, **extensions: Any) -> Response:
    """An error as problem+json, with further members."""
    problem = problem_of(error, request_id)
    body = problem.model_copy(update=extensions).model_dump_json()
    return Response(
        body,
        status_code=problem.status,
        headers=headers_of(error),
        media_type="application/problem+json",
    )
