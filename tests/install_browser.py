"""Install Chromium for the browser tests: with apt-get as root on Debian, with Playwright elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys


def main() -> int:
    """Install Chromium where there is none. Return 0 if there is a Chromium in the end."""
    if os.environ.get("NBCHAT_CHROMIUM") or shutil.which("chromium"):
        return 0
    if shutil.which("apt-get") and hasattr(os, "geteuid") and os.geteuid() == 0:
        quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "stdout": subprocess.DEVNULL}
        subprocess.run(["apt-get", "update", "-qq"], check=False, **quiet)
        packages = ["chromium", "fonts-dejavu-core"]
        if subprocess.run(["apt-get", "install", "-y", "-qq", *packages], check=False, **quiet).returncode == 0:
            return 0
    if subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False).returncode == 0:
        return 0
    print("Chromium could not be installed. Install one, and name it: NBCHAT_CHROMIUM=/path/to/chromium make test")
    return 1


if __name__ == "__main__":
    sys.exit(main())
