"""Softmax regression: its graph, a step against NumPy, what the script prints and keeps."""

import functools
import re
import shlex
import sys

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import events, image_of

import input_data
import mnist_softmax


@pytest.fixture
def train(run):
    return functools.partial(run, mnist_softmax)


@pytest.fixture
def graph(mnist_dir, monkeypatch):
    """The graph that the script leaves behind."""
    monkeypatch.setattr(sys, 'argv', ['', '--data_dir', mnist_dir, '--max_steps=1', '--seed=1'])
    with tf.Graph().as_default() as graph:
        mnist_softmax.main()
        yield graph


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
        variables = tf.trainable_variables()
        assert [v.op.name for v in variables] == ['softmax/W', 'softmax/b']
        for variable, value in zip(variables, (W, b)):
            np.testing.assert_array_equal(sess.run(variable), 0)
            variable.load(value, sess)
        feed = {'x:0': x, 'y_:0': y_}
        names = 'softmax/logits', 'softmax/probabilities', 'loss/cross_entropy', 'accuracy/accuracy'
        found = sess.run([name + ':0' for name in names], feed)
        sess.run('gradient_descent/GradientDescent', feed)
        found += sess.run(variables)
    stepped = W - 0.5 * x.T @ gradient, b - 0.5 * gradient.sum(0)
    for value, expected in zip(found, [logits, probabilities, loss, correct, *stepped]):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)
    assert graph.seed == 1  # for whatever random a reader adds


def test_two_steps_of_100_in_the_order_of_the_seed(train, mnist_dir, tmp_path):
    mnist = input_data.read_data_sets(mnist_dir, one_hot=True, seed=1)
    W, b = np.zeros([784, 10]), np.zeros(10)
    for _ in range(2):
        images, labels = mnist.train.next_batch(100)
        exponentials = np.exp(images @ W + b)
        error = exponentials / exponentials.sum(1, keepdims=True) - labels
        W, b = W - 0.5 * images.T @ error / 100, b - 0.5 * error.mean(0)
    right = (mnist.test.images @ W + b).argmax(1) == mnist.test.labels.argmax(1)
    out, _ = train('--max_steps', 2, '--seed', 1, '--log_dir', tmp_path)
    assert out == 'test accuracy %g\n' % right.mean()
    for digit in range(10):
        shown = image_of(events(tmp_path), f'summaries/weights/image/{digit}')
        assert np.corrcoef(shown.ravel(), W[:, digit])[0, 1] > 0.99


def test_tensorboard_shows_loss_weights_and_graph(train, tmp_path):
    log_dir = tmp_path / 'a folder'
    _, err = train('--max_steps', 21, '--log_dir', log_dir)
    assert re.search(r'^Training on the [CG]PU\.$', err, re.M)
    (command,) = [line for line in err.splitlines() if 'tensorboard' in line]
    assert shlex.split(command)[-3:] == ['tensorboard', '--logdir', str(log_dir)]

    found = events(log_dir)
    assert found.Tags()['scalars'] == ['summaries/loss']
    losses = found.Scalars('summaries/loss')
    assert [event.step for event in losses] == [0, 10, 20]
    assert losses[0].value == pytest.approx(np.log(10), rel=1e-5)
    assert losses[2].value < 1
    assert [image.step for image in found.Images('summaries/weights/image/9')] == [21]
    scopes = {node.name.split('/')[0] for node in found.Graph().node}
    assert scopes == {*('x', 'y_', 'softmax', 'loss', 'gradient_descent', 'accuracy', 'summaries')}


def test_a_graph_is_written_as_text(graph, tmp_path):
    """Which protobuf must be made for; requirements.txt sees to it."""
    tf.io.write_graph(graph, str(tmp_path), 'graph.pbtxt')
    assert 'name: "softmax/logits"' in (tmp_path / 'graph.pbtxt').read_text()


def test_accuracy_on_mnist(train, real_mnist_dir):
    out, _ = train('--seed', 1, '--data_dir', real_mnist_dir)
    assert 0.91 <= float(out.replace('test accuracy ', '')) <= 0.93
