"""Generators of random numbers for what is built, seeded instead of made.

Nengo makes a generator for each ensemble, for its neurons and for each connection. NumPy
fills it with entropy of the operating system first, which takes 0.11 ms, a hundred times
as long as to seed it, and most connections draw nothing at all. Where nothing can keep
the generator beyond the build of its object, one is seeded again and again; the numbers
are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from nengo import Connection, Ensemble
from nengo.builder import Model
from nengo.builder.connection import build_connection, build_no_solver, build_solver
from nengo.builder.ensemble import build_ensemble
from nengo.builder.neurons import build_neurons
from nengo.ensemble import Neurons
from nengo.neurons import NeuronType

from nengo_dl.simulator.known import is_known

#: the parameters of ensembles that may draw random numbers
DRAWING = ("eval_points", "encoders", "intercepts", "max_rates", "gain", "bias", "noise")


class _Reseeded:
    """Random numbers that begin anew, with each seed those of a generator made for it."""

    def __init__(self) -> None:
        #: ``np.random.RandomState`` takes it in place of a seed
        self.bits = np.random.MT19937(0)
        self._seed = np.random.RandomState(self.bits).seed

    def start(self, seed: int) -> np.random.MT19937:
        """Begin with the numbers of a seed, and give what they come from."""
        self._seed(seed)
        return self.bits


class _Sums:
    """A seed to which something is added: that is what neurons begin with."""

    def __init__(self, seed: int, numbers: _Reseeded) -> None:
        self._seed, self._numbers = seed, numbers

    def __add__(self, more: int) -> np.random.MT19937:
        return self._numbers.start(self._seed + more)


class Generators:
    """Seeds one generator for all objects that core Nengo's functions build.

    Parameters
    ----------
    core : callable
        Core Nengo's function that builds objects of a class; None if it is another's.
    """

    def __init__(self, core: Callable[[type], Callable | None]) -> None:
        self._core = core
        self._numbers = _Reseeded()
        #: neurons are built while their ensemble is
        self._of_neurons = _Reseeded()
        self._seed = 0

    def covers(self, model: Model, obj: Any) -> bool:
        """Whether nothing that is built with an object can keep its generator."""
        if type(obj) is Connection:
            fits = self._core(Connection) is build_connection and self._connects(obj)
        elif type(obj) is Ensemble:
            fits = self._core(Ensemble) is build_ensemble and self._populates(obj)
        else:
            return False
        return fits and obj in model.seeds

    def build(self, build: Callable[[Model, Any], Any], model: Model, obj: Any) -> Any:
        """What ``build(model, obj)`` returns, which finds its generator made already."""
        self._seed = seed = model.seeds[obj]
        model.seeds[obj] = self._numbers.start(seed)
        try:
            return build(model, obj)
        finally:
            model.seeds[obj] = seed

    def build_neurons(
        self, model: Model, neuron_type: NeuronType, neurons: Neurons, **signals: Any
    ) -> None:
        """Build neurons, whose generator is made already if that of their ensemble is.

        As ``nengo.builder.neurons.build_neurons``, which this calls.
        """
        ens, seeds = neurons.ensemble, model.seeds
        if seeds.get(ens) is not self._numbers.bits:
            build_neurons(model, neuron_type, neurons, **signals)
            return
        seeds[ens] = _Sums(self._seed, self._of_neurons)
        try:
            build_neurons(model, neuron_type, neurons, **signals)
        finally:
            seeds[ens] = self._numbers.bits

    def _connects(self, conn: Connection) -> bool:
        transform, solver = conn.transform, conn.solver
        return (
            conn.learning_rule_type is None
            and self._core(type(transform)) is not None
            and self._core(type(solver)) in (build_solver, build_no_solver)
            and is_known(transform)
            and is_known(solver)
            and is_known(conn.eval_points)
        )

    def _populates(self, ens: Ensemble) -> bool:
        neurons = ens.neuron_type
        return (
            self._core(type(neurons)) is build_neurons
            and type(neurons).make_state is NeuronType.make_state
            and is_known(neurons)
            and all(map(is_known, (neurons.initial_state or {}).values()))
            and all(is_known(getattr(ens, name)) for name in DRAWING)
        )
