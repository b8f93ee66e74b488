"""input_data.py: equal to the original, right in threads, clear about broken files and servers."""

import contextlib
import copy
import errno
import gzip
import hashlib
import http.server
import io
import itertools
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import (
    NOBODY_LISTENS,
    ROOT,
    as_another_user,
    content,
    digits,
    packed,
    write_files,
    write_mnist,
)
from single_layer import press_ctrl_c

import input_data
import mnist_softmax
from input_data import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS

NAMES = list(input_data.MNIST_FILES)
CORRECT = 'Correct that, or choose another folder.'


def read_small(folder, **options):
    """Read `small_dir`: 400 examples for training, 200 for validation, 100 for tests."""
    return input_data.read_data_sets(folder, **{'validation_size': 200, 'seed': 3, **options})


def error_of(kind, read, *args, **options):
    """Return the message of the error that a call ends in."""
    with pytest.raises(kind) as caught:
        read(*args, **options)
    return str(caught.value)


def texts(value):
    """Name a row of a table by its texts, not by its bytes or functions."""
    return value if isinstance(value, str) else ''


def assert_same(array, other, name='array'):
    assert (array.dtype, array.shape) == (other.dtype, other.shape), name
    np.testing.assert_array_equal(array, other, name)


# Equal to the original. Each use below is a generator: it does with three data sets what old
# programs do, and yields the arrays and numbers that it gets.


@pytest.fixture(scope='session')
def original():
    """The module that TensorFlow 1.x shipped."""
    name = 'tensorflow.examples.tutorials.mnist.input_data'
    return pytest.importorskip(name, reason='only TensorFlow 1.x has the original')


def draws_in_turns(train, validation, test):
    batches = [(size, size % 3 > 0) for size in (1, 64, 99, 100, 33, 400, 7, 600, 201)] * 3
    batches += [(70, True)] * 20 + [(600, True)] * 4
    for size, shuffle in batches:
        for data in (train, validation, test):
            if data.num_examples:
                yield from data.next_batch(min(size, data.num_examples), shuffle=shuffle)
                yield data.epochs_completed


def reads_private_names(train, validation, test):
    yield validation._images
    yield validation._labels
    yield from validation.next_batch(150)
    yield from validation.next_batch(70)
    yield [validation._num_examples, validation._index_in_epoch, validation._epochs_completed]


def sets_images(train, validation, test):
    train._images = np.random.RandomState(1).normal(train.images, 0.1)
    yield from train.next_batch(150)
    yield from train.next_batch(300)
    train._images = (train._images > 0.5).reshape(-1, 28, 28)[:, ::2, ::2]
    yield from train.next_batch(50)
    yield from train.next_batch(350)


