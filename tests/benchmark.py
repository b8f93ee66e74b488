"""Compare the scripts with the tutorial's plain code, and with PyTorch, on this machine.

python tests/benchmark.py --python TF1/bin/python --python TORCH/bin/python

It measures with the running Python, and with each that --python names. What is compared takes
turns, since machines are noisy. MNIST is looked for in MNIST_DATA_DIR, then in MNIST_data/.
"""

import argparse
import atexit
import contextlib
import importlib
import json
import os
import re
import resource
import runpy
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ORIGINAL = 'tensorflow.examples.tutorials.mnist.input_data'  # not in TensorFlow 2, which gets ours
MEGABYTE = 2**20 if sys.platform == 'darwin' else 2**10  # in the units of ru_maxrss
FIGURES = {  # labels for who is measured, and units
    'steps': ('100 steps of {}', 's'),
    'test': ('Test on 10,000 images by {}', 's'),
    'peak': ('Peak memory of {}', 'MB'),
    'read': ('Reading {}', 's'),
    'added': ('Memory taken up by {}', 'MB'),
    'batches': ('5,500 batches of 100 from {}', 's'),
    'slowest': ('Slowest batch of 100 from {}', 'ms'),
}


def tutorial(data_dir, max_steps):
    """The tutorial's code for the network, with softmax twice."""
    import tensorflow.compat.v1 as tf

    from mnist_deep import deepnn  # with the tutorial's layers

    tf.disable_eager_execution()
    input_data = importlib.import_module(ORIGINAL if tf.VERSION[0] == '1' else 'input_data')
    mnist = input_data.read_data_sets(data_dir, one_hot=True)
    x = tf.placeholder(tf.float32, shape=[None, 784])
    y_ = tf.placeholder(tf.float32, shape=[None, 10])
    y_conv, keep_prob = deepnn(x)
    y_conv = tf.nn.softmax(y_conv)
    loss = tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=y_conv)
    train_step = tf.train.AdamOptimizer(1e-4).minimize(tf.reduce_mean(loss))
    correct_prediction = tf.equal(tf.argmax(y_conv, 1), tf.argmax(y_, 1))
    accuracy = tf.reduce_mean(tf.cast(correct_prediction, tf.float32))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for i in range(max_steps):
            batch = mnist.train.next_batch(50)
            if i % 100 == 0:
                train_accuracy = accuracy.eval({x: batch[0], y_: batch[1], keep_prob: 1.0})
                print('step %d, training accuracy %g' % (i, train_accuracy), flush=True)
            train_step.run({x: batch[0], y_: batch[1], keep_prob: 0.5})
        print(accuracy.eval({x: mnist.test.images, y_: mnist.test.labels, keep_prob: 1.0}))


def pytorch(data_dir, tuned):
    """The convolutional network and its loop in PyTorch."""
    import torch
    from torch import nn

    import input_data

    conv1 = nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)
    conv2 = nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)
    dense = nn.Flatten(), nn.Linear(7 * 7 * 64, 1024), nn.ReLU(), nn.Dropout(0.5)
    layout = torch.channels_last if tuned else torch.contiguous_format
    network = nn.Sequential(*conv1, *conv2, *dense, nn.Linear(1024, 10)).to(memory_format=layout)
    adam = torch.optim.Adam(network.parameters(), lr=1e-4, fused=tuned or None)
    train = input_data.read_data_sets(data_dir).train
    for i in range(20000):
        images, labels = train.next_batch(50)
        x = torch.from_numpy(images).view(-1, 1, 28, 28).contiguous(memory_format=layout)
        y_ = torch.from_numpy(labels).long()
        if i % 100 == 0:
            train_accuracy = (network.eval()(x).argmax(1) == y_).float().mean()
            print('step %d, training accuracy %g' % (i, train_accuracy), flush=True)
        adam.zero_grad()
        nn.functional.cross_entropy(network.train()(x), y_).backward()
        adam.step()


def script(name, data_dir, flags=()):
    """Run a script of the project as its users do."""
    sys.argv = [name, '--data_dir', data_dir, *flags]
    runpy.run_path(str(HERE.parent / name), run_name='__main__')


