"""Whose rows a session sees. The one place that keeps workspaces apart.

A session made by `scoped` meets only its workspace, whatever it asks: SQLAlchemy adds the condition to every
SELECT, UPDATE and DELETE of the entities below, so a query that somebody writes tomorrow is kept apart, too.
Rows deeper down (items of a version, artifacts, scores) are reached through one of these. Workers and the
sweeper have sessions without a scope: they serve everybody.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import ColumnElement, exists
from sqlalchemy.orm import ORMExecuteState, Session, sessionmaker, with_loader_criteria
from sqlalchemy.orm.util import LoaderCriteriaOption

from siftline.domain.keys import DEFAULT_WORKSPACE
from siftline.store.audit import Deed
from siftline.store.models import (
    ApiKey,
    AuditEntry,
    Base,
    Dataset,
    Detector,
    Image,
    Job,
    Purification,
    Receipt,
    ReviewBatch,
)

OF_DATASETS = (Image, Job, Detector, Purification, Receipt, ReviewBatch)
OF_ADMINS = (ApiKey, AuditEntry)


@dataclass(frozen=True, slots=True)
class Scope:
    """A workspace; `owner`: with the keys and the log of all of them, as who runs the installation has."""

    workspace: str
    owner: bool = False


def scoped(sessions: sessionmaker[Session], scope: Scope, deed: Deed | None = None) -> sessionmaker[Session]:
    """The same sessions, kept to a workspace; what they commit is logged as `deed`.

    They must come from `store.session.session_factory`.
    """
    kept = copy(sessions)  # shares the class that the events hang on
    kept.kw = sessions.kw | {"info": {"scope": scope} | ({} if deed is None else {"deed": deed})}
    return kept


def workspace_of(session: Session) -> str:
    """Where a new dataset belongs."""
    scope: Scope | None = session.info.get("scope")
    return DEFAULT_WORKSPACE if scope is None else scope.workspace


def keep_to_workspace(state: ORMExecuteState) -> None:
    """Listens to `do_orm_execute`."""
    scope: Scope | None = state.session.info.get("scope")
    if scope is not None and not state.is_insert and not state.is_column_load:
        state.statement = state.statement.options(*_conditions(scope))


@lru_cache(1024)
def _conditions(scope: Scope) -> Sequence[LoaderCriteriaOption]:
    mine: list[tuple[type[Base], ColumnElement[bool]]] = [(Dataset, Dataset.workspace == scope.workspace)]
    for entity in OF_DATASETS:
        # An alias of the table: a query may join datasets itself, and this condition is not to be scoped.
        dataset = Dataset.__table__.alias(f"owner_of_{entity.__tablename__}")
        belongs = exists().where(dataset.c.id == entity.dataset_id, dataset.c.workspace == scope.workspace)
        mine.append((entity, belongs.correlate_except(dataset)))
    if not scope.owner:
        mine += [(entity, entity.workspace == scope.workspace) for entity in OF_ADMINS]
    return [with_loader_criteria(entity, condition, include_aliases=True) for entity, condition in mine]
