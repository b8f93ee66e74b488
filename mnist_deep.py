"""A convolutional network on MNIST, trained by Adam for 20,000 steps; about 99.2 %."""

import argparse
import glob
import os
import shlex
import signal
import sys
import tempfile
import zlib

from tqdm import tqdm

import input_data

# Set before the import: no log, and oneDNN, which is faster. TensorFlow 2 turns oneDNN on by itself
# only on CPUs with instructions for neural networks.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '1')
import tensorflow.compat.v1 as tf

tf.logging.set_verbosity(tf.logging.ERROR)  # hides deprecation warnings about the tutorial's calls

BATCH_SIZE = 50
CHECKPOINT = 'model.ckpt'  # how the names of a checkpoint's files begin


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
        tf.nn.softmax(y_conv, name='probabilities')  # for programs that load the network
    # For TensorBoard: 5 x 5 x 1 x 32 weights become 32 grey images of 5 x 5 pixels.
    filters = tf.transpose(W_conv1, [3, 0, 1, 2], name='summaries/transpose')
    tf.summary.image('summaries/filters', filters, max_outputs=32)
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

    # The network, its loss, the training step and the accuracy.
    tf.set_random_seed(args.seed)
    x = tf.placeholder(tf.float32, shape=[None, 784], name='x')
    y_ = tf.placeholder(tf.float32, shape=[None, 10], name='y_')
    y_conv, keep_prob = deepnn(x)
    with tf.name_scope('loss'):
        losses = tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=y_conv)
        cross_entropy = tf.reduce_mean(losses, name='cross_entropy')
    global_step = tf.train.get_or_create_global_step()
    with tf.name_scope('adam_optimizer'):
        train_step = tf.train.AdamOptimizer(1e-4).minimize(cross_entropy, global_step)
    with tf.name_scope('accuracy'):
        correct_prediction = tf.equal(
            tf.argmax(y_conv, 1), tf.argmax(y_, 1), name='correct_prediction'
        )
        accuracy = tf.reduce_mean(tf.cast(correct_prediction, tf.float32), name='accuracy')

    # What TensorBoard shows, besides the filters in deepnn.
    tf.summary.scalar('summaries/loss', cross_entropy)
    tf.summary.scalar('summaries/training_accuracy', accuracy)
    summaries = tf.summary.merge_all(name='summaries/merge')

    # A checkpoint holds all variables. One is a checksum, so that no run resumes on other data. It
    # leaves the training images out: they are large, and other data has other labels, too.
    validation_crc = zlib.crc32(mnist.validation.labels, zlib.crc32(mnist.validation.images))
    crc = zlib.crc32(mnist.train.labels, validation_crc)
    data_crc = tf.Variable(crc, trainable=False, name='data_crc', dtype=tf.int64)
    saver = tf.train.Saver(max_to_keep=3, save_relative_paths=True)  # so that log_dir may be moved

    # Train, from the newest checkpoint in log_dir if there is one.
    log_dir = args.log_dir or tempfile.mkdtemp(prefix='mnist_deep_')
    checkpoint = os.path.join(log_dir, CHECKPOINT)
    with tf.Session(config=session_config(args.precision)) as sess:
        sess.run(tf.global_variables_initializer())
        start = restore(sess, saver, log_dir, data_crc)
        # Skip the batches that were trained on. With --seed, the next ones then follow.
        for _ in range(start):
            mnist.train.next_batch(BATCH_SIZE)
        print('Training on the GPU.' if has_gpu() else 'Training on the CPU.', file=sys.stderr)
        print(f'To watch it learn: tensorboard --logdir {shlex.quote(log_dir)}', file=sys.stderr)
        writer = tf.summary.FileWriter(log_dir, sess.graph, flush_secs=10)
        # Tells TensorBoard to drop what a killed run logged after its last checkpoint.
        writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), start)
        try:
            steps = range(start, args.max_steps)
            # disable=None: a bar only on a terminal.
            for i in tqdm(steps, initial=start, total=args.max_steps, disable=None):
                batch = mnist.train.next_batch(BATCH_SIZE)
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

            # Test, in slices: all images at once exhaust a small GPU, and slow a CPU.
            correct = []
            for n in range(0, mnist.test.num_examples, 100):
                images, labels = mnist.test.images[n : n + 100], mnist.test.labels[n : n + 100]
                feed_dict = {x: images, y_: labels, keep_prob: 1.0}
                correct.extend(correct_prediction.eval(feed_dict=feed_dict))
            test_accuracy = sum(correct) / len(correct)
            print('test accuracy %g%s' % (test_accuracy, caveat))
            # Computed in Python, so its summary is made by hand.
            value = tf.Summary.Value(tag='summaries/test_accuracy', simple_value=test_accuracy)
            writer.add_summary(tf.Summary(value=[value]), sess.run(global_step))
        except KeyboardInterrupt:
            save_and_exit(sess, saver, log_dir)
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
    # A script that is pasted into a notebook or an editor's console finds its kernel's flags in
    # sys.argv, not its own.
    is_script = os.path.realpath(sys.argv[0]) == os.path.realpath(globals().get('__file__', ''))
    args = parser.parse_args(sys.argv[1:] if is_script else [])
    if args.max_steps < 1:
        parser.error(f'--max_steps must be at least 1, not {args.max_steps}')
    if args.precision == 'bfloat16' and (tf.VERSION.startswith('1.') or not cpu_has_bfloat16()):
        hardware = 'TensorFlow 2, Linux and a CPU with AVX512-BF16 or AMX-BF16'
        parser.error(f'bfloat16 needs {hardware}; leave --precision out')
    if args.log_dir:
        problem = make_folder(args.log_dir)
        if problem:
            parser.error(f'{problem}; choose another --log_dir')
    return args


