"""What people decide: made, taken back, listed. A decision outranks the machine's verdict everywhere."""

from collections.abc import Sequence
from typing import cast
from uuid import UUID

from sqlalchemy.orm import Session

from siftline import schemas
from siftline.dispatch import Bell, enqueue
from siftline.domain.errors import Conflict, NotFound, PreconditionFailed, Unprocessable
from siftline.domain.jobs import JobKind
from siftline.services import jobs as job_answers
from siftline.services import purification
from siftline.store import cursor, datasets, review_history, reviews
from siftline.store.models import Dataset, ReviewBatch
from siftline.store.reviews import Overruled
from siftline.store.selection import Filter
from siftline.store.session import now

MOST_NAMED = 1000


class AlreadyUndone(Conflict):
    code = "already-undone"
    title = "The decisions were taken back before"


class NothingToUndo(Conflict):
    code = "nothing-to-undo"
    title = "There is nothing of yours to take back"


def filter_of(selection: schemas.Selection) -> Filter:
    return Filter(**selection.model_dump(exclude={"version"}))


def decide(
    session: Session, dataset_id: UUID, new: schemas.NewReviews, *, by: str, since: int | None = None
) -> schemas.ReviewBatch:
    """One batch, whole or not at all. Of several decisions on one image in it the last one counts.

    `since`: the revision `by` had seen. Raises NotFound, Unprocessable for images of elsewhere,
    PurificationNotReady for a filter before there is a version, and PreconditionFailed when somebody else has
    decided on one of the images since then.
    """
    dataset = datasets.lock(session, dataset_id)
    if new.filter is not None and new.decision is not None:
        batch = _decide_all(session, dataset, new.filter, new.decision, by=by, since=since)
    else:
        decisions = {d.image_id: d.decision for d in new.decisions or ()}
        batch = _decide_each(session, dataset, decisions, by=by, since=since)
    return describe(batch, None)


def _decide_each(
    session: Session,
    dataset: Dataset,
    decisions: dict[UUID, schemas.DecisionWord],
    *,
    by: str,
    since: int | None,
) -> ReviewBatch:
    ids = list(decisions)
    if unknown := reviews.unknown(session, dataset.id, ids):
        errors = [
            {"loc": ["body", "decisions"], "msg": f"no image {image_id}", "type": "unknown_image"}
            for image_id in unknown[:MOST_NAMED]
        ]
        raise Unprocessable(f"{len(unknown)} images are not of this dataset; see `errors`.", errors=errors)
    if since is not None:
        _refuse(reviews.overruled_of(session, dataset.id, ids, since=since, by=by, limit=MOST_NAMED))
    words = set(decisions.values())
    batch = reviews.open_batch(session, dataset, by, decision=words.pop() if len(words) == 1 else None)
    reviews.decide_each(session, batch, decisions)
    return batch


def _decide_all(
    session: Session,
    dataset: Dataset,
    selection: schemas.Selection,
    decision: schemas.DecisionWord,
    *,
    by: str,
    since: int | None,
) -> ReviewBatch:
    version = purification.find(session, dataset.id, selection.version)
    wanted = filter_of(selection)
    if since is not None:
        found = reviews.overruled_in(
            session, dataset.id, version.id, wanted, since=since, by=by, limit=MOST_NAMED
        )
        _refuse(found)
    batch = reviews.open_batch(session, dataset, by, decision=decision)
    reviews.decide_all(session, batch, version.id, wanted, decision)
    return batch


def _refuse(overruled: Sequence[Overruled]) -> None:
    if overruled:
        errors = [
            {
                "image_id": str(one.image_id),
                "decision": one.decision,
                "by": one.by,
                "at": one.at.isoformat(),
                "revision": one.revision,
            }
            for one in overruled
        ]
        names = " and ".join(sorted({one.by for one in overruled}))
        raise PreconditionFailed(
            f"Meanwhile {names} decided on some of these images; see `errors`. Nothing was changed.",
            errors=errors,
        )


