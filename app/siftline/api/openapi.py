"""The OpenAPI document says what is true: every error is a problem, uploads are multipart."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from siftline.access.gate import is_open
from siftline.api.problems import complete
from siftline.imaging import MEDIA_TYPES
from siftline.schemas import DatasetFromSource, Problem

KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
}
REF = "#/components/schemas/{model}"
BINARY = {"type": "string", "format": "binary"}
FILES = {"type": "array", "items": BINARY, "minItems": 1}
BATCH = {
    "type": "object",
    "properties": {"files": FILES},
    "required": ["files"],
    "additionalProperties": False,
}
UPLOAD = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": r"^[^\x00-\x1f\x7f]*$"},
        "options": {"$ref": REF.format(model="DatasetOptions")},
        "files": FILES,
    },
    "required": ["name", "files"],
    "additionalProperties": False,
}


def install(app: FastAPI) -> None:
    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    schemas = document["components"]["schemas"]
    for never_answered in ("HTTPValidationError", "ValidationError"):
        schemas.pop(never_answered, None)
    for model in (Problem, DatasetFromSource):
        described = model.model_json_schema(ref_template=REF)
        schemas |= described.pop("$defs", {}) | {model.__name__: described}
    document["components"]["securitySchemes"] = KEYS
    document["security"] = [{name: []} for name in KEYS]
    for path, kinds in {
        "/datasets": {
            "multipart/form-data": {
                "schema": UPLOAD,
                "encoding": {"options": {"contentType": "application/json"}},
            },
            "application/json": {"schema": {"$ref": REF.format(model="DatasetFromSource")}},
        },
        "/datasets/{dataset_id}/images": {"multipart/form-data": {"schema": BATCH}},
        "/detectors/{detector_id}/score": {
            "multipart/form-data": {"schema": BATCH},
            **{kind: {"schema": BINARY} for kind in (*MEDIA_TYPES.values(), "application/octet-stream")},
        },
    }.items():
        document["paths"][path]["post"]["requestBody"] = {"required": True, "content": kinds}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if is_open(path):
                operation["security"] = []
            complete(path, operation)
    return document
