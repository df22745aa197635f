"""deploy/commands.md and the manual page: the verbs, their flags, their exit codes, from the parsers themselves."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hasyncd import cli
from hasyncd.cli.examples import EXAMPLES

FILES = (
    ("/etc/hasyncd/hasyncd.toml", "the node's configuration"),
    ("/etc/hasyncd/keys", "this node's half of the pair's keys, mode 0600"),
    ("/var/lib/hasyncd/generation", "the number of the pair's session history; must outlive the process"),
    ("/run/hasyncd/NAME.sock", "the control socket, mode 0600"),
    ("/run/hasyncd/NAME.lastword", "the delta log, mode 0600: what `hasyncd last-word` reads after a crash"),
)
DESCRIPTION = (
    "Load balancing, NAT, session synchronisation and takeover in one daemon with one configuration file.",
    "Two nodes, one primary and one backup, own addresses (VIPs) together; every flow is known to the backup",
    "before its first packet leaves, and when the primary dies the backup goes on with all of them.",
    ".PP",
    "Operators' verbs talk to the daemon at its control socket.",
    "Results go to standard output, everything else to standard error.",
)
CAPABILITIES = (
    "CAP_NET_ADMIN and CAP_NET_RAW; CAP_SYS_NICE for node.nice below 0:",
    "without it the daemon says so and goes on.",
)
SIGNALS = (
    ("SIGTERM, SIGINT", "hand over to the peer and end; a second one ends at once"),
    ("SIGHUP", "read the configuration again"),
)


@dataclass
class Option:
    """One flag or one word of a verb."""

    flags: tuple[str, ...]
    """Empty: a word without a flag."""
    value: str
    """What it takes, as the usage line calls it; empty: nothing."""
    meaning: str
    choices: tuple[str, ...] = ()
    is_path: bool = False


@dataclass
class Verb:
    """One verb of the command line."""

    name: str
    purpose: str
    usage: str
    options: list[Option] = field(default_factory=list)


def read_verbs() -> list[Verb]:
    """Every verb as its parser has it."""
    _, parsers = cli.make_parser(cli.VERBS.keys())
    verbs = []
    for name, parser in parsers.items():
        options = list(_options(parser))
        verbs.append(Verb(name, cli.VERBS[name], _usage(name, options), options))
    return verbs


def _options(parser: argparse.ArgumentParser) -> Iterator[Option]:
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction):
            continue
        if isinstance(action, argparse._SubParsersAction):
            told = {choice.dest: choice.help or "" for choice in action._choices_actions}
            for word, inner in action.choices.items():
                yield Option((), word, told.get(word, ""), (word,))
                for option in _options(inner):
                    yield option if option.flags else Option((), f"{word} {option.value}", option.meaning, ())
            continue
        yield _option(action)


def _option(action: argparse.Action) -> Option:
    choices = tuple(str(choice) for choice in action.choices or ())
    value = ""
    if action.nargs != 0:
        default = "{" + ",".join(choices) + "}" if choices else action.dest.upper().replace("_", "-")
        metavar = action.metavar if isinstance(action.metavar, str) else None
        value = metavar or default
        if not action.option_strings and action.nargs in ("*", argparse.REMAINDER):
            value += " …"
        elif not action.option_strings and action.nargs == "?":
            value = f"[{value}]"
    meaning = (action.help or "") % {**vars(action), "prog": "hasyncd"}
    return Option(tuple(action.option_strings), value, meaning, choices, action.type is Path)


def _usage(name: str, options: list[Option]) -> str:
    words = [option.value for option in options if not option.flags]
    flags = ["[OPTION …]"] if any(option.flags for option in options) else []
    return " ".join(["hasyncd", name, *flags, *(words if len(words) < 3 else [words[0], "…"])])


def _label(option: Option) -> str:
    flags = ", ".join(option.flags)
    return f"{flags} {option.value}".strip()


# --- the page on a forge --------------------------------------------------------------------------------------


def markdown(verbs: list[Verb]) -> str:
    parts = [
        "# Commands",
        "",
        "Every verb and its flags, from the parsers: `python3 -m deploy.reference` writes this page. Results go to",
        "standard output, everything else to standard error. `--json` objects may gain keys, never lose them.",
        "",
        "| exit code | means |",
        "|---|---|",
        *(f"| {code} | {meaning} |" for code, meaning in cli.EXIT_CODES.items()),
    ]
    for verb in verbs:
        parts += ["", f"## `hasyncd {verb.name}`", "", f"{_sentence(verb.purpose)}", ""]
        if verb.options:
            parts += ["| | |", "|---|---|"]
            parts += [f"| `{_label(option)}` | {_cell(option.meaning)} |" for option in verb.options]
            parts += [""]
        if examples := EXAMPLES.get(verb.name, ()):
            parts += [f"    {line}    # {why}" for line, why in examples]
    return "\n".join(parts).rstrip() + "\n"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# --- the manual page ------------------------------------------------------------------------------------------


def manual(verbs: list[Verb]) -> str:
    parts = [
        '.TH HASYNCD 8 "" "hasyncd" "System Administration"',
        ".SH NAME",
        "hasyncd \\- two Linux gateways that look like one which never forgets a flow",
        ".SH SYNOPSIS",
        *(f".B {_roff(verb.usage)}\n.br" for verb in verbs),
        ".SH DESCRIPTION",
        *DESCRIPTION,
        ".SH VERBS",
    ]
    for verb in verbs:
        parts += [f".SS {_roff(verb.usage)}", _roff(_sentence(verb.purpose))]
        for option in verb.options:
            parts += [".TP", f".B {_roff(_label(option))}", _roff(option.meaning or "\\&")]
        for line, why in EXAMPLES.get(verb.name, ()):
            parts += [".TP", f".I {_roff(line)}", _roff(why)]
    parts += [".SH EXIT STATUS"]
    for code, meaning in cli.EXIT_CODES.items():
        parts += [".TP", f".B {code}", _roff(meaning)]
    parts += [".SH SIGNALS"]
    for name, meaning in SIGNALS:
        parts += [".TP", f".B {name}", _roff(meaning)]
    parts += [".SH FILES"]
    for name, meaning in FILES:
        parts += [".TP", f".I {_roff(name)}", _roff(meaning)]
    parts += [
        ".SH CAPABILITIES",
        *CAPABILITIES,
        ".SH SEE ALSO",
        "/usr/share/doc/hasyncd/configuration.md, conntrack(8), packet(7)",
    ]
    return "\n".join(parts) + "\n"


def _roff(text: str) -> str:
    if text == "\\&":
        return text
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace("…", "...").replace("`", "")
    return "\\&" + escaped if escaped[:1] in (".", "'") else escaped
