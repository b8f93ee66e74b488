"""The convolutional network: its graph, a step against NumPy, what the script prints and keeps."""

import functools
import glob
import io
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import write_mnist
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import input_data
import mnist_deep
import mnist_softmax

SCRIPT = mnist_deep.__file__
IS_TF1 = tf.VERSION.startswith('1.')
# In this process, compiling takes longer than the few steps of these tests.
os.environ['TF_XLA_FLAGS'] = ''
signal.signal(signal.SIGINT, signal.default_int_handler)  # where it was ignored, children did so


@pytest.fixture
def train(run):
    return functools.partial(run, mnist_deep)


@pytest.fixture(scope='module')
def built(mnist_dir):
    """The graph that the script leaves behind."""
    with tf.Graph().as_default() as graph, pytest.MonkeyPatch.context() as patch:
        args = '--data_dir', mnist_dir, '--max_steps', '1', '--seed', '1'
        patch.setattr(sys, 'argv', [SCRIPT, *args])
        mnist_deep.main()
    return graph


@pytest.fixture
def graph(built):
    with built.as_default():
        yield built


def start(*args, python=sys.executable, stderr=subprocess.PIPE, **env):
    inherited = {name: value for name, value in os.environ.items() if name != 'TF_XLA_FLAGS'}
    return subprocess.Popen(
        [python, SCRIPT, *map(str, args)],
        env={**inherited, **env},
        stdout=subprocess.PIPE,
        stderr=stderr,
        universal_newlines=True,
    )


# The diagram: the page's ops in their order, each with the shape that it gives.
LAYERS = [
    *[('x', 'Placeholder', [None, 784]), ('y_', 'Placeholder', [None, 10])],
    ('reshape', 'Reshape', [None, 28, 28, 1]),
    *[('conv1', op, [None, 28, 28, 32]) for op in ('Conv2D', 'AddV2', 'Relu')],
    ('pool1', 'MaxPool', [None, 14, 14, 32]),
    *[('conv2', op, [None, 14, 14, 64]) for op in ('Conv2D', 'AddV2', 'Relu')],
    ('pool2', 'MaxPool', [None, 7, 7, 64]),
    ('fc1', 'Reshape', [None, 7 * 7 * 64]),
    *[('fc1', op, [None, 1024]) for op in ('MatMul', 'AddV2', 'Relu')],
    ('keep_prob', 'Placeholder', None),
    *[('fc2', op, [None, 10]) for op in ('MatMul', 'AddV2', 'Softmax')],
    ('loss', 'Mean', []),
    *[('accuracy', op, [None]) for op in ('ArgMax', 'ArgMax', 'Equal', 'Cast')],
    ('accuracy', 'Mean', []),
]

VARIABLES = {
    'conv1/W': [5, 5, 1, 32],
    'conv1/b': [32],
    'conv2/W': [5, 5, 32, 64],
    'conv2/b': [64],
    'fc1/W': [7 * 7 * 64, 1024],
    'fc1/b': [1024],
    'fc2/W': [1024, 10],
    'fc2/b': [10],
}


def test_ops_of_the_page_in_their_order(graph):
    types = {kind for _, kind, _ in LAYERS}
    scopes = {scope for scope, _, _ in LAYERS}
    found = []
    for op in graph.get_operations():
        scope = op.name.split('/')[0]
        # An 'Add' is what TensorFlow 1.15 makes of tf.add, and AddV2 what it makes of a plus sign.
        kind = 'AddV2' if op.type == 'Add' else op.type
        initial = op.name.startswith(scope + '/truncated_normal')
        inside_loss = scope == 'loss' and op.type == 'Reshape'  # part of TensorFlow's own loss
        if scope in scopes and kind in types and not initial and not inside_loss:
            shape = op.outputs[0].shape
            found.append((scope, kind, shape.as_list() if shape.ndims is not None else None))
    assert found == LAYERS


def test_initial_values(graph):
    variables = {v.op.name: v for v in tf.trainable_variables()}
    assert {name: v.shape.as_list() for name, v in variables.items()} == VARIABLES
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for name, variable in variables.items():
            value = sess.run(variable)
            if name.endswith('b'):
                np.testing.assert_array_equal(value, np.float32(0.1))
            else:
                # Truncated at two standard deviations, a normal distribution keeps 0.88 of its own.
                assert np.abs(value).max() <= 0.2
                assert value.std() == pytest.approx(0.088, rel=0.1)
                assert value.mean() == pytest.approx(0, abs=0.02)


