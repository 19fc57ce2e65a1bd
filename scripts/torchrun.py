"""`torchrun` that leaves as its processes do: python scripts/torchrun.py --nproc-per-node=2 src/main.py OVERRIDE…

It passes signals on, as `torchrun` does, but then prints no traceback of its own. Its exit code is the one of the
process that failed first, or 128 + n after signal n. It takes the same options as `torchrun`.
"""

import logging
import signal
import sys

if __name__ == "__main__":
    # Loading takes seconds; until it is done, Ctrl-C ends the process without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run


def main() -> int:
    logging.disable(logging.ERROR)
    try:
        run(parse_args(sys.argv[1:]))
    except SignalException as error:
        return 128 + error.sigval
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        return code if code > 0 else 128 - code
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
