"""The convolutional network: its graph, one step against NumPy, and what the script prints."""

import fcntl
import glob
import os
import pty
import random
import re
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import write_mnist
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import input_data
import mnist_deep
import mnist_softmax

SCRIPT = mnist_deep.__file__


def run(*args, **kwargs):
    return subprocess.run(
        [sys.executable, SCRIPT, *args],
        capture_output=True,
        text=True,
        **kwargs,
    )


class Script:
    """A script to run as a process."""

    def __init__(self, module):
        self.path = module.__file__
        self.name = os.path.basename(self.path)

    def __call__(self, *args, stdout=subprocess.PIPE):
        command = [sys.executable, self.path, *args]
        return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True)


@pytest.fixture(params=[mnist_deep, mnist_softmax], ids=lambda module: module.__name__)
def both(request):
    """What holds for both scripts is tested on each."""
    return Script(request.param)


@pytest.fixture
def train(mnist_dir, monkeypatch, capsys):
    """Run the script in this process; return what it wrote to stdout and to stderr."""

    def train(*args):
        monkeypatch.setattr(sys, 'argv', [SCRIPT, '--data_dir', mnist_dir, *map(str, args)])
        with tf.Graph().as_default():
            mnist_deep.main()
        return capsys.readouterr()

    return train


@pytest.fixture
def graph(mnist_dir, monkeypatch):
    """The graph that the script leaves behind."""
    monkeypatch.setattr(sys, 'argv', [SCRIPT, '--data_dir', mnist_dir, '--max_steps', '1'])
    with tf.Graph().as_default() as graph:
        mnist_deep.main()
        yield graph


# The diagram: the page's ops in their order, each with the shape that it gives.
LAYERS = [
    ('x', 'Placeholder', [None, 784]),
    ('y_', 'Placeholder', [None, 10]),
    ('reshape', 'Reshape', [None, 28, 28, 1]),
    ('conv1', 'Conv2D', [None, 28, 28, 32]),
    ('conv1', 'AddV2', [None, 28, 28, 32]),
    ('conv1', 'Relu', [None, 28, 28, 32]),
    ('pool1', 'MaxPool', [None, 14, 14, 32]),
    ('conv2', 'Conv2D', [None, 14, 14, 64]),
    ('conv2', 'AddV2', [None, 14, 14, 64]),
    ('conv2', 'Relu', [None, 14, 14, 64]),
    ('pool2', 'MaxPool', [None, 7, 7, 64]),
    ('fc1', 'Reshape', [None, 7 * 7 * 64]),
    ('fc1', 'MatMul', [None, 1024]),
    ('fc1', 'AddV2', [None, 1024]),
    ('fc1', 'Relu', [None, 1024]),
    ('keep_prob', 'Placeholder', None),
    ('fc2', 'MatMul', [None, 10]),
    ('fc2', 'AddV2', [None, 10]),
    ('fc2', 'Softmax', [None, 10]),
    ('loss', 'SoftmaxCrossEntropyWithLogits', [None]),
    ('loss', 'Mean', []),
    ('accuracy', 'ArgMax', [None]),
    ('accuracy', 'ArgMax', [None]),
    ('accuracy', 'Equal', [None]),
    ('accuracy', 'Cast', [None]),
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
            if shape.ndims and op.type == 'SoftmaxCrossEntropyWithLogits':
                shape = tf.TensorShape([None])
            found.append((scope, kind, shape.as_list() if shape.ndims is not None else None))
    assert found == LAYERS


def test_tensors_that_a_user_fetches(graph):
    shapes = {
        'x:0': [None, 784],
        'y_:0': [None, 10],
        'fc2/logits:0': [None, 10],
        'fc2/probabilities:0': [None, 10],
        'loss/cross_entropy:0': [],
        'accuracy/correct_prediction:0': [None],
        'accuracy/accuracy:0': [],
    }
    found = {name: graph.get_tensor_by_name(name).shape.as_list() for name in shapes}
    assert found == shapes
    assert graph.get_tensor_by_name('keep_prob:0').dtype == tf.float32


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


def test_deepnn_returns_logits_not_probabilities():
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, 784])
        y_conv, keep_prob = mnist_deep.deepnn(x)
        assert y_conv.name == 'fc2/logits:0'
        sess.run(tf.global_variables_initializer())
        feed = {x: np.random.RandomState(1).uniform(size=(5, 784)), keep_prob: 1.0}
        logits, probabilities = sess.run([y_conv, 'fc2/probabilities:0'], feed)
    assert logits.min() < 0
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(
        probabilities, exponentials / exponentials.sum(1, keepdims=True), rtol=1e-4
    )


