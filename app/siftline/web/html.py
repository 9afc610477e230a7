"""Templates, the headers every page carries, and errors that people read."""

from collections.abc import Callable, Coroutine
from datetime import datetime
from importlib.metadata import version
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute
from jinja2 import Environment, PackageLoader, StrictUndefined

from siftline.access.principal import Role
from siftline.domain.errors import NotFound, SiftlineError
from siftline.web import words

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("siftline.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": words.count,
        "percent": words.percent,
        "moment": _moment,
    }
    environment.globals |= {"words": words, "app_version": version("siftline")}
    return environment


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="seconds")


_templates = _environment()


def page(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:
    """A rendered template. Templates know who asks: `who`, and what they may do: `may_decide`, `may_work`."""
    principal = request.scope["state"].get("principal")
    role = 0 if principal is None else principal.role
    body = _templates.get_template(template).render(
        who=None if principal is None else principal.name,
        workspace=None if principal is None else principal.workspace,
        may_decide=role >= Role.REVIEWER,
        may_work=role >= Role.OPERATOR,
        may_delete=role >= Role.ADMIN,
        **context,
    )
    return HTMLResponse(body, status, HEADERS)


class PageRoute(APIRoute):
    """A route whose errors are pages, too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        answer = super().get_route_handler()

        async def answer_or_explain(request: Request) -> Response:
            try:
                return await answer(request)
            except SiftlineError as error:
                return page(request, "error.html", error.status, error=error)
            except RequestValidationError:
                return page(request, "error.html", 404, error=NotFound("There is nothing at this address."))

        return answer_or_explain
