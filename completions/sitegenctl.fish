# fish completion for sitegenctl. Made by `sitegenctl completion fish`; not to be edited.

function __sitegenctl_commands
    switch "$argv[1]"
        case ''
            printf '%s\t%s\n' \
                'live' 'Watch queue, orders and workers live, and mend what is wrong.' \
                'enqueue' 'Enqueue orders: set them GENERATING, journal it, publish their tasks.' \
                'reset' 'Begin orders again: tasks withdrawn, files to the trash, a fresh task that resumes nothing.' \
                'reset-empty' 'Reset every GENERATING order that has no task and (almost) no files, or these of them.' \
                'retry-failed' 'Retry every order whose last generation failed, as long as it has attempts left, or these of them.' \
                'start-stuck' 'Start every BUILDING order that is ready and that nobody enqueued, or these of them.' \
                'cancel' 'Remove orders from the queue and hold them until they are enqueued.' \
                'repair' 'Fix duplicated, ghost, orphaned and interrupted orders: all, or these.' \
                'maintain' 'Repair, start, retry, reset what is empty, tidy up: one run at a time, quiet when there is nothing to do.' \
                'logs' 'Show the log of orders, several of them merged; -f follows it.' \
                'events' 'Stream the events of tasks and workers until Ctrl-C, without their heartbeats unless -v.' \
                'stats' 'Show throughput, success, durations and reasons of failure.' \
                'metrics' 'Measure queue, workers, orders and runs for Prometheus.' \
                'doctor' 'Check everything that generations depend on, and say what mends it.' \
                'worker' 'Run the reference worker until it is stopped.' \
                'completion' 'Print the script that makes a shell complete commands, options, contexts and orders.' \
                'queue' 'Pause, resume or empty the queue.' \
                'inspect' 'Where orders really are, and why; with nothing behind it, everything on one screen.' \
                'demo' 'A private Redis, PostgreSQL and worker with sample orders.' \
                'config' 'Show and prepare the settings.'
        case 'queue'
            printf '%s\t%s\n' \
                'pause' 'Have every living worker take no more tasks from the queue.' \
                'resume' 'Have every living worker take tasks from the queue again.' \
                'purge' 'Take every task out of the queue; the orders go back to BUILDING, held.'
        case 'inspect'
            printf '%s\t%s\n' \
                'orders' 'List orders with their conditions, faults first.' \
                'queue' 'List the tasks in the order in which they will run.' \
                'workers' 'Show each living worker and what it does.' \
                'task' 'Show one task: its message, its result, its order and who has it.'
        case 'demo'
            printf '%s\t%s\n' \
                'up' 'Start the stack in the background; harmless when it is up.' \
                'down' 'Stop the stack and remove its data.' \
                'status' 'Show what is up; exit 3 when something is not.' \
                'tour' 'Generate order 42 before your eyes, then watch the rest live; in the end everything it started is stopped.'
        case 'config'
            printf '%s\t%s\n' \
                'show' 'Show every setting, and where its value comes from.' \
                'path' 'Show where the settings file lies, or would lie.' \
                'contexts' 'Show the contexts there are; the one that is chosen is marked.' \
                'use' 'Choose the context that holds where none is named.' \
                'init' 'Add a context to the settings file, readable by you alone, after trying its connections.'
    end
end

