"""The convolutional network: its graph and a step against NumPy, its runs, and how they resume.

Tests of what the script does around the network replace it by a single layer, which costs nothing.
"""

import glob
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import ROOT, start, write_mnist
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import input_data
import mnist_deep

SCRIPT = mnist_deep.__file__
IS_TF1 = tf.VERSION.startswith('1.')


def single_layer(x):
    """Take the place of deepnn: with filters, dropout and keep_prob, as the script asks of it."""
    with tf.name_scope('conv1'):
        tf.Variable(tf.truncated_normal([5, 5, 1, 32]), name='W')
    keep_prob = tf.placeholder(tf.float32, name='keep_prob')
    with tf.name_scope('fc2'):
        W = tf.Variable(tf.zeros([784, 10]), name='W')
        y_conv = tf.matmul(tf.nn.dropout(x, keep_prob), W)
    return y_conv, keep_prob


@pytest.fixture
def train(run, monkeypatch):
    """Run the script with a single layer; return its stdout and stderr."""
    monkeypatch.setattr(mnist_deep, 'deepnn', single_layer)

    def train(*args):
        return run(mnist_deep, *args)

    return train


RUN_SINGLE_LAYER = """
import mnist_deep, test_mnist_deep
mnist_deep.deepnn = test_mnist_deep.single_layer
with mnist_deep.tf.Graph().as_default():
    mnist_deep.main()
"""


@pytest.fixture(scope='module')
def first_step(mnist_dir, tmp_path_factory):
    """One step of the script with the network: the graph that it leaves behind, and its folder."""
    log_dir = tmp_path_factory.mktemp('first_step')
    flags = f'--data_dir {mnist_dir} --log_dir {log_dir} --max_steps 1 --seed 2'
    with tf.Graph().as_default() as graph, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', [SCRIPT, *flags.split()])
        mnist_deep.main()
    return graph, log_dir


@pytest.fixture
def graph(first_step):
    return first_step[0]


# The tutorial's tensors, in its order.
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


def test_tensors_of_the_tutorial_in_its_order(graph):
    names = [op.name + ':0' for op in graph.get_operations()]
    assert [name for name in names if name in TENSORS] == list(TENSORS)
    assert {name: graph.get_tensor_by_name(name).shape.as_list() for name in TENSORS} == TENSORS


def test_initial_values(graph):
    with graph.as_default(), tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        values = {v.op.name: sess.run(v) for v in tf.trainable_variables()}
    assert {name: list(value.shape) for name, value in values.items()} == VARIABLES
    for name, value in values.items():
        if name.endswith('b'):
            np.testing.assert_array_equal(value, np.float32(0.1))
        else:  # truncated at two standard deviations, a normal one keeps 0.88 of its own
            assert np.abs(value).max() <= 0.2
            assert value.std() == pytest.approx(0.088, rel=0.1)
            assert value.mean() == pytest.approx(0, abs=0.02)


@pytest.fixture(scope='module')
def step(first_step):
    """One step of Adam with dropout: what was fed, what came out, what changed."""
    graph, _ = first_step
    random = np.random.RandomState(1)
    step = SimpleNamespace()
    step.x = random.uniform(size=(6, 784)).astype(np.float32)
    step.y_ = np.eye(10, dtype=np.float32)[random.randint(10, size=6)]
    h_fc1_drop = graph.get_operation_by_name('fc2/MatMul').inputs[0]
    with graph.as_default(), tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        variables = {v.op.name: v for v in tf.global_variables()}
        trained = {v.op.name: v for v in tf.trainable_variables()}
        step.old = sess.run(trained)
        names = 'loss/cross_entropy', 'fc2/probabilities', 'accuracy/accuracy', 'fc1/Relu'
        feed_dict = {'x:0': step.x, 'y_:0': step.y_, 'keep_prob:0': 0.5}
        fetches = [*(name + ':0' for name in names), h_fc1_drop, 'adam_optimizer/Adam']
        results = sess.run(fetches, feed_dict)
        step.loss, step.probabilities, step.accuracy, step.h_fc1, step.h_fc1_drop, _ = results
        step.new = sess.run(trained)
        # After its first step, Adam's average holds a tenth of the gradient.
        averages = sess.run({name: variables[name + '/Adam'] for name in trained})
        step.gradients = {name: value / 0.1 for name, value in averages.items()}
    step.dropout = 2 * (step.h_fc1_drop != 0)
    return step


