"""The API's manual as a page of our own: no script, nothing from a CDN, every page's strict headers."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from siftline.web.html import PageRoute, page

router = APIRouter(route_class=PageRoute, include_in_schema=False)

REF = "#/components/schemas/"
BRANCHES = ("anyOf", "oneOf", "allOf")


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent or answered in one media type; `schema` names an entry of the list of schemas."""

    media_type: str
    schema: str


@dataclass(frozen=True, slots=True)
class Answer:
    """`problems` says what is wrong when it is an error, and is empty when it is none."""

    status: str
    bodies: list[Body]
    problems: str


@dataclass(frozen=True, slots=True)
class Operation:
    method: str
    path: str
    tag: str
    summary: str
    parameters: list[Mapping[str, Any]]
    bodies: list[Body]
    answers: list[Answer]


@router.get("/docs")
async def show_manual(request: Request) -> HTMLResponse:
    document = request.app.openapi()
    tags: dict[str, list[Operation]] = {}
    for operation in _operations(document):
        tags.setdefault(operation.tag, []).append(operation)
    schemas = {
        name: json.dumps(schema, indent=2, ensure_ascii=False)
        for name, schema in sorted(document["components"]["schemas"].items())
    }
    return page(request, "manual.html", info=document["info"], tags=tags, schemas=schemas)


def _operations(document: Mapping[str, Any]) -> Iterator[Operation]:
    for path, operations in document["paths"].items():
        for method, told in operations.items():
            yield Operation(
                method=method.upper(),
                path=path,
                tag=told["tags"][0],
                summary=(told.get("description") or told["summary"]).replace("`", ""),
                parameters=[_parameter(one) for one in told.get("parameters", [])],
                bodies=_bodies(told.get("requestBody", {})),
                answers=[_answer(status, answer) for status, answer in told["responses"].items()],
            )


def _parameter(told: Mapping[str, Any]) -> Mapping[str, Any]:
    meaning = told.get("description", "").replace("`", "")
    return {**told, "type": words_of(told["schema"]), "description": meaning}


def _answer(status: str, told: Mapping[str, Any]) -> Answer:
    problems = told["description"].replace("`", "") if status[0] in "45" else ""
    return Answer(status, _bodies(told), problems)


def _bodies(told: Mapping[str, Any]) -> list[Body]:
    return [Body(kind, words_of(of.get("schema", {}))) for kind, of in told.get("content", {}).items()]


def words_of(schema: Mapping[str, Any]) -> str:
    """A JSON schema in a word or two."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(REF)
    for branch in BRANCHES:
        if branch in schema:
            named = (words_of(one) for one in schema[branch])
            return " or ".join(word for word in named if word != "null")
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "properties" in schema:
        return ", ".join(schema["properties"])
    kind = str(schema.get("const") or schema.get("type", "anything"))
    if kind == "array":
        return f"list of {words_of(schema.get('items', {}))}"
    return str(schema.get("format", kind))
