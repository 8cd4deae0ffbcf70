"""Install a Chromium for the browser ring: Debian's where apt-get and root are there, else Playwright's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys


def main() -> int:
    named = os.environ.get("NBCHAT_CHROMIUM")
    if named or shutil.which("chromium"):
        return 0
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "stdout": subprocess.DEVNULL}
        subprocess.run(["apt-get", "update", "-qq"], check=False, **quiet)
        packages = ["chromium", "fonts-dejavu-core"]
        if subprocess.run(["apt-get", "install", "-y", "-qq", *packages], check=False, **quiet).returncode == 0:
            return 0
    if subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False).returncode == 0:
        return 0
    print("No Chromium could be installed. Install one and name it: NBCHAT_CHROMIUM=/path/to/chromium make test")
    return 1


if __name__ == "__main__":
    sys.exit(main())
