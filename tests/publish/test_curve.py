"""Who has the keys gets everything, who has not gets nothing; what a key file may look like."""

import io
import json
import select
import socket
import stat
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import zmq
from click.testing import CliRunner

from ringwatch import __main__ as cli
from ringwatch import curve
from ringwatch.client import subscribe
from ringwatch.curve import KeyPair, ServerKeys, read_pair, read_public, write_pair
from ringwatch.errors import KeyFileError
from ringwatch.publish.zeromq import ZeroMQPublisher
from ringwatch.service.watch import watch

SOON_S = 5.0
SILENCE_S = 0.4
TOPICS = {"series", "snapshot", "profile", "decision", "status"}


@pytest.fixture(params=["known clients", "any client"])
def publisher(request, tmp_path, results):
    write_pair(tmp_path, "daemon")
    write_pair(tmp_path, "stranger")
    write_pair(tmp_path / "clients", "alice")
    clients = tmp_path / "clients" if request.param == "known clients" else None
    publisher = ZeroMQPublisher("tcp://127.0.0.1:*", ServerKeys.read(tmp_path / "daemon.key_secret", clients))
    publisher.open()
    for result in (results.event(), results.snapshot(), results.profile(), results.decision(), results.status()):
        publisher.publish(result)
    yield publisher
    publisher.close()


def heard(publisher, timeout_s, server_key, own_key):
    """The topics of all messages that come before a silence."""
    found = []
    with suppress(TimeoutError):
        for message in subscribe(publisher.endpoint, (), timeout_s, server_key, own_key):
            found.append(message["type"])
            if set(found) == TOPICS:
                break
    return set(found)


def test_who_has_the_keys_gets_everything(publisher, tmp_path):
    assert heard(publisher, SOON_S, tmp_path / "daemon.key", tmp_path / "clients" / "alice.key_secret") == TOPICS


@pytest.mark.parametrize("own_key", ["stranger.key_secret", None])
def test_an_unknown_client_gets_nothing_where_clients_are_known(publisher, tmp_path, own_key):
    is_open = publisher._keys.clients is None
    own = own_key and tmp_path / own_key
    got = heard(publisher, SOON_S if is_open else SILENCE_S, tmp_path / "daemon.key", own)
    assert got == (TOPICS if is_open else set())


def test_without_the_keys_of_the_daemon_nobody_gets_anything(publisher, tmp_path):
    assert heard(publisher, SILENCE_S, None, None) == set()
    assert heard(publisher, SILENCE_S, tmp_path / "stranger.key", tmp_path / "clients" / "alice.key_secret") == set()


class Relay:
    """Between a client and a publisher: passes on what it sees, and keeps it."""

    def __init__(self, endpoint):
        self.seen = bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._there = "127.0.0.1", int(endpoint.rpartition(":")[2])
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        client, publisher = self._listener.accept()[0], socket.create_connection(self._there)
        with client, publisher, suppress(OSError):
            while ready := select.select([client, publisher], [], [], SOON_S)[0]:
                for one in ready:
                    data = one.recv(1 << 16)
                    if not data:
                        return
                    self.seen += data
                    (publisher if one is client else client).sendall(data)

    def join(self):
        self._thread.join()
        self._listener.close()


def test_who_listens_on_the_wire_sees_nothing(publisher, tmp_path):
    relay = Relay(publisher.endpoint)
    messages = subscribe(
        relay.endpoint, "snapshot", SOON_S, tmp_path / "daemon.key", tmp_path / "clients" / "alice.key_secret"
    )
    assert next(messages)["sample"] == "LaB6"
    messages.close()
    relay.join()
    assert len(relay.seen) > 1000
    assert b"snapshot" not in relay.seen
    assert b"LaB6" not in relay.seen


def test_the_one_who_asks_dies_with_the_publisher(publisher):
    """No thread of its own, and nothing that keeps the context from ending."""
    assert sum("zeromq" in thread.name for thread in threading.enumerate()) == 1
    publisher.close()
    assert not any("zeromq" in thread.name for thread in threading.enumerate())


