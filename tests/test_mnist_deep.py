"""The convolutional network: its graph and a step against NumPy, its runs, and how they resume.

Tests of what the script does around the network replace it by a single layer, which costs nothing.
"""

import glob
import gzip
import io
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import single_layer
import tensorflow.compat.v1 as tf
from conftest import as_another_user, start_python, write_mnist
from single_layer import next_batch_after, press_ctrl_c
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import input_data
import mnist_deep

SCRIPT = mnist_deep.__file__
IS_TF1 = tf.VERSION.startswith('1.')


@pytest.fixture
def train(run, monkeypatch):
    """Run the script with a single layer; return its stdout and stderr."""
    monkeypatch.setattr(mnist_deep, 'deepnn', single_layer.single_layer)

    def train(*args):
        return run(mnist_deep, *args)

    return train


def run_one_step(network, mnist_dir, log_dir):
    """Run the script for one step; return the graph that it leaves behind."""
    flags = f'--data_dir {mnist_dir} --log_dir {log_dir} --max_steps 1 --seed 2'
    with tf.Graph().as_default() as graph, pytest.MonkeyPatch.context() as patch:
        patch.setattr(mnist_deep, 'deepnn', network)
        patch.setattr(sys, 'argv', [SCRIPT, *flags.split()])
        mnist_deep.main()
    return graph


@pytest.fixture(scope='module')
def first_step(mnist_dir, tmp_path_factory):
    """One step of the network: its graph and its folder."""
    log_dir = tmp_path_factory.mktemp('first_step')
    return run_one_step(mnist_deep.deepnn, mnist_dir, log_dir), log_dir


@pytest.fixture(scope='module')
def trained_dir(mnist_dir, tmp_path_factory):
    """The folder of one step with a single layer, which no test changes."""
    log_dir = tmp_path_factory.mktemp('trained')
    run_one_step(single_layer.single_layer, mnist_dir, log_dir)
    return log_dir


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


def test_tensors_of_the_tutorial(first_step):
    graph, _ = first_step
    assert {name: graph.get_tensor_by_name(name).shape.as_list() for name in TENSORS} == TENSORS


def test_initial_weights_and_biases(first_step):
    graph, _ = first_step
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
    """One training step from biases that all differ: what was fed, came out, and changed."""
    graph, _ = first_step
    random = np.random.RandomState(1)
    step = SimpleNamespace(x=random.uniform(size=(6, 784)).astype(np.float32))
    step.y_ = np.eye(10)[random.randint(10, size=6)]
    h_fc1_drop = graph.get_operation_by_name('fc2/MatMul').inputs[0]
    with graph.as_default(), tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        variables = {v.op.name: v for v in tf.global_variables()}
        for layer in WEIGHTS:  # equal biases of the logits would change no probability
            bias = variables[layer + '/b']
            bias.load(random.uniform(0, 0.5, bias.shape.as_list()), sess)
        step.weights = sess.run({name: variables[name] for name in VARIABLES})
        names = 'loss/cross_entropy', 'fc2/probabilities', 'accuracy/accuracy', 'fc1/Relu'
        fetches = [*(name + ':0' for name in names), h_fc1_drop, 'adam_optimizer/Adam']
        feed_dict = {'x:0': step.x, 'y_:0': step.y_, 'keep_prob:0': 0.25}
        results = sess.run(fetches, feed_dict)
        step.loss, step.probabilities, step.accuracy, step.h_fc1, step.h_fc1_drop, _ = results
        step.change = sess.run(variables['conv1/W']) - step.weights['conv1/W']
        # After its first step, Adam's average holds a tenth of the gradient.
        step.gradient = sess.run(variables['conv1/W/Adam']) / 0.1
    step.dropout = 4 * (step.h_fc1_drop != 0)
    return step


def test_dropout_keeps_neurons_with_keep_prob_and_divides_them_by_it(step):
    kept = step.dropout > 0
    assert 0.15 < kept[step.h_fc1 > 0].mean() < 0.35
    np.testing.assert_allclose(step.h_fc1_drop[kept], 4 * step.h_fc1[kept], rtol=1e-6)


