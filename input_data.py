"""MNIST as NumPy arrays: four IDX files, downloaded if missing, handed out in mini-batches.

A drop-in for `tensorflow.examples.tutorials.mnist.input_data` of TensorFlow 1.x: `read_data_sets`
has the same arguments, splits and values, and for the same `seed` the same batches. The other
functions and `DataSet` were in the module behind it. MNIST_data/README.md describes the files.
"""

import collections
import gzip
import hashlib
import io
import os
import sys
import zlib

import numpy as np

MIRRORS = (
    'https://storage.googleapis.com/cvdf-datasets/mnist/',
    'https://ossci-datasets.s3.amazonaws.com/mnist/',
    'https://raw.githubusercontent.com/fgnt/mnist/master/',
)
DEFAULT_SOURCE_URL = MIRRORS[0]

TRAIN_IMAGES = 'train-images-idx3-ubyte.gz'
TRAIN_LABELS = 'train-labels-idx1-ubyte.gz'
TEST_IMAGES = 't10k-images-idx3-ubyte.gz'
TEST_LABELS = 't10k-labels-idx1-ubyte.gz'

# MNIST itself: bytes and SHA-256 of each file.
MNIST_FILES = {
    TRAIN_IMAGES: (9912422, '440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609'),
    TRAIN_LABELS: (28881, '3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c'),
    TEST_IMAGES: (1648877, '8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6'),
    TEST_LABELS: (4542, 'f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6'),
}

DATA_DIR = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'MNIST_data')
SAMPLE_DIR = os.path.join(DATA_DIR, 'sample')  # the bundled digits
SAMPLE_CHECKSUM = 0x23A39943

IMAGE_SIZE = 28  # pixels, both ways
NUM_CLASSES = 10
LARGEST_FILE = 1 << 30  # bytes, packed or not, that a file may have: twice EMNIST's largest
TIMEOUT = 5  # seconds to connect, and between one piece of a download and the next

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
    """Read MNIST from `train_dir`, downloading what is missing there.

    Args:
      train_dir: folder of the four `.gz` files. Those that are there are used as they are: all four
        of other data in the same format (Fashion-MNIST, KMNIST, EMNIST-digits) may be there.
      fake_data: if true, read nothing; see `DataSet`.
      one_hot: labels as float64 rows of 10 with a single 1, instead of uint8 digits.
      dtype: of the images, as NumPy's or TensorFlow's: float32 for pixels in [0, 1], uint8 for
        pixels in [0, 255].
      reshape: images as [n, 784] instead of [n, 28, 28, 1].
      validation_size: how many of the first training examples become the validation set.
      seed: of the random numbers that shuffle, one stream for the three sets; None for others each
        time. (In the original, `tf.set_random_seed` before and `np.random.seed` after it counted.)
      source_url: another folder on the web to download from, with no checksums known.

    Returns:
      `Datasets(train, validation, test)`: 55,000, 5,000 and 10,000 examples of MNIST.

    Raises:
      OSError: a file cannot be stored, read or (then it is a ConnectionError) downloaded.
      ValueError: a file or `validation_size` is not as it should be.
      TypeError: `dtype` is neither float32 nor uint8.
    """
    options = {'one_hot': one_hot, 'dtype': dtype, 'reshape': reshape, 'seed': seed}
    if fake_data:
        return Datasets(*(DataSet([], [], fake_data=True, **options) for _ in range(3)))
    _download_missing(train_dir, source_url)
    images, labels = _read_examples(train_dir, TRAIN_IMAGES, TRAIN_LABELS, one_hot)
    test_images, test_labels = _read_examples(train_dir, TEST_IMAGES, TEST_LABELS, one_hot)
    if not 0 <= validation_size <= len(images):
        expected = f'expected a validation set within its {len(images)} training images'
        raise ValueError(f'{train_dir}: {expected}, found validation_size {validation_size}')
    mnist = Datasets(
        train=DataSet(images[validation_size:], labels[validation_size:], **options),
        validation=DataSet(images[:validation_size], labels[:validation_size], **options),
        test=DataSet(test_images, test_labels, **options),
    )
    for data in mnist:
        data._random = mnist.test._random  # the original had one stream for all
    return mnist


