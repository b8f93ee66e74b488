"""MNIST as NumPy arrays, in mini-batches. Files that are missing are downloaded.

A drop-in for `tensorflow.examples.tutorials.mnist.input_data` of TensorFlow 1.x: the same functions
and arguments, the same splits and values, and for the same `seed` the same batches.
MNIST_data/README.md describes the four files.
"""

import collections
import gzip
import hashlib
import io
import os
import re
import sys
import uuid
import zlib

import numpy as np

MIRRORS = (
    'https://storage.googleapis.com/cvdf-datasets/mnist/',
    'https://dataset.bj.bcebos.com/mnist/',  # Baidu's, for mainland China
    'https://ossci-datasets.s3.amazonaws.com/mnist/',
    'https://raw.githubusercontent.com/fgnt/mnist/master/',
)
DEFAULT_SOURCE_URL = MIRRORS[0]
# Old programs name MNIST's first address, which answers 403 today. The mirrors have its files.
FIRST_ADDRESS = 'yann.lecun.com/exdb/mnist/'

TRAIN_IMAGES = 'train-images-idx3-ubyte.gz'
TRAIN_LABELS = 'train-labels-idx1-ubyte.gz'
TEST_IMAGES = 't10k-images-idx3-ubyte.gz'
TEST_LABELS = 't10k-labels-idx1-ubyte.gz'

# The size in bytes and the SHA-256 of MNIST's own files.
MNIST_FILES = {
    TRAIN_IMAGES: (9912422, '440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609'),
    TRAIN_LABELS: (28881, '3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c'),
    TEST_IMAGES: (1648877, '8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6'),
    TEST_LABELS: (4542, 'f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6'),
}

DATA_DIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'MNIST_data')
SAMPLE_DIR = os.path.join(DATA_DIR, 'sample')  # the bundled digits

IMAGE_SIZE = 28  # pixels, width and height
NUM_CLASSES = 10
LARGEST_FILE = 1 << 30  # bytes, compressed or not; EMNIST's largest file has half as many
TIMEOUT = 3, 5  # seconds to wait for a connection, and for a server's next bytes

Datasets = collections.namedtuple('Datasets', ['train', 'validation', 'test'])


def read_data_sets(
    train_dir,
    fake_data=False,
    one_hot=False,
    dtype=np.float32,
    reshape=True,
    validation_size=5000,
    seed=None,
    source_url=DEFAULT_SOURCE_URL,
):
    """Read MNIST from `train_dir`, and download the files that are missing there.

    Args:
      train_dir: folder of the four `.gz` files. Files that are there are used as they are, so it
        may also hold another data set in this format (Fashion-MNIST, KMNIST, EMNIST).
      fake_data: if true, read nothing; see `DataSet`.
      one_hot: labels as float64 rows of 10 with a single 1, instead of uint8 digits.
      dtype: of the images, NumPy's or TensorFlow's: float32 for pixels in [0, 1], uint8 for
        pixels in [0, 255].
      reshape: images as [n, 784] instead of [n, 28, 28, 1].
      validation_size: how many of the first training examples become the validation set.
      seed: of the random numbers that shuffle all three sets; None: different every time. (In the
        original, `tf.set_random_seed` and `np.random.seed` change the batches, too.)
      source_url: another address to download from; there only the format of the files is checked.

    Returns:
      `Datasets(train, validation, test)`: 55,000, 5,000 and 10,000 examples of MNIST.

    Raises:
      OSError: a file cannot be read or stored.
      ConnectionError, which is also an OSError: a file cannot be downloaded.
      ValueError: a file or `validation_size` is wrong.
      TypeError: `dtype` is neither float32 nor uint8.
    """
    options = {'one_hot': one_hot, 'dtype': dtype, 'reshape': reshape, 'seed': seed}
    if fake_data:
        return Datasets(*(DataSet([], [], fake_data=True, **options) for _ in range(3)))
    folder = os.path.expanduser(train_dir)
    _download_missing(folder, source_url)
    images, labels = _read_examples(folder, TRAIN_IMAGES, TRAIN_LABELS, one_hot)
    test_images, test_labels = _read_examples(folder, TEST_IMAGES, TEST_LABELS, one_hot)
    if not 0 <= validation_size <= len(images):
        problem = f'must be between 0 and {len(images)}, the number of training images'
        raise ValueError(f'{folder}: validation_size is {validation_size}, but {problem}')
    mnist = Datasets(
        train=DataSet(images[validation_size:], labels[validation_size:], **options),
        validation=DataSet(images[:validation_size], labels[:validation_size], **options),
        test=DataSet(test_images, test_labels, **options),
    )
    for data in mnist:
        data._random = mnist.train._random  # one stream for all three, as in the original
    return mnist


