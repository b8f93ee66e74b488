"""The script of README's pictures draws each of them, here from short runs on bundled digits."""

import runpy
import sys
from pathlib import Path

import pytest

import input_data

pytest.importorskip('matplotlib')
import PIL.Image  # which comes with it

SCRIPT = Path(input_data.__file__).parent / 'images' / 'make.py'
NAMES = [path.stem for path in SCRIPT.parent.glob('*.png') if 'tensorboard' not in path.stem]


def test_draws_every_picture_but_the_browsers(tmp_path, monkeypatch):
    monkeypatch.chdir(str(tmp_path))
    flags = '--data_dir', input_data.SAMPLE_DIR, '--max_steps=101', '--out=.'
    monkeypatch.setattr(sys, 'argv', [str(SCRIPT), *flags, '--only', *NAMES])
    runpy.run_path(str(SCRIPT), run_name='__main__')
    for name in NAMES:
        with PIL.Image.open(name + '.png') as image:
            assert (image.format, image.mode, image.width) == ('PNG', 'RGBA', 1660)
            assert image.getextrema()[3] == (0, 255)  # transparent in part