def report_test():
    """At the end of what follows, report how many seconds its test took."""
    import tensorflow.compat.v1 as tf

    original, evaluations = tf.Session.run, []

    def run(self, fetches, feed_dict=None):
        began = time.perf_counter()
        result = original(self, fetches, feed_dict)
        fed = {getattr(key, 'name', key): value for key, value in (feed_dict or {}).items()}
        if fed.get('keep_prob:0') == 1.0:
            evaluations.append((began, time.perf_counter()))
        return result

    def report():
        _log_line, *test = evaluations
        print(json.dumps({'test': test[-1][1] - test[0][0]}))

    tf.Session.run = run
    atexit.register(report)


def reading(module, data_dir):
    """Report seconds, the slowest batch's ms, and the MB by which both together raise the peak."""
    import tensorflow  # noqa: F401, in use with both

    input_data = importlib.import_module(module)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = [time.perf_counter()]
    train = input_data.read_data_sets(data_dir, one_hot=True).train
    times.append(time.perf_counter())
    for _ in range(5500):
        train.next_batch(100)
        times.append(time.perf_counter())
    added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / MEGABYTE
    read, *batches = (end - start for start, end in zip(times, times[1:]))
    slowest = 1000 * max(batches)
    print(json.dumps({'read': read, 'added': added, 'batches': sum(batches), 'slowest': slowest}))


def call(function, **arguments):
    """Return the Python code that calls one of the functions above."""
    return f'benchmark.{function.__name__}(**{arguments!r})'


def start(python, *calls):
    """Do these calls in a process of its own."""
    code = '; '.join(['import benchmark', *calls])
    output = {'stdout': subprocess.PIPE, 'stderr': subprocess.STDOUT, 'universal_newlines': True}
    return subprocess.Popen([python, '-W', 'ignore', '-c', code], **output)


def in_steps(python, *calls):
    """Yield seconds for 100 steps after the first 100; in between, the process stands still."""
    # Saving, which mnist_deep.py does every 1,000 steps, falls into the ninth figure.
    with start(python, *calls) as process, contextlib.ExitStack() as stack:
        stack.callback(process.kill)
        line, began = '', time.perf_counter()
        for line in process.stdout:
            if line.startswith('step'):
                process.send_signal(signal.SIGSTOP)
                if not line.startswith(('step 0,', 'step 100,')):
                    yield {'steps': time.perf_counter() - began}
                began = time.perf_counter()
                process.send_signal(signal.SIGCONT)
        raise RuntimeError(line.strip())


def in_whole(python, *calls):
    """Yield the peak memory and whatever else is reported of one process after the other."""
    while True:
        with start(python, *calls) as process:
            lines = process.stdout.read().splitlines()
            _, process.returncode, usage = os.wait4(process.pid, 0)
        if process.returncode:
            raise RuntimeError(lines[-1] if lines else 'no output')
        reports = [json.loads(line) for line in lines if line.startswith('{')]
        yield dict(*reports, peak=usage.ru_maxrss / MEGABYTE)