def test_dropout_keeps_half_of_the_neurons_and_doubles_them(step):
    kept = step.dropout > 0
    assert 0.4 < kept[step.h_fc1 > 0].mean() < 0.6
    np.testing.assert_allclose(step.h_fc1_drop[kept], 2 * step.h_fc1[kept], rtol=1e-6)


def test_loss_probabilities_and_accuracy_against_numpy(step):
    loss, probabilities = network_in_numpy(step.old, step.x, step.y_, step.dropout)
    assert step.loss == pytest.approx(loss, rel=1e-4)
    np.testing.assert_allclose(step.probabilities, probabilities, rtol=1e-3, atol=1e-6)
    assert step.accuracy == np.float32(np.mean(probabilities.argmax(1) == step.y_.argmax(1)))


@pytest.mark.parametrize('name', VARIABLES)
def test_gradients_against_finite_differences(step, name):
    def loss_at(distance):
        moved = {**step.old, name: step.old[name].astype(float) + distance * direction}
        return network_in_numpy(moved, step.x, step.y_, step.dropout)[0]

    direction = np.random.RandomState(2).standard_normal(VARIABLES[name])
    slope = (loss_at(1e-8) - loss_at(-1e-8)) / 2e-8
    gradient = step.gradients[name]
    tolerance = 1e-3 * float(np.linalg.norm(gradient))
    assert np.sum(gradient * direction) == pytest.approx(slope, abs=tolerance)


@pytest.mark.parametrize('name', VARIABLES)
def test_adams_first_step(step, name):
    """It comes from m = 0.1 g and v = 0.001 g^2, both corrected for their bias."""
    gradient, change = step.gradients[name], step.new[name] - step.old[name]
    clear = np.abs(gradient) > 1e-3 * np.abs(gradient).max()
    expected = -1e-4 * gradient / (np.abs(gradient) + 1e-8 / np.sqrt(0.001))
    np.testing.assert_allclose(change[clear], expected[clear], rtol=1e-2, atol=2e-8)


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


def test_prints_the_lines_of_the_tutorial(train):
    lines = train('--max_steps', 201).out.splitlines()
    numbers = [re.search(r'\d\.?\d*$', line).group() for line in lines]
    assert [line[: -len(number)] for line, number in zip(lines, numbers)] == [
        'step 0, training accuracy ',
        'step 100, training accuracy ',
        'step 200, training accuracy ',
        'test accuracy ',
    ]
    assert all(0 <= float(number) <= 1 for number in numbers)


def test_a_seed_repeats_the_run_of_the_network(run):
    first, second, other = (run(mnist_deep, '--max_steps', 3, '--seed', n).out for n in (1, 1, 2))
    assert first == second
    assert first != other


@pytest.fixture
def feeds(monkeypatch):
    """What sessions are fed, in a list: {name: value} for each run that is fed images.

    In its order: measured on the first batch, trained on each batch, tested in slices.
    """
    feeds, run = [], tf.Session.run

    def recording(self, fetches, feed_dict=None, **kwargs):
        fed = {getattr(key, 'name', key): value for key, value in (feed_dict or {}).items()}
        if 'x:0' in fed:  # a saver feeds the names of its files
            feeds.append(fed)
        return run(self, fetches, feed_dict, **kwargs)

    monkeypatch.setattr(tf.Session, 'run', recording)
    return feeds


def test_dropout_is_on_in_training_only(train, feeds):
    train('--max_steps', 2)
    measured, *trained = feeds[:3]
    assert (len(measured['x:0']), measured['keep_prob:0']) == (50, 1)
    assert [(len(feed['x:0']), feed['keep_prob:0']) for feed in trained] == [(50, 0.5)] * 2
    assert {feed['keep_prob:0'] for feed in feeds[3:]} == {1}


