"""The script of README's pictures draws each of them, here from short runs on bundled digits."""

import runpy
import sys
from pathlib import Path

import pytest

import input_data

if sys.version_info < (3, 8):
    pytest.skip('the pictures are drawn with TensorFlow 2 only', allow_module_level=True)
pytest.importorskip('matplotlib')
import PIL.Image  # which comes with it

SCRIPT = Path(input_data.__file__).parent / 'docs' / 'images' / 'make.py'
NAMES = {path.stem.replace('_dark', '') for path in SCRIPT.parent.glob('*.png')}


def test_each_picture_has_a_light_and_a_dark_variant():
    files = {path.name for path in SCRIPT.parent.glob('*.png')}
    assert files == {name + variant for name in NAMES for variant in ('.png', '_dark.png')}


def test_draws_every_picture_but_the_browsers(tmp_path, monkeypatch):
    flags = '--data_dir', input_data.SAMPLE_DIR, '--max_steps=20', f'--out={tmp_path}'
    drawn = sorted(NAMES - {'tensorboard'})
    monkeypatch.setattr(sys, 'argv', [str(SCRIPT), *flags, '--only', *drawn])
    runpy.run_path(str(SCRIPT), run_name='__main__')
    for name in drawn:
        for variant in '.png', '_dark.png':
            with PIL.Image.open(tmp_path / (name + variant)) as image:
                assert (image.format, image.mode, image.width) == ('PNG', 'RGBA', 1660)
                assert image.getextrema()[3] == (0, 255)  # transparent in part
