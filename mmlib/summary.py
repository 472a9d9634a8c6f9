"""What several seeds say together."""

import math
import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """One metric over n seeds: ``low`` and ``high`` end the t-interval of the mean; None where one seed cannot tell."""

    n: int
    mean: float
    sd: float | None  # over seeds, with n - 1
    low: float | None
    high: float | None
    values: tuple[float, ...]  # in order of seed


def summarise(values: list[float], confidence: float = 0.95) -> Summary:
    """Mean, standard deviation and t-interval of the mean.

    Raises:
        ValueError: if ``values`` is empty.
    """
    if not values:
        raise ValueError("values is empty; expected at least one number")
    n, mean = len(values), statistics.fmean(values)
    if n == 1:
        return Summary(1, mean, None, None, None, tuple(values))
    from scipy.stats import t

    sd = statistics.stdev(values)
    half = float(t.ppf(0.5 + confidence / 2, n - 1)) * sd / math.sqrt(n)
    return Summary(n, mean, sd, mean - half, mean + half, tuple(values))
