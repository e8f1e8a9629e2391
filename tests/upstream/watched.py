"""A loop that notes every connection that is begun, and has names of its own: what a fetch really touches."""

import asyncio
import ipaddress
import socket

import uvloop

PUBLIC = "93.184.215.14"
"""Where the world's only public server is; what else is connected to is inside."""
PUBLIC6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"


class Watch:
    """What a loop has seen. `names` gives a host's answers, one after the other, the last one for ever."""

    def __init__(self, names=None, port=None):
        self.names = names or {}
        self.port = port
        self.dialled = []
        self.looked_up = []

    @property
    def inside(self):
        """Every address that was connected to and is not the public server's."""
        return [address for address in self.dialled if address not in (PUBLIC, PUBLIC6)]

    def addresses(self, host):
        try:
            # uvloop asks even for what is an address already.
            return (str(ipaddress.ip_address(host)),)
        except ValueError:
            pass
        self.looked_up.append(host)
        answers = self.names.get(host.rstrip(".").lower())
        if answers is not None:
            return answers[min(self.looked_up.count(host), len(answers)) - 1]
        try:
            # As C libraries do, with every spelling of an address that they have ever understood.
            return (socket.inet_ntoa(socket.inet_aton(host)),)
        except OSError as error:
            raise socket.gaierror(socket.EAI_NONAME, "unknown") from error


def watched(base):
    """A kind of loop whose look-ups and connections go through its `watch`."""

    class Watched(base):
        watch = Watch()

        async def getaddrinfo(self, host, port, **_):
            found = []
            for text in self.watch.addresses(host):
                is_new = ipaddress.ip_address(text).version == 6
                peer = (text, port, 0, 0) if is_new else (text, port)
                family = socket.AF_INET6 if is_new else socket.AF_INET
                found.append((family, socket.SOCK_STREAM, 6, "", peer))
            return found

        async def sock_connect(self, sock, address):
            self.watch.dialled.append(address[0])
            if address[0] != PUBLIC or self.watch.port is None:
                raise ConnectionRefusedError(111, "refused")
            await super().sock_connect(sock, ("127.0.0.1", self.watch.port))

        async def create_connection(self, factory, host=None, port=None, **options):
            if host is not None:
                self.watch.dialled.append(host)
            return await super().create_connection(factory, host, port, **options)

    return Watched


LOOPS = {"asyncio": watched(asyncio.SelectorEventLoop), "uvloop": watched(uvloop.Loop)}


def run_watched(kind, main, watch):
    """Run `main(watch)` on a loop that notes what it touches there."""

    def make():
        loop = LOOPS[kind]()
        loop.watch = watch
        return loop

    with asyncio.Runner(loop_factory=make) as runner:
        return runner.run(main(watch))
