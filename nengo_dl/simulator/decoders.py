"""Decoders, solved for once where a network asks for the same ones.

Most of the time that a build takes goes into decoders. Nengo solves for them anew for
each connection, although all connections of one ensemble start from the same neural
activities, and many of them decode the same function. Here, activities, the
factorization of their Gram matrix and the decoders are kept while a network is built.

Nothing changes but the time: functions are called as often as in core Nengo, random
numbers are drawn in the same order, and the arrays are the same to the last bit.

Nengo's cache of decoders is kept from stopping a build: core's raises what the operating
system raises, and what it finds in damaged files. Here such a cache is given up, with a
warning, and decoders are solved for.
"""

from __future__ import annotations

import contextlib
import copy
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import cache, partial
from typing import Any

import numpy as np
from nengo import Connection, Ensemble, Network, solvers
from nengo.base import ObjView
from nengo.builder import Builder, Model
from nengo.builder.connection import (
    build_decoders,
    build_solver,
    get_eval_points,
    solve_for_decoders,
)
from nengo.builder.ensemble import BuiltEnsemble
from nengo.builder.neurons import build_neurons
from nengo.builder.processes import build_process
from nengo.cache import DecoderCache, NoDecoderCache
from nengo.exceptions import BuildError
from nengo.params import FrozenObject
from nengo.rc import rc
from nengo.utils import least_squares_solvers as least_squares

from nengo_dl.builder import NengoBuilder
from nengo_dl.compiler.graph import stored_once
from nengo_dl.notices import label_of, warn
from nengo_dl.simulator.ahead import Ahead, Answer, Wanted, is_plain
from nengo_dl.simulator.filters import Filters
from nengo_dl.simulator.known import consists_of, is_known
from nengo_dl.simulator.seeding import Generators
from nengo_dl.simulator.transforms import Transforms

#: Solvers whose result depends on nothing but their parameters, the activities and
#: the targets: no random numbers, no state. Exactly these; a subclass may do anything.
DETERMINISTIC = frozenset(
    {
        solvers.Lstsq,
        solvers.LstsqDrop,
        solvers.LstsqL2,
        solvers.LstsqL2nz,
        solvers.Nnls,
        solvers.NnlsL2,
        solvers.NnlsL2nz,
        least_squares.BlockConjgrad,
        least_squares.Cholesky,
        least_squares.Conjgrad,
        least_squares.ConjgradScipy,
        least_squares.LSMRScipy,
        least_squares.SVD,
    }
)

#: How many bytes of activities are kept; those used longest ago go first.
MAX_BYTES = 2**28


@contextlib.contextmanager
def solved_once(
    model: Model, network: Network | None = None, executor: Executor | None = None
) -> Iterator[None]:
    """Inside, building into a model solves for equal decoders once.

    ``model``: its ``builder`` is replaced inside, and is what it was afterwards.
    ``network``: what is built. The activities of an ensemble are given back as soon as
    its last connection has its decoders; without it, at the end. ``executor``: what
    solves for decoders ahead of the build; the same decoders, to the last bit.
    """
    builder = model.builder
    model.builder = sharing = SharingBuilder(builder, network, executor)
    try:
        yield
    finally:
        sharing.end()
        model.builder = builder


