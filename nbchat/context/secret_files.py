"""Files that hold keys and passwords, recognised by their names and by their first bytes.

A glob such as ``--attach **/*`` would send them unseen, so it leaves them out. A file that the user names
exactly is theirs to send.
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["holds_private_key", "is_secret"]

#: Names in lower case. Templates without values (.env.example) and public keys (id_rsa.pub) are not secrets.
_NAME = re.compile(
    r"""
      \.env(?!.*\.(?:example|sample|template|dist)$)(?:\..+|rc)?      # .env, .env.local, .envrc
    | .+\.env                                                         # prod.env
    | id_(?:rsa|dsa|ecdsa|ed25519|xmss)(?:_sk)?(?!.*\.pub$)(?:[._-].*)?   # id_rsa, id_ed25519_sk, id_rsa.bak
    | .+\.(?:pem|key|ppk|p12|pfx|p8|jks|keystore|kdbx?|gpg|pgp)
    | [._]netrc | \.pgpass | \.my\.cnf | \.pypirc | \.npmrc | \.htpasswd | \.git-credentials | \.dockercfg
    | \.s3cfg | \.boto | \.vault-token | \.?kubeconfig
    | (?:application_default_)?credentials?(?:\.(?!py$|md$|rst$).+)?
    | client_secret.*\.json | service[-_]?account.*\.json
    | secrets?(?:\.(?:toml|ya?ml|json|ini|env|txt|cfg))?
    """,
    re.VERBOSE,
)
#: Folders whose files are keys, or the settings of accounts.
_FOLDERS = frozenset({".ssh", ".aws", ".gnupg", ".azure", ".kube", ".docker", ".password-store"})
_PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----")


def is_secret(path: Path) -> bool:
    """Return True if a file of this name, or in a folder of this name, usually holds a key or a password.

    >>> [is_secret(Path(name)) for name in (".env", ".env.example", "keys/server.pem", ".aws/config", "data.csv")]
    [True, False, True, True, False]
    """
    # Not every file system tells .ENV from .env.
    *folders, name = (part.lower() for part in path.parts)
    return _NAME.fullmatch(name) is not None or not _FOLDERS.isdisjoint(folders)


def holds_private_key(head: bytes) -> bool:
    """Return True if the first bytes of a file contain the beginning of a private key.

    >>> holds_private_key(b"-----BEGIN OPENSSH PRIVATE KEY-----")
    True
    """
    return _PRIVATE_KEY.search(head) is not None
