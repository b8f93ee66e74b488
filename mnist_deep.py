"""A convolutional network on MNIST, trained by Adam for 20,000 steps; about 99.2 %."""

import argparse
import os
import shlex
import sys
import tempfile
from pathlib import Path

from tqdm import tqdm

import input_data

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # TensorFlow's talk at import looks like errors

import tensorflow.compat.v1 as tf

tf.disable_eager_execution()  # TensorFlow 2 runs graphs, too
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

    # The page's translation applies softmax here, and its loss does again. These are the logits, as
    # the loss expects them; the probabilities are there for whoever wants to fetch them.
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
    log_dir = args.log_dir or tempfile.mkdtemp(prefix='mnist_deep_')
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
        correct_prediction = tf.equal(
            tf.argmax(y_conv, 1), tf.argmax(y_, 1), name='correct_prediction'
        )
        accuracy = tf.reduce_mean(tf.cast(correct_prediction, tf.float32), name='accuracy')
    with tf.name_scope('summaries'):
        tf.summary.scalar('loss', cross_entropy)
        tf.summary.scalar('training_accuracy', accuracy)
        W_conv1 = tf.trainable_variables()[0]
        tf.summary.image('filters', tf.transpose(W_conv1, [3, 0, 1, 2]), max_outputs=32)
        summaries = tf.summary.merge_all()

    saver = tf.train.Saver(max_to_keep=3, save_relative_paths=True)  # the folder may be moved
    config = tf.ConfigProto()
    config.gpu_options.allow_growth = True  # a GPU's memory as needed, not all of it
    if args.precision == 'bfloat16':  # for products and sums; variables and Adam stay float32
        config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = 1
    if tf.VERSION.startswith('1.') and not tf.config.experimental.list_physical_devices('GPU'):
        # XLA's code for the CPU takes three quarters of the time that TensorFlow 1's own takes.
        xla = '--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit --tf_xla_min_cluster_size=30'
        os.environ.setdefault('TF_XLA_FLAGS', xla)
    with tf.Session(config=config) as sess:
        sess.run(tf.global_variables_initializer())
        try:
            restore(saver, sess, log_dir)
            mnist, note = input_data.read_mnist_or_bundled_digits(args.data_dir, args.seed)
            # Named after the data, so that no run on MNIST goes on from one on the bundled digits.
            checkpoint = os.path.join(log_dir, 'bundled_digits.ckpt' if note else 'model.ckpt')
            if any(checkpoint not in path for path in saver.last_checkpoints):
                raise ValueError(f'--log_dir: {log_dir}: expected no run on other data')
        except (OSError, ValueError) as error:
            sys.exit(f'mnist_deep.py: error: {error}')
        gpu = any(device.device_type == 'GPU' for device in sess.list_devices())
        print('Training on the GPU.' if gpu else 'Training on the CPU.', file=sys.stderr)
        print(f'To watch it learn: tensorboard --logdir {shlex.quote(log_dir)}', file=sys.stderr)
        writer = tf.summary.FileWriter(log_dir, tf.get_default_graph(), flush_secs=10)
        done = sess.run(global_step)
        try:
            for i in tqdm(range(args.max_steps), unit=' steps', disable=None):
                batch = mnist.train.next_batch(50)
                if i < done:  # trained on before
                    continue
                if i % 100 == 0:
                    feed_dict = {x: batch[0], y_: batch[1], keep_prob: 1.0}
                    train_accuracy, summary = sess.run([accuracy, summaries], feed_dict=feed_dict)
                    writer.add_summary(summary, i)
                    with tqdm.external_write_mode():
                        print('step %d, training accuracy %g' % (i, train_accuracy), flush=True)
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

        # In slices, since 10,000 images at once exhaust a small GPU, and take a CPU longer.
        correct = []
        for i in range(0, mnist.test.num_examples, 100):
            images, labels = mnist.test.images[i : i + 100], mnist.test.labels[i : i + 100]
            feed_dict = {x: images, y_: labels, keep_prob: 1.0}
            correct.extend(correct_prediction.eval(feed_dict=feed_dict))
        test_accuracy = sum(correct) / len(correct)
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
    parser.add_argument('--precision', choices=['float32', 'bfloat16'], default='float32')
    args = parser.parse_args()
    if args.max_steps < 1:
        parser.error(f'argument --max_steps: expected 1 or more, found {args.max_steps}')
    cpu = Path('/proc/cpuinfo').read_text() if Path('/proc/cpuinfo').exists() else ''
    if args.precision == 'bfloat16' and (tf.VERSION.startswith('1.') or '_bf16' not in cpu):
        parser.error('argument --precision: expected TensorFlow 2 and a CPU that has bfloat16')
    return args


def restore(saver, sess, log_dir):
    """Make the folder, or check it and restore its newest checkpoint, if it has any."""
    try:
        os.makedirs(log_dir, exist_ok=True)
        tempfile.TemporaryFile(dir=log_dir).close()
        state = tf.train.get_checkpoint_state(log_dir)
        if state:
            saver.restore(sess, state.model_checkpoint_path)
            saver.recover_last_checkpoints(state.all_model_checkpoint_paths)
            print(f'Resuming from {state.model_checkpoint_path}.', file=sys.stderr)
        elif any(name.endswith('.index') for name in os.listdir(log_dir)):
            raise ValueError('checkpoints, but no readable file "checkpoint"')
    except (OSError, ValueError, tf.errors.OpError) as error:
        if isinstance(error, (tf.errors.ResourceExhaustedError, tf.errors.InternalError)):
            raise  # no memory is no fault of the folder
        expected = 'a folder to write to, empty or with whole checkpoints of this network: name one'
        found = type(error).__name__ if isinstance(error, tf.errors.OpError) else error
        raise ValueError(f'--log_dir: {log_dir}: expected {expected}, found: {found}') from None


if __name__ == '__main__':
    main()
