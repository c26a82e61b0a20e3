"""What scripts rely on beside the numbers: the same as in core Nengo."""

import threading
import warnings

import nengo
import numpy as np
import pytest
from nengo.exceptions import SimulationError, ValidationError

import nengo_dl
from tests import networks
from tests.simulator.against_core import check_against_core, double, run

# Python functions -----------------------------------------------------------------------


def changing(t, x):
    """Changes its argument."""
    x *= 2
    x += t
    return x


RETURNED = {
    "an int": (lambda t, x: 2, 1),
    "a bool": (lambda t, x: x[0] > 0, 1),
    "a NumPy scalar": (lambda t, x: np.float32(0.1) * x[0], 1),
    "no dimensions": (lambda t, x: np.array(x[0]), 1),
    "a list": (lambda t, x: [x[0], 3], 2),
    "a tuple of arrays": (lambda t, x: (x[:1], x[:1] ** 2), (2, 1)),
    "one number for all": (lambda t, x: x[0], 3),
    "one row": (lambda t, x: np.array([[x[0], 1.0, t]]), 3),
    "its argument": (lambda t, x: x, 2),
    "its argument, changed": (changing, 2),
    "half precision": (lambda t, x: x.astype(np.float16), 2),
}


@pytest.mark.parametrize("kind", RETURNED)
def test_what_functions_return(kind):
    function, size = RETURNED[kind]
    if kind == "a tuple of arrays":
        function, size = (lambda t, x: np.ravel((x[:1], x[:1] ** 2))), 2
    with double() as net:
        inp = nengo.Node(networks.waves(2))
        node = nengo.Node(function, size_in=2, size_out=size)
        alone = nengo.Node(lambda t: function(t, np.array([t, -t])), size_out=size)
        nengo.Connection(inp, node, synapse=None)
        nengo.Probe(node)
        nengo.Probe(alone)
    check_against_core(net)


@pytest.mark.parametrize(
    "bad", (None, np.nan, np.inf, [np.nan, 1], [1, 2, 3], [[1], [2]], "x", {}, [None, 1])
)
@pytest.mark.parametrize("size_in", (0, 1))
def test_what_functions_must_not_return(bad, size_in):
    def function(t, *x):
        return bad if t > 0.0035 else [0.5, t]

    with double() as net:
        node = nengo.Node(function, size_in=size_in, size_out=2)
        if size_in:
            nengo.Connection(nengo.Node([1]), node)
        probe = nengo.Probe(node)
    for simulator in (nengo.Simulator, nengo_dl.Simulator):
        with simulator(net, progress_bar=False) as sim:
            with pytest.raises(SimulationError):
                sim.run_steps(10)
            assert sim.data[probe].tolist() == [[0.5, t] for t in (0.001, 0.002, 0.003)]


def test_functions_may_keep_what_they_are_given():
    seen = []

    def function(t, x):
        seen.append(x)
        assert x.base is None
        assert x.flags.writeable
        assert type(t) is float

    with double() as net:
        inp = nengo.Node(networks.waves(1))
        nengo.Connection(inp, nengo.Node(function, size_in=1), synapse=None)
        probe = nengo.Probe(inp)
    seen.clear()  # that of the construction
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(20)
        assert np.array_equal(np.array(seen), sim.data[probe])


def test_functions_with_state_are_called_once_a_step():
    class Delay:
        def __init__(self):
            self.past = [0.0, 0.0, 0.0]

        def __call__(self, t, x):
            self.past.append(x[0])
            return self.past.pop(0)

    data = []
    for simulator in (nengo.Simulator, nengo_dl.Simulator):
        with double() as net:
            node = nengo.Node(Delay(), size_in=1, size_out=1)
            ens = nengo.Ensemble(10, 1)
            nengo.Connection(nengo.Node(networks.waves(1)), node, synapse=None)
            nengo.Connection(node, ens, synapse=None)
            nengo.Connection(ens, node, synapse=0.01)  # feedback
            nengo.Probe(ens, synapse=0.01)
        data += run(simulator, net)
    assert np.allclose(*data, rtol=1e-9, atol=1e-12)


def test_functions_are_called_in_one_order_step_by_step():
    """What they do to the outside is seen in the order of core."""

    def network(calls):
        def note(name, value=None):
            def function(t, *x):
                calls.append((name, round(t * 1000)))
                return value

            return function

        with nengo.Network(seed=0) as net:
            a = nengo.Node(note("a", 0.5))
            b = nengo.Node(note("b", 0.1), size_in=1, size_out=1)
            c = nengo.Node(note("c"), size_in=1)
            nengo.Connection(a, b, synapse=None)
            nengo.Connection(b, c, synapse=None)
        return net

    seen = []
    for simulator in (nengo.Simulator, nengo_dl.Simulator):
        calls = []
        net = network(calls)
        del calls[:]  # those of the construction
        with simulator(net, progress_bar=False) as sim:
            sim.run_steps(3)
            sim.step()
        seen.append(calls)
    assert seen[0] == [(name, step) for step in (1, 2, 3, 4) for name in "abc"]
    assert seen[1] == seen[0]


