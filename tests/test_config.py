"""Configurations: what is wrong is told by the key's path; what is right survives a run's config.json."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

import hebbcore
from hebbcore import serialize
from hebbcore.runs import config
from hebbcore.runs.architecture import Architecture
from hebbcore.runs.config import read_config
from hebbcore.training.settings import Training

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.toml"))
DATA = '[data]\npath = "x.h5"\n'
PRESET = '[network]\npreset = "fasthebb-6"\n'
OWN = " (One of your own is known once its module is imported: --import MODULE.)"
LAYERS = "[network]\nimage_shape = [8, 8, 3]\nlayers = "


@pytest.fixture
def read(tmp_path):
    """Write a text to a file and read it as a configuration."""

    def read(text, *changes, name="run.toml"):
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return read_config(path, changes)

    return read


def conv(extra="", units="2", kernel_size="3"):
    return f'{DATA}{LAYERS}[{{type = "conv", units = {units}, kernel_size = {kernel_size}{extra}}}]'


WRONG = {  # text of the file: the whole message
    "": "data is missing.",
    DATA: "network is missing.",
    PRESET: "data is missing.",
    f"[data]\n{PRESET}": "data.path is missing.",
    f"data = 3\n{PRESET}": "data must be a table, got 3.",
    f"network = 3\n{DATA}": "network must be a table, got 3.",
    f"training = 3\n{DATA}{PRESET}": "training must be a table, got 3.",
    f"sed = 1\n{DATA}{PRESET}": "sed is unknown. Did you mean seed?",
    f"x = 1\n{DATA}{PRESET}": (
        "x is unknown. Known: data, network, training, seed, device, precision, workspace, imports."
    ),
    f"seed = -1\n{DATA}{PRESET}": "seed must be at least 0, got -1.",
    f"seed = -1\n{DATA}{PRESET}[training]\nepochs = 2": "seed must be at least 0, got -1.",
    f"seed = 1.5\n{DATA}{PRESET}": "seed must be an integer, got 1.5.",
    f'device = "gpu"\n{DATA}{PRESET}': "device must be one of 'auto', 'cpu', 'cuda'; got 'gpu'. Did you mean 'cpu'?",
    f'precision = "float16"\n{DATA}{PRESET}': (
        "precision must be one of 'float32', 'float64', 'tf32', 'bf16'; got 'float16'. Did you mean 'float64'?"
    ),
    f'workspace = "2 XB"\n{DATA}{PRESET}': ('workspace must be bytes or text like "256 MiB" or "2 GB", got \'2 XB\'.'),
    f"workspace = 0\n{DATA}{PRESET}": "workspace must be at least 1, got 0.",
    # data
    f"[data]\npath = 3\n{PRESET}": "data.path must be text, got 3.",
    f'[data]\npath = ""\n{PRESET}': "data.path must not be empty.",
    f"{DATA}splitt = 1\n{PRESET}": "data.splitt is unknown. Did you mean split?",
    f"{DATA}image_size = 0\n{PRESET}": "data.image_size must be at least 1, got 0.",
    f'{DATA}crop = "rand"\n{PRESET}': (
        "data.crop must be one of 'center', 'random'; got 'rand'. Did you mean 'random'?"
    ),
    f'{DATA}crop = "random"\n{PRESET}': 'data.crop "random" needs image_size, the size of what is cut.',
    f"{DATA}subset = 1.5\n{PRESET}": "data.subset must be a number of images, or a fraction in 0…1, got 1.5.",
    f"{DATA}subset = 0\n{PRESET}": "data.subset must be at least 1, got 0.",
    f'{DATA}subset = "ten"\n{PRESET}': "data.subset must be an integer, got 'ten'.",
    f"{DATA}subset = true\n{PRESET}": "data.subset must be an integer, got True.",
    # presets
    f"{DATA}[network]": "network: give preset or layers, one of the two.",
    f"{DATA}{PRESET}layers = []": "network: give preset or layers, one of the two.",
    f'{DATA}[network]\npreset = "vgg12"': (
        "network.preset must be one of 'dictionary', 'fasthebb-6', 'fasthebb-10', 'vgg11', 'vgg13', 'vgg16', "
        "'vgg19', 'softhebb-cifar', 'softhebb-stl', 'softhebb-imagenet'; got 'vgg12'. Did you mean 'vgg19'?" + OWN
    ),
    f'{DATA}{PRESET}preprocess = "norm"': (
        "network.preprocess must be one of 'none', 'normalize', 'whiten'; got 'norm'. Did you mean 'normalize'?"
    ),
    f"{DATA}{PRESET}image_shape = 32": "network.image_shape must be [height, width, channels], got 32.",
    f"{DATA}{PRESET}image_shape = [8, 8]": "network.image_shape must be [height, width, channels], got [8, 8].",
    f'{DATA}{PRESET}image_shape = [8, 8, "a"]': "network.image_shape must be an integer, got 'a'.",
    f"{DATA}{PRESET}image_shape = [0, 8, 3]": "network.image_shape must be at least 1, got 0.",
    f"{DATA}{PRESET}image_shape = [8, 8, 3]": (
        "network: conv2: kernel_size 3×3 is larger than the padded image 2×2; use a smaller kernel or more padding. "
        "(fasthebb-6 is made for images of (32, 32, 3): make larger ones, or a Network of fewer layers.)"
    ),
    f'{DATA}{PRESET}rule = "swat"': f"network.rule.name is 'swat', which is unknown. Did you mean swta?{OWN}",
    f'{DATA}{PRESET}rule = {{name = "swta", temp = 1}}': (
        "network.rule.temp is unknown. Known: temperature, competition."
    ),
    f"{DATA}{PRESET}rule = {{temperature = 1}}": (
        "network.rule.temperature is unknown; a rule is its name, a table with name = …, or rules by layer name. "
        "Known: conv1, conv2, conv3, conv4, fc5."
    ),
    # layers
    f"{DATA}{LAYERS}[]": "network: layers must not be empty.",
    f"{DATA}{LAYERS}3": "network.layers must be tables, [[network.layers]], got 3.",
    f"{DATA}{LAYERS}[3]": "network.layers[0] must be a table with type = …, got 3.",
    f"{DATA}{LAYERS}[{{}}]": (f"network.layers[0].type is missing; it is one of {', '.join(hebbcore.LAYERS)}."),
    f'{DATA}{LAYERS}[{{type = "flatten"}}]\nrule = "hpca"': (
        "network.rule goes with a preset; layers have rules of their own."
    ),
    f'{DATA}{LAYERS}[{{type = "flatten"}}]\npreprocess = "whiten"': (
        "network.preprocess goes with a preset; put a BatchNorm or Whiten before the layers."
    ),
    f'{DATA}{LAYERS}[{{type = "convv"}}]': (
        f"network.layers[0].type is 'convv', which is unknown. Did you mean conv?{OWN}"
    ),
    f'{DATA}{LAYERS}[{{type = "flatten"}}, {{type = "flatten"}}, {{type = "conv", unit = 2}}]': (
        "network.layers[2].unit is unknown. Did you mean units?"
    ),
    f'{DATA}{LAYERS}[{{type = "conv", units = 2}}]': "network.layers[0].kernel_size is missing.",
    conv(units="0"): "network.layers[0].units must be at least 1, got 0.",
    conv(units="2.0"): "network.layers[0].units must be an integer, got 2.0.",
    conv(units='"none"'): "network.layers[0].units must be an integer, got 'none'.",
    conv(kernel_size="[3, 3, 3]"): (
        "network.layers[0].kernel_size must be one integer or a (height, width) pair, got [3, 3, 3]."
    ),
    conv(kernel_size="9"): (
        "network: conv1: kernel_size 9×9 is larger than the padded image 8×8; use a smaller kernel or more padding."
    ),
    conv(", weights = 3"): ("network.layers[0].weights is unknown. Did you mean initial_weights?"),
    conv(", learning_rate = -1"): "network.layers[0].learning_rate must be above 0, got -1.",
    conv(', padding_mode = "same"'): (
        "network.layers[0].padding_mode must be one of 'zeros', 'reflect', 'edge'; got 'same'."
    ),
    conv(', name = "a b"'): "network: a layer's name must be letters, digits, - and _, got 'a b'.",
    conv(", name = 3"): "network: a layer's name must be letters, digits, - and _, got 3.",
    conv(", rule = 3"): "network.layers[0].rule must be a table with name = …, got 3.",
    conv(', rule = "none"'): (
        f"network.layers[0].rule.name is 'none', which is unknown. Known: {', '.join(hebbcore.RULES)}.{OWN}"
    ),
    conv(', rule = {name = "swta", temperature = -3}'): ("network.layers[0].rule.temperature must be above 0, got -3."),
    conv(', rule = {name = "kwta", k = 3}'): (
        "network.layers[0]: k must be between 1 and the number of units (2), got 3."
    ),
    f'{DATA}{LAYERS}[{{type = "pool", window = 2, padding = 2}}]': (
        "network.layers[0].padding must be at most half the window (2, 2), got (2, 2); use less padding."
    ),
    f'{DATA}{LAYERS}[{{type = "pool", window = 9}}]': (
        "network: pool1: window (9, 9) is larger than the padded image (8, 8); use a smaller one."
    ),
    f'{DATA}{LAYERS}[{{type = "batchnorm", modified = 1}}]': (
        "network.layers[0].modified must be true or false, got 1."
    ),
    f'{DATA}{LAYERS}[{{type = "dense", units = 3}}, {{type = "pool", window = 1}}]': (
        "network: pool1 needs images (height, width, channels), but gets vectors of 3 features."
    ),
    # training
    f"{DATA}{PRESET}[training]\nseed = 3": "training.seed is unknown; seed stands at the top, for the whole run.",
    f"{DATA}{PRESET}[training]\nepoch = 3": "training.epoch is unknown. Did you mean epochs?",
    f"{DATA}{PRESET}[training]\nepochs = 0": "training.epochs must be at least 1, got 0.",
    f"seed = 3\n{DATA}{PRESET}[training]\nepochs = 1.0": "training.epochs must be an integer, got 1.0.",
    f"{DATA}{PRESET}[training]\nlearning_rate = nan": "training.learning_rate must be finite, got nan.",
    f'{DATA}{PRESET}[training]\nschedule = "cos"': (
        "training.schedule must be one of 'constant', 'linear', 'cosine', 'epochs'; got 'cos'. Did you mean 'cosine'?"
    ),
    f'{DATA}{PRESET}[training]\nshuffle = "no"': "training.shuffle must be true or false, got 'no'.",
    f"{DATA}{PRESET}[training]\nlog_seconds = -1": "training.log_seconds must be at least 0, got -1.",
}


@pytest.mark.parametrize(("text", "message"), WRONG.items(), ids=range(len(WRONG)))
def test_a_wrong_configuration_names_its_key(read, text, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        read(text).make_network()
    assert str(caught.value) == f"config: {message}"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "this is not", r"config: \S+/a.toml is not valid TOML: Expected '='.*line 1, column 6"),
        ("a.toml", f"{DATA}[data]\n", r"config: \S+/a.toml is not valid TOML: Cannot declare .* twice"),
        ("a.json", "{", r"config: \S+/a.json is not valid JSON: Expecting property name"),
        ("a.json", "[1]", r"config: \S+/a.json must hold a table, got \[1\]\.$"),
        ("a.json", '{"data": null}', r"config: data must be a table, got None\.$"),
    ],
)
def test_a_broken_file_is_named(read, name, text, message):
    with pytest.raises((TypeError, ValueError), match=message):
        read(text, "seed=1", name=name)


@pytest.mark.parametrize("name", ["a.toml", "a.json"])
def test_files_of_windows_are_read(tmp_path, name):
    table = {"data": {"path": "images.h5"}, "network": {"preset": "fasthebb-6"}}
    toml = '[data]\npath = "images.h5"\n[network]\npreset = "fasthebb-6"\n'
    text = toml if name.endswith("toml") else json.dumps(table, indent=1)
    (tmp_path / name).write_text(text, encoding="utf-8-sig", newline="\r\n")
    assert read_config(tmp_path / name).network.preset == "fasthebb-6"


def test_a_file_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"seed = 1\n# \xff")
    with pytest.raises(ValueError, match=r"config: \S+/a.toml is not valid TOML: 'utf-8' codec can't decode"):
        read_config(tmp_path / "a.toml")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_config(tmp_path / "a.toml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed", "a change must be key.path=value, got 'seed'."),
        ("=3", "a change must be key.path=value, got '=3'."),
        ("training..epochs=3", "a change must be key.path=value, got 'training..epochs=3'."),
        ("training.epoch=3", "training.epoch is unknown. Did you mean epochs?"),
        ("trainin.epochs=3", "trainin is unknown. Did you mean training?"),
        ("training.epochs=three", "training.epochs must be an integer, got 'three'."),
        ("seed.x=3", "seed.x cannot be set: seed is no table."),
        ("network.preset.x=3", "network.preset.x cannot be set: preset is no table."),
        ("data.path=", "data.path must not be empty."),
        ("training.seed=3", "training.seed is unknown; seed stands at the top, for the whole run."),
        ("network.layers=[1]", "network: give preset or layers, one of the two."),
    ],
)
def test_a_wrong_change_names_its_key(read, change, message):
    with pytest.raises((TypeError, ValueError)) as caught:
        read(f"seed = 1\n{DATA}{PRESET}", change)
    assert str(caught.value) == f"config: {message}"


def test_changes_replace_what_the_file_says(read):
    given = read(
        f"seed = 1\n{DATA}{PRESET}", "seed = 7", "data.path=runs/a=b.h5", "training.epochs=3", "training.epochs=4",
        "training.learning_rate=1e-2", 'network.rule={name = "swta", temperature = 0.5}', "network.image_shape=[9,9,1]",
        "training.shuffle=false", 'data.split="2"',
    )  # fmt: skip
    assert (given.seed, given.training.seed, given.training.epochs) == (7, 7, 4)
    assert (given.data.path, given.data.split) == ("runs/a=b.h5", "2")
    assert given.training.learning_rate == 0.01
    assert given.training.shuffle is False
    assert given.network.rule == {"name": "swta", "temperature": 0.5}
    assert given.network.image_shape == [9, 9, 1]


def test_defaults(read):
    given = read(f"{DATA}{PRESET}")
    assert given == config.Config(config.Data("x.h5"), Architecture("fasthebb-6"))
    assert (given.seed, given.device, given.precision) == (0, "auto", "float32")
    assert given.data == config.Data("x.h5", "train", None, "center", None)
    assert given.training == Training()
    assert given.training.epochs == 1
    assert given.training.batch_size == 64


@pytest.mark.parametrize("text", ["seed = 5\n", "seed = 5\ntraining = {}\n", "seed = 5\ntraining = {epochs = 2}\n"])
def test_the_seed_is_of_the_network_and_of_the_training(read, text):
    given = read(text + DATA + PRESET)
    assert (given.seed, given.training.seed) == (5, 5)
    shape = "[network]\nimage_shape = [5, 5, 1]\nlayers = [{type = 'conv', units = 2, kernel_size = 3}]"
    weights = [read(start + DATA + shape).make_network()["conv1"].weights for start in (text, text, "seed = 6\n")]
    assert (weights[0] == weights[1]).all()
    assert (weights[0] != weights[2]).any()


def test_what_cannot_be_trained_in_a_mode_is_said_of_the_mode_and_of_no_setting_that_nobody_gave(read):
    given = read(f"{DATA}[network]\npreset = 'dictionary'\n[training]\nmode = 'together'")
    assert given.training.sample is None
    with pytest.raises(ValueError, match=r'^config: whiten2 comes after layers that learn.*; use mode="layerwise"'):
        given.check()


def test_none_is_a_value_where_a_field_may_be_none(read):
    given = read(
        f'{DATA}image_size = "none"\nsubset = "none"\n{PRESET}rule = "none"\npreprocess = "none"\n'
        '[training]\ncache = "none"'
    )
    assert (given.data.image_size, given.data.subset, given.network.rule) == (None, None, None)
    assert (given.network.preprocess, given.training.cache) == ("none", "none")
    layers = (
        '[{type = "whiten", kernel_size = "none", contrast = "none"}, {type = "pool", window = 2, stride = "none"}, '
        '{type = "conv", units = 2, kernel_size = 3, learning_rate = "none", name = "none", '
        'rule = {name = "softhebb", adaptive_power = "none"}}]'
    )
    whiten, pool, conv = read(f"{DATA}{LAYERS}{layers}").make_network().layers
    assert (whiten.kernel_size, whiten.contrast) == (None, None)
    assert pool.stride == (2, 2)
    assert (conv.learning_rate, conv.rule, conv.name) == (None, hebbcore.SoftHebb(adaptive_power=None), "none")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_read(path, monkeypatch):
    monkeypatch.setattr("hebbcore.layers.learner.Learner.build", lambda *arguments: None)  # no large weights
    network = read_config(path).make_network()
    assert network.learners
    assert re.search(rf"hebbcore train examples/{path.name} --out runs/\w+\n", path.read_text("utf-8"))


def test_there_are_examples():
    assert len(EXAMPLES) >= 3


LONG = (
    'seed = 3\ndevice = "cpu"\nprecision = "float64"\nworkspace = "1 MiB"\n'
    '[data]\npath = "x.h5"\nimage_size = 9\ncrop = "random"\nsubset = 0.5\n'
    "[network]\nimage_shape = [9, 9, 3]\nlayers = [{type = 'whiten', kernel_size = [3, 3], contrast = 'none'}, "
    "{type = 'conv', units = 2, kernel_size = 1, rule = {name = 'swta', temperature = 0.5}}]\n"
    '[training]\nepochs = 3\nlearning_rate = 0.25\nmode = "layerwise"\ncache = "memory"\nschedule = "cosine"\n'
)


@pytest.mark.parametrize("text", [LONG, f"{DATA}{PRESET}", *(path.read_text("utf-8") for path in EXAMPLES)])
def test_the_effective_configuration_of_a_run_reads_back(read, text):
    given = read(text)
    table = given.table()
    assert "seed" not in table["training"]
    again = read(json.dumps(table), name="config.json")
    assert again == given
    assert again.table() == table
    names = {field.name for field in dataclasses.fields(config.Config)}
    assert set(table) == names


def test_differences_name_every_path():
    ours = {"a": 1, "b": {"c": [1, {"d": 2}], "e": "x"}, "f": [1], "only": 1}
    theirs = {"a": 1, "b": {"c": [1, {"d": 3}], "e": "y"}, "f": [1, 2], "more": {"g": 2}}
    assert serialize.differences(ours, theirs) == [
        "b.c[1].d is 2 here and 3 there",
        "b.e is 'x' here and 'y' there",
        "f is [1] here and [1, 2] there",
        "only is 1 here and not set there",
        "more is not set here and {'g': 2} there",
    ]
    assert serialize.differences(ours, ours) == []


def test_what_is_not_set_counts_as_none_and_is_not_called_that():
    assert serialize.differences({"a": 1, "b": None}, {"a": None, "c": None}) == ["a is 1 here and None there"]
    assert serialize.differences({"b": 1}, {}) == ["b is 1 here and not set there"]


def test_of_lists_of_tables_the_first_difference_is_named():
    pool, conv, dense = {"type": "pool"}, {"type": "conv", "units": 2}, {"type": "dense", "units": 3}
    assert serialize.differences({"layers": [pool, conv, pool]}, {"layers": [pool, dense]}) == [
        "layers is 3 long here and 2 there",
        "layers[1].type is 'conv' here and 'dense' there",
    ]
    assert serialize.differences([pool], [pool, conv], "layers") == ["layers is 1 long here and 2 there"]


def test_large_values_do_not_fill_the_terminal():
    ours, theirs = {"a": [{"units": number} for number in range(9)]}, {"b": {f"key {i}": i for i in range(99)}}
    expected = ["a is a list of 9 here and not set there", "b is not set here and a table there"]
    assert serialize.differences(ours, theirs) == expected
    assert serialize.differences({"a": "x" * 200}, {"a": 1}) == [f"a is {'x' * 200!r} here and 1 there"]


@pytest.mark.parametrize("rule", [kind() for kind in hebbcore.RULES.values()], ids=list(hebbcore.RULES))
def test_rules_survive_their_table(rule):
    table = json.loads(json.dumps(serialize.rule_table("save", rule)))
    assert serialize.rule_of(table, "rule") == rule


def test_layers_survive_their_table():
    layers = [
        hebbcore.Conv(3, (2, 3), hebbcore.KWTA(2), stride=2, padding=(0, 1), padding_mode="reflect", name="a"),
        hebbcore.Dense(3, "krotov", learning_rate=0.5), hebbcore.Pool(3, 2, 1, "average"),
        hebbcore.BatchNorm(modified=True, momentum=0.2), hebbcore.Triangle(0.7), hebbcore.Flatten(),
        hebbcore.Whiten(3, epsilon=0.2, contrast=None), hebbcore.GridPool((2, 3), "max"), hebbcore.Split(0.1),
        hebbcore.Power(0.3), hebbcore.Relu(2.0), hebbcore.Dense(3, "kwta", initial_weights="patches", revival=5.0),
        hebbcore.Whiten(epsilon=None),
    ]  # fmt: skip
    for layer in layers:
        table = json.loads(json.dumps(serialize.layer_table("save", layer)))
        again = serialize.layer_of(table, "layer")
        assert type(again) is type(layer)
        assert serialize.layer_table("save", again) == serialize.layer_table("save", layer)


def test_rules_without_a_name_cannot_be_written_down():
    class Mine(hebbcore.HPCA):
        pass

    with pytest.raises(ValueError, match=r'save: Mine has no name .*; give it one: hebbcore.RULES\["myname"\] = Mine'):
        serialize.rule_table("save", Mine())
