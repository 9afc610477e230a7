"""A client of the API that fails a test as soon as an answer is none of those the OpenAPI document names."""

import re
from typing import Any, ClassVar

from fastapi.testclient import TestClient

PROBLEM = "application/problem+json"
TO_SIGN_IN = 303
"""What a browser gets on any path instead of a 401: pages are no part of the document."""
Operations = dict[str, Any]


class DocumentedClient(TestClient):
    paths: ClassVar[list[tuple[re.Pattern[str], Operations]]] = []
    """Of the document, which is the same whatever the settings: making it takes longer than most tests."""

    def send(self, request: Any, **more: Any) -> Any:
        answer = super().send(request, **more)
        first = answer.history[0] if answer.history else answer
        told = self.operation(first.request.method, first.request.url.path)
        if told is not None and first.status_code != TO_SIGN_IN:
            assert_documented(told["responses"], first)
        return answer

    def operation(self, method: str, path: str) -> dict[str, Any] | None:
        """The document's part on it; None where it promises nothing: of pages, and of other methods."""
        if not self.paths:
            document = self.app.openapi()  # type: ignore[attr-defined]  # it is our FastAPI application
            self.paths.extend((pattern_of(path), told) for path, told in document["paths"].items())
        found = (told for pattern, told in self.paths if pattern.fullmatch(path))
        operation: dict[str, Any] | None = next(found, {}).get(method.lower())
        return operation


def pattern_of(template: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)))


def assert_documented(responses: dict[str, Any], answer: Any) -> None:
    asked = f"{answer.request.method} {answer.request.url}"
    told = responses.get(str(answer.status_code))
    assert told is not None, f"{asked} answered {answer.status_code}; documented are {list(responses)}"
    if answer.headers.get("content-type") == PROBLEM:
        answer.read()
        types = told["content"][PROBLEM]["schema"]["properties"]["type"]["enum"]
        assert answer.json()["type"] in types, f"{asked} answered {answer.text}; documented are {types}"
        headers = {name for name in ("Retry-After", "WWW-Authenticate") if name in answer.headers}
        assert headers <= set(told.get("headers", {})), f"{asked} answered with {headers}"
