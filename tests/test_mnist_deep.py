"""The convolutional network: its graph, a step against NumPy, what the script prints and keeps."""

import functools
import glob
import io
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import events, image_of, write_mnist

import input_data
import mnist_deep
import mnist_softmax

SCRIPT = mnist_deep.__file__
IS_TF1 = tf.VERSION.startswith('1.')


@pytest.fixture
def train(run):
    return functools.partial(run, mnist_deep)


@pytest.fixture(scope='module')
def built(mnist_dir):
    """The graph that the script leaves behind."""
    with tf.Graph().as_default() as graph, pytest.MonkeyPatch.context() as patch:
        args = '--data_dir', mnist_dir, '--max_steps', '1', '--seed', '1'
        patch.setattr(sys, 'argv', [SCRIPT, *args])
        mnist_deep.main()
    return graph


@pytest.fixture
def graph(built):
    with built.as_default():
        yield built


def start(*args, python=sys.executable, **env):
    inherited = {name: value for name, value in os.environ.items() if name != 'TF_XLA_FLAGS'}
    return subprocess.Popen(
        [python, *map(str, args)],
        env={**inherited, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # else it may be ignored
    )


# The diagram: the page's tensors in their order.
TENSORS = {
    'x:0': [None, 784],
    'y_:0': [None, 10],
    'reshape/Reshape:0': [None, 28, 28, 1],
    **{f'conv1/{op}:0': [None, 28, 28, 32] for op in ('Conv2D', 'add', 'Relu')},
    'pool1/MaxPool:0': [None, 14, 14, 32],
    **{f'conv2/{op}:0': [None, 14, 14, 64] for op in ('Conv2D', 'add', 'Relu')},
    'pool2/MaxPool:0': [None, 7, 7, 64],
    'fc1/Reshape:0': [None, 7 * 7 * 64],
    **{f'fc1/{op}:0': [None, 1024] for op in ('MatMul', 'add', 'Relu')},
    **{f'fc2/{op}:0': [None, 10] for op in ('MatMul', 'logits', 'probabilities')},
    'loss/cross_entropy:0': [],
    'accuracy/correct_prediction:0': [None],
    'accuracy/accuracy:0': [],
}

WEIGHTS = {'conv1': [5, 5, 1, 32], 'conv2': [5, 5, 32, 64], 'fc1': [3136, 1024], 'fc2': [1024, 10]}
VARIABLES = {f'{layer}/W': shape for layer, shape in WEIGHTS.items()}
VARIABLES.update({f'{layer}/b': shape[-1:] for layer, shape in WEIGHTS.items()})


def test_tensors_of_the_page_in_their_order(graph):
    names = [op.name + ':0' for op in graph.get_operations()]
    assert [name for name in names if name in TENSORS] == list(TENSORS)
    assert {name: graph.get_tensor_by_name(name).shape.as_list() for name in TENSORS} == TENSORS


def test_initial_values(graph):
    variables = {v.op.name: v for v in tf.trainable_variables()}
    assert {name: v.shape.as_list() for name, v in variables.items()} == VARIABLES
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for name, variable in variables.items():
            value = sess.run(variable)
            if name.endswith('b'):
                np.testing.assert_array_equal(value, np.float32(0.1))
            else:  # truncated at two standard deviations, a normal one keeps 0.88 of its own
                assert np.abs(value).max() <= 0.2
                assert value.std() == pytest.approx(0.088, rel=0.1)
                assert value.mean() == pytest.approx(0, abs=0.02)


def test_one_step_against_numpy(graph):
    """Loss and probabilities, gradients by finite differences, and Adam's step, with dropout."""
    random = np.random.RandomState(1)
    x = random.uniform(size=(6, 784)).astype(np.float32)
    y_ = np.eye(10, dtype=np.float32)[random.randint(10, size=6)]
    trained = {v.op.name: v for v in tf.trainable_variables()}
    slots = {v.op.name: v for v in tf.global_variables()}
    (h_fc1,) = [op.outputs[0] for op in graph.get_operations() if op.name.startswith('fc1/Relu')]
    h_fc1_drop = graph.get_operation_by_name('fc2/MatMul').inputs[0]
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        old = sess.run(trained)
        loss, probabilities, accuracy, before, after, _ = sess.run(
            [
                *('loss/cross_entropy:0', 'fc2/probabilities:0', 'accuracy/accuracy:0'),
                *(h_fc1, h_fc1_drop, 'adam_optimizer/Adam'),
            ],
            {'x:0': x, 'y_:0': y_, 'keep_prob:0': 0.5},
        )
        new = sess.run(trained)
        moments = sess.run({name: slots[name + '/Adam'] for name in trained})

    kept = after != 0
    assert 0.4 < kept[before > 0].mean() < 0.6
    np.testing.assert_allclose(after[kept], 2 * before[kept], rtol=1e-6)
    weights = {name: value.astype(np.float64) for name, value in old.items()}
    expected_loss, expected = network_in_numpy(weights, x, y_, 2 * kept)
    assert loss == pytest.approx(expected_loss, rel=1e-4)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-3, atol=1e-6)
    assert accuracy == np.float32(np.mean(expected.argmax(1) == y_.argmax(1)))
    for name, value in weights.items():
        gradient = moments[name] / 0.1
        direction = random.standard_normal(value.shape)
        ahead, behind = (
            network_in_numpy({**weights, name: value + step * direction}, x, y_, 2 * kept)[0]
            for step in (1e-8, -1e-8)
        )
        tolerance = 1e-3 * float(np.linalg.norm(gradient))
        slope = (ahead - behind) / 2e-8
        assert np.sum(gradient * direction) == pytest.approx(slope, abs=tolerance), name
        # Adam's first step, from m = 0.1 g and v = 0.001 g^2, both corrected for their bias.
        clear = np.abs(gradient) > 1e-3 * np.abs(gradient).max()
        step = 1e-4 * gradient / (np.abs(gradient) + 1e-8 / np.sqrt(0.001))
        found = (new[name] - old[name])[clear]
        np.testing.assert_allclose(found, -step[clear], rtol=1e-2, atol=2e-8, err_msg=name)


