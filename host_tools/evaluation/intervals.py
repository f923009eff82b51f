"""95 % intervals of shares whose trials are alike within groups, such as the words of one speaker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kws_edge.detection.calibration import wilson

__all__ = ["by_group", "of_mean"]


def by_group(counts: Sequence[tuple[int, int]]) -> tuple[float, float]:
    """Wilson's interval of a share, for as many trials as those of the groups are worth.

    Trials of one group are alike, so they tell less than as many trials of different groups. The design effect says how
    much less: the variance of the share over groups (a ratio estimate), divided by that of independent trials. It is at
    least 1.

    Parameters
    ----------
    counts : sequence of (int, int)
        Successes and trials of each group.

    Examples
    --------
    >>> [round(x, 3) for x in by_group([(1, 2), (0, 2), (1, 2), (0, 2)])]
    [0.071, 0.591]
    >>> [round(x, 3) for x in by_group([(2, 2), (0, 2), (0, 2), (0, 2)])]
    [0.036, 0.741]
    """
    found, n = np.array(counts, float).reshape(-1, 2).T
    trials, groups = n.sum(), len(n)
    share = found.sum() / trials if trials else 0.0
    effect = 1.0
    if groups > 1 and 0 < share < 1:
        variance = groups / (groups - 1) * np.square(found - share * n).sum() / trials**2
        effect = max(1.0, variance / (share * (1 - share) / trials))
    return wilson(float(found.sum() / effect), float(trials / effect))


def of_mean(counts: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Wilson's interval of the mean of several shares, each of its own trials.

    It holds for other trials in the same groups, not for other groups. As many trials are taken as give the mean's
    variance.

    Parameters
    ----------
    counts : sequence of (float, int)
        Successes and trials of each group.
    """
    found, n = np.array(counts, float).T
    mean = float((found / n).mean())
    # With one half of a success more of each kind, a group without errors has a variance, too.
    shares = (found + 0.5) / (n + 1)
    variance = float((shares * (1 - shares) / n).sum()) / len(n) ** 2
    middle = float(shares.mean())
    trials = middle * (1 - middle) / variance
    return wilson(mean * trials, trials)
