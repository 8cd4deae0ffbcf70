"""The variables of the environment that name the certificates of the network.

OpenSSL and the HTTP libraries read them, and report a wrong one without its name.
"""

from __future__ import annotations

import os

from nbchat.core.errors import InputError

__all__ = ["CERTIFICATE_VARIABLES", "check_certificates", "fix_certificates"]

#: httpx2 reads the second variable only if the first one is not set.
CERTIFICATE_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def check_certificates() -> None:
    """Raise InputError if the variable in force names a file or folder that does not exist."""
    for name in CERTIFICATE_VARIABLES:
        path = os.environ.get(name)
        if not path:
            continue
        kind, exists = ("file", os.path.isfile) if name == "SSL_CERT_FILE" else ("folder", os.path.isdir)
        if not exists(path):
            raise InputError(f"{name} names no {kind}: {path}. Nothing was sent", fix_certificates(name))
        return


def fix_certificates(name: str) -> str:
    """Return the hint for a variable that is wrong."""
    return f"Set {name} to the certificates of your network, or unset it. Then restart the kernel."
