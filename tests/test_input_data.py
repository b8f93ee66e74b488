"""input_data.py: equal to the original, right in threads, clear about broken files and servers."""

import concurrent.futures
import contextlib
import copy
import gzip
import hashlib
import http.server
import importlib.util
import io
import itertools
import os
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import content, digits, packed, write_files, write_mnist

import input_data
from input_data import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS

NAMES = list(input_data.MNIST_FILES)
ROOT = os.path.dirname(input_data.__file__)
REFUSING = 'http://127.0.0.1:1/'  # nobody listens there


def read_small(folder, **options):
    """Read `small_dir`: 400 examples for training, 200 for validation, 100 for tests."""
    return input_data.read_data_sets(folder, **{'validation_size': 200, 'seed': 3, **options})


def assert_same(array, other, name='array'):
    assert (array.dtype, array.shape) == (other.dtype, other.shape), name
    np.testing.assert_array_equal(array, other, name)


# Equal to the original. Each use below is a generator: it does with three data sets what old
# programs do, and yields the arrays and numbers that it gets.


@pytest.fixture(scope='session')
def original():
    """The module that TensorFlow 1.x shipped; None in TensorFlow 2, which does not have it."""
    with contextlib.suppress(ImportError):
        from tensorflow.examples.tutorials.mnist import input_data as original

        return original


def assert_as_the_original(use, recorded, original, folder, **options):
    """Compare what a use yields with what it yields on the original's data sets.

    If the original is missing, compare with `recorded`, the digest of what it yielded.
    """
    options = {'validation_size': 200, 'seed': 3, **options}
    ours = list(map(np.array, use(*input_data.read_data_sets(folder, **options))))
    if original is None:
        assert digest(ours) == recorded, 'run this test on TensorFlow 1.15 to see which array'
        return
    theirs = list(map(np.array, use(*original.read_data_sets(folder, **options))))
    for i, (array, other) in enumerate(itertools.zip_longest(ours, theirs)):
        assert_same(array, other, f'number {i} of what {use.__name__} yields')
    assert digest(theirs) == recorded


def digest(arrays):
    sha256 = hashlib.sha256()
    for array in arrays:
        sha256.update(f'{array.dtype} {array.shape}'.encode() + array.tobytes())
    return sha256.hexdigest()[:16]


def draws_in_turns(train, validation, test):
    batches = [(size, size % 3 > 0) for size in (1, 64, 99, 100, 33, 400, 7, 600, 201)] * 3
    batches += [(70, True)] * 20 + [(600, True)] * 4
    for size, shuffle in batches:
        for data in (train, validation, test):
            if data.num_examples:
                yield from data.next_batch(min(size, data.num_examples), shuffle=shuffle)
                yield data.epochs_completed


@pytest.mark.parametrize(
    ('options', 'recorded'),
    [
        ({}, 'fa0c2397f85ea334'),
        ({'one_hot': True}, '2da7b64b1b7e477c'),
        ({'reshape': False, 'dtype': 'float32', 'seed': 2**31 + 5}, '0b7f3d26032620ce'),
        ({'dtype': np.uint8, 'seed': 0}, '4e2f9ecfd42b9dac'),
        ({'dtype': np.dtype('uint8'), 'one_hot': True, 'reshape': False}, 'a2fec0e838eefd78'),
        ({'validation_size': 0}, '82ca3d80a96187fd'),
    ],
    ids=str,
)
def test_batches_equal_those_of_the_original(original, small_dir, options, recorded):
    assert_as_the_original(draws_in_turns, recorded, original, small_dir, **options)


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


@pytest.mark.parametrize(
    ('use', 'recorded'),
    [
        (reads_private_names, '8a42e0e61164bba7'),
        (sets_images, '2b16f538b5faf3ed'),
        (sets_labels, '61d6e5acd5131cd2'),
        (counts_fewer_examples, '3a3379ec12e29b2d'),
        (keeps_some_examples, '8ac2623d24ada0bb'),
        (doubles_the_examples, '8547ef165641408e'),
        (starts_again, '8b147195a6f51d9d'),
        (draws_any_number, 'b2dd44694df71cb0'),
        (changes_arrays_in_place, 'a0f453ac43f88b3d'),
    ],
)
def test_old_programs_get_what_the_original_gave(original, small_dir, use, recorded):
    assert_as_the_original(use, recorded, original, small_dir)


def test_mnist_itself_is_split_as_by_the_original(real_mnist_dir):
    for name, (size, sha256) in input_data.MNIST_FILES.items():
        data = content(real_mnist_dir, name)
        assert (len(data), hashlib.sha256(data).hexdigest()) == (size, sha256)
    mnist = input_data.read_data_sets(real_mnist_dir, one_hot=True)
    assert [data.images.shape for data in mnist] == [(55000, 784), (5000, 784), (10000, 784)]
    assert mnist.validation.labels[:6].argmax(axis=1).tolist() == [5, 0, 4, 1, 9, 2]


