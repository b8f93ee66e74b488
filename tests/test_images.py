"""The script of README's pictures draws each of them, here from short runs on bundled digits."""

import os
import runpy
import sys

import pytest

import input_data

pytest.importorskip('matplotlib')
import PIL.Image  # which comes with it

SCRIPT = os.path.join(os.path.dirname(input_data.__file__), 'images', 'make.py')
NAMES = ['digits', 'graph', 'weights', 'filters', 'network', 'own_digit', 'curves', 'mistakes']


def test_draws_every_picture_but_the_browsers(tmp_path, monkeypatch):
    monkeypatch.chdir(str(tmp_path))
    flags = '--data_dir', input_data.SAMPLE_DIR, '--max_steps=101', '--out=.'
    monkeypatch.setattr(sys, 'argv', [SCRIPT, *flags, '--only', *NAMES])
    runpy.run_path(SCRIPT, run_name='__main__')
    for name in NAMES:
        with PIL.Image.open(name + '.png') as image:
            assert (image.format, image.mode, image.width) == ('PNG', 'RGBA', 1660)
            assert image.getextrema()[3] == (0, 255)  # transparent in part