def test_a_function_that_raises_leaves_its_own_error():
    class Mine(Exception):
        pass

    def function(t, x):
        raise Mine("at once")

    with nengo.Network() as net:
        nengo.Connection(nengo.Node([1]), nengo.Node(function, size_in=1, size_out=1))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        for call in (sim.step, lambda: sim.run_steps(5), lambda: sim.run(0.01)):
            with pytest.raises(Mine, match="at once"):
                call()
        assert sim.n_steps == 0


@pytest.mark.parametrize("size_in", (0, 1))
def test_interrupts_in_functions_leave_the_steps_before(size_in):
    interrupted = []

    def function(t, x=0.5):
        if t > 0.0045 and not interrupted:
            interrupted.append(t)
            raise KeyboardInterrupt
        return t + x

    with nengo.Network() as net:
        nengo_dl.configure_settings(dtype="float64")
        output = function if size_in else lambda t: function(t)
        probe = nengo.Probe(nengo.Node(output, size_in=size_in, size_out=1))
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        with pytest.raises(KeyboardInterrupt):
            sim.run_steps(20)
        assert sim.n_steps == 4
        sim.run_steps(3)
        expected = np.arange(1, 8) * 0.001 + (0 if size_in else 0.5)
        assert np.allclose(sim.data[probe].ravel(), expected, rtol=1e-12)


@pytest.mark.parametrize("feedback, jit", [(True, "auto"), (False, False), (False, True)])
def test_after_a_failure_no_inputs_are_missing(feedback, jit):
    """What was called or drawn ahead of the steps is theirs when they are run later."""
    calls, fails = [], [0.0045, 0.1305]

    def function(t, x):
        if fails and t > fails[0]:
            fails.pop(0)
            raise ValueError("not now")
        return x

    with nengo.Network(seed=0) as net:
        nengo_dl.configure_settings(dtype="float64", jit=jit)
        counter = nengo.Node(lambda t: calls.append(t) or len(calls), size_out=1)
        noise = nengo.Node(nengo.processes.WhiteNoise(scale=False))
        node = nengo.Node(function, size_in=1)
        nengo.Connection(noise, node, synapse=None)
        if feedback:
            nengo.Connection(node, node, synapse=0, transform=0.5)
        filtered = nengo.Node(size_in=1)
        nengo.Connection(node, filtered, synapse=0.01)
        probes = [nengo.Probe(obj) for obj in (counter, noise, node, filtered)]
    del calls[:]
    with nengo_dl.Simulator(net, seed=1, progress_bar=False) as sim:
        for n_steps in (100, 200):
            with pytest.raises(ValueError, match="not now"):
                sim.run_steps(n_steps)
        assert sim.n_steps == 130
        sim.step()
        sim.run_steps(69)
        found = [sim.data[probe].copy() for probe in probes]
        sim.reset()
        del calls[:]
        sim.run_steps(200)
        for probe, data in zip(probes, found, strict=True):
            assert np.allclose(sim.data[probe], data, rtol=1e-12, atol=1e-12), probe
        assert np.array_equal(found[0].ravel(), np.arange(1, 201))


@pytest.mark.parametrize("kind", ("function", "function of x", "process", "filter"))
def test_what_iterates_to_its_end_is_named(kind):
    class Replay(nengo.Process):
        def make_step(self, shape_in, shape_out, dt, rng, state):
            values = iter([1.0, 2.0, 3.0])
            return lambda t, x=None: next(values)

    values = iter([1.0, 2.0, 3.0])
    with nengo.Network() as net:
        if kind == "function":
            node = nengo.Node(lambda t: next(values), size_out=1)
        elif kind == "function of x":
            node = nengo.Node(lambda t, x: next(values), size_in=1, size_out=1)
        else:
            process = Replay(default_size_in=0, default_size_out=1)
            node = nengo.Node(process, size_in=int(kind == "filter"))
        probe = nengo.Probe(node)
    for method, repeated in (("run_steps", [(20,)]), ("step", [()] * 9)):
        values = iter([1.0, 2.0, 3.0])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # runs as Python
            sim = nengo_dl.Simulator(net, progress_bar=False)
        with sim:
            with pytest.raises(SimulationError, match="lambda|Replay") as error:
                for arguments in repeated:
                    getattr(sim, method)(*arguments)
            assert "raised StopIteration" in str(error.value)
            assert isinstance(error.value.__cause__, StopIteration)
            assert sim.data[probe].ravel().tolist() == [1, 2, 3]


