_sitegenctl_completion() {
    local IFS=$'
'
    COMPREPLY=( $( env COMP_WORDS="${COMP_WORDS[*]}" \
                   COMP_CWORD=$COMP_CWORD \
                   _SITEGENCTL_COMPLETE=complete_bash $1 ) )
    return 0
}

complete -o default -F _sitegenctl_completion sitegenctl
