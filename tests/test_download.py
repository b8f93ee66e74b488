import contextlib
import fcntl
import hashlib
import json
import os
import pty
import re
import shlex
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

import pytest
import requests  # here, lest importing it count against the patience of the first download
from conftest import content, packed, write_files, write_mnist

import input_data
from input_data import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS

NAMES = tuple(input_data.MNIST_FILES)
ROOT = os.path.dirname(input_data.__file__)


def read_small(folder):
    return input_data.read_data_sets(folder, validation_size=200)


class Host:
    """A host on this machine. For each request it calls the next of `answers`, or the last."""

    def __init__(self, *answers):
        self.answers = answers
        self.asked = []
        self.listener = socket.socket()
        self.listener.bind(('127.0.0.1', 0))
        self.listener.listen(20)
        self.url = 'http://127.0.0.1:%d/mnist/' % self.listener.getsockname()[1]
        self.closed = threading.Event()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.respond, args=(connection,), daemon=True).start()

    def respond(self, connection):
        with connection, contextlib.suppress(OSError):
            request = b''
            while not request.endswith(b'\r\n\r\n'):
                piece = connection.recv(1 << 16)
                if not piece:  # who asks was killed before saying what for
                    return
                request += piece
            target = request.split()[1].decode()
            answer = self.answers[min(len(self.asked), len(self.answers) - 1)]
            self.asked.append(target)
            answer(connection, target.rpartition('/')[2], self.closed)

    def close(self):
        self.closed.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def host():
    hosts = []

    def start(*answers):
        hosts.append(Host(*answers))
        return hosts[-1]

    yield start
    for each in hosts:
        each.close()