def network_in_numpy(w, x, y_, dropout):
    """Loss and probabilities, with `dropout` as the factor of each neuron of the dense layer."""
    pool1 = pool(convolve(x.reshape(-1, 28, 28, 1), w['conv1/W']) + w['conv1/b'])
    pool2 = pool(convolve(pool1, w['conv2/W']) + w['conv2/b'])
    fc1 = np.maximum(pool2.reshape(len(x), -1) @ w['fc1/W'] + w['fc1/b'], 0) * dropout
    logits = fc1 @ w['fc2/W'] + w['fc2/b']
    exponentials = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exponentials / exponentials.sum(1, keepdims=True)
    return -np.mean((y_ * np.log(probabilities)).sum(1)), probabilities


def convolve(images, filters):
    height, width = images.shape[1:3]
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)], 'constant')
    return sum(
        padded[:, dy : dy + height, dx : dx + width] @ filters[dy, dx]
        for dy in range(5)
        for dx in range(5)
    )


def pool(images):
    """ReLU, and the largest of each 2 x 2."""
    n, height, width, depth = images.shape
    return np.maximum(images, 0).reshape(n, height // 2, 2, width // 2, 2, depth).max((2, 4))


def test_prints_the_lines_of_the_page_which_a_seed_repeats(train):
    lines = train('--max_steps', 101).out.splitlines()
    names, numbers = zip(*(re.fullmatch(r'(.* accuracy) (\d\.?\d*)', x).groups() for x in lines))
    assert names == ('step 0, training accuracy', 'step 100, training accuracy', 'test accuracy')
    assert float(numbers[0]) < 0.6 < min(map(float, numbers[1:]))  # the digits of conftest are easy
    first, second, other = (train('--max_steps', 5, '--seed', seed).out for seed in (1, 1, 2))
    assert first == second != other


@pytest.fixture
def feeds(monkeypatch):
    """What sessions are fed, in a list."""
    feeds, run = [], tf.Session.run

    def recording(self, fetches, feed_dict=None, **kwargs):
        fed = {getattr(key, 'name', key): value for key, value in (feed_dict or {}).items()}
        if 'x:0' in fed:  # a saver feeds its files
            feeds.append(fed)
        return run(self, fetches, feed_dict, **kwargs)

    monkeypatch.setattr(tf.Session, 'run', recording)
    return feeds


def test_dropout_is_on_in_training_alone_and_the_test_set_in_slices(train, tmp_path, feeds):
    train('--data_dir', write_mnist(tmp_path, 6000, 250), '--max_steps', 2)
    fed = [(len(feed['x:0']), feed['keep_prob:0']) for feed in feeds]
    assert fed == [(50, 1), (50, 0.5), (50, 0.5), (100, 1), (100, 1), (50, 1)]
    mnist = input_data.read_data_sets(str(tmp_path), one_hot=True)
    test = [np.concatenate([feed[name] for feed in feeds[3:]]) for name in ('x:0', 'y_:0')]
    np.testing.assert_array_equal(test[0], mnist.test.images)
    np.testing.assert_array_equal(test[1], mnist.test.labels)


def test_what_tensorboard_shows_is_what_the_network_has(train, mnist_dir, tmp_path):
    train('--seed', 2, '--max_steps', 1, '--log_dir', tmp_path)
    found, initial = events(tmp_path), {}
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.set_random_seed(2)
        x, _ = (tf.placeholder(tf.float32, [None, n]) for n in (784, 10))  # they count in seeds
        mnist_deep.deepnn(x)
        sess.run(tf.global_variables_initializer())
        initial = {v.op.name: sess.run(v) for v in tf.trainable_variables()}
    batch = input_data.read_data_sets(mnist_dir, one_hot=True, seed=2).train.next_batch(50)
    loss, probabilities = network_in_numpy(initial, *batch, 1)
    assert found.Scalars('summaries/loss')[0].value == pytest.approx(loss, rel=1e-3)
    accuracy = np.mean(probabilities.argmax(1) == batch[1].argmax(1))
    shown = found.Scalars('summaries/training_accuracy')[0].value
    assert shown == pytest.approx(accuracy, abs=0.021)  # of 50 images, one may be on the edge
    for i in range(32):
        weights = initial['conv1/W'][:, :, 0, i]
        shown = image_of(found, f'summaries/filters/image/{i}')
        assert np.corrcoef(shown.ravel(), weights.ravel())[0, 1] > 0.99


def test_tensorboard_shows_each_step_of_all_runs_once(train, tmp_path, monkeypatch):
    log_dir = tmp_path / "it's a földer"
    _, err = train('--max_steps', 3, '--log_dir', log_dir)
    (command,) = [line for line in err.splitlines() if 'tensorboard' in line]
    assert shlex.split(command)[-3:] == ['tensorboard', '--logdir', str(log_dir)]
    with monkeypatch.context() as killed:  # before its first checkpoint
        killed.setattr(tf.train.Saver, 'save', lambda *args: None)
        killed.setattr(tf.Operation, 'run', lambda *args, **kwargs: None)  # for speed
        time.sleep(1)  # a file of events has the second in its name
        train('--max_steps', 102, '--log_dir', log_dir)
    for steps in (101, 50):
        time.sleep(1)
        train('--max_steps', steps, '--log_dir', log_dir)

    found = events(log_dir)
    curves = {'loss': [0, 100], 'training_accuracy': [0, 100], 'test_accuracy': [101]}
    assert found.Tags()['scalars'] == ['summaries/' + name for name in curves]
    for name, steps in curves.items():
        assert [event.step for event in found.Scalars('summaries/' + name)] == steps
    assert len(found.Tags()['images']) == 32
    _, last = found.Images('summaries/filters/image/31')
    assert (last.step, last.height, last.width) == (100, 5, 5)
    scopes = 'x y_ keep_prob reshape conv1 pool1 conv2 pool2 fc1 dropout fc2 loss global_step '
    scopes += 'adam_optimizer accuracy summaries data save init'
    assert {node.name.split('/')[0] for node in found.Graph().node} == set(scopes.split())


def variables(checkpoint):
    reader = tf.train.load_checkpoint(str(checkpoint))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def test_resumes_with_the_batches_that_were_next_and_adams_state(train, mnist_dir, tmp_path, feeds):
    train('--seed', 3, '--max_steps', 12, '--log_dir', tmp_path / 'run')
    os.rename(str(tmp_path / 'run'), str(tmp_path / 'moved'))
    checkpoint = tmp_path / 'moved' / 'model.ckpt-12'
    saved = variables(checkpoint)
    for steps in (12, 5, 30):  # the first two save again what they have restored
        out, err = train('--seed', 3, '--max_steps', steps, '--log_dir', tmp_path / 'moved')
        assert f'{checkpoint} was trained for 12 steps.\n' in err
        assert re.fullmatch(r'test accuracy \S+\n', out)
    trained = [feed for feed in feeds if feed['keep_prob:0'] == 0.5]
    assert len(trained) == 30
    undisturbed = input_data.read_data_sets(mnist_dir, one_hot=True, seed=3).train
    for feed in trained:
        images, labels = undisturbed.next_batch(50)
        np.testing.assert_array_equal(feed['x:0'], images)
        np.testing.assert_array_equal(feed['y_:0'], labels)

    assert saved['global_step'] == 12
    assert saved['adam_optimizer/beta1_power'] == pytest.approx(0.9**13, rel=1e-5)
    assert saved['adam_optimizer/beta2_power'] == pytest.approx(0.999**13, rel=1e-5)
    slots = {name + slot for name in VARIABLES for slot in ('/Adam', '/Adam_1')}
    assert {name for name in saved if '/Adam' in name} == slots
    for name, value in variables(checkpoint).items():
        assert np.any(value), name
        np.testing.assert_array_equal(value, saved[name])
    for steps in (31, 32):
        train('--max_steps', steps, '--log_dir', tmp_path / 'moved')
    assert saved_steps(tmp_path / 'moved') == {30, 31, 32}  # no more than three are kept


def saved_steps(log_dir):
    paths = glob.glob(os.path.join(str(log_dir), 'model.ckpt-*.index'))
    return {int(re.search(r'-(\d+)\.index', path).group(1)) for path in paths}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def another_network(path):
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.Variable(tf.zeros([3]), name='conv1/W')
        sess.run(tf.global_variables_initializer())
        tf.train.Saver().save(sess, path)


DATA = '.data-00000-of-00001'
DAMAGES = {
    'half its data': lambda path: os.truncate(path + DATA, 6500000),
    'an empty state': lambda path: os.truncate(os.path.dirname(path) + '/checkpoint', 0),
    'no state': lambda path: os.remove(os.path.dirname(path) + '/checkpoint'),
    'another network': another_network,
}


@pytest.mark.parametrize('damage', DAMAGES)
def test_refuses_to_resume_from(damage, train, refused, tmp_path):
    """And writes nothing."""
    log_dir = tmp_path / 'run'
    train('--max_steps', 1, '--log_dir', log_dir)
    DAMAGES[damage](str(log_dir / 'model.ckpt-1'))
    before = contents(log_dir)
    message = refused(mnist_deep, '--max_steps', 2, '--log_dir', log_dir)
    assert re.match(f'--log_dir: {log_dir}: expected .*, found: .+ Name another folder.$', message)
    assert contents(log_dir) == before


@pytest.mark.skipif(not hasattr(os, 'setresuid'), reason='modes of files do not bind here')
@pytest.mark.parametrize('script', [mnist_softmax, mnist_deep])
def test_says_what_it_may_not_write(script, refused):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        user = os.getuid()
        os.setresuid(user or 65534, user or 65534, user)  # modes do not bind an administrator
        try:
            message = refused(script, '--log_dir', os.path.join(folder, 'new', 'run'))
            assert message.endswith(f' expected a writable folder, found {folder}: name another')
        finally:
            os.setresuid(user, user, user)
        assert os.listdir(folder) == []


def test_want_of_memory_keeps_its_traceback(train, tmp_path, monkeypatch):
    train('--max_steps', 1, '--log_dir', tmp_path)
    error = tf.errors.ResourceExhaustedError(None, None, 'OOM when allocating tensor')
    monkeypatch.setattr(tf.train.Saver, 'restore', mock.Mock(side_effect=error))
    with pytest.raises(tf.errors.ResourceExhaustedError):
        train('--max_steps', 2, '--log_dir', tmp_path)


def test_no_run_resumes_from_other_data(train, refused, tmp_path):
    log_dir, other = tmp_path / 'run', write_mnist(tmp_path / 'other', 6001)
    sample = '--data_dir', input_data.SAMPLE_DIR
    out, _ = train('--max_steps', 1, '--log_dir', log_dir, *sample)
    assert out.endswith(' (bundled digits, not MNIST)\n')
    before = contents(log_dir)
    for flags in ((), ('--data_dir', other)):
        message = refused(mnist_deep, '--max_steps', 2, '--log_dir', log_dir, *flags)
        assert message.startswith(f'--log_dir: {log_dir}: ')
        assert message.endswith('found: a run on other data. Name another folder.')
    assert contents(log_dir) == before
    train('--max_steps', 2, '--log_dir', log_dir, *sample)


def line_within(seconds, process):
    """The next line on stdout, or '' if none comes in time."""
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    line = process.stdout.readline()
    timer.cancel()
    return line


@pytest.mark.parametrize('sent', ['SIGINT', 'SIGKILL'])
def test_a_stopped_run_is_resumed(sent, mnist_dir, train, tmp_path):
    train('--max_steps', 3, '--log_dir', tmp_path)
    process = start(SCRIPT, '--data_dir', mnist_dir, '--log_dir', tmp_path)
    assert line_within(60, process).startswith('step 100, ')  # at once, though stdout is a pipe
    process.send_signal(getattr(signal, sent))
    out, err = process.communicate(timeout=60)
    last = 3
    if sent == 'SIGINT':
        resume = f'Resume with the same flags and --log_dir {tmp_path}'
        last = int(re.search(rf'^Stopped after step (\d+)\. {resume}$', err, re.M).group(1))
        assert process.returncode == 130
        assert 'test accuracy' not in out
        assert variables(tmp_path / f'model.ckpt-{last}')['global_step'] == last >= 100
    _, err = train('--max_steps', last + 1, '--log_dir', tmp_path)
    assert f'{tmp_path / "model.ckpt"}-{last} was trained for {last} steps.\n' in err
    assert saved_steps(tmp_path) == {3, last, last + 1}


def test_ctrl_c_writes_the_events_of_a_process_that_goes_on(train, tmp_path, monkeypatch):
    monkeypatch.setattr(tf.Operation, 'run', mock.Mock(side_effect=[0] * 101 + [KeyboardInterrupt]))
    with pytest.raises(SystemExit):
        train('--log_dir', tmp_path)
    assert [event.step for event in events(tmp_path).Scalars('summaries/loss')] == [0, 100]


@pytest.mark.skipif('OTHER_PYTHON' not in os.environ, reason='OTHER_PYTHON names no other runtime')
def test_checkpoints_cross_between_the_runtimes(mnist_dir, train, tmp_path):
    def theirs(*args):
        other = start(SCRIPT, '--data_dir', mnist_dir, *args, python=os.environ['OTHER_PYTHON'])
        return other.communicate()

    for i, (first, second) in enumerate([(theirs, train), (train, theirs)]):
        args = '--max_steps', 30, '--log_dir', tmp_path / str(i)
        written, _ = first(*args)
        read, err = second(*args)
        assert f'{tmp_path / str(i)}/model.ckpt-30 was trained for 30 steps.\n' in err
        assert float(read.split()[-1]) == pytest.approx(float(written.split()[-1]), abs=0.002)


@pytest.mark.skipif(not IS_TF1, reason='XLA is for TensorFlow 1')
def test_xla_compiles_for_the_cpu_unless_told_not_to(mnist_dir, tmp_path):
    if tf.config.experimental.list_physical_devices('GPU'):
        pytest.skip('there is a GPU')
    dump = tmp_path / 'dump'
    for env, compiled in (({'TF_XLA_FLAGS': ''}, False), ({}, True)):
        env['XLA_FLAGS'] = f'--xla_dump_to={dump}'
        start(SCRIPT, '--data_dir', mnist_dir, '--max_steps', 2, **env).communicate()
        assert dump.exists() == compiled


CPUINFO = Path('/proc/cpuinfo')
HAS_BFLOAT16 = not IS_TF1 and CPUINFO.exists() and '_bf16' in CPUINFO.read_text()


@pytest.mark.skipif(HAS_BFLOAT16, reason='this machine has bfloat16')
def test_bfloat16_is_refused(refused):
    assert 'expected TensorFlow 2 and a CPU' in refused(mnist_deep, '--precision', 'bfloat16')


@pytest.mark.skipif(not HAS_BFLOAT16, reason='TensorFlow 1, or a CPU without bfloat16')
def test_bfloat16_trains_close_to_float32(train, tmp_path):
    values = []
    for precision in ('float32', 'bfloat16'):
        args = '--seed', 1, '--max_steps', 2, '--log_dir', tmp_path / precision
        train(*args, '--precision', precision)
        values.append(variables(tmp_path / precision / 'model.ckpt-2')['conv2/W'])
    difference = np.abs(np.subtract(*values))
    assert 1e-6 < difference.mean() < difference.max() < 4.1e-4  # after two steps of at most 1e-4


@pytest.mark.parametrize('script', [mnist_softmax, mnist_deep])
@pytest.mark.parametrize(
    ('flag', 'value', 'message'),
    [
        ('--max_steps', '0', 'argument --max_steps: expected 1 or more, found 0'),
        ('--log_dir', '{}', 'argument --log_dir: expected a writable folder, found {}: name'),
        ('--max_stepz', '2', 'unrecognized arguments: --max_stepz 2'),
        ('--data_dir', '{}', '.*{}'),
    ],
)
def test_what_makes_no_sense_ends_in_one_message(script, flag, value, message, refused, tmp_path):
    """Before anything is read, downloaded or written."""
    file = tmp_path / 'file'
    file.write_text('mine')
    args = '--data_dir', tmp_path / 'none', flag, value.format(file)
    assert re.match(message.format(file), refused(script, *args))
    assert os.listdir(str(tmp_path)) == ['file']
    assert file.read_text() == 'mine'


def test_a_run_refused_for_its_data_leaves_no_folder(refused, tmp_path, monkeypatch):
    for name in input_data.MNIST_FILES:
        (tmp_path / name).write_bytes(b'no data')
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'tmp'))
    (tmp_path / 'tmp').mkdir()
    for script in (mnist_softmax, mnist_deep):
        for flags in ((), ('--log_dir', tmp_path / 'run' / '1')):
            message = refused(script, '--data_dir', tmp_path, *flags)
            expected = 'expected a whole gzip file, found Not a gzipped file'
            assert message.startswith(f'{tmp_path / input_data.TRAIN_IMAGES}: {expected}')
    assert {path.name for path in tmp_path.iterdir()} == {'tmp', *input_data.MNIST_FILES}
    assert list((tmp_path / 'tmp').iterdir()) == []


