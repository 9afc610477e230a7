"""Pictures of a version for people who look rather than read: PNG, drawn when asked for.

matplotlib's object API on Agg; no pyplot, whose figures are global. All figures share its fonts and its text
parser, so one is drawn at a time. No text of a stranger is drawn: names can hold what it takes for formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from siftline.domain.errors import Unprocessable
from siftline.store import exports
from siftline.store.models import Purification

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = NDArray[np.float64]

DPI = 120
CLEAN, SUSPECT, CUT, INK, GRID = "#7c93ad", "#d9480f", "#1f2933", "#334155", "#e2e8f0"
MOST_BINS = 60
MOST_POINTS = 3000
_DRAWING = Lock()


@dataclass(frozen=True, slots=True)
class Data:
    """A version's columns, by rank."""

    version: int
    cut: float
    scores: Values
    p_anomalous: Values
    interval: Values
    """(N, 2)"""
    suspect: NDArray[np.bool_]
    signals: Mapping[str, Values]

    @property
    def title(self) -> str:
        return f"Version {self.version}: {len(self.scores):,} images, {int(self.suspect.sum()):,} suspect"


def load(session: Session, found: Purification) -> Data:
    """Raises Unprocessable for a version of no images."""
    rows = list(exports.numbers(session, found.id))
    if not rows:
        raise Unprocessable("The version has no images to draw.")
    return Data(
        version=found.version,
        cut=float(found.cut["score"]),
        scores=np.array([row.score for row in rows]),
        p_anomalous=np.array([row.p_anomalous for row in rows]),
        interval=np.array([(row.interval_lo, row.interval_hi) for row in rows]),
        suspect=np.array([row.verdict == "suspect" for row in rows]),
        signals={name: np.array([row.signals[name] for row in rows]) for name in sorted(rows[0].signals)},
    )


def draw(name: str, data: Data) -> bytes:
    """PNG of the plot `name`, one of PLOTS."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415 - a second and 60 MB
    from matplotlib.figure import Figure  # noqa: PLC0415

    with _DRAWING:
        figure = Figure(facecolor="white", layout="constrained", dpi=DPI)
        FigureCanvasAgg(figure)
        PLOTS[name](figure, data)
        out = BytesIO()
        figure.savefig(out, format="png")
    return out.getvalue()


def histogram(figure: Figure, data: Data) -> None:
    """Scores, with the cut; the long tail is what the count's root makes visible."""
    figure.set_size_inches(7.2, 3.6)
    axes = _axes(figure.add_subplot(), "anomaly score (right = more suspect)", "images (square-root scale)")
    edges = np.histogram_bin_edges(data.scores, bins=min(MOST_BINS, max(10, len(data.scores) // 10)))
    axes.hist(
        [data.scores[~data.suspect], data.scores[data.suspect]],
        bins=edges.tolist(),
        stacked=True,
        color=[CLEAN, SUSPECT],
        label=["clean", "suspect"],
    )
    axes.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
    axes.axvline(data.cut, color=CUT, linewidth=1.2, linestyle=(0, (4, 2)), label=f"cut at {data.cut:.3g}")
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    axes.set_title(data.title, loc="left", color=INK, fontsize=11)


def agreement(figure: Figure, data: Data) -> None:
    """Each signal against each other: ranks in percent below the diagonal, their correlation above."""
    names = list(data.signals)
    n = len(names)
    figure.set_size_inches(1.2 + 1.9 * n, 1.0 + 1.9 * n)
    ranks = {name: _percent_ranks(values) for name, values in data.signals.items()}
    shown = np.linspace(0, len(data.scores) - 1, min(MOST_POINTS, len(data.scores))).astype(np.int64)[::-1]
    colours = np.where(data.suspect[shown], SUSPECT, CLEAN)
    grid: Any = figure.subplots(n, n, squeeze=False)
    for i, below in enumerate(names):
        for j, left in enumerate(names):
            axes = grid[i, j]
            if i > j:
                _axes(axes, left if i == n - 1 else "", below if j == 0 else "")
                axes.scatter(ranks[left][shown], ranks[below][shown], s=4, c=colours, linewidths=0, alpha=0.7)
                axes.set(xlim=(0, 100), ylim=(0, 100), xticks=(0, 50, 100), yticks=(0, 50, 100))
            else:
                _say(axes, below if i == j else f"{_correlation(ranks[below], ranks[left]):.2f}", bold=i == j)
    figure.suptitle(
        "Agreement of the signals: ranks in % (100 = most suspect), Spearman's correlation above",
        x=0.01,
        ha="left",
        color=INK,
        fontsize=10,
    )


def calibration(figure: Figure, data: Data) -> None:
    """The probabilities by rank with their interval, and how many anomalies they expect up to each rank."""
    figure.set_size_inches(9.0, 3.6)
    left, right = figure.subplots(1, 2)
    rank = np.arange(1, len(data.scores) + 1)
    _axes(left, "rank (1 = most suspect, logarithmic)", "probability of being anomalous")
    # Sorted each by itself: a band, not a claim about single images.
    low, high = (np.sort(data.interval[:, side])[::-1] for side in (0, 1))
    left.fill_between(rank, low, high, color=CLEAN, alpha=0.3, linewidth=0, label="80 % interval")
    left.plot(rank, np.sort(data.p_anomalous)[::-1], color=SUSPECT, linewidth=1.6, label="probability")
    left.set(xscale="log", xlim=(1, max(2, len(rank))), ylim=(0, 1.02))
    left.legend(frameon=False, labelcolor=INK, fontsize=9)
    _axes(right, "images looked at, by rank", "expected anomalies among them")
    for values, style in ((low, ":"), (high, ":"), (np.sort(data.p_anomalous)[::-1], "-")):
        right.plot(
            rank, np.cumsum(values), color=SUSPECT, linewidth=1.6 if style == "-" else 1.0, linestyle=style
        )
    right.axvline(float(data.suspect.sum()), color=CUT, linewidth=1.2, linestyle=(0, (4, 2)), label="the cut")
    right.set(xlim=(0, len(rank)), ylim=(0, None))
    right.legend(frameon=False, labelcolor=INK, fontsize=9, loc="lower right")
    expected = float(data.p_anomalous.sum())
    figure.suptitle(f"{data.title}, {expected:,.0f} expected", x=0.01, ha="left", color=INK, fontsize=11)


PLOTS: dict[str, Callable[[Figure, Data], None]] = {
    "histogram": histogram,
    "agreement": agreement,
    "calibration": calibration,
}


def _axes(axes: Axes, x: str, y: str) -> Axes:
    axes.set_facecolor("white")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#94a3b8")
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=8, length=3)
    axes.set_xlabel(x, color=INK, fontsize=9)
    axes.set_ylabel(y, color=INK, fontsize=9)
    return axes


def _say(axes: Axes, text: str, *, bold: bool) -> None:
    axes.set_axis_off()
    axes.text(
        0.5,
        0.5,
        text,
        ha="center",
        va="center",
        color=INK,
        fontsize=10 if bold else 13,
        fontweight="bold" if bold else "normal",
    )


def _percent_ranks(values: Values) -> Values:
    """0 to 100; equal values share the middle of their ranks."""
    _, member, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2
    ranks: Values = 100 * (middle[member] / max(len(values) - 1, 1))
    return ranks


def _correlation(a: Values, b: Values) -> float:
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])
