"""The certificate that servers under measurement show: ECDSA on P-256, made anew for each run."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import trustme

from .machine import BUILD


@cache
def files() -> tuple[Path, Path]:
    """PEM files: the certificate, and its key."""
    folder = BUILD / "tls"
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = (folder / "chain.pem").absolute(), (folder / "key.pem").absolute()
    issued = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    return certificate, key