def make_folder(log_dir):
    """Make the folder of the run, unless it is there; return what is wrong with it, or None."""
    wildcards = '[ ] * ?' if os.sep == '\\' else '[ ] * ? \\'
    if set(wildcards.split()) & set(log_dir):
        # TensorFlow would look for its checkpoints elsewhere, and delete old ones there.
        return f'{wildcards} in {log_dir} are wildcards here'
    if '://' in log_dir:
        return f'{log_dir} is an address, not a folder'
    try:
        log_dir.encode()
        os.makedirs(log_dir, exist_ok=True)
    except UnicodeEncodeError:
        return f'TensorFlow cannot write to {log_dir!r}, whose name is not UTF-8'
    except OSError:
        return f'cannot write to {log_dir}'
    writable = os.access(log_dir, os.R_OK | os.W_OK | os.X_OK)
    return None if writable else f'cannot write to {log_dir}'


def cpu_has_bfloat16():
    """Tell whether the CPU has AVX512-BF16 or AMX-BF16. Only Linux tells, so False elsewhere."""
    if not os.path.exists('/proc/cpuinfo'):
        return False
    with open('/proc/cpuinfo') as f:
        return '_bf16' in f.read()


def has_gpu():
    """Tell whether TensorFlow has found a GPU."""
    # tensorflow-directml calls it DML. TensorFlow 1 lists each device once more, as XLA's.
    types = {device.device_type for device in tf.config.experimental.list_physical_devices()}
    return bool(types - {'CPU', 'XLA_CPU', 'XLA_GPU'})


def session_config(precision):
    """Return the session's settings. On TensorFlow 1 without a GPU, also turn XLA on."""
    # Don't claim all of the GPU's memory.
    config = tf.ConfigProto(gpu_options=tf.GPUOptions(allow_growth=True))
    if precision == 'bfloat16':  # in matmul and conv2d; variables and Adam stay float32
        options = config.graph_options.rewrite_options
        options.auto_mixed_precision_onednn_bfloat16 = options.ON
    if tf.VERSION.startswith('1.') and not has_gpu():
        # XLA's code for the CPU is faster than TensorFlow 1's own.
        xla = '--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit --tf_xla_min_cluster_size=30'
        os.environ.setdefault('TF_XLA_FLAGS', xla)
    return config


def restore(sess, saver, log_dir, data_crc):
    """Restore the newest checkpoint; return its number of steps, or 0 if there is no checkpoint.

    If log_dir holds something that cannot be resumed, leave it as it is and end the run.
    """
    prefix = os.path.join(log_dir, CHECKPOINT + '-')
    try:
        state = tf.train.get_checkpoint_state(log_dir)
        found = state and tf.train.checkpoint_exists(state.model_checkpoint_path)
    except (ValueError, tf.errors.OpError):  # the file "checkpoint" is empty or of something else
        found = False
    if not found:
        if os.path.lexists(os.path.join(log_dir, 'checkpoint')) or glob.glob(prefix + '*.index'):
            problem = 'is missing or damaged, or names a missing checkpoint'
            refuse(log_dir, f'its file "checkpoint" {problem}')
        return 0

    checkpoint = state.model_checkpoint_path
    shapes = {variable.op.name: variable.shape.as_list() for variable in tf.global_variables()}
    crc = sess.run(data_crc)
    try:
        if dict(tf.train.list_variables(checkpoint)) != shapes:
            refuse(log_dir, 'its checkpoint belongs to another network')
        saver.restore(sess, checkpoint)
    except (ValueError, tf.errors.OpError):
        problem = f'its checkpoint {os.path.basename(checkpoint)} is damaged or cannot be read'
        line = f'the first line of {os.path.join(log_dir, "checkpoint")}'
        older = f', or put the name of an older one between the quotes in {line}'
        refuse(log_dir, problem, older)
    if sess.run(data_crc) != crc:
        refuse(log_dir, 'that run used other data')

    # Keep three checkpoints across runs, not three per run. A copied folder may name checkpoints of
    # the original; those must stay.
    own = [path for path in state.all_model_checkpoint_paths if path.startswith(prefix)]
    saver.recover_last_checkpoints(own)
    steps = sess.run(tf.train.get_global_step())
    print(f'Resuming from {checkpoint}, after {steps} steps.', file=sys.stderr)
    return steps


def refuse(log_dir, problem, other_remedy=''):
    remedy = f'Choose another --log_dir{other_remedy}.'
    sys.exit(f'mnist_deep.py: error: cannot resume from {log_dir}: {problem}. {remedy}')


def save_and_exit(sess, saver, log_dir):
    """Save after Ctrl-C, say how to resume, and end with the status of an interrupted program."""
    # People press Ctrl-C twice; the second one must not stop this.
    previous_handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        steps = sess.run(tf.train.get_global_step())
        saver.save(sess, os.path.join(log_dir, CHECKPOINT), steps)
        resume = f'use the same flags and --log_dir {shlex.quote(log_dir)}'
        print(f'Stopped after {steps} steps. To resume, {resume}', file=sys.stderr)
    finally:
        signal.signal(signal.SIGINT, previous_handler)
    sys.exit(130)


if __name__ == '__main__':
    # Does what README's tf.disable_eager_execution() does, but only inside this block.
    with tf.Graph().as_default():
        try:
            main()
        except (SystemExit, KeyboardInterrupt) as end:
            # Without `from None`, IPython 7 also prints the error behind the exit, over pages.
            raise SystemExit(getattr(end, 'code', 130)) from None  # 130 after Ctrl-C
