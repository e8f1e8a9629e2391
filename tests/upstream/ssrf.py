"""R56's corpus: URLs that try to make a server touch what is inside, written by hand from the known techniques.

No URL here may open a connection to anything but the public server, and none but `OUTSIDE` may give an image.
Hosts are tried over https on its own port wherever the trick is in the host, so that it is the host that is judged.
"""

from tests.upstream.watched import PUBLIC, PUBLIC6

INSIDE = ("127.0.0.1",)
METADATA = ("169.254.169.254",)

# What the loop's resolver says; more than one answer is a name that changes its mind.
NAMES = {
    "public.test": [(PUBLIC, PUBLIC6)],
    "localhost": [("127.0.0.1", "::1")],
    "localhost.localdomain": [INSIDE],
    "a.localhost": [INSIDE],
    "loopback6.test": [("::1",)],
    "inside.test": [("10.0.0.5",)],
    "router": [("192.168.1.1",)],
    "intranet.corp": [("172.16.9.9",)],
    "ollama": [("172.18.0.2",)],
    "kubernetes.default.svc": [("10.96.0.1",)],
    "host.docker.internal": [("192.168.65.2",)],
    "metadata.google.internal": [METADATA],
    "metadata": [METADATA],
    "instance-data": [METADATA],
    "metadata6.test": [("fd00:ec2::254",)],
    "127.0.0.1.nip.test": [INSIDE],
    "7f000001.rbndr.test": [INSIDE],
    "mixed.test": [(PUBLIC, "10.0.0.5")],
    "mixed6.test": [(PUBLIC, "fd12:3456::1")],
    "last.test": [(PUBLIC, PUBLIC, "93.184.215.15", "93.184.215.16", "93.184.215.17", "127.0.0.1")],
    "mapped.test": [("::ffff:10.0.0.5",)],
    "nat64.test": [("64:ff9b::7f00:1",)],
    "sixtofour.test": [("2002:7f00:1::",)],
    "zero.test": [("0.0.0.0",)],
    "cgnat.test": [("100.64.0.7",)],
    "link.test": [("fe80::1%1",)],
    "multicast.test": [("239.255.255.250",)],
    "empty.test": [()],
    "rebind.test": [(PUBLIC,), INSIDE],
    "rebind-metadata.test": [(PUBLIC,), METADATA],
    "rebind6.test": [(PUBLIC,), ("::1",)],
    "rebind-back.test": [INSIDE, (PUBLIC,)],
    "xn--inide-vcb.test": [("10.0.0.6",)],
}

