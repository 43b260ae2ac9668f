"""``neort completion``: a script with which a shell completes neort's commands, flags and their values.

The scripts are made of the parsers, and ask nothing of Python when a key is pressed. After anything that is neither a
flag nor one of a flag's words, files are offered.
"""

from __future__ import annotations

import argparse
import shlex
from typing import Any

from ..streams import Output

__all__ = ["add_parser", "run", "script"]

INSTALL = """\
bash:  neort completion bash > ~/.local/share/bash-completion/completions/neort
zsh:   neort completion zsh > a folder of $fpath, as _neort
fish:  neort completion fish > ~/.config/fish/completions/neort.fish"""

BASH = """\
_neort() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}}
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W {commands} -- "$word"))
        return
    fi
    case "$command $before" in
{choices}
    esac
    if [[ $word == -* ]]; then
        case $command in
{flags}
        esac
        return
    fi
    compopt -o filenames 2> /dev/null
    local IFS=$'\\n'
    COMPREPLY=($(compgen -f -- "$word"))
}}
complete -F _neort neort
"""

ZSH = """\
#compdef neort
_neort() {{
    if (( CURRENT == 2 )); then
        local -a commands=({commands})
        _describe command commands
        return
    fi
    case $words[2] in
{cases}
    esac
}}
if [ "$funcstack[1]" = "_neort" ]; then _neort "$@"; else compdef _neort neort; fi
"""


def add_parser(commands: Any) -> None:
    parser = commands.add_parser(
        "completion",
        help="print a script with which a shell completes commands and flags",
        epilog=INSTALL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("shell", choices=list(SCRIPTS), help="the shell that the script is for")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, output: Output) -> int:
    output.write(script(args.shell, args.commands))
    return 0


def script(shell: str, commands: dict[str, argparse.ArgumentParser]) -> str:
    """The script for a shell, of the parsers of all commands."""
    return SCRIPTS[shell](commands)


def _flags(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [action for action in parser._actions if action.option_strings]


def _words(action: argparse.Action) -> list[str]:
    """The words that may be a flag's value; none where it takes any text, or no value."""
    return [str(choice) for choice in action.choices or ()]


def _values(parser: argparse.ArgumentParser) -> list[str]:
    """The words that a command's own argument may be."""
    return [word for action in parser._actions if not action.option_strings for word in _words(action)]


def _said(text: str | None) -> str:
    """The first part of a help text, in plain letters."""
    first = (text or "").replace("%%", "%").split(";")[0]
    return " ".join("".join(each if each.isalnum() or each in " ,.-'" else " " for each in first).split())


def _about(parser: argparse.ArgumentParser) -> str:
    return _said(parser.description).removesuffix(".")


def _bash(commands: dict[str, argparse.ArgumentParser]) -> str:
    choices, flags = [], []
    for name, parser in commands.items():
        for action in _flags(parser):
            if words := _words(action):
                cases = "|".join(shlex.quote(f"{name} {flag}") for flag in action.option_strings)
                choices.append(f"        {cases}) {_reply(words)}; return ;;")
        if words := _values(parser):
            choices.append(
                f"        {shlex.quote(f'neort {name}')}|{shlex.quote(f'{name} {name}')}) {_reply(words)}; return ;;"
            )
        flags.append(
            f"            {name}) {_reply([each for action in _flags(parser) for each in action.option_strings])} ;;"
        )
    return BASH.format(commands=shlex.quote(" ".join(commands)), choices="\n".join(choices), flags="\n".join(flags))


def _reply(words: list[str]) -> str:
    return f'COMPREPLY=($(compgen -W {shlex.quote(" ".join(words))} -- "$word"))'


def _zsh(commands: dict[str, argparse.ArgumentParser]) -> str:
    described = " ".join(shlex.quote(f"{name}:{_about(parser)}") for name, parser in commands.items())
    cases = []
    for name, parser in commands.items():
        given = []
        for action in _flags(parser):
            value = (
                ""
                if action.nargs == 0
                else f":value:({' '.join(_words(action))})"
                if _words(action)
                else ":file:_files"
            )
            repeated = "*" if isinstance(action, argparse._AppendAction) else ""
            given += [shlex.quote(f"{repeated}{flag}[{_said(action.help)}]{value}") for flag in action.option_strings]
        words = _values(parser)
        given.append(shlex.quote(f"*:value:({' '.join(words)})" if words else "*:file:_files"))
        cases.append(f"        {name}) shift words; (( CURRENT-- )); _arguments {' '.join(given)} ;;")
    return ZSH.format(commands=described, cases="\n".join(cases))


def _fish(commands: dict[str, argparse.ArgumentParser]) -> str:
    lines = [
        f"complete -c neort -n __fish_use_subcommand -f -a {name} -d {shlex.quote(_about(parser))}"
        for name, parser in commands.items()
    ]
    for name, parser in commands.items():
        own = _values(parser)
        within = f"complete -c neort -n '__fish_seen_subcommand_from {name}'"
        for action in _flags(parser):
            for flag in action.option_strings:
                kind = f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
                words = f" -x -a {shlex.quote(' '.join(_words(action)))}" if _words(action) else ""
                value = words or ("" if action.nargs == 0 else " -r")
                lines.append(f"{within} {kind}{value} -d {shlex.quote(_said(action.help))}")
        if own:
            lines.append(f"{within} -f -a {shlex.quote(' '.join(own))}")
    return "\n".join(lines) + "\n"


SCRIPTS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
