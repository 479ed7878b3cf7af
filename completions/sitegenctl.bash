# bash completion for sitegenctl. Made by `sitegenctl completion bash`; not to be edited.

_sitegenctl_commands() {
    case $1 in
    '') echo 'live enqueue reset reset-empty retry-failed start-stuck cancel repair maintain logs events stats metrics doctor worker completion queue inspect demo config' ;;
    'queue') echo 'pause resume purge' ;;
    'inspect') echo 'orders queue workers task' ;;
    'demo') echo 'up down status tour' ;;
    'config') echo 'show path contexts use init' ;;
    esac
}

_sitegenctl_options() {
    case $1 in
    '') echo '--version --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'live') echo '--interval --theme --web --port --host --allow-actions --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'enqueue') echo '--from --condition -C --status -S --search --resume --no-resume --force --wait --dry-run --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'reset') echo '--from --condition -C --status -S --search --no-enqueue --keep-files --terminate --force --dry-run --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'reset-empty') echo '--from --condition -C --status -S --search --min-files --older-than --limit --no-enqueue --dry-run --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'retry-failed') echo '--from --condition -C --status -S --search --max-attempts --match --older-than --limit --force --dry-run --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'start-stuck') echo '--from --condition -C --status -S --search --limit --dry-run --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'cancel') echo '--from --condition -C --status -S --search --terminate --to --dry-run --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'repair') echo '--from --condition -C --status -S --search --only --terminate --worker-dead --limit --dry-run --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'maintain') echo '--max-actions --max-attempts --keep-trash --jitter --notify --dry-run --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'logs') echo '--from --follow -f --until-done --since --level --last --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'events') echo '--type --order --worker --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'stats') echo '--since --html --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'metrics') echo '--textfile --listen --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'doctor') echo '--quick --strict --patience --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'worker') echo '--backend --concurrency -c --pace --generator --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'completion') echo '--context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'queue') echo '--context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'queue pause') echo '--dry-run --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'queue resume') echo '--dry-run --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'queue purge') echo '--dry-run --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'inspect') echo '--watch --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'inspect ORDER') echo '--last --watch --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'inspect orders') echo '--condition -C --status -S --search --since --sort --reverse --limit --page --watch --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'inspect queue') echo '--limit --watch --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'inspect workers') echo '--watch --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'inspect task') echo '--context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'demo') echo '--help -h' ;;
    'demo up') echo '--backend --orders --seed --pace --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'demo down') echo '--keep-sites --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'demo status') echo '--context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'demo tour') echo '--backend --orders --seed --pace --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'config') echo '--help -h' ;;
    'config show') echo '--context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'config path') echo '--context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'config contexts') echo '--context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'config use') echo '--context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    'config init') echo '--name --database-url --database-password-file --database-password-command --redis-url --redis-password-file --redis-password-command --sites-dir --backend --production --no-production --untested --force --context --env-file --output -o --yes -y --read-only --timeout --verbose -v --help -h' ;;
    esac
}

# What follows an option ("$1" is the command, "$2" the option), or a command itself ("$2" is empty).
_sitegenctl_values() {
    case "$1 $2" in
    *' --context' | 'config use ') echo '@contexts' ;;
    *' --env-file' | *' --from' | *' --html' | *' --textfile' | *' --database-password-file' | *' --redis-password-file') echo '@files' ;;
    *' --output' | *' -o') echo 'table json ndjson csv' ;;
    *' --theme') echo 'dark light monochrome' ;;
    *' --condition' | *' -C') echo 'unknown duplicated ghost orphaned running queued scheduled retrying blocked settling failed interrupted empty held unstarted waiting hollow done cancelled' ;;
    *' --status' | *' -S' | *' --to') echo 'pending_payment paid onboarding_pending building generating review delivered cancelled' ;;
    *' --only') echo 'duplicated ghost orphaned interrupted' ;;
    *' --level') echo 'info success warning error' ;;
    *' --order' | 'enqueue ' | 'reset ' | 'reset-empty ' | 'retry-failed ' | 'start-stuck ' | 'cancel ' | 'repair ' | 'logs ' | 'inspect ') echo '@orders' ;;
    'worker --backend' | 'demo up --backend' | 'demo tour --backend') echo 'celery rq' ;;
    *' --sort') echo 'fault id updated created name status' ;;
    *' --sites-dir') echo '@directories' ;;
    'completion ') echo 'bash zsh fish powershell' ;;
    esac
}

