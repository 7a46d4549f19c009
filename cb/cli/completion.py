"""Shell scripts that complete the commands of `cb`, the names of breakers and those of ledgers."""

from .arguments import CONTROLS

_NAMED = ("status", "explain", "events", *CONTROLS, "configure")
_COMMANDS = " ".join(("watch", *_NAMED, "forget", "completion"))

# Names are read line by line: `compgen -W` would expand special characters in them.
_BASH = f"""\
_cb() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} kind= name
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{_COMMANDS}" -- "$word"))
        return
    fi
    case ${{COMP_WORDS[1]}} in {"|".join(_NAMED)}) kind=__names ;; forget) kind=__ledgers ;; esac
    if [ "$before" = --ledger ]; then kind=__ledgers; fi
    if [ -n "$kind" ]; then
        while IFS= read -r name; do
            COMPREPLY+=("$(printf %q "$name")")
        done < <(cb $kind -- "$word" 2>/dev/null)
    fi
}}
complete -F _cb cb
"""

_ZSH = f"""\
#compdef cb
_cb() {{
    if (( CURRENT == 2 )); then
        compadd -- {_COMMANDS}
    elif [[ ${{words[CURRENT-1]}} == --ledger || ${{words[2]}} == forget ]]; then
        compadd -- "${{(@f)$(cb __ledgers 2>/dev/null)}}"
    else
        case ${{words[2]}} in
            {"|".join(_NAMED)}) compadd -- "${{(@f)$(cb __names 2>/dev/null)}}" ;;
        esac
    fi
}}
compdef _cb cb
"""


def script(shell: str) -> str:
    """Return the completion script for `bash` or `zsh`."""
    return {"bash": _BASH, "zsh": _ZSH}[shell]