def test_one_step_against_numpy(graph):
    """Loss and probabilities, gradients by finite differences, and Adam's step, with dropout."""
    random = np.random.RandomState(1)
    x = random.uniform(size=(6, 784)).astype(np.float32)
    y_ = np.eye(10, dtype=np.float32)[random.randint(10, size=6)]
    trained = {v.op.name: v for v in tf.trainable_variables()}
    slots = {v.op.name: v for v in tf.global_variables()}
    (h_fc1,) = [op.outputs[0] for op in graph.get_operations() if op.name.startswith('fc1/Relu')]
    h_fc1_drop = graph.get_operation_by_name('fc2/MatMul').inputs[0]
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        old = sess.run(trained)
        loss, probabilities, accuracy, before, after, _ = sess.run(
            [
                *('loss/cross_entropy:0', 'fc2/probabilities:0', 'accuracy/accuracy:0'),
                *(h_fc1, h_fc1_drop, 'adam_optimizer/Adam'),
            ],
            {'x:0': x, 'y_:0': y_, 'keep_prob:0': 0.5},
        )
        new = sess.run(trained)
        moments = sess.run({name: slots[name + '/Adam'] for name in trained})

    kept = after != 0
    assert 0.4 < kept[before > 0].mean() < 0.6
    np.testing.assert_allclose(after[kept], 2 * before[kept], rtol=1e-6)
    weights = {name: value.astype(np.float64) for name, value in old.items()}
    expected_loss, expected = network_in_numpy(weights, x, y_, 2 * kept)
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-3, atol=1e-6)
    assert accuracy == np.float32(np.mean(expected.argmax(1) == y_.argmax(1)))
    for name, value in weights.items():
        gradient = moments[name] / 0.1
        direction = random.standard_normal(value.shape)
        ahead, behind = (
            network_in_numpy({**weights, name: value + step * direction}, x, y_, 2 * kept)[0]
            for step in (1e-8, -1e-8)
        )
        tolerance = 1e-3 * float(np.linalg.norm(gradient))
        slope = (ahead - behind) / 2e-8
        assert np.sum(gradient * direction) == pytest.approx(slope, abs=tolerance), name
        # Adam's first step, from m = 0.1 g and v = 0.001 g^2, both corrected for their bias.
        clear = np.abs(gradient) > 1e-3 * np.abs(gradient).max()
        step = 1e-4 * gradient / (np.abs(gradient) + 1e-8 / np.sqrt(0.001))
        np.testing.assert_allclose(
            (new[name] - old[name])[clear], -step[clear], rtol=1e-2, atol=2e-8, err_msg=name
        )


def network_in_numpy(w, x, y_, dropout):
    """Loss and probabilities, with `dropout` as the factor of each neuron of the dense layer."""
    pool1 = pool(convolve(x.reshape(-1, 28, 28, 1), w['conv1/W']) + w['conv1/b'])
    pool2 = pool(convolve(pool1, w['conv2/W']) + w['conv2/b'])
    fc1 = np.maximum(pool2.reshape(len(x), -1) @ w['fc1/W'] + w['fc1/b'], 0) * dropout
    logits = fc1 @ w['fc2/W'] + w['fc2/b']
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exponentials / exponentials.sum(1, keepdims=True)
    return -np.mean((y_ * np.log(probabilities)).sum(1)), probabilities


def convolve(images, filters):
    height, width = images.shape[1:3]
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)], 'constant')
    return sum(
        padded[:, dy : dy + height, dx : dx + width] @ filters[dy, dx]
        for dy in range(5)
        for dx in range(5)
    )


