"""A convolutional network on MNIST, trained by Adam for 20,000 steps; about 99.2 %."""

import argparse
import os
import shlex
import sys
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

import input_data

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # hides TensorFlow's log
import tensorflow.compat.v1 as tf

tf.logging.set_verbosity(tf.logging.ERROR)  # the page's calls are deprecated, and stay


def deepnn(x):
    """Build the network on x, float32 [n, 784] of pixels in [0, 1]; return (y_conv, keep_prob).

    They are the logits, float32 [n, 10], and the placeholder for the probability to keep a neuron.
    """
    with tf.name_scope('reshape'):
        x_image = tf.reshape(x, [-1, 28, 28, 1])  # the last dimension: one channel, grey
    with tf.name_scope('conv1'):
        W_conv1 = weight_variable([5, 5, 1, 32])  # 32 features of each 5 x 5 patch
        b_conv1 = bias_variable([32])
        h_conv1 = tf.nn.relu(conv2d(x_image, W_conv1) + b_conv1)
    with tf.name_scope('pool1'):
        h_pool1 = max_pool_2x2(h_conv1)
    with tf.name_scope('conv2'):
        W_conv2 = weight_variable([5, 5, 32, 64])  # 64 features of each 5 x 5 patch of those 32
        b_conv2 = bias_variable([64])
        h_conv2 = tf.nn.relu(conv2d(h_pool1, W_conv2) + b_conv2)
    with tf.name_scope('pool2'):
        h_pool2 = max_pool_2x2(h_conv2)  # twice halved, 28 x 28 have become 7 x 7
    with tf.name_scope('fc1'):
        W_fc1 = weight_variable([7 * 7 * 64, 1024])
        b_fc1 = bias_variable([1024])
        h_pool2_flat = tf.reshape(h_pool2, [-1, 7 * 7 * 64])
        h_fc1 = tf.nn.relu(tf.matmul(h_pool2_flat, W_fc1) + b_fc1)
    keep_prob = tf.placeholder(tf.float32, name='keep_prob')
    with tf.name_scope('dropout'):
        h_fc1_drop = tf.nn.dropout(h_fc1, keep_prob)  # against overfitting; scaled to keep sums
    # Logits, since the loss applies softmax itself. (The page's translation applies it here, too.)
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
    """Biases start above zero, so that fewer ReLUs start dead."""
    initial = tf.constant(0.1, shape=shape)
    return tf.Variable(initial, name='b')


def conv2d(x, W):
    """Convolve with stride 1 and padding, so that the output is as large as the input."""
    return tf.nn.conv2d(x, W, strides=[1, 1, 1, 1], padding='SAME')


def max_pool_2x2(x):
    """Keep the largest of each 2 x 2, which halves width and height."""
    return tf.nn.max_pool(x, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding='SAME')


def main():
    args = parse_flags()
    try:
        data_dir, note = input_data.mnist_or_bundled_digits(args.data_dir)
        mnist = input_data.read_data_sets(data_dir, one_hot=True, seed=args.seed)
    except (OSError, ValueError) as error:
        sys.exit(f'mnist_deep.py: error: {error}')

    tf.set_random_seed(args.seed)
    x = tf.placeholder(tf.float32, shape=[None, 784], name='x')
    y_ = tf.placeholder(tf.float32, shape=[None, 10], name='y_')
    y_conv, keep_prob = deepnn(x)
    with tf.name_scope('loss'):
        losses = tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=y_conv)
        cross_entropy = tf.reduce_mean(losses, name='cross_entropy')
    global_step = tf.train.get_or_create_global_step()  # saved with the rest: a run can resume
    with tf.name_scope('adam_optimizer'):
        train_step = tf.train.AdamOptimizer(1e-4).minimize(cross_entropy, global_step)
    with tf.name_scope('accuracy'):
        correct_prediction = tf.equal(tf.argmax(y_conv, 1), tf.argmax(y_, 1), 'correct_prediction')
        accuracy = tf.reduce_mean(tf.cast(correct_prediction, tf.float32), name='accuracy')
    with tf.name_scope('summaries'):
        tf.summary.scalar('loss', cross_entropy)
        tf.summary.scalar('training_accuracy', accuracy)
        (W_conv1,) = tf.trainable_variables('conv1/W')
        tf.summary.image('filters', tf.transpose(W_conv1, [3, 0, 1, 2]), max_outputs=32)
        summaries = tf.summary.merge_all()
    # Saved, too, so that no run goes on with other data than its own.
    data = tf.Variable(np.int64(input_data.checksum(data_dir)), trainable=False, name='data')

    saver = tf.train.Saver(max_to_keep=3, save_relative_paths=True)  # the folder may be moved
    log_dir = args.log_dir or tempfile.mkdtemp(prefix='mnist_deep_')
    checkpoint = os.path.join(log_dir, 'model.ckpt')
    with tf.Session(config=session_config(args.precision)) as sess:
        sess.run(tf.global_variables_initializer())
        first = restore(sess, saver, log_dir, data)  # steps that are trained
        steps = range(first, args.max_steps)
        for _ in range(first):  # the batches that they were trained on
            mnist.train.next_batch(50)
        gpu = any(device.device_type == 'GPU' for device in sess.list_devices())
        print('Training on the GPU.' if gpu else 'Training on the CPU.', file=sys.stderr)
        print(f'To watch it learn: tensorboard --logdir {shlex.quote(log_dir)}', file=sys.stderr)
        writer = tf.summary.FileWriter(log_dir, sess.graph, flush_secs=10)
        # TensorBoard then drops what a killed run wrote after its last checkpoint.
        writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), first)
        try:
            bar = tqdm(steps, initial=first, total=args.max_steps, disable=None if steps else True)
            for i in bar:
                batch = mnist.train.next_batch(50)
                if i % 100 == 0:
                    feed_dict = {x: batch[0], y_: batch[1], keep_prob: 1.0}
                    train_accuracy, summary = sess.run([accuracy, summaries], feed_dict=feed_dict)
                    writer.add_summary(summary, i)
                    tqdm.write('step %d, training accuracy %g' % (i, train_accuracy))
                    sys.stdout.flush()  # a pipe, too, gets each line at once
                train_step.run(feed_dict={x: batch[0], y_: batch[1], keep_prob: 0.5})
                if (i + 1) % 1000 == 0:
                    saver.save(sess, checkpoint, global_step)
        except KeyboardInterrupt:
            saver.save(sess, checkpoint, global_step)
            writer.close()
            resume = f'Resume with the same flags and --log_dir {shlex.quote(log_dir)}'
            print(f'Stopped after step {sess.run(global_step)}. {resume}', file=sys.stderr)
            sys.exit(130)
        saver.save(sess, checkpoint, global_step)
        test_accuracy = evaluate(sess, mnist.test)
        print('test accuracy %g%s' % (test_accuracy, note))
        value = tf.Summary.Value(tag='summaries/test_accuracy', simple_value=test_accuracy)
        writer.add_summary(tf.Summary(value=[value]), sess.run(global_step))
        writer.close()


