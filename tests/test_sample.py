"""The bundled digits, and when the scripts train on them."""

import os
import re
import runpy
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import content, write_mnist

import input_data

ROOT = os.path.dirname(input_data.__file__)
FILES = [os.path.join(input_data.SAMPLE_DIR, name) for name in input_data.MNIST_FILES]


@pytest.fixture(scope='module')
def digits():
    return input_data.read_data_sets(input_data.SAMPLE_DIR, dtype=np.uint8, reshape=False)


def test_enough_of_each_class_in_few_bytes(digits):
    assert digits.train.num_examples + digits.validation.num_examples >= 14000
    assert digits.train.num_examples >= 9000
    assert digits.test.num_examples >= 2000
    assert np.bincount(digits.test.labels).tolist() == [200] * 10
    assert np.bincount(digits.train.labels).min() >= 900
    assert sum(os.path.getsize(path) for path in FILES) <= 3.5e6


def test_no_image_twice(digits):
    images = np.concatenate([split.images.reshape(-1, 784) for split in digits])
    assert len({image.tobytes() for image in images}) == len(images)


def test_centred_as_mnist(digits):
    images = digits.test.images[..., 0].astype(np.float64)
    for axis in (1, 2):
        ink = images.sum(axis)
        centre = (ink * np.arange(28)).sum(1) / ink.sum(1)
        assert np.abs(centre - 13.5).max() <= 1.1
        inked = ink > 0
        extent = 28 - inked.argmax(1) - inked[:, ::-1].argmax(1)
        assert extent.max() <= 20
    assert images.max() == 255


def test_the_script_draws_them_pixel_for_pixel(tmp_path, monkeypatch):
    script = os.path.join(input_data.SAMPLE_DIR, 'make.py')
    monkeypatch.setattr(sys, 'argv', [script, '--out', str(tmp_path)])
    runpy.run_path(script, run_name='__main__')
    assert sorted(os.listdir(str(tmp_path))) == sorted(input_data.MNIST_FILES)
    drawn, bundled = (
        input_data.read_data_sets(folder, dtype=np.uint8, validation_size=0)
        for folder in (str(tmp_path), input_data.SAMPLE_DIR)
    )
    for ours, theirs in zip(drawn, bundled):
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.labels, theirs.labels)


def draw_into(folder):
    script = os.path.join(input_data.SAMPLE_DIR, 'make.py')
    return subprocess.run(
        [sys.executable, script, '--out', str(folder)], capture_output=True, text=True
    )


def test_the_script_overwrites_no_file(tmp_path):
    path = tmp_path / input_data.TRAIN_IMAGES
    path.write_text('mine')
    result = draw_into(tmp_path)
    assert (result.returncode, result.stdout) == (2, '')
    assert result.stderr.splitlines()[-1] == (
        f'make.py: error: argument --out: {tmp_path}: expected an empty folder, found files in it'
    )
    assert (os.listdir(str(tmp_path)), path.read_text()) == ([path.name], 'mine')


def test_the_script_cannot_write(tmp_path):
    path = tmp_path / 'file'
    path.write_text('mine')
    result = draw_into(path)
    assert (result.returncode, result.stdout) == (2, '')
    assert result.stderr.splitlines()[-1] == (
        f'make.py: error: argument --out: {path}: expected a folder to write to, found: File exists'
    )
    assert path.read_text() == 'mine'


def test_the_script_leaves_nothing_when_the_disk_is_full(tmp_path):
    script = os.path.join(input_data.SAMPLE_DIR, 'make.py')
    limit = (
        'import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999)); '
        'del sys.argv[0]; runpy.run_path(sys.argv[0], run_name="__main__")'
    )
    result = subprocess.run(
        [sys.executable, '-c', limit, script, '--out', str(tmp_path)],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].endswith('found: File too large')
    assert os.listdir(str(tmp_path)) == []


@pytest.fixture
def clone(tmp_path):
    """The scripts and the bundled digits, without MNIST."""
    for name in ('input_data.py', 'mnist_softmax.py', 'mnist_deep.py'):
        shutil.copy(os.path.join(ROOT, name), str(tmp_path))
    shutil.copytree(input_data.SAMPLE_DIR, str(tmp_path / 'MNIST_data' / 'sample'))
    return tmp_path


def run_offline(clone, script, *args):
    proxies = dict.fromkeys(['http_proxy', 'https_proxy', 'all_proxy'], 'http://127.0.0.1:9')
    replaced = {*proxies, 'no_proxy'}
    environment = {
        name: value for name, value in os.environ.items() if name.lower() not in replaced
    }
    return subprocess.run(
        [sys.executable, str(clone / script), *args],
        cwd=str(clone),
        env=dict(environment, **proxies),
        capture_output=True,
        text=True,
    )


def accuracy(result):
    found = re.search(
        r'^test accuracy (\S+) \(bundled digits, not MNIST\)\n\Z', result.stdout, re.M
    )
    assert found, (result.stdout, result.stderr)
    return float(found.group(1))


@pytest.mark.parametrize('exempt', ['no_proxy', 'NO_PROXY'])
def test_offline_is_offline_whatever_this_machine_exempts(clone, monkeypatch, exempt):
    monkeypatch.setenv(exempt, '*')
    result = run_offline(clone, 'mnist_softmax.py', '--max_steps', '1')
    reason = result.stderr.splitlines()[0]
    assert reason.endswith('.gz: proxy: Connection refused).')


