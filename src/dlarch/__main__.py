"""`python -m dlarch` is `dlarch`."""

import sys

from dlarch.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
