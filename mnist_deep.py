"""A convolutional network on MNIST, trained by Adam for 20,000 steps; about 99.2 %.

python mnist_deep.py
"""

import signal

if __name__ == '__main__':
    on_ctrl_c = signal.getsignal(signal.SIGINT)
    if on_ctrl_c != signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ends an import without a traceback

import argparse
import contextlib
import glob
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

import numpy as np
from tqdm import tqdm

import input_data

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')  # TensorFlow's start-up talk looks like errors

import tensorflow.compat.v1 as tf
from tensorflow.python.client import device_lib
from tensorflow.python.platform import build_info

tf.disable_eager_execution()
tf.logging.set_verbosity(tf.logging.ERROR)  # the page's calls are deprecated, and stay

CHECKPOINT_STEPS = 1000
CPU_INFO = '/proc/cpuinfo'


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
    args = parse_flags()
    try:
        mnist, note = input_data.read_mnist_or_bundled_digits(
            args.data_dir, one_hot=True, seed=args.seed
        )
    except (OSError, ValueError) as error:
        fail(error)
    log_dir = folder(args.log_dir)

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
    with tf.name_scope('summaries'):
        tf.summary.scalar('loss', cross_entropy)
        tf.summary.scalar('training_accuracy', accuracy)
        curves = tf.summary.merge_all()
        W_conv1 = tf.trainable_variables()[0]
        filters = tf.summary.image('filters', tf.transpose(W_conv1, [3, 0, 1, 2]), max_outputs=32)

    # Named after the data, so that no run on MNIST resumes from one on the bundled digits.
    checkpoint = os.path.join(log_dir, 'bundled_digits.ckpt' if note else 'model.ckpt')
    saver = tf.train.Saver(max_to_keep=3)
    writer = tf.summary.FileWriter(log_dir, tf.get_default_graph(), flush_secs=10)
    config = session_config(args)
    with ends_in_a_line(checkpoint), tf.Session(config=config) as sess:
        say(f'Training on {device(config)}.')
        say(f'To watch it learn: tensorboard --logdir {shlex.quote(log_dir)}')
        sess.run(tf.global_variables_initializer())
        first = restore(saver, sess, checkpoint)
        done, last = first, max(first, args.max_steps)
        if done == last:
            say(f'All {last} steps are done: evaluating.')
        writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), first)
        if args.seed is not None:
            for _ in range(first):  # the batches that were trained on before
                mnist.train.next_batch(50)

        bar = tqdm(initial=first, total=last, unit=' steps', disable=None)
        with catch_ctrl_c() as ctrl_c, bar:
            for i in range(first, last):
                batch = mnist.train.next_batch(50)
                if i % 100 == 0:
                    train_accuracy, summary = sess.run(
                        [accuracy, curves], feed_dict={x: batch[0], y_: batch[1], keep_prob: 1.0}
                    )
                    with bar.external_write_mode():
                        print('step %d, training accuracy %g' % (i, train_accuracy), flush=True)
                    writer.add_summary(summary, i)
                train_step.run(feed_dict={x: batch[0], y_: batch[1], keep_prob: 0.5})
                bar.update()
                done = i + 1
                stop = bool(ctrl_c)
                if stop or done == last or done % CHECKPOINT_STEPS == 0:
                    saver.save(sess, checkpoint, global_step=done)
                    writer.add_summary(filters.eval(), i)
                if stop:
                    break
        if ctrl_c:
            writer.close()
            raise KeyboardInterrupt(f' after step {done}')

        # In slices, since 10,000 images at once exhaust a small GPU, and take a CPU longer.
        correct = [
            correct_prediction.eval(
                feed_dict={
                    x: mnist.test.images[start : start + 100],
                    y_: mnist.test.labels[start : start + 100],
                    keep_prob: 1.0,
                }
            )
            for start in range(0, mnist.test.num_examples, 100)
        ]
        test_accuracy = np.mean(np.concatenate(correct))
        print('test accuracy %g%s' % (test_accuracy, note), flush=True)
        value = tf.Summary.Value(tag='summaries/test_accuracy', simple_value=test_accuracy)
        writer.add_summary(tf.Summary(value=[value]), last)
        writer.close()