def test_a_bar_on_a_terminal_only_and_no_line_in_it(train, tmp_path, monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(sys, 'stderr', terminal)
    train('--max_steps', 2)
    assert 'it/s' not in terminal.getvalue()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, 'stdout', terminal)
    train('--max_steps', 101, '--log_dir', tmp_path)
    assert re.search(r'\r.*101/101 .*it/s', terminal.getvalue())
    assert re.search(r'[\r\n]step 100, training accuracy \S+\n', terminal.getvalue())
    train('--max_steps', 110, '--log_dir', tmp_path)
    assert re.findall(r' (\d+)/110 ', terminal.getvalue())[0] == '101'


def test_saves_every_1000_steps(train, monkeypatch):
    trained, saved = [], []
    monkeypatch.setattr(tf.Operation, 'run', lambda self, feed_dict=None: trained.append(self))
    monkeypatch.setattr(tf.train.Saver, 'save', lambda *args: saved.append(len(trained)))
    train('--max_steps', 2001)
    assert saved == [1000, 2000, 2001]


@pytest.mark.parametrize(('script', 'steps'), [(mnist_softmax, 1000), (mnist_deep, 20000)])
def test_defaults_of_the_page(script, steps, monkeypatch):
    monkeypatch.setattr(sys, 'argv', [''])
    assert script.parse_flags().max_steps == steps


