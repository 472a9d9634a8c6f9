"""What several seeds say together."""

import math
import statistics
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """One metric over seeds.

    Attributes:
        n: number of seeds.
        mean: over seeds.
        sd: standard deviation over seeds, with n - 1; None for one seed.
        low: lower end of the t-interval of the mean; None for one seed.
        high: upper end.
        values: one for each seed, in order of seed.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None
    values: tuple[float, ...]


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
