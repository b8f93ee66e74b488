"""What both scripts have in common: their flags, their errors, and how they behave in IPython."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import tensorflow.compat.v1 as tf
from conftest import ROOT, start

import input_data
import mnist_deep
import mnist_softmax

IS_TF1 = tf.VERSION.startswith('1.')
both_scripts = pytest.mark.parametrize('script', [mnist_softmax, mnist_deep])


@both_scripts
def test_the_tutorials_number_of_steps_is_the_default(script, monkeypatch):
    monkeypatch.setattr(sys, 'argv', [script.__file__])
    assert script.parse_flags().max_steps == {mnist_softmax: 1000, mnist_deep: 20000}[script]


@both_scripts
@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--max_steps', '0'], '--max_steps must be at least 1, not 0'),
        (['--max_steps', 'ten'], "argument --max_steps: invalid int value: 'ten'"),
        (['--max_stepz', '2'], 'unrecognized arguments: --max_stepz 2'),
    ],
)
def test_a_wrong_flag_is_one_message(script, flags, message, refused, tmp_path):
    assert refused(script, '--data_dir', tmp_path / 'none', *flags) == message
    assert os.listdir(str(tmp_path)) == []


@both_scripts
def test_a_file_is_no_data_dir(script, refused, tmp_path):
    file = tmp_path / 'file'
    file.write_text('mine')
    message = refused(script, '--data_dir', file)
    assert message == f'{file} is a file; choose the folder of the four MNIST files'
    assert file.read_text() == 'mine'


def test_a_file_is_no_log_dir(refused, tmp_path):
    file = tmp_path / 'file'
    file.write_text('mine')
    for log_dir in (file, file / 'run'):
        message = refused(mnist_deep, '--data_dir', tmp_path / 'none', '--log_dir', log_dir)
        assert message == f'cannot write to {log_dir}; choose another --log_dir'
    assert os.listdir(str(tmp_path)) == ['file']
    assert file.read_text() == 'mine'


@pytest.mark.skipif(not hasattr(os, 'setresuid'), reason='modes of files do not bind here')
def test_a_log_dir_that_may_not_be_written_to(refused):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        user = os.getuid()
        os.setresuid(user or 65534, user or 65534, user)  # modes do not bind an administrator
        try:
            for log_dir in (folder, os.path.join(folder, 'new', 'run')):
                message = refused(mnist_deep, '--max_steps', 1, '--log_dir', log_dir)
                assert message == f'cannot write to {log_dir}; choose another --log_dir'
        finally:
            os.setresuid(user, user, user)
        assert os.listdir(folder) == []


@pytest.mark.parametrize('name', ['run*', 'run?', 'run[1', 'run]1'])
def test_a_log_dir_that_tensorflow_would_take_for_a_pattern(name, refused, tmp_path):
    message = refused(mnist_deep, '--max_steps', 1, '--log_dir', tmp_path / name)
    assert message == f'[ ] * ? in {tmp_path / name} are wildcards here; choose another --log_dir'
    assert os.listdir(str(tmp_path)) == []


@both_scripts
def test_broken_data_is_one_message_and_leaves_no_folder(script, refused, tmp_path, monkeypatch):
    for name in input_data.MNIST_FILES:
        (tmp_path / name).write_bytes(b'no data')
    temporary = tmp_path / 'temporary'
    temporary.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(temporary))
    flags = ['--data_dir', tmp_path, '--max_steps', 1]
    if script is mnist_deep:
        flags += ['--log_dir', tmp_path / 'run' / '1']
    path = tmp_path / input_data.TRAIN_IMAGES
    assert refused(script, *flags) == (
        f"{path}: not an intact gzip file (Not a gzipped file (b'no')). "
        "If it is MNIST's, delete it and run again to download it."
    )
    assert {path.name for path in tmp_path.iterdir()} == {'temporary', *input_data.MNIST_FILES}
    assert list(temporary.iterdir()) == []


@both_scripts
def test_the_bundled_digits_are_named_where_the_accuracy_is(script, run):
    out, _ = run(script, '--max_steps', 1, '--data_dir', input_data.SAMPLE_DIR)
    assert re.fullmatch(r'test accuracy \S+ \(bundled digits, not MNIST\)', out.splitlines()[-1])


@both_scripts
def test_ctrl_c_before_training_ends_without_a_traceback(script, tmp_path):
    """While the data is read, which takes until somebody writes into this pipe."""
    os.mkfifo(str(tmp_path / input_data.TRAIN_IMAGES))
    for name in (input_data.TRAIN_LABELS, input_data.TEST_IMAGES, input_data.TEST_LABELS):
        (tmp_path / name).write_bytes(bytes(input_data.MNIST_FILES[name][0]))
    process = start(script.__file__, '--data_dir', tmp_path)
    with (tmp_path / input_data.TRAIN_IMAGES).open('wb'):  # waits until the script opens it, too
        time.sleep(1)  # until it waits for data
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, '')
    assert 'Traceback' not in err
    assert 'KeyboardInterrupt' not in err


def test_importing_sets_only_what_the_user_has_not_set():
    """TensorFlow 2 turns oneDNN on by itself only on CPUs with AVX512."""
    code = (
        'import os, mnist_softmax, mnist_deep, tensorflow as tf; '
        'print(os.environ["TF_CPP_MIN_LOG_LEVEL"], os.environ["TF_ENABLE_ONEDNN_OPTS"], '
        'tf.executing_eagerly())'
    )
    env = {'TF_CPP_MIN_LOG_LEVEL': '1'}
    assert start('-c', code, env=env).communicate()[0] == f'1 1 {not IS_TF1}\n'


def ipython(code, folder):
    """Run code in a real IPython; return what it prints."""
    environment = {'IPYTHONDIR': str(folder / 'ipython')}
    arguments = '--colors=NoColor', '--no-term-title', '-c', code
    return start('-m', 'IPython', *arguments, env=environment).communicate()


AFTER_README = """
before = sess.run([W, b])
%run {softmax} {flags} --max_steps 30
%run {deep} {flags} --max_steps 2 --log_dir {folder}/run
%run {deep} {flags} --max_steps 2 --log_dir {folder}/run_2
%run {softmax} {flags} --max_steps 30
print(all((old == new).all() for old, new in zip(before, sess.run([W, b]))), before[0].any())
print(tf.get_default_graph() is sess.graph)
"""


def test_ipython_runs_scripts_again_and_keeps_its_own_graph(mnist_dir, tmp_path, run):
    """After README's blocks up to the network were pasted."""
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    first_part = readme.split('def weight_variable(')[0].replace("'MNIST_data'", repr(mnist_dir))
    pasted = '\n'.join(re.findall(r'^```python\n(.*?)^```$', first_part, re.M | re.S))
    flags = f'--data_dir {mnist_dir} --seed 1'
    names = {'softmax': mnist_softmax.__file__, 'deep': mnist_deep.__file__, 'folder': tmp_path}
    out, _ = ipython(pasted + AFTER_README.format(flags=flags, **names), tmp_path)
    softmax = run(mnist_softmax, '--seed', 1, '--max_steps', 30).out
    deep = run(mnist_deep, '--seed', 1, '--max_steps', 2).out
    assert out.endswith(softmax + deep + deep + softmax + 'True True\nTrue\n'), out