def sets_labels(train, validation, test):
    train._labels = np.eye(2)[train.labels // 5]
    yield from train.next_batch(50)
    yield from train.next_batch(350)
    train._labels = train.labels[:, 0] == 1
    yield from train.next_batch(50)
    yield from train.next_batch(350)


def counts_fewer_examples(train, validation, test):
    train._num_examples = validation._num_examples = 120
    for data in (train, validation):
        yield from data.next_batch(100)
        yield from data.next_batch(100, shuffle=False)
        data._num_examples = 70
        yield from data.next_batch(20)
        yield from data.next_batch(20)
        yield data.epochs_completed
    train.next_batch(10)
    train._num_examples = 25  # less than half of the position
    for _ in range(4):
        yield from train.next_batch(20)
        yield train._index_in_epoch
        yield train.epochs_completed


def keeps_some_examples(train, validation, test):
    for data, shuffle in ((train, True), (validation, False), (test, True)):
        data._images = data.images[30:90]
        data._labels = data.labels[30:90]
        data._num_examples = 60
        yield from data.next_batch(50, shuffle=shuffle)
        yield from data.next_batch(50)
        yield [data.num_examples, data.epochs_completed]


def doubles_the_examples(train, validation, test):
    test._images = np.concatenate([test.images, test.images])
    test._labels = np.tile(test.labels, 2)
    test._num_examples = 200
    yield from test.next_batch(150)
    yield from test.next_batch(200)
    yield test.epochs_completed


def starts_again(train, validation, test):
    for _ in range(3):
        while not train.epochs_completed:
            yield from train.next_batch(70)
        train._epochs_completed = train._index_in_epoch = 0
    yield from train.next_batch(70)
    yield from train.next_batch(-train._index_in_epoch)
    yield from train.next_batch(50)


def draws_any_number(train, validation, test):
    yield from train.next_batch(450)
    yield from train.next_batch(750)
    yield train.epochs_completed
    for size in (0, 90, 0, -40, 20):
        yield from validation.next_batch(size)
        yield validation._index_in_epoch


def changes_arrays_in_place(train, validation, test):
    other = copy.deepcopy(train)
    train.images[:, :9] = 0.5
    yield from train.next_batch(70)
    yield from other.next_batch(70, shuffle=False)
    train.labels[train.labels > 4] = 1
    yield from train.next_batch(70)


BATCHES = [  # of draws_in_turns
    {},
    {'one_hot': True},
    {'reshape': False, 'dtype': 'float32', 'seed': 2**31 + 5},
    {'dtype': np.uint8, 'seed': 0},
    {'dtype': np.dtype('uint8'), 'one_hot': True, 'reshape': False},
    {'validation_size': 0},
]
USES = [(draws_in_turns, options) for options in BATCHES] + [
    (reads_private_names, {}),
    (sets_images, {}),
    (sets_labels, {}),
    (counts_fewer_examples, {}),
    (keeps_some_examples, {}),
    (doubles_the_examples, {}),
    (starts_again, {}),
    (draws_any_number, {}),
    (changes_arrays_in_place, {}),
]


def arrays_of(module, use, options, folder):
    options = {'validation_size': 200, 'seed': 3, **options}
    return list(map(np.array, use(*module.read_data_sets(folder, **options))))


@pytest.mark.parametrize(
    ('use', 'options'), USES, ids=[f'{use.__name__}-{options}' for use, options in USES]
)
def test_old_programs_get_what_the_original_gave(original, small_dir, use, options):
    ours = arrays_of(input_data, use, options, small_dir)
    theirs = arrays_of(original, use, options, small_dir)
    for i, (array, other) in enumerate(itertools.zip_longest(ours, theirs)):
        assert_same(array, other, f'number {i} of what {use.__name__} yields')


def test_on_every_runtime_old_programs_get_the_same(small_dir):
    """The same as on TensorFlow 1.15, where the test above tells which array is another one."""
    sha256 = hashlib.sha256()
    for use, options in USES:
        for array in arrays_of(input_data, use, options, small_dir):
            sha256.update(f'{array.dtype} {array.shape}'.encode() + array.tobytes())
    assert sha256.hexdigest()[:16] == '330967921fcc1d68'


def test_mnist_itself_is_split_as_by_the_original(real_mnist_dir):
    for name, (size, sha256) in input_data.MNIST_FILES.items():
        data = content(real_mnist_dir, name)
        assert (len(data), hashlib.sha256(data).hexdigest()) == (size, sha256)
    mnist = input_data.read_data_sets(real_mnist_dir, one_hot=True)
    assert [data.images.shape for data in mnist] == [(55000, 784), (5000, 784), (10000, 784)]
    assert mnist.validation.labels[:6].argmax(axis=1).tolist() == [5, 0, 4, 1, 9, 2]


# The arguments, the arrays and the batches.


@pytest.mark.parametrize('name', ['images', 'labels', 'num_examples', 'epochs_completed'])
def test_public_attributes_are_read_only(small_dir, name):
    with pytest.raises(AttributeError):
        setattr(read_small(small_dir).train, name, 1)


@pytest.mark.parametrize(
    ('dtype', 'of_images'),
    [
        (tf.uint8, np.uint8),
        (tf.float32, np.float32),
        (tf.int32, None),
        (tf.bfloat16, None),
        (tf.qint8, None),
        (tf.string, None),
        (np.float64, None),
        (None, None),
        ('no dtype', None),
        (3, None),
    ],
    ids=repr,
)
def test_dtype_may_be_one_of_tensorflow_but_only_uint8_or_float32(small_dir, dtype, of_images):
    if of_images:
        data = read_small(small_dir, dtype=dtype).train
        assert data.images.dtype == data.next_batch(5)[0].dtype == of_images
    else:
        for fake_data in (False, True):
            with pytest.raises(TypeError, match='type'):
                read_small(small_dir, fake_data=fake_data, dtype=dtype)


@pytest.mark.parametrize(('one_hot', 'label'), [(False, 0), (True, [1] + [0] * 9)])
def test_fake_data_is_all_white_and_of_class_0(small_dir, one_hot, label):
    fake = input_data.read_data_sets('', fake_data=True, one_hot=one_hot).test
    assert fake.next_batch(2) == ([[1] * 784] * 2, [label] * 2)
    real = read_small(small_dir).train
    real.one_hot = one_hot
    assert real.next_batch(2, fake_data=True) == fake.next_batch(2)


@pytest.mark.parametrize('options', [{}, {'dtype': np.uint8, 'one_hot': True}], ids=str)
def test_changing_a_batch_changes_no_other(small_dir, options):
    data = read_small(small_dir, **options).train
    untouched = read_small(small_dir, **options).train
    for i in range(40):
        if i == 20:
            assert len(data.images) == 400  # this rescales; batches before and after it are equal
        images, labels = data.next_batch(70, shuffle=i % 9 > 3)
        untouched_images, untouched_labels = untouched.next_batch(70, shuffle=i % 9 > 3)
        assert_same(images, untouched_images, f'images of batch {i}')
        assert_same(labels, untouched_labels, f'labels of batch {i}')
        images[...] = labels[...] = 77
    assert_same(data.images, untouched.images)
    assert_same(data.labels, untouched.labels)


def test_without_a_seed_batches_differ_each_time(small_dir):
    _, labels = read_small(small_dir, seed=None).train.next_batch(400)
    _, other_labels = read_small(small_dir, seed=None).train.next_batch(400)
    assert (labels != other_labels).any()


def test_the_random_state_of_numpy_stays_as_it_is(small_dir):
    _, keys, position, _, _ = np.random.get_state()
    for seed in (None, 5):
        read_small(small_dir, seed=seed).train.next_batch(400)
    _, keys_after, position_after, _, _ = np.random.get_state()
    assert_same(keys_after, keys)
    assert position_after == position


def test_batch_size_may_not_reach_into_a_third_epoch(small_dir):
    data = read_small(small_dir).train
    for start in (0, 70):
        data.next_batch(start)
        assert error_of(ValueError, data.next_batch, 801 - start) == (
            f'batch_size {801 - start} would reach into a third epoch (at most {800 - start} now)'
        )
    images, _ = data.next_batch(730)
    assert len(images) == 730


@pytest.mark.parametrize('size', [-1, 601])
def test_validation_size_is_part_of_the_training_images(small_dir, size):
    assert error_of(ValueError, read_small, small_dir, validation_size=size) == (
        f'{small_dir}: validation_size is {size}, '
        'but must be between 0 and 600, the number of training images'
    )


def test_a_data_set_can_be_made_of_arrays():
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1)
    data = input_data.DataSet(images, np.array([1, 0]), seed=0)
    images[:] = 0  # later changes by the caller do not count
    assert_same(data.images, np.arange(24, dtype=np.float32).reshape(2, 12) * np.float32(1 / 255))
    with pytest.raises(ValueError, match=r'^2 images but 1 labels$'):
        input_data.DataSet(images, np.array([1]))


