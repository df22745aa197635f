# Written by `python3 -m deploy.reference`; see deploy/reference/README.md.

_hasyncd() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} verb= each
    COMPREPLY=()
    for each in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        case $each in -*) ;; *) verb=$each; break ;; esac
    done
    case "$verb:$before" in
    run:-c) COMPREPLY=($(compgen -f -- "$word")); return ;;
    run:--config) COMPREPLY=($(compgen -f -- "$word")); return ;;
    keygen:--node) COMPREPLY=($(compgen -W "$(for socket in /run/hasyncd/*.sock; do [ -S "$socket" ] && basename "$socket" .sock; done)" -- "$word")); return ;;
    keygen:--days) :; return ;;
    status:--node) COMPREPLY=($(compgen -W "$(for socket in /run/hasyncd/*.sock; do [ -S "$socket" ] && basename "$socket" .sock; done)" -- "$word")); return ;;
    status:--socket) COMPREPLY=($(compgen -f -- "$word")); return ;;
    flows:--node) COMPREPLY=($(compgen -W "$(for socket in /run/hasyncd/*.sock; do [ -S "$socket" ] && basename "$socket" .sock; done)" -- "$word")); return ;;
    flows:--socket) COMPREPLY=($(compgen -f -- "$word")); return ;;
    flows:--proto) COMPREPLY=($(compgen -W 'icmp icmpv6 tcp udp' -- "$word")); return ;;
    flows:--src) :; return ;;
    flows:--dst) :; return ;;
    flows:--reply-src) :; return ;;
    flows:--reply-dst) :; return ;;
    flows:--sport) :; return ;;
    flows:--dport) :; return ;;
    flows:--state) :; return ;;
    flows:--service) :; return ;;
    flows:--backend) :; return ;;
    ring:--node) COMPREPLY=($(compgen -W "$(for socket in /run/hasyncd/*.sock; do [ -S "$socket" ] && basename "$socket" .sock; done)" -- "$word")); return ;;
    ring:--socket) COMPREPLY=($(compgen -f -- "$word")); return ;;
    ring:--add) :; return ;;
    ring:--remove) :; return ;;
    ring:--weight) :; return ;;
    explain:--node) COMPREPLY=($(compgen -W "$(for socket in /run/hasyncd/*.sock; do [ -S "$socket" ] && basename "$socket" .sock; done)" -- "$word")); return ;;
    explain:--socket) COMPREPLY=($(compgen -f -- "$word")); return ;;
    events:--node) COMPREPLY=($(compgen -W "$(for socket in /run/hasyncd/*.sock; do [ -S "$socket" ] && basename "$socket" .sock; done)" -- "$word")); return ;;
    events:--socket) COMPREPLY=($(compgen -f -- "$word")); return ;;
    events:--since) :; return ;;
    events:--type) :; return ;;
    drain:--service) :; return ;;
    drain:--node) COMPREPLY=($(compgen -W "$(for socket in /run/hasyncd/*.sock; do [ -S "$socket" ] && basename "$socket" .sock; done)" -- "$word")); return ;;
    drain:--socket) COMPREPLY=($(compgen -f -- "$word")); return ;;
    drain:--timeout) :; return ;;
    undrain:--service) :; return ;;
    undrain:--node) COMPREPLY=($(compgen -W "$(for socket in /run/hasyncd/*.sock; do [ -S "$socket" ] && basename "$socket" .sock; done)" -- "$word")); return ;;
    undrain:--socket) COMPREPLY=($(compgen -f -- "$word")); return ;;
    weight:--service) :; return ;;
    weight:--node) COMPREPLY=($(compgen -W "$(for socket in /run/hasyncd/*.sock; do [ -S "$socket" ] && basename "$socket" .sock; done)" -- "$word")); return ;;
    weight:--socket) COMPREPLY=($(compgen -f -- "$word")); return ;;
    reload:--node) COMPREPLY=($(compgen -W "$(for socket in /run/hasyncd/*.sock; do [ -S "$socket" ] && basename "$socket" .sock; done)" -- "$word")); return ;;
    reload:--socket) COMPREPLY=($(compgen -f -- "$word")); return ;;
    switchover:--node) COMPREPLY=($(compgen -W "$(for socket in /run/hasyncd/*.sock; do [ -S "$socket" ] && basename "$socket" .sock; done)" -- "$word")); return ;;
    switchover:--socket) COMPREPLY=($(compgen -f -- "$word")); return ;;
    resync:--node) COMPREPLY=($(compgen -W "$(for socket in /run/hasyncd/*.sock; do [ -S "$socket" ] && basename "$socket" .sock; done)" -- "$word")); return ;;
    resync:--socket) COMPREPLY=($(compgen -f -- "$word")); return ;;
    last-word:--node) COMPREPLY=($(compgen -W "$(for socket in /run/hasyncd/*.sock; do [ -S "$socket" ] && basename "$socket" .sock; done)" -- "$word")); return ;;
    drill:--seed) :; return ;;
    drill:--tcp) :; return ;;
    drill:--udp) :; return ;;
    drill:--ipv6) :; return ;;
    drill:--background-flows) :; return ;;
    drill:--engine) :; return ;;
    drill:--json) COMPREPLY=($(compgen -f -- "$word")); return ;;
    drill:--pace-ms) :; return ;;
    drill:--open-rate) :; return ;;
    drill:--bulk-bytes) :; return ;;
    drill:--logs) COMPREPLY=($(compgen -f -- "$word")); return ;;
    drill:--rate) :; return ;;
    drill:--kills) :; return ;;
    drill:--commit) COMPREPLY=($(compgen -W 'ack emit' -- "$word")); return ;;
    drill:--heartbeat-ms) :; return ;;
    drill:--old-program) COMPREPLY=($(compgen -f -- "$word")); return ;;
    drill:--system) :; return ;;
    drill:--adverts-ms) :; return ;;
    drill:--report) COMPREPLY=($(compgen -f -- "$word")); return ;;
    drill:--beside) COMPREPLY=($(compgen -f -- "$word")); return ;;
    bench:--engine) :; return ;;
    bench:--json) COMPREPLY=($(compgen -f -- "$word")); return ;;
    bench:--rounds) :; return ;;
    esac
    case $verb in
    '') COMPREPLY=($(compgen -W 'run check keygen status flows ring explain events drain undrain weight reload switchover resync last-word drill lab bench --help --version' -- "$word")) ;;
    run) COMPREPLY=($(compgen -W '-c --config --help' -- "$word")) ;;
    check) COMPREPLY=($(compgen -W '--help' -- "$word")); COMPREPLY+=($(compgen -f -- "$word")) ;;
    keygen) COMPREPLY=($(compgen -W '--node --days --force --help' -- "$word")); COMPREPLY+=($(compgen -f -- "$word")) ;;
    status) COMPREPLY=($(compgen -W '--node --socket --json --watch --check --help' -- "$word")) ;;
    flows) COMPREPLY=($(compgen -W '--node --socket --json --count --proto --src --dst --reply-src --reply-dst --sport --dport --state --service --backend --at-risk --help' -- "$word")) ;;
    ring) COMPREPLY=($(compgen -W '--node --socket --json --add --remove --weight --help' -- "$word")) ;;
    explain) COMPREPLY=($(compgen -W 'tcp udp icmp --node --socket --json --help' -- "$word")) ;;
    events) COMPREPLY=($(compgen -W '--node --socket --json --since --type --no-follow --help' -- "$word")) ;;
    drain) COMPREPLY=($(compgen -W '--service --node --socket --timeout --wait --help' -- "$word")) ;;
    undrain) COMPREPLY=($(compgen -W '--service --node --socket --help' -- "$word")) ;;
    weight) COMPREPLY=($(compgen -W '--service --node --socket --help' -- "$word")) ;;
    reload) COMPREPLY=($(compgen -W '--node --socket --check --help' -- "$word")) ;;
    switchover) COMPREPLY=($(compgen -W '--node --socket --force --help' -- "$word")) ;;
    resync) COMPREPLY=($(compgen -W '--node --socket --full --help' -- "$word")) ;;
    last-word) COMPREPLY=($(compgen -W '--node --json --help' -- "$word")); COMPREPLY+=($(compgen -f -- "$word")) ;;
    drill) COMPREPLY=($(compgen -W '--list --seed --tcp --udp --ipv6 --background-flows --engine --json --pace-ms --open-rate --bulk-bytes --logs --rate --kills --commit --without-sync --insecure --heartbeat-ms --old-program --system --adverts-ms --random-ports --report --beside --help' -- "$word")) ;;
    lab) COMPREPLY=($(compgen -W 'up down shell --without-sync --insecure --help' -- "$word")) ;;
    bench) COMPREPLY=($(compgen -W '--list --engine --json --rounds --help' -- "$word")) ;;
    esac
}
complete -o filenames -o bashdefault -F _hasyncd hasyncd
