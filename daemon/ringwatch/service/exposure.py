"""A configuration in, what other machines can see of it out: keys that protect, a sentence where nothing does."""

from collections.abc import Iterator

from ringwatch.config import Config, ZmqConfig, is_local
from ringwatch.curve import ServerKeys
from ringwatch.errors import ConfigError, KeyFileError


def server_keys(section: ZmqConfig) -> ServerKeys | None:
    """The keys that results are published with; None where they are for everybody.

    Raises
    ------
    ConfigError
        A file cannot be read, or has no key in it.
    """
    if section.secret_key is None:
        return None
    try:
        return ServerKeys.read(section.secret_key, section.clients)
    except KeyFileError as error:
        raise ConfigError([f"publish.zmq: {error}"]) from None


def exposed(config: Config) -> Iterator[str]:
    """A sentence for each socket that other machines reach and nothing protects."""
    zmq, web, epics = config.publish.zmq, config.web, config.publish.epics
    if zmq.secret_key is None and not is_local(zmq.bind):
        yield f"Everybody who reaches {zmq.bind} can read the results: publish.zmq.secret_key would keep others out."
    if not is_local(web.bind):
        then = "nobody can give orders" if web.token is None else "orders need the token, which travels unencrypted"
        yield f"Everybody who reaches {web.bind} can read the page; {then}."
    if epics is not None and not is_local(f"{epics.interface}:0"):
        yield f"Everybody who reaches {epics.interface} can read the process variables; nobody can change them."