def test_load_mnist_reads_the_folder_mnist_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_mnist('MNIST-data', 5007, 9)
    assert [data.num_examples for data in input_data.load_mnist()] == [7, 5000, 9]


# The arguments, the arrays and the batches.


@pytest.mark.parametrize('name', ['images', 'labels', 'num_examples', 'epochs_completed'])
def test_public_attributes_are_read_only(small_dir, name):
    with pytest.raises(AttributeError):
        setattr(read_small(small_dir).train, name, 1)


@pytest.mark.parametrize('dtype', [tf.uint8, tf.float32])
def test_a_dtype_may_be_one_of_tensorflow(small_dir, dtype):
    data = read_small(small_dir, dtype=dtype).train
    assert data.images.dtype == data.next_batch(5)[0].dtype == dtype.as_numpy_dtype


@pytest.mark.parametrize('fake_data', [False, True])
@pytest.mark.parametrize(
    'dtype',
    [tf.int32, tf.bfloat16, tf.qint8, tf.string, np.float64, None, 'no dtype', 3],
    ids=repr,
)
def test_other_dtypes_are_refused(small_dir, fake_data, dtype):
    with pytest.raises(TypeError):
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
        images, labels = data.next_batch(70, shuffle=i % 9 < 5)
        untouched_images, untouched_labels = untouched.next_batch(70, shuffle=i % 9 < 5)
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


def test_a_batch_may_not_reach_into_a_third_epoch(small_dir):
    data = read_small(small_dir).train
    for start in (0, 70):
        data.next_batch(start)
        with pytest.raises(ValueError, match='third epoch') as caught:
            data.next_batch(801 - start)
        assert str(caught.value) == (
            f'batch_size {801 - start} would reach into a third epoch (at most {800 - start} now)'
        )
    images, _ = data.next_batch(730)
    assert len(images) == 730


@pytest.mark.parametrize('size', [-1, 601])
def test_the_validation_set_is_part_of_the_training_images(small_dir, size):
    with pytest.raises(ValueError, match='validation_size') as caught:
        read_small(small_dir, validation_size=size)
    assert str(caught.value) == (
        f'{small_dir}: validation_size must be between 0 and 600, not {size}'
    )


def test_a_data_set_can_be_made_of_arrays():
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1).copy()
    data = input_data.DataSet(images, np.array([1, 0]), seed=0)
    images[:] = 0  # later changes by the caller do not count
    assert_same(data.images, np.arange(24, dtype=np.float32).reshape(2, 12) * np.float32(1 / 255))
    with pytest.raises(ValueError, match=r'^2 images but 1 labels$'):
        input_data.DataSet(images, np.array([1]))


@pytest.mark.parametrize('rows', [150, 800])
def test_the_order_is_a_permutation_of_the_rows_that_were_assigned(small_dir, rows):
    data = read_small(small_dir).train
    data.next_batch(390)
    data._images = data._labels = np.arange(rows)
    data._num_examples = min(rows, 400)
    data._index_in_epoch = 0
    data.next_batch(10)
    assert sorted(data._order) == list(range(rows))


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


def data_set_of_colours():
    images = np.tile(COLOURS[:, np.newaxis, np.newaxis, np.newaxis], (1, 28, 28, 1))
    images.flags.writeable = False  # as those from files
    return input_data.DataSet(images, COLOURS)


def assert_right_batch(data):
    images, labels = data.next_batch(64)
    assert np.array_equal(images, RIGHT_IMAGES[labels])


def assert_right_images(data):
    assert np.array_equal(data.images, RIGHT_IMAGES)


@pytest.fixture
def threads_that_switch_often():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        yield threads
    sys.setswitchinterval(interval)


def test_threads_draw_right_batches_while_another_reads_images(threads_that_switch_often):
    for _ in range(100):  # many data sets, since each rescales its images only once
        data = data_set_of_colours()
        start, was_read = threading.Barrier(4), threading.Event()

        def draw(data=data, start=start, was_read=was_read):
            start.wait()
            while not was_read.is_set():
                assert_right_batch(data)
            assert_right_batch(data)

        def read(data=data, start=start, was_read=was_read):
            start.wait()
            time.sleep(0.001)  # so that the others are drawing now
            assert_right_images(data)
            was_read.set()

        jobs = [threads_that_switch_often.submit(job) for job in (draw, draw, draw, read)]
        for job in jobs:
            job.result()


def interrupt(call, data, interruption, position):
    """Call `call(data)`, and within it `interruption(data)` when so many bytecodes have run.

    Returns false if the call ended before that.
    """
    left = position
    interrupted = False

    def trace(frame, event, argument):
        nonlocal left, interrupted
        if frame.f_code.co_filename != input_data.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == 'opcode' and not interrupted:
            if left == 0:
                interrupted = True
                interruption(data)  # which is not traced itself
            left -= 1
        return trace

    trace_before = sys.gettrace()
    sys.settrace(trace)
    try:
        call(data)
    finally:
        sys.settrace(trace_before)
    return interrupted


