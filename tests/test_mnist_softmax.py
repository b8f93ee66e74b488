"""Softmax regression: a step against NumPy, what the script prints, and that it leaves nothing."""

import os
import sys
import tempfile

import numpy as np
import pytest
import tensorflow.compat.v1 as tf

import input_data
import mnist_softmax


def predict(images, W, b):
    """Logits, and the probabilities that softmax makes of them."""
    logits = images.astype(np.float64) @ W + b
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return logits, exponentials / exponentials.sum(axis=1, keepdims=True)


def test_one_step_against_numpy(mnist_dir, monkeypatch):
    random = np.random.RandomState(1)
    images = random.uniform(size=(8, 784)).astype(np.float32)
    labels = np.eye(10)[random.randint(10, size=8)]
    W, b = 0.1 * random.standard_normal((784, 10)), random.standard_normal(10)
    _, probabilities = predict(images, W, b)
    gradient = (probabilities - labels) / len(images)

    argv = [mnist_softmax.__file__, '--data_dir', mnist_dir, '--max_steps', '1']
    monkeypatch.setattr(sys, 'argv', argv)
    with tf.Graph().as_default(), tf.Session() as sess:
        mnist_softmax.main()  # leaves its graph behind
        sess.run(tf.global_variables_initializer())
        W_variable, b_variable = tf.trainable_variables()
        np.testing.assert_array_equal(sess.run(W_variable), np.zeros([784, 10]))
        np.testing.assert_array_equal(sess.run(b_variable), np.zeros([10]))
        W_variable.load(W, sess)
        b_variable.load(b, sess)
        sess.run('GradientDescent', feed_dict={'x:0': images, 'y_:0': labels})
        new_W, new_b = sess.run([W_variable, b_variable])
    np.testing.assert_allclose(new_W, W - 0.5 * images.T @ gradient, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(new_b, b - 0.5 * gradient.sum(axis=0), rtol=1e-4, atol=1e-5)


def test_trains_on_batches_of_100_and_reports_the_accuracy_on_the_test_set(run, mnist_dir):
    mnist = input_data.read_data_sets(mnist_dir, one_hot=True, seed=1)
    W, b = np.zeros([784, 10]), np.zeros(10)
    for _ in range(2):
        images, labels = mnist.train.next_batch(100)
        error = predict(images, W, b)[1] - labels
        W, b = W - 0.5 * images.T @ error / 100, b - 0.5 * error.mean(axis=0)
    logits, _ = predict(mnist.test.images, W, b)
    accuracy = np.mean(logits.argmax(axis=1) == mnist.test.labels.argmax(axis=1))
    out, err = run(mnist_softmax, '--max_steps', 2, '--seed', 1)
    assert out == 'test accuracy %g\n' % accuracy
    assert err == ''


def test_leaves_no_file_behind(run, mnist_dir, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    before = sorted(os.listdir(mnist_dir))
    run(mnist_softmax, '--max_steps', 1)
    assert os.listdir(str(tmp_path)) == []
    assert sorted(os.listdir(mnist_dir)) == before


def test_accuracy_on_mnist(run, real_mnist_dir):
    out, _ = run(mnist_softmax, '--seed', 1, '--data_dir', real_mnist_dir)
    assert float(out.replace('test accuracy ', '')) == pytest.approx(0.9195, abs=0.002)
