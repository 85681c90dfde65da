"""``python -m obscluster``."""

import sys

from obscluster.cli import main

sys.exit(main())