def test_loss_probabilities_and_accuracy_against_numpy(step):
    loss, probabilities = network_in_numpy(step.weights, step.x, step.y_, step.dropout)
    assert step.loss == pytest.approx(loss, rel=1e-4)
    np.testing.assert_allclose(step.probabilities, probabilities, rtol=1e-3, atol=1e-6)
    assert step.accuracy == np.float32(np.mean(probabilities.argmax(1) == step.y_.argmax(1)))


def test_gradient_of_the_filters_against_finite_differences(step):
    """That of the first layer has come through all others."""

    def loss_at(distance):
        W = step.weights['conv1/W'].astype(float) + distance * direction
        moved = {**step.weights, 'conv1/W': W}
        return network_in_numpy(moved, step.x, step.y_, step.dropout)[0]

    direction = np.random.RandomState(2).standard_normal(step.gradient.shape)
    slope = (loss_at(1e-8) - loss_at(-1e-8)) / 2e-8
    tolerance = 1e-3 * float(np.linalg.norm(step.gradient))
    assert np.sum(step.gradient * direction) == pytest.approx(slope, abs=tolerance)


def test_adams_first_step_is_the_learning_rate_against_the_gradient(step):
    clear = np.abs(step.gradient) > 1e-3 * np.abs(step.gradient).max()
    expected = -1e-4 * np.sign(step.gradient)
    np.testing.assert_allclose(step.change[clear], expected[clear], rtol=1e-2)


def network_in_numpy(w, x, y_, dropout):
    """Loss and probabilities, with `dropout` as the factor of each neuron of the dense layer."""
    pool1 = pool(convolve(x.reshape(-1, 28, 28, 1), w['conv1/W']) + w['conv1/b'])
    pool2 = pool(convolve(pool1, w['conv2/W']) + w['conv2/b'])
    fc1 = np.maximum(pool2.reshape(len(x), -1) @ w['fc1/W'] + w['fc1/b'], 0) * dropout
    return softmax_cross_entropy(fc1 @ w['fc2/W'] + w['fc2/b'], y_)


def softmax_cross_entropy(logits, y_):
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


def saved_values(checkpoint):
    reader = tf.train.load_checkpoint(str(checkpoint))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def saved_steps(log_dir):
    paths = glob.glob(os.path.join(str(log_dir), 'model.ckpt-*.index'))
    return {int(re.search(r'-(\d+)\.index', path).group(1)) for path in paths}


def test_a_seed_repeats_batches_initial_values_and_dropout(train, tmp_path):
    runs = []
    for name, seed in (('first', 1), ('second', 1), ('other', 2)):
        train('--max_steps', 3, '--seed', seed, '--log_dir', tmp_path / name)
        runs.append(saved_values(tmp_path / name / 'model.ckpt-3'))
    first, second, other = runs
    for name in 'conv1/W', 'fc2/W':
        np.testing.assert_array_equal(first[name], second[name])
        assert not np.array_equal(first[name], other[name])


@pytest.fixture
def feeds(monkeypatch):
    """What sessions are fed, in a list: {name: value} for each run that is fed images."""
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
    assert [len(feed['x:0']) for feed in feeds if feed['keep_prob:0'] == 0.5] == [50, 50]
    assert {feed['keep_prob:0'] for feed in feeds} == {0.5, 1}


def test_the_test_accuracy_is_of_the_saved_weights_and_all_images_in_slices_of_100(
    train, feeds, tmp_path
):
    folder = write_mnist(tmp_path, 6000, 101)  # the last slice is of one image
    out, _ = train('--data_dir', folder, '--max_steps', 3, '--log_dir', tmp_path)
    W = tf.train.load_variable(str(tmp_path / 'model.ckpt-3'), 'fc2/W')
    test = input_data.read_data_sets(folder, one_hot=True).test
    accuracy = np.mean((test.images @ W).argmax(axis=1) == test.labels.argmax(axis=1))
    printed = re.fullmatch(r'step 0, training accuracy \S+\ntest accuracy (\S+)\n', out)
    assert float(printed.group(1)) == pytest.approx(accuracy, abs=0.011)  # one image
    (shown,) = events(tmp_path).Scalars('summaries/test_accuracy')
    assert shown.value == pytest.approx(float(printed.group(1)), abs=1e-5)
    assert max(len(feed['x:0']) for feed in feeds) == 100
    fed = np.concatenate([feed['x:0'] for feed in feeds])
    np.testing.assert_array_equal(fed[-101:], test.images)  # before them, batches of training


