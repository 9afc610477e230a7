"""The OpenAPI document tells the truth: every route is called with what it allows and what it forbids.

All of schemathesis' checks are on: also that a request without its key, or with a wrong one, is refused.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup

from siftline.store import workers
from siftline.store.session import make_engine, session_factory, transaction
from tests.integration.api.conftest import is_problem
from tests.integration.api.documented import DocumentedClient, pattern_of
from tests.integration.api.server import Server

KEY = "k" * 40
AUTH = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The document of a server that has everything it needs, so that no 5xx is excused."""
    server = Server(
        tmp_path_factory.mktemp("openapi"), max_wait_s=0.01, lease_s=600, api_key=KEY, rate_burst=10**6
    )
    server.start()
    engine = make_engine(server.settings.sqlalchemy_url)
    with transaction(session_factory(engine)) as session:
        workers.beat(session, "w")
    engine.dispose()
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json", headers=AUTH)
    # the stream of a job that is not finished does not end
    yield schema.exclude(path_regex="/events$")
    server.kill()


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_route_does_what_the_document_says(document: Any, mode: GenerationMode) -> None:
    for operation in (result.ok() for result in document.get_all_operations()):
        takes_something = {"parameters", "requestBody"} & set(operation.definition.raw)
        if takes_something or mode is GenerationMode.POSITIVE:
            call_with_examples(operation, mode)


def call_with_examples(operation: Any, mode: GenerationMode) -> None:
    @settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(generation_mode=mode))
    def call(case: Any) -> None:
        if mode is GenerationMode.POSITIVE:
            if "Idempotency-Key" in case.headers:
                case.headers["Idempotency-Key"] = uuid4().hex  # with another body it is refused on purpose
            case.query.pop("cursor", None)  # a list takes its own cursors only
        case.call_and_validate(headers=AUTH)

    call()


def test_the_check_that_keys_are_asked_for_would_notice_if_they_were_not(tmp_path: Path) -> None:
    server = Server(tmp_path)  # without any key it serves this machine, whatever the document says
    server.start()
    try:
        open_to_all = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        with pytest.raises(FailureGroup) as failed:
            open_to_all["/datasets"]["GET"].Case().call_and_validate(headers=AUTH)
        assert [type(failure).__name__ for failure in failed.value.exceptions] == ["IgnoredAuth"]
    finally:
        server.kill()


def test_every_error_is_documented_by_its_status_as_a_problem(document: Any) -> None:
    for path, operations in document.raw_schema["paths"].items():
        for method, operation in operations.items():
            errors = {status: told for status, told in operation["responses"].items() if status[0] in "45"}
            assert {"403", "500"} <= set(errors), (method, path)
            assert not {"4XX", "5XX"} & set(errors), (method, path)
            for status, told in errors.items():
                assert list(told["content"]) == ["application/problem+json"], (method, path, status)


def test_a_user_finds_by_status_what_may_be_wrong_and_whether_to_wait(document: Any) -> None:
    told = document.raw_schema["paths"]["/datasets/{dataset_id}/purified"]["get"]["responses"]
    assert {"400", "401", "403", "404", "409", "422", "429", "500", "503"} < set(told)
    assert "`purification-not-ready`" in told["409"]["description"]
    assert [status for status, answer in told.items() if "Retry-After" in answer.get("headers", {})] == [
        "409",
        "429",
        "503",
    ]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_client_of_these_tests_notices_an_answer_that_is_not_documented(
    api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/datasets/{uuid4()}"
    assert is_problem(api.get(path), 404, "not-found")
    documented: list[dict[str, Any]] = [{"200": {}}, {"404": problem_of("conflict")}]
    for told in documented:
        told_of_all = [(pattern_of("/datasets/{dataset_id}"), {"get": {"responses": told}})]
        monkeypatch.setattr(DocumentedClient, "paths", told_of_all)
        with pytest.raises(AssertionError, match="documented are"):
            api.get(path)


def problem_of(code: str) -> dict[str, Any]:
    types = {"properties": {"type": {"enum": [f"urn:siftline:problem:{code}"]}}}
    return {"content": {"application/problem+json": {"schema": types}}}