def compare(rounds, measure, processes, *figures):
    """Let `processes`, {who: (python, call…)}, take turns; print figures, with ratios to the first.

    `measure` is in_steps or in_whole.
    """
    turns = {who: measure(*process) for who, process in processes.items()}
    results = {who: [] for who in processes}
    with contextlib.ExitStack() as stack:
        for who in processes:
            stack.callback(turns[who].close)
        for _ in range(rounds):
            for who in list(results):
                try:
                    results[who].append(next(turns[who]))
                except RuntimeError as error:
                    print(f'{who:80} | left out: it ended with "{error}"', flush=True)
                    del results[who]
    for name in figures:
        label, unit = FIGURES[name]
        medians = []
        for who, measured in results.items():
            values = [each[name] for each in measured]
            medians.append(statistics.median(values))
            median, ratio = f'{medians[-1]:.4g} {unit}', medians[-1] / medians[0]
            spread = f'{min(values):.4g}-{max(values):.4g}'
            print(f'{label.format(who):80} | {median:>9} | {spread:>14} | {ratio:5.2f}', flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--python', action='append', default=[], help='one more Python; repeatable')
    parser.add_argument('--rounds', type=int, default=5, help='turns that each one takes')
    args = parser.parse_args()
    data_dir = os.environ.get('MNIST_DATA_DIR') or str(HERE.parent / 'MNIST_data')
    if len(list(Path(data_dir).glob('*-ubyte.gz'))) < 4:
        sys.exit(f'benchmark: error: {data_dir}: MNIST is not there; set MNIST_DATA_DIR')
    libraries = {}
    for path in [sys.executable, *args.python]:
        libraries.update(find_libraries(path))
    print('; '.join([describe_machine(), *libraries]))
    print(f'Medians of {args.rounds} rounds; each ratio is to the nearest line above it with 1.00.')
    print(f'{"what":80} | {"median":>9} | lowest-highest | ratio')
    for name in ('TensorFlow 1', 'TensorFlow 2', 'PyTorch'):
        if not any(library.startswith(name) for library in libraries):
            print(f'{name:80} | left out: no Python here has it; name one with --python')
    with tempfile.TemporaryDirectory() as folder:
        os.environ['PYTHONPATH'] = f'{HERE}:{HERE.parent}'
        os.environ.update(TF_CPP_MIN_LOG_LEVEL='3', TMPDIR=folder)
        compare_all(libraries, data_dir, args.rounds)


def compare_all(libraries, data_dir, rounds):
    """Compare what `libraries`, {name with version: python}, can run."""
    tensorflows = [item for item in sorted(libraries.items()) if item[0].startswith('TensorFlow')]
    tutorial_deep = call(tutorial, data_dir=data_dir, max_steps=20000)
    ours_deep = call(script, name='mnist_deep.py', data_dir=data_dir)
    flags = ['--precision', 'bfloat16']
    ours_bfloat16 = call(script, name='mnist_deep.py', data_dir=data_dir, flags=flags)
    networks, readers = {}, {}
    for name, python in tensorflows:
        networks[f"the tutorial's code on {name}"] = python, tutorial_deep
        networks[f'mnist_deep.py on {name}'] = python, ours_deep
        if name.startswith('TensorFlow 1'):
            read = call(reading, module=ORIGINAL, data_dir=data_dir)
            readers[f"MNIST with {name}'s own input_data"] = python, read
        else:
            networks[f'mnist_deep.py --precision bfloat16 on {name}'] = python, ours_bfloat16
        read = call(reading, module='input_data', data_dir=data_dir)
        readers[f'MNIST with input_data.py on {name}'] = python, read
    for name in libraries.keys() - dict(tensorflows):
        plain, tuned = (call(pytorch, data_dir=data_dir, tuned=tuned) for tuned in (False, True))
        networks[f'{name} (plain)'] = libraries[name], plain
        networks[f'{name} (fused Adam, channels_last)'] = libraries[name], tuned
    compare(rounds, in_steps, networks, 'steps')

    one_step = ['--max_steps', '1']
    one_feed = call(tutorial, data_dir=data_dir, max_steps=1)
    slices = call(script, name='mnist_deep.py', data_dir=data_dir, flags=one_step)
    for name, python in tensorflows:
        tests = {
            f'the tutorial (one feed) on {name}': (python, call(report_test), one_feed),
            f'mnist_deep.py on {name}': (python, call(report_test), slices),
        }
        compare(rounds, in_whole, tests, 'test', 'peak')
    compare(rounds, in_whole, readers, 'read', 'added', 'batches', 'slowest')


def find_libraries(path):
    """Return {library with version: path} for what a Python has of TensorFlow and PyTorch."""
    libraries = {}
    for module, library in (('tensorflow', 'TensorFlow'), ('torch', 'PyTorch')):
        command = [path, '-W', 'ignore', '-c', f'import {module}; print({module}.__version__)']
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            version = subprocess.check_output(command, stderr=subprocess.DEVNULL)
            libraries[f'{library} {version.decode().strip()}'] = path
    return libraries or sys.exit(f'benchmark: error: {path}: no Python with TensorFlow or PyTorch')


def describe_machine():
    """Name CPU, its vector instructions, cores and commit, as far as the system tells."""
    cpuinfo = subprocess.getoutput('cat /proc/cpuinfo')
    cpu = [*re.findall('model name\t: (.*)', cpuinfo), 'unknown CPU'][0]
    found = re.findall(r'\b(avx2|avx512f|avx512_bf16|amx_bf16)\b', cpuinfo)
    instructions = ', '.join(sorted(set(found))) or 'no AVX2'
    commit = subprocess.getoutput(f'git -C "{HERE}" describe --always --dirty')
    return f'{cpu} ({instructions}); {os.cpu_count()} cores; commit {commit}'


if __name__ == '__main__':
    main()
