"""The bundled digits, and when the scripts train on them."""

import os
import runpy
import shutil
import subprocess
import sys

import numpy as np

import input_data

SAMPLE = input_data.SAMPLE_DIR


def test_the_script_draws_them_pixel_for_pixel(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['make.py', '--out', str(tmp_path)])
    runpy.run_path(os.path.join(SAMPLE, 'make.py'), run_name='__main__')
    for drawn, bundled in zip(*map(input_data.read_data_sets, [str(tmp_path), SAMPLE])):
        np.testing.assert_array_equal(drawn.images, bundled.images)
        np.testing.assert_array_equal(drawn.labels, bundled.labels)


def test_offline_both_scripts_train_on_them_and_the_network_is_better(tmp_path):
    """In a clone without MNIST, where the proxy does not answer."""
    for name in ('input_data.py', 'mnist_softmax.py', 'mnist_deep.py'):
        shutil.copy(os.path.join(os.path.dirname(input_data.__file__), name), str(tmp_path))
    shutil.copytree(SAMPLE, str(tmp_path / 'MNIST_data' / 'sample'))
    env = {k: v for k, v in os.environ.items() if k.lower() != 'no_proxy'}
    env['https_proxy'] = 'http://127.0.0.1:9'
    options = {'cwd': str(tmp_path), 'env': env, 'capture_output': True, 'text': True}
    accuracies = []
    for script in 'mnist_softmax.py', 'mnist_deep.py':
        result = subprocess.run([sys.executable, script, '--seed=1', '--max_steps=250'], **options)
        assert f'MNIST is not in {tmp_path / "MNIST_data"} and cannot be ' in result.stderr
        assert '\nThe bundled digits stand in for it now.\n' in result.stderr
        accuracy, note = result.stdout.splitlines()[-1].split(' ', 3)[2:]
        assert note == '(bundled digits, not MNIST)'
        accuracies.append(float(accuracy))
    assert 0.85 < accuracies[0] < accuracies[1], accuracies
    assert os.listdir(str(tmp_path / 'MNIST_data')) == ['sample']