def parse_flags():
    parser = argparse.ArgumentParser(description='Train a convolutional network on MNIST.')
    parser.add_argument('--data_dir', help='folder of the MNIST files (default: MNIST_data here)')
    parser.add_argument('--max_steps', type=positive, default=20000, help='steps to train')
    parser.add_argument('--seed', type=int, help='make runs repeat each other')
    parser.add_argument(
        '--log_dir',
        help='for checkpoints, to resume from, and TensorBoard (default: a temporary folder)',
    )
    parser.add_argument(
        '--no_xla', action='store_true', help="do not compile for the CPU (TensorFlow 1's default)"
    )
    parser.add_argument(
        '--precision',
        type=precision,
        choices=['float32', 'bfloat16'],
        default='float32',
        help='bfloat16: faster and less exact, on TensorFlow 2 and a CPU that multiplies in it',
    )
    return parser.parse_args()


def positive(text):
    """Parse a flag that counts something."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'expected a whole number from 1, found {text}')
    return int(text)


def precision(text):
    """Parse a precision, which must be there for bfloat16."""
    found = what_lacks_bfloat16() if text == 'bfloat16' else None
    if found:
        raise argparse.ArgumentTypeError(
            'bfloat16: expected TensorFlow 2 on Linux and a CPU with avx512_bf16 or amx_bf16, '
            f'found {found}. Leave the flag out to train in float32.'
        )
    return text


def what_lacks_bfloat16():
    """Say what keeps this machine from training in bfloat16, if anything does."""
    if tf.VERSION.startswith('1.'):
        return f'TensorFlow {tf.VERSION}'
    if tf.config.experimental.list_physical_devices('GPU'):
        return 'a GPU'
    if not os.path.exists(CPU_INFO):
        return f'no {CPU_INFO} that tells what the CPU has'
    with open(CPU_INFO) as f:
        return None if re.search(r'\b(avx512_bf16|amx_bf16)\b', f.read()) else 'a CPU without'


def folder(log_dir):
    """Make the folder that --log_dir names, or a temporary one, and return it."""
    try:
        log_dir = log_dir or tempfile.mkdtemp(prefix='mnist_deep_')
        if set('[]*?\\') - {os.sep} & set(log_dir):
            raise OSError(0, 'one of [ ] * ? \\, which are patterns to TensorFlow')
        log_dir.encode()  # as TensorFlow will
        os.makedirs(log_dir, exist_ok=True)
        os.listdir(log_dir)
        with tempfile.TemporaryFile(dir=log_dir) as f:
            f.write(b'0')  # which a full disk refuses
    except (OSError, UnicodeEncodeError) as error:
        reason = getattr(error, 'strerror', error)
        found = f'expected a folder to write to, found: {reason}'
        fail(f'--log_dir: {log_dir or "temporary"}: {found}. Name another one.')
    return log_dir


def say(message):
    """Tell what is not the page's output, which alone goes to stdout."""
    print(message, file=sys.stderr, flush=True)


def fail(message):
    sys.exit(f'{os.path.basename(__file__)}: error: {message}')


def device(config):
    """Say in words what TensorFlow computes on, and why not on a GPU that is there."""
    build = getattr(build_info, 'build_info', vars(build_info))  # TensorFlow 2, or 1.15
    cuda = build.get('cuda_version') or build.get('cuda_version_number')
    gpus = [d for d in device_lib.list_local_devices(config) if d.device_type == 'GPU']
    if gpus:
        return f'the GPU ({gpus[0].physical_device_desc}) with CUDA {cuda}'
    if not (tf.test.is_built_with_cuda() and shutil.which('nvidia-smi')):
        return 'the CPU'
    # TensorFlow tells why in its log alone, which is silent here.
    ask = 'from tensorflow.python.client.device_lib import list_local_devices as f; f()'
    loud = dict(os.environ, TF_CPP_MIN_LOG_LEVEL='0')
    log = subprocess.run([sys.executable, '-c', ask], env=loud, capture_output=True, text=True)
    reasons = re.findall(r'\] (.*(?:[Cc]ould not|Cannot|failed|Ignoring).*)', log.stderr)
    reason = reasons[0] if reasons else 'it finds no GPU'
    return f'the CPU, since this TensorFlow was built for CUDA {cuda}: {reason}'


