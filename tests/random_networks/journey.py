"""A simulation here, and what users do between its runs.

Whatever that is (looking, saving, pickling, running aside), the simulation must go on as
Nengo's does, which runs in one piece.
"""

import pickle
import tempfile
from pathlib import Path

import numpy as np

import nengo_dl
from tests.random_networks.objects import STEPS


class Journey:
    """One simulation of a case.

    Parameters
    ----------
    case : Case
    net : ~nengo.Network
    nodes : list of ~nengo.Node
        Those that are given data, if the case has any.
    """

    def __init__(self, case, net, nodes):
        runs = {"executor": "native"} if case.native else {"jit": case.jit}
        with net:
            nengo_dl.configure_settings(dtype="float64", **runs)
        self.case = case
        self.sim = self._simulator(net)
        self._nodes = [net.all_nodes.index(node) for node in nodes]
        self._parts = [[] for _ in net.all_probes]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.sim.close()

    def _simulator(self, net):
        return nengo_dl.Simulator(
            net,
            dt=self.case.dt,
            unroll_simulation=self.case.unroll,
            minibatch_size=self.case.batch,
            progress_bar=False,
        )

    def run(self, pieces, between=()):
        """Run some steps, piece by piece; the data of all probes, items first."""
        done = 0
        for piece, n in enumerate(pieces):
            if piece == self.case.opened:
                self.sim._program.written()
            self._advance(done, n)
            done += n
            if piece < len(between):
                ACTIONS[between[piece]](self)
        data = self._harvested()
        return data if self.case.batch else [a[None] for a in data]

    def _advance(self, done, n, **options):
        if self.case.fed:
            options["data"] = self.data(done, n)
        if n == 1:
            self.sim.step(**options)
        else:
            self.sim.run_steps(n, **options)

    def data(self, done=0, n=STEPS):
        """What the input nodes are given: node -> array (batch, steps, size)."""
        nodes = [self.sim.network.all_nodes[i] for i in self._nodes]
        items = range(self.case.batch or 1)
        return {
            node: np.array([node.output.item(b)[done : done + n] for b in items])
            for node in nodes
        }

    def _harvest(self):
        """Take the data of all probes, and forget them."""
        for parts, probe in zip(self._parts, self.sim.network.all_probes, strict=True):
            parts.append(np.array(self.sim.data[probe]))
        self.sim.clear_probes()

    def _harvested(self):
        """The data of all probes since this was called last."""
        self._harvest()
        axis = 1 if self.case.batch else 0
        data = [np.concatenate(parts, axis) for parts in self._parts]
        self._parts = [[] for _ in self._parts]
        return data

    def parameters(self):
        """What `sim.data` says of encoders, biases and weights, in a fixed order."""
        data = self.sim.data
        for kind, obj, attribute in parameters_of(self.sim.model):
            if kind == "weights":
                value = data[obj].weights
                yield value.toarray() if hasattr(value, "toarray") else np.array(value)
            else:
                yield np.array(getattr(data[obj], attribute))

    # between the runs ----------------------------------------------------------------

    def look(self):
        """Look at everything that there is to see."""
        for obj in self.sim.data:
            assert self.sim.data[obj] is not Ellipsis
        assert len(list(self.parameters())) == len(parameters_of(self.sim.model))
        assert self.sim.describe()

    def pickled(self):
        """Go on with what came out of a pickle, if the network can be pickled."""
        try:
            pickle.dumps(self.sim.network)
        except (pickle.PicklingError, AttributeError, TypeError):
            return  # it has lambdas, as most drawn networks
        self._replace(pickle.loads(pickle.dumps(self.sim)))

    def reloaded(self):
        """Go on in a new simulator that loads what this one saves."""
        self._harvest()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "params.npz"
            self.sim.save_params(path, include_state=True)
            self._replace(self._simulator(self.sim.network))
            self.sim.load_params(path, include_state=True)

    def _replace(self, sim):
        self.sim.close()
        self.sim = sim

    def aside(self):
        """Run some steps that leave no trace, unless something learns."""
        if learns(self.sim.network):
            return  # what is learned lasts, see `run_steps`
        self._harvest()
        options = {"data": self.data(0, 3)} if self.case.fed else {}
        self.sim.run_steps(3, stateful=False, **options)
        self.sim.clear_probes()

    def clear(self):
        """Forget the data; whoever wants them has taken them."""
        self._harvest()

    def store(self):
        """Save the parameters, and load them again."""
        if (self.case.batch or 1) > 1:
            return  # a file has what the first item has learned, which all items get
        with tempfile.TemporaryDirectory() as folder:
            self.sim.save_params(Path(folder) / "params.npz")
            self.sim.load_params(Path(folder) / "params.npz")


#: what may happen between two runs
ACTIONS = {
    "go on": lambda journey: None,
    "look": Journey.look,
    "pickle": Journey.pickled,
    "reload": Journey.reloaded,
    "aside": Journey.aside,
    "clear": Journey.clear,
    "store": Journey.store,
}


def learns(net):
    """Whether there are learning rules in a network."""
    return any(connection.learning_rule_type for connection in net.all_connections)


def parameters_of(model):
    """What has parameters in a built model: (what they are, object, attribute)."""
    found = []
    for obj in model.params:
        signals = model.sig.get(obj, {})
        if "weights" in signals and signals["weights"] is not None:
            found.append(("weights", obj, "weights"))
        if "encoders" in signals and "bias" in model.sig[obj.neurons]:
            found.append(("encoders", obj, "scaled_encoders"))
            found.append(("bias", obj, "bias"))
    return found


def reference_parameters(sim):
    """The same as `Journey.parameters`, in Nengo: the memory of the operators."""
    for kind, obj, _ in parameters_of(sim.model):
        owner = obj.neurons if kind == "bias" else obj
        value = sim.signals[sim.model.sig[owner][kind]]
        yield value.toarray() if hasattr(value, "toarray") else np.array(value)
