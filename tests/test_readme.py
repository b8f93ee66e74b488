"""README: its blocks pasted, its commands run; the pages' links, their tables, both languages."""

import csv
import os
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import ROOT, environment_with
from photograph import photograph

import input_data
import mnist_deep
import mnist_softmax

REAL_MNIST = os.environ.get('MNIST_DATA_DIR')
PAGES = ['README.md', 'docs/troubleshooting.md', 'MNIST_data/README.md']  # in English


def read(page):
    return (ROOT / page).read_text(encoding='utf-8')


def in_chinese(page):
    return page.replace('.md', '.zh-CN.md')


README = read('README.md')

# TensorFlow 2 prints these at any log level, and README says so.
UNAVOIDABLE = (
    'All log messages before absl::InitializeLog()',
    'MLIR V1 optimization pass',
    'oneDNN custom operations are on',
    'Could not find cuda drivers',
)


def blocks(page, language):
    return re.findall(rf'^```{language}\n(.*?)^```$', page, re.MULTILINE | re.DOTALL)


INSTALL, TEST, TRAIN_MY_RUN, TENSORBOARD = blocks(README, 'sh')
FIRST_LINE, READING_MY_DIGIT = blocks(README, 'text')
(KERAS,) = (block for block in blocks(README, 'python') if 'import keras' in block)
PASTED = [block for block in blocks(README, 'python') if block != KERAS]
(READ_DIGIT,) = (block for block in PASTED if 'def read_digit' in block)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """What a reader has in a clone, with MNIST in it or the bundled digits in its place."""
    folder = tmp_path_factory.mktemp('clone')
    for name in 'input_data.py', 'mnist_softmax.py', 'mnist_deep.py':
        shutil.copy(str(ROOT / name), str(folder))
    data = REAL_MNIST or input_data.SAMPLE_DIR
    (folder / 'MNIST_data').symlink_to(os.path.abspath(data))
    return folder


@pytest.fixture(scope='module')
def in_clone(folder, tmp_path_factory):
    """Run a command there, or in another folder, in an active environment; return its output."""
    environment = environment_with(
        PATH=os.path.dirname(sys.executable) + os.pathsep + os.environ['PATH'],
        IPYTHONDIR=str(tmp_path_factory.mktemp('ipython')),
    )

    def run(command, cwd=folder):
        options = {'cwd': str(cwd), 'env': environment, 'capture_output': True, 'text': True}
        result = subprocess.run(['bash', '-ec', command], **options)
        assert result.returncode == 0, result.stderr
        return result

    return run


@pytest.fixture(scope='module')
def my_run(folder, in_clone):
    """The network that README has its reader train, for fewer steps; return what it prints."""
    assert TRAIN_MY_RUN == 'python mnist_deep.py --log_dir my_run\n'
    return in_clone(TRAIN_MY_RUN.strip() + ' --max_steps 500 --seed 1').stdout


@pytest.fixture(scope='module')
def first_run(in_clone):
    """What the first command prints at its end."""
    assert INSTALL.endswith(' && python mnist_softmax.py\n')
    return in_clone('python mnist_softmax.py').stdout


@pytest.fixture(scope='module')
def unseen(folder):
    return input_data.read_data_sets(str(folder / 'MNIST_data'), dtype=np.uint8, reshape=False).test


def unexpected_lines(printed):
    lines = printed.strip().splitlines()
    return [line for line in lines if not any(part in line for part in UNAVOIDABLE)]


def paste(way, steps, folder, in_clone):
    """Paste all Python blocks in their order; return the lines that they print.

    With a seed for the batches: without one, the loss after training varies by more than 0.03.
    """
    cells = [block.replace('range(20000)', f'range({steps})') for block in PASTED]
    cells = [cell.replace('one_hot=True)', 'one_hot=True, seed=1)') for cell in cells]
    (folder / 'cells').write_text(''.join(cell + '\n' for cell in cells))  # and an empty line
    commands = {
        'IPython': 'ipython --no-term-title -c "$(cat cells)"',
        'python': 'python -iq < cells',
    }
    result = in_clone(commands[way])
    assert unexpected_lines(re.sub(r'>>> |\.\.\. ', '', result.stderr)) == []
    return result.stdout.splitlines()


NUMBER = r'\d+(?:\.\d*)?'


def numbers_in(line):
    return [float(number) for number in re.findall(NUMBER, line)]