HOSTS = (
    # Loopback: the plain form, and what C libraries have ever read as the same.
    "127.0.0.1", "127.1", "127.0.1", "127.127.127.127", "127.0.0.2", "2130706433", "0x7f000001", "0x7F.1",
    "0x7f.0.0.1", "0x7f.0x0.0x0.0x1", "017700000001", "0177.0.0.1", "0177.0.0.01", "0177.0x0.0.1", "127.0.0.01",
    "00000177.0.0.1", "0x000000007f000001", "0x7f.1.", "127.0.0.1.", "127.0.0.1..", "4294967297", "0x17f000001",
    "383.0.0.1", "127.000.000.001", "127.65537", "127.0x1",
    # Digits and dots that are not ASCII's: they become ASCII's on the way.
    "\uff11\uff12\uff17.\uff10.\uff10.\uff11", "127\u30020\u30020\u30021", "127\uff0e0\uff0e0\uff0e1",
    "\u2460\u2461\u2466.0.0.1", "\uff11\uff16\uff19.\uff12\uff15\uff14.\uff11\uff16\uff19.\uff12\uff15\uff14",
    "127\uff610.0.1", "\u0661\u0662\u0667.0.0.1", "127.0.0.\u00b9",
    "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3", "local\u00adhost",
    "\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54", "localhost\u3002", "in\u017fide.test",
    # Percent signs, control characters, brackets: one reader skips what the next one takes.
    "%31%32%37.0.0.1", "127.0.0.1%00.public.test", "127.0.0.1%2f@public.test", "127.0.0.1\x00.public.test",
    "127.0.0.1\t", "127.0.0.1%23.public.test", "local%68ost", "[127.0.0.1]", "[localhost]", "127.0.0.1;public.test",
    "127.0.0.1,public.test",
    # Nothing, everybody, the private networks, the shared one, and the rest of what is not for the world.
    "0.0.0.0", "0", "0.1", "00", "0x0", "10.0.0.1", "10.1", "167772161", "012.0.0.1", "172.16.0.1", "172.31.255.254",
    "192.168.0.1", "192.168.257", "3232235521", "0xc0a80001", "0300.0250.0.1", "100.64.0.1", "100.127.255.254",
    "192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    # The metadata of clouds.
    "169.254.169.254", "169.254.169.253", "169.254.170.2", "2852039166", "0xa9fea9fe", "0xa9.0xfe.0xa9.0xfe",
    "0251.0376.0251.0376", "169.16689662", "0251.254.169.254", "169.254.43518", "100.100.100.200", "168.63.129.16",
    "[fd00:ec2::254]", "[fd20:ce::254]",
    # IPv6: loopback, nothing, addresses within addresses, and the networks that are not the world's.
    "[::1]", "[0:0:0:0:0:0:0:1]", "[0000:0000:0000:0000:0000:0000:0000:0001]", "[::]", "[::0001]", "[::127.0.0.1]",
    "[::7f00:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::FFFF:A9FE:A9FE]", "[0:0:0:0:0:ffff:10.0.0.1]",
    "[::ffff:0:127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::10.0.0.1]",
    "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]", "[2002:c0a8:101::1]", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
    "[2001::1]", "[2001:10::1]", "[2001:db8::1]", "[3fff::1]", "[fc00::1]", "[fd12:3456:789a::1]", "[fe80::1]",
    "[fe80::1%25eth0]", "[fe80::1%eth0]", "[fec0::1]", "[ff02::1]", "[ff05::1:3]", "[100::1]", "[5f00::1]",
    "[::1%25lo]", "[::1", "::1", "[:::1]", "[::ffff:127.1]", "[::ffff:0x7f.0.0.1]",
    # Names, as the resolver above knows them.
    "localhost", "LOCALHOST", "localhost.", "localhost..", ".localhost", "localhost.localdomain", "a.localhost",
    "loopback6.test", "inside.test", "inside.test.", "INSIDE.test", "router", "intranet.corp", "ollama",
    "kubernetes.default.svc", "host.docker.internal", "metadata.google.internal", "metadata.google.internal.",
    "metadata", "instance-data", "metadata6.test", "127.0.0.1.nip.test", "7f000001.rbndr.test", "mixed.test",
    "mixed6.test", "last.test", "mapped.test", "nat64.test", "sixtofour.test", "zero.test", "cgnat.test", "link.test",
    "multicast.test", "empty.test", "unknown.test", "in\u015bide.test", "in\u00dfide.test", "-inside.test",
    "a..inside.test", "inside.test" + "." * 300, "x" * 64 + ".test", "inside\u200d.test",
    # Names that change their mind, or have.
    "rebind.test", "rebind-metadata.test", "rebind6.test", "rebind-back.test",
)  # fmt: skip

AUTHORITIES = (
    # Who is the user and who the host? Readers differ, so none of it is read.
    "https://public.test@127.0.0.1/", "https://public.test:x@169.254.169.254/", "https://127.0.0.1@public.test/",
    "https://public.test%40127.0.0.1/", "https://public.test#@127.0.0.1/", "https://127.0.0.1#@public.test/",
    "https://127.0.0.1?@public.test/", "https://a@b@127.0.0.1/", "https://@127.0.0.1/", "https://:@127.0.0.1/",
    "https://public.test\\@127.0.0.1/", "https://127.0.0.1\\@public.test/", "https://127.0.0.1\\.public.test/",
    "https:\\\\127.0.0.1\\", "https://public.test&@127.0.0.1#@public.test/", "https://public.test;@127.0.0.1/",
    "https://public.test:443@127.0.0.1/", "https://127.0.0.1:443:80/", "https://127.0.0.1:443#:80/",
    "https://public.test\r\nHost: 127.0.0.1/", "https://public.test/ HTTP/1.1\r\nHost: inside.test\r\n\r\n",
    "https://public.test/\x00@127.0.0.1/", "https://127.0.0.1\n.public.test/", "https://[public.test]@127.0.0.1/",
    # Slashes too few, too many, or none.
    "https:127.0.0.1/", "https:/127.0.0.1/", "https:///127.0.0.1/", "https:////127.0.0.1/", "//127.0.0.1/",
    "///127.0.0.1/", "127.0.0.1/", "127.0.0.1", "/etc/passwd", "https://", "https:///", "", " ", "https://?127.0.0.1",
    "https://#127.0.0.1",
    # Spaces and breaks that a careless reader strips.
    " https://127.0.0.1/", "https://127.0.0.1/ ", "ht\ntps://127.0.0.1/", "h\tttps://127.0.0.1/",
    "\x00https://127.0.0.1/", "https ://127.0.0.1/", "https:// 127.0.0.1/", "\ufeffhttps://127.0.0.1/",
    "url:https://127.0.0.1/", "HTTPS://127.0.0.1/",
)  # fmt: skip