def mnist_or_bundled_digits(data_dir=None):
    """Return the folder that the scripts train on, and download the files that are missing there.

    The folder is `data_dir`, else `MNIST_data`. If MNIST cannot be downloaded, and `MNIST_data` has
    none of its files, it is that of the bundled digits, and a message on stderr says so.

    Returns (folder, caveat). The caveat, for the line that reports the accuracy, is empty unless
    the folder is that of the bundled digits. Raises as `read_data_sets` does.
    """
    folder = os.path.expanduser(data_dir or DATA_DIR)
    try:
        _download_missing(folder)
    except ConnectionError as error:
        # A partly filled folder is the user's: report it, do not ignore it.
        if data_dir or _sizes(folder) or not os.path.isdir(SAMPLE_DIR):
            raise
        print(f'{error}\nThis run trains on the bundled digits.', file=sys.stderr)
        folder = SAMPLE_DIR
    are_bundled_digits = os.path.realpath(folder) == os.path.realpath(SAMPLE_DIR)
    return folder, ' (bundled digits, not MNIST)' if are_bundled_digits else ''


class DataSet:
    """Images with their labels, in mini-batches.

    Attributes, which are read-only:
      images: all images, [n, 784] or [n, 28, 28, 1], float32 in [0, 1] or uint8.
      labels: their labels: uint8 [n] or, one-hot, float64 [n, 10].
      num_examples: n.
      epochs_completed: how often batches have gone past the last example.

    `images` and `labels` are never reordered. (The original reorders both at each epoch.)
    Old programs assign to `_images`, `_labels`, `_num_examples`, `_epochs_completed` and
    `_index_in_epoch`, the position of the next batch; this still works, from the next batch on.
    """

    def __init__(
        self,
        images,
        labels,
        fake_data=False,
        one_hot=False,
        dtype=np.float32,
        reshape=True,
        seed=None,
    ):
        """Make a data set.

        Args:
          images: array [n, rows, columns, 1], pixels from 0 to 255.
          labels: array [n] or, one-hot, [n, classes].
          fake_data: ignore both; every batch then holds all-white images of class 0.
          one_hot: make the labels of `fake_data` rows of 10 with a single 1.
          dtype: float32 rescales the images to [0, 1]; uint8 leaves them as they are.
          reshape, seed: as in `read_data_sets`.

        Raises:
          ValueError: images and labels differ in number.
          TypeError: `dtype` is neither float32 nor uint8.
        """
        self.one_hot = one_hot
        self._fake_data = fake_data
        # The original reduces its seed in this way.
        self._random = np.random.RandomState(None if seed is None else seed % (2**31 - 1))
        image_dtype = np.dtype(getattr(dtype, 'as_numpy_dtype', dtype))  # TensorFlow's, or NumPy's
        if image_dtype not in (np.uint8, np.float32):
            raise TypeError(f'dtype must be uint8 or float32, not {dtype!r}')
        rescale = image_dtype == np.float32 and not fake_data
        if not fake_data:
            if len(images) != len(labels):
                raise ValueError(f'{len(images)} images but {len(labels)} labels')
            if reshape:
                images = images.reshape(len(images), images.shape[1] * images.shape[2])
            if rescale and images.flags.writeable:
                images = images.copy()  # the caller may change theirs before they are rescaled
        # Rescaling takes time and four times the memory, so it waits until somebody reads `images`.
        # The images, and whether they still have to be rescaled, are one attribute, which is read
        # once: another thread may rescale them while this one draws a batch.
        self._images_and_rescale = images, rescale
        self._labels = labels
        self._num_examples = 10000 if fake_data else len(images)
        self._order = np.arange(self._num_examples)  # in which batches go through the images
        self._index_in_epoch = self._epochs_completed = 0

    @property
    def _images(self):
        images, rescale = self._images_and_rescale
        if rescale:
            images = _rescale(images)
            self._images_and_rescale = images, False
        return images

    @_images.setter
    def _images(self, images):
        self._images_and_rescale = images, False

    images = property(lambda self: self._images)
    labels = property(lambda self: self._labels)
    num_examples = property(lambda self: self._num_examples)
    epochs_completed = property(lambda self: self._epochs_completed)

    def next_batch(self, batch_size, fake_data=False, shuffle=True):
        """Return the next examples; a batch may reach into the next epoch.

        Args:
          batch_size: how many. A negative number, down to the start, returns none and moves back.
          fake_data: return all-white images of class 0 instead.
          shuffle: shuffle the examples at the start of each epoch.

        Returns:
          (images, labels): `batch_size` rows, in the form of the attributes `images` and `labels`.
          They are copies, which may be changed; with `fake_data`, lists.

        Raises:
          ValueError: the batch would reach into a third epoch.
        """
        if fake_data or self._fake_data:
            label = [1] + [0] * (NUM_CLASSES - 1) if self.one_hot else 0
            return [[1] * IMAGE_SIZE**2] * batch_size, [label] * batch_size

        images, rescale = self._images_and_rescale
        n, start = self._num_examples, self._index_in_epoch
        end = start + batch_size
        # Old programs may have moved the position beyond n: no error then, as in the original.
        if end > 2 * n and start <= n:
            limit = f'at most {2 * n - start} now'
            raise ValueError(f'batch_size {batch_size} would reach into a third epoch ({limit})')
        self._fit_order(max(n, len(images)))
        if start == 0 and self._epochs_completed == 0 and shuffle:
            self._shuffle()
        rows = self._order[start : min(end, n)]
        if end > n:
            self._epochs_completed += 1
            if shuffle:
                self._shuffle()
            end -= n
            rows = np.concatenate([rows, self._order[: min(end, n)]])
        self._index_in_epoch = end
        images = _rescale(images[rows]) if rescale else images[rows]
        return images, self._labels[rows]

    def _fit_order(self, count):
        """Let `_order` have as many rows as there are, since old programs assign other images."""
        if len(self._order) != count:
            added = np.arange(len(self._order), count)
            self._order = np.append(self._order[self._order < count], added)

    def _shuffle(self):
        n = self._num_examples  # there may be more images
        self._order = np.append(self._random.permutation(self._order[:n]), self._order[n:])


