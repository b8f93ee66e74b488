"""Compare the two scripts with the page's plain code, and with PyTorch, on this machine.

python tests/benchmark.py --python TF1/bin/python --python TORCH/bin/python

It measures with the running Python, and with each that --python names. What is to be compared runs
by turns, since machines are noisy. MNIST is looked for in MNIST_DATA_DIR, then in MNIST_data/.
"""

import argparse
import collections
import contextlib
import importlib
import itertools
import json
import os
import platform
import re
import resource
import runpy
import signal
import statistics
import subprocess
import sys
import tempfile
import time

FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
REPORT = 'benchmark: '

Python = collections.namedtuple('Python', ['path', 'library', 'version'])


def page_start(data_dir):
    """Return tf and MNIST, read by TensorFlow 1's own module; by ours where there is none."""
    import tensorflow.compat.v1 as tf

    tf.disable_eager_execution()
    tf.logging.set_verbosity(tf.logging.ERROR)
    if tf.VERSION.startswith('1.'):
        from tensorflow.examples.tutorials.mnist import input_data
    else:
        import input_data
    return tf, input_data.read_data_sets(data_dir, one_hot=True)


def page_softmax(data_dir):
    """Softmax regression as the page has it."""
    tf, mnist = page_start(data_dir)
    x = tf.placeholder(tf.float32, shape=[None, 784])
    y_ = tf.placeholder(tf.float32, shape=[None, 10])
    W = tf.Variable(tf.zeros([784, 10]))
    b = tf.Variable(tf.zeros([10]))
    sess = tf.InteractiveSession()
    sess.run(tf.global_variables_initializer())
    y = tf.matmul(x, W) + b
    loss = tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=y)
    train_step = tf.train.GradientDescentOptimizer(0.5).minimize(tf.reduce_mean(loss))
    for _ in range(1000):
        batch = mnist.train.next_batch(100)
        train_step.run(feed_dict={x: batch[0], y_: batch[1]})
    correct_prediction = tf.equal(tf.argmax(y, 1), tf.argmax(y_, 1))
    accuracy = tf.reduce_mean(tf.cast(correct_prediction, tf.float32))
    print(accuracy.eval(feed_dict={x: mnist.test.images, y_: mnist.test.labels}))


def page_deep(data_dir, max_steps=20000):
    """The convolutional network as the page has it, softmax twice and the test in one feed."""
    from mnist_deep import bias_variable, conv2d, max_pool_2x2, weight_variable

    tf, mnist = page_start(data_dir)
    x = tf.placeholder(tf.float32, shape=[None, 784])
    y_ = tf.placeholder(tf.float32, shape=[None, 10])
    x_image = tf.reshape(x, [-1, 28, 28, 1])
    h_conv1 = tf.nn.relu(conv2d(x_image, weight_variable([5, 5, 1, 32])) + bias_variable([32]))
    h_pool1 = max_pool_2x2(h_conv1)
    h_conv2 = tf.nn.relu(conv2d(h_pool1, weight_variable([5, 5, 32, 64])) + bias_variable([64]))
    h_pool2_flat = tf.reshape(max_pool_2x2(h_conv2), [-1, 7 * 7 * 64])
    W_fc1 = weight_variable([7 * 7 * 64, 1024])
    h_fc1 = tf.nn.relu(tf.matmul(h_pool2_flat, W_fc1) + bias_variable([1024]))
    keep_prob = tf.placeholder(tf.float32)
    h_fc1_drop = tf.nn.dropout(h_fc1, keep_prob)
    W_fc2 = weight_variable([1024, 10])
    y_conv = tf.nn.softmax(tf.matmul(h_fc1_drop, W_fc2) + bias_variable([10]))
    loss = tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=y_conv)
    train_step = tf.train.AdamOptimizer(1e-4).minimize(tf.reduce_mean(loss))
    correct_prediction = tf.equal(tf.argmax(y_conv, 1), tf.argmax(y_, 1))
    accuracy = tf.reduce_mean(tf.cast(correct_prediction, tf.float32))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for i in range(max_steps):
            batch = mnist.train.next_batch(50)
            if i % 100 == 0:
                feed_dict = {x: batch[0], y_: batch[1], keep_prob: 1.0}
                train_accuracy = accuracy.eval(feed_dict=feed_dict)
                print('step %d, training accuracy %g' % (i, train_accuracy), flush=True)
            train_step.run(feed_dict={x: batch[0], y_: batch[1], keep_prob: 0.5})
        feed_dict = {x: mnist.test.images, y_: mnist.test.labels, keep_prob: 1.0}
        print('test accuracy %g' % accuracy.eval(feed_dict=feed_dict))


