"""A convolutional network on MNIST, trained by Adam for 20,000 steps; about 99.2 %.

python mnist_deep.py
"""

import argparse
import os
import sys

import numpy as np

import input_data

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # TensorFlow's start-up talk looks like errors

import tensorflow.compat.v1 as tf

tf.disable_eager_execution()
tf.logging.set_verbosity(tf.logging.ERROR)  # the page's calls are deprecated, and stay


def deepnn(x):
    """Build the network: convolution and pooling twice, a dense layer, dropout, readout.

    Args:
      x: float32 [n, 784], pixels in [0, 1].

    Returns:
      (y_conv, keep_prob): float32 [n, 10], the logits of the ten classes, and the scalar
      placeholder for the probability that dropout keeps a neuron.
    """
    # The convolutions take images with their channels: one, since MNIST is grey.
    with tf.name_scope('reshape'):
        x_image = tf.reshape(x, [-1, 28, 28, 1])

    # 32 features of each 5 x 5 patch.
    with tf.name_scope('conv1'):
        W_conv1 = weight_variable([5, 5, 1, 32])
        b_conv1 = bias_variable([32])
        h_conv1 = tf.nn.relu(conv2d(x_image, W_conv1) + b_conv1)

    with tf.name_scope('pool1'):
        h_pool1 = max_pool_2x2(h_conv1)

    # 64 features of each 5 x 5 patch of those 32.
    with tf.name_scope('conv2'):
        W_conv2 = weight_variable([5, 5, 32, 64])
        b_conv2 = bias_variable([64])
        h_conv2 = tf.nn.relu(conv2d(h_pool1, W_conv2) + b_conv2)

    with tf.name_scope('pool2'):
        h_pool2 = max_pool_2x2(h_conv2)

    # After pooling twice, 28 x 28 have become 7 x 7.
    with tf.name_scope('fc1'):
        W_fc1 = weight_variable([7 * 7 * 64, 1024])
        b_fc1 = bias_variable([1024])
        h_pool2_flat = tf.reshape(h_pool2, [-1, 7 * 7 * 64])
        h_fc1 = tf.nn.relu(tf.matmul(h_pool2_flat, W_fc1) + b_fc1)

    # Against overfitting. What is kept is scaled up by 1 / keep_prob, so that the sums which the
    # next layer sees are as large in training as in evaluation.
    keep_prob = tf.placeholder(tf.float32, name='keep_prob')
    with tf.name_scope('dropout'):
        h_fc1_drop = tf.nn.dropout(h_fc1, keep_prob)

    # The page applies softmax here, and its loss applies it again. These are the logits, as the
    # loss expects them; the probabilities are there for whoever wants to fetch them.
    with tf.name_scope('fc2'):
        W_fc2 = weight_variable([1024, 10])
        b_fc2 = bias_variable([10])
        y_conv = tf.add(tf.matmul(h_fc1_drop, W_fc2), b_fc2, name='logits')
        tf.nn.softmax(y_conv, name='probabilities')
    return y_conv, keep_prob


def weight_variable(shape):
    """Weights start as noise, which breaks the symmetry between neurons."""
    initial = tf.truncated_normal(shape, stddev=0.1)
    return tf.Variable(initial, name='W')


def bias_variable(shape):
    """Biases start above zero, so that no ReLU starts dead."""
    initial = tf.constant(0.1, shape=shape)
    return tf.Variable(initial, name='b')


def conv2d(x, W):
    """Convolve with stride 1 and padding, so that the output is as large as the input."""
    return tf.nn.conv2d(x, W, strides=[1, 1, 1, 1], padding='SAME')


def max_pool_2x2(x):
    """Keep the largest of each 2 x 2, which halves width and height."""
    return tf.nn.max_pool(x, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding='SAME')


def main():
    parser = argparse.ArgumentParser(description='Train a convolutional network on MNIST.')
    parser.add_argument('--data_dir', default=input_data.DATA_DIR, help='folder of the MNIST files')
    parser.add_argument('--max_steps', type=positive, default=20000, help='steps to train')
    parser.add_argument('--seed', type=int, help='make runs repeat each other')
    args = parser.parse_args()

    try:
        mnist = input_data.read_data_sets(args.data_dir, one_hot=True, seed=args.seed)
    except (OSError, ValueError) as error:
        sys.exit(f'{parser.prog}: error: {error}')

    if args.seed is not None:
        tf.set_random_seed(args.seed)
    x = tf.placeholder(tf.float32, shape=[None, 784], name='x')
    y_ = tf.placeholder(tf.float32, shape=[None, 10], name='y_')
    y_conv, keep_prob = deepnn(x)

    with tf.name_scope('loss'):
        cross_entropy = tf.reduce_mean(
            tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=y_conv), name='cross_entropy'
        )
    with tf.name_scope('adam_optimizer'):
        train_step = tf.train.AdamOptimizer(1e-4).minimize(cross_entropy)
    with tf.name_scope('accuracy'):
        correct_prediction = tf.equal(
            tf.argmax(y_conv, 1), tf.argmax(y_, 1), name='correct_prediction'
        )
        accuracy = tf.reduce_mean(tf.cast(correct_prediction, tf.float32), name='accuracy')

    config = tf.ConfigProto()
    config.gpu_options.allow_growth = True  # a GPU's memory as needed, not all of it
    with tf.Session(config=config) as sess:
        sess.run(tf.global_variables_initializer())
        for i in range(args.max_steps):
            batch = mnist.train.next_batch(50)
            if i % 100 == 0:
                train_accuracy = accuracy.eval(
                    feed_dict={x: batch[0], y_: batch[1], keep_prob: 1.0}
                )
                print('step %d, training accuracy %g' % (i, train_accuracy), flush=True)
            train_step.run(feed_dict={x: batch[0], y_: batch[1], keep_prob: 0.5})

        # In slices, since 10,000 images at once exhaust a small GPU, and a CPU takes twice as long.
        correct = [
            correct_prediction.eval(
                feed_dict={
                    x: mnist.test.images[start : start + 1000],
                    y_: mnist.test.labels[start : start + 1000],
                    keep_prob: 1.0,
                }
            )
            for start in range(0, mnist.test.num_examples, 1000)
        ]
        print('test accuracy %g' % np.mean(np.concatenate(correct)))


def positive(text):
    """Parse a flag that counts something."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'expected 1 or more, found {number}')
    return number


if __name__ == '__main__':
    main()
