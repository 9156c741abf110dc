"""Code from outside kit: how it is named, found, trusted and executed, and what is said when that fails."""

import hashlib
import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from kit import extensions
from kit.competitions import find_competition
from kit.config import LossSettings, Source, load_config
from kit.config.load import CONFIGS
from kit.config.new import LIKE, write_competition
from kit.errors import ConfigError, DataError
from kit.evaluate.metrics import Metric, find_metric
from kit.evaluate.resample import statistic
from kit.run import Run

SHARE = "def share(y, p):\n    return float((p > .5).mean())\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def name_of(path, name="", text=None):
    """The name, with its digest, of something in a file, which is written first where it has a `text`."""
    if text is not None:
        path.write_text(text)
    return extensions.named(path.name + (f":{name}" if name else ""), path.parent, CONFIGS)


def strange(folder, text):
    """A folder of code that was not made here, and the name of its `share`."""
    content = f"{text}\n# {folder}\n".encode()  # unlike any other test's
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "m.py").write_bytes(content)
    extensions.add(folder / "code")
    return f"m.py@{hashlib.sha256(content).hexdigest()[:12]}:share"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("nets.py:cnn", ("nets.py", "", "cnn")),
        ("./a b/nets.py", ("./a b/nets.py", "", "")),
        ("C:\\x\\nets.py@0123456789ab:cnn", ("C:\\x\\nets.py", "0123456789ab", "cnn")),
        ("pcam_cnn", None),
        ("hub/x.python", None),
        ("nets.py:cnn()", None),
        ("nets.py:os.system", None),
        (":x.py", None),
        (7, None),
    ],
)
def test_names_of_code_are_told_from_others(text, parts):
    assert extensions.parse(text) == parts


def test_a_name_has_the_digest_of_its_content(tmp_path):
    first = name_of(tmp_path / "m.py", "share", SHARE)
    assert first == f"m.py@{hashlib.sha256(SHARE.encode()).hexdigest()[:12]}:share"
    assert name_of(tmp_path / "m.py", "share", SHARE + "\n") != first
    assert extensions.load(first)(np.zeros((4, 1)), np.full((4, 1), 0.7)) == 1
    assert extensions.edited(first, name_of(tmp_path / "m.py", "share")) == "m.py has been edited"
    assert extensions.edited(first, first) == extensions.edited(first, "m.py@0123456789ab:other") == ""


def test_files_are_sought_beside_the_config_and_below_the_current_folder(here):
    for folder, text in (("deep", SHARE), (".", f"{SHARE}#")):
        (here / folder).mkdir(exist_ok=True)
        (here / folder / "m.py").write_text(text)
    (here / "deep" / "x.yaml").write_text("competition: pcam\nmetric: m.py:share\naugment: {layers: [m.py:share]}\n")
    of_file, of_command = load_config("deep/x.yaml"), load_config("deep/x.yaml", ["metric=m.py:share"])
    assert of_file.metric == of_file.augment.layers[0] == name_of(here / "deep" / "m.py", "share")
    assert of_command.metric == name_of(here / "m.py", "share") != of_file.metric
    assert load_config("pcam", ["augment.layers=m.py:share, m.py:share"]).augment.layers == (of_command.metric,) * 2
    with pytest.raises(ConfigError, match=r"cannot read .*deep/other\.py: No such file"):
        load_config("deep/x.yaml", ["train.loss.name=deep/other.py:loss"])


