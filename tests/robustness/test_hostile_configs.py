"""Configs from a stranger, and what the command line says to them: a line."""

import json
import os

import pytest
import yaml
from hostile import bounded, edit, flips, goes_off, refused, small_model, sparse, truncations, weights_of

import partialsym.cli.fit
import partialsym.export.onnx  # noqa: F401 (what it imports is no part of what is bounded)
from partialsym.cli.main import main
from partialsym.config import Experiment, read_yaml
from partialsym.config.reading import MOST_BYTES


def laughs(levels):
    return "a0: &a0 [ha, ha]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, levels))


HOSTILE = {
    "billion laughs": laughs(60),
    "an alias of itself": "name: &a [*a]",
    "a merge": "a: &a {x: 1}\nmodel:\n  <<: *a\n",
    "a call": "name: !!python/object/apply:os.system [id]",
    "a module": "name: !!python/module:os",
    "a tag": "seed: !!int _",
    "a tag of truth": "seed: !!bool x",
    "a date": "name: 2001-99-99",
    "deep flow": "[" * 60_000,
    "deep maps": "{a: " * 16_000,
    "deep blocks": "".join(" " * i + "a:\n" for i in range(300)),
    "a long number": "seed: " + "9" * 5000,
    "a long hexadecimal": "seed: 0x" + "f" * 60_000,
    "a number in sixties": "seed: " + "1" + ":59" * 20_000,
    "a real in sixties": "seed: 1" + ":59" * 400 + ".0",
    "too long": "# " + "x" * MOST_BYTES,
    "many keys": "\n".join(f"k{i}: v" for i in range(8000)),
    "a list": "- 1",
    "documents": "a: 1\n---\nb: 2",
    "keys": "? [a]\n: 1",
    "nothing": "",
    "control characters": "name: \x00",
    "no UTF-8": b"name: \xff",
    "a lone surrogate": b"name: \xed\xa0\x80",
    "a name outside": "name: ../../x",
    "an absolute name": "name: /tmp/x",
    "a name of lines": 'name: "a\\nb"',
    "numbers": "name: x\ntraining: {lr: .nan}",
    "sizes": "name: x\ndata: {source: folder, root: x, size: 9999999999999999999}",
    "types": "name: x\nmodel: [1]",
    "keys of numbers": "name: x\nmodel: {1: 2}",
    "options": "name: x\nmodel: {kernel_options: {a: {b: c}}}",
}


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_configs_are_refused_in_a_line(tmp_path, capsys, content):
    path = written(tmp_path / "config.yaml", content)
    with refused(""):
        Experiment.from_dict(read_yaml(path))
    with bounded():
        assert main(["fit", "--config", str(path), "--out", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("partialsym: ")
    assert said.count("\n") == 1
    assert os.listdir(tmp_path) == ["config.yaml"]


def test_yaml_bombs_are_bombs(tmp_path):
    """The controls: what an unguarded reader would do."""
    call = f"!!python/object/apply:os.mkdir ['{tmp_path / 'proof'}']"
    assert goes_off(tmp_path / "proof", lambda: yaml.unsafe_load(call))
    assert len(json.dumps(yaml.safe_load(laughs(16)))) > 2000 * len(laughs(16))
    with pytest.raises(RecursionError):
        yaml.safe_load("[" * 2000)


def test_every_truncated_or_flipped_config_is_refused_or_an_experiment(tmp_path):
    whole = yaml.safe_dump(Experiment(name="a").to_dict()).encode()
    refusals = 0
    for content in (*truncations(whole), *flips(whole, step=9)):
        try:
            with bounded():
                Experiment.from_dict(read_yaml(written(tmp_path / "config.yaml", content)))
        except ValueError as error:
            refusals += 1
            assert "\n" not in str(error)  # noqa: PT017 (either is right)
    assert refusals > 50


def test_configs_are_regular_files_of_some_size(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    sparse(tmp_path / "large")
    for path in tmp_path.iterdir():
        with refused(path):
            read_yaml(path)


MODELS = {
    "record": lambda folder: edit(folder, settings={"width": 2**40}),
    "weights": lambda folder: weights_of(folder).write_bytes(b"x"),
    "deep": lambda folder: (folder / "model.json").write_text("[" * 100_000),
    "large": lambda folder: sparse(folder / "model.json"),
    "name": lambda folder: edit(folder, weights="../../x"),
}


@pytest.mark.parametrize("damage", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("command", [["predict", "{}", "x.png"], ["export", "{}", "--out", "{}/model.onnx"]], ids=str)
def test_no_traceback_reaches_a_user_without_debug(tmp_path, capsys, damage, command):
    about = {"classes": ["a", "b"], "mean": [0.5], "std": [0.5], "size": [8, 8]}
    damage(small_model(tmp_path / "model", **about))
    args = [arg.format(tmp_path) for arg in command]
    with bounded():
        assert main(args) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"partialsym: {tmp_path}")
    assert said.count("\n") == 1
    with pytest.raises(ValueError, match=str(tmp_path)):
        main([*args, "--debug"])