def extract_images(f):
    """Read a gzip-compressed IDX file of images, open for reading bytes.

    Returns a read-only uint8 array [n, rows, columns, 1]. Raises ValueError if the file is broken
    or holds something else.
    """
    return _read_idx(f, dimensions=3)[..., np.newaxis]


def extract_labels(f, one_hot=False, num_classes=NUM_CLASSES):
    """Read a gzip-compressed IDX file of labels, open for reading bytes.

    Returns a uint8 array [n] or, one-hot, a float64 array [n, num_classes]. Raises ValueError if
    the file is broken or holds something else or, one-hot, a label of `num_classes` or more.
    """
    labels = _read_idx(f, dimensions=1)
    if not one_hot:
        return labels.copy()  # np.frombuffer's array is read-only
    largest = int(labels.max())
    if largest >= num_classes:
        problem = f'its labels go up to {largest}, too many for {num_classes} classes'
        in_python = f'leave one_hot out or call extract_labels with num_classes={largest + 1}'
        raise _wrong(f, problem, f'The scripts cannot use them; in Python, {in_python}.')
    return dense_to_one_hot(labels, num_classes)


def dense_to_one_hot(labels_dense, num_classes):
    """Turn integers below `num_classes` into float64 rows [n, num_classes] with a single 1."""
    return np.eye(num_classes)[np.ravel(labels_dense)]


def _rescale(pixels):
    """Turn 0 to 255 into float32 0.0 to 1.0, rounded as in the original."""
    return np.multiply(pixels, np.float32(1.0 / 255.0), dtype=np.float32)


def _wrong(f, problem, advice):
    """Return an error about an open file. One in memory has no name, and needs no advice."""
    return ValueError(f'{f.name}: {problem}. {advice}' if hasattr(f, 'name') else problem)


