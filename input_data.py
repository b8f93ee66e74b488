"""MNIST as NumPy arrays: four IDX files, downloaded if missing, handed out in mini-batches.

A drop-in for `tensorflow.examples.tutorials.mnist.input_data` of TensorFlow 1.x: same functions and
arguments, same splits and values, and for the same `seed` the same batches. It needs no TensorFlow.

MNIST_data/README.md describes the files and their format, IDX.
"""

import collections
import contextlib
import gzip
import hashlib
import os
import queue
import shlex
import shutil
import sys
import tempfile
import threading
import time
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

IMAGE_SIZE = 28  # pixels, both ways
NUM_CLASSES = 10
VALIDATION_SIZE = 5000
LARGEST_BATCH = 100  # that the scripts train on

_IMAGES_MAGIC = 2051
_LABELS_MAGIC = 2049
_CHUNK = 1 << 20
_PIECE = 1 << 12  # of a download: small, since a slow host is seen after each
_PLENTY = 1 << 26  # bytes; MNIST unpacks to less
_LARGEST = 1 << 29  # bytes; everything else in MNIST's format is smaller, unpacked too
_PRIVATE = '.mnist-download-'
_RESTORE = 'The clone is incomplete: run `git checkout MNIST_data/sample` in it.'
_TIMEOUT = 5  # seconds to connect, and between one piece of data and the next
_PATIENCE = 15  # seconds that a mirror may take on top of 1 kB/s

Datasets = collections.namedtuple('Datasets', ['train', 'validation', 'test'])


