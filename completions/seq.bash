# Completes seq(1) in bash: subcommands, options, and the domains that the daemon knows. It never starts a daemon.
#
# Install it as ~/.local/share/bash-completion/completions/seq, or source it.

_seq() {
    local cur=${COMP_LINE:0:COMP_POINT} index word value
    local -a words
    # After "run … --" comes a command, which is completed as always.
    for ((index = 2; index < COMP_CWORD; index++)); do
        if [[ ${COMP_WORDS[index]} == -- ]]; then
            if declare -F _command_offset >/dev/null; then
                _command_offset $((index + 1))
            elif ((index + 1 == COMP_CWORD)); then
                mapfile -t COMPREPLY < <(compgen -c -- "$2")
            else
                compopt -o default
            fi
            return
        fi
    done
    # The words as they were typed: bash itself would part them at : and = too.
    read -ra words <<<"$cur"
    [[ $cur == *[[:blank:]] ]] && words+=('')
    cur=${words[-1]}
    local -a offered=()
    while IFS=$'\t' read -r value _; do
        printf -v value %q "$value"
        offered+=("${value#"${cur%"${cur##*[:=]}"}"}")
    done < <(SEQ_COMPLETE=fish "${words[0]}" -- "${words[@]}" 2>/dev/null)
    COMPREPLY=("${offered[@]}")
    case ${COMPREPLY[0]} in
        '') [[ ${words[-2]} == -* ]] || compopt -o default ;;
        */) compopt -o nospace ;;
    esac
}
complete -F _seq seq
