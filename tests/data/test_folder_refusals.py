"""What is refused in people's own folders, all at once."""

import os

import pytest
from made_folder import HOSTILE, counts, flat, png, refused, three, write

from partialsym.data.sources.folder import folder


def test_names_in_messages_stay_in_their_line(tmp_path):
    write(tmp_path, {f"{name}/{name[:9]}.png": b"" for name in HOSTILE})
    with pytest.raises(ValueError, match=f"{len(HOSTILE)} bad files") as error:
        folder(tmp_path)
    lines = str(error.value).split("\n")
    assert len(lines) == 1 + len(HOSTILE)
    assert all(line.startswith("  ") and line.endswith("is empty: it must be an image.") for line in lines[1:])
    assert any("a\\nb" in line for line in lines)


def test_all_bad_files_are_named_at_once(tmp_path):
    flat(tmp_path, a=3, b=3)
    wrong = {"a/empty.png": b"", "a/notes.txt": b"x", "b/cut.png": png(0)[:60], "b/sub/x.png": 1, "labels.csv": b"1"}
    write(tmp_path, {**wrong, "b/no suffix": 77})
    os.mkfifo(tmp_path / "a" / "pipe.png")
    with refused(
        "6 bad files\n",
        "\n  a/empty.png is empty",
        "\n  a/notes.txt is not an image according to its suffix '.txt'",
        "\n  b/cut.png cannot be read as an image",
        "\n  b/sub is a folder: the images of a class must be directly in its folder",
        "\n  labels.csv is beside the folders of the classes",
        "\n  a/pipe.png is a pipe",
    ):
        folder(tmp_path)
    for name in ("a/empty.png", "a/notes.txt", "b/cut.png", "b/sub/x.png", "labels.csv", "a/pipe.png"):
        (tmp_path / name).unlink()
    assert counts(folder(tmp_path)) == {"train": [1, 2], "validation": [1, 1], "test": [1, 1]}  # b: one has no suffix


def test_a_long_list_is_cut(tmp_path):
    write(flat(tmp_path, a=3, b=3), {f"a/bad{i:02}.png": b"" for i in range(27)})
    with pytest.raises(ValueError, match="27 bad files") as error:
        folder(tmp_path)
    lines = str(error.value).split("\n")
    assert len(lines) == 22
    assert "bad19" in lines[-2]
    assert lines[-1] == "  and 7 more"


def test_strange_folders_beside_the_splits_are_named(tmp_path):
    write(three(tmp_path, (3, 1, 1)), {"valid/a/x.png": 99, "extra/a/x.png": 98, "train/stray.png": 97})
    with refused(
        "3 bad files",
        "valid is a second folder of validation images",
        "extra is not a split: must be train, val or test",
        "train/stray.png is beside the folders of the classes",
    ):
        folder(tmp_path)


@pytest.mark.parametrize(
    ("given", "right"),
    [("training", "train"), ("Train_set", "train"), ("testing", "test"), ("validate", "validation"), ("tests", "test")],
)
def test_a_folder_that_is_nearly_called_as_a_split_is_named(tmp_path, given, right):
    three(tmp_path / "alone", (3,), (given,))
    with refused("alone has no train", f"\n  {given}: did you mean {right}?"):
        folder(tmp_path / "alone")
    write(three(tmp_path / "beside", (3,), ("train",)), {f"{given}/a/x.png": 99})
    with refused("1 bad file", f"{given} is not a split: must be train, val or test: did you mean {right}?"):
        folder(tmp_path / "beside")
    assert folder(flat(tmp_path / "class", **{given: 3, "other": 3})).classes == tuple(sorted((given, "other")))


def test_links_lead_to_the_inside_only(tmp_path):
    root, outside = flat(tmp_path / "root", a=3, b=3), write(tmp_path / "outside", {"c/x.png": 77})
    (root / ".store").mkdir()
    (root / ".store" / "real.png").write_bytes(png(78))
    (root / "a" / "link.png").symlink_to("../.store/real.png")
    (tmp_path / "link").symlink_to(root)
    data = folder(tmp_path / "link")
    assert (data.name, sum(map(sum, counts(data).values()))) == ("root", 7)
    (root / "a" / "out.png").symlink_to(outside / "c" / "x.png")
    (root / "a" / "none.png").symlink_to("nowhere")
    (root / "a" / "loop.png").symlink_to("loop.png")
    (root / "c").symlink_to(outside / "c")
    with refused(
        "4 bad files",
        "a/out.png is a link out of the folder",
        "a/none.png is a broken link",
        "a/loop.png is a broken link",
        "c is a link out of the folder",
    ):
        folder(root)


def test_classes_must_be_in_every_split(tmp_path):
    write(three(tmp_path, (3, 2, 2)), {"val/c/1.png": 901, "test/c/1.png": 902})
    with refused("every split must have every class, but:\n  train has no 'c'"):
        folder(tmp_path)
    write(tmp_path, {"train/c/1.png": 903, "train/d/2.png": 904})
    with refused("\n  validation has no 'd'\n  test has no 'd'"):
        folder(tmp_path)


def test_too_few_are_refused(tmp_path):
    with refused("too few images, each must have 3 distinct images or more", "\n  'b': 2\n  'c': 1"):
        folder(flat(tmp_path / "1", a=3, b=2, c=1))
    with refused("2 distinct images or more, because validation must have some:\n  'a': 1\n  'b': 1"):
        folder(three(tmp_path / "2", (1, 5), ("train", "test")))
    assert counts(folder(three(tmp_path / "3", (1, 1, 1))))["train"] == [1, 1]
    with refused("'b': 2"):  # three files, two of them the same
        folder(write(flat(tmp_path / "4", a=3), {"b/1.png": 77, "b/2.png": 77, "b/3.png": 78}))
    with refused("has classes ['a']: it must contain two classes or more"):
        folder(flat(tmp_path / "5", a=3))
    (tmp_path / "6").mkdir()
    with refused("has no images in folders: it must contain two classes or more"):
        folder(tmp_path / "6")
    with refused("has no images in folders", "\n  0.png is beside the folders"):
        folder(write(tmp_path / "7", {"0.png": 1}))


def test_identical_files_in_two_given_splits_are_named(tmp_path):
    write(three(tmp_path, (3, 2, 2)), {"train/a/x.png": 77, "test/b/y.png": 77})
    with refused("identical files in two splits, 1 in all", "\n  train/a/x.png (train) and test/b/y.png (test)"):
        folder(tmp_path)


def test_wrong_arguments_are_refused_before_a_file_is_read(tmp_path):
    write(tmp_path, {"a/x.png": b"", "b/y.png": b""})
    for wrong in ({"validation": 0}, {"validation": 0.6}, {"test": 0}, {"test": float("nan")}, {"test": True}):
        with refused("must be a fraction"):
            folder(tmp_path, **wrong)
    for name, wrong in {"size": (0, 1), "fit": "pad", "channels": 2, "split_seed": -1}.items():
        with refused(f"{name} is {wrong!r}: it must be"):
            folder(tmp_path, **{name: wrong})
    for place in ("", tmp_path / "nowhere", tmp_path / "a" / "x.png"):
        with refused("root is", "must be an existing folder", error=FileNotFoundError):
            folder(place)