def test_the_whole_test_set_is_evaluated_in_slices_of_100(train, feeds, tmp_path):
    folder = write_mnist(tmp_path, 6000, 250)
    train('--data_dir', folder, '--max_steps', 1)
    slices = feeds[2:]
    assert [len(feed['x:0']) for feed in slices] == [100, 100, 50]
    mnist = input_data.read_data_sets(folder, one_hot=True)
    images = np.concatenate([feed['x:0'] for feed in slices])
    labels = np.concatenate([feed['y_:0'] for feed in slices])
    np.testing.assert_array_equal(images, mnist.test.images)
    np.testing.assert_array_equal(labels, mnist.test.labels)


def test_the_test_accuracy_is_that_of_the_weights_that_were_saved(train, mnist_dir, tmp_path):
    out, _ = train('--max_steps', 30, '--log_dir', tmp_path)
    W = tf.train.load_variable(str(tmp_path / 'model.ckpt-30'), 'fc2/W')
    test = input_data.read_data_sets(mnist_dir, one_hot=True).test
    accuracy = np.mean((test.images @ W).argmax(axis=1) == test.labels.argmax(axis=1))
    assert float(out.split()[-1]) == pytest.approx(accuracy, abs=0.002)
    assert accuracy > 0.5


def events(log_dir):
    return EventAccumulator(str(log_dir), size_guidance={'images': 0}).Reload()


def test_tensorboard_shows_loss_accuracy_and_filters(first_step, mnist_dir):
    shown = events(first_step[1])
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.set_random_seed(2)
        x = tf.placeholder(tf.float32, [None, 784])
        tf.placeholder(tf.float32, [None, 10])  # the number of each operation is part of its seed
        mnist_deep.deepnn(x)
        sess.run(tf.global_variables_initializer())
        initial = {v.op.name: sess.run(v) for v in tf.trainable_variables()}
        pngs = [shown.Images(f'summaries/filters/image/{i}')[0] for i in range(32)]
        filters = [tf.image.decode_png(png.encoded_image_string, channels=1) for png in pngs]
        filters = np.squeeze(sess.run(filters), axis=3).astype(float)
    images, labels = input_data.read_data_sets(mnist_dir, one_hot=True, seed=2).train.next_batch(50)
    loss, probabilities = network_in_numpy(initial, images, labels, 1)
    accuracy = np.mean(probabilities.argmax(axis=1) == labels.argmax(axis=1))
    assert shown.Scalars('summaries/loss')[0].value == pytest.approx(loss, rel=1e-3)
    # One of 50 images may be on the edge between two digits.
    shown_accuracy = shown.Scalars('summaries/training_accuracy')[0].value
    assert shown_accuracy == pytest.approx(accuracy, abs=0.021)
    for i in range(32):
        weights = initial['conv1/W'][:, :, 0, i]
        assert np.corrcoef(filters[i].ravel(), weights.ravel())[0, 1] > 0.99


def test_tensorboard_draws_one_box_for_each_layer(first_step):
    boxes = {node.name.split('/')[0] for node in events(first_step[1]).Graph().node}
    layers = {'reshape', 'conv1', 'pool1', 'conv2', 'pool2', 'fc1', 'dropout', 'fc2'}
    training = {'loss', 'adam_optimizer', 'accuracy', 'summaries', 'global_step'}
    assert boxes == {'x', 'y_', 'keep_prob'} | layers | training | {'data_crc', 'save', 'init'}


def test_says_how_to_watch_it_learn(train, tmp_path):
    log_dir = tmp_path / "it's a földer"
    _, err = train('--max_steps', 1, '--log_dir', log_dir)
    (command,) = [line for line in err.splitlines() if 'tensorboard' in line]
    assert command.startswith('To watch it learn: ')
    assert shlex.split(command)[-3:] == ['tensorboard', '--logdir', str(log_dir)]


