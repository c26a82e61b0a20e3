"""Keras cells to measure networks with."""

from __future__ import annotations

from typing import Any

import keras


class LMUCell(keras.layers.Layer):
    r"""One step of a Legendre memory unit; its state is :math:`(h, m)`.

    Parameters
    ----------
    units, order : int
        Sizes of :math:`h` and :math:`m`.
    system : tuple of array
        :math:`\bar A`, ``(order, order)``, and :math:`\bar B`, ``(order, 1)``, which are
        not trained.
    weights : dict
        The matrices ``u_x``, ``u_h``, ``u_m``, ``h_x``, ``h_h`` and ``h_m``, each of
        shape ``(rows, columns)``.

    Notes
    -----
    The equations are those of `.benchmarks.lmu`. It can be used in a
    ``keras.layers.RNN`` as well as in a `.TensorNode`.

    Examples
    --------
    >>> from nengo_dl.benchmarks.networks.legendre import draw_weights, legendre_delay
    >>> weights = draw_weights(dimensions=2, units=4, order=8)
    >>> layer = keras.layers.RNN(LMUCell(4, 8, legendre_delay(8, 20), weights))
    >>> layer(np.zeros((3, 10, 2))).shape
    TensorShape([3, 4])
    """

    def __init__(self, units: int, order: int, system: Any, weights: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self.state_size = [units, order]
        self.output_size = units
        self._values = {**weights, "m_m": system[0], "m_u": system[1]}

    def build(self, *shapes: Any) -> None:
        """Make the variables; transposed, because items are rows here."""
        self.matrices = {
            name: self.add_weight(
                name=name,
                shape=value.T.shape,
                initializer=keras.initializers.Constant(value.T),
                trainable=not name.startswith("m_"),
            )
            for name, value in self._values.items()
        }
        self.built = True

    def call(self, x: Any, states: Any) -> Any:
        """The output ``(batch, units)``, and the next states."""
        (h, m), w, matmul = states, self.matrices, keras.ops.matmul
        u = matmul(x, w["u_x"]) + matmul(h, w["u_h"]) + matmul(m, w["u_m"])
        m = matmul(m, w["m_m"]) + matmul(u, w["m_u"])
        h = matmul(x, w["h_x"]) + matmul(h, w["h_h"]) + matmul(m, w["h_m"])
        h = keras.ops.tanh(h)
        return h, [h, m]
