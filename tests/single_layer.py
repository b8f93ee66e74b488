"""mnist_deep.py with a single layer as its network: for tests of all that is around the network.

As a program, it takes the flags of mnist_deep.py. Before step 120 it waits until its stdin is
closed, and whenever it saves, somebody presses Ctrl-C.
"""

import itertools
import os
import signal
import sys

import input_data
import mnist_deep

tf = mnist_deep.tf


def single_layer(x):
    """Take the place of deepnn: with dropout, and with the variable of the filters."""
    with tf.name_scope('conv1'):
        tf.Variable(tf.truncated_normal([5, 5, 1, 32]), name='W')
    keep_prob = tf.placeholder(tf.float32, name='keep_prob')
    with tf.name_scope('fc2'):
        W = tf.Variable(tf.zeros([784, 10]), name='W')
        y_conv = tf.matmul(tf.nn.dropout(x, keep_prob), W)
    return y_conv, keep_prob


def next_batch_after(step, act):
    """Return a next_batch that calls `act` before it draws the batch of `step`."""
    steps, next_batch = itertools.count(), input_data.DataSet.next_batch

    def acting(*args):
        if next(steps) == step:
            act()
        return next_batch(*args)

    return acting


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)


def main():
    save = tf.train.Saver.save

    def interrupted_save(*args):
        press_ctrl_c()
        return save(*args)

    tf.train.Saver.save = interrupted_save
    input_data.DataSet.next_batch = next_batch_after(120, sys.stdin.read)
    mnist_deep.deepnn = single_layer
    sys.argv[0] = mnist_deep.__file__  # or else it would not read its flags
    with tf.Graph().as_default():
        mnist_deep.main()


if __name__ == '__main__':
    main()
