"""`python3 -m deploy.reference`: writes every reference anew. `files()` is what stands in them."""

from __future__ import annotations

from pathlib import Path

from deploy.reference import commands, completion, configuration

DEPLOY = Path(__file__).parents[1]


def files() -> dict[Path, str]:
    """Each generated file and its text."""
    verbs = commands.read_verbs()
    return {
        DEPLOY / "configuration.md": configuration.text(),
        DEPLOY / "commands.md": commands.markdown(verbs),
        DEPLOY / "share/hasyncd.8": commands.manual(verbs),
        DEPLOY / "share/hasyncd.bash": completion.bash(verbs),
        DEPLOY / "share/_hasyncd": completion.zsh(verbs),
        DEPLOY / "share/hasyncd.fish": completion.fish(verbs),
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