def test_one_step_against_numpy(graph):
    """Loss, gradients (through Adam's first moments) and new values, dropout included."""
    random = np.random.RandomState(1)
    x = random.uniform(size=(6, 784)).astype(np.float32)
    y_ = np.eye(10, dtype=np.float32)[random.randint(10, size=6)]
    weights = {v.op.name: v for v in tf.trainable_variables()}
    slots = {v.op.name: v for v in tf.global_variables()}
    (before_dropout,) = [
        op.outputs[0] for op in graph.get_operations() if op.name.startswith('fc1/Relu')
    ]
    after_dropout = graph.get_operation_by_name('fc2/MatMul').inputs[0]
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        old = sess.run(weights)
        loss, h_fc1, h_fc1_drop, _ = sess.run(
            ['loss/cross_entropy:0', before_dropout, after_dropout, 'adam_optimizer/Adam'],
            {'x:0': x, 'y_:0': y_, 'keep_prob:0': 0.5},
        )
        new = sess.run(weights)
        moments = sess.run({name: slots[name + '/Adam'] for name in weights})

    kept = h_fc1_drop != 0
    assert 0.4 < kept[h_fc1 > 0].mean() < 0.6
    np.testing.assert_allclose(h_fc1_drop[kept], 2 * h_fc1[kept], rtol=1e-6)

    expected_loss, gradients = loss_and_gradients(old, x, y_, 2.0 * kept)
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    for name, gradient in gradients.items():
        largest = np.abs(gradient).max()
        np.testing.assert_allclose(
            moments[name] / 0.1, gradient, rtol=1e-3, atol=1e-5 * largest, err_msg=name
        )
        # Adam's first step, from m = 0.1 g and v = 0.001 g^2, both corrected for their bias.
        clear = np.abs(gradient) > 1e-3 * largest
        step = 1e-4 * gradient / (np.abs(gradient) + 1e-8 / np.sqrt(0.001))
        np.testing.assert_allclose(
            (new[name] - old[name])[clear], -step[clear], rtol=1e-2, atol=2e-8, err_msg=name
        )


def loss_and_gradients(weights, x, y_, dropout):
    """The network in NumPy, with `dropout` as the factor of each neuron of the dense layer."""
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    n = len(x)
    image = x.reshape(n, 28, 28, 1).astype(np.float64)
    conv1 = convolve(image, w['conv1/W']) + w['conv1/b']
    pool1 = pool(np.maximum(conv1, 0))
    conv2 = convolve(pool1, w['conv2/W']) + w['conv2/b']
    pool2 = pool(np.maximum(conv2, 0))
    flat = pool2.reshape(n, -1)
    fc1 = flat @ w['fc1/W'] + w['fc1/b']
    drop = np.maximum(fc1, 0) * dropout
    logits = drop @ w['fc2/W'] + w['fc2/b']
    log_sum = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
    log_probabilities = logits - logits.max(1, keepdims=True) - log_sum

    d_logits = (np.exp(log_probabilities) - y_) / n
    d_fc1 = d_logits @ w['fc2/W'].T * dropout * (fc1 > 0)
    d_pool2 = (d_fc1 @ w['fc1/W'].T).reshape(pool2.shape)
    d_conv2 = unpool(d_pool2, np.maximum(conv2, 0)) * (conv2 > 0)
    d_pool1 = convolve(d_conv2, w['conv2/W'][::-1, ::-1].transpose(0, 1, 3, 2))
    d_conv1 = unpool(d_pool1, np.maximum(conv1, 0)) * (conv1 > 0)
    gradients = {
        'conv1/W': filter_gradient(image, d_conv1),
        'conv1/b': d_conv1.sum((0, 1, 2)),
        'conv2/W': filter_gradient(pool1, d_conv2),
        'conv2/b': d_conv2.sum((0, 1, 2)),
        'fc1/W': flat.T @ d_fc1,
        'fc1/b': d_fc1.sum(0),
        'fc2/W': drop.T @ d_logits,
        'fc2/b': d_logits.sum(0),
    }
    return -np.mean((y_ * log_probabilities).sum(1)), gradients


def shifted(images):
    """Each of the 5 x 5 shifts of images with two rows and columns of zeros around them."""
    height, width = images.shape[1:3]
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)], 'constant')
    for dy in range(5):
        for dx in range(5):
            yield dy, dx, padded[:, dy : dy + height, dx : dx + width]


def convolve(images, filters):
    return sum(patch @ filters[dy, dx] for dy, dx, patch in shifted(images))


def filter_gradient(images, d_output):
    gradient = np.empty((5, 5, images.shape[3], d_output.shape[3]))
    for dy, dx, patch in shifted(images):
        gradient[dy, dx] = np.tensordot(patch, d_output, axes=[(0, 1, 2), (0, 1, 2)])
    return gradient


