# Completes seq(1) in fish: subcommands, options, and the domains that the daemon knows. It never starts a daemon.
#
# Install it as ~/.config/fish/completions/seq.fish.

# After "run … --" comes a command, which is completed as always.
function __seq_is_in_command
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    contains -- -- $words[3..]
end

function __seq_complete_command
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l index (contains --index -- -- $words[3..])
    set -l command (string escape -- $words[(math $index + 3)..]) (commandline --current-token)
    complete --do-complete "$command"
end

function __seq_complete
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    SEQ_COMPLETE=fish $words[1] -- $words (commandline --current-token) 2>/dev/null
end

complete --command seq --erase
complete --command seq --no-files --keep-order --condition 'not __seq_is_in_command' --arguments '(__seq_complete)'
complete --command seq --no-files --condition __seq_is_in_command --arguments '(__seq_complete_command)'
