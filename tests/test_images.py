"""The script of README's pictures draws each of them, here from short runs on bundled digits."""

import re
import runpy
import sys

import pytest

import input_data

if sys.version_info < (3, 8):
    pytest.skip('the pictures are drawn with TensorFlow 2 only', allow_module_level=True)
pytest.importorskip('matplotlib')
import PIL.Image  # which comes with it
import train

pytestmark = pytest.mark.upkeep

SCRIPT = train.ROOT / 'docs' / 'images' / 'make.py'


def test_draws_every_picture_and_the_convolution_is_what_tensorflow_computes(
    tmp_path, monkeypatch, capsys
):
    flags = '--data_dir', input_data.SAMPLE_DIR, '--max_steps=10', f'--out={tmp_path}'
    monkeypatch.setattr(train, 'SEEDS', [1])
    monkeypatch.setattr(sys, 'argv', [str(SCRIPT), *flags])
    runpy.run_path(str(SCRIPT), run_name='__main__')
    drawn = sorted(tmp_path.glob('*.png'))
    assert [path.name for path in drawn] == sorted(x.name for x in SCRIPT.parent.glob('*.png'))
    for path in drawn:
        with PIL.Image.open(path) as image:
            assert (image.format, image.mode, image.width) == ('PNG', 'RGBA', 1660)
            assert image.getextrema()[3] == (0, 255)  # transparent in part
    printed = re.search(r'products (\S+), bias (\S+), h_conv1 (\S+)', capsys.readouterr().out)
    products, bias, pixel = map(float, printed.groups())
    assert max(0, products + bias) == pytest.approx(pixel, abs=1e-3)
