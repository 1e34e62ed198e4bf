complete -c seqd -l socket -d 'Listen on this socket [default: `$SEQ_SOCKET`, else `~/.local/state/seq/seqd.sock`]' -r -F
complete -c seqd -l group -d 'Let the members of this group use the socket' -r
complete -c seqd -l idle-exit -d 'Leave after this long without a connection and without a turn, or `never`' -r
complete -c seqd -l log -d 'Write the log to this file' -r -F
complete -c seqd -l config -d 'Read policies from this file [default: `~/.config/seq/seqd.toml`, with --system `/etc/seq/seqd.toml`]' -r -F
complete -c seqd -l history-turns -d 'Keep at most so many turns in the history' -r
complete -c seqd -l history-age -d 'Keep turns in the history for so long' -r
complete -c seqd -l system -d 'Serve the whole system, on /run/seqd/seqd.sock'
complete -c seqd -l in-memory -d 'Keep nothing on disk: a daemon that is killed forgets its lines, and there is no history'
complete -c seqd -l detach -d 'Run in the background, and say `ready PID`, `busy` or `error: REASON` on standard output'
complete -c seqd -s h -l help -d 'Print help (see more with \'--help\')'
complete -c seqd -s V -l version -d 'Print version'