def test_settings_without_code_are_dumped_as_before(here):
    assert "layers" not in load_config("pcam").augment.model_dump()
    with pytest.raises(ConfigError, match=r"augment\.layers .*write each as FILE\.py:NAME"):
        load_config("pcam", ["augment.layers=[blur]"])
    with pytest.raises(ConfigError, match=r"did you mean 'focal'"):
        load_config("pcam", ["train.loss.name=focall"])
    (here / "m.py").write_text(SHARE)
    with pytest.raises(ConfigError, match="a loss of your own, and takes no gamma"):
        load_config("pcam", ["train.loss.name=m.py:share", "train.loss.gamma=1"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ny = x.z\n", r"m\.py, line 2: AttributeError: 'int' object has no attribute 'z'"),
        ("def s(y, p:\n", r"m\.py, line 1: SyntaxError: "),
        ("import nosuchmodule\n", r"m\.py, line 1: ModuleNotFoundError: No module named 'nosuchmodule'"),
        ("import beside\n", r"line 1: ModuleNotFoundError.*A file is taken alone: put what it needs of beside\.py"),
        ("import sys\nsys.exit(3)\n", r"m\.py, line 2: SystemExit: 3"),
        ("def shares(y, p): pass\n", r"m\.py has no share; did you mean 'shares'\?"),
        ("share = 3\n", r"share in .*m\.py is no function: write it as `def share\(y, p\)`"),
        ("def share(y): pass\n", r"share in .*m\.py: too many positional arguments: write it as `def share\(y, p\)`"),
        ("def share(y, p): return y / 0 if not len(y) else 1 / 0\n", r"m\.py, line 1: ZeroDivisionError: division by"),
        ("def share(y, p): return y\n", r"m\.py@\w+:share returned an array \(2, 1\): expected one number"),
        ("from kit.evaluate.metrics import Metric\nshare = Metric('x', max, needs='boxes')\n", "not boxes"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(text, message, tmp_path):
    (tmp_path / "beside.py").write_text("")
    name = name_of(tmp_path / "m.py", "share", f"{text}# {tmp_path}\n")
    module = f"kit_code_{name[5:17]}_m"
    with pytest.raises(ConfigError, match=message) as raised:
        find_metric(name)(np.zeros((2, 1)), np.zeros((2, 1)))
    assert "\n" not in str(raised.value)
    assert (module in sys.modules) == ("share" in text)  # nothing is left of a file that fails


def test_what_cannot_be_a_file_of_code(tmp_path):
    (tmp_path / "9 lives.py").write_text("")
    (tmp_path / "large.py").write_text("#" * 2**21)
    for name, message in (("9 lives.py:x", "rename 9 lives.py"), ("large.py:x", "larger than 1 MiB")):
        with pytest.raises(ConfigError, match=message):
            extensions.named(name, tmp_path, CONFIGS)
    with pytest.raises(ConfigError, match=r"no\.py@0123456789ab:x: code/no\.py of the run is not there"):
        extensions.load("no.py@0123456789ab:x")
    with pytest.raises(ConfigError, match=r"name the file by --set"):  # never looked for when it is to be executed
        extensions.load(f"{tmp_path}/large.py:x")


def test_code_that_was_not_made_here_is_not_executed(tmp_path, monkeypatch):
    mark = tmp_path / "executed"
    name = strange(tmp_path / "run", f"import pathlib; pathlib.Path({str(mark)!r}).touch(); share = max")
    other = tmp_path / "run" / "code" / "other.py"
    other.write_text(f"# {tmp_path}")
    extensions.add(tmp_path / "run" / "code")
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"code/m\.py, .*code/other\.py hold code that was not made on this mach"):
            extensions.load(name)
    extensions.named(name, tmp_path / "run", CONFIGS)  # a config that names it with its digest, such as the run's own
    with pytest.raises(ConfigError, match=r"give --trust \(in Python, trust=True\)"):
        extensions.load(name)
    assert not mark.exists()
    Run(tmp_path / "run", trust=True)
    assert extensions.load(name) is max and mark.exists()


def test_what_was_made_here_is_kept_in_mind(tmp_path, monkeypatch):
    monkeypatch.setenv("KIT_HOME", str(tmp_path / "home"))
    name = strange(tmp_path / "run", "share = min")
    extensions.remember([name])  # nobody has named it
    assert not (tmp_path / "home").exists()
    (tmp_path / "m.py").write_bytes((tmp_path / "run" / "code" / "m.py").read_bytes())
    assert name_of(tmp_path / "m.py", "share") == name
    for _ in range(2):
        extensions.remember([name])
    assert len((tmp_path / "home" / "trusted.txt").read_text().splitlines()) == 1
    monkeypatch.setattr(extensions, "_TRUSTED", set())  # another process
    assert extensions.load(name) is min
    monkeypatch.setenv("KIT_HOME", str(tmp_path / "m.py"))  # a folder that cannot be
    extensions.remember([name])


def test_a_run_holds_the_files_that_its_settings_name(tmp_path):
    (tmp_path / "m.py").write_text(SHARE)
    config, run = load_config("pcam", {"metric": str(tmp_path / "m.py") + ":share"}), Run(tmp_path / "run")
    run.write_config(config)
    assert (run.code_path / "m.py").read_text() == SHARE and run.config == config
    run.write_config(load_config("pcam"))
    assert not list(run.code_path.iterdir())
    run.code_path.rmdir()
    run.code_path.symlink_to(tmp_path)  # as a run of somebody else may have it
    with pytest.raises(ConfigError, match="code is a link"):
        run.write_config(load_config("pcam"))
    assert (tmp_path / "m.py").exists()
    run.code_path.unlink()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "m.py").write_text("other = min")
    both = load_config("pcam", {"metric": f"{tmp_path}/m.py:share", "train.loss.name": f"{tmp_path}/b/m.py:other"})
    with pytest.raises(ConfigError, match=r"two files of code are called m\.py: rename one"):
        run.write_config(both)


# ---- competitions and metrics


@pytest.mark.parametrize("like", LIKE)
def test_a_new_competition_can_be_read(like, here):
    paths = write_competition("skin_spots", like, here)
    assert [path.name for path in paths] == ["skin_spots.py", "skin_spots.yaml"]
    with pytest.raises(DataError, match=r"skin_spots\.py is there already"):
        write_competition("skin_spots", like, here)
    for name in ("skin_spots.py", "skin_spots.yaml"):  # the first takes the second, which lies beside it
        config = load_config(name)
        assert (config.competition_name, config.recipe, config.augment.rotation) == ("skin_spots", name, 180)
    competition = find_competition(config.competition, config)
    assert (competition.name, competition.title) == ("skin_spots", "Skin spots")
    with pytest.raises(DataError, match=r"lacks|no image"):
        competition.read(here, Source())
    paths[1].unlink()
    assert load_config("skin_spots.py").model == load_config("csv").model  # and without it, kit's for a table


def test_names_that_a_new_competition_cannot_have(here):
    for name, message in (("pcam", "of kit's own"), ("Moles", "small letters"), ("../x", "small letters")):
        with pytest.raises(ConfigError, match=message):
            write_competition(name, "csv", here)
    assert not list(here.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('name="moles"', 'name="spots"'), r"moles\.py: name = 'spots': call it 'moles'"),
        (("COMPETITION =", "OTHER ="), r"moles\.py has no COMPETITION"),
        (("Competition(", "dict("), r"moles\.py: expected a kit\.competition\.Competition, not a dict"),
        (("    require_layout(", "    root.nothing("), r"moles\.py, line 1\d: AttributeError: .*nothing"),
        (("def read", "def read(:"), r"moles\.py, line 1\d: SyntaxError"),
    ],
)
def test_what_is_wrong_with_a_competition_is_said_in_one_line(change, message, here):
    path, _ = write_competition("moles", "csv", here)
    path.write_text(path.read_text().replace(*change))
    with pytest.raises(ConfigError, match=message):
        config = load_config("moles.py")
        find_competition(config.competition, config).read(here, config)


