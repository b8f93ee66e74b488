"""The softmax script: its graph, one step against NumPy, and what it prints."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import write_mnist

import input_data
import mnist_softmax

SCRIPT = mnist_softmax.__file__


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
        mnist_softmax.main()
        yield graph


def test_tensors_that_a_user_fetches(graph):
    shapes = {
        'x:0': [None, 784],
        'y_:0': [None, 10],
        'softmax/W:0': [784, 10],
        'softmax/b:0': [10],
        'softmax/logits:0': [None, 10],
        'softmax/probabilities:0': [None, 10],
        'loss/cross_entropy:0': [],
        'accuracy/correct_prediction:0': [None],
        'accuracy/accuracy:0': [],
    }
    variables = {v.name: v for v in tf.global_variables()}
    found = {
        name: (variables[name] if name in variables else graph.get_tensor_by_name(name))
        for name in shapes
    }
    assert {name: tensor.shape.as_list() for name, tensor in found.items()} == shapes
    assert sorted(variables) == ['softmax/W:0', 'softmax/b:0']
    assert graph.get_operation_by_name('softmax/logits').type.startswith('Add')


def test_optimizer(graph):
    updates = [op for op in graph.get_operations() if 'GradientDescent' in op.type]
    assert len(updates) == 2
    with tf.Session() as sess:
        for update in updates:
            (rate,) = [t for t in update.inputs if 'learning_rate' in t.name]
            assert sess.run(rate) == np.float32(0.5)


def test_one_step_against_numpy(graph):
    random = np.random.RandomState(1)
    x = random.uniform(size=(8, 784)).astype(np.float32)
    y_ = np.eye(10)[random.randint(10, size=8)]
    W, b = 0.1 * random.standard_normal((784, 10)), random.standard_normal(10)

    logits = x.astype(np.float64) @ W + b
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    loss = -np.mean(np.sum(y_ * np.log(probabilities), 1))
    gradient = (probabilities - y_) / len(x)
    correct = np.mean(logits.argmax(1) == y_.argmax(1))

    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        variables = {v.op.name: v for v in tf.global_variables()}
        for variable in variables.values():
            np.testing.assert_array_equal(sess.run(variable), 0)
        variables['softmax/W'].load(W, sess)
        variables['softmax/b'].load(b, sess)
        feed = {'x:0': x, 'y_:0': y_}
        found = sess.run(
            [
                'softmax/logits:0',
                'softmax/probabilities:0',
                'loss/cross_entropy:0',
                'accuracy/accuracy:0',
            ],
            feed,
        )
        for value, expected in zip(found, [logits, probabilities, loss, correct]):
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
        sess.run('gradient_descent/GradientDescent', feed)
        np.testing.assert_allclose(
            sess.run(variables['softmax/W']), W - 0.5 * x.T @ gradient, rtol=1e-4, atol=1e-5
        )
        np.testing.assert_allclose(
            sess.run(variables['softmax/b']), b - 0.5 * gradient.sum(0), rtol=1e-4, atol=1e-5
        )


def test_prints_the_accuracy_and_nothing_else(mnist_dir, tmp_path):
    # Started elsewhere, with a data folder relative to there.
    os.symlink(mnist_dir, str(tmp_path / 'data'))
    args = '--data_dir', 'data', '--max_steps', '30', '--seed', '1'
    first, second = (run(*args, cwd=str(tmp_path)) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    (line,) = first.stdout.splitlines()
    accuracy = float(line.replace('test accuracy ', ''))
    assert 0 <= accuracy <= 1
    assert line == 'test accuracy %g' % accuracy


def test_events(mnist_dir, tmp_path):
    log_dir = str(tmp_path / 'a folder')
    result = run('--data_dir', mnist_dir, '--max_steps', '21', '--log_dir', log_dir)
    # TensorFlow 2's own two lines, which no setting of TensorFlow silences.
    chatter = re.compile(r'WARNING: All log messages before absl|I0000 .* MLIR V1')
    training, command = (line for line in result.stderr.splitlines() if not chatter.match(line))
    assert training in ('Training on the CPU.', 'Training on the GPU.')
    assert command == f"To see its graph, loss and weights: tensorboard --logdir '{log_dir}'"

    (name,) = os.listdir(log_dir)
    losses, images, graphs = [], {}, []
    for event in tf.train.summary_iterator(os.path.join(log_dir, name)):
        if event.graph_def:
            graphs.append(tf.GraphDef.FromString(event.graph_def))
        for value in event.summary.value:
            if value.HasField('image'):
                images[value.tag] = (event.step, value.image.height, value.image.width)
            else:
                assert value.tag == 'summaries/loss'
                losses.append(event.step)
    assert losses == [0, 10, 20]
    assert images == {f'summaries/weights/image/{i}': (21, 28, 28) for i in range(10)}
    (graph,) = graphs
    scopes = {node.name.split('/')[0] for node in graph.node}
    assert scopes == {*('x', 'y_', 'softmax', 'loss', 'gradient_descent', 'accuracy', 'summaries')}


def test_broken_file_ends_in_one_message(tmp_path):
    write_mnist(tmp_path, train=600, test=100)
    broken = tmp_path / input_data.TEST_LABELS
    broken.write_bytes(b'<html>403</html>')
    result = run('--data_dir', str(tmp_path))
    assert result.returncode == 1
    assert result.stdout == ''
    (message,) = result.stderr.splitlines()
    assert message.startswith(f'mnist_softmax.py: error: {broken}: expected a whole gzip file')
    assert broken.read_bytes() == b'<html>403</html>'


def test_accuracy_on_mnist(real_mnist_dir):
    result = run('--data_dir', real_mnist_dir)
    assert float(result.stdout.replace('test accuracy ', '')) >= 0.91
