"""`python -m agent_service.python_file KIND FILE PORT`: the process that `serve --runtime FILE` starts."""

import sys
from pathlib import Path

if __name__ == "__main__":
    _, kind, name, number = sys.argv
    # Each loads what it needs alone.
    if kind == "tools":
        from agent_service.python_file.local_tools.run import run
    else:
        from agent_service.python_file.run import run
    sys.exit(run(Path(name), "127.0.0.1", int(number), reload=True, loopback_only=True, waits=True))