@pytest.mark.parametrize(
    ('call', 'interruption'),
    [
        (assert_right_batch, assert_right_images),
        (assert_right_images, assert_right_batch),
        (assert_right_batch, assert_right_batch),
    ],
)
def test_reading_is_right_wherever_python_switches_threads(call, interruption):
    """Python may do so between any two bytecodes; this tries each place, in one thread."""
    position = 0
    while interrupt(call, data_set_of_colours(), interruption, position):
        position += 1
    assert position > 20


# Files.

IF_MNIST = "If it is MNIST's, delete it and run again to download it."
ZEROS = bytes(600 * 784)


def test_images_and_labels_are_extracted_from_open_files(small_dir):
    images, labels = digits(100, seed=2)
    with open(os.path.join(small_dir, TEST_IMAGES), 'rb') as f:
        assert_same(input_data.extract_images(f), images[..., np.newaxis])
    with open(os.path.join(small_dir, TEST_LABELS), 'rb') as f:
        assert_same(input_data.extract_labels(f), labels)
    with open(os.path.join(small_dir, TEST_LABELS), 'rb') as f:
        assert_same(input_data.extract_labels(f, True, 12), np.eye(12)[labels])


@pytest.mark.parametrize(
    'dense', [np.array([1, 2, 0], np.uint8), [1, 2, 0], np.array([[1], [2], [0]])], ids=repr
)
def test_dense_labels_become_one_hot(dense):
    assert_same(input_data.dense_to_one_hot(dense, 3), np.eye(3)[[1, 2, 0]])


def test_importing_loads_neither_tensorflow_nor_what_downloads():
    code = 'import sys, input_data; print(*sys.modules)'
    modules = subprocess.check_output([sys.executable, '-c', code], cwd=ROOT).decode().split()
    assert not {'tensorflow', 'requests', 'urllib3', 'tqdm'} & set(modules)


@pytest.fixture
def letters_dir(own_dir):
    """`small_dir` with labels from 1 to 26, as EMNIST's letters have."""
    labels = (np.arange(600) % 26 + 1).astype(np.uint8)
    write_files(own_dir, {TRAIN_LABELS: packed(2049, 600, data=labels.tobytes())})
    return own_dir


def test_labels_above_9_are_read_as_by_the_original(letters_dir, original):
    ours = read_small(letters_dir)
    assert_same(ours.train.labels, (np.arange(200, 600) % 26 + 1).astype(np.uint8))
    if original:
        theirs = original.read_data_sets(letters_dir, validation_size=200, seed=3)
        assert_same(ours.train.labels, theirs.train.labels)


def test_labels_above_9_need_more_classes_to_be_one_hot(letters_dir):
    path = os.path.join(letters_dir, TRAIN_LABELS)
    with pytest.raises(ValueError, match='one_hot') as caught:
        read_small(letters_dir, one_hot=True)
    assert str(caught.value) == (
        f'{path}: its labels go up to 26; for one_hot, call extract_labels with num_classes=27'
    )
    with open(path, 'rb') as f:
        assert input_data.extract_labels(f, one_hot=True, num_classes=27).shape == (600, 27)


@pytest.mark.parametrize(
    ('name', 'data', 'problem'),
    [
        pytest.param(
            TRAIN_IMAGES,
            packed(2049, 600, data=bytes(600)),
            'its magic number is 2049, not 2051. Put a file of images under this name.',
            id='labels for images',
        ),
        pytest.param(
            TRAIN_LABELS,
            packed(2051, 600, 28, 28, data=ZEROS),
            'its magic number is 2051, not 2049. Put a file of labels under this name.',
            id='images for labels',
        ),
        pytest.param(
            TRAIN_IMAGES,
            packed(2051, 600, 14, 56, data=ZEROS),
            'images of 14 x 56 pixels, not 28 x 28',
            id='narrow images',
        ),
        pytest.param(
            TRAIN_LABELS,
            packed(2049, 599, data=bytes(599)),
            f'599 labels for 600 images in {TRAIN_IMAGES}. Put both files of one data set there.',
            id='fewer labels',
        ),
        pytest.param(
            TRAIN_LABELS,
            struct.pack('>2I', 2049, 600) + bytes(600),
            'not compressed; remove .gz from its name and run gzip on it',
            id='labels not compressed',
        ),
        pytest.param(
            TRAIN_IMAGES,
            struct.pack('>4I', 2051, 600, 28, 28) + ZEROS,
            'not compressed; remove .gz from its name and run gzip on it',
            id='images not compressed',
        ),
    ],
)
def test_an_intact_file_that_does_not_fit_is_never_to_be_deleted(own_dir, name, data, problem):
    write_files(own_dir, {name: data})
    with pytest.raises(ValueError, match=name) as caught:
        read_small(own_dir)
    assert str(caught.value) == f'{os.path.join(own_dir, name)}: {problem}'
    assert content(own_dir, name) == data


