"""What a script raised, for whoever reads the server's log."""

import os
import traceback

from .tensors import Wrong

TEXT_MAX = 2000
FRAMES_MAX = 5
OURS = os.path.dirname(__file__)


def told(error, model):
    """An error in a few lines: what it says, and where in the model's own files it comes from."""
    if isinstance(error, Wrong):
        return str(error)[:TEXT_MAX].encode("utf-8", "replace").decode()
    if isinstance(error, SystemExit):
        text = f"the script called sys.exit({error.code!r})"
    else:
        text = "".join(traceback.format_exception_only(type(error), error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in frames if os.path.dirname(frame.filename) != OURS]
    directory = model.directory + os.sep if model is not None else None
    own = [f for f in frames if directory and os.path.realpath(f.filename).startswith(directory)]
    # What is no text at all, as half a surrogate pair, does not travel.
    lines = [text[:TEXT_MAX].encode("utf-8", "replace").decode()]
    for frame in reversed((own or frames)[-FRAMES_MAX:]):
        file = os.path.basename(frame.filename) if own else frame.filename
        lines.append(f"  at {file}:{frame.lineno} in {frame.name}: {frame.line or ''}"[:200])
    return "\n".join(lines)