function __sitegenctl_options
    switch "$argv[1]"
        case ''
            printf '%s\t%s\n' \
                '--version' 'Show the version and leave.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'live'
            printf '%s\t%s\n' \
                '--interval' 'How often to look; 1s if not said otherwise.' \
                '--theme' 'dark, light or monochrome, or one of Textual\'s.' \
                '--web' 'Show it in a browser: prints a link.' \
                '--port' 'Listen at this port (8765); 0 takes any that is free.' \
                '--host' 'Listen at this address instead of for this machine alone.' \
                '--allow-actions' 'Let browsers change something; else they only look.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'enqueue'
            printf '%s\t%s\n' \
                '--from' 'Read order numbers from a file; - is stdin.' \
                '--condition' 'Only orders in this condition; may be repeated.' \
                '-C' 'Only orders in this condition; may be repeated.' \
                '--status' 'Only orders in this status; may be repeated.' \
                '-S' 'Only orders in this status; may be repeated.' \
                '--search' 'In customer, e-mail, business; or the number.' \
                '--resume' 'Go on from the last finished stage, or begin again.' \
                '--no-resume' 'Go on from the last finished stage, or begin again.' \
                '--force' 'Also an order that moved a moment ago.' \
                '--wait' 'Follow the log to the end; exit 1 if a generation fails.' \
                '--dry-run' 'Show what would be done, and do nothing.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'reset'
            printf '%s\t%s\n' \
                '--from' 'Read order numbers from a file; - is stdin.' \
                '--condition' 'Only orders in this condition; may be repeated.' \
                '-C' 'Only orders in this condition; may be repeated.' \
                '--status' 'Only orders in this status; may be repeated.' \
                '-S' 'Only orders in this status; may be repeated.' \
                '--search' 'In customer, e-mail, business; or the number.' \
                '--no-enqueue' 'Leave them BUILDING, without a task, but not held.' \
                '--keep-files' 'Leave the site where it is.' \
                '--terminate' 'Stop running tasks too.' \
                '--force' 'Also an order that moved a moment ago.' \
                '--dry-run' 'Show what would be done, and do nothing.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'reset-empty'
            printf '%s\t%s\n' \
                '--from' 'Read order numbers from a file; - is stdin.' \
                '--condition' 'Only orders in this condition; may be repeated.' \
                '-C' 'Only orders in this condition; may be repeated.' \
                '--status' 'Only orders in this status; may be repeated.' \
                '-S' 'Only orders in this status; may be repeated.' \
                '--search' 'In customer, e-mail, business; or the number.' \
                '--min-files' 'Fewer files than this are an empty site.' \
                '--older-than' 'Only orders that have been still for so long.' \
                '--limit' 'So many orders at most.' \
                '--no-enqueue' 'Leave them BUILDING, without a task, but not held.' \
                '--dry-run' 'Show what would be done, and do nothing.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'retry-failed'
            printf '%s\t%s\n' \
                '--from' 'Read order numbers from a file; - is stdin.' \
                '--condition' 'Only orders in this condition; may be repeated.' \
                '-C' 'Only orders in this condition; may be repeated.' \
                '--status' 'Only orders in this status; may be repeated.' \
                '-S' 'Only orders in this status; may be repeated.' \
                '--search' 'In customer, e-mail, business; or the number.' \
                '--max-attempts' 'Attempts of an order in all, the first included.' \
                '--match' 'Only orders whose error matches.' \
                '--older-than' 'Only orders that have been still for so long.' \
                '--limit' 'So many orders at most.' \
                '--force' 'Don\'t wait for the next attempt to be due.' \
                '--dry-run' 'Show what would be done, and do nothing.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'start-stuck'
            printf '%s\t%s\n' \
                '--from' 'Read order numbers from a file; - is stdin.' \
                '--condition' 'Only orders in this condition; may be repeated.' \
                '-C' 'Only orders in this condition; may be repeated.' \
                '--status' 'Only orders in this status; may be repeated.' \
                '-S' 'Only orders in this status; may be repeated.' \
                '--search' 'In customer, e-mail, business; or the number.' \
                '--limit' 'So many orders at most.' \
                '--dry-run' 'Show what would be done, and do nothing.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'cancel'
            printf '%s\t%s\n' \
                '--from' 'Read order numbers from a file; - is stdin.' \
                '--condition' 'Only orders in this condition; may be repeated.' \
                '-C' 'Only orders in this condition; may be repeated.' \
                '--status' 'Only orders in this status; may be repeated.' \
                '-S' 'Only orders in this status; may be repeated.' \
                '--search' 'In customer, e-mail, business; or the number.' \
                '--terminate' 'Stop running tasks too.' \
                '--to' 'Status to set instead of BUILDING.' \
                '--dry-run' 'Show what would be done, and do nothing.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'repair'
            printf '%s\t%s\n' \
                '--from' 'Read order numbers from a file; - is stdin.' \
                '--condition' 'Only orders in this condition; may be repeated.' \
                '-C' 'Only orders in this condition; may be repeated.' \
                '--status' 'Only orders in this status; may be repeated.' \
                '-S' 'Only orders in this status; may be repeated.' \
                '--search' 'In customer, e-mail, business; or the number.' \
                '--only' 'Only orders in this condition; may be repeated.' \
                '--terminate' 'Stop running tasks too.' \
                '--worker-dead' 'Requeue now: you know that the worker of these orders is dead.' \
                '--limit' 'So many orders at most.' \
                '--dry-run' 'Show what would be done, and do nothing.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'maintain'
            printf '%s\t%s\n' \
                '--max-actions' 'Orders that each step moves at most.' \
                '--max-attempts' 'Attempts of an order in all, the first included.' \
                '--keep-trash' 'How long old sites stay in the trash.' \
                '--jitter' 'Begin after a random time up to this.' \
                '--notify' 'Post the JSON report there, unless there was nothing to do.' \
                '--dry-run' 'Show what would be done, and do nothing.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'logs'
            printf '%s\t%s\n' \
                '--from' 'Read order numbers from a file; - is stdin.' \
                '--follow' 'Go on with new rows until Ctrl-C.' \
                '-f' 'Go on with new rows until Ctrl-C.' \
                '--until-done' 'Follow until every run has ended; exit 1 if one failed or its task is gone.' \
                '--since' 'Only rows newer than 10m, or than 2026-01-31T08:00 (as the log has it, if no zone is given).' \
                '--level' 'Only rows of this level and worse.' \
                '--last' 'Only the newest N rows of each order, 0 for all. [100, or all with --since]' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'events'
            printf '%s\t%s\n' \
                '--type' 'Only such as task-failed; may be repeated.' \
                '--order' 'Only of these orders: 42, 50-60.' \
                '--worker' 'Only of this worker: celery@host, or host.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'stats'
            printf '%s\t%s\n' \
                '--since' 'How far back: 7d, 12h, or from 2026-01-31 on.' \
                '--html' 'Write a page with plots, which needs no network; - is stdout.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'metrics'
            printf '%s\t%s\n' \
                '--textfile' 'Write them to a file for node_exporter\'s textfile collector.' \
                '--listen' 'Serve them to whoever scrapes, until Ctrl-C; to this machine alone unless a host is given.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'doctor'
            printf '%s\t%s\n' \
                '--quick' 'Redis and PostgreSQL alone, at once: for a health check.' \
                '--strict' 'A warning is a failure too.' \
                '--patience' 'How long idle workers may leave a message lying.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'worker'
            printf '%s\t%s\n' \
                '--backend' 'celery, or rq (celery).' \
                '--concurrency' 'Processes (2).' \
                '-c' 'Processes (2).' \
                '--pace' 'Pause after each stage, for people to watch (0s).' \
                '--generator' 'module:callable, or a plug-in\'s name (builtin).' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'completion'
            printf '%s\t%s\n' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'queue'
            printf '%s\t%s\n' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'queue pause'
            printf '%s\t%s\n' \
                '--dry-run' 'Show what would be done, and do nothing.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'queue resume'
            printf '%s\t%s\n' \
                '--dry-run' 'Show what would be done, and do nothing.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'queue purge'
            printf '%s\t%s\n' \
                '--dry-run' 'Show what would be done, and do nothing.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'inspect'
            printf '%s\t%s\n' \
                '--watch' 'Draw it anew every 2s, or as often as said.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'inspect ORDER'
            printf '%s\t%s\n' \
                '--last' 'How many log rows to show. [10, as far as they fit on the screen]' \
                '--watch' 'Draw it anew every 2s, or as often as said.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'inspect orders'
            printf '%s\t%s\n' \
                '--condition' 'Only orders in this condition; may be repeated.' \
                '-C' 'Only orders in this condition; may be repeated.' \
                '--status' 'Only orders in this status; may be repeated.' \
                '-S' 'Only orders in this status; may be repeated.' \
                '--search' 'In customer, e-mail, business; or the number.' \
                '--since' 'Only orders that moved within: 2h, 7d.' \
                '--sort' 'What to sort by.' \
                '--reverse' 'The other way round.' \
                '--limit' 'Orders on a page.' \
                '--page' 'Which page.' \
                '--watch' 'Draw it anew every 2s, or as often as said.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'inspect queue'
            printf '%s\t%s\n' \
                '--limit' 'How many tasks to show.' \
                '--watch' 'Draw it anew every 2s, or as often as said.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'inspect workers'
            printf '%s\t%s\n' \
                '--watch' 'Draw it anew every 2s, or as often as said.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'inspect task'
            printf '%s\t%s\n' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'demo'
            printf '%s\t%s\n' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'demo up'
            printf '%s\t%s\n' \
                '--backend' 'celery, or rq (celery).' \
                '--orders' 'How many sample orders.' \
                '--seed' 'Another number makes other samples.' \
                '--pace' 'The worker\'s pause after each step.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'demo down'
            printf '%s\t%s\n' \
                '--keep-sites' 'Leave the generated sites.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'demo status'
            printf '%s\t%s\n' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'demo tour'
            printf '%s\t%s\n' \
                '--backend' 'celery, or rq (celery).' \
                '--orders' 'How many sample orders.' \
                '--seed' 'Another number makes other samples.' \
                '--pace' 'The worker\'s pause after each step.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'config'
            printf '%s\t%s\n' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'config show'
            printf '%s\t%s\n' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'config path'
            printf '%s\t%s\n' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'config contexts'
            printf '%s\t%s\n' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'config use'
            printf '%s\t%s\n' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
        case 'config init'
            printf '%s\t%s\n' \
                '--name' 'What to call the context (production).' \
                '--database-url' 'PostgreSQL of the CRM.' \
                '--database-password-file' 'Whose first line is its password.' \
                '--database-password-command' 'Which writes its password.' \
                '--redis-url' 'The broker.' \
                '--redis-password-file' 'Whose first line is its password.' \
                '--redis-password-command' 'Which writes its password.' \
                '--sites-dir' 'Where the workers write the sites.' \
                '--backend' 'What the workers are: celery, unless it is rq.' \
                '--production' 'Whether a mistake there would be a customer\'s.' \
                '--no-production' 'Whether a mistake there would be a customer\'s.' \
                '--untested' 'Write it without connecting to anything.' \
                '--force' 'Write over a context of that name.' \
                '--context' 'Which system to work on.' \
                '--env-file' 'Work on the system that this .env is of, instead of a context.' \
                '--output' 'How to write data to stdout.' \
                '-o' 'How to write data to stdout.' \
                '--yes' 'Don\'t ask.' \
                '-y' 'Don\'t ask.' \
                '--read-only' 'Refuse to change anything; PostgreSQL refuses too.' \
                '--timeout' 'How long a source may take to answer (5s).' \
                '--verbose' 'Say more.' \
                '-v' 'Say more.' \
                '--help' 'Show this message and exit.' \
                '-h' 'Show this message and exit.'
    end