def events(log_dir):
    return EventAccumulator(str(log_dir), size_guidance={'images': 0}).Reload()


def test_tensorboard_shows_loss_and_accuracy_of_the_batch_before_its_step(
    train, mnist_dir, tmp_path
):
    flags = '--seed', 2, '--log_dir', tmp_path
    train(*flags, '--max_steps', 100)
    W = tf.train.load_variable(str(tmp_path / 'model.ckpt-100'), 'fc2/W')
    out, _ = train(*flags, '--max_steps', 101)
    training_set = input_data.read_data_sets(mnist_dir, one_hot=True, seed=2).train
    for _ in range(101):
        images, labels = training_set.next_batch(50)
    loss, probabilities = softmax_cross_entropy(images @ W, labels)
    accuracy = np.mean(probabilities.argmax(axis=1) == labels.argmax(axis=1))
    shown = events(tmp_path)
    assert shown.Scalars('summaries/loss')[-1].value == pytest.approx(loss, rel=1e-3)
    shown_accuracy = shown.Scalars('summaries/training_accuracy')[-1].value
    # One of 50 images may be on the edge between two digits.
    assert shown_accuracy == pytest.approx(accuracy, abs=0.021)
    assert out.startswith('step 100, training accuracy %g\n' % shown_accuracy)


def test_tensorboard_shows_the_filters_of_the_first_layer(first_step):
    _, log_dir = first_step
    shown = events(log_dir)
    pngs = [shown.Images(f'summaries/filters/image/{i}')[0] for i in range(32)]
    with tf.Graph().as_default(), tf.Session() as sess:
        images = [tf.image.decode_png(png.encoded_image_string, channels=1) for png in pngs]
        images = np.squeeze(sess.run(images), axis=3).astype(float)
    W_conv1 = tf.train.load_variable(str(log_dir / 'model.ckpt-1'), 'conv1/W')
    for i in range(32):
        weights = W_conv1[:, :, 0, i]  # after one small step, which nobody would see
        assert np.corrcoef(images[i].ravel(), weights.ravel())[0, 1] > 0.99


def test_tensorboard_draws_one_box_for_each_layer(first_step):
    _, log_dir = first_step
    boxes = {node.name.split('/')[0] for node in events(log_dir).Graph().node}
    layers = {'reshape', 'conv1', 'pool1', 'conv2', 'pool2', 'fc1', 'dropout', 'fc2'}
    assert boxes > layers | {'x', 'y_', 'keep_prob', 'loss', 'adam_optimizer', 'accuracy'}


def test_names_the_device_and_says_how_to_watch_it_learn(train, tmp_path):
    log_dir = tmp_path / "it's a földer"
    _, err = train('--max_steps', 1, '--log_dir', log_dir)
    assert f'Training on the {"GPU" if mnist_deep.has_gpu() else "CPU"}.\n' in err
    (command,) = [line for line in err.splitlines() if 'tensorboard' in line]
    assert command.startswith('To watch it learn: ')
    assert shlex.split(command)[-3:] == ['tensorboard', '--logdir', str(log_dir)]


def test_tensorboard_shows_each_step_of_all_runs_once(train, tmp_path, monkeypatch):
    def train_to(steps):
        train('--max_steps', steps, '--log_dir', tmp_path)
        # The second is part of a file's name: two quick runs would write into the same.
        (path,) = tmp_path.glob('events.*.*.*.*')
        path.rename(tmp_path / f'events.out.tfevents.{len(list(tmp_path.glob("events.*")))}')

    train_to(3)
    with monkeypatch.context() as crash:  # a run that ends before its first checkpoint
        crash.setattr(tf.train.Saver, 'save', lambda *args: None)
        train_to(102)
    train_to(101)
    train_to(50)  # which are done, so this only measures again
    shown = events(tmp_path)
    steps = {tag: [event.step for event in shown.Scalars(tag)] for tag in shown.Tags()['scalars']}
    assert steps == {
        'summaries/loss': [0, 100],
        'summaries/training_accuracy': [0, 100],
        'summaries/test_accuracy': [101],
    }


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


