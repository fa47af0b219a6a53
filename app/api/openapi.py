"""The OpenAPI document: request bodies in both kinds, and problems, declared from the wire models."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from mcm import wire

REF = "#/components/schemas/{model}"
REQUESTS: list[type[wire.Request]] = [
    wire.NewDetector,
    wire.ReplacedDetector,
    wire.ConceptsToCheck,
    wire.ScoreRequest,
    wire.OneShotRequest,
    wire.CalibrateRequest,
    wire.ThresholdRequest,
    wire.EmbedRequest,
    wire.DetectorFile,
]
PROBLEM = {
    "description": "A problem (RFC 9457): what was wrong and what to do",
    "content": {"application/problem+json": {"schema": {"$ref": REF.format(model="Problem")}}},
}


def request_body(model: type[wire.Request]) -> dict[str, Any]:
    """What an operation adds to declare that it reads `model` as JSON and, with images, as multipart."""
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": REF.format(model=model.__name__)}}}
    if issubclass(model, wire.Images):
        content["multipart/form-data"] = {"schema": multipart_schema(model)}
    return {"requestBody": {"required": True, "content": content}}


def multipart_schema(model: type[wire.Images]) -> dict[str, Any]:
    """The form of `model`: the same fields, the images as files."""
    schema = model.model_json_schema(ref_template=REF)
    files = {"type": "array", "items": {"type": "string", "format": "binary"}}
    return {"type": "object", "properties": {**schema["properties"], "images": files}}


def describe(app: FastAPI) -> None:
    """Make `app.openapi` tell of request bodies and problems."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def document(app: FastAPI) -> dict[str, Any]:
    """The whole OpenAPI document."""
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    models: list[type[BaseModel]] = [*REQUESTS, wire.Problem]
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=REF)
    components = schema.setdefault("components", {}).setdefault("schemas", {})
    for name, definition in definitions["$defs"].items():
        components.setdefault(name, definition)
    for path in schema["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = PROBLEM
    return schema