def pytorch(data_dir, tuned):
    """The same network and loop in PyTorch, for ever."""
    import torch
    from torch import nn

    import input_data

    torch.set_num_threads(cores())
    network = nn.Sequential(
        *(nn.Conv2d(1, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(7 * 7 * 64, 1024), nn.ReLU(), nn.Dropout(0.5)),
        nn.Linear(1024, 10),
    )
    layout = torch.channels_last if tuned else torch.contiguous_format
    network = network.to(memory_format=layout)
    adam = torch.optim.Adam(network.parameters(), lr=1e-4, **({'fused': True} if tuned else {}))
    loss = nn.CrossEntropyLoss()
    train = input_data.read_data_sets(data_dir).train
    for i in itertools.count():
        images, labels = train.next_batch(50)
        x = torch.from_numpy(images).view(-1, 1, 28, 28).contiguous(memory_format=layout)
        y_ = torch.from_numpy(labels).long()
        if i % 100 == 0:
            with torch.no_grad():
                train_accuracy = (network.eval()(x).argmax(1) == y_).float().mean().item()
            network.train()
            print('step %d, training accuracy %g' % (i, train_accuracy), flush=True)
        adam.zero_grad()
        loss(network(x), y_).backward()
        adam.step()


def loader(module, data_dir):
    """Report what reading MNIST and drawing 5,500 batches of 100 take."""
    import tensorflow.compat.v1 as tf

    tf.logging.set_verbosity(tf.logging.ERROR)
    input_data = importlib.import_module(module)
    before = peak_megabytes()
    began = time.perf_counter()
    train = input_data.read_data_sets(data_dir, one_hot=True).train
    read = time.perf_counter() - began
    added = peak_megabytes() - before
    batches = []
    for _ in range(5500):
        began = time.perf_counter()
        train.next_batch(100)
        batches.append(time.perf_counter() - began)
    report(read=read, added=added, batches=sum(batches), slowest=1000 * max(batches))


def observe(main, *args):
    """Run `main`; report on the session's runs that were fed images.

    That is: seconds from TensorFlow imported to the second of them (before a script's first step
    comes a log line), seconds of the test, and what lies between the runs, in % of them.
    """
    from tensorflow.python.client import session

    imported = time.perf_counter()
    runs = []
    original = session.BaseSession._call_tf_sessionrun

    def observed(self, options, feed_dict, *rest):
        began = time.perf_counter()
        result = original(self, options, feed_dict, *rest)
        ended = time.perf_counter()
        rows = [len(value) for value in feed_dict.values() if value.ndim == 2]
        if rows:
            runs.append((began, ended, rows[0]))
        return result

    session.BaseSession._call_tf_sessionrun = observed
    main(*args)
    batch = runs[0][2]
    train = [(start, end) for start, end, rows in runs if rows == batch]
    test = [(start, end) for start, end, rows in runs if rows != batch]
    around = []
    for first in range(0, len(train) - 1010, 101):  # 1,000 steps, ten log lines, one checkpoint
        within = sum(end - start for start, end in train[first : first + 1010])
        around.append(100 * ((train[first + 1010][0] - train[first][0]) / within - 1))
    seconds = test[-1][1] - test[0][0]
    report(start=train[1][1] - imported, evaluation=seconds, around=around)


def script(name, *flags):
    """Run a script of the project as its users do."""
    sys.argv = [name, *flags]
    runpy.run_path(os.path.join(FOLDER, name), run_name='__main__')


def report(**figures):
    print(REPORT + json.dumps(figures), file=sys.stderr)


def peak_megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def start(python, call, **pipes):
    """Start `call`, an expression, with this file's names, in a process of its own."""
    path = os.pathsep.join([FOLDER, os.path.join(FOLDER, 'tests')])
    env = dict(os.environ, TF_CPP_MIN_LOG_LEVEL='3', PYTHONPATH=path)
    command = [python.path, '-W', 'ignore', '-c', 'from benchmark import *; ' + call]
    return subprocess.Popen(command, env=env, universal_newlines=True, **pipes)


def finish(python, call):
    """Run `call` to its end; return seconds, peak megabytes and what it reported."""
    began = time.perf_counter()
    with tempfile.TemporaryFile('w+') as errors:
        process = start(python, call, stdout=subprocess.DEVNULL, stderr=errors)
        _, process.returncode, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        errors.seek(0)
        lines = errors.read().splitlines()
    if process.returncode:
        sys.exit(f'benchmark: {call} failed: {" ".join(lines[-1:])}')
    figures = {'seconds': seconds, 'megabytes': usage.ru_maxrss / 1024}
    for line in lines:
        if line.startswith(REPORT):
            figures.update(json.loads(line[len(REPORT) :]))
    return figures


def race(calls, rounds=5):
    """Return seconds for 100 steps of each, one going on while the others stand still."""
    processes, results = {}, {}

    def next_line(process):
        return any(line.startswith('step') for line in iter(process.stdout.readline, ''))

    with contextlib.ExitStack() as stack:
        for name, (python, call) in calls.items():
            errors = stack.enter_context(tempfile.TemporaryFile('w+'))
            process = start(python, call, stdout=subprocess.PIPE, stderr=errors)
            stack.callback(process.wait)
            stack.callback(process.kill)
            # Compiling, and whatever else happens once, is over at the second line.
            if next_line(process) and next_line(process):
                process.send_signal(signal.SIGSTOP)
                processes[name], results[name] = process, []
            else:
                errors.seek(0)
                left_out(name, errors.read().splitlines()[-1])
        for _ in range(rounds):
            for name, process in processes.items():
                began = time.perf_counter()
                process.send_signal(signal.SIGCONT)
                if not next_line(process):
                    sys.exit(f'benchmark: {name} ended early')
                results[name].append(time.perf_counter() - began)
                process.send_signal(signal.SIGSTOP)
    return results


def row(name, values, unit, base=None):
    """Print a line of the table, with the ratio to the median of `base`."""
    median = statistics.median(values)
    ratio = f'{median / statistics.median(base):8.2f}' if base else ''
    spread = f'({min(values):.4g}-{max(values):.4g})'
    print(f'| {name:54} | {median:8.4g} {unit:3} {spread:17} | {ratio:8} |', flush=True)


def left_out(name, reason):
    print(f'| {name:54} | left out: {reason}', flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--python', action='append', default=[], help='one more Python; repeatable')
    args = parser.parse_args()

    data_dir = os.environ.get('MNIST_DATA_DIR') or os.path.join(FOLDER, 'MNIST_data')
    for name in ('train-images-idx3', 'train-labels-idx1', 't10k-images-idx3', 't10k-labels-idx1'):
        if not os.path.exists(os.path.join(data_dir, name + '-ubyte.gz')):
            sys.exit(f'benchmark: error: {data_dir} has no {name}-ubyte.gz; set MNIST_DATA_DIR')
    pythons = [detect(path) for path in [sys.executable, *args.python]]
    print(machine())
    print('; '.join(f'{p.library} {p.version}' for p in pythons))
    print(f'| {"what":54} | {"median (spread)":31} | {"ratio":8} |')
    with tempfile.TemporaryDirectory() as folder:
        os.environ['TMPDIR'] = folder  # for checkpoints
        measure(pythons, data_dir)


def measure(pythons, data_dir):
    tensorflows = [p for p in pythons if p.library == 'TensorFlow']
    tensorflows.sort(key=lambda p: p.version)  # the page's own first: the others' base
    torches = [p for p in pythons if p.library == 'PyTorch']
    versions = {p.version[0] for p in tensorflows}
    for library, found in (
        ('TensorFlow 1', '1' in versions),
        ('TensorFlow 2', '2' in versions),
        ('PyTorch', torches),
    ):
        if not found:
            left_out(library, 'not installed here; --python names a Python that has it')
    flags = f'"--data_dir", {data_dir!r}'

    calls = {}
    for p in tensorflows:
        ours = f'script("mnist_deep.py", {flags}'
        calls[f"100 steps, the page's code, {p.version}"] = p, f'page_deep({data_dir!r})'
        calls[f'100 steps, mnist_deep.py, {p.version}'] = p, ours + ')'
        if p.version.startswith('2.'):
            bfloat16 = ours + ', "--precision", "bfloat16")'
            calls[f'100 steps, mnist_deep.py, bfloat16, {p.version}'] = p, bfloat16
    for p in torches:
        calls[f'100 steps, PyTorch {p.version}'] = p, f'pytorch({data_dir!r}, False)'
        tuned = f'100 steps, PyTorch {p.version}, fused, channels_last'
        calls[tuned] = p, f'pytorch({data_dir!r}, True)'
    results = race(calls)
    for name, seconds in results.items():
        row(name, seconds, 's', next(iter(results.values())))

    for p in tensorflows:
        deep = f'observe(script, "mnist_deep.py", {flags}, "--max_steps", '
        around = finish(p, deep + '"1300")')['around']
        row(f'around the graph, part of its time, {p.version}', around, '%')

        one_feed = f'observe(page_deep, {data_dir!r}, 2)'
        calls = {'one feed of 10,000': (p, one_feed), 'mnist_deep.py': (p, deep + '"2")')}
        compare(f'evaluation, {p.version}', calls, {'evaluation': 's', 'megabytes': 'MB'})

        page = f'observe(page_softmax, {data_dir!r})'
        ours = f'observe(script, "mnist_softmax.py", {flags})'
        calls = {"the page's code": (p, page), 'mnist_softmax.py': (p, ours)}
        units = {'seconds': 's', 'start': 's', 'megabytes': 'MB'}
        compare(f'softmax, {p.version}', calls, units)

        calls = {}
        if p.version.startswith('1.'):
            original = 'tensorflow.examples.tutorials.mnist.input_data'
            calls["TensorFlow's own"] = p, f'loader({original!r}, {data_dir!r})'
        else:
            left_out(f"input_data, {p.version}, TensorFlow's own", 'TensorFlow 1 alone has it')
        calls['ours'] = p, f'loader("input_data", {data_dir!r})'
        units = {'read': 's', 'added': 'MB', 'batches': 's', 'slowest': 'ms'}
        compare(f'input_data, {p.version}', calls, units)


def compare(title, calls, figures, rounds=5):
    """Run {name: (python, call)} by turns; print their figures, with the ratio to the first's."""
    results = {name: [] for name in calls}
    for _ in range(rounds):
        for name, (python, call) in calls.items():
            results[name].append(finish(python, call))
    for figure, unit in figures.items():
        values = {name: [run[figure] for run in runs] for name, runs in results.items()}
        for name in values:
            row(f'{title}, {figure}, {name}', values[name], unit, next(iter(values.values())))


def detect(path):
    """Ask a Python which library it has."""
    for module, library in (('tensorflow', 'TensorFlow'), ('torch', 'PyTorch')):
        command = [path, '-W', 'ignore', '-c', f'import {module} as m; print(m.__version__)']
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            version = subprocess.check_output(command, stderr=subprocess.DEVNULL)
            return Python(path, library, version.decode().strip())
    sys.exit(f'benchmark: error: {path}: expected a Python with TensorFlow or PyTorch')


def machine():
    """Name CPU, cores and commit, as far as the system tells."""
    cpu, commit = platform.machine(), 'unknown'
    with contextlib.suppress(OSError, IndexError), open('/proc/cpuinfo') as f:
        cpu = re.findall(r'model name\s*: (.*)', f.read())[0]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        command = ['git', '-C', FOLDER, 'describe', '--always', '--dirty']
        commit = subprocess.check_output(command, universal_newlines=True).strip()
    return f'{cpu}, {cores()} cores; commit {commit}'


if __name__ == '__main__':
    main()
