"""What both scripts have in common: their flags, their errors, and how they behave in IPython."""

import code
import os
import re
import signal
import sys
import tempfile
from pathlib import Path

import pytest
import tensorflow.compat.v1 as tf
from conftest import ROOT, start_python
from single_layer import single_layer

import input_data
import mnist_deep
import mnist_softmax

IS_TF1 = tf.VERSION.startswith('1.')
ARGV_OF_A_KERNEL = ['ipykernel_launcher.py', '-f', 'kernel.json', '--History.enabled=False']
both_scripts = pytest.mark.parametrize('script', [mnist_softmax, mnist_deep])


@both_scripts
def test_the_tutorials_number_of_steps_is_the_default(script, monkeypatch):
    """Also in a notebook, whose kernel has flags of its own in sys.argv."""
    for argv in ([script.__file__], ARGV_OF_A_KERNEL):
        monkeypatch.setattr(sys, 'argv', argv)
        assert script.parse_flags().max_steps == {mnist_softmax: 1000, mnist_deep: 20000}[script]


@both_scripts
def test_flags_are_read_by_any_name_in_argv(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('link.py').symlink_to(script.__file__)
    for name in (script.__file__, os.path.relpath(script.__file__), 'link.py'):
        monkeypatch.setattr(sys, 'argv', [name, '--max_steps', '7'])
        assert script.parse_flags().max_steps == 7


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


@pytest.fixture(scope='module')
def broken_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp('broken')
    for name in input_data.MNIST_FILES:
        (folder / name).write_bytes(b'no data')
    return folder


def message_about(broken_dir):
    return (
        f'{broken_dir / input_data.TRAIN_IMAGES}: not an intact gzip file (Not a gzipped file '
        "(b'no')). If it is MNIST's, delete it and run again to download it."
    )


@both_scripts
def test_broken_data_is_one_message(script, refused, broken_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    assert refused(script, '--data_dir', broken_dir) == message_about(broken_dir)
    assert os.listdir(str(tmp_path)) == []  # nor is there a folder for checkpoints


@both_scripts
def test_the_bundled_digits_are_named_where_the_accuracy_is(script, run, monkeypatch):
    monkeypatch.setattr(mnist_deep, 'deepnn', single_layer)
    out, _ = run(script, '--max_steps', 1, '--data_dir', input_data.SAMPLE_DIR)
    assert re.fullmatch(r'test accuracy \S+ \(bundled digits, not MNIST\)', out.splitlines()[-1])


def test_sigint_before_training_ends_without_a_traceback(tmp_path):
    """While the data is read, which takes until this test closes a pipe."""
    processes = {}
    for script in (mnist_softmax, mnist_deep):
        folder = tmp_path / script.__name__
        folder.mkdir()
        for name in (input_data.TRAIN_LABELS, input_data.TEST_IMAGES, input_data.TEST_LABELS):
            (folder / name).write_bytes(bytes(input_data.MNIST_FILES[name][0]))
        pipe = folder / input_data.TRAIN_IMAGES
        os.mkfifo(str(pipe))
        processes[pipe] = start_python(script.__file__, '--data_dir', folder)
    for pipe, process in processes.items():
        with pipe.open('wb'):  # waits until the script opens it, too
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
        assert (process.returncode, out) == (130, '')
        assert 'Traceback' not in err
        assert 'KeyboardInterrupt' not in err


def test_pasted_as_a_whole_into_plain_python(mnist_dir, monkeypatch, capsys):
    """It reads line by line, and an empty line ends a block."""
    monkeypatch.setattr(sys, 'argv', ARGV_OF_A_KERNEL)
    monkeypatch.setattr(input_data, 'DATA_DIR', mnist_dir)
    console = code.InteractiveConsole({'__name__': '__main__'})
    for line in Path(mnist_softmax.__file__).read_text().splitlines():
        console.push(line)
    console.push('')
    out, err = capsys.readouterr()
    assert re.search(r'^test accuracy [01]\.?\d*$', out, re.M), out + err


@pytest.fixture(scope='module')
def printed_in_ipython(mnist_dir, broken_dir, tmp_path_factory):
    """{what was done: the lines that were printed} in session.ipy, without empty ones."""
    session = ROOT / 'tests' / 'session.ipy'
    options = '-m', 'IPython', '--colors=NoColor', '--no-term-title'
    env = {
        'IPYTHONDIR': str(tmp_path_factory.mktemp('ipython')),
        'TF_CPP_MIN_LOG_LEVEL': '1',
        'TF_ENABLE_ONEDNN_OPTS': '0',
    }
    process = start_python(*options, session, mnist_dir, broken_dir, env=env)
    out, err = process.communicate()
    assert 'Traceback' not in out + err
    _, *parts = re.split(r'^# (.*)\n', out, flags=re.M)
    return {
        title: [line for line in printed.splitlines() if line]
        for title, printed in zip(parts[::2], parts[1::2])
    }


def test_importing_sets_only_what_the_user_has_not_set(printed_in_ipython):
    of_the_user, eager, *of_the_scripts = printed_in_ipython['importing']
    assert (of_the_user, eager) == ('1 0', str(not IS_TF1))
    assert of_the_scripts == ['3 None', '3 1']  # softmax regression has no use for oneDNN


def test_in_ipython_scripts_run_again_and_leave_a_session_as_it_is(printed_in_ipython):
    *runs, session = printed_in_ipython['running both scripts twice beside a session']
    softmax, step_0, deep = runs[:3]
    assert runs == [softmax, step_0, deep, step_0, deep, softmax]
    assert [softmax[:14], step_0[:8], deep[:14]] == ['test accuracy ', 'step 0, ', 'test accuracy ']
    assert session == '[1. 1.] True'


def test_in_ipython_an_exit_is_one_message(printed_in_ipython, broken_dir):
    first_line = 'An exception has occurred, use %tb to see the full traceback.'
    message = message_about(broken_dir)
    assert printed_in_ipython['broken data'] == [
        first_line,
        f'SystemExit: mnist_softmax.py: error: {message}',
        first_line,
        f'SystemExit: mnist_deep.py: error: {message}',
    ]
    # argparse itself prints about it on stderr.
    assert printed_in_ipython['a wrong flag'] == [first_line, 'SystemExit: 2']
    assert printed_in_ipython['Ctrl-C'] == [first_line, 'SystemExit: 130']
    pasted = 'pasting a script into the window of an editor, which sets __file__'
    step_0, *end = printed_in_ipython[pasted]
    assert step_0.startswith('step 0, training accuracy ')
    assert end == [first_line, 'SystemExit: 130']
