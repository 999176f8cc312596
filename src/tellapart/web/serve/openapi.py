"""The description of the server's interface in OpenAPI, with examples."""

from __future__ import annotations

from typing import Any

from tellapart.core.text import visible
from tellapart.core.version import __version__
from tellapart.deploy.bundle.read import Bundle
from tellapart.web.serve.bodies import MOST_BYTES, MOST_PICTURES

_BINARY = {"type": "string", "format": "binary"}


def openapi(bundle: Bundle, name: str, with_token: bool) -> dict[str, Any]:
    """The description, as plain values.

    Args:
        bundle: whose classes stand in the examples.
        name: of the model, for the open inference protocol.
        with_token: whether requests must bring one.
    """
    answer = {"$ref": "#/components/schemas/Answer"}
    listed = {"type": "array", "items": answer}
    several = {"type": "object", "required": ["answers"], "properties": {"answers": listed}}
    model = f"/v2/models/{name}"
    description: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "A classifier of pictures", "version": __version__},
        "paths": {
            "/v1/predict": {
                "post": {
                    "summary": "Answer one picture, or several",
                    "operationId": "predict",
                    "parameters": _PARAMETERS,
                    "requestBody": _pictures(f"At most {MOST_BYTES / 1e6:.0f} MB and {MOST_PICTURES} pictures."),
                    "responses": {
                        "200": _of("The answer, or the answers to a form's files.", {"oneOf": [answer, several]}),
                        **_errors("400", "413", "415", "422", "429"),
                    },
                }
            },
            "/v1/explain": {
                "post": {
                    "summary": "Show why a picture is answered as it is",
                    "operationId": "explain",
                    "requestBody": _pictures("One picture."),
                    "responses": {
                        "200": _of("Maps over the picture, and the most similar training pictures.", _EXPLANATION),
                        **_errors("400", "404", "413", "415", "422", "429", "501", "503"),
                    },
                }
            },
            "/v1/correction": {
                "post": {
                    "summary": "Say what a picture that is kept really shows",
                    "operationId": "correct",
                    "requestBody": {"required": True, "content": {"application/json": {"schema": _correction(bundle)}}},
                    "responses": {
                        "200": _of("It is written down.", {"type": "object"}),
                        **_errors("400", "404", "409", "413", "415", "429"),
                    },
                }
            },
            "/v1/model": {"get": _get("Classes, scores and limits of the model", {"type": "object"})},
            "/healthz": {"get": _get("Whether it lives", {"type": "object"})},
            "/readyz": {"get": _get("Whether it can answer", {"type": "object"})},
            "/metrics": {"get": {"summary": "Counts for Prometheus", "responses": {"200": _METRICS}}},
            "/v2": {"get": _get("The server, by the open inference protocol", {"type": "object"})},
            "/v2/health/live": {"get": _get("Whether it lives", {"type": "object"})},
            "/v2/health/ready": {"get": _get("Whether it can answer", {"type": "object"})},
            model: {"get": _get("Tensors of the model, by the open inference protocol", {"type": "object"})},
            f"{model}/ready": {"get": _get("Whether the model can answer", {"type": "object"})},
            f"{model}/infer": {"post": _INFER},
        },
        "components": {"schemas": {"Answer": _answer(bundle)}},
    }
    if with_token:
        description["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        description["security"] = [{"token": []}]
        for operation in (o for path in description["paths"].values() for o in path.values()):
            operation["responses"] |= _errors("401")
    return description


def _pictures(limit: str) -> dict[str, Any]:
    several = {"type": "object", "properties": {"pictures": {"type": "array", "items": _BINARY}}}
    kinds = {"application/octet-stream": _BINARY, "image/*": _BINARY, "multipart/form-data": several}
    content = {kind: {"schema": schema} for kind, schema in kinds.items()}
    return {"required": True, "description": limit, "content": content}


_ERROR = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
_REASONS = {
    "400": "A parameter, a form or a body that cannot be used.",
    "401": "A token is needed.",
    "404": "There is no such thing here; the reason is said.",
    "409": "There is no room for more.",
    "413": "Too many bytes or pictures.",
    "415": "A body of a type that is not taken.",
    "422": "The picture cannot be read; the reason is said.",
    "429": "Too many pictures wait. Retry-After says when to come again.",
    "501": "The server lacks what this needs; the reason is said.",
    "503": "Not now; the reason is said. Retry-After says when to come again, where that helps.",
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


def _errors(*statuses: str) -> dict[str, Any]:
    return {status: _of(_REASONS[status], _ERROR) for status in statuses}


def _get(text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"summary": text, "responses": {"200": _of(text, schema)}}


_METRICS = {"description": "Text.", "content": {"text/plain": {"schema": {"type": "string"}}}}
_EXPLANATION = {
    "type": "object",
    "required": ["picture", "maps", "alike", "notes"],
    "properties": {
        "picture": {"type": "string", "description": "As the network sees it, as the address of a JPEG: data:…"},
        "maps": {"type": "array", "items": {"type": "object"}, "description": "label, picture and note of each."},
        "method": {"type": ["string", "null"]},
        "alike": {"type": "array", "items": {"type": "object"}, "description": "labels, similarity and picture."},
        "notes": {"type": "array", "items": {"type": "string"}},
    },
}
_INFER = {
    "summary": "Answer pictures, by the open inference protocol",
    "description": "JSON, and behind it binary tensors; Inference-Header-Content-Length says where they begin. "
    "The input is `pictures` of BYTES [n], the contents of files.",
    "operationId": "infer",
    "parameters": [
        {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "required": False,
            "description": "Bytes of the JSON; 0: the body is one picture.",
            "schema": {"type": "integer", "minimum": 0},
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": _BINARY},
            "application/json": {"schema": {"type": "object"}},
        },
    },
    "responses": {
        "200": {
            "description": "The tensors label, certainty, probabilities and unknown.",
            "content": {
                "application/json": {"schema": {"type": "object"}},
                "application/octet-stream": {"schema": _BINARY},
            },
        },
        **_errors("400", "413", "415", "422", "429"),
    },
}


def _correction(bundle: Bundle) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["stored_as", "labels"],
        "properties": {
            "stored_as": {"type": "string", "description": "As the answer had it."},
            "labels": {"type": "array", "items": {"type": "string"}, "description": "None: it shows no class."},
        },
        "example": {"stored_as": f"{64 * '0'}.jpg", "labels": [visible(bundle.classes[0])]},
    }


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
            "stored_as": {**text_or_null, "description": "With --keep: the file's name; null: there was no room."},
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