def test_tensorboard_shows_each_step_of_all_runs_once(train, tmp_path, monkeypatch):
    train('--max_steps', 3, '--log_dir', tmp_path)
    with monkeypatch.context() as killed:  # a run that ends before its first checkpoint
        killed.setattr(tf.train.Saver, 'save', lambda *args: None)
        time.sleep(1)  # the name of an event file has the second in it
        train('--max_steps', 102, '--log_dir', tmp_path)
    for steps in (101, 50):
        time.sleep(1)
        train('--max_steps', steps, '--log_dir', tmp_path)
    shown = events(tmp_path)
    assert shown.Tags()['scalars'] == [
        'summaries/loss',
        'summaries/training_accuracy',
        'summaries/test_accuracy',
    ]
    assert [event.step for event in shown.Scalars('summaries/loss')] == [0, 100]
    assert [event.step for event in shown.Scalars('summaries/training_accuracy')] == [0, 100]
    assert [event.step for event in shown.Scalars('summaries/test_accuracy')] == [101]
    assert [image.step for image in shown.Images('summaries/filters/image/31')] == [0, 100]


def saved_values(checkpoint):
    reader = tf.train.load_checkpoint(str(checkpoint))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def saved_steps(log_dir):
    paths = glob.glob(os.path.join(str(log_dir), 'model.ckpt-*.index'))
    return {int(re.search(r'-(\d+)\.index', path).group(1)) for path in paths}


def test_a_resumed_run_draws_the_batches_that_come_next(train, mnist_dir, tmp_path, feeds):
    for steps in (12, 13, 30):
        train('--seed', 3, '--max_steps', steps, '--log_dir', tmp_path)
    trained = [feed for feed in feeds if feed['keep_prob:0'] == 0.5]
    assert len(trained) == 30
    uninterrupted = input_data.read_data_sets(mnist_dir, one_hot=True, seed=3).train
    for feed in trained:
        images, labels = uninterrupted.next_batch(50)
        np.testing.assert_array_equal(feed['x:0'], images)
        np.testing.assert_array_equal(feed['y_:0'], labels)


def test_a_resumed_run_goes_on_with_all_that_was_saved(first_step, run, tmp_path):
    """The network's weights and Adam's averages among them, in a folder that was moved."""
    moved = shutil.copytree(str(first_step[1]), str(tmp_path / 'moved'))
    checkpoint = os.path.join(moved, 'model.ckpt-1')
    saved = saved_values(checkpoint)
    # Nothing is left to train, so this saves again what it has restored.
    out, err = run(mnist_deep, '--max_steps', 1, '--log_dir', moved)
    assert f'Resuming from {checkpoint}, after 1 steps.\n' in err
    assert re.fullmatch(r'test accuracy \S+\n', out)
    averages = {name + slot for name in VARIABLES for slot in ('/Adam', '/Adam_1')}
    powers = {'adam_optimizer/beta1_power', 'adam_optimizer/beta2_power'}
    assert set(saved) == {*VARIABLES, *averages, *powers, 'global_step', 'data_crc'}
    assert saved['global_step'] == 1
    assert saved['adam_optimizer/beta1_power'] == pytest.approx(0.9**2, rel=1e-5)
    assert saved['adam_optimizer/beta2_power'] == pytest.approx(0.999**2, rel=1e-5)
    for name, value in saved_values(checkpoint).items():
        assert np.any(value), name
        np.testing.assert_array_equal(value, saved[name])


def test_the_last_three_checkpoints_are_kept_across_runs(train, tmp_path):
    for steps in (1, 2, 3, 4):
        train('--max_steps', steps, '--log_dir', tmp_path)
    assert saved_steps(tmp_path) == {2, 3, 4}


def test_saves_every_1000_steps(train, tmp_path):
    train('--max_steps', 2001, '--log_dir', tmp_path)
    assert saved_steps(tmp_path) == {1000, 2000, 2001}


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def lose_the_state_file(log_dir):
    os.remove(str(log_dir / 'checkpoint'))


