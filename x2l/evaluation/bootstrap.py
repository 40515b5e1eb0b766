"""Accuracy with intervals that resample videos: questions about one video are not independent."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

NUM_RESAMPLES = 2000
SEED = 0
PERCENTILES = (2.5, 97.5)


def draw(
    num_videos: int, num_resamples: int = NUM_RESAMPLES, seed: int = SEED
) -> Float[np.ndarray, "resamples videos"]:
    """How often each video occurs in each resample. Rows that share a draw are compared in pairs."""
    share = np.full(num_videos, 1 / num_videos)
    return np.random.default_rng(seed).multinomial(num_videos, share, num_resamples).astype(np.float64)


def ratios(
    weights: Float[np.ndarray, "resamples videos"],
    right: Float[np.ndarray, " videos"],
    asked: Float[np.ndarray, " videos"],
) -> Float[np.ndarray, " resamples"]:
    """Right answers / questions asked in each resample; NaN where a resample holds no question."""
    totals = weights @ asked
    return np.divide(weights @ right, totals, out=np.full_like(totals, np.nan), where=totals > 0)


def interval(samples: Float[np.ndarray, " resamples"]) -> list[float]:
    """Lower and upper end of the middle 95 % of the samples.

    Source: the percentile bootstrap (Efron and Tibshirani 1993, chapter 13).
    """
    return np.nanpercentile(samples, PERCENTILES).tolist()
