"""The script of README's pictures draws each of them, here from two tiny runs."""

import os
import runpy
import sys

import pytest

import input_data
import mnist_deep
import mnist_softmax

pytest.importorskip('matplotlib')
import PIL.Image  # which comes with it

SCRIPT = os.path.join(os.path.dirname(input_data.__file__), 'images', 'make.py')
NAMES = ['network', 'curves', 'weights', 'mistakes']


def draw(monkeypatch, *args):
    monkeypatch.setattr(sys, 'argv', [SCRIPT, *args])
    runpy.run_path(SCRIPT, run_name='__main__')


def test_draws_every_picture_but_the_browsers(run, mnist_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(str(tmp_path))
    run(mnist_softmax, '--log_dir=softmax', '--max_steps=30')
    run(mnist_deep, '--log_dir=deep', '--max_steps=3')
    logs = '--softmax_log_dir=softmax', '--deep_log_dir=deep'
    draw(monkeypatch, '--data_dir', mnist_dir, *logs, '--out=.', '--only', *NAMES)
    for name in NAMES:
        with PIL.Image.open(name + '.png') as image:
            assert (image.format, image.width) == ('PNG', 1660)
            assert len(image.getcolors()) > 100


def test_a_name_of_no_picture_is_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit, match=r'^2$'):
        draw(monkeypatch, '--only', 'typo')
    message = capsys.readouterr().err.splitlines()[-1]
    assert [name for name in ['typo', *NAMES, 'tensorboard'] if name not in message] == []