def parse_flags():
    parser = argparse.ArgumentParser(description='Train a convolutional network on MNIST.')
    parser.add_argument('--data_dir', help='folder of MNIST (default: MNIST_data beside this file)')
    parser.add_argument('--max_steps', type=int, default=20000, help='steps to train')
    parser.add_argument('--seed', type=int, help='make runs on a CPU repeat each other')
    parser.add_argument('--log_dir', help='checkpoints, TensorBoard (default: a temporary folder)')
    parser.add_argument('--precision', choices=['float32', 'bfloat16'], help='bfloat16 is faster')
    parser.add_argument('-f', '--f', help=argparse.SUPPRESS)  # in a notebook, the kernel's
    args = parser.parse_args()
    if args.max_steps < 1:
        parser.error(f'argument --max_steps: expected 1 or more, found {args.max_steps}')
    folder = Path(args.log_dir or tempfile.gettempdir()).absolute()
    found = next(path for path in (folder, *folder.parents) if os.path.exists(str(path)))
    if not (found.is_dir() and os.access(str(found), os.W_OK)):
        parser.error(f'argument --log_dir: expected a writable folder, found {found}: name another')
    if args.precision == 'bfloat16':
        cpu = Path('/proc/cpuinfo')
        if tf.VERSION.startswith('1.') or not cpu.exists() or '_bf16' not in cpu.read_text():
            parser.error('argument --precision: expected TensorFlow 2 and a CPU that has bfloat16')
    return args


def session_config(precision):
    config = tf.ConfigProto(gpu_options=tf.GPUOptions(allow_growth=True))  # memory as needed
    if precision == 'bfloat16':  # for products and sums; variables and Adam stay float32
        options = config.graph_options.rewrite_options
        options.auto_mixed_precision_onednn_bfloat16 = options.ON
    if tf.VERSION.startswith('1.') and not tf.config.experimental.list_physical_devices('GPU'):
        # XLA's code for the CPU takes three quarters of the time that TensorFlow 1's own takes.
        xla = '--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit --tf_xla_min_cluster_size=30'
        os.environ.setdefault('TF_XLA_FLAGS', xla)
    return config


def restore(sess, saver, log_dir, data):
    """Restore a folder's newest checkpoint; return its steps, or 0. Exit if it does not fit."""
    expected, found = sess.run(data), None
    try:
        state = tf.train.get_checkpoint_state(log_dir)
        if state:
            saver.restore(sess, state.model_checkpoint_path)
            saver.recover_last_checkpoints(state.all_model_checkpoint_paths)
            found = None if sess.run(data) == expected else 'a run on other data'
        elif list(Path(log_dir).glob('*.index')):
            found = 'checkpoints, but no readable file "checkpoint"'
    except (ValueError, tf.errors.OpError) as error:
        if isinstance(error, (tf.errors.ResourceExhaustedError, tf.errors.InternalError)):
            raise  # no memory is no fault of the folder
        found = type(error).__name__ if isinstance(error, tf.errors.OpError) else str(error)
    if found:
        problem = f'expected a new folder or a run of this network on this data, found: {found}'
        sys.exit(f'mnist_deep.py: error: --log_dir: {log_dir}: {problem}. Name another folder.')
    steps = sess.run(tf.train.get_global_step())
    if state:
        print(f'{state.model_checkpoint_path} was trained for {steps} steps.', file=sys.stderr)
    return steps


def evaluate(sess, examples):
    """Return the accuracy, in slices: all images at once exhaust a small GPU, and slow a CPU."""
    correct = []
    for i in range(0, examples.num_examples, 100):
        part = {'x:0': examples.images[i : i + 100], 'y_:0': examples.labels[i : i + 100]}
        correct.extend(sess.run('accuracy/correct_prediction:0', {**part, 'keep_prob:0': 1.0}))
    return np.mean(correct)


if __name__ == '__main__':
    with tf.Graph().as_default():  # TensorFlow 2, too, runs what is built in a graph of its own
        main()
