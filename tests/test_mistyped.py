"""Wrong commands, options and methods."""

from __future__ import annotations

import sys

import pytest

from gseg_ns.cli import main
from gseg_ns.mistyped import explain

CASES = [
    ("exprot", "gseg has no command exprot: did you mean export?"),
    ("bench qualit", "gseg bench has no command qualit: did you mean quality?"),
    ("export --load-config x --output-dri y", "gseg export has no option --output-dri: did you mean --output-dir?"),
    ("render --load-config x --output-dir y --Split=test", "no option --Split"),
    ("eval --load-config x", "gseg eval needs --ground-truth"),
    ("render --load-config x --output-dir y --split foo", "Expected one of ('test', 'train')"),
    ("render --load-config x --output-dir y --frames many", "--frames"),
    ("--verison", "did you mean --vers"),
    ("exprot --load-config x", "gseg has no command exprot: did you mean export?"),
    ("exprot --load-config x --output-dir y", "gseg has no command exprot: did you mean export?"),
    ("edit --load-config x --group 1 --colour 255 0 0", "gseg edit has no option --colour: did you mean --color?"),
    ("edit --load-config x --do recolor 255 0", "gseg edit"),
    ("isolate --load-config x --up y", "gseg isolate has no option --up\n"),
    ("frobnicate", "gseg has no command frobnicate: demo, views, segment, masks"),
    ("", "demo, views, segment, masks, lift"),
]


@pytest.mark.parametrize(("words", "said"), CASES)
def test_what_is_mistyped_is_told_briefly(
    words: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gseg", *words.split()])
    with pytest.raises(SystemExit) as ended:
        main.entrypoint()
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert said in told.err
    assert len(told.err.splitlines()) <= 6
    assert not told.out


def test_help_is_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gseg", "export", "--help"])
    with pytest.raises(SystemExit) as ended:
        main.entrypoint()
    assert ended.value.code in (0, None)
    assert "--keep-floaters" in capsys.readouterr().out


def test_a_dataparser_has_options_of_its_own() -> None:
    said = """
╭─ Unrecognized options ──────────────────────────╮
│ Unrecognized options: --evl-mode, all           │
│ Available subcommands: nerfstudio-data,         │
│ gseg-data                                       │
│ For full helptext, run ns-train --help          │
╰─────────────────────────────────────────────────╯
"""
    known = {("gaga",): ["--data"], ("gaga", "gseg-data"): ["--eval-mode"]}
    lines = explain(
        said, "gaga --data x gseg-data --evl-mode all".split(), lambda words: known[tuple(words)], "ns-train"
    )
    assert lines == [
        "Error: ns-train gaga has no option --evl-mode: did you mean --eval-mode?",
        "All of it: ns-train gaga --help",
    ]


def test_ns_train_answers_briefly_for_our_methods(run_command) -> None:
    done = run_command("ns-train", "gaga", "--pipline.model.max-gaussians", "5")
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert len(lines) <= 6
    # What torch tells Nerfstudio before any plugin is imported; nothing of what comes after.
    assert not [line for line in lines[:-2] if "Warning" in line and "torch.jit.script" not in line]
    assert lines[-2:] == [
        "Error: ns-train gaga has no option --pipline.model.max-gaussians: "
        "did you mean --pipeline.model.max-gaussians?",
        "All of it: ns-train gaga --help",
    ]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("--max-gausians", "--pipeline.model.max-gaussians"),
        ("--max-num-iteration", "--max-num-iterations"),
        ("--dat", "--data"),
        ("--pipline.model.max-gaussians", "--pipeline.model.max-gaussians"),
    ],
)
def test_the_last_part_of_a_long_option_is_enough(word: str, meant: str) -> None:
    known = [
        "--data", "--max-num-iterations", "--pipeline.datamanager.data", "--pipeline.model.max-gaussians",
        "--pipeline.model.num-downscales",
    ]  # fmt: skip
    said = f"Unrecognized options: {word} For full helptext"
    assert explain(said, ["gaga", word], lambda words: known)[0].endswith(f"did you mean {meant}?")
