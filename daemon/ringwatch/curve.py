"""Key files in, sockets out that speak only with those who have the keys: ZeroMQ's CURVE.

Who publishes has a secret key; who subscribes has to know its public key, and may have to show a key of its own, which
ZeroMQ then asks about (https://rfc.zeromq.org/spec/27: one request, one answer, inside the process).
"""

from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.auth import load_certificate
from zmq.utils import z85

from ringwatch.errors import KeyFileError
from ringwatch.private_files import require_private

PUBLIC, SECRET = ".key", ".key_secret"
"""Endings of the two files of a pair."""
ZAP = "inproc://zeromq.zap.01"
"""Where ZeroMQ asks who may come in."""
_DOMAIN = b"ringwatch"
_KEY_CHARS = 40
_MAX_FILE_BYTES = 1 << 16

Socket = zmq.Socket[bytes]


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A public key and its secret one, each 40 characters (Z85)."""

    public: bytes
    secret: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """What a publisher needs.

    Attributes
    ----------
    pair
        Its own.
    clients
        Public keys of those who may subscribe, 32 bytes each; None for all who know the publisher's public key.
    """

    pair: KeyPair
    clients: frozenset[bytes] | None = None

    @classmethod
    def read(cls, secret_file: Path, clients_folder: Path | None) -> "ServerKeys":
        """Read the files; raises KeyFileError."""
        pair = read_pair(secret_file)
        if clients_folder is None:
            return cls(pair)
        files = sorted(clients_folder.glob(f"*{PUBLIC}"))
        if not files:
            raise KeyFileError(f"{clients_folder} has no file *{PUBLIC}: nobody could subscribe")
        return cls(pair, frozenset(z85.decode(read_public(file)) for file in files))

    def protect(self, socket: Socket) -> None:
        """Let a socket that is not bound yet speak only with those who have the keys."""
        socket.curve_server = True
        socket.curve_secretkey = self.pair.secret
        if self.clients is not None:
            # A domain has to be enforced: else who cannot be asked about would be let in.
            socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)

    def answer(self, asking: Socket) -> None:
        """Answer one question of ZeroMQ, whether somebody may come in."""
        version, request, _, _, _, mechanism, *credentials = asking.recv_multipart()
        is_known = mechanism == b"CURVE" and credentials[0] in (self.clients or ())
        code, text = (b"200", b"OK") if is_known else (b"400", b"unknown key")
        asking.send_multipart([version, request, code, text, b"", b""])


def write_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a pair of keys: NAME.key for others, NAME.key_secret for its owner alone (mode 0600).

    Raises
    ------
    KeyFileError
        One of the files is there already, or cannot be written.
    """
    public, secret = zmq.curve_keypair()
    public_file, secret_file = paths = folder / f"{name}{PUBLIC}", folder / f"{name}{SECRET}"
    text = f'curve\n    public-key = "{public.decode()}"\n'
    if taken := [str(path) for path in paths if path.exists()]:
        raise KeyFileError(f"{' and '.join(taken)} there already: keys are never overwritten")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        secret_file.touch(0o600, exist_ok=False)
        secret_file.write_text(f'# Secret: for its owner alone.\n{text}    secret-key = "{secret.decode()}"\n')
        public_file.touch(0o644, exist_ok=False)
        public_file.write_text(f"# Public: for those who are to recognise its owner.\n{text}")
    except OSError as error:
        raise KeyFileError(f"{folder}: {error.strerror}") from error
    return paths


def read_public(path: Path) -> bytes:
    """The public key in a file of either kind; raises KeyFileError."""
    return _read(path)[0]


def read_pair(path: Path) -> KeyPair:
    """Both keys in a secret file; raises KeyFileError, also where others may read it."""
    try:
        require_private(path)
    except (OSError, ValueError) as error:
        raise KeyFileError(str(error)) from None
    public, secret = _read(path)
    if secret is None:
        raise KeyFileError(f"{path} holds the public key alone; the secret one ends in {SECRET}")
    if zmq.curve_public(secret) != public:
        raise KeyFileError(f"the two keys in {path} are no pair")
    return KeyPair(public, secret)


def protect_client(socket: Socket, server_key: Path, own_key: Path | None) -> None:
    """Let a socket that is not connected yet speak only with the owner of the server's key.

    Parameters
    ----------
    server_key
        File with the public key of the publisher.
    own_key
        File with the own secret key; without it a pair is made for once.

    Raises
    ------
    KeyFileError
        A file cannot be read, or has no key in it.
    """
    own = KeyPair(*zmq.curve_keypair()) if own_key is None else read_pair(own_key)
    socket.curve_serverkey = read_public(server_key)
    socket.curve_publickey, socket.curve_secretkey = own.public, own.secret


def _read(path: Path) -> tuple[bytes, bytes | None]:
    """What is in the file never shows in an error."""
    try:
        keys = load_certificate(path) if path.stat().st_size <= _MAX_FILE_BYTES else (b"", None)
        is_sound = all(key is None or (len(key) == _KEY_CHARS and len(z85.decode(key)) == 32) for key in keys)
    except OSError as error:
        raise KeyFileError(f"{path}: {error.strerror or error}") from None
    except (ValueError, KeyError):
        is_sound = False
    if not is_sound:
        raise KeyFileError(f"{path} has no key in it")
    return keys
