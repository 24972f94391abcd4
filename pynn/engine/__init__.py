"""Owns how a model is computed fast: in blocked memory, layers joined, every buffer allocated once.

Layers say what they compute, through `Module.lower`; this package decides how. Results agree with those of the
layers one by one, which stay the reference: a model, or a layer within one, that does not lower itself is computed
by its own `forward` and `backward`.
"""

from pynn.engine.inference import Frozen, Predictor, freeze
from pynn.engine.needs import memory_needed
from pynn.engine.training import Trainer

__all__ = ["Frozen", "Predictor", "Trainer", "freeze", "memory_needed"]