def test_rows_assigned_within_an_epoch_come_once_in_it(small_dir):
    data = read_small(small_dir).train
    data.next_batch(390)
    data._images = data._labels = np.arange(150)
    data._num_examples, data._index_in_epoch = 150, 0
    images, _ = data.next_batch(150)
    assert sorted(images) == list(range(150))
    start, _ = data.next_batch(100)
    data._images = data._labels = np.arange(800)
    data._num_examples = 800
    rest, labels = data.next_batch(700)
    assert sorted([*start, *rest]) == list(range(800))
    assert_same(rest, labels)


# Threads. Image i is of colour i and has the label i, so that labels tell what pixels are right.

COLOURS = np.arange(256, dtype=np.uint8)
RIGHT_IMAGES = np.tile(COLOURS[:, np.newaxis], 784) * np.float32(1 / 255)


def draw(data):
    images, labels = data.next_batch(64)
    assert np.array_equal(images, RIGHT_IMAGES[labels])


def read(data):
    assert np.array_equal(data.images, RIGHT_IMAGES)


@pytest.mark.parametrize(('call', 'other'), [(draw, read), (read, draw)])
def test_threads_get_right_pixels_wherever_another_one_comes_in(call, other):
    """In one thread: at one access of `call` to an attribute after the other, `other` comes in."""

    class Shared(input_data.DataSet):
        def __getattribute__(self, name):
            value = super().__getattribute__(name)
            if next(comes_in, False):
                other(self)
            return value

        def __setattr__(self, name, value):
            super().__setattr__(name, value)
            if next(comes_in, False):
                other(self)

    for accesses in range(40):
        data = input_data.DataSet(np.tile(COLOURS.reshape(-1, 1, 1, 1), (28, 28, 1)), COLOURS)
        comes_in = iter([False] * accesses + [True])
        data.__class__ = Shared
        call(data)
    assert any(comes_in), 'it has more accesses than are tried here'


# Files.


def test_images_and_labels_are_extracted_from_open_files(small_dir):
    images, labels = digits(100, seed=2)
    with open(os.path.join(small_dir, TEST_IMAGES), 'rb') as f:
        extracted = input_data.extract_images(f)
    assert_same(extracted, images[..., np.newaxis])
    assert not extracted.flags.owndata  # a view: copies of large sets would not fit the memory
    with open(os.path.join(small_dir, TEST_LABELS), 'rb') as f:
        assert_same(input_data.extract_labels(f), labels)
    with open(os.path.join(small_dir, TEST_LABELS), 'rb') as f:
        assert_same(input_data.extract_labels(f, True, 12), np.eye(12)[labels])


@pytest.mark.parametrize(
    'dense', [np.array([1, 2, 0], np.uint8), [1, 2, 0], np.array([[1], [2], [0]])], ids=repr
)
def test_dense_to_one_hot(dense):
    assert_same(input_data.dense_to_one_hot(dense, 3), np.eye(3)[[1, 2, 0]])


def test_importing_loads_neither_tensorflow_nor_requests_nor_tqdm():
    code = 'import sys, input_data; print(*sys.modules)'
    modules = subprocess.check_output([sys.executable, '-c', code], cwd=str(ROOT)).decode().split()
    assert not {'tensorflow', 'requests', 'urllib3', 'tqdm'} & set(modules)


def test_labels_above_9_are_not_for_one_hot_and_the_scripts(own_dir, refused):
    labels = (np.arange(600) % 26 + 1).astype(np.uint8)  # as EMNIST's letters have
    write_files(own_dir, {TRAIN_LABELS: packed(2049, 600, data=labels.tobytes())})
    path = os.path.join(own_dir, TRAIN_LABELS)
    message = (
        f'{path}: its labels go up to 26, too many for 10 classes. The scripts cannot use them; '
        'in Python, leave one_hot out or call extract_labels with num_classes=27.'
    )
    assert error_of(ValueError, read_small, own_dir, one_hot=True) == message
    assert refused(mnist_softmax, '--data_dir', own_dir) == message
    assert read_small(own_dir).train.labels.max() == 26
    with open(path, 'rb') as f:
        assert input_data.extract_labels(f, one_hot=True, num_classes=27).shape == (600, 27)


PIXELS = bytes(600 * 784)
IMAGES = packed(2051, 600, 28, 28, data=PIXELS)
LABELS = packed(2049, 600, data=bytes(600))
WRONG_CRC = LABELS[:-8] + bytes(8)
NOT_COMPRESSED = 'not compressed. Remove .gz from its name and run gzip on it.'


@pytest.mark.parametrize(
    ('name', 'data', 'problem'),
    [
        (TRAIN_IMAGES, LABELS, 'its magic number is 2049, but that of images is 2051.'),
        (TRAIN_LABELS, IMAGES, 'its magic number is 2051, but that of labels is 2049.'),
        (
            TRAIN_IMAGES,
            packed(2051, 600, 14, 56, data=PIXELS),
            'images of 14 x 56 pixels, not 28 x',
        ),
        (TRAIN_LABELS, packed(2049, 599, data=bytes(599)), '599 labels for 600 images in '),
        (TEST_IMAGES, packed(2051, 0, 28, 28), 'it holds no images.'),
        (TEST_IMAGES, packed(2051, 0, 2**32 - 1, 2**32 - 1), 'it holds no images.'),
        (TRAIN_LABELS, gzip.decompress(LABELS), NOT_COMPRESSED),
        (TRAIN_IMAGES, gzip.decompress(IMAGES), NOT_COMPRESSED),
    ],
    ids=texts,
)
def test_an_intact_file_that_does_not_fit_is_never_to_be_deleted(own_dir, name, data, problem):
    write_files(own_dir, {name: data})
    message = error_of(ValueError, read_small, own_dir)
    assert message.startswith(f'{os.path.join(own_dir, name)}: {problem}')
    assert 'delete' not in message
    assert content(own_dir, name) == data


PROMISES = 'its header promises'
IF_MNIST = "If it is MNIST's, delete it and run again to download it."


