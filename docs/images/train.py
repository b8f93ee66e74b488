"""Train the models of README's pictures, and measure them on the way."""

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

SEEDS = 1, 2, 3  # of the networks trained on few images

Curves = namedtuple('Curves', 'batches validation')  # rows of step, loss and error


class Runs:
    """The data and the trained models. Each model is trained when it is first asked for."""

    def __init__(self, data_dir, max_steps, folder):
        self.data_dir, self.max_steps, self.folder = data_dir, max_steps, Path(folder)

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
        log_dir = self.folder / f'network_{self.max_steps}_steps'
        if not (log_dir / 'validation.json').exists():
            train_network(self.data_dir, self.max_steps, log_dir)
        return str(log_dir)

    @cached_property
    def probabilities(self):
        """The network's answers for the test images."""
        return fetch(self.network, ['fc2/probabilities'], self.mnist.test.images)[0]

    @cached_property
    def edges(self):
        """The numbers of the three filters of the first layer that are most like an edge."""
        return most_like_an_edge(tf.train.load_variable(self.network, 'conv1/W'))

    @cached_property
    def few_images(self):
        """The errors of networks trained on 1,000 images, {keep_prob: [seed, step and error]}."""
        steps = min(3000, self.max_steps)
        folder = self.folder / f'few_images_{steps}_steps'
        folder.mkdir(parents=True, exist_ok=True)
        rest = self.mnist.train.num_examples + self.mnist.validation.num_examples - 1000
        curves = {0.5: [], 1.0: []}
        for keep_prob in curves:
            for seed in SEEDS:
                path = folder / f'keep_prob_{keep_prob}_seed_{seed}.json'
                if not path.exists():
                    few = input_data.read_data_sets(self.data_dir, validation_size=rest, seed=seed)
                    rows = train_on_few_images(few, keep_prob, seed, steps)
                    path.write_text(json.dumps(rows))
                curves[keep_prob].append(json.loads(path.read_text()))
        return {keep_prob: np.array(rows) for keep_prob, rows in curves.items()}


def train_softmax(mnist, steps):
    """Train as mnist_softmax.py does; return the weights and the curves."""
    curves = Curves([], [])
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
            measures, _ = sess.run([(loss, error), train_step], feed_dict)
            curves.batches.append((step, *measures))
            if step + 1 in (10, 20, 50, 100, 200, 500, 1000):
                feed_dict = {x: mnist.validation.images, labels: mnist.validation.labels}
                curves.validation.append((step + 1, *sess.run((loss, error), feed_dict)))
        return sess.run(W), curves


def train_network(data_dir, max_steps, log_dir):
    """Run mnist_deep.py, and measure each checkpoint on the validation images."""
    if log_dir.exists():
        sys.exit(f'{log_dir} holds an unfinished run. Delete it, then start again.')
    command = [sys.executable, str(ROOT / 'mnist_deep.py'), '--seed', '1', '--data_dir', data_dir]
    command += ['--max_steps', str(max_steps), '--log_dir', str(log_dir)]
    validation = input_data.read_data_sets(data_dir).validation
    rows, checkpoint = [], None
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as training:
        running = True
        while running:
            time.sleep(1)
            running = training.poll() is None
            measured, checkpoint = checkpoint, tf.train.latest_checkpoint(str(log_dir))
            if checkpoint != measured:
                (logits,) = fetch(str(log_dir), ['fc2/logits'], validation.images)
                step = int(checkpoint.rpartition('-')[2])
                rows.append((step, *measure(logits, validation.labels)))
    if training.returncode:
        sys.exit('mnist_deep.py failed.')
    (log_dir / 'validation.json').write_text(json.dumps(rows))


def measure(logits, labels):
    """Return the loss (the mean cross-entropy) and the error."""
    logits = np.float64(logits)  # in which exp does not overflow
    of_labels = logits[np.arange(len(labels)), labels]
    loss = np.log(np.exp(logits - of_labels[:, np.newaxis]).sum(axis=1)).mean()
    return loss, np.mean(logits.argmax(axis=1) != labels)


def train_on_few_images(few, keep_prob, seed, steps):
    """Train as mnist_deep.py does; return rows of step and error on 5,000 validation images."""
    images, labels = few.validation.images[:5000], few.validation.labels[:5000]
    rows = []
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.set_random_seed(seed)
        x = tf.placeholder(tf.float32, [None, 784])
        y_ = tf.placeholder(tf.int64, [None])
        y_conv, keep = mnist_deep.deepnn(x)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y_, logits=y_conv)
        train_step = tf.train.AdamOptimizer(1e-4).minimize(tf.reduce_mean(losses))
        sess.run(tf.global_variables_initializer())
        for step in range(1, steps + 1):
            batch = few.train.next_batch(50)
            train_step.run({x: batch[0], y_: batch[1], keep: keep_prob})
            if step % 100 == 0 or step == steps:
                slices = [y_conv.eval({x: part, keep: 1.0}) for part in np.split(images, 5)]
                _, error = measure(np.concatenate(slices), labels)
                rows.append((step, error))
    return rows


def fetch(log_dir, tensors, images):
    """Return what tensors of the trained network hold for images, 1,000 at a time."""
    names, parts = [name + ':0' for name in tensors], []
    with tf.Graph().as_default(), tf.Session() as sess:
        mnist_deep.deepnn(tf.placeholder(tf.float32, [None, 784], name='x'))
        tf.train.Saver().restore(sess, tf.train.latest_checkpoint(log_dir))
        for i in range(0, len(images), 1000):
            parts.append(sess.run(names, {'x:0': images[i : i + 1000], 'keep_prob:0': 1.0}))
    return [np.concatenate(values) for values in zip(*parts)]


def most_like_an_edge(weights):
    """Return the numbers of three filters, [5, 5, 1, 32], and print how well they fit.

    An edge is dark on one side and light on the other, so a plane fits its weights well.
    """
    filters = weights.reshape(25, 32)
    plane = np.stack([np.ones(25), *np.indices((5, 5)).reshape(2, 25)], axis=1)
    residuals = np.linalg.lstsq(plane, filters, rcond=None)[1]
    fit = 1 - residuals / 25 / filters.var(axis=0)
    edges = np.argsort(-fit)[:3]
    print('filters most like an edge:', ', '.join(f'{i} (R² {fit[i]:.2f})' for i in edges))
    return edges


def read_curves(log_dir):
    """Return the curves of the network from the files of its run."""
    (path,) = Path(log_dir).glob('*tfevents*')
    batches = []
    for event in tf.train.summary_iterator(str(path)):
        values = {value.tag: value.simple_value for value in event.summary.value}
        if 'summaries/loss' in values:
            error = 1 - values['summaries/training_accuracy']
            batches.append((event.step, values['summaries/loss'], error))
    return Curves(batches, json.loads(Path(log_dir, 'validation.json').read_text()))
