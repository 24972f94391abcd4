"""What tests ask of spawned processes: in a module that these can import, as they cannot the tests themselves."""

import numpy as np
from resumable import fit, outcome


def three_steps(model, optimizer):
    """The weights after three steps with gradients from a fixed seed."""
    rng = np.random.default_rng(3)
    for _ in range(3):
        for parameter in model.parameters():
            parameter.grad = rng.normal(size=parameter.shape).astype(parameter.data.dtype)
        optimizer.step()
    return model.state_dict()


def trained(solver):
    """What a training leaves."""
    fit(solver)
    return outcome(solver)
