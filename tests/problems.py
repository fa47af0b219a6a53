"""The one error body: what every refusal looks like, whatever went wrong."""

import json
import re
from typing import Any

import httpx

MEMBERS = {"type", "title", "status", "detail", "instance"}


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The response is the RFC 9457 problem `/problems/{code}` with `status`; gives its body."""
    assert response.status_code == status, response.text
    problem = assert_is_problem(response)
    assert problem["type"] == f"/problems/{code}", problem
    return problem


def assert_is_problem(response: httpx.Response) -> dict[str, Any]:
    """The response is a problem of any kind that a client can cause, never a 500; gives its body."""
    problem: dict[str, Any] = json.loads(response.text)
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == response.status_code
    assert problem["instance"] == response.headers["x-request-id"]
    assert_problem_body(problem)
    return problem


def assert_problem_body(problem: dict[str, Any]) -> None:
    """A problem, alone or in the place of one image."""
    assert problem.keys() >= MEMBERS, problem
    assert re.fullmatch(r"/problems/[a-z]+(-[a-z]+)*", problem["type"]), problem
    assert 400 <= problem["status"] < 600, problem
    assert problem["status"] != 500, problem
    assert problem["title"].strip(), problem
    assert problem["detail"].strip(), problem
    assert problem["instance"], problem
    for sign in ("Traceback", 'File "', "\n", "pydantic", "sqlalchemy", "object at 0x"):
        assert sign not in problem["detail"], problem
