"""`Idempotency-Key`: the same creating request, sent again, is answered again and not done again.

The answer is written in the transaction that does the work, so there is no claim to clean up after a crash.
Two requests with one key that run at the same time meet at the key's row: the later one is undone and gets
the answer of the earlier one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Header
from fastapi.responses import JSONResponse
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from siftline.domain.errors import Unprocessable
from siftline.store import idempotency
from siftline.store.session import now, reading, transaction

Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,200}$",
        description="Same key and body: same answer, done once.",
    ),
]


class IdempotencyKeyReused(Unprocessable):
    code = "idempotency-key-reused"
    title = "The key was used for another request"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: dict[str, Any]
    headers: dict[str, str]
    replayed: bool = False

    def response(self) -> JSONResponse:
        mark = {"Idempotency-Replayed": "true"} if self.replayed else {}
        return JSONResponse(self.body, self.status, self.headers | mark)


@dataclass(frozen=True, slots=True)
class Once:
    """One request under its key, if it has one; `request_hash` stands for its body."""

    sessions: sessionmaker[Session]
    key: str | None
    route: str
    request_hash: str

    def earlier(self) -> Answer | None:
        """The answer given before. Raises IdempotencyKeyReused if that was to another body."""
        if self.key is None:
            return None
        with reading(self.sessions) as session:
            kept = idempotency.find(session, self.key, self.route)
        if kept is None:
            return None
        if kept.request_hash != self.request_hash:
            raise IdempotencyKeyReused("This Idempotency-Key came with another body before.")
        return Answer(kept.status, kept.body, kept.headers, replayed=True)

    def do(self, work: Callable[[Session], Answer]) -> Answer:
        """Do the work and keep its answer in one transaction, or give the answer of whoever was faster."""
        try:
            with transaction(self.sessions) as session:
                answer = work(session)
                self._keep(session, answer)
        except IntegrityError:
            earlier = self.earlier()
            if earlier is None:
                raise
            return earlier
        return answer

    def _keep(self, session: Session, answer: Answer) -> None:
        if self.key is None:
            return
        idempotency.keep(
            session,
            key=self.key,
            route=self.route,
            request_hash=self.request_hash,
            status=answer.status,
            headers=dict(answer.headers),
            body=answer.body,
            created_at=now(session),
        )