@pytest.mark.parametrize(
    ('data', 'problem'),
    [
        (b'', 'it ends within its header'),
        (packed(2051), 'it ends within its header'),
        (packed(2051, 601, 28, 28, data=PIXELS), f'{PROMISES} 471,184 bytes, but it holds 470,400'),
        (packed(2051, 599, 28, 28, data=PIXELS), f'{PROMISES} 469,616 bytes, but it holds more'),
        (IMAGES[:99], 'not an intact gzip file (Compressed file ended before the '),
        (IMAGES + b'!', "not an intact gzip file (Not a gzipped file (b'!')"),
        (b'<html>403</html>', "not an intact gzip file (Not a gzipped file (b'<h')"),
        (bytes(4542), "not an intact gzip file (Not a gzipped file (b'\\x00\\x00')"),
        (IMAGES[:10] + b'?', 'not an intact gzip file (Error -3 while decompressing'),
        (IMAGES[:-8] + bytes(8), 'not an intact gzip file (CRC check failed 0x0 != 0x'),
    ],
    ids=texts,
)
def test_a_broken_gzip_file_is_told_with_the_remedy(own_dir, data, problem):
    write_files(own_dir, {TRAIN_IMAGES: data})
    message = error_of(ValueError, read_small, own_dir)
    assert message.startswith(f'{os.path.join(own_dir, TRAIN_IMAGES)}: {problem}')
    assert message.endswith(f'. {IF_MNIST}')
    assert content(own_dir, TRAIN_IMAGES) == data


@pytest.mark.parametrize(
    ('header', 'problem'),
    [
        (packed(0), 'its magic number is 0, but that of images is 2051'),
        (packed(2051, 600, 28, 28), 'its header promises 470,400 bytes, but it holds more'),
        (packed(2051, 1, 1, 2**30 + 1), 'its header promises 1,073,741,825 bytes, more than '),
        (packed(2051, 2**31, 2**31, 4), 'its header promises 18,446,744,073,709,551,616 bytes, '),
    ],
    ids=texts,
)
def test_a_file_with_a_false_header_takes_little_memory(header, problem):
    gigabyte = gzip.compress(bytes(1 << 24)) * 64
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f'^{problem}'):
            input_data.extract_images(io.BytesIO(header + gigabyte))
        _, peak_memory = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_memory < 1.5 * (1 << 24)


def test_largest_file_leaves_room_for_emnist():
    """ByClass, the largest part of EMNIST, has 697,932 images for training."""
    assert input_data.LARGEST_FILE > 697932 * 784


BROKEN_DISK = '/proc/self/mem'  # Linux's; at its start, reading fails as from a broken disk


@pytest.mark.parametrize(
    ('put', 'code', 'problem'),
    [
        (os.mkdir, errno.EISDIR, 'cannot read {}: Is a directory'),
        (lambda path: os.symlink('no', path), errno.ENOENT, 'cannot follow the link {}: No '),
        (lambda path: os.symlink(path, path), errno.ELOOP, 'cannot read {}: Too many levels of'),
        (lambda path: os.symlink(BROKEN_DISK, path), errno.EIO, 'cannot read {}: Input/output'),
    ],
    ids=['folder', 'link to nothing', 'loop of links', 'broken disk'],
)
@pytest.mark.parametrize('name', [TRAIN_IMAGES, TRAIN_LABELS])
def test_errno_of_a_file_that_cannot_be_read_is_passed_on(own_dir, name, put, code, problem):
    if code == errno.EIO and not os.path.exists(BROKEN_DISK):
        pytest.skip('only Linux has such a file')
    path = os.path.join(own_dir, name)
    os.remove(path)
    put(path)
    with pytest.raises(OSError, match=name) as caught:
        read_small(own_dir)
    message = str(caught.value)
    assert message.startswith(problem.format(path))
    assert message.endswith(f'. {CORRECT}')
    assert caught.value.errno == code
    assert os.path.lexists(path)


def test_a_folder_that_is_a_link_to_nothing_is_told_before_a_mirror_is_asked(add_mirror, tmp_path):
    mirror, link = add_mirror(), tmp_path / 'link'
    link.symlink_to(tmp_path / 'unmounted')
    message = error_of(FileNotFoundError, read_from_mirrors, str(link))
    assert message.startswith(f'cannot follow the link {link}: ')
    assert mirror.asked == []


@pytest.mark.skipif(not os.path.exists(BROKEN_DISK), reason='only Linux has such a file')
def test_errno_of_an_open_file_is_passed_on_with_its_name():
    with open(BROKEN_DISK, 'rb') as f, pytest.raises(OSError, match='mem') as caught:
        input_data.extract_images(f)
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, BROKEN_DISK)


def test_a_pipe_with_something_else_in_it_is_told_by_its_name(own_dir):
    path = os.path.join(own_dir, TRAIN_LABELS)
    os.remove(path)
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: write_files(own_dir, {TRAIN_LABELS: b'no data'}))
    writer.start()
    with pytest.raises(ValueError, match='gzip') as caught:
        read_small(own_dir)
    writer.join()
    problem = "not an intact gzip file (Not a gzipped file (b'no'))"
    assert str(caught.value) == f'{path}: {problem}. {IF_MNIST}'


# Downloads, from servers on this machine. For these tests, the files of `small_dir` are MNIST's.


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.lstrip('/')
        self.server.asked.append(path)
        self.server.headers.append(self.headers)
        with contextlib.suppress(OSError):  # the client may hang up
            self.server.answer(self, self.server.files[os.path.basename(path)])


def answer(change=lambda body: body, status=200, length_of='sent', stall=False, **headers):
    """Return what answers a question for a file: `change` makes of its content what is sent.

    With `length_of` 'all', the length of the whole content is announced, and none with None. With
    `stall`, the connection stays open.
    """

    def answer(handler, body):
        sent = change(body)
        handler.send_response_only(status)  # which prints nothing
        if length_of:
            handler.send_header('Content-Length', str(len(body if length_of == 'all' else sent)))
        for name, value in headers.items():
            handler.send_header(name.replace('_', '-'), value)
        handler.end_headers()
        handler.wfile.write(sent)
        if stall:
            keep_silent(handler, body)

    return answer


