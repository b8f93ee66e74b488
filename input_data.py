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
SAMPLE_TEST_LABELS_SHA256 = 'ed767f60eacdce72d1715729108ad152425f32ec9445803cd0661a3931ca08f3'

IMAGE_SIZE = 28  # pixels, both ways
NUM_CLASSES = 10
LARGEST_FILE = 1 << 29  # bytes, packed or not, that a file may have: ten times those of MNIST
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
      seed: of the shuffling; None for another order each time.
      source_url: another folder on the web to download from, with no checksums known.

    Returns:
      `Datasets(train, validation, test)`: 55,000, 5,000 and 10,000 examples of MNIST.

    Raises:
      OSError: a file cannot be downloaded, stored or read.
      ValueError: a file or `validation_size` is not as it should be.
      TypeError: `dtype` is neither float32 nor uint8.
    """
    options = {'one_hot': one_hot, 'dtype': dtype, 'reshape': reshape, 'seed': seed}
    _image_dtype(dtype)  # before anything is downloaded
    if fake_data:
        return Datasets(*(DataSet([], [], fake_data=True, **options) for _ in range(3)))

    _download_missing(train_dir, source_url)
    images, labels = _read_examples(train_dir, TRAIN_IMAGES, TRAIN_LABELS, one_hot)
    test_images, test_labels = _read_examples(train_dir, TEST_IMAGES, TEST_LABELS, one_hot)
    if not 0 <= validation_size <= len(images):
        expected = f'expected a validation set within its {len(images)} training images'
        raise ValueError(f'{train_dir}: {expected}, found validation_size {validation_size}')
    return Datasets(
        train=DataSet(images[validation_size:], labels[validation_size:], **options),
        validation=DataSet(images[:validation_size], labels[:validation_size], **options),
        test=DataSet(test_images, test_labels, **options),
    )


def read_mnist_or_bundled_digits(data_dir=None, seed=None):
    """Read what the scripts train on: MNIST, or else the bundled digits.

    Args:
      data_dir: folder to read; None for `MNIST_data` beside this file or, where MNIST cannot be
        had and nothing of it is there, the bundled digits, as a message on stderr then says.
      seed: as in `read_data_sets`, which says what errors are raised.

    Returns:
      (data sets with one-hot labels, what to print behind the test accuracy if it is not MNIST's)
    """
    try:
        mnist = read_data_sets(data_dir or DATA_DIR, one_hot=True, seed=seed)
    except OSError as error:
        # Files that are there, broken or not, are not to be passed over.
        if data_dir or MNIST_FILES.keys() & os.listdir(DATA_DIR):
            raise
        print(f'{error}\nThe bundled digits stand in for it now.', file=sys.stderr)
        mnist = read_data_sets(SAMPLE_DIR, one_hot=True, seed=seed)
    if mnist.train.num_examples < 100:  # as many as a batch
        raise ValueError(f'{data_dir or DATA_DIR}: expected 5100 training images or more')
    test_labels = mnist.test.labels.argmax(axis=1).astype(np.uint8)
    is_sample = hashlib.sha256(test_labels).hexdigest() == SAMPLE_TEST_LABELS_SHA256
    return mnist, ' (bundled digits, not MNIST)' if is_sample else ''


class DataSet:
    """Images with their labels, in mini-batches.

    Attributes:
      labels: all labels, in the order of `images`: uint8 [n] or, one-hot, float64 [n, 10].
      num_examples: n.
      epochs_completed: how often a batch went beyond the last example, into the next epoch.
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
        dtype = _image_dtype(dtype)
        # The original reduced seeds in the same way.
        self._random = np.random.RandomState(None if seed is None else seed % (2**31 - 1))
        self._fake_data = fake_data
        self.one_hot = one_hot
        if fake_data:
            images = labels = np.empty([10000, 0, 0, 1], np.uint8)
        if len(images) != len(labels):
            raise ValueError(f'{len(images)} images have {len(labels)} labels')
        if reshape:
            images = images.reshape(len(images), images.shape[1] * images.shape[2])
        # Four bytes a pixel take time and memory: pixels become images when somebody asks for them,
        # or now where the caller could change them in the meantime. The other one is None.
        self._images, self._pixels = images, None
        if dtype == np.float32 and images.flags.writeable:
            self._images = _rescale(images)
        elif dtype == np.float32:
            self._images, self._pixels = None, images
        self.labels = labels
        self.num_examples = len(labels)
        self.epochs_completed = 0
        self._order = np.arange(self.num_examples)
        self._index_in_epoch = 0

    @property
    def images(self):
        """All images, never shuffled: [n, 784] or [n, 28, 28, 1], float32 in [0, 1] or uint8."""
        if self._images is None:
            self._images, self._pixels = _rescale(self._pixels), None
        return self._images

    def next_batch(self, batch_size, fake_data=False, shuffle=True):
        """Hand out the next examples; a batch may straddle two epochs.

        Args:
          batch_size: how many, from 1 to `num_examples`; ValueError otherwise.
          fake_data: hand out all-white images of class 0 instead, of 784 ones.
          shuffle: put the examples into a new order at the start of each epoch.

        Returns:
          (images, labels): `batch_size` rows of the attributes of these names, with their dtypes,
          as arrays of the caller's own, which may be changed; lists if `fake_data`.
        """
        if not 1 <= batch_size <= self.num_examples:
            raise ValueError(f'batch_size: expected 1 to {self.num_examples}, found {batch_size}')
        if fake_data or self._fake_data:
            label = [1] + [0] * (NUM_CLASSES - 1) if self.one_hot else 0
            return [[1] * IMAGE_SIZE**2] * batch_size, [label] * batch_size

        start, end = self._index_in_epoch, self._index_in_epoch + batch_size
        if start == 0 and self.epochs_completed == 0 and shuffle:
            self._random.shuffle(self._order)
        index = self._order[start:end]
        if end > self.num_examples:
            rest = index.copy()  # since the order is shuffled in place
            self.epochs_completed += 1
            if shuffle:
                self._random.shuffle(self._order)
            end -= self.num_examples
            index = np.concatenate([rest, self._order[:end]])
        self._index_in_epoch = end
        if self._images is None:
            return _rescale(self._pixels[index]), self.labels[index]
        return self._images[index], self.labels[index]


def extract_images(f):
    """Read a gzip-compressed IDX file, open for reading bytes, of images.

    Returns a read-only uint8 array [n, rows, columns, 1], or raises ValueError if it is broken.
    """
    return _read_idx(f, magic=2051)[..., np.newaxis]


def extract_labels(f, one_hot=False, num_classes=NUM_CLASSES):
    """Read a gzip-compressed IDX file, open for reading bytes, of labels below `num_classes`.

    Returns a read-only uint8 array [n] or, one-hot, a float64 array [n, num_classes], or raises
    ValueError if the file is not whole or not such labels.
    """
    labels = _read_idx(f, magic=2049)
    _expect(f, labels.max() < num_classes, f'labels from 0 to {num_classes - 1}', labels.max())
    return dense_to_one_hot(labels, num_classes) if one_hot else labels


def dense_to_one_hot(labels_dense, num_classes):
    """Turn integers below `num_classes` into float64 rows [n, num_classes] with a single 1."""
    return np.eye(num_classes)[np.ravel(labels_dense)]


def _image_dtype(dtype):
    found = np.dtype(getattr(dtype, 'as_numpy_dtype', dtype))  # of TensorFlow's, or NumPy's own
    if found not in (np.uint8, np.float32):
        raise TypeError(f'Invalid image dtype {dtype!r}, expected uint8 or float32')
    return found


def _rescale(pixels):
    """Turn 0 to 255 into float32 0.0 to 1.0, rounded as the original rounded."""
    return np.multiply(pixels, np.float32(1.0 / 255.0), dtype=np.float32)


def _expect(f, right, expected, found):
    """Raise ValueError unless what a file holds is right."""
    if not right:
        message = f'expected {expected}, found {found}'
        if hasattr(f, 'name'):
            message = f'{f.name}: {message}. Remove it to download it anew, or mend it.'
        raise ValueError(message)


def _read_idx(f, magic):
    """Read a gzip-compressed IDX file into a read-only uint8 array of the shape in its header.

    It reads no further than the header promises, so that a file that lies costs little memory.
    """
    try:
        with gzip.GzipFile(fileobj=f) as stream:
            header_size = 4 + 4 * (magic % 256)  # the magic number ends in that of dimensions
            header = stream.read(header_size)
            _expect(f, len(header) == header_size, f'a header of {header_size} bytes', len(header))
            found, *shape = np.frombuffer(header, '>u4').tolist()
            _expect(f, found == magic, f'magic number {magic}', found)
            _expect(f, min(shape) > 0, 'at least 1 in each dimension', shape)
            size = int(np.prod(shape, dtype=np.float64))  # which does not overflow
            _expect(f, size <= LARGEST_FILE, f'at most {LARGEST_FILE} bytes promised', size)
            data = stream.read(size + 1)  # one more, to find the end, where gzip has its checksum
    except (OSError, EOFError, zlib.error) as error:
        if getattr(error, 'errno', None) is not None:  # the disk's fault, not the file's
            raise
        _expect(f, False, 'a whole gzip file', error)
    found = len(data) if len(data) <= size else 'more'
    _expect(f, found == size, f'{size} bytes after the header', found)
    return np.frombuffer(data, np.uint8).reshape(shape)


def _read_examples(folder, images_file, labels_file, one_hot):
    with open(os.path.join(folder, images_file), 'rb') as f:
        images = extract_images(f)
        size = list(images.shape[1:3])
        _expect(f, size == [IMAGE_SIZE] * 2, f'images of {IMAGE_SIZE} x {IMAGE_SIZE}', size)
    with open(os.path.join(folder, labels_file), 'rb') as f:
        labels = extract_labels(f, one_hot)
        expected = f'{len(images)} labels, one for each image of {images_file}'
        _expect(f, len(labels) == len(images), expected, len(labels))
    return images, labels


def _download_missing(folder, source_url):
    """Download those of the four files that are not there, each from a mirror that has it."""
    missing = [name for name in MNIST_FILES if not os.path.lexists(os.path.join(folder, name))]
    if not missing:
        return
    mirrors, known = MIRRORS, MNIST_FILES
    if source_url and source_url.rstrip('/') + '/' not in MIRRORS:
        mirrors, known = [source_url.rstrip('/') + '/'], {}
    for name in sorted(known.keys() - missing):
        path, size = os.path.join(folder, name), known[name][0]
        if os.path.getsize(path) != size:
            raise ValueError(
                f"{path}: expected MNIST's {size} bytes, found {os.path.getsize(path)}. Remove it "
                f'to download it with {missing[0]}, or put all four files of its data set there.'
            )
    os.makedirs(folder or os.curdir, exist_ok=True)
    failures = {}
    for name in missing:
        for mirror in sorted(mirrors, key=failures.__contains__):  # those that failed come last
            try:
                _download(mirror + name, os.path.join(folder, name), known.get(name))
                break
            except ValueError as error:
                failures[mirror] = f'  {mirror}{name}: {error}\n'
        else:
            raise OSError(
                f'MNIST is not in {folder} and cannot be downloaded:\n{"".join(failures.values())}'
                f'Put {", ".join(missing)} there by hand, as MNIST_data/README.md says. '
                f'Or train on the bundled digits: --data_dir {SAMPLE_DIR}'
            )


def _download(url, path, expected):
    """Download a file, whole or not at all; ValueError if it does not come, or another one does."""
    import requests  # here: a run that has its data shall not wait for these imports
    import urllib3
    from tqdm import tqdm

    name, size = os.path.basename(path), expected[0] if expected else None
    digest = hashlib.sha256()
    part = f'{path}.{os.getpid()}.part'  # beside the file: a rename is all or nothing
    try:
        headers = {'Accept-Encoding': 'identity'}
        with requests.get(url, stream=True, timeout=TIMEOUT, headers=headers) as response:
            response.raise_for_status()
            bar = tqdm(desc=name, total=size, unit='B', unit_scale=True, disable=None)
            with bar, open(part, 'wb') as f:
                # Not decoded: some servers take the .gz for an encoding of what is in it.
                for piece in response.raw.stream(1 << 16, decode_content=False):
                    f.write(piece)
                    digest.update(piece)
                    bar.update(len(piece))
                    if f.tell() > (size or LARGEST_FILE):
                        raise ValueError(f'expected {size or LARGEST_FILE} bytes, found more')
                found = f.tell(), digest.hexdigest()
        if expected and found != expected:
            raise ValueError('expected %d bytes, SHA-256 %s, found %d, %s' % (expected + found))
        if not expected:
            with open(part, 'rb') as f:
                (extract_images if 'images' in name else extract_labels)(io.BytesIO(f.read()))
        if not os.path.lexists(path):  # whoever has put one there meanwhile keeps it
            os.replace(part, path)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise ValueError(str(error).rpartition('Caused by ')[2]) from None  # not its wrappings
    finally:
        if os.path.exists(part):
            os.remove(part)
