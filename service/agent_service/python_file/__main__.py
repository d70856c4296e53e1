"""`python -m agent_service.python_file FILE PORT`: the process that `agent-service serve --runtime FILE` starts."""

import sys
from pathlib import Path

from agent_service.python_file.run import run

if __name__ == "__main__":
    _, name, number = sys.argv
    sys.exit(run(Path(name), "127.0.0.1", int(number), reload=True, loopback_only=True, waits=True))