def all_but_9_bytes(body):
    return body[:-9]


def keep_silent(handler, body):
    input_data.TIMEOUT = 60  # for the next mirror, which may be slow here
    handler.server.ends.wait()


send = answer()


@pytest.fixture
def small_files(small_dir):
    return {name: content(small_dir, name) for name in NAMES}


@pytest.fixture
def add_mirror(monkeypatch, small_files):
    """Return a function that adds a mirror, which calls `answer(handler, body)` when asked."""
    known = {name: (len(d), hashlib.sha256(d).hexdigest()) for name, d in small_files.items()}
    monkeypatch.setattr(input_data, 'MNIST_FILES', known)
    monkeypatch.setattr(input_data, 'MIRRORS', ())
    for variable in ('http_proxy', 'https_proxy'):  # nothing leaves this machine
        monkeypatch.setenv(variable, NOBODY_LISTENS)
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with contextlib.ExitStack() as at_the_end:

        def add_mirror(answer=send, files=small_files):
            server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
            server.answer, server.files = answer, files
            server.asked, server.headers = [], []
            server.ends = threading.Event()
            server.host = f'127.0.0.1:{server.server_port}'
            server.url = f'http://{server.host}/'
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            at_the_end.callback(server.server_close)
            at_the_end.callback(server.shutdown)
            at_the_end.callback(server.ends.set)
            input_data.MIRRORS += (server.url,)
            return server

        yield add_mirror


def read_from_mirrors(folder):
    return read_small(folder, source_url=None)


def assert_holds_only(folder, files):
    assert sorted(os.listdir(folder)) == sorted(files)
    for name, data in files.items():
        assert content(folder, name) == data, name


LIES = {  # what servers answer, and what is said of it
    '403': (answer(status=403), '403 Forbidden'),
    'web page': (answer(lambda body: b'<html>'), '6 bytes, not {size}'),
    'nothing': (answer(lambda body: b''), '0 bytes, not {size}'),
    'broken off': (answer(all_but_9_bytes, length_of='all'), 'Connection broken: IncompleteRead('),
    'broken off, no length': (answer(all_but_9_bytes, length_of=None), '{less} bytes, not {size}'),
    'too much': (answer(lambda body: body + bytes(1 << 22)), 'more than {size} bytes'),
    'sha256': (answer(lambda body: body[:-1] + b'?'), "MNIST's size, but not its SHA-256"),
    'redirect': (answer(status=302, Location='http://[::1'), 'Invalid IPv6 URL'),
    'timeout, silent': (keep_silent, 'Read timed out. (read timeout=0.5)'),
    'timeout': (answer(all_but_9_bytes, length_of='all', stall=True), 'Read timed out.'),
}


@pytest.mark.parametrize('lie', LIES)
def test_if_a_mirror_lies_the_next_one_is_asked(
    add_mirror, small_files, tmp_path, monkeypatch, capfd, lie
):
    answer, reason = LIES[lie]
    if lie.startswith('timeout'):
        monkeypatch.setattr(input_data, 'TIMEOUT', 0.5)
    liar, honest = add_mirror(answer), add_mirror()
    assert read_from_mirrors(tmp_path).train.num_examples == 400
    assert_holds_only(tmp_path, small_files)
    assert liar.asked == [TRAIN_IMAGES]
    assert honest.asked == NAMES
    size = len(small_files[TRAIN_IMAGES])
    reason = reason.format(size=f'{size:,}', less=f'{size - 9:,}')
    assert f'\n  {reason}' in capfd.readouterr().err


def test_the_reason_of_a_proxy_is_passed_on(add_mirror, tmp_path, monkeypatch):
    proxy = add_mirror()
    monkeypatch.setattr(Handler, 'do_CONNECT', lambda self: self.send_error(407), raising=False)
    monkeypatch.setattr(Handler, 'log_message', lambda *args: None)
    monkeypatch.setenv('https_proxy', proxy.url)
    monkeypatch.setattr(input_data, 'MIRRORS', ('https://mirror.invalid/',))
    message = error_of(ConnectionError, read_from_mirrors, tmp_path)
    reason = (
        'Unable to connect to proxy: Tunnel connection failed: 407 Proxy Authentication Required'
    )
    assert f'\n  {TRAIN_IMAGES} from mirror.invalid: {reason}\n' in message


def test_a_connection_has_its_own_timeout(add_mirror, tmp_path, monkeypatch):
    seconds, _ = input_data.TIMEOUT
    assert seconds <= 4  # for each of a server's addresses, of which there may be sixteen
    monkeypatch.setattr(input_data, 'TIMEOUT', (0.3, 60))
    with socket.socket() as full, contextlib.ExitStack() as clients:
        full.bind(('127.0.0.1', 0))
        full.listen(0)
        for _ in range(3):  # as many as it takes: packets of others are dropped then
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(full.getsockname())
        host = f'127.0.0.1:{full.getsockname()[1]}'
        input_data.MIRRORS += (f'http://{host}/',)
        with pytest.raises(ConnectionError) as caught:
            read_from_mirrors(tmp_path)
    reason = 'Connection to 127.0.0.1 timed out. (connect timeout=0.3)'
    assert f'\n  {TRAIN_IMAGES} from {host}: {reason}\n' in str(caught.value)


def test_a_proxy_that_does_not_answer_is_told(add_mirror, tmp_path, monkeypatch):
    monkeypatch.setenv('no_proxy', '')
    add_mirror()
    with pytest.raises(ConnectionError, match=r'Unable to connect to proxy: .*refused'):
        read_from_mirrors(tmp_path)


def test_a_wrong_setting_of_requests_is_told_as_it_is(add_mirror, tmp_path, monkeypatch):
    monkeypatch.setenv('REQUESTS_CA_BUNDLE', '/missing/certificate')
    add_mirror()
    input_data.MIRRORS = ('https://127.0.0.1:1/',)
    with pytest.raises(OSError, match='/missing/certificate') as caught:
        read_from_mirrors(tmp_path)
    assert not isinstance(caught.value, ConnectionError)


