"""input_data.py: the original's arrays and batches, broken files, and hosts that lie."""

import contextlib
import copy
import gzip
import hashlib
import http.server
import io
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc

import numpy as np
import pytest
from conftest import content, digits, packed, write_files, write_mnist

import input_data
from input_data import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS

NAMES = tuple(input_data.MNIST_FILES)
ROOT = os.path.dirname(input_data.__file__)
REFUSING = 'http://127.0.0.1:1/'


@pytest.fixture(scope='session')
def modules():
    """Ours and, where it is, the module that TensorFlow 1.x shipped."""
    with contextlib.suppress(ImportError):
        from tensorflow.examples.tutorials.mnist import input_data as original

        return input_data, original
    return (input_data,)


def read_small(folder, **options):
    return input_data.read_data_sets(folder, **{'validation_size': 200, 'seed': 3, **options})


def assert_same(found, expected):
    for ours, theirs in zip(found, expected):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert np.array_equal(ours, theirs)


BATCHES = [(size, size % 3 > 0) for size in (1, 64, 99, 100, 33, 400, 7, 600, 201)] * 3
BATCHES += [(70, True)] * 20 + [(600, True)] * 4
OPTIONS = [
    ({}, 'fa0c2397f85ea334'),
    ({'one_hot': True}, '2da7b64b1b7e477c'),
    ({'reshape': False, 'dtype': 'float32', 'seed': 2**31 + 5}, '0b7f3d26032620ce'),
    ({'dtype': np.uint8, 'seed': 0}, '4e2f9ecfd42b9dac'),
    ({'dtype': np.dtype('uint8'), 'one_hot': True, 'reshape': False}, 'a2fec0e838eefd78'),
    ({'validation_size': 0}, '82ca3d80a96187fd'),
]


def drawn(mnist, batches):
    """Draw from the three data sets in turns."""
    for size, shuffle in batches:
        for data in mnist:
            if data.num_examples:
                yield from data.next_batch(min(size, data.num_examples), shuffle=shuffle)
                yield data.epochs_completed


def digest(arrays):
    sha256 = hashlib.sha256()
    for array in map(np.asarray, arrays):
        sha256.update(f'{array.dtype} {array.shape}'.encode() + array.tobytes())
    return sha256.hexdigest()[:16]


@pytest.mark.parametrize(('options', 'expected'), OPTIONS, ids=str)
def test_batches_are_the_originals(modules, small_dir, options, expected):
    for module in modules:
        mnist = module.read_data_sets(small_dir, **{'validation_size': 200, 'seed': 3, **options})
        assert digest(drawn(mnist, BATCHES)) == expected


def reads_private_names(train, validation, test):
    yield from (validation._images, validation._labels)
    yield from (*validation.next_batch(150), *validation.next_batch(70))
    yield [validation._num_examples, validation._index_in_epoch, validation._epochs_completed]


def sets_images(train, validation, test):
    train._images = np.random.RandomState(1).normal(train.images, 0.1)
    yield from (*train.next_batch(150), *train.next_batch(300))
    train._images = (train._images > 0.5).reshape(-1, 28, 28)[:, ::2, ::2]
    yield from (*train.next_batch(50), *train.next_batch(350))