def empty_the_state_file(log_dir):
    (log_dir / 'checkpoint').write_text('')


def save_another_network(log_dir):
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.Variable(tf.zeros([3]), name='conv1/W')
        sess.run(tf.global_variables_initializer())
        tf.train.Saver().save(sess, str(log_dir / 'model.ckpt-1'))


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (
            lose_the_state_file,
            'its file "checkpoint" is missing or names no checkpoint that is there',
        ),
        (empty_the_state_file, 'its file "checkpoint" is empty'),
        (save_another_network, 'its checkpoint belongs to another network'),
    ],
)
def test_does_not_train_over_what_it_cannot_resume(change, reason, train, refused, tmp_path):
    train('--max_steps', 1, '--log_dir', tmp_path)
    change(tmp_path)
    before = files_in(tmp_path)
    message = refused(mnist_deep, '--max_steps', 2, '--log_dir', tmp_path)
    assert message == f'cannot resume from {tmp_path}: {reason}. Choose another --log_dir.'
    assert files_in(tmp_path) == before


def smaller_filters(x):
    with tf.name_scope('conv1'):
        tf.Variable(tf.zeros([3, 3, 1, 32]), name='W')
    with tf.name_scope('fc2'):
        y_conv = tf.matmul(x, tf.Variable(tf.zeros([784, 10]), name='W'))
    return y_conv, tf.placeholder(tf.float32, name='keep_prob')


@pytest.mark.skipif(not IS_TF1, reason="TensorFlow 2's variables take any shape from a file")
def test_a_checkpoint_of_other_shapes_belongs_to_another_network(
    train, refused, tmp_path, monkeypatch
):
    train('--max_steps', 1, '--log_dir', tmp_path)
    monkeypatch.setattr(mnist_deep, 'deepnn', smaller_filters)
    message = refused(mnist_deep, '--max_steps', 2, '--log_dir', tmp_path)
    reason = 'its checkpoint belongs to another network. Choose another --log_dir.'
    assert message == f'cannot resume from {tmp_path}: {reason}'


def test_does_not_resume_on_other_data(train, refused, tmp_path):
    log_dir, other = tmp_path / 'run', write_mnist(tmp_path / 'other', 6001)
    train('--max_steps', 1, '--log_dir', log_dir)
    before = files_in(log_dir)
    message = refused(mnist_deep, '--max_steps', 2, '--log_dir', log_dir, '--data_dir', other)
    reason = 'that run used other data. Choose another --log_dir.'
    assert message == f'cannot resume from {log_dir}: {reason}'
    assert files_in(log_dir) == before


def test_the_same_data_compressed_again_resumes(train, mnist_dir, tmp_path):
    again = shutil.copytree(mnist_dir, str(tmp_path / 'again'))
    for path in glob.glob(again + '/*.gz'):
        with input_data.gzip.open(path) as f:
            data = f.read()
        with input_data.gzip.open(path, 'wb', compresslevel=9) as f:
            f.write(data)
    train('--max_steps', 1, '--log_dir', tmp_path / 'run')
    _, err = train('--max_steps', 2, '--log_dir', tmp_path / 'run', '--data_dir', again)
    assert f'Resuming from {tmp_path}/run/model.ckpt-1, after 1 steps.\n' in err