def _read_idx(f, dimensions):
    """Read a gzip-compressed IDX file of bytes into a read-only uint8 array."""
    kind = 'images' if dimensions == 3 else 'labels'
    another_file = f'Put a file of {kind} under this name.'
    advice = "If it is MNIST's, delete it and run again to download it."
    expected_magic, header_size = 2048 + dimensions, 4 + 4 * dimensions
    try:
        with gzip.GzipFile(fileobj=f) as stream:
            header = stream.read(header_size)
            if len(header) < header_size:
                raise _wrong(f, 'it ends within its header', advice)
            magic, *shape = np.frombuffer(header, '>u4').tolist()
            if magic != expected_magic:
                problem = f'its magic number is {magic}, but that of {kind} is {expected_magic}'
                raise _wrong(f, problem, another_file)
            size = int(np.prod(shape, dtype=np.float64))  # which does not overflow
            if size == 0:
                raise _wrong(f, f'it holds no {kind}', another_file)
            if size > LARGEST_FILE:
                problem = f'its header promises {size:,} bytes, more than {LARGEST_FILE:,}'
                raise _wrong(f, problem, another_file)
            # No more than promised, since a small file can fill the memory. One byte more than
            # promised shows a file that is too long without unpacking all of it.
            data = stream.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        # An error of the system, as of a failing disk, says nothing against the file.
        if getattr(error, 'errno', None):
            if hasattr(f, 'name'):
                error.filename = f.name
            raise
        if f.seekable():
            f.seek(0)
            if f.read(4) == expected_magic.to_bytes(4, 'big'):
                remedy = 'Remove .gz from its name and run gzip on it.'
                raise _wrong(f, 'not compressed', remedy) from None
        raise _wrong(f, f'not an intact gzip file ({error})', advice) from None
    if len(data) != size:
        held = 'more' if len(data) > size else f'{len(data):,}'
        raise _wrong(f, f'its header promises {size:,} bytes, but it holds {held}', advice)
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_examples(folder, images_file, labels_file, one_hot):
    images_path, labels_path = (os.path.join(folder, name) for name in (images_file, labels_file))
    try:
        with open(images_path, 'rb') as f:
            images = extract_images(f)
        with open(labels_path, 'rb') as f:
            labels = extract_labels(f, one_hot)
    except OSError as error:
        raise _in_words(error, f'cannot read {error.filename}') from None
    _, height, width, _ = images.shape
    if (height, width) != (IMAGE_SIZE, IMAGE_SIZE):
        problem = f'images of {height} x {width} pixels, not {IMAGE_SIZE} x {IMAGE_SIZE}'
        raise ValueError(f'{images_path}: {problem}. Choose another data set.')
    if len(labels) != len(images):
        problem = f'{len(labels)} labels for {len(images)} images in {images_file}'
        raise ValueError(f'{labels_path}: {problem}. Put both files of one data set there.')
    return images, labels


def _in_words(error, problem):
    """Return an error of the system as a sentence; its class and errno stay."""
    worded = type(error)(f'{problem}: {error.strerror}. Correct that, or choose another folder.')
    worded.errno = error.errno
    return worded


def _sizes(folder):
    """Return {name: size in bytes} for those of the four files that are there."""
    sizes = {}
    for name in MNIST_FILES:
        path = os.path.join(folder, name)
        try:
            sizes[name] = os.stat(path).st_size
        except FileNotFoundError as error:
            for link in (folder, path):
                if os.path.islink(link) and not os.path.exists(link):
                    raise _in_words(error, f'cannot follow the link {link}') from None
        except OSError as error:  # such as a folder that may not be searched
            raise _in_words(error, f'cannot read {path}') from None
    return sizes


