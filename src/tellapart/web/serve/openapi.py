"""The description of the server's interface in OpenAPI, with examples."""

from __future__ import annotations

from typing import Any

from tellapart.core.text import visible
from tellapart.core.version import __version__
from tellapart.deploy.bundle.read import Bundle
from tellapart.web.serve.bodies import MOST_BYTES, MOST_PICTURES

_BINARY = {"type": "string", "format": "binary"}


def openapi(bundle: Bundle, with_token: bool) -> dict[str, Any]:
    """The description, as plain values.

    Args:
        bundle: whose classes stand in the examples.
        with_token: whether requests must bring one.
    """
    answer = {"$ref": "#/components/schemas/Answer"}
    several = {"type": "object", "properties": {"answers": {"type": "array", "items": answer}}}
    description: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "A classifier of pictures", "version": __version__},
        "paths": {
            "/v1/predict": {
                "post": {
                    "summary": "Answer one picture, or several",
                    "operationId": "predict",
                    "parameters": _PARAMETERS,
                    "requestBody": {
                        "required": True,
                        "description": f"At most {MOST_BYTES / 1e6:.0f} MB and {MOST_PICTURES} pictures.",
                        "content": {
                            "application/octet-stream": {"schema": _BINARY},
                            "image/*": {"schema": _BINARY},
                            "multipart/form-data": {
                                "schema": {
                                    "type": "object",
                                    "properties": {"pictures": {"type": "array", "items": _BINARY}},
                                }
                            },
                        },
                    },
                    "responses": {
                        "200": _of("The answer, or the answers to a form's files.", {"oneOf": [answer, several]}),
                        **{status: _of(text, _ERROR) for status, text in _ERRORS.items()},
                    },
                }
            },
            "/v1/model": {"get": _get("Classes, scores and limits of the model", {"type": "object"})},
            "/healthz": {"get": _get("Whether it lives", {"type": "object"})},
            "/readyz": {"get": _get("Whether it can answer", {"type": "object"})},
            "/metrics": {"get": {"summary": "Counts for Prometheus", "responses": {"200": {"description": "Text."}}}},
        },
        "components": {"schemas": {"Answer": _answer(bundle)}},
    }
    if with_token:
        description["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        description["security"] = [{"token": []}]
    return description


_ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
_ERRORS = {
    "400": "A parameter, a form or a body that cannot be used.",
    "413": "Too many bytes or pictures.",
    "415": "Another type than a picture or a form.",
    "422": "The picture cannot be read; the reason is said.",
    "429": "Too many pictures wait. Retry-After says when to come again.",
}
_PARAMETERS = [
    {"name": name, "in": "query", "required": False, "description": text, "schema": schema}
    for name, text, schema in (
        ("top", "How many labels an answer lists.", {"type": "integer", "minimum": 1, "maximum": 999999999}),
        ("coverage", "Give sets that hold the right class with this probability.", {"type": "number"}),
        ("unknown", "Whether pictures unlike all classes are answered with “unknown”.", {"type": "boolean"}),
    )
]


def _of(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


def _get(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"summary": text, "responses": {"200": _of(text, schema)}}


def _answer(bundle: Bundle) -> dict[str, Any]:
    first = visible(bundle.classes[0])
    text_or_null = {"type": ["string", "null"]}
    return {
        "type": "object",
        "required": ["path", "label", "chosen", "labels", "certainty"],
        "properties": {
            "path": {"type": "string", "description": "The file's name in a form."},
            "label": {"type": "string"},
            "chosen": {"type": "array", "items": {"type": "string"}},
            "labels": {"type": "object", "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1}},
            "certainty": {"type": ["number", "null"]},
            "problem": text_or_null,
            "candidates": {"type": "array", "items": {"type": "string"}},
            "ood_score": {"type": ["number", "null"]},
            "unknown": text_or_null,
        },
        "example": {
            "path": "new.jpg",
            "label": first,
            "chosen": [first],
            "labels": {first: 0.98},
            "certainty": 0.98,
            "problem": None,
            "candidates": [],
            "ood_score": 0.3,
            "unknown": None,
        },
    }