def test_a_folder_in_the_home_directory(train, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    train('--max_steps', 1, '--log_dir=~/run')
    assert os.listdir(str(tmp_path)) == ['run']
    assert saved_steps(tmp_path / 'run') == {1}


def train_single_layer(mnist_dir, log_dir, code=RUN_SINGLE_LAYER):
    """Start training in a process of its own; wait until it prints step 100."""
    flags = '--data_dir', mnist_dir, '--log_dir', log_dir, '--max_steps', 10**7
    process = start('-c', code, *flags, cwd=str(ROOT / 'tests'))
    for line in iter(process.stdout.readline, ''):
        if line.startswith('step 100, '):
            return process
    pytest.fail(process.communicate()[1])


def test_ctrl_c_saves_and_says_how_to_resume(mnist_dir, train, tmp_path):
    process = train_single_layer(mnist_dir, tmp_path)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert 'Traceback' not in err
    assert 'test accuracy' not in out
    steps = max(saved_steps(tmp_path))
    resume = f'To resume, use the same flags and --log_dir {tmp_path}\n'
    assert err.endswith(f'Stopped after {steps} steps. {resume}')
    _, err = train('--max_steps', 1, '--log_dir', tmp_path)
    assert f'Resuming from {tmp_path}/model.ckpt-{steps}, after {steps} steps.\n' in err


def interrupted_after(batches):
    """Return a next_batch that is stopped by Ctrl-C after so many batches."""
    drawn, next_batch = [], input_data.DataSet.next_batch

    def interrupted(*args):
        if len(drawn) == batches:
            os.kill(os.getpid(), signal.SIGINT)
        drawn.append(args)
        return next_batch(*args)

    return interrupted


CTRL_C_TWICE = (
    """
import os, signal, input_data, test_mnist_deep, tensorflow.compat.v1 as tf
input_data.DataSet.next_batch = test_mnist_deep.interrupted_after(2)
save = tf.train.Saver.save

def interrupted_save(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGINT)
    return save(*args, **kwargs)

tf.train.Saver.save = interrupted_save
"""
    + RUN_SINGLE_LAYER
)


def test_a_second_ctrl_c_does_not_stop_the_saving(mnist_dir, train, tmp_path):
    flags = '--data_dir', mnist_dir, '--log_dir', tmp_path
    process = start('-c', CTRL_C_TWICE, *flags, cwd=str(ROOT / 'tests'))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert 'Traceback' not in err
    assert saved_steps(tmp_path) == {2}
    _, err = train('--max_steps', 1, '--log_dir', tmp_path)
    assert f'Resuming from {tmp_path}/model.ckpt-2, after 2 steps.\n' in err


WAITS_AFTER_120_STEPS = (
    """
import sys, input_data
next_batch, drawn = input_data.DataSet.next_batch, []

def waiting(*args):
    drawn.append(args)
    if len(drawn) == 120:
        sys.stdin.read()
    return next_batch(*args)

input_data.DataSet.next_batch = waiting
"""
    + RUN_SINGLE_LAYER
)


def test_a_pipe_gets_each_line_at_once(mnist_dir, tmp_path):
    """Python itself would keep them until the end."""
    flags = '--data_dir', mnist_dir, '--log_dir', tmp_path, '--max_steps', 130
    options = {'cwd': str(ROOT / 'tests'), 'stdin': subprocess.PIPE}
    process = start('-c', WAITS_AFTER_120_STEPS, *flags, **options)
    timer = threading.Timer(60, process.kill)
    timer.start()
    lines = [process.stdout.readline() for _ in range(2)]
    timer.cancel()
    process.communicate('')
    assert [line.partition(',')[0] for line in lines] == ['step 0', 'step 100']


def test_ctrl_c_writes_the_events_of_a_process_that_goes_on(train, tmp_path, monkeypatch):
    """IPython's, for example, where Ctrl-C works as before afterwards."""
    monkeypatch.setattr(input_data.DataSet, 'next_batch', interrupted_after(101))
    handler_of_the_tests = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SystemExit) as exit:
            train('--log_dir', tmp_path)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler_of_the_tests)  # a background job ignores Ctrl-C
    assert exit.value.code == 130
    assert [event.step for event in events(tmp_path).Scalars('summaries/loss')] == [0, 100]


def test_a_killed_run_resumes_from_its_last_checkpoint(mnist_dir, train, tmp_path):
    train('--max_steps', 3, '--log_dir', tmp_path)
    process = train_single_layer(mnist_dir, tmp_path)
    process.kill()
    process.communicate()
    last = max(saved_steps(tmp_path))
    _, err = train('--max_steps', 1, '--log_dir', tmp_path)
    assert f'Resuming from {tmp_path}/model.ckpt-{last}, after {last} steps.\n' in err


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