# The marker lines show in what is printed where each of these begins.
THAT_FAIL = """
print('broken data')
%run {script} --data_dir {broken}
print('a wrong flag')
%run {script} --max_steps ten
print('Ctrl-C')
import os, signal, input_data
input_data.DataSet.next_batch = lambda *args: os.kill(os.getpid(), signal.SIGINT)
%run {script} --data_dir {mnist}
"""


@pytest.fixture(scope='module')
def failures_in_ipython(mnist_dir, tmp_path_factory):
    """What IPython prints on stdout for each of these runs, without empty lines."""
    folder = tmp_path_factory.mktemp('ipython')
    for name in input_data.MNIST_FILES:
        (folder / name).write_bytes(b'no data')
    code = THAT_FAIL.format(script=mnist_softmax.__file__, broken=folder, mnist=mnist_dir)
    out, err = ipython(code, folder)
    assert 'Traceback' not in out + err
    lines = [line for line in out.splitlines() if line.strip()]
    start = [lines.index(marker) for marker in ('broken data', 'a wrong flag', 'Ctrl-C')]
    return (
        folder,
        lines[start[0] + 1 : start[1]],
        lines[start[1] + 1 : start[2]],
        lines[start[2] + 1 :],
    )


ONE_LINE_OF_IPYTHON = 'An exception has occurred, use %tb to see the full traceback.'


def test_in_ipython_broken_data_is_its_message(failures_in_ipython):
    folder, printed, _, _ = failures_in_ipython
    path = folder / input_data.TRAIN_IMAGES
    assert printed == [
        ONE_LINE_OF_IPYTHON,
        f'SystemExit: mnist_softmax.py: error: {path}: not an intact gzip file (Not a gzipped file '
        "(b'no')). If it is MNIST's, delete it and run again to download it.",
    ]


def test_in_ipython_a_wrong_flag_is_its_message(failures_in_ipython):
    """Which argparse itself prints on stderr."""
    _, _, printed, _ = failures_in_ipython
    assert printed[-2:] == [ONE_LINE_OF_IPYTHON, 'SystemExit: 2']


def test_in_ipython_ctrl_c_is_two_lines(failures_in_ipython):
    *_, printed = failures_in_ipython
    assert printed == [ONE_LINE_OF_IPYTHON, 'SystemExit: 130']


@pytest.mark.parametrize(('script', 'way'), [(mnist_softmax, 'IPython'), (mnist_deep, 'python')])
def test_pasted_as_a_whole_it_has_no_flags(script, way, mnist_dir, tmp_path):
    """Those of the process, here of a notebook's kernel, are not the script's."""
    pasted = Path(script.__file__).read_text()
    if script is mnist_deep:
        assert 'default=20000' in pasted
        pasted = pasted.replace('default=20000', 'default=1')
    run_with_small_data = (
        'import sys, input_data\n'
        f'input_data.DATA_DIR = {mnist_dir!r}\n'
        "sys.argv = ['ipykernel_launcher.py', '-f', 'kernel.json', '--History.enabled=False']\n"
    )
    if way == 'IPython':
        (tmp_path / 'script').write_text(pasted)
        cell = f"get_ipython().run_cell(open('{tmp_path}/script').read())"
        out, err = ipython(run_with_small_data + cell, tmp_path)
    else:
        process = start('-iq', stdin=subprocess.PIPE)
        out, err = process.communicate(run_with_small_data + pasted + '\n\n')
    assert re.search(r'^test accuracy [01]\.?\d*$', out, re.M), out + err
