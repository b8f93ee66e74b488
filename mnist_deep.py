"""A convolutional network on MNIST, trained by Adam for 20,000 steps; about 99.2 %."""

import argparse
import contextlib
import os
import shlex
import signal
import sys
import tempfile
import zlib
from pathlib import Path

from tqdm import tqdm

import input_data

# TensorFlow reads these while it is imported. oneDNN is faster, but TensorFlow 2 turns it on by
# itself only on CPUs with AVX512.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
import tensorflow.compat.v1 as tf

tf.logging.set_verbosity(tf.logging.ERROR)  # hides deprecation warnings about the tutorial's calls


def deepnn(x):
    """Build the network for x, float32 [n, 784] with pixels in [0, 1].

    Returns y_conv, the logits, float32 [n, 10], and keep_prob, a placeholder for the probability
    of keeping a neuron.
    """
    with tf.name_scope('reshape'):
        x_image = tf.reshape(x, [-1, 28, 28, 1])  # one channel: grey
    with tf.name_scope('conv1'):
        W_conv1 = weight_variable([5, 5, 1, 32])  # 5 x 5 patches, 1 channel in, 32 out
        b_conv1 = bias_variable([32])
        h_conv1 = tf.nn.relu(conv2d(x_image, W_conv1) + b_conv1)
    with tf.name_scope('pool1'):
        h_pool1 = max_pool_2x2(h_conv1)
    with tf.name_scope('conv2'):
        W_conv2 = weight_variable([5, 5, 32, 64])
        b_conv2 = bias_variable([64])
        h_conv2 = tf.nn.relu(conv2d(h_pool1, W_conv2) + b_conv2)
    with tf.name_scope('pool2'):
        h_pool2 = max_pool_2x2(h_conv2)  # 28 x 28, halved twice, is 7 x 7
    with tf.name_scope('fc1'):
        W_fc1 = weight_variable([7 * 7 * 64, 1024])
        b_fc1 = bias_variable([1024])
        h_pool2_flat = tf.reshape(h_pool2, [-1, 7 * 7 * 64])
        h_fc1 = tf.nn.relu(tf.matmul(h_pool2_flat, W_fc1) + b_fc1)
    keep_prob = tf.placeholder(tf.float32, name='keep_prob')
    with tf.name_scope('dropout'):
        # Against overfitting. The neurons kept are scaled by 1 / keep_prob.
        h_fc1_drop = tf.nn.dropout(h_fc1, keep_prob)
    with tf.name_scope('fc2'):  # the output: logits, since the loss applies softmax itself
        W_fc2 = weight_variable([1024, 10])
        b_fc2 = bias_variable([10])
        y_conv = tf.add(tf.matmul(h_fc1_drop, W_fc2), b_fc2, name='logits')
        tf.nn.softmax(y_conv, name='probabilities')  # for those who restore the network
    return y_conv, keep_prob


def weight_variable(shape):
    """Weights start as noise, which breaks the symmetry between neurons."""
    initial = tf.truncated_normal(shape, stddev=0.1)
    return tf.Variable(initial, name='W')


def bias_variable(shape):
    """Biases start above zero, so that fewer ReLUs are dead from the start."""
    initial = tf.constant(0.1, shape=shape)
    return tf.Variable(initial, name='b')


def conv2d(x, W):
    """Convolve with stride 1, padded so that the output is as large as the input."""
    return tf.nn.conv2d(x, W, strides=[1, 1, 1, 1], padding='SAME')


def max_pool_2x2(x):
    """Keep the largest of each 2 x 2 values: width and height are halved."""
    return tf.nn.max_pool(x, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding='SAME')