@pytest.mark.parametrize('script', [mnist_softmax, mnist_deep])
@pytest.mark.parametrize('device', ['CPU', 'GPU'])
def test_names_the_device_and_takes_its_memory_as_needed(script, device, run, monkeypatch):
    devices = [SimpleNamespace(device_type=name) for name in ('CPU', device)]
    monkeypatch.setattr(tf.Session, 'list_devices', lambda self: devices)
    session = mock.Mock(side_effect=tf.Session)
    monkeypatch.setattr(tf, 'Session', session)
    _, err = run(script, '--max_steps', 1)
    assert f'Training on the {device}.\n' in err
    assert session.call_args[1]['config'].gpu_options.allow_growth


def test_importing_keeps_the_users_level_of_logs_and_mode():
    code = 'import os, mnist_softmax, mnist_deep; import tensorflow as tf'
    code += '; print(os.environ["TF_CPP_MIN_LOG_LEVEL"], tf.executing_eagerly())'
    process = start('-c', code, PYTHONPATH=os.path.dirname(SCRIPT), TF_CPP_MIN_LOG_LEVEL='1')
    assert process.communicate()[0] == f'1 {not IS_TF1}\n'


IPYTHON = """
before = sess.run([W, b])
%run {softmax} {flags} --max_steps 30 --log_dir {folder}/softmax_1
%run {deep} {flags} --max_steps 3 --log_dir {folder}/deep_1
%run {deep} {flags} --max_steps 3 --log_dir {folder}/deep_2
%run {softmax} {flags} --max_steps 30 --log_dir {folder}/softmax_2
import sys
sys.argv = ['ipykernel_launcher.py', '-f', 'kernel-1.json', *'{flags} --max_steps 30'.split()]
get_ipython().run_cell(open('{softmax}').read())
print(all((old == new).all() for old, new in zip(before, sess.run([W, b]))), before[0].any())
print(tf.get_default_graph() is sess.graph)
"""


