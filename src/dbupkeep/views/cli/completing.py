"""The command `completion`."""

from __future__ import annotations

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from dbupkeep.views.cli.console import Console, common
from dbupkeep.views.cli.exits import Exit

SHELLS: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


_WHERE = """\b
bash: dbupkeep completion bash > ~/.local/share/bash-completion/completions/dbupkeep
zsh:  dbupkeep completion zsh > "${fpath[1]}/_dbupkeep"
fish: dbupkeep completion fish > ~/.config/fish/completions/dbupkeep.fish"""


@click.command(epilog=_WHERE)
@click.argument("shell", type=click.Choice(list(SHELLS)))
@common
def completion(console: Console, shell: str) -> int:
    """Print the completion script of a shell."""
    script = SHELLS[shell](click.Group(), {}, "dbupkeep", "_DBUPKEEP_COMPLETE")
    text = script.source_template % script.source_vars()
    if console.as_json:
        console.document({"shell": shell, "script": text})
    else:
        console.out.line(text)
    return Exit.DONE