def mnist_or_bundled_digits(data_dir=None):
    """Choose the folder that the scripts train on, and download what is missing there.

    It is `data_dir` or else `MNIST_data` beside this file or, where no mirror gives MNIST and none
    of it is there, that of the bundled digits, as a message on stderr says. Returns the folder and
    what to print behind a test accuracy that is not MNIST's. Raises as `read_data_sets` does.
    """
    folder = data_dir or DATA_DIR
    try:
        _download_missing(folder)
    except ConnectionError as error:
        # Files that are there, broken or not, are not to be passed over.
        if data_dir or any(os.path.lexists(os.path.join(folder, name)) for name in MNIST_FILES):
            raise
        print(f'{error}\nThe bundled digits stand in for it now.', file=sys.stderr)
        folder = SAMPLE_DIR
    return folder, ' (bundled digits, not MNIST)' if checksum(folder) == SAMPLE_CHECKSUM else ''


def checksum(folder):
    """Return a number, CRC-32, that tells the four files of a folder from others."""
    crc = 0
    for name in MNIST_FILES:
        with open(os.path.join(folder, name), 'rb') as f:
            crc = zlib.crc32(f.read(), crc)
    return crc


class DataSet:
    """Images with their labels, in mini-batches.

    Attributes, which are read-only:
      images: all images, [n, 784] or [n, 28, 28, 1], float32 in [0, 1] or uint8.
      labels: all labels, in the order of `images`: uint8 [n] or, one-hot, float64 [n, 10].
      num_examples: n.
      epochs_completed: how often a batch went beyond the last example, into the next epoch.

    `images` and `labels` are never reordered. (The original reordered both at each epoch.) Programs
    for the original set `_images`, `_labels`, `_num_examples`, `_epochs_completed` and the position
    `_index_in_epoch`. They may: the next batch goes by what was set.
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
          images: array [n, rows, columns, 1] of pixels from 0 to 255.
          labels: array [n] or, one-hot, [n, classes].
          fake_data: ignore both; every batch is all-white images of class 0, one-hot or not.
          dtype: float32 rescales the images, to float32 in [0, 1]; uint8 leaves them as they are.
          reshape, seed: as in `read_data_sets`.

        Raises ValueError if images and labels differ in number, TypeError for another `dtype`.
        """
        self.one_hot = one_hot
        self._fake_data = fake_data
        # The original reduced seeds in the same way.
        self._random = np.random.RandomState(None if seed is None else seed % (2**31 - 1))
        image_dtype = np.dtype(getattr(dtype, 'as_numpy_dtype', dtype))  # TensorFlow's, or NumPy's
        if image_dtype not in (np.uint8, np.float32):
            raise TypeError(f'Invalid image dtype {dtype!r}, expected uint8 or float32')
        self._ready = image_dtype == np.uint8 or fake_data
        if not fake_data:
            if len(images) != len(labels):
                raise ValueError(f'{len(images)} images have {len(labels)} labels')
            if reshape:
                images = images.reshape(len(images), images.shape[1] * images.shape[2])
            if not self._ready and images.flags.writeable:
                images = images.copy()  # the caller may change theirs
        # These are the images once they are ready: rescaling waits until somebody asks for them.
        self._pixels, self._labels = images, labels
        self._num_examples = 10000 if fake_data else len(images)
        self._order = np.arange(self._num_examples)
        self._index_in_epoch = self._epochs_completed = 0

    @property
    def _images(self):
        if not self._ready:
            self._images = _rescale(self._pixels)
        return self._pixels

    @_images.setter
    def _images(self, images):
        self._pixels, self._ready = images, True
        self._order = self._order[self._order < len(images)]  # there may be fewer now

    images = property(lambda self: self._images)
    labels = property(lambda self: self._labels)
    num_examples = property(lambda self: self._num_examples)
    epochs_completed = property(lambda self: self._epochs_completed)

    def next_batch(self, batch_size, fake_data=False, shuffle=True):
        """Hand out the next examples; a batch may straddle two epochs.

        Args:
          batch_size: how many, up to the rest of this epoch and all of the next one; ValueError
            beyond. A negative one, down to the start, hands out none and moves the position back.
          fake_data: hand out all-white images of class 0 instead, of 784 ones.
          shuffle: put the examples into a new order at the start of each epoch.

        Returns:
          (images, labels): `batch_size` rows of the attributes of these names, with their dtypes,
          as arrays of the caller's own, which may be changed; lists if `fake_data`.
        """
        if fake_data or self._fake_data:
            label = [1] + [0] * (NUM_CLASSES - 1) if self.one_hot else 0
            return [[1] * IMAGE_SIZE**2] * batch_size, [label] * batch_size

        n = self._num_examples
        start, end = self._index_in_epoch, self._index_in_epoch + batch_size
        if end > 2 * n and start <= n:
            raise ValueError(f'batch_size: expected {2 * n - start} at most, found {batch_size}')
        if n > len(self._order):  # somebody has added examples
            self._order = np.append(self._order, np.setdiff1d(np.arange(n), self._order))
        if start == 0 and self._epochs_completed == 0 and shuffle:
            self._order = self._random.permutation(self._order[:n])
        index = self._order[start : min(end, n)]
        if end > n:
            self._epochs_completed += 1
            if shuffle:
                self._order = self._random.permutation(self._order[:n])
            end -= n
            index = np.concatenate([index, self._order[:end]])
        self._index_in_epoch = end
        images = self._pixels[index]
        return images if self._ready else _rescale(images), self._labels[index]