def session_config(args):
    config = tf.ConfigProto()
    config.gpu_options.allow_growth = True  # a GPU's memory as needed, not all of it
    # XLA's code takes about three quarters of the time that TensorFlow 1's own for the CPU takes.
    # TensorFlow 2's own takes less than half of it, and XLA would slow it down.
    on_cpu = not tf.config.experimental.list_physical_devices('GPU')
    if tf.VERSION.startswith('1.') and on_cpu and not args.no_xla:
        # Evaluation, smaller than training, would wait longer for its compiling than it gains.
        flags = '--tf_xla_cpu_global_jit --tf_xla_min_cluster_size=30'
        os.environ.setdefault('TF_XLA_FLAGS', flags)
        config.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.ON_1
    if args.precision == 'bfloat16':  # variables and Adam stay float32
        rewrite_options = config.graph_options.rewrite_options
        rewrite_options.auto_mixed_precision_onednn_bfloat16 = rewrite_options.ON
    return config


def restore(saver, sess, checkpoint):
    """Restore the newest whole checkpoint; return its step, 0 where there is no checkpoint."""
    remove_halves(checkpoint, older_than=600)  # not those of a run that is still going on
    log_dir, prefix = os.path.split(checkpoint)
    steps = set()
    for name in os.listdir(log_dir):
        match = re.fullmatch(r'(.*?)(-\d+)?\.(index|meta|data-\d+-of-\d+)', name)
        if match and (match.group(1) != prefix or not match.group(2)):
            path = os.path.join(log_dir, name)
            fail(
                '--log_dir: expected a folder of this script on the same data, '
                f'found {path}. Name another one.'
            )
        if match:
            steps.add(-int(match.group(2)))
    paths = [f'{checkpoint}-{step}' for step in sorted(steps)]
    while paths:
        try:
            saver.restore(sess, paths[-1])
        except (tf.errors.OpError, ValueError) as error:
            found = in_a_line(error)
            say(f'{paths.pop()}: expected a checkpoint of this network, found: {found}')
        else:
            saver.recover_last_checkpoints(paths)
            say(f'Resuming from {paths[-1]}.')
            return sorted(steps)[len(paths) - 1]
    if steps:
        fail(f'--log_dir: nothing in {log_dir} can be resumed. Remove it or name another folder.')
    return 0


def remove_halves(checkpoint, older_than):
    """Remove what is left of checkpoints whose writing was killed or found no room."""
    for path in glob.glob(glob.escape(checkpoint) + '-*.tempstate*'):
        if time.time() - os.path.getmtime(path) >= older_than:  # seconds
            os.remove(path)


def in_a_line(error):
    """What TensorFlow says went wrong, which stands before where in the graph it did."""
    before_node = re.search(r'^(.*)\n\s*\[\[', str(error), re.MULTILINE)
    line = before_node.group(1) if before_node else str(error).partition('\n')[0]
    return line.strip(' .') or type(error).__name__


@contextlib.contextmanager
def catch_ctrl_c():
    """Yield a list, empty until Ctrl-C is pressed, so that no step is cut in two."""
    pressed = []

    def note(signum, frame):
        pressed.append(signum)
        signal.signal(signal.SIGINT, before)  # a second Ctrl-C does not wait

    before = signal.getsignal(signal.SIGINT)
    if before != signal.SIG_IGN:
        signal.signal(signal.SIGINT, note)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def ends_in_a_line(checkpoint):
    """Say how to resume after Ctrl-C, or where a checkpoint or an event cannot be written."""
    log_dir, prefix = os.path.split(checkpoint)
    resume = f'with the same flags and --log_dir {shlex.quote(log_dir)}'
    try:
        yield
    except KeyboardInterrupt as stop:
        say(f'Stopped{stop}. Resume {resume}')
        sys.exit(130)
    except (tf.errors.OpError, RuntimeError, OSError, ValueError) as error:
        reason = in_a_line(error)
        if prefix not in reason and 'tfevents' not in reason:
            raise
        remove_halves(checkpoint, older_than=0)
        fail(f'--log_dir: cannot write: {reason}. Make room and resume {resume}')


if __name__ == '__main__':
    signal.signal(signal.SIGINT, on_ctrl_c)
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:  # those of files are caught where they arise
        sys.stdout = None  # Python would flush it at its end, and fail again
        name = error.filename or 'standard output'
        fail(f'{name}: expected to be written to, found: {error.strerror}')