def main():
    args = parse_flags()
    try:
        data_dir, caveat = input_data.mnist_or_bundled_digits(args.data_dir)
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
    global_step = tf.train.get_or_create_global_step()  # counts the steps
    with tf.name_scope('adam_optimizer'):
        train_step = tf.train.AdamOptimizer(1e-4).minimize(cross_entropy, global_step)
    with tf.name_scope('accuracy'):
        correct_prediction = tf.equal(tf.argmax(y_conv, 1), tf.argmax(y_, 1), 'correct_prediction')
        accuracy = tf.reduce_mean(tf.cast(correct_prediction, tf.float32), name='accuracy')
    with tf.name_scope('summaries'):
        tf.summary.scalar('loss', cross_entropy)
        tf.summary.scalar('training_accuracy', accuracy)
        (W_conv1,) = tf.trainable_variables('conv1/W')  # which deepnn does not return
        tf.summary.image('filters', tf.transpose(W_conv1, [3, 0, 1, 2]), max_outputs=32)
        summaries = tf.summary.merge_all()
    # A checksum of the data, saved in every checkpoint, so that no run resumes on other data.
    validation_crc = zlib.crc32(mnist.validation.labels, zlib.crc32(mnist.validation.images))
    data_crc = tf.Variable(validation_crc, trainable=False, name='data_crc', dtype=tf.int64)
    log_dir = args.log_dir or tempfile.mkdtemp(prefix='mnist_deep_')
    checkpoint = os.path.join(log_dir, 'model.ckpt')
    saver = tf.train.Saver(max_to_keep=3, save_relative_paths=True)  # so that it may be moved
    gpus = tf.config.experimental.list_physical_devices('GPU')
    with tf.Session(config=session_config(args.precision, gpus)) as sess:
        sess.run(tf.global_variables_initializer())
        start = restore(sess, saver, log_dir, data_crc)
        for _ in range(start):  # with --seed: skip the batches already trained on
            mnist.train.next_batch(50)
        print('Training on the GPU.' if gpus else 'Training on the CPU.', file=sys.stderr)
        print(f'To watch it learn: tensorboard --logdir {shlex.quote(log_dir)}', file=sys.stderr)
        writer = tf.summary.FileWriter(log_dir, sess.graph, flush_secs=10)
        # Tells TensorBoard to drop what a killed run logged after its last checkpoint.
        writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), start)
        try:
            steps = range(start, args.max_steps)
            for i in tqdm(steps, initial=start, total=args.max_steps, disable=None):
                batch = mnist.train.next_batch(50)
                if i % 100 == 0:
                    feed_dict = {x: batch[0], y_: batch[1], keep_prob: 1.0}
                    train_accuracy, summary = sess.run([accuracy, summaries], feed_dict=feed_dict)
                    writer.add_summary(summary, i)
                    tqdm.write('step %d, training accuracy %g' % (i, train_accuracy))
                    sys.stdout.flush()  # so that a pipe also gets each line at once
                train_step.run(feed_dict={x: batch[0], y_: batch[1], keep_prob: 0.5})
                if (i + 1) % 1000 == 0:
                    saver.save(sess, checkpoint, global_step)
            saver.save(sess, checkpoint, global_step)
            correct = []  # in slices: all images at once exhaust a small GPU, and slow a CPU
            for i in range(0, mnist.test.num_examples, 100):
                images, labels = mnist.test.images[i : i + 100], mnist.test.labels[i : i + 100]
                feed_dict = {x: images, y_: labels, keep_prob: 1.0}
                correct.extend(correct_prediction.eval(feed_dict=feed_dict))
            test_accuracy = sum(correct) / len(correct)
            print('test accuracy %g%s' % (test_accuracy, caveat))
            value = tf.Summary.Value(tag='summaries/test_accuracy', simple_value=test_accuracy)
            writer.add_summary(tf.Summary(value=[value]), sess.run(global_step))
        except KeyboardInterrupt:
            # A second Ctrl-C must not interrupt the saving.
            previous_handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
            saver.save(sess, checkpoint, global_step)
            resume = f'use the same flags and --log_dir {shlex.quote(log_dir)}'
            stopped = f'Stopped after {sess.run(global_step)} steps. To resume, {resume}'
            print(stopped, file=sys.stderr)
            signal.signal(signal.SIGINT, previous_handler)
            sys.exit(130)
        finally:
            writer.close()


