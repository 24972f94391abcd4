"""Fixtures that tests of several parts share."""

import pytest

import cnn_ext


@pytest.fixture
def one_thread():
    """Kernels on one thread: for thousands of calls on tiny arrays, cheaper than waking others."""
    before = cnn_ext.get_num_threads()
    cnn_ext.set_num_threads(1)
    yield
    cnn_ext.set_num_threads(before)