def pool(images):
    """ReLU, and the largest of each 2 x 2."""
    n, height, width, depth = images.shape
    return np.maximum(images, 0).reshape(n, height // 2, 2, width // 2, 2, depth).max((2, 4))


def test_prints_the_lines_of_the_page_which_a_seed_repeats(train):
    args = '--max_steps', 101, '--seed', 1
    first, second = train(*args).out, train(*args).out
    assert first == second
    lines = [
        re.fullmatch(r'(.* accuracy) (\d\.?\d*)', line).groups() for line in first.splitlines()
    ]
    names, numbers = zip(*lines)
    assert names == ('step 0, training accuracy', 'step 100, training accuracy', 'test accuracy')
    assert float(numbers[0]) < 0.6 < min(map(float, numbers[1:]))  # the digits of conftest are easy
    assert first.splitlines()[0] not in train('--max_steps', 1, '--seed', 2).out


def test_the_test_set_is_evaluated_in_slices_and_whole(train, tmp_path, monkeypatch):
    slices, evaluate = [], tf.Tensor.eval

    def recording(self, feed_dict):
        slices.append(evaluate(self, feed_dict))
        assert [value for value in feed_dict.values() if np.isscalar(value)] == [1.0]
        return slices[-1]

    monkeypatch.setattr(tf.Tensor, 'eval', recording)
    out, _ = train('--data_dir', write_mnist(tmp_path, 6000, 250), '--max_steps', 20)
    assert [len(correct) for correct in slices] == [100, 100, 50]
    assert out.splitlines()[-1] == 'test accuracy %g' % np.concatenate(slices).mean()


def test_tensorboard_shows_curves_filters_and_graph_of_all_runs(train, tmp_path):
    log_dir = tmp_path / "it's a földer"
    _, err = train('--max_steps', 101, '--log_dir', log_dir)
    assert re.search(r'^Training on the [CG]PU\.$', err, re.M)
    (command,) = [line for line in err.splitlines() if 'tensorboard' in line]
    assert shlex.split(command)[-3:] == ['tensorboard', '--logdir', str(log_dir)]
    for steps in (102, 50):
        time.sleep(1)  # a file of events has the second in its name
        train('--max_steps', steps, '--log_dir', log_dir)

    found = EventAccumulator(str(log_dir), size_guidance={'images': 0}).Reload()
    tags = found.Tags()
    curves = 'loss', 'training_accuracy', 'test_accuracy'
    assert tags['scalars'] == ['summaries/' + name for name in curves]
    assert [event.step for event in found.Scalars('summaries/loss')] == [0, 100]
    # Extending a run keeps what it reached before.
    assert [event.step for event in found.Scalars('summaries/test_accuracy')] == [101, 102, 102]
    assert len(tags['images']) == 32
    _, last = found.Images('summaries/filters/image/31')
    assert (last.step, last.height, last.width) == (100, 5, 5)
    scopes = {node.name.split('/')[0] for node in found.Graph().node}
    assert scopes == {
        *('x', 'y_', 'keep_prob', 'reshape', 'conv1', 'pool1', 'conv2', 'pool2', 'fc1', 'dropout'),
        *('fc2', 'loss', 'global_step', 'adam_optimizer', 'accuracy', 'summaries', 'save', 'init'),
    }


def variables(checkpoint):
    reader = tf.train.load_checkpoint(str(checkpoint))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def test_resumes_with_the_batches_that_were_next_and_adams_state(
    train, mnist_dir, tmp_path, monkeypatch
):
    batches, train_step = [], tf.Operation.run

    def recording(self, feed_dict):
        images, labels, keep_prob = feed_dict.values()
        assert keep_prob == 0.5
        batches.append((images, labels))
        train_step(self, feed_dict)

    monkeypatch.setattr(tf.Operation, 'run', recording)
    train('--seed', 3, '--max_steps', 12, '--log_dir', tmp_path / 'run')
    os.rename(str(tmp_path / 'run'), str(tmp_path / 'moved'))
    checkpoint = tmp_path / 'moved' / 'model.ckpt-12'
    saved = variables(checkpoint)
    for steps in (12, 5, 30):  # the first two save again what they have restored
        out, err = train('--seed', 3, '--max_steps', steps, '--log_dir', tmp_path / 'moved')
        assert f'Resuming from {checkpoint}.\n' in err
        assert re.fullmatch(r'test accuracy \S+\n', out)
    assert len(batches) == 30
    undisturbed = input_data.read_data_sets(mnist_dir, one_hot=True, seed=3).train
    for images, labels in batches:
        expected_images, expected_labels = undisturbed.next_batch(50)
        np.testing.assert_array_equal(images, expected_images)
        np.testing.assert_array_equal(labels, expected_labels)

    assert saved['global_step'] == 12
    assert saved['adam_optimizer/beta1_power'] == pytest.approx(0.9**13, rel=1e-5)
    assert saved['adam_optimizer/beta2_power'] == pytest.approx(0.999**13, rel=1e-5)
    slots = {name + slot for name in VARIABLES for slot in ('/Adam', '/Adam_1')}
    assert {name for name in saved if '/Adam' in name} == slots
    for name, value in variables(checkpoint).items():
        assert np.any(value), name
        np.testing.assert_array_equal(value, saved[name])


def saved_steps(log_dir):
    paths = glob.glob(os.path.join(str(log_dir), 'model.ckpt-*.index'))
    return {int(re.search(r'-(\d+)\.index', path).group(1)) for path in paths}


def test_keeps_three_checkpoints_and_what_another_run_is_writing(train, tmp_path):
    half = tmp_path / 'model.ckpt-9.data-00000-of-00001.tempstate123'
    half.write_bytes(b'half')
    for steps in (1, 2, 3, 4):
        train('--max_steps', steps, '--log_dir', tmp_path)
    assert saved_steps(tmp_path) == {2, 3, 4}
    assert half.read_bytes() == b'half'


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def another_network(path):
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.Variable(tf.zeros([3]), name='conv1/W')
        sess.run(tf.global_variables_initializer())
        tf.train.Saver().save(sess, path)


DATA = '.data-00000-of-00001'
DAMAGES = {
    'half its data': lambda path: os.truncate(path + DATA, 6500000),
    'no data': lambda path: os.remove(path + DATA),
    'an empty index': lambda path: os.truncate(path + '.index', 0),
    'no index': lambda path: os.remove(path + '.index'),
    'an empty state': lambda path: os.truncate(os.path.dirname(path) + '/checkpoint', 0),
    'no state': lambda path: os.remove(os.path.dirname(path) + '/checkpoint'),
    'another network': another_network,
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_refuses_to_resume_from(damage, train, refused, tmp_path, monkeypatch):
    """And says so before anything is read, downloaded or written."""
    log_dir = tmp_path / 'run'
    train('--max_steps', 1, '--log_dir', log_dir)
    DAMAGES[damage](str(log_dir / 'model.ckpt-1'))
    before = contents(log_dir)
    monkeypatch.setattr(input_data, 'MIRRORS', ('http://127.0.0.1:9/',))
    message = refused(
        mnist_deep, '--data_dir', tmp_path / 'none', '--max_steps', 2, '--log_dir', log_dir
    )
    assert re.match(f'--log_dir: {log_dir}: expected .*, found: .+$', message)
    assert contents(log_dir) == before
    assert not (tmp_path / 'none').exists()


@pytest.mark.skipif(not hasattr(os, 'seteuid'), reason='modes of files do not bind here')
@pytest.mark.parametrize(
    ('script', 'path', 'mode'),
    [(mnist_softmax, '', 0o555), (mnist_deep, '', 0o555), (mnist_deep, 'model.ckpt-1' + DATA, 0)],
)
def test_says_what_it_may_not_write_or_read(script, path, mode, train, refused):
    with tempfile.TemporaryDirectory() as log_dir:
        train('--max_steps', 1, '--log_dir', log_dir)
        os.chmod(log_dir, 0o777)
        os.chmod(os.path.join(log_dir, path), mode)
        user = os.geteuid()
        os.seteuid(user or 65534)  # modes do not bind an administrator
        try:
            message = refused(script, '--max_steps', 2, '--log_dir', log_dir)
        finally:
            os.seteuid(user)
    assert re.match(f'--log_dir: {log_dir}: .*, found: .*Permission ?[dD]enied', message)


@pytest.mark.parametrize(
    ('method', 'error'),
    [
        ('restore', tf.errors.ResourceExhaustedError(None, None, 'OOM when allocating tensor')),
        ('save', OSError('no flag or folder is to blame')),
    ],
)
def test_other_errors_keep_their_traceback(method, error, train, tmp_path, monkeypatch):
    train('--max_steps', 1, '--log_dir', tmp_path)
    monkeypatch.setattr(tf.train.Saver, method, mock.Mock(side_effect=error))
    with pytest.raises(type(error)):
        train('--max_steps', 2, '--log_dir', tmp_path)


def test_no_run_resumes_from_other_data(train, refused, tmp_path):
    sample = '--data_dir', input_data.SAMPLE_DIR
    out, _ = train('--max_steps', 1, '--log_dir', tmp_path, *sample)
    assert out.endswith(' (bundled digits, not MNIST)\n')
    before = contents(tmp_path)
    message = refused(mnist_deep, '--max_steps', 2, '--log_dir', tmp_path)
    assert message == f'--log_dir: {tmp_path}: expected no run on other data'
    assert contents(tmp_path) == before
    train('--max_steps', 2, '--log_dir', tmp_path, *sample)


@pytest.mark.parametrize('sent', ['SIGINT', 'SIGKILL'])
def test_a_stopped_run_is_resumed(sent, mnist_dir, train, tmp_path):
    train('--max_steps', 3, '--log_dir', tmp_path)
    process = start('--data_dir', mnist_dir, '--log_dir', tmp_path)
    assert process.stdout.readline().startswith('step 100, ')
    process.send_signal(getattr(signal, sent))
    out, err = process.communicate(timeout=60)
    last = 3
    if sent == 'SIGINT':
        resume = f'Resume with the same flags and --log_dir {tmp_path}'
        last = int(re.search(rf'^Stopped after step (\d+)\. {resume}$', err, re.M).group(1))
        assert process.returncode == 130
        assert 'test accuracy' not in out
        assert variables(tmp_path / f'model.ckpt-{last}')['global_step'] == last >= 100
    _, err = train('--max_steps', last + 1, '--log_dir', tmp_path)
    assert f'Resuming from {tmp_path / "model.ckpt"}-{last}.\n' in err
    assert saved_steps(tmp_path) == {3, last, last + 1}


@pytest.mark.skipif('OTHER_PYTHON' not in os.environ, reason='OTHER_PYTHON names no other runtime')
def test_checkpoints_cross_between_the_runtimes(mnist_dir, train, tmp_path):
    def theirs(*args):
        other = start('--data_dir', mnist_dir, *args, python=os.environ['OTHER_PYTHON'])
        return other.communicate()

    for i, (first, second) in enumerate([(theirs, train), (train, theirs)]):
        args = '--max_steps', 30, '--log_dir', tmp_path / str(i)
        written, _ = first(*args)
        read, err = second(*args)
        assert f'Resuming from {tmp_path / str(i)}/model.ckpt-30.\n' in err
        assert float(read.split()[-1]) == pytest.approx(float(written.split()[-1]), abs=0.002)


@pytest.mark.skipif(not IS_TF1, reason='XLA is for TensorFlow 1')
def test_xla_compiles_for_the_cpu_unless_told_not_to(mnist_dir, tmp_path):
    if tf.config.experimental.list_physical_devices('GPU'):
        pytest.skip('there is a GPU')
    dump = tmp_path / 'dump'
    for env, compiled in (({'TF_XLA_FLAGS': ''}, False), ({}, True)):
        env['XLA_FLAGS'] = f'--xla_dump_to={dump}'
        start('--data_dir', mnist_dir, '--max_steps', 2, **env).communicate()
        assert dump.exists() == compiled


def test_bfloat16_trains_close_to_float32_or_is_refused(train, refused, tmp_path):
    cpu = Path('/proc/cpuinfo')
    if IS_TF1 or not (cpu.exists() and re.search('avx512_bf16|amx_bf16', cpu.read_text())):
        assert 'expected TensorFlow 2 and a CPU' in refused(mnist_deep, '--precision', 'bfloat16')
        return
    values = []
    for precision in ('float32', 'bfloat16'):
        args = '--seed', 1, '--max_steps', 2, '--log_dir', tmp_path / precision
        train(*args, '--precision', precision)
        values.append(variables(tmp_path / precision / 'model.ckpt-2')['conv2/W'])
    difference = np.abs(np.subtract(*values))
    assert 1e-6 < difference.mean() < difference.max() < 4.1e-4  # after two steps of at most 1e-4


@pytest.mark.parametrize('script', [mnist_softmax, mnist_deep])
@pytest.mark.parametrize(
    ('flag', 'value', 'message'),
    [
        ('--max_steps', '0', 'argument --max_steps: expected 1 or more, found 0'),
        ('--max_steps', 'many', 'argument --max_steps: .*many'),
        ('--precision', 'float16', '.*float16'),
        ('--log_dir', '{}/logs', '--log_dir: {}/logs: expected .*, found.*Not a directory'),
        ('--log_dir', '{}', '--log_dir: {}: expected a folder .*, found.*File exists'),
        ('--data_dir', '{}', '.*{}'),
    ],
)
def test_what_makes_no_sense_ends_in_one_message(script, flag, value, message, refused, tmp_path):
    """Before anything is read, downloaded or written."""
    file = tmp_path / 'file'
    file.write_text('mine')
    args = '--data_dir', tmp_path / 'none', flag, value.format(file)
    assert re.match(message.format(file), refused(script, *args))
    assert os.listdir(str(tmp_path)) == ['file']
    assert file.read_text() == 'mine'


def test_a_bar_on_a_terminal_only(train, monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(sys, 'stderr', terminal)
    train('--max_steps', 2)
    assert 'steps' not in terminal.getvalue()
    terminal.isatty = lambda: True
    out, _ = train('--max_steps', 31)
    assert re.search(r'\r.*31/31 .*steps/s', terminal.getvalue())
    assert re.fullmatch(r'step 0, training accuracy \S+\ntest accuracy \S+\n', out)