def test_a_checkpoint_holds_weights_adams_averages_and_step(first_step):
    _, log_dir = first_step
    saved = saved_values(log_dir / 'model.ckpt-1')
    averages = {name + slot for name in VARIABLES for slot in ('/Adam', '/Adam_1')}
    powers = {'adam_optimizer/beta1_power', 'adam_optimizer/beta2_power'}
    assert set(saved) == {*VARIABLES, *averages, *powers, 'global_step', 'data_crc'}
    assert saved['global_step'] == 1


def test_a_resumed_run_goes_on_with_all_that_was_saved(train, tmp_path):
    """From a folder that was moved."""
    train('--max_steps', 3, '--log_dir', tmp_path / 'run')
    moved = tmp_path / 'moved'
    (tmp_path / 'run').rename(moved)
    saved = saved_values(moved / 'model.ckpt-3')
    # Nothing is left to train, so this saves again what it has restored.
    out, err = train('--max_steps', 3, '--log_dir', moved)
    assert f'Resuming from {moved}/model.ckpt-3, after 3 steps.\n' in err
    assert re.fullmatch(r'test accuracy \S+\n', out)
    for name, value in saved_values(moved / 'model.ckpt-3').items():
        assert np.any(value), name
        np.testing.assert_array_equal(value, saved[name])


def test_the_last_three_checkpoints_are_kept_across_runs(train, tmp_path):
    for steps in (1, 2, 3, 4):
        train('--max_steps', steps, '--log_dir', tmp_path)
    assert saved_steps(tmp_path) == {2, 3, 4}


def test_saves_every_1000_steps(train, tmp_path):
    train('--max_steps', 1001, '--log_dir', tmp_path)
    assert saved_steps(tmp_path) == {1000, 1001}


def files_in(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob('*')}


def test_a_copied_folder_prunes_nothing_in_the_original(train, tmp_path):
    """Where the file checkpoint names absolute paths, as most programs write it."""
    original, copied = tmp_path / 'original', tmp_path / 'copied'
    for steps in (1, 2, 3):
        train('--max_steps', steps, '--log_dir', original)
    shutil.copytree(str(original), str(copied))
    state = (original / 'checkpoint').read_text()
    (copied / 'checkpoint').write_text(state.replace('"model.ckpt', f'"{original}/model.ckpt'))
    before = files_in(original)
    train('--max_steps', 4, '--log_dir', copied)
    assert files_in(original) == before
    assert saved_steps(copied) == {1, 2, 3, 4}


def shell(command):
    """Return a function that runs it in a folder."""

    def change(folder):
        subprocess.run(command, shell=True, cwd=str(folder), check=True)

    change.__name__ = command  # which pytest shows
    return change


def save_other_variables(folder):
    save({'weights': np.zeros(3)}, folder / 'run')


def save_other_shapes(folder):
    values = saved_values(folder / 'run' / 'model.ckpt-1')
    save({**values, 'conv1/W': np.zeros((3, 3, 1, 32), 'f')}, folder / 'run')


def save(values, log_dir):
    with tf.Graph().as_default(), tf.Session() as sess:
        variables = {name: tf.Variable(value) for name, value in values.items()}
        sess.run(tf.global_variables_initializer())
        tf.train.Saver(variables).save(sess, str(log_dir / 'model.ckpt-1'))


def change_byte(name, position):
    """Return a function that changes a byte of a file of the data, in the folder beside the run."""

    def change(folder):
        path = folder / 'data' / name
        data = bytearray(gzip.decompress(path.read_bytes()))
        data[position] ^= 1
        path.write_bytes(gzip.compress(bytes(data)))

    return change


