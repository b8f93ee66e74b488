import errno
import functools
import gzip
import hashlib
import io
import os
import re
import subprocess
import sys
import tempfile
import tracemalloc
import warnings

import numpy as np
import pytest
from conftest import content, digits, packed, write_files, write_mnist
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import input_data
from input_data import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS

NAMES = tuple(input_data.MNIST_FILES)
ROOT = os.path.dirname(input_data.__file__)
SETS = ('train', 'validation', 'test')


@pytest.fixture(scope='session')
def original():
    """The module that TensorFlow 1.x shipped."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        tf = pytest.importorskip('tensorflow.compat.v1')
        tf.logging.set_verbosity(tf.logging.ERROR)
        return pytest.importorskip(
            'tensorflow.examples.tutorials.mnist.input_data',
            reason='TensorFlow 1.15 is not installed, which contains the original',
        )


@pytest.fixture(scope='session')
def tf():
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        import tensorflow.compat.v1 as tf
    tf.disable_eager_execution()
    return tf


def read_small(folder, **options):
    return input_data.read_data_sets(folder, **{'validation_size': 200, 'seed': 3, **options})


def assert_same(found, expected):
    for ours, theirs in zip(found, expected):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert np.array_equal(ours, theirs)


def assert_same_batches(original, folder, batches, sets=SETS, **options):
    """Draw each data set alone, since those of the original share one random stream."""
    for which in sets:
        ours = getattr(input_data.read_data_sets(folder, **options), which)
        theirs = getattr(original.read_data_sets(folder, **options), which)
        assert_same((ours.images, ours.labels), (theirs.images, theirs.labels))
        for size, shuffle in batches:
            size = min(size, ours.num_examples)
            expected = theirs.next_batch(size, shuffle=shuffle)
            assert_same(ours.next_batch(size, shuffle=shuffle), expected)
            assert ours.epochs_completed == theirs.epochs_completed
        assert ours.epochs_completed >= 2
        assert ours.num_examples == theirs.num_examples


BATCHES = {
    'shuffled': [(70, True)] * 60,
    'in order': [(70, False)] * 60,
    'mixed': [(size, size % 3 > 0) for size in (1, 64, 99, 100, 33, 400, 7, 600, 201)] * 3,
    'first in order': [(50, False), (50, True)] * 30,
    'whole epochs': [(600, True)] * 4,
}


@pytest.mark.parametrize('batches', BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize(
    'options',
    [
        {},
        {'one_hot': True},
        {'reshape': False},
        {'dtype': np.uint8},
        {'dtype': np.dtype('uint8'), 'one_hot': True, 'reshape': False},
        {'dtype': 'float32', 'seed': 2**31 + 5},
        {'seed': 0},
    ],
    ids=str,
)
def test_batches_are_the_originals(original, small_dir, options, batches):
    options = {'validation_size': 200, 'seed': 3, **options}
    assert_same_batches(original, small_dir, batches, **options)


@pytest.mark.parametrize(('size', 'which'), [(0, 'train'), (600, 'validation')])
def test_split_is_the_originals(original, small_dir, size, which):
    batches = BATCHES['mixed']
    assert_same_batches(original, small_dir, batches, (which,), validation_size=size, seed=9)


@pytest.mark.parametrize('name', ['uint8', 'float32'])
def test_tensorflows_dtypes(tf, small_dir, name):
    ours = read_small(small_dir, dtype=getattr(tf, name)).train
    same = read_small(small_dir, dtype=np.dtype(name)).train
    assert_same([ours.images, *ours.next_batch(50)], [same.images, *same.next_batch(50)])
    assert ours.images.dtype == name


@pytest.mark.parametrize('name', ['int32', 'float64', 'float16', 'bfloat16', 'qint8', 'string'])
def test_other_dtypes_of_tensorflow(tf, small_dir, name):
    with pytest.raises(TypeError, match=r'^Invalid image dtype .*, expected uint8 or float32$'):
        read_small(small_dir, dtype=getattr(tf, name))


@pytest.mark.parametrize('one_hot', [False, True])
def test_fake_data_is_the_originals(original, one_hot):
    for which in SETS:
        ours = getattr(input_data.read_data_sets('', fake_data=True, one_hot=one_hot), which)
        theirs = getattr(original.read_data_sets('', fake_data=True, one_hot=one_hot), which)
        assert ours.next_batch(3, fake_data=True) == theirs.next_batch(3, fake_data=True)
        assert ours.next_batch(3) == theirs.next_batch(3, True)
        assert ours.num_examples == theirs.num_examples == 10000


def test_batches_of_mnist_are_the_originals(original, real_mnist_dir):
    shuffled = [(999, True)] * 112
    same = functools.partial(assert_same_batches, original, real_mnist_dir, seed=7)
    same(shuffled, ('train',), one_hot=True)
    same([(999, True), (4500, False)] * 8, ('test',), dtype=np.uint8, reshape=False)
    same([(7000, True)] * 18, ('train',), validation_size=0)
    same([(7000, True)] * 18, ('validation',), validation_size=60000)


def test_sizes_of_mnist(real_mnist_dir):
    mnist = input_data.read_data_sets(real_mnist_dir)
    assert [data.num_examples for data in mnist] == [55000, 5000, 10000]
    assert [data.images.shape for data in mnist] == [(55000, 784), (5000, 784), (10000, 784)]
    assert [data.labels.shape for data in mnist] == [(55000,), (5000,), (10000,)]
    assert mnist.validation.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


# Hashes of batches, as the original draws them; they hold where there is no original, too.
@pytest.mark.parametrize(
    ('options', 'expected'),
    [
        ({}, '1fabfa4242f9eb55'),
        ({'one_hot': True, 'seed': 2**31 + 5}, '9b0b603701829c62'),
        ({'dtype': np.uint8, 'reshape': False, 'seed': 0}, '862ad66427130d0a'),
    ],
)
def test_batches_are_the_same_everywhere(small_dir, options, expected):
    digest = hashlib.sha256()
    for data in read_small(small_dir, **options):
        for size, shuffle in BATCHES['mixed']:
            for array in data.next_batch(min(size, data.num_examples), shuffle=shuffle):
                digest.update(array.tobytes())
    assert digest.hexdigest()[:16] == expected


def test_data_sets(small_dir):
    mnist = read_small(small_dir)
    train, labels = digits(600, seed=1)
    test, test_labels = digits(100, seed=2)
    assert isinstance(mnist, input_data.Datasets)
    assert mnist._fields == SETS
    assert [data.num_examples for data in mnist] == [400, 200, 100]
    for data, pixels, digit in (
        (mnist.train, train[200:], labels[200:]),
        (mnist.validation, train[:200], labels[:200]),
        (mnist.test, test, test_labels),
    ):
        rescaled = pixels.reshape(-1, 784).astype(np.float32) * np.float32(1 / 255)
        assert_same((data.images, data.labels), (rescaled, digit))
        assert data.epochs_completed == 0


@pytest.mark.parametrize(
    ('options', 'shape', 'dtype', 'label_shape', 'label_dtype'),
    [
        ({}, (5, 784), 'float32', (5,), 'uint8'),
        ({'reshape': False}, (5, 28, 28, 1), 'float32', (5,), 'uint8'),
        ({'dtype': np.uint8}, (5, 784), 'uint8', (5,), 'uint8'),
        ({'one_hot': True}, (5, 784), 'float32', (5, 10), 'float64'),
    ],
)
@pytest.mark.parametrize('touched', [False, True])
def test_shapes_and_dtypes(small_dir, options, shape, dtype, label_shape, label_dtype, touched):
    for data in read_small(small_dir, **options):
        if touched:
            assert data.images.shape == (data.num_examples, *shape[1:])
        images, labels = data.next_batch(5)
        assert (images.shape, images.dtype) == (shape, dtype)
        assert (labels.shape, labels.dtype) == (label_shape, label_dtype)
        assert images.max() <= (255 if dtype == 'uint8' else 1)


@pytest.mark.parametrize('touched', [False, True])
@pytest.mark.parametrize('shuffle', [False, True])
@pytest.mark.parametrize('options', [{}, {'dtype': np.uint8, 'one_hot': True}])
def test_a_batch_belongs_to_its_caller(small_dir, options, shuffle, touched):
    data, same = (read_small(small_dir, **options).train for _ in range(2))
    if touched:
        assert len(data.images) == 400
    for _ in range(30):
        batch, expected = (each.next_batch(70, shuffle=shuffle) for each in (data, same))
        assert_same(batch, expected)
        for array in batch:
            array[...] = 77
    assert_same((data.images, data.labels), (same.images, same.labels))


@pytest.mark.parametrize('seed', [None, 5])
def test_numpys_random_state_is_left_alone(small_dir, seed):
    np.random.seed(1)
    before = np.random.get_state()
    data = read_small(small_dir, seed=seed).train
    for _ in range(20):
        data.next_batch(70)
    for found, expected in zip(np.random.get_state(), before):
        np.testing.assert_array_equal(found, expected)


def test_without_a_seed_every_order_is_new(small_dir):
    np.random.seed(1)
    first, second = (read_small(small_dir, seed=None).train.next_batch(400) for _ in range(2))
    assert (first[1] != second[1]).any()


@pytest.mark.parametrize('size', [0, -1, 401, 10**9])
def test_batch_size_out_of_range(small_dir, size):
    data, same = (read_small(small_dir).train for _ in range(2))
    message = f'^batch_size: expected 1 to 400, the size of the data set, found {size}$'
    with pytest.raises(ValueError, match=message):
        data.next_batch(size)
    assert_same(data.next_batch(400), same.next_batch(400))


@pytest.mark.parametrize('size', [-1, 601])
def test_validation_size_out_of_range(small_dir, size):
    message = f'^validation_size: expected 0 to 600, found {size}$'
    with pytest.raises(ValueError, match=message):
        read_small(small_dir, validation_size=size)


def test_pixels_are_freed_once_they_are_rescaled(mnist_dir):
    tracemalloc.start()
    try:
        mnist = input_data.read_data_sets(mnist_dir)
        before, _ = tracemalloc.get_traced_memory()
        rescaled = mnist.train.images.nbytes
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < rescaled - 0.9 * 6000 * 784


@pytest.mark.parametrize('count', [40, 4999, 5000, 5099])
def test_too_few_examples_for_the_scripts(tmp_path, count):
    folder = write_mnist(tmp_path, count, 10)
    message = re.escape(
        f'{tmp_path / TRAIN_IMAGES}: expected at least 5100 images, 5000 of them for validation, '
        f'found {count}. Put a larger data set there, or name another folder.'
    )
    with pytest.raises(ValueError, match=f'^{message}$'):
        input_data.read_mnist_or_bundled_digits(folder)


def test_just_enough_examples_for_the_scripts(tmp_path):
    folder = write_mnist(tmp_path, 5100, 10)
    mnist, note = input_data.read_mnist_or_bundled_digits(folder, one_hot=True)
    assert mnist.train.next_batch(100)[1].shape == (100, 10)
    assert note == ''


@pytest.mark.parametrize('dtype', [np.float64, np.int32, 'string', None, object, 'no dtype', 3])
def test_other_dtypes(dtype, tmp_path):
    message = re.escape(f'Invalid image dtype {dtype!r}, expected uint8 or float32')
    for read in (
        lambda: input_data.read_data_sets(str(tmp_path), dtype=dtype),
        lambda: input_data.read_data_sets(str(tmp_path), fake_data=True, dtype=dtype),
        lambda: input_data.DataSet(np.zeros((1, 2, 2, 1)), np.zeros(1), dtype=dtype),
    ):
        with pytest.raises(TypeError, match=f'^{message}$'):
            read()
    assert os.listdir(tmp_path) == []


def test_data_set_of_ones_own():
    images = np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1)
    data = input_data.DataSet(images, np.array([1, 0]), seed=0)
    images[:] = 0
    expected = np.arange(24, dtype=np.float32).reshape(2, 12) * np.float32(1 / 255)
    assert_same([data.images], [expected])
    with pytest.raises(ValueError, match=r'^2 images have 1 labels$'):
        input_data.DataSet(images, np.array([1]))
    with pytest.raises(ValueError, match=r'columns, 1\] to flatten, found \[2, 3, 2, 2\]$'):
        input_data.DataSet(images.reshape(2, 3, 2, 2), np.array([1, 0]))


@pytest.mark.parametrize('one_hot', [False, True])
def test_fake_batches_of_real_data_sets(small_dir, one_hot):
    images, labels = read_small(small_dir, one_hot=one_hot).train.next_batch(2, fake_data=True)
    assert images == [[1] * 784] * 2
    assert labels == [[1] + [0] * 9 if one_hot else 0] * 2


def test_dense_to_one_hot():
    expected = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]], float)
    for dense in (np.array([1, 2, 0], np.uint8), [1, 2, 0], np.array([[1], [2], [0]])):
        assert_same([input_data.dense_to_one_hot(dense, 3)], [expected])
    for wrong in (3, -1):
        with pytest.raises(ValueError, match=f'^labels: expected 0 to 2, found {wrong}$'):
            input_data.dense_to_one_hot(np.array([0, wrong]), 3)


@pytest.mark.parametrize('source', ['file', 'bytes'])
def test_extract(small_dir, source):
    def opened(name):
        if source == 'bytes':
            return io.BytesIO(content(small_dir, name))
        return open(os.path.join(small_dir, name), 'rb')

    images, labels = digits(100, seed=2)
    with opened(TEST_IMAGES) as f:
        assert_same([input_data.extract_images(f)], [images[..., np.newaxis]])
    with opened(TEST_LABELS) as f:
        assert_same([input_data.extract_labels(f)], [labels])
    with opened(TEST_LABELS) as f:
        assert_same([input_data.extract_labels(f, one_hot=True)], [np.eye(10)[labels]])
    with opened(TEST_LABELS) as f:
        assert input_data.extract_labels(f, True, num_classes=12).shape == (100, 12)
    message = 'expected labels from 0 to 4, found 9'
    with opened(TEST_LABELS) as f, pytest.raises(ValueError, match=message):
        input_data.extract_labels(f, num_classes=5)


def test_importing_needs_no_tensorflow():
    code = (
        'import sys, input_data; print([m for m in sys.modules if m in ("tensorflow", "requests")])'
    )
    assert subprocess.check_output([sys.executable, '-c', code], cwd=ROOT) == b'[]\n'


def wrong_crc(data):
    return data[:-8] + bytes([data[-8] ^ 1]) + data[-7:]


NOT_GZIP = 'a whole gzip file, found Not a gzipped file'
CUT = 'a whole gzip file, found Compressed file ended before the end-of-stream marker'
MANY = bytes(600 * 784)
# Of the file: its name, what happens to its bytes, what was expected and found.
FAULTS = {
    'empty images': (TRAIN_IMAGES, lambda b: b'', 'a header of 16 bytes, found 0'),
    'empty labels': (TEST_LABELS, lambda b: b'', 'a header of 8 bytes, found 0'),
    'header only': (TEST_LABELS, lambda b: packed(2049), 'a header of 8 bytes, found 4'),
    'labels': (TRAIN_IMAGES, lambda b: packed(2049, 9, 28, 28), 'magic number 2051, found 2049'),
    'no magic': (TEST_LABELS, lambda b: packed(0, 100), 'magic number 2049, found 0'),
    'no images': (TEST_IMAGES, lambda b: packed(2051, 0, 28, 28), 'at least 1 in each dimension, '),
    'no rows': (TEST_IMAGES, lambda b: packed(2051, 9, 0, 28), 'at least 1 in .*found [9, 0, 28]'),
    'no labels': (
        TEST_LABELS,
        lambda b: packed(2049, 0),
        'at least 1 in each dimension, found [0]',
    ),
    'too narrow': (
        TRAIN_IMAGES,
        lambda b: packed(2051, 784, 24, 25, data=MANY),
        'images of 28 x 28, found [24, 25]',
    ),
    'other number': (
        TRAIN_LABELS,
        lambda b: packed(2049, 599, data=bytes(599)),
        f'600 labels, one for each image of {TRAIN_IMAGES}, found 599',
    ),
    'header lies': (
        TRAIN_IMAGES,
        lambda b: packed(2051, 601, 28, 28, data=MANY),
        '471184 bytes after the header, found 470400',
    ),
    'one less': (TEST_LABELS, lambda b: packed(2049, 100, data=bytes(99)), '100 bytes .*found 99'),
    'one more': (TEST_LABELS, lambda b: packed(2049, 100, data=bytes(101)), '100 .*found more'),
    'twice': (TEST_IMAGES, lambda b: b + b, '78400 bytes after the header, found more'),
    'tail': (TEST_LABELS, lambda b: b + b'!', NOT_GZIP),
    'web page': (TEST_LABELS, lambda b: b'<html>403</html>', NOT_GZIP),
    'unpacked': (TEST_LABELS, gzip.decompress, NOT_GZIP),
    'half': (TRAIN_IMAGES, lambda b: b[: len(b) // 2], CUT),
    'no end': (TRAIN_LABELS, lambda b: b[:-4], CUT),
    'wrong CRC': (TRAIN_LABELS, wrong_crc, 'a whole gzip file, found CRC check failed'),
    'class 10': (TRAIN_LABELS, lambda b: packed(2049, 600, data=b'\n' * 600), 'labels .*found 10'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_broken_file(own_dir, fault):
    name, change, message = FAULTS[fault]
    path = os.path.join(own_dir, name)
    broken = change(content(own_dir, name))
    with open(path, 'wb') as f:
        f.write(broken)
    message = re.escape(f'{path}: expected {message}').replace(r'\.\*', '.*')
    with pytest.raises(ValueError, match=f'^{message}.*Remove the file and start again'):
        read_small(own_dir)
    if fault not in ('too narrow', 'other number'):  # which one file alone cannot tell
        with open(path, 'rb') as f, pytest.raises(ValueError, match=f'^{message}'):
            extract(name, f)
    assert content(own_dir, name) == broken


def test_a_disk_that_fails():
    """It is not the file that is to blame."""

    class Failing(io.BytesIO):
        def read(self, size=-1):
            raise OSError(errno.EIO, 'Input/output error')

    for name in NAMES:
        with pytest.raises(OSError, match='Input/output error'):
            extract(name, Failing())


def extract(name, f):
    return (input_data.extract_images if 'images' in name else input_data.extract_labels)(f)


def zeros(gigabytes, magic, *shape):
    """A header with gigabytes behind it, soon made and small."""
    return packed(magic, *shape) + gzip.compress(bytes(1 << 24)) * (gigabytes * 64)


@pytest.mark.parametrize(
    ('name', 'broken', 'message'),
    [
        (TRAIN_IMAGES, lambda: zeros(10, 0), 'magic number 2051, found 0'),
        (TRAIN_IMAGES, lambda: zeros(10, 2051, 600, 28, 28), '470400 bytes .*found more'),
        (TRAIN_LABELS, lambda: zeros(10, 2049, 600), '600 bytes .*found more'),
        (TRAIN_IMAGES, lambda: zeros(10, 2051, 2**32 - 1, 28, 28), r'promises at most \d+ bytes'),
        (TRAIN_IMAGES, lambda: zeros(1, 2051, 500000, 28, 28), '392000000 bytes .* found more'),
        (TRAIN_LABELS, lambda: zeros(1, 2049, 400000000), '400000000 bytes .*found more'),
        (TRAIN_LABELS, lambda: packed(2049, 2**32 - 1, data=bytes(9)), 'promises at most'),
        (TRAIN_LABELS, lambda: packed(2049, 400000000, data=bytes(9)), '400000000 .*found 9'),
    ],
    ids=range(8),
)
def test_memory_is_not_wasted_on_broken_files(own_dir, name, broken, message):
    path = os.path.join(own_dir, name)
    with open(path, 'wb') as f:
        f.write(broken())
    code = """if True:
        import resource, sys, input_data, psutil
        folder, path, kind = sys.argv[1:]
        limit = psutil.Process().memory_info().vms + 100 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        with open(path, 'rb') as f:
            for read, source in (
                (input_data.read_data_sets, folder), (getattr(input_data, kind), f)
            ):
                try:
                    read(source)
                except ValueError as error:
                    print(error)
    """
    kind = 'extract_images' if 'images' in name else 'extract_labels'
    command = [sys.executable, '-c', code, own_dir, path, kind]
    said = subprocess.check_output(command, cwd=ROOT, timeout=30).decode().splitlines()
    assert len(said) == 2
    for line in said:
        assert re.match(f'{path}: expected .*{message}', line)


EDITS = st.lists(
    st.tuples(
        st.sampled_from(['cut', 'insert', 'delete', 'overwrite', 'flip']),
        st.one_of(st.integers(0, 20), st.integers(0, 2**16)),
        st.binary(min_size=1, max_size=8),
    ),
    max_size=3,
)


def edited(data, edits):
    data = bytearray(data)
    for kind, position, piece in edits:
        position %= len(data) + 1
        end = position + len(piece)
        if kind == 'flip':
            piece = bytes(byte ^ bits for byte, bits in zip(data[position:end], piece))
        data[position : {'cut': len(data), 'insert': position}.get(kind, end)] = (
            b'' if kind in ('cut', 'delete') else piece
        )
    return bytes(data)


def test_whatever_a_file_holds_one_kind_of_error_comes_out(tiny_files):
    @settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(NAMES), EDITS, EDITS)
    def check(name, inside, outside):
        content = edited(gzip.decompress(tiny_files[name]), inside)
        broken = edited(gzip.compress(content, 1), outside)
        said = None
        with tempfile.TemporaryDirectory() as folder:
            write_files(folder, {**tiny_files, name: broken})
            try:
                input_data.read_data_sets(folder, validation_size=0)
            except ValueError as error:
                said = str(error)
            assert sorted(os.listdir(folder)) == sorted(NAMES)
        try:
            array = extract(name, io.BytesIO(broken))
        except ValueError as error:
            message = str(error)
            assert message.startswith('IDX data: expected ')
            assert said is not None
            assert said.startswith(f'{os.path.join(folder, name)}: expected ')
        else:
            # What remains is what only both files together tell.
            assert said is None or 'one for each image' in said or 'images of 28 x 28' in said
            assert gzip.decompress(broken).endswith(array.tobytes())

    check()


# TensorFlow 1.15 itself uses what Python has deprecated since.
uses_tensorflow = pytest.mark.filterwarnings('ignore::DeprecationWarning')


# What follows is how public code written for the original uses it.


@pytest.mark.parametrize('name', ['{}', '{}/', '{}//'])
def test_arguments_by_position(small_dir, name):
    mnist = input_data.read_data_sets(name.format(small_dir), False, True, np.uint8, False, 100, 1)
    assert mnist.train.images.shape == (500, 28, 28, 1)
    assert mnist.train.labels.shape == (500, 10)
    assert mnist.validation.num_examples == 100
    assert mnist.train.next_batch(10, False, False)[0].shape == (10, 28, 28, 1)


def test_loops_over_epochs(mnist_dir):
    mnist = input_data.read_data_sets(mnist_dir, one_hot=True)
    seen = np.zeros(10)
    for epoch in range(3):
        assert mnist.train.epochs_completed == max(0, epoch - 1)
        for _ in range(int(mnist.train.num_examples / 100)):
            batch_xs, batch_ys = mnist.train.next_batch(batch_size=100)
            assert batch_xs.reshape((100, 28, 28)).max() <= 1
            seen += batch_ys.sum(axis=0)
    np.testing.assert_array_equal(seen, 3 * mnist.train.labels.sum(axis=0))


def test_nearest_neighbour(mnist_dir):
    mnist = input_data.read_data_sets(mnist_dir, one_hot=True, validation_size=0)
    known, classes = mnist.train.next_batch(5000)
    images, labels = mnist.test.next_batch(200)
    found = [classes[np.abs(known - image).sum(axis=1).argmin()].argmax() for image in images]
    assert (found == labels.argmax(axis=1)).all()


def test_k_means_over_all_images(mnist_dir):
    mnist = input_data.read_data_sets(mnist_dir)
    full_data_x = mnist.train.images
    centroids = np.array([full_data_x[mnist.train.labels == digit][0] for digit in range(10)])
    distances = ((mnist.test.images[:256, np.newaxis] - centroids) ** 2).sum(axis=2)
    assert (distances.argmin(axis=1) == mnist.test.labels[:256]).all()
    together = np.concatenate([mnist.train.images, mnist.validation.images])
    assert together.shape == (6000, 784)


@pytest.mark.parametrize('before', [0, 1])
def test_images_and_labels_changed_in_place(small_dir, before):
    mnist = read_small(small_dir, one_hot=True)
    for _ in range(before):
        mnist.train.next_batch(50)
    mnist.train.images[mnist.train.images > 0.5] = 7
    mnist.train.images[:] -= 1
    mnist.train.labels[:] *= 2
    for _ in range(20):
        images, labels = mnist.train.next_batch(50)
        assert (images[images > 0] == 6).all()
        assert (images == 6).any()
        assert (labels.sum(axis=1) == 2).all()
    assert 0.9 < mnist.validation.images.max() <= 1


def test_data_set_of_chosen_digits(small_dir):
    train = read_small(small_dir).train
    zeros_and_ones = train.labels < 2
    images = train.images[zeros_and_ones]
    data = input_data.DataSet(images, train.labels[zeros_and_ones], dtype=np.uint8, reshape=False)
    assert data.num_examples == zeros_and_ones.sum()
    assert set(data.next_batch(data.num_examples)[1]) == {0, 1}
    np.testing.assert_array_equal(data.images, images)


def classifier(tf, x, one_hot):
    """Softmax regression as public code has it; return label placeholder, loss and accuracy."""
    logits = tf.matmul(x, tf.Variable(tf.zeros([784, 10]))) + tf.Variable(tf.zeros([10]))
    if one_hot:
        y = tf.placeholder('float', [None, 10])
        cost = -tf.reduce_sum(y * tf.log(tf.nn.softmax(logits)), axis=1)
        digit = tf.argmax(y, 1)
    else:
        y = digit = tf.placeholder(tf.int64, [None])
        cost = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)
    correct = tf.equal(tf.argmax(logits, 1), digit)
    return y, tf.reduce_mean(cost), tf.reduce_mean(tf.cast(correct, tf.float32))


@uses_tensorflow
@pytest.mark.parametrize('one_hot', [False, True])
def test_classifiers_that_are_saved_and_restored(tf, mnist_dir, tmp_path, one_hot):
    mnist = input_data.read_data_sets(mnist_dir, one_hot=one_hot)
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder('float', [None, 784])
        y, cost, accuracy = classifier(tf, x, one_hot)
        optimizer = tf.train.GradientDescentOptimizer(0.1).minimize(cost)
        saver = tf.train.Saver()
        sess.run(tf.global_variables_initializer())
        for _ in range(mnist.train.num_examples // 100 * 5):
            batch_xs, batch_ys = mnist.train.next_batch(100)
            sess.run(optimizer, feed_dict={x: batch_xs, y: batch_ys})
        path = saver.save(sess, str(tmp_path / 'model.ckpt'))
        sess.run(tf.global_variables_initializer())
        test = {x: mnist.test.images, y: mnist.test.labels}
        assert accuracy.eval(test) < 0.5
        saver.restore(sess, path)
        assert accuracy.eval(test) > 0.95
        validation = {x: mnist.validation.images[:256], y: mnist.validation.labels[:256]}
        assert accuracy.eval(validation) > 0.95


@uses_tensorflow
def test_autoencoder(tf, mnist_dir):
    mnist = input_data.read_data_sets(mnist_dir, one_hot=True)
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder('float', [None, 784])
        encoder = tf.Variable(tf.random_normal([784, 32], stddev=0.05, seed=1))
        decoder = tf.Variable(tf.random_normal([32, 784], stddev=0.05, seed=2))
        decoded = tf.nn.sigmoid(tf.matmul(tf.nn.relu(tf.matmul(x, encoder)), decoder))
        cost = tf.reduce_mean(tf.pow(x - decoded, 2))
        optimizer = tf.train.AdamOptimizer(0.003).minimize(cost)
        sess.run(tf.global_variables_initializer())
        before = sess.run(cost, feed_dict={x: mnist.test.images[:10]})
        for _ in range(100):
            batch_xs, _ = mnist.train.next_batch(256)
            sess.run(optimizer, feed_dict={x: batch_xs})
        assert sess.run(cost, feed_dict={x: mnist.test.images[:10]}) < before / 2


@uses_tensorflow
def test_rows_for_a_recurrent_network(tf, mnist_dir):
    mnist = input_data.read_data_sets(mnist_dir, one_hot=True)
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder('float', [None, 28, 28])
        state = tf.zeros([tf.shape(x)[0], 8])
        weights = tf.Variable(tf.random_normal([36, 8], seed=1))
        for row in tf.unstack(x, 28, 1):
            state = tf.tanh(tf.matmul(tf.concat([row, state], 1), weights))
        sess.run(tf.global_variables_initializer())
        batch_x, _ = mnist.train.next_batch(128)
        assert sess.run(state, {x: batch_x.reshape((128, 28, 28))}).shape == (128, 8)
        test_data = mnist.test.images[:128].reshape((-1, 28, 28))
        assert sess.run(state, {x: test_data}).shape == (128, 8)


def test_noise_against_digits(mnist_dir):
    """What adversarial networks draw: images alone, from -1 to 1, to a placeholder's shape."""
    mnist = input_data.read_data_sets(mnist_dir, reshape=False, validation_size=0).train
    images = mnist.next_batch(64)[0] * 2 - 1
    assert (images.shape, images.dtype) == ((64, 28, 28, 1), 'float32')
    assert images.min() == -1
    assert 0.9 < images.max() <= 1
