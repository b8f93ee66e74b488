"""The convolutional network: its graph, one step against NumPy, and what the script prints."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import write_mnist

import input_data
import mnist_deep

SCRIPT = mnist_deep.__file__


def run(*args, **kwargs):
    return subprocess.run(
        [sys.executable, SCRIPT, *args],
        capture_output=True,
        text=True,
        **kwargs,
    )


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


@pytest.mark.parametrize('value', ['0', '-3', 'many', '1.5'])
def test_steps_that_are_no_count(value, monkeypatch, capsys):
    monkeypatch.setattr(sys, 'argv', [SCRIPT, '--max_steps', value])
    with pytest.raises(SystemExit) as exit:
        mnist_deep.main()
    assert exit.value.code == 2
    out, err = capsys.readouterr()
    assert out == ''
    assert err.splitlines()[-1].startswith('mnist_deep.py: error: argument --max_steps: ')
    assert value in err.splitlines()[-1]


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


def test_accuracy_on_mnist(real_mnist_dir):
    args = '--max_steps', '1000', '--seed', '1', '--data_dir', real_mnist_dir
    last = run(*args).stdout.splitlines()[-1]
    assert float(last.replace('test accuracy ', '')) >= 0.95
