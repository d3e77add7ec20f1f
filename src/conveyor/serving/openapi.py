"""The service's description, as OpenAPI 3.1 has it."""

from __future__ import annotations

from typing import Any

from conveyor import __version__
from conveyor.runtime import Model
from conveyor.serving.limits import Limits


def description(model: Model, limits: Limits, locked: bool) -> dict[str, Any]:
    """What may be asked, with the model's own sizes."""
    number = {"type": "number"}
    row = {"type": "array", "items": number, "minItems": model.inputs, "maxItems": model.inputs}
    step = {"type": "integer", "minimum": 0, "maximum": model.tokens - 1} if model.tokens else row
    sequence = {"type": "array", "items": step, "maxItems": limits.steps}
    outputs = {
        "type": "array",
        "items": {"type": "array", "items": number, "minItems": model.outputs, "maxItems": model.outputs},
    }
    error = _json(
        {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}, "What is wrong."
    )
    asked = _object("sequences", {"type": "array", "items": sequence, "minItems": 1})
    predict = {
        "summary": "Outputs of whole sequences, step by step; nothing is remembered.",
        "requestBody": {"required": True, "content": {"application/json": {"schema": asked}}},
        "responses": {
            "200": _json(_object("outputs", {"type": "array", "items": outputs}), "Of each sequence."),
            "400": error, "413": error, **({"401": error} if locked else {}),
        },
    }  # fmt: skip
    told = {
        "/model": "What the model reads and gives.",
        "/health": "Whether the process is alive.",
        "/ready": "Whether it takes more: 200, else 503.",
        "/openapi.json": "This.",
    }
    paths = {
        path: {"get": {"summary": summary, "responses": {"200": _json({"type": "object"}, summary)}}}
        for path, summary in told.items()
    }
    metrics = {"get": {"summary": "Prometheus.", "responses": {"200": {"description": "Text."}}}}
    security: dict[str, Any] = {"security": [{"token": []}]} if locked else {}
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Conveyor: {model.task or 'a model'}", "version": __version__},
        "paths": {"/predict": {"post": predict | security}, **paths, "/metrics": metrics},
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}} if locked else {},
    }


def _object(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: schema}, "required": [name], "additionalProperties": False}


def _json(schema: dict[str, Any], what: str) -> dict[str, Any]:
    return {"description": what, "content": {"application/json": {"schema": schema}}}
