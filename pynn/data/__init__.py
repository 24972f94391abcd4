"""Data sets: loaders, where their files are looked for, downloads, and batch transforms."""

from pynn.data.arrays import load_npz
from pynn.data.binary20 import load_binary20
from pynn.data.catalogue import load
from pynn.data.cifar10 import load_cifar10
from pynn.data.dataset import DataError, DataNotFound, Dataset
from pynn.data.image_folder import load_image_folder
from pynn.data.images import image_files
from pynn.data.input_format import InputFormat
from pynn.data.mnist import load_fashion_mnist, load_mnist
from pynn.data.sizes import DataSize, data_size
from pynn.data.transforms import Compose, Flip, Rotate, Shift, Standardize
from pynn.data.uci import load_breast_cancer, load_digits

__all__ = [
    "Compose",
    "DataError",
    "DataNotFound",
    "DataSize",
    "Dataset",
    "Flip",
    "InputFormat",
    "Rotate",
    "Shift",
    "Standardize",
    "data_size",
    "image_files",
    "load",
    "load_binary20",
    "load_breast_cancer",
    "load_cifar10",
    "load_digits",
    "load_fashion_mnist",
    "load_image_folder",
    "load_mnist",
    "load_npz",
]