def test_ipython_runs_scripts_again_and_keeps_its_own_graph(mnist_dir, tmp_path, run):
    """After README's blocks up to the network were pasted, in one real IPython."""
    readme = Path(SCRIPT).with_name('README.md').read_text(encoding='utf-8')
    first_part = readme.split('def weight_variable(')[0].replace("'MNIST_data'", repr(mnist_dir))
    pasted = re.findall(r'^```python\n(.*?)^```$', first_part, re.M | re.S)
    names = {'softmax': mnist_softmax.__file__, 'deep': SCRIPT, 'folder': tmp_path}
    code = '\n'.join(pasted) + IPYTHON.format(flags=f'--data_dir {mnist_dir} --seed 1', **names)
    environment = {'PYTHONPATH': os.path.dirname(SCRIPT), 'IPYTHONDIR': str(tmp_path / 'ipython')}
    out, _ = start('-m', 'IPython', '--colors=NoColor', '-c', code, **environment).communicate()
    printed = {}
    for script, steps in ((mnist_softmax, 30), (mnist_deep, 3)):
        name = script.__name__[6:]
        args = '--seed', 1, '--max_steps', steps, '--log_dir', tmp_path / (name + '_3')
        printed[name] = run(script, *args).out
        found = []
        for each in (events(tmp_path / f'{name}_{i}') for i in (1, 2, 3)):
            losses = [(event.step, event.value) for event in each.Scalars('summaries/loss')]
            found.append((each.Tags(), {node.name for node in each.Graph().node}, losses))
        assert found[0] == found[1] == found[2]
    expected = '{softmax}{deep}{deep}{softmax}{softmax}True True\nTrue\n'.format(**printed)
    assert out.endswith(expected), out
    _, err = run(mnist_deep, '--seed', 1, '--max_steps', 4, '--log_dir', tmp_path / 'deep_2')
    assert 'model.ckpt-3 was trained for 3 steps.' in err