def without_numbers(line):
    return ' '.join(re.sub(NUMBER, '', line).split())


@pytest.mark.parametrize(('way', 'steps'), [('IPython', 101), ('python', 1)])
def test_blocks_print_what_readme_says(way, steps, folder, in_clone, my_run, unseen):
    pixels = photograph(unseen.images[0, :, :, 0] / 255, (480, 640), np.random.RandomState(1))
    write(folder / 'my_digit.jpg', pixels)
    tutorial = '\n'.join(blocks(README.partition('\n## Use your own digit')[0], 'python'))
    shown = re.findall(r'^ *print\(.*\)\s+# (.*)$', tutorial.replace('about ', ''), re.MULTILINE)
    step_line, test_line = shown[-2:]
    shown[-2:] = [step_line] * (1 + steps // 100) + [test_line]
    lines = paste(way, steps, folder, in_clone)
    printed, digit = lines[:-2], lines[-2:]

    assert [without_numbers(line) for line in printed] == [without_numbers(line) for line in shown]
    shapes, label, in_graph, value, loss_before, loss, accuracy, *_ = printed
    assert [in_graph, value, loss_before] == shown[2:5]  # the same on any data
    (loss,), (accuracy,) = map(numbers_in, (loss, accuracy))
    assert loss < 2.3026 / 2
    assert accuracy > 0.7
    if REAL_MNIST:
        assert [shapes, label] == shown[:2]
        assert loss == pytest.approx(*numbers_in(shown[5]), abs=0.003)
        for ours, of_readme in zip(printed[6:9], shown[6:9]):  # two accuracies; the 7
            assert numbers_in(ours) == pytest.approx(numbers_in(of_readme), abs=0.03)
    if steps > 100:
        assert [line.split(',')[0] for line in printed[9:11]] == ['step 0', 'step 100']
        assert numbers_in(printed[-1])[0] > (0.75 if REAL_MNIST else 0.5)
    assert digit[0] == f'This is a {unseen.labels[0]}.'
    of_readme = READING_MY_DIGIT.splitlines()
    assert [without_numbers(line) for line in digit] == [without_numbers(x) for x in of_readme]


@pytest.mark.skipif(tf.VERSION.startswith('1.'), reason='Keras 3 needs TensorFlow 2')
def test_the_network_in_keras(mnist_dir, tmp_path, in_clone):
    """Pasted into plain Python, for three epochs of 1,000 images."""
    (tmp_path / 'MNIST_data').symlink_to(mnist_dir)
    (tmp_path / 'input_data.py').symlink_to(ROOT / 'input_data.py')
    (tmp_path / 'cells').write_text(KERAS.replace('epochs=18', 'epochs=3') + '\n')
    last_line = in_clone('python -iq < cells', tmp_path).stdout.splitlines()[-1]
    line = r'(\d+) parameters, test accuracy (\S+)'
    parameters, accuracy = re.fullmatch(line, last_line).groups()
    assert f'| {int(parameters):,} |' in README  # the total of the tutorial's table of layers
    assert float(accuracy) > 0.5


LONG_RUN = REAL_MNIST and os.environ.get('MNIST_LOG_DIR')  # absolute, of 20,000 steps on MNIST


@pytest.mark.parametrize(
    ('way', 'least_of_long_run', 'least_on_mnist', 'least_on_bundled_digits'),
    [('drawn', 99, 17, 16), ('photographed', 95, 16, 14)],
)
def test_own_digits(
    way, least_of_long_run, least_on_mnist, least_on_bundled_digits, folder, my_run, unseen
):
    """The first test images, as people might make pictures of them; -s shows how many are read."""
    random, names = np.random.RandomState(1), {}
    exec(READ_DIGIT, names)
    count, images = 100 if LONG_RUN else 20, []
    for i, ink in enumerate(unseen.images[:count, :, :, 0]):
        if way == 'drawn':
            path, pixels = folder / 'digit.png', drawn(ink, i, random)
        else:
            shape = np.array([(3, 4), (4, 3)][i % 2])
            path = folder / 'digit.jpg'
            pixels = photograph(ink / 255, shape * random.randint(60, 200), random)
        write(path, pixels)
        with tf.Graph().as_default(), tf.Session() as sess:
            images.append(names['read_digit'](str(path), sess))
    checkpoint = tf.train.latest_checkpoint(LONG_RUN or str(folder / 'my_run'))
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.train.import_meta_graph(checkpoint + '.meta').restore(sess, checkpoint)
        feed_dict = {'x:0': np.concatenate(images), 'keep_prob:0': 1.0}
        digits = sess.run('fc2/probabilities:0', feed_dict).argmax(axis=1)
    right = digits == unseen.labels[:count]
    print(f'{right.sum()} of {count} {way} are read')
    least = least_on_mnist if REAL_MNIST else least_on_bundled_digits
    assert right.sum() >= (least_of_long_run if LONG_RUN else least), np.where(~right)


def drawn(ink, way, random):
    """Enlarge and move an image, and colour it in one of several ways."""
    larger = random.randint(1, 15)
    ink = ink.repeat(larger, 0).repeat(larger, 1)
    ink = np.pad(ink, random.randint(0, 100, (2, 2)), 'constant')
    none, full = np.zeros_like(ink), np.full_like(ink, 255)
    blue_on_yellow = np.stack([255 - ink, 220 - ink // 2, 100 + ink // 2], 2)
    return [
        ink,
        255 - ink,
        blue_on_yellow,
        np.dstack([blue_on_yellow, full]),
        np.dstack([none, none, none, ink]),
        np.dstack([full, full, full, ink]),
        np.dstack([none, ink]),
    ][way % 7]


def write(path, pixels):
    """Write uint8 pixels [height, width], or with 1 (grey) to 4 (RGBA) channels."""
    encode = tf.image.encode_jpeg if path.suffix == '.jpg' else tf.image.encode_png
    with tf.Graph().as_default(), tf.Session() as sess:
        path.write_bytes(sess.run(encode(pixels.reshape(*pixels.shape[:2], -1))))


def test_an_empty_picture_is_named(tmp_path):
    names = {}
    exec(READ_DIGIT, names)
    paper = photograph(np.zeros((28, 28)), (480, 640), np.random.RandomState(1))
    transparent = np.zeros((60, 80, 4), np.uint8)
    for name, pixels in ('transparent.png', transparent), ('paper.jpg', paper):
        write(tmp_path / name, pixels)
        empty = pytest.raises(ValueError, match='^no ink in .*' + name)
        with tf.Graph().as_default(), tf.Session() as sess, empty:
            names['read_digit'](str(tmp_path / name), sess)


def test_the_first_command_prints_what_readme_shows(first_run):
    printed = first_run.replace(' (bundled digits, not MNIST)', '')
    assert without_numbers(printed) == without_numbers(FIRST_LINE)


def accuracy_in(printed):
    """The number in the last line, which ends in a note if it is not of MNIST."""
    return float(printed.splitlines()[-1].split()[2])


def test_the_network_soon_is_better_than_softmax_regression(first_run, my_run):
    """On MNIST and on the bundled digits. After 300 steps, a lucky first run could still win."""
    assert 0.85 < accuracy_in(first_run) < accuracy_in(my_run)


def test_tensorboard_finds_what_my_run_logged(my_run, in_clone):
    printed = in_clone(TENSORBOARD.strip() + ' --inspect').stdout  # ends after showing the events
    assert 'summaries/test_accuracy' in printed


@pytest.mark.parametrize('script', [mnist_softmax, mnist_deep])
def test_flags_are_those_of_the_scripts(script, monkeypatch, capsys):
    name = os.path.basename(script.__file__)
    monkeypatch.setattr(sys, 'argv', [script.__file__, '--help'])
    with pytest.raises(SystemExit):
        script.main()
    rows = re.findall(r'^\| `(--\w+)[^`]*` \| (\S+) \|', README, re.MULTILINE)
    documented = {flag for flag, scripts in rows if scripts in ('both', f'`{name}`')}
    assert documented == set(re.findall(r'--\w+', capsys.readouterr().out)) - {'--help'}


@pytest.mark.upkeep
@pytest.mark.parametrize('page', [*PAGES, *map(in_chinese, PAGES)])
def test_links_resolve(page):
    for target in re.findall(r'(?:\]\(|src(?:set)?=")([^)"]+)[)"]', without_blocks(read(page))):
        if target.startswith('https://'):
            continue
        path, _, anchor = target.partition('#')
        linked = (ROOT / page).parent / path if path else ROOT / page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.read_text(encoding='utf-8')), target


def without_blocks(text):
    return re.sub(r'^```.*?^```$', '', text, flags=re.MULTILINE | re.DOTALL)


def anchors(text):
    """Those that GitHub gives a page's headings."""
    headings = re.findall(r'^#+ (.*)$', without_blocks(text), re.MULTILINE)
    return [re.sub(r'[^\w -]', '', x).strip().lower().replace(' ', '-') for x in headings]


@pytest.mark.upkeep
@pytest.mark.parametrize('page', PAGES)
def test_both_languages_have_the_same_blocks_pictures_and_numbers(page):
    english, chinese = read(page), read(in_chinese(page))
    for language in 'sh', 'python', 'text', 'diff':
        assert blocks(chinese, language) == blocks(english, language)
    pictures = re.compile(r'src(?:set)?="([^"]+\.png)"')
    assert pictures.findall(chinese) == pictures.findall(english)
    # The Chinese page has more for its readers, but nothing less.
    assert numbers(english) - numbers(chinese) == Counter()


def numbers(page):
    return Counter(re.findall(r'\d+(?:\.\d+)?', without_blocks(page).replace(',', '')))


def read_accuracies():
    """Return {(command, TensorFlow version): rows of the list of runs}."""
    groups = defaultdict(list)
    for row in csv.DictReader((ROOT / 'tests' / 'accuracy.csv').read_text().splitlines()):
        groups[row['command'], row['tensorflow']].append(row)
    return groups


def accuracies_of(rows):
    return [float(row['test_accuracy']) for row in rows]


@pytest.mark.upkeep
def test_the_table_of_accuracies_is_computed_from_the_runs():
    groups = read_accuracies()
    assert README.count('\n| `python mnist_') == len(groups)
    for (command, version), rows in groups.items():
        accuracies = accuracies_of(rows)
        assert [int(row['seed']) for row in rows] == list(range(1, len(rows) + 1))
        mean, error = np.mean(accuracies), np.std(accuracies, ddof=1) / len(accuracies) ** 0.5
        seconds = float(rows[0]['seconds'])  # only seed 1 was run alone, and is timed
        time = f'{seconds:.0f} s' if seconds < 60 else f'{seconds / 60:.1f} min'
        row = f'| `python {command}` | {version} | {len(rows)} | {mean:.4f} ± {error:.4f} | '
        assert row + f'{min(accuracies):.4f} | {max(accuracies):.4f} | {time} |' in README
        ((commit, machine),) = {(row['commit'], row['machine']) for row in rows}
        assert commit in README
        assert machine in ' '.join(README.split())  # it may be on two lines


@pytest.mark.upkeep
@pytest.mark.parametrize(
    ('script', 'unit', 'seconds_per_unit'),
    [('mnist_softmax.py', 'seconds', 1), ('mnist_deep.py', 'minutes', 60)],
)
def test_the_first_table_is_computed_from_the_runs(script, unit, seconds_per_unit):
    groups = read_accuracies()
    percent = 100 * np.mean(accuracies_of(groups[script, '2.20.0']))
    times = [float(rows[0]['seconds']) for key, rows in groups.items() if key[0] == script]
    shortest, longest = min(times) / seconds_per_unit, max(times) / seconds_per_unit
    row = f'{percent:.1f} % | {shortest:.0f} to {longest:.0f} {unit} |'
    assert f'[{script}]({script}) | {row}' in README


@pytest.mark.upkeep
def test_the_accuracy_of_the_tutorials_loop_is_that_of_seed_1():
    accuracy = accuracies_of(read_accuracies()['mnist_deep.py', '2.20.0'])[0]
    assert f'(sum(correct) / len(correct)))  # test accuracy {accuracy}\n' in README


@pytest.mark.upkeep
def test_files_of_mnist():
    page = read('MNIST_data/README.md')
    rows = re.findall(r'^\| `(\S+\.gz)` \| [^|]+ \| ([\d,]+) \|$', page, re.MULTILINE)
    sizes = {name: int(size.replace(',', '')) for name, size in rows}
    assert sizes == {name: size for name, (size, _) in input_data.MNIST_FILES.items()}
    (checksums,) = blocks(page, 'text')
    sorted_files = sorted(input_data.MNIST_FILES.items())
    assert checksums == ''.join(f'{sha256}  {name}\n' for name, (_, sha256) in sorted_files)
