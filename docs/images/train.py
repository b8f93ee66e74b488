"""Train both models for README's pictures, and measure them on the way."""

import json
import subprocess
import sys
import time
from collections import namedtuple
from functools import cached_property
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import input_data  # noqa: E402
import mnist_deep  # noqa: E402

tf = mnist_deep.tf

Curves = namedtuple('Curves', 'loss batch_error validation_error')  # each is {step: value}


class Runs:
    """The data and both models, which are trained when they are first asked for."""

    def __init__(self, data_dir, max_steps, folder):
        self.data_dir, self.max_steps = data_dir, max_steps
        self.log_dir = Path(folder, f'network_{max_steps}_steps')

    @cached_property
    def mnist(self):
        return input_data.read_data_sets(self.data_dir, seed=1)

    @cached_property
    def softmax(self):
        """The weights of softmax regression, and its curves."""
        return train_softmax(self.mnist, min(1000, self.max_steps))

    @cached_property
    def network(self):
        """The folder of the network's run."""
        if not (self.log_dir / 'validation.json').exists():
            train_network(self.data_dir, self.max_steps, self.log_dir)
        return str(self.log_dir)

    @cached_property
    def probabilities(self):
        """The network's answers for the test images."""
        return fetch(self.network, ['fc2/probabilities'], self.mnist.test.images)[0]


def train_softmax(mnist, steps):
    """Train as mnist_softmax.py does; return the weights and the curves."""
    curves, validation = Curves({}, {}, {}), mnist.validation
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, 784])
        labels = tf.placeholder(tf.int64, [None])
        W = tf.Variable(tf.zeros([784, 10]))
        b = tf.Variable(tf.zeros([10]))
        y = tf.matmul(x, W) + b
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=y)
        loss = tf.reduce_mean(losses)
        error = tf.reduce_mean(tf.cast(tf.not_equal(tf.argmax(y, 1), labels), tf.float32))
        train_step = tf.train.GradientDescentOptimizer(0.5).minimize(loss)
        sess.run(tf.global_variables_initializer())
        for step in range(steps):
            feed_dict = dict(zip((x, labels), mnist.train.next_batch(100)))
            measured = sess.run([loss, error, train_step], feed_dict)
            curves.loss[step], curves.batch_error[step], _ = measured
            if step + 1 in (10, 20, 50, 100, 200, 500, 1000):
                feed_dict = {x: validation.images, labels: validation.labels}
                curves.validation_error[step + 1] = sess.run(error, feed_dict)
        return sess.run(W), curves


def train_network(data_dir, max_steps, log_dir):
    """Run mnist_deep.py, and measure the error of each checkpoint on the validation images."""
    if log_dir.exists():
        sys.exit(f'{log_dir} holds an unfinished run. Delete it, then start again.')
    command = [sys.executable, str(ROOT / 'mnist_deep.py'), '--seed', '1', '--data_dir', data_dir]
    command += ['--max_steps', str(max_steps), '--log_dir', str(log_dir)]
    validation = input_data.read_data_sets(data_dir).validation
    errors, checkpoint = {}, None
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as training:
        running = True
        while running:
            time.sleep(1)
            running = training.poll() is None
            measured, checkpoint = checkpoint, tf.train.latest_checkpoint(str(log_dir))
            if checkpoint != measured:
                (probabilities,) = fetch(str(log_dir), ['fc2/probabilities'], validation.images)
                step = checkpoint.rpartition('-')[2]
                errors[step] = np.mean(probabilities.argmax(1) != validation.labels)
    if training.returncode:
        sys.exit('mnist_deep.py failed.')
    (log_dir / 'validation.json').write_text(json.dumps(errors))


def fetch(log_dir, tensors, images):
    """Return what tensors of the trained network hold for images, 1,000 at a time."""
    names, parts = [name + ':0' for name in tensors], []
    with tf.Graph().as_default(), tf.Session() as sess:
        mnist_deep.deepnn(tf.placeholder(tf.float32, [None, 784], name='x'))
        tf.train.Saver().restore(sess, tf.train.latest_checkpoint(log_dir))
        for i in range(0, len(images), 1000):
            parts.append(sess.run(names, {'x:0': images[i : i + 1000], 'keep_prob:0': 1.0}))
    return [np.concatenate(values) for values in zip(*parts)]


def read_curves(log_dir):
    """Return the curves of the network from the files of its run."""
    (path,) = Path(log_dir).glob('*tfevents*')
    found = {'summaries/loss': {}, 'summaries/training_accuracy': {}}
    for event in tf.train.summary_iterator(str(path)):
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.simple_value
    loss, accuracy = found['summaries/loss'], found['summaries/training_accuracy']
    validation = json.loads(Path(log_dir, 'validation.json').read_text())
    errors = {int(step): error for step, error in validation.items()}
    return Curves(loss, {step: 1 - value for step, value in accuracy.items()}, errors)