class Answers:
    """The ways in which a host answers a request for one of `files`."""

    def __init__(self, files):
        self.files = files

    def whole(self, connection, name, closed):
        self.send(connection, self.files[name])

    def send(self, connection, body, status='200 OK', headers='', length=None):
        if length is None:
            length = len(body)
        lines = f'HTTP/1.1 {status}\r\nConnection: close\r\n{headers}'
        if length >= 0:
            lines += f'Content-Length: {length}\r\n'
        connection.sendall(lines.encode() + b'\r\n' + body)

    def status(self, status, headers=''):
        return lambda connection, name, closed: self.send(connection, b'sorry', status, headers)

    def html(self, connection, name, closed):
        page = b'<html>Please log in</html>'
        self.send(connection, page, headers='Content-Type: text/html\r\n')

    def wrong(self, connection, name, closed):
        self.send(connection, self.files[name][:-1] + b'?')

    def half(self, connection, name, closed):
        body = self.files[name]
        self.send(connection, body[: len(body) // 2], length=len(body))

    def half_unannounced(self, connection, name, closed):
        body = self.files[name]
        self.send(connection, body[: len(body) // 2], length=-1)

    def encoded(self, connection, name, closed):
        self.send(connection, self.files[name], headers='Content-Encoding: gzip\r\n')

    def more(self, connection, name, closed):
        self.send(connection, self.files[name] + b'?')

    def endless(self, connection, name, closed):
        self.send(connection, b'', length=-1)
        while True:
            connection.sendall(bytes(1 << 16))

    def reset(self, connection, name, closed):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))

    def nothing(self, connection, name, closed):
        pass

    def silent(self, connection, name, closed):
        closed.wait(60)

    def stalled(self, connection, name, closed):
        self.half(connection, name, closed)
        closed.wait(60)

    def slow(self, connection, name, closed):
        """All of it, in about 0.4 s."""
        body = self.files[name]
        self.send(connection, b'', length=len(body))
        for start in range(0, len(body), len(body) // 20):
            connection.sendall(body[start : start + len(body) // 20])
            time.sleep(0.02)

    def dripping(self, connection, name, closed):
        self.send(connection, b'', length=len(self.files[name]))
        while not closed.wait(0.1):
            connection.sendall(b'.')

    def dripping_headers(self, connection, name, closed):
        connection.sendall(b'HTTP/1.1 200 ')
        while not closed.wait(0.1):
            connection.sendall(b'.')


@pytest.fixture(scope='session')
def answers(tiny_files):
    return Answers(tiny_files)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """Whatever proxy this machine uses, it is not asked for hosts on this machine."""
    for name in ('http_proxy', 'https_proxy', 'all_proxy'):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def mirrors(monkeypatch, tiny_files):
    """Return a function that replaces the mirrors, and expects `tiny_files` from them, soon."""
    known = {n: (len(d), hashlib.sha256(d).hexdigest()) for n, d in tiny_files.items()}
    monkeypatch.setattr(input_data, 'MNIST_FILES', known)
    monkeypatch.setattr(input_data, '_TIMEOUT', 0.7)  # thrice, where a mirror is asked again
    monkeypatch.setattr(input_data, '_PATIENCE', 5)
    monkeypatch.setattr(requests.adapters.Retry, 'get_backoff_time', lambda self: 0)

    def use(*urls):
        monkeypatch.setattr(input_data, 'MIRRORS', urls)
        return known

    return use


def read_tiny(folder, source_url=''):
    return input_data.read_data_sets(str(folder), validation_size=10, source_url=source_url)


def assert_whole(folder, files):
    assert sorted(os.listdir(folder)) == sorted(files)
    for name in files:
        assert content(folder, name) == files[name]


def refusing_url():
    with socket.socket() as unused:
        unused.bind(('127.0.0.1', 0))
        return 'http://127.0.0.1:%d/' % unused.getsockname()[1]


HOST_FAULTS = {
    'status 403 Forbidden': '403 Forbidden',
    'status 404 Not Found': '404 Not Found',
    'status 500 Oops': '500 Oops',
    'status 429 Slow Down': '429 Slow Down',
    'status 503 Busy': '503 Busy',
    'html': r'text/html: expected \d+ bytes, found 26',
    'wrong': r'unknown type: expected SHA-256 \w{64}, found \w{64}',
    'half': r'IncompleteRead\(\d+ bytes read, \d+ more expected\)',
    'half_unannounced': r'unknown type: expected \d+ bytes, found \d+',
    'more': r'unknown type: expected at most \d+ bytes, found more',
    'endless': r'unknown type: expected at most \d+ bytes, found more',
    'reset': 'Connection reset by peer',
    'nothing': 'Remote end closed connection without response',
    'silent': 'timed out',
    'stalled': 'timed out',
    'dripping': r'less than 1 kB/s for \d+ seconds',
    'dripping_headers': r'no answer for \d+ seconds',
}


def faulty(answers, fault):
    if fault.startswith('status '):
        return answers.status(fault[7:], 'Retry-After: 3600\r\n')
    return getattr(answers, fault)


@pytest.mark.parametrize('fault', HOST_FAULTS)
def test_the_next_mirror_is_asked(host, answers, mirrors, tiny_files, fault, tmp_path, capfd):
    first, second = host(faulty(answers, fault)), host(answers.whole)
    mirrors(first.url, second.url)
    began = time.monotonic()
    assert read_tiny(tmp_path).train.num_examples == 50
    assert time.monotonic() - began < 20
    assert_whole(tmp_path, tiny_files)
    assert second.asked == ['/mnist/' + name for name in NAMES]
    assert set(first.asked) == {'/mnist/' + NAMES[0]}
    assert capfd.readouterr() == ('', '')


def test_no_mirror_works(host, answers, mirrors, tmp_path):
    hosts = [host(faulty(answers, fault)) for fault in HOST_FAULTS]
    unknown = 'http://no-such-host.invalid/'
    refusing = refusing_url()
    known = mirrors(*[each.url for each in hosts], refusing, unknown)
    with pytest.raises(input_data.DownloadError) as caught:
        read_tiny(tmp_path)
    lines = str(caught.value).splitlines()
    assert lines.pop(0) == f'MNIST is not in {tmp_path} and cannot be downloaded:'
    for each, reason in zip(hosts, HOST_FAULTS.values()):
        assert re.match(f'^  {each.url} {NAMES[0]}: {reason}$', lines.pop(0))
    assert lines.pop(0) == f'  {refusing} {NAMES[0]}: Connection refused'
    assert re.match(f'^  {unknown} {NAMES[0]}: .*(resolution|known|no answer)', lines.pop(0))
    assert lines.pop(0).startswith('Put these four files there by hand')
    bundled = shlex.quote(input_data.SAMPLE_DIR)
    assert lines.pop() == f'Or train on the bundled digits: --data_dir {bundled}'
    assert lines == [f'  {n}  {size:,} bytes, SHA-256 {sha}' for n, (size, sha) in known.items()]
    assert os.listdir(tmp_path) == []


def test_a_silent_name_server(mirrors, tmp_path, monkeypatch):
    silence = threading.Event()
    mirrors('http://nobody.invalid/')
    monkeypatch.setattr(socket, 'getaddrinfo', lambda *args, **options: silence.wait(60))
    with pytest.raises(input_data.DownloadError, match=r'nobody.invalid.*: no answer for \d s'):
        read_tiny(tmp_path)
    silence.set()


@pytest.mark.parametrize('fault', ['status 500 Oops', 'reset', 'nothing', 'silent'])
def test_a_mirror_is_asked_again(host, answers, mirrors, tiny_files, fault, tmp_path):
    only = host(faulty(answers, fault), answers.whole)
    mirrors(only.url)
    read_tiny(tmp_path)
    assert_whole(tmp_path, tiny_files)
    assert len(only.asked) == 5


def test_mirrors_that_have_a_part_each(host, answers, mirrors, tiny_files, tmp_path):
    def only(part):
        def answer(connection, name, closed):
            (answers.whole if part in name else answers.html)(connection, name, closed)

        return host(answer).url

    mirrors(only('images'), only('labels'))
    read_tiny(tmp_path)
    assert_whole(tmp_path, tiny_files)


def test_what_looks_encoded_is_stored_as_it_is(host, answers, mirrors, tiny_files, tmp_path):
    mirrors(host(answers.encoded).url)
    read_tiny(tmp_path)
    assert_whole(tmp_path, tiny_files)


def test_mnist_itself(host, real_mnist_dir, monkeypatch, tmp_path):
    files = {name: content(real_mnist_dir, name) for name in NAMES}
    monkeypatch.setattr(input_data, 'MIRRORS', (host(Answers(files).whole).url,))
    mnist = input_data.read_data_sets(str(tmp_path), source_url='')
    assert mnist.train.num_examples == 55000
    assert_whole(tmp_path, files)


@pytest.mark.parametrize('slash', ['', '/'])
def test_another_source(host, mirrors, tmp_path, slash):
    """Without checksums, and with other counts than MNIST's."""
    folder = write_mnist(tmp_path / 'source', 77, 33)
    files = {name: content(folder, name) for name in NAMES}
    other = host(Answers(files).whole)
    mirrors(refusing_url())
    mnist = read_tiny(tmp_path / 'new' / 'folder', other.url.rstrip('/') + slash)
    assert [data.num_examples for data in mnist] == [67, 10, 33]
    assert_whole(tmp_path / 'new' / 'folder', files)


@pytest.mark.parametrize('fault', ['half', 'half_unannounced', 'html', 'wrong', 'more', 'endless'])
def test_another_source_is_checked(host, answers, mirrors, tmp_path, fault, monkeypatch):
    monkeypatch.setattr(input_data, '_LARGEST', 1 << 20)
    mirrors(host(answers.whole).url)
    other = host(faulty(answers, fault))
    with pytest.raises(input_data.DownloadError) as caught:
        read_tiny(tmp_path, other.url)
    expected = 'IncompleteRead' if fault == 'half' else '(unknown type|text/html): expected '
    assert re.search(f'  {other.url} {NAMES[0]}: {expected}', str(caught.value))
    assert str(caught.value).splitlines()[-5:-1] == [f'  {name}' for name in NAMES]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ('name', 'broken', 'reason'),
    [
        (
            TRAIN_IMAGES,
            packed(2051, 1, 32, 32, data=bytes(1024)),
            r'images of 28 x 28, found \[32, ',
        ),
        (TRAIN_LABELS, packed(2049, 1, data=b'\x0b'), 'labels from 0 to 9, found 11'),
    ],
)
def test_another_source_of_other_things(host, tiny_files, tmp_path, name, broken, reason):
    other = host(Answers({**tiny_files, name: broken}).whole)
    with pytest.raises(input_data.DownloadError, match=f'{name}: unknown type: expected {reason}'):
        read_tiny(tmp_path, other.url)
    assert name not in os.listdir(tmp_path)


def test_no_url(tmp_path):
    with pytest.raises(input_data.DownloadError, match=r'  mnist/ .*No scheme supplied'):
        read_tiny(tmp_path, 'mnist')


def test_proxy_of_the_environment(host, answers, mirrors, tiny_files, tmp_path, monkeypatch):
    proxy = host(answers.whole)
    monkeypatch.setenv('http_proxy', proxy.url)
    mirrors('http://mirror.invalid/mnist/')
    read_tiny(tmp_path / 'proxied')
    assert proxy.asked == ['http://mirror.invalid/mnist/' + name for name in NAMES]
    assert_whole(tmp_path / 'proxied', tiny_files)
    monkeypatch.setenv('http_proxy', refusing_url())
    with pytest.raises(input_data.DownloadError, match='proxy: Connection refused'):
        read_tiny(tmp_path / 'refused')


def test_only_missing_files_are_downloaded(host, answers, mirrors, tiny_files, tmp_path):
    mirror = host(answers.whole)
    known = mirrors(mirror.url)
    folder = write_mnist(tmp_path, 60, 30)  # the test set is not the mirror's, except in size
    for name in (TEST_IMAGES, TEST_LABELS):
        known[name] = os.path.getsize(tmp_path / name), 'of other content'
    os.remove(tmp_path / TRAIN_LABELS)
    before = {name: os.stat(tmp_path / name) for name in os.listdir(folder)}
    assert read_tiny(folder).test.num_examples == 30
    assert mirror.asked == ['/mnist/' + TRAIN_LABELS]
    assert len(before) == 3
    for name, old in before.items():
        new = os.stat(tmp_path / name)
        assert (new.st_ino, new.st_mtime_ns) == (old.st_ino, old.st_mtime_ns)


@pytest.mark.parametrize('there', ['another data set', 'half a file', 'a dangling link'])
def test_mnist_is_not_mixed_into_what_is_there(host, answers, mirrors, tiny_files, tmp_path, there):
    mirror = host(answers.whole)
    known = mirrors(mirror.url)
    folder = write_mnist(tmp_path, 77, 33)
    for name in (TRAIN_LABELS, TEST_IMAGES):
        os.remove(tmp_path / name)
    path = tmp_path / TRAIN_IMAGES
    found = f'{path.stat().st_size} bytes'
    if there == 'half a file':
        write_files(folder, {TEST_LABELS: tiny_files[TEST_LABELS], path.name: bytes(9)})
        found = '9 bytes'
    elif there == 'a dangling link':
        path.unlink()
        path.symlink_to('nowhere')
        found = 'no file'
    before = sorted(os.listdir(folder))
    message = (
        f"{path}: expected MNIST's {known[path.name][0]} bytes, as {TRAIN_LABELS} is missing and "
        f"would be downloaded as MNIST's, found {found}. Remove it to download it as well, or put "
        'all four files of its data set there (in Python, source_url downloads them).'
    )
    with pytest.raises(ValueError, match=f'^{re.escape(message)}$'):
        read_tiny(folder)
    assert sorted(os.listdir(folder)) == before
    assert mirror.asked == []


def test_a_part_of_another_data_set_is_completed_from_its_source(host, mirrors, tmp_path):
    mirrors(refusing_url())
    source = write_mnist(tmp_path / 'source', 77, 33)
    files = {name: content(source, name) for name in NAMES}
    other = host(Answers(files).whole)
    os.remove(os.path.join(source, TEST_IMAGES))
    assert read_tiny(source, other.url).test.num_examples == 33
    assert other.asked == ['/mnist/' + TEST_IMAGES]
    assert_whole(source, files)


def test_a_file_that_appears_meanwhile(host, answers, mirrors, tmp_path):
    mine = write_mnist(tmp_path / 'mine', 60, 30)
    files = {name: content(mine, name) for name in NAMES}
    folder = tmp_path / 'folder'

    def answer(connection, name, closed):
        write_files(folder, {name: files[name]})
        answers.whole(connection, name, closed)

    mirrors(host(answer).url)
    assert read_tiny(folder).test.num_examples == 30
    assert_whole(folder, files)


def test_dangling_link(host, answers, mirrors, own_dir):
    mirror = host(answers.whole)
    mirrors(mirror.url)
    path = os.path.join(own_dir, TRAIN_LABELS)
    os.remove(path)
    os.symlink('nowhere', path)
    with pytest.raises(OSError, match=f'^{path}: expected a file .*: No such file') as caught:
        read_small(own_dir)
    assert not isinstance(caught.value, input_data.DownloadError)
    assert os.readlink(path) == 'nowhere'
    assert mirror.asked == []


def test_a_folder_in_the_place_of_a_file(own_dir):
    path = os.path.join(own_dir, TEST_IMAGES)
    os.remove(path)
    os.mkdir(path)
    with pytest.raises(OSError, match=f'^{path}: expected a file .*: Is a directory. Make it one'):
        read_small(own_dir)


def test_a_file_in_the_place_of_the_folder(tmp_path):
    path = tmp_path / 'file'
    path.write_text('mine')
    with pytest.raises(input_data.DownloadError, match=f'^{path}: expected a folder to store'):
        read_tiny(path)
    assert path.read_text() == 'mine'


def test_what_killed_downloads_left(host, answers, mirrors, tiny_files, tmp_path):
    mirrors(host(answers.whole).url)
    for name in ('.mnist-download-old', '.mnist-download-new', '.download-mine'):
        (tmp_path / name).mkdir()
        (tmp_path / name / TRAIN_IMAGES).write_text('half')
        if name != '.mnist-download-new':
            os.utime(tmp_path / name, (0, 0))
    read_tiny(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([*NAMES, '.mnist-download-new', '.download-mine'])


CHILD = """if True:
    import json, os, resource, sys
    import input_data, requests, tqdm
    folder, url, known, setup = sys.argv[1:]
    input_data.MIRRORS, input_data.MNIST_FILES = (url,), json.loads(known)
    exec(setup)
    try:
        mnist = input_data.read_data_sets(folder, validation_size=10, source_url=url)
    except (OSError, ValueError) as error:
        sys.exit(f'{type(error).__name__}: {error}')
    print(mnist.train.num_examples)
"""


@pytest.fixture
def start(mirrors):
    """Return a function that starts a process which reads from a folder, perhaps with a mirror."""
    known = json.dumps(mirrors())

    def popen(folder, url='', setup='', env=(), stderr=subprocess.PIPE, prefix=()):
        command = [*prefix, sys.executable, '-c', CHILD, folder, url, known, setup]
        environment = {**os.environ, **dict(env)}
        return subprocess.Popen(
            [os.fspath(each) for each in command],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )

    return popen


def finished(process):
    """Return status, stdout and stderr of a process."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out.decode(), (err or b'').decode()


GOOD = (0, '50\n', '')
# The administrator may do everything; nobody may not, and not even import what NumPy does late.
AS_NOBODY = 'import numpy.random; os.getuid() or os.setuid(65534)'


@pytest.fixture
def public_dir(tiny_files):
    """A folder that another user reaches, and its files."""
    with tempfile.TemporaryDirectory() as folder:
        write_files(folder, tiny_files)
        os.chmod(folder, 0o555)
        yield folder
        os.chmod(folder, 0o755)


def test_read_only_folder_with_the_files(start, public_dir):
    assert finished(start(public_dir, refusing_url(), AS_NOBODY)) == GOOD


def test_read_only_folder_without_a_file(start, public_dir, host, answers):
    os.chmod(public_dir, 0o755)
    os.remove(os.path.join(public_dir, TEST_LABELS))
    os.chmod(public_dir, 0o555)
    assert finished(start(public_dir, host(answers.whole).url, AS_NOBODY)) == (
        1,
        '',
        f'DownloadError: {public_dir}: expected a folder to store MNIST in, found: Permission '
        f'denied. Name one that can be written, or that has {TEST_LABELS}.\n',
    )


def test_unreadable_file(start, public_dir):
    path = os.path.join(public_dir, TEST_LABELS)
    os.chmod(path, 0)
    status, out, err = finished(start(public_dir, '', AS_NOBODY))
    assert (status, out) == (1, '')
    assert err.startswith(f'OSError: {path}: expected a file that can be read, found: Permission')


@pytest.mark.parametrize('umask', [0o022, 0o077, 0o002])
def test_permissions_are_the_umasks(start, host, answers, tmp_path, umask):
    folder = tmp_path / 'new'
    assert finished(start(folder, host(answers.whole).url, f'os.umask({umask})')) == GOOD
    for path in (folder / name for name in NAMES):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777 & ~umask


@pytest.mark.parametrize('env', [{}, {'LC_ALL': 'C'}], ids=str)
def test_name_of_the_folder(start, host, answers, tiny_files, tmp_path, env):
    folder = tmp_path / 'Bärbels Ziffern 数字'
    url = host(answers.whole).url
    assert finished(start(folder, url, env=env)) == GOOD
    assert_whole(folder, tiny_files)
    for name in NAMES:
        os.remove(folder / name)
    status, _, err = finished(start(folder, refusing_url(), env=env))
    assert (status, err.count('\n')) == (1, 8)


def test_two_processes_in_one_folder(start, host, answers, tiny_files, tmp_path):
    url = host(answers.slow).url
    for attempt in range(2):
        folder = tmp_path / str(attempt)
        processes = [start(folder, url) for _ in range(2)]
        assert [finished(process) for process in processes] == [GOOD, GOOD]
        assert_whole(folder, tiny_files)


def assert_whole_or_absent(folder, files):
    for name in set(os.listdir(folder)) & set(files):
        assert content(folder, name) == files[name]


def interrupted(start, mirror, folder, sent, delay):
    """Start a download, send a signal `delay` after its first request, and return what came."""
    asked = len(mirror.asked)
    process = start(folder, mirror.url)
    deadline = time.monotonic() + 30
    while len(mirror.asked) == asked and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(delay)
    process.send_signal(sent)
    return finished(process)


def test_killed_at_any_moment(start, host, answers, tiny_files, tmp_path):
    mirror = host(answers.slow)
    killed = 0
    for moment in range(8):
        folder = tmp_path / str(moment)
        status, _, _ = interrupted(start, mirror, folder, signal.SIGKILL, moment / 10)
        killed += status == -signal.SIGKILL
        assert_whole_or_absent(folder, tiny_files)
        if moment % 4 == 0:
            assert finished(start(folder, mirror.url)) == GOOD
            assert set(NAMES) <= set(os.listdir(folder))
            assert_whole_or_absent(folder, tiny_files)
    assert killed > 4


@pytest.mark.parametrize('delay', [0, 0.3])
def test_interrupted_by_the_keyboard(start, host, answers, tiny_files, tmp_path, delay):
    mirror = host(answers.slow)
    status, out, err = interrupted(start, mirror, tmp_path, signal.SIGINT, delay)
    assert status in (1, -signal.SIGINT)
    assert out == ''
    assert 'KeyboardInterrupt' in err
    assert set(os.listdir(tmp_path)) < set(NAMES)
    assert_whole_or_absent(tmp_path, tiny_files)


def test_full_disk(start, host, answers, tmp_path):
    mount = 'mount -t tmpfs -o size=8k none "$0" && exec "$@"'
    prefix = ['unshare', '--map-root-user', '--mount', 'sh', '-c', mount, tmp_path]
    try:
        subprocess.run([*map(str, prefix), 'true'], check=True, stderr=subprocess.PIPE)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f'a small disk cannot be mounted here: {error}')
    status, out, err = finished(start(tmp_path, host(answers.whole).url, prefix=prefix))
    assert (status, out) == (1, '')
    assert err.startswith(f'DownloadError: {tmp_path}: expected a folder to store MNIST in, found:')
    assert ': No space left on device. Name one that can be written, or that has ' in err


def test_files_must_not_grow(start, host, answers, tmp_path):
    setup = 'resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))'
    status, out, err = finished(start(tmp_path, host(answers.whole).url, setup))
    assert (status, out) == (1, '')
    assert err.startswith(f'DownloadError: {tmp_path}: expected a folder to store MNIST in, found:')
    assert os.listdir(tmp_path) == []


def test_progress_bar_on_a_terminal(start, host, answers, tmp_path):
    terminal, child_end = pty.openpty()
    fcntl.ioctl(child_end, termios.TIOCSWINSZ, struct.pack('4H', 24, 80, 0, 0))
    process = start(tmp_path, host(answers.slow).url, stderr=child_end)
    os.close(child_end)
    shown = b''
    with contextlib.suppress(OSError):  # how a terminal says that the other end is closed
        while True:
            shown += os.read(terminal, 1 << 16)
    os.close(terminal)
    assert finished(process) == GOOD
    for name in NAMES:
        assert f'{name}: 100%'.encode() in shown


def test_not_a_word_when_nothing_is_downloaded(small_dir, capfd):
    input_data.read_data_sets(small_dir, validation_size=0)
    assert capfd.readouterr() == ('', '')