@pytest.mark.parametrize('device', ['CPU', 'GPU'])
def test_names_the_device(device, train, monkeypatch):
    found = ['a GPU'] if device == 'GPU' else []
    monkeypatch.setattr(tf.config.experimental, 'list_physical_devices', lambda kind: found)
    _, err = train('--max_steps', 1)
    assert f'Training on the {device}.\n' in err


def test_takes_the_memory_of_a_gpu_as_needed(train, monkeypatch):
    configs, start_session = [], tf.Session.__init__

    def recording(self, *args, **kwargs):
        configs.append(kwargs['config'])
        start_session(self, *args, **kwargs)

    monkeypatch.setattr(tf.Session, '__init__', recording)
    train('--max_steps', 1)
    assert [config.gpu_options.allow_growth for config in configs] == [True]


@pytest.mark.skipif(not IS_TF1, reason='XLA is for TensorFlow 1')
@pytest.mark.parametrize('flags', ['', None])
def test_xla_compiles_for_the_cpu_unless_told_not_to(flags, mnist_dir, tmp_path, monkeypatch):
    if tf.config.experimental.list_physical_devices('GPU'):
        pytest.skip('there is a GPU')
    monkeypatch.setenv('XLA_FLAGS', f'--xla_dump_to={tmp_path}/dump')
    monkeypatch.delenv('TF_XLA_FLAGS')
    env = {'TF_XLA_FLAGS': flags} if flags is not None else {}
    process = start(SCRIPT, '--data_dir', mnist_dir, '--max_steps', 2, env=env)
    out, err = process.communicate()
    assert out.splitlines()[-1].startswith('test accuracy '), err
    assert (tmp_path / 'dump').exists() == (flags is None)


@pytest.mark.skipif('OTHER_PYTHON' not in os.environ, reason='OTHER_PYTHON names no other runtime')
def test_checkpoints_cross_between_the_runtimes(mnist_dir, run, tmp_path):
    def run_theirs(*args):
        python = os.environ['OTHER_PYTHON']
        return start(SCRIPT, '--data_dir', mnist_dir, *args, python=python).communicate()

    def run_ours(*args):
        return run(mnist_deep, *args)

    for log_dir, first, second in (
        (tmp_path / 'theirs', run_theirs, run_ours),
        (tmp_path / 'ours', run_ours, run_theirs),
    ):
        out, _ = first('--max_steps', 5, '--log_dir', log_dir)
        again, err = second('--max_steps', 5, '--log_dir', log_dir)
        assert f'Resuming from {log_dir}/model.ckpt-5, after 5 steps.\n' in err
        assert float(again.split()[-1]) == pytest.approx(float(out.split()[-1]), abs=0.002)


CPUINFO = '/proc/cpuinfo'
HAS_BFLOAT16 = False
if os.path.exists(CPUINFO) and not IS_TF1:
    with open(CPUINFO) as f:
        HAS_BFLOAT16 = '_bf16' in f.read()


@pytest.mark.skipif(HAS_BFLOAT16, reason='this machine has bfloat16')
def test_bfloat16_is_refused(refused):
    assert refused(mnist_deep, '--precision', 'bfloat16') == (
        'bfloat16 needs TensorFlow 2 and a CPU with AVX512-BF16 or AMX-BF16; leave --precision out'
    )


@pytest.mark.skipif(not HAS_BFLOAT16, reason='TensorFlow 1, or a CPU without bfloat16')
def test_bfloat16_trains_close_to_float32(run, tmp_path):
    values = []
    for precision in ('float32', 'bfloat16'):
        args = '--seed', 1, '--max_steps', 2, '--log_dir', tmp_path / precision
        run(mnist_deep, *args, '--precision', precision)
        values.append(saved_values(tmp_path / precision / 'model.ckpt-2')['conv2/W'])
    difference = np.abs(np.subtract(*values))
    assert 1e-6 < difference.mean() < difference.max() < 4.1e-4  # after two steps of at most 1e-4
