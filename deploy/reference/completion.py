"""What the three shells complete: verbs, flags, the words of a flag, files, and the nodes that run on this machine."""

from __future__ import annotations

from deploy.reference.commands import Option, Verb

HEAD = "# Written by `python3 -m deploy.reference`; see deploy/reference/README.md.\n"
NODES = 'for socket in /run/hasyncd/*.sock; do [ -S "$socket" ] && basename "$socket" .sock; done'


def _kind(option: Option) -> str:
    if option.choices:
        return "words"
    if option.flags == ("--node",) and not option.is_path:
        return "node"
    return "path" if option.is_path else "text"


def _words(verb: Verb) -> list[str]:
    """What may stand after the verb without a flag."""
    return [word for option in verb.options if not option.flags for word in option.choices]


def _wants_path(verb: Verb) -> bool:
    return any(option.is_path and not option.flags for option in verb.options)


def bash(verbs: list[Verb]) -> str:
    cases, values = [], {}
    for verb in verbs:
        flags = [flag for option in verb.options for flag in option.flags]
        paths = '; COMPREPLY+=($(compgen -f -- "$word"))' if _wants_path(verb) else ""
        words = " ".join([*_words(verb), *flags, "--help"])
        cases.append(f"    {verb.name}) COMPREPLY=($(compgen -W '{words}' -- \"$word\")){paths} ;;")
        for option in verb.options:
            for flag in option.flags if option.value else ():
                values[f"{verb.name}:{flag}"] = _bash_values(option)
    by_flag = "\n".join(f"    {key}) {action}; return ;;" for key, action in values.items())
    return f"""{HEAD}
_hasyncd() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} verb= each
    COMPREPLY=()
    for each in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case $each in -*) ;; *) verb=$each; break ;; esac
    done
    case "$verb:$before" in
{by_flag}
    esac
    case $verb in
    '') COMPREPLY=($(compgen -W '{" ".join(verb.name for verb in verbs)} --help --version' -- "$word")) ;;
{chr(10).join(cases)}
    esac
}}
complete -o filenames -o bashdefault -F _hasyncd hasyncd
"""


def _bash_values(option: Option) -> str:
    match _kind(option):
        case "words":
            return f"COMPREPLY=($(compgen -W '{' '.join(option.choices)}' -- \"$word\"))"
        case "node":
            return f'COMPREPLY=($(compgen -W "$({NODES})" -- "$word"))'
        case "path":
            return 'COMPREPLY=($(compgen -f -- "$word"))'
        case _:
            return ":"


def zsh(verbs: list[Verb]) -> str:
    listed = "\n".join(f"        {_quoted(f'{verb.name}:{verb.purpose}')}" for verb in verbs)
    cases = []
    for verb in verbs:
        lines = [
            f"            {_quoted(_zsh_option(option, flag))}"
            for option in verb.options
            for flag in option.flags
        ]
        rest = "'*:word:(" + " ".join(_words(verb)) + ")'" if _words(verb) else "'*:file:_files'"
        cases.append(
            f"    {verb.name}) _arguments \\\n" + " \\\n".join([*lines, f"            {rest}"]) + " ;;"
        )
    return f"""#compdef hasyncd
{HEAD}
_hasyncd_nodes() {{
    local -a nodes=(/run/hasyncd/*.sock(N=:t:r))
    compadd -a nodes
}}

_hasyncd() {{
    local -a verbs=(
{listed}
    )
    if (( CURRENT == 2 )); then
        _describe -t verbs verb verbs
        return
    fi
    local verb=$words[2]
    shift words; (( CURRENT-- ))
    case $verb in
{chr(10).join(cases)}
    esac
}}

_hasyncd "$@"
"""


def _zsh_option(option: Option, flag: str) -> str:
    told = option.meaning.replace("[", "(").replace("]", ")").replace(":", ",")
    if not option.value:
        return f"{flag}[{told}]"
    name = option.value.strip("{}").replace(":", " ")
    action = {"words": f"({' '.join(option.choices)})", "node": "_hasyncd_nodes", "path": "_files"}.get(
        _kind(option), " "
    )
    return f"{flag}[{told}]:{name}:{action}"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def fish(verbs: list[Verb]) -> str:
    names = " ".join(verb.name for verb in verbs)
    lines = [HEAD, "complete -c hasyncd -f"]
    for verb in verbs:
        none_yet = f"'not __fish_seen_subcommand_from {names}'"
        lines.append(f"complete -c hasyncd -n {none_yet} -a {verb.name} -d {_fish(verb.purpose)}")
    for verb in verbs:
        seen = f"'__fish_seen_subcommand_from {verb.name}'"
        if _wants_path(verb):
            lines.append(f"complete -c hasyncd -n {seen} -F")
        if _words(verb):
            lines.append(f"complete -c hasyncd -n {seen} -a {_fish(' '.join(_words(verb)))}")
        for option in verb.options:
            flags = " ".join(
                f"-l {flag.removeprefix('--')}" if flag.startswith("--") else f"-s {flag.removeprefix('-')}"
                for flag in option.flags
            )
            if flags:
                lines.append(
                    f"complete -c hasyncd -n {seen} {flags}{_fish_value(option)} -d {_fish(option.meaning)}"
                )
    return "\n".join(lines) + "\n"


def _fish_value(option: Option) -> str:
    if not option.value:
        return ""
    match _kind(option):
        case "words":
            return f" -x -a {_fish(' '.join(option.choices))}"
        case "node":
            return f" -x -a {_fish(f'(sh -c {_fish_inner(NODES)})')}"
        case "path":
            return " -r -F"
        case _:
            return " -x"


def _fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_inner(text: str) -> str:
    return '"' + text.replace('"', '\\"').replace("$", "\\$") + '"'