NO_STATE = 'its file "checkpoint" is missing or damaged, or names a missing checkpoint'
OTHER_NETWORK = 'its checkpoint belongs to another network'
OTHER_DATA = 'that run used other data'
DAMAGED = 'its checkpoint model.ckpt-1 is damaged or cannot be read'
VALUES = 'run/model.ckpt-1.data-00000-of-00001'
INDEX = 'run/model.ckpt-1.index'


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        (shell('rm run/checkpoint'), NO_STATE),
        (shell(': > run/checkpoint'), NO_STATE),
        (shell(f'rm {INDEX}'), NO_STATE),
        (shell('rm run/*; echo my notes > run/checkpoint'), NO_STATE),
        (shell('rm run/*; mkdir run/checkpoint'), NO_STATE),
        (shell('rm run/*; echo \'model_checkpoint_path: "/a/b-1"\' > run/checkpoint'), NO_STATE),
        (save_other_variables, OTHER_NETWORK),
        (save_other_shapes, OTHER_NETWORK),
        (change_byte(input_data.TRAIN_IMAGES, 16), OTHER_DATA),  # the first pixel
        (change_byte(input_data.TRAIN_LABELS, 8), OTHER_DATA),  # the first label, of validation
        (change_byte(input_data.TRAIN_LABELS, -1), OTHER_DATA),
        (shell(f'rm {VALUES}'), DAMAGED),
        (shell(f'rm {VALUES}; mkdir {VALUES}'), DAMAGED),  # modes do not bind an administrator
        (shell(f'head -c 9000 {VALUES} > part; mv part {VALUES}'), DAMAGED),
        (shell(f'LC_ALL=C tr 0 1 < {VALUES} > damaged; mv damaged {VALUES}'), DAMAGED),
        (shell(f'head -c 50 {INDEX} > part; mv part {INDEX}'), DAMAGED),
    ],
)
def test_refuses_what_cannot_be_resumed_and_leaves_it_as_it_is(
    change, problem, trained_dir, mnist_dir, refused, tmp_path, monkeypatch
):
    log_dir, data_dir = tmp_path / 'run', tmp_path / 'data'
    shutil.copytree(str(trained_dir), str(log_dir))
    shutil.copytree(mnist_dir, str(data_dir))
    change(tmp_path)
    before = files_in(log_dir)
    monkeypatch.setattr(mnist_deep, 'deepnn', single_layer.single_layer)
    flags = '--log_dir', log_dir, '--data_dir', data_dir
    message = refused(mnist_deep, *flags, '--max_steps', 1)  # although no step is left
    remedy = 'Choose another --log_dir'
    if problem == DAMAGED:
        line = f'the first line of {log_dir}/checkpoint'
        remedy += f', or put the name of an older one between the quotes in {line}'
    assert message == f'cannot resume from {log_dir}: {problem}. {remedy}.'
    assert files_in(log_dir) == before


def test_after_damage_an_older_checkpoint_resumes(train, refused, tmp_path):
    for steps in (1, 2):
        train('--max_steps', steps, '--log_dir', tmp_path)
    (tmp_path / 'model.ckpt-2.index').write_bytes(b'damaged')
    refused(mnist_deep, '--log_dir', tmp_path)
    state = (tmp_path / 'checkpoint').read_text()
    (tmp_path / 'checkpoint').write_text(state.replace('model.ckpt-2', 'model.ckpt-1', 1))
    _, err = train('--max_steps', 3, '--log_dir', tmp_path)
    assert f'Resuming from {tmp_path}/model.ckpt-1, after 1 steps.\n' in err