def test_stderr_tells_which_mirror_is_asked_and_why_the_next_one(add_mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'stderr', io.StringIO())
    told_before_asking = []

    refuse_labels = answer_403_for(TRAIN_LABELS)

    def look_and_answer(handler, body):
        told_before_asking.append(sys.stderr.getvalue())
        refuse_labels(handler, body)

    first = add_mirror(look_and_answer)
    second = add_mirror()
    read_from_mirrors(tmp_path)
    announcement = f'Downloading MNIST from {first.host} …\n'
    assert told_before_asking == [announcement] * 2  # said once, for two files
    assert sys.stderr.getvalue() == (
        f'{announcement}  403 Forbidden\nDownloading MNIST from {second.host} …\n'
    )


def test_stderr_stays_empty_if_all_files_are_there(add_mirror, small_dir, capfd):
    add_mirror()
    read_from_mirrors(small_dir)
    assert capfd.readouterr() == ('', '')


def test_mirrors_are_four_and_the_second_one_is_reached_from_mainland_china():
    assert len(input_data.MIRRORS) == 4
    assert input_data.MIRRORS[0] == input_data.DEFAULT_SOURCE_URL
    assert input_data.MIRRORS[1] == 'https://dataset.bj.bcebos.com/mnist/'


def answer_403_for(*names):
    """Make a mirror that does not have these files."""
    refuse = answer(status=403)

    def answer_or_refuse(handler, body):
        (refuse if os.path.basename(handler.path) in names else send)(handler, body)

    return answer_or_refuse


def test_a_mirror_that_failed_is_not_asked_again(add_mirror, tmp_path):
    has_none = add_mirror(answer(status=403))
    has_two = add_mirror(answer_403_for(TEST_IMAGES))
    has_one = add_mirror(answer_403_for(TEST_LABELS))
    assert NAMES == [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS]
    with pytest.raises(ConnectionError) as caught:
        read_from_mirrors(tmp_path)
    assert has_none.asked == [TRAIN_IMAGES]
    assert has_two.asked == [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES]
    assert has_one.asked == [TEST_IMAGES, TEST_LABELS]
    assert str(caught.value) == (
        f'MNIST is not in {tmp_path} and cannot be downloaded:\n'
        f'  {TRAIN_IMAGES} from {has_none.host}: 403 Forbidden\n'
        f'  {TEST_IMAGES} from {has_two.host}: 403 Forbidden\n'
        f'  {TEST_LABELS} from {has_one.host}: 403 Forbidden\n'
        f'Check the network, or put {TEST_LABELS} there by hand. '
        f'Or use the bundled digits: {input_data.SAMPLE_DIR}'
    )


def test_files_are_stored_compressed_even_if_a_server_declares_a_content_encoding(
    add_mirror, small_files, tmp_path
):
    mirror = add_mirror(answer(Content_Encoding='gzip'))
    read_from_mirrors(tmp_path)
    assert_holds_only(tmp_path, small_files)
    assert {headers['Accept-Encoding'] for headers in mirror.headers} == {'identity'}


def test_only_missing_files_are_downloaded(add_mirror, small_files, tmp_path):
    own_labels = packed(2049, 100, data=bytes(100))
    there = {**small_files, TEST_LABELS: own_labels}
    write_files(tmp_path, there)
    os.remove(tmp_path / TRAIN_LABELS)
    before = {entry.name: entry.stat() for entry in os.scandir(tmp_path)}
    mirror = add_mirror()
    # As long as MNIST's, but with other content.
    input_data.MNIST_FILES[TEST_LABELS] = len(own_labels), 'another SHA-256'
    read_from_mirrors(tmp_path)
    assert mirror.asked == [TRAIN_LABELS]
    assert_holds_only(tmp_path, there)
    for name, status in before.items():
        after = os.stat(tmp_path / name)
        assert (after.st_ino, after.st_mtime_ns) == (status.st_ino, status.st_mtime_ns)


def test_a_downloaded_file_has_the_mode_of_any_new_file(add_mirror, tmp_path):
    add_mirror()
    umask = os.umask(0o027)
    try:
        read_from_mirrors(tmp_path)
    finally:
        os.umask(umask)
    assert os.stat(tmp_path / TRAIN_LABELS).st_mode & 0o777 == 0o640


def test_a_terminal_shows_a_tqdm_bar_for_each_file(add_mirror, tmp_path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, 'stderr', terminal)
    add_mirror()
    read_from_mirrors(tmp_path)
    assert re.findall(r'(\S+gz): 100%', terminal.getvalue()) == NAMES


def test_mnist_is_not_mixed_into_another_data_set(add_mirror, tmp_path):
    write_mnist(tmp_path, 77, 33)
    for name in (TRAIN_LABELS, TEST_IMAGES, TEST_LABELS):
        os.remove(tmp_path / name)
    mirror = add_mirror()
    path = tmp_path / TRAIN_IMAGES
    size, size_of_mnist = os.path.getsize(path), input_data.MNIST_FILES[TRAIN_IMAGES][0]
    assert error_of(ValueError, read_from_mirrors, tmp_path) == (
        f"{path} is not MNIST's file ({size:,} bytes, not {size_of_mnist:,}), "
        f'so the missing files were not downloaded: {TRAIN_LABELS}, {TEST_IMAGES}, {TEST_LABELS}. '
        'Add those of the same data set, choose another folder or, '
        'if it is a broken download, delete it.'
    )
    assert os.listdir(tmp_path) == [TRAIN_IMAGES]
    assert mirror.asked == []


def test_a_file_that_appears_during_the_download_is_kept(add_mirror, small_files, tmp_path):
    own_labels = packed(2049, 100, data=bytes(100))

    def write_and_send(handler, body):
        write_files(tmp_path, {TEST_LABELS: own_labels})
        send(handler, body)

    add_mirror(write_and_send)
    read_from_mirrors(tmp_path)
    assert_holds_only(tmp_path, {**small_files, TEST_LABELS: own_labels})


