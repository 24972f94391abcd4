"""What rows are made of: misclassified images and first-layer filters as pictures."""

import numpy as np
import pytest

from pynn import Flatten, Linear, Sequential, models
from pynn.experiments.rows import first_layer_filters, misclassified


def test_misclassified_images_with_their_labels():
    x = np.arange(4 * 2 * 3, dtype=np.uint8).reshape(4, 1, 2, 3)
    wrong = misclassified(x, np.array([0, 1, 2, 3]), np.array([0, 2, 2, 1]))
    assert wrong == {"images": [x[1, 0].tolist(), x[3, 0].tolist()], "true": [1, 3], "predicted": [2, 1]}


def test_at_most_24_misclassified_colour_images_channels_last():
    x = np.random.default_rng(0).integers(0, 256, (30, 3, 4, 5)).astype(np.uint8)
    wrong = misclassified(x, np.zeros(30, int), np.ones(30, int))
    assert np.shape(wrong["images"]) == (24, 4, 5, 3)
    assert wrong["images"][7][2][3] == x[7, :, 2, 3].tolist()
    assert len(wrong["true"]) == len(wrong["predicted"]) == 24


def test_features_have_no_pictures():
    assert misclassified(np.zeros((3, 2), np.float32), np.zeros(3, int), np.ones(3, int)) is None
    assert first_layer_filters(models.linear(2), (2,)) is None


def test_filters_are_kernels_or_a_linear_layers_columns():
    grey = models.cnn((1, 8, 9), kernel_size=3, filters=5)
    np.testing.assert_allclose(first_layer_filters(grey, (1, 8, 9)), grey[0].weight.data[:, 0], atol=5e-5)
    colour = models.cnn((3, 8, 9), kernel_size=3, filters=30)
    pictures = np.array(first_layer_filters(colour, (3, 8, 9)))
    np.testing.assert_allclose(pictures, colour[0].weight.data[:24].transpose(0, 2, 3, 1), atol=5e-5)
    linear = Sequential(Flatten(), Linear(6, 4))
    pictures = np.array(first_layer_filters(linear, (1, 2, 3)))
    assert pictures.shape == (4, 2, 3)
    assert pictures[2, 1, 0] == pytest.approx(linear[1].weight.data[3, 2], abs=5e-5)
