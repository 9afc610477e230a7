"""What people decide about images."""

from collections.abc import Iterator, Mapping
from uuid import UUID

from siftline.client.calls import Calls
from siftline.schemas import (
    Decision,
    DecisionWord,
    Job,
    NewMiss,
    NewRecut,
    NewReviews,
    Page,
    ReviewBatch,
    Selection,
    UndoneReviews,
    UndoReviews,
)


class ReviewCalls(Calls):
    def review(
        self, dataset_id: UUID, decisions: Mapping[UUID, DecisionWord], *, revision: int | None = None
    ) -> ReviewBatch:
        """Decide about images by their ids: one batch, undone as one.

        With `revision`, Conflict when somebody else has decided on one of them since that one.
        """
        each = [Decision(image_id=image, decision=word) for image, word in decisions.items()]
        return self._decide(dataset_id, NewReviews(decisions=each), revision)

    def review_all(
        self,
        dataset_id: UUID,
        decision: DecisionWord,
        selection: Selection,
        *,
        revision: int | None = None,
    ) -> ReviewBatch:
        """Decide the same about all images that fit `selection`; the server looks for them."""
        return self._decide(dataset_id, NewReviews(filter=selection, decision=decision), revision)

    def _decide(self, dataset_id: UUID, new: NewReviews, revision: int | None) -> ReviewBatch:
        expected = {} if revision is None else {"If-Match": f'"{revision}"'}
        return self._connection.create(f"/datasets/{dataset_id}/reviews", new, ReviewBatch, headers=expected)

    def reviews(self, dataset_id: UUID) -> Iterator[ReviewBatch]:
        """Every batch of decisions, newest first."""
        return self._connection.pages(f"/datasets/{dataset_id}/reviews", Page[ReviewBatch])

    def undo(self, dataset_id: UUID, batch_id: UUID | None = None) -> UndoneReviews:
        """Take back a batch, or your own newest; what was decided anew since stays as it is."""
        body = UndoReviews(batch_id=batch_id)
        return self._connection.create(f"/datasets/{dataset_id}/reviews/undo", body, UndoneReviews)

    def recut(
        self, dataset_id: UUID, *, cost_ratio: float | None = None, cut_score: float | None = None
    ) -> Job:
        """A new version from the newest one's signals and the decisions so far, without training again."""
        body = NewRecut(cost_ratio=cost_ratio, cut_score=cut_score)
        return self._connection.create(f"/datasets/{dataset_id}/recut", body, Job)

    def report_miss(self, dataset_id: UUID, image_id: UUID) -> Job:
        """Say that a kept image turned out bad. `similar_of` tells what the finished job has found."""
        return self._connection.create(f"/datasets/{dataset_id}/misses", NewMiss(image_id=image_id), Job)