def test_a_folder_in_the_home_directory(train, tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    train('--max_steps', 1, '--log_dir=~/run')
    assert os.listdir(str(tmp_path)) == ['run']
    assert saved_steps(tmp_path / 'run') == {1}


WILDCARDS = '[ ] * ? \\ in {} are wildcards here'
ADDRESS = '{} is an address, not a folder'


@pytest.mark.parametrize(
    ('name', 'problem'),
    [
        ('run*', WILDCARDS),
        ('run?', WILDCARDS),
        ('run[1', WILDCARDS),
        ('run]1', WILDCARDS),
        ('a\\b', WILDCARDS),  # which TensorFlow reads as ab
        ('gs://bucket/run', ADDRESS),
        ('ram://run', ADDRESS),
        ('na\udcffme', 'TensorFlow cannot write to {!r}, whose name is not UTF-8'),
    ],
)
def test_a_log_dir_of_wildcards_an_address_or_no_utf8(
    name, problem, refused, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    message = refused(mnist_deep, '--max_steps', 1, '--log_dir', name)
    assert message == problem.format(name) + '; choose another --log_dir'
    assert os.listdir(str(tmp_path)) == []


def test_a_file_is_no_log_dir(refused, tmp_path):
    file = tmp_path / 'file'
    file.write_text('mine')
    for log_dir in (file, file / 'run'):
        message = refused(mnist_deep, '--data_dir', tmp_path / 'none', '--log_dir', log_dir)
        assert message == f'cannot write to {log_dir}; choose another --log_dir'
    assert files_in(tmp_path) == {file: b'mine'}


def test_a_log_dir_that_may_not_be_written_to(refused):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o555)
        for log_dir in (folder, os.path.join(folder, 'new', 'run')):
            with as_another_user():
                message = refused(mnist_deep, '--max_steps', 1, '--log_dir', log_dir)
            assert message == f'cannot write to {log_dir}; choose another --log_dir'
        assert os.listdir(folder) == []


def train_in_a_process(mnist_dir, log_dir):
    """Train in a process; return it when it has printed step 100. Before step 120 it waits."""
    flags = '--data_dir', mnist_dir, '--log_dir', log_dir
    process = start_python(single_layer.__file__, *flags, stdin=subprocess.PIPE)
    timer = threading.Timer(120, process.kill)
    timer.start()
    # Python itself would keep back what a pipe gets, until the end.
    for line in iter(process.stdout.readline, ''):
        if line.startswith('step 100, '):
            timer.cancel()
            return process
    pytest.fail(process.communicate()[1])


def test_sigint_saves_and_says_how_to_resume(mnist_dir, train, tmp_path):
    """A second one, while it saves, does not stop that."""
    log_dir = tmp_path / "it's a run"
    process = train_in_a_process(mnist_dir, log_dir)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate('', timeout=120)
    assert (process.returncode, out) == (130, '')
    assert 'Traceback' not in err
    (steps,) = saved_steps(log_dir)
    resume = f'To resume, use the same flags and --log_dir {shlex.quote(str(log_dir))}\n'
    assert err.endswith(f'Stopped after {steps} steps. {resume}')
    _, err = train('--max_steps', 1, '--log_dir', log_dir)
    assert f'Resuming from {log_dir}/model.ckpt-{steps}, after {steps} steps.\n' in err


def test_a_killed_run_has_flushed_its_lines_and_resumes_from_its_last_checkpoint(
    mnist_dir, train, tmp_path
):
    train('--max_steps', 3, '--log_dir', tmp_path)
    process = train_in_a_process(mnist_dir, tmp_path)
    process.kill()
    process.communicate()
    _, err = train('--max_steps', 1, '--log_dir', tmp_path)
    assert f'Resuming from {tmp_path}/model.ckpt-3, after 3 steps.\n' in err


def test_sigint_writes_the_events_of_a_process_that_goes_on(train, tmp_path, monkeypatch):
    """IPython's, for example, where Ctrl-C works as before afterwards."""
    monkeypatch.setattr(input_data.DataSet, 'next_batch', next_batch_after(101, press_ctrl_c))
    with pytest.raises(SystemExit) as exit:
        train('--log_dir', tmp_path)
    assert exit.value.code == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert [event.step for event in events(tmp_path).Scalars('summaries/loss')] == [0, 100]


def test_sigint_works_as_before_after_the_disk_was_full(train, monkeypatch):
    limits, save = resource.getrlimit(resource.RLIMIT_FSIZE), tf.train.Saver.save

    def save_on_a_full_disk(*args):
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            save(*args)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(tf.train.Saver, 'save', save_on_a_full_disk)
    monkeypatch.setattr(input_data.DataSet, 'next_batch', next_batch_after(2, press_ctrl_c))
    with pytest.raises(tf.errors.OpError, match='File too large'):
        train()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


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


@pytest.mark.parametrize(
    ('types', 'has_gpu'),
    [
        (['CPU'], False),
        (['CPU', 'XLA_CPU', 'XLA_GPU'], False),
        (['CPU', 'XLA_CPU', 'GPU', 'XLA_GPU'], True),
        (['CPU', 'DML'], True),  # tensorflow-directml's
    ],
)
def test_has_gpu_whatever_its_type_and_xla_is_for_a_cpu_only(types, has_gpu, monkeypatch):
    devices = [SimpleNamespace(device_type=name) for name in types]
    monkeypatch.setattr(tf.config.experimental, 'list_physical_devices', lambda: devices)
    monkeypatch.delenv('TF_XLA_FLAGS')
    mnist_deep.session_config('float32')
    assert mnist_deep.has_gpu() == has_gpu
    assert ('TF_XLA_FLAGS' in os.environ) == (IS_TF1 and not has_gpu)


def test_keeps_xla_flags_and_lets_the_memory_of_a_gpu_grow(train, monkeypatch):
    configs, session = [], tf.Session
    monkeypatch.setattr(tf, 'Session', lambda config: configs.append(config) or session())
    monkeypatch.setenv('TF_XLA_FLAGS', '--tf_xla_auto_jit=0')
    train('--max_steps', 1)
    assert os.environ['TF_XLA_FLAGS'] == '--tf_xla_auto_jit=0'
    assert [config.gpu_options.allow_growth for config in configs] == [True]


@pytest.mark.skipif(not IS_TF1, reason='XLA is for TensorFlow 1')
def test_xla_compiles_for_the_cpu(mnist_dir, tmp_path, monkeypatch):
    if mnist_deep.has_gpu():
        pytest.skip('there is a GPU')
    monkeypatch.setenv('XLA_FLAGS', f'--xla_dump_to={tmp_path}/dump')
    monkeypatch.delenv('TF_XLA_FLAGS')
    process = start_python(SCRIPT, '--data_dir', mnist_dir, '--max_steps', 2)
    out, err = process.communicate()
    assert out.splitlines()[-1].startswith('test accuracy '), err
    assert (tmp_path / 'dump').exists()


@pytest.mark.skipif('OTHER_PYTHON' not in os.environ, reason='OTHER_PYTHON names no other runtime')
def test_checkpoints_cross_between_the_runtimes(mnist_dir, run, tmp_path):
    def run_theirs(*args):
        python = os.environ['OTHER_PYTHON']
        return start_python(SCRIPT, '--data_dir', mnist_dir, *args, python=python).communicate()

    def run_ours(*args):
        return run(mnist_deep, *args)

    for log_dir, first, second in (
        (tmp_path / 'theirs', run_theirs, run_ours),
        (tmp_path / 'ours', run_ours, run_theirs),
    ):
        out, _ = first('--max_steps', 2, '--log_dir', log_dir)
        again, err = second('--max_steps', 2, '--log_dir', log_dir)
        assert f'Resuming from {log_dir}/model.ckpt-2, after 2 steps.\n' in err
        assert again.split()[-1] == out.split()[-1]


CPUINFO = Path('/proc/cpuinfo').read_text() if os.path.exists('/proc/cpuinfo') else ''
HAS_BFLOAT16 = not IS_TF1 and bool(re.search(r'\b(avx512|amx)_bf16\b', CPUINFO))


@pytest.mark.skipif(HAS_BFLOAT16, reason='this machine has bfloat16')
def test_bfloat16_is_refused(refused):
    message = refused(mnist_deep, '--precision', 'bfloat16')
    assert message.startswith('bfloat16 needs TensorFlow 2, Linux and a CPU with AVX512-BF16')


@pytest.mark.skipif(not HAS_BFLOAT16, reason='TensorFlow 1, or a CPU without bfloat16')
def test_bfloat16_trains_close_to_float32(first_step, run, tmp_path):
    _, float32_dir = first_step
    run(mnist_deep, '--seed', 2, '--max_steps', 1, '--log_dir', tmp_path, '--precision', 'bfloat16')
    values = [
        saved_values(folder / 'model.ckpt-1')['conv2/W'] for folder in (float32_dir, tmp_path)
    ]
    difference = np.abs(np.subtract(*values))
    assert 1e-6 < difference.mean() < difference.max() < 2.1e-4  # after a step of at most 1e-4