def test_softmax_regression_without_mnist_and_network(clone):
    result = run_offline(clone, 'mnist_softmax.py', '--seed', '1')
    assert 0.85 <= accuracy(result) <= 0.95
    assert result.stderr.startswith('MNIST cannot be had: no mirror gave it (')
    assert result.stderr.splitlines()[1].startswith('Bundled digits stand in for it.')
    assert os.listdir(str(clone / 'MNIST_data')) == ['sample']


@pytest.mark.skipif(tf.VERSION.startswith('1.'), reason='takes minutes on TensorFlow 1')
def test_the_deep_network_is_better(clone):
    args = '--seed', '1', '--log_dir', str(clone / 'logs')
    softmax = accuracy(run_offline(clone, 'mnist_softmax.py', '--seed', '1'))
    assert (
        accuracy(run_offline(clone, 'mnist_deep.py', '--max_steps', '1500', *args))
        >= softmax + 0.03
    )
    assert accuracy(run_offline(clone, 'mnist_deep.py', '--max_steps', '3000', *args)) >= 0.98


def test_named_as_data_they_are_still_not_mnist(clone):
    folder = str(clone / 'MNIST_data' / 'sample')
    result = run_offline(clone, 'mnist_deep.py', '--data_dir', folder, '--max_steps', '1')
    accuracy(result)
    assert 'MNIST cannot be had' not in result.stderr


@pytest.mark.parametrize('script', ['mnist_softmax.py', 'mnist_deep.py'])
def test_a_named_folder_is_never_replaced(clone, script):
    folder = clone / 'elsewhere'
    result = run_offline(clone, script, '--data_dir', str(folder))
    assert result.returncode == 1
    assert result.stdout == ''
    assert result.stderr.startswith(f'{script}: error: MNIST is not in {folder} and cannot be ')
    for name, (size, sha256) in input_data.MNIST_FILES.items():
        assert f'{name}  {size:,} bytes, SHA-256 {sha256}' in result.stderr
    for mirror in input_data.MIRRORS:
        assert mirror in result.stderr
    assert 'Traceback' not in result.stderr
    way_out = result.stderr.splitlines()[-1]
    assert way_out == f'Or train on the bundled digits: --data_dir {clone}/MNIST_data/sample'


def only_message(result):
    """Return what a script says that ends because of its data."""
    assert result.returncode == 1
    assert result.stdout == ''
    assert 'Traceback' not in result.stderr
    return result.stderr


@pytest.mark.parametrize('script', ['mnist_softmax.py', 'mnist_deep.py'])
def test_a_broken_file_is_never_replaced(clone, script):
    for path in FILES:
        shutil.copy(path, str(clone / 'MNIST_data'))
    broken = clone / 'MNIST_data' / input_data.TRAIN_IMAGES
    broken.write_bytes(content(input_data.SAMPLE_DIR, input_data.TRAIN_IMAGES)[:100000])
    (line,) = only_message(run_offline(clone, script)).splitlines()
    assert line.startswith(f'{script}: error: {broken}: expected a whole gzip file, found ')
    assert line.endswith(
        'Remove the file and start again to download it anew, or put a whole one there.'
    )


@pytest.mark.parametrize('script', ['mnist_softmax.py', 'mnist_deep.py'])
def test_one_file_of_mnist_is_never_replaced(clone, script):
    folder = clone / 'MNIST_data'
    size, _ = input_data.MNIST_FILES[input_data.TRAIN_LABELS]
    (folder / input_data.TRAIN_LABELS).write_bytes(bytes(size))
    message = only_message(run_offline(clone, script))
    assert message.startswith(f'{script}: error: MNIST is not in {folder} and cannot be downloaded')
    assert sorted(os.listdir(str(folder))) == ['sample', input_data.TRAIN_LABELS]


@pytest.mark.parametrize('script', ['mnist_softmax.py', 'mnist_deep.py'])
def test_a_data_set_that_is_too_small(clone, script):
    folder = write_mnist(clone / 'small', 40, 10)
    (line,) = only_message(run_offline(clone, script, '--data_dir', folder)).splitlines()
    assert line.startswith(f'{script}: error: {folder}{os.sep}{input_data.TRAIN_IMAGES}: expected ')


@pytest.mark.parametrize('args', [(), ('--data_dir', os.path.join('MNIST_data', 'sample'))])
@pytest.mark.parametrize('fault', ['missing', 'broken'])
def test_an_incomplete_clone(clone, args, fault):
    path = clone / 'MNIST_data' / 'sample' / input_data.TEST_LABELS
    path.unlink()
    expected, found = 'the bundled digits', f'no {path.name}'
    if fault == 'broken':
        path.write_bytes(b'<html>403</html>')
        expected, found = 'a whole gzip file', r'Not a gzipped file \(.*\)'
    before = sorted(os.listdir(str(path.parent)))
    (line,) = only_message(run_offline(clone, 'mnist_softmax.py', *args)).splitlines()
    pattern = (
        f'mnist_softmax.py: error: .*sample.*: expected {expected}, found {found}. '
        'The clone is incomplete: run `git checkout MNIST_data/sample` in it.'
    )
    assert re.match(f'^{pattern}$', line)
    assert sorted(os.listdir(str(path.parent))) == before
