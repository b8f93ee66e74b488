"""Softmax regression on MNIST: one linear layer, trained by gradient descent; about 92 %."""

import argparse
import os
import sys

import input_data

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # no log; set before the import
import tensorflow.compat.v1 as tf

tf.logging.set_verbosity(tf.logging.ERROR)  # hides deprecation warnings about the tutorial's calls


def main():
    args = parse_flags()
    try:
        data_dir, caveat = input_data.mnist_or_bundled_digits(args.data_dir)
        mnist = input_data.read_data_sets(data_dir, one_hot=True, seed=args.seed)
    except (OSError, ValueError) as error:
        sys.exit(f'mnist_softmax.py: error: {error}')
    x = tf.placeholder(tf.float32, shape=[None, 784], name='x')
    y_ = tf.placeholder(tf.float32, shape=[None, 10], name='y_')
    W = tf.Variable(tf.zeros([784, 10]))
    b = tf.Variable(tf.zeros([10]))
    y = tf.matmul(x, W) + b  # logits: the loss applies softmax itself
    cross_entropy = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=y))
    train_step = tf.train.GradientDescentOptimizer(0.5).minimize(cross_entropy)
    correct_prediction = tf.equal(tf.argmax(y, 1), tf.argmax(y_, 1))
    accuracy = tf.reduce_mean(tf.cast(correct_prediction, tf.float32))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(args.max_steps):
            batch = mnist.train.next_batch(100)
            train_step.run(feed_dict={x: batch[0], y_: batch[1]})
        test_accuracy = accuracy.eval(feed_dict={x: mnist.test.images, y_: mnist.test.labels})
    print('test accuracy %g%s' % (test_accuracy, caveat))


def parse_flags():
    parser = argparse.ArgumentParser(description='Train softmax regression on MNIST.')
    parser.add_argument('--data_dir', help='folder of MNIST (default: MNIST_data beside this file)')
    parser.add_argument('--max_steps', type=int, default=1000, help='steps (default: %(default)s)')
    parser.add_argument('--seed', type=int, help='random seed: makes runs repeatable on a CPU')
    # A script that is pasted into a notebook or an editor's console finds its kernel's flags in
    # sys.argv, not its own.
    is_script = os.path.realpath(sys.argv[0]) == os.path.realpath(globals().get('__file__', ''))
    args = parser.parse_args(sys.argv[1:] if is_script else [])
    if args.max_steps < 1:
        parser.error(f'--max_steps must be at least 1, not {args.max_steps}')
    return args


if __name__ == '__main__':
    # Does what README's tf.disable_eager_execution() does, but only inside this block.
    with tf.Graph().as_default():
        try:
            main()
        except (SystemExit, KeyboardInterrupt) as end:
            # Without `from None`, IPython 7 also prints the error behind the exit, over pages.
            raise SystemExit(getattr(end, 'code', 130)) from None  # 130 after Ctrl-C