def pool(images):
    n, height, width, depth = images.shape
    return images.reshape(n, height // 2, 2, width // 2, 2, depth).max((2, 4))


def unpool(d_output, images):
    """Route each gradient to the pixel that was the largest of its 2 x 2."""
    largest = pool(images).repeat(2, 1).repeat(2, 2)
    return (images == largest) * d_output.repeat(2, 1).repeat(2, 2)


def test_prints_the_lines_of_the_page_and_nothing_else(mnist_dir, tmp_path):
    os.symlink(mnist_dir, str(tmp_path / 'data'))
    args = '--data_dir', 'data', '--max_steps', '201', '--seed', '1'
    first, second = (run(*args, cwd=str(tmp_path)) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    pattern = (
        r'step 0, training accuracy (\S+)\n'
        r'step 100, training accuracy (\S+)\n'
        r'step 200, training accuracy (\S+)\n'
        r'test accuracy (\S+)\n'
    )
    found = re.fullmatch(pattern, first.stdout)
    assert found, first.stdout
    accuracies = [float(text) for text in found.groups()]
    assert accuracies[2] > accuracies[0]
    assert all(0 <= accuracy <= 1 for accuracy in accuracies)
    assert found.groups() == tuple('%g' % accuracy for accuracy in accuracies)


def test_another_seed_is_another_run(mnist_dir):
    first, second = (
        run('--data_dir', mnist_dir, '--max_steps', '101', '--seed', seed).stdout
        for seed in ('1', '2')
    )
    assert first.count('\n') == second.count('\n') == 3
    assert first != second


def test_says_what_it_trains_on_and_nothing_like_an_error(mnist_dir):
    result = run('--data_dir', mnist_dir, '--max_steps', '1')
    # TensorFlow 2's own two lines, which no setting of TensorFlow silences.
    chatter = re.compile(r'WARNING: All log messages before absl|I0000 .* MLIR V1')
    lines = [line for line in result.stderr.splitlines() if not chatter.match(line)]
    assert re.fullmatch(r'Training on the (CPU(, since .*)?|GPU \(.*\) with CUDA .*)\.', lines[0])
    assert re.fullmatch(r'To watch it learn: tensorboard --logdir \S+', lines[1])
    assert len(lines) == 2
    log_dir = shlex.split(lines[1])[-1]
    assert os.path.exists(os.path.join(log_dir, 'model.ckpt-1.index'))


def test_events(mnist_dir, train, tmp_path):
    train('--max_steps', 101, '--log_dir', tmp_path)
    (path,) = glob.glob(str(tmp_path / 'events.out.tfevents.*'))
    scalars, images, graphs = {}, {}, []
    for event in tf.train.summary_iterator(path):
        if event.graph_def:
            graphs.append(tf.GraphDef.FromString(event.graph_def))
        for value in event.summary.value:
            if value.HasField('image'):
                images[value.tag] = (event.step, value.image.height, value.image.width)
            else:
                scalars.setdefault(value.tag, []).append(event.step)
    assert scalars == {
        'summaries/loss': [0, 100],
        'summaries/training_accuracy': [0, 100],
        'summaries/test_accuracy': [101],
    }
    assert images == {f'summaries/filters/image/{i}': (100, 5, 5) for i in range(32)}
    (graph,) = graphs
    scopes = {node.name.split('/')[0] for node in graph.node}
    assert scopes == {
        *('x', 'y_', 'keep_prob', 'reshape', 'conv1', 'pool1', 'conv2', 'pool2', 'fc1', 'dropout'),
        *('fc2', 'loss', 'adam_optimizer', 'accuracy', 'summaries', 'save'),
    }


def test_resumes_with_the_batches_that_would_have_come(train, tmp_path, monkeypatch):
    batches = []
    next_batch = input_data.DataSet.next_batch

    def recording(self, batch_size):
        batches.append(next_batch(self, batch_size))
        return batches[-1]

    monkeypatch.setattr(input_data.DataSet, 'next_batch', recording)
    train('--seed', 3, '--max_steps', 30, '--log_dir', tmp_path / 'undisturbed')
    undisturbed, batches[:] = batches[:], []
    train('--seed', 3, '--max_steps', 12, '--log_dir', tmp_path / 'resumed')
    del batches[:]
    out, err = train('--seed', 3, '--max_steps', 30, '--log_dir', tmp_path / 'resumed')
    assert f'Resuming from {tmp_path / "resumed" / "model.ckpt-12"}.\n' in err
    assert re.fullmatch(r'test accuracy \S+\n', out)
    assert len(undisturbed) == 30
    for (images, labels), (expected_images, expected_labels) in zip(
        batches[-18:], undisturbed[12:]
    ):
        np.testing.assert_array_equal(images, expected_images)
        np.testing.assert_array_equal(labels, expected_labels)


def test_a_finished_run_is_evaluated_again(train, tmp_path):
    first, _ = train('--max_steps', 3, '--log_dir', tmp_path)
    second, err = train('--max_steps', 3, '--log_dir', tmp_path)
    assert f'Resuming from {tmp_path / "model.ckpt-3"}.\nAll 3 steps are done: evaluating.\n' in err
    assert second == first.splitlines()[-1] + '\n'


def test_fewer_steps_than_are_done_already(train, tmp_path):
    first, _ = train('--max_steps', 3, '--log_dir', tmp_path)
    second, err = train('--max_steps', 2, '--log_dir', tmp_path)
    assert 'All 3 steps are done: evaluating.\n' in err
    assert second == first.splitlines()[-1] + '\n'
    assert saved_steps(tmp_path) == {3}


def test_resuming_keeps_every_event(train, tmp_path):
    for steps in (1, 2, 2):
        train('--max_steps', steps, '--log_dir', tmp_path)
        time.sleep(1)  # a file of events has the second in its name
    # TensorBoard drops what an earlier file has from the step on at which a later one starts.
    found = EventAccumulator(str(tmp_path), size_guidance={'images': 0}).Reload()
    assert [event.step for event in found.Images('summaries/filters/image/0')] == [0, 1]
    assert [event.step for event in found.Scalars('summaries/loss')] == [0]
    assert [event.step for event in found.Scalars('summaries/test_accuracy')] == [2]


def test_keeps_three_checkpoints(train, tmp_path):
    for steps in (1, 2, 3, 4):
        train('--max_steps', steps, '--log_dir', tmp_path)
    found = sorted(os.path.basename(path) for path in glob.glob(str(tmp_path / '*.index')))
    assert found == ['model.ckpt-2.index', 'model.ckpt-3.index', 'model.ckpt-4.index']


def truncate_data(path):
    os.truncate(path + '.data-00000-of-00001', 1000000)


def truncate_index(path):
    os.truncate(path + '.index', 100)


def empty_index(path):
    os.truncate(path + '.index', 0)


def flip_bits(path):
    with open(path + '.data-00000-of-00001', 'r+b') as f:
        f.seek(3000000)
        f.write(b'\xff' * 100)


def remove_data(path):
    os.remove(path + '.data-00000-of-00001')


def remove_index(path):
    os.remove(path + '.index')


def leave_the_graph_alone(path):
    remove_data(path)
    remove_index(path)


def another_network(path):
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.Variable(tf.zeros([3]), name='conv1/W')
        sess.run(tf.global_variables_initializer())
        tf.train.Saver().save(sess, path)


DAMAGES = [
    truncate_data,
    truncate_index,
    empty_index,
    flip_bits,
    remove_data,
    remove_index,
    leave_the_graph_alone,
    another_network,
]


def test_a_damaged_checkpoint_gives_way_to_an_older_one(train, tmp_path):
    steps = 2
    train('--max_steps', 1, '--log_dir', tmp_path)
    for damage in DAMAGES:
        train('--max_steps', steps, '--log_dir', tmp_path)
        newest = str(tmp_path / f'model.ckpt-{steps}')
        damage(newest)
        _, err = train('--max_steps', steps + 1, '--log_dir', tmp_path)
        lines = err.splitlines()
        told = [line for line in lines if line.startswith(newest + ': expected a checkpoint of ')]
        assert len(told) == 1, (damage, err)
        assert 'Graph execution error' not in told[0]
        resumed = [line for line in lines if line.startswith('Resuming from ')]
        assert resumed == [f'Resuming from {tmp_path / "model.ckpt"}-{steps - 1}.']
        steps += 2


@pytest.mark.parametrize('damage', DAMAGES)
def test_no_restart_from_zero_over_damaged_checkpoints(damage, train, tmp_path, capsys):
    train('--max_steps', 1, '--log_dir', tmp_path)
    damage(str(tmp_path / 'model.ckpt-1'))
    before = sorted(os.listdir(str(tmp_path)))
    with pytest.raises(SystemExit) as exit:
        train('--max_steps', 2, '--log_dir', tmp_path)
    assert str(exit.value) == (
        f'mnist_deep.py: error: --log_dir: nothing in {tmp_path} can be resumed. '
        'Remove it or name another folder.'
    )
    assert capsys.readouterr().out == ''
    checkpoints = [name for name in os.listdir(str(tmp_path)) if 'tfevents' not in name]
    assert sorted(checkpoints) == [name for name in before if 'tfevents' not in name]


def test_checkpoints_of_somebody_else(train, tmp_path):
    another_network(str(tmp_path / 'theirs'))
    before = {name: (tmp_path / name).read_bytes() for name in os.listdir(str(tmp_path))}
    with pytest.raises(SystemExit) as exit:
        train('--max_steps', 2, '--log_dir', tmp_path)
    assert str(exit.value).startswith('mnist_deep.py: error: --log_dir: expected a folder of this ')
    assert f'found {tmp_path / "theirs."}' in str(exit.value)
    for name, content in before.items():
        assert (tmp_path / name).read_bytes() == content


def test_no_run_resumes_from_other_data(train, tmp_path):
    train('--max_steps', 1, '--log_dir', tmp_path, '--data_dir', input_data.SAMPLE_DIR)
    with pytest.raises(SystemExit) as exit:
        train('--max_steps', 2, '--log_dir', tmp_path)
    assert re.fullmatch(
        r'mnist_deep.py: error: --log_dir: expected a folder of this script on the same data, '
        rf'found {tmp_path}/bundled_digits\.ckpt-1\.\S+\. Name another one\.',
        str(exit.value),
    )
    out, err = train('--max_steps', 1, '--log_dir', tmp_path, '--data_dir', input_data.SAMPLE_DIR)
    assert 'All 1 steps are done' in err
    assert out.endswith(' (bundled digits, not MNIST)\n')


def test_names_with_spaces_and_other_letters(train, tmp_path):
    log_dir = tmp_path / "it's a földer"
    train('--max_steps', 1, '--log_dir', log_dir)
    _, err = train('--max_steps', 2, '--log_dir', log_dir)
    assert re.search(r'^Resuming from .*/model\.ckpt-1\.$', err, re.M)
    (command,) = [line for line in err.splitlines() if 'tensorboard' in line]
    assert shlex.split(command)[-3:] == ['tensorboard', '--logdir', str(log_dir)]


@pytest.mark.parametrize('name', ['run[1]', 'run*', 'run?'])
def test_names_that_tensorflow_takes_for_patterns(name, train, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit:
        train('--log_dir', tmp_path / name)
    assert str(exit.value) == (
        f'mnist_deep.py: error: --log_dir: {tmp_path / name}: expected a folder to write to, '
        'found: one of [ ] * ? \\, which are patterns to TensorFlow. Name another one.'
    )
    assert capsys.readouterr().out == ''
    assert not (tmp_path / name).exists()


def test_log_dir_that_cannot_be_written(both, mnist_dir, tmp_path):
    file = tmp_path / 'file'
    file.write_text('mine')
    result = both('--data_dir', mnist_dir, '--log_dir', str(file / 'logs'))
    assert result.returncode == 1
    assert result.stdout == ''
    assert result.stderr == (
        f'{both.name}: error: --log_dir: {file / "logs"}: expected a folder to write to, '
        'found: Not a directory. Name another one.\n'
    )
    assert file.read_text() == 'mine'


@pytest.mark.parametrize('script', [mnist_deep, mnist_softmax])
def test_no_temporary_folder(script, mnist_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'missing'))
    monkeypatch.setattr(sys, 'argv', [script.__file__, '--data_dir', mnist_dir])
    with pytest.raises(SystemExit) as exit:
        script.main()
    assert str(exit.value) == (
        f'{script.__name__}.py: error: --log_dir: temporary: expected a folder to write to, '
        'found: No such file or directory. Name another one.'
    )
    assert capsys.readouterr().out == ''


def test_standard_output_that_nobody_reads(both, mnist_dir):
    reader, writer = os.pipe()
    os.close(reader)
    for stdout, reason in [(writer, 'Broken pipe'), (full_device(), 'No space left on device')]:
        result = both('--data_dir', mnist_dir, '--max_steps', '1', stdout=stdout)
        os.close(stdout)
        assert result.returncode == 1
        assert result.stderr.splitlines()[-1] == (
            f'{both.name}: error: standard output: expected to be written to, found: {reason}'
        )
        assert 'Traceback' not in result.stderr
        assert 'Exception' not in result.stderr


def full_device():
    return os.open('/dev/full', os.O_WRONLY)


@pytest.mark.skipif(not os.path.exists('/proc/self/maps'), reason='sees imports in /proc alone')
@pytest.mark.parametrize('package', ['numpy', 'tensorflow'])
def test_ctrl_c_while_importing(package, both, mnist_dir):
    with subprocess.Popen(
        [sys.executable, both.path, '--data_dir', mnist_dir],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        maps = Path('/proc', str(process.pid), 'maps')
        wait_until(lambda: f'/site-packages/{package}' in maps.read_text(), process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130)  # a shell shows the first as 130, too
    assert (out, err) == ('', '')


def test_ctrl_c_that_is_ignored(both, mnist_dir, tmp_path):
    """As a shell starts what runs in its background."""
    process = subprocess.Popen(
        [sys.executable, both.path, '--data_dir', mnist_dir, '--max_steps', '101'],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    out, _ = process.communicate()
    assert process.returncode == 0
    assert re.search(r'^test accuracy \S+$', out, re.M)


def test_log_dir_whose_name_is_no_text(both, mnist_dir, tmp_path):
    log_dir = os.fsencode(str(tmp_path)) + b'/x\xff'
    result = both('--data_dir', mnist_dir, '--log_dir', log_dir)
    assert result.returncode == 1
    (message,) = result.stderr.splitlines()
    assert message.startswith(f'{both.name}: error: --log_dir: ')
    assert 'expected a folder to write to, found: ' in message
    assert not os.path.exists(log_dir)


def start(*args, **kwargs):
    """Start the script with a checkpoint every 5 steps."""
    code = 'import mnist_deep; mnist_deep.CHECKPOINT_STEPS = 5; mnist_deep.main()'
    return subprocess.Popen(
        [sys.executable, '-u', '-c', code, *args],
        cwd=os.path.dirname(SCRIPT),
        stdout=subprocess.PIPE,
        stderr=kwargs.pop('stderr', subprocess.PIPE),
        text=True,
    )


def saved_steps(log_dir):
    paths = glob.glob(str(log_dir / 'model.ckpt-*.index'))
    return {int(re.search(r'-(\d+)\.index', path).group(1)) for path in paths}


def wait_until(condition, process, seconds=120):
    deadline = time.time() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.time() < deadline
        time.sleep(0.01)


def test_ctrl_c_saves_and_says_how_to_resume(mnist_dir, tmp_path):
    process = start('--data_dir', mnist_dir, '--log_dir', str(tmp_path))
    wait_until(lambda: saved_steps(tmp_path), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert 'Traceback' not in err
    (step,) = re.findall(
        r'^Stopped after step (\d+)\. Resume with the same flags and --log_dir (?:.*)$', err, re.M
    )
    assert max(saved_steps(tmp_path)) == int(step)


def test_ctrl_c_while_the_last_checkpoint_is_saved(train, tmp_path, monkeypatch, capsys):
    save = tf.train.Saver.save

    def slow(self, *args, **kwargs):
        os.kill(os.getpid(), signal.SIGINT)
        return save(self, *args, **kwargs)

    monkeypatch.setattr(tf.train.Saver, 'save', slow)
    with pytest.raises(SystemExit) as exit:
        train('--max_steps', 2, '--log_dir', tmp_path)
    assert exit.value.code == 130
    out, err = capsys.readouterr()
    assert err.endswith(
        f'Stopped after step 2. Resume with the same flags and --log_dir {tmp_path}\n'
    )
    assert 'test accuracy' not in out
    assert saved_steps(tmp_path) == {2}


def test_ctrl_c_while_evaluating(train, tmp_path, monkeypatch, capsys):
    train('--max_steps', 1, '--log_dir', tmp_path)
    evaluate = tf.Tensor.eval

    def interrupted(self, feed_dict):
        os.kill(os.getpid(), signal.SIGINT)
        return evaluate(self, feed_dict)

    monkeypatch.setattr(tf.Tensor, 'eval', interrupted)
    with pytest.raises(SystemExit) as exit:
        train('--max_steps', 1, '--log_dir', tmp_path)
    assert exit.value.code == 130
    out, err = capsys.readouterr()
    assert err.endswith(f'Stopped. Resume with the same flags and --log_dir {tmp_path}\n')
    assert out == ''


def test_a_checkpoint_that_another_run_is_writing(train, tmp_path):
    writing = tmp_path / 'model.ckpt-7.data-00000-of-00001.tempstate123'
    killed = tmp_path / 'model.ckpt-3.data-00000-of-00001.tempstate456'
    for path in (writing, killed):
        path.write_bytes(b'half')
    os.utime(str(killed), (time.time() - 3600,) * 2)
    train('--max_steps', 1, '--log_dir', tmp_path)
    assert writing.exists()
    assert not killed.exists()


def test_sigkill_loses_no_checkpoint(mnist_dir, tmp_path):
    moments = random.Random(1)
    saved = 0
    for _ in range(4):
        steps = str(saved + 1000)
        process = start(
            *('--data_dir', mnist_dir, '--log_dir', str(tmp_path), '--max_steps', steps),
            stderr=subprocess.STDOUT,
        )
        newest = saved
        wait_until(lambda newest=newest: max(saved_steps(tmp_path), default=0) > newest, process)
        time.sleep(moments.uniform(0, 0.5))
        process.kill()
        out, _ = process.communicate()
        if saved:
            (resumed,) = re.findall(r'^Resuming from .*-(\d+)\.$', out, re.M)
            assert int(resumed) >= saved
        else:
            assert 'Resuming' not in out
        saved = max(saved_steps(tmp_path))


def trained(log_dir, *args):
    """The variables after two steps of a process of its own."""
    result = run('--seed', '1', '--max_steps', '2', '--log_dir', str(log_dir), *args)
    assert result.returncode == 0, result.stderr
    reader = tf.train.load_checkpoint(str(log_dir / 'model.ckpt-2'))
    return {name: reader.get_tensor(name) for name in VARIABLES}


@pytest.mark.skipif(not tf.VERSION.startswith('1.'), reason='XLA is for TensorFlow 1')
def test_xla_compiles_for_the_cpu_unless_switched_off(mnist_dir, tmp_path, monkeypatch):
    if tf.test.is_gpu_available():
        pytest.skip('there is a GPU')
    monkeypatch.setenv('XLA_FLAGS', f'--xla_dump_to={tmp_path / "compiled"}')
    args = '--data_dir', mnist_dir, '--max_steps', '2'
    assert run(*args, '--no_xla').returncode == 0
    assert not (tmp_path / 'compiled').exists()
    assert run(*args).returncode == 0
    assert os.listdir(str(tmp_path / 'compiled'))


def test_xla_changes_nothing_but_rounding(mnist_dir, tmp_path):
    compiled = trained(tmp_path / 'compiled', '--data_dir', mnist_dir)
    plain = trained(tmp_path / 'plain', '--data_dir', mnist_dir, '--no_xla')
    for name, value in plain.items():
        # A step of Adam is 1e-4, whatever the gradient, so signs of tiny ones may turn a few.
        difference = np.abs(compiled[name] - value)
        assert difference.max() <= 4.1e-4
        assert np.mean(difference > 1e-6) < 0.01, name


def test_bfloat16_is_close_to_float32_and_not_equal(mnist_dir, tmp_path):
    lacking = mnist_deep.what_lacks_bfloat16()
    if lacking:
        pytest.skip(f'bfloat16 cannot be had: {lacking}')
    exact = trained(tmp_path / 'exact', '--data_dir', mnist_dir)
    rounded = trained(tmp_path / 'rounded', '--data_dir', mnist_dir, '--precision', 'bfloat16')
    for name, value in exact.items():
        assert rounded[name].dtype == np.float32
        assert np.abs(rounded[name] - value).max() <= 4.1e-4
    assert np.mean(np.abs(rounded['conv2/W'] - exact['conv2/W']) > 1e-6) > 0.01


def test_bfloat16_where_it_cannot_be_had(tmp_path, monkeypatch, capsys):
    (tmp_path / 'cpuinfo').write_text('flags: fpu avx2 avx512f\n')
    monkeypatch.setattr(mnist_deep, 'CPU_INFO', str(tmp_path / 'cpuinfo'))
    monkeypatch.setattr(tf.config.experimental, 'list_physical_devices', lambda kind: [])
    monkeypatch.setattr(sys, 'argv', [SCRIPT, '--precision', 'bfloat16'])
    with pytest.raises(SystemExit) as exit:
        mnist_deep.main()
    assert exit.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith('mnist_deep.py: error: argument --precision: bfloat16: expected ')
    found = f'TensorFlow {tf.VERSION}' if tf.VERSION.startswith('1.') else 'a CPU without'
    assert message.endswith(f'found {found}. Leave the flag out to train in float32.')


def test_precision_that_there_is_not():
    result = run('--precision', 'float16')
    assert result.returncode == 2
    assert result.stdout == ''
    message = result.stderr.splitlines()[-1]
    assert message.startswith('mnist_deep.py: error: argument --precision: ')
    assert re.search('float16.*float32.*bfloat16', message)


@pytest.fixture
def small_disk(tmp_path):
    """A file system with room for the events and one checkpoint."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', 'size=60m', 'tmpfs', str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f'no file system can be mounted: {error}')
    if mounted.returncode:
        pytest.skip(f'no file system can be mounted: {mounted.stderr}')
    yield folder
    subprocess.run(['umount', '--lazy', str(folder)], check=True)


def test_full_disk_ends_in_one_message_and_keeps_the_last_checkpoint(small_disk, train, capsys):
    train('--max_steps', 1, '--log_dir', small_disk)
    with pytest.raises(SystemExit) as exit:
        train('--max_steps', 2, '--log_dir', small_disk)
    message = str(exit.value)
    assert message.startswith('mnist_deep.py: error: --log_dir: cannot write: ')
    assert 'No space left on device' in message
    assert saved_steps(small_disk) == {1}
    assert not glob.glob(str(small_disk / '*tempstate*'))
    assert 'Traceback' not in capsys.readouterr().err
    _, err = train('--max_steps', 1, '--log_dir', small_disk)
    assert re.search(r'^Resuming from .*/model\.ckpt-1\.$', err, re.M)


@pytest.mark.skipif('OTHER_PYTHON' not in os.environ, reason='OTHER_PYTHON names no other runtime')
def test_checkpoints_cross_between_the_runtimes(mnist_dir, train, tmp_path):
    def other(*args):
        return subprocess.run(
            [os.environ['OTHER_PYTHON'], SCRIPT, '--data_dir', mnist_dir, *args],
            capture_output=True,
            text=True,
        )

    theirs, ours = str(tmp_path / 'theirs'), str(tmp_path / 'ours')
    written = other('--max_steps', '30', '--log_dir', theirs)
    out, err = train('--max_steps', 30, '--log_dir', theirs)
    assert f'Resuming from {theirs}/model.ckpt-30.\n' in err
    assert float(out.split()[-1]) == pytest.approx(float(written.stdout.split()[-1]), abs=0.002)

    written, _ = train('--max_steps', 30, '--log_dir', ours)
    read = other('--max_steps', '30', '--log_dir', ours)
    assert f'Resuming from {ours}/model.ckpt-30.\n' in read.stderr
    assert float(read.stdout.split()[-1]) == pytest.approx(float(written.split()[-1]), abs=0.002)


def test_a_bar_on_a_terminal_only(mnist_dir):
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 100, 0, 0))
    process = start('--data_dir', mnist_dir, '--max_steps', '31', stderr=end)
    os.close(end)
    shown = b''
    while True:
        try:
            piece = os.read(terminal, 1 << 16)
        except OSError:  # all have closed the other end
            break
        shown += piece
    out, _ = process.communicate()
    os.close(terminal)
    assert re.search(rb'\r.*31/31 .*steps/s', shown)
    assert re.fullmatch(r'step 0, training accuracy \S+\ntest accuracy \S+\n', out)

    process = start('--data_dir', mnist_dir, '--max_steps', '101')
    _, err = process.communicate()
    assert '\r' not in err
    assert 'steps/s' not in err


def test_says_why_a_gpu_is_not_used(train, tmp_path, monkeypatch):
    """A machine whose driver answers, while TensorFlow finds none of its libraries."""
    driver = tmp_path / 'nvidia-smi'
    driver.write_text('#!/bin/sh\n')
    driver.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path), prepend=os.pathsep)
    if not tf.test.is_built_with_cuda():
        pytest.skip('this TensorFlow was built without CUDA')
    if tf.test.is_gpu_available():
        pytest.skip('there is a GPU')
    _, err = train('--max_steps', 1)
    (line,) = [line for line in err.splitlines() if line.startswith('Training on ')]
    assert re.fullmatch(
        r'Training on the CPU, since .* was built for CUDA \d\S*: .*(ould not|failed).*',
        line,
    )


@pytest.mark.parametrize('value', ['0', '-3', 'many', '1.5', '²'])
def test_steps_that_are_no_count(value, both):
    result = both(f'--max_steps={value}')
    assert result.returncode == 2
    assert result.stdout == ''
    assert result.stderr.splitlines()[-1] == (
        f'{both.name}: error: argument --max_steps: expected a whole number from 1, found {value}'
    )


def test_broken_file_ends_in_one_message(tmp_path):
    write_mnist(tmp_path, train=600, test=100)
    broken = tmp_path / input_data.TEST_LABELS
    broken.write_bytes(b'<html>403</html>')
    result = run('--data_dir', str(tmp_path))
    assert result.returncode == 1
    assert result.stdout == ''
    (message,) = result.stderr.splitlines()
    assert message.startswith(f'mnist_deep.py: error: {broken}: expected a whole gzip file')
    assert broken.read_bytes() == b'<html>403</html>'


@pytest.mark.skipif(not tf.VERSION.startswith('1.'), reason='the promise is for TensorFlow 1')
def test_peak_memory(tmp_path):
    """On data as large as MNIST, test images included."""
    full = write_mnist(tmp_path, train=60000, test=10000)
    process = subprocess.Popen(
        [sys.executable, SCRIPT, '--data_dir', full, '--max_steps', '101'],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    assert usage.ru_maxrss < 1e9 / 1024


def test_accuracy_on_mnist(real_mnist_dir):
    args = '--max_steps', '1000', '--seed', '1', '--data_dir', real_mnist_dir
    last = run(*args).stdout.splitlines()[-1]
    assert float(last.replace('test accuracy ', '')) >= 0.95
