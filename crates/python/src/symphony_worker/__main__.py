"""Run by the server, with the socket to it as standard input."""

import os
import sys


def main():
    if sys.version_info < (3, 9):
        sys.exit("Python 3.9 or later is needed, and %s is %s" % (sys.executable, sys.version))
    above = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    # Scripts find nothing of this package's directories but the package.
    sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
    sys.path.insert(0, above)
    from symphony_worker import guard

    control = guard.begin()
    # Behind the guard, which needs none of it.
    try:
        import numpy  # noqa: F401
    except ImportError as error:
        sys.exit("numpy is needed, and %s cannot import it: %s" % (sys.executable, error))
    from symphony_worker import server

    sys.path.remove(above)
    server.run(control)


if __name__ == "__main__":
    main()
