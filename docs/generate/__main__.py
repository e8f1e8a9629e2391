"""`python -m docs.generate`: writes what is out of date, and says what that was."""

import sys

from docs.generate import write

if __name__ == "__main__":
    changed = write()
    sys.stdout.write(f"docs: wrote {', '.join(changed)}\n" if changed else "docs: everything is up to date\n")