def _download_missing(folder, source_url=None):
    """Download those of the four files that are missing."""
    if '://' in folder:
        raise ValueError(f'{folder} is an address, not a folder; copy its four files into a folder')
    if os.path.isfile(folder):
        raise NotADirectoryError(f'{folder} is a file; choose the folder of the four MNIST files')
    sizes = _sizes(folder)
    missing = [name for name in MNIST_FILES if name not in sizes]
    if not missing:
        return
    address = (source_url or '').rstrip('/') + '/'
    if not source_url or address in MIRRORS or address.endswith('//' + FIRST_ADDRESS):
        mirrors, known, what, to_check = MIRRORS, MNIST_FILES, 'MNIST', 'the network'
    else:
        mirrors, known, what, to_check = (address,), {}, 'the data set', 'source_url'
    for name, (size, _) in known.items():
        if sizes.get(name, size) != size:
            raise ValueError(
                f"{os.path.join(folder, name)} is not MNIST's file ({sizes[name]:,} bytes, not "
                f'{size:,}), so the missing files were not downloaded: {", ".join(missing)}. '
                'Add those of the same data set, choose another folder or, if it is a broken '
                'download, delete it.'
            )
    failures = []
    for mirror in mirrors:
        # Nobody else may see a login, which an address may have: http://user:password@host/
        login, at, host = mirror.split('://', 1)[-1].split('/')[0].rpartition('@')
        print(f'Downloading {what} from {host} …', file=sys.stderr)
        try:
            while missing:
                name = missing[0]
                _download(mirror + name, os.path.join(folder, name), *known.get(name, ()))
                del missing[0]
            return
        except ConnectionError as error:
            reason = str(error).replace(login + at, '')
            failures.append(f'  {name} from {host}: {reason}')
            if mirror != mirrors[-1]:  # the last reason is in the error that follows
                print(f'  {reason}', file=sys.stderr)
        except OSError as error:
            if error.errno is None:  # a wrong setting, such as REQUESTS_CA_BUNDLE, has none
                raise
            raise _in_words(error, f'cannot store {what} in {folder}') from None
    advice = f'Check {to_check}, or put {", ".join(missing)} there by hand.'
    if known and os.path.isdir(SAMPLE_DIR):
        advice += f' Or use the bundled digits: {SAMPLE_DIR}'
    problem = f'{what} is not in {folder} and cannot be downloaded:'
    raise ConnectionError('\n'.join([problem, *failures, advice]))


def _download(url, path, size=None, sha256=None):
    """Download a file; ConnectionError, with the reason, if the server does not give it."""
    import requests  # imported here: most runs already have their data
    import urllib3
    from tqdm import tqdm

    folder, name = os.path.split(path)
    limit = size or LARGEST_FILE
    # It is renamed to path once it is checked. Its name is unique, since other processes may
    # download into the same folder.
    part = f'{path}.{uuid.uuid4()}.part'
    try:
        headers = {'Accept-Encoding': 'identity'}
        with requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as response:
            if not response.ok:
                raise ConnectionError(f'{response.status_code} {response.reason}')
            os.makedirs(folder or os.curdir, exist_ok=True)
            # disable=None: a bar only on a terminal.
            bar = tqdm(desc=name, total=size, unit='B', unit_scale=True, disable=None)
            with open(part, 'wb') as f, bar:
                # Not decoded: some servers declare the .gz to be an encoding of its content.
                for piece in response.raw.stream(1 << 16, decode_content=False):
                    bar.update(f.write(piece))
                    if f.tell() > limit:
                        raise ConnectionError(f'more than {limit:,} bytes')
        with open(part, 'rb') as f:  # what is checked is what was stored
            data = f.read()
        if not sha256:
            _read_idx(io.BytesIO(data), dimensions=3 if 'idx3' in name else 1)
        elif len(data) != size:
            raise ConnectionError(f'{len(data):,} bytes, not {size:,}')
        elif hashlib.sha256(data).hexdigest() != sha256:
            raise ConnectionError("MNIST's size, but not its SHA-256")
        if not os.path.lexists(path):  # somebody may have put one there meanwhile
            os.replace(part, path)
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        raise ConnectionError(_reason(error)) from None
    finally:
        if os.path.exists(part):
            os.remove(part)


def _reason(error):
    """Say in one line why a server gave nothing; `requests` wraps the errors that say it."""
    inner = getattr(error, 'reason', None)
    if isinstance(inner, Exception):
        return _reason(inner)
    parts = [_reason(each) if isinstance(each, Exception) else each for each in error.args]
    text = ': '.join(each for each in parts if each and isinstance(each, str))
    text = re.sub(r'^(<.*>|HTTP\w+\(.*?\)): ', '', text)  # the connection, as Python writes it
    return ' '.join(text.replace('.: ', ': ').split())
