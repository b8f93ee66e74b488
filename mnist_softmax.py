"""Softmax regression on MNIST: one linear layer, trained by gradient descent; about 92 %."""

import argparse
import os
import shlex
import sys
import tempfile
from pathlib import Path

import input_data

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # hides TensorFlow's log

import tensorflow.compat.v1 as tf

tf.logging.set_verbosity(tf.logging.ERROR)  # the page's calls are deprecated, and stay


def softmax_regression(x):
    """Build the model: from float32 [n, 784], pixels in [0, 1], to logits, float32 [n, 10]."""
    with tf.name_scope('softmax'):
        W = tf.Variable(tf.zeros([784, 10]), name='W')
        b = tf.Variable(tf.zeros([10]), name='b')
        y = tf.add(tf.matmul(x, W), b, name='logits')
        tf.nn.softmax(y, name='probabilities')
    return y


def main():
    args = parse_flags()
    try:
        data_dir, note = input_data.mnist_or_bundled_digits(args.data_dir)
        mnist = input_data.read_data_sets(data_dir, one_hot=True, seed=args.seed)
    except (OSError, ValueError) as error:
        sys.exit(f'mnist_softmax.py: error: {error}')
    tf.set_random_seed(args.seed)
    x = tf.placeholder(tf.float32, shape=[None, 784], name='x')
    y_ = tf.placeholder(tf.float32, shape=[None, 10], name='y_')
    y = softmax_regression(x)

    with tf.name_scope('loss'):
        losses = tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=y)
        cross_entropy = tf.reduce_mean(losses, name='cross_entropy')
    with tf.name_scope('gradient_descent'):
        train_step = tf.train.GradientDescentOptimizer(0.5).minimize(cross_entropy)
    with tf.name_scope('accuracy'):
        correct_prediction = tf.equal(tf.argmax(y, 1), tf.argmax(y_, 1), name='correct_prediction')
        accuracy = tf.reduce_mean(tf.cast(correct_prediction, tf.float32), name='accuracy')
    with tf.name_scope('summaries'):
        loss_summary = tf.summary.scalar('loss', cross_entropy)
        (W,) = tf.trainable_variables('softmax/W')
        weights = tf.reshape(tf.transpose(W), [10, 28, 28, 1])  # one image for each digit
        weights_summary = tf.summary.image('weights', weights, max_outputs=10)

    config = tf.ConfigProto(gpu_options=tf.GPUOptions(allow_growth=True))  # memory as needed
    log_dir = args.log_dir or tempfile.mkdtemp(prefix='mnist_softmax_')
    with tf.Session(config=config) as sess, tf.summary.FileWriter(log_dir, sess.graph) as writer:
        gpu = any(device.device_type == 'GPU' for device in sess.list_devices())
        print('Training on the GPU.' if gpu else 'Training on the CPU.', file=sys.stderr)
        sess.run(tf.global_variables_initializer())
        for i in range(args.max_steps):
            batch = mnist.train.next_batch(100)
            if i % 10 == 0:
                writer.add_summary(loss_summary.eval(feed_dict={x: batch[0], y_: batch[1]}), i)
            train_step.run(feed_dict={x: batch[0], y_: batch[1]})
        writer.add_summary(weights_summary.eval(), args.max_steps)
        test = {x: mnist.test.images, y_: mnist.test.labels}
        print('test accuracy %g%s' % (accuracy.eval(feed_dict=test), note))
    print(f'To see how it learned: tensorboard --logdir {shlex.quote(log_dir)}', file=sys.stderr)


def parse_flags():
    parser = argparse.ArgumentParser(description='Train softmax regression on MNIST.')
    parser.add_argument('--data_dir', help='folder of MNIST (default: MNIST_data beside this file)')
    parser.add_argument('--max_steps', type=int, default=1000, help='steps to train')
    parser.add_argument('--seed', type=int, help='make runs on a CPU repeat each other')
    parser.add_argument('--log_dir', help='for TensorBoard (default: a temporary folder)')
    parser.add_argument('-f', '--f', help=argparse.SUPPRESS)  # in a notebook, the kernel's
    args = parser.parse_args()
    if args.max_steps < 1:
        parser.error(f'argument --max_steps: expected 1 or more, found {args.max_steps}')
    folder = Path(args.log_dir or tempfile.gettempdir()).absolute()
    found = next(path for path in (folder, *folder.parents) if os.path.exists(str(path)))
    if not (found.is_dir() and os.access(str(found), os.W_OK)):
        parser.error(f'argument --log_dir: expected a writable folder, found {found}: name another')
    return args


if __name__ == '__main__':
    with tf.Graph().as_default():  # TensorFlow 2, too, runs what is built in a graph of its own
        main()
