"""Other ways to count the anomalies and to cut, on the same fused scores: the service's must earn its place.

Each gives a share of suspects, all of them without a label. `mixture` is what the service does.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray
from scipy.stats import gaussian_kde, genpareto, norm
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import BayesianGaussianMixture

from benchmarks.case import Case
from benchmarks.quality import Row, at_cut
from siftline_workers.methods.pooling import robust_z

Values = NDArray[np.float64]


def measured(case: Case) -> Row:
    """Estimated share, and good kept, precision and recall when so many are dropped, of each rule."""
    fused = case.ranking.fused
    scores = fused.scores.values.astype(np.float64)
    voting = np.stack([fused.signals[name].values for name in ("neighbours", "llbnad", "padim")], axis=1)
    shares = {
        "gammaGMM": gamma_gmm(voting.astype(np.float64)),
        "local fdr": local_fdr(scores),
        "POT": pot(scores),
        "Otsu": otsu(scores),
        "knee": knee(scores),
    }
    row: Row = {}
    for name, share in shares.items():
        suspect = np.zeros(len(scores), bool)
        suspect[np.argsort(-scores, kind="stable")[: round(share * len(scores))]] = True
        row[f"{name} estimate"] = share
        row |= {f"{name} {key}": v for key, v in at_cut(case.split.anomalous, suspect).items()}
    suspect = case.suspect
    row["mixture estimate"] = case.ranking.split.contamination.estimate
    return row | {f"mixture {key}": v for key, v in at_cut(case.split.anomalous, suspect).items()}


def gamma_gmm(signals: Values) -> float:
    """After Perini et al. (ICML 2023, arXiv 2210.10487), their prior of the share left out: a Dirichlet
    process of Gaussians over (N, M) log scores; the components that lie highest for their spread are counted
    while they hold less than a quarter of the set.
    """
    logs = np.log(signals - signals.min(0) + 0.01)
    logs = (logs - logs.mean(0)) / (logs.std(0) + 1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = BayesianGaussianMixture(
            n_components=10, weight_concentration_prior=0.01, random_state=0, max_iter=200
        ).fit(logs)
    height = fitted.means_.mean(1) / (
        1 + np.sqrt(np.trace(fitted.covariances_, axis1=1, axis2=2) / logs.shape[1])
    )
    share = 0.0
    for component in np.argsort(-height):
        if share + fitted.weights_[component] > 0.25:
            break
        share += float(fitted.weights_[component])
    return share


def local_fdr(scores: Values) -> float:
    """Efron's two groups: a normal density read off the lower half, a kernel density of all, p > .2 drops."""
    logs = np.log(scores - scores.min() + 0.1 * (np.median(scores) - scores.min()) + 1e-12)
    centre = np.median(logs)
    spread = (centre - np.quantile(logs, 0.1587)) + 1e-12
    null = min(1.0, 2 * float((logs < centre).mean())) * norm.pdf(logs, centre, spread)
    odd = 1 - np.minimum(1, null / gaussian_kde(logs)(logs))
    odd[logs < centre] = 0
    return float((odd > 0.2).mean())


def pot(scores: Values, q: float = 1e-2) -> float:
    """Peaks over threshold (Siffer et al., KDD 2017): a generalised Pareto tail of the peaks above the 90th
    percentile of the lower 95 %, and what lies beyond its q-quantile.
    """
    trusted = np.sort(scores)[: int(0.95 * len(scores))]
    start = np.quantile(trusted, 0.9)
    peaks = trusted[trusted > start] - start
    shape, _, scale = genpareto.fit(peaks, floc=0)
    beyond = start + genpareto.ppf(1 - q / 0.1, shape, 0, scale)
    return float((scores > beyond).mean())


def otsu(scores: Values) -> float:
    """The share above the cut that parts the scores with the least variance within the parts."""
    ordered = np.sort(scores)
    n = np.arange(1, len(ordered))
    low = np.cumsum(ordered)[:-1] / n
    high = (ordered.sum() - np.cumsum(ordered)[:-1]) / (len(ordered) - n)
    best = int(np.argmax(n * (len(ordered) - n) * (high - low) ** 2)) + 1
    return 1 - best / len(ordered)


def knee(scores: Values) -> float:
    """The upper half's point of the falling curve that is farthest below its chord (Satopaa et al. 2011)."""
    falling = np.sort(robust_z(scores.astype(np.float32)).astype(np.float64))[::-1][: len(scores) // 2]
    x = np.linspace(0, 1, len(falling))
    y = (falling - falling[-1]) / max(float(np.ptp(falling)), 1e-12)
    return float(np.argmax(1 - x - y) / len(scores))
