"""Train and run small neural networks, convolutional ones above all, on ordinary CPUs.

A model is a `Sequential` of layers; a `Solver` trains it with a loss and an optimizer; `save` and `load` keep it
in a file. Data sets are in `pynn.data`, ready-made networks in `pynn.models`, the course's questions in
`pynn.experiments`.
"""

from pynn._version import __version__ as __version__

try:
    from pynn.names import *  # noqa: F403
    from pynn.names import __all__ as __all__
except ImportError as _error:  # the kernels are missing, or PYNN_ISA names none of them
    # Told where a name is first used, so that the command line, which is imported through here, can say it too.
    _reason = _error

    def __getattr__(name: str):
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        raise ImportError(str(_reason), name=_reason.name) from _reason

else:

    def __getattr__(name: str):
        import sys

        from pynn.habits import PACKAGE, missing_attribute

        raise missing_attribute(sys.modules[__name__], name, PACKAGE)