_sitegenctl_takes() {
    case $1 in
    --context | --env-file | --output | -o | --timeout | --interval | --theme | --port | --host | --from | --condition | -C | --status | -S | --search | --min-files | --older-than | --limit | --max-attempts | --match | --to | --only | --max-actions | --keep-trash | --jitter | --notify | --since | --level | --last | --type | --order | --worker | --html | --textfile | --listen | --patience | --backend | --concurrency | -c | --pace | --generator | --sort | --page | --orders | --seed | --name | --database-url | --database-password-file | --database-password-command | --redis-url | --redis-password-file | --redis-password-command | --sites-dir) return 0 ;;
    esac
    return 1
}

_sitegenctl_offer() {
    local IFS=$'\n'
    COMPREPLY+=($(compgen -W "${1// /$'\n'}" -- "$2"))
}

# What only sitegenctl knows: one "value<TAB>description" a line, or nothing.
_sitegenctl_ask() {
    local program=${COMP_WORDS[0]/#\~/$HOME} value about
    while IFS=$'\t' read -r value about; do
        # Beside each other the values are shown with what they are; in the line they stand alone.
        if [[ $COMP_TYPE == 63 && -n $about ]]; then value="$value  ($about)"; fi
        COMPREPLY+=("$value")
    done < <("$program" _complete "$1" "$2" "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null </dev/null)
    # A list of one is no list.
    if ((${#COMPREPLY[@]} == 1)); then COMPREPLY=("${COMPREPLY[0]%%  (*}"); fi
}

_sitegenctl_files() {
    local file
    compopt -o filenames 2>/dev/null
    while IFS= read -r file; do COMPREPLY+=("$file"); done < <(compgen "$1" -- "$2")
}

_sitegenctl_offer_values() {
    case $1 in
    # What doesn't begin as a number does is none.
    @orders) [[ $2 == *[!0-9]* ]] || _sitegenctl_ask orders "$2" ;;
    @contexts) _sitegenctl_ask contexts "$2" ;;
    @files) _sitegenctl_files -f "$2" ;;
    @directories) _sitegenctl_files -d "$2" ;;
    *) _sitegenctl_offer "$1" "$2" ;;
    esac
}

_sitegenctl() {
    local current=${COMP_WORDS[COMP_CWORD]} path="" pending="" word i
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        # bash takes --option=value apart.
        if [[ $word == "=" ]]; then continue; fi
        if [[ -n $pending ]]; then
            pending=""
        elif [[ $word == -* ]]; then
            if _sitegenctl_takes "$word"; then pending=$word; fi
        elif [[ " $(_sitegenctl_commands "$path") " == *" $word "* ]]; then
            path="${path:+$path }$word"
        elif [[ $path == inspect ]]; then
            path="inspect ORDER"
        fi
    done
    if [[ $current == "=" ]]; then current=""; fi
    if [[ -n $pending ]]; then
        _sitegenctl_offer_values "$(_sitegenctl_values "$path" "$pending")" "$current"
    elif [[ $current == -* ]]; then
        _sitegenctl_offer "$(_sitegenctl_options "$path")" "$current"
    else
        _sitegenctl_offer_values "$(_sitegenctl_values "$path" "")" "$current"
        _sitegenctl_offer "$(_sitegenctl_commands "$path")" "$current"
    fi
}

complete -F _sitegenctl sitegenctl
