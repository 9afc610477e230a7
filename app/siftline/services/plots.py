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
DASHED = (0, (4, 2))
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
    from matplotlib.figure import Figure  # noqa: PLC0415 - heavy, and seldom asked for

    with _DRAWING:
        figure = Figure(facecolor="white", layout="constrained", dpi=DPI)
        FigureCanvasAgg(figure)
        PLOTS[name](figure, data)
        out = BytesIO()
        figure.savefig(out, format="png")
    return out.getvalue()


def histogram(figure: Figure, data: Data) -> None:
    """Scores, with the cut; counts on a square-root scale, or the few suspects would be a flat line."""
    figure.set_size_inches(7.2, 3.6)
    axes = _axes(figure.add_subplot(), "anomaly score (right = more suspect)", "images (square-root scale)")
    edges = _edges(data)
    counts = [np.histogram(data.scores[chosen], edges)[0] for chosen in (~data.suspect, data.suspect)]
    axes.stairs(counts[0], edges, fill=True, color=CLEAN, label="clean")
    axes.stairs(counts[0] + counts[1], edges, baseline=counts[0], fill=True, color=SUSPECT, label="suspect")
    axes.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
    highest = max(int((counts[0] + counts[1]).max()), 1)
    axes.set(ylim=(0, 1.1 * highest), yticks=_root_ticks(highest))
    axes.axvline(data.cut, color=CUT, linewidth=1.2, linestyle=DASHED, label=f"cut at {data.cut:.3g}")
    axes.legend(frameon=False, labelcolor=INK, fontsize=9)
    axes.set_title(data.title, loc="left", color=INK, fontsize=11)


def _edges(data: Data) -> Values:
    """Equal steps, one of which begins at the cut, so that no bar stands on both sides of it."""
    low, high = float(data.scores.min()), float(data.scores.max())
    if high <= low:
        return np.array([low - 0.5, low + 0.5])
    step = (high - low) / min(MOST_BINS, max(10, len(data.scores) // 8))
    anchor = data.cut if low < data.cut < high else low
    before, behind = np.ceil((anchor - low) / step), np.ceil((high - anchor) / step)
    edges: Values = anchor + step * np.arange(-before, behind + 1)
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)  # rounded, they may miss an end by a bit
    return edges


def _root_ticks(highest: int) -> list[int]:
    """0 and round numbers, far enough from each other on a square-root scale."""
    ticks = [0]
    for number in (digit * 10**power for power in range(9) for digit in (1, 2, 5)):
        if number <= highest and number**0.5 - ticks[-1] ** 0.5 > 0.11 * highest**0.5:
            ticks.append(number)
    return ticks


def agreement(figure: Figure, data: Data) -> None:
    """Each signal against each other: ranks in percent, with Spearman's correlation."""
    names = list(data.signals)
    n = max(len(names) - 1, 1)
    figure.set_size_inches(1.0 + 1.9 * n, 0.8 + 1.9 * n)
    ranks = {name: _percent_ranks(values) for name, values in data.signals.items()}
    # Evenly over the ranking, the suspect last and so on top.
    shown = np.linspace(0, len(data.scores) - 1, min(MOST_POINTS, len(data.scores))).astype(np.int64)[::-1]
    colours = np.where(data.suspect[shown], SUSPECT, CLEAN)
    grid: Any = figure.subplots(n, n, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat:
        axes.set_axis_off()
    for i, below in enumerate(names[1:]):
        for j, left in enumerate(names[: i + 1]):
            grid[i, j].set_axis_on()
            axes = _axes(grid[i, j], left if i == n - 1 else "", below if j == 0 else "")
            axes.scatter(ranks[left][shown], ranks[below][shown], s=5, c=colours, linewidths=0, alpha=0.75)
            axes.set(xlim=(0, 100), ylim=(0, 100), xticks=(0, 50, 100), yticks=(0, 50, 100))
            axes.set_title(f"ρ = {_correlation(ranks[left], ranks[below]):.2f}", color=INK, fontsize=9)
    figure.suptitle(
        "Ranks by each signal in % (100 = most suspect)\nρ: Spearman's; orange: suspect",
        x=0.99,
        ha="right",
        color=INK,
        fontsize=9,
    )


def calibration(figure: Figure, data: Data) -> None:
    """The probabilities by rank with their interval, and how many anomalies they expect up to each rank."""
    figure.set_size_inches(9.0, 3.6)
    left, right = figure.subplots(1, 2)
    rank = np.arange(1, len(data.scores) + 1)
    # Sorted each by itself: a band, not a claim about single images.
    p, low, high = (np.sort(v)[::-1] for v in (data.p_anomalous, data.interval[:, 0], data.interval[:, 1]))
    _axes(left, "rank (1 = most suspect; logarithmic)", "probability of being anomalous")
    left.fill_between(rank, low, high, color=CLEAN, alpha=0.3, linewidth=0, label="80 % interval")
    left.plot(rank, p, color=SUSPECT, linewidth=1.6, label="probability")
    left.set(xscale="log", xlim=(1, max(2, len(rank))), ylim=(0, 1.02))
    left.xaxis.set_major_formatter("{x:,.0f}")
    left.legend(frameon=False, labelcolor=INK, fontsize=9)
    _axes(right, "images looked at, by rank", "expected anomalies among them")
    right.fill_between(rank, np.cumsum(low), np.cumsum(high), color=CLEAN, alpha=0.3, linewidth=0)
    right.plot(rank, np.cumsum(p), color=SUSPECT, linewidth=1.6)
    right.axvline(float(data.suspect.sum()), color=CUT, linewidth=1.2, linestyle=DASHED, label="the cut")
    right.set(xlim=(0, max(1, len(rank))), ylim=(0, None))
    right.legend(frameon=False, labelcolor=INK, fontsize=9, loc="lower right")
    title = f"{data.title}, about {p.sum():,.0f} anomalous expected"
    figure.suptitle(title, x=0.01, ha="left", color=INK, fontsize=11)


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
