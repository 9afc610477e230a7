"""Purifications: asked for, read, compared, exported."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from siftline.client.calls import Calls
from siftline.client.connection import PAGE
from siftline.client.multipart import OnProgress
from siftline.schemas import Diff, Explanation, Histogram, Job, Purified, PurifyOptions, Selection, Verdict

Plot = Literal["histogram", "agreement", "calibration", "contact-sheet"]
ExportFormat = Literal["csv", "jsonl", "parquet", "coco", "zip", "mvtec", "fiftyone"]


class PurificationCalls(Calls):
    def purify(
        self, dataset_id: UUID, options: PurifyOptions | None = None, *, key: str | None = None
    ) -> Job:
        """Purify again with other options: one more version. With the same `key`, only once."""
        path = f"/datasets/{dataset_id}/purifications"
        return self._connection.create(path, options or PurifyOptions(), Job, key=key)

    def purified(
        self,
        dataset_id: UUID,
        *,
        version: int | None = None,
        verdict: Verdict | None = None,
        selection: Selection | None = None,
        wait_s: float = 0.0,
        limit: int | None = None,
    ) -> Purified:
        """The ranked split with all its items, those of `selection`, or the `limit` most suspect.

        Raises PurificationNotReady when there is none after `wait_s` (the server caps the wait).
        """
        pages = self.purified_pages(
            dataset_id,
            version=version,
            verdict=verdict,
            selection=selection,
            wait_s=wait_s,
            page=min(PAGE, limit or PAGE),
        )
        whole = next(pages)
        items = list(whole.items)
        while limit is None or len(items) < limit:
            page = next(pages, None)
            if page is None:
                break
            items += page.items
        return whole.model_copy(update={"items": items[:limit], "next_cursor": None})

    def purified_pages(
        self,
        dataset_id: UUID,
        *,
        version: int | None = None,
        verdict: Verdict | None = None,
        selection: Selection | None = None,
        wait_s: float = 0.0,
        page: int = PAGE,
    ) -> Iterator[Purified]:
        """The same, page by page, all of one version even if a newer one appears meanwhile."""
        wanted = {} if selection is None else selection.model_dump(mode="json", exclude_none=True)
        if "name_contains" in wanted:
            wanted["q"] = wanted.pop("name_contains")
        given = {"version": version, "verdict": verdict, "wait": wait_s or None, "limit": page}
        query: dict[str, Any] = wanted | {name: value for name, value in given.items() if value is not None}
        while True:
            answer = self._connection.get(
                f"/datasets/{dataset_id}/purified", Purified, query, self._connection.timeout_s + wait_s
            )
            cursor, query["version"] = answer.next_cursor, answer.version
            yield answer
            if cursor is None:
                return
            query["cursor"] = cursor

    def histogram(self, dataset_id: UUID, *, version: int | None = None, bins: int = 50) -> Histogram:
        """How many images score how much, with the cut."""
        path = f"/datasets/{dataset_id}/purified/histogram"
        return self._connection.get(path, Histogram, {"version": version, "bins": bins})

    def diff(self, dataset_id: UUID, before: int, after: int) -> Diff:
        """Newly suspect, newly cleared and added images between two versions."""
        path = f"/datasets/{dataset_id}/purified/diff"
        return self._connection.get(path, Diff, {"from": before, "to": after})

    def explanation(self, image_id: UUID, *, version: int | None = None) -> Explanation:
        """The image's oddest patch beside the nearest patches of other things."""
        return self._connection.get(f"/images/{image_id}/explanation", Explanation, {"version": version})

    def plot(self, dataset_id: UUID, name: Plot, *, version: int | None = None) -> bytes:
        """A PNG: scores with the cut, agreement of the signals, probabilities, the most suspect images."""
        path = f"/datasets/{dataset_id}/purified/plots/{name}.png"
        return self._connection.send("GET", path, query={"version": version}).content

    def report(self, dataset_id: UUID, path: Path | str, *, version: int | None = None) -> Path:
        """Keep the self-contained HTML report of a version as `path`."""
        query = {"version": version}
        self._connection.download(f"/datasets/{dataset_id}/report", Path(path), query=query)
        return Path(path)

    def export(
        self,
        dataset_id: UUID,
        format: ExportFormat,
        path: Path | str,
        *,
        version: int | None = None,
        verdict: Verdict | None = None,
        on_progress: OnProgress | None = None,
    ) -> Path:
        """Stream an export into `path`, which is there when it is whole, and otherwise not.

        Raises OSError when there is no room for it.
        """
        query = {"format": format, "version": version, "verdict": verdict}
        url = f"/datasets/{dataset_id}/export"
        self._connection.download(url, Path(path), query=query, on_progress=on_progress)
        return Path(path)
