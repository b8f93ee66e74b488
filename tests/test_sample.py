"""The bundled digits, and when the scripts train on them."""

import os
import runpy
import shutil
import sys

import numpy as np
import pytest
from conftest import ROOT, start

import input_data

SAMPLE = input_data.SAMPLE_DIR


def test_the_script_draws_them_pixel_for_pixel(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['make.py', '--out', str(tmp_path)])
    runpy.run_path(os.path.join(SAMPLE, 'make.py'), run_name='__main__')
    for drawn, bundled in zip(*map(input_data.read_data_sets, [str(tmp_path), SAMPLE])):
        np.testing.assert_array_equal(drawn.images, bundled.images)
        np.testing.assert_array_equal(drawn.labels, bundled.labels)


@pytest.fixture(scope='module')
def train_offline(tmp_path_factory):
    """Run a script in a clone without MNIST, where no mirror can be reached."""
    clone = tmp_path_factory.mktemp('clone')
    for name in ('input_data.py', 'mnist_softmax.py', 'mnist_deep.py'):
        shutil.copy(str(ROOT / name), str(clone))
    shutil.copytree(SAMPLE, str(clone / 'MNIST_data' / 'sample'))

    def train(script, steps):
        process = start(clone / script, '--seed', 1, '--max_steps', steps, cwd=str(clone))
        out, err = process.communicate()
        assert f'MNIST is not in {clone}/MNIST_data and cannot be downloaded:\n' in err
        assert '\nTraining on the bundled digits instead.\n' in err
        result = out.splitlines()[-1]
        assert result.endswith(' (bundled digits, not MNIST)')
        return float(result.split()[2])

    return train


def test_offline_both_scripts_train_on_them_and_the_network_is_better(train_offline):
    softmax, network = train_offline('mnist_softmax.py', 250), train_offline('mnist_deep.py', 250)
    assert 0.85 < softmax < network