def test_a_competition_with_the_name_of_one_of_kits(here):
    path, _ = write_competition("moles", "csv", here)
    path.rename("pcam.py")
    config = load_config("pcam.py")
    with pytest.raises(ConfigError, match=r"pcam\.py: 'pcam' is a competition of kit's own: rename it"):
        find_competition(config.competition, config)


def test_equal_files_keep_their_names_and_places(here):
    (here / "deep").mkdir()
    text = f"def share(y, p): return 1 / 0\n# {here}\n"
    for name in (name_of(here / path, "share", text) for path in ("m.py", "n.py", "deep/m.py")):
        place = extensions.place_of(name)
        with pytest.raises(ConfigError, match=rf"{place}, line 1: ZeroDivisionError"):
            find_metric(name)(np.zeros((2, 1)), np.zeros((2, 1)))
    assert place == str(here / "deep" / "m.py")  # the one named last
    names = [name_of(here / path, "share") for path in ("m.py", "n.py")]
    extensions.copy(names, here / "code")
    assert sorted(path.name for path in (here / "code").iterdir()) == ["m.py", "n.py"]


def test_a_metric_in_the_file_of_its_competition(here):
    path, _ = write_competition("moles", "csv", here)
    path.write_text(path.read_text().replace('"roc_auc"', '"moles.py:share"') + SHARE)
    config = load_config("moles.yaml")
    target = find_competition(config.competition, config).target
    assert target.metric == f"{config.competition}:share" and find_metric(target.metric).name == "share"
    own = load_config("moles.yaml", ["metric=log_loss"])
    assert find_competition(own.competition, own).target.metric == "log_loss"