def sets_labels(train, validation, test):
    train._labels = np.eye(2)[train.labels // 5]
    yield from (*train.next_batch(50), *train.next_batch(350))
    train._labels = train.labels[:, 0] == 1
    yield from (*train.next_batch(50), *train.next_batch(350))


def counts_fewer(train, validation, test):
    train._num_examples = validation._num_examples = 120
    for data in (train, validation):
        yield from (*data.next_batch(100), *data.next_batch(100, shuffle=False))
        data._num_examples = 70
        yield from (*data.next_batch(20), *data.next_batch(20), data.epochs_completed)
    train.next_batch(10)
    train._num_examples = 25  # less than half of the position
    for _ in range(4):
        yield from (*train.next_batch(20), train._index_in_epoch, train.epochs_completed)


def cuts(train, validation, test):
    for data, shuffle in ((train, True), (validation, False), (test, True)):
        data._images, data._labels = data.images[30:90], data.labels[30:90]
        data._num_examples = 60
        yield from (*data.next_batch(50, shuffle=shuffle), *data.next_batch(50))
        yield [data.num_examples, data.epochs_completed]


def doubles(train, validation, test):
    test._images = np.concatenate([test.images, test.images])
    test._labels, test._num_examples = np.tile(test.labels, 2), 200
    yield from (*test.next_batch(150), *test.next_batch(200), test.epochs_completed)


def begins_anew(train, validation, test):
    for _ in range(3):
        while not train.epochs_completed:
            yield from train.next_batch(70)
        train._epochs_completed = train._index_in_epoch = 0
    yield from (*train.next_batch(70), *train.next_batch(-train._index_in_epoch))
    yield from train.next_batch(50)


def draws_any_number(train, validation, test):
    yield from (*train.next_batch(450), *train.next_batch(750), train.epochs_completed)
    for size in (0, 90, 0, -40, 20):
        yield from (*validation.next_batch(size), validation._index_in_epoch)


def changes_in_place(train, validation, test):
    other = copy.deepcopy(train)
    train.images[:, :9] = 0.5
    yield from (*train.next_batch(70), *other.next_batch(70, shuffle=False))
    train.labels[train.labels > 4] = 1
    yield from train.next_batch(70)


USES = {
    reads_private_names: '8a42e0e61164bba7',
    sets_images: '2b16f538b5faf3ed',
    sets_labels: '61d6e5acd5131cd2',
    counts_fewer: '3a3379ec12e29b2d',
    cuts: '8ac2623d24ada0bb',
    doubles: '8547ef165641408e',
    begins_anew: '8b147195a6f51d9d',
    draws_any_number: 'b2dd44694df71cb0',
    changes_in_place: 'a0f453ac43f88b3d',
}


@pytest.mark.parametrize('use', USES, ids=lambda use: use.__name__)
def test_what_programs_for_the_original_do(modules, small_dir, use):
    for module in modules:
        mnist = module.read_data_sets(small_dir, validation_size=200, seed=3)
        assert digest(use(*mnist)) == USES[use]


def test_what_is_set_late_comes_once_in_its_epoch(small_dir):
    data = read_small(small_dir).train
    data.next_batch(390)
    data._images = data._labels = np.arange(150)
    data._num_examples, data._index_in_epoch = 150, 0
    assert sorted(data.next_batch(150)[0]) == list(range(150))
    first, _ = data.next_batch(100)
    data._images = data._labels = np.arange(800)
    data._num_examples = 800
    rest, labels = data.next_batch(700)
    assert sorted([*first, *rest]) == list(range(800))
    assert np.array_equal(rest, labels)


@pytest.mark.parametrize('name', ['images', 'labels', 'num_examples', 'epochs_completed'])
def test_public_names_are_read_only(small_dir, name):
    with pytest.raises(AttributeError):
        setattr(read_small(small_dir).train, name, 1)


def test_mnist(real_mnist_dir):
    for name, known in input_data.MNIST_FILES.items():
        data = content(real_mnist_dir, name)
        assert (len(data), hashlib.sha256(data).hexdigest()) == known
    mnist = input_data.read_data_sets(real_mnist_dir, one_hot=True)
    assert [data.images.shape for data in mnist] == [(55000, 784), (5000, 784), (10000, 784)]
    assert mnist.validation.labels[:6].argmax(axis=1).tolist() == [5, 0, 4, 1, 9, 2]


def test_dtypes(small_dir):
    tf = pytest.importorskip('tensorflow.compat.v1')
    for dtype in (tf.uint8, tf.float32):
        data = read_small(small_dir, dtype=dtype).train
        assert data.next_batch(5)[0].dtype == data.images.dtype == dtype.as_numpy_dtype
    for dtype in (tf.int32, tf.bfloat16, tf.qint8, tf.string, np.float64, None, 'no dtype', 3):
        for fake_data in (False, True):
            with pytest.raises(TypeError):
                input_data.read_data_sets(small_dir, fake_data, dtype=dtype, validation_size=9)


@pytest.mark.parametrize('one_hot', [False, True])
def test_fake_data(small_dir, one_hot):
    fake = input_data.read_data_sets('', fake_data=True, one_hot=one_hot)
    real = read_small(small_dir, one_hot=one_hot)
    for images, labels in (fake.test.next_batch(2), real.train.next_batch(2, fake_data=True)):
        assert images == [[1] * 784] * 2
        assert labels == [[1] + [0] * 9 if one_hot else 0] * 2


@pytest.mark.parametrize('options', [{}, {'dtype': np.uint8, 'one_hot': True}])
def test_a_batch_belongs_to_its_caller(small_dir, options):
    data, same = (read_small(small_dir, **options).train for _ in range(2))
    for i in range(40):
        if i == 20:
            assert len(data.images) == 400
        batch, expected = (each.next_batch(70, shuffle=i % 9 < 5) for each in (data, same))
        assert_same(batch, expected)
        for array in batch:
            array[...] = 77
    unchanged = read_small(small_dir, **options).train
    assert_same((data.images, data.labels), (unchanged.images, unchanged.labels))


def test_numpys_random_state_is_neither_used_nor_changed(small_dir):
    before = np.random.get_state()
    batches = [read_small(small_dir, seed=seed).train.next_batch(400) for seed in (None, None, 5)]
    assert (batches[0][1] != batches[1][1]).any()
    for found, expected in zip(np.random.get_state(), before):
        np.testing.assert_array_equal(found, expected)


def test_sizes_out_of_range(small_dir):
    data = read_small(small_dir).train
    for start in (0, 70):
        data.next_batch(start)
        with pytest.raises(ValueError, match=f'^batch_size: expected {800 - start} at most, .*9'):
            data.next_batch(809 - start)
    for size in (-1, 601):
        with pytest.raises(ValueError, match=f'^{small_dir}: .* 600 .*validation_size {size}'):
            read_small(small_dir, validation_size=size)


def test_data_set_of_ones_own():
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1).copy()
    data = input_data.DataSet(images, np.array([1, 0]), seed=0)
    images[:] = 0
    expected = np.arange(24, dtype=np.float32).reshape(2, 12) * np.float32(1 / 255)
    assert_same([data.images], [expected])
    with pytest.raises(ValueError, match='2 images have 1 labels'):
        input_data.DataSet(images, np.array([1]))


