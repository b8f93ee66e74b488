"""The bundled digits, and when the scripts train on them."""

import os
import runpy
import shutil
import sys

import numpy as np
import pytest
from conftest import ROOT, start_python

import input_data

SAMPLE = input_data.SAMPLE_DIR


@pytest.mark.upkeep
def test_the_script_draws_them_pixel_for_pixel(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['make.py', '--out', str(tmp_path)])
    runpy.run_path(os.path.join(SAMPLE, 'make.py'), run_name='__main__')
    for drawn, bundled in zip(*map(input_data.read_data_sets, [str(tmp_path), SAMPLE])):
        np.testing.assert_array_equal(drawn.images, bundled.images)
        np.testing.assert_array_equal(drawn.labels, bundled.labels)


def test_offline_a_clone_without_mnist_trains_on_them(tmp_path):
    for name in ('input_data.py', 'mnist_softmax.py'):
        shutil.copy(str(ROOT / name), str(tmp_path))
    shutil.copytree(SAMPLE, str(tmp_path / 'MNIST_data' / 'sample'))
    copied_script = tmp_path / 'mnist_softmax.py'
    process = start_python(copied_script, '--max_steps', 1)
    out, err = process.communicate()
    assert f'MNIST is not in {tmp_path}/MNIST_data and cannot be downloaded:\n' in err
    assert '\nThis run trains on the bundled digits.\n' in err
    last = out.splitlines()[-1]
    assert last.startswith('test accuracy 0.')
    assert last.endswith(' (bundled digits, not MNIST)')
    assert os.listdir(str(tmp_path / 'MNIST_data')) == ['sample']