def test_a_metric_of_ones_own_is_resampled_as_kits_are(tmp_path):
    rng = np.random.default_rng(0)
    y, p = (rng.random((60, 2)) < 0.4).astype(float), rng.random((60, 2))
    groups = np.arange(60) // 3
    text = (
        "from sklearn.metrics import brier_score_loss\n"
        "from kit.evaluate.metrics import Metric\n"
        "loss = Metric('x', lambda y, p: brier_score_loss(y.ravel(), p.ravel()), larger_is_better=False)\n"
    )
    own, brier = find_metric(name_of(tmp_path / "m.py", "loss", text)), find_metric("brier")
    assert own.name == "loss" and own.gain(1.0, 2.0) == 1.0
    for _ in range(5):
        times = np.bincount(rng.integers(0, 20, 20), minlength=20)
        expected = statistic(brier, y, p, groups)(times)
        np.testing.assert_allclose(statistic(own, y, p, groups)(times), expected)


def test_a_metric_with_the_name_of_one_of_kits(tmp_path):
    own = find_metric(name_of(tmp_path / "m.py", "roc_auc", "def roc_auc(y, p): return 1.0\n"))
    assert own.name == "m.py:roc_auc" and own(np.eye(2), np.eye(2)[::-1]) == 1.0
    assert LossSettings(name=name_of(tmp_path / "m.py", "roc_auc")).gamma == 2


# ---- packages


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A function that makes an installed package of these entry points: kind, name, text of the value."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(kind, name, text, module="stranger"):
        (tmp_path / f"{module}.py").write_text(text)
        entry = EntryPoint(name, f"{module}:VALUE", extensions.GROUPS[kind])
        before = extensions._entries(kind)
        monkeypatch.setattr(extensions, "_entries", lambda of: (*before, entry) if of == kind else ())
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install


def test_packages_register_by_name(package, here):
    package("metric", "share", SHARE + "VALUE = share\n")
    assert find_metric("share")(np.zeros((2, 1)), np.ones((2, 1))) == 1
    assert find_metric("roc_auc").name == "roc_auc"
    with pytest.raises(ConfigError, match="unknown metric 'shar'; did you mean 'share'"):
        find_metric("shar")


def test_a_competition_of_a_package_runs_with_the_settings_for_a_table(package, here):
    path, _ = write_competition("moles", "csv", here)
    package("competition", "moles", path.read_text() + "VALUE = COMPETITION\n")
    path.unlink()
    config = load_config("moles", ["folds=3"])
    assert (config.competition, config.folds, config.model.name) == ("moles", 3, "auto")
    assert find_competition(config.competition, config).title == "Moles"


def test_what_is_wrong_with_a_package_is_said_in_one_line(package):
    package("metric", "roc_auc", "VALUE = max\n")
    with pytest.raises(ConfigError, match="the metric 'roc_auc' is kit's own, and stranger:VALUE registers one"):
        find_metric("roc_auc")
    package("metric", "share", "VALUE = 1 / 0\n", "broken")
    with pytest.raises(ConfigError, match="the metric 'share' of broken:VALUE: ZeroDivisionError"):
        find_metric("share")
    package("metric", "share", "VALUE = max\n", "second")
    with pytest.raises(ConfigError, match="broken:VALUE, second:VALUE register a metric 'share' each"):
        find_metric("share")


def test_metrics_may_be_whole(tmp_path):
    name = name_of(tmp_path / "m.py", "low", "from kit.evaluate.metrics import Metric\nlow = Metric('', min, False)\n")
    assert isinstance(find_metric(name), Metric) and not find_metric(name).larger_is_better