def parse_flags():
    parser = argparse.ArgumentParser(description='Train a convolutional network on MNIST.')
    parser.add_argument('--data_dir', help='folder of MNIST (default: MNIST_data beside this file)')
    max_steps_help = 'steps to train, resumed ones included (default: %(default)s)'
    parser.add_argument('--max_steps', type=int, default=20000, help=max_steps_help)
    parser.add_argument('--seed', type=int, help='random seed: makes runs repeatable on a CPU')
    log_dir_help = 'folder for checkpoints and TensorBoard (default: a temporary one)'
    parser.add_argument('--log_dir', type=os.path.expanduser, help=log_dir_help)
    parser.add_argument('--precision', choices=['float32', 'bfloat16'], help='default: float32')
    # Pasted, the script has no __file__, and the flags in sys.argv are not its own.
    args = parser.parse_args(None if '__file__' in globals() else [])
    if args.max_steps < 1:
        parser.error(f'--max_steps must be at least 1, not {args.max_steps}')
    if args.log_dir:
        if set('[]*?') & set(args.log_dir):
            parser.error(f'[ ] * ? in {args.log_dir} are wildcards here; choose another --log_dir')
        folder = Path(args.log_dir)
        try:
            new = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            parser.error(f'cannot write to {args.log_dir}; choose another --log_dir')
        for path in new:  # nothing stays behind if the data turns out to be wrong
            with contextlib.suppress(OSError):  # another run may be using it by now
                path.rmdir()
    if args.precision == 'bfloat16':
        cpuinfo = Path('/proc/cpuinfo').read_text() if os.path.exists('/proc/cpuinfo') else ''
        if tf.VERSION.startswith('1.') or '_bf16' not in cpuinfo:
            hardware = 'TensorFlow 2 and a CPU with AVX512-BF16 or AMX-BF16'
            parser.error(f'bfloat16 needs {hardware}; leave --precision out')
    return args


def session_config(precision, gpus):
    # Don't claim all of the GPU's memory.
    config = tf.ConfigProto(gpu_options=tf.GPUOptions(allow_growth=True))
    if precision == 'bfloat16':  # for products and sums; variables and Adam stay float32
        options = config.graph_options.rewrite_options
        options.auto_mixed_precision_onednn_bfloat16 = options.ON
    if tf.VERSION.startswith('1.') and not gpus:
        # XLA's code for the CPU takes three quarters of the time that TensorFlow 1's own takes.
        xla = '--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit --tf_xla_min_cluster_size=30'
        os.environ.setdefault('TF_XLA_FLAGS', xla)
    return config


def restore(sess, saver, log_dir, data_crc):
    """Restore the newest checkpoint in log_dir; return the steps that it was trained for, or 0."""
    expected_crc, problem = sess.run(data_crc), None
    try:
        checkpoint = tf.train.latest_checkpoint(log_dir)
        if checkpoint:
            saver.restore(sess, checkpoint)
            if sess.run(data_crc) != expected_crc:
                problem = 'that run used other data'
        elif any(Path(log_dir).glob('model.ckpt-*.index')):
            problem = 'its file "checkpoint" is missing or names no checkpoint that is there'
    except ValueError:
        problem = 'its file "checkpoint" is empty'
    except (tf.errors.NotFoundError, tf.errors.InvalidArgumentError):
        problem = 'its checkpoint belongs to another network'
    if problem:
        problem = f'cannot resume from {log_dir}: {problem}. Choose another --log_dir.'
        sys.exit(f'mnist_deep.py: error: {problem}')
    if not checkpoint:
        return 0
    state = tf.train.get_checkpoint_state(log_dir)
    saver.recover_last_checkpoints(state.all_model_checkpoint_paths)  # they count among the three
    steps = sess.run(tf.train.get_global_step())
    print(f'Resuming from {checkpoint}, after {steps} steps.', file=sys.stderr)
    return steps


if __name__ == '__main__':
    # Building inside a Graph turns TensorFlow 2's eager mode off, and leaves IPython's graph alone.
    with tf.Graph().as_default():
        try:
            main()
        except SystemExit as end:
            # `from None` here and below: IPython 7 prints pages about an error raised in `except`.
            raise SystemExit(end.code) from None
        except KeyboardInterrupt:
            raise SystemExit(130) from None