def test_extract(small_dir):
    images, labels = digits(100, seed=2)
    files = [io.BytesIO(content(small_dir, name)) for name in (TEST_IMAGES, *[TEST_LABELS] * 3)]
    assert_same([input_data.extract_images(files[0])], [images[..., np.newaxis]])
    assert_same([input_data.extract_labels(files[1])], [labels])
    assert_same([input_data.extract_labels(files[2], True, 12)], [np.eye(12)[labels]])
    with pytest.raises(ValueError, match='expected labels from 0 to 8, found 9'):
        input_data.extract_labels(files[3], num_classes=9)
    for dense in (np.array([1, 2, 0], np.uint8), [1, 2, 0], np.array([[1], [2], [0]])):
        assert_same([input_data.dense_to_one_hot(dense, 3)], [np.eye(3)[[1, 2, 0]]])


def test_importing_needs_neither_tensorflow_nor_requests():
    code = 'import sys, input_data; print({"tensorflow", "requests"} & sys.modules.keys())'
    assert subprocess.check_output([sys.executable, '-c', code], cwd=ROOT).split() == [b'set()']


ZEROS = bytes(600 * 784)
# Of the file: its name, what happens to its bytes, what was expected and found.
FAULTS = {
    'empty': (TRAIN_IMAGES, lambda b: b'', 'a header of 16 bytes, found 0'),
    'narrow': (TRAIN_IMAGES, lambda b: packed(2051, 600, 14, 56, data=ZEROS), r'.* 28.*\(14, 56\)'),
    'fewer': (TRAIN_LABELS, lambda b: packed(2049, 599, data=bytes(599)), '600 labels, .*599'),
    'lie': (TRAIN_IMAGES, lambda b: packed(2051, 601, 28, 28, data=ZEROS), '471184 .*470400'),
    'tail': (TEST_LABELS, lambda b: b + b'!', 'a whole gzip file, found Not'),
    'web page': (TEST_LABELS, lambda b: b'<html>403</html>', 'a whole gzip file, found Not'),
    'damaged': (TRAIN_IMAGES, lambda b: b[:10] + b'?' + b[11:], '.*Error -3 while'),
    'half': (TRAIN_IMAGES, lambda b: b[: len(b) // 2], '.*file ended before'),
    'no CRC': (TRAIN_LABELS, lambda b: b[:-8] + bytes(4) + b[-4:], '.*CRC check failed'),
}


@pytest.mark.parametrize(('name', 'change', 'message'), FAULTS.values(), ids=FAULTS)
def test_broken_file(own_dir, name, change, message):
    broken = change(content(own_dir, name))
    write_files(own_dir, {name: broken})
    with pytest.raises(ValueError, match=f'/{name}: expected {message}.* Remove it') as caught:
        read_small(own_dir)
    assert repr(pickle.loads(pickle.dumps(caught.value))) == repr(caught.value)
    assert content(own_dir, name) == broken


def test_files_that_lie_cost_little_memory():
    gigabyte = gzip.compress(bytes(1 << 24)) * 64
    tracemalloc.start()
    images, labels = input_data.extract_images, input_data.extract_labels
    for extract, header, message in (
        (images, packed(0), 'magic number 2051, found 0'),
        (images, packed(2051, 600, 28, 28), '470400 bytes .*found more'),
        (labels, packed(2049, (1 << 30) + 1), 'at most 1073741824 .*found 1073741825'),
        (images, packed(2051, 2**31, 2**31, 4), 'at most 1073741824 .*found 18446744'),
    ):
        with pytest.raises(ValueError, match=f'^expected {message}'):
            extract(io.BytesIO(header + gigabyte))
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()


def test_a_file_of_emnists_size_costs_what_it_holds():
    """ByClass, the largest part of EMNIST, has 697,932 images for training."""
    f = io.BytesIO(packed(2051, 697932, 28, 28) + gzip.compress(bytes(19387 * 784), 1) * 36)
    tracemalloc.start()
    assert input_data.extract_images(f).shape == (697932, 28, 28, 1)
    assert tracemalloc.get_traced_memory()[1] < 1.1 * 547178688
    tracemalloc.stop()


def test_a_checksum_tells_data_sets_apart(tmp_path, small_dir):
    sample = {name: content(input_data.SAMPLE_DIR, name) for name in NAMES}
    for name in NAMES:
        write_files(tmp_path, sample)
        assert input_data.checksum(str(tmp_path)) == input_data.SAMPLE_CHECKSUM
        write_files(tmp_path, {name: content(small_dir, name)})
        assert input_data.checksum(str(tmp_path)) != input_data.SAMPLE_CHECKSUM


def test_what_was_wanted_or_is_there_is_not_passed_over(monkeypatch, tmp_path):
    monkeypatch.setenv('https_proxy', REFUSING)  # which has to be asked
    monkeypatch.setattr(input_data, 'DATA_DIR', str(tmp_path))
    with pytest.raises(ConnectionError, match='MNIST is not in'):
        input_data.mnist_or_bundled_digits(str(tmp_path))
    write_files(tmp_path, {TEST_LABELS: bytes(input_data.MNIST_FILES[TEST_LABELS][0])})
    with pytest.raises(ConnectionError, match='MNIST is not in'):
        input_data.mnist_or_bundled_digits()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        assert self.headers['Accept-Encoding'] == 'identity'  # lest the .gz be compressed
        self.server.asked.append(self.path)
        with contextlib.suppress(OSError):  # who asks may hang up
            self.server.answer(self, self.server.files[self.path.rpartition('/')[2]])

    def send(self, body, length=None, status=200, encoding='identity'):
        self.send_response_only(status)  # without a line on stderr
        if length != 0:
            self.send_header('Content-Length', str(length or len(body)))
        self.send_header('Content-Encoding', encoding)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def mirror(monkeypatch, tiny_files):
    """Return a function that adds a mirror on this machine; MNIST is `tiny_files` then."""
    known = {name: (len(d), hashlib.sha256(d).hexdigest()) for name, d in tiny_files.items()}
    monkeypatch.setattr(input_data, 'MNIST_FILES', known)
    monkeypatch.setattr(input_data, 'MIRRORS', ())
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with contextlib.ExitStack() as ends:

        def add(answer=Handler.send, files=tiny_files):
            server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
            server.answer, server.files, server.asked = answer, files, []
            server.url = 'http://127.0.0.1:%d/mnist/' % server.server_port
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            ends.callback(server.server_close)
            ends.callback(server.shutdown)
            input_data.MIRRORS += (server.url,)
            return server

        yield add


def read_tiny(folder, source_url=''):
    return input_data.read_data_sets(str(folder), validation_size=10, source_url=source_url)


def assert_whole(folder, files):
    assert {name: content(folder, name) for name in os.listdir(folder)} == files


# Of a host: what it does, and what is said of it.
LIES = {
    'status 403': (lambda handler, body: handler.send(b'sorry', status=403), '403 .*Forbidden'),
    'web page': (lambda handler, body: handler.send(b'<html>'), r'expected \d+ .*found 6, '),
    'truncated': (lambda handler, body: handler.send(body[:-9], length=len(body)), r'.*\d+ bytes'),
    'unannounced': (lambda handler, body: handler.send(body[:-9], length=0), r'.*\d+ bytes'),
    'more': (lambda handler, body: handler.send(body + bytes(1 << 22), length=0), '.*more'),
    'wrong': (lambda handler, body: handler.send(body[:-1] + b'?'), 'expected .*SHA-256'),
    'silent': (lambda handler, body: time.sleep(5), '.*timed out'),
    'stalled': (lambda h, body: h.send(body[:-9], len(body)) or time.sleep(5), '.*timed out'),
}


@pytest.mark.parametrize('lie', LIES)
def test_the_next_mirror_is_asked(mirror, tiny_files, lie, tmp_path, monkeypatch, capfd):
    if lie in ('silent', 'stalled'):
        monkeypatch.setattr(input_data, 'TIMEOUT', 1)
    first = mirror(LIES[lie][0])
    second = mirror(lambda handler, body: handler.send(body, encoding='gzip'))  # as some mark .gz
    assert read_tiny(tmp_path).train.num_examples == 50
    assert_whole(tmp_path, tiny_files)
    assert first.asked == ['/mnist/' + NAMES[0]]
    assert second.asked == ['/mnist/' + name for name in NAMES]
    assert capfd.readouterr() == ('', '')


def test_no_mirror_works(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(input_data, 'TIMEOUT', 0.5)
    expected = {REFUSING: '(?!.*Max).*refused', **{mirror(f).url: why for f, why in LIES.values()}}
    input_data.MIRRORS = tuple(expected)
    with pytest.raises(ConnectionError, match='MNIST is not in') as caught:
        read_tiny(tmp_path)
    said = str(caught.value)
    for url, why in expected.items():
        assert re.search(f'^  {url}{NAMES[0]}: {why}', said, re.MULTILINE)
    assert all(each in said for each in (*NAMES, str(tmp_path), input_data.SAMPLE_DIR))
    assert repr(pickle.loads(pickle.dumps(caught.value))) == repr(caught.value)
    assert os.listdir(tmp_path) == []


def test_another_source_has_other_sizes(mirror, tmp_path):
    part = write_mnist(tmp_path / 'part', 77, 33)
    other = mirror(files={name: content(part, name) for name in NAMES})
    os.remove(os.path.join(part, TEST_IMAGES))
    for folder, path in ((part, 'other'), (tmp_path / 'new' / 'folder', 'other/')):
        mnist = read_tiny(folder, other.url + path)
        assert [data.num_examples for data in mnist] == [67, 10, 33]
        assert_whole(folder, other.files)
    assert other.asked == ['/mnist/other/' + name for name in (TEST_IMAGES, *NAMES)]


@pytest.mark.parametrize('lie', ['web page', 'truncated', 'unannounced', 'more', 'wrong'])
@pytest.mark.parametrize('name', [TRAIN_IMAGES, TRAIN_LABELS])
def test_another_source_is_checked(mirror, tiny_files, lie, name, tmp_path, monkeypatch):
    monkeypatch.setattr(input_data, 'LARGEST_FILE', 1 << 20)
    files = {each: tiny_files[each] for each in NAMES if each != name}
    write_files(tmp_path, files)
    url = mirror(LIES[lie][0]).url + 'other/'
    why = 'expected at most 1048576 bytes, found more' if lie == 'more' else ''
    with pytest.raises(ConnectionError, match=f'  {url}{name}: {why}'):
        read_tiny(tmp_path, url)
    assert_whole(tmp_path, files)


def test_only_missing_files_are_downloaded(mirror, tiny_files, tmp_path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, 'stderr', terminal)
    there = {**tiny_files, TEST_LABELS: packed(2049, 20, data=bytes(20))}
    write_files(tmp_path, there)
    os.remove(tmp_path / TRAIN_LABELS)
    paths = [tmp_path / name for name in os.listdir(tmp_path)]
    before = [(os.stat(path).st_ino, os.stat(path).st_mtime_ns) for path in paths]
    only = mirror()
    input_data.MNIST_FILES[TEST_LABELS] = len(there[TEST_LABELS]), 'of other content'
    input_data.MIRRORS += (REFUSING,)
    read_tiny(tmp_path, REFUSING.rstrip('/'))
    assert only.asked == ['/mnist/' + TRAIN_LABELS]
    assert_whole(tmp_path, there)
    assert before == [(os.stat(path).st_ino, os.stat(path).st_mtime_ns) for path in paths]
    assert re.findall(r'(\S+gz): 100%', terminal.getvalue()) == [TRAIN_LABELS]


def test_mnist_is_not_mixed_into_another_data_set(mirror, own_dir):
    only, path = mirror(), os.path.join(own_dir, TRAIN_IMAGES)
    for name in (TRAIN_LABELS, TEST_IMAGES, TEST_LABELS):
        os.remove(os.path.join(own_dir, name))
    sizes = f'{input_data.MNIST_FILES[TRAIN_IMAGES][0]} bytes, found {os.path.getsize(path)}'
    with pytest.raises(ValueError, match=f'^{path}: .*{sizes}.*{TRAIN_LABELS}'):
        read_tiny(own_dir)
    assert os.listdir(own_dir) == [TRAIN_IMAGES]
    assert only.asked == []


def test_a_file_that_appears_meanwhile_is_kept(mirror, tiny_files, tmp_path):
    mine = {**tiny_files, TEST_LABELS: packed(2049, 20, data=bytes(20))}
    mirror(lambda handler, body: write_files(tmp_path, mine) or handler.send(body))
    read_tiny(tmp_path)
    assert_whole(tmp_path, mine)


@pytest.mark.parametrize('sent', ['SIGKILL', 'SIGINT'])
def test_a_stopped_download_is_completed_by_the_next_run(mirror, tiny_files, tmp_path, sent):
    def answer(handler, body):
        if len(only.asked) != 2:
            return handler.send(body)
        handler.send(body[:-9], length=len(body))
        while len(os.listdir(tmp_path)) < 2:
            time.sleep(0.01)
        process.send_signal(getattr(signal, sent))
        time.sleep(5)

    only = mirror(answer)
    # It minds Ctrl-C, even if this process was told not to.
    code = 'import signal, input_data; signal.signal(signal.SIGINT, signal.default_int_handler)'
    code += f'; input_data.read_data_sets({str(tmp_path)!r}, source_url={only.url + "other"!r})'
    process = subprocess.Popen([sys.executable, '-c', code], cwd=ROOT)
    assert process.wait(60) != 0
    left = set(os.listdir(tmp_path))
    assert left & set(NAMES) == {NAMES[0]}
    assert len(left) == (1 if sent == 'SIGINT' else 2)
    read_tiny(tmp_path)
    assert {name: content(tmp_path, name) for name in NAMES} == tiny_files


@pytest.mark.parametrize('folder', ['', '/missing'])
def test_what_cannot_be_stored_ends_the_run(mirror, tmp_path, monkeypatch, folder):
    """Though the mirror works: only what mirrors answer leads to the bundled digits."""
    pytest.importorskip('pwd')  # Windows has other permissions
    mirror()
    read_tiny(tmp_path)  # imports what another user might not read
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o555)
        monkeypatch.setattr(input_data, 'DATA_DIR', parent + folder)
        os.seteuid(user or 65534)  # the administrator may do everything
        try:
            with pytest.raises(OSError, match=f'^{parent + folder}: .*Permission') as caught:
                input_data.mnist_or_bundled_digits()
        finally:
            os.seteuid(user)
        assert not isinstance(caught.value, ConnectionError)
        assert os.listdir(parent) == []