end

# What follows an option (the second argument), or a command itself (it is empty).
function __sitegenctl_values
    switch "$argv[1] $argv[2]"
        case '* --context'
            echo '@contexts'
        case '* --env-file'
            echo '@files'
        case '* --output'
            echo 'table json ndjson csv'
        case '* -o'
            echo 'table json ndjson csv'
        case '* --theme'
            echo 'dark light monochrome'
        case '* --from'
            echo '@files'
        case '* --condition'
            echo 'unknown duplicated ghost orphaned running queued scheduled retrying blocked settling failed interrupted empty held unstarted waiting hollow done cancelled'
        case '* -C'
            echo 'unknown duplicated ghost orphaned running queued scheduled retrying blocked settling failed interrupted empty held unstarted waiting hollow done cancelled'
        case '* --status'
            echo 'pending_payment paid onboarding_pending building generating review delivered cancelled'
        case '* -S'
            echo 'pending_payment paid onboarding_pending building generating review delivered cancelled'
        case '* --to'
            echo 'pending_payment paid onboarding_pending building generating review delivered cancelled'
        case '* --only'
            echo 'duplicated ghost orphaned interrupted'
        case '* --level'
            echo 'info success warning error'
        case '* --order'
            echo '@orders'
        case '* --html'
            echo '@files'
        case '* --textfile'
            echo '@files'
        case 'worker --backend'
            echo 'celery rq'
        case 'demo up --backend'
            echo 'celery rq'
        case 'demo tour --backend'
            echo 'celery rq'
        case '* --sort'
            echo 'fault id updated created name status'
        case '* --database-password-file'
            echo '@files'
        case '* --redis-password-file'
            echo '@files'
        case '* --sites-dir'
            echo '@directories'
        case 'enqueue '
            echo '@orders'
        case 'reset '
            echo '@orders'
        case 'reset-empty '
            echo '@orders'
        case 'retry-failed '
            echo '@orders'
        case 'start-stuck '
            echo '@orders'
        case 'cancel '
            echo '@orders'
        case 'repair '
            echo '@orders'
        case 'logs '
            echo '@orders'
        case 'completion '
            echo 'bash zsh fish powershell'
        case 'inspect '
            echo '@orders'
        case 'config use '
            echo '@contexts'
    end