class SharingBuilder:
    """A builder that remembers decoders; leaves everything else to another one.

    Parameters
    ----------
    builder : nengo.builder.Builder
        Builds all objects. Where it would run core Nengo's function for solvers, this
        class does the same work with less effort.
    network : ~nengo.Network, optional
    executor : concurrent.futures.Executor, optional
        See `solved_once`.
    """

    def __init__(
        self,
        builder: Any,
        network: Network | None = None,
        executor: Executor | None = None,
    ) -> None:
        self._builder = builder
        #: connections and probes of each ensemble that have no decoders yet
        self._waiting = Counter() if network is None else _readers(network)
        self._core = cache(partial(_core_function, builder))
        self._filters = Filters()
        self._generators = Generators(self._core)
        self._instead = {
            **Transforms().instead,
            build_neurons: self._generators.build_neurons,
        }
        self._ahead = None
        if executor is not None and network is not None:
            self._ahead = Ahead(executor, network, self._prepared)
        #: evaluation points and targets of connections that were sent ahead
        self._known: dict[Any, tuple[np.ndarray, np.ndarray]] = {}
        self._systems = {}
        self._recent = OrderedDict()  # the systems that hold activities -> their size
        self._bytes = 0

    def build(self, model: Model, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Build an object into a model; see ``nengo.builder.Builder.build``."""
        if isinstance(obj, FrozenObject):
            # core would look for it among what cannot be built twice, by its contents
            function = self._core(type(obj))
            if function is build_solver:
                return self._build_decoders(model, *args, **kwargs)
            if function is build_process and self._filters.covers(obj):
                return self._filters.build(model, obj, *args, **kwargs)
            if function is not None and type(self._builder) is NengoBuilder:
                function = self._instead.get(function, function)
                return function(model, obj, *args, **kwargs)
        if self._ahead is not None and isinstance(obj, Connection):
            self._ahead.reach(model, obj)
        result = self._build(model, obj, *args, **kwargs)
        built = model.params.get(obj) if isinstance(obj, Ensemble) else None
        if isinstance(built, BuiltEnsemble):
            model.params[obj] = _in_little_space(built)
        return result

    def _build(self, model, obj, *args, **kwargs):
        build = self._builder.build
        if args or kwargs or type(self._builder) is not NengoBuilder:
            return build(model, obj, *args, **kwargs)
        if self._generators.covers(model, obj):
            return self._generators.build(build, model, obj)
        return build(model, obj)

    def _build_decoders(self, model, conn, rng):
        """The evaluation points, decoders and solver information of a connection."""
        if not _is_repeatable(model, conn):
            return build_decoders(model, conn, rng)
        eval_points = get_eval_points(model, conn, rng)
        known, targets = self._known.pop(conn, (None, None))
        if known is None or not np.array_equal(known, eval_points):
            targets = _targets(conn, eval_points)
        system = self._system(model.params[conn.pre_obj], eval_points)
        decoders, info = system.decoders(model, conn, eval_points, targets, rng)
        self._make_room(system)
        self._count_down(conn.pre_obj, model.params[conn.pre_obj])
        return eval_points, decoders.T, info

    def _prepared(self, model, conn):
        """What `Ahead` is to know of a connection; None: it is solved for in its turn."""
        if (
            not isinstance(conn.pre_obj, Ensemble)
            or self._core(type(conn.solver)) is not build_solver
            or not _is_repeatable(model, conn)
        ):
            return None
        built = model.params[conn.pre_obj]
        try:
            rng = np.random.RandomState(model.seeds[conn])
            eval_points = get_eval_points(model, conn, rng)
            targets = _targets(conn, eval_points)
        except Exception:  # which its turn will report
            return None
        self._known[conn] = eval_points, targets
        system, key = self._system(built, eval_points), (conn.solver, _content(targets))
        encoders = built.encoders.T / conn.pre_obj.radius
        if not all(map(is_plain, (eval_points, targets, encoders))) or system.has(key):
            return None
        if system.find(model, conn, eval_points, targets, rng):
            return None
        asked = [(conn.solver, targets)]
        neurons = conn.pre_obj.neuron_type
        about = neurons, built.gain, built.bias, encoders, eval_points, asked
        return system, Wanted(*about), key

    def end(self) -> None:
        """Nothing more is built."""
        if self._ahead is not None:
            self._ahead.end()

    def _system(self, built, eval_points):
        own = eval_points.base is built.eval_points
        key = (id(built), None if own else _content(eval_points))
        if key not in self._systems:
            self._systems[key] = System(built)
        return self._systems[key]

    def _count_down(self, ensemble, built):
        """One reader of an ensemble has its decoders; after the last, all is given back.

        Should there be another one after all, everything is computed once more.
        """
        self._waiting[ensemble] -= 1
        if self._waiting[ensemble] == 0:
            for key in [key for key in self._systems if key[0] == id(built)]:
                self._bytes -= self._recent.pop(self._systems.pop(key), 0)

    def _make_room(self, latest):
        self._bytes += latest.nbytes - self._recent.pop(latest, 0)
        self._recent[latest] = latest.nbytes
        while len(self._recent) > 1 and self._bytes > MAX_BYTES:
            oldest, size = self._recent.popitem(last=False)
            oldest.forget_activities()
            self._bytes -= size


def _core_function(builder: Any, cls: type) -> Callable | None:
    """Core Nengo's function that builds objects of a class; None if it is another's."""
    registries = (getattr(builder, "builders", {}), Builder.builders)
    functions = [
        next((registry[c] for c in cls.__mro__ if c in registry), None)
        for registry in registries
    ]
    known = {function for function in functions if function is not None}
    if len(known) != 1:
        return None
    (function,) = known
    # functions of a script that is executed as text have no module
    return function if (function.__module__ or "").startswith("nengo.") else None


def _readers(network):
    """How many connections and probes each ensemble of a network has."""
    connections = (conn.pre_obj for conn in network.all_connections)
    probes = (probe.target for probe in network.all_probes)
    decoded = (obj.obj if isinstance(obj, ObjView) else obj for obj in probes)
    return Counter(obj for obj in (*connections, *decoded) if isinstance(obj, Ensemble))


def _is_repeatable(model, conn):
    """Whether a second solve of the same equations must give the same decoders."""
    solver = conn.solver
    return (
        isinstance(model.params.get(conn.pre_obj), BuiltEnsemble)
        # otherwise the targets depend on a transform that may be random
        and (solver.compositional or not solver.weights)
        and consists_of(solver, lambda part: type(part) in DETERMINISTIC)
        and is_known(conn.pre_obj.neuron_type)
    )


def _in_little_space(built: BuiltEnsemble) -> BuiltEnsemble:
    """Equal parameters, in which one number for all neurons is stored once."""
    names = ("encoders", "intercepts", "max_rates", "gain")
    arrays = {name: getattr(built, name) for name in names}
    return built._replace(
        **{name: stored_once(a) for name, a in arrays.items() if a is not None}
    )


def _targets(conn, eval_points):
    """What a connection's function gives at the evaluation points."""
    function = conn.function
    points = eval_points[:, conn.pre_slice]
    if function is None:
        return points.astype(rc.float_dtype)
    if isinstance(function, np.ndarray):
        return function
    targets = np.zeros((len(points), conn.size_mid), dtype=rc.float_dtype)
    for target, point in zip(targets, points):
        value = function(point)
        if isinstance(value, np.ndarray):  # first, as this runs for every point
            target[...] = value
            continue
        if value is None:
            raise BuildError(
                f"Building {label_of(conn)}: cannot solve for decoders, because the "
                f"connection's function {function} returned None; expected "
                f"{conn.size_mid} numbers"
            )
        target[...] = np.hstack(value) if isinstance(value, tuple | list) else value
    return targets


def _content(array):
    """A key for all that a computation can see of an array.

    The strides are part of it: the order in memory decides in which order BLAS adds.
    """
    return array.shape, array.strides, array.dtype.str, array.tobytes()


class System:
    """The equations ``activities @ decoders = targets`` of one ensemble.

    Parameters
    ----------
    built : BuiltEnsemble
        Held here, so that its ``id`` stays its own.
    """

    def __init__(self, built):
        self._built = built
        self._solved = {}
        #: what others solve for: solver and content of the targets -> where it will be
        self.awaited: dict[tuple, Answer] = {}
        self.forget_activities()

    def forget_activities(self) -> None:
        """Give back the memory; they are computed again when they are needed."""
        self._activities: np.ndarray | None = None
        self._factors = {}

    @property
    def nbytes(self) -> int:
        """(int) Size of what `forget_activities` gives back."""
        if self._activities is None:
            return 0
        factors = sum(factor.nbytes for (factor, _), _ in self._factors.values())
        return self._activities.nbytes + factors

    def decoders(
        self, model: Model, conn: Any, eval_points: Any, targets: np.ndarray, rng: Any
    ) -> Any:
        """Decoders ``(n_neurons, n_targets)`` and solver information, as new objects."""
        key = (conn.solver, _content(targets))
        if key not in self._solved:
            self._solved[key] = self._load_or_solve(
                model, conn, eval_points, targets, rng
            )
        decoders, info = self._solved[key]
        return decoders.copy(order="K"), copy.deepcopy(info)

    def has(self, key: tuple) -> bool:
        """Whether decoders are known, or on their way."""
        return key in self._solved or key in self.awaited

    def find(
        self, model: Model, conn: Any, eval_points: Any, targets: np.ndarray, rng: Any
    ) -> bool:
        """Whether Nengo's cache of decoders has those of a connection; keeps them."""
        if not model.seeded[conn] or isinstance(model.decoder_cache, NoDecoderCache):
            return False
        built, absent = self._built, LookupError()

        def missing(*args: Any, **kwargs: Any) -> Any:
            raise absent

        inputs = np.dot(eval_points, built.encoders.T / conn.pre_obj.radius)
        about = conn, built.gain, built.bias, inputs, targets
        try:
            result = model.decoder_cache.wrap_solver(missing)(*about, rng=rng)
        except LookupError as error:
            if error is absent:
                return False
            raise
        self._solved[conn.solver, _content(targets)] = result
        return True

    def _load_or_solve(self, model, conn, eval_points, targets, rng):
        """Decoders from Nengo's cache on disk, if it is on and has them."""
        built, solve = self._built, self.solve
        answer = self.awaited.pop((conn.solver, _content(targets)), None)
        result = None if answer is None else answer.result(conn)
        if result is not None:

            def solve(*args: Any, **kwargs: Any) -> Any:
                return result

        cached = solve
        if model.seeded[conn]:
            cached = model.decoder_cache.wrap_solver(solve)
        if result is not None and cached is solve:
            return result
        inputs = None
        if cached != solve or self._activities is None:
            inputs = np.dot(eval_points, built.encoders.T / conn.pre_obj.radius)
        return cached(conn, built.gain, built.bias, inputs, targets, rng=rng)

    def solve(self, conn, gain, bias, inputs, targets, rng):
        """What ``solve_for_decoders`` does, without computing anything twice."""
        activities = self._activities
        if activities is None:
            activities = conn.pre_obj.neuron_type.rates(inputs, gain, bias)
            if not activities.any():  # an error, which core knows how to put
                return solve_for_decoders(conn, gain, bias, inputs, targets, rng=rng)
            self._activities = activities
        solver = conn.solver
        kinds = (type(solver), type(getattr(solver, "solver", None)))
        if kinds == (solvers.LstsqL2, least_squares.Cholesky):
            return self._solve_by_factor(activities, solver, targets, rng)
        return solver(activities, targets, rng=rng)

    def _solve_by_factor(
        self, activities: np.ndarray, solver: Any, targets: np.ndarray, rng: Any
    ) -> Any:
        r"""Regularized least squares by a Cholesky factor that is computed once.

        .. math:: (A^T A + m \sigma^2 I) D = A^T Y, \quad \sigma = \text{reg} \max A

        for the :math:`m` evaluation points; if there are more neurons than points,
        :math:`D = A^T E` with :math:`(A A^T + m \sigma^2 I) E = Y`. Every product is
        the one that Nengo's solver computes, so rounding is the same too.
        """
        try:
            from scipy.linalg import cho_factor, cho_solve
        except ImportError:  # Nengo then inverts with NumPy
            return solver(activities, targets, rng=rng)
        started = time.time()
        n_points, n_neurons = activities.shape
        if solver not in self._factors:
            wide = solver.solver.transpose
            wide = n_points < n_neurons if wide is None else wide
            if wide:
                gram = np.dot(activities, activities.T)
            else:
                gram = np.dot(activities.T, activities)
            sigma = solver.reg * activities.max()
            np.fill_diagonal(gram, gram.diagonal() + n_points * sigma**2)
            self._factors[solver] = cho_factor(gram, overwrite_a=True), wide
        factor, wide = self._factors[solver]
        if wide:
            decoders = np.dot(activities.T, cho_solve(factor, targets))
        else:
            decoders = cho_solve(factor, np.dot(activities.T, targets))
        errors = least_squares.rmses(activities, decoders, targets)
        return decoders, {"rmses": errors, "time": time.time() - started}


# Nengo's cache of decoders, which cannot stop a build ---------------------------


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