@pytest.mark.parametrize(
    ('data', 'problem'),
    [
        (b'', 'it ends within its header'),
        (packed(2051), 'it ends within its header'),
        (
            packed(2051, 601, 28, 28, data=ZEROS),
            'its header promises 471,184 bytes, but it holds 470,400',
        ),
        (
            packed(2051, 599, 28, 28, data=ZEROS),
            'its header promises 469,616 bytes, but it holds more',
        ),
    ],
    ids=['empty', 'half a header', 'too short', 'too long'],
)
def test_a_file_of_another_length_than_promised_is_told(own_dir, data, problem):
    write_files(own_dir, {TRAIN_IMAGES: data})
    with pytest.raises(ValueError, match=TRAIN_IMAGES) as caught:
        read_small(own_dir)
    assert str(caught.value) == f'{os.path.join(own_dir, TRAIN_IMAGES)}: {problem}. {IF_MNIST}'
    assert content(own_dir, TRAIN_IMAGES) == data


def cut_in_half(data):
    return data[: len(data) // 2]


def with_a_tail(data):
    return data + b'!'


def replaced_by_a_web_page(data):
    return b'<html>403</html>'


def with_a_wrong_byte(data):
    return data[:10] + b'?' + data[11:]


def with_a_wrong_checksum(data):
    return data[:-8] + bytes(4) + data[-4:]


@pytest.mark.parametrize(
    ('broken', 'reason'),
    [
        (cut_in_half, 'Compressed file ended before the end-of-stream marker was reached'),
        (with_a_tail, "Not a gzipped file (b'!')"),
        (replaced_by_a_web_page, "Not a gzipped file (b'<h')"),
        (with_a_wrong_byte, 'Error -3 while decompressing data: '),
        (with_a_wrong_checksum, 'CRC check failed 0x0 != 0x'),
    ],
)
@pytest.mark.parametrize('name', [TRAIN_IMAGES, TEST_LABELS])
def test_a_broken_gzip_file_is_told_with_the_remedy(own_dir, name, broken, reason):
    data = broken(content(own_dir, name))
    write_files(own_dir, {name: data})
    with pytest.raises(ValueError, match=name) as caught:
        read_small(own_dir)
    message = str(caught.value)
    path = os.path.join(own_dir, name)
    assert message.startswith(f'{path}: not an intact gzip file ({reason}')
    assert message.endswith(f'). {IF_MNIST}')
    assert content(own_dir, name) == data


@pytest.fixture
def peak_memory():
    """Return a function that tells the largest memory, in bytes, used since the test began."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


@pytest.mark.parametrize(
    ('extract', 'header', 'message'),
    [
        (
            input_data.extract_images,
            packed(0),
            'its magic number is 0, not 2051. Put a file of images under this name.',
        ),
        (
            input_data.extract_images,
            packed(2051, 600, 28, 28),
            f'its header promises 470,400 bytes, but it holds more. {IF_MNIST}',
        ),
        (
            input_data.extract_labels,
            packed(2049, (1 << 30) + 1),
            'its header promises 1,073,741,825 bytes, more than 1,073,741,824',
        ),
        (
            input_data.extract_images,
            packed(2051, 2**31, 2**31, 4),
            'its header promises 18,446,744,073,709,551,616 bytes, more than 1,073,741,824',
        ),
    ],
    ids=['not images', 'short', 'too large', 'beyond 64 bits'],
)
def test_a_file_with_a_false_header_takes_little_memory(peak_memory, extract, header, message):
    gigabyte = gzip.compress(bytes(1 << 24)) * 64
    with pytest.raises(ValueError, match='its') as caught:
        extract(io.BytesIO(header + gigabyte))
    assert str(caught.value) == message
    assert peak_memory() < 1.5 * (1 << 24)


def test_a_file_of_emnists_size_takes_the_memory_of_its_pixels(peak_memory):
    """ByClass, the largest part of EMNIST, has 697,932 images for training."""
    f = io.BytesIO(packed(2051, 697932, 28, 28) + gzip.compress(bytes(19387 * 784), 1) * 36)
    assert input_data.extract_images(f).shape == (697932, 28, 28, 1)
    assert peak_memory() < 1.1 * 697932 * 784


# Downloads, from servers on this machine. For these tests, the files of `small_dir` are MNIST's.


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.lstrip('/')
        self.server.asked.append(path)
        self.server.accepted_encodings.add(self.headers['Accept-Encoding'])
        with contextlib.suppress(OSError):  # the client may hang up
            self.server.answer(self, self.server.files[os.path.basename(path)])

    def start(self, length=None, status=200, encoding='identity'):
        """Send the head of an answer."""
        self.send_response_only(status)  # which prints nothing
        if length is not None:
            self.send_header('Content-Length', str(length))
        self.send_header('Content-Encoding', encoding)
        self.end_headers()


def send(handler, body):
    handler.start(len(body))
    handler.wfile.write(body)


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
        monkeypatch.setenv(variable, REFUSING)
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with contextlib.ExitStack() as at_the_end:

        def add_mirror(answer=send, files=small_files):
            server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
            server.answer, server.files = answer, files
            server.asked, server.accepted_encodings = [], set()
            server.ends = threading.Event()
            server.url = f'http://127.0.0.1:{server.server_port}/'
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


def answer_403(handler, body):
    handler.start(5, status=403)
    handler.wfile.write(b'sorry')


def send_a_web_page(handler, body):
    send(handler, b'<html>')


def send_nothing(handler, body):
    send(handler, b'')


def break_off(handler, body):
    handler.start(len(body))
    handler.wfile.write(body[:-9])


def break_off_without_a_length(handler, body):
    handler.start()
    handler.wfile.write(body[:-9])


def send_too_much(handler, body):
    handler.start()
    handler.wfile.write(body + bytes(1 << 22))


def send_a_wrong_byte(handler, body):
    send(handler, body[:-1] + b'?')


def keep_silent(handler, body):
    handler.server.ends.wait()


def stall(handler, body):
    handler.start(len(body))
    handler.wfile.write(body[:-9])
    handler.server.ends.wait()


def reason_of(lie, url, body):
    """What is said of a mirror that lies; part of it where `requests` chooses the words."""
    size = f'{len(body):,}'
    return {
        answer_403: f'403 Client Error: Forbidden for url: {url}',
        send_a_web_page: f'6 bytes, not {size}',
        send_nothing: f'0 bytes, not {size}',
        break_off: 'IncompleteRead(',
        break_off_without_a_length: f'{len(body) - 9:,} bytes, not {size}',
        send_too_much: f'more than {size}',
        send_a_wrong_byte: "MNIST's size, but not its SHA-256",
        keep_silent: 'Read timed out.',
        stall: 'Read timed out.',
    }[lie]


LIES_OF_FORM = [
    answer_403,
    send_a_web_page,
    send_nothing,
    break_off,
    break_off_without_a_length,
    send_too_much,
    send_a_wrong_byte,
]
LIES = [*LIES_OF_FORM, keep_silent, stall]


@pytest.mark.parametrize('lie', LIES)
def test_if_a_mirror_lies_the_next_one_is_asked(
    add_mirror, small_files, tmp_path, monkeypatch, lie
):
    if lie in (keep_silent, stall):
        monkeypatch.setattr(input_data, 'TIMEOUT', 1)
    liar = add_mirror(lie)
    honest = add_mirror()
    assert read_from_mirrors(tmp_path).train.num_examples == 400
    assert_holds_only(tmp_path, small_files)
    assert liar.asked == [TRAIN_IMAGES]
    assert honest.asked == NAMES


def test_if_no_mirror_works_each_one_is_named_with_its_reason(
    add_mirror, small_files, tmp_path, monkeypatch
):
    monkeypatch.setattr(input_data, 'TIMEOUT', 0.5)
    mirrors = [add_mirror(lie) for lie in LIES]
    input_data.MIRRORS += (REFUSING,)
    with pytest.raises(ConnectionError) as caught:
        read_from_mirrors(tmp_path)
    lines = str(caught.value).splitlines()
    assert lines.pop(0) == f'MNIST is not in {tmp_path} and cannot be downloaded:'
    for mirror, lie in zip(mirrors, LIES):
        url = mirror.url + TRAIN_IMAGES
        line = lines.pop(0)
        assert line.startswith(f'  {url}: ')
        assert reason_of(lie, url, small_files[TRAIN_IMAGES]) in line
    line = lines.pop(0)
    assert line.startswith(f'  {REFUSING}{TRAIN_IMAGES}: ')
    assert line.endswith('Connection refused')
    assert lines == [
        f'Check the network, or put {", ".join(NAMES)} there by hand. '
        f'Or use the bundled digits: {input_data.SAMPLE_DIR}'
    ]
    assert os.listdir(tmp_path) == []


def answer_403_for(*names):
    """Make a mirror that does not have these files."""

    def answer(handler, body):
        if os.path.basename(handler.path) in names:
            answer_403(handler, body)
        else:
            send(handler, body)

    return answer


def test_a_mirror_that_failed_is_not_asked_again(add_mirror, tmp_path):
    has_none = add_mirror(answer_403)
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
        + reason_403(has_none.url + TRAIN_IMAGES)
        + reason_403(has_two.url + TEST_IMAGES)
        + reason_403(has_one.url + TEST_LABELS)
        + f'Check the network, or put {TEST_LABELS} there by hand. '
        f'Or use the bundled digits: {input_data.SAMPLE_DIR}'
    )


def reason_403(url):
    return f'  {url}: 403 Client Error: Forbidden for url: {url}\n'


def test_files_of_one_mirror_are_kept_when_the_next_goes_on(add_mirror, small_files, tmp_path):
    add_mirror(answer_403_for(TEST_IMAGES))
    rest = add_mirror()
    read_from_mirrors(tmp_path)
    assert rest.asked == [TEST_IMAGES, TEST_LABELS]
    assert_holds_only(tmp_path, small_files)


def send_declared_as_compressed(handler, body):
    handler.start(len(body), encoding='gzip')
    handler.wfile.write(body)


def test_files_are_stored_compressed_even_if_a_server_declares_an_encoding(
    add_mirror, small_files, tmp_path
):
    mirror = add_mirror(send_declared_as_compressed)
    read_from_mirrors(tmp_path)
    assert_holds_only(tmp_path, small_files)
    assert mirror.accepted_encodings == {'identity'}


def test_only_missing_files_are_downloaded(add_mirror, small_files, tmp_path):
    own_labels = packed(2049, 100, data=bytes(100))
    there = {**small_files, TEST_LABELS: own_labels}
    write_files(tmp_path, there)
    os.remove(tmp_path / TRAIN_LABELS)
    before = {entry.name: entry.stat() for entry in os.scandir(tmp_path)}
    mirror = add_mirror()
    input_data.MNIST_FILES[TEST_LABELS] = len(own_labels), 'of other content'
    read_from_mirrors(tmp_path)
    assert mirror.asked == [TRAIN_LABELS]
    assert_holds_only(tmp_path, there)
    for name, status in before.items():
        after = os.stat(tmp_path / name)
        assert (after.st_ino, after.st_mtime_ns) == (status.st_ino, status.st_mtime_ns)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_a_bar_for_each_file(add_mirror, tmp_path, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, 'stderr', terminal)
    add_mirror()
    read_from_mirrors(tmp_path)
    assert re.findall(r'(\S+gz): 100%', terminal.getvalue()) == NAMES


def test_without_a_terminal_downloads_print_nothing(add_mirror, tmp_path, capfd):
    add_mirror()
    read_from_mirrors(tmp_path)
    assert capfd.readouterr() == ('', '')


def test_mnist_is_not_mixed_into_another_data_set(add_mirror, tmp_path):
    write_mnist(tmp_path, 77, 33)
    for name in (TRAIN_LABELS, TEST_IMAGES, TEST_LABELS):
        os.remove(tmp_path / name)
    mirror = add_mirror()
    path = tmp_path / TRAIN_IMAGES
    size, size_of_mnist = os.path.getsize(path), input_data.MNIST_FILES[TRAIN_IMAGES][0]
    with pytest.raises(ValueError, match='not downloaded') as caught:
        read_from_mirrors(tmp_path)
    assert str(caught.value) == (
        f"{path} is not MNIST's file ({size:,} bytes, not {size_of_mnist:,}), "
        f'so the missing files were not downloaded: {TRAIN_LABELS}, {TEST_IMAGES}, {TEST_LABELS}. '
        'Add those of the same data set, choose another folder or, '
        'if it is a broken download, delete it.'
    )
    assert os.listdir(tmp_path) == [TRAIN_IMAGES]
    assert mirror.asked == []


def test_a_file_that_appears_during_the_download_is_kept(add_mirror, small_files, tmp_path):
    own_labels = packed(2049, 100, data=bytes(100))

    def answer(handler, body):
        write_files(tmp_path, {TEST_LABELS: own_labels})
        send(handler, body)

    add_mirror(answer)
    read_from_mirrors(tmp_path)
    assert_holds_only(tmp_path, {**small_files, TEST_LABELS: own_labels})


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_checked_is_what_was_stored(add_mirror, small_files, tmp_path):
    def change_what_was_stored(handler, body):
        handler.start(len(body))
        most = len(body) - 1000
        handler.wfile.write(body[:most])

        def parts():
            return [entry.path for entry in os.scandir(tmp_path) if entry.stat().st_size]

        wait_until(parts)
        with open(parts()[0], 'r+b') as f:
            f.write(b'what another program writes')
        handler.wfile.write(body[most:])

    add_mirror(change_what_was_stored)
    other = add_mirror()
    read_from_mirrors(tmp_path)
    assert other.asked == NAMES
    assert_holds_only(tmp_path, small_files)


def test_processes_with_the_same_id_may_share_a_folder(add_mirror, small_files, tmp_path):
    """As those of two containers may do, which both have the ID 1 there."""
    first_has_most, second_has_started = threading.Event(), threading.Event()
    is_first = iter([True, False])

    def send_slowly(handler, pieces):
        for piece in pieces:
            handler.wfile.write(piece)
            time.sleep(0.05)

    def answer(handler, body):
        if not handler.path.endswith(TRAIN_IMAGES):
            return send(handler, body)
        step = len(body) // 20
        pieces = [body[i : i + step] for i in range(0, len(body), step)]
        if next(is_first):
            handler.start(len(body))
            send_slowly(handler, pieces[:15])
            first_has_most.set()
            second_has_started.wait()
            send_slowly(handler, pieces[15:])  # it ends long before the second one
        else:
            first_has_most.wait()
            handler.start(len(body))
            second_has_started.set()
            send_slowly(handler, pieces)

    add_mirror(answer)
    code = f"""
import os
import input_data

os.getpid = lambda: 1
input_data.TIMEOUT = 60
input_data.MIRRORS = {input_data.MIRRORS!r}
input_data.MNIST_FILES = {input_data.MNIST_FILES!r}
input_data.read_data_sets({str(tmp_path)!r}, validation_size=0, source_url=None)
"""
    processes = [
        subprocess.Popen([sys.executable, '-c', code], cwd=ROOT, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=60)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert_holds_only(tmp_path, small_files)


@pytest.mark.parametrize(('umask', 'mode'), [(0o022, 0o644), (0o027, 0o640)])
def test_others_may_read_the_files_as_the_umask_says(add_mirror, tmp_path, umask, mode):
    add_mirror()
    umask_before = os.umask(umask)
    try:
        read_from_mirrors(tmp_path)
    finally:
        os.umask(umask_before)
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in os.scandir(tmp_path)} == {mode}


@pytest.mark.parametrize('name', ['SIGKILL', 'SIGINT'])
def test_the_next_run_completes_a_download_that_was_stopped(
    add_mirror, small_files, tmp_path, name
):
    def answer(handler, body):
        if mirror.asked != [TRAIN_IMAGES, TRAIN_LABELS]:
            return send(handler, body)
        handler.start(len(body))
        handler.wfile.write(body[:-9])
        wait_until(lambda: len(os.listdir(tmp_path)) == 2)
        process.send_signal(getattr(signal, name))
        mirror.ends.wait()

    mirror = add_mirror(answer)
    code = f"""
import signal
import input_data

signal.signal(signal.SIGINT, signal.default_int_handler)  # though the parent may ignore it
input_data.MIRRORS = {input_data.MIRRORS!r}
input_data.MNIST_FILES = {input_data.MNIST_FILES!r}
input_data.read_data_sets({str(tmp_path)!r}, source_url=None)
"""
    process = subprocess.Popen([sys.executable, '-c', code], cwd=ROOT, stderr=subprocess.DEVNULL)
    assert process.wait(60) != 0
    left = os.listdir(tmp_path)
    if name == 'SIGINT':
        assert left == [TRAIN_IMAGES]
    else:  # nobody can clean up then
        assert len(left) == 2
        assert [each for each in left if each in NAMES] == [TRAIN_IMAGES]
    read_from_mirrors(tmp_path)
    assert {name: content(tmp_path, name) for name in NAMES} == small_files


@pytest.mark.parametrize('folder', ['', '/missing'])
def test_a_folder_that_cannot_be_written_ends_the_run(add_mirror, tmp_path, monkeypatch, folder):
    """Only if no mirror answers are the bundled digits used instead."""
    pytest.importorskip('pwd')  # Windows has other permissions
    add_mirror()
    read_from_mirrors(tmp_path)  # imports what another user may not be able to read
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o555)
        monkeypatch.setattr(input_data, 'DATA_DIR', parent + folder)
        os.seteuid(user or 65534)  # the administrator may write everywhere
        try:
            with pytest.raises(OSError, match='Permission denied') as caught:
                input_data.mnist_or_bundled_digits()
        finally:
            os.seteuid(user)
        assert not isinstance(caught.value, ConnectionError)
        assert str(caught.value) == (
            f'cannot store MNIST in {parent + folder}: Permission denied. Choose another folder.'
        )
        assert os.listdir(parent) == []


# Another address, and MNIST's first one.


@pytest.mark.parametrize('slash', ['', '/'])
def test_another_address_may_have_another_data_set(add_mirror, tmp_path, slash):
    other_dir = write_mnist(tmp_path / 'other', 77, 33)
    files = {name: content(other_dir, name) for name in NAMES}
    server = add_mirror(files=files)
    folder = tmp_path / 'new' / 'folder'
    mnist = input_data.read_data_sets(
        str(folder), validation_size=10, source_url=server.url + 'other' + slash
    )
    assert [data.num_examples for data in mnist] == [67, 10, 33]
    assert server.asked == ['other/' + name for name in NAMES]
    assert_holds_only(folder, files)


def test_another_address_completes_another_data_set(add_mirror, tmp_path):
    write_mnist(tmp_path, 77, 33)
    files = {name: content(tmp_path, name) for name in NAMES}
    server = add_mirror(files=files)
    os.remove(tmp_path / TEST_IMAGES)
    read_small(tmp_path, validation_size=10, source_url=server.url + 'other')
    assert server.asked == ['other/' + TEST_IMAGES]
    assert_holds_only(tmp_path, files)


@pytest.mark.parametrize('lie', LIES_OF_FORM)
@pytest.mark.parametrize('name', [TRAIN_IMAGES, TRAIN_LABELS])
def test_another_address_is_checked_for_the_form_of_its_files(
    add_mirror, small_files, tmp_path, monkeypatch, lie, name
):
    monkeypatch.setattr(input_data, 'LARGEST_FILE', 1 << 20)
    there = {each: data for each, data in small_files.items() if each != name}
    write_files(tmp_path, there)
    url = add_mirror(lie).url + 'other/'
    with pytest.raises(ConnectionError) as caught:
        read_small(tmp_path, source_url=url)
    start, reason, end = str(caught.value).splitlines()
    assert start == f'{name} cannot be downloaded to {tmp_path}:'
    assert reason.startswith(f'  {url}{name}: ')
    assert end == 'Check the address or, if you want MNIST, leave source_url out.'
    if lie is send_too_much:
        assert reason == f'  {url}{name}: more than 1,048,576 bytes'
    if lie is send_a_web_page:
        assert reason == f'  {url}{name}: not a gzip-compressed IDX file'
    assert_holds_only(tmp_path, there)


def test_an_error_of_another_address_is_about_that_address(add_mirror, tmp_path):
    url = add_mirror(answer_403).url + 'other/'
    with pytest.raises(ConnectionError) as caught:
        read_small(tmp_path, source_url=url)
    assert str(caught.value) == (
        f'{", ".join(NAMES)} cannot be downloaded to {tmp_path}:\n'
        + reason_403(url + TRAIN_IMAGES)
        + 'Check the address or, if you want MNIST, leave source_url out.'
    )


@pytest.mark.parametrize('slash', ['', '/'])
@pytest.mark.parametrize('scheme', ['http', 'https'])
def test_mnists_first_address_means_the_mirrors(add_mirror, small_files, tmp_path, scheme, slash):
    mirror = add_mirror()
    read_small(tmp_path, source_url=f'{scheme}://yann.lecun.com/exdb/mnist{slash}')
    assert mirror.asked == NAMES
    assert_holds_only(tmp_path, small_files)


@pytest.mark.parametrize('source_url', [None, '', input_data.DEFAULT_SOURCE_URL])
def test_the_default_address_means_the_mirrors(add_mirror, tmp_path, source_url):
    liar = add_mirror(send_a_wrong_byte)
    honest = add_mirror()
    read_small(tmp_path, source_url=source_url)
    assert liar.asked == [TRAIN_IMAGES]
    assert honest.asked == NAMES


def test_the_address_of_one_mirror_means_all_of_them(add_mirror, tmp_path):
    liar = add_mirror(send_a_wrong_byte)
    honest = add_mirror()
    read_small(tmp_path, source_url=liar.url.rstrip('/'))
    assert honest.asked == NAMES


# Folders, and the bundled digits.

CAVEAT = ' (bundled digits, not MNIST)'


def no_mirror_works(add_mirror, folder):
    """Add a mirror that has nothing; return the start of the error that follows."""
    url = add_mirror(answer_403).url + TRAIN_IMAGES
    return f'MNIST is not in {folder} and cannot be downloaded:\n' + reason_403(url)


def test_if_no_mirror_works_the_bundled_digits_are_used(add_mirror, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(input_data, 'DATA_DIR', str(tmp_path))
    start = no_mirror_works(add_mirror, tmp_path)
    folder, caveat = input_data.mnist_or_bundled_digits()
    assert (folder, caveat) == (input_data.SAMPLE_DIR, CAVEAT)
    out, err = capsys.readouterr()
    assert out == ''
    assert err == f'{start}Training on the bundled digits instead.\n'
    assert os.listdir(tmp_path) == []


def test_a_folder_that_was_named_is_not_replaced_by_the_bundled_digits(add_mirror, tmp_path):
    start = no_mirror_works(add_mirror, tmp_path)
    with pytest.raises(ConnectionError) as caught:
        input_data.mnist_or_bundled_digits(str(tmp_path))
    assert str(caught.value).startswith(start)


def test_files_that_are_there_are_not_replaced_by_the_bundled_digits(
    add_mirror, small_files, tmp_path, monkeypatch
):
    monkeypatch.setattr(input_data, 'DATA_DIR', str(tmp_path))
    write_files(tmp_path, {TEST_LABELS: bytes(len(small_files[TEST_LABELS]))})
    start = no_mirror_works(add_mirror, tmp_path)
    with pytest.raises(ConnectionError) as caught:
        input_data.mnist_or_bundled_digits()
    assert str(caught.value).startswith(start)


@pytest.fixture
def copied_alone(add_mirror, tmp_path):
    """The module input_data.py, copied into a folder where nothing else is."""
    path = str(tmp_path / 'input_data.py')
    shutil.copy(input_data.__file__, path)
    spec = importlib.util.spec_from_file_location('copied_alone', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_where_no_digits_are_bundled_none_are_offered(
    add_mirror, copied_alone, monkeypatch, capsys
):
    folder = copied_alone.DATA_DIR
    start = no_mirror_works(add_mirror, folder)
    monkeypatch.setattr(copied_alone, 'MIRRORS', input_data.MIRRORS)
    with pytest.raises(ConnectionError) as caught:
        copied_alone.mnist_or_bundled_digits()
    message = str(caught.value)
    assert message.startswith(f'{start}Check the network')
    assert ', '.join(NAMES) in message
    assert 'bundled' not in message
    assert copied_alone.SAMPLE_DIR not in message
    assert capsys.readouterr() == ('', '')


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
        with pytest.raises(NotADirectoryError) as caught:
            read(str(path))
        assert str(caught.value) == f'{path} is a file; choose the folder of the four MNIST files'
    assert mirror.asked == []
    assert path.read_bytes() == b'mine'