def test_watch_takes_the_keys(publisher, tmp_path):
    out = io.StringIO()
    keys = tmp_path / "daemon.key", tmp_path / "clients" / "alice.key_secret"

    class Enough(Exception):
        pass

    def write(text):
        io.StringIO.write(out, text)
        if '"status"' in out.getvalue():
            raise Enough

    out.write = write
    with suppress(Enough):
        watch(publisher.endpoint, True, out, *keys)
    assert {json.loads(line)["type"] for line in out.getvalue().splitlines()} >= {"status"}


# ------------------------------------------------------------------------------------------------------- key files


def test_a_pair_is_written_for_its_owner_alone_and_never_overwritten(tmp_path):
    runner = CliRunner()
    folder = tmp_path / "keys"
    told = runner.invoke(cli.main, ["keys", str(folder)])
    assert told.exit_code == 0
    assert sorted(path.name for path in folder.iterdir()) == [
        "client.key", "client.key_secret", "daemon.key", "daemon.key_secret",
    ]  # fmt: skip
    for name in ("daemon", "client"):
        pair = read_pair(folder / f"{name}.key_secret")
        assert stat.S_IMODE((folder / f"{name}.key_secret").stat().st_mode) == 0o600
        assert read_public(folder / f"{name}.key") == pair.public
        assert pair.secret.decode() not in told.output
        assert pair.secret not in (folder / f"{name}.key").read_bytes()
    before = (folder / "daemon.key_secret").read_bytes()
    again = runner.invoke(cli.main, ["keys", str(folder), "daemon"])
    assert again.exit_code == 1
    assert "never overwritten" in again.output
    assert (folder / "daemon.key_secret").read_bytes() == before


def test_a_secret_never_shows_where_a_pair_is_printed():
    public, secret = zmq.curve_keypair()
    assert secret.decode() not in repr(ServerKeys(KeyPair(public, secret)))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_secret_that_others_reach_is_refused_and_the_command_given(tmp_path, mode):
    _, secret = write_pair(tmp_path, "x")
    secret.chmod(mode)
    with pytest.raises(KeyFileError, match=f"chmod 600 {secret}"):
        read_pair(secret)


@pytest.mark.parametrize(
    "content",
    [
        "",
        'curve\n public-key = "short"\n secret-key = "SECRETSECRET"\n',
        f'public-key = "{40 * "~"}"\nsecret-key = "{40 * "~"}"\n',
        "x" * 100_000,
    ],
    ids=["empty", "short", "of wrong signs", "too long"],
)
def test_what_is_no_key_is_said_and_not_shown(tmp_path, content):
    path = tmp_path / "x.key_secret"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="has no key in it") as error:
        read_pair(path)
    assert "SECRETSECRET" not in str(error.value)


def test_keys_of_two_pairs_and_a_public_key_alone_are_no_pair(tmp_path):
    public, one = write_pair(tmp_path, "one")
    _, two = write_pair(tmp_path, "two")
    mixed = tmp_path / "mixed.key_secret"
    mixed.touch(0o600)
    lines = [*one.read_text().splitlines()[:3], two.read_text().splitlines()[3]]
    mixed.write_text("\n".join(lines))
    with pytest.raises(KeyFileError, match="no pair"):
        read_pair(mixed)
    alone = tmp_path / "alone"
    alone.touch(0o600)
    alone.write_bytes(public.read_bytes())
    with pytest.raises(KeyFileError, match="public key alone"):
        read_pair(alone)


def test_a_folder_without_clients_is_a_mistake(tmp_path):
    _, secret = write_pair(tmp_path, "daemon")
    (tmp_path / "clients").mkdir()
    with pytest.raises(KeyFileError, match="nobody could subscribe"):
        ServerKeys.read(secret, tmp_path / "clients")


def test_an_own_key_needs_somebody_to_show_it_to(tmp_path):
    _, secret = write_pair(tmp_path, "x")
    with pytest.raises(KeyFileError, match="server_key"):
        next(subscribe("tcp://127.0.0.1:1", own_key=secret))


def test_key_files_are_those_of_other_zeromq_programs(tmp_path):
    """pyzmq's and CZMQ's certificates can be used, too."""
    zmq.auth.create_certificates(tmp_path, "theirs")
    secret = Path(tmp_path / "theirs.key_secret")
    secret.chmod(0o600)
    assert read_pair(secret).public == read_public(tmp_path / "theirs.key")
    ours = write_pair(tmp_path, "ours")
    assert zmq.auth.load_certificate(ours[1])[0] == curve.read_public(ours[0])
