"""What methods were called before, for scripts that were written then."""

import warnings


class OlderNames:
    """Methods of a `Simulator` under the names of earlier versions."""

    def soft_reset(self, include_trainable=False, include_probes=False):
        """Back to the first step, but with all processes going on; see `reset`.

        Parameters
        ----------
        include_trainable : bool
            Also give all parameters the values that they were built with.
        include_probes : bool
            Also forget all probe data.

        Warns
        -----
        DeprecationWarning
            Always; it says what to write instead.
        """
        warnings.warn(
            "Simulator.soft_reset is deprecated; use Simulator.reset("
            f"include_trainable={include_trainable}, include_probes={include_probes}, "
            "include_processes=False) instead",
            DeprecationWarning,
            stacklevel=2,
        )
        self.reset(
            include_trainable=include_trainable,
            include_probes=include_probes,
            include_processes=False,
        )
