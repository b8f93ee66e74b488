"""What the tests share: small data sets in MNIST's own four files."""

import gzip
import os
import shutil
import struct
import sys
import tempfile

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import input_data


def packed(magic, *shape, data=b''):
    """The bytes of an IDX file."""
    return gzip.compress(struct.pack(f'>{1 + len(shape)}I', magic, *shape) + data, 1)


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
    for split, count, seed in (('train', train, 1), ('t10k', test, 2)):
        images, labels = digits(count, seed)
        files = {
            f'{split}-images-idx3-ubyte.gz': packed(2051, *images.shape, data=images.tobytes()),
            f'{split}-labels-idx1-ubyte.gz': packed(2049, *labels.shape, data=labels.tobytes()),
        }
        write_files(folder, files)
    return str(folder)


def content(folder, name):
    with open(os.path.join(folder, name), 'rb') as f:
        return f.read()


def write_files(folder, files):
    for name, data in files.items():
        with open(os.path.join(folder, name), 'wb') as f:
            f.write(data)


def events(log_dir):
    return EventAccumulator(str(log_dir), size_guidance={'images': 0}).Reload()


def image_of(found, tag):
    """The last picture of this tag, as grey values."""
    with tf.Graph().as_default(), tf.Session() as sess:
        png = tf.image.decode_png(found.Images(tag)[-1].encoded_image_string, channels=1)
        return sess.run(png)[..., 0].astype(float)


@pytest.fixture(scope='session', autouse=True)
def environment_of_all_tests():
    """Scripts without --log_dir leave a folder behind; here, and it is removed."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        os.chmod(folder, 0o755)  # some tests act as another user
        patch.setenv('TMPDIR', folder)
        patch.setenv('TF_XLA_FLAGS', '')  # compiling takes longer than the few steps of tests
        patch.setattr(tempfile, 'tempdir', None)
        yield


@pytest.fixture(scope='session')
def mnist_dir(tmp_path_factory):
    """A folder with 6,000 training and 1,000 test examples, which no test changes."""
    return write_mnist(tmp_path_factory.mktemp('mnist'))


@pytest.fixture(scope='session')
def real_mnist_dir():
    """MNIST itself, from the folder that MNIST_DATA_DIR names."""
    return os.environ.get('MNIST_DATA_DIR') or pytest.skip('MNIST_DATA_DIR names no folder')


@pytest.fixture(scope='session')
def small_dir(tmp_path_factory):
    """600 training and 100 test examples, which no test changes."""
    return write_mnist(tmp_path_factory.mktemp('small'), 600, 100)


@pytest.fixture
def own_dir(small_dir, tmp_path):
    """A copy of `small_dir` to break."""
    return shutil.copytree(small_dir, str(tmp_path / 'own'))


@pytest.fixture(scope='session')
def tiny_files(tmp_path_factory):
    """The bytes of the four files for 60 training and 20 test examples, by their names."""
    folder = write_mnist(tmp_path_factory.mktemp('tiny'), 60, 20)
    return {name: content(folder, name) for name in input_data.MNIST_FILES}


@pytest.fixture
def run(mnist_dir, monkeypatch, capsys):
    """Run a script in this process, as its users start it; return its stdout and stderr."""

    def run(script, *args):
        argv = [script.__file__, '--data_dir', mnist_dir, *map(str, args)]
        monkeypatch.setattr(sys, 'argv', argv)
        with tf.Graph().as_default():
            script.main()
        return capsys.readouterr()

    return run


@pytest.fixture
def refused(run, capsys):
    """Run a script that ends because of its flags or data; return its one message."""

    def refused(script, *args):
        with pytest.raises(SystemExit) as exit:
            run(script, *args)
        out, err = capsys.readouterr()
        message = err.splitlines()[-1] if exit.value.code == 2 else exit.value.code
        prefix = os.path.basename(script.__file__) + ': error: '
        assert (out, message[: len(prefix)]) == ('', prefix)
        return message[len(prefix) :]

    return refused
