"""Shell scripts that complete the commands of `cb` and the names of breakers."""

from .arguments import CONTROLS

_NAMED = ("explain", "events", *CONTROLS, "configure")
_COMMANDS = " ".join(("status", "watch", *_NAMED, "completion"))

# Names are read line by line: `compgen -W` would expand special characters in them.
_BASH = f"""\
_cb() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} name
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "{_COMMANDS}" -- "$word"))
    else
        case ${{COMP_WORDS[1]}} in {"|".join(_NAMED)})
            while IFS= read -r name; do
                COMPREPLY+=("$(printf %q "$name")")
            done < <(cb __names -- "$word" 2>/dev/null) ;;
        esac
    fi
}}
complete -F _cb cb
"""

_ZSH = f"""\
#compdef cb
_cb() {{
    if (( CURRENT == 2 )); then
        compadd -- {_COMMANDS}
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
