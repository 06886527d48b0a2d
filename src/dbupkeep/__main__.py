"""`python -m dbupkeep`."""

import sys

from dbupkeep.views.cli import main

if __name__ == "__main__":
    sys.exit(main())
