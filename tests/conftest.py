"""What the tests share: small data sets in MNIST's own four files."""

import gzip
import os
import struct

import numpy as np
import pytest

import input_data


def idx(magic, array):
    """The bytes of an IDX file, not compressed."""
    return struct.pack(f'>{1 + array.ndim}I', magic, *array.shape) + array.tobytes()


def digits(count, seed):
    """Return `count` images, uint8 [count, 28, 28], with labels: a noisy pattern per class."""
    patterns = np.random.RandomState(42).randint(0, 2, (10, 7, 7)).repeat(4, 1).repeat(4, 2)
    random = np.random.RandomState(seed)
    labels = random.randint(0, 10, count)
    noise = random.randint(0, 128, (count, 28, 28))
    return (patterns[labels] * 127 + noise).astype(np.uint8), labels.astype(np.uint8)


def write_mnist(folder, train=6000, test=1000):
    """Write the four files, always the same for the same sizes, and return the folder's name."""
    os.makedirs(folder, exist_ok=True)
    train_images, train_labels = digits(train, seed=1)
    test_images, test_labels = digits(test, seed=2)
    for name, magic, array in (
        (input_data.TRAIN_IMAGES, 2051, train_images),
        (input_data.TRAIN_LABELS, 2049, train_labels),
        (input_data.TEST_IMAGES, 2051, test_images),
        (input_data.TEST_LABELS, 2049, test_labels),
    ):
        with open(os.path.join(folder, name), 'wb') as f:
            f.write(gzip.compress(idx(magic, array), 1))
    return str(folder)


@pytest.fixture(scope='session')
def mnist_dir(tmp_path_factory):
    """A folder with 6,000 training and 1,000 test examples, which no test changes."""
    return write_mnist(tmp_path_factory.mktemp('mnist'))


@pytest.fixture(scope='session')
def real_mnist_dir():
    """MNIST itself, from the folder that MNIST_DATA_DIR names."""
    folder = os.environ.get('MNIST_DATA_DIR')
    if not folder:
        pytest.skip('MNIST_DATA_DIR does not name a folder of MNIST')
    return folder
