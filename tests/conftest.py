"""What the tests share: small data sets, scripts run in this process or in one of their own.

Environment variables that let more be tested:

MNIST_DATA_DIR: a folder with MNIST; without it, the tests use small data sets only.
MNIST_LOG_DIR: a folder of `mnist_deep.py`'s 20,000 steps on MNIST, to read drawn digits with.
OTHER_PYTHON: a Python with the other TensorFlow, to exchange checkpoints with.
"""

import contextlib
import gzip
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import input_data

ROOT = Path(input_data.__file__).parent
NOBODY_LISTENS = 'http://127.0.0.1:9'
SET_BY_SCRIPTS = 'TF_CPP_MIN_LOG_LEVEL', 'TF_ENABLE_ONEDNN_OPTS'  # here, too: they are imported


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


def write_mnist(folder, train=6000, test=200):
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


def environment_with(**variables):
    """The environment of a user's process that cannot reach the network, with these variables."""
    # With PYTHONUNBUFFERED, output never waits in a buffer.
    not_passed_on = *SET_BY_SCRIPTS, 'PYTHONUNBUFFERED'
    environment = {name: os.environ[name] for name in os.environ if name not in not_passed_on}
    return {**environment, 'https_proxy': NOBODY_LISTENS, 'http_proxy': NOBODY_LISTENS, **variables}


def start_python(*args, python=sys.executable, env=(), **options):
    """Start a Python process that cannot reach the network; return it."""
    return subprocess.Popen(
        [python, *map(str, args)],
        env=environment_with(PYTHONPATH=str(ROOT), **dict(env)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        **options,
    )


@pytest.fixture(scope='session', autouse=True)
def temporary_folder():
    """Scripts without --log_dir leave a folder behind; here it is removed at the end."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        os.chmod(folder, 0o755)  # some tests act as another user
        patch.setenv('TMPDIR', folder)
        patch.setenv('TF_XLA_FLAGS', '')  # compiling takes longer than the few steps of tests
        patch.setattr(tempfile, 'tempdir', None)
        yield


@pytest.fixture(scope='session', autouse=True)
def foreground():
    """Ctrl-C works here and in the processes that tests start; a background job ignores it."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@contextlib.contextmanager
def as_another_user():
    """No mode binds an administrator, so act as nobody."""
    if os.getuid():
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture(scope='session', autouse=True)
def this_machine_only():
    """A test that asks for the address of another machine fails; requests always asks first."""
    original = socket.getaddrinfo
    with pytest.MonkeyPatch.context() as patch:

        def guarded(host, *args, **kwargs):
            assert host in ('127.0.0.1', '::1', 'localhost', None), f'a test asks for {host}'
            return original(host, *args, **kwargs)

        patch.setattr(socket, 'getaddrinfo', guarded)
        yield


@pytest.fixture(scope='session')
def mnist_dir(tmp_path_factory):
    """A folder with 6,000 training and 200 test examples, which no test changes."""
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


@pytest.fixture
def run(mnist_dir, monkeypatch, capsys):
    """Run a script's main() in this process; return its stdout and stderr."""

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
        assert out == ''
        message = exit.value.code
        if message == 2:  # argparse's, which has printed usage and message
            message = err.splitlines()[-1]
        else:  # Python prints it at the end
            assert err == ''
        prefix = os.path.basename(script.__file__) + ': error: '
        assert message.startswith(prefix)
        return message[len(prefix) :]

    return refused
