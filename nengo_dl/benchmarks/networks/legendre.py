"""Legendre memory units: recurrent networks that remember a window of their input."""

from __future__ import annotations

import nengo
import numpy as np

from nengo_dl.benchmarks.networks.base import SEED, builder, case, counts, network, probed

TERMS = 18
"""Of the Taylor series of the exponential, for matrices with a norm of at most one half:
what is left out is smaller than rounding, because ``0.5 ** 19 / 19!`` is below 1e-22."""


def _exponential(matrix):
    """The matrix exponential, by scaling and squaring."""
    norm = np.abs(matrix).sum(axis=0).max()
    halvings = max(0, int(np.ceil(np.log2(max(norm, 1e-300)))) + 1)
    matrix = matrix / 2.0**halvings
    result = term = np.eye(len(matrix))
    for k in range(1, TERMS + 1):
        term = term @ matrix / k
        result = result + term
    for _ in range(halvings):
        result = result @ result
    return result


def legendre_delay(order: int, theta: int) -> tuple[np.ndarray, np.ndarray]:
    r"""The discrete system that remembers the last ``theta`` steps.

    .. math::

       A_{ij} = \frac{2i + 1}{\theta}
           \begin{cases} -1 & i < j \\ (-1)^{i - j + 1} & i \ge j \end{cases},
       \qquad B_i = \frac{(2i + 1) (-1)^i}{\theta}

    discretized with a zero-order hold over steps of length one.

    ``order``: number of Legendre polynomials. ``theta``: length of the window, in steps.
    Returns ``A``, (order, order), and ``B``, (order, 1).

    References
    ----------
    .. [1] A. R. Voelker, I. Kajić and C. Eliasmith (2019). Legendre memory units:
       continuous-time representation in recurrent neural networks. NeurIPS 32.
    """
    index = np.arange(order, dtype=np.float64)
    i, j = np.meshgrid(index, index, indexing="ij")
    scale = (2 * index[:, None] + 1) / theta
    a = np.where(i < j, -1.0, (-1.0) ** (i - j + 1)) * scale
    b = (-1.0) ** index[:, None] * scale
    # with the input as a state that stays as it is, one exponential has both matrices
    both = np.zeros((order + 1, order + 1))
    both[:order] = np.hstack([a, b])
    both = _exponential(both)
    return both[:order, :order], both[:order, order:]


def draw_weights(dimensions: int, units: int, order: int) -> dict[str, np.ndarray]:
    """What is learned in an LMU, drawn at random.

    ``dimensions``, ``units``, ``order``: see ``lmu``. Returns: name -> matrix ``(rows,
    columns)``.
    """
    rng = np.random.RandomState(SEED)

    def draw(rows, columns):
        return rng.standard_normal((rows, columns)) / np.sqrt(columns)

    return {
        "u_x": draw(1, dimensions),
        "u_h": 0.1 * draw(1, units),
        "u_m": np.zeros((1, order)),
        "h_x": draw(units, dimensions),
        "h_h": 0.5 * draw(units, units),
        "h_m": draw(units, order),
    }


@builder
@case("lmu", dimensions=1, units=212, order=256, theta=784)
@case(
    "lmu_layer",
    everywhere=False,
    dimensions=1,
    units=212,
    order=256,
    theta=784,
    native=False,
)
def lmu(
    dimensions: int = 1,
    units: int = 212,
    order: int = 256,
    theta: int = 784,
    native: bool = True,
) -> nengo.Network:
    r"""A Legendre memory unit, one step of it for each step of the simulation.

    .. math::

       u_t &= W_{ux} x_t + W_{uh} h_{t-1} + W_{um} m_{t-1} \\
       m_t &= \bar A m_{t-1} + \bar B u_t \\
       h_t &= \tanh(W_{hx} x_t + W_{hh} h_{t-1} + W_{hm} m_t)

    The default sizes are those for images of 28 × 28, pixel by pixel.

    Parameters
    ----------
    dimensions : int
        Of the input.
    units : int
        Size of :math:`h`.
    order : int
        Size of :math:`m`, the number of Legendre polynomials.
    theta : float
        Length of the window in steps.
    native : bool
        True: of Nengo's nodes, connections and ``nengo.Tanh`` neurons, which all
        backends run. False: a Keras cell in a `.TensorNode`, with the same weights.

    Returns
    -------
    ~nengo.Network
        With ``inp`` and ``p``, :math:`h`.

    Raises
    ------
    ~nengo.exceptions.ValidationError
        If a size is less than 1.

    References
    ----------
    .. [1] A. R. Voelker, I. Kajić and C. Eliasmith (2019). Legendre memory units:
       continuous-time representation in recurrent neural networks. NeurIPS 32.

    Examples
    --------
    >>> net = lmu(units=20, order=12, theta=50)
    """
    dimensions, units, order = counts(dimensions=dimensions, units=units, order=order)
    weights = draw_weights(dimensions, units, order)
    system = legendre_delay(order, theta)
    sizes = {"d": dimensions, "units": units, "order": order}
    with network("lmu", nengo.Tanh(tau_ref=1), dimensions, **sizes) as net:
        make = _native_lmu if native else _keras_lmu
        output = make(net.inp, units, order, system, weights)
    return probed(net, output)


def _native_lmu(inp, units, order, system, weights):
    """A Legendre memory unit made of Nengo objects; returns the neurons ``h``."""
    a, b = system
    u = nengo.Node(size_in=1, label="u")
    m = nengo.Node(size_in=order, label="m")
    h = nengo.Ensemble(
        units, 1, gain=nengo.dists.Choice([1]), bias=nengo.dists.Choice([0])
    ).neurons
    # a synapse of 0 is the value of the last step
    for pre, post, matrix, synapse in (
        (inp, u, weights["u_x"], None),
        (h, u, weights["u_h"], 0),
        (m, u, weights["u_m"], 0),
        (m, m, a, 0),
        (u, m, b, None),
        (inp, h, weights["h_x"], None),
        (h, h, weights["h_h"], 0),
        (m, h, weights["h_m"], None),
    ):
        nengo.Connection(pre, post, transform=matrix, synapse=synapse)
    return h


def _keras_lmu(inp, units, order, system, weights):
    """A Keras cell; returns the node."""
    from nengo_dl.benchmarks.keras_cells import LMUCell
    from nengo_dl.tensor_node import TensorNode

    cell = LMUCell(units, order, system, weights)
    node = TensorNode(cell, shape_in=(inp.size_out,), pass_time=False, label="lmu")
    nengo.Connection(inp, node, synapse=None)
    return node