def extract_images(f):
    """Read a gzip-compressed IDX file, open for reading bytes, of images.

    Returns a read-only uint8 array [n, rows, columns, 1], or raises ValueError if it is broken.
    """
    return _read_idx(f, magic=2051)[..., np.newaxis]


def extract_labels(f, one_hot=False, num_classes=NUM_CLASSES):
    """Read a gzip-compressed IDX file, open for reading bytes, of labels below `num_classes`.

    Returns a uint8 array [n] or, one-hot, a float64 array [n, num_classes], or raises
    ValueError if the file is not whole or not such labels.
    """
    labels = _read_idx(f, magic=2049)
    if (labels >= num_classes).any():
        raise _broken(f, f'labels from 0 to {num_classes - 1}', labels.max())
    return dense_to_one_hot(labels, num_classes) if one_hot else labels.copy()


def dense_to_one_hot(labels_dense, num_classes):
    """Turn integers below `num_classes` into float64 rows [n, num_classes] with a single 1."""
    return np.eye(num_classes)[np.ravel(labels_dense)]


def _rescale(pixels):
    """Turn 0 to 255 into float32 0.0 to 1.0, rounded as the original rounded."""
    return np.multiply(pixels, np.float32(1.0 / 255.0), dtype=np.float32)


def _broken(f, expected, found):
    """Make the error for a file that does not hold what it should."""
    message = f'expected {expected}, found {found}'
    if hasattr(f, 'name'):
        message = f'{f.name}: {message}. Remove it to download it anew, or mend it.'
    return ValueError(message)


def _read_idx(f, magic):
    """Read a gzip-compressed IDX file into a read-only uint8 array of the shape in its header."""
    try:
        with gzip.GzipFile(fileobj=f) as stream:
            header_size = 4 + 4 * (magic % 256)  # its last byte counts the dimensions
            header = stream.read(header_size)
            if len(header) < header_size:
                raise _broken(f, f'a header of {header_size} bytes', len(header))
            found_magic, *shape = np.frombuffer(header, '>u4').tolist()
            if found_magic != magic:
                raise _broken(f, f'magic number {magic}', found_magic)
            size = int(np.prod(shape, dtype=np.float64))  # which does not overflow
            if size > LARGEST_FILE:
                raise _broken(f, f'at most {LARGEST_FILE} bytes promised', size)
            # No more than promised, lest a small file fill the memory, and 1 to find the end.
            data = stream.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise _broken(f, 'a whole gzip file', error) from None
    if len(data) != size:
        raise _broken(f, f'{size} bytes after the header', 'more' if data[size:] else len(data))
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_examples(folder, images_file, labels_file, one_hot):
    with open(os.path.join(folder, images_file), 'rb') as f:
        images = extract_images(f)
        if images.shape[1:3] != (IMAGE_SIZE, IMAGE_SIZE):
            raise _broken(f, f'images of {IMAGE_SIZE} x {IMAGE_SIZE}', images.shape[1:3])
    with open(os.path.join(folder, labels_file), 'rb') as f:
        labels = extract_labels(f, one_hot)
        if len(labels) != len(images):
            raise _broken(f, f'{len(images)} labels, as many as {images_file} has', len(labels))
    return images, labels


