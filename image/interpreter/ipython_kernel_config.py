# Read by every Python kernel of this system.
c = get_config()  # noqa: F821
c.IPKernelApp.extensions = ["atoll_interpreter"]
# Tracebacks go to programs, and to language models, which read plain text.
c.InteractiveShell.colors = "nocolor"
# Sandboxes are many and short: no history on disk, and no thread that writes it.
c.HistoryManager.enabled = False