end

function __sitegenctl_takes
    contains -- $argv[1] --context --env-file --output -o --timeout --interval --theme --port --host --from --condition -C --status -S --search --min-files --older-than --limit --max-attempts --match --to --only --max-actions --keep-trash --jitter --notify --since --level --last --type --order --worker --html --textfile --listen --patience --backend --concurrency -c --pace --generator --sort --page --orders --seed --name --database-url --database-password-file --database-password-command --redis-url --redis-password-file --redis-password-command --sites-dir
end

# Each with what stands before it in its word.
function __sitegenctl_offer_values
    set -l before $argv[2]
    set -l current $argv[3]
    switch "$argv[1]"
        case @orders @contexts
            # What doesn't begin as a number does is no order.
            if test $argv[1] = @orders; and string match -qr '[^0-9]' -- "$current"
                return
            end
            set -l words (commandline -opc)
            set -l program (string replace -r '^~(?=/)' -- $HOME $words[1])
            for line in ($program _complete (string sub -s 2 -- $argv[1]) "$current" $words[2..-1] 2>/dev/null </dev/null)
                printf '%s%s\n' $before $line
            end
        case @files
            for line in (__fish_complete_path "$current")
                printf '%s%s\n' $before $line
            end
        case @directories
            for line in (__fish_complete_directories "$current" '')
                printf '%s%s\n' $before $line
            end
        case '?*'
            for value in (string split ' ' -- $argv[1])
                printf '%s%s\n' $before $value
            end
    end
end

function __sitegenctl_complete
    set -l words (commandline -opc)
    set -l current (commandline -ct)
    set -l path ''
    set -l pending ''
    for word in $words[2..-1]
        if test -n "$pending"
            set pending ''
        else if string match -q -- '-*' $word
            if __sitegenctl_takes $word
                set pending $word
            end
        else if contains -- $word (__sitegenctl_commands "$path" | string replace -r '\t.*' '')
            set path (string trim -- "$path $word")
        else if test "$path" = inspect
            set path 'inspect ORDER'
        end
    end
    if test -n "$pending"
        __sitegenctl_offer_values (__sitegenctl_values "$path" $pending | string collect) '' "$current"
    else if string match -q -- '--*=*' $current
        set -l parts (string split -m 1 = -- $current)
        __sitegenctl_offer_values (__sitegenctl_values "$path" $parts[1] | string collect) $parts[1]= "$parts[2]"
    else if string match -q -- '-*' $current
        __sitegenctl_options "$path"
    else
        __sitegenctl_commands "$path"
        __sitegenctl_offer_values (__sitegenctl_values "$path" '' | string collect) '' "$current"
    end
end

complete -c sitegenctl -f -k -a '(__sitegenctl_complete)'
