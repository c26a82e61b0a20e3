"""Nengo's cache of decoders, which cannot stop a build.

Core Nengo's raises what the operating system raises, and what it finds in damaged files.
Here such a cache is given up, with a warning, and decoders are solved for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from nengo.cache import DecoderCache, NoDecoderCache
from nengo.rc import rc

from nengo_dl.notices import warn


def default_decoder_cache() -> DecoderCache | NoDecoderCache:
    """The cache that Nengo's settings ask for; none, if it cannot be used."""
    if not rc["decoder_cache"].getboolean("enabled"):
        return NoDecoderCache()
    try:
        return SafeDecoderCache(rc["decoder_cache"].getboolean("readonly"))
    except Exception as error:  # a cache is worth no error of whatever kind
        _say(rc["decoder_cache"]["path"], error)
        return NoDecoderCache()


class SafeDecoderCache(DecoderCache):
    """A ``nengo.cache.DecoderCache`` that is given up when something is wrong with it."""

    _given_up = False

    def _give_up(self, error: Exception) -> None:
        self._given_up = self.readonly = True
        _say(self.cache_dir, error)

    def __exit__(self, exc_type, exc_value, traceback):
        """Close files and write the index, as far as that works."""
        try:
            return super().__exit__(exc_type, exc_value, traceback)
        except Exception as error:
            if error is exc_value:
                raise
            self._give_up(error)
            return None

    def shrink(self, limit: Any = None) -> None:
        """See ``nengo.cache.DecoderCache``."""
        if self._given_up:
            return
        try:
            super().shrink(limit)
        except Exception as error:
            self._give_up(error)

    def wrap_solver(self, solver_fn: Callable) -> Callable:
        """See ``nengo.cache.DecoderCache``; what the solver raises is raised."""
        if self._given_up:
            return solver_fn

        def solve(conn, gain, bias, x, targets, rng=np.random, **options):
            results, failures = [], []

            def noted(*args, **kwargs):
                try:
                    results.append(solver_fn(*args, **kwargs))
                except BaseException as error:
                    failures.append(error)
                    raise
                return results[-1]

            arguments = (conn, gain, bias, x, targets)
            wrapped = super(SafeDecoderCache, self).wrap_solver(noted)
            try:
                decoders, info = wrapped(*arguments, rng=rng, **options)
                if results or _fits(decoders, gain):
                    return decoders, info
                self._give_up(ValueError("a file has other contents than decoders"))
            except Exception as error:
                if failures:
                    raise
                self._give_up(error)
            return results[0] if results else solver_fn(*arguments, rng=rng, **options)

        return solver_fn if self._given_up else solve


def _fits(decoders: Any, gain: np.ndarray) -> bool:
    """Whether what was read can be decoders of so many neurons."""
    found = isinstance(decoders, np.ndarray) and decoders.dtype.kind == "f"
    return (
        found and decoders.shape[:1] == gain.shape and bool(np.isfinite(decoders).all())
    )


def _say(path: Any, error: Exception) -> None:
    """Warn, once for each folder."""
    warn(
        f"Nengo's cache of decoders in {str(path)!r} cannot be used "
        f"({type(error).__name__}: {error}). Decoders are solved for without it; remove "
        "the folder, or switch the cache off: nengo.rc.set('decoder_cache', 'enabled', "
        "'False')",
        once=("decoder cache", str(path)),
    )