def undo(session: Session, dataset_id: UUID, batch_id: UUID | None, *, by: str) -> schemas.UndoneReviews:
    """Bring back what stood before a batch, by default `by`'s newest, where nobody has decided since.

    Taking back what took a batch back does the batch again. Raises NotFound, NothingToUndo, AlreadyUndone.
    """
    dataset = datasets.lock(session, dataset_id)
    if batch_id is None:
        newest = review_history.newest_to_undo(session, dataset_id, by)
        if newest is None:
            raise NothingToUndo(
                "No decision of yours stands here. To take back somebody else's, name its batch (`batch_id`)."
            )
        undone = newest
    else:
        undone = _first_of(session, review_history.get(session, dataset_id, batch_id))
        if (earlier := review_history.undone_by(session, undone)) is not None:
            raise AlreadyUndone(f"Batch {earlier} took it back: take that one back to do it again.")
    batch = reviews.open_batch(session, dataset, by, decision=None, undoes=undone.id)
    reviews.take_back(session, batch, undone)
    skipped = reviews.skipped(session, batch, undone, limit=MOST_NAMED)
    return schemas.UndoneReviews(
        **describe(batch, None).model_dump(),
        skipped=undone.images - batch.images,
        skipped_images=list(skipped),
    )


def _first_of(session: Session, batch: ReviewBatch) -> ReviewBatch:
    """Doing a batch again is no new word of its own: who takes that back takes the batch itself back."""
    if batch.undoes is None:
        return batch
    undone = review_history.get(session, batch.dataset_id, batch.undoes)
    if undone.undoes is None:
        return batch
    return review_history.get(session, batch.dataset_id, undone.undoes)


def page(
    session: Session, dataset_id: UUID, *, after: str | None, limit: int
) -> tuple[schemas.Page[schemas.ReviewBatch], int]:
    """The history, newest first, and the dataset's revision. Raises NotFound, BadCursor."""
    dataset = datasets.get(session, dataset_id)
    before = None if after is None else cursor.decode(after, cursor.BeforeRevision).revision
    rows = review_history.page(session, dataset_id, before=before, limit=limit + 1)
    items = [describe(batch, undone_by) for batch, undone_by in rows[:limit]]
    more = cursor.BeforeRevision(revision=items[-1].revision) if len(rows) > limit else None
    answer = schemas.Page[schemas.ReviewBatch](
        items=items, next_cursor=None if more is None else cursor.encode(more)
    )
    return answer, dataset.review_revision


def describe(batch: ReviewBatch, undone_by: UUID | None) -> schemas.ReviewBatch:
    return schemas.ReviewBatch(
        id=batch.id,
        dataset_id=batch.dataset_id,
        revision=batch.revision,
        by=batch.by,
        at=batch.at,
        images=batch.images,
        decision=cast(schemas.DecisionWord | None, batch.decision),
        undoes=batch.undoes,
        undone_by=undone_by,
    )


def request_recut(session: Session, dataset_id: UUID, new: schemas.NewRecut, *, bell: Bell) -> schemas.Job:
    """A new version from the newest one's signals and the decisions so far.

    Raises NotFound, PurificationNotReady, and Unprocessable for a cut both by cost and by score.
    """
    datasets.lock(session, dataset_id)
    base = purification.find(session, dataset_id, None)
    if new.cost_ratio is not None and new.cut_score is not None:
        raise Unprocessable("Cut by `cost_ratio` or at `cut_score`, not both.")
    params = {"version": base.version} | new.model_dump(mode="json", exclude_none=True)
    return job_answers.describe(enqueue(session, bell, dataset_id, JobKind.RECUT, params), now(session))


def report_miss(session: Session, dataset_id: UUID, image_id: UUID, *, by: str, bell: Bell) -> schemas.Job:
    """Reject an image that turned out bad, and look for its like. Raises NotFound."""
    dataset = datasets.lock(session, dataset_id)
    if reviews.unknown(session, dataset_id, [image_id]):
        raise NotFound(f"The dataset has no image {image_id}.")
    batch = reviews.open_batch(session, dataset, by, decision="reject")
    reviews.decide_each(session, batch, {image_id: "reject"})
    job = enqueue(session, bell, dataset_id, JobKind.SIMILAR, {"image_id": str(image_id)})
    return job_answers.describe(job, now(session))