# results --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ("float32", "float64"))
def test_everything_has_the_type(dtype):
    with nengo.Network() as net:
        nengo_dl.configure_settings(dtype=dtype)
        ens = nengo.Ensemble(10, 2)
        conn = nengo.Connection(ens, ens)
        probe = nengo.Probe(ens)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        assert sim.data[probe].dtype == dtype
        sim.step()
        assert sim.data[probe].dtype == dtype
        # what was built is in double precision, as in core
        for obj in (ens, conn):
            arrays = [x for x in sim.data[obj] if isinstance(x, np.ndarray)]
            assert {x.dtype.name for x in arrays} == {"float64"}


def test_data_of_every_object_are_those_of_core():
    net = networks.recurrent()
    with net:
        nengo_dl.configure_settings(dtype="float64")
    with nengo.Simulator(net, progress_bar=False) as ref:
        with nengo_dl.Simulator(net, progress_bar=False) as sim:
            assert len(sim.data) == len(ref.data)
            neurons = [ens.neurons for ens in net.all_ensembles]
            rules = [c.learning_rule for c in net.all_connections if c.learning_rule]
            assert rules
            for obj in [net, *net.all_objects, *neurons, *rules]:
                if obj not in ref.model.params:
                    assert obj not in sim.data
                    continue
                expected, found = ref.model.params[obj], sim.data[obj]
                if isinstance(obj, nengo.Probe):
                    continue
                assert type(found) is type(expected)
                for x, y in zip(found or (), expected or (), strict=True):
                    if isinstance(y, np.ndarray):
                        assert np.allclose(x, y, rtol=1e-12, atol=0)


def test_equal_seeds_give_equal_results():
    def network():
        with double() as net:
            inp = nengo.Node(nengo.processes.WhiteNoise())
            ens = nengo.Ensemble(20, 1, noise=nengo.processes.WhiteNoise(seed=None))
            nengo.Connection(inp, ens)
            nengo.Probe(ens, synapse=0.01)
        return net

    same = [run(nengo_dl.Simulator, network(), seed=seed)[0] for seed in (3, 3, 4)]
    assert np.array_equal(same[0], same[1])
    assert not np.array_equal(same[0], same[2])
    with nengo_dl.Simulator(network(), seed=4, progress_bar=False) as sim:
        assert sim.seed == 4
        sim.run_steps(10)
        sim.reset(seed=3)
        assert sim.seed == 3
        sim.run_steps(40)
        assert np.array_equal(sim.data[sim.model.probes[0]], same[0])


@pytest.mark.parametrize(
    "make, executor",
    [
        (networks.recurrent, "numpy"),
        (networks.recurrent, "native"),
        (lambda: networks.rates(nengo.LIF(), 0.01), "tensorflow"),
        (networks.python_functions, "numpy"),
        (networks.python_functions, "native"),
    ],
)
def test_two_simulators_in_two_threads(make, executor):
    """What each of them gives is what it gives alone."""
    nets = [make(), make()]
    for net in nets:
        with net:
            nengo_dl.configure_settings(executor=executor)
    start = threading.Barrier(2)

    def run_each(i, results, begin=lambda: None):
        with nengo_dl.Simulator(nets[i], seed=i, progress_bar=False) as sim:
            begin()
            for _ in range(10):
                sim.run_steps(16)
            results[i] = [np.array(sim.data[probe]) for probe in sim.model.probes]

    alone, together = {}, {}
    for i in range(2):
        run_each(i, alone)
    arguments = [(i, together, lambda: start.wait(timeout=60)) for i in range(2)]
    threads = [threading.Thread(target=run_each, args=args) for args in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(2):
        for x, y in zip(together[i], alone[i], strict=True):
            assert np.array_equal(x, y)


# names ----------------------------------------------------------------------------------


def test_names_of_nodes_and_probes():
    with nengo.Network() as net:
        a, b = nengo.Node([0], label="stimulus"), nengo.Node([0], label="stimulus")
        inner = nengo.Node(size_in=1)
        p, q = nengo.Probe(a, label="out"), nengo.Probe(b)
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        names = [sim.get_name(obj) for obj in (a, b, p, q)]
        assert names[0] == "stimulus"
        assert names[2] == "out"
        assert len(set(names)) == 4
        data = {sim.get_name(b): np.ones((1, 2, 1))}
        sim.run_steps(2, data=data)
        assert sim.data[q].tolist() == [[1], [1]]
        with pytest.raises(ValidationError, match="has no name here.*'stimulus'"):
            sim.get_name(inner)


def test_soft_reset_is_an_older_name():
    net = networks.processes()
    with nengo_dl.Simulator(net, progress_bar=False) as sim:
        sim.run_steps(5)
        with pytest.warns(DeprecationWarning, match=r"write\n    sim.reset\("):
            sim.soft_reset()
        assert sim.n_steps == 0
        assert [len(sim.data[probe]) for probe in net.all_probes] == [5] * len(
            net.all_probes
        )
        with pytest.warns(DeprecationWarning, match="include_probes=True"):
            sim.soft_reset(include_probes=True)
        assert all(len(sim.data[probe]) == 0 for probe in net.all_probes)