def wait_for_files(folder, count):
    """Wait until a folder has `count` files; return their names."""
    deadline = time.monotonic() + 60
    while len(os.listdir(folder)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return os.listdir(folder)


def test_two_downloads_have_part_files_of_different_names(add_mirror, tmp_path):
    """Although they have the same process id, as in two containers that share a folder."""
    parts = []

    def look_and_break_off(handler, body):
        handler.send_response_only(200)
        handler.end_headers()
        parts.extend(wait_for_files(tmp_path, 1))

    add_mirror(look_and_break_off)
    add_mirror(look_and_break_off)
    with pytest.raises(ConnectionError):
        read_from_mirrors(tmp_path)
    assert len(set(parts)) == 2
    assert os.listdir(tmp_path) == []


def test_sigint_during_a_download_leaves_no_part_file(add_mirror, tmp_path):
    def send_a_part_and_press_ctrl_c(handler, body):
        handler.send_response_only(200)
        handler.end_headers()
        wait_for_files(tmp_path, 1)
        press_ctrl_c()
        handler.server.ends.wait()

    add_mirror(send_a_part_and_press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        read_from_mirrors(tmp_path)
    assert os.listdir(tmp_path) == []


def test_the_next_run_completes_a_download_that_was_killed(add_mirror, small_files, tmp_path):
    def send_one_and_kill(handler, body):
        if mirror.asked != [TRAIN_IMAGES, TRAIN_LABELS]:
            return send(handler, body)
        handler.send_response_only(200)
        handler.end_headers()
        wait_for_files(tmp_path, 2)
        process.kill()
        mirror.ends.wait()

    mirror = add_mirror(send_one_and_kill)
    code = f"""
import input_data

input_data.MIRRORS = {input_data.MIRRORS!r}
input_data.MNIST_FILES = {input_data.MNIST_FILES!r}
input_data.read_data_sets({str(tmp_path)!r}, source_url=None)
"""
    command = [sys.executable, '-c', code]
    process = subprocess.Popen(command, cwd=str(ROOT), stderr=subprocess.PIPE)
    _, err = process.communicate(timeout=60)
    assert f'Downloading MNIST from {mirror.host} …\n' in err.decode()
    left = sorted(os.listdir(tmp_path))
    assert left[0] == TRAIN_IMAGES
    assert left[1].startswith(TRAIN_LABELS)
    assert left[1].endswith('.part')
    read_from_mirrors(tmp_path)
    assert {name: content(tmp_path, name) for name in NAMES} == small_files


# Folders that may not be used, as another user than the administrator, whom no mode binds.


@pytest.mark.parametrize('folder', ['', '/missing'])
def test_a_folder_that_cannot_be_written_ends_the_run(add_mirror, monkeypatch, tmp_path, folder):
    """Only if no mirror answers are the bundled digits used instead."""
    add_mirror()
    read_from_mirrors(tmp_path)  # imports what another user may not be able to read
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o555)
        monkeypatch.setattr(input_data, 'DATA_DIR', parent + folder)
        with as_another_user(), pytest.raises(PermissionError) as caught:
            input_data.mnist_or_bundled_digits()
        assert str(caught.value) == (
            f'cannot store MNIST in {parent + folder}: Permission denied. {CORRECT}'
        )
        assert os.listdir(parent) == []


@pytest.mark.parametrize(('name', 'mode'), [('', 0o444), ('', 0o000), (TRAIN_IMAGES, 0o000)])
def test_what_may_not_be_read_is_not_taken_for_missing(add_mirror, small_files, name, mode):
    mirror = add_mirror()
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        write_files(folder, small_files)
        os.chmod(os.path.join(folder, name), mode)
        with as_another_user(), pytest.raises(PermissionError) as caught:
            read_from_mirrors(folder)
        os.chmod(os.path.join(folder, name), 0o700)  # so that it can be removed
        path = os.path.join(folder, TRAIN_IMAGES)
        assert str(caught.value) == f'cannot read {path}: Permission denied. {CORRECT}'
        assert caught.value.errno == errno.EACCES
    assert mirror.asked == []


# Another address, and MNIST's first one.


@pytest.mark.parametrize(
    ('missing', 'other'), [(NAMES, 'other'), ([TEST_IMAGES], 'other/')], ids=['all', 'one']
)
def test_source_url_may_have_another_data_set(add_mirror, tmp_path, capfd, missing, other):
    folder = write_mnist(tmp_path / 'another' / 'folder', 77, 33)
    files = {name: content(folder, name) for name in NAMES}
    server = add_mirror(files=files)
    for name in missing:
        os.remove(os.path.join(folder, name))
    mnist = read_small(folder, validation_size=10, source_url=server.url + other)
    assert [data.num_examples for data in mnist] == [67, 10, 33]
    assert server.asked == ['other/' + name for name in missing]
    assert_holds_only(folder, files)
    assert capfd.readouterr() == ('', f'Downloading the data set from {server.host} …\n')


@pytest.mark.parametrize(
    ('answer', 'reason'),
    [
        (answer(lambda body: b'<html>'), "not an intact gzip file (Not a gzipped file (b'<h'))"),
        (answer(lambda body: b''), 'it ends within its header'),
        (answer(all_but_9_bytes, length_of=None), 'not an intact gzip file (Compressed file'),
        (answer(lambda body: WRONG_CRC), 'not an intact gzip file (CRC check failed'),
        (answer(lambda body: body + bytes(1 << 22)), 'more than 1,048,576 bytes'),
        (answer(lambda body: IMAGES), 'its magic number is 2051, but that of labels is 2049'),
        (answer(lambda body: packed(2049, 1 << 21)), 'its header promises 2,097,152 bytes, more '),
    ],
    ids=texts,
)
def test_source_url_is_checked_for_the_form_of_its_files(
    add_mirror, small_files, tmp_path, monkeypatch, answer, reason
):
    monkeypatch.setattr(input_data, 'LARGEST_FILE', 1 << 20)
    there = {name: data for name, data in small_files.items() if name != TRAIN_LABELS}
    write_files(tmp_path, there)
    server = add_mirror(answer)
    with pytest.raises(ConnectionError) as caught:
        read_small(tmp_path, source_url=server.url + 'other/')
    first, line, last = str(caught.value).splitlines()
    assert first == f'the data set is not in {tmp_path} and cannot be downloaded:'
    assert line.startswith(f'  {TRAIN_LABELS} from {server.host}: {reason}')
    assert last == f'Check source_url, or put {TRAIN_LABELS} there by hand.'
    assert_holds_only(tmp_path, there)


def test_source_url_is_shown_without_its_password(add_mirror, tmp_path, capfd):
    server = add_mirror(answer(status=403))
    for address in (f'http://user:secret@{server.host}/', f'user:secret@{server.host}'):
        with pytest.raises(ConnectionError) as caught:
            read_small(tmp_path, source_url=address)
        assert capfd.readouterr().err == f'Downloading the data set from {server.host} …\n'
        assert f'\n  {TRAIN_IMAGES} from {server.host}: ' in str(caught.value)
        assert 'secret' not in str(caught.value)
    assert [headers['Authorization'] for headers in server.headers] == ['Basic dXNlcjpzZWNyZXQ=']


@pytest.mark.parametrize(
    'source_url',
    [
        None,
        '',
        'http://yann.lecun.com/exdb/mnist/',
        'https://yann.lecun.com/exdb/mnist',
        'http://{liar}/',
        'http://{liar}',
    ],
)
def test_source_url_of_mnist_itself_means_all_mirrors(
    add_mirror, small_files, tmp_path, source_url
):
    liar, honest = add_mirror(answer(lambda body: body[:-1] + b'?')), add_mirror()
    read_small(tmp_path, source_url=source_url and source_url.format(liar=liar.host))
    assert liar.asked == [TRAIN_IMAGES]
    assert honest.asked == NAMES
    assert_holds_only(tmp_path, small_files)


# Folders, and the bundled digits.

CAVEAT = ' (bundled digits, not MNIST)'


def no_mirror_works(add_mirror, folder):
    """Add a mirror that has nothing; return the start of the error that follows."""
    host = add_mirror(answer(status=403)).host
    return (
        f'MNIST is not in {folder} and cannot be downloaded:\n'
        f'  {TRAIN_IMAGES} from {host}: 403 Forbidden\n'
    )


def test_if_no_mirror_works_the_bundled_digits_are_used(add_mirror, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(input_data, 'DATA_DIR', str(tmp_path))
    start = no_mirror_works(add_mirror, tmp_path)
    assert input_data.mnist_or_bundled_digits() == (input_data.SAMPLE_DIR, CAVEAT)
    out, err = capsys.readouterr()
    assert out == ''
    announcement, message = err.split('\n', 1)
    assert announcement.startswith('Downloading MNIST from 127.0.0.1:')
    assert message == (
        f'{start}Check the network, or put {", ".join(NAMES)} there by hand. '
        f'Or use the bundled digits: {input_data.SAMPLE_DIR}\n'
        'This run trains on the bundled digits.\n'
    )
    assert os.listdir(tmp_path) == []


def test_the_bundled_digits_are_not_used(add_mirror, small_files, tmp_path, monkeypatch):
    monkeypatch.setattr(input_data, 'DATA_DIR', str(tmp_path))
    start = no_mirror_works(add_mirror, tmp_path)

    def error(data_dir=None):
        return error_of(ConnectionError, input_data.mnist_or_bundled_digits, data_dir)

    assert error(str(tmp_path)).startswith(start)  # in place of a folder that was named
    with monkeypatch.context() as copied:  # if input_data.py was copied without them
        copied.setattr(input_data, 'SAMPLE_DIR', str(tmp_path / 'sample'))
        assert error().startswith(start)
        assert error().endswith(' there by hand.')
    write_files(tmp_path, {TEST_LABELS: bytes(len(small_files[TEST_LABELS]))})
    assert error().startswith(start)  # in place of a folder that holds a file


def test_the_folder_of_the_bundled_digits_is_known_by_any_path(tmp_path, monkeypatch):
    link = tmp_path / 'link'
    link.symlink_to(input_data.SAMPLE_DIR)
    monkeypatch.chdir(input_data.DATA_DIR)
    for folder in (input_data.SAMPLE_DIR, 'sample', str(link)):
        assert input_data.mnist_or_bundled_digits(folder) == (folder, CAVEAT)


def test_the_home_folder_may_be_written_as_a_tilde(add_mirror, small_dir, monkeypatch):
    mirror = add_mirror()
    home, name = os.path.split(small_dir)
    monkeypatch.setenv('HOME', home)
    path = os.path.join('~', name)
    assert read_small(path).train.num_examples == 400
    assert input_data.mnist_or_bundled_digits(path) == (small_dir, '')
    assert mirror.asked == []


def test_a_file_instead_of_a_folder_is_told_before_a_mirror_is_asked(add_mirror, tmp_path):
    mirror = add_mirror()
    path = tmp_path / 'file'
    path.write_bytes(b'mine')
    for read in (read_from_mirrors, input_data.mnist_or_bundled_digits):
        assert (
            error_of(NotADirectoryError, read, str(path))
            == f'{path} is a file; choose the folder of the four MNIST files'
        )
    assert mirror.asked == []
    assert path.read_bytes() == b'mine'


@pytest.mark.parametrize('folder', ['gs://bucket/mnist', 'file:///mnist'])
def test_an_address_is_no_folder(add_mirror, tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    mirror = add_mirror()
    for read in (read_from_mirrors, input_data.mnist_or_bundled_digits):
        assert error_of(ValueError, read, folder) == (
            f'{folder} is an address, not a folder; copy its four files into a folder'
        )
    assert mirror.asked == []
    assert os.listdir(tmp_path) == []