SCHEMES = (
    "http://public.test/a.png", "http://127.0.0.1/", "HTTP://169.254.169.254/latest/meta-data/",
    "http://[::1]:11434/api/tags", "file:///etc/passwd", "file://localhost/etc/passwd", "FILE:///etc/shadow",
    "gopher://127.0.0.1:6379/_FLUSHALL", "dict://127.0.0.1:11211/stats", "ftp://127.0.0.1/", "ftps://127.0.0.1/",
    "sftp://127.0.0.1/", "tftp://127.0.0.1/x", "ldap://127.0.0.1/", "ldaps://127.0.0.1/", "smb://127.0.0.1/c$",
    "ssh://127.0.0.1/", "telnet://127.0.0.1/", "imap://127.0.0.1/", "redis://127.0.0.1:6379/",
    "unix:///var/run/docker.sock", "http+unix://%2Fvar%2Frun%2Fdocker.sock/info", "jar:https://127.0.0.1!/",
    "netdoc:///etc/passwd", "php://filter/resource=/etc/passwd", "expect://id", "phar://x",
    "view-source:https://127.0.0.1/", "data:image/png;base64,iVBORw0KGgo=",
    "data:text/html,<img src=https://127.0.0.1>", "javascript:fetch('https://127.0.0.1')", "blob:https://127.0.0.1/x",
    "ws://127.0.0.1/", "wss://127.0.0.1/", "httpx://127.0.0.1/", "httpss://127.0.0.1/", "https2://127.0.0.1/",
    "://127.0.0.1/", "https.://127.0.0.1/", "h\u0442tps://127.0.0.1/",
)  # fmt: skip

PORTS = (
    "https://public.test:22/", "https://public.test:80/", "https://public.test:6379/", "https://public.test:8443/",
    "https://public.test:11434/api/tags", "https://public.test:0/", "https://public.test:65979/",
    "https://public.test:-1/", "https://public.test:+443/", "https://public.test:443443/",
    "https://public.test:0x1bb/", "https://public.test:\u0664\u0664\u0663/", "https://public.test:/",
    "https://public.test:443a/", "https://127.0.0.1:443/", "https://[::1]:443/", "https://public.test:4 43/",
)  # fmt: skip

# The public server answers these by sending its client on.
TARGETS = {
    "metadata": "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
    "loopback": "https://127.0.0.1/",
    "name": "https://inside.test/",
    "relative": "//127.0.0.1/",
    "file": "file:///etc/passwd",
    "gopher": "gopher://127.0.0.1:6379/_INFO",
    "itself": "https://public.test/a.png",
}
REDIRECTS = tuple(f"https://public.test/{code}/metadata" for code in (300, 301, 302, 303, 304, 305, 307, 308)) + tuple(
    f"https://public.test/302/{name}" for name in TARGETS if name != "metadata"
)
# What else a server may say to be followed, with a status that is no redirect.
PAGES = tuple(f"https://public.test/{name}/metadata" for name in ("refresh", "link", "page", "201", "401", "svg"))

CORPUS = (*(f"https://{host}/a.png" for host in HOSTS), *AUTHORITIES, *SCHEMES, *PORTS, *REDIRECTS, *PAGES)


# Those that only look as if: the fragment is nobody's host, and the address that was looked up first is the one taken.
OUTSIDE = {
    "https://public.test#@127.0.0.1/",
    "https://rebind.test/a.png",
    "https://rebind-metadata.test/a.png",
    "https://rebind6.test/a.png",
}


def says(path):
    """The public server's answer to one of the redirects or pages; None if the path is an image's."""
    kind, _, name = path.strip("/").partition("/")
    if not name:
        return None
    target = TARGETS[name]
    page = f"<meta http-equiv=refresh content='0;url={target}'><svg><image href='{target}'/></svg>".encode()
    status = kind if kind.isdigit() else "200"
    field = {"refresh": "Refresh: 0; url=", "link": "Content-Location: "}.get(kind, "Location: ")
    head = f"HTTP/1.1 {status} X\r\n{field}{target}\r\nContent-Length: {len(page)}\r\n\r\n"
    return head.encode() + (b"" if status == "304" else page)