def read_data_sets(
    train_dir,
    fake_data=False,
    one_hot=False,
    dtype=np.float32,
    reshape=True,
    validation_size=VALIDATION_SIZE,
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
      source_url: folder on the web to download from, with no checksums known if it is not MNIST's.

    Returns:
      `Datasets(train, validation, test)`: 55,000, 5,000 and 10,000 examples of MNIST.

    Raises:
      OSError: a file cannot be downloaded, stored or read.
      ValueError: a file is not what it should be, or `validation_size` is out of range.
      TypeError: `dtype` is neither float32 nor uint8.
    """
    options = {'one_hot': one_hot, 'dtype': dtype, 'reshape': reshape, 'seed': seed}
    _image_dtype(dtype)  # before anything is downloaded
    if fake_data:
        return Datasets(*(DataSet([], [], fake_data=True, **options) for _ in range(3)))

    _download_missing(train_dir or os.curdir, source_url)
    images, labels = _read_examples(train_dir, TRAIN_IMAGES, TRAIN_LABELS, one_hot)
    test_images, test_labels = _read_examples(train_dir, TEST_IMAGES, TEST_LABELS, one_hot)
    if not 0 <= validation_size <= len(images):
        raise SplitError(validation_size, len(images))
    # A copy, so that no view keeps 47 MB of pixels alive once those for training are rescaled.
    validation_images = images[:validation_size].copy()
    validation_images.flags.writeable = False
    return Datasets(
        train=DataSet(images[validation_size:], labels[validation_size:], **options),
        validation=DataSet(validation_images, labels[:validation_size], **options),
        test=DataSet(test_images, test_labels, **options),
    )


def read_mnist_or_bundled_digits(data_dir=None, **options):
    """Read what the scripts train on, which is not MNIST where MNIST cannot be had.

    Args:
      data_dir: folder to read; None for `MNIST_data` beside this file or, where nothing of MNIST
        is there nor to be downloaded, the bundled digits, as a message on stderr then says.
      **options: for `read_data_sets`, except `validation_size`.

    Returns:
      (data sets, note): the note goes behind every accuracy: empty, or that it is not MNIST's.

    Raises:
      OSError, ValueError: as `read_data_sets`; ValueError also if there are too few examples.
    """
    folder = data_dir or DATA_DIR
    try:
        mnist = read_data_sets(folder, **options)
        if mnist.train.num_examples < LARGEST_BATCH:
            raise SplitError(VALIDATION_SIZE, VALIDATION_SIZE + mnist.train.num_examples)
    except SplitError as error:
        raise ValueError(
            f'{os.path.join(folder, TRAIN_IMAGES)}: expected at least '
            f'{VALIDATION_SIZE + LARGEST_BATCH} images, {VALIDATION_SIZE} of them for validation, '
            f'found {error.found}. Put a larger data set there, or name another folder.'
        ) from None
    except DownloadError as error:
        # Whoever has put a file there, broken or not, wants no others in its place.
        if data_dir or len(_missing(folder)) < len(MNIST_FILES):
            raise
        folder = SAMPLE_DIR
        mnist = read_data_sets(folder, **options)
        print(f'MNIST cannot be had: {error.reason}.', file=sys.stderr)
        print('Bundled digits stand in for it. MNIST_data/README.md says more.', file=sys.stderr)
    return mnist, ' (bundled digits, not MNIST)' if _is_bundled(folder) else ''


class DataSet:
    """Images with their labels, in mini-batches."""

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
          fake_data: ignore both; every batch is all-white images of class 0.
          one_hot: whether fake labels are one-hot.
          dtype: float32 rescales the images, to float32 in [0, 1]; uint8 leaves them as they are.
          reshape: flatten the images to [n, rows * columns].
          seed: of the shuffling; None for another order each time.

        Raises:
          ValueError: images and labels differ in number, or images to flatten have a depth.
          TypeError: `dtype` is neither float32 nor uint8.
        """
        dtype = _image_dtype(dtype)
        # The original reduced seeds in the same way.
        self._random = np.random.RandomState(None if seed is None else seed % (2**31 - 1))
        self._fake_data = fake_data
        self.one_hot = one_hot
        if fake_data:
            self._num_examples = 10000
        else:
            if len(images) != len(labels):
                raise ValueError(f'{len(images)} images have {len(labels)} labels')
            self._num_examples = len(images)
            if reshape:
                if images.ndim != 4 or images.shape[3] != 1:
                    raise ValueError(
                        'images: expected shape [n, rows, columns, 1] to flatten, '
                        f'found {list(images.shape)}'
                    )
                images = images.reshape(len(images), images.shape[1] * images.shape[2])
        # Four bytes a pixel take time and memory, so pixels are rescaled when somebody asks for
        # them, or now where the caller could change them in the meantime.
        self._images, self._pixels = images, None
        if not fake_data and dtype == np.float32:
            if images.flags.writeable:
                self._images = _rescale(images)
            else:
                self._images, self._pixels = None, images
        self._labels = labels
        self._order = np.arange(self._num_examples)
        self._epochs_completed = 0
        self._index_in_epoch = 0

    @property
    def images(self):
        """All images, never shuffled: [n, 784] or [n, 28, 28, 1], float32 in [0, 1] or uint8."""
        if self._images is None:
            self._images, self._pixels = _rescale(self._pixels), None
        return self._images

    @property
    def labels(self):
        """All labels, in the order of `images`: uint8 [n] or, one-hot, float64 [n, 10]."""
        return self._labels

    @property
    def num_examples(self):
        """The number of examples."""
        return self._num_examples

    @property
    def epochs_completed(self):
        """How often all examples have been handed out."""
        return self._epochs_completed

    def next_batch(self, batch_size, fake_data=False, shuffle=True):
        """Hand out the next examples; a batch may straddle two epochs.

        Args:
          batch_size: how many.
          fake_data: hand out all-white images of class 0 instead, of 784 ones.
          shuffle: put the examples into a new order at the start of each epoch.

        Returns:
          (images, labels): `batch_size` rows of the properties of these names, with their dtypes,
          as arrays of the caller's own, which may be changed; lists if `fake_data`.

        Raises:
          ValueError: `batch_size` is not between 1 and `num_examples`.
        """
        if not 1 <= batch_size <= self._num_examples:
            raise ValueError(
                f'batch_size: expected 1 to {self._num_examples}, the size of the data set, '
                f'found {batch_size}'
            )
        if fake_data or self._fake_data:
            images = [[1] * IMAGE_SIZE**2 for _ in range(batch_size)]
            label = [1] + [0] * (NUM_CLASSES - 1)
            return images, [label[:] if self.one_hot else 0 for _ in range(batch_size)]

        start = self._index_in_epoch
        if start == 0 and self._epochs_completed == 0 and shuffle:
            self._random.shuffle(self._order)
        end = start + batch_size
        index = self._order[start:end]
        if end > self._num_examples:
            # Kept apart from the order, which is shuffled in place.
            rest = index.copy()
            self._epochs_completed += 1
            if shuffle:
                self._random.shuffle(self._order)
            end -= self._num_examples
            index = np.concatenate([rest, self._order[:end]])
        self._index_in_epoch = end

        if self._images is None:
            return _rescale(self._pixels[index]), self._labels[index]
        return self._images[index], self._labels[index]


def extract_images(f):
    """Read a gzip-compressed IDX file of images.

    Args:
      f: file object, open for reading bytes.

    Returns:
      uint8 array [n, rows, columns, 1], read-only.

    Raises:
      ValueError: the file is not whole, or not images.
      OSError: the file cannot be read.
    """
    with _IDXReader(f, _IMAGES_MAGIC) as reader:
        return reader.read_images()


def extract_labels(f, one_hot=False, num_classes=NUM_CLASSES):
    """Read a gzip-compressed IDX file of labels.

    Args:
      f: file object, open for reading bytes.
      one_hot: return rows with a single 1.
      num_classes: every label must be below.

    Returns:
      uint8 array [n], read-only, or float64 array [n, num_classes].

    Raises:
      ValueError: the file is not whole, or not labels below `num_classes`.
      OSError: the file cannot be read.
    """
    with _IDXReader(f, _LABELS_MAGIC) as reader:
        labels = reader.read_labels(num_classes)
        return dense_to_one_hot(labels, num_classes) if one_hot else labels


def dense_to_one_hot(labels_dense, num_classes):
    """Turn integer labels into rows with a single 1.

    Args:
      labels_dense: integers from 0 to `num_classes` - 1.
      num_classes: the length of a row.

    Returns:
      float64 array [number of labels, num_classes].

    Raises:
      ValueError: a label is out of range.
    """
    labels = np.ravel(labels_dense)
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if len(outside):
        raise ValueError(f'labels: expected 0 to {num_classes - 1}, found {outside[0]}')
    return np.eye(num_classes)[labels]


class DownloadError(OSError):
    """MNIST is not there and cannot be downloaded or stored; `reason` says why in a line."""

    def __init__(self, message, reason):
        super().__init__(message)
        self.reason = reason


class SplitError(ValueError):
    """There are only `found` examples to take a validation set from."""

    def __init__(self, validation_size, found):
        super().__init__(f'validation_size: expected 0 to {found}, found {validation_size}')
        self.found = found


def _image_dtype(dtype):
    try:
        # TensorFlow's DType knows its NumPy twin.
        found = np.dtype(getattr(dtype, 'as_numpy_dtype', dtype))
    except TypeError:
        found = None
    if found not in (np.uint8, np.float32):
        raise TypeError(f'Invalid image dtype {dtype!r}, expected uint8 or float32')
    return found


def _rescale(pixels):
    """Turn 0 to 255 into float32 0.0 to 1.0, rounded as the original rounded."""
    return np.multiply(pixels, np.float32(1.0 / 255.0), dtype=np.float32)


class _IDXReader:
    """A gzip-compressed IDX file; whatever is wrong with it is a ValueError that says what.

    It reads no further than the header promises, and believes no header that promises much, so that
    neither a header that lies nor a small file that unpacks to gigabytes costs memory.
    """

    def __init__(self, f, magic, name=None):
        self._name = name or getattr(f, 'name', 'IDX data')
        self._stream = gzip.GzipFile(fileobj=f)
        dimensions = magic % 256  # that is what its last byte says
        self._start = 4 * (1 + dimensions)
        header = b''.join(self._chunks(self._start))
        self.expect(len(header) == self._start, f'a header of {self._start} bytes', len(header))
        found, *self.shape = np.frombuffer(header, '>u4').tolist()
        self.expect(found == magic, f'magic number {magic}', found)
        self.expect(min(self.shape) > 0, 'at least 1 in each dimension', self.shape)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._stream.close()

    def expect(self, right, expected, found):
        """Raise ValueError unless `right`."""
        if not right:
            raise ValueError(f'{self._name}: expected {expected}, found {found}')

    def expect_mnist_size(self):
        """Raise ValueError unless the images are as large as MNIST's."""
        size = self.shape[1:]
        self.expect(size == [IMAGE_SIZE] * 2, f'images of {IMAGE_SIZE} x {IMAGE_SIZE}', size)

    def read_images(self):
        """Return the images: uint8 [n, rows, columns, 1]."""
        return self._read_data().reshape((*self.shape, 1))

    def read_labels(self, num_classes=NUM_CLASSES):
        """Return the labels: uint8 [n]."""
        labels = self._read_data()
        last = labels.max()
        self.expect(last < num_classes, f'labels from 0 to {num_classes - 1}', last)
        return labels

    def expect_data(self):
        """Raise ValueError unless the data is as long as the header promises; keep none of it."""
        size = self._size()
        self._expect_data_of(size, sum(len(chunk) for chunk in self._chunks(size + 1)))
        self._stream.seek(self._start)

    def _read_data(self):
        size = self._size()
        if size > _PLENTY:
            self.expect_data()
        data = bytearray()
        for chunk in self._chunks(size + 1):
            data += chunk
        self._expect_data_of(size, len(data))
        array = np.frombuffer(data, np.uint8)
        array.flags.writeable = False
        return array

    def _size(self):
        size = 1
        for dimension in self.shape:
            size *= dimension
        self.expect(size <= _LARGEST, f'a header that promises at most {_LARGEST} bytes', size)
        return size

    def _expect_data_of(self, size, found):
        found = found if found <= size else 'more'
        self.expect(found == size, f'{size} bytes after the header', found)

    def _chunks(self, size):
        """Yield the next `size` bytes, or what there is of them."""
        try:
            while size:
                chunk = self._stream.read(min(_CHUNK, size))
                if not chunk:
                    break
                yield chunk
                size -= len(chunk)
        except (OSError, EOFError, zlib.error) as error:
            if getattr(error, 'errno', None) is not None:  # the disk's fault, not the file's
                raise
            self.expect(False, 'a whole gzip file', error)


def _read_examples(folder, images_file, labels_file, one_hot):
    """Return images and labels, of equal number."""
    images_path = os.path.join(folder, images_file)
    labels_path = os.path.join(folder, labels_file)
    try:
        with open(images_path, 'rb') as images_f, open(labels_path, 'rb') as labels_f:
            images = _IDXReader(images_f, _IMAGES_MAGIC)
            labels = _IDXReader(labels_f, _LABELS_MAGIC)
            images.expect_mnist_size()
            count, found = images.shape[0], labels.shape[0]
            if found != count:
                for reader in (images, labels):  # if one of them lies, that is what to say
                    reader.expect_data()
                labels.expect(False, f'{count} labels, one for each image of {images_file}', found)
            dense = labels.read_labels()
            return images.read_images(), dense_to_one_hot(dense, NUM_CLASSES) if one_hot else dense
    except ValueError as error:
        remedy = 'Remove the file and start again to download it anew, or put a whole one there.'
        raise ValueError(f'{error}. {_RESTORE if _is_bundled(folder) else remedy}') from None
    except OSError as error:
        raise OSError(
            f'{error.filename or folder}: expected a file that can be read, '
            f'found: {error.strerror or error}. Make it one, or remove it to download it anew.'
        ) from None


def _missing(folder):
    return [name for name in MNIST_FILES if not os.path.lexists(os.path.join(folder, name))]


def _is_bundled(folder):
    return os.path.realpath(folder) == os.path.realpath(SAMPLE_DIR)


def _download_missing(folder, source_url):
    missing = _missing(folder)
    if not missing:
        return
    if _is_bundled(folder):
        found = f'found no {", ".join(missing)}'
        raise OSError(f'{folder}: expected the bundled digits, {found}. {_RESTORE}')
    mirrors, known = MIRRORS, MNIST_FILES
    if source_url and source_url.rstrip('/') + '/' not in MIRRORS:
        mirrors, known = (source_url.rstrip('/') + '/',), {}
    for name, (size, _) in known.items():  # part of another data set is not to be filled up
        path = os.path.join(folder, name)
        found = f'{os.path.getsize(path)} bytes' if os.path.isfile(path) else 'no file'
        if name not in missing and found != f'{size} bytes':
            raise ValueError(
                f"{path}: expected MNIST's {size} bytes, as {missing[0]} is missing and would be "
                f"downloaded as MNIST's, found {found}. Remove it to download it as well, or put "
                'all four files of its data set there (in Python, source_url downloads them).'
            )
    try:
        os.makedirs(folder, exist_ok=True)
        _remove_stale_downloads(folder)
        # Beside the target, since only a move within one file system is all or nothing.
        with tempfile.TemporaryDirectory(prefix=_PRIVATE, dir=folder) as private:
            # All before the first is moved: part of MNIST would keep the bundled digits away.
            for name, path in list(_download_files(missing, mirrors, known, private)):
                target = os.path.join(folder, name)
                if not os.path.lexists(target):
                    os.replace(path, target)
    except _NoMirror as error:
        (failures,) = error.args
        raise DownloadError(
            _how_to_get_mnist(folder, known, failures),
            f'no mirror gave it ({"; ".join(dict.fromkeys(failures.values()))})',
        ) from None
    except OSError as error:
        reason = f'{folder}: expected a folder to store MNIST in, found: {error.strerror or error}'
        remedy = f'Name one that can be written, or that has {", ".join(missing)}.'
        raise DownloadError(f'{reason}. {remedy}', reason) from None


class _NoMirror(Exception):
    """Every mirror failed; the argument says why each did."""


def _download_files(names, mirrors, known, folder):
    """Download each file from the first mirror that has it; yield its name and checked path."""
    failures = {}
    for name in names:
        path = os.path.join(folder, name)
        # Those that failed before come last: one that hangs costs its seconds once.
        for mirror in sorted(mirrors, key=failures.__contains__):
            try:
                _download(mirror + name, path, known.get(name))
                break
            except ValueError as error:
                failures[mirror] = f'{name}: {error}'
        else:
            raise _NoMirror(failures)
        yield name, path


def _download(url, path, known):
    """Download `url` to `path`; ValueError if it does not come, or is not what it should be."""
    from tqdm import tqdm  # here: a run that has its data shall not wait for this import

    name = os.path.basename(path)
    size, sha256 = known or (None, None)
    limit = size or _LARGEST
    digest = hashlib.sha256()
    with contextlib.closing(_fetch(url)) as pieces, open(path, 'wb') as f:
        headers = next(pieces)
        kind = headers.get('Content-Type', 'unknown type')
        total = size or int(headers.get('Content-Length', 0)) or None
        with tqdm(desc=name, total=total, unit='B', unit_scale=True, disable=None) as bar:
            for piece in pieces:
                f.write(piece)
                digest.update(piece)
                bar.update(len(piece))
                if f.tell() > limit:
                    raise ValueError(f'{kind}: expected at most {limit} bytes, found more')
        received = f.tell()
    if known:
        if received < size:
            raise ValueError(f'{kind}: expected {size} bytes, found {received}')
        if digest.hexdigest() != sha256:
            raise ValueError(f'{kind}: expected SHA-256 {sha256}, found {digest.hexdigest()}')
        return
    with open(path, 'rb') as f:
        if name in (TRAIN_IMAGES, TEST_IMAGES):
            images = _IDXReader(f, _IMAGES_MAGIC, kind)
            images.expect_mnist_size()
            images.read_images()
        else:
            _IDXReader(f, _LABELS_MAGIC, kind).read_labels()


def _fetch(url):
    """Yield the headers of an answer, then its bytes, piece by piece; ValueError if none come.

    This is requests, since pooch (1.8.2) limits neither the time nor the size of a download, and
    leaves files that their owner alone can read. A thread waits for it, because time limits bind
    neither a silent name server nor a host that sends a byte now and then. It is left to itself
    when it has had its time.
    """
    pieces = queue.Queue()
    left = threading.Event()
    threading.Thread(target=_fetch_into, args=(pieces, url, left), daemon=True).start()
    received = 0
    began = time.monotonic()
    try:
        while True:
            allowed = began + _PATIENCE + received / 1000 - time.monotonic()
            piece = pieces.get(timeout=max(0, allowed))
            if piece is None:
                return
            if isinstance(piece, Exception):
                raise piece
            yield piece
            received += len(piece)  # for headers their number: hardly a byte, but an answer
    except queue.Empty:
        found = 'less than 1 kB/s' if received else 'no answer'
        raise ValueError(f'{found} for {time.monotonic() - began:.0f} seconds') from None
    finally:
        left.set()


def _fetch_into(pieces, url, left):
    """Put the headers, then the bytes, then None or what went wrong into the queue `pieces`."""
    try:
        import requests

        retries = requests.adapters.Retry(
            total=2,
            connect=1,  # at once: who has no network shall not wait
            backoff_factor=0.5,
            status_forcelist=(429, 500, 502, 503, 504),
            raise_on_status=False,
            respect_retry_after_header=False,  # it may ask for an hour
        )
        headers = {'Accept-Encoding': 'identity'}
        with requests.Session() as session:
            for scheme in ('http://', 'https://'):
                session.mount(scheme, requests.adapters.HTTPAdapter(max_retries=retries))
            with session.get(url, stream=True, timeout=_TIMEOUT, headers=headers) as response:
                if not response.ok:
                    raise ValueError(f'{response.status_code} {response.reason}')
                pieces.put(response.headers)
                # Not decoded: some servers take the .gz for an encoding of what is in it.
                for piece in response.raw.stream(_PIECE, decode_content=False):
                    if left.is_set():
                        return
                    pieces.put(piece)
        pieces.put(None)
    except Exception as error:  # whatever it is, the next mirror may do better
        pieces.put(ValueError(_innermost(error)))


def _innermost(error):
    """The first cause in a few words, where requests tells the whole chain."""
    proxy = 'proxy: ' if type(error).__name__ == 'ProxyError' else ''
    while True:
        causes = (error.__cause__, error.__context__, *error.args)
        cause = next((each for each in causes if isinstance(each, Exception)), None)
        if cause is None:
            break
        error = cause
    return proxy + (getattr(error, 'strerror', None) or str(error) or type(error).__name__)


def _how_to_get_mnist(folder, known, failures):
    lines = [f'MNIST is not in {folder} and cannot be downloaded:']
    lines += [f'  {mirror} {reason}' for mirror, reason in failures.items()]
    lines += ['Put these four files there by hand, from a mirror or from another machine:']
    for name in MNIST_FILES:
        lines.append(f'  {name}')
        if name in known:
            size, sha256 = known[name]
            lines[-1] += f'  {size:,} bytes, SHA-256 {sha256}'
    lines += [f'Or train on the bundled digits: --data_dir {shlex.quote(SAMPLE_DIR)}']
    return '\n'.join(lines)


def _remove_stale_downloads(folder):
    """Remove what killed downloads left; none takes a day."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):  # another process may do the same
            if name.startswith(_PRIVATE) and time.time() - os.path.getmtime(path) > 86400:
                shutil.rmtree(path)