def _download_missing(folder, source_url=None):
    """Download those of the four files that are not there, each from a mirror that has it."""
    missing = [name for name in MNIST_FILES if not os.path.lexists(os.path.join(folder, name))]
    if not missing:
        return
    mirrors, known = list(MIRRORS), MNIST_FILES
    if source_url and source_url.rstrip('/') + '/' not in MIRRORS:
        mirrors, known = [source_url.rstrip('/') + '/'], {}
    for name in sorted(known.keys() - missing):
        path, size = os.path.join(folder, name), known[name][0]
        found = os.path.getsize(path)
        if found != size:
            advice = (
                f'Remove it to get it with {missing[0]}, or put all four of its data set there.'
            )
            raise ValueError(f"{path}: expected MNIST's {size} bytes, found {found}. {advice}")
    failures = {}
    for name in missing:
        for mirror in list(mirrors):
            try:
                _download(mirror + name, os.path.join(folder, name), *known.get(name, (None, None)))
                break
            except ValueError as error:
                failures[mirror] = f'  {mirror}{name}: {error}\n'
                mirrors.remove(mirror)
                mirrors.append(mirror)  # which has it asked last from now on
        else:
            raise ConnectionError(
                f'MNIST is not in {folder} and cannot be downloaded:\n{"".join(failures.values())}'
                f'Put {", ".join(missing)} there by hand, as MNIST_data/README.md says. '
                f'Or name the folder of the bundled digits: {SAMPLE_DIR}'
            )


def _download(url, path, size, sha256):
    """Download a file, whole or not at all; ValueError if it does not come, or another one does."""
    import requests  # here: a run that has its data shall not wait for these imports
    import urllib3
    from tqdm import tqdm

    folder, name = os.path.dirname(path) or os.curdir, os.path.basename(path)
    digest, limit = hashlib.sha256(), size or LARGEST_FILE
    part = f'{path}.{os.getpid()}.part'  # beside the file: a rename is all or nothing
    try:
        headers = {'Accept-Encoding': 'identity'}
        with requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as response:
            response.raise_for_status()
            os.makedirs(folder, exist_ok=True)
            bar = tqdm(desc=name, total=size, unit='B', unit_scale=True, disable=None)
            with bar, open(part, 'wb') as f:
                # Not decoded: some servers take the .gz for an encoding of what is in it.
                for piece in response.raw.stream(1 << 16, decode_content=False):
                    f.write(piece)
                    digest.update(piece)
                    bar.update(len(piece))
                    if f.tell() > limit:
                        raise ValueError(f'expected at most {limit} bytes, found more')
                found = f.tell(), digest.hexdigest()
        if size and found != (size, sha256):
            raise ValueError('expected %d bytes, SHA-256 %s, found %d, %s' % (size, sha256, *found))
        if not size:
            with open(part, 'rb') as f:
                (extract_images if 'images' in name else extract_labels)(io.BytesIO(f.read()))
        if not os.path.lexists(path):  # whoever has put one there meanwhile keeps it
            os.replace(part, path)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        # After repeated attempts, the reason is an attribute of what `requests` wraps.
        raise ValueError(getattr(error.args[0], 'reason', error.args[0])) from None
    except OSError as error:
        if error.errno is None:  # of the settings of `requests`
            raise
        problem = f'expected a folder to store MNIST in, found: {error}. Name another one.'
        raise OSError(f'{folder}: {problem}') from None
    finally:
        if os.path.exists(part):
            os.remove(part)
